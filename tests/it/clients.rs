//! Our client library against our servers: what a program that uses both sees.

mod consuming;
mod restarts;
mod retries;

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use oxmq_client::{
    ConsumeFromWhere, ConsumeStatus, Message, MessageExt, Messages, Producer, PushConsumer, PushConsumerBuilder,
};
use parking_lot::Mutex;

use crate::support::*;

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < 2 * DEADLINE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn producer(system: &System) -> Producer {
    Producer::builder("test-producers")
        .name_server(system.namesrv.local_addr().to_string())
        .start()
        .await
        .unwrap()
}

fn consumer(system: &System, group: &str) -> PushConsumerBuilder {
    PushConsumer::builder(group)
        .name_server(system.namesrv.local_addr().to_string())
        .consume_from_where(ConsumeFromWhere::FirstOffset)
        .persist_consumer_offset_interval(Duration::from_millis(100))
        .local_offset_store_dir(system.dir.path().join("offsets"))
}

/// A message whose body is its number.
fn numbered(topic: &str, number: usize) -> Message {
    Message::new(topic, number.to_string())
}

fn number_of(message: &MessageExt) -> usize {
    std::str::from_utf8(&message.body).unwrap().parse().unwrap()
}

/// What listeners have seen, in the order they saw it.
#[derive(Clone, Default)]
struct Received(Arc<Mutex<Vec<Arc<MessageExt>>>>);

impl Received {
    fn listener(&self) -> impl Fn(Messages) -> std::future::Ready<ConsumeStatus> + Send + Sync + 'static {
        let received = self.clone();
        move |messages| {
            received.0.lock().extend(messages);
            std::future::ready(ConsumeStatus::Success)
        }
    }

    fn len(&self) -> usize {
        self.0.lock().len()
    }

    fn numbers(&self) -> Vec<usize> {
        self.0.lock().iter().map(|message| number_of(message)).collect()
    }

    fn sorted(&self) -> Vec<usize> {
        let mut numbers = self.numbers();
        numbers.sort_unstable();
        numbers
    }

    /// The numbers seen from each queue.
    fn by_queue(&self) -> HashMap<i32, Vec<usize>> {
        let mut queues: HashMap<i32, Vec<usize>> = HashMap::new();
        for message in &*self.0.lock() {
            queues.entry(message.queue_id).or_default().push(number_of(message));
        }
        queues
    }
}
