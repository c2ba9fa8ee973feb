//! Sends to logical queues: which physical queue takes one, and where it is then for the producer.

use oxmq_protocol::body::{LogicQueueMappingItem, TopicQueueMappingDetail};

use super::queue::{LogicQueue, NotLeader};

/// A send to a logical queue, directed to the item that is written to.
#[derive(Debug, Clone)]
pub(crate) struct MappedSend {
    pub(crate) logic_queue_id: i32,
    leader: LogicQueueMappingItem,
}

impl MappedSend {
    /// A negative queue id leaves the choice to the broker.
    pub(crate) fn new(detail: &TopicQueueMappingDetail, queue_id: i32) -> Result<MappedSend, NotLeader> {
        let queue = match queue_id {
            0.. => LogicQueue::led_here(detail, queue_id)?,
            _ => LogicQueue::any(detail)?,
        };
        Ok(MappedSend {
            logic_queue_id: queue.id,
            leader: queue.leader().clone(),
        })
    }

    pub(crate) fn queue_id(&self) -> i32 {
        self.leader.queue_id
    }

    /// -1 while the item has no place in the logical queue: it takes messages before it is known where they lie.
    pub(crate) fn logic_offset(&self, queue_offset: i64) -> i64 {
        self.leader.to_logic_within(queue_offset)
    }
}
