//! Consumes only the messages whose tag and properties it wants:
//! `cargo run -p oxmq-client --example filtering -- 127.0.0.1:9876` (the broker needs `enablePropertyFilter=true`)

use std::time::Duration;

use oxmq_client::{ConsumeFromWhere, ConsumeStatus, Message, MessageSelector, Producer, PushConsumer};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), AnyError> {
    let name_server = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9876".to_owned());
    let (found, mut offers) = tokio::sync::mpsc::unbounded_channel();
    // docs: begin
    let producer = Producer::builder("shops").name_server(&name_server).start().await?;
    for price in 1..=10 {
        let tag = if price % 2 == 0 { "tea" } else { "coffee" };
        let offer = Message::new("Offers", format!("offer {price}"));
        let offer = offer.with_tags(tag).with_property("price", price.to_string());
        producer.send(offer).await?;
    }

    let consumer = PushConsumer::builder("tea_drinkers")
        .name_server(&name_server)
        .consume_from_where(ConsumeFromWhere::FirstOffset)
        .subscribe(
            "Offers",
            MessageSelector::by_sql("TAGS = 'tea' AND price BETWEEN 3 AND 8"),
        )
        .concurrent(move |messages| {
            for offer in &*messages {
                let _ = found.send(String::from_utf8_lossy(&offer.body).into_owned()); // nobody may be waiting any more
            }
            async { ConsumeStatus::Success }
        })
        .start()
        .await?;
    // docs: end
    let mut cheap = Vec::new();
    while cheap.len() < 3 {
        let offer = tokio::time::timeout(Duration::from_secs(30), offers.recv()).await?;
        cheap.extend(offer);
    }
    cheap.sort();
    println!("{cheap:?}");
    if cheap != ["offer 4", "offer 6", "offer 8"] {
        return Err("other offers were expected".into());
    }
    // The broker says where an expression is wrong.
    let refused = consumer.subscribe("Offers", MessageSelector::by_sql("price >")).await;
    println!("{}", refused.err().ok_or("a wrong expression was accepted")?);
    consumer.shutdown().await;
    producer.shutdown().await;
    Ok(())
}
