use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::bodies;
use crate::json;
use crate::version::V4_9_4;

/// The master of a broker group.
pub const MASTER_ID: i64 = 0;

bodies! {
    /// Reply of 105: where a topic is.
    pub struct TopicRouteData {
        broker_datas: Vec<BrokerData>,
        /// Nothing uses it any more; old clients want to see it.
        filter_server_table: BTreeMap<String, Vec<String>>,
        /// `b0:4;b1:4`: brokers and queue counts of an ordered topic, in place of `queue_datas`.
        #[serde(skip_serializing_if = "Option::is_none")]
        order_topic_conf: Option<String>,
        queue_datas: Vec<QueueData>,
        #[serde(skip_serializing_if = "Option::is_none")]
        topic_queue_mapping_by_broker: Option<BTreeMap<String, TopicQueueMappingInfo>>,
    }

    /// The queues a topic has on one broker.
    #[derive(Eq, PartialOrd, Ord)]
    pub struct QueueData {
        broker_name: String,
        perm: i32,
        read_queue_nums: i32,
        topic_sys_flag: i32,
        write_queue_nums: i32,
    }

    /// The addresses of a broker group.
    #[derive(Eq)]
    pub struct BrokerData {
        /// Broker id → `host:port`.
        broker_addrs: BTreeMap<i64, String>,
        broker_name: String,
        cluster: String,
        enable_acting_master: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        zone_name: Option<String>,
    }

    /// Which part of a static topic a broker holds.
    #[derive(Eq)]
    pub struct TopicQueueMappingInfo {
        bname: String,
        curr_id_map: BTreeMap<i32, i32>,
        dirty: bool,
        epoch: i64,
        scope: String,
        topic: String,
        total_queues: i32,
    }
}

impl TopicRouteData {
    /// The body for a requester of this version. Since 4.9.4 clients read standard JSON, and any client may ask for it.
    pub fn encode(&self, requester_version: i32, accept_standard_json_only: bool) -> Vec<u8> {
        match accept_standard_json_only || requester_version >= V4_9_4 {
            true => json::to_vec_standard(self),
            false => json::to_vec(self),
        }
    }

    pub fn broker(&self, broker_name: &str) -> Option<&BrokerData> {
        self.broker_datas
            .iter()
            .find(|broker| broker.broker_name == broker_name)
    }
}

impl BrokerData {
    pub fn master(&self) -> Option<&str> {
        self.broker_addrs.get(&MASTER_ID).map(String::as_str)
    }
}

/// What 901 answers: the members of one broker group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BrokerMemberGroup {
    pub broker_addrs: BTreeMap<i64, String>,
    pub broker_name: String,
    pub cluster: String,
}
