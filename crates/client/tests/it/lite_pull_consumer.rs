//! Lite pull consumers: polling, committing, seeking, choosing queues.

use std::time::Duration;

use oxmq_client::{ConsumeFromWhere, LitePullConsumer, LitePullConsumerBuilder, MessageQueue, Messages};

use crate::servers::{DEADLINE, Servers, bodies, eventually, numbers, send_numbers};

const SHORT: Duration = Duration::from_millis(100);

impl Servers {
    fn lite(&self, group: &str) -> LitePullConsumerBuilder {
        LitePullConsumer::builder(group)
            .name_server(self.name_server())
            .consume_from_where(ConsumeFromWhere::FirstOffset)
    }
}

async fn poll_count(consumer: &LitePullConsumer, count: usize) -> Messages {
    let polling = async {
        let mut messages = Messages::new();
        while messages.len() < count {
            messages.extend(consumer.poll(SHORT).await);
        }
        messages
    };
    tokio::time::timeout(DEADLINE, polling).await.expect("in time")
}

#[tokio::test]
async fn what_was_polled_counts_after_a_commit() {
    let (servers, producer, queues) = Servers::with_orders().await;
    let queue = &queues[0];
    send_numbers(&producer, queue, 0..20).await;
    let start = async || {
        let builder = servers.lite("g").subscribe("orders", "number").auto_commit(false);
        builder.start().await.unwrap()
    };
    let consumer = start().await;
    assert_eq!(numbers(&poll_count(&consumer, 20).await), (0..20).collect::<Vec<_>>());
    consumer.shutdown().await;

    let consumer = start().await;
    assert_eq!(poll_count(&consumer, 20).await.len(), 20);
    consumer.commit().await.unwrap();
    let committed = consumer.committed(queue).await.unwrap();
    assert_eq!(committed, Some(queue_end(&consumer, queue).await));
    consumer.shutdown().await;

    send_numbers(&producer, queue, 20..21).await;
    let consumer = start().await;
    assert_eq!(bodies(&poll_count(&consumer, 1).await), ["20"]);
    consumer.shutdown().await;
}

async fn queue_end(consumer: &LitePullConsumer, queue: &MessageQueue) -> i64 {
    // Nothing is stored in the future, so the search ends at the end.
    consumer.offset_for_timestamp(queue, i64::MAX / 2).await.unwrap()
}

#[tokio::test]
async fn a_shutdown_commits_what_was_polled() {
    let (servers, producer, queues) = Servers::with_orders().await;
    let queue = &queues[0];
    send_numbers(&producer, queue, 0..3).await;
    let consumer = servers.lite("g").subscribe("orders", "number").start().await.unwrap();
    poll_count(&consumer, 3).await;
    consumer.shutdown().await;
    send_numbers(&producer, queue, 3..4).await;
    let consumer = servers.lite("g").subscribe("orders", "number").start().await.unwrap();
    assert_eq!(bodies(&poll_count(&consumer, 1).await), ["3"]);
    consumer.shutdown().await;
}

#[tokio::test]
async fn chosen_queues_can_be_sought_and_paused() {
    let servers = Servers::start();
    let producer = servers.producer(&["orders"]).await;
    let consumer = servers.lite("g").start().await.unwrap();
    let queues = consumer.fetch_message_queues("orders").await.unwrap();
    let sent = send_numbers(&producer, &queues[1], 0..10).await;
    send_numbers(&producer, &queues[2], 10..20).await;
    assert!(consumer.seek(&queues[1], 0).await.is_err(), "not assigned yet");
    consumer.assign([queues[1].clone()]).await.unwrap();
    eventually(async || (!consumer.assignment().is_empty()).then_some(())).await;
    consumer.seek(&queues[1], sent[7].queue_offset).await.unwrap();
    let got = poll_count(&consumer, 3).await;
    assert_eq!(bodies(&got), ["7", "8", "9"]);
    assert!(consumer.seek(&queues[1], 1_000_000).await.is_err());

    consumer.pause(&queues);
    consumer.seek(&queues[1], sent[9].queue_offset).await.unwrap();
    consumer.resume(&queues);
    assert_eq!(bodies(&poll_count(&consumer, 1).await), ["9"]);
    consumer.shutdown().await;
}
