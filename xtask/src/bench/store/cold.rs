//! A backlog that lies on the disk only.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Advice, fadvise, syncfs};

use super::steady::RECORD_BYTES;
use super::{Stage, StoreWorkload};
use crate::bench::frames;
use crate::bench::load::{self, Measure, Plan, Pulls};
use crate::bench::meter::Meter;
use crate::bench::target::request_ok;
use crate::bench::workload::{SEND_TOPIC, Scale};

const TOPIC: &str = "bench_cold";
const GROUP: &str = "bench_cold_consumer";
const BODY_BYTES: usize = 1024;
const GET_TOPIC_CONFIG: u32 = 351;
const CONNECTIONS: usize = 4;
/// The original looks at its last three files of 256 MiB whenever it starts, which brings them into memory.
const BEHIND_BYTES: u64 = 800 << 20;

/// Reads a backlog once, with nothing of it in memory.
pub(crate) struct DrainCold;

impl StoreWorkload for DrainCold {
    fn run(&self, stage: &mut Stage<'_>) -> anyhow::Result<Measure> {
        make_cold(stage)?;
        drain(stage, &stage.profiled())
    }
}

fn backlog_messages(scale: Scale) -> u64 {
    let bytes: u64 = match scale {
        Scale::Quick => 512 << 20,
        Scale::Full => 3 << 30,
    };
    bytes / RECORD_BYTES
}

pub(super) fn drain(stage: &Stage<'_>, meter: &Meter) -> anyhow::Result<Measure> {
    let plan = Plan {
        ramp: Duration::ZERO,
        window: Duration::from_secs(120),
        messages_max: backlog_messages(stage.scale),
    };
    load::run(stage.addr(), &mut Pulls::new(TOPIC, GROUP, CONNECTIONS), &plan, meter)
}

/// Stores the backlog and something behind it, unless that was done.
pub(super) fn make_backlog(stage: &Stage<'_>) -> anyhow::Result<()> {
    let mut of_topic = Vec::new();
    frames::append_request(&mut of_topic, GET_TOPIC_CONFIG, 0, &format!(r#""topic":"{TOPIC}""#));
    if request_ok(stage.addr(), &of_topic).is_ok() {
        return Ok(());
    }
    request_ok(stage.addr(), &frames::create_topic(TOPIC))?;
    stage.fill(TOPIC, BODY_BYTES, backlog_messages(stage.scale))?;
    stage.fill(SEND_TOPIC, BODY_BYTES, BEHIND_BYTES / RECORD_BYTES)
}

/// Starts the server again, with nothing of the backlog in memory.
pub(super) fn make_cold(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    make_backlog(stage)?;
    stage.server.restart(forget)?;
    stage.warm_up()
}

/// Nothing below this folder is in the page cache any more.
pub(super) fn forget(dir: &Path) -> anyhow::Result<()> {
    syncfs(File::open(dir)?)?;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        match path.is_dir() {
            true => forget(&path)?,
            false => fadvise(File::open(&path)?, 0, None, Advice::DontNeed)?,
        }
    }
    Ok(())
}
