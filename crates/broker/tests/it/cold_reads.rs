//! Reads of old messages that hang hold up nobody who needs memory only.

use std::path::PathBuf;

use oxmq_protocol::requests::*;
use oxmq_protocol::{RemotingCommand, sys_flag};
use oxmq_store::disk::{Disk, SimulatedDisk};

use oxmq_tests::{DEADLINE, eventually};

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

#[test]
fn a_queue_whose_files_cannot_be_read_yet_holds_up_no_other() {
    let (clock, disk) = (VirtualClock::new(), SimulatedDisk::new());
    let node = Node::start_in(clock.with_disk(&disk), |config| config.workers = 1);
    let mut client = node.connect();
    for topic in ["slow", "other"] {
        client.create_topic(topic, 1);
        client.send(topic, 0, "first", &[]);
    }
    let node = node.restart();
    let file = format!("store/consumequeue/slow/0/{:020}", 0);
    disk.hold_reads(&node.dir.path().join(file));
    let (mut sender, mut reader, mut client) = (node.connect(), node.connect(), node.connect());
    sender.write(&send_request("slow"));
    reader.write(&RemotingCommand::request::<request::PullMessage>(
        &pull_header("slow"),
        "".into(),
    ));
    assert!(
        disk.wait_for_held_reads(1, DEADLINE),
        "the queue was loaded without its file"
    );
    client.send("other", 0, "second", &[]);
    assert_eq!(client.pull("g", "other", 0, 0).len(), 2);

    disk.release_reads();
    let sent: SendMessageReply = fields(&sender.read_reply());
    assert_eq!(sent.queue_offset, 1);
    let pulled = reader.read_reply();
    assert_eq!(pulled.header.code, 0, "{:?}", pulled.header.remark);
}

#[test]
fn a_queue_whose_files_cannot_be_read_is_refused_and_goes_on_later_where_it_was() {
    let (clock, disk) = (VirtualClock::new(), SimulatedDisk::new());
    let node = Node::start_in(clock.with_disk(&disk), |config| config.workers = 1);
    let mut client = node.connect();
    client.create_topic("t", 1);
    client.send("t", 0, "first", &[]);
    let node = node.restart();
    let file = format!("store/consumequeue/t/0/{:020}", 0);
    let file = disk.open(&node.dir.path().join(file)).unwrap();
    let bytes = file.len().unwrap();
    file.set_len(bytes + 1).unwrap();
    let mut client = node.connect();
    let unreadable = "cannot be read";
    let reply = client.exchange(send_request("t"));
    assert!(reply.header.code == 1 && reply.header.remark.unwrap().contains(unreadable));
    let (code, remark) = client.refused::<request::PullMessage>(&pull_header("t"), "");
    assert!(code == 1 && remark.contains(unreadable), "{code} {remark}");
    let queue = QueueHeader {
        topic: "t".into(),
        ..QueueHeader::default()
    };
    let (code, remark) = client.refused::<request::GetMaxOffset>(&queue, "");
    assert!(code == 1 && remark.contains(unreadable), "{code} {remark}");

    file.set_len(bytes).unwrap();
    let sent: SendMessageReply = fields(&client.exchange(send_request("t")));
    assert_eq!(sent.queue_offset, 1);
}

/// 310, as clients send.
fn send_request(topic: &str) -> RemotingCommand {
    let header = SendMessageHeaderV2 {
        producer_group: "p".into(),
        topic: topic.into(),
        default_topic: "TBW102".into(),
        default_topic_queue_nums: 4,
        ..SendMessageHeaderV2::default()
    };
    RemotingCommand::request::<request::SendMessageV2>(&header, "second".into())
}

/// Whatever is not the newest message is cold here, and the group may read nothing more once it has read something cold.
#[test]
fn groups_that_have_read_their_share_of_cold_data_slow_down() {
    let node = Node::start_with(|config| {
        config.cold_data_flow_control_enable = true;
        config.access_message_in_memory_hot_ratio = 0;
    });
    let mut client = node.connect();
    client.create_topic("old", 1);
    for number in 0..5 {
        client.send("old", 0, &format!("m{number}"), &[]);
    }
    client.ok::<request::UpdateColdDataFlowCtrConfig>(&(), "g=0\nother=many\n");
    assert_eq!(client.pull("g", "old", 0, 0).len(), 5);
    let shown: serde_json::Value = body(&client.ok::<request::GetColdDataFlowCtrInfo>(&(), ""));
    assert!(shown["runtimeTable"]["g"]["coldAcc"].is_i64(), "{shown}");
    assert_eq!(shown["configTable"], serde_json::json!({"g": 0}));
    assert_eq!(shown["globalColdReadThreshold"], 104_857_600);
    assert_eq!(client.pull("other", "old", 0, 0).len(), 5);

    let pull = PullMessageHeader {
        commit_offset: 0,
        ..pull_header("old")
    };
    let mut pushed = node.connect();
    pushed.heart_beat(&consumer("pushed", "g", &["old"]));
    let busy = "This consumer group is reading cold data. It has been flow control";
    assert_eq!(pushed.refused::<request::PullMessage>(&pull, ""), (2, busy.to_owned()));
    drop(pushed);

    // A pull consumer is held and gets one message. At the end there is nothing cold.
    eventually(|| node.broker().consumers.group_info("g").is_none());
    assert!(client.pull("g", "old", 0, 5).is_empty());
    client.write(&RemotingCommand::request::<request::PullMessage>(&pull, "".into()));
    let mut admin = node.connect();
    assert_eq!(admin.pull("other", "old", 0, 0).len(), 5);
    let held = client.read_reply();
    assert_eq!(fields::<PullMessageReply>(&held).next_begin_offset, 1);

    admin.ok::<request::RemoveColdDataFlowCtrConfig>(&(), "g");
    assert_eq!(admin.pull("g", "old", 0, 0).len(), 5);
}

#[test]
fn reading_ahead_is_switched_and_wrong_modes_are_refused() {
    let node = Node::start();
    let mut client = node.connect();
    let mode = |mode: &str| ReadAheadModeHeader {
        read_ahead_mode: mode.into(),
    };
    for (number, enabled) in [("1", false), ("0", true)] {
        let reply = client.ok::<request::SetCommitLogReadMode>(&mode(number), "");
        let said = format!("set commitlog readahead mode success, mode: {number}");
        assert_eq!(reply.header.remark, Some(said));
        assert_eq!(node.broker().config().data_read_ahead_enable, enabled);
    }
    for (wrong, code, why) in [("2", 29, "param value error"), ("many", 1, "failed"), ("", 1, "failed")] {
        let refused = client.refused::<request::SetCommitLogReadMode>(&mode(wrong), "");
        assert_eq!(refused, (code, format!("set commitlog readahead mode {why}")));
    }
}
