//! Sends that come twice: which messages were stored lately, by their unique keys (`duplicateSendWindow`; ours, Java has
//! none).
//!
//! A client that gets no answer sends the message again, under the same `UNIQ_KEY`. Within the window the second send is
//! not stored but answered with the place of the first. Invariants:
//!
//! - A key enters when its message is staged, before anybody can know whether it will be stored, and stays or goes with
//!   the outcome: of two sends at the same time one is stored.
//! - What is known to be stored was stored: a place is entered behind a successful append, or read from the log.
//! - The log is the only durable form. After a restart the window is read from it, so a message that survived is known,
//!   and one that did not is not.
//! - So many keys are kept and no more; the oldest go first, even when their time has not come.
//!
//! Keys are compared by a hash of 128 bits with secrets of this process: nobody can make up a key that collides.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashTable;
use oxmq_protocol::record::RecordRef;
use oxmq_protocol::{batch, properties, property, sys_flag, topic};
use oxmq_store::MessageStore;
use parking_lot::Mutex;

use crate::send::SendRequest;
use crate::topic_cache::TopicState;

/// Locks that share the keys among them, so that workers seldom meet.
const SHARDS: usize = 64;

/// Keys that are looked at in passing for having outlived their time.
const EXPIRED_PER_ENTRY: usize = 4;

/// Stands for topic, key and number of attempts to consume. A message that a consumer sends to its retry topic keeps its
/// key, so the key alone is not enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint([u64; 2]);

/// Where a message was stored, and what its answer said of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct First {
    pub(crate) physical_offset: i64,
    /// Bytes of the record.
    pub(crate) len: u32,
    /// As the answer says it; the record may wait in another queue.
    pub(crate) queue_id: i32,
    pub(crate) queue_offset: i64,
    /// Its slot on the timer wheel, 0 when it does not wait there.
    pub(crate) timer_out_ms: i64,
}

impl First {
    /// What must be on disk for it to be safe.
    pub(crate) fn end_offset(&self) -> i64 {
        self.physical_offset + i64::from(self.len)
    }
}

/// What the window knows of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    No,
    /// Being stored right now.
    Pending,
    Stored(First),
}

/// The sends of the last while, shared by all workers.
pub(crate) struct DuplicateWindow {
    window_ms: i64,
    secrets: [RandomState; 2],
    shards: Vec<Mutex<Shard>>,
    /// Keys that had to go before their time.
    forgotten: AtomicU64,
}

/// What one send has entered, until it is settled: keys and the number of the record they belong to.
pub(crate) type Entered = Vec<(Fingerprint, u32)>;

/// What to do with a send.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Nobody has sent it, or it has no key. What was entered has to be settled or withdrawn.
    Store,
    /// It is stored or about to be.
    Duplicate(Vec<Fingerprint>),
}

impl DuplicateWindow {
    pub(crate) fn new(window_ms: i64, count_max: usize) -> DuplicateWindow {
        let shard = || Mutex::new(Shard::new(count_max.div_ceil(SHARDS)));
        DuplicateWindow {
            window_ms,
            secrets: [RandomState::new(), RandomState::new()],
            shards: std::iter::repeat_with(shard).take(SHARDS).collect(),
            forgotten: AtomicU64::new(0),
        }
    }

    /// Since the start.
    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    fn fingerprint(&self, topic: &[u8], key: &[u8], reconsume_times: i32) -> Fingerprint {
        Fingerprint([0, 1].map(|half| {
            let mut hasher = self.secrets[half].build_hasher();
            hasher.write(topic);
            hasher.write_u8(0);
            hasher.write(key);
            hasher.write_i32(reconsume_times);
            hasher.finish()
        }))
    }

    fn shard(&self, print: Fingerprint) -> &Mutex<Shard> {
        &self.shards[print.0[1] as usize % SHARDS]
    }

    /// A message of one key is about to be stored.
    pub(crate) fn enter(
        &self,
        topic: &[u8],
        key: &[u8],
        reconsume_times: i32,
        entered: &mut Entered,
        now_ms: i64,
    ) -> Verdict {
        let print = self.fingerprint(topic, key, reconsume_times);
        match self.enter_print(print, now_ms) {
            Known::No => {
                entered.push((print, 0));
                Verdict::Store
            }
            Known::Pending | Known::Stored(_) => Verdict::Duplicate(vec![print]),
        }
    }

    /// A batch is about to be stored as one record for each message. It is known when all of its messages are; the first
    /// speaks for those that are still being stored. A batch of which a power cut has left only a part is stored anew.
    pub(crate) fn enter_batch(&self, topic: &[u8], body: &[u8], entered: &mut Entered, now_ms: i64) -> Verdict {
        let keys = || {
            batch::items(body).map(|item| {
                let key = item
                    .ok()
                    .and_then(|item| properties::find(item.properties, property::UNIQUE_CLIENT_MESSAGE_ID));
                key.map(|key| self.fingerprint(topic, key, 0))
            })
        };
        let Some(prints) = keys().collect::<Option<Vec<_>>>() else {
            return Verdict::Store;
        };
        let Some((first, rest)) = prints.split_first() else {
            return Verdict::Store;
        };
        let known = self.enter_print(*first, now_ms);
        let is_stored = |print: &Fingerprint| matches!(self.look_up(*print, now_ms), Known::Stored(_));
        match known {
            Known::Pending => return Verdict::Duplicate(prints),
            Known::Stored(_) if rest.iter().all(is_stored) => return Verdict::Duplicate(prints),
            Known::Stored(_) => {}
            Known::No => entered.push((*first, 0)),
        }
        for (print, number) in rest.iter().zip(1..) {
            if self.enter_print(*print, now_ms) == Known::No {
                entered.push((*print, number));
            }
        }
        Verdict::Store
    }

    /// Any send. One without a key of the client's is never known.
    pub(crate) fn enter_send(
        &self,
        topic: &TopicState,
        request: &SendRequest<'_>,
        body: &[u8],
        entered: &mut Entered,
        now_ms: i64,
    ) -> Verdict {
        let name = topic.name().as_bytes();
        let key = properties::find(request.properties, property::UNIQUE_CLIENT_MESSAGE_ID);
        match key {
            // To a queue of batches it goes as one record.
            _ if request.batch && !(topic.is_batch_queue && key.is_some()) => {
                self.enter_batch(name, body, entered, now_ms)
            }
            Some(key) => self.enter(name, key, request.reconsume_times, entered, now_ms),
            None => Verdict::Store,
        }
    }

    fn enter_print(&self, print: Fingerprint, now_ms: i64) -> Known {
        let (known, forgotten) = self.shard(print).lock().enter(print, now_ms, self.window_ms);
        if forgotten {
            self.forgotten.fetch_add(1, Ordering::Relaxed);
        }
        known
    }

    /// What was entered is stored: `place` says where the record of this number is. The first of a batch comes last, as it
    /// speaks for the others.
    pub(crate) fn settle(&self, entered: &[(Fingerprint, u32)], place: impl Fn(usize) -> First) {
        for (print, number) in entered.iter().rev() {
            self.shard(*print).lock().settle(*print, Some(place(*number as usize)));
        }
    }

    /// What was entered will not be stored.
    pub(crate) fn withdraw(&self, entered: &[(Fingerprint, u32)]) {
        for (print, _) in entered.iter().rev() {
            self.shard(*print).lock().settle(*print, None);
        }
    }

    pub(crate) fn look_up(&self, print: Fingerprint, now_ms: i64) -> Known {
        self.shard(print).lock().look_up(print, now_ms - self.window_ms)
    }

    /// Reads the window from the log: what is in there from `now_ms` minus the window on.
    pub(crate) fn recover_from(&self, store: &MessageStore, now_ms: i64) -> io::Result<()> {
        let (oldest_ms, mut records) = (now_ms - self.window_ms, 0);
        let bytes = store.scan_since(oldest_ms, &mut |record| {
            if record.store_timestamp() >= oldest_ms {
                records += 1;
                self.recover(record);
            }
        })?;
        tracing::info!(records, bytes, "the window of repeated sends is read");
        Ok(())
    }

    /// A record of the log, oldest first.
    pub(crate) fn recover(&self, record: &RecordRef<'_>) {
        let Some(sent) = Sent::of_record(record) else {
            return;
        };
        let print = self.fingerprint(sent.topic, sent.key, record.reconsume_times());
        if self.enter_print(print, record.store_timestamp()) == Known::No {
            self.shard(print).lock().settle(print, Some(sent.first));
        }
    }
}

/// What a record tells of the send that it was stored for.
#[derive(Debug, PartialEq, Eq)]
struct Sent<'a> {
    topic: &'a [u8],
    key: &'a [u8],
    first: First,
}

impl<'a> Sent<'a> {
    /// Nothing for records that the broker has stored by itself: messages whose time or transaction has come.
    fn of_record(record: &RecordRef<'a>) -> Option<Sent<'a>> {
        let (mut key, mut real_topic, mut real_queue_id, mut timer_out_ms) = (None, None, None, None);
        for (name, value) in properties::iter(record.properties()) {
            match name {
                b"UNIQ_KEY" => key = Some(value),
                b"REAL_TOPIC" => real_topic = Some(value),
                b"REAL_QID" => real_queue_id = number(value),
                b"TIMER_OUT_MS" => timer_out_ms = number(value),
                _ => {}
            }
        }
        let name = std::str::from_utf8(record.topic()).ok()?;
        let waits = [topic::SCHEDULE_TOPIC, topic::TIMER_TOPIC, topic::TRANS_HALF_TOPIC].contains(&name);
        let transaction = record.sys_flag() & sys_flag::TRANSACTION_MASK;
        let is_delivery = !waits && (real_topic.is_some() || timer_out_ms.is_some());
        if is_delivery || transaction == sys_flag::TRANSACTION_COMMIT {
            return None;
        }
        let first = First {
            physical_offset: record.physical_offset(),
            len: record.total_size() as u32,
            queue_id: real_queue_id
                .filter(|_| waits)
                .map_or(record.queue_id(), |id| id as i32),
            queue_offset: record.queue_offset(),
            timer_out_ms: timer_out_ms.filter(|_| name == topic::TIMER_TOPIC).unwrap_or(0),
        };
        let topic = if waits { real_topic? } else { record.topic() };
        Some(Sent {
            topic,
            key: key?,
            first,
        })
    }
}

fn number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Keys in the order in which they came, and where each stands in that order.
struct Shard {
    count_max: usize,
    slots: VecDeque<Slot>,
    /// How many slots have left at the front: the number of the first that is there.
    gone: u64,
    /// Numbers of slots. A slot that is not named here is void.
    numbers: HashTable<u64>,
}

struct Slot {
    print: Fingerprint,
    since_ms: i64,
    /// Nothing while it is being stored.
    first: Option<First>,
}

impl Shard {
    fn new(count_max: usize) -> Shard {
        Shard {
            count_max: count_max.max(1),
            slots: VecDeque::new(),
            gone: 0,
            numbers: HashTable::new(),
        }
    }

    /// Enters a key unless it is there; true when another had to go for it.
    fn enter(&mut self, print: Fingerprint, now_ms: i64, window_ms: i64) -> (Known, bool) {
        let oldest_ms = now_ms - window_ms;
        for _ in 0..EXPIRED_PER_ENTRY {
            match self.slots.front() {
                Some(front) if front.since_ms < oldest_ms => self.drop_front(),
                _ => break,
            }
        }
        match self.look_up(print, oldest_ms) {
            Known::No => {}
            known => return (known, false),
        }
        self.remove(print);
        let is_full = self.slots.len() >= self.count_max;
        let mut forgotten = false;
        if is_full {
            forgotten = self.slots.front().is_some_and(|front| front.since_ms >= oldest_ms);
            self.drop_front();
        }
        let number = self.gone + self.slots.len() as u64;
        self.slots.push_back(Slot {
            print,
            since_ms: now_ms,
            first: None,
        });
        let (slots, gone) = (&self.slots, self.gone);
        self.numbers
            .insert_unique(print.0[0], number, |number| slots[(number - gone) as usize].print.0[0]);
        (Known::No, forgotten)
    }

    fn number_of(&self, print: Fingerprint) -> Option<u64> {
        let is_it = |number: &u64| self.slots[(number - self.gone) as usize].print == print;
        self.numbers.find(print.0[0], is_it).copied()
    }

    fn look_up(&self, print: Fingerprint, oldest_ms: i64) -> Known {
        let Some(number) = self.number_of(print) else {
            return Known::No;
        };
        let slot = &self.slots[(number - self.gone) as usize];
        match slot.first {
            _ if slot.since_ms < oldest_ms => Known::No,
            Some(first) => Known::Stored(first),
            None => Known::Pending,
        }
    }

    fn settle(&mut self, print: Fingerprint, first: Option<First>) {
        // It may have had to go meanwhile.
        let Some(number) = self.number_of(print) else {
            return;
        };
        match first {
            Some(_) => self.slots[(number - self.gone) as usize].first = first,
            None => self.remove(print),
        }
    }

    /// Its slot stays, void.
    fn remove(&mut self, print: Fingerprint) {
        let (slots, gone) = (&self.slots, self.gone);
        let is_it = |number: &u64| slots[(number - gone) as usize].print == print;
        if let Ok(entry) = self.numbers.find_entry(print.0[0], is_it) {
            entry.remove();
        }
    }

    fn drop_front(&mut self) {
        let Some(front) = self.slots.front() else {
            return;
        };
        let (print, number) = (front.print, self.gone);
        if let Ok(entry) = self.numbers.find_entry(print.0[0], |other| *other == number) {
            entry.remove();
        }
        self.slots.pop_front();
        self.gone += 1;
    }
}

#[cfg(test)]
mod tests;
