use std::collections::BTreeMap;

use super::{QueueMap, SubscriptionData, bodies};
use crate::json::text_enum;

text_enum! {
    /// What a listener made of a message given to it directly.
    pub enum ConsumeResult {
        #[default]
        Success = "CR_SUCCESS",
        Later = "CR_LATER",
        Rollback = "CR_ROLLBACK",
        Commit = "CR_COMMIT",
        ThrowException = "CR_THROW_EXCEPTION",
        ReturnNull = "CR_RETURN_NULL",
    }
}

bodies! {
    /// Reply of 307.
    pub struct ConsumerRunningInfo {
        #[serde(skip_serializing_if = "Option::is_none")]
        jstack: Option<String>,
        mq_pop_table: QueueMap<PopProcessQueueInfo>,
        mq_table: QueueMap<ProcessQueueInfo>,
        properties: BTreeMap<String, String>,
        status_table: BTreeMap<String, ConsumeStatus>,
        subscription_set: Vec<SubscriptionData>,
        user_consumer_info: BTreeMap<String, String>,
    }

    pub struct ProcessQueueInfo {
        cached_msg_count: i32,
        cached_msg_max_offset: i64,
        cached_msg_min_offset: i64,
        #[serde(rename = "cachedMsgSizeInMiB")]
        cached_msg_size_in_mib: i32,
        commit_offset: i64,
        droped: bool,
        last_consume_timestamp: i64,
        last_lock_timestamp: i64,
        last_pull_timestamp: i64,
        locked: bool,
        transaction_msg_count: i32,
        transaction_msg_max_offset: i64,
        transaction_msg_min_offset: i64,
        try_unlock_times: i64,
    }

    pub struct PopProcessQueueInfo {
        droped: bool,
        last_pop_timestamp: i64,
        wait_ack_count: i32,
    }

    pub struct ConsumeStatus {
        consume_failed_msgs: i64,
        #[serde(rename = "consumeFailedTPS")]
        consume_failed_tps: f64,
        #[serde(rename = "consumeOKTPS")]
        consume_ok_tps: f64,
        #[serde(rename = "consumeRT")]
        consume_rt: f64,
        #[serde(rename = "pullRT")]
        pull_rt: f64,
        #[serde(rename = "pullTPS")]
        pull_tps: f64,
    }

    /// Reply of 309.
    pub struct ConsumeMessageDirectlyResult {
        auto_commit: bool,
        consume_result: ConsumeResult,
        order: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        remark: Option<String>,
        spent_time_mills: i64,
    }
}
