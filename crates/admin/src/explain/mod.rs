//! `oxmq explain`: everything that is known of a message, in one answer.
//!
//! [`gather`](gather()) asks name servers and brokers over requests that a Java broker knows too, and makes [`facts`] of
//! it; [`judge`](judge()) and [`group`] draw the conclusions without I/O.

pub mod facts;
mod gather;
pub mod group;
mod judge;
mod search;
#[cfg(test)]
mod tests;

use std::fmt::Write;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};
use oxmq_protocol::topic;

pub use gather::{Question, gather};
pub use judge::{Answer, Durable, Section, State, judge};

use crate::Failure;
use crate::command::{self, json_flag, name_server};
use crate::text::{Style, now_ms};

pub fn command(name: &'static str) -> Command {
    Command::new(name)
        .about("Say everything that is known of a message, and why a group has not seen it")
        .after_help(
            "Examples:\n  oxmq explain -n 127.0.0.1:9876 order-17\n  oxmq explain -t orders -g payments 7F000001A1B218B4AAC20B5F8D300000\n\n\
             Ends with 0 when the message was found, 1 when it was not.",
        )
        .arg(Arg::new("message").value_name("MSGID|KEY").required(true).help(
            "Id from the producer, id from the broker, or a key",
        ))
        .arg(name_server())
        .arg(Arg::new("topic").short('t').long("topic").value_name("TOPIC").help(
            "Topic of the message (default: all are asked)",
        ))
        .arg(Arg::new("group").short('g').long("group").value_name("GROUP").help(
            "Answer for this consumer group first",
        ))
        .arg(json_flag())
}

pub fn run(matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    let question = Question {
        text: text("message").unwrap_or_default(),
        topic: text("topic"),
        group: text("group"),
    };
    let answer = command::with_admin(matches, async |admin| {
        // A name that is mistyped is not a message that is lost. Light queues have no route.
        if let Some(topic) = question.topic.as_deref().filter(|topic| !topic::is_lmq(topic)) {
            admin.topic_route(topic).await?;
        }
        gather(admin, &question, now_ms()).await.map(|facts| judge(&facts))
    })?;
    match matches.get_flag("json") {
        true => command::print_json(&answer),
        false => command::print(&shown(&answer, &Style::of_stdout())),
    }
    Ok(match answer.state {
        State::NotFound | State::Deleted => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    })
}

/// The answer for people.
fn shown(answer: &Answer, style: &Style) -> String {
    let mut out = format!("{}\n", style.bold(&answer.headline));
    let mut section = |title: &str, lines: &[String]| {
        if !lines.is_empty() {
            let lines: String = lines.iter().map(|line| format!("  {line}\n")).collect();
            write!(out, "\n{title}\n{lines}").expect("a string takes any text");
        }
    };
    for Section { title, lines } in &answer.sections {
        section(title, lines);
    }
    let groups: Vec<String> = answer
        .groups
        .iter()
        .map(|group| {
            let mark = if group.verdict.has_seen() {
                style.green("seen    ")
            } else {
                style.red("not seen")
            };
            let members = if group.members == 1 { "member" } else { "members" };
            format!("{mark}  {} ({} {members}): {}", group.group, group.members, group.why)
        })
        .collect();
    section("groups", &groups);
    section("not asked", &answer.not_asked);
    out
}
