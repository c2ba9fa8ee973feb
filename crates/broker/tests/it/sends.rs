//! What is stored, and what is refused with which words.

use oxmq_protocol::properties::Properties;
use oxmq_protocol::recall_handle::RecallHandle;
use oxmq_protocol::requests::{SendMessageHeader, SendMessageHeaderV2, request};
use oxmq_protocol::{RemotingCommand, SerializeType};

use crate::harness::*;

#[tokio::test]
async fn a_message_comes_back_as_it_was_sent() {
    let broker = Node::start();
    for (index, serialize) in [SerializeType::Json, SerializeType::RocketMq].into_iter().enumerate() {
        let client = broker.client_with(serialize);
        let header = SendMessageHeaderV2 {
            flag: 7,
            properties: Some(properties(&[
                ("UNIQ_KEY", "K1"),
                ("TAGS", "a"),
                ("POP_CK", "x"),
                ("é", "\"ü\\"),
            ])),
            ..message("orders", 1)
        };
        let reply = sent(&client.send(&header, "hello").await);
        assert_eq!((reply.queue_id, reply.queue_offset), (1, index as i64));
        assert_eq!(reply.transaction_id.as_deref(), Some("K1"));
        assert_eq!(
            (reply.region_id.as_deref(), reply.trace_on),
            (Some("DefaultRegion"), Some(true))
        );
        assert_eq!(reply.msg_id.len(), 32);

        let reply = client.pull(&pull("orders", 1, index as i64)).await;
        assert_eq!((reply.header.code, reply.header.remark.as_deref()), (0, Some("FOUND")));
        let records = records(&reply);
        let [record] = records[..] else {
            panic!("{} records", records.len())
        };
        assert_eq!(
            (record.body(), record.topic(), record.flag()),
            (&b"hello"[..], &b"orders"[..], 7)
        );
        assert_eq!((record.queue_id(), record.queue_offset()), (1, index as i64));
        assert_eq!(record.born_timestamp(), 1_700_000_000_000);
        assert_eq!(record.store_host(), broker.addr());
        let properties = Properties::decode(record.properties());
        assert_eq!(properties.get("POP_CK"), None);
        assert_eq!(properties.get("é"), Some("\"ü\\"));
        assert_eq!(properties.get("CLUSTER"), Some("DefaultCluster"));
        assert_eq!(properties.get("MSG_REGION"), Some("DefaultRegion"));
        assert_eq!(properties.get("TRACE_ON"), Some("true"));
    }
}

#[tokio::test]
async fn the_long_form_of_the_header_is_understood_and_a_missing_key_is_made() {
    let broker = Node::start();
    let header = SendMessageHeader {
        producer_group: "pg".into(),
        topic: "orders".into(),
        default_topic: "TBW102".into(),
        default_topic_queue_nums: 4,
        queue_id: -1,
        properties: None,
        ..SendMessageHeader::default()
    };
    let client = broker.client();
    let first = sent(&client.send_v1(&header, "x").await);
    let second = sent(&client.send_v1(&header, "x").await);
    assert_ne!(first.transaction_id, second.transaction_id);
    assert_eq!(first.transaction_id.unwrap().len(), 32);
    assert!((0..4).contains(&first.queue_id) && (0..4).contains(&second.queue_id));
}

#[tokio::test]
async fn a_batch_becomes_messages_in_a_row() {
    let broker = Node::start();
    let client = broker.client();
    let body = batch(&[("TAGS\u{1}a\u{2}", "one"), ("", "two"), ("TAGS\u{1}b\u{2}", "three")]);
    let header = SendMessageHeaderV2 {
        batch: true,
        ..message("orders", 2)
    };
    let reply = sent(&client.call::<request::SendBatchMessage>(&header, body).await);
    let ids: Vec<_> = reply.msg_id.split(',').collect();
    assert_eq!((ids.len(), reply.queue_id, reply.queue_offset), (3, 2, 0));
    let reply = client.pull(&pull("orders", 2, 0)).await;
    let records = records(&reply);
    let bodies: Vec<_> = records
        .iter()
        .map(|record| (record.queue_offset(), record.body()))
        .collect();
    assert_eq!(bodies, [(0, &b"one"[..]), (1, b"two"), (2, b"three")]);
    for (id, record) in ids.iter().zip(&records) {
        assert!(id.ends_with(&format!("{:016X}", record.physical_offset())));
    }

    for malformed in [&[][..], &[0, 0, 0, 1], &[0, 0, 0, 200, 0, 0], &[0xff; 40]] {
        let reply = client
            .call::<request::SendBatchMessage>(&header, malformed.to_vec())
            .await;
        assert_eq!(reply.header.code, 1);
        assert!(reply.header.ext_fields.is_empty());
    }
    let empty_item = batch(&[("", "one"), ("", "")]);
    assert_eq!(
        client
            .call::<request::SendBatchMessage>(&header, empty_item)
            .await
            .header
            .code,
        13
    );
    let next = sent(&client.send(&message("orders", 2), "four").await);
    assert_eq!(next.queue_offset, 3, "a refused batch leaves nothing");
}

#[tokio::test]
async fn messages_of_a_batch_keep_their_properties_byte_by_byte() {
    for has_light_queues in [false, true] {
        let broker = Node::start_with(|config| {
            (config.enable_lmq, config.enable_multi_dispatch) = (has_light_queues, has_light_queues);
        });
        let client = broker.client();
        let texts = ["nothing\u{1}\u{2}a\u{1}b\u{2}", "not closed\u{1}x"];
        let header = SendMessageHeaderV2 {
            batch: true,
            ..message("orders", 0)
        };
        let claimed = "INNER_MULTI_QUEUE_OFFSET\u{1}7\u{2}a\u{1}b\u{2}";
        let body = batch(&[(texts[0], "one"), (texts[1], "two"), (claimed, "three")]);
        sent(&client.call::<request::SendBatchMessage>(&header, body).await);
        let reply = client.pull(&pull("orders", 0, 0)).await;
        let stored: Vec<_> = records(&reply).iter().map(|record| record.properties()).collect();
        // A place in light queues is not for the client to say.
        let last = if has_light_queues { "a\u{1}b\u{2}" } else { claimed };
        assert_eq!(stored, [texts[0].as_bytes(), texts[1].as_bytes(), last.as_bytes()]);
    }
}

const FAQ: &str = "\nSee https://rocketmq.apache.org/docs/bestPractice/06FAQ for further details.";

#[tokio::test]
async fn what_cannot_be_stored_is_refused_in_the_words_of_the_original() {
    let broker = Node::start_with(|config| config.timer_wheel_enable = false);
    let client = broker.client();
    let to = |topic: &str| message(topic, 0);

    let reply = client.send(&to("a b"), "x").await;
    refused(
        &reply,
        29,
        "The specified topic: a b, contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$",
    );
    assert_eq!(reply.header.ext_fields.get("MSG_REGION"), Some("DefaultRegion"));
    assert_eq!(reply.header.ext_fields.get("TRACE_ON"), Some("true"));
    refused(&client.send(&to(""), "x").await, 29, "The specified topic is blank.");
    let long = "x".repeat(128);
    let too_long = format!("The specified topic: {long}, is longer than topic max length: 127");
    refused(&client.send(&to(&long), "x").await, 29, &too_long);
    for path in ["../../x", "a/b", "..", "\0"] {
        assert_eq!(client.send(&to(path), "x").await.header.code, 29, "{path}");
    }

    for closed in ["SCHEDULE_TOPIC_XXXX", "RMQ_SYS_TRANS_HALF_TOPIC"] {
        let remark = format!("Sending message to topic[{closed}] is forbidden.");
        refused(&client.send(&to(closed), "x").await, 16, &remark);
    }
    let orphan = SendMessageHeaderV2 {
        default_topic: "nobody".into(),
        ..to("orphan")
    };
    let remark = format!("topic[orphan] not exist, apply first please!{FAQ}");
    refused(&client.send(&orphan, "x").await, 17, &remark);

    client.create_topic("orders", 4, false).await;
    let reply = client.send(&message("orders", 4), "x").await;
    let remark = reply.header.remark.unwrap();
    assert_eq!(reply.header.code, 29);
    let wanted = "request queueId[4] is illegal, TopicConfig [topicName=orders, readQueueNums=4, writeQueueNums=4, \
                  perm=RW-, topicFilterType=SINGLE_TAG, topicSysFlag=0, order=false, attributes={}] Producer: 127.0.0.1:";
    assert!(remark.starts_with(wanted), "{remark}");

    let illegal = "the message is illegal, maybe msg body or properties length not matched. msg body length limit \
                   4194304B, msg properties length limit 32KB.";
    refused(&client.send(&to("orders"), "").await, 1, "the message has no body");
    let big = vec![b'x'; 4 * 1024 * 1024 + 1];
    let reply = client.call::<request::SendMessageV2>(&to("orders"), big).await;
    refused(&reply, 13, illegal);
    let wide = SendMessageHeaderV2 {
        properties: Some(properties(&[("a", &"x".repeat(32_750))])),
        ..to("orders")
    };
    refused(&client.send(&wide, "x").await, 13, illegal);

    let timed = SendMessageHeaderV2 {
        properties: Some(properties(&[("TIMER_DELAY_SEC", "5")])),
        ..to("orders")
    };
    let remark = "accurate timer message is not enabled, timerWheelEnable is false";
    refused(&client.send(&timed, "x").await, 1, remark);
}

#[tokio::test]
async fn a_timer_message_can_be_recalled_by_the_handle_of_its_reply() {
    let broker = Node::start();
    let client = broker.client();
    let timed = SendMessageHeaderV2 {
        properties: Some(properties(&[("UNIQ_KEY", "K"), ("TIMER_DELIVER_MS", "4000000000000")])),
        ..message("orders", 0)
    };
    let reply = client.send(&timed, "x").await;
    let handle = RecallHandle::decode(reply.header.ext_fields.get("recallHandle").unwrap()).unwrap();
    assert_eq!((handle.timestamp, &*handle.message_id), (3_999_999_999_001, "K"));
    let absurd = SendMessageHeaderV2 {
        properties: Some(properties(&[("TIMER_DELAY_SEC", "9223372036854775807")])),
        ..message("orders", 0)
    };
    let reply = client.send(&absurd, "x").await;
    assert_eq!(reply.header.code, 13);
    assert!(reply.header.remark.unwrap().starts_with("timer message illegal"));
}

#[tokio::test]
async fn a_field_that_is_missing_is_named() {
    let broker = Node::start();
    let client = broker.client();
    let mut command = RemotingCommand::request::<request::SendMessageV2>(&message("orders", 0), "x".into());
    command.header.ext_fields = [("b", "orders")].into_iter().collect();
    let reply = client.invoke(command).await;
    assert_eq!(reply.header.code, 1);
    assert!(reply.header.remark.unwrap().contains("the field a is missing"));
}

#[tokio::test]
async fn retries_that_are_used_up_go_to_the_dead_letters() {
    let broker = Node::start();
    let client = broker.client();
    let retry = |reconsume_times| SendMessageHeaderV2 {
        reconsume_times: Some(reconsume_times),
        max_reconsume_times: Some(2),
        properties: Some(properties(&[("UNIQ_KEY", "K"), ("DELAY", "3")])),
        ..message("%RETRY%cg", 0)
    };
    sent(&client.send(&retry(3), "dead").await);
    let reply = client.pull(&pull("%DLQ%cg", 0, 0)).await;
    let records = records(&reply);
    assert_eq!(records[0].body(), b"dead");
    assert_eq!(Properties::decode(records[0].properties()).get("DELAY"), Some("-1"));
    let body = batch(&[("", "one")]);
    let header = SendMessageHeaderV2 {
        batch: true,
        ..message("%RETRY%cg", 0)
    };
    let reply = client.call::<request::SendBatchMessage>(&header, body).await;
    refused(&reply, 13, "batch request does not support retry group ");
}

#[tokio::test]
async fn an_order_topic_needs_a_writeable_broker() {
    let broker = Node::start_with(|config| config.broker_permission = 4);
    let client = broker.client();
    client.create_topic("ordered", 1, true).await;
    client.create_topic("plain", 1, false).await;
    let remark = "the broker[127.0.0.1] sending message is forbidden";
    refused(&client.send(&message("ordered", 0), "x").await, 16, remark);
    sent(&client.send(&message("plain", 0), "x").await);
}

#[tokio::test]
async fn sends_are_refused_until_their_time() {
    let broker = Node::start_with(|config| config.start_accept_send_request_timestamp = 8_000_000_000_000);
    let reply = broker.client().send(&message("orders", 0), "x").await;
    assert_eq!(reply.header.code, 1);
    assert!(
        reply
            .header
            .remark
            .unwrap()
            .starts_with("broker unable to service, until 22")
    );
}

#[tokio::test]
async fn with_sync_flush_a_reply_means_that_the_disk_has_it() {
    let broker = Node::start_with(|config| config.flush_disk_type = oxmq_broker::FlushDiskType::SyncFlush);
    let client = broker.client();
    client.create_topic("orders", 1, false).await;
    let mut sends = Vec::new();
    for _ in 0..200 {
        let client = client.clone();
        sends.push(tokio::spawn(async move {
            let reply = sent(&client.send(&message("orders", 0), "x").await);
            i64::from_str_radix(&reply.msg_id[16..], 16).unwrap()
        }));
    }
    for send in sends {
        let physical_offset = send.await.unwrap();
        assert!(broker.broker().store.flushed() > physical_offset);
    }
    let unwaited = SendMessageHeaderV2 {
        properties: Some(properties(&[("WAIT", "false")])),
        ..message("orders", 0)
    };
    assert_eq!(sent(&client.send(&unwaited, "x").await).queue_offset, 200);
}
