//! The lite pull consumer: messages are fetched in the background, the application polls them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use oxmq_protocol::body::MessageQueue;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::engine::{Batch, Delivery, Engine};
use super::listener::Messages;
use super::selector::MessageSelector;
use super::settings::{Settings, consumer_settings};
use crate::error::ClientError;
use crate::trace::Consumed;

const AUTO_COMMIT_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// A consumer that is polled. Its queues come from the group's rebalancing ([`LitePullConsumerBuilder::subscribe`]) or
/// from the application ([`LitePullConsumer::assign`]).
///
/// What a poll has returned counts as consumed with the next poll or the shutdown; with automatic commits off, only
/// [`LitePullConsumer::commit`] makes it count.
///
/// ```no_run
/// use std::time::Duration;
/// use oxmq_client::LitePullConsumer;
///
/// # async fn example() -> Result<(), oxmq_client::ClientError> {
/// let consumer =
///     LitePullConsumer::builder("audit").name_server("127.0.0.1:9876").subscribe("orders", "*").start().await?;
/// for _ in 0..10 {
///     for message in consumer.poll(Duration::from_secs(5)).await {
///         println!("{} {:?}", message.msg_id(), message.body);
///     }
/// }
/// consumer.shutdown().await;
/// # Ok(())
/// # }
/// ```
pub struct LitePullConsumer {
    engine: Arc<Engine>,
    arrivals: tokio::sync::Mutex<mpsc::UnboundedReceiver<Batch>>,
    polled: Mutex<Polled>,
    auto_commit_interval: Option<Duration>,
    topic_metadata_check_interval: Duration,
    is_subscribed: bool,
}

/// What the application has got and what of it is not committed yet.
struct Polled {
    offsets: BTreeMap<MessageQueue, i64>,
    next_commit: Instant,
}

/// Settings of a lite pull consumer. Names and defaults are those of the original.
#[derive(Clone)]
pub struct LitePullConsumerBuilder {
    settings: Settings,
    auto_commit: bool,
    auto_commit_interval: Duration,
    topic_metadata_check_interval: Duration,
}

consumer_settings!(LitePullConsumerBuilder: connection, offsets, subscriptions, queues);

impl LitePullConsumer {
    /// Settings of a consumer of this group.
    pub fn builder(group: impl Into<String>) -> LitePullConsumerBuilder {
        let mut settings = Settings::new(group.into());
        settings.engine.pull_batch_size = 10;
        settings.engine.flow_limits.messages_of_all = Some(10_000);
        LitePullConsumerBuilder {
            settings,
            auto_commit: true,
            auto_commit_interval: Duration::from_secs(5),
            topic_metadata_check_interval: Duration::from_secs(30),
        }
    }

    /// The next messages of any queue; none when `timeout` passes without one.
    pub async fn poll(&self, timeout: Duration) -> Messages {
        self.commit_if_due().await;
        let deadline = Instant::now() + timeout;
        let mut arrivals = self.arrivals.lock().await;
        while let Ok(Some(batch)) = timeout_at(deadline, arrivals.recv()).await {
            if self.note_polled(&batch) {
                self.trace(&batch.messages);
                return batch.messages;
            }
        }
        Messages::new()
    }

    /// The queue as the servers know it.
    fn wrap(&self, queue: &MessageQueue) -> MessageQueue {
        self.engine.calls.namespace().wrap_queue(queue)
    }

    /// Messages that were polled count as consumed in traces, as with Java.
    fn trace(&self, messages: &Messages) {
        let Some(tracer) = self.engine.calls.instance.tracer() else {
            return;
        };
        let polled = messages.iter().map(|message| &**message);
        if let Some(consuming) = tracer.before_consuming(&self.engine.calls.group, polled) {
            tracer.after_consuming(consuming, Consumed::Success);
        }
    }

    /// `false` for messages of a queue that was given up or sought elsewhere meanwhile.
    fn note_polled(&self, batch: &Batch) -> bool {
        let owned = &batch.owned;
        // A seek holds this lock too, so it comes before or after as a whole.
        let mut polled = self.polled.lock();
        if owned.is_dropped() {
            return false;
        }
        let consumed = owned.state.lock().process.remove(&batch.messages);
        owned.room.notify_one();
        if let Some(offset) = consumed {
            polled.offsets.insert(owned.queue.clone(), offset);
        }
        true
    }

    /// Saves how far the polls have come, and waits until it is saved.
    pub async fn commit(&self) -> Result<(), ClientError> {
        let polled = std::mem::take(&mut self.polled.lock().offsets);
        self.commit_offsets(polled).await
    }

    /// The same for some queues.
    pub async fn commit_queues(&self, queues: &[MessageQueue]) -> Result<(), ClientError> {
        let polled: BTreeMap<_, _> = {
            let mut polled = self.polled.lock();
            let taken = queues
                .iter()
                .filter_map(|queue| polled.offsets.remove_entry(&self.wrap(queue)));
            taken.collect()
        };
        self.commit_offsets(polled).await
    }

    /// Saves these offsets, whatever was polled. Queues that are someone else's now keep the offset they give them.
    pub async fn commit_offsets(
        &self,
        offsets: impl IntoIterator<Item = (MessageQueue, i64)>,
    ) -> Result<(), ClientError> {
        let mut result = Ok(());
        for (queue, offset) in offsets {
            let queue = self.wrap(&queue);
            if self.engine.queues.lock().get(&queue).is_none() {
                continue;
            }
            self.engine.offsets.set(&queue, offset);
            result = result.and(self.engine.offsets.persist(&queue).await);
        }
        result
    }

    /// Notes how far the polls have come; it is saved in the background, soon after and at the end.
    pub fn commit_async(&self) {
        let polled = std::mem::take(&mut self.polled.lock().offsets);
        for (queue, offset) in polled {
            if self.engine.queues.lock().get(&queue).is_some() {
                self.engine.offsets.set(&queue, offset);
            }
        }
    }

    /// What is committed for a queue.
    pub async fn committed(&self, queue: &MessageQueue) -> Result<Option<i64>, ClientError> {
        self.engine.offsets.read(&self.wrap(queue)).await
    }

    /// The queues of a topic that can be read.
    pub async fn fetch_message_queues(&self, topic: &str) -> Result<Vec<MessageQueue>, ClientError> {
        let calls = &self.engine.calls;
        let route = calls.instance.route(&calls.namespace().wrap(topic)).await?;
        Ok(calls.namespace().strip_queues(&route.subscribe))
    }

    /// Takes exactly these queues from now on, whatever others of the group have. Not together with subscriptions.
    pub async fn assign(&self, queues: impl IntoIterator<Item = MessageQueue>) -> Result<(), ClientError> {
        if self.is_subscribed {
            return Err(ClientError::Config(
                "queues are shared out by the group, as there is a subscription".to_owned(),
            ));
        }
        let queues: BTreeSet<_> = queues.into_iter().map(|queue| self.wrap(&queue)).collect();
        let topics: BTreeSet<&str> = queues.iter().map(|queue| queue.topic.as_str()).collect();
        for topic in topics {
            if self.engine.subscription(topic).is_none() {
                self.set_sub_expression_for_assign(topic, "*").await?;
            }
        }
        self.engine.choose(queues);
        Ok(())
    }

    /// Which messages of a topic are wanted from queues that are assigned; `*` unless set before.
    pub async fn set_sub_expression_for_assign(
        &self,
        topic: &str,
        selector: impl Into<MessageSelector>,
    ) -> Result<(), ClientError> {
        let topic = self.engine.calls.namespace().wrap(topic);
        self.engine.subscribe(selector.into().subscription(&topic)?).await
    }

    /// The queues that are ours now.
    pub fn assignment(&self) -> BTreeSet<MessageQueue> {
        let names = self.engine.queues.lock().names();
        self.engine.calls.namespace().strip_queues(&names)
    }

    /// Goes on at another offset of a queue that is ours. What was fetched and not polled is dropped.
    pub async fn seek(&self, queue: &MessageQueue, queue_offset: i64) -> Result<(), ClientError> {
        let instance = &self.engine.calls.instance;
        let wrapped = self.wrap(queue);
        let (min, max) = (
            instance.min_offset(&wrapped).await?,
            instance.max_offset(&wrapped).await?,
        );
        if !(min..=max).contains(&queue_offset) {
            return Err(ClientError::OffsetOutOfRange {
                queue: queue.clone(),
                queue_offset,
                min,
                max,
            });
        }
        let mut polled = self.polled.lock();
        if !self.engine.reposition(&wrapped, queue_offset) {
            return Err(ClientError::QueueLost { queue: queue.clone() });
        }
        polled.offsets.insert(wrapped, queue_offset);
        Ok(())
    }

    /// Goes on at the first message that still exists.
    pub async fn seek_to_begin(&self, queue: &MessageQueue) -> Result<(), ClientError> {
        let begin = self.engine.calls.instance.min_offset(&self.wrap(queue)).await?;
        self.seek(queue, begin).await
    }

    /// Goes on with what comes from now on.
    pub async fn seek_to_end(&self, queue: &MessageQueue) -> Result<(), ClientError> {
        let end = self.engine.calls.instance.max_offset(&self.wrap(queue)).await?;
        self.seek(queue, end).await
    }

    /// Goes on with the first message stored at or after a time, in milliseconds since 1970.
    pub async fn seek_to_timestamp(&self, queue: &MessageQueue, timestamp_ms: i64) -> Result<(), ClientError> {
        let queue_offset = self.offset_for_timestamp(queue, timestamp_ms).await?;
        self.seek(queue, queue_offset).await
    }

    /// Calls the listener with the queues of a topic whenever they are others than before: for applications that assign
    /// queues by themselves. They are looked at every 30 s, unless set otherwise.
    pub async fn register_topic_message_queue_change_listener<F>(
        &self,
        topic: &str,
        listener: F,
    ) -> Result<(), ClientError>
    where
        F: Fn(&str, &BTreeSet<MessageQueue>) + Send + 'static,
    {
        let queues = async |engine: &Engine, topic: &str| -> Result<BTreeSet<MessageQueue>, ClientError> {
            let namespace = engine.calls.namespace();
            let route = engine.calls.instance.refresh_route(&namespace.wrap(topic)).await?;
            Ok(namespace.strip_queues(&route.subscribe))
        };
        let mut before = queues(&self.engine, topic).await?;
        let (engine, topic) = (Arc::clone(&self.engine), topic.to_owned());
        let interval = self.topic_metadata_check_interval;
        self.engine.spawn(async move {
            loop {
                tokio::time::sleep(interval).await;
                match queues(&engine, &topic).await {
                    Ok(now) if now != before => {
                        listener(&topic, &now);
                        before = now;
                    }
                    Ok(_) => {}
                    Err(error) => tracing::debug!(topic, %error, "queues are not known"),
                }
            }
        });
        Ok(())
    }

    /// Fetches nothing more from these queues. What is here can still be polled.
    pub fn pause(&self, queues: &[MessageQueue]) {
        self.set_paused(queues, true);
    }

    /// Fetches from these queues again.
    pub fn resume(&self, queues: &[MessageQueue]) {
        self.set_paused(queues, false);
    }

    fn set_paused(&self, queues: &[MessageQueue], paused: bool) {
        let table = self.engine.queues.lock();
        for owned in queues.iter().filter_map(|queue| table.get(&self.wrap(queue))) {
            owned.paused.store(paused, Ordering::Relaxed);
        }
    }

    /// The offset of the first message stored at or after a time, in milliseconds since 1970.
    pub async fn offset_for_timestamp(&self, queue: &MessageQueue, timestamp_ms: i64) -> Result<i64, ClientError> {
        let instance = &self.engine.calls.instance;
        instance.search_offset(&self.wrap(queue), timestamp_ms).await
    }

    /// Commits unless automatic commits are off, and leaves the group.
    pub async fn shutdown(self) {
        if self.auto_commit_interval.is_some() {
            self.commit_and_log().await;
        }
        self.engine.shutdown().await;
    }

    async fn commit_if_due(&self) {
        let Some(interval) = self.auto_commit_interval else {
            return;
        };
        let now = Instant::now();
        {
            let mut polled = self.polled.lock();
            if now < polled.next_commit {
                return;
            }
            polled.next_commit = now + interval;
        }
        self.commit_and_log().await;
    }

    async fn commit_and_log(&self) {
        if let Err(error) = self.commit().await {
            tracing::warn!(group = self.engine.calls.group, %error, "offsets not committed");
        }
    }
}

impl Drop for LitePullConsumer {
    fn drop(&mut self) {
        self.engine.abandon();
    }
}

impl LitePullConsumerBuilder {
    setters! {
        /// Whether polls commit what the polls before have returned. On by default.
        auto_commit(enable: bool): auto_commit = enable;
        /// Polls commit what the polls before have returned, but not more often than this; a second at least.
        auto_commit_interval(interval: Duration): auto_commit_interval = interval;
        /// How often [`LitePullConsumer::register_topic_message_queue_change_listener`] looks.
        topic_metadata_check_interval(interval: Duration): topic_metadata_check_interval = interval;
        /// Messages of all queues together that may wait here.
        pull_threshold_for_all(count: usize): settings.engine.flow_limits.messages_of_all = Some(count);
    }

    /// Joins the group, or waits for queues to be assigned.
    pub async fn start(self) -> Result<LitePullConsumer, ClientError> {
        let subscriptions = self.settings.subscription_data()?;
        let is_subscribed = !subscriptions.is_empty();
        let (batches, arrivals) = mpsc::unbounded_channel();
        let engine = self
            .settings
            .into_engine(Delivery::Poll { batches }, subscriptions)
            .await?;
        let interval = self.auto_commit_interval.max(AUTO_COMMIT_INTERVAL_MIN);
        let consumer = LitePullConsumer {
            engine,
            arrivals: tokio::sync::Mutex::new(arrivals),
            polled: Mutex::new(Polled {
                offsets: BTreeMap::new(),
                next_commit: Instant::now() + interval,
            }),
            auto_commit_interval: self.auto_commit.then_some(interval),
            topic_metadata_check_interval: self.topic_metadata_check_interval,
            is_subscribed,
        };
        consumer.engine.start(None).await?;
        Ok(consumer)
    }
}
