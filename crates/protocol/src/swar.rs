//! Finding bytes eight at a time. The hot scanners spend their time here.

use std::ops::ControlFlow;

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// The high bit of every byte that is zero. Only the lowest one that is set can be relied on, which is all we ask.
#[inline]
const fn zeros(word: u64) -> u64 {
    word.wrapping_sub(LOW) & !word & HIGH
}

/// The same, and nothing else.
#[inline]
const fn exact_zeros(word: u64) -> u64 {
    !(((word & !HIGH) + !HIGH) | word) & HIGH
}

#[inline]
const fn equal(word: u64, byte: u8) -> u64 {
    zeros(word ^ (LOW * byte as u64))
}

/// The first `wanted`.
#[inline]
pub(crate) fn find(bytes: &[u8], wanted: u8) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let found = equal(u64::from_le_bytes(*word), wanted);
        if found != 0 {
            return Some(index * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    rest.iter()
        .position(|byte| *byte == wanted)
        .map(|at| bytes.len() - rest.len() + at)
}

/// The last `wanted`.
#[inline]
pub(crate) fn rfind(bytes: &[u8], wanted: u8) -> Option<usize> {
    let (rest, words) = bytes.as_rchunks::<8>();
    for (index, word) in words.iter().enumerate().rev() {
        let found = exact_zeros(u64::from_le_bytes(*word) ^ (LOW * u64::from(wanted)));
        if found != 0 {
            return Some(rest.len() + index * 8 + 7 - found.leading_zeros() as usize / 8);
        }
    }
    rest.iter().rposition(|byte| *byte == wanted)
}

/// Every `wanted` from the last to the first, until `look` breaks.
#[inline]
pub(crate) fn each_from_last(bytes: &[u8], wanted: u8, mut look: impl FnMut(usize) -> ControlFlow<()>) {
    let (rest, words) = bytes.as_rchunks::<8>();
    for (index, word) in words.iter().enumerate().rev() {
        let mut found = exact_zeros(u64::from_le_bytes(*word) ^ (LOW * u64::from(wanted)));
        while found != 0 {
            let bit = 63 - found.leading_zeros();
            found ^= 1 << bit;
            if look(rest.len() + index * 8 + bit as usize / 8).is_break() {
                return;
            }
        }
    }
    for (at, byte) in rest.iter().enumerate().rev() {
        if *byte == wanted && look(at).is_break() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn words_find_what_bytes_find(bytes in proptest::collection::vec(any::<u8>(), 0..64), wanted: u8) {
            prop_assert_eq!(find(&bytes, wanted), bytes.iter().position(|byte| *byte == wanted));
            prop_assert_eq!(rfind(&bytes, wanted), bytes.iter().rposition(|byte| *byte == wanted));
        }

        #[test]
        fn each_is_found_from_the_last_on(bytes in proptest::collection::vec(0..3_u8, 0..64), few in 0..9_usize) {
            let mut found = Vec::new();
            each_from_last(&bytes, 1, |at| {
                found.push(at);
                if found.len() > few { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            let wanted: Vec<_> = (0..bytes.len()).rev().filter(|at| bytes[*at] == 1).take(few + 1).collect();
            prop_assert_eq!(found, wanted);
        }

        #[test]
        fn bytes_that_differ_in_one_bit_are_told_apart(bytes in proptest::collection::vec(0..4_u8, 0..40), high: bool) {
            let bytes: Vec<u8> = bytes.iter().map(|byte| byte | u8::from(high) << 7).collect();
            for wanted in [0, 1, 2, 0x80, 0x81, 0x82] {
                prop_assert_eq!(find(&bytes, wanted), bytes.iter().position(|byte| *byte == wanted));
                prop_assert_eq!(rfind(&bytes, wanted), bytes.iter().rposition(|byte| *byte == wanted));
            }
        }
    }
}
