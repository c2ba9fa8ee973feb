//! Cold data flow control: how much consumer groups read of messages that lie far behind the end of the log, and which of
//! them have to slow down (spec: behaviour.md §4.6).
//!
//! [`ColdReads`] decides; a window of five seconds ends with [`ColdReads::tick`]. A group is over its limit while what it has
//! read in the window reaches its threshold, or what all have read reaches that of the broker. The threshold of a group is
//! what an administrator set, else what the strategy made of it, else the setting. Thresholds live as long as the process, as
//! in the original.
//!
//! Groups of the system are neither counted nor held up, and pops are not, as in the original.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hashbrown::HashMap;
use oxmq_protocol::body::{ColdDataFlowInfo, GroupColdReads};
use oxmq_protocol::topic;
use oxmq_store::{ColdArea, MessageStore};
use parking_lot::Mutex;

use crate::config::BrokerConfig;

pub(crate) const WINDOW: Duration = Duration::from_secs(5);
/// How long a pull of a group over its limit is held.
pub(crate) const HOLD_MS: u64 = 3000;
/// A group that has read nothing cold for so long is forgotten.
const FORGET_AFTER_MS: i64 = 60_000;
/// Groups for which an administrator can set a threshold.
pub(crate) const THRESHOLDS_MAX: usize = 100_000;
/// Thresholds that the strategy lowers in one window.
const LOWERED_MAX: usize = 3;
/// Windows that the controller remembers; before it has so many it decides nothing.
const HISTORY: usize = 10;
/// Marks a threshold of the strategy where thresholds are shown.
const ADAPTIVE: &str = "||adaptive";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Bytes in a window that a group may read, where nothing else is said of it.
    group_threshold: i64,
    /// Bytes in a window that all groups together may read.
    global_threshold: i64,
    strategy: Option<Steering>,
}

/// How thresholds follow what is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Steering {
    /// Up while all together stay below the limit, down while they do not.
    Simple,
    /// Up and down as a controller says that aims at 80 % of the limit.
    Pid,
}

impl Settings {
    fn of(config: &BrokerConfig) -> Settings {
        let strategy = match config.use_pid_cold_ctr_strategy {
            true => Steering::Pid,
            false => Steering::Simple,
        };
        Settings {
            group_threshold: config.cg_cold_read_threshold,
            global_threshold: config.global_cold_read_threshold,
            strategy: config.cold_ctr_strategy_enable.then_some(strategy),
        }
    }
}

#[derive(Debug)]
struct ColdReads {
    settings: Settings,
    groups: HashMap<String, GroupColdReads>,
    /// Of all groups in this window.
    bytes: i64,
    set: BTreeMap<String, i64>,
    adaptive: BTreeMap<String, i64>,
    /// By how much windows missed what the controller aims at, the last one last.
    errors: VecDeque<i64>,
}

impl ColdReads {
    fn new(settings: Settings) -> ColdReads {
        ColdReads {
            settings,
            groups: HashMap::new(),
            bytes: 0,
            set: BTreeMap::new(),
            adaptive: BTreeMap::new(),
            errors: VecDeque::new(),
        }
    }

    fn read(&mut self, now: i64, group: &str, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.bytes = self.bytes.saturating_add(bytes);
        let reads = self.groups.entry_ref(group).or_insert(GroupColdReads {
            cold_acc: 0,
            create_time_mills: now,
            last_cold_read_time_mills: now,
        });
        reads.cold_acc = reads.cold_acc.saturating_add(bytes);
        reads.last_cold_read_time_mills = now;
    }

    fn is_over(&self, group: &str) -> bool {
        self.groups.get(group).is_some_and(|reads| {
            reads.cold_acc >= self.threshold(group) || self.bytes >= self.settings.global_threshold
        })
    }

    fn threshold(&self, group: &str) -> i64 {
        let of_strategy = || {
            let adaptive = self.adaptive.get(group).filter(|_| self.settings.strategy.is_some());
            adaptive.copied().unwrap_or(self.settings.group_threshold)
        };
        self.set.get(group).copied().unwrap_or_else(of_strategy)
    }

    fn set_threshold(&mut self, group: &str, threshold: i64) -> bool {
        let has_room = self.set.len() < THRESHOLDS_MAX || self.set.contains_key(group);
        if has_room {
            self.set.insert(group.to_owned(), threshold);
        }
        has_room
    }

    /// The window ends.
    fn tick(&mut self, now: i64) {
        if self.settings.strategy == Some(Steering::Pid) {
            self.errors
                .push_back((self.settings.global_threshold as f64 * 0.8) as i64 - self.bytes);
            if self.errors.len() > HISTORY {
                self.errors.pop_front();
            }
        }
        let is_overrun = self.bytes > self.settings.global_threshold;
        let mut raised = Vec::new();
        for (group, reads) in &self.groups {
            let threshold = self.threshold(group);
            if now >= reads.last_cold_read_time_mills + FORGET_AFTER_MS {
                self.adaptive.remove(group);
            } else if reads.cold_acc >= threshold {
                tracing::info!(%group, bytes = reads.cold_acc, threshold, "a group has read its share of cold data");
                if !is_overrun && !self.set.contains_key(group) && self.may_raise() {
                    raised.push((group.clone(), (threshold as f64 * 1.5) as i64));
                }
            }
        }
        self.adaptive.extend(raised);
        self.groups
            .retain(|_, reads| now < reads.last_cold_read_time_mills + FORGET_AFTER_MS);
        self.groups.values_mut().for_each(|reads| reads.cold_acc = 0);
        match self.settings.strategy {
            Some(_) if self.must_lower(is_overrun) => self.lower(),
            Some(_) => {}
            None => {
                self.adaptive.clear();
                self.errors.clear();
            }
        }
        self.bytes = 0;
    }

    fn may_raise(&self) -> bool {
        match self.settings.strategy {
            None => false,
            Some(Steering::Simple) => true,
            Some(Steering::Pid) => self.decision() > 0.0,
        }
    }

    fn must_lower(&self, is_overrun: bool) -> bool {
        match self.settings.strategy {
            None => false,
            Some(Steering::Simple) => is_overrun,
            Some(Steering::Pid) => self.decision() < 0.0,
        }
    }

    /// The greatest thresholds of the strategy come down.
    fn lower(&mut self) {
        let base = self.settings.group_threshold;
        let mut greatest: Vec<_> = self
            .adaptive
            .iter_mut()
            .filter(|(group, _)| !self.set.contains_key(*group))
            .map(|(_, threshold)| threshold)
            .collect();
        greatest.sort_unstable_by_key(|threshold| std::cmp::Reverse(**threshold));
        for threshold in greatest.into_iter().take(LOWERED_MAX) {
            *threshold = ((*threshold as f64 * 0.8) as i64).max(base);
        }
    }

    /// What the controller says: more than 0 when thresholds may rise, less when they must come down.
    fn decision(&self) -> f64 {
        if self.errors.len() < HISTORY {
            return 0.0;
        }
        let [before, last] = [HISTORY - 2, HISTORY - 1].map(|index| self.errors[index] as f64);
        let sum: f64 = self.errors.iter().map(|error| *error as f64).sum();
        0.5 * last + 0.3 * sum + 0.2 * (last - before)
    }

    fn shown(&self) -> ColdDataFlowInfo {
        let runtime = self.groups.iter().map(|(group, reads)| (group.clone(), reads.clone()));
        let set = self.set.iter().map(|(group, threshold)| (group.clone(), *threshold));
        let adaptive = self.adaptive.iter();
        let adaptive = adaptive.map(|(group, threshold)| (format!("{group}{ADAPTIVE}"), *threshold));
        ColdDataFlowInfo {
            runtime_table: runtime.collect(),
            config_table: set.chain(adaptive).collect(),
            cg_cold_read_threshold: self.settings.group_threshold,
            global_cold_read_threshold: self.settings.global_threshold,
            global_acc: self.bytes,
        }
    }
}

/// What a broker shares of it.
#[derive(Debug)]
pub(crate) struct ColdFlow {
    is_on: AtomicBool,
    reads: Mutex<ColdReads>,
}

impl ColdFlow {
    pub(crate) fn new(config: &BrokerConfig, store: &MessageStore) -> ColdFlow {
        let flow = ColdFlow {
            is_on: AtomicBool::default(),
            reads: Mutex::new(ColdReads::new(Settings::of(config))),
        };
        flow.set_config(config, store);
        flow
    }

    pub(crate) fn set_config(&self, config: &BrokerConfig, store: &MessageStore) {
        let is_on = config.cold_data_flow_control_enable;
        self.reads.lock().settings = Settings::of(config);
        self.is_on.store(is_on, Ordering::Relaxed);
        store.set_cold_area(is_on.then_some(ColdArea {
            memory_percent: config.access_message_in_memory_hot_ratio,
            from_disk: config.cold_data_scan_enable,
        }));
    }

    /// A pull of the group has read so many cold bytes.
    #[inline]
    pub(crate) fn read(&self, now: i64, group: &str, bytes: usize) {
        if bytes > 0 && !topic::is_system_group(group) {
            self.reads.lock().read(now, group, bytes);
        }
    }

    /// Whether pulls of cold data by this group have to slow down.
    #[inline]
    pub(crate) fn is_over(&self, group: &str) -> bool {
        self.is_on.load(Ordering::Relaxed) && self.reads.lock().is_over(group)
    }

    /// False when there are too many.
    pub(crate) fn set_threshold(&self, group: &str, threshold: i64) -> bool {
        self.reads.lock().set_threshold(group, threshold)
    }

    pub(crate) fn remove_threshold(&self, group: &str) {
        self.reads.lock().set.remove(group);
    }

    pub(crate) fn tick(&self, now: i64) {
        self.reads.lock().tick(now);
    }

    pub(crate) fn shown(&self) -> ColdDataFlowInfo {
        self.reads.lock().shown()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1000;

    fn reads(strategy: Option<Steering>) -> ColdReads {
        ColdReads::new(Settings {
            group_threshold: 100,
            global_threshold: 1000,
            strategy,
        })
    }

    #[test]
    fn a_group_is_over_from_its_threshold_to_the_end_of_the_window() {
        let mut reads = reads(None);
        assert!(!reads.is_over("a"));
        reads.read(0, "a", 99);
        assert!(!reads.is_over("a"));
        reads.read(1, "a", 1);
        reads.read(1, "b", 1);
        assert!(reads.is_over("a") && !reads.is_over("b"));
        reads.tick(5 * SECOND);
        assert!(!reads.is_over("a"));
    }

    #[test]
    fn what_an_administrator_says_of_a_group_counts_until_it_is_taken_back() {
        let mut reads = reads(None);
        reads.read(0, "a", 150);
        assert!(reads.set_threshold("a", 200));
        assert!(!reads.is_over("a"));
        reads.set_threshold("a", 0);
        reads.tick(5 * SECOND);
        assert!(reads.is_over("a"), "it may read nothing");
        reads.set.remove("a");
        assert!(!reads.is_over("a"));
    }

    #[test]
    fn when_all_read_too_much_each_that_reads_is_over() {
        let mut reads = reads(None);
        reads.read(0, "a", 10);
        for number in 0..9 {
            reads.set_threshold(&format!("g{number}"), 1000);
            reads.read(0, &format!("g{number}"), 110);
        }
        assert!(reads.is_over("a") && reads.is_over("g0") && !reads.is_over("z"));
    }

    #[test]
    fn a_group_that_stops_is_forgotten() {
        let mut reads = reads(None);
        reads.read(7, "a", 500);
        reads.tick(60 * SECOND + 6);
        assert_eq!(reads.shown().runtime_table["a"].cold_acc, 0);
        reads.tick(60 * SECOND + 7);
        assert!(reads.shown().runtime_table.is_empty());
    }

    #[test]
    fn the_simple_strategy_raises_those_who_want_more_and_lowers_three_when_all_read_too_much() {
        let mut reads = reads(Some(Steering::Simple));
        for name in ["a", "b", "c", "d"] {
            reads.read(0, name, 150);
        }
        reads.set_threshold("d", 100);
        reads.tick(5 * SECOND);
        let shown = |reads: &ColdReads| serde_json::to_value(reads.shown().config_table).unwrap();
        let raised = serde_json::json!({"a||adaptive": 150, "b||adaptive": 150, "c||adaptive": 150, "d": 100});
        assert_eq!(shown(&reads), raised);
        reads.read(5 * SECOND, "a", 150);
        reads.read(5 * SECOND, "e", 100);
        reads.tick(10 * SECOND);
        assert_eq!((reads.threshold("a"), reads.threshold("e")), (225, 150));
        reads.read(10 * SECOND, "a", 1001);
        reads.tick(15 * SECOND);
        let thresholds = ["a", "b", "c", "e"].map(|name| reads.threshold(name));
        assert_eq!(thresholds[0], 180);
        assert_eq!(thresholds[1..].iter().filter(|threshold| **threshold == 120).count(), 2);
        reads.settings.strategy = None;
        reads.tick(20 * SECOND);
        assert_eq!(shown(&reads), serde_json::json!({"d": 100}));
    }

    #[test]
    fn the_controller_waits_for_ten_windows_and_aims_below_the_limit() {
        let mut reads = reads(Some(Steering::Pid));
        for window in 1..=12 {
            reads.read(window * 5 * SECOND, "a", 200);
            reads.tick(window * 5 * SECOND);
            let raised: i64 = match window {
                ..=9 => 100,
                10 => 150,
                _ => 225,
            };
            assert_eq!(reads.threshold("a"), raised, "window {window}");
        }
        for window in 13..=40 {
            reads.read(window * 5 * SECOND, "b", 4000);
            reads.read(window * 5 * SECOND, "a", 1);
            reads.tick(window * 5 * SECOND);
        }
        assert_eq!((reads.threshold("a"), reads.threshold("b")), (100, 100));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Read(usize, usize),
        Set(usize, i64),
        Remove(usize),
        Tick(i64),
        Steering(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..6_usize, 1..400_usize).prop_map(|(group, bytes)| Step::Read(group, bytes)),
            1 => (0..6_usize, 1..300_i64).prop_map(|(group, threshold)| Step::Set(group, threshold)),
            1 => (0..6_usize).prop_map(Step::Remove),
            2 => (1..70 * SECOND).prop_map(Step::Tick),
            1 => (0..3_usize).prop_map(Step::Steering),
        ];
        prop::collection::vec(step, 1..200)
    }

    proptest! {
        /// Nobody is held up who has not read his share in this window; thresholds of the strategy stay at the setting or above.
        #[test]
        fn only_what_was_read_in_the_window_counts(steps in steps()) {
            const GROUPS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
            let mut reads = reads(None);
            let (mut now, mut read) = (0, [0_i64; 6]);
            for step in steps {
                match step {
                    Step::Read(group, bytes) => {
                        reads.read(now, GROUPS[group], bytes);
                        read[group] += bytes as i64;
                    }
                    Step::Set(group, threshold) => prop_assert!(reads.set_threshold(GROUPS[group], threshold)),
                    Step::Remove(group) => drop(reads.set.remove(GROUPS[group])),
                    Step::Tick(passed) => {
                        now += passed;
                        reads.tick(now);
                        read = [0; 6];
                        prop_assert!(reads.groups.values().all(|reads| now - reads.last_cold_read_time_mills < FORGET_AFTER_MS));
                    }
                    Step::Steering(which) => {
                        reads.settings.strategy = [None, Some(Steering::Simple), Some(Steering::Pid)][which];
                    }
                }
                let all: i64 = read.iter().sum();
                for (group, read) in GROUPS.into_iter().zip(read) {
                    let is_over = reads.groups.contains_key(group) && (read >= reads.threshold(group) || all >= 1000);
                    prop_assert_eq!(reads.is_over(group), is_over);
                }
                prop_assert!(reads.adaptive.values().all(|threshold| *threshold >= 100));
                prop_assert!(reads.errors.len() <= HISTORY);
            }
        }
    }
}
