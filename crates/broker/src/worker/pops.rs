//! A worker's pops: messages handed out at once, or requests that wait for some. Checkpoints and acknowledgements of a
//! turn are appended together at its end, and answered then.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use oxmq_protocol::pop::PopAck;
use oxmq_protocol::requests::{PopMessageHeader, PopMessageReply};
use oxmq_protocol::{FieldSet, RemotingCommand, response_code as code};
use oxmq_remoting::{Connection, ReplyTo, RequestGuard};
use oxmq_store::{AppendBatch, AppendError, ConsumeQueue, Wait as MayBlock};

use super::notifications::WaitingNotification;
use super::{AWAY_REPLY_BYTES, Away, Worker};
use crate::config::FlushDiskType;
use crate::pop::waiters::{Key, Timed, Wait, Waiters};
use crate::pop::{Collected, Handed, PollingLimits, Pop, PopError, collect, records, retry_topics};
use crate::quotas::Grant;
use crate::read_threads::{Done, Lane, Work};
use crate::response::Refusal;

/// A batch is appended when it has grown beyond this, even before the turn ends.
const STAGED_BYTES_MAX: usize = 256 * 1024;
/// A wait ends so much early, as in the original: the reply takes time as well.
pub(super) const EARLY_MS: i64 = 50;

/// What a worker knows of pops.
pub(super) struct Pops {
    batch: RefCell<AppendBatch>,
    staged: RefCell<Vec<Staged>>,
    pub(super) acks: RefCell<Vec<OpenAck>>,
    /// Of checkpoints in memory, whose messages have new ones in the batch.
    pub(super) replaced: RefCell<Vec<OpenAck>>,
    waiting: RefCell<Waiters<WaitingPop>>,
    pub(super) notifications: RefCell<Waiters<WaitingNotification>>,
    /// Those whose first request should look before the turn ends.
    wanted: RefCell<Vec<Key>>,
}

/// Acknowledgements of one checkpoint, of this turn.
pub(super) struct OpenAck {
    pub(super) ack: PopAck,
    pub(super) revive_time: i64,
    pub(super) revive_queue: i32,
}

/// An answer that waits for what was staged to be in the log.
pub(super) enum Staged {
    Messages {
        connection: Rc<Connection>,
        to: ReplyTo,
        invisible_time: i64,
        collected: Box<Collected>,
    },
    Reply {
        connection: Rc<Connection>,
        to: ReplyTo,
        reply: RemotingCommand,
    },
}

struct WaitingPop {
    connection: Rc<Connection>,
    to: ReplyTo,
    pop: Rc<Pop>,
}

impl Pops {
    pub(super) fn new(worker: usize) -> Pops {
        Pops {
            batch: RefCell::default(),
            staged: RefCell::default(),
            acks: RefCell::default(),
            replaced: RefCell::default(),
            waiting: RefCell::new(Waiters::new(worker)),
            notifications: RefCell::new(Waiters::new(worker)),
            wanted: RefCell::default(),
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.staged.borrow().len()
    }

    pub(super) fn next_time_ms(&self) -> Option<u64> {
        let pops = self.waiting.borrow().next_time_ms();
        let notifications = self.notifications.borrow().next_time_ms();
        pops.into_iter().chain(notifications).min()
    }
}

impl Worker {
    pub(super) fn pop(&self, connection: &Rc<Connection>, to: ReplyTo, command: &RemotingCommand) {
        if connection.local_addr().port() != self.main_port {
            return connection.reply_unsupported(to);
        }
        let header = PopMessageHeader::read(&command.header.ext_fields).map_err(PopError::from);
        let now = self.broker.now_ms();
        let pop = header.and_then(|header| Pop::check(&self.broker, header, connection.peer_addr(), now));
        match pop {
            Ok(pop) => self.look_for_messages(connection, to, Rc::new(pop), false),
            Err(error) => connection.reply(to, Refusal::from(&error).into_command(to.opaque)),
        }
    }

    /// Hands messages out that can be had without the disk. `again`: the request has waited before.
    pub(super) fn look_for_messages(&self, connection: &Rc<Connection>, to: ReplyTo, mut pop: Rc<Pop>, again: bool) {
        if again {
            // The topic may have changed meanwhile.
            match self.broker.topics.get(&pop.topic.topic_name) {
                Some(topic) if Arc::ptr_eq(&topic, &pop.topic) => {}
                Some(topic) => Rc::make_mut(&mut pop).topic = topic,
                None => {
                    let unknown = PopError::TopicUnknown(pop.topic.topic_name.clone());
                    return self.refuse_pop(connection, to, &unknown);
                }
            }
        }
        if pop.filter.is_expensive() {
            return self.read_elsewhere(connection.begin_request(AWAY_REPLY_BYTES), to, pop, Lane::Memory);
        }
        let collected = match self.pop_grant(connection, &pop) {
            Ok(grant) => granted(grant, &pop, |pop| collect(&self.broker, pop, MayBlock::Never)),
            Err(exceeded) => return self.hold_pop(connection, to, pop, again, &exceeded),
        };
        if collected.is_cold() {
            return self.read_elsewhere(connection.begin_request(AWAY_REPLY_BYTES), to, pop, Lane::Disk);
        }
        self.collected(connection, to, pop, collected, again);
    }

    pub(super) fn read_elsewhere(&self, request: RequestGuard, to: ReplyTo, pop: Rc<Pop>, lane: Lane) {
        let grant = match self.pop_grant(request.connection(), &pop) {
            Ok(grant) => grant,
            Err(exceeded) => return self.hold_pop(request.connection(), to, pop, true, &exceeded),
        };
        let wanted = Pop::clone(&pop);
        let may_block = match lane {
            Lane::Disk => MayBlock::Allowed,
            Lane::Memory | Lane::Commands => MayBlock::Never,
        };
        let work: Work =
            Box::new(move |broker| Done::Pop(Box::new(granted(grant, &wanted, |pop| collect(broker, pop, may_block)))));
        self.hand_over(lane, Away::Pop(request, to, pop), work);
    }

    pub(super) fn refuse_pop(&self, connection: &Rc<Connection>, to: ReplyTo, error: &PopError) {
        connection.reply(to, Refusal::from(error).into_command(to.opaque));
    }

    pub(super) fn collected(
        &self,
        connection: &Rc<Connection>,
        to: ReplyTo,
        pop: Rc<Pop>,
        collected: Collected,
        again: bool,
    ) {
        if collected.count == 0 {
            return self.wait_for_messages(connection, to, pop, collected, again);
        }
        if collected.has_more {
            let key = Key::new(&pop.topic.topic_name, &pop.group, pop.queue_id);
            self.look_later(key);
        }
        self.stage_messages(connection, to, &pop, collected);
    }

    /// Lets the first request under a key look before the turn ends.
    fn look_later(&self, key: Key) {
        self.pops.wanted.borrow_mut().push(key);
        self.turn.request_turn_end();
    }

    fn stage_messages(&self, connection: &Rc<Connection>, to: ReplyTo, pop: &Pop, collected: Collected) {
        let mut batch = self.pops.batch.borrow_mut();
        let (records, entries) = (batch.records.len(), batch.entries.len());
        let staged = collected.handed.iter().try_for_each(|handed| {
            records::stage_checkpoint(&self.broker, &mut batch, &handed.checkpoint, collected.revive_queue)
        });
        if let Err(error) = staged {
            tracing::warn!(topic = pop.topic.topic_name, group = pop.group, %error, "a checkpoint cannot be written");
            batch.records.truncate(records);
            batch.entries.truncate(entries);
            drop(batch);
            self.take_back(&collected.handed);
            return self.answer_nothing(connection, to, pop.invisible_time, &collected, code::POLLING_TIMEOUT);
        }
        let staged_bytes = batch.records.len();
        drop(batch);
        self.pops.staged.borrow_mut().push(Staged::Messages {
            connection: Rc::clone(connection),
            to,
            invisible_time: pop.invisible_time,
            collected: Box::new(collected),
        });
        self.turn.request_turn_end();
        if staged_bytes > STAGED_BYTES_MAX {
            self.append_pops();
        }
    }

    /// Messages whose checkpoints cannot be written are handed out again.
    fn take_back(&self, handed: &[Handed]) {
        for handed in handed {
            handed.queue.lock().failed(handed.serial);
        }
    }

    pub(super) fn stage_reply(&self, connection: &Rc<Connection>, to: ReplyTo, reply: RemotingCommand) {
        self.pops.staged.borrow_mut().push(Staged::Reply {
            connection: Rc::clone(connection),
            to,
            reply,
        });
        self.turn.request_turn_end();
    }

    /// Adds records to the batch of the turn.
    pub(super) fn with_pop_batch<T>(&self, stage: impl FnOnce(&mut AppendBatch) -> T) -> T {
        stage(&mut self.pops.batch.borrow_mut())
    }

    /// Appends what was staged and answers it.
    pub(super) fn append_pops(&self) {
        let staged = self.pops.staged.take();
        if staged.is_empty() && self.pops.acks.borrow().is_empty() {
            return;
        }
        let mut batch = self.pops.batch.borrow_mut();
        for open in self.pops.acks.take() {
            let staged = records::stage_ack(&self.broker, &mut batch, &open.ack, open.revive_time, open.revive_queue);
            if let Err(error) = staged {
                // The original answers success as well: the messages come again.
                tracing::warn!(topic = open.ack.topic, group = open.ack.group, %error, "an acknowledgement cannot be written");
            }
        }
        let appended = match batch.is_empty() {
            true => Ok(()),
            false => self.broker.store.append(&mut batch),
        };
        let end = batch.end_offset;
        batch.clear();
        drop(batch);
        match appended {
            Ok(()) => self.pops_appended(staged, end),
            Err(error) => self.pops_failed(staged, &error),
        }
    }

    fn pops_appended(&self, staged: Vec<Staged>, end: i64) {
        let sync = self.broker.flush_disk_type == FlushDiskType::SyncFlush;
        let must_wait = sync && self.broker.store.flushed() < end;
        self.settle_replaced();
        for staged in staged {
            match staged {
                Staged::Messages {
                    connection,
                    to,
                    invisible_time,
                    collected,
                } => {
                    self.settle(&collected.handed);
                    let reply = pop_reply(code::SUCCESS, "FOUND", invisible_time, &collected);
                    connection.reply(to, reply.with_body(collected.messages.freeze()));
                }
                Staged::Reply { to, .. } if to.oneway => {}
                Staged::Reply {
                    connection,
                    to,
                    mut reply,
                } if must_wait => {
                    reply.header.opaque = to.opaque;
                    let mut flushes = self.flushes.borrow_mut();
                    flushes.push(end, &connection, to, None, |out| reply.encode(to.serialize, out));
                }
                Staged::Reply { connection, to, reply } => connection.reply(to, reply),
            }
        }
        if must_wait {
            self.wait_for_flush();
        }
    }

    /// The checkpoints are in the log: the group's offsets move on.
    fn settle(&self, handed: &[Handed]) {
        for Handed {
            queue,
            serial,
            checkpoint,
        } in handed
        {
            let mut queue = queue.lock();
            if let Some(settled) = queue.written(*serial) {
                let (group, topic) = (&checkpoint.group, &checkpoint.topic);
                let offsets = &self.broker.consumer_offsets;
                offsets.commit(group, topic, checkpoint.queue_id, settled, checkpoint.pop_time);
            }
        }
    }

    fn pops_failed(&self, staged: Vec<Staged>, error: &AppendError) {
        self.pops.replaced.borrow_mut().clear();
        for staged in staged {
            match staged {
                Staged::Messages {
                    connection,
                    to,
                    invisible_time,
                    collected,
                } => {
                    self.take_back(&collected.handed);
                    self.answer_nothing(&connection, to, invisible_time, &collected, code::POLLING_TIMEOUT);
                }
                Staged::Reply { connection, to, .. } => {
                    connection.reply(to, Refusal::from(error).into_command(to.opaque));
                }
            }
        }
    }

    pub(super) fn answer_no_messages(&self, connection: &Rc<Connection>, to: ReplyTo, pop: &Pop) {
        let nothing = Collected::nothing(self.broker.now_ms());
        self.answer_nothing(connection, to, pop.invisible_time, &nothing, code::POLLING_TIMEOUT);
    }

    fn answer_nothing(
        &self,
        connection: &Rc<Connection>,
        to: ReplyTo,
        invisible_time: i64,
        collected: &Collected,
        code: i32,
    ) {
        connection.reply(to, pop_reply(code, "NO_MESSAGE_IN_QUEUE", invisible_time, collected));
    }

    pub(super) fn limits(&self) -> PollingLimits {
        let config = self.broker.config();
        PollingLimits {
            total: config.max_pop_polling_size,
            per_key: config.pop_polling_size,
            keys: config.pop_polling_map_size,
        }
    }

    fn wait_for_messages(
        &self,
        connection: &Rc<Connection>,
        to: ReplyTo,
        pop: Rc<Pop>,
        collected: Collected,
        again: bool,
    ) {
        let nothing = |code| self.answer_nothing(connection, to, pop.invisible_time, &collected, code);
        let left_ms = pop.poll_end() - self.broker.now_ms();
        if pop.poll_time <= 0 || left_ms < EARLY_MS || self.stopping.get() || connection.is_congested() {
            return nothing(code::POLLING_TIMEOUT);
        }
        let key = Key::new(&pop.topic.topic_name, &pop.group, pop.queue_id);
        if !self.broker.pops.polling.enter(&key, self.limits()) {
            return nothing(code::POLLING_FULL);
        }
        let wait = self.waiting_times(left_ms, collected.blocked_until);
        let mut queues: Vec<_> = collected.seen.iter().map(|(queue, _)| Arc::clone(queue)).collect();
        if !pop.order {
            self.add_retry_queues(&mut queues, &pop.topic.topic_name, &pop.group);
        }
        let waiting = WaitingPop {
            connection: Rc::clone(connection),
            to: ReplyTo { suspended: true, ..to },
            pop,
        };
        let connection = connection.id();
        let mut waiters = self.pops.waiting.borrow_mut();
        waiters.add(&key, &queues, connection, wait, again, waiting);
        drop(waiters);
        self.set_pop_timer(wait);
        let grown = collected.seen.iter().any(|(queue, end)| queue.max_offset() != *end);
        if grown || collected.has_more {
            self.look_later(key);
        }
    }

    /// Times by this worker's clock.
    pub(super) fn waiting_times(&self, left_ms: i64, blocked_until: Option<i64>) -> Wait {
        let now_ms = self.now_ms();
        let after = |ms: i64| now_ms + ms.max(1) as u64;
        let deadline_ms = after(left_ms - EARLY_MS);
        let is_told = self.broker.config().enable_notify_after_pop_order_lock_release;
        let look_at_ms = blocked_until
            .filter(|_| is_told)
            .map(|until| after(until - self.broker.now_ms()));
        Wait {
            deadline_ms,
            look_at_ms: look_at_ms.filter(|at_ms| *at_ms < deadline_ms),
        }
    }

    pub(super) fn set_pop_timer(&self, wait: Wait) {
        self.set_timer(wait.look_at_ms.unwrap_or(wait.deadline_ms).min(wait.deadline_ms));
    }

    pub(super) fn add_retry_queues(&self, queues: &mut Vec<Arc<ConsumeQueue>>, topic: &str, group: &str) {
        for retry in retry_topics(&self.broker, topic, group) {
            for queue_id in 0..retry.read_queue_nums {
                queues.push(self.broker.store.queue_or_create(&retry.topic_name, queue_id));
            }
        }
    }

    /// Something has arrived in a queue.
    pub(super) fn arrived_for_pops(&self, queue: &ConsumeQueue) {
        let keys = self.pops.waiting.borrow_mut().arrived(queue);
        self.pops.wanted.borrow_mut().extend(keys);
        let keys = self.pops.notifications.borrow_mut().arrived(queue);
        for key in keys {
            self.notify_first(&key);
        }
    }

    /// Lets those look that were told to.
    pub(super) fn serve_wanted(&self) {
        let wanted = self.pops.wanted.take();
        for (index, key) in wanted.iter().enumerate() {
            if wanted[..index].contains(key) {
                continue;
            }
            let first = self.pops.waiting.borrow_mut().take_first(key);
            if let Some((_, waiting)) = first {
                self.broker.pops.polling.leave(key);
                self.look_for_messages(&waiting.connection, waiting.to, waiting.pop, true);
            }
        }
    }

    /// Answers whose time is over, and lets those look that were blocked until now.
    pub(super) fn on_pop_time(&self, now_ms: u64) {
        while let Some(timed) = self.take_timed_pop(now_ms) {
            match timed {
                Timed::Over(key, waiting) => {
                    self.broker.pops.polling.leave(&key);
                    // One more look; then there is no time left to wait.
                    self.look_for_messages(&waiting.connection, waiting.to, waiting.pop, true);
                }
                Timed::LookAgain(key) => self.look_later(key),
            }
        }
        while let Some(timed) = self.take_timed_notification(now_ms) {
            match timed {
                Timed::Over(_, waiting) => waiting.answer(waiting.notification.has_message(&self.broker), false),
                Timed::LookAgain(key) => self.notify_first(&key),
            }
        }
    }

    fn take_timed_pop(&self, now_ms: u64) -> Option<Timed<WaitingPop>> {
        self.pops.waiting.borrow_mut().take_timed(now_ms)
    }

    fn take_timed_notification(&self, now_ms: u64) -> Option<Timed<WaitingNotification>> {
        self.pops.notifications.borrow_mut().take_timed(now_ms)
    }

    pub(super) fn forget_pops_of(&self, connection: u64) {
        for key in self.pops.waiting.borrow_mut().take_connection(connection) {
            self.broker.pops.polling.leave(&key);
        }
        self.pops.notifications.borrow_mut().take_connection(connection);
    }

    pub(super) fn end_waiting_pops(&self) {
        let waiting = self.pops.waiting.borrow_mut().take_all();
        for (key, WaitingPop { connection, to, pop }) in waiting {
            self.broker.pops.polling.leave(&key);
            self.answer_no_messages(&connection, to, &pop);
        }
        for (_, waiting) in self.pops.notifications.borrow_mut().take_all() {
            waiting.answer(false, false);
        }
    }
}

/// Collects no more than was granted.
fn granted(grant: Option<Grant>, pop: &Pop, collect: impl FnOnce(&Pop) -> Collected) -> Collected {
    let Some(mut grant) = grant else {
        return collect(pop);
    };
    let limited = Pop {
        count_max: grant.limits().count,
        ..pop.clone()
    };
    let collected = collect(&limited);
    grant.used(collected.count, collected.messages.len());
    collected
}

fn pop_reply(code: i32, remark: &str, invisible_time: i64, collected: &Collected) -> RemotingCommand {
    let info = &collected.info;
    let fields = PopMessageReply {
        pop_time: collected.pop_time,
        invisible_time,
        revive_qid: collected.revive_queue,
        rest_num: collected.rest,
        start_offset_info: Some(info.start_offset_info.clone()),
        msg_offset_info: Some(info.msg_offset_info.clone()),
        order_count_info: collected.is_order().then(|| info.order_count_info.clone()),
    };
    RemotingCommand::response(0, code, Some(remark.to_owned())).with_fields(&fields)
}
