//! The values a store runs with, already checked. Defaults are those of the Java broker (spec: storage.md §2.4, §10).

use std::path::PathBuf;
use std::sync::Arc;

use crate::recovery::RecoveryProgress;
use crate::retention::RetentionSettings;
use crate::unit::QueueKind;
use oxmq_protocol::record::RecordRef;

/// The kind that new queues of a topic are of.
pub type QueueKindOf = Arc<dyn Fn(&str) -> QueueKind + Send + Sync>;

/// Wall clock in milliseconds since the epoch.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Sees every record that a recovery replays, in the order of the log.
pub type ReplayObserver = Arc<dyn Fn(&RecordRef<'_>) + Send + Sync>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FlushDiskType {
    /// Records are visible once written; a flush follows within [`StoreConfig::flush_interval_ms`].
    #[default]
    Async,
    /// Records are visible once flushed.
    Sync,
}

#[derive(Clone)]
pub struct StoreConfig {
    /// `storePathRootDir`.
    pub root: PathBuf,
    /// `storePathCommitLog`, split; new file number i goes to entry `i mod n` of the sorted list.
    pub commit_log_dirs: Vec<PathBuf>,
    /// `mappedFileSizeCommitLog`.
    pub commit_log_file_bytes: u64,
    /// `mappedFileSizeConsumeQueue`, a multiple of 20.
    pub consume_queue_file_bytes: u64,
    /// `mapperFileSizeBatchConsumeQueue`, a multiple of 46.
    pub batch_consume_queue_file_bytes: u64,
    pub queue_kind_of: QueueKindOf,
    /// `enableMultiDispatch` together with `enableLmq`: records enter the light queues that they name.
    pub multi_dispatch: bool,
    pub flush_disk_type: FlushDiskType,
    /// `flushIntervalCommitLog`.
    pub flush_interval_ms: u64,
    /// `flushCommitLogLeastPages`: fewer dirty pages wait for the thorough interval.
    pub flush_least_pages: u64,
    /// `flushCommitLogThoroughInterval`.
    pub flush_thorough_interval_ms: u64,
    /// `syncFlushTimeout`. The store never waits for it; it is here for those who hold replies back.
    pub sync_flush_timeout_ms: u64,
    /// Consume-queue entries stay at most this long in memory only.
    pub dispatch_interval_ms: u64,
    /// How often consume queues are forced to disk and the recovery position moves.
    pub checkpoint_interval_ms: u64,
    /// `messageIndexEnable`.
    pub index_enabled: bool,
    /// `maxHashSlotNum`.
    pub index_slots: u32,
    /// `maxIndexNum`.
    pub index_entries: u32,
    /// Delay of level 1, 2, …, from `messageDelayLevel`.
    pub delay_levels_ms: Vec<u64>,
    /// `maxMessageSize`.
    pub message_bytes_max: usize,
    /// Newest part of the log that stays in memory for readers.
    pub tail_bytes: usize,
    /// Memory for older parts of the log, filled from the page cache.
    pub block_cache_bytes: usize,
    /// Consume-queue files kept open.
    pub open_files_max: usize,
    /// `maxTransferBytesOnMessageInMemory`.
    pub transfer_bytes_in_memory_max: usize,
    /// `maxTransferCountOnMessageInMemory`.
    pub transfer_count_in_memory_max: usize,
    /// `maxTransferBytesOnMessageInDisk`.
    pub transfer_bytes_on_disk_max: usize,
    /// `maxTransferCountOnMessageInDisk`.
    pub transfer_count_on_disk_max: usize,
    /// `maxFilterMessageSize`: bytes of queue entries looked at for one get.
    pub filter_scan_bytes: usize,
    /// `accessMessageInMemoryMaxRatio`, percent of the physical memory.
    pub access_message_in_memory_max_ratio: u64,
    /// What the store begins with; [`crate::MessageStore::set_retention`] replaces it.
    pub retention: RetentionSettings,
    /// OxMQ's own: bytes of the log that are looked at for damage in a second; 0 for never.
    pub scrub_bytes_per_second: u64,
    /// OxMQ's own: from the start of one pass over the log to that of the next.
    pub scrub_interval_ms: u64,
    pub clock: Clock,
    /// With one, the recovery position stays where it is after the start until
    /// [`crate::MessageStore::release_recovery_position`]: what was shown to the observer is shown again by the next start
    /// unless its owner has made something durable of it.
    pub replay_observer: Option<ReplayObserver>,
    /// Kept up to date while the store is opened.
    pub recovery_progress: Arc<RecoveryProgress>,
    /// False: no thread is started, and the owner calls [`crate::MessageStore::run_background_work`]. For simulations.
    pub background_threads: bool,
}

impl StoreConfig {
    pub fn new(root: impl Into<PathBuf>) -> StoreConfig {
        let root = root.into();
        StoreConfig {
            commit_log_dirs: vec![root.join("commitlog")],
            root,
            commit_log_file_bytes: 1 << 30,
            consume_queue_file_bytes: 6_000_000,
            batch_consume_queue_file_bytes: 13_800_000,
            queue_kind_of: Arc::new(|_| QueueKind::Simple),
            multi_dispatch: false,
            flush_disk_type: FlushDiskType::Async,
            flush_interval_ms: 500,
            flush_least_pages: 4,
            flush_thorough_interval_ms: 10_000,
            sync_flush_timeout_ms: 5_000,
            dispatch_interval_ms: 200,
            checkpoint_interval_ms: 1_000,
            index_enabled: true,
            index_slots: 5_000_000,
            index_entries: 20_000_000,
            delay_levels_ms: DELAY_LEVELS_S.iter().map(|seconds| seconds * 1_000).collect(),
            message_bytes_max: 4 * 1024 * 1024,
            tail_bytes: 8 * 1024 * 1024,
            block_cache_bytes: 16 * 1024 * 1024,
            open_files_max: 512,
            transfer_bytes_in_memory_max: 256 * 1024,
            transfer_count_in_memory_max: 32,
            transfer_bytes_on_disk_max: 64 * 1024,
            transfer_count_on_disk_max: 8,
            filter_scan_bytes: 16_000,
            access_message_in_memory_max_ratio: 40,
            retention: RetentionSettings::default(),
            scrub_bytes_per_second: 4 << 20,
            scrub_interval_ms: 7 * 86_400_000,
            clock: Arc::new(system_time_ms),
            replay_observer: None,
            recovery_progress: Arc::default(),
            background_threads: true,
        }
    }
}

/// `1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h` (spec: storage.md §15).
const DELAY_LEVELS_S: [u64; 18] = [
    1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1_200, 1_800, 3_600, 7_200,
];

fn system_time_ms() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_millis() as i64)
}
