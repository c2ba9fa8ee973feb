//! How a message that comes again is shown: like a message of its first topic.

use bytes::{BufMut, BytesMut};
use oxmq_protocol::record::{MAGIC_V2, RecordRef};
use oxmq_protocol::{properties, property};

/// Appends a record under another topic and with a handle, unless it has one. All else stays as it was stored.
pub(super) fn put_shown(out: &mut BytesMut, record: &RecordRef<'_>, topic: &str, handle: &str) {
    let start = out.len();
    out.put_slice(&record.as_bytes()[..record.body_range().end]);
    match record.magic() == MAGIC_V2 {
        true => out.put_i16(topic.len() as i16),
        false => out.put_u8(topic.len() as u8),
    }
    out.put_slice(topic.as_bytes());
    let length_at = out.len();
    out.put_i16(0);
    out.put_slice(record.properties());
    if !record.properties().is_empty() && record.properties().last() != Some(&properties::PROPERTY_SEPARATOR) {
        out.put_u8(properties::PROPERTY_SEPARATOR);
    }
    if properties::find(record.properties(), property::POP_CK).is_none() {
        properties::write(out, property::POP_CK.as_bytes(), handle.as_bytes());
    }
    let properties_bytes = (out.len() - length_at - 2).min(i16::MAX as usize);
    out.truncate(length_at + 2 + properties_bytes);
    out[length_at..length_at + 2].copy_from_slice(&(properties_bytes as i16).to_be_bytes());
    let total_size = (out.len() - start) as i32;
    out[start..start + 4].copy_from_slice(&total_size.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use oxmq_protocol::record::RecordFields;

    use super::*;
    use crate::testing::stored;

    #[test]
    fn a_retried_message_is_shown_under_its_first_topic() {
        for topic in ["%RETRY%g_t".to_owned(), format!("%RETRY%g_{}", "t".repeat(150))] {
            let fields = RecordFields {
                queue_id: 3,
                flag: 9,
                reconsume_times: 2,
                ..RecordFields::new(topic.as_bytes(), b"hello")
            };
            let stored = stored(&fields, &[("a", "b")]);
            let record = RecordRef::parse(&stored).unwrap();
            let mut out = BytesMut::from(&b"before"[..]);
            put_shown(&mut out, &record, "orders", "1 2 3");
            let shown = RecordRef::parse(&out[6..]).unwrap();
            assert!(shown.verify_crc().is_ok());
            assert_eq!((shown.topic(), shown.body()), (&b"orders"[..], &b"hello"[..]));
            assert_eq!((shown.queue_id(), shown.flag(), shown.reconsume_times()), (3, 9, 2));
            assert_eq!(properties::find(shown.properties(), "a"), Some(&b"b"[..]));
            assert_eq!(properties::find(shown.properties(), "POP_CK"), Some(&b"1 2 3"[..]));
        }
    }
}
