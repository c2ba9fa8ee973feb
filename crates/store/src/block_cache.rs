//! Older parts of the commit log in memory, in blocks that all queues share: records of several queues lie interleaved,
//! and a consumer group that drains them side by side needs each block once per queue.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use parking_lot::Mutex;

use crate::checksums::{self, Damaged, GROUP_SPAN_BYTES, SUM_SPAN_BYTES};
use crate::cold_windows::ColdWindows;
use crate::cursor::LogParts;
use crate::disk::Advice;
use crate::read::Wait;
use crate::segments::Segment;

/// Readers of queues whose messages lie in runs, and who are not close together, have little use for what is around a run.
pub(crate) const BLOCK_BYTES: usize = 32 * 1024;
const _: () = assert!(
    GROUP_SPAN_BYTES % BLOCK_BYTES as i64 == 0,
    "the sums of a block are of one group"
);
const BLOCK_SUMS: usize = BLOCK_BYTES / SUM_SPAN_BYTES;

#[derive(Debug)]
pub(crate) struct BlockCache {
    state: Mutex<State>,
    blocks_max: usize,
    cold: Mutex<ColdWindows>,
}

#[derive(Debug, Default)]
struct State {
    blocks: HashMap<i64, Cached>,
    /// All blocks: the first makes room for another, unless it was used since it was put here.
    order: VecDeque<i64>,
    /// Of blocks that made room, and of reads that found nothing.
    buffers: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct Cached {
    block: Arc<Block>,
    is_used: bool,
}

/// Buffers kept for the next reads.
const BUFFERS_MAX: usize = 4;

/// Bytes of the log from `start` on; less than a whole block at the end of what was written or cached by the kernel.
///
/// Bytes are compared with their checksums when somebody wants to hand them out, once: a filter looks at many records
/// for each that it takes.
#[derive(Debug)]
pub(crate) struct Block {
    start: i64,
    bytes: Vec<u8>,
    len: usize,
    /// The log file ends with the block.
    ends_file: bool,
    /// `None` where the log is not sealed yet.
    sums: Option<[u32; BLOCK_SUMS]>,
    /// A bit for each span that was compared.
    compared: AtomicU32,
    /// Parts that changed since they were written, of the spans that were compared.
    damaged: OnceLock<Mutex<Damaged>>,
}

const _: () = assert!(BLOCK_SUMS == u32::BITS as usize);

impl Block {
    /// What the block holds from this position on, at most `len` bytes.
    #[inline]
    pub(crate) fn get(&self, physical_offset: i64, len: usize) -> Option<&[u8]> {
        let at = usize::try_from(physical_offset - self.start).ok()?;
        let end = at.checked_add(len)?.min(self.len);
        self.bytes.get(at..end).filter(|found| !found.is_empty())
    }

    /// What the block holds of a part of the log.
    pub(crate) fn clamp(&self, part: Range<i64>) -> Range<i64> {
        part.start.max(self.start)..part.end.min(self.start + self.len as i64)
    }

    /// Whether these bytes, all of them in the block, are as they were written.
    pub(crate) fn is_sound(&self, from: i64, to: i64) -> bool {
        if let Some(sums) = &self.sums {
            self.compare(sums, from, to);
        }
        self.damaged.get().is_none_or(|damaged| {
            let damaged = damaged.lock();
            !damaged.iter().any(|part| part.start < to && part.end > from)
        })
    }

    /// Compares the spans that hold these bytes, unless that was done.
    fn compare(&self, sums: &[u32; BLOCK_SUMS], from: i64, to: i64) {
        let spans =
            (from - self.start) as usize / SUM_SPAN_BYTES..((to - self.start) as usize).div_ceil(SUM_SPAN_BYTES);
        let wanted = spans.clone().fold(0, |bits, span| bits | 1 << span);
        let compared = self.compared.load(Ordering::Acquire);
        if compared & wanted != wanted {
            for span in spans.filter(|span| compared & 1 << span == 0) {
                self.compare_span(span, sums[span]);
            }
        }
    }

    fn compare_span(&self, span: usize, sum: u32) {
        let start = span * SUM_SPAN_BYTES;
        let bytes = &self.bytes[start..self.len.min(start + SUM_SPAN_BYTES)];
        // Of bytes that are not all there nothing can be said.
        let is_whole = bytes.len() == SUM_SPAN_BYTES || self.ends_file;
        if is_whole && let Some(part) = checksums::damaged_part(self.start + start as i64, bytes, sum) {
            tracing::error!(
                from = part.start,
                to = part.end,
                "bytes of the commit log have changed since they were written: records that hold them are not served"
            );
            self.damaged.get_or_init(Mutex::default).lock().push(part);
        }
        self.compared.fetch_or(1 << span, Ordering::Release);
    }
}

impl BlockCache {
    pub(crate) fn new(bytes_max: usize) -> BlockCache {
        BlockCache {
            state: Mutex::default(),
            blocks_max: (bytes_max / BLOCK_BYTES).max(2),
            cold: Mutex::default(),
        }
    }

    /// The block around this position, holding at least `[physical_offset, needed_end)` as far as one block can.
    pub(crate) fn get(
        &self,
        log: &LogParts<'_>,
        segment: &Segment,
        physical_offset: i64,
        needed_end: i64,
        wait: Wait,
    ) -> io::Result<Arc<Block>> {
        let within = physical_offset - segment.base;
        let start = physical_offset - within % BLOCK_BYTES as i64;
        let end = (start + BLOCK_BYTES as i64).min(segment.end).min(log.written);
        let needed = (needed_end.min(end) - start) as usize;
        if let Some(block) = self.cached(start).filter(|block| block.len >= needed) {
            return Ok(block);
        }
        if wait == Wait::Never && self.cold.lock().expects_miss(start) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let buffer = self.state.lock().buffers.pop();
        let mut bytes = buffer.unwrap_or_else(|| vec![0; BLOCK_BYTES]);
        let wanted = &mut bytes[..(end - start) as usize];
        let at = (start - segment.base) as u64;
        let mut len = match segment.file.try_read_at(wanted, at) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            other => other?,
        };
        if len < needed {
            if wait == Wait::Never {
                self.state.lock().keep_buffer(bytes);
                // Begins a streak at the most: the thread that may wait could find the block already.
                self.cold.lock().missed(start, log.written);
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.move_cold(log, start);
            len += segment.file.read_at(&mut wanted[len..], at + len as u64)?;
        } else if wait == Wait::Allowed {
            self.cold.lock().found(start);
        }
        if len < needed {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let group = checksums::group_of(segment, start);
        let sums = log.checksums.group(segment, group, wait)?.map(|sums| {
            let first = (start - group) as usize / SUM_SPAN_BYTES;
            std::array::from_fn(|span| sums[first + span])
        });
        let damaged = OnceLock::new();
        if sums.is_none() {
            let flips = log.checksums.flips_in(start, start + len as i64);
            let flips: Damaged = flips.map(|(position, _)| position..position + 1).collect();
            if !flips.is_empty() {
                damaged.get_or_init(|| Mutex::new(flips));
            }
        }
        let block = Arc::new(Block {
            start,
            len,
            ends_file: start + len as i64 == segment.end,
            sums,
            compared: AtomicU32::new(0),
            damaged,
            bytes,
        });
        self.state.lock().insert(&block, self.blocks_max);
        Ok(block)
    }

    /// A reader that may wait missed here: lets the page cache go along with it.
    fn move_cold(&self, log: &LogParts<'_>, at: i64) {
        let Some(moved) = self.cold.lock().missed(at, log.written) else {
            return;
        };
        log.segments.advise(Advice::WillNeed, &moved.fetch);
        log.segments.advise(Advice::DontNeed, &moved.drop);
    }

    pub(crate) fn is_fetched(&self, physical_offset: i64) -> bool {
        self.cold.lock().holds(physical_offset)
    }

    pub(crate) fn set_read_ahead(&self, enabled: bool) {
        self.cold.lock().set_read_ahead(enabled);
    }

    /// The block around this position, if it is in the cache.
    pub(crate) fn find(&self, segment: &Segment, physical_offset: i64) -> Option<Arc<Block>> {
        self.cached(physical_offset - (physical_offset - segment.base) % BLOCK_BYTES as i64)
    }

    fn cached(&self, start: i64) -> Option<Arc<Block>> {
        let mut state = self.state.lock();
        let cached = state.blocks.get_mut(&start)?;
        cached.is_used = true;
        Some(Arc::clone(&cached.block))
    }
}

impl State {
    /// Once the cache is full, a block that was not used for long makes room.
    fn insert(&mut self, block: &Arc<Block>, blocks_max: usize) {
        let cached = Cached {
            block: Arc::clone(block),
            is_used: false,
        };
        if self.blocks.insert(block.start, cached).is_some() {
            return;
        }
        self.order.push_back(block.start);
        while self.blocks.len() > blocks_max
            && let Some(oldest) = self.order.pop_front()
        {
            match self.blocks.entry(oldest) {
                Entry::Occupied(mut known) if known.get().is_used => {
                    known.get_mut().is_used = false;
                    self.order.push_back(oldest);
                }
                Entry::Occupied(known) => {
                    if let Ok(block) = Arc::try_unwrap(known.remove().block) {
                        self.keep_buffer(block.bytes);
                    }
                }
                Entry::Vacant(_) => {}
            }
        }
    }

    fn keep_buffer(&mut self, buffer: Vec<u8>) {
        if self.buffers.len() < BUFFERS_MAX {
            self.buffers.push(buffer);
        }
    }
}
