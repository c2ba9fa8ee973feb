//! `oxmq bench`: a load generator for whoever runs a cluster, OxMQ's or the original's, built on the client library.
//!
//! Latencies are measured from the moment at which something should have happened: with a rate, a send that starts late
//! because others hang is late, and counts as such.

mod consume;
mod figures;
mod produce;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use oxmq_client::Credentials;
use parking_lot::Mutex;

use crate::Failure;
use crate::command::{self, json_flag, name_server};
use figures::Figures;

/// How long a run takes for which neither a time nor a number of messages is given.
const DEFAULT_DURATION: Duration = Duration::from_secs(10);
const DEFAULT_GROUP: &str = "oxmq-bench";
const DEFAULT_NAME_SERVER: &str = "127.0.0.1:9876";

const ENDS_WITH: &str = "Ends with 0 when everything went well, 1 when something failed.";

pub fn command(name: &'static str) -> Command {
    Command::new(name)
        .about("Send or consume at a rate, and say how fast it was and how long it took")
        .after_help(ENDS_WITH)
        .subcommand_required(true)
        .subcommand(produce::arguments(common(
            Command::new("produce").about("Send messages").after_help(format!(
                "Examples:\n  oxmq bench produce -t orders --rate 2000 --size 512 --duration 30s\n  \
                 oxmq bench produce -t orders --batch 32 --tags created,paid --count 100000\n\n{ENDS_WITH}"
            )),
        )))
        .subcommand(consume::arguments(common(
            Command::new("consume")
                .about("Consume messages, and say how old they are when they come")
                .after_help(format!(
                    "Examples:\n  oxmq bench consume -t orders -g billing,audit --duration 30s\n  \
                     oxmq bench consume -t orders --from first --tags 'created || paid' --count 100000\n\n{ENDS_WITH}"
                )),
        )))
}

fn common(command: Command) -> Command {
    command
        .arg(name_server())
        .arg(option("topic", "TOPIC", "Topic").short('t').required(true))
        .arg(number("count", "Messages, then end").value_parser(value_parser!(u64).range(1..)))
        .arg(
            option(
                "duration",
                "TIME",
                "Time, then end: 30s, 5m (default: 10s, unless --count says when)",
            )
            .value_parser(ValueParser::new(duration)),
        )
        .arg(option("accessKey", "KEY", "Access key, where the cluster asks for one").requires("secretKey"))
        .arg(option("secretKey", "KEY", "Its secret key").requires("accessKey"))
        .arg(json_flag())
}

/// A long option with a value.
fn option(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

fn number(name: &'static str, help: &'static str) -> Arg {
    option(name, "N", help)
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

/// `500ms`, `30s`, `5m`, or seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let number: u64 = digits
        .parse()
        .map_err(|_| "a time is a number with ms, s, m or h behind it")?;
    let unit_ms = match &text[digits.len()..] {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        unit => return Err(format!("{unit} is no unit of time: ms, s, m or h")),
    };
    match number.checked_mul(unit_ms).filter(|ms| (1..=86_400_000).contains(ms)) {
        Some(ms) => Ok(Duration::from_millis(ms)),
        None => Err("a run takes a millisecond to a day".into()),
    }
}

pub fn run(matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(error.to_string()))?;
    let (name, matches) = matches.subcommand().expect("clap requires one");
    let run = match name {
        "produce" => runtime.block_on(produce::run(matches))?,
        _ => runtime.block_on(consume::run(matches))?,
    };
    let figures = run.figures.lock();
    match matches.get_flag("json") {
        true => command::print_json(&figures.report()),
        false => command::print(&figures.report().text()),
    }
    Ok(match figures.has_failed() {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

/// What every run is told.
struct Run {
    name_server: String,
    topic: String,
    count: Option<u64>,
    duration: Option<Duration>,
    credentials: Option<Credentials>,
    figures: Arc<Mutex<Figures>>,
}

impl Run {
    fn new(matches: &ArgMatches, what: &'static str, latencies: &'static [&'static str]) -> Run {
        let text = |name: &str| matches.get_one::<String>(name).cloned();
        let count = matches.get_one("count").copied();
        let duration = matches.get_one("duration").copied();
        Run {
            name_server: text("namesrvAddr")
                .or_else(|| std::env::var("NAMESRV_ADDR").ok())
                .unwrap_or_else(|| DEFAULT_NAME_SERVER.to_owned()),
            topic: text("topic").unwrap_or_default(),
            count,
            duration: duration.or_else(|| count.is_none().then_some(DEFAULT_DURATION)),
            credentials: text("accessKey")
                .zip(text("secretKey"))
                .map(|(access, secret)| Credentials::new(access, secret)),
            figures: Arc::new(Mutex::new(Figures::new(what, latencies))),
        }
    }

    /// Runs the work until it ends by itself, its time is over, or somebody interrupts it; every second a line says how it
    /// goes.
    async fn until_over(&self, work: impl Future<Output = ()>) {
        self.figures.lock().begin();
        let over = async {
            match self.duration {
                Some(duration) => tokio::time::sleep(duration).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = work => {}
            () = over => {}
            () = self.show_every_second() => {}
            // Without signals there is nothing to be interrupted by.
            Ok(()) = tokio::signal::ctrl_c() => {}
        }
        self.figures.lock().end();
        if std::io::stderr().is_terminal() {
            eprint!("\r\x1b[2K");
        }
    }

    async fn show_every_second(&self) {
        let is_terminal = std::io::stderr().is_terminal();
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        seconds.tick().await;
        loop {
            seconds.tick().await;
            let line = self.figures.lock().next_line();
            let shown = match is_terminal {
                true => format!("\r\x1b[2K{line}"),
                false => format!("{line}\n"),
            };
            let mut stderr = std::io::stderr().lock();
            // A terminal that is gone ends nothing.
            let _ = stderr.write_all(shown.as_bytes()).and_then(|()| stderr.flush());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        let ms = |text| duration(text).map(|time| time.as_millis()).ok();
        assert_eq!(
            ["500ms", "30s", "5m", "1h", "7"].map(ms),
            [Some(500), Some(30_000), Some(300_000), Some(3_600_000), Some(7000)]
        );
        assert_eq!(
            ["", "s", "5d", "-1s", "0", "25h", "99999999999999999999h"].map(ms),
            [None; 7]
        );
    }

    #[test]
    fn the_command_line_is_sound() {
        command("bench").debug_assert();
    }
}
