//! The queues that a consumer has.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hashbrown::{HashMap, HashSet};
use oxmq_protocol::body::{MessageQueue, MessageRequestMode};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::consumer::process_queue::ProcessQueue;
use crate::consumer::queue_lock::QueueLock;

/// One queue from its assignment until it is given up. A queue that comes back is a new one.
pub(crate) struct OwnedQueue {
    pub(crate) queue: MessageQueue,
    pub(crate) mode: MessageRequestMode,
    pub(crate) state: Mutex<QueueState>,
    /// Messages were taken out: a pull that waits may go on.
    pub(crate) room: Notify,
    /// Messages were put in, for the orderly worker.
    pub(crate) arrived: Notify,
    pub(crate) paused: AtomicBool,
    dropped: watch::Sender<bool>,
    /// The orderly worker. Its queue is not given up before it has ended.
    worker: Mutex<Option<JoinHandle<()>>>,
}

pub(crate) struct QueueState {
    pub(crate) process: ProcessQueue,
    /// Messages that were popped and not settled yet. They are not in `process`: each stands for itself.
    pub(crate) popped: usize,
    pub(crate) lock: QueueLock,
    /// Milliseconds since 1970, to show.
    pub(crate) last_pull_timestamp: i64,
    pub(crate) last_consume_timestamp: i64,
}

impl OwnedQueue {
    pub(crate) fn new(queue: MessageQueue, mode: MessageRequestMode, lock: QueueLock) -> OwnedQueue {
        OwnedQueue {
            queue,
            mode,
            state: Mutex::new(QueueState {
                process: ProcessQueue::default(),
                popped: 0,
                lock,
                last_pull_timestamp: 0,
                last_consume_timestamp: 0,
            }),
            room: Notify::new(),
            arrived: Notify::new(),
            paused: AtomicBool::new(false),
            dropped: watch::Sender::new(false),
            worker: Mutex::default(),
        }
    }

    pub(crate) fn set_worker(&self, worker: JoinHandle<()>) {
        *self.worker.lock() = Some(worker);
    }

    pub(crate) async fn worker_ended(&self) {
        let worker = self.worker.lock().take();
        if let Some(worker) = worker {
            // A worker that panicked has ended too.
            let _ = worker.await;
        }
    }

    /// Nothing is pulled any more, and what is cached is not consumed.
    pub(crate) fn drop_now(&self) {
        self.dropped.send_replace(true);
    }

    pub(crate) fn is_dropped(&self) -> bool {
        *self.dropped.borrow()
    }

    pub(crate) async fn wait_dropped(&self) {
        // The sender cannot be gone while `self` lives.
        let _ = self.dropped.subscribe().wait_for(|dropped| *dropped).await;
    }

    /// Sleeps, but not longer than the queue is ours.
    pub(crate) async fn sleep(&self, time: Duration) {
        tokio::select! {
            () = self.wait_dropped() => {}
            () = tokio::time::sleep(time) => {}
        }
    }

    pub(crate) fn is_pop(&self) -> bool {
        self.mode == MessageRequestMode::Pop
    }

    pub(crate) fn is_locked(&self) -> bool {
        self.state.lock().lock.is_held(Instant::now())
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }
}

/// All queues of a consumer.
#[derive(Default)]
pub(crate) struct QueueTable {
    owned: HashMap<MessageQueue, Arc<OwnedQueue>>,
    /// Given up, but something is still to be written or to end. Not taken again before that.
    leaving: HashSet<MessageQueue>,
}

impl QueueTable {
    pub(crate) fn insert(&mut self, owned: Arc<OwnedQueue>) {
        self.owned.insert(owned.queue.clone(), owned);
    }

    pub(crate) fn get(&self, queue: &MessageQueue) -> Option<&Arc<OwnedQueue>> {
        self.owned.get(queue)
    }

    pub(crate) fn all(&self) -> Vec<Arc<OwnedQueue>> {
        self.owned.values().cloned().collect()
    }

    pub(crate) fn names(&self) -> Vec<MessageQueue> {
        self.owned.keys().cloned().collect()
    }

    pub(crate) fn of_topic(&self, topic: &str) -> BTreeSet<(MessageQueue, MessageRequestMode)> {
        let of_topic = self.owned.values().filter(|owned| owned.queue.topic == topic);
        of_topic.map(|owned| (owned.queue.clone(), owned.mode)).collect()
    }

    /// Messages that wait in all queues.
    pub(crate) fn cached(&self) -> usize {
        self.owned.values().map(|owned| owned.state.lock().process.len()).sum()
    }

    pub(crate) fn count_of_topic(&self, topic: &str) -> usize {
        self.owned.keys().filter(|queue| queue.topic == topic).count()
    }

    /// Takes a queue out. It is leaving until [`QueueTable::left`].
    pub(crate) fn leave(&mut self, queue: &MessageQueue) -> Option<Arc<OwnedQueue>> {
        let owned = self.owned.remove(queue)?;
        self.leaving.insert(queue.clone());
        Some(owned)
    }

    pub(crate) fn left(&mut self, queue: &MessageQueue) {
        self.leaving.remove(queue);
    }

    pub(crate) fn is_leaving(&self, queue: &MessageQueue) -> bool {
        self.leaving.contains(queue)
    }
}
