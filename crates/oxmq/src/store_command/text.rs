//! A survey in words.

use std::fmt::Display;
use std::io::{self, Write};

use jiff::{Timestamp, Zoned};
use oxmq_store::offline::{ProblemKind, Survey};

/// Problems shown of each kind.
const SHOWN_MAX: usize = 20;

pub(super) fn write(out: &mut impl Write, survey: &Survey) -> io::Result<()> {
    writeln!(out, "{}", survey.root)?;
    let stop = if survey.clean_stop {
        "in order"
    } else {
        "not in order: the next start recovers"
    };
    let writer = match survey.writer {
        oxmq_store::offline::Writer::Nobody => "nobody",
        oxmq_store::offline::Writer::Java4 => "RocketMQ 4 (Java)",
        oxmq_store::offline::Writer::Java5 => "RocketMQ 5 (Java)",
        oxmq_store::offline::Writer::OxMq => "OxMQ",
    };
    field(out, "last used by", format!("{writer}, stopped {stop}"))?;
    let log = &survey.log;
    field(
        out,
        "commit log",
        format!(
            "{} files of {} bytes, {} to {}",
            log.files, log.file_bytes, log.min, log.end
        ),
    )?;
    let [none, prepared, commit, rollback] = log.by_transaction;
    field(
        out,
        "records",
        format!(
            "{} of {} bytes; {none} plain, {prepared} prepared, {commit} committed, {rollback} rolled back",
            log.records, log.record_bytes
        ),
    )?;
    if log.records > 0 {
        let (first, last) = (log.first_store_timestamp, log.last_store_timestamp);
        field(out, "stored", format!("{} to {}", time(first), time(last)))?;
    }
    if log.to_be_replayed > 0 {
        let what = format!(
            "{} records get their queue entries at the next start",
            log.to_be_replayed
        );
        field(out, "left to do", what)?;
    }
    if let Some(checkpoint) = &survey.checkpoint {
        let position = checkpoint.recovery_position;
        let position = position.map_or(String::new(), |position| format!(", recovery from {position}"));
        let flushed = time(checkpoint.physic_msg_timestamp);
        field(out, "checkpoint", format!("on disk up to {flushed}{position}"))?;
    }
    for file in &survey.index {
        let times = format!("{} to {}", time(file.begin_timestamp), time(file.end_timestamp));
        field(
            out,
            "index",
            format!("{}: {} entries, {times}", file.file, file.entries),
        )?;
    }
    let timers = &survey.timers;
    if timers.units > 0 {
        let next = timers
            .next_due_ms
            .map_or(String::new(), |due| format!(", the next due {}", time(due)));
        field(
            out,
            "timers",
            format!("{} waiting of {} in the timer log{next}", timers.pending, timers.units),
        )?;
    }
    for level in survey.delay_levels.iter().filter(|level| level.waiting > 0) {
        let what = format!("{} waiting from queue offset {} on", level.waiting, level.queue_offset);
        field(out, &format!("delay level {}", level.level), what)?;
    }
    if survey.half.stored > 0 {
        let what = format!(
            "{} half messages, {} without an end",
            survey.half.stored, survey.half.open
        );
        field(out, "transactions", what)?;
    }
    write_topics(out, survey)?;
    write_groups(out, survey)?;
    writeln!(out)?;
    write_problems(out, survey)
}

fn write_topics(out: &mut impl Write, survey: &Survey) -> io::Result<()> {
    if survey.topics.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\n  {:<40} {:>6} {:>14} {:>14}",
        "topic", "queue", "min offset", "max offset"
    )?;
    for topic in &survey.topics {
        for queue in &topic.queues {
            writeln!(
                out,
                "  {:<40} {:>6} {:>14} {:>14}",
                topic.topic, queue.queue_id, queue.min_offset, queue.max_offset
            )?;
        }
    }
    Ok(())
}

fn write_groups(out: &mut impl Write, survey: &Survey) -> io::Result<()> {
    if survey.groups.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\n  {:<30} {:<30} {:>6} {:>14}",
        "group", "topic", "queues", "behind"
    )?;
    for group in &survey.groups {
        writeln!(
            out,
            "  {:<30} {:<30} {:>6} {:>14}",
            group.group, group.topic, group.queues, group.lag
        )?;
    }
    Ok(())
}

/// Problems by kind, each with what a repair does about it.
pub(super) fn write_problems(out: &mut impl Write, survey: &Survey) -> io::Result<()> {
    if survey.problem_count == 0 {
        return writeln!(out, "No problems.");
    }
    writeln!(out, "{} problems.", survey.problem_count)?;
    let mut kinds: Vec<ProblemKind> = survey.problems.iter().map(|problem| problem.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    for kind in kinds {
        writeln!(out, "\n{} - repair: {}", title(kind), kind.remedy())?;
        let of_kind = || survey.problems.iter().filter(|problem| problem.kind == kind);
        for problem in of_kind().take(SHOWN_MAX) {
            let file = problem.file.strip_prefix(&survey.root).unwrap_or(&problem.file);
            write!(out, "  {}", file.trim_start_matches('/'))?;
            if let Some(offset) = problem.offset {
                write!(out, " at {offset}")?;
            }
            if let (Some(topic), Some(queue_id), Some(offset)) =
                (&problem.topic, problem.queue_id, problem.queue_offset)
            {
                write!(out, ", topic {topic} queue {queue_id} offset {offset}")?;
            }
            writeln!(out, ": {}", problem.what)?;
        }
        let more = of_kind().count().saturating_sub(SHOWN_MAX);
        if more > 0 {
            writeln!(out, "  … and {more} more; --json names up to 1000")?;
        }
    }
    Ok(())
}

fn title(kind: ProblemKind) -> &'static str {
    match kind {
        ProblemKind::DamagedRecord => "Damaged records",
        ProblemKind::ChangedBytes => "Changed bytes",
        ProblemKind::LogGap => "Gaps of the commit log",
        ProblemKind::LogFile => "Commit log files",
        ProblemKind::QueueEntry => "Consume queue entries",
        ProblemKind::MissingEntry => "Records without consume queue entry",
        ProblemKind::QueueFile => "Consume queue files",
        ProblemKind::Index => "Index files",
        ProblemKind::Checkpoint => "Checkpoint",
        ProblemKind::Timer => "Timer log",
        ProblemKind::Table => "Tables",
    }
}

fn field(out: &mut impl Write, name: &str, value: impl Display) -> io::Result<()> {
    writeln!(out, "  {name:<14} {value}")
}

/// Local time to the second.
pub(super) fn time(timestamp_ms: i64) -> String {
    let timestamp = Timestamp::from_millisecond(timestamp_ms).unwrap_or_default();
    let local = timestamp.to_zoned(jiff::tz::TimeZone::system());
    local.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// For the name of a folder.
pub(super) fn compact_time() -> String {
    Zoned::now().strftime("%Y%m%d-%H%M%S").to_string()
}
