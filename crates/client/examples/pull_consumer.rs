//! Prints what a topic holds, queue by queue, from where the group stopped last time.
//!
//! `cargo run -p oxmq-client --example pull_consumer -- 127.0.0.1:9876 TopicTest [group] ['tagA || tagB']`

use oxmq_client::{PullConsumer, PullStatus};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let name_server = args.next().unwrap_or_else(|| "127.0.0.1:9876".to_owned());
    let topic = args.next().unwrap_or_else(|| "TopicTest".to_owned());
    let group = args.next().unwrap_or_else(|| "pull_consumer_example".to_owned());
    let tags = args.next().unwrap_or_else(|| "*".to_owned());

    let consumer = PullConsumer::builder(group).name_server(name_server).start().await?;
    for queue in consumer.fetch_subscribe_message_queues(&topic).await? {
        let mut offset = match consumer.fetch_consume_offset(&queue).await? {
            Some(offset) => offset,
            None => consumer.min_offset(&queue).await?,
        };
        loop {
            let result = consumer.pull(&queue, &tags, offset, 32).await?;
            for message in &result.messages {
                println!(
                    "{queue} {}: {}",
                    message.queue_offset,
                    String::from_utf8_lossy(&message.body)
                );
            }
            offset = result.next_begin_offset;
            consumer.update_consume_offset(&queue, offset);
            if result.status == PullStatus::NoNewMsg {
                break;
            }
        }
        println!("{queue} is read up to {offset}");
    }
    consumer.shutdown().await;
    Ok(())
}
