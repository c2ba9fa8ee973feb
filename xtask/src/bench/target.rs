//! The servers that are compared, each started afresh for a round.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::connection::call;
use super::frames::{OPAQUE_BASE, SendTemplate};
use super::response::Response;
use super::workload::Setup;
use crate::servers::{Cluster, Options, Server};

pub(crate) const JAVA_VERSION: &str = "5.5.0";
/// The name server listens here, the broker a little above.
pub(crate) const PORT: u16 = 22_000;
const START_TIMEOUT: Duration = Duration::from_secs(60);
pub(super) const JVM_FLAGS: [&str; 4] = ["-Xms4g", "-Xmx4g", "-XX:+UseG1GC", "-XX:MaxDirectMemorySize=8g"];
/// Created by the broker itself when the first message comes.
const FIRST_TOPIC: &str = "bench_first";

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Target {
    Java,
    Oxmq,
    Floor,
}

impl Target {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Java => "Java 5.5.0",
            Self::Oxmq => "OxMQ",
            Self::Floor => "floor",
        }
    }
}

/// A server that accepts messages. Dropping it kills it; its folder stays.
pub(crate) struct Running {
    pub(crate) addr: String,
    pub(crate) pid: u32,
    /// From the start of the process to the first message accepted; not taken of the floor server.
    pub(crate) serving_after: Option<Duration>,
    processes: Processes,
}

enum Processes {
    Cluster(Box<Cluster>),
    Floor(Child),
}

impl Drop for Processes {
    fn drop(&mut self) {
        if let Self::Floor(child) = self {
            // It may have ended by itself, which is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Running {
    /// `settings` are the brokers', besides those of the setup.
    pub(crate) fn start(
        target: Target,
        oxmq: &Path,
        dir: &Path,
        port: u16,
        setup: Setup,
        settings: &[(String, String)],
    ) -> anyhow::Result<Self> {
        let server = match target {
            Target::Java => Server::Java(JAVA_VERSION),
            Target::Oxmq => Server::Oxmq {
                binary: oxmq.to_owned(),
            },
            Target::Floor => return start_floor(dir, port, setup),
        };
        let mut options = Options::new(server, port, dir);
        options.jvm_flags = JVM_FLAGS.map(String::from).to_vec();
        for (key, value) in setup.broker_properties() {
            options = options.broker_property(key, value);
        }
        options.broker_properties.extend_from_slice(settings);
        // Started twice: the first start brings the program into the page cache, the second one is timed.
        let mut cluster = Cluster::start(options)?;
        cluster.kill_broker()?;
        fs::remove_dir_all(cluster.store_dir())?;
        let serving_after = start_timed(&mut cluster)?;
        Ok(Self {
            addr: cluster.broker_addr(),
            pid: cluster.broker_pid()?,
            serving_after: Some(serving_after),
            processes: Processes::Cluster(Box::new(cluster)),
        })
    }

    /// Stops the broker as an operator does, and starts it again when this has been done to its files.
    pub(crate) fn restart(&mut self, meanwhile: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let cluster = self.cluster()?;
        cluster.stop_broker()?;
        meanwhile(&cluster.store_dir())?;
        cluster.start_broker()?;
        self.pid = cluster.broker_pid()?;
        Ok(())
    }

    /// Kills the broker and starts it again. Returns the time from the start to the first message that it stored.
    pub(crate) fn kill_and_start(&mut self) -> anyhow::Result<Duration> {
        let cluster = self.cluster()?;
        cluster.kill_broker()?;
        let serving_after = start_timed(cluster)?;
        self.pid = cluster.broker_pid()?;
        Ok(serving_after)
    }

    fn cluster(&mut self) -> anyhow::Result<&mut Cluster> {
        match &mut self.processes {
            Processes::Cluster(cluster) => Ok(cluster),
            Processes::Floor(_) => bail!("the floor server has no files to go on with"),
        }
    }
}

fn start_timed(cluster: &mut Cluster) -> anyhow::Result<Duration> {
    let addr = cluster.broker_addr();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let prober = scope.spawn(|| first_success(&addr, &stop));
        let started = Instant::now();
        let outcome = cluster.start_broker();
        stop.store(outcome.is_err(), Ordering::Relaxed);
        let served = prober.join().expect("the prober does not panic");
        outcome?;
        Ok(served?.saturating_duration_since(started))
    })
}

/// When a send succeeded for the first time.
fn first_success(addr: &str, stop: &AtomicBool) -> anyhow::Result<Instant> {
    let mut request = Vec::new();
    SendTemplate::single(FIRST_TOPIC, 128).append_to(&mut request, OPAQUE_BASE, 0, 0);
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        match request_ok(addr, &request) {
            Ok(()) => return Ok(Instant::now()),
            Err(error) if Instant::now() > deadline || stop.load(Ordering::Relaxed) => return Err(error),
            Err(_) => sleep(Duration::from_millis(1)),
        }
    }
}

/// Sends a request on its own and insists on success.
pub(crate) fn request_ok(addr: &str, request: &[u8]) -> anyhow::Result<()> {
    let frame = call(addr, request)?;
    let (response, _) = Response::parse(&frame)?.context("the answer is cut")?;
    response.success().map_err(anyhow::Error::msg)
}

fn start_floor(dir: &Path, port: u16, setup: Setup) -> anyhow::Result<Running> {
    fs::create_dir_all(dir)?;
    let program: PathBuf = std::env::current_exe()?;
    let mut command = Command::new(program);
    command.args(["bench", "floor-server", &port.to_string()]).arg(dir);
    if setup == Setup::Sync {
        command.arg("--sync");
    }
    let child = command.spawn().context("cannot start the floor server")?;
    let running = Running {
        addr: format!("127.0.0.1:{port}"),
        pid: child.id(),
        serving_after: None,
        processes: Processes::Floor(child),
    };
    first_success(&running.addr, &AtomicBool::new(false)).context("the floor server does not serve")?;
    Ok(running)
}
