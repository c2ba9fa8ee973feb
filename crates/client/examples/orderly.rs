//! Sends the steps of some orders and consumes them in their order:
//! `cargo run -p oxmq-client --example orderly -- 127.0.0.1:9876`

use std::time::Duration;

use oxmq_client::{ConsumeFromWhere, ConsumeOrderlyStatus, Message, Producer, PushConsumer};
use tokio::sync::mpsc;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

const STEPS: [&str; 3] = ["created", "paid", "shipped"];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), AnyError> {
    let name_server = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9876".to_owned());
    let (seen, mut came) = mpsc::unbounded_channel();
    // docs: begin
    let producer = Producer::builder("orderly_producer")
        .name_server(&name_server)
        .start()
        .await?;
    for step in STEPS {
        for order in ["order-1", "order-2", "order-3"] {
            let message = Message::new("OrderlyTopic", format!("{order} {step}"));
            producer.send_ordered(message, order).await?; // equal keys go to one queue
        }
    }
    let consumer = PushConsumer::builder("orderly_example")
        .name_server(&name_server)
        .subscribe("OrderlyTopic", "*")
        .consume_from_where(ConsumeFromWhere::FirstOffset)
        .suspend_current_queue_time(Duration::from_millis(200))
        .orderly(move |messages| {
            let text = String::from_utf8_lossy(&messages[0].body).into_owned();
            let status = match text.ends_with("paid") && messages[0].reconsume_times == 0 {
                // The message comes again before any other of its queue.
                true => ConsumeOrderlyStatus::SuspendCurrentQueueAMoment,
                false => ConsumeOrderlyStatus::Success,
            };
            println!("{text}: {status:?}");
            if status == ConsumeOrderlyStatus::Success {
                let _ = seen.send(text);
            }
            async move { status }
        })
        .start()
        .await?;
    // docs: end
    let mut all = Vec::new();
    while all.len() < 9 {
        let text = tokio::time::timeout(Duration::from_secs(60), came.recv()).await?;
        all.extend(text);
    }
    for order in ["order-1", "order-2", "order-3"] {
        let steps: Vec<_> = all.iter().filter_map(|text| text.strip_prefix(order)).collect();
        if steps.iter().map(|step| step.trim()).ne(STEPS) {
            return Err(format!("{order} came as {steps:?}").into());
        }
    }
    consumer.shutdown().await;
    producer.shutdown().await;
    Ok(())
}
