//! Messages with a time of their own, by a clock that only goes when it is told to.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use oxmq_protocol::body::TimerMetricsBody;
use oxmq_protocol::message::MessageExt;
use oxmq_protocol::requests::*;
use oxmq_tests::eventually;

use crate::node::*;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

fn start(clock: &VirtualClock) -> Node {
    Node::start_in(clock.environment(), |config| {
        config.recall_message_enable = true;
        config.timer_flush_interval_ms = 10;
    })
}

impl Client {
    fn send_for(&mut self, at: i64, body: &str) -> SendMessageReply {
        self.send(
            "t",
            0,
            body,
            &[("TIMER_DELIVER_MS", &at.to_string()), ("UNIQ_KEY", body)],
        )
    }

    fn bodies(&mut self) -> Vec<String> {
        let text = |message: MessageExt| String::from_utf8(message.message.body.to_vec()).unwrap();
        self.pull("g", "t", 0, 0).into_iter().map(text).collect()
    }

    /// Waits for so many messages and wants no others.
    fn await_bodies(&mut self, expected: &[&str]) {
        eventually(|| self.bodies().len() >= expected.len());
        assert_eq!(self.bodies(), expected);
    }

    fn waiting_for(&mut self, topic: &str) -> i64 {
        let metrics: TimerMetricsBody = body(&self.ok::<request::GetTimerMetrics>(&(), ""));
        metrics.timing_count.get(topic).map_or(0, |metric| metric.count)
    }

    fn recall(&mut self, handle: &str) -> i32 {
        let header = RecallMessageHeader {
            producer_group: Some("p".into()),
            topic: "t".into(),
            recall_handle: handle.into(),
        };
        self.call::<request::RecallMessage>(&header, "").header.code
    }
}

/// Lets the timers show what they do by themselves: whatever is due for the same time is delivered with this one.
fn settle(node: &Node, clock: &VirtualClock, client: &mut Client, topic: &str) {
    client.create_topic(topic, 1);
    client.send(
        topic,
        0,
        "last",
        &[("TIMER_DELIVER_MS", &(clock.now() + 1).to_string())],
    );
    node.pass(clock, 1);
    assert_eq!(client.pull_some("g", topic, 0, 0).len(), 1);
}

/// Units of the timer log that stand for a time from which on a Java broker reads.
fn left_to_java(dir: &Path) -> usize {
    let store = dir.join("store");
    const UNIT_BYTES: usize = 52;
    let long = |bytes: &[u8], at: usize| i64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
    let int = |bytes: &[u8], at: usize| i32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    let read_ms = long(&fs::read(store.join("config/timercheck")).unwrap(), 0);
    let mut units = vec![0; 100 * UNIT_BYTES];
    let mut file = File::open(store.join("timerlog/00000000000000000000")).unwrap();
    file.read_exact(&mut units).unwrap();
    let units = units.chunks(UNIT_BYTES).filter(|unit| int(unit, 0) != 0);
    let slots = units.map(|unit| long(unit, 16) + i64::from(int(unit, 24)));
    slots.filter(|slot_ms| *slot_ms >= read_ms).count()
}

#[test]
fn messages_are_delivered_at_their_millisecond_and_in_its_order() {
    let clock = VirtualClock::new();
    let node = start(&clock);
    let mut client = node.connect();
    client.create_topic("t", 1);
    let now = clock.now();
    for (delay_ms, body) in [(5000, "c"), (2500, "b"), (2499, "a")] {
        client.send_for(now + delay_ms, body);
    }
    node.pass(&clock, 2498);
    settle(&node, &clock, &mut client, "first");
    client.await_bodies(&["a"]);
    node.pass(&clock, 1);
    client.await_bodies(&["a", "b"]);
    node.pass(&clock, 2499);
    settle(&node, &clock, &mut client, "second");
    client.await_bodies(&["a", "b", "c"]);
    let stored: Vec<_> = client
        .pull("g", "t", 0, 0)
        .iter()
        .map(|message| message.store_timestamp)
        .collect();
    assert_eq!(stored, [now + 2499, now + 2500, now + 5000]);
}

#[test]
fn what_waits_is_delivered_after_a_restart_and_what_was_delivered_is_not() {
    let clock = VirtualClock::new();
    let node = start(&clock);
    let mut client = node.connect();
    client.create_topic("t", 1);
    let now = clock.now();
    client.send_for(now + 700, "a");
    client.send_for(now + 800, "b");
    client.send_for(now + HOUR_MS, "c");
    node.pass(&clock, 700);
    client.await_bodies(&["a"]);
    drop(client);
    let node = node.restart_with(|dir| assert_eq!(left_to_java(dir), 2));
    let mut client = node.connect();
    settle(&node, &clock, &mut client, "first");
    client.await_bodies(&["a"]);
    drop(client);
    let node = node.restart_after(&clock, 100);
    let mut client = node.connect();
    client.await_bodies(&["a", "b"]);
    node.pass(&clock, HOUR_MS);
    client.await_bodies(&["a", "b", "c"]);
    assert_eq!(client.waiting_for("t"), 0);
    drop(client);
    node.restart_with(|dir| assert_eq!(left_to_java(dir), 0));
}

#[test]
fn a_message_far_away_goes_round_the_wheel() {
    let clock = VirtualClock::new();
    let node = start(&clock);
    let mut client = node.connect();
    client.create_topic("t", 1);
    let at = clock.now() + 9 * DAY_MS + 123;
    client.send_for(at, "far");
    for day in 0..9 {
        node.pass(&clock, DAY_MS);
        settle(&node, &clock, &mut client, &format!("day{day}"));
        assert_eq!(client.bodies().len(), 0, "after {day} days");
    }
    node.pass(&clock, DAY_MS);
    client.await_bodies(&["far"]);
    let message = &client.pull("g", "t", 0, 0)[0];
    assert!(message.store_timestamp >= at);
    assert_eq!(message.message.properties.get("TIMER_ROLL_TIMES"), Some("4"));
}

#[test]
fn what_is_recalled_does_not_come() {
    let clock = VirtualClock::new();
    let node = start(&clock);
    let mut client = node.connect();
    client.create_topic("t", 1);
    let at = clock.now() + 10_000;
    let recalled = client.send_for(at, "recalled").recall_handle.unwrap();
    let kept = client.send_for(at, "kept").recall_handle.unwrap();
    assert_eq!(client.recall(&recalled), 0);
    drop(client);
    let node = node.restart();
    let mut client = node.connect();
    node.pass(&clock, 10_000);
    client.await_bodies(&["kept"]);
    settle(&node, &clock, &mut client, "first");
    client.await_bodies(&["kept"]);
    assert_eq!(client.recall(&kept), 604, "it was delivered");
}

#[test]
fn what_waits_for_each_topic_is_counted_anew() {
    let clock = VirtualClock::new();
    let node = Node::start_in(clock.environment(), |config| {
        let hours: Vec<String> = (0..24).map(|hour| hour.to_string()).collect();
        config.timer_check_metrics_when = hours.join(";");
        config.timer_flush_interval_ms = 10;
        config.recall_message_enable = true;
    });
    let mut client = node.connect();
    client.create_topic("t", 1);
    let now = clock.now();
    let mut sent = Vec::new();
    for (delay_ms, body) in [
        (1000, "a"),
        (20_000, "b"),
        (20_000, "c"),
        (HOUR_MS, "d"),
        (9 * DAY_MS, "e"),
    ] {
        sent.push(client.send_for(now + delay_ms, body));
    }
    assert_eq!(client.recall(sent[1].recall_handle.as_deref().unwrap()), 0);
    node.pass(&clock, 1000);
    client.await_bodies(&["a"]);
    eventually(|| client.waiting_for("t") == 3);
    drop(client);
    let node = node.restart_with(|dir| {
        let file = dir.join("store/config/timermetrics");
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains("\"count\":3"), "{text}");
        fs::write(file, text.replace("\"count\":3", "\"count\":77")).unwrap();
    });
    let mut client = node.connect();
    eventually(|| client.waiting_for("t") == 3);
    node.pass(&clock, 20_000);
    client.await_bodies(&["a", "c"]);
    eventually(|| client.waiting_for("t") == 2);
}

#[test]
fn more_messages_and_recalls_than_memory_is_to_hold_are_dealt_with_in_parts() {
    let clock = VirtualClock::new();
    let node = Node::start_in(clock.environment(), |config| {
        config.recall_message_enable = true;
        config.timer_current_messages_max = 3;
    });
    let mut client = node.connect();
    client.create_topic("t", 1);
    // All in one slot, due in another order than they are sent in.
    let slot = clock.now() + 10_000;
    let names: Vec<String> = (0..30).map(|number| format!("{number:02}")).collect();
    let mut recalled = Vec::new();
    for (number, name) in names.iter().enumerate().rev() {
        let sent = client.send_for(slot + 10 + (number as i64 * 7) % 30, name);
        recalled.extend(sent.recall_handle.filter(|_| number % 3 == 0));
    }
    for handle in &recalled {
        assert_eq!(client.recall(handle), 0);
    }
    node.pass(&clock, 11_000);
    settle(&node, &clock, &mut client, "first");
    let mut found = client.bodies();
    found.sort();
    let kept = (0..30).filter(|number| number % 3 != 0);
    assert_eq!(found, kept.map(|number| names[number].clone()).collect::<Vec<_>>());
}

#[test]
fn a_time_that_has_passed_is_now_and_an_absurd_one_is_refused() {
    let clock = VirtualClock::new();
    let node = start(&clock);
    let mut client = node.connect();
    client.create_topic("t", 1);
    client.send_for(5, "past");
    client.await_bodies(&["past"]);
    for (property, value) in [("TIMER_DELAY_SEC", "99999999999999999999"), ("TIMER_DELIVER_MS", "x")] {
        let header = SendMessageHeader {
            producer_group: "p".into(),
            topic: "t".into(),
            default_topic: "TBW102".into(),
            default_topic_queue_nums: 4,
            properties: Some(format!("{property}\u{1}{value}\u{2}")),
            ..SendMessageHeader::default()
        };
        assert_eq!(
            client.refused::<request::SendMessage>(&header, "absurd").0,
            13,
            "{property} {value}"
        );
    }
}
