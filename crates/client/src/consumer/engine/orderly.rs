//! Listeners that get one queue's messages one after the other (spec: behaviour.md §6.7).
//!
//! Each queue has a worker of its own, so "one at a time" needs no lock here. Java lets a worker run for 60 s before
//! another gets its thread; here a worker waits for its turn before every batch, which is fairer and needs no limit.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, warn};

use super::{Delivery, Engine, OwnedQueue};
use crate::clock::now_millis;
use crate::consumer::listener::{self, ConsumeOrderlyStatus, Messages};
use crate::consumer::retry::max_reconsume_times_orderly;

const LOCK_RETRY_DELAY: Duration = Duration::from_secs(3);
/// Java has the same bounds.
const SUSPEND_TIME_MIN: Duration = Duration::from_millis(10);
const SUSPEND_TIME_MAX: Duration = Duration::from_secs(30);

pub(crate) fn clamp_suspend_time(time: Duration) -> Duration {
    time.clamp(SUSPEND_TIME_MIN, SUSPEND_TIME_MAX)
}

impl Engine {
    /// Runs until the queue is given up or the consumer stops, but never ends in the middle of a batch.
    pub(super) async fn work_orderly(self: Arc<Self>, owned: Arc<OwnedQueue>) {
        loop {
            if owned.is_dropped() || self.is_stopped() {
                return;
            }
            if self.holds_locks() && !owned.is_locked() {
                if !self.lock_again(&owned).await {
                    debug!(queue = %owned.queue, "waiting for the lock");
                    owned.sleep(LOCK_RETRY_DELAY).await;
                }
                continue;
            }
            if !owned.state.lock().process.has_cached() {
                tokio::select! {
                    () = owned.arrived.notified() => {}
                    () = owned.wait_dropped() => {}
                    () = self.wait_stopped() => {}
                }
                continue;
            }
            self.consume_next(&owned).await;
        }
    }

    async fn consume_next(&self, owned: &OwnedQueue) {
        let Delivery::Orderly { listener } = &self.delivery else {
            return;
        };
        let Ok(_permit) = self.permits.acquire().await else {
            return;
        };
        if owned.is_dropped() || self.is_stopped() {
            return;
        }
        let messages = owned.state.lock().process.take(self.config.consume_batch_max_size);
        let started = Instant::now();
        let trace = self.trace_before(&messages);
        let consumed = listener::run(listener, messages.clone()).await;
        self.trace_after(
            trace,
            consumed.map(|status| status == ConsumeOrderlyStatus::Success),
            started,
        );
        let status = consumed.unwrap_or_else(|| {
            warn!(queue = %owned.queue, "the listener panicked");
            ConsumeOrderlyStatus::SuspendCurrentQueueAMoment
        });
        owned.state.lock().last_consume_timestamp = now_millis();
        let (done, failed) = match status {
            ConsumeOrderlyStatus::Success => (messages.len(), 0),
            _ => (0, messages.len()),
        };
        self.note_consumed(&owned.queue, done, failed, started);
        if status == ConsumeOrderlyStatus::Success || self.give_up(&messages).await {
            self.commit(owned);
        } else {
            owned.state.lock().process.return_taken(|_| true);
            drop(_permit);
            let time = match status {
                ConsumeOrderlyStatus::SuspendCurrentQueueFor { time } => clamp_suspend_time(time),
                _ => self.config.suspend_current_queue_time,
            };
            tokio::select! {
                () = owned.sleep(time) => {}
                () = self.wait_stopped() => {}
            }
        }
    }

    /// The queue may have been given up meanwhile. As long as the lock is ours nobody else has begun to consume it, so
    /// the offset counts.
    fn commit(&self, owned: &OwnedQueue) {
        let committed = owned.state.lock().process.commit_taken();
        owned.room.notify_one();
        let is_ours = if self.holds_locks() {
            owned.is_locked()
        } else {
            !owned.is_dropped()
        };
        if let Some(offset) = committed.filter(|_| is_ours) {
            self.offsets.advance(&owned.queue, offset);
        }
    }

    /// Sends messages that have failed too often to the retry topic, from where the broker moves them to the dead
    /// letters of an orderly group. `false` when any of them has to be tried again.
    async fn give_up(&self, messages: &Messages) -> bool {
        let max_reconsume_times = max_reconsume_times_orderly(self.config.max_reconsume_times);
        let mut all_gone = true;
        for message in messages {
            if message.reconsume_times < max_reconsume_times {
                all_gone = false;
                continue;
            }
            let sent = self
                .calls
                .send_retry(message, message.reconsume_times, max_reconsume_times);
            if let Err(error) = sent.await {
                warn!(message_id = message.msg_id(), %error, "not moved to the dead letters, trying again");
                all_gone = false;
            }
        }
        all_gone
    }
}
