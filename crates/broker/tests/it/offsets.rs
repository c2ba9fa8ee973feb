//! Offsets of consumers and of queues.

use oxmq_protocol::body::*;
use oxmq_protocol::requests::*;
use oxmq_tests::eventually;

use crate::node::{Client, Node, body, consumer, fields, json_of};

fn query(client: &mut Client, group: &str, queue_id: i32, set_zero: Option<bool>) -> Result<i64, String> {
    let header = QueryConsumerOffsetHeader {
        consumer_group: group.into(),
        topic: "orders".into(),
        queue_id,
        set_zero_if_not_found: set_zero,
        broker_name: None,
    };
    let reply = client.call::<request::QueryConsumerOffset>(&header, "");
    match reply.header.code {
        0 => Ok(fields::<OffsetReply>(&reply).offset),
        22 => Err(reply.header.remark.unwrap()),
        _ => panic!("{:?}", reply.header),
    }
}

fn commit(group: &str, topic: &str, queue_id: Option<i32>, offset: Option<i64>) -> UpdateConsumerOffsetHeader {
    UpdateConsumerOffsetHeader {
        consumer_group: Some(group.into()),
        topic: Some(topic.into()),
        queue_id,
        commit_offset: offset,
        broker_name: None,
    }
}

fn group(client: &mut Client, name: &str) {
    client.ok::<request::UpdateAndCreateSubscriptionGroup>(&(), json_of(&SubscriptionGroupConfig::new(name)));
}

#[test]
fn a_new_group_starts_at_zero_on_a_new_topic() {
    let node = Node::start();
    let mut client = node.connect();
    client.create_topic("orders", 2);
    assert!(
        query(&mut client, "g", 0, None).is_err(),
        "an empty queue has no first message"
    );
    client.send("orders", 0, "x", &[]);
    assert_eq!(query(&mut client, "g", 0, None), Ok(0));
    assert_eq!(query(&mut client, "g", 0, Some(true)), Ok(0));
    assert!(query(&mut client, "g", 0, Some(false)).is_err());
    assert!(
        query(&mut client, "g", 7, None)
            .unwrap_err()
            .starts_with("Not found, V3_0_6_SNAPSHOT")
    );
}

#[test]
fn commits_are_checked_kept_and_survive_a_restart() {
    let node = Node::start();
    let mut client = node.connect();
    client.create_topic("orders", 2);
    let refused = |client: &mut Client, header| client.refused::<request::UpdateConsumerOffset>(&header, "");
    assert_eq!(
        refused(&mut client, commit("g", "orders", Some(0), Some(1))),
        (26, "Group g not exist!".into())
    );
    group(&mut client, "g");
    assert_eq!(
        refused(&mut client, commit("g", "none", Some(0), Some(1))),
        (17, "Topic none not exist!".into())
    );
    assert_eq!(
        refused(&mut client, commit("g", "orders", None, Some(1))),
        (29, "QueueId is null, topic is orders".into())
    );
    assert_eq!(
        refused(&mut client, commit("g", "orders", Some(0), None)),
        (29, "Offset is null, topic is orders".into())
    );
    assert_eq!(
        refused(&mut client, commit("g", "orders", Some(i32::MAX), Some(1))).0,
        29
    );
    client.ok::<request::UpdateConsumerOffset>(&commit("g", "orders", Some(1), Some(9)), "");
    client.ok::<request::UpdateConsumerOffset>(&commit("g", "orders", Some(1), Some(5)), "");
    assert_eq!(query(&mut client, "g", 1, None), Ok(5), "commits may go back");
    let node = node.restart();
    let mut client = node.connect();
    assert_eq!(query(&mut client, "g", 1, None), Ok(5));
    let all = client.ok::<request::GetAllConsumerOffset>(&(), "");
    let all: ConsumerOffsetSerializeWrapper = body(&all);
    assert_eq!(all.offset_table["orders@g"][&1], 5);
}

#[test]
fn a_reset_reaches_the_next_pull_and_holds_back_commits() {
    let node = Node::start();
    let mut client = node.connect();
    client.create_topic("orders", 1);
    group(&mut client, "g");
    for _ in 0..10 {
        client.send("orders", 0, "x", &[]);
    }
    let reset = |offset, timestamp| ResetOffsetHeader {
        group: "g".into(),
        topic: "orders".into(),
        queue_id: Some(if offset >= 0 { 0 } else { -1 }),
        offset: Some(offset),
        timestamp,
        is_force: true,
    };
    assert_eq!(
        client.refused::<request::InvokeBrokerToResetOffset>(&reset(999, 0), ""),
        (1, "Target offset 999 not in consume queue range [0-10]".into())
    );
    let done = client.ok::<request::InvokeBrokerToResetOffset>(&reset(-1, -1), "");
    let done: ResetOffsetBody = body(&done);
    assert_eq!(
        done.offset_table.get(&MessageQueue::new("orders", "broker-a", 0)),
        Some(&10)
    );
    client.ok::<request::InvokeBrokerToResetOffset>(&reset(3, 0), "");
    let ignored = client.ok::<request::UpdateConsumerOffset>(&commit("g", "orders", Some(0), Some(9)), "");
    assert_eq!(
        ignored.header.remark.as_deref(),
        Some("Offset has been previously reset")
    );
    assert_eq!(query(&mut client, "g", 0, None), Ok(3));
    let unknown = ResetOffsetHeader {
        topic: "none".into(),
        ..reset(3, 0)
    };
    assert_eq!(
        client.refused::<request::InvokeBrokerToResetOffset>(&unknown, ""),
        (17, "Topic none does not exist".into())
    );
}

#[test]
fn queues_tell_where_they_begin_and_end() {
    let node = Node::start();
    let mut client = node.connect();
    client.create_topic("orders", 1);
    let header = |topic: &str| QueueHeader {
        topic: topic.into(),
        queue_id: 0,
        ..QueueHeader::default()
    };
    for _ in 0..3 {
        client.send("orders", 0, "x", &[]);
    }
    let offset = |reply| fields::<OffsetReply>(&reply).offset;
    assert_eq!(offset(client.ok::<request::GetMaxOffset>(&header("orders"), "")), 3);
    assert_eq!(offset(client.ok::<request::GetMinOffset>(&header("orders"), "")), 0);
    assert_eq!(offset(client.ok::<request::GetMaxOffset>(&header("none"), "")), 0);
    assert_eq!(offset(client.ok::<request::GetMinOffset>(&header("none"), "")), 0);
    let time = client.ok::<request::GetEarliestMsgStoreTime>(&header("orders"), "");
    let time = fields::<TimestampReply>(&time).timestamp;
    assert!(time > 0);
    let search = |timestamp| SearchOffsetHeader {
        topic: "orders".into(),
        timestamp,
        ..SearchOffsetHeader::default()
    };
    assert_eq!(
        offset(client.ok::<request::SearchOffsetByTimestamp>(&search(time), "")),
        0
    );
    assert_eq!(
        offset(client.ok::<request::SearchOffsetByTimestamp>(&search(time + 3_600_000), "")),
        3
    );
}

#[test]
fn statistics_show_progress_by_queue() {
    let node = Node::start();
    let mut client = node.connect();
    client.create_topic("orders", 2);
    for _ in 0..4 {
        client.send("orders", 1, "x", &[]);
    }
    let mut member = node.connect();
    member.heart_beat(&consumer("c1", "g", &["orders"]));
    client.ok::<request::UpdateConsumerOffset>(&commit("g", "orders", Some(1), Some(3)), "");
    let topic = TopicHeader {
        topic: "orders".into(),
        broker_name: None,
    };
    let queue = MessageQueue::new("orders", "broker-a", 1);
    let stats: TopicStatsTable = body(&client.ok::<request::GetTopicStatsInfo>(&topic, ""));
    assert_eq!(stats.offset_table.len(), 2);
    let offset = stats.offset_table.get(&queue).unwrap();
    assert_eq!((offset.min_offset, offset.max_offset), (0, 4));
    assert!(offset.last_update_timestamp > 0);

    let header = GetConsumeStatsHeader {
        consumer_group: "g".into(),
        ..GetConsumeStatsHeader::default()
    };
    let stats: ConsumeStats = body(&client.ok::<request::GetConsumeStats>(&header, ""));
    let offsets = stats.offset_table.get(&queue).unwrap();
    assert_eq!(
        (offsets.broker_offset, offsets.consumer_offset, offsets.pull_offset),
        (4, 3, 3)
    );
    assert!(offsets.last_timestamp > 0);
    assert_eq!(stats.total_diff(), 1);

    let all = client.ok::<request::GetBrokerConsumeStats>(&GetBrokerConsumeStatsHeader { is_order: false }, "");
    let all: ConsumeStatsList = body(&all);
    assert_eq!(all.total_diff, 1);
    let groups = all.consume_stats_list.len();

    // Groups may commit any offset, and of several the differences overflow.
    for (group, queue_id, offset) in [("g", 0, i64::MIN), ("g", 1, i64::MIN), ("h", 0, i64::MAX)] {
        member.heart_beat(&consumer("c1", group, &["orders"]));
        client.ok::<request::UpdateConsumerOffset>(&commit(group, "orders", Some(queue_id), Some(offset)), "");
    }
    let all = GetBrokerConsumeStatsHeader { is_order: false };
    let all: ConsumeStatsList = body(&client.ok::<request::GetBrokerConsumeStats>(&all, ""));
    assert_eq!(all.consume_stats_list.len(), groups + 1);

    let span = TopicGroupHeader {
        topic: Some("orders".into()),
        group: "g".into(),
    };
    let span: QueryConsumeTimeSpanBody = body(&client.ok::<request::QueryConsumeTimeSpan>(&span, ""));
    assert_eq!(span.consume_time_span_set.len(), 2);
    let groups: GroupList = body(&client.ok::<request::QueryTopicConsumeByWho>(&topic, ""));
    assert!(groups.group_list.contains("g"));
    let group = GroupHeader { group: "g".into() };
    let topics: TopicList = body(&client.ok::<request::QueryTopicsByConsumer>(&group, ""));
    assert!(topics.topic_list.contains("orders"));
}

#[test]
fn subscriptions_of_requests_are_shown_beside_those_of_heartbeats() {
    let node = Node::start();
    let mut client = node.connect();
    client.create_topic("orders", 1);
    client.create_topic("bills", 1);
    group(&mut client, "g");
    client.ok::<request::UpdateConsumerOffset>(&commit("g", "orders", Some(0), Some(0)), "");
    let mut member = node.connect();
    member.heart_beat(&consumer("c1", "g", &["bills"]));
    let of_orders = TopicGroupHeader {
        topic: Some("orders".into()),
        group: "g".into(),
    };
    let stats = GetConsumeStatsHeader {
        consumer_group: "g".into(),
        ..GetConsumeStatsHeader::default()
    };
    let known = |client: &mut Client| {
        let subscription: QuerySubscriptionBody =
            body(&client.ok::<request::QuerySubscriptionByConsumer>(&of_orders, ""));
        let stats: ConsumeStats = body(&client.ok::<request::GetConsumeStats>(&stats, ""));
        let expression = subscription.subscription_data.map(|data| data.sub_string);
        (expression, stats.offset_table.len())
    };
    assert_eq!(known(&mut client), (None, 0));
    client.pull("g", "orders", 0, 0);
    assert_eq!(known(&mut client), (Some("*".to_owned()), 1));
}

#[test]
fn progress_is_cloned_and_corrected() {
    let node = Node::start();
    let mut client = node.connect();
    client.create_topic("orders", 1);
    group(&mut client, "a");
    client.ok::<request::UpdateConsumerOffset>(&commit("a", "orders", Some(0), Some(4)), "");
    group(&mut client, "b");
    client.ok::<request::UpdateConsumerOffset>(&commit("b", "orders", Some(1), Some(7)), "");
    let clone = CloneGroupOffsetHeader {
        src_group: "a".into(),
        dest_group: "b".into(),
        topic: None,
        offline: true,
    };
    client.ok::<request::CloneGroupOffset>(&clone, "");
    assert_eq!(query(&mut client, "b", 0, None), Ok(4));
    query(&mut client, "b", 1, Some(false)).expect_err("what the group had on the topic is replaced");
    let correction = QueryCorrectionOffsetHeader {
        filter_groups: Some("b".into()),
        compare_group: "a".into(),
        topic: "orders".into(),
    };
    let correction: QueryCorrectionOffsetBody = body(&client.ok::<request::QueryCorrectionOffset>(&correction, ""));
    assert_eq!(correction.correction_offsets[&0], 4);
}

#[test]
fn messages_are_found_by_key_by_id_and_in_their_queue() {
    let node = Node::start();
    let mut client = node.connect();
    client.create_topic("orders", 1);
    let sent = client.send("orders", 0, "hello", &[("KEYS", "k1 k2"), ("TAGS", "a")]);
    let by_key = QueryMessageHeader {
        topic: "orders".into(),
        key: "k2".into(),
        max_num: 10,
        begin_timestamp: 0,
        end_timestamp: i64::MAX,
        ..QueryMessageHeader::default()
    };
    eventually(|| client.call::<request::QueryMessage>(&by_key, "").header.code == 0);
    let unknown = QueryMessageHeader {
        key: "none".into(),
        ..by_key
    };
    assert_eq!(
        client.refused::<request::QueryMessage>(&unknown, ""),
        (22, "can not find message, maybe time range not correct".into())
    );
    let id: oxmq_protocol::message_id::OffsetMessageId = sent.msg_id.parse().unwrap();
    let view = |offset| ViewMessageHeader { topic: None, offset };
    let found = client.ok::<request::ViewMessageById>(&view(id.physical_offset), "");
    let found = oxmq_protocol::message::decode_messages(&found.body, true).unwrap();
    assert_eq!(found[0].message.body, "hello");
    assert_eq!(
        client.refused::<request::ViewMessageById>(&view(72057594037927935), ""),
        (1, "can not find message by the offset, 72057594037927935".into())
    );
    let header = QueryConsumeQueueHeader {
        topic: "orders".into(),
        count: 10,
        ..QueryConsumeQueueHeader::default()
    };
    let queue: QueryConsumeQueueBody = body(&client.ok::<request::QueryConsumeQueue>(&header, ""));
    assert_eq!((queue.min_queue_index, queue.max_queue_index), (0, 1));
    assert_eq!(queue.queue_data[0].tags_code, 97);
}
