//! Messages of a simple queue for one request: a look through its entries, and the records of those that the filter takes.

use std::io;

use bytes::BytesMut;
use smallvec::SmallVec;

use crate::consume_queue::{ConsumeQueue, ENTRY_BYTES, Entry};
use crate::cursor::{Cursor, Look, Spread};
use crate::error::GetError;
use crate::read::{Codes, GetLimits, GetMessages, GetStatus, MessageFilter, Wait};
use crate::read_path::Copied;
use crate::store::MessageStore;
use crate::unit::QueueKind;

/// Entries copied from the queue at first, which is enough for a pull that takes everything.
const ENTRIES_READ: usize = 64;
/// Entries copied at once after that, and by filters of tags at once: with the usual settings all that one look may take.
const ENTRIES_READ_MAX: usize = 800;
/// A filter that rejects this many entries for each that it accepts leaves records that lie far apart.
const REJECTED_FOR_ONE_MIN: usize = 8;
/// Records that lie this far apart are fetched from the disk one by one: what is between them costs more than a request.
const APART_BYTES_MIN: i64 = 32 * 1024;
/// Records that are brought into the processor's cache together.
const AHEAD: usize = 16;

type Entries = [[u8; ENTRY_BYTES]];

impl MessageStore {
    pub(crate) fn collect(
        &self,
        queue: &ConsumeQueue,
        limits: &GetLimits,
        filter: &mut dyn MessageFilter,
        wait: Wait,
        out: &mut BytesMut,
        got: &mut GetMessages,
    ) -> Result<(), GetError> {
        let from = got.next_begin_offset;
        // A filter that rejects everything gives up here (spec: storage.md §13.2).
        let scanned_max = self.config().filter_scan_bytes.div_ceil(ENTRY_BYTES);
        let scan_end = from
            .saturating_add(scanned_max.max(limits.count) as i64)
            .min(got.max_offset);
        let written = self.written();
        let mut cursor = Cursor::default();
        let mut first_entries = [0; ENTRIES_READ * ENTRY_BYTES];
        let mut later_entries = Vec::new();
        let mut last_physical_offset = written;
        let looks_ahead = filter.looks_into_records();
        let first_read = match filter.codes() {
            Codes::Only(_) => 0,
            Codes::All | Codes::Asked => limits.count.clamp(1, ENTRIES_READ),
        };
        'scan: while got.next_begin_offset < scan_end && got.count < limits.count.max(1) {
            let wanted = (scan_end - got.next_begin_offset) as usize;
            let entries = if got.next_begin_offset == from && first_read > 0 {
                &mut first_entries[..wanted.min(first_read) * ENTRY_BYTES]
            } else {
                later_entries.resize(wanted.min(ENTRIES_READ_MAX) * ENTRY_BYTES, 0);
                &mut later_entries[..]
            };
            let read = self.read_entries(queue, got.next_begin_offset, entries, wait)?;
            if read == 0 {
                if got.next_begin_offset == from {
                    got.status = GetStatus::OffsetFoundNull;
                    got.next_begin_offset = self.engine.queues.files(QueueKind::Simple).next_file_unit(from);
                }
                break;
            }
            let entries = entries[..read].as_chunks::<ENTRY_BYTES>().0;
            let spread = match filter.codes() {
                Codes::Only(codes) => self.spread_of(entries, codes, limits.count - got.count, wait),
                Codes::All | Codes::Asked => Spread::Along,
            };
            let mut at = 0;
            while let Some(entry) = entries.get(at) {
                if let Codes::Only(codes) = filter.codes() {
                    let passed = rejected_at_once(&entries[at..], codes, self.room(got, limits));
                    if passed > 0 {
                        at += passed;
                        got.next_begin_offset += passed as i64;
                        got.rejected();
                        continue;
                    }
                }
                if looks_ahead && at % AHEAD == 0 {
                    fetch_ahead(&cursor, &entries[at..entries.len().min(at + AHEAD)]);
                }
                at += 1;
                let entry = Entry::decode(entry);
                let is_in_memory = written.saturating_sub(entry.physical_offset) <= self.memory_bytes;
                if self.is_full(got, &entry, 1, limits, is_in_memory) {
                    break 'scan;
                }
                got.next_begin_offset += 1;
                if entry.is_filler() || !entry.is_present() {
                    got.missing();
                    continue;
                }
                if !filter.accepts_code(entry.tags_code) {
                    got.rejected();
                    continue;
                }
                match self.copy_record(
                    &mut cursor,
                    &entry,
                    filter,
                    Look { wait, spread },
                    out,
                    &mut got.cold_bytes,
                ) {
                    Ok(Copied::Record { store_timestamp }) => {
                        got.status = GetStatus::Found;
                        got.count += 1;
                        got.bytes += entry.size as usize;
                        got.last_store_timestamp = store_timestamp;
                        last_physical_offset = entry.physical_offset;
                    }
                    Ok(Copied::Rejected) => got.rejected(),
                    Ok(Copied::Missing) => got.missing(),
                    // What was collected so far is an answer.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock && got.count > 0 => {
                        got.next_begin_offset -= 1;
                        break 'scan;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        got.suggest_pulling_from_slave = written - last_physical_offset > self.memory_bytes;
        Ok(())
    }

    /// Whether the records with these codes lie far apart. A caller that may wait for the disk then has them fetched, all at
    /// once, if what is between them is worth it.
    fn spread_of(&self, entries: &Entries, codes: &[i32], count: usize, wait: Wait) -> Spread {
        let mut wanted = SmallVec::<[_; 32]>::new();
        let (mut rejected, mut bytes_between, mut end) = (0, 0_i64, None);
        let present = entries.iter().map(Entry::decode);
        for entry in present.filter(|entry| entry.is_present() && !entry.is_filler()) {
            let before = entry.physical_offset - end.unwrap_or(entry.physical_offset);
            bytes_between = bytes_between.saturating_add(before);
            end = Some(entry.end());
            if !is_one_of(&entry, codes) {
                rejected += 1;
                bytes_between = bytes_between.saturating_add(i64::from(entry.size));
                continue;
            }
            wanted.push(entry.physical_offset..entry.end());
            if wanted.len() == count {
                break;
            }
        }
        if wanted.is_empty() || rejected < REJECTED_FOR_ONE_MIN * wanted.len() {
            return Spread::Along;
        }
        if wait == Wait::Allowed {
            if bytes_between < APART_BYTES_MIN * wanted.len() as i64 {
                return Spread::Along;
            }
            self.engine.log.fetch(&wanted);
        }
        Spread::Scattered
    }

    /// The size that the next message can have, whereever it lies.
    fn room(&self, got: &GetMessages, limits: &GetLimits) -> i32 {
        let config = self.config();
        let bytes_max = limits
            .bytes
            .min(config.transfer_bytes_in_memory_max)
            .min(config.transfer_bytes_on_disk_max);
        let count_max = limits
            .count
            .min(config.transfer_count_in_memory_max)
            .min(config.transfer_count_on_disk_max);
        match got.count {
            0 => i32::MAX - 1,
            count if count < count_max => i32::try_from(bytes_max.saturating_sub(got.bytes)).unwrap_or(i32::MAX - 1),
            _ => 0,
        }
    }
}

/// How many entries in a row have other codes, and would not be too large for the reply, where it ends even before a message
/// that is not wanted.
fn rejected_at_once(entries: &Entries, codes: &[i32], room: i32) -> usize {
    let rejected = entries.iter().map(Entry::decode).take_while(|entry| {
        let is_small = entry.size <= room && entry.size < Entry::FILLER.size;
        entry.is_present() && is_small && !is_one_of(entry, codes)
    });
    rejected.count()
}

fn is_one_of(entry: &Entry, codes: &[i32]) -> bool {
    codes.iter().any(|code| i64::from(*code) == entry.tags_code)
}

/// Touches the parts of records that a filter is going to read, as far as they lie where the last one did: one after the
/// other it would wait for the memory of each.
fn fetch_ahead(cursor: &Cursor, entries: &Entries) {
    const LINE: usize = 64;
    let mut touched = 0;
    for entry in entries {
        let entry = Entry::decode(entry);
        if entry.is_present()
            && let Some(record) = cursor.get(entry.physical_offset, entry.size as usize)
        {
            let len = record.len();
            for at in [
                0,
                LINE,
                len.saturating_sub(2 * LINE),
                len.saturating_sub(LINE),
                len.saturating_sub(1),
            ] {
                touched ^= record.get(at).copied().unwrap_or(0);
            }
        }
    }
    std::hint::black_box(touched);
}
