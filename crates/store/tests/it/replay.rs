//! What a recovery shows to its observer, and how often.

use std::path::Path;
use std::sync::Arc;

use oxmq_store::disk::SimulatedDisk;
use oxmq_store::{FlushDiskType, GetError, MessageStore};
use parking_lot::Mutex;

use crate::support::*;

/// Opens a store whose observer notes the numbers that it sees.
fn open_observed(disk: &SimulatedDisk) -> (Arc<MessageStore>, Vec<u64>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&seen);
    let mut config = small_config(Path::new("/store"), FlushDiskType::Async);
    config.replay_observer = Some(Arc::new(move |record| note.lock().push(number_of(record))));
    let store = open_on(config, Arc::new(disk.clone()));
    let seen = std::mem::take(&mut *seen.lock());
    (store, seen)
}

#[test]
fn what_was_replayed_is_replayed_again_until_its_owner_is_done() {
    let disk = SimulatedDisk::new();
    let store = open_simulated(&disk, FlushDiskType::Async).unwrap();
    append_one(&store, "orders", 0, 1).unwrap();
    store.run_background_work();
    store.run_background_work();
    append_one(&store, "orders", 0, 2).unwrap();
    append_one(&store, "orders", 0, 3).unwrap();
    drop(store);
    for _ in 0..2 {
        let (store, seen) = open_observed(&disk);
        assert_eq!(seen, [2, 3]);
        store.run_background_work();
        store.run_background_work();
    }
    let (store, seen) = open_observed(&disk);
    assert_eq!(seen, [2, 3]);
    append_one(&store, "orders", 0, 4).unwrap();
    store.run_background_work();
    store.release_recovery_position();
    store.run_background_work();
    drop(store);
    let (store, seen) = open_observed(&disk);
    assert_eq!(seen, [0u64; 0]);
    store.shutdown();
}

#[test]
fn records_are_read_without_waiting_from_memory_and_from_files() {
    let disk = SimulatedDisk::new();
    let store = open_simulated(&disk, FlushDiskType::Async).unwrap();
    let mut batch = oxmq_store::AppendBatch::default();
    let queue = store.queue_or_create("orders", 0);
    let mut offsets = Vec::new();
    for number in 0..60 {
        batch.clear();
        add(&mut batch, &queue, number, 200);
        store.append(&mut batch).unwrap();
        offsets.push(batch.entries[0].physical_offset);
    }
    for (number, offset) in (0..).zip(&offsets) {
        match store.read_record_now(*offset) {
            Ok(record) => {
                let record = record.unwrap();
                let record = oxmq_protocol::record::RecordRef::parse(&record).unwrap();
                assert_eq!((number_of(&record), record.physical_offset()), (number, *offset));
            }
            // The simulated disk may want to be waited for; then the ordinary way has the record.
            Err(GetError::WouldBlock) => assert!(store.read_record(*offset).unwrap().is_some()),
            Err(error) => panic!("{error}"),
        }
        assert!(matches!(
            store.read_record_now(*offset + 1),
            Ok(None) | Err(GetError::WouldBlock)
        ));
    }
    for nowhere in [-1, i64::MIN, i64::MAX, store.written()] {
        assert!(store.read_record_now(nowhere).unwrap().is_none());
    }
    store.shutdown();
}
