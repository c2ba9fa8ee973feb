//! Records that are more than one message in one queue: inner batches in queues of batches, and records that enter light
//! queues as well. Power cuts and killed processes at every operation, as in `crash`: what each queue holds afterwards is
//! exactly what its records say, and what was promised is there.

use std::path::Path;
use std::sync::Arc;

use bytes::BytesMut;
use oxmq_protocol::record::{self, RecordFields, RecordRef};
use oxmq_protocol::{properties, sys_flag};
use oxmq_store::disk::{Fault, SimulatedDisk};
use oxmq_store::offline::OfflineStore;
use oxmq_store::{
    AppendBatch, AppendEntry, ConsumeQueue, Extra, FlushDiskType, GetLimits, MessageStore, QueueKind, StoreConfig,
    TagsCode, Wait,
};

use crate::support::{Listener, append_one, small_config, with_each_fault};

const LIGHT: [&str; 3] = ["%LMQ%a", "%LMQ%b", "%LMQ%c"];

fn config(flush_disk_type: FlushDiskType) -> StoreConfig {
    StoreConfig {
        batch_consume_queue_file_bytes: 46 * 8,
        queue_kind_of: Arc::new(|topic| match topic {
            "batches" => QueueKind::Batch,
            _ => QueueKind::Simple,
        }),
        multi_dispatch: true,
        ..small_config(Path::new("/store"), flush_disk_type)
    }
}

fn open(disk: &SimulatedDisk, flush_disk_type: FlushDiskType) -> Option<Arc<MessageStore>> {
    let listener = Arc::new(Listener::default());
    MessageStore::open(config(flush_disk_type), Arc::new(disk.clone()), listener).ok()
}

/// Adds a record with this number as its body.
fn add(
    batch: &mut AppendBatch,
    queue: &Arc<ConsumeQueue>,
    number: u64,
    flags: i32,
    text: &[(&str, &str)],
    extra: Extra,
) {
    let fields = RecordFields {
        queue_id: queue.queue_id(),
        flag: 0,
        sys_flag: flags,
        born_timestamp: 1,
        born_host: "10.0.0.9:51234".parse().unwrap(),
        store_host: "10.0.0.1:10911".parse().unwrap(),
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        topic: queue.topic().as_bytes(),
        body: &number.to_be_bytes(),
    };
    let range = record::encode(&mut batch.records, &fields, |out| {
        for (name, value) in text {
            properties::write(out, name.as_bytes(), value.as_bytes());
        }
    });
    let range = range.unwrap();
    batch.entries.push(AppendEntry {
        queue: Arc::clone(queue),
        start: range.start as u32,
        len: range.len() as u32,
        tags_code: TagsCode::Hash(0),
        group_len: 1,
        in_queue: true,
        extra: None,
        queue_offset: -1,
        physical_offset: -1,
    });
    if extra.inner_batch.is_some() || !extra.light_queues.is_empty() {
        batch.add_extra(extra);
    }
}

/// An inner batch, a plain record and one for two light queues and a name that is none; then one straight to a light one.
fn append(store: &MessageStore, number: u64) -> Option<AppendBatch> {
    let mut batch = AppendBatch::default();
    let batches = store.queue_or_create("batches", (number % 2) as i32);
    let count = 1 + number % 4;
    let flags = sys_flag::INNER_BATCH | sys_flag::NEED_UNWRAP;
    let inner = Extra {
        inner_batch: Some(count as u16),
        ..Extra::default()
    };
    add(
        &mut batch,
        &batches,
        number,
        flags,
        &[("INNER_NUM", &count.to_string())],
        inner,
    );
    if number.is_multiple_of(3) {
        // Counts as a batch of one.
        add(&mut batch, &batches, number, 0, &[("x", "y")], Extra::default());
    }
    let orders = store.queue_or_create("orders", 0);
    add(&mut batch, &orders, number, 0, &[], Extra::default());
    let (first, second) = (LIGHT[number as usize % 3], LIGHT[(number as usize + 1) % 3]);
    let light = Extra {
        light_queues: vec![
            Some(store.queue_or_create(first, 0)),
            None,
            Some(store.queue_or_create(second, 0)),
        ],
        ..Extra::default()
    };
    // Java drops the empty name at the end.
    let names = format!("{first},other,{second},");
    add(
        &mut batch,
        &orders,
        number,
        0,
        &[("INNER_MULTI_DISPATCH", &names)],
        light,
    );
    add(
        &mut batch,
        &store.queue_or_create(LIGHT[0], 0),
        number,
        0,
        &[],
        Extra::default(),
    );
    store.append(&mut batch).ok()?;
    Some(batch)
}

fn property(record: &RecordRef<'_>, name: &str) -> String {
    let value = properties::find(record.properties(), name).unwrap_or_default();
    String::from_utf8(value.to_vec()).unwrap()
}

/// First queue offset and number of messages of each record in the queue; each offset is that which the record claims.
fn contents(store: &MessageStore, queue: &ConsumeQueue) -> Vec<(i64, i64)> {
    let mut found = Vec::new();
    let mut offset = queue.min_offset();
    while offset < queue.max_offset() {
        let mut out = BytesMut::new();
        let limits = GetLimits::count(1);
        let got = store.get_messages(queue, offset, &limits, &mut |_| true, Wait::Allowed, &mut out);
        let got = got.unwrap();
        assert!(got.next_begin_offset > offset, "no progress at {offset}: {got:?}");
        let record = RecordRef::parse(&out).unwrap();
        let claimed = if record.sys_flag() & sys_flag::INNER_BATCH != 0 {
            property(&record, "INNER_BASE").parse().unwrap()
        } else if record.topic() == queue.topic().as_bytes() {
            record.queue_offset()
        } else {
            let names = property(&record, "INNER_MULTI_DISPATCH");
            let offsets = property(&record, "INNER_MULTI_QUEUE_OFFSET");
            let mut places = names.split(',').zip(offsets.split(','));
            places
                .find(|(name, _)| *name == &**queue.topic())
                .unwrap()
                .1
                .parse()
                .unwrap()
        };
        assert_eq!(claimed, offset, "{} {}", queue.topic(), queue.queue_id());
        found.push((offset, got.next_begin_offset - offset));
        // Any offset of a batch gives the whole batch.
        let mut again = BytesMut::new();
        let inside = got.next_begin_offset - 1;
        store
            .get_messages(queue, inside, &limits, &mut |_| true, Wait::Allowed, &mut again)
            .unwrap();
        assert_eq!(again, out);
        offset = got.next_begin_offset;
    }
    found
}

fn queues(store: &MessageStore) -> Vec<Arc<ConsumeQueue>> {
    let mut topics = store.topics();
    topics.sort();
    topics.iter().flat_map(|topic| store.queues_of(topic)).collect()
}

#[derive(Default)]
struct Promised {
    /// Topic, queue id, offset behind the record, position that must be flushed.
    places: Vec<(String, i32, i64, i64)>,
    flushed: i64,
}

fn run_until(stop: u64, flush_disk_type: FlushDiskType) -> Option<(SimulatedDisk, Promised)> {
    let disk = SimulatedDisk::new();
    disk.stop_after(stop);
    let mut promised = Promised::default();
    match script(&disk, flush_disk_type, &mut promised) {
        Some(()) => None,
        None => Some((disk, promised)),
    }
}

fn script(disk: &SimulatedDisk, flush_disk_type: FlushDiskType, promised: &mut Promised) -> Option<()> {
    let mut store = open(disk, flush_disk_type)?;
    for number in 0..40 {
        let batch = append(&store, number)?;
        for entry in &batch.entries {
            let mut note = |queue: &ConsumeQueue, end| {
                promised
                    .places
                    .push((queue.topic().to_string(), queue.queue_id(), end, batch.end_offset));
            };
            note(&entry.queue, entry.queue_offset + entry.messages());
            if let Some(extra) = &entry.extra {
                for (queue, offset) in extra.light_queues.iter().flatten().zip(&extra.light_offsets) {
                    note(queue, offset + 1);
                }
            }
        }
        if number % 7 == 3 {
            store.run_background_work();
            promised.flushed = store.flushed();
            store.writeable().ok()?;
        }
        if number == 25 {
            store.shutdown();
            store = open(disk, flush_disk_type)?;
        }
    }
    Some(())
}

fn check(disk: &SimulatedDisk, promised: &Promised, flush_disk_type: FlushDiskType, safe: i64, what: &str) {
    let store = open(disk, flush_disk_type).unwrap_or_else(|| panic!("{what}: does not start"));
    for (topic, queue_id, end, _) in promised.places.iter().filter(|(.., position)| *position <= safe) {
        let queue = store.queue(topic, *queue_id);
        let queue = queue.unwrap_or_else(|| panic!("{what}: queue {topic} {queue_id} is gone"));
        assert!(
            queue.max_offset() >= *end,
            "{what}: {topic} {queue_id} ends before {end}"
        );
    }
    let before: Vec<_> = queues(&store).iter().map(|queue| contents(&store, queue)).collect();
    append(&store, 1_000).unwrap();
    append_one(&store, "orders", 0, 1_001).unwrap();
    for queue in queues(&store) {
        contents(&store, &queue);
    }
    store.shutdown();
    let store = open(disk, flush_disk_type).unwrap();
    assert!(
        store.recovery_report().clean && store.recovery_report().records == 0,
        "{what}"
    );
    let after: Vec<_> = queues(&store).iter().map(|queue| contents(&store, queue)).collect();
    if before.len() == after.len() {
        for (before, after) in before.iter().zip(&after) {
            assert!(after.starts_with(before), "{what}: {before:?} became {after:?}");
        }
    }
}

#[test]
fn batches_and_light_queues_survive_a_power_cut_at_every_operation() {
    let mut stops = 0;
    while let Some((disk, promised)) = run_until(stops, FlushDiskType::Sync) {
        let what = format!("stop {stops}");
        check(
            &disk.crash(stops),
            &promised,
            FlushDiskType::Sync,
            promised.flushed,
            &what,
        );
        stops += 1;
    }
    assert!(stops > 100, "the script has only {stops} operations");
}

#[test]
fn a_killed_process_loses_no_place_of_a_record() {
    let mut stops = 0;
    while let Some((disk, promised)) = run_until(stops, FlushDiskType::Async) {
        let what = format!("stop {stops}");
        check(&disk.kill(), &promised, FlushDiskType::Async, i64::MAX, &what);
        stops += 1;
    }
}

#[test]
fn no_fault_of_the_disk_costs_a_batch_or_a_place_in_a_light_queue() {
    for fault in [Fault::Sync, Fault::Space] {
        let run = |disk: &SimulatedDisk| {
            let mut promised = Promised::default();
            let _ = script(disk, FlushDiskType::Sync, &mut promised);
            promised
        };
        with_each_fault(fault, run, |disk, promised, after| {
            let what = format!("{fault:?} {after}");
            let (disk, safe) = match fault {
                Fault::Sync => (disk.crash(after), promised.flushed),
                _ => (disk.kill(), i64::MAX),
            };
            check(&disk, promised, FlushDiskType::Sync, safe, &what);
        });
    }
}

#[test]
fn lost_queue_files_are_rebuilt_exactly() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, FlushDiskType::Async).unwrap();
    for number in 0..40 {
        append(&store, number).unwrap();
    }
    let expected: Vec<_> = queues(&store).iter().map(|queue| contents(&store, queue)).collect();
    drop(store);
    // Nothing was written out: after the kill everything comes from the log.
    let store = open(&disk.kill(), FlushDiskType::Async).unwrap();
    assert!(store.recovery_report().records > 100);
    let found: Vec<_> = queues(&store).iter().map(|queue| contents(&store, queue)).collect();
    assert_eq!(found, expected);
    let batches = store.queue("batches", 0).unwrap();
    assert_eq!(batches.kind(), QueueKind::Batch);
    let first = contents(&store, &batches)[..3].to_vec();
    assert_eq!(first, [(0, 1), (1, 1), (2, 3)]);
}

#[test]
fn a_damaged_unit_of_batches_or_of_a_light_queue_is_found_and_mended() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, FlushDiskType::Sync).unwrap();
    for number in 0..40 {
        append(&store, number).unwrap();
    }
    store.shutdown();
    let expected: Vec<_> = {
        let store = open(&disk, FlushDiskType::Sync).unwrap();
        let all = queues(&store).iter().map(|queue| contents(&store, queue)).collect();
        store.shutdown();
        all
    };
    for (queue, unit_bytes, used) in [("batchconsumequeue/batches", 46, 38), ("consumequeue/%LMQ%a", 20, 20)] {
        let file = format!("/store/{queue}/0/{:020}", 0);
        for byte in 0..used {
            let what = format!("{queue} byte {byte}");
            let damaged = disk.kill();
            damaged.flip_bit(Path::new(&file), 5 * unit_bytes + byte, (byte % 8) as u8);
            let offline = OfflineStore::open(config(FlushDiskType::Sync), Arc::new(damaged.clone())).unwrap();
            assert!(offline.survey(&mut |_| ()).unwrap().problem_count > 0, "{what}");
            drop(offline);
            let store = open(&damaged, FlushDiskType::Sync).unwrap();
            assert_eq!(store.scrub().unwrap().mended, 1, "{what}");
            let found: Vec<_> = queues(&store).iter().map(|queue| contents(&store, queue)).collect();
            assert_eq!(found, expected, "{what}");
        }
    }
}
