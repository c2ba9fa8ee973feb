//! `oxmq bench consume`.

use std::sync::Arc;
use std::time::Duration;

use clap::{ArgMatches, Command, value_parser};
use oxmq_client::{ConsumeFromWhere, ConsumeStatus, PushConsumer};
use tokio::sync::Notify;

use super::{DEFAULT_GROUP, Run, number, option};
use crate::Failure;
use crate::text::now_ms;

/// Messages that a group hands over at a time.
const BATCH: usize = 32;

pub(super) fn arguments(command: Command) -> Command {
    command
        .arg(
            option("group", "GROUP,…", "Consumer groups; each gets all messages")
                .short('g')
                .value_delimiter(',')
                .default_value(DEFAULT_GROUP),
        )
        .arg(option("tags", "TAGS", "Tags that are wanted: \"A || B\"").default_value("*"))
        .arg(
            option("from", "first|last", "Where a group begins that has no offsets yet")
                .value_parser(["first", "last"])
                .default_value("last"),
        )
        .arg(
            number("in-flight", "Calls with messages at once, of each group")
                .default_value("16")
                .value_parser(value_parser!(u64).range(1..=1024)),
        )
}

pub(super) async fn run(matches: &ArgMatches) -> Result<Run, Failure> {
    let run = Run::new(matches, "consume", &["since born", "since stored"]);
    let from = match matches.get_one::<String>("from").map(String::as_str) {
        Some("first") => ConsumeFromWhere::FirstOffset,
        _ => ConsumeFromWhere::LastOffset,
    };
    let tags = matches.get_one::<String>("tags").map_or("*", String::as_str);
    let in_flight = matches.get_one::<u64>("in-flight").map_or(1, |count| *count as usize);
    let enough = Arc::new(Notify::new());
    let mut consumers = Vec::new();
    for group in matches.get_many::<String>("group").into_iter().flatten() {
        let (figures, enough, count) = (Arc::clone(&run.figures), Arc::clone(&enough), run.count);
        let mut builder = PushConsumer::builder(group.as_str())
            .name_server(run.name_server.clone())
            .subscribe(run.topic.clone(), tags)
            .consume_from_where(from)
            .consume_message_batch_max_size(BATCH)
            .consume_concurrency(in_flight)
            .concurrent(move |messages| {
                let now = now_ms();
                // Clocks of other machines may be ahead.
                let since = |ms: i64| Duration::from_millis(u64::try_from(now - ms).unwrap_or(0));
                let mut figures = figures.lock();
                for message in &messages {
                    let latencies = [since(message.born_timestamp), since(message.store_timestamp)];
                    figures.add(1, message.message.body.len() as u64, &latencies);
                }
                if count.is_some_and(|count| figures.messages() >= count) {
                    enough.notify_one();
                }
                std::future::ready(ConsumeStatus::Success)
            });
        if let Some(credentials) = &run.credentials {
            builder = builder.credentials(credentials.clone());
        }
        consumers.push(builder.start().await?);
    }
    run.until_over(enough.notified()).await;
    for consumer in consumers {
        consumer.shutdown().await;
    }
    Ok(run)
}
