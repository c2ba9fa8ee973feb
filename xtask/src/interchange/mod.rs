//! `cargo xtask interchange`: one store folder, used in turn by a Java broker and by OxMQ.
//!
//! A chain goes from the original to OxMQ, back, and to OxMQ again. Each broker does traffic of every kind that the version
//! of the original has, and is stopped in order or killed; the next one has to show the same, byte by byte, and to finish
//! what was under way.
//!
//! - `chain`: the hand-overs and what is checked after each
//! - `traffic`, `waiting`, `transactions`, `pops`: what is done, and what was promised
//! - `snapshot`, `wire`: what a broker shows
//! - `trimmed`: stores of which the oldest files are gone
//! - `refused`: stores that are not taken over

mod chain;
mod pops;
mod refused;
mod snapshot;
mod traffic;
mod transactions;
mod trimmed;
mod version;
mod waiting;
mod wire;

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Instant;

use anyhow::{Context, bail, ensure};

use self::chain::{Counts, Plan, Stop};
use self::version::Version;
use crate::interop::{outlive_a_restart, oxmq_binary};
use crate::servers::{Cluster, Options, Server, java_classpath, target_dir};

const USAGE: &str = "\
usage: cargo xtask interchange [options]
  --seeds N       so many random stores for each version and kind of stop (1)
  --seed N        the first of them (1)
  --version V     only 4.7.1, 4.9.7 or 5.5.0
  --stop KIND     only clean or kill
  --jobs N        stores at the same time (2)
  --port N        the first of the ports (15500)
  --debug         OxMQ as it is built for tests";

const FIRST_PORT: u16 = 15_500;
/// Ports of one chain.
const PORTS: u16 = 20;
/// When a kill hits the original is chance, and what it then loses is its own. What fails in every try is broken.
const TRIES: u32 = 3;

struct Arguments {
    seeds: u64,
    seed: u64,
    versions: Vec<Version>,
    stops: Vec<Stop>,
    at_once: u16,
    port: u16,
    debug: bool,
}

/// What is to be done with one store.
#[derive(Debug, Clone, Copy)]
enum Work {
    Chain,
    Trimmed,
    Refused,
    /// A stock client that goes on through the hand-over.
    Client,
}

struct Job {
    work: Work,
    version: Version,
    stop: Stop,
    seed: u64,
}

impl Job {
    fn name(&self) -> String {
        let Job {
            work,
            version,
            stop,
            seed,
        } = self;
        format!("{work:?} {} {stop:?} {seed}", version.name())
    }

    fn run(&self, plan: Plan) -> anyhow::Result<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        match self.work {
            Work::Chain => Ok(runtime.block_on(chain::run(plan))?.text()),
            Work::Trimmed => runtime.block_on(trimmed::run(plan)),
            Work::Refused => runtime.block_on(refused::run(plan)),
            Work::Client => keep_a_client(&plan),
        }
    }

    /// Does it and tells how it went.
    fn succeeds(&self, plan: &Plan) -> bool {
        let began = Instant::now();
        let result = self.run(plan.clone());
        let (name, seconds) = (self.name(), began.elapsed().as_secs());
        match &result {
            Ok(text) => println!("{name}: {text} ({seconds} s)"),
            Err(error) => {
                let kept = keep(plan, &name);
                println!("{name}: went wrong after {seconds} s, data in {kept}: {error:#}");
            }
        }
        result.is_ok()
    }
}

pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    let arguments = Arguments::parse(args)?;
    let oxmq = oxmq_binary(arguments.debug)?;
    for version in &arguments.versions {
        java_classpath(version.name())?;
    }
    let mut jobs = arguments.jobs();
    jobs.reverse();
    let count = jobs.len();
    let (jobs, failed) = (Mutex::new(jobs), Mutex::new(Vec::new()));
    let started = Instant::now();
    thread::scope(|scope| {
        for at in 0..arguments.at_once {
            let (jobs, failed, oxmq) = (&jobs, &failed, &oxmq);
            let port = arguments.port + PORTS * at;
            scope.spawn(move || {
                // Not in the loop's head, which would hold the lock while the job is done.
                let next = || lock(jobs).pop();
                while let Some(job) = next() {
                    let plan = Plan {
                        version: job.version,
                        stop: job.stop,
                        seed: job.seed,
                        port,
                        dir: folder(at),
                        oxmq: PathBuf::clone(oxmq),
                    };
                    if !(1..=TRIES).any(|_| job.succeeds(&plan)) {
                        lock(failed).push(job.name());
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("nobody panics with it");
    ensure!(
        failed.is_empty(),
        "FAILED: {} of {count}, in every try: {failed:?}",
        failed.len()
    );
    for folder in (0..arguments.at_once).map(folder).filter(|folder| folder.exists()) {
        fs::remove_dir_all(folder)?;
    }
    println!("{count} stores, {} s", started.elapsed().as_secs());
    Ok(())
}

/// Of the stores that are handed over one after the other.
fn folder(at: u16) -> PathBuf {
    target_dir().join(format!("interchange/{at}"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics with it")
}

/// Moves what a failed job has left out of the way of the next one.
fn keep(plan: &Plan, name: &str) -> String {
    let kept = plan.dir.with_file_name(format!("failed-{}", name.replace(' ', "-")));
    // What is not moved is where it was.
    let _ = fs::remove_dir_all(&kept);
    match fs::rename(&plan.dir, &kept) {
        Ok(()) => kept.display().to_string(),
        Err(_) => plan.dir.display().to_string(),
    }
}

/// A stock client sends and consumes while the original gives the store to OxMQ, and the other way round.
fn keep_a_client(plan: &Plan) -> anyhow::Result<String> {
    let oxmq = Server::Oxmq {
        binary: plan.oxmq.clone(),
    };
    let java = Server::Java(plan.version.name());
    for (from, to) in [(&java, &oxmq), (&oxmq, &java)] {
        let mut options = Options::new(oxmq.clone(), plan.port, &plan.dir);
        options.broker = from.clone();
        let mut cluster = Cluster::start(options.broker_property("brokerFastFailureEnable", false))?;
        cluster.replace_broker(to.clone());
        outlive_a_restart(&mut cluster)?;
    }
    Ok("a stock client has sent and consumed through a hand-over in each direction".to_owned())
}

impl Counts {
    fn text(&self) -> String {
        let pops = match self.pops {
            0 => String::new(),
            count => format!(", {count} by POP"),
        };
        let repeated = match self.repeated {
            0 => String::new(),
            count => format!("; {count} came again behind a kill of the original"),
        };
        format!(
            "{} hand-overs, {} messages, {} that waited, {} transactions{pops}; {} stored records the same, {} looked \
             up{repeated}",
            self.hand_overs, self.messages, self.waited, self.transactions, self.records, self.lookups
        )
    }
}

impl Arguments {
    /// The chains of all seeds, and what is done but once.
    fn jobs(&self) -> Vec<Job> {
        let mut jobs = Vec::new();
        let mut add = |work, version, stop, seed| {
            if self.versions.contains(&version) && self.stops.contains(&stop) {
                jobs.push(Job {
                    work,
                    version,
                    stop,
                    seed,
                });
            }
        };
        for seed in self.seed..self.seed + self.seeds {
            for version in Version::ALL.into_iter().rev() {
                add(Work::Chain, version, Stop::Kill, seed);
                add(Work::Chain, version, Stop::Clean, seed);
            }
        }
        add(Work::Trimmed, Version::V4_7_1, Stop::Clean, self.seed);
        add(Work::Trimmed, Version::V5_5_0, Stop::Kill, self.seed);
        add(Work::Refused, Version::V5_5_0, Stop::Clean, self.seed);
        add(Work::Client, Version::V5_5_0, Stop::Clean, self.seed);
        jobs
    }

    fn parse(args: &[String]) -> anyhow::Result<Arguments> {
        let mut arguments = Arguments {
            seeds: 1,
            seed: 1,
            versions: Version::ALL.to_vec(),
            stops: vec![Stop::Clean, Stop::Kill],
            at_once: 2,
            port: FIRST_PORT,
            debug: false,
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().with_context(|| format!("{arg} needs a value\n{USAGE}"));
            match arg.as_str() {
                "--seeds" => arguments.seeds = value()?.parse()?,
                "--seed" => arguments.seed = value()?.parse()?,
                "--version" => {
                    let name = value()?;
                    arguments.versions.retain(|version| version.name() == name);
                    ensure!(!arguments.versions.is_empty(), "no version is called {name}\n{USAGE}");
                }
                "--stop" => {
                    arguments.stops = match value()?.as_str() {
                        "clean" => vec![Stop::Clean],
                        "kill" => vec![Stop::Kill],
                        other => bail!("--stop {other}?\n{USAGE}"),
                    }
                }
                "--jobs" => arguments.at_once = value()?.parse()?,
                "--port" => arguments.port = value()?.parse()?,
                "--debug" => arguments.debug = true,
                _ => bail!("unknown option {arg}\n{USAGE}"),
            }
        }
        ensure!(arguments.at_once > 0 && arguments.seeds > 0, "0 shows nothing");
        Ok(arguments)
    }
}
