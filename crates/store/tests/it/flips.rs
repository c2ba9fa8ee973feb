//! Single flipped bits, anywhere in the files of a store.
//!
//! Whatever the bit: the store opens, hands out no byte that was not stored, loses nothing but the record that the bit
//! belongs to, and gives no queue offset twice.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::BytesMut;
use oxmq_protocol::record::RecordRef;
use oxmq_store::disk::{Disk, SimulatedDisk};
use oxmq_store::{ConsumeQueue, FlushDiskType, GetLimits, MessageStore, Wait};

use crate::support::*;

const TOPICS: [&str; 3] = ["orders", "payments", "%RETRY%group"];
const MESSAGES: u64 = 90;
const FILE_BYTES: i64 = 8 * 1024;

type Place = (&'static str, i64);

/// A store at rest, and every record that it holds by topic and queue offset.
struct Sample {
    disk: SimulatedDisk,
    records: BTreeMap<Place, Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Clean,
    Killed,
}

impl Sample {
    fn new(stop: Stop) -> Sample {
        let disk = SimulatedDisk::new();
        let store = open_simulated(&disk, FlushDiskType::Sync).unwrap();
        for number in 0..MESSAGES {
            append_one(&store, TOPICS[number as usize % TOPICS.len()], 0, number).unwrap();
            if number % 30 == 20 {
                store.run_background_work();
            }
        }
        // The checkpoint is that of the call before.
        store.run_background_work();
        store.run_background_work();
        let records = read_all(&store);
        assert_eq!(records.len() as u64, MESSAGES);
        if stop == Stop::Clean {
            store.shutdown();
        }
        drop(store);
        Sample {
            disk: disk.kill(),
            records,
        }
    }

    fn with_flip(&self, path: &Path, byte: u64, bit: u8) -> SimulatedDisk {
        let disk = self.disk.kill();
        disk.flip_bit(path, byte, bit);
        disk
    }

    /// The places whose record covers this position of the log.
    fn places_at(&self, position: i64) -> Vec<Place> {
        let covers = |record: &[u8]| {
            let start = RecordRef::parse(record).unwrap().physical_offset();
            (start..start + record.len() as i64).contains(&position)
        };
        let covering = self.records.iter().filter(|(_, record)| covers(record));
        covering.map(|(place, _)| *place).collect()
    }

    /// Opens the damaged store and returns the places whose record is not handed out.
    fn missing_after(&self, disk: &SimulatedDisk, what: &str) -> Vec<Place> {
        let store = open_simulated(disk, FlushDiskType::Sync).unwrap_or_else(|error| panic!("{what}: {error}"));
        store.run_background_work();
        let found = read_all(&store);
        for (place, record) in &found {
            assert!(
                Some(record) == self.records.get(place),
                "{what}: {place:?} is not what was stored"
            );
        }
        for topic in TOPICS {
            let next = self.records.keys().filter(|(of, _)| *of == topic).count() as i64;
            assert_eq!(
                append_one(&store, topic, 0, 1_000).unwrap(),
                next,
                "{what}: next offset of {topic}"
            );
        }
        store.run_background_work();
        if store.scrub().unwrap().mended > 0 {
            assert!(
                read_all(&store).len() > found.len(),
                "{what}: mended entries are served"
            );
        }
        for topic in TOPICS {
            let found = store.query(topic, "key-1000", 8, 0, i64::MAX).records.len();
            assert_eq!(found, 1, "{what}: the index does not go on");
        }
        let places = self.records.keys().copied();
        places.filter(|place| !found.contains_key(place)).collect()
    }
}

fn read_all(store: &MessageStore) -> BTreeMap<Place, Vec<u8>> {
    let mut found = BTreeMap::new();
    for topic in TOPICS {
        if let Some(queue) = store.queue(topic, 0) {
            for (offset, record) in read_queue(store, &queue) {
                assert_eq!(found.insert((topic, offset), record), None, "{topic} {offset} twice");
            }
        }
    }
    found
}

/// Every record of a queue, as a client that follows `next_begin_offset` gets them.
fn read_queue(store: &MessageStore, queue: &Arc<ConsumeQueue>) -> Vec<(i64, Vec<u8>)> {
    let mut records = Vec::new();
    let mut offset = 0;
    while offset < queue.max_offset() {
        let mut out = BytesMut::new();
        let limits = GetLimits::count(1);
        let got = store
            .get_messages(queue, offset, &limits, &mut |_: i64| true, Wait::Allowed, &mut out)
            .unwrap();
        assert!(got.next_begin_offset > offset, "no progress at {offset}: {got:?}");
        let mut rest = &out[..];
        while !rest.is_empty() {
            let record = RecordRef::parse(rest).unwrap();
            records.push((got.next_begin_offset - 1, record.as_bytes().to_vec()));
            rest = &rest[record.total_size()..];
        }
        offset = got.next_begin_offset;
    }
    records
}

fn log_file(position: i64) -> PathBuf {
    PathBuf::from(format!("/store/commitlog/{:020}", position - position % FILE_BYTES))
}

/// Fields of a record that are checked in every place: size, magic, CRC, physical offset, and the body's bytes.
fn checked_bytes(record: &RecordRef<'_>) -> Vec<usize> {
    [0, 1, 2, 3, 4, 6, 8, 11, 28, 33, 35]
        .into_iter()
        .chain(record.body_range().step_by(7))
        .collect()
}

#[test]
fn a_flipped_bit_in_the_log_costs_one_message() {
    for stop in [Stop::Clean, Stop::Killed] {
        let sample = Sample::new(stop);
        for (number, (place, record)) in sample.records.iter().enumerate() {
            let record = RecordRef::parse(record).unwrap();
            let bytes = checked_bytes(&record);
            // Each record has its turn with other bytes.
            for at in bytes.iter().skip(number % 4).step_by(4) {
                let position = record.physical_offset() + *at as i64;
                let disk = sample.with_flip(&log_file(position), (position % FILE_BYTES) as u64, (number % 8) as u8);
                let what = format!("{stop:?}, byte {at} of {place:?} at {position}");
                assert_eq!(sample.missing_after(&disk, &what), [*place], "{what}");
                assert_eq!(sample.places_at(position), [*place]);
            }
        }
    }
}

/// Every file of a folder and those below it, but for some that hold nothing of value.
fn files(disk: &SimulatedDisk, dir: &Path, found: &mut Vec<(PathBuf, u64)>) {
    for entry in disk.list(dir).unwrap() {
        let path = dir.join(&entry.name);
        match entry.is_dir {
            true => files(disk, &path, found),
            false if entry.len > 0 => found.push((path, entry.len)),
            false => {}
        }
    }
}

fn flips() -> u64 {
    std::env::var("OXMQ_FLIPS").map_or(300, |flips| flips.parse().expect("OXMQ_FLIPS is a number"))
}

#[test]
fn a_bit_flipped_anywhere_is_noticed_or_harmless() {
    let samples = [Sample::new(Stop::Clean), Sample::new(Stop::Killed)];
    let seed = std::env::var("OXMQ_FLIP_SEED").map_or(1, |seed| seed.parse().unwrap());
    let mut random = Random(seed);
    for number in 0..flips() {
        let sample = &samples[number as usize % samples.len()];
        let mut all = Vec::new();
        files(&sample.disk, Path::new("/store"), &mut all);
        let (path, len) = all.swap_remove(random.below(all.len() as u64) as usize);
        let (byte, bit) = (random.below(len), random.below(8) as u8);
        let what = format!("{} byte {byte} bit {bit}", path.display());
        let name = path.to_string_lossy();
        let disk = sample.with_flip(&path, byte, bit);
        let allowed = if name.contains("/commitlog/") {
            let base: i64 = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
            sample.places_at(base + byte as i64)
        } else if name.contains("/consumequeue/") {
            let topic = TOPICS
                .into_iter()
                .find(|topic| name.contains(&format!("/{topic}/")))
                .unwrap();
            let base: u64 = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
            let place = (topic, ((base + byte) / 20) as i64);
            let is_last = sample.records.contains_key(&place) && !sample.records.contains_key(&(topic, place.1 + 1));
            if is_last && number % 2 == 1 {
                // Nothing tells it from a write that the kill interrupted.
                continue;
            }
            vec![place]
        } else {
            Vec::new()
        };
        let missing = sample.missing_after(&disk, &what);
        assert!(
            missing.iter().all(|place| allowed.contains(place)),
            "{what}: {missing:?} are missing"
        );
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}
