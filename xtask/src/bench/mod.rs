//! `cargo xtask bench`: OxMQ and the original under the same load, in turn, on the same machine.
//!
//! The generator knows nothing of OxMQ's own code: frames are those of a Java client, answers are scanned, CPU and
//! memory come from /proc. A third server, the floor, shows what the machine allows.
//!
//! - `frames`, `response`, `connection`: requests, answers, sockets
//! - `load`, `end_to_end`: the closed and the open loop; `meter`, `process`: what a server uses meanwhile
//! - `features`: workloads on parts of the message model; `store`: on what the store does beside
//! - `scale`: a command of its own, for many queues
//! - `workload`: what is measured; `target`: what it is measured on; `report`: how it is shown

mod connection;
mod end_to_end;
mod features;
mod floor;
mod frames;
mod load;
mod meter;
mod process;
mod report;
mod response;
pub(crate) mod scale;
mod store;
mod target;
mod workload;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::fs::syncfs;

use self::meter::Meter;
use self::process::Memory;
use self::report::Report;
use self::store::Stage;
use self::target::{Running, Target};
use self::workload::{Kind, Scale, Setup, WORKLOADS, Workload};
use crate::interop::oxmq_binary;
use crate::servers::target_dir;

const USAGE: &str = "\
usage: cargo xtask bench [options]
  --server oxmq|java|floor|all  what to measure (all)
  --workload NAME[,NAME…]       only workloads whose name contains one of these
  --rounds N                    every server in turn, N times (3)
  --seconds N                   measured time of each workload (10)
  --warm-up N                   seconds of load before the first measurement of a Java broker (30)
  --backlog N                   messages to drain (1500000)
  --quick                       one round, 2 seconds, short warm-up, small backlog
  --binary FILE                 the oxmq to measure (default: built with the release profile)
  --set KEY=VALUE               a setting of the brokers, besides those that a workload needs; may come several times
  --port N                      the servers' first port (22000)
  --dir FOLDER                  where the servers keep their data (target/bench)
  --perf                        profile every measured window with perf, below target/bench-perf
  --write                       put the result into docs/benchmarks.md";

/// A native program needs no long warm-up, only its files and connections.
const NATIVE_WARM_UP_MAX: Duration = Duration::from_secs(3);
/// Idle memory is read this long after the start.
const IDLE: Duration = Duration::from_secs(2);

struct Options {
    targets: Vec<Target>,
    workloads: Vec<&'static Workload>,
    rounds: u32,
    window: Duration,
    warm_up: Duration,
    backlog: u64,
    scale: Scale,
    binary: Option<PathBuf>,
    settings: Vec<(String, String)>,
    dir: PathBuf,
    port: u16,
    perf: bool,
    write: bool,
}

pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    // The generator must stay cheap next to what it measures.
    if cfg!(debug_assertions) {
        return run_optimized("bench", args);
    }
    if let [command, port, dir, rest @ ..] = args
        && command == "floor-server"
    {
        return floor::serve(port.parse()?, Path::new(dir), rest.iter().any(|flag| flag == "--sync"));
    }
    let options = Options::parse(args)?;
    let oxmq = match &options.binary {
        Some(binary) => binary.clone(),
        None if options.targets.contains(&Target::Oxmq) => oxmq_binary(false)?,
        None => PathBuf::new(),
    };
    let mut report = Report::new(args);
    for round in 1..=options.rounds {
        for &target in &options.targets {
            for setup in Setup::ALL {
                let workloads: Vec<_> = options
                    .workloads
                    .iter()
                    .copied()
                    .filter(|workload| workload.setup == setup && setup.exists_on(target))
                    .collect();
                if !workloads.is_empty() {
                    let context = || format!("round {round}, {}", target.title());
                    measure(&options, &oxmq, target, setup, &workloads, &mut report).with_context(context)?;
                }
            }
        }
    }
    println!("{report}");
    if options.write {
        report.write()?;
    }
    Ok(())
}

/// Starts one server on an empty folder, runs these workloads against it, stops it and removes the folder.
fn measure(
    options: &Options,
    oxmq: &Path,
    target: Target,
    setup: Setup,
    workloads: &[&'static Workload],
    report: &mut Report,
) -> anyhow::Result<()> {
    let dir = options.dir.join("server");
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    let mut server = Running::start(target, oxmq, &dir, options.port, setup, &options.settings)?;
    sleep(IDLE);
    if setup == Setup::Async {
        report.add_start(target, server.serving_after, Memory::of(server.pid)?);
    }
    let mut meter = Meter {
        server_pid: server.pid,
        profile: None,
    };
    for topic in workload::TOPICS {
        target::request_ok(&server.addr, &frames::create_topic(topic)).context("cannot create a topic")?;
    }
    let warm_up = match target {
        Target::Java => options.warm_up,
        Target::Oxmq | Target::Floor => options.warm_up.min(NATIVE_WARM_UP_MAX),
    };
    workload::warm_up(&server.addr, warm_up, &meter)?;
    if target != Target::Floor && workloads.iter().any(|workload| workload.is_drain()) {
        workload::fill_backlog(&server.addr, options.backlog, &meter)?;
    }
    for workload in workloads {
        if target == Target::Floor && !workload.is_send() {
            continue;
        }
        meter.profile = None;
        meter.server_pid = server.pid;
        workload
            .prepare(&server.addr, options.scale, &meter)
            .with_context(|| workload.name.to_owned())?;
        // Nobody pays for what others wrote.
        syncfs(File::open(&dir)?)?;
        if options.perf {
            meter.profile = Some(profile_path(target, workload)?);
        }
        let mut measure = match workload.kind {
            Kind::Store(kind) => kind.run(&mut Stage {
                server: &mut server,
                setup,
                scale: options.scale,
                window: options.window,
                warm_up,
                profile: meter.profile.clone(),
            }),
            _ => workload.run(&server.addr, options.scale, options.window, &meter),
        }
        .with_context(|| workload.name.to_owned())?;
        if let Some((in_flight, record_bytes)) = workload.is_bound_by_flushes() {
            measure.limit = Some(store::disk::flushed_messages_per_second(&dir, in_flight, record_bytes)?);
        }
        ensure!(
            measure.messages > 0,
            "{}: {}",
            workload.name,
            measure.first_error.unwrap_or_default()
        );
        eprintln!("{}", report.add(target, workload, measure));
    }
    drop(server);
    fs::remove_dir_all(&dir)?;
    Ok(())
}

fn profile_path(target: Target, workload: &Workload) -> anyhow::Result<PathBuf> {
    let dir = target_dir().join("bench-perf");
    fs::create_dir_all(&dir)?;
    Ok(dir.join(format!("{target:?}-{}.data", workload.name).to_lowercase()))
}

impl Options {
    fn parse(args: &[String]) -> anyhow::Result<Self> {
        let mut options = Self {
            targets: vec![Target::Java, Target::Oxmq, Target::Floor],
            workloads: WORKLOADS.iter().collect(),
            rounds: 3,
            window: Duration::from_secs(10),
            warm_up: Duration::from_secs(30),
            backlog: 1_500_000,
            scale: Scale::Full,
            binary: None,
            settings: Vec::new(),
            dir: target_dir().join("bench"),
            port: target::PORT,
            perf: false,
            write: false,
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().with_context(|| format!("{arg} needs a value\n{USAGE}"));
            match arg.as_str() {
                "--server" => options.targets = targets(value()?)?,
                "--workload" => {
                    let part = value()?;
                    let is_wanted = |name: &str| part.split(',').any(|part| name.contains(part));
                    options.workloads.retain(|workload| is_wanted(workload.name));
                    let names: Vec<_> = WORKLOADS.iter().map(|workload| workload.name).collect();
                    ensure!(
                        !options.workloads.is_empty(),
                        "no workload is named {part}, but: {}",
                        names.join(" ")
                    );
                }
                "--rounds" => options.rounds = value()?.parse()?,
                "--seconds" => options.window = Duration::from_secs(value()?.parse()?),
                "--warm-up" => options.warm_up = Duration::from_secs(value()?.parse()?),
                "--backlog" => options.backlog = value()?.parse()?,
                "--quick" => {
                    options.rounds = 1;
                    options.window = Duration::from_secs(2);
                    options.warm_up = Duration::from_secs(5);
                    options.backlog = 200_000;
                    options.scale = Scale::Quick;
                }
                "--binary" => options.binary = Some(fs::canonicalize(value()?)?),
                "--set" => {
                    let (key, setting) = value()?.split_once('=').context("--set needs KEY=VALUE")?;
                    options.settings.push((key.to_owned(), setting.to_owned()));
                }
                "--port" => options.port = value()?.parse()?,
                "--dir" => options.dir = PathBuf::from(value()?),
                "--perf" => options.perf = true,
                "--write" => options.write = true,
                _ => bail!("unknown option {arg}\n{USAGE}"),
            }
        }
        Ok(options)
    }
}

fn targets(name: &str) -> anyhow::Result<Vec<Target>> {
    Ok(match name {
        "java" => vec![Target::Java],
        "oxmq" => vec![Target::Oxmq],
        "floor" => vec![Target::Floor],
        "all" => vec![Target::Java, Target::Oxmq, Target::Floor],
        _ => bail!("there is no server {name}\n{USAGE}"),
    })
}

fn run_optimized(command: &str, args: &[String]) -> anyhow::Result<()> {
    let status = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--release", "--package", "xtask", "--", command])
        .args(args)
        .status()?;
    std::process::exit(status.code().unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> anyhow::Result<Options> {
        Options::parse(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn options_select_servers_and_workloads() {
        let options = parse(&["--server", "floor", "--workload", "batch", "--rounds", "2"]).unwrap();
        assert_eq!(options.targets, [Target::Floor]);
        assert_eq!(options.workloads.len(), 2);
        assert_eq!(options.rounds, 2);
    }

    #[test]
    fn wrong_options_are_refused() {
        for args in [
            &["--server", "x"][..],
            &["--workload", "nothing"],
            &["--rounds"],
            &["--fast"],
        ] {
            assert!(parse(args).is_err());
        }
    }
}
