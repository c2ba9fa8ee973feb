//! What the reading operations of the store take and return (spec: storage.md §13, §14, §7.3).

use bytes::Bytes;
use oxmq_protocol::record::RecordRef;

/// May the call wait for the disk?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    Never,
    Allowed,
}

/// Bounds of one [`crate::MessageStore::get_messages`].
#[derive(Debug, Clone, Copy)]
pub struct GetLimits {
    /// Records wanted.
    pub count: usize,
    /// Bytes wanted; the first record is returned whatever its size.
    pub bytes: usize,
}

impl GetLimits {
    /// `count` records within the largest transfer of 128 MiB.
    pub fn count(count: usize) -> GetLimits {
        GetLimits {
            count,
            bytes: 128 * 1024 * 1024,
        }
    }
}

/// Which messages are cold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColdArea {
    /// Those that lie further behind the end of the log than this part of the machine's memory.
    pub memory_percent: u32,
    /// And of these only those that the disk had to bring.
    pub from_disk: bool,
}

/// Which messages a get returns. Most decide by the tags code of the queue entry, and a function of it is a filter.
pub trait MessageFilter {
    fn accepts_code(&mut self, tags_code: i64) -> bool;

    /// Which codes it accepts, if that is known beforehand: entries with others are passed over without asking.
    fn codes(&self) -> Codes<'_> {
        Codes::Asked
    }

    /// Whether records that it is asked for are read and then mostly rejected.
    fn looks_into_records(&self) -> bool {
        false
    }

    /// Asked for records whose code was accepted.
    fn accepts_record(&mut self, _record: &RecordRef<'_>) -> bool {
        true
    }
}

/// The tags codes of the entries that a filter accepts.
#[derive(Debug, Clone, Copy)]
pub enum Codes<'a> {
    All,
    Only(&'a [i32]),
    /// It is asked about one after the other, each in its turn, and once.
    Asked,
}

impl<F: FnMut(i64) -> bool> MessageFilter for F {
    fn accepts_code(&mut self, tags_code: i64) -> bool {
        self(tags_code)
    }
}

/// Outcome of a get, with RocketMQ's meanings and ordinals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GetStatus {
    Found,
    NoMatchedMessage,
    MessageWasRemoving,
    OffsetFoundNull,
    OffsetOverflowBadly,
    OffsetOverflowOne,
    OffsetTooSmall,
    NoMatchedLogicQueue,
    NoMessageInQueue,
    OffsetReset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GetMessages {
    pub status: GetStatus,
    pub next_begin_offset: i64,
    pub min_offset: i64,
    pub max_offset: i64,
    /// Records appended to the output.
    pub count: usize,
    /// Bytes appended to the output.
    pub bytes: usize,
    /// The consumer is so far behind that a slave should serve it.
    pub suggest_pulling_from_slave: bool,
    /// Store timestamp of the last record returned, 0 if none.
    pub last_store_timestamp: i64,
    /// Bytes of the records looked at that are cold, as [`crate::MessageStore::set_cold_area`] says.
    pub cold_bytes: usize,
}

/// Which neighbour a search by time takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Boundary {
    /// The first record at or after the time.
    #[default]
    Lower,
    /// The last record at or before the time.
    Upper,
}

#[derive(Debug, Clone, Default)]
pub struct QueryResult {
    /// Whole records, oldest first. Hash collisions are the client's to sort out.
    pub records: Vec<Bytes>,
    pub last_update_timestamp: i64,
    pub last_update_physical_offset: i64,
}
