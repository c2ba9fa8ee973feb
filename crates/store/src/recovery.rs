//! Finding the end of the log after a stop, and making the consume queues agree with it (spec: storage.md §9).
//!
//! One rule serves every case: there is a position before which log and consume queues are known to be whole; entries of
//! later records are dropped, and the log is replayed from there to its last whole record. After a clean stop of ours the
//! position is the end of the log and nothing is read. Java's rules find a position where ours is missing or older,
//! because a Java broker was here.
//!
//! Bytes that are no record end the log where a power cut may have left them, and are damage where it cannot: before the
//! recovery position, and before a record that the checkpoint knows to be flushed. Damage is passed over.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use oxmq_protocol::record::RecordRef;

use crate::checkpoint::Checkpoint;
use crate::commit_log::{Mark, read_record, scan_segment};
use crate::config::ReplayObserver;
use crate::consume_queue::{ConsumeQueue, Entry};
use crate::damage;
use crate::dispatch::{self, Place};
use crate::log_scan;
use crate::queues::Queues;
use crate::segments::{Segment, Segments};
use crate::store::LastStop;
use crate::unit::Unit;

/// The replay tells where it is after so many bytes.
const PROGRESS_BYTES: i64 = 128 << 20;

/// Queues whose ends were found, between two lines about that.
const PROGRESS_QUEUES: usize = 10_000;

/// Bytes of the log written again at once.
const REWRITE_BYTES: i64 = 1 << 20;

/// Pending bytes of one queue that are written out during the replay.
const WRITE_OUT_BYTES: usize = 1024 * 1024;

#[derive(Debug, Clone)]
pub(crate) struct Recovered {
    pub(crate) end: Mark,
    /// The entries of all records before this are in the queues' files.
    pub(crate) written_out: Mark,
    /// Queues that have entries of later records, and are still to be loaded and written out.
    pub(crate) replayed: Vec<(Arc<str>, i32)>,
    pub(crate) scanned_from: i64,
    pub(crate) records: u64,
    /// Nothing had to be looked at.
    pub(crate) untouched: bool,
    /// The checkpoint's position, and so its index mark, belongs to this log.
    pub(crate) proved: bool,
}

pub(crate) struct Recovery<'a> {
    pub(crate) segments: &'a Segments,
    pub(crate) queues: &'a Queues,
    pub(crate) checkpoint: &'a Checkpoint,
    pub(crate) last_stop: LastStop,
    pub(crate) delay_levels_ms: &'a [u64],
    pub(crate) multi_dispatch: bool,
    pub(crate) observer: Option<&'a ReplayObserver>,
    pub(crate) progress: &'a RecoveryProgress,
}

/// How far a start has read the commit log, for those who wait for it.
#[derive(Debug, Default)]
pub struct RecoveryProgress {
    from: AtomicI64,
    reached: AtomicI64,
    end: AtomicI64,
}

impl RecoveryProgress {
    /// Physical offsets: where the reading began, where it is, and where the log ends at the latest.
    pub fn offsets(&self) -> [i64; 3] {
        [&self.from, &self.reached, &self.end].map(|offset| offset.load(Ordering::Relaxed))
    }
}

impl Recovery<'_> {
    pub(crate) fn run(&self) -> io::Result<Recovered> {
        let proved = self.proved_position()?;
        let clean = self.last_stop == LastStop::Clean;
        if let Some(end) = proved.filter(|_| clean)
            && !self.has_record_at(end.offset)?
        {
            return Ok(Recovered {
                end,
                written_out: end,
                replayed: Vec::new(),
                scanned_from: end.offset,
                records: 0,
                untouched: true,
                proved: true,
            });
        }
        let java = if clean {
            self.normal_start()?
        } else {
            self.abnormal_start()?
        };
        let start = match proved {
            Some(proved) if proved.offset >= java => proved,
            _ => Mark {
                offset: java,
                last_record: -1,
                store_timestamp: 0,
            },
        };
        self.sync_log(start.offset, i64::MAX)?;
        // Then the queues need not be looked at before somebody asks for them.
        let trusted = self.last_stop == LastStop::Ours && start.last_record >= 0;
        if trusted {
            self.queues.trust_before(start.offset);
        } else {
            self.cut_queues(start.offset)?;
        }
        let (end, records) = self.replay(start, trusted)?;
        self.end_log_at(start.offset, end.offset)?;
        for queue in self.queues.loaded() {
            write_out(self.queues, &queue, i64::MAX)?;
        }
        self.queues.sync()?;
        let replayed = self.queues.replayed();
        Ok(Recovered {
            end,
            written_out: if replayed.is_empty() { end } else { start },
            replayed,
            scanned_from: start.offset,
            records,
            untouched: false,
            proved: proved.is_some(),
        })
    }

    /// Our checkpoint's position, if the record before it is there, whole or damaged, and ends there.
    fn proved_position(&self) -> io::Result<Option<Mark>> {
        let Some(position) = self.checkpoint.position else {
            return Ok(None);
        };
        let mut mark = Mark {
            offset: position.offset,
            last_record: position.last_record,
            store_timestamp: 0,
        };
        if position.last_record < 0 {
            return Ok((position.offset == self.segments.min()).then_some(mark));
        }
        let Some(segment) = self.segments.at(position.last_record) else {
            return Ok(None);
        };
        let bytes = read_record(&segment, position.last_record, segment.end)?;
        let Some(record) = bytes.as_deref().and_then(|bytes| RecordRef::parse(bytes).ok()) else {
            mark.store_timestamp = self.checkpoint.physic_msg_timestamp;
            let size = i32::try_from(position.offset - position.last_record).unwrap_or(0);
            let is_damaged =
                position.offset <= segment.end && damage::was_record(&segment, position.last_record, size)?;
            if is_damaged {
                tracing::error!(
                    physical_offset = position.last_record,
                    "the record before the recovery position is damaged"
                );
            }
            return Ok(is_damaged.then_some(mark));
        };
        mark.store_timestamp = record.store_timestamp();
        let end = position.last_record + record.total_size() as i64;
        Ok((end == position.offset).then_some(mark))
    }

    /// Is there a record at the position, or in the file after the one that ends there?
    fn has_record_at(&self, position: i64) -> io::Result<bool> {
        let Some(segment) = self.segments.at(position) else {
            return Ok(false);
        };
        let mut found = false;
        let reached = scan_segment(&segment, position, position + 1, &mut Vec::new(), &mut |_| found = true)?;
        if found || reached < segment.end {
            return Ok(found);
        }
        // A blank: the log goes on in the next file, if that was used.
        match self.segments.at(segment.end) {
            Some(next) => Ok(first_record(&next)?.is_some()),
            None => Ok(false),
        }
    }

    /// Java after a clean stop: the last file that starts before the end of some consume queue.
    fn normal_start(&self) -> io::Result<i64> {
        let mut greatest_end = 0;
        for (topic, queue_id, kind) in self.queues.ids() {
            if let Some(entry) = self.queues.files(kind).last_entry(&topic, queue_id)? {
                greatest_end = greatest_end.max(entry.end());
            }
        }
        self.last_file(|offset, _| offset <= greatest_end)
    }

    /// Java after an unclean stop: the last file whose first record is older than the checkpoint.
    fn abnormal_start(&self) -> io::Result<i64> {
        let trusted = self.checkpoint.min_timestamp();
        self.last_file(|_, store_timestamp| store_timestamp <= trusted)
    }

    /// Start of the last file whose first record passes, otherwise of the first file, which is not tested.
    fn last_file(&self, passes: impl Fn(i64, i64) -> bool) -> io::Result<i64> {
        for segment in self.segments.all().iter().skip(1).rev() {
            if let Some((offset, store_timestamp)) = first_record(segment)?
                && store_timestamp != 0
                && passes(offset, store_timestamp)
            {
                return Ok(segment.base);
            }
        }
        Ok(self.segments.min())
    }

    /// Loads every queue and drops entries that are not those of records before `start`. An entry is compared with its
    /// record: a power cut may have left entries of a log that was never written.
    fn cut_queues(&self, start: i64) -> io::Result<()> {
        let log_min = self.segments.min();
        let ids = self.queues.ids();
        let of = ids.len();
        for (done, (topic, queue_id, kind)) in ids.into_iter().enumerate() {
            if done > 0 && done.is_multiple_of(PROGRESS_QUEUES) {
                tracing::warn!(done, of, "consume queues are compared with the commit log");
            }
            let mut failure = None;
            let mut belongs = |unit: &Unit| match self.belongs(&topic, queue_id, unit, start) {
                Ok(belongs) => belongs,
                Err(error) => {
                    failure = Some(error);
                    false
                }
            };
            let loaded = self.queues.load_cut(&topic, queue_id, kind, log_min, &mut belongs);
            if let Some(error) = failure {
                return Err(error);
            }
            loaded?;
        }
        Ok(())
    }

    /// The unit is that of a record before `start`, or was before a bit of it was flipped.
    fn belongs(&self, topic: &str, queue_id: i32, unit: &Unit, start: i64) -> io::Result<bool> {
        let log_min = self.segments.min();
        let is_before = |entry: &Entry| entry.is_present() && entry.end() <= start;
        let entry = unit.entry;
        if is_before(&entry) {
            if entry.physical_offset < log_min {
                return Ok(true);
            }
            if let Some(segment) = self.segments.at(entry.physical_offset)
                && let Some(is_unit) = self.is_unit_of(&segment, topic, queue_id, unit)?
            {
                if is_unit {
                    return Ok(true);
                }
            } else {
                // The entry of a damaged record stays: those behind it would be lost with it.
                let segment = self.segments.at(entry.physical_offset);
                let was_record = segment.map(|segment| damage::was_record(&segment, entry.physical_offset, entry.size));
                if was_record.transpose()? == Some(true) {
                    return Ok(true);
                }
            }
        }
        for bit in 0..96 {
            let mut entry = entry;
            match bit {
                0..64 => entry.physical_offset ^= 1 << bit,
                _ => entry.size ^= 1 << (bit - 64),
            }
            if !is_before(&entry) || entry.physical_offset < log_min {
                continue;
            }
            if let Some(segment) = self.segments.at(entry.physical_offset)
                && self.is_unit_of(&segment, topic, queue_id, &Unit { entry, ..*unit })? == Some(true)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// `None` where there is no whole record.
    fn is_unit_of(&self, segment: &Segment, topic: &str, queue_id: i32, unit: &Unit) -> io::Result<Option<bool>> {
        let entry = &unit.entry;
        let bytes = read_record(segment, entry.physical_offset, segment.end)?;
        let Some(record) = bytes.as_deref().and_then(|bytes| RecordRef::parse(bytes).ok()) else {
            return Ok(None);
        };
        let mut found = false;
        dispatch::places(&record, |place| {
            found |= place.topic == topic && place.queue_id == queue_id && place.queue_offset == unit.queue_offset;
        });
        Ok(Some(found && record.total_size() as i64 == i64::from(entry.size)))
    }

    /// Reads the log from `start` to its last whole record and enters each into its queue.
    fn replay(&self, start: Mark, trusted: bool) -> io::Result<(Mark, u64)> {
        let mut end = start;
        let mut records = 0;
        let mut failure = None;
        let mut buffer = Vec::new();
        let end_at_most = self.segments.last().map_or(start.offset, |last| last.end);
        self.progress.from.store(start.offset, Ordering::Relaxed);
        self.progress.end.store(end_at_most, Ordering::Relaxed);
        let mut tell_at = start.offset + PROGRESS_BYTES;
        while let Some(segment) = self.segments.at(end.offset) {
            let reached = scan_segment(&segment, end.offset, segment.end, &mut buffer, &mut |record| {
                records += 1;
                end.last_record = record.physical_offset();
                self.progress.reached.store(end.last_record, Ordering::Relaxed);
                if end.last_record >= tell_at {
                    tell_at = end.last_record + PROGRESS_BYTES;
                    self.tell_progress(start.offset, end.last_record, records);
                }
                end.store_timestamp = end.store_timestamp.max(record.store_timestamp());
                if let Some(observer) = self.observer {
                    observer(record);
                }
                if let Err(error) = self.enter(record, trusted) {
                    failure.get_or_insert(error);
                }
            })?;
            if let Some(error) = failure.take() {
                return Err(error);
            }
            end.offset = reached;
            if reached < segment.end {
                let Some(next) = self.flushed_behind(&end)? else {
                    break;
                };
                tracing::error!(
                    from = reached,
                    to = next,
                    "the commit log is damaged here: it goes on behind it"
                );
                self.enter_damaged(&segment, reached, next, trusted)?;
                end.offset = next;
            }
        }
        Ok((end, records))
    }

    fn tell_progress(&self, from: i64, reached: i64, records: u64) {
        let end_at_most = self.segments.last().map_or(reached, |last| last.end);
        tracing::warn!(
            from,
            reached,
            end_at_most,
            records,
            "the commit log is read from the recovery position"
        );
    }

    /// Where the log goes on behind bytes that are no record: at a record that was on disk when the checkpoint was
    /// written. Records have rising times; an older one is left of a log that was cut here.
    fn flushed_behind(&self, end: &Mark) -> io::Result<Option<i64>> {
        let flushed_ms = self.checkpoint.physic_msg_timestamp;
        let flushed_to = self.checkpoint.position.map_or(0, |position| position.offset);
        if end.offset >= flushed_to && end.store_timestamp >= flushed_ms {
            return Ok(None);
        }
        for segment in self.segments.within(end.offset, i64::MAX) {
            let from = end.offset.max(segment.base);
            let Some(next) = damage::next_in_segment(&segment, from, segment.end)? else {
                continue;
            };
            let Some(follower) = self.segments.at(next) else {
                return Ok(None);
            };
            let Some(bytes) = read_record(&follower, next, follower.end)? else {
                // Behind a blank: the next file says.
                continue;
            };
            let was_flushed = RecordRef::parse(&bytes).is_ok_and(|record| {
                let stored = record.store_timestamp();
                stored >= end.store_timestamp && (stored < flushed_ms || next < flushed_to)
            });
            return Ok(was_flushed.then_some(next));
        }
        Ok(None)
    }

    /// A damaged record that still says which places it has keeps them: its queue offsets are not given again.
    fn enter_damaged(&self, segment: &Segment, from: i64, to: i64, trusted: bool) -> io::Result<()> {
        let bytes = damage::record_shaped(segment, from, to)?;
        match bytes.as_deref().and_then(|bytes| RecordRef::parse(bytes).ok()) {
            Some(record) if log_scan::is_topic_name(record.topic()) => self.enter(&record, trusted),
            _ => Ok(()),
        }
    }

    fn enter(&self, record: &RecordRef<'_>, trusted: bool) -> io::Result<()> {
        let mut outcome = Ok(());
        dispatch::places(record, |place| {
            if (place.is_own || self.multi_dispatch) && outcome.is_ok() {
                outcome = self.enter_at(record, &place, trusted);
            }
        });
        outcome
    }

    fn enter_at(&self, record: &RecordRef<'_>, place: &Place<'_>, trusted: bool) -> io::Result<()> {
        let unit = Unit {
            entry: Entry {
                physical_offset: record.physical_offset(),
                size: record.total_size() as i32,
                tags_code: dispatch::tags_code(record).resolve(record.store_timestamp(), self.delay_levels_ms),
            },
            store_timestamp: record.store_timestamp(),
            queue_offset: place.queue_offset,
            count: place.count,
        };
        if trusted && self.queues.keep_replayed(place.topic, place.queue_id, &unit) {
            return Ok(());
        }
        let queue = self.queues.get_or_create_cut(place.topic, place.queue_id)?;
        if queue.enter(&unit) >= WRITE_OUT_BYTES {
            write_out(self.queues, &queue, i64::MAX)?;
        }
        Ok(())
    }

    /// Makes `end` the end for every reader to come: nothing lies behind it, and what lies before it is durable.
    fn end_log_at(&self, start: i64, end: i64) -> io::Result<()> {
        self.segments.truncate(end)?;
        if let Some(last) = self.segments.at(end) {
            last.file
                .zero_range((end - last.base) as u64, (last.end - end) as u64)?;
        }
        if self.last_stop == LastStop::Ours {
            self.rewrite(start, end)?;
        }
        self.sync_log(start, end.max(start + 1))
    }

    /// Writes a part of the log over itself. A flush that failed before the stop left bytes in memory that the kernel does
    /// not try to write again: they would be read now and be gone after a power cut.
    fn rewrite(&self, start: i64, end: i64) -> io::Result<()> {
        let mut bytes = Vec::new();
        for segment in self.segments.within(start, end) {
            let mut position = start.max(segment.base);
            while position < end.min(segment.end) {
                bytes.resize((end.min(segment.end) - position).min(REWRITE_BYTES) as usize, 0);
                let at = (position - segment.base) as u64;
                let read = segment.file.read_at(&mut bytes, at)?;
                segment.file.write_all_at(&[IoSlice::new(&bytes[..read])], at)?;
                position += bytes.len() as i64;
            }
        }
        Ok(())
    }

    fn sync_log(&self, start: i64, end: i64) -> io::Result<()> {
        for segment in self.segments.within(start, end) {
            segment.file.sync_data()?;
        }
        Ok(())
    }
}

/// Writes the pending entries of records before this physical offset to the queue's files. True when others are left.
pub(crate) fn write_out(queues: &Queues, queue: &Arc<ConsumeQueue>, before: i64) -> io::Result<bool> {
    let (first_unit, entries, are_left) = queue.pending_before(before);
    if !entries.is_empty() {
        queues.files(queue.kind()).write(queue, first_unit, &entries)?;
        queue.written_out(entries.len());
    }
    Ok(are_left)
}

/// Physical offset and store timestamp of the record a file begins with.
pub(crate) fn first_record(segment: &Segment) -> io::Result<Option<(i64, i64)>> {
    let bytes = read_record(segment, segment.base, segment.end)?;
    let record = bytes.as_deref().and_then(|bytes| RecordRef::parse(bytes).ok());
    Ok(record.map(|record| (record.physical_offset(), record.store_timestamp())))
}
