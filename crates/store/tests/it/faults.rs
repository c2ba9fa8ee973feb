//! A disk that is full, fails to flush, or changes its mind about a bit.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use oxmq_store::disk::SimulatedDisk;
use oxmq_store::{AppendError, FlushDiskType, MessageStore, OpenError, ReadError};

use crate::support::*;

#[test]
fn a_full_disk_refuses_appends_until_there_is_space() {
    let disk = SimulatedDisk::new();
    let store = open_simulated(&disk, FlushDiskType::Async).unwrap();
    disk.set_capacity(Some(64 * 1024));
    let mut number = 0;
    let refused = loop {
        match append_one(&store, "orders", 0, number) {
            Ok(_) => number += 1,
            Err(error) => break error,
        }
        assert!(number < 1000);
    };
    assert!(matches!(refused, AppendError::DiskFull(_)), "{refused}");
    let queue = store.queue("orders", 0).unwrap();
    assert_eq!(queue.max_offset(), number as i64);
    disk.set_capacity(None);
    assert_eq!(append_one(&store, "orders", 0, number).unwrap(), number as i64);
    assert!(contents(&store, &queue).into_values().eq(0..=number));
    store.shutdown();
    let store = open_simulated(&disk, FlushDiskType::Async).unwrap();
    assert!(
        contents(&store, &store.queue("orders", 0).unwrap())
            .into_values()
            .eq(0..=number)
    );
}

#[test]
fn a_failed_flush_ends_the_appends() {
    let disk = SimulatedDisk::new();
    let listener = Arc::new(Listener::default());
    let config = small_config(Path::new("/store"), FlushDiskType::Sync);
    let store = MessageStore::open(config, Arc::new(disk.clone()), Arc::clone(&listener) as _).unwrap();
    append_one(&store, "orders", 0, 1).unwrap();
    store.run_background_work();
    append_one(&store, "orders", 0, 2).unwrap();
    disk.fail_sync(Path::new("/store/commitlog/00000000000000000000"));
    store.run_background_work();
    assert!(listener.failed.load(Ordering::SeqCst) > 0);
    assert!(matches!(
        append_one(&store, "orders", 0, 3),
        Err(AppendError::Failed(_))
    ));
    assert!(store.writeable().is_err());
    assert_eq!(store.queue("orders", 0).unwrap().max_offset(), 1);
    store.shutdown();
    let store = open_simulated(&disk.crash(1), FlushDiskType::Sync).unwrap();
    assert!(!store.recovery_report().clean);
    assert_eq!(contents(&store, &store.queue("orders", 0).unwrap())[&0], 1);
}

#[test]
fn a_damaged_record_is_not_served() {
    let disk = SimulatedDisk::new();
    let store = open_simulated(&disk, FlushDiskType::Async).unwrap();
    for number in 0..60 {
        append_one(&store, "orders", 0, number).unwrap();
    }
    store.run_background_work();
    disk.flip_bit(Path::new("/store/commitlog/00000000000000000000"), 90, 2);
    let queue = store.queue("orders", 0).unwrap();
    assert!(contents(&store, &queue).into_values().eq(1..60));
    assert!(matches!(
        store.read_record(0),
        Err(ReadError::Damaged { physical_offset: 0 })
    ));
    assert!(store.read_record(1).unwrap().is_none());
}

#[test]
fn a_directory_has_one_user_and_one_format() {
    let disk = SimulatedDisk::new();
    let store = open_simulated(&disk, FlushDiskType::Async).unwrap();
    assert!(matches!(
        open_simulated(&disk, FlushDiskType::Async),
        Err(OpenError::Locked { .. })
    ));
    store.shutdown();
    drop(store);
    use oxmq_store::disk::Disk;
    disk.create(Path::new("/store/consumequeue/CURRENT")).unwrap();
    let refused = open_simulated(&disk, FlushDiskType::Async).err().unwrap().to_string();
    assert!(refused.contains("RocksDB"), "{refused}");
}

#[test]
fn another_file_size_is_refused() {
    let disk = SimulatedDisk::new();
    let store = open_simulated(&disk, FlushDiskType::Async).unwrap();
    append_one(&store, "orders", 0, 1).unwrap();
    store.shutdown();
    let mut config = small_config(Path::new("/store"), FlushDiskType::Async);
    config.commit_log_file_bytes *= 2;
    let opened = MessageStore::open(config, Arc::new(disk), Arc::new(Listener::default()));
    assert!(matches!(
        opened.err(),
        Some(OpenError::WrongFileSize { expected: 16384, .. })
    ));
}
