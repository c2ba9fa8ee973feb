//! The storage trait: every byte the store reads or writes goes through it.
//!
//! Two implementations: the real disk and the simulated one, which forgets what was not flushed. The contract is that of a
//! POSIX file system taken literally: file contents are durable after `sync_data`, names after `sync_dir` of their
//! directory, and nothing else is.

mod real;
mod simulated;

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

pub use real::RealDisk;
pub use simulated::{Fault, SimulatedDisk};

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    pub name: String,
    pub is_dir: bool,
    /// Length of a file, 0 for a directory.
    pub len: u64,
}

/// Space of the partition that holds a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskUsage {
    pub used_bytes: u64,
    pub available_bytes: u64,
}

/// How a file is going to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// The whole file, here and there: nothing is read ahead.
    Random,
    /// Soon: reading may begin.
    WillNeed,
    /// Not again: memory need not keep it.
    DontNeed,
}

pub trait Disk: Debug + Send + Sync + 'static {
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Creates an empty file, or empties an existing one.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Maps a whole file for random small updates. The caller has allocated it before.
    fn map(&self, path: &Path) -> io::Result<Box<dyn MappedRegion>>;
    /// Entries by name.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;
    fn exists(&self, path: &Path) -> bool;
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Replaces `to` if it exists.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes everything on the file system below `dir` durable.
    fn sync_all_below(&self, dir: &Path) -> io::Result<()>;
    /// When a file was written last, in milliseconds since the epoch.
    fn modified_ms(&self, path: &Path) -> io::Result<i64>;
    fn usage(&self, path: &Path) -> io::Result<DiskUsage>;
    /// Takes the exclusive lock on byte 0 of the file, `WouldBlock` if somebody has it. Released by dropping.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>>;
}

pub trait DiskFile: Debug + Send + Sync {
    /// Writes all of the buffers at this offset.
    fn write_all_at(&self, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<()>;
    /// Reads until `buffer` is full or the file ends.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Reads what is in memory. May return less than asked for; `WouldBlock` when not even the first byte is there.
    fn try_read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Makes contents and length durable.
    fn sync_data(&self) -> io::Result<()>;
    fn len(&self) -> io::Result<u64>;
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts or extends with zeros, without reserving space.
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    /// Reserves space for `[0, bytes)` and extends the file to it: writes there do not run out of space.
    fn allocate(&self, bytes: u64) -> io::Result<()>;
    /// Makes a reserved range read as zeros again.
    fn zero_range(&self, offset: u64, bytes: u64) -> io::Result<()>;
    /// A hint; failing to follow it is no error. Does not wait for the disk to have read anything.
    fn advise(&self, advice: Advice, range: Range<u64>);
}

/// A file mapped into memory. Reads and writes outside of it are bugs of the caller and panic.
pub trait MappedRegion: Debug + Send + Sync {
    fn len(&self) -> usize;
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    fn bytes(&self) -> &[u8];
    fn write(&mut self, at: usize, bytes: &[u8]);
    /// Makes the contents durable.
    fn sync(&self) -> io::Result<()>;
}
