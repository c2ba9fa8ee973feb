//! The original's `mqadmin` in one scenario, its output compared with what it prints against the original.
//!
//! The expected output is `tests/interop/mqadmin.txt`, rewritten by `--bless` from a run against the original. OxMQ's own
//! `mqadmin` has to print the same, but for the stack traces of failures, where it prints a line.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context;
use serde_json::Value;

use super::cluster_run::TIME_LIMIT;
use super::{Outcome, programs};
use crate::servers::{Cluster, tail, wait};

const VERSION: &str = "5.5.0";

pub(super) fn build() -> anyhow::Result<()> {
    programs::build_java(VERSION)
}

/// Runs the commands of the original's tool, or of this executable.
pub(super) fn run(cluster: &Cluster, own: Option<&Path>, bless: bool) -> anyhow::Result<Outcome> {
    let home = cluster.home(if own.is_some() { "mqadmin-oxmq" } else { "mqadmin" });
    fs::create_dir_all(&home)?;
    let output = home.join("output.txt");
    let mut command = programs::java_program(VERSION, &home);
    command
        .arg("oxmq.interop.MqAdmin")
        .args([cluster.namesrv_addr(), cluster.broker_addr()])
        .args(own)
        // consumerStatus writes files where it is called.
        .current_dir(&home)
        .stdin(Stdio::null())
        .stdout(File::create(&output)?)
        .stderr(File::create(home.join("stderr.log"))?);
    let mut child = command.spawn().context("cannot start java")?;
    let status = wait(&mut child, TIME_LIMIT)?;
    if !status.is_some_and(|status| status.success()) {
        return Ok(Outcome::Failed(format!(
            "the scenario did not end well, see {}; it ended with {status:?} and said\n{}after\n{}",
            home.display(),
            tail(&home.join("stderr.log")),
            tail(&output)
        )));
    }
    let actual = fs::read_to_string(output)?;
    if bless && own.is_none() {
        fs::write(expected_path(), &actual)?;
    }
    let expected = fs::read_to_string(expected_path())?;
    let (expected, actual) = match own {
        Some(_) => (failures_in_a_line(&expected), failures_in_a_line(&actual)),
        None => (expected, actual),
    };
    let differences = differences(&expected, &actual);
    Ok(if differences.is_empty() {
        Outcome::Passed(Value::Null)
    } else {
        Outcome::Failed(differences)
    })
}

fn expected_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .with_file_name("tests")
        .join("interop/mqadmin.txt")
}

/// What both tools say of a failure: code and remark.
fn failures_in_a_line(text: &str) -> String {
    let is_trace = |line: &str| {
        let beginnings = ["org.apache.rocketmq.", "For more information", "See https://rocketmq"];
        beginnings.iter().any(|beginning| line.starts_with(beginning))
    };
    let lines = text.lines().filter(|line| !is_trace(line)).map(|line| {
        let is_failure = line.starts_with("Caused by: ") || line.starts_with("oxmq admin ");
        match line.find("CODE: ").filter(|_| is_failure) {
            Some(at) => {
                let said = line[at..].split(" BROKER: ").next().unwrap_or_default();
                format!("failed: {}", said.split_whitespace().collect::<Vec<_>>().join(" "))
            }
            None if is_failure => {
                let said = line.split_once(": ").map_or(line, |(_, said)| said);
                let unreachable = [
                    "cannot connect to ",
                    "org.apache.rocketmq.remoting.exception.RemotingConnectException",
                ];
                let is_unreachable = unreachable.iter().any(|beginning| said.starts_with(beginning));
                if is_unreachable { "no connection" } else { said }.to_owned()
            }
            None => line.to_owned(),
        }
    });
    lines.map(|line| line + "\n").collect()
}

/// What is printed differently, command by command.
fn differences(expected: &str, actual: &str) -> String {
    let mut result = String::new();
    let (expected, actual) = (commands(expected), commands(actual));
    for i in 0..expected.len().max(actual.len()) {
        let (expected, actual) = (
            expected.get(i).copied().unwrap_or(""),
            actual.get(i).copied().unwrap_or(""),
        );
        if expected == actual {
            continue;
        }
        result.push_str(&format!("\n    $ {}\n", expected.lines().next().unwrap_or("")));
        let (mut missing, mut unexpected): (Vec<_>, Vec<_>) = (expected.lines().collect(), actual.lines().collect());
        missing.retain(|line| !actual.lines().any(|other| other == *line));
        unexpected.retain(|line| !expected.lines().any(|other| other == *line));
        result.extend(missing.iter().map(|line| format!("    - {line}\n")));
        result.extend(unexpected.iter().map(|line| format!("    + {line}\n")));
        if missing.is_empty() && unexpected.is_empty() {
            result.push_str("    the same lines in another order or number\n");
        }
    }
    result
}

fn commands(text: &str) -> Vec<&str> {
    text.split("\n$ ").collect()
}
