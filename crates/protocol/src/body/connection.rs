use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{ConsumeFromWhere, ConsumeType, MessageModel, SubscriptionData, bodies};

/// A client that is connected.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Connection {
    pub client_addr: String,
    pub client_id: String,
    pub language: String,
    pub version: i32,
}

bodies! {
    /// Reply of 203.
    pub struct ConsumerConnection {
        connection_set: BTreeSet<Connection>,
        consume_from_where: ConsumeFromWhere,
        consume_type: ConsumeType,
        message_model: MessageModel,
        subscription_table: BTreeMap<String, SubscriptionData>,
    }

    /// Reply of 204.
    pub struct ProducerConnection {
        connection_set: BTreeSet<Connection>,
    }

    /// Reply of 328.
    pub struct ProducerTableInfo {
        data: BTreeMap<String, Vec<ProducerInfo>>,
    }

    pub struct ProducerInfo {
        client_id: String,
        language: String,
        last_update_timestamp: i64,
        #[serde(rename = "remoteIP")]
        remote_ip: String,
        version: i32,
    }

    /// Reply of 38.
    pub struct ConsumerIdList {
        consumer_id_list: Vec<String>,
    }

    /// Reply of 345.
    pub struct QuerySubscriptionBody {
        group: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        subscription_data: Option<SubscriptionData>,
        #[serde(skip_serializing_if = "Option::is_none")]
        topic: Option<String>,
    }
}
