//! What the tables below `config/` promise is in the log, whenever the power is cut: with ASYNC_FLUSH messages are lost,
//! but no progress passes those that took their places.

use std::collections::BTreeSet;

use oxmq_protocol::message::{MessageExt, decode_messages};
use oxmq_protocol::requests::*;
use oxmq_store::disk::SimulatedDisk;
use oxmq_tests::eventually;

use crate::node::*;

/// Nothing is flushed but for a reason.
fn start(clock: &VirtualClock, disk: &SimulatedDisk) -> Node {
    Node::start_in(clock.with_disk(disk), |config| {
        config.flush_consumer_offset_interval_ms = 3_600_000;
        config.flush_interval_commit_log_ms = 3_600_000;
        config.timer_flush_interval_ms = 3_600_000;
    })
}

/// Cuts the power at every operation on the disk that saving takes, and looks at what is found then.
fn at_every_cut(prepare: impl Fn(&Node, &VirtualClock), check: impl Fn(Node, &VirtualClock)) {
    for operations in 0.. {
        let (clock, disk) = (VirtualClock::new(), SimulatedDisk::new());
        let node = start(&clock, &disk);
        prepare(&node, &clock);
        disk.stop_after(operations);
        let saved = node.broker().save_tables();
        let after = disk.crash(operations);
        check(node.go_on_with(after), &clock);
        if saved.is_ok() {
            assert!(operations > 3, "nothing was saved");
            return;
        }
    }
}

impl Client {
    pub(crate) fn max_offset(&mut self, topic: &str) -> i64 {
        let header = QueueHeader {
            topic: topic.into(),
            ..QueueHeader::default()
        };
        fields::<OffsetReply>(&self.ok::<request::GetMaxOffset>(&header, "")).offset
    }

    pub(crate) fn offset_of(&mut self, group: &str, topic: &str) -> Option<i64> {
        let header = QueryConsumerOffsetHeader {
            consumer_group: group.into(),
            topic: topic.into(),
            queue_id: 0,
            set_zero_if_not_found: Some(false),
            broker_name: None,
        };
        let reply = self.call::<request::QueryConsumerOffset>(&header, "");
        (reply.header.code == 0).then(|| fields::<OffsetReply>(&reply).offset)
    }

    pub(crate) fn commit(&mut self, group: &str, topic: &str, commit_offset: i64) {
        let header = UpdateConsumerOffsetHeader {
            consumer_group: Some(group.into()),
            topic: Some(topic.into()),
            queue_id: Some(0),
            commit_offset: Some(commit_offset),
            ..UpdateConsumerOffsetHeader::default()
        };
        self.ok::<request::UpdateConsumerOffset>(&header, "");
    }

    fn pop_all(&mut self) -> Vec<MessageExt> {
        let header = PopMessageHeader {
            consumer_group: "g".into(),
            topic: "t".into(),
            queue_id: -1,
            max_msg_nums: 32,
            invisible_time: 10_000,
            ..PopMessageHeader::default()
        };
        let reply = self.call::<request::PopMessage>(&header, "");
        decode_messages(&reply.body, true).unwrap()
    }
}

#[test]
fn no_offset_passes_messages_that_are_lost() {
    at_every_cut(
        |node, _| {
            let mut client = node.connect();
            client.create_topic("t", 1);
            client.heart_beat(&consumer("c", "g", &["t"]));
            for _ in 0..50 {
                client.send("t", 0, "a message", &[]);
            }
            client.commit("g", "t", 50);
        },
        |node, _| {
            let mut client = node.connect();
            let (committed, end) = (client.offset_of("g", "t"), client.max_offset("t"));
            assert!(
                committed.unwrap_or(0) <= end,
                "{committed:?} in a queue that ends at {end}"
            );
        },
    );
}

#[test]
fn what_was_popped_and_is_left_comes_again() {
    at_every_cut(
        |node, _| {
            let mut client = node.connect();
            client.create_topic("t", 1);
            for number in 0..8 {
                client.send("t", 0, &number.to_string(), &[]);
            }
            assert_eq!(client.pop_all().len(), 8);
        },
        |node, clock| {
            let mut client = node.connect();
            let end = client.max_offset("t");
            let left: BTreeSet<_> = client
                .pull("reader", "t", 0, 0)
                .into_iter()
                .map(|message| message.message.body)
                .collect();
            assert_eq!(left.len() as i64, end);
            let mut seen = BTreeSet::new();
            eventually(|| {
                seen.extend(client.pop_all().into_iter().map(|message| message.message.body));
                node.pass(clock, 1000);
                seen.is_superset(&left)
            });
        },
    );
}

#[test]
fn what_was_delivered_late_is_delivered_once() {
    at_every_cut(
        |node, clock| {
            let mut client = node.connect();
            client.create_topic("t", 1);
            for delay_ms in [1500, 4500] {
                let at = (clock.now() + delay_ms).to_string();
                for _ in 0..5 {
                    client.send("t", 0, "level", &[("DELAY", if delay_ms < 2000 { "1" } else { "2" })]);
                    client.send("t", 0, "timer", &[("TIMER_DELIVER_MS", &at)]);
                }
            }
            // Those that wait are not lost: that is not what is looked at. Of the deliveries, the second half may be.
            for delivered in [10, 20] {
                assert!(node.broker().store.flush());
                node.pass(clock, 3000);
                eventually(|| client.max_offset("t") == delivered);
            }
        },
        |node, clock| {
            let mut client = node.connect();
            node.pass(clock, 60_000);
            eventually(|| client.max_offset("t") >= 20);
            // Whatever was due before these is delivered before them.
            for property in [("DELAY", "1"), ("DELAY", "2"), ("TIMER_DELAY_MS", "4000")] {
                client.send("t", 0, "last", &[property]);
            }
            node.pass(clock, 10_000);
            eventually(|| client.max_offset("t") >= 23);
            assert_eq!(client.max_offset("t"), 23);
        },
    );
}
