//! Servers on free ports, and places where consumers leave what they got.

use std::future::{Ready, ready};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use oxmq_broker::{Broker, BrokerConfig, BrokerHandle};
use oxmq_client::{
    ConsumeFromWhere, ConsumeStatus, InstanceConfig, Message, MessageExt, MessageQueue, Messages, Producer,
    PushConsumer, PushConsumerBuilder, SendResult,
};
use oxmq_namesrv::{NamesrvConfig, NamesrvHandle};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::Notify;

pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A name server and a broker.
pub(crate) struct Servers {
    namesrv: NamesrvHandle,
    broker: Option<BrokerHandle>,
    broker_port: u16,
    change: Box<dyn Fn(&mut BrokerConfig)>,
    pub(crate) dir: TempDir,
}

impl Servers {
    pub(crate) fn start() -> Servers {
        Servers::start_with(|_| {})
    }

    /// The broker's settings as `change` leaves them.
    pub(crate) fn start_with(change: impl Fn(&mut BrokerConfig) + 'static) -> Servers {
        Servers::start_both_with(|_| {}, change)
    }

    pub(crate) fn start_both_with(
        change_namesrv: impl Fn(&mut NamesrvConfig),
        change: impl Fn(&mut BrokerConfig) + 'static,
    ) -> Servers {
        let dir = tempfile::tempdir().unwrap();
        let mut namesrv = NamesrvConfig {
            bind_address: "127.0.0.1".into(),
            listen_port: 0,
            server_worker_threads: 1,
            kv_config_path: dir.path().join("kv.json").to_string_lossy().into_owned(),
            config_store_path: dir.path().join("namesrv.properties").to_string_lossy().into_owned(),
            ..NamesrvConfig::default()
        };
        change_namesrv(&mut namesrv);
        let mut servers = Servers {
            namesrv: oxmq_namesrv::start(namesrv).unwrap(),
            broker: None,
            broker_port: 0,
            change: Box::new(change),
            dir,
        };
        servers.start_broker();
        servers
    }

    /// With the topic `orders`, a producer for it and its queues.
    pub(crate) async fn with_orders() -> (Servers, Producer, Vec<MessageQueue>) {
        let servers = Servers::start();
        let producer = servers.producer(&["orders"]).await;
        let queues = producer.publish_queues("orders").await.unwrap();
        (servers, producer, queues)
    }

    pub(crate) fn start_broker(&mut self) {
        let mut config = broker_config(self.dir.path(), &self.name_server(), self.broker_port);
        (self.change)(&mut config);
        let broker = Broker::start(config).unwrap();
        self.broker_port = broker.local_addr().port();
        self.broker = Some(broker);
    }

    pub(crate) fn stop_broker(&mut self) {
        self.broker.take().unwrap().shutdown();
    }

    pub(crate) fn name_server(&self) -> String {
        self.namesrv.local_addr().to_string()
    }

    /// How an instance finds the servers.
    pub(crate) fn config(&self) -> InstanceConfig {
        InstanceConfig {
            name_server: self.name_server(),
            ..InstanceConfig::default()
        }
    }

    /// A producer whose first sends have shown that the servers are up and the topics exist.
    pub(crate) async fn producer(&self, topics: &[&str]) -> Producer {
        let producer = Producer::builder("producers")
            .name_server(self.name_server())
            .start()
            .await
            .unwrap();
        for topic in topics {
            let queues = eventually(async || producer.publish_queues(topic).await.ok()).await;
            for queue in queues {
                let message = Message::new(*topic, "warm up").with_tags("warm_up");
                eventually(async || producer.send_to(message.clone(), &queue).await.ok()).await;
            }
            // The broker tells the name server of a topic that a send has created.
            eventually(async || producer.instance().refresh_route(topic).await.ok()).await;
        }
        producer
    }

    /// A consumer of everything there is.
    pub(crate) fn consumer(&self, group: &str) -> PushConsumerBuilder {
        PushConsumer::builder(group)
            .name_server(self.name_server())
            .consume_from_where(ConsumeFromWhere::FirstOffset)
    }

    /// A consumer of `orders` that puts everything into an inbox.
    pub(crate) async fn collect(&self, group: &str) -> (PushConsumer, Inbox) {
        let inbox = Inbox::default();
        let consumer = self.consumer(group).subscribe("orders", "number");
        let consumer = consumer.concurrent(inbox.listener(ConsumeStatus::Success));
        (consumer.start().await.unwrap(), inbox)
    }
}

fn broker_config(dir: &Path, name_server: &str, listen_port: u16) -> BrokerConfig {
    BrokerConfig {
        broker_name: "broker-a".into(),
        broker_ip1: "127.0.0.1".into(),
        broker_ip2: "127.0.0.1".into(),
        bind_address: "127.0.0.1".into(),
        namesrv_addr: Some(name_server.to_owned()),
        listen_port,
        workers: 1,
        store_path_root_dir: dir.join("store").to_string_lossy().into_owned(),
        mapped_file_size_commit_log: 16 << 20,
        max_hash_slot_num: 10_000,
        max_index_num: 40_000,
        // Retries begin with the third level.
        message_delay_level: "1s 1s 1s 1s 1s".into(),
        ..BrokerConfig::default()
    }
}

/// Tries until something is there.
pub(crate) async fn eventually<T>(mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let trying = async {
        loop {
            if let Some(found) = attempt().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, trying).await.expect("in time")
}

/// Sends numbered messages to one queue.
pub(crate) async fn send_numbers(
    producer: &Producer,
    queue: &MessageQueue,
    numbers: std::ops::Range<usize>,
) -> Vec<SendResult> {
    let mut sent = Vec::new();
    for number in numbers {
        let message = Message::new(&queue.topic, number.to_string()).with_tags("number");
        sent.push(producer.send_to(message, queue).await.unwrap());
    }
    sent
}

/// Collects what listeners get. Clones collect into the same place.
#[derive(Clone, Default)]
pub(crate) struct Inbox(Arc<InboxState>);

#[derive(Default)]
struct InboxState {
    messages: Mutex<Messages>,
    arrived: Notify,
}

impl Inbox {
    pub(crate) fn add(&self, messages: Messages) {
        self.0.messages.lock().extend(messages);
        self.0.arrived.notify_one();
    }

    /// Puts everything here and says this of it.
    pub(crate) fn listener<S: Copy + Send + Sync + 'static>(
        &self,
        status: S,
    ) -> impl Fn(Messages) -> Ready<S> + Send + Sync + 'static {
        let to = self.clone();
        move |messages| {
            to.add(messages);
            ready(status)
        }
    }

    /// Waits until `ready` is satisfied with what has come so far.
    pub(crate) async fn wait_for(&self, ready: impl Fn(&[Arc<MessageExt>]) -> bool) -> Messages {
        let waiting = async {
            while !ready(&self.0.messages.lock()) {
                self.0.arrived.notified().await;
            }
        };
        if tokio::time::timeout(DEADLINE, waiting).await.is_err() {
            panic!("not in time, came: {:?}", bodies(&self.0.messages.lock()));
        }
        self.so_far()
    }

    pub(crate) async fn wait_for_count(&self, count: usize) -> Messages {
        self.wait_for(|messages| messages.len() >= count).await
    }

    pub(crate) fn so_far(&self) -> Messages {
        self.0.messages.lock().clone()
    }
}

pub(crate) fn bodies(messages: &[Arc<MessageExt>]) -> Vec<String> {
    let text = |message: &Arc<MessageExt>| String::from_utf8_lossy(&message.body).into_owned();
    messages.iter().map(text).collect()
}

/// The different bodies, as numbers in order.
pub(crate) fn numbers(messages: &[Arc<MessageExt>]) -> Vec<usize> {
    let mut numbers: Vec<usize> = bodies(messages).iter().map(|body| body.parse().unwrap()).collect();
    numbers.sort();
    numbers.dedup();
    numbers
}
