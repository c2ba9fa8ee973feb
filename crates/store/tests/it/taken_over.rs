//! Stores as a Java broker leaves them.

use std::io::IoSlice;
use std::path::{Path, PathBuf};

use oxmq_store::disk::{Disk, SimulatedDisk};
use oxmq_store::{FlushDiskType, MessageStore};

use crate::support::*;

const MESSAGES: u64 = 200;

/// A store with several files of each kind, stopped in order.
fn filled() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let store = open_simulated(&disk, FlushDiskType::Async).unwrap();
    for number in 0..MESSAGES {
        append_one(&store, "orders", 0, number).unwrap();
    }
    store.run_background_work();
    store.shutdown();
    assert!(index_files(&disk).len() > 2);
    disk
}

fn index_files(disk: &SimulatedDisk) -> Vec<PathBuf> {
    let dir = Path::new("/store/index");
    let mut files: Vec<_> = disk
        .list(dir)
        .unwrap()
        .iter()
        .map(|file| dir.join(&file.name))
        .collect();
    files.sort();
    files
}

/// What a Java broker leaves when it is killed that has never met ours. Of the index it trusts what is not younger.
fn kill_java(disk: &SimulatedDisk, index_timestamp: i64) {
    let abort = disk.create(Path::new("/store/abort")).unwrap();
    abort.write_all_at(&[IoSlice::new(b"4711")], 0).unwrap();
    let checkpoint = disk.open(Path::new("/store/checkpoint")).unwrap();
    checkpoint.write_all_at(&[IoSlice::new(&[0; 256])], 16).unwrap();
    checkpoint
        .write_all_at(&[IoSlice::new(&index_timestamp.to_be_bytes())], 16)
        .unwrap();
}

fn check_index(disk: &SimulatedDisk, what: &str) {
    let store = open_simulated(disk, FlushDiskType::Async).unwrap();
    store.run_background_work();
    check_finds_each(&store, what);
    store.shutdown();
}

fn check_finds_each(store: &MessageStore, what: &str) {
    for number in 0..MESSAGES {
        let found = store.query("orders", &format!("key-{number}"), 5, 0, i64::MAX);
        assert_eq!(found.records.len(), 1, "{what}: message {number}");
    }
}

#[test]
fn after_a_kill_of_java_the_index_names_all_of_the_log() {
    let disk = filled();
    kill_java(&disk, 0);
    check_index(&disk, "no index file is trusted");

    let disk = filled();
    kill_java(&disk, i64::MAX);
    check_index(&disk, "all index files are trusted");
}

/// Java trusts full files that it has forced to disk.
#[test]
fn a_full_index_file_of_java_is_gone_on_with() {
    for kept in 1..3 {
        let disk = filled();
        let mut bytes = [0; 40];
        let file = disk.open(&index_files(&disk)[kept - 1]).unwrap();
        file.read_at(&mut bytes, 0).unwrap();
        kill_java(&disk, i64::from_be_bytes(*bytes[8..].first_chunk().unwrap()));
        check_index(&disk, "some files are trusted");
    }
}

/// The header of a new file says where the one before it ends.
#[test]
fn a_new_index_file_of_java_without_entries_is_gone_on_with() {
    let disk = filled();
    let files = index_files(&disk);
    let newest = &files[files.len() - 1];
    let mut bytes = vec![0; disk.open(newest).unwrap().len().unwrap() as usize];
    disk.open(newest).unwrap().read_at(&mut bytes, 0).unwrap();
    let (end_timestamp, end_offset) = (bytes[8..16].to_vec(), bytes[24..32].to_vec());
    bytes.fill(0);
    for (at, value) in [
        (0, &end_timestamp),
        (8, &end_timestamp),
        (16, &end_offset),
        (24, &end_offset),
    ] {
        bytes[at..at + 8].copy_from_slice(value);
    }
    let new = disk.create(&newest.with_file_name("29991231235959999")).unwrap();
    new.write_all_at(&[IoSlice::new(&bytes)], 0).unwrap();
    kill_java(&disk, i64::MAX);
    check_index(&disk, "the newest file has no entries");
}

#[test]
fn what_java_drops_of_the_index_at_its_start_is_entered_again() {
    let disk = filled();
    let files = index_files(&disk);
    disk.remove_file(&files[files.len() - 1]).unwrap();
    check_index(&disk, "the newest file is gone");

    let disk = filled();
    for file in index_files(&disk) {
        disk.remove_file(&file).unwrap();
    }
    check_index(&disk, "all files are gone");
}

/// Java has started after a kill, dropped the newest file, entered the end of the log into a new one, and stopped in order.
#[test]
fn a_new_index_file_of_java_does_not_stand_for_the_one_it_dropped() {
    let disk = filled();
    let files = index_files(&disk);
    let newest = &files[files.len() - 1];
    let other = newest.with_file_name("29991231235959999");
    disk.rename(newest, &other).unwrap();
    check_index(&disk, "the newest file is another one");
}
