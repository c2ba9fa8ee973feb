//! One consume queue: the entries of one topic queue, 20 bytes each (spec: storage.md §6.1).
//!
//! ```text
//! 0  physicalOffset i64     8  size i32     12  tagsCode i64
//! ```
//!
//! New entries stay in memory until the dispatch thread has written them to the queue's files:
//!
//! ```text
//! min ≤ first pending ≤ next,   min ≤ max (visible) ≤ next
//! [min, first pending) is in files, [first pending, next) in memory
//! ```
//!
//! A queue that nobody uses costs this struct and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;

pub(crate) const ENTRY_BYTES: usize = 20;

/// Size field of entries that stand for no record (spec: storage.md §6.1, first file not starting at 0).
const FILLER_SIZE: i32 = i32::MAX;

/// Pending bytes at which the dispatch thread is woken before its time.
pub(crate) const PENDING_BYTES_HIGH: usize = 64 * 1024;

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
        self.physical_offset + i64::from(self.size)
    }
}

#[derive(Debug)]
pub struct ConsumeQueue {
    topic: Arc<str>,
    queue_id: i32,
    /// Names this queue among all of one run, also after its topic was deleted and created again.
    pub(crate) serial: u64,
    /// One bit per worker that has parked pulls here. Set the bit first, then look at [`ConsumeQueue::max_offset`]
    /// again: an append publishes the maximum first and then reads the mask.
    pub wait_mask: AtomicU64,
    max_offset: AtomicI64,
    min_offset: AtomicI64,
    /// Queue offset of the next record. Changed only under the commit log's lock.
    next_offset: AtomicI64,
    pending: Mutex<Pending>,
    /// In the list of queues with pending entries.
    dirty: AtomicBool,
    deleted: AtomicBool,
}

#[derive(Debug)]
struct Pending {
    first_offset: i64,
    entries: Vec<u8>,
}

impl ConsumeQueue {
    /// A queue whose entries `[min_offset, max_offset)` are in files.
    pub(crate) fn new(topic: Arc<str>, queue_id: i32, serial: u64, min_offset: i64, max_offset: i64) -> ConsumeQueue {
        ConsumeQueue {
            topic,
            queue_id,
            serial,
            wait_mask: AtomicU64::new(0),
            max_offset: AtomicI64::new(max_offset),
            min_offset: AtomicI64::new(min_offset),
            next_offset: AtomicI64::new(max_offset),
            pending: Mutex::new(Pending {
                first_offset: max_offset,
                entries: Vec::new(),
            }),
            dirty: AtomicBool::new(false),
            deleted: AtomicBool::new(false),
        }
    }

    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    pub fn queue_id(&self) -> i32 {
        self.queue_id
    }

    /// Queue offset after the last visible entry.
    pub fn max_offset(&self) -> i64 {
        self.max_offset.load(Ordering::SeqCst)
    }

    /// Queue offset of the first entry whose record still exists.
    pub fn min_offset(&self) -> i64 {
        self.min_offset.load(Ordering::Acquire)
    }

    pub(crate) fn next_offset(&self) -> i64 {
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

    /// Adds entries behind the last ones. Returns the pending bytes.
    pub(crate) fn push(&self, entries: impl Iterator<Item = Entry>) -> usize {
        let mut pending = self.pending.lock();
        for entry in entries {
            pending.entries.extend_from_slice(&entry.encode());
        }
        pending.entries.len()
    }

    /// Gives an empty queue another first offset.
    pub(crate) fn start_at(&self, queue_offset: i64) {
        let mut pending = self.pending.lock();
        pending.first_offset = queue_offset;
        pending.entries.clear();
        self.min_offset.store(queue_offset, Ordering::Release);
        self.next_offset.store(queue_offset, Ordering::Relaxed);
        self.max_offset.store(queue_offset, Ordering::SeqCst);
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

    /// The pending entries and the queue offset of the first.
    pub(crate) fn pending(&self) -> (i64, Vec<u8>) {
        let pending = self.pending.lock();
        (pending.first_offset, pending.entries.clone())
    }

    /// Copies pending entries from `queue_offset` on. When that one is in the files, says how many are from there on.
    pub(crate) fn read_pending(&self, queue_offset: i64, buffer: &mut [u8]) -> Result<usize, usize> {
        let pending = self.pending.lock();
        if queue_offset < pending.first_offset {
            return Err((pending.first_offset - queue_offset) as usize);
        }
        let skip = (queue_offset - pending.first_offset) as usize * ENTRY_BYTES;
        let found = pending.entries.get(skip..).unwrap_or_default();
        let len = found.len().min(buffer.len());
        buffer[..len].copy_from_slice(&found[..len]);
        Ok(len)
    }

    /// The first `bytes` of the pending entries are in the files now.
    pub(crate) fn written_out(&self, bytes: usize) {
        let mut pending = self.pending.lock();
        pending.first_offset += (bytes / ENTRY_BYTES) as i64;
        if bytes == pending.entries.len() {
            pending.entries = Vec::new();
        } else {
            pending.entries.drain(..bytes);
        }
    }
}
