//! Headers of the original: decoded, encoded again, typed, scanned.

use std::collections::BTreeSet;

use bytes::BytesMut;
use oxmq_protocol::requests::{PullMessageHeader, SendMessageHeader, SendMessageHeaderV2, request};
use oxmq_protocol::scan::{ScannedPull, ScannedRequest, ScannedSend, scan};
use oxmq_protocol::{ExtFields, FieldSet, Header, Request, SerializeType};
use oxmq_tests::golden::{GoldenFrame, frames};
use serde_json::Value;

fn decoded(frame: &GoldenFrame) -> Header {
    Header::decode(frame.serialize, &frame.header).unwrap_or_else(|error| {
        panic!(
            "{}: {error} in {:?}",
            frame.file,
            String::from_utf8_lossy(&frame.header)
        )
    })
}

#[test]
fn headers_of_java_are_written_as_java_writes_them() {
    let mut identical = 0;
    for frame in frames().filter(|frame| frame.file.starts_with("java")) {
        let header = decoded(&frame);
        assert_eq!(header.code, frame.code);
        assert_eq!(header.is_response(), !frame.is_request);
        let mut out = BytesMut::new();
        header.encode(frame.serialize, &mut out);
        match frame.serialize {
            // Java also writes fields that are empty, which nobody can read.
            SerializeType::RocketMq if out.len() < frame.header.len() => {}
            SerializeType::RocketMq => {
                assert_eq!(out, frame.header);
                identical += 1;
            }
            SerializeType::Json => {
                let mut theirs: Value = serde_json::from_slice(&frame.header).unwrap();
                let fields = theirs.as_object_mut().unwrap().entry("extFields");
                fields.or_insert_with(|| Value::Object(serde_json::Map::new()));
                let ours: Value = serde_json::from_slice(&out).unwrap();
                assert_eq!(ours, theirs);
            }
        }
    }
    assert!(identical > 150, "only {identical} binary headers came out the same");
}

#[test]
fn every_header_survives_both_serializations() {
    for frame in frames() {
        let mut header = decoded(&frame);
        for serialize in [SerializeType::Json, SerializeType::RocketMq] {
            if serialize == SerializeType::RocketMq {
                // The binary form has two bytes for the code, and no empty text.
                if header.code > i32::from(i16::MAX) {
                    continue;
                }
                let kept: Vec<_> = header
                    .ext_fields
                    .iter()
                    .filter(|(_, value)| !value.is_empty())
                    .collect();
                header.ext_fields = kept.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
                header.remark = header.remark.filter(|remark| !remark.is_empty());
            }
            let mut out = BytesMut::new();
            header.encode(serialize, &mut out);
            assert_eq!(Header::decode(serialize, &out).unwrap(), header);
        }
    }
}

/// Reads the fields as the typed header of their request and returns the names that it writes.
fn typed_names<F: FieldSet>(fields: &ExtFields) -> BTreeSet<String> {
    let typed = F::read(fields).unwrap_or_else(|error| panic!("{error} among {fields:?}"));
    let names = ExtFields::of(&typed);
    names.iter().map(|(name, _)| name.to_owned()).collect()
}

macro_rules! typed_request {
    ($code:expr, $fields:expr; $($name:ident)*) => {
        match $code {
            $( code if code == request::$name::CODE.code() => Some(typed_names::<<request::$name as Request>::Header>($fields)), )*
            _ => None,
        }
    };
}

/// Fields that every request may carry, and those of features that are not typed.
const UNTYPED: [&str; 13] = [
    "bname",
    "ns",
    "nsd",
    "lo",
    "oway",
    "proxyFrowardClientId",
    "n",
    "ReqT",
    "liteTopic",
    "AccessKey",
    "Signature",
    "OnsChannel",
    "SecurityToken",
];

#[test]
fn typed_headers_hold_every_field_that_java_sends() {
    let mut seen = BTreeSet::new();
    for frame in frames().filter(|frame| frame.is_request) {
        let header = decoded(&frame);
        let names = typed_request!(header.code, &header.ext_fields;
            SendMessage PullMessage QueryMessage QueryConsumerOffset UpdateConsumerOffset UpdateAndCreateTopic
            UpdateAndCreateTopicList GetAllTopicConfig UpdateBrokerConfig GetBrokerConfig GetBrokerRuntimeInfo
            SearchOffsetByTimestamp GetMaxOffset GetMinOffset GetEarliestMsgStoreTime ViewMessageById HeartBeat
            UnregisterClient ConsumerSendMsgBack EndTransaction GetConsumerListByGroup CheckTransactionState
            NotifyConsumerIdsChanged LockBatchMq UnlockBatchMq GetAllConsumerOffset GetAllDelayOffset CheckClientConfig
            PutKvConfig GetKvConfig DeleteKvConfig RegisterBroker UnregisterBroker GetRouteInfoByTopic GetBrokerClusterInfo
            UpdateAndCreateSubscriptionGroup GetAllSubscriptionGroupConfig GetTopicStatsInfo GetConsumerConnectionList
            GetProducerConnectionList WipeWritePermOfBroker GetAllTopicListFromNameserver DeleteSubscriptionGroup
            GetConsumeStats DeleteTopicInBroker DeleteTopicInNamesrv RegisterTopicInNamesrv GetKvListByNamespace
            ResetConsumerClientOffset GetConsumerStatusFromClient InvokeBrokerToResetOffset
            InvokeBrokerToGetConsumerStatus GetTopicsByCluster UpdateAndCreateSubscriptionGroupList
            QueryTopicConsumeByWho QueryConsumeTimeSpan GetSystemTopicListFromNs GetSystemTopicListFromBroker
            CleanExpiredConsumeQueue GetConsumerRunningInfo QueryCorrectionOffset ConsumeMessageDirectly SendMessageV2
            GetUnitTopicList GetHasUnitSubTopicList GetHasUnitSubUnunitTopicList CloneGroupOffset ViewBrokerStatsData
            CleanUnusedTopic GetBrokerConsumeStats UpdateNamesrvConfig GetNamesrvConfig SendBatchMessage QueryConsumeQueue
            QueryDataVersion AddWritePermOfBroker GetAllProducerInfo DeleteExpiredCommitLog QueryTopicsByConsumer
            QuerySubscriptionByConsumer GetTopicConfig GetSubscriptionGroupConfig UpdateAndGetGroupForbidden
            LitePullMessage GetBrokerMemberGroup BrokerHeartbeat NotifyMinBrokerIdChange);
        let Some(names) = names else { continue };
        seen.insert(header.code);
        for (name, _) in header.ext_fields.iter() {
            let known = names.contains(name) || UNTYPED.contains(&name);
            assert!(
                known,
                "{}: {} sends {name}, which has no field",
                frame.file, header.code
            );
        }
    }
    assert!(seen.len() > 70, "only {} requests of the table were seen", seen.len());
}

#[test]
fn hot_requests_of_real_clients_are_scanned_as_decoded() {
    let mut scanned_count = 0;
    for frame in frames().filter(|frame| frame.is_request && matches!(frame.code, 10 | 11 | 310 | 320 | 361)) {
        let header = decoded(&frame);
        let Ok(scanned) = scan(frame.serialize, &frame.header) else {
            // The C++ client writes a line break behind the header, or leaves out fields; nobody else may fall through.
            panic!(
                "{} was not scanned: {}",
                frame.file,
                String::from_utf8_lossy(&frame.header)
            );
        };
        scanned_count += 1;
        assert_eq!(
            (scanned.code, scanned.opaque, scanned.flag),
            (header.code, header.opaque, header.flag)
        );
        assert_eq!((scanned.version, scanned.language), (header.version, header.language));
        let fields = &header.ext_fields;
        match scanned.request {
            ScannedRequest::Send(send) if header.code == 10 => {
                assert_eq!(send, ScannedSend::from(&SendMessageHeader::read(fields).unwrap()));
            }
            ScannedRequest::Send(send) => {
                assert_eq!(send, ScannedSend::from(&SendMessageHeaderV2::read(fields).unwrap()));
            }
            ScannedRequest::Pull(pull) => {
                assert_eq!(pull, ScannedPull::from(&PullMessageHeader::read(fields).unwrap()));
            }
        }
    }
    assert!(scanned_count >= 40, "only {scanned_count} hot requests were seen");
}
