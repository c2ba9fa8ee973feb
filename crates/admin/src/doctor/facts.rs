//! What was seen of a host and of a cluster, before anybody judges it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use oxmq_protocol::body::{
    ClusterInfo, ConsumerConnection, MessageQueue, OffsetWrapper, SubscriptionGroupConfig, TopicConfig, TopicRouteData,
};

#[derive(Debug, Clone, Default)]
pub struct Facts {
    pub now_ms: i64,
    /// Of the machine that the command runs on.
    pub host: Host,
    /// Folders of messages on this machine.
    pub stores: Vec<StoreDir>,
    pub config: Vec<ConfigProblem>,
    pub certificates: Vec<Certificate>,
    pub name_servers: Vec<NameServer>,
    pub brokers: Vec<Broker>,
    pub groups: Vec<Group>,
    /// What could not be looked at, in words.
    pub not_seen: Vec<String>,
}

/// Every field is absent where the system does not tell.
#[derive(Debug, Clone, Default)]
pub struct Host {
    pub memory_bytes: Option<u64>,
    pub swap_total_bytes: Option<u64>,
    pub swap_used_bytes: Option<u64>,
    pub swappiness: Option<u64>,
    /// Percent of memory.
    pub dirty_ratio: Option<u64>,
    pub dirty_background_ratio: Option<u64>,
    pub max_map_count: Option<u64>,
    /// Whether something keeps the clock right.
    pub is_clock_synchronized: Option<bool>,
    pub brokers: Vec<BrokerProcess>,
}

/// A broker that runs on this machine.
#[derive(Debug, Clone, Default)]
pub struct BrokerProcess {
    pub pid: u32,
    pub files_limit: Option<u64>,
    pub open_files: Option<u64>,
}

#[derive(Debug, Clone, Default)]
pub struct StoreDir {
    pub path: PathBuf,
    pub total_bytes: u64,
    pub free_bytes: u64,
    pub files_total: u64,
    pub files_free: u64,
    pub mount: Option<Mount>,
    /// Files below the folder, each of which a broker may map.
    pub files: u64,
    /// The address of the broker that has told of it, if one has.
    pub of: Option<String>,
}

#[derive(Debug, Clone, Default)]
pub struct Mount {
    pub point: String,
    pub file_system: String,
    pub options: Vec<String>,
}

/// A line of a settings file that does not do what it seems to.
#[derive(Debug, Clone)]
pub struct ConfigProblem {
    pub line: usize,
    pub key: String,
    pub kind: ConfigProblemKind,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigProblemKind {
    /// A server does not start with it.
    Wrong,
    /// Nobody reads it, or a later line has the same key.
    Unknown,
    WithoutEffect,
}

#[derive(Debug, Clone)]
pub struct Certificate {
    /// A file, or the address of the server that shows it.
    pub of: String,
    pub not_after_ms: i64,
}

#[derive(Debug, Clone, Default)]
pub struct NameServer {
    pub addr: String,
    /// Why it could not be asked.
    pub error: Option<String>,
    pub cluster: ClusterInfo,
    /// Of the topics that were looked at.
    pub routes: BTreeMap<String, TopicRouteData>,
}

#[derive(Debug, Clone, Default)]
pub struct Broker {
    pub name: String,
    pub addr: String,
    pub id: i64,
    pub cluster: String,
    pub error: Option<String>,
    pub runtime: BTreeMap<String, String>,
    pub config: BTreeMap<String, String>,
    pub topics: BTreeMap<String, TopicConfig>,
    pub groups: BTreeMap<String, SubscriptionGroupConfig>,
    /// How far its clock is before ours, to a second.
    pub clock_ahead_ms: Option<i64>,
    /// When the oldest open transaction was begun.
    pub oldest_half_ms: Option<i64>,
}

#[derive(Debug, Clone, Default)]
pub struct Group {
    pub name: String,
    pub connection: Option<ConsumerConnection>,
    /// Members that told about themselves.
    pub members: Vec<Member>,
    pub queues: BTreeMap<MessageQueue, OffsetWrapper>,
    /// Messages before the group some seconds before.
    pub lag_before: Option<i64>,
}

#[derive(Debug, Clone, Default)]
pub struct Member {
    pub client_id: String,
    pub consume_type: String,
    pub is_orderly: bool,
    /// By topic: type and text of the expression.
    pub subscriptions: BTreeMap<String, String>,
}

impl Broker {
    pub fn number(&self, key: &str) -> Option<f64> {
        self.runtime.get(key)?.trim().parse().ok()
    }

    pub fn setting(&self, key: &str) -> Option<&str> {
        self.config.get(key).map(String::as_str)
    }

    pub fn setting_number(&self, key: &str) -> Option<f64> {
        self.setting(key)?.trim().parse().ok()
    }

    pub fn is_master(&self) -> bool {
        self.id == oxmq_protocol::body::MASTER_ID
    }
}

impl Group {
    pub fn lag(&self) -> i64 {
        self.queues.values().map(lag_of).sum()
    }

    pub fn members_online(&self) -> usize {
        self.connection
            .as_ref()
            .map_or(0, |connection| connection.connection_set.len())
    }
}

pub fn lag_of(queue: &OffsetWrapper) -> i64 {
    (queue.broker_offset - queue.consumer_offset).max(0)
}

impl Facts {
    pub fn masters(&self) -> impl Iterator<Item = &Broker> {
        self.brokers
            .iter()
            .filter(|broker| broker.is_master() && broker.error.is_none())
    }

    /// Topics of applications, on any master.
    pub fn topics(&self) -> BTreeSet<&str> {
        let names = self.masters().flat_map(|broker| broker.topics.keys());
        names
            .map(String::as_str)
            .filter(|name| is_of_application(self, name))
            .collect()
    }
}

fn is_of_application(facts: &Facts, name: &str) -> bool {
    use oxmq_protocol::topic::{is_dlq, is_retry, is_system_topic};
    let is_server = |broker: &Broker| broker.name == name || broker.cluster == name;
    let is_reply = name.ends_with("_REPLY_TOPIC");
    !(is_system_topic(name)
        || name.starts_with("RMQ_SYS_")
        || is_retry(name)
        || is_dlq(name)
        || is_reply
        || facts.brokers.iter().any(is_server))
}
