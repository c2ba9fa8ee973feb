//! Finds messages again and looks at a group: `cargo run -p oxmq-client --example queries -- 127.0.0.1:9876`

use std::time::{Duration, SystemTime};

use oxmq_client::{Admin, Boundary, ConsumeFromWhere, LitePullConsumer, Message, Producer};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), AnyError> {
    let name_server = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9876".to_owned());
    let producer = Producer::builder("queries_producer")
        .name_server(&name_server)
        .start()
        .await?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis() as i64;
    let sent = producer
        .send(Message::new("QueryTopic", "seventeen").with_keys("order-17 paid"))
        .await?;
    let consumer = LitePullConsumer::builder("queries_example")
        .name_server(&name_server)
        .subscribe("QueryTopic", "*")
        .consume_from_where(ConsumeFromWhere::FirstOffset);
    let consumer = consumer.start().await?;
    consumer.poll(Duration::from_secs(60)).await;
    consumer.shutdown().await;
    // docs: begin
    let admin = Admin::connect(&name_server).await?;
    let (minute, soon) = (60_000, now + 60_000);
    let mut found = Vec::new();
    while found.is_empty() {
        // The index follows the messages by a moment.
        found = admin
            .query_message("QueryTopic", "order-17", 32, now - minute, soon)
            .await?;
    }
    println!("by key: {:?}", found[0].body);
    for id in [&sent.msg_id, &sent.offset_msg_id] {
        let message = admin.view_message("QueryTopic", id).await?.ok_or("not found")?;
        println!("by id: {:?}, stored at {}", message.body, message.store_timestamp);
    }
    let window = admin
        .query_message_by_time("QueryTopic", now - minute, soon, 100)
        .await?;
    println!("within two minutes: {}", window.len());
    let first = admin.search_offset(&sent.queue, now, Boundary::Lower).await?;
    println!("first of them in {}: {first}", sent.queue);

    for (queue, offsets) in admin
        .consume_stats_of("queries_example", "QueryTopic")
        .await?
        .offset_table
        .iter()
    {
        println!("{queue}: {} of {}", offsets.consumer_offset, offsets.broker_offset);
    }
    let now_at = admin
        .reset_offset_by_timestamp("QueryTopic", "queries_example", 0, true)
        .await?;
    println!("the group begins anew: {now_at:?}");
    // docs: end
    admin.shutdown().await;
    producer.shutdown().await;
    Ok(())
}
