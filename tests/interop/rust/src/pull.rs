//! Consumers that ask by themselves.

use std::time::Duration;

use anyhow::{Result, ensure};
use oxmq_client::{
    ConsumeFromWhere, LitePullConsumer, Message, PullConsumer, PullResult, PullScheduleService, PullStatus,
};
use serde_json::{Value, json};

use crate::Facts;
use crate::env::{Env, Received, bodies, body, eventually};

pub(crate) async fn pull(env: &Env) -> Result<Facts> {
    let topic = env.name("pull");
    env.create_topic(&topic, 1).await?;
    let consumer = PullConsumer::builder(env.name("pull")).name_server(&env.name_server);
    let consumer = consumer.start().await?;
    let queue = consumer.fetch_subscribe_message_queues(&topic).await?.remove(0);
    let mut facts = Facts::new();
    facts.insert("empty".into(), describe(&consumer.pull(&queue, "*", 0, 10).await?));
    env.send(&topic, "pulled", 20).await?;
    // The original's consume queue follows the log by a moment.
    eventually(
        "the last message",
        async || Ok(consumer.max_offset(&queue).await? == 20),
    )
    .await?;
    for (name, expression, offset, count) in [
        ("first", "*", 0, 8),
        ("rest", "*", 8, 32),
        ("none new", "*", 20, 32),
        ("far beyond", "*", 1000, 32),
        ("no match", "other", 0, 32),
        ("match", "tag || other", 18, 32),
    ] {
        let result = consumer.pull(&queue, expression, offset, count).await?;
        facts.insert(name.into(), describe(&result));
    }
    ensure!(consumer.min_offset(&queue).await? == 0);
    ensure!(consumer.max_offset(&queue).await? == 20);
    facts.insert(
        "offset before commit".into(),
        json!(consumer.fetch_consume_offset(&queue).await?),
    );
    consumer.update_consume_offset(&queue, 12);
    consumer.commit(&queue).await?;
    let stats = env.admin.consume_stats_of(&env.name("pull"), &topic).await?;
    let committed = stats.offset_table.get(&queue).map(|offsets| offsets.consumer_offset);
    facts.insert("committed".into(), json!(committed));
    // A commit may be outside of the queue; the broker keeps it, and a pull from there is corrected.
    for offset in [1000, 3, -5] {
        consumer.update_consume_offset(&queue, offset);
        consumer.commit(&queue).await?;
        let fresh = PullConsumer::builder(env.name("pull"))
            .name_server(&env.name_server)
            .start()
            .await?;
        let found = fresh.fetch_consume_offset(&queue).await?;
        let from_there = fresh.pull(&queue, "*", offset, 1).await?;
        fresh.shutdown().await;
        let stats = env.admin.consume_stats_of(&env.name("pull"), &topic).await?;
        let shown = stats.offset_table.get(&queue).map(|offsets| offsets.consumer_offset);
        facts.insert(
            format!("committed {offset}"),
            json!([
                found,
                shown,
                format!("{:?}", from_there.status),
                from_there.next_begin_offset
            ]),
        );
    }
    let (blocking, sent) = tokio::join!(consumer.pull_block_if_not_found(&queue, "*", 20, 32), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        env.send(&topic, "late", 1).await
    });
    sent?;
    facts.insert("blocking".into(), describe(&blocking?));
    consumer.shutdown().await;
    Ok(facts)
}

fn describe(result: &PullResult) -> Value {
    let bodies: Vec<_> = result.messages.iter().map(body).collect();
    json!([
        format!("{:?}", result.status),
        result.next_begin_offset,
        result.min_offset,
        result.max_offset,
        bodies
    ])
}

/// Tasks that pull: they are called for each queue of the group's share, and go on where the group was.
pub(crate) async fn schedule(env: &Env) -> Result<Facts> {
    let topic = env.name("pull-schedule");
    env.create_topic(&topic, 2).await?;
    env.send(&topic, "scheduled", 20).await?;
    let received = Received::default();
    let start = async |received: &Received| {
        let to = received.clone();
        PullScheduleService::builder(env.name("pull-schedule"))
            .name_server(&env.name_server)
            .register_pull_task(&topic, move |context| {
                let to = to.clone();
                async move {
                    let offset = context.fetch_consume_offset().await?.unwrap_or(0);
                    let result = context.pull("*", offset, 7).await?;
                    context.update_consume_offset(result.next_begin_offset);
                    let is_found = result.status == PullStatus::Found;
                    to.add(result.messages.into_iter().map(std::sync::Arc::new).collect());
                    Ok(Duration::from_millis(if is_found { 0 } else { 100 }))
                }
            })
            .start()
            .await
    };
    let service = start(&received).await?;
    received
        .wait_exactly("scheduled messages", bodies("scheduled", 20))
        .await?;
    service.shutdown().await;
    env.send(&topic, "later", 4).await?;
    let received = Received::default();
    let service = start(&received).await?;
    received.wait_exactly("later messages", bodies("later", 4)).await?;
    service.shutdown().await;
    let stats = env.admin.consume_stats_of(&env.name("pull-schedule"), &topic).await?;
    let offsets = stats.offset_table.iter();
    let left: i64 = offsets
        .map(|(_, offsets)| offsets.broker_offset - offsets.consumer_offset)
        .sum();
    Ok(Facts::from_iter([("left".to_owned(), json!(left))]))
}

pub(crate) async fn lite(env: &Env) -> Result<Facts> {
    let topic = env.name("lite-pull");
    env.create_topic(&topic, 2).await?;
    for (number, body) in bodies("lite", 20).into_iter().enumerate() {
        let queue = &env.queues(&topic).await?[number % 2];
        env.producer.send_to(Message::new(&topic, body), queue).await?;
    }
    let builder = || {
        LitePullConsumer::builder(env.name("lite-pull"))
            .name_server(&env.name_server)
            .consume_from_where(ConsumeFromWhere::FirstOffset)
    };
    let subscribed = builder().subscribe(&topic, "*").start().await?;
    let received = Received::default();
    eventually("subscribed messages", async || {
        received.add(subscribed.poll(Duration::from_millis(500)).await);
        Ok(received.messages().len() >= 20)
    })
    .await?;
    received.wait_exactly("subscribed messages", bodies("lite", 20)).await?;
    subscribed.commit().await?;
    subscribed.shutdown().await;

    let assigned = builder().start().await?;
    let queues = assigned.fetch_message_queues(&topic).await?;
    assigned.assign(queues.clone()).await?;
    eventually("the assignment", async || Ok(assigned.assignment().len() == 2)).await?;
    let mut committed = Vec::new();
    for queue in &queues {
        committed.push(assigned.committed(queue).await?);
        assigned.seek(queue, 5).await?;
    }
    let mut again = Vec::new();
    eventually("assigned messages", async || {
        again.extend(assigned.poll(Duration::from_millis(500)).await);
        Ok(again.len() >= 10)
    })
    .await?;
    ensure!(again.len() == 10, "{} messages after the seek", again.len());
    assigned.seek_to_begin(&queues[0]).await?;
    let first = assigned.poll(Duration::from_secs(10)).await;
    let facts = Facts::from_iter([
        ("committed".to_owned(), json!(committed)),
        (
            "first".to_owned(),
            json!(first.first().map(|message| message.queue_offset)),
        ),
        (
            "offset of now".to_owned(),
            json!(assigned.offset_for_timestamp(&queues[0], i64::MAX / 2).await?),
        ),
        (
            "offset of the past".to_owned(),
            json!(assigned.offset_for_timestamp(&queues[0], 1).await?),
        ),
    ]);
    assigned.shutdown().await;
    Ok(facts)
}
