//! A corpus of situations, as facts, and what the answer has to say.

use std::collections::BTreeSet;

use oxmq_protocol::body::{
    Connection, ConsumeFromWhere, ConsumeType, ConsumerConnection, MessageModel, ProcessQueueInfo, SubscriptionData,
};
use oxmq_protocol::message::{Message, MessageExt};
use oxmq_protocol::pop::PopCheckpoint;
use oxmq_protocol::{property, topic};

use super::facts::*;
use super::group::Verdict;
use super::judge::{Answer, Durable, State, judge};

const NOW: i64 = 1_757_000_100_000;
const STORED: i64 = NOW - 60_000;
const ID: &str = "7F000001A1B218B4AAC20B5F8D300000";

fn stored_in(topic: &str, queue_offset: i64, properties: &[(&str, &str)]) -> Record {
    let mut message = Message::new(topic, "body").with_property(property::UNIQUE_CLIENT_MESSAGE_ID, ID);
    for (name, value) in properties {
        message.properties.set(*name, *value);
    }
    let message = MessageExt {
        message,
        broker_name: "broker-a".into(),
        queue_id: 0,
        queue_offset,
        physical_offset: 1000 + queue_offset,
        sys_flag: 0,
        born_timestamp: STORED,
        born_host: "10.0.0.9:1".parse().unwrap(),
        store_timestamp: STORED + queue_offset,
        store_host: "10.0.0.1:10911".parse().unwrap(),
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body_crc: 0,
        store_size: 100,
    };
    let place = Place::of(topic, &["g".to_owned()]);
    Record {
        message,
        place,
        indexed: true,
    }
}

fn broker() -> BrokerFacts {
    BrokerFacts {
        name: "broker-a".into(),
        addr: "10.0.0.1:10911".into(),
        perm: Some(6),
        flush_disk_type: Some("ASYNC_FLUSH".into()),
        written: Some(100_000),
        unflushed_max: Some(0),
        log_min: Some(0),
        earliest_ms: Some(STORED - 1000),
        index_enabled: Some(true),
        delay_levels_ms: vec![1000, 5000, 10_000, 300_000],
        slaves: Vec::new(),
    }
}

fn group(offset: Option<i64>) -> GroupFacts {
    let subscriptions = [SubscriptionData::parse("orders", "*", 1).unwrap()];
    let connection = ConsumerConnection {
        connection_set: BTreeSet::from([Connection {
            client_id: "c1".into(),
            ..Connection::default()
        }]),
        consume_from_where: ConsumeFromWhere::FirstOffset,
        consume_type: ConsumeType::Passively,
        message_model: MessageModel::Clustering,
        subscription_table: subscriptions.map(|one| (one.topic.clone(), one)).into(),
    };
    let member = MemberFacts {
        client_id: "c1".into(),
        started_ms: Some(STORED - 5000),
        queue: Some(ProcessQueueInfo {
            last_pull_timestamp: NOW - 10,
            locked: true,
            ..ProcessQueueInfo::default()
        }),
        ..MemberFacts::default()
    };
    GroupFacts {
        name: "g".into(),
        consume_enable: Some(true),
        broadcast_enable: Some(true),
        readable: Some(true),
        connection: Some(connection),
        offset,
        members: vec![member],
        ..GroupFacts::default()
    }
}

/// Message 7 of a queue with ten, and one group with this offset.
fn facts(offset: Option<i64>) -> Facts {
    Facts {
        now_ms: NOW,
        question: ID.into(),
        searched: Searched {
            topics: vec!["orders".into()],
            ..Searched::default()
        },
        records: vec![stored_in("orders", 7, &[(property::TAGS, "eu"), ("amount", "5")])],
        brokers: vec![broker()],
        topic: TopicFacts {
            name: "orders".into(),
            perm: Some(6),
            read_queue_nums: Some(4),
            min_offset: Some(0),
            max_offset: Some(10),
        },
        groups: vec![group(offset)],
        ..Facts::default()
    }
}

fn subscribe(facts: &mut Facts, subscription: SubscriptionData) {
    let connection = facts.groups[0].connection.as_mut().unwrap();
    connection.subscription_table = [(subscription.topic.clone(), subscription)].into();
}

fn sql(expression: &str) -> SubscriptionData {
    SubscriptionData {
        topic: "orders".into(),
        sub_string: expression.into(),
        expression_type: "SQL92".into(),
        ..SubscriptionData::default()
    }
}

fn all_text(answer: &Answer) -> String {
    super::shown(answer, &crate::text::Style::of_stdout())
}

/// What becomes of the one group, and what its sentence has to contain.
#[track_caller]
fn check_group(offset: Option<i64>, change: impl FnOnce(&mut Facts), verdict: Verdict, says: &str) {
    let mut facts = facts(offset);
    change(&mut facts);
    let answer = judge(&facts);
    let group = &answer.groups[0];
    assert_eq!(group.verdict, verdict, "{group:?}");
    assert!(group.why.contains(says), "{says:?} is not in {:?}", group.why);
}

/// A test of this name: what was done to the facts, the verdict and what it says.
macro_rules! groups {
    ($( $name:ident { $( $offset:expr, $change:expr => $verdict:ident, $says:expr );+ } )*) => {
        $( #[test] fn $name() { $( check_group($offset, $change, Verdict::$verdict, $says); )+ } )*
    };
}

/// The same of the message.
macro_rules! states {
    ($( $name:ident { $( $change:expr => $state:ident, $says:expr );+ } )*) => {
        $( #[test] fn $name() { $( check_state($change, State::$state, $says); )+ } )*
    };
}

#[track_caller]
fn check_state(change: impl FnOnce(&mut Facts), state: State, says: &str) -> Answer {
    let mut facts = facts(Some(3));
    change(&mut facts);
    let answer = judge(&facts);
    assert_eq!(answer.state, state, "{}", answer.headline);
    let text = all_text(&answer);
    assert!(text.contains(says), "{says:?} is not in {text}");
    answer
}

fn with_copy(facts: &mut Facts, topic: &str, times: i32, properties: &[(&str, &str)]) {
    let mut copy = stored_in(topic, 20, properties);
    copy.message.reconsume_times = times;
    facts.records.push(copy);
}

groups! {
    a_group_is_past_it { Some(8), |_| {} => Past, "its offset is 8, the message has 7" }
    a_group_is_behind_it {
        Some(3), |_| {} => Behind, "4 messages of its queue are before it";
        Some(7), |_| {} => Behind, "next in its queue"
    }
    a_group_has_not_begun { None, |_| {} => NotStarted, "no offset in this queue yet" }
    a_group_began_after_it {
        Some(9), |facts| {
            facts.groups[0].members[0].started_ms = Some(STORED + 30_000);
            facts.groups[0].connection.as_mut().unwrap().consume_from_where = ConsumeFromWhere::LastOffset;
        } => PerhapsSkipped, "perhaps never seen: its members started 29 s after"
    }
    a_message_without_tag_is_filtered_out {
        Some(3), |facts| {
            facts.records[0].message.message.properties.remove(property::TAGS);
            subscribe(facts, SubscriptionData::parse("orders", "us", 1).unwrap());
        } => Filtered, "it has no tag"
    }
    the_right_tag_is_not_filtered_out {
        Some(3), |facts| subscribe(facts, SubscriptionData::parse("orders", "us || eu", 1).unwrap())
            => Behind, "4 messages"
    }
    an_expression_filters_it_out {
        Some(3), |facts| subscribe(facts, sql("amount > 5")) => Filtered, "\"amount > 5\" is false";
        Some(3), |facts| subscribe(facts, sql("price > 5")) => Filtered, "a property that it names is missing";
        Some(3), |facts| subscribe(facts, sql("amount between 1 and 9")) => Behind, "4 messages"
    }
    an_expression_that_cannot_be_read_takes_nothing {
        Some(3), |facts| subscribe(facts, sql("amount >")) => FilterUnknown, "cannot be read"
    }
    nobody_is_online {
        Some(3), |facts| facts.groups[0].connection = None => NoMember, "4 others are before it";
        None, |facts| facts.groups[0].connection = None => NoMember, "no offset in this queue"
    }
    members_do_not_subscribe {
        Some(3), |facts| subscribe(facts, SubscriptionData::parse("other", "*", 1).unwrap())
            => NotSubscribed, "do not subscribe to orders"
    }
    a_group_may_not_consume {
        Some(3), |facts| facts.groups[0].consume_enable = Some(false) => NoPermission, "consumeEnable=false"
    }
    a_topic_is_not_readable {
        Some(3), |facts| facts.topic.perm = Some(2) => NoPermission, "the permission of orders is -W-"
    }
    a_broker_is_not_readable { Some(3), |facts| facts.brokers[0].perm = Some(2) => NoPermission, "brokerPermission" }
    a_topic_is_forbidden_to_the_group {
        Some(3), |facts| facts.groups[0].readable = Some(false) => NoPermission, "forbidden for this group"
    }
    a_queue_is_written_but_not_read {
        Some(3), |facts| { facts.records[0].message.queue_id = 5; }
            => NoPermission, "queue 5 is not read: orders has 4 read queues"
    }
    the_lock_of_the_queue_is_missing {
        Some(3), |facts| { facts.groups[0].members[0].is_orderly = true; queue(facts).locked = false; }
            => NotLocked, "does not hold the lock"
    }
    a_member_is_suspended {
        Some(3), |facts| queue(facts).last_pull_timestamp = NOW - 300_000 => Stalled, "has not pulled for 5 min"
    }
    a_member_has_it {
        Some(3), |facts| {
            let queue = queue(facts);
            (
                queue.cached_msg_count,
                queue.cached_msg_min_offset,
                queue.cached_msg_max_offset,
            ) = (7, 3, 9);
        } => InHand, "4 before it are not done"
    }
    retries_of_another_group_say_nothing {
        Some(8), |facts| with_copy(facts, "%RETRY%other", 1, &[]) => Past, "its offset is 8"
    }
    it_is_a_dead_letter {
        Some(8), |facts| { with_copy(facts, "%RETRY%g", 15, &[]); with_copy(facts, "%DLQ%g", 16, &[]); }
            => DeadLetter, "consumed in vain 17 times; it lies in %DLQ%g@broker-a:0 at offset 20"
    }
    it_is_deleted_before_the_group_came {
        Some(3), |facts| facts.topic.min_offset = Some(9) => Deleted, "the queue begins at 9";
        Some(9), |facts| facts.topic.min_offset = Some(9) => Past, "its offset is 9"
    }
}

#[test]
fn a_trace_proves_consumption() {
    let event = |success| TraceEvent {
        time_ms: NOW - 4000,
        group: "g".into(),
        kind: TraceKind::ConsumeEnds { success, cost_ms: 3 },
    };
    check_group(
        Some(3),
        |facts| facts.trace.push(event(true)),
        Verdict::Consumed,
        "4 s ago",
    );
    check_group(
        Some(3),
        |facts| facts.trace.push(event(false)),
        Verdict::Behind,
        "4 messages",
    );
}

#[test]
fn another_tag_is_filtered_out() {
    for offset in [None, Some(3), Some(9)] {
        let change = |facts: &mut Facts| subscribe(facts, SubscriptionData::parse("orders", "us || jp", 1).unwrap());
        check_group(
            offset,
            change,
            Verdict::Filtered,
            "it has the tag \"eu\", the group subscribes to \"us || jp\"",
        );
    }
}

#[test]
fn broadcasting_groups_have_no_offsets() {
    let broadcast = |facts: &mut Facts| {
        facts.groups[0].connection.as_mut().unwrap().message_model = MessageModel::Broadcasting;
    };
    check_group(None, broadcast, Verdict::Broadcast, "each member keeps its own offsets");
    let forbidden = |facts: &mut Facts| {
        broadcast(facts);
        facts.groups[0].broadcast_enable = Some(false);
    };
    check_group(None, forbidden, Verdict::NoPermission, "consumeBroadcastEnable=false");
}

#[test]
fn nobody_has_the_queue() {
    check_group(
        Some(3),
        |facts| facts.groups[0].members[0].queue = None,
        Verdict::NotAssigned,
        "none of the 1 members",
    );
    // One that does not tell may have it.
    check_group(
        Some(3),
        |facts| facts.groups[0].members.clear(),
        Verdict::Behind,
        "4 messages",
    );
}

fn queue(facts: &mut Facts) -> &mut ProcessQueueInfo {
    facts.groups[0].members[0].queue.as_mut().unwrap()
}

#[test]
fn it_is_popped_and_invisible() {
    let popped = |ago| {
        move |facts: &mut Facts| {
            facts.groups[0].checkpoint = Some(PopCheckpoint {
                pop_time: NOW - ago,
                invisible_time: 60_000,
                count: 1,
                start_offset: 7,
                ..PopCheckpoint::default()
            });
        }
    };
    check_group(
        Some(8),
        popped(10_000),
        Verdict::Invisible,
        "invisible until 2025-09-04T15:35:50.000Z (in 50 s)",
    );
    check_group(Some(8), popped(61_000), Verdict::Invisible, "about to come again");
}

#[test]
fn a_retry_waits_for_its_delay_level() {
    let real = topic::retry_topic("g");
    let change = |facts: &mut Facts| {
        let properties = [
            (property::REAL_TOPIC, real.as_str()),
            (property::RETRY_TOPIC, "orders"),
            (property::DELAY_TIME_LEVEL, "4"),
        ];
        with_copy(facts, topic::SCHEDULE_TOPIC, 2, &properties);
    };
    check_group(
        Some(8),
        change,
        Verdict::Retrying,
        "consumed in vain 2 times; it comes again in 4 min",
    );
}

#[test]
fn a_retry_lies_in_its_topic() {
    let change = |facts: &mut Facts| with_copy(facts, "%RETRY%g", 1, &[]);
    check_group(Some(8), change, Verdict::Retrying, "retry 1 is in %RETRY%g@broker-a:0");
    let past = |facts: &mut Facts| {
        with_copy(facts, "%RETRY%g", 1, &[]);
        let queue = facts.records[1].queue();
        facts.groups[0].retry_offsets.insert(queue, 21);
    };
    check_group(Some(8), past, Verdict::Past, "past it after 1 retries");
}

#[test]
fn the_group_asked_about_answers_first() {
    let mut facts = facts(Some(8));
    facts.asked_group = Some("g".into());
    assert_eq!(judge(&facts).headline, "g: past it: its offset is 8, the message has 7");
}

#[test]
fn the_headline_names_a_group_that_has_not_seen_it() {
    let mut facts = facts(Some(8));
    facts.groups.push(GroupFacts {
        name: "late".into(),
        ..group(Some(3))
    });
    let expected =
        "stored 59 s ago in orders@broker-a:0 at offset 7; 1 of 2 groups have seen it; late has not: not there yet";
    let answer = judge(&facts);
    assert!(answer.headline.starts_with(expected), "{}", answer.headline);
    assert_eq!(answer.groups[0].group, "late");
}

states! {
    nobody_consumes_the_topic { |facts| facts.groups.clear() => Stored, "no group consumes orders" }
    a_delivered_timer_shows_what_it_waited_for {
        |facts| {
            let due = (STORED + 5).to_string();
            with_copy(
                facts,
                topic::TIMER_TOPIC,
                0,
                &[(property::TIMER_OUT_MS, &due), (property::REAL_TOPIC, "orders")],
            );
        } => Stored, "waited for orders until 2025-09-04T15:34:00.005Z"
    }
    its_transaction_was_committed {
        |facts| {
            with_copy(
                facts,
                topic::TRANS_HALF_TOPIC,
                0,
                &[(property::PRODUCER_GROUP, "p"), (property::REAL_TOPIC, "orders")],
            );
        } => Stored, "committed; producer group p"
    }
    its_transaction_was_given_up {
        |facts| {
            half("15")(facts);
            facts.records.push(stored_in(
                topic::TRANS_CHECK_MAX_TIME_TOPIC,
                9,
                &[(property::REAL_TOPIC, "orders")],
            ));
        } => TransactionGivenUp, "use resumeCheckHalfMessage"
    }
    nothing_is_found {
        |facts| { facts.records.clear(); facts.searched.topics_left_out = 12; }
            => NotFound, "not found: orders asked for 7F000001A1B218B4AAC20B5F8D300000; 12 topics were not asked";
        |facts| { facts.records.clear(); facts.brokers[0].index_enabled = Some(false); }
            => NotFound, "messageIndexEnable=false"
    }
    an_expired_id_is_told_from_an_unknown_one {
        |facts| { facts.records.clear(); facts.from_id.made_ms = Some(STORED - 100_000); }
            => Deleted, "the oldest message is of 2025-09-04T15:33:59.000Z";
        |facts| {
            facts.records.clear();
            facts.from_id.place = Some(("broker-a".into(), 10));
            facts.brokers[0].log_min = Some(100);
        } => Deleted, "its log file is gone"
    }
}

#[test]
fn durability_is_told() {
    let answer = check_state(|_| {}, State::Stored, "durable: on disk (ASYNC_FLUSH)");
    assert_eq!(answer.durable, Some(Durable::OnDisk));
    let cached = |facts: &mut Facts| {
        facts.brokers[0].written = Some(1107);
        facts.brokers[0].unflushed_max = Some(50);
    };
    let answer = check_state(cached, State::Stored, "not on disk yet");
    assert_eq!(answer.durable, Some(Durable::InPageCache));
    let silent = |facts: &mut Facts| facts.brokers[0].written = None;
    assert_eq!(check_state(silent, State::Stored, "durable: unknown").durable, None);
}

#[test]
fn replicas_are_told() {
    check_state(|_| {}, State::Stored, "no slave is registered");
    let slaves = |facts: &mut Facts| {
        let slave = |addr: &str, written| Slave {
            addr: addr.into(),
            written,
        };
        facts.brokers[0].slaves = vec![slave("a", Some(1107)), slave("b", Some(1000)), slave("c", None)];
    };
    check_state(
        slaves,
        State::Stored,
        "a has it, b does not have it yet (107 bytes behind it), c did not answer",
    );
}

#[test]
fn the_index_is_told() {
    let unindexed = |facts: &mut Facts| facts.records[0].indexed = false;
    assert_eq!(
        check_state(unindexed, State::Stored, "the index may be behind").indexed,
        Some(false)
    );
    let off = |facts: &mut Facts| {
        facts.records[0].indexed = false;
        facts.brokers[0].index_enabled = Some(false);
    };
    check_state(off, State::Stored, "messageIndexEnable=false");
    let nameless = |facts: &mut Facts| {
        facts.records[0].indexed = false;
        facts.records[0]
            .message
            .message
            .properties
            .remove(property::UNIQUE_CLIENT_MESSAGE_ID);
    };
    assert_eq!(check_state(nameless, State::Stored, "neither key nor id").indexed, None);
}

#[test]
fn duplicates_are_counted() {
    let change = |facts: &mut Facts| facts.records.push(stored_in("orders", 9, &[]));
    let answer = check_state(change, State::Stored, "duplicate: orders@broker-a:0 at offset 7");
    assert_eq!(answer.duplicates, 1);
}

/// The message waits instead of being in its topic.
fn waits(topic: &str, properties: &[(&str, &str)]) -> impl FnOnce(&mut Facts) + use<> {
    let mut properties = properties.to_vec();
    properties.push((property::REAL_TOPIC, "orders"));
    let record = stored_in(topic, 7, &properties);
    move |facts: &mut Facts| facts.records = vec![record]
}

#[test]
fn it_waits_for_its_delay_level() {
    let answer = check_state(
        waits(topic::SCHEDULE_TOPIC, &[(property::DELAY_TIME_LEVEL, "4")]),
        State::Waiting,
        "waits for its delay level: it comes to orders at 2025-09-04T15:39:00.007Z",
    );
    assert_eq!(answer.groups[0].verdict, Verdict::NotYet);
    check_state(
        waits(topic::SCHEDULE_TOPIC, &[(property::DELAY_TIME_LEVEL, "1")]),
        State::Overdue,
        "overdue",
    );
}

#[test]
fn it_waits_for_its_time() {
    let due = (NOW + 90_000).to_string();
    let change = waits(topic::TIMER_TOPIC, &[(property::TIMER_OUT_MS, &due)]);
    check_state(
        change,
        State::Waiting,
        "waits for its time: it comes to orders at 2025-09-04T15:36:30.000Z",
    );
}

#[test]
fn it_was_recalled() {
    let due = (NOW + 90_000).to_string();
    let change = |facts: &mut Facts| {
        waits(topic::TIMER_TOPIC, &[(property::TIMER_OUT_MS, &due)])(facts);
        with_copy(
            facts,
            topic::TIMER_TOPIC,
            0,
            &[(property::TIMER_DEL_UNIQKEY, "orders+id")],
        );
    };
    let answer = check_state(change, State::Recalled, "its producer has taken it back");
    assert_eq!(answer.groups[0].why, "never: it was recalled");
}

fn half(checks: &'static str) -> impl FnOnce(&mut Facts) {
    waits(
        topic::TRANS_HALF_TOPIC,
        &[
            (property::PRODUCER_GROUP, "p"),
            (property::TRANSACTION_CHECK_TIMES, checks),
        ],
    )
}

#[test]
fn its_transaction_is_open() {
    let change = |facts: &mut Facts| {
        half("3")(facts);
        facts.transaction_ended = Some(false);
    };
    let says = "the producer group p has not said how the transaction ended (asked 3 times)";
    let answer = check_state(change, State::TransactionPending, says);
    assert_eq!(answer.groups[0].why, "not yet: its transaction is open");
}

#[test]
fn its_transaction_was_rolled_back() {
    let change = |facts: &mut Facts| {
        half("0")(facts);
        facts.transaction_ended = Some(true);
    };
    let answer = check_state(change, State::TransactionRolledBack, "its transaction was rolled back");
    assert_eq!(answer.groups[0].verdict, Verdict::NotYet);
}

#[test]
fn only_a_dead_letter_is_left() {
    let change =
        |facts: &mut Facts| facts.records = vec![stored_in("%DLQ%g", 2, &[(property::DLQ_ORIGIN_TOPIC, "orders")])];
    let answer = check_state(change, State::OnlyCopies, "a copy of it is in %DLQ%g@broker-a:0");
    assert_eq!(answer.groups[0].verdict, Verdict::DeadLetter);
}

#[test]
fn what_was_not_asked_is_told() {
    let change = |facts: &mut Facts| {
        facts.searched.failures.push("broker-b: no answer".into());
        facts.others.push("another".into());
    };
    let answer = check_state(change, State::Stored, "others with this key");
    assert_eq!(answer.not_asked, ["broker-b: no answer"]);
    let json = serde_json::to_string(&answer).unwrap();
    assert!(
        json.contains("\"state\":\"stored\"") && json.contains("\"verdict\":\"behind\""),
        "{json}"
    );
}
