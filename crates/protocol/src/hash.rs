//! Hashes that every RocketMQ peer computes alike.

/// Java's `String.hashCode`: `h = 31·h + unit` over the UTF-16 units.
pub fn java_string_hash(text: &str) -> i32 {
    extend_java_string_hash(0, text.as_bytes())
}

/// The hash of a longer text, from that of its beginning and the rest. What is not UTF-8 counts as U+FFFD.
pub fn extend_java_string_hash(hash: i32, rest: &[u8]) -> i32 {
    if rest.is_ascii() {
        return ascii_hash(hash, rest);
    }
    String::from_utf8_lossy(rest)
        .encode_utf16()
        .fold(hash, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

/// The code of a tag as a consume queue entry holds it (spec: behaviour.md §4.4): the hash, sign-extended, and 0 for no tag.
pub fn tags_code(tag: &[u8]) -> i64 {
    extend_java_string_hash(0, tag).into()
}

/// 31⁷, 31⁶, … 1.
const POWERS: [i32; 8] = {
    let mut powers = [1i32; 8];
    let mut at = 7;
    while at > 0 {
        powers[at - 1] = powers[at].wrapping_mul(31);
        at -= 1;
    }
    powers
};

/// Eight bytes at a time: their products do not wait for each other.
fn ascii_hash(hash: i32, bytes: &[u8]) -> i32 {
    let (blocks, rest) = bytes.as_chunks::<8>();
    let hash = blocks.iter().fold(hash, |hash, block| {
        let products = block.iter().zip(POWERS);
        let sum = products.fold(0i32, |sum, (byte, power)| {
            sum.wrapping_add(i32::from(*byte).wrapping_mul(power))
        });
        hash.wrapping_mul(POWERS[0].wrapping_mul(31)).wrapping_add(sum)
    });
    rest.iter()
        .fold(hash, |hash, byte| hash.wrapping_mul(31).wrapping_add(i32::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_java() {
        for (text, hash) in [("", 0), ("vip", 116_765), ("eu", 3248), ("é", 233), ("😀", 1_772_899)] {
            assert_eq!(java_string_hash(text), hash, "{text}");
            assert_eq!(tags_code(text.as_bytes()), i64::from(hash), "{text}");
        }
        assert_eq!(java_string_hash("polygenelubricants"), i32::MIN);
    }

    #[test]
    fn a_hash_goes_on_where_that_of_the_beginning_stopped() {
        for text in ["orders#0A1B2C3D4E5F60718293A4B5C6D7E8F9", "öß#é😀 and more of it"] {
            let units = text.encode_utf16();
            let whole = units.fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
            for (at, _) in text.char_indices() {
                let (beginning, rest) = text.split_at(at);
                let hash = java_string_hash(beginning);
                assert_eq!(extend_java_string_hash(hash, rest.as_bytes()), whole, "{text} at {at}");
            }
        }
    }
}
