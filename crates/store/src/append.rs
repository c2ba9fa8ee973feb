//! What a caller hands to [`crate::MessageStore::append`] and what it gets back.

use std::sync::Arc;

use bytes::BytesMut;
use oxmq_protocol::{properties, property, record};

use crate::consume_queue::ConsumeQueue;

/// Encoded records that are appended together: one lock hold, one positioned write, one wake-up per queue.
///
/// The records lie back to back in `records`, in the order of `entries`. A successful append empties `records` (its bytes
/// now belong to the tail that readers share), leaves room there for the next batch, and fills in the results.
#[derive(Debug, Default)]
pub struct AppendBatch {
    pub records: BytesMut,
    pub entries: Vec<AppendEntry>,
    /// Some entry has [`AppendEntry::extra`]. Set by [`AppendBatch::add_extra`].
    pub(crate) has_extra: bool,
    /// Result: the store timestamp of every record of the batch.
    pub store_timestamp: i64,
    /// Result: the position whose flush a SYNC_FLUSH promise for this batch needs.
    pub end_offset: i64,
}

/// One record of a batch.
#[derive(Debug)]
pub struct AppendEntry {
    pub queue: Arc<ConsumeQueue>,
    /// Where the record starts in [`AppendBatch::records`].
    pub start: u32,
    pub len: u32,
    pub tags_code: TagsCode,
    /// Number of records, this one included, that must stay in one file: the records of one batch send. Set on the
    /// first, 0 on those that follow it.
    pub group_len: u32,
    /// False for half and rollback records: they get queue offset 0 and enter no consume queue.
    pub in_queue: bool,
    /// For records that are more than one message in one queue; see [`AppendBatch::add_extra`].
    pub extra: Option<Box<Extra>>,
    /// Result.
    pub queue_offset: i64,
    /// Result.
    pub physical_offset: i64,
}

/// A record that takes several queue offsets, or enters several queues. The append adds the properties that say which:
/// whoever encodes the record leaves room for [`Extra::bytes_max`] among its 32,767 bytes of properties.
#[derive(Debug, Default)]
pub struct Extra {
    /// Messages of an inner batch (spec: storage.md §5.1). The append adds `INNER_BASE`.
    pub inner_batch: Option<u16>,
    /// Where else the record goes, in the order of its property `INNER_MULTI_DISPATCH`; `None` for names that are not
    /// those of light queues. The append adds `INNER_MULTI_QUEUE_OFFSET` (spec: storage.md §5.2).
    pub light_queues: Vec<Option<Arc<ConsumeQueue>>>,
    /// Result: the offset in each light queue.
    pub light_offsets: Vec<i64>,
}

impl Extra {
    /// What the added properties take at most.
    pub fn bytes_max(&self) -> usize {
        let base = if self.inner_batch.is_some() { 32 } else { 0 };
        match self.light_queues.len() {
            0 => base,
            queues => base + 26 + 20 * queues,
        }
    }

    fn write_properties(&self, out: &mut BytesMut, queue_offset: i64) {
        if self.inner_batch.is_some() {
            properties::write(
                out,
                property::INNER_BASE.as_bytes(),
                queue_offset.to_string().as_bytes(),
            );
        }
        if self.light_queues.is_empty() {
            return;
        }
        let mut offsets = self.light_offsets.iter();
        let pieces = self.light_queues.iter().map(|queue| match queue {
            Some(_) => offsets.next().map(i64::to_string).unwrap_or_default(),
            None => String::new(),
        });
        let text = pieces.collect::<Vec<_>>().join(",");
        properties::write(out, property::INNER_MULTI_QUEUE_OFFSET.as_bytes(), text.as_bytes());
    }

    /// The light queues that the record enters, with its offset in each.
    pub(crate) fn places(&self) -> impl Iterator<Item = (&Arc<ConsumeQueue>, i64)> {
        self.light_queues
            .iter()
            .flatten()
            .zip(self.light_offsets.iter().copied())
    }
}

impl AppendEntry {
    /// Messages in the record.
    pub fn messages(&self) -> i64 {
        let inner_batch = self.extra.as_ref().and_then(|extra| extra.inner_batch);
        i64::from(inner_batch.unwrap_or(1).max(1))
    }

    /// Gives the record its offset in every queue. Only under the commit log's lock.
    pub(crate) fn take_offsets(&mut self) {
        self.queue_offset = 0;
        if !self.in_queue {
            return;
        }
        self.queue_offset = self.queue.next_offset();
        self.queue.set_next_offset(self.queue_offset + self.messages());
        if let Some(extra) = &mut self.extra {
            extra.light_offsets.clear();
            for queue in extra.light_queues.iter().flatten() {
                extra.light_offsets.push(queue.next_offset());
                queue.set_next_offset(queue.next_offset() + 1);
            }
        }
    }

    /// Undoes [`AppendEntry::take_offsets`]; later records come first.
    pub(crate) fn give_offsets_back(&self) {
        if !self.in_queue {
            return;
        }
        if let Some(extra) = &self.extra {
            // A queue that is named twice gets its first offset back.
            for (queue, offset) in extra.places() {
                queue.set_next_offset(offset.min(queue.next_offset()));
            }
        }
        self.queue.set_next_offset(self.queue_offset);
    }
}

/// The last field of a consume-queue entry (spec: storage.md §6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagsCode {
    /// Java hash code of the TAGS property, 0 without tags.
    Hash(i64),
    /// Record of `SCHEDULE_TOPIC_XXXX`: its deliver time, store timestamp plus the delay of this level.
    DelayLevel(u8),
}

impl AppendBatch {
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Says more of the entry that was added last.
    pub fn add_extra(&mut self, extra: Extra) {
        self.has_extra = true;
        let last = self.entries.last_mut().expect("an entry was added");
        last.extra = Some(Box::new(extra));
    }

    /// Every queue that the batch goes to.
    pub(crate) fn queues(&self) -> impl Iterator<Item = &Arc<ConsumeQueue>> {
        self.entries.iter().flat_map(|entry| {
            let light = entry.extra.iter().flat_map(|extra| extra.light_queues.iter().flatten());
            std::iter::once(&entry.queue).chain(light)
        })
    }

    /// Adds the properties that depend on queue offsets, which every entry has by now. The records are copied: their
    /// lengths change.
    pub(crate) fn complete_records(&mut self) {
        let encoded = self.records.split();
        self.records.reserve(encoded.len() + encoded.len() / 8 + 256);
        for entry in &mut self.entries {
            let start = self.records.len();
            let range = entry.start as usize..(entry.start + entry.len) as usize;
            self.records.extend_from_slice(&encoded[range]);
            if let Some(extra) = entry.extra.as_ref().filter(|_| entry.in_queue) {
                let queue_offset = entry.queue_offset;
                record::add_properties(&mut self.records, start, |out| {
                    extra.write_properties(out, queue_offset)
                });
            }
            entry.start = start as u32;
            entry.len = (self.records.len() - start) as u32;
        }
    }

    /// Forgets entries, results and bytes, and keeps the memory.
    pub fn clear(&mut self) {
        self.records.clear();
        self.entries.clear();
        self.has_extra = false;
        self.store_timestamp = 0;
        self.end_offset = 0;
    }
}
