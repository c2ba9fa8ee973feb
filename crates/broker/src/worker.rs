//! The hot path of one worker thread: frames in, one append per turn, replies out.
//!
//! Sends are checked and encoded as their frames come, into one batch; the end of the turn appends the batch and writes
//! the replies, or with SYNC_FLUSH keeps them until the disk has the batch. Pulls are answered at once from memory or
//! the page cache, else they wait for messages ([`crate::long_polling`]) or for a read thread
//! ([`crate::read_threads`]). All other requests go to the handlers. Nothing here blocks.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use oxmq_protocol::requests::{PullMessageHeader, SendMessageHeader, SendMessageHeaderV2};
use oxmq_protocol::scan::{ScannedRequest, scan};
use oxmq_protocol::{FieldSet, Frame, RemotingCommand, RequestCode, response_code};
use oxmq_remoting::{CloseReason, Connection, ReplyTo, Service, TurnRequest, WorkerContext};
use oxmq_store::{AppendBatch, ConsumeQueue, GetError, GetMessages, GetStatus, Wait};
use slab::Slab;
use tokio::time::Instant;

use crate::broker::Broker;
use crate::config::FlushDiskType;
use crate::flush_queue::FlushQueue;
use crate::handlers::{self, Outcome, RequestContext, heartbeat};
use crate::long_polling::WaitingPulls;
use crate::mailbox::{Mailbox, Mailboxes};
use crate::pull::{Consumer, Pull, PullError, PullReply, PullRequest};
use crate::read_threads::{Done, ReadQueue, Work};
use crate::reply::{self, Replies, SendReply};
use crate::response::{OVERLOAD, Refusal};
use crate::send::{Producer, SendError, SendRequest, SendStage, Staged};
use crate::topic_cache::{TopicCache, TopicState};

/// A batch is appended when it has grown beyond this, even before the turn ends.
const STAGED_BYTES_MAX: usize = 1024 * 1024;
/// An append that has been holding the log for this long makes sends fail (spec: behaviour.md §3.1).
const APPEND_BUSY_MS: u64 = 1000;

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
    id: usize,
    turn: TurnRequest,
    started: Instant,
    replies: Replies,
    topics: TopicCache,
    stage: RefCell<SendStage>,
    staged: RefCell<Vec<StagedSend>>,
    /// Properties of the request that is being read.
    scratch: RefCell<BytesMut>,
    flushes: RefCell<FlushQueue>,
    waiting: RefCell<WaitingPulls<WaitingPull>>,
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
}

struct WaitingPull {
    connection: Rc<Connection>,
    pull: Pull,
    /// Everything before this was looked at and did not match.
    looked_until: i64,
}

enum Away {
    Pull(Rc<Connection>, Pull),
    Command(Rc<Connection>, ReplyTo),
}

/// What a look at the queue of a pull brought.
enum Look {
    /// It was answered.
    Answered,
    /// Nothing to answer with yet, and it may wait.
    Nothing(GetMessages),
    /// The disk is needed.
    WouldBlock,
}

impl Service for Worker {
    fn on_frame(&self, connection: &Rc<Connection>, frame: Frame<'_>) -> Result<(), CloseReason> {
        match scan(frame.serialize, frame.header) {
            Ok(header) if !header.is_response() => {
                let to = ReplyTo {
                    code: header.code,
                    opaque: header.opaque,
                    serialize: frame.serialize,
                    oneway: header.is_oneway(),
                };
                match header.request {
                    ScannedRequest::Send(send) => {
                        let mut scratch = self.scratch.borrow_mut();
                        let Some(request) = SendRequest::of_scanned(&send, &mut scratch) else {
                            return self.command(connection, frame);
                        };
                        self.send(connection, to, header.version, &request, frame.body);
                    }
                    ScannedRequest::Pull(pull) => self.pull(connection, to, &PullRequest::of_scanned(to.code, &pull)),
                }
                Ok(())
            }
            _ => self.command(connection, frame),
        }
    }

    fn on_turn_end(&self) {
        self.append();
        self.look_into_mailbox();
    }

    fn on_wake(&self) {
        self.look_into_mailbox();
    }

    fn on_close(&self, connection: &Rc<Connection>) {
        self.waiting.borrow_mut().drop_connection(connection.id());
        heartbeat::on_close(&self.broker, connection.id());
    }

    fn on_shutdown(&self) {
        self.stopping.set(true);
        self.append();
        let waiting = self.waiting.borrow_mut().take_all();
        for pull in waiting {
            self.answer_now(pull);
        }
    }

    fn in_flight(&self) -> usize {
        self.staged.borrow().len() + self.flushes.borrow().len() + self.away.borrow().len() + self.later.get()
    }
}

impl Worker {
    pub(crate) fn start(seed: WorkerSeed, context: WorkerContext) -> Rc<Worker> {
        seed.mailboxes.open(context.id, context.waker);
        let config = seed.broker.config();
        let replies = Replies::new(&config.region_id, config.trace_on, seed.broker.store_host);
        drop(config);
        Rc::new_cyclic(|this| Worker {
            this: this.clone(),
            broker: seed.broker,
            mailboxes: seed.mailboxes,
            read_queue: seed.read_queue,
            main_port: seed.main_port,
            id: context.id,
            turn: context.turn,
            started: Instant::now(),
            replies,
            topics: TopicCache::default(),
            stage: RefCell::default(),
            staged: RefCell::default(),
            scratch: RefCell::default(),
            flushes: RefCell::default(),
            waiting: RefCell::new(WaitingPulls::new(context.id)),
            away: RefCell::default(),
            later: Rc::default(),
            timer_ms: Cell::new(None),
            stopping: Cell::new(false),
        })
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
        self.release_flushed();
        for (ticket, done) in mailbox.take_done() {
            self.came_back(ticket, done);
        }
        for queue in mailbox.take_arrived() {
            self.arrived(&queue);
        }
    }
}

/// Sends.
impl Worker {
    fn send(&self, connection: &Rc<Connection>, to: ReplyTo, version: i32, request: &SendRequest<'_>, body: &[u8]) {
        let producer = Producer {
            addr: connection.peer_addr(),
            version,
        };
        let mut stage = self.stage.borrow_mut();
        let staged = self.may_stage(&stage).and_then(|()| {
            let stage = &mut *stage;
            stage.stage(&self.broker, &self.topics, request, body, producer)
        });
        let staged_bytes = stage.batch.records.len();
        drop(stage);
        match staged {
            Ok((topic, staged)) => self.staged.borrow_mut().push(StagedSend {
                connection: Rc::clone(connection),
                to,
                staged,
                topic,
            }),
            Err(error) => self.refuse_send(connection, to, &error),
        }
        if staged_bytes > STAGED_BYTES_MAX {
            self.append();
        }
    }

    /// Checked once per batch.
    fn may_stage(&self, stage: &SendStage) -> Result<(), SendError> {
        if !stage.is_empty() {
            return Ok(());
        }
        if self.flushes.borrow().is_full() {
            return Err(SendError::Overload);
        }
        match self.broker.store.append_in_progress_ms() {
            0..=APPEND_BUSY_MS => Ok(()),
            _ => Err(SendError::Busy),
        }
    }

    /// Appends what was staged and answers it, or lets the answers wait for the disk.
    fn append(&self) {
        let mut stage = self.stage.borrow_mut();
        if stage.is_empty() {
            return;
        }
        let mut staged = self.staged.borrow_mut();
        let stored = self.broker.store.append(&mut stage.batch);
        match stored {
            Ok(()) => self.stored(&stage, &staged),
            Err(error) => {
                let error = SendError::Append(error);
                for send in &*staged {
                    self.refuse_send(&send.connection, send.to, &error);
                }
            }
        }
        staged.clear();
        stage.clear();
    }

    fn stored(&self, stage: &SendStage, staged: &[StagedSend]) {
        let end = stage.batch.end_offset;
        let sync = self.broker.flush_disk_type == FlushDiskType::SyncFlush;
        let must_wait = sync && self.broker.store.flushed() < end;
        count_sends(&stage.batch, staged);
        let mut flushes = self.flushes.borrow_mut();
        for send in staged {
            let entries = &stage.batch.entries[send.staged.entries.clone()];
            let reply = SendReply {
                queue_id: send.staged.queue_id,
                key: &stage.keys[send.staged.key.clone()],
                entries,
            };
            if send.to.oneway {
                continue;
            }
            if must_wait && send.staged.wait_store {
                flushes.push(end, &send.connection, |out| self.replies.send(out, send.to, &reply));
            } else {
                send.connection.write(|out| self.replies.send(out, send.to, &reply));
            }
        }
        if must_wait {
            let timeout_ms = self.broker.config().sync_flush_timeout_ms;
            flushes.close_turn(self.now_ms() + timeout_ms);
            self.mailbox().wait_for_flush();
            flushes.release(self.broker.store.flushed());
            if let Some(deadline_ms) = flushes.next_deadline_ms() {
                self.set_timer(deadline_ms);
            }
        }
    }

    fn release_flushed(&self) {
        let mut flushes = self.flushes.borrow_mut();
        if flushes.is_empty() {
            return;
        }
        self.mailbox().wait_for_flush();
        flushes.release(self.broker.store.flushed());
    }

    fn refuse_send(&self, connection: &Rc<Connection>, to: ReplyTo, error: &SendError) {
        connection.reply(to, self.replies.refused_send(to.opaque, error.into()));
    }
}

/// Pulls.
impl Worker {
    fn pull(&self, connection: &Rc<Connection>, to: ReplyTo, request: &PullRequest<'_>) {
        if connection.local_addr().port() != self.main_port {
            return connection.reply_unsupported(to);
        }
        let consumer = Consumer {
            connection: connection.id(),
            addr: connection.peer_addr(),
        };
        let pull = match request.check(&self.broker, &self.topics, to, &consumer) {
            Ok(pull) => pull,
            Err(error) => return self.refuse_pull(connection, to, &error),
        };
        match self.reset_offset(&pull) {
            Some(offset) => self.answer_reset(connection, &pull, offset),
            None => self.serve(connection, pull),
        }
    }

    /// An offset that an administrator set and that the consumer does not know yet.
    fn reset_offset(&self, pull: &Pull) -> Option<i64> {
        let offsets = &self.broker.consumer_offsets;
        offsets.take_reset(&pull.group.group_name, pull.topic.name(), pull.queue.queue_id())
    }

    fn answer_reset(&self, connection: &Rc<Connection>, pull: &Pull, offset: i64) {
        let got = GetMessages {
            status: GetStatus::OffsetReset,
            next_begin_offset: offset,
            min_offset: pull.queue.min_offset(),
            max_offset: pull.queue.max_offset(),
            count: 0,
            bytes: 0,
            suggest_pulling_from_slave: false,
            last_store_timestamp: 0,
        };
        self.answer(connection, pull, &got, &[]);
    }

    /// The first look at the queue.
    fn serve(&self, connection: &Rc<Connection>, pull: Pull) {
        match self.look(connection, &pull, pull.from) {
            Look::Answered => {}
            Look::Nothing(got) => self.wait(connection, pull, &got),
            Look::WouldBlock => self.send_away(connection, pull),
        }
    }

    /// Reads from the memory and the page cache, messages straight into the output of the connection.
    fn look(&self, connection: &Rc<Connection>, pull: &Pull, from: i64) -> Look {
        let mut look = Look::Answered;
        connection.write(|out| {
            let start = reply::begin_pull(out);
            let mut filter = |code| pull.filter.accepts(code);
            let got = self
                .broker
                .store
                .get_messages(&pull.queue, from, &pull.limits, &mut filter, Wait::Never, out);
            look = match got {
                Ok(got) => {
                    let reply = self.reply(pull, &got);
                    if pull.may_wait(&reply) {
                        out.truncate(start);
                        Look::Nothing(got)
                    } else {
                        reply::finish_pull(out, start, pull.to, &reply);
                        self.count(pull, &got);
                        Look::Answered
                    }
                }
                Err(GetError::WouldBlock) => {
                    out.truncate(start);
                    Look::WouldBlock
                }
                Err(error) => {
                    out.truncate(start);
                    let refusal = Refusal::from(&PullError::Read(error.to_string()));
                    refusal.into_command(pull.to.opaque).encode(pull.to.serialize, out);
                    Look::Answered
                }
            };
        });
        look
    }

    fn reply(&self, pull: &Pull, got: &GetMessages) -> PullReply {
        pull.reply(got, self.broker.config().slave_read_enable)
    }

    fn answer(&self, connection: &Rc<Connection>, pull: &Pull, got: &GetMessages, messages: &[u8]) {
        let reply = self.reply(pull, got);
        connection.write(|out| reply::put_pull(out, pull.to, &reply, messages));
        self.count(pull, got);
    }

    fn count(&self, pull: &Pull, got: &GetMessages) {
        let offsets = &self.broker.consumer_offsets;
        let queue_id = pull.queue.queue_id();
        offsets.commit_pull(
            &pull.group.group_name,
            pull.topic.name(),
            queue_id,
            got.next_begin_offset,
        );
        match got.count {
            0 => self.broker.stats.on_pull_missed(),
            count => pull.stats.on_pull(count as i64, got.bytes as i64),
        }
    }

    /// Lets a pull wait that found nothing when the queue was as in `got`.
    fn wait(&self, connection: &Rc<Connection>, pull: Pull, got: &GetMessages) {
        if self.stopping.get() {
            return self.answer(connection, &pull, got, &[]);
        }
        let deadline_ms = self.now_ms() + pull.suspend_ms.unwrap_or(0);
        let looked_until = pull.from;
        let waiting = WaitingPull {
            connection: Rc::clone(connection),
            pull,
            looked_until,
        };
        self.wait_until(deadline_ms, waiting, got.max_offset);
    }

    /// Lets a pull wait. If the queue has grown beyond what the last look saw, the end of the turn looks at it again.
    fn wait_until(&self, deadline_ms: u64, pull: WaitingPull, seen_max_offset: i64) {
        let queue = Arc::clone(&pull.pull.queue);
        let added = self
            .waiting
            .borrow_mut()
            .add(&queue, pull.connection.id(), deadline_ms, pull);
        if let Err(pull) = added {
            return self.refuse_pull(&pull.connection, pull.pull.to, &PullError::Overload);
        }
        self.set_timer(deadline_ms);
        if queue.max_offset() != seen_max_offset {
            self.mailbox().note_arrived(&queue);
            self.turn.request_turn_end();
        }
    }

    /// The queue has grown: everything that waits for it looks at it.
    fn arrived(&self, queue: &Arc<ConsumeQueue>) {
        let waiting = self.waiting.borrow_mut().take_queue(queue);
        for (deadline_ms, mut pull) in waiting {
            if pull.connection.is_congested() {
                // Its deadline will answer it, or the next arrival.
                let max_offset = queue.max_offset();
                self.wait_until(deadline_ms, pull, max_offset);
                continue;
            }
            match self.look_again(&mut pull) {
                Look::Answered => {}
                Look::Nothing(got) => self.wait_until(deadline_ms, pull, got.max_offset),
                Look::WouldBlock => self.send_away(&Rc::clone(&pull.connection), pull.pull),
            }
        }
    }

    /// A look by a pull that has waited. Messages that do not match are no reason to answer it.
    fn look_again(&self, waiting: &mut WaitingPull) -> Look {
        if waiting.pull.filter.is_all() {
            return self.look(&waiting.connection, &waiting.pull, waiting.pull.from);
        }
        loop {
            let mut matches = false;
            let queue = &waiting.pull.queue;
            let filter = &waiting.pull.filter;
            let mut probe = |code| {
                matches |= filter.accepts(code);
                false
            };
            let limits = waiting.pull.limits;
            let from = waiting.looked_until;
            let mut nothing = BytesMut::new();
            let got = self
                .broker
                .store
                .get_messages(queue, from, &limits, &mut probe, Wait::Never, &mut nothing);
            match got {
                Ok(got) if !matches && got.status == GetStatus::NoMatchedMessage => {
                    waiting.looked_until = got.next_begin_offset;
                    if got.next_begin_offset >= got.max_offset {
                        return Look::Nothing(got);
                    }
                }
                Ok(got) if !matches && got.status == GetStatus::OffsetOverflowOne => return Look::Nothing(got),
                Err(GetError::WouldBlock) => return Look::WouldBlock,
                _ => return self.look(&waiting.connection, &waiting.pull, from),
            }
        }
    }

    /// Answers a pull that has waited long enough with what there is.
    fn answer_now(&self, mut waiting: WaitingPull) {
        waiting.pull.suspend_ms = None;
        match self.look(&waiting.connection, &waiting.pull, waiting.pull.from) {
            Look::WouldBlock => self.send_away(&waiting.connection, waiting.pull),
            Look::Answered | Look::Nothing(_) => {}
        }
    }

    fn send_away(&self, connection: &Rc<Connection>, pull: Pull) {
        let (queue, from, limits, filter) = (Arc::clone(&pull.queue), pull.from, pull.limits, pull.filter.clone());
        let work: Work = Box::new(move |broker| {
            let mut messages = BytesMut::new();
            let mut filter = |code| filter.accepts(code);
            let got = broker
                .store
                .get_messages(&queue, from, &limits, &mut filter, Wait::Allowed, &mut messages);
            Done::Pull(got, messages)
        });
        self.hand_over(Away::Pull(Rc::clone(connection), pull), work);
    }

    fn refuse_pull(&self, connection: &Rc<Connection>, to: ReplyTo, error: &PullError) {
        connection.reply(to, Refusal::from(error).into_command(to.opaque));
    }
}

/// Everything else, and what comes back later.
impl Worker {
    fn command(&self, connection: &Rc<Connection>, frame: Frame<'_>) -> Result<(), CloseReason> {
        let command = RemotingCommand::decode(frame)?;
        if command.header.is_response() {
            connection.complete(command);
            return Ok(());
        }
        let to = ReplyTo::of(&command.header, frame.serialize);
        match RequestCode::from_code(to.code) {
            None => connection.reply_unsupported(to),
            Some(RequestCode::SendMessage) => match SendMessageHeader::read(&command.header.ext_fields) {
                Ok(header) => {
                    let request = SendRequest::of_v1(&header);
                    self.send(connection, to, command.header.version, &request, frame.body);
                }
                Err(error) => self.refuse_send(connection, to, &error.into()),
            },
            Some(RequestCode::SendMessageV2 | RequestCode::SendBatchMessage) => {
                match SendMessageHeaderV2::read(&command.header.ext_fields) {
                    Ok(header) => {
                        let request = SendRequest::of_v2(&header);
                        self.send(connection, to, command.header.version, &request, frame.body);
                    }
                    Err(error) => self.refuse_send(connection, to, &error.into()),
                }
            }
            Some(RequestCode::PullMessage | RequestCode::LitePullMessage) => {
                match PullMessageHeader::read(&command.header.ext_fields) {
                    Ok(header) => self.pull(connection, to, &PullRequest::of_header(to.code, &header)),
                    Err(error) => self.refuse_pull(connection, to, &error.into()),
                }
            }
            Some(code) => self.handle(connection, to, code, command),
        }
        Ok(())
    }

    fn handle(&self, connection: &Rc<Connection>, to: ReplyTo, code: RequestCode, command: RemotingCommand) {
        match handlers::handle(&self.context(connection), code, command) {
            Outcome::Reply(reply) => connection.reply(to, reply),
            Outcome::Unsupported => connection.reply_unsupported(to),
            Outcome::Offload(work) => {
                let work: Work = Box::new(move |broker| Done::Command(work(broker)));
                self.hand_over(Away::Command(Rc::clone(connection), to), work);
            }
            Outcome::Later(reply) => {
                let connection = Rc::clone(connection);
                let counted = Counted::enter(&self.later);
                tokio::task::spawn_local(async move {
                    connection.reply(to, reply.await);
                    drop(counted);
                });
            }
        }
    }

    fn hand_over(&self, away: Away, work: Work) {
        let ticket = self.away.borrow_mut().insert(away);
        if self.read_queue.submit(self.id, ticket, work) {
            return;
        }
        match self.away.borrow_mut().remove(ticket) {
            Away::Pull(connection, pull) => self.refuse_pull(&connection, pull.to, &PullError::Overload),
            Away::Command(connection, to) => {
                let refusal = Refusal::new(response_code::SYSTEM_BUSY, OVERLOAD);
                connection.reply(to, refusal.into_command(to.opaque));
            }
        }
    }

    fn came_back(&self, ticket: usize, done: Done) {
        let away = self.away.borrow_mut().try_remove(ticket);
        match (away, done) {
            (Some(Away::Command(connection, to)), Done::Command(reply)) => connection.reply(to, reply),
            (Some(Away::Pull(connection, pull)), Done::Pull(got, messages)) => match got {
                Ok(got) if pull.may_wait(&self.reply(&pull, &got)) => self.wait(&connection, pull, &got),
                Ok(got) => self.answer(&connection, &pull, &got, &messages),
                Err(error) => self.refuse_pull(&connection, pull.to, &PullError::Read(error.to_string())),
            },
            _ => unreachable!("a ticket comes back once, with what it was given for"),
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
        self.flushes.borrow_mut().expire(now_ms);
        let next_flush = self.flushes.borrow().next_deadline_ms();
        let next_pull = self.waiting.borrow().next_deadline_ms();
        if let Some(next) = next_flush.into_iter().chain(next_pull).min() {
            self.set_timer(next);
        }
        self.turn.request_turn_end();
    }
}

/// Counts what was stored, sends to one topic in a row at once.
fn count_sends(batch: &AppendBatch, staged: &[StagedSend]) {
    for sends in staged.chunk_by(|send, next| Rc::ptr_eq(&send.topic, &next.topic)) {
        let entries = sends[0].staged.entries.start..sends[sends.len() - 1].staged.entries.end;
        let bytes: u64 = batch.entries[entries.clone()]
            .iter()
            .map(|entry| u64::from(entry.len))
            .sum();
        sends[0]
            .topic
            .stats
            .on_sends(sends.len() as i64, entries.len() as i64, bytes as i64);
    }
}

/// Counts a request for as long as it lives.
struct Counted(Rc<Cell<usize>>);

impl Counted {
    fn enter(count: &Rc<Cell<usize>>) -> Counted {
        count.set(count.get() + 1);
        Counted(Rc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
