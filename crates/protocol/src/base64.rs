//! Bytes as text, in the two alphabets that peers use.

pub(crate) const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
pub(crate) const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Padded.
pub(crate) fn encode(bytes: &[u8], digits: &[u8; 64]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let padded = [chunk[0], *chunk.get(1).unwrap_or(&0), *chunk.get(2).unwrap_or(&0)];
        let bits = u32::from_be_bytes([0, padded[0], padded[1], padded[2]]);
        for at in 0..4 {
            let digit = digits[(bits >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= chunk.len() { digit.into() } else { '=' });
        }
    }
    text
}

/// Padding may be missing, as for Java.
pub(crate) fn decode(text: &[u8], digits: &[u8; 64]) -> Option<Vec<u8>> {
    let whole = text;
    let text = match text {
        [text @ .., b'=', b'='] | [text @ .., b'='] if whole.len().is_multiple_of(4) => text,
        _ => text,
    };
    if text.len() % 4 == 1 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for chunk in text.chunks(4) {
        let mut bits = 0u32;
        for at in 0..4 {
            let digit = match chunk.get(at) {
                Some(digit) => digits.iter().position(|known| known == digit)? as u32,
                None => 0,
            };
            bits = bits << 6 | digit;
        }
        bytes.extend_from_slice(&bits.to_be_bytes()[1..chunk.len()]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn all_bytes_are_read_back(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            for digits in [STANDARD, URL_SAFE] {
                let text = encode(&bytes, digits);
                prop_assert_eq!(text.len() % 4, 0);
                prop_assert_eq!(decode(text.trim_end_matches('=').as_bytes(), digits), Some(bytes.clone()));
                prop_assert_eq!(decode(text.as_bytes(), digits), Some(bytes.clone()));
            }
        }
    }
}
