//! Deliveries of messages that have waited by a Java broker, which does not mark them.
//!
//! Java saves the progress of its delay levels every ten seconds; when it is killed, and with 4.7.1 also at a stop in order,
//! what it has delivered since is delivered again by whoever starts next. Here it is not: the messages that are due behind
//! the saved progress are compared with what was stored since the first of them was due. A delivered message has the
//! identity of the one that waited. Of timers Java saves every second which slots are over; the same is done for them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;

use bytes::BytesMut;
use oxmq_protocol::record::RecordRef;
use oxmq_protocol::topic::SCHEDULE_TOPIC;
use oxmq_protocol::{properties, property};
use oxmq_store::{GetLimits, GetStatus, MessageStore, Wait};

use crate::schedule::{LevelSources, level_of};

/// Messages of a level that are compared: more than Java delivers in ten seconds.
const COMPARED_MAX: i64 = 100_000;
const READ: GetLimits = GetLimits {
    count: 512,
    bytes: 1 << 20,
};

/// Adds the sources of the last deliveries on each level. `progress` says of each level, from the first one on, how far its
/// file counts.
pub(crate) fn find(store: &MessageStore, progress: &[i64], now: i64, found: &mut LevelSources) -> io::Result<()> {
    let mut due = Due::default();
    for (level, next) in (1..).zip(progress) {
        read_due(store, level, *next, now, &mut due)?;
    }
    if due.messages.is_empty() {
        return Ok(());
    }
    let mut delivered = HashSet::new();
    let wanted: HashSet<u64> = due.messages.iter().map(|message| message.identity).collect();
    let bytes = store.scan_since(due.since, &mut |record| {
        let identity = delivered_on(record).map(|level| identity(record, level));
        delivered.extend(identity.filter(|identity| wanted.contains(identity)));
    })?;
    tracing::info!(
        bytes,
        due = due.messages.len(),
        "looked for delayed messages that another broker has delivered"
    );
    // In order, up to the first that was not: a message that a client sent twice says nothing of those between.
    for of_level in due.messages.chunk_by(|one, other| one.level == other.level) {
        let known = of_level
            .iter()
            .take_while(|message| delivered.contains(&message.identity));
        known.for_each(|message| found.note(message.level, message.source));
    }
    Ok(())
}

/// Messages that are due, by level and in the order of their queue.
struct Due {
    messages: Vec<Waiting>,
    /// The time at which the first of them became due.
    since: i64,
}

struct Waiting {
    level: i32,
    identity: u64,
    /// Its physical offset.
    source: i64,
}

impl Default for Due {
    fn default() -> Due {
        Due {
            messages: Vec::new(),
            since: i64::MAX,
        }
    }
}

fn read_due(store: &MessageStore, level: i32, mut next: i64, now: i64, due: &mut Due) -> io::Result<()> {
    let Some(queue) = store.queue(SCHEDULE_TOPIC, level - 1) else {
        return Ok(());
    };
    let (end, mut bytes, mut is_later) = (next + COMPARED_MAX, BytesMut::new(), false);
    while next < queue.max_offset().min(end) && !is_later {
        bytes.clear();
        let mut is_due = |deliver_at: i64| {
            is_later |= deliver_at > now;
            if !is_later {
                due.since = due.since.min(deliver_at);
            }
            !is_later
        };
        let got = store
            .get_messages(&queue, next, &READ, &mut is_due, Wait::Allowed, &mut bytes)
            .map_err(io::Error::other)?;
        if got.next_begin_offset <= next || !matches!(got.status, GetStatus::Found) {
            break;
        }
        next = got.next_begin_offset;
        let mut rest = &bytes[..];
        while let Ok(record) = RecordRef::parse(rest) {
            due.messages.push(Waiting {
                level,
                identity: identity(&record, level),
                source: record.physical_offset(),
            });
            rest = &rest[record.total_size()..];
        }
    }
    Ok(())
}

/// Adds those of the waiting timer messages at these physical offsets that were delivered since then.
pub(crate) fn find_timers(
    store: &MessageStore,
    waiting: &[i64],
    since: i64,
    found: &mut HashSet<i64>,
) -> io::Result<()> {
    let mut sources: HashMap<u64, VecDeque<i64>> = HashMap::new();
    for offset in waiting {
        if let Some(bytes) = store.read_record(*offset).map_err(io::Error::other)?
            && let Ok(record) = RecordRef::parse(&bytes)
        {
            sources.entry(identity(&record, 0)).or_default().push_back(*offset);
        }
    }
    if !sources.is_empty() {
        store.scan_since(since, &mut |record| {
            let has_waited = properties::find(record.properties(), property::TIMER_OUT_MS).is_some();
            if has_waited
                && is_unmarked(record)
                && let Some(alike) = sources.get_mut(&identity(record, 0))
            {
                found.extend(alike.pop_front());
            }
        })?;
    }
    Ok(())
}

/// Adds the physical offsets of the messages of a topic's first queue from a queue offset on, up to so many in all.
pub(crate) fn offsets_of(
    store: &MessageStore,
    topic: &str,
    mut next: i64,
    count_max: usize,
    offsets: &mut Vec<i64>,
) -> io::Result<()> {
    let Some(queue) = store.queue(topic, 0) else {
        return Ok(());
    };
    let mut bytes = BytesMut::new();
    while next < queue.max_offset() && offsets.len() < count_max {
        bytes.clear();
        let got = store
            .get_messages(&queue, next, &READ, &mut |_: i64| true, Wait::Allowed, &mut bytes)
            .map_err(io::Error::other)?;
        if got.next_begin_offset <= next {
            break;
        }
        next = got.next_begin_offset;
        let mut rest = &bytes[..];
        while let Ok(record) = RecordRef::parse(rest) {
            offsets.push(record.physical_offset());
            rest = &rest[record.total_size()..];
        }
    }
    Ok(())
}

/// The level that a record was delivered on without a mark.
fn delivered_on(record: &RecordRef<'_>) -> Option<i32> {
    is_unmarked(record).then(|| level_of(record)).flatten()
}

/// It has waited for its topic, and does not say for which message it was delivered.
fn is_unmarked(record: &RecordRef<'_>) -> bool {
    let real_topic = properties::find(record.properties(), property::REAL_TOPIC);
    record.prepared_transaction_offset() >= 0 && real_topic == Some(record.topic())
}

/// What a message keeps when it is delivered, and shares with no other one.
fn identity(record: &RecordRef<'_>, level: i32) -> u64 {
    let property = |name| properties::find(record.properties(), name);
    let mut hasher = DefaultHasher::new();
    level.hash(&mut hasher);
    property(property::REAL_TOPIC).hash(&mut hasher);
    property(property::REAL_QUEUE_ID).hash(&mut hasher);
    property(property::UNIQUE_CLIENT_MESSAGE_ID).hash(&mut hasher);
    property(property::ORIGIN_MESSAGE_ID).hash(&mut hasher);
    record.born_timestamp().hash(&mut hasher);
    record.reconsume_times().hash(&mut hasher);
    record.body_crc().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use oxmq_protocol::record::RecordFields;
    use oxmq_protocol::topic::TIMER_TOPIC;
    use oxmq_store::disk::SimulatedDisk;
    use oxmq_store::{AppendBatch, ConsumeQueue, StoreConfig, StoreFailure, StoreListener, TagsCode};

    use super::*;
    use crate::put;

    const LEVEL: i32 = 2;
    const DELAY_MS: i64 = 5_000;
    const START: i64 = 1_700_000_000_000;

    struct Silent;

    impl StoreListener for Silent {
        fn arrived(&self, _: &[Arc<ConsumeQueue>]) {}
        fn flushed(&self, _: i64) {}
        fn failed(&self, _: &StoreFailure) {}
    }

    struct Log {
        store: Arc<MessageStore>,
        now: Arc<AtomicI64>,
    }

    impl Log {
        fn new() -> Log {
            let now = Arc::new(AtomicI64::new(START));
            let clock = Arc::clone(&now);
            let config = StoreConfig {
                clock: Arc::new(move || clock.load(Ordering::Relaxed)),
                delay_levels_ms: vec![1_000, DELAY_MS as u64],
                background_threads: false,
                ..StoreConfig::new("/store")
            };
            let store = MessageStore::open(config, Arc::new(SimulatedDisk::new()), Arc::new(Silent)).unwrap();
            Log { store, now }
        }

        /// Stores a message where it waits, or where it is delivered; its physical offset.
        fn put(&self, topic: &str, number: i64, reconsume_times: i32) -> i64 {
            self.put_with(topic, number, reconsume_times, ("DELAY", &LEVEL.to_string()))
        }

        fn put_timer(&self, topic: &str, number: i64) -> i64 {
            self.put_with(topic, number, 0, ("TIMER_OUT_MS", &START.to_string()))
        }

        fn put_with(&self, topic: &str, number: i64, reconsume_times: i32, waits: (&str, &str)) -> i64 {
            let is_waiting = topic == SCHEDULE_TOPIC;
            let queue = self
                .store
                .queue_or_create(topic, if is_waiting { LEVEL - 1 } else { 0 });
            let fields = RecordFields {
                queue_id: queue.queue_id(),
                flag: 0,
                sys_flag: 0,
                born_timestamp: START + number,
                born_host: "10.0.0.9:51234".parse().unwrap(),
                store_host: "10.0.0.1:10911".parse().unwrap(),
                reconsume_times,
                prepared_transaction_offset: 0,
                topic: topic.as_bytes(),
                body: b"body",
            };
            let tags_code = match is_waiting {
                true => TagsCode::DelayLevel(LEVEL as u8),
                false => TagsCode::Hash(0),
            };
            let mut batch = AppendBatch::default();
            put::stage(&mut batch, queue, &fields, tags_code, 1, |out| {
                properties::write(out, b"UNIQ_KEY", number.to_string().as_bytes());
                properties::write(out, waits.0.as_bytes(), waits.1.as_bytes());
                properties::write(out, b"REAL_TOPIC", b"orders");
                properties::write(out, b"REAL_QID", b"0");
            })
            .unwrap();
            self.store.append(&mut batch).unwrap();
            batch.entries[0].physical_offset
        }

        fn wait(&self, ms: i64) -> i64 {
            self.now.fetch_add(ms, Ordering::Relaxed) + ms
        }

        fn found(&self, progress: i64) -> LevelSources {
            let mut found = LevelSources::default();
            find(
                &self.store,
                &[0, progress],
                self.now.load(Ordering::Relaxed),
                &mut found,
            )
            .unwrap();
            found
        }
    }

    fn sources(of_level: Option<i64>) -> LevelSources {
        let mut sources = LevelSources::default();
        if let Some(source) = of_level {
            sources.note(LEVEL, source);
        }
        sources
    }

    #[test]
    fn what_java_has_delivered_and_not_counted_is_found() {
        let log = Log::new();
        let waiting: Vec<i64> = (0..5).map(|number| log.put(SCHEDULE_TOPIC, number, 0)).collect();
        assert_eq!(log.found(0), sources(None), "nothing is due");
        log.wait(DELAY_MS + 1);
        assert_eq!(log.found(0), sources(None), "nothing was delivered");
        log.put("orders", 0, 0);
        log.put("orders", 1, 0);
        assert_eq!(log.found(0), sources(Some(waiting[1])));
        assert_eq!(log.found(1), sources(Some(waiting[1])), "one of them counts already");
        assert_eq!(log.found(2), sources(None), "both count");
    }

    #[test]
    fn a_message_that_was_sent_twice_hides_none_between() {
        let log = Log::new();
        let waiting = [7, 8, 7].map(|number| log.put(SCHEDULE_TOPIC, number, 0));
        log.wait(DELAY_MS + 1);
        log.put("orders", 7, 0);
        assert_eq!(log.found(0), sources(Some(waiting[0])));
        assert_eq!(log.found(1), sources(None), "the second was not delivered");
    }

    #[test]
    fn timers_that_java_has_delivered_are_found() {
        let log = Log::new();
        let waiting: Vec<i64> = (0..3).map(|number| log.put_timer(TIMER_TOPIC, number)).collect();
        let since = log.wait(DELAY_MS);
        log.put_timer("orders", 1);
        let mut found = HashSet::new();
        find_timers(&log.store, &waiting, since, &mut found).unwrap();
        assert_eq!(found, HashSet::from([waiting[1]]));
        let mut offsets = Vec::new();
        offsets_of(&log.store, TIMER_TOPIC, 1, 10, &mut offsets).unwrap();
        assert_eq!(offsets, waiting[1..]);
    }

    #[test]
    fn other_messages_are_not_taken_for_deliveries() {
        let log = Log::new();
        log.put(SCHEDULE_TOPIC, 7, 1);
        log.wait(DELAY_MS + 1);
        log.put("orders", 7, 0);
        log.put("elsewhere", 7, 1);
        log.put("orders", 8, 1);
        assert_eq!(log.found(0), sources(None));
    }
}
