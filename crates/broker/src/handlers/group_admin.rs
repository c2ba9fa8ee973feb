//! Administration of consumer groups: UPDATE_AND_CREATE_SUBSCRIPTIONGROUP (200) and its list form (225),
//! GET_ALL_SUBSCRIPTIONGROUP_CONFIG (201), DELETE_SUBSCRIPTIONGROUP (207), GET_SUBSCRIPTIONGROUP_CONFIG (352),
//! UPDATE_AND_GET_GROUP_FORBIDDEN (353) (spec: behaviour.md §5.1).

use std::time::Instant;

use oxmq_protocol::body::{GroupForbidden, SubscriptionGroupConfig, SubscriptionGroupList, SubscriptionGroupWrapper};
use oxmq_protocol::requests::{
    DeleteSubscriptionGroupHeader, GetAllSubscriptionGroupReply, GroupForbiddenHeader, GroupHeader,
};
use oxmq_protocol::topic::{self, GROUP_LENGTH_MAX, NameError};
use oxmq_protocol::{RemotingCommand, response_code as code};

use super::{Handled, body, fields, saved, success, success_json};
use crate::broker::Broker;
use crate::response::Refusal;

pub(super) fn update(broker: &Broker, command: &RemotingCommand) -> Handled {
    put(broker, vec![body(command)?])
}

pub(super) fn update_list(broker: &Broker, command: &RemotingCommand) -> Handled {
    let request: SubscriptionGroupList = body(command)?;
    put(broker, request.group_config_list)
}

fn put(broker: &Broker, configs: Vec<SubscriptionGroupConfig>) -> Handled {
    let began = Instant::now();
    let handled = put_checked(broker, configs);
    if let Some(metrics) = &broker.metrics {
        metrics.group_created(handled.is_ok(), began.elapsed());
    }
    handled
}

fn put_checked(broker: &Broker, configs: Vec<SubscriptionGroupConfig>) -> Handled {
    for config in &configs {
        topic::validate_group(&config.group_name)
            .map_err(|error| Refusal::new(code::INVALID_PARAMETER, group_name(&config.group_name, &error)))?;
    }
    let updated = broker.groups.update(configs, broker.now_ms());
    updated.map_err(|error| Refusal::new(code::SYSTEM_ERROR, error.to_string()))?;
    Ok(success())
}

/// Why a group name is refused, in the words of the original.
fn group_name(group: &str, error: &NameError) -> String {
    match error {
        NameError::Blank => "The specified group is blank.".into(),
        NameError::Characters(_) => {
            format!("The specified group: {group}, contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$")
        }
        NameError::Length { .. } => format!("The specified group is longer than group max length {GROUP_LENGTH_MAX}."),
    }
}

pub(super) fn delete(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: DeleteSubscriptionGroupHeader = fields(command)?;
    broker.groups.delete(&header.group_name, broker.now_ms());
    broker.pops.remove_group(&header.group_name);
    broker.quotas.forget_group(&header.group_name);
    if header.clean_offset || header.remove_offset == Some(true) {
        broker.consumer_offsets.remove_group(&header.group_name);
        saved(broker.save_offsets())?;
    }
    if broker.config().auto_delete_unused_stats {
        broker.stats.remove_group(&header.group_name);
    }
    Ok(success())
}

pub(super) fn all(broker: &Broker, _: &RemotingCommand) -> Handled {
    let (data_version, groups, forbidden_table) = broker.groups.snapshot();
    let reply = GetAllSubscriptionGroupReply {
        total_group_num: Some(groups.len() as i32),
    };
    let body = SubscriptionGroupWrapper {
        data_version,
        forbidden_table,
        subscription_group_table: groups
            .iter()
            .map(|group| (group.group_name.clone(), SubscriptionGroupConfig::clone(group)))
            .collect(),
    };
    Ok(success_json(&body).with_fields(&reply))
}

pub(super) fn get(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: GroupHeader = fields(command)?;
    match broker.group(&header.group) {
        Some(config) => Ok(success_json(&*config)),
        None => Err(Refusal::new(
            code::SUBSCRIPTION_GROUP_NOT_EXIST,
            "No group in this broker",
        )),
    }
}

pub(super) fn forbid(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: GroupForbiddenHeader = fields(command)?;
    let (group, topic) = (header.group, header.topic);
    if let Some(readable) = header.readable {
        broker
            .groups
            .set_read_forbidden(&group, &topic, !readable, broker.now_ms());
    }
    let readable = !broker.groups.is_read_forbidden(&group, &topic);
    Ok(success_json(&GroupForbidden { group, readable, topic }))
}
