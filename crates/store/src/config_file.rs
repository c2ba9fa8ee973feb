//! Whole files that must never be found half written: the JSON files below `config/` (spec: storage.md §18.1).

use std::io;
use std::path::Path;

use crate::disk::Disk;

/// The file's bytes, or those of its `.bak` when the file is missing, empty or refused by `accept`; `None` when
/// neither will do.
pub fn load<T>(disk: &dyn Disk, path: &Path, accept: impl Fn(&[u8]) -> Option<T>) -> io::Result<Option<T>> {
    let _ = (disk, path, accept);
    todo!()
}

/// Replaces the file: temporary file, flush, previous version kept as `.bak`, rename, flush of the directory.
pub fn save(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let _ = (disk, path, bytes);
    todo!()
}
