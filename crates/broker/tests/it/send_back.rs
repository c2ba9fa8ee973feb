//! Messages that consumers give back.

use oxmq_protocol::body::SubscriptionGroupConfig;
use oxmq_protocol::message_id::OffsetMessageId;
use oxmq_protocol::requests::*;

use crate::node::{Node, json_of};

fn back(offset: i64, delay_level: i32) -> ConsumerSendMsgBackHeader {
    ConsumerSendMsgBackHeader {
        offset,
        group: "g".into(),
        delay_level,
        max_reconsume_times: Some(2),
        ..ConsumerSendMsgBackHeader::default()
    }
}

#[test]
fn a_message_is_retried_and_then_dead() {
    let node = Node::start();
    let mut client = node.connect();
    client.create_topic("orders", 1);
    let sent = client.send("orders", 0, "x", &[("TAGS", "a")]);
    let id: OffsetMessageId = sent.msg_id.parse().unwrap();

    client.ok::<request::ConsumerSendMsgBack>(&back(id.physical_offset, 1), "");
    let retried = client.pull_some("g", "%RETRY%g", 0, 0);
    assert_eq!(retried[0].reconsume_times, 1);
    let properties = &retried[0].message.properties;
    assert_eq!(properties.get("RETRY_TOPIC"), Some("orders"));
    assert_eq!(properties.get("ORIGIN_MESSAGE_ID"), Some(sent.msg_id.as_str()));
    assert_eq!(
        (properties.get("TAGS"), properties.get("DELAY")),
        (Some("a"), Some("1"))
    );

    client.ok::<request::ConsumerSendMsgBack>(&back(retried[0].physical_offset, 1), "");
    let again = client.pull_some("g", "%RETRY%g", 0, 1);
    assert_eq!(again[0].reconsume_times, 2);

    client.ok::<request::ConsumerSendMsgBack>(&back(again[0].physical_offset, 1), "");
    let dead = client.pull_some("g", "%DLQ%g", 0, 0);
    assert_eq!(dead[0].reconsume_times, 3);
    let properties = &dead[0].message.properties;
    assert_eq!(properties.get("RETRY_TOPIC"), Some("orders"));
    assert_eq!(properties.get("ORIGIN_MESSAGE_ID"), Some(sent.msg_id.as_str()));
}

#[test]
fn a_negative_level_asks_for_the_dead_letters_at_once() {
    let node = Node::start();
    let mut client = node.connect();
    let sent = client.send("orders", 0, "x", &[]);
    let id: OffsetMessageId = sent.msg_id.parse().unwrap();
    client.ok::<request::ConsumerSendMsgBack>(&back(id.physical_offset, -1), "");
    assert_eq!(client.pull_some("g", "%DLQ%g", 0, 0).len(), 1);
}

#[test]
fn what_cannot_go_back_is_refused() {
    let node = Node::start_with(|config| config.auto_create_subscription_group = false);
    let mut client = node.connect();
    assert_eq!(client.refused::<request::ConsumerSendMsgBack>(&back(0, 0), "").0, 26);
    let config = SubscriptionGroupConfig {
        retry_queue_nums: 0,
        ..SubscriptionGroupConfig::new("g")
    };
    client.ok::<request::UpdateAndCreateSubscriptionGroup>(&(), json_of(&config));
    client.ok::<request::ConsumerSendMsgBack>(&back(12345, 0), "");
    client.ok::<request::UpdateAndCreateSubscriptionGroup>(&(), json_of(&SubscriptionGroupConfig::new("g")));
    assert_eq!(
        client.refused::<request::ConsumerSendMsgBack>(&back(12345, 0), ""),
        (1, "look message by offset failed, 12345".into())
    );
}
