//! What is deleted now, and whether appends are taken: decisions only (spec: storage.md §12.1).
//!
//! ```text
//! used       ≤ max_used        only what is older than `reserved_ms`, in the hours of `delete_hours`
//! max_used   < used ≤ forced   what is older, at any hour
//! forced     < used ≤ warning  the oldest files whatever their age, until the ratio is reached
//! warning    < used            the same, and appends are refused
//! ```
//!
//! A round deletes from the oldest file on, one after the other and never the last, at most `files_per_round`. Between two
//! files everything is looked at again, so that forced deletion takes no more than it must.

/// Rounds that a request for deletion lasts.
const REQUESTED_ROUNDS: u32 = 20;

/// Settings of retention, under RocketMQ's keys. All may change while the store runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionSettings {
    /// `deleteWhen`.
    pub delete_hours: HourSet,
    /// `fileReservedTime`.
    pub reserved_ms: i64,
    /// `diskMaxUsedSpaceRatio`, percent; taken as 10 to 95.
    pub max_used_ratio: u32,
    /// `diskSpaceCleanForciblyRatio`, percent; taken as 30 to 85.
    pub forced_ratio: u32,
    /// `diskSpaceWarningLevelRatio`, percent; taken as 35 to 90.
    pub warning_ratio: u32,
    /// `cleanFileForciblyEnable`.
    pub is_forced_enabled: bool,
    /// `deleteFileBatchMax`.
    pub files_per_round: usize,
    /// `cleanResourceInterval`.
    pub interval_ms: u64,
    /// `deleteCommitLogFilesInterval`: pause between two files of a round.
    pub log_file_pause_ms: u64,
    /// `deleteConsumeQueueFilesInterval`.
    pub queue_file_pause_ms: u64,
    /// `redeleteHangedFileInterval`: a file that could not be deleted is tried again after this time.
    pub retry_interval_ms: i64,
    /// `destroyMapedFileIntervalForcibly`: a reader that holds a deleted file longer is reported.
    pub held_file_warning_ms: i64,
}

impl Default for RetentionSettings {
    fn default() -> RetentionSettings {
        RetentionSettings {
            delete_hours: HourSet::parse("04"),
            reserved_ms: 72 * 3_600_000,
            max_used_ratio: 75,
            forced_ratio: 85,
            warning_ratio: 90,
            is_forced_enabled: true,
            files_per_round: 10,
            interval_ms: 10_000,
            log_file_pause_ms: 100,
            queue_file_pause_ms: 100,
            retry_interval_ms: 120_000,
            held_file_warning_ms: 120_000,
        }
    }
}

impl RetentionSettings {
    fn max_used(&self) -> i32 {
        self.max_used_ratio.clamp(10, 95) as i32
    }

    fn forced(&self) -> i32 {
        self.forced_ratio.clamp(30, 85) as i32
    }

    fn warning(&self) -> i32 {
        self.warning_ratio.clamp(35, 90) as i32
    }
}

/// Hours of the day, local time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HourSet(u32);

impl HourSet {
    /// Hours separated by `;`. What is no hour is none.
    pub fn parse(text: &str) -> HourSet {
        let hours = text.split(';').filter_map(|hour| hour.trim().parse::<u32>().ok());
        HourSet(hours.filter(|hour| *hour < 24).fold(0, |set, hour| set | 1 << hour))
    }

    pub fn contains(self, hour: u32) -> bool {
        hour < 24 && self.0 & 1 << hour != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Used share of a partition in percent, rounded up; negative when it cannot be read.
pub(crate) type Percent = i32;

/// A commit log file that is not the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OldFile {
    pub(crate) end: i64,
    /// `None` when it cannot be read: then it does not expire.
    pub(crate) modified_ms: Option<i64>,
}

/// What the cleaner sees when it decides.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Observed<'a> {
    pub(crate) now_ms: i64,
    /// Of the day, local time.
    pub(crate) hour: u32,
    /// Partition of each commit log folder.
    pub(crate) log_partitions: &'a [Percent],
    /// Partition of the consume queues.
    pub(crate) queue_partition: Percent,
    /// The oldest file; `None` while there is only one.
    pub(crate) oldest: Option<OldFile>,
}

/// Why a file goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeletionReason {
    /// It is older than `fileReservedTime`, and the hour is one of `deleteWhen`.
    Time,
    /// It is older, and somebody asked for deletion.
    Request,
    /// It is older, and the partition is fuller than `diskMaxUsedSpaceRatio`.
    DiskUse,
    /// The partition is so full that the oldest files go whatever their age.
    DiskFull,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decision {
    /// The oldest file goes.
    pub(crate) delete: Option<DeletionReason>,
    pub(crate) refuse_appends: bool,
    /// The disk is so full that something should go, and nothing may.
    pub(crate) is_stuck: bool,
}

/// The present state of retention. Driven by one thread: [`Cleaner::begin_round`], then [`Cleaner::decide`] and
/// [`Cleaner::deleted`] or [`Cleaner::failed`] until nothing is left to delete.
#[derive(Debug, Default)]
pub(crate) struct Cleaner {
    requested_rounds: u32,
    /// This round serves a request.
    is_requested: bool,
    deleted_in_round: usize,
    /// A file could not be deleted: none is tried before this time.
    blocked_until_ms: Option<i64>,
}

impl Cleaner {
    /// Deletes what is expired at any hour, for the next rounds.
    pub(crate) fn request(&mut self) {
        self.requested_rounds = REQUESTED_ROUNDS;
    }

    pub(crate) fn begin_round(&mut self) {
        self.deleted_in_round = 0;
        self.is_requested = self.requested_rounds > 0;
        self.requested_rounds = self.requested_rounds.saturating_sub(1);
    }

    pub(crate) fn deleted(&mut self) {
        self.deleted_in_round += 1;
        self.blocked_until_ms = None;
    }

    pub(crate) fn failed(&mut self, settings: &RetentionSettings, now_ms: i64) {
        self.blocked_until_ms = Some(now_ms.saturating_add(settings.retry_interval_ms));
    }

    pub(crate) fn decide(&self, settings: &RetentionSettings, observed: &Observed<'_>) -> Decision {
        // Of several folders the emptiest counts: files go there next.
        let log = observed.log_partitions.iter().copied().min().unwrap_or(-1);
        let queues = observed.queue_partition;
        let fullest = log.max(queues);
        let is_forced = fullest > settings.forced() && settings.is_forced_enabled;
        let is_used_up = fullest > settings.max_used() || log < 0 || queues < 0;
        let reason = if is_forced {
            Some(DeletionReason::DiskFull)
        } else if is_used_up {
            Some(DeletionReason::DiskUse)
        } else if self.is_requested {
            Some(DeletionReason::Request)
        } else if settings.delete_hours.contains(observed.hour) {
            Some(DeletionReason::Time)
        } else {
            None
        };
        // A clock that was set back blocks no longer than the interval.
        let retry_ms = settings.retry_interval_ms.max(0);
        let is_blocked = self
            .blocked_until_ms
            .is_some_and(|until| observed.now_ms < until && until.saturating_sub(observed.now_ms) <= retry_ms);
        let may_go = observed.oldest.filter(|oldest| {
            let expires_at = oldest.modified_ms.map(|time| time.saturating_add(settings.reserved_ms));
            is_forced || expires_at.is_some_and(|at| observed.now_ms >= at)
        });
        let has_room = self.deleted_in_round < settings.files_per_round.max(1);
        let delete = reason.filter(|_| may_go.is_some() && has_room && !is_blocked);
        Decision {
            delete,
            refuse_appends: fullest > settings.warning(),
            is_stuck: fullest > settings.max_used() && delete.is_none() && self.deleted_in_round == 0,
        }
    }
}

/// Which commit log folders take no new files: those fuller than the ratio of forced deletion, unless all are.
pub(crate) fn full_folders(settings: &RetentionSettings, log_partitions: &[Percent]) -> Vec<bool> {
    let full: Vec<bool> = log_partitions.iter().map(|used| *used > settings.forced()).collect();
    match full.iter().all(|is_full| *is_full) {
        true => vec![false; full.len()],
        false => full,
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
