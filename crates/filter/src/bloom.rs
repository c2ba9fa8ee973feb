//! Which bits of a Bloom filter stand for a consumer group, as the original keeps them with the group's expression
//! (spec: behaviour.md §4.4).

/// Sizes of a Bloom filter, and with them the place of every key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BloomFilter {
    bits: u32,
    hashes: u32,
}

impl BloomFilter {
    /// For so many keys, wrong for so many percent of the others. Whole bytes.
    pub fn new(error_percent: u32, keys: u32) -> BloomFilter {
        let doublings = (100.0 / f64::from(error_percent.clamp(1, 99))).log2();
        let bits = (f64::from(keys) * doublings * std::f64::consts::LOG2_E).ceil() as u32;
        BloomFilter {
            bits: bits.max(1).next_multiple_of(8),
            hashes: doublings.ceil() as u32,
        }
    }

    pub fn bits(&self) -> u32 {
        self.bits
    }

    pub fn positions(&self, key: &str) -> Vec<u32> {
        let hash = murmur3_low(key.as_bytes());
        let (low, high) = (hash as u32, (hash >> 32) as u32);
        let position = |number: u32| {
            let combined = low.wrapping_add(number.wrapping_mul(high)) as i32;
            let positive = if combined < 0 { !combined } else { combined };
            positive as u32 % self.bits
        };
        (1..=self.hashes).map(position).collect()
    }
}

/// The first half of MurmurHash3 x64 128 with seed 0.
fn murmur3_low(bytes: &[u8]) -> u64 {
    const C1: u64 = 0x87c3_7b91_1142_53d5;
    const C2: u64 = 0x4cf5_ad43_2745_937f;
    let mix_low = |k: u64| k.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2);
    let mix_high = |k: u64| k.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1);
    let (mut low, mut high) = (0u64, 0u64);
    let (blocks, tail) = bytes.as_chunks::<16>();
    for block in blocks {
        low ^= mix_low(word(&block[..8]));
        low = low
            .rotate_left(27)
            .wrapping_add(high)
            .wrapping_mul(5)
            .wrapping_add(0x52dc_e729);
        high ^= mix_high(word(&block[8..]));
        high = high
            .rotate_left(31)
            .wrapping_add(low)
            .wrapping_mul(5)
            .wrapping_add(0x3849_5ab5);
    }
    let (first, second) = tail.split_at(tail.len().min(8));
    high ^= mix_high(word(second));
    low ^= mix_low(word(first));
    low ^= bytes.len() as u64;
    high ^= bytes.len() as u64;
    low = low.wrapping_add(high);
    high = high.wrapping_add(low);
    finish(low).wrapping_add(finish(high))
}

/// At most 8 bytes, the lowest first.
fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

fn finish(mut k: u64) -> u64 {
    k = (k ^ (k >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    k = (k ^ (k >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    k ^ (k >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_those_of_the_original() {
        let usual = BloomFilter::new(20, 32);
        assert_eq!((usual.bits(), usual.hashes), (112, 3));
        for (key, expected) in [
            ("group_a#OrderTopic", [102, 77, 33]),
            ("", [0, 0, 0]),
            (
                "a-much-longer-group-name-than-sixteen#topic-with-a-long-name-too",
                [3, 110, 0],
            ),
            ("ä#b", [62, 58, 89]),
            ("0123456789abcdef", [11, 47, 60]),
            ("0123456789abcde", [87, 93, 12]),
            ("01234567", [23, 3, 1]),
        ] {
            assert_eq!(usual.positions(key), expected, "{key}");
        }
        let exact = BloomFilter::new(1, 100);
        assert_eq!(exact.bits(), 960);
        assert_eq!(exact.positions("g#t"), [422, 295, 202, 700, 17, 479, 18]);
        assert_eq!(BloomFilter::new(50, 1).positions("g#t"), [6]);
    }
}
