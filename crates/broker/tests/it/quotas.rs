//! What is beyond a quota comes later, in its order, and is not lost. Times are only looked at from below: a busy machine
//! may always take longer.

use std::time::{Duration, Instant};

use oxmq_broker::MetricsExporterType;
use oxmq_protocol::body::SubscriptionGroupConfig;
use oxmq_protocol::message::decode_messages;
use oxmq_protocol::requests::*;
use oxmq_protocol::{RemotingCommand, SerializeType};
use oxmq_tests::{encode, eventually};

use crate::node::*;
use crate::pops::popping;

fn declare(client: &mut Client, topic: &str, attributes: &str) {
    let header = CreateTopicHeader {
        attributes: Some(attributes.into()),
        ..topic_header(topic, 1)
    };
    client.ok::<request::UpdateAndCreateTopic>(&header, "");
}

fn declare_group(client: &mut Client, group: &str, attributes: &[(&str, &str)]) {
    let attributes = attributes.iter().map(|(key, value)| ((*key).into(), (*value).into()));
    let config = SubscriptionGroupConfig {
        attributes: attributes.collect(),
        ..SubscriptionGroupConfig::new(group)
    };
    client.ok::<request::UpdateAndCreateSubscriptionGroup>(&(), json_of(&config));
}

fn send_header(topic: &str) -> SendMessageHeader {
    SendMessageHeader {
        producer_group: "p".into(),
        topic: topic.into(),
        default_topic: "TBW102".into(),
        default_topic_queue_nums: 1,
        ..SendMessageHeader::default()
    }
}

fn send_many(client: &mut Client, topic: &str, count: usize) -> Duration {
    let started = Instant::now();
    for number in 0..count {
        client.send(topic, 0, &number.to_string(), &[]);
    }
    started.elapsed()
}

fn bodies(reply: &RemotingCommand) -> Vec<usize> {
    let messages = decode_messages(&reply.body, true).unwrap();
    let number = |body: &[u8]| std::str::from_utf8(body).unwrap().parse().unwrap();
    messages.iter().map(|message| number(&message.message.body)).collect()
}

/// Everything that a topic's queue holds.
fn stored(node: &Node, topic: &str) -> Vec<usize> {
    let mut client = node.connect();
    let mut all: Vec<usize> = Vec::new();
    loop {
        let found = client.pull("reader", topic, 0, all.len() as i64);
        if found.is_empty() {
            return all;
        }
        let number = |body: &[u8]| std::str::from_utf8(body).unwrap().parse::<usize>().unwrap();
        all.extend(found.iter().map(|message| number(&message.message.body)));
    }
}

#[test]
fn a_producer_that_waits_for_its_answers_is_paced() {
    let node = Node::start_with(|config| {
        config.metrics_exporter_type = MetricsExporterType::Prom;
        config.metrics_prom_exporter_port = 0;
    });
    let mut client = node.connect();
    declare(&mut client, "orders", "+quota.messages.per.second=50");
    assert!(send_many(&mut client, "orders", 75) >= Duration::from_millis(480));
    assert_eq!(stored(&node, "orders"), (0..75).collect::<Vec<_>>());
    let labels = [("quota", "topic"), ("name", "orders")];
    let scrape = node.scrape();
    assert!(scrape.value("rocketmq_quota_delayed_total", &labels) >= 1.0);
    assert_eq!(scrape.value("rocketmq_quota_refused_total", &labels), 0.0);
}

#[test]
fn bytes_are_counted_too() {
    let node = Node::start();
    let mut client = node.connect();
    declare(&mut client, "orders", "+quota.bytes.per.second=10000");
    let started = Instant::now();
    // The first leaves a debt that the second waits for.
    for _ in 0..2 {
        client.send("orders", 0, &"1".repeat(15_000), &[]);
    }
    assert!(started.elapsed() >= Duration::from_millis(490));
}

#[test]
fn a_flood_is_held_in_its_order_and_what_would_wait_too_long_is_refused_as_busy() {
    let node = Node::start();
    let mut client = node.connect();
    declare(&mut client, "orders", "+quota.messages.per.second=100");
    let started = Instant::now();
    for number in 0..400 {
        let mut command =
            RemotingCommand::request::<request::SendMessage>(&send_header("orders"), number.to_string().into());
        command.header.opaque = 1000 + number;
        client.write(&command);
    }
    let mut accepted = Vec::new();
    for _ in 0..400 {
        let reply = client.read_reply();
        match reply.header.code {
            0 => accepted.push((reply.header.opaque - 1000) as usize),
            2 => {
                let remark = reply.header.remark.unwrap();
                assert_eq!(
                    remark,
                    "[OVERLOAD]system busy, start flow control for a while, the quota of topic orders is used up"
                );
            }
            code => panic!("{code}"),
        }
    }
    let passed = accepted.len() as f64;
    assert!(
        passed >= 200.0,
        "a second's worth at once, and one that waits: {passed}"
    );
    let allowed = 200.0 + 100.0 * started.elapsed().as_secs_f64() + 1.0;
    assert!(passed <= allowed, "{passed} of {allowed}");
    assert!(accepted.is_sorted());
    assert_eq!(stored(&node, "orders"), accepted);
}

#[test]
fn a_consumer_group_gets_no_more_than_its_quota_and_every_message_once() {
    let node = Node::start();
    let mut client = node.connect();
    client.create_topic("orders", 1);
    declare_group(&mut client, "g", &[("+quota.messages.per.second", "40")]);
    send_many(&mut client, "orders", 60);
    let started = Instant::now();
    let mut got = Vec::new();
    while got.len() < 60 {
        let header = PullMessageHeader {
            consumer_group: "g".into(),
            topic: "orders".into(),
            queue_offset: got.len() as i64,
            max_msg_nums: 32,
            sys_flag: 6,
            suspend_timeout_millis: 15_000,
            subscription: Some("*".into()),
            ..PullMessageHeader::default()
        };
        let reply = client.call::<request::PullMessage>(&header, "");
        assert_eq!(reply.header.code, 0, "{:?}", reply.header);
        got.extend(bodies(&reply));
        let allowed = 40.0 + 40.0 * started.elapsed().as_secs_f64();
        assert!(got.len() as f64 <= allowed, "{} of {allowed}", got.len());
    }
    assert_eq!(got, (0..60).collect::<Vec<_>>());
    // Others are not held up.
    assert_eq!(stored(&node, "orders").len(), 60);
}

#[test]
fn pops_come_under_the_quota_too() {
    let node = Node::start();
    let mut client = node.connect();
    client.create_topic("orders", 1);
    declare_group(&mut client, "g", &[("+quota.messages.per.second", "40")]);
    send_many(&mut client, "orders", 60);
    let (started, mut got) = (Instant::now(), Vec::new());
    while got.len() < 60 {
        let header = PopMessageHeader {
            poll_time: 15_000,
            born_time: node.broker().now_ms(),
            ..popping("orders")
        };
        let reply = client.call::<request::PopMessage>(&header, "");
        if reply.header.code == 0 {
            got.extend(bodies(&reply));
        }
        let allowed = 40.0 + 40.0 * started.elapsed().as_secs_f64();
        assert!(got.len() as f64 <= allowed, "{} of {allowed}", got.len());
    }
    got.sort_unstable();
    assert_eq!(got, (0..60).collect::<Vec<_>>());
}

#[test]
fn a_pull_that_may_not_wait_for_messages_finds_nothing_rather_than_an_error() {
    let node = Node::start_with(|config| config.quota_hold_time_ms = 10);
    let mut client = node.connect();
    client.create_topic("orders", 1);
    declare_group(&mut client, "g", &[("+quota.bytes.per.second", "1")]);
    client.send("orders", 0, "first", &[]);
    client.send("orders", 0, "second", &[]);
    assert_eq!(
        client.pull("g", "orders", 0, 0).len(),
        1,
        "the first is delivered whatever its size"
    );
    for _ in 0..3 {
        assert_eq!(client.pull("g", "orders", 0, 1).len(), 0);
    }
    declare_group(&mut client, "g", &[("-quota.bytes.per.second", "")]);
    assert_eq!(client.pull("g", "orders", 0, 1).len(), 1);
}

#[test]
fn defaults_change_while_running_and_attributes_go_before_them() {
    let node = Node::start_with(|config| config.quota_hold_time_ms = 0);
    let mut client = node.connect();
    let busy = |client: &mut Client, topic: &str| {
        let reply = client.call::<request::SendMessage>(&send_header(topic), "1");
        assert!([0, 2].contains(&reply.header.code), "{:?}", reply.header);
        reply.header.code == 2
    };
    client.create_topic("orders", 1);
    declare(&mut client, "free", "+quota.messages.per.second=0");
    client.ok::<request::UpdateBrokerConfig>(&(), "quotaTopicMessagesPerSecond=1");
    eventually(|| busy(&mut client, "orders"));
    for _ in 0..20 {
        assert!(!busy(&mut client, "free"));
    }
    client.ok::<request::UpdateBrokerConfig>(&(), "quotaTopicMessagesPerSecond=0\nquotaClientMessagesPerSecond=1");
    eventually(|| busy(&mut client, "free"));
    // Each connection has its own.
    assert!(!busy(&mut node.connect(), "free"));
    client.ok::<request::UpdateBrokerConfig>(&(), "quotaClientMessagesPerSecond=0");
    for _ in 0..20 {
        assert!(!busy(&mut client, "orders"));
    }
}

#[test]
fn messages_of_a_batch_count_one_by_one() {
    let node = Node::start_with(|config| config.quota_hold_time_ms = 0);
    let mut client = node.connect();
    declare(&mut client, "orders", "+quota.messages.per.second=10");
    let batch = crate::harness::batch(&[("", "1"); 30]);
    let header = SendMessageHeaderV2 {
        batch: true,
        ..crate::harness::message("orders", 0)
    };
    let started = Instant::now();
    for _ in 0..2 {
        eventually(|| {
            let reply = client.call::<request::SendBatchMessage>(&header, batch.clone());
            assert!([0, 2].contains(&reply.header.code), "{:?}", reply.header);
            reply.header.code == 0
        });
    }
    // Of the 30 that passed at once 20 are owed.
    assert!(
        started.elapsed() >= Duration::from_millis(1990),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn a_broker_that_stops_answers_what_it_holds() {
    let mut node = Node::start_with(|config| config.quota_hold_time_ms = 10_000);
    let mut client = node.connect();
    declare(&mut client, "orders", "+quota.messages.per.second=1");
    // In one piece: what the broker has not read when it stops is not answered.
    let mut requests = Vec::new();
    for opaque in 1..=5 {
        let mut command = RemotingCommand::request::<request::SendMessage>(&send_header("orders"), "1".into());
        command.header.opaque = opaque;
        requests.extend_from_slice(&encode(&command, SerializeType::Json));
    }
    client.0.write(&requests);
    assert_eq!(client.read_reply().header.opaque, 1);
    let started = Instant::now();
    node.stop();
    for opaque in 2..=5 {
        let reply = client.read_reply();
        assert_eq!((reply.header.opaque, reply.header.code), (opaque, 0));
    }
    assert!(started.elapsed() < Duration::from_secs(4));
}
