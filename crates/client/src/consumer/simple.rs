//! The simple consumer: the application receives messages when it wants to and acknowledges each by itself, over POP.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use oxmq_protocol::body::{ConsumeFromWhere, ConsumeType, ConsumerData, MessageModel, MessageQueue, SubscriptionData};
use oxmq_protocol::message::MessageExt;
use oxmq_protocol::{property, topic};
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::debug;

use super::broker_calls::BrokerCalls;
use super::pop_request::{PopRequest, Popped};
use super::selector::MessageSelector;
use super::settings::{Settings, check_range, consumer_settings};
use crate::error::ClientError;
use crate::instance::{Member, MemberData};

/// Stands for all queues of a broker.
const ANY_QUEUE: i32 = -1;
const RECEIVE_MAX: usize = 32;
const AWAIT_DURATION: Duration = Duration::from_secs(15);
/// How long one broker is waited at while others could have messages as well.
const SHARED_AWAIT: Duration = Duration::from_secs(1);
const DELAY_AFTER_ERROR: Duration = Duration::from_millis(200);

/// A consumer without queues of its own: every receive takes some messages of the group for itself, for a while. What
/// is not acknowledged in this time comes again, to whichever member of the group asks next.
///
/// ```no_run
/// use std::time::Duration;
/// use oxmq_client::SimpleConsumer;
///
/// # async fn example() -> Result<(), oxmq_client::ClientError> {
/// let consumer =
///     SimpleConsumer::builder("billing").name_server("127.0.0.1:9876").subscribe("orders", "*").start().await?;
/// for mut message in consumer.receive(16, Duration::from_secs(30)).await? {
///     if message.body.is_empty() {
///         consumer.change_invisible_duration(&mut message, Duration::from_secs(60)).await?; // later
///     } else {
///         consumer.ack(&message).await?;
///     }
/// }
/// consumer.shutdown().await;
/// # Ok(())
/// # }
/// ```
pub struct SimpleConsumer {
    shared: Arc<Shared>,
    await_duration: Duration,
    /// Where the next receive begins to look.
    next: AtomicUsize,
}

/// Settings of a simple consumer.
#[derive(Clone)]
pub struct SimpleConsumerBuilder {
    settings: Settings,
    await_duration: Duration,
}

consumer_settings!(SimpleConsumerBuilder: connection, subscriptions);

struct Shared {
    calls: BrokerCalls,
    consume_from_where: ConsumeFromWhere,
    subscriptions: Mutex<BTreeMap<String, Arc<SubscriptionData>>>,
}

/// All queues of one topic on one broker.
struct Source {
    queue: MessageQueue,
    subscription: Arc<SubscriptionData>,
}

impl SimpleConsumer {
    /// Settings of a consumer of this group.
    pub fn builder(group: impl Into<String>) -> SimpleConsumerBuilder {
        SimpleConsumerBuilder {
            settings: Settings::new(group.into()),
            await_duration: AWAIT_DURATION,
        }
    }

    /// What the servers call this client.
    pub fn client_id(&self) -> &str {
        self.shared.calls.instance.client_id()
    }

    /// Adds a topic, or changes the expression of one.
    pub async fn subscribe(&self, topic: &str, selector: impl Into<MessageSelector>) -> Result<(), ClientError> {
        let topic = self.shared.calls.namespace().wrap(topic);
        topic::validate_topic(&topic)?;
        let subscription = selector.into().subscription(&topic)?;
        self.shared.calls.check_expression(&subscription).await?;
        self.shared.subscriptions.lock().insert(topic, Arc::new(subscription));
        self.shared.calls.instance.heartbeat().await;
        Ok(())
    }

    /// Takes a topic out. What was received of it can still be acknowledged.
    pub async fn unsubscribe(&self, topic: &str) {
        let topic = self.shared.calls.namespace().wrap(topic);
        self.shared.subscriptions.lock().remove(&topic);
        self.shared.calls.instance.heartbeat().await;
    }

    /// Up to `max_message_num` messages (1 to 32) of the subscribed topics, which nobody else gets for
    /// `invisible_duration`. None when none has come in the time to wait.
    ///
    /// Dropping the future may leave messages invisible that have just been handed out; they come again afterwards.
    pub async fn receive(
        &self,
        max_message_num: usize,
        invisible_duration: Duration,
    ) -> Result<Vec<MessageExt>, ClientError> {
        check_range("max_message_num", max_message_num, RECEIVE_MAX)?;
        let deadline = Instant::now() + self.await_duration;
        loop {
            let (sources, missing) = self.sources().await;
            if sources.is_empty() {
                return Err(missing.unwrap_or_else(|| ClientError::Config("nothing is subscribed".to_owned())));
            }
            let start = self.next.fetch_add(1, Ordering::Relaxed);
            let mut failed = None;
            for index in 0..sources.len() {
                let source = &sources[(start + index) % sources.len()];
                let is_last = index + 1 == sources.len();
                let left = deadline.saturating_duration_since(Instant::now());
                // The last one is waited at, so that the brokers are not asked without end.
                let poll_time = match (is_last, sources.len()) {
                    (false, _) => Duration::ZERO,
                    (true, 1) => left,
                    (true, _) => left.min(SHARED_AWAIT),
                };
                let popped = self.pop(source, max_message_num, invisible_duration, poll_time);
                match popped.await {
                    Ok(messages) if messages.is_empty() => {}
                    Ok(messages) => return Ok(messages),
                    Err(error) => failed = Some(error),
                }
            }
            if let Some(error) = failed {
                if Instant::now() + DELAY_AFTER_ERROR >= deadline {
                    return Err(error);
                }
                debug!(%error, "not received, trying again");
                tokio::time::sleep(DELAY_AFTER_ERROR).await;
            }
            if Instant::now() >= deadline {
                return Ok(Vec::new());
            }
        }
    }

    async fn pop(
        &self,
        source: &Source,
        max_message_num: usize,
        invisible_time: Duration,
        poll_time: Duration,
    ) -> Result<Vec<MessageExt>, ClientError> {
        let Popped { messages, rejected, .. } = self
            .shared
            .calls
            .pop(&PopRequest {
                queue: &source.queue,
                max_msg_nums: max_message_num as i32,
                invisible_time,
                poll_time,
                from_min: self.shared.consume_from_where == ConsumeFromWhere::FirstOffset,
                subscription: &source.subscription,
            })
            .await?;
        for message in &rejected {
            if let Err(error) = self.ack(message).await {
                debug!(message_id = message.msg_id(), %error, "not acknowledged, will be received again");
            }
        }
        let namespace = self.shared.calls.namespace();
        let messages = messages.into_iter().map(|message| namespace.strip_message(message));
        Ok(messages.collect())
    }

    /// Every broker of every subscribed topic; and why a topic has none.
    async fn sources(&self) -> (Vec<Source>, Option<ClientError>) {
        let subscriptions: Vec<_> = self.shared.subscriptions.lock().values().cloned().collect();
        let (mut sources, mut missing) = (Vec::new(), None);
        for subscription in subscriptions {
            let topic = subscription.topic.as_str();
            match self.shared.calls.instance.route(topic).await {
                Ok(route) => {
                    let brokers = route.subscribe.iter().map(|queue| queue.broker_name.as_str());
                    let mut brokers: Vec<_> = brokers.collect();
                    brokers.dedup();
                    sources.extend(brokers.into_iter().map(|broker_name| Source {
                        queue: MessageQueue::new(topic, broker_name, ANY_QUEUE),
                        subscription: Arc::clone(&subscription),
                    }));
                }
                Err(error) => missing = Some(error),
            }
        }
        (sources, missing)
    }

    /// The message is consumed and does not come again.
    pub async fn ack(&self, message: &MessageExt) -> Result<(), ClientError> {
        self.shared.calls.ack(message).await
    }

    /// The message comes again after this time from now on, unless it is acknowledged before: more time to consume it, or
    /// less until the next attempt. The message changes, because it needs another receipt from now on.
    pub async fn change_invisible_duration(
        &self,
        message: &mut MessageExt,
        invisible_duration: Duration,
    ) -> Result<(), ClientError> {
        let handle = self
            .shared
            .calls
            .change_invisible_time(message, invisible_duration)
            .await?;
        message.message.properties.set(property::POP_CK, handle);
        Ok(())
    }

    /// Leaves the group. What was received and not acknowledged comes again when its time is over.
    pub async fn shutdown(self) {
        self.shared.calls.instance.leave(&*self.shared).await;
        self.shared.calls.close().await;
    }
}

impl SimpleConsumerBuilder {
    setters! {
        /// How long a receive waits for a message; 15 s unless set.
        await_duration(duration: Duration): await_duration = duration;
    }

    /// Joins the group and tells the brokers of its topics.
    pub async fn start(mut self) -> Result<SimpleConsumer, ClientError> {
        let subscriptions = self.settings.subscription_data()?;
        let calls = self.settings.connect().await?;
        for subscription in &subscriptions {
            calls.check_expression(subscription).await?;
        }
        let subscriptions = subscriptions
            .into_iter()
            .map(|data| (data.topic.clone(), Arc::new(data)));
        let shared = Arc::new(Shared {
            calls,
            consume_from_where: self.settings.engine.consume_from_where,
            subscriptions: Mutex::new(subscriptions.collect()),
        });
        shared.calls.instance.join(&shared)?;
        let consumer = SimpleConsumer {
            shared,
            await_duration: self.await_duration,
            next: AtomicUsize::new(0),
        };
        // The brokers that are to hear of the group are those of its topics.
        consumer.sources().await;
        consumer.shared.calls.instance.heartbeat().await;
        Ok(consumer)
    }
}

impl Member for Shared {
    fn data(&self) -> MemberData {
        let subscriptions = self.subscriptions.lock();
        MemberData::Consumer(ConsumerData {
            consume_from_where: self.consume_from_where,
            consume_type: ConsumeType::Pop,
            group_name: self.calls.group.clone(),
            message_model: MessageModel::Clustering,
            subscription_data_set: subscriptions.values().map(|data| (**data).clone()).collect(),
            unit_mode: false,
        })
    }
}
