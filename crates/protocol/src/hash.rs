//! Hashes that every RocketMQ peer computes alike.

/// Java's `String.hashCode`: `h = 31·h + unit` over the UTF-16 units.
pub fn java_string_hash(text: &str) -> i32 {
    if text.is_ascii() {
        return ascii_hash(text.as_bytes());
    }
    text.encode_utf16()
        .fold(0, |hash: i32, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

/// The code of a tag as a consume queue entry holds it (spec: behaviour.md §4.4): the hash, sign-extended, and 0 for no tag.
pub fn tags_code(tag: &[u8]) -> i64 {
    if tag.is_ascii() {
        return ascii_hash(tag).into();
    }
    java_string_hash(&String::from_utf8_lossy(tag)).into()
}

fn ascii_hash(bytes: &[u8]) -> i32 {
    bytes.iter().fold(0, |hash: i32, byte| {
        hash.wrapping_mul(31).wrapping_add(i32::from(*byte))
    })
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
}
