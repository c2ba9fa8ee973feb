//! Messages that wait: each comes once, and none before its time, whichever broker it has been handed over to.

use std::collections::BTreeMap;

use anyhow::ensure;

use super::snapshot::Snapshot;
use crate::now_ms;

/// What is due later than this is not waited for.
const FAR_MS: i64 = 60_000;

#[derive(Default)]
pub(super) struct Waiting {
    /// When each is due, by topic and first words of the body.
    messages: BTreeMap<(String, String), i64>,
}

/// When a broker was at work, and how it ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Phase {
    pub(super) is_java: bool,
    pub(super) from_ms: i64,
    /// It does not know any more what it has delivered last.
    pub(super) forgets: bool,
}

impl Waiting {
    pub(super) const TOPIC: &str = "Waiting";
    /// The last one outlives the test.
    pub(super) const LEVELS: &str = "1s 4s 9s 1h";

    /// The delay of a level; 0 for level 0.
    pub(super) fn delay_ms(level: u32) -> i64 {
        [0, 1000, 4000, 9000, 3_600_000][level as usize]
    }

    pub(super) fn add(&mut self, topic: &str, name: String, due_ms: i64) {
        self.messages.insert((topic.to_owned(), name), due_ms);
    }

    /// The last time that has to be waited for.
    pub(super) fn due_ms(&self) -> i64 {
        let due = self.messages.values().filter(|due| **due < now_ms() + FAR_MS);
        due.max().copied().unwrap_or(0)
    }

    /// Messages that should have come and have not.
    pub(super) fn missing(&self, snapshot: &Snapshot, now: i64) -> Vec<String> {
        let found = self.deliveries(snapshot);
        let due = self.messages.iter().filter(|(_, due)| **due <= now);
        due.filter(|(key, _)| !found.contains_key(key))
            .map(|(key, due)| format!("{key:?}, due at {due}"))
            .collect()
    }

    /// Each at most once and none early. A broker of the original that follows one that was killed, or one of an old version,
    /// does not know what that has delivered since it saved its progress; how often that showed. OxMQ looks for it.
    pub(super) fn check(&self, snapshot: &Snapshot, phases: &[Phase]) -> anyhow::Result<usize> {
        let mut repeated = 0;
        for ((topic, name), times) in self.deliveries(snapshot) {
            let due = self.messages[&(topic.clone(), name.clone())];
            ensure!(
                times[0] >= due,
                "{name} came to {topic} at {}, not before {due}",
                times[0]
            );
            for pair in times.windows(2) {
                let by = |time: i64| phases.iter().rposition(|phase| phase.from_ms <= time).unwrap_or(0);
                let (first, second) = (by(pair[0]), by(pair[1]));
                let forgot = phases[first].forgets && phases[second].is_java;
                ensure!(
                    forgot && first < second,
                    "{name} came to {topic} at {times:?}, due at {due}; phases {phases:?}"
                );
                repeated += 1;
            }
        }
        Ok(repeated)
    }

    /// Store times of each of the messages, earliest first.
    fn deliveries(&self, snapshot: &Snapshot) -> BTreeMap<(String, String), Vec<i64>> {
        let mut found: BTreeMap<_, Vec<i64>> = BTreeMap::new();
        for record in snapshot.records() {
            let topic = String::from_utf8_lossy(record.topic()).into_owned();
            let body = String::from_utf8_lossy(record.body());
            let key = (topic, body.split_inclusive('/').take(2).collect::<String>());
            if self.messages.contains_key(&key) {
                found.entry(key).or_default().push(record.store_timestamp());
            }
        }
        for times in found.values_mut() {
            times.sort_unstable();
        }
        found
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }
}
