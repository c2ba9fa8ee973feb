//! What all cases share: a producer, an admin client, names, places for messages, waiting.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use oxmq_client::{
    Admin, ConsumeFromWhere, ConsumeStatus, Message, MessageExt, MessageQueue, Messages, Producer, PullConsumer,
    PullStatus, PushConsumer, PushConsumerBuilder, SubscriptionGroupConfig, TopicConfig,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::tls;

const DEADLINE: Duration = Duration::from_secs(120);

pub(crate) struct Env {
    pub(crate) name_server: String,
    label: String,
    pub(crate) producer: Producer,
    pub(crate) admin: Admin,
}

impl Env {
    pub(crate) async fn connect(name_server: String, label: String) -> Result<Env> {
        let mut producer = Producer::builder(format!("{label}_shared")).name_server(&name_server);
        if let Some(tls) = tls::client() {
            producer = producer.tls(tls);
        }
        let producer = producer.send_msg_timeout(Duration::from_secs(10)).start().await?;
        Ok(Env {
            admin: Admin::with_instance(producer.instance().clone()),
            producer,
            name_server,
            label,
        })
    }

    /// Topic or group of a case: the label keeps clients on one server apart.
    pub(crate) fn name(&self, part: &str) -> String {
        format!("{}_{part}", self.label)
    }

    /// Sends and waits until the name server knows the topic.
    pub(crate) async fn send(&self, topic: &str, prefix: &str, count: usize) -> Result<()> {
        for body in bodies(prefix, count) {
            let message = Message::new(topic, body.clone())
                .with_tags("tag")
                .with_keys(format!("key-{body}"));
            self.producer.send(message).await?;
        }
        self.routed(topic).await
    }

    async fn routed(&self, topic: &str) -> Result<()> {
        eventually("a route", async || Ok(self.admin.topic_route(topic).await.is_ok())).await
    }

    pub(crate) async fn create_topic(&self, topic: &str, queues: i32) -> Result<()> {
        let config = TopicConfig::new(topic, queues, 6);
        // A name server of the original may overlook a topic that is made together with another.
        eventually("the topic", async || {
            self.admin.create_topic("DefaultCluster", &config).await?;
            tokio::time::sleep(Duration::from_millis(200)).await;
            let route = self.producer.instance().refresh_route(topic).await?;
            Ok(route.subscribe.len() == queues as usize)
        })
        .await
    }

    pub(crate) async fn create_group(&self, group: &str) -> Result<()> {
        let config = SubscriptionGroupConfig {
            group_name: group.to_owned(),
            ..SubscriptionGroupConfig::default()
        };
        Ok(self.admin.create_group("DefaultCluster", &config).await?)
    }

    pub(crate) async fn queues(&self, topic: &str) -> Result<Vec<MessageQueue>> {
        Ok(self.producer.instance().refresh_route(topic).await?.subscribe.clone())
    }

    /// A consumer of everything there is.
    pub(crate) fn consumer(&self, group: &str) -> PushConsumerBuilder {
        PushConsumer::builder(self.name(group))
            .name_server(&self.name_server)
            .consume_from_where(ConsumeFromWhere::FirstOffset)
    }

    /// A consumer that collects a topic.
    pub(crate) async fn collect(&self, group: &str, topic: &str, expression: &str) -> Result<(PushConsumer, Received)> {
        self.collect_with(topic, expression, self.consumer(group)).await
    }

    pub(crate) async fn collect_with(
        &self,
        topic: &str,
        expression: &str,
        builder: PushConsumerBuilder,
    ) -> Result<(PushConsumer, Received)> {
        let received = Received::default();
        let to = received.clone();
        let consumer = builder
            .subscribe(topic, expression)
            .concurrent(move |messages| {
                to.add(messages);
                async { ConsumeStatus::Success }
            })
            .start()
            .await?;
        Ok((consumer, received))
    }

    /// Everything in a topic, once it is so many messages.
    pub(crate) async fn read_all(&self, topic: &str, expected: usize) -> Result<Vec<MessageExt>> {
        let reader = PullConsumer::builder(self.name("reader")).name_server(&self.name_server);
        let reader = reader.start().await?;
        let mut found = Vec::new();
        eventually(&format!("{expected} messages in {topic}"), async || {
            found.clear();
            for queue in reader.fetch_subscribe_message_queues(topic).await? {
                let mut offset = 0;
                loop {
                    let result = reader.pull(&queue, "*", offset, 32).await?;
                    if result.status != PullStatus::Found {
                        break;
                    }
                    offset = result.next_begin_offset;
                    found.extend(result.messages);
                }
            }
            Ok(found.len() >= expected)
        })
        .await?;
        reader.shutdown().await;
        ensure!(found.len() == expected, "{topic} has {} messages", found.len());
        Ok(found)
    }
}

/// The bodies that [`Env::send`] sends.
pub(crate) fn bodies(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number:03}")).collect()
}

pub(crate) fn body(message: &MessageExt) -> String {
    String::from_utf8_lossy(&message.body).into_owned()
}

/// Sorted, as facts.
pub(crate) fn property_names(message: &MessageExt) -> Vec<String> {
    let mut names: Vec<_> = message
        .message
        .properties
        .iter()
        .map(|(name, _)| name.to_owned())
        .collect();
    names.sort();
    names
}

/// Tries until it is true; an error counts as "not yet".
pub(crate) async fn eventually(what: &str, mut attempt: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let mut last = None;
    let trying = async {
        loop {
            match attempt().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => last = Some(error),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let in_time = tokio::time::timeout(DEADLINE, trying).await;
    match (in_time, last) {
        (Ok(()), _) => Ok(()),
        (Err(_), Some(error)) => Err(error).with_context(|| format!("waited in vain for {what}")),
        (Err(_), None) => anyhow::bail!("waited in vain for {what}"),
    }
}

/// What listeners got. Clones collect into the same place.
#[derive(Clone, Default)]
pub(crate) struct Received(Arc<State>);

#[derive(Default)]
struct State {
    messages: Mutex<Messages>,
    arrived: Notify,
}

impl Received {
    pub(crate) fn add(&self, messages: Messages) {
        self.0.messages.lock().extend(messages);
        self.0.arrived.notify_one();
    }

    pub(crate) fn messages(&self) -> Messages {
        self.0.messages.lock().clone()
    }

    pub(crate) fn bodies(&self) -> Vec<String> {
        self.0.messages.lock().iter().map(|message| body(message)).collect()
    }

    pub(crate) async fn wait_for(&self, what: &str, ready: impl Fn(&[Arc<MessageExt>]) -> bool) -> Result<()> {
        let waiting = async {
            while !ready(&self.0.messages.lock()) {
                self.0.arrived.notified().await;
            }
        };
        let in_time = tokio::time::timeout(DEADLINE, waiting).await;
        in_time.with_context(|| format!("waited in vain for {what}, came: {:?}", self.bodies()))
    }

    /// Waits for these bodies, in whatever order, and for a moment whether more come.
    pub(crate) async fn wait_exactly(&self, what: &str, mut expected: Vec<String>) -> Result<()> {
        self.wait_for(what, |messages| messages.len() >= expected.len()).await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut came = self.bodies();
        came.sort();
        expected.sort();
        ensure!(came == expected, "{what}: expected {expected:?}, got {came:?}");
        Ok(())
    }
}
