//! Consumers that pop, and queues that the broker shares out.

use std::time::Duration;

use oxmq_client::{Admin, ConsumeFromWhere, ConsumeStatus, MessageExt, MessageRequestMode, SimpleConsumer};

use crate::servers::{Inbox, Servers, eventually, numbers, send_numbers};

impl Servers {
    async fn simple(&self, group: &str) -> SimpleConsumer {
        SimpleConsumer::builder(group)
            .name_server(self.name_server())
            .consume_from_where(ConsumeFromWhere::FirstOffset)
            .await_duration(Duration::from_secs(2))
            .subscribe("orders", "number")
            .start()
            .await
            .unwrap()
    }
}

async fn receive(consumer: &SimpleConsumer, count: usize, invisible: Duration) -> Vec<MessageExt> {
    let mut messages = Vec::new();
    eventually(async || {
        messages.extend(consumer.receive(16, invisible).await.unwrap());
        (messages.len() >= count).then_some(())
    })
    .await;
    messages
}

fn sorted_bodies(messages: &[MessageExt]) -> Vec<String> {
    let text = |message: &MessageExt| String::from_utf8_lossy(&message.body).into_owned();
    let mut bodies: Vec<_> = messages.iter().map(text).collect();
    bodies.sort();
    bodies
}

#[tokio::test]
async fn what_is_received_is_invisible_until_it_is_acknowledged_or_late() {
    let (servers, producer, queues) = Servers::with_orders().await;
    let queue = &queues[0];
    send_numbers(&producer, queue, 0..4).await;
    let (first, second) = (servers.simple("g").await, servers.simple("g").await);
    let mut got = receive(&first, 4, Duration::from_secs(60)).await;
    assert_eq!(sorted_bodies(&got), ["0", "1", "2", "3"]);
    assert!(got.iter().all(|message| message.topic == "orders"));
    assert!(
        second.receive(16, Duration::from_secs(60)).await.unwrap().is_empty(),
        "they are with the other"
    );
    let old = got[3].clone();
    first
        .change_invisible_duration(&mut got[3], Duration::from_secs(1))
        .await
        .unwrap();
    assert_ne!(old.property("POP_CK"), got[3].property("POP_CK"));
    for message in &got[..3] {
        first.ack(message).await.unwrap();
    }
    let again = receive(&second, 1, Duration::from_secs(60)).await;
    assert_eq!(again.len(), 1);
    assert_eq!(
        (again[0].body.clone(), again[0].reconsume_times),
        (got[3].body.clone(), 1)
    );
    second.ack(&again[0]).await.unwrap();
    assert!(
        second
            .ack(&MessageExt {
                message: oxmq_client::Message::new("orders", "x"),
                ..again[0].clone()
            })
            .await
            .is_err()
    );
    first.shutdown().await;
    second.shutdown().await;
}

#[tokio::test]
async fn a_push_consumer_pops_when_the_broker_says_so() {
    let (servers, producer, queues) = Servers::with_orders().await;
    let admin = Admin::connect(servers.name_server()).await.unwrap();
    let config = oxmq_client::SubscriptionGroupConfig {
        group_name: "g".into(),
        ..Default::default()
    };
    eventually(async || admin.create_group("DefaultCluster", &config).await.ok()).await;
    admin
        .set_message_request_mode("orders", "g", MessageRequestMode::Pop, 0)
        .await
        .unwrap();
    // Two members get all queues, and each message once.
    let inboxes = [Inbox::default(), Inbox::default()];
    let mut members = Vec::new();
    for inbox in &inboxes {
        let builder = servers
            .consumer("g")
            .subscribe("orders", "number")
            .client_rebalance(false);
        let builder = builder.concurrent(inbox.listener(ConsumeStatus::Success));
        members.push(builder.start().await.unwrap());
    }
    for (index, queue) in queues.iter().enumerate() {
        send_numbers(&producer, queue, index * 20..index * 20 + 20).await;
    }
    let count = queues.len() * 20;
    let mut got = eventually(async || {
        let got = [inboxes[0].so_far(), inboxes[1].so_far()].concat();
        (got.len() >= count).then_some(got)
    })
    .await;
    got.retain(|message| message.property("POP_CK").is_some());
    assert_eq!(got.len(), count, "each was popped, and once");
    assert_eq!(numbers(&got), (0..count).collect::<Vec<_>>());
    for member in members {
        member.shutdown().await;
    }
    admin.shutdown().await;
}

#[tokio::test]
async fn members_share_out_queues_themselves_unless_the_broker_pops() {
    let (servers, producer, queues) = Servers::with_orders().await;
    let queue = &queues[0];
    let inbox = Inbox::default();
    let builder = servers
        .consumer("g")
        .subscribe("orders", "number")
        .client_rebalance(false);
    let builder = builder.concurrent(inbox.listener(ConsumeStatus::Success));
    let consumer = builder.start().await.unwrap();
    send_numbers(&producer, queue, 0..5).await;
    let got = inbox.wait_for_count(5).await;
    assert!(
        got.iter().all(|message| message.property("POP_CK").is_none()),
        "pulled, as nobody has said otherwise"
    );
    consumer.shutdown().await;
}
