//! Finding messages again.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use oxmq_client::{Boundary, Message};
use serde_json::json;

use crate::Facts;
use crate::env::{Env, body, eventually, property_names};

pub(crate) async fn query(env: &Env) -> Result<Facts> {
    let topic = env.name("query");
    env.create_topic(&topic, 1).await?;
    env.send(&topic, "early", 5).await?;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let between = now();
    tokio::time::sleep(Duration::from_millis(5)).await;
    let message = Message::new(&topic, "wanted")
        .with_tags("tag")
        .with_keys("order-1 order-2");
    let sent = env.producer.send(message).await?;
    let end = now() + 60_000;
    let admin = &env.admin;

    let mut facts = Facts::new();
    // The index is built after the message has been acknowledged.
    for key in ["order-1", "order-2", "key-early-003", "nobody"] {
        let expected = usize::from(key != "nobody");
        eventually(key, async || {
            Ok(admin.query_message(&topic, key, 10, 0, end).await?.len() == expected)
        })
        .await?;
        let found = admin.query_message(&topic, key, 10, 0, end).await?;
        facts.insert(key.into(), json!(found.iter().map(body).collect::<Vec<_>>()));
    }
    for id in [&sent.msg_id, &sent.offset_msg_id] {
        let found = admin.view_message(&topic, id).await?.context("the message")?;
        ensure!(
            (body(&found).as_str(), found.queue_offset) == ("wanted", 5),
            "{found:?}"
        );
        facts.insert("properties".into(), json!(property_names(&found)));
    }
    let unknown = "0".repeat(32);
    facts.insert(
        "unknown id".into(),
        json!(admin.view_message(&topic, &unknown).await?.is_some()),
    );
    let by_time = admin.query_message_by_time(&topic, 0, between, 100).await?;
    facts.insert("until then".into(), json!(by_time.iter().map(body).collect::<Vec<_>>()));
    let since = admin.query_message_by_time(&topic, between, end, 100).await?;
    facts.insert("since then".into(), json!(since.iter().map(body).collect::<Vec<_>>()));
    let queue = &env.queues(&topic).await?[0];
    for boundary in [Boundary::Lower, Boundary::Upper] {
        let mut offsets = Vec::new();
        for timestamp in [0, between, end] {
            offsets.push(admin.search_offset(queue, timestamp, boundary).await?);
        }
        facts.insert(format!("{boundary:?}"), json!(offsets));
    }
    ensure!(
        admin
            .earliest_msg_store_time(queue)
            .await?
            .is_some_and(|time| time < between)
    );
    Ok(facts)
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_millis() as i64
}
