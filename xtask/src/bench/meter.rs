//! What the server and the generator use while a workload is measured.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

use super::process::{Memory, cpu_time};

const SAMPLE_INTERVAL: Duration = Duration::from_millis(250);

/// Watches one server; [`Meter::start`] opens a window.
pub(crate) struct Meter {
    pub(crate) server_pid: u32,
    /// Where to put a profile of the server, if one is wanted.
    pub(crate) profile: Option<PathBuf>,
}

/// An open window.
pub(crate) struct Window {
    server_pid: u32,
    started: Instant,
    server_cpu: Duration,
    generator_cpu: Duration,
    memory: Memory,
    next_sample: Instant,
    perf: Option<Child>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) elapsed: Duration,
    pub(crate) server_cpu: Duration,
    pub(crate) generator_cpu: Duration,
    /// The highest seen.
    pub(crate) memory: Memory,
}

impl Meter {
    pub(crate) fn start(&self) -> anyhow::Result<Window> {
        let perf = self
            .profile
            .as_ref()
            .map(|path| start_perf(self.server_pid, path))
            .transpose()?;
        let now = Instant::now();
        Ok(Window {
            server_pid: self.server_pid,
            started: now,
            server_cpu: cpu_time(self.server_pid)?,
            generator_cpu: cpu_time(std::process::id())?,
            memory: Memory::of(self.server_pid)?,
            next_sample: now + SAMPLE_INTERVAL,
            perf,
        })
    }
}

impl Window {
    /// To be called now and then; looks at memory a few times a second.
    pub(crate) fn tick(&mut self, now: Instant) -> anyhow::Result<()> {
        if now >= self.next_sample {
            self.memory = self.memory.max(Memory::of(self.server_pid)?);
            self.next_sample = now + SAMPLE_INTERVAL;
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> anyhow::Result<Usage> {
        let usage = Usage {
            elapsed: self.started.elapsed(),
            server_cpu: cpu_time(self.server_pid)?.saturating_sub(self.server_cpu),
            generator_cpu: cpu_time(std::process::id())?.saturating_sub(self.generator_cpu),
            memory: self.memory.max(Memory::of(self.server_pid)?),
        };
        if let Some(mut perf) = self.perf {
            kill_process(Pid::from_child(&perf), Signal::INT)?;
            perf.wait()?;
        }
        Ok(usage)
    }
}

fn start_perf(pid: u32, path: &PathBuf) -> anyhow::Result<Child> {
    Command::new("perf")
        .args(["record", "-q", "-F", "997", "-g", "-p", &pid.to_string(), "-o"])
        .arg(path)
        .stdout(Stdio::null())
        .spawn()
        .context("cannot start perf")
}
