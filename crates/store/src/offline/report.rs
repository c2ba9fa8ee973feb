//! What a survey says.

use serde::Serialize;

/// Problems that are described one by one; the rest are counted.
const PROBLEMS_DESCRIBED_MAX: usize = 1_000;

/// The broker that used the folder last, as far as its files tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
pub enum Writer {
    /// Nobody has written anything.
    #[default]
    Nobody,
    /// RocketMQ 4: tables without a state version, no timer files.
    #[serde(rename = "Java 4")]
    Java4,
    #[serde(rename = "Java 5")]
    Java5,
    #[serde(rename = "OxMQ")]
    OxMq,
}

#[derive(Debug, Clone, Serialize, Default)]
pub struct Survey {
    pub root: String,
    pub writer: Writer,
    /// No `abort` file: the last broker ended in order.
    pub clean_stop: bool,
    pub log: LogSurvey,
    pub topics: Vec<TopicSurvey>,
    pub index: Vec<IndexSurvey>,
    pub checkpoint: Option<CheckpointSurvey>,
    pub timers: TimerSurvey,
    pub delay_levels: Vec<DelayLevel>,
    pub half: HalfSurvey,
    pub groups: Vec<GroupLag>,
    /// The first of them; see `problem_count`.
    pub problems: Vec<Problem>,
    pub problem_count: u64,
}

#[derive(Debug, Clone, Serialize, Default)]
pub struct LogSurvey {
    pub files: usize,
    pub file_bytes: u64,
    /// First physical offset, and the one behind the last record.
    pub min: i64,
    pub end: i64,
    pub records: u64,
    pub record_bytes: u64,
    pub first_store_timestamp: i64,
    pub last_store_timestamp: i64,
    /// Records without a transaction, prepared, committed, rolled back.
    pub by_transaction: [u64; 4],
    /// Stretches that hold no record although records follow, and their bytes.
    pub damaged: u64,
    pub damaged_bytes: u64,
    /// Records that the next start enters into queues and index: their broker was killed before it did.
    pub to_be_replayed: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct TopicSurvey {
    pub topic: String,
    pub queues: Vec<QueueSurvey>,
}

#[derive(Debug, Clone, Serialize)]
pub struct QueueSurvey {
    pub queue_id: i32,
    /// `SimpleCQ` or `BatchCQ`.
    pub kind: &'static str,
    pub files: usize,
    pub min_offset: i64,
    pub max_offset: i64,
}

#[derive(Debug, Clone, Serialize)]
pub struct IndexSurvey {
    pub file: String,
    pub entries: i64,
    pub begin_timestamp: i64,
    pub end_timestamp: i64,
    pub begin_physical_offset: i64,
    pub end_physical_offset: i64,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct CheckpointSurvey {
    pub physic_msg_timestamp: i64,
    pub logics_msg_timestamp: i64,
    pub index_msg_timestamp: i64,
    /// OxMQ's: log, queues and index are on disk up to here.
    pub recovery_position: Option<i64>,
}

#[derive(Debug, Clone, Serialize, Default)]
pub struct TimerSurvey {
    /// Positions of the timer log.
    pub log_min: i64,
    pub log_end: i64,
    pub units: u64,
    /// Units of messages that are not due yet; cancelled ones count too.
    pub pending: u64,
    pub next_due_ms: Option<i64>,
    /// How far messages were delivered, from `timercheck`.
    pub read_ms: i64,
    pub queue_offset: i64,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct DelayLevel {
    pub level: i32,
    /// Messages before this are delivered.
    pub queue_offset: i64,
    pub waiting: i64,
}

#[derive(Debug, Clone, Copy, Serialize, Default)]
pub struct HalfSurvey {
    /// Half messages in the log, and those without an end.
    pub stored: u64,
    pub open: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct GroupLag {
    pub group: String,
    pub topic: String,
    pub queues: usize,
    pub lag: i64,
}

/// What is wrong, by what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// A record of the log is not whole: its message is lost.
    DamagedRecord,
    /// Bytes of the log are not what was written, as their checksums say.
    ChangedBytes,
    /// Records or files of the log are missing.
    LogGap,
    /// A log file of a wrong size, or a foreign file beside them.
    LogFile,
    /// An entry that is not that of its record, or that has none.
    QueueEntry,
    /// A record without an entry.
    MissingEntry,
    QueueFile,
    Index,
    /// The checkpoint says more than the log holds.
    Checkpoint,
    Timer,
    /// A table below `config` that cannot be read.
    Table,
}

#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    pub kind: ProblemKind,
    pub file: String,
    /// Physical offset for the log, byte of the file otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_id: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_offset: Option<i64>,
    pub what: String,
}

impl ProblemKind {
    /// What `repair` does about it.
    pub fn remedy(self) -> &'static str {
        match self {
            ProblemKind::DamagedRecord => {
                "where checksums tell the flipped bit it is flipped back; otherwise the bytes are set \
                                           aside, and a record without a message takes their place"
            }
            ProblemKind::ChangedBytes => {
                "a single flipped bit is flipped back; otherwise nothing is done, and records \
                                          that hold the bytes are not served"
            }
            ProblemKind::LogGap => "nothing can be done: restore the file from a copy",
            ProblemKind::LogFile => "nothing is done: remove or restore the file yourself",
            ProblemKind::QueueEntry | ProblemKind::MissingEntry | ProblemKind::QueueFile => {
                "written again from the log"
            }
            ProblemKind::Index => "built again from the log",
            ProblemKind::Checkpoint => "set aside; the next start reads more of the log",
            ProblemKind::Timer => "nothing is done: the broker leaves such units out",
            ProblemKind::Table => "the version before takes its place",
        }
    }
}

impl Problem {
    pub(super) fn new(kind: ProblemKind, file: impl Into<String>, what: impl Into<String>) -> Problem {
        Problem {
            kind,
            file: file.into(),
            offset: None,
            topic: None,
            queue_id: None,
            queue_offset: None,
            what: what.into(),
        }
    }

    pub(super) fn at(mut self, offset: i64) -> Problem {
        self.offset = Some(offset);
        self
    }

    pub(super) fn of_queue(mut self, topic: &str, queue_id: i32, queue_offset: i64) -> Problem {
        self.topic = Some(topic.to_owned());
        self.queue_id = Some(queue_id);
        self.queue_offset = Some(queue_offset);
        self
    }
}

impl Survey {
    pub(super) fn add(&mut self, problem: Problem) {
        self.problem_count += 1;
        if self.problems.len() < PROBLEMS_DESCRIBED_MAX {
            self.problems.push(problem);
        }
    }
}
