//! Old data: what the page cache is told about it, and who waits for it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use oxmq_store::disk::{Advice, SimulatedDisk};
use oxmq_store::{AppendBatch, FlushDiskType, MessageStore, StoreConfig};

use crate::support::*;

const FILE_BYTES: u64 = 8 << 20;
/// A record with everything around its body.
const BODY_BYTES: usize = 64 << 10;
const MESSAGES: u64 = 512;
const TIMEOUT: Duration = Duration::from_secs(30);

fn open(disk: &SimulatedDisk) -> Arc<MessageStore> {
    let config = StoreConfig {
        commit_log_file_bytes: FILE_BYTES,
        ..small_config("/store".as_ref(), FlushDiskType::Async)
    };
    open_on(config, Arc::new(disk.clone()))
}

fn fill(store: &MessageStore) {
    let queue = store.queue_or_create("orders", 0);
    for number in 0..MESSAGES {
        let mut batch = AppendBatch::default();
        add(&mut batch, &queue, number, BODY_BYTES);
        store.append(&mut batch).unwrap();
    }
    store.run_background_work();
}

fn log_files() -> impl Iterator<Item = (u64, PathBuf)> {
    let bases = (0..MESSAGES * BODY_BYTES as u64).step_by(FILE_BYTES as usize);
    bases.map(|base| (base, format!("/store/commitlog/{base:020}").into()))
}

/// Bytes of the whole log that such advice was given about.
fn advised(disk: &SimulatedDisk, advice: Advice) -> u64 {
    let ranges = log_files().flat_map(|(_, path)| disk.advised(&path, advice));
    ranges.map(|range| range.end - range.start).sum()
}

#[test]
fn a_backlog_that_is_read_once_does_not_stay_in_memory() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    fill(&store);
    let queue = store.queue("orders", 0).unwrap();
    contents(&store, &queue);
    assert_eq!(
        (advised(&disk, Advice::WillNeed), advised(&disk, Advice::DontNeed)),
        (0, 0)
    );

    disk.set_cold(true);
    contents(&store, &queue);
    let fetched = advised(&disk, Advice::WillNeed);
    let kept = fetched - advised(&disk, Advice::DontNeed);
    assert!(fetched > 24 << 20, "{fetched} bytes were asked for");
    assert!(kept <= 8 << 20, "{kept} bytes stay");
}

#[test]
fn looking_for_damage_leaves_the_page_cache_as_it_was() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    fill(&store);
    store.scrub().unwrap();
    assert_eq!(advised(&disk, Advice::DontNeed), 0);
    disk.set_cold(true);
    let end = store.scrub().unwrap();
    assert_eq!(end.damaged, 0);
    assert!(advised(&disk, Advice::DontNeed) > 30 << 20);
}

#[test]
fn a_queue_that_is_being_loaded_holds_up_nobody_else() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    for topic in ["quiet", "orders"] {
        append_one(&store, topic, 0, 1).unwrap();
    }
    store.run_background_work();
    store.shutdown();
    let store = open(&disk);
    append_one(&store, "orders", 0, 2).unwrap();
    disk.hold_reads(format!("/store/consumequeue/quiet/0/{:020}", 0).as_ref());
    thread::scope(|scope| {
        let loading = scope.spawn(|| store.queue("quiet", 0).unwrap().max_offset());
        let is_held = disk.wait_for_held_reads(1, TIMEOUT);
        let (done, served) = mpsc::channel();
        let store = &store;
        scope.spawn(move || {
            let offset = append_one(store, "orders", 0, 3).unwrap();
            append_one(store, "another", 0, 4).unwrap();
            done.send(offset).unwrap();
        });
        let served = served.recv_timeout(TIMEOUT);
        disk.release_reads();
        assert!(is_held, "the queue was loaded without its file");
        assert_eq!(served, Ok(2));
        assert_eq!(loading.join().unwrap(), 1);
    });
}
