//! Messages that are delivered later: `cargo run -p oxmq-client --example delay -- 127.0.0.1:9876`

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use oxmq_client::{ConsumeFromWhere, ConsumeStatus, Message, Producer, PushConsumer};
use tokio::sync::mpsc;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), AnyError> {
    let name_server = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9876".to_owned());
    let (seen, mut came) = mpsc::unbounded_channel();
    let started = now_ms();
    // docs: begin
    let producer = Producer::builder("delay_producer")
        .name_server(&name_server)
        .start()
        .await?;
    let level = Message::new("Reminders", "level 1").with_delay_level(1); // 1s 5s 10s 30s 1m ...
    producer.send(level).await?;
    let delay = Message::new("Reminders", "after 1500 ms").with_delay(Duration::from_millis(1500));
    producer.send(delay).await?;
    let time = Message::new("Reminders", "at a time").with_deliver_at(now_ms() + 2000);
    producer.send(time).await?;

    let consumer = PushConsumer::builder("delay_example")
        .name_server(&name_server)
        .subscribe("Reminders", "*")
        .consume_from_where(ConsumeFromWhere::FirstOffset)
        .concurrent(move |messages| {
            for message in messages {
                let text = String::from_utf8_lossy(&message.body).into_owned();
                let _ = seen.send((text, message.store_timestamp));
            }
            async { ConsumeStatus::Success }
        })
        .start()
        .await?;
    // docs: end
    for _ in 0..3 {
        let (text, stored_at) = tokio::time::timeout(Duration::from_secs(60), came.recv())
            .await?
            .ok_or("the consumer has stopped")?;
        println!("{text}: delivered {} ms after the start", stored_at - started);
        if stored_at - started < 1000 {
            return Err(format!("{text} came too early").into());
        }
    }
    consumer.shutdown().await;
    producer.shutdown().await;
    Ok(())
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}
