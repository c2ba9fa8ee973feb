//! The minute, hour and day of one counter, as VIEW_BROKER_STATS_DATA shows them.

use std::collections::VecDeque;

use oxmq_protocol::body::{BrokerStatsData, BrokerStatsItem};

use super::{HOUR_MS, MINUTE_MS, SECOND_MS};

/// Samples behind the minute, hour and day view, and the time between them.
pub(super) const MINUTE_VIEW: (usize, i64) = (7, 10 * SECOND_MS);
const HOUR_VIEW: (usize, i64) = (7, 10 * MINUTE_MS);
const DAY_VIEW: (usize, i64) = (25, HOUR_MS);

macro_rules! names {
    ($($name:ident = $text:literal,)+) => {
        /// What is counted, under the names of the original.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(super) enum Name {
            $($name,)+
        }

        impl Name {
            pub(super) fn from_text(text: &str) -> Option<Name> {
                match text {
                    $($text => Some(Name::$name),)+
                    _ => None,
                }
            }
        }
    };
}

names! {
    TopicPutNums = "TOPIC_PUT_NUMS",
    TopicPutSize = "TOPIC_PUT_SIZE",
    GroupGetNums = "GROUP_GET_NUMS",
    GroupGetSize = "GROUP_GET_SIZE",
    GroupCkNums = "GROUP_CK_NUMS",
    GroupAckNums = "GROUP_ACK_NUMS",
    SendBackPutNums = "SNDBCK_PUT_NUMS",
    BrokerPutNums = "BROKER_PUT_NUMS",
    BrokerGetNums = "BROKER_GET_NUMS",
    BrokerPutNumsWithoutSystemTopic = "BROKER_PUT_NUMS_WITHOUT_SYSTEM_TOPIC",
    BrokerGetNumsWithoutSystemTopic = "BROKER_GET_NUMS_WITHOUT_SYSTEM_TOPIC",
    BrokerCkNums = "BROKER_CK_NUMS",
    BrokerAckNums = "BROKER_ACK_NUMS",
}

/// A value and how many times it was added to, at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sample {
    pub(super) at: i64,
    pub(super) sum: i64,
    pub(super) times: i64,
}

/// One named counter with its three views. Nobody needs to say that it stands still.
#[derive(Debug)]
pub(super) struct Views {
    /// It has not changed since.
    latest: Sample,
    minute: Window,
    hour: Window,
    day: Window,
}

impl Views {
    pub(super) fn new(latest: Sample) -> Views {
        Views {
            latest,
            minute: Window::new(MINUTE_VIEW),
            hour: Window::new(HOUR_VIEW),
            day: Window::new(DAY_VIEW),
        }
    }

    pub(super) fn push(&mut self, sample: Sample) {
        let before = std::mem::replace(&mut self.latest, sample);
        for window in [&mut self.minute, &mut self.hour, &mut self.day] {
            window.push(sample, before);
        }
    }

    /// What the views say at a time when the counter has not changed since its latest sample.
    pub(super) fn data(&self, now: i64) -> BrokerStatsData {
        let item = |window: &Window| {
            let mut window = window.clone();
            window.push(Sample { at: now, ..self.latest }, self.latest);
            window.item()
        };
        BrokerStatsData {
            stats_minute: item(&self.minute),
            stats_hour: item(&self.hour),
            stats_day: item(&self.day),
        }
    }
}

/// The last samples of one counter.
#[derive(Debug, Clone)]
struct Window {
    samples: VecDeque<Sample>,
    kept: usize,
    every_ms: i64,
}

impl Window {
    fn new((kept, every_ms): (usize, i64)) -> Window {
        Window {
            samples: VecDeque::new(),
            kept,
            every_ms,
        }
    }

    /// Keeps the sample if it is due. A window begins with a zero one interval ago. From `before` to the sample the counter
    /// stood still: what was due then is made up for.
    fn push(&mut self, sample: Sample, before: Sample) {
        let Some(last) = self.samples.back().map(|last| last.at) else {
            let at = sample.at - self.every_ms;
            self.samples.push_back(Sample {
                at,
                ..Sample::default()
            });
            self.samples.push_back(sample);
            return;
        };
        let due = (sample.at - last) / self.every_ms;
        for back in (1..due.min(self.kept as i64)).rev() {
            let at = sample.at - back * self.every_ms;
            self.samples.push_back(Sample { at, ..before });
        }
        if due > 0 {
            self.samples.push_back(sample);
        }
        while self.samples.len() > self.kept {
            self.samples.pop_front();
        }
    }

    fn item(&self) -> BrokerStatsItem {
        let (Some(first), Some(last)) = (self.samples.front(), self.samples.back()) else {
            return BrokerStatsItem::default();
        };
        let sum = last.sum - first.sum;
        let times = last.times - first.times;
        let elapsed = last.at - first.at;
        BrokerStatsItem {
            sum,
            tps: if elapsed > 0 {
                sum as f64 * 1000.0 / elapsed as f64
            } else {
                0.0
            },
            avgpt: if times > 0 { sum as f64 / times as f64 } else { 0.0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_is_the_same_whether_quiet_times_were_sampled_or_not() {
        // Busy for the first seconds of each pair, quiet for the second.
        for pattern in [[20, 30], [70, 200], [10, 1300], [400, 4000], [10, 100_000]] {
            let first = Sample {
                at: 0,
                sum: 1,
                times: 1,
            };
            let (mut eager, mut lazy) = (Window::new(MINUTE_VIEW), Views::new(first));
            let (mut now, mut sum) = (0, 0);
            for (index, span) in pattern.iter().cycle().take(6).enumerate() {
                for _ in 0..span / 10 {
                    now += 10 * SECOND_MS;
                    let is_busy = index % 2 == 0;
                    sum += i64::from(is_busy);
                    let times = sum;
                    let sample = Sample { at: now, sum, times };
                    eager.push(sample, sample);
                    if is_busy {
                        lazy.push(sample);
                    }
                    assert_eq!(lazy.data(now).stats_minute, eager.item(), "{pattern:?} at {now}");
                }
            }
        }
    }

    #[test]
    fn an_hour_without_samples_reads_zero() {
        let sample = |at, sum| Sample { at, sum, times: sum };
        let mut views = Views::new(sample(0, 0));
        for ten_seconds in 1..100 {
            views.push(sample(ten_seconds * 10 * SECOND_MS, ten_seconds));
        }
        assert_eq!(views.data(99 * 10 * SECOND_MS).stats_day.sum, 1);
        assert_eq!(views.data(3 * HOUR_MS).stats_hour.sum, 0);
        assert_eq!(views.data(3 * HOUR_MS).stats_day.sum, 99);
        assert_eq!(views.data(100 * HOUR_MS).stats_day.sum, 0);
    }
}
