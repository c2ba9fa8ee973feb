//! From facts to an answer: where the message is, and what of it each group has seen. No I/O.

use oxmq_protocol::{perm, property};
use serde::Serialize;

use super::facts::{BrokerFacts, Facts, Place, Record, TraceEvent, TraceKind};
use super::group::{GroupAnswer, judge_group};
use crate::text::{ago, time};

/// How far the message itself has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Consumers can get it.
    Stored,
    /// It is delivered later, by a delay level or at a time of its own.
    Waiting,
    /// Its time has come, and it is not in its topic.
    Overdue,
    /// It was taken back before it was delivered.
    Recalled,
    /// Its producer has not said how its transaction ended.
    TransactionPending,
    TransactionRolledBack,
    /// The broker has asked for the outcome of its transaction often enough.
    TransactionGivenUp,
    /// All that is left of it is in retry or dead letter topics.
    OnlyCopies,
    /// It was there once.
    Deleted,
    NotFound,
}

/// What there is to say, the most useful sentence first.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    pub headline: String,
    pub state: State,
    pub durable: Option<Durable>,
    pub indexed: Option<bool>,
    pub duplicates: usize,
    pub sections: Vec<Section>,
    /// Those that have not seen it come first.
    pub groups: Vec<GroupAnswer>,
    pub topics_asked: usize,
    pub not_asked: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durable {
    OnDisk,
    /// On disk soon, unless the machine loses power before.
    InPageCache,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Section {
    pub title: &'static str,
    pub lines: Vec<String>,
}

/// Draws the conclusions.
pub fn judge(facts: &Facts) -> Answer {
    let primary = primary(facts);
    let state = state(facts, primary);
    let mut groups: Vec<GroupAnswer> = facts
        .groups
        .iter()
        .filter_map(|group| Some(judge_group(facts, primary?, state, group)))
        .collect();
    groups.sort_by_key(|group| group.verdict.has_seen());
    let durable = primary.and_then(|record| durable(facts, record));
    let indexed = primary.and_then(indexed);
    let mut sections = Vec::new();
    if let Some(record) = primary {
        sections.push(Section {
            title: "message",
            lines: stored_lines(facts, record, durable, indexed),
        });
    }
    let mut add = |title, lines: Vec<String>| {
        if !lines.is_empty() {
            sections.push(Section { title, lines });
        }
    };
    add("copies", copies(facts, primary));
    add("transaction", transaction_lines(facts, state));
    add(
        "trace",
        facts
            .trace
            .iter()
            .map(|event| trace_line(event, facts.now_ms))
            .collect(),
    );
    add("others with this key", facts.others.clone());
    Answer {
        headline: headline(facts, primary, state, &groups),
        state,
        durable,
        indexed,
        duplicates: duplicates(facts, primary),
        sections,
        groups,
        topics_asked: facts.searched.topics.len(),
        not_asked: not_asked(facts),
    }
}

/// The record that the answer is about: where consumers get the message, else where it is now.
pub(super) fn primary(facts: &Facts) -> Option<&Record> {
    let rank = |record: &&Record| match record.place {
        _ if record.is_recall() => 0,
        Place::Topic => 5,
        Place::Half | Place::Level | Place::Timer => 3,
        Place::GivenUp => 4,
        Place::Retry { .. } => 2,
        Place::DeadLetter { .. } => 1,
    };
    // What waits in a delay level for a retry topic is a copy, however long the message itself is gone.
    let is_retry = |record: &&Record| record.next_topic().is_some_and(oxmq_protocol::topic::is_retry);
    let own = facts
        .records
        .iter()
        .filter(|record| !is_retry(record) || record.place == Place::Topic);
    own.max_by_key(|record| (rank(record), record.message.store_timestamp))
        .or_else(|| facts.records.last())
}

fn state(facts: &Facts, primary: Option<&Record>) -> State {
    let Some(primary) = primary else {
        return match is_deleted(facts) {
            true => State::Deleted,
            false => State::NotFound,
        };
    };
    match primary.place {
        Place::Topic => match facts.topic.min_offset {
            Some(min) if primary.message.queue_offset < min => State::Deleted,
            _ => State::Stored,
        },
        Place::Level | Place::Timer if primary.next_topic().is_some_and(oxmq_protocol::topic::is_retry) => {
            State::OnlyCopies
        }
        Place::Timer if facts.records.iter().any(Record::is_recall) => State::Recalled,
        Place::Level | Place::Timer => match primary.due_ms(&facts.brokers) {
            Some(due) if due + OVERDUE_MS < facts.now_ms => State::Overdue,
            _ => State::Waiting,
        },
        Place::Half if facts.transaction_ended == Some(true) => State::TransactionRolledBack,
        Place::Half => State::TransactionPending,
        Place::GivenUp => State::TransactionGivenUp,
        Place::Retry { .. } | Place::DeadLetter { .. } => State::OnlyCopies,
    }
}

/// A message that was due less long ago is on its way.
const OVERDUE_MS: i64 = 5000;

fn is_deleted(facts: &Facts) -> bool {
    let log_min = |name: &str| facts.brokers.iter().find(|broker| broker.name == name)?.log_min;
    if let Some((broker, at)) = &facts.from_id.place {
        return log_min(broker).is_some_and(|min| *at < min);
    }
    let made_before = |broker: &BrokerFacts| {
        facts
            .from_id
            .made_ms
            .zip(broker.earliest_ms)
            .is_some_and(|(made, first)| made < first)
    };
    !facts.brokers.is_empty() && facts.brokers.iter().all(made_before)
}

fn broker_of<'a>(facts: &'a Facts, record: &Record) -> Option<&'a BrokerFacts> {
    facts
        .brokers
        .iter()
        .find(|broker| broker.name == record.message.broker_name)
}

fn durable(facts: &Facts, record: &Record) -> Option<Durable> {
    let broker = broker_of(facts, record)?;
    let end = record.message.physical_offset + record.message.store_size as i64;
    match end <= broker.written? - broker.unflushed_max? {
        true => Some(Durable::OnDisk),
        false => Some(Durable::InPageCache),
    }
}

/// `None` when it cannot be looked up: it has neither key nor id.
fn indexed(record: &Record) -> Option<bool> {
    let has_key = record.message.unique_id().is_some() || record.message.keys().next().is_some();
    (has_key || record.indexed).then_some(record.indexed)
}

/// How often the message is in its topic beyond the first time.
fn duplicates(facts: &Facts, primary: Option<&Record>) -> usize {
    let same = |record: &&Record| {
        record.place == Place::Topic && primary.is_some_and(|primary| primary.message.topic == record.message.topic)
    };
    facts.records.iter().filter(same).count().saturating_sub(1)
}

fn headline(facts: &Facts, primary: Option<&Record>, state: State, groups: &[GroupAnswer]) -> String {
    let of_asked = |group: &&GroupAnswer| Some(&group.group) == facts.asked_group.as_ref();
    if let Some(group) = groups.iter().find(of_asked) {
        return format!("{}: {}", group.group, group.why);
    }
    let Some(record) = primary else {
        return nothing_found(facts, state);
    };
    let place = || place(record);
    let message = &record.message;
    match state {
        State::Stored => {
            let seen = groups.iter().filter(|group| group.verdict.has_seen()).count();
            let all = groups.len();
            let stored = format!("stored {} in {}", ago(facts.now_ms, message.store_timestamp), place());
            match groups.first() {
                None => format!("{stored}; no group consumes {}", message.topic),
                Some(_) if seen == all => format!("{stored}; {seen} of {all} groups have seen it"),
                Some(group) => {
                    format!(
                        "{stored}; {seen} of {all} groups have seen it; {} has not: {}",
                        group.group, group.why
                    )
                }
            }
        }
        State::Waiting | State::Overdue => {
            let due = record
                .due_ms(&facts.brokers)
                .map_or_else(|| "an unknown time".into(), time);
            let what = if record.place == Place::Timer {
                "its time"
            } else {
                "its delay level"
            };
            let next = record.first_topic();
            match state {
                State::Waiting => format!("waits for {what}: it comes to {next} at {due}"),
                _ => format!("overdue: {what} was {due}, and {next} does not have it (or its copy there is deleted)"),
            }
        }
        State::Recalled => format!(
            "recalled: its producer has taken it back before it came to {}",
            record.first_topic()
        ),
        State::TransactionPending => {
            let checks = message.property(property::TRANSACTION_CHECK_TIMES).unwrap_or("0");
            let group = message.property(property::PRODUCER_GROUP).unwrap_or("?");
            format!(
                "half message: the producer group {group} has not said how the transaction ended (asked {checks} times)"
            )
        }
        State::TransactionRolledBack => {
            "its transaction was rolled back: it has ended, and there is no committed message".into()
        }
        State::TransactionGivenUp => {
            "its producer never said how the transaction ended, and the broker has stopped asking".into()
        }
        State::OnlyCopies => format!("the message itself is gone, a copy of it is in {}", place()),
        State::Deleted => format!(
            "deleted: queue {} begins at offset {} now, the message had {}",
            message.queue_id,
            facts.topic.min_offset.unwrap_or(-1),
            message.queue_offset
        ),
        State::NotFound => nothing_found(facts, state),
    }
}

fn nothing_found(facts: &Facts, state: State) -> String {
    let question = &facts.question;
    if state == State::Deleted {
        let oldest = facts
            .brokers
            .iter()
            .filter_map(|broker| broker.earliest_ms)
            .filter(|ms| *ms > 0)
            .min();
        let oldest = oldest.map_or_else(
            || "nothing is stored".into(),
            |ms| format!("the oldest message is of {}", time(ms)),
        );
        let made = facts
            .from_id
            .made_ms
            .map_or_else(String::new, |ms| format!("made {}, ", time(ms)));
        return format!(
            "deleted: {question} was {made}{oldest}: its log file is gone (fileReservedTime, or the disk was full)"
        );
    }
    let topics = match &facts.searched.topics[..] {
        [] => "no topic".into(),
        [topic] => topic.clone(),
        topics => format!("{} topics", topics.len()),
    };
    let left_out = match facts.searched.topics_left_out {
        0 => String::new(),
        count => format!("; {count} topics were not asked: name one with -t"),
    };
    let unasked = if facts.searched.failures.is_empty() {
        ""
    } else {
        "; not everything could be asked"
    };
    let disabled = match facts.brokers.iter().any(|broker| broker.index_enabled == Some(false)) {
        true => "; a broker keeps no index (messageIndexEnable=false)",
        false => "",
    };
    format!("not found: {topics} asked for {question}{left_out}{unasked}{disabled}")
}

fn place(record: &Record) -> String {
    format!("{} at offset {}", record.queue(), record.message.queue_offset)
}

fn stored_lines(facts: &Facts, record: &Record, durable: Option<Durable>, indexed: Option<bool>) -> Vec<String> {
    let message = &record.message;
    let mut lines = vec![
        format!(
            "topic {}, broker {}, queue {}, offset {}",
            message.topic, message.broker_name, message.queue_id, message.queue_offset
        ),
        format!(
            "id {}, offset id {}, physical offset {}, {} bytes",
            message.unique_id().unwrap_or("none"),
            message.offset_msg_id(),
            message.physical_offset,
            message.store_size
        ),
        format!(
            "tag {}, keys {}",
            message.tags().unwrap_or("none"),
            message.property(property::KEYS).unwrap_or("none")
        ),
        format!(
            "born {} at {}, stored {} at {}",
            time(message.born_timestamp),
            message.born_host,
            time(message.store_timestamp),
            message.store_host
        ),
    ];
    if !matches!(record.place, Place::Topic) {
        lines.push(format!("sent to {}", record.first_topic()));
    }
    let broker = broker_of(facts, record);
    let flush = broker
        .and_then(|broker| broker.flush_disk_type.as_deref())
        .unwrap_or("unknown flushDiskType");
    lines.push(match durable {
        Some(Durable::OnDisk) => format!("durable: on disk ({flush})"),
        Some(Durable::InPageCache) => format!("not on disk yet ({flush}): a power cut now would take it"),
        None => format!("durable: unknown, the broker did not say how far it has flushed ({flush})"),
    });
    lines.push(replica_line(record, broker));
    lines.push(match indexed {
        Some(true) => "indexed: found by key".into(),
        Some(false) if broker.and_then(|broker| broker.index_enabled) == Some(false) => {
            "not indexed: the broker keeps no index (messageIndexEnable=false)".into()
        }
        Some(false) => "not indexed: only its queue and its offset id lead to it; the index may be behind".into(),
        None => "not indexed: it has neither key nor id of its producer".into(),
    });
    let perm = facts
        .topic
        .perm
        .map(|bits| format!(", permission {}", perm::text(bits)))
        .unwrap_or_default();
    if let (Some(min), Some(max)) = (facts.topic.min_offset, facts.topic.max_offset) {
        lines.push(format!("its queue has the offsets {min} to {}{perm}", max - 1));
    }
    lines
}

fn replica_line(record: &Record, broker: Option<&BrokerFacts>) -> String {
    let Some(broker) = broker.filter(|broker| !broker.slaves.is_empty()) else {
        return "replicas: none, no slave is registered".into();
    };
    let end = record.message.physical_offset + record.message.store_size as i64;
    let told = broker.slaves.iter().map(|slave| match slave.written {
        Some(written) if written >= end => format!("{} has it", slave.addr),
        Some(written) => format!(
            "{} does not have it yet ({} bytes behind it)",
            slave.addr,
            end - written
        ),
        None => format!("{} did not answer", slave.addr),
    });
    format!("replicas: {}", told.collect::<Vec<_>>().join(", "))
}

/// Every other record, with what it means.
fn copies(facts: &Facts, primary: Option<&Record>) -> Vec<String> {
    let same = |one: &Record, other: &Record| {
        (
            &one.message.broker_name,
            one.message.physical_offset,
            one.message.queue_offset,
        ) == (
            &other.message.broker_name,
            other.message.physical_offset,
            other.message.queue_offset,
        )
    };
    let others = facts
        .records
        .iter()
        .filter(|record| primary.is_none_or(|primary| !same(record, primary)));
    let line = |record: &Record| {
        let at = format!("{}, stored {}", place(record), time(record.message.store_timestamp));
        let times = record.message.reconsume_times;
        match &record.place {
            _ if record.is_recall() => format!("recalled: {at}"),
            Place::Topic => format!("duplicate: {at}, born {}", time(record.message.born_timestamp)),
            Place::Retry { group } => format!("retry {times} of {group}: {at}"),
            Place::DeadLetter { group } => format!("dead letter of {group} after {times} retries: {at}"),
            Place::Level | Place::Timer => {
                let due = record.due_ms(&facts.brokers);
                let verb = if due.is_some_and(|due| due > facts.now_ms) {
                    "waits"
                } else {
                    "waited"
                };
                let due = due.map_or_else(|| "?".into(), time);
                format!("{verb} for {} until {due}: {at}", record.next_topic().unwrap_or("?"))
            }
            Place::Half => {
                let checks = record
                    .message
                    .property(property::TRANSACTION_CHECK_TIMES)
                    .unwrap_or("0");
                format!("half message, asked about {checks} times: {at}")
            }
            Place::GivenUp => format!("given up transaction: {at}"),
        }
    };
    others.map(line).collect()
}

fn transaction_lines(facts: &Facts, state: State) -> Vec<String> {
    let halves = facts
        .records
        .iter()
        .filter(|record| record.place == Place::Half)
        .count();
    let group = facts
        .records
        .iter()
        .find_map(|record| record.message.property(property::PRODUCER_GROUP));
    if halves == 0 && state != State::TransactionGivenUp {
        return Vec::new();
    }
    let by = group.map_or_else(String::new, |group| format!("; producer group {group}"));
    vec![match (state, facts.transaction_ended) {
        (State::Stored | State::Deleted, _) => format!("committed{by}"),
        (State::TransactionRolledBack, _) => format!("ended without a message for consumers{by}"),
        (State::TransactionGivenUp, _) => {
            "given up: to send it after all, read it from TRANS_CHECK_MAX_TIME_TOPIC; to be asked again, use resumeCheckHalfMessage"
                .into()
        }
        (_, None) => format!("open, or ended so long ago that the end was not looked for{by}"),
        _ => format!("open: no op record names it{by}"),
    }]
}

fn trace_line(event: &TraceEvent, now_ms: i64) -> String {
    let outcome = |success: bool| if success { "success" } else { "failure" };
    let told = match &event.kind {
        TraceKind::Sent { success, cost_ms } => format!("sent: {} after {cost_ms} ms", outcome(*success)),
        TraceKind::ConsumeBegins { retry_times: 0 } => "consumption begins".into(),
        TraceKind::ConsumeBegins { retry_times } => format!("consumption begins, retry {retry_times}"),
        TraceKind::ConsumeEnds { success, cost_ms } => format!("consumed: {} after {cost_ms} ms", outcome(*success)),
        TraceKind::TransactionEnds { state } => format!("transaction ended: {state}"),
        TraceKind::Recalled { success } => format!("recall: {}", outcome(*success)),
    };
    format!(
        "{} ({}) {}: {told}",
        time(event.time_ms),
        ago(now_ms, event.time_ms),
        event.group
    )
}

fn not_asked(facts: &Facts) -> Vec<String> {
    let mut lines = facts.searched.failures.clone();
    if facts.searched.topics_left_out > 0 {
        lines.push(format!(
            "{} topics beyond the first {}",
            facts.searched.topics_left_out,
            facts.searched.topics.len()
        ));
    }
    lines
}
