//! Handing out messages: which queues a request reads, in which order, and what it takes of each
//! (spec: behaviour.md §10.2).

use std::sync::Arc;

use bytes::BytesMut;
use oxmq_protocol::body::TopicConfig;
use oxmq_protocol::pop::{
    ORDER_REVIVE_QUEUE, OffsetInfo, PopCheckpoint, ReceiptHandle, RetryFlag, retry_topic_v1, retry_topic_v2,
};
use oxmq_protocol::record::RecordRef;
use oxmq_protocol::topic;
use oxmq_store::{ConsumeQueue, GetError, GetLimits, GetMessages, GetStatus, Wait};
use smallvec::SmallVec;

use super::order::OrderInfo;
use super::queue::{Buffered, Serial, Stay};
use super::shown::put_shown;
use super::{Pop, SharedQueue};
use crate::attributes;
use crate::broker::Broker;
use crate::consumer_offsets::offset_of_a_new_group;

/// Attribute of a group: per cent of its requests that read topics of type PRIORITY in the order of priority.
const PRIORITY_FACTOR_DEFAULT: i64 = 100;
/// Memory only shows so much before a checkpoint must be written: the original's margin.
const BUFFER_MARGIN_MS: i64 = 1500;

/// What a request was given.
#[derive(Default)]
pub(crate) struct Collected {
    /// Stored messages, back to back.
    pub(crate) messages: BytesMut,
    pub(crate) count: usize,
    pub(crate) pop_time: i64,
    pub(crate) revive_queue: i32,
    /// Messages that are left in the queues that were looked at.
    pub(crate) rest: i64,
    pub(crate) info: OffsetInfo,
    /// Checkpoints that must be in the log before the messages leave.
    pub(crate) handed: Vec<Handed>,
    /// The queues that were looked at, and their ends then.
    pub(crate) seen: SmallVec<[(Arc<ConsumeQueue>, i64); 8]>,
    /// A queue has more that can be read at once.
    pub(crate) has_more: bool,
    /// When a queue ends to be blocked by a batch that is out.
    pub(crate) blocked_until: Option<i64>,
    /// A queue needs the disk.
    pub(crate) would_block: bool,
}

impl Collected {
    /// Nothing can be handed out without the disk.
    pub(crate) fn is_cold(&self) -> bool {
        self.count == 0 && self.would_block
    }

    /// For a request that was not looked at.
    pub(crate) fn nothing(now: i64) -> Collected {
        Collected {
            pop_time: now,
            ..Collected::default()
        }
    }

    pub(crate) fn is_order(&self) -> bool {
        self.revive_queue == ORDER_REVIVE_QUEUE
    }
}

/// Messages of one queue whose checkpoint is not written yet.
pub(crate) struct Handed {
    pub(crate) queue: SharedQueue,
    pub(crate) serial: Serial,
    pub(crate) checkpoint: PopCheckpoint,
}

/// Reads for a request, from memory and page cache, or also from the disk.
pub(crate) fn collect(broker: &Broker, pop: &Pop, wait: Wait) -> Collected {
    let turn = broker.pops.turn();
    let chance = chance(turn);
    let config = broker.config();
    let revive_queue = match pop.order {
        true => ORDER_REVIVE_QUEUE,
        false => (turn % config.revive_queue_num.max(1) as u64) as i32,
    };
    let collected = Collected {
        pop_time: broker.now_ms(),
        revive_queue,
        ..Collected::default()
    };
    let reads_v1 =
        !config.enable_retry_topic_v2 || (config.retrieve_message_from_pop_retry_topic_v1 && chance.is_multiple_of(2));
    let retry_topic = (!pop.order).then(|| match reads_v1 {
        true => retry_topic_v1(&pop.topic.topic_name, &pop.group),
        false => retry_topic_v2(&pop.topic.topic_name, &pop.group),
    });
    let by_priority = !pop.order && is_by_priority(broker, pop, chance);
    let probability = match by_priority {
        true => config.pop_from_retry_probability_for_priority,
        false => config.pop_from_retry_probability,
    };
    let retry_first = chance < probability;
    let order = QueueOrder {
        // By priority the best queue is always the first.
        start: if by_priority { 0 } else { chance as i32 },
        descending: config.priority_order_asc,
    };
    drop(config);
    let mut reader = Reader {
        broker,
        pop,
        wait,
        collected,
    };
    let retry = retry_topic.and_then(|topic| broker.topics.get(&topic));
    if let Some(retry) = retry.as_ref().filter(|_| retry_first) {
        reader.read_all(retry, order);
    }
    match pop.queue_id {
        0.. => reader.read(&pop.topic, pop.queue_id),
        _ => reader.read_all(&pop.topic, order),
    }
    if let Some(retry) = retry.filter(|_| !retry_first && reader.room() > 0) {
        reader.read_all(&retry, order);
    }
    reader.collected
}

/// Whether this request reads the queues in the order of their priority: the topic says so, and the group for the share
/// of requests that its attribute tells.
fn is_by_priority(broker: &Broker, pop: &Pop, chance: u32) -> bool {
    let message_type = pop.topic.attributes.get(attributes::MESSAGE_TYPE);
    if message_type.is_none_or(|kind| kind != attributes::PRIORITY) {
        return false;
    }
    let group = broker.groups.get(&pop.group);
    let factor = group.and_then(|group| group.attributes.get(attributes::PRIORITY_FACTOR)?.parse::<i64>().ok());
    i64::from(chance) < factor.unwrap_or(PRIORITY_FACTOR_DEFAULT)
}

/// In which order the queues of a topic are looked at.
#[derive(Debug, Clone, Copy)]
struct QueueOrder {
    start: i32,
    descending: bool,
}

impl QueueOrder {
    fn queue_id(self, index: i32, count: i32) -> i32 {
        let step = if self.descending { count - 1 - index } else { index };
        (self.start + step) % count
    }
}

/// The topics whose queues a request may get messages from, besides its own: those of messages that come again.
pub(crate) fn retry_topics(broker: &Broker, topic: &str, group: &str) -> SmallVec<[Arc<TopicConfig>; 2]> {
    let config = broker.config();
    let v2 = config.enable_retry_topic_v2;
    let v1 = !v2 || config.retrieve_message_from_pop_retry_topic_v1;
    let names = [
        v1.then(|| retry_topic_v1(topic, group)),
        v2.then(|| retry_topic_v2(topic, group)),
    ];
    names
        .into_iter()
        .flatten()
        .filter_map(|name| broker.topics.get(&name))
        .collect()
}

/// 0 to 99, without a pattern over successive turns.
fn chance(turn: u64) -> u32 {
    let mut mixed = turn.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    ((mixed >> 33) % 100) as u32
}

struct Reader<'a> {
    broker: &'a Broker,
    pop: &'a Pop,
    wait: Wait,
    collected: Collected,
}

/// What was read of a queue.
struct Read {
    got: GetMessages,
    from: i64,
    queue_offsets: SmallVec<[i64; 32]>,
}

impl Reader<'_> {
    fn room(&self) -> usize {
        self.pop.count_max.saturating_sub(self.collected.count)
    }

    fn read_all(&mut self, topic: &TopicConfig, order: QueueOrder) {
        let count = topic.read_queue_nums;
        for index in 0..count {
            self.read(topic, order.queue_id(index, count));
        }
    }

    fn read(&mut self, topic: &TopicConfig, queue_id: i32) {
        let name = topic.topic_name.as_str();
        let queue = self.broker.store.queue_or_create(name, queue_id);
        let end = queue.max_offset();
        self.collected.seen.push((Arc::clone(&queue), end));
        let shared = self.broker.pops.queue(name, &self.pop.group, queue_id);
        if !shared.lock().begin() {
            self.passed(&queue, &shared);
            return;
        }
        self.read_queue(name, &queue, &shared);
        if shared.lock().end() {
            self.broker.wake_waiting(&queue);
        }
    }

    /// Somebody else reads the queue; the end of that wakes those who wait.
    fn passed(&mut self, queue: &Arc<ConsumeQueue>, shared: &SharedQueue) {
        if !self.pop.order {
            let from = shared.lock().next_offset(self.committed(queue)).unwrap_or(0);
            self.collected.rest += queue.max_offset() - from;
        }
    }

    fn committed(&self, queue: &ConsumeQueue) -> Option<i64> {
        let offsets = &self.broker.consumer_offsets;
        offsets.query(&self.pop.group, queue.topic(), queue.queue_id())
    }

    fn commit(&self, queue: &ConsumeQueue, consumer_offset: i64) {
        let offsets = &self.broker.consumer_offsets;
        let (group, now) = (&self.pop.group, self.collected.pop_time);
        offsets.commit(group, queue.topic(), queue.queue_id(), consumer_offset, now);
    }

    fn read_queue(&mut self, topic: &str, queue: &Arc<ConsumeQueue>, shared: &SharedQueue) {
        let now = self.collected.pop_time;
        let config = self.broker.config();
        let too_many =
            config.enable_pop_message_threshold && shared.lock().in_flight() > config.pop_inflight_message_threshold;
        let from = self.start(topic, queue, shared);
        if too_many {
            self.collected.rest += queue.max_offset() - from;
            return;
        }
        if self.pop.order {
            let mut shared = shared.lock();
            let attempt = self.pop.attempt_id.as_deref();
            let order = shared.order.as_mut();
            if let Some(until) = order.and_then(|order| order.blocked_until(attempt, self.pop.invisible_time, now)) {
                let earlier = self.collected.blocked_until.map_or(until, |known| known.min(until));
                self.collected.blocked_until = Some(earlier);
                return;
            }
            shared.clear_in_flight();
        }
        if self.room() == 0 || from == queue.max_offset() {
            self.collected.rest += queue.max_offset() - from;
            return;
        }
        match self.get(queue, from) {
            Ok(read) => self.take(topic, queue, shared, &read),
            Err(GetError::WouldBlock) => {
                self.collected.would_block = true;
                self.collected.rest += queue.max_offset() - from;
            }
            Err(error) => tracing::warn!(topic, queue_id = queue.queue_id(), %error, "a queue cannot be read"),
        }
    }

    /// Where the group goes on in the queue.
    fn start(&self, topic: &str, queue: &Arc<ConsumeQueue>, shared: &SharedQueue) -> i64 {
        let offsets = &self.broker.consumer_offsets;
        if let Some(reset) = offsets.take_reset(&self.pop.group, topic, queue.queue_id()) {
            shared.lock().reset();
            self.broker.pops.order_changed();
            self.commit(queue, reset);
            return reset;
        }
        let known = shared.lock().next_offset(self.committed(queue));
        known.unwrap_or_else(|| {
            let first = self.first_offset(topic, queue);
            self.commit(queue, first);
            first
        })
    }

    /// Where a group begins that has no offset.
    fn first_offset(&self, topic: &str, queue: &Arc<ConsumeQueue>) -> i64 {
        let min_offset = queue.min_offset();
        if !self.pop.from_the_end || topic::is_retry(topic) {
            return min_offset;
        }
        let whole_in_memory = self.broker.config().init_pop_offset_by_check_msg_in_mem
            && offset_of_a_new_group(None, min_offset, self.broker.first_is_in_memory(queue)).is_some();
        match whole_in_memory {
            true => 0,
            false => (queue.max_offset() - 1).max(0),
        }
    }

    /// Reads, once more where the offset lies outside of the queue.
    fn get(&mut self, queue: &Arc<ConsumeQueue>, from: i64) -> Result<Read, GetError> {
        let read = self.get_once(queue, from)?;
        match read.got.status {
            GetStatus::OffsetTooSmall | GetStatus::OffsetOverflowBadly | GetStatus::OffsetFoundNull => {
                let from = read.got.next_begin_offset;
                self.commit(queue, from);
                self.get_once(queue, from)
            }
            _ => Ok(read),
        }
    }

    fn get_once(&mut self, queue: &Arc<ConsumeQueue>, from: i64) -> Result<Read, GetError> {
        let limits = GetLimits::count(self.room());
        let start = self.collected.messages.len();
        let messages = &mut self.collected.messages;
        let got = self
            .broker
            .store
            .get_messages(queue, from, &limits, &mut &self.pop.filter, self.wait, messages)?;
        let mut queue_offsets = SmallVec::new();
        let mut rest = &messages[start..];
        while let Ok(record) = RecordRef::parse(rest) {
            queue_offsets.push(record.queue_offset());
            rest = &rest[record.total_size()..];
        }
        Ok(Read {
            got,
            from,
            queue_offsets,
        })
    }

    /// Takes what was read over: from now on it counts as handed out.
    fn take(&mut self, topic: &str, queue: &Arc<ConsumeQueue>, shared: &SharedQueue, read: &Read) {
        let next = read.got.next_begin_offset;
        if read.queue_offsets.is_empty() {
            self.pass(queue, shared, read);
        } else {
            self.hand_out(topic, queue, shared, read);
        }
        let rest = (read.got.max_offset - next).max(0);
        self.collected.rest += rest;
        self.collected.has_more |= rest > 0;
    }

    /// Nothing matched.
    fn pass(&mut self, queue: &Arc<ConsumeQueue>, shared: &SharedQueue, read: &Read) {
        let next = read.got.next_begin_offset;
        let is_over = matches!(
            read.got.status,
            GetStatus::NoMatchedMessage
                | GetStatus::OffsetFoundNull
                | GetStatus::MessageWasRemoving
                | GetStatus::NoMatchedLogicQueue
        );
        if !is_over || next <= read.from {
            return;
        }
        if self.pop.order {
            return self.commit(queue, next);
        }
        let mut shared = shared.lock();
        shared.pass(next);
        if let Some(settled) = shared.settle() {
            self.commit(queue, settled);
        }
    }

    fn hand_out(&mut self, topic: &str, queue: &Arc<ConsumeQueue>, shared: &SharedQueue, read: &Read) {
        let queue_id = queue.queue_id();
        let flag = RetryFlag::of_topic(topic);
        let count = read.queue_offsets.len();
        let now = self.collected.pop_time;
        let stats = self.broker.stats.group(topic, &self.pop.group);
        stats.on_pop(count as i64, read.got.bytes as i64);
        self.collected.info.add(flag, queue_id, read.from, &read.queue_offsets);
        self.collected.count += count;
        let mut locked = shared.lock();
        locked.add_in_flight(count as i64);
        if self.pop.order {
            let attempt = self.pop.attempt_id.as_deref();
            let (pop_time, invisible) = (self.collected.pop_time, self.pop.invisible_time);
            let before = locked.order.as_ref();
            let order = OrderInfo::new(before, attempt, pop_time, invisible, &read.queue_offsets, now);
            order.write_counts(flag, queue_id, &mut self.collected.info);
            locked.order = Some(order);
            self.broker.pops.order_changed();
            self.commit(queue, read.from);
        } else {
            stats.on_checkpoint();
            let checkpoint = self.checkpoint(topic, queue_id, read);
            let next = read.got.next_begin_offset;
            if self.may_buffer(&checkpoint, locked.batches()) {
                locked.add_buffered(next, Buffered::new(checkpoint, self.collected.revive_queue));
            } else {
                let serial = locked.add(next);
                self.collected.handed.push(Handed {
                    queue: Arc::clone(shared),
                    serial,
                    checkpoint,
                });
            }
        }
        drop(locked);
        if flag != RetryFlag::Normal && !self.broker.config().pop_response_return_actual_retry_topic {
            self.show_as_first_topic(flag, read);
        }
    }

    fn checkpoint(&self, topic: &str, queue_id: i32, read: &Read) -> PopCheckpoint {
        let distances = read.queue_offsets.iter().map(|offset| (offset - read.from) as i32);
        PopCheckpoint {
            broker_name: self.broker.config().broker_name.clone(),
            group: self.pop.group.clone(),
            distances: distances.collect(),
            invisible_time: self.pop.invisible_time,
            count: read.queue_offsets.len() as i8,
            pop_time: self.collected.pop_time,
            queue_id,
            revive_time: self.collected.pop_time.saturating_add(self.pop.invisible_time),
            start_offset: read.from,
            topic: topic.to_owned(),
            ..PopCheckpoint::default()
        }
    }

    /// Whether a checkpoint may stay in memory.
    fn may_buffer(&self, checkpoint: &PopCheckpoint, batches: usize) -> bool {
        let config = self.broker.config();
        if !config.enable_pop_buffer_merge || batches >= config.pop_ck_offset_max_queue_size {
            return false;
        }
        let left = checkpoint.revive_time().saturating_sub(self.collected.pop_time);
        left >= stay(&config).before_revive_ms + BUFFER_MARGIN_MS
            && self.broker.pops.enter_buffer(config.pop_ck_max_buffer_size)
    }

    /// Messages that come again are shown under the topic that was asked for, with their handle.
    fn show_as_first_topic(&mut self, flag: RetryFlag, read: &Read) {
        let start = self.collected.messages.len() - read.got.bytes;
        let stored = self.collected.messages.split_off(start);
        let broker_name = self.broker.config().broker_name.clone();
        let mut rest = &stored[..];
        while let Ok(record) = RecordRef::parse(rest) {
            rest = &rest[record.total_size()..];
            let handle = ReceiptHandle {
                start_offset: read.from,
                pop_time: self.collected.pop_time,
                invisible_time: self.pop.invisible_time,
                revive_queue: self.collected.revive_queue,
                retry: &flag.digit().to_string(),
                broker_name: &broker_name,
                queue_id: record.queue_id(),
                queue_offset: Some(record.queue_offset()),
            };
            put_shown(
                &mut self.collected.messages,
                &record,
                &self.pop.topic.topic_name,
                &handle.to_string(),
            );
        }
    }
}

pub(crate) fn stay(config: &crate::BrokerConfig) -> Stay {
    Stay {
        at_most_ms: config.pop_ck_stay_buffer_time_ms,
        before_revive_ms: config.pop_ck_stay_buffer_time_out_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chances_are_even() {
        let mut counts = [0; 100];
        for turn in 0..100_000 {
            counts[chance(turn) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (700..1300).contains(count)), "{counts:?}");
    }
}
