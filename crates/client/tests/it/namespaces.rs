//! Clients of a namespace have topics and groups of their own, and see their names without it.

use std::collections::BTreeSet;
use std::time::Duration;

use oxmq_client::{
    ConsumeFromWhere, ConsumeOrderlyStatus, ConsumeStatus, InstanceConfig, LitePullConsumer, Message, MessageQueue,
    Producer, PullConsumer, PullScheduleService, PushConsumer, SendError, SimpleConsumer,
};
use oxmq_protocol::RequestCode;

use crate::scripted::ScriptedServers;
use crate::servers::{Inbox, Servers, bodies, eventually};

fn in_shop(servers: &Servers) -> InstanceConfig {
    InstanceConfig {
        namespace: Some("shop".to_owned()),
        ..servers.config()
    }
}

/// A producer in the namespace, and `count` messages in each of two topics of one name.
async fn two_topics(servers: &Servers, topic: &str, count: usize) -> Producer {
    let others = servers.producer(&[topic, &format!("shop%{topic}")]).await;
    others.shutdown().await;
    let producer = Producer::builder("tills")
        .instance_config(in_shop(servers))
        .start()
        .await
        .unwrap();
    for number in 0..count {
        let sent = producer.send(Message::new(topic, number.to_string()).with_tags("shop"));
        assert_eq!(sent.await.unwrap().queue.topic, topic);
    }
    producer
}

#[tokio::test]
async fn push_consumers_get_their_own_messages_again_and_again() {
    let servers = Servers::start();
    let producer = two_topics(&servers, "orders", 1).await;
    let inbox = Inbox::default();
    let consumer = PushConsumer::builder("billing")
        .instance_config(in_shop(&servers))
        .consume_from_where(ConsumeFromWhere::FirstOffset)
        .subscribe("orders", "shop")
        .max_reconsume_times(1)
        .concurrent(inbox.listener(ConsumeStatus::ReconsumeLater))
        .start()
        .await
        .unwrap();
    let got = inbox.wait_for_count(2).await;
    for (times, message) in got.iter().enumerate() {
        assert_eq!(
            (message.topic.as_str(), message.reconsume_times),
            ("orders", times as i32)
        );
        assert_eq!(message.property("INSTANCE_ID"), Some("shop"));
    }
    let instance = producer.instance();
    let dead = eventually(async || instance.refresh_route("%DLQ%shop%billing").await.ok()).await;
    let dead = MessageQueue::new("%DLQ%shop%billing", dead.publish[0].broker_name.clone(), 0);
    eventually(async || (instance.max_offset(&dead).await.ok()? == 1).then_some(())).await;
    consumer.shutdown().await;
    producer.shutdown().await;
}

#[tokio::test]
async fn queues_have_no_prefix_wherever_they_come_from() {
    let servers = Servers::start();
    let producer = two_topics(&servers, "orders", 0).await;
    let queues = producer.publish_queues("orders").await.unwrap();
    assert!(queues.iter().all(|queue| queue.topic == "orders"));
    let sent = producer.send_to(Message::new("orders", "7").with_tags("shop"), &queues[1]);
    assert_eq!(sent.await.unwrap().queue, queues[1]);

    let pull = PullConsumer::builder("auditors")
        .instance_config(in_shop(&servers))
        .start()
        .await
        .unwrap();
    assert_eq!(pull.fetch_subscribe_message_queues("orders").await.unwrap(), queues);
    let result = pull.pull(&queues[1], "shop", 0, 32).await.unwrap();
    assert_eq!(
        (result.messages[0].topic.as_str(), result.messages.len()),
        ("orders", 1)
    );
    assert_eq!(pull.max_offset(&queues[1]).await.unwrap(), result.next_begin_offset);
    pull.update_consume_offset(&queues[1], result.next_begin_offset);
    pull.commit(&queues[1]).await.unwrap();
    assert_eq!(
        pull.fetch_consume_offset(&queues[1]).await.unwrap(),
        Some(result.next_begin_offset)
    );
    pull.shutdown().await;

    let lite = LitePullConsumer::builder("lite")
        .instance_config(in_shop(&servers))
        .start()
        .await
        .unwrap();
    assert_eq!(lite.fetch_message_queues("orders").await.unwrap(), queues);
    lite.set_sub_expression_for_assign("orders", "shop").await.unwrap();
    lite.assign([queues[1].clone()]).await.unwrap();
    let assigned = BTreeSet::from([queues[1].clone()]);
    eventually(async || (lite.assignment() == assigned).then_some(())).await;
    lite.seek_to_begin(&queues[1]).await.unwrap();
    let messages =
        eventually(async || Some(lite.poll(Duration::from_secs(1)).await).filter(|got| !got.is_empty())).await;
    assert_eq!(
        (messages[0].topic.as_str(), bodies(&messages)),
        ("orders", vec!["7".to_owned()])
    );
    lite.commit().await.unwrap();
    assert!(lite.committed(&queues[1]).await.unwrap().is_some());
    lite.shutdown().await;

    let (called, mut calls) = tokio::sync::mpsc::unbounded_channel();
    let service = PullScheduleService::builder("scheduled")
        .instance_config(in_shop(&servers))
        .register_pull_task("orders", move |context| {
            called.send(context.message_queue().topic.clone()).ok();
            async move {
                context.pull("*", 0, 1).await?;
                Ok(Duration::from_secs(60))
            }
        })
        .start()
        .await
        .unwrap();
    assert_eq!(calls.recv().await.unwrap(), "orders");
    service.shutdown().await;
    producer.shutdown().await;
}

#[tokio::test]
async fn popped_messages_are_acknowledged_in_their_namespace() {
    let servers = Servers::start();
    let producer = two_topics(&servers, "orders", 3).await;
    let consumer = SimpleConsumer::builder("poppers")
        .instance_config(in_shop(&servers))
        .consume_from_where(ConsumeFromWhere::FirstOffset)
        .subscribe("orders", "shop")
        .start()
        .await
        .unwrap();
    let mut got = Vec::new();
    while got.len() < 3 {
        for mut message in consumer.receive(8, Duration::from_secs(30)).await.unwrap() {
            assert_eq!(message.topic, "orders");
            let more = consumer.change_invisible_duration(&mut message, Duration::from_secs(60));
            more.await.unwrap();
            consumer.ack(&message).await.unwrap();
            got.push(message);
        }
    }
    consumer.shutdown().await;
    producer.shutdown().await;
}

#[tokio::test]
async fn names_are_checked_with_their_namespace() {
    let servers = Servers::start();
    let config = InstanceConfig {
        namespace: Some("n".repeat(100)),
        ..in_shop(&servers)
    };
    let producer = Producer::builder("tills")
        .instance_config(config.clone())
        .start()
        .await
        .unwrap();
    let sent = producer.send(Message::new("t".repeat(100), "x")).await;
    assert!(matches!(sent, Err(SendError::Message(_))), "{sent:?}");
    producer.shutdown().await;
    let group = Producer::builder("g".repeat(100)).instance_config(config).start().await;
    assert!(group.is_err());
}

#[tokio::test]
async fn the_second_kind_of_namespace_travels_with_requests() {
    let servers = ScriptedServers::start(1, 1);
    let config = InstanceConfig {
        name_server: servers.name_server.clone(),
        namespace_v2: Some("shop".to_owned()),
        ..InstanceConfig::default()
    };
    let producer = Producer::builder("tills")
        .instance_config(config)
        .start()
        .await
        .unwrap();
    producer.send(Message::new("orders", "x")).await.unwrap();
    producer.send_oneway(Message::new("orders", "x")).await.unwrap();
    producer.shutdown().await;
    let sends = servers.brokers[0].seen(RequestCode::SendMessageV2);
    assert_eq!(sends.len(), 2);
    for send in sends {
        let field = |name| send.header.ext_fields.get(name);
        assert_eq!(
            (field("nsd"), field("ns"), field("b")),
            (Some("true"), Some("shop"), Some("orders"))
        );
    }
}

#[tokio::test]
async fn the_port_without_pulls_serves_all_but_pulls() {
    let servers = Servers::start();
    servers.producer(&["orders"]).await.shutdown().await;
    let config = InstanceConfig {
        vip_channel_enabled: true,
        ..in_shop(&servers)
    };
    let producer = Producer::builder("tills")
        .instance_config(config.clone())
        .start()
        .await
        .unwrap();
    eventually(async || producer.send(Message::new("orders", "7")).await.ok()).await;
    let inbox = Inbox::default();
    let consumer = PushConsumer::builder("billing")
        .instance_config(config)
        .consume_from_where(ConsumeFromWhere::FirstOffset)
        .subscribe("orders", "*")
        .orderly(inbox.listener(ConsumeOrderlyStatus::Success))
        .start()
        .await
        .unwrap();
    assert_eq!(bodies(&inbox.wait_for_count(1).await), ["7"]);
    consumer.shutdown().await;
    producer.shutdown().await;
}
