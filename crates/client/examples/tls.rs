//! Sends and receives over TLS: `cargo run -p oxmq-client --example tls -- 127.0.0.1:9876 [roots.pem]`

use oxmq_client::{ClientTls, ConsumeFromWhere, ConsumeStatus, Message, Producer, PushConsumer};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let name_server = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9876".to_owned());
    let roots = std::env::args().nth(2);
    // docs: begin
    let tls = match roots {
        // Servers with certificates of these roots, for the host that is connected to.
        Some(path) => ClientTls::trusting(path).verifying_host(),
        // Nobody can listen, but anybody could answer: for servers that have made their certificates themselves.
        None => ClientTls::trusting_anyone(),
    };
    let producer = Producer::builder("tills")
        .name_server(&name_server)
        .tls(tls.clone())
        .start()
        .await?;
    producer.send(Message::new("TlsReceipts", "three apples")).await?;
    let (texts, mut received) = tokio::sync::mpsc::unbounded_channel();
    let consumer = PushConsumer::builder("books")
        .name_server(&name_server)
        .tls(tls)
        .consume_from_where(ConsumeFromWhere::FirstOffset)
        .subscribe("TlsReceipts", "*")
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
