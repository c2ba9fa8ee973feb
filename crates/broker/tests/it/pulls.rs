//! What a pull brings, and when.

use std::time::{Duration, Instant};

use oxmq_protocol::requests::{PullMessageHeader, PullMessageReply, SendMessageHeaderV2};
use oxmq_protocol::{FieldSet, RemotingCommand, SerializeType};

use crate::harness::*;

fn offsets(reply: &RemotingCommand) -> (i64, i64, i64) {
    let fields = PullMessageReply::read(&reply.header.ext_fields).unwrap();
    (fields.next_begin_offset, fields.min_offset, fields.max_offset)
}

fn tagged(topic: &str, tag: &str) -> SendMessageHeaderV2 {
    SendMessageHeaderV2 {
        properties: Some(properties(&[("TAGS", tag)])),
        ..message(topic, 0)
    }
}

/// With a hold time.
fn held(header: PullMessageHeader, ms: i64) -> PullMessageHeader {
    PullMessageHeader {
        sys_flag: header.sys_flag | 2,
        suspend_timeout_millis: ms,
        ..header
    }
}

#[tokio::test]
async fn offsets_outside_of_the_queue_are_corrected() {
    let broker = Node::start();
    for serialize in [SerializeType::Json, SerializeType::RocketMq] {
        let client = broker.client_with(serialize);
        client.create_topic("orders", 2, false).await;
        sent(&client.send(&message("orders", 0), "x").await);
        let max = broker.broker().store.queue("orders", 0).unwrap().max_offset();
        for (queue_id, queue_offset, code, status, next) in [
            (0, max, 19, "OFFSET_OVERFLOW_ONE", max),
            (0, max + 5, 21, "OFFSET_OVERFLOW_BADLY", max),
            (0, -1, 21, "OFFSET_TOO_SMALL", 0),
            (1, 0, 19, "NO_MESSAGE_IN_QUEUE", 0),
            (1, 9, 21, "NO_MESSAGE_IN_QUEUE", 0),
        ] {
            let reply = client.pull(&pull("orders", queue_id, queue_offset)).await;
            assert_eq!(
                (reply.header.code, reply.header.remark.as_deref()),
                (code, Some(status))
            );
            assert_eq!(offsets(&reply).0, next, "{status}");
        }
    }
}

#[tokio::test]
async fn a_waiting_pull_is_answered_by_the_next_message() {
    let broker = Node::start();
    let (consumer, producer) = (broker.client(), broker.client());
    consumer.create_topic("orders", 1, false).await;
    for round in 0..20 {
        let waiting = {
            let consumer = consumer.clone();
            tokio::spawn(async move { consumer.pull(&held(pull("orders", 0, round), 8_000)).await })
        };
        if round % 2 == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        sent(&producer.send(&message("orders", 0), "x").await);
        let reply = waiting.await.unwrap();
        assert_eq!(reply.header.code, 0);
        assert_eq!(records(&reply)[0].queue_offset(), round);
    }
}

#[tokio::test]
async fn a_pull_waits_for_what_matches_its_tags() {
    let broker = Node::start();
    let (consumer, producer) = (broker.client(), broker.client());
    consumer.create_topic("orders", 1, false).await;
    let vip = PullMessageHeader {
        subscription: Some("vip || eu".into()),
        ..pull("orders", 0, 0)
    };
    let waiting = tokio::spawn(async move { consumer.pull(&held(vip, 8_000)).await });
    while broker.broker().store.queue("orders", 0).is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for _ in 0..100 {
        sent(&producer.send(&tagged("orders", "other"), "x").await);
    }
    assert!(!waiting.is_finished());
    sent(&producer.send(&tagged("orders", "eu"), "eu").await);
    let reply = waiting.await.unwrap();
    let records = records(&reply);
    assert_eq!(
        (records.len(), records[0].body(), records[0].queue_offset()),
        (1, &b"eu"[..], 100)
    );
    assert_eq!(offsets(&reply), (101, 0, 101));
}

#[tokio::test]
async fn what_does_not_match_is_skipped_at_once() {
    let broker = Node::start();
    let client = broker.client();
    client.create_topic("orders", 1, false).await;
    for tag in ["a", "b", "a", "c"] {
        sent(&client.send(&tagged("orders", tag), tag_body(tag)).await);
    }
    let only = |expression: &str| PullMessageHeader {
        subscription: Some(expression.into()),
        ..pull("orders", 0, 0)
    };
    let reply = client.pull(&only("a || c")).await;
    let bodies: Vec<_> = records(&reply).iter().map(|record| record.body().to_vec()).collect();
    assert_eq!(bodies, [b"a", b"a", b"c"]);
    let reply = client.pull(&held(only("z"), 8_000)).await;
    assert_eq!(
        (reply.header.code, reply.header.remark.as_deref()),
        (20, Some("NO_MATCHED_MESSAGE"))
    );
    assert_eq!(offsets(&reply).0, 4);
}

fn tag_body(tag: &str) -> &'static str {
    match tag {
        "a" => "a",
        "b" => "b",
        _ => "c",
    }
}

#[tokio::test]
async fn a_pull_that_waited_long_enough_is_answered_empty() {
    let broker = Node::start();
    let client = broker.client();
    client.create_topic("orders", 1, false).await;
    let started = Instant::now();
    let reply = client.pull(&held(pull("orders", 0, 0), 300)).await;
    assert_eq!(reply.header.code, 19);
    let waited = started.elapsed();
    assert!(
        waited >= Duration::from_millis(250) && waited < Duration::from_secs(5),
        "{waited:?}"
    );
}

#[tokio::test]
async fn one_pull_takes_at_most_so_many_messages() {
    let broker = Node::start();
    let client = broker.client();
    client.create_topic("orders", 1, false).await;
    for _ in 0..50 {
        sent(&client.send(&message("orders", 0), "x").await);
    }
    for (asked, given) in [(32, 32), (100, 32), (5, 5), (0, 1), (-7, 1)] {
        let header = PullMessageHeader {
            max_msg_nums: asked,
            ..pull("orders", 0, 0)
        };
        let reply = client.pull(&header).await;
        assert_eq!(records(&reply).len(), given, "asked for {asked}");
        assert_eq!(offsets(&reply).0, given as i64);
    }
}

#[tokio::test]
async fn subscriptions_of_heartbeats_count_where_the_request_has_none() {
    let broker = Node::start();
    let client = broker.client();
    client.create_topic("orders", 1, false).await;
    sent(&client.send(&tagged("orders", "a"), "a").await);
    let bare = PullMessageHeader {
        sys_flag: 0,
        subscription: None,
        sub_version: 5,
        ..pull("orders", 0, 0)
    };
    const FAQ: &str = "\nSee https://rocketmq.apache.org/docs/bestPractice/06FAQ for further details.";
    let remark = format!("the consumer's group info not exist{FAQ}");
    refused(&client.pull(&bare).await, 24, &remark);
    client.subscribe("cg", "others", "*", 5).await;
    let remark = format!("the consumer's subscription not exist{FAQ}");
    refused(&client.pull(&bare).await, 24, &remark);
    client.subscribe("cg", "orders", "b", 4).await;
    refused(&client.pull(&bare).await, 25, "the consumer's subscription not latest");
    client.subscribe("cg", "orders", "b", 5).await;
    assert_eq!(client.pull(&bare).await.header.code, 20);
    client.subscribe("cg", "orders", "a", 6).await;
    assert_eq!(client.pull(&bare).await.header.code, 0);
}

#[tokio::test]
async fn pulls_that_cannot_be_served_are_refused_in_the_words_of_the_original() {
    let broker = Node::start();
    let client = broker.client();
    client.create_topic("orders", 2, false).await;
    let reply = client.pull(&pull("nowhere", 0, 0)).await;
    let remark = "topic[nowhere] not exist, apply first please! \nSee https://rocketmq.apache.org/docs/bestPractice/06FAQ \
                  for further details.";
    refused(&reply, 17, remark);
    for queue_id in [2, -1, i32::MAX, i32::MIN] {
        let reply = client.pull(&pull("orders", queue_id, 0)).await;
        let remark = reply.header.remark.unwrap();
        let wanted = format!(
            "queueId[{queue_id}] is illegal, topic:[orders] topicConfig.readQueueNums:[2] consumer:[/127.0.0.1:"
        );
        assert!(reply.header.code == 29 && remark.starts_with(&wanted), "{remark}");
    }
    let sql = PullMessageHeader {
        expression_type: Some("SQL92".into()),
        subscription: Some("a > 5".into()),
        ..pull("orders", 0, 0)
    };
    let remark = "The broker does not support consumer to filter message by SQL92";
    refused(&client.pull(&sql).await, 1, remark);
    let bars = PullMessageHeader {
        subscription: Some("||".into()),
        ..pull("orders", 0, 0)
    };
    refused(
        &client.pull(&bars).await,
        23,
        "parse the consumer's subscription failed",
    );
    let reply = client
        .pull(&PullMessageHeader {
            consumer_group: "bad group".into(),
            ..pull("orders", 0, 0)
        })
        .await;
    assert_eq!(reply.header.code, 26);
}

#[tokio::test]
async fn offsets_are_committed_by_pulls_and_survive_a_restart() {
    let mut broker = Node::start();
    let client = broker.client();
    client.create_topic("orders", 1, false).await;
    sent(&client.send(&message("orders", 0), "kept").await);
    let committing = PullMessageHeader {
        sys_flag: 5,
        commit_offset: 1,
        ..pull("orders", 0, 0)
    };
    assert_eq!(client.pull(&committing).await.header.code, 0);
    assert_eq!(broker.broker().consumer_offsets.committed("cg", "orders", 0), Some(1));
    broker.stop();
    broker.start_again();
    assert_eq!(broker.broker().consumer_offsets.committed("cg", "orders", 0), Some(1));
    let client = broker.client();
    let reply = client.pull(&pull("orders", 0, 0)).await;
    assert_eq!(records(&reply)[0].body(), b"kept");
    assert_eq!(sent(&client.send(&message("orders", 0), "next").await).queue_offset, 1);
}
