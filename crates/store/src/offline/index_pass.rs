//! Index files beside the log. Both are in the order of the log, so that one pass compares them.

use std::path::PathBuf;

use oxmq_protocol::record::RecordRef;

use super::repair::{FILLER_TOPIC, Plan};
use super::report::{IndexSurvey, Problem, ProblemKind, Survey};
use super::{OfflineError, OfflineStore, at};
use crate::disk::MappedRegion;
use crate::dispatch;
use crate::index_file::{IndexEntry, IndexHeader, IndexShape, key_hash, topic_hash};

pub(super) struct IndexPass {
    files: Vec<File>,
    shape: IndexShape,
    log_min: i64,
    /// The entry that comes next: file and number.
    file: usize,
    number: i32,
}

struct File {
    path: PathBuf,
    map: Box<dyn MappedRegion>,
    header: IndexHeader,
    /// Entries that are not those of a record, keys without an entry.
    wrong: u64,
    missing: u64,
}

impl IndexPass {
    pub(super) fn new(store: &OfflineStore, survey: &mut Survey) -> Result<IndexPass, OfflineError> {
        let shape = IndexShape {
            slots: store.config.index_slots,
            entries: store.config.index_entries.max(2),
        };
        let dir = store.config.root.join("index");
        let mut files = Vec::new();
        for entry in store.list(&dir)?.into_iter().filter(|entry| !entry.is_dir) {
            let path = dir.join(&entry.name);
            if entry.len != shape.file_bytes() {
                // Of other settings than these: a broker with these makes it anew.
                continue;
            }
            let map = store.disk.map(&path).map_err(at(&path))?;
            let header = IndexHeader::decode(map.bytes());
            survey.index.push(IndexSurvey {
                file: entry.name,
                entries: i64::from(header.count) - 1,
                begin_timestamp: header.begin_timestamp,
                end_timestamp: header.end_timestamp,
                begin_physical_offset: header.begin_physical_offset,
                end_physical_offset: header.end_physical_offset,
            });
            files.push(File {
                path,
                map,
                header,
                wrong: 0,
                missing: 0,
            });
        }
        Ok(IndexPass {
            files,
            shape,
            log_min: store.log_min(),
            file: 0,
            number: 1,
        })
    }

    /// The next entry that was not looked at.
    fn next(&mut self) -> Option<IndexEntry> {
        loop {
            let file = self.files.get(self.file)?;
            if self.number < file.header.count.min(self.shape.entries as i32) {
                return Some(IndexEntry::read(file.map.bytes(), &self.shape, self.number));
            }
            self.file += 1;
            self.number = 1;
        }
    }

    /// The entry after the next one of the same file lies before it: it is the next one that is wrong.
    fn is_out_of_order(&self, entry: &IndexEntry) -> bool {
        let file = &self.files[self.file];
        let following = self.number + 1;
        following < file.header.count.min(self.shape.entries as i32)
            && IndexEntry::read(file.map.bytes(), &self.shape, following).physical_offset < entry.physical_offset
    }

    /// Passes over the entries of records that are damaged.
    pub(super) fn skip_to(&mut self, physical_offset: i64) {
        while self.next().is_some_and(|entry| entry.physical_offset < physical_offset) {
            self.number += 1;
        }
    }

    pub(super) fn record(&mut self, record: &RecordRef<'_>, is_behind: bool, survey: &mut Survey, _plan: &mut Plan) {
        let Ok(topic) = std::str::from_utf8(record.topic()) else {
            return;
        };
        let position = record.physical_offset();
        if record.topic() == FILLER_TOPIC {
            return self.skip_to(position + record.total_size() as i64);
        }
        let (mut hashes, topic_hash) = (Vec::new(), topic_hash(topic));
        dispatch::keys(record, |key| hashes.push(key_hash(topic_hash, key)));
        let before = survey
            .index
            .first()
            .map_or(i64::MAX, |first| first.begin_physical_offset);
        while let Some(entry) = self.next() {
            if entry.physical_offset > position && !self.is_out_of_order(&entry) {
                break;
            }
            let file = &mut self.files[self.file];
            let seconds = (record.store_timestamp() - file.header.begin_timestamp) / 1000;
            if entry.physical_offset == position {
                // Java 5.5.0 enters tags too, as other keys: an entry too many is none that is wrong.
                if let Some(index) = hashes.iter().position(|hash| *hash == entry.hash) {
                    hashes.swap_remove(index);
                }
                let is_of_then = i64::from(entry.seconds) == seconds.clamp(0, i64::from(i32::MAX));
                // Java counts the time of the first entry from the end of the file before.
                file.wrong += u64::from(!is_of_then && self.number > 1);
            } else if entry.physical_offset >= self.log_min {
                file.wrong += 1;
            }
            self.number += 1;
        }
        if !hashes.is_empty() && !is_behind && position >= before {
            let at = self.file.min(self.files.len().saturating_sub(1));
            if let Some(file) = self.files.get_mut(at) {
                file.missing += hashes.len() as u64;
            }
        }
    }

    pub(super) fn finish(mut self, survey: &mut Survey, plan: &mut Plan) -> Result<(), OfflineError> {
        while survey.clean_stop && self.next().is_some() {
            self.files[self.file].wrong += 1;
            self.number += 1;
        }
        for file in &self.files {
            let chains = match survey.clean_stop {
                true => file.wrong_chains(&self.shape),
                // The next start makes the table of the newest file anew.
                false => 0,
            };
            if file.wrong + file.missing + chains == 0 {
                continue;
            }
            let what = format!(
                "{} entries are not those of a record, {} keys have no entry, {chains} slots or chains lead elsewhere",
                file.wrong, file.missing
            );
            survey.add(Problem::new(ProblemKind::Index, file.path.display().to_string(), what));
        }
        plan.rebuild_index = survey.problems.iter().any(|problem| problem.kind == ProblemKind::Index);
        Ok(())
    }
}

impl File {
    /// Slots that do not name their newest entry, and entries that do not name the one before.
    fn wrong_chains(&self, shape: &IndexShape) -> u64 {
        let bytes = self.map.bytes();
        let mut newest = vec![0i32; shape.slots as usize];
        let mut wrong = 0;
        for number in 1..self.header.count.min(shape.entries as i32) {
            let entry = IndexEntry::read(bytes, shape, number);
            let slot = &mut newest[entry.hash.unsigned_abs() as usize % shape.slots as usize];
            wrong += u64::from(entry.previous != *slot);
            *slot = number;
        }
        let slots = newest.iter().enumerate();
        wrong += slots
            .filter(|(slot, newest)| {
                let found = shape.slot(bytes, *slot);
                found != **newest
            })
            .count() as u64;
        wrong
    }
}
