//! POP over the wire: messages are handed out once, acknowledged one by one, and come again when nobody does.

use std::time::{Duration, Instant};

use oxmq_broker::{FlushDiskType, MetricsExporterType};
use oxmq_protocol::RemotingCommand;
use oxmq_protocol::body::{BatchAck, BatchAckMessageRequestBody};
use oxmq_protocol::message::{MessageExt, decode_messages};
use oxmq_protocol::pop::{REVIVE_GROUP, ReceiptHandle, revive_topic};
use oxmq_protocol::requests::*;
use oxmq_store::disk::SimulatedDisk;
use oxmq_tests::eventually;

use crate::node::*;

/// What a pop brought.
struct Popped {
    code: i32,
    fields: PopMessageReply,
    messages: Vec<MessageExt>,
}

impl Popped {
    fn bodies(&self) -> Vec<String> {
        let text = |message: &MessageExt| String::from_utf8(message.message.body.to_vec()).unwrap();
        self.messages.iter().map(text).collect()
    }

    /// The handle of a message, as clients make it.
    fn handle(&self, message: &MessageExt) -> String {
        if let Some(handle) = message.message.properties.get("POP_CK") {
            return handle.to_owned();
        }
        let queue = format!("0 {} ", message.queue_id);
        let info = self.fields.start_offset_info.as_deref().unwrap();
        let start = info.split(';').find_map(|info| info.strip_prefix(&queue)).unwrap();
        let PopMessageReply {
            pop_time,
            invisible_time,
            revive_qid,
            ..
        } = self.fields;
        let (queue_id, offset) = (message.queue_id, message.queue_offset);
        format!("{start} {pop_time} {invisible_time} {revive_qid} 0 broker-a {queue_id} {offset}")
    }
}

pub(crate) fn popping(topic: &str) -> PopMessageHeader {
    PopMessageHeader {
        consumer_group: "g".into(),
        topic: topic.into(),
        queue_id: -1,
        max_msg_nums: 32,
        invisible_time: 60_000,
        ..PopMessageHeader::default()
    }
}

fn popped(reply: &RemotingCommand) -> Popped {
    Popped {
        code: reply.header.code,
        fields: fields(reply),
        messages: decode_messages(&reply.body, true).unwrap(),
    }
}

impl Client {
    fn pop(&mut self, header: &PopMessageHeader) -> Popped {
        popped(&self.call::<request::PopMessage>(header, ""))
    }

    pub(crate) fn ack(&mut self, topic: &str, handle: &str) -> (i32, String) {
        let parsed = ReceiptHandle::parse(handle).unwrap();
        let header = AckMessageHeader {
            consumer_group: "g".into(),
            topic: topic.into(),
            queue_id: parsed.queue_id,
            extra_info: handle.into(),
            offset: parsed.queue_offset.unwrap(),
            broker_name: None,
        };
        self.refused::<request::AckMessage>(&header, "")
    }

    fn committed(&mut self, topic: &str, queue_id: i32) -> Option<i64> {
        let header = QueryConsumerOffsetHeader {
            consumer_group: "g".into(),
            topic: topic.into(),
            queue_id,
            set_zero_if_not_found: Some(false),
            broker_name: None,
        };
        let reply = self.call::<request::QueryConsumerOffset>(&header, "");
        (reply.header.code == 0).then(|| fields::<OffsetReply>(&reply).offset)
    }
}

/// What a pop brings: bodies and handles.
pub(crate) fn handed_out(client: &mut Client, header: &PopMessageHeader) -> Vec<(String, String)> {
    let reply = client.call::<request::PopMessage>(header, "");
    if reply.header.code != 0 {
        return Vec::new();
    }
    let popped = popped(&reply);
    let handles = popped.messages.iter().map(|message| popped.handle(message));
    popped.bodies().into_iter().zip(handles).collect()
}

fn sent(client: &mut Client, topic: &str, queue_nums: i32, bodies: &[&str]) {
    client.create_topic(topic, queue_nums);
    for (index, body) in bodies.iter().enumerate() {
        client.send(topic, index as i32 % queue_nums, body, &[]);
    }
}

#[test]
fn a_message_is_handed_out_once() {
    let node = Node::start();
    let mut client = node.connect();
    sent(&mut client, "t", 2, &["a", "b", "c"]);
    let first = client.pop(&popping("t"));
    let mut bodies = first.bodies();
    bodies.sort();
    assert_eq!((first.code, bodies), (0, vec!["a".into(), "b".into(), "c".into()]));
    assert_eq!((first.fields.invisible_time, first.fields.rest_num), (60_000, 0));
    let again = client.pop(&popping("t"));
    assert_eq!((again.code, again.messages.len()), (210, 0));
    assert_eq!((client.committed("t", 0), client.committed("t", 1)), (Some(2), Some(1)));
    for message in &first.messages {
        assert_eq!(client.ack("t", &first.handle(message)).0, 0);
    }
}

/// Creates a topic whose attribute makes pops look at the highest queue first.
fn of_priority(client: &mut Client, topic: &str, queue_nums: i32) {
    let header = CreateTopicHeader {
        topic: topic.into(),
        read_queue_nums: queue_nums,
        write_queue_nums: queue_nums,
        perm: 6,
        topic_filter_type: "SINGLE_TAG".into(),
        attributes: Some("+message.type=PRIORITY".into()),
        ..CreateTopicHeader::default()
    };
    client.ok::<request::UpdateAndCreateTopic>(&header, "");
}

#[test]
fn the_highest_priority_is_popped_first() {
    let node = Node::start();
    let mut client = node.connect();
    of_priority(&mut client, "t", 3);
    for (priority, queue_id) in [("1", 1), ("0", 0), ("7", 2), ("2", 2), ("-1", 0), ("x", 0)] {
        let sent = client.send("t", 0, priority, &[("_SYS_MSG_PRIORITY_", priority)]);
        assert_eq!(sent.queue_id, queue_id, "{priority}");
    }
    let sharded = [("_SYS_MSG_PRIORITY_", "2"), ("__SHARDINGKEY", "k")];
    assert_eq!(client.send("t", 0, "sharded", &sharded).queue_id, 0);
    let one = PopMessageHeader {
        max_msg_nums: 1,
        ..popping("t")
    };
    let popped: Vec<Popped> = (0..7).map(|_| client.pop(&one)).collect();
    let bodies: Vec<String> = popped.iter().flat_map(Popped::bodies).collect();
    assert_eq!(bodies, ["7", "2", "1", "0", "-1", "x", "sharded"]);
    let last = &popped[6].messages[0].message.properties;
    assert_eq!(
        last.get("_SYS_MSG_PRIORITY_"),
        None,
        "a message of another type loses it"
    );
}

#[test]
fn a_new_group_starts_where_it_wants() {
    let node = Node::start_with(|config| config.init_pop_offset_by_check_msg_in_mem = false);
    let mut client = node.connect();
    sent(&mut client, "t", 1, &["a", "b", "c"]);
    let header = PopMessageHeader {
        init_mode: 1,
        ..popping("t")
    };
    assert_eq!(client.pop(&header).bodies(), ["c"]);
}

#[test]
fn what_is_not_acknowledged_comes_again() {
    let node = Node::start();
    let mut client = node.connect();
    sent(&mut client, "t", 1, &["a", "b"]);
    let header = PopMessageHeader {
        invisible_time: 1000,
        ..popping("t")
    };
    let first = client.pop(&header);
    assert_eq!(client.ack("t", &first.handle(&first.messages[0])).0, 0);
    let again = client.pop(&PopMessageHeader {
        poll_time: 9_000,
        ..popping("t")
    });
    assert_eq!(again.bodies(), ["b"]);
    let message = &again.messages[0];
    assert_eq!((message.message.topic.as_str(), message.reconsume_times), ("t", 1));
    let first_time = first.fields.pop_time.to_string();
    assert_eq!(message.message.properties.get("1ST_POP_TIME"), Some(&*first_time));
    let handle = again.handle(message);
    assert_eq!(ReceiptHandle::parse(&handle).unwrap().retry, "1");
    assert_eq!(client.ack("%RETRY%g_t", &handle).0, 0);
}

#[test]
fn what_was_handed_out_survives_a_restart() {
    for merge in [false, true] {
        let node = Node::start_with(|config| config.enable_pop_buffer_merge = merge);
        let mut client = node.connect();
        sent(&mut client, "t", 1, &["a", "b", "c"]);
        let header = PopMessageHeader {
            invisible_time: 8000,
            ..popping("t")
        };
        let first = client.pop(&header);
        assert_eq!(client.ack("t", &first.handle(&first.messages[1])).0, 0);
        // Checkpoint and acknowledgement: Java would bring the ones that are not entered in any order.
        let node = node.restart_with(|dir| {
            let check = std::fs::read(dir.join("store/config/timercheck")).unwrap();
            assert_eq!(i64::from_be_bytes(check[16..24].try_into().unwrap()), 2);
        });
        let mut client = node.connect();
        assert_eq!(client.pop(&popping("t")).code, 210, "still invisible, merge {merge}");
        let mut again = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(30);
        while again.len() < 2 && Instant::now() < deadline {
            let header = PopMessageHeader {
                poll_time: 5000,
                ..popping("t")
            };
            again.extend(client.pop(&header).bodies());
        }
        again.sort();
        assert_eq!(again, ["a", "c"], "merge {merge}");
    }
}

#[test]
fn checkpoints_in_memory_hold_the_offset_until_they_are_acknowledged() {
    let node = Node::start_with(|config| config.enable_pop_buffer_merge = true);
    let mut client = node.connect();
    sent(&mut client, "t", 1, &["a", "b"]);
    let first = client.pop(&popping("t"));
    assert_eq!(client.committed("t", 0), Some(0));
    assert_eq!(client.pop(&popping("t")).code, 210);
    for message in &first.messages {
        assert_eq!(client.ack("t", &first.handle(message)).0, 0);
    }
    assert_eq!(client.committed("t", 0), Some(2));
}

#[test]
fn batches_are_acknowledged_at_once() {
    let node = Node::start();
    let mut client = node.connect();
    sent(&mut client, "t", 1, &["a", "b", "c"]);
    let first = client.pop(&PopMessageHeader {
        invisible_time: 1000,
        ..popping("t")
    });
    let body = BatchAckMessageRequestBody {
        broker_name: "broker-a".into(),
        acks: vec![BatchAck {
            bit_set: [0, 2, 99].into_iter().collect(),
            consumer_group: "g".into(),
            invisible_time: 1000,
            pop_time: first.fields.pop_time,
            queue_id: 0,
            retry: "0".into(),
            revive_queue_id: first.fields.revive_qid,
            start_offset: 0,
            topic: "t".into(),
        }],
    };
    client.ok::<request::BatchAckMessage>(&(), json_of(&body));
    assert_eq!(client.refused::<request::BatchAckMessage>(&(), "").0, 208);
    let again = client.pop(&PopMessageHeader {
        poll_time: 9_000,
        ..popping("t")
    });
    assert_eq!(again.bodies(), ["b"]);
}

#[test]
fn a_message_can_be_made_visible_earlier() {
    let node = Node::start();
    let mut client = node.connect();
    sent(&mut client, "t", 1, &["a"]);
    let first = client.pop(&popping("t"));
    let handle = first.handle(&first.messages[0]);
    let header = ChangeInvisibleTimeHeader {
        consumer_group: "g".into(),
        topic: "t".into(),
        queue_id: 0,
        extra_info: handle.clone(),
        offset: 0,
        invisible_time: 500,
        ..ChangeInvisibleTimeHeader::default()
    };
    let changed: ChangeInvisibleTimeReply = fields(&client.ok::<request::ChangeMessageInvisibleTime>(&header, ""));
    assert_eq!(
        (changed.invisible_time, changed.revive_qid),
        (500, first.fields.revive_qid)
    );
    assert!(changed.pop_time >= first.fields.pop_time);
    let beyond = ChangeInvisibleTimeHeader { offset: 1, ..header };
    assert_eq!(
        client.refused::<request::ChangeMessageInvisibleTime>(&beyond, "").0,
        208
    );
    let again = client.pop(&PopMessageHeader {
        poll_time: 9_000,
        ..popping("t")
    });
    assert_eq!(again.bodies(), ["a"]);
}

#[test]
fn a_message_that_is_put_off_in_the_millisecond_of_its_pop_comes_again() {
    for merge in [false, true] {
        let clock = VirtualClock::new();
        let node = Node::start_in(clock.environment(), |config| config.enable_pop_buffer_merge = merge);
        let mut client = node.connect();
        sent(&mut client, "t", 1, &["a"]);
        let first = client.pop(&PopMessageHeader {
            invisible_time: 2000,
            ..popping("t")
        });
        let mut handle = first.handle(&first.messages[0]);
        for _ in 0..2 {
            let header = ChangeInvisibleTimeHeader {
                consumer_group: "g".into(),
                topic: "t".into(),
                queue_id: 0,
                extra_info: handle.clone(),
                offset: 0,
                invisible_time: 500,
                ..ChangeInvisibleTimeHeader::default()
            };
            let changed: ChangeInvisibleTimeReply =
                fields(&client.ok::<request::ChangeMessageInvisibleTime>(&header, ""));
            handle = format!("0 {} 500 {} 0 broker-a 0 0", changed.pop_time, changed.revive_qid);
        }
        // Everything that belongs to the first checkpoints arrives before the last one is due.
        node.pass(&clock, 2100);
        let came = (0..100).find_map(|_| {
            node.pass(&clock, 500);
            let bodies = client.pop(&popping("t")).bodies();
            if bodies.is_empty() {
                std::thread::sleep(Duration::from_millis(20));
            }
            (!bodies.is_empty()).then_some(bodies)
        });
        assert_eq!(came, Some(vec!["a".to_owned()]), "merge {merge}");
    }
}

#[test]
fn a_waiting_request_gets_what_arrives() {
    let node = Node::start();
    let mut consumer = node.connect();
    let mut producer = node.connect();
    producer.create_topic("t", 4);
    let header = PopMessageHeader {
        poll_time: 9_000,
        exp: Some("wanted".into()),
        exp_type: Some("TAG".into()),
        ..popping("t")
    };
    consumer.write(&RemotingCommand::request::<request::PopMessage>(&header, "".into()));
    let info = PollingInfoHeader {
        consumer_group: "g".into(),
        topic: "t".into(),
        queue_id: -1,
        broker_name: None,
    };
    eventually(|| fields::<PollingInfoReply>(&producer.ok::<request::PollingInfo>(&info, "")).polling_num == 1);
    producer.send("t", 3, "other", &[("TAGS", "unwanted")]);
    producer.send("t", 3, "mine", &[("TAGS", "wanted")]);
    let found = popped(&consumer.read_reply());
    assert_eq!((found.code, found.bodies()), (0, vec!["mine".to_owned()]));
    assert_eq!(
        fields::<PollingInfoReply>(&producer.ok::<request::PollingInfo>(&info, "")).polling_num,
        0
    );
    let started = Instant::now();
    let short = PopMessageHeader {
        poll_time: 300,
        ..header
    };
    assert_eq!(consumer.pop(&short).code, 210);
    assert!(
        started.elapsed() >= Duration::from_millis(200),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn an_orderly_group_is_blocked_by_what_is_out() {
    let node = Node::start();
    let mut client = node.connect();
    sent(&mut client, "t", 1, &["a", "b", "c"]);
    let ask = |attempt: &str, poll_time| PopMessageHeader {
        order: Some(true),
        attempt_id: Some(attempt.into()),
        max_msg_nums: 2,
        poll_time,
        invisible_time: 1500,
        ..popping("t")
    };
    let first = client.pop(&ask("one", 0));
    assert_eq!(
        (first.bodies(), first.fields.revive_qid),
        (vec!["a".into(), "b".into()], 999)
    );
    assert_eq!(first.fields.order_count_info.as_deref(), Some("0 0 0"));
    assert_eq!(client.committed("t", 0), Some(0));
    assert_eq!(client.pop(&ask("two", 0)).code, 210);
    assert_eq!(client.pop(&ask("one", 0)).bodies(), ["a", "b"], "the same attempt");
    let again = client.pop(&ask("two", 9_000));
    assert_eq!(again.bodies(), ["a", "b"], "visible again");
    let counts = again.fields.order_count_info.as_deref();
    assert_eq!(counts, Some("0 qo0%0 1;0 qo0%1 1;0 0 1"));
    assert_eq!(client.ack("t", &again.handle(&again.messages[0])).0, 0);
    assert_eq!(client.committed("t", 0), Some(1));
    assert_eq!(client.ack("t", &again.handle(&again.messages[1])).0, 0);
    assert_eq!(client.committed("t", 0), Some(2));
    let last = client.pop(&ask("three", 0));
    assert_eq!(last.bodies(), ["c"]);
    let beside = first.handle(&first.messages[0]);
    assert_eq!(client.ack("t", &beside).0, 0, "consumed already");
    let node = node.restart();
    let mut client = node.connect();
    assert_eq!(
        client.pop(&ask("four", 0)).code,
        210,
        "the batch that is out is known after a restart"
    );
}

#[test]
fn one_may_ask_without_taking() {
    let node = Node::start();
    let mut client = node.connect();
    client.create_topic("t", 2);
    let ask = NotificationHeader {
        consumer_group: "g".into(),
        topic: "t".into(),
        queue_id: -1,
        ..NotificationHeader::default()
    };
    let has_msg = |client: &mut Client, ask: &NotificationHeader| {
        fields::<NotificationReply>(&client.ok::<request::Notification>(ask, "")).has_msg
    };
    assert!(!has_msg(&mut client, &ask));
    let waiting = NotificationHeader {
        poll_time: 10_000,
        ..ask.clone()
    };
    let mut other = node.connect();
    other.write(&RemotingCommand::request::<request::Notification>(&waiting, "".into()));
    client.send("t", 1, "a", &[]);
    assert!(fields::<NotificationReply>(&other.read_reply()).has_msg);
    assert!(has_msg(&mut client, &ask));
    let peek = PeekMessageHeader {
        consumer_group: "g".into(),
        topic: "t".into(),
        queue_id: -1,
        max_msg_nums: 32,
        broker_name: None,
    };
    for _ in 0..2 {
        let peeked = client.ok::<request::PeekMessage>(&peek, "");
        assert_eq!(decode_messages(&peeked.body, true).unwrap().len(), 1);
    }
    assert_eq!(client.pop(&popping("t")).bodies(), ["a"]);
    assert!(!has_msg(&mut client, &ask));
    assert_eq!(client.refused::<request::PeekMessage>(&peek, "").0, 19);
}

#[test]
fn an_offset_can_be_reset() {
    let node = Node::start();
    let mut client = node.connect();
    sent(&mut client, "t", 1, &["a", "b"]);
    assert_eq!(client.pop(&popping("t")).bodies(), ["a", "b"]);
    let reset = ResetOffsetHeader {
        group: "g".into(),
        topic: "t".into(),
        queue_id: Some(0),
        offset: Some(1),
        timestamp: -1,
        is_force: true,
    };
    client.ok::<request::InvokeBrokerToResetOffset>(&reset, "");
    assert_eq!(client.pop(&popping("t")).bodies(), ["b"]);
}

#[test]
fn wrong_requests_get_the_codes_of_java() {
    let node = Node::start();
    let mut client = node.connect();
    sent(&mut client, "t", 1, &["a"]);
    let mut refused = |change: fn(&mut PopMessageHeader)| {
        let mut header = popping("t");
        change(&mut header);
        client.refused::<request::PopMessage>(&header, "").0
    };
    assert_eq!(refused(|header| header.topic = "none".into()), 17);
    assert_eq!(refused(|header| header.queue_id = 1), 29);
    assert_eq!(refused(|header| header.max_msg_nums = 33), 29);
    assert_eq!(refused(|header| header.consumer_group = "bad group".into()), 26);
    assert_eq!(refused(|header| header.exp = Some("||".into())), 23);
    assert_eq!(refused(|header| header.born_time = 1), 210);
    let forged = [
        ("", 1),
        ("x", 1),
        ("0 1 60000 0 0", 1),
        ("0 1 60000 77 0 broker-a 0 0", 0),
        ("-5 1 -1 0 0 broker-a 0 0", 0),
        (
            "9223372036854775807 9223372036854775807 9223372036854775807 7 9 b -1 0",
            0,
        ),
        ("0 1 60000 999 0 broker-a 0 0", 0),
    ];
    for (handle, code) in forged {
        for (offset, expected) in [(0, code), (2, 208), (-1, 208)] {
            let header = AckMessageHeader {
                consumer_group: "g".into(),
                topic: "t".into(),
                queue_id: 0,
                extra_info: handle.into(),
                offset,
                broker_name: None,
            };
            let reply = client.refused::<request::AckMessage>(&header, "");
            assert_eq!(reply.0, expected, "{handle} at {offset}: {}", reply.1);
        }
    }
    assert_eq!(
        client.pop(&popping("t")).bodies().len(),
        0,
        "the forged orderly handle moved the offset"
    );
    let header = |queue_id, topic: &str| AckMessageHeader {
        consumer_group: "g".into(),
        topic: topic.into(),
        queue_id,
        extra_info: "0 1 60000 0 0 broker-a 0 0".into(),
        ..AckMessageHeader::default()
    };
    assert_eq!(client.refused::<request::AckMessage>(&header(1, "t"), "").0, 13);
    assert_eq!(client.refused::<request::AckMessage>(&header(0, "none"), "").0, 17);
}

/// What a timer has delivered can be read when the disk has it, not before.
#[test]
fn an_acknowledgement_that_is_on_its_way_to_the_disk_is_not_missed() {
    let (clock, disk) = (VirtualClock::new(), SimulatedDisk::new());
    let node = Node::start_in(clock.with_disk(&disk), |config| {
        config.flush_disk_type = FlushDiskType::SyncFlush;
        config.metrics_exporter_type = MetricsExporterType::Prom;
        config.metrics_prom_exporter_port = 0;
    });
    let sum = |name, labels: &[_]| {
        let scrape = node.scrape();
        scrape.all(name, labels).iter().map(|(_, value)| value).sum::<f64>()
    };
    let revive_topic = revive_topic("DefaultCluster");
    let delivered = || sum("rocketmq_timer_dequeue_total", &[("topic", &*revive_topic)]);
    let rounds = || sum("rocketmq_pop_buffer_scan_time_consume_milliseconds_count", &[]);
    let mut client = node.connect();
    sent(&mut client, "t", 1, &["a"]);
    let popped = client.pop(&PopMessageHeader {
        invisible_time: 5000,
        ..popping("t")
    });
    assert_eq!(client.ack("t", &popped.handle(&popped.messages[0])).0, 0);
    // Each round of the thread that lets messages come again is counted from here on.
    client.ok::<request::UpdateBrokerConfig>(&(), "enablePopBufferMerge=true");
    node.pass(&clock, 4500);
    eventually(|| delivered() == 1.0);
    disk.hold_syncs();
    node.pass(&clock, 3000);
    eventually(|| delivered() == 2.0);
    let before = rounds();
    eventually(|| rounds() >= before + 3.0);
    disk.release_syncs();
    let revive_queue = popped.fields.revive_qid;
    let progress = QueryConsumerOffsetHeader {
        consumer_group: REVIVE_GROUP.into(),
        topic: revive_topic.clone(),
        queue_id: revive_queue,
        ..QueryConsumerOffsetHeader::default()
    };
    eventually(|| client.call::<request::QueryConsumerOffset>(&progress, "").header.code == 0);
    assert_eq!(
        client.pop(&popping("t")).bodies(),
        Vec::<String>::new(),
        "it was acknowledged in time"
    );
}
