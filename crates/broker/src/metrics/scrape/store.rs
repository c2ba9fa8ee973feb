//! What the store, timers and POP say of themselves.

use oxmq_protocol::pop::REVIVE_GROUP;

use super::{head, row};
use crate::broker::Broker;
use crate::metrics::sheet::{Row, Sheet};
use crate::metrics::{Metrics, bounds};

/// Upper ends, in seconds, of how far ahead timer messages are counted.
const AHEAD_S: [i64; 8] = [5, 60, 300, 900, 3600, 14_400, 28_800, 86_400];

const LOCAL_DISK: [&str; 2] = ["local", "disk"];

pub(super) fn storage(broker: &Broker, sheet: &mut Sheet) {
    let store = &broker.store;
    let mut gauge = |name, help, value: Option<i64>| {
        let rows = value.into_iter().map(|value| row(&LOCAL_DISK, value));
        sheet.gauge(head(name, help, &["storage_type", "storage_medium"]), rows.collect());
    };
    let used = rustix::fs::statvfs(&store.config().root).ok();
    let used = used.map(|space| (space.f_blocks.saturating_sub(space.f_bfree) * space.f_frsize) as i64);
    gauge(
        "rocketmq_storage_size_bytes",
        "Used space of the disk with the store",
        used.filter(|used| *used > 0),
    );
    let unflushed = (store.written() - store.flushed()).max(0);
    gauge(
        "rocketmq_storage_flush_behind_bytes",
        "Bytes that are not on disk yet",
        Some(unflushed),
    );
    gauge(
        "rocketmq_storage_dispatch_behind_bytes",
        "Bytes that are not indexed yet",
        Some(store.dispatch_behind_bytes()),
    );
    let earliest = Some(broker.earliest_message_time()).filter(|time| *time > 0);
    gauge(
        "rocketmq_storage_message_reserve_time_milliseconds",
        "Age of the oldest message",
        earliest.map(|time| broker.now_ms() - time),
    );
}

pub(super) fn timers(broker: &Broker, metrics: &Metrics, sheet: &mut Sheet) {
    const DISK: &[&str] = &["storage_type", "storage_medium"];
    const TOPIC: &[&str] = &["topic", "storage_type", "storage_medium"];
    if !broker.config().timer_wheel_enable {
        return;
    }
    let figures = broker.timers.figures(broker);
    let mut gauge = |name, help, value| sheet.gauge(head(name, help, DISK), vec![row(&LOCAL_DISK, value)]);
    gauge(
        "rocketmq_timer_enqueue_lag",
        "Timer messages that are not on the wheel yet",
        figures.offset_behind,
    );
    gauge(
        "rocketmq_timer_enqueue_latency_milliseconds",
        "Age of the oldest of them",
        figures.enter_behind_ms,
    );
    gauge(
        "rocketmq_timer_dequeue_lag",
        "Messages on the timer wheel",
        figures.waiting,
    );
    gauge(
        "rocketmq_timer_dequeue_latency_milliseconds",
        "How late the wheel is",
        figures.read_behind_ms,
    );
    let on_disk = |mut labels: Vec<String>| {
        if !labels.is_empty() {
            labels.extend(LOCAL_DISK.map(str::to_owned));
        }
        labels
    };
    let timing = broker.timers.metrics.counts().into_iter().map(|(topic, count)| {
        let topic = String::from_utf8_lossy(&topic).into_owned();
        (on_disk(vec![topic]), count)
    });
    let timing_messages = head("rocketmq_timing_messages", "Timer messages of a topic that wait", TOPIC);
    sheet.gauge(timing_messages, timing.collect());
    let counted = |rows: Vec<Row<u64>>| {
        rows.into_iter()
            .map(|(labels, count)| (on_disk(labels), count))
            .collect()
    };
    let enqueue = head("rocketmq_timer_enqueue_total", "Timer messages put on the wheel", TOPIC);
    sheet.counter(enqueue, counted(metrics.timer_enqueue.rows()));
    let dequeue = head("rocketmq_timer_dequeue_total", "Timer messages delivered", TOPIC);
    sheet.counter(dequeue, counted(metrics.timer_dequeue.rows()));
    let ahead = broker.timers.waiting_within(broker.now_ms(), &AHEAD_S);
    let ahead = AHEAD_S
        .iter()
        .zip(ahead)
        .map(|(bound, count)| (on_disk(vec![bound.to_string()]), count));
    let snapshot = head(
        "rocketmq_timer_message_snapshot",
        "Timer messages due after the bound before and before this one",
        &["timer_bound_s", "storage_type", "storage_medium"],
    );
    sheet.gauge(snapshot, ahead.collect());
    let latency = metrics.delay_latency.rows().into_iter();
    let latency = latency
        .map(|(labels, histogram)| (on_disk(labels), histogram))
        .collect();
    let delay = head(
        "rocketmq_delay_message_latency_seconds",
        "How far ahead timer messages were sent",
        TOPIC,
    );
    sheet.histogram(delay, &bounds::DELAY_S, latency);
}

pub(super) fn pops(broker: &Broker, metrics: &Metrics, sheet: &mut Sheet) {
    let scan = head(
        "rocketmq_pop_buffer_scan_time_consume_milliseconds",
        "How long a look through the checkpoints in memory took",
        &[],
    );
    sheet.histogram(scan, &bounds::SCAN_MS, metrics.buffer_scan.rows());
    let revive_in = metrics.revive_in.rows().into_iter().map(|(mut labels, count)| {
        if !labels.is_empty() {
            labels.push("PUT_OK".into());
        }
        (labels, count)
    });
    let labels = &["consumer_group", "topic", "revive_message_type", "put_status"];
    let into = head(
        "rocketmq_pop_revive_in_message_total",
        "Records put into the revive topic",
        labels,
    );
    sheet.counter(into, revive_in.collect());
    let labels = &["consumer_group", "topic", "queue_id", "revive_message_type"];
    let out = head(
        "rocketmq_pop_revive_out_message_total",
        "Records read from the revive topic",
        labels,
    );
    sheet.counter(out, metrics.revive_out.rows());
    let labels = &["consumer_group", "topic", "put_status"];
    let retry = head(
        "rocketmq_pop_revive_retry_messages_total",
        "Messages that came again",
        labels,
    );
    sheet.counter(retry, metrics.revive_retry.rows());

    let batches = broker
        .pops
        .all()
        .iter()
        .map(|(.., queue)| queue.lock().batches() as i64)
        .sum();
    let mut single = |name, help, value: i64| sheet.gauge(head(name, help, &[]), vec![row(&[], value)]);
    single(
        "rocketmq_pop_offset_buffer_size",
        "Batches of popped messages whose offsets are open",
        batches,
    );
    single(
        "rocketmq_pop_checkpoint_buffer_size",
        "Checkpoints in memory",
        broker.pops.buffered() as i64,
    );
    let (topic, now) = (&broker.pops.revive_topic, broker.now_ms());
    let behind: Vec<_> = broker.pops.revive_times.lock().iter().copied().enumerate().collect();
    let behind = behind.into_iter().map(|(queue_id, revive_time)| {
        let end = broker.max_offset(topic, queue_id as i32).max(0);
        let committed = broker.consumer_offsets.committed(REVIVE_GROUP, topic, queue_id as i32);
        let left = end - committed.unwrap_or(0);
        let late = if left > 1 { (now - revive_time).max(0) } else { 0 };
        (queue_id.to_string(), (left - 1).max(0), late)
    });
    let behind: Vec<_> = behind.collect();
    let lag = head(
        "rocketmq_pop_revive_lag_milliseconds",
        "Records of the revive topic that are open, whatever the name says",
        &["queue_id"],
    );
    sheet.gauge(
        lag,
        behind.iter().map(|(queue, left, _)| row(&[queue], *left)).collect(),
    );
    let latency = head(
        "rocketmq_pop_revive_latency_milliseconds",
        "How long the oldest of them is due",
        &["queue_id"],
    );
    sheet.gauge(
        latency,
        behind.iter().map(|(queue, _, late)| row(&[queue], *late)).collect(),
    );
}
