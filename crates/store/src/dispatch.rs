//! What consume queues and index files take from a record that is read back from the log.

use std::str;

use oxmq_protocol::record::RecordRef;
use oxmq_protocol::{hash, properties, property, sys_flag, topic};

use crate::append::TagsCode;

/// One place of a record in a consume queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place<'a> {
    pub(crate) topic: &'a str,
    pub(crate) queue_id: i32,
    pub(crate) queue_offset: i64,
    /// Queue offsets that it takes: more than 1 for an inner batch.
    pub(crate) count: i64,
    /// The queue is that of the record's topic, not a light one.
    pub(crate) is_own: bool,
}

/// Calls `found` with each place that the record says it has. Prepared and rolled-back records have none, and an inner
/// batch says what its first offset is (spec: storage.md §5).
pub(crate) fn places<'a>(record: &RecordRef<'a>, mut found: impl FnMut(Place<'a>)) {
    let transaction = record.sys_flag() & sys_flag::TRANSACTION_MASK;
    if !matches!(transaction, sys_flag::TRANSACTION_NONE | sys_flag::TRANSACTION_COMMIT) {
        return;
    }
    let Ok(topic) = str::from_utf8(record.topic()) else {
        return;
    };
    let mut own = Place {
        topic,
        queue_id: record.queue_id(),
        queue_offset: record.queue_offset(),
        count: 1,
        is_own: true,
    };
    if record.sys_flag() & sys_flag::INNER_BATCH != 0
        && let (Some(base), Some(count)) = (
            number(record, property::INNER_BASE),
            number(record, property::INNER_NUM),
        )
    {
        (own.queue_offset, own.count) = (base, count.clamp(1, i64::from(i16::MAX)));
    }
    found(own);
    let text = |name| properties::find(record.properties(), name).and_then(|value| str::from_utf8(value).ok());
    let (Some(queues), Some(offsets)) = (
        text(property::INNER_MULTI_DISPATCH),
        text(property::INNER_MULTI_QUEUE_OFFSET),
    ) else {
        return;
    };
    // Java drops empty pieces at the end when it splits, and not when it joins.
    let pieces = |text: &'a str| text.trim_end_matches(',').split(',');
    if !topic::may_multi_dispatch(topic) || pieces(queues).count() < pieces(offsets).count() {
        return;
    }
    for (queue, offset) in pieces(queues).zip(pieces(offsets)) {
        if let Ok(queue_offset) = offset.parse()
            && topic::is_light_queue(queue)
        {
            found(Place {
                topic: queue,
                queue_id: 0,
                queue_offset,
                count: 1,
                is_own: false,
            });
        }
    }
}

fn number(record: &RecordRef<'_>, name: &str) -> Option<i64> {
    str::from_utf8(properties::find(record.properties(), name)?)
        .ok()?
        .parse()
        .ok()
}

pub(crate) fn tags_code(record: &RecordRef<'_>) -> TagsCode {
    if record.topic() == topic::SCHEDULE_TOPIC.as_bytes() {
        let level = properties::find(record.properties(), property::DELAY_TIME_LEVEL);
        let level = level.and_then(|text| str::from_utf8(text).ok()?.parse::<i32>().ok());
        if let Some(level) = level.filter(|level| *level > 0) {
            return TagsCode::DelayLevel(level.min(u8::MAX.into()) as u8);
        }
    }
    TagsCode::Hash(properties::find(record.properties(), property::TAGS).map_or(0, hash::tags_code))
}

impl TagsCode {
    /// The value for the consume queue (spec: storage.md §6.1).
    pub(crate) fn resolve(self, store_timestamp: i64, delay_levels_ms: &[u64]) -> i64 {
        match self {
            TagsCode::Hash(code) => code,
            TagsCode::DelayLevel(level) => {
                let index = usize::from(level).min(delay_levels_ms.len());
                let delay = index.checked_sub(1).map_or(1_000, |index| delay_levels_ms[index]);
                store_timestamp + delay as i64
            }
        }
    }
}

/// Calls `found` with each key text of a record that index files hold: the unique id, then each of KEYS. Rolled-back
/// records have none (spec: storage.md §7.2).
pub(crate) fn keys(record: &RecordRef<'_>, mut found: impl FnMut(&[u8])) {
    if record.sys_flag() & sys_flag::TRANSACTION_MASK == sys_flag::TRANSACTION_ROLLBACK {
        return;
    }
    let (mut unique, mut keys) = (None, None);
    for (name, value) in properties::iter(record.properties()) {
        if name == property::UNIQUE_CLIENT_MESSAGE_ID.as_bytes() {
            unique = Some(value);
        } else if name == property::KEYS.as_bytes() {
            keys = Some(value);
        }
    }
    if let Some(unique) = unique {
        found(unique);
    }
    for key in keys.unwrap_or_default().split(|byte| *byte == b' ') {
        if !key.is_empty() {
            found(key);
        }
    }
}
