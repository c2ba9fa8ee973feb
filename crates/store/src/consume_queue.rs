//! One consume queue: the entries of one topic queue, 20 bytes each (spec: storage.md §6.1).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

#[derive(Debug)]
pub struct ConsumeQueue {
    topic: Arc<str>,
    queue_id: i32,
    /// One bit per worker that has parked pulls here. Set the bit first, then look at [`ConsumeQueue::max_offset`]
    /// again: an append publishes the maximum first and then reads the mask.
    pub wait_mask: AtomicU64,
    max_offset: AtomicI64,
    min_offset: AtomicI64,
}

impl ConsumeQueue {
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    pub fn queue_id(&self) -> i32 {
        self.queue_id
    }

    /// Queue offset after the last visible entry.
    pub fn max_offset(&self) -> i64 {
        self.max_offset.load(Ordering::SeqCst)
    }

    /// Queue offset of the first entry whose record still exists.
    pub fn min_offset(&self) -> i64 {
        self.min_offset.load(Ordering::Acquire)
    }
}
