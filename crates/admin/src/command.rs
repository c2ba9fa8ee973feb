//! What the commands share: options, connections, output.

use std::io::{ErrorKind, Write};

use clap::{Arg, ArgAction, ArgMatches};
use oxmq_client::{Admin, ClientError};
use serde::Serialize;

use crate::call::{Call, Failure};

pub(crate) fn name_server() -> Arg {
    Arg::new("namesrvAddr")
        .short('n')
        .long("namesrvAddr")
        .value_name("HOST:PORT;…")
        .help("Name servers (default: NAMESRV_ADDR, else 127.0.0.1:9876)")
}

pub(crate) fn json_flag() -> Arg {
    Arg::new("json")
        .long("json")
        .action(ArgAction::SetTrue)
        .help("Print JSON")
}

/// Runs a command with a client of the name servers that it is given.
pub(crate) fn with_admin<T>(
    matches: &ArgMatches,
    work: impl AsyncFnOnce(&Admin) -> Result<T, ClientError>,
) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(error.to_string()))?;
    runtime.block_on(async {
        let call = Call::new(matches.clone());
        let result = work(call.admin().await?).await;
        call.close().await;
        Ok(result?)
    })
}

/// Prints on standard output. Whoever reads may have seen enough: that is no error.
pub fn print(text: &str) {
    if let Err(error) = std::io::stdout().write_all(text.as_bytes())
        && error.kind() != ErrorKind::BrokenPipe
    {
        eprintln!("cannot print: {error}");
    }
}

pub(crate) fn print_json(value: &impl Serialize) {
    let text = serde_json::to_string_pretty(value).expect("answers have string keys");
    print(&format!("{text}\n"));
}
