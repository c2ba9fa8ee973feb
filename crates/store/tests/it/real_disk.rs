//! The real disk, with threads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use oxmq_store::disk::RealDisk;
use oxmq_store::{AppendBatch, FlushDiskType, MessageStore, StoreConfig};

use crate::support::*;

fn config(root: &std::path::Path, flush_disk_type: FlushDiskType) -> StoreConfig {
    StoreConfig {
        commit_log_file_bytes: 1024 * 1024,
        flush_disk_type,
        index_slots: 1000,
        index_entries: 5000,
        tail_bytes: 256 * 1024,
        ..StoreConfig::new(root)
    }
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn fill(store: &MessageStore, from: u64, count: u64) {
    let queues: Vec<_> = (0..4)
        .map(|queue_id| store.queue_or_create("orders", queue_id))
        .collect();
    let mut batch = AppendBatch::default();
    for number in from..from + count {
        add(&mut batch, &queues[number as usize % 4], number, 300);
        if batch.entries.len() == 16 || number + 1 == from + count {
            store.append(&mut batch).unwrap();
            batch.entries.clear();
        }
    }
}

fn check(store: &MessageStore, count: u64) {
    for queue in store.queues_of("orders") {
        let expected = (0..count).filter(|number| (number % 4) as i32 == queue.queue_id());
        assert!(
            contents(store, &queue).into_values().eq(expected),
            "queue {}",
            queue.queue_id()
        );
    }
}

#[test]
fn a_store_dropped_without_shutdown_has_lost_nothing() {
    for flush_disk_type in [FlushDiskType::Async, FlushDiskType::Sync] {
        let dir = tempfile::tempdir().unwrap();
        for round in 0..4 {
            let store = open_on(config(dir.path(), flush_disk_type), Arc::new(RealDisk));
            assert_eq!(store.recovery_report().clean, round == 0);
            check(&store, round * 5000);
            fill(&store, round * 5000, 5000);
            if round == 1 {
                wait_until("checkpoint and index", || store.dispatch_behind_bytes() == 0);
            }
        }
        let store = open_on(config(dir.path(), flush_disk_type), Arc::new(RealDisk));
        check(&store, 20_000);
        store.shutdown();
        drop(store);
        let store = open_on(config(dir.path(), flush_disk_type), Arc::new(RealDisk));
        assert!(store.recovery_report().clean);
        assert_eq!(store.recovery_report().records, 0);
        check(&store, 20_000);
    }
}

/// The checkpoint runs ahead of the index, which is forced to disk more seldom.
#[test]
fn the_index_is_rebuilt_from_before_the_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let config = || StoreConfig {
        checkpoint_interval_ms: 1,
        ..config(dir.path(), FlushDiskType::Sync)
    };
    let checkpoint = || std::fs::read(dir.path().join("checkpoint")).unwrap_or_default();
    let finds = |store: &MessageStore, number: u64| {
        let found = store.query("orders", &format!("key-{number}"), 5, 0, i64::MAX);
        found.records.len() == 1
    };
    for round in 0..3 {
        let store = open_on(config(), Arc::new(RealDisk));
        fill(&store, round * 500, 500);
        let before = checkpoint();
        wait_until("index", || (0..(round + 1) * 500).all(|number| finds(&store, number)));
        append_one(&store, "other", 0, 1).unwrap();
        wait_until("checkpoint", || checkpoint() != before);
    }
}

#[test]
fn flush_index_and_lock_work_by_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_on(config(dir.path(), FlushDiskType::Sync), Arc::new(RealDisk));
    fill(&store, 0, 200);
    wait_until("flush", || store.flushed() == store.written());
    wait_until("visible", || {
        store.queues_of("orders").iter().all(|queue| queue.max_offset() == 50)
    });
    wait_until("index", || {
        store.query("orders", "key-199", 5, 0, i64::MAX).records.len() == 1
    });
    let second = MessageStore::open(
        config(dir.path(), FlushDiskType::Sync),
        Arc::new(RealDisk),
        Arc::new(Listener::default()),
    );
    assert!(second.is_err());
    store.shutdown();
    assert!(!dir.path().join("abort").exists());
    let mut names: Vec<_> = std::fs::read_dir(dir.path().join("commitlog"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["00000000000000000000"]);
}
