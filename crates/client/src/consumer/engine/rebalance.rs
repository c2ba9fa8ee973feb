//! Taking the share of queues that falls to this member of the group (spec: protocol.md §8.5).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use oxmq_protocol::allocate::allocate;
use oxmq_protocol::body::MessageQueue;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::pull_loop::pull_loop;
use super::{Engine, LOCK_INTERVAL, OwnedQueue};
use crate::clock::now_millis;
use crate::consumer::assignment::changes;
use crate::consumer::queue_lock::QueueLock;
use crate::consumer::start_offset::{StartOffset, start_offset};
use crate::error::ClientError;

const INTERVAL: Duration = Duration::from_secs(20);
/// After a round that could not do everything, and at least between two rounds.
const INTERVAL_MIN: Duration = Duration::from_secs(1);

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
    async fn assigned(&self, topic: &str) -> Result<BTreeSet<MessageQueue>, ClientError> {
        if let Some(chosen) = &*self.chosen.lock() {
            return Ok(chosen.iter().filter(|queue| queue.topic == topic).cloned().collect());
        }
        let queues = self.calls.instance.route(topic).await?.subscribe.clone();
        if !self.is_clustering() {
            return Ok(queues.into_iter().collect());
        }
        let members = self.calls.consumer_ids(topic).await?;
        let client_id = self.calls.instance.client_id();
        let share = allocate(&*self.config.strategy, queues, members, client_id);
        Ok(share.into_iter().collect())
    }

    async fn assign(self: &Arc<Self>, topic: &str, assigned: BTreeSet<MessageQueue>) -> bool {
        let changes = changes(&self.queues.lock().of_topic(topic), &assigned);
        if changes.is_empty() {
            return true;
        }
        for queue in &changes.lost {
            info!(%queue, group = self.calls.group, "queue given up");
            self.release_in_background(queue);
        }
        self.renew_subscription(topic).await;
        let mut settled = true;
        let mut free = changes.gained;
        {
            let queues = self.queues.lock();
            let gained = free.len();
            free.retain(|queue| !queues.is_leaving(queue));
            settled &= free.len() == gained;
        }
        let asked = Instant::now();
        if self.holds_locks() {
            let gained = free.len();
            free = self.lock_queues(free).await;
            settled &= free.len() == gained;
        }
        for queue in free {
            // A task finds out by itself where it is.
            if self.is_scheduled() {
                self.take(queue, 0, asked);
                continue;
            }
            match self.first_offset(&queue).await {
                Ok(offset) => drop(self.take(queue, offset, asked)),
                Err(error) => {
                    warn!(%queue, %error, "no offset to start at");
                    settled = false;
                }
            }
        }
        settled
    }

    /// As Java does after each change: the broker sees a newer subscription before it sees pulls with it.
    async fn renew_subscription(&self, topic: &str) {
        if let Some(subscription) = self.subscriptions.lock().get_mut(topic) {
            Arc::make_mut(subscription).sub_version = now_millis();
        }
        self.calls.instance.heartbeat().await;
    }

    fn take(self: &Arc<Self>, queue: MessageQueue, offset: i64, asked: Instant) -> Arc<OwnedQueue> {
        info!(%queue, offset, group = self.calls.group, "queue taken");
        let mut lock = QueueLock::default();
        if self.holds_locks() {
            lock.grant(asked);
        }
        let owned = Arc::new(OwnedQueue::new(queue, lock));
        self.queues.lock().insert(Arc::clone(&owned));
        if self.is_orderly() {
            owned.set_worker(tokio::spawn(Arc::clone(self).work_orderly(Arc::clone(&owned))));
        }
        if self.is_scheduled() {
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
        let owned = self.take(queue.clone(), offset, Instant::now());
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
