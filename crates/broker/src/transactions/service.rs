//! The thread that asks producers about half messages they have not ended, and keeps the progress of that.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::BytesMut;
use oxmq_protocol::RemotingCommand;
use oxmq_protocol::message_id::OffsetMessageId;
use oxmq_protocol::record::RecordRef;
use oxmq_protocol::requests::{CheckTransactionStateHeader, request};
use oxmq_protocol::topic::{TRANS_CHECK_MAX_TIME_TOPIC, TRANS_HALF_TOPIC};
use oxmq_store::{AppendBatch, GetLimits, GetStatus, Wait};
use tokio::runtime::Builder;
use tokio::time::{Instant, sleep};

use super::check::{Age, Round, Verdict};
use super::half::Half;
use super::ledger::{HalfId, State};
use super::replay::{UnlinkedCopies, key_hash};
use super::{GROUP, STEP, Transactions, each_record, on_ops};
use crate::broker::Broker;
use crate::put::PutError;

/// How often progress is noted.
const PROGRESS_PERIOD: Duration = Duration::from_secs(1);
/// After something could not be stored.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Producers that are tried before the question waits for the next round, as in the original.
const PRODUCERS_TRIED: usize = 3;
/// What one round may take, as in the original.
const ROUND_MS_MAX: i64 = 60_000;

/// Progress that counts as soon as the log is on disk up to this position.
#[derive(Debug, Clone, Copy)]
struct Progress {
    consumed: i64,
    written: i64,
}

/// A half message of a batch, and what the batch does to it.
struct Checked<'a> {
    half: Half<'a>,
    current: HalfId,
    verdict: Verdict,
    /// Its copy in the batch.
    entry: usize,
}

/// Starts the thread. It ends after [`Transactions::stop`].
pub(crate) fn spawn(broker: &Arc<Broker>) -> io::Result<JoinHandle<()>> {
    let broker = Arc::clone(broker);
    let runtime = Builder::new_current_thread().enable_time().build()?;
    std::thread::Builder::new()
        .name("oxmq-transactions".into())
        .spawn(move || runtime.block_on(run(&broker)))
}

async fn run(broker: &Broker) {
    let service = Service {
        broker,
        transactions: &broker.transactions,
    };
    let mut stopping = broker.transactions.stopping.subscribe();
    tokio::select! {
        _ = stopping.wait_for(|stopping| *stopping) => {}
        () = service.work() => {}
    }
}

struct Service<'a> {
    broker: &'a Broker,
    transactions: &'a Transactions,
}

impl Service<'_> {
    async fn work(&self) {
        while let Err(error) = self.finish_start().await {
            tracing::warn!(%error, "transactions from before the start cannot be settled yet");
            sleep(RETRY_PAUSE).await;
        }
        let mut last_round = Instant::now();
        let mut progress = None;
        loop {
            let interval = Duration::from_millis(self.broker.config().transaction_check_interval_ms);
            sleep(PROGRESS_PERIOD.min(interval)).await;
            if last_round.elapsed() >= interval {
                if let Err(error) = self.round().await {
                    tracing::warn!(%error, "half messages cannot be checked");
                }
                last_round = Instant::now();
            }
            progress = self.advance(progress);
        }
    }

    /// Writes the op records that a crash has torn off, and learns which copies stand for older half messages.
    async fn finish_start(&self) -> Result<(), PutError> {
        let mut without_op = std::mem::take(&mut *self.transactions.without_op.lock());
        without_op.extend(self.learn_copies());
        if let Err(error) = self.write_ops(&without_op) {
            *self.transactions.without_op.lock() = without_op;
            return Err(error);
        }
        self.transactions.ledger.lock().all_copies_known();
        self.flushed(self.broker.store.written()).await;
        self.broker.store.release_recovery_position();
        Ok(())
    }

    fn write_ops(&self, halves: &[i64]) -> Result<(), PutError> {
        if halves.is_empty() {
            return Ok(());
        }
        let mut batch = self.broker.internal_batch.lock();
        batch.clear();
        let ops = self
            .transactions
            .stage_ops(self.broker, &mut batch, halves.iter().copied())?;
        self.broker.store.append(&mut batch)?;
        on_ops(&mut self.transactions.ledger.lock(), &batch, &ops);
        Ok(())
    }

    async fn flushed(&self, end_offset: i64) {
        let mut flushed = self.broker.watch_flushed();
        if self.broker.store.flushed() < end_offset {
            // An error means that the broker stops.
            let _ = flushed.wait_for(|flushed| *flushed >= end_offset).await;
        }
    }

    /// Older half messages that were open beside a copy come back; they are closed now.
    fn learn_copies(&self) -> Vec<i64> {
        let (mut replaced, mut unlinked) = (Vec::new(), UnlinkedCopies::default());
        let end = self.transactions.half_queue.max_offset();
        let mut next = 0;
        let mut records = BytesMut::new();
        while let Some(from) = self.read_open(&mut next, end, &mut records) {
            each_record(&records[..], |record| {
                if let Some(half) = Half::of(*record) {
                    let id = match half.unique_key {
                        [] => half.id,
                        key => unlinked.link(half.id, key_hash(key), half.check_times),
                    };
                    replaced.extend(self.transactions.ledger.lock().learn(id));
                }
            });
            debug_assert!(next > from, "reading goes on");
        }
        replaced
    }

    /// Reads some half messages in a row that are open, from the first of them at or behind `next`, which moves behind
    /// them. Those that are no longer in the log are closed.
    fn read_open(&self, next: &mut i64, end: i64, records: &mut BytesMut) -> Option<i64> {
        records.clear();
        let (from, count) = {
            let ledger = self.transactions.ledger.lock();
            let from = ledger.next_open(*next, end)?;
            let is_open = |at: i64| ledger.next_open(at, end) == Some(at);
            (
                from,
                (1..STEP.count)
                    .take_while(|count| is_open(from + *count as i64))
                    .count()
                    + 1,
            )
        };
        let limits = GetLimits { count, ..STEP };
        let queue = &self.transactions.half_queue;
        let got = self
            .broker
            .store
            .get_messages(queue, from, &limits, &mut |_| true, Wait::Allowed, records);
        match got {
            Ok(got) if got.status == GetStatus::Found => *next = got.next_begin_offset,
            Ok(got) => {
                *next = got.next_begin_offset.clamp(from + 1, end);
                tracing::warn!(from, until = *next, "half messages are gone");
                let mut ledger = self.transactions.ledger.lock();
                (from..*next).for_each(|gone| ledger.set(gone, State::Closed));
            }
            Err(error) => {
                tracing::warn!(from, %error, "half messages cannot be read");
                return None;
            }
        }
        Some(from)
    }

    async fn round(&self) -> Result<(), PutError> {
        let round = {
            let config = self.broker.config();
            Round {
                began_at: self.broker.now_ms(),
                transaction_timeout_ms: config.transaction_time_out_ms as i64,
                check_max: config.transaction_check_max,
                reserved_ms: config.file_reserved_time_hours.saturating_mul(3_600_000) as i64,
            }
        };
        let end = self.transactions.half_queue.max_offset();
        let mut next = 0;
        let mut records = BytesMut::new();
        let mut batch = AppendBatch::default();
        while self.broker.now_ms() - round.began_at <= ROUND_MS_MAX {
            if self.read_open(&mut next, end, &mut records).is_none() {
                break;
            }
            if !self.check(&round, &records, &mut batch).await? {
                break;
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Decides about half messages, stores what follows and asks their producers. False when the round is over.
    async fn check(&self, round: &Round, records: &[u8], batch: &mut AppendBatch) -> Result<bool, PutError> {
        batch.clear();
        let mut checked = Vec::new();
        let mut superseded = Vec::new();
        let mut goes_on = true;
        each_record(records, |record| {
            if goes_on {
                goes_on = self.stage(round, record, batch, &mut checked, &mut superseded);
            }
        });
        self.store(batch, &checked, superseded)?;
        // With SYNC_FLUSH a half message can be ended when it is on disk.
        if self.broker.store.confirmed() < batch.end_offset {
            self.flushed(batch.end_offset).await;
        }
        for checked in &checked {
            if let Verdict::Check { check_times } = checked.verdict {
                self.ask(&checked.half, checked.copy(batch), check_times);
            }
        }
        Ok(goes_on)
    }

    /// Appends what is staged with its op records.
    fn store(&self, batch: &mut AppendBatch, checked: &[Checked<'_>], superseded: Vec<i64>) -> Result<(), PutError> {
        let halves = checked.iter().map(|checked| checked.current.queue_offset);
        let ops = self
            .transactions
            .stage_ops(self.broker, batch, halves.chain(superseded))?;
        let stored = self.broker.store.append(batch);
        let mut ledger = self.transactions.ledger.lock();
        if let Err(error) = stored {
            checked.iter().for_each(|checked| ledger.release(checked.current));
            return Err(error.into());
        }
        let now = self.broker.now_ms();
        for checked in checked {
            match checked.verdict {
                Verdict::GiveUp => {
                    ledger.end(checked.current, State::Closed);
                    self.transactions.metrics.add(checked.half.real_topic, -1, now);
                }
                _ => ledger.replace(checked.current, checked.copy(batch)),
            }
        }
        on_ops(&mut ledger, batch, &ops);
        Ok(())
    }

    /// False when the round is over.
    fn stage<'a>(
        &self,
        round: &Round,
        record: &RecordRef<'a>,
        batch: &mut AppendBatch,
        checked: &mut Vec<Checked<'a>>,
        superseded: &mut Vec<i64>,
    ) -> bool {
        let queue_offset = record.queue_offset();
        let Some(half) = Half::of(*record) else {
            tracing::warn!(queue_offset, "a record of the half topic is no half message");
            self.transactions.ledger.lock().set(queue_offset, State::Closed);
            superseded.push(queue_offset);
            return true;
        };
        let verdict = round.decide(&Age::of(&half, round), self.broker.now_ms());
        if verdict == Verdict::StopRound {
            return false;
        }
        let current = {
            let mut ledger = self.transactions.ledger.lock();
            let Ok(current) = ledger.claim(half.id) else {
                return true;
            };
            if current != half.id {
                ledger.release(current);
                ledger.set(queue_offset, State::Closed);
                superseded.push(queue_offset);
                return true;
            }
            current
        };
        let (store_host, entry) = (self.broker.store_host, batch.entries.len());
        let (half_queue, replaced) = (&self.transactions.half_queue, current.physical_offset);
        let staged = match verdict {
            Verdict::GiveUp => {
                tracing::warn!(
                    topic = half.real_topic,
                    key = %String::from_utf8_lossy(half.unique_key),
                    "nobody has ended this transaction: it is given up"
                );
                self.broker.topics.ensure_check_max_topic(self.broker.now_ms());
                let queue = self.broker.store.queue_or_create(TRANS_CHECK_MAX_TIME_TOPIC, 0);
                half.stage_given_up(batch, &queue, store_host)
            }
            Verdict::Check { check_times } => half.stage_copy(batch, half_queue, store_host, check_times, replaced),
            _ => half.stage_copy(batch, half_queue, store_host, half.check_times, replaced),
        };
        if let Err(error) = staged {
            tracing::error!(queue_offset, %error, "a half message cannot be checked");
            self.transactions.ledger.lock().release(current);
            return true;
        }
        checked.push(Checked {
            half,
            current,
            verdict,
            entry,
        });
        true
    }

    /// Sends CHECK_TRANSACTION_STATE (39) to one producer of the group. Without one the next round asks again.
    fn ask(&self, half: &Half<'_>, copy: HalfId, check_times: i32) {
        let group = String::from_utf8_lossy(half.producer_group.unwrap_or_default());
        let key = String::from_utf8_lossy(half.unique_key);
        let id = OffsetMessageId {
            store_host: self.broker.store_host,
            physical_offset: copy.physical_offset,
        };
        let header = CheckTransactionStateHeader {
            topic: Some(TRANS_HALF_TOPIC.into()),
            tran_state_table_offset: copy.queue_offset,
            commit_log_offset: copy.physical_offset,
            msg_id: Some(key.to_string()),
            transaction_id: Some(key.into_owned()),
            offset_msg_id: Some(id.to_string()),
            broker_name: Some(self.broker.config().broker_name.clone()),
        };
        let mut body = BytesMut::new();
        if let Err(error) = half.encode_for_check(&mut body, copy, check_times) {
            tracing::error!(%group, %error, "a producer cannot be asked about a transaction");
            return;
        }
        let request = RemotingCommand::request::<request::CheckTransactionState>(&header, body.freeze());
        for _ in 0..PRODUCERS_TRIED {
            match self
                .broker
                .producers
                .next(&group)
                .map(|producer| producer.handle.oneway(request.clone()))
            {
                Some(Ok(())) => return,
                Some(Err(error)) => tracing::debug!(%group, %error, "a producer cannot be asked about a transaction"),
                None => break,
            }
        }
        tracing::debug!(%group, id = header.offset_msg_id, "no producer can be asked about a transaction");
    }

    /// Notes progress that is on disk, and says what to note next.
    fn advance(&self, progress: Option<Progress>) -> Option<Progress> {
        let store = &self.broker.store;
        let mut ledger = self.transactions.ledger.lock();
        match progress {
            Some(progress) if progress.written > store.flushed() => return Some(progress),
            Some(progress) => {
                ledger.consume(progress.consumed);
                let (halves, ops) = (&self.transactions.half_queue, &self.transactions.op_queue);
                let (offsets, now) = (&self.broker.consumer_offsets, self.broker.now_ms());
                offsets.commit(GROUP, halves.topic(), 0, progress.consumed, now);
                offsets.commit(GROUP, ops.topic(), 0, ledger.consume_ops(), now);
            }
            None => {}
        }
        let consumed = ledger.consumable(self.transactions.half_queue.max_offset());
        let written = store.written();
        (consumed > ledger.consumed()).then_some(Progress { consumed, written })
    }
}

impl Checked<'_> {
    fn copy(&self, batch: &AppendBatch) -> HalfId {
        let entry = &batch.entries[self.entry];
        HalfId {
            queue_offset: entry.queue_offset,
            physical_offset: entry.physical_offset,
            first: self.current.first,
        }
    }
}
