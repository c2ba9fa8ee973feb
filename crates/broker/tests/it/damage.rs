//! One flipped bit in the body of a message, whatever the message waits for: it is not handed out, whoever asks for it is
//! told why, and everything else goes its way.

use std::collections::BTreeSet;

use oxmq_protocol::requests::*;
use oxmq_protocol::sys_flag;
use oxmq_store::disk::SimulatedDisk;
use oxmq_tests::eventually;

use crate::crash_points::{commit_when_asked, physical_offset};
use crate::node::*;
use crate::pops::{handed_out, popping};

/// Where the body of a record begins.
const BODY_AT: u64 = 88;

#[test]
fn a_damaged_message_is_told_of_and_costs_nothing_else() {
    let (clock, disk) = (VirtualClock::new(), SimulatedDisk::new());
    let node = Node::start_in(clock.with_disk(&disk), |config| {
        config.transaction_check_interval_ms = 50;
    });
    let mut client = node.connect();
    for topic in ["t", "late", "decided"] {
        client.create_topic(topic, 1);
    }
    let at = (clock.now() + 5_000).to_string();
    let prepared = sys_flag::TRANSACTION_PREPARED;
    let mut sent = Vec::new();
    for number in 0..10 {
        let key = number.to_string();
        sent.push(client.offer("t", &key, &[("KEYS", &key)], 0).unwrap());
    }
    let mut damaged = vec![sent[4].clone()];
    for number in 0..3 {
        let level = client.offer("late", &format!("level {number}"), &[("DELAY", "1")], 0);
        let timer = client.offer("late", &format!("timer {number}"), &[("TIMER_DELIVER_MS", &at)], 0);
        let (body, tran) = (format!("half {number}"), ("TRAN_MSG", "true"));
        let half = client.offer(
            "decided",
            &body,
            &[("UNIQ_KEY", &*body), tran, ("PGROUP", "pg")],
            prepared,
        );
        if number == 1 {
            damaged.extend([level, timer, half].map(Option::unwrap));
        }
    }
    let log = node.dir.path().join("store/commitlog/00000000000000000000");
    for message in &damaged {
        disk.flip_bit(&log, physical_offset(message) as u64 + BODY_AT, 1);
    }
    let node = node.go_on_with(disk.clone());
    let mut client = node.connect();

    // Reading: what is behind it comes, also for who asks for it alone.
    let pull = PullMessageHeader {
        consumer_group: "g".into(),
        topic: "t".into(),
        queue_offset: 4,
        max_msg_nums: 1,
        sys_flag: sys_flag::pull::SUBSCRIPTION,
        subscription: Some("*".into()),
        ..PullMessageHeader::default()
    };
    let reply = client.ok::<request::PullMessage>(&pull, "");
    assert_eq!(fields::<PullMessageReply>(&reply).next_begin_offset, 6);
    let others: BTreeSet<String> = (0..10)
        .filter(|number| *number != 4)
        .map(|number| number.to_string())
        .collect();
    assert_eq!(client.read_all("t").into_values().collect::<BTreeSet<_>>(), others);
    let popped = handed_out(&mut client, &popping("t")).into_iter();
    assert_eq!(popped.map(|(body, _)| body).collect::<BTreeSet<_>>(), others);

    // Asking for it by its place or its key.
    let damage = "is damaged";
    let offset = physical_offset(&damaged[0]);
    let view = ViewMessageHeader { topic: None, offset };
    let (code, remark) = client.refused::<request::ViewMessageById>(&view, "");
    assert!(code == 1 && remark.contains(damage), "{code} {remark}");
    client.heart_beat(&consumer("c", "g", &["t"]));
    let send_back = ConsumerSendMsgBackHeader {
        offset,
        group: "g".into(),
        ..ConsumerSendMsgBackHeader::default()
    };
    let (code, remark) = client.refused::<request::ConsumerSendMsgBack>(&send_back, "");
    assert!(code == 1 && remark.contains(damage), "{code} {remark}");
    let query = |key: &str| QueryMessageHeader {
        topic: "t".into(),
        key: key.into(),
        max_num: 8,
        end_timestamp: i64::MAX,
        ..QueryMessageHeader::default()
    };
    assert_eq!(client.refused::<request::QueryMessage>(&query("4"), "").0, 22);
    client.ok::<request::QueryMessage>(&query("5"), "");

    // What waits for its time or its end.
    let (code, remark) = client.end(&damaged[3], sys_flag::TRANSACTION_COMMIT);
    assert!(code == 1 && remark.contains(damage), "{code} {remark}");
    let mut asked = node.connect();
    asked.heart_beat(&producer("p", "pg"));
    node.pass(&clock, 60_000);
    let halves = BTreeSet::from(["half 0".to_owned(), "half 2".to_owned()]);
    commit_when_asked(&mut asked, &mut client, halves.clone());
    let late = ["level 0", "level 2", "timer 0", "timer 2"].map(str::to_owned);
    for (topic, wanted) in [("decided", halves), ("late", BTreeSet::from(late))] {
        eventually(|| client.read_all(topic).into_values().collect::<BTreeSet<_>>() == wanted);
    }
}
