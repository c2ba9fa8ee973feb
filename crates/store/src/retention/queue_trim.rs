//! Consume queues follow the log: their minimum moves to the first entry whose record exists, and files before it go
//! (spec: storage.md §12.2). The last file of a queue stays, because its name says where the numbering goes on.
//!
//! A queue costs something only when the log begins elsewhere than before and its oldest entry has expired, or when it has
//! not been looked at since the start.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::background::Engine;
use crate::consume_queue::ConsumeQueue;
use crate::queues::Untrimmed;
use crate::read::Wait;
use crate::unit::Unit;

/// Units read at once where the first few say nothing: fillers come in runs.
const UNITS_READ: usize = 400;

impl Engine {
    /// Returns how many files went. `pause` waits after each, and says whether to go on.
    pub(super) fn trim_queues(&self, log_min: i64, pause: &dyn Fn() -> bool) -> usize {
        if self.retention.trimmed_to.load(Ordering::Relaxed) == log_min {
            return 0;
        }
        let mut removed = 0;
        let mut is_complete = true;
        for topic in self.queues.topics() {
            for untrimmed in self.queues.untrimmed(&topic, log_min) {
                let queue = match untrimmed {
                    Untrimmed::Loaded(queue) => queue,
                    Untrimmed::InFiles(queue_id, kind) => {
                        let files = self.queues.files(kind);
                        if files.count(&topic, queue_id).is_ok_and(|count| count <= 1) {
                            self.queues.note_single_file(&topic, queue_id);
                            continue;
                        }
                        match self.queues.get(&topic, queue_id) {
                            Some(queue) => queue,
                            None => continue,
                        }
                    }
                };
                match self.trim_queue(&queue, log_min, pause) {
                    Ok(count) => removed += count,
                    Err(error) => {
                        tracing::warn!(%topic, queue_id = queue.queue_id(), %error, "old entries are not removed");
                        is_complete = false;
                    }
                }
                if self.is_stopping() {
                    return removed;
                }
            }
        }
        if is_complete {
            self.retention.trimmed_to.store(log_min, Ordering::Relaxed);
        }
        removed
    }

    fn trim_queue(&self, queue: &Arc<ConsumeQueue>, log_min: i64, pause: &dyn Fn() -> bool) -> io::Result<usize> {
        // Entries that are pushed from here on are of records behind this.
        let written = self.log.written();
        let oldest = self.advance_minimum(queue, log_min)?;
        let mut removed = 0;
        loop {
            // A topic that is deleted and created again has its files under the same names.
            let no_deletion = self.dispatching.lock();
            if queue.is_deleted() {
                break;
            }
            let files = self.queues.files(queue.kind());
            if !files.remove_first(queue, queue.units().start, removed > 0)? {
                break;
            }
            removed += 1;
            drop(no_deletion);
            if !pause() {
                return Ok(removed);
            }
        }
        queue.set_expires_at(oldest.unwrap_or(written).min(written));
        Ok(removed)
    }

    /// Moves the minimum of the queue to its first entry whose record exists. Returns where that record is.
    fn advance_minimum(&self, queue: &ConsumeQueue, log_min: i64) -> io::Result<Option<i64>> {
        let units = queue.units();
        let mut units_at = |number, count| self.units_at(queue, number, count);
        match first_kept(units.clone(), log_min, &mut units_at)? {
            Some((number, unit)) => {
                queue.advance_min(number, unit.queue_offset);
                Ok(Some(unit.entry.physical_offset))
            }
            None => {
                if !units.is_empty() {
                    let last = units_at(units.end - 1, 1)?[0];
                    queue.advance_min(units.end, last.end_offset());
                }
                Ok(None)
            }
        }
    }

    /// The queue offset of the first entry whose record lies at a physical offset or behind it; where the queue ends if
    /// there is none.
    pub(crate) fn first_offset_from(&self, queue: &ConsumeQueue, physical_offset: i64) -> io::Result<i64> {
        let max_offset = queue.max_offset();
        let mut units_at = |number, count| self.units_at(queue, number, count);
        let kept = first_kept(queue.units(), physical_offset, &mut units_at)?;
        Ok(kept.map_or(max_offset, |(_, unit)| unit.queue_offset))
    }

    /// At least one unit, at most `count`.
    fn units_at(&self, queue: &ConsumeQueue, number: i64, count: usize) -> io::Result<Vec<Unit>> {
        let unit_bytes = queue.kind().unit_bytes();
        let mut bytes = vec![0; count * unit_bytes];
        let read = self.queues.read(queue, number, &mut bytes, Wait::Allowed)?;
        if read < unit_bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let units = bytes[..read].chunks_exact(unit_bytes).zip(number..);
        Ok(units
            .map(|(bytes, number)| queue.kind().decode(number, bytes))
            .collect())
    }
}

/// Reads units from a number on: at least one, at most so many.
type UnitsAt<'a> = &'a mut dyn FnMut(i64, usize) -> io::Result<Vec<Unit>>;

/// The first unit whose record lies at `log_min` or behind it. Positions rise from unit to unit, but for fillers, which say
/// nothing, and for single damaged units: what most of three say counts.
pub(crate) fn first_kept(units: Range<i64>, log_min: i64, units_at: UnitsAt<'_>) -> io::Result<Option<(i64, Unit)>> {
    let (mut low, mut high) = (units.start, units.end);
    while low < high {
        let middle = low + (high - low) / 2;
        let (mut votes, mut gone) = (0, 0);
        telling(middle..units.end, units_at, |_, unit| {
            votes += 1;
            gone += i32::from(unit.is_before(log_min));
            votes < 3
        })?;
        if gone * 2 > votes {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let mut found = None;
    telling(low..units.end, units_at, |number, unit| {
        found = (!unit.is_before(log_min)).then_some((number, *unit));
        found.is_none()
    })?;
    Ok(found)
}

/// Calls `found` with each unit that tells where its record is, until it says no.
fn telling(units: Range<i64>, units_at: UnitsAt<'_>, mut found: impl FnMut(i64, &Unit) -> bool) -> io::Result<()> {
    let mut number = units.start;
    let mut wanted = 3;
    while number < units.end {
        for unit in units_at(number, wanted.min((units.end - number) as usize))? {
            if unit.is_present() && !unit.entry.is_filler() && !found(number, &unit) {
                return Ok(());
            }
            number += 1;
        }
        wanted = UNITS_READ;
    }
    Ok(())
}
