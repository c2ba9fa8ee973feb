//! The topics of this broker (spec: behaviour.md §2, storage.md §18.2).
//!
//! Owns `topics.json`. Lookups take a read lock; whoever looks up once per message keeps the answer until
//! [`Topics::generation`] moves. A change is in memory when the call returns and on disk after [`Topics::persist`], which
//! administrative requests wait for; what sends and heartbeats create is saved right afterwards in the background.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use hashbrown::HashMap;
use oxmq_protocol::body::{DataVersion, TopicConfig};
use oxmq_protocol::topic::{self, AUTO_CREATE_TOPIC};
use oxmq_protocol::{perm, sys_flag};
use oxmq_store::QueueKind;
use parking_lot::RwLock;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::BrokerConfig;
use crate::attributes::{self, AttributeError};
use crate::config_file::{ConfigFile, Unsaved};
use crate::light_queues;

/// Queues that a topic may have. Java takes any number and then walks over all of them in statistics requests.
pub const QUEUE_NUMS_MAX: i32 = 65_536;

const READ_WRITE: i32 = perm::READ | perm::WRITE;

/// What a send says about a topic that does not exist.
#[derive(Debug, Clone, Copy)]
pub struct CreateOnSend<'a> {
    pub topic: &'a str,
    pub default_topic: &'a str,
    pub default_topic_queue_nums: i32,
    pub unit_mode: bool,
}

/// Called with topics that name servers should learn about, and the version of the table that holds them. Called under
/// the table's lock: it hands the news over and returns.
pub type TopicListener = Box<dyn Fn(&[Arc<TopicConfig>], DataVersion) + Send + Sync>;

pub struct Topics {
    file: ConfigFile,
    unsaved: Unsaved,
    state: RwLock<State>,
    generation: AtomicU64,
    listener: OnceLock<TopicListener>,
    /// Names that are system topics on this broker only: its own name, its cluster's and what derives from them.
    own_system_topics: Vec<String>,
    has_light_queues: bool,
}

#[derive(Default)]
struct State {
    version: DataVersion,
    table: BTreeMap<String, Arc<TopicConfig>>,
    /// Members of the stored configs that this version does not know.
    unknown: HashMap<String, Map<String, Value>>,
    /// Members of the file that this version does not know.
    unknown_members: Map<String, Value>,
}

/// Unknown members are kept, so that a newer broker finds them again.
#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct TopicFile<T: Default> {
    data_version: DataVersion,
    topic_config_table: T,
    #[serde(flatten)]
    unknown_members: Map<String, Value>,
}

#[derive(Serialize, Deserialize, Default)]
struct StoredTopic {
    #[serde(flatten)]
    config: TopicConfig,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

/// The table of the file, written down from what the broker uses: there may be a hundred thousand topics.
#[derive(Default)]
struct StoredTable {
    topics: Vec<Arc<TopicConfig>>,
    unknown: HashMap<String, Map<String, Value>>,
}

impl Serialize for StoredTable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut table = serializer.serialize_map(Some(self.topics.len()))?;
        for config in &self.topics {
            let name = config.topic_name.as_str();
            match self.unknown.get(name) {
                None => table.serialize_entry(name, &**config)?,
                Some(unknown) => table.serialize_entry(
                    name,
                    &StoredTopic {
                        config: TopicConfig::clone(config),
                        unknown: unknown.clone(),
                    },
                )?,
            }
        }
        table.end()
    }
}

/// Why a topic was not created or changed, in the words of the original.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    #[error(transparent)]
    Attribute(#[from] AttributeError),
}

impl Topics {
    /// Reads `config/topics.json` and adds the system topics that are missing there.
    pub fn open(file: ConfigFile, config: &BrokerConfig) -> io::Result<Topics> {
        let stored: TopicFile<BTreeMap<String, StoredTopic>> = file.load()?.unwrap_or_default();
        let mut state = State {
            version: stored.data_version,
            unknown_members: stored.unknown_members,
            ..State::default()
        };
        for (name, mut topic) in stored.topic_config_table {
            if topic::validate_stored_topic(&name).is_err() {
                tracing::warn!(topic = name, "topics.json holds an illegal name, which is ignored");
                continue;
            }
            if !topic.unknown.is_empty() {
                state.unknown.insert(name.clone(), topic.unknown);
            }
            topic.config.topic_name.clone_from(&name);
            state.table.insert(name, Arc::new(topic.config));
        }
        let system = system_topics(config);
        let own_system_topics = system.iter().map(|topic| topic.topic_name.clone()).collect();
        for topic in system {
            state
                .table
                .entry(topic.topic_name.clone())
                .or_insert_with(|| Arc::new(topic));
        }
        Ok(Topics {
            file,
            unsaved: Unsaved::default(),
            state: RwLock::new(state),
            generation: AtomicU64::new(1),
            listener: OnceLock::new(),
            own_system_topics,
            has_light_queues: config.enable_lmq && config.enable_multi_dispatch,
        })
    }

    /// Whom to tell about created and changed topics. Can be set once.
    pub fn set_listener(&self, listener: TopicListener) {
        let was_set = self.listener.set(listener).is_err();
        debug_assert!(!was_set, "there is one listener");
    }

    /// A light queue exists as soon as it is named.
    pub fn get(&self, topic: &str) -> Option<Arc<TopicConfig>> {
        if self.is_light_queue(topic) {
            return Some(Arc::new(light_queues::topic_config(topic)));
        }
        self.state.read().table.get(topic).cloned()
    }

    pub fn contains(&self, topic: &str) -> bool {
        self.is_light_queue(topic) || self.state.read().table.contains_key(topic)
    }

    pub(crate) fn count(&self) -> usize {
        self.state.read().table.len()
    }

    fn is_light_queue(&self, topic: &str) -> bool {
        self.has_light_queues && topic::is_light_queue(topic)
    }

    /// Topics of `cleanup.policy=COMPACTION`.
    pub fn compaction_topics(&self) -> Vec<String> {
        let state = self.state.read();
        let is_compaction = |config: &TopicConfig| {
            let policy = config.attributes.get(attributes::CLEANUP_POLICY);
            policy.is_some_and(|policy| policy == attributes::COMPACTION)
        };
        let compacted = state.table.values().filter(|config| is_compaction(config));
        compacted.map(|config| config.topic_name.clone()).collect()
    }

    /// The kind of the consume queues that the topic gets.
    pub fn queue_kind(&self, topic: &str) -> QueueKind {
        let state = self.state.read();
        let queue_type = state
            .table
            .get(topic)
            .and_then(|config| config.attributes.get(attributes::QUEUE_TYPE));
        match queue_type.map(String::as_str) {
            Some("BatchCQ") => QueueKind::Batch,
            _ => QueueKind::Simple,
        }
    }

    /// Moves with every change: an answer of [`Topics::get`] is good while this stays the same.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub fn data_version(&self) -> DataVersion {
        self.state.read().version
    }

    /// All topics and the version they belong to.
    pub fn snapshot(&self) -> (DataVersion, Vec<Arc<TopicConfig>>) {
        let state = self.state.read();
        (state.version, state.table.values().cloned().collect())
    }

    pub fn is_order_topic(&self, topic: &str) -> bool {
        self.get(topic).is_some_and(|config| config.order)
    }

    pub fn is_system_topic(&self, topic: &str) -> bool {
        topic::is_system_topic(topic) || self.own_system_topics.iter().any(|own| own == topic)
    }

    /// Every name that this broker treats as a system topic.
    pub fn system_topics(&self) -> Vec<String> {
        let named = [
            topic::TRANS_CHECK_MAX_TIME_TOPIC,
            topic::CHECKPOINT_TOPIC,
            topic::TRACE_TOPIC,
        ];
        let mut names = self.own_system_topics.clone();
        for name in named {
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        names
    }

    /// The topic of a send that did not exist, made from the default topic that the send names; a retry topic that
    /// cannot be made that way gets one queue. `None`: the topic has to be created by an administrator.
    pub fn create_on_send(
        &self,
        request: &CreateOnSend<'_>,
        auto_create_enabled: bool,
        now: i64,
    ) -> Option<Arc<TopicConfig>> {
        let mut state = self.state.write();
        if let Some(known) = state.table.get(request.topic) {
            return Some(Arc::clone(known));
        }
        let default = state.table.get(request.default_topic);
        let created = default
            .and_then(|default| inherit(default, request, auto_create_enabled))
            .or_else(|| retry_topic_of_send(request))?;
        Some(self.put(&mut state, created, now))
    }

    /// The topic with these settings, created if it does not exist. An existing topic only follows `order`, where given.
    fn ensure(
        &self,
        topic: &str,
        queue_nums: i32,
        order: Option<bool>,
        topic_sys_flag: i32,
        now: i64,
    ) -> Arc<TopicConfig> {
        let is_right = |known: &TopicConfig| order.is_none_or(|order| order == known.order);
        if let Some(known) = self.get(topic).filter(|known| is_right(known)) {
            return known;
        }
        let mut state = self.state.write();
        let config = match state.table.get(topic) {
            Some(known) if is_right(known) => return Arc::clone(known),
            Some(known) => TopicConfig {
                order: !known.order,
                ..TopicConfig::clone(known)
            },
            None => TopicConfig {
                order: order.unwrap_or(false),
                topic_sys_flag,
                ..TopicConfig::new(topic, queue_nums, READ_WRITE)
            },
        };
        self.put(&mut state, config, now)
    }

    /// `%RETRY%group`, with as many queues as the group asks for. Heartbeats know whether the group consumes in order.
    pub fn ensure_retry_topic(
        &self,
        group: &str,
        retry_queue_nums: i32,
        order: Option<bool>,
        unit_mode: bool,
        now: i64,
    ) -> Arc<TopicConfig> {
        let topic_sys_flag = if unit_mode { sys_flag::topic::UNIT_SUB } else { 0 };
        let queue_nums = retry_queue_nums.clamp(0, QUEUE_NUMS_MAX);
        self.ensure(&topic::retry_topic(group), queue_nums, order, topic_sys_flag, now)
    }

    /// The topic of messages that come again by POP.
    pub fn ensure_pop_retry_topic(&self, topic: &str, now: i64) -> Arc<TopicConfig> {
        self.ensure(topic, 1, None, 0, now)
    }

    /// `%DLQ%group` with its one queue.
    pub fn ensure_dlq_topic(&self, group: &str, now: i64) -> Arc<TopicConfig> {
        self.ensure(&topic::dlq_topic(group), 1, None, 0, now)
    }

    /// Where half messages go that nobody has ended.
    pub fn ensure_check_max_topic(&self, now: i64) -> Arc<TopicConfig> {
        self.ensure(topic::TRANS_CHECK_MAX_TIME_TOPIC, 1, None, 0, now)
    }

    /// Creates or replaces topics on behalf of an administrator: all of them, or none on an error. The attributes of
    /// `configs` are changes with signed keys.
    pub fn update(&self, configs: Vec<TopicConfig>, now: i64) -> Result<(), TopicError> {
        let mut state = self.state.write();
        let mut checked = Vec::with_capacity(configs.len());
        for config in configs {
            if self.is_light_queue(&config.topic_name) {
                continue;
            }
            let current = state.table.get(&config.topic_name).map(|known| &known.attributes);
            let attributes = attributes::apply_changes(attributes::TOPIC, current, &config.attributes)?;
            checked.push(Arc::new(TopicConfig { attributes, ..config }));
        }
        self.put_all(&mut state, &checked, now);
        Ok(())
    }

    /// Topics that a name server's order configuration lists become ordered; this is never undone.
    pub fn mark_ordered<'a>(&self, topics: impl Iterator<Item = &'a str>, now: i64) {
        let mut state = self.state.write();
        let mut ordered = Vec::new();
        for topic in topics {
            if let Some(known) = state.table.get(topic).filter(|known| !known.order) {
                ordered.push(Arc::new(TopicConfig {
                    order: true,
                    ..TopicConfig::clone(known)
                }));
            }
        }
        if !ordered.is_empty() {
            self.put_all(&mut state, &ordered, now);
        }
    }

    /// False if there was no such topic.
    pub fn delete(&self, topic: &str, now: i64) -> bool {
        let mut state = self.state.write();
        state.unknown.remove(topic);
        if self.is_light_queue(topic) {
            // Its consume queue goes, which workers may have kept.
            self.changed();
        }
        let existed = state.table.remove(topic).is_some();
        if existed {
            state.version.advance(now);
            self.changed();
        }
        existed
    }

    /// The broker's permission changed, which changes what it registers.
    pub fn bump_version(&self, now: i64) {
        self.state.write().version.advance(now);
        self.changed();
    }

    /// Waits until there is something to save.
    pub(crate) async fn wait_unsaved(&self) {
        self.unsaved.changed().await;
    }

    /// Writes the file if anything changed since it was written.
    pub fn persist(&self) -> io::Result<()> {
        self.unsaved.save(|| self.file.save(&self.stored()))
    }

    fn stored(&self) -> TopicFile<StoredTable> {
        let state = self.state.read();
        TopicFile {
            data_version: state.version,
            topic_config_table: StoredTable {
                topics: state.table.values().cloned().collect(),
                unknown: state.unknown.clone(),
            },
            unknown_members: state.unknown_members.clone(),
        }
    }

    fn put(&self, state: &mut State, config: TopicConfig, now: i64) -> Arc<TopicConfig> {
        let config = Arc::new(config);
        self.put_all(state, std::slice::from_ref(&config), now);
        config
    }

    fn put_all(&self, state: &mut State, configs: &[Arc<TopicConfig>], now: i64) {
        for config in configs {
            state.table.insert(config.topic_name.clone(), Arc::clone(config));
        }
        state.version.advance(now);
        self.changed();
        if let Some(listener) = self.listener.get() {
            listener(configs, state.version);
        }
    }

    fn changed(&self) {
        self.unsaved.mark();
        self.generation.fetch_add(1, Ordering::Release);
    }
}

/// The topic that a send creates from the default topic it names, if that one may be inherited from.
fn inherit(default: &TopicConfig, request: &CreateOnSend<'_>, auto_create_enabled: bool) -> Option<TopicConfig> {
    let closed = default.topic_name == AUTO_CREATE_TOPIC && !auto_create_enabled;
    if closed || !perm::is_inherited(default.perm) {
        return None;
    }
    let queue_nums = request.default_topic_queue_nums.min(default.write_queue_nums).max(0);
    Some(TopicConfig {
        topic_filter_type: default.topic_filter_type,
        topic_sys_flag: match (request.unit_mode, topic::is_retry(request.topic)) {
            (false, _) => 0,
            (true, false) => sys_flag::topic::UNIT,
            (true, true) => sys_flag::topic::UNIT_SUB,
        },
        ..TopicConfig::new(request.topic, queue_nums, default.perm & !perm::INHERIT)
    })
}

fn retry_topic_of_send(request: &CreateOnSend<'_>) -> Option<TopicConfig> {
    topic::is_retry(request.topic).then(|| TopicConfig {
        topic_sys_flag: if request.unit_mode {
            sys_flag::topic::UNIT_SUB
        } else {
            0
        },
        ..TopicConfig::new(request.topic, 1, READ_WRITE)
    })
}

/// What a broker of 5.5.0 has from its first start (spec: behaviour.md §2.3, storage.md §19).
fn system_topics(config: &BrokerConfig) -> Vec<TopicConfig> {
    let cluster = config.broker_cluster_name.as_str();
    let broker = config.broker_name.as_str();
    let inheritable = |enabled: bool| perm::INHERIT | if enabled { READ_WRITE } else { 0 };
    let mut topics = vec![
        TopicConfig::new(topic::SELF_TEST_TOPIC, 1, READ_WRITE),
        TopicConfig::new(topic::BENCHMARK_TOPIC, 1024, READ_WRITE),
        TopicConfig::new(cluster, 16, inheritable(config.cluster_topic_enable)),
        TopicConfig::new(broker, 1, inheritable(config.broker_topic_enable)),
        TopicConfig::new(topic::OFFSET_MOVED_EVENT, 1, READ_WRITE),
        TopicConfig::new(topic::SCHEDULE_TOPIC, 18, READ_WRITE),
        TopicConfig::new(topic::reply_topic(cluster), 1, READ_WRITE),
        TopicConfig::new(
            format!("rmq_sys_REVIVE_LOG_{cluster}"),
            config.revive_queue_num,
            READ_WRITE,
        ),
        TopicConfig::new(format!("rmq_sys_SYNC_BROKER_MEMBER_{broker}"), 1, perm::INHERIT),
        TopicConfig::new(topic::TRANS_HALF_TOPIC, 1, READ_WRITE),
        TopicConfig::new(topic::TRANS_OP_HALF_TOPIC, 1, READ_WRITE),
        TopicConfig::new("RMQ_SYS_ROCKSDB_TRANS_HALF_TOPIC", 1, READ_WRITE),
        TopicConfig::new("RMQ_SYS_ROCKSDB_TRANS_OP_HALF_TOPIC", 1, READ_WRITE),
        TopicConfig::new("rmq_sys_wheel_timer", 1, READ_WRITE),
    ];
    if config.auto_create_topic_enable {
        let perm = READ_WRITE | perm::INHERIT;
        topics.push(TopicConfig::new(
            AUTO_CREATE_TOPIC,
            config.default_topic_queue_nums,
            perm,
        ));
    }
    if config.trace_topic_enable {
        topics.push(TopicConfig::new(config.msg_trace_topic_name.as_str(), 1, READ_WRITE));
    }
    topics
}

#[cfg(test)]
mod tests;
