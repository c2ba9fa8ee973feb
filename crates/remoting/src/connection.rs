//! One accepted connection: its output, its calls to the peer, and its end.
//!
//! A connection belongs to the thread of its worker. Output collects in a buffer and leaves in one write at the end of
//! the turn; what the socket does not take then waits until it is writable. Above
//! [`ServerConfig::out_bytes_high`](crate::ServerConfig::out_bytes_high) waiting bytes the connection is congested and
//! its socket is not read.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use oxmq_protocol::{RemotingCommand, SerializeType};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use crate::error::CallError;
use crate::pending::PendingCalls;
use crate::service::CloseReason;
use crate::stream::{HandshakeTurn, Stream};
use crate::worker::{Mail, Worker};

/// Calls of the server that may wait for one peer, as many as in Java's servers and clients together.
const CALLS_MAX: usize = 320;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// The server's side of one TCP connection.
pub struct Connection {
    id: u64,
    peer_addr: SocketAddr,
    local_addr: SocketAddr,
    worker: Rc<Worker>,
    /// Gone once the connection has ended, while others may still hold the connection.
    stream: RefCell<Option<Stream>>,
    output: RefCell<BytesMut>,
    /// Stands in the worker's list of connections to flush.
    dirty: Cell<bool>,
    /// The socket took less than there was; the connection's task waits until it is writable.
    blocked: Cell<bool>,
    /// The socket takes no more output; what is written is thrown away.
    deaf: Cell<bool>,
    /// The connection's task stopped reading because of congestion.
    paused: Cell<bool>,
    /// Requests that were taken and will be answered later, and what their answers are expected to take.
    in_flight: Cell<usize>,
    expected_bytes: Cell<usize>,
    closing: RefCell<Option<CloseReason>>,
    /// The worker's tick in which bytes last moved.
    active_tick: Cell<u32>,
    handshake_turn: Cell<HandshakeTurn>,
    task: RefCell<Option<Waker>>,
    calls: RefCell<PendingCalls>,
}

impl Connection {
    pub(crate) fn new(worker: Rc<Worker>, stream: TcpStream, peer_addr: SocketAddr) -> io::Result<Rc<Connection>> {
        let local_addr = stream.local_addr()?;
        let active_tick = Cell::new(worker.tick.get());
        Ok(Rc::new(Connection {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            peer_addr,
            local_addr,
            stream: RefCell::new(Some(Stream::new(stream, worker.tls.as_ref()))),
            worker,
            output: RefCell::default(),
            dirty: Cell::new(false),
            blocked: Cell::new(false),
            deaf: Cell::new(false),
            paused: Cell::new(false),
            in_flight: Cell::new(0),
            expected_bytes: Cell::new(0),
            closing: RefCell::new(None),
            active_tick,
            handshake_turn: Cell::default(),
            task: RefCell::new(None),
            calls: RefCell::new(PendingCalls::new(CALLS_MAX)),
        }))
    }

    /// Unique in this process.
    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn peer_addr(&self) -> SocketAddr {
        self.peer_addr
    }

    /// The address the peer connected to, which tells the listeners apart.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Appends whole frames to the output. They leave at the end of the turn. `fill` is not called when the connection
    /// has ended, and must not use this connection.
    pub fn write(self: &Rc<Self>, fill: impl FnOnce(&mut BytesMut)) {
        if !self.takes_output() {
            return;
        }
        let mut output = self.output.borrow_mut();
        if output.capacity() == 0 {
            *output = self.worker.buffers.take();
        }
        let before = output.len();
        fill(&mut output);
        self.worker
            .output_bytes
            .update(|bytes| bytes + output.len().saturating_sub(before));
        if !self.dirty.replace(true) {
            self.worker.push_dirty(Rc::clone(self));
        }
    }

    /// Writes a command as it is.
    pub fn send(self: &Rc<Self>, command: &RemotingCommand, serialize: SerializeType) {
        self.write(|out| command.encode(serialize, out));
    }

    /// The peer reads too slowly or has too many requests under way. What is answered from events rather than from its
    /// frames (long polls) should wait: its socket is not read until this is over, but `write` never refuses.
    pub fn is_congested(&self) -> bool {
        let waiting = self.output_bytes();
        let config = &self.worker.config;
        waiting + self.expected_bytes.get() >= config.out_bytes_high
            || (waiting > 0 && self.worker.output_bytes.get() >= config.worker_out_bytes_high)
            || self.in_flight.get() >= config.in_flight_max
    }

    /// Counts a request as under way until the guard is dropped, and so many bytes as already written: a peer that asks
    /// for much and reads nothing is not read from before the answers are there.
    pub fn begin_request(self: &Rc<Self>, expected_bytes: usize) -> RequestGuard {
        self.in_flight.update(|count| count + 1);
        self.expected_bytes.update(|bytes| bytes + expected_bytes);
        RequestGuard {
            connection: Rc::clone(self),
            expected_bytes,
        }
    }

    /// Bytes written but not yet taken by the socket.
    pub fn output_bytes(&self) -> usize {
        self.output.borrow().len()
    }

    /// When the present turn began: the time at which its requests came.
    pub fn received(&self) -> Instant {
        self.worker.turn_began.get()
    }

    pub fn is_closed(&self) -> bool {
        self.closing.borrow().is_some()
    }

    /// Ends the connection now; output that the socket has not taken is lost.
    pub fn close(&self) {
        self.begin_close(CloseReason::Local);
    }

    /// A response has come from the peer: hands it to the [`call`](Connection::call) that waits for it.
    pub fn complete(&self, response: RemotingCommand) {
        self.calls.borrow_mut().complete(response);
    }

    /// Sends a request to the peer and waits for its response, whatever its code.
    pub async fn call(
        self: &Rc<Self>,
        mut request: RemotingCommand,
        timeout: Duration,
    ) -> Result<RemotingCommand, CallError> {
        if self.is_closed() {
            return Err(self.closed());
        }
        let registered = self.calls.borrow_mut().register();
        let (opaque, response) = registered.ok_or_else(|| CallError::Busy {
            addr: self.peer_addr.to_string(),
        })?;
        request.header.opaque = opaque;
        self.send(&request, SerializeType::Json);
        match tokio::time::timeout(timeout, response).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(_)) => Err(self.closed()),
            Err(_) => {
                self.calls.borrow_mut().forget(opaque);
                Err(CallError::Timeout {
                    addr: self.peer_addr.to_string(),
                    millis: timeout.as_millis() as u64,
                })
            }
        }
    }

    /// Sends a request that is not answered.
    pub fn oneway(self: &Rc<Self>, mut request: RemotingCommand) {
        request.header.mark_oneway();
        request.header.opaque = self.calls.borrow_mut().next_opaque();
        self.send(&request, SerializeType::Json);
    }

    /// A way to reach this connection from other threads.
    pub fn handle(&self) -> ConnectionHandle {
        ConnectionHandle {
            id: self.id,
            peer_addr: self.peer_addr,
            worker: self.worker.id,
            mailbox: self.worker.mailbox.clone(),
        }
    }

    fn closed(&self) -> CallError {
        CallError::Closed {
            addr: self.peer_addr.to_string(),
        }
    }
}

/// What the worker and the connection's task do with it.
impl Connection {
    pub(crate) fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    /// False once the connection has ended, or its peer reads no more.
    pub fn takes_output(&self) -> bool {
        !self.is_closed() && !self.deaf.get()
    }

    pub(crate) fn stream(&self) -> &RefCell<Option<Stream>> {
        &self.stream
    }

    pub(crate) fn handshake_turn(&self) -> &Cell<HandshakeTurn> {
        &self.handshake_turn
    }

    pub(crate) fn grant_handshake(&self) {
        self.handshake_turn.set(HandshakeTurn::Granted);
        self.wake_task();
    }

    /// How long its handshake takes already; 0 if there is none.
    pub(crate) fn handshake_ticks(&self) -> u32 {
        let since = self.stream.borrow().as_ref().and_then(Stream::handshake_since);
        since.map_or(0, |tick| self.worker.tick.get().wrapping_sub(tick))
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked.get()
    }

    pub(crate) fn begin_close(&self, reason: CloseReason) {
        self.closing.borrow_mut().get_or_insert(reason);
        self.wake_task();
    }

    pub(crate) fn close_reason(&self) -> Option<CloseReason> {
        self.closing.borrow().clone()
    }

    pub(crate) fn set_task(&self, waker: &Waker) {
        let mut task = self.task.borrow_mut();
        if task.is_none() {
            *task = Some(waker.clone());
        }
    }

    pub(crate) fn wake_task(&self) {
        if let Some(task) = &*self.task.borrow() {
            task.wake_by_ref();
        }
    }

    pub(crate) fn mark_active(&self) {
        self.active_tick.set(self.worker.tick.get());
    }

    pub(crate) fn idle_ticks(&self) -> u32 {
        self.worker.tick.get().wrapping_sub(self.active_tick.get())
    }

    /// The task stops reading; it is woken when the output has drained.
    pub(crate) fn pause(&self) {
        self.paused.set(true);
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.get()
    }

    /// The write of the end of a turn. If the socket does not take all, the connection's task is woken to wait for it.
    pub(crate) fn flush_dirty(&self) {
        self.dirty.set(false);
        if !self.blocked.get() && self.flush() {
            self.blocked.set(true);
            self.wake_task();
        }
    }

    /// Part of the connection's task: if the socket was full, writes on as soon as it is writable.
    pub(crate) fn poll_blocked(&self, cx: &mut Context<'_>) -> Poll<()> {
        while self.blocked.get() {
            let writable = match &*self.stream.borrow() {
                Some(stream) => ready!(stream.tcp().poll_write_ready(cx)),
                None => return Poll::Ready(()),
            };
            match writable {
                Ok(()) => self.blocked.set(self.flush()),
                Err(_) => {
                    self.blocked.set(false);
                    self.give_up_output();
                }
            }
        }
        Poll::Ready(())
    }

    /// Reading has made something to write, which is not output of the service: handshakes, alerts.
    pub(crate) fn flush_records(&self, cx: &mut Context<'_>) {
        if !self.blocked.get() && !self.deaf.get() && self.flush() {
            self.blocked.set(true);
            // Registers the task; it goes on from there.
            let _: Poll<()> = self.poll_blocked(cx);
        }
    }

    /// Writes as much as the socket takes; whether it is full.
    fn flush(&self) -> bool {
        let mut stream = self.stream.borrow_mut();
        let Some(stream) = &mut *stream else { return false };
        let mut output = self.output.borrow_mut();
        let before = output.len();
        let (mut full, mut failed) = (false, false);
        while !output.is_empty() || stream.wants_write() {
            match stream.try_write(&output) {
                // Not `advance`, which would lose the front of the buffer.
                Ok(count) if count == output.len() => output.clear(),
                Ok(count) => output.advance(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    full = true;
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    failed = true;
                    break;
                }
            }
        }
        let written = before - output.len();
        if written > 0 {
            self.mark_active();
            self.worker.output_bytes.update(|bytes| bytes - written);
        }
        if output.is_empty() {
            self.worker.buffers.give_back(std::mem::take(&mut *output));
        }
        drop(output);
        if failed {
            self.give_up_output();
        } else {
            self.resume_if_drained();
        }
        full
    }

    /// The peer takes nothing any more. What it sent before it went (a consumer's last offsets) is read on, to its end
    /// or to the error that ended the connection.
    fn give_up_output(&self) {
        self.deaf.set(true);
        self.drop_output();
        self.resume_if_drained();
    }

    fn drop_output(&self) {
        let output = std::mem::take(&mut *self.output.borrow_mut());
        self.worker.output_bytes.update(|bytes| bytes - output.len());
        self.worker.buffers.give_back(output);
    }

    fn resume_if_drained(&self) {
        let config = &self.worker.config;
        if self.paused.get()
            && self.output_bytes() + self.expected_bytes.get() <= config.out_bytes_high / 2
            && self.in_flight.get() <= config.in_flight_max / 2
        {
            self.paused.set(false);
            self.wake_task();
        }
    }

    /// Tells the peer that nothing more will come.
    pub(crate) fn shutdown_write(&self) {
        if let Some(stream) = &mut *self.stream.borrow_mut() {
            stream.shutdown_write();
        }
    }

    /// Releases the socket and everything it held. The reason stays readable.
    pub(crate) fn release(&self) {
        self.begin_close(CloseReason::Local);
        if let Some(mut stream) = self.stream.borrow_mut().take() {
            stream.close_notify();
        }
        self.task.borrow_mut().take();
        self.calls.borrow_mut().fail_all();
        self.drop_output();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection {} from {}", self.id, self.peer_addr)
    }
}

/// A request that is under way on a connection.
pub struct RequestGuard {
    connection: Rc<Connection>,
    expected_bytes: usize,
}

impl RequestGuard {
    pub fn connection(&self) -> &Rc<Connection> {
        &self.connection
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        let connection = &self.connection;
        connection.in_flight.update(|count| count - 1);
        connection.expected_bytes.update(|bytes| bytes - self.expected_bytes);
        connection.resume_if_drained();
    }
}

/// A connection as other threads know it. It may have ended; then calls fail and one-way requests are dropped.
#[derive(Clone)]
pub struct ConnectionHandle {
    id: u64,
    peer_addr: SocketAddr,
    worker: usize,
    mailbox: mpsc::Sender<Mail>,
}

impl ConnectionHandle {
    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn peer_addr(&self) -> SocketAddr {
        self.peer_addr
    }

    /// The worker on which the connection lives.
    pub fn worker(&self) -> usize {
        self.worker
    }

    pub fn oneway(&self, request: RemotingCommand) -> Result<(), CallError> {
        self.post(move |connection| connection.oneway(request))
    }

    /// See [`Connection::call`].
    pub async fn call(&self, request: RemotingCommand, timeout: Duration) -> Result<RemotingCommand, CallError> {
        let (sender, result) = oneshot::channel();
        self.post(move |connection| {
            let connection = Rc::clone(connection);
            tokio::task::spawn_local(async move {
                // The caller may have given up.
                let _ = sender.send(connection.call(request, timeout).await);
            });
        })?;
        result.await.unwrap_or_else(|_| {
            Err(CallError::Closed {
                addr: self.peer_addr.to_string(),
            })
        })
    }

    pub fn close(&self) -> Result<(), CallError> {
        self.post(|connection| connection.close())
    }

    fn post(&self, action: impl FnOnce(&Rc<Connection>) + Send + 'static) -> Result<(), CallError> {
        let addr = || self.peer_addr.to_string();
        let mail = Mail::Connection(self.id, Box::new(action));
        self.mailbox.try_send(mail).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => CallError::Busy { addr: addr() },
            mpsc::error::TrySendError::Closed(_) => CallError::Closed { addr: addr() },
        })
    }
}

impl fmt::Debug for ConnectionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection {} from {}", self.id, self.peer_addr)
    }
}
