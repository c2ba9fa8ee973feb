//! Deleting old files: what goes, what stays, what readers see, and a stop between any two steps.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::BytesMut;
use oxmq_store::disk::{Disk, Fault, RealDisk, SimulatedDisk};
use oxmq_store::{
    AppendBatch, AppendError, CleanReport, ConsumeQueue, DeletionReason, Expiry, FlushDiskType, GetLimits, GetMessages,
    GetStatus, MessageStore, QueueKind, RetentionSettings, StoreConfig, StoreFailure, StoreListener, Wait, config_file,
};
use parking_lot::Mutex;

use crate::support::*;

const DAY_MS: i64 = 86_400_000;

/// The clock of `small_config` begins later than this: files written at time 0 have expired.
fn config() -> StoreConfig {
    small_config(Path::new("/store"), FlushDiskType::Async)
}

fn open(disk: &SimulatedDisk) -> Arc<MessageStore> {
    open_on(config(), Arc::new(disk.clone()))
}

/// Appends to three queues in turn; the third gets the first few only.
fn fill(store: &MessageStore, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let queue_id = if number < 9 {
            (number % 3) as i32
        } else {
            (number % 2) as i32
        };
        append_one(store, "orders", queue_id, number).unwrap();
        if number % 40 == 39 {
            store.run_background_work();
        }
    }
    store.run_background_work();
}

fn names(disk: &SimulatedDisk, dir: &str) -> Vec<String> {
    let entries = disk.list(Path::new(dir)).unwrap();
    entries.into_iter().map(|entry| entry.name).collect()
}

/// Deletes all that is expired.
fn clean(store: &MessageStore) -> CleanReport {
    store.request_deletion();
    let mut all = CleanReport::default();
    loop {
        let report = store.run_retention();
        all.log_files += report.log_files;
        all.queue_files += report.queue_files;
        all.index_files += report.index_files;
        if report.log_files == 0 {
            return all;
        }
    }
}

fn get(store: &MessageStore, queue: &ConsumeQueue, from: i64) -> GetMessages {
    let mut out = BytesMut::new();
    let limits = GetLimits::count(32);
    store
        .get_messages(queue, from, &limits, &mut |_: i64| true, Wait::Allowed, &mut out)
        .unwrap()
}

#[test]
fn old_files_go_and_queues_and_index_follow() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    fill(&store, 0..400);
    let before: BTreeMap<i32, _> = (0..3)
        .map(|id| (id, contents(&store, &store.queue("orders", id).unwrap())))
        .collect();
    let (log_files, index_files) = (
        names(&disk, "/store/commitlog").len(),
        names(&disk, "/store/index").len(),
    );
    assert!(log_files > 8 && index_files > 3);

    let report = clean(&store);
    let last = names(&disk, "/store/commitlog");
    // The prepared file is there as well.
    assert!(last.len() <= 2, "{last:?}");
    assert!(
        report.log_files >= log_files - 2 && report.queue_files > 10 && report.index_files > 1,
        "{report:?}"
    );
    let log_min = store.min_physical_offset();
    assert_eq!(last[0], format!("{log_min:020}"));

    for (queue_id, before) in &before {
        let queue = store.queue("orders", *queue_id).unwrap();
        let (min, max) = (queue.min_offset(), queue.max_offset());
        assert_eq!(max, before.len() as i64);
        let kept: BTreeMap<i64, u64> = before.range(min..).map(|(offset, number)| (*offset, *number)).collect();
        assert_eq!(contents(&store, &queue), kept);
        let got = get(&store, &queue, 0);
        assert_eq!(
            (got.status, got.next_begin_offset, got.min_offset),
            (GetStatus::OffsetTooSmall, min, min)
        );
        assert!(names(&disk, &format!("/store/consumequeue/orders/{queue_id}")).len() <= 3);
        match queue_id {
            2 => assert_eq!((min, max), (3, 3)),
            _ => assert!(min > 100 && min < max),
        }
    }
    assert!(store.query("orders", "key-5", 8, 0, i64::MAX).records.is_empty());
    assert_eq!(store.query("orders", "key-399", 8, 0, i64::MAX).records.len(), 1);
    assert!(store.read_record(0).unwrap().is_none());
    assert_eq!(clean(&store), CleanReport::default());

    // Everything is found again by a clean start, a killed process, and a power cut.
    let there: Vec<_> = (0..3)
        .map(|id| contents(&store, &store.queue("orders", id).unwrap()))
        .collect();
    let after = |disk: SimulatedDisk, what: &str| {
        let store = open(&disk);
        for (queue_id, there) in there.iter().enumerate() {
            let queue = store.queue("orders", queue_id as i32).unwrap();
            assert_eq!(&contents(&store, &queue), there, "{what}");
            assert_eq!(queue.max_offset(), before[&(queue_id as i32)].len() as i64, "{what}");
        }
        assert_eq!(store.min_physical_offset(), log_min, "{what}");
    };
    after(disk.kill(), "killed");
    after(disk.crash(7), "power cut");
    store.shutdown();
    after(disk, "clean");
}

#[test]
fn young_files_stay_and_time_makes_them_old() {
    let disk = SimulatedDisk::new();
    let settings = RetentionSettings {
        reserved_ms: DAY_MS,
        ..RetentionSettings::default()
    };
    let config = StoreConfig {
        retention: settings,
        clock: Arc::new(|| 1_700_000_000_000),
        ..config()
    };
    let store = open_on(config, Arc::new(disk.clone()));
    disk.set_time(1_700_000_000_000 - DAY_MS);
    fill(&store, 0..100);
    let half_way = store.written();
    disk.set_time(1_700_000_000_000 - DAY_MS + 1);
    fill(&store, 100..200);
    clean(&store);
    let min = store.min_physical_offset();
    assert!(min <= half_way && half_way - min < 8 * 1024, "{min} {half_way}");
}

#[test]
fn who_reads_a_deleted_file_finishes_and_is_shown_the_way() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    fill(&store, 0..200);
    let queue = store.queue("orders", 0).unwrap();
    // Between the deletion and the correction of the minimum a reader finds entries without records.
    let old_min = queue.min_offset();
    clean(&store);
    assert!(queue.min_offset() > old_min);
    let middle = queue.min_offset();
    assert_eq!(get(&store, &queue, middle).status, GetStatus::Found);
    assert_eq!(get(&store, &queue, middle - 1).status, GetStatus::OffsetTooSmall);
    assert_eq!(store.first_offset_from(&queue, 0).unwrap(), middle);
    assert_eq!(store.first_offset_from(&queue, i64::MAX).unwrap(), queue.max_offset());
}

#[derive(Default)]
struct Watch {
    expiring: Mutex<Vec<Expiry>>,
    store: Mutex<Option<std::sync::Weak<MessageStore>>>,
}

impl StoreListener for Watch {
    fn arrived(&self, _: &[Arc<ConsumeQueue>]) {}
    fn flushed(&self, _: i64) {}
    fn failed(&self, _: &StoreFailure) {}
    fn expiring(&self, expiry: &Expiry) -> bool {
        let store = self.store.lock().as_ref().unwrap().upgrade().unwrap();
        assert_eq!(store.min_physical_offset(), expiry.from);
        assert!(
            store.read_record(expiry.from).unwrap().is_some(),
            "it can still be read"
        );
        self.expiring.lock().push(*expiry);
        true
    }
}

#[test]
fn files_are_announced_while_they_can_be_read() {
    let disk = SimulatedDisk::new();
    let watch = Arc::new(Watch::default());
    let store = MessageStore::open(config(), Arc::new(disk), Arc::clone(&watch) as _).unwrap();
    *watch.store.lock() = Some(Arc::downgrade(&store));
    fill(&store, 0..200);
    let report = clean(&store);
    let expiring = watch.expiring.lock();
    assert_eq!(expiring.len(), report.log_files);
    let ends: Vec<i64> = expiring.iter().map(|expiry| expiry.to).collect();
    assert!(ends.is_sorted() && ends.last() == Some(&store.min_physical_offset()));
    assert!(expiring.iter().all(|expiry| expiry.reason == DeletionReason::Request));
}

#[test]
fn a_full_disk_refuses_serves_readers_and_recovers_by_deleting() {
    let disk = SimulatedDisk::new();
    disk.set_time(1_700_000_000_000);
    let store = open(&disk);
    fill(&store, 0..300);
    let used = disk.usage(Path::new("/store")).unwrap().used_bytes;
    let queue = store.queue("orders", 0).unwrap();
    let before = contents(&store, &queue);
    // Young files, and more than 90 % used: nothing is deleted while that is not allowed.
    let without_force = RetentionSettings {
        is_forced_enabled: false,
        ..RetentionSettings::default()
    };
    store.set_retention(without_force);
    disk.set_capacity(Some(used * 100 / 95));
    store.run_retention();
    assert!((95..=96).contains(&store.space().commit_log));
    assert!(matches!(
        append_one(&store, "orders", 0, 300),
        Err(AppendError::DiskFull(_))
    ));
    assert!(store.writeable().is_err());
    assert_eq!(contents(&store, &queue), before);

    store.set_retention(RetentionSettings::default());
    let report = store.run_retention();
    assert!(report.log_files > 0, "{report:?}");
    let space = store.space().commit_log;
    assert!((70..=85).contains(&space), "no more than it must: {space}");
    append_one(&store, "orders", 0, 300).unwrap();
    let kept: Vec<u64> = contents(&store, &queue).into_values().collect();
    assert_eq!(kept.last(), Some(&300));
    assert!(kept.len() < before.len());

    // More room: nothing else goes.
    disk.set_capacity(None);
    assert_eq!(store.run_retention().log_files, 0);
}

#[test]
fn queues_without_records_begin_anew_on_request() {
    let disk = SimulatedDisk::new();
    let mut config = config();
    config.queue_kind_of = Arc::new(|topic| match topic {
        "batches" => QueueKind::Batch,
        _ => QueueKind::Simple,
    });
    let store = open_on(config.clone(), Arc::new(disk.clone()));
    for number in 0..20 {
        append_one(&store, "quiet", 0, number).unwrap();
        append_one(&store, "batches", 0, number).unwrap();
        append_one(&store, "system", 0, number).unwrap();
    }
    fill(&store, 20..300);
    assert!(store.reset_expired_queues(&|_| false).is_empty());
    clean(&store);
    let keeps = |topic: &str| topic == "system";
    let reset: Vec<_> = store
        .reset_expired_queues(&keeps)
        .into_iter()
        .map(|(topic, _)| topic)
        .collect();
    let mut reset: Vec<&str> = reset.iter().map(|topic| &**topic).collect();
    reset.sort_unstable();
    assert_eq!(reset, ["batches", "quiet"]);
    assert_eq!(store.queue("system", 0).unwrap().max_offset(), 20);
    for topic in ["quiet", "batches"] {
        let queue = store.queue(topic, 0).unwrap();
        assert_eq!((queue.min_offset(), queue.max_offset()), (0, 0), "{topic}");
        assert_eq!(get(&store, &queue, 20).status, GetStatus::NoMessageInQueue, "{topic}");
        assert_eq!(append_one(&store, topic, 0, 1000).unwrap(), 0, "{topic}");
    }
    for disk in [disk.kill(), {
        store.run_background_work();
        disk.kill()
    }] {
        let store = open_on(config.clone(), Arc::new(disk));
        for topic in ["quiet", "batches"] {
            let queue = store.queue(topic, 0).unwrap();
            assert!(contents(&store, &queue).into_iter().eq([(0, 1000)]), "{topic}");
        }
    }
}

#[test]
fn a_second_commit_log_folder_takes_what_the_full_one_does_not() {
    let disk = SimulatedDisk::new();
    let mut config = config();
    config.commit_log_dirs = vec!["/store/a".into(), "/store/b".into()];
    let store = open_on(config, Arc::new(disk.clone()));
    fill(&store, 0..200);
    let (a, b) = (names(&disk, "/store/a").len(), names(&disk, "/store/b").len());
    assert!(a > 1 && b > 1 && a.abs_diff(b) <= 1);
    clean(&store);
    assert!(names(&disk, "/store/a").len() + names(&disk, "/store/b").len() <= 2);
    fill(&store, 200..230);
    assert!(
        contents(&store, &store.queue("orders", 0).unwrap())
            .into_values()
            .last()
            == Some(228)
    );
}

/// What a run until a stop has promised: the offsets that were given, and the newest that may have been deleted.
#[derive(Default)]
struct Promised {
    /// Operations of the disk between which something was deleted.
    deletions: Vec<std::ops::Range<u64>>,
    given: BTreeMap<(i32, i64), u64>,
    /// Messages from this number on are in files that are never deleted.
    safe_from: u64,
}

/// Fills, cleans, goes on and cleans again, until the machine stops.
fn run_until(stop: u64) -> (SimulatedDisk, Promised) {
    let disk = SimulatedDisk::new();
    disk.stop_after(stop);
    let promised = run_on(&disk);
    (disk, promised)
}

fn run_on(disk: &SimulatedDisk) -> Promised {
    let mut promised = Promised::default();
    let mut config = config();
    config.flush_disk_type = FlushDiskType::Sync;
    let Ok(store) = MessageStore::open(config, Arc::new(disk.clone()), Arc::new(Listener::default())) else {
        return promised;
    };
    let mut number = 0;
    for round in 0..6 {
        for _ in 0..60 {
            let queue_id = if round == 0 {
                (number % 3) as i32
            } else {
                (number % 2) as i32
            };
            if let Ok(offset) = append_one(&store, "orders", queue_id, number)
                && store.flush()
                && store.writeable().is_ok()
            {
                promised.given.insert((queue_id, offset), number);
            }
            number += 1;
        }
        store.run_background_work();
        if round % 2 == 1 {
            // Whatever lies in the last file stays. It holds less than 60 messages of the present size.
            promised.safe_from = number;
            let began = disk.operations();
            store.request_deletion();
            store.run_retention();
            promised.deletions.push(began..disk.operations());
        }
    }
    store.shutdown();
    promised
}

fn check(disk: &SimulatedDisk, promised: &Promised, what: &str) {
    let store = match open_simulated(disk, FlushDiskType::Sync) {
        Ok(store) => store,
        Err(error) => panic!("{what}: does not start: {error}"),
    };
    let log_min = store.min_physical_offset();
    for queue in store.queues_of("orders") {
        let queue_id = queue.queue_id();
        let found = contents(&store, &queue);
        let range = queue.min_offset()..queue.max_offset();
        assert!(
            found.keys().copied().eq(range.clone()),
            "{what}: gap in {queue_id}: {range:?} {found:?}"
        );
        for ((_, offset), number) in promised.given.range((queue_id, 0)..(queue_id + 1, 0)) {
            assert!(*offset < range.end, "{what}: message {number} has lost its place");
            if *offset >= range.start {
                assert_eq!(found.get(offset), Some(number), "{what}");
            } else {
                assert!(
                    log_min > 0 && *number < promised.safe_from,
                    "{what}: message {number} is gone"
                );
            }
        }
    }
    // It goes on, cleans what is left, and starts again.
    for number in 0..80 {
        append_one(&store, "orders", 0, 1_000_000 + number).unwrap();
    }
    store.run_background_work();
    clean(&store);
    let queue = store.queue("orders", 0).unwrap();
    let last = contents(&store, &queue).into_values().last();
    assert_eq!(last, Some(1_000_079), "{what}");
    let (min, max) = (queue.min_offset(), queue.max_offset());
    store.shutdown();
    drop(store);
    let store = open_simulated(disk, FlushDiskType::Sync).unwrap();
    let queue = store.queue("orders", 0).unwrap();
    assert_eq!((queue.min_offset(), queue.max_offset()), (min, max), "{what}");
}

#[test]
fn a_stop_between_any_two_steps_of_deletion_leaves_a_whole_store() {
    let (disk, promised) = run_until(u64::MAX / 2);
    let within = |stop: &u64| promised.deletions.iter().any(|deletion| deletion.contains(stop));
    let stops = (0..disk.operations()).filter(|stop| within(stop) || stop % 13 == 0);
    let mut tried = 0;
    for stop in stops {
        let (disk, promised) = run_until(stop);
        check(&disk.kill(), &promised, &format!("kill at {stop}"));
        check(&disk.crash(stop), &promised, &format!("power cut at {stop}"));
        tried += 1;
    }
    assert!(tried > 80, "the script has only {tried} stops");
}

#[test]
fn writing_goes_on_after_each_kind_of_file_found_no_space() {
    let disk = SimulatedDisk::new();
    let listener = Arc::new(Listener::default());
    let store = MessageStore::open(config(), Arc::new(disk.clone()), Arc::clone(&listener) as _).unwrap();
    store.run_background_work();
    let mut given = Vec::new();
    let mut refused = 0;
    for number in 0..600u64 {
        // The space runs out at ever other moments: on an append, a roll, a queue's file, an index file.
        if number % 23 == 0 {
            let used = disk.usage(Path::new("/store")).unwrap().used_bytes;
            disk.set_capacity(Some(used + number % 5 * 1024));
        }
        match append_one(&store, "orders", (number % 4) as i32, number) {
            Ok(offset) => given.push((number, offset)),
            Err(AppendError::DiskFull(_)) => refused += 1,
            Err(other) => panic!("{other}"),
        }
        store.run_background_work();
        if number % 23 == 17 {
            for (known, offset) in &given {
                let queue = store.queue("orders", (known % 4) as i32).unwrap();
                assert!(queue.max_offset() > *offset);
            }
            disk.set_capacity(None);
            store.run_background_work();
            store.run_retention();
            assert!(store.writeable().is_ok(), "message {number}");
        }
    }
    assert!(refused > 20 && given.len() > 300, "{refused} {}", given.len());
    assert_eq!(listener.failed.load(Ordering::SeqCst), 0);
    disk.set_capacity(None);
    store.run_background_work();
    let check = |store: &MessageStore| {
        for queue_id in 0..4 {
            let expected = given.iter().filter(|(number, _)| number % 4 == queue_id as u64);
            let found = contents(store, &store.queue("orders", queue_id).unwrap());
            let min = *found.keys().next().unwrap_or(&0);
            let expected: BTreeMap<i64, u64> = expected
                .map(|(number, offset)| (*offset, *number))
                .filter(|(offset, _)| *offset >= min)
                .collect();
            assert_eq!(found, expected);
        }
    };
    check(&store);
    store.shutdown();
    check(&open(&disk));
}

#[test]
fn a_full_disk_keeps_the_previous_version_of_a_table() {
    let disk = SimulatedDisk::new();
    let path = Path::new("/store/config/topics.json");
    config_file::save(&disk, path, b"first").unwrap();
    let used = disk.usage(path).unwrap().used_bytes;
    for space in [0, 1000, 4096] {
        disk.set_capacity(Some(used + space));
        assert!(config_file::save(&disk, path, &[b'x'; 20_000]).is_err());
        for disk in [disk.kill(), disk.crash(space)] {
            let found = config_file::load(&disk, path, |bytes| Some(bytes.to_vec())).unwrap();
            assert_eq!(found.as_deref(), Some(&b"first"[..]), "{space}");
        }
    }
    disk.set_capacity(None);
    config_file::save(&disk, path, b"second").unwrap();
    let found = config_file::load(&disk.crash(1), path, |bytes| Some(bytes.to_vec())).unwrap();
    assert_eq!(found.as_deref(), Some(&b"second"[..]));
}

/// `OXMQ_SMALL_DISK` names an empty folder on a file system of some 20 to 100 MB, such as
/// `mount -t tmpfs -o size=32m tmpfs <folder>`.
#[test]
fn a_real_disk_fills_up_refuses_and_goes_on() {
    let Some(dir) = std::env::var_os("OXMQ_SMALL_DISK") else {
        return;
    };
    let root = Path::new(&dir).join("store");
    let mut config = StoreConfig::new(&root);
    config.commit_log_file_bytes = 1 << 20;
    config.consume_queue_file_bytes = 20_000;
    config.index_slots = 1000;
    config.index_entries = 10_000;
    config.background_threads = false;
    // The ratio does not refuse, and nothing is deleted: the disk itself has to.
    config.retention.is_forced_enabled = false;
    config.retention.reserved_ms = i64::MAX / 2;
    let store = open_on(config.clone(), Arc::new(RealDisk));
    let full = |error: AppendError| assert!(matches!(error, AppendError::DiskFull(_)), "{error}");
    let mut given = Vec::new();
    let mut append = |store: &MessageStore, number: u64| {
        let mut batch = AppendBatch::default();
        add(
            &mut batch,
            &store.queue_or_create("orders", (number % 3) as i32),
            number,
            4000,
        );
        let appended = store.append(&mut batch);
        if appended.is_ok() {
            given.push((number, batch.entries[0].queue_offset));
        }
        appended
    };
    let mut number = 0;
    let ballast = root.join("ballast");
    for round in 0..3 {
        let refused = loop {
            match append(&store, number) {
                Ok(()) => number += 1,
                Err(refused) => break refused,
            }
            if number % 50 == 0 {
                store.run_background_work();
            }
            assert!(number < 100_000);
        };
        full(refused);
        store.run_background_work();
        // Somebody makes room, and takes it again.
        let room = 3 << 20;
        match round {
            0 => {
                let settings = RetentionSettings {
                    reserved_ms: 0,
                    files_per_round: 4,
                    is_forced_enabled: false,
                    ..RetentionSettings::default()
                };
                store.set_retention(settings);
                store.request_deletion();
                assert_eq!(store.run_retention().log_files, 4);
                std::fs::write(&ballast, vec![1; room]).ok();
            }
            _ => std::fs::remove_file(&ballast).unwrap_or_default(),
        }
        store.run_retention();
        store.run_background_work();
    }
    assert!(store.min_physical_offset() > 0);
    let check = |store: &MessageStore| {
        for queue_id in 0..3 {
            let queue = store.queue("orders", queue_id).unwrap();
            let found = contents(store, &queue);
            let expected = given
                .iter()
                .filter(|(number, offset)| number % 3 == queue_id as u64 && *offset >= queue.min_offset());
            assert!(expected.map(|(number, offset)| (*offset, *number)).eq(found));
        }
    };
    check(&store);
    drop(store);
    let store = open_on(config, Arc::new(RealDisk));
    check(&store);
    store.shutdown();
    std::fs::remove_dir_all(&root).unwrap();
}

#[test]
fn no_fault_of_the_disk_during_deletion_costs_a_message() {
    for fault in [Fault::Sync, Fault::Space, Fault::Read] {
        with_each_fault(fault, run_on, |disk, promised, after| {
            let what = format!("{fault:?} {after}");
            match fault {
                Fault::Sync => check(&disk.crash(after), promised, &what),
                _ => check(&disk.kill(), promised, &what),
            }
        });
    }
}
