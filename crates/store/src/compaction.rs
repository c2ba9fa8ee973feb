//! Compacted queues: of the older records of a queue only the newest of each key is read (spec: storage.md §21).
//!
//! ```text
//! min ≤ frontier ≤ max (visible),   records before the frontier lie before `flushed` in the log
//! [min, frontier) is read through the survivors, [frontier, max) through the consume queue
//! ```
//!
//! A survivor is an entry before the frontier whose key has no newer record before the frontier and whose body is not
//! empty. Log and consume queue stay as they are, and queue offsets keep their meaning. The survivors of a queue are one
//! file, which is complete and durable before it gets its name, the frontier; the previous one is removed after that. A
//! crash leaves the old file, the new one or both; the one with the highest frontier counts. A file whose frontier lies
//! beyond the queue belongs to a log that was lost and does not count.
//!
//! ```text
//! compacted/<topic>/<queueId>/<frontier, 20 digits>:   kept records, survivors, end
//! survivor: 0 entry   20 queueOffset i64   28 hash of the key, 16 bytes          44 bytes, by queue offset
//! end:      0 position of the first survivor i64   8 their number i64   16 magic   24 bytes
//! ```
//!
//! A record whose commit log file goes is kept here, as it was, as long as it survives. Then the entry has, instead of its
//! place in the log, `!p` for position p of the file, which is negative. Kept records are those of the oldest survivors.
//!
//! The original keeps copies of the records in a folder `compaction` instead, and reads nothing else of such a topic:
//! a Java broker that takes over needs `enableCompaction=false`, and then reads everything.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::BytesMut;
use hashbrown::{HashMap, HashSet};
use oxmq_protocol::record::{RecordError, RecordRef};
use oxmq_protocol::{properties, property};

use crate::config_file::create_dir_durably;
use crate::consume_queue::{ConsumeQueue, ENTRY_BYTES, Entry};
use crate::cursor::{Cursor, Look};
use crate::disk::{Disk, DiskFile};
use crate::error::GetError;
use crate::read::{GetLimits, GetMessages, GetStatus, MessageFilter, Wait};
use crate::read_path::{Copied, RecordReader};
use crate::segments::{offset_name, parse_offset_name};
use crate::store::MessageStore;
use crate::unit::QueueKind;

const DIRECTORY: &str = "compacted";
const TEMPORARY: &str = "new";
const SURVIVOR_BYTES: usize = 44;
const END_BYTES: usize = 24;
const MAGIC: i64 = i64::from_be_bytes(*b"OxMQcmp1");
/// Written at once.
const WRITE_BYTES: usize = 64 * 1024;
/// Survivors looked at before a filter that rejects everything gives up.
const SURVIVORS_SCANNED_MIN: u64 = 800;
/// Memory of one key while a queue is being compacted, roughly.
const KEY_BYTES: usize = 96;
const QUEUE_ENTRIES_READ: usize = 64;

/// The survivors of one queue.
#[derive(Debug)]
pub(crate) struct Compacted {
    frontier: i64,
    survivors_at: u64,
    count: u64,
    /// Queue offset of the first survivor, if its record is kept here.
    kept_from: Option<i64>,
    file: Arc<dyn DiskFile>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Survivor {
    entry: Entry,
    queue_offset: i64,
    key: u128,
}

/// What one compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CompactionReport {
    /// Everything before this queue offset is compacted now.
    pub frontier: i64,
    /// Entries before it that are read.
    pub survivors: u64,
}

/// The newest record of each key behind the old frontier.
#[derive(Default)]
struct Newest {
    by_key: HashMap<u128, (Survivor, bool)>,
}

impl Newest {
    fn add(&mut self, survivor: Survivor, has_body: bool) {
        self.by_key.insert(survivor.key, (survivor, has_body));
    }

    fn supersedes(&self, old: &Survivor) -> bool {
        self.by_key.contains_key(&old.key)
    }

    fn survivors(&self) -> Vec<Survivor> {
        let with_body = self.by_key.values().filter(|(_, has_body)| *has_body);
        let mut survivors: Vec<Survivor> = with_body.map(|(survivor, _)| *survivor).collect();
        survivors.sort_unstable_by_key(|survivor| survivor.queue_offset);
        survivors
    }
}

impl Survivor {
    /// Where its record is kept, if that is not the log.
    fn kept_at(&self) -> Option<u64> {
        (self.entry.physical_offset < 0).then_some(!self.entry.physical_offset as u64)
    }

    fn encode(&self) -> [u8; SURVIVOR_BYTES] {
        let mut bytes = [0; SURVIVOR_BYTES];
        bytes[..ENTRY_BYTES].copy_from_slice(&self.entry.encode());
        bytes[20..28].copy_from_slice(&self.queue_offset.to_be_bytes());
        bytes[28..].copy_from_slice(&self.key.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8; SURVIVOR_BYTES]) -> Survivor {
        let (entry, rest) = bytes.split_first_chunk().expect("longer than an entry");
        let (queue_offset, key) = rest.split_first_chunk().expect("longer than an offset");
        Survivor {
            entry: Entry::decode(entry),
            queue_offset: i64::from_be_bytes(*queue_offset),
            key: u128::from_be_bytes(*key.first_chunk().expect("the key ends the survivor")),
        }
    }
}

impl Compacted {
    pub(crate) fn frontier(&self) -> i64 {
        self.frontier
    }

    pub(crate) fn kept_from(&self) -> Option<i64> {
        self.kept_from
    }

    fn new(frontier: i64, survivors_at: u64, count: u64, file: Arc<dyn DiskFile>) -> io::Result<Compacted> {
        let mut compacted = Compacted {
            frontier,
            survivors_at,
            count,
            kept_from: None,
            file,
        };
        if count > 0 {
            let first = compacted.at(0, Wait::Allowed)?;
            compacted.kept_from = first.kept_at().map(|_| first.queue_offset);
        }
        Ok(compacted)
    }

    /// The first survivor whose record is in the log.
    fn first_in_log(&self) -> io::Result<Option<Survivor>> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.at(middle, Wait::Allowed)?.kept_at() {
                Some(_) => low = middle + 1,
                None => high = middle,
            }
        }
        (low < self.count).then(|| self.at(low, Wait::Allowed)).transpose()
    }

    /// Appends a kept record to `out` if the filter accepts it.
    fn copy_kept(
        &self,
        position: u64,
        size: usize,
        filter: &mut dyn MessageFilter,
        wait: Wait,
        out: &mut BytesMut,
    ) -> io::Result<Copied> {
        let before = out.len();
        out.resize(before + size, 0);
        let read = match wait {
            Wait::Never => self.file.try_read_at(&mut out[before..], position),
            Wait::Allowed => self.file.read_at(&mut out[before..], position),
        };
        let copied = match (read, wait) {
            (Ok(read), _) if read == size => judge(&out[before..], size, filter),
            (Ok(_), Wait::Never) => Err(io::ErrorKind::WouldBlock.into()),
            (Ok(_), Wait::Allowed) => Err(io::ErrorKind::UnexpectedEof.into()),
            (Err(error), _) => Err(error),
        };
        if !matches!(copied, Ok(Copied::Record { .. })) {
            out.truncate(before);
        }
        copied
    }

    fn at(&self, index: u64, wait: Wait) -> io::Result<Survivor> {
        let mut bytes = [0; SURVIVOR_BYTES];
        let at = self.survivors_at + index * SURVIVOR_BYTES as u64;
        let read = match wait {
            Wait::Never => self.file.try_read_at(&mut bytes, at)?,
            Wait::Allowed => self.file.read_at(&mut bytes, at)?,
        };
        match (read, wait) {
            (SURVIVOR_BYTES, _) => Ok(Survivor::decode(&bytes)),
            (_, Wait::Never) => Err(io::ErrorKind::WouldBlock.into()),
            (_, Wait::Allowed) => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// The first survivor at this queue offset or behind it.
    fn find(&self, queue_offset: i64, wait: Wait) -> io::Result<u64> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.at(middle, wait)?.queue_offset < queue_offset {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// The newest usable file of a queue. One beyond the queue's end is removed: the queue may grow past it.
    fn load(disk: &dyn Disk, dir: &Path, max_offset: i64) -> io::Result<Option<Compacted>> {
        let files = disk.list(dir)?;
        let frontiers = files.iter().filter_map(|file| parse_offset_name(&file.name));
        let (usable, beyond): (Vec<i64>, Vec<i64>) = frontiers.partition(|frontier| *frontier <= max_offset);
        for frontier in &beyond {
            disk.remove_file(&dir.join(offset_name(*frontier)))?;
        }
        if !beyond.is_empty() {
            disk.sync_dir(dir)?;
        }
        let Some(frontier) = usable.into_iter().max() else {
            return Ok(None);
        };
        let file = disk.open(&dir.join(offset_name(frontier)))?;
        let mut end = [0; END_BYTES];
        let end_at = file.len()?.saturating_sub(END_BYTES as u64);
        file.read_at(&mut end, end_at)?;
        let [survivors_at, count, magic] =
            [0, 8, 16].map(|at| i64::from_be_bytes(*end[at..].first_chunk().expect("eight bytes")));
        let wanted = count
            .checked_mul(SURVIVOR_BYTES as i64)
            .and_then(|bytes| bytes.checked_add(survivors_at));
        if magic != MAGIC || survivors_at < 0 || count < 0 || wanted != Some(end_at as i64) {
            let message = format!("{}: not a file of survivors", dir.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Compacted::new(frontier, survivors_at as u64, count as u64, file).map(Some)
    }
}

/// Attaches what earlier runs compacted to the queues it belongs to.
pub(crate) fn load_all(store: &MessageStore) -> io::Result<()> {
    let disk = &*store.engine.disk;
    let root = store.config().root.join(DIRECTORY);
    for topic in subdirectories(disk, &root)? {
        for queue_id in subdirectories(disk, &root.join(&topic))? {
            let dir = root.join(&topic).join(&queue_id);
            let queue = queue_id.parse().ok().and_then(|queue_id| store.queue(&topic, queue_id));
            if queue.as_ref().is_some_and(|queue| queue.is_unreadable()) {
                return Err(io::Error::other(format!(
                    "consume queue {queue_id} of {topic} cannot be read"
                )));
            }
            let max_offset = queue.as_ref().map_or(-1, |queue| queue.max_offset());
            let compacted = match Compacted::load(disk, &dir, max_offset) {
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    tracing::error!(topic, queue_id, %error, "what was compacted is damaged: everything is read");
                    None
                }
                // Taken for absent, it would be replaced by less.
                other => other?,
            };
            if let Some(queue) = queue {
                queue.set_compacted(compacted.map(Arc::new));
            }
        }
    }
    Ok(())
}

/// Forgets what was compacted of a deleted topic.
pub(crate) fn remove_topic(disk: &dyn Disk, store_root: &Path, topic: &str) -> io::Result<()> {
    let dir = store_root.join(DIRECTORY).join(topic);
    for queue_id in subdirectories(disk, &dir)? {
        let dir = dir.join(queue_id);
        for file in disk.list(&dir)? {
            disk.remove_file(&dir.join(file.name))?;
        }
        disk.remove_dir(&dir)?;
    }
    if disk.exists(&dir) {
        disk.remove_dir(&dir)?;
        disk.sync_dir(&store_root.join(DIRECTORY))?;
    }
    Ok(())
}

fn subdirectories(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<String>> {
    match disk.list(dir) {
        Ok(entries) => Ok(entries
            .into_iter()
            .filter(|entry| entry.is_dir)
            .map(|entry| entry.name)
            .collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

impl MessageStore {
    /// Compacts a queue as far as its records are on disk, or as far as the keys behind the old frontier fit into
    /// `map_bytes_max`; the rest is for the next time. `None` when there was nothing new, or `stop` said so. Waits for the
    /// disk.
    pub fn compact(
        &self,
        queue: &ConsumeQueue,
        map_bytes_max: usize,
        stop: &dyn Fn() -> bool,
    ) -> io::Result<Option<CompactionReport>> {
        self.compact_keeping(queue, map_bytes_max, 0, stop)
    }

    /// Makes sure that no survivor of the queue needs the log before a physical offset. False when that is not possible
    /// yet.
    pub fn compact_before(
        &self,
        queue: &ConsumeQueue,
        map_bytes_max: usize,
        physical_offset: i64,
        stop: &dyn Fn() -> bool,
    ) -> io::Result<bool> {
        let frontier = || queue.compacted().map_or(0, |compacted| compacted.frontier);
        loop {
            let wanted = self.engine.first_offset_from(queue, physical_offset)?;
            let before = frontier();
            self.compact_keeping(queue, map_bytes_max, physical_offset, stop)?;
            let reached = frontier();
            if reached >= wanted || queue.kind() != QueueKind::Simple {
                return Ok(true);
            }
            if reached == before {
                return Ok(false);
            }
        }
    }

    /// As [`MessageStore::compact`], and copies the records that survive before a physical offset into the file.
    fn compact_keeping(
        &self,
        queue: &ConsumeQueue,
        map_bytes_max: usize,
        keep_before: i64,
        stop: &dyn Fn() -> bool,
    ) -> io::Result<Option<CompactionReport>> {
        if queue.kind() != QueueKind::Simple {
            return Ok(None);
        }
        let _alone = self.engine.compacting.lock();
        let old = queue.compacted();
        let old_frontier = old.as_ref().map_or(0, |old| old.frontier);
        let newest = self.newest(queue, old_frontier.max(queue.units().start), map_bytes_max, stop)?;
        let first_in_log = old.as_ref().map_or(Ok(None), |old| old.first_in_log())?;
        let must_keep = first_in_log.is_some_and(|first| first.entry.physical_offset < keep_before);
        let (newest, frontier) = match newest {
            Some(newest) => newest,
            None if must_keep && !stop() => (Newest::default(), old_frontier),
            None => return Ok(None),
        };
        let dir = self.compacted_dir(queue);
        let disk = &*self.engine.disk;
        if !disk.exists(&dir) {
            create_dir_durably(disk, &dir)?;
        }
        let file = disk.create(&dir.join(TEMPORARY))?;
        let compacted = self.write_survivors(old.as_deref(), &newest, frontier, keep_before, &file)?;
        let survivors = compacted.count;
        {
            let _no_deletion = self.engine.dispatching.lock();
            if queue.is_deleted() {
                return Ok(None);
            }
            disk.rename(&dir.join(TEMPORARY), &dir.join(offset_name(frontier)))?;
            disk.sync_dir(&dir)?;
            queue.set_compacted(Some(Arc::new(compacted)));
            for file in disk.list(&dir)? {
                if parse_offset_name(&file.name) != Some(frontier) {
                    disk.remove_file(&dir.join(file.name))?;
                }
            }
        }
        Ok(Some(CompactionReport { frontier, survivors }))
    }

    /// First the records that are kept, then who survives, in the same order.
    fn write_survivors(
        &self,
        old: Option<&Compacted>,
        newest: &Newest,
        frontier: i64,
        keep_before: i64,
        file: &Arc<dyn DiskFile>,
    ) -> io::Result<Compacted> {
        let log_min = self.min_physical_offset();
        let old_survivors = || {
            let indexes = 0..old.map_or(0, |old| old.count);
            let survivors = indexes.filter_map(|index| Some(old?.at(index, Wait::Allowed)));
            survivors.filter(|survivor| {
                survivor.as_ref().map_or(true, |survivor| {
                    let is_left = survivor.kept_at().is_some() || survivor.entry.physical_offset >= log_min;
                    is_left && !newest.supersedes(survivor)
                })
            })
        };
        let new_survivors = newest.survivors();
        let new_survivors = || new_survivors.iter().map(|survivor| Ok(*survivor));
        let is_kept = |survivor: &Survivor| survivor.entry.physical_offset < keep_before;
        let mut out = Output::new(&**file);
        let mut damaged = HashSet::new();
        for survivor in old_survivors().chain(new_survivors()) {
            let survivor = survivor?;
            if !is_kept(&survivor) {
                break;
            }
            match self.record_of(old, &survivor)? {
                Some(record) => out.put(&record)?,
                None => {
                    damaged.insert(survivor.queue_offset);
                }
            }
        }
        let (survivors_at, mut kept_at, mut count) = (out.position(), 0, 0);
        for survivor in old_survivors().chain(new_survivors()) {
            let mut survivor = survivor?;
            if damaged.contains(&survivor.queue_offset) {
                continue;
            }
            if is_kept(&survivor) {
                survivor.entry.physical_offset = !kept_at;
                kept_at += i64::from(survivor.entry.size);
            }
            out.put(&survivor.encode())?;
            count += 1;
        }
        debug_assert_eq!(kept_at as u64, survivors_at);
        out.put(
            &[survivors_at as i64, count as i64, MAGIC]
                .map(i64::to_be_bytes)
                .concat(),
        )?;
        out.finish()?;
        file.sync_data()?;
        Compacted::new(frontier, survivors_at, count, Arc::clone(file))
    }

    /// The record of a survivor, from the log or from where it was kept; nothing if it is damaged.
    fn record_of(&self, old: Option<&Compacted>, survivor: &Survivor) -> io::Result<Option<BytesMut>> {
        let (position, size) = (survivor.entry.physical_offset, survivor.entry.size);
        if let (Some(at), Some(old)) = (survivor.kept_at(), old) {
            let mut record = BytesMut::new();
            let kept = old.copy_kept(at, size.max(0) as usize, &mut |_: i64| true, Wait::Allowed, &mut record)?;
            return Ok(matches!(kept, Copied::Record { .. }).then_some(record));
        }
        let mut reader = RecordReader::default();
        let record = self.record_in(&mut reader, position, size, true);
        let record = record.map_err(io::Error::other)?;
        Ok(record.map(|record| BytesMut::from(record.as_bytes())))
    }

    fn compacted_dir(&self, queue: &ConsumeQueue) -> PathBuf {
        let root = self.config().root.join(DIRECTORY);
        root.join(&**queue.topic()).join(queue.queue_id().to_string())
    }

    /// The newest record of each key from this queue offset on, and the queue offset where that ends.
    fn newest(
        &self,
        queue: &ConsumeQueue,
        from: i64,
        map_bytes_max: usize,
        stop: &dyn Fn() -> bool,
    ) -> io::Result<Option<(Newest, i64)>> {
        let (flushed, max_offset) = (self.flushed(), queue.max_offset());
        let mut newest = Newest::default();
        let mut offset = from;
        let mut cursor = Cursor::default();
        let look = Look::along(Wait::Allowed);
        let mut record = BytesMut::new();
        let mut entries = [0; QUEUE_ENTRIES_READ * ENTRY_BYTES];
        'read: while offset < max_offset {
            if stop() {
                return Ok(None);
            }
            let wanted = (max_offset - offset).min(QUEUE_ENTRIES_READ as i64) as usize;
            let read = self.read_entries(queue, offset, &mut entries[..wanted * ENTRY_BYTES], Wait::Allowed)?;
            if read == 0 {
                break;
            }
            for entry in entries[..read].as_chunks::<ENTRY_BYTES>().0 {
                let entry = Entry::decode(entry);
                if entry.end() > flushed || (newest.by_key.len() + 1) * KEY_BYTES > map_bytes_max.max(KEY_BYTES) {
                    break 'read;
                }
                record.clear();
                let copied = match entry.is_present() && !entry.is_filler() {
                    true => self.copy_record(&mut cursor, &entry, &mut |_: i64| true, look, &mut record, &mut 0)?,
                    false => Copied::Missing,
                };
                if let (Copied::Record { .. }, Ok(record)) = (copied, RecordRef::parse(&record)) {
                    let survivor = Survivor {
                        entry,
                        queue_offset: offset,
                        key: key_of(&record, offset),
                    };
                    newest.add(survivor, !record.body().is_empty());
                }
                offset += 1;
            }
        }
        Ok((offset > from).then_some((newest, offset)))
    }

    /// Reads from before the frontier. Behind the last survivor the consumer goes on at the frontier.
    pub(crate) fn collect_compacted(
        &self,
        compacted: &Compacted,
        limits: &GetLimits,
        filter: &mut dyn MessageFilter,
        wait: Wait,
        out: &mut BytesMut,
        got: &mut GetMessages,
    ) -> Result<(), GetError> {
        let first = compacted.find(got.next_begin_offset, wait)?;
        let end = (first + SURVIVORS_SCANNED_MIN.max(limits.count as u64)).min(compacted.count);
        let written = self.written();
        let mut cursor = Cursor::default();
        let mut last_physical_offset = written;
        for index in first..end {
            let survivor = match compacted.at(index, wait) {
                Ok(survivor) => survivor,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && got.count > 0 => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let entry = &survivor.entry;
            let is_in_memory = written.saturating_sub(entry.physical_offset) <= self.memory_bytes;
            if self.is_full(got, entry, 1, limits, is_in_memory) {
                return Ok(());
            }
            if filter.accepts_code(entry.tags_code) {
                let size = entry.size.max(0) as usize;
                let copied = match survivor.kept_at() {
                    Some(position) => compacted.copy_kept(position, size, filter, wait, out),
                    None => self.copy_record(&mut cursor, entry, filter, Look::along(wait), out, &mut got.cold_bytes),
                };
                match copied {
                    Ok(Copied::Record { store_timestamp }) => {
                        got.status = GetStatus::Found;
                        got.count += 1;
                        got.bytes += entry.size as usize;
                        got.last_store_timestamp = store_timestamp;
                        last_physical_offset = entry.physical_offset;
                    }
                    Ok(Copied::Rejected) => got.rejected(),
                    Ok(Copied::Missing) => got.missing(),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock && got.count > 0 => return Ok(()),
                    Err(error) => return Err(error.into()),
                }
            } else {
                got.rejected();
            }
            got.next_begin_offset = survivor.queue_offset + 1;
        }
        if end == compacted.count {
            got.next_begin_offset = compacted.frontier;
        }
        got.suggest_pulling_from_slave = written - last_physical_offset > self.memory_bytes;
        Ok(())
    }
}

/// 128-bit FNV-1a of the KEYS, which must stay the same from run to run. A record without keys has its own.
fn key_of(record: &RecordRef<'_>, queue_offset: i64) -> u128 {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013B;
    const BASIS: u128 = 0x6C62_272E_07BB_0142_62B8_2175_6295_C58D;
    let hash = |seed: u128, bytes: &[u8]| {
        let step = |hash: u128, byte: &u8| (hash ^ u128::from(*byte)).wrapping_mul(PRIME);
        bytes.iter().fold(seed, step)
    };
    match properties::find(record.properties(), property::KEYS) {
        Some(keys) if !keys.is_empty() => hash(BASIS, keys),
        // Text has no byte 0xFF.
        _ => hash(hash(BASIS, &[0xFF]), &queue_offset.to_be_bytes()),
    }
}

/// The record in these bytes, if it is whole and the filter accepts it.
fn judge(bytes: &[u8], size: usize, filter: &mut dyn MessageFilter) -> io::Result<Copied> {
    let problem = match RecordRef::parse(bytes) {
        Ok(record) if record.total_size() == size => {
            if !filter.accepts_record(&record) {
                return Ok(Copied::Rejected);
            }
            let store_timestamp = record.store_timestamp();
            match record.verify_crc() {
                Ok(()) => return Ok(Copied::Record { store_timestamp }),
                Err(problem) => problem,
            }
        }
        Ok(_) => RecordError::Lengths(size),
        Err(problem) => problem,
    };
    tracing::error!(size, %problem, "damaged record of a compacted queue is not served");
    Ok(Copied::Missing)
}

/// Writes one thing behind the other.
struct Output<'a> {
    file: &'a dyn DiskFile,
    bytes: Vec<u8>,
    written: u64,
}

impl<'a> Output<'a> {
    fn new(file: &'a dyn DiskFile) -> Output<'a> {
        let bytes = Vec::with_capacity(WRITE_BYTES);
        Output {
            file,
            bytes,
            written: 0,
        }
    }

    fn position(&self) -> u64 {
        self.written + self.bytes.len() as u64
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() >= WRITE_BYTES {
            self.finish()?;
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        if !self.bytes.is_empty() {
            self.file.write_all_at(&[IoSlice::new(&self.bytes)], self.written)?;
            self.written += self.bytes.len() as u64;
            self.bytes.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survivor(queue_offset: i64, key: u128) -> Survivor {
        let entry = Entry {
            physical_offset: queue_offset * 100,
            size: 100,
            tags_code: -7,
        };
        Survivor {
            entry,
            queue_offset,
            key,
        }
    }

    #[test]
    fn the_newest_of_each_key_survives_unless_its_body_is_empty() {
        let mut newest = Newest::default();
        for (offset, key, has_body) in [(0, 1, true), (1, 2, true), (2, 1, true), (3, 3, true), (4, 2, false)] {
            newest.add(survivor(offset, key), has_body);
        }
        assert!(newest.supersedes(&survivor(-1, 2)) && !newest.supersedes(&survivor(-1, 9)));
        assert_eq!(newest.survivors(), [survivor(2, 1), survivor(3, 3)]);
    }

    #[test]
    fn survivors_survive_their_bytes() {
        let survivor = survivor(77, u128::MAX - 5);
        assert_eq!(Survivor::decode(&survivor.encode()), survivor);
    }
}
