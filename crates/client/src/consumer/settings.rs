//! Settings that several kinds of consumers have, with Java's names and defaults. [`consumer_settings!`] gives a builder
//! the methods for them, so that each is described and defaulted once.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use oxmq_protocol::allocate::AllocateAveragely;
use oxmq_protocol::body::{ConsumeFromWhere, ConsumeType, MessageModel, SubscriptionData};
use oxmq_protocol::topic;

use super::broker_calls::BrokerCalls;
use super::engine::{Delivery, Engine, EngineConfig, PopConfig};
use super::offset_file::OffsetFile;
use super::offset_store::OffsetStore;
use super::process_queue::FlowLimits;
use super::selector::MessageSelector;
use crate::clock::now_millis;
use crate::error::ClientError;
use crate::instance::{Instance, InstanceConfig};
use crate::namespace::Namespace;

const CONSUME_TIMESTAMP_BEFORE_START: Duration = Duration::from_secs(30 * 60);
/// Java checks it as well.
const PULL_BATCH_MAX: usize = 1024;

/// What a builder holds. It is checked when the consumer starts.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) group: String,
    pub(crate) instance_config: InstanceConfig,
    pub(crate) instance: Option<Instance>,
    pub(crate) local_offset_store_dir: PathBuf,
    pub(crate) subscriptions: Vec<(String, MessageSelector)>,
    pub(crate) engine: EngineConfig,
}

impl Settings {
    pub(crate) fn new(group: String) -> Settings {
        Settings {
            group,
            instance_config: InstanceConfig::default(),
            instance: None,
            local_offset_store_dir: OffsetFile::default_dir(),
            subscriptions: Vec::new(),
            engine: EngineConfig {
                message_model: MessageModel::Clustering,
                consume_type: ConsumeType::Actively,
                consume_from_where: ConsumeFromWhere::LastOffset,
                consume_timestamp: millis(SystemTime::now() - CONSUME_TIMESTAMP_BEFORE_START),
                strategy: Arc::new(AllocateAveragely),
                pull_batch_size: 32,
                pull_batch_bytes_max: i32::MAX,
                pull_interval: Duration::ZERO,
                pull_suspend: Duration::from_secs(20),
                flow_limits: FlowLimits {
                    messages: 1000,
                    bytes: mib(100),
                    messages_of_topic: None,
                    bytes_of_topic: None,
                    messages_of_all: None,
                    span: Some(2000),
                },
                send_subscription: true,
                consume_concurrency: 1,
                consume_batch_max_size: 1,
                max_reconsume_times: -1,
                consume_timeout: Duration::from_secs(15 * 60),
                suspend_current_queue_time: Duration::from_secs(1),
                persist_interval: Duration::from_secs(5),
                await_termination: Duration::from_secs(10),
                client_rebalance: true,
                pop: PopConfig {
                    invisible_time: Duration::from_secs(60),
                    batch_nums: 32,
                    threshold_for_queue: 96,
                },
            },
        }
    }

    pub(crate) fn namespace(&self) -> Namespace {
        match &self.instance {
            Some(instance) => instance.namespace().clone(),
            None => self.instance_config.namespace(),
        }
    }

    /// The connections to use.
    pub(crate) async fn connect(&mut self) -> Result<BrokerCalls, ClientError> {
        let group = self.namespace().wrap(&self.group);
        topic::validate_group(&group)?;
        let owns_instance = self.instance.is_none();
        let instance = match self.instance.take() {
            Some(instance) => instance,
            None => Instance::start(self.instance_config.clone().for_model(self.engine.message_model)).await?,
        };
        Ok(BrokerCalls {
            instance,
            group,
            owns_instance,
        })
    }

    pub(crate) fn open_offsets(&self, calls: &BrokerCalls) -> Result<OffsetStore, ClientError> {
        OffsetStore::open(calls, self.engine.message_model, &self.local_offset_store_dir)
    }

    /// With the topics that the servers know.
    pub(crate) fn subscription_data(&self) -> Result<Vec<SubscriptionData>, ClientError> {
        let namespace = self.namespace();
        let parse = |(topic, selector): &(String, MessageSelector)| {
            let topic = namespace.wrap(topic);
            topic::validate_topic(&topic)?;
            selector.subscription(&topic)
        };
        self.subscriptions.iter().map(parse).collect()
    }

    /// An engine that is yet to be started.
    pub(crate) async fn into_engine(
        mut self,
        delivery: Delivery,
        mut subscriptions: Vec<SubscriptionData>,
    ) -> Result<Arc<Engine>, ClientError> {
        check_range("pull_batch_size", self.engine.pull_batch_size as usize, PULL_BATCH_MAX)?;
        let calls = self.connect().await?;
        let offsets = self.open_offsets(&calls)?;
        if delivery.retries() && self.engine.message_model == MessageModel::Clustering {
            subscriptions.push(SubscriptionData {
                topic: topic::retry_topic(&calls.group),
                sub_version: now_millis(),
                ..SubscriptionData::default()
            });
        }
        Ok(Engine::new(self.engine, calls, offsets, delivery, subscriptions))
    }
}

/// Since 1970.
pub(crate) fn millis(time: SystemTime) -> i64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis() as i64
}

pub(crate) fn mib(count: u32) -> u64 {
    u64::from(count) << 20
}

pub(crate) fn check_range(name: &str, value: usize, max: usize) -> Result<(), ClientError> {
    if (1..=max).contains(&value) {
        return Ok(());
    }
    Err(ClientError::Config(format!("{name} is {value}, it must be 1 to {max}")))
}

/// Methods of a builder with a field `settings`: `connection` for every consumer, `offsets` for those that keep offsets,
/// `subscriptions` for those that subscribe, `queues` for those whose queues the engine pulls.
macro_rules! consumer_settings {
    ($builder:ident: $($part:ident),+) => {
        impl $builder {
            $($crate::consumer::settings::consumer_settings!(@$part);)+
        }
    };
    (@connection) => {
        setters! {
            /// `host:9876`, several with `;` between them. Without it NAMESRV_ADDR counts.
            name_server(addrs: impl Into<String>): settings.instance_config.name_server = addrs.into();
            /// Topics and the group are of this namespace ([`InstanceConfig::namespace`](crate::InstanceConfig::namespace)).
            namespace(namespace: impl Into<String>): settings.instance_config.namespace = Some(namespace.into());
            /// Connections use TLS.
            tls(tls: $crate::ClientTls): settings.instance_config.remoting.tls = Some(tls);
            /// Signs requests with this access key and secret key.
            credentials(credentials: $crate::Credentials): settings.instance_config.remoting.credentials = Some(credentials);
            /// Everything about connections and identity. Overwrites what was set of it before.
            instance_config(config: $crate::InstanceConfig): settings.instance_config = config;
            /// Shares the connections of other producers and consumers. The instance goes on after this consumer.
            instance(instance: $crate::Instance): settings.instance = Some(instance);
        }
    };
    (@offsets) => {
        setters! {
            /// Clustering: the members of a group share its messages, and the broker keeps how far it is. Broadcasting: each
            /// member gets all of them and keeps its offsets in a file.
            message_model(model: $crate::MessageModel): settings.engine.message_model = model;
            /// Where a broadcasting consumer keeps its offsets; `~/.rocketmq_offsets` unless set.
            local_offset_store_dir(dir: impl Into<std::path::PathBuf>):
                settings.local_offset_store_dir = dir.into();
            /// How often offsets are saved.
            persist_consumer_offset_interval(interval: std::time::Duration):
                settings.engine.persist_interval = interval;
        }
    };
    (@retries) => {
        setters! {
            /// Retries before a message goes to the dead letters. -1: 16, or without end for an orderly listener.
            max_reconsume_times(times: i32): settings.engine.max_reconsume_times = times;
        }
    };
    (@subscriptions) => {
        /// `*` takes all of a topic, `tagA || tagB` those with one of the tags; see
        /// [`MessageSelector`](crate::MessageSelector) for expressions over properties.
        #[must_use]
        pub fn subscribe(
            mut self,
            topic: impl Into<String>,
            selector: impl Into<$crate::MessageSelector>,
        ) -> Self {
            self.settings.subscriptions.push((topic.into(), selector.into()));
            self
        }

        setters! {
            /// Where a group begins that has no offsets yet.
            consume_from_where(from_where: $crate::ConsumeFromWhere): settings.engine.consume_from_where = from_where;
        }
    };
    (@queues) => {
        setters! {
            /// For [`Timestamp`](crate::ConsumeFromWhere::Timestamp); half an hour ago unless set.
            consume_timestamp(since: std::time::SystemTime):
                settings.engine.consume_timestamp = $crate::consumer::settings::millis(since);
            /// How the members of the group share the queues; `AllocateAveragely` unless set.
            allocate_strategy(strategy: impl $crate::AllocateStrategy):
                settings.engine.strategy = std::sync::Arc::new(strategy);
            /// Messages per pull at most, 1 to 1024.
            pull_batch_size(count: u32): settings.engine.pull_batch_size = count;
            /// Messages of one queue that may wait here.
            pull_threshold_for_queue(count: usize): settings.engine.flow_limits.messages = count;
            /// MiB of one queue that may wait here.
            pull_threshold_size_for_queue(count: u32):
                settings.engine.flow_limits.bytes = $crate::consumer::settings::mib(count);
            /// Messages of one topic that may wait here: the queues that we have of it share them, instead of each having
            /// [`Self::pull_threshold_for_queue`].
            pull_threshold_for_topic(count: usize): settings.engine.flow_limits.messages_of_topic = Some(count);
            /// MiB of one topic that may wait here, shared out like [`Self::pull_threshold_for_topic`].
            pull_threshold_size_for_topic(count: u32):
                settings.engine.flow_limits.bytes_of_topic = Some($crate::consumer::settings::mib(count));
        }
    };
}
pub(crate) use consumer_settings;
