//! Push consumers and streams.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use oxmq_client::{ConsumeFromWhere, ConsumeOrderlyStatus, Message, MessageModel};
use serde_json::json;

use crate::Facts;
use crate::env::{Env, Received, bodies, eventually, property_names};

pub(crate) async fn concurrent(env: &Env) -> Result<Facts> {
    let topic = env.name("consume-concurrent");
    env.send(&topic, "before", 40).await?;
    let (consumer, received) = env.collect("consume-concurrent", &topic, "*").await?;
    let mut expected = bodies("before", 40);
    received.wait_exactly("messages of the past", expected.clone()).await?;
    // Now every pull waits at the broker, and a new message has to wake one up.
    env.send(&topic, "live", 4).await?;
    expected.extend(bodies("live", 4));
    received.wait_exactly("live messages", expected).await?;
    consumer.shutdown().await;
    let stats = env
        .admin
        .consume_stats_of(&env.name("consume-concurrent"), &topic)
        .await?;
    let consumed: i64 = stats
        .offset_table
        .iter()
        .map(|(_, offsets)| offsets.consumer_offset)
        .sum();
    let mut facts = Facts::new();
    facts.insert("committed".into(), json!(consumed));
    facts.insert("properties".into(), json!(property_names(&received.messages()[0])));
    Ok(facts)
}

pub(crate) async fn orderly(env: &Env) -> Result<Facts> {
    let topic = env.name("consume-orderly");
    env.create_topic(&topic, 4).await?;
    let queues = env.queues(&topic).await?;
    let mut expected = Vec::new();
    for number in 0..10 {
        for (key, queue) in queues.iter().enumerate() {
            let body = format!("{key}-{number:03}");
            env.producer.send_to(Message::new(&topic, body.clone()), queue).await?;
            expected.push(body);
        }
    }
    let received = Received::default();
    let to = received.clone();
    let refused = std::sync::Arc::new(parking_lot::Mutex::new(BTreeSet::new()));
    let consumer = env
        .consumer("consume-orderly")
        .subscribe(&topic, "*")
        .suspend_current_queue_time(Duration::from_millis(100))
        .orderly(move |messages| {
            // The fifth message of each queue is refused once.
            let is_fifth = messages[0].queue_offset == 4;
            let status = match is_fifth && refused.lock().insert(messages[0].queue_id) {
                true => ConsumeOrderlyStatus::SuspendCurrentQueueAMoment,
                false => {
                    to.add(messages);
                    ConsumeOrderlyStatus::Success
                }
            };
            async move { status }
        })
        .start()
        .await?;
    received.wait_exactly("orderly messages", expected).await?;
    consumer.shutdown().await;
    for key in 0..4 {
        let of_key: Vec<_> = received
            .bodies()
            .into_iter()
            .filter(|body| body.starts_with(&format!("{key}-")))
            .collect();
        ensure!(of_key == bodies(&key.to_string(), 10), "order of {key}: {of_key:?}");
    }
    Ok(Facts::new())
}

pub(crate) async fn broadcast(env: &Env) -> Result<Facts> {
    let topic = env.name("consume-broadcast");
    env.send(&topic, "all", 20).await?;
    let mut members = Vec::new();
    for member in ["one", "two"] {
        let dir = std::env::current_dir()?.join(member);
        let builder = env
            .consumer("consume-broadcast")
            .message_model(MessageModel::Broadcasting)
            .local_offset_store_dir(dir);
        members.push(env.collect_with(&topic, "*", builder).await?);
    }
    for (consumer, received) in members {
        received.wait_exactly("broadcast", bodies("all", 20)).await?;
        consumer.shutdown().await;
    }
    Ok(Facts::new())
}

/// A group that the broker does not know starts at 0 as long as nothing has been deleted.
pub(crate) async fn from_where(env: &Env) -> Result<Facts> {
    let topic = env.name("consume-from-where");
    env.send(&topic, "past", 8).await?;
    for (name, from_where) in [
        ("first", ConsumeFromWhere::FirstOffset),
        ("last", ConsumeFromWhere::LastOffset),
        ("timestamp", ConsumeFromWhere::Timestamp),
    ] {
        let builder = env
            .consumer(&format!("consume-from-where-{name}"))
            .consume_from_where(from_where)
            .consume_timestamp(SystemTime::now());
        let (consumer, received) = env.collect_with(&topic, "*", builder).await?;
        received.wait_exactly(name, bodies("past", 8)).await?;
        consumer.shutdown().await;
    }
    Ok(Facts::new())
}

pub(crate) async fn stream(env: &Env) -> Result<Facts> {
    let topic = env.name("consume-stream");
    env.send(&topic, "streamed", 10).await?;
    let mut messages = env.consumer("consume-stream").subscribe(&topic, "*").stream().await?;
    let mut came = Vec::new();
    while came.len() < 10 {
        let Some(message) = messages.next().await else { break };
        came.push(crate::env::body(&message));
        message.ack().await?;
    }
    messages.shutdown().await;
    came.sort();
    ensure!(came == bodies("streamed", 10), "{came:?}");
    let stats = env.admin.consume_stats_of(&env.name("consume-stream"), &topic).await?;
    let consumed: i64 = stats
        .offset_table
        .iter()
        .map(|(_, offsets)| offsets.consumer_offset)
        .sum();
    Ok(Facts::from_iter([("committed".to_owned(), json!(consumed))]))
}

pub(crate) async fn filter_tags(env: &Env) -> Result<Facts> {
    let topic = env.name("filter-tags");
    for tag in ["a", "b", "c", "d"] {
        for number in 0..4 {
            let message = Message::new(&topic, format!("{tag}-{number}")).with_tags(tag);
            env.producer.send(message).await?;
        }
    }
    let mut facts = Facts::new();
    for (expression, expected) in [("*", 16), ("a || b", 8), ("c", 4)] {
        let group = format!("filter-tags-{expected}");
        let (consumer, received) = env.collect(&group, &topic, expression).await?;
        received
            .wait_for(expression, |messages| messages.len() >= expected)
            .await?;
        consumer.shutdown().await;
        let mut came = received.bodies();
        came.sort();
        facts.insert(expression.to_owned(), json!(came));
    }
    Ok(facts)
}

/// Two consumers share the queues, one leaves, the other takes over.
pub(crate) async fn rebalance(env: &Env) -> Result<Facts> {
    let topic = env.name("rebalance");
    env.create_topic(&topic, 4).await?;
    let (first, first_received) = env.collect("rebalance", &topic, "*").await?;
    let (second, second_received) = env.collect("rebalance", &topic, "*").await?;
    let queues = env.queues(&topic).await?;
    let ids = |received: &Received, from: usize| -> BTreeSet<i32> {
        received.messages()[from..]
            .iter()
            .map(|message| message.queue_id)
            .collect()
    };
    let probe = async || -> Result<(BTreeSet<i32>, BTreeSet<i32>)> {
        let before = [&first_received, &second_received].map(|received| received.messages().len());
        for queue in &queues {
            env.producer.send_to(Message::new(&topic, "probe"), queue).await?;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        Ok((ids(&first_received, before[0]), ids(&second_received, before[1])))
    };
    eventually("two queues each", async || {
        let (of_first, of_second) = probe().await?;
        Ok(of_first.len() == 2 && of_second.len() == 2 && of_first.is_disjoint(&of_second))
    })
    .await?;
    second.shutdown().await;
    eventually("all queues", async || Ok(probe().await?.0.len() == 4)).await?;
    first.shutdown().await;
    Ok(Facts::new())
}

pub(crate) async fn restart(env: &Env) -> Result<Facts> {
    let topic = env.name("consumer-restart");
    env.send(&topic, "first", 20).await?;
    let (consumer, received) = env.collect("consumer-restart", &topic, "*").await?;
    received.wait_exactly("first messages", bodies("first", 20)).await?;
    consumer.shutdown().await;
    env.send(&topic, "second", 20).await?;
    let (consumer, received) = env.collect("consumer-restart", &topic, "*").await?;
    received.wait_exactly("second messages", bodies("second", 20)).await?;
    consumer.shutdown().await;
    Ok(Facts::new())
}

/// An operator sends a group that is at work back to the beginning, then to one offset of a queue.
pub(crate) async fn reset_offset(env: &Env) -> Result<Facts> {
    let topic = env.name("reset-offset");
    let group = env.name("reset-offset");
    env.create_topic(&topic, 1).await?;
    env.send(&topic, "again", 5).await?;
    let (consumer, received) = env.collect("reset-offset", &topic, "*").await?;
    received.wait_exactly("all", bodies("again", 5)).await?;
    let mut facts = Facts::new();
    let offsets = env.admin.reset_offset_by_timestamp(&topic, &group, 0, true).await?;
    let offsets: Vec<_> = offsets
        .iter()
        .map(|(queue, offset)| (queue.queue_id, *offset))
        .collect();
    facts.insert("reset to the beginning".into(), json!(offsets));
    let twice = [bodies("again", 5), bodies("again", 5)].concat();
    received.wait_exactly("all again", twice.clone()).await?;
    let queue = &env.queues(&topic).await?[0];
    env.admin.reset_offset_by_queue(&group, queue, 3).await?;
    let expected = [twice, bodies("again", 5)[3..].to_vec()].concat();
    received.wait_exactly("the last two again", expected).await?;
    for (name, offset) in [
        ("before the start", -5),
        ("end", 5),
        ("behind the end", 6),
        ("far behind", 7),
    ] {
        let reset = env.admin.reset_offset_by_queue(&group, queue, offset).await;
        let code = reset.map_or_else(|error| error.response_code(), |()| Some(0));
        facts.insert(name.into(), json!(code));
    }
    consumer.shutdown().await;
    Ok(facts)
}
