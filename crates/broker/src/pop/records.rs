//! Checkpoints and acknowledgements as records: timed messages for the revive topic (spec: storage.md §20.2).

use std::fmt::Write as _;

use bytes::BytesMut;
use oxmq_protocol::pop::{ACK_TAG, BATCH_ACK_TAG, CHECKPOINT_TAG, PopAck, PopCheckpoint};
use oxmq_protocol::record::RecordRef;
use oxmq_protocol::{json, properties, property};
use oxmq_store::AppendBatch;
use serde::Serialize;

use super::revive::ReviveRecord;
use crate::broker::Broker;
use crate::metrics::ReviveRecordType;
use crate::put::{InternalMessage, PutError};

/// A checkpoint arrives so long before its messages come again.
const CHECKPOINT_LEAD_MS: i64 = 1000;

/// Encodes a checkpoint behind what is staged.
pub(crate) fn stage_checkpoint(
    broker: &Broker,
    batch: &mut AppendBatch,
    checkpoint: &PopCheckpoint,
    revive_queue: i32,
) -> Result<(), PutError> {
    let PopCheckpoint {
        topic,
        queue_id,
        start_offset,
        group,
        pop_time,
        broker_name,
        ..
    } = checkpoint;
    let key = format!("{topic}@{queue_id}@{start_offset}@{group}@{pop_time}@{broker_name}@{CHECKPOINT_TAG}");
    if let Some(metrics) = &broker.metrics {
        metrics.revive_in(group, topic, ReviveRecordType::Checkpoint);
    }
    let deliver_at = checkpoint.revive_time().saturating_sub(CHECKPOINT_LEAD_MS);
    stage(
        broker,
        batch,
        revive_queue,
        CHECKPOINT_TAG,
        &key,
        deliver_at,
        checkpoint,
    )
}

/// Encodes an acknowledgement behind what is staged. Nobody looks at it before `revive_time`.
pub(crate) fn stage_ack(
    broker: &Broker,
    batch: &mut AppendBatch,
    ack: &PopAck,
    revive_time: i64,
    revive_queue: i32,
) -> Result<(), PutError> {
    let PopAck {
        topic,
        queue_id,
        ack_offset,
        group,
        pop_time,
        ..
    } = ack;
    let broker_name = ack.broker_name.as_deref().unwrap_or_default();
    let key = format!("{topic}@{queue_id}@{ack_offset}@{group}@{pop_time}@{broker_name}@{ACK_TAG}");
    if let Some(metrics) = &broker.metrics {
        metrics.revive_in(group, topic, ReviveRecordType::Ack);
    }
    let tag = if ack.ack_offsets.is_empty() {
        ACK_TAG
    } else {
        BATCH_ACK_TAG
    };
    stage(broker, batch, revive_queue, tag, &key, revive_time, ack)
}

fn stage(
    broker: &Broker,
    batch: &mut AppendBatch,
    revive_queue: i32,
    tag: &str,
    key: &str,
    deliver_at: i64,
    body: &impl Serialize,
) -> Result<(), PutError> {
    let mut text = BytesMut::with_capacity(tag.len() + key.len() + 64);
    let mut time = String::with_capacity(20);
    write!(time, "{deliver_at}").expect("a string takes any text");
    for (name, value) in [
        (property::TAGS, tag),
        (property::TIMER_DELIVER_MS, &time),
        (property::UNIQUE_CLIENT_MESSAGE_ID, key),
    ] {
        properties::write(&mut text, name.as_bytes(), value.as_bytes());
    }
    let body = serde_json::to_vec(body).expect("records of pop have a json form");
    let message = InternalMessage {
        topic: &broker.pops.revive_topic,
        queue_id: revive_queue,
        flag: 0,
        sys_flag: 0,
        born_timestamp: broker.now_ms(),
        born_host: broker.store_host,
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body: &body,
        properties: &text,
        delay_level: 0,
    };
    broker.stage_internal(batch, &message)
}

/// Reads a record of the revive topic, and the time it was meant to arrive.
pub(crate) fn read(record: &RecordRef<'_>) -> (ReviveRecord, i64) {
    let text = record.properties();
    let meant_for = properties::find(text, property::TIMER_DELIVER_MS)
        .and_then(|time| std::str::from_utf8(time).ok()?.parse().ok())
        .unwrap_or(0);
    let body = record.body();
    let tag = properties::find(text, property::TAGS).unwrap_or_default();
    let read = match tag {
        _ if tag == CHECKPOINT_TAG.as_bytes() => json::from_slice(body).map(ReviveRecord::Checkpoint),
        _ if tag == ACK_TAG.as_bytes() || tag == BATCH_ACK_TAG.as_bytes() => {
            json::from_slice(body).map(ReviveRecord::Ack)
        }
        _ => Ok(ReviveRecord::Other),
    };
    let read = read.unwrap_or_else(|error| {
        let revive_offset = record.queue_offset();
        tracing::error!(%error, revive_offset, "a record of the revive topic cannot be read");
        ReviveRecord::Other
    });
    (read, meant_for)
}
