//! Old data: what the page cache is told about it, and who waits for it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bytes::BytesMut;
use oxmq_store::disk::{Advice, SimulatedDisk};
use oxmq_store::{
    AppendBatch, Codes, ColdArea, ConsumeQueue, FlushDiskType, GetError, GetLimits, MessageFilter, MessageStore,
    StoreConfig, TagsCode, Wait,
};

use crate::support::*;

const FILE_BYTES: u64 = 8 << 20;
/// A record with everything around its body.
const BODY_BYTES: usize = 64 << 10;
const MESSAGES: u64 = 512;
/// What is read at once.
const BLOCK_BYTES: u64 = 32 << 10;
/// What is looked at for damage at once.
const GROUP_BYTES: u64 = 128 << 10;
const TIMEOUT: Duration = Duration::from_secs(30);

fn open(disk: &SimulatedDisk) -> Arc<MessageStore> {
    let config = StoreConfig {
        commit_log_file_bytes: FILE_BYTES,
        consume_queue_file_bytes: 20 * 1000,
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

fn log_files() -> impl Iterator<Item = PathBuf> {
    let bases = (0..MESSAGES * BODY_BYTES as u64).step_by(FILE_BYTES as usize);
    bases.map(|base| format!("/store/commitlog/{base:020}").into())
}

/// What the page cache lacks of the log.
fn forgotten(disk: &SimulatedDisk) -> u64 {
    log_files().map(|path| disk.forgotten_bytes(&path)).sum()
}

/// Bytes of the whole log that such advice was given about.
fn advised(disk: &SimulatedDisk, advice: Advice) -> u64 {
    let ranges = log_files().flat_map(|path| disk.advised(&path, advice));
    ranges.map(|range| range.end - range.start).sum()
}

/// Two pages here and there are not in memory. Returns how many bytes that are, and in how many places.
fn forget_pages(disk: &SimulatedDisk) -> (u64, u64) {
    let mut places = 0;
    for path in log_files() {
        for at in (200 << 10..FILE_BYTES).step_by(600 << 10) {
            disk.forget_part(&path, at..at + (8 << 10));
            places += 1;
        }
    }
    assert_eq!(forgotten(disk), places * (8 << 10));
    (forgotten(disk), places)
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

    disk.forget();
    let before = forgotten(&disk);
    contents(&store, &queue);
    let fetched = advised(&disk, Advice::WillNeed);
    assert!(fetched > 24 << 20, "{fetched} bytes were asked for");
    let kept = before - forgotten(&disk);
    assert!(kept <= (8 << 20) + BLOCK_BYTES, "{kept} bytes stay");
}

/// It ends in a page that is not in memory: it is there all the same, and so is what comes behind it.
#[test]
fn an_entry_that_is_only_half_in_memory_is_waited_for() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    fill(&store);
    // What was flushed last goes to the queue's file.
    store.run_background_work();
    let queue = store.queue("orders", 0).unwrap();
    let across = 4096 / 20;
    assert_ne!(4096 % 20, 0);
    disk.forget_part(
        "/store/consumequeue/orders/0/00000000000000000000".as_ref(),
        4096..20 * 1000,
    );
    let mut out = BytesMut::new();
    let mut get = |from, wait| {
        let limits = GetLimits::count(1);
        let got = store.get_messages(&queue, from, &limits, &mut |_: i64| true, wait, &mut out);
        got.map(|got| (got.count, got.next_begin_offset))
    };
    assert!(matches!(get(across, Wait::Never), Err(GetError::WouldBlock)));
    assert_eq!(get(across, Wait::Allowed).unwrap(), (1, across + 1));
}

#[test]
fn a_backlog_in_memory_stays_there_when_pages_of_it_are_missing() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    fill(&store);
    let queue = store.queue("orders", 0).unwrap();
    let (missing, _) = forget_pages(&disk);
    let (_, waited_before) = disk.waits();
    for _ in 0..3 {
        contents(&store, &queue);
    }
    let (_, waited) = disk.waits();
    assert_eq!((advised(&disk, Advice::DontNeed), forgotten(&disk)), (0, 0));
    assert_eq!(waited - waited_before, missing);
}

#[test]
fn a_cold_reader_leaves_what_it_comes_to_in_memory() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    fill(&store);
    let queue = store.queue("orders", 0).unwrap();
    let hot: Vec<PathBuf> = log_files().skip(2).collect();
    for path in log_files().take(2) {
        disk.forget_part(&path, 0..FILE_BYTES);
    }
    contents(&store, &queue);
    assert!(advised(&disk, Advice::DontNeed) > 4 << 20);
    assert!(hot.iter().all(|path| disk.forgotten_bytes(path) == 0));
}

#[test]
fn of_a_backlog_that_is_cold_those_who_cannot_wait_do_not_try_again_and_again() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    fill(&store);
    let queue = store.queue("orders", 0).unwrap();
    for path in log_files() {
        disk.forget_part(&path, 0..FILE_BYTES);
    }
    let (before, mut from, mut handed_over) = (disk.tries_in_vain(), 0, Vec::new());
    let get = |from, wait| {
        let (mut out, limits) = (BytesMut::new(), GetLimits::count(4));
        store.get_messages(&queue, from, &limits, &mut |_| true, wait, &mut out)
    };
    while from < queue.max_offset() {
        let got = get(from, Wait::Never).or_else(|_| {
            let tried = disk.tries_in_vain();
            let got = get(from, Wait::Allowed);
            // Those who may wait look first, too.
            handed_over.push(disk.tries_in_vain() - tried);
            got
        });
        from = got.unwrap().next_begin_offset;
    }
    let by_others: u64 = handed_over.iter().sum();
    assert!((8..32).contains(&handed_over.len()), "{handed_over:?}");
    assert_eq!(disk.tries_in_vain() - before - by_others, 1);
}

#[test]
fn without_reading_ahead_a_backlog_comes_block_by_block() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    fill(&store);
    let queue = store.queue("orders", 0).unwrap();
    store.set_read_ahead(false);
    disk.forget();
    assert_eq!(contents(&store, &queue).len(), MESSAGES as usize);
    let fetched: Vec<_> = log_files()
        .flat_map(|path| disk.advised(&path, Advice::WillNeed))
        .collect();
    assert!(
        fetched.iter().all(|range| range.end - range.start <= BLOCK_BYTES),
        "{fetched:?}"
    );
    assert!(advised(&disk, Advice::DontNeed) > 16 << 20);
}

/// The bytes that a reader of the whole queue gets, and those of them that are cold.
fn read_all(store: &MessageStore, queue: &ConsumeQueue) -> (usize, usize) {
    let (mut bytes, mut cold, mut from) = (0, 0, 0);
    while from < queue.max_offset() {
        let (mut out, limits) = (BytesMut::new(), GetLimits::count(4));
        let got = store.get_messages(queue, from, &limits, &mut |_: i64| true, Wait::Allowed, &mut out);
        let got = got.unwrap();
        (bytes, cold, from) = (bytes + got.bytes, cold + got.cold_bytes, got.next_begin_offset);
    }
    (bytes, cold)
}

#[test]
fn what_lies_behind_the_border_is_cold_all_of_it_or_what_the_disk_brings() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    fill(&store);
    let queue = store.queue("orders", 0).unwrap();
    let area = |memory_percent, from_disk| ColdArea {
        memory_percent,
        from_disk,
    };
    for (set, is_cold, counts) in [
        (None, false, false),
        (Some(area(100, false)), false, false),
        (Some(area(0, false)), true, true),
        // All of it is in memory.
        (Some(area(0, true)), true, false),
    ] {
        store.set_cold_area(set);
        let (bytes, cold) = read_all(&store, &queue);
        assert_eq!(cold, if counts { bytes } else { 0 }, "{set:?}");
        assert_eq!(store.is_cold(&queue, 0), is_cold, "{set:?}");
        assert!(!store.is_cold(&queue, queue.max_offset()) && !store.is_cold(&queue, -1));
    }
    disk.forget();
    let (bytes, cold) = read_all(&store, &queue);
    // The newest part may be in the store's own memory.
    assert!(cold > bytes / 2, "{cold} of {bytes}");
}

struct OfCodeOne;

impl MessageFilter for OfCodeOne {
    fn accepts_code(&mut self, tags_code: i64) -> bool {
        tags_code == 1
    }

    fn codes(&self) -> Codes<'_> {
        Codes::Only(&[1])
    }
}

#[test]
fn a_filter_that_takes_little_fetches_little_and_all_at_once() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    let queue = store.queue_or_create("orders", 0);
    let mut batch = AppendBatch::default();
    for number in 0..800 {
        add(&mut batch, &queue, number, 1000);
        let code = if number % 100 == 42 { 1 } else { 0 };
        batch.entries.last_mut().unwrap().tags_code = TagsCode::Hash(code);
    }
    store.append(&mut batch).unwrap();
    // The newest part of the log is in memory.
    fill(&store);
    disk.forget();
    let get = |wait| {
        let (mut out, limits) = (BytesMut::new(), GetLimits::count(32));
        store.get_messages(&queue, 0, &limits, &mut OfCodeOne, wait, &mut out)
    };
    assert!(matches!(get(Wait::Never), Err(GetError::WouldBlock)));
    assert_eq!(get(Wait::Allowed).unwrap().count, 8);
    let path = log_files().next().unwrap();
    assert_eq!(disk.advised(&path, Advice::WillNeed).len(), 8);
    assert_eq!(advised(&disk, Advice::DontNeed), 0);
    // Two for entries, and for checksums; none for records.
    let (reads, bytes) = disk.waits();
    assert!(reads <= 4 && bytes <= 32 << 10, "{reads} reads, {bytes} bytes");
    let fetched = FILE_BYTES - disk.forgotten_bytes(&path);
    assert!(fetched <= 16 * 4096, "{fetched} bytes of the log were fetched");
    assert_eq!(get(Wait::Never).unwrap().count, 8);

    let mut asked = 0;
    let mut counts = |code| {
        asked += 1;
        code == 1
    };
    let (mut out, limits) = (BytesMut::new(), GetLimits::count(32));
    let got = store.get_messages(&queue, 0, &limits, &mut counts, Wait::Allowed, &mut out);
    assert_eq!(
        got.unwrap().next_begin_offset,
        asked,
        "a function is asked once about each"
    );
}

#[test]
fn a_miss_of_a_reader_that_cannot_wait_costs_others_no_memory() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    fill(&store);
    let queue = store.queue("orders", 0).unwrap();
    let get = |from| {
        let (mut out, limits) = (BytesMut::new(), GetLimits::count(1));
        store.get_messages(&queue, from, &limits, &mut |_| true, Wait::Never, &mut out)
    };
    // As many blocks as fit.
    assert_eq!((get(0).unwrap().count, get(8).unwrap().count), (1, 1));
    for path in log_files() {
        disk.forget_part(&path, 0..FILE_BYTES);
    }
    for from in 100..200 {
        assert!(matches!(get(from), Err(GetError::WouldBlock)));
    }
    assert_eq!((get(0).unwrap().count, get(8).unwrap().count), (1, 1));
}

#[test]
fn looking_for_damage_leaves_the_page_cache_as_it_was() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    fill(&store);
    store.scrub().unwrap();
    assert_eq!(advised(&disk, Advice::DontNeed), 0);

    let (missing, places) = forget_pages(&disk);
    store.scrub().unwrap();
    assert!((missing..=places * GROUP_BYTES).contains(&forgotten(&disk)));

    disk.forget();
    let before = forgotten(&disk);
    assert_eq!(store.scrub().unwrap().damaged, 0);
    let kept = before - forgotten(&disk);
    assert!(kept <= 1 << 20, "{kept} bytes stay");
}

#[test]
fn sealing_leaves_the_page_cache_as_it_was() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    let queue = store.queue_or_create("orders", 0);
    for number in 0..MESSAGES {
        let mut batch = AppendBatch::default();
        add(&mut batch, &queue, number, BODY_BYTES);
        store.append(&mut batch).unwrap();
    }
    assert!(store.flush());
    let (missing, places) = forget_pages(&disk);
    store.scrub().unwrap();
    assert!((missing..=places * GROUP_BYTES).contains(&forgotten(&disk)));
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
