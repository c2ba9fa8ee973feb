//! What a consumer says of itself, as text in mqadmin's form.

use std::fmt::Write;

use oxmq_client::MessageQueue;
use oxmq_protocol::body::{ConsumerRunningInfo, PopProcessQueueInfo, ProcessQueueInfo};
use serde_json::{Map, Value, json};

use crate::call::compact_time;
use crate::table::columns;

pub(crate) fn text(info: &ConsumerRunningInfo) -> String {
    let mut out = String::new();
    section(&mut out, "#Consumer Properties#", pairs(&info.properties));
    let subscriptions = info.subscription_set.iter().enumerate().map(|(index, data)| {
        format!(
            "{:03} Topic: {:<40} ClassFilter: {:<8} SubExpression: {}",
            index + 1,
            data.topic,
            data.class_filter_mode.to_string(),
            data.sub_string
        )
    });
    section(&mut out, "\n\n#Consumer Subscription#", subscriptions);

    const QUEUE: &str = "%-64s  %-32s  %-4s  %-20s";
    let of_queue = |format: &'static str, queue: &MessageQueue, last: &str| {
        columns(
            format,
            [&*queue.topic, &queue.broker_name, &queue.queue_id.to_string(), last],
        )
    };
    let heading = |last: &'static str| columns(QUEUE, ["#Topic", "#Broker Name", "#QID", last]);
    let offsets = info
        .mq_table
        .iter()
        .map(|(queue, process)| of_queue("%-32s  %-32s  %-4s  %-20s", queue, &process.commit_offset.to_string()));
    section(
        &mut out,
        "\n\n#Consumer Offset#",
        [heading("#Consumer Offset")].into_iter().chain(offsets),
    );
    let details = info.mq_table.iter();
    let details = details.map(|(queue, process)| of_queue("%-64s  %-32s  %-4s  %s", queue, &process_queue(process)));
    section(
        &mut out,
        "\n\n#Consumer MQ Detail#",
        [heading("#ProcessQueueInfo")].into_iter().chain(details),
    );
    let names = ["#Topic", "#Broker Name", "#QID", "#ProcessQueueInfo"];
    let pops = info.mq_pop_table.iter();
    let pops = pops.map(|(queue, process)| of_queue("%-32s  %-32s  %-4s  %s", queue, &pop_process_queue(process)));
    let pops = [columns("%-32s  %-32s  %-4s  %-20s", names)].into_iter().chain(pops);
    section(&mut out, "\n\n#Consumer Pop Detail#", pops);

    let names = [
        "#Topic",
        "#Pull RT",
        "#Pull TPS",
        "#Consume RT",
        "#ConsumeOK TPS",
        "#ConsumeFailed TPS",
        "#ConsumeFailedMsgsInHour",
    ];
    let rates = info.status_table.iter().map(|(topic, status)| {
        format!(
            "{topic:<32}  {:14.2} {:14.2} {:14.2} {:14.2} {:18.2} {:25}",
            status.pull_rt,
            status.pull_tps,
            status.consume_rt,
            status.consume_ok_tps,
            status.consume_failed_tps,
            status.consume_failed_msgs
        )
    });
    let rates = [columns("%-64s  %14s %14s %14s %14s %18s %25s", names)]
        .into_iter()
        .chain(rates);
    section(&mut out, "\n\n#Consumer RT&TPS#", rates);
    section(&mut out, "\n\n#User Consume Info#", pairs(&info.user_consumer_info));
    if let Some(stacks) = &info.jstack {
        section(&mut out, "\n\n#Consumer jstack#", [stacks.clone()]);
    }
    out
}

fn pairs(map: &std::collections::BTreeMap<String, String>) -> impl Iterator<Item = String> {
    map.iter().map(|(key, value)| columns("%-40s: %s", [&**key, value]))
}

fn section(out: &mut String, title: &str, lines: impl IntoIterator<Item = String>) {
    // Writing to a string does not fail.
    let _ = writeln!(out, "{title}");
    for line in lines {
        let _ = writeln!(out, "{line}");
    }
}

fn process_queue(info: &ProcessQueueInfo) -> String {
    format!(
        "ProcessQueueInfo [commitOffset={}, cachedMsgMinOffset={}, cachedMsgMaxOffset={}, cachedMsgCount={}, \
         cachedMsgSizeInMiB={}, transactionMsgMinOffset={}, transactionMsgMaxOffset={}, transactionMsgCount={}, locked={}, \
         tryUnlockTimes={}, lastLockTimestamp={}, droped={}, lastPullTimestamp={}, lastConsumeTimestamp={}]",
        info.commit_offset,
        info.cached_msg_min_offset,
        info.cached_msg_max_offset,
        info.cached_msg_count,
        info.cached_msg_size_in_mib,
        info.transaction_msg_min_offset,
        info.transaction_msg_max_offset,
        info.transaction_msg_count,
        info.locked,
        info.try_unlock_times,
        compact_time(info.last_lock_timestamp),
        info.droped,
        compact_time(info.last_pull_timestamp),
        compact_time(info.last_consume_timestamp)
    )
}

fn pop_process_queue(info: &PopProcessQueueInfo) -> String {
    format!(
        "PopProcessQueueInfo [waitAckCount:{}, droped:{}, lastPopTimestamp:{}]",
        info.wait_ack_count, info.droped, info.last_pop_timestamp
    )
}

/// A queue as Java's `toString` shows it.
pub(crate) fn queue(queue: &MessageQueue) -> String {
    let (topic, name, id) = (&queue.topic, &queue.broker_name, queue.queue_id);
    format!("MessageQueue [topic={topic}, brokerName={name}, queueId={id}]")
}

/// The same as JSON, where queues cannot be names.
pub(crate) fn facts(info: &ConsumerRunningInfo) -> Value {
    let list = |queues: Vec<(&MessageQueue, Value)>| {
        let with_queue = queues.into_iter().map(|(queue, details)| {
            let mut members = Map::from_iter([("queue".to_owned(), json!(queue))]);
            members.extend(details.as_object().cloned().unwrap_or_default());
            Value::Object(members)
        });
        Value::Array(with_queue.collect())
    };
    json!({
        "properties": info.properties,
        "subscriptions": info.subscription_set,
        "queues": list(info.mq_table.iter().map(|(queue, details)| (queue, json!(details))).collect()),
        "popQueues": list(info.mq_pop_table.iter().map(|(queue, details)| (queue, json!(details))).collect()),
        "status": info.status_table,
        "userConsumerInfo": info.user_consumer_info,
        "jstack": info.jstack,
    })
}
