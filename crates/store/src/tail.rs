//! The newest part of the commit log in memory: the very bytes that were written, shared with readers.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use parking_lot::RwLock;

/// Pieces of the log in ascending order. A piece is what one write put down: whole records, never part of one.
#[derive(Debug)]
pub(crate) struct Tail {
    pieces: RwLock<Pieces>,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Pieces {
    list: VecDeque<Piece>,
    bytes: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) physical_offset: i64,
    pub(crate) bytes: Bytes,
}

impl Piece {
    fn end(&self) -> i64 {
        self.physical_offset + self.bytes.len() as i64
    }

    /// `len` bytes from this position on, if they lie in this piece.
    pub(crate) fn get(&self, physical_offset: i64, len: usize) -> Option<&[u8]> {
        let start = usize::try_from(physical_offset - self.physical_offset).ok()?;
        self.bytes.get(start..start.checked_add(len)?)
    }
}

impl Tail {
    pub(crate) fn new(bytes_max: usize) -> Tail {
        Tail {
            pieces: RwLock::default(),
            bytes_max,
        }
    }

    pub(crate) fn push(&self, physical_offset: i64, bytes: Bytes) {
        let mut pieces = self.pieces.write();
        pieces.bytes += bytes.len();
        pieces.list.push_back(Piece { physical_offset, bytes });
        while pieces.bytes > self.bytes_max {
            let Some(oldest) = pieces.list.pop_front() else { break };
            pieces.bytes -= oldest.bytes.len();
        }
    }

    /// The piece that holds this position.
    pub(crate) fn find(&self, physical_offset: i64) -> Option<Piece> {
        let pieces = self.pieces.read();
        let index = pieces.list.partition_point(|piece| piece.end() <= physical_offset);
        let piece = pieces.list.get(index)?;
        (piece.physical_offset <= physical_offset).then(|| piece.clone())
    }
}

/// Capacity of the buffers that batches are encoded into. The pieces of the tail share them.
const CHUNK_BYTES: usize = 1024 * 1024;

/// A buffer with less room than this is replaced after an append.
const ROOM_BYTES_MIN: usize = 64 * 1024;

/// Retired buffers kept for reuse, beyond those that the tail itself can hold.
const SPARE_CHUNKS: usize = 8;

/// Buffers whose pieces may still be in the tail, oldest first. When the last piece is gone the memory is used again.
#[derive(Debug)]
pub(crate) struct Chunks {
    retired: VecDeque<BytesMut>,
    retired_max: usize,
}

impl Chunks {
    pub(crate) fn new(tail_bytes: usize) -> Chunks {
        Chunks {
            retired: VecDeque::new(),
            retired_max: tail_bytes / CHUNK_BYTES + SPARE_CHUNKS,
        }
    }

    /// Gives `records`, which just lost a batch of `batch_bytes`, room for the next one.
    pub(crate) fn refresh(&mut self, records: &mut BytesMut, batch_bytes: usize) {
        if records.capacity() - records.len() >= ROOM_BYTES_MIN {
            return;
        }
        let reusable = self
            .retired
            .front_mut()
            .is_some_and(|oldest| oldest.try_reclaim(CHUNK_BYTES));
        if !reusable && self.retired.len() >= self.retired_max {
            self.retired.pop_front();
        }
        let fresh = match reusable.then(|| self.retired.pop_front()).flatten() {
            Some(reclaimed) => reclaimed,
            None => BytesMut::with_capacity(CHUNK_BYTES),
        };
        let spent = std::mem::replace(records, fresh);
        // A batch this large made the buffer grow: it goes back to the allocator.
        if batch_bytes <= CHUNK_BYTES / 2 {
            self.retired.push_back(spent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_pieces_leave_first() {
        let tail = Tail::new(100);
        for number in 0..10 {
            tail.push(number * 40, Bytes::from(vec![number as u8; 40]));
        }
        assert!(tail.find(7 * 40).is_none());
        assert_eq!(tail.find(8 * 40 + 39).unwrap().bytes[0], 8);
        assert_eq!(tail.find(9 * 40).unwrap().get(9 * 40 + 10, 30).unwrap(), [9; 30]);
        assert!(tail.find(10 * 40).is_none());
    }

    #[test]
    fn chunks_are_used_again_once_nobody_reads_them() {
        let mut chunks = Chunks::new(4 * CHUNK_BYTES);
        let mut records = BytesMut::new();
        let mut seen = std::collections::HashSet::new();
        let tail = Tail::new(4 * CHUNK_BYTES);
        for number in 0..2_000 {
            records.extend_from_slice(&[7; 10_000]);
            tail.push(number * 10_000, records.split().freeze());
            chunks.refresh(&mut records, 10_000);
            seen.insert(records.as_ptr() as usize / CHUNK_BYTES);
        }
        assert!(seen.len() < 16, "{} buffers", seen.len());
    }
}
