//! Delay levels: messages that wait in `SCHEDULE_TOPIC_XXXX` until their time comes (spec: storage.md §15).
//!
//! Owns `delayOffset.json`. One thread delivers; it sleeps until the next message is due. A message is never lost: progress
//! is saved only as far as the deliveries behind it are on disk, so after a crash some are delivered again, as with
//! the original. What is delivered keeps its properties as stored, `DELAY`, `REAL_TOPIC` and `REAL_QID` included.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use oxmq_protocol::body::{DataVersion, DelayOffsetSerializeWrapper};
use oxmq_protocol::record::RecordRef;
use oxmq_protocol::topic::{self, SCHEDULE_TOPIC, TRANS_HALF_TOPIC};
use oxmq_protocol::{json, properties, property};
use oxmq_store::{GetLimits, GetMessages, GetStatus, MessageStore, Wait};
use parking_lot::{Condvar, Mutex};

use crate::broker::Broker;
use crate::config_file::{ConfigFile, Unsaved};
use crate::put::InternalMessage;
use crate::topics::QUEUE_NUMS_MAX;

/// How long an empty level is left alone. Half the shortest level, so that no message is seen after its time.
const IDLE_MS: i64 = 500;
/// After a delivery that failed, its level waits this long, as in the original.
const RETRY_MS: i64 = 10_000;
/// What one step takes from a level, so that a level with a backlog does not starve the others.
const STEP: GetLimits = GetLimits {
    count: 64,
    bytes: 1 << 20,
};

/// Positions of a level that are kept until they are on disk. Beyond that they get coarser.
const UNFLUSHED_MAX: usize = 1024;

/// Progress of every level.
pub struct Schedule {
    file: ConfigFile,
    unsaved: Unsaved,
    delays_ms: Vec<i64>,
    version_step: u64,
    state: Mutex<State>,
    stopped: Condvar,
}

struct State {
    version: DataVersion,
    updates: u64,
    levels: Vec<Level>,
    stop: bool,
}

/// `saved ≤ next`: everything before `saved` was delivered and is on disk, everything before `next` was delivered.
#[derive(Debug, Clone, Default)]
struct Level {
    next: i64,
    saved: i64,
    /// Deliveries that are not on disk yet: progress after them, and the physical offset that must be flushed.
    unflushed: VecDeque<(i64, i64)>,
    retry_at: i64,
}

/// What a step found on a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// There may be more that is due.
    More,
    /// Nothing is due before this time.
    WaitUntil(i64),
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
                stop: false,
            }),
            stopped: Condvar::new(),
        })
    }

    /// Level, progress and end of each level that ever held a message.
    pub fn progress(&self, store: &MessageStore) -> Vec<(i32, i64, i64)> {
        let state = self.state.lock();
        let mut progress = Vec::new();
        for (level, at) in (1..).zip(&state.levels) {
            if let Some(queue) = store.queue(SCHEDULE_TOPIC, level - 1) {
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
        for level in &mut state.levels {
            if level.settle(flushed) {
                self.unsaved.mark();
            }
        }
        let table = state.table(|level| level.saved);
        drop(state);
        self.unsaved.save(|| self.file.save(&table))
    }

    /// Ends the delivering thread after the message it is at.
    pub fn stop(&self) {
        self.state.lock().stop = true;
        self.stopped.notify_all();
    }

    /// Delivers what is due on all levels; the answer is when to look again.
    fn deliver_due(&self, broker: &Broker) -> i64 {
        let mut look_again = i64::MAX;
        for level in 0..self.delays_ms.len() {
            let now = broker.now_ms();
            let until = match self.step(broker, level, now) {
                Step::More => now,
                Step::WaitUntil(time) => time,
            };
            look_again = look_again.min(until);
        }
        look_again
    }

    fn step(&self, broker: &Broker, index: usize, now: i64) -> Step {
        let idle = Step::WaitUntil(now + IDLE_MS);
        let Level { next, retry_at, .. } = self.state.lock().levels[index].clone();
        if retry_at > now {
            return Step::WaitUntil(retry_at);
        }
        let Some(queue) = broker.store.queue(SCHEDULE_TOPIC, index as i32) else {
            return idle;
        };
        if queue.max_offset() == next {
            return idle;
        }
        let mut due = Due::new(now, self.delays_ms[index]);
        let mut records = BytesMut::new();
        let mut filter = |tags_code| due.admit(tags_code);
        let got = broker
            .store
            .get_messages(&queue, next, &STEP, &mut filter, Wait::Allowed, &mut records);
        let outcome = match got {
            Ok(got) if got.status == GetStatus::Found => self.deliver(broker, index, &records, now),
            Ok(got) => {
                let skipped = after_nothing(&got, next, due.admitted);
                if skipped != next {
                    self.advance(index, skipped, 0, now);
                }
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        };
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
            _ => idle,
        }
    }

    fn deliver(&self, broker: &Broker, index: usize, mut records: &[u8], now: i64) -> Result<(), String> {
        while !records.is_empty() {
            let record = RecordRef::parse(records).map_err(|error| error.to_string())?;
            records = &records[record.total_size()..];
            let mut end_offset = 0;
            match Delivery::of(&record) {
                Ok(delivery) => end_offset = delivery.put(broker, &record)?,
                Err(reason) => tracing::error!(
                    level = index + 1,
                    physical_offset = record.physical_offset(),
                    reason,
                    "a delayed message is dropped"
                ),
            }
            self.advance(index, record.queue_offset() + 1, end_offset, now);
        }
        Ok(())
    }

    fn advance(&self, index: usize, next: i64, end_offset: i64, now: i64) {
        let mut state = self.state.lock();
        state.levels[index].advance(next, end_offset);
        state.updates += 1;
        if state.updates.is_multiple_of(self.version_step) {
            state.version.advance(now);
        }
    }

    /// False when the thread should end.
    fn sleep_until(&self, time: i64, now: i64) -> bool {
        let mut state = self.state.lock();
        let deadline = Instant::now() + Duration::from_millis((time - now).clamp(0, IDLE_MS) as u64);
        while !state.stop {
            if self.stopped.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        !state.stop
    }
}

/// Starts the thread that delivers. It ends after [`Schedule::stop`].
pub fn spawn(broker: &Arc<Broker>) -> io::Result<JoinHandle<()>> {
    let broker = Arc::clone(broker);
    std::thread::Builder::new().name("oxmq-schedule".into()).spawn(move || {
        loop {
            let look_again = broker.schedule.deliver_due(&broker);
            if !broker.schedule.sleep_until(look_again, broker.now_ms()) {
                break;
            }
        }
    })
}

impl State {
    fn table(&self, progress: impl Fn(&Level) -> i64) -> DelayOffsetSerializeWrapper {
        let levels = (1..).zip(self.levels.iter().map(progress));
        DelayOffsetSerializeWrapper {
            data_version: self.version,
            offset_table: levels.filter(|(_, progress)| *progress > 0).collect::<BTreeMap<_, _>>(),
        }
    }
}

impl Level {
    fn at(offset: i64) -> Level {
        Level {
            next: offset,
            saved: offset,
            ..Level::default()
        }
    }

    fn advance(&mut self, next: i64, end_offset: i64) {
        self.next = next;
        if self.unflushed.len() < UNFLUSHED_MAX {
            self.unflushed.push_back((next, end_offset));
        } else if let Some(last) = self.unflushed.back_mut() {
            *last = (next, end_offset.max(last.1));
        }
    }

    /// Takes over progress whose deliveries are on disk; true if there was any.
    fn settle(&mut self, flushed: i64) -> bool {
        let before = self.saved;
        while let Some((next, end_offset)) = self.unflushed.front().copied() {
            if end_offset > flushed {
                break;
            }
            self.saved = next;
            self.unflushed.pop_front();
        }
        self.saved != before
    }
}

/// Reads deliver times off the consume queue, in order, until one is not due.
struct Due {
    now: i64,
    delay_ms: i64,
    admitted: i64,
    first_later: Option<i64>,
}

impl Due {
    fn new(now: i64, delay_ms: i64) -> Due {
        Due {
            now,
            delay_ms,
            admitted: 0,
            first_later: None,
        }
    }

    /// A time further away than the whole delay comes from a clock that was set back, or from levels that were longer
    /// once: such a message is due.
    fn admit(&mut self, deliver_at: i64) -> bool {
        if self.first_later.is_some() {
            return false;
        }
        let later = deliver_at > self.now && deliver_at <= self.now + self.delay_ms;
        match later {
            true => self.first_later = Some(deliver_at),
            false => self.admitted += 1,
        }
        !later
    }
}

/// Where a level goes on when a read found nothing: records that are gone are skipped, and offsets outside of the queue
/// move to its nearest end. What is not due yet stays.
fn after_nothing(got: &GetMessages, next: i64, admitted: i64) -> i64 {
    match got.status {
        GetStatus::OffsetTooSmall | GetStatus::OffsetOverflowBadly => got.next_begin_offset,
        _ => next + admitted,
    }
}

fn within(offset: i64, (min, max): (i64, i64)) -> i64 {
    offset.clamp(min, max.max(min))
}

/// Where a delayed message goes.
#[derive(Debug, PartialEq, Eq)]
struct Delivery<'a> {
    topic: &'a str,
    queue_id: i32,
    properties: &'a [u8],
}

impl<'a> Delivery<'a> {
    fn of(record: &RecordRef<'a>) -> Result<Delivery<'a>, &'static str> {
        let properties = record.properties();
        let text = |name| properties::find(properties, name).and_then(|value| std::str::from_utf8(value).ok());
        let topic = text(property::REAL_TOPIC).ok_or("it has no real topic")?;
        if topic == TRANS_HALF_TOPIC {
            return Err("half messages are not delayed");
        }
        topic::validate_topic(topic).map_err(|_| "its real topic has an illegal name")?;
        let queue_id = text(property::REAL_QUEUE_ID).and_then(|id| id.parse().ok());
        let queue_id = queue_id
            .filter(|id| (0..QUEUE_NUMS_MAX).contains(id))
            .ok_or("it has no real queue")?;
        Ok(Delivery {
            topic,
            queue_id,
            properties,
        })
    }

    /// The physical offset behind the delivered message.
    fn put(&self, broker: &Broker, record: &RecordRef<'_>) -> Result<i64, String> {
        let stored = broker.put_internal(&InternalMessage {
            topic: self.topic,
            queue_id: self.queue_id,
            flag: record.flag(),
            sys_flag: record.sys_flag(),
            born_timestamp: record.born_timestamp(),
            born_host: record.born_host(),
            reconsume_times: record.reconsume_times(),
            prepared_transaction_offset: record.prepared_transaction_offset(),
            body: record.body(),
            properties: self.properties,
            delay_level: 0,
        });
        let stored = stored.map_err(|error| error.to_string())?;
        broker.stats.topic(self.topic).on_send(1, record.total_size() as i64);
        Ok(stored.end_offset)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use oxmq_protocol::record::{self, RecordFields};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_are_due_in_order_until_the_first_that_is_not() {
        let mut due = Due::new(10_000, 5_000);
        assert!(due.admit(9_000));
        assert!(due.admit(10_000));
        assert!(due.admit(15_001), "beyond the whole delay: the clock was set back");
        assert!(!due.admit(12_000));
        assert!(!due.admit(9_000), "nothing overtakes");
        assert_eq!((due.admitted, due.first_later), (3, Some(12_000)));
    }

    proptest! {
        #[test]
        fn nothing_is_delivered_early_nor_held_beyond_its_delay(deliver_at in 0i64..100_000, now in 0i64..100_000, delay in 1_000i64..50_000) {
            let mut due = Due::new(now, delay);
            match due.admit(deliver_at) {
                true => prop_assert!(deliver_at <= now || deliver_at > now + delay),
                false => prop_assert!(due.first_later.unwrap() <= now + delay),
            }
        }

        #[test]
        fn saved_progress_never_passes_what_is_on_disk(ends in proptest::collection::vec(1i64..100, 0..20), flushed in 0i64..2_000) {
            let mut level = Level::at(0);
            let mut end = 0;
            let mut expected = 0;
            for (delivered, bytes) in (1..).zip(&ends) {
                end += bytes;
                level.advance(delivered, end);
                if end <= flushed {
                    expected = delivered;
                }
            }
            level.settle(flushed);
            prop_assert_eq!(level.saved, expected);
            prop_assert!(level.saved <= level.next);
        }
    }

    #[test]
    fn what_waits_for_the_disk_is_bounded() {
        let mut level = Level::at(0);
        for delivered in 1..=10_000 {
            level.advance(delivered, delivered * 100);
        }
        assert_eq!(level.unflushed.len(), UNFLUSHED_MAX);
        level.settle(500_000);
        assert_eq!(
            level.saved,
            UNFLUSHED_MAX as i64 - 1,
            "never further than what is on disk"
        );
        level.settle(1_000_000);
        assert_eq!(level.saved, 10_000);
    }

    #[test]
    fn progress_is_kept_within_the_queue() {
        assert_eq!(within(7, (0, 5)), 5);
        assert_eq!(within(1, (3, 5)), 3);
        assert_eq!(within(4, (3, 5)), 4);
        assert_eq!(within(4, (0, 0)), 0);
    }

    fn record(properties_of: &[(&str, &str)]) -> BytesMut {
        let host = SocketAddr::from(([127, 0, 0, 1], 1));
        let fields = RecordFields {
            queue_id: 0,
            flag: 0,
            sys_flag: 0,
            born_timestamp: 1,
            born_host: host,
            store_host: host,
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            topic: SCHEDULE_TOPIC.as_bytes(),
            body: b"x",
        };
        let mut out = BytesMut::new();
        record::encode(&mut out, &fields, |out| {
            for (name, value) in properties_of {
                properties::write(out, name.as_bytes(), value.as_bytes());
            }
        })
        .unwrap();
        out
    }

    fn check(properties: &[(&str, &str)], expected: Result<(&str, i32), &'static str>) {
        let bytes = record(properties);
        let record = RecordRef::parse(&bytes).unwrap();
        let delivery = Delivery::of(&record);
        assert_eq!(delivery.map(|delivery| (delivery.topic, delivery.queue_id)), expected);
    }

    #[test]
    fn a_delivery_goes_where_the_message_was_sent_to() {
        check(
            &[("REAL_TOPIC", "orders"), ("REAL_QID", "3"), ("DELAY", "1")],
            Ok(("orders", 3)),
        );
        check(&[("REAL_QID", "3")], Err("it has no real topic"));
        check(&[("REAL_TOPIC", "orders")], Err("it has no real queue"));
        check(
            &[("REAL_TOPIC", "orders"), ("REAL_QID", "-1")],
            Err("it has no real queue"),
        );
        check(
            &[("REAL_TOPIC", "../x"), ("REAL_QID", "3")],
            Err("its real topic has an illegal name"),
        );
        check(
            &[("REAL_TOPIC", TRANS_HALF_TOPIC), ("REAL_QID", "0")],
            Err("half messages are not delayed"),
        );
    }
}
