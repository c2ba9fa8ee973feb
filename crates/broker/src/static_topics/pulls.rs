//! Pulls from logical queues: which physical queue serves one, and what its answer means for the logical queue.

use oxmq_protocol::body::{LogicQueueMappingItem, TopicQueueMappingDetail};
use oxmq_protocol::response_code as code;

use super::queue::{LogicQueue, NotLeader};

/// A pull from a logical queue, directed to one of its items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MappedPull {
    /// The item that is read.
    item: LogicQueueMappingItem,
    next: Option<LogicQueueMappingItem>,
    is_first: bool,
    is_leader: bool,
    /// The logical maximum as far as the mapping knows it.
    known_max: i64,
    /// Where the pull begins in the item.
    pub(crate) queue_offset: i64,
}

/// Why a pull cannot be directed to an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unmapped {
    NotLeader,
    /// No item of the queue has a place yet.
    NoPlace,
}

/// The offsets of an answer, physical before [`MappedPull::rewrite`] and logical behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) next_begin_offset: i64,
    pub(crate) min_offset: i64,
    pub(crate) max_offset: i64,
}

impl From<NotLeader> for Unmapped {
    fn from(_: NotLeader) -> Unmapped {
        Unmapped::NotLeader
    }
}

impl MappedPull {
    pub(crate) fn new(
        detail: &TopicQueueMappingDetail,
        queue_id: i32,
        queue_offset: i64,
    ) -> Result<MappedPull, Unmapped> {
        let queue = LogicQueue::led_here(detail, queue_id)?;
        let item = queue.holding(queue_offset).ok_or(Unmapped::NoPlace)?;
        let first = queue.first().ok_or(Unmapped::NoPlace)?;
        Ok(MappedPull {
            next: queue.after(item).cloned(),
            is_first: first.generation == item.generation,
            is_leader: queue.leader().generation == item.generation,
            known_max: queue.leader().known_max(),
            queue_offset: item.to_physical(queue_offset),
            item: item.clone(),
        })
    }

    pub(crate) fn broker_name(&self) -> &str {
        &self.item.bname
    }

    pub(crate) fn queue_id(&self) -> i32 {
        self.item.queue_id
    }

    /// Messages that may be taken: never more than the item has.
    pub(crate) fn count_max(&self, wanted: i32) -> i32 {
        match self.item.end() {
            Some(end) => i64::from(wanted).min(end.saturating_sub(self.item.start_offset)) as i32,
            None => wanted,
        }
    }

    /// A physical queue offset that stands for this logical one, if the same item holds it.
    pub(crate) fn physical(&self, logic: i64) -> Option<i64> {
        let is_behind = self.next.as_ref().is_some_and(|next| logic >= next.logic_offset);
        (logic >= self.item.logic_offset && !is_behind).then(|| self.item.to_physical(logic))
    }

    /// What has to be added to the queue offsets of the messages.
    pub(crate) fn offset_delta(&self) -> i64 {
        self.item.logic_offset.saturating_sub(self.item.start_offset)
    }

    /// What the answer of the item means for the reader of the logical queue. The end of an item that is followed by
    /// another is no end: the reader goes on there. The place of an item in the middle that is gone is skipped.
    pub(crate) fn rewrite(&self, answer: Answer) -> Answer {
        let mut item = &self.item;
        let mut rewritten = answer;
        if answer.code != code::SUCCESS {
            let (asked, min, max) = (self.queue_offset, answer.min_offset, answer.max_offset);
            if self.is_leader && asked > max && answer.code == code::PULL_OFFSET_MOVED {
                rewritten.next_begin_offset = max;
            } else if asked < min {
                rewritten.next_begin_offset = min;
                rewritten.code = match self.is_first {
                    true => code::PULL_OFFSET_MOVED,
                    false => code::PULL_RETRY_IMMEDIATELY,
                };
            }
            if asked >= max && (self.is_first || !self.is_leader) {
                match &self.next {
                    Some(next) => {
                        item = next;
                        rewritten.next_begin_offset = next.start_offset;
                        rewritten.min_offset = next.start_offset;
                        rewritten.max_offset = next.start_offset;
                        rewritten.code = code::PULL_RETRY_IMMEDIATELY;
                    }
                    None => rewritten.code = code::PULL_NOT_FOUND,
                }
            }
        }
        let next_begin_offset = match item.end() {
            Some(end) => rewritten.next_begin_offset.min(end),
            None => rewritten.next_begin_offset,
        };
        Answer {
            code: rewritten.code,
            next_begin_offset: item.to_logic(next_begin_offset),
            min_offset: item.to_logic(rewritten.min_offset),
            max_offset: item.to_logic(rewritten.max_offset).max(self.known_max),
        }
    }
}
