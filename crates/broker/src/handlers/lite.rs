//! Requests about light topics: the queues of a topic of message.type LITE that groups bound to it subscribe to one by one
//! (200074 to 200079). No client can subscribe here, and no message enters such a queue, so that the answers are those of
//! a broker of the original to which none has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use oxmq_protocol::body::{
    BrokerLiteInfo, LiteClientInfo, LiteGroupInfo, LiteTopicInfo, ParentTopicInfo, SubscriptionGroupConfig,
    TopicConfig, TopicOffset,
};
use oxmq_protocol::requests::{
    LiteClientHeader, LiteGroupHeader, LiteTopicHeader, TopicHeader, TriggerLiteDispatchHeader,
};
use oxmq_protocol::{RemotingCommand, response_code as code};

use super::{Handled, fields, success, success_json};
use crate::attributes::MESSAGE_TYPE;
use crate::broker::Broker;
use crate::response::Refusal;

const LITE: &str = "LITE";
const EXPIRATION: &str = "lite.topic.expiration";
const BOUND_TO: &str = "lite.bind.topic";
const NOT_KNOWN: i64 = -1;

pub(super) fn of_broker(broker: &Broker, _: &RemotingCommand) -> Handled {
    let config = broker.config();
    let (_, topics) = broker.topics.snapshot();
    let parents = topics.iter().filter(|topic| is_lite(topic));
    Ok(success_json(&BrokerLiteInfo {
        cq_table_size: count(broker.store.topics().len()),
        current_lmq_num: count(broker.store.light_queues()),
        group_meta: bound_groups(broker),
        max_lmq_num: count(config.max_lmq_consume_queue_num),
        offset_table_size: count(broker.consumer_offsets.all().len()),
        store_type: "default".into(),
        topic_meta: parents
            .map(|topic| (topic.topic_name.clone(), expiration(topic)))
            .collect(),
        ..BrokerLiteInfo::default()
    }))
}

pub(super) fn of_parent(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: TopicHeader = fields(command)?;
    let topic = parent(broker, &header.topic)?;
    Ok(success_json(&ParentTopicInfo {
        groups: bound_groups(broker).remove(&header.topic),
        lite_topic_count: 0,
        lmq_num: count(broker.store.light_queues()),
        ttl: expiration(&topic),
        topic: header.topic,
    }))
}

pub(super) fn of_topic(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: LiteTopicHeader = fields(command)?;
    parent(broker, &header.parent_topic)?;
    Ok(success_json(&LiteTopicInfo {
        lite_topic: header.lite_topic,
        parent_topic: header.parent_topic,
        sharding_to_broker: true,
        subscriber: None,
        topic_offset: TopicOffset::default(),
    }))
}

pub(super) fn of_client(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: LiteClientHeader = fields(command)?;
    parent(broker, &header.parent_topic)?;
    let group = existing(broker, &header.group)?;
    if group.attributes.get(BOUND_TO) != Some(&header.parent_topic) {
        let remark = format!("Subscription [{}]-[{}] not match.", header.group, header.parent_topic);
        return Err(Refusal::new(code::INVALID_PARAMETER, remark));
    }
    Ok(success_json(&LiteClientInfo {
        client_id: header.client_id,
        group: header.group,
        last_access_time: NOT_KNOWN,
        last_consume_time: 0,
        lite_topic_count: -1,
        lite_topic_set: None,
        parent_topic: header.parent_topic,
    }))
}

pub(super) fn of_group(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: LiteGroupHeader = fields(command)?;
    let parent_topic = bound_topic(broker, &header.group)?;
    let asked = header.lite_topic.filter(|topic| !topic.is_empty());
    Ok(success_json(&LiteGroupInfo {
        earliest_unconsumed_timestamp: NOT_KNOWN,
        group: header.group,
        lag_count_top_k: asked.is_none().then(Vec::new),
        lag_timestamp_top_k: asked.is_none().then(Vec::new),
        lite_topic_offset_wrapper: None,
        total_lag_count: if asked.is_some() { NOT_KNOWN } else { 0 },
        lite_topic: asked,
        parent_topic,
    }))
}

/// There is nobody to whom anything could be dispatched.
pub(super) fn dispatch(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: TriggerLiteDispatchHeader = fields(command)?;
    bound_topic(broker, &header.group)?;
    Ok(success())
}

/// A topic that has light topics.
fn parent(broker: &Broker, name: &str) -> Result<Arc<TopicConfig>, Refusal> {
    let topic = broker.topics.get(name);
    let topic = topic.ok_or_else(|| Refusal::new(code::TOPIC_NOT_EXIST, format!("Topic [{name}] not exist.")))?;
    match is_lite(&topic) {
        true => Ok(topic),
        false => {
            let remark = format!("Topic [{name}] type not match.");
            Err(Refusal::new(code::INVALID_PARAMETER, remark))
        }
    }
}

fn existing(broker: &Broker, name: &str) -> Result<Arc<SubscriptionGroupConfig>, Refusal> {
    let missing = || Refusal::new(code::SUBSCRIPTION_GROUP_NOT_EXIST, format!("Group [{name}] not exist."));
    broker.groups.get(name).ok_or_else(missing)
}

/// The topic that a group of light topics is bound to.
fn bound_topic(broker: &Broker, name: &str) -> Result<String, Refusal> {
    let group = existing(broker, name)?;
    let bound = group.attributes.get(BOUND_TO).filter(|topic| !topic.is_empty());
    let refusal = || Refusal::new(code::INVALID_PARAMETER, format!("Group [{name}] is not a LITE group."));
    bound.cloned().ok_or_else(refusal)
}

fn bound_groups(broker: &Broker) -> BTreeMap<String, BTreeSet<String>> {
    let mut bound = BTreeMap::<String, BTreeSet<String>>::new();
    let (_, groups, _) = broker.groups.snapshot();
    for group in groups {
        if let Some(topic) = group.attributes.get(BOUND_TO) {
            bound.entry(topic.clone()).or_default().insert(group.group_name.clone());
        }
    }
    bound
}

fn is_lite(topic: &TopicConfig) -> bool {
    topic.attributes.get(MESSAGE_TYPE).is_some_and(|kind| kind == LITE)
}

/// Minutes; -1 for never.
fn expiration(topic: &TopicConfig) -> i32 {
    let minutes = topic.attributes.get(EXPIRATION);
    minutes.and_then(|minutes| minutes.parse().ok()).unwrap_or(-1)
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
