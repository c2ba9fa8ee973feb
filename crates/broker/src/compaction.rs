//! Compaction topics (`cleanup.policy=COMPACTION`): by schedule, every queue of theirs is compacted, so that consumers that
//! read old messages get the newest of each key (spec: storage.md §21). What that means is in the store's `compaction`.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::broker::Broker;

/// Ends the compacting thread, also while it compacts.
#[derive(Default)]
pub struct Compaction {
    stopping: Mutex<bool>,
    stopped: Condvar,
}

impl Compaction {
    pub fn stop(&self) {
        *self.stopping.lock() = true;
        self.stopped.notify_all();
    }

    fn is_stopping(&self) -> bool {
        *self.stopping.lock()
    }

    /// False when the broker stops first.
    fn rest(&self, period: Duration) -> bool {
        let mut stopping = self.stopping.lock();
        if !*stopping {
            self.stopped.wait_for(&mut stopping, period);
        }
        !*stopping
    }

    /// Compacts what is new in all queues of compaction topics.
    fn run(&self, broker: &Broker) {
        let map_bytes = broker.config().max_offset_map_size;
        for topic in broker.topics.compaction_topics() {
            for queue in broker.store.queues_of(&topic) {
                match broker.store.compact(&queue, map_bytes, &|| self.is_stopping()) {
                    Ok(Some(report)) => {
                        tracing::info!(topic, queue_id = queue.queue_id(), ?report, "queue compacted");
                    }
                    Ok(None) => {}
                    Err(error) => {
                        tracing::error!(topic, queue_id = queue.queue_id(), %error, "queue cannot be compacted");
                    }
                }
                if self.is_stopping() {
                    return;
                }
            }
        }
    }
}

/// Copies what compacted queues still need of the log before a physical offset. False when that was not possible.
pub(crate) fn keep_before(broker: &Broker, physical_offset: i64) -> bool {
    let config = broker.config();
    if !config.enable_compaction {
        return true;
    }
    let (store, stopping) = (&broker.store, || broker.compaction.is_stopping());
    for topic in broker.topics.compaction_topics() {
        for queue in store.queues_of(&topic) {
            let kept = store.compact_before(&queue, config.max_offset_map_size, physical_offset, &stopping);
            if !matches!(kept, Ok(true)) {
                tracing::error!(
                    topic,
                    queue_id = queue.queue_id(),
                    ?kept,
                    "a compacted queue still needs an old file"
                );
                return false;
            }
        }
    }
    true
}

pub(crate) fn spawn(broker: &Arc<Broker>) -> io::Result<JoinHandle<()>> {
    let broker = Arc::clone(broker);
    thread::Builder::new().name("compaction".into()).spawn(move || {
        let period = Duration::from_millis(broker.config().compaction_schedule_internal_ms);
        while broker.compaction.rest(period) {
            broker.compaction.run(&broker);
        }
    })
}
