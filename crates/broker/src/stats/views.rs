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

/// One named counter with its three views.
#[derive(Debug)]
pub(super) struct Views {
    minute: Window,
    hour: Window,
    day: Window,
}

impl Views {
    pub(super) fn new() -> Views {
        Views {
            minute: Window::new(MINUTE_VIEW),
            hour: Window::new(HOUR_VIEW),
            day: Window::new(DAY_VIEW),
        }
    }

    pub(super) fn push(&mut self, sample: Sample) {
        for window in [&mut self.minute, &mut self.hour, &mut self.day] {
            window.push(sample);
        }
    }

    pub(super) fn data(&self) -> BrokerStatsData {
        BrokerStatsData {
            stats_minute: self.minute.item(),
            stats_hour: self.hour.item(),
            stats_day: self.day.item(),
        }
    }
}

/// The last samples of one counter.
#[derive(Debug)]
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

    /// Keeps the sample if it is due. A window begins with a zero one interval ago.
    fn push(&mut self, sample: Sample) {
        let last = self.samples.back().map(|last| last.at);
        if last.is_some_and(|last| sample.at - last < self.every_ms) {
            return;
        }
        if self.samples.is_empty() {
            self.samples.push_back(Sample {
                at: sample.at - self.every_ms,
                ..Sample::default()
            });
        }
        self.samples.push_back(sample);
        if self.samples.len() > self.kept {
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
