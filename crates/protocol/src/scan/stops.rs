//! Where JSON text stops: at quotes, backslashes and control characters, found 64 bytes at a time.
//!
//! A header is mostly short texts, so searching for the end of each one anew costs more than the bytes do. Here the
//! bytes of a block become bits of a word, and the next stop is the next bit.

use super::Unscanned;

const BLOCK_BYTES: usize = 64;

/// Walks over the stops of a header, first to last.
pub(super) struct Stops<'a> {
    bytes: &'a [u8],
    block_at: usize,
    /// Stops of the block that were not handed out yet, the lowest bit first.
    marks: u64,
}

impl<'a> Stops<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Stops<'a> {
        Stops {
            bytes,
            block_at: 0,
            marks: marks_at(bytes, 0),
        }
    }

    /// The position of the next stop.
    #[inline(always)]
    pub(super) fn next(&mut self) -> Result<usize, Unscanned> {
        while self.marks == 0 {
            self.block_at += BLOCK_BYTES;
            if self.block_at >= self.bytes.len() {
                return Err(Unscanned);
            }
            self.marks = marks_at(self.bytes, self.block_at);
        }
        let at = self.block_at + self.marks.trailing_zeros() as usize;
        self.marks &= self.marks - 1;
        Ok(at)
    }
}

#[inline(never)]
fn marks_at(bytes: &[u8], at: usize) -> u64 {
    let rest = &bytes[at..];
    match rest.first_chunk() {
        Some(block) => marks(block),
        None => {
            // Blanks behind the end are no stops.
            let mut block = [b' '; BLOCK_BYTES];
            block[..rest.len()].copy_from_slice(rest);
            marks(&block)
        }
    }
}

/// A bit for each byte of the block that is a stop. The first loop compiles to vector instructions; the second gathers
/// the lowest bits of eight bytes with one multiplication.
#[inline]
fn marks(block: &[u8; BLOCK_BYTES]) -> u64 {
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let mut flags = [0u8; BLOCK_BYTES];
    for (flag, byte) in flags.iter_mut().zip(block) {
        *flag = u8::from(*byte == b'"') | u8::from(*byte == b'\\') | u8::from(*byte < 0x20);
    }
    let (words, _) = flags.as_chunks::<8>();
    let mut marks = 0;
    for (index, word) in words.iter().enumerate() {
        marks |= u64::from_le_bytes(*word).wrapping_mul(GATHER) >> 56 << (8 * index);
    }
    marks
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_stop_is_found_once(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'"'), Just(b'a')], 0..300)) {
            let mut stops = Stops::new(&bytes);
            let found: Vec<_> = std::iter::from_fn(|| stops.next().ok()).collect();
            let is_stop = |at: &usize| matches!(bytes[*at], b'"' | b'\\' | 0..0x20);
            let wanted: Vec<_> = (0..bytes.len()).filter(is_stop).collect();
            prop_assert_eq!(found, wanted);
        }
    }
}
