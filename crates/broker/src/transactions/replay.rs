//! What a crash has torn apart, found in the records that the store replays. Pure.
//!
//! Whatever ends, replaces or gives up a half message is appended in one batch with the op record that names the half
//! message, op record last; it carries the physical offset of the half message (`preparedTransactionOffset`). A crash leaves a prefix of a batch, so that the first may be there without the second. Such a
//! batch is among the last of the log, and every start replays it until the missing op record is on disk.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, VecDeque};
use std::hash::Hasher;

use oxmq_protocol::record::RecordRef;
use oxmq_protocol::topic::TRANS_CHECK_MAX_TIME_TOPIC;
use oxmq_protocol::{properties, property, sys_flag};

use super::half::Half;
use super::ledger::{HalfId, Ledger, State};

/// Records that are remembered, the newest. A batch has far fewer.
const REMEMBERED_MAX: usize = 1 << 20;

/// A record that says that a half message is no longer open, and carries its physical offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trace {
    pub(crate) half_physical_offset: i64,
    /// Hash of the key that both have. It tells this from records that carry the place by chance: delivered and retried
    /// messages keep the flag of a commit.
    pub(crate) key: u64,
    pub(crate) state: State,
    /// The record, if it is itself a half message.
    pub(crate) copy: Option<HalfId>,
}

#[derive(Debug, Default)]
pub(crate) struct Replay(VecDeque<Trace>);

impl Trace {
    pub(crate) fn of(record: &RecordRef<'_>) -> Option<Trace> {
        let mut copy = None;
        let state = if record.sys_flag() & sys_flag::TRANSACTION_MASK == sys_flag::TRANSACTION_COMMIT {
            State::Committed
        } else if record.topic() == TRANS_CHECK_MAX_TIME_TOPIC.as_bytes() {
            State::Closed
        } else {
            let half = Half::of(*record)?;
            copy = (half.id.first != half.id.queue_offset).then_some(half.id);
            copy.map(|_| State::Closed)?
        };
        Some(Trace {
            half_physical_offset: record.prepared_transaction_offset(),
            key: key_hash(properties::find(
                record.properties(),
                property::UNIQUE_CLIENT_MESSAGE_ID,
            )?),
            state,
            copy,
        })
    }
}

impl Replay {
    pub(crate) fn see(&mut self, trace: Trace) {
        if self.0.len() == REMEMBERED_MAX {
            self.0.pop_front();
        }
        self.0.push_back(trace);
    }

    /// Enters what was seen into a ledger that knows all op records. The half messages that lack one come back. `half_at`
    /// finds the half message at a physical offset, and the hash of its key.
    pub(crate) fn settle(self, ledger: &mut Ledger, half_at: impl Fn(i64) -> Option<(HalfId, u64)>) -> Vec<i64> {
        let mut without_op = Vec::new();
        for trace in &self.0 {
            let half = half_at(trace.half_physical_offset).filter(|(_, key)| *key == trace.key);
            if let Some((half, _)) = half
                && ledger.state(half.queue_offset) == State::Open
            {
                ledger.set(half.queue_offset, trace.state);
                without_op.push(half.queue_offset);
            }
        }
        for copy in self.0.iter().filter_map(|trace| trace.copy) {
            without_op.extend(ledger.learn(copy));
        }
        without_op
    }
}

/// Finds out whose copies those are that Java appends for a check: it does not say. When it was killed before their op
/// records, the copy and the half message are both open; what tells that they are one transaction is their key.
#[derive(Debug, Default)]
pub(crate) struct UnlinkedCopies {
    /// Open half messages by key: the first of the transaction.
    firsts: HashMap<u64, i64>,
}

impl UnlinkedCopies {
    /// The open half messages have to come in the order of their queue.
    pub(crate) fn link(&mut self, half: HalfId, key: u64, check_times: i32) -> HalfId {
        let mut half = half;
        if check_times > 0
            && half.first == half.queue_offset
            && let Some(first) = self.firsts.get(&key)
        {
            half.first = *first;
        }
        if self.firsts.len() < REMEMBERED_MAX {
            self.firsts.insert(key, half.first);
        }
        half
    }
}

pub(crate) fn key_hash(unique_key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(unique_key);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn half(queue_offset: i64, first: i64) -> HalfId {
        HalfId {
            queue_offset,
            physical_offset: 100 * queue_offset,
            first,
        }
    }

    #[test]
    fn a_copy_of_java_that_was_cut_off_its_op_record_closes_what_it_stands_for() {
        let (mut copies, mut ledger) = (UnlinkedCopies::default(), Ledger::new(0, 0));
        let mut learn = |half: HalfId, key, check_times| ledger.learn(copies.link(half, key, check_times));
        assert_eq!(learn(half(0, 0), 7, 0), None);
        assert_eq!(learn(half(1, 1), 8, 0), None, "another transaction");
        assert_eq!(learn(half(2, 2), 9, 1), None, "its half message is closed");
        assert_eq!(learn(half(3, 3), 7, 1), Some(0));
        assert_eq!(learn(half(4, 4), 7, 2), Some(3));
        assert_eq!(learn(half(5, 5), 8, 0), None, "a message that was sent twice");
        assert_eq!(learn(half(6, 2), 9, 2), Some(2), "a copy of ours");
        assert_eq!(ledger.state(4), State::Open);
    }
}
