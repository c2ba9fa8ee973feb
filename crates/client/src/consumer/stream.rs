//! Messages as a stream: the application takes the next one when it wants to, and says of each what became of it.

use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use oxmq_protocol::message::MessageExt;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;

use super::engine::{Batch, Engine, OwnedQueue};
use super::listener::{ConsumeStatus, Messages};
use crate::error::ClientError;

/// The messages of a running consumer, one by one, in the order of each queue. It never ends by itself.
///
/// How many messages wait here is bounded by the thresholds of the consumer, so one who does not ask gets no more. A
/// message counts as consumed when it is acknowledged, in any order: the group's offset waits for the oldest that is
/// not. Dropping the stream stops the consumer at once; [`MessageStream::shutdown`] does so in good order.
///
/// ```no_run
/// use oxmq_client::PushConsumer;
///
/// # async fn example() -> Result<(), oxmq_client::ClientError> {
/// let mut messages =
///     PushConsumer::builder("billing").name_server("127.0.0.1:9876").subscribe("orders", "paid").stream().await?;
/// while let Some(message) = messages.next().await {
///     println!("{:?}", message.body);
///     message.ack().await?;
/// }
/// # Ok(())
/// # }
/// ```
pub struct MessageStream {
    engine: Arc<Engine>,
    arrivals: mpsc::UnboundedReceiver<Batch>,
}

/// A message that waits for the application's word.
///
/// Dropped without one it comes again later, as after [`ReceivedMessage::reconsume_later`]; so nothing is lost when the
/// code that handles it fails or is cancelled.
pub struct ReceivedMessage {
    engine: Arc<Engine>,
    owned: Arc<OwnedQueue>,
    message: Arc<MessageExt>,
    is_settled: bool,
    /// A shutdown waits for it.
    _permit: Option<OwnedSemaphorePermit>,
}

impl MessageStream {
    pub(super) async fn start(
        engine: Arc<Engine>,
        arrivals: mpsc::UnboundedReceiver<Batch>,
    ) -> Result<MessageStream, ClientError> {
        let stream = MessageStream { engine, arrivals };
        stream.engine.start(None).await?;
        Ok(stream)
    }

    /// What the servers call this client.
    pub fn client_id(&self) -> &str {
        self.engine.calls.instance.client_id()
    }

    /// The next message. Nothing is lost when the future is dropped before it is ready.
    pub async fn next(&mut self) -> Option<ReceivedMessage> {
        std::future::poll_fn(|context| self.poll_received(context)).await
    }

    fn poll_received(&mut self, context: &mut Context<'_>) -> Poll<Option<ReceivedMessage>> {
        loop {
            let Some(Batch { owned, mut messages }) = ready!(self.arrivals.poll_recv(context)) else {
                return Poll::Ready(None);
            };
            if !self.engine.is_deliverable(&owned, &messages) {
                continue;
            }
            owned.state.lock().process.mark_started(&messages, Instant::now());
            if let Some(message) = messages.pop() {
                return Poll::Ready(Some(ReceivedMessage {
                    _permit: self.engine.try_permit(),
                    engine: Arc::clone(&self.engine),
                    owned,
                    message,
                    is_settled: false,
                }));
            }
        }
    }

    /// Stops pulling; what is here already still comes.
    pub fn suspend(&self) {
        self.engine.suspend(true);
    }

    /// Pulls again.
    pub fn resume(&self) {
        self.engine.suspend(false);
    }

    /// Takes no more messages, waits for those that the application has, saves the offsets and leaves the group.
    pub async fn shutdown(self) {
        self.engine.shutdown().await;
    }
}

impl Stream for MessageStream {
    type Item = ReceivedMessage;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<ReceivedMessage>> {
        self.poll_received(context)
    }
}

impl Drop for MessageStream {
    fn drop(&mut self) {
        self.engine.abandon();
    }
}

impl ReceivedMessage {
    /// The message is consumed. An error says that it will come again all the same, here or to another member of the
    /// group.
    pub async fn ack(self) -> Result<(), ClientError> {
        self.settle(ConsumeStatus::Success).await
    }

    /// The message comes again, after a delay that grows with the attempts, and becomes a dead letter after the last
    /// one. Broadcasting consumers do not repeat messages.
    pub async fn reconsume_later(self) -> Result<(), ClientError> {
        self.settle(ConsumeStatus::ReconsumeLater).await
    }

    /// The message comes again after the delay of this level (1 to 18); a negative level makes it a dead letter.
    pub async fn reconsume_after(self, delay_level: i32) -> Result<(), ClientError> {
        self.settle(ConsumeStatus::ReconsumeAfter { delay_level }).await
    }

    /// The message itself, to keep.
    pub fn message(&self) -> &Arc<MessageExt> {
        &self.message
    }

    async fn settle(mut self, status: ConsumeStatus) -> Result<(), ClientError> {
        self.is_settled = true;
        // Not to be cancelled half way with the caller's future.
        let settling = tokio::spawn(settle(
            Arc::clone(&self.engine),
            Arc::clone(&self.owned),
            self.messages(),
            status,
        ));
        settling.await.unwrap_or(Err(ClientError::ShutDown))
    }

    fn messages(&self) -> Messages {
        vec![Arc::clone(&self.message)]
    }
}

async fn settle(
    engine: Arc<Engine>,
    owned: Arc<OwnedQueue>,
    messages: Messages,
    status: ConsumeStatus,
) -> Result<(), ClientError> {
    engine.settle(&owned, &messages, status).await
}

impl Deref for ReceivedMessage {
    type Target = MessageExt;

    fn deref(&self) -> &MessageExt {
        &self.message
    }
}

impl Drop for ReceivedMessage {
    fn drop(&mut self) {
        if self.is_settled || self.engine.is_stopped() {
            return;
        }
        let settling = settle(
            Arc::clone(&self.engine),
            Arc::clone(&self.owned),
            self.messages(),
            ConsumeStatus::ReconsumeLater,
        );
        // Without a runtime the process ends, and the message comes again because its offset is not committed.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(settling);
        }
    }
}
