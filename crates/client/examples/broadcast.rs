//! Two members of a group that both get every message:
//! `cargo run -p oxmq-client --example broadcast -- 127.0.0.1:9876`

use std::time::Duration;

use oxmq_client::{ConsumeFromWhere, ConsumeStatus, Message, MessageModel, Producer, PushConsumer};
use tokio::sync::mpsc;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), AnyError> {
    let name_server = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9876".to_owned());
    let producer = Producer::builder("broadcast_producer")
        .name_server(&name_server)
        .start()
        .await?;
    for price in ["17", "18", "19"] {
        producer.send(Message::new("Prices", price)).await?;
    }
    let folder = std::env::temp_dir().join(format!("oxmq-broadcast-{}", std::process::id()));
    let (seen, mut came) = mpsc::unbounded_channel();
    let mut members = Vec::new();
    for member in ["first", "second"] {
        let (seen, folder, name_server) = (seen.clone(), folder.join(member), name_server.clone());
        // docs: begin
        let consumer = PushConsumer::builder("broadcast_example")
            .name_server(name_server)
            .message_model(MessageModel::Broadcasting)
            .local_offset_store_dir(folder) // how far this member is; ~/.rocketmq_offsets unless set
            .subscribe("Prices", "*")
            .consume_from_where(ConsumeFromWhere::FirstOffset)
            .concurrent(move |messages| {
                println!("{member}: {}", String::from_utf8_lossy(&messages[0].body));
                let _ = seen.send(member);
                async { ConsumeStatus::Success } // what fails is logged, and not repeated
            })
            .start()
            .await?;
        // docs: end
        members.push(consumer);
    }
    for _ in 0..6 {
        tokio::time::timeout(Duration::from_secs(60), came.recv()).await?;
    }
    for member in members {
        member.shutdown().await;
    }
    producer.shutdown().await;
    std::fs::remove_dir_all(folder)?;
    Ok(())
}
