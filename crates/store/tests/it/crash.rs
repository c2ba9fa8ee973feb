//! Power cuts and killed processes at every single operation of a script.
//!
//! The script runs on the simulated disk until the machine stops at its n-th write, sync, rename, creation or change of
//! length; the disk is then what a power cut with some seed leaves, or what a killed process leaves. Whatever n is:
//! the store starts, holds what was promised, and its parts agree. `OXMQ_CRASH_SEEDS` sets the seeds per stop.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::BytesMut;
use oxmq_protocol::record::RecordRef;
use oxmq_store::disk::{Disk, Fault, SimulatedDisk};
use oxmq_store::{AppendBatch, FlushDiskType, MessageStore, RecoveryReport, Wait, config_file};

use crate::support::*;

const CONFIG_FILE: &str = "/store/config/topics.json";
const TOPICS: [&str; 3] = ["orders", "payments", "%RETRY%group"];

/// What the script has been promised, and what it has tried.
#[derive(Default)]
struct Ledger {
    /// Number of each message by topic, queue id and queue offset, with the position its promise needs.
    written: BTreeMap<(usize, i32, i64), (u64, i64)>,
    flushed: i64,
    config_saved: u64,
    config_tried: u64,
    next_number: u64,
}

struct Script {
    disk: SimulatedDisk,
    flush_disk_type: FlushDiskType,
    store: Option<Arc<MessageStore>>,
    ledger: Ledger,
}

impl Script {
    /// 200 operations. Ends early, with `None`, when the machine stops.
    fn run(&mut self) -> Option<()> {
        self.open()?;
        for step in 0..200 {
            match step % 20 {
                7 | 17 => self.background()?,
                3 | 13 => self.save_config()?,
                9 if step % 60 == 49 => {
                    self.store.take()?.shutdown();
                    self.open()?;
                }
                14 => self.append(step, 5)?,
                other => self.append(step, 1 + other % 3)?,
            }
        }
        Some(())
    }

    fn open(&mut self) -> Option<()> {
        self.store = Some(open_simulated(&self.disk, self.flush_disk_type).ok()?);
        Some(())
    }

    fn append(&mut self, step: usize, count: usize) -> Option<()> {
        let store = self.store.as_ref()?;
        let mut batch = AppendBatch::default();
        let mut topics = Vec::new();
        for index in 0..count {
            let topic = (step + index) % TOPICS.len();
            topics.push(topic);
            let queue = store.queue_or_create(TOPICS[topic], ((step + index) / 7 % 2) as i32);
            add(&mut batch, &queue, self.ledger.next_number, 20 + step * 37 % 400);
            self.ledger.next_number += 1;
        }
        if count == 5 {
            batch.entries[0].group_len = 5;
            batch.entries[1..].iter_mut().for_each(|entry| entry.group_len = 0);
        }
        let first = self.ledger.next_number - count as u64;
        store.append(&mut batch).ok()?;
        for (index, entry) in batch.entries.iter().enumerate() {
            let key = (topics[index], entry.queue.queue_id(), entry.queue_offset);
            let before = self
                .ledger
                .written
                .insert(key, (first + index as u64, batch.end_offset));
            assert_eq!(before, None, "queue offset given twice");
        }
        Some(())
    }

    fn background(&mut self) -> Option<()> {
        let store = self.store.as_ref()?;
        store.run_background_work();
        self.ledger.flushed = store.flushed();
        store.writeable().ok()
    }

    fn save_config(&mut self) -> Option<()> {
        self.ledger.config_tried += 1;
        let text = self.ledger.config_tried.to_string();
        config_file::save(&self.disk, Path::new(CONFIG_FILE), text.as_bytes()).ok()?;
        self.ledger.config_saved = self.ledger.config_tried;
        Some(())
    }
}

/// Runs the script until its n-th operation. `None` when it ended before.
fn run_until(stop: u64, flush_disk_type: FlushDiskType) -> Option<(SimulatedDisk, Ledger)> {
    let disk = SimulatedDisk::new();
    disk.stop_after(stop);
    let (has_ended, ledger) = run_on(&disk, flush_disk_type);
    (!has_ended).then_some((disk, ledger))
}

/// Runs the script until something fails that it notices, and says whether nothing did.
fn run_on(disk: &SimulatedDisk, flush_disk_type: FlushDiskType) -> (bool, Ledger) {
    let mut script = Script {
        disk: disk.clone(),
        flush_disk_type,
        store: None,
        ledger: Ledger::default(),
    };
    let has_ended = script.run().is_some();
    if let Some(store) = &script.store {
        script.ledger.flushed = script.ledger.flushed.max(store.flushed());
    }
    (has_ended, script.ledger)
}

/// Opens what is left and checks it. `safe` says which positions must have survived.
fn check(
    disk: &SimulatedDisk,
    ledger: &Ledger,
    flush_disk_type: FlushDiskType,
    safe: i64,
    what: &str,
) -> RecoveryReport {
    let store = match open_simulated(disk, flush_disk_type) {
        Ok(store) => store,
        Err(error) => panic!("{what}: does not start: {error}"),
    };
    let mut promised = 0;
    for ((topic, queue_id, queue_offset), (number, end)) in &ledger.written {
        if *end > safe {
            continue;
        }
        promised += 1;
        let queue = store.queue(TOPICS[*topic], *queue_id);
        let queue = queue.unwrap_or_else(|| panic!("{what}: queue {} {queue_id} is gone", TOPICS[*topic]));
        assert!(
            queue.max_offset() > *queue_offset,
            "{what}: message {number} is gone from its queue"
        );
    }
    let mut found_in_all = 0;
    for (index, topic) in TOPICS.iter().enumerate() {
        for queue in store.queues_of(topic) {
            let found = contents(&store, &queue);
            let range = queue.min_offset()..queue.max_offset();
            assert_eq!(range.start, 0, "{what}");
            assert!(
                found.keys().copied().eq(range),
                "{what}: gap in {topic} {}: {found:?}",
                queue.queue_id()
            );
            for (queue_offset, number) in &found {
                if let Some((expected, _)) = ledger.written.get(&(index, queue.queue_id(), *queue_offset)) {
                    assert_eq!(number, expected, "{what}: another message took the place");
                }
            }
            found_in_all += found.len();
        }
    }
    assert!(found_in_all >= promised, "{what}");
    let config = config_file::load(disk, Path::new(CONFIG_FILE), |bytes| {
        String::from_utf8(bytes.to_vec()).ok()?.parse::<u64>().ok()
    });
    let config = config.unwrap().unwrap_or(0);
    assert!(
        (ledger.config_saved..=ledger.config_tried).contains(&config),
        "{what}: configuration {config} of {}..={}",
        ledger.config_saved,
        ledger.config_tried
    );
    let report = store.recovery_report().clone();
    go_on(disk, store, ledger, safe, what);
    report
}

/// The recovered store takes messages, stops cleanly, and a second start finds the same without recovery.
fn go_on(disk: &SimulatedDisk, store: Arc<MessageStore>, ledger: &Ledger, safe: i64, what: &str) {
    for number in 0..3 {
        append_one(&store, "orders", 0, 1_000_000 + number).unwrap();
    }
    store.run_background_work();
    let promised = ledger.written.iter().filter(|(_, (_, end))| *end <= safe);
    for ((topic, _, _), (number, _)) in promised.step_by(9) {
        let found = store
            .query(TOPICS[*topic], &format!("key-{number}"), 64, 0, i64::MAX)
            .records;
        let mut numbers = found.iter().map(|record| number_of(&RecordRef::parse(record).unwrap()));
        assert!(
            numbers.any(|found| found == *number),
            "{what}: message {number} is not in the index"
        );
    }
    assert_eq!(
        store.query("orders", "key-1000002", 8, 0, i64::MAX).records.len(),
        1,
        "{what}: index"
    );
    let before = contents_of_all(&store);
    store.shutdown();
    assert!(!disk.exists(Path::new("/store/abort")), "{what}");
    drop(store);
    let store = open_simulated(disk, FlushDiskType::Sync).unwrap();
    assert!(
        store.recovery_report().clean && store.recovery_report().records == 0,
        "{what}"
    );
    assert_eq!(contents_of_all(&store), before, "{what}");
}

fn contents_of_all(store: &MessageStore) -> Vec<(i64, BTreeMap<i64, u64>)> {
    let queues = TOPICS.iter().flat_map(|topic| store.queues_of(topic));
    queues
        .map(|queue| (queue.max_offset(), contents(store, &queue)))
        .collect()
}

fn seeds() -> u64 {
    std::env::var("OXMQ_CRASH_SEEDS").map_or(2, |seeds| seeds.parse().expect("OXMQ_CRASH_SEEDS is a number"))
}

#[test]
fn sync_flush_keeps_its_promises_through_a_power_cut_at_every_operation() {
    let mut stops = 0;
    while let Some((disk, ledger)) = run_until(stops, FlushDiskType::Sync) {
        for seed in 0..seeds() {
            let what = format!("stop {stops} seed {seed}");
            let seed = stops * 1_000 + seed;
            check(&disk.crash(seed), &ledger, FlushDiskType::Sync, ledger.flushed, &what);
        }
        stops += 1;
    }
    assert!(stops > 300, "the script has only {stops} operations");
}

#[test]
fn a_killed_process_loses_nothing_in_either_mode() {
    for flush_disk_type in [FlushDiskType::Sync, FlushDiskType::Async] {
        let mut stops = 0;
        while let Some((disk, ledger)) = run_until(stops, flush_disk_type) {
            let what = format!("{flush_disk_type:?} stop {stops}");
            check(&disk.kill(), &ledger, flush_disk_type, i64::MAX, &what);
            stops += 1;
        }
    }
}

#[test]
fn a_second_power_cut_during_recovery_changes_nothing() {
    for first in (0..).step_by(29) {
        let Some((disk, ledger)) = run_until(first, FlushDiskType::Sync) else {
            break;
        };
        for stop in 0..40 {
            let again = disk.crash(first);
            again.stop_after(stop);
            let opened = open_simulated(&again, FlushDiskType::Sync);
            let what = format!("stops {first} and {stop}");
            check(&again.crash(stop), &ledger, FlushDiskType::Sync, ledger.flushed, &what);
            if opened.is_ok() {
                break;
            }
        }
    }
}

#[test]
fn a_record_behind_a_lost_one_never_comes_back() {
    for seed in 0..60 {
        let disk = SimulatedDisk::new();
        let store = open_simulated(&disk, FlushDiskType::Async).unwrap();
        let queue = store.queue_or_create("orders", 0);
        let mut batch = AppendBatch::default();
        for number in 0..8 {
            add(&mut batch, &queue, number, 800);
        }
        store.append(&mut batch).unwrap();
        let disk = disk.crash(seed);
        let mut expected = Vec::new();
        for round in 0..3 {
            let store = open_simulated(&disk, FlushDiskType::Async).unwrap();
            let queue = store.queue_or_create("orders", 0);
            let found: Vec<u64> = contents(&store, &queue).into_values().collect();
            if round == 0 {
                assert!(found.iter().copied().eq(0..found.len() as u64));
                expected = found.clone();
            }
            assert_eq!(found, expected, "seed {seed} round {round}");
            let mut batch = AppendBatch::default();
            add(&mut batch, &queue, round, 800);
            store.append(&mut batch).unwrap();
            expected.push(round);
        }
    }
}

#[test]
fn recovery_reads_only_what_follows_the_checkpoint() {
    let disk = SimulatedDisk::new();
    let store = open_simulated(&disk, FlushDiskType::Sync).unwrap();
    for number in 0..300 {
        append_one(&store, "orders", 0, number).unwrap();
    }
    store.run_background_work();
    let checkpoint = store.flushed();
    store.run_background_work();
    for number in 300..310 {
        append_one(&store, "orders", 0, number).unwrap();
    }
    let after = open_simulated(&disk.kill(), FlushDiskType::Sync).unwrap();
    let report = after.recovery_report();
    assert_eq!(
        (report.clean, report.scanned_from, report.records),
        (false, checkpoint, 10)
    );
    let queue = after.queue("orders", 0).unwrap();
    let mut out = BytesMut::new();
    assert!(contents(&after, &queue).into_values().eq(0..310));
    let limits = oxmq_store::GetLimits::count(1);
    let got = after.get_messages(&queue, 309, &limits, &mut |_: i64| true, Wait::Never, &mut out);
    assert_eq!(got.unwrap().count, 1);
}

#[test]
fn without_our_checkpoint_the_rules_of_java_find_the_way() {
    for clean in [true, false] {
        let disk = SimulatedDisk::new();
        let store = open_simulated(&disk, FlushDiskType::Async).unwrap();
        for number in 0..300 {
            append_one(&store, TOPICS[number as usize % 3], 0, number).unwrap();
        }
        store.run_background_work();
        if clean {
            store.shutdown();
        }
        drop(store);
        let disk = disk.kill();
        let checkpoint = disk.open(Path::new("/store/checkpoint")).unwrap();
        checkpoint.write_all_at(&[std::io::IoSlice::new(&[0; 64])], 64).unwrap();
        let store = open_simulated(&disk, FlushDiskType::Async).unwrap();
        let report = store.recovery_report();
        assert_eq!(report.clean, clean);
        assert!(report.records > 0 && (!clean || report.records < 300), "{report:?}");
        for (index, topic) in TOPICS.iter().enumerate() {
            let expected = (0..300).filter(|number| number % 3 == index as u64);
            assert!(
                contents(&store, &store.queue(topic, 0).unwrap())
                    .into_values()
                    .eq(expected)
            );
        }
    }
}

#[test]
fn a_sync_that_fails_anywhere_breaks_no_promise() {
    let run = |disk: &SimulatedDisk| run_on(disk, FlushDiskType::Sync).1;
    with_each_fault(Fault::Sync, run, |disk, ledger, after| {
        for seed in 0..seeds() {
            let what = format!("sync {after} seed {seed}");
            check(
                &disk.crash(after * 1_000 + seed),
                ledger,
                FlushDiskType::Sync,
                ledger.flushed,
                &what,
            );
        }
    });
}

#[test]
fn a_disk_that_is_full_at_any_moment_loses_nothing() {
    let run = |disk: &SimulatedDisk| run_on(disk, FlushDiskType::Sync).1;
    with_each_fault(Fault::Space, run, |disk, ledger, after| {
        let what = format!("space {after}");
        check(&disk.kill(), ledger, FlushDiskType::Sync, i64::MAX, &what);
    });
}

#[test]
fn a_read_that_fails_anywhere_costs_nothing_for_good() {
    let (disk, ledger) = run_until(600, FlushDiskType::Sync).unwrap();
    let disk = disk.kill();
    for after in 0.. {
        let faulty = disk.kill();
        faulty.fail(Fault::Read, after);
        match open_simulated(&faulty, FlushDiskType::Sync) {
            Err(error) => assert!(error.to_string().contains("simulated failure of a read"), "{error}"),
            Ok(store) => {
                for queue in TOPICS.iter().flat_map(|topic| store.queues_of(topic)) {
                    let mut out = BytesMut::new();
                    let limits = oxmq_store::GetLimits::count(32);
                    let from = queue.min_offset();
                    // Either an answer or an error; the next try finds what is there.
                    let _ = store.get_messages(&queue, from, &limits, &mut |_: i64| true, Wait::Allowed, &mut out);
                }
                store.run_background_work();
            }
        }
        if faulty.is_to_fail() {
            assert!(after > 30, "there were only {after} reads");
            return;
        }
        if after % 5 == 0 {
            let what = format!("read {after}");
            check(&faulty.kill(), &ledger, FlushDiskType::Sync, i64::MAX, &what);
        }
    }
}
