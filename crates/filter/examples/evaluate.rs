//! How long an evaluation takes: `cargo run --release -p oxmq-filter --example evaluate`

use std::hint::black_box;
use std::time::Instant;

use bytes::BytesMut;
use oxmq_filter::{CompileError, Expression};
use oxmq_protocol::properties;

const ROUNDS: u32 = 2_000_000;

fn main() -> Result<(), CompileError> {
    // What a client and a broker put into an ordinary message, and three properties of the application.
    let mut message = BytesMut::new();
    for (name, value) in [
        ("KEYS", "order-000042"),
        ("UNIQ_KEY", "7F0000010A2B07A4A9B5C6D70000002A"),
        ("WAIT", "true"),
        ("TAGS", "tea"),
        ("price", "42"),
        ("region", "eu-west-1"),
        ("colour", "green"),
        ("MSG_REGION", "DefaultRegion"),
        ("TRACE_ON", "true"),
        ("CLUSTER", "DefaultCluster"),
    ] {
        properties::write(&mut message, name.as_bytes(), value.as_bytes());
    }
    println!("properties of {} bytes, ns per message:", message.len());
    for text in [
        "price = 42",
        "price BETWEEN 1 AND 5",
        "TAGS = 'tea' AND price > 40 AND region IS NOT NULL",
        "colour IN ('red', 'green', 'blue') AND price < 10.5",
        "region CONTAINS 'west' OR region STARTSWITH 'us-'",
        "nothing = 1",
    ] {
        let expression = Expression::compile(text)?;
        let started = Instant::now();
        let matches = (0..ROUNDS).filter(|_| black_box(&expression).matches(black_box(&message)));
        let matches = matches.count();
        let nanos = started.elapsed().as_nanos() / u128::from(ROUNDS);
        let outcome = if matches > 0 { "matches" } else { "does not match" };
        println!("{nanos:6}  {text}  ({outcome})");
    }
    Ok(())
}
