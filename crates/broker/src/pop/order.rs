//! The last batch that an orderly group was handed out of a queue (spec: storage.md §18.5).
//!
//! Nothing is written for it while it is out: the group's offset stays at its first message that is not acknowledged,
//! and the queue is **blocked** until all of it is acknowledged or the rest is visible again. The same attempt may ask
//! again and gets the same messages.

use std::collections::BTreeMap;

use oxmq_protocol::pop::{OffsetInfo, RetryFlag};
use serde::{Deserialize, Serialize};

/// In the members of Java's file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct OrderInfo {
    #[serde(rename = "a", skip_serializing_if = "Option::is_none")]
    attempt_id: Option<String>,
    /// Bit i: message i is acknowledged.
    #[serde(rename = "cm")]
    acked: i64,
    #[serde(rename = "i", skip_serializing_if = "Option::is_none")]
    invisible_time: Option<i64>,
    #[serde(rename = "l")]
    last_consume_time: i64,
    /// The first offset, then distances from it.
    #[serde(rename = "o")]
    offsets: Vec<i64>,
    /// How often messages were handed out before, where they were.
    #[serde(rename = "oc", skip_serializing_if = "Option::is_none")]
    counts: Option<BTreeMap<i64, i32>>,
    /// When messages are visible again whose time was changed.
    #[serde(rename = "ot", skip_serializing_if = "Option::is_none")]
    visible_at: Option<BTreeMap<i64, i64>>,
    #[serde(rename = "popTime")]
    pop_time: i64,
}

/// What an acknowledgement means for the group's offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    Commit(i64),
    /// Of another batch than the last.
    Outdated,
    /// No such message in the batch.
    Illegal,
}

impl OrderInfo {
    /// A batch that was just handed out. Messages that `before` held as well have been handed out once more.
    pub(crate) fn new(
        before: Option<&OrderInfo>,
        attempt_id: Option<&str>,
        pop_time: i64,
        invisible_time: i64,
        queue_offsets: &[i64],
        now: i64,
    ) -> OrderInfo {
        let first = queue_offsets.first().copied().unwrap_or(0);
        let distances = queue_offsets.iter().enumerate();
        let offsets = distances.map(|(index, offset)| if index == 0 { *offset } else { offset - first });
        let mut info = OrderInfo {
            attempt_id: attempt_id.map(str::to_owned),
            invisible_time: Some(invisible_time),
            last_consume_time: now,
            offsets: offsets.collect(),
            pop_time,
            ..OrderInfo::default()
        };
        if let Some(before) = before {
            info.counts = Some(match &before.attempt_id {
                Some(attempt) if Some(attempt.as_str()) == attempt_id => before.counts.clone().unwrap_or_default(),
                _ => before.counts_after(queue_offsets),
            });
        }
        info
    }

    fn counts_after(&self, queue_offsets: &[i64]) -> BTreeMap<i64, i32> {
        let again = queue_offsets.iter().filter(|offset| self.index_of(**offset).is_some());
        again
            .map(|offset| {
                let before = self.counts.as_ref().and_then(|counts| counts.get(offset));
                (*offset, before.map_or(1, |count| count.saturating_add(1)))
            })
            .collect()
    }

    /// Appends how often the messages were handed out before.
    pub(crate) fn write_counts(&self, flag: RetryFlag, queue_id: i32, out: &mut OffsetInfo) {
        let none = BTreeMap::new();
        let counts = self.counts.as_ref().unwrap_or(&none);
        for (offset, count) in counts {
            out.count_of_offset(flag, queue_id, *offset, *count);
        }
        let least = counts.values().min().copied();
        let least = least.filter(|_| counts.len() == self.offsets.len());
        out.count_of_queue(flag, queue_id, least.unwrap_or(0));
    }

    /// Until when the queue is blocked for this attempt; `None` when it is not.
    pub(crate) fn blocked_until(&mut self, attempt_id: Option<&str>, invisible_time: i64, now: i64) -> Option<i64> {
        if self.attempt_id.is_some() && self.attempt_id.as_deref() == attempt_id {
            return None;
        }
        if self.invisible_time.is_none_or(|time| time <= 0) {
            self.invisible_time = Some(invisible_time);
        }
        let visible = (0..self.offsets.len())
            .filter(|index| !self.is_acked(*index))
            .map(|index| self.visible_at(index));
        visible.max().filter(|latest| now < *latest)
    }

    fn visible_at(&self, index: usize) -> i64 {
        let changed = self
            .visible_at
            .as_ref()
            .and_then(|times| times.get(&self.offset_at(index)));
        let regular = || self.pop_time.saturating_add(self.invisible_time.unwrap_or(0));
        changed.copied().unwrap_or_else(regular)
    }

    /// A message was consumed.
    pub(crate) fn ack(&mut self, queue_offset: i64, pop_time: i64) -> Progress {
        if self.offsets.is_empty() {
            return Progress::Illegal;
        }
        if pop_time != self.pop_time {
            return Progress::Outdated;
        }
        let Some(index) = self.index_of(queue_offset) else {
            return Progress::Illegal;
        };
        self.acked |= bit(index);
        let open = (0..self.offsets.len()).find(|index| !self.is_acked(*index));
        Progress::Commit(match open {
            Some(index) => self.offset_at(index),
            None => self.offset_at(self.offsets.len() - 1) + 1,
        })
    }

    /// A message shall be visible at another time than the others.
    pub(crate) fn change_visible_time(&mut self, queue_offset: i64, pop_time: i64, visible_at: i64) {
        if pop_time == self.pop_time && self.index_of(queue_offset).is_some() {
            self.visible_at.get_or_insert_default().insert(queue_offset, visible_at);
        }
    }

    pub(crate) fn last_consume_time(&self) -> i64 {
        self.last_consume_time
    }

    fn offset_at(&self, index: usize) -> i64 {
        match index {
            0 => self.offsets[0],
            _ => self.offsets[0].saturating_add(self.offsets[index]),
        }
    }

    fn index_of(&self, queue_offset: i64) -> Option<usize> {
        (0..self.offsets.len()).find(|index| self.offset_at(*index) == queue_offset)
    }

    fn is_acked(&self, index: usize) -> bool {
        self.acked & bit(index) != 0
    }
}

fn bit(index: usize) -> i64 {
    1i64.checked_shl(index as u32).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use oxmq_protocol::json;
    use proptest::prelude::*;

    use super::*;

    fn info(attempt: &str, pop_time: i64, offsets: &[i64]) -> OrderInfo {
        OrderInfo::new(None, Some(attempt), pop_time, 30_000, offsets, pop_time)
    }

    #[test]
    fn the_file_of_a_java_broker_is_read() {
        let text = r#"{"a":"attempt-1","cm":1,"i":30000,"l":1757000003000,"o":[100,1,2],"oc":{101:2},"ot":{101:1757000033000},"popTime":1757000003000}"#;
        let read: OrderInfo = json::from_slice(text.as_bytes()).unwrap();
        assert_eq!(
            (read.offset_at(2), read.is_acked(0), read.is_acked(1)),
            (102, true, false)
        );
        assert_eq!(String::from_utf8(json::to_vec(&read)).unwrap(), text);
    }

    #[test]
    fn a_queue_is_blocked_until_the_rest_is_visible() {
        let mut info = info("a", 1000, &[5, 6, 8]);
        assert_eq!(info.blocked_until(Some("b"), 0, 2000), Some(31_000));
        assert_eq!(info.blocked_until(None, 0, 2000), Some(31_000));
        assert_eq!(info.blocked_until(Some("a"), 0, 2000), None, "the same attempt");
        assert_eq!(info.blocked_until(Some("b"), 0, 31_000), None);
        info.change_visible_time(6, 1000, 40_000);
        assert_eq!(info.blocked_until(Some("b"), 0, 31_000), Some(40_000));
        assert_eq!(info.ack(6, 1000), Progress::Commit(5));
        assert_eq!(info.ack(5, 1000), Progress::Commit(8));
        assert_eq!(info.ack(7, 1000), Progress::Illegal);
        assert_eq!(info.ack(8, 999), Progress::Outdated);
        assert_eq!(info.ack(8, 1000), Progress::Commit(9));
        assert_eq!(info.blocked_until(Some("b"), 0, 2000), None);
    }

    #[test]
    fn messages_count_how_often_they_were_handed_out() {
        let first = info("a", 1000, &[5, 6]);
        let again = OrderInfo::new(Some(&first), Some("b"), 2000, 30_000, &[6, 7], 2000);
        let mut counts = OffsetInfo::default();
        again.write_counts(RetryFlag::Normal, 0, &mut counts);
        assert_eq!(counts.order_count_info, "0 qo0%6 1;0 0 0");
        let same_attempt = OrderInfo::new(Some(&again), Some("b"), 3000, 30_000, &[6, 7], 3000);
        assert_eq!(same_attempt.counts, again.counts);
        let third = OrderInfo::new(Some(&again), Some("c"), 3000, 30_000, &[6, 7], 3000);
        let mut counts = OffsetInfo::default();
        third.write_counts(RetryFlag::Normal, 0, &mut counts);
        assert_eq!(counts.order_count_info, "0 qo0%6 2;0 qo0%7 1;0 0 1");
    }

    proptest! {
        #[test]
        fn progress_never_passes_a_message_that_is_not_acknowledged(acks in proptest::collection::vec(0..32i64, 0..64)) {
            let offsets: Vec<i64> = (100..132).collect();
            let mut info = info("a", 1, &offsets);
            let mut acked = std::collections::BTreeSet::new();
            for ack in acks {
                acked.insert(100 + ack);
                let first_open = offsets.iter().find(|offset| !acked.contains(offset));
                prop_assert_eq!(info.ack(100 + ack, 1), Progress::Commit(first_open.copied().unwrap_or(132)));
            }
        }
    }
}
