//! One index file: a hash table from message keys to physical offsets (spec: storage.md §7).
//!
//! ```text
//! 0   beginTimestamp i64   8   endTimestamp i64   16  beginPhysicalOffset i64   24  endPhysicalOffset i64
//! 32  used slots i32       36  entry count i32 (from 1: entry 0 stays unused)
//! 40             slots: number of the newest entry with that hash
//! 40 + slots·4   entries: keyHash i32, physicalOffset i64, seconds since begin i32, previous entry i32
//! ```

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use oxmq_protocol::hash::{extend_java_string_hash, java_string_hash};
use parking_lot::RwLock;

use crate::disk::MappedRegion;

const HEADER_BYTES: usize = 40;
const SLOT_BYTES: usize = 4;
const ENTRY_BYTES: usize = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexShape {
    pub(crate) slots: u32,
    pub(crate) entries: u32,
}

impl IndexShape {
    pub(crate) fn file_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.slots) * SLOT_BYTES as u64 + u64::from(self.entries) * ENTRY_BYTES as u64
    }

    /// Number of the newest entry of a slot, as a file holds it.
    pub(crate) fn slot(&self, file: &[u8], slot: usize) -> i32 {
        int(file, HEADER_BYTES + slot * SLOT_BYTES)
    }

    fn entry_at(&self, number: i32) -> usize {
        HEADER_BYTES + self.slots as usize * SLOT_BYTES + number as usize * ENTRY_BYTES
    }
}

#[derive(Debug)]
pub(crate) struct IndexFile {
    /// The file name as a number: ascending.
    pub(crate) name: i64,
    pub(crate) path: PathBuf,
    shape: IndexShape,
    table: RwLock<Table>,
    sync_failed: AtomicBool,
}

#[derive(Debug)]
struct Table {
    map: Box<dyn MappedRegion>,
    header: IndexHeader,
    /// Entries that are being put together, to be written at once.
    entries: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexHeader {
    pub(crate) begin_timestamp: i64,
    pub(crate) end_timestamp: i64,
    pub(crate) begin_physical_offset: i64,
    pub(crate) end_physical_offset: i64,
    pub(crate) used_slots: i32,
    pub(crate) count: i32,
}

/// A key on its way into a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IndexKey {
    pub(crate) hash: i32,
    pub(crate) physical_offset: i64,
    pub(crate) store_timestamp: i64,
}

/// Begins the hash of `<topic>#<key>` as files hold it.
pub(crate) fn topic_hash(topic: &str) -> i32 {
    extend_java_string_hash(java_string_hash(topic), b"#")
}

/// Ends the hash of `<topic>#<key>`.
pub(crate) fn key_hash(topic_hash: i32, key: &[u8]) -> i32 {
    match extend_java_string_hash(topic_hash, key) {
        i32::MIN => 0,
        hash => hash.abs(),
    }
}

/// An entry as files hold it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IndexEntry {
    pub(crate) hash: i32,
    pub(crate) physical_offset: i64,
    pub(crate) seconds: i32,
    pub(crate) previous: i32,
}

impl IndexEntry {
    pub(crate) fn read(file: &[u8], shape: &IndexShape, number: i32) -> IndexEntry {
        let at = shape.entry_at(number);
        IndexEntry {
            hash: int(file, at),
            physical_offset: long(file, at + 4),
            seconds: int(file, at + 12),
            previous: int(file, at + 16),
        }
    }
}

impl IndexFile {
    pub(crate) fn new(name: i64, path: PathBuf, shape: IndexShape, map: Box<dyn MappedRegion>) -> IndexFile {
        let header = IndexHeader::decode(map.bytes());
        IndexFile {
            name,
            path,
            shape,
            table: RwLock::new(Table {
                map,
                header,
                entries: Vec::new(),
            }),
            sync_failed: AtomicBool::new(false),
        }
    }

    pub(crate) fn header(&self) -> IndexHeader {
        self.table.read().header
    }

    /// Adds as many of the keys as the file has room for, and returns their number.
    pub(crate) fn put_all(&self, keys: &[IndexKey]) -> usize {
        let mut table = self.table.write();
        let Table { map, header, entries } = &mut *table;
        let first = header.count;
        let room = self.shape.entries.saturating_sub(first as u32) as usize;
        let keys = &keys[..keys.len().min(room)];
        let Some(last) = keys.last() else {
            return 0;
        };
        if first == 1 {
            header.begin_timestamp = keys[0].store_timestamp;
            header.begin_physical_offset = keys[0].physical_offset;
        }
        entries.clear();
        for (number, key) in (first..).zip(keys) {
            let slot_at = self.slot_at(key.hash);
            let newest = int(map.bytes(), slot_at);
            let previous = if newest <= 0 || newest > number { 0 } else { newest };
            let seconds = (key.store_timestamp - header.begin_timestamp) / 1000;
            let mut entry = [0; ENTRY_BYTES];
            entry[..4].copy_from_slice(&key.hash.to_be_bytes());
            entry[4..12].copy_from_slice(&key.physical_offset.to_be_bytes());
            entry[12..16].copy_from_slice(&(seconds.clamp(0, i64::from(i32::MAX)) as i32).to_be_bytes());
            entry[16..].copy_from_slice(&previous.to_be_bytes());
            entries.extend_from_slice(&entry);
            map.write(slot_at, &number.to_be_bytes());
            header.used_slots += i32::from(previous == 0);
        }
        map.write(self.shape.entry_at(first), entries);
        header.count += keys.len() as i32;
        header.end_timestamp = last.store_timestamp;
        header.end_physical_offset = last.physical_offset;
        keys.len()
    }

    fn slot_at(&self, hash: i32) -> usize {
        HEADER_BYTES + (hash as u32 % self.shape.slots) as usize * SLOT_BYTES
    }

    /// Writes the header; entries count from then on.
    pub(crate) fn write_header(&self) {
        let mut table = self.table.write();
        let header = table.header.encode();
        table.map.write(0, &header);
    }

    /// Once this has failed it always does: the kernel forgets what it could not write.
    pub(crate) fn sync(&self) -> std::io::Result<()> {
        if self.sync_failed.load(Ordering::Acquire) {
            return Err(std::io::Error::other("the index file could not be made durable before"));
        }
        let done = self.table.read().map.sync();
        if done.is_err() {
            self.sync_failed.store(true, Ordering::Release);
        }
        done
    }

    /// Collects physical offsets of entries with this hash stored between `begin` and `end`, newest first.
    pub(crate) fn find(&self, hash: i32, begin: i64, end: i64, max_num: usize, found: &mut Vec<i64>) {
        let table = self.table.read();
        let (bytes, header) = (table.map.bytes(), &table.header);
        let mut number = int(bytes, self.slot_at(hash));
        while number > 0 && number < header.count && found.len() < max_num {
            let at = self.shape.entry_at(number);
            let seconds = int(bytes, at + 12);
            let timestamp = header.begin_timestamp + i64::from(seconds) * 1000;
            if seconds < 0 {
                return;
            }
            // Entry times are whole seconds after the begin: the record may be almost a second younger.
            if int(bytes, at) == hash && timestamp + 999 >= begin && timestamp <= end {
                found.push(long(bytes, at + 4));
            }
            let previous = int(bytes, at + 16);
            // Chains only lead to older entries: a damaged one must not lead in circles.
            if previous >= number {
                return;
            }
            number = previous;
        }
    }

    /// Does the file cover any of this range of time?
    pub(crate) fn overlaps(&self, begin: i64, end: i64) -> bool {
        let header = self.header();
        begin <= header.end_timestamp && end >= header.begin_timestamp
    }

    /// Rebuilds the table from its first `count − 1` entries, which are known to be whole, and drops the rest: after a
    /// power cut slots may point anywhere.
    pub(crate) fn rebuild(&self, count: i32) {
        let mut table = self.table.write();
        let Table { map, header, .. } = &mut *table;
        let slots = self.shape.slots as usize;
        let mut newest = vec![0i32; slots];
        let mut used_slots = 0;
        // In a file without entries, both are those with which the file before it ends.
        let (mut end_physical_offset, mut end_timestamp) = (header.begin_physical_offset, header.begin_timestamp);
        for number in 1..count {
            let at = self.shape.entry_at(number);
            let slot = int(map.bytes(), at) as u32 as usize % slots;
            used_slots += i32::from(newest[slot] == 0);
            newest[slot] = number;
            end_physical_offset = long(map.bytes(), at + 4);
            end_timestamp = header.begin_timestamp + i64::from(int(map.bytes(), at + 12)) * 1000;
        }
        let newest: Vec<u8> = newest.iter().flat_map(|number| number.to_be_bytes()).collect();
        map.write(HEADER_BYTES, &newest);
        header.used_slots = used_slots;
        header.count = count;
        header.end_physical_offset = end_physical_offset;
        header.end_timestamp = end_timestamp;
        let header = header.encode();
        map.write(0, &header);
    }
}

impl IndexHeader {
    /// Of the first file, without entries.
    pub(crate) const FIRST: IndexHeader = IndexHeader {
        begin_timestamp: 0,
        end_timestamp: 0,
        begin_physical_offset: 0,
        end_physical_offset: 0,
        used_slots: 0,
        count: 1,
    };

    /// Of the file behind this one, without entries.
    pub(crate) fn following(&self) -> IndexHeader {
        IndexHeader {
            begin_timestamp: self.end_timestamp,
            end_timestamp: self.end_timestamp,
            begin_physical_offset: self.end_physical_offset,
            end_physical_offset: self.end_physical_offset,
            ..IndexHeader::FIRST
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> IndexHeader {
        IndexHeader {
            begin_timestamp: long(bytes, 0),
            end_timestamp: long(bytes, 8),
            begin_physical_offset: long(bytes, 16),
            end_physical_offset: long(bytes, 24),
            used_slots: int(bytes, 32),
            count: int(bytes, 36).max(1),
        }
    }

    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&self.begin_timestamp.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.end_timestamp.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.begin_physical_offset.to_be_bytes());
        bytes[24..32].copy_from_slice(&self.end_physical_offset.to_be_bytes());
        bytes[32..36].copy_from_slice(&self.used_slots.to_be_bytes());
        bytes[36..].copy_from_slice(&self.count.to_be_bytes());
        bytes
    }
}

fn int(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn long(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Disk, SimulatedDisk};
    use std::path::Path;

    const SHAPE: IndexShape = IndexShape { slots: 4, entries: 50 };

    fn file() -> IndexFile {
        let disk = SimulatedDisk::new();
        let path = Path::new("/20260101000000000");
        disk.create(path).unwrap().set_len(SHAPE.file_bytes()).unwrap();
        IndexFile::new(
            20_260_101_000_000_000,
            path.to_path_buf(),
            SHAPE,
            disk.map(path).unwrap(),
        )
    }

    fn put(file: &IndexFile, hash: i32, physical_offset: i64, store_timestamp: i64) -> bool {
        let key = IndexKey {
            hash,
            physical_offset,
            store_timestamp,
        };
        file.put_all(&[key]) == 1
    }

    fn find(file: &IndexFile, key: i32) -> Vec<i64> {
        let mut found = Vec::new();
        file.find(key, 0, i64::MAX, 100, &mut found);
        found
    }

    #[test]
    fn a_file_begins_where_the_one_before_it_ends() {
        let file = file();
        assert!(put(&file, 1, 1000, 7_000) && put(&file, 2, 1100, 8_000));
        let following = file.header().following();
        assert_eq!(IndexHeader::decode(&following.encode()), following);
        assert_eq!((following.end_physical_offset, following.end_timestamp), (1100, 8_000));
        assert_eq!((following.count, following.used_slots), (1, 0));
    }

    #[test]
    fn keys_are_found_newest_first() {
        let file = file();
        for number in 0..20i64 {
            assert!(put(&file, (number % 5) as i32, 1000 + number, 7_000 + number * 100));
        }
        assert_eq!(find(&file, 3), [1018, 1013, 1008, 1003]);
        let mut found = Vec::new();
        file.find(3, 8_300, 8_500, 100, &mut found);
        assert_eq!(found, [1018, 1013]);
        let header = file.header();
        assert_eq!(
            (header.begin_timestamp, header.end_timestamp, header.count),
            (7_000, 8_900, 21)
        );
        assert_eq!((header.begin_physical_offset, header.end_physical_offset), (1000, 1019));
        assert_eq!(header.used_slots, 4);
    }

    #[test]
    fn the_size_is_that_of_java_and_a_full_file_says_so() {
        let java = IndexShape {
            slots: 5_000_000,
            entries: 20_000_000,
        };
        assert_eq!(java.file_bytes(), 420_000_040);
        let file = file();
        for number in 1..50 {
            assert!(put(&file, number, i64::from(number), 1));
        }
        assert!(!put(&file, 50, 50, 1));
    }

    #[test]
    fn keys_put_together_are_found_like_others_as_far_as_there_is_room() {
        let file = file();
        let keys: Vec<_> = (0..60i64)
            .map(|number| IndexKey {
                hash: (number % 5) as i32,
                physical_offset: 1000 + number,
                store_timestamp: 7_000,
            })
            .collect();
        assert_eq!(file.put_all(&keys[..7]), 7);
        assert_eq!(find(&file, 1), [1006, 1001]);
        assert_eq!(file.put_all(&keys[7..]), 42);
        assert_eq!(find(&file, 4)[..3], [1044, 1039, 1034]);
        assert_eq!(file.put_all(&keys), 0);
    }

    #[test]
    fn a_rebuilt_table_finds_what_it_keeps() {
        let file = file();
        for number in 0..20i64 {
            put(&file, (number % 5) as i32, 1000 + number, 7_000);
        }
        file.table.write().map.write(HEADER_BYTES, &[0xee; 16]);
        file.rebuild(11);
        assert_eq!(find(&file, 3), [1008, 1003]);
        put(&file, 3, 5000, 9_000);
        assert_eq!(find(&file, 3), [5000, 1008, 1003]);
        assert_eq!(file.header().count, 12);
    }
}
