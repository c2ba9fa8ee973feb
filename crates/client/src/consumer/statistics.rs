//! How fast a consumer is, by topic, over the last minute and hour: what operators see of it (307).

use hashbrown::HashMap;
use oxmq_protocol::body;

/// A window moves on by a sixth of its length at a time.
const BUCKETS: usize = 6;
const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// Sum and number of values since about one window's length ago.
#[derive(Debug, Clone, Copy)]
struct Window {
    length_ms: i64,
    /// By number of the bucket, modulo their count.
    buckets: [Bucket; BUCKETS],
}

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    number: i64,
    sum: i64,
    count: i64,
}

impl Window {
    fn new(length_ms: i64) -> Window {
        Window {
            length_ms,
            buckets: [Bucket::default(); BUCKETS],
        }
    }

    fn number(&self, now: i64) -> i64 {
        now * BUCKETS as i64 / self.length_ms
    }

    fn add(&mut self, value: i64, now: i64) {
        let number = self.number(now);
        let bucket = &mut self.buckets[number.rem_euclid(BUCKETS as i64) as usize];
        if bucket.number != number {
            *bucket = Bucket {
                number,
                ..Bucket::default()
            };
        }
        bucket.sum += value;
        bucket.count += 1;
    }

    fn total(&self, now: i64) -> (i64, i64) {
        let oldest = self.number(now) - BUCKETS as i64;
        let recent = self.buckets.iter().filter(|bucket| bucket.number > oldest);
        recent.fold((0, 0), |(sum, count), bucket| (sum + bucket.sum, count + bucket.count))
    }

    fn average(&self, now: i64) -> f64 {
        match self.total(now) {
            (_, 0) => 0.0,
            (sum, count) => sum as f64 / count as f64,
        }
    }

    fn per_second(&self, now: i64) -> f64 {
        self.total(now).0 as f64 * 1000.0 / self.length_ms as f64
    }
}

#[derive(Debug)]
struct TopicStatistics {
    pull_millis: Window,
    pulled: Window,
    consume_millis: Window,
    consumed: Window,
    failed: Window,
    failed_of_hour: Window,
}

#[derive(Debug, Default)]
pub(crate) struct ConsumeStatistics(HashMap<String, TopicStatistics>);

impl ConsumeStatistics {
    pub(crate) fn pulled(&mut self, topic: &str, count: usize, millis: i64, now: i64) {
        let of_topic = self.topic(topic);
        of_topic.pull_millis.add(millis, now);
        of_topic.pulled.add(count as i64, now);
    }

    /// What became of the messages of one call of the listener.
    pub(crate) fn consumed(&mut self, topic: &str, done: usize, failed: usize, millis: i64, now: i64) {
        let of_topic = self.topic(topic);
        of_topic.consume_millis.add(millis, now);
        of_topic.consumed.add(done as i64, now);
        of_topic.failed.add(failed as i64, now);
        of_topic.failed_of_hour.add(failed as i64, now);
    }

    pub(crate) fn status(&self, topic: &str, now: i64) -> body::ConsumeStatus {
        let Some(of_topic) = self.0.get(topic) else {
            return body::ConsumeStatus::default();
        };
        body::ConsumeStatus {
            pull_rt: of_topic.pull_millis.average(now),
            pull_tps: of_topic.pulled.per_second(now),
            consume_rt: of_topic.consume_millis.average(now),
            consume_ok_tps: of_topic.consumed.per_second(now),
            consume_failed_tps: of_topic.failed.per_second(now),
            consume_failed_msgs: of_topic.failed_of_hour.total(now).0,
        }
    }

    /// Topics are those that were subscribed, so they are few.
    fn topic(&mut self, topic: &str) -> &mut TopicStatistics {
        self.0.entry_ref(topic).or_insert_with(|| TopicStatistics {
            pull_millis: Window::new(MINUTE_MS),
            pulled: Window::new(MINUTE_MS),
            consume_millis: Window::new(MINUTE_MS),
            consumed: Window::new(MINUTE_MS),
            failed: Window::new(MINUTE_MS),
            failed_of_hour: Window::new(HOUR_MS),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_long_ago_does_not_count() {
        let mut statistics = ConsumeStatistics::default();
        let start = 1_700_000_000_000;
        for second in 0..60 {
            let now = start + second * 1000;
            statistics.pulled("t", 10, 4, now);
            statistics.consumed("t", 9, 1, 20, now);
        }
        let end = start + 59_000;
        let status = statistics.status("t", end);
        assert!((8.0..=10.0).contains(&status.pull_tps), "{status:?}");
        assert_eq!((status.pull_rt, status.consume_rt), (4.0, 20.0));
        assert!(status.consume_ok_tps > 8.0 * status.consume_failed_tps);
        let later = statistics.status("t", end + MINUTE_MS);
        assert_eq!((later.pull_tps, later.consume_rt), (0.0, 0.0));
        assert!(later.consume_failed_msgs >= 50, "of the hour");
        assert_eq!(statistics.status("t", end + 2 * HOUR_MS).consume_failed_msgs, 0);
        assert_eq!(statistics.status("other", end).pull_tps, 0.0);
    }
}
