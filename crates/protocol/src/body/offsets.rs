use std::collections::{BTreeMap, BTreeSet};

use super::{DataVersion, QueueMap, bodies};

/// Queue id → offset, per `topic@group`.
pub type OffsetTable = BTreeMap<String, BTreeMap<i32, i64>>;

bodies! {
    /// Reply of 43; also the form of `consumerOffset.json`.
    pub struct ConsumerOffsetSerializeWrapper {
        data_version: DataVersion,
        /// Derived from the table; nobody reads it.
        group_topic_map: BTreeMap<String, BTreeSet<String>>,
        offset_table: OffsetTable,
        /// `topic@group` → offset, for groups of light queues.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        lmq_offset_table: BTreeMap<String, i64>,
        pull_offset_table: OffsetTable,
    }

    /// Reply of 45; also the form of `delayOffset.json`. Delay level → queue offset.
    pub struct DelayOffsetSerializeWrapper {
        data_version: DataVersion,
        /// Ours: deliveries that the table does not count lie behind this physical offset. Java drops it.
        #[serde(skip_serializing_if = "Option::is_none")]
        delivered_from: Option<i64>,
        offset_table: BTreeMap<i32, i64>,
    }

    /// Reply of 222, request of 220; also the form of a broadcasting consumer's `offsets.json`.
    pub struct ResetOffsetBody {
        offset_table: QueueMap<i64>,
    }

    /// Request of 220 for clients that speak C++.
    pub struct ResetOffsetBodyForC {
        offset_table: Vec<QueueOffsetForC>,
    }

    #[derive(Eq)]
    pub struct QueueOffsetForC {
        broker_name: String,
        offset: i64,
        queue_id: i32,
        topic: String,
    }

    /// Replies of 221 and 223.
    pub struct GetConsumerStatusBody {
        consumer_table: BTreeMap<String, QueueMap<i64>>,
        message_queue_table: QueueMap<i64>,
    }

    /// Reply of 308.
    pub struct QueryCorrectionOffsetBody {
        correction_offsets: BTreeMap<i32, i64>,
    }

    /// Reply of 61; also the form of `timermetrics`.
    pub struct TimerMetricsBody {
        data_version: DataVersion,
        /// By topic.
        timing_count: BTreeMap<String, TimerMetric>,
    }

    /// Messages that wait for one topic, and when that changed.
    pub struct TimerMetric {
        count: i64,
        time_stamp: i64,
    }
}
