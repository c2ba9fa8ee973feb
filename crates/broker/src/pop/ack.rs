//! Acknowledgements of orderly groups: they move the group's offset at once (spec: behaviour.md §10.3).

use std::net::SocketAddr;
use std::sync::Arc;

use oxmq_protocol::pop::ReceiptHandle;
use oxmq_protocol::requests::{ChangeInvisibleTimeHeader, ChangeInvisibleTimeReply};
use oxmq_protocol::response_code as code;
use oxmq_store::ConsumeQueue;

use super::order::Progress;
use crate::broker::Broker;
use crate::response::Refusal;

/// A message of an orderly group was consumed. One before the group's offset was consumed already.
pub(crate) fn ack_in_order(
    broker: &Broker,
    queue: &Arc<ConsumeQueue>,
    group: &str,
    queue_offset: i64,
    handle: &ReceiptHandle<'_>,
    peer: SocketAddr,
) -> Result<(), Refusal> {
    let (topic, queue_id) = (&**queue.topic(), queue.queue_id());
    let shared = broker.pops.queue(topic, group, queue_id);
    let mut shared = shared.lock();
    let committed = broker.consumer_offsets.query(group, topic, queue_id);
    if committed.is_some_and(|committed| queue_offset < committed) {
        return Ok(());
    }
    let progress = match &mut shared.order {
        Some(order) => order.ack(queue_offset, handle.pop_time),
        None => Progress::Commit(queue_offset + 1),
    };
    match progress {
        Progress::Commit(next) => {
            broker.pops.order_changed();
            let now = broker.now_ms();
            if broker.consumer_offsets.pending_reset(group, topic, queue_id).is_none() {
                broker.consumer_offsets.commit(group, topic, queue_id, next, now);
            }
            let order = shared.order.as_mut();
            if order.is_none_or(|order| order.blocked_until(None, handle.invisible_time, now).is_none()) {
                broker.wake_waiting(queue);
            }
        }
        Progress::Outdated => {}
        Progress::Illegal => {
            let old = committed.unwrap_or(-1);
            let remark = format!(
                "offset is illegal, key:{topic}@{group}@{queue_id}, old:{old}, commit:{queue_offset}, next:-1, /{peer}"
            );
            return Err(Refusal::new(code::MESSAGE_ILLEGAL, remark));
        }
    }
    if handle.pop_time >= broker.started_at {
        shared.add_in_flight(-1);
    }
    Ok(())
}

/// A message of an orderly group shall be visible at another time.
pub(crate) fn change_in_order(
    broker: &Broker,
    queue: &Arc<ConsumeQueue>,
    header: &ChangeInvisibleTimeHeader,
    handle: &ReceiptHandle<'_>,
) -> ChangeInvisibleTimeReply {
    let (topic, queue_id) = (&**queue.topic(), queue.queue_id());
    let shared = broker.pops.queue(topic, &header.consumer_group, queue_id);
    let mut shared = shared.lock();
    let committed = broker.consumer_offsets.query(&header.consumer_group, topic, queue_id);
    if committed.is_some_and(|committed| header.offset < committed) {
        // Consumed already; the original answers without a time.
        return ChangeInvisibleTimeReply {
            pop_time: 0,
            invisible_time: 0,
            revive_qid: 0,
        };
    }
    let visible_at = broker.now_ms().saturating_add(header.invisible_time);
    if let Some(order) = &mut shared.order {
        order.change_visible_time(header.offset, handle.pop_time, visible_at);
        broker.pops.order_changed();
        broker.wake_waiting(queue);
    }
    ChangeInvisibleTimeReply {
        pop_time: handle.pop_time,
        invisible_time: visible_at.saturating_sub(handle.pop_time),
        revive_qid: handle.revive_queue,
    }
}
