//! The decoder is the oracle: where the scanner answers, both say the same.

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::ext_fields::{ExtFields, FieldSet};
use crate::header::Header;
use crate::requests::{PullMessageHeader, SendMessageHeader, SendMessageHeaderV2};

fn text(raw: RawText<'_>) -> String {
    let mut out = BytesMut::new();
    raw.unescape_into(&mut out);
    let text = String::from_utf8(out.to_vec()).unwrap();
    assert_eq!(raw.to_str(), text);
    assert!(raw == *text.as_str());
    text
}

fn send_header(send: ScannedSend<'_>) -> SendMessageHeaderV2 {
    SendMessageHeaderV2 {
        producer_group: text(send.producer_group),
        topic: text(send.topic),
        default_topic: text(send.default_topic),
        default_topic_queue_nums: send.default_topic_queue_nums,
        queue_id: send.queue_id,
        sys_flag: send.sys_flag,
        born_timestamp: send.born_timestamp,
        flag: send.flag,
        properties: send.properties.map(text),
        reconsume_times: send.reconsume_times,
        unit_mode: send.unit_mode,
        max_reconsume_times: send.max_reconsume_times,
        batch: send.batch,
        broker_name: None,
    }
}

fn pull_header(pull: ScannedPull<'_>) -> PullMessageHeader {
    PullMessageHeader {
        consumer_group: text(pull.consumer_group),
        topic: text(pull.topic),
        queue_id: pull.queue_id,
        queue_offset: pull.queue_offset,
        max_msg_nums: pull.max_msg_nums,
        sys_flag: pull.sys_flag,
        commit_offset: pull.commit_offset,
        suspend_timeout_millis: pull.suspend_timeout_millis,
        subscription: pull.subscription.map(text),
        sub_version: pull.sub_version,
        expression_type: pull.expression_type.map(text),
        max_msg_bytes: pull.max_msg_bytes,
        request_source: pull.request_source,
        broker_name: None,
    }
}

/// The fields of 10 are those of 310 under other names.
fn decoded_send(code: i32, fields: &ExtFields) -> SendMessageHeaderV2 {
    if code != 10 {
        return SendMessageHeaderV2 {
            broker_name: None,
            ..SendMessageHeaderV2::read(fields).unwrap()
        };
    }
    let long = SendMessageHeader::read(fields).unwrap();
    SendMessageHeaderV2 {
        producer_group: long.producer_group,
        topic: long.topic,
        default_topic: long.default_topic,
        default_topic_queue_nums: long.default_topic_queue_nums,
        queue_id: long.queue_id,
        sys_flag: long.sys_flag,
        born_timestamp: long.born_timestamp,
        flag: long.flag,
        properties: long.properties,
        reconsume_times: long.reconsume_times,
        unit_mode: long.unit_mode,
        max_reconsume_times: long.max_reconsume_times,
        batch: long.batch,
        broker_name: None,
    }
}

/// Whether the scanner answered; if it did, the decoder agrees.
pub(crate) fn agrees(serialize: SerializeType, bytes: &[u8]) -> bool {
    let Ok(scanned) = scan(serialize, bytes) else {
        return false;
    };
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
    match scanned.request {
        ScannedRequest::Send(send) => assert_eq!(send_header(send), decoded_send(decoded.code, &decoded.ext_fields)),
        ScannedRequest::Pull(pull) => {
            let wanted = PullMessageHeader {
                broker_name: None,
                ..PullMessageHeader::read(&decoded.ext_fields).unwrap()
            };
            assert_eq!(pull_header(pull), wanted);
        }
    }
    true
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
