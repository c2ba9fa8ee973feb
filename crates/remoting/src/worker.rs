//! One worker: a thread with a single-threaded runtime, its service and its connections.
//!
//! Order within a turn: the runtime's queue is first in, first out, and a poll of the sockets queues the tasks of all
//! connections that became ready. The first of them that has a frame queues the turn task, so it runs after all of
//! them: `on_turn_end`, then one write for each connection with output.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use hashbrown::HashMap;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tracing::{debug, info};

use crate::buffers::BufferPool;
use crate::connection::Connection;
use crate::log_limit::LogLimit;
use crate::reader;
use crate::server::ServerConfig;
use crate::service::{CloseReason, Service, ServiceFactory};
use crate::tls::ServerTls;

/// Mail of other threads that may wait for a worker.
pub(crate) const MAILBOX_MAX: usize = 16 * 1024;

/// How long a peer may take to notice that the server has stopped, after the last reply went out.
const LINGER: Duration = Duration::from_millis(200);
const SHUTDOWN_POLL_INTERVAL: Duration = Duration::from_millis(2);

/// What a service gets to know about its worker.
#[derive(Clone)]
pub struct WorkerContext {
    /// Position among the workers, from 0.
    pub id: usize,
    /// How many workers there are.
    pub workers: usize,
    /// Calls `on_wake` from any thread.
    pub waker: WorkerWaker,
    /// Calls `on_turn_end` from this thread.
    pub turn: TurnRequest,
}

/// Brings a worker to call [`Service::on_wake`], from any thread. Many wakes before it runs are one.
#[derive(Clone, Default)]
pub struct WorkerWaker(Arc<WakeState>);

#[derive(Default)]
struct WakeState {
    woken: AtomicBool,
    notify: Notify,
}

impl WorkerWaker {
    pub fn wake(&self) {
        if !self.0.woken.swap(true, Ordering::AcqRel) {
            self.0.notify.notify_one();
        }
    }

    async fn woken(&self) {
        self.0.notify.notified().await;
        self.0.woken.swap(false, Ordering::AcqRel);
    }
}

/// Asks for one more end of turn. Belongs to the worker's thread.
#[derive(Clone, Default)]
pub struct TurnRequest(Rc<TurnState>);

#[derive(Default)]
struct TurnState {
    requested: Cell<bool>,
    task: RefCell<Option<Waker>>,
}

impl TurnRequest {
    /// Calls [`Service::on_turn_end`] after the connections that are ready now.
    pub fn request_turn_end(&self) {
        if !self.0.requested.replace(true)
            && let Some(task) = &*self.0.task.borrow()
        {
            task.wake_by_ref();
        }
    }
}

/// What reaches a worker from other threads.
pub(crate) enum Mail {
    Adopt(std::net::TcpStream, SocketAddr),
    Connection(u64, ConnectionAction),
}

/// Done to a connection, if it still lives.
pub(crate) type ConnectionAction = Box<dyn FnOnce(&Rc<Connection>) + Send>;

/// How far the worker is with stopping.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Serving,
    /// Nothing is read any more; replies still go out.
    Draining,
    /// All replies are out; what peers still send is thrown away until they close.
    Lingering,
}

/// What the thread of a worker needs from the server.
pub(crate) struct WorkerSeed {
    pub(crate) id: usize,
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) factory: ServiceFactory,
    pub(crate) mailbox: mpsc::Sender<Mail>,
    pub(crate) mail: mpsc::Receiver<Mail>,
    /// Connections dealt to this worker and not yet ended.
    pub(crate) load: Arc<AtomicUsize>,
    pub(crate) violations: Arc<LogLimit>,
    pub(crate) tls: Option<Arc<ServerTls>>,
    /// The instant by which the worker must have stopped, once it shall.
    pub(crate) stop: watch::Receiver<Option<Instant>>,
}

pub(crate) struct Worker {
    pub(crate) id: usize,
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) mailbox: mpsc::Sender<Mail>,
    pub(crate) buffers: BufferPool,
    /// Read buffer of all connections; holds nothing between two reads.
    pub(crate) scratch: RefCell<Box<[u8]>>,
    /// Counts sweeps: a clock that costs nothing to read.
    pub(crate) tick: Cell<u32>,
    pub(crate) phase: Cell<Phase>,
    /// Output of all connections that the sockets have not taken.
    pub(crate) output_bytes: Cell<usize>,
    /// Unfinished frames of all connections.
    pub(crate) input_bytes: Cell<usize>,
    /// Where TLS is served.
    pub(crate) tls: Option<Arc<ServerTls>>,
    /// Connections whose handshakes can go on. Each step is a lot of arithmetic: one is made per turn.
    handshakes: RefCell<VecDeque<Rc<Connection>>>,
    handshake_waits: Notify,
    service: OnceCell<Rc<dyn Service>>,
    connections: RefCell<HashMap<u64, Rc<Connection>>>,
    dirty: RefCell<Vec<Rc<Connection>>>,
    in_turn: Cell<bool>,
    turn: TurnRequest,
    /// When the first frame of the present turn, or else of the last one, was read.
    pub(crate) turn_began: Cell<std::time::Instant>,
    has_begun: Cell<bool>,
    load: Arc<AtomicUsize>,
    violations: Arc<LogLimit>,
}

/// The thread of a worker.
pub(crate) fn run(seed: WorkerSeed) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .expect("a runtime needs a few file descriptors, which the server has reserved by binding first");
    runtime.block_on(serve(seed));
}

async fn serve(seed: WorkerSeed) {
    let WorkerSeed { mail, mut stop, .. } = seed;
    let waker = WorkerWaker::default();
    let worker = Rc::new(Worker {
        id: seed.id,
        mailbox: seed.mailbox,
        buffers: BufferPool::default(),
        scratch: RefCell::new(vec![0; seed.config.read_buffer_bytes].into_boxed_slice()),
        tick: Cell::new(0),
        phase: Cell::new(Phase::Serving),
        output_bytes: Cell::new(0),
        input_bytes: Cell::new(0),
        tls: seed.tls,
        handshakes: RefCell::default(),
        handshake_waits: Notify::new(),
        service: OnceCell::new(),
        connections: RefCell::default(),
        dirty: RefCell::default(),
        in_turn: Cell::new(false),
        turn: TurnRequest::default(),
        turn_began: Cell::new(std::time::Instant::now()),
        has_begun: Cell::new(false),
        load: seed.load,
        violations: seed.violations,
        config: seed.config,
    });
    let service = (seed.factory)(WorkerContext {
        id: worker.id,
        workers: worker.config.workers,
        waker: waker.clone(),
        turn: worker.turn.clone(),
    });
    worker.service.get_or_init(|| service);

    tokio::task::spawn_local(deliver_mail(Rc::clone(&worker), mail));
    tokio::task::spawn_local(sweep(Rc::clone(&worker)));
    if worker.tls.is_some() {
        tokio::task::spawn_local(pace_handshakes(Rc::clone(&worker)));
    }
    let turns = tokio::task::spawn_local(end_turns(Rc::clone(&worker)));
    let wakes = tokio::task::spawn_local(pass_wakes(Rc::clone(&worker), waker));
    tokio::select! {
        // An error means that the server's handle is gone, which stops the server as well.
        _ = stop.wait_for(Option::is_some) => {}
        // These tasks end by a panic of the service only. Its state can no longer be trusted: the worker ends too.
        Err(panic) = turns => std::panic::resume_unwind(panic.into_panic()),
        Err(panic) = wakes => std::panic::resume_unwind(panic.into_panic()),
    }
    let deadline = stop.borrow().unwrap_or_else(Instant::now);
    worker.drain(deadline).await;
}

async fn end_turns(worker: Rc<Worker>) {
    poll_fn(|cx| -> Poll<()> {
        if worker.turn.0.task.borrow().is_none() {
            *worker.turn.0.task.borrow_mut() = Some(cx.waker().clone());
        }
        if worker.turn.0.requested.replace(false) {
            worker.end_turn();
        }
        Poll::Pending
    })
    .await;
}

async fn pass_wakes(worker: Rc<Worker>, waker: WorkerWaker) {
    loop {
        waker.woken().await;
        worker.service().on_wake();
        worker.turn.request_turn_end();
    }
}

async fn deliver_mail(worker: Rc<Worker>, mut mail: mpsc::Receiver<Mail>) {
    while let Some(mail) = mail.recv().await {
        match mail {
            Mail::Adopt(stream, peer_addr) => worker.adopt(stream, peer_addr),
            Mail::Connection(id, action) => {
                let connection = worker.connections.borrow().get(&id).cloned();
                if let Some(connection) = connection {
                    action(&connection);
                }
            }
        }
    }
}

/// Lets one handshake go on, then everything else that is ready, then the next one.
async fn pace_handshakes(worker: Rc<Worker>) {
    loop {
        let next = worker.handshakes.borrow_mut().pop_front();
        match next {
            Some(connection) => {
                connection.grant_handshake();
                tokio::task::yield_now().await;
            }
            None => worker.handshake_waits.notified().await,
        }
    }
}

/// Closes connections on which no byte has moved for the idle timeout, or whose handshake takes too long.
async fn sweep(worker: Rc<Worker>) {
    let idle_ms = worker.config.idle_timeout_ms.max(1);
    let handshake_ms = worker.config.handshake_timeout_ms.max(1);
    let shortest_ms = if worker.tls.is_some() {
        idle_ms.min(handshake_ms)
    } else {
        idle_ms
    };
    let interval_ms = (shortest_ms / 8).clamp(1, 5_000);
    let ticks = |timeout: u64| u32::try_from(timeout.div_ceil(interval_ms)).unwrap_or(u32::MAX);
    let (idle_ticks, handshake_ticks) = (ticks(idle_ms), ticks(handshake_ms));
    loop {
        tokio::time::sleep(Duration::from_millis(interval_ms)).await;
        worker.tick.update(|tick| tick.wrapping_add(1));
        for connection in worker.connections.borrow().values() {
            if connection.idle_ticks() > idle_ticks {
                connection.begin_close(CloseReason::Idle);
            }
            if connection.handshake_ticks() > handshake_ticks {
                connection.begin_close(CloseReason::Tls("the handshake took too long".into()));
            }
        }
    }
}

impl Worker {
    pub(crate) fn service(&self) -> &Rc<dyn Service> {
        self.service
            .get()
            .expect("the service is made before the first connection")
    }

    /// Frames are there to be handed over.
    pub(crate) fn begin_turn(&self) {
        if !self.has_begun.replace(true) {
            self.turn_began.set(std::time::Instant::now());
        }
        self.turn.request_turn_end();
    }

    pub(crate) fn push_dirty(&self, connection: Rc<Connection>) {
        self.dirty.borrow_mut().push(connection);
        if !self.in_turn.get() {
            self.turn.request_turn_end();
        }
    }

    /// The connection is woken when its handshake may go on.
    pub(crate) fn queue_handshake(&self, connection: Rc<Connection>) {
        self.handshakes.borrow_mut().push_back(connection);
        self.handshake_waits.notify_one();
    }

    fn end_turn(&self) {
        self.in_turn.set(true);
        self.has_begun.set(false);
        self.service().on_turn_end();
        let mut dirty = self.dirty.take();
        for connection in dirty.drain(..) {
            connection.flush_dirty();
        }
        // Nothing was added meanwhile: flushing calls no service. The list is kept for its memory.
        self.dirty.replace(dirty);
        self.in_turn.set(false);
    }

    fn adopt(self: &Rc<Self>, stream: std::net::TcpStream, peer_addr: SocketAddr) {
        let adopted = TcpStream::from_std(stream)
            .and_then(|stream| Connection::new(Rc::clone(self), stream, peer_addr))
            .inspect_err(|error| debug!(%peer_addr, %error, "connection lost before it began"));
        let (Ok(connection), Phase::Serving) = (adopted, self.phase.get()) else {
            self.load.fetch_sub(1, Ordering::Relaxed);
            return;
        };
        self.connections
            .borrow_mut()
            .insert(connection.id(), Rc::clone(&connection));
        self.service().on_open(&connection);
        tokio::task::spawn_local(reader::run(connection));
    }

    /// The connection's task has ended, by itself or by a panic.
    pub(crate) fn finish(&self, connection: &Rc<Connection>) {
        connection.release();
        self.connections.borrow_mut().remove(&connection.id());
        self.load.fetch_sub(1, Ordering::Relaxed);
        if let Some(reason) = connection.close_reason() {
            if reason.is_violation()
                && let Some(suppressed) = self.violations.admit()
            {
                info!(peer = %connection.peer_addr(), %reason, suppressed, "connection closed");
            } else {
                debug!(peer = %connection.peer_addr(), %reason, "connection closed");
            }
        }
        self.service().on_close(connection);
    }

    async fn drain(&self, deadline: Instant) {
        self.enter(Phase::Draining);
        self.service().on_shutdown();
        self.turn.request_turn_end();
        let is_written =
            || self.output_bytes.get() == 0 && !self.connections.borrow().values().any(|one| one.is_blocked());
        let quiet = || self.service().in_flight() == 0 && !self.turn.0.requested.get() && is_written();
        wait_until(deadline, quiet).await;
        self.enter(Phase::Lingering);
        for connection in self.connections.borrow().values() {
            connection.shutdown_write();
        }
        let all_gone = || self.connections.borrow().is_empty();
        wait_until(deadline.min(Instant::now() + LINGER), all_gone).await;
        for connection in self.connections.borrow().values() {
            connection.begin_close(CloseReason::Shutdown);
        }
        wait_until(Instant::now() + LINGER, all_gone).await;
    }

    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        for connection in self.connections.borrow().values() {
            connection.wake_task();
        }
    }
}

async fn wait_until(deadline: Instant, condition: impl Fn() -> bool) {
    while !condition() && Instant::now() < deadline {
        tokio::time::sleep(SHUTDOWN_POLL_INTERVAL).await;
    }
}
