//! The decoder is the oracle: where the scanner answers, both say the same.

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::ext_fields::{ExtFields, FieldSet};
use crate::header::Header;
use crate::requests::{PullMessageHeader, SendMessageHeader, SendMessageHeaderV2};

/// Whether the scanner answered; if it did, the decoder agrees.
fn agrees(serialize: SerializeType, bytes: &[u8]) -> bool {
    if let Ok(fields) = scan_fields(serialize, bytes) {
        let decoded = Header::decode(serialize, bytes).expect("what the scanner reads, the decoder reads");
        let all = fields
            .as_slice()
            .iter()
            .map(|(name, value)| (std::str::from_utf8(name).unwrap(), value.to_str().into_owned()));
        assert_eq!(all.collect::<ExtFields>(), decoded.ext_fields);
        assert_eq!((fields.code(), fields.opaque()), (decoded.code, decoded.opaque));
        assert_eq!(fields.header(), scan(serialize, bytes));
    }
    let Ok(scanned) = scan(serialize, bytes) else {
        return false;
    };
    assert!(
        scan_fields(serialize, bytes).is_ok(),
        "what is scanned for some fields is scanned for all"
    );
    let decoded = Header::decode(serialize, bytes).expect("what the scanner reads, the decoder reads");
    assert_eq!(
        (
            scanned.code,
            scanned.opaque,
            scanned.flag,
            scanned.version,
            scanned.language
        ),
        (
            decoded.code,
            decoded.opaque,
            decoded.flag,
            decoded.version,
            decoded.language
        )
    );
    let fields = &decoded.ext_fields;
    match scanned.request {
        ScannedRequest::Send(send) if decoded.code == 10 => {
            assert_eq!(send, ScannedSend::from(&SendMessageHeader::read(fields).unwrap()));
        }
        ScannedRequest::Send(send) => {
            assert_eq!(send, ScannedSend::from(&SendMessageHeaderV2::read(fields).unwrap()));
        }
        ScannedRequest::Pull(pull) => {
            assert_eq!(pull, ScannedPull::from(&PullMessageHeader::read(fields).unwrap()));
        }
    }
    true
}

#[test]
fn escapes_are_taken_off_the_text() {
    let Ok(ScannedHeader {
        request: ScannedRequest::Send(send),
        ..
    }) = scan(SerializeType::Json, SEND.as_bytes())
    else {
        panic!("a plain send is scanned");
    };
    let mut out = BytesMut::from(&b"before "[..]);
    send.properties.unwrap().unescape_into(&mut out);
    assert_eq!(&out[..], "before KEYS\u{1}k\\\"\u{2}TAGS\u{1}é".as_bytes());
    assert!(send.topic == *"orders" && send.properties.unwrap() != *"orders");
}

const SEND: &str = r#"{"code":310,"extFields":{"a":"g","b":"orders","c":"TBW102","d":"4","e":"-1","f":"0","g":"1700000000000","h":"0","i":"KEYS\u0001k\\\"\u0002TAGS\u0001é","j":"0","k":"false","m":"false","n":"b0"},"flag":0,"language":"JAVA","opaque":31,"serializeTypeCurrentRPC":"JSON","version":513}"#;

#[test]
fn a_send_of_java_is_scanned() {
    assert!(agrees(SerializeType::Json, SEND.as_bytes()));
}

#[test]
fn other_spellings_of_the_same_are_scanned() {
    for (from, to) in [
        (r#""d":"4""#, r#""d":4"#),
        (r#""k":"false""#, r#""k":true"#),
        (r#""k":"false""#, r#""k":"1""#),
        (r#""j":"0""#, r#""j":null"#),
        (r#","version":513"#, " , \"version\" : 513\n"),
        (r#""flag":0"#, r#""flag":3,"remark":"","unknown":"x\n""#),
        (r#""b":"orders""#, r#""b":"old","b":"orders""#),
    ] {
        let header = SEND.replacen(from, to, 1);
        assert_ne!(header, SEND);
        assert!(agrees(SerializeType::Json, header.as_bytes()), "{header}");
    }
}

#[test]
fn what_is_unusual_is_left_to_the_decoder() {
    for (from, to) in [
        (r#""d":"4""#, r#""d":"+4""#),
        (r#""d":"4""#, r#""d":4.0"#),
        (r#""d":"4""#, r#""d":04"#),
        (r#""d":"4""#, r#""d":-0"#),
        (r#""d":"4""#, r#""d":[4]"#),
        (r#""d":"4","#, ""),
        (r#""h":"0""#, r#""h":"9999999999""#),
        (r#""code":310"#, r#""code":"310""#),
        (r#""code":310"#, r#""code":34"#),
        (r#""flag":0"#, r#""flag":0,"flag":0"#),
        (r#""flag":0"#, r#""flag":0,"remark":5"#),
        ("\\u0001", "\\u00zz"),
        ("\\u0001", "\\x"),
        ("\\u0001", "\\ud83d\\ude00"),
        ("\\u0001", "\u{1}"),
        (r#""version":513}"#, r#""version":513}x"#),
        (r#""version":513}"#, r#""version":513"#),
    ] {
        let header = SEND.replacen(from, to, 1);
        assert_ne!(header, SEND);
        assert!(scan(SerializeType::Json, header.as_bytes()).is_err(), "{header}");
    }
}

#[test]
fn a_header_cut_anywhere_is_left_to_the_decoder() {
    for cut in 0..SEND.len() {
        assert!(
            scan(SerializeType::Json, &SEND.as_bytes()[..cut]).is_err(),
            "cut at {cut}"
        );
    }
}

prop_compose! {
    fn any_send()(
        producer_group in "[a-zA-Z%_-]{1,20}", topic in "\\PC{1,20}", properties in proptest::option::of(".{0,60}"),
        numbers: (i32, i32, i32, i32), born_timestamp in -1_000_000_000_000_000_000i64..1_000_000_000_000_000_000,
        reconsume_times: Option<i32>, max_reconsume_times: Option<i32>, unit_mode: bool, batch: bool,
    ) -> SendMessageHeaderV2 {
        SendMessageHeaderV2 {
            producer_group, topic, default_topic: "TBW102".into(), default_topic_queue_nums: numbers.0,
            queue_id: numbers.1, sys_flag: numbers.2, born_timestamp, flag: numbers.3, properties,
            reconsume_times, unit_mode, max_reconsume_times, batch, broker_name: Some("b\"0".into()),
        }
    }
}

fn encoded(code: i32, fields: ExtFields, serialize: SerializeType) -> BytesMut {
    let header = Header {
        code,
        opaque: -7,
        flag: 2,
        version: 513,
        ext_fields: fields,
        ..Header::default()
    };
    let mut out = BytesMut::new();
    header.encode(serialize, &mut out);
    out
}

proptest! {
    #[test]
    fn sends_are_scanned_as_decoded(send in any_send(), code in prop_oneof![Just(310), Just(320)]) {
        for serialize in [SerializeType::Json, SerializeType::RocketMq] {
            agrees(serialize, &encoded(code, ExtFields::of(&send), serialize));
        }
        let plain = SendMessageHeaderV2 { topic: "orders".into(), properties: None, born_timestamp: 5, ..send };
        for serialize in [SerializeType::Json, SerializeType::RocketMq] {
            prop_assert!(agrees(serialize, &encoded(code, ExtFields::of(&plain), serialize)));
        }
    }

    #[test]
    fn damaged_headers_never_disagree(send in any_send(), at: prop::sample::Index, byte: u8) {
        for serialize in [SerializeType::Json, SerializeType::RocketMq] {
            let mut bytes = encoded(310, ExtFields::of(&send), serialize);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(scanned) = scan(serialize, &bytes) {
                prop_assert!(Header::decode(serialize, &bytes).is_ok(), "{:?}", scanned);
            }
        }
    }

    #[test]
    fn damaged_text_means_the_same_to_both(at in 0..SEND.len(), new in "[\"\\\\{}:,u0-9a-n\u{1} ]{1,2}") {
        let Some((before, after)) = SEND.split_at_checked(at) else { return Ok(()) };
        let mut rest = after.chars();
        rest.next();
        agrees(SerializeType::Json, format!("{before}{new}{}", rest.as_str()).as_bytes());
    }
}
