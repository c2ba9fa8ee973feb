//! Records of the log one by one.

use std::ops::ControlFlow;

use oxmq_protocol::record::RecordRef;
use oxmq_protocol::sys_flag;

use super::{OfflineError, OfflineStore, at};
use crate::commit_log::{read_record, scan_segment};
use crate::damage;
use crate::dispatch;

/// Bytes read before the caller is asked again whether it has enough.
const STEP_BYTES: i64 = 1 << 20;

/// Which records are wanted; everything that is set must hold.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Physical offsets, the second exclusive.
    pub from: Option<i64>,
    pub to: Option<i64>,
    pub topic: Option<String>,
    pub queue_id: Option<i32>,
    /// Queue offsets, the second exclusive.
    pub queue_from: Option<i64>,
    pub queue_to: Option<i64>,
    /// A unique id or one of the message's KEYS.
    pub key: Option<String>,
}

impl Selection {
    fn wants(&self, record: &RecordRef<'_>) -> bool {
        let offset = record.queue_offset();
        let is_in_queue =
            self.queue_from.is_none_or(|from| offset >= from) && self.queue_to.is_none_or(|to| offset < to);
        let is_topic = self
            .topic
            .as_ref()
            .is_none_or(|topic| topic.as_bytes() == record.topic());
        if !is_in_queue || !is_topic || self.queue_id.is_some_and(|queue_id| queue_id != record.queue_id()) {
            return false;
        }
        self.key.as_ref().is_none_or(|key| {
            let mut found = false;
            dispatch::keys(record, |other| found |= other == key.as_bytes());
            found
        })
    }
}

/// What the transaction bits of a record say, if they say anything.
pub fn transaction_of(record: &RecordRef<'_>) -> Option<&'static str> {
    match record.sys_flag() & sys_flag::TRANSACTION_MASK {
        sys_flag::TRANSACTION_NONE => None,
        sys_flag::TRANSACTION_COMMIT => Some("commit"),
        sys_flag::TRANSACTION_ROLLBACK => Some("rollback"),
        _ => Some("prepared"),
    }
}

impl OfflineStore {
    /// Hands the wanted records to `found`, in the order of the log, until it breaks. What is damaged is left out.
    pub fn records(
        &self,
        selection: &Selection,
        found: &mut dyn FnMut(&RecordRef<'_>) -> ControlFlow<()>,
    ) -> Result<(), OfflineError> {
        let to = selection.to.unwrap_or(i64::MAX);
        let mut buffer = Vec::new();
        let mut newest = 0;
        for segment in &self.segments {
            let mut position = selection.from.unwrap_or(0).max(segment.base);
            while position < segment.end.min(to) {
                let stop = (position + STEP_BYTES).min(segment.end).min(to);
                let mut enough = ControlFlow::Continue(());
                let reached = scan_segment(segment, position, stop, &mut buffer, &mut |record| {
                    newest = record.store_timestamp().max(newest);
                    if enough.is_continue() && selection.wants(record) {
                        enough = found(record);
                    }
                });
                position = reached.map_err(at(&segment.path))?;
                if enough.is_break() {
                    return Ok(());
                }
                if position < stop {
                    let next = damage::next_in_segment(segment, position, segment.end).map_err(at(&segment.path))?;
                    let Some(next) = next else { break };
                    // Records have rising times: an older one is left of a log that was cut here.
                    let bytes = read_record(segment, next, segment.end).map_err(at(&segment.path))?;
                    let record = bytes.as_deref().and_then(|bytes| RecordRef::parse(bytes).ok());
                    if record.is_some_and(|record| record.store_timestamp() < newest) {
                        return Ok(());
                    }
                    position = next;
                }
            }
        }
        Ok(())
    }
}
