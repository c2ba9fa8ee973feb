//! The push consumer: messages come to a listener.

use std::future::Future;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use oxmq_protocol::body::ConsumeType;
use oxmq_protocol::topic;
use tokio::sync::mpsc;

use super::engine::{Delivery, Engine, EngineConfig, PopConfig, clamp_suspend_time, with_retry_topic};
use super::listener::{self, ConsumeOrderlyStatus, ConsumeStatus, Listener, Messages};
use super::offset_store::OffsetStore;
use super::process_queue::FlowLimits;
use super::selector::MessageSelector;
use super::settings::{Settings, check_range, consumer_settings};
use super::stream::MessageStream;
use crate::error::ClientError;

/// Bounds that Java checks as well.
const CONSUME_BATCH_MAX: usize = 1024;
const CONSUME_CONCURRENCY_MAX: usize = 1000;
/// Messages of a stream for which a shutdown waits: more than the thresholds let in.
const STREAMED_MAX: usize = 1 << 24;
const POP_BATCH_MAX: usize = 32;
const POP_THRESHOLD_MAX: usize = 1024;
const POP_INVISIBLE_TIMES: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(300);
const PULL_BATCH_BYTES_MAX: i32 = 256 * 1024;
const PULL_SUSPEND: Duration = Duration::from_secs(15);

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
    settings: Settings,
    listener: Option<ChosenListener>,
    pull_interval: Duration,
    consume_message_batch_max_size: usize,
    consume_concurrency: usize,
    consume_timeout: Duration,
    suspend_current_queue_time: Duration,
    await_termination: Duration,
    post_subscription_when_pull: bool,
    client_rebalance: bool,
    pop: PopConfig,
}

consumer_settings!(PushConsumerBuilder: connection, offsets, retries, subscriptions, queues);

#[derive(Clone)]
enum ChosenListener {
    Concurrent(Listener<ConsumeStatus>),
    Orderly(Listener<ConsumeOrderlyStatus>),
}

impl PushConsumer {
    /// Settings of a consumer of this group.
    pub fn builder(group: impl Into<String>) -> PushConsumerBuilder {
        PushConsumerBuilder {
            settings: Settings::new(group.into()),
            listener: None,
            pull_interval: Duration::ZERO,
            consume_message_batch_max_size: 1,
            consume_concurrency: 20,
            consume_timeout: Duration::from_secs(15 * 60),
            suspend_current_queue_time: Duration::from_secs(1),
            await_termination: Duration::from_secs(10),
            post_subscription_when_pull: false,
            client_rebalance: true,
            pop: PopConfig {
                invisible_time: Duration::from_secs(60),
                batch_nums: 32,
                threshold_for_queue: 96,
            },
        }
    }

    /// What the servers call this client.
    pub fn client_id(&self) -> &str {
        self.engine.calls.instance.client_id()
    }

    /// Adds a topic, or changes the expression of one.
    pub async fn subscribe(&self, topic: &str, selector: impl Into<MessageSelector>) -> Result<(), ClientError> {
        let topic = self.engine.calls.namespace().wrap(topic);
        topic::validate_topic(&topic)?;
        self.engine.subscribe(selector.into().subscription(&topic)?).await
    }

    /// Takes a topic out. Messages of it that are with the listener are not committed.
    pub async fn unsubscribe(&self, topic: &str) {
        let topic = self.engine.calls.namespace().wrap(topic);
        self.engine.unsubscribe(&topic).await;
    }

    /// Stops pulling; what is here already is still consumed.
    pub fn suspend(&self) {
        self.engine.suspend(true);
    }

    /// Pulls again.
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
        self.engine.abandon();
    }
}

impl PushConsumerBuilder {
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

    /// A rest between two pulls of a queue.
    #[must_use]
    pub fn pull_interval(mut self, interval: Duration) -> Self {
        self.pull_interval = interval;
        self
    }

    /// How far ahead of an unfinished message a concurrent consumer may pull.
    #[must_use]
    pub fn consume_concurrently_max_span(mut self, offsets: u32) -> Self {
        self.settings.consume_max_span = offsets;
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

    /// `false`: the broker shares out the queues of the group, and says for each topic whether its messages are pulled or
    /// popped ([`Admin::set_message_request_mode`](crate::Admin::set_message_request_mode)). Only for concurrent consumption
    /// in a clustering group; brokers that cannot do it leave it to the members.
    #[must_use]
    pub fn client_rebalance(mut self, by_members: bool) -> Self {
        self.client_rebalance = by_members;
        self
    }

    /// For how long nobody else gets a popped message: the time for consuming it. 5 s to 5 min.
    #[must_use]
    pub fn pop_invisible_time(mut self, time: Duration) -> Self {
        self.pop.invisible_time = time;
        self
    }

    /// Messages per POP at most, 1 to 32.
    #[must_use]
    pub fn pop_batch_nums(mut self, count: u32) -> Self {
        self.pop.batch_nums = count;
        self
    }

    /// Popped messages of one queue that may wait here.
    #[must_use]
    pub fn pop_threshold_for_queue(mut self, count: usize) -> Self {
        self.pop.threshold_for_queue = count;
        self
    }

    /// Joins the group. Messages come to the listener as soon as queues are assigned.
    pub async fn start(mut self) -> Result<PushConsumer, ClientError> {
        let (delivery, arrivals) = match self.listener.clone() {
            None => return Err(ClientError::Config("a push consumer needs a listener".to_owned())),
            Some(ChosenListener::Orderly(listener)) => (Delivery::Orderly { listener }, None),
            Some(ChosenListener::Concurrent(listener)) => {
                let (batches, arrivals) = mpsc::unbounded_channel();
                (Delivery::Concurrent { listener, batches }, Some(arrivals))
            }
        };
        let (engine, owns_instance) = self.engine(delivery).await?;
        let consumer = PushConsumer { engine, owns_instance };
        consumer.engine.start(arrivals).await?;
        Ok(consumer)
    }

    /// Joins the group and hands the messages out one by one instead of calling a listener. How many are handled at a
    /// time is up to the application.
    pub async fn stream(mut self) -> Result<MessageStream, ClientError> {
        if self.listener.is_some() {
            return Err(ClientError::Config(
                "a stream takes the place of the listener".to_owned(),
            ));
        }
        self.consume_message_batch_max_size = 1;
        let (batches, arrivals) = mpsc::unbounded_channel();
        let (engine, owns_instance) = self.engine(Delivery::Stream { batches }).await?;
        let stream = MessageStream::new(engine, arrivals, owns_instance);
        stream.start().await?;
        Ok(stream)
    }

    async fn engine(&mut self, delivery: Delivery) -> Result<(Arc<Engine>, bool), ClientError> {
        let subscriptions = self.settings.subscription_data()?;
        if subscriptions.is_empty() {
            return Err(ClientError::Config("a push consumer needs a subscription".to_owned()));
        }
        let mut config = self.engine_config()?;
        if matches!(delivery, Delivery::Stream { .. }) {
            config.consume_concurrency = STREAMED_MAX;
        }
        let (calls, owns_instance) = self.settings.connect().await?;
        let settings = &self.settings;
        let subscriptions = with_retry_topic(subscriptions, &calls.group, settings.message_model);
        let offsets = OffsetStore::open(&calls, settings.message_model, &settings.local_offset_store_dir)?;
        let engine = Engine::new(config, calls, offsets, delivery, subscriptions);
        Ok((engine, owns_instance))
    }

    fn engine_config(&self) -> Result<EngineConfig, ClientError> {
        check_range(
            "consume_message_batch_max_size",
            self.consume_message_batch_max_size,
            CONSUME_BATCH_MAX,
        )?;
        check_range("consume_concurrency", self.consume_concurrency, CONSUME_CONCURRENCY_MAX)?;
        check_range("pop_batch_nums", self.pop.batch_nums as usize, POP_BATCH_MAX)?;
        check_range(
            "pop_threshold_for_queue",
            self.pop.threshold_for_queue,
            POP_THRESHOLD_MAX,
        )?;
        if !POP_INVISIBLE_TIMES.contains(&self.pop.invisible_time) {
            return Err(ClientError::Config(
                "pop_invisible_time must be 5 s to 5 min".to_owned(),
            ));
        }
        let shared = self.settings.engine_config(ConsumeType::Passively)?;
        let is_orderly = matches!(self.listener, Some(ChosenListener::Orderly(_)));
        Ok(EngineConfig {
            pull_batch_bytes_max: PULL_BATCH_BYTES_MAX,
            pull_interval: self.pull_interval,
            pull_suspend: PULL_SUSPEND,
            flow_limits: FlowLimits {
                span: shared.flow_limits.span.filter(|_| !is_orderly),
                ..shared.flow_limits
            },
            send_subscription: self.post_subscription_when_pull,
            consume_concurrency: self.consume_concurrency,
            consume_batch_max_size: self.consume_message_batch_max_size,
            consume_timeout: self.consume_timeout,
            suspend_current_queue_time: clamp_suspend_time(self.suspend_current_queue_time),
            await_termination: self.await_termination,
            client_rebalance: self.client_rebalance,
            pop: self.pop,
            ..shared
        })
    }
}
