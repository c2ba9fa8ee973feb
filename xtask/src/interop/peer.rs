//! `xtask peer ROLE …`: the Rust client as the other side of a case. Each role says on standard output how far it is, and
//! ends with its standard input or when it is done.

use std::time::Duration;

use anyhow::bail;
use oxmq_client::{ConsumeFromWhere, ConsumeStatus, Message, Producer, PushConsumer, create_reply_message};

const TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    runtime.block_on(async {
        match args[..] {
            ["ask", namesrv, topic, text] => ask(namesrv, topic, text).await,
            ["answer", namesrv, topic, group] => answer(namesrv, topic, group).await,
            _ => bail!("usage: xtask peer ask|answer …"),
        }
    })
}

async fn ask(namesrv: &str, topic: &str, text: &str) -> anyhow::Result<()> {
    let producer = producer(namesrv, "rust-askers").await?;
    let reply = producer.request(Message::new(topic, text.to_owned()), TIMEOUT).await?;
    println!("reply {}", String::from_utf8_lossy(&reply.body));
    producer.shutdown().await;
    Ok(())
}

/// Replies with the body in capitals.
async fn answer(namesrv: &str, topic: &str, group: &str) -> anyhow::Result<()> {
    let producer = producer(namesrv, group).await?;
    let sender = producer.clone();
    let consumer = PushConsumer::builder(group)
        .name_server(namesrv)
        .consume_from_where(ConsumeFromWhere::FirstOffset)
        .subscribe(topic, "*")
        .concurrent(move |messages| {
            let sender = sender.clone();
            async move {
                for request in &*messages {
                    let reply = create_reply_message(request, request.body.to_ascii_uppercase());
                    let Ok(reply) = reply else { continue };
                    if let Err(error) = sender.send(reply).await {
                        eprintln!("reply: {error}");
                    }
                }
                ConsumeStatus::Success
            }
        })
        .start()
        .await?;
    println!("answering");
    end_of_input().await?;
    consumer.shutdown().await;
    producer.shutdown().await;
    Ok(())
}

async fn producer(namesrv: &str, group: &str) -> anyhow::Result<Producer> {
    Ok(Producer::builder(group).name_server(namesrv).start().await?)
}

async fn end_of_input() -> anyhow::Result<()> {
    let read = tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    read.await??;
    Ok(())
}
