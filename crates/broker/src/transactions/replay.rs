//! What a crash has torn apart, found in the records that the store replays. Pure.
//!
//! Whatever ends, replaces or gives up a half message is appended in one batch with the op record that names the half
//! message, op record last. A crash leaves a prefix of a batch, so that the first may be there without the second. Such a
//! batch is among the last of the log, and every start replays it until the missing op record is on disk.

use std::collections::VecDeque;
use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;

use oxmq_protocol::record::RecordRef;
use oxmq_protocol::topic::{TRANS_CHECK_MAX_TIME_TOPIC, TRANS_HALF_TOPIC};
use oxmq_protocol::{properties, property, sys_flag};

use super::half::Half;
use super::ledger::{HalfId, Ledger, State};

/// Records of each kind that are remembered, the newest. A batch has far fewer.
const REMEMBERED_MAX: usize = 1 << 20;

/// A record that says that a half message is no longer open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trace {
    /// What came of the half message that lies there. The key tells it from records that have that place by chance:
    /// delivered and retried messages keep the flag of a commit.
    End {
        half_physical_offset: i64,
        key: u64,
        state: State,
    },
    Copy(HalfId),
}

#[derive(Debug, Default)]
pub(crate) struct Replay {
    ends: VecDeque<(i64, u64, State)>,
    copies: VecDeque<HalfId>,
}

impl Trace {
    pub(crate) fn of(record: &RecordRef<'_>) -> Option<Trace> {
        let end = |state| {
            Some(Trace::End {
                half_physical_offset: record.prepared_transaction_offset(),
                key: key_hash(properties::find(
                    record.properties(),
                    property::UNIQUE_CLIENT_MESSAGE_ID,
                )?),
                state,
            })
        };
        if record.sys_flag() & sys_flag::TRANSACTION_MASK == sys_flag::TRANSACTION_COMMIT {
            return end(State::Committed);
        }
        if record.topic() == TRANS_CHECK_MAX_TIME_TOPIC.as_bytes() {
            return end(State::Closed);
        }
        if record.topic() != TRANS_HALF_TOPIC.as_bytes() {
            return None;
        }
        let half = Half::of(*record)?;
        (half.id.first != half.id.queue_offset).then_some(Trace::Copy(half.id))
    }
}

impl Replay {
    pub(crate) fn see(&mut self, trace: Trace) {
        match trace {
            Trace::End {
                half_physical_offset,
                key,
                state,
            } => remember(&mut self.ends, (half_physical_offset, key, state)),
            Trace::Copy(copy) => remember(&mut self.copies, copy),
        }
    }

    /// Enters what was seen into a ledger that knows all op records. The half messages that lack one come back. `half_at`
    /// finds the half message at a physical offset, and the hash of its key.
    pub(crate) fn settle(self, ledger: &mut Ledger, half_at: impl Fn(i64) -> Option<(HalfId, u64)>) -> Vec<i64> {
        let mut without_op = Vec::new();
        for (physical_offset, key, state) in self.ends {
            let half = half_at(physical_offset).filter(|(_, half_key)| *half_key == key);
            if let Some((half, _)) = half
                && ledger.state(half.queue_offset) == State::Open
            {
                ledger.end(half, state);
                without_op.push(half.queue_offset);
            }
        }
        for copy in self.copies {
            without_op.extend(ledger.learn_copy(copy));
        }
        without_op
    }
}

pub(crate) fn key_hash(unique_key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(unique_key);
    hasher.finish()
}

fn remember<T>(seen: &mut VecDeque<T>, trace: T) {
    if seen.len() == REMEMBERED_MAX {
        seen.pop_front();
    }
    seen.push_back(trace);
}
