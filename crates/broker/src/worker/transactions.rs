//! END_TRANSACTION (37): the half message is looked up, the transaction claimed and its message staged as the frame
//! comes; the end of the turn appends it together with the sends of the turn and with the op record of all that ended
//! (spec: behaviour.md §7.2).

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use oxmq_protocol::record::RecordRef;
use oxmq_protocol::requests::EndTransactionHeader;
use oxmq_protocol::{FieldSet, RemotingCommand, response_code, sys_flag};
use oxmq_remoting::{Connection, ReplyTo};
use oxmq_store::{AppendBatch, GetError};

use super::{AWAY_REPLY_BYTES, Away, Worker};
use crate::broker::Broker;
use crate::put::{InternalMessage, PutError, copy_properties};
use crate::read_threads::{Done, Lane};
use crate::response::Refusal;
use crate::transactions::end::{EndError, Outcome, check};
use crate::transactions::half::{Half, StagedOp, is_of_place};
use crate::transactions::ledger::HalfId;
use crate::transactions::on_ops;

/// A transaction that ends with the batch of this turn.
pub(super) struct StagedEnd {
    connection: Rc<Connection>,
    to: ReplyTo,
    current: HalfId,
    outcome: Outcome,
    real_topic: Box<str>,
    born_timestamp: i64,
    /// The message of a commit in the batch.
    entry: Option<usize>,
}

impl Worker {
    pub(super) fn end_transaction(&self, connection: &Rc<Connection>, to: ReplyTo, command: &RemotingCommand) {
        let header = EndTransactionHeader::read(&command.header.ext_fields);
        let decided = header.map_err(EndError::from).and_then(|header| {
            let outcome = Outcome::of(&header)?;
            Ok(outcome.map(|outcome| (header, outcome)))
        });
        match decided {
            Ok(Some((header, outcome))) => match self.broker.store.read_record_now(header.commit_log_offset) {
                Ok(record) => self.end_found(connection, to, &header, outcome, record),
                Err(GetError::WouldBlock) => self.find_half(connection, to, header, outcome),
                Err(error) => self.refuse_end(connection, to, &EndError::Read(error.to_string())),
            },
            // The producer does not know yet. Nobody gets an answer, as with the original.
            Ok(None) => {}
            Err(error) => self.refuse_end(connection, to, &error),
        }
    }

    fn find_half(&self, connection: &Rc<Connection>, to: ReplyTo, header: EndTransactionHeader, outcome: Outcome) {
        let physical_offset = header.commit_log_offset;
        let request = connection.begin_request(AWAY_REPLY_BYTES);
        let find = Box::new(move |broker: &Arc<Broker>| Done::Half(broker.store.read_record(physical_offset)));
        self.hand_over(Lane::Disk, Away::End(request, to, header, outcome), find);
    }

    pub(super) fn end_found(
        &self,
        connection: &Rc<Connection>,
        to: ReplyTo,
        header: &EndTransactionHeader,
        outcome: Outcome,
        record: Option<Bytes>,
    ) {
        match self.stage_end(connection, to, header, outcome, record) {
            Ok(true) => self.turn.request_turn_end(),
            Ok(false) => self.answer_end(connection, to),
            Err(error) => self.refuse_end(connection, to, &error),
        }
    }

    /// False when the transaction has ended like this before.
    fn stage_end(
        &self,
        connection: &Rc<Connection>,
        to: ReplyTo,
        header: &EndTransactionHeader,
        outcome: Outcome,
        record: Option<Bytes>,
    ) -> Result<bool, EndError> {
        let record = record.ok_or(EndError::NotFound)?;
        let record = RecordRef::parse(&record).map_err(|_| EndError::NotFound)?;
        let half = Half::of(record).ok_or(EndError::NotFound)?;
        let timeout_ms = self.broker.config().transaction_time_out_ms as i64;
        check(header, &half, self.broker.now_ms(), timeout_ms)?;
        self.make_room(half.record.total_size());
        let mut stage = self.stage.borrow_mut();
        if self.flushes.borrow().is_full() {
            return Err(EndError::Overload);
        }
        let claimed = self.broker.transactions.ledger.lock().claim(half.id);
        let current = match claimed {
            Ok(current) => current,
            Err(unclaimed) => return outcome.after(unclaimed).map(|()| false),
        };
        let entry = match outcome {
            Outcome::Rollback => None,
            Outcome::Commit => {
                let entry = stage.batch.entries.len();
                if let Err(error) = self.stage_commit(&mut stage.batch, &half, current) {
                    self.broker.transactions.ledger.lock().release(current);
                    return Err(error.into());
                }
                Some(entry)
            }
        };
        self.ends.borrow_mut().push(StagedEnd {
            connection: Rc::clone(connection),
            to,
            current,
            outcome,
            real_topic: half.real_topic.into(),
            born_timestamp: half.record.born_timestamp(),
            entry,
        });
        Ok(true)
    }

    /// The message as consumers get it: the half message at its real place.
    fn stage_commit(&self, batch: &mut AppendBatch, half: &Half<'_>, current: HalfId) -> Result<(), PutError> {
        let record = &half.record;
        let mut properties = self.scratch.borrow_mut();
        properties.clear();
        copy_properties(&mut properties, record.properties(), is_of_place);
        let message = InternalMessage {
            sys_flag: record.sys_flag() & !sys_flag::TRANSACTION_MASK | sys_flag::TRANSACTION_COMMIT,
            // Of the half message that the op record names: a start after a crash finds it here.
            prepared_transaction_offset: current.physical_offset,
            properties: &properties,
            delay_level: half.delay_level,
            ..InternalMessage::copy_of(record, half.real_topic, half.real_queue_id)
        };
        self.broker.stage_internal(batch, &message)
    }

    /// Encodes the op records of all that ends with this batch. They are the last of it.
    pub(super) fn stage_ops(&self, batch: &mut AppendBatch) -> Result<Vec<StagedOp>, PutError> {
        let ends = self.ends.borrow();
        if ends.is_empty() {
            return Ok(Vec::new());
        }
        let halves = ends.iter().map(|end| end.current.queue_offset);
        self.broker.transactions.stage_ops(&self.broker, batch, halves)
    }

    /// The batch is stored.
    pub(super) fn ended(&self, batch: &AppendBatch, ops: &[StagedOp]) {
        let ends = std::mem::take(&mut *self.ends.borrow_mut());
        if ends.is_empty() {
            return;
        }
        let transactions = &self.broker.transactions;
        let now = self.broker.now_ms();
        let mut ledger = transactions.ledger.lock();
        for end in &ends {
            ledger.end(end.current, end.outcome.state());
        }
        on_ops(&mut ledger, batch, ops);
        drop(ledger);
        for end in &ends {
            transactions.metrics.add(&end.real_topic, -1, now);
            if let Some(metrics) = &self.broker.metrics {
                match end.outcome {
                    Outcome::Commit => metrics.committed(&end.real_topic, now - end.born_timestamp),
                    Outcome::Rollback => metrics.rolled_back(&end.real_topic),
                }
            }
            if let Some(entry) = end.entry {
                let stats = self.broker.stats.topic(&end.real_topic);
                stats.on_send(1, batch.entries[entry].len.into());
            }
            match end.to.oneway {
                true => end.connection.answered(&end.to, response_code::SUCCESS),
                false => self.answer_when_flushed(end, batch.end_offset),
            }
        }
    }

    fn answer_when_flushed(&self, end: &StagedEnd, end_offset: i64) {
        if self.broker.store.confirmed() >= end_offset {
            return self.answer_end(&end.connection, end.to);
        }
        let request = end.connection.begin_request(0);
        let (broker, to) = (Arc::clone(&self.broker), end.to);
        self.answer_later(async move {
            let code = match broker.is_flushed(end_offset).await {
                true => response_code::SUCCESS,
                false => response_code::FLUSH_DISK_TIMEOUT,
            };
            let reply = RemotingCommand::response(to.opaque, code, None);
            request.connection().reply(to, reply);
        });
    }

    /// The batch is not stored: nothing has ended.
    pub(super) fn not_ended(&self, error: &EndError) {
        for end in self.ends.take() {
            self.broker.transactions.ledger.lock().release(end.current);
            self.refuse_end(&end.connection, end.to, error);
        }
    }

    fn answer_end(&self, connection: &Rc<Connection>, to: ReplyTo) {
        connection.reply(to, RemotingCommand::response(to.opaque, response_code::SUCCESS, None));
    }

    pub(super) fn refuse_end(&self, connection: &Rc<Connection>, to: ReplyTo, error: &EndError) {
        if to.oneway {
            tracing::debug!(peer = %connection.peer_addr(), %error, "a transaction is not ended");
        }
        connection.reply(to, Refusal::from(error).into_command(to.opaque));
    }
}
