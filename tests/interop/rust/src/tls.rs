//! Servers that take TLS only.

use anyhow::{Result, ensure};
use oxmq_client::{ClientTls, Message, Producer};
use serde_json::json;

use crate::Facts;
use crate::env::Env;

/// Told by the suite: unset for plain connections, empty for servers with certificates of their own making, else the folder
/// of the client's files.
const FOLDER: &str = "OXMQ_TLS";

pub(crate) fn client() -> Option<ClientTls> {
    let folder = std::env::var(FOLDER).ok()?;
    if folder.is_empty() {
        return Some(ClientTls::trusting_anyone());
    }
    let file = |name| format!("{folder}/{name}");
    let trusting = ClientTls::trusting(file("roots.pem")).verifying_host();
    Some(trusting.with_certificate(file("client.pem"), file("client.key"), None))
}

pub(crate) async fn tls(env: &Env) -> Result<Facts> {
    let topic = env.name("tls");
    env.create_topic(&topic, 1).await?;
    env.send(&topic, "message", 20).await?;
    let large: Vec<u8> = (0..1_000_000u32).map(|at| (at.wrapping_mul(at) >> 7) as u8).collect();
    env.producer
        .send(Message::new(&topic, large.clone()).with_tags("large"))
        .await?;
    let mut consumer = env.consumer("tls");
    if let Some(tls) = client() {
        consumer = consumer.tls(tls);
    }
    let (consumer, received) = env.collect_with(&topic, "*", consumer).await?;
    received
        .wait_for("all messages", |messages| messages.len() >= 21)
        .await?;
    let came = received.messages().iter().any(|message| message.body[..] == large[..]);
    ensure!(came, "the large message came as another");
    consumer.shutdown().await;

    let plain = Producer::builder(env.name("plain"))
        .name_server(&env.name_server)
        .start()
        .await?;
    let refused = plain.send(Message::new(&topic, "plain")).await.is_err();
    ensure!(refused, "a plain connection was served");
    plain.shutdown().await;
    Ok([("plain client".to_owned(), json!("refused"))].into_iter().collect())
}
