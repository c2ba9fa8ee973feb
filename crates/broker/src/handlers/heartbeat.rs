//! HEART_BEAT (34), UNREGISTER_CLIENT (35), CHECK_CLIENT_CONFIG (46) and what they set off (spec: behaviour.md §5.2,
//! §5.3).

use std::rc::Rc;

use bytes::Bytes;
use oxmq_protocol::body::{CheckClientRequestBody, ConsumeType, ConsumerData, HeartbeatData};
use oxmq_protocol::requests::{ConsumerGroupHeader, HeartBeatReply, UnregisterClientHeader, request};
use oxmq_protocol::{RemotingCommand, response_code};
use oxmq_remoting::{Connection, ConnectionHandle};

use super::{Handled, RequestContext, body, fields, success, success_with};
use crate::broker::Broker;
use crate::clients::{Client, GroupNotice};
use crate::filter;
use crate::response::Refusal;

/// Groups that one heartbeat may bring. A client has a handful.
const GROUPS_MAX: usize = 1024;

pub(super) fn heart_beat(context: &RequestContext<'_>, command: &RemotingCommand) -> Handled {
    let broker = &**context.broker;
    let data: HeartbeatData = body(command)?;
    if data.consumer_data_set.len() + data.producer_data_set.len() > GROUPS_MAX {
        let remark = format!("a heartbeat may have {GROUPS_MAX} groups");
        return Err(Refusal::new(response_code::INVALID_PARAMETER, remark));
    }
    let client = client(broker, context.connection, command, &data.client_id);
    let mut fingerprint_changed = false;
    for group in data.consumer_data_set {
        let (fingerprint, without_sub) = (data.heartbeat_fingerprint, data.without_sub);
        fingerprint_changed |= register_consumer(broker, group, &client, fingerprint, without_sub);
    }
    for producer in data.producer_data_set {
        register_producer(broker, &producer.group_name, &client);
    }
    Ok(success_with(&HeartBeatReply {
        is_support_heart_beat_v2: Some(true),
        // A client that sends every heartbeat in full is always asked to.
        is_sub_change: Some(data.heartbeat_fingerprint == 0 || fingerprint_changed),
    }))
}

/// True when the group last had another fingerprint.
fn register_consumer(
    broker: &Broker,
    data: ConsumerData,
    client: &Client<ConnectionHandle>,
    fingerprint: i32,
    without_sub: bool,
) -> bool {
    let settings = broker.config();
    if settings.reject_pull_consumer_enable && data.consume_type == ConsumeType::Actively {
        return false;
    }
    let Some(config) = broker.group(&data.group_name) else {
        return false;
    };
    let mut subscribed = data.subscription_data_set.iter();
    let ordered = subscribed.any(|subscription| broker.topics.is_order_topic(&subscription.topic));
    let (group, queue_nums) = (&data.group_name, config.retry_queue_nums);
    broker
        .topics
        .ensure_retry_topic(group, queue_nums, Some(ordered), data.unit_mode, client.last_update);
    let is_unchanged = fingerprint != 0 && without_sub;
    if !is_unchanged {
        let (subscriptions, now) = (&data.subscription_data_set, client.last_update);
        broker.consumer_filters.register(group, subscriptions, now);
    }
    let notify = config.notify_consumer_ids_changed_enable && settings.notify_consumer_ids_changed_enable;
    let registered = broker
        .consumers
        .register(data, client.clone(), fingerprint, is_unchanged, notify);
    tell(broker, registered.notice.as_slice());
    registered.fingerprint_changed
}

fn register_producer(broker: &Broker, group: &str, client: &Client<ConnectionHandle>) {
    let settings = broker.config();
    let welcome = settings.enable_register_producer || !settings.reject_transaction_message;
    if welcome || broker.producers.is_known(group) {
        broker.producers.register(group, client.clone());
    }
}

pub(super) fn unregister(context: &RequestContext<'_>, command: &RemotingCommand) -> Handled {
    let broker = &**context.broker;
    let header: UnregisterClientHeader = fields(command)?;
    let connection = context.connection.id();
    if let Some(group) = &header.producer_group {
        broker.producers.unregister(group, connection);
    }
    if let Some(group) = &header.consumer_group {
        let config = broker.group(group);
        let wanted = config.is_none_or(|config| config.notify_consumer_ids_changed_enable);
        let notify = wanted && broker.config().notify_consumer_ids_changed_enable;
        tell(
            broker,
            broker.consumers.unregister(group, connection, notify).as_slice(),
        );
    }
    Ok(success())
}

/// Whether a client may subscribe with this expression.
pub(super) fn check_client_config(broker: &Broker, command: &RemotingCommand) -> Handled {
    let request: CheckClientRequestBody = body(command)?;
    let subscription = request.subscription_data;
    if subscription.is_tag_type() {
        return Ok(success());
    }
    let (kind, expression) = (&subscription.expression_type, &subscription.sub_string);
    filter::check_enabled(broker, kind).map_err(|error| Refusal::from(&error))?;
    match broker.consumer_filters.compile(kind, expression) {
        Ok(_) => Ok(success()),
        Err(reason) => Err(Refusal::new(response_code::SUBSCRIPTION_PARSE_FAILED, reason)),
    }
}

/// The connection of a client has ended: it leaves its groups, and those who remain are told.
pub(crate) fn on_close(broker: &Broker, connection: u64) {
    broker.producers.on_close(connection);
    let notices = broker.consumers.on_close(connection);
    if broker.config().notify_consumer_ids_changed_enable {
        tell(broker, &notices);
    }
}

/// Now, or together with others every few seconds.
fn tell(broker: &Broker, notices: &[GroupNotice<ConnectionHandle>]) {
    match broker.config().real_time_notify_consumer_change {
        true => notify_members(notices),
        false => broker.consumers.defer(notices),
    }
}

/// Tells the members of a group to look for their queues.
pub(super) fn notify_group(broker: &Broker, group: &str) {
    let members = broker.consumers.with_group(group, |group| {
        let handles = group.clients.values().map(|client| client.handle.clone());
        handles.collect()
    });
    let notice = members.map(|members| GroupNotice {
        group: group.to_owned(),
        members,
    });
    notify_members(notice.as_slice());
}

/// Sends NOTIFY_CONSUMER_IDS_CHANGED. A member that cannot be reached is about to leave anyway.
pub(crate) fn notify_members(notices: &[GroupNotice<ConnectionHandle>]) {
    for notice in notices {
        let header = ConsumerGroupHeader {
            consumer_group: notice.group.clone(),
            broker_name: None,
        };
        for member in &notice.members {
            let mut request = RemotingCommand::request::<request::NotifyConsumerIdsChanged>(&header, Bytes::new());
            request.header.mark_oneway();
            if let Err(error) = member.oneway(request) {
                tracing::debug!(group = notice.group, peer = %member.peer_addr(), %error, "member is not told of a change");
            }
        }
    }
}

fn client(
    broker: &Broker,
    connection: &Rc<Connection>,
    command: &RemotingCommand,
    client_id: &str,
) -> Client<ConnectionHandle> {
    Client {
        connection: connection.id(),
        client_id: client_id.to_owned(),
        address: connection.peer_addr().to_string(),
        language: command.header.language,
        version: command.header.version,
        last_update: broker.now_ms(),
        handle: connection.handle(),
    }
}
