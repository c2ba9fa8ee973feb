use std::collections::BTreeMap;

use super::{MessageQueue, QueueMap, bodies};

bodies! {
    /// Reply of 208.
    pub struct ConsumeStats {
        consume_tps: f64,
        offset_table: QueueMap<OffsetWrapper>,
    }

    /// How far a group is in one queue.
    #[derive(Copy, Eq)]
    pub struct OffsetWrapper {
        broker_offset: i64,
        consumer_offset: i64,
        /// Store time of the message before the consumer offset.
        last_timestamp: i64,
        /// What has been pulled; the consumer offset where that is not known.
        pull_offset: i64,
    }

    /// Reply of 317.
    pub struct ConsumeStatsList {
        #[serde(skip_serializing_if = "Option::is_none")]
        broker_addr: Option<String>,
        consume_stats_list: Vec<BTreeMap<String, Vec<ConsumeStats>>>,
        total_diff: i64,
        total_inflight_diff: i64,
    }

    /// Reply of 202.
    pub struct TopicStatsTable {
        offset_table: QueueMap<TopicOffset>,
        topic_put_tps: f64,
    }

    #[derive(Copy, Eq)]
    pub struct TopicOffset {
        last_update_timestamp: i64,
        max_offset: i64,
        min_offset: i64,
    }

    /// Reply of 303.
    pub struct QueryConsumeTimeSpanBody {
        consume_time_span_set: Vec<QueueTimeSpan>,
    }

    pub struct QueueTimeSpan {
        consume_time_stamp: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        consume_time_stamp_str: Option<String>,
        delay_time: i64,
        max_time_stamp: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        max_time_stamp_str: Option<String>,
        message_queue: MessageQueue,
        min_time_stamp: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        min_time_stamp_str: Option<String>,
    }
}

impl ConsumeStats {
    /// Messages that the group has not consumed.
    pub fn total_diff(&self) -> i64 {
        self.offset_table
            .iter()
            .map(|(_, offsets)| offsets.broker_offset.wrapping_sub(offsets.consumer_offset))
            .fold(0, i64::wrapping_add)
    }
}
