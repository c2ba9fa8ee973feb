//! One consume queue: the entries of one topic queue, 20 bytes each (spec: storage.md §6.1).
//!
//! ```text
//! 0  physicalOffset i64     8  size i32     12  tagsCode i64
//! ```
//!
//! New entries stay in memory until their records are durable and the dispatch thread has written them to the queue's files:
//!
//! ```text
//! min ≤ first pending ≤ next,   min ≤ max (visible) ≤ next
//! [min, first pending) is in files, [first pending, next) in memory
//! ```
//!
//! Files and pending entries are counted in units, which are queue offsets unless the queue is one of batches (`unit.rs`).
//!
//! A queue that nobody uses costs this struct and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::compaction::Compacted;
use crate::unit::{Extent, QueueKind, Unit};

pub(crate) const ENTRY_BYTES: usize = 20;

/// Entries that stand for records the log lost in the middle of a queue; more are not believed.
const GAP_ENTRIES_MAX: i64 = 1_000_000;

/// Size field of entries that stand for no record (spec: storage.md §6.1, first file not starting at 0).
const FILLER_SIZE: i32 = i32::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) physical_offset: i64,
    pub(crate) size: i32,
    pub(crate) tags_code: i64,
}

impl Entry {
    pub(crate) const FILLER: Entry = Entry {
        physical_offset: 0,
        size: FILLER_SIZE,
        tags_code: 0,
    };

    pub(crate) fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..8].copy_from_slice(&self.physical_offset.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.size.to_be_bytes());
        bytes[12..].copy_from_slice(&self.tags_code.to_be_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; ENTRY_BYTES]) -> Entry {
        let [p0, p1, p2, p3, p4, p5, p6, p7, s0, s1, s2, s3, tags @ ..] = *bytes;
        Entry {
            physical_offset: i64::from_be_bytes([p0, p1, p2, p3, p4, p5, p6, p7]),
            size: i32::from_be_bytes([s0, s1, s2, s3]),
            tags_code: i64::from_be_bytes(tags),
        }
    }

    pub(crate) fn is_filler(&self) -> bool {
        self.size == FILLER_SIZE && self.physical_offset == 0
    }

    /// False where the data of a queue end.
    pub(crate) fn is_present(&self) -> bool {
        self.physical_offset >= 0 && self.size > 0
    }

    pub(crate) fn end(&self) -> i64 {
        self.physical_offset.saturating_add(i64::from(self.size))
    }
}

#[derive(Debug)]
pub struct ConsumeQueue {
    topic: Arc<str>,
    queue_id: i32,
    kind: QueueKind,
    /// Names this queue among all of one run, also after its topic was deleted and created again.
    pub(crate) serial: u64,
    /// One bit per worker that has parked pulls here. Set the bit first, then look at [`ConsumeQueue::max_offset`]
    /// again: an append publishes the maximum first and then reads the mask.
    pub wait_mask: AtomicU64,
    max_offset: AtomicI64,
    min_offset: AtomicI64,
    /// First unit whose record still exists. A simple queue has the same number in `min_offset`.
    min_unit: AtomicI64,
    /// No record of an entry here lies before this physical offset, as far as is known.
    expires_at: AtomicI64,
    /// Queue offset of the next record. Changed only under the commit log's lock.
    next_offset: AtomicI64,
    pending: Mutex<Pending>,
    /// What is read instead of older entries; see `compaction`.
    compacted: Mutex<Option<Arc<Compacted>>>,
    /// Its frontier, or 0.
    compacted_to: AtomicI64,
    /// Where its kept records begin, if it has any.
    kept_from: AtomicI64,
    /// In the list of queues with pending entries.
    dirty: AtomicBool,
    deleted: AtomicBool,
    /// Nobody knows what its files hold: it stands for the queue until they can be read, and takes nothing.
    unreadable: bool,
}

#[derive(Debug)]
struct Pending {
    first_unit: i64,
    entries: Vec<u8>,
}

impl ConsumeQueue {
    /// A queue whose files hold this.
    pub(crate) fn new(topic: Arc<str>, queue_id: i32, serial: u64, kind: QueueKind, files: Extent) -> ConsumeQueue {
        ConsumeQueue {
            topic,
            queue_id,
            kind,
            serial,
            wait_mask: AtomicU64::new(0),
            max_offset: AtomicI64::new(files.end_offset),
            min_offset: AtomicI64::new(files.min_offset),
            min_unit: AtomicI64::new(files.min_unit),
            expires_at: AtomicI64::new(0),
            next_offset: AtomicI64::new(files.end_offset),
            pending: Mutex::new(Pending {
                first_unit: files.end_unit,
                entries: Vec::new(),
            }),
            compacted: Mutex::default(),
            compacted_to: AtomicI64::new(0),
            kept_from: AtomicI64::new(i64::MAX),
            dirty: AtomicBool::new(false),
            deleted: AtomicBool::new(false),
            unreadable: false,
        }
    }

    pub(crate) fn unreadable(topic: Arc<str>, queue_id: i32, serial: u64, kind: QueueKind) -> ConsumeQueue {
        ConsumeQueue {
            unreadable: true,
            ..ConsumeQueue::new(topic, queue_id, serial, kind, Extent::default())
        }
    }

    /// Its files could not be read. It is not to be kept: the next one who asks for the queue tries again.
    pub fn is_unreadable(&self) -> bool {
        self.unreadable
    }

    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    pub fn queue_id(&self) -> i32 {
        self.queue_id
    }

    pub fn kind(&self) -> QueueKind {
        self.kind
    }

    /// Queue offset after the last visible entry.
    pub fn max_offset(&self) -> i64 {
        self.max_offset.load(Ordering::SeqCst)
    }

    /// Queue offset of the first message whose record still exists, in the log or kept in what was compacted.
    pub fn min_offset(&self) -> i64 {
        let in_log = self.min_offset.load(Ordering::Acquire);
        in_log.min(self.kept_from.load(Ordering::Acquire))
    }

    /// Queue offset after the last record that was appended. Readers see it when it is visible.
    pub fn next_offset(&self) -> i64 {
        self.next_offset.load(Ordering::Relaxed)
    }

    pub(crate) fn set_next_offset(&self, queue_offset: i64) {
        self.next_offset.store(queue_offset, Ordering::Relaxed);
    }

    /// Makes everything before `max_offset` visible. True if somebody waits for that.
    pub(crate) fn publish(&self, max_offset: i64) -> bool {
        self.max_offset.store(max_offset, Ordering::SeqCst);
        self.wait_mask.load(Ordering::SeqCst) != 0
    }

    /// Adds entries behind the last ones of a simple queue.
    pub(crate) fn push(&self, entries: impl Iterator<Item = Entry>) {
        debug_assert_eq!(self.kind, QueueKind::Simple);
        let mut pending = self.pending.lock();
        for entry in entries {
            pending.entries.extend_from_slice(&entry.encode());
        }
    }

    /// Adds a unit behind the last ones of a queue of either kind. Returns the pending bytes.
    pub(crate) fn push_unit(&self, unit: &Unit) -> usize {
        let mut pending = self.pending.lock();
        match self.kind {
            QueueKind::Simple => pending.entries.extend_from_slice(&unit.entry.encode()),
            QueueKind::Batch => pending.entries.extend_from_slice(&unit.encode()),
        }
        pending.entries.len()
    }

    /// Adds a unit that the replay of a start found, unless the queue has it. Returns the pending bytes.
    pub(crate) fn enter(&self, unit: &Unit) -> usize {
        let (next, queue_offset) = (self.next_offset(), unit.queue_offset);
        if queue_offset < next {
            return 0;
        }
        let mut gap = queue_offset - next;
        if gap > 0 && self.min_offset() == next {
            self.start_at(queue_offset);
            gap = 0;
        }
        if self.kind == QueueKind::Batch {
            // Units say where they are: nothing has to fill the space between them.
            gap = 0;
        }
        if gap > GAP_ENTRIES_MAX {
            let (topic, queue_id) = (&*self.topic, self.queue_id);
            tracing::error!(topic, queue_id, queue_offset, next, "record is far beyond its queue");
            return 0;
        }
        if gap > 0 {
            self.push(std::iter::repeat_n(Entry::FILLER, gap as usize));
        }
        let pending = self.push_unit(unit);
        self.set_next_offset(unit.end_offset());
        self.publish(unit.end_offset());
        pending
    }

    /// Gives an empty queue another first offset.
    pub(crate) fn start_at(&self, queue_offset: i64) {
        let mut pending = self.pending.lock();
        if self.kind == QueueKind::Simple {
            pending.first_unit = queue_offset;
            self.min_unit.store(queue_offset, Ordering::Release);
        }
        pending.entries.clear();
        self.min_offset.store(queue_offset, Ordering::Release);
        self.next_offset.store(queue_offset, Ordering::Relaxed);
        self.max_offset.store(queue_offset, Ordering::SeqCst);
    }

    /// The units before this one, and the queue offsets before that one, have lost their records.
    pub(crate) fn advance_min(&self, unit: i64, queue_offset: i64) {
        self.min_unit.fetch_max(unit, Ordering::AcqRel);
        self.min_offset.fetch_max(queue_offset, Ordering::AcqRel);
    }

    /// The files are gone. A queue of batches, whose units say where they are, begins its next file at the first unit.
    pub(crate) fn forget_files(&self) {
        if self.kind == QueueKind::Batch {
            self.pending.lock().first_unit = 0;
            self.min_unit.store(0, Ordering::Release);
        }
    }

    /// Whether an entry may have lost its record to a log that begins here.
    pub(crate) fn may_have_expired(&self, log_min: i64) -> bool {
        log_min > self.expires_at.load(Ordering::Relaxed)
    }

    pub(crate) fn set_expires_at(&self, physical_offset: i64) {
        self.expires_at.store(physical_offset, Ordering::Relaxed);
    }

    /// What a read from this queue offset goes through, if it is not the queue itself.
    pub(crate) fn compacted_before(&self, queue_offset: i64) -> Option<Arc<Compacted>> {
        if queue_offset >= self.compacted_to.load(Ordering::Acquire) {
            return None;
        }
        self.compacted().filter(|compacted| queue_offset < compacted.frontier())
    }

    pub(crate) fn compacted(&self) -> Option<Arc<Compacted>> {
        self.compacted.lock().clone()
    }

    pub(crate) fn set_compacted(&self, compacted: Option<Arc<Compacted>>) {
        let frontier = compacted.as_ref().map_or(0, |compacted| compacted.frontier());
        let kept_from = compacted.as_ref().and_then(|compacted| compacted.kept_from());
        *self.compacted.lock() = compacted;
        self.compacted_to.store(frontier, Ordering::Release);
        self.kept_from.store(kept_from.unwrap_or(i64::MAX), Ordering::Release);
    }

    /// True for the caller that has to put the queue into the dirty list.
    pub(crate) fn mark_dirty(&self) -> bool {
        !self.dirty.load(Ordering::Relaxed) && !self.dirty.swap(true, Ordering::AcqRel)
    }

    /// To be called before the pending entries are copied, so that no later one is forgotten.
    pub(crate) fn clear_dirty(&self) {
        self.dirty.store(false, Ordering::Release);
    }

    pub(crate) fn mark_deleted(&self) {
        self.deleted.store(true, Ordering::Release);
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// Units that readers may ask for.
    pub(crate) fn units(&self) -> std::ops::Range<i64> {
        let pending = self.pending.lock();
        let count = pending.entries.len() / self.kind.unit_bytes();
        self.min_unit.load(Ordering::Acquire)..pending.first_unit + count as i64
    }

    /// The pending units whose records end before this physical offset, the number of the first, and whether there are more.
    pub(crate) fn pending_before(&self, physical_offset: i64) -> (i64, Vec<u8>, bool) {
        let pending = self.pending.lock();
        let units = pending.entries.chunks_exact(self.kind.unit_bytes());
        let all = units.len();
        let is_before = |unit: &[u8]| {
            let entry = Entry::decode(unit.first_chunk().expect("a unit begins with an entry"));
            entry.is_filler() || entry.end() <= physical_offset
        };
        // Most often all are, and otherwise only the last ones are not.
        let later = units.rev().take_while(|unit| !is_before(unit)).count();
        let bytes = (all - later) * self.kind.unit_bytes();
        (pending.first_unit, pending.entries[..bytes].to_vec(), later > 0)
    }

    /// Copies pending units from this one on. When it is in the files, says how many are from there on.
    pub(crate) fn read_pending(&self, unit: i64, buffer: &mut [u8]) -> Result<usize, usize> {
        let pending = self.pending.lock();
        if unit < pending.first_unit {
            return Err((pending.first_unit - unit) as usize);
        }
        let skip = (unit - pending.first_unit) as usize * self.kind.unit_bytes();
        let found = pending.entries.get(skip..).unwrap_or_default();
        let len = found.len().min(buffer.len());
        buffer[..len].copy_from_slice(&found[..len]);
        Ok(len)
    }

    /// The first `bytes` of the pending units are in the files now.
    pub(crate) fn written_out(&self, bytes: usize) {
        let mut pending = self.pending.lock();
        pending.first_unit += (bytes / self.kind.unit_bytes()) as i64;
        if bytes == pending.entries.len() {
            pending.entries = Vec::new();
        } else {
            pending.entries.drain(..bytes);
        }
    }
}
