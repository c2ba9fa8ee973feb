//! Reading a queue of batches: its units are found by bisection over their base offsets (spec: storage.md §6.3).
//!
//! A record leaves as it was stored; its messages are the client's to unwrap. An offset within a batch means the whole
//! batch.

use std::io;

use bytes::BytesMut;

use crate::consume_queue::ConsumeQueue;
use crate::cursor::{Cursor, Look};
use crate::error::GetError;
use crate::read::{GetLimits, GetMessages, GetStatus, MessageFilter, Wait};
use crate::read_path::Copied;
use crate::store::MessageStore;
use crate::unit::{BATCH_UNIT_BYTES, QueueKind, Unit};

/// Units looked at before a filter that rejects everything gives up: 16,000 bytes as for simple queues.
const UNITS_SCANNED_MIN: usize = 16_000 / BATCH_UNIT_BYTES;

impl MessageStore {
    pub(crate) fn collect_batches(
        &self,
        queue: &ConsumeQueue,
        limits: &GetLimits,
        filter: &mut dyn MessageFilter,
        wait: Wait,
        out: &mut BytesMut,
        got: &mut GetMessages,
    ) -> Result<(), GetError> {
        let from = got.next_begin_offset;
        let Some((first_unit, _)) = self.find_unit(queue, from, wait)? else {
            got.status = GetStatus::OffsetFoundNull;
            got.next_begin_offset = 0;
            return Ok(());
        };
        let written = self.written();
        let mut cursor = Cursor::default();
        let mut last_physical_offset = written;
        for number in first_unit..first_unit + UNITS_SCANNED_MIN.max(limits.count) as i64 {
            let unit = match self.unit_at(queue, number, wait) {
                Ok(Some(unit)) if unit.queue_offset < got.max_offset => unit,
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && got.count > 0 => break,
                Err(error) => return Err(error.into()),
            };
            let entry = &unit.entry;
            let is_in_memory = written.saturating_sub(entry.physical_offset) <= self.memory_bytes;
            if self.is_full(got, entry, unit.count as usize, limits, is_in_memory) {
                break;
            }
            if !filter.accepts_code(entry.tags_code) {
                got.rejected();
                got.next_begin_offset = unit.end_offset();
                continue;
            }
            match self.copy_record(&mut cursor, entry, filter, Look::along(wait), out, &mut got.cold_bytes) {
                Ok(Copied::Record { store_timestamp }) => {
                    got.status = GetStatus::Found;
                    got.count += unit.count as usize;
                    got.bytes += entry.size as usize;
                    got.last_store_timestamp = store_timestamp;
                    last_physical_offset = entry.physical_offset;
                }
                Ok(Copied::Rejected) => got.rejected(),
                Ok(Copied::Missing) => got.missing(),
                // What was collected so far is an answer.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && got.count > 0 => break,
                Err(error) => return Err(error.into()),
            }
            got.next_begin_offset = unit.end_offset();
        }
        got.suggest_pulling_from_slave = written - last_physical_offset > self.memory_bytes;
        Ok(())
    }

    /// The first unit that holds this queue offset or a later one, and its number.
    pub(crate) fn find_unit(
        &self,
        queue: &ConsumeQueue,
        queue_offset: i64,
        wait: Wait,
    ) -> io::Result<Option<(i64, Unit)>> {
        let units = queue.units();
        let (mut low, mut high) = (units.start, units.end);
        let mut found = None;
        while low < high {
            let middle = low + (high - low) / 2;
            match self.unit_at(queue, middle, wait)? {
                Some(unit) if unit.end_offset() <= queue_offset => low = middle + 1,
                Some(unit) => {
                    found = Some((middle, unit));
                    high = middle;
                }
                None => high = middle,
            }
        }
        Ok(found)
    }

    fn unit_at(&self, queue: &ConsumeQueue, number: i64, wait: Wait) -> io::Result<Option<Unit>> {
        let mut bytes = [0; BATCH_UNIT_BYTES];
        let read = self.read_entries(queue, number, &mut bytes, wait)?;
        let unit = QueueKind::Batch.decode(number, &bytes);
        Ok(Some(unit).filter(|unit| read == BATCH_UNIT_BYTES && unit.is_present()))
    }
}
