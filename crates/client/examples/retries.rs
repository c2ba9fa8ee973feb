//! A message that cannot be consumed becomes a dead letter: `cargo run -p oxmq-client --example retries -- 127.0.0.1:9876`

use std::sync::Arc;
use std::time::Duration;

use oxmq_client::{
    Admin, ConsumeFromWhere, ConsumeStatus, ExponentialRetryPolicy, GroupRetryPolicy, Message, MessageExt, Producer,
    PushConsumer, SubscriptionGroupConfig,
};
use tokio::sync::mpsc;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), AnyError> {
    let name_server = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9876".to_owned());
    let producer = Producer::builder("retry_writers")
        .name_server(&name_server)
        .start()
        .await?;
    producer
        .send(Message::new("Payments", "seven apples for no money"))
        .await?;
    // docs: begin
    let admin = Admin::connect(name_server.clone()).await?;
    let mut group = SubscriptionGroupConfig::new("retry_readers");
    group.retry_max_times = 3; // for clients that send no limit of their own
    group.group_retry_policy = GroupRetryPolicy {
        kind: "EXPONENTIAL".to_owned(), // for messages consumed by POP: 2 s, 4 s, 8 s, … a minute
        exponential_retry_policy: Some(ExponentialRetryPolicy {
            initial: 2_000,
            max: 60_000,
            multiplier: 2,
        }),
        ..GroupRetryPolicy::default()
    };
    admin.create_group("DefaultCluster", &group).await?;

    let consumer = PushConsumer::builder("retry_readers")
        .name_server(&name_server)
        .consume_from_where(ConsumeFromWhere::FirstOffset)
        .subscribe("Payments", "*")
        .max_reconsume_times(1) // after the second failure it is a dead letter
        .concurrent(|messages| async move {
            println!("attempt {}", messages[0].reconsume_times);
            ConsumeStatus::ReconsumeAfter { delay_level: 1 } // a second; ReconsumeLater: 10 s, then longer each time
        })
        .start()
        .await?;

    let (letters, mut dead) = mpsc::unbounded_channel::<Arc<MessageExt>>();
    let undertaker = PushConsumer::builder("undertakers")
        .name_server(&name_server)
        .consume_from_where(ConsumeFromWhere::FirstOffset)
        .subscribe("%DLQ%retry_readers", "*") // a topic like any other
        .concurrent(move |messages| {
            messages.into_iter().for_each(|message| drop(letters.send(message)));
            async { ConsumeStatus::Success }
        })
        .start()
        .await?;
    // docs: end
    let letter = tokio::time::timeout(Duration::from_secs(60), dead.recv())
        .await?
        .ok_or("no dead letter")?;
    println!("given up: {:?} of {:?}", letter.body, letter.property("RETRY_TOPIC"));
    if letter.property("RETRY_TOPIC") != Some("Payments") || letter.reconsume_times != 2 {
        return Err(format!("another dead letter: {letter:?}").into());
    }
    consumer.shutdown().await;
    undertaker.shutdown().await;
    producer.shutdown().await;
    admin.shutdown().await;
    Ok(())
}
