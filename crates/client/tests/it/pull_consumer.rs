//! Pull consumers: statuses, offsets and filtering as the application sees them.

use std::time::{Duration, Instant};

use oxmq_client::{Message, MessageQueue, PullConsumer, PullStatus};

use crate::servers::{Servers, send_numbers};

impl Servers {
    async fn pull_consumer(&self, group: &str) -> PullConsumer {
        // One of the name servers does not answer.
        let name_servers = format!("127.0.0.1:1;{}", self.name_server());
        let consumer = PullConsumer::builder(group).name_server(name_servers);
        consumer.start().await.unwrap()
    }
}

#[tokio::test]
async fn a_pull_tells_what_is_there_and_where_to_go_on() {
    let servers = Servers::start();
    let producer = servers.producer(&["orders"]).await;
    let consumer = servers.pull_consumer("g").await;
    let queue = &consumer.fetch_subscribe_message_queues("orders").await.unwrap()[0];
    let start = consumer.max_offset(queue).await.unwrap();
    send_numbers(&producer, queue, 0..10).await;

    let found = consumer.pull(queue, "*", start, 4).await.unwrap();
    assert_eq!((found.status, found.messages.len()), (PullStatus::Found, 4));
    assert_eq!((found.next_begin_offset, found.max_offset), (start + 4, start + 10));
    assert_eq!(found.messages[3].queue_offset, start + 3);
    assert_eq!(found.messages[3].broker_name, "broker-a");

    let other = consumer.pull(queue, "other", start, 32).await.unwrap();
    assert_eq!((other.status, other.messages.len()), (PullStatus::NoMatchedMsg, 0));
    assert_eq!(other.next_begin_offset, start + 10);

    let end = consumer.pull(queue, "*", start + 10, 32).await.unwrap();
    assert_eq!((end.status, end.next_begin_offset), (PullStatus::NoNewMsg, start + 10));

    let beyond = consumer.pull(queue, "*", start + 99, 32).await.unwrap();
    assert_eq!(
        (beyond.status, beyond.next_begin_offset),
        (PullStatus::OffsetIllegal, start + 10)
    );

    let first = consumer.search_offset(queue, 0).await.unwrap();
    assert_eq!(first, consumer.min_offset(queue).await.unwrap());
    consumer.shutdown().await;
}

#[tokio::test]
async fn a_blocking_pull_ends_when_a_message_comes() {
    let servers = Servers::start();
    let producer = servers.producer(&["orders"]).await;
    let consumer = servers.pull_consumer("g").await;
    let queue = &consumer.fetch_subscribe_message_queues("orders").await.unwrap()[0];
    let start = consumer.max_offset(queue).await.unwrap();
    let began = Instant::now();
    let (pulled, sent) = tokio::join!(consumer.pull_block_if_not_found(queue, "*", start, 32), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        producer.send_to(Message::new("orders", "late"), queue).await
    });
    assert_eq!(pulled.unwrap().messages[0].queue_offset, sent.unwrap().queue_offset);
    assert!(began.elapsed() >= Duration::from_millis(300) && began.elapsed() < Duration::from_secs(4));
    consumer.shutdown().await;
}

#[tokio::test]
async fn offsets_are_found_again_by_the_next_consumer_of_the_group() {
    let servers = Servers::start();
    let _producer = servers.producer(&["orders"]).await;
    let consumer = servers.pull_consumer("g").await;
    let queues = consumer.fetch_subscribe_message_queues("orders").await.unwrap();
    let unknown = MessageQueue::new("orders", "broker-a", queues[0].queue_id);
    // The broker answers 0 while the queue still has its first message.
    assert!(matches!(
        consumer.fetch_consume_offset(&unknown).await.unwrap(),
        None | Some(0)
    ));
    consumer.update_consume_offset(&queues[0], 7);
    consumer.update_consume_offset(&queues[1], 8);
    consumer.commit(&queues[0]).await.unwrap();
    let other = servers.pull_consumer("other").await;
    assert!(matches!(
        other.fetch_consume_offset(&queues[0]).await.unwrap(),
        None | Some(0)
    ));
    other.shutdown().await;
    consumer.shutdown().await;
    let next = servers.pull_consumer("g").await;
    assert_eq!(next.fetch_consume_offset(&queues[0]).await.unwrap(), Some(7));
    assert_eq!(next.fetch_consume_offset(&queues[1]).await.unwrap(), Some(8));
    next.shutdown().await;
}
