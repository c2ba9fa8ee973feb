//! Reads of old messages that hang hold up nobody who needs memory only.

use std::path::PathBuf;

use oxmq_protocol::requests::*;
use oxmq_protocol::{RemotingCommand, sys_flag};
use oxmq_store::disk::SimulatedDisk;

use oxmq_tests::DEADLINE;

use crate::node::*;

/// More than the newest part of the log that stays in memory.
const OLD_MESSAGES: usize = 100;
const OLD_BYTES: usize = 100_000;

fn pull_header(topic: &str) -> PullMessageHeader {
    PullMessageHeader {
        consumer_group: "g".into(),
        topic: topic.into(),
        max_msg_nums: 32,
        sys_flag: sys_flag::pull::SUBSCRIPTION,
        subscription: Some("*".into()),
        expression_type: Some("TAG".into()),
        ..PullMessageHeader::default()
    }
}

fn pop_header(topic: &str, group: &str) -> PopMessageHeader {
    PopMessageHeader {
        consumer_group: group.into(),
        topic: topic.into(),
        queue_id: -1,
        max_msg_nums: 32,
        invisible_time: 60_000,
        ..PopMessageHeader::default()
    }
}

#[test]
fn while_all_cold_reads_hang_sends_and_hot_readers_are_served() {
    let (clock, disk) = (VirtualClock::new(), SimulatedDisk::new());
    let node = Node::start_in(clock.with_disk(&disk), |config| {
        config.mapped_file_size_commit_log = 1 << 20;
        config.enable_property_filter = true;
    });
    let mut client = node.connect();
    client.create_topic("old", 1);
    client.create_topic("new", 1);
    let body = "x".repeat(OLD_BYTES);
    for _ in 0..OLD_MESSAGES {
        client.send("old", 0, &body, &[]);
    }
    let log: PathBuf = node.dir.path().join("store/commitlog");
    disk.hold_reads(&log.join(format!("{:020}", 0)));

    let mut pulls: Vec<Client> = (0..8).map(|_| node.connect()).collect();
    for cold in &mut pulls {
        cold.write(&RemotingCommand::request::<request::PullMessage>(
            &pull_header("old"),
            "".into(),
        ));
    }
    let mut pops: Vec<Client> = (0..4).map(|_| node.connect()).collect();
    for (number, cold) in pops.iter_mut().enumerate() {
        let header = pop_header("old", &format!("popper-{number}"));
        cold.write(&RemotingCommand::request::<request::PopMessage>(&header, "".into()));
    }
    assert!(
        disk.wait_for_held_reads(4, DEADLINE),
        "no cold read has come to the disk"
    );

    client.send("new", 0, "hot", &[("a", "7")]);
    assert_eq!(client.pull("g", "new", 0, 0).len(), 1);
    let popped = client.ok::<request::PopMessage>(&pop_header("new", "popper"), "");
    assert!(!popped.body.is_empty());
    // An expression that a worker leaves to another thread.
    let by_property = PullMessageHeader {
        subscription: Some(format!("a = 7{}", " OR a = 8".repeat(200))),
        expression_type: Some("SQL92".into()),
        ..pull_header("new")
    };
    assert!(!client.ok::<request::PullMessage>(&by_property, "").body.is_empty());
    client.create_topic("newer", 1);
    client.send("newer", 0, "hot", &[]);

    disk.release_reads();
    for cold in pulls.iter_mut().chain(&mut pops) {
        let reply = cold.read_reply();
        assert_eq!(reply.header.code, 0, "{:?}", reply.header.remark);
        assert!(!reply.body.is_empty());
    }
}
