//! Workloads on the store: what holds up a send, what a flush costs, how soon a killed broker serves again.
//!
//! - `steady`: sends at a fixed rate, while the store does something else or nothing
//! - `cold`: a backlog that is in no memory, drained alone or beside sends
//! - `recovery`: from `kill -9` to the first message
//! - `disk`: what the disk itself allows; `pauses`: when the machine as a whole stood still

pub(super) mod cold;
pub(super) mod disk;
mod pauses;
pub(super) mod recovery;
pub(super) mod steady;

use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use super::connection::call;
use super::frames::{self, OPAQUE_BASE, SendTemplate};
use super::load::{self, Measure};
use super::meter::Meter;
use super::response::Response;
use super::target::Running;
use super::workload::{self, Scale, Setup};

/// What a workload on the store has: the server itself, which it may stop, and the files.
pub(crate) struct Stage<'a> {
    pub(crate) server: &'a mut Running,
    pub(crate) setup: Setup,
    pub(crate) scale: Scale,
    pub(crate) window: Duration,
    /// Load that a server needs after a start, before it is measured.
    pub(crate) warm_up: Duration,
    pub(crate) profile: Option<std::path::PathBuf>,
}

pub(crate) trait StoreWorkload: Sync {
    fn run(&self, stage: &mut Stage<'_>) -> anyhow::Result<Measure>;
}

impl Stage<'_> {
    pub(crate) fn addr(&self) -> &str {
        &self.server.addr
    }

    fn meter(&self) -> Meter {
        Meter {
            server_pid: self.server.pid,
            profile: None,
        }
    }

    fn profiled(&self) -> Meter {
        Meter {
            profile: self.profile.clone(),
            ..self.meter()
        }
    }

    /// Stores so many messages in batches.
    fn fill(&self, topic: &str, body_bytes: usize, messages: u64) -> anyhow::Result<()> {
        let batch = (FILL_BATCH_BYTES / body_bytes).clamp(1, 32) as u32;
        let template = SendTemplate::batch(topic, body_bytes, batch);
        load::fill(self.addr(), template, messages, &self.meter())
    }

    /// Load until a virtual machine has compiled what it is going to need.
    fn warm_up(&self) -> anyhow::Result<()> {
        workload::warm_up(self.addr(), self.warm_up, &self.meter())?;
        Ok(())
    }

    /// Bytes of the commit log that hold records.
    fn log_end(&self) -> anyhow::Result<u64> {
        let mut request = Vec::new();
        frames::append_request(&mut request, 28, OPAQUE_BASE, "");
        let frame = call(self.addr(), &request)?;
        let (response, _) = Response::parse(&frame)?.context("the answer is cut")?;
        let info: Value = serde_json::from_slice(response.body)?;
        let end = info["table"]["commitLogMaxOffset"].as_str();
        Ok(end.context("no commitLogMaxOffset")?.parse()?)
    }
}

const FILL_BATCH_BYTES: usize = 64 << 10;
