//! Sends batches to a topic that stores each as one record:
//! `cargo run -p oxmq-client --example batches -- 127.0.0.1:9876`

use std::collections::BTreeMap;

use oxmq_client::{Admin, Message, Producer, PullConsumer, TopicConfig};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), AnyError> {
    let name_server = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9876".to_owned());
    // docs: begin
    let admin = Admin::connect(name_server.clone()).await?;
    let mut config = TopicConfig::new("Readings", 1, 6);
    config.attributes = BTreeMap::from([("queue.type".to_owned(), "BatchCQ".to_owned())]);
    admin.create_topic("DefaultCluster", &config).await?;

    let producer = Producer::builder("sensors").name_server(&name_server).start().await?;
    let readings = |from: u32| (from..from + 10).map(|number| Message::new("Readings", number.to_string()));
    let first = producer.send_batch(readings(0).collect()).await?;
    let second = producer.send_batch(readings(10).collect()).await?;
    println!("batches at {} and {}", first.queue_offset, second.queue_offset);

    let consumer = PullConsumer::builder("readers")
        .name_server(&name_server)
        .start()
        .await?;
    let queues = consumer.fetch_subscribe_message_queues("Readings").await?;
    let result = consumer.pull(&queues[0], "*", first.queue_offset, 32).await?;
    for message in &result.messages {
        // Batches come apart here: every message has an offset of its own.
        println!("{}: {}", message.queue_offset, String::from_utf8_lossy(&message.body));
    }
    // docs: end
    if second.queue_offset != first.queue_offset + 10 || result.messages.len() != 20 {
        return Err(format!("{} messages", result.messages.len()).into());
    }
    consumer.shutdown().await;
    producer.shutdown().await;
    admin.shutdown().await;
    Ok(())
}
