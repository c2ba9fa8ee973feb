//! `cargo xtask crash`: kills the broker under load, again and again, and checks that it kept its word.
//!
//! Each round sends until the broker dies of SIGKILL, starts it on what is left, and compares what it stores with what
//! it acknowledged: every acknowledged message at its queue offset, once, unharmed, in the order of its producer; what
//! was readable before is readable still; and the index finds it. Some restarts are killed as well, while the broker recovers.
//!
//! - `load`: producers and what was acknowledged to them
//! - `check`: what the broker stores, read by pulling
//! - `beside`: transactions, POP and delayed messages at the same time, each with invariants of its own. Not with the
//!   original, which commits and delivers again what it was killed behind

mod beside;
mod check;
mod load;
mod orderly;
mod pops;
mod timers;
mod transactions;

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use oxmq_client::{MessageExt, PullConsumer, PullStatus};
use oxmq_protocol::requests::{CreateTopicHeader, QueueHeader, request};
use oxmq_remoting::{ClientConfig, RemotingClient};
use tokio::runtime::Runtime;

use self::beside::Beside;
pub(crate) use self::check::Stored;
pub(crate) use self::load::{Acknowledged, Producers};
use crate::interop::oxmq_binary;
use crate::random::Random;
use crate::servers::{Cluster, Options, Server, target_dir};

const USAGE: &str = "\
usage: cargo xtask crash [options]
  --rounds N         kills in a row, for each flush mode (50; 200 for a long run)
  --flush sync|async only this mode
  --seed N           moments of the kills (1)
  --port N           the name server's; the broker's is 10 above (23500)
  --takeover java    in the end the original serves the data for a while
  --server oxmq|java whom to kill; java shows that the check itself is right
  --binary FILE      the oxmq to kill (default: built with the release profile)";

pub(crate) const TOPIC: &str = "CrashTest";
const QUEUES: i32 = 4;
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Small files, so that a round crosses several.
const COMMIT_LOG_FILE_BYTES: u32 = 8 * 1024 * 1024;
const CONSUME_QUEUE_FILE_BYTES: u32 = 20 * 3000;
/// Every so many rounds the recovery is killed too.
const RECOVERY_KILL_EVERY: u32 = 5;

struct Arguments {
    rounds: u32,
    modes: Vec<&'static str>,
    seed: u64,
    port: u16,
    java: bool,
    takeover: bool,
    binary: Option<PathBuf>,
}

pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    let arguments = Arguments::parse(args)?;
    let server = match &arguments.binary {
        _ if arguments.java => Server::Java("5.5.0"),
        Some(binary) => Server::Oxmq { binary: binary.clone() },
        None => Server::Oxmq {
            binary: oxmq_binary(false)?,
        },
    };
    for mode in &arguments.modes {
        crash(&arguments, &server, mode).with_context(|| format!("{mode}, seed {}", arguments.seed))?;
    }
    Ok(())
}

fn crash(arguments: &Arguments, server: &Server, mode: &str) -> anyhow::Result<()> {
    let dir = target_dir().join("crash").join(mode.to_lowercase());
    let options = Options::new(server.clone(), arguments.port, dir)
        .broker_property("flushDiskType", mode)
        .broker_property("mappedFileSizeCommitLog", COMMIT_LOG_FILE_BYTES)
        .broker_property("mappedFileSizeConsumeQueue", CONSUME_QUEUE_FILE_BYTES)
        .broker_property("brokerFastFailureEnable", false)
        // With several, the original stores the sends of one connection in any order.
        .broker_property("sendMessageThreadPoolNums", 1)
        // The disk may be rather full; that is not what is tested.
        .broker_property("diskMaxUsedSpaceRatio", 99)
        .broker_property("cleanFileForciblyEnable", false);
    let options =
        beside::broker_properties().fold(options, |options, (key, value)| options.broker_property(key, value));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut cluster = Cluster::start(options)?;
    let addr = cluster.broker_addr();
    runtime.block_on(create_topic(&addr, TOPIC))?;
    let mut random = Random::new(arguments.seed);
    let mut producers = Producers::new(cluster.namesrv_addr(), addr.clone());
    let mut stored = Stored::new(addr.clone());
    let mut beside = match arguments.java {
        true => None,
        false => Some(runtime.block_on(Beside::start(&cluster))?),
    };
    let mut restarts = Vec::new();
    for round in 1..=arguments.rounds {
        let before_kill = moment(&mut random, 100, 600);
        let acknowledged = runtime.block_on(async {
            let mut load = producers.start();
            if let Some(beside) = &mut beside {
                beside.load();
            }
            load.run_for(before_kill).await?;
            cluster.kill_broker()?;
            if let Some(beside) = &mut beside {
                beside.ended(&cluster.store_dir()).await?;
            }
            load.acknowledged().await
        })?;
        // Checkpoints of POP are written at once, or stay in memory at first.
        cluster.set_property("enablePopBufferMerge", round % 2 == 1);
        if round % RECOVERY_KILL_EVERY == 0 && !arguments.java {
            cluster.spawn_broker()?;
            thread::sleep(moment(&mut random, 0, 30));
            cluster.kill_broker()?;
        }
        restarts.push(restart(&mut cluster, &addr)?);
        runtime
            .block_on(stored.check(&acknowledged))
            .with_context(|| format!("round {round}: data in {}", cluster.store_dir().display()))?;
    }
    runtime.block_on(stored.check_all_again())?;
    if let Some(mut beside) = beside {
        for happened in runtime.block_on(beside.check())? {
            println!("{mode}: {happened}");
        }
        if arguments.takeover {
            runtime.block_on(beside.take_over(&mut cluster, server))?;
            println!("{mode}: the original has finished what was under way, and OxMQ what was begun with it");
        }
        runtime.block_on(beside.shutdown());
    }
    cluster.stop_broker()?;
    cluster.discard()?;
    restarts.sort_unstable();
    let slowest = *restarts.last().context("no rounds")?;
    println!(
        "{mode}: {} kills; {} messages acknowledged, {} stored, all of them right; serving {:.0?} after a restart \
         (median; slowest {slowest:.0?})",
        arguments.rounds,
        stored.acknowledged,
        stored.len(),
        restarts[restarts.len() / 2],
    );
    Ok(())
}

/// Starts the broker; the time until it answers.
fn restart(cluster: &mut Cluster, addr: &str) -> anyhow::Result<Duration> {
    let started = Instant::now();
    thread::scope(|scope| {
        let first_answer = scope.spawn(|| -> anyhow::Result<Duration> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            wait_for_answer(&runtime, addr)?;
            Ok(started.elapsed())
        });
        cluster.start_broker()?;
        first_answer.join().expect("the prober does not panic")
    })
}

fn wait_for_answer(runtime: &Runtime, addr: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    let header = QueueHeader {
        topic: TOPIC.to_owned(),
        ..QueueHeader::default()
    };
    runtime.block_on(async {
        let client = client();
        while Instant::now() < deadline {
            let answer = client
                .call::<request::GetMaxOffset>(addr, &header, Bytes::new(), Duration::from_secs(1))
                .await;
            if answer.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        bail!("the broker does not answer")
    })
}

pub(crate) async fn create_topic(addr: &str, topic: &str) -> anyhow::Result<()> {
    let header = CreateTopicHeader {
        topic: topic.to_owned(),
        default_topic: Some("TBW102".to_owned()),
        read_queue_nums: QUEUES,
        write_queue_nums: QUEUES,
        perm: 6,
        topic_filter_type: "SINGLE_TAG".to_owned(),
        ..CreateTopicHeader::default()
    };
    client()
        .call::<request::UpdateAndCreateTopic>(addr, &header, Bytes::new(), CALL_TIMEOUT)
        .await?;
    Ok(())
}

/// All messages of a topic.
async fn read_topic(namesrv_addr: &str, topic: &str) -> anyhow::Result<Vec<MessageExt>> {
    let consumer = PullConsumer::builder("crash-reader");
    let consumer = consumer.name_server(namesrv_addr).start().await?;
    let mut found = Vec::new();
    for queue in consumer.fetch_subscribe_message_queues(topic).await? {
        let mut offset = 0;
        loop {
            let pulled = consumer.pull(&queue, "*", offset, 32).await?;
            if pulled.status != PullStatus::Found {
                break;
            }
            offset = pulled.next_begin_offset;
            found.extend(pulled.messages);
        }
    }
    consumer.shutdown().await;
    Ok(found)
}

fn client() -> RemotingClient {
    RemotingClient::new(ClientConfig::default(), None)
}

/// A moment for a kill.
fn moment(random: &mut Random, from_ms: usize, to_ms: usize) -> Duration {
    let micros = from_ms * 1000 + random.below((to_ms - from_ms) * 1000);
    Duration::from_micros(micros as u64)
}

impl Arguments {
    fn parse(args: &[String]) -> anyhow::Result<Arguments> {
        let mut arguments = Arguments {
            rounds: 50,
            modes: vec!["SYNC_FLUSH", "ASYNC_FLUSH"],
            seed: 1,
            port: 23500,
            java: false,
            takeover: false,
            binary: None,
        };
        let mut args = args.iter();
        while let Some(flag) = args.next() {
            let value = args
                .next()
                .with_context(|| format!("{flag} without a value\n{USAGE}"))?;
            match (flag.as_str(), value.as_str()) {
                ("--rounds", rounds) => arguments.rounds = rounds.parse()?,
                ("--flush", "sync") => arguments.modes = vec!["SYNC_FLUSH"],
                ("--flush", "async") => arguments.modes = vec!["ASYNC_FLUSH"],
                ("--seed", seed) => arguments.seed = seed.parse()?,
                ("--port", port) => arguments.port = port.parse()?,
                ("--server", "oxmq") => arguments.java = false,
                ("--server", "java") => arguments.java = true,
                ("--takeover", "java") => arguments.takeover = true,
                ("--binary", binary) => arguments.binary = Some(std::fs::canonicalize(binary)?),
                _ => bail!("{flag} {value}?\n{USAGE}"),
            }
        }
        ensure!(arguments.rounds > 0, "--rounds 0 shows nothing");
        Ok(arguments)
    }
}
