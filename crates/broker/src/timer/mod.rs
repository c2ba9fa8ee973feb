//! Messages with a delivery time of their own: the threads around [`TimerStore`] (spec: storage.md §16).
//!
//! One thread follows the consume queue of the timer topic, enters what it finds and delivers what is due, many messages
//! with one append. It sleeps until the next message is due or something arrives. A second thread makes the progress
//! durable, as disks take their time. Both hold the store's lock for a step at most; workers never take it.
//!
//! A message is due at the millisecond that was asked for: `TIMER_DELIVER_MS`, or the time of storing plus
//! `TIMER_DELAY_SEC` or `TIMER_DELAY_MS`. Java delivers it at the end of that time's slot.

mod cancellations;
mod congestion;
mod deliver;
mod metrics;
mod revision;

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use oxmq_protocol::record::RecordRef;
use oxmq_protocol::topic::TIMER_TOPIC;
use oxmq_protocol::{hash, properties};
use oxmq_store::disk::Disk;
use oxmq_store::timer::{TimerConfig, TimerMessage, TimerStart, TimerStore, WHEEL_SLOTS, WIRE_BYTES};
use oxmq_store::{GetLimits, GetStatus, MessageStore, Wait};
use parking_lot::Mutex;

pub(crate) use congestion::Congestion;
use deliver::Delivery;
pub(crate) use metrics::TimerMetrics;
use revision::Revision;

use crate::broker::Broker;
use crate::config::BrokerConfig;
use crate::config_file::ConfigFile;
use crate::mailbox::Service;
use crate::metrics::Metrics;
use crate::retention;
use crate::unmarked_deliveries;
use crate::waiting::TimerProperties;

/// Messages entered before due ones get their turn.
const ENTER_MAX: usize = 4096;
const ENTER_AT_ONCE: GetLimits = GetLimits {
    count: 512,
    bytes: 1 << 20,
};
/// Longest sleep: a clock that was set forward is noticed after this time.
const SLEEP_MAX_MS: i64 = 1000;
/// How long a stop in order may enter what waits.
const ENTER_ALL_MAX: Duration = Duration::from_secs(5);
/// Messages that are due one after the other are delivered together, as long as they wait no longer than this for it.
const GATHER_MS: i64 = 5;
/// Pause after something failed.
const RETRY_MS: i64 = 500;
/// Messages that a Java broker may have delivered before it stopped: more than it delivers in a second.
const UNMARKED_MAX: usize = 100_000;
/// How often files of the timer log are looked at that may be old (spec: storage.md §16.5).
const CLEAN_INTERVAL_MS: i64 = 30_000;

/// The timers of a broker.
pub struct Timers {
    store: Mutex<TimerStore>,
    pub(crate) congestion: Congestion,
    pub(crate) metrics: TimerMetrics,
    counters: Counters,
    saving: OnceLock<Thread>,
    stop: AtomicBool,
}

#[derive(Default)]
struct Counters {
    entered: AtomicU64,
    delivered: AtomicU64,
    rates: Mutex<Rates>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Rates {
    at: i64,
    entered: u64,
    delivered: u64,
    enter_tps: f64,
    deliver_tps: f64,
}

impl Counters {
    /// Called about every second.
    fn tick(&self, now: i64) {
        let (entered, delivered) = (
            self.entered.load(Ordering::Relaxed),
            self.delivered.load(Ordering::Relaxed),
        );
        let mut rates = self.rates.lock();
        let seconds = (now - rates.at).max(1) as f64 / 1000.0;
        *rates = Rates {
            at: now,
            entered,
            delivered,
            enter_tps: (entered - rates.entered) as f64 / seconds,
            deliver_tps: (delivered - rates.delivered) as f64 / seconds,
        };
    }
}

/// For the runtime information (request 28).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TimerFigures {
    pub(crate) read_behind_ms: i64,
    pub(crate) offset_behind: i64,
    pub(crate) waiting: i64,
    /// Age of the oldest that is not entered yet, 0 without one.
    pub(crate) enter_behind_ms: i64,
    /// Per second, of late.
    pub(crate) enter_tps: f64,
    pub(crate) deliver_tps: f64,
}

impl Timers {
    /// Opens and recovers the timers of a store that is open.
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        config: &BrokerConfig,
        store: &MessageStore,
        metrics: ConfigFile,
        now: i64,
    ) -> io::Result<Timers> {
        let queue = store.queue(TIMER_TOPIC, 0);
        let start = TimerStart {
            now,
            clean: store.recovery_report().clean,
            log_end: store.written(),
            queue: queue.map_or((0, 0), |queue| (queue.min_offset(), queue.max_offset())),
            queue_offset_at: &|physical_offset| queue_offset_at(store, physical_offset),
        };
        let timer_config = TimerConfig {
            root: store.config().root.clone(),
            log_file_bytes: config.mapped_file_size_timer_log,
            precision_ms: config.timer_precision_ms,
            roll_window_slots: config.timer_roll_window_slot,
            wheel_slots: WHEEL_SLOTS,
            current_max: config.timer_current_messages_max,
        };
        let mut timers = TimerStore::open(Arc::clone(disk), timer_config, &start)?;
        timers.keep_within(retention::reserved_ms(config));
        Ok(Timers {
            congestion: Congestion::new(config.timer_congest_num_each_slot, &timers),
            metrics: TimerMetrics::open(metrics)?,
            store: Mutex::new(timers),
            counters: Counters::default(),
            saving: OnceLock::new(),
            stop: AtomicBool::new(false),
        })
    }

    /// From here on the commit log has to be searched for what was delivered.
    pub(crate) fn delivered_from(&self) -> Option<i64> {
        self.store.lock().delivered_from()
    }

    /// Takes out what a Java broker has delivered before it stopped: it marks nothing, and knows whole slots only.
    pub(crate) fn find_unmarked(&self, store: &MessageStore, now: i64, found: &mut HashSet<i64>) -> io::Result<()> {
        let mut timers = self.store.lock();
        let mut waiting = timers.overdue(now, UNMARKED_MAX)?;
        let (since, entered) = (timers.read_ms(now), timers.queue_offset());
        drop(timers);
        unmarked_deliveries::offsets_of(store, TIMER_TOPIC, entered, UNMARKED_MAX, &mut waiting)?;
        unmarked_deliveries::find_timers(store, &waiting, since, found)
    }

    /// Takes the sources of what was delivered before the last stop; from here on every delivery can be found again.
    pub(crate) fn begin(&self, store: &MessageStore, delivered: HashSet<i64>, now: i64) -> io::Result<()> {
        self.store.lock().set_delivered(delivered, now);
        self.save(store, now)
    }

    /// Width of a slot.
    pub(crate) fn precision_ms(&self) -> i64 {
        self.store.lock().precision_ms()
    }

    /// The body of GET_TIMER_CHECK_POINT. May wait for the disk.
    pub(crate) fn checkpoint(&self) -> [u8; WIRE_BYTES] {
        self.store.lock().checkpoint()
    }

    /// May wait for the disk.
    pub(crate) fn figures(&self, broker: &Broker) -> TimerFigures {
        let rates = *self.counters.rates.lock();
        let timers = self.store.lock();
        let now = broker.now_ms();
        let end = broker.store.queue(TIMER_TOPIC, 0).map_or(0, |queue| queue.max_offset());
        let entered = timers.queue_offset();
        let oldest = (end > entered).then(|| broker.store_time(TIMER_TOPIC, 0, entered));
        TimerFigures {
            enter_behind_ms: oldest.filter(|time| *time > 0).map_or(0, |time| (now - time).max(0)),
            read_behind_ms: now - timers.read_ms(now),
            offset_behind: (end - timers.queue_offset()).max(0),
            waiting: timers.waiting(),
            enter_tps: rates.enter_tps,
            deliver_tps: rates.deliver_tps,
        }
    }

    /// How many messages wait that are due before each of these times, in seconds from now, and not before the one before.
    pub(crate) fn waiting_within(&self, now: i64, bounds_s: &[i64]) -> Vec<i64> {
        let mut sums = vec![0; bounds_s.len()];
        let timers = self.store.lock();
        let first = now - now.rem_euclid(timers.precision_ms());
        for (time, count) in timers.counts() {
            let ahead_ms = time - first;
            let class = bounds_s.partition_point(|bound| bound * 1000 <= ahead_ms);
            if let Some(sum) = sums.get_mut(class).filter(|_| ahead_ms >= 0) {
                *sum += count;
            }
        }
        sums
    }

    /// How many messages wait whose records lie between two physical offsets.
    pub(crate) fn waiting_in(&self, from: i64, to: i64) -> io::Result<i64> {
        let (mut waiting, mut position) = (0, Some(0));
        while let Some(next) = position {
            let (count, later) = self.store.lock().count_waiting(next, from, to)?;
            waiting += count;
            position = later;
        }
        Ok(waiting)
    }

    /// Every message for this time or an earlier one has been delivered; `None` while some that were stored are not even
    /// known here. May wait for the disk.
    pub(crate) fn delivered_until(&self, store: &MessageStore, now: i64) -> Option<i64> {
        let end = store.queue(TIMER_TOPIC, 0).map_or(0, |queue| queue.next_offset());
        let timers = self.store.lock();
        let next = timers.next_wake().unwrap_or(i64::MAX);
        (timers.queue_offset() >= end).then(|| now.min(next.saturating_sub(1)))
    }

    /// Ends both threads after the step they are at.
    pub(crate) fn stop(&self, broker: &Broker) {
        self.stop.store(true, Ordering::SeqCst);
        broker.mailboxes().wake(Service::Timer);
        if let Some(saving) = self.saving.get() {
            saving.unpark();
        }
    }

    fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Leaves the files as Java wants to find them. The threads have ended, the store has not.
    pub(crate) fn close(&self, broker: &Broker, now: i64) -> io::Result<()> {
        let entered = self.enter_all(broker, now);
        self.store.lock().retire(now)?;
        self.save(&broker.store, now)?;
        entered.map_err(io::Error::other)
    }

    /// Java delivers what it enters late in any order, and an acknowledgement of POP before its checkpoint is lost; the
    /// slots of the wheel it takes one after the other. What was delivered before a crash it does not know at all.
    fn enter_all(&self, broker: &Broker, now: i64) -> Result<(), String> {
        let mut buffer = BytesMut::new();
        if broker.config().timer_stop_enqueue && !self.store.lock().awaits_delivered() {
            return Ok(());
        }
        broker.store.flush(); // Before that the last ones may not be readable.
        let began = Instant::now();
        while self.enter(broker, now, &mut buffer)? {
            // Those that were delivered have to be known; the order of the others is worth no long stop.
            if began.elapsed() > ENTER_ALL_MAX && !self.store.lock().awaits_delivered() {
                break;
            }
        }
        Ok(())
    }

    /// Makes the progress durable, if there is any.
    fn save(&self, store: &MessageStore, now: i64) -> io::Result<()> {
        let snapshot = {
            let mut timers = self.store.lock();
            let log_end = store.written();
            if !timers.wants_snapshot(now, log_end) {
                return Ok(());
            }
            timers.snapshot(now, log_end)?
        };
        let written = match store.flush() {
            true => snapshot.write(),
            false => Err(io::Error::other("the commit log cannot be flushed")),
        };
        self.store.lock().settle(&snapshot, written.is_ok());
        self.metrics.save(now)?;
        written
    }

    /// Enters what has arrived, at most [`ENTER_MAX`]. False when there was nothing.
    fn enter(&self, broker: &Broker, now: i64, buffer: &mut BytesMut) -> Result<bool, String> {
        let Some(queue) = broker.store.queue(TIMER_TOPIC, 0) else {
            return Ok(false);
        };
        let mut timers = self.store.lock();
        let first = timers.queue_offset();
        let last = queue.max_offset().min(first + ENTER_MAX as i64);
        while timers.queue_offset() < last {
            let from = timers.queue_offset();
            buffer.clear();
            let got = broker
                .store
                .get_messages(&queue, from, &ENTER_AT_ONCE, &mut |_| true, Wait::Allowed, buffer)
                .map_err(|error| error.to_string())?;
            if got.status == GetStatus::Found
                && !self.enter_records(&mut timers, now, buffer, broker.metrics.as_ref())?
            {
                break;
            }
            while timers.queue_offset() < got.next_begin_offset {
                timers.skip();
            }
            if timers.queue_offset() == from {
                break;
            }
        }
        timers.write_out().map_err(|error| error.to_string())?;
        let entered = timers.queue_offset() - first;
        self.counters.entered.fetch_add(entered as u64, Ordering::Relaxed);
        Ok(entered > 0)
    }

    /// False when the wheel has no place for the next one yet.
    fn enter_records(
        &self,
        timers: &mut TimerStore,
        now: i64,
        mut records: &[u8],
        counted: Option<&Metrics>,
    ) -> Result<bool, String> {
        let precision_ms = timers.precision_ms();
        while !records.is_empty() {
            let record = RecordRef::parse(records).map_err(|error| error.to_string())?;
            records = &records[record.total_size()..];
            while timers.queue_offset() < record.queue_offset() {
                timers.skip();
            }
            match message_of(&record, precision_ms) {
                Ok((message, topic)) => {
                    if !timers.enter(now, &message).map_err(|error| error.to_string())? {
                        return Ok(false);
                    }
                    self.metrics.add(topic, if message.cancels { -1 } else { 1 }, now);
                    if let Some(metrics) = counted {
                        let topic = String::from_utf8_lossy(topic);
                        metrics.timer_entered(&topic, message.out_ms - record.born_timestamp());
                    }
                }
                Err(reason) => {
                    let physical_offset = record.physical_offset();
                    tracing::error!(physical_offset, reason, "a timer message is dropped");
                    timers.skip();
                }
            }
        }
        Ok(true)
    }
}

/// Starts the threads. They end after [`Timers::stop`].
pub(crate) fn spawn(broker: &Arc<Broker>) -> io::Result<[JoinHandle<()>; 2]> {
    let spawn = |name: &str, run: fn(&Broker)| {
        let broker = Arc::clone(broker);
        let thread = thread::Builder::new().name(name.to_owned());
        thread.spawn(move || run(&broker))
    };
    Ok([spawn("oxmq-timer", run)?, spawn("oxmq-timer-save", run_saving)?])
}

fn run(broker: &Broker) {
    broker.mailboxes().serve(Service::Timer);
    let timers = &broker.timers;
    let mut buffer = BytesMut::new();
    let mut delivery = Delivery::default();
    let mut delivered_at = i64::MIN / 2;
    while !timers.is_stopping() {
        let now = broker.now_ms();
        let config = Arc::clone(&broker.config());
        let stepped = match config.timer_stop_enqueue {
            true => Ok(false),
            false => timers.enter(broker, now, &mut buffer),
        };
        let stepped = stepped.and_then(|entered| match config.timer_stop_dequeue {
            true => Ok(entered),
            false if delivery.step(timers, broker, now)? => {
                delivered_at = now;
                Ok(true)
            }
            false => Ok(entered),
        });
        match stepped {
            Ok(true) => {}
            Ok(false) => sleep(broker, &config, now, delivered_at + GATHER_MS),
            Err(reason) => {
                tracing::warn!(reason, "timer messages cannot be handled, trying again");
                thread::park_timeout(Duration::from_millis(RETRY_MS as u64));
            }
        }
    }
}

/// Until a message is due, but not before `gathers_until`, or one arrives.
fn sleep(broker: &Broker, config: &BrokerConfig, now: i64, gathers_until: i64) {
    let queue = broker.store.queue_or_create(TIMER_TOPIC, 0);
    let timers = broker.timers.store.lock();
    queue.wait_mask.fetch_or(Service::Timer.wait_bit(), Ordering::SeqCst);
    // A message that the wheel has no place for yet waits for time to pass, not for its arrival.
    let has_arrived = queue.max_offset() > timers.queue_offset() && !config.timer_stop_enqueue;
    let next = timers.next_wake().filter(|_| !config.timer_stop_dequeue);
    drop(timers);
    let wait_ms = match next {
        _ if has_arrived => 1,
        Some(next) => (next.max(gathers_until) - broker.now_ms()).min(SLEEP_MAX_MS),
        None => SLEEP_MAX_MS,
    };
    if wait_ms > 0 && now >= 0 && !broker.timers.is_stopping() {
        thread::park_timeout(Duration::from_millis(wait_ms as u64));
    }
}

fn run_saving(broker: &Broker) {
    let timers = &broker.timers;
    timers.saving.get_or_init(thread::current);
    let mut cleaned_at = broker.now_ms();
    let mut revision = Revision::new();
    while !timers.is_stopping() {
        thread::park_timeout(Duration::from_millis(broker.config().timer_flush_interval_ms));
        let now = broker.now_ms();
        timers.counters.tick(now);
        if let Err(error) = timers.save(&broker.store, now) {
            tracing::error!(%error, "the progress of timer messages cannot be saved");
        }
        revision.on_time(timers, broker, now);
        if now - cleaned_at >= CLEAN_INTERVAL_MS {
            cleaned_at = now;
            timers.congestion.forget_before(now);
            let reserved_ms = retention::reserved_ms(&broker.config());
            let mut store = timers.store.lock();
            store.keep_within(reserved_ms);
            let removed = store.remove_expired(broker.store.min_physical_offset());
            drop(store);
            if let Err(error) = removed {
                tracing::warn!(%error, "old files of the timer log cannot be removed");
            }
        }
    }
}

fn queue_offset_at(store: &MessageStore, physical_offset: i64) -> Option<i64> {
    let bytes = store.read_record(physical_offset).ok()??;
    let record = RecordRef::parse(&bytes).ok()?;
    (record.topic() == TIMER_TOPIC.as_bytes()).then(|| record.queue_offset())
}

/// What a record of the timer topic asks for, and its topic.
fn message_of<'a>(record: &RecordRef<'a>, precision_ms: i64) -> Result<(TimerMessage, &'a [u8]), &'static str> {
    let mut asked = TimerProperties::default();
    let (mut out_ms, mut topic) = (None, None);
    for (name, value) in properties::iter(record.properties()) {
        match name {
            b"TIMER_OUT_MS" => {
                out_ms = std::str::from_utf8(value)
                    .ok()
                    .and_then(|text| text.parse::<i64>().ok())
            }
            b"REAL_TOPIC" => topic = Some(value),
            _ => {}
        }
        TimerProperties::take(&mut asked, name, value);
    }
    let out_ms = out_ms.ok_or("it has no TIMER_OUT_MS")?;
    let topic = topic.ok_or("it has no real topic")?;
    let latest = out_ms.saturating_add(precision_ms);
    // What was asked for relative to a time is due that long after it was stored, which is not before it was sent.
    let due_ms = asked.deliver_at(record.store_timestamp()).unwrap_or(latest);
    let message = TimerMessage {
        out_ms,
        due_ms: if asked.cancels { out_ms } else { due_ms },
        physical_offset: record.physical_offset(),
        size: record.total_size() as i32,
        topic_hash: hash::extend_java_string_hash(0, topic),
        cancels: asked.cancels,
    };
    Ok((message, topic))
}
