//! Where queues begin and end: SEARCH_OFFSET_BY_TIMESTAMP (29), GET_MAX_OFFSET (30), GET_MIN_OFFSET (31) and
//! GET_EARLIEST_MSG_STORETIME (32) (spec: protocol.md §3.4).

use std::sync::Arc;

use oxmq_protocol::requests::{OffsetReply, QueueHeader, SearchOffsetHeader, TimestampReply};
use oxmq_protocol::{RemotingCommand, response_code as code};
use oxmq_store::{Boundary, ConsumeQueue};

use super::{Handled, fields, success_with};
use crate::broker::Broker;
use crate::response::Refusal;

pub(super) fn max(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: QueueHeader = fields(command)?;
    let queue = readable(broker, &header.topic, header.queue_id)?;
    let offset = queue.map_or(0, |queue| queue.max_offset());
    Ok(success_with(&OffsetReply { offset }))
}

pub(super) fn min(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: QueueHeader = fields(command)?;
    let queue = readable(broker, &header.topic, header.queue_id)?;
    let offset = queue.map_or(0, |queue| queue.min_offset());
    Ok(success_with(&OffsetReply { offset }))
}

pub(super) fn by_time(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: SearchOffsetHeader = fields(command)?;
    let upper = header
        .boundary_type
        .is_some_and(|kind| kind.eq_ignore_ascii_case("UPPER"));
    let boundary = if upper { Boundary::Upper } else { Boundary::Lower };
    let queue = readable(broker, &header.topic, header.queue_id)?;
    let offset = queue.map_or(0, |queue| {
        broker.store.offset_by_time(&queue, header.timestamp, boundary)
    });
    Ok(success_with(&OffsetReply { offset }))
}

pub(super) fn earliest_time(broker: &Broker, command: &RemotingCommand) -> Handled {
    let header: QueueHeader = fields(command)?;
    let timestamp = broker.earliest_time(&header.topic, header.queue_id);
    Ok(success_with(&TimestampReply { timestamp }))
}

/// A queue whose files cannot be read has offsets that nobody knows: 0 would send consumers back to its start.
fn readable(broker: &Broker, topic: &str, queue_id: i32) -> Result<Option<Arc<ConsumeQueue>>, Refusal> {
    match broker.store.queue(topic, queue_id) {
        Some(queue) if queue.is_unreadable() => {
            let remark = format!("the files of consume queue {queue_id} of {topic} cannot be read");
            Err(Refusal::new(code::SYSTEM_ERROR, remark))
        }
        queue => Ok(queue),
    }
}

impl Broker {
    /// 0 for a queue that does not exist.
    pub(crate) fn max_offset(&self, topic: &str, queue_id: i32) -> i64 {
        self.store.queue(topic, queue_id).map_or(0, |queue| queue.max_offset())
    }

    /// When the message at this queue offset was stored, -1 if there is none. May read the disk.
    pub(crate) fn store_time(&self, topic: &str, queue_id: i32, queue_offset: i64) -> i64 {
        let queue = self.store.queue(topic, queue_id);
        queue
            .and_then(|queue| self.store.store_timestamp_at(&queue, queue_offset))
            .unwrap_or(-1)
    }

    /// When the first message of the queue was stored, -1 if there is none. May read the disk.
    pub(crate) fn earliest_time(&self, topic: &str, queue_id: i32) -> i64 {
        let queue = self.store.queue(topic, queue_id);
        queue
            .and_then(|queue| self.store.store_timestamp_at(&queue, queue.min_offset()))
            .unwrap_or(-1)
    }
}
