//! A task that pulls, called for each queue of the group's share:
//! `cargo run -p oxmq-client --example pull_schedule -- 127.0.0.1:9876`

use std::time::Duration;

use oxmq_client::{Message, Producer, PullScheduleService};
use tokio::sync::mpsc;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), AnyError> {
    let name_server = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9876".to_owned());
    let producer = Producer::builder("pull_schedule_producer")
        .name_server(&name_server)
        .start()
        .await?;
    for number in 0..10 {
        producer
            .send(Message::new("PullScheduleTopic", format!("message {number}")))
            .await?;
    }
    let (seen, mut came) = mpsc::unbounded_channel();
    // docs: begin
    let service = PullScheduleService::builder("pull_schedule_example")
        .name_server(&name_server)
        .register_pull_task("PullScheduleTopic", move |context| {
            let seen = seen.clone();
            async move {
                let offset = context.fetch_consume_offset().await?.unwrap_or(0);
                let result = context.pull("*", offset, 32).await?;
                for message in result.messages {
                    println!("{}: {:?}", context.message_queue(), message.body);
                    seen.send(message)?;
                }
                context.update_consume_offset(result.next_begin_offset);
                Ok(Duration::from_millis(200)) // the next turn of this queue
            }
        })
        .start()
        .await?;
    // docs: end
    for _ in 0..10 {
        tokio::time::timeout(Duration::from_secs(60), came.recv()).await?;
    }
    service.shutdown().await;
    producer.shutdown().await;
    Ok(())
}
