//! Prints the messages of a topic as they come.
//!
//! `cargo run -p oxmq-client --example push_consumer -- 127.0.0.1:9876 TopicTest [group] ['tagA || tagB']`

use oxmq_client::{ConsumeFromWhere, ConsumeStatus, PushConsumer};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let name_server = args.next().unwrap_or_else(|| "127.0.0.1:9876".to_owned());
    let topic = args.next().unwrap_or_else(|| "TopicTest".to_owned());
    let group = args.next().unwrap_or_else(|| "push_consumer_example".to_owned());
    let tags = args.next().unwrap_or_else(|| "*".to_owned());

    let consumer = PushConsumer::builder(group)
        .name_server(name_server)
        .subscribe(topic, tags)
        .consume_from_where(ConsumeFromWhere::FirstOffset)
        .concurrent(|messages| async move {
            for message in messages {
                println!(
                    "{} queue {} offset {} attempt {}: {}",
                    message.msg_id(),
                    message.queue_id,
                    message.queue_offset,
                    message.reconsume_times,
                    String::from_utf8_lossy(&message.body)
                );
            }
            ConsumeStatus::Success
        })
        .start()
        .await?;

    let mut interrupted = signal(SignalKind::interrupt())?;
    println!("{} is waiting for messages, Ctrl-C ends it", consumer.client_id());
    interrupted.recv().await;
    consumer.shutdown().await;
    Ok(())
}
