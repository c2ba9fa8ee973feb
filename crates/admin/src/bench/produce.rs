//! `oxmq bench produce`.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use clap::{ArgMatches, Command, value_parser};
use oxmq_client::{Message, Producer, SendError};
use oxmq_protocol::response_code;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep_until};

use super::{DEFAULT_GROUP, Run, duration, flag, number, option};
use crate::Failure;

pub(super) fn arguments(command: Command) -> Command {
    command
        .arg(
            option("group", "GROUP", "Producer group")
                .short('g')
                .default_value(DEFAULT_GROUP),
        )
        .arg(
            number("rate", "Messages a second (default: as many as go)")
                .value_parser(value_parser!(u64).range(1..=10_000_000)),
        )
        .arg(
            number("size", "Bytes of a body")
                .default_value("1024")
                .value_parser(value_parser!(u64).range(1..=4_194_304)),
        )
        .arg(
            number("batch", "Messages of a request")
                .default_value("1")
                .value_parser(value_parser!(u64).range(1..=10_000)),
        )
        .arg(
            number("in-flight", "Requests under way at once")
                .default_value("64")
                .value_parser(value_parser!(u64).range(1..=10_000)),
        )
        .arg(option("tags", "A,B,…", "Tags, in turn"))
        .arg(number("keys", "Different keys, in turn").value_parser(value_parser!(u64).range(1..)))
        .arg(
            option(
                "linger",
                "TIME",
                "Let messages wait so long for each other and go as a batch: 5ms",
            )
            .value_parser(duration),
        )
        .arg(flag(
            "compress",
            "Compress bodies from 4 KiB on, as clients do unless told otherwise",
        ))
}

/// What the messages are like.
struct Load {
    topic: String,
    body: Bytes,
    batch: u64,
    tags: Vec<String>,
    keys: Option<u64>,
    rate: Option<u64>,
    /// Messages to send.
    count: u64,
    /// Sent or being sent.
    next: Cell<u64>,
    started: Instant,
}

impl Load {
    fn message(&self, number: u64) -> Message {
        let mut message = Message::new(self.topic.as_str(), self.body.clone());
        if !self.tags.is_empty() {
            message = message.with_tags(self.tags[(number % self.tags.len() as u64) as usize].as_str());
        }
        if let Some(keys) = self.keys {
            message = message.with_keys(format!("key-{}", number % keys));
        }
        message
    }

    /// The first number of the next request and how many messages it has, or nothing when all are under way.
    fn take(&self) -> Option<(u64, u64)> {
        let first = self.next.get();
        let count = self.batch.min(self.count - first);
        self.next.set(first + count);
        (count > 0).then_some((first, count))
    }

    /// When a message should be sent.
    fn due(&self, number: u64) -> Option<Instant> {
        let ns = u128::from(number) * 1_000_000_000 / u128::from(self.rate?);
        Some(self.started + Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX)))
    }
}

pub(super) async fn run(matches: &ArgMatches) -> Result<Run, Failure> {
    let run = Run::new(matches, "produce", &["send"]);
    let number = |name: &str| matches.get_one::<u64>(name).copied();
    let in_flight = number("in-flight").unwrap_or(1);
    let mut builder = Producer::builder(matches.get_one::<String>("group").map_or(DEFAULT_GROUP, String::as_str))
        .name_server(run.name_server.clone());
    if let Some(linger) = matches.get_one::<Duration>("linger") {
        builder = builder.auto_batch(true).batch_max_delay(*linger);
    }
    if !matches.get_flag("compress") {
        builder = builder.compress_msg_body_over_howmuch(usize::MAX);
    }
    if let Some(credentials) = &run.credentials {
        builder = builder.credentials(credentials.clone());
    }
    let producer = builder.start().await?;
    let tags = matches
        .get_one::<String>("tags")
        .map(String::as_str)
        .unwrap_or_default();
    let load = Rc::new(Load {
        topic: run.topic.clone(),
        body: body(number("size").unwrap_or(1) as usize),
        batch: number("batch").unwrap_or(1),
        tags: tags
            .split(',')
            .filter(|tag| !tag.is_empty())
            .map(str::to_owned)
            .collect(),
        keys: number("keys"),
        rate: number("rate"),
        count: run.count.unwrap_or(u64::MAX),
        next: Cell::new(0),
        started: Instant::now(),
    });
    let local = LocalSet::new();
    let senders: Vec<_> = (0..in_flight)
        .map(|_| local.spawn_local(send_on(producer.clone(), Rc::clone(&load), run.figures.clone())))
        .collect();
    let work = local.run_until(async {
        for sender in senders {
            // A sender that panics has said so.
            let _ = sender.await;
        }
    });
    run.until_over(work).await;
    drop(local);
    producer.shutdown().await;
    Ok(run)
}

async fn send_on(producer: Producer, load: Rc<Load>, figures: std::sync::Arc<parking_lot::Mutex<super::Figures>>) {
    while let Some((first, count)) = load.take() {
        let due = load.due(first);
        if let Some(due) = due {
            sleep_until(due).await;
        }
        let began = due.unwrap_or_else(Instant::now);
        let sent = match count {
            1 => producer.send(load.message(first)).await,
            _ => {
                producer
                    .send_batch((first..first + count).map(|number| load.message(number)).collect())
                    .await
            }
        };
        let mut figures = figures.lock();
        match sent {
            Ok(_) => figures.add(count, count * load.body.len() as u64, &[began.elapsed()]),
            Err(error) => figures.add_error(reason(&error), count),
        }
    }
}

fn reason(error: &SendError) -> String {
    match error.response_code() {
        Some(code) => response_code::name(code).to_uppercase(),
        None => error.to_string(),
    }
}

/// Bytes that do not compress.
fn body(bytes: usize) -> Bytes {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}
