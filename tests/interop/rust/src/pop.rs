//! Consumers that pop.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use oxmq_client::{ConsumeFromWhere, ConsumeStatus, MessageExt, MessageRequestMode, SimpleConsumer};
use serde_json::json;

use crate::Facts;
use crate::env::{Env, Received, bodies, body, eventually, property_names};

/// The broker says that the group pops: a push consumer that lets it decide does so; what fails comes again.
pub(crate) async fn push(env: &Env) -> Result<Facts> {
    let topic = env.name("pop-push");
    let group = env.name("pop-push");
    env.create_topic(&topic, 2).await?;
    env.create_group(&group).await?;
    let mode = env
        .admin
        .set_message_request_mode(&topic, &group, MessageRequestMode::Pop, 0);
    mode.await?;
    env.send(&topic, "popped", 20).await?;
    let received = Received::default();
    let to = received.clone();
    let consumer = env
        .consumer("pop-push")
        .subscribe(&topic, "*")
        .client_rebalance(false)
        .concurrent(move |messages| {
            let is_refused = body(&messages[0]) == "popped-003" && messages[0].reconsume_times == 0;
            to.add(messages);
            let status = match is_refused {
                true => ConsumeStatus::ReconsumeLater,
                false => ConsumeStatus::Success,
            };
            async move { status }
        })
        .start()
        .await?;
    let mut expected = bodies("popped", 20);
    expected.push("popped-003".to_owned());
    received.wait_exactly("popped messages", expected).await?;
    consumer.shutdown().await;
    let mut refused = received.messages();
    refused.retain(|message| body(message) == "popped-003");
    let times: Vec<_> = refused.iter().map(|message| message.reconsume_times).collect();
    let properties: Vec<_> = refused.iter().map(|message| property_names(message)).collect();
    ensure!(
        refused.iter().all(|message| message.topic == topic),
        "the topic that was sent to"
    );
    Ok(Facts::from_iter([
        ("reconsume-times".to_owned(), json!(times)),
        ("properties".to_owned(), json!(properties)),
    ]))
}

/// Receive, acknowledge, give more time; what is neither comes again.
pub(crate) async fn simple(env: &Env) -> Result<Facts> {
    let topic = env.name("pop-simple");
    env.create_topic(&topic, 1).await?;
    let consumer = SimpleConsumer::builder(env.name("pop-simple"))
        .name_server(&env.name_server)
        .consume_from_where(ConsumeFromWhere::FirstOffset)
        .await_duration(Duration::from_secs(3))
        .subscribe(&topic, "*")
        .start()
        .await?;
    let waiting = async { consumer.receive(8, Duration::from_secs(10)).await };
    ensure!(waiting.await?.is_empty(), "nothing is there yet");
    env.send(&topic, "simple", 4).await?;
    let mut came: Vec<MessageExt> = Vec::new();
    eventually("messages", async || {
        came.extend(consumer.receive(8, Duration::from_secs(10)).await?);
        Ok(came.len() >= 4)
    })
    .await?;
    let mut facts = Facts::new();
    facts.insert("came".into(), json!(came.iter().map(body).collect::<Vec<_>>()));
    consumer.ack(&came[0]).await?;
    consumer.ack(&came[1]).await?;
    // Comes again sooner than it would; the old handle is worth nothing any more.
    consumer
        .change_invisible_duration(&mut came[2], Duration::from_secs(2))
        .await?;
    consumer
        .change_invisible_duration(&mut came[3], Duration::from_secs(60))
        .await?;
    consumer.ack(&came[3]).await?;
    let mut again = Vec::new();
    eventually("the one that was not acknowledged", async || {
        again.extend(consumer.receive(8, Duration::from_secs(30)).await?);
        Ok(!again.is_empty())
    })
    .await?;
    let again_first = again.first().context("a message")?;
    facts.insert(
        "again".into(),
        json!([body(again_first), again_first.reconsume_times.to_string()]),
    );
    consumer.ack(again_first).await?;
    let none = consumer.receive(8, Duration::from_secs(10)).await?;
    facts.insert("left".into(), json!(none.len()));
    consumer.shutdown().await;
    Ok(facts)
}
