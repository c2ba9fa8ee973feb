//! A broker's figures about itself, which are texts with a format for each.

use std::collections::BTreeMap;

use jiff::Timestamp;

pub(crate) struct Runtime(pub(crate) BTreeMap<String, String>);

impl Runtime {
    pub(crate) fn text(&self, key: &str) -> &str {
        self.0.get(key).map(String::as_str).unwrap_or_default()
    }

    pub(crate) fn number(&self, key: &str) -> f64 {
        self.text(key).parse().unwrap_or(0.0)
    }

    pub(crate) fn count(&self, key: &str) -> i64 {
        self.text(key).parse().unwrap_or(0)
    }

    /// Rates are given over several times: the first is the shortest.
    pub(crate) fn first(&self, key: &str) -> f64 {
        let first = self.text(key).split_whitespace().next();
        first.and_then(|rate| rate.parse().ok()).unwrap_or(0.0)
    }

    pub(crate) fn in_load(&self) -> String {
        format!(
            "{:9.2}({},{}ms)",
            self.first("putTps"),
            self.text("sendThreadPoolQueueSize"),
            self.text("sendThreadPoolQueueHeadWaitTimeMills")
        )
    }

    pub(crate) fn out_load(&self) -> String {
        let of_acks = |key| self.0.get(key).map_or("N", String::as_str);
        format!(
            "{:9.2}({},{}ms|{},{}ms)",
            self.first("getTransferredTps"),
            self.text("pullThreadPoolQueueSize"),
            self.text("pullThreadPoolQueueHeadWaitTimeMills"),
            of_acks("ackThreadPoolQueueSize"),
            of_acks("ackThreadPoolQueueHeadWaitTimeMills")
        )
    }

    pub(crate) fn timer_progress(&self) -> String {
        format!(
            "{}-{}({:.1}w, {:.1}, {:.1})",
            self.count("timerReadBehind"),
            self.count("timerOffsetBehind"),
            self.number("timerCongestNum") / 10_000.0,
            self.number("timerEnqueueTps"),
            self.number("timerDequeueTps")
        )
    }

    /// How many hours of messages there are; 0 where that is not told.
    pub(crate) fn hours_kept(&self) -> f64 {
        match self.text("earliestMessageTimeStamp").parse::<i64>() {
            Ok(earliest) => (Timestamp::now().as_millisecond() - earliest) as f64 / 3_600_000.0,
            Err(_) => 0.0,
        }
    }
}
