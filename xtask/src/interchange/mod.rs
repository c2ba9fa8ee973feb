//! `cargo xtask interchange`: one store folder, used in turn by a Java broker and by OxMQ.
//!
//! A chain goes from the original to OxMQ, back, and to OxMQ again. Each broker does traffic of every kind that the version
//! of the original has, and is stopped in order or killed; the next one has to show the same, byte by byte, and to finish
//! what was under way.
//!
//! - `chain`: the hand-overs and what is checked after each
//! - `traffic`, `waiting`, `transactions`, `pops`: what is done, and what was promised
//! - `snapshot`, `wire`: what a broker shows

mod chain;
mod pops;
mod snapshot;
mod traffic;
mod transactions;
mod version;
mod waiting;
mod wire;

use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use anyhow::{Context, bail, ensure};

use self::chain::{Counts, Plan, Stop};
use self::version::Version;
use crate::interop::oxmq_binary;
use crate::servers::{java_classpath, target_dir};

const USAGE: &str = "\
usage: cargo xtask interchange [options]
  --seeds N       so many random stores for each version and kind of stop (1)
  --seed N        the first of them (1)
  --version V     only 4.7.1, 4.9.7 or 5.5.0
  --stop KIND     only clean or kill
  --jobs N        chains at the same time (2)
  --port N        the first of the ports (15500)
  --debug         OxMQ as it is built for tests";

const FIRST_PORT: u16 = 15_500;
/// Ports of one chain.
const PORTS: u16 = 20;

struct Arguments {
    seeds: u64,
    seed: u64,
    versions: Vec<Version>,
    stops: Vec<Stop>,
    jobs: u16,
    port: u16,
    debug: bool,
}

pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    let arguments = Arguments::parse(args)?;
    let oxmq = oxmq_binary(arguments.debug)?;
    for version in &arguments.versions {
        java_classpath(version.name())?;
    }
    let mut chains = Vec::new();
    for seed in arguments.seed..arguments.seed + arguments.seeds {
        for version in &arguments.versions {
            chains.extend(arguments.stops.iter().map(|stop| (*version, *stop, seed)));
        }
    }
    chains.reverse();
    let count = chains.len();
    let (chains, failed) = (Mutex::new(chains), Mutex::new(0));
    let started = Instant::now();
    thread::scope(|scope| {
        for job in 0..arguments.jobs {
            let (chains, failed, oxmq) = (&chains, &failed, &oxmq);
            let port = arguments.port + PORTS * job;
            scope.spawn(move || {
                while let Some((version, stop, seed)) = next(chains) {
                    let name = format!("{}, {stop:?}, seed {seed}", version.name());
                    let plan = Plan {
                        version,
                        stop,
                        seed,
                        port,
                        dir: target_dir().join(format!("interchange/{job}")),
                        oxmq: PathBuf::clone(oxmq),
                    };
                    let began = Instant::now();
                    let result = run_chain(plan);
                    let seconds = began.elapsed().as_secs();
                    match result {
                        Ok(counts) => println!("{name}: {} ({seconds} s)", counts.text()),
                        Err(error) => {
                            println!("{name}: FAILED after {seconds} s: {error:#}");
                            *failed.lock().expect("nobody panics with it") += 1;
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("nobody panics with it");
    ensure!(failed == 0, "{failed} of {count} chains failed");
    println!("{count} chains, {} s", started.elapsed().as_secs());
    Ok(())
}

fn next<T>(chains: &Mutex<Vec<T>>) -> Option<T> {
    chains.lock().expect("nobody panics with it").pop()
}

fn run_chain(plan: Plan) -> anyhow::Result<Counts> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(chain::run(plan))
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
    fn parse(args: &[String]) -> anyhow::Result<Arguments> {
        let mut arguments = Arguments {
            seeds: 1,
            seed: 1,
            versions: Version::ALL.to_vec(),
            stops: vec![Stop::Clean, Stop::Kill],
            jobs: 2,
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
                "--jobs" => arguments.jobs = value()?.parse()?,
                "--port" => arguments.port = value()?.parse()?,
                "--debug" => arguments.debug = true,
                _ => bail!("unknown option {arg}\n{USAGE}"),
            }
        }
        ensure!(arguments.jobs > 0 && arguments.seeds > 0, "0 shows nothing");
        Ok(arguments)
    }
}
