//! Sends and receives as a user of the broker: `cargo run -p oxmq-client --example access_control -- 127.0.0.1:9876`

use oxmq_client::{ConsumeFromWhere, ConsumeStatus, Credentials, Message, Producer, PushConsumer};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let name_server = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9876".to_owned());
    // docs: begin
    let shop = Credentials::new("shop", "till-42");
    let producer = Producer::builder("tills")
        .name_server(&name_server)
        .credentials(shop.clone())
        .start()
        .await?;
    producer.send(Message::new("SignedReceipts", "three apples")).await?;
    let (texts, mut received) = tokio::sync::mpsc::unbounded_channel();
    let consumer = PushConsumer::builder("shop-books")
        .name_server(&name_server)
        .credentials(shop)
        .consume_from_where(ConsumeFromWhere::FirstOffset)
        .subscribe("SignedReceipts", "*")
        .concurrent(move |messages| {
            for message in &messages {
                texts.send(String::from_utf8_lossy(&message.body).into_owned()).ok();
            }
            async { ConsumeStatus::Success }
        })
        .start()
        .await?;
    // docs: end
    println!("{}", received.recv().await.ok_or("the consumer has ended")?);
    consumer.shutdown().await;
    producer.shutdown().await;
    Ok(())
}
