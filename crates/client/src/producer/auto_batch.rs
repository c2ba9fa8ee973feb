//! Messages that wait a moment for others of their kind, to be sent as one batch (spec: config.md §8.2).

use std::sync::Arc;
use std::time::Duration;

use oxmq_protocol::body::MessageQueue;
use oxmq_protocol::message::Message;
use oxmq_protocol::{property, topic};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::accumulator::{Accumulator, Added, Batch, BatchKey, BatchLimits};
use super::prepare::{self, Prepared};
use super::{SendError, SendResult, Shared};
use crate::clock::now_millis;
use crate::error::ClientError;

/// What a message takes besides its body and properties; it bounds how many small ones wait.
const MESSAGE_OVERHEAD_BYTES: usize = 64;

/// Messages with one of these are not for batches: they come at a time of their own, belong to a transaction, or
/// answer a request.
const KEEPS_ALONE: [&str; 8] = [
    property::DELAY_TIME_LEVEL,
    property::START_DELIVER_TIME,
    property::TIMER_DELAY_SEC,
    property::TIMER_DELAY_MS,
    property::TIMER_DELIVER_MS,
    property::PRODUCER_GROUP,
    property::TRANSACTION_PREPARED,
    property::MESSAGE_TYPE,
];

type SendOutcome = Result<SendResult, SendError>;

pub(super) struct AutoBatch {
    accumulator: Mutex<Accumulator<Waiting>>,
    hold_time: Duration,
    batch_done: Notify,
}

struct Waiting {
    message: Message,
    outcome: oneshot::Sender<SendOutcome>,
}

impl AutoBatch {
    pub(super) fn new(limits: BatchLimits) -> AutoBatch {
        AutoBatch {
            accumulator: Mutex::new(Accumulator::new(limits)),
            hold_time: limits.hold_time,
            batch_done: Notify::new(),
        }
    }
}

impl Shared {
    /// Lets a message wait for others, if it may and there is room; otherwise gives it back.
    pub(super) fn batch(
        self: &Arc<Self>,
        auto_batch: &AutoBatch,
        mut message: Message,
        queue: Option<&MessageQueue>,
    ) -> Result<Result<oneshot::Receiver<SendOutcome>, Message>, SendError> {
        prepare::accept(&mut message, &self.message, now_millis())?;
        if topic::is_retry(&message.topic) || KEEPS_ALONE.iter().any(|name| message.property(name).is_some()) {
            return Ok(Err(message));
        }
        let key = BatchKey {
            topic: message.topic.clone(),
            queue: queue.cloned(),
            wait_store_msg_ok: message.wait_store_msg_ok(),
            tags: message.tags().map(str::to_owned),
        };
        let bytes = message.body.len() + message.properties.encoded_bytes() + MESSAGE_OVERHEAD_BYTES;
        let (outcome, receiver) = oneshot::channel();
        let waiting = Waiting { message, outcome };
        let added = auto_batch.accumulator.lock().add(key.clone(), bytes, waiting);
        match added {
            Added::Refused(waiting) => return Ok(Err(waiting.message)),
            Added::Waits => {}
            Added::Opened(number) => {
                let (shared, hold_time) = (Arc::clone(self), auto_batch.hold_time);
                tokio::spawn(async move {
                    tokio::time::sleep(hold_time).await;
                    shared.close_batch(&key, number).await;
                });
            }
            Added::Full(batch) => drop(tokio::spawn(Arc::clone(self).send_together(batch))),
        }
        Ok(Ok(receiver))
    }

    async fn close_batch(self: Arc<Self>, key: &BatchKey, number: u64) {
        let closed = self.auto_batch.as_ref().and_then(|auto_batch| {
            let mut accumulator = auto_batch.accumulator.lock();
            accumulator.close(key, number)
        });
        if let Some(batch) = closed {
            self.send_together(batch).await;
        }
    }

    /// Sends what waits and waits until that is done, at most for the time of a send.
    pub(super) async fn finish_batches(self: &Arc<Self>) {
        let Some(auto_batch) = &self.auto_batch else {
            return;
        };
        for batch in auto_batch.accumulator.lock().close_all() {
            tokio::spawn(Arc::clone(self).send_together(batch));
        }
        let idle = async {
            loop {
                let done = auto_batch.batch_done.notified();
                if auto_batch.accumulator.lock().is_idle() {
                    return;
                }
                done.await;
            }
        };
        if tokio::time::timeout(self.send.timeout, idle).await.is_err() {
            tracing::warn!("batches are still under way");
        }
    }

    async fn send_together(self: Arc<Self>, batch: Batch<Waiting>) {
        let bytes = batch.bytes;
        let (messages, waiting): (Vec<_>, Vec<_>) =
            batch.items.into_iter().map(|item| (item.message, item.outcome)).unzip();
        match self.send_batch(messages, batch.key.queue.as_ref()).await {
            Ok(sent) => {
                let results = sent.split(waiting.len());
                for (outcome, result) in waiting.into_iter().zip(results) {
                    // Whoever sent it may have stopped waiting.
                    let _ = outcome.send(Ok(result));
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                for outcome in waiting {
                    let _ = outcome.send(Err(SendError::InBatch(Arc::clone(&error))));
                }
            }
        }
        if let Some(auto_batch) = &self.auto_batch {
            auto_batch.accumulator.lock().done(bytes);
            auto_batch.batch_done.notify_waiters();
        }
    }

    async fn send_batch(&self, mut messages: Vec<Message>, queue: Option<&MessageQueue>) -> SendOutcome {
        let alone = (messages.len() == 1).then(|| messages.pop()).flatten();
        let prepared = match alone {
            Some(message) => Prepared::message(message, &self.message, now_millis())?,
            None => Prepared::batch(messages, &self.message, now_millis())?,
        };
        self.send_prepared(&prepared, queue, self.retry_rule()).await
    }
}

/// What a message in a batch has become.
pub(super) async fn outcome(receiver: oneshot::Receiver<SendOutcome>) -> SendOutcome {
    // The task that sends the batch ends without a word only with its runtime.
    receiver.await.unwrap_or(Err(SendError::Failed {
        attempts: 0,
        source: ClientError::ShutDown,
    }))
}
