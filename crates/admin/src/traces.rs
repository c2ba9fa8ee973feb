//! Traces of messages (spec: admin.md §5.2).

use std::collections::BTreeMap;

use oxmq_client::ClientError;
use oxmq_protocol::{response_code, topic};

use crate::call::{Call, Done, Failure, seconds};
use crate::declare::{commands, opt};
use crate::explain::facts::{TraceEvent, TraceKind, trace_events};
use crate::messages::{MESSAGE_ID, SINCE, UNTIL};
use crate::output::Answer;
use crate::table::{Cell, Table, row};

commands! {
    query_trace: "queryMsgTraceById", "Show who sent and consumed a message, by its trace",
        "-i 7F0000010000000000000000000000007F00000100002A9F",
        &[MESSAGE_ID, opt("t", "traceTopic", "TOPIC", "Topic of traces").or(topic::TRACE_TOPIC), SINCE, UNTIL,
          opt("c", "maxNum", "NUMBER", "Records of each broker at most").or("64")], alias: Some("QueryMsgTraceById");
}

async fn query_trace(call: &Call, answer: &mut Answer) -> Done {
    let id = call.required("msgId");
    let topic = call.required("traceTopic");
    let admin = call.admin().await?;
    let (since, until) = (call.number("beginTimestamp")?, call.number("endTimestamp")?);
    let (since, until) = (since.unwrap_or(0), until.unwrap_or(i64::MAX));
    let found = admin
        .query_message(topic, id, call.required_number("maxNum")?, since, until)
        .await
        .map_err(|error| match error {
            ClientError::NoRoute { topic } => Failure::with_code(
                response_code::TOPIC_NOT_EXIST,
                format!("The topic[{topic}] not matched route info"),
            ),
            other => other.into(),
        })?;
    if found.is_empty() {
        return Err(Failure::with_code(
            response_code::NO_MESSAGE,
            "query message by key finished, but no message.",
        ));
    }
    const LAYOUT: &str = "%-10s %-20s %-20s %-20s %-10s %-10s";
    const OF_SENDS: &str = "#Type, #ProducerGroup, #ClientHost, #SendTime, #CostTimes, #Status";
    const OF_CONSUMERS: &str = "#Type, #ConsumerGroup, #ClientHost, #ConsumerTime, #CostTimes, #Status";
    let mut by_group = BTreeMap::<String, Table>::new();
    for message in &found {
        let client_host = message.born_host.ip().to_string();
        let row = |kind: &str, group: &str, time_ms, success, cost_ms| {
            row![
                kind,
                group,
                &client_host,
                seconds(time_ms),
                Cell::shown(format!("{cost_ms}ms"), cost_ms),
                if success { "success" } else { "failed" },
            ]
        };
        for TraceEvent { time_ms, group, kind } in trace_events(&String::from_utf8_lossy(&message.body), id) {
            match kind {
                TraceKind::Sent { success, cost_ms } => {
                    let mut table = Table::new(OF_SENDS, LAYOUT);
                    table.push(row("Pub", &group, time_ms, success, cost_ms));
                    answer.table("sends", &table);
                    answer.say("");
                }
                TraceKind::ConsumeEnds { success, cost_ms } => {
                    let row = row("Sub", &group, time_ms, success, cost_ms);
                    let table = by_group.entry(group);
                    table.or_insert_with(|| Table::new(OF_CONSUMERS, LAYOUT)).push(row);
                }
                _ => {}
            }
        }
    }
    for table in by_group.values() {
        answer.table("consumptions", table);
        answer.say("");
    }
    Ok(())
}
