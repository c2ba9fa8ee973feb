//! Formats of POP consumption: topics of messages that come again, receipt handles, offsets in replies, and what is kept
//! about messages that were handed out (spec: behaviour.md §10, storage.md §20).
//!
//! A **checkpoint** says which messages of one queue one request was given. It waits as a timed message for the revive
//! topic; so do the **acknowledgements** that belong to it. What a checkpoint names and no acknowledgement does comes
//! again through a retry topic.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::topic::{RETRY_PREFIX, is_retry};

/// Stands for the revive queue in handles of orderly POP, for which nothing is written.
pub const ORDER_REVIVE_QUEUE: i32 = 999;
/// Messages that one request can be given: a checkpoint has a bit for each.
pub const BATCH_MAX: usize = 32;
pub const REVIVE_GROUP: &str = "CID_RMQ_SYS_REVIVE_GROUP";
pub const CHECKPOINT_TAG: &str = "ck";
pub const ACK_TAG: &str = "ack";
pub const BATCH_ACK_TAG: &str = "bAck";

const V1_SEPARATOR: char = '_';
const V2_SEPARATOR: char = '+';

pub fn revive_topic(cluster: &str) -> String {
    format!("rmq_sys_REVIVE_LOG_{cluster}")
}

pub fn retry_topic_v1(topic: &str, group: &str) -> String {
    format!("{RETRY_PREFIX}{group}{V1_SEPARATOR}{topic}")
}

pub fn retry_topic_v2(topic: &str, group: &str) -> String {
    format!("{RETRY_PREFIX}{group}{V2_SEPARATOR}{topic}")
}

/// The topic whose messages wait in this retry topic of the group; any other topic stands for itself.
pub fn normal_topic<'a>(topic: &'a str, group: &str) -> &'a str {
    topic
        .strip_prefix(RETRY_PREFIX)
        .and_then(|rest| rest.strip_prefix(group))
        .and_then(|rest| rest.strip_prefix([V1_SEPARATOR, V2_SEPARATOR]))
        .unwrap_or(topic)
}

/// Which kind of topic a message was handed out from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RetryFlag {
    Normal,
    V1,
    V2,
}

impl RetryFlag {
    pub fn of_topic(topic: &str) -> RetryFlag {
        match is_retry(topic) {
            true if topic.contains(V2_SEPARATOR) => RetryFlag::V2,
            true => RetryFlag::V1,
            false => RetryFlag::Normal,
        }
    }

    pub fn parse(text: &str) -> Option<RetryFlag> {
        match text {
            "0" => Some(RetryFlag::Normal),
            "1" => Some(RetryFlag::V1),
            "2" => Some(RetryFlag::V2),
            _ => None,
        }
    }

    pub fn digit(self) -> char {
        match self {
            RetryFlag::Normal => '0',
            RetryFlag::V1 => '1',
            RetryFlag::V2 => '2',
        }
    }

    /// Where a message of `topic` with this flag really lies.
    pub fn real_topic(self, topic: &str, group: &str) -> String {
        match self {
            RetryFlag::Normal => topic.to_owned(),
            RetryFlag::V1 => retry_topic_v1(topic, group),
            RetryFlag::V2 => retry_topic_v2(topic, group),
        }
    }
}

/// A handle that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the handle \"{0}\" cannot be read")]
pub struct HandleError(pub String);

/// What a consumer shows to acknowledge a message: the property `POP_CK`, the field `extraInfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiptHandle<'a> {
    /// Start offset of the checkpoint.
    pub start_offset: i64,
    pub pop_time: i64,
    pub invisible_time: i64,
    pub revive_queue: i32,
    pub retry: &'a str,
    pub broker_name: &'a str,
    pub queue_id: i32,
    pub queue_offset: Option<i64>,
}

impl<'a> ReceiptHandle<'a> {
    /// The pieces that an acknowledgement needs: all up to the broker's name. Others may be missing.
    pub fn parse(text: &'a str) -> Result<ReceiptHandle<'a>, HandleError> {
        let mut pieces = text.split(' ');
        let mut piece = || pieces.next();
        let handle = (|| {
            Some(ReceiptHandle {
                start_offset: piece()?.parse().ok()?,
                pop_time: piece()?.parse().ok()?,
                invisible_time: piece()?.parse().ok()?,
                revive_queue: piece()?.parse().ok()?,
                retry: piece()?,
                broker_name: piece()?,
                queue_id: piece().and_then(|text| text.parse().ok()).unwrap_or(-1),
                queue_offset: piece().and_then(|text| text.parse().ok()),
            })
        })();
        handle.ok_or_else(|| HandleError(text.to_owned()))
    }

    pub fn is_order(&self) -> bool {
        self.revive_queue == ORDER_REVIVE_QUEUE
    }
}

impl std::fmt::Display for ReceiptHandle<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ReceiptHandle {
            start_offset,
            pop_time,
            invisible_time,
            revive_queue,
            retry,
            broker_name,
            queue_id,
            queue_offset,
        } = self;
        write!(
            f,
            "{start_offset} {pop_time} {invisible_time} {revive_queue} {retry} {broker_name} {queue_id}"
        )?;
        match queue_offset {
            Some(queue_offset) => write!(f, " {queue_offset}"),
            None => Ok(()),
        }
    }
}

/// Where the messages of a reply lie, as its three text fields.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OffsetInfo {
    pub start_offset_info: String,
    pub msg_offset_info: String,
    /// How often messages of an orderly request were handed out before.
    pub order_count_info: String,
}

impl OffsetInfo {
    /// Messages of one queue.
    pub fn add(&mut self, flag: RetryFlag, queue_id: i32, start_offset: i64, queue_offsets: &[i64]) {
        let flag = flag.digit();
        separate(&mut self.start_offset_info);
        put(
            &mut self.start_offset_info,
            format_args!("{flag} {queue_id} {start_offset}"),
        );
        separate(&mut self.msg_offset_info);
        put(&mut self.msg_offset_info, format_args!("{flag} {queue_id} "));
        for (index, queue_offset) in queue_offsets.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            put(&mut self.msg_offset_info, format_args!("{comma}{queue_offset}"));
        }
    }

    /// How often one message was handed out before.
    pub fn count_of_offset(&mut self, flag: RetryFlag, queue_id: i32, queue_offset: i64, count: i32) {
        separate(&mut self.order_count_info);
        let flag = flag.digit();
        put(
            &mut self.order_count_info,
            format_args!("{flag} qo{queue_id}%{queue_offset} {count}"),
        );
    }

    /// The least of a queue, for clients that know nothing finer.
    pub fn count_of_queue(&mut self, flag: RetryFlag, queue_id: i32, count: i32) {
        separate(&mut self.order_count_info);
        let flag = flag.digit();
        put(&mut self.order_count_info, format_args!("{flag} {queue_id} {count}"));
    }
}

fn separate(info: &mut String) {
    if !info.is_empty() {
        info.push(';');
    }
}

fn put(info: &mut String, text: std::fmt::Arguments<'_>) {
    info.write_fmt(text).expect("a string takes any text");
}

/// Which messages of a queue a request was given: body of a record with the tag `ck`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PopCheckpoint {
    /// Bit i: message i is acknowledged. Always 0 in records.
    #[serde(rename = "bm")]
    pub bit_map: i32,
    #[serde(rename = "bn")]
    pub broker_name: String,
    #[serde(rename = "c")]
    pub group: String,
    /// Distances of the messages from the start offset; without them they follow each other.
    #[serde(rename = "d")]
    pub distances: Vec<i32>,
    #[serde(rename = "it")]
    pub invisible_time: i64,
    #[serde(rename = "n")]
    pub count: i8,
    #[serde(rename = "pt")]
    pub pop_time: i64,
    #[serde(rename = "q")]
    pub queue_id: i32,
    #[serde(rename = "reviveTime")]
    pub revive_time: i64,
    #[serde(rename = "ro")]
    pub revive_offset: i64,
    /// How often the checkpoint was put off because a message could not be handed out again.
    #[serde(rename = "rp", skip_serializing_if = "Option::is_none")]
    pub put_off: Option<String>,
    #[serde(rename = "so")]
    pub start_offset: i64,
    /// Coming again does not count as another attempt.
    #[serde(rename = "sp")]
    pub suspend: bool,
    #[serde(rename = "t")]
    pub topic: String,
}

impl PopCheckpoint {
    /// When messages without acknowledgement come again.
    pub fn revive_time(&self) -> i64 {
        self.pop_time.saturating_add(self.invisible_time)
    }

    pub fn len(&self) -> usize {
        usize::try_from(self.count).unwrap_or(0).min(BATCH_MAX)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The queue offset of the message at `index`, which is below [`PopCheckpoint::len`].
    pub fn offset_at(&self, index: usize) -> Option<i64> {
        match self.distances.is_empty() {
            true => Some(self.start_offset + index as i64),
            false => Some(self.start_offset + i64::from(*self.distances.get(index)?)),
        }
    }

    /// Which message lies at this queue offset.
    pub fn index_of(&self, queue_offset: i64) -> Option<usize> {
        let distance = queue_offset.checked_sub(self.start_offset)?;
        let index = match self.distances.is_empty() {
            true => usize::try_from(distance).ok(),
            false => self.distances.iter().position(|known| i64::from(*known) == distance),
        };
        index.filter(|index| *index < self.len())
    }

    /// Text that is no number counts as more than any number of times, as in the original.
    pub fn times_put_off(&self) -> usize {
        self.put_off
            .as_deref()
            .map_or(0, |text| text.parse().unwrap_or(i8::MAX as usize))
    }
}

/// Messages of a checkpoint that were consumed: body of records with the tags `ack` and `bAck`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PopAck {
    /// -1 where there is a list.
    #[serde(rename = "ao", alias = "ackOffset")]
    pub ack_offset: i64,
    #[serde(rename = "aol", alias = "ackOffsetList", skip_serializing_if = "Vec::is_empty")]
    pub ack_offsets: Vec<i64>,
    #[serde(rename = "bn", alias = "brokerName")]
    pub broker_name: Option<String>,
    #[serde(rename = "c", alias = "consumerGroup")]
    pub group: String,
    #[serde(rename = "pt", alias = "popTime")]
    pub pop_time: i64,
    #[serde(rename = "q", alias = "queueId")]
    pub queue_id: i32,
    #[serde(rename = "so", alias = "startOffset")]
    pub start_offset: i64,
    #[serde(rename = "t", alias = "topic")]
    pub topic: String,
}

impl PopAck {
    /// Acknowledges one more message.
    pub fn add(&mut self, queue_offset: i64) {
        if self.offsets().contains(&queue_offset) {
            return;
        }
        if self.ack_offsets.is_empty() {
            self.ack_offsets.push(self.ack_offset);
            self.ack_offset = -1;
        }
        self.ack_offsets.push(queue_offset);
    }

    pub fn offsets(&self) -> &[i64] {
        match self.ack_offsets.is_empty() {
            true => std::slice::from_ref(&self.ack_offset),
            false => &self.ack_offsets,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn retry_topics_lead_back_to_their_topic() {
        for topic in [retry_topic_v1("a_b", "g"), retry_topic_v2("a_b", "g")] {
            assert_eq!(normal_topic(&topic, "g"), "a_b");
        }
        assert_eq!(normal_topic("a_b", "g"), "a_b");
        assert_eq!(normal_topic("%RETRY%g", "g"), "%RETRY%g");
        assert_eq!(RetryFlag::of_topic("%RETRY%g_t"), RetryFlag::V1);
        assert_eq!(RetryFlag::of_topic("%RETRY%g+t"), RetryFlag::V2);
        assert_eq!(RetryFlag::of_topic("g+t"), RetryFlag::Normal);
    }

    #[test]
    fn broken_handles_are_refused() {
        for bad in [
            "",
            " ",
            "1 2 3 4 0",
            "x 2 3 4 0 b 1",
            "1 2 3 4.5 0 b 1",
            "1  2 3 4 0 b 1",
        ] {
            assert!(ReceiptHandle::parse(bad).is_err(), "{bad:?}");
        }
        let short = ReceiptHandle::parse("1 2 3 4 0 b").unwrap();
        assert_eq!((short.queue_id, short.queue_offset), (-1, None));
        assert!(ReceiptHandle::parse("1 2 3 999 0 b 1 7").unwrap().is_order());
    }

    #[test]
    fn offsets_of_a_reply_are_those_of_java() {
        let mut info = OffsetInfo::default();
        info.add(RetryFlag::Normal, 3, 10, &[10, 12]);
        info.add(RetryFlag::V1, 0, 5, &[5]);
        info.count_of_offset(RetryFlag::Normal, 3, 12, 2);
        info.count_of_queue(RetryFlag::Normal, 3, 0);
        assert_eq!(info.start_offset_info, "0 3 10;1 0 5");
        assert_eq!(info.msg_offset_info, "0 3 10,12;1 0 5");
        assert_eq!(info.order_count_info, "0 qo3%12 2;0 3 0");
    }

    #[test]
    fn records_have_the_members_of_java() {
        let checkpoint = PopCheckpoint {
            broker_name: "broker-a".into(),
            group: "group_a".into(),
            distances: vec![0, 1, 3],
            invisible_time: 60000,
            count: 3,
            pop_time: 1_757_000_005_000,
            revive_time: 1_757_000_065_000,
            start_offset: 200,
            topic: "OrderTopic".into(),
            ..PopCheckpoint::default()
        };
        let text = r#"{"bm":0,"bn":"broker-a","c":"group_a","d":[0,1,3],"it":60000,"n":3,"pt":1757000005000,"q":0,"reviveTime":1757000065000,"ro":0,"so":200,"sp":false,"t":"OrderTopic"}"#;
        assert_eq!(serde_json::to_string(&checkpoint).unwrap(), text);
        assert_eq!(serde_json::from_str::<PopCheckpoint>(text).unwrap(), checkpoint);
        let ack = r#"{"ao":-1,"aol":[200,201],"bn":"broker-a","c":"group_a","pt":1757000005000,"q":0,"so":200,"t":"OrderTopic"}"#;
        let read: PopAck = serde_json::from_str(ack).unwrap();
        assert_eq!(read.offsets(), [200, 201]);
        assert_eq!(serde_json::to_string(&read).unwrap(), ack);
        let long = r#"{"ackOffset":201,"consumerGroup":"group_a","popTime":5,"startOffset":200,"topic":"t"}"#;
        let read: PopAck = serde_json::from_str(long).unwrap();
        assert_eq!((read.offsets(), read.broker_name.as_deref()), (&[201][..], None));
    }

    proptest! {
        #[test]
        fn handles_survive_their_text(start: i64, pop: i64, invisible: i64, revive: i32, queue in 0..1000i32, offset: Option<i64>) {
            let handle = ReceiptHandle {
                start_offset: start,
                pop_time: pop,
                invisible_time: invisible,
                revive_queue: revive,
                retry: "1",
                broker_name: "broker-a",
                queue_id: queue,
                queue_offset: offset,
            };
            let text = handle.to_string();
            prop_assert_eq!(ReceiptHandle::parse(&text), Ok(handle));
        }

        #[test]
        fn a_checkpoint_knows_its_messages(start in 0..1000i64, distances in proptest::collection::vec(0..200i32, 0..40), count: i8) {
            let checkpoint = PopCheckpoint { start_offset: start, distances, count, ..PopCheckpoint::default() };
            for index in 0..checkpoint.len() {
                if let Some(offset) = checkpoint.offset_at(index) {
                    let found = checkpoint.index_of(offset).unwrap();
                    prop_assert_eq!(checkpoint.offset_at(found), Some(offset));
                }
            }
            prop_assert_eq!(checkpoint.index_of(start - 1), None);
        }

        #[test]
        fn any_text_is_a_handle_or_refused(text in "[0-9 a-z-]{0,60}") {
            // Only that it returns.
            drop(ReceiptHandle::parse(&text));
        }
    }
}
