//! Offsets of consumer groups: QUERY_CONSUMER_OFFSET (14), UPDATE_CONSUMER_OFFSET (15), GET_ALL_CONSUMER_OFFSET (43),
//! GET_ALL_DELAY_OFFSET (45), QUERY_CORRECTION_OFFSET (308) and CLONE_GROUP_OFFSET (314) (spec: behaviour.md §5.4).

use oxmq_protocol::body::QueryCorrectionOffsetBody;
use oxmq_protocol::requests::{
    CloneGroupOffsetHeader, OffsetReply, QueryConsumerOffsetHeader, QueryCorrectionOffsetHeader,
    UpdateConsumerOffsetHeader,
};
use oxmq_protocol::{RemotingCommand, response_code as code};

use super::{Handled, Outcome, fields, is_blank, offload, reply, success, success_json, success_with};
use crate::broker::Broker;
use crate::consumer_offsets::offset_of_a_new_group;
use crate::response::Refusal;
use crate::topics::QUEUE_NUMS_MAX;

/// Answered at once for a group that has an offset; for a new group the first message has to be looked at, which may
/// need another thread.
pub(super) fn query(broker: &Broker, command: RemotingCommand) -> Outcome {
    let known = fields(&command).map(|header: QueryConsumerOffsetHeader| {
        broker
            .consumer_offsets
            .query(&header.consumer_group, &header.topic, header.queue_id)
            .filter(|offset| *offset >= 0)
    });
    match known {
        Ok(Some(offset)) if offset >= 0 => reply(&command, Ok(success_with(&OffsetReply { offset }))),
        // A negative offset can be committed, and counts as none.
        Ok(_) => offload(command, query_of_a_new_group),
        Err(refusal) => reply(&command, Err(refusal)),
    }
}

/// As [`query`], on a thread that may look at messages.
pub(super) fn query_now(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: QueryConsumerOffsetHeader = fields(command)?;
    let offsets = &broker.consumer_offsets;
    match offsets.query(&header.consumer_group, &header.topic, header.queue_id) {
        Some(offset) if offset >= 0 => Ok(success_with(&OffsetReply { offset })),
        _ => query_of_a_new_group(broker, command),
    }
}

fn query_of_a_new_group(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: QueryConsumerOffsetHeader = fields(command)?;
    let queue = broker.store.queue(&header.topic, header.queue_id);
    let min_offset = queue.as_ref().map_or(-1, |queue| queue.min_offset());
    let in_memory = min_offset <= 0 && queue.is_some_and(|queue| broker.first_is_in_memory(&queue));
    match offset_of_a_new_group(header.set_zero_if_not_found, min_offset, in_memory) {
        Some(offset) => Ok(success_with(&OffsetReply { offset })),
        None if header.set_zero_if_not_found == Some(false) => Err(Refusal::new(
            code::QUERY_NOT_FOUND,
            "Not found, do not set to zero, maybe this group boot first",
        )),
        None => Err(Refusal::new(
            code::QUERY_NOT_FOUND,
            "Not found, V3_0_6_SNAPSHOT maybe this group consumer boot first",
        )),
    }
}

pub(super) fn update(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: UpdateConsumerOffsetHeader = fields(command)?;
    let group = header.consumer_group.unwrap_or_default();
    let topic = header.topic.unwrap_or_default();
    let refuse = |code, remark: String| Err(Refusal::new(code, remark));
    if !broker.groups.contains(&group) {
        return refuse(code::SUBSCRIPTION_GROUP_NOT_EXIST, format!("Group {group} not exist!"));
    }
    if !broker.topics.contains(&topic) {
        return refuse(code::TOPIC_NOT_EXIST, format!("Topic {topic} not exist!"));
    }
    let Some(queue_id) = header.queue_id else {
        return refuse(code::INVALID_PARAMETER, format!("QueueId is null, topic is {topic}"));
    };
    let Some(offset) = header.commit_offset else {
        return refuse(code::INVALID_PARAMETER, format!("Offset is null, topic is {topic}"));
    };
    if !(0..QUEUE_NUMS_MAX).contains(&queue_id) {
        return refuse(
            code::INVALID_PARAMETER,
            format!("QueueId {queue_id} is illegal, topic is {topic}"),
        );
    }
    let (offsets, now) = (&broker.consumer_offsets, broker.now_ms());
    match broker.config().use_server_side_reset_offset {
        false => offsets.commit(&group, &topic, queue_id, offset, now),
        true if offsets.commit_of_client(&group, &topic, queue_id, offset, now) => {}
        true => {
            let remark = "Offset has been previously reset".to_owned();
            return Ok(RemotingCommand::response(0, code::SUCCESS, Some(remark)));
        }
    }
    Ok(success())
}

pub(super) fn all(broker: &Broker, _: &RemotingCommand) -> Handled {
    Ok(success().with_body(broker.consumer_offsets.to_body()))
}

pub(super) fn all_delays(broker: &Broker, _: &RemotingCommand) -> Handled {
    Ok(success().with_body(broker.schedule.to_body()))
}

pub(super) fn correct(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: QueryCorrectionOffsetHeader = fields(command)?;
    let filtered = header.filter_groups.unwrap_or_default();
    let filtered: Vec<&str> = filtered.split(',').filter(|group| !is_blank(group)).collect();
    let min_offset = |queue_id| {
        let queue = broker.store.queue(&header.topic, queue_id);
        queue.map_or(0, |queue| queue.min_offset())
    };
    let correction_offsets =
        broker
            .consumer_offsets
            .correction(&header.topic, &header.compare_group, &filtered, min_offset);
    Ok(success_json(&QueryCorrectionOffsetBody { correction_offsets }))
}

pub(super) fn clone_group(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: CloneGroupOffsetHeader = fields(command)?;
    let from = &header.src_group;
    let topics = match header.topic.filter(|topic| !is_blank(topic)) {
        Some(topic) => vec![topic],
        None => broker.consumer_offsets.topics_of(from),
    };
    for topic in topics {
        if broker.topics.contains(&topic) && (header.offline || broker.is_consumed(from, &topic)) {
            broker.consumer_offsets.clone_group(from, &header.dest_group, &topic);
        }
    }
    Ok(success())
}
