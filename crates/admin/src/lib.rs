//! `oxmq admin`, also called `mqadmin`: the commands of RocketMQ's tool with their options and their output (spec:
//! admin.md §1–9), and the same facts as JSON with `--json`.
//!
//! A command is declared once, in the table of its file: name, options, help, example and the function that runs it. The
//! command line, the help, completion for shells and `docs/commands.md` derive from that. What is asked of servers is in
//! [`oxmq_client::Admin`]; the functions here only arrange answers.

mod access;
mod ask;
pub mod bench;
mod brokers;
mod call;
mod clients;
mod command;
mod commands;
mod declare;
pub mod doctor;
mod documents;
pub mod explain;
mod export;
mod groups;
mod ha;
mod java;
mod lite;
mod messages;
mod namesrv;
mod offsets;
mod output;
mod progress;
mod reading;
mod running_info;
mod runtime;
mod sending;
mod static_topics;
mod stats;
mod table;
mod text;
mod topics;
mod traces;
mod tracks;

use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;
use std::time::Duration;

use call::Call;
use declare::Command;
use output::Answer;
use text::Style;

pub use call::Failure;
pub use command::print;
pub use commands::{command, completion, explain_mistake};
pub use documents::markdown;

/// Runs a command line without the name of the program. Ends with 0 when everything was done, else with 1 and a line on
/// standard error.
pub fn run(program: &str, args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<String> = args.into_iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    match commands::choose(program, args) {
        Ok((command, matches)) => serve(program, command, Call::new(matches)),
        Err(exit_code) => exit_code,
    }
}

/// What brokers mean that do not know better words.
const NO_USERS: &str =
    " (a broker has no users unless authenticationMetadataProvider and authorizationMetadataProvider are set)";

fn serve(program: &str, command: &'static Command, call: Call) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime
        .map_err(|error| Failure::new(error.to_string()))
        .and_then(|runtime| runtime.block_on(repeat(command, &call)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let hint = match access::COMMANDS.iter().any(|other| other.name == command.name) {
                true if failure.description.starts_with("An system error occurred") => NO_USERS,
                _ => "",
            };
            eprintln!("{program} {}: {failure}{hint}", command.name);
            ExitCode::FAILURE
        }
    }
}

/// Once, or again and again where an interval is given.
async fn repeat(command: &Command, call: &Call) -> Result<(), Failure> {
    loop {
        call.begin_round();
        let mut answer = Answer::default();
        let done = (command.run)(call, &mut answer).await;
        let is_read = show(&answer, call.flag("json"), done.is_ok())?;
        let interval = match command.has_option("interval") {
            true => call.number::<u64>("interval")?,
            false => command.every,
        };
        if let (true, Ok(()), Some(seconds)) = (is_read, &done, interval) {
            tokio::time::sleep(Duration::from_secs(seconds.max(1))).await;
            continue;
        }
        call.close().await;
        return done;
    }
}

/// What a command that failed has said before is shown as text only: half a JSON document is of no use. Tells whether
/// somebody still reads.
fn show(answer: &Answer, as_json: bool, is_whole: bool) -> Result<bool, Failure> {
    let mut stdout = std::io::stdout().lock();
    let text = match as_json {
        true if is_whole => answer.json(),
        true => String::new(),
        false => answer.text(&Style::of_stdout()),
    };
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::new(format!("cannot print: {error}"))),
    }
}
