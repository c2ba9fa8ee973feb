//! A worker's pulls: answered from memory or the page cache, or waiting for messages or for a read thread.

use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;
use oxmq_protocol::body::ConsumeType;
use oxmq_remoting::{Connection, ReplyTo, RequestGuard};
use oxmq_store::{ConsumeQueue, GetError, GetMessages, GetStatus, Wait};

use super::{AWAY_REPLY_BYTES, Away, WaitingPull, Worker};
use crate::pull::{Checked, Consumer, Pull, PullError, PullReply, PullRequest};
use crate::quotas::{Exceeded, Grant};
use crate::read_threads::{Done, Lane, Work};
use crate::reply;
use crate::response::Refusal;

/// What a look may hold the pull for, if the pull allows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    UntilArrival,
    /// It has waited: it goes on until something matches.
    UntilMatch,
}

/// What a look at the queue of a pull brought.
enum Look {
    /// It was answered.
    Answered,
    /// Nothing to answer with yet, and it may wait.
    Nothing(GetMessages),
    /// It is for another thread.
    Elsewhere(Lane),
    /// Its quotas are used up.
    Throttled(Exceeded),
}

impl Worker {
    pub(super) fn pull(&self, connection: &Rc<Connection>, to: ReplyTo, request: &PullRequest<'_>) {
        if connection.local_addr().port() != self.main_port {
            return connection.reply_unsupported(to);
        }
        let consumer = Consumer {
            connection: connection.id(),
            addr: connection.peer_addr(),
        };
        let pull = match request.check(&self.broker, &self.topics, to, &consumer) {
            Ok(Checked::Here(pull)) => *pull,
            Ok(Checked::Elsewhere(mapped)) => return self.pull_elsewhere(connection, to, request, *mapped),
            Err(error) => return self.refuse_pull(connection, to, &error),
        };
        let Some(pull) = self.slow_down(connection, pull) else {
            return;
        };
        match self.reset_offset(&pull) {
            Some(offset) => self.answer_reset(connection, &pull, offset),
            None => self.serve(connection, pull),
        }
    }

    /// Refuses or holds a pull of cold data of which its group has read its share.
    fn slow_down(&self, connection: &Rc<Connection>, pull: Pull) -> Option<Pull> {
        let broker = &self.broker;
        let group = &pull.group.group_name;
        if !broker.cold_flow.is_over(group) || !broker.store.is_cold(&pull.queue, pull.from) {
            return Some(pull);
        }
        match broker.consumers.group_info(group) {
            Some((ConsumeType::Passively, _)) => self.refuse_pull(connection, pull.to, &PullError::ColdReads),
            Some((ConsumeType::Pop, _)) => return Some(pull),
            Some((ConsumeType::Actively, _)) | None => self.hold_cold_pull(connection, pull),
        }
        None
    }

    /// An offset that an administrator set and that the consumer does not know yet.
    fn reset_offset(&self, pull: &Pull) -> Option<i64> {
        let offsets = &self.broker.consumer_offsets;
        offsets.take_reset(&pull.group.group_name, pull.topic.name(), pull.queue.queue_id())
    }

    fn answer_reset(&self, connection: &Rc<Connection>, pull: &Pull, offset: i64) {
        let got = no_messages(pull, GetStatus::OffsetReset, offset);
        self.answer(connection, pull, &got, &[]);
    }

    /// The first look at the queue.
    fn serve(&self, connection: &Rc<Connection>, pull: Pull) {
        match self.look(connection, &pull, pull.from, Hold::UntilArrival) {
            Look::Answered => {}
            Look::Nothing(got) => self.wait(connection, pull, &got),
            Look::Elsewhere(lane) => self.send_away(connection.begin_request(AWAY_REPLY_BYTES), pull, lane),
            Look::Throttled(exceeded) => self.hold_new_pull(connection, pull, &exceeded),
        }
    }

    /// Reads from the memory and the page cache, messages straight into the output of the connection.
    fn look(&self, connection: &Rc<Connection>, pull: &Pull, from: i64, hold: Hold) -> Look {
        if pull.filter.is_expensive() {
            return Look::Elsewhere(Lane::Memory);
        }
        let mut grant = match self.grant(connection, &pull.group, pull.limits) {
            Ok(grant) => grant,
            Err(exceeded) => return Look::Throttled(exceeded),
        };
        let limits = grant.as_ref().map_or(pull.limits, Grant::limits);
        let mut look = Look::Answered;
        let mut code = None;
        connection.write(|out| {
            let start = reply::begin_pull(out);
            let got = self
                .broker
                .store
                .get_messages(&pull.queue, from, &limits, &mut &pull.filter, Wait::Never, out);
            look = match got {
                Ok(got) => {
                    self.broker.note_cold(&pull.group.group_name, &got);
                    let reply = self.reply(pull, &got);
                    if pull.may_wait(&reply) || (hold == Hold::UntilMatch && got.status == GetStatus::NoMatchedMessage)
                    {
                        out.truncate(start);
                        Look::Nothing(got)
                    } else {
                        reply::finish_pull(out, start, pull.to, &reply);
                        code = Some(reply.code);
                        self.count(pull, &got);
                        if let Some(grant) = &mut grant {
                            grant.used(got.count, got.bytes);
                        }
                        Look::Answered
                    }
                }
                Err(GetError::WouldBlock) => {
                    out.truncate(start);
                    Look::Elsewhere(Lane::Disk)
                }
                Err(error) => {
                    out.truncate(start);
                    let refusal = Refusal::from(&PullError::Read(error.to_string()));
                    code = Some(refusal.code);
                    refusal.into_command(pull.to.opaque).encode(pull.to.serialize, out);
                    Look::Answered
                }
            };
        });
        if let Some(code) = code {
            connection.answered(&pull.to, code);
        }
        look
    }

    pub(super) fn reply(&self, pull: &Pull, got: &GetMessages) -> PullReply {
        pull.reply(got, self.broker.config().slave_read_enable)
    }

    pub(super) fn answer(&self, connection: &Rc<Connection>, pull: &Pull, got: &GetMessages, messages: &[u8]) {
        let reply = self.reply(pull, got);
        connection.answered(&pull.to, reply.code);
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
    pub(super) fn wait(&self, connection: &Rc<Connection>, mut pull: Pull, got: &GetMessages) {
        if self.stopping.get() {
            return self.answer(connection, &pull, got, &[]);
        }
        pull.to.suspended = true;
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
    pub(super) fn arrived(&self, queue: &Arc<ConsumeQueue>) {
        let waiting = self.waiting.borrow_mut().take_queue(queue);
        for (deadline_ms, pull) in waiting {
            if pull.connection.is_congested() {
                self.put_off(&pull);
                continue;
            }
            self.go_on(deadline_ms, pull);
        }
    }

    /// A pull that was beyond a quota looks again.
    pub(super) fn pull_again(&self, deadline_ms: u64, pull: WaitingPull) {
        if self.now_ms() >= deadline_ms || pull.connection.is_congested() || self.stopping.get() {
            return self.put_off(&pull);
        }
        self.go_on(deadline_ms, pull);
    }

    /// A pull that waits looks again, and waits on if there is nothing for it.
    fn go_on(&self, deadline_ms: u64, mut pull: WaitingPull) {
        match self.look_again(&mut pull) {
            Look::Answered => {}
            Look::Nothing(got) => self.wait_until(deadline_ms, pull, got.max_offset),
            Look::Elsewhere(lane) => {
                self.send_away(pull.connection.begin_request(AWAY_REPLY_BYTES), pull.pull, lane);
            }
            Look::Throttled(exceeded) => self.hold_pull(deadline_ms, pull, &exceeded),
        }
    }

    /// Holds a pull for as long as it may wait for messages, or for a quota.
    fn hold_new_pull(&self, connection: &Rc<Connection>, mut pull: Pull, exceeded: &Exceeded) {
        pull.to.suspended = true;
        let hold_ms = self.broker.config().quota_hold_time_ms;
        let deadline_ms = self.now_ms() + pull.suspend_ms.unwrap_or(0).max(hold_ms);
        let waiting = WaitingPull {
            connection: Rc::clone(connection),
            looked_until: pull.from,
            pull,
        };
        self.hold_pull(deadline_ms, waiting, exceeded);
    }

    /// A look by a pull that has waited. Messages that do not match are no reason to answer it.
    fn look_again(&self, waiting: &mut WaitingPull) -> Look {
        loop {
            let from = waiting.looked_until;
            let look = self.look(&waiting.connection, &waiting.pull, from, Hold::UntilMatch);
            match look {
                Look::Nothing(got) if got.next_begin_offset > from => {
                    waiting.looked_until = got.next_begin_offset;
                    if got.next_begin_offset >= got.max_offset {
                        return Look::Nothing(got);
                    }
                }
                look => return look,
            }
        }
    }

    /// Answers a pull that has waited long enough with what there is.
    pub(super) fn answer_now(&self, mut waiting: WaitingPull) {
        if waiting.connection.is_congested() {
            return self.put_off(&waiting);
        }
        waiting.pull.suspend_ms = None;
        match self.look(
            &waiting.connection,
            &waiting.pull,
            waiting.pull.from,
            Hold::UntilArrival,
        ) {
            Look::Elsewhere(lane) => {
                self.send_away(waiting.connection.begin_request(AWAY_REPLY_BYTES), waiting.pull, lane);
            }
            Look::Answered | Look::Nothing(_) => {}
            Look::Throttled(_) => self.put_off(&waiting),
        }
    }

    /// Sends a consumer away that does not read what it has been sent: it may ask again when it has. Left waiting, its
    /// pulls would be looked at with every message, and their messages would have to be kept.
    pub(super) fn put_off(&self, waiting: &WaitingPull) {
        let pull = &waiting.pull;
        let nothing = no_messages(pull, GetStatus::OffsetOverflowOne, pull.from);
        self.answer(&waiting.connection, pull, &nothing, &[]);
    }

    pub(super) fn send_away(&self, request: RequestGuard, pull: Pull, lane: Lane) {
        let mut grant = match self.grant(request.connection(), &pull.group, pull.limits) {
            Ok(grant) => grant,
            Err(exceeded) => return self.hold_new_pull(request.connection(), pull, &exceeded),
        };
        let limits = grant.as_ref().map_or(pull.limits, Grant::limits);
        let (queue, from, filter) = (Arc::clone(&pull.queue), pull.from, pull.filter.clone());
        let group = Arc::clone(&pull.group);
        let wait = match lane {
            Lane::Disk => Wait::Allowed,
            Lane::Memory | Lane::Commands => Wait::Never,
        };
        let work: Work = Box::new(move |broker| {
            let mut messages = BytesMut::new();
            let got = broker
                .store
                .get_messages(&queue, from, &limits, &mut &filter, wait, &mut messages);
            if let Ok(got) = &got {
                broker.note_cold(&group.group_name, got);
                if let Some(grant) = &mut grant {
                    grant.used(got.count, got.bytes);
                }
            }
            Done::Pull(got, messages)
        });
        self.hand_over(lane, Away::Pull(request, pull), work);
    }

    pub(super) fn refuse_pull(&self, connection: &Rc<Connection>, to: ReplyTo, error: &PullError) {
        connection.reply(to, Refusal::from(error).into_command(to.opaque));
    }
}

/// The outcome of a look that was not taken.
fn no_messages(pull: &Pull, status: GetStatus, next_begin_offset: i64) -> GetMessages {
    GetMessages {
        status,
        next_begin_offset,
        min_offset: pull.queue.min_offset(),
        max_offset: pull.queue.max_offset(),
        count: 0,
        bytes: 0,
        suggest_pulling_from_slave: false,
        last_store_timestamp: 0,
        cold_bytes: 0,
    }
}
