//! Keeps the newest state of some keys in a compaction topic:
//! `cargo run -p oxmq-client --example topics -- 127.0.0.1:9876`

use std::collections::BTreeMap;

use oxmq_client::{Admin, Message, MessageQueue, Producer, PullConsumer, PullStatus, TopicConfig};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), AnyError> {
    let name_server = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9876".to_owned());
    // docs: begin
    let admin = Admin::connect(name_server.clone()).await?;
    let mut config = TopicConfig::new("LatestPrices", 1, 6); // one queue; 4 for reading and 2 for writing
    config.attributes = BTreeMap::from([("cleanup.policy".to_owned(), "COMPACTION".to_owned())]);
    admin.create_topic("DefaultCluster", &config).await?;

    let producer = Producer::builder("prices").name_server(&name_server).start().await?;
    for (key, price) in [("apple", 3), ("pear", 4), ("apple", 5), ("plum", 2), ("pear", 6)] {
        producer
            .send(Message::new("LatestPrices", price.to_string()).with_keys(key))
            .await?;
    }

    let consumer = PullConsumer::builder("price_readers")
        .name_server(&name_server)
        .start()
        .await?;
    let mut prices = BTreeMap::new();
    for queue in consumer.fetch_subscribe_message_queues("LatestPrices").await? {
        read(&consumer, &queue, &mut prices).await?; // later values of a key replace earlier ones
    }
    println!("{prices:?}");
    // docs: end
    let expected = [("apple", "5"), ("pear", "6"), ("plum", "2")];
    if !prices
        .iter()
        .map(|(key, price)| (key.as_str(), price.as_str()))
        .eq(expected)
    {
        return Err(format!("{prices:?} are not the newest prices").into());
    }
    consumer.shutdown().await;
    producer.shutdown().await;
    admin.shutdown().await;
    Ok(())
}

async fn read(
    consumer: &PullConsumer,
    queue: &MessageQueue,
    prices: &mut BTreeMap<String, String>,
) -> Result<(), AnyError> {
    let mut offset = 0;
    loop {
        let result = consumer.pull(queue, "*", offset, 32).await?;
        for message in &result.messages {
            let key = message.property("KEYS").unwrap_or_default().to_owned();
            prices.insert(key, String::from_utf8_lossy(&message.body).into_owned());
        }
        offset = result.next_begin_offset;
        if result.status == PullStatus::NoNewMsg {
            return Ok(());
        }
    }
}
