//! Everything beside log, queues and index: timers, half messages, tables below `config`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use oxmq_protocol::record::RecordRef;
use oxmq_protocol::{json, topic};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::queue_pass::Ends;
use super::repair::Plan;
use super::report::{DelayLevel, GroupLag, HalfSurvey, Problem, ProblemKind, Survey, TimerSurvey};
use super::{OfflineError, OfflineStore};
use crate::checkpoint::Checkpoint;
use crate::segments::parse_offset_name;
use crate::timer::offline as timer;

/// Half messages without an end.
#[derive(Default)]
pub(super) struct Halves {
    stored: u64,
    open: BTreeSet<i64>,
}

impl Halves {
    pub(super) fn stored(&mut self, record: &RecordRef<'_>) {
        self.stored += 1;
        self.open.insert(record.queue_offset());
    }

    /// An op record: the queue offsets of half messages that have ended, each followed by a comma.
    pub(super) fn ended(&mut self, record: &RecordRef<'_>) {
        let offsets = record.body().split(|byte| *byte == b',');
        for offset in offsets.filter_map(|text| std::str::from_utf8(text).ok()?.trim().parse().ok()) {
            self.open.remove(&offset);
        }
    }

    pub(super) fn survey(&self, ends: &Ends) -> HalfSurvey {
        let min = ends.get(topic::TRANS_HALF_TOPIC).and_then(|queues| queues.get(&0));
        let min = min.map_or(0, |(min, _)| *min);
        HalfSurvey {
            stored: self.stored,
            open: self.open.range(min..).count() as u64,
        }
    }
}

#[derive(Deserialize)]
struct ConsumerOffsets {
    #[serde(rename = "offsetTable")]
    table: BTreeMap<String, BTreeMap<String, i64>>,
}

#[derive(Deserialize)]
struct DelayOffsets {
    #[serde(rename = "offsetTable")]
    table: BTreeMap<String, i64>,
}

pub(super) fn survey(
    store: &OfflineStore,
    _checkpoint: Option<&Checkpoint>,
    ends: &Ends,
    survey: &mut Survey,
    plan: &mut Plan,
) -> Result<(), OfflineError> {
    let folder = store.config.root.join("config");
    tables(store, &folder, survey, plan)?;
    if let Some(offsets) = table::<ConsumerOffsets>(store, &folder.join("consumerOffset.json"))? {
        groups(&offsets, ends, survey);
    }
    if let Some(offsets) = table::<DelayOffsets>(store, &folder.join("delayOffset.json"))? {
        for (level, queue_offset) in offsets.table {
            let Ok(level) = level.parse::<i32>() else {
                continue;
            };
            let queue = ends
                .get(topic::SCHEDULE_TOPIC)
                .and_then(|queues| queues.get(&(level - 1)));
            survey.delay_levels.push(DelayLevel {
                level,
                queue_offset,
                waiting: queue.map_or(0, |(_, max)| max - queue_offset).max(0),
            });
        }
        survey.delay_levels.sort_by_key(|level| level.level);
    }
    timers(store, survey)
}

fn groups(offsets: &ConsumerOffsets, ends: &Ends, survey: &mut Survey) {
    let mut lags: BTreeMap<(String, String), GroupLag> = BTreeMap::new();
    for (key, queues) in &offsets.table {
        let Some((topic, group)) = key.split_once('@') else {
            continue;
        };
        let lag = lags
            .entry((group.to_owned(), topic.to_owned()))
            .or_insert_with(|| GroupLag {
                group: group.to_owned(),
                topic: topic.to_owned(),
                queues: 0,
                lag: 0,
            });
        for (queue_id, queue_offset) in queues {
            lag.queues += 1;
            let queue_id = queue_id.parse::<i32>().unwrap_or(-1);
            if let Some((min, max)) = ends.get(topic).and_then(|queues| queues.get(&queue_id)) {
                lag.lag += (max - queue_offset.max(min)).max(0);
            }
        }
    }
    survey.groups = lags.into_values().collect();
}

fn table<T: DeserializeOwned>(store: &OfflineStore, path: &Path) -> Result<Option<T>, OfflineError> {
    for suffix in ["", ".bak"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let bytes = store.read(Path::new(&name))?;
        if let Some(table) = bytes.and_then(|bytes| json::from_slice(&bytes).ok()) {
            return Ok(Some(table));
        }
    }
    Ok(None)
}

/// Every table below `config` can be read, or the version before can.
fn tables(store: &OfflineStore, folder: &Path, survey: &mut Survey, plan: &mut Plan) -> Result<(), OfflineError> {
    let is_table = |name: &str| name.ends_with(".json") || name == "timermetrics" || name == "transactionMetrics";
    let mut names = BTreeSet::new();
    for entry in store.list(folder)?.into_iter().filter(|entry| !entry.is_dir) {
        let name = entry.name.strip_suffix(".bak").unwrap_or(&entry.name);
        if is_table(name) {
            names.insert(name.to_owned());
        }
    }
    for name in names {
        let path = folder.join(&name);
        let is_usable = |bytes: &Vec<u8>| json::from_slice::<IgnoredAny>(bytes).is_ok();
        let bytes = store.read(&path)?;
        if bytes.as_ref().is_some_and(is_usable) {
            continue;
        }
        let backup = store.read(&folder.join(format!("{name}.bak")))?;
        let has_backup = backup.as_ref().is_some_and(is_usable);
        let state = if bytes.is_some() {
            "cannot be read"
        } else {
            "is missing"
        };
        let what = match has_backup {
            true => format!("{state}; {name}.bak can be read and is used instead"),
            false => format!("{state}, and so is {name}.bak: a broker starts without it"),
        };
        if has_backup {
            plan.tables.push(path.clone());
        }
        survey.add(Problem::new(ProblemKind::Table, path.display().to_string(), what));
    }
    Ok(())
}

fn timers(store: &OfflineStore, survey: &mut Survey) -> Result<(), OfflineError> {
    let mut timers = TimerSurvey::default();
    if let Some(bytes) = store.read(&store.config.root.join("config/timercheck"))?
        && let Some(progress) = timer::progress(&bytes)
    {
        timers.read_ms = progress.read_ms;
        timers.queue_offset = progress.queue_offset;
    }
    let dir = store.config.root.join("timerlog");
    let mut bad = Vec::new();
    let mut is_first = true;
    for entry in store.list(&dir)?.into_iter().filter(|entry| !entry.is_dir) {
        let Some(base) = parse_offset_name(&entry.name) else {
            continue;
        };
        let bytes = store.read(&dir.join(&entry.name))?.unwrap_or_default();
        let found = timer::scan(&bytes, base);
        if is_first {
            timers.log_min = base;
        }
        is_first = false;
        timers.log_end = found.end;
        for unit in found.units {
            timers.units += 1;
            if unit.due_ms >= timers.read_ms && !unit.moves_on {
                timers.pending += 1;
                let next = timers.next_due_ms.unwrap_or(i64::MAX).min(unit.due_ms);
                timers.next_due_ms = Some(next);
            }
            if unit.physical_offset + i64::from(unit.size) > survey.log.end {
                bad.push((
                    entry.name.clone(),
                    unit.position,
                    "stands for a record behind the end of the log",
                ));
            }
        }
        if let Some(position) = found.damaged {
            bad.push((entry.name.clone(), position, "is damaged"));
        }
    }
    if survey.clean_stop {
        for (name, position, what) in bad {
            let file = dir.join(name).display().to_string();
            let what = format!("the unit {what}");
            survey.add(Problem::new(ProblemKind::Timer, file, what).at(position));
        }
    }
    survey.timers = timers;
    Ok(())
}
