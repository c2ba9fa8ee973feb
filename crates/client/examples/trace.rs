//! Sends and consumes a message, and shows what was traced of it:
//! `cargo run -p oxmq-client --example trace -- 127.0.0.1:9876`

use std::time::Duration;

use oxmq_client::{
    ConsumeFromWhere, ConsumeStatus, InstanceConfig, Message, Producer, PullConsumer, PushConsumer, TraceConfig,
};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), AnyError> {
    let name_server = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9876".to_owned());
    // docs: begin
    let traced = InstanceConfig {
        name_server: name_server.clone(),
        trace: Some(TraceConfig::default()), // RMQ_SYS_TRACE_TOPIC
        ..InstanceConfig::default()
    };
    let producer = Producer::builder("traced")
        .instance_config(traced.clone())
        .start()
        .await?;
    let sent = producer
        .send(Message::new("Traced", "hello").with_keys("order-17"))
        .await?;
    producer.shutdown().await; // sends the last traces

    let (called, mut calls) = tokio::sync::mpsc::channel(1);
    let consumer = PushConsumer::builder("traced")
        .instance_config(traced)
        .subscribe("Traced", "*")
        .consume_from_where(ConsumeFromWhere::FirstOffset)
        .concurrent(move |_| {
            called.try_send(()).ok();
            async { ConsumeStatus::Success }
        })
        .start()
        .await?;
    calls.recv().await;
    consumer.shutdown().await;
    // docs: end
    println!(
        "sent and consumed {}: mqadmin queryMsgTraceById -i {}",
        sent.msg_id, sent.msg_id
    );
    let reader = PullConsumer::builder("trace_reader")
        .name_server(name_server)
        .start()
        .await?;
    for _ in 0..100 {
        let mut kinds = Vec::new();
        for queue in reader.fetch_subscribe_message_queues("RMQ_SYS_TRACE_TOPIC").await? {
            let result = reader.pull(&queue, "*", 0, 32).await?;
            for message in result
                .messages
                .iter()
                .filter(|message| message.keys().any(|key| key == sent.msg_id))
            {
                let text = String::from_utf8_lossy(&message.body).into_owned();
                kinds.extend(
                    text.split('\u{2}')
                        .filter_map(|record| record.split('\u{1}').next().map(str::to_owned)),
                );
            }
        }
        if ["Pub", "SubBefore"]
            .iter()
            .all(|kind| kinds.iter().any(|found| found == kind))
        {
            println!("traced: {}", kinds.join(" "));
            reader.shutdown().await;
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err("no trace is there".into())
}
