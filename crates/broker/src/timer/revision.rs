//! Counting anew how many messages wait for each topic. The running counts drift where a crash takes them back.
//!
//! The timer log only holds hashes of topics. Where several topics share one, the messages say which they wait for; and
//! topics for which very many wait, and those that share a hash with one, are left as they are, as in the original.

use std::collections::HashMap;

use oxmq_protocol::{hash, properties, property};
use oxmq_store::timer::Waiting;
use oxmq_store::{HourSet, RecordReader, hour_of_day};

use super::Timers;
use crate::broker::Broker;

/// Not again within the same hour, as in the original.
const PAUSE_MS: i64 = 70 * 60 * 1000;

pub(super) struct Revision {
    last: Option<i64>,
}

impl Revision {
    pub(super) fn new() -> Revision {
        Revision { last: None }
    }

    /// Counts when the hour has come.
    pub(super) fn on_time(&mut self, timers: &Timers, broker: &Broker, now: i64) {
        let config = broker.config();
        let is_hour = HourSet::parse(&config.timer_check_metrics_when).contains(hour_of_day(now));
        let is_long_ago = self.last.is_none_or(|last| now - last > PAUSE_MS);
        if !config.timer_enable_check_metrics || !is_hour || !is_long_ago {
            return;
        }
        match revise(timers, broker, config.timer_metric_small_threshold) {
            Ok(false) => {}
            Ok(true) => self.last = Some(now),
            Err(error) => {
                tracing::error!(%error, "timer messages cannot be counted");
                self.last = Some(now);
            }
        }
    }
}

/// False when it cannot be done just now.
fn revise(timers: &Timers, broker: &Broker, small_max: i64) -> std::io::Result<bool> {
    let (census, counts) = {
        let mut store = timers.store.lock();
        let Some(census) = store.census()? else {
            return Ok(false);
        };
        // Under the lock, as whatever changes them: both tell of the same moment.
        (census, timers.metrics.counts())
    };
    let mut small = SmallTopics::new(counts, small_max);
    let mut reader = RecordReader::default();
    census.each(&mut |waiting| small.count(&waiting, |waiting| topic_of(broker, waiting, &mut reader)))?;
    for (topic, by) in small.corrections() {
        timers.metrics.correct(topic, by);
    }
    Ok(true)
}

/// Topics by their hashes, with what was counted before and now.
struct SmallTopics(HashMap<i32, Vec<Counted>>);

struct Counted {
    topic: Box<[u8]>,
    before: i64,
    now: i64,
}

impl SmallTopics {
    fn new(counts: Vec<(Box<[u8]>, i64)>, small_max: i64) -> SmallTopics {
        let mut topics: HashMap<i32, Vec<Counted>> = HashMap::new();
        let mut big = Vec::new();
        for (topic, before) in counts {
            let topic_hash = hash::extend_java_string_hash(0, &topic);
            match before < small_max {
                true => topics
                    .entry(topic_hash)
                    .or_default()
                    .push(Counted { topic, before, now: 0 }),
                false => big.push(topic_hash),
            }
        }
        for topic_hash in big {
            topics.remove(&topic_hash);
        }
        SmallTopics(topics)
    }

    fn count(&mut self, waiting: &Waiting, topic_of: impl FnOnce(&Waiting) -> Option<Box<[u8]>>) {
        let Some(topics) = self.0.get_mut(&waiting.topic_hash) else {
            return;
        };
        let by = if waiting.cancels { -1 } else { 1 };
        if let [only] = &mut topics[..] {
            only.now += by;
        } else if let Some(topic) = topic_of(waiting)
            && let Some(counted) = topics.iter_mut().find(|counted| counted.topic == topic)
        {
            counted.now += by;
        }
    }

    fn corrections(&self) -> impl Iterator<Item = (&[u8], i64)> {
        let all = self.0.values().flatten();
        all.map(|counted| (&*counted.topic, counted.now - counted.before))
    }
}

fn topic_of(broker: &Broker, waiting: &Waiting, reader: &mut RecordReader) -> Option<Box<[u8]>> {
    let record = broker
        .store
        .record_in(reader, waiting.physical_offset, waiting.size, true);
    properties::find(record.ok()??.properties(), property::REAL_TOPIC).map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(topic: &str, cancels: bool) -> Waiting {
        Waiting {
            physical_offset: 0,
            size: 1,
            topic_hash: hash::extend_java_string_hash(0, topic.as_bytes()),
            cancels,
        }
    }

    fn corrections(counts: &[(&str, i64)], found: &[(&str, bool)]) -> Vec<(String, i64)> {
        let counts = counts.iter().map(|(topic, count)| (topic.as_bytes().into(), *count));
        let mut small = SmallTopics::new(counts.collect(), 100);
        for (topic, cancels) in found {
            small.count(&waiting(topic, *cancels), |_| Some(topic.as_bytes().into()));
        }
        let mut all: Vec<_> = small
            .corrections()
            .map(|(topic, by)| (String::from_utf8(topic.to_vec()).unwrap(), by))
            .collect();
        all.sort();
        all
    }

    #[test]
    fn topics_are_told_apart_and_large_ones_left_alone() {
        // "Aa" and "BB" have one hash.
        let found = [
            ("t", false),
            ("t", false),
            ("t", true),
            ("Aa", false),
            ("BB", false),
            ("BB", false),
        ];
        let expected = |all: &[(&str, i64)]| {
            all.iter()
                .map(|(topic, by)| (topic.to_string(), *by))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            corrections(&[("t", 7), ("Aa", 0), ("BB", 0)], &found),
            expected(&[("Aa", 1), ("BB", 2), ("t", -6)])
        );
        assert_eq!(
            corrections(&[("t", 7), ("Aa", 0), ("BB", 100)], &found),
            expected(&[("t", -6)])
        );
    }
}
