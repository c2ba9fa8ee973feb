//! `oxmq store dump`.

use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};
use oxmq_protocol::record::RecordRef;
use oxmq_protocol::{json, properties};
use oxmq_store::offline::records::{Selection, transaction_of};
use serde::Serialize;

pub(super) fn arguments(command: Command) -> Command {
    let number = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name(value)
            .value_parser(value_parser!(i64))
            .help(help)
    };
    let text = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    command
        .after_help(format!(
            "Examples:\n  oxmq store dump --limit 1 /data/rocketmq/store\n  \
             oxmq store dump -c broker.conf --topic orders --key ORD-1 --json\n\n{}",
            super::ENDS_WITH
        ))
        .arg(number("from", "OFFSET", "Physical offset to begin at"))
        .arg(number("to", "OFFSET", "Physical offset to end before"))
        .arg(text("topic", "TOPIC", "Only this topic"))
        .arg(
            Arg::new("queue")
                .long("queue")
                .value_name("ID")
                .value_parser(value_parser!(i32))
                .help("Only this queue"),
        )
        .arg(number("queue-from", "OFFSET", "Queue offset to begin at"))
        .arg(number("queue-to", "OFFSET", "Queue offset to end before"))
        .arg(text("key", "KEY", "Only messages with this key or unique id"))
        .arg(
            Arg::new("limit")
                .long("limit")
                .value_name("N")
                .value_parser(value_parser!(u64))
                .help("So many records at most"),
        )
        .arg(
            Arg::new("body")
                .long("body")
                .default_value("text")
                .value_parser(["text", "hex", "none"])
                .help("How to print bodies"),
        )
        .arg(super::flag("json", "Print a JSON document a line"))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    physical_offset: i64,
    size: usize,
    topic: String,
    queue_id: i32,
    queue_offset: i64,
    store_timestamp: i64,
    born_timestamp: i64,
    born_host: String,
    store_host: String,
    sys_flag: i32,
    flag: i32,
    reconsume_times: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    transaction: Option<&'static str>,
    properties: Vec<(String, String)>,
    body_bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
}

pub(super) fn run(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let store = super::open(matches)?;
    let number = |name| matches.get_one::<i64>(name).copied();
    let selection = Selection {
        from: number("from"),
        to: number("to"),
        topic: matches.get_one::<String>("topic").cloned(),
        queue_id: matches.get_one::<i32>("queue").copied(),
        queue_from: number("queue-from"),
        queue_to: number("queue-to"),
        key: matches.get_one::<String>("key").cloned(),
    };
    let mut left = matches.get_one::<u64>("limit").copied().unwrap_or(u64::MAX);
    let body = matches.get_one::<String>("body").map_or("text", String::as_str);
    let as_json = matches.get_flag("json");
    let mut out = BufWriter::new(io::stdout().lock());
    let mut written = Ok(());
    store.records(&selection, &mut |record| {
        if left == 0 || written.is_err() {
            return ControlFlow::Break(());
        }
        left -= 1;
        let shown = Shown::of(record, body);
        written = match as_json {
            true => out
                .write_all(&json::to_vec_standard(&shown))
                .and_then(|()| out.write_all(b"\n")),
            false => shown.write(&mut out),
        };
        ControlFlow::Continue(())
    })?;
    written?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

impl Shown {
    fn of(record: &RecordRef<'_>, body: &str) -> Shown {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let properties = properties::iter(record.properties());
        Shown {
            physical_offset: record.physical_offset(),
            size: record.total_size(),
            topic: text(record.topic()),
            queue_id: record.queue_id(),
            queue_offset: record.queue_offset(),
            store_timestamp: record.store_timestamp(),
            born_timestamp: record.born_timestamp(),
            born_host: record.born_host().to_string(),
            store_host: record.store_host().to_string(),
            sys_flag: record.sys_flag(),
            flag: record.flag(),
            reconsume_times: record.reconsume_times(),
            transaction: transaction_of(record),
            properties: properties.map(|(name, value)| (text(name), text(value))).collect(),
            body_bytes: record.body().len(),
            body: match body {
                "none" => None,
                "hex" => Some(record.body().iter().map(|byte| format!("{byte:02x}")).collect()),
                _ => Some(text(record.body())),
            },
        }
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        write!(
            out,
            "{} {} queue {} offset {}, {} bytes, stored {}, born {} at {}",
            self.physical_offset,
            self.topic,
            self.queue_id,
            self.queue_offset,
            self.size,
            super::text::time(self.store_timestamp),
            super::text::time(self.born_timestamp),
            self.born_host
        )?;
        if let Some(transaction) = self.transaction {
            write!(out, ", {transaction}")?;
        }
        writeln!(out)?;
        for (name, value) in &self.properties {
            writeln!(out, "    {name} = {value}")?;
        }
        match &self.body {
            Some(body) => writeln!(out, "    body, {} bytes: {body}", self.body_bytes),
            None => writeln!(out, "    body, {} bytes", self.body_bytes),
        }
    }
}
