//! Messages that the consumer gives back, and where they end.

use std::time::Duration;

use anyhow::Result;
use oxmq_client::{ConsumeOrderlyStatus, ConsumeStatus};
use serde_json::{Value, json};

use crate::Facts;
use crate::env::{Env, Received, bodies, body, property_names};

/// Fails twice: the first time with the default delay (10 s), the second with an explicit one (1 s).
pub(crate) async fn retry(env: &Env) -> Result<Facts> {
    let topic = env.name("retry");
    env.send(&topic, "retried", 2).await?;
    let received = Received::default();
    let to = received.clone();
    let consumer = env
        .consumer("retry")
        .subscribe(&topic, "*")
        .concurrent(move |messages| {
            let times = messages[0].reconsume_times;
            to.add(messages);
            let status = match times {
                0 => ConsumeStatus::ReconsumeLater,
                1 => ConsumeStatus::ReconsumeAfter { delay_level: 1 },
                _ => ConsumeStatus::Success,
            };
            async move { status }
        })
        .start()
        .await?;
    let once = bodies("retried", 2);
    let expected = [once.clone(), once.clone(), once].concat();
    received.wait_exactly("three deliveries", expected).await?;
    consumer.shutdown().await;
    let mut one = received.messages();
    one.retain(|message| body(message) == "retried-000");
    let times: Vec<_> = one.iter().map(|message| message.reconsume_times).collect();
    let properties: Vec<_> = one.iter().map(|message| property_names(message)).collect();
    Ok(Facts::from_iter([
        ("reconsume-times".to_owned(), json!(times)),
        ("properties".to_owned(), json!(properties)),
    ]))
}

pub(crate) async fn dead_letter(env: &Env) -> Result<Facts> {
    let topic = env.name("dead-letter");
    env.send(&topic, "dead", 1).await?;
    let received = Received::default();
    let to = received.clone();
    let consumer = env
        .consumer("dead-letter")
        .subscribe(&topic, "*")
        .max_reconsume_times(1)
        .concurrent(move |messages| {
            to.add(messages);
            async { ConsumeStatus::ReconsumeAfter { delay_level: 1 } }
        })
        .start()
        .await?;
    let dead = dead(env, "dead-letter").await?;
    consumer.shutdown().await;
    let deliveries: Vec<_> = received
        .messages()
        .iter()
        .map(|message| message.reconsume_times)
        .collect();
    Ok(Facts::from_iter([
        ("dead".to_owned(), dead),
        ("deliveries".to_owned(), json!(deliveries)),
    ]))
}

/// An orderly consumer retries on the spot; then the client sends the message to the retry topic itself.
pub(crate) async fn dead_letter_orderly(env: &Env) -> Result<Facts> {
    let topic = env.name("dead-letter-orderly");
    env.create_topic(&topic, 1).await?;
    env.send(&topic, "dead", 2).await?;
    let received = Received::default();
    let to = received.clone();
    let consumer = env
        .consumer("dead-letter-orderly")
        .subscribe(&topic, "*")
        .max_reconsume_times(1)
        .suspend_current_queue_time(Duration::from_millis(100))
        .orderly(move |messages| {
            let status = match body(&messages[0]).as_str() {
                "dead-000" => ConsumeOrderlyStatus::SuspendCurrentQueueAMoment,
                _ => ConsumeOrderlyStatus::Success,
            };
            to.add(messages);
            async move { status }
        })
        .start()
        .await?;
    let dead = dead(env, "dead-letter-orderly").await?;
    let is_next = |message: &std::sync::Arc<_>| body(message) == "dead-001";
    received
        .wait_for("the next message", |messages| messages.iter().any(is_next))
        .await?;
    consumer.shutdown().await;
    Ok(Facts::from_iter([
        ("dead".to_owned(), dead),
        ("bodies".to_owned(), json!(received.bodies())),
    ]))
}

async fn dead(env: &Env, group: &str) -> Result<Value> {
    let dead_letters = format!("%DLQ%{}", env.name(group));
    let dead = &env.read_all(&dead_letters, 1).await?[0];
    anyhow::ensure!(body(dead) == "dead-000", "{}", body(dead));
    let origin = dead.property("RETRY_TOPIC").unwrap_or_default();
    let origin = origin.trim_start_matches(&env.name(""));
    Ok(json!([dead.reconsume_times, property_names(dead), origin]))
}
