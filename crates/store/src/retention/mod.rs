//! Deleting what is old, and taking or refusing appends by the space that is left (spec: storage.md §12).
//!
//! One thread works, in rounds: commit log files, oldest first; then, if any went, the files of the consume queues and of
//! the index that speak of nothing else. What goes and when is decided in `plan`; this is the work.
//!
//! A stop between any two steps leaves a store that starts, because of the order:
//!
//! 1. The recovery position moves behind the file, durably: no start will look for what it proves in the file.
//! 2. The listener hears of the file while it can still be read.
//! 3. The file's name goes, durably, before the next one's does: what is left has no gap.
//! 4. The file leaves the list of the log, which raises the log's minimum; the minima of the queues follow, then files of
//!    queues and index. Entries before a minimum are passed over by every reader, so that queues may lag behind the log.
//!
//! Readers that have a file open finish with it. Its space returns when the last of them is done, on this thread and in
//! pieces: giving a gigabyte back takes the file system a while, which no worker should spend and no flush should wait for.

mod plan;
mod queue_reset;
mod queue_trim;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use parking_lot::Mutex;

use crate::background::{Engine, Wake};
use crate::disk::Disk;
use crate::segments::Segment;
use crate::unit::QueueKind;
use plan::{Cleaner, Decision, Observed, OldFile, Percent};
pub use plan::{DeletionReason, HourSet, RetentionSettings};
pub(crate) use queue_trim::first_kept;

/// While appends are refused for want of space, the space is measured this often.
const REFUSING_INTERVAL: Duration = Duration::from_secs(1);

/// Space that is given back at once.
const GIVEN_BACK_BYTES: u64 = 64 << 20;
const GIVE_BACK_PAUSE_MS: u64 = 10;

/// A commit log file that is about to go. It can still be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// Physical offsets where the file begins and ends.
    pub from: i64,
    pub to: i64,
    pub reason: DeletionReason,
}

/// What one round did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CleanReport {
    pub log_files: usize,
    pub queue_files: usize,
    pub index_files: usize,
}

/// Used shares of the partitions in percent, rounded up; -1 when unknown. Shown as RocketMQ shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpaceFigures {
    /// Of the commit log's emptiest partition.
    pub commit_log: i32,
    pub consume_queue: i32,
    pub index: i32,
}

impl Default for SpaceFigures {
    fn default() -> SpaceFigures {
        SpaceFigures {
            commit_log: -1,
            consume_queue: -1,
            index: -1,
        }
    }
}

impl fmt::Display for SpaceFigures {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [log, queue, index] = [self.commit_log, self.consume_queue, self.index].map(|used| match used {
            ..0 => -1.0,
            used => f64::from(used) / 100.0,
        });
        write!(out, "CL: {log:5.2} CQ: {queue:5.2} INDEX: {index:5.2}")
    }
}

pub(crate) struct Retention {
    settings: Mutex<Arc<RetentionSettings>>,
    cleaner: Mutex<Cleaner>,
    /// Deleted files that some reader may have open.
    held: Mutex<Vec<HeldFile>>,
    pub(crate) wake: Wake,
    /// Somebody asked for deletion since the last round began.
    is_requested: AtomicBool,
    is_stuck: AtomicBool,
    space: Mutex<SpaceFigures>,
    /// Every queue has followed a log that begins here.
    trimmed_to: AtomicI64,
}

struct HeldFile {
    segment: Arc<Segment>,
    since: Instant,
    is_reported: bool,
}

impl Retention {
    pub(crate) fn new(settings: RetentionSettings) -> Retention {
        Retention {
            settings: Mutex::new(Arc::new(settings)),
            cleaner: Mutex::default(),
            held: Mutex::default(),
            wake: Wake::default(),
            is_requested: AtomicBool::new(false),
            is_stuck: AtomicBool::new(false),
            space: Mutex::default(),
            trimmed_to: AtomicI64::new(0),
        }
    }

    pub(crate) fn settings(&self) -> Arc<RetentionSettings> {
        Arc::clone(&self.settings.lock())
    }

    pub(crate) fn set_settings(&self, settings: RetentionSettings) {
        *self.settings.lock() = Arc::new(settings);
        self.wake.notify();
    }

    /// Expired files go at the next rounds, whatever the hour.
    pub(crate) fn request(&self) {
        self.cleaner.lock().request();
        self.is_requested.store(true, Ordering::SeqCst);
        self.wake.notify();
    }
}

/// Shortens a file that has neither a name nor a reader any more.
fn give_back(segment: &Segment, pause: &dyn Fn(u64) -> bool) {
    let mut left = (segment.end - segment.base) as u64;
    while left > GIVEN_BACK_BYTES && pause(GIVE_BACK_PAUSE_MS) {
        left -= GIVEN_BACK_BYTES;
        if segment.file.set_len(left).is_err() {
            // The rest comes back when it is closed.
            break;
        }
    }
}

/// Share of a partition that is used, as Java computes it.
fn used_percent(disk: &dyn Disk, path: &Path) -> Percent {
    let Ok(usage) = disk.usage(path) else { return -1 };
    let total = u128::from(usage.used_bytes) + u128::from(usage.available_bytes);
    match total {
        0 => -1,
        _ => (u128::from(usage.used_bytes) * 100).div_ceil(total) as Percent,
    }
}

pub fn hour_of_day(now_ms: i64) -> u32 {
    let now = Timestamp::from_millisecond(now_ms).unwrap_or_default();
    now.to_zoned(TimeZone::system()).hour() as u32
}

impl Engine {
    pub(crate) fn space(&self) -> SpaceFigures {
        *self.retention.space.lock()
    }

    /// Looks at the partitions and at the oldest file, and applies what follows for appends.
    pub(crate) fn observe(&self, cleaner: &Cleaner, settings: &RetentionSettings) -> Decision {
        let log_partitions: Vec<Percent> = self
            .config
            .commit_log_dirs
            .iter()
            .map(|dir| used_percent(&*self.disk, dir))
            .collect();
        let queue_partition = used_percent(&*self.disk, self.queues.files(QueueKind::Simple).root());
        let now_ms = (self.config.clock)();
        let oldest = self.log.segments().oldest_of_several();
        let decision = cleaner.decide(
            settings,
            &Observed {
                now_ms,
                hour: hour_of_day(now_ms),
                log_partitions: &log_partitions,
                queue_partition,
                oldest: oldest.map(|segment| OldFile {
                    end: segment.end,
                    modified_ms: self.disk.modified_ms(&segment.path).ok(),
                }),
            },
        );
        let log_used = log_partitions.iter().copied().min().unwrap_or(-1);
        *self.retention.space.lock() = SpaceFigures {
            commit_log: log_used,
            consume_queue: queue_partition,
            index: used_percent(&*self.disk, &self.config.root.join("index")),
        };
        let full_folders = plan::full_folders(settings, &log_partitions);
        self.log.segments().set_full_folders(full_folders);
        let refuse = decision.refuse_appends;
        if self.disk_full.swap(refuse, Ordering::Relaxed) != refuse {
            let (level, queue_used) = (settings.warning_ratio, queue_partition);
            match refuse {
                true => tracing::error!(log_used, queue_used, level, "the disk is full: appends are refused"),
                false => tracing::warn!(log_used, queue_used, "the disk has space again: appends are taken"),
            }
        }
        if self.retention.is_stuck.swap(decision.is_stuck, Ordering::Relaxed) != decision.is_stuck && decision.is_stuck
        {
            tracing::warn!(
                log_used,
                queue_used = queue_partition,
                "the disk fills up, and no file may be deleted"
            );
        }
        decision
    }

    pub(crate) fn measure_disks(&self) {
        self.observe(&self.retention.cleaner.lock(), &self.retention.settings());
    }

    /// One round. `pause` waits between two files, and says whether to go on.
    pub(crate) fn clean_round(&self, pause: &dyn Fn(u64) -> bool) -> CleanReport {
        let mut report = CleanReport::default();
        let settings = self.retention.settings();
        self.retention.is_requested.store(false, Ordering::SeqCst);
        self.retention.cleaner.lock().begin_round();
        loop {
            let decision = self.observe(&self.retention.cleaner.lock(), &settings);
            let Some(reason) = decision.delete else { break };
            if report.log_files > 0 && !pause(settings.log_file_pause_ms) {
                break;
            }
            match self.delete_oldest(reason) {
                Ok(true) => {
                    report.log_files += 1;
                    self.retention.cleaner.lock().deleted();
                }
                Ok(false) => break,
                Err(error) => {
                    tracing::error!(%error, "a commit log file cannot be deleted");
                    let now_ms = (self.config.clock)();
                    self.retention.cleaner.lock().failed(&settings, now_ms);
                    break;
                }
            }
        }
        let log_min = self.log.segments().min();
        report.queue_files = self.trim_queues(log_min, &|| pause(settings.queue_file_pause_ms));
        report.index_files = self.index.remove_expired(log_min).unwrap_or_else(|error| {
            tracing::warn!(%error, "an old index file cannot be deleted");
            0
        });
        self.close_held(&settings, pause);
        report
    }

    /// False when the oldest file cannot go yet: what a start needs still lies in it.
    fn delete_oldest(&self, reason: DeletionReason) -> io::Result<bool> {
        let Some(segment) = self.log.segments().oldest_of_several() else {
            return Ok(false);
        };
        if !self.is_settled(segment.end) {
            self.flush_step();
            self.dispatch_step(true);
            if !self.is_settled(segment.end) {
                return Ok(false);
            }
        }
        let expiry = Expiry {
            from: segment.base,
            to: segment.end,
            reason,
        };
        if !self.listener.expiring(&expiry) {
            return Ok(false);
        }
        let path = &segment.path;
        tracing::info!(path = %path.display(), ?reason, "commit log file is deleted");
        match self.disk.remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.log.segments().drop_first(segment.base);
        self.queues.set_log_min(self.log.segments().min());
        let dir = path.parent().map(Path::to_path_buf);
        self.retention.held.lock().push(HeldFile {
            segment,
            since: Instant::now(),
            is_reported: false,
        });
        dir.map_or(Ok(()), |dir| self.disk.sync_dir(&dir))?;
        Ok(true)
    }

    /// Whether no start needs what lies before this physical offset.
    fn is_settled(&self, physical_offset: i64) -> bool {
        let position = self.dispatching.lock().last.position;
        position.is_some_and(|position| position.last_record >= physical_offset)
    }

    /// Closes deleted files that nobody reads any more.
    fn close_held(&self, settings: &RetentionSettings, pause: &dyn Fn(u64) -> bool) {
        let mut held = std::mem::take(&mut *self.retention.held.lock());
        held.retain_mut(|file| {
            if Arc::strong_count(&file.segment) == 1 {
                give_back(&file.segment, pause);
                return false;
            }
            if !file.is_reported && file.since.elapsed().as_millis() as i64 > settings.held_file_warning_ms {
                file.is_reported = true;
                tracing::warn!(path = %file.segment.path.display(), "a reader holds a deleted commit log file");
            }
            true
        });
        self.retention.held.lock().append(&mut held);
    }

    pub(crate) fn run_clean(&self) {
        self.retention.wake.register();
        let mut measured = Instant::now();
        let mut cleaned = Instant::now();
        while !self.is_stopping() {
            let settings = self.retention.settings();
            let interval = Duration::from_millis(settings.interval_ms.max(1));
            let measuring = match self.disk_full.load(Ordering::Relaxed) {
                true => REFUSING_INTERVAL.min(interval),
                false => interval,
            };
            let is_requested = || self.retention.is_requested.load(Ordering::SeqCst) || self.is_stopping();
            self.retention
                .wake
                .sleep(measuring.saturating_sub(measured.elapsed()), is_requested);
            if self.is_stopping() {
                break;
            }
            if self.retention.is_requested.load(Ordering::SeqCst) || cleaned.elapsed() >= interval {
                self.clean_round(&|ms| {
                    thread::park_timeout(Duration::from_millis(ms));
                    !self.is_stopping()
                });
                (cleaned, measured) = (Instant::now(), Instant::now());
            } else if measured.elapsed() >= measuring {
                self.measure_disks();
                measured = Instant::now();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::disk::SimulatedDisk;

    #[test]
    fn a_large_file_is_given_back_in_pieces() {
        let path = Path::new("/log").to_path_buf();
        let file = SimulatedDisk::new().create(&path).unwrap();
        file.allocate(1 << 30).unwrap();
        let segment = Segment {
            base: 0,
            end: 1 << 30,
            path,
            file,
        };
        let lengths = RefCell::new(Vec::new());
        give_back(&segment, &|_| {
            lengths.borrow_mut().push(segment.file.len().unwrap());
            true
        });
        lengths.borrow_mut().push(segment.file.len().unwrap());
        let lengths = lengths.into_inner();
        assert!(
            lengths.is_sorted_by(|before, after| before - after == GIVEN_BACK_BYTES),
            "{lengths:?}"
        );
        assert_eq!(lengths.last(), Some(&GIVEN_BACK_BYTES));
    }
}
