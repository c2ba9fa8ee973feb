//! Consume queues beside the log: each record against its entries, then each queue for entries without a record.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use hashbrown::HashMap;
use oxmq_protocol::json;
use oxmq_protocol::record::RecordRef;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::repair::Plan;
use super::report::{Problem, ProblemKind, QueueSurvey, Survey, TopicSurvey};
use super::{OfflineError, OfflineStore, at};
use crate::commit_log::read_record;
use crate::consume_queue::Entry;
use crate::dispatch::{self, Place};
use crate::segments::{offset_name, parse_offset_name};
use crate::unit::{QueueKind, Unit};

/// Units read at once.
const BLOCK_UNITS: i64 = 200;
/// Blocks kept in memory: 64 MB.
const BLOCKS_MAX: usize = 16_384;
/// So many absent units in a row are the end of a queue.
const ABSENT_UNITS_MAX: i64 = 4_096;

/// Bounds of a queue: topic and queue id to the first and the next queue offset.
pub(super) type Ends = HashMap<String, BTreeMap<i32, (i64, i64)>>;

pub(super) struct QueuePass {
    topics: BTreeMap<String, BTreeMap<i32, Queue>>,
    /// Topics that exist; nothing when nobody knows.
    known: Option<HashSet<String>>,
    blocks: HashMap<(usize, i64), Vec<u8>>,
    /// Number of queues so far.
    serials: usize,
}

struct Queue {
    /// Names it in the table of blocks.
    serial: usize,
    kind: QueueKind,
    dir: PathBuf,
    /// Start positions of its files.
    files: Vec<u64>,
    file_bytes: u64,
    /// The next unit, of a queue of batches.
    next_unit: i64,
    /// Units that records say are theirs.
    claimed: Option<(i64, i64)>,
    /// Queue offsets of records without an entry: first, last, number.
    missing: Option<(i64, i64, u64)>,
    /// Entries that are no record's: queue offset of the first, number.
    unclaimed: Option<(i64, u64)>,
    problems: Vec<Problem>,
    patches: Vec<(i64, Unit)>,
    min_offset: i64,
    max_offset: i64,
}

#[derive(Deserialize)]
struct Topics {
    #[serde(rename = "topicConfigTable")]
    table: BTreeMap<String, IgnoredAny>,
}

impl QueuePass {
    pub(super) fn new(store: &OfflineStore, survey: &mut Survey) -> Result<QueuePass, OfflineError> {
        let topics = store.read(&store.config.root.join("config/topics.json"))?;
        let topics = topics.and_then(|bytes| json::from_slice::<Topics>(&bytes).ok());
        let mut pass = QueuePass {
            topics: BTreeMap::new(),
            known: topics.map(|topics| topics.table.into_keys().collect()),
            blocks: HashMap::new(),
            serials: 0,
        };
        for kind in QueueKind::ALL {
            let root = store.config.root.join(kind.directory());
            for topic in store.list(&root)?.into_iter().filter(|entry| entry.is_dir) {
                let dir = root.join(&topic.name);
                for queue in store.list(&dir)?.into_iter().filter(|entry| entry.is_dir) {
                    let Ok(queue_id) = queue.name.parse::<i32>() else {
                        continue;
                    };
                    let mut found = Queue::new(store, pass.serials, kind, dir.join(&queue.name));
                    found.list_files(store, survey)?;
                    pass.serials += 1;
                    pass.topics
                        .entry(topic.name.clone())
                        .or_default()
                        .insert(queue_id, found);
                }
            }
        }
        Ok(pass)
    }

    /// Compares a record with its entries. False when it has none yet and need not have.
    pub(super) fn record(
        &mut self,
        store: &OfflineStore,
        record: &RecordRef<'_>,
        is_behind: bool,
        survey: &mut Survey,
        plan: &mut Plan,
    ) -> Result<bool, OfflineError> {
        let mut outcome = Ok(true);
        dispatch::places(record, |place| {
            if let Ok(entered) = outcome {
                outcome = self
                    .place(store, record, &place, is_behind, survey, plan)
                    .map(|now| now && entered);
            }
        });
        outcome
    }

    fn place(
        &mut self,
        store: &OfflineStore,
        record: &RecordRef<'_>,
        place: &Place<'_>,
        is_behind: bool,
        _survey: &mut Survey,
        plan: &mut Plan,
    ) -> Result<bool, OfflineError> {
        let serial = self.serials;
        let is_known = self.known.as_ref().is_none_or(|known| known.contains(place.topic));
        if !self.topics.contains_key(place.topic) {
            if is_behind || !place.is_own || !is_known {
                return Ok(!is_behind);
            }
            self.topics.insert(place.topic.to_owned(), BTreeMap::new());
        }
        let queues = self.topics.get_mut(place.topic).expect("it was just made sure of");
        if !queues.contains_key(&place.queue_id) {
            if is_behind {
                return Ok(false);
            }
            let kind = queues.values().next().map_or(QueueKind::Simple, |queue| queue.kind);
            let dir = store.config.root.join(kind.directory()).join(place.topic);
            let dir = dir.join(place.queue_id.to_string());
            queues.insert(place.queue_id, Queue::new(store, serial, kind, dir));
            self.serials += 1;
        }
        let queue = queues.get_mut(&place.queue_id).expect("it was just made sure of");
        let unit = Unit {
            entry: Entry {
                physical_offset: record.physical_offset(),
                size: record.total_size() as i32,
                tags_code: dispatch::tags_code(record).resolve(record.store_timestamp(), &store.config.delay_levels_ms),
            },
            store_timestamp: record.store_timestamp(),
            queue_offset: place.queue_offset,
            count: place.count,
        };
        let number = match queue.kind {
            QueueKind::Simple => place.queue_offset,
            QueueKind::Batch => queue.next_unit,
        };
        if queue.claimed.is_some_and(|(_, last)| number <= last) {
            // The topic was deleted and made again: what lies before is nobody's.
            queue.problems.clear();
            queue.patches.clear();
            (queue.claimed, queue.missing) = (None, None);
        }
        queue.claimed = Some((queue.claimed.map_or(number, |(first, _)| first), number));
        let found = queue.unit(store, &mut self.blocks, number)?;
        if queue.kind == QueueKind::Batch {
            queue.next_unit += 1;
        }
        if let Some(found) = found
            && is_same(queue.kind, &found, &unit)
        {
            return Ok(true);
        }
        if is_behind {
            return Ok(false);
        }
        match found {
            Some(found) if found.is_present() && !found.entry.is_filler() => {
                if found.entry.physical_offset > unit.entry.physical_offset && is_of_newer(store, &found, place)? {
                    return Ok(true);
                }
                let what = difference(&found, &unit);
                let file = queue.file_of(number);
                let at = number * queue.kind.unit_bytes() as i64 % queue.file_bytes as i64;
                let problem = Problem::new(ProblemKind::QueueEntry, file, what).at(at);
                queue
                    .problems
                    .push(problem.of_queue(place.topic, place.queue_id, place.queue_offset));
            }
            _ => {
                let (first, _, count) = queue.missing.unwrap_or((place.queue_offset, 0, 0));
                queue.missing = Some((first, place.queue_offset, count + 1));
            }
        }
        if plan.has_room() {
            plan.units += 1;
            queue.patches.push((number, unit));
        }
        Ok(true)
    }

    /// Looks at each queue as a whole.
    pub(super) fn finish(&mut self, survey: &mut Survey, plan: &mut Plan) -> Result<(), OfflineError> {
        for (topic, queues) in &mut self.topics {
            let mut shown = Vec::new();
            for (queue_id, queue) in queues {
                for problem in queue.problems.drain(..) {
                    survey.add(problem);
                }
                if let Some((first, last, count)) = queue.missing {
                    let what = format!("{count} records at queue offsets {first} to {last} have no entry");
                    let problem = Problem::new(ProblemKind::MissingEntry, queue.dir.display().to_string(), what);
                    survey.add(problem.of_queue(topic, *queue_id, first));
                }
                if let Some((number, entries)) = queue.unclaimed {
                    let what = format!("{entries} entries from {number} on stand for no record of the log");
                    let problem = Problem::new(ProblemKind::QueueEntry, queue.dir.display().to_string(), what);
                    survey.add(problem.of_queue(topic, *queue_id, number));
                }
                if !queue.patches.is_empty() {
                    let patches = std::mem::take(&mut queue.patches);
                    plan.queues.insert((topic.clone(), *queue_id), (queue.kind, patches));
                }
                shown.push(QueueSurvey {
                    queue_id: *queue_id,
                    kind: match queue.kind {
                        QueueKind::Simple => "SimpleCQ",
                        QueueKind::Batch => "BatchCQ",
                    },
                    files: queue.files.len(),
                    min_offset: queue.min_offset,
                    max_offset: queue.max_offset,
                });
            }
            survey.topics.push(TopicSurvey {
                topic: topic.clone(),
                queues: shown,
            });
        }
        Ok(())
    }

    /// Reads each queue from end to end: its bounds, and entries that no record claims.
    pub(super) fn bounds(&mut self, store: &OfflineStore, replays: bool, plan: &mut Plan) -> Result<(), OfflineError> {
        for queue in self.topics.values_mut().flat_map(BTreeMap::values_mut) {
            queue.find_bounds(store, &mut self.blocks, replays, &plan.damaged)?;
        }
        Ok(())
    }

    pub(super) fn into_ends(self) -> Ends {
        let topics = self.topics.into_iter();
        topics
            .map(|(topic, queues)| {
                let ends = queues.into_iter();
                let ends = ends.map(|(queue_id, queue)| (queue_id, (queue.min_offset, queue.max_offset)));
                (topic, ends.collect())
            })
            .collect()
    }
}

impl Queue {
    fn new(store: &OfflineStore, serial: usize, kind: QueueKind, dir: PathBuf) -> Queue {
        Queue {
            serial,
            kind,
            dir,
            files: Vec::new(),
            file_bytes: store.queue_file_bytes(kind),
            next_unit: 0,
            claimed: None,
            missing: None,
            unclaimed: None,
            problems: Vec::new(),
            patches: Vec::new(),
            min_offset: 0,
            max_offset: 0,
        }
    }

    fn list_files(&mut self, store: &OfflineStore, survey: &mut Survey) -> Result<(), OfflineError> {
        let mut next = None;
        for entry in store.list(&self.dir)? {
            let path = self.dir.join(&entry.name).display().to_string();
            let Some(base) = parse_offset_name(&entry.name).filter(|_| !entry.is_dir) else {
                survey.add(Problem::new(
                    ProblemKind::QueueFile,
                    path,
                    "is no file of a consume queue",
                ));
                continue;
            };
            let base = base as u64;
            if entry.len != self.file_bytes && (entry.len > 0 || survey.clean_stop) {
                let what = format!("has {} bytes, others have {}", entry.len, self.file_bytes);
                survey.add(Problem::new(ProblemKind::QueueFile, &*path, what));
            }
            if next.is_some_and(|next| next != base) {
                survey.add(Problem::new(
                    ProblemKind::QueueFile,
                    path,
                    "the files before it are missing",
                ));
            }
            next = Some(base + self.file_bytes);
            self.files.push(base);
        }
        let first = self
            .files
            .first()
            .map_or(0, |base| (base / self.kind.unit_bytes() as u64) as i64);
        self.next_unit = first;
        Ok(())
    }

    fn file_of(&self, number: i64) -> String {
        let position = number as u64 * self.kind.unit_bytes() as u64;
        let base = position - position % self.file_bytes;
        self.dir.join(offset_name(base as i64)).display().to_string()
    }

    /// The unit with this number, if there is a file for it.
    fn unit(
        &self,
        store: &OfflineStore,
        blocks: &mut HashMap<(usize, i64), Vec<u8>>,
        number: i64,
    ) -> Result<Option<Unit>, OfflineError> {
        if number < 0 {
            return Ok(None);
        }
        let unit_bytes = self.kind.unit_bytes() as u64;
        let position = number as u64 * unit_bytes;
        let base = position - position % self.file_bytes;
        if self.files.binary_search(&base).is_err() {
            return Ok(None);
        }
        let block = number / BLOCK_UNITS;
        let first = (block * BLOCK_UNITS).max((base / unit_bytes) as i64);
        // A block ends with its file: where files are short, the key is the unit that it begins with.
        let key = (self.serial, first);
        if !blocks.contains_key(&key) {
            if blocks.len() >= BLOCKS_MAX {
                blocks.clear();
            }
            let start = first as u64 * unit_bytes;
            let end = ((block + 1) * BLOCK_UNITS) as u64 * unit_bytes;
            let mut bytes = vec![0; (end.min(base + self.file_bytes) - start) as usize];
            let path = self.dir.join(offset_name(base as i64));
            let file = store.disk.open(&path).map_err(at(&path))?;
            let read = file.read_at(&mut bytes, start - base).map_err(at(&path))?;
            bytes[read..].fill(0);
            blocks.insert(key, bytes);
        }
        let bytes = &blocks[&key];
        let within = (number - first) as usize * self.kind.unit_bytes();
        let bytes = &bytes[within..within + self.kind.unit_bytes()];
        Ok(Some(self.kind.decode(number, bytes)))
    }

    fn find_bounds(
        &mut self,
        store: &OfflineStore,
        blocks: &mut HashMap<(usize, i64), Vec<u8>>,
        replays: bool,
        damaged: &[(i64, i64)],
    ) -> Result<(), OfflineError> {
        let log_min = store.log_min();
        let Some(first) = self
            .files
            .first()
            .map(|base| (base / self.kind.unit_bytes() as u64) as i64)
        else {
            return Ok(());
        };
        let (mut number, mut absent) = (first, 0);
        let (mut min, mut last) = (None, None);
        while absent < ABSENT_UNITS_MAX {
            let Some(unit) = self.unit(store, blocks, number)? else {
                break;
            };
            let is_claimed = self
                .claimed
                .is_some_and(|(first, last)| (first..=last).contains(&number));
            if !unit.is_present() {
                absent += 1;
            } else {
                absent = 0;
                if !unit.entry.is_filler() && is_within(damaged, unit.entry.physical_offset) {
                    // What takes the place of the damage is no message of this queue.
                    let entry = Entry::FILLER;
                    self.patches.push((number, Unit { entry, ..unit }));
                } else if !unit.entry.is_filler() && unit.entry.physical_offset >= log_min {
                    min.get_or_insert(unit.queue_offset);
                    if !is_claimed && !replays {
                        let (from, count) = self.unclaimed.unwrap_or((unit.queue_offset, 0));
                        self.unclaimed = Some((from, count + 1));
                    }
                }
                last = Some(unit);
            }
            number += 1;
        }
        self.max_offset = last.map_or(first, |unit: Unit| unit.end_offset());
        self.min_offset = min.unwrap_or(self.max_offset);
        Ok(())
    }
}

fn is_within(stretches: &[(i64, i64)], physical_offset: i64) -> bool {
    let after = stretches.partition_point(|(from, _)| *from <= physical_offset);
    after > 0 && physical_offset < stretches[after - 1].1
}

fn is_same(kind: QueueKind, found: &Unit, wanted: &Unit) -> bool {
    match kind {
        QueueKind::Simple => found.entry == wanted.entry,
        QueueKind::Batch => found == wanted,
    }
}

/// The entry belongs to a record with the same queue offset that was stored later: the topic was made again.
fn is_of_newer(store: &OfflineStore, unit: &Unit, place: &Place<'_>) -> Result<bool, OfflineError> {
    let Some(segment) = store.segment_at(unit.entry.physical_offset) else {
        return Ok(false);
    };
    let bytes = read_record(segment, unit.entry.physical_offset, segment.end).map_err(at(&segment.path))?;
    let Some(record) = bytes.as_deref().and_then(|bytes| RecordRef::parse(bytes).ok()) else {
        return Ok(false);
    };
    let mut found = false;
    dispatch::places(&record, |other| {
        found |=
            other.topic == place.topic && other.queue_id == place.queue_id && other.queue_offset == place.queue_offset;
    });
    Ok(found && record.total_size() as i64 == i64::from(unit.entry.size))
}

fn difference(found: &Unit, wanted: &Unit) -> String {
    let (found_entry, entry) = (&found.entry, &wanted.entry);
    if found_entry.physical_offset != entry.physical_offset {
        return format!(
            "the entry points at {} instead of {}",
            found_entry.physical_offset, entry.physical_offset
        );
    }
    if found_entry.size != entry.size {
        return format!(
            "the entry says {} bytes, the record has {}",
            found_entry.size, entry.size
        );
    }
    if found_entry.tags_code != entry.tags_code {
        return format!(
            "the entry has the tags code {}, the record {}",
            found_entry.tags_code, entry.tags_code
        );
    }
    format!(
        "the unit says offset {} and {} messages, the record {} and {}",
        found.queue_offset, found.count, wanted.queue_offset, wanted.count
    )
}
