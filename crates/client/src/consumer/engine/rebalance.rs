//! Taking the share of queues that falls to this member of the group (spec: protocol.md §8.5).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use oxmq_protocol::allocate::allocate;
use oxmq_protocol::body::{MessageQueue, MessageRequestMode};
use oxmq_remoting::CallError;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::pop_loop::pop_loop;
use super::pull_loop::pull_loop;
use super::{Delivery, Engine, LOCK_INTERVAL, OwnedQueue};
use crate::clock::now_millis;
use crate::consumer::assignment::changes;
use crate::consumer::queue_lock::QueueLock;
use crate::consumer::start_offset::{StartOffset, start_offset};
use crate::error::ClientError;

const INTERVAL: Duration = Duration::from_secs(20);
/// After a round that could not do everything, and at least between two rounds.
const INTERVAL_MIN: Duration = Duration::from_secs(1);

/// The broker is asked so often, a little longer each time, before the members share out queues by themselves.
const ASSIGNMENT_ATTEMPTS: u32 = 3;
const ASSIGNMENT_TIMEOUT: Duration = Duration::from_secs(3);

/// Queues, and how their messages are to be got.
type Assigned = BTreeSet<(MessageQueue, MessageRequestMode)>;

/// Who shares out the queues of a topic. Decided once per topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SharedBy {
    Members,
    Broker,
}

fn pulled(queues: impl IntoIterator<Item = MessageQueue>) -> Assigned {
    let pulled = queues.into_iter().map(|queue| (queue, MessageRequestMode::Pull));
    pulled.collect()
}

impl Engine {
    pub(super) async fn keep_rebalancing(self: Arc<Self>) {
        loop {
            let started = Instant::now();
            let settled = self.rebalance().await;
            let wait = if settled { INTERVAL } else { INTERVAL_MIN };
            tokio::select! {
                () = self.rebalance_wish.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
            tokio::time::sleep_until(started + INTERVAL_MIN).await;
        }
    }

    /// One round over all topics. `false` when something is left to do.
    async fn rebalance(self: &Arc<Self>) -> bool {
        let topics = self.topics();
        let owned = self.queues.lock().names();
        for queue in owned {
            if !topics.contains(&queue.topic) {
                self.release_in_background(&queue);
            }
        }
        let mut settled = true;
        for topic in topics {
            match self.assigned(&topic).await {
                Ok(assigned) => settled &= self.assign(&topic, assigned).await,
                Err(error) => {
                    // What is owned stays owned.
                    debug!(topic, %error, "not rebalanced");
                    settled = false;
                }
            }
        }
        settled
    }

    /// The queues of a topic that this member should have.
    async fn assigned(&self, topic: &str) -> Result<Assigned, ClientError> {
        if let Some(chosen) = &*self.chosen.lock() {
            return Ok(pulled(chosen.iter().filter(|queue| queue.topic == topic).cloned()));
        }
        if self.asks_broker(topic)
            && let Some(assigned) = self.assigned_by_broker(topic).await?
        {
            return Ok(assigned);
        }
        let queues = self.calls.instance.route(topic).await?.subscribe.clone();
        if !self.is_clustering() {
            return Ok(pulled(queues));
        }
        let members = self.calls.consumer_ids(topic).await?;
        let client_id = self.calls.instance.client_id();
        Ok(pulled(allocate(&*self.config.strategy, queues, members, client_id)))
    }

    fn asks_broker(&self, topic: &str) -> bool {
        !self.config.client_rebalance
            && self.is_clustering()
            && matches!(self.delivery, Delivery::Concurrent { .. } | Delivery::Stream { .. })
            && self.shared_by.lock().get(topic) != Some(&SharedBy::Members)
    }

    /// `None` when the brokers of the topic do not do this: its queues are shared out by the members from then on, as one
    /// topic is not to be shared in two ways.
    async fn assigned_by_broker(&self, topic: &str) -> Result<Option<Assigned>, ClientError> {
        let strategy = self.config.strategy.name();
        let is_settled = self.shared_by.lock().contains_key(topic);
        let attempts = if is_settled { 1 } else { ASSIGNMENT_ATTEMPTS };
        for attempt in 1..=attempts {
            let timeout = ASSIGNMENT_TIMEOUT / ASSIGNMENT_ATTEMPTS * attempt;
            match self.calls.query_assignment(topic, strategy, timeout).await {
                Ok(assigned) => {
                    self.shared_by.lock().insert(topic.to_owned(), SharedBy::Broker);
                    let assigned = assigned.ok_or(ClientError::NotAssigned)?;
                    let queues = assigned
                        .into_iter()
                        .map(|assigned| (assigned.message_queue, assigned.mode));
                    return Ok(Some(queues.collect()));
                }
                Err(error) if is_settled => return Err(error),
                Err(ClientError::Call(CallError::Timeout { .. })) => {}
                Err(error @ (ClientError::Call(CallError::Response { .. }) | ClientError::Body(_))) => {
                    debug!(topic, %error, "the broker does not share out queues");
                    break;
                }
                // Nobody was asked yet.
                Err(error) => return Err(error),
            }
        }
        warn!(topic, group = self.calls.group, "queues are shared out by the members");
        self.shared_by.lock().insert(topic.to_owned(), SharedBy::Members);
        Ok(None)
    }

    async fn assign(self: &Arc<Self>, topic: &str, assigned: Assigned) -> bool {
        let changes = changes(&self.queues.lock().of_topic(topic), &assigned);
        if changes.is_empty() {
            return true;
        }
        for (queue, _) in &changes.lost {
            info!(%queue, group = self.calls.group, "queue given up");
            self.release_in_background(queue);
        }
        self.renew_subscription(topic).await;
        let gained = changes.gained.len();
        let mut free = changes.gained;
        {
            let queues = self.queues.lock();
            free.retain(|(queue, _)| !queues.is_leaving(queue));
        }
        let asked = Instant::now();
        if self.holds_locks() {
            let names = free.into_iter().map(|(queue, _)| queue).collect();
            let locked = self.lock_queues(names).await;
            free = pulled(locked).into_iter().collect();
        }
        let mut settled = free.len() == gained;
        for (queue, mode) in free {
            match self.place_to_start(&queue, mode).await {
                Ok(offset) => drop(self.take(queue, mode, offset, asked)),
                Err(error) => {
                    warn!(%queue, %error, "no offset to start at");
                    settled = false;
                }
            }
        }
        settled
    }

    /// The first offset of a queue that is pulled here. A pull task finds out by itself where it is, and where a popped
    /// queue is, its broker knows.
    async fn place_to_start(&self, queue: &MessageQueue, mode: MessageRequestMode) -> Result<i64, ClientError> {
        match mode {
            MessageRequestMode::Pull if !self.is_scheduled() => self.first_offset(queue).await,
            _ => Ok(0),
        }
    }

    /// As Java does after each change: the broker sees a newer subscription before it sees pulls with it.
    async fn renew_subscription(&self, topic: &str) {
        if let Some(subscription) = self.subscriptions.lock().get_mut(topic) {
            Arc::make_mut(subscription).sub_version = now_millis();
        }
        self.calls.instance.heartbeat().await;
    }

    fn take(
        self: &Arc<Self>,
        queue: MessageQueue,
        mode: MessageRequestMode,
        offset: i64,
        asked: Instant,
    ) -> Arc<OwnedQueue> {
        info!(%queue, offset, group = self.calls.group, "queue taken");
        let mut lock = QueueLock::default();
        if self.holds_locks() {
            lock.grant(asked);
        }
        let owned = Arc::new(OwnedQueue::new(queue, mode, lock));
        self.queues.lock().insert(Arc::clone(&owned));
        if self.is_orderly() {
            owned.set_worker(tokio::spawn(Arc::clone(self).work_orderly(Arc::clone(&owned))));
        }
        if owned.is_pop() {
            self.spawn(pop_loop(Arc::clone(self), Arc::clone(&owned)));
        } else if self.is_scheduled() {
            owned.set_worker(tokio::spawn(Arc::clone(self).call_tasks(Arc::clone(&owned))));
        } else {
            self.spawn(pull_loop(Arc::clone(self), Arc::clone(&owned), offset));
        }
        owned
    }

    /// Goes on at another offset of a queue that is ours, dropping what is cached. For polled consumers: nobody has to end
    /// first.
    pub(crate) fn reposition(self: &Arc<Self>, queue: &MessageQueue, offset: i64) -> bool {
        let before = self.queues.lock().get(queue).cloned();
        let Some(before) = before else {
            return false;
        };
        before.drop_now();
        let owned = self.take(queue.clone(), before.mode, offset, Instant::now());
        owned.paused.store(before.is_paused(), Ordering::Relaxed);
        true
    }

    fn release_in_background(self: &Arc<Self>, queue: &MessageQueue) {
        if let Some(release) = self.release(queue) {
            tokio::spawn(release);
        }
    }

    /// Where to start in a queue (spec: behaviour.md §6.4).
    async fn first_offset(&self, queue: &MessageQueue) -> Result<i64, ClientError> {
        let stored = self.offsets.read(queue).await?;
        let from_where = self.config.consume_from_where;
        match start_offset(stored, &queue.topic, from_where, self.config.consume_timestamp) {
            StartOffset::At(offset) => Ok(offset),
            StartOffset::Max => self.calls.instance.max_offset(queue).await,
            StartOffset::StoredSince(timestamp) => self.calls.instance.search_offset(queue, timestamp).await,
        }
    }

    /// Takes or renews locks; returns the queues that are ours.
    async fn lock_queues(&self, mut queues: Vec<MessageQueue>) -> Vec<MessageQueue> {
        let mut locked = Vec::new();
        queues.sort_by(|a, b| a.broker_name.cmp(&b.broker_name));
        for of_broker in queues.chunk_by(|a, b| a.broker_name == b.broker_name) {
            let broker_name = &of_broker[0].broker_name;
            match self.calls.lock(broker_name, of_broker.to_vec()).await {
                Ok(granted) => locked.extend(granted),
                Err(error) => debug!(broker_name, %error, "locks not granted"),
            }
        }
        locked
    }

    /// Renews the lock of one queue for its worker.
    pub(super) async fn lock_again(&self, owned: &OwnedQueue) -> bool {
        let asked = Instant::now();
        let locked = self.lock_queues(vec![owned.queue.clone()]).await;
        let is_ours = !locked.is_empty();
        if is_ours {
            owned.state.lock().lock.grant(asked);
        }
        is_ours
    }

    pub(super) async fn keep_locks(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOCK_INTERVAL).await;
            let asked = Instant::now();
            let names = self.queues.lock().names();
            let brokers: BTreeSet<_> = names.iter().map(|queue| queue.broker_name.clone()).collect();
            for broker_name in brokers {
                let of_broker = names.iter().filter(|queue| queue.broker_name == broker_name);
                let asked_for: Vec<_> = of_broker.cloned().collect();
                // Without an answer the locks are trusted until they are stale.
                if let Ok(granted) = self.calls.lock(&broker_name, asked_for.clone()).await {
                    self.note_locks(&asked_for, &granted, asked);
                }
            }
        }
    }

    fn note_locks(&self, asked_for: &[MessageQueue], granted: &[MessageQueue], asked: Instant) {
        let queues = self.queues.lock();
        for owned in asked_for.iter().filter_map(|queue| queues.get(queue)) {
            let lock = &mut owned.state.lock().lock;
            if granted.contains(&owned.queue) {
                lock.grant(asked);
            } else {
                warn!(queue = %owned.queue, "the lock is lost");
                lock.lose();
            }
        }
    }
}
