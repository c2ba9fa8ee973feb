//! A broker under SYNC_FLUSH whose machine stops, or whose disk fails once, in the midst of everything it does: sends,
//! both kinds of late messages, transactions, POP, offsets and tables. It starts on what is left, and what it has
//! acknowledged holds: messages are there, late and committed ones arrive once, rolled-back ones never, prepared ones are
//! asked about, popped ones come again unless they were acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use oxmq_broker::config::FlushDiskType;
use oxmq_protocol::message::decode_messages;
use oxmq_protocol::requests::*;
use oxmq_protocol::sys_flag;
use oxmq_store::disk::{Fault, SimulatedDisk};
use oxmq_tests::eventually;

use crate::node::*;
use crate::pops::{handed_out, popping};

const ROUNDS: usize = 5;
/// Moments that are tried for each kind of fault.
const MOMENTS: u64 = 12;

/// What the broker has acknowledged.
#[derive(Default)]
struct Ledger {
    plain: BTreeMap<i64, String>,
    late: BTreeSet<String>,
    committed: BTreeSet<String>,
    rolled_back: BTreeSet<String>,
    prepared: BTreeSet<String>,
    to_pop: BTreeSet<String>,
    consumed: BTreeSet<String>,
}

impl Client {
    /// A send that may be refused.
    pub(crate) fn offer(
        &mut self,
        topic: &str,
        body: &str,
        properties: &[(&str, &str)],
        sys_flag: i32,
    ) -> Option<SendMessageReply> {
        let text = |(name, value): &(&str, &str)| format!("{name}\u{1}{value}\u{2}");
        let header = SendMessageHeader {
            producer_group: "pg".into(),
            topic: topic.into(),
            default_topic: "TBW102".into(),
            default_topic_queue_nums: 1,
            sys_flag,
            born_timestamp: VirtualClock::new().now(),
            properties: Some(properties.iter().map(text).collect()),
            ..SendMessageHeader::default()
        };
        let reply = self.call::<request::SendMessage>(&header, body.to_owned());
        (reply.header.code == 0).then(|| fields(&reply))
    }

    pub(crate) fn end(&mut self, half: &SendMessageReply, commit_or_rollback: i32) -> (i32, String) {
        let header = EndTransactionHeader {
            producer_group: "pg".into(),
            tran_state_table_offset: half.queue_offset,
            commit_log_offset: physical_offset(half),
            commit_or_rollback,
            msg_id: half.transaction_id.clone().unwrap(),
            transaction_id: half.transaction_id.clone(),
            ..EndTransactionHeader::default()
        };
        self.refused::<request::EndTransaction>(&header, "")
    }

    /// Everything in queue 0 of a topic, by queue offset.
    pub(crate) fn read_all(&mut self, topic: &str) -> BTreeMap<i64, String> {
        let mut found = BTreeMap::new();
        loop {
            let next = found.last_key_value().map_or(0, |(offset, _)| offset + 1);
            let messages = self.pull("reader", topic, 0, next);
            if messages.is_empty() {
                return found;
            }
            for message in messages {
                let body = String::from_utf8(message.message.body.to_vec()).unwrap();
                assert_eq!(found.insert(message.queue_offset, body), None);
            }
        }
    }
}

/// Where a message lies in the commit log.
pub(crate) fn physical_offset(sent: &SendMessageReply) -> i64 {
    i64::from_str_radix(&sent.msg_id[sent.msg_id.len() - 16..], 16).unwrap()
}

/// Works until something is refused.
fn run(node: &Node, clock: &VirtualClock, ledger: &mut Ledger) -> Option<()> {
    let mut client = node.connect();
    client.heart_beat(&consumer("c", "g", &["plain"]));
    for round in 0..ROUNDS {
        for number in 0..3 {
            let body = format!("{round}-{number} {}", "x".repeat(3000 * number));
            let offset = client.offer("plain", &body, &[("KEYS", "k")], 0)?.queue_offset;
            ledger.plain.insert(offset, body);
        }
        let at = (clock.now() + 1_300 + 700 * round as i64).to_string();
        for (kind, property) in [("level", ("DELAY", "1")), ("timer", ("TIMER_DELIVER_MS", &*at))] {
            let body = format!("{kind} {round}");
            client.offer("late", &body, &[property], 0)?;
            ledger.late.insert(body);
        }
        transact(&mut client, round, ledger)?;
        for number in 0..2 {
            let body = format!("{round}-{number}");
            client.offer("popped", &body, &[], 0)?;
            ledger.to_pop.insert(body);
        }
        let popped = handed_out(&mut client, &popping("popped"));
        if let Some((body, handle)) = popped.into_iter().next()
            && client.ack("popped", &handle).0 == 0
        {
            ledger.consumed.insert(body);
        }
        client.commit("g", "plain", ledger.plain.len() as i64);
        node.pass(clock, 1_000);
        if round % 2 == 1 {
            // A failure shows in what follows.
            let _ = node.broker().save_tables();
        }
    }
    Some(())
}

fn transact(client: &mut Client, round: usize, ledger: &mut Ledger) -> Option<()> {
    let body = format!("half {round}");
    let properties = [("UNIQ_KEY", &*body), ("TRAN_MSG", "true"), ("PGROUP", "pg")];
    let half = client.offer("decided", &body, &properties, sys_flag::TRANSACTION_PREPARED)?;
    match round % 3 {
        0 => {
            (client.end(&half, sys_flag::TRANSACTION_COMMIT).0 == 0).then_some(())?;
            ledger.committed.insert(body);
        }
        1 => {
            (client.end(&half, sys_flag::TRANSACTION_ROLLBACK).0 == 0).then_some(())?;
            ledger.rolled_back.insert(body);
        }
        _ => {
            ledger.prepared.insert(body);
        }
    }
    Some(())
}

/// Waits for the questions about these transactions, and commits every transaction that is asked about.
pub(crate) fn commit_when_asked(producer: &mut Client, client: &mut Client, mut bodies: BTreeSet<String>) {
    while !bodies.is_empty() {
        let check = producer.next_inbound();
        assert_eq!(check.header.code, 39);
        let message = decode_messages(&check.body, true).unwrap().remove(0);
        let check: CheckTransactionStateHeader = fields(&check);
        let answer = EndTransactionHeader {
            producer_group: "pg".into(),
            tran_state_table_offset: check.tran_state_table_offset,
            commit_log_offset: check.commit_log_offset,
            commit_or_rollback: sys_flag::TRANSACTION_COMMIT,
            from_transaction_check: true,
            msg_id: check.msg_id.clone().unwrap(),
            transaction_id: check.transaction_id.clone(),
            ..EndTransactionHeader::default()
        };
        client.ok::<request::EndTransaction>(&answer, "");
        bodies.remove(std::str::from_utf8(&message.message.body).unwrap());
    }
}

fn check(node: &Node, clock: &VirtualClock, ledger: &Ledger, what: &str) {
    let mut client = node.connect();
    let plain = client.read_all("plain");
    for (offset, body) in &ledger.plain {
        assert_eq!(plain.get(offset), Some(body), "{what}");
    }
    let committed = client.offset_of("g", "plain").unwrap_or(0);
    assert!(committed <= client.max_offset("plain"), "{what}");

    // A producer that commits whatever it is asked about.
    let mut producer_client = node.connect();
    producer_client.heart_beat(&producer("p", "pg"));
    node.pass(clock, 60_000);
    commit_when_asked(&mut producer_client, &mut client, ledger.prepared.clone());
    let wanted = |topic| match topic {
        "late" => ledger.late.clone(),
        _ => &ledger.committed | &ledger.prepared,
    };
    for topic in ["late", "decided"] {
        let wanted = wanted(topic);
        let mut found = Vec::new();
        eventually(|| {
            found = client.read_all(topic).into_values().collect();
            wanted.iter().all(|body| found.contains(body))
        });
        let distinct: BTreeSet<&String> = found.iter().collect();
        assert_eq!(
            distinct.len(),
            found.len(),
            "{what}: {topic} holds one twice: {found:?}"
        );
        assert!(found.iter().all(|body| !ledger.rolled_back.contains(body)), "{what}");
    }
    let mut seen = ledger.consumed.clone();
    eventually(|| {
        seen.extend(
            handed_out(&mut client, &popping("popped"))
                .into_iter()
                .map(|(body, _)| body),
        );
        node.pass(clock, 10_000);
        seen.is_superset(&ledger.to_pop)
    });
    // It goes on.
    assert!(client.offer("plain", "more", &[], 0).is_some(), "{what}");
}

fn start(clock: &VirtualClock, disk: &SimulatedDisk) -> Node {
    let node = Node::start_in(clock.with_disk(disk), |config| {
        config.flush_disk_type = FlushDiskType::SyncFlush;
        config.mapped_file_size_commit_log = 32 * 1024;
        config.mapped_file_size_consume_queue = 20 * 10;
        config.flush_consumer_offset_interval_ms = 30;
        config.timer_flush_interval_ms = 30;
        config.transaction_check_interval_ms = 50;
    });
    let mut client = node.connect();
    for topic in ["plain", "late", "decided", "popped"] {
        client.create_topic(topic, 1);
    }
    node
}

/// Prepares a disk, runs, and starts on what `after` makes of the disk.
fn attempt(prepare: impl FnOnce(&SimulatedDisk), after: impl FnOnce(&SimulatedDisk) -> SimulatedDisk, what: &str) {
    let (clock, disk) = (VirtualClock::new(), SimulatedDisk::new());
    let node = start(&clock, &disk);
    prepare(&disk);
    let mut ledger = Ledger::default();
    let _ = run(&node, &clock, &mut ledger);
    let left = after(&disk);
    check(&node.go_on_with(left), &clock, &ledger, what);
}

/// Operations of the disk that a run takes.
fn operations() -> u64 {
    let (clock, disk) = (VirtualClock::new(), SimulatedDisk::new());
    let node = start(&clock, &disk);
    let before = disk.operations();
    let mut ledger = Ledger::default();
    run(&node, &clock, &mut ledger).expect("nothing fails");
    let operations = disk.operations() - before;
    assert!(operations > 150, "only {operations} operations");
    operations
}

#[test]
fn what_was_acknowledged_survives_a_power_cut_at_any_moment() {
    let operations = operations();
    for moment in 0..2 * MOMENTS {
        let stop = operations * moment / (2 * MOMENTS);
        attempt(
            |disk| disk.stop_after(stop),
            |disk| disk.crash(moment),
            &format!("power cut at {stop}"),
        );
    }
}

#[test]
fn what_was_acknowledged_survives_a_sync_that_fails() {
    for moment in 0..MOMENTS {
        let after = moment * moment;
        attempt(
            |disk| disk.fail(Fault::Sync, after),
            |disk| disk.crash(moment),
            &format!("sync {after}"),
        );
    }
}

#[test]
fn what_was_acknowledged_survives_a_moment_without_space_or_a_read_that_fails() {
    for fault in [Fault::Space, Fault::Read] {
        for moment in 0..MOMENTS {
            let after = moment * moment;
            attempt(
                |disk| disk.fail(fault, after),
                |disk| disk.kill(),
                &format!("{fault:?} {after}"),
            );
        }
    }
}

#[test]
fn a_flush_that_fails_is_answered_at_once_and_ends_the_sends() {
    let (clock, disk) = (VirtualClock::new(), SimulatedDisk::new());
    let node = Node::start_in(clock.with_disk(&disk), |config| {
        config.flush_disk_type = FlushDiskType::SyncFlush;
        config.sync_flush_timeout_ms = 3_600_000;
    });
    let mut client = node.connect();
    client.create_topic("t", 1);
    assert!(client.offer("t", "safe", &[], 0).is_some());
    let log = format!("store/commitlog/{:020}", 0);
    disk.fail_sync(&node.dir.path().join(log));
    let header = SendMessageHeader {
        producer_group: "pg".into(),
        topic: "t".into(),
        ..SendMessageHeader::default()
    };
    assert_eq!(client.refused::<request::SendMessage>(&header, "lost").0, 10);
    let (code, remark) = client.refused::<request::SendMessage>(&header, "refused");
    assert!(code == 14 && remark.contains("commit log failed"), "{code} {remark}");
    assert_eq!(client.read_all("t").into_values().collect::<Vec<_>>(), ["safe"]);
    // Another start finds the rest, or not: what is there then is on disk.
    let node = node.go_on_with(disk.kill());
    let mut client = node.connect();
    assert_eq!(client.read_all("t").into_values().collect::<Vec<_>>(), ["safe", "lost"]);
}
