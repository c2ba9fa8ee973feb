//! What a caller hands to [`crate::MessageStore::append`] and what it gets back.

use std::sync::Arc;

use bytes::BytesMut;

use crate::consume_queue::ConsumeQueue;

/// Encoded records that are appended together: one lock hold, one positioned write, one wake-up per queue.
///
/// The records lie back to back in `records`, in the order of `entries`. A successful append empties `records` (its bytes
/// now belong to the tail that readers share), leaves room there for the next batch, and fills in the results.
#[derive(Debug, Default)]
pub struct AppendBatch {
    pub records: BytesMut,
    pub entries: Vec<AppendEntry>,
    /// Result: the store timestamp of every record of the batch.
    pub store_timestamp: i64,
    /// Result: the position whose flush a SYNC_FLUSH promise for this batch needs.
    pub end_offset: i64,
}

/// One record of a batch.
#[derive(Debug)]
pub struct AppendEntry {
    pub queue: Arc<ConsumeQueue>,
    /// Where the record starts in [`AppendBatch::records`].
    pub start: u32,
    pub len: u32,
    pub tags_code: TagsCode,
    /// Number of records, this one included, that must stay in one file: the records of one batch send. Set on the
    /// first, 0 on those that follow it.
    pub group_len: u32,
    /// False for half and rollback records: they get queue offset 0 and enter no consume queue.
    pub in_queue: bool,
    /// Result.
    pub queue_offset: i64,
    /// Result.
    pub physical_offset: i64,
}

/// The last field of a consume-queue entry (spec: storage.md §6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagsCode {
    /// Java hash code of the TAGS property, 0 without tags.
    Hash(i64),
    /// Record of `SCHEDULE_TOPIC_XXXX`: its deliver time, store timestamp plus the delay of this level.
    DelayLevel(u8),
}

impl AppendBatch {
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets entries, results and bytes, and keeps the memory.
    pub fn clear(&mut self) {
        self.records.clear();
        self.entries.clear();
        self.store_timestamp = 0;
        self.end_offset = 0;
    }
}
