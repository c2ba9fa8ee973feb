//! What consume queues and index files take from a record that is read back from the log.

use std::str;

use oxmq_protocol::record::RecordRef;
use oxmq_protocol::{hash, properties, property, sys_flag, topic};

use crate::append::TagsCode;

/// Prepared and rolled-back records are in no consume queue (spec: storage.md §5.1).
pub(crate) fn is_in_queue(record: &RecordRef<'_>) -> bool {
    let transaction = record.sys_flag() & sys_flag::TRANSACTION_MASK;
    matches!(transaction, sys_flag::TRANSACTION_NONE | sys_flag::TRANSACTION_COMMIT)
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
