//! The lines that tell of slow requests.

use std::time::{Duration, Instant};

use oxmq_protocol::requests::*;
use oxmq_protocol::{RemotingCommand, sys_flag};
use oxmq_store::disk::SimulatedDisk;
use oxmq_tests::DEADLINE;

use crate::log_lines::LogLines;
use crate::node::*;

const THRESHOLD_MS: u64 = 2;

fn pull(topic: &str, suspend_ms: i64) -> RemotingCommand {
    let header = PullMessageHeader {
        consumer_group: "g".into(),
        topic: topic.into(),
        max_msg_nums: 1,
        suspend_timeout_millis: suspend_ms,
        sys_flag: sys_flag::pull::SUBSCRIPTION | if suspend_ms > 0 { sys_flag::pull::SUSPEND } else { 0 },
        subscription: Some("*".into()),
        ..PullMessageHeader::default()
    };
    RemotingCommand::request::<request::PullMessage>(&header, "".into())
}

#[test]
fn slow_requests_are_told_of_and_those_that_want_to_wait_are_not() {
    let lines = LogLines::of_all();
    let (clock, disk) = (VirtualClock::new(), SimulatedDisk::new());
    let node = Node::start_in(clock.with_disk(&disk), |config| {
        config.mapped_file_size_commit_log = 1 << 20;
        config.slow_request_threshold_ms = THRESHOLD_MS;
    });
    let [mut client, mut popper, mut waiter, mut other] = [(); 4].map(|()| node.connect());
    client.create_topic("slow-reads", 1);
    client.create_topic("awaited", 1);
    client.create_topic("other", 1);
    for _ in 0..100 {
        client.send("slow-reads", 0, &"x".repeat(100_000), &[]);
    }
    disk.hold_reads(&node.dir.path().join(format!("store/commitlog/{:020}", 0)));
    waiter.write(&pull("awaited", 30_000));
    client.write(&pull("slow-reads", 0));
    let pop = PopMessageHeader {
        consumer_group: "p".into(),
        topic: "slow-reads".into(),
        queue_id: -1,
        max_msg_nums: 1,
        invisible_time: 60_000,
        ..PopMessageHeader::default()
    };
    popper.write(&RemotingCommand::request::<request::PopMessage>(&pop, "".into()));
    assert!(disk.wait_for_held_reads(2, DEADLINE));
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(2 * THRESHOLD_MS) {
        other.send("other", 0, "x", &[]);
    }
    disk.release_reads();
    assert_eq!(client.read_reply().header.code, 0);
    assert_eq!(popper.read_reply().header.code, 0);
    client.send("awaited", 0, "x", &[]);
    assert_eq!(waiter.read_reply().header.code, 0);

    let lines = lines.with("slow request");
    for (code, parts) in [
        (11, "request=PullMessage peer=127.0.0.1:"),
        (200_050, "request=PopMessage peer=127.0.0.1:"),
    ] {
        let group = if code == 11 { "g" } else { "p" };
        let names = format!("topic=\"slow-reads\" group=\"{group}\" answer=0 took_ms=");
        let told = |line: &&String| line.contains(&format!("code={code} {parts}")) && line.contains(&names);
        let line = lines.iter().find(told).unwrap_or_else(|| panic!("{lines:#?}"));
        assert!(line.contains(" queued_ms=") && line.contains(" worked_ms="), "{line}");
    }
    assert!(!lines.iter().any(|line| line.contains("awaited\" group")), "{lines:#?}");
}
