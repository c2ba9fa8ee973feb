//! Traces of messages (spec: admin.md §5.2).

use std::collections::BTreeMap;

use oxmq_protocol::{response_code, topic};

use crate::call::{Call, Done, Failure, seconds};
use crate::declare::{commands, opt};
use crate::messages::{MESSAGE_ID, SINCE, UNTIL};
use crate::output::Answer;
use crate::table::{Cell, Table, row};

commands! {
    query_trace: "queryMsgTraceById", "Show who sent and consumed a message, by its trace",
        "-i 7F0000010000000000000000000000007F00000100002A9F",
        &[MESSAGE_ID, opt("t", "traceTopic", "TOPIC", "Topic of traces").or(topic::TRACE_TOPIC), SINCE, UNTIL,
          opt("c", "maxNum", "NUMBER", "Records of each broker at most").or("64")], alias: Some("QueryMsgTraceById");
}

/// What a record of a trace says.
#[derive(Debug, PartialEq)]
struct Trace {
    is_send: bool,
    group: String,
    client_host: String,
    time: i64,
    cost_ms: i64,
    is_success: bool,
}

async fn query_trace(call: &Call, answer: &mut Answer) -> Done {
    let id = call.required("msgId");
    let topic = call.required("traceTopic");
    let admin = call.admin().await?;
    let (since, until) = (call.number("beginTimestamp")?, call.number("endTimestamp")?);
    let (since, until) = (since.unwrap_or(0), until.unwrap_or(i64::MAX));
    let found = admin
        .query_message(topic, id, call.required_number("maxNum")?, since, until)
        .await?;
    if found.is_empty() {
        return Err(Failure::with_code(
            response_code::NO_MESSAGE,
            "query message by key finished, but no message.",
        ));
    }
    let traces: Vec<Trace> = found
        .iter()
        .flat_map(|message| {
            let text = String::from_utf8_lossy(&message.body);
            read_traces(&text, &message.born_host.ip().to_string(), id)
        })
        .collect();
    const LAYOUT: &str = "%-10s %-20s %-20s %-20s %-10s %-10s";
    const OF_SENDS: &str = "#Type, #ProducerGroup, #ClientHost, #SendTime, #CostTimes, #Status";
    const OF_CONSUMERS: &str = "#Type, #ConsumerGroup, #ClientHost, #ConsumerTime, #CostTimes, #Status";
    let row = |kind: &str, trace: &Trace| {
        row![
            kind,
            &trace.group,
            &trace.client_host,
            seconds(trace.time),
            Cell::shown(format!("{}ms", trace.cost_ms), trace.cost_ms),
            if trace.is_success { "success" } else { "failed" },
        ]
    };
    for trace in traces.iter().filter(|trace| trace.is_send) {
        let mut table = Table::new(OF_SENDS, LAYOUT);
        table.push(row("Pub", trace));
        answer.table("sends", &table);
        answer.say("");
    }
    let mut by_group = BTreeMap::<&str, Table>::new();
    for trace in traces.iter().filter(|trace| !trace.is_send) {
        let table = by_group
            .entry(&trace.group)
            .or_insert_with(|| Table::new(OF_CONSUMERS, LAYOUT));
        table.push(row("Sub", trace));
    }
    for table in by_group.values() {
        answer.table("consumptions", table);
        answer.say("");
    }
    Ok(())
}

/// The records of one message in a message of a trace topic. What is not understood is passed over.
fn read_traces(text: &str, client_host: &str, id: &str) -> Vec<Trace> {
    let read = |record: &str| {
        let fields: Vec<&str> = record.split('\u{1}').collect();
        let number = |at: usize| fields.get(at)?.parse::<i64>().ok();
        let is_true = |at: usize| fields.get(at).is_some_and(|text| *text == "true");
        match fields[0] {
            "Pub" if fields.get(5) == Some(&id) => Some(Trace {
                is_send: true,
                group: fields[3].to_owned(),
                client_host: client_host.to_owned(),
                time: number(1)?,
                cost_ms: number(10)?,
                is_success: if fields.len() == 13 { is_true(12) } else { is_true(13) },
            }),
            "SubAfter" if fields.get(2) == Some(&id) => Some(Trace {
                is_send: false,
                group: (*fields.get(8)?).to_owned(),
                client_host: client_host.to_owned(),
                time: number(7)?,
                cost_ms: number(3)?,
                is_success: is_true(4),
            }),
            _ => None,
        }
    };
    text.split('\u{2}').filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_of_one_message_are_read() {
        let sent = "Pub|17|region|producers|orders|ID|tag|key|1.2.3.4:5|5|3|0|OFFSET_ID|true|9.9.9.9";
        let of_old_client = "Pub|18|region|producers|orders|ID|tag|key|1.2.3.4:5|5|4|0|false";
        let begun = "SubBefore|20|region|consumers|REQUEST|ID|0|key";
        let consumed = "SubAfter|REQUEST|ID|7|false|key|4|21|consumers";
        let other = "SubAfter|REQUEST|OTHER|7|true|key|0|21|consumers";
        let broken = "Pub|x|y";
        let text = [sent, of_old_client, begun, consumed, other, broken]
            .join("\u{2}")
            .replace('|', "\u{1}");
        let trace = |is_send, group: &str, time, cost_ms, is_success| Trace {
            is_send,
            group: group.to_owned(),
            client_host: "10.0.0.9".to_owned(),
            time,
            cost_ms,
            is_success,
        };
        let expected = [
            trace(true, "producers", 17, 3, true),
            trace(true, "producers", 18, 4, false),
            trace(false, "consumers", 21, 7, false),
        ];
        assert_eq!(read_traces(&text, "10.0.0.9", "ID"), expected);
    }
}
