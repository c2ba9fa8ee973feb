//! Messages that are sent together, and bounds for sends in the background.

use std::collections::BTreeSet;
use std::time::Duration;

use oxmq_client::{Message, Producer, ProducerBuilder, SendError};
use oxmq_protocol::{RequestCode, response_code};

use crate::scripted::{Answer, ScriptedServers};
use crate::servers::{Servers, numbers};

/// Longer than any test.
const NEVER: Duration = Duration::from_secs(30);

fn batching(servers: &ScriptedServers) -> ProducerBuilder {
    Producer::builder("g")
        .name_server(&servers.name_server)
        .auto_batch(true)
}

fn message(tag: &str, bytes: usize) -> Message {
    Message::new("t", vec![b'x'; bytes]).with_tags(tag)
}

#[tokio::test]
async fn messages_of_a_kind_share_a_request() {
    let servers = ScriptedServers::start(1, 2);
    let producer = batching(&servers).start().await.unwrap();
    let together: Vec<_> = (0..5).map(|_| producer.send_async(message("a", 10)).unwrap()).collect();
    let alone = producer.send_async(message("b", 10)).unwrap();
    let delayed = producer.send_async(message("a", 10).with_delay_level(1)).unwrap();
    let mut ids = BTreeSet::new();
    for (index, sending) in together.into_iter().enumerate() {
        let sent = sending.await.unwrap().unwrap();
        assert_eq!(sent.queue_offset, 7 + index as i64);
        ids.insert(sent.msg_id);
    }
    assert_eq!(ids.len(), 5);
    alone.await.unwrap().unwrap();
    delayed.await.unwrap().unwrap();
    producer.shutdown().await;
    let broker = &servers.brokers[0];
    assert_eq!(broker.seen(RequestCode::SendBatchMessage).len(), 1);
    assert_eq!(
        broker.seen(RequestCode::SendMessageV2).len(),
        2,
        "a batch of one is none"
    );
}

#[tokio::test]
async fn a_batch_goes_when_it_is_full_and_at_the_end() {
    let servers = ScriptedServers::start(1, 1);
    let producer = batching(&servers).batch_max_delay(NEVER).batch_max_bytes(2000);
    let producer = producer.start().await.unwrap();
    let full: Vec<_> = (0..2)
        .map(|_| producer.send_async(message("a", 1000)).unwrap())
        .collect();
    for sending in full {
        sending.await.unwrap().unwrap();
    }
    producer.send(message("a", 5000)).await.unwrap();
    let rest: Vec<_> = (0..3).map(|_| producer.send_async(message("a", 10)).unwrap()).collect();
    producer.shutdown().await;
    for sending in rest {
        sending.await.unwrap().unwrap();
    }
    assert_eq!(servers.brokers[0].seen(RequestCode::SendBatchMessage).len(), 2);
}

#[tokio::test]
async fn what_fails_fails_for_all() {
    let servers = ScriptedServers::start(1, 1);
    servers.brokers[0].plan([Answer::Code(response_code::MESSAGE_ILLEGAL)]);
    let producer = batching(&servers).start().await.unwrap();
    let together: Vec<_> = (0..3).map(|_| producer.send_async(message("a", 10)).unwrap()).collect();
    for sending in together {
        let error = sending.await.unwrap().unwrap_err();
        assert_eq!(error.response_code(), Some(response_code::MESSAGE_ILLEGAL), "{error}");
    }
    let empty = producer.send(Message::new("t", "")).await;
    assert!(matches!(empty, Err(SendError::Message(_))), "{empty:?}");
    producer.shutdown().await;
}

#[tokio::test]
async fn what_is_too_much_for_batches_goes_by_itself() {
    let servers = ScriptedServers::start(1, 1);
    let producer = batching(&servers).batch_max_delay(NEVER).total_batch_max_bytes(500);
    let producer = producer.start().await.unwrap();
    let waits = producer.send_async(message("a", 300)).unwrap();
    producer.send(message("a", 300)).await.unwrap();
    producer.shutdown().await;
    waits.await.unwrap().unwrap();
    assert_eq!(servers.brokers[0].seen(RequestCode::SendMessageV2).len(), 2);
    let wrong = batching(&servers).batch_max_bytes(3 << 20).start().await;
    assert!(wrong.is_err());
}

#[tokio::test]
async fn every_message_of_a_crowd_arrives_once() {
    let servers = Servers::start();
    servers.producer(&["orders"]).await.shutdown().await;
    let producer = Producer::builder("crowd")
        .name_server(servers.name_server())
        .auto_batch(true)
        .start()
        .await
        .unwrap();
    let sending = (0..300).map(|number: usize| {
        let message = Message::new("orders", number.to_string()).with_tags("number");
        producer.send_async(message).unwrap()
    });
    let mut places = BTreeSet::new();
    for sending in sending.collect::<Vec<_>>() {
        let sent = sending.await.unwrap().unwrap();
        assert!(places.insert((sent.queue, sent.queue_offset)));
    }
    let (consumer, inbox) = servers.collect("readers").await;
    let got = inbox.wait_for_count(300).await;
    assert_eq!(numbers(&got), (0..300).collect::<Vec<_>>());
    let found: BTreeSet<_> = got
        .iter()
        .map(|message| (message.queue_id, message.queue_offset))
        .collect();
    let told: BTreeSet<_> = places.iter().map(|(queue, offset)| (queue.queue_id, *offset)).collect();
    assert_eq!(found, told, "each send has been told where its message is");
    consumer.shutdown().await;
    producer.shutdown().await;
}

#[tokio::test]
async fn back_pressure_makes_senders_wait() {
    let servers = ScriptedServers::start(1, 1);
    let producer = Producer::builder("g")
        .name_server(&servers.name_server)
        .enable_backpressure_for_async_mode(true)
        .back_pressure_for_async_send_size(1 << 20)
        .send_msg_timeout(NEVER)
        .start()
        .await
        .unwrap();
    let body = || Message::new("t", vec![0; 600 << 10]);
    let first = producer.send_async(body()).unwrap();
    let refused = producer.send_async(body());
    assert!(matches!(
        refused,
        Err(SendError::TooManyBytesInFlight { max: 1_048_576 })
    ));
    let second = producer.start_send(body()).await.unwrap();
    assert!(first.is_finished(), "the second had to wait for it");
    second.await.unwrap().unwrap();
    first.await.unwrap().unwrap();
    producer.shutdown().await;
}
