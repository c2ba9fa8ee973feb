//! Settings that several kinds of consumers have, with Java's names and defaults. [`consumer_settings!`] gives a builder
//! the methods for them, so that each is described and defaulted once.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use oxmq_protocol::allocate::{AllocateAveragely, AllocateStrategy};
use oxmq_protocol::body::{ConsumeFromWhere, ConsumeType, MessageModel, SubscriptionData};
use oxmq_protocol::topic;

use super::broker_calls::BrokerCalls;
use super::engine::{EngineConfig, PopConfig};
use super::offset_file::OffsetFile;
use super::process_queue::FlowLimits;
use super::selector::MessageSelector;
use crate::error::ClientError;
use crate::instance::{Instance, InstanceConfig};
use crate::namespace::Namespace;

const CONSUME_TIMESTAMP_BEFORE_START: Duration = Duration::from_secs(30 * 60);
/// Java checks it as well.
const PULL_BATCH_MAX: usize = 1024;

/// What a builder holds; [`Settings::engine_config`] checks it.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) group: String,
    pub(crate) instance_config: InstanceConfig,
    pub(crate) instance: Option<Instance>,
    pub(crate) message_model: MessageModel,
    pub(crate) local_offset_store_dir: PathBuf,
    pub(crate) max_reconsume_times: i32,
    pub(crate) subscriptions: Vec<(String, MessageSelector)>,
    pub(crate) consume_from_where: ConsumeFromWhere,
    pub(crate) consume_timestamp: SystemTime,
    pub(crate) allocate_strategy: Arc<dyn AllocateStrategy>,
    pub(crate) pull_batch_size: u32,
    pub(crate) pull_threshold_for_queue: usize,
    pub(crate) pull_threshold_size_for_queue_mib: u32,
    pub(crate) pull_threshold_for_topic: Option<usize>,
    pub(crate) pull_threshold_size_for_topic_mib: Option<u32>,
    pub(crate) consume_max_span: u32,
    pub(crate) persist_consumer_offset_interval: Duration,
}

impl Settings {
    pub(crate) fn new(group: String) -> Settings {
        Settings {
            group,
            instance_config: InstanceConfig::default(),
            instance: None,
            message_model: MessageModel::Clustering,
            local_offset_store_dir: OffsetFile::default_dir(),
            max_reconsume_times: -1,
            subscriptions: Vec::new(),
            consume_from_where: ConsumeFromWhere::LastOffset,
            consume_timestamp: SystemTime::now() - CONSUME_TIMESTAMP_BEFORE_START,
            allocate_strategy: Arc::new(AllocateAveragely),
            pull_batch_size: 32,
            pull_threshold_for_queue: 1000,
            pull_threshold_size_for_queue_mib: 100,
            pull_threshold_for_topic: None,
            pull_threshold_size_for_topic_mib: None,
            consume_max_span: 2000,
            persist_consumer_offset_interval: Duration::from_secs(5),
        }
    }

    pub(crate) fn namespace(&self) -> Namespace {
        match &self.instance {
            Some(instance) => instance.namespace().clone(),
            None => self.instance_config.namespace(),
        }
    }

    /// The connections to use, and whether they are ours alone and end with the consumer.
    pub(crate) async fn connect(&mut self) -> Result<(BrokerCalls, bool), ClientError> {
        let group = self.namespace().wrap(&self.group);
        topic::validate_group(&group)?;
        let (instance, is_owned) = match self.instance.take() {
            Some(instance) => (instance, false),
            None => {
                let config = self.instance_config.clone().for_model(self.message_model);
                (Instance::start(config).await?, true)
            }
        };
        Ok((BrokerCalls { instance, group }, is_owned))
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

    /// The engine of a consumer that sets nothing else.
    pub(crate) fn engine_config(&self, consume_type: ConsumeType) -> Result<EngineConfig, ClientError> {
        check_range("pull_batch_size", self.pull_batch_size as usize, PULL_BATCH_MAX)?;
        let since = self.consume_timestamp.duration_since(SystemTime::UNIX_EPOCH);
        Ok(EngineConfig {
            message_model: self.message_model,
            consume_type,
            consume_from_where: self.consume_from_where,
            consume_timestamp: since.unwrap_or_default().as_millis() as i64,
            strategy: Arc::clone(&self.allocate_strategy),
            pull_batch_size: self.pull_batch_size as i32,
            pull_batch_bytes_max: i32::MAX,
            pull_interval: Duration::ZERO,
            pull_suspend: Duration::from_secs(20),
            flow_limits: FlowLimits {
                messages: self.pull_threshold_for_queue,
                bytes: mib(self.pull_threshold_size_for_queue_mib),
                messages_of_topic: self.pull_threshold_for_topic,
                bytes_of_topic: self.pull_threshold_size_for_topic_mib.map(mib),
                messages_of_all: None,
                span: Some(self.consume_max_span.into()),
            },
            send_subscription: true,
            consume_concurrency: 1,
            consume_batch_max_size: 1,
            max_reconsume_times: self.max_reconsume_times,
            consume_timeout: Duration::from_secs(15 * 60),
            suspend_current_queue_time: Duration::from_secs(1),
            persist_interval: self.persist_consumer_offset_interval,
            await_termination: Duration::from_secs(10),
            client_rebalance: true,
            pop: PopConfig {
                invisible_time: Duration::from_secs(60),
                batch_nums: 32,
                threshold_for_queue: 96,
            },
        })
    }
}

fn mib(count: u32) -> u64 {
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
        /// `host:9876`, several with `;` between them. Without it NAMESRV_ADDR counts.
        #[must_use]
        pub fn name_server(mut self, addrs: impl Into<String>) -> Self {
            self.settings.instance_config.name_server = addrs.into();
            self
        }

        /// Topics and the group are of this namespace ([`InstanceConfig::namespace`](crate::InstanceConfig::namespace)).
        #[must_use]
        pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
            self.settings.instance_config.namespace = Some(namespace.into());
            self
        }

        /// Everything about connections and identity. Overwrites what was set of it before.
        #[must_use]
        pub fn instance_config(mut self, config: $crate::InstanceConfig) -> Self {
            self.settings.instance_config = config;
            self
        }

        /// Shares the connections of other producers and consumers. The instance goes on after this consumer.
        #[must_use]
        pub fn instance(mut self, instance: $crate::Instance) -> Self {
            self.settings.instance = Some(instance);
            self
        }
    };
    (@offsets) => {
        /// Clustering: the members of a group share its messages, and the broker keeps how far it is. Broadcasting: each
        /// member gets all of them and keeps its offsets in a file.
        #[must_use]
        pub fn message_model(mut self, model: $crate::MessageModel) -> Self {
            self.settings.message_model = model;
            self
        }

        /// Where a broadcasting consumer keeps its offsets; `~/.rocketmq_offsets` unless set.
        #[must_use]
        pub fn local_offset_store_dir(mut self, dir: impl Into<std::path::PathBuf>) -> Self {
            self.settings.local_offset_store_dir = dir.into();
            self
        }

        /// How often offsets are saved.
        #[must_use]
        pub fn persist_consumer_offset_interval(mut self, interval: std::time::Duration) -> Self {
            self.settings.persist_consumer_offset_interval = interval;
            self
        }
    };
    (@retries) => {
        /// Retries before a message goes to the dead letters. -1: 16, or without end for an orderly listener.
        #[must_use]
        pub fn max_reconsume_times(mut self, times: i32) -> Self {
            self.settings.max_reconsume_times = times;
            self
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

        /// Where a group begins that has no offsets yet.
        #[must_use]
        pub fn consume_from_where(mut self, from_where: $crate::ConsumeFromWhere) -> Self {
            self.settings.consume_from_where = from_where;
            self
        }
    };
    (@queues) => {
        /// For [`Timestamp`](crate::ConsumeFromWhere::Timestamp); half an hour ago unless set.
        #[must_use]
        pub fn consume_timestamp(mut self, since: std::time::SystemTime) -> Self {
            self.settings.consume_timestamp = since;
            self
        }

        /// How the members of the group share the queues; `AllocateAveragely` unless set.
        #[must_use]
        pub fn allocate_strategy(mut self, strategy: impl $crate::AllocateStrategy) -> Self {
            self.settings.allocate_strategy = std::sync::Arc::new(strategy);
            self
        }

        /// Messages per pull at most, 1 to 1024.
        #[must_use]
        pub fn pull_batch_size(mut self, count: u32) -> Self {
            self.settings.pull_batch_size = count;
            self
        }

        /// Messages of one queue that may wait here.
        #[must_use]
        pub fn pull_threshold_for_queue(mut self, count: usize) -> Self {
            self.settings.pull_threshold_for_queue = count;
            self
        }

        /// MiB of one queue that may wait here.
        #[must_use]
        pub fn pull_threshold_size_for_queue(mut self, mib: u32) -> Self {
            self.settings.pull_threshold_size_for_queue_mib = mib;
            self
        }

        /// Messages of one topic that may wait here: the queues that we have of it share them, instead of each having
        /// [`Self::pull_threshold_for_queue`].
        #[must_use]
        pub fn pull_threshold_for_topic(mut self, count: usize) -> Self {
            self.settings.pull_threshold_for_topic = Some(count);
            self
        }

        /// MiB of one topic that may wait here, shared out like [`Self::pull_threshold_for_topic`].
        #[must_use]
        pub fn pull_threshold_size_for_topic(mut self, mib: u32) -> Self {
            self.settings.pull_threshold_size_for_topic_mib = Some(mib);
            self
        }
    };
}
pub(crate) use consumer_settings;
