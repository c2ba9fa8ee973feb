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
//! compacted/<topic>/<queueId>/<frontier, 20 digits>
//! survivor: 0 entry   20 queueOffset i64   28 hash of the key, 16 bytes          44 bytes, by queue offset
//! ```
//!
//! The original keeps copies of the records in a folder `compaction` instead, and reads nothing else of such a topic:
//! a Java broker that takes over needs `enableCompaction=false`, and then reads everything.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::BytesMut;
use hashbrown::HashMap;
use oxmq_protocol::record::RecordRef;
use oxmq_protocol::{properties, property};

use crate::config_file::create_dir_durably;
use crate::consume_queue::{ConsumeQueue, ENTRY_BYTES, Entry};
use crate::cursor::{Cursor, Look};
use crate::disk::{Disk, DiskFile};
use crate::error::GetError;
use crate::read::{GetLimits, GetMessages, GetStatus, MessageFilter, Wait};
use crate::read_path::Copied;
use crate::segments::{offset_name, parse_offset_name};
use crate::store::MessageStore;
use crate::unit::QueueKind;

const DIRECTORY: &str = "compacted";
const TEMPORARY: &str = "new";
const SURVIVOR_BYTES: usize = 44;
/// Survivors written at once.
const WRITE_BYTES: usize = 1_000 * SURVIVOR_BYTES;
/// Survivors looked at before a filter that rejects everything gives up.
const SURVIVORS_SCANNED_MIN: u64 = 800;
/// Memory of one key while a queue is being compacted, roughly.
const KEY_BYTES: usize = 96;
const QUEUE_ENTRIES_READ: usize = 64;

/// The survivors of one queue.
#[derive(Debug)]
pub(crate) struct Compacted {
    frontier: i64,
    count: u64,
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

    fn into_survivors(self) -> Vec<Survivor> {
        let with_body = self.by_key.into_values().filter(|(_, has_body)| *has_body);
        let mut survivors: Vec<Survivor> = with_body.map(|(survivor, _)| survivor).collect();
        survivors.sort_unstable_by_key(|survivor| survivor.queue_offset);
        survivors
    }
}

impl Survivor {
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

    fn at(&self, index: u64, wait: Wait) -> io::Result<Survivor> {
        let mut bytes = [0; SURVIVOR_BYTES];
        let at = index * SURVIVOR_BYTES as u64;
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
        let count = file.len()? / SURVIVOR_BYTES as u64;
        Ok(Some(Compacted { frontier, count, file }))
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
            let max_offset = queue.as_ref().map_or(-1, |queue| queue.max_offset());
            let compacted = Compacted::load(disk, &dir, max_offset)?;
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
    /// disk; for one caller at a time.
    pub fn compact(
        &self,
        queue: &ConsumeQueue,
        map_bytes_max: usize,
        stop: &dyn Fn() -> bool,
    ) -> io::Result<Option<CompactionReport>> {
        if queue.kind() != QueueKind::Simple {
            return Ok(None);
        }
        let old = queue.compacted();
        let from = old.as_ref().map_or(0, |old| old.frontier).max(queue.min_offset());
        let Some((newest, frontier)) = self.newest(queue, from, map_bytes_max, stop)? else {
            return Ok(None);
        };
        let dir = self.compacted_dir(queue);
        let disk = &*self.engine.disk;
        if !disk.exists(&dir) {
            create_dir_durably(disk, &dir)?;
        }
        let file = disk.create(&dir.join(TEMPORARY))?;
        let mut out = Output::new(&*file);
        let log_min = self.min_physical_offset();
        if let Some(old) = &old {
            for index in 0..old.count {
                let survivor = old.at(index, Wait::Allowed)?;
                if survivor.entry.physical_offset >= log_min && !newest.supersedes(&survivor) {
                    out.put(&survivor)?;
                }
            }
        }
        for survivor in newest.into_survivors() {
            out.put(&survivor)?;
        }
        let survivors = out.finish()?;
        file.sync_data()?;
        let compacted = Arc::new(Compacted {
            frontier,
            count: survivors,
            file,
        });
        {
            let _no_deletion = self.engine.dispatching.lock();
            if queue.is_deleted() {
                return Ok(None);
            }
            disk.rename(&dir.join(TEMPORARY), &dir.join(offset_name(frontier)))?;
            disk.sync_dir(&dir)?;
            queue.set_compacted(Some(compacted));
            for file in disk.list(&dir)? {
                if parse_offset_name(&file.name) != Some(frontier) {
                    disk.remove_file(&dir.join(file.name))?;
                }
            }
        }
        Ok(Some(CompactionReport { frontier, survivors }))
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
                    true => self.copy_record(&mut cursor, &entry, &mut |_: i64| true, look, &mut record)?,
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
                match self.copy_record(&mut cursor, entry, filter, Look::along(wait), out) {
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

/// Writes survivors one behind the other.
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

    fn put(&mut self, survivor: &Survivor) -> io::Result<()> {
        self.bytes.extend_from_slice(&survivor.encode());
        if self.bytes.len() >= WRITE_BYTES {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        self.file.write_all_at(&[IoSlice::new(&self.bytes)], self.written)?;
        self.written += self.bytes.len() as u64;
        self.bytes.clear();
        Ok(())
    }

    /// How many there were.
    fn finish(mut self) -> io::Result<u64> {
        if !self.bytes.is_empty() {
            self.write()?;
        }
        Ok(self.written / SURVIVOR_BYTES as u64)
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
        assert_eq!(newest.into_survivors(), [survivor(2, 1), survivor(3, 3)]);
    }

    #[test]
    fn survivors_survive_their_bytes() {
        let survivor = survivor(77, u128::MAX - 5);
        assert_eq!(Survivor::decode(&survivor.encode()), survivor);
    }
}
