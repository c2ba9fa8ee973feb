//! Messages that wait for their time.

use oxmq_protocol::body::DelayOffsetSerializeWrapper;
use oxmq_protocol::requests::*;
use oxmq_tests::eventually;

use crate::node::{Node, VirtualClock, body};

#[test]
fn a_delayed_message_arrives_when_its_level_says() {
    let clock = VirtualClock::new();
    let node = Node::start_in(clock.environment(), |_| {});
    let mut client = node.connect();
    client.create_topic("orders", 2);
    client.send(
        "orders",
        1,
        "later",
        &[("DELAY", "1"), ("TAGS", "a"), ("UNIQ_KEY", "K")],
    );
    client.send("orders", 1, "much later", &[("DELAY", "18")]);
    node.pass(&clock, 999);
    assert!(client.pull("g", "orders", 1, 0).is_empty());
    node.pass(&clock, 1);
    let found = client.pull_some("g", "orders", 1, 0);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].message.body, "later");
    let properties = &found[0].message.properties;
    for (name, value) in [
        ("DELAY", "1"),
        ("REAL_TOPIC", "orders"),
        ("REAL_QID", "1"),
        ("TAGS", "a"),
        ("UNIQ_KEY", "K"),
    ] {
        assert_eq!(properties.get(name), Some(value), "{name}");
    }
    let progress: DelayOffsetSerializeWrapper = body(&client.ok::<request::GetAllDelayOffset>(&(), ""));
    assert_eq!(progress.offset_table.get(&1), Some(&1));
}

#[test]
fn what_is_due_after_a_restart_is_delivered_once() {
    let node = Node::start();
    let mut client = node.connect();
    client.create_topic("orders", 1);
    client.send("orders", 0, "first", &[("DELAY", "1")]);
    assert_eq!(client.pull_some("g", "orders", 0, 0).len(), 1);
    for _ in 0..3 {
        client.send("orders", 0, "second", &[("DELAY", "1")]);
    }
    drop(client);
    let node = node.restart();
    let mut client = node.connect();
    eventually(|| client.pull("g", "orders", 0, 0).len() == 4);
    // Progress follows what is delivered.
    eventually(|| {
        let progress: DelayOffsetSerializeWrapper = body(&client.ok::<request::GetAllDelayOffset>(&(), ""));
        progress.offset_table.get(&1) == Some(&4)
    });
    let node = node.restart();
    assert!(node.config_file("delayOffset.json").contains("1:4"));
    assert_eq!(node.connect().pull("g", "orders", 0, 0).len(), 4);
}
