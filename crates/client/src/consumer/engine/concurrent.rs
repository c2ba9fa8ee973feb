//! Listeners that run at the same time, whatever the queue (spec: behaviour.md §6.6).

use std::sync::Arc;
use std::time::Duration;

use oxmq_protocol::message::MessageExt;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::{Delivery, Engine, OwnedQueue};
use crate::consumer::listener::{self, ConsumeStatus, Messages};
use crate::consumer::retry::max_reconsume_times_concurrent;
use crate::error::ClientError;

/// A message that could neither be consumed nor sent back is tried again here after so long.
const LOCAL_RETRY_DELAY: Duration = Duration::from_secs(5);
/// The delay level of a message whose listener hangs.
const HANGING_DELAY_LEVEL: i32 = 3;

/// Messages of one queue for one call of the listener. The flow limits of the queues bound how many wait.
pub(crate) struct Batch {
    pub(crate) owned: Arc<OwnedQueue>,
    pub(crate) messages: Messages,
}

impl Engine {
    /// Starts a listener for each batch, as many at a time as are allowed.
    pub(super) async fn dispatch(self: Arc<Self>, mut arrivals: mpsc::UnboundedReceiver<Batch>) {
        while let Some(batch) = arrivals.recv().await {
            let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else {
                return;
            };
            if self.is_deliverable(&batch.owned, &batch.messages) {
                tokio::spawn(Arc::clone(&self).consume(batch, permit));
            }
        }
    }

    /// `false` when somebody else gets these messages: they were pulled from a queue that was given up, or popped too long
    /// ago.
    pub(crate) fn is_deliverable(&self, owned: &OwnedQueue, messages: &Messages) -> bool {
        if !owned.is_pop() {
            return !owned.is_dropped();
        }
        let is_too_late = Engine::is_too_late(messages);
        if is_too_late {
            self.note_settled(owned, messages.len());
        }
        !is_too_late
    }

    async fn consume(self: Arc<Self>, batch: Batch, _permit: OwnedSemaphorePermit) {
        let Delivery::Concurrent { listener, .. } = &self.delivery else {
            return;
        };
        let Batch { owned, messages } = batch;
        let started = Instant::now();
        owned.state.lock().process.mark_started(&messages, started);
        let trace = self.trace_before(&messages);
        let consumed = listener::run(listener, messages.clone()).await;
        let succeeds = consumed.map(|status| status.done(messages.len()) == messages.len());
        self.trace_after(trace, succeeds, started);
        let status = consumed.unwrap_or_else(|| {
            warn!(queue = %owned.queue, "the listener panicked");
            ConsumeStatus::ReconsumeLater
        });
        let done = status.done(messages.len());
        self.note_consumed(&owned.queue, done, messages.len() - done, started);
        if let Err(error) = self.settle(&owned, &messages, status).await {
            debug!(queue = %owned.queue, %error, "what a listener has done does not count");
        }
    }

    /// Does what the application says of messages: takes them out, or lets them come again. An error says that they come
    /// again whatever it has said.
    pub(crate) async fn settle(
        self: &Arc<Self>,
        owned: &Arc<OwnedQueue>,
        messages: &Messages,
        status: ConsumeStatus,
    ) -> Result<(), ClientError> {
        if owned.is_pop() {
            return self.settle_popped(owned, messages, status).await;
        }
        if owned.is_dropped() {
            // Someone else has the queue and gets these messages again.
            return Err(ClientError::QueueLost {
                queue: owned.queue.clone(),
            });
        }
        let done_count = status.done(messages.len());
        let (mut done, failed) = (messages[..done_count].to_vec(), &messages[done_count..]);
        for message in failed {
            if self.is_clustering() && !self.send_back(message, status.delay_level()).await {
                self.retry_here(owned, message);
            } else {
                done.push(Arc::clone(message));
            }
        }
        if !self.is_clustering() && !failed.is_empty() {
            warn!(queue = %owned.queue, count = failed.len(), "messages not consumed, broadcasting does not repeat them");
        }
        self.finish(owned, &done);
        Ok(())
    }

    /// Gives a message to the broker for later: the broker that has it, else any broker of the retry topic.
    async fn send_back(&self, message: &MessageExt, delay_level: i32) -> bool {
        let max_reconsume_times = max_reconsume_times_concurrent(self.config.max_reconsume_times);
        let Err(error) = self.calls.send_back(message, delay_level, max_reconsume_times).await else {
            return true;
        };
        debug!(message_id = message.msg_id(), %error, "not sent back, sending it to the retry topic");
        let times = message.reconsume_times + 1;
        let sent = self.calls.send_retry(message, times, max_reconsume_times).await;
        if let Err(error) = &sent {
            warn!(message_id = message.msg_id(), %error, "neither consumed nor sent back, trying again here");
        }
        sent.is_ok()
    }

    /// The message stays in the cache, so the offset waits for it.
    fn retry_here(self: &Arc<Self>, owned: &Arc<OwnedQueue>, message: &Arc<MessageExt>) {
        let mut again = Arc::clone(message);
        Arc::make_mut(&mut again).reconsume_times += 1;
        let (engine, owned) = (Arc::clone(self), Arc::clone(owned));
        self.spawn(async move {
            owned.sleep(LOCAL_RETRY_DELAY).await;
            if let Delivery::Concurrent { batches, .. } | Delivery::Stream { batches } = &engine.delivery {
                let messages = vec![again];
                // Without a receiver the consumer has stopped.
                let _ = batches.send(Batch { owned, messages });
            }
        });
    }

    /// Sends messages back whose listener hangs, so that their queue can go on.
    pub(super) async fn keep_expiring(self: Arc<Self>) {
        let timeout = self.config.consume_timeout;
        loop {
            tokio::time::sleep(timeout).await;
            let queues = self.queues.lock().all();
            for owned in queues {
                let expired = owned.state.lock().process.expired(Instant::now(), timeout);
                for message in expired {
                    warn!(message_id = message.msg_id(), queue = %owned.queue, "the listener hangs");
                    if !self.is_clustering() || self.send_back(&message, HANGING_DELAY_LEVEL).await {
                        self.finish(&owned, &vec![message]);
                    }
                }
            }
        }
    }
}
