//! Kinds of consume queues and the units of their files (spec: storage.md §6).
//!
//! Every unit begins with the 20 bytes of an [`Entry`]. A simple queue has nothing else, and unit n holds queue offset n.
//! In a batch queue a unit stands for one record with one or more messages, and says which queue offsets they have:
//!
//! ```text
//! 0  entry   20  storeTimestamp i64   28  baseOffset i64   36  count i16   38  -1 i32   42  0 i32
//! ```
//!
//! Base offsets rise from unit to unit, so that an offset is found by bisection.

use crate::consume_queue::{ENTRY_BYTES, Entry};

pub(crate) const BATCH_UNIT_BYTES: usize = 46;

/// `queue.type` of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum QueueKind {
    /// `SimpleCQ`: one entry per message.
    #[default]
    Simple,
    /// `BatchCQ`: one unit per record, which may hold several messages.
    Batch,
}

/// What one unit says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unit {
    pub(crate) entry: Entry,
    pub(crate) store_timestamp: i64,
    /// Of the first message.
    pub(crate) queue_offset: i64,
    /// Messages, at least 1.
    pub(crate) count: i64,
}

/// What the files of one queue hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Extent {
    /// The first unit whose record may still exist, and the one behind the last.
    pub(crate) min_unit: i64,
    pub(crate) end_unit: i64,
    /// The queue offsets that belong to them.
    pub(crate) min_offset: i64,
    pub(crate) end_offset: i64,
}

impl QueueKind {
    pub(crate) const ALL: [QueueKind; 2] = [QueueKind::Simple, QueueKind::Batch];

    pub(crate) fn unit_bytes(self) -> usize {
        match self {
            QueueKind::Simple => ENTRY_BYTES,
            QueueKind::Batch => BATCH_UNIT_BYTES,
        }
    }

    /// Where the queues of this kind lie below the store's root.
    pub(crate) fn directory(self) -> &'static str {
        match self {
            QueueKind::Simple => "consumequeue",
            QueueKind::Batch => "batchconsumequeue",
        }
    }

    /// The unit with this number. `bytes` is one unit long.
    pub(crate) fn decode(self, number: i64, bytes: &[u8]) -> Unit {
        let entry = Entry::decode(bytes.first_chunk().expect("a unit begins with an entry"));
        match self {
            QueueKind::Simple => Unit {
                entry,
                store_timestamp: 0,
                queue_offset: number,
                count: 1,
            },
            QueueKind::Batch => Unit {
                entry,
                store_timestamp: long(bytes, 20),
                queue_offset: long(bytes, 28),
                count: i64::from(i16::from_be_bytes([bytes[36], bytes[37]])),
            },
        }
    }
}

impl Unit {
    /// As a batch queue holds it.
    pub(crate) fn encode(&self) -> [u8; BATCH_UNIT_BYTES] {
        let mut bytes = [0; BATCH_UNIT_BYTES];
        bytes[..ENTRY_BYTES].copy_from_slice(&self.entry.encode());
        bytes[20..28].copy_from_slice(&self.store_timestamp.to_be_bytes());
        bytes[28..36].copy_from_slice(&self.queue_offset.to_be_bytes());
        bytes[36..38].copy_from_slice(&(self.count as i16).to_be_bytes());
        bytes[38..42].copy_from_slice(&(-1i32).to_be_bytes());
        bytes
    }

    /// False where the data of a queue end.
    pub(crate) fn is_present(&self) -> bool {
        self.entry.is_present() && self.queue_offset >= 0 && self.count > 0
    }

    /// Nothing was written here. One bit that was flipped does not make a unit, unless it is the first of its queue and
    /// stands for the first record of the log.
    pub(crate) fn is_blank(&self) -> bool {
        let Entry {
            physical_offset,
            size,
            tags_code,
        } = self.entry;
        let ones = physical_offset.count_ones() + size.count_ones() + tags_code.count_ones();
        ones == 0 || (ones == 1 && self.queue_offset > 0)
    }

    /// Its record lies before the start of the log. A filler has no record, and lies before what follows it.
    pub(crate) fn is_before(&self, log_min: i64) -> bool {
        self.is_present() && (self.entry.is_filler() || self.entry.physical_offset < log_min)
    }

    /// Queue offset behind its messages.
    pub(crate) fn end_offset(&self) -> i64 {
        self.queue_offset.saturating_add(self.count)
    }
}

fn long(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(*bytes[at..].first_chunk().expect("a unit is whole"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_survive_their_bytes_and_empty_space_is_none() {
        let unit = Unit {
            entry: Entry {
                physical_offset: 7_000,
                size: 311,
                tags_code: -5,
            },
            store_timestamp: 1_700_000_000_123,
            queue_offset: 42,
            count: 10,
        };
        let bytes = unit.encode();
        assert_eq!(QueueKind::Batch.decode(3, &bytes), unit);
        assert_eq!(bytes[38..], [0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0]);
        assert!(unit.is_present());
        assert_eq!(unit.end_offset(), 52);
        assert!(!QueueKind::Batch.decode(0, &[0; BATCH_UNIT_BYTES]).is_present());
        let simple = QueueKind::Simple.decode(9, &unit.entry.encode());
        assert_eq!((simple.queue_offset, simple.end_offset()), (9, 10));
    }
}
