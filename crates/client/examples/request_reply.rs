//! Asks a question as a message and gets the reply of whoever consumes it:
//! `cargo run -p oxmq-client --example request_reply -- 127.0.0.1:9876`

use std::time::Duration;

use oxmq_client::{ConsumeFromWhere, ConsumeStatus, Message, Producer, PushConsumer, create_reply_message};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), AnyError> {
    let name_server = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9876".to_owned());
    // docs: begin
    let producer = Producer::builder("adders").name_server(&name_server).start().await?;
    producer.send(Message::new("Sums", "0+0")).await?; // makes the topic, for the consumer to find at once

    // Any consumer can reply, by any producer.
    let sender = producer.clone();
    let consumer = PushConsumer::builder("adders")
        .name_server(&name_server)
        .subscribe("Sums", "*")
        .consume_from_where(ConsumeFromWhere::FirstOffset)
        .concurrent(move |messages| {
            let sender = sender.clone();
            async move {
                for request in &*messages {
                    let text = String::from_utf8_lossy(&request.body);
                    let sum: i64 = text.split('+').filter_map(|number| number.parse::<i64>().ok()).sum();
                    match create_reply_message(request, sum.to_string()) {
                        Ok(reply) => drop(sender.send(reply).await), // nobody may be waiting any more
                        Err(no_request) => println!("{text}: {no_request}"),
                    }
                }
                ConsumeStatus::Success
            }
        })
        .start()
        .await?;

    let reply = producer
        .request(Message::new("Sums", "17+4"), Duration::from_secs(30))
        .await?;
    println!("17+4 = {}", String::from_utf8_lossy(&reply.body));
    // docs: end
    if reply.body != "21" {
        return Err("a wrong answer".into());
    }
    consumer.shutdown().await;
    producer.shutdown().await;
    Ok(())
}
