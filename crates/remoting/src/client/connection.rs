//! One connection of a client: callers append to its output, its task moves the bytes.
//!
//! The task takes everything that callers have appended since its last write at once, so many callers cost one write.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use oxmq_protocol::{Frame, Header, RemotingCommand, SerializeType};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::Instant;
use tracing::debug;

use super::{ClientConfig, RequestHandler};
use crate::command::ReplyTo;
use crate::error::CallError;
use crate::pending::PendingCalls;

/// Room offered to one read.
const READ_BYTES: usize = 64 * 1024;
/// Output buffers that grew larger are not kept.
const KEPT_BYTES_MAX: usize = 256 * 1024;
/// Smaller bodies are copied out of the input.
const SHARED_BODY_BYTES_MIN: usize = 4 * 1024;
/// Requests of the server that are handled at the same time; the connection is not read while there are more.
const INBOUND_MAX: usize = 256;

pub(super) struct ClientConnection {
    addr: Arc<str>,
    config: Arc<ClientConfig>,
    state: Mutex<State>,
    /// There is output, or the connection is finishing.
    output_ready: Notify,
    /// The writer has taken output.
    room: Notify,
    closed: watch::Sender<bool>,
}

struct State {
    /// New requests are accepted. Never becomes true again.
    open: bool,
    output: BytesMut,
    calls: PendingCalls,
    last_received: Instant,
    last_sent: Instant,
}

impl ClientConnection {
    pub(super) fn new(addr: Arc<str>, config: Arc<ClientConfig>) -> Arc<ClientConnection> {
        let now = Instant::now();
        Arc::new(ClientConnection {
            addr,
            state: Mutex::new(State {
                open: true,
                output: BytesMut::new(),
                calls: PendingCalls::new(config.in_flight_max),
                last_received: now,
                last_sent: now,
            }),
            config,
            output_ready: Notify::new(),
            room: Notify::new(),
            closed: watch::Sender::new(false),
        })
    }

    /// Moves its bytes over the two halves of a socket.
    pub(super) fn start<R, W>(
        self: &Arc<Self>,
        (read_half, write_half): (R, W),
        handler: Option<Arc<dyn RequestHandler>>,
    ) where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        tokio::spawn(Arc::clone(self).run(read_half, write_half, handler));
    }

    pub(super) fn is_open(&self) -> bool {
        self.state.lock().open
    }

    /// Sends a request and waits for its response as long as the connection lives.
    pub(super) async fn call(&self, mut request: RemotingCommand) -> Result<RemotingCommand, CallError> {
        self.wait_for_room().await;
        let waiting = {
            let mut state = self.state.lock();
            if !state.open {
                return Err(self.error_closed());
            }
            let Some((opaque, response)) = state.calls.register() else {
                return Err(CallError::Busy {
                    addr: self.addr.to_string(),
                });
            };
            request.header.opaque = opaque;
            self.append(&mut state, &request, self.config.serialize);
            WaitingCall {
                connection: self,
                opaque,
                response,
            }
        };
        waiting.response().await
    }

    pub(super) async fn oneway(&self, mut request: RemotingCommand) -> Result<(), CallError> {
        self.wait_for_room().await;
        let mut state = self.state.lock();
        if !state.open {
            return Err(self.error_closed());
        }
        request.header.mark_oneway();
        request.header.opaque = state.calls.next_opaque();
        self.append(&mut state, &request, self.config.serialize);
        Ok(())
    }

    /// A call that began at `since` timed out. When nothing at all has come since then, the peer may be gone without a
    /// word: the connection is closed, so that the next call finds out.
    pub(super) fn suspect(&self, since: Instant) {
        if self.state.lock().last_received < since {
            self.close();
        }
    }

    /// Closes now. Waiting calls fail.
    pub(super) fn close(&self) {
        {
            let mut state = self.state.lock();
            state.open = false;
            state.output = BytesMut::new();
            state.calls.fail_all();
        }
        self.closed.send_replace(true);
        self.room.notify_waiters();
    }

    /// Writes what was handed over, then closes.
    pub(super) async fn finish(&self, limit: Duration) {
        self.state.lock().open = false;
        self.output_ready.notify_one();
        // What has not been written when the limit is over is lost.
        let _ = tokio::time::timeout(limit, self.wait_closed()).await;
        self.close();
    }

    async fn wait_closed(&self) {
        // The sender cannot be gone while `self` lives.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// Waits while as much output waits as may.
    async fn wait_for_room(&self) {
        loop {
            let mut room = pin!(self.room.notified());
            room.as_mut().enable();
            {
                let state = self.state.lock();
                if !state.open || state.output.len() < self.config.out_bytes_high {
                    return;
                }
            }
            room.await;
        }
    }

    fn append(&self, state: &mut State, command: &RemotingCommand, serialize: SerializeType) {
        let was_empty = state.output.is_empty();
        command.encode(serialize, &mut state.output);
        if was_empty {
            self.output_ready.notify_one();
        }
    }

    /// The task of the connection.
    async fn run(
        self: Arc<Self>,
        read_half: impl AsyncRead + Unpin,
        write_half: impl AsyncWrite + Unpin,
        handler: Option<Arc<dyn RequestHandler>>,
    ) {
        // Also when the runtime ends, while callers may live on in another.
        let _close = CloseOnDrop(&self);
        let ended = tokio::select! {
            ended = self.read(read_half, handler) => ended,
            ended = self.write(write_half) => ended.map_err(|error| error.to_string()),
            () = self.wait_closed() => Ok(()),
            () = self.wait_idle() => Ok(()),
        };
        if let Err(why) = ended {
            debug!(addr = %self.addr, why, "connection lost");
        }
    }

    /// Ends when the connection is finishing and everything is written.
    async fn write(&self, mut socket: impl AsyncWrite + Unpin) -> io::Result<()> {
        let mut batch = BytesMut::new();
        loop {
            let open = {
                let mut state = self.state.lock();
                std::mem::swap(&mut batch, &mut state.output);
                state.open
            };
            if batch.is_empty() {
                if !open {
                    return socket.shutdown().await;
                }
                self.output_ready.notified().await;
                continue;
            }
            self.room.notify_waiters();
            while !batch.is_empty() {
                let count = socket.write(&batch).await?;
                self.state.lock().last_sent = Instant::now();
                if count == batch.len() {
                    batch.clear();
                } else {
                    batch.advance(count);
                }
            }
            socket.flush().await?;
            if batch.capacity() > KEPT_BYTES_MAX {
                batch = BytesMut::new();
            }
        }
    }

    async fn read(
        self: &Arc<Self>,
        mut socket: impl AsyncRead + Unpin,
        handler: Option<Arc<dyn RequestHandler>>,
    ) -> Result<(), String> {
        let inbound = Arc::new(Semaphore::new(INBOUND_MAX));
        let mut input = BytesMut::new();
        loop {
            // Grows by what has arrived, whatever length a frame announces.
            input.reserve(READ_BYTES.max(input.len()));
            if socket.read_buf(&mut input).await.map_err(|error| error.to_string())? == 0 {
                return Ok(());
            }
            self.state.lock().last_received = Instant::now();
            while let Some((serialize, command)) = take_command(&mut input)? {
                if command.header.is_response() {
                    self.state.lock().calls.complete(command);
                } else if let Some(handler) = &handler {
                    let Ok(permit) = Arc::clone(&inbound).acquire_owned().await else {
                        return Ok(());
                    };
                    tokio::spawn(Arc::clone(self).answer(Arc::clone(handler), serialize, command, permit));
                }
            }
        }
    }

    /// Lets the handler answer a request of the server.
    async fn answer(
        self: Arc<Self>,
        handler: Arc<dyn RequestHandler>,
        serialize: SerializeType,
        request: RemotingCommand,
        _permit: OwnedSemaphorePermit,
    ) {
        let to = ReplyTo::of(&request.header, serialize, std::time::Instant::now());
        let Some(reply) = handler.handle(&self.addr, request).await else {
            return;
        };
        if let Some(reply) = to.address(reply) {
            self.wait_for_room().await;
            let mut state = self.state.lock();
            if state.open {
                self.append(&mut state, &reply, serialize);
            }
        }
    }

    /// Returns when no byte has moved for the idle timeout.
    async fn wait_idle(&self) {
        loop {
            let moved = {
                let state = self.state.lock();
                state.last_received.max(state.last_sent)
            };
            let until = moved + self.config.idle_timeout;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }

    fn error_closed(&self) -> CallError {
        CallError::Closed {
            addr: self.addr.to_string(),
        }
    }
}

struct CloseOnDrop<'a>(&'a ClientConnection);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// A registered call; giving it up takes it out of the table.
struct WaitingCall<'a> {
    connection: &'a ClientConnection,
    opaque: i32,
    response: oneshot::Receiver<RemotingCommand>,
}

impl WaitingCall<'_> {
    async fn response(mut self) -> Result<RemotingCommand, CallError> {
        (&mut self.response).await.map_err(|_| self.connection.error_closed())
    }
}

impl Drop for WaitingCall<'_> {
    fn drop(&mut self) {
        self.connection.state.lock().calls.forget(self.opaque);
    }
}

/// Cuts the first complete frame off the input.
fn take_command(input: &mut BytesMut) -> Result<Option<(SerializeType, RemotingCommand)>, String> {
    let Some((frame, frame_bytes)) = Frame::peek(input).map_err(|error| error.to_string())? else {
        return Ok(None);
    };
    let serialize = frame.serialize;
    let header = Header::decode(serialize, frame.header).map_err(|error| error.to_string())?;
    let body_at = frame_bytes - frame.body.len();
    // A large body keeps its place; a small one is copied, so that it does not keep the whole read buffer alive.
    let body = if frame.body.len() >= SHARED_BODY_BYTES_MIN {
        input.split_to(frame_bytes).freeze().slice(body_at..)
    } else {
        let body = Bytes::copy_from_slice(frame.body);
        input.advance(frame_bytes);
        body
    };
    Ok(Some((serialize, RemotingCommand { header, body })))
}
