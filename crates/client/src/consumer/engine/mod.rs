//! What makes a consumer go: it takes its share of queues, pulls them, hands messages on and keeps the offsets.
//!
//! Tasks: one that rebalances, one pull loop per queue, one worker per orderly queue, one task per running listener, and
//! timers for offsets, locks and listeners that hang. All end when `stopped` becomes true. State that several of them
//! share lives in [`QueueTable`] and, per queue, in [`OwnedQueue`]; no lock is held across an await.

mod concurrent;
mod inbound;
mod orderly;
mod pop_loop;
mod pull_loop;
mod queue;
mod rebalance;
mod scheduled;
mod traces;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hashbrown::HashMap;
use oxmq_protocol::allocate::AllocateStrategy;
use oxmq_protocol::body::{ConsumeFromWhere, ConsumeType, ConsumerData, MessageModel, MessageQueue, SubscriptionData};
use oxmq_protocol::{RemotingCommand, topic};
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::broker_calls::BrokerCalls;
use super::listener::{ConsumeOrderlyStatus, ConsumeStatus, Listener, Messages};
use super::offset_store::OffsetStore;
use super::process_queue::FlowLimits;
use super::queue_lock::LOCK_INTERVAL;
use super::schedule::PullTask;
use super::statistics::ConsumeStatistics;
use crate::clock::now_millis;
use crate::error::ClientError;
use crate::instance::{Answer, Member, MemberData};

pub(crate) use concurrent::Batch;
pub(crate) use orderly::clamp_suspend_time;
pub(crate) use queue::{OwnedQueue, QueueTable};
use rebalance::SharedBy;

/// Settings, checked.
#[derive(Clone)]
pub(crate) struct EngineConfig {
    pub(crate) message_model: MessageModel,
    pub(crate) consume_type: ConsumeType,
    pub(crate) consume_from_where: ConsumeFromWhere,
    /// Milliseconds since 1970.
    pub(crate) consume_timestamp: i64,
    pub(crate) strategy: Arc<dyn AllocateStrategy>,
    pub(crate) pull_batch_size: u32,
    pub(crate) pull_batch_bytes_max: i32,
    pub(crate) pull_interval: Duration,
    pub(crate) pull_suspend: Duration,
    pub(crate) flow_limits: FlowLimits,
    /// Pulls carry the subscription, so that the broker does not need the heartbeat's.
    pub(crate) send_subscription: bool,
    pub(crate) consume_concurrency: usize,
    pub(crate) consume_batch_max_size: usize,
    pub(crate) max_reconsume_times: i32,
    pub(crate) consume_timeout: Duration,
    pub(crate) suspend_current_queue_time: Duration,
    pub(crate) persist_interval: Duration,
    pub(crate) await_termination: Duration,
    /// Otherwise the broker shares out queues, and says whether they are pulled or popped.
    pub(crate) client_rebalance: bool,
    pub(crate) pop: PopConfig,
}

/// Settings of queues that are popped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PopConfig {
    pub(crate) invisible_time: Duration,
    pub(crate) batch_nums: u32,
    /// Messages of one queue that may be here unsettled.
    pub(crate) threshold_for_queue: usize,
}

/// Where messages go.
pub(crate) enum Delivery {
    Concurrent {
        listener: Listener<ConsumeStatus>,
        batches: mpsc::UnboundedSender<Batch>,
    },
    Orderly {
        listener: Listener<ConsumeOrderlyStatus>,
    },
    /// The application takes one after the other and settles each.
    Stream {
        batches: mpsc::UnboundedSender<Batch>,
    },
    /// Nothing is pulled here: the application does it, when it is called for a queue.
    Scheduled {
        tasks: BTreeMap<String, PullTask>,
    },
    /// The application asks for them.
    Poll {
        batches: mpsc::UnboundedSender<Batch>,
    },
}

impl Delivery {
    /// What could not be consumed comes again in a group, from its retry topic.
    pub(crate) fn retries(&self) -> bool {
        !matches!(self, Delivery::Scheduled { .. } | Delivery::Poll { .. })
    }
}

pub(crate) struct Engine {
    pub(crate) config: EngineConfig,
    pub(crate) calls: BrokerCalls,
    pub(crate) offsets: OffsetStore,
    pub(crate) queues: Mutex<QueueTable>,
    pub(crate) start_timestamp: i64,
    pub(crate) statistics: Mutex<ConsumeStatistics>,
    delivery: Delivery,
    subscriptions: Mutex<BTreeMap<String, Arc<SubscriptionData>>>,
    /// Queues that the application has chosen; `None` when the group shares them out.
    chosen: Mutex<Option<BTreeSet<MessageQueue>>>,
    shared_by: Mutex<HashMap<String, SharedBy>>,
    rebalance_wish: Notify,
    suspended: AtomicBool,
    /// One per listener that may run. All are free when none runs.
    permits: Arc<Semaphore>,
    stopped: watch::Sender<bool>,
}

impl Engine {
    pub(crate) fn new(
        config: EngineConfig,
        calls: BrokerCalls,
        offsets: OffsetStore,
        delivery: Delivery,
        subscriptions: Vec<SubscriptionData>,
    ) -> Arc<Engine> {
        let subscriptions = subscriptions
            .into_iter()
            .map(|subscription| (subscription.topic.clone(), Arc::new(subscription)));
        Arc::new(Engine {
            permits: Arc::new(Semaphore::new(config.consume_concurrency)),
            calls,
            offsets,
            queues: Mutex::default(),
            start_timestamp: now_millis(),
            statistics: Mutex::default(),
            delivery,
            subscriptions: Mutex::new(subscriptions.collect()),
            chosen: Mutex::default(),
            shared_by: Mutex::default(),
            rebalance_wish: Notify::new(),
            suspended: AtomicBool::new(false),
            stopped: watch::Sender::new(false),
            config,
        })
    }

    /// Joins the group and starts the tasks. `arrivals` is the other end of a concurrent delivery's channel.
    pub(crate) async fn start(
        self: &Arc<Self>,
        arrivals: Option<mpsc::UnboundedReceiver<Batch>>,
    ) -> Result<(), ClientError> {
        let subscriptions: Vec<_> = self.subscriptions.lock().values().cloned().collect();
        for subscription in &subscriptions {
            self.calls.check_expression(subscription).await?;
        }
        let instance = &self.calls.instance;
        instance.join(self)?;
        for topic in self.topics() {
            // A topic that does not exist yet is looked for again by each rebalance. The retry topic comes with the first
            // heartbeat.
            if let Err(error) = instance.route(&topic).await
                && !topic::is_retry(&topic)
            {
                warn!(topic, %error, "nothing to consume yet");
            }
        }
        instance.heartbeat().await;
        self.spawn(Arc::clone(self).keep_rebalancing());
        self.spawn(Arc::clone(self).keep_persisting());
        if self.holds_locks() {
            self.spawn(Arc::clone(self).keep_locks());
        }
        if let Some(arrivals) = arrivals {
            self.spawn(Arc::clone(self).dispatch(arrivals));
        }
        if matches!(self.delivery, Delivery::Concurrent { .. } | Delivery::Stream { .. }) {
            self.spawn(Arc::clone(self).keep_expiring());
        }
        info!(
            group = self.calls.group,
            client_id = instance.client_id(),
            "consumer started"
        );
        Ok(())
    }

    /// Stops pulling, lets running listeners end for a while, saves the offsets and leaves the group.
    pub(crate) async fn shutdown(self: &Arc<Self>) {
        self.stop_now();
        let all = self.config.consume_concurrency as u32;
        let idle = tokio::time::timeout(self.config.await_termination, self.permits.acquire_many(all));
        if idle.await.is_err() {
            warn!(
                group = self.calls.group,
                "listeners still run, their messages will come again"
            );
        }
        let mut leaving = JoinSet::new();
        let owned = self.queues.lock().names();
        for queue in owned {
            if let Some(release) = self.release(&queue) {
                leaving.spawn(release);
            }
        }
        // Bounded by the timeouts of the calls, and by the listeners that were waited for above.
        let _ = tokio::time::timeout(self.config.await_termination, leaving.join_all()).await;
        self.calls.instance.leave(&**self).await;
        info!(group = self.calls.group, "consumer stopped");
        self.calls.close().await;
    }

    /// One that a shutdown waits for, as long as there is one.
    pub(crate) fn try_permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).try_acquire_owned().ok()
    }

    /// Lets all tasks end without waiting for anything. What listeners still do does not count.
    pub(crate) fn abandon(&self) {
        self.stop_now();
        for owned in self.queues.lock().all() {
            owned.drop_now();
        }
    }

    fn stop_now(&self) {
        self.stopped.send_replace(true);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    pub(crate) async fn wait_stopped(&self) {
        // The sender cannot be gone while `self` lives.
        let _ = self.stopped.subscribe().wait_for(|stopped| *stopped).await;
    }

    /// Adds or replaces a subscription of a running consumer.
    pub(crate) async fn subscribe(&self, subscription: SubscriptionData) -> Result<(), ClientError> {
        self.calls.check_expression(&subscription).await?;
        let topic = subscription.topic.clone();
        self.subscriptions.lock().insert(topic, Arc::new(subscription));
        self.calls.instance.heartbeat().await;
        self.rebalance_wish.notify_one();
        Ok(())
    }

    pub(crate) async fn unsubscribe(&self, topic: &str) {
        self.subscriptions.lock().remove(topic);
        self.calls.instance.heartbeat().await;
        self.rebalance_wish.notify_one();
    }

    /// Replaces the queues that the application has chosen.
    pub(crate) fn choose(&self, queues: BTreeSet<MessageQueue>) {
        *self.chosen.lock() = Some(queues);
        self.rebalance_wish.notify_one();
    }

    pub(crate) fn suspend(&self, suspended: bool) {
        self.suspended.store(suspended, Ordering::Relaxed);
    }

    pub(crate) fn request_rebalance(&self) {
        self.rebalance_wish.notify_one();
    }

    pub(crate) fn subscription(&self, topic: &str) -> Option<Arc<SubscriptionData>> {
        self.subscriptions.lock().get(topic).cloned()
    }

    fn topics(&self) -> Vec<String> {
        self.subscriptions.lock().keys().cloned().collect()
    }

    fn is_clustering(&self) -> bool {
        self.config.message_model == MessageModel::Clustering
    }

    fn is_orderly(&self) -> bool {
        matches!(self.delivery, Delivery::Orderly { .. })
    }

    fn is_scheduled(&self) -> bool {
        matches!(self.delivery, Delivery::Scheduled { .. })
    }

    fn is_polled(&self) -> bool {
        matches!(self.delivery, Delivery::Poll { .. })
    }

    /// Orderly consumption in a group needs the broker's lock on each queue.
    fn holds_locks(&self) -> bool {
        self.is_orderly() && self.is_clustering()
    }

    /// Spawns a task that ends when the consumer stops.
    pub(crate) fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let engine = Arc::clone(self);
        tokio::spawn(async move {
            tokio::select! {
                () = engine.wait_stopped() => {}
                () = task => {}
            }
        });
    }

    async fn keep_persisting(self: Arc<Self>) {
        loop {
            tokio::time::sleep(self.config.persist_interval).await;
            let names = self.queues.lock().names();
            self.offsets.persist_all(&names).await;
        }
    }

    /// Gives up a queue: nothing is consumed any more from now on. The future waits for the orderly worker, saves the
    /// offset and gives the lock back; the queue can be taken again after it.
    fn release(self: &Arc<Self>, queue: &MessageQueue) -> Option<impl Future<Output = ()> + Send + use<>> {
        let owned = self.queues.lock().leave(queue)?;
        owned.drop_now();
        let engine = Arc::clone(self);
        Some(async move {
            let queue = &owned.queue;
            owned.worker_ended().await;
            if let Err(error) = engine.offsets.persist(queue).await {
                warn!(%queue, %error, "offset of a queue that was given up is not saved");
            }
            if engine.holds_locks() && owned.is_locked() {
                let unlocked = engine.calls.unlock(&queue.broker_name, vec![queue.clone()]).await;
                if let Err(error) = unlocked {
                    debug!(%queue, %error, "not unlocked, the lock will expire");
                }
            }
            engine.offsets.forget(queue);
            engine.queues.lock().left(queue);
        })
    }

    /// Gives up a queue and takes it again at another offset.
    fn restart_at(self: &Arc<Self>, queue: &MessageQueue, offset: i64) {
        self.offsets.set_and_freeze(queue, offset);
        let Some(release) = self.release(queue) else {
            return;
        };
        let engine = Arc::clone(self);
        tokio::spawn(async move {
            release.await;
            engine.rebalance_wish.notify_one();
        });
    }

    /// Puts pulled messages where the listener finds them.
    fn deliver(&self, owned: &Arc<OwnedQueue>, messages: Messages) {
        match owned.is_pop() {
            true => owned.state.lock().popped += messages.len(),
            false => owned.state.lock().process.put(&messages),
        }
        match &self.delivery {
            Delivery::Concurrent { batches, .. } | Delivery::Stream { batches } => {
                for batch in messages.chunks(self.config.consume_batch_max_size) {
                    let batch = Batch {
                        owned: Arc::clone(owned),
                        messages: batch.to_vec(),
                    };
                    // Without a receiver the consumer has stopped.
                    let _ = batches.send(batch);
                }
            }
            Delivery::Orderly { .. } => owned.arrived.notify_one(),
            Delivery::Scheduled { .. } => {}
            Delivery::Poll { batches } => {
                let owned = Arc::clone(owned);
                let _ = batches.send(Batch { owned, messages });
            }
        }
    }

    pub(crate) fn note_consumed(&self, queue: &MessageQueue, done: usize, failed: usize, started: Instant) {
        let millis = started.elapsed().as_millis() as i64;
        let mut statistics = self.statistics.lock();
        statistics.consumed(&queue.topic, done, failed, millis, now_millis());
    }

    /// Messages are done: takes them out of the cache and moves the offset.
    pub(crate) fn finish(&self, owned: &OwnedQueue, messages: &Messages) {
        let committed = {
            let mut state = owned.state.lock();
            state.last_consume_timestamp = now_millis();
            state.process.remove(messages)
        };
        owned.room.notify_one();
        if let Some(offset) = committed.filter(|_| !owned.is_dropped()) {
            self.offsets.advance(&owned.queue, offset);
        }
    }
}

impl Member for Engine {
    fn data(&self) -> MemberData {
        let subscriptions = self.subscriptions.lock();
        MemberData::Consumer(ConsumerData {
            consume_from_where: self.config.consume_from_where,
            consume_type: self.config.consume_type,
            group_name: self.calls.group.clone(),
            message_model: self.config.message_model,
            subscription_data_set: subscriptions.values().map(|data| (**data).clone()).collect(),
            unit_mode: false,
        })
    }

    fn on_route_change(&self, topic: &str) {
        if self.subscriptions.lock().contains_key(topic) {
            self.rebalance_wish.notify_one();
        }
    }

    fn on_request(self: Arc<Self>, request: RemotingCommand) -> Answer {
        Box::pin(self.answer(request))
    }
}
