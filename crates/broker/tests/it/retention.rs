//! Old files go, a full disk refuses, and what waits outlives the file that it was stored in.

use std::path::Path;

use oxmq_broker::BrokerConfig;
use oxmq_broker::retention::{Loss, losses};
use oxmq_protocol::RemotingCommand;
use oxmq_protocol::requests::*;
use oxmq_store::disk::{Disk, SimulatedDisk};
use oxmq_store::{DeletionReason, Expiry};
use oxmq_tests::eventually;

use crate::node::*;

const HOUR_MS: i64 = 3_600_000;
const KEPT_HOURS: i64 = 72;

/// A machine whose files carry the time of its clock.
struct Machine {
    clock: VirtualClock,
    disk: SimulatedDisk,
}

impl Machine {
    fn new() -> Machine {
        let machine = Machine {
            clock: VirtualClock::new(),
            disk: SimulatedDisk::new(),
        };
        machine.disk.set_time(machine.clock.now());
        machine
    }

    /// Nothing goes by itself, as no hour is one for it.
    fn start(&self, change: impl FnOnce(&mut BrokerConfig)) -> Node {
        Node::start_in(self.clock.with_disk(&self.disk), |config| {
            config.mapped_file_size_commit_log = 65_536;
            config.mapped_file_size_consume_queue = 400;
            config.delete_when = "99".into();
            config.clean_resource_interval_ms = 20;
            config.delete_commit_log_files_interval_ms = 1;
            config.delete_consume_queue_files_interval_ms = 1;
            change(config);
        })
    }

    fn pass(&self, node: &Node, ms: i64) {
        node.pass(&self.clock, ms);
        self.disk.set_time(self.clock.now());
    }

    fn used_bytes(&self) -> u64 {
        self.disk.usage(Path::new("/")).unwrap().used_bytes
    }
}

impl Client {
    fn min_offset(&mut self, topic: &str) -> i64 {
        let header = QueueHeader {
            topic: topic.into(),
            ..QueueHeader::default()
        };
        fields::<OffsetReply>(&self.ok::<request::GetMinOffset>(&header, "")).offset
    }

    fn fill(&mut self, topic: &str, count: usize) {
        for _ in 0..count {
            self.send(topic, 0, &"x".repeat(4000), &[]);
        }
    }

    fn pull_reply(&mut self, topic: &str, queue_offset: i64) -> RemotingCommand {
        let header = PullMessageHeader {
            consumer_group: "g".into(),
            topic: topic.into(),
            queue_offset,
            max_msg_nums: 1,
            sys_flag: oxmq_protocol::sys_flag::pull::SUBSCRIPTION,
            subscription: Some("*".into()),
            ..PullMessageHeader::default()
        };
        self.call::<request::PullMessage>(&header, "")
    }

    fn try_send(&mut self, topic: &str) -> RemotingCommand {
        let header = SendMessageHeader {
            producer_group: "p".into(),
            topic: topic.into(),
            default_topic: "TBW102".into(),
            default_topic_queue_nums: 4,
            born_timestamp: 1,
            ..SendMessageHeader::default()
        };
        self.call::<request::SendMessage>(&header, "x")
    }
}

#[test]
fn old_files_go_on_request_and_consumers_are_led_to_what_is_left() {
    let machine = Machine::new();
    let node = machine.start(|_| {});
    let mut client = node.connect();
    client.create_topic("quiet", 1);
    client.create_topic("orders", 1);
    client.send("quiet", 0, "x", &[]);
    client.fill("orders", 100);
    machine.pass(&node, KEPT_HOURS * HOUR_MS);
    client.fill("orders", 20);
    client.ok::<request::DeleteExpiredCommitLog>(&(), "");
    eventually(|| client.min_offset("orders") > 80);
    eventually(|| client.min_offset("quiet") == 1);
    let min = client.min_offset("orders");
    assert!((81..=100).contains(&min), "young files stay: {min}");

    for (queue_offset, code, remark, next) in [
        (0, 21, "OFFSET_TOO_SMALL", min),
        (min - 1, 21, "OFFSET_TOO_SMALL", min),
        (min, 0, "FOUND", min + 1),
        (120, 19, "OFFSET_OVERFLOW_ONE", 120),
    ] {
        let reply = client.pull_reply("orders", queue_offset);
        let found: PullMessageReply = fields(&reply);
        assert_eq!(
            (
                reply.header.code,
                reply.header.remark.as_deref(),
                found.next_begin_offset
            ),
            (code, Some(remark), next)
        );
        assert_eq!((found.min_offset, found.max_offset), (min, 120));
    }
    let reply = client.pull_reply("quiet", 0);
    assert_eq!(
        (reply.header.code, fields::<PullMessageReply>(&reply).next_begin_offset),
        (21, 1)
    );

    client.ok::<request::CleanExpiredConsumeQueue>(&(), "");
    let reply = client.pull_reply("quiet", 1);
    assert_eq!(
        (reply.header.code, fields::<PullMessageReply>(&reply).next_begin_offset),
        (21, 0)
    );
    // Senders that know the queue go on with it.
    assert_eq!(client.send("quiet", 0, "again", &[]).queue_offset, 0);
    assert_eq!(client.pull_some("g", "quiet", 0, 0).len(), 1);
    drop(client);
    let node = node.restart();
    let mut client = node.connect();
    assert_eq!(client.pull_some("g", "quiet", 0, 0).len(), 1);
    assert_eq!((client.min_offset("orders"), client.min_offset("quiet")), (min, 0));
}

#[test]
fn the_hour_and_the_age_can_be_changed_while_the_broker_runs() {
    let machine = Machine::new();
    let node = machine.start(|config| config.file_reserved_time_hours = 100_000);
    let mut client = node.connect();
    client.fill("orders", 60);
    machine.pass(&node, 2 * HOUR_MS);
    let all_hours = (0..24).map(|hour| hour.to_string()).collect::<Vec<_>>().join(";");
    let change = format!("deleteWhen={all_hours}\nfileReservedTime=1\n");
    client.ok::<request::UpdateBrokerConfig>(&(), change);
    eventually(|| client.min_offset("orders") > 0);
}

#[test]
fn a_full_disk_refuses_with_its_numbers_and_takes_messages_again_by_itself() {
    let machine = Machine::new();
    let node = machine.start(|config| config.clean_file_forcibly_enable = false);
    let mut client = node.connect();
    client.create_topic("orders", 1);
    client.fill("orders", 60);
    machine.disk.set_capacity(Some(machine.used_bytes() * 100 / 97));
    let mut refused = client.try_send("orders");
    eventually(|| {
        refused = client.try_send("orders");
        refused.header.code != 0
    });
    let remark = refused.header.remark.unwrap_or_default();
    let wanted = [
        "the broker's disk is full [CL:  0.9",
        " CQ:  0.9",
        " INDEX:  0.9",
        "], messages are put to the slave",
    ];
    assert!(
        refused.header.code == 14 && wanted.iter().all(|part| remark.contains(part)),
        "{remark}"
    );
    assert_eq!(client.pull("g", "orders", 0, 0).len(), 32);
    machine.disk.set_capacity(None);
    eventually(|| client.try_send("orders").header.code == 0);
}

#[test]
fn a_disk_that_fills_up_loses_its_oldest_files_and_no_others() {
    let machine = Machine::new();
    let node = machine.start(|_| {});
    let mut client = node.connect();
    client.create_topic("orders", 1);
    client.fill("orders", 160);
    machine.disk.set_capacity(Some(machine.used_bytes() * 100 / 89));
    eventually(|| client.min_offset("orders") > 0);
    let used = machine.used_bytes();
    assert!(client.min_offset("orders") < 60, "{}", client.min_offset("orders"));
    assert_eq!(client.try_send("orders").header.code, 0);
    machine.disk.set_capacity(Some(used * 2));
    assert_eq!(client.pull("g", "orders", 0, 150).len(), 11);
}

#[test]
fn a_compaction_topic_keeps_the_newest_of_each_key() {
    let machine = Machine::new();
    let node = machine.start(|_| {});
    let mut client = node.connect();
    let header = CreateTopicHeader {
        attributes: Some("+cleanup.policy=COMPACTION".into()),
        ..topic_header("state", 1)
    };
    client.ok::<request::UpdateAndCreateTopic>(&header, "");
    for (key, body) in [("a", "1"), ("b", "2"), ("a", "3")] {
        client.send("state", 0, body, &[("KEYS", key)]);
    }
    client.fill("orders", 40);
    machine.pass(&node, KEPT_HOURS * HOUR_MS);
    client.fill("orders", 40);
    client.ok::<request::DeleteExpiredCommitLog>(&(), "");
    eventually(|| client.min_offset("orders") > 0 && client.min_offset("state") > 0);
    let kept = [(1, "2".into()), (2, "3".into())];
    let newest = |client: &mut Client| -> Vec<_> {
        let found = client.pull("g", "state", 0, 1).into_iter();
        found.map(|found| (found.queue_offset, found.message.body)).collect()
    };
    let reply = client.pull_reply("state", 0);
    assert_eq!(fields::<PullMessageReply>(&reply).next_begin_offset, 1);
    assert_eq!(newest(&mut client), kept);
    drop(client);
    let node = node.restart();
    let mut client = node.connect();
    assert_eq!(client.min_offset("state"), 1);
    assert_eq!(newest(&mut client), kept);
}

#[test]
fn a_timer_outlives_the_file_that_it_was_stored_in() {
    let machine = Machine::new();
    let hours = 9;
    let all_hours = (0..24).map(|hour| hour.to_string()).collect::<Vec<_>>().join(";");
    let node = machine.start(|config| {
        config.file_reserved_time_hours = 3;
        config.delete_when = all_hours;
    });
    let mut client = node.connect();
    client.create_topic("t", 1);
    let at = machine.clock.now() + hours * HOUR_MS;
    client.send("t", 0, "late", &[("TIMER_DELIVER_MS", &at.to_string())]);
    for _ in 0..hours * 2 - 1 {
        client.fill("filler", 40);
        machine.pass(&node, HOUR_MS / 2);
        node.broker().store.request_deletion();
        assert!(client.pull("g", "t", 0, 0).is_empty());
    }
    eventually(|| client.min_offset("filler") > 0);
    machine.pass(&node, HOUR_MS / 2);
    assert_eq!(client.pull_some("g", "t", 0, 0)[0].message.body, &b"late"[..]);
}

#[test]
fn who_would_lose_messages_is_known_before_files_go() {
    let machine = Machine::new();
    let node = machine.start(|_| {});
    let mut client = node.connect();
    client.create_topic("orders", 2);
    client.fill("orders", 50);
    let broker = node.broker();
    let now = machine.clock.now();
    let file = Expiry {
        from: 0,
        to: 65_536,
        reason: DeletionReason::Time,
    };
    let kept = broker
        .store
        .first_offset_from(&broker.store.queue("orders", 0).unwrap(), file.to)
        .unwrap();
    assert!((10..20).contains(&kept));
    for (group, offset) in [("done", 50), ("ahead", kept), ("late", 3), ("later", -1)] {
        broker.consumer_offsets.commit(group, "orders", 0, offset, now);
    }
    broker.consumer_offsets.commit("other", "missing", 0, 0, now);
    let loss = |group: &str, messages, lag| Loss {
        group: group.into(),
        topic: "orders".into(),
        queues: 1,
        messages,
        lag,
    };
    assert_eq!(
        losses(broker, &file),
        [loss("later", kept, 50), loss("late", kept - 3, 47)]
    );
}
