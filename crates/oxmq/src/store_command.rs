//! `oxmq store check|repair|dump`: the folder of a broker that is not running.

mod dump;
mod text;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use oxmq_broker::BrokerConfig;
use oxmq_protocol::json;
use oxmq_store::disk::RealDisk;
use oxmq_store::offline::{OfflineStore, Progress, Survey};

use crate::settings_file;

/// Something is wrong with the store.
const PROBLEMS: u8 = 1;
/// The store could not be read, or is in use.
const UNREADABLE: u8 = 2;
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

const ENDS_WITH: &str =
    "Ends with 0 when all is well, 1 when something is wrong with the store, 2 when it cannot be read.";

pub(crate) fn command(name: &'static str) -> Command {
    let json = || flag("json", "Print one JSON document instead of text");
    Command::new(name)
        .about("Check, repair or print the store of a broker that is not running, OxMQ's or RocketMQ's")
        .after_help(ENDS_WITH)
        .subcommand_required(true)
        .subcommand(
            folder(Command::new("check").about("Read everything and say what is there and what is wrong"))
                .arg(json())
                .after_help(format!(
                    "Examples:\n  oxmq store check /data/rocketmq/store\n  oxmq store check -c broker.conf --json\n\n\
                     {ENDS_WITH}"
                )),
        )
        .subcommand(
            folder(Command::new("repair").about("Put right what is wrong; without --yes only say how"))
                .after_help(format!(
                    "Examples:\n  oxmq store repair -c broker.conf\n  oxmq store repair -c broker.conf --yes\n\n{ENDS_WITH}"
                ))
                .arg(json())
                .arg(flag("yes", "Do it. What is replaced goes to a folder below DIR"))
                .arg(
                    Arg::new("aside")
                        .long("aside")
                        .value_name("FOLDER")
                        .value_parser(value_parser!(PathBuf))
                        .help("Folder on the same file system for what is replaced (default: DIR/repaired-<time>)"),
                ),
        )
        .subcommand(dump::arguments(folder(
            Command::new("dump").about("Print records of the commit log"),
        )))
}

fn folder(command: Command) -> Command {
    command
        .arg(
            Arg::new("dir")
                .value_name("DIR")
                .required_unless_present("configFile")
                .value_parser(value_parser!(PathBuf))
                .help("storePathRootDir of the broker"),
        )
        .arg(
            Arg::new("configFile")
                .short('c')
                .long("configFile")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Properties file of the broker: needed where the commit log, index sizes or delay levels differ from the defaults"),
        )
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

pub(crate) fn run(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let (name, matches) = matches.subcommand().context("a subcommand is required")?;
    let done = match name {
        "check" => check(matches),
        "repair" => repair(matches),
        _ => dump::run(matches),
    };
    done.or_else(|error| {
        // Whoever reads the output may have enough.
        let is_closed = error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
        if is_closed {
            return Ok(ExitCode::SUCCESS);
        }
        eprintln!("oxmq store {name}: {error:#}");
        Ok(ExitCode::from(UNREADABLE))
    })
}

fn open(matches: &ArgMatches) -> anyhow::Result<OfflineStore> {
    let mut config = BrokerConfig::default();
    if let Some(path) = matches.get_one::<PathBuf>("configFile") {
        settings_file::load(&mut config, path)?;
    }
    if let Some(dir) = matches.get_one::<PathBuf>("dir") {
        config.store_path_root_dir = dir.to_string_lossy().into_owned();
    }
    let config = oxmq_broker::store_config(&config)?;
    Ok(OfflineStore::open(config, Arc::new(RealDisk))?)
}

fn check(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let store = open(matches)?;
    let mut shown = Shown::new();
    let survey = store.survey(&mut |progress| shown.show(progress))?;
    shown.clear();
    print(matches, &survey)?;
    Ok(exit_code(&survey))
}

fn print(matches: &ArgMatches, survey: &Survey) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if matches.get_flag("json") {
        out.write_all(&json::to_vec_standard(survey))?;
        writeln!(out)?;
    } else {
        text::write(&mut out, survey)?;
    }
    Ok(out.flush()?)
}

fn exit_code(survey: &Survey) -> ExitCode {
    match survey.problem_count {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(PROBLEMS),
    }
}

fn repair(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let store = open(matches)?;
    let root = store.root().to_path_buf();
    let mut shown = Shown::new();
    let (survey, plan) = store.plan(&mut |progress| shown.show(progress))?;
    shown.clear();
    if !matches.get_flag("json") {
        text::write_problems(&mut io::stdout().lock(), &survey)?;
    }
    if plan.is_empty() {
        say("There is nothing that can be repaired.");
        return Ok(exit_code(&survey));
    }
    let is_asked = matches.get_flag("yes");
    say(if is_asked {
        "What is done:"
    } else {
        "What --yes would do:"
    });
    for step in plan.steps() {
        say(&format!("  {step}"));
    }
    if !is_asked {
        return Ok(ExitCode::from(PROBLEMS));
    }
    let aside = match matches.get_one::<PathBuf>("aside") {
        Some(aside) => aside.clone(),
        None => root.join(format!("repaired-{}", text::compact_time())),
    };
    store.repair(plan, &aside)?;
    say(&format!("What was replaced is in {}.", aside.display()));
    let store = open(matches)?;
    let survey = store.survey(&mut |progress| shown.show(progress))?;
    shown.clear();
    print(matches, &survey)?;
    Ok(exit_code(&survey))
}

/// A repair goes on whether somebody reads what it says or not.
fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// A line of progress on a terminal, nothing elsewhere.
struct Shown {
    is_terminal: bool,
    began: Instant,
    last: Instant,
}

impl Shown {
    fn new() -> Shown {
        Shown {
            is_terminal: io::stderr().is_terminal(),
            began: Instant::now(),
            last: Instant::now(),
        }
    }

    fn show(&mut self, progress: Progress) {
        if !self.is_terminal || self.last.elapsed() < PROGRESS_INTERVAL {
            return;
        }
        self.last = Instant::now();
        let percent = 100 * progress.read / progress.total.max(1);
        let mb_per_second = progress.read as f64 / 1e6 / self.began.elapsed().as_secs_f64();
        eprint!(
            "\r{percent} % of the commit log read, {mb_per_second:.0} MB/s, {} problems ",
            progress.problems
        );
    }

    fn clear(&self) {
        if self.is_terminal {
            eprint!("\r{:60}\r", "");
        }
    }
}
