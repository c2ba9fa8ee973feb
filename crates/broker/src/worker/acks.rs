//! A worker's acknowledgements: ACK_MESSAGE (200051), BATCH_ACK_MESSAGE (200151) and CHANGE_MESSAGE_INVISIBLETIME
//! (200053) (spec: behaviour.md §10.3). Those of one checkpoint that come in one turn become one record.

use std::rc::Rc;
use std::sync::Arc;

use oxmq_protocol::body::{BatchAck, BatchAckMessageRequestBody, TopicConfig};
use oxmq_protocol::pop::{HandleError, PopAck, PopCheckpoint, ReceiptHandle, RetryFlag};
use oxmq_protocol::requests::{AckMessageHeader, ChangeInvisibleTimeHeader, ChangeInvisibleTimeReply};
use oxmq_protocol::{FieldSet, RemotingCommand, json, response_code as code};
use oxmq_remoting::{Connection, ReplyTo};
use oxmq_store::ConsumeQueue;

use super::Worker;
use super::pops::OpenAck;
use crate::pop::{PopError, SharedQueue, ack_in_order, change_in_order};
use crate::response::{QueueIdIllegal, Refusal};

/// Checkpoints of the turn that an acknowledgement is compared with, the latest first.
const COMPARED_MAX: usize = 16;

/// What an acknowledgement says.
struct Acked<'a> {
    topic: &'a str,
    group: &'a str,
    queue_id: i32,
    start_offset: i64,
    pop_time: i64,
    invisible_time: i64,
    revive_queue: i32,
    broker_name: &'a str,
}

impl<'a> Acked<'a> {
    fn of(topic: &'a str, group: &'a str, queue_id: i32, handle: &ReceiptHandle<'a>) -> Acked<'a> {
        Acked {
            topic,
            group,
            queue_id,
            start_offset: handle.start_offset,
            pop_time: handle.pop_time,
            invisible_time: handle.invisible_time,
            revive_queue: handle.revive_queue,
            broker_name: handle.broker_name,
        }
    }

    /// Of one that was staged.
    fn again(open: &'a OpenAck) -> Acked<'a> {
        let ack = &open.ack;
        Acked {
            topic: &ack.topic,
            group: &ack.group,
            queue_id: ack.queue_id,
            start_offset: ack.start_offset,
            pop_time: ack.pop_time,
            invisible_time: open.revive_time.saturating_sub(ack.pop_time),
            revive_queue: open.revive_queue,
            broker_name: ack.broker_name.as_deref().unwrap_or_default(),
        }
    }

    fn revive_time(&self) -> i64 {
        self.pop_time.saturating_add(self.invisible_time)
    }

    fn open(&self, offset: i64) -> OpenAck {
        OpenAck {
            ack: PopAck {
                ack_offset: offset,
                ack_offsets: Vec::new(),
                broker_name: Some(self.broker_name.to_owned()),
                group: self.group.to_owned(),
                pop_time: self.pop_time,
                queue_id: self.queue_id,
                start_offset: self.start_offset,
                topic: self.topic.to_owned(),
            },
            revive_time: self.revive_time(),
            revive_queue: self.revive_queue,
        }
    }
}

impl Worker {
    pub(super) fn ack(&self, connection: &Rc<Connection>, to: ReplyTo, command: &RemotingCommand) {
        let acked = AckMessageHeader::read(&command.header.ext_fields)
            .map_err(|error| Refusal::from(&error))
            .and_then(|header| self.ack_one(connection, &header));
        self.answer_ack(connection, to, acked.map(|()| success()));
    }

    fn answer_ack(&self, connection: &Rc<Connection>, to: ReplyTo, acked: Result<RemotingCommand, Refusal>) {
        match acked {
            Ok(reply) => self.stage_reply(connection, to, reply),
            Err(refusal) => connection.reply(to, refusal.into_command(to.opaque)),
        }
    }

    fn ack_one(&self, connection: &Rc<Connection>, header: &AckMessageHeader) -> Result<(), Refusal> {
        let (topic, queue_id, offset) = (header.topic.as_str(), header.queue_id, header.offset);
        self.checked_topic(connection, topic, queue_id)?;
        let queue = self.broker.store.queue_or_create(topic, queue_id);
        let (min_offset, max_offset) = (queue.min_offset(), queue.max_offset());
        if offset < min_offset || offset > max_offset {
            let remark =
                format!("offset is illegal, key:{topic}@{queue_id}, commit:{offset}, store:{min_offset}~{max_offset}");
            return Err(Refusal::new(code::NO_MESSAGE, remark));
        }
        let handle = ReceiptHandle::parse(&header.extra_info).map_err(|error| refused_handle(&error))?;
        if handle.is_order() {
            let peer = connection.peer_addr();
            return ack_in_order(&self.broker, &queue, &header.consumer_group, offset, &handle, peer);
        }
        let acked = Acked::of(topic, &header.consumer_group, queue_id, &handle);
        self.acknowledge(&acked, [offset]);
        Ok(())
    }

    fn checked_topic(
        &self,
        connection: &Rc<Connection>,
        topic: &str,
        queue_id: i32,
    ) -> Result<Arc<TopicConfig>, Refusal> {
        let config = self.broker.topics.get(topic);
        let config = config.ok_or_else(|| Refusal::from(&PopError::TopicUnknown(topic.to_owned())))?;
        if queue_id < 0 || queue_id >= config.read_queue_nums {
            let illegal = QueueIdIllegal::of(queue_id, &config, connection.peer_addr());
            return Err(Refusal::new(code::MESSAGE_ILLEGAL, illegal.to_string()));
        }
        Ok(config)
    }

    /// Takes acknowledgements in memory, or stages them for the log.
    fn acknowledge(&self, acked: &Acked<'_>, offsets: impl IntoIterator<Item = i64>) {
        let known = self.broker.pops.known_queue(acked.topic, acked.group, acked.queue_id);
        let mut count = 0;
        for offset in offsets {
            count += 1;
            if !known
                .as_ref()
                .is_some_and(|known| self.acknowledge_in_memory(known, acked, offset))
            {
                self.stage_ack(acked, offset);
            }
        }
        self.count_acks(acked, known, count);
    }

    fn acknowledge_in_memory(&self, known: &SharedQueue, acked: &Acked<'_>, offset: i64) -> bool {
        let mut known = known.lock();
        let taken = known.ack(acked.start_offset, acked.pop_time, offset);
        if let Some(settled) = known.settle().filter(|_| taken) {
            let (offsets, now) = (&self.broker.consumer_offsets, self.broker.now_ms());
            offsets.commit(acked.group, acked.topic, acked.queue_id, settled, now);
        }
        taken
    }

    /// The same of one message that has a new checkpoint in the batch of the turn. One that is in memory knows of it when
    /// that batch is in the log, and not before: the group's offset may pass the message then.
    fn replace(&self, acked: &Acked<'_>, offset: i64) {
        let known = self.broker.pops.known_queue(acked.topic, acked.group, acked.queue_id);
        let is_in_memory = |known: &SharedQueue| known.lock().holds(acked.start_offset, acked.pop_time);
        match known.as_ref().is_some_and(is_in_memory) {
            true => self.pops.replaced.borrow_mut().push(acked.open(offset)),
            false => self.stage_ack(acked, offset),
        }
        self.count_acks(acked, known, 1);
    }

    /// The new checkpoints are in the log.
    pub(super) fn settle_replaced(&self) {
        for open in self.pops.replaced.take() {
            let acked = Acked::again(&open);
            let known = self.broker.pops.known_queue(acked.topic, acked.group, acked.queue_id);
            let offset = open.ack.ack_offset;
            if !known.is_some_and(|known| self.acknowledge_in_memory(&known, &acked, offset)) {
                // It has left memory meanwhile.
                self.stage_ack(&acked, offset);
                self.turn.request_turn_end();
            }
        }
    }

    fn count_acks(&self, acked: &Acked<'_>, known: Option<SharedQueue>, count: i64) {
        self.broker.stats.group(acked.topic, acked.group).on_acks(count);
        if let Some(known) = known.filter(|_| acked.pop_time >= self.broker.started_at) {
            known.lock().add_in_flight(-count);
        }
    }

    fn stage_ack(&self, acked: &Acked<'_>, offset: i64) {
        // Others do not exist: only a forged handle names one, and nobody would read it there.
        if !(0..self.broker.config().revive_queue_num).contains(&acked.revive_queue) {
            return;
        }
        let mut acks = self.pops.acks.borrow_mut();
        let revive_time = acked.revive_time();
        let same = acks.iter_mut().rev().take(COMPARED_MAX).find(|open| {
            let ack = &open.ack;
            (ack.start_offset, ack.pop_time, ack.queue_id) == (acked.start_offset, acked.pop_time, acked.queue_id)
                && (open.revive_queue, open.revive_time) == (acked.revive_queue, revive_time)
                && ack.topic == acked.topic
                && ack.group == acked.group
        });
        if let Some(open) = same {
            return open.ack.add(offset);
        }
        acks.push(acked.open(offset));
    }

    pub(super) fn batch_ack(&self, connection: &Rc<Connection>, to: ReplyTo, command: &RemotingCommand) {
        let body = match command.body.is_empty() {
            true => Ok(BatchAckMessageRequestBody::default()),
            false => json::from_slice::<BatchAckMessageRequestBody>(&command.body),
        };
        let acked = body
            .map_err(|error| Refusal::new(code::SYSTEM_ERROR, error.to_string()))
            .and_then(|body| self.ack_batches(connection, &body));
        self.answer_ack(connection, to, acked.map(|()| success()));
    }

    fn ack_batches(&self, connection: &Rc<Connection>, body: &BatchAckMessageRequestBody) -> Result<(), Refusal> {
        if body.acks.is_empty() {
            return Err(Refusal::new(code::NO_MESSAGE, ""));
        }
        for batch in &body.acks {
            self.ack_batch(connection, batch, &body.broker_name)?;
        }
        Ok(())
    }

    fn ack_batch(&self, connection: &Rc<Connection>, batch: &BatchAck, broker_name: &str) -> Result<(), Refusal> {
        let flag = RetryFlag::parse(&batch.retry)
            .ok_or_else(|| Refusal::new(code::SYSTEM_ERROR, "getRetry fail, format is wrong"))?;
        let topic = flag.real_topic(&batch.topic, &batch.consumer_group);
        let Some(queue) = self.broker.store.queue(&topic, batch.queue_id) else {
            return Ok(()); // As in the original.
        };
        let there = queue.min_offset()..=queue.max_offset();
        let offsets = batch
            .bit_set
            .iter()
            .map(|distance| batch.start_offset.saturating_add(distance as i64));
        let offsets: Vec<i64> = offsets.filter(|offset| there.contains(offset)).collect();
        let handle = ReceiptHandle {
            start_offset: batch.start_offset,
            pop_time: batch.pop_time,
            invisible_time: batch.invisible_time,
            revive_queue: batch.revive_queue_id,
            retry: &batch.retry,
            broker_name,
            queue_id: batch.queue_id,
            queue_offset: None,
        };
        if handle.is_order() {
            let peer = connection.peer_addr();
            return offsets.into_iter().try_for_each(|offset| {
                ack_in_order(&self.broker, &queue, &batch.consumer_group, offset, &handle, peer)
            });
        }
        let acked = Acked::of(&topic, &batch.consumer_group, batch.queue_id, &handle);
        self.acknowledge(&acked, offsets);
        Ok(())
    }

    pub(super) fn change_invisible_time(&self, connection: &Rc<Connection>, to: ReplyTo, command: &RemotingCommand) {
        let changed = ChangeInvisibleTimeHeader::read(&command.header.ext_fields)
            .map_err(|error| Refusal::from(&error))
            .and_then(|header| self.change(connection, &header));
        self.answer_ack(connection, to, changed);
    }

    fn change(
        &self,
        connection: &Rc<Connection>,
        header: &ChangeInvisibleTimeHeader,
    ) -> Result<RemotingCommand, Refusal> {
        let (topic, queue_id, offset) = (header.topic.as_str(), header.queue_id, header.offset);
        self.checked_topic(connection, topic, queue_id)?;
        let queue: Arc<ConsumeQueue> = self.broker.store.queue_or_create(topic, queue_id);
        if offset < queue.min_offset() || offset >= queue.max_offset() {
            return Err(Refusal::new(code::NO_MESSAGE, ""));
        }
        let handle = ReceiptHandle::parse(&header.extra_info).map_err(|error| refused_handle(&error))?;
        if handle.is_order() {
            let changed = change_in_order(&self.broker, &queue, header, &handle);
            return Ok(success().with_fields(&changed));
        }
        // Checkpoints are told apart by their first offset and their time: with that of the old one, what acknowledges the old
        // one would acknowledge the new one.
        let pop_time = self.broker.now_ms().max(handle.pop_time.saturating_add(1));
        let checkpoint = PopCheckpoint {
            broker_name: handle.broker_name.to_owned(),
            group: header.consumer_group.clone(),
            distances: vec![0],
            invisible_time: header.invisible_time,
            count: 1,
            pop_time,
            queue_id,
            revive_time: pop_time.saturating_add(header.invisible_time),
            start_offset: offset,
            suspend: header.suspend.unwrap_or(false),
            topic: topic.to_owned(),
            ..PopCheckpoint::default()
        };
        self.stage_checkpoint(&checkpoint, handle.revive_queue)?;
        let acked = Acked::of(topic, &header.consumer_group, queue_id, &handle);
        self.replace(&acked, offset);
        Ok(success().with_fields(&ChangeInvisibleTimeReply {
            pop_time,
            invisible_time: header.invisible_time,
            revive_qid: handle.revive_queue,
        }))
    }

    fn stage_checkpoint(&self, checkpoint: &PopCheckpoint, revive_queue: i32) -> Result<(), Refusal> {
        if !(0..self.broker.config().revive_queue_num).contains(&revive_queue) {
            return Err(Refusal::new(code::SYSTEM_ERROR, "the handle names no revive queue"));
        }
        self.broker
            .stats
            .group(&checkpoint.topic, &checkpoint.group)
            .on_checkpoint();
        self.with_pop_batch(|batch| {
            crate::pop::records::stage_checkpoint(&self.broker, batch, checkpoint, revive_queue)
        })
        .map_err(|error| Refusal::new(code::SYSTEM_ERROR, error.to_string()))
    }
}

fn success() -> RemotingCommand {
    RemotingCommand::response(0, code::SUCCESS, None)
}

fn refused_handle(error: &HandleError) -> Refusal {
    Refusal::new(code::SYSTEM_ERROR, error.to_string())
}
