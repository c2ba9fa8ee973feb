//! The store as its users see it.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::append::AppendBatch;
use crate::config::StoreConfig;
use crate::consume_queue::ConsumeQueue;
use crate::disk::Disk;
use crate::error::{AppendError, GetError, OpenError, ReadError, StoreFailure};
use crate::read::{Boundary, GetLimits, GetMessages, QueryResult, Wait};

/// What the store tells its owner. Called on the appending thread or on the flush thread: do little, do not block.
pub trait StoreListener: Send + Sync {
    /// The visible maximum of these queues grew. Only queues whose wait mask is not empty are named.
    fn arrived(&self, queues: &[Arc<ConsumeQueue>]);
    /// Everything before this physical offset is on disk.
    fn flushed(&self, flushed: i64);
    /// The commit log failed; appends are refused from now on.
    fn failed(&self, why: &StoreFailure);
}

/// What the last start found and did.
#[derive(Debug, Clone, Default)]
pub struct RecoveryReport {
    /// No `abort` file was there.
    pub clean: bool,
    /// Where the scan began and where the valid log ended.
    pub scanned_from: i64,
    pub end: i64,
    pub records: u64,
    pub elapsed_ms: u64,
}

/// Figures for the broker's runtime information (request 28).
#[derive(Debug, Clone, Default)]
pub struct Figures {
    pub start_timestamp: i64,
    pub append_messages: u64,
    pub append_bytes: u64,
    pub append_failures: u64,
    /// Longest append since the start.
    pub append_max_us: u64,
    pub get_messages: u64,
    pub get_found: u64,
    pub get_missed: u64,
    /// Appends by duration, with Java's `putMessageDistributeTime` classes.
    pub append_times: [u64; 13],
    /// Used share of the partition, 0 to 1.
    pub commit_log_disk_ratio: f64,
    pub consume_queue_disk_ratio: f64,
    pub dispatch_max_buffer_bytes: u64,
}

pub struct MessageStore {
    config: StoreConfig,
}

impl MessageStore {
    /// Locks the directory, loads and recovers it, and starts the background threads.
    pub fn open(
        config: StoreConfig,
        disk: Arc<dyn Disk>,
        listener: Arc<dyn StoreListener>,
    ) -> Result<Arc<MessageStore>, OpenError> {
        let _ = (config, disk, listener);
        todo!()
    }

    pub fn config(&self) -> &StoreConfig {
        &self.config
    }

    pub fn recovery_report(&self) -> &RecoveryReport {
        todo!()
    }

    pub fn queue(&self, topic: &str, queue_id: i32) -> Option<Arc<ConsumeQueue>> {
        let _ = (topic, queue_id);
        todo!()
    }

    /// The topic name must have been checked: it becomes a directory.
    pub fn queue_or_create(&self, topic: &str, queue_id: i32) -> Arc<ConsumeQueue> {
        let _ = (topic, queue_id);
        todo!()
    }

    /// The queues of a topic by queue id.
    pub fn queues_of(&self, topic: &str) -> Vec<Arc<ConsumeQueue>> {
        let _ = topic;
        todo!()
    }

    /// Topics that have a consume queue.
    pub fn topics(&self) -> Vec<Arc<str>> {
        todo!()
    }

    /// Appends all records or none: one lock hold, one positioned write (two where a file ends).
    pub fn append(&self, batch: &mut AppendBatch) -> Result<(), AppendError> {
        let _ = batch;
        todo!()
    }

    /// Appends whole records from queue offset `from` on to `out`. `filter` sees the tags code of each entry.
    pub fn get_messages(
        &self,
        queue: &ConsumeQueue,
        from: i64,
        limits: &GetLimits,
        filter: &mut dyn FnMut(i64) -> bool,
        wait: Wait,
        out: &mut BytesMut,
    ) -> Result<GetMessages, GetError> {
        let _ = (queue, from, limits, filter, wait, out);
        todo!()
    }

    /// The record that starts at this physical offset, or `None` if no record does.
    pub fn read_record(&self, physical_offset: i64) -> Result<Option<Bytes>, ReadError> {
        let _ = physical_offset;
        todo!()
    }

    pub fn store_timestamp_at(&self, queue: &ConsumeQueue, queue_offset: i64) -> Option<i64> {
        let _ = (queue, queue_offset);
        todo!()
    }

    pub fn offset_by_time(&self, queue: &ConsumeQueue, timestamp: i64, boundary: Boundary) -> i64 {
        let _ = (queue, timestamp, boundary);
        todo!()
    }

    /// Records with this key (a KEYS piece or a unique id) stored between `begin` and `end`, through the index files.
    pub fn query(&self, topic: &str, key: &str, max_num: usize, begin: i64, end: i64) -> QueryResult {
        let _ = (topic, key, max_num, begin, end);
        todo!()
    }

    /// Physical offset after the last record written.
    pub fn written(&self) -> i64 {
        todo!()
    }

    /// Everything before this physical offset is on disk.
    pub fn flushed(&self) -> i64 {
        todo!()
    }

    /// What consumers may read and promises cover: `written` under ASYNC_FLUSH, `flushed` under SYNC_FLUSH.
    pub fn confirmed(&self) -> i64 {
        todo!()
    }

    pub fn min_physical_offset(&self) -> i64 {
        todo!()
    }

    /// Confirmed bytes whose consume-queue or index entries are still missing.
    pub fn dispatch_behind_bytes(&self) -> i64 {
        todo!()
    }

    /// `Ok` while appends are accepted, otherwise why they are not.
    pub fn writeable(&self) -> Result<(), AppendError> {
        todo!()
    }

    /// Free or occupied: how long the present append has been holding the log, 0 when idle (spec: storage.md §10.3).
    pub fn append_in_progress_ms(&self) -> u64 {
        todo!()
    }

    pub fn figures(&self) -> Figures {
        todo!()
    }

    /// Removes the consume queues of a topic. Its records stay in the log until retention.
    pub fn delete_topic(&self, topic: &str) {
        let _ = topic;
        todo!()
    }

    /// What the background threads would do now, on the calling thread. Only without background threads.
    pub fn run_background_work(&self) {
        todo!()
    }

    /// Flushes everything, writes the checkpoint and removes `abort` if nothing is left behind. Idempotent.
    pub fn shutdown(&self) {
        todo!()
    }
}
