//! Requests captured from Java clients and tools, replayed; the answers must be like those that the original gave: same
//! code, same fields, bodies with the same members.

use std::collections::{BTreeMap, BTreeSet};

use oxmq_protocol::body::{HeartbeatData, SubscriptionGroupConfig};
use oxmq_protocol::message_id::OffsetMessageId;
use oxmq_protocol::requests::*;
use oxmq_protocol::{FieldSet, Header, RemotingCommand, SerializeType, json, topic};
use oxmq_tests::eventually;
use oxmq_tests::golden::{GoldenFrame, frames};
use serde_json::Value;

use crate::node::{Client, Node, consumer, json_of, producer};

/// Requests whose answers need no more than what [`prepare`] sets up.
const REPLAYED: [i32; 47] = [
    12, 14, 15, 17, 18, 21, 25, 26, 28, 29, 30, 31, 32, 33, 34, 35, 36, 38, 41, 42, 43, 45, 46, 200, 201, 202, 203,
    204, 207, 208, 215, 222, 225, 300, 303, 305, 306, 314, 315, 316, 317, 321, 328, 343, 345, 351, 353,
];

/// Members that are tables: their names are data, so that only their values are compared.
const TABLES: [&str; 10] = [
    "topicConfigTable",
    "subscriptionGroupTable",
    "forbiddenTable",
    "offsetTable",
    "groupTopicMap",
    "pullOffsetTable",
    "subscriptionTable",
    "attributes",
    "data",
    "consumeStatsList[0]",
];

struct Exchange {
    request: RemotingCommand,
    answer: RemotingCommand,
}

/// What was asked of the master and answered by it.
fn exchanges(capture: &str) -> Vec<Exchange> {
    let of_master = frames()
        .filter(|frame| frame.file == capture && frame.server == "master" && frame.serialize == SerializeType::Json);
    let (requests, answers): (Vec<_>, Vec<_>) = of_master.partition(|frame| frame.is_request);
    let answers: BTreeMap<(Option<i32>, i32), RemotingCommand> = answers
        .iter()
        .map(|frame| (frame.request, command(frame)))
        .map(|(code, answer)| ((code, answer.header.opaque), answer))
        .collect();
    let exchange = |frame: &GoldenFrame| {
        let request = command(frame);
        let answer = answers.get(&(frame.request, request.header.opaque))?.clone();
        // A counter has to be sampled first, which takes ten seconds.
        let takes_time = request.header.code == 315 && answer.header.code == 0;
        let replayed = REPLAYED.contains(&request.header.code) && !takes_time && !request.header.is_oneway();
        replayed.then_some(Exchange { request, answer })
    };
    requests.iter().filter_map(exchange).collect()
}

/// Records as bodies are no text: those answers are compared without their bodies.
fn command(frame: &GoldenFrame) -> RemotingCommand {
    let header = Header::decode(frame.serialize, &frame.header).unwrap();
    let body = if frame.has_text_body {
        frame.body.clone()
    } else {
        Vec::new()
    };
    RemotingCommand {
        header,
        body: body.into(),
    }
}

/// Brings a fresh broker to where the request was answered as it was: topic, group, messages and members exist, unless
/// the original says that they do not.
fn prepare(client: &mut Client, exchange: &mut Exchange) {
    let answered = exchange.answer.header.code;
    let fields = exchange.request.header.ext_fields.clone();
    let field = |name: &str| fields.get(name).map(str::to_owned);
    let named_topic = field("topic").or_else(|| field("originTopic"));
    let group = field("consumerGroup").or_else(|| field("group"));
    if [17, 29].contains(&answered) {
        return;
    }
    let mut first = 0;
    if let Some(name) = named_topic.filter(|name| exchange.request.header.code != 17 && !topic::is_system_topic(name)) {
        client.create_topic(&name, 4);
        let key = field("key").unwrap_or("k".into());
        for queue_id in 0..4 {
            for _ in 0..10 {
                let sent = client.send(&name, queue_id, "x", &[("KEYS", &key), ("UNIQ_KEY", &key)]);
                let id: OffsetMessageId = sent.msg_id.parse().unwrap();
                first = id.physical_offset;
            }
        }
        if exchange.request.header.code == 12 && answered == 0 {
            // What is stored here is younger than the capture.
            exchange
                .request
                .header
                .ext_fields
                .set("endTimestamp", i64::MAX.to_string());
            let header = QueryMessageHeader::read(&exchange.request.header.ext_fields).unwrap();
            eventually(|| client.call::<request::QueryMessage>(&header, "").header.code == 0);
        }
        if let Some(group) = group.as_ref().filter(|_| ![26, 206].contains(&answered)) {
            client.ok::<request::UpdateAndCreateSubscriptionGroup>(
                &(),
                json_of(&SubscriptionGroupConfig::new(group.as_str())),
            );
            client.heart_beat(&consumer("client", group, &[&name]));
            let commit = UpdateConsumerOffsetHeader {
                consumer_group: Some(group.clone()),
                topic: Some(name),
                queue_id: Some(0),
                commit_offset: Some(3),
                broker_name: None,
            };
            if answered != 22 {
                client.ok::<request::UpdateConsumerOffset>(&commit, "");
            }
        }
    } else if let Some(group) = group.filter(|_| answered == 0) {
        client.heart_beat(&consumer("client", &group, &["some-topic"]));
    }
    if let Some(group) = field("producerGroup").filter(|_| answered == 0) {
        client.heart_beat(&producer("client", &group));
    }
    // Where the original's message was, there is none here.
    if answered == 0 && field("offset").is_some() && [33, 36].contains(&exchange.request.header.code) {
        exchange.request.header.ext_fields.set("offset", first.to_string());
    }
}

/// Everything that differs between the two answers.
fn differences(expected: &RemotingCommand, actual: &RemotingCommand) -> Vec<String> {
    let mut found = Vec::new();
    if expected.header.code != actual.header.code {
        found.push(format!(
            "code {} instead of {}, {:?}",
            actual.header.code, expected.header.code, actual.header.remark
        ));
        return found;
    }
    let names = |command: &RemotingCommand| -> BTreeSet<String> {
        command
            .header
            .ext_fields
            .iter()
            .map(|(name, _)| name.to_owned())
            .collect()
    };
    if names(expected) != names(actual) {
        found.push(format!("fields {:?} instead of {:?}", names(actual), names(expected)));
    }
    let remark = |command: &RemotingCommand| command.header.remark.clone().filter(|remark| !remark.is_empty());
    if remark(expected) != remark(actual) {
        found.push(format!("remark {:?} instead of {:?}", remark(actual), remark(expected)));
    }
    match (
        json::from_slice::<Value>(&expected.body),
        json::from_slice::<Value>(&actual.body),
    ) {
        (Ok(expected), Ok(actual)) => compare("body", &expected, &actual, &mut found),
        (Ok(_), Err(_)) => found.push(format!("body {:?}", actual.body)),
        _ => {}
    }
    found
}

/// Compares the members of two JSON values; of lists and tables the first entries.
fn compare(path: &str, expected: &Value, actual: &Value, found: &mut Vec<String>) {
    match (expected, actual) {
        (Value::Object(expected), Value::Object(actual)) => {
            let is_table = TABLES.iter().any(|table| path.ends_with(table));
            if is_table {
                if let (Some(expected), Some(actual)) = (expected.values().next(), actual.values().next()) {
                    compare(&format!("{path}.*"), expected, actual, found);
                }
                return;
            }
            for (name, value) in expected {
                match actual.get(name) {
                    Some(other) => compare(&format!("{path}.{name}"), value, other, found),
                    None if is_measured(name) || is_empty(value) => {}
                    None => found.push(format!("{path} has no {name}")),
                }
            }
            for name in actual
                .keys()
                .filter(|name| !expected.contains_key(*name) && !is_measured(name))
            {
                found.push(format!("{path} has a {name}"));
            }
        }
        (Value::Array(expected), Value::Array(actual)) => {
            if let (Some(expected), Some(actual)) = (expected.first(), actual.first()) {
                compare(&format!("{path}[0]"), expected, actual, found);
            }
        }
        _ if std::mem::discriminant(expected) != std::mem::discriminant(actual) => {
            found.push(format!("{path} is {actual} instead of {expected}"));
        }
        _ => {}
    }
}

/// Keys of the runtime table that depend on what a broker did, and members for filters that were in use.
fn is_measured(name: &str) -> bool {
    name.starts_with("scheduleMessageOffset_") || name.starts_with("commitLogDiskRatio_")
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(serde_json::Map::is_empty)
}

#[test]
fn answers_are_those_of_the_original() {
    let mut found = Vec::new();
    for capture in ["java-5.5.0-json", "java-5.5.0-binary"] {
        for mut exchange in exchanges(capture) {
            let node = Node::start_with(|config| config.enable_property_filter = true);
            let mut client = node.connect();
            prepare(&mut client, &mut exchange);
            let actual = client.exchange(exchange.request.clone());
            for difference in differences(&exchange.answer, &actual) {
                let code = exchange.request.header.code;
                found.push(format!("{code} {:?}: {difference}", exchange.request.header.ext_fields));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn heartbeats_of_all_clients_are_understood() {
    let node = Node::start();
    for frame in frames().filter(|frame| frame.code == 34 && frame.is_request) {
        let data: HeartbeatData = json::from_slice(&frame.body).unwrap();
        let mut client = node.connect();
        client.ok::<request::HeartBeat>(&(), frame.body);
        for group in data.consumer_data_set {
            let header = ConsumerGroupHeader {
                consumer_group: group.group_name,
                broker_name: None,
            };
            client.ok::<request::GetConsumerListByGroup>(&header, "");
        }
    }
}
