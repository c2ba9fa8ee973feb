//! Transactions: half messages that are committed, rolled back, or asked about (spec: behaviour.md §7, storage.md §17).
//!
//! A half message lies in `RMQ_SYS_TRANS_HALF_TOPIC` until its producer says how its transaction ended. Invariants:
//!
//! - **One batch.** What ends, replaces or gives up a half message is appended in one batch with the op record that names
//!   the half message, and the op records are the last of it: the message for consumers with a commit, a copy of the half
//!   message with a check, a copy in `TRANS_CHECK_MAX_TIME_TOPIC` when it is given up. A rollback is an op record alone.
//! - **One outcome.** Before anything is staged, the transaction is claimed in the [`ledger`]; what it has ended
//!   is not claimed again, whichever of its half messages a request names.
//! - **After a crash** the log ends with a prefix of a batch at worst. What lacks its op record there is found in the
//!   [`replay`] before the first request is served, counts as ended, and its op record is written. The recovery position
//!   of the store stays before it until that op record is on disk.
//! - **Progress.** The offsets of `CID_RMQ_SYS_TRANS` pass a half message when it is ended or replaced and what did
//!   that is on disk, and an op record when they have passed all that it names. A start reads the op queue from there on,
//!   so that the ledger knows every ended half message which is not passed.
//!
//! A Java broker that takes the folder over reads the same op records and offsets and decides the same.

mod check;
pub(crate) mod end;
pub(crate) mod half;
pub(crate) mod ledger;
mod metrics;
mod replay;
mod service;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use oxmq_protocol::record::RecordRef;
use oxmq_protocol::topic::{TRANS_HALF_TOPIC, TRANS_OP_HALF_TOPIC};
use oxmq_store::{AppendBatch, ConsumeQueue, GetError, GetLimits, GetStatus, MessageStore, ReplayObserver, Wait};
use parking_lot::Mutex;
use tokio::sync::watch;

pub use metrics::TransactionMetrics;
pub(crate) use service::spawn;

use crate::broker::Broker;
use crate::config_file::ConfigFile;
use crate::consumer_offsets::ConsumerOffsets;
use crate::put::PutError;
use half::{Half, StagedOp};
use ledger::{HalfId, Ledger, State, Unclaimed};
use replay::{Replay, Trace, key_hash};

/// The group whose consumer offsets are the progress of checks.
const GROUP: &str = "CID_RMQ_SYS_TRANS";

/// What is read of a queue at once.
const STEP: GetLimits = GetLimits {
    count: 32,
    bytes: 1 << 20,
};

/// The transactions of a broker.
pub struct Transactions {
    pub metrics: TransactionMetrics,
    pub(crate) ledger: Mutex<Ledger>,
    half_queue: Arc<ConsumeQueue>,
    op_queue: Arc<ConsumeQueue>,
    /// Half messages that ended before the start and have no op record.
    without_op: Mutex<Vec<i64>>,
    stopping: watch::Sender<bool>,
}

/// Looks at the records that the store replays when it opens.
#[derive(Clone, Default)]
pub(crate) struct ReplayWatch(Arc<Mutex<Replay>>);

impl ReplayWatch {
    pub(crate) fn observer(&self) -> ReplayObserver {
        let replay = Arc::clone(&self.0);
        Arc::new(move |record| {
            if let Some(trace) = Trace::of(record) {
                replay.lock().see(trace);
            }
        })
    }
}

impl Transactions {
    /// Reads what the op queue says about half messages that are not consumed yet.
    pub(crate) fn open(
        metrics_file: ConfigFile,
        store: &MessageStore,
        offsets: &ConsumerOffsets,
        replayed: &ReplayWatch,
    ) -> io::Result<Transactions> {
        let half_queue = store.queue_or_create(TRANS_HALF_TOPIC, 0);
        let op_queue = store.queue_or_create(TRANS_OP_HALF_TOPIC, 0);
        if half_queue.is_unreadable() || op_queue.is_unreadable() {
            return Err(io::Error::other("the consume queues of half messages cannot be read"));
        }
        let progress = |queue: &ConsumeQueue| {
            let (min, max) = (queue.min_offset(), queue.max_offset());
            let saved = offsets.committed(GROUP, queue.topic(), 0).unwrap_or(min);
            saved.clamp(min, max.max(min))
        };
        let ops_from = progress(&op_queue);
        let mut ledger = Ledger::new(progress(&half_queue), ops_from);
        read_queue(store, &op_queue, ops_from, |op| {
            let mut half_max = -1;
            // No record names what does not exist; a damaged one must not cost memory.
            let halves = half::halves_of_op(op).filter(|half| (0..half_queue.max_offset()).contains(half));
            for half in halves {
                ledger.set(half, State::Closed);
                half_max = half_max.max(half);
            }
            ledger.on_op_record(op.queue_offset(), half_max);
        })?;
        let replay = std::mem::take(&mut *replayed.0.lock());
        let without_op = replay.settle(&mut ledger, |physical_offset| {
            let record = store.read_record(physical_offset).ok()??;
            let half = Half::of(RecordRef::parse(&record).ok()?)?;
            Some((half.id, key_hash(half.unique_key)))
        });
        Ok(Transactions {
            metrics: TransactionMetrics::open(metrics_file)?,
            ledger: Mutex::new(ledger),
            half_queue,
            op_queue,
            without_op: Mutex::new(without_op),
            stopping: watch::Sender::new(false),
        })
    }

    pub(crate) fn half_queue(&self) -> &Arc<ConsumeQueue> {
        &self.half_queue
    }

    /// Ends the thread that checks, after the batch it is at.
    pub(crate) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Encodes the op records for these half messages behind what is staged.
    pub(crate) fn stage_ops(
        &self,
        broker: &Broker,
        batch: &mut AppendBatch,
        halves: impl Iterator<Item = i64>,
    ) -> Result<Vec<StagedOp>, PutError> {
        let (store_host, now) = (broker.store_host, broker.now_ms());
        Ok(half::stage_ops(batch, &self.op_queue, halves, store_host, now)?)
    }

    /// Puts a half message back to the end of its queue, to be checked from the beginning. False when its transaction has
    /// ended or is being decided. `half` may be one that was given up.
    pub(crate) fn resume(&self, broker: &Broker, half: &Half<'_>) -> Result<bool, PutError> {
        let given_up = half.record.topic() != TRANS_HALF_TOPIC.as_bytes();
        let named = match given_up {
            true => HalfId {
                queue_offset: half.id.first,
                ..half.id
            },
            false => half.id,
        };
        let current = match self.ledger.lock().claim(named) {
            Ok(current) => Some(current),
            Err(Unclaimed::Ended(State::Closed)) if given_up => None,
            Err(_) => return Ok(false),
        };
        let mut batch = broker.internal_batch.lock();
        batch.clear();
        let replaced = current.map_or(0, |current| current.physical_offset);
        let staged = half.stage_copy(&mut batch, &self.half_queue, broker.store_host, 0, replaced);
        let ops = staged
            .map_err(PutError::from)
            .and_then(|()| self.stage_ops(broker, &mut batch, current.iter().map(|current| current.queue_offset)));
        let stored = ops.and_then(|ops| broker.store.append(&mut batch).map(|()| ops).map_err(PutError::from));
        let mut ledger = self.ledger.lock();
        let ops = stored.inspect_err(|_| current.into_iter().for_each(|current| ledger.release(current)))?;
        let copy = HalfId {
            queue_offset: batch.entries[0].queue_offset,
            physical_offset: batch.entries[0].physical_offset,
            first: half.id.first,
        };
        match current {
            Some(current) => ledger.replace(current, copy),
            None => {
                ledger.learn(copy);
                self.metrics.add(half.real_topic, 1, broker.now_ms());
            }
        }
        on_ops(&mut ledger, &batch, &ops);
        Ok(true)
    }
}

/// Tells the ledger of op records that were appended.
pub(crate) fn on_ops(ledger: &mut Ledger, batch: &AppendBatch, ops: &[StagedOp]) {
    for op in ops {
        ledger.on_op_record(batch.entries[op.entry].queue_offset, op.half);
    }
}

/// Calls `found` with every record of a queue from an offset on.
fn read_queue(
    store: &MessageStore,
    queue: &ConsumeQueue,
    from: i64,
    mut found: impl FnMut(&RecordRef<'_>),
) -> io::Result<()> {
    let mut next = from;
    let mut records = BytesMut::new();
    while next < queue.max_offset() {
        records.clear();
        let got = store.get_messages(queue, next, &STEP, &mut |_| true, Wait::Allowed, &mut records);
        let got = got.map_err(|error| match error {
            GetError::Io(error) => error,
            other => io::Error::other(other),
        })?;
        if got.status == GetStatus::Found {
            each_record(&records, &mut found);
        }
        if got.next_begin_offset <= next {
            break;
        }
        next = got.next_begin_offset;
    }
    Ok(())
}

fn each_record<'a>(mut records: &'a [u8], mut found: impl FnMut(&RecordRef<'a>)) {
    while let Ok(record) = RecordRef::parse(records) {
        records = &records[record.total_size()..];
        found(&record);
    }
}
