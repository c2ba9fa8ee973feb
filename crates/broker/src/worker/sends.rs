//! A worker's sends: staged as their frames come, appended at the end of the turn, answered when their promise holds.

use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;
use oxmq_protocol::recall_handle::RecallHandle;
use oxmq_protocol::response_code;
use oxmq_protocol::topic::{self, TRANS_HALF_TOPIC};
use oxmq_remoting::{Connection, ReplyTo};
use oxmq_store::{AppendBatch, AppendEntry};

use super::{HeldReply, StagedSend, Worker};
use crate::broker::Broker;
use crate::config::FlushDiskType;
use crate::flush_queue::write_timeout;
use crate::reply::SendReply;
use crate::response::Refusal;
use crate::send::{Outcome, Producer, SendError, SendRequest, SendStage};
use crate::slow_requests::About;
use crate::stats::SentBatch;
use crate::transactions::end::EndError;

/// A batch is appended when it has grown beyond this, even before the turn ends.
const STAGED_BYTES_MAX: usize = 256 * 1024;
/// What a record has besides body and properties, roughly: topic, fixed fields, what the broker adds.
const RECORD_OVERHEAD_BYTES: usize = 1024;
/// An append that has been holding the log for this long makes sends fail (spec: behaviour.md §3.1).
const APPEND_BUSY_MS: u64 = 1000;

impl Worker {
    pub(super) fn send(
        &self,
        connection: &Rc<Connection>,
        to: ReplyTo,
        version: i32,
        request: &SendRequest<'_>,
        body: &[u8],
    ) {
        let producer = Producer {
            addr: connection.peer_addr(),
            version,
        };
        self.make_room(request.properties.len() + 2 * body.len());
        let mut stage = self.stage.borrow_mut();
        let staged = self.may_stage(&stage).and_then(|()| {
            let stage = &mut *stage;
            stage.stage(&self.broker, &self.topics, request, body, producer)
        });
        let staged_bytes = stage.batch.records.len();
        let creates_topic = std::mem::take(&mut stage.has_new_topic);
        drop(stage);
        match staged {
            Ok((topic, Outcome::Duplicate(send))) => self.answer_duplicate(connection, to, topic.name(), send),
            Ok((topic, Outcome::Staged(staged))) => self.staged.borrow_mut().push(StagedSend {
                connection: Rc::clone(connection),
                to,
                staged,
                topic,
                creates_topic,
            }),
            Err(error) => self.refuse_send(connection, to, &error),
        }
        if staged_bytes > STAGED_BYTES_MAX {
            self.append();
        }
    }

    /// Appends what is staged if the buffer of the batch would have to grow for so much more, which would copy it all. The
    /// next batch has a buffer with room.
    pub(super) fn make_room(&self, bytes: usize) {
        let has_room = {
            let records = &self.stage.borrow().batch.records;
            records.is_empty() || records.capacity() - records.len() >= bytes + RECORD_OVERHEAD_BYTES
        };
        if !has_room {
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
    pub(super) fn append(&self) {
        let mut stage = self.stage.borrow_mut();
        if stage.is_empty() && self.ends.borrow().is_empty() {
            return;
        }
        let mut staged = self.staged.borrow_mut();
        let stored = match self.stage_ops(&mut stage.batch) {
            Ok(ops) => self.broker.store.append(&mut stage.batch).map(|()| ops),
            Err(error) => unreachable!("an op record is one: {error}"),
        };
        match stored {
            Ok(ops) => {
                self.stored(&stage, &staged);
                self.ended(&stage.batch, &ops);
            }
            Err(error) => {
                if let Some(window) = &self.broker.duplicates {
                    window.withdraw(&stage.entered);
                }
                self.not_ended(&EndError::Append(error.clone()));
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
        count_sends(&self.broker, &stage.batch, staged);
        if self.broker.metrics.is_some() {
            count_sent(&self.broker, &stage.batch, staged);
        }
        let mut flushes = self.flushes.borrow_mut();
        self.settle_duplicates(stage, staged);
        for send in staged {
            let entries = &stage.batch.entries[send.staged.entries.clone()];
            if send.to.oneway {
                continue;
            }
            let key = &stage.keys[send.staged.key.clone()];
            let recall_handle = send
                .staged
                .timer_out_ms
                .map_or_else(String::new, |out_ms| self.recall_handle(send.topic.name(), key, out_ms));
            let reply = SendReply {
                queue_id: send.staged.queue_id_for_producer(),
                queue_offset: (send.staged).offset_for_producer(entries.first().map_or(0, |entry| entry.queue_offset)),
                key,
                recall_handle: &recall_handle,
                entries,
            };
            if send.creates_topic {
                let mut bytes = BytesMut::new();
                self.replies.send(&mut bytes, send.to, &reply);
                let flushed = (must_wait && send.staged.wait_store).then_some(end);
                let to = send.to;
                self.hold_for_topic(&send.connection, HeldReply { to, bytes, flushed });
            } else if must_wait && send.staged.wait_store {
                flushes.push(end, &send.connection, send.to, Some(&send.topic), |out| {
                    self.replies.send(out, send.to, &reply)
                });
            } else {
                send.connection.write(|out| self.replies.send(out, send.to, &reply));
            }
        }
        drop(flushes);
        self.note_answers(staged, must_wait);
        if must_wait {
            self.wait_for_flush();
        }
    }

    /// Notes the answers that were just written, those of requests that came together at once.
    fn note_answers(&self, staged: &[StagedSend], must_wait: bool) {
        if !self.notes_answers() {
            return;
        }
        let waits =
            |send: &StagedSend| !send.to.oneway && (send.creates_topic || (must_wait && send.staged.wait_store));
        let kind = |send: &StagedSend| (send.to.code, send.to.oneway, send.to.received, waits(send));
        for sends in staged.chunk_by(|a, b| kind(a) == kind(b)) {
            if !waits(&sends[0]) {
                let StagedSend {
                    connection, to, topic, ..
                } = &sends[0];
                let about = About {
                    topic: Some(topic.name()),
                    ..About::default()
                };
                let times = sends.len() as u64;
                self.note_answer(connection, to, response_code::SUCCESS, true, times, about);
            }
        }
    }

    /// The replies that were put by until now wait for the disk.
    pub(super) fn wait_for_flush(&self) {
        let mut flushes = self.flushes.borrow_mut();
        let timeout_ms = self.broker.config().sync_flush_timeout_ms;
        flushes.close_turn(self.now_ms(), timeout_ms);
        self.mailbox().wait_for_flush();
        flushes.release(self.broker.store.flushed(), |flushed| self.note_flushed(flushed));
        if let Some(deadline_ms) = flushes.next_deadline_ms() {
            self.set_timer(deadline_ms);
        }
    }

    pub(super) fn recall_handle(&self, topic: &str, key: &[u8], out_ms: i64) -> String {
        let handle = RecallHandle {
            topic: topic.to_owned(),
            broker_name: self.broker.config().broker_name.clone(),
            timestamp: out_ms + 1,
            message_id: String::from_utf8_lossy(key).into_owned(),
        };
        handle.encode()
    }

    pub(super) fn release_flushed(&self) {
        let mut flushes = self.flushes.borrow_mut();
        if flushes.is_empty() {
            return;
        }
        self.mailbox().wait_for_flush();
        flushes.release(self.broker.store.flushed(), |flushed| self.note_flushed(flushed));
    }

    /// The topic is saved first: after a kill its messages could not be pulled without it.
    fn hold_for_topic(&self, connection: &Rc<Connection>, held: HeldReply) {
        let request = connection.begin_request(held.bytes.len());
        let saved = self.broker.saver.saved();
        let announced = self.broker.registration.announced();
        let broker = Arc::clone(&self.broker);
        self.answer_later(async move {
            // A failure is logged where it happens. The message is stored in any case.
            let _ = saved.await;
            announced.await;
            let is_safe = match held.flushed {
                Some(end) => broker.is_flushed(end).await,
                None => true,
            };
            let code = match is_safe {
                true => response_code::SUCCESS,
                false => response_code::FLUSH_DISK_TIMEOUT,
            };
            request.connection().answered(&held.to, code);
            request.connection().write(|out| match is_safe {
                true => out.extend_from_slice(&held.bytes),
                false => write_timeout(out, &held.bytes),
            });
        });
    }

    pub(super) fn refuse_send(&self, connection: &Rc<Connection>, to: ReplyTo, error: &SendError) {
        let refusal = Refusal::from(error);
        connection.reply(
            to,
            match error {
                // The original fails before it fills in what every answer has.
                SendError::Fields(_) | SendError::NoBody | SendError::BatchMalformed => refusal.into_command(to.opaque),
                _ => self.replies.refused_send(to.opaque, refusal),
            },
        );
    }
}

/// Counts what was stored, sends to one topic in a row at once. Half messages are traffic of their own topic.
fn count_sends(broker: &Broker, batch: &AppendBatch, staged: &[StagedSend]) {
    let alike = |send: &StagedSend, next: &StagedSend| {
        Rc::ptr_eq(&send.topic, &next.topic) && send.staged.is_half == next.staged.is_half
    };
    for sends in staged.chunk_by(alike) {
        let (mut messages, mut bytes) = (0, 0);
        for entry in sends
            .iter()
            .flat_map(|send| &batch.entries[send.staged.entries.clone()])
        {
            messages += entry.messages();
            bytes += i64::from(entry.len);
        }
        let topic = &sends[0].topic;
        if sends[0].staged.is_half {
            broker.transactions.metrics.add(topic.name(), messages, broker.now_ms());
            let stats = broker.stats.topic(TRANS_HALF_TOPIC);
            stats.on_sends(sends.len() as i64, messages, bytes);
        } else {
            topic.stats.on_sends(sends.len() as i64, messages, bytes);
        }
    }
}

/// The same for the metrics: by type of message, under the topic where the messages lie.
fn count_sent(broker: &Broker, batch: &AppendBatch, staged: &[StagedSend]) {
    let place = |send: &StagedSend| {
        batch
            .entries
            .get(send.staged.entries.start)
            .map(|entry| entry.queue.topic())
    };
    for sends in staged.chunk_by(|a, b| a.staged.message_type == b.staged.message_type && place(a) == place(b)) {
        let Some(name) = place(&sends[0]).filter(|name| !topic::is_retry(name) && !topic::is_dlq(name)) else {
            continue;
        };
        let mut sum = SentBatch::default();
        for send in sends {
            let entries = &batch.entries[send.staged.entries.clone()];
            sum.add(
                entries.iter().map(AppendEntry::messages).sum(),
                entries.iter().map(|entry| i64::from(entry.len)).sum(),
            );
        }
        let (topic, kind) = (&sends[0].topic, sends[0].staged.message_type);
        match **name == *topic.name() {
            true => topic.stats.on_sent(kind, &sum),
            false => broker.stats.topic(name).on_sent(kind, &sum),
        }
    }
}
