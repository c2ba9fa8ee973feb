//! Consumes by POP, once on demand and once with a listener: `cargo run -p oxmq-client --example pop -- 127.0.0.1:9876`

use std::time::Duration;

use oxmq_client::{
    Admin, ConsumeFromWhere, ConsumeStatus, Message, MessageRequestMode, Producer, PushConsumer, SimpleConsumer,
};
use tokio::sync::mpsc;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), AnyError> {
    let name_server = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9876".to_owned());
    let producer = Producer::builder("pop_producer")
        .name_server(&name_server)
        .start()
        .await?;
    for number in 0..4 {
        producer
            .send(Message::new("PopTopic", format!("message {number}")))
            .await?;
    }
    // docs: begin
    let consumer = SimpleConsumer::builder("pop_example")
        .name_server(&name_server)
        .subscribe("PopTopic", "*")
        .consume_from_where(ConsumeFromWhere::FirstOffset)
        .start()
        .await?;
    let mut done = 0;
    while done < 4 {
        for mut message in consumer.receive(16, Duration::from_secs(10)).await? {
            if message.body == "message 2" && message.reconsume_times == 0 {
                consumer
                    .change_invisible_duration(&mut message, Duration::from_secs(1))
                    .await?; // again in a second
                continue;
            }
            println!("{:?}, attempt {}", message.body, message.reconsume_times);
            consumer.ack(&message).await?;
            done += 1;
        }
    }
    consumer.shutdown().await;
    // docs: end

    let admin = Admin::connect(&name_server).await?;
    let (seen, mut came) = mpsc::unbounded_channel();
    let consumer = PushConsumer::builder("pop_push_example")
        .name_server(&name_server)
        .client_rebalance(false) // the broker shares out queues, and says whether they are pulled or popped
        .subscribe("PopTopic", "*")
        .consume_from_where(ConsumeFromWhere::FirstOffset)
        .concurrent(move |messages| {
            let _ = seen.send(messages[0].body.clone());
            async { ConsumeStatus::Success }
        })
        .start()
        .await?;
    admin
        .set_message_request_mode("PopTopic", "pop_push_example", MessageRequestMode::Pop, 0)
        .await?;
    for _ in 0..4 {
        let body = tokio::time::timeout(Duration::from_secs(60), came.recv()).await?;
        println!("listener: {body:?}");
    }
    consumer.shutdown().await;
    admin.shutdown().await;
    producer.shutdown().await;
    Ok(())
}
