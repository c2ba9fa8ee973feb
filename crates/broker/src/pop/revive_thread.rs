//! The thread that lets messages come again, and that writes checkpoints which have been in memory for too long.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use oxmq_protocol::body::TopicConfig;
use oxmq_protocol::pop::{PopAck, PopCheckpoint, REVIVE_GROUP, normal_topic, retry_topic_v1, retry_topic_v2};
use oxmq_protocol::record::RecordRef;
use oxmq_protocol::{properties, property, topic};
use oxmq_store::{AppendBatch, GetLimits, GetStatus, Wait};
use parking_lot::{Condvar, Mutex};

use super::revive::{Held, Revive, ReviveRecord, put_off, was_put_off_often};
use super::{collect, order_file, records};
use crate::broker::Broker;
use crate::metrics::ReviveRecordType;
use crate::put::InternalMessage;

/// Checkpoints of one revive queue that are held.
const HELD_MAX: usize = 16_384;
/// Records read at once.
const READ: GetLimits = GetLimits {
    count: 256,
    bytes: 1 << 20,
};
/// Records read from one queue before the next gets its turn.
const READS_IN_A_ROW: usize = 64;
/// How often checkpoints in memory are looked at.
const BUFFER_PERIOD_MS: i64 = 200;
/// How often queues that nobody uses are forgotten.
const FORGET_PERIOD_MS: i64 = 60_000;

/// Ends the thread.
#[derive(Default)]
pub(crate) struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    pub(crate) fn stop(&self) {
        *self.stopped.lock() = true;
        self.changed.notify_all();
    }

    /// False when the thread should end.
    fn sleep(&self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        let mut stopped = self.stopped.lock();
        while !*stopped && !self.changed.wait_until(&mut stopped, deadline).timed_out() {}
        !*stopped
    }
}

/// Starts the thread. It ends after [`Stop::stop`], when everything in memory is written.
pub(crate) fn spawn(broker: &Arc<Broker>) -> io::Result<JoinHandle<()>> {
    let broker = Arc::clone(broker);
    std::thread::Builder::new().name("oxmq-revive".into()).spawn(move || {
        let mut thread = ReviveThread::new(&broker);
        let mut wait_ms = 0;
        while broker.pops.stop.sleep(Duration::from_millis(wait_ms)) {
            wait_ms = thread.run(&broker);
        }
        write_buffered(&broker, &mut thread.batch, None);
    })
}

struct ReviveThread {
    queues: Vec<Revive>,
    batch: AppendBatch,
    records: BytesMut,
    next_forgetting: i64,
}

impl ReviveThread {
    fn new(broker: &Broker) -> ReviveThread {
        let topic = &broker.pops.revive_topic;
        let count = broker.config().revive_queue_num;
        let committed = |queue_id| broker.consumer_offsets.committed(REVIVE_GROUP, topic, queue_id);
        ReviveThread {
            queues: (0..count)
                .map(|queue_id| Revive::new(committed(queue_id), HELD_MAX))
                .collect(),
            batch: AppendBatch::default(),
            records: BytesMut::new(),
            next_forgetting: 0,
        }
    }

    /// One round; how long to wait for the next.
    fn run(&mut self, broker: &Broker) -> u64 {
        let now = broker.now_ms();
        let config = broker.config();
        let mut look_again = now + config.revive_interval_ms as i64;
        if config.enable_pop_buffer_merge || broker.pops.buffered() > 0 {
            let began = Instant::now();
            write_buffered(broker, &mut self.batch, Some(now));
            if let Some(metrics) = &broker.metrics {
                metrics.buffer_scanned(began.elapsed());
            }
            look_again = look_again.min(now + BUFFER_PERIOD_MS);
        }
        if now >= self.next_forgetting {
            self.next_forgetting = now + FORGET_PERIOD_MS;
            order_file::forget_old_orders(broker, now);
            broker.pops.forget_idle();
        }
        if config.timer_wheel_enable {
            // What a timer has delivered until now is read first, so that nothing is missed that belongs to what is due.
            let arrived_until = broker.timers.delivered_until(&broker.store, now);
            for queue_id in 0..self.queues.len() {
                look_again = look_again.min(self.run_queue(broker, queue_id, arrived_until));
            }
        }
        drop(config);
        let times = self
            .queues
            .iter()
            .map(|queue| queue.oldest_revive_time().unwrap_or(now));
        *broker.pops.revive_times.lock() = times.collect();
        (look_again - broker.now_ms()).max(1) as u64
    }

    /// Reads a queue and deals with what is due; when to look again.
    fn run_queue(&mut self, broker: &Broker, queue_id: usize, arrived_until: Option<i64>) -> i64 {
        // What was delivered may have to wait for the disk before it can be read.
        let queue = broker.store.queue(&broker.pops.revive_topic, queue_id as i32);
        let all_visible = queue.is_none_or(|queue| queue.max_offset() >= queue.next_offset());
        let arrived_until = arrived_until.filter(|_| all_visible);
        let at_end = match self.read(broker, queue_id) {
            Ok(at_end) => at_end,
            Err(error) => {
                tracing::warn!(queue_id, error, "the revive topic cannot be read");
                return i64::MAX;
            }
        };
        let arrived_until = arrived_until.filter(|_| at_end);
        while let Some((revive_offset, held)) = self.queues[queue_id].due(arrived_until) {
            let held = held.clone();
            revive(broker, &mut self.batch, &held, queue_id as i32);
            let committed = self.queues[queue_id].finish(revive_offset);
            let topic = &broker.pops.revive_topic;
            let now = broker.now_ms();
            broker
                .consumer_offsets
                .commit(REVIVE_GROUP, topic, queue_id as i32, committed, now);
        }
        match at_end {
            true => self.queues[queue_id].next_due_at().unwrap_or(i64::MAX),
            false => 0,
        }
    }

    /// Reads on; true at the end of the queue.
    fn read(&mut self, broker: &Broker, queue_id: usize) -> Result<bool, String> {
        let Some(queue) = broker.store.queue(&broker.pops.revive_topic, queue_id as i32) else {
            return Ok(true);
        };
        for _ in 0..READS_IN_A_ROW {
            let revive = &mut self.queues[queue_id];
            let from = revive.cursor();
            if from == queue.max_offset() {
                return Ok(true);
            }
            self.records.clear();
            let got = broker.store.get_messages(
                &queue,
                from,
                &READ,
                &mut |_: i64| true,
                Wait::Allowed,
                &mut self.records,
            );
            let got = got.map_err(|error| error.to_string())?;
            if got.status != GetStatus::Found {
                if got.next_begin_offset == from {
                    return Ok(true);
                }
                revive.skip_to(got.next_begin_offset);
                continue;
            }
            let mut rest = &self.records[..];
            while let Ok(record) = RecordRef::parse(rest) {
                rest = &rest[record.total_size()..];
                revive.skip_to(record.queue_offset());
                let (record, meant_for) = records::read(&record);
                count_read(broker, queue_id, &record);
                revive.read(record, meant_for);
            }
            revive.skip_to(got.next_begin_offset.max(from + 1));
        }
        Ok(false)
    }
}

/// Stores the messages of a checkpoint again that nobody acknowledged. One that cannot be stored gets a checkpoint of its
/// own, for later.
fn revive(broker: &Broker, batch: &mut AppendBatch, held: &Held, revive_queue: i32) {
    let checkpoint = &held.checkpoint;
    let normal = normal_topic(&checkpoint.topic, &checkpoint.group);
    if !broker.topics.contains(normal) || !broker.groups.contains(&checkpoint.group) {
        return;
    }
    for queue_offset in held.left() {
        let handed_back = hand_back(broker, checkpoint, queue_offset);
        if let Some(metrics) = &broker.metrics {
            metrics.revive_retry(&checkpoint.group, &checkpoint.topic, handed_back.is_ok());
        }
        let Err(error) = handed_back else {
            continue;
        };
        tracing::warn!(
            topic = checkpoint.topic,
            queue_offset,
            error,
            "a message cannot come again yet"
        );
        if broker.config().skip_when_ck_re_put_reach_max_times && was_put_off_often(checkpoint) {
            tracing::error!(topic = checkpoint.topic, queue_offset, "a message is given up");
            continue;
        }
        let later = put_off(checkpoint, queue_offset, broker.now_ms());
        batch.clear();
        let put = records::stage_checkpoint(broker, batch, &later, revive_queue)
            .and_then(|()| Ok(broker.store.append(batch)?));
        if let Err(error) = put {
            tracing::error!(topic = checkpoint.topic, queue_offset, %error, "a message is lost to its group until its offset is reset");
        }
    }
}

fn count_read(broker: &Broker, revive_queue: usize, record: &ReviveRecord) {
    let Some(metrics) = &broker.metrics else { return };
    match record {
        ReviveRecord::Checkpoint(checkpoint) => {
            let (group, topic) = (&checkpoint.group, &checkpoint.topic);
            metrics.revive_out(group, topic, revive_queue, ReviveRecordType::Checkpoint);
        }
        ReviveRecord::Ack(ack) => metrics.revive_out(&ack.group, &ack.topic, revive_queue, ReviveRecordType::Ack),
        _ => {}
    }
}

/// Stores a message in the retry topic.
fn hand_back(broker: &Broker, checkpoint: &PopCheckpoint, queue_offset: i64) -> Result<(), String> {
    let Some(queue) = broker.store.queue(&checkpoint.topic, checkpoint.queue_id) else {
        return Ok(());
    };
    let mut stored = BytesMut::new();
    let limits = GetLimits::count(1);
    let got = broker
        .store
        .get_messages(
            &queue,
            queue_offset,
            &limits,
            &mut |_: i64| true,
            Wait::Allowed,
            &mut stored,
        )
        .map_err(|error| error.to_string())?;
    let record = RecordRef::parse(&stored).ok();
    let Some(record) = record.filter(|record| got.count == 1 && record.queue_offset() == queue_offset) else {
        return Ok(()); // It is gone: nobody can have it any more.
    };
    let retry = retry_topic(broker, checkpoint);
    let properties = properties_again(&record, checkpoint);
    let message = InternalMessage {
        born_host: broker.store_host,
        reconsume_times: record.reconsume_times().saturating_add((!checkpoint.suspend).into()),
        properties: &properties,
        ..InternalMessage::copy_of(&record, &retry.topic_name, 0)
    };
    let put = broker.put_internal(&message).map_err(|error| error.to_string())?;
    let bytes = put.end_offset - put.physical_offset;
    broker.stats.topic(&retry.topic_name).on_send(1, bytes);
    if let Some(queue) = broker
        .pops
        .known_queue(&checkpoint.topic, &checkpoint.group, checkpoint.queue_id)
        .filter(|_| checkpoint.pop_time >= broker.started_at)
    {
        queue.lock().add_in_flight(-1);
    }
    Ok(())
}

/// Where the message comes again: the retry topic it is in already, or that of its topic, which comes into being here.
fn retry_topic(broker: &Broker, checkpoint: &PopCheckpoint) -> Arc<TopicConfig> {
    let group = checkpoint.group.as_str();
    let name = match topic::is_retry(&checkpoint.topic) {
        true => checkpoint.topic.clone(),
        false if broker.config().enable_retry_topic_v2 => retry_topic_v2(&checkpoint.topic, group),
        false => retry_topic_v1(&checkpoint.topic, group),
    };
    if let Some(known) = broker.topics.get(&name) {
        return known;
    }
    let now = broker.now_ms();
    let created = broker.topics.ensure_pop_retry_topic(&name, now);
    if broker.consumer_offsets.query(group, &name, 0).is_none() {
        broker.consumer_offsets.commit(group, &name, 0, 0, now);
    }
    // Those who wait do not watch the new topic yet.
    let normal = normal_topic(&checkpoint.topic, group);
    for queue in broker.store.queues_of(normal) {
        broker.wake_waiting(&queue);
    }
    created
}

/// The properties of a message that comes again.
fn properties_again(record: &RecordRef<'_>, checkpoint: &PopCheckpoint) -> BytesMut {
    let text = record.properties();
    let mut out = BytesMut::with_capacity(text.len() + 40);
    let (first, group) = (property::FIRST_POP_TIME.as_bytes(), property::ORIGIN_GROUP.as_bytes());
    let keeps_first = record.reconsume_times() != 0 && properties::find(text, property::FIRST_POP_TIME).is_some();
    for (name, value) in properties::iter(text) {
        let is_kept = if name == first { keeps_first } else { name != group };
        if is_kept {
            properties::write(&mut out, name, value);
        }
    }
    if !keeps_first {
        properties::write(&mut out, first, checkpoint.pop_time.to_string().as_bytes());
    }
    properties::write(&mut out, group, checkpoint.group.as_bytes());
    out
}

/// Writes checkpoints that have been in memory for long enough, with what is acknowledged of them; all without a time.
fn write_buffered(broker: &Broker, batch: &mut AppendBatch, now: Option<i64>) {
    let stay = collect::stay(&broker.config());
    let mut buffered = 0;
    for (topic, group, queue_id, queue) in broker.pops.all() {
        let due = queue
            .lock()
            .take_due(now.map(|_| stay), now.unwrap_or_else(|| broker.now_ms()));
        for (serial, open) in due {
            batch.clear();
            let revive_time = open.checkpoint.revive_time();
            let staged = records::stage_checkpoint(broker, batch, &open.checkpoint, open.revive_queue).and_then(|()| {
                let acked = open.acked_offsets();
                if acked.is_empty() {
                    return Ok(());
                }
                let ack = ack_of(&open.checkpoint, acked);
                records::stage_ack(broker, batch, &ack, revive_time, open.revive_queue)
            });
            let written = staged.and_then(|()| Ok(broker.store.append(batch)?));
            let mut queue = queue.lock();
            match written {
                Ok(()) => {
                    if let Some(settled) = queue.written(serial) {
                        let now = broker.now_ms();
                        broker.consumer_offsets.commit(&group, &topic, queue_id, settled, now);
                    }
                }
                Err(error) => {
                    tracing::error!(topic, group, %error, "a checkpoint cannot be written, its messages come again");
                    queue.failed(serial);
                }
            }
        }
        buffered += queue.lock().buffered();
    }
    broker.pops.set_buffered(buffered);
}

fn ack_of(checkpoint: &PopCheckpoint, acked: Vec<i64>) -> PopAck {
    PopAck {
        ack_offset: -1,
        ack_offsets: acked,
        broker_name: Some(checkpoint.broker_name.clone()),
        group: checkpoint.group.clone(),
        pop_time: checkpoint.pop_time,
        queue_id: checkpoint.queue_id,
        start_offset: checkpoint.start_offset,
        topic: checkpoint.topic.clone(),
    }
}
