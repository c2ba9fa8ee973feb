//! `oxmq quickstart`: servers on free ports with their files in a temporary folder, a producer and a push consumer of
//! the client library, and what they see.

use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::ArgMatches;
use oxmq_broker::BrokerConfig;
use oxmq_client::{Admin, ConsumeFromWhere, ConsumeStatus, Message, MessageExt, Messages, Producer, PushConsumer};
use oxmq_protocol::body::TopicConfig;
use oxmq_protocol::perm;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::signals::any_stop_signal;
use crate::standalone::{Options, Standalone};

const TOPIC: &str = "quickstart";
const QUEUES: i32 = 4;
const SHOWN_MESSAGES: usize = 10;
const BURST_MESSAGES: usize = 20_000;
const BURST_SENDERS: usize = 64;
const BURST_BODY_BYTES: usize = 128;
/// Everything here takes a second; a demonstration that hangs must end all the same.
const DEADLINE: Duration = Duration::from_secs(60);
/// Exit status after Ctrl-C.
const INTERRUPTED: u8 = 130;

pub(crate) fn run(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let folder = tempfile::Builder::new().prefix("oxmq-quickstart-").tempdir()?;
    let options = Options {
        namesrv_port: 0,
        broker_port: 0,
        change_broker: small_files,
        ..Options::new(folder.path(), Ipv4Addr::LOCALHOST)
    };
    let servers = Standalone::start(options)?;
    say!(
        "OxMQ {}: a name server and a broker are serving.\n",
        env!("CARGO_PKG_VERSION")
    );
    servers.print_addresses("   removed at the end");

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let name_server = servers.namesrv_addr().to_string();
    let exit_code = runtime.block_on(async {
        tokio::select! {
            shown = timeout(DEADLINE, show(&name_server)) => {
                shown.context("the demonstration did not end in time")??;
            }
            stopped = any_stop_signal() => {
                stopped?;
                return anyhow::Ok(ExitCode::from(INTERRUPTED));
            }
        }
        if matches.get_flag("keep") {
            say!("\nThe servers stay up for your own clients: NAMESRV_ADDR={name_server}. Ctrl-C ends.");
            any_stop_signal().await?;
        }
        Ok(ExitCode::SUCCESS)
    });
    servers.shutdown();
    exit_code
}

/// Enough for the demonstration, and not a gigabyte of a small disk.
fn small_files(config: &mut BrokerConfig) {
    config.mapped_file_size_commit_log = 64 * 1024 * 1024;
    config.max_hash_slot_num = 100_000;
    config.max_index_num = 400_000;
    // Nothing here is old, and the folder goes at the end: that the machine's disk is full of other things is no news.
    config.disk_max_used_space_ratio = 95;
    config.clean_file_forcibly_enable = false;
}

/// A message as the consumer saw it.
struct Seen {
    message: std::sync::Arc<MessageExt>,
    at: Instant,
}

async fn show(name_server: &str) -> anyhow::Result<()> {
    create_topic(name_server).await?;
    let producer = Producer::builder("quickstart-producer")
        .name_server(name_server)
        .start()
        .await?;
    let (sender, mut seen) = mpsc::unbounded_channel();
    let consumer = PushConsumer::builder("quickstart-consumer")
        .name_server(name_server)
        .subscribe(TOPIC, "*")
        .consume_from_where(ConsumeFromWhere::FirstOffset)
        .concurrent(move |messages: Messages| {
            let at = Instant::now();
            for message in messages {
                // The receiver is gone when the demonstration is over.
                let _ = sender.send(Seen { message, at });
            }
            async { ConsumeStatus::Success }
        })
        .start()
        .await?;
    // The first message waits until the consumer has its queues; the others show what comes after that.
    producer.send(Message::new(TOPIC, "the consumer is ready")).await?;
    next(&mut seen).await?;

    show_messages(&producer, &mut seen).await?;
    show_burst(&producer, &mut seen).await?;
    consumer.shutdown().await;
    producer.shutdown().await;
    say!("\n{NEXT_STEPS}");
    Ok(())
}

const NEXT_STEPS: &str = "\
What to try next:

  oxmq                         serve on 127.0.0.1:9876 with the data in ./oxmq-data
  oxmq quickstart --keep       this again, and the servers stay up
  oxmq broker -c broker.conf   a broker alone, with the file of an existing RocketMQ broker
  oxmq --help                  everything else

Any RocketMQ client works: give it the name server's address, as with NAMESRV_ADDR=127.0.0.1:9876.";

/// Creates the topic and waits until the name server knows it.
async fn create_topic(name_server: &str) -> anyhow::Result<()> {
    let admin = Admin::connect(name_server).await?;
    let topic = TopicConfig::new(TOPIC, QUEUES, perm::READ | perm::WRITE);
    // The broker registers just after it starts to serve.
    while admin.cluster_info().await?.broker_addr_table.is_empty() {
        sleep(Duration::from_millis(2)).await;
    }
    admin.create_topic("DefaultCluster", &topic).await?;
    while admin.topic_route(TOPIC).await.is_err() {
        sleep(Duration::from_millis(2)).await;
    }
    admin.shutdown().await;
    Ok(())
}

async fn show_messages(producer: &Producer, seen: &mut mpsc::UnboundedReceiver<Seen>) -> anyhow::Result<()> {
    say!("\nA producer sends {SHOWN_MESSAGES} messages to the topic \"{TOPIC}\", a push consumer gets them:\n");
    say!("  message id                        queue  offset     stored   consumed  body");
    for number in 1..=SHOWN_MESSAGES {
        let started = Instant::now();
        let result = producer.send(Message::new(TOPIC, format!("hello {number}"))).await?;
        let stored = started.elapsed();
        let Seen { message, at } = next(seen).await?;
        ensure!(
            message.msg_id() == result.msg_id,
            "another message was consumed than was sent"
        );
        say!(
            "  {:32}  {:5}  {:6}  {:>9}  {:>9}  {}",
            message.msg_id(),
            message.queue_id,
            message.queue_offset,
            millis(stored),
            millis(at.duration_since(started)),
            String::from_utf8_lossy(&message.message.body)
        );
    }
    Ok(())
}

/// Senders that each wait for their acknowledgement before they send again. Bodies start with the time of their sending,
/// counted from the start of the burst.
async fn show_burst(producer: &Producer, seen: &mut mpsc::UnboundedReceiver<Seen>) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut senders = JoinSet::new();
    for sender in 0..BURST_SENDERS {
        let producer = producer.clone();
        senders.spawn(async move {
            let mut sent = sender;
            while sent < BURST_MESSAGES {
                let mut body = vec![b'.'; BURST_BODY_BYTES];
                let since_start = started.elapsed().as_nanos() as u64;
                body[..8].copy_from_slice(&since_start.to_be_bytes());
                producer.send(Message::new(TOPIC, body)).await?;
                sent += BURST_SENDERS;
            }
            anyhow::Ok(started.elapsed())
        });
    }
    let mut latencies = Vec::with_capacity(BURST_MESSAGES);
    let mut consumed = Duration::ZERO;
    while latencies.len() < BURST_MESSAGES {
        let Seen { message, at } = next(seen).await?;
        let stamp = message
            .message
            .body
            .first_chunk()
            .context("a message without its time")?;
        let sent = started + Duration::from_nanos(u64::from_be_bytes(*stamp));
        latencies.push(at.duration_since(sent));
        consumed = consumed.max(at.duration_since(started));
    }
    let mut stored = Duration::ZERO;
    while let Some(sender) = senders.join_next().await {
        stored = stored.max(sender??);
    }
    latencies.sort_unstable();
    let at = |share: f64| millis(latencies[((latencies.len() - 1) as f64 * share) as usize]);
    let rate = |took: Duration| BURST_MESSAGES as f64 / took.as_secs_f64();
    say!("\nA burst of {BURST_MESSAGES} messages of {BURST_BODY_BYTES} bytes from {BURST_SENDERS} senders:\n");
    say!("  stored    {:>9}   {:.0} a second", millis(stored), rate(stored));
    say!("  consumed  {:>9}   {:.0} a second", millis(consumed), rate(consumed));
    say!(
        "  from send to consumer: half within {}, 99 % within {}",
        at(0.5),
        at(0.99)
    );
    say!("  (servers, producer and consumer share this process and its processors)");
    Ok(())
}

async fn next(seen: &mut mpsc::UnboundedReceiver<Seen>) -> anyhow::Result<Seen> {
    seen.recv().await.context("the consumer stopped")
}

fn millis(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1000.0)
}
