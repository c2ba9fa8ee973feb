//! Sends a message twice and has it stored once, by a broker with `duplicateSendWindow`:
//! `cargo run -p oxmq-client --example duplicates -- 127.0.0.1:9876`

use oxmq_client::{Message, Producer};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let name_server = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9876".to_owned());
    // docs: begin
    let producer = Producer::builder("bookings").name_server(&name_server).start().await?;
    // Without a key of its own each message gets one, which its attempts share.
    let booking = Message::new("Bookings", "seat 7").with_property("UNIQ_KEY", "booking-4711");
    let first = producer.send(booking.clone()).await?;
    let again = producer.send(booking).await?; // perhaps by another process that has not seen the answer
    println!("{} and {}", first.offset_msg_id, again.offset_msg_id); // one message
    // docs: end
    if first != again {
        return Err(format!("stored twice: {first:?} {again:?}; is duplicateSendWindow set?").into());
    }
    producer.shutdown().await;
    Ok(())
}
