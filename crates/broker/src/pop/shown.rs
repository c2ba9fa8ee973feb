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
    use std::net::SocketAddr;

    use oxmq_protocol::record::{self, RecordFields};

    use super::*;

    #[test]
    fn a_retried_message_is_shown_under_its_first_topic() {
        let host = SocketAddr::from(([127, 0, 0, 1], 1));
        for topic in ["%RETRY%g_t".to_owned(), format!("%RETRY%g_{}", "t".repeat(150))] {
            let fields = RecordFields {
                queue_id: 3,
                flag: 9,
                sys_flag: 0,
                born_timestamp: 1,
                born_host: host,
                store_host: host,
                reconsume_times: 2,
                prepared_transaction_offset: 0,
                topic: topic.as_bytes(),
                body: b"hello",
            };
            let mut stored = BytesMut::new();
            record::encode(&mut stored, &fields, |out| properties::write(out, b"a", b"b")).unwrap();
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
