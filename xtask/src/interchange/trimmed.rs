//! A store whose oldest files are gone: what is left and where it begins is the same to both, whoever deletes.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use oxmq_protocol::requests::request;

use super::chain::{Plan, Stop};
use super::snapshot::Snapshot;
use super::traffic::Traffic;
use super::version::Version;
use super::wire::Wire;
use crate::servers::{Cluster, Options, Server};

/// Every file is old, but none goes unless it is asked for.
const BROKER_PROPERTIES: [(&str, &str); 8] = [
    ("mappedFileSizeConsumeQueue", "400"),
    ("maxHashSlotNum", "100"),
    ("maxIndexNum", "200"),
    ("fileReservedTime", "0"),
    ("deleteWhen", "99"),
    ("cleanResourceInterval", "200"),
    ("brokerFastFailureEnable", "false"),
    ("diskMaxUsedSpaceRatio", "95"),
];
const LOG_FILE_BYTES: i64 = 65_536;
/// Of a consume queue.
const ENTRY_BYTES: i64 = 20;
const MESSAGES: usize = 300;
/// The original looks for old files first a minute after its start, also when it was asked before.
const DELETION_TIMEOUT: Duration = Duration::from_secs(180);

pub(super) async fn run(plan: Plan) -> anyhow::Result<String> {
    let oxmq = Server::Oxmq {
        binary: plan.oxmq.clone(),
    };
    let options = Options::new(oxmq.clone(), plan.port, &plan.dir);
    let options = options.broker_property("mappedFileSizeCommitLog", LOG_FILE_BYTES);
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
        let before = Snapshot::read(&wire, &[], false).await.with_context(what)?;
        // An older one has no such request.
        let now = match is_java && !plan.version.is_5() {
            true => before,
            false => delete_old(&wire, before, &plan, &mut deleted)
                .await
                .with_context(what)?,
        };
        shown = Some(now);
        if !is_java {
            let sums = fs::read_dir(cluster.store_dir().join("checksums")).with_context(what)?;
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

/// Everything before the file that is written to goes, and nothing else.
async fn delete_old(wire: &Wire, before: Snapshot, plan: &Plan, deleted: &mut usize) -> anyhow::Result<Snapshot> {
    let count = before.records().count();
    let log_begin = before.last_physical_offset() / LOG_FILE_BYTES * LOG_FILE_BYTES;
    let left = before.trimmed(log_begin);
    wire.request::<request::DeleteExpiredCommitLog>().await?;
    let deadline = Instant::now() + DELETION_TIMEOUT;
    for (topic, queue_id, minimum) in left.minima() {
        let files = plan.dir.join(format!("store/consumequeue/{topic}/{queue_id}"));
        loop {
            let (now, _) = wire.bounds(topic, queue_id).await?;
            if now == minimum && !begins_with_old_files(&files, minimum) {
                break;
            }
            let is_on_its_way = now <= minimum && Instant::now() < deadline;
            ensure!(
                is_on_its_way,
                "queue {queue_id} of {topic} begins at {now} and not at {minimum}, or its files do"
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    *deleted += count - left.records().count();
    let now = Snapshot::read(wire, &[], false).await?;
    now.check_keeps(&left, plan.version)?;
    Ok(now)
}

/// From them the original takes the minimum when it starts, and looks again when it deletes for the first time.
fn begins_with_old_files(dir: &Path, minimum: i64) -> bool {
    let files = fs::read_dir(dir).into_iter().flatten();
    let mut begins: Vec<i64> = files
        .filter_map(|file| file.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    begins.sort_unstable();
    begins.get(1).is_some_and(|second| *second <= minimum * ENTRY_BYTES)
}
