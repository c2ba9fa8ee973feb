//! All index files and their growth: a follower of the log that is told nothing and looks for itself.
//!
//! ```text
//! durable ≤ position ≤ confirmed
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use oxmq_protocol::record::RecordRef;
use parking_lot::{Mutex, RwLock};

use crate::commit_log::CommitLog;
use crate::config::StoreConfig;
use crate::config_file::create_dir_durably;
use crate::disk::{Advice, DirEntry, Disk};
use crate::dispatch;
use crate::index_file::{IndexFile, IndexHeader, IndexKey, IndexShape, key_hash, topic_hash};

/// Bytes of the log that one step takes in.
const STEP_BYTES: usize = 4 * 1024 * 1024;

const DROPPED_DIRECTORY: &str = "index.dropped";

/// Keys that are put into a file at once.
const KEYS_AT_ONCE: usize = 2048;

pub(crate) struct Index {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// Files that are on their way out.
    dropped: PathBuf,
    shape: IndexShape,
    enabled: bool,
    clock: crate::config::Clock,
    files: RwLock<Vec<Arc<IndexFile>>>,
    /// The log before this is in the files.
    position: AtomicI64,
    durable: Mutex<IndexMark>,
}

/// How far the index is on disk: enough to rebuild the newest file from there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct IndexMark {
    pub(crate) position: i64,
    /// Name of the newest file, 0 when there is none.
    pub(crate) file: i64,
    pub(crate) count: i32,
    pub(crate) end_timestamp: i64,
}

impl Index {
    /// Opens the files. `durable` is what the checkpoint knows; after an unclean stop what goes beyond is dropped.
    /// Without such knowledge files younger than `index_timestamp` are, as in Java. A Java broker that starts after an
    /// unclean stop may have dropped the marked file, and never enters what was in it again: then its files go as well.
    pub(crate) fn load(
        disk: Arc<dyn Disk>,
        config: &StoreConfig,
        clean: bool,
        durable: Option<IndexMark>,
        index_timestamp: i64,
        log_min: i64,
    ) -> io::Result<Index> {
        let index = Index {
            disk,
            dir: config.root.join("index"),
            dropped: config.root.join(DROPPED_DIRECTORY),
            shape: IndexShape {
                slots: config.index_slots,
                // Entry 0 is never used: a file of one entry would hold none.
                entries: config.index_entries.max(2),
            },
            enabled: config.index_enabled,
            clock: Arc::clone(&config.clock),
            files: RwLock::default(),
            position: AtomicI64::new(0),
            durable: Mutex::default(),
        };
        if !index.enabled {
            return Ok(index);
        }
        create_dir_durably(&*index.disk, &index.dir)?;
        let mut listed = index.disk.list(&index.dir)?;
        listed.retain(|entry| !entry.is_dir && entry.name.len() == NAME_DIGITS);
        let is_lost = durable.is_some_and(|mark| {
            let is_marked = |entry: &DirEntry| entry.name.parse() == Ok(mark.file);
            mark.file != 0 && mark.position > log_min && !listed.iter().any(is_marked)
        });
        let clean = clean && !is_lost;
        let mut files = Vec::new();
        for entry in listed {
            let Ok(name) = entry.name.parse::<i64>() else {
                continue;
            };
            let path = index.dir.join(&entry.name);
            let wanted = !(durable.is_some_and(|durable| !clean && name > durable.file));
            if entry.len != index.shape.file_bytes() || !wanted {
                tracing::warn!(path = %path.display(), bytes = entry.len, "index file is dropped");
                index.drop_file(&path)?;
                continue;
            }
            files.push(index.open(name, path)?);
        }
        if !clean && durable.is_none() {
            for file in files.extract_if(.., |file| file.header().end_timestamp > index_timestamp) {
                index.drop_file(&file.path)?;
            }
        }
        *index.files.write() = files;
        Ok(index)
    }

    /// Sets where the index goes on: behind the mark of the checkpoint, if its file is still the newest; after a clean stop
    /// of a Java broker that has added files, at `from`; otherwise where the files that are left end.
    pub(crate) fn resume(&self, mark: Option<IndexMark>, from: i64, clean: bool) {
        let newest = self.files.read().last().map(|file| (file.name, file.header()));
        let newest_name = newest.map_or(0, |(name, _)| name);
        let durable = match mark {
            Some(mark) if mark.file == newest_name => mark,
            other => {
                let end = newest.map_or(0, |(_, header)| header.end_physical_offset);
                let is_whole = clean && other.is_none_or(|mark| mark.file < newest_name);
                IndexMark {
                    position: if is_whole { from } else { end.min(from) },
                    file: newest_name,
                    count: newest.map_or(0, |(_, header)| header.count),
                    end_timestamp: newest.map_or(0, |(_, header)| header.end_timestamp),
                }
            }
        };
        *self.durable.lock() = durable;
        self.position.store(durable.position, Ordering::Release);
    }

    /// Takes a file out of the folder that every broker looks into. It is removed by [`Index::rebuild`]: a start need not
    /// wait until the file system has taken hundreds of megabytes back.
    fn drop_file(&self, path: &Path) -> io::Result<()> {
        create_dir_durably(&*self.disk, &self.dropped)?;
        self.disk
            .rename(path, &self.dropped.join(path.file_name().unwrap_or_default()))?;
        // A file that is created now may have the same name.
        self.disk.sync_dir(&self.dropped)
    }

    fn remove_dropped(&self) {
        for entry in self.disk.list(&self.dropped).unwrap_or_default() {
            if let Err(error) = self.disk.remove_file(&self.dropped.join(&entry.name)) {
                tracing::warn!(file = entry.name, %error, "a dropped index file stays");
            }
        }
        // Where something is left in it, it stays.
        let _ = self.disk.remove_dir(&self.dropped);
    }

    /// To be called before the first step. After an unclean stop only the durable entries of the newest file are whole.
    pub(crate) fn rebuild(&self, clean: bool) {
        if self.disk.exists(&self.dropped) {
            self.remove_dropped();
        }
        let durable = self.durable();
        let newest = self.files.read().last().cloned();
        if let Some(file) = newest.filter(|file| !clean && file.name == durable.file) {
            file.rebuild(durable.count);
        }
    }

    pub(crate) fn is_enabled(&self) -> bool {
        self.enabled
    }

    pub(crate) fn position(&self) -> i64 {
        self.position.load(Ordering::Acquire)
    }

    pub(crate) fn durable(&self) -> IndexMark {
        *self.durable.lock()
    }

    /// Takes in the next part of the log. True when there may be more.
    pub(crate) fn step(&self, log: &CommitLog, buffer: &mut Vec<u8>) -> io::Result<bool> {
        let from = self.position();
        let confirmed = log.confirmed();
        if !self.enabled || from >= confirmed {
            return Ok(false);
        }
        let mut building = Building {
            index: self,
            file: self.files.read().last().cloned(),
            keys: Vec::new(),
            topic: Vec::new(),
            topic_hash: 0,
            // No file is ahead of the log: one that says so is damaged.
            already: Some(self.last_update().1)
                .filter(|end| *end <= confirmed)
                .unwrap_or(from),
            failure: None,
        };
        let reached = log.records(from, confirmed, STEP_BYTES, buffer, |record| building.add(record))?;
        building.write_out();
        if let Some(file) = &building.file {
            file.write_header();
        }
        if let Some((at, error)) = building.failure {
            self.position.store(at, Ordering::Release);
            return Err(error);
        }
        self.position.store(reached, Ordering::Release);
        Ok(reached > from && reached < confirmed)
    }

    /// Makes durable what `step` took in.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let position = self.position();
        let Some(newest) = self.files.read().last().cloned() else {
            self.durable.lock().position = position;
            return Ok(());
        };
        newest.sync()?;
        let header = newest.header();
        *self.durable.lock() = IndexMark {
            position,
            file: newest.name,
            count: header.count,
            end_timestamp: header.end_timestamp,
        };
        Ok(())
    }

    /// Physical offsets of records with this key, at most `max_num`, from the newest files.
    pub(crate) fn find(&self, topic: &str, key: &str, max_num: usize, begin: i64, end: i64) -> Vec<i64> {
        let hash = key_hash(topic_hash(topic), key.as_bytes());
        let files = self.files.read().clone();
        let mut found = Vec::new();
        for file in files.iter().rev() {
            if file.overlaps(begin, end) {
                file.find(hash, begin, end, max_num, &mut found);
            }
            if file.header().begin_timestamp < begin || found.len() >= max_num {
                break;
            }
        }
        found
    }

    /// Store timestamp and physical offset of the newest entry.
    pub(crate) fn last_update(&self) -> (i64, i64) {
        let files = self.files.read();
        files.last().map_or((0, 0), |file| {
            let header = file.header();
            (header.end_timestamp, header.end_physical_offset)
        })
    }

    /// Removes the first files while all they name lies before `log_min`; the newest stays. Returns how many.
    pub(crate) fn remove_expired(&self, log_min: i64) -> io::Result<usize> {
        let mut removed = 0;
        loop {
            let oldest = {
                let files = self.files.read();
                let is_expired = |file: &&Arc<IndexFile>| file.header().end_physical_offset < log_min;
                files.first().filter(|_| files.len() > 1).filter(is_expired).cloned()
            };
            let Some(oldest) = oldest else { return Ok(removed) };
            match self.disk.remove_file(&oldest.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            self.files.write().remove(0);
            removed += 1;
        }
    }

    fn open(&self, name: i64, path: PathBuf) -> io::Result<Arc<IndexFile>> {
        let map = self.disk.map(&path)?;
        Ok(Arc::new(IndexFile::new(name, path, self.shape, map)))
    }

    /// The next file, reserved before it is mapped: a full disk is an error here and no signal later. It gets its name when
    /// its header says where the one before it ends: to Java a header of zeros says that nothing is indexed.
    fn create(&self) -> io::Result<Arc<IndexFile>> {
        if let Some(full) = self.files.read().last() {
            full.write_header();
            full.sync()?;
        }
        let newest = self.files.read().last().map(|file| (file.name, file.header()));
        let name = name_at((self.clock)()).max(newest.map_or(0, |(name, _)| name) + 1);
        let header = newest.map_or(IndexHeader::FIRST, |(_, header)| header.following());
        let path = self.dir.join(format!("{name:0NAME_DIGITS$}"));
        let unnamed = self.dir.with_extension("new");
        let file = self.disk.create(&unnamed)?;
        if let Err(error) = reserve(&*file, self.shape.file_bytes(), &header) {
            // Space that nobody uses; the next attempt begins with it anew.
            let _ = self.disk.remove_file(&unnamed);
            return Err(error);
        }
        self.disk.rename(&unnamed, &path)?;
        self.disk.sync_dir(Path::new(&self.dir))?;
        let file = self.open(name, path)?;
        self.files.write().push(Arc::clone(&file));
        Ok(file)
    }
}

fn reserve(file: &dyn crate::disk::DiskFile, bytes: u64, header: &IndexHeader) -> io::Result<()> {
    file.allocate(bytes)?;
    file.write_all_at(&[io::IoSlice::new(&header.encode())], 0)?;
    file.advise(Advice::Random, 0..bytes);
    file.sync_data()
}

/// `yyyyMMddHHmmssSSS` in local time.
const NAME_DIGITS: usize = 17;

fn name_at(now_ms: i64) -> i64 {
    let now = Timestamp::from_millisecond(now_ms).unwrap_or_default();
    let now = now.to_zoned(TimeZone::system());
    let date = (i64::from(now.year()) * 100 + i64::from(now.month())) * 100 + i64::from(now.day());
    let time = (i64::from(now.hour()) * 100 + i64::from(now.minute())) * 100 + i64::from(now.second());
    (date * 1_000_000 + time) * 1_000 + i64::from(now.millisecond())
}

/// Adds records to the newest file, and to a new one when that is full.
struct Building<'a> {
    index: &'a Index,
    file: Option<Arc<IndexFile>>,
    /// Keys that are in no file yet.
    keys: Vec<IndexKey>,
    /// The topic of the last record, and how the hashes of its keys begin.
    topic: Vec<u8>,
    topic_hash: i32,
    /// Records before this are in the files already.
    already: i64,
    /// The record that could not be added, and why.
    failure: Option<(i64, io::Error)>,
}

impl Building<'_> {
    fn add(&mut self, record: &RecordRef<'_>) {
        if record.physical_offset() < self.already || self.failure.is_some() {
            return;
        }
        if self.topic != record.topic() {
            let Ok(topic) = std::str::from_utf8(record.topic()) else {
                return;
            };
            self.topic_hash = topic_hash(topic);
            self.topic.clear();
            self.topic.extend_from_slice(record.topic());
        }
        let (topic_hash, keys) = (self.topic_hash, &mut self.keys);
        dispatch::keys(record, |key| {
            keys.push(IndexKey {
                hash: key_hash(topic_hash, key),
                physical_offset: record.physical_offset(),
                store_timestamp: record.store_timestamp(),
            });
        });
        if self.keys.len() >= KEYS_AT_ONCE {
            self.write_out();
        }
    }

    fn write_out(&mut self) {
        let mut rest = &self.keys[..];
        loop {
            let put = self.file.as_ref().map_or(0, |file| file.put_all(rest));
            rest = &rest[put..];
            let Some(next) = rest.first() else { break };
            match self.index.create() {
                Ok(file) => self.file = Some(file),
                Err(error) => {
                    self.failure = Some((next.physical_offset, error));
                    break;
                }
            }
        }
        self.keys.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SimulatedDisk;

    #[test]
    fn names_are_local_times_of_17_digits() {
        let name = name_at(1_767_225_600_123).to_string();
        assert_eq!(name.len(), NAME_DIGITS);
        assert!(name.ends_with("00123"), "{name}");
    }

    #[test]
    fn a_start_does_not_wait_until_dropped_files_are_removed() {
        let disk = Arc::new(SimulatedDisk::new());
        let config = StoreConfig::new("/store");
        let name = "20260101000000000";
        disk.create_dir_all(Path::new("/store/index")).unwrap();
        disk.create(&Path::new("/store/index").join(name)).unwrap();
        let index = Index::load(Arc::clone(&disk) as _, &config, true, None, 0, 0).unwrap();
        let dropped = Path::new("/store").join(DROPPED_DIRECTORY);
        assert!(disk.list(Path::new("/store/index")).unwrap().is_empty());
        assert!(disk.exists(&dropped.join(name)));
        index.rebuild(true);
        assert!(!disk.exists(&dropped));
    }
}
