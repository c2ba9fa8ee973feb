//! A half message as it is stored, and what is written about it (spec: storage.md §17).

use std::io::Write;
use std::net::SocketAddr;
use std::str;
use std::sync::Arc;

use bytes::BytesMut;
use oxmq_protocol::record::{RecordError, RecordFields, RecordRef};
use oxmq_protocol::topic::{self, TRANS_CHECK_MAX_TIME_TOPIC, TRANS_HALF_TOPIC, TRANS_OP_HALF_TOPIC};
use oxmq_protocol::{hash, properties, property};
use oxmq_store::{AppendBatch, ConsumeQueue, TagsCode};

use super::ledger::HalfId;
use crate::put::{self, copy_properties};
use crate::topics::QUEUE_NUMS_MAX;

/// Tag of op records.
const OP_TAG: &[u8] = b"d";

/// What properties of a half message must leave free: the broker adds where it goes, and how often it was checked.
pub(crate) const ROOM_BYTES: usize = 512;

/// A record of the half topic.
#[derive(Debug)]
pub(crate) struct Half<'a> {
    pub(crate) record: RecordRef<'a>,
    pub(crate) id: HalfId,
    /// Where the message goes when it is committed. A possible topic name and queue id.
    pub(crate) real_topic: &'a str,
    pub(crate) real_queue_id: i32,
    pub(crate) producer_group: Option<&'a [u8]>,
    pub(crate) unique_key: &'a [u8],
    pub(crate) check_times: i32,
    pub(crate) delay_level: i32,
    immunity: Option<&'a [u8]>,
}

impl<'a> Half<'a> {
    /// `None` for records that no transaction can come of.
    pub(crate) fn of(record: RecordRef<'a>) -> Option<Half<'a>> {
        (record.topic() == TRANS_HALF_TOPIC.as_bytes())
            .then(|| Half::read(record))
            .flatten()
    }

    /// A half message that was given up, as it lies in the topic for those. Its id names the transaction only.
    pub(crate) fn given_up(record: RecordRef<'a>) -> Option<Half<'a>> {
        (record.topic() == TRANS_CHECK_MAX_TIME_TOPIC.as_bytes())
            .then(|| Half::read(record))
            .flatten()
    }

    fn read(record: RecordRef<'a>) -> Option<Half<'a>> {
        let (mut real_topic, mut real_queue_id, mut first) = (None, None, None);
        let mut half = Half {
            record,
            id: HalfId {
                queue_offset: record.queue_offset(),
                physical_offset: record.physical_offset(),
                first: record.queue_offset(),
            },
            real_topic: "",
            real_queue_id: 0,
            producer_group: None,
            unique_key: &[],
            check_times: 0,
            delay_level: 0,
            immunity: None,
        };
        for (name, value) in properties::iter(record.properties()) {
            match name {
                b"REAL_TOPIC" => real_topic = str::from_utf8(value).ok(),
                b"REAL_QID" => real_queue_id = number(value),
                b"PGROUP" => half.producer_group = Some(value),
                b"UNIQ_KEY" => half.unique_key = value,
                b"DELAY" => half.delay_level = number(value).unwrap_or(0),
                b"TRANSACTION_CHECK_TIMES" => half.check_times = number(value).unwrap_or(-1),
                b"TRAN_PREPARED_QUEUE_OFFSET" => first = number(value),
                b"CHECK_IMMUNITY_TIME_IN_SECONDS" => half.immunity = Some(value),
                _ => {}
            }
        }
        half.real_topic = real_topic.filter(|name| topic::validate_topic(name).is_ok())?;
        half.real_queue_id = real_queue_id.filter(|id| (0..QUEUE_NUMS_MAX).contains(id))?;
        half.id.first = first.filter(|first| *first >= 0).unwrap_or(half.id.first);
        Some(half)
    }

    /// How long after its birth a message with a time of its own is not checked, in milliseconds.
    pub(crate) fn immunity_ms(&self, transaction_timeout_ms: i64) -> Option<i64> {
        let seconds = number::<i64>(self.immunity?).filter(|seconds| *seconds != -1);
        Some(seconds.map_or(transaction_timeout_ms, |seconds| seconds.saturating_mul(1000)))
    }

    /// A copy at the end of the half queue that stands for the transaction from now on, instead of the half message at
    /// `replaced`.
    pub(crate) fn stage_copy(
        &self,
        batch: &mut AppendBatch,
        half_queue: &Arc<ConsumeQueue>,
        store_host: SocketAddr,
        check_times: i32,
        replaced: i64,
    ) -> Result<(), RecordError> {
        self.stage(batch, half_queue, TRANS_HALF_TOPIC, store_host, check_times, replaced)
    }

    /// A copy for those who look after messages that nobody could decide about.
    pub(crate) fn stage_given_up(
        &self,
        batch: &mut AppendBatch,
        queue: &Arc<ConsumeQueue>,
        store_host: SocketAddr,
    ) -> Result<(), RecordError> {
        let (times, half) = (self.check_times, self.id.physical_offset);
        self.stage(batch, queue, TRANS_CHECK_MAX_TIME_TOPIC, store_host, times, half)
    }

    fn stage(
        &self,
        batch: &mut AppendBatch,
        queue: &Arc<ConsumeQueue>,
        topic: &str,
        store_host: SocketAddr,
        check_times: i32,
        prepared_transaction_offset: i64,
    ) -> Result<(), RecordError> {
        let fields = RecordFields {
            queue_id: queue.queue_id(),
            store_host,
            prepared_transaction_offset,
            topic: topic.as_bytes(),
            ..self.fields()
        };
        put::stage(batch, Arc::clone(queue), &fields, self.tags_code(), 1, |out| {
            self.write_properties(out, check_times);
        })
    }

    /// The properties of a copy that was checked so often.
    fn write_properties(&self, out: &mut BytesMut, check_times: i32) {
        copy_properties(out, self.record.properties(), is_of_checks);
        let mut write = |name: &str, value: i64| properties::write(out, name.as_bytes(), value.to_string().as_bytes());
        write(property::TRANSACTION_CHECK_TIMES, check_times.into());
        write(property::TRANSACTION_PREPARED_QUEUE_OFFSET, self.id.first);
    }

    /// The message as its producer gets it in a check: the copy, but at its real place.
    pub(crate) fn encode_for_check(
        &self,
        out: &mut BytesMut,
        copy: HalfId,
        check_times: i32,
    ) -> Result<(), RecordError> {
        let fields = RecordFields {
            queue_id: self.real_queue_id,
            topic: self.real_topic.as_bytes(),
            ..self.fields()
        };
        let range = oxmq_protocol::record::encode(out, &fields, |out| {
            self.write_properties(out, check_times);
        })?;
        let stored = self.record.store_timestamp();
        oxmq_protocol::record::patch(&mut out[range], copy.queue_offset, copy.physical_offset, stored);
        Ok(())
    }

    fn fields(&self) -> RecordFields<'a> {
        RecordFields {
            prepared_transaction_offset: 0,
            ..RecordFields::of(&self.record)
        }
    }

    fn tags_code(&self) -> TagsCode {
        let tags = properties::find(self.record.properties(), property::TAGS);
        TagsCode::Hash(tags.map_or(0, hash::tags_code))
    }
}

/// Properties that say where a half message goes. They do not come there with it.
pub(crate) fn is_of_place(name: &[u8]) -> bool {
    matches!(name, b"REAL_TOPIC" | b"REAL_QID")
}

/// Properties of a half message that only the broker sets. What a client says of them is dropped.
pub(crate) fn is_of_half(name: &[u8]) -> bool {
    is_of_place(name) || name == b"__transactionId__" || is_of_checks(name)
}

fn is_of_checks(name: &[u8]) -> bool {
    matches!(name, b"TRANSACTION_CHECK_TIMES" | b"TRAN_PREPARED_QUEUE_OFFSET")
}

/// Appends what makes a message a half message for this topic and queue.
pub(crate) fn write_half(out: &mut BytesMut, topic: &str, queue_id: i32, unique_key: &[u8]) {
    properties::write(out, property::TRANSACTION_ID.as_bytes(), unique_key);
    properties::write(out, property::REAL_TOPIC.as_bytes(), topic.as_bytes());
    properties::write(out, property::REAL_QUEUE_ID.as_bytes(), queue_id.to_string().as_bytes());
}

/// An op record that lies in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StagedOp {
    /// Its entry in the batch.
    pub(crate) entry: usize,
    /// The half message that it names.
    pub(crate) half: i64,
}

/// Encodes an op record for each of these half messages. One for several, as 5.x writes them, would be none to 4.x.
pub(crate) fn stage_ops(
    batch: &mut AppendBatch,
    op_queue: &Arc<ConsumeQueue>,
    halves: impl Iterator<Item = i64>,
    store_host: SocketAddr,
    now: i64,
) -> Result<Vec<StagedOp>, RecordError> {
    let mut staged = Vec::new();
    let mut body = Vec::new();
    for half in halves {
        body.clear();
        write!(body, "{half}").expect("memory takes every write");
        let fields = RecordFields {
            queue_id: op_queue.queue_id(),
            born_timestamp: now,
            born_host: store_host,
            store_host,
            ..RecordFields::new(TRANS_OP_HALF_TOPIC.as_bytes(), &body)
        };
        let tags_code = TagsCode::Hash(hash::tags_code(OP_TAG));
        let entry = batch.entries.len();
        put::stage(batch, Arc::clone(op_queue), &fields, tags_code, 1, |out| {
            properties::write(out, property::TAGS.as_bytes(), OP_TAG);
        })?;
        staged.push(StagedOp { entry, half });
    }
    Ok(staged)
}

/// The half messages that an op record names; what is no number is skipped.
pub(crate) fn halves_of_op<'a>(record: &RecordRef<'a>) -> impl Iterator<Item = i64> + use<'a> {
    let is_op = properties::find(record.properties(), property::TAGS) == Some(OP_TAG);
    let body = if is_op { record.body() } else { &[] };
    body.split(|byte| *byte == b',').filter_map(number)
}

fn number<T: str::FromStr>(text: &[u8]) -> Option<T> {
    str::from_utf8(text).ok()?.parse().ok()
}
