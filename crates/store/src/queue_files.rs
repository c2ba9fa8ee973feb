//! The files of all consume queues of one kind: `consumequeue/<topic>/<queueId>/<20 digits>`, sparse and of one size.
//!
//! Only the dispatch thread (or recovery, before it exists) writes; anybody reads. A bounded number of files is
//! kept open, whatever the number of queues.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;

use crate::config_file::create_dir_durably;
use crate::consume_queue::{ConsumeQueue, Entry};
use crate::disk::{Disk, DiskFile};
use crate::read::Wait;
use crate::retention::first_kept;
use crate::segments::{offset_name, parse_offset_name};
use crate::unit::{BATCH_UNIT_BYTES, Extent, QueueKind, Unit};
use crate::unit_cache::UnitCache;

/// Above this many unsynced files one sync of the file system is cheaper than one of each.
const UNSYNCED_FILES_MAX: usize = 64;

/// Smaller reads are those of a pull that takes all it sees, or of a search.
const SMALL_READ_BYTES: usize = 2048;

/// So many damaged units in a row are not taken for the end of a queue.
const DAMAGED_UNITS_MAX: i64 = 8;

#[derive(Debug)]
pub(crate) struct QueueFiles {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    kind: QueueKind,
    file_bytes: u64,
    open: Mutex<OpenFiles>,
    ahead: UnitCache,
    unsynced: Mutex<Unsynced>,
    sync_failed: AtomicBool,
}

/// A file of a queue: the queue's serial and the byte position where the file starts.
type FileKey = (u64, u64);

/// Files that are kept open. The one to give way is the first, from the oldest on, that was not used since it was passed
/// over last.
#[derive(Debug)]
struct OpenFiles {
    files: HashMap<FileKey, OpenFile>,
    by_age: VecDeque<FileKey>,
    files_max: usize,
}

#[derive(Debug)]
struct OpenFile {
    file: Arc<dyn DiskFile>,
    is_used: bool,
}

#[derive(Debug, Default)]
struct Unsynced {
    files: HashMap<FileKey, Arc<dyn DiskFile>>,
    dirs: HashSet<PathBuf>,
    /// There were too many to remember.
    everything: bool,
}

impl QueueFiles {
    /// `file_bytes` is a whole number of units.
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        store_root: &Path,
        kind: QueueKind,
        file_bytes: u64,
        open_files_max: usize,
    ) -> QueueFiles {
        QueueFiles {
            disk,
            root: store_root.join(kind.directory()),
            kind,
            file_bytes,
            open: Mutex::new(OpenFiles {
                files: HashMap::new(),
                by_age: VecDeque::new(),
                files_max: open_files_max.max(1),
            }),
            ahead: UnitCache::new(kind.unit_bytes()),
            unsynced: Mutex::default(),
            sync_failed: AtomicBool::new(false),
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    fn unit_bytes(&self) -> u64 {
        self.kind.unit_bytes() as u64
    }

    /// Topics and queue ids that have a directory.
    pub(crate) fn list(&self) -> io::Result<Vec<(String, Vec<i32>)>> {
        let mut topics = Vec::new();
        for topic in self.dirs_in(&self.root)? {
            let queue_ids = self.dirs_in(&self.root.join(&topic))?;
            let queue_ids = queue_ids.iter().filter_map(|name| name.parse().ok()).collect();
            topics.push((topic, queue_ids));
        }
        Ok(topics)
    }

    fn dirs_in(&self, dir: &Path) -> io::Result<Vec<String>> {
        match self.disk.list(dir) {
            Ok(entries) => Ok(entries
                .into_iter()
                .filter(|entry| entry.is_dir)
                .map(|entry| entry.name)
                .collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn dir(&self, topic: &str, queue_id: i32) -> PathBuf {
        self.root.join(topic).join(queue_id.to_string())
    }

    /// Finds where the units of a queue end: at the first that `belongs` refuses. With `cut`, what follows is
    /// removed, so that it cannot be taken for data later.
    pub(crate) fn load(
        &self,
        topic: &str,
        queue_id: i32,
        cut: bool,
        log_min: i64,
        belongs: &mut dyn FnMut(&Unit) -> bool,
    ) -> io::Result<Extent> {
        let dir = self.dir(topic, queue_id);
        let mut bases = self.file_bases(&dir, cut)?;
        let Some(&first) = bases.first() else {
            return Ok(Extent::default());
        };
        // A file whose name was lost ends the queue.
        let whole = bases
            .iter()
            .enumerate()
            .take_while(|(index, base)| **base == first + *index as u64 * self.file_bytes)
            .count();
        let stray = bases.split_off(whole);
        let per_file = (self.file_bytes / self.unit_bytes()) as i64;
        let first_unit = (first / self.unit_bytes()) as i64;
        let mut probe = Probe::new(self, &dir);
        let mut low = first_unit;
        let mut high = first_unit + whole as i64 * per_file;
        let units_end = high;
        // Most queues hold a small part of what fits into their files.
        let mut step = 16;
        while low + step < high && probe.goes_on(low + step, units_end, belongs)? {
            low += step + 1;
            step *= 8;
        }
        high = high.min(low + step);
        while low < high {
            let middle = low + (high - low) / 2;
            if probe.goes_on(middle, units_end, belongs)? {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let end_unit = low;
        let kept = first_kept(first_unit..end_unit, log_min, &mut |number, count| {
            probe.units(number, count)
        })?;
        let min_unit = kept.map_or(end_unit, |(number, _)| number);
        let end_offset = match end_unit {
            end if end > first_unit => probe.unit(end - 1)?.end_offset(),
            // Only simple queues start at another unit than 0 without having one.
            _ => first_unit,
        };
        let min_offset = match min_unit {
            min if min < end_unit => probe.unit(min)?.queue_offset,
            _ => end_offset,
        };
        if cut {
            self.cut(&dir, &bases, &stray, end_unit)?;
        }
        Ok(Extent {
            min_unit,
            end_unit,
            min_offset,
            end_offset,
        })
    }

    /// The last entry of a queue, as its files stand.
    pub(crate) fn last_entry(&self, topic: &str, queue_id: i32) -> io::Result<Option<Entry>> {
        let extent = self.load(topic, queue_id, false, 0, &mut |_| true)?;
        if extent.end_unit <= extent.min_unit {
            return Ok(None);
        }
        let dir = self.dir(topic, queue_id);
        let last = Probe::new(self, &dir).unit(extent.end_unit - 1)?;
        Ok(Some(last.entry))
    }

    /// Start positions of the files, ascending. A short file lost its length in a crash and gets it back.
    fn file_bases(&self, dir: &Path, repair: bool) -> io::Result<Vec<u64>> {
        let entries = match self.disk.list(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut bases = Vec::new();
        for entry in entries {
            let Some(base) = parse_offset_name(&entry.name).filter(|_| !entry.is_dir) else {
                continue;
            };
            if entry.len != self.file_bytes {
                let path = dir.join(&entry.name);
                if entry.len > self.file_bytes || !(repair || entry.len == 0) {
                    let message = format!(
                        "{}: {} bytes, configured are {}",
                        path.display(),
                        entry.len,
                        self.file_bytes
                    );
                    return Err(io::Error::new(io::ErrorKind::InvalidData, message));
                }
                self.disk.open(&path)?.set_len(self.file_bytes)?;
            }
            bases.push(base as u64);
        }
        bases.sort_unstable();
        Ok(bases)
    }

    fn cut(&self, dir: &Path, bases: &[u64], stray: &[u64], end_unit: i64) -> io::Result<()> {
        let end = end_unit as u64 * self.unit_bytes();
        for base in stray.iter().chain(bases.iter().filter(|base| **base >= end)).rev() {
            self.disk.remove_file(&dir.join(offset_name(*base as i64)))?;
        }
        if let Some(last) = bases.iter().rev().find(|base| **base < end) {
            let file = self.disk.open(&dir.join(offset_name(*last as i64)))?;
            if end < last + self.file_bytes {
                file.set_len(end - last)?;
                file.set_len(self.file_bytes)?;
            }
        }
        // Recovery makes all of it durable at once.
        self.unsynced.lock().forget_single();
        Ok(())
    }

    /// Units from this one on, as many as fit the buffer and lie in one file, of which `in_files` are in files. 0 if the file
    /// does not exist. Small reads may come out of memory.
    pub(crate) fn read(
        &self,
        queue: &ConsumeQueue,
        unit: i64,
        in_files: usize,
        buffer: &mut [u8],
        wait: Wait,
    ) -> io::Result<usize> {
        let unit_bytes = self.kind.unit_bytes();
        let position = unit as u64 * self.unit_bytes();
        let in_file = (self.file_bytes - position % self.file_bytes) as usize;
        let available = in_files.saturating_mul(unit_bytes).min(in_file);
        let len = buffer.len().min(available);
        let buffer = &mut buffer[..len];
        if len > SMALL_READ_BYTES {
            return self.read_file(queue, unit, buffer, wait);
        }
        let mut done = 0;
        while done < len {
            let read_file = |out: &mut [u8]| self.read_file(queue, unit + (done / unit_bytes) as i64, out, wait);
            let (at, rest) = (position + done as u64, &mut buffer[done..]);
            match self.ahead.read(queue.serial, at, available - done, rest, read_file) {
                Ok(0) => break,
                Ok(read) => done += read,
                // What was found so far is an answer.
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// The same from one file, whatever is in memory.
    pub(crate) fn read_file(
        &self,
        queue: &ConsumeQueue,
        unit: i64,
        buffer: &mut [u8],
        wait: Wait,
    ) -> io::Result<usize> {
        let position = unit as u64 * self.unit_bytes();
        let base = position - position % self.file_bytes;
        let file = match self.file(queue, base) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error),
        };
        let len = (buffer.len() as u64).min(base + self.file_bytes - position) as usize;
        let buffer = &mut buffer[..len];
        let read = match wait {
            Wait::Never => file.try_read_at(buffer, position - base)?,
            Wait::Allowed => file.read_at(buffer, position - base)?,
        };
        let whole = read - read % self.unit_bytes() as usize;
        // Half of a unit is no end of what is there: the other half is on a page that is not in memory.
        if whole == 0 && read > 0 && wait == Wait::Never {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(whole)
    }

    /// First unit of the file after the one that holds this one.
    pub(crate) fn next_file_unit(&self, unit: i64) -> i64 {
        let per_file = (self.file_bytes / self.unit_bytes()) as i64;
        (unit / per_file + 1) * per_file
    }

    /// Writes units behind those that are there, creating files as needed.
    pub(crate) fn write(&self, queue: &ConsumeQueue, first_unit: i64, mut entries: &[u8]) -> io::Result<()> {
        let mut position = first_unit as u64 * self.unit_bytes();
        while !entries.is_empty() {
            let base = position - position % self.file_bytes;
            let room = (base + self.file_bytes - position) as usize;
            let (now, rest) = entries.split_at(entries.len().min(room));
            let file = match self.file(queue, base) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.create(queue, base, position - base)?,
                other => other?,
            };
            file.write_all_at(&[IoSlice::new(now)], position - base)?;
            self.remember_unsynced((queue.serial, base), file);
            position += now.len() as u64;
            entries = rest;
        }
        Ok(())
    }

    fn file(&self, queue: &ConsumeQueue, base: u64) -> io::Result<Arc<dyn DiskFile>> {
        let key = (queue.serial, base);
        if let Some(file) = self.open.lock().get(key) {
            return Ok(file);
        }
        let path = self.dir(queue.topic(), queue.queue_id()).join(offset_name(base as i64));
        let file = self.disk.open(&path)?;
        self.open.lock().insert(key, Arc::clone(&file));
        Ok(file)
    }

    /// A new file, with fillers before its first entry.
    fn create(&self, queue: &ConsumeQueue, base: u64, filler_bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let dir = self.dir(queue.topic(), queue.queue_id());
        if !self.disk.exists(&dir) {
            if !self.disk.exists(&self.root) {
                create_dir_durably(&*self.disk, &self.root)?;
            }
            self.disk.create_dir_all(&dir)?;
            let new_names = dir
                .ancestors()
                .skip(1)
                .take_while(|above| above.starts_with(&self.root));
            self.unsynced.lock().add_dirs(new_names.map(Path::to_path_buf));
        }
        let path = dir.join(offset_name(base as i64));
        let file = self.disk.create(&path)?;
        if let Err(error) = self.prepare(&*file, filler_bytes) {
            // Found short or without its fillers, it would be taken for something else.
            let _ = self.disk.remove_file(&path);
            return Err(error);
        }
        self.unsynced.lock().add_dirs([dir]);
        self.open.lock().insert((queue.serial, base), Arc::clone(&file));
        Ok(file)
    }

    fn prepare(&self, file: &dyn DiskFile, filler_bytes: u64) -> io::Result<()> {
        file.set_len(self.file_bytes)?;
        if filler_bytes == 0 {
            return Ok(());
        }
        debug_assert_eq!(self.kind, QueueKind::Simple, "batch queues grow without gaps");
        let fillers = Entry::FILLER
            .encode()
            .repeat((filler_bytes / self.unit_bytes()) as usize);
        file.write_all_at(&[IoSlice::new(&fillers)], 0)
    }

    fn remember_unsynced(&self, key: FileKey, file: Arc<dyn DiskFile>) {
        let mut unsynced = self.unsynced.lock();
        if unsynced.everything {
            return;
        }
        unsynced.files.insert(key, file);
        if unsynced.files.len() > UNSYNCED_FILES_MAX {
            unsynced.forget_single();
        }
    }

    /// Makes durable what was written before the call.
    ///
    /// Once this has failed it always does: the kernel forgets what it could not write, and would call the next try a success.
    /// The recovery position stays, and the next start writes the entries again.
    pub(crate) fn sync(&self) -> io::Result<()> {
        if self.sync_failed.load(Ordering::Acquire) {
            return Err(io::Error::other(
                "consume queues could not be made durable before: the next start writes them again",
            ));
        }
        let unsynced = std::mem::take(&mut *self.unsynced.lock());
        let done = self.sync_these(&unsynced);
        if done.is_err() {
            self.sync_failed.store(true, Ordering::Release);
        }
        done
    }

    fn sync_these(&self, unsynced: &Unsynced) -> io::Result<()> {
        if unsynced.everything {
            return self.disk.sync_all_below(&self.root);
        }
        for file in unsynced.files.values() {
            file.sync_data()?;
        }
        for dir in &unsynced.dirs {
            match self.disk.sync_dir(dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Number of files of a queue.
    pub(crate) fn count(&self, topic: &str, queue_id: i32) -> io::Result<usize> {
        Ok(self.file_bases(&self.dir(topic, queue_id), false)?.len())
    }

    /// Removes the first file of a queue if all its units lie before `min_unit` and it is not the last. With `sync_first`
    /// another removal is made durable before: a file that came back in front of a gap would hide what follows it.
    pub(crate) fn remove_first(&self, queue: &ConsumeQueue, min_unit: i64, sync_first: bool) -> io::Result<bool> {
        let dir = self.dir(queue.topic(), queue.queue_id());
        let bases = self.file_bases(&dir, false)?;
        let [first, _, ..] = bases[..] else { return Ok(false) };
        if first + self.file_bytes > min_unit as u64 * self.unit_bytes() {
            return Ok(false);
        }
        if sync_first {
            self.disk.sync_dir(&dir)?;
        }
        let key = (queue.serial, first);
        self.open.lock().files.remove(&key);
        self.unsynced.lock().files.remove(&key);
        self.disk.remove_file(&dir.join(offset_name(first as i64)))?;
        Ok(true)
    }

    /// Removes the files of a queue.
    pub(crate) fn remove(&self, queue: &ConsumeQueue) -> io::Result<()> {
        self.open.lock().close_all_of(queue.serial);
        self.unsynced.lock().files.retain(|key, _| key.0 != queue.serial);
        let dir = self.dir(queue.topic(), queue.queue_id());
        for entry in self.disk.list(&dir)? {
            self.disk.remove_file(&dir.join(entry.name))?;
        }
        self.ahead.forget(queue.serial);
        self.disk.sync_dir(&dir)?;
        self.disk.remove_dir(&dir)
    }

    /// Removes the directory of a topic whose queues are gone.
    pub(crate) fn remove_topic(&self, topic: &str) -> io::Result<()> {
        self.disk.remove_dir(&self.root.join(topic))?;
        self.disk.sync_dir(&self.root)
    }
}

/// Reads single units of one queue that is not in use yet.
struct Probe<'a> {
    files: &'a QueueFiles,
    dir: &'a Path,
    open: Option<(u64, Arc<dyn DiskFile>)>,
}

impl Unsynced {
    /// From now on everything counts as unsynced.
    fn forget_single(&mut self) {
        self.files.clear();
        self.dirs.clear();
        self.everything = true;
    }

    fn add_dirs(&mut self, dirs: impl IntoIterator<Item = PathBuf>) {
        if !self.everything {
            self.dirs.extend(dirs);
        }
    }
}

impl<'a> Probe<'a> {
    fn new(files: &'a QueueFiles, dir: &'a Path) -> Probe<'a> {
        Probe { files, dir, open: None }
    }

    fn file_at(&mut self, number: i64) -> io::Result<(u64, Arc<dyn DiskFile>)> {
        let position = number as u64 * self.files.unit_bytes();
        let base = position - position % self.files.file_bytes;
        let file = match self.open.take() {
            Some((open, file)) if open == base => file,
            _ => self.files.disk.open(&self.dir.join(offset_name(base as i64)))?,
        };
        self.open = Some((base, Arc::clone(&file)));
        Ok((position - base, file))
    }

    fn unit(&mut self, number: i64) -> io::Result<Unit> {
        let (at, file) = self.file_at(number)?;
        let mut bytes = [0; BATCH_UNIT_BYTES];
        let bytes = &mut bytes[..self.files.kind.unit_bytes()];
        file.read_at(bytes, at)?;
        Ok(self.files.kind.decode(number, bytes))
    }

    /// Does the queue hold this unit or, behind a few damaged ones, a later one?
    fn goes_on(&mut self, number: i64, end: i64, belongs: &mut dyn FnMut(&Unit) -> bool) -> io::Result<bool> {
        let mut only_fillers = true;
        let mut at = number;
        let last = end.min(number + DAMAGED_UNITS_MAX);
        while at < last {
            let units = self.units(at, (last - at) as usize)?;
            at += units.len() as i64;
            for unit in units.iter().filter(|unit| !unit.entry.is_filler()) {
                only_fillers = false;
                // What is neither nothing nor a unit is a damaged one.
                if !unit.is_blank() && belongs(unit) {
                    return Ok(true);
                }
            }
        }
        Ok(only_fillers && number < end)
    }

    /// At least one unit, at most `count`.
    fn units(&mut self, number: i64, count: usize) -> io::Result<Vec<Unit>> {
        let (at, file) = self.file_at(number)?;
        let unit_bytes = self.files.kind.unit_bytes();
        let count = count.min(((self.files.file_bytes - at) / unit_bytes as u64) as usize);
        let mut bytes = vec![0; count * unit_bytes];
        file.read_at(&mut bytes, at)?;
        let units = bytes.chunks_exact(unit_bytes).zip(number..);
        Ok(units
            .map(|(bytes, number)| self.files.kind.decode(number, bytes))
            .collect())
    }
}

impl OpenFiles {
    fn get(&mut self, key: FileKey) -> Option<Arc<dyn DiskFile>> {
        let open = self.files.get_mut(&key)?;
        open.is_used = true;
        Some(Arc::clone(&open.file))
    }

    fn insert(&mut self, key: FileKey, file: Arc<dyn DiskFile>) {
        while self.files.len() >= self.files_max
            && let Some(oldest) = self.by_age.pop_front()
        {
            match self.files.get_mut(&oldest) {
                Some(open) if open.is_used => {
                    open.is_used = false;
                    self.by_age.push_back(oldest);
                }
                Some(_) => {
                    self.files.remove(&oldest);
                }
                None => {}
            }
        }
        let open = OpenFile { file, is_used: false };
        if self.files.insert(key, open).is_none() {
            self.by_age.push_back(key);
        }
    }

    fn close_all_of(&mut self, serial: u64) {
        self.files.retain(|key, _| key.0 != serial);
        self.by_age.retain(|key| key.0 != serial);
    }
}
