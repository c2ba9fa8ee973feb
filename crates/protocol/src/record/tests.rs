//! Records that come back as they were made, and bytes that are none.

use super::*;
use crate::properties;
use proptest::prelude::*;

fn fields<'a>(topic: &'a [u8], body: &'a [u8]) -> RecordFields<'a> {
    RecordFields {
        queue_id: 3,
        flag: 7,
        sys_flag: 0x8,
        born_timestamp: 1_700_000_000_000,
        born_host: "10.0.0.9:51234".parse().unwrap(),
        store_host: "10.0.0.1:10911".parse().unwrap(),
        reconsume_times: 2,
        prepared_transaction_offset: 99,
        topic,
        body,
    }
}

#[test]
fn the_shortest_record_has_the_known_size() {
    let mut out = BytesMut::new();
    assert_eq!(encode(&mut out, &fields(b"", b""), |_| ()), Ok(0..RECORD_BYTES_MIN));
    let v6 = RecordFields {
        born_host: "[2001:db8::1]:1".parse().unwrap(),
        store_host: "[2001:db8::2]:2".parse().unwrap(),
        ..fields(b"", b"")
    };
    assert_eq!(encode(&mut out, &v6, |_| ()).map(|range| range.len()), Ok(115));
}

#[test]
fn what_does_not_fit_leaves_the_buffer_as_it_was() {
    let mut out = BytesMut::from(&b"before"[..]);
    let error = encode(&mut out, &fields(b"t", b"body"), |out| out.put_bytes(b'x', 40_000));
    assert_eq!(error, Err(RecordError::PropertiesTooLong(40_000)));
    assert_eq!(&out[..], b"before");
}

#[test]
fn a_flipped_bit_in_the_body_is_noticed() {
    let mut out = BytesMut::new();
    encode(&mut out, &fields(b"orders", b"body"), |_| ()).unwrap();
    assert_eq!(RecordRef::parse(&out).unwrap().verify_crc(), Ok(()));
    out[88] ^= 1;
    assert!(matches!(
        RecordRef::parse(&out).unwrap().verify_crc(),
        Err(RecordError::Crc { .. })
    ));
}

#[test]
fn blanks_are_not_records() {
    let mut bytes = blank(4096).to_vec();
    bytes.resize(200, 0);
    assert_eq!(RecordRef::parse(&bytes).unwrap_err(), RecordError::Magic(BLANK_MAGIC));
}

fn any_host() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        (any::<u32>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(Ipv4Addr::from(ip).into(), port)),
        (any::<u64>(), any::<u16>())
            .prop_map(|(ip, port)| SocketAddr::new(Ipv6Addr::from(u128::from(ip) << 64 | 1).into(), port)),
    ]
}

proptest! {
    #[test]
    fn records_survive_their_bytes(
        body in proptest::collection::vec(any::<u8>(), 0..300),
        topic in "[a-zA-Z0-9_%-]{1,200}",
        value in "[a-z]{1,30}",
        born_host in any_host(),
        store_host in any_host(),
        queue_offset: i64, physical_offset: i64, store_timestamp: i64, sys_flag in 0..0x800i32,
    ) {
        let wanted = RecordFields { born_host, store_host, sys_flag, ..fields(topic.as_bytes(), &body) };
        let mut out = BytesMut::from(&b"other"[..]);
        let range = encode(&mut out, &wanted, |out| properties::write(out, b"TAGS", value.as_bytes())).unwrap();
        patch(&mut out[range.clone()], queue_offset, physical_offset, store_timestamp);
        let record = RecordRef::parse(&out[range.clone()]).unwrap();
        prop_assert_eq!(record.total_size(), range.len());
        prop_assert_eq!(
            (record.queue_offset(), record.physical_offset(), record.store_timestamp()),
            (queue_offset, physical_offset, store_timestamp)
        );
        prop_assert_eq!((record.born_host(), record.store_host()), (born_host, store_host));
        prop_assert_eq!((record.topic(), record.body()), (topic.as_bytes(), &body[..]));
        prop_assert_eq!(properties::find(record.properties(), "TAGS"), Some(value.as_bytes()));
        prop_assert_eq!((record.queue_id(), record.flag(), record.reconsume_times()), (3, 7, 2));
        prop_assert_eq!((record.born_timestamp(), record.prepared_transaction_offset()), (1_700_000_000_000, 99));
        prop_assert_eq!(record.sys_flag() & !(BORN_HOST_V6 | STORE_HOST_V6), sys_flag & !(BORN_HOST_V6 | STORE_HOST_V6));
        prop_assert_eq!(record.verify_crc(), Ok(()));
        for cut in 0..range.len() {
            prop_assert!(RecordRef::parse(&out[range.start..range.start + cut]).is_err());
        }
    }

    #[test]
    fn hostile_records_are_errors(mut bytes in proptest::collection::vec(any::<u8>(), 8..400), v2: bool) {
        let total = bytes.len() as i32;
        bytes[..4].copy_from_slice(&total.to_be_bytes());
        bytes[4..8].copy_from_slice(&(if v2 { MAGIC_V2 } else { MAGIC_V1 }).to_be_bytes());
        if let Ok(record) = RecordRef::parse(&bytes) {
            let _ = (record.topic(), record.body(), record.properties(), record.born_host(), record.store_host());
        }
    }
}
