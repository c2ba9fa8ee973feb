//! Pulling on a schedule: what Java calls `MQPullConsumerScheduleService`.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use oxmq_protocol::body::{MessageQueue, SubscriptionData};
use oxmq_protocol::topic;

use super::engine::{Delivery, Engine, OwnedQueue};
use super::pull_request::PullResult;
use super::selector::MessageSelector;
use super::settings::{Settings, check_range, consumer_settings};
use crate::clock::now_millis;
use crate::error::ClientError;

const PULL_THREADS: usize = 20;
const PULL_THREADS_MAX: usize = 1000;

type PullFuture = Pin<Box<dyn Future<Output = Result<Duration, PullTaskError>> + Send>>;
pub(crate) type PullTask = Arc<dyn Fn(PullTaskContext) -> PullFuture + Send + Sync>;

/// Why a task did not do its work; it is logged, and the queue's next turn comes a second later.
pub type PullTaskError = Box<dyn std::error::Error + Send + Sync>;

/// A consumer that shares the queues of its topics with its group like a push consumer, and lets the application pull
/// them: a task is called for each queue that is ours, and says after which time it is to be called again.
///
/// ```no_run
/// use std::time::Duration;
/// use oxmq_client::PullScheduleService;
///
/// # async fn example() -> Result<(), oxmq_client::ClientError> {
/// let service = PullScheduleService::builder("audit")
///     .name_server("127.0.0.1:9876")
///     .register_pull_task("orders", |context| async move {
///         let offset = context.fetch_consume_offset().await?.unwrap_or(0);
///         let result = context.pull("*", offset, 32).await?;
///         println!("{}: {} messages", context.message_queue(), result.messages.len());
///         context.update_consume_offset(result.next_begin_offset);
///         Ok(Duration::from_millis(200))
///     })
///     .start()
///     .await?;
/// // …
/// service.shutdown().await;
/// # Ok(())
/// # }
/// ```
pub struct PullScheduleService {
    engine: Arc<Engine>,
}

/// Settings of a pull schedule service.
#[derive(Clone)]
pub struct PullScheduleServiceBuilder {
    settings: Settings,
    tasks: BTreeMap<String, PullTask>,
}

consumer_settings!(PullScheduleServiceBuilder: connection, offsets);

/// A queue that is ours, in the hands of a pull task.
pub struct PullTaskContext {
    engine: Arc<Engine>,
    owned: Arc<OwnedQueue>,
    /// As the application knows it.
    queue: MessageQueue,
}

impl PullTaskContext {
    pub(crate) fn new(engine: Arc<Engine>, owned: Arc<OwnedQueue>) -> PullTaskContext {
        let queue = engine.calls.namespace().strip_queue(&owned.queue);
        PullTaskContext { engine, owned, queue }
    }

    /// The queue whose turn it is.
    pub fn message_queue(&self) -> &MessageQueue {
        &self.queue
    }

    /// How far the group is in this queue; `None` when it is new.
    pub async fn fetch_consume_offset(&self) -> Result<Option<i64>, ClientError> {
        match self.engine.offsets.get(&self.owned.queue) {
            Some(offset) => Ok(Some(offset)),
            None => self.engine.offsets.read(&self.owned.queue).await,
        }
    }

    /// Up to `max_nums` messages from `queue_offset` on. Returns at once also when there is none.
    pub async fn pull(
        &self,
        selector: impl Into<MessageSelector>,
        queue_offset: i64,
        max_nums: u32,
    ) -> Result<PullResult, ClientError> {
        let queue = &self.owned.queue;
        let subscription = selector.into().subscription(&queue.topic)?;
        let calls = &self.engine.calls;
        calls
            .pull_once(queue, &subscription, queue_offset, max_nums, None)
            .await
    }

    /// Everything below `queue_offset` is consumed. Saved from time to time, when the queue is given up and at the end.
    /// Does nothing once the queue is someone else's.
    pub fn update_consume_offset(&self, queue_offset: i64) {
        if !self.owned.is_dropped() {
            self.engine.offsets.set(&self.owned.queue, queue_offset);
        }
    }
}

impl fmt::Debug for PullTaskContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PullTaskContext({})", self.owned.queue)
    }
}

impl PullScheduleService {
    /// Settings of a service of this group.
    pub fn builder(group: impl Into<String>) -> PullScheduleServiceBuilder {
        let mut settings = Settings::new(group.into());
        settings.engine.consume_concurrency = PULL_THREADS;
        PullScheduleServiceBuilder {
            settings,
            tasks: BTreeMap::new(),
        }
    }

    /// What the servers call this client.
    pub fn client_id(&self) -> &str {
        self.engine.calls.instance.client_id()
    }

    /// Waits for tasks that run, saves the offsets and leaves the group.
    pub async fn shutdown(self) {
        self.engine.shutdown().await;
    }
}

impl Drop for PullScheduleService {
    fn drop(&mut self) {
        self.engine.abandon();
    }
}

impl PullScheduleServiceBuilder {
    /// Calls the task for each queue of the topic that is ours, again and again, one call of a queue at a time. It
    /// returns after which time its queue's next turn comes; 200 ms is usual.
    #[must_use]
    pub fn register_pull_task<F, Fut>(mut self, topic: impl Into<String>, task: F) -> Self
    where
        F: Fn(PullTaskContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Duration, PullTaskError>> + Send + 'static,
    {
        let task: PullTask = Arc::new(move |context| Box::pin(task(context)));
        self.tasks.insert(topic.into(), task);
        self
    }

    setters! {
        /// How the members of the group share the queues; `AllocateAveragely` unless set.
        allocate_strategy(strategy: impl crate::AllocateStrategy): settings.engine.strategy = Arc::new(strategy);
        /// Tasks that run at the same time: what `pullThreadNums` is elsewhere.
        pull_threads(count: usize): settings.engine.consume_concurrency = count;
    }

    /// Joins the group. Tasks are called as soon as queues are assigned.
    pub async fn start(mut self) -> Result<PullScheduleService, ClientError> {
        check_range(
            "pull_threads",
            self.settings.engine.consume_concurrency,
            PULL_THREADS_MAX,
        )?;
        if self.tasks.is_empty() {
            return Err(ClientError::Config("a pull schedule needs a task".to_owned()));
        }
        let namespace = self.settings.namespace();
        let tasks = std::mem::take(&mut self.tasks).into_iter();
        let tasks: BTreeMap<_, _> = tasks.map(|(topic, task)| (namespace.wrap(&topic), task)).collect();
        let mut subscriptions = Vec::new();
        for topic in tasks.keys() {
            topic::validate_topic(topic)?;
            subscriptions.push(SubscriptionData::parse(topic, "*", now_millis())?);
        }
        let engine = self
            .settings
            .into_engine(Delivery::Scheduled { tasks }, subscriptions)
            .await?;
        let service = PullScheduleService { engine };
        service.engine.start(None).await?;
        Ok(service)
    }
}
