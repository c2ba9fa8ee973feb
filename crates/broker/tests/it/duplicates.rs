//! Sends that come twice, with `duplicateSendWindow`.

use bytes::Bytes;
use oxmq_broker::{BrokerConfig, FlushDiskType};
use oxmq_protocol::requests::{SendMessageHeaderV2, SendMessageReply, request};

use crate::harness::*;

fn with_window(config: &mut BrokerConfig) {
    config.duplicate_send_window_ms = 600_000;
}

fn keyed(topic: &str, queue_id: i32, key: &str) -> SendMessageHeaderV2 {
    SendMessageHeaderV2 {
        properties: Some(properties(&[("UNIQ_KEY", key), ("WAIT", "true")])),
        ..message(topic, queue_id)
    }
}

/// How many messages the topic has, in all of its queues.
fn stored(broker: &Node, topic: &str) -> i64 {
    let queues = broker.broker().store.queues_of(topic);
    queues.iter().map(|queue| queue.max_offset()).sum()
}

async fn send(broker: &Node, header: &SendMessageHeaderV2) -> SendMessageReply {
    sent(&broker.client().send(header, "body").await)
}

#[tokio::test]
async fn a_message_that_is_sent_again_is_stored_once_and_gets_the_first_answer() {
    for flush_disk_type in [FlushDiskType::AsyncFlush, FlushDiskType::SyncFlush] {
        let broker = Node::start_with(|config| {
            with_window(config);
            config.flush_disk_type = flush_disk_type;
        });
        send(&broker, &keyed("orders", 0, "OTHER")).await;
        let first = send(&broker, &keyed("orders", 2, "K1")).await;
        // Clients choose another queue for the second attempt.
        for queue_id in [3, 0, 2] {
            assert_eq!(send(&broker, &keyed("orders", queue_id, "K1")).await, first);
        }
        assert_eq!((first.queue_id, stored(&broker, "orders")), (2, 2));

        send(&broker, &keyed("bills", 2, "K1")).await;
        let again = SendMessageHeaderV2 {
            reconsume_times: Some(1),
            ..keyed("orders", 2, "K1")
        };
        send(&broker, &again).await;
        let without_key = SendMessageHeaderV2 {
            properties: None,
            ..message("orders", 1)
        };
        send(&broker, &without_key).await;
        send(&broker, &without_key).await;
        assert_eq!((stored(&broker, "orders"), stored(&broker, "bills")), (5, 1));
    }
}

#[tokio::test]
async fn nothing_is_remembered_unless_that_is_wanted_and_not_for_ever() {
    for window_ms in [0, 5] {
        let broker = Node::start_with(|config| config.duplicate_send_window_ms = window_ms);
        send(&broker, &keyed("orders", 0, "K1")).await;
        let sent_at = broker.broker().now_ms();
        while broker.broker().now_ms() <= sent_at + window_ms as i64 {
            tokio::task::yield_now().await;
        }
        send(&broker, &keyed("orders", 0, "K1")).await;
        assert_eq!(stored(&broker, "orders"), 2, "{window_ms}");
    }
}

#[tokio::test]
async fn of_many_at_once_one_is_stored() {
    let broker = Node::start_with(with_window);
    broker.client().create_topic("orders", 4, false).await;
    let sends: Vec<_> = (0..40)
        .map(|number| {
            let client = broker.client();
            tokio::spawn(async move { sent(&client.send(&keyed("orders", number % 4, "K1"), "body").await) })
        })
        .collect();
    let mut answers = Vec::new();
    for send in sends {
        answers.push(send.await.unwrap());
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(stored(&broker, "orders"), 1);
}

#[tokio::test]
async fn a_batch_is_known_by_its_messages() {
    let broker = Node::start_with(with_window);
    let items = ["A", "B", "C"].map(|key| format!("UNIQ_KEY\u{1}{key}\u{2}"));
    let items: Vec<_> = items.iter().map(|properties| (properties.as_str(), "item")).collect();
    let body = Bytes::from(batch(&items));
    let header = |queue_id| SendMessageHeaderV2 {
        batch: true,
        properties: Some(properties(&[("UNIQ_KEY", "OF-THE-BATCH"), ("WAIT", "true")])),
        ..message("orders", queue_id)
    };
    let client = broker.client();
    let first = sent(&client.call::<request::SendBatchMessage>(&header(1), body.clone()).await);
    let second = sent(&client.call::<request::SendBatchMessage>(&header(3), body.clone()).await);
    assert_eq!(first, second);
    assert_eq!((first.msg_id.split(',').count(), stored(&broker, "orders")), (3, 3));

    let killed = broker.start_on_copy();
    let third = sent(
        &killed
            .client()
            .call::<request::SendBatchMessage>(&header(0), body)
            .await,
    );
    assert_eq!(
        (third.queue_id, third.queue_offset, stored(&killed, "orders")),
        (1, 0, 3)
    );
    // The address of the copy is another one.
    let places = |ids: &str| ids.split(',').map(|id| id[16..].to_owned()).collect::<Vec<_>>();
    assert_eq!(places(&third.msg_id), places(&first.msg_id));
}

#[tokio::test]
async fn a_restart_and_a_kill_forget_nothing() {
    let mut broker = Node::start_with(with_window);
    let half = SendMessageHeaderV2 {
        properties: Some(properties(&[
            ("UNIQ_KEY", "T1"),
            ("TRAN_MSG", "true"),
            ("PGROUP", "pg"),
        ])),
        sys_flag: 4,
        ..message("orders", 2)
    };
    let delayed = SendMessageHeaderV2 {
        properties: Some(properties(&[("UNIQ_KEY", "D1"), ("DELAY", "18")])),
        ..message("orders", 3)
    };
    let sends = [keyed("orders", 1, "K1"), half, delayed];
    let mut answers = Vec::new();
    for header in &sends {
        answers.push(send(&broker, header).await);
    }
    let place = |reply: &SendMessageReply| (reply.msg_id[16..].to_owned(), reply.queue_id, reply.queue_offset);
    let killed = broker.start_on_copy();
    for (header, first) in sends.iter().zip(&answers) {
        assert_eq!(send(&broker, header).await, *first);
        assert_eq!(place(&send(&killed, header).await), place(first), "after a kill");
    }
    broker.stop();
    broker.start_again();
    for (header, first) in sends.iter().zip(&answers) {
        let again = SendMessageHeaderV2 {
            queue_id: 0,
            ..header.clone()
        };
        assert_eq!(place(&send(&broker, &again).await), place(first), "after a restart");
    }
    assert_eq!(
        broker.broker().store.written(),
        killed.broker().store.written(),
        "nothing was stored again"
    );
}
