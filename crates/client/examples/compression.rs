//! Sends a long body in few bytes: `cargo run -p oxmq-client --example compression -- 127.0.0.1:9876`

use oxmq_client::{CompressionType, Message, Producer, PullConsumer};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let name_server = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9876".to_owned());
    // docs: begin
    let producer = Producer::builder("reporters")
        .name_server(&name_server)
        .compression(CompressionType::Zstd, 3) // ZLIB at level 5 without it
        .compress_msg_body_over_howmuch(1024) // bytes; 4096 without it
        .start()
        .await?;
    let report = "all is well\n".repeat(1000);
    let sent = producer.send(Message::new("Reports", report.clone())).await?;

    let consumer = PullConsumer::builder("report_readers")
        .name_server(&name_server)
        .start()
        .await?;
    let result = consumer
        .pull_block_if_not_found(&sent.queue, "*", sent.queue_offset, 1)
        .await?;
    let message = result.messages.first().ok_or("nothing came")?;
    println!("{} bytes, stored in {}", message.body.len(), message.store_size); // the body is as it was
    // docs: end
    if message.body != report || message.store_size > 2000 {
        return Err("the body is not as it was, or was not compressed".into());
    }
    consumer.shutdown().await;
    producer.shutdown().await;
    Ok(())
}
