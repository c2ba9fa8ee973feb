//! One store that goes from the original to OxMQ, back, and to OxMQ again, with messages of every kind under way.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::pops::Pops;
use super::snapshot::{SavedOffsets, Snapshot};
use super::traffic::Traffic;
use super::transactions::{self, Answerer, Transactions};
use super::version::Version;
use super::waiting::{Phase, Waiting};
use super::wire::Wire;
use crate::crash::{Producers, Stored, create_topic};
use crate::now_ms;
use crate::random::Random;
use crate::servers::{Cluster, Options, Server};

/// Small files, so that every kind of them is more than one.
const COMMIT_LOG_FILE_BYTES: i64 = 1 << 20;
const BROKER_PROPERTIES: [(&str, &str); 13] = [
    ("mappedFileSizeCommitLog", "1048576"),
    ("mappedFileSizeConsumeQueue", "2000"),
    ("maxHashSlotNum", "500"),
    ("maxIndexNum", "1000"),
    ("messageDelayLevel", Waiting::LEVELS),
    ("flushConsumerOffsetInterval", "500"),
    ("flushDelayOffsetInterval", "500"),
    ("brokerFastFailureEnable", "false"),
    // With several, the original stores the sends of one connection in any order.
    ("sendMessageThreadPoolNums", "1"),
    ("diskMaxUsedSpaceRatio", "95"),
    ("cleanFileForciblyEnable", "false"),
    // After a kill 5.5.0 reads at most ten files, which are small here.
    ("commitLogRecoverMaxNum", "1000"),
    ("bindAddress", "127.0.0.1"),
];
/// The last broker takes over and is left alone.
const PHASES: usize = 4;
const LOAD: Duration = Duration::from_millis(150);
/// The original saves its tables first ten seconds after its start.
const SAVE_TIMEOUT: Duration = Duration::from_secs(20);
/// A stop comes so long after timers were sent that are due soon, or up to twice as long.
const DUE_SOON_PAUSE_MS: usize = 1200;
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    Clean,
    Kill,
}

#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) version: Version,
    pub(super) stop: Stop,
    pub(super) seed: u64,
    pub(super) port: u16,
    pub(super) dir: PathBuf,
    pub(super) oxmq: PathBuf,
}

impl Plan {
    pub(super) fn broker_addr(&self) -> String {
        format!("127.0.0.1:{}", self.port + 10)
    }
}

/// What a chain has shown.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    pub(super) hand_overs: usize,
    pub(super) messages: usize,
    pub(super) records: usize,
    pub(super) lookups: usize,
    pub(super) waited: usize,
    pub(super) transactions: usize,
    pub(super) pops: usize,
    /// What came twice after a kill of the original, by its nature.
    pub(super) repeated: usize,
}

struct Chain {
    plan: Plan,
    cluster: Cluster,
    traffic: Traffic,
    random: Random,
    answerer: Answerer,
    pops: Option<Pops>,
    producers: Producers,
    stored: Stored,
    phases: Vec<Phase>,
    counts: Counts,
}

/// What one broker leaves to the next.
struct Left {
    shown: Snapshot,
    saved: SavedOffsets,
    /// What was acknowledged until the kill.
    acknowledged: Vec<crate::crash::Acknowledged>,
}

pub(super) async fn run(plan: Plan) -> anyhow::Result<Counts> {
    let oxmq = Server::Oxmq {
        binary: plan.oxmq.clone(),
    };
    let mut options = Options::new(oxmq, plan.port, &plan.dir);
    options.broker = Server::Java(plan.version.name());
    let properties = BROKER_PROPERTIES.into_iter().chain(transactions::BROKER_PROPERTIES);
    let options = properties.fold(options, |options, (key, value)| options.broker_property(key, value));
    // An older broker does not know the settings, and has its consumer offsets elsewhere than one that does.
    let options = ["enableLmq", "enableMultiDispatch"]
        .into_iter()
        .fold(options, |options, key| {
            options.broker_property(key, plan.version.has_light_queues())
        });
    let cluster = Cluster::start(options)?;
    let mut phases = Vec::new();
    begin_phase(&mut phases, &plan);
    let wire = Wire::new(cluster.broker_addr());
    let traffic = Traffic::new(plan.version, plan.seed);
    traffic.prepare(&wire).await?;
    create_topic(&cluster.broker_addr(), crate::crash::TOPIC).await?;
    let pops = match plan.version.is_5() {
        true => Some(Pops::start(&wire, cluster.namesrv_addr(), plan.stop == Stop::Kill).await?),
        false => None,
    };
    let mut chain = Chain {
        answerer: Transactions::answerer(cluster.namesrv_addr()).await?,
        producers: Producers::new(cluster.namesrv_addr(), cluster.broker_addr()),
        stored: Stored::new(cluster.broker_addr()),
        random: Random::new(plan.seed),
        plan,
        cluster,
        traffic,
        pops,
        phases,
        counts: Counts::default(),
    };
    for phase in 0..PHASES - 1 {
        let left = chain.work(phase).await.with_context(|| chain.at(phase))?;
        chain.hand_over(phase + 1).with_context(|| chain.at(phase + 1))?;
        chain.check(left).await.with_context(|| chain.at(phase + 1))?;
    }
    chain.finish().await.with_context(|| chain.at(PHASES - 1))?;
    Ok(chain.counts)
}

fn is_java(phase: usize) -> bool {
    phase.is_multiple_of(2)
}

fn begin_phase(phases: &mut Vec<Phase>, plan: &Plan) {
    phases.push(Phase {
        is_java: is_java(phases.len()),
        from_ms: now_ms(),
        forgets: plan.stop == Stop::Kill || is_java(phases.len()) && plan.version == Version::V4_7_1,
    });
}

impl Chain {
    fn at(&self, phase: usize) -> String {
        let broker = if is_java(phase) { "Java" } else { "OxMQ" };
        format!(
            "broker {phase}, {broker}; data in {}",
            self.cluster.store_dir().display()
        )
    }

    fn wire(&self) -> Wire {
        Wire::new(self.cluster.broker_addr())
    }

    async fn snapshot(&self) -> anyhow::Result<Snapshot> {
        let phase = self.phases.len() - 1;
        let with_compacted = phase == 0 || !is_java(phase);
        Snapshot::read(&self.wire(), &self.traffic.light_queues(), with_compacted).await
    }

    /// The traffic of one broker, and its end.
    async fn work(&mut self, phase: usize) -> anyhow::Result<Left> {
        let wire = self.wire();
        self.traffic.transactions.end_open(&wire).await?;
        self.traffic.ask_about_one(&self.answerer).await?;
        if let Some(pops) = &mut self.pops {
            pops.round(&wire).await?;
        }
        self.traffic.round(&wire, phase).await?;
        if self.plan.stop == Stop::Kill {
            self.wait_for_tables().await?;
        }
        let shown = self.snapshot().await?;
        self.traffic.check(&shown)?;
        if self.plan.stop == Stop::Clean && self.plan.version.is_5() && !is_java(phase) {
            self.traffic.send_due_soon(&wire).await?;
            let pause_ms = DUE_SOON_PAUSE_MS + self.random.below(DUE_SOON_PAUSE_MS);
            tokio::time::sleep(Duration::from_millis(pause_ms as u64)).await;
        }
        let acknowledged = self.stop().await?;
        let saved = self.saved_offsets()?;
        ensure!(self.is_saved(&saved), "the consumer offsets are not saved");
        Ok(Left {
            shown,
            saved,
            acknowledged,
        })
    }

    fn saved_offsets(&self) -> anyhow::Result<SavedOffsets> {
        SavedOffsets::load(&self.cluster.store_dir(), self.plan.version)
    }

    fn is_saved(&self, saved: &SavedOffsets) -> bool {
        self.traffic
            .is_saved(|group, topic, queue_id| saved.get(group, topic, queue_id))
    }

    async fn wait_for_tables(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + SAVE_TIMEOUT;
        loop {
            // Not there at first, or just being written.
            if let Ok(saved) = self.saved_offsets()
                && self.is_saved(&saved)
            {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the consumer offsets are not saved");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// A kill comes in the middle of sends.
    async fn stop(&mut self) -> anyhow::Result<Vec<crate::crash::Acknowledged>> {
        match self.plan.stop {
            Stop::Clean => {
                self.cluster.stop_broker()?;
                self.check_offline()?;
                Ok(Vec::new())
            }
            Stop::Kill => {
                let mut load = self.producers.start();
                load.run_for(LOAD).await?;
                self.cluster.kill_broker()?;
                load.acknowledged().await
            }
        }
    }

    /// The store tool has nothing to say about a store that was stopped in order.
    fn check_offline(&self) -> anyhow::Result<()> {
        let mut tool = Command::new(&self.plan.oxmq);
        tool.args(["store", "check"]).arg(self.cluster.store_dir());
        tool.arg("-c").arg(self.plan.dir.join("broker.conf"));
        let output = tool.output()?;
        ensure!(
            output.status.success(),
            "store check:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    fn hand_over(&mut self, phase: usize) -> anyhow::Result<()> {
        self.cluster.replace_broker(match is_java(phase) {
            true => Server::Java(self.plan.version.name()),
            false => Server::Oxmq {
                binary: self.plan.oxmq.clone(),
            },
        });
        begin_phase(&mut self.phases, &self.plan);
        self.cluster.start_broker()
    }

    async fn check(&mut self, left: Left) -> anyhow::Result<()> {
        let shown = self.snapshot().await?;
        shown.check_keeps(&left.shown, self.plan.version)?;
        shown.check_offsets(&left.saved)?;
        self.traffic.check(&shown)?;
        // The original drops its index when it starts after a kill, and builds it anew from the last file of the log.
        let is_dropped = self.plan.stop == Stop::Kill && is_java(self.phases.len() - 1);
        match (self.plan.stop, is_dropped) {
            (Stop::Clean, _) => {}
            (Stop::Kill, true) => self.stored.check_queues(&left.acknowledged).await?,
            (Stop::Kill, false) => self.stored.check(&left.acknowledged).await?,
        }
        let indexed_from = match is_dropped {
            true => shown.last_physical_offset() / COMMIT_LOG_FILE_BYTES * COMMIT_LOG_FILE_BYTES,
            false => 0,
        };
        let looked_up = shown
            .check_lookups(&self.wire(), &mut self.random, indexed_from)
            .await?;
        self.counts.hand_overs += 1;
        self.counts.lookups += looked_up;
        self.counts.records += left.shown.records().count();
        Ok(())
    }

    /// Waits until everything that is under way has come to its end.
    async fn finish(&mut self) -> anyhow::Result<()> {
        self.traffic.transactions.end_open(&self.wire()).await?;
        if let Some(pops) = &mut self.pops {
            self.counts.pops = pops.drain().await?.0;
        }
        let wait = self.traffic.waiting.due_ms() - now_ms();
        tokio::time::sleep(Duration::from_millis(wait.max(0) as u64)).await;
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        let mut is_settled = false;
        let shown = loop {
            let shown = self.snapshot().await?;
            let mut missing = self.traffic.waiting.missing(&shown, now_ms());
            missing.extend(self.traffic.transactions.missing(&shown));
            match missing.is_empty() {
                true if is_settled => break shown,
                // What comes a second time comes soon.
                true => {
                    is_settled = true;
                    tokio::time::sleep(Duration::from_millis(1500)).await;
                }
                false => {
                    ensure!(Instant::now() < deadline, "has not come: {missing:?}");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        };
        self.traffic.check(&shown)?;
        self.counts.repeated += self.traffic.waiting.check(&shown, &self.phases)?;
        self.counts.repeated += self.traffic.transactions.check(&shown, &self.phases)?;
        self.counts.messages = self.traffic.count();
        self.counts.waited = self.traffic.waiting.len();
        self.counts.transactions = self.traffic.transactions.len();
        self.answerer.shutdown().await;
        self.cluster.stop_broker()?;
        self.check_offline()
    }
}
