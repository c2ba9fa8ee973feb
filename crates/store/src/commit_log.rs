//! The commit log: appends, its flush, and reads of what was appended.
//!
//! ```text
//! min ≤ flushed ≤ written        confirmed = written (ASYNC_FLUSH) or flushed (SYNC_FLUSH)
//! ```
//!
//! One mutex orders everything that an append decides: positions, queue offsets, store timestamps. It is held for
//! the write itself, so that what lies before `written` is always complete.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use oxmq_protocol::record::{self, BLANK_BYTES, RecordRef};
use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::append::{AppendBatch, AppendEntry};
use crate::block_cache::BlockCache;
use crate::checksums::Checksums;
use crate::config::{Clock, FlushDiskType, StoreConfig};
use crate::consume_queue::{ConsumeQueue, Entry};
use crate::cursor::{Cursor, LogParts, Look};
use crate::damage;
use crate::disk::Advice;
use crate::error::{AppendError, ReadError, StoreFailure};
use crate::log_scan::{self, Verdict};
use crate::read::Wait;
use crate::retention::SpaceFigures;
use crate::segments::{Segment, Segments};
use crate::tail::{Chunks, Tail};
use crate::unit::{QueueKind, Unit};

/// Queues somebody waits for whose visible maximum grew.
pub(crate) type Arrivals = SmallVec<[Arc<ConsumeQueue>; 8]>;

/// A position between two records, with what is known about the record before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) offset: i64,
    /// Where the record before the position starts, -1 when there is none.
    pub(crate) last_record: i64,
    pub(crate) store_timestamp: i64,
}

/// Zeros written under the lock at once: some 50 µs.
const ZEROS_AT_ONCE_BYTES: usize = 256 * 1024;

pub(crate) struct CommitLog {
    segments: Segments,
    tail: Tail,
    blocks: BlockCache,
    checksums: Checksums,
    flush_disk_type: FlushDiskType,
    delay_levels_ms: Vec<u64>,
    clock: Clock,
    writer: Mutex<Writer>,
    written: AtomicI64,
    /// Messages since the start, of all appends.
    written_messages: AtomicU64,
    flushed: AtomicI64,
    flushed_mark: Mutex<Mark>,
    /// SYNC_FLUSH: maxima that become visible when the flush passes a position.
    unconfirmed: Mutex<VecDeque<Unconfirmed>>,
    failure: OnceLock<StoreFailure>,
    append_began_ms: AtomicI64,
}

struct Writer {
    mark: Mark,
    segment: Option<Arc<Segment>>,
    chunks: Chunks,
    /// Queues with pending entries.
    dirty: Vec<Arc<ConsumeQueue>>,
    /// The present file is so full that the next one has been asked for.
    next_requested: bool,
    /// SYNC_FLUSH: the file holds written zeros up to this position.
    zeroed_to: i64,
    closed: bool,
}

struct Unconfirmed {
    end: i64,
    queue: Arc<ConsumeQueue>,
    max_offset: i64,
}

/// What an append leaves to be done once the lock is free.
#[derive(Default)]
pub(crate) struct Appended {
    pub(crate) arrivals: Arrivals,
    pub(crate) prepare_next: bool,
}

/// What a flush has made durable.
pub(crate) struct Flushed {
    pub(crate) offset: i64,
    /// Of all appends since the start.
    pub(crate) messages: u64,
    /// Messages that came during the flush.
    pub(crate) waiting: u64,
    pub(crate) arrivals: Arrivals,
}

/// Records of a batch that go into one file, and whether that file ends with them.
struct Part {
    segment: Arc<Segment>,
    is_new_segment: bool,
    physical_offset: i64,
    range: Range<usize>,
    entries: Range<usize>,
    fills_segment: bool,
}

impl CommitLog {
    /// A log that goes on at `end`, with everything before it durable.
    pub(crate) fn new(config: &StoreConfig, segments: Segments, checksums: Checksums, end: Mark) -> CommitLog {
        segments.all().iter().for_each(|segment| segment.read_by_windows());
        CommitLog {
            checksums,
            tail: Tail::new(config.tail_bytes),
            blocks: BlockCache::new(config.block_cache_bytes),
            flush_disk_type: config.flush_disk_type,
            delay_levels_ms: config.delay_levels_ms.clone(),
            clock: Arc::clone(&config.clock),
            writer: Mutex::new(Writer {
                mark: end,
                segment: segments.last(),
                chunks: Chunks::new(config.tail_bytes),
                dirty: Vec::new(),
                next_requested: false,
                zeroed_to: end.offset,
                closed: false,
            }),
            segments,
            written: AtomicI64::new(end.offset),
            written_messages: AtomicU64::new(0),
            flushed: AtomicI64::new(end.offset),
            flushed_mark: Mutex::new(end),
            unconfirmed: Mutex::default(),
            failure: OnceLock::new(),
            append_began_ms: AtomicI64::new(0),
        }
    }

    pub(crate) fn checksums(&self) -> &Checksums {
        &self.checksums
    }

    pub(crate) fn segments(&self) -> &Segments {
        &self.segments
    }

    pub(crate) fn written(&self) -> i64 {
        self.written.load(Ordering::Acquire)
    }

    /// Of all appends since the start.
    pub(crate) fn written_messages(&self) -> u64 {
        self.written_messages.load(Ordering::Relaxed)
    }

    pub(crate) fn flushed(&self) -> i64 {
        self.flushed.load(Ordering::Acquire)
    }

    pub(crate) fn flushed_mark(&self) -> Mark {
        *self.flushed_mark.lock()
    }

    pub(crate) fn confirmed(&self) -> i64 {
        match self.flush_disk_type {
            FlushDiskType::Async => self.written(),
            FlushDiskType::Sync => self.flushed(),
        }
    }

    pub(crate) fn failure(&self) -> Option<&StoreFailure> {
        self.failure.get()
    }

    /// When the append that holds the lock began, 0 when none does.
    pub(crate) fn append_began_ms(&self) -> i64 {
        self.append_began_ms.load(Ordering::Relaxed)
    }

    /// No append succeeds after this.
    pub(crate) fn close(&self) {
        self.writer.lock().closed = true;
    }

    /// The queues with pending entries.
    pub(crate) fn take_dirty(&self) -> Vec<Arc<ConsumeQueue>> {
        std::mem::take(&mut self.writer.lock().dirty)
    }

    /// Queues that have pending entries still.
    pub(crate) fn add_dirty(&self, mut queues: Vec<Arc<ConsumeQueue>>) {
        queues.retain(|queue| queue.mark_dirty());
        self.writer.lock().dirty.append(&mut queues);
    }

    /// Lets the numbering of a queue begin anew if it still ends at `end_offset`.
    pub(crate) fn renumber(&self, queue: &ConsumeQueue, end_offset: i64) -> bool {
        let _no_append = self.writer.lock();
        let is_unchanged = queue.next_offset() == end_offset && queue.max_offset() == end_offset;
        if is_unchanged {
            queue.start_at(0);
        }
        is_unchanged
    }

    pub(crate) fn append(&self, batch: &mut AppendBatch) -> Result<Appended, AppendError> {
        if batch.entries.is_empty() {
            return Ok(Appended::default());
        }
        if let Some(queue) = batch.queues().find(|queue| queue.is_unreadable()) {
            return Err(AppendError::QueueUnreadable {
                topic: Arc::clone(queue.topic()),
                queue_id: queue.queue_id(),
            });
        }
        let mut writer = self.writer.lock();
        if writer.closed {
            return Err(AppendError::ShutDown);
        }
        if let Some(failure) = self.failure.get() {
            return Err(failure.clone().into());
        }
        let now = (self.clock)();
        self.append_began_ms.store(now, Ordering::Relaxed);
        let appended = self.append_locked(&mut writer, batch, now);
        self.append_began_ms.store(0, Ordering::Relaxed);
        appended
    }

    fn append_locked(&self, writer: &mut Writer, batch: &mut AppendBatch, now: i64) -> Result<Appended, AppendError> {
        // Search by time and recovery rely on timestamps that rise with positions.
        let store_timestamp = now.max(writer.mark.store_timestamp);
        let has_extra = batch.has_extra;
        if has_extra {
            batch.entries.iter_mut().for_each(AppendEntry::take_offsets);
            batch.complete_records();
        }
        let parts = self.place(writer, batch).inspect_err(|_| {
            if has_extra {
                batch.entries.iter().rev().for_each(AppendEntry::give_offsets_back);
            }
        })?;
        for entry in &mut batch.entries {
            if !has_extra {
                entry.take_offsets();
            }
            let range = entry.start as usize..(entry.start + entry.len) as usize;
            record::patch(
                &mut batch.records[range],
                entry.queue_offset,
                entry.physical_offset,
                store_timestamp,
            );
        }
        if let Err((physical_offset, error)) = write_parts(&parts, &batch.records) {
            return Err(self.take_back(batch, parts, physical_offset, error));
        }

        let last = &parts[parts.len() - 1];
        let end_offset = last.physical_offset + last.range.len() as i64;
        assert!(end_offset > writer.mark.offset, "the log only grows");
        writer.mark = Mark {
            offset: end_offset,
            last_record: batch.entries[batch.entries.len() - 1].physical_offset,
            store_timestamp,
        };
        batch.store_timestamp = store_timestamp;
        batch.end_offset = end_offset;
        let batch_bytes = batch.records.len();
        let bytes = batch.records.split().freeze();
        writer.chunks.refresh(&mut batch.records, batch_bytes);
        for part in parts {
            if !part.range.is_empty() {
                self.tail.push(part.physical_offset, bytes.slice(part.range));
            }
            if part.is_new_segment {
                self.segments.push(Arc::clone(&part.segment));
                writer.next_requested = false;
                writer.zeroed_to = part.segment.base + self.segments.zeroed_bytes();
            }
            writer.segment = Some(part.segment);
        }
        self.enter_queues(writer, batch);
        let mut appended = Appended::default();
        self.written.store(end_offset, Ordering::Release);
        let messages = self.written_messages.load(Ordering::Relaxed) + batch.entries.len() as u64;
        self.written_messages.store(messages, Ordering::Relaxed);
        if self.flush_disk_type == FlushDiskType::Async {
            appended.arrivals = publish(batch);
        }
        if let Some(segment) = writer.segment.as_ref().filter(|_| !writer.next_requested) {
            // The next file is there long before this one is full.
            appended.prepare_next = end_offset - segment.base > self.segments.file_bytes() / 4;
            writer.next_requested = appended.prepare_next;
        }
        appended.prepare_next |= self.wants_zeros(writer);
        Ok(appended)
    }

    /// Gives every record its place. Records of one group stay in one file; a file that cannot take a group, with
    /// the 8 bytes of a blank behind it, is closed.
    fn place(&self, writer: &Writer, batch: &mut AppendBatch) -> Result<SmallVec<[Part; 2]>, AppendError> {
        let mut parts: SmallVec<[Part; 2]> = SmallVec::new();
        let mut position = writer.mark.offset;
        if let Some(segment) = writer.segment.as_ref().filter(|segment| segment.end > position) {
            parts.push(Part::new(segment, position, 0, 0));
        }
        let mut index = 0;
        while index < batch.entries.len() {
            let group_len = (batch.entries[index].group_len as usize).max(1);
            let members = index..(index + group_len).min(batch.entries.len());
            let group = &mut batch.entries[members.clone()];
            let start = group[0].start as usize;
            let bytes: i64 = group.iter().map(|entry| i64::from(entry.len)).sum();
            let needed = bytes + BLANK_BYTES as i64;
            if needed > self.segments.file_bytes() {
                self.give_up(parts);
                return Err(AppendError::TooLarge {
                    bytes: bytes as u64,
                    file_bytes: self.segments.file_bytes() as u64,
                });
            }
            let full = parts.last().is_none_or(|part| part.segment.end - position < needed);
            if full {
                if let Some(part) = parts.last_mut() {
                    part.fills_segment = true;
                    position = part.segment.end;
                }
                match self.segments.take_next(position) {
                    Ok(segment) => parts.push(Part {
                        is_new_segment: true,
                        ..Part::new(&segment, position, start, index)
                    }),
                    Err(error) => {
                        self.give_up(parts);
                        return Err(cannot_create(error));
                    }
                }
            }
            let part = parts.last_mut().expect("a part was just made sure of");
            for entry in group {
                debug_assert_eq!(entry.start as usize, part.range.end, "records lie back to back");
                entry.physical_offset = position;
                position += i64::from(entry.len);
                part.range.end += entry.len as usize;
            }
            part.entries.end = members.end;
            index = members.end;
        }
        Ok(parts)
    }

    /// Keeps a new file that turned out not to be needed.
    fn give_up(&self, parts: SmallVec<[Part; 2]>) {
        if let Some(unused) = parts.into_iter().find(|part| part.is_new_segment) {
            self.segments.put_back(unused.segment);
        }
    }

    /// Undoes a failed append as far as a later start could notice it: whole records may have been written, and must not
    /// be found there. Without space the log stays usable, any other error ends it.
    fn take_back(
        &self,
        batch: &AppendBatch,
        parts: SmallVec<[Part; 2]>,
        physical_offset: i64,
        error: io::Error,
    ) -> AppendError {
        batch.entries.iter().rev().for_each(AppendEntry::give_offsets_back);
        for part in &parts {
            let blank_at = part.physical_offset + part.range.len() as i64;
            let starts = batch.entries[part.entries.clone()]
                .iter()
                .map(|entry| entry.physical_offset);
            for position in starts.chain(part.fills_segment.then_some(blank_at)) {
                let at = (position - part.segment.base) as u64;
                // Where this fails, the record did not get there either.
                let _ = part.segment.file.write_all_at(&[IoSlice::new(&[0; 8])], at);
            }
        }
        self.give_up(parts);
        if is_no_space(&error) {
            return AppendError::DiskFull(SpaceFigures::default());
        }
        self.fail("write", physical_offset, error).into()
    }

    /// Hands the entries to their queues' memory.
    fn enter_queues(&self, writer: &mut Writer, batch: &AppendBatch) {
        let entry_of = |entry: &AppendEntry| Entry {
            physical_offset: entry.physical_offset,
            size: entry.len as i32,
            tags_code: entry.tags_code.resolve(batch.store_timestamp, &self.delay_levels_ms),
        };
        if batch.has_extra {
            for (entry, queue, queue_offset, count) in places(batch) {
                queue.push_unit(&Unit {
                    entry: entry_of(entry),
                    store_timestamp: batch.store_timestamp,
                    queue_offset,
                    count,
                });
                self.entered(writer, batch, queue, queue_offset + count);
            }
            return;
        }
        for run in batch.entries.chunk_by(|a, b| Arc::ptr_eq(&a.queue, &b.queue)) {
            let queue = &run[0].queue;
            let in_queue = run.iter().filter(|entry| entry.in_queue);
            let Some(last) = in_queue.clone().next_back() else {
                continue;
            };
            match queue.kind() {
                QueueKind::Simple => queue.push(in_queue.map(entry_of)),
                QueueKind::Batch => in_queue.for_each(|entry| {
                    queue.push_unit(&Unit {
                        entry: entry_of(entry),
                        store_timestamp: batch.store_timestamp,
                        queue_offset: entry.queue_offset,
                        count: 1,
                    });
                }),
            }
            self.entered(writer, batch, queue, last.queue_offset + 1);
        }
    }

    fn entered(&self, writer: &mut Writer, batch: &AppendBatch, queue: &Arc<ConsumeQueue>, max_offset: i64) {
        if queue.mark_dirty() {
            writer.dirty.push(Arc::clone(queue));
        }
        if self.flush_disk_type == FlushDiskType::Sync {
            self.unconfirmed.lock().push_back(Unconfirmed {
                end: batch.end_offset,
                queue: Arc::clone(queue),
                max_offset,
            });
        }
    }

    fn wants_zeros(&self, writer: &Writer) -> bool {
        let Some(segment) = writer.segment.as_ref().filter(|_| self.segments.zeroed_bytes() > 0) else {
            return false;
        };
        let wanted = writer.mark.offset + self.segments.zeroed_bytes() / 2;
        writer.zeroed_to < wanted.min(segment.end)
    }

    pub(crate) fn is_zeroing_due(&self) -> bool {
        self.wants_zeros(&self.writer.lock())
    }

    /// Writes zeros ahead of the records. A flush that finds its blocks written once before costs half of one that
    /// must turn reserved blocks into written ones. Appends are kept out for one small write at a time.
    pub(crate) fn zero_ahead(&self) -> io::Result<()> {
        let zeros = vec![0; ZEROS_AT_ONCE_BYTES];
        let mut touched = None;
        loop {
            let mut writer = self.writer.lock();
            let Some(segment) = writer.segment.clone() else { break };
            let from = writer.zeroed_to.max(writer.mark.offset);
            let wanted = (writer.mark.offset + self.segments.zeroed_bytes()).min(segment.end);
            let len = (wanted - from).clamp(0, ZEROS_AT_ONCE_BYTES as i64);
            if len == 0 {
                break;
            }
            let at = (from - segment.base) as u64;
            segment.file.write_all_at(&[IoSlice::new(&zeros[..len as usize])], at)?;
            writer.zeroed_to = from + len;
            touched = Some(segment);
        }
        let Some(segment) = touched else { return Ok(()) };
        segment.file.sync_data().map_err(|error| {
            // Records may have been forgotten with the zeros, and the next flush would not be told.
            let failure = self.fail("write ahead", self.flushed(), error);
            io::Error::other(failure)
        })
    }

    /// Forces what was written before the call to disk. `None` when there was nothing.
    pub(crate) fn flush(&self) -> Result<Option<Flushed>, StoreFailure> {
        if let Some(failure) = self.failure.get() {
            return Err(failure.clone());
        }
        let (mark, messages) = {
            let writer = self.writer.lock();
            (writer.mark, self.written_messages())
        };
        let from = self.flushed();
        if mark.offset <= from {
            return Ok(None);
        }
        for segment in self.segments.within(from, mark.offset) {
            if let Err(error) = segment.file.sync_data() {
                return Err(self.fail("flush", from, error));
            }
        }
        let waiting = self.written_messages() - messages;
        {
            let mut flushed_mark = self.flushed_mark.lock();
            if flushed_mark.offset < mark.offset {
                *flushed_mark = mark;
                self.flushed.store(mark.offset, Ordering::Release);
            }
        }
        Ok(Some(Flushed {
            offset: mark.offset,
            messages,
            waiting,
            arrivals: self.confirm(mark.offset),
        }))
    }

    fn confirm(&self, flushed: i64) -> Arrivals {
        let mut arrivals = Arrivals::new();
        let mut unconfirmed = self.unconfirmed.lock();
        while let Some(next) = unconfirmed.pop_front_if(|next| next.end <= flushed) {
            if next.queue.publish(next.max_offset) {
                add_arrival(&mut arrivals, &next.queue);
            }
        }
        arrivals
    }

    fn fail(&self, operation: &'static str, physical_offset: i64, error: io::Error) -> StoreFailure {
        let failure = StoreFailure {
            operation,
            physical_offset,
            source: Arc::new(error),
        };
        tracing::error!(%failure, "the commit log takes no more records");
        self.failure.get_or_init(|| failure).clone()
    }

    /// Moves the cursor to these bytes. False when the log does not hold them.
    #[inline]
    pub(crate) fn reach(&self, cursor: &mut Cursor, physical_offset: i64, len: usize, look: Look) -> io::Result<bool> {
        Ok(cursor.holds(physical_offset, len) || cursor.seek(&self.parts(), physical_offset, len, look)?)
    }

    /// Lets the disk begin to read these parts, as far as they are not in memory.
    pub(crate) fn fetch(&self, parts: &[Range<i64>]) {
        for part in parts {
            if self.tail.find(part.start).is_none() {
                self.segments.advise(Advice::WillNeed, part);
            }
        }
    }

    /// Whether the disk has brought this position of late, for readers of old data.
    pub(crate) fn is_fetched(&self, physical_offset: i64) -> bool {
        self.blocks.is_fetched(physical_offset)
    }

    pub(crate) fn set_read_ahead(&self, enabled: bool) {
        self.blocks.set_read_ahead(enabled);
    }

    /// Whether what the cursor was moved to is as it was written.
    pub(crate) fn is_sound(&self, cursor: &Cursor, physical_offset: i64, len: usize, wait: Wait) -> io::Result<bool> {
        cursor.is_sound(&self.parts(), physical_offset, len, wait)
    }

    fn parts(&self) -> LogParts<'_> {
        LogParts {
            segments: &self.segments,
            tail: &self.tail,
            blocks: &self.blocks,
            checksums: &self.checksums,
            written: self.written(),
        }
    }

    /// What the tail says, if it reaches there.
    fn record_in_tail(&self, physical_offset: i64) -> Option<Option<Bytes>> {
        let piece = self.tail.find(physical_offset)?;
        let at = (physical_offset - piece.physical_offset) as usize;
        let bytes = &piece.bytes[at..];
        Some(match log_scan::judge(bytes, physical_offset, bytes.len()) {
            Verdict::Record(record) => Some(piece.bytes.slice(at..at + record.total_size())),
            _ => None,
        })
    }

    /// The record at this position, checked, read without disturbing the caches.
    pub(crate) fn record_at(&self, physical_offset: i64) -> Result<Option<BytesMut>, ReadError> {
        let written = self.written();
        if physical_offset < self.segments.min() || physical_offset >= written {
            return Ok(None);
        }
        if let Some(in_tail) = self.record_in_tail(physical_offset) {
            return Ok(in_tail.map(|record| BytesMut::from(&record[..])));
        }
        let Some(segment) = self.segments.at(physical_offset) else {
            return Ok(None);
        };
        let record = match read_record(&segment, physical_offset, written)? {
            Some(record) => {
                let end = physical_offset + record.len() as i64;
                let is_sound = self.checksums.is_sound(&segment, physical_offset, end, Wait::Allowed)?;
                is_sound.then_some(record)
            }
            None if !damage::is_head(&segment, physical_offset)? => return Ok(None),
            None => None,
        };
        if record.is_none() {
            tracing::error!(physical_offset, "damaged record is not served");
        }
        record.map(Some).ok_or(ReadError::Damaged { physical_offset })
    }

    /// The record at this position without waiting for the disk, `WouldBlock` where it cannot be had like that. What the tail
    /// holds is shared, not copied.
    pub(crate) fn record_now(&self, physical_offset: i64) -> io::Result<Option<Bytes>> {
        let written = self.written();
        if physical_offset < self.segments.min() || physical_offset >= written {
            return Ok(None);
        }
        if let Some(in_tail) = self.record_in_tail(physical_offset) {
            return Ok(in_tail);
        }
        let Some(segment) = self.segments.at(physical_offset) else {
            return Ok(None);
        };
        let remaining = (segment.end.min(written) - physical_offset) as usize;
        let mut needed = log_scan::HEAD_BYTES.min(remaining);
        let mut cursor = Cursor::default();
        loop {
            self.reach(&mut cursor, physical_offset, needed, Look::ALONG)?;
            let Some(bytes) = cursor.get(physical_offset, needed) else {
                return Err(io::ErrorKind::WouldBlock.into());
            };
            match log_scan::judge(bytes, physical_offset, remaining) {
                Verdict::Record(record) => {
                    let (size, bytes) = (record.total_size(), Bytes::copy_from_slice(record.as_bytes()));
                    return match self.is_sound(&cursor, physical_offset, size, Wait::Never)? {
                        true => Ok(Some(bytes)),
                        false => Err(io::ErrorKind::WouldBlock.into()),
                    };
                }
                Verdict::Incomplete(more) if more > needed => needed = more,
                // Nothing, or damage.
                _ => return Err(io::ErrorKind::WouldBlock.into()),
            }
        }
    }

    /// Calls `found` with the records between two positions, up to about `bytes_max` bytes, and returns where it stopped.
    /// What is damaged is left out.
    pub(crate) fn records(
        &self,
        from: i64,
        to: i64,
        bytes_max: usize,
        buffer: &mut Vec<u8>,
        mut found: impl FnMut(&RecordRef<'_>),
    ) -> io::Result<i64> {
        let mut position = from.max(self.segments.min());
        let stop = from.saturating_add(bytes_max as i64).min(to);
        while position < stop {
            if let Some(piece) = self.tail.find(position) {
                let mut at = (position - piece.physical_offset) as usize;
                let before = position;
                while position < stop {
                    let Ok(record) = RecordRef::parse(&piece.bytes[at..]) else {
                        break;
                    };
                    found(&record);
                    at += record.total_size();
                    position += record.total_size() as i64;
                }
                if position > before {
                    continue;
                }
            }
            let Some(segment) = self.segments.at(position) else {
                break;
            };
            position = scan_segment(&segment, position, stop, buffer, &mut found)?;
            if position < stop.min(segment.end) {
                let next = damage::next_in_segment(&segment, position, to)?;
                let next = next.unwrap_or(segment.end.min(to));
                tracing::error!(
                    from = position,
                    to = next,
                    "the commit log is damaged here: it is read from behind it"
                );
                position = next;
            }
        }
        Ok(position)
    }
}

impl Part {
    fn new(segment: &Arc<Segment>, physical_offset: i64, start: usize, first_entry: usize) -> Part {
        Part {
            segment: Arc::clone(segment),
            is_new_segment: false,
            physical_offset,
            range: start..start,
            entries: first_entry..first_entry,
            fills_segment: false,
        }
    }
}

fn write_parts(parts: &[Part], records: &[u8]) -> Result<(), (i64, io::Error)> {
    for part in parts {
        let at = (part.physical_offset - part.segment.base) as u64;
        let bytes = IoSlice::new(&records[part.range.clone()]);
        let written = if part.fills_segment {
            let remaining = part.segment.end - part.physical_offset - part.range.len() as i64;
            let blank = record::blank(remaining as i32);
            part.segment.file.write_all_at(&[bytes, IoSlice::new(&blank)], at)
        } else {
            part.segment.file.write_all_at(&[bytes], at)
        };
        written.map_err(|error| (part.physical_offset, error))?;
    }
    Ok(())
}

/// Shows the records of a batch to readers.
fn publish(batch: &AppendBatch) -> Arrivals {
    let mut arrivals = Arrivals::new();
    if batch.has_extra {
        for (_, queue, queue_offset, count) in places(batch) {
            if queue.publish(queue_offset + count) {
                add_arrival(&mut arrivals, queue);
            }
        }
        return arrivals;
    }
    for run in batch.entries.chunk_by(|a, b| Arc::ptr_eq(&a.queue, &b.queue)) {
        let Some(last) = run.iter().rev().find(|entry| entry.in_queue) else {
            continue;
        };
        if last.queue.publish(last.queue_offset + 1) {
            add_arrival(&mut arrivals, &last.queue);
        }
    }
    arrivals
}

/// Every place that a record of the batch has in a queue: its own queue first, then its light ones; with the queue
/// offset there and how many it takes. The order is that in which offsets were taken.
fn places(batch: &AppendBatch) -> impl Iterator<Item = (&AppendEntry, &Arc<ConsumeQueue>, i64, i64)> {
    let in_queue = batch.entries.iter().filter(|entry| entry.in_queue);
    in_queue.flat_map(|entry| {
        let own = (entry, &entry.queue, entry.queue_offset, entry.messages());
        let light = entry.extra.iter().flat_map(|extra| extra.places());
        [own]
            .into_iter()
            .chain(light.map(move |(queue, offset)| (entry, queue, offset, 1)))
    })
}

fn add_arrival(arrivals: &mut Arrivals, queue: &Arc<ConsumeQueue>) {
    if !arrivals.iter().any(|known| Arc::ptr_eq(known, queue)) {
        arrivals.push(Arc::clone(queue));
    }
}

pub(crate) fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn cannot_create(error: io::Error) -> AppendError {
    if is_no_space(&error) {
        return AppendError::DiskFull(SpaceFigures::default());
    }
    AppendError::CreateFile(Arc::new(error))
}

/// The record at this position of a file, or `None` if there is none before `limit`.
pub(crate) fn read_record(segment: &Segment, physical_offset: i64, limit: i64) -> io::Result<Option<BytesMut>> {
    let remaining = (segment.end.min(limit) - physical_offset).max(0) as usize;
    let mut bytes = BytesMut::new();
    let mut needed = log_scan::HEAD_BYTES.min(remaining);
    loop {
        bytes.resize(needed, 0);
        let read = segment
            .file
            .read_at(&mut bytes, (physical_offset - segment.base) as u64)?;
        bytes.truncate(read);
        match log_scan::judge(&bytes, physical_offset, remaining) {
            Verdict::Record(_) => return Ok(Some(bytes)),
            Verdict::Incomplete(more) if more > needed => needed = more,
            _ => return Ok(None),
        }
    }
}

/// Bytes read at once when the log is read in order.
const SCAN_BYTES: usize = 1024 * 1024;

/// Calls `found` with the records of one file from `from` on. Returns where it stopped: at `to`, at the end of the
/// file when a blank fills it, or where there is no record.
pub(crate) fn scan_segment(
    segment: &Segment,
    from: i64,
    to: i64,
    buffer: &mut Vec<u8>,
    found: &mut dyn FnMut(&RecordRef<'_>),
) -> io::Result<i64> {
    let mut position = from;
    let mut needed = log_scan::HEAD_BYTES;
    while position < to {
        let remaining = (segment.end - position) as usize;
        let wanted = needed.max(SCAN_BYTES.min((to - position) as usize));
        buffer.resize(wanted.min(remaining), 0);
        let read = segment.file.read_at(buffer, (position - segment.base) as u64)?;
        let mut at = 0;
        needed = loop {
            if position >= to {
                return Ok(position);
            }
            match log_scan::judge(&buffer[at..read], position, remaining - at) {
                Verdict::Record(record) => {
                    found(&record);
                    at += record.total_size();
                    position += record.total_size() as i64;
                }
                Verdict::Blank => return Ok(segment.end),
                Verdict::Incomplete(more) if at > 0 || (more > read && read == buffer.len()) => break more,
                Verdict::Incomplete(_) | Verdict::End => return Ok(position),
            }
        };
    }
    Ok(position)
}
