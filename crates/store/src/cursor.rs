//! Where a reader of the log is: the place in which it found its last record, which usually holds the next one too.
//!
//! The newest part of the log is in memory ([`Tail`]); older parts are read in blocks, which readers share ([`BlockCache`]).
//! A reader that takes one record here and one there reads records instead: the rest of the blocks would be copied, or
//! fetched from the disk, for nothing.

use std::io;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::block_cache::{BLOCK_BYTES, Block, BlockCache};
use crate::checksums::{self, Checksums};
use crate::read::Wait;
use crate::segments::{Segment, Segments};
use crate::tail::{Piece, Tail};

/// How a record is looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    pub(crate) wait: Wait,
    pub(crate) spread: Spread,
}

/// Whether the neighbours of a record are wanted, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spread {
    Along,
    /// Here and there one: it comes alone.
    Scattered,
}

impl Look {
    /// The records one after the other, what is at hand.
    pub(crate) const ALONG: Look = Look {
        wait: Wait::Never,
        spread: Spread::Along,
    };

    pub(crate) fn along(wait: Wait) -> Look {
        Look {
            wait,
            spread: Spread::Along,
        }
    }
}

/// What a cursor moves over.
pub(crate) struct LogParts<'a> {
    pub(crate) segments: &'a Segments,
    pub(crate) tail: &'a Tail,
    pub(crate) blocks: &'a BlockCache,
    pub(crate) checksums: &'a Checksums,
    pub(crate) written: i64,
}

type Blocks = SmallVec<[Arc<Block>; 2]>;

#[derive(Default)]
pub(crate) enum Cursor {
    #[default]
    Nowhere,
    Tail(Piece),
    Block(Arc<Block>),
    /// Copied, because they lie in two blocks.
    Copied {
        physical_offset: i64,
        bytes: Vec<u8>,
        blocks: Blocks,
    },
    /// Read alone, as far as checksums need it.
    Spans {
        start: i64,
        bytes: Vec<u8>,
    },
}

impl Cursor {
    #[inline]
    pub(crate) fn get(&self, physical_offset: i64, len: usize) -> Option<&[u8]> {
        match self {
            Cursor::Nowhere => None,
            Cursor::Tail(piece) => piece.get(physical_offset, len),
            Cursor::Block(block) => block.get(physical_offset, len).filter(|found| found.len() == len),
            Cursor::Copied {
                physical_offset: start,
                bytes,
                ..
            }
            | Cursor::Spans { start, bytes } => {
                let at = usize::try_from(physical_offset - start).ok()?;
                bytes.get(at..at.checked_add(len)?)
            }
        }
    }

    #[inline]
    pub(crate) fn holds(&self, physical_offset: i64, len: usize) -> bool {
        self.get(physical_offset, len).is_some()
    }

    /// Moves to these bytes. False when the log does not hold them.
    pub(crate) fn seek(
        &mut self,
        log: &LogParts<'_>,
        physical_offset: i64,
        len: usize,
        look: Look,
    ) -> io::Result<bool> {
        let end = physical_offset.saturating_add(len as i64);
        if physical_offset < log.segments.min() || end > log.written {
            return Ok(false);
        }
        // Whoever reads blocks goes on with blocks, which end where the log does: the tail is not looked at for each.
        if !matches!(self, Cursor::Block(_))
            && let Some(piece) = log.tail.find(physical_offset)
        {
            *self = Cursor::Tail(piece);
            return Ok(self.holds(physical_offset, len));
        }
        let Some(segment) = log.segments.at(physical_offset).filter(|segment| segment.end >= end) else {
            return Ok(false);
        };
        if look.spread == Spread::Scattered && len <= BLOCK_BYTES {
            self.read_alone(log, &segment, physical_offset, len, look.wait)?;
            return Ok(true);
        }
        let block = match &*self {
            Cursor::Block(block) if block.get(physical_offset, 1).is_some() => Arc::clone(block),
            _ => log.blocks.get(log, &segment, physical_offset, end, look.wait)?,
        };
        if block.get(physical_offset, len).is_some_and(|found| found.len() == len) {
            *self = Cursor::Block(block);
            return Ok(true);
        }
        self.join(log, &segment, block, physical_offset..end, look.wait)?;
        Ok(true)
    }

    /// Whether these bytes, which are at hand, are as they were written. To be asked before they are handed out.
    pub(crate) fn is_sound(
        &self,
        log: &LogParts<'_>,
        physical_offset: i64,
        len: usize,
        wait: Wait,
    ) -> io::Result<bool> {
        let end = physical_offset + len as i64;
        match self {
            Cursor::Nowhere | Cursor::Tail(_) => Ok(true),
            Cursor::Block(block) => Ok(block.is_sound(physical_offset, end)),
            Cursor::Copied { blocks, .. } => Ok(blocks.iter().all(|block| {
                let part = block.clamp(physical_offset..end);
                part.is_empty() || block.is_sound(part.start, part.end)
            })),
            Cursor::Spans { start, bytes } => match log.segments.at(physical_offset) {
                Some(segment) => log
                    .checksums
                    .is_sound_in(&segment, *start, bytes, physical_offset..end, wait),
                None => Ok(true),
            },
        }
    }

    /// From a block that is in the cache, or else from the file.
    fn read_alone(
        &mut self,
        log: &LogParts<'_>,
        segment: &Segment,
        physical_offset: i64,
        len: usize,
        wait: Wait,
    ) -> io::Result<()> {
        if let Some(block) = log.blocks.find(segment, physical_offset)
            && block.get(physical_offset, len).is_some_and(|found| found.len() == len)
        {
            *self = Cursor::Block(block);
            return Ok(());
        }
        let spans = checksums::spans_of(segment, physical_offset..physical_offset + len as i64);
        let mut bytes = self.take_buffer();
        bytes.resize((spans.end - spans.start) as usize, 0);
        let at = (spans.start - segment.base) as u64;
        let read = match wait {
            Wait::Allowed => segment.file.read_at(&mut bytes, at)?,
            Wait::Never => segment.file.try_read_at(&mut bytes, at)?,
        };
        if read < bytes.len() {
            return Err(match wait {
                Wait::Allowed => io::ErrorKind::UnexpectedEof.into(),
                Wait::Never => io::ErrorKind::WouldBlock.into(),
            });
        }
        *self = Cursor::Spans {
            start: spans.start,
            bytes,
        };
        Ok(())
    }

    /// Puts together what lies in several blocks, the first of which is known.
    fn join(
        &mut self,
        log: &LogParts<'_>,
        segment: &Segment,
        first: Arc<Block>,
        range: std::ops::Range<i64>,
        wait: Wait,
    ) -> io::Result<()> {
        let mut bytes = self.take_buffer();
        bytes.clear();
        let (mut block, mut blocks) = (first, Blocks::new());
        loop {
            let position = range.start + bytes.len() as i64;
            let found = block.get(position, (range.end - position) as usize);
            bytes.extend_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
            blocks.push(block);
            let position = range.start + bytes.len() as i64;
            if position >= range.end {
                let physical_offset = range.start;
                *self = Cursor::Copied {
                    physical_offset,
                    bytes,
                    blocks,
                };
                return Ok(());
            }
            block = log.blocks.get(log, segment, position, range.end, wait)?;
        }
    }

    fn take_buffer(&mut self) -> Vec<u8> {
        match std::mem::take(self) {
            Cursor::Copied { bytes, .. } | Cursor::Spans { bytes, .. } => bytes,
            _ => Vec::new(),
        }
    }
}
