//! The hot path of one worker thread: frames in, one append per turn, replies out.
//!
//! Sends are checked and encoded as their frames come, into one batch; the end of the turn appends the batch and writes
//! the replies, or with SYNC_FLUSH keeps them until the disk has the batch. Pulls are answered at once from memory or
//! the page cache, else they wait for messages ([`crate::long_polling`]) or for a read thread
//! ([`crate::read_threads`]). All other requests go to the handlers. Nothing here blocks.

mod acks;
mod answers;
mod commands;
mod duplicates;
mod loads;
mod notifications;
mod part_pulls;
mod pops;
mod pulls;
mod reply_messages;
mod sends;
mod throttle;
mod transactions;

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use oxmq_protocol::Frame;
use oxmq_protocol::RemotingCommand;
use oxmq_protocol::requests::EndTransactionHeader;
use oxmq_protocol::scan::{ScannedHeader, ScannedRequest, Unscanned, scan, scan_fields};
use oxmq_remoting::{CloseReason, Connection, ReplyTo, RequestGuard, Service, TurnRequest, WorkerContext};
use slab::Slab;
use tokio::time::Instant;

use crate::access::Gate;
use crate::access::request::SignedRequest;
use crate::broker::Broker;
use crate::flush_queue::FlushQueue;
use crate::handlers::{RequestContext, heartbeat};
use crate::long_polling::WaitingPulls;
use crate::mailbox::{Mailbox, Mailboxes};
use crate::metrics::RpcLatencies;
use crate::pop::Pop;
use crate::pull::{Pull, PullRequest};
use crate::read_threads::ReadQueue;
use crate::reply::Replies;
use crate::send::{SendRequest, SendStage, Staged};
use crate::slow_requests::{About, Names};
use crate::topic_cache::{TopicCache, TopicState};
use crate::transactions::end::Outcome;
use transactions::StagedEnd;

/// What a request that is with the read threads is expected to bring: a consumer that does not read cannot ask for any
/// number of cold messages.
const AWAY_REPLY_BYTES: usize = 64 * 1024;

/// What a worker shares with its broker.
#[derive(Clone)]
pub(crate) struct WorkerSeed {
    pub(crate) broker: Arc<Broker>,
    pub(crate) mailboxes: Arc<Mailboxes>,
    pub(crate) read_queue: ReadQueue,
    /// Pulls are served on this port only.
    pub(crate) main_port: u16,
}

pub(crate) struct Worker {
    this: Weak<Worker>,
    broker: Arc<Broker>,
    mailboxes: Arc<Mailboxes>,
    read_queue: ReadQueue,
    main_port: u16,
    /// Nothing while access is not controlled.
    gate: Option<Gate>,
    id: usize,
    turn: TurnRequest,
    started: Instant,
    replies: Replies,
    rpc: Option<Arc<RpcLatencies>>,
    slow_away: RefCell<Vec<answers::SlowAway>>,
    topics: TopicCache,
    stage: RefCell<SendStage>,
    staged: RefCell<Vec<StagedSend>>,
    /// Transactions that end with the batch.
    ends: RefCell<Vec<StagedEnd>>,
    /// Properties of the request that is being read.
    scratch: RefCell<BytesMut>,
    flushes: RefCell<FlushQueue>,
    waiting: RefCell<WaitingPulls<WaitingPull>>,
    pops: pops::Pops,
    /// Requests that are beyond a quota.
    throttle: throttle::Throttle,
    /// Requests whose work is with the read threads.
    away: RefCell<Slab<Away>>,
    /// Requests that a task will answer.
    later: Rc<Cell<usize>>,
    /// When the timer that is set will fire.
    timer_ms: Cell<Option<u64>>,
    /// The server stops: nothing may wait any more.
    stopping: Cell<bool>,
}

struct StagedSend {
    connection: Rc<Connection>,
    to: ReplyTo,
    staged: Staged,
    topic: Rc<TopicState>,
    /// The topic came into being with this send.
    creates_topic: bool,
}

struct WaitingPull {
    connection: Rc<Connection>,
    pull: Pull,
    /// Everything before this was looked at and did not match.
    looked_until: i64,
}

enum Away {
    Pull(RequestGuard, Pull),
    Pop(RequestGuard, ReplyTo, Rc<Pop>),
    Command(RequestGuard, ReplyTo, Box<Names>),
    End(RequestGuard, ReplyTo, EndTransactionHeader, Outcome),
    Kept(loads::Kept),
}

/// The reply to a send that created its topic. It leaves when the topic is saved and the name servers know of it.
struct HeldReply {
    to: ReplyTo,
    bytes: BytesMut,
    /// What the disk must have before, with SYNC_FLUSH.
    flushed: Option<i64>,
}

impl Service for Worker {
    fn on_frame(&self, connection: &Rc<Connection>, frame: Frame<'_>) -> Result<(), CloseReason> {
        match &self.gate {
            None => self.take(connection, frame, scan(frame.serialize, frame.header)),
            Some(gate) => self.pass(gate, connection, frame),
        }
    }

    fn on_turn_end(&self) {
        self.release_held();
        self.append();
        self.look_into_mailbox();
        self.serve_wanted();
        self.append_pops();
        self.slow_away.borrow_mut().clear();
    }

    fn on_wake(&self) {
        self.look_into_mailbox();
        self.serve_wanted();
        self.append_pops();
        self.slow_away.borrow_mut().clear();
    }

    fn on_reply(&self, connection: &Connection, to: &ReplyTo, code: i32, taken: bool) {
        self.note_answer(connection, to, code, taken, 1, About::default());
    }

    fn on_close(&self, connection: &Rc<Connection>) {
        self.waiting.borrow_mut().drop_connection(connection.id());
        self.forget_pops_of(connection.id());
        if let Some(gate) = &self.gate {
            gate.on_close(connection.id());
        }
        self.throttle.forget(connection.id());
        heartbeat::on_close(&self.broker, connection.id());
    }

    fn on_shutdown(&self) {
        self.stopping.set(true);
        self.release_held();
        self.append();
        let waiting = self.waiting.borrow_mut().take_all();
        for pull in waiting {
            self.answer_now(pull);
        }
        self.append_pops();
        self.end_waiting_pops();
    }

    fn in_flight(&self) -> usize {
        self.staged.borrow().len()
            + self.ends.borrow().len()
            + self.flushes.borrow().len()
            + self.away.borrow().len()
            + self.later.get()
            + self.pops.in_flight()
            + self.throttle.in_flight()
    }
}

impl Worker {
    pub(crate) fn start(seed: WorkerSeed, context: WorkerContext) -> Rc<Worker> {
        seed.mailboxes.open(context.id, context.waker);
        let config = seed.broker.config();
        let replies = Replies::new(&config.region_id, config.trace_on, seed.broker.store_host);
        drop(config);
        let rpc = seed.broker.metrics.as_ref().and_then(|metrics| metrics.rpc(context.id));
        let gate = Gate::of(&seed.broker, seed.mailboxes.workers());
        Rc::new_cyclic(|this| Worker {
            this: this.clone(),
            broker: seed.broker,
            mailboxes: seed.mailboxes,
            read_queue: seed.read_queue,
            main_port: seed.main_port,
            gate,
            id: context.id,
            turn: context.turn,
            started: Instant::now(),
            replies,
            rpc,
            slow_away: RefCell::default(),
            topics: TopicCache::default(),
            stage: RefCell::default(),
            staged: RefCell::default(),
            ends: RefCell::default(),
            scratch: RefCell::default(),
            flushes: RefCell::default(),
            waiting: RefCell::new(WaitingPulls::new(context.id)),
            pops: pops::Pops::new(context.id),
            throttle: throttle::Throttle::default(),
            away: RefCell::default(),
            later: Rc::default(),
            timer_ms: Cell::new(None),
            stopping: Cell::new(false),
        })
    }

    /// Serves a frame if access control lets it pass.
    fn pass(&self, gate: &Gate, connection: &Rc<Connection>, frame: Frame<'_>) -> Result<(), CloseReason> {
        if let Ok(scanned) = scan_fields(frame.serialize, frame.header) {
            let admitted = match scanned.is_response() {
                true => Ok(()),
                false => gate.admit(connection, &SignedRequest::of_scanned(&scanned), frame.body),
            };
            return match admitted {
                Ok(()) => self.take(connection, frame, scanned.header()),
                Err(refusal) => {
                    let to = ReplyTo {
                        code: scanned.code(),
                        opaque: scanned.opaque(),
                        serialize: frame.serialize,
                        oneway: scanned.is_oneway(),
                        received: connection.received(),
                        suspended: false,
                    };
                    connection.reply(to, refusal.into_command(to.opaque));
                    Ok(())
                }
            };
        }
        let RemotingCommand { header, .. } = RemotingCommand::decode(frame)?;
        if !header.is_response()
            && let Err(refusal) = gate.admit(connection, &SignedRequest::of_header(&header), frame.body)
        {
            let to = ReplyTo::of(&header, frame.serialize, connection.received());
            connection.reply(to, refusal.into_command(to.opaque));
            return Ok(());
        }
        self.take(connection, frame, Err(Unscanned))
    }

    #[inline(always)]
    fn take(
        &self,
        connection: &Rc<Connection>,
        frame: Frame<'_>,
        header: Result<ScannedHeader<'_>, Unscanned>,
    ) -> Result<(), CloseReason> {
        match header {
            Ok(header) if !header.is_response() => {
                let to = ReplyTo {
                    code: header.code,
                    opaque: header.opaque,
                    serialize: frame.serialize,
                    oneway: header.is_oneway(),
                    received: connection.received(),
                    suspended: false,
                };
                match header.request {
                    ScannedRequest::Send(send) => {
                        let mut scratch = self.scratch.borrow_mut();
                        let Some(request) = SendRequest::of_scanned(&send, &mut scratch) else {
                            return self.command(connection, frame);
                        };
                        if self.hold_send(connection, to, &frame, &request)
                            || self.load_first(connection, to, &frame, request.topic, request.queue_id)
                        {
                            return Ok(());
                        }
                        self.send(connection, to, header.version, &request, frame.body);
                    }
                    ScannedRequest::Pull(pull) => {
                        let request = PullRequest::new(to.code, &pull);
                        if !self.load_first(connection, to, &frame, request.topic.as_bytes(), request.queue_id) {
                            self.pull(connection, to, &request);
                        }
                    }
                }
                Ok(())
            }
            _ => self.command(connection, frame),
        }
    }

    fn mailbox(&self) -> &Mailbox {
        self.mailboxes.of(self.id)
    }

    fn context<'a>(&'a self, connection: &'a Rc<Connection>) -> RequestContext<'a> {
        RequestContext {
            broker: &self.broker,
            connection,
        }
    }

    /// Milliseconds since this worker started: the clock of deadlines.
    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// News for what waits here. What comes while it is being served is for the next turn.
    fn look_into_mailbox(&self) {
        let mailbox = self.mailbox();
        self.mailboxes.answer_ping(self.id);
        self.release_flushed();
        if self.broker.mailboxes().has_failed() {
            self.flush_times_out(u64::MAX);
        }
        for (ticket, done, times) in mailbox.take_done() {
            self.came_back(ticket, done, times);
        }
        for queue in mailbox.take_arrived() {
            self.arrived(&queue);
            self.arrived_for_pops(&queue);
        }
    }

    /// Makes sure that [`Worker::on_time`] runs at `at_ms` or earlier.
    fn set_timer(&self, at_ms: u64) {
        if self.timer_ms.get().is_some_and(|set| set <= at_ms) {
            return;
        }
        self.timer_ms.set(Some(at_ms));
        let at = self.started + Duration::from_millis(at_ms);
        let this = self.this.clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep_until(at).await;
            if let Some(worker) = this.upgrade() {
                worker.on_time(at_ms);
            }
        });
    }

    /// Answers whose time is over, and the timer for the next ones.
    fn on_time(&self, at_ms: u64) {
        if self.timer_ms.get() != Some(at_ms) {
            return; // An earlier timer was set meanwhile, and it has set another.
        }
        self.timer_ms.set(None);
        let now_ms = self.now_ms();
        let expired = self.waiting.borrow_mut().take_expired(now_ms);
        for pull in expired {
            self.answer_now(pull);
        }
        self.on_pop_time(now_ms);
        self.release_held();
        self.flush_times_out(now_ms);
        let next_flush = self.flushes.borrow().next_deadline_ms();
        let next_pull = self.waiting.borrow().next_deadline_ms();
        let next_pop = self.pops.next_time_ms();
        let next_held = self.throttle.next_time_ms();
        let next = next_flush
            .into_iter()
            .chain(next_pull)
            .chain(next_pop)
            .chain(next_held)
            .min();
        if let Some(next) = next {
            self.set_timer(next);
        }
        self.turn.request_turn_end();
    }
}
