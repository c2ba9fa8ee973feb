//! The push consumer: messages come to a listener.

use std::future::Future;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use oxmq_protocol::body::{ConsumeType, SubscriptionData};
use oxmq_protocol::topic;
use tokio::sync::mpsc;

use super::engine::{Delivery, Engine, clamp_suspend_time};
use super::listener::{self, ConsumeOrderlyStatus, ConsumeStatus, Listener, Messages};
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
}

/// Settings of a push consumer. Names and defaults are those of the original.
#[derive(Clone)]
pub struct PushConsumerBuilder {
    settings: Settings,
    listener: Option<ChosenListener>,
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
        let mut settings = Settings::new(group.into());
        let engine = &mut settings.engine;
        engine.consume_type = ConsumeType::Passively;
        engine.consume_concurrency = 20;
        engine.pull_batch_bytes_max = PULL_BATCH_BYTES_MAX;
        engine.pull_suspend = PULL_SUSPEND;
        engine.send_subscription = false;
        PushConsumerBuilder {
            settings,
            listener: None,
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

    setters! {
        /// A rest between two pulls of a queue.
        pull_interval(interval: Duration): settings.engine.pull_interval = interval;
        /// How far ahead of an unfinished message a concurrent consumer may pull.
        consume_concurrently_max_span(offsets: u32): settings.engine.flow_limits.span = Some(offsets.into());
        /// Messages per call of the listener, 1 to 1024.
        consume_message_batch_max_size(count: usize): settings.engine.consume_batch_max_size = count;
        /// Calls of the listener that run at the same time: what `consumeThreadMax` is elsewhere.
        consume_concurrency(count: usize): settings.engine.consume_concurrency = count;
        /// A listener that takes longer hangs: its message is sent back.
        consume_timeout(timeout: Duration): settings.engine.consume_timeout = timeout;
        /// How long an orderly queue rests after [`ConsumeOrderlyStatus::SuspendCurrentQueueAMoment`].
        suspend_current_queue_time(time: Duration): settings.engine.suspend_current_queue_time = clamp_suspend_time(time);
        /// How long a shutdown waits for listeners that run.
        await_termination(time: Duration): settings.engine.await_termination = time;
        /// Sends the subscription with every pull.
        post_subscription_when_pull(post: bool): settings.engine.send_subscription = post;
        /// `false`: the broker shares out the queues of the group, and says for each topic whether its messages are pulled
        /// or popped ([`Admin::set_message_request_mode`](crate::Admin::set_message_request_mode)). Only for concurrent
        /// consumption in a clustering group; brokers that cannot do it leave it to the members.
        client_rebalance(by_members: bool): settings.engine.client_rebalance = by_members;
        /// For how long nobody else gets a popped message: the time for consuming it. 5 s to 5 min.
        pop_invisible_time(time: Duration): settings.engine.pop.invisible_time = time;
        /// Messages per POP at most, 1 to 32.
        pop_batch_nums(count: u32): settings.engine.pop.batch_nums = count;
        /// Popped messages of one queue that may wait here.
        pop_threshold_for_queue(count: usize): settings.engine.pop.threshold_for_queue = count;
    }

    /// Joins the group. Messages come to the listener as soon as queues are assigned.
    pub async fn start(mut self) -> Result<PushConsumer, ClientError> {
        let (delivery, arrivals) = match self.listener.take() {
            None => return Err(ClientError::Config("a push consumer needs a listener".to_owned())),
            Some(ChosenListener::Orderly(listener)) => {
                self.settings.engine.flow_limits.span = None;
                (Delivery::Orderly { listener }, None)
            }
            Some(ChosenListener::Concurrent(listener)) => {
                let (batches, arrivals) = mpsc::unbounded_channel();
                (Delivery::Concurrent { listener, batches }, Some(arrivals))
            }
        };
        let subscriptions = self.checked()?;
        let engine = self.settings.into_engine(delivery, subscriptions).await?;
        let consumer = PushConsumer { engine };
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
        self.settings.engine.consume_batch_max_size = 1;
        let subscriptions = self.checked()?;
        self.settings.engine.consume_concurrency = STREAMED_MAX;
        let (batches, arrivals) = mpsc::unbounded_channel();
        let engine = self
            .settings
            .into_engine(Delivery::Stream { batches }, subscriptions)
            .await?;
        MessageStream::start(engine, arrivals).await
    }

    fn checked(&self) -> Result<Vec<SubscriptionData>, ClientError> {
        let subscriptions = self.settings.subscription_data()?;
        if subscriptions.is_empty() {
            return Err(ClientError::Config("a push consumer needs a subscription".to_owned()));
        }
        let engine = &self.settings.engine;
        let batch_size = engine.consume_batch_max_size;
        check_range("consume_message_batch_max_size", batch_size, CONSUME_BATCH_MAX)?;
        check_range(
            "consume_concurrency",
            engine.consume_concurrency,
            CONSUME_CONCURRENCY_MAX,
        )?;
        check_range("pop_batch_nums", engine.pop.batch_nums as usize, POP_BATCH_MAX)?;
        check_range(
            "pop_threshold_for_queue",
            engine.pop.threshold_for_queue,
            POP_THRESHOLD_MAX,
        )?;
        if !POP_INVISIBLE_TIMES.contains(&engine.pop.invisible_time) {
            return Err(ClientError::Config(
                "pop_invisible_time must be 5 s to 5 min".to_owned(),
            ));
        }
        Ok(subscriptions)
    }
}
