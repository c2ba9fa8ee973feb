//! Compacted queues: whatever happens while one is being compacted, the newest value of every key stays, in order, and
//! a compaction that ends leaves nothing else behind its frontier.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Weak};

use bytes::BytesMut;
use oxmq_protocol::properties;
use oxmq_protocol::record::{self, RecordFields, RecordRef};
use oxmq_store::disk::{Fault, SimulatedDisk};
use oxmq_store::{
    AppendBatch, AppendEntry, ConsumeQueue, Expiry, FlushDiskType, GetLimits, GetStatus, MessageStore, StoreFailure,
    StoreListener, TagsCode, Wait,
};
use parking_lot::Mutex;
use proptest::prelude::*;

use crate::support::{open_on, open_simulated, small_config, with_each_fault};

const MAP_BYTES: usize = 1 << 20;

/// A value of a key; 0 is a record without body.
fn append(store: &MessageStore, key: u64, value: u64) -> Option<i64> {
    let queue = store.queue_or_create("state", 0);
    let mut batch = AppendBatch::default();
    let body = if value == 0 {
        vec![]
    } else {
        value.to_be_bytes().to_vec()
    };
    let fields = RecordFields {
        queue_id: 0,
        flag: 0,
        sys_flag: 0,
        born_timestamp: 1,
        born_host: "10.0.0.9:51234".parse().unwrap(),
        store_host: "10.0.0.1:10911".parse().unwrap(),
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        topic: b"state",
        body: &body,
    };
    let range = record::encode(&mut batch.records, &fields, |out| {
        properties::write(out, b"KEYS", format!("key-{key}").as_bytes());
    });
    let range = range.unwrap();
    batch.entries.push(AppendEntry {
        queue,
        start: range.start as u32,
        len: range.len() as u32,
        tags_code: TagsCode::Hash(key as i64),
        group_len: 1,
        in_queue: true,
        extra: None,
        queue_offset: -1,
        physical_offset: -1,
    });
    store.append(&mut batch).ok()?;
    Some(batch.end_offset)
}

/// Key and value of everything that is read from this queue offset on, `count` at a time.
fn read(store: &MessageStore, queue: &ConsumeQueue, from: i64, count: usize) -> Vec<(i64, u64, u64)> {
    let mut found = Vec::new();
    let mut offset = from.max(queue.min_offset());
    while offset < queue.max_offset() {
        let mut out = BytesMut::new();
        let limits = GetLimits::count(count);
        let got = store.get_messages(queue, offset, &limits, &mut |_: i64| true, Wait::Allowed, &mut out);
        let got = got.unwrap();
        assert!(got.next_begin_offset > offset, "no progress at {offset}: {got:?}");
        let mut rest = &out[..];
        while !rest.is_empty() {
            let record = RecordRef::parse(rest).unwrap();
            let key = properties::find(record.properties(), "KEYS").unwrap();
            let key = std::str::from_utf8(key).unwrap()[4..].parse().unwrap();
            let value = record
                .body()
                .first_chunk()
                .map_or(0, |bytes| u64::from_be_bytes(*bytes));
            found.push((record.queue_offset(), key, value));
            rest = &rest[record.total_size()..];
        }
        offset = got.next_begin_offset;
    }
    assert!(found.is_sorted_by(|a, b| a.0 < b.0), "{found:?}");
    found
}

fn compact(store: &MessageStore, map_bytes: usize) -> Option<oxmq_store::CompactionReport> {
    let queue = store.queue("state", 0)?;
    store.compact(&queue, map_bytes, &|| false).unwrap()
}

/// Appends 60 values of 7 keys, compacting now and then, until the machine stops.
fn script(disk: &SimulatedDisk, promised: &mut BTreeMap<u64, (u64, i64)>, flushed: &mut i64) -> Option<()> {
    let mut store = open_simulated(disk, FlushDiskType::Sync).ok()?;
    for value in 1..=60 {
        let key = value * value % 7;
        let end = append(&store, key, value)?;
        promised.insert(key, (value, end));
        if value % 6 == 0 {
            store.run_background_work();
            *flushed = store.flushed();
            store.writeable().ok()?;
        }
        if value % 15 == 8 {
            let queue = store.queue("state", 0)?;
            store.compact(&queue, MAP_BYTES, &|| false).ok()?;
        }
        if value == 40 {
            store.shutdown();
            store = open_simulated(disk, FlushDiskType::Sync).ok()?;
        }
    }
    Some(())
}

/// Opens what is left: the newest value of every key whose promise is safe is there, and stays.
fn check(disk: &SimulatedDisk, promised: &BTreeMap<u64, (u64, i64)>, safe: i64, what: &str) {
    let store = open_simulated(disk, FlushDiskType::Sync).unwrap();
    let Some(queue) = store.queue("state", 0) else {
        return assert!(promised.values().all(|(_, end)| *end > safe), "{what}");
    };
    let found = read(&store, &queue, 0, 32);
    for (key, (value, _)) in promised.iter().filter(|(_, (_, end))| *end <= safe) {
        let newest = found.iter().rfind(|(_, found, _)| found == key);
        assert!(
            newest.is_some_and(|(.., found)| found >= value),
            "{what}: {key}={value}: {found:?}"
        );
    }
    store.run_background_work();
    compact(&store, MAP_BYTES);
    let mut newest = BTreeMap::new();
    for (_, key, value) in &found {
        newest.insert(*key, *value);
    }
    let left: BTreeMap<u64, u64> = read(&store, &queue, 0, 3)
        .iter()
        .map(|found| (found.1, found.2))
        .collect();
    assert_eq!(left, newest, "{what}");
    assert_eq!(read(&store, &queue, 0, 1).len(), newest.len(), "{what}");
}

#[test]
fn a_power_cut_at_any_operation_leaves_the_newest_value_of_every_key() {
    let mut stops = 0;
    loop {
        let disk = SimulatedDisk::new();
        disk.stop_after(stops);
        let (mut promised, mut flushed) = (BTreeMap::new(), 0);
        if script(&disk, &mut promised, &mut flushed).is_some() {
            break;
        }
        check(&disk.crash(stops), &promised, flushed, &format!("stop {stops}"));
        check(&disk.kill(), &promised, i64::MAX, &format!("stop {stops}"));
        stops += 1;
    }
    assert!(stops > 80, "the script has only {stops} operations");
}

#[test]
fn no_fault_of_the_disk_during_compaction_costs_a_value() {
    for fault in [Fault::Sync, Fault::Space, Fault::Read] {
        let run = |disk: &SimulatedDisk| {
            let (mut promised, mut flushed) = (BTreeMap::new(), 0);
            let _ = script(disk, &mut promised, &mut flushed);
            (promised, flushed)
        };
        with_each_fault(fault, run, |disk, (promised, flushed), after| {
            let what = format!("{fault:?} {after}");
            match fault {
                Fault::Sync => check(&disk.crash(after), promised, *flushed, &what),
                _ => check(&disk.kill(), promised, i64::MAX, &what),
            }
        });
    }
}

/// Keeps what compacted queues need of a file that goes, as a broker does.
#[derive(Default)]
struct Keeper(Mutex<Weak<MessageStore>>);

impl StoreListener for Keeper {
    fn arrived(&self, _: &[Arc<ConsumeQueue>]) {}
    fn flushed(&self, _: i64) {}
    fn failed(&self, _: &StoreFailure) {}
    fn expiring(&self, expiry: &Expiry) -> bool {
        let store = self.0.lock().upgrade().unwrap();
        let Some(queue) = store.queue("state", 0) else {
            return true;
        };
        // Little memory: several rounds.
        matches!(store.compact_before(&queue, 600, expiry.to, &|| false), Ok(true))
    }
}

fn open_keeping(disk: &SimulatedDisk) -> Option<Arc<MessageStore>> {
    let keeper = Arc::new(Keeper::default());
    let config = small_config(Path::new("/store"), FlushDiskType::Sync);
    let store = MessageStore::open(config, Arc::new(disk.clone()), Arc::clone(&keeper) as _).ok()?;
    *keeper.0.lock() = Arc::downgrade(&store);
    Some(store)
}

/// Values of keys that change at different paces, between them others; old files go again and again. The newest value of
/// each key, and where its promise ends.
fn script_with_retention(
    disk: &SimulatedDisk,
    promised: &mut BTreeMap<u64, (u64, i64)>,
    deletions: &mut Vec<std::ops::Range<u64>>,
) -> Option<()> {
    let mut store = open_keeping(disk)?;
    for value in 1..=240 {
        let key = match value {
            ..10 => value,
            _ if value % 3 == 0 => 10 + value % 4,
            _ => 20,
        };
        let end = append(&store, key, value)?;
        if !store.flush() {
            return None;
        }
        promised.insert(key, (value, end));
        if value % 40 == 0 {
            store.run_background_work();
            store.writeable().ok()?;
            let began = disk.operations();
            store.request_deletion();
            store.run_retention();
            deletions.push(began..disk.operations());
        }
        if value == 130 {
            store.shutdown();
            store = open_keeping(disk)?;
        }
    }
    Some(())
}

/// All of it is there, and what is there comes in order and once.
fn check_newest(store: &MessageStore, promised: &BTreeMap<u64, (u64, i64)>, what: &str) {
    let Some(queue) = store.queue("state", 0) else {
        assert!(promised.is_empty(), "{what}");
        return;
    };
    let found = read(store, &queue, 0, 5);
    for (key, (value, _)) in promised {
        let newest = found.iter().rfind(|(_, found, _)| found == key);
        assert!(
            newest.is_some_and(|(.., found)| found >= value),
            "{what}: {key}={value}: {found:?}"
        );
    }
}

#[test]
fn the_newest_of_each_key_outlives_the_file_it_was_written_in() {
    let disk = SimulatedDisk::new();
    let (mut promised, mut deletions) = (BTreeMap::new(), Vec::new());
    script_with_retention(&disk, &mut promised, &mut deletions).unwrap();
    let store = open_keeping(&disk.kill()).unwrap();
    assert!(store.min_physical_offset() > 0);
    let queue = store.queue("state", 0).unwrap();
    // The slow keys are in no file of the log any more, and read from the start of the queue on.
    assert_eq!(queue.min_offset(), 0);
    check_newest(&store, &promised, "at the end");
    let got = |from, wait| {
        let limits = GetLimits::count(1);
        store.get_messages(&queue, from, &limits, &mut |_: i64| true, wait, &mut BytesMut::new())
    };
    assert_eq!(got(0, Wait::Allowed).unwrap().status, GetStatus::Found);
    append(&store, 20, 1000).unwrap();
    store.run_background_work();
    assert!(compact(&store, MAP_BYTES).is_some());
    check_newest(&store, &promised, "compacted again");

    // A kept record gives way to a newer one, and the queue begins later.
    for key in 1..10 {
        append(&store, key, 0).unwrap();
    }
    store.run_background_work();
    compact(&store, MAP_BYTES);
    let values: Vec<u64> = read(&store, &queue, 0, 32).iter().map(|found| found.1).collect();
    assert!(values.iter().all(|key| *key >= 10), "{values:?}");
    assert!(queue.min_offset() > 100);
}

#[test]
fn a_stop_while_kept_records_move_loses_none() {
    let disk = SimulatedDisk::new();
    let (mut promised, mut deletions) = (BTreeMap::new(), Vec::new());
    script_with_retention(&disk, &mut promised, &mut deletions).unwrap();
    let mut stops = 0;
    for stop in deletions.into_iter().flatten() {
        let disk = SimulatedDisk::new();
        disk.stop_after(stop);
        let (mut promised, mut deletions) = (BTreeMap::new(), Vec::new());
        let _ = script_with_retention(&disk, &mut promised, &mut deletions);
        for disk in [disk.crash(stop), disk.kill()] {
            let store = open_keeping(&disk).unwrap();
            check_newest(&store, &promised, &format!("stop {stop}"));
            store.run_background_work();
            store.request_deletion();
            store.run_retention();
            check_newest(&store, &promised, &format!("stop {stop}, cleaned"));
        }
        stops += 1;
    }
    assert!(stops > 40, "the script deletes in only {stops} operations");
}

proptest! {
    /// Model: the log of all values; a compaction replaces everything before its frontier by the newest with a body.
    #[test]
    fn readers_see_the_newest_of_each_key_and_then_the_live_tail(
        steps in proptest::collection::vec((0..6u64, 0..4u64), 1..80),
        count in 1..9usize,
        map_keys in 1..20usize,
    ) {
        let disk = SimulatedDisk::new();
        let store = open_on(small_config(Path::new("/store"), FlushDiskType::Async), Arc::new(disk));
        let mut visible: Vec<(i64, u64, u64)> = Vec::new();
        let mut frontier = 0;
        for (offset, (key, value)) in steps.into_iter().enumerate() {
            append(&store, key, value).unwrap();
            visible.push((offset as i64, key, value));
            if offset % 7 == 5 {
                store.run_background_work();
                if let Some(report) = compact(&store, map_keys * 96) {
                    prop_assert!(report.frontier > frontier);
                    frontier = report.frontier;
                    let before = visible.clone();
                    visible.retain(|(offset, key, value)| {
                        let newer = before.iter().any(|other| other.1 == *key && other.0 > *offset && other.0 < frontier);
                        *offset >= frontier || (!newer && *value != 0)
                    });
                    let survivors = visible.iter().filter(|(offset, ..)| *offset < frontier).count();
                    prop_assert_eq!(report.survivors, survivors as u64);
                }
            }
            let queue = store.queue("state", 0).unwrap();
            prop_assert_eq!(queue.max_offset(), offset as i64 + 1);
        }
        let queue = store.queue("state", 0).unwrap();
        for from in [0, frontier / 2, frontier, queue.max_offset() - 1] {
            let expected: Vec<_> = visible.iter().copied().filter(|(offset, ..)| *offset >= from).collect();
            prop_assert_eq!(read(&store, &queue, from, count), expected);
        }
    }
}

#[test]
fn a_deleted_topic_starts_from_nothing() {
    let disk = SimulatedDisk::new();
    let store = open_simulated(&disk, FlushDiskType::Async).unwrap();
    for value in 1..20 {
        append(&store, 1, value).unwrap();
    }
    store.run_background_work();
    assert_eq!(compact(&store, MAP_BYTES).unwrap().survivors, 1);
    assert_eq!(compact(&store, MAP_BYTES), None);
    store.delete_topic("state");
    append(&store, 1, 5).unwrap();
    append(&store, 1, 6).unwrap();
    let queue = store.queue("state", 0).unwrap();
    assert_eq!(read(&store, &queue, 0, 8), [(0, 1, 5), (1, 1, 6)]);
    store.shutdown();
    let store = open_simulated(&disk, FlushDiskType::Async).unwrap();
    let queue = store.queue("state", 0).unwrap();
    assert_eq!(read(&store, &queue, 0, 8).len(), 2);
}

#[test]
fn a_filter_that_matches_nothing_leads_to_the_frontier() {
    let store = open_simulated(&SimulatedDisk::new(), FlushDiskType::Async).unwrap();
    for key in 0..9 {
        append(&store, key, key + 1).unwrap();
    }
    store.run_background_work();
    compact(&store, MAP_BYTES).unwrap();
    append(&store, 1, 50).unwrap();
    let queue = store.queue("state", 0).unwrap();
    let (limits, mut out) = (GetLimits::count(32), BytesMut::new());
    let got = store
        .get_messages(&queue, 3, &limits, &mut |_: i64| false, Wait::Allowed, &mut out)
        .unwrap();
    assert_eq!((got.status, got.next_begin_offset), (GetStatus::NoMatchedMessage, 9));
}
