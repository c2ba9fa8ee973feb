//! The put path: what the broker adds to a message before it is stored, and messages that the broker stores by
//! itself; where delayed messages wait is decided in [`crate::waiting`] (spec: behaviour.md §3.4).

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use oxmq_protocol::record::{self, RecordError, RecordFields, RecordRef};
use oxmq_protocol::{hash, properties, property, sys_flag};
use oxmq_store::{AppendBatch, AppendEntry, AppendError, ConsumeQueue, Extra, TagsCode};
use thiserror::Error;

use crate::broker::Broker;
use crate::light_queues::TooManyLightQueues;
use crate::stats::MessageType;
use crate::waiting::{TimerProperties, TimerRefusal, Waiting, keep_all};

/// What the put path needs to know of a message's properties, found in one pass over their text.
#[derive(Debug, Default)]
pub(crate) struct PropertyScan<'a> {
    pub(crate) tags: Option<&'a [u8]>,
    pub(crate) unique_key: Option<&'a [u8]>,
    pub(crate) has_keys: bool,
    /// 0 without one.
    pub(crate) delay_level: i32,
    /// The reply of the send waits for flush and replicas.
    pub(crate) wait_store: bool,
    pub(crate) transaction: bool,
    pub(crate) timer: TimerProperties<'a>,
    pub(crate) inner_num: Option<&'a [u8]>,
    /// Nothing unless it is a number from 0 on.
    priority: Option<i32>,
    has_delay_level: bool,
    has_sharding_key: bool,
    /// A time of delivery as other brokers know it; here it only makes a message one of type DELAY.
    has_start_time: bool,
    /// Queues that the message enters besides its own.
    pub(crate) multi_dispatch: Option<&'a [u8]>,
    /// The text can be stored as it is: no broken entry, and none that the broker sets or removes.
    pub(crate) as_is: bool,
}

impl<'a> PropertyScan<'a> {
    pub(crate) fn of(text: &'a [u8]) -> PropertyScan<'a> {
        let mut seen = PropertyScan {
            wait_store: true,
            as_is: true,
            ..PropertyScan::default()
        };
        let mut whole_bytes = 0;
        for (name, value) in properties::iter(text) {
            whole_bytes += name.len() + value.len() + 2;
            match name {
                b"TAGS" => seen.tags = Some(value),
                b"UNIQ_KEY" => seen.unique_key = Some(value),
                b"KEYS" => seen.has_keys = !value.trim_ascii().is_empty(),
                b"WAIT" => seen.wait_store = value.eq_ignore_ascii_case(b"true"),
                b"DELAY" => {
                    seen.delay_level = number(value);
                    seen.has_delay_level = true;
                }
                b"__SHARDINGKEY" => seen.has_sharding_key = true,
                b"__STARTDELIVERTIME" => seen.has_start_time = true,
                b"_SYS_MSG_PRIORITY_" => seen.priority = priority_of(value),
                b"TRAN_MSG" => seen.transaction = value.eq_ignore_ascii_case(b"true"),
                b"INNER_NUM" => seen.inner_num = Some(value),
                b"INNER_MULTI_DISPATCH" => seen.multi_dispatch = Some(value),
                _ if name.starts_with(b"TIMER_") => {
                    TimerProperties::take(&mut seen.timer, name, value);
                }
                _ if is_stamped(name) => seen.as_is = false,
                _ => {}
            }
        }
        seen.as_is &= seen.priority() != Priority::Lost;
        // The separator behind the last entry may be missing.
        seen.as_is &= whole_bytes == text.len() || (whole_bytes == text.len() + 1 && text.last() != Some(&2));
        seen
    }
}

/// What becomes of the priority that a producer gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Priority {
    None,
    /// The queue of this number, or the last.
    Queue(i32),
    /// The message is of another type, and loses the property.
    Lost,
}

impl PropertyScan<'_> {
    /// As the metrics call it (spec: behaviour.md §14).
    pub(crate) fn message_type(&self) -> MessageType {
        if self.transaction {
            MessageType::Transaction
        } else if self.has_sharding_key {
            MessageType::Fifo
        } else if self.has_start_time || self.has_delay_level || self.has_time() {
            MessageType::Delay
        } else {
            MessageType::Normal
        }
    }

    fn has_time(&self) -> bool {
        let timer = &self.timer;
        timer.delay_sec.or(timer.delay_ms).or(timer.deliver_ms).is_some()
    }

    pub(crate) fn priority(&self) -> Priority {
        match self.priority {
            None => Priority::None,
            Some(_) if self.transaction || self.has_delay_level || self.has_time() || self.has_sharding_key => {
                Priority::Lost
            }
            Some(priority) => Priority::Queue(priority),
        }
    }

    /// Whether a property is left out when the message is stored.
    pub(crate) fn dropped(&self) -> fn(&[u8]) -> bool {
        match self.priority() {
            Priority::Lost => |name| is_stamped(name) || name == property::PRIORITY.as_bytes(),
            _ => is_stamped,
        }
    }
}

/// Properties that clients cannot set: the broker writes or removes them.
pub(crate) fn is_stamped(name: &[u8]) -> bool {
    matches!(name, b"MSG_REGION" | b"TRACE_ON" | b"CLUSTER" | b"POP_CK") || is_of_append(name)
}

/// Properties that the append adds, with the queue offsets that only it knows.
pub(crate) fn is_of_append(name: &[u8]) -> bool {
    matches!(name, b"INNER_BASE" | b"INNER_MULTI_QUEUE_OFFSET")
}

/// Appends a properties text that ends with its separator.
pub(crate) fn copy_text(out: &mut BytesMut, text: &[u8]) {
    out.extend_from_slice(text);
    if text.last().is_some_and(|last| *last != properties::PROPERTY_SEPARATOR) {
        out.extend_from_slice(&[properties::PROPERTY_SEPARATOR]);
    }
}

/// Appends the entries whose names are not `dropped`.
pub(crate) fn copy_properties(out: &mut BytesMut, text: &[u8], dropped: impl Fn(&[u8]) -> bool) {
    for (name, value) in properties::iter(text) {
        if !dropped(name) {
            properties::write(out, name, value);
        }
    }
}

/// Whether a record of this kind enters a consume queue: half and rollback records do not.
pub(crate) fn enters_a_queue(flags: i32) -> bool {
    matches!(
        flags & sys_flag::TRANSACTION_MASK,
        sys_flag::TRANSACTION_NONE | sys_flag::TRANSACTION_COMMIT
    )
}

/// Encodes one record and its entry behind those that are staged. On an error the batch is as it was.
pub(crate) fn stage(
    batch: &mut AppendBatch,
    queue: Arc<ConsumeQueue>,
    fields: &RecordFields<'_>,
    tags_code: TagsCode,
    group_len: u32,
    write_properties: impl FnOnce(&mut BytesMut),
) -> Result<(), RecordError> {
    let range = record::encode(&mut batch.records, fields, write_properties)?;
    batch.entries.push(AppendEntry {
        queue,
        start: range.start as u32,
        len: range.len() as u32,
        tags_code,
        group_len,
        in_queue: enters_a_queue(fields.sys_flag),
        queue_offset: 0,
        physical_offset: 0,
        extra: None,
    });
    Ok(())
}

/// A message that the broker stores by itself: sent back, due, dead.
#[derive(Debug, Clone)]
pub struct InternalMessage<'a> {
    pub topic: &'a str,
    pub queue_id: i32,
    pub flag: i32,
    pub sys_flag: i32,
    pub born_timestamp: i64,
    pub born_host: SocketAddr,
    pub reconsume_times: i32,
    pub prepared_transaction_offset: i64,
    pub body: &'a [u8],
    /// Text form. Stored as it is, unless the message waits first: on its delay level, or, when the text asks for a
    /// delivery time (`TIMER_DELIVER_MS`, `TIMER_DELAY_SEC`, `TIMER_DELAY_MS`, without `TIMER_OUT_MS`), on the timer wheel.
    pub properties: &'a [u8],
    /// Above 0 the message waits in the schedule topic first. The property `DELAY` alone delays nothing.
    pub delay_level: i32,
}

impl<'a> InternalMessage<'a> {
    /// The same message again, for another place.
    pub(crate) fn copy_of(record: &RecordRef<'a>, topic: &'a str, queue_id: i32) -> InternalMessage<'a> {
        InternalMessage {
            topic,
            queue_id,
            flag: record.flag(),
            sys_flag: record.sys_flag(),
            born_timestamp: record.born_timestamp(),
            born_host: record.born_host(),
            reconsume_times: record.reconsume_times(),
            prepared_transaction_offset: 0,
            body: record.body(),
            properties: record.properties(),
            delay_level: 0,
        }
    }
}

/// Where a message of the broker was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    pub queue_offset: i64,
    pub physical_offset: i64,
    /// Physical offset behind it: what must be flushed for it to be safe.
    pub end_offset: i64,
}

/// Why a message of the broker was not stored.
#[derive(Debug, Error)]
pub enum PutError {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Timer(#[from] TimerRefusal),
    #[error(transparent)]
    LightQueues(#[from] TooManyLightQueues),
}

/// The append needs room for what it adds to properties that are this long.
pub(crate) fn fits_with(extra: &Extra, properties_bytes: usize) -> Result<(), RecordError> {
    match properties_bytes + extra.bytes_max() {
        bytes if bytes > properties::PROPERTIES_BYTES_MAX => Err(RecordError::PropertiesTooLong(bytes)),
        _ => Ok(()),
    }
}

impl Broker {
    /// Stores a message of the broker's own. Topic and queue must exist.
    pub fn put_internal(&self, message: &InternalMessage<'_>) -> Result<Stored, PutError> {
        self.put_internal_in(&mut self.internal_batch.lock(), message)
    }

    /// The same for workers, which do not wait for the batch that other threads share.
    pub(crate) fn put_internal_in(
        &self,
        batch: &mut AppendBatch,
        message: &InternalMessage<'_>,
    ) -> Result<Stored, PutError> {
        batch.clear();
        self.stage_internal(batch, message)?;
        self.store.append(batch)?;
        let entry = &batch.entries[0];
        Ok(Stored {
            queue_offset: entry.queue_offset,
            physical_offset: entry.physical_offset,
            end_offset: batch.end_offset,
        })
    }

    /// Encodes a message of the broker's own behind those that are staged. On an error the batch is as it was.
    pub(crate) fn stage_internal(
        &self,
        batch: &mut AppendBatch,
        message: &InternalMessage<'_>,
    ) -> Result<(), PutError> {
        let seen = PropertyScan::of(message.properties);
        let waiting = match enters_a_queue(message.sys_flag) {
            true => self.waiting(message.delay_level, &seen.timer)?,
            false => Waiting::Nowhere,
        };
        let (topic, queue_id) = waiting.queue().unwrap_or((message.topic, message.queue_id));
        let tags_code = waiting.tags_code(TagsCode::Hash(seen.tags.map_or(0, hash::tags_code)));
        let extra = match (waiting, seen.multi_dispatch) {
            (Waiting::Nowhere, Some(names)) => self.multi_dispatch(topic, names)?,
            _ => None,
        };
        if let Some(extra) = &extra {
            fits_with(extra, message.properties.len())?;
        }
        let fields = RecordFields {
            queue_id,
            flag: message.flag,
            sys_flag: message.sys_flag,
            born_timestamp: message.born_timestamp,
            born_host: message.born_host,
            store_host: self.store_host,
            reconsume_times: message.reconsume_times,
            prepared_transaction_offset: message.prepared_transaction_offset,
            topic: topic.as_bytes(),
            body: message.body,
        };
        let queue = self.store.queue_or_create(topic, queue_id);
        stage(batch, queue, &fields, tags_code, 1, |out| match waiting {
            Waiting::Nowhere if extra.is_some() => copy_properties(out, message.properties, is_of_append),
            Waiting::Nowhere => out.extend_from_slice(message.properties),
            _ => waiting.write(out, message.properties, message.topic, message.queue_id, keep_all),
        })?;
        if let Some(extra) = extra {
            batch.add_extra(extra);
        }
        Ok(())
    }
}

/// The value of `INNER_NUM`.
pub(crate) fn message_count(text: &[u8]) -> Option<u16> {
    let count: i16 = std::str::from_utf8(text).ok()?.parse().ok()?;
    Some(count.max(1) as u16)
}

fn priority_of(text: &[u8]) -> Option<i32> {
    let priority = std::str::from_utf8(text).ok()?.parse().ok()?;
    (priority >= 0).then_some(priority)
}

fn number(text: &[u8]) -> i32 {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(entries: &[(&str, &str)]) -> BytesMut {
        let mut out = BytesMut::new();
        for (name, value) in entries {
            properties::write(&mut out, name.as_bytes(), value.as_bytes());
        }
        out
    }

    #[test]
    fn what_a_client_sends_is_stored_as_it_is() {
        let all = text(&[("UNIQ_KEY", "K"), ("WAIT", "true"), ("TAGS", "a"), ("x", "y")]);
        let seen = PropertyScan::of(&all);
        assert!(seen.as_is && seen.wait_store && seen.timer == TimerProperties::default());
        assert_eq!((seen.tags, seen.unique_key), (Some(&b"a"[..]), Some(&b"K"[..])));
        let unterminated = &all[..all.len() - 1];
        assert!(PropertyScan::of(unterminated).as_is);
        let mut out = BytesMut::new();
        copy_text(&mut out, unterminated);
        assert_eq!(out, all);
        assert!(PropertyScan::of(b"").as_is);
    }

    #[test]
    fn broken_entries_and_the_brokers_own_are_not_taken_over() {
        for bad in [
            &b"x\x02"[..],
            b"\x01v\x02",
            b"\x02\x02",
            b"a\x01b\x02\x02",
            b"a\x01b\x02c",
            b"\x02",
        ] {
            assert!(!PropertyScan::of(bad).as_is, "{bad:?}");
        }
        for name in ["POP_CK", "MSG_REGION", "TRACE_ON", "CLUSTER"] {
            let sent = text(&[(name, "forged"), ("a", "b")]);
            assert!(!PropertyScan::of(&sent).as_is, "{name}");
            let mut out = BytesMut::new();
            copy_properties(&mut out, &sent, is_stamped);
            assert_eq!(out, text(&[("a", "b")]));
        }
    }

    #[test]
    fn properties_decide_how_a_message_is_treated() {
        let seen = |entries| PropertyScan::of(Box::leak(Box::new(text(entries))));
        assert!(!seen(&[("WAIT", "false")]).wait_store);
        assert!(seen(&[("TRAN_MSG", "true")]).transaction);
        assert_eq!(seen(&[("DELAY", "3")]).delay_level, 3);
        assert_eq!(seen(&[("DELAY", "x")]).delay_level, 0);
        assert_eq!(seen(&[("TIMER_DELAY_SEC", "3")]).timer.delay_sec, Some(&b"3"[..]));
        assert!(
            seen(&[("TIMER_DELAY_SEC", "3"), ("TIMER_OUT_MS", "9")])
                .timer
                .is_settled
        );
        assert!(!seen(&[("KEYS", " ")]).has_keys);
    }
}
