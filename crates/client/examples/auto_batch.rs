//! Sends messages together that were sent one by one: `cargo run -p oxmq-client --example auto_batch -- 127.0.0.1:9876`

use std::time::Duration;

use oxmq_client::{Message, Producer};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let name_server = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9876".to_owned());
    // docs: begin
    let producer = Producer::builder("thermometers")
        .name_server(&name_server)
        .auto_batch(true)
        .batch_max_delay(Duration::from_millis(5)) // 10 ms without it
        .batch_max_bytes(64 * 1024) // 32 KiB without it
        .enable_backpressure_for_async_mode(true) // at most 1024 sends and 100 MiB under way
        .start()
        .await?;
    let mut sending = Vec::new();
    for degrees in 0..100 {
        let message = Message::new("Temperatures", degrees.to_string()).with_tags("room");
        sending.push(producer.start_send(message).await?); // waits while too much is under way
    }
    for send in sending {
        let sent = send.await??; // each has its own result
        println!("{} at {}", sent.queue, sent.queue_offset);
    }
    // docs: end
    producer.shutdown().await;
    Ok(())
}
