//! What the fuzz targets in `fuzz/` do with their input. An ordinary test runs the same over the committed corpus.

use bytes::{Bytes, BytesMut};
use oxmq_protocol::body::{
    CheckClientRequestBody, DataVersion, HeartbeatData, LockBatchRequestBody, QueryAssignmentRequestBody,
    RegisterBrokerBody, SetMessageRequestModeRequestBody, SubscriptionGroupConfig, SubscriptionGroupList,
    TopicConfigList, TopicQueueMappingDetail, TopicRouteData, TopicStatsTable,
};
use oxmq_protocol::message::decode_messages;
use oxmq_protocol::properties::Properties;
use oxmq_protocol::properties_file;
use oxmq_protocol::record::RecordRef;
use oxmq_protocol::requests::{PullMessageHeader, SendMessageHeader, SendMessageHeaderV2};
use oxmq_protocol::scan::{ScannedPull, ScannedRequest, ScannedSend, scan};
use oxmq_protocol::settings::Settings;
use oxmq_protocol::{FieldSet, Frame, Header, SerializeType, batch, json, properties};
use serde::Serialize;
use serde::de::DeserializeOwned;

type Check = fn(&[u8]);

/// Every target by its name.
pub(crate) const TARGETS: [(&str, Check); 10] = [
    ("frame", frame),
    ("header_json", header_json),
    ("header_binary", header_binary),
    ("scan", scan_agrees),
    ("properties", properties_text),
    ("record", record),
    ("batch", batch_items),
    ("body", body),
    ("admin_body", admin_body),
    ("settings", settings),
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

/// Bodies of administrative requests: what is read can be written, and what was written reads as the same.
pub(crate) fn admin_body(data: &[u8]) {
    fn settles<T: Serialize + DeserializeOwned>(data: &[u8]) {
        let Ok(read) = json::from_slice::<T>(data) else { return };
        let written = json::to_vec(&read);
        let again: T = json::from_slice(&written).expect("what is written can be read");
        assert_eq!(json::to_vec(&again).len(), written.len());
    }
    settles::<CheckClientRequestBody>(data);
    settles::<DataVersion>(data);
    settles::<LockBatchRequestBody>(data);
    settles::<QueryAssignmentRequestBody>(data);
    settles::<SetMessageRequestModeRequestBody>(data);
    settles::<SubscriptionGroupConfig>(data);
    settles::<SubscriptionGroupList>(data);
    settles::<TopicConfigList>(data);
    settles::<TopicQueueMappingDetail>(data);
    settles::<TopicRouteData>(data);
}

oxmq_protocol::settings! {
    /// One of each kind.
    struct Sample {
        /// A path.
        store_path: String = "storePathRootDir" => "/store".into();
        /// A number.
        reserved: u64 = "fileReservedTime" => 72, range(0..=100_000), live();
        /// A switch.
        enabled: bool = "autoCreateTopicEnable" => true, live();
        /// Text that may change.
        when: String = "deleteWhen" => "04".into(), live();
        /// A secret.
        password: Option<String> = "tls.server.keyPassword" => None, local(), secret();
    }
    without_effect: "it is too early" => "later";
}

/// Whatever a change or a file says: paths and secrets stay as they are, refusals change nothing, and what is saved is
/// read back as it was.
pub(crate) fn settings(data: &[u8]) {
    let mut changed = Sample {
        password: Some("hidden-word".into()),
        ..Sample::default()
    };
    let before = changed.to_properties();
    match changed.update(data, "configBlackList;rocketmqHome") {
        Err(_) => assert_eq!(changed.to_properties(), before),
        Ok(_) => assert!(changed.reserved <= 100_000),
    }
    assert_eq!(
        (changed.store_path.as_str(), changed.password.as_deref()),
        ("/store", Some("hidden-word"))
    );
    assert!(!changed.text().contains("hidden-word") || contains(data, b"hidden-word"));

    let mut loaded = Sample::default();
    if loaded.load("f", data).is_ok() {
        let mut again = Sample::default();
        again
            .load("g", loaded.to_properties().as_bytes())
            .expect("what is saved can be read");
        assert_eq!(again.to_properties(), loaded.to_properties());
    }
    let entries = properties_file::parse(data);
    let pairs = || entries.iter().map(|entry| (entry.key.as_str(), entry.value.as_str()));
    let again = properties_file::parse(properties_file::write(pairs()).as_bytes());
    assert!(pairs().eq(again.iter().map(|entry| (entry.key.as_str(), entry.value.as_str()))));
}

fn contains(data: &[u8], word: &[u8]) -> bool {
    data.windows(word.len()).any(|window| window == word)
}
