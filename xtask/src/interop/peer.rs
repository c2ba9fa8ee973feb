//! `xtask peer ROLE …`: the Rust client as the other side of a case. Each role says on standard output how far it is, and
//! ends with its standard input or when it is done.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, bail};
use oxmq_client::{
    CompressionType, ConsumeFromWhere, ConsumeStatus, InstanceConfig, LitePullConsumer, LocalTransactionState, Message,
    MessageExt, Producer, PushConsumer, TraceConfig, TransactionListener, TransactionProducer, create_reply_message,
};

const TIMEOUT: Duration = Duration::from_secs(60);
/// Of a body, as much as is printed.
const SHOWN: usize = 40;

pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    runtime.block_on(async {
        match args[..] {
            ["ask", namesrv, topic, text] => ask(namesrv, topic, text).await,
            ["answer", namesrv, topic, group] => answer(namesrv, topic, group).await,
            ["send", namesrv, options, topic, text] => send(&Settings::parse(namesrv, options)?, topic, text).await,
            ["commit", namesrv, options, topic, text] => commit(&Settings::parse(namesrv, options)?, topic, text).await,
            ["consume", namesrv, options, topic, group] => {
                consume(&Settings::parse(namesrv, options)?, topic, group).await
            }
            ["poll", namesrv, options, topic, group] => poll(&Settings::parse(namesrv, options)?, topic, group).await,
            _ => bail!("usage: xtask peer ask|answer|send|commit|consume|poll …"),
        }
    })
}

/// `namespace=shop,trace,compression=lz4:9`.
struct Settings {
    instance: InstanceConfig,
    compression: Option<(CompressionType, u32)>,
}

impl Settings {
    fn parse(namesrv: &str, options: &str) -> anyhow::Result<Settings> {
        let mut settings = Settings {
            instance: InstanceConfig {
                name_server: namesrv.to_owned(),
                ..InstanceConfig::default()
            },
            compression: None,
        };
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option.split_once('=').unwrap_or((option, "")) {
                ("namespace", name) => settings.instance.namespace = Some(name.to_owned()),
                ("trace", _) => settings.instance.trace = Some(TraceConfig::default()),
                ("compression", kind) => settings.compression = Some(compression(kind)?),
                _ => bail!("no option is called {option:?}"),
            }
        }
        Ok(settings)
    }

    async fn producer(&self, group: &str) -> anyhow::Result<Producer> {
        let mut builder = Producer::builder(group).instance_config(self.instance.clone());
        if let Some((kind, level)) = self.compression {
            builder = builder.compression(kind, level);
        }
        Ok(builder.start().await?)
    }
}

fn compression(text: &str) -> anyhow::Result<(CompressionType, u32)> {
    let (kind, level) = text.split_once(':').context("KIND:LEVEL")?;
    let kind = match kind {
        "zlib" => CompressionType::Zlib,
        "lz4" => CompressionType::Lz4,
        "zstd" => CompressionType::Zstd,
        _ => bail!("{kind} is no way to compress"),
    };
    Ok((kind, level.parse()?))
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

fn message(topic: &str, text: &str) -> Message {
    Message::new(topic, text.to_owned())
        .with_tags("tag")
        .with_keys("key-1 key-2")
}

/// Says the topic that it has sent to, and the two ids.
async fn send(settings: &Settings, topic: &str, text: &str) -> anyhow::Result<()> {
    let producer = settings.producer("rust-senders").await?;
    let sent = producer.send(message(topic, text)).await?;
    println!("sent {} {} {}", sent.queue.topic, sent.msg_id, sent.offset_msg_id);
    producer.shutdown().await;
    Ok(())
}

struct Commits;

impl TransactionListener for Commits {
    type Argument = ();

    async fn execute_local_transaction(&self, _: &Message, (): ()) -> LocalTransactionState {
        LocalTransactionState::CommitMessage
    }

    async fn check_local_transaction(&self, _: &MessageExt) -> LocalTransactionState {
        LocalTransactionState::CommitMessage
    }
}

/// The same in a transaction.
async fn commit(settings: &Settings, topic: &str, text: &str) -> anyhow::Result<()> {
    let producer = TransactionProducer::builder("rust-committers", Commits)
        .instance_config(settings.instance.clone())
        .start()
        .await?;
    let sent = producer.send_message_in_transaction(message(topic, text), ()).await?;
    let sent = sent.send_result;
    println!("sent {} {} {}", sent.queue.topic, sent.msg_id, sent.offset_msg_id);
    producer.shutdown().await;
    Ok(())
}

/// Says the topic, the attempts so far, the length and the beginning of every message. One that begins with `fail` is
/// given back.
async fn consume(settings: &Settings, topic: &str, group: &str) -> anyhow::Result<()> {
    let consumer = PushConsumer::builder(group)
        .instance_config(settings.instance.clone())
        .consume_from_where(ConsumeFromWhere::FirstOffset)
        .subscribe(topic, "*")
        .concurrent(move |messages| {
            let text = String::from_utf8_lossy(&messages[0].body);
            let shown: String = text.chars().take(SHOWN).collect();
            let (topic, times) = (&messages[0].topic, messages[0].reconsume_times);
            println!("got {topic} {times} {} {shown}", text.len());
            // Whoever reads it may have gone.
            let _ = std::io::stdout().flush();
            let status = match text.starts_with("fail") {
                true => ConsumeStatus::ReconsumeAfter { delay_level: -1 },
                false => ConsumeStatus::Success,
            };
            async move { status }
        })
        .start()
        .await?;
    println!("consuming");
    end_of_input().await?;
    consumer.shutdown().await;
    Ok(())
}

/// The same with a lite pull consumer.
async fn poll(settings: &Settings, topic: &str, group: &str) -> anyhow::Result<()> {
    let consumer = LitePullConsumer::builder(group)
        .instance_config(settings.instance.clone())
        .consume_from_where(ConsumeFromWhere::FirstOffset)
        .subscribe(topic, "*")
        .start()
        .await?;
    let ended = end_of_input();
    tokio::pin!(ended);
    loop {
        tokio::select! {
            ended = &mut ended => {
                ended?;
                break;
            }
            messages = consumer.poll(Duration::from_secs(1)) => {
                for message in messages {
                    println!("got {} {} {}", message.topic, message.reconsume_times, message.body.len());
                    std::io::stdout().flush()?;
                }
            }
        }
    }
    consumer.shutdown().await;
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
