//! Looking at the whole log again and again, slowly: bytes against their checksums, records against themselves, queue
//! entries against their records.
//!
//! What is wrong in the log is reported, counted and never handed out. Queue entries are derived: a wrong one is written
//! again. Progress is kept in `checksums/progress` and survives a stop.
//!
//! ```text
//! sealed ≤ flushed        a pass goes from the start of the log to where sealing was when it began
//! ```

use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use oxmq_protocol::record::RecordRef;

use crate::background::Engine;
use crate::checksums::{DIRECTORY, GROUP_SPAN_BYTES};
use crate::commit_log::scan_segment;
use crate::config_file;
use crate::consume_queue::{ConsumeQueue, Entry};
use crate::damage;
use crate::dispatch::{self, Place};
use crate::error::ReadError;
use crate::read::Wait;
use crate::segments::Segment;
use crate::unit::{BATCH_UNIT_BYTES, QueueKind, Unit};

/// Bytes of one step of a pass.
const STEP_BYTES: i64 = 8 * GROUP_SPAN_BYTES;
/// Groups sealed before the thread looks whether it shall stop.
const SEAL_GROUPS: usize = 64;
/// Pause after so many groups that were there before the start: 16 MiB/s.
const SEAL_PAUSE: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_secs(1);
const SAVE_INTERVAL_MS: i64 = 10_000;

/// How far the passes over the log are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScrubProgress {
    /// The log before this was looked at in the present pass.
    pub position: i64,
    /// Where the present pass ends; 0 between two passes.
    pub end: i64,
    /// When the last pass began, in milliseconds since the epoch.
    pub began_ms: i64,
    /// Passes that were completed.
    pub passes: u64,
    /// Records or stretches of the log found damaged in the present or last pass.
    pub damaged: u64,
    /// Queue entries that were written again, in all passes.
    pub mended: u64,
}

impl ScrubProgress {
    fn path(engine: &Engine) -> PathBuf {
        engine.config.root.join(DIRECTORY).join("progress")
    }

    pub(crate) fn load(engine: &Engine) -> ScrubProgress {
        let loaded = config_file::load(&*engine.disk, &ScrubProgress::path(engine), |bytes| {
            let text = std::str::from_utf8(bytes).ok()?;
            let mut numbers = text.split_whitespace().map(|number| number.parse::<i64>().ok());
            let mut next = || numbers.next().flatten();
            let progress = ScrubProgress {
                position: next()?,
                end: next()?,
                began_ms: next()?,
                passes: next()? as u64,
                damaged: next()? as u64,
                mended: next()? as u64,
            };
            // The last number proves that none is missing.
            (next()? == 1).then_some(progress)
        });
        loaded.ok().flatten().unwrap_or_default()
    }

    fn save(&self, engine: &Engine) -> io::Result<()> {
        let text = format!(
            "{} {} {} {} {} {} 1\n",
            self.position, self.end, self.began_ms, self.passes, self.damaged, self.mended
        );
        config_file::save(&*engine.disk, &ScrubProgress::path(engine), text.as_bytes())
    }
}

impl Engine {
    /// Seals what was flushed since the last call, and notes the rest, which is no whole group. True when there is more.
    pub(crate) fn seal_step(&self) -> io::Result<bool> {
        let flushed = self.log.flushed();
        let segments = self.log.segments();
        let mut position = self.sealed.load(Ordering::Acquire).max(segments.min());
        let mut buffer = Vec::new();
        for _ in 0..SEAL_GROUPS {
            let Some(segment) = segments.at(position) else {
                return Ok(false);
            };
            let start = position - (position - segment.base) % GROUP_SPAN_BYTES;
            let group_end = (start + GROUP_SPAN_BYTES).min(segment.end);
            let end = group_end.min(flushed);
            let checksums = self.log.checksums();
            if start < end && !checksums.is_noted(end) && !checksums.is_sealed(&segment, start)? {
                buffer.resize((end - start) as usize, 0);
                let read = segment.read_once(&mut buffer, start)?;
                if read == buffer.len() {
                    checksums.undo_flips(start, &mut buffer);
                    match end == group_end {
                        true => checksums.seal(&segment, start, &buffer)?,
                        false => checksums.note_newest(start, &buffer)?,
                    }
                }
            }
            if end < group_end {
                return Ok(false);
            }
            position = end;
            self.sealed.store(end, Ordering::Release);
        }
        Ok(true)
    }

    /// Looks at the next part of the log. Returns the bytes that it read, 0 between two passes.
    pub(crate) fn scrub_step(&self, now_ms: i64) -> io::Result<i64> {
        let mut progress = self.scrub.lock();
        let segments = self.log.segments();
        if progress.end == 0 {
            if now_ms - progress.began_ms < self.config.scrub_interval_ms as i64 {
                return Ok(0);
            }
            let (passes, mended) = (progress.passes, progress.mended);
            *progress = ScrubProgress {
                position: segments.min(),
                end: self.sealed.load(Ordering::Acquire),
                began_ms: now_ms,
                passes,
                damaged: 0,
                mended,
            };
            self.log.checksums().forget_removed(segments);
        }
        let from = progress.position.max(segments.min());
        let Some(segment) = segments.at(from).filter(|_| from < progress.end) else {
            tracing::info!(
                to = progress.end,
                damaged = progress.damaged,
                mended = progress.mended,
                "the commit log was looked at from its start"
            );
            progress.end = 0;
            progress.passes += 1;
            progress.save(self)?;
            return Ok(0);
        };
        let start = from - (from - segment.base) % GROUP_SPAN_BYTES;
        let to = (start + STEP_BYTES).min(segment.end).min(progress.end);
        let look = || self.scrub_part(&segment, from, to);
        let (reached, damaged, mended) = segment.look_once(start..to, GROUP_SPAN_BYTES, look)?;
        progress.damaged += damaged;
        progress.mended += mended;
        self.damaged.fetch_add(damaged, Ordering::Relaxed);
        progress.position = reached.max(to);
        if now_ms - self.scrub_saved_ms.load(Ordering::Relaxed) >= SAVE_INTERVAL_MS {
            self.scrub_saved_ms.store(now_ms, Ordering::Relaxed);
            progress.save(self)?;
        }
        Ok(progress.position - from)
    }

    /// Looks at the records of one file from `from` on, to the first that begins at `to` or behind it.
    fn scrub_part(&self, segment: &Segment, from: i64, to: i64) -> io::Result<(i64, u64, u64)> {
        let mut position = from;
        let (mut damaged, mut mended) = (0, 0);
        let mut buffer = Vec::new();
        let mut start = from - (from - segment.base) % GROUP_SPAN_BYTES;
        while start < to {
            for part in self.log.checksums().check(segment, start)? {
                if part.end > from {
                    damaged += 1;
                    tracing::error!(
                        file = %segment.path.display(),
                        from = part.start,
                        to = part.end,
                        "bytes of the commit log have changed since they were written: records that hold them are not \
                         served; stop the broker and run `oxmq store check`, or restore the file from a replica"
                    );
                }
            }
            start += GROUP_SPAN_BYTES;
        }
        while position < to {
            let mut failure = None;
            position = scan_segment(
                segment,
                position,
                to,
                &mut buffer,
                &mut |record| match self.mend_units(record) {
                    Ok(now) => mended += now,
                    Err(error) => {
                        failure.get_or_insert(error);
                    }
                },
            )?;
            if let Some(error) = failure {
                return Err(error);
            }
            if position < to {
                let next = damage::next_in_segment(segment, position, segment.end)?;
                let next = next.unwrap_or(segment.end);
                damaged += 1;
                self.report_record(segment, position, next)?;
                position = next;
            }
        }
        Ok((position, damaged, mended))
    }

    fn report_record(&self, segment: &Segment, from: i64, to: i64) -> io::Result<()> {
        let bytes = damage::record_shaped(segment, from, to)?;
        let record = bytes.as_deref().and_then(|bytes| RecordRef::parse(bytes).ok());
        let topic = record.map(|record| String::from_utf8_lossy(record.topic()).into_owned());
        tracing::error!(
            file = %segment.path.display(),
            physical_offset = from,
            to,
            topic,
            queue_id = record.map(|record| record.queue_id()),
            queue_offset = record.map(|record| record.queue_offset()),
            "damaged record: it is not served, consumers pass it; stop the broker and run `oxmq store repair` to set it aside"
        );
        Ok(())
    }

    /// Writes the queue units of a record again if they are not its own. Returns how many were.
    fn mend_units(&self, record: &RecordRef<'_>) -> io::Result<u64> {
        let mut outcome = Ok(0);
        dispatch::places(record, |place| {
            if let Ok(mended) = outcome
                && (place.is_own || self.config.multi_dispatch)
            {
                outcome = self.mend_unit(record, &place).map(|now| mended + u64::from(now));
            }
        });
        outcome
    }

    fn mend_unit(&self, record: &RecordRef<'_>, place: &Place<'_>) -> io::Result<bool> {
        let Some(queue) = self.queues.get(place.topic, place.queue_id) else {
            return Ok(false);
        };
        let offset = place.queue_offset;
        if offset < queue.min_offset() || offset >= queue.max_offset() {
            return Ok(false);
        }
        let entry = Entry {
            physical_offset: record.physical_offset(),
            size: record.total_size() as i32,
            tags_code: dispatch::tags_code(record).resolve(record.store_timestamp(), &self.config.delay_levels_ms),
        };
        let wanted = Unit {
            entry,
            store_timestamp: record.store_timestamp(),
            queue_offset: offset,
            count: place.count,
        };
        // What a simple queue does not say is not compared.
        let encoded = wanted.encode();
        let bytes = &encoded[..queue.kind().unit_bytes()];
        let wanted = match queue.kind() {
            QueueKind::Simple => queue.kind().decode(offset, bytes),
            QueueKind::Batch => wanted,
        };
        let Some(number) = self.number_of(&queue, &wanted)? else {
            return Ok(false);
        };
        let Some(found) = self.unit_in_files(&queue, number)? else {
            return Ok(false);
        };
        // A topic that was deleted leaves records behind: of two with one place the newer one has it.
        let is_newer_ones =
            found.entry.physical_offset > entry.physical_offset && self.is_entry_of(&found.entry, place)?;
        if found == wanted || is_newer_ones || !self.fits_between(&queue, number, &entry)? {
            return Ok(false);
        }
        // The dispatch thread is the only other writer.
        let _no_write_out = self.dispatching.lock();
        if queue.is_deleted() {
            return Ok(false);
        }
        self.queues.files(queue.kind()).write(&queue, number, bytes)?;
        tracing::warn!(
            topic = place.topic,
            queue_id = place.queue_id,
            queue_offset = offset,
            ?found,
            ?wanted,
            "a damaged consume queue entry was written again"
        );
        Ok(true)
    }

    /// Which unit of the queue this one is, or was before one bit of it was flipped: one of its two positions still stands,
    /// and one of two searches does not meet a damaged unit.
    fn number_of(&self, queue: &ConsumeQueue, wanted: &Unit) -> io::Result<Option<i64>> {
        if queue.kind() == QueueKind::Simple {
            return Ok(Some(wanted.queue_offset));
        }
        let units = queue.units();
        let in_queue: fn(&Unit) -> i64 = |unit| unit.queue_offset;
        let in_log: fn(&Unit) -> i64 = |unit| unit.entry.physical_offset;
        for position in [in_queue, in_log] {
            let (mut low, mut high) = (units.start, units.end);
            while low < high {
                let middle = low + (high - low) / 2;
                let unit = self.unit_in_files(queue, middle)?;
                match unit.is_some_and(|unit| position(&unit) < position(wanted)) {
                    true => low = middle + 1,
                    false => high = middle,
                }
            }
            for number in (low - 1).max(units.start)..(low + 2).min(units.end) {
                let unit = self.unit_in_files(queue, number)?;
                let is_it = |unit: Unit| in_queue(&unit) == in_queue(wanted) || in_log(&unit) == in_log(wanted);
                if unit.is_some_and(is_it) {
                    return Ok(Some(number));
                }
            }
        }
        Ok(None)
    }

    fn unit_in_files(&self, queue: &ConsumeQueue, number: i64) -> io::Result<Option<Unit>> {
        let mut bytes = [0; BATCH_UNIT_BYTES];
        let bytes = &mut bytes[..queue.kind().unit_bytes()];
        if queue.read_pending(number, bytes).is_ok() {
            return Ok(None);
        }
        let files = self.queues.files(queue.kind());
        let read = files.read_file(queue, number, bytes, Wait::Allowed)?;
        Ok((read == bytes.len()).then(|| queue.kind().decode(number, bytes)))
    }

    /// Positions in the log rise along a queue.
    fn fits_between(&self, queue: &ConsumeQueue, number: i64, entry: &Entry) -> io::Result<bool> {
        let units = queue.units();
        let mut fits = true;
        for (neighbour, is_before) in [(number - 1, true), (number + 1, false)] {
            let other = match units.contains(&neighbour) {
                true => self.unit_in_files(queue, neighbour)?,
                false => None,
            };
            if let Some(other) = other.filter(|other| other.is_present() && !other.entry.is_filler()) {
                fits &= (other.entry.physical_offset < entry.physical_offset) == is_before;
            }
        }
        Ok(fits)
    }

    /// The entry is that of another record with the same place, stored after its topic was deleted.
    fn is_entry_of(&self, entry: &Entry, place: &Place<'_>) -> io::Result<bool> {
        if !entry.is_present() || entry.is_filler() {
            return Ok(false);
        }
        let bytes = match self.log.record_at(entry.physical_offset) {
            Ok(Some(bytes)) => bytes,
            Ok(None) | Err(ReadError::Damaged { .. }) => return Ok(false),
            Err(ReadError::Io(error)) => return Err(error),
        };
        let mut found = false;
        if let Ok(record) = RecordRef::parse(&bytes) {
            dispatch::places(&record, |other| found |= other == *place);
            found &= record.total_size() as i64 == i64::from(entry.size);
        }
        Ok(found)
    }

    pub(crate) fn run_scrub(&self) {
        self.wake_scrub.thread.get_or_init(thread::current);
        let rate = self.config.scrub_bytes_per_second;
        let mut failed = false;
        while !self.is_stopping() {
            let now = (self.config.clock)();
            let done = self.seal_step().and_then(|more| match rate {
                0 => Ok((more, 0)),
                _ => self.scrub_step(now).map(|read| (more, read)),
            });
            let pause = match done {
                // What was there before the start is not worth holding others up.
                Ok((true, _)) if self.sealed.load(Ordering::Acquire) < self.opened_at => SEAL_PAUSE,
                Ok((true, _)) => Duration::ZERO,
                Ok((false, 0)) => PAUSE,
                Ok((false, read)) => Duration::from_secs_f64(read as f64 / rate as f64),
                Err(error) => {
                    if !failed {
                        tracing::error!(%error, "the commit log cannot be looked at");
                    }
                    failed = true;
                    PAUSE * 60
                }
            };
            if !self.is_stopping() && !pause.is_zero() {
                thread::park_timeout(pause);
            }
        }
        let saved = self.scrub.lock().save(self);
        if let Err(error) = saved {
            tracing::warn!(%error, "the progress of looking at the log is not saved");
        }
    }
}
