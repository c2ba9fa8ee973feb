//! Putting right what a survey has found.
//!
//! Nothing that is whole is ever removed or changed: derived files are written again from the log; what is bad is copied
//! or moved to a folder of its own before something else takes its place. A stop at any moment leaves a store that can
//! be repaired again.
//!
//! A stretch of the log that holds no record gets one of the same size without a message: it is marked as rolled back,
//! which neither broker enters into a queue. Without it the recovery of a Java broker would end the log there.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::BytesMut;
use oxmq_protocol::record::{self, RECORD_BYTES_MIN, RecordFields};
use oxmq_protocol::sys_flag;

use super::report::Survey;
use super::survey::Progress;
use super::{OfflineError, OfflineStore, at};
use crate::StoreFailure;
use crate::config_file::create_dir_durably;
use crate::consume_queue::ConsumeQueue;
use crate::queue_files::QueueFiles;
use crate::store::{MessageStore, StoreListener, take_lock};
use crate::unit::{Extent, QueueKind, Unit};

/// Units that one repair writes; for more it is called again.
const UNITS_MAX: usize = 4_000_000;
/// Records that stand for damage are no longer than this.
const FILLER_BYTES_MAX: i64 = 1 << 20;
/// Of records that stand for damage.
pub(super) const FILLER_TOPIC: &[u8] = b"OXMQ_DAMAGED";
const FILLER_BYTES_MIN: i64 = (RECORD_BYTES_MIN + FILLER_TOPIC.len()) as i64;

/// Units by their numbers, by topic and queue id.
type QueueUnits = BTreeMap<(String, i32), (QueueKind, Vec<(i64, Unit)>)>;

/// What a repair would do.
#[derive(Debug, Default)]
pub struct Plan {
    /// Bits of the log that were flipped: position and number.
    pub(super) flipped: Vec<(i64, u8)>,
    /// Stretches of the log that hold no record.
    pub(super) damaged: Vec<(i64, i64)>,
    /// Units to be written, by queue.
    pub(super) queues: QueueUnits,
    pub(super) units: usize,
    pub(super) rebuild_index: bool,
    pub(super) set_checkpoint_aside: bool,
    /// Tables whose version before can be used.
    pub(super) tables: Vec<PathBuf>,
}

impl Plan {
    pub(super) fn has_room(&self) -> bool {
        self.units < UNITS_MAX
    }

    pub fn is_empty(&self) -> bool {
        self.damaged.is_empty()
            && self.flipped.is_empty()
            && self.queues.is_empty()
            && !self.rebuild_index
            && !self.set_checkpoint_aside
            && self.tables.is_empty()
    }

    /// The steps in words, in their order.
    pub fn steps(&self) -> Vec<String> {
        let mut steps: Vec<String> = self
            .tables
            .iter()
            .map(|table| format!("{}: the version before takes its place", table.display()))
            .collect();
        for (position, bit) in &self.flipped {
            steps.push(format!("commit log, byte {position}: bit {bit} is flipped back"));
        }
        for (from, to) in &self.damaged {
            steps.push(format!(
                "commit log, {from} to {to}: the {} bytes are set aside, a record without a message takes their place",
                to - from
            ));
        }
        for ((topic, queue_id), (_, units)) in &self.queues {
            steps.push(format!(
                "consume queue {topic}/{queue_id}: {} entries are written from the log",
                units.len()
            ));
        }
        if self.rebuild_index {
            steps.push("index: the files are set aside and built again from the log".into());
        }
        if self.set_checkpoint_aside {
            steps.push("checkpoint: set aside".into());
        }
        if !steps.is_empty() {
            steps.push("the store is started once and stopped in order, as by a broker".into());
        }
        steps
    }
}

struct Silent;

impl StoreListener for Silent {
    fn arrived(&self, _queues: &[Arc<ConsumeQueue>]) {}
    fn flushed(&self, _flushed: i64) {}
    fn failed(&self, _why: &StoreFailure) {}
}

impl OfflineStore {
    /// Reads everything and says what a repair would do.
    pub fn plan(&self, progress: &mut dyn FnMut(Progress)) -> Result<(Survey, Plan), OfflineError> {
        self.survey_and_plan(progress)
    }

    /// Carries out a plan of this store. What is replaced goes to `aside`, a folder that does not exist yet.
    pub fn repair(mut self, plan: Plan, aside: &Path) -> Result<(), OfflineError> {
        let lock = match self.lock.take() {
            Some(lock) => lock,
            None => take_lock(&*self.disk, &self.config.root.join("lock"))?,
        };
        create_dir_durably(&*self.disk, aside).map_err(at(aside))?;
        for table in &plan.tables {
            self.restore_table(table, aside)?;
        }
        for (position, bit) in &plan.flipped {
            self.flip_back(*position, *bit)?;
        }
        for (from, to) in &plan.damaged {
            self.fill(*from, *to, aside)?;
        }
        self.write_units(plan.queues)?;
        if plan.rebuild_index {
            let dir = self.config.root.join("index");
            for entry in self.list(&dir)?.into_iter().filter(|entry| !entry.is_dir) {
                self.move_aside(&dir.join(entry.name), aside)?;
            }
        }
        if plan.set_checkpoint_aside {
            self.move_aside(&self.config.root.join("checkpoint"), aside)?;
        }
        self.disk.sync_dir(aside).map_err(at(aside))?;
        let config = self.start_config()?;
        let disk = Arc::clone(&self.disk);
        drop(self);
        drop(lock);
        let store = MessageStore::open(config, disk, Arc::new(Silent))?;
        // The index position of one call is in the checkpoint of the next.
        store.run_background_work();
        store.run_background_work();
        store.shutdown();
        Ok(())
    }

    fn restore_table(&self, table: &Path, aside: &Path) -> Result<(), OfflineError> {
        let mut backup = table.as_os_str().to_owned();
        backup.push(".bak");
        let bytes = self.read(Path::new(&backup))?.unwrap_or_default();
        if self.disk.exists(table) {
            self.move_aside(table, aside)?;
        }
        let mut temporary = table.as_os_str().to_owned();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        self.write_new(&temporary, &bytes)?;
        self.disk.rename(&temporary, table).map_err(at(table))?;
        let dir = table.parent().unwrap_or(Path::new("/"));
        self.disk.sync_dir(dir).map_err(at(dir))
    }

    fn write_new(&self, path: &Path, bytes: &[u8]) -> Result<(), OfflineError> {
        let file = self.disk.create(path).map_err(at(path))?;
        file.write_all_at(&[IoSlice::new(bytes)], 0).map_err(at(path))?;
        file.sync_data().map_err(at(path))
    }

    fn move_aside(&self, path: &Path, aside: &Path) -> Result<(), OfflineError> {
        let to = aside.join(path.file_name().unwrap_or_default());
        self.disk.rename(path, &to).map_err(at(path))?;
        self.disk.sync_dir(aside).map_err(at(aside))?;
        let dir = path.parent().unwrap_or(Path::new("/"));
        self.disk.sync_dir(dir).map_err(at(dir))
    }

    /// Puts records without a message where there is none, or a blank where the rest of a file is damaged.
    fn fill(&self, from: i64, to: i64, aside: &Path) -> Result<(), OfflineError> {
        let Some(segment) = self.segment_at(from) else {
            return Ok(());
        };
        let within = (from - segment.base) as u64;
        let mut bytes = vec![0; (to.min(segment.end) - from) as usize];
        let read = segment.file.read_at(&mut bytes, within).map_err(at(&segment.path))?;
        self.write_new(&aside.join(format!("commitlog-{from:020}")), &bytes[..read])?;
        self.disk.sync_dir(aside).map_err(at(aside))?;
        let store_timestamp = self.store_timestamp_before(segment.base, from)?;
        let filling = if to >= segment.end {
            record::blank((segment.end - from) as i32).to_vec()
        } else {
            fillers(from, to - from, store_timestamp)
        };
        segment
            .file
            .write_all_at(&[IoSlice::new(&filling)], within)
            .and_then(|()| segment.file.sync_data())
            .and_then(|()| self.checksums.reseal(segment, from, to))
            .map_err(at(&segment.path))
    }

    fn flip_back(&self, position: i64, bit: u8) -> Result<(), OfflineError> {
        let Some(segment) = self.segment_at(position) else {
            return Ok(());
        };
        let within = (position - segment.base) as u64;
        let mut byte = [0];
        segment.file.read_at(&mut byte, within).map_err(at(&segment.path))?;
        byte[0] ^= 1 << bit;
        let written = segment.file.write_all_at(&[IoSlice::new(&byte)], within);
        written
            .and_then(|()| segment.file.sync_data())
            .map_err(at(&segment.path))
    }

    /// Store timestamp of the last record of this file before a position, 1 if there is none.
    fn store_timestamp_before(&self, base: i64, position: i64) -> Result<i64, OfflineError> {
        let selection = super::records::Selection {
            from: Some(base),
            to: Some(position),
            ..Default::default()
        };
        let mut found = 1;
        self.records(&selection, &mut |record| {
            found = record.store_timestamp();
            std::ops::ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    fn write_units(&self, queues: QueueUnits) -> Result<(), OfflineError> {
        let files = QueueKind::ALL.map(|kind| {
            let file_bytes = self.queue_file_bytes(kind);
            QueueFiles::new(Arc::clone(&self.disk), &self.config.root, kind, file_bytes, 64)
        });
        for (serial, ((topic, queue_id), (kind, mut units))) in queues.into_iter().enumerate() {
            let files = match kind {
                QueueKind::Simple => &files[0],
                QueueKind::Batch => &files[1],
            };
            let queue = ConsumeQueue::new(topic.into(), queue_id, serial as u64, kind, Extent::default());
            units.sort_by_key(|(number, _)| *number);
            for run in units.chunk_by(|(a, _), (b, _)| a + 1 == *b) {
                let bytes: Vec<u8> = run
                    .iter()
                    .flat_map(|(_, unit)| match kind {
                        QueueKind::Simple => unit.entry.encode().to_vec(),
                        QueueKind::Batch => unit.encode().to_vec(),
                    })
                    .collect();
                files.write(&queue, run[0].0, &bytes).map_err(at(files.root()))?;
            }
        }
        files.iter().try_for_each(QueueFiles::sync).map_err(at(files[0].root()))
    }
}

/// Records without a message that take exactly so many bytes; nothing where no record is so short.
fn fillers(from: i64, bytes: i64, store_timestamp: i64) -> Vec<u8> {
    let mut out = BytesMut::new();
    let mut left = bytes;
    while left >= FILLER_BYTES_MIN {
        let size = match left {
            ..=FILLER_BYTES_MAX => left,
            _ if left - FILLER_BYTES_MAX < FILLER_BYTES_MIN => left - FILLER_BYTES_MIN,
            _ => FILLER_BYTES_MAX,
        };
        let start = out.len();
        let body = vec![0; (size - FILLER_BYTES_MIN) as usize];
        let host = ([0, 0, 0, 0], 0).into();
        let fields = RecordFields {
            queue_id: 0,
            flag: 0,
            sys_flag: sys_flag::TRANSACTION_ROLLBACK,
            born_timestamp: store_timestamp,
            born_host: host,
            store_host: host,
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            topic: FILLER_TOPIC,
            body: &body,
        };
        record::encode(&mut out, &fields, |_| ()).expect("a record without properties has room for them");
        record::patch(&mut out[start..], 0, from + start as i64, store_timestamp);
        left -= size;
    }
    out.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use oxmq_protocol::record::RecordRef;

    #[test]
    fn fillers_are_whole_records_of_exactly_the_size() {
        for bytes in [
            FILLER_BYTES_MIN,
            500,
            FILLER_BYTES_MAX,
            FILLER_BYTES_MAX + 1,
            FILLER_BYTES_MAX + FILLER_BYTES_MIN,
            3 * FILLER_BYTES_MAX + 17,
        ] {
            let filled = fillers(7_000, bytes, 9);
            assert_eq!(filled.len() as i64, bytes);
            let mut at = 0;
            while at < filled.len() {
                let record = RecordRef::parse(&filled[at..]).unwrap();
                record.verify_crc().unwrap();
                assert_eq!(record.physical_offset(), 7_000 + at as i64);
                at += record.total_size();
            }
        }
        assert!(fillers(0, FILLER_BYTES_MIN - 1, 9).is_empty());
    }
}
