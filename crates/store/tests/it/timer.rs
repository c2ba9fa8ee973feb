//! Timers on the simulated disk: whatever is killed or cut off where, every message is delivered once, and not early. After a
//! stop in order that also holds for a Java broker that goes on.

use std::collections::{BTreeMap, HashSet};
use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;

use oxmq_store::disk::{Disk, Fault, SimulatedDisk};
use oxmq_store::timer::{Due, TimerConfig, TimerMessage, TimerStart, TimerStore, source_mark, source_of_mark};
use proptest::prelude::*;

use crate::java_timers::JavaTimers;

const RECORD_BYTES: i64 = 100;
const PRECISION_MS: i64 = 1000;
const WHEEL_SLOTS: i64 = 128;
const ROLL_WINDOW_SLOTS: i64 = 9;
const START_MS: i64 = 1_700_000_000_000;

/// One record of a commit log that holds nothing but timers and their deliveries.
#[derive(Debug, Clone, Copy)]
enum Record {
    Waiting { id: usize, mark: i64 },
    Cancel { id: usize },
    Delivered { id: usize, at: i64, mark: i64 },
}

impl Record {
    fn mark(&self) -> i64 {
        match *self {
            Record::Waiting { mark, .. } | Record::Delivered { mark, .. } => mark,
            Record::Cancel { .. } => 0,
        }
    }

    fn is_in_timer_topic(&self) -> bool {
        !matches!(self, Record::Delivered { .. })
    }
}

struct Machine {
    disk: SimulatedDisk,
    timers: Option<TimerStore>,
    log: Vec<Record>,
    flushed: usize,
    now: i64,
    /// When each message is due.
    due: Vec<i64>,
    /// Messages that were taken out because they are cancelled, since the last start after a crash.
    cancelled: HashSet<usize>,
    /// A sync has failed since the last start.
    sync_failed: bool,
    /// One has failed at any time: the next start trusts the wheel as it reads it.
    has_failed: bool,
}

impl Machine {
    fn new() -> Machine {
        let disk = SimulatedDisk::new();
        disk.create_dir_all(Path::new("/store")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        let mut machine = Machine {
            disk,
            timers: None,
            log: Vec::new(),
            flushed: 0,
            now: START_MS,
            due: Vec::new(),
            cancelled: HashSet::new(),
            sync_failed: false,
            has_failed: false,
        };
        machine.open(true);
        machine
    }

    /// The timer topic's consume queue: physical offsets.
    fn queue(&self) -> Vec<i64> {
        queue_of(&self.log)
    }

    fn record(&self, physical_offset: i64) -> Record {
        self.log[(physical_offset / RECORD_BYTES) as usize]
    }

    fn open(&mut self, clean: bool) {
        let queue = self.queue();
        let config = TimerConfig {
            root: "/store".into(),
            // A file holds 10 units.
            log_file_bytes: 10 * 52 + 16,
            precision_ms: PRECISION_MS,
            roll_window_slots: ROLL_WINDOW_SLOTS,
            wheel_slots: WHEEL_SLOTS,
            current_max: 3,
        };
        let start = TimerStart {
            now: self.now,
            clean,
            log_end: self.log.len() as i64 * RECORD_BYTES,
            queue: (0, queue.len() as i64),
            queue_offset_at: &|offset| queue.iter().position(|known| *known == offset).map(|at| at as i64),
        };
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let mut timers = TimerStore::open(disk, config, &start).unwrap();
        let from = timers.delivered_from().unwrap_or(i64::MAX);
        let behind = (0..).zip(&self.log).filter(|(index, _)| index * RECORD_BYTES >= from);
        let sources = behind.filter_map(|(_, record)| source_of_mark(record.mark())).collect();
        timers.set_delivered(sources, self.now);
        self.timers = Some(timers);
        self.sync_failed = false;
        if !clean {
            self.cancelled.clear();
        }
        // Before anything is delivered, there has to be a place to look for it.
        self.snapshot().unwrap();
    }

    fn send(&mut self, delay_ms: i64) {
        let id = self.due.len();
        self.due.push(self.now + delay_ms);
        self.log.push(Record::Waiting { id, mark: 0 });
    }

    fn out_ms(&self, id: usize) -> i64 {
        (self.due[id] - 1).div_euclid(PRECISION_MS) * PRECISION_MS
    }

    /// As a broker does it, only while the slot has not begun.
    fn cancel(&mut self, which: usize) {
        if self.due.is_empty() {
            return;
        }
        let id = which % self.due.len();
        let is_there = |record: &Record| matches!(record, Record::Waiting { id: known, .. } if *known == id);
        if self.out_ms(id) + 1 > self.now && self.log.iter().any(is_there) {
            self.log.push(Record::Cancel { id });
        }
    }

    fn enter_all(&mut self) -> std::io::Result<()> {
        let queue = self.queue();
        let mut timers = self.timers.take().unwrap();
        while let Some(&physical_offset) = queue.get(timers.queue_offset() as usize) {
            let (id, cancels) = match self.record(physical_offset) {
                Record::Waiting { id, .. } => (id, false),
                Record::Cancel { id } => (id, true),
                Record::Delivered { .. } => unreachable!("not in the queue"),
            };
            let message = TimerMessage {
                out_ms: self.out_ms(id),
                due_ms: if cancels { self.out_ms(id) + 1 } else { self.due[id] },
                physical_offset,
                size: RECORD_BYTES as i32,
                topic_hash: 7,
                cancels,
            };
            assert!(timers.enter(self.now, &message)?);
        }
        self.timers = Some(timers);
        Ok(())
    }

    /// Enters what is there and delivers at most so many, as the broker's thread does. False when something is left.
    fn drive(&mut self, mut deliveries: usize) -> std::io::Result<bool> {
        loop {
            self.enter_all()?;
            let mut timers = self.timers.take().unwrap();
            let due = timers.due(self.now, deliveries.min(4))?;
            let mut cancels = timers.cancels().map_or(Vec::new(), |cancels| cancels.known.to_vec());
            if timers
                .cancels()
                .is_some_and(|cancels| cancels.known.len() < cancels.count)
            {
                timers.each_cancel(&mut |offset, size| cancels.push((offset, size)))?;
            }
            let cancelled: HashSet<usize> = cancels
                .iter()
                .filter_map(|(offset, _)| match self.record(*offset) {
                    Record::Cancel { id } => Some(id),
                    _ => None,
                })
                .collect();
            for due in &due {
                self.deliver(due, &cancelled);
            }
            timers.advance(due.len());
            self.timers = Some(timers);
            deliveries -= due.len();
            if due.is_empty() || deliveries == 0 {
                return Ok(due.is_empty());
            }
        }
    }

    fn deliver(&mut self, due: &Due, cancelled: &HashSet<usize>) {
        let mark = source_mark(due.physical_offset);
        match self.record(due.physical_offset) {
            Record::Waiting { id, .. } if due.rolls => self.log.push(Record::Waiting { id, mark }),
            Record::Waiting { id, .. } if cancelled.contains(&id) => {
                self.cancelled.insert(id);
            }
            Record::Waiting { id, .. } => self.log.push(Record::Delivered { id, at: self.now, mark }),
            Record::Cancel { id } if due.rolls => self.log.push(Record::Cancel { id }),
            other => panic!("{other:?} was due"),
        }
    }

    fn snapshot(&mut self) -> std::io::Result<()> {
        let log_end = self.log.len() as i64 * RECORD_BYTES;
        let now = self.now;
        let timers = self.timers.as_mut().unwrap();
        if !timers.wants_snapshot(now, log_end) {
            return Ok(());
        }
        let snapshot = timers.snapshot(now, log_end)?;
        self.flushed = self.log.len();
        let written = snapshot.write();
        timers.settle(&snapshot, written.is_ok());
        self.sync_failed |= written.is_err();
        written
    }

    /// A snapshot that has to succeed unless a sync failed before, and then must not.
    fn save(&mut self) {
        let log_end = self.log.len() as i64 * RECORD_BYTES;
        let has_work = self.timers.as_ref().unwrap().wants_snapshot(self.now, log_end);
        assert_eq!(self.snapshot().is_err(), self.sync_failed && has_work);
    }

    fn fail_sync(&mut self, after: u64) {
        self.disk.fail(Fault::Sync, after);
        let snapshot = self.snapshot();
        let has_failed = !self.disk.is_to_fail();
        self.has_failed |= has_failed;
        assert!(snapshot.is_err() || !has_failed, "a failed sync is reported as success");
        self.disk.fail(Fault::Sync, u64::MAX);
    }

    fn kill(&mut self) {
        self.disk = self.disk.kill();
        self.open(false);
    }

    fn cut_power(&mut self, seed: u64) {
        self.disk = self.disk.crash(seed);
        let lost = (self.log.len() - self.flushed) as u64;
        self.log.truncate(self.log.len() - (seed % (lost + 1)) as usize);
        self.flushed = self.log.len();
        self.open(false);
    }

    /// Stops in order and starts again. A Java broker that starts instead, after a power cut and some time later, delivers
    /// the rest.
    fn restart(&mut self, power: u64, pause_ms: i64) {
        if self.timers.as_ref().unwrap().awaits_delivered() {
            self.enter_all().unwrap();
        }
        let retired = self.timers.as_mut().unwrap().retire(self.now);
        assert_eq!(retired.is_err(), self.sync_failed);
        self.save();
        if !self.sync_failed {
            self.hand_to_java(power, pause_ms);
        }
        self.disk = self.disk.kill();
        self.open(true);
    }

    fn hand_to_java(&self, power: u64, pause_ms: i64) {
        let mut log = self.log.clone();
        let layout = (WHEEL_SLOTS as usize, ROLL_WINDOW_SLOTS, PRECISION_MS);
        let queue_offset_of = |offset| queue_of(&log).iter().position(|known| *known == offset).unwrap() as i64;
        let disk = match self.has_failed {
            true => self.disk.kill(),
            false => self.disk.crash(power),
        };
        let mut java = JavaTimers::open(&disk, layout, queue_offset_of);
        let mut delivered: Vec<usize> = Vec::new();
        let start = (self.now + pause_ms).div_euclid(PRECISION_MS);
        for write in start..start + 60 {
            while let Some(&offset) = queue_of(&log).get(java.queue_offset as usize) {
                java.queue_offset += 1;
                let (id, cancels) = match log[(offset / RECORD_BYTES) as usize] {
                    Record::Waiting { id, .. } => (id, false),
                    Record::Cancel { id } => (id, true),
                    Record::Delivered { .. } => unreachable!("not in the queue"),
                };
                let is_entered = java.enter(write, self.out_ms(id).div_euclid(PRECISION_MS), offset, cancels);
                if !is_entered && !cancels {
                    delivered.push(id);
                }
            }
            while java.read_slot < write {
                let units = java.read();
                let records = units
                    .iter()
                    .map(|unit| (unit, log[(unit.physical_offset / RECORD_BYTES) as usize]));
                let records: Vec<_> = records.collect();
                let cancelled = records.iter().filter_map(|(unit, record)| match record {
                    Record::Cancel { id } if !unit.rolls() => Some(*id),
                    _ => None,
                });
                let cancelled: HashSet<usize> = cancelled.collect();
                for (unit, record) in records {
                    match record {
                        Record::Waiting { id, .. } if unit.rolls() => log.push(Record::Waiting { id, mark: 0 }),
                        Record::Waiting { id, .. } if !cancelled.contains(&id) => delivered.push(id),
                        Record::Cancel { .. } if unit.rolls() => log.push(record),
                        _ => {}
                    }
                }
            }
        }
        self.check_with(&delivered);
    }

    /// Each message was delivered once, here or by the Java broker.
    fn check_with(&self, by_java: &[usize]) {
        for (id, due) in self.due.iter().enumerate() {
            let is_here = |record: &&Record| matches!(record, Record::Delivered { id: known, .. } if *known == id);
            let is_waiting = |record: &Record| matches!(record, Record::Waiting { id: known, .. } if *known == id);
            let is_cancel = |record: &Record| matches!(record, Record::Cancel { id: known } if *known == id);
            let here = self.log.iter().filter(is_here).count();
            let there = by_java.iter().filter(|known| **known == id).count();
            let expected = match self.log.iter().any(is_waiting) {
                _ if self.cancelled.contains(&id) => 0..=0,
                true if self.log.iter().any(is_cancel) => 0..=1,
                true => 1..=1,
                false => 0..=0,
            };
            assert!(
                expected.contains(&(here + there)),
                "message {id}, due at {due}, now {}: delivered {here} times here, {there} times by Java",
                self.now
            );
        }
    }

    fn check(&self) {
        let mut seen = HashSet::new();
        for record in &self.log {
            if let Record::Delivered { id, at, .. } = record {
                assert!(*at >= self.due[*id], "message {id} is early");
                assert!(seen.insert(*id), "message {id} was delivered twice");
            }
        }
    }

    /// Everything that is in the log is delivered, or cancelled.
    fn finish(&mut self) {
        for _ in 0..60 {
            self.now += 1500;
            assert!(self.drive(usize::MAX).unwrap());
        }
        self.check();
        let mut outcome: BTreeMap<usize, (bool, bool)> = BTreeMap::new();
        for record in &self.log {
            match *record {
                Record::Waiting { id, .. } => outcome.entry(id).or_default(),
                Record::Cancel { id } => {
                    outcome.entry(id).or_default().0 = true;
                    continue;
                }
                Record::Delivered { id, .. } => {
                    outcome.entry(id).or_default().1 = true;
                    continue;
                }
            };
        }
        for (id, (cancelled, delivered)) in outcome {
            assert_ne!(
                cancelled, delivered,
                "message {id}: cancelled {cancelled}, delivered {delivered}"
            );
        }
        assert_eq!(self.timers.as_ref().unwrap().next_wake(), None);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Send(i64),
    Cancel(usize),
    Pass(i64),
    Deliver(usize),
    Snapshot,
    Kill,
    CutPower(u64),
    /// Kill or cut the power within a delivery and a snapshot.
    Stop(u64, Option<u64>),
    /// One of the syncs of a snapshot fails.
    FailSync(u64),
    /// In order; a Java broker would begin so many milliseconds later, after a power cut.
    Restart(i64, u64),
}

/// The timer topic's consume queue: physical offsets.
fn queue_of(log: &[Record]) -> Vec<i64> {
    let records = (0..).zip(log);
    let waiting = records.filter(|(_, record)| record.is_in_timer_topic());
    waiting.map(|(index, _)| index * RECORD_BYTES).collect()
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1i64..12_000).prop_map(Step::Send),
        1 => (12_000i64..30_000).prop_map(Step::Send),
        2 => any::<usize>().prop_map(Step::Cancel),
        5 => (1i64..900).prop_map(Step::Pass),
        5 => (1usize..9).prop_map(Step::Deliver),
        3 => Just(Step::Snapshot),
        1 => Just(Step::Kill),
        1 => any::<u64>().prop_map(Step::CutPower),
        2 => (0u64..18, proptest::option::of(any::<u64>())).prop_map(|(at, seed)| Step::Stop(at, seed)),
        1 => (0u64..5).prop_map(Step::FailSync),
        2 => (0i64..4000, any::<u64>()).prop_map(|(pause_ms, power)| Step::Restart(pause_ms, power)),
    ]
}

fn run(steps: &[Step]) {
    let mut machine = Machine::new();
    for step in steps {
        match *step {
            Step::Send(delay_ms) => machine.send(delay_ms),
            Step::Cancel(which) => machine.cancel(which),
            Step::Pass(ms) => machine.now += ms,
            Step::Deliver(count) => {
                machine.drive(count).unwrap();
            }
            Step::Snapshot => machine.save(),
            Step::FailSync(after) => machine.fail_sync(after),
            Step::Kill => machine.kill(),
            Step::CutPower(seed) => machine.cut_power(seed),
            Step::Stop(at, power) => {
                machine.disk.stop_after(at);
                let _stopped = machine.drive(3).and_then(|_| machine.snapshot());
                match power {
                    Some(seed) => machine.cut_power(seed),
                    None => machine.kill(),
                }
            }
            Step::Restart(pause_ms, power) => machine.restart(power, pause_ms),
        }
        machine.check();
    }
    machine.finish();
}

/// Java saves once a second up to where it has entered; its timer log goes on from there.
#[test]
fn what_a_killed_java_broker_has_entered_is_not_entered_again() {
    let mut machine = Machine::new();
    for delay_ms in [5000, 6000] {
        machine.send(delay_ms);
    }
    machine.enter_all().unwrap();
    machine.now += 1000;
    machine.snapshot().unwrap();
    for delay_ms in [5000, 6000, 7000] {
        machine.send(delay_ms);
    }
    machine.enter_all().unwrap();
    machine.timers.as_mut().unwrap().write_out().unwrap();
    let file = machine.disk.open(Path::new("/store/config/timercheck")).unwrap();
    let queue_offset_of_master = 24;
    file.write_all_at(&[IoSlice::new(&2i64.to_be_bytes())], queue_offset_of_master)
        .unwrap();
    let of_java_alone = [0; 4096 - 56];
    file.write_all_at(&[IoSlice::new(&of_java_alone)], 56).unwrap();
    // Stored, and not yet entered.
    machine.send(4000);
    machine.kill();
    assert_eq!(machine.timers.as_ref().unwrap().queue_offset(), 2);
    machine.finish();
}

/// Entered anew, the message would have its own slot by now: later than that from which its copy went back to the topic.
#[test]
fn what_went_round_before_a_kill_is_delivered_once() {
    let steps = [
        Step::Send(12_000),
        Step::Deliver(1),
        Step::Pass(7000),
        Step::Deliver(1),
        Step::Kill,
    ];
    run(&steps);
}

/// As soon as all of the present slot is delivered, the wheel holds nothing of it; the timer log does.
#[test]
fn a_slot_that_was_delivered_before_it_was_over_is_not_delivered_again_by_java() {
    let steps = [
        Step::Send(1257),
        Step::Deliver(1),
        Step::Pass(1258),
        Step::Deliver(2),
        Step::Snapshot,
        Step::Pass(30),
        Step::Restart(6000, 0),
    ];
    run(&steps);
}

/// Nothing else has happened since that was saved.
#[test]
fn a_slot_that_is_over_is_not_read_again_by_java() {
    let steps = [
        Step::Send(257),
        Step::Pass(258),
        Step::Deliver(2),
        Step::Snapshot,
        Step::Pass(3000),
        Step::Restart(6000, 0),
    ];
    run(&steps);
}

proptest! {
    /// All of a few slots that are delivered in parts, late or not at all.
    #[test]
    fn a_stop_in_order_at_any_time_of_a_slot_leaves_java_the_rest(
        sent in proptest::collection::vec(1i64..4000, 1..30),
        cancelled in proptest::collection::vec(any::<usize>(), 0..4),
        steps in proptest::collection::vec((0i64..700, 0usize..6, any::<bool>(), 0i64..4000, any::<u64>()), 1..8),
    ) {
        let mut all: Vec<Step> = sent.into_iter().map(Step::Send).collect();
        all.extend(cancelled.into_iter().map(Step::Cancel));
        for (pass_ms, count, saves, pause_ms, power) in steps {
            all.push(Step::Pass(pass_ms));
            all.extend((count > 0).then_some(Step::Deliver(count)));
            all.extend(saves.then_some(Step::Snapshot));
            all.push(Step::Restart(pause_ms, power));
        }
        run(&all);
    }

    #[test]
    fn every_timer_is_delivered_once_and_not_early(steps in proptest::collection::vec(step(), 1..120)) {
        run(&steps);
    }
}
