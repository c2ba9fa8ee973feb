//! Delay levels: messages that wait in `SCHEDULE_TOPIC_XXXX` until their time comes (spec: storage.md §15).
//!
//! Owns `delayOffset.json`. One thread delivers; it sleeps until the next message is due or one arrives. What is delivered
//! keeps its properties as stored, `DELAY`, `REAL_TOPIC` and `REAL_QID` included.
//!
//! - Never early: a message is due its delay after the time it was stored, which the consume queue says.
//! - Never lost: the progress of a level is saved only as far as the deliveries behind it are on disk.
//! - Never twice: a delivered record names its source ([`source_mark`]), and the messages of a level are delivered in
//!   order. Where the commit log holds a delivery behind the saved progress, that level goes on behind its source.
//!   Deliveries that the saved progress does not count all lie behind `deliveredFrom`. Those of a Java broker, which
//!   marks nothing, are found by `unmarked_deliveries`.

mod level;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::BytesMut;
use oxmq_protocol::body::{DataVersion, DelayOffsetSerializeWrapper};
use oxmq_protocol::record::RecordRef;
use oxmq_protocol::topic::SCHEDULE_TOPIC;
use oxmq_protocol::{json, properties, property};
use oxmq_store::timer::source_mark;
use oxmq_store::{AppendBatch, ConsumeQueue, GetLimits, GetStatus, MessageStore, Wait};
use parking_lot::Mutex;

use crate::broker::Broker;
use crate::config_file::{ConfigFile, Unsaved};
use crate::mailbox::Service;
use crate::put::InternalMessage;
use crate::stats::{MessageType, SentBatch};
use crate::waiting::Origin;

use level::{Due, Level, Unflushed, after_nothing, within};

/// Longest sleep: a clock that was set forward is noticed after this time.
const SLEEP_MAX_MS: i64 = 1000;
/// After a delivery that failed, its level waits this long, as in the original.
const RETRY_MS: i64 = 10_000;
/// What is read from a level at once.
const READ: GetLimits = GetLimits {
    count: 512,
    bytes: 1 << 20,
};
/// What one step takes from a level, so that a level with a backlog does not starve the others.
const STEP_MESSAGES: i64 = 512;
const STEP_BYTES: usize = 1 << 20;

/// The file is written anew when a start would have to read so much of the commit log.
const UNREAD_LOG_BYTES_MAX: i64 = 64 << 20;

/// Progress of every level.
pub struct Schedule {
    file: ConfigFile,
    unsaved: Unsaved,
    delays_ms: Vec<i64>,
    version_step: u64,
    state: Mutex<State>,
    stop: AtomicBool,
}

struct State {
    version: DataVersion,
    updates: u64,
    levels: Vec<Level>,
    /// As the file says it.
    delivered_from: Option<i64>,
}

/// The last source that was delivered on each level, by its physical offset.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct LevelSources(BTreeMap<i32, i64>);

impl LevelSources {
    pub(crate) fn note(&mut self, level: i32, source: i64) {
        let last = self.0.entry(level).or_insert(source);
        *last = source.max(*last);
    }
}

/// The level that a delivered record has waited on.
pub(crate) fn level_of(record: &RecordRef<'_>) -> Option<i32> {
    let level = properties::find(record.properties(), property::DELAY_TIME_LEVEL)?;
    let level = std::str::from_utf8(level).ok()?.parse().ok()?;
    (level > 0).then_some(level)
}

/// What a step found on a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// There may be more that is due.
    More,
    /// Nothing is due before this time.
    WaitUntil(i64),
    /// Nothing waits; an arrival wakes the thread.
    Idle,
}

impl Schedule {
    /// Reads `config/delayOffset.json`. Level n has `delays_ms[n - 1]`.
    pub fn open(file: ConfigFile, delays_ms: &[u64], version_step: u64, store: &MessageStore) -> io::Result<Schedule> {
        let stored: DelayOffsetSerializeWrapper = file.load()?.unwrap_or_default();
        let levels = (1..=delays_ms.len() as i32).map(|level| {
            let saved = stored.offset_table.get(&level).copied().unwrap_or(0);
            let bounds = store.queue(SCHEDULE_TOPIC, level - 1);
            let bounds = bounds.map_or((0, 0), |queue| (queue.min_offset(), queue.max_offset()));
            Level::at(within(saved, bounds))
        });
        Ok(Schedule {
            file,
            unsaved: Unsaved::default(),
            delays_ms: delays_ms.iter().map(|delay| *delay as i64).collect(),
            version_step: version_step.max(1),
            state: Mutex::new(State {
                version: stored.data_version,
                updates: 0,
                levels: levels.collect(),
                delivered_from: stored.delivered_from,
            }),
            stop: AtomicBool::new(false),
        })
    }

    /// From here on the commit log has to be searched for deliveries that the file does not count; nothing where Java
    /// has worked since.
    pub(crate) fn delivered_from(&self) -> Option<i64> {
        self.state.lock().delivered_from
    }

    /// Where each level goes on.
    pub(crate) fn next_offsets(&self) -> Vec<i64> {
        self.state.lock().levels.iter().map(|level| level.next).collect()
    }

    /// Goes on behind what was delivered before the last stop.
    pub(crate) fn recover(&self, store: &MessageStore, delivered: &LevelSources) -> io::Result<()> {
        let mut state = self.state.lock();
        let start = state.delivered_from.unwrap_or(0);
        for (level, source) in &delivered.0 {
            let queue = store.queue(SCHEDULE_TOPIC, level - 1);
            let at = usize::try_from(level - 1).ok().and_then(|at| state.levels.get_mut(at));
            let (Some(queue), Some(at)) = (queue, at) else { continue };
            let next = first_behind(store, &queue, at.next, *source);
            if next > at.next {
                at.advance(Unflushed {
                    next,
                    start,
                    end: store.written(),
                });
            }
        }
        drop(state);
        self.unsaved.mark();
        self.persist(store)
    }

    /// Level, progress and end of each level that ever held a message.
    pub fn progress(&self, store: &MessageStore) -> Vec<(i32, i64, i64)> {
        let state = self.state.lock();
        let mut progress = Vec::new();
        for (level, at) in (1..).zip(&state.levels) {
            if let Some(queue) = store.queue(SCHEDULE_TOPIC, level - 1)
                && queue.max_offset() > 0
            {
                progress.push((level, at.next, queue.max_offset()));
            }
        }
        progress
    }

    /// The body of GET_ALL_DELAY_OFFSET.
    pub fn to_body(&self) -> Vec<u8> {
        let state = self.state.lock();
        json::to_vec(&state.table(|level| level.next))
    }

    /// Writes the file if progress was made. Deliveries that are not on disk yet do not count.
    pub fn persist(&self, store: &MessageStore) -> io::Result<()> {
        let flushed = store.flushed();
        let mut state = self.state.lock();
        let mut delivered_from = flushed;
        for level in &mut state.levels {
            if level.settle(flushed) {
                self.unsaved.mark();
            }
            let unflushed = level.unflushed.front().map_or(i64::MAX, |batch| batch.start);
            delivered_from = delivered_from.min(unflushed);
        }
        if delivered_from - state.delivered_from.unwrap_or(0) > UNREAD_LOG_BYTES_MAX {
            self.unsaved.mark();
        }
        let table = DelayOffsetSerializeWrapper {
            delivered_from: Some(delivered_from),
            ..state.table(|level| level.saved)
        };
        drop(state);
        self.unsaved.save(|| {
            self.file.save(&table)?;
            self.state.lock().delivered_from = Some(delivered_from);
            Ok(())
        })
    }

    /// Ends the delivering thread after the step it is at.
    pub(crate) fn stop(&self, broker: &Broker) {
        self.stop.store(true, Ordering::SeqCst);
        broker.mailboxes().wake(Service::Schedule);
    }

    /// Delivers what is due on all levels; the answer is when to look again.
    fn deliver_due(&self, broker: &Broker, work: &mut Work) -> i64 {
        let mut look_again = i64::MAX;
        for level in 0..self.delays_ms.len() {
            let now = broker.now_ms();
            let until = match self.step(broker, level, now, work) {
                Step::More => now,
                Step::WaitUntil(time) => time,
                Step::Idle => i64::MAX,
            };
            look_again = look_again.min(until);
        }
        look_again
    }

    fn step(&self, broker: &Broker, index: usize, now: i64, work: &mut Work) -> Step {
        let Level { next, retry_at, .. } = self.state.lock().levels[index].clone();
        if retry_at > now {
            return Step::WaitUntil(retry_at);
        }
        let queue = broker.store.queue_or_create(SCHEDULE_TOPIC, index as i32);
        if queue.max_offset() == next {
            // The bit first, then a second look: an append does it the other way round.
            queue.wait_mask.fetch_or(Service::Schedule.wait_bit(), Ordering::SeqCst);
            if queue.max_offset() == next {
                return Step::Idle;
            }
        }
        let mut due = Due::new(now, self.delays_ms[index]);
        let outcome = self.deliver(broker, index, &queue, next, &mut due, work);
        if let Err(reason) = outcome {
            tracing::warn!(
                level = index + 1,
                reason,
                "delayed messages cannot be delivered, trying again in 10 s"
            );
            self.state.lock().levels[index].retry_at = now + RETRY_MS;
            return Step::WaitUntil(now + RETRY_MS);
        }
        let reached = self.state.lock().levels[index].next;
        match due.first_later {
            Some(later) if reached >= next + due.admitted => Step::WaitUntil(later),
            _ if reached != next => Step::More,
            _ => Step::WaitUntil(now + SLEEP_MAX_MS),
        }
    }

    /// Delivers what is due from `next` on, all with one append.
    fn deliver(
        &self,
        broker: &Broker,
        index: usize,
        queue: &ConsumeQueue,
        next: i64,
        due: &mut Due,
        work: &mut Work,
    ) -> Result<(), String> {
        work.records.clear();
        let mut from = next;
        while from - next < STEP_MESSAGES && work.records.len() < STEP_BYTES && due.first_later.is_none() {
            let mut filter = |tags_code| due.admit(tags_code);
            let got = broker
                .store
                .get_messages(queue, from, &READ, &mut filter, Wait::Allowed, &mut work.records)
                .map_err(|error| error.to_string())?;
            if got.status == GetStatus::Found {
                from = got.next_begin_offset;
                continue;
            }
            if work.records.is_empty() {
                let skipped = after_nothing(&got, next, due.admitted);
                if skipped != next {
                    let nothing = Unflushed {
                        next: skipped,
                        start: i64::MAX,
                        end: 0,
                    };
                    self.advance(index, nothing, broker.now_ms());
                }
            }
            break;
        }
        self.deliver_records(broker, index, work)
    }

    fn deliver_records(&self, broker: &Broker, index: usize, work: &mut Work) -> Result<(), String> {
        let mut rest = &work.records[..];
        let mut reached = None;
        work.batch.clear();
        while !rest.is_empty() {
            let record = RecordRef::parse(rest).map_err(|error| error.to_string())?;
            rest = &rest[record.total_size()..];
            reached = Some(record.queue_offset() + 1);
            let staged = Origin::of(&record).and_then(|origin| stage(broker, &mut work.batch, &record, origin));
            if let Err(reason) = staged {
                tracing::error!(
                    level = index + 1,
                    physical_offset = record.physical_offset(),
                    reason,
                    "a delayed message is dropped"
                );
            }
        }
        let Some(next) = reached else { return Ok(()) };
        let mut batch = Unflushed {
            next,
            start: i64::MAX,
            end: 0,
        };
        if !work.batch.is_empty() {
            broker
                .store
                .append(&mut work.batch)
                .map_err(|error| error.to_string())?;
            batch.start = work.batch.entries[0].physical_offset;
            batch.end = work.batch.end_offset;
        }
        self.advance(index, batch, broker.now_ms());
        for entries in work.batch.entries.chunk_by(|a, b| a.queue.topic() == b.queue.topic()) {
            let bytes: i64 = entries.iter().map(|entry| i64::from(entry.len)).sum();
            let topic = entries[0].queue.topic();
            let stats = broker.stats.topic(topic);
            stats.on_send(entries.len() as i64, bytes);
            if let Some(metrics) = &broker.metrics {
                let mut sum = SentBatch::default();
                entries.iter().for_each(|entry| sum.add(1, entry.len.into()));
                stats.on_sent(MessageType::Delay, &sum);
                metrics.schedule_read(&sum);
            }
        }
        Ok(())
    }

    fn advance(&self, index: usize, batch: Unflushed, now: i64) {
        let mut state = self.state.lock();
        let before = state.levels[index].next;
        state.levels[index].advance(batch);
        // Java counts messages, we deliver many at once.
        let updates = state.updates + (batch.next - before).max(0) as u64;
        if updates / self.version_step > state.updates / self.version_step {
            state.version.advance(now);
        }
        state.updates = updates;
    }
}

/// What the thread keeps for its memory.
#[derive(Default)]
struct Work {
    records: BytesMut,
    batch: AppendBatch,
}

/// Starts the thread that delivers. It ends after [`Schedule::stop`].
pub fn spawn(broker: &Arc<Broker>) -> io::Result<JoinHandle<()>> {
    let broker = Arc::clone(broker);
    thread::Builder::new().name("oxmq-schedule".into()).spawn(move || {
        broker.mailboxes().serve(Service::Schedule);
        let mut work = Work::default();
        while !broker.schedule.stop.load(Ordering::SeqCst) {
            let look_again = broker.schedule.deliver_due(&broker, &mut work);
            let wait_ms = look_again.saturating_sub(broker.now_ms()).min(SLEEP_MAX_MS);
            if wait_ms > 0 {
                thread::park_timeout(Duration::from_millis(wait_ms as u64));
            }
        }
    })
}

/// Puts a message into the batch that goes where it was sent to.
fn stage(
    broker: &Broker,
    batch: &mut AppendBatch,
    record: &RecordRef<'_>,
    origin: Origin<'_>,
) -> Result<(), &'static str> {
    let message = InternalMessage {
        prepared_transaction_offset: source_mark(record.physical_offset()),
        ..InternalMessage::copy_of(record, origin.topic, origin.queue_id)
    };
    broker.stage_internal(batch, &message).map_err(|error| {
        tracing::error!(%error, "a delayed message cannot be encoded");
        "it cannot be encoded"
    })
}

/// The first queue offset from `low` on whose record lies behind a physical offset. Those of a queue rise.
fn first_behind(store: &MessageStore, queue: &ConsumeQueue, mut low: i64, physical_offset: i64) -> i64 {
    let mut high = queue.max_offset();
    let mut bytes = BytesMut::new();
    while low < high {
        let middle = low + (high - low) / 2;
        bytes.clear();
        let got = store.get_messages(
            queue,
            middle,
            &GetLimits::count(1),
            &mut |_| true,
            Wait::Allowed,
            &mut bytes,
        );
        let record = got.ok().and_then(|_| RecordRef::parse(&bytes).ok());
        // One that is not there is older than those that are.
        match record {
            Some(record) if record.physical_offset() > physical_offset => high = middle,
            _ => low = middle + 1,
        }
    }
    low
}

impl State {
    fn table(&self, progress: impl Fn(&Level) -> i64) -> DelayOffsetSerializeWrapper {
        let levels = (1..).zip(self.levels.iter().map(progress));
        DelayOffsetSerializeWrapper {
            data_version: self.version,
            delivered_from: None,
            offset_table: levels.filter(|(_, progress)| *progress > 0).collect::<BTreeMap<_, _>>(),
        }
    }
}
