//! JSON bodies of the original: read, written again, and nothing of them lost.

use oxmq_protocol::body::*;
use oxmq_protocol::json;
use oxmq_tests::golden::{GoldenFrame, frames};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Everything in `theirs` is in `ours`, with the same value. Lists are sets to Java, so their order is free.
fn holds(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => theirs
            .iter()
            .all(|(name, value)| ours.get(name).is_some_and(|ours| holds(ours, value))),
        (Value::Array(ours), Value::Array(theirs)) => {
            ours.len() == theirs.len() && theirs.iter().all(|value| ours.iter().any(|ours| holds(ours, value)))
        }
        (ours, theirs) => match (ours.as_f64(), theirs.as_f64()) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => ours == theirs,
        },
    }
}

fn strict(bytes: &[u8]) -> Value {
    serde_json::from_slice(&json::relaxed(bytes)).unwrap()
}

fn check<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(frame: &GoldenFrame) {
    let text = String::from_utf8_lossy(&frame.body);
    let body: T = json::from_slice(&frame.body).unwrap_or_else(|error| panic!("{error}: {text}"));
    let written = json::to_vec(&body);
    let ours = String::from_utf8_lossy(&written);
    assert!(
        holds(&strict(&written), &strict(&frame.body)),
        "theirs: {text}\nours: {ours}"
    );
    assert_eq!(json::from_slice::<T>(&written).unwrap(), body);
    assert_eq!(json::from_slice::<T>(&json::to_vec_standard(&body)).unwrap(), body);
}

/// Checks the body by the code of its request; false when it has no type of ours.
fn check_request(frame: &GoldenFrame) -> bool {
    match frame.code {
        18 => check::<TopicConfigList>(frame),
        34 if frame.file.starts_with("java") => check::<HeartbeatData>(frame),
        41 | 42 => check::<LockBatchRequestBody>(frame),
        46 => check::<CheckClientRequestBody>(frame),
        103 => check::<RegisterBrokerBody>(frame),
        200 => check::<SubscriptionGroupConfig>(frame),
        220 => check::<ResetOffsetBody>(frame),
        225 => check::<SubscriptionGroupList>(frame),
        _ => return false,
    }
    true
}

fn check_reply(frame: &GoldenFrame) -> bool {
    match frame.request {
        Some(21) => check::<TopicConfigSerializeWrapper>(frame),
        Some(28 | 103 | 219) => check::<KvTable>(frame),
        Some(38) => check::<ConsumerIdList>(frame),
        Some(41) => check::<LockBatchResponseBody>(frame),
        Some(43) => check::<ConsumerOffsetSerializeWrapper>(frame),
        Some(45) => check::<DelayOffsetSerializeWrapper>(frame),
        Some(105) => check::<TopicRouteData>(frame),
        Some(106) => check::<ClusterInfo>(frame),
        Some(201) => check::<SubscriptionGroupWrapper>(frame),
        Some(202) => check::<TopicStatsTable>(frame),
        Some(203) => check::<ConsumerConnection>(frame),
        Some(204) => check::<ProducerConnection>(frame),
        Some(206 | 224 | 304 | 305 | 311 | 312 | 313 | 343) => check::<TopicList>(frame),
        Some(208) => check::<ConsumeStats>(frame),
        Some(221 | 223) => check::<GetConsumerStatusBody>(frame),
        Some(222) => check::<ResetOffsetBody>(frame),
        Some(300) => check::<GroupList>(frame),
        Some(303) => check::<QueryConsumeTimeSpanBody>(frame),
        Some(307) => check::<ConsumerRunningInfo>(frame),
        Some(309) => check::<ConsumeMessageDirectlyResult>(frame),
        Some(315) => check::<BrokerStatsData>(frame),
        Some(317) => check::<ConsumeStatsList>(frame),
        Some(321) => check::<QueryConsumeQueueBody>(frame),
        Some(328) => check::<ProducerTableInfo>(frame),
        Some(345) => check::<QuerySubscriptionBody>(frame),
        Some(351) => check::<TopicConfig>(frame),
        Some(352) => check::<SubscriptionGroupConfig>(frame),
        Some(353) => check::<GroupForbidden>(frame),
        _ => return false,
    }
    true
}

#[test]
fn bodies_of_java_are_read_and_nothing_is_lost() {
    let mut count = 0;
    for frame in frames().filter(|frame| !frame.body.is_empty()) {
        let known = match frame.is_request {
            true => check_request(&frame),
            false => frame.code == 0 && check_reply(&frame),
        };
        count += usize::from(known);
    }
    assert!(count > 150, "only {count} bodies were seen");
}

#[test]
fn heartbeats_of_go_and_cpp_are_read() {
    for frame in frames().filter(|frame| frame.file == "go-python-json" && frame.is_request && frame.code == 34) {
        let heartbeat: HeartbeatData = json::from_slice(&frame.body).unwrap();
        assert!(!heartbeat.client_id.is_empty());
        for consumer in &heartbeat.consumer_data_set {
            assert_eq!(
                (consumer.consume_type, consumer.message_model),
                (ConsumeType::Passively, MessageModel::Clustering)
            );
            assert!(
                consumer
                    .subscription_data_set
                    .iter()
                    .all(|sub| sub.sub_version > 1_795_000_000_000)
            );
        }
    }
}
