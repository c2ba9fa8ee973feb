//! What the fuzz targets in `fuzz/` do with their input. An ordinary test runs the same over the committed corpus.

use bytes::{Bytes, BytesMut};
use oxmq_protocol::body::{HeartbeatData, RegisterBrokerBody, TopicStatsTable};
use oxmq_protocol::message::decode_messages;
use oxmq_protocol::properties::Properties;
use oxmq_protocol::record::RecordRef;
use oxmq_protocol::requests::{PullMessageHeader, SendMessageHeader, SendMessageHeaderV2};
use oxmq_protocol::scan::{ScannedPull, ScannedRequest, ScannedSend, scan};
use oxmq_protocol::{FieldSet, Frame, Header, SerializeType, batch, json, properties};

type Check = fn(&[u8]);

/// Every target by its name.
pub(crate) const TARGETS: [(&str, Check); 8] = [
    ("frame", frame),
    ("header_json", header_json),
    ("header_binary", header_binary),
    ("scan", scan_agrees),
    ("properties", properties_text),
    ("record", record),
    ("batch", batch_items),
    ("body", body),
];

/// Frames are found in any bytes, one behind the other, and decoded without a panic.
pub(crate) fn frame(data: &[u8]) {
    let mut rest = data;
    while let Ok(Some((frame, taken))) = Frame::peek(rest) {
        assert_eq!(taken, 8 + frame.header.len() + frame.body.len());
        let _ = Header::decode(frame.serialize, frame.header);
        rest = &rest[taken..];
    }
}

pub(crate) fn header_json(data: &[u8]) {
    header(SerializeType::Json, data);
}

pub(crate) fn header_binary(data: &[u8]) {
    header(SerializeType::RocketMq, data);
}

/// What is decoded survives being written and read again.
fn header(serialize: SerializeType, data: &[u8]) {
    let Ok(header) = Header::decode(serialize, data) else {
        return;
    };
    let mut out = BytesMut::new();
    header.encode(serialize, &mut out);
    assert_eq!(Header::decode(serialize, &out).as_ref(), Ok(&header));
}

/// Where the scanner answers, it answers what the decoder does.
pub(crate) fn scan_agrees(data: &[u8]) {
    for serialize in [SerializeType::Json, SerializeType::RocketMq] {
        let Ok(scanned) = scan(serialize, data) else { continue };
        let header = Header::decode(serialize, data).expect("what the scanner reads, the decoder reads");
        assert_eq!(
            (
                scanned.code,
                scanned.opaque,
                scanned.flag,
                scanned.version,
                scanned.language
            ),
            (header.code, header.opaque, header.flag, header.version, header.language)
        );
        let fields = &header.ext_fields;
        match scanned.request {
            ScannedRequest::Send(send) if header.code == 10 => {
                let header = SendMessageHeader::read(fields).expect("a scanned send has its fields");
                assert_eq!(send, ScannedSend::from(&header));
            }
            ScannedRequest::Send(send) => {
                let header = SendMessageHeaderV2::read(fields).expect("a scanned send has its fields");
                assert_eq!(send, ScannedSend::from(&header));
            }
            ScannedRequest::Pull(pull) => {
                let header = PullMessageHeader::read(fields).expect("a scanned pull has its fields");
                assert_eq!(pull, ScannedPull::from(&header));
            }
        }
    }
}

/// The walk and the map agree on any text.
pub(crate) fn properties_text(data: &[u8]) {
    let map = Properties::decode(data);
    for (name, _) in properties::iter(data) {
        let found = properties::find(data, &String::from_utf8_lossy(name));
        assert!(found.is_some() || std::str::from_utf8(name).is_err());
        assert!(map.contains(&String::from_utf8_lossy(name)));
    }
    let mut out = BytesMut::new();
    map.encode(&mut out);
    assert_eq!(Properties::decode(&out), map);
}

/// Accessors of a record stay in bounds, and rows of messages end.
pub(crate) fn record(data: &[u8]) {
    if let Ok(record) = RecordRef::parse(data) {
        let parts = record.topic().len() + record.body().len() + record.properties().len();
        assert!(parts < record.total_size() && record.total_size() <= data.len());
        let _ = (
            record.verify_crc(),
            record.born_host(),
            record.store_host(),
            record.reconsume_times(),
        );
    }
    if let Ok(messages) = decode_messages(&Bytes::copy_from_slice(data), true) {
        assert!(messages.len() <= data.len());
    }
}

pub(crate) fn batch_items(data: &[u8]) {
    let bytes: usize = batch::items(data)
        .flatten()
        .map(|item| item.body.len() + item.properties.len())
        .sum();
    assert!(bytes <= data.len());
}

/// Bodies in any dialect; what is read survives being written and read again.
pub(crate) fn body(data: &[u8]) {
    if let Ok(heartbeat) = json::from_slice::<HeartbeatData>(data) {
        assert_eq!(
            json::from_slice::<HeartbeatData>(&json::to_vec(&heartbeat)).ok(),
            Some(heartbeat)
        );
    }
    if let Ok(table) = json::from_slice::<TopicStatsTable>(data) {
        // Not equal: reading a float may be off by its last bit.
        let again = json::from_slice::<TopicStatsTable>(&json::to_vec(&table)).expect("what is written can be read");
        assert!(again.offset_table == table.offset_table);
    }
    let _ = RegisterBrokerBody::decode(data, 513);
}
