//! POP consumption: the broker keeps track of single messages, consumers only acknowledge them
//! (spec: behaviour.md §10, storage.md §20).
//!
//! ```text
//! pop ── collect ── reads queues, a batch each ──┬─ checkpoint ── timer ── revive topic ─┐
//!                     queue::PopQueue            └─ or in memory (enablePopBufferMerge)  ├─ revive::Revive ── retry topic
//! ack ── records ── acknowledgement ──────────────────────────── timer ── revive topic ──┘
//! ```
//!
//! A checkpoint is in the log before its messages leave, an acknowledgement before it is answered; each turn of a worker
//! writes all of its checkpoints and acknowledgements with one append. After a crash every message is handed out again
//! that was not acknowledged, and at most those twice that were popped since the offsets were saved.

mod ack;
mod collect;
#[cfg(test)]
mod model;
mod notification;
pub(crate) mod order;
mod order_file;
pub(crate) mod queue;
pub(crate) mod records;
pub(crate) mod request;
pub(crate) mod revive;
pub(crate) mod revive_thread;
mod shown;
pub(crate) mod waiters;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use hashbrown::HashMap;
use oxmq_protocol::pop::revive_topic;
use parking_lot::{Mutex, RwLock};

pub(crate) use ack::{ack_in_order, change_in_order};
pub(crate) use collect::{Collected, Handed, collect, retry_topics};
pub(crate) use notification::{Notification, next_offset};
pub(crate) use queue::PopQueue;
pub(crate) use request::{Pop, PopError, readable_topic, usable_group};

use crate::config_file::{ConfigFile, Unsaved};

/// A queue of a group, shared by all who read or acknowledge it.
pub(crate) type SharedQueue = Arc<Mutex<PopQueue>>;

/// topic → group → queue id
type Table = HashMap<String, HashMap<String, HashMap<i32, SharedQueue>>>;

/// What was handed out, of all groups.
pub struct Pops {
    table: RwLock<Table>,
    pub(crate) revive_topic: String,
    order_file: ConfigFile,
    unsaved: Unsaved,
    pub(crate) stop: revive_thread::Stop,
    /// Checkpoints in memory, counted again in every round of the revive thread.
    buffered: AtomicUsize,
    /// Requests so far: takes turns among revive queues and topics.
    requests: AtomicU64,
    pub(crate) polling: Polling,
    /// How far each revive queue has come.
    pub(crate) revive_times: Mutex<Vec<i64>>,
}

impl Pops {
    /// Reads `config/consumerOrderInfo.json`.
    pub(crate) fn open(order_file: ConfigFile, cluster: &str) -> io::Result<Pops> {
        let pops = Pops {
            table: RwLock::default(),
            revive_topic: revive_topic(cluster),
            order_file,
            unsaved: Unsaved::default(),
            stop: revive_thread::Stop::default(),
            buffered: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
            polling: Polling::default(),
            revive_times: Mutex::default(),
        };
        pops.load_orders()?;
        Ok(pops)
    }

    /// The queue of the group, which comes into being here.
    pub(crate) fn queue(&self, topic: &str, group: &str, queue_id: i32) -> SharedQueue {
        if let Some(known) = self.known_queue(topic, group, queue_id) {
            return known;
        }
        let mut table = self.table.write();
        let groups = table.entry_ref(topic).or_default();
        let queues = groups.entry_ref(group).or_default();
        Arc::clone(queues.entry(queue_id).or_default())
    }

    /// The queue of the group if anything is known of it.
    pub(crate) fn known_queue(&self, topic: &str, group: &str, queue_id: i32) -> Option<SharedQueue> {
        let table = self.table.read();
        table.get(topic)?.get(group)?.get(&queue_id).cloned()
    }

    /// Everything that is known, with topic, group and queue id.
    pub(crate) fn all(&self) -> Vec<(String, String, i32, SharedQueue)> {
        let table = self.table.read();
        let mut all = Vec::new();
        for (topic, groups) in table.iter() {
            for (group, queues) in groups {
                for (queue_id, queue) in queues {
                    all.push((topic.clone(), group.clone(), *queue_id, Arc::clone(queue)));
                }
            }
        }
        all
    }

    /// Forgets queues that nobody uses and about which there is nothing to know.
    pub(crate) fn forget_idle(&self) {
        let mut table = self.table.write();
        table.retain(|_, groups| {
            groups.retain(|_, queues| {
                // Whoever has just looked a queue up holds it.
                queues.retain(|_, queue| Arc::strong_count(queue) > 1 || !queue.lock().is_idle());
                !queues.is_empty()
            });
            !groups.is_empty()
        });
    }

    pub fn remove_topic(&self, topic: &str) {
        if self.table.write().remove(topic).is_some() {
            self.unsaved.mark();
        }
    }

    pub fn remove_group(&self, group: &str) {
        let mut removed = false;
        self.table.write().retain(|_, groups| {
            removed |= groups.remove(group).is_some();
            !groups.is_empty()
        });
        if removed {
            self.unsaved.mark();
        }
    }

    /// Room for one more checkpoint in memory; false when there is none.
    fn enter_buffer(&self, buffered_max: usize) -> bool {
        self.buffered.fetch_add(1, Ordering::Relaxed) < buffered_max
    }

    fn set_buffered(&self, buffered: usize) {
        self.buffered.store(buffered, Ordering::Relaxed);
    }

    /// Checkpoints in memory.
    pub(crate) fn buffered(&self) -> usize {
        self.buffered.load(Ordering::Relaxed)
    }

    /// A number that differs from request to request.
    pub(crate) fn turn(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed)
    }
}

/// How many requests wait, of all workers: for POLLING_INFO and for the limits.
#[derive(Default)]
pub(crate) struct Polling {
    keys: Mutex<HashMap<waiters::Key, usize>>,
    total: AtomicUsize,
}

/// Limits of [`Polling`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct PollingLimits {
    /// `maxPopPollingSize`
    pub(crate) total: usize,
    /// `popPollingSize`: of one group on one queue.
    pub(crate) per_key: usize,
    /// `popPollingMapSize`
    pub(crate) keys: usize,
}

impl Polling {
    /// False when too many wait already.
    pub(crate) fn enter(&self, key: &waiters::Key, limits: PollingLimits) -> bool {
        if self.total.load(Ordering::Relaxed) >= limits.total {
            return false;
        }
        let mut keys = self.keys.lock();
        let known = keys.len();
        match keys.get_mut(key) {
            Some(count) if *count > limits.per_key => return false,
            Some(count) => *count += 1,
            None if known >= limits.keys => return false,
            None => drop(keys.insert(key.clone(), 1)),
        }
        self.total.fetch_add(1, Ordering::Relaxed);
        true
    }

    pub(crate) fn leave(&self, key: &waiters::Key) {
        let mut keys = self.keys.lock();
        if let Some(count) = keys.get_mut(key) {
            *count -= 1;
            self.total.fetch_sub(1, Ordering::Relaxed);
            if *count == 0 {
                keys.remove(key);
            }
        }
    }

    pub(crate) fn count(&self, key: &waiters::Key) -> usize {
        self.keys.lock().get(key).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_requests_are_counted_and_limited() {
        let limits = PollingLimits {
            total: 4,
            per_key: 1,
            keys: 2,
        };
        let polling = Polling::default();
        let keys = [0, 1, 2].map(|queue_id| waiters::Key::new("t", "g", queue_id));
        assert!(polling.enter(&keys[0], limits) && polling.enter(&keys[0], limits));
        assert!(
            !polling.enter(&keys[0], limits),
            "more than the limit, as in the original"
        );
        assert!(polling.enter(&keys[1], limits));
        assert!(!polling.enter(&keys[2], limits), "too many keys");
        assert!(polling.enter(&keys[1], limits));
        polling.leave(&keys[0]);
        polling.leave(&keys[0]);
        assert_eq!((polling.count(&keys[0]), polling.count(&keys[1])), (0, 2));
        assert!(polling.enter(&keys[2], limits));
    }

    #[test]
    fn what_is_idle_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let pops = Pops::open(ConfigFile::in_folder(folder.path(), "consumerOrderInfo.json"), "c").unwrap();
        drop(pops.queue("t", "idle", 0));
        pops.queue("t", "used", 0).lock().add(5);
        let held = pops.queue("t", "held", 0);
        pops.forget_idle();
        assert!(pops.known_queue("t", "idle", 0).is_none());
        assert!(pops.known_queue("t", "used", 0).is_some() && pops.known_queue("t", "held", 0).is_some());
        drop(held);
        pops.remove_group("used");
        pops.forget_idle();
        assert!(pops.all().is_empty());
    }
}
