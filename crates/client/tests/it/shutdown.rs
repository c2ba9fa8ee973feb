//! Consumers that leave in good order: what they have handled is done, what they have not is somebody else's.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use oxmq_client::{
    Admin, ConsumeOrderlyStatus, ConsumeStatus, MessageQueue, MessageRequestMode, Messages, Producer, PushConsumer,
    PushConsumerBuilder, SubscriptionGroupConfig,
};
use parking_lot::Mutex;
use tokio::time::timeout;

use crate::servers::{Servers, bodies, eventually, send_numbers};

const COUNT: usize = 120;
/// Messages after which the first consumer is told to stop, in the middle of its work.
const ENOUGH: usize = 30;

/// How often each number came to a listener.
#[derive(Clone, Default)]
struct Tally(Arc<Mutex<BTreeMap<usize, usize>>>);

impl Tally {
    fn note(&self, messages: &Messages) {
        for body in bodies(messages) {
            *self.0.lock().entry(body.parse().unwrap()).or_default() += 1;
        }
    }

    fn count(&self) -> usize {
        self.0.lock().len()
    }

    #[track_caller]
    fn assert_each_once(&self) {
        let tally = self.0.lock();
        let wrong: Vec<_> = tally.iter().filter(|(_, times)| **times != 1).collect();
        assert!(
            wrong.is_empty() && tally.len() == COUNT,
            "{} numbers, not once: {wrong:?}",
            tally.len()
        );
    }
}

async fn numbered(servers: &Servers) -> (Producer, Vec<MessageQueue>) {
    let producer = servers.producer(&["orders"]).await;
    let queues = producer.publish_queues("orders").await.unwrap();
    let share = COUNT / queues.len();
    for (index, queue) in queues.iter().enumerate() {
        send_numbers(&producer, queue, index * share..(index + 1) * share).await;
    }
    (producer, queues)
}

fn concurrent(servers: &Servers, tally: &Tally) -> PushConsumerBuilder {
    let tally = tally.clone();
    servers
        .consumer("leavers")
        .subscribe("orders", "number")
        .consume_concurrency(4)
        .concurrent(move |messages| {
            let tally = tally.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(5)).await;
                tally.note(&messages);
                ConsumeStatus::Success
            }
        })
}

/// One consumer begins, leaves, and another goes on.
async fn one_after_the_other(tally: &Tally, consumer: impl Fn() -> PushConsumerBuilder) {
    let first = consumer().start().await.unwrap();
    eventually(async || (tally.count() >= ENOUGH).then_some(())).await;
    first.shutdown().await;
    assert!(tally.count() < COUNT, "the first was stopped in the middle");
    let second: PushConsumer = consumer().start().await.unwrap();
    eventually(async || (tally.count() >= COUNT).then_some(())).await;
    second.shutdown().await;
    tally.assert_each_once();
}

#[tokio::test]
async fn a_push_consumer_leaves_nothing_half_done() {
    let servers = Servers::start();
    let (producer, _) = numbered(&servers).await;
    let tally = Tally::default();
    one_after_the_other(&tally, || concurrent(&servers, &tally)).await;
    producer.shutdown().await;
}

#[tokio::test]
async fn an_orderly_consumer_gives_its_locks_and_its_place_away() {
    let servers = Servers::start();
    let (producer, _) = numbered(&servers).await;
    let tally = Tally::default();
    one_after_the_other(&tally, || {
        let tally = tally.clone();
        servers
            .consumer("leavers")
            .subscribe("orders", "number")
            .orderly(move |messages| {
                let tally = tally.clone();
                async move {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    tally.note(&messages);
                    ConsumeOrderlyStatus::Success
                }
            })
    })
    .await;
    producer.shutdown().await;
}

#[tokio::test]
async fn a_pop_consumer_acknowledges_what_it_has_handled() {
    let servers = Servers::start();
    let (producer, _) = numbered(&servers).await;
    let admin = Admin::connect(servers.name_server()).await.unwrap();
    let group = SubscriptionGroupConfig::new("leavers");
    admin.create_group("DefaultCluster", &group).await.unwrap();
    admin
        .set_message_request_mode("orders", "leavers", MessageRequestMode::Pop, 0)
        .await
        .unwrap();
    let tally = Tally::default();
    one_after_the_other(&tally, || {
        concurrent(&servers, &tally)
            .client_rebalance(false)
            .pop_batch_nums(4)
            .pop_threshold_for_queue(4)
            // What was popped and not begun comes again after this.
            .pop_invisible_time(Duration::from_secs(5))
    })
    .await;
    admin.shutdown().await;
    producer.shutdown().await;
}

#[tokio::test]
async fn a_stream_waits_for_messages_that_are_with_the_application() {
    let servers = Servers::start();
    let (producer, _) = numbered(&servers).await;
    let tally = Tally::default();
    let builder = || servers.consumer("leavers").subscribe("orders", "number");
    let mut first = builder().stream().await.unwrap();
    let mut late = Vec::new();
    for count in 0..ENOUGH {
        let message = first.next().await.unwrap();
        tally.note(&vec![Arc::clone(message.message())]);
        match count % 10 {
            0 => late.push(message),
            _ => message.ack().await.unwrap(),
        }
    }
    let mut shutdown = pin!(first.shutdown());
    for message in late {
        assert!(timeout(Duration::ZERO, shutdown.as_mut()).await.is_err(), "it waits");
        message.ack().await.unwrap();
    }
    shutdown.await;
    let mut second = builder().stream().await.unwrap();
    while tally.count() < COUNT {
        let message = second.next().await.unwrap();
        tally.note(&vec![Arc::clone(message.message())]);
        message.ack().await.unwrap();
    }
    second.shutdown().await;
    tally.assert_each_once();
    producer.shutdown().await;
}
