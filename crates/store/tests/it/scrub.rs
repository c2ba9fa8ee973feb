//! Looking at the whole log, and what is damaged in it.

use std::path::Path;

use oxmq_store::FlushDiskType;
use oxmq_store::disk::{Disk, SimulatedDisk};

use crate::support::*;

const LOG: &str = "/store/commitlog/00000000000000000000";
const QUEUE: &str = "/store/consumequeue/orders/0/00000000000000000000";

#[test]
fn damage_is_counted_and_entries_are_mended_while_the_rest_is_served() {
    let disk = SimulatedDisk::new();
    let store = open_simulated(&disk, FlushDiskType::Sync).unwrap();
    for number in 0..100 {
        append_one(&store, "orders", 0, number).unwrap();
    }
    // Queue files name only what the call before made durable.
    store.run_background_work();
    store.run_background_work();
    let sound = store.scrub().unwrap();
    assert_eq!((sound.passes, sound.damaged, sound.mended), (1, 0, 0));
    // In a body; in the tags code of an entry.
    disk.flip_bit(Path::new(LOG), 95, 2);
    disk.flip_bit(Path::new(QUEUE), 20 * 3 + 15, 2);
    let found = store.scrub().unwrap();
    assert!(found.damaged > 0);
    assert_eq!((found.passes, found.mended), (2, 1));
    assert_eq!(store.figures().damaged, found.damaged);
    let queue = store.queue("orders", 0).unwrap();
    assert!(contents(&store, &queue).into_values().eq(1..100));
    assert_eq!(store.scrub().unwrap().mended, 1, "it was mended");
}

#[test]
fn progress_survives_a_restart_and_damage_of_its_file() {
    let disk = SimulatedDisk::new();
    let store = open_simulated(&disk, FlushDiskType::Sync).unwrap();
    for number in 0..100 {
        append_one(&store, "orders", 0, number).unwrap();
    }
    store.run_background_work();
    let before = store.scrub().unwrap();
    store.shutdown();
    drop(store);
    let store = open_simulated(&disk, FlushDiskType::Sync).unwrap();
    assert_eq!(store.scrub_progress(), before);
    store.shutdown();
    drop(store);
    disk.create(Path::new("/store/checksums/progress")).unwrap();
    let store = open_simulated(&disk, FlushDiskType::Sync).unwrap();
    assert_eq!(store.scrub_progress().passes, 0);
    assert_eq!(store.scrub().unwrap().damaged, 0);
}

#[test]
fn what_another_broker_wrote_anew_is_not_taken_for_damage() {
    let disk = SimulatedDisk::new();
    let store = open_simulated(&disk, FlushDiskType::Sync).unwrap();
    for number in 0..100 {
        append_one(&store, "orders", 0, number).unwrap();
    }
    store.run_background_work();
    store.shutdown();
    drop(store);
    // A broker that does not know the checksums has other records from the second file on.
    let other = SimulatedDisk::new();
    let store = open_simulated(&other, FlushDiskType::Sync).unwrap();
    for number in 1_000..1_100 {
        append_one(&store, "orders", 0, number).unwrap();
    }
    store.shutdown();
    drop(store);
    for entry in disk.list(Path::new("/store/checksums")).unwrap() {
        let from = disk.open(&Path::new("/store/checksums").join(&entry.name)).unwrap();
        let mut bytes = vec![0; entry.len as usize];
        from.read_at(&mut bytes, 0).unwrap();
        other.create_dir_all(Path::new("/store/checksums")).unwrap();
        let to = other.create(&Path::new("/store/checksums").join(&entry.name)).unwrap();
        to.write_all_at(&[std::io::IoSlice::new(&bytes)], 0).unwrap();
    }
    let store = open_simulated(&other, FlushDiskType::Sync).unwrap();
    store.run_background_work();
    let queue = store.queue("orders", 0).unwrap();
    assert!(contents(&store, &queue).into_values().eq(1_000..1_100));
    assert_eq!(store.scrub().unwrap().damaged, 0);
}
