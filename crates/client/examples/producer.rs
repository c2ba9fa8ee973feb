//! Sends messages in every way there is: `cargo run --example producer -- 127.0.0.1:9876 OrderTopic`.

use oxmq_client::{Message, Producer};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), AnyError> {
    let mut args = std::env::args().skip(1);
    let name_server = args.next().unwrap_or_else(|| "127.0.0.1:9876".to_owned());
    let topic = args.next().unwrap_or_else(|| "OrderTopic".to_owned());

    let producer = Producer::builder("example_producer")
        .name_server(name_server)
        .start()
        .await?;
    let message = |text: &str| {
        Message::new(topic.as_str(), text.to_owned())
            .with_tags("TagA")
            .with_keys(text)
    };

    let result = producer.send(message("one by one")).await?;
    println!("sent {} to {} at {}", result.msg_id, result.queue, result.queue_offset);

    let background = producer.send_async(message("in the background"))?;
    println!("in the background: {:?}", background.await??.status);

    let batch = vec![message("first of a batch"), message("second of a batch")];
    let result = producer.send_batch(batch).await?;
    println!("batch at {}: {}", result.queue_offset, result.offset_msg_id);

    for step in ["created", "paid", "shipped"] {
        let result = producer.send_ordered(message(step), "order-17").await?;
        println!("order-17 {step}: queue {}", result.queue.queue_id);
    }

    producer.send_oneway(message("no answer wanted")).await?;
    producer.shutdown().await;
    Ok(())
}
