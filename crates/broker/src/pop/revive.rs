//! One queue of the revive topic: checkpoints meet their acknowledgements, and what is left comes again
//! (spec: storage.md §20.3). A plain state machine: records and the time in, checkpoints that are due out.
//!
//! A checkpoint arrives a second before its messages come again, its acknowledgements at that time or earlier than
//! it. It is **due** when nothing that belongs to it can still arrive in time. Invariants:
//!
//! - Checkpoints are dealt with in the order of the queue, and the offset of the last one is committed after what is
//!   left of it was stored. So after a crash some are dealt with twice, none never.
//! - The committed offset is that of the last checkpoint, not the one behind it, as in the original: reading starts one
//!   behind it.
//! - A limited number is held. Beyond it only acknowledgements are read, until there is room; then reading goes back to
//!   the first checkpoint that was passed over.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use oxmq_protocol::pop::{PopAck, PopCheckpoint};

/// How long acknowledgements may be late, as in the original.
const ACK_GRACE_MS: i64 = 2000;

#[derive(Debug)]
pub(crate) struct Revive {
    held_max: usize,
    /// Offset of the last checkpoint that was dealt with; -1 before the first.
    committed: i64,
    /// What to read next.
    cursor: i64,
    /// The first checkpoint that there was no room for.
    passed_over: Option<i64>,
    held: BTreeMap<i64, Held>,
    by_key: HashMap<Key, i64>,
    /// The latest time for which a record that was read had been meant.
    latest: i64,
}

#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) checkpoint: PopCheckpoint,
    acked: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    topic: Box<str>,
    group: Box<str>,
    queue_id: i32,
    start_offset: i64,
    pop_time: i64,
}

/// A record of the revive topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReviveRecord {
    Checkpoint(PopCheckpoint),
    Ack(PopAck),
    /// Nothing that is understood here.
    Other,
}

impl Held {
    /// Queue offsets of the messages that nobody acknowledged.
    pub(crate) fn left(&self) -> impl Iterator<Item = i64> {
        let open = (0..self.checkpoint.len()).filter(|index| self.acked & (1 << index) == 0);
        open.filter_map(|index| self.checkpoint.offset_at(index))
    }
}

impl Revive {
    /// `committed` is the offset of the revive group, if it has one.
    pub(crate) fn new(committed: Option<i64>, held_max: usize) -> Revive {
        let committed = committed.unwrap_or(-1);
        Revive {
            held_max: held_max.max(1),
            committed,
            cursor: committed + 1,
            passed_over: None,
            held: BTreeMap::new(),
            by_key: HashMap::new(),
            latest: 0,
        }
    }

    /// The next offset to read.
    pub(crate) fn cursor(&self) -> i64 {
        self.cursor
    }

    /// Records up to here are gone or unreadable.
    pub(crate) fn skip_to(&mut self, revive_offset: i64) {
        self.cursor = revive_offset;
    }

    /// The record at the cursor. `meant_for` is the time at which it was to arrive.
    pub(crate) fn read(&mut self, record: ReviveRecord, meant_for: i64) {
        let revive_offset = self.cursor;
        self.cursor += 1;
        self.latest = self.latest.max(meant_for);
        match record {
            ReviveRecord::Checkpoint(checkpoint) => self.hold(revive_offset, checkpoint),
            ReviveRecord::Ack(ack) => self.ack(&ack),
            ReviveRecord::Other => {}
        }
    }

    fn hold(&mut self, revive_offset: i64, checkpoint: PopCheckpoint) {
        if checkpoint.topic.is_empty() || checkpoint.group.is_empty() || self.held.contains_key(&revive_offset) {
            return;
        }
        let key = Key::of_checkpoint(&checkpoint);
        if self.by_key.contains_key(&key) {
            return; // The same messages once more: one checkpoint brings them all.
        }
        if self.passed_over.is_some() || self.held.len() >= self.held_max {
            self.passed_over.get_or_insert(revive_offset);
            return;
        }
        self.by_key.insert(key, revive_offset);
        self.held.insert(revive_offset, Held { checkpoint, acked: 0 });
    }

    fn ack(&mut self, ack: &PopAck) {
        let revive_offset = self.by_key.get(&Key::of_ack(ack));
        let Some(held) = revive_offset.and_then(|revive_offset| self.held.get_mut(revive_offset)) else {
            return;
        };
        for queue_offset in ack.offsets() {
            if let Some(index) = held.checkpoint.index_of(*queue_offset) {
                held.acked |= 1 << index;
            }
        }
    }

    /// The first checkpoint if it is due. `arrived_until`: everything that was meant for this time or an earlier one is in
    /// the queue and was read; without it only what was read tells how far time has come.
    pub(crate) fn due(&self, arrived_until: Option<i64>) -> Option<(i64, &Held)> {
        let until = arrived_until.unwrap_or(self.latest).max(self.latest);
        let (revive_offset, held) = self.held.first_key_value()?;
        let is_due = until.saturating_sub(held.checkpoint.revive_time()) > ACK_GRACE_MS;
        is_due.then_some((*revive_offset, held))
    }

    /// When the first checkpoint will be due.
    pub(crate) fn next_due_at(&self) -> Option<i64> {
        let (_, held) = self.held.first_key_value()?;
        Some(held.checkpoint.revive_time().saturating_add(ACK_GRACE_MS + 1))
    }

    /// The first checkpoint was dealt with. The answer is the offset to commit.
    pub(crate) fn finish(&mut self, revive_offset: i64) -> i64 {
        if let Some(held) = self.held.remove(&revive_offset) {
            self.by_key.remove(&Key::of_checkpoint(&held.checkpoint));
        }
        self.committed = revive_offset;
        if let Some(passed_over) = self.passed_over.filter(|_| self.held.len() <= self.held_max / 2) {
            self.passed_over = None;
            self.cursor = passed_over;
        }
        self.committed
    }

    /// The time of the oldest checkpoint that is held.
    pub(crate) fn oldest_revive_time(&self) -> Option<i64> {
        self.held
            .first_key_value()
            .map(|(_, held)| held.checkpoint.revive_time())
    }
}

impl Key {
    fn of_checkpoint(checkpoint: &PopCheckpoint) -> Key {
        Key {
            topic: checkpoint.topic.as_str().into(),
            group: checkpoint.group.as_str().into(),
            queue_id: checkpoint.queue_id,
            start_offset: checkpoint.start_offset,
            pop_time: checkpoint.pop_time,
        }
    }

    fn of_ack(ack: &PopAck) -> Key {
        Key {
            topic: ack.topic.as_str().into(),
            group: ack.group.as_str().into(),
            queue_id: ack.queue_id,
            start_offset: ack.start_offset,
            pop_time: ack.pop_time,
        }
    }
}

/// How long a checkpoint is put off whose messages cannot be handed out again, by how often it was put off before.
const PUT_OFF_SECONDS: [i64; 17] = [
    10, 20, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200,
];

/// Whether a checkpoint was put off as often as there are times for.
pub(crate) fn was_put_off_often(checkpoint: &PopCheckpoint) -> bool {
    checkpoint.times_put_off() >= PUT_OFF_SECONDS.len()
}

/// The checkpoint that takes over for one message of another.
pub(crate) fn put_off(checkpoint: &PopCheckpoint, queue_offset: i64, now: i64) -> PopCheckpoint {
    let times = checkpoint.times_put_off();
    let delay_ms = PUT_OFF_SECONDS[times.min(PUT_OFF_SECONDS.len() - 1)] * 1000;
    let mut invisible_time = checkpoint.invisible_time;
    if checkpoint.revive_time() <= now {
        invisible_time = invisible_time.saturating_add(delay_ms);
    }
    PopCheckpoint {
        count: 1,
        start_offset: queue_offset,
        distances: vec![0],
        invisible_time,
        revive_time: checkpoint.pop_time.saturating_add(invisible_time),
        put_off: Some((times + 1).to_string()),
        bit_map: 0,
        revive_offset: 0,
        ..checkpoint.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(start: i64, count: i8, pop_time: i64) -> PopCheckpoint {
        PopCheckpoint {
            topic: "t".into(),
            group: "g".into(),
            start_offset: start,
            count,
            pop_time,
            invisible_time: 1000,
            ..PopCheckpoint::default()
        }
    }

    fn ack(start: i64, pop_time: i64, offsets: &[i64]) -> ReviveRecord {
        ReviveRecord::Ack(PopAck {
            topic: "t".into(),
            group: "g".into(),
            start_offset: start,
            pop_time,
            ack_offset: -1,
            ack_offsets: offsets.to_vec(),
            ..PopAck::default()
        })
    }

    #[test]
    fn what_nobody_acknowledged_is_left() {
        let mut revive = Revive::new(Some(6), 8);
        assert_eq!(revive.cursor(), 7);
        revive.read(ReviveRecord::Checkpoint(checkpoint(10, 3, 5000)), 5000);
        revive.read(ack(10, 5000, &[11, 99]), 6000);
        revive.read(ack(10, 4999, &[10]), 6000);
        assert!(revive.due(None).is_none());
        assert!(revive.due(Some(8000)).is_none());
        let (offset, held) = revive.due(Some(8001)).unwrap();
        assert_eq!((offset, held.left().collect::<Vec<_>>()), (7, vec![10, 12]));
        assert_eq!((revive.next_due_at(), revive.finish(7)), (Some(8001), 7));
        assert!(revive.due(Some(i64::MAX)).is_none());
    }

    #[test]
    fn later_records_tell_the_time() {
        let mut revive = Revive::new(None, 8);
        revive.read(ReviveRecord::Checkpoint(checkpoint(0, 1, 5000)), 5000);
        revive.read(ReviveRecord::Other, 8001);
        assert_eq!(revive.due(None).map(|(offset, _)| offset), Some(0));
    }

    #[test]
    fn more_than_is_held_is_read_again() {
        let mut revive = Revive::new(None, 2);
        for start in 0..4 {
            revive.read(ReviveRecord::Checkpoint(checkpoint(start, 1, 5000)), 5000);
        }
        for start in 0..4 {
            revive.read(ack(start, 5000, &[start]), 6000);
        }
        let mut dealt_with = 0;
        let mut left = 0;
        while dealt_with < 4 {
            if let Some((offset, held)) = revive.due(Some(9000)) {
                left += held.left().count();
                assert_eq!(revive.finish(offset), dealt_with);
                dealt_with += 1;
                continue;
            }
            // The records as they lie in the queue.
            while revive.cursor() < 8 {
                match revive.cursor() {
                    at @ 0..4 => revive.read(ReviveRecord::Checkpoint(checkpoint(at, 1, 5000)), 5000),
                    at => revive.read(ack(at - 4, 5000, &[at - 4]), 6000),
                }
            }
        }
        assert_eq!(left, 0);
    }

    #[test]
    fn a_checkpoint_is_put_off_longer_each_time() {
        let first = put_off(&checkpoint(10, 3, 5000), 12, 7000);
        assert_eq!((first.start_offset, first.count, first.invisible_time), (12, 1, 11_000));
        assert_eq!(first.put_off.as_deref(), Some("1"));
        let second = put_off(&first, 12, 16_000);
        assert_eq!((second.invisible_time, second.put_off.as_deref()), (31_000, Some("2")));
        let early = put_off(&second, 12, 0);
        assert_eq!(early.invisible_time, 31_000);
        assert!(!was_put_off_often(&second));
        let last = PopCheckpoint {
            put_off: Some("17".into()),
            ..second.clone()
        };
        assert!(was_put_off_often(&last));
        let absurd = PopCheckpoint {
            put_off: Some("x".into()),
            ..second
        };
        assert_eq!(put_off(&absurd, 12, 60_000).invisible_time, 31_000 + 7_200_000);
    }
}
