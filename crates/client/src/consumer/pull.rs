//! The pull consumer: the application asks for messages, queue by queue, and says how far it is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use oxmq_protocol::body::{ConsumeFromWhere, ConsumeType, ConsumerData, MessageModel, MessageQueue, SubscriptionData};
use oxmq_protocol::message::MessageExt;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::broker_calls::BrokerCalls;
use super::offset_store::OffsetStore;
use super::pull_request::PullResult;
use super::retry::max_reconsume_times_concurrent;
use super::selector::MessageSelector;
use super::settings::{Settings, consumer_settings};
use crate::error::ClientError;
use crate::instance::{Member, MemberData};

/// How long a blocking pull waits for a message.
const SUSPEND: Duration = Duration::from_secs(20);

/// A consumer without a loop of its own. It takes part in no rebalancing: who pulls which queue is the application's
/// affair.
///
/// ```no_run
/// use oxmq_client::PullConsumer;
///
/// # async fn example() -> Result<(), oxmq_client::ClientError> {
/// let consumer = PullConsumer::builder("audit").name_server("127.0.0.1:9876").start().await?;
/// for queue in consumer.fetch_subscribe_message_queues("orders").await? {
///     let start = consumer.fetch_consume_offset(&queue).await?.unwrap_or(0);
///     let result = consumer.pull(&queue, "*", start, 32).await?;
///     println!("{queue}: {:?}, {} messages", result.status, result.messages.len());
///     consumer.update_consume_offset(&queue, result.next_begin_offset);
/// }
/// consumer.shutdown().await;
/// # Ok(())
/// # }
/// ```
pub struct PullConsumer {
    shared: Arc<Shared>,
}

/// Settings of a pull consumer.
#[derive(Clone)]
pub struct PullConsumerBuilder {
    settings: Settings,
}

consumer_settings!(PullConsumerBuilder: connection, offsets, retries);

struct Shared {
    calls: BrokerCalls,
    offsets: OffsetStore,
    message_model: MessageModel,
    max_reconsume_times: i32,
    persist_interval: Duration,
    /// Topics that were asked for, shown in heartbeats.
    topics: Mutex<BTreeSet<String>>,
    /// Queues whose offset was set here.
    progressed: Mutex<BTreeSet<MessageQueue>>,
    stopped: watch::Sender<bool>,
}

impl PullConsumer {
    /// Settings of a consumer of this group.
    pub fn builder(group: impl Into<String>) -> PullConsumerBuilder {
        PullConsumerBuilder {
            settings: Settings::new(group.into()),
        }
    }

    /// The queues of a topic that can be read.
    pub async fn fetch_subscribe_message_queues(&self, topic: &str) -> Result<Vec<MessageQueue>, ClientError> {
        let calls = &self.shared.calls;
        let topic = calls.namespace().wrap(topic);
        let route = calls.instance.route(&topic).await?;
        self.shared.use_topic(&topic);
        Ok(calls.namespace().strip_queues(&route.subscribe))
    }

    /// Up to `max_nums` messages from `queue_offset` on that the expression takes (`*`, or tags with `||` between
    /// them). Returns at once also when there is none.
    pub async fn pull(
        &self,
        queue: &MessageQueue,
        selector: impl Into<MessageSelector>,
        queue_offset: i64,
        max_nums: u32,
    ) -> Result<PullResult, ClientError> {
        self.pull_with(queue, selector.into(), queue_offset, max_nums, None)
            .await
    }

    /// Like [`PullConsumer::pull`], but waits for a message at the end of the queue, for 20 s or little more.
    pub async fn pull_block_if_not_found(
        &self,
        queue: &MessageQueue,
        selector: impl Into<MessageSelector>,
        queue_offset: i64,
        max_nums: u32,
    ) -> Result<PullResult, ClientError> {
        self.pull_with(queue, selector.into(), queue_offset, max_nums, Some(SUSPEND))
            .await
    }

    async fn pull_with(
        &self,
        queue: &MessageQueue,
        selector: MessageSelector,
        queue_offset: i64,
        max_nums: u32,
        suspend: Option<Duration>,
    ) -> Result<PullResult, ClientError> {
        let calls = &self.shared.calls;
        let queue = &calls.namespace().wrap_queue(queue);
        let subscription = selector.subscription(&queue.topic)?;
        self.shared.use_topic(&queue.topic);
        calls
            .pull_once(queue, &subscription, queue_offset, max_nums, suspend)
            .await
    }

    /// How far the group is: what was set here, else what the broker or the file has.
    pub async fn fetch_consume_offset(&self, queue: &MessageQueue) -> Result<Option<i64>, ClientError> {
        let queue = self.shared.calls.namespace().wrap_queue(queue);
        match self.shared.offsets.get(&queue) {
            Some(offset) => Ok(Some(offset)),
            None => self.shared.offsets.read(&queue).await,
        }
    }

    /// Everything below `queue_offset` is consumed. Saved from time to time, by [`PullConsumer::commit`] and at the end.
    pub fn update_consume_offset(&self, queue: &MessageQueue, queue_offset: i64) {
        let queue = self.shared.calls.namespace().wrap_queue(queue);
        self.shared.offsets.set(&queue, queue_offset);
        self.shared.progressed.lock().insert(queue);
    }

    /// Saves the offset of a queue now.
    pub async fn commit(&self, queue: &MessageQueue) -> Result<(), ClientError> {
        let queue = self.shared.calls.namespace().wrap_queue(queue);
        self.shared.offsets.persist(&queue).await
    }

    /// The offset that the next message of the queue will get.
    pub async fn max_offset(&self, queue: &MessageQueue) -> Result<i64, ClientError> {
        let calls = &self.shared.calls;
        calls.instance.max_offset(&calls.namespace().wrap_queue(queue)).await
    }

    /// The offset of the first message that is still there.
    pub async fn min_offset(&self, queue: &MessageQueue) -> Result<i64, ClientError> {
        let calls = &self.shared.calls;
        calls.instance.min_offset(&calls.namespace().wrap_queue(queue)).await
    }

    /// The offset of the first message stored at or after a time, in milliseconds since 1970.
    pub async fn search_offset(&self, queue: &MessageQueue, timestamp_ms: i64) -> Result<i64, ClientError> {
        let calls = &self.shared.calls;
        let queue = calls.namespace().wrap_queue(queue);
        calls.instance.search_offset(&queue, timestamp_ms).await
    }

    /// Lets a message come again later, from the group's retry topic. Level 0 leaves the delay to the broker.
    pub async fn send_message_back(&self, message: &MessageExt, delay_level: i32) -> Result<(), ClientError> {
        let max_reconsume_times = max_reconsume_times_concurrent(self.shared.max_reconsume_times);
        self.shared
            .calls
            .send_back(message, delay_level, max_reconsume_times)
            .await
    }

    /// Saves the offsets and leaves the group.
    pub async fn shutdown(self) {
        self.shared.stopped.send_replace(true);
        for queue in self.shared.progressed() {
            if let Err(error) = self.shared.offsets.persist(&queue).await {
                tracing::warn!(%queue, %error, "offset not saved");
            }
        }
        self.shared.calls.instance.leave(&*self.shared).await;
        self.shared.calls.close().await;
    }
}

impl Drop for PullConsumer {
    fn drop(&mut self) {
        self.shared.stopped.send_replace(true);
    }
}

impl PullConsumerBuilder {
    /// Joins the group. Nothing is pulled before it is asked for.
    pub async fn start(mut self) -> Result<PullConsumer, ClientError> {
        let calls = self.settings.connect().await?;
        let engine = &self.settings.engine;
        let shared = Arc::new(Shared {
            offsets: self.settings.open_offsets(&calls)?,
            message_model: engine.message_model,
            max_reconsume_times: engine.max_reconsume_times,
            persist_interval: engine.persist_interval,
            topics: Mutex::default(),
            progressed: Mutex::default(),
            stopped: watch::Sender::new(false),
            calls,
        });
        shared.calls.instance.join(&shared)?;
        tokio::spawn(Arc::clone(&shared).keep_persisting());
        Ok(PullConsumer { shared })
    }
}

impl Shared {
    /// The broker keeps a group alive by the heartbeats of its members, so it should hear of the first topic soon.
    fn use_topic(&self, topic: &str) {
        let mut topics = self.topics.lock();
        if !topics.contains(topic) {
            topics.insert(topic.to_owned());
            self.calls.instance.request_heartbeat();
        }
    }

    fn progressed(&self) -> Vec<MessageQueue> {
        self.progressed.lock().iter().cloned().collect()
    }

    async fn keep_persisting(self: Arc<Self>) {
        let mut stopped = self.stopped.subscribe();
        loop {
            tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => return,
                () = tokio::time::sleep(self.persist_interval) => {}
            }
            self.offsets.persist_all(&self.progressed()).await;
        }
    }
}

impl Member for Shared {
    fn data(&self) -> MemberData {
        let topics = self.topics.lock();
        let subscriptions = topics.iter().map(|topic| SubscriptionData {
            topic: topic.clone(),
            ..SubscriptionData::default()
        });
        MemberData::Consumer(ConsumerData {
            consume_from_where: ConsumeFromWhere::LastOffset,
            consume_type: ConsumeType::Actively,
            group_name: self.calls.group.clone(),
            message_model: self.message_model,
            subscription_data_set: subscriptions.collect(),
            unit_mode: false,
        })
    }
}
