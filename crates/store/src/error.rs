//! Why an operation of the store did not happen, one enum per operation.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use crate::retention::SpaceFigures;

/// A write or flush of the commit log failed. The store refuses appends from then on: what the kernel kept of the
/// data is unknown, and a second flush could report success for pages it dropped.
#[derive(Debug, Clone, Error)]
#[error("commit log failed: {operation} at {physical_offset}: {source}")]
pub struct StoreFailure {
    pub operation: &'static str,
    pub physical_offset: i64,
    pub source: Arc<io::Error>,
}

#[derive(Debug, Error)]
pub enum OpenError {
    #[error("lock failed on {path}: the directory is used by another broker")]
    Locked { path: PathBuf },
    #[error("{path} was written with {feature}, which this store does not read")]
    Unsupported { path: PathBuf, feature: &'static str },
    #[error("{path} has {actual} bytes, configured are {expected}")]
    WrongFileSize { path: PathBuf, actual: u64, expected: u64 },
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

#[derive(Debug, Clone, Error)]
pub enum AppendError {
    #[error("the store is shut down")]
    ShutDown,
    /// With how full the disk was when that was measured last.
    #[error("no space left on the disk [{0}]")]
    DiskFull(SpaceFigures),
    #[error("records of {bytes} bytes do not fit into one file of {file_bytes}")]
    TooLarge { bytes: u64, file_bytes: u64 },
    #[error("the files of consume queue {queue_id} of {topic} cannot be read")]
    QueueUnreadable { topic: Arc<str>, queue_id: i32 },
    #[error("next commit log file: {0}")]
    CreateFile(Arc<io::Error>),
    #[error(transparent)]
    Failed(#[from] StoreFailure),
}

#[derive(Debug, Error)]
pub enum GetError {
    /// The data are not in memory and [`crate::Wait::Never`] was asked for: repeat on a thread that may wait.
    #[error("the disk is needed")]
    WouldBlock,
    #[error("the store is shut down")]
    ShutDown,
    #[error(transparent)]
    Io(io::Error),
}

#[derive(Debug, Error)]
pub enum ReadError {
    #[error("the record at {physical_offset} is damaged")]
    Damaged { physical_offset: i64 },
    #[error(transparent)]
    Io(#[from] io::Error),
}
