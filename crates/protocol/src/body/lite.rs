use std::collections::{BTreeMap, BTreeSet};

use super::{OffsetWrapper, TopicOffset, bodies};

bodies! {
    /// Reply of 200074.
    pub struct BrokerLiteInfo {
        cq_table_size: i32,
        current_lmq_num: i32,
        event_map_size: i32,
        /// Groups by the topic that they are bound to.
        group_meta: BTreeMap<String, BTreeSet<String>>,
        lite_subscription_count: i32,
        max_lmq_num: i32,
        offset_table_size: i32,
        order_info_count: i32,
        store_type: String,
        /// Minutes after which unused light topics go, by parent topic.
        topic_meta: BTreeMap<String, i32>,
    }

    /// Reply of 200075.
    pub struct ParentTopicInfo {
        #[serde(skip_serializing_if = "Option::is_none")]
        groups: Option<BTreeSet<String>>,
        lite_topic_count: i32,
        lmq_num: i32,
        topic: String,
        ttl: i32,
    }

    /// Reply of 200076.
    pub struct LiteTopicInfo {
        lite_topic: String,
        parent_topic: String,
        /// Whether this broker of the topic has it.
        sharding_to_broker: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        subscriber: Option<Vec<ClientGroup>>,
        topic_offset: TopicOffset,
    }

    pub struct ClientGroup {
        client_id: String,
        group: String,
    }

    /// Reply of 200077. Of a client that is not known the count is -1.
    pub struct LiteClientInfo {
        client_id: String,
        group: String,
        last_access_time: i64,
        last_consume_time: i64,
        lite_topic_count: i32,
        #[serde(skip_serializing_if = "Option::is_none")]
        lite_topic_set: Option<BTreeSet<String>>,
        parent_topic: String,
    }

    /// Reply of 200078.
    pub struct LiteGroupInfo {
        /// -1 where nothing waits, or nobody looks.
        earliest_unconsumed_timestamp: i64,
        group: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        lag_count_top_k: Option<Vec<LiteLagInfo>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        lag_timestamp_top_k: Option<Vec<LiteLagInfo>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        lite_topic: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        lite_topic_offset_wrapper: Option<OffsetWrapper>,
        parent_topic: String,
        total_lag_count: i64,
    }

    pub struct LiteLagInfo {
        earliest_unconsumed_timestamp: i64,
        lag_count: i64,
        lite_topic: String,
    }
}
