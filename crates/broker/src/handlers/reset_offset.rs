//! INVOKE_BROKER_TO_RESET_OFFSET (222): on the server's side, or by telling the clients (spec: behaviour.md §5.6). Both
//! ways search by time, which reads the disk.

use bytes::Bytes;
use oxmq_protocol::body::{QueueMap, QueueOffsetForC, ResetOffsetBody, ResetOffsetBodyForC};
use oxmq_protocol::requests::{ResetOffsetHeader, request};
use oxmq_protocol::version::{Language, V3_0_7_SNAPSHOT};
use oxmq_protocol::{RemotingCommand, json, response_code as code};
use oxmq_store::Boundary;

use super::{Handled, fields, success_json};
use crate::broker::Broker;
use crate::response::Refusal;

pub(super) fn reset(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: ResetOffsetHeader = fields(command)?;
    if broker.config().use_server_side_reset_offset {
        return reset_here(broker, &header);
    }
    reset_in_clients(broker, &header, command.header.language == Language::CPP)
}

fn reset_here(broker: &Broker, header: &ResetOffsetHeader) -> Handled {
    let (topic, group) = (header.topic.as_str(), header.group.as_str());
    let Some(config) = broker.topics.get(topic) else {
        let remark = format!("Topic {topic} does not exist");
        return Err(Refusal::new(code::TOPIC_NOT_EXIST, remark));
    };
    if !broker.groups.contains(group) {
        let remark = format!("Group {group} does not exist");
        return Err(Refusal::new(code::SUBSCRIPTION_GROUP_NOT_EXIST, remark));
    }
    let by_time = |queue_id| (queue_id, offset_by_time(broker, topic, queue_id, header.timestamp));
    let offsets = match header.queue_id.filter(|queue_id| *queue_id >= 0) {
        Some(queue_id) => match header.offset.filter(|offset| *offset != -1) {
            Some(offset) => vec![(queue_id, within_queue(broker, topic, queue_id, offset)?)],
            None => vec![by_time(queue_id)],
        },
        None => (0..config.read_queue_nums).map(by_time).collect(),
    };
    let mut body = ResetOffsetBody::default();
    for (queue_id, offset) in offsets {
        broker
            .consumer_offsets
            .reset(group, topic, queue_id, offset, broker.now_ms());
        body.offset_table.insert(broker.message_queue(topic, queue_id), offset);
    }
    Ok(success_json(&body))
}

fn within_queue(broker: &Broker, topic: &str, queue_id: i32, offset: i64) -> Result<i64, Refusal> {
    let min = broker
        .store
        .queue(topic, queue_id)
        .map_or(0, |queue| queue.min_offset());
    let max = broker.max_offset(topic, queue_id);
    if offset < min || offset > max + 1 {
        let remark = format!("Target offset {offset} not in consume queue range [{min}-{max}]");
        return Err(Refusal::new(code::SYSTEM_ERROR, remark));
    }
    Ok(offset)
}

/// A negative time means the end.
fn offset_by_time(broker: &Broker, topic: &str, queue_id: i32, timestamp: i64) -> i64 {
    let Some(queue) = broker.store.queue(topic, queue_id) else {
        return 0;
    };
    match timestamp {
        ..0 => queue.max_offset(),
        _ => broker.store.offset_by_time(&queue, timestamp, Boundary::Lower).max(0),
    }
}

fn reset_in_clients(broker: &Broker, header: &ResetOffsetHeader, for_cpp: bool) -> Handled {
    let (topic, group) = (header.topic.as_str(), header.group.as_str());
    let refuse = |code, remark: String| Err(Refusal::new(code, remark));
    let Some(config) = broker.topics.get(topic) else {
        let remark = format!("[reset-offset] reset offset failed, no topic in this broker. topic={topic}");
        return refuse(code::SYSTEM_ERROR, remark);
    };
    let mut offset_table = QueueMap::default();
    for queue_id in 0..config.write_queue_nums {
        let Some(committed) = broker.consumer_offsets.query(group, topic, queue_id) else {
            return refuse(code::SYSTEM_ERROR, format!("THe consumer group <{group}> not exist"));
        };
        let found = offset_by_time(broker, topic, queue_id, header.timestamp);
        let offset = if header.is_force { found } else { found.min(committed) };
        offset_table.insert(broker.message_queue(topic, queue_id), offset);
    }
    let members = broker
        .consumers
        .with_group(group, |group| group.clients.clone())
        .unwrap_or_default();
    if members.is_empty() {
        let remark = format!(
            "Consumer not online, so can not reset offset, Group: {group} Topic: {topic} Timestamp: {}",
            header.timestamp
        );
        return refuse(code::CONSUMER_NOT_ONLINE, remark);
    }
    if let Some(old) = members.values().find(|member| member.version < V3_0_7_SNAPSHOT) {
        let remark = format!("the client does not support this feature. version={}", old.version);
        return refuse(code::SYSTEM_ERROR, remark);
    }
    let request = client_request(header, &offset_table, for_cpp);
    for member in members.values() {
        if let Err(error) = member.handle.oneway(request.clone()) {
            tracing::warn!(group, client = member.client_id, %error, "client is not told of its new offsets");
        }
    }
    Ok(success_json(&ResetOffsetBody { offset_table }))
}

fn client_request(header: &ResetOffsetHeader, offset_table: &QueueMap<i64>, for_cpp: bool) -> RemotingCommand {
    let body = match for_cpp {
        false => json::to_vec(&ResetOffsetBody {
            offset_table: offset_table.clone(),
        }),
        true => json::to_vec(&ResetOffsetBodyForC {
            offset_table: offset_table
                .iter()
                .map(|(queue, offset)| QueueOffsetForC {
                    broker_name: queue.broker_name.clone(),
                    offset: *offset,
                    queue_id: queue.queue_id,
                    topic: queue.topic.clone(),
                })
                .collect(),
        }),
    };
    let header = ResetOffsetHeader {
        group: header.group.clone(),
        topic: header.topic.clone(),
        timestamp: header.timestamp,
        ..ResetOffsetHeader::default()
    };
    let mut request = RemotingCommand::request::<request::ResetConsumerClientOffset>(&header, Bytes::from(body));
    request.header.mark_oneway();
    request
}
