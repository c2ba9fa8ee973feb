//! Starts with many queues that nothing happened to.

use std::io::IoSlice;
use std::path::Path;

use oxmq_store::disk::{Disk, SimulatedDisk};
use oxmq_store::{FlushDiskType, MessageStore};

use crate::support::*;

/// Operations on the disk of a start after a kill, with so many quiet queues.
fn operations_of_a_start(quiet: u64) -> u64 {
    let disk = SimulatedDisk::new();
    let store = open_simulated(&disk, FlushDiskType::Async).unwrap();
    for number in 0..quiet {
        append_one(&store, "quiet", number as i32, number).unwrap();
    }
    append_one(&store, "busy", 0, quiet).unwrap();
    // What a step flushes is written out and secured by the next.
    store.run_background_work();
    store.run_background_work();
    for number in 1..6 {
        append_one(&store, "busy", 0, quiet + number).unwrap();
    }
    let left = disk.kill();
    drop(store);
    let before = left.operations();
    let store = open_simulated(&left, FlushDiskType::Async).unwrap();
    let operations = left.operations() - before;
    assert_eq!(store.recovery_report().records, 5);
    assert_eq!(store.queue("busy", 0).unwrap().max_offset(), 6);
    for number in 0..quiet {
        let queue = store.queue("quiet", number as i32).unwrap();
        assert!(contents(&store, &queue).into_values().eq([number]));
    }
    operations
}

#[test]
fn a_start_after_a_kill_does_nothing_to_quiet_queues() {
    // A few belong to the log, and depend on where its files end.
    let (of_many, of_few) = (operations_of_a_start(200), operations_of_a_start(20));
    assert!(of_many < of_few + 5, "{of_many} against {of_few}");
}

#[test]
fn entries_that_another_broker_left_without_records_are_removed_from_quiet_queues() {
    for text in ["4711", ""] {
        let disk = SimulatedDisk::new();
        let store = open_simulated(&disk, FlushDiskType::Async).unwrap();
        append_one(&store, "quiet", 0, 1).unwrap();
        store.run_background_work();
        store.run_background_work();
        let mut stale = store.written().to_be_bytes().to_vec();
        stale.extend_from_slice(&100i32.to_be_bytes());
        stale.extend_from_slice(&0i64.to_be_bytes());
        drop(store);
        let left = disk.kill();
        let queue_file = left
            .open(Path::new("/store/consumequeue/quiet/0/00000000000000000000"))
            .unwrap();
        queue_file.write_all_at(&[IoSlice::new(&stale)], 20).unwrap();
        let abort = left.create(Path::new("/store/abort")).unwrap();
        abort.write_all_at(&[IoSlice::new(text.as_bytes())], 0).unwrap();

        let store = open_simulated(&left, FlushDiskType::Async).unwrap();
        for number in 0..10 {
            append_one(&store, "busy", 0, number).unwrap();
        }
        store.run_background_work();
        store.run_background_work();
        drop(store);
        let store = open_simulated(&left.kill(), FlushDiskType::Async).unwrap();
        assert_eq!(store.queue("quiet", 0).unwrap().max_offset(), 1, "{text:?}");
    }
}

/// Operations on the disk of a start after a kill, with so many queues that got a message since the checkpoint.
fn operations_of_a_start_with_busy(queues: u64) -> u64 {
    let disk = SimulatedDisk::new();
    let store = open_simulated(&disk, FlushDiskType::Async).unwrap();
    for number in 0..queues {
        append_one(&store, "busy", number as i32, number).unwrap();
    }
    store.run_background_work();
    store.run_background_work();
    for number in 0..queues {
        append_one(&store, "busy", number as i32, queues + number).unwrap();
    }
    append_one(&store, "new", 0, 1).unwrap();
    let left = disk.kill();
    drop(store);
    let before = left.operations();
    let store = open_simulated(&left, FlushDiskType::Async).unwrap();
    let operations = left.operations() - before;
    assert_eq!(store.recovery_report().records, queues + 1);
    let check = |store: &MessageStore, number: u64| {
        let queue = store.queue("busy", number as i32).unwrap();
        assert!(contents(store, &queue).into_values().eq([number, queues + number]));
    };
    // Some are asked for before their entries are written out, and some get another message.
    (0..queues / 2).for_each(|number| check(&store, number));
    append_one(&store, "busy", 0, 7).unwrap();
    append_one(&store, "busy", queues as i32 - 1, 7).unwrap();
    store.run_background_work();
    store.run_background_work();
    drop(store);
    let store = open_simulated(&left.kill(), FlushDiskType::Async).unwrap();
    assert_eq!(store.recovery_report().records, 0);
    (1..queues - 1).for_each(|number| check(&store, number));
    for (topic, number, end) in [("busy", 0, 3), ("busy", queues - 1, 3), ("new", 0, 1)] {
        assert_eq!(store.queue(topic, number as i32).unwrap().max_offset(), end);
    }
    operations
}

#[test]
fn a_start_after_a_kill_leaves_the_files_of_queues_for_later() {
    let (of_many, of_few) = (
        operations_of_a_start_with_busy(200),
        operations_of_a_start_with_busy(20),
    );
    // The log of many has more files.
    assert!(of_many < of_few + 20, "{of_many} against {of_few}");
}
