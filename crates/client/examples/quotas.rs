//! Gives a topic a quota, and sends faster than it allows:
//! `cargo run -p oxmq-client --example quotas -- 127.0.0.1:9876`

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use oxmq_client::{Admin, Message, Producer, TopicConfig};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let name_server = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9876".to_owned());
    // docs: begin
    let admin = Admin::connect(name_server.clone()).await?;
    let mut paced = TopicConfig::new("Paced", 1, 6);
    paced.attributes = BTreeMap::from([("quota.messages.per.second".to_owned(), "50".to_owned())]);
    admin.create_topic("DefaultCluster", &paced).await?;

    let producer = Producer::builder("paced").name_server(&name_server).start().await?;
    let started = Instant::now();
    for _ in 0..75 {
        producer.send(Message::new("Paced", "tick")).await?;
    }
    let took = started.elapsed(); // 50 at once, the others 20 ms apart
    println!("75 messages took {took:.1?}");
    // docs: end
    if took < Duration::from_millis(450) {
        return Err(format!("75 messages took {took:?} only").into());
    }
    producer.shutdown().await;
    admin.shutdown().await;
    Ok(())
}
