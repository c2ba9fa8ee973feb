//! The message store: one commit log, and the consume queues, index files and checkpoint that are derived from it.
//!
//! Owns every byte below `storePathRootDir` except the meaning of the JSON files. Formats are RocketMQ's
//! (spec: storage.md), so that a Java broker can take a directory over and hand it back.
//!
//! Promises: positions only grow, `confirmed ≤ written`, `flushed ≤ written`; what SYNC_FLUSH acknowledged survives a
//! power cut, what either mode acknowledged survives a killed process; a record never leaves with a wrong body CRC; a
//! failed write or flush stops all further appends. Knows nothing of sockets, tokio, groups or topic configuration.

pub mod append;
mod background;
mod batch_read;
mod block_cache;
mod checkpoint;
mod checksums;
mod cold_area;
mod cold_windows;
mod collect;
mod commit_log;
mod compaction;
pub mod config;
pub mod config_file;
mod consume_queue;
mod cursor;
mod damage;
pub mod disk;
mod dispatch;
pub mod error;
mod flush_group;
mod foreign;
mod index;
mod index_file;
pub mod log_scan;
mod mapped_file;
pub mod offline;
mod queue_files;
mod queues;
pub mod read;
mod read_path;
mod recovery;
mod retention;
mod scan_since;
mod scrub;
mod segments;
mod store;
mod tail;
pub mod timer;
mod unit;
mod unit_cache;

pub use append::{AppendBatch, AppendEntry, Extra, TagsCode};
pub use compaction::CompactionReport;
pub use config::{Clock, FlushDiskType, ReplayObserver, StoreConfig};
pub use consume_queue::ConsumeQueue;
pub use error::{AppendError, GetError, OpenError, ReadError, StoreFailure};
pub use read::{Boundary, Codes, ColdArea, GetLimits, GetMessages, GetStatus, MessageFilter, QueryResult, Wait};
pub use read_path::RecordReader;
pub use recovery::RecoveryProgress;
pub use retention::{CleanReport, DeletionReason, Expiry, HourSet, RetentionSettings, SpaceFigures, hour_of_day};
pub use scrub::ScrubProgress;
pub use store::{Figures, MessageStore, RecoveryReport, StoreListener};
pub use unit::QueueKind;
