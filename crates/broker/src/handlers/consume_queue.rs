//! QUERY_CONSUME_QUEUE (321): a look into a consume queue (spec: protocol.md §5.7).

use bytes::BytesMut;
use oxmq_protocol::body::{ConsumeQueueData, QueryConsumeQueueBody, SubscriptionData};
use oxmq_protocol::record::RecordRef;
use oxmq_protocol::requests::QueryConsumeQueueHeader;
use oxmq_protocol::{RemotingCommand, json, response_code as code};
use oxmq_store::{ConsumeQueue, GetLimits, Wait};

use super::{Handled, fields, success_unset};
use crate::broker::Broker;
use crate::response::Refusal;

/// Entries of one answer.
const COUNT_MAX: i32 = 512;

pub(super) fn query(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: QueryConsumeQueueHeader = fields(command)?;
    let (topic, queue_id) = (header.topic.as_str(), header.queue_id);
    let queue = broker.store.queue(topic, queue_id);
    let queue = queue.filter(|queue| (queue.min_offset()..queue.max_offset()).contains(&header.index));
    let Some(queue) = queue else {
        let remark = format!("Index {} of {queue_id}@{topic} is not exist!", header.index);
        return Ok(RemotingCommand::response(0, code::SUCCESS, Some(remark)));
    };
    let group = header.consumer_group.as_deref();
    let subscription = group.and_then(|group| broker.subscription(group, topic));
    let filter_data = match (group, &subscription) {
        (Some(group), None) => Some(format!("{group}@{topic} is not online!")),
        (Some(group), Some(_)) => {
            let data = broker.consumer_filters.data(group, topic);
            Some(String::from_utf8_lossy(&json::to_vec(&data)).into_owned())
        }
        (None, _) => None,
    };
    let count = header.count.clamp(0, COUNT_MAX) as usize;
    let body = QueryConsumeQueueBody {
        filter_data,
        max_queue_index: queue.max_offset(),
        min_queue_index: queue.min_offset(),
        queue_data: entries(broker, &queue, header.index, count, subscription.as_deref())?,
        subscription_data: subscription.map(|subscription| SubscriptionData::clone(&subscription)),
    };
    Ok(success_unset().with_body(json::to_vec(&body)))
}

/// Entries whose records exist, with what the subscription would make of them.
fn entries(
    broker: &Broker,
    queue: &ConsumeQueue,
    from: i64,
    count: usize,
    subscription: Option<&SubscriptionData>,
) -> Result<Vec<ConsumeQueueData>, Refusal> {
    let mut tags_codes = Vec::new();
    let mut note = |tags_code| {
        tags_codes.push(tags_code);
        true
    };
    let mut records = BytesMut::new();
    let limits = GetLimits::count(count);
    let failed = |error: &dyn std::error::Error| Refusal::new(code::SYSTEM_ERROR, error.to_string());
    broker
        .store
        .get_messages(queue, from, &limits, &mut note, Wait::Allowed, &mut records)
        .map_err(|error| failed(&error))?;
    let mut entries = Vec::new();
    let mut rest = &records[..];
    while !rest.is_empty() {
        let record = RecordRef::parse(rest).map_err(|error| failed(&error))?;
        rest = &rest[record.total_size()..];
        let tags_code = tags_codes.get(entries.len()).copied().unwrap_or(0);
        entries.push(ConsumeQueueData {
            eval: subscription
                .is_some_and(|subscription| !subscription.is_tag_type() || subscription.matches_code(tags_code)),
            physic_offset: record.physical_offset(),
            physic_size: record.total_size() as i32,
            tags_code,
            ..ConsumeQueueData::default()
        });
    }
    Ok(entries)
}
