//! Static topics, light queues and queues of batches over the wire, and across restarts.

use oxmq_protocol::body::{LogicQueueMappingItem, TopicConfigAndQueueMapping, TopicQueueMappingDetail};
use oxmq_protocol::json;
use oxmq_protocol::requests::*;
use oxmq_tests::eventually;

use crate::node::*;

/// Creates a static topic whose logical queue 0 is physical queue 1 here, and whose logical queue 1 is elsewhere.
fn create_static(client: &mut Client, epoch: i64) -> (i32, String) {
    let item = |bname: &str, queue_id| LogicQueueMappingItem {
        bname: bname.into(),
        queue_id,
        logic_offset: 100,
        ..LogicQueueMappingItem::default()
    };
    let detail = TopicQueueMappingDetail {
        bname: "broker-a".into(),
        epoch,
        hosted_queues: [(0, vec![item("broker-a", 1)]), (1, vec![item("broker-b", 0)])].into(),
        topic: "static".into(),
        total_queues: 2,
        ..TopicQueueMappingDetail::default()
    };
    let header = CreateTopicHeader {
        topic: "static".into(),
        read_queue_nums: 2,
        write_queue_nums: 2,
        perm: 6,
        topic_filter_type: "SINGLE_TAG".into(),
        ..CreateTopicHeader::default()
    };
    let reply = client.call::<request::UpdateAndCreateStaticTopic>(&header, json::to_vec(&detail));
    (reply.header.code, reply.header.remark.unwrap_or_default())
}

fn queue(queue_id: i32) -> QueueHeader {
    QueueHeader {
        topic: "static".into(),
        queue_id,
        ..QueueHeader::default()
    }
}

#[test]
fn a_static_topic_is_served_by_its_logical_queues() {
    let node = Node::start();
    let mut client = node.connect();
    assert_eq!(create_static(&mut client, 5).0, 0);
    let (code, remark) = create_static(&mut client, 4);
    assert_eq!((code, remark.as_str()), (1, "Can't accept data with small epoch 4 < 5"));
    for offset in 100..103 {
        let sent = client.send("static", 0, "m", &[]);
        assert_eq!((sent.queue_id, sent.queue_offset), (0, offset));
    }
    let chosen = client.send("static", -1, "m", &[]);
    assert_eq!((chosen.queue_id, chosen.queue_offset), (0, 103));
    assert_eq!(client.refused::<request::GetMaxOffset>(&queue(1), "").0, 501);
    assert_eq!(client.refused::<request::GetMaxOffset>(&queue(7), "").0, 501);
    drop(client);

    let node = node.restart();
    let mut client = node.connect();
    let ends: [OffsetReply; 2] = [
        fields(&client.ok::<request::GetMinOffset>(&queue(0), "")),
        fields(&client.ok::<request::GetMaxOffset>(&queue(0), "")),
    ];
    assert_eq!(ends.map(|end| end.offset), [100, 104]);
    let pulled = client.pull("g", "static", 0, 102);
    assert_eq!(
        pulled.iter().map(|message| message.queue_offset).collect::<Vec<_>>(),
        [2, 3],
        "physical"
    );
    let commit = UpdateConsumerOffsetHeader {
        consumer_group: Some("g".into()),
        topic: Some("static".into()),
        queue_id: Some(0),
        commit_offset: Some(103),
        ..UpdateConsumerOffsetHeader::default()
    };
    client.ok::<request::UpdateConsumerOffset>(&commit, "");
    let query = QueryConsumerOffsetHeader {
        consumer_group: "g".into(),
        topic: "static".into(),
        ..QueryConsumerOffsetHeader::default()
    };
    let committed: OffsetReply = fields(&client.ok::<request::QueryConsumerOffset>(&query, ""));
    assert_eq!(committed.offset, 103);
    let header = TopicHeader {
        topic: "static".into(),
        broker_name: None,
    };
    let of_topic = TopicConfigHeader {
        topic: "static".into(),
        ..TopicConfigHeader::default()
    };
    let plain: TopicConfigAndQueueMapping = body(&client.ok::<request::GetTopicConfig>(&of_topic, ""));
    assert_eq!((plain.config.read_queue_nums, plain.mapping_detail), (2, None));
    client.ok::<request::DeleteTopicInBroker>(&header, "");
    let node = node.restart();
    assert!(!node.config_file("topicQueueMapping.json").contains("broker-b"));
}

#[test]
fn light_queues_and_batches_go_on_after_a_restart() {
    let start = |config: &mut oxmq_broker::BrokerConfig| {
        config.enable_lmq = true;
        config.enable_multi_dispatch = true;
    };
    let mut node = Node::start_with(start);
    let header = CreateTopicHeader {
        topic: "batches".into(),
        read_queue_nums: 1,
        write_queue_nums: 1,
        perm: 6,
        topic_filter_type: "SINGLE_TAG".into(),
        attributes: Some("+queue.type=BatchCQ".into()),
        ..CreateTopicHeader::default()
    };
    let mut client = node.connect();
    client.create_topic("parent", 1);
    client.ok::<request::UpdateAndCreateTopic>(&header, "");
    for round in 0..3 {
        let mut client = node.connect();
        let light = [("INNER_MULTI_DISPATCH", "%LMQ%a,%LMQ%b")];
        assert_eq!(client.send("parent", 0, "to both", &light).queue_offset, round);
        assert_eq!(client.send("batches", 0, "one", &[]).queue_offset, round);
        for topic in ["parent", "%LMQ%a", "%LMQ%b", "batches"] {
            eventually(|| client.pull("g", topic, 0, 0).len() as i64 == round + 1);
        }
        drop(client);
        node = node.restart();
    }
}
