//! `oxmq doctor`: looks at this host and at a running cluster, and says what to do.
//!
//! [`gather`](gather()) makes [`facts`] of name servers, brokers and consumers, [`machine`] of this host. The checks in
//! [`host`], [`cluster`], [`topics`] and [`groups`] are functions from facts to findings.

mod certificate;
mod cluster;
pub mod facts;
mod finding;
mod gather;
mod groups;
mod host;
mod machine;
#[cfg(test)]
mod tests;
mod topics;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgMatches, Command, value_parser};
use serde::Serialize;

pub use finding::{Finding, Findings, Severity};
pub use gather::{Examination, gather};

use crate::Failure;
use crate::command::{self, json_flag, name_server};
use crate::text::Style;
use facts::{ConfigProblem, Facts};

/// Long enough to see a group fall behind, short enough to wait for.
const WATCH: Duration = Duration::from_secs(2);

pub fn command(name: &'static str) -> Command {
    Command::new(name)
        .about("Look at this host and at a running cluster, and say what to do")
        .after_help(
            "Examples:\n  oxmq doctor -n 127.0.0.1:9876\n  oxmq doctor -n 'a:9876;b:9876' --store /data/rocketmq/store --config broker.conf --json\n\n\
             Ends with 0 when nothing is wrong (there may be advice), 1 after warnings, 2 after errors.",
        )
        .arg(name_server())
        .arg(path("store", "DIR", "A folder of messages on this host (default: those of brokers found on it)"))
        .arg(path("config", "FILE", "The settings file of a broker on this host"))
        .arg(json_flag())
}

fn path(long: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(long)
        .long(long)
        .value_name(value)
        .help(help)
        .value_parser(value_parser!(PathBuf))
}

/// `check_config` explains a settings file.
pub fn run(
    matches: &ArgMatches,
    check_config: fn(&Path) -> Result<Vec<ConfigProblem>, String>,
) -> Result<ExitCode, Failure> {
    let path = |name: &str| matches.get_one::<PathBuf>(name).cloned();
    let examination = Examination {
        store: path("store"),
        config: path("config"),
        watch: WATCH,
    };
    let mut facts = command::with_admin(matches, async |admin| Ok(gather(admin, &examination).await))?;
    match examination.config.as_deref().map(check_config) {
        Some(Ok(problems)) => facts.config = problems,
        Some(Err(error)) => return Err(Failure::new(error)),
        None => {}
    }
    let findings = judge(&facts);
    match matches.get_flag("json") {
        true => command::print_json(&report(&facts, &findings)),
        false => command::print(&shown(&facts, &findings, &Style::of_stdout())),
    }
    Ok(match findings.first().map(|finding| finding.severity) {
        Some(Severity::Error) => ExitCode::from(2),
        Some(Severity::Warning) => ExitCode::from(1),
        Some(Severity::Advice) | None => ExitCode::SUCCESS,
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    findings: &'a [Finding],
    not_seen: &'a [String],
    name_servers: usize,
    brokers: usize,
    topics: usize,
    groups: usize,
}

fn report<'a>(facts: &'a Facts, findings: &'a [Finding]) -> Report<'a> {
    Report {
        findings,
        not_seen: &facts.not_seen,
        name_servers: facts.name_servers.len(),
        brokers: facts.brokers.len(),
        topics: facts.topics().len(),
        groups: facts
            .groups
            .iter()
            .filter(|group| !oxmq_protocol::topic::is_system_group(&group.name))
            .count(),
    }
}

/// The findings for people.
fn shown(facts: &Facts, findings: &[Finding], style: &Style) -> String {
    let mut out = String::new();
    for Finding {
        severity,
        check,
        seen,
        why,
        fix,
    } in findings
    {
        let severity = match severity {
            Severity::Error => style.red("ERROR"),
            Severity::Warning => style.yellow("WARNING"),
            Severity::Advice => style.bold("ADVICE"),
        };
        out += &format!("{severity} {check}: {seen}\n  why: {why}\n  do:  {fix}\n\n");
    }
    for line in &facts.not_seen {
        out += &format!("not looked at: {line}\n");
    }
    let Report {
        name_servers,
        brokers,
        topics,
        groups,
        ..
    } = report(facts, findings);
    let found = |severity: Severity, name: &str| {
        counted(
            findings.iter().filter(|finding| finding.severity == severity).count(),
            name,
        )
    };
    let verdict = format!(
        "{}, {}, {} of advice",
        found(Severity::Error, "error"),
        found(Severity::Warning, "warning"),
        found(Severity::Advice, "piece")
    );
    let verdict = if findings.is_empty() {
        style.green("healthy")
    } else {
        verdict
    };
    out + &format!(
        "{verdict}: {}, {}, {}, {}, {} here\n",
        counted(name_servers, "name server"),
        counted(brokers, "broker"),
        counted(topics, "topic"),
        counted(groups, "group"),
        counted(facts.stores.len(), "store")
    )
}

/// `1 error`, `2 errors`.
fn counted(count: usize, name: &str) -> String {
    format!("{count} {name}{}", if count == 1 { "" } else { "s" })
}

/// Every check; the worst findings come first.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = Findings::default();
    host::check(facts, &mut findings);
    cluster::check(facts, &mut findings);
    topics::check(facts, &mut findings);
    groups::check(facts, &mut findings);
    findings.0.sort_by_key(|finding| finding.severity);
    findings.0
}
