//! Reading the log forward from a time on, for those who rebuild what they knew of its newest records.

use std::io;

use oxmq_protocol::record::RecordRef;

use crate::commit_log::scan_segment;
use crate::consume_queue::{ENTRY_BYTES, Entry};
use crate::read::{Boundary, Wait};
use crate::recovery::first_record;
use crate::store::MessageStore;
use crate::unit::QueueKind;

/// Queues that are asked where the time lies. One that was written to shortly before it saves reading most of a file;
/// with none of these the scan begins at the start of a file.
const QUEUES_ASKED_MAX: usize = 64;

impl MessageStore {
    /// Shows every record that was stored at `store_timestamp` or later, oldest first, and perhaps some before. Reads from
    /// the disk; what is appended meanwhile may be missing. Returns how many bytes were looked at.
    pub fn scan_since(&self, store_timestamp: i64, found: &mut dyn FnMut(&RecordRef<'_>)) -> io::Result<i64> {
        let end = self.written();
        let start = self.start_of(store_timestamp)?;
        let (mut position, mut buffer) = (start, Vec::new());
        while let Some(segment) = self.engine.log.segments().at(position).filter(|_| position < end) {
            let reached = scan_segment(&segment, position, end.min(segment.end), &mut buffer, found)?;
            if reached == position || reached < segment.end {
                position = reached;
                break;
            }
            position = reached;
        }
        Ok(position - start)
    }

    /// A position of a record before which everything is older. Timestamps rise with positions, so whatever record is known
    /// to be older will do; the last one is best.
    fn start_of(&self, store_timestamp: i64) -> io::Result<i64> {
        let segments = self.engine.log.segments();
        let mut start = segments.min();
        for segment in segments.all().iter().rev() {
            if first_record(segment)?.is_some_and(|(_, first)| first < store_timestamp) {
                start = segment.base;
                break;
            }
        }
        let ids = self.engine.queues.ids();
        let simple = ids.into_iter().filter(|(_, _, kind)| *kind == QueueKind::Simple);
        for (topic, queue_id, _) in simple.take(QUEUES_ASKED_MAX) {
            let Some(queue) = self.queue(&topic, queue_id) else {
                continue;
            };
            let younger = self.offset_by_time(&queue, store_timestamp, Boundary::Lower);
            let mut bytes = [0; ENTRY_BYTES];
            if younger > queue.min_offset()
                && self.read_entries(&queue, younger - 1, &mut bytes, Wait::Allowed)? == ENTRY_BYTES
            {
                let entry = Entry::decode(&bytes);
                if entry.is_present() && !entry.is_filler() && entry.physical_offset < self.written() {
                    start = start.max(entry.physical_offset);
                }
            }
        }
        Ok(start)
    }
}
