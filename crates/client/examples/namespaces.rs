//! Two shops on one cluster that do not see each other's messages:
//! `cargo run -p oxmq-client --example namespaces -- 127.0.0.1:9876`

use oxmq_client::{ConsumeFromWhere, ConsumeStatus, Message, Producer, PushConsumer};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let name_server = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9876".to_owned());
    // docs: begin
    for shop in ["north", "south"] {
        let producer = Producer::builder("tills")
            .name_server(&name_server)
            .namespace(shop)
            .start()
            .await?;
        let sent = producer.send(Message::new("Receipts", format!("from {shop}"))).await?;
        println!("sent to {}", sent.queue.topic); // Receipts; the servers know north%Receipts and south%Receipts
        producer.shutdown().await;
    }
    let (texts, mut received) = tokio::sync::mpsc::unbounded_channel();
    let consumer = PushConsumer::builder("books")
        .name_server(&name_server)
        .namespace("north")
        .consume_from_where(ConsumeFromWhere::FirstOffset)
        .subscribe("Receipts", "*")
        .concurrent(move |messages| {
            for message in &messages {
                let text = String::from_utf8_lossy(&message.body);
                texts.send(format!("{}: {text}", message.topic)).ok();
            }
            async { ConsumeStatus::Success }
        })
        .start()
        .await?;
    // docs: end
    let first = received.recv().await.ok_or("the consumer has ended")?;
    println!("{first}");
    consumer.shutdown().await;
    if first != "Receipts: from north" || received.try_recv().is_ok() {
        return Err("messages of one namespace have come to another".into());
    }
    Ok(())
}
