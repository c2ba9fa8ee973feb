//! The files of the commit log: names, sizes, creation ahead of need (spec: storage.md §2, §10.2).

use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use crate::config::{FlushDiskType, StoreConfig};
use crate::config_file::create_dir_durably;
use crate::disk::{Advice, Disk, DiskFile};
use crate::error::OpenError;

/// One commit log file, of full size from its first moment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) base: i64,
    pub(crate) end: i64,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
}

impl Segment {
    /// Readers say themselves what is to be read ahead: see [`crate::cold_windows`].
    pub(crate) fn read_by_windows(&self) {
        self.file.advise(Advice::Random, 0..(self.end - self.base) as u64);
    }

    /// Reads a part that nobody else may want. What was not in the page cache before is not there afterwards.
    pub(crate) fn read_once(&self, buffer: &mut [u8], from: i64) -> io::Result<usize> {
        let at = (from - self.base) as u64;
        let cached = match self.file.try_read_at(buffer, at) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            other => other?,
        };
        if cached == buffer.len() {
            return Ok(cached);
        }
        let missing = at + cached as u64;
        let read = self.file.read_at(&mut buffer[cached..], missing)?;
        let first_page = missing / PAGE_BYTES * PAGE_BYTES;
        self.file.advise(Advice::DontNeed, first_page..missing + read as u64);
        Ok(cached + read)
    }

    /// Reads a part by any number of reads, in the same way: of each stretch of so many bytes that is not all in the page
    /// cache, what lies behind its first missing page is forgotten.
    pub(crate) fn look_once<T>(&self, part: Range<i64>, stretch: i64, look: impl FnOnce() -> T) -> T {
        let mut buffer = vec![0; stretch as usize];
        let starts = (part.start..part.end).step_by(stretch as usize);
        let missing: Vec<Range<u64>> = starts
            .filter_map(|start| {
                let (at, end) = (
                    (start - self.base) as u64,
                    (part.end.min(start + stretch) - self.base) as u64,
                );
                let cached = self.file.try_read_at(&mut buffer[..(end - at) as usize], at);
                let missing = at + cached.unwrap_or(0) as u64;
                (missing < end).then(|| missing / PAGE_BYTES * PAGE_BYTES..end)
            })
            .collect();
        let outcome = look();
        for part in missing {
            self.file.advise(Advice::DontNeed, part);
        }
        outcome
    }
}

/// What the page cache forgets at the least.
const PAGE_BYTES: u64 = 4096;

/// Distance kept ahead of the records, and what a new file starts with.
const ZEROED_BYTES: i64 = 16 * 1024 * 1024;

#[derive(Debug)]
pub(crate) struct Segments {
    disk: Arc<dyn Disk>,
    dirs: Vec<PathBuf>,
    file_bytes: i64,
    zeroed_bytes: i64,
    /// Ascending and without gaps.
    list: RwLock<Vec<Arc<Segment>>>,
    /// The file after the last one, created before it is needed. Held while one is being created, so that an append that
    /// needs it waits for that one instead of creating another.
    prepared: Mutex<Option<Arc<Segment>>>,
    /// Which folders take no new files, in the order of `dirs`.
    full_folders: Mutex<Vec<bool>>,
}

/// A file name of 20 digits (spec: storage.md §2.1).
pub(crate) fn offset_name(offset: i64) -> String {
    format!("{offset:020}")
}

pub(crate) fn parse_offset_name(name: &str) -> Option<i64> {
    let all_digits = name.len() == 20 && name.bytes().all(|byte| byte.is_ascii_digit());
    all_digits.then(|| name.parse().ok()).flatten()
}

impl Segments {
    /// Opens what is there. A last file that is empty or, after an unclean stop, short holds nothing: a file gets its
    /// size before its first record. Any other length was not written with this configuration.
    pub(crate) fn load(disk: Arc<dyn Disk>, config: &StoreConfig, clean: bool) -> Result<Segments, OpenError> {
        let mut dirs = config.commit_log_dirs.clone();
        dirs.sort();
        let mut found = Vec::new();
        for dir in &dirs {
            create_dir_durably(&*disk, dir).map_err(|source| io_error(dir, source))?;
            for entry in disk.list(dir).map_err(|source| io_error(dir, source))? {
                if let (false, Some(base)) = (entry.is_dir, parse_offset_name(&entry.name)) {
                    found.push((base, entry.len, dir.join(&entry.name)));
                }
            }
        }
        found.sort();
        let expected = config.commit_log_file_bytes;
        let mut list: Vec<Arc<Segment>> = Vec::new();
        let count = found.len();
        for (number, (base, len, path)) in found.into_iter().enumerate() {
            if len != expected {
                let unused = number + 1 == count && (len == 0 || (!clean && len < expected));
                if !unused {
                    return Err(OpenError::WrongFileSize {
                        path,
                        actual: len,
                        expected,
                    });
                }
                disk.remove_file(&path).map_err(|source| io_error(&path, source))?;
                continue;
            }
            if let Some(previous) = list.last().filter(|previous| previous.end != base) {
                tracing::error!(path = %path.display(), expected = previous.end, "commit log files leave a gap");
            }
            let file = disk.open(&path).map_err(|source| io_error(&path, source))?;
            list.push(Arc::new(Segment {
                base,
                end: base + expected as i64,
                path,
                file,
            }));
        }
        Ok(Segments {
            disk,
            dirs,
            file_bytes: expected as i64,
            zeroed_bytes: match config.flush_disk_type {
                FlushDiskType::Sync => ZEROED_BYTES.min(expected as i64),
                FlushDiskType::Async => 0,
            },
            list: RwLock::new(list),
            prepared: Mutex::new(None),
            full_folders: Mutex::default(),
        })
    }

    pub(crate) fn file_bytes(&self) -> i64 {
        self.file_bytes
    }

    /// Bytes ahead of the records that are written with zeros, 0 when that has no use.
    pub(crate) fn zeroed_bytes(&self) -> i64 {
        self.zeroed_bytes
    }

    pub(crate) fn all(&self) -> Vec<Arc<Segment>> {
        self.list.read().clone()
    }

    pub(crate) fn last(&self) -> Option<Arc<Segment>> {
        self.list.read().last().cloned()
    }

    /// Start of the oldest file.
    pub(crate) fn min(&self) -> i64 {
        self.list.read().first().map_or(0, |first| first.base)
    }

    /// The oldest file, unless it is also the last.
    pub(crate) fn oldest_of_several(&self) -> Option<Arc<Segment>> {
        let list = self.list.read();
        list.first().filter(|_| list.len() > 1).cloned()
    }

    /// Forgets the oldest file, whose name is gone. Who has it open goes on reading.
    pub(crate) fn drop_first(&self, base: i64) {
        let mut list = self.list.write();
        if list.len() > 1 && list[0].base == base {
            list.remove(0);
        }
    }

    pub(crate) fn set_full_folders(&self, full_folders: Vec<bool>) {
        *self.full_folders.lock() = full_folders;
    }

    /// Where the file that starts at `base` goes (spec: storage.md §2.3).
    fn folder_of(&self, base: i64) -> &PathBuf {
        let full_folders = self.full_folders.lock();
        let is_open = |index: usize| !full_folders.get(index).copied().unwrap_or(false);
        let open: Vec<usize> = (0..self.dirs.len()).filter(|index| is_open(*index)).collect();
        let number = (base / self.file_bytes) as usize;
        match open.len() {
            0 => &self.dirs[number % self.dirs.len()],
            count => &self.dirs[open[number % count]],
        }
    }

    /// The file that holds this position.
    pub(crate) fn at(&self, physical_offset: i64) -> Option<Arc<Segment>> {
        let list = self.list.read();
        let index = list.partition_point(|segment| segment.end <= physical_offset);
        list.get(index)
            .filter(|segment| segment.base <= physical_offset)
            .cloned()
    }

    /// The files with positions in this range.
    pub(crate) fn within(&self, from: i64, to: i64) -> Vec<Arc<Segment>> {
        let list = self.list.read();
        list.iter()
            .filter(|segment| segment.end > from && segment.base < to)
            .cloned()
            .collect()
    }

    /// Advice on a part of the log that may lie in several files.
    pub(crate) fn advise(&self, advice: Advice, range: &Range<i64>) {
        if range.is_empty() {
            return;
        }
        for segment in self.within(range.start, range.end) {
            let (from, to) = (range.start.max(segment.base), range.end.min(segment.end));
            let within = (from - segment.base) as u64..(to - segment.base) as u64;
            segment.file.advise(advice, within);
        }
    }

    /// The file that starts at `base`, prepared or created now. It joins the list with [`Segments::push`].
    pub(crate) fn take_next(&self, base: i64) -> io::Result<Arc<Segment>> {
        let mut prepared = self.prepared.lock();
        match prepared.take() {
            Some(segment) if segment.base == base => Ok(segment),
            _ => self.create(base),
        }
    }

    /// Hands a file back that was taken and not used.
    pub(crate) fn put_back(&self, segment: Arc<Segment>) {
        *self.prepared.lock() = Some(segment);
    }

    pub(crate) fn push(&self, segment: Arc<Segment>) {
        self.list.write().push(segment);
    }

    /// Creates the file after the last one, unless that was done already.
    pub(crate) fn prepare_next(&self) -> io::Result<()> {
        let mut prepared = self.prepared.lock();
        let base = self.last().map_or(0, |last| last.end);
        if prepared.as_ref().is_none_or(|segment| segment.base != base) {
            *prepared = Some(self.create(base)?);
        }
        Ok(())
    }

    /// Is the file that starts at `base` there already? A file being created counts.
    pub(crate) fn is_prepared(&self, base: i64) -> bool {
        let prepared = self.prepared.try_lock();
        prepared.is_none_or(|prepared| prepared.as_ref().is_some_and(|segment| segment.base == base))
    }

    /// Removes the prepared file, so that a clean directory ends with a file in use.
    pub(crate) fn discard_prepared(&self) -> io::Result<()> {
        match self.prepared.lock().take() {
            Some(segment) => self.remove(&segment),
            None => Ok(()),
        }
    }

    /// Drops the files that start at or after `end`, newest first.
    pub(crate) fn truncate(&self, end: i64) -> io::Result<()> {
        let mut list = self.list.write();
        while let Some(last) = list.last().filter(|last| last.base >= end) {
            self.remove(last)?;
            list.pop();
        }
        Ok(())
    }

    fn remove(&self, segment: &Segment) -> io::Result<()> {
        self.disk.remove_file(&segment.path)?;
        self.disk.sync_dir(segment.path.parent().unwrap_or(Path::new("/")))
    }

    fn zero_start(&self, file: &dyn DiskFile) -> io::Result<()> {
        if self.zeroed_bytes == 0 {
            return Ok(());
        }
        file.write_all_at(&[IoSlice::new(&vec![0; self.zeroed_bytes as usize])], 0)
    }

    /// A new file, full size and durable in name and length before anything is written to it.
    fn create(&self, base: i64) -> io::Result<Arc<Segment>> {
        let dir = self.folder_of(base);
        let path = dir.join(offset_name(base));
        let file = self.disk.create(&path)?;
        let ready = file
            .allocate(self.file_bytes as u64)
            .and_then(|()| self.zero_start(&*file))
            .and_then(|()| file.sync_data())
            .and_then(|()| self.disk.sync_dir(dir));
        if let Err(error) = ready {
            // A file of another size would keep a Java broker from starting. If removing fails too, the next start sees
            // a short last file and removes it.
            let _ = self.disk.remove_file(&path);
            return Err(error);
        }
        let segment = Segment {
            base,
            end: base + self.file_bytes,
            path,
            file,
        };
        segment.read_by_windows();
        Ok(Arc::new(segment))
    }
}

pub(crate) fn io_error(path: &Path, source: io::Error) -> OpenError {
    OpenError::Io {
        path: path.to_path_buf(),
        source,
    }
}
