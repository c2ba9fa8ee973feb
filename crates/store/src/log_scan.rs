//! What a position of the commit log holds, decided from its bytes alone (spec: storage.md §9.2).
//!
//! Stricter than Java in three points, each of which only refuses what no broker wrote: the record must carry its own
//! physical offset, its topic must be a possible directory name, and text that ends in zeros, or has a sector of them, was
//! lost in a crash (the body has a checksum, topic and properties have none).

use oxmq_protocol::record::{self, BLANK_BYTES, BLANK_MAGIC, MAGIC_V1, MAGIC_V2, RECORD_BYTES_MIN, RecordRef};

/// Smallest unit that a disk writes whole.
const SECTOR_BYTES: i64 = 512;

/// Bytes of a record that say how long it is and where it belongs.
pub(crate) const HEAD_BYTES: usize = 36;

#[derive(Debug)]
pub enum Verdict<'a> {
    Record(RecordRef<'a>),
    /// The rest of the file is unused.
    Blank,
    /// More bytes are needed: this many in all.
    Incomplete(usize),
    /// The log ends here.
    End,
}

/// Judges the bytes found at `physical_offset`, of which the file has `remaining` from there on.
pub fn judge(bytes: &[u8], physical_offset: i64, remaining: usize) -> Verdict<'_> {
    let Some((head, _)) = bytes.split_first_chunk::<BLANK_BYTES>() else {
        return if remaining < BLANK_BYTES {
            Verdict::End
        } else {
            Verdict::Incomplete(BLANK_BYTES)
        };
    };
    let [s0, s1, s2, s3, m0, m1, m2, m3] = *head;
    let size = i32::from_be_bytes([s0, s1, s2, s3]);
    match i32::from_be_bytes([m0, m1, m2, m3]) {
        BLANK_MAGIC => return Verdict::Blank,
        MAGIC_V1 | MAGIC_V2 => {}
        _ => return Verdict::End,
    }
    let Some(size) = usize::try_from(size)
        .ok()
        .filter(|size| *size >= RECORD_BYTES_MIN && *size <= remaining)
    else {
        return Verdict::End;
    };
    if bytes.len() < HEAD_BYTES {
        return Verdict::Incomplete(HEAD_BYTES);
    }
    // Before the length is believed, and memory taken for it.
    if bytes[28..36] != physical_offset.to_be_bytes() {
        return Verdict::End;
    }
    if bytes.len() < size {
        return Verdict::Incomplete(size);
    }
    match RecordRef::parse(bytes) {
        Ok(record) if is_whole(&record) => Verdict::Record(record),
        _ => Verdict::End,
    }
}

/// Whether a record of this size was written here, judged by those of its size, magic and own physical offset that still
/// stand: two of the three. For records that are damaged.
pub(crate) fn resembles(head: &[u8; HEAD_BYTES], physical_offset: i64, size: i32) -> bool {
    let magic = i32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    let evidence = [
        head[..4] == size.to_be_bytes(),
        matches!(magic, MAGIC_V1 | MAGIC_V2),
        head[28..] == physical_offset.to_be_bytes(),
    ];
    evidence.into_iter().filter(|holds| *holds).count() >= 2
}

/// What could be a record or the end of a file behind damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Candidate {
    Record(i64),
    Blank,
}

/// The first position in `bytes`, which begin at `physical_offset` of a file that ends at `file_end`, where the head of a
/// record names that very position, or where a blank names exactly the rest of the file.
pub(crate) fn find_candidate(bytes: &[u8], physical_offset: i64, file_end: i64) -> Option<Candidate> {
    for (at, head) in bytes.windows(HEAD_BYTES).enumerate() {
        let position = physical_offset + at as i64;
        match i32::from_be_bytes([head[4], head[5], head[6], head[7]]) {
            MAGIC_V1 | MAGIC_V2 if head[28..] == position.to_be_bytes() => return Some(Candidate::Record(position)),
            BLANK_MAGIC
                if i64::from(i32::from_be_bytes([head[0], head[1], head[2], head[3]])) == file_end - position =>
            {
                return Some(Candidate::Blank);
            }
            _ => {}
        }
    }
    None
}

fn is_whole(record: &RecordRef<'_>) -> bool {
    (record.body().is_empty() || record.body_crc() == record::body_crc(record.body()))
        && is_topic_name(record.topic())
        && !has_lost_sector(record)
        && record.properties().last() != Some(&0)
}

/// A name that may become a directory below `consumequeue`.
pub(crate) fn is_topic_name(topic: &[u8]) -> bool {
    !topic.is_empty()
        && topic != b"."
        && topic != b".."
        && topic.iter().all(|byte| *byte != b'/' && *byte >= b' ')
        && std::str::from_utf8(topic).is_ok()
}

fn has_lost_sector(record: &RecordRef<'_>) -> bool {
    let bytes = record.as_bytes();
    let mut at = record.body_range().end;
    while at < bytes.len() {
        let position = record.physical_offset() + at as i64;
        let to_sector_end = (SECTOR_BYTES - position.rem_euclid(SECTOR_BYTES)) as usize;
        let end = (at + to_sector_end).min(bytes.len());
        if bytes[at..end].iter().all(|byte| *byte == 0) && !is_empty_properties(record, at) {
            return true;
        }
        at = end;
    }
    false
}

/// The last two bytes of a record without properties are a length of 0.
fn is_empty_properties(record: &RecordRef<'_>, at: usize) -> bool {
    record.properties().is_empty() && at + 2 >= record.total_size()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use oxmq_protocol::properties;
    use oxmq_protocol::record::RecordFields;
    use proptest::prelude::*;

    fn record(at: i64, body: &[u8], value: &[u8]) -> BytesMut {
        let fields = RecordFields {
            queue_id: 1,
            flag: 0,
            sys_flag: 0,
            born_timestamp: 5,
            born_host: "10.0.0.9:51234".parse().unwrap(),
            store_host: "10.0.0.1:10911".parse().unwrap(),
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            topic: b"orders",
            body,
        };
        let mut out = BytesMut::new();
        record::encode(&mut out, &fields, |out| {
            if !value.is_empty() {
                properties::write(out, b"KEYS", value);
            }
        })
        .unwrap();
        record::patch(&mut out, 7, at, 9);
        out
    }

    #[test]
    fn a_record_counts_only_where_it_belongs() {
        let bytes = record(1000, b"body", b"key");
        assert!(matches!(judge(&bytes, 1000, 1 << 20), Verdict::Record(_)));
        assert!(matches!(judge(&bytes, 1001, 1 << 20), Verdict::End));
        assert!(matches!(judge(&bytes, 1000, bytes.len() - 1), Verdict::End));
        assert!(matches!(judge(&record::blank(77), 1000, 77), Verdict::Blank));
        assert!(matches!(judge(&[0; 200], 1000, 200), Verdict::End));
        for cut in 0..bytes.len() {
            assert!(
                matches!(judge(&bytes[..cut], 1000, 1 << 20), Verdict::Incomplete(_)),
                "{cut}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_record_with_a_lost_sector_is_not_a_record(
            at in 0i64..100_000, body in 0usize..1500, value in 0usize..1500, lost in 0usize..8,
        ) {
            let mut bytes = record(at, &vec![b'b'; body], &vec![b'v'; value]);
            prop_assert!(matches!(judge(&bytes, at, 1 << 20), Verdict::Record(_)));
            let first_end = (512 - at % 512) as usize;
            let start = if lost == 0 { 0 } else { first_end + (lost - 1) * 512 };
            let end = (first_end + lost * 512).min(bytes.len());
            prop_assume!(start < end);
            let was_zero = bytes[start..end].iter().all(|byte| *byte == 0);
            bytes[start..end].fill(0);
            prop_assert!(was_zero || !matches!(judge(&bytes, at, 1 << 20), Verdict::Record(_)));
        }

        #[test]
        fn a_record_that_was_written_in_part_is_not_a_record(at in 0i64..100_000, value in 0usize..1500, cut in 0usize..1700) {
            let mut bytes = record(at, b"body", &vec![b'v'; value]);
            prop_assume!(cut < bytes.len() && bytes[cut..].iter().any(|byte| *byte != 0));
            bytes[cut..].fill(0);
            prop_assert!(!matches!(judge(&bytes, at, 1 << 20), Verdict::Record(_)));
        }

        #[test]
        fn no_bytes_make_it_fail(bytes in proptest::collection::vec(any::<u8>(), 0..300), at: i64) {
            let _ = judge(&bytes, at, bytes.len());
        }
    }
}
