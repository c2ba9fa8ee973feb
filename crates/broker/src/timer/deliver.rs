//! Delivering what is due: reads the messages, and appends them to the queues they were sent to, or once more to the
//! timer topic, many at once.

use std::sync::atomic::Ordering;

use bytes::BytesMut;
use oxmq_protocol::topic::TIMER_TOPIC;
use oxmq_protocol::{properties, property};
use oxmq_store::timer::{Due, source_mark};
use oxmq_store::{AppendBatch, RecordReader};

use super::Timers;
use super::cancellations::Cancellations;
use crate::broker::Broker;
use crate::put::InternalMessage;
use crate::waiting::Origin;

/// Messages of one append.
const BATCH_MESSAGES_MAX: usize = 1024;
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Messages are read with what lies between them, unless that is so many times as much.
const SPARSE: i64 = 16;

#[derive(Default)]
pub(super) struct Delivery {
    batch: AppendBatch,
    reader: RecordReader,
    properties: BytesMut,
    cancellations: Cancellations,
    /// What the batch changes in the metrics, by topic.
    counts: Vec<(Vec<u8>, i64)>,
}

impl Delivery {
    /// Delivers one batch of what is due. False when nothing is. On an error all of it is still due.
    pub(super) fn step(&mut self, timers: &Timers, broker: &Broker, now: i64) -> Result<bool, String> {
        let mut store = timers.store.lock();
        let due = store.due(now, BATCH_MESSAGES_MAX).map_err(|error| error.to_string())?;
        if due.is_empty() {
            self.reader = RecordReader::default();
            return Ok(false);
        }
        self.cancellations.read(broker, &mut store, now, &due)?;
        self.batch.clear();
        self.counts.clear();
        let mut done = 0;
        let scattered = are_scattered(&due);
        for due in &due {
            if let Err(reason) = self.stage(broker, due, scattered, now)? {
                let physical_offset = due.physical_offset;
                tracing::error!(physical_offset, reason, "a timer message is dropped");
            }
            done += 1;
            if self.batch.records.len() >= BATCH_BYTES_MAX {
                break;
            }
        }
        let delivered = self.batch.entries.len();
        if delivered > 0 {
            broker
                .store
                .append(&mut self.batch)
                .map_err(|error| error.to_string())?;
        }
        store.advance(done);
        for (topic, count) in &self.counts {
            timers.metrics.add(topic, *count, now);
        }
        drop(store);
        timers.counters.delivered.fetch_add(delivered as u64, Ordering::Relaxed);
        for entries in self.batch.entries.chunk_by(|a, b| a.queue.topic() == b.queue.topic()) {
            let bytes: i64 = entries.iter().map(|entry| i64::from(entry.len)).sum();
            let topic = entries[0].queue.topic();
            broker.stats.topic(topic).on_send(entries.len() as i64, bytes);
            if let Some(metrics) = &broker.metrics {
                metrics.timer_delivered(topic, entries.len() as u64);
            }
        }
        Ok(true)
    }

    /// Puts a message into the batch, unless it is cancelled. The inner error is about this message alone.
    fn stage(
        &mut self,
        broker: &Broker,
        due: &Due,
        scattered: bool,
        now: i64,
    ) -> Result<Result<(), &'static str>, String> {
        let record = broker
            .store
            .record_in(&mut self.reader, due.physical_offset, due.size, scattered);
        let record = match record.map_err(|error| error.to_string())? {
            Some(record) if record.topic() == TIMER_TOPIC.as_bytes() => record,
            Some(_) => return Ok(Err("it is not one")),
            None => return Ok(Err("it is not in the commit log")),
        };
        let origin = match Origin::of(&record) {
            Ok(origin) => origin,
            Err(reason) => return Ok(Err(reason)),
        };
        let text = record.properties();
        if !due.rolls && self.cancellations.concern(broker, origin.topic.as_bytes(), text) {
            return Ok(Ok(()));
        }
        let cancels = properties::find(text, property::TIMER_DEL_UNIQKEY).is_some();
        count(&mut self.counts, origin.topic, if cancels { 1 } else { -1 });
        self.properties.clear();
        write_properties(&mut self.properties, text, due, now);
        let (topic, queue_id) = match due.rolls {
            true => (TIMER_TOPIC, 0),
            false => (origin.topic, origin.queue_id),
        };
        let message = InternalMessage {
            prepared_transaction_offset: source_mark(due.physical_offset),
            properties: &self.properties,
            ..InternalMessage::copy_of(&record, topic, queue_id)
        };
        let staged = broker.stage_internal(&mut self.batch, &message);
        if let Err(error) = staged {
            tracing::error!(%error, "a timer message cannot be encoded");
            return Ok(Err("it cannot be encoded"));
        }
        Ok(Ok(()))
    }
}

/// Whether most of the log between the messages is not theirs.
fn are_scattered(due: &[Due]) -> bool {
    let ends = due.iter().map(|due| due.physical_offset + i64::from(due.size));
    let first = due.iter().map(|due| due.physical_offset).min();
    let span = ends.max().unwrap_or(0) - first.unwrap_or(0);
    span > SPARSE * due.iter().map(|due| i64::from(due.size)).sum::<i64>()
}

fn count(counts: &mut Vec<(Vec<u8>, i64)>, topic: &str, count: i64) {
    match counts.last_mut() {
        Some((last, sum)) if last == topic.as_bytes() => *sum += count,
        _ => counts.push((topic.into(), count)),
    }
}

/// The properties as they were stored, with those that say how the message has travelled.
fn write_properties(out: &mut BytesMut, text: &[u8], due: &Due, now: i64) {
    let (mut rolled, mut out_ms) = (0, i64::MAX);
    let number = |value: &[u8]| std::str::from_utf8(value).ok()?.parse::<i64>().ok();
    for (name, value) in properties::iter(text) {
        match name {
            b"TIMER_ENQUEUE_MS" | b"TIMER_DEQUEUE_MS" => continue,
            b"TIMER_ROLL_TIMES" if due.rolls => {
                rolled = number(value).unwrap_or(0);
                continue;
            }
            b"TIMER_OUT_MS" => out_ms = number(value).unwrap_or(i64::MAX),
            _ => {}
        }
        properties::write(out, name, value);
    }
    let mut write = |name: &str, number: i64| properties::write(out, name.as_bytes(), number.to_string().as_bytes());
    // A message that came late says so, as in the original.
    write(
        property::TIMER_ENQUEUE_MS,
        if out_ms < due.entered_ms {
            i64::MAX
        } else {
            due.entered_ms
        },
    );
    write(property::TIMER_DEQUEUE_MS, now);
    if due.rolls {
        write(property::TIMER_ROLL_TIMES, rolled + 1);
    }
}
