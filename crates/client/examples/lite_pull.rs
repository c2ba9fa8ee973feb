//! Polls messages and says itself how far it is: `cargo run -p oxmq-client --example lite_pull -- 127.0.0.1:9876`

use std::time::Duration;

use oxmq_client::{ConsumeFromWhere, LitePullConsumer, Message, Producer};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), AnyError> {
    let name_server = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9876".to_owned());
    let producer = Producer::builder("lite_pull_producer")
        .name_server(&name_server)
        .start()
        .await?;
    for number in 0..10 {
        producer
            .send(Message::new("LitePullTopic", format!("message {number}")))
            .await?;
    }
    // docs: begin
    let consumer = LitePullConsumer::builder("lite_pull_example")
        .name_server(&name_server)
        .subscribe("LitePullTopic", "*") // or assign(queues) later, to choose them by oneself
        .consume_from_where(ConsumeFromWhere::FirstOffset)
        .auto_commit(false)
        .start()
        .await?;
    let mut count = 0;
    while count < 10 {
        let messages = consumer.poll(Duration::from_secs(60)).await;
        if messages.is_empty() {
            return Err("nothing came in a minute".into());
        }
        for message in &messages {
            println!("{} {}: {:?}", message.queue_id, message.queue_offset, message.body);
        }
        count += messages.len();
        consumer.commit().await?; // what was polled is consumed
    }
    let queue = consumer.assignment().pop_first().ok_or("no queue is ours")?;
    consumer.seek_to_begin(&queue).await?; // also to the end, to a time, to an offset
    println!(
        "{queue} again: {} messages",
        consumer.poll(Duration::from_secs(10)).await.len()
    );
    println!("committed: {:?}", consumer.committed(&queue).await?);
    consumer.shutdown().await;
    // docs: end
    producer.shutdown().await;
    Ok(())
}
