//! The push consumer: messages come to a listener.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use oxmq_protocol::allocate::{AllocateAveragely, AllocateStrategy};
use oxmq_protocol::body::{ConsumeFromWhere, ConsumeType, MessageModel, SubscriptionData};
use oxmq_protocol::topic;
use tokio::sync::mpsc;

use super::broker_calls::BrokerCalls;
use super::engine::{Delivery, Engine, EngineConfig, with_retry_topic};
use super::listener::{self, ConsumeOrderlyStatus, ConsumeStatus, Listener, Messages};
use super::offset_file::OffsetFile;
use super::offset_store::OffsetStore;
use super::process_queue::FlowLimits;
use crate::clock::now_millis;
use crate::error::ClientError;
use crate::instance::{Instance, InstanceConfig};

const CONSUME_TIMESTAMP_BEFORE_START: Duration = Duration::from_secs(30 * 60);
/// Bounds that Java checks as well.
const CONSUME_BATCH_MAX: usize = 1024;
const PULL_BATCH_MAX: u32 = 1024;
const SUSPEND_TIME_MIN: Duration = Duration::from_millis(10);
const SUSPEND_TIME_MAX: Duration = Duration::from_secs(30);

/// A consumer that is running. Dropping it stops it at once; [`PushConsumer::shutdown`] does so in good order.
///
/// ```no_run
/// use oxmq_client::{ConsumeStatus, PushConsumer};
///
/// # async fn example() -> Result<(), oxmq_client::ClientError> {
/// let consumer = PushConsumer::builder("billing")
///     .name_server("127.0.0.1:9876")
///     .subscribe("orders", "paid || refunded")
///     .concurrent(|messages| async move {
///         for message in messages {
///             println!("{} {:?}", message.msg_id(), message.body);
///         }
///         ConsumeStatus::Success
///     })
///     .start()
///     .await?;
/// // …
/// consumer.shutdown().await;
/// # Ok(())
/// # }
/// ```
pub struct PushConsumer {
    engine: Arc<Engine>,
    /// The instance is ours alone and ends with the consumer.
    owns_instance: bool,
}

/// Settings of a push consumer. Names and defaults are those of the original.
#[derive(Clone)]
pub struct PushConsumerBuilder {
    group: String,
    instance_config: InstanceConfig,
    instance: Option<Instance>,
    subscriptions: Vec<(String, String)>,
    listener: Option<ChosenListener>,
    message_model: MessageModel,
    consume_from_where: ConsumeFromWhere,
    consume_timestamp: SystemTime,
    allocate_strategy: Arc<dyn AllocateStrategy>,
    pull_batch_size: u32,
    pull_interval: Duration,
    pull_threshold_for_queue: usize,
    pull_threshold_size_for_queue_mib: u32,
    consume_concurrently_max_span: u32,
    consume_message_batch_max_size: usize,
    consume_concurrency: usize,
    max_reconsume_times: i32,
    consume_timeout: Duration,
    suspend_current_queue_time: Duration,
    persist_consumer_offset_interval: Duration,
    await_termination: Duration,
    post_subscription_when_pull: bool,
    local_offset_store_dir: PathBuf,
}

#[derive(Clone)]
enum ChosenListener {
    Concurrent(Listener<ConsumeStatus>),
    Orderly(Listener<ConsumeOrderlyStatus>),
}

impl PushConsumer {
    pub fn builder(group: impl Into<String>) -> PushConsumerBuilder {
        PushConsumerBuilder {
            group: group.into(),
            instance_config: InstanceConfig::default(),
            instance: None,
            subscriptions: Vec::new(),
            listener: None,
            message_model: MessageModel::Clustering,
            consume_from_where: ConsumeFromWhere::LastOffset,
            consume_timestamp: SystemTime::now() - CONSUME_TIMESTAMP_BEFORE_START,
            allocate_strategy: Arc::new(AllocateAveragely),
            pull_batch_size: 32,
            pull_interval: Duration::ZERO,
            pull_threshold_for_queue: 1000,
            pull_threshold_size_for_queue_mib: 100,
            consume_concurrently_max_span: 2000,
            consume_message_batch_max_size: 1,
            consume_concurrency: 20,
            max_reconsume_times: -1,
            consume_timeout: Duration::from_secs(15 * 60),
            suspend_current_queue_time: Duration::from_secs(1),
            persist_consumer_offset_interval: Duration::from_secs(5),
            await_termination: Duration::from_secs(10),
            post_subscription_when_pull: false,
            local_offset_store_dir: OffsetFile::default_dir(),
        }
    }

    pub fn client_id(&self) -> &str {
        self.engine.calls.instance.client_id()
    }

    /// Adds a topic, or changes the expression of one.
    pub async fn subscribe(&self, topic: &str, expression: &str) -> Result<(), ClientError> {
        topic::validate_topic(topic)?;
        let subscription = SubscriptionData::parse(topic, expression, now_millis())?;
        self.engine.subscribe(subscription).await;
        Ok(())
    }

    /// Takes a topic out. Messages of it that are with the listener are not committed.
    pub async fn unsubscribe(&self, topic: &str) {
        self.engine.unsubscribe(topic).await;
    }

    /// Stops pulling; what is here already is still consumed.
    pub fn suspend(&self) {
        self.engine.suspend(true);
    }

    pub fn resume(&self) {
        self.engine.suspend(false);
    }

    /// Stops pulling, waits for listeners that run, saves the offsets, gives locks back and leaves the group.
    pub async fn shutdown(self) {
        self.engine.shutdown().await;
        if self.owns_instance {
            self.engine.calls.instance.shutdown().await;
        }
    }
}

impl Drop for PushConsumer {
    fn drop(&mut self) {
        self.engine.stop_now();
    }
}

impl PushConsumerBuilder {
    /// `host:9876`, several with `;` between them. Without it NAMESRV_ADDR counts.
    #[must_use]
    pub fn name_server(mut self, addrs: impl Into<String>) -> Self {
        self.instance_config.name_server = addrs.into();
        self
    }

    /// Everything about connections and identity. Overwrites what [`Self::name_server`] has set.
    #[must_use]
    pub fn instance_config(mut self, config: InstanceConfig) -> Self {
        self.instance_config = config;
        self
    }

    /// Shares the connections of other producers and consumers. The instance goes on after this consumer.
    #[must_use]
    pub fn instance(mut self, instance: Instance) -> Self {
        self.instance = Some(instance);
        self
    }

    /// `*` takes all of a topic, `tagA || tagB` those with one of the tags.
    #[must_use]
    pub fn subscribe(mut self, topic: impl Into<String>, expression: impl Into<String>) -> Self {
        self.subscriptions.push((topic.into(), expression.into()));
        self
    }

    /// Messages go to many calls of the listener at once, in no order.
    #[must_use]
    pub fn concurrent<F, Fut>(mut self, listener: F) -> Self
    where
        F: Fn(Messages) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ConsumeStatus> + Send + 'static,
    {
        self.listener = Some(ChosenListener::Concurrent(listener::boxed(listener)));
        self
    }

    /// Each queue's messages come in order, one call at a time.
    #[must_use]
    pub fn orderly<F, Fut>(mut self, listener: F) -> Self
    where
        F: Fn(Messages) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ConsumeOrderlyStatus> + Send + 'static,
    {
        self.listener = Some(ChosenListener::Orderly(listener::boxed(listener)));
        self
    }

    /// Whether the group shares the messages (clustering) or each member gets all of them (broadcasting).
    #[must_use]
    pub fn message_model(mut self, model: MessageModel) -> Self {
        self.message_model = model;
        self
    }

    /// Where a group begins that has no offsets yet.
    #[must_use]
    pub fn consume_from_where(mut self, from_where: ConsumeFromWhere) -> Self {
        self.consume_from_where = from_where;
        self
    }

    /// For [`ConsumeFromWhere::Timestamp`]; half an hour ago unless set.
    #[must_use]
    pub fn consume_timestamp(mut self, since: SystemTime) -> Self {
        self.consume_timestamp = since;
        self
    }

    #[must_use]
    pub fn allocate_strategy(mut self, strategy: impl AllocateStrategy) -> Self {
        self.allocate_strategy = Arc::new(strategy);
        self
    }

    /// Messages per pull, 1 to 1024.
    #[must_use]
    pub fn pull_batch_size(mut self, count: u32) -> Self {
        self.pull_batch_size = count;
        self
    }

    /// A rest between two pulls of a queue.
    #[must_use]
    pub fn pull_interval(mut self, interval: Duration) -> Self {
        self.pull_interval = interval;
        self
    }

    /// Messages of one queue that may wait here.
    #[must_use]
    pub fn pull_threshold_for_queue(mut self, count: usize) -> Self {
        self.pull_threshold_for_queue = count;
        self
    }

    /// MiB of one queue that may wait here.
    #[must_use]
    pub fn pull_threshold_size_for_queue(mut self, mib: u32) -> Self {
        self.pull_threshold_size_for_queue_mib = mib;
        self
    }

    /// How far ahead of an unfinished message a concurrent consumer may pull.
    #[must_use]
    pub fn consume_concurrently_max_span(mut self, offsets: u32) -> Self {
        self.consume_concurrently_max_span = offsets;
        self
    }

    /// Messages per call of the listener, 1 to 1024.
    #[must_use]
    pub fn consume_message_batch_max_size(mut self, count: usize) -> Self {
        self.consume_message_batch_max_size = count;
        self
    }

    /// Calls of the listener that run at the same time: what `consumeThreadMax` is elsewhere.
    #[must_use]
    pub fn consume_concurrency(mut self, count: usize) -> Self {
        self.consume_concurrency = count;
        self
    }

    /// Retries before a message goes to the dead letters. -1: 16, or without end for an orderly listener.
    #[must_use]
    pub fn max_reconsume_times(mut self, times: i32) -> Self {
        self.max_reconsume_times = times;
        self
    }

    /// A listener that takes longer hangs: its message is sent back.
    #[must_use]
    pub fn consume_timeout(mut self, timeout: Duration) -> Self {
        self.consume_timeout = timeout;
        self
    }

    /// How long an orderly queue rests after [`ConsumeOrderlyStatus::SuspendCurrentQueueAMoment`].
    #[must_use]
    pub fn suspend_current_queue_time(mut self, time: Duration) -> Self {
        self.suspend_current_queue_time = time;
        self
    }

    #[must_use]
    pub fn persist_consumer_offset_interval(mut self, interval: Duration) -> Self {
        self.persist_consumer_offset_interval = interval;
        self
    }

    /// How long a shutdown waits for listeners that run.
    #[must_use]
    pub fn await_termination(mut self, time: Duration) -> Self {
        self.await_termination = time;
        self
    }

    /// Sends the subscription with every pull.
    #[must_use]
    pub fn post_subscription_when_pull(mut self, post: bool) -> Self {
        self.post_subscription_when_pull = post;
        self
    }

    /// Where a broadcasting consumer keeps its offsets; `~/.rocketmq_offsets` unless set.
    #[must_use]
    pub fn local_offset_store_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.local_offset_store_dir = dir.into();
        self
    }

    /// Joins the group. Messages come as soon as queues are assigned.
    pub async fn start(self) -> Result<PushConsumer, ClientError> {
        topic::validate_group(&self.group)?;
        let subscriptions = self.checked_subscriptions()?;
        let config = self.checked_config()?;
        let Some(listener) = self.listener else {
            return Err(ClientError::Config("a push consumer needs a listener".to_owned()));
        };
        let owns_instance = self.instance.is_none();
        let instance = match self.instance {
            Some(instance) => instance,
            None => Instance::start(self.instance_config.for_model(self.message_model)).await?,
        };
        let calls = BrokerCalls {
            instance,
            group: self.group,
        };
        let offsets = OffsetStore::open(&calls, self.message_model, &self.local_offset_store_dir)?;
        let (delivery, arrivals) = match listener {
            ChosenListener::Orderly(listener) => (Delivery::Orderly { listener }, None),
            ChosenListener::Concurrent(listener) => {
                let (batches, arrivals) = mpsc::unbounded_channel();
                (Delivery::Concurrent { listener, batches }, Some(arrivals))
            }
        };
        let engine = Engine::new(config, calls, offsets, delivery, subscriptions);
        let consumer = PushConsumer { engine, owns_instance };
        consumer.engine.start(arrivals).await?;
        Ok(consumer)
    }

    fn checked_subscriptions(&self) -> Result<Vec<SubscriptionData>, ClientError> {
        if self.subscriptions.is_empty() {
            return Err(ClientError::Config("a push consumer needs a subscription".to_owned()));
        }
        let mut subscriptions = Vec::new();
        for (topic, expression) in &self.subscriptions {
            topic::validate_topic(topic)?;
            subscriptions.push(SubscriptionData::parse(topic, expression, now_millis())?);
        }
        Ok(with_retry_topic(subscriptions, &self.group, self.message_model))
    }

    fn checked_config(&self) -> Result<EngineConfig, ClientError> {
        check_range(
            "pull_batch_size",
            self.pull_batch_size as usize,
            PULL_BATCH_MAX as usize,
        )?;
        check_range(
            "consume_message_batch_max_size",
            self.consume_message_batch_max_size,
            CONSUME_BATCH_MAX,
        )?;
        check_range("consume_concurrency", self.consume_concurrency, 1000)?;
        let since = self.consume_timestamp.duration_since(SystemTime::UNIX_EPOCH);
        let is_orderly = matches!(self.listener, Some(ChosenListener::Orderly(_)));
        Ok(EngineConfig {
            message_model: self.message_model,
            consume_type: ConsumeType::Passively,
            consume_from_where: self.consume_from_where,
            consume_timestamp: since.unwrap_or_default().as_millis() as i64,
            strategy: Arc::clone(&self.allocate_strategy),
            pull_batch_size: self.pull_batch_size as i32,
            pull_batch_bytes_max: 256 * 1024,
            pull_interval: self.pull_interval,
            pull_suspend: Duration::from_secs(15),
            flow_limits: FlowLimits {
                messages: self.pull_threshold_for_queue,
                bytes: u64::from(self.pull_threshold_size_for_queue_mib) << 20,
                span: (!is_orderly).then_some(self.consume_concurrently_max_span.into()),
            },
            send_subscription: self.post_subscription_when_pull,
            consume_concurrency: self.consume_concurrency,
            consume_batch_max_size: self.consume_message_batch_max_size,
            max_reconsume_times: self.max_reconsume_times,
            consume_timeout: self.consume_timeout,
            suspend_current_queue_time: self
                .suspend_current_queue_time
                .clamp(SUSPEND_TIME_MIN, SUSPEND_TIME_MAX),
            persist_interval: self.persist_consumer_offset_interval,
            await_termination: self.await_termination,
        })
    }
}

fn check_range(name: &str, value: usize, max: usize) -> Result<(), ClientError> {
    if (1..=max).contains(&value) {
        return Ok(());
    }
    Err(ClientError::Config(format!("{name} is {value}, it must be 1 to {max}")))
}
