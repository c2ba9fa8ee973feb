//! Which messages count as cold, for those who limit how much of them is read: those that lie further behind the end of the
//! log than a part of the memory, as in the original; and of these, where that is asked for, only what the disk had to bring.
//!
//! The original samples the page cache every minute. Here what the disk has brought of late is known: it is what streaks of
//! misses hold ([`crate::cold_windows`]).

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use crate::consume_queue::{ConsumeQueue, ENTRY_BYTES, Entry};
use crate::cursor::{Look, Spread};
use crate::read::{ColdArea, Wait};
use crate::store::{MessageStore, physical_memory_bytes};
use crate::unit::QueueKind;

#[derive(Debug)]
pub(crate) struct Border {
    /// Bytes before the end of the log; `i64::MAX` where nothing counts as cold.
    behind: AtomicI64,
    from_disk: AtomicBool,
}

impl Default for Border {
    fn default() -> Border {
        Border {
            behind: AtomicI64::new(i64::MAX),
            from_disk: AtomicBool::new(false),
        }
    }
}

impl MessageStore {
    /// What gets count as cold from now on ([`crate::GetMessages::cold_bytes`]).
    pub fn set_cold_area(&self, area: Option<ColdArea>) {
        let behind = area.map_or(i64::MAX, |area| {
            physical_memory_bytes() / 100 * i64::from(area.memory_percent)
        });
        self.cold.behind.store(behind, Ordering::Relaxed);
        let from_disk = area.is_some_and(|area| area.from_disk);
        self.cold.from_disk.store(from_disk, Ordering::Relaxed);
    }

    /// Whether a reader that misses in the page cache has more brought than what it misses.
    pub fn set_read_ahead(&self, enabled: bool) {
        self.engine.log.set_read_ahead(enabled);
    }

    /// Whether the message at this queue offset lies in the cold area. An entry that only the disk has is taken for cold.
    pub fn is_cold(&self, queue: &ConsumeQueue, queue_offset: i64) -> bool {
        if queue_offset < queue.min_offset() || queue_offset >= queue.max_offset() {
            return false;
        }
        let entry = match queue.kind() {
            QueueKind::Simple => {
                let mut bytes = [0; ENTRY_BYTES];
                let read = self.read_entries(queue, queue_offset, &mut bytes, Wait::Never);
                read.map(|read| (read == ENTRY_BYTES).then(|| Entry::decode(&bytes)))
            }
            QueueKind::Batch => {
                let found = self.find_unit(queue, queue_offset, Wait::Never);
                found.map(|found| found.map(|(_, unit)| unit.entry))
            }
        };
        match entry {
            Ok(entry) => entry.is_some_and(|entry| entry.is_present() && self.is_behind(&entry)),
            Err(_) => self.cold.behind.load(Ordering::Relaxed) < i64::MAX,
        }
    }

    #[inline]
    fn is_behind(&self, entry: &Entry) -> bool {
        self.written() - entry.physical_offset > self.cold.behind.load(Ordering::Relaxed)
    }

    /// What counts as cold of the record of this entry, which was just looked at.
    #[inline]
    pub(crate) fn cold_bytes(&self, entry: &Entry, look: Look) -> usize {
        if !self.is_behind(entry) {
            return 0;
        }
        let counts = !self.cold.from_disk.load(Ordering::Relaxed)
            || (look.wait == Wait::Allowed && look.spread == Spread::Scattered)
            || self.engine.log.is_fetched(entry.physical_offset);
        if counts { entry.size.max(0) as usize } else { 0 }
    }
}
