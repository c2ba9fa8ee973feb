//! A store whose oldest files OxMQ has deleted: what is left and where it begins is the same to both.

use anyhow::{Context, ensure};
use oxmq_protocol::requests::request;

use super::chain::{Plan, Stop};
use super::snapshot::Snapshot;
use super::traffic::Traffic;
use super::version::Version;
use super::wire::Wire;
use crate::servers::{Cluster, Options, Server};

/// Every file is old, but none goes unless it is asked for.
const BROKER_PROPERTIES: [(&str, &str); 9] = [
    ("mappedFileSizeCommitLog", "65536"),
    ("mappedFileSizeConsumeQueue", "400"),
    ("maxHashSlotNum", "100"),
    ("maxIndexNum", "200"),
    ("fileReservedTime", "0"),
    ("deleteWhen", "99"),
    ("cleanResourceInterval", "200"),
    ("brokerFastFailureEnable", "false"),
    ("diskMaxUsedSpaceRatio", "95"),
];
const MESSAGES: usize = 300;

pub(super) async fn run(plan: Plan) -> anyhow::Result<String> {
    let oxmq = Server::Oxmq {
        binary: plan.oxmq.clone(),
    };
    let options = Options::new(oxmq.clone(), plan.port, &plan.dir);
    let options = BROKER_PROPERTIES
        .into_iter()
        .fold(options, |options, (key, value)| options.broker_property(key, value));
    let mut cluster = Cluster::start(options)?;
    let wire = || Wire::new(plan.broker_addr());
    let mut traffic = Traffic::new(Version::V4_7_1, plan.seed);
    traffic.prepare(&wire()).await?;
    let mut deleted = 0;
    let mut shown: Option<Snapshot> = None;
    for phase in 0..3 {
        let is_java = phase == 1;
        if phase > 0 {
            cluster.replace_broker(match is_java {
                true => Server::Java(plan.version.name()),
                false => oxmq.clone(),
            });
            cluster.start_broker()?;
        }
        let what = || format!("broker {phase}");
        let wire = wire();
        if let Some(before) = &shown {
            let now = Snapshot::read(&wire, &[], false).await.with_context(what)?;
            now.check_keeps(before, plan.version).with_context(what)?;
        }
        for _ in 0..MESSAGES {
            traffic.send_plain_anywhere(&wire).await?;
        }
        if !is_java {
            wire.request::<request::DeleteExpiredCommitLog>().await?;
            deleted += wait_for_deletion(&traffic, &wire, &shown).await.with_context(what)?;
        }
        shown = Some(Snapshot::read(&wire, &[], false).await.with_context(what)?);
        if !is_java {
            let sums = std::fs::read_dir(cluster.store_dir().join("checksums")).with_context(what)?;
            ensure!(sums.count() > 0, "there are no checksums");
        }
        match plan.stop {
            Stop::Clean => cluster.stop_broker()?,
            Stop::Kill => cluster.kill_broker()?,
        }
    }
    Ok(format!(
        "2 hand-overs of a store with checksums, {deleted} messages deleted"
    ))
}

/// Until the beginning of a queue has moved, and moves no more. How many messages went.
async fn wait_for_deletion(traffic: &Traffic, wire: &Wire, before: &Option<Snapshot>) -> anyhow::Result<i64> {
    let old = before.as_ref().map_or(0, |before| traffic.plain_minimum(before));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(90);
    let mut last = 0;
    loop {
        let now = traffic.plain_minimum(&Snapshot::read(wire, &[], false).await?);
        if now > old && now == last {
            return Ok(now - old);
        }
        ensure!(std::time::Instant::now() < deadline, "nothing is deleted");
        last = now;
        tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    }
}
