//! Takes messages as a stream and acknowledges each: `cargo run -p oxmq-client --example stream -- 127.0.0.1:9876`

use std::time::Duration;

use oxmq_client::{ConsumeFromWhere, Message, Producer, PushConsumer};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), AnyError> {
    let name_server = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9876".to_owned());
    let producer = Producer::builder("stream_producer")
        .name_server(&name_server)
        .start()
        .await?;
    for number in 0..5 {
        producer
            .send(Message::new("StreamTopic", format!("message {number}")))
            .await?;
    }
    let mut consumed = 0;
    // docs: begin
    let mut messages = PushConsumer::builder("stream_example")
        .name_server(&name_server)
        .subscribe("StreamTopic", "*")
        .consume_from_where(ConsumeFromWhere::FirstOffset)
        .stream()
        .await?;
    while let Some(message) = tokio::time::timeout(Duration::from_secs(60), messages.next()).await? {
        let text = String::from_utf8_lossy(&message.body).into_owned();
        if text == "message 3" && message.reconsume_times == 0 {
            println!("{text}: not now");
            message.reconsume_later().await?; // comes again; so does a message that is dropped without a word
        } else {
            println!("{text}, attempt {}", message.reconsume_times);
            message.ack().await?; // in any order: the group's offset waits for the oldest
            consumed += 1;
        }
        if consumed == 5 {
            break;
        }
    }
    messages.shutdown().await; // saves how far the group is
    // docs: end
    producer.shutdown().await;
    Ok(())
}
