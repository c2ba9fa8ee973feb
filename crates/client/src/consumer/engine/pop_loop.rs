//! Popping one queue, or all queues of a broker, and settling what was popped (spec: behaviour.md §6.10).
//!
//! A popped message is ours until its invisible time is over, whoever the queue belongs to then; so it is delivered and
//! acknowledged also when the queue was given up meanwhile.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use oxmq_protocol::body::ConsumeFromWhere;
use oxmq_protocol::message::MessageExt;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::{Engine, OwnedQueue};
use crate::clock::now_millis;
use crate::consumer::listener::{ConsumeStatus, Messages};
use crate::consumer::pop_request::{PopRequest, Popped, invisible_until};
use crate::consumer::retry::max_reconsume_times_concurrent;
use crate::error::ClientError;

const POLL_TIME: Duration = Duration::from_secs(15);
const DELAY_AFTER_ERROR: Duration = Duration::from_secs(1);
const DELAY_WHILE_SUSPENDED: Duration = Duration::from_secs(1);
/// A full queue is looked at again when messages are settled, and by this time at the latest.
const FLOW_CONTROL_RECHECK: Duration = Duration::from_secs(1);

/// Until a message comes again, in seconds, by its attempts so far or by the delay level that the listener gave.
const RETRY_SECONDS: [u64; 16] = [
    10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200,
];

/// What becomes of a message that could not be consumed.
#[derive(Debug, PartialEq, Eq)]
enum Failed {
    ComesAgainAfter(Duration),
    BecomesDeadLetter,
}

/// A negative level asks for the dead letters, as it does elsewhere.
fn after_failure(reconsume_times: i32, delay_level: i32, max_reconsume_times: i32) -> Failed {
    if delay_level < 0 || reconsume_times >= max_reconsume_times {
        return Failed::BecomesDeadLetter;
    }
    let step = if delay_level == 0 { reconsume_times } else { delay_level };
    let step = usize::try_from(step).unwrap_or(0).min(RETRY_SECONDS.len() - 1);
    Failed::ComesAgainAfter(Duration::from_secs(RETRY_SECONDS[step]))
}

pub(super) async fn pop_loop(engine: Arc<Engine>, owned: Arc<OwnedQueue>) {
    while !owned.is_dropped() {
        if engine.suspended.load(Ordering::Relaxed) || owned.is_paused() {
            owned.sleep(DELAY_WHILE_SUSPENDED).await;
        } else if owned.state.lock().popped > engine.config.pop.threshold_for_queue {
            tokio::select! {
                () = owned.room.notified() => {}
                () = owned.sleep(FLOW_CONTROL_RECHECK) => {}
            }
        } else {
            match engine.pop(&owned).await {
                Ok(popped) if popped.is_polling_full => owned.sleep(DELAY_AFTER_ERROR).await,
                Ok(popped) => engine.accept(&owned, popped).await,
                Err(error) => {
                    debug!(queue = %owned.queue, %error, "pop failed");
                    engine.heartbeat_if_unknown(&error);
                    owned.sleep(DELAY_AFTER_ERROR).await;
                }
            }
        }
    }
}

impl Engine {
    async fn pop(&self, owned: &OwnedQueue) -> Result<Popped, ClientError> {
        let queue = &owned.queue;
        // An unsubscribed topic's queues are given up by the next rebalance.
        let subscription = self.subscription(&queue.topic).ok_or(ClientError::ShutDown)?;
        owned.state.lock().last_pull_timestamp = now_millis();
        let started = Instant::now();
        let popped = self
            .calls
            .pop(&PopRequest {
                queue,
                max_msg_nums: self.config.pop.batch_nums as i32,
                invisible_time: self.config.pop.invisible_time,
                poll_time: POLL_TIME,
                from_min: self.config.consume_from_where == ConsumeFromWhere::FirstOffset,
                subscription: &subscription,
            })
            .await?;
        if !popped.messages.is_empty() {
            let millis = started.elapsed().as_millis() as i64;
            let mut statistics = self.statistics.lock();
            statistics.pulled(&queue.topic, popped.messages.len(), millis, now_millis());
        }
        Ok(popped)
    }

    async fn accept(self: &Arc<Self>, owned: &Arc<OwnedQueue>, popped: Popped) {
        let messages: Messages = popped
            .messages
            .into_iter()
            .map(|message| self.prepare(message))
            .collect();
        if !messages.is_empty() {
            self.deliver(owned, messages);
        }
        for rejected in &popped.rejected {
            if let Err(error) = self.calls.ack(rejected).await {
                debug!(message_id = rejected.msg_id(), %error, "not acknowledged, will be popped again");
            }
        }
    }

    /// Messages that have been here too long to be consumed: others get them now.
    pub(super) fn is_too_late(messages: &Messages) -> bool {
        let now = now_millis();
        messages
            .iter()
            .any(|message| invisible_until(message).is_some_and(|until| until <= now))
    }

    /// Takes messages out of the count of those that are here.
    pub(super) fn note_settled(&self, owned: &OwnedQueue, count: usize) {
        {
            let mut state = owned.state.lock();
            state.popped = state.popped.saturating_sub(count);
            state.last_consume_timestamp = now_millis();
        }
        owned.room.notify_one();
    }

    /// Acknowledges what is done and says of the rest when it comes again. An error says that a message comes again
    /// whatever was said.
    pub(super) async fn settle_popped(
        &self,
        owned: &OwnedQueue,
        messages: &Messages,
        status: ConsumeStatus,
    ) -> Result<(), ClientError> {
        let done = status.done(messages.len());
        let mut result = Ok(());
        for (index, message) in messages.iter().enumerate() {
            let settled = match index < done {
                _ if Engine::is_too_late(&vec![Arc::clone(message)]) => Err(ClientError::VisibleAgain {
                    message_id: message.msg_id(),
                }),
                true => self.calls.ack(message).await,
                false => self.give_back(message, status.delay_level()).await,
            };
            if let Err(error) = &settled {
                warn!(message_id = message.msg_id(), %error, "comes again when its invisible time is over");
            }
            result = result.and(settled);
        }
        self.note_settled(owned, messages.len());
        result
    }

    async fn give_back(&self, message: &MessageExt, delay_level: i32) -> Result<(), ClientError> {
        let max_reconsume_times = max_reconsume_times_concurrent(self.config.max_reconsume_times);
        match after_failure(message.reconsume_times, delay_level, max_reconsume_times) {
            Failed::ComesAgainAfter(delay) => self.calls.change_invisible_time(message, delay).await.map(drop),
            Failed::BecomesDeadLetter => {
                self.calls.send_back(message, -1, max_reconsume_times).await?;
                self.calls.ack(message).await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_with_the_attempts_until_the_message_is_dead() {
        let delay = |times, level| after_failure(times, level, 16);
        let after = |seconds| Failed::ComesAgainAfter(Duration::from_secs(seconds));
        assert_eq!(delay(0, 0), after(10));
        assert_eq!(delay(1, 0), after(30));
        assert_eq!(delay(15, 0), after(7200));
        assert_eq!(delay(0, 3), after(120), "the level counts from 0, as with Java");
        assert_eq!(delay(0, 99), after(7200));
        assert_eq!(delay(16, 0), Failed::BecomesDeadLetter);
        assert_eq!(delay(0, -1), Failed::BecomesDeadLetter);
        assert_eq!(after_failure(-3, 0, 16), after(10));
    }
}
