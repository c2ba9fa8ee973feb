//! Reading: messages of a queue, single records, search by time and by key.

use std::io;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use oxmq_protocol::record::{RecordError, RecordRef};

use crate::consume_queue::{ConsumeQueue, ENTRY_BYTES, Entry};
use crate::cursor::{Cursor, Look, Spread};
use crate::error::{GetError, ReadError};
use crate::read::{Boundary, GetLimits, GetMessages, GetStatus, MessageFilter, QueryResult, Wait};
use crate::store::MessageStore;
use crate::unit::QueueKind;

/// Bytes of the log that a scan takes at once.
const SCAN_BYTES: usize = 4 << 20;

/// `maxMsgsNumBatch`.
const QUERY_MESSAGES_MAX: usize = 64;

impl MessageStore {
    /// Appends whole records from queue offset `from` on to `out`, those that `filter` accepts.
    pub fn get_messages(
        &self,
        queue: &ConsumeQueue,
        from: i64,
        limits: &GetLimits,
        filter: &mut dyn MessageFilter,
        wait: Wait,
        out: &mut BytesMut,
    ) -> Result<GetMessages, GetError> {
        if self.is_shut_down.load(Ordering::Acquire) {
            return Err(GetError::ShutDown);
        }
        if queue.is_unreadable() {
            return Err(GetError::Io(io::Error::other(
                "the files of the consume queue cannot be read",
            )));
        }
        let (min_offset, max_offset) = (queue.min_offset(), queue.max_offset());
        let mut got = GetMessages {
            status: GetStatus::NoMessageInQueue,
            next_begin_offset: 0,
            min_offset,
            max_offset,
            count: 0,
            bytes: 0,
            suggest_pulling_from_slave: false,
            last_store_timestamp: 0,
            cold_bytes: 0,
        };
        let (status, next_begin_offset) = match from {
            _ if max_offset == 0 => (GetStatus::NoMessageInQueue, 0),
            _ if from < min_offset => (GetStatus::OffsetTooSmall, min_offset),
            _ if from == max_offset => (GetStatus::OffsetOverflowOne, from),
            _ if from > max_offset => (GetStatus::OffsetOverflowBadly, max_offset),
            _ => (GetStatus::NoMatchedMessage, from),
        };
        got.status = status;
        got.next_begin_offset = next_begin_offset;
        if status == GetStatus::NoMatchedMessage {
            let before = out.len();
            let collected = match queue.kind() {
                QueueKind::Simple if let Some(compacted) = queue.compacted_before(from) => {
                    self.collect_compacted(&compacted, limits, filter, wait, out, &mut got)
                }
                QueueKind::Simple => self.collect(queue, limits, filter, wait, out, &mut got),
                QueueKind::Batch => self.collect_batches(queue, limits, filter, wait, out, &mut got),
            };
            if let Err(error) = collected {
                out.truncate(before);
                return Err(error);
            }
        }
        let counters = &self.counters;
        counters.get_messages.fetch_add(got.count as u64, Ordering::Relaxed);
        let outcome = if got.count > 0 {
            &counters.get_found
        } else {
            &counters.get_missed
        };
        outcome.fetch_add(1, Ordering::Relaxed);
        Ok(got)
    }

    /// Whether a record with this many messages goes beyond a limit. The first record never does.
    pub(crate) fn is_full(
        &self,
        got: &GetMessages,
        entry: &Entry,
        messages: usize,
        limits: &GetLimits,
        is_in_memory: bool,
    ) -> bool {
        if got.count == 0 {
            return false;
        }
        let config = self.config();
        let bytes = got.bytes + entry.size.max(0) as usize;
        let (bytes_max, count_max) = if is_in_memory {
            (config.transfer_bytes_in_memory_max, config.transfer_count_in_memory_max)
        } else {
            (config.transfer_bytes_on_disk_max, config.transfer_count_on_disk_max)
        };
        got.count + messages > limits.count || bytes > limits.bytes || bytes > bytes_max || got.count >= count_max
    }

    /// Units from this one on, from memory or from one file. Returns bytes.
    pub(crate) fn read_entries(
        &self,
        queue: &ConsumeQueue,
        unit: i64,
        buffer: &mut [u8],
        wait: Wait,
    ) -> io::Result<usize> {
        self.engine.queues.read(queue, unit, buffer, wait)
    }

    /// Appends the entry's record to `out` if the filter accepts it. Adds to `cold_bytes` what was cold of it.
    pub(crate) fn copy_record(
        &self,
        cursor: &mut Cursor,
        entry: &Entry,
        filter: &mut dyn MessageFilter,
        look: Look,
        out: &mut BytesMut,
        cold_bytes: &mut usize,
    ) -> io::Result<Copied> {
        let (physical_offset, size) = (entry.physical_offset, entry.size as usize);
        self.engine.log.reach(cursor, physical_offset, size, look)?;
        let Some(bytes) = cursor.get(physical_offset, size) else {
            return Ok(Copied::Missing);
        };
        *cold_bytes += self.cold_bytes(entry, look);
        let problem = match RecordRef::parse(bytes) {
            Ok(record) if record.total_size() == size && record.physical_offset() == physical_offset => {
                // Before the checksum: what is rejected is not handed out.
                if !filter.accepts_record(&record) {
                    return Ok(Copied::Rejected);
                }
                match record.verify_crc() {
                    Ok(()) if !self.engine.log.is_sound(cursor, physical_offset, size, look.wait)? => {
                        RecordError::Lengths(size)
                    }
                    Ok(()) => {
                        out.extend_from_slice(bytes);
                        let store_timestamp = record.store_timestamp();
                        return Ok(Copied::Record { store_timestamp });
                    }
                    Err(problem) => problem,
                }
            }
            Ok(_) => RecordError::Lengths(size),
            Err(problem) => problem,
        };
        tracing::error!(physical_offset, size, %problem, "damaged record is not served");
        Ok(Copied::Missing)
    }

    /// The record that starts at this physical offset, or `None` if no record does.
    pub fn read_record(&self, physical_offset: i64) -> Result<Option<Bytes>, ReadError> {
        if physical_offset >= self.confirmed() {
            return Ok(None);
        }
        Ok(self.engine.log.record_at(physical_offset)?.map(BytesMut::freeze))
    }

    /// The same for callers that cannot wait, from memory or the page cache. `GetError::WouldBlock` when the disk is needed.
    pub fn read_record_now(&self, physical_offset: i64) -> Result<Option<Bytes>, GetError> {
        if physical_offset >= self.confirmed() {
            return Ok(None);
        }
        Ok(self.engine.log.record_now(physical_offset)?)
    }

    /// The record at a physical offset, whose size is known; nothing when it is not there or damaged. `alone` says that
    /// the records which the reader is asked for lie far apart.
    pub fn record_in<'r>(
        &self,
        reader: &'r mut RecordReader,
        physical_offset: i64,
        size: i32,
        alone: bool,
    ) -> Result<Option<RecordRef<'r>>, ReadError> {
        let (cursor, len) = (&mut reader.0, usize::try_from(size).unwrap_or(0));
        let (log, wait) = (&self.engine.log, Wait::Allowed);
        let spread = if alone { Spread::Scattered } else { Spread::Along };
        let is_there = len > 0
            && log.reach(cursor, physical_offset, len, Look { wait, spread })?
            && log.is_sound(cursor, physical_offset, len, wait)?;
        let bytes = cursor.get(physical_offset, len).filter(|_| is_there);
        let record = bytes.and_then(|bytes| RecordRef::parse(bytes).ok());
        Ok(record.filter(|record| {
            let is_it = record.total_size() == len && record.physical_offset() == physical_offset;
            is_it && record.verify_crc().is_ok()
        }))
    }

    /// Calls `found` with every record from a physical offset on. For starts: it reads all of them.
    pub fn scan_records(&self, from: i64, found: &mut dyn FnMut(&RecordRef<'_>)) -> Result<(), ReadError> {
        let (mut position, end) = (from, self.written());
        let mut buffer = Vec::new();
        while position < end {
            let reached = self
                .engine
                .log
                .records(position, end, SCAN_BYTES, &mut buffer, &mut *found)?;
            if reached <= position {
                break;
            }
            position = reached;
        }
        Ok(())
    }

    /// Forces what was appended to disk, on the calling thread. False when that failed.
    pub fn flush(&self) -> bool {
        self.engine.flush_step()
    }

    pub fn store_timestamp_at(&self, queue: &ConsumeQueue, queue_offset: i64) -> Option<i64> {
        if queue_offset < queue.min_offset() || queue_offset >= queue.max_offset() {
            return None;
        }
        let entry = match queue.kind() {
            QueueKind::Simple => {
                let mut bytes = [0; ENTRY_BYTES];
                let read = self.read_entries(queue, queue_offset, &mut bytes, Wait::Allowed).ok()?;
                Some(Entry::decode(&bytes)).filter(|_| read == ENTRY_BYTES)?
            }
            QueueKind::Batch => self.find_unit(queue, queue_offset, Wait::Allowed).ok()??.1.entry,
        };
        if !entry.is_present() || entry.is_filler() {
            return None;
        }
        let record = self.engine.log.record_at(entry.physical_offset).ok()??;
        RecordRef::parse(&record).ok().map(|record| record.store_timestamp())
    }

    /// The queue offset that belongs to a time (spec: storage.md §14). Timestamps rise with offsets.
    pub fn offset_by_time(&self, queue: &ConsumeQueue, timestamp: i64, boundary: Boundary) -> i64 {
        let (min_offset, max_offset) = (queue.min_offset(), queue.max_offset());
        let (mut low, mut high) = (min_offset, max_offset);
        while low < high {
            let middle = low + (high - low) / 2;
            // A record that is gone is older than any that is there.
            let found = self.store_timestamp_at(queue, middle).unwrap_or(i64::MIN);
            let is_before = match boundary {
                Boundary::Lower => found < timestamp,
                Boundary::Upper => found <= timestamp,
            };
            if is_before {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        if queue.kind() == QueueKind::Batch && low == max_offset && low > min_offset {
            // The original gives the last batch to whoever asks for what comes after it.
            let last = self.find_unit(queue, max_offset - 1, Wait::Allowed).ok().flatten();
            return last.map_or(low, |(_, unit)| unit.queue_offset);
        }
        match boundary {
            Boundary::Lower => low,
            Boundary::Upper => (low - 1).max(min_offset),
        }
    }

    /// Records with this key (a KEYS piece or a unique id) stored between `begin` and `end`, through the index files.
    pub fn query(&self, topic: &str, key: &str, max_num: usize, begin: i64, end: i64) -> QueryResult {
        let (last_update_timestamp, last_update_physical_offset) = self.engine.index.last_update();
        let mut result = QueryResult {
            records: Vec::new(),
            last_update_timestamp,
            last_update_physical_offset,
        };
        let mut found = self
            .engine
            .index
            .find(topic, key, max_num.min(QUERY_MESSAGES_MAX), begin, end);
        found.sort_unstable();
        found.dedup();
        for physical_offset in found {
            match self.read_record(physical_offset) {
                Ok(record) => result.records.extend(record),
                Err(error) => tracing::warn!(physical_offset, %error, "queried record cannot be read"),
            }
        }
        result
    }
}

/// Where somebody is who reads single records with [`MessageStore::record_in`].
#[derive(Default)]
pub struct RecordReader(Cursor);

/// What became of the record of an entry.
pub(crate) enum Copied {
    Record {
        store_timestamp: i64,
    },
    Rejected,
    /// Not there or damaged.
    Missing,
}

impl GetMessages {
    pub(crate) fn rejected(&mut self) {
        if self.count == 0 {
            self.status = GetStatus::NoMatchedMessage;
        }
    }

    /// An entry whose record cannot be had.
    pub(crate) fn missing(&mut self) {
        if self.count == 0 {
            self.status = GetStatus::MessageWasRemoving;
        }
    }
}

impl From<io::Error> for GetError {
    fn from(error: io::Error) -> GetError {
        match error.kind() {
            io::ErrorKind::WouldBlock => GetError::WouldBlock,
            _ => GetError::Io(error),
        }
    }
}
