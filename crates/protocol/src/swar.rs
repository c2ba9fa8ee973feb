//! Finding bytes eight at a time. The hot scanners spend their time here.

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// The high bit of every byte that is zero. Only the lowest one that is set can be relied on, which is all we ask.
#[inline]
const fn zeros(word: u64) -> u64 {
    word.wrapping_sub(LOW) & !word & HIGH
}

#[inline]
const fn equal(word: u64, byte: u8) -> u64 {
    zeros(word ^ (LOW * byte as u64))
}

/// Bytes below `limit`, which is at most 0x80, marked as [`zeros`] does.
#[inline]
const fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(LOW * limit as u64) & !word & HIGH
}

#[inline]
fn position(bytes: &[u8], word_test: impl Fn(u64) -> u64, byte_test: impl Fn(u8) -> bool) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let found = word_test(u64::from_le_bytes(*word));
        if found != 0 {
            return Some(index * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    rest.iter()
        .position(|byte| byte_test(*byte))
        .map(|at| bytes.len() - rest.len() + at)
}

/// The first `wanted`.
#[inline]
pub(crate) fn find(bytes: &[u8], wanted: u8) -> Option<usize> {
    position(bytes, |word| equal(word, wanted), |byte| byte == wanted)
}

/// Where plain JSON text stops: at a quote, a backslash, or a control character that must not be there.
#[inline]
pub(crate) fn find_json_text_stop(bytes: &[u8]) -> Option<usize> {
    position(
        bytes,
        |word| equal(word, b'"') | equal(word, b'\\') | below(word, 0x20),
        |byte| byte == b'"' || byte == b'\\' || byte < 0x20,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn words_find_what_bytes_find(bytes in proptest::collection::vec(any::<u8>(), 0..64), wanted: u8) {
            prop_assert_eq!(find(&bytes, wanted), bytes.iter().position(|byte| *byte == wanted));
            let stop = bytes.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
            prop_assert_eq!(find_json_text_stop(&bytes), stop);
        }
    }
}
