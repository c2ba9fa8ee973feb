//! A store folder read, checked and repaired without a broker: `oxmq store`.
//!
//! Knows every file that brokers of either kind leave. Reading changes nothing: whatever would be put right at a start is
//! only counted. Sizes of files are taken from the files themselves.
//!
//! - `survey`: what is there, and what is wrong with it
//! - `log_pass`: the commit log, record by record; `queue_pass`: consume queues beside it; `index_pass`: index files
//! - `side_files`: checkpoint, timers, tables below `config`
//! - `repair`: derived files are written again, what is bad is set aside
//! - `records`: records one by one, for a dump

mod index_pass;
mod log_pass;
mod queue_pass;
pub mod records;
pub mod repair;
mod report;
mod side_files;
mod survey;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

pub use report::{
    CheckpointSurvey, DelayLevel, GroupLag, HalfSurvey, IndexSurvey, LogSurvey, Problem, ProblemKind, QueueSurvey,
    Survey, TimerSurvey, TopicSurvey, Writer,
};
pub use survey::Progress;

use crate::checksums::Checksums;
use crate::config::{FlushDiskType, StoreConfig};
use crate::disk::Disk;
use crate::error::OpenError;
use crate::foreign::refuse_foreign;
use crate::index_file::IndexShape;
use crate::segments::{Segment, parse_offset_name};
use crate::store::take_lock;
use crate::unit::QueueKind;

#[derive(Debug, Error)]
pub enum OfflineError {
    #[error("{path} is not the folder of a store: it has no commit log")]
    NoStore { path: PathBuf },
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// A folder that no broker uses, and none can while this exists.
pub struct OfflineStore {
    disk: Arc<dyn Disk>,
    config: StoreConfig,
    segments: Vec<Segment>,
    /// Files of the commit log that are no log files, with the reason.
    odd_files: Vec<(PathBuf, String)>,
    checksums: Checksums,
    lock: Option<Box<dyn Send + Sync>>,
}

impl OfflineStore {
    /// Opens the folder of a configuration, whose sizes give way to those of the files found.
    pub fn open(mut config: StoreConfig, disk: Arc<dyn Disk>) -> Result<OfflineStore, OfflineError> {
        let lock_path = config.root.join("lock");
        let lock = match disk.exists(&lock_path) {
            true => Some(take_lock(&*disk, &lock_path)?),
            false => None,
        };
        refuse_foreign(&*disk, &config.root)?;
        let mut found = Vec::new();
        for dir in &config.commit_log_dirs {
            let entries = match disk.list(dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(at(dir))?,
            };
            let files = entries.into_iter().filter(|entry| !entry.is_dir);
            found.extend(files.map(|entry| (parse_offset_name(&entry.name), entry.len, dir.join(&entry.name))));
        }
        if found.is_empty() && !disk.exists(&config.root.join("config")) {
            return Err(OfflineError::NoStore { path: config.root });
        }
        found.sort();
        let mut odd_files = Vec::new();
        let first_len = found.iter().find(|(base, len, _)| base.is_some() && *len > 0);
        if let Some((_, len, _)) = first_len {
            config.commit_log_file_bytes = *len;
        }
        let mut segments = Vec::new();
        for (base, len, path) in found {
            match base {
                None => odd_files.push((path, "is no commit log file: a Java broker does not start".into())),
                Some(base) if len == config.commit_log_file_bytes => segments.push(Segment {
                    base,
                    end: base + len as i64,
                    file: disk.open(&path).map_err(at(&path))?,
                    path,
                }),
                Some(_) => {
                    let what = format!("has {len} bytes, others have {}", config.commit_log_file_bytes);
                    odd_files.push((path, what));
                }
            }
        }
        let segment_at = |position| {
            let mut all = segments.iter();
            all.find(|segment| (segment.base..segment.end).contains(&position))
        };
        let checksums = Checksums::of(Arc::clone(&disk), &config.root, segment_at).map_err(at(&config.root))?;
        let mut store = OfflineStore {
            checksums,
            disk,
            config,
            segments,
            odd_files,
            lock,
        };
        store.take_queue_sizes()?;
        Ok(store)
    }

    pub fn root(&self) -> &Path {
        &self.config.root
    }

    fn log_min(&self) -> i64 {
        self.segments.first().map_or(0, |first| first.base)
    }

    fn segment_at(&self, physical_offset: i64) -> Option<&Segment> {
        self.segments
            .iter()
            .find(|segment| (segment.base..segment.end).contains(&physical_offset))
    }

    fn queue_file_bytes(&self, kind: QueueKind) -> u64 {
        match kind {
            QueueKind::Simple => self.config.consume_queue_file_bytes,
            QueueKind::Batch => self.config.batch_consume_queue_file_bytes,
        }
    }

    fn take_queue_sizes(&mut self) -> Result<(), OfflineError> {
        for kind in QueueKind::ALL {
            let len = self.first_queue_file(kind)?;
            match (kind, len) {
                (QueueKind::Simple, Some(len)) => self.config.consume_queue_file_bytes = len,
                (QueueKind::Batch, Some(len)) => self.config.batch_consume_queue_file_bytes = len,
                (_, None) => {}
            }
        }
        Ok(())
    }

    /// Size of some file of this kind that has whole units.
    fn first_queue_file(&self, kind: QueueKind) -> Result<Option<u64>, OfflineError> {
        let root = self.config.root.join(kind.directory());
        for topic in self.list(&root)?.into_iter().filter(|entry| entry.is_dir) {
            let topic = root.join(topic.name);
            for queue in self.list(&topic)?.into_iter().filter(|entry| entry.is_dir) {
                let files = self.list(&topic.join(queue.name))?;
                let whole = |len: u64| len > 0 && len.is_multiple_of(kind.unit_bytes() as u64);
                let file = files
                    .iter()
                    .find(|file| parse_offset_name(&file.name).is_some() && whole(file.len));
                if let Some(file) = file {
                    return Ok(Some(file.len));
                }
            }
        }
        Ok(None)
    }

    /// Entries of a folder, none if it does not exist.
    fn list(&self, dir: &Path) -> Result<Vec<crate::disk::DirEntry>, OfflineError> {
        match self.disk.list(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            other => other.map_err(at(dir)),
        }
    }

    /// A whole file, if it exists.
    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, OfflineError> {
        let file = match self.disk.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(at(path))?,
        };
        let mut bytes = vec![0; file.len().map_err(at(path))? as usize];
        let read = file.read_at(&mut bytes, 0).map_err(at(path))?;
        bytes.truncate(read);
        Ok(Some(bytes))
    }

    /// The configuration for a start of the store that repairs it.
    fn start_config(&self) -> Result<StoreConfig, OfflineError> {
        let file_bytes = IndexShape {
            slots: self.config.index_slots,
            entries: self.config.index_entries.max(2),
        }
        .file_bytes();
        let index = self.list(&self.config.root.join("index"))?;
        // A start drops index files of another size: those of settings that are not known here stay as they are.
        let knows_index = index.iter().all(|entry| entry.is_dir || entry.len == file_bytes);
        Ok(StoreConfig {
            index_enabled: self.config.index_enabled && knows_index,
            flush_disk_type: FlushDiskType::Async,
            background_threads: false,
            ..self.config.clone()
        })
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> OfflineError {
    let path = path.to_path_buf();
    move |source| OfflineError::Io { path, source }
}
