//! Appending and reading without anything going wrong.

use std::sync::Arc;

use bytes::BytesMut;
use oxmq_protocol::record::RecordRef;
use oxmq_store::disk::SimulatedDisk;
use oxmq_store::{AppendBatch, Boundary, FlushDiskType, GetLimits, GetStatus, Wait};

use crate::support::*;

#[test]
fn messages_come_back_in_order_across_files_and_restarts() {
    let disk = SimulatedDisk::new();
    for round in 0..3u64 {
        let store = open_simulated(&disk, FlushDiskType::Async).unwrap();
        let report = store.recovery_report();
        assert_eq!((report.clean, report.records), (true, 0));
        for number in 0..100 {
            let id = round * 100 + number;
            let queue_offset = append_one(&store, "orders", (number % 3) as i32, id).unwrap();
            assert_eq!(
                queue_offset,
                round as i64 * if number % 3 == 0 { 34 } else { 33 } + number as i64 / 3
            );
            if number % 30 == 0 {
                store.run_background_work();
            }
        }
        for queue in store.queues_of("orders") {
            let found = contents(&store, &queue);
            let expected: Vec<u64> = (0..(round + 1) * 100)
                .filter(|id| (id % 100 % 3) as i32 == queue.queue_id())
                .collect();
            assert_eq!(found.values().copied().collect::<Vec<_>>(), expected);
            assert!(found.keys().copied().eq(0..expected.len() as i64));
        }
        store.shutdown();
    }
}

#[test]
fn limits_and_status_are_those_of_the_original() {
    let disk = SimulatedDisk::new();
    let store = open_simulated(&disk, FlushDiskType::Async).unwrap();
    let queue = store.queue_or_create("orders", 0);
    let get = |from: i64, count: usize| {
        let mut out = BytesMut::new();
        store
            .get_messages(
                &queue,
                from,
                &GetLimits::count(count),
                &mut |_: i64| true,
                Wait::Never,
                &mut out,
            )
            .unwrap()
    };
    assert_eq!(
        (get(5, 1).status, get(5, 1).next_begin_offset),
        (GetStatus::NoMessageInQueue, 0)
    );
    for number in 0..40 {
        append_one(&store, "orders", 0, number).unwrap();
    }
    assert_eq!(
        (get(0, 8).status, get(0, 8).count, get(0, 8).next_begin_offset),
        (GetStatus::Found, 8, 8)
    );
    assert_eq!((get(0, 100).count, get(38, 100).count), (32, 2));
    assert_eq!(
        (get(40, 1).status, get(40, 1).next_begin_offset),
        (GetStatus::OffsetOverflowOne, 40)
    );
    assert_eq!(
        (get(99, 1).status, get(99, 1).next_begin_offset),
        (GetStatus::OffsetOverflowBadly, 40)
    );
    assert_eq!(
        (get(-1, 1).status, get(-1, 1).next_begin_offset),
        (GetStatus::OffsetTooSmall, 0)
    );

    let mut out = BytesMut::new();
    let limits = GetLimits { count: 32, bytes: 10 };
    let got = store
        .get_messages(&queue, 3, &limits, &mut |_: i64| true, Wait::Never, &mut out)
        .unwrap();
    assert_eq!((got.count, got.bytes, got.next_begin_offset), (1, out.len(), 4));

    let even = oxmq_protocol::hash::tags_code(b"even");
    let limits = GetLimits::count(5);
    let got = store
        .get_messages(&queue, 1, &limits, &mut |code| code == even, Wait::Never, &mut out)
        .unwrap();
    assert_eq!((got.count, got.next_begin_offset), (5, 11));
    let got = store
        .get_messages(&queue, 1, &limits, &mut |_: i64| false, Wait::Never, &mut out)
        .unwrap();
    assert_eq!((got.status, got.next_begin_offset), (GetStatus::NoMatchedMessage, 40));
}

#[test]
fn a_group_stays_in_one_file_and_the_file_before_ends_with_a_blank() {
    let disk = SimulatedDisk::new();
    let store = open_simulated(&disk, FlushDiskType::Async).unwrap();
    let queue = store.queue_or_create("orders", 0);
    let mut batch = AppendBatch::default();
    for number in 0..3 {
        add(&mut batch, &queue, number, 1500);
    }
    store.append(&mut batch).unwrap();
    batch.entries.clear();
    for number in 3..6 {
        add(&mut batch, &queue, number, 1500);
    }
    batch.entries[0].group_len = 3;
    (batch.entries[1].group_len, batch.entries[2].group_len) = (0, 0);
    store.append(&mut batch).unwrap();
    assert_eq!(batch.entries[0].physical_offset, 8192);
    assert_eq!(
        contents(&store, &queue).into_values().collect::<Vec<_>>(),
        [0, 1, 2, 3, 4, 5]
    );

    batch.entries.clear();
    add(&mut batch, &queue, 6, 9000);
    assert!(store.append(&mut batch).is_err());
    batch.clear();
    add(&mut batch, &queue, 7, 40);
    store.append(&mut batch).unwrap();
    assert_eq!(batch.entries[0].queue_offset, 6);
}

#[test]
fn records_are_found_by_position_time_and_key() {
    let disk = SimulatedDisk::new();
    let store = open_simulated(&disk, FlushDiskType::Async).unwrap();
    let mut placed = Vec::new();
    for number in 0..120u64 {
        let mut batch = AppendBatch::default();
        add(&mut batch, &store.queue_or_create("orders", 0), number, 40);
        store.append(&mut batch).unwrap();
        placed.push((batch.entries[0].physical_offset, batch.store_timestamp));
    }
    store.run_background_work();
    let queue = store.queue("orders", 0).unwrap();
    for (number, (physical_offset, timestamp)) in placed.iter().enumerate() {
        let number = number as i64;
        let record = store.read_record(*physical_offset).unwrap().unwrap();
        assert_eq!(number_of(&RecordRef::parse(&record).unwrap()), number as u64);
        assert!(store.read_record(physical_offset + 1).unwrap().is_none());
        assert_eq!(store.store_timestamp_at(&queue, number), Some(*timestamp));
        for (time, lower, upper) in [(*timestamp, number, number), (timestamp + 1, number + 1, number)] {
            assert_eq!(store.offset_by_time(&queue, time, Boundary::Lower), lower);
            assert_eq!(store.offset_by_time(&queue, time, Boundary::Upper), upper);
        }
        let found = store.query("orders", &format!("key-{number}"), 10, 0, i64::MAX);
        let numbers: Vec<u64> = found
            .records
            .iter()
            .map(|record| number_of(&RecordRef::parse(record).unwrap()))
            .collect();
        assert!(numbers.contains(&(number as u64)), "key-{number} gave {numbers:?}");
    }
    assert!(store.query("other", "key-1", 10, 0, i64::MAX).records.is_empty());
}

#[test]
fn a_deleted_topic_starts_again_at_zero_even_after_a_crash() {
    let disk = SimulatedDisk::new();
    let store = open_simulated(&disk, FlushDiskType::Sync).unwrap();
    for number in 0..20 {
        append_one(&store, "orders", 0, number).unwrap();
    }
    store.delete_topic("orders");
    assert!(store.queue("orders", 0).is_none());
    assert_eq!(append_one(&store, "orders", 0, 100).unwrap(), 0);
    store.run_background_work();
    let store = open_simulated(&disk.crash(1), FlushDiskType::Sync).unwrap();
    let queue = store.queue("orders", 0).unwrap();
    assert_eq!(contents(&store, &queue).into_iter().collect::<Vec<_>>(), [(0, 100)]);
}

#[test]
fn cold_data_ask_for_a_thread_that_may_wait() {
    let disk = SimulatedDisk::new();
    let store = open_simulated(&disk, FlushDiskType::Async).unwrap();
    for number in 0..100 {
        append_one(&store, "orders", 0, number).unwrap();
    }
    store.run_background_work();
    disk.forget();
    let queue = store.queue("orders", 0).unwrap();
    let mut out = BytesMut::new();
    let limits = GetLimits::count(4);
    let mut get = |wait| {
        store
            .get_messages(&queue, 0, &limits, &mut |_: i64| true, wait, &mut out)
            .map(|got| got.count)
    };
    assert!(matches!(get(Wait::Never), Err(oxmq_store::GetError::WouldBlock)));
    assert_eq!(get(Wait::Allowed).unwrap(), 4);
    assert_eq!(get(Wait::Never).unwrap(), 4);
}

#[test]
fn under_sync_flush_nothing_is_visible_before_the_flush() {
    let disk = SimulatedDisk::new();
    let listener = Arc::new(Listener::default());
    let config = small_config("/store".as_ref(), FlushDiskType::Sync);
    let store = oxmq_store::MessageStore::open(config, Arc::new(disk), Arc::clone(&listener) as _).unwrap();
    let queue = store.queue_or_create("orders", 0);
    queue.wait_mask.store(1, std::sync::atomic::Ordering::SeqCst);
    append_one(&store, "orders", 0, 1).unwrap();
    assert_eq!((queue.max_offset(), store.confirmed()), (0, 0));
    store.run_background_work();
    assert_eq!((queue.max_offset(), store.confirmed()), (1, store.written()));
    assert_eq!(listener.arrived.load(std::sync::atomic::Ordering::SeqCst), 1);
    assert_eq!(
        listener.flushed.load(std::sync::atomic::Ordering::SeqCst),
        store.written()
    );
}
