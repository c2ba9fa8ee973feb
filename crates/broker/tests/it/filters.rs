//! SQL expressions: who may use them, what they choose, and what survives.

use std::time::Duration;

use oxmq_broker::BrokerConfig;
use oxmq_protocol::RemotingCommand;
use oxmq_protocol::body::{CheckClientRequestBody, EXPRESSION_TYPE_SQL92, SubscriptionData};
use oxmq_protocol::json;
use oxmq_protocol::requests::{PullMessageHeader, SendMessageHeaderV2, request};

use crate::harness::*;

fn enabled(config: &mut BrokerConfig) {
    config.enable_property_filter = true;
}

fn with_a(topic: &str, a: u32) -> SendMessageHeaderV2 {
    SendMessageHeaderV2 {
        properties: Some(properties(&[("a", &a.to_string()), ("TAGS", "t")])),
        ..message(topic, 0)
    }
}

/// A pull that brings its expression.
fn by_sql(expression: &str, queue_offset: i64) -> PullMessageHeader {
    PullMessageHeader {
        subscription: Some(expression.into()),
        expression_type: Some(EXPRESSION_TYPE_SQL92.into()),
        ..pull("orders", 0, queue_offset)
    }
}

/// A pull by the expression that heartbeats brought.
fn by_heartbeat(sub_version: i64) -> PullMessageHeader {
    PullMessageHeader {
        sys_flag: 0,
        subscription: None,
        expression_type: Some(EXPRESSION_TYPE_SQL92.into()),
        sub_version,
        ..pull("orders", 0, 0)
    }
}

fn sql(expression: &str, sub_version: i64) -> SubscriptionData {
    SubscriptionData {
        topic: "orders".into(),
        expression_type: EXPRESSION_TYPE_SQL92.into(),
        sub_string: expression.into(),
        sub_version,
        ..SubscriptionData::default()
    }
}

async fn check_config(client: &Client, subscription: SubscriptionData) -> RemotingCommand {
    let body = CheckClientRequestBody {
        client_id: "client-1".into(),
        group: "cg".into(),
        namespace: None,
        subscription_data: subscription,
    };
    client
        .call::<request::CheckClientConfig>(&(), json::to_vec(&body))
        .await
}

fn queue_offsets(reply: &RemotingCommand) -> Vec<i64> {
    assert_eq!(reply.header.code, 0, "{:?}", reply.header.remark);
    records(reply).iter().map(|record| record.queue_offset()).collect()
}

#[tokio::test]
async fn an_expression_can_be_tried_before_it_is_used() {
    let broker = Node::start_with(enabled);
    let client = broker.client();
    let reply = check_config(&client, sql("a > 5", 1)).await;
    assert_eq!((reply.header.code, reply.header.remark), (0, None));
    let reply = check_config(&client, sql("a > 5 AND b", 1)).await;
    assert_eq!(reply.header.code, 0);
    let reply = check_config(&client, sql("a > 5 AND > b", 1)).await;
    let remark = "expected a property, a value or \"(\", found \">\" at line 1, column 11";
    refused(&reply, 23, remark);
    let other = SubscriptionData {
        expression_type: "XPATH".into(),
        ..sql("a", 1)
    };
    refused(
        &check_config(&client, other).await,
        23,
        "there are no expressions of type XPATH",
    );
    let tags = SubscriptionData::parse("orders", "a || b", 1).unwrap();
    assert_eq!(check_config(&client, tags).await.header.code, 0);
}

#[tokio::test]
async fn without_the_setting_expressions_are_refused() {
    let broker = Node::start();
    let client = broker.client();
    client.create_topic("orders", 1, false).await;
    let remark = "The broker does not support consumer to filter message by SQL92";
    refused(&check_config(&client, sql("a > 5", 1)).await, 1, remark);
    refused(&check_config(&client, sql("a >", 1)).await, 1, remark);
    refused(&client.pull(&by_sql("a > 5", 0)).await, 1, remark);
    client.subscribe_to("cg", sql("a > 5", 1)).await;
    refused(&client.pull(&by_heartbeat(1)).await, 1, remark);
}

#[tokio::test]
async fn a_pull_brings_what_its_expression_takes() {
    let broker = Node::start_with(enabled);
    let client = broker.client();
    client.create_topic("orders", 1, false).await;
    for a in 0..10 {
        sent(&client.send(&with_a("orders", a), "x").await);
    }
    let offsets = |expression: &'static str, from| {
        let client = client.clone();
        async move { queue_offsets(&client.pull(&by_sql(expression, from)).await) }
    };
    assert_eq!(offsets("a BETWEEN 3 AND 5", 0).await, [3, 4, 5]);
    assert_eq!(offsets("a > 3 AND TAGS = 't' AND b IS NULL", 6).await, [6, 7, 8, 9]);
    // One too long for the thread that serves connections.
    let long = format!("a = 4{}", " OR a = 7".repeat(300));
    assert_eq!(queue_offsets(&client.pull(&by_sql(&long, 0)).await), [4, 7]);
    let reply = client.pull(&by_sql("b = 1", 0)).await;
    assert_eq!(
        (reply.header.code, reply.header.remark.as_deref()),
        (20, Some("NO_MATCHED_MESSAGE"))
    );
    let remark = "parse the consumer's subscription failed expected a property, a value or \"(\", found the end at line 1, \
                  column 4";
    refused(&client.pull(&by_sql("a =", 0)).await, 23, remark);
    refused(
        &client.pull(&by_sql("", 0)).await,
        23,
        "parse the consumer's subscription failed",
    );
}

#[tokio::test]
async fn heartbeats_bring_expressions_that_outlive_the_broker() {
    let mut broker = Node::start_with(enabled);
    let client = broker.client();
    client.create_topic("orders", 1, false).await;
    for a in 0..4 {
        sent(&client.send(&with_a("orders", a), "x").await);
    }
    client.subscribe_to("cg", sql("a >= 2", 5)).await;
    assert_eq!(queue_offsets(&client.pull(&by_heartbeat(5)).await), [2, 3]);
    refused(
        &client.pull(&by_heartbeat(6)).await,
        25,
        "the consumer's subscription not latest",
    );
    // An expression that does not compile takes the old one away.
    client.subscribe_to("cg", sql("a >= ", 7)).await;
    let remark = "The broker's consumer filter data is not exist!Your expression may be wrong! expected a property, a value \
                  or \"(\", found the end at line 1, column 6";
    refused(&client.pull(&by_heartbeat(7)).await, 27, remark);
    client.subscribe_to("cg", sql("a <= 1", 8)).await;
    assert_eq!(queue_offsets(&client.pull(&by_heartbeat(8)).await), [0, 1]);
    broker.stop();
    broker.start_again();
    // The group is offline until its heartbeat, with which the expression needs no compiling.
    let client = broker.client();
    let kept = broker.broker().config().store_path_root_dir.clone() + "/config/consumerFilter.json";
    assert!(
        std::fs::read_to_string(kept)
            .unwrap()
            .contains("\"expression\":\"a <= 1\"")
    );
    client.subscribe_to("cg", sql("a = 3", 8)).await;
    assert_eq!(queue_offsets(&client.pull(&by_heartbeat(8)).await), [0, 1]);
}

#[tokio::test]
async fn a_waiting_pull_is_woken_by_a_match_only() {
    let broker = Node::start_with(enabled);
    let (consumer, producer) = (broker.client(), broker.client());
    consumer.create_topic("orders", 1, false).await;
    for cost in [1, 300] {
        let from = broker
            .broker()
            .store
            .queue("orders", 0)
            .map_or(0, |queue| queue.max_offset());
        let header = PullMessageHeader {
            sys_flag: 4 | 2,
            suspend_timeout_millis: 8_000,
            ..by_sql(&vec!["a = 77"; cost].join(" OR "), from)
        };
        let waiting = {
            let consumer = consumer.clone();
            tokio::spawn(async move {
                let mut header = header;
                loop {
                    // What takes long to evaluate is not held through messages that do not match.
                    let reply = consumer.pull(&header).await;
                    if reply.header.code != 20 || cost == 1 {
                        return reply;
                    }
                    let next = reply.header.ext_fields.get("nextBeginOffset").unwrap();
                    header.queue_offset = next.parse().unwrap();
                }
            })
        };
        tokio::time::sleep(Duration::from_millis(20)).await;
        for a in 0..100 {
            let a = if a == 77 { 0 } else { a };
            sent(&producer.send(&with_a("orders", a), "x").await);
        }
        assert!(!waiting.is_finished());
        sent(&producer.send(&with_a("orders", 77), "x").await);
        assert_eq!(queue_offsets(&waiting.await.unwrap()), [from + 100]);
    }
}

#[tokio::test]
async fn one_pull_looks_through_so_many_entries() {
    let broker = Node::start_with(|config| {
        enabled(config);
        config.max_filter_message_size = 100 * 20;
    });
    let client = broker.client();
    client.create_topic("orders", 1, false).await;
    for a in 0..150 {
        sent(&client.send(&with_a("orders", a), "x").await);
    }
    let reply = client.pull(&by_sql("a = 120", 0)).await;
    assert_eq!(reply.header.code, 20);
    assert_eq!(reply.header.ext_fields.get("nextBeginOffset"), Some("100"));
    assert_eq!(queue_offsets(&client.pull(&by_sql("a = 120", 100)).await), [120]);
}
