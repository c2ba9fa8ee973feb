//! Messages that wait for a time of their own: which are due, and how far they were delivered (spec: storage.md §16).
//!
//! Owns `timerwheel`, `timerlog/` and `config/timercheck`, all in Java's format. Holds positions of messages, not
//! messages: memory is bounded by the slots of the wheel and by [`CURRENT_MAX`], whatever the number of messages.
//! Reads no clock and delivers nothing itself; one thread drives it:
//!
//! ```text
//! consume queue of the timer topic ── enter ── timer log, wheel ── due ── (delivered elsewhere) ── advance
//! ```
//!
//! Within a slot messages are due in the order of (time due, position in the timer log), which is known from the log
//! alone. [`Progress`] names the last one delivered, so that everything up to it has been delivered, cancelled or
//! rolled, and nothing behind it has. A message that comes late is entered behind the progress. From this follows:
//!
//! - Never early: a unit is handed out when its time is reached. Its time is never before the one asked for.
//! - Never lost: what is not entered is entered again, because the queue offset that is kept is that of the last unit
//!   which is durable; what is entered stays until the progress has passed it. The progress that is kept was reached by
//!   deliveries that were durable before it was written.
//! - Never twice: each delivered record names its source ([`source_mark`]). After a crash the commit log behind
//!   `delivered_from` is read, and the sources found there are not delivered again. At a stop in order the units that
//!   were delivered are taken out of the slots that Java will read, in the wheel and in the log: it only knows whole
//!   slots, and fills the wheel anew from the end of the log.
//!
//! A snapshot is written in this order: commit log (by the caller), timer log, wheel, timercheck. So the wheel never
//! names a unit that is not durable, and a unit never a record that is not. After a sync that failed there is no other
//! snapshot until the next start: deliveries go on, and the start finds them in the commit log.

mod census;
mod checkpoint;
mod current;
mod log;
pub(crate) mod offline;
mod unit;
mod wheel;

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use census::{Census, Waiting};
pub use checkpoint::WIRE_BYTES;
use checkpoint::{Checkpoint, Ours};
pub use current::Cancels;
use current::Current;
use log::{TimerLog, Unsynced};
use unit::Unit;
use wheel::{Slot, Wheel};

use crate::commit_log::is_no_space;
use crate::disk::Disk;

/// Units of the present slot that are in memory at once, and cancellations of it: some 30 MB. A fuller slot is read several
/// times.
pub const CURRENT_MAX: usize = 262_144;
/// Seven days of seconds.
pub const WHEEL_SLOTS: i64 = 7 * 86_400;
/// Units looked at by one [`TimerStore::count_waiting`]: some milliseconds.
const UNITS_COUNTED_MAX: usize = 65_536;
/// A slot is read so long before its first message can be due.
const LEAD_MS: i64 = 100;
/// Slots of the turn that stay free (spec: storage.md §16.7).
const BLANK_SLOTS: i64 = 60;
/// The master's queue offset in the file. Java goes on at the least of it and of the end of the timer log: where it is older
/// than the log after a kill, what lies between would be entered, and delivered, twice.
const OF_NO_MASTER: i64 = i64::MAX;
/// A new snapshot is due when a start would have to read so much of the commit log.
const UNREAD_LOG_BYTES_MAX: i64 = 64 << 20;

/// The `preparedTransactionOffset` of a record that was delivered for the waiting one at this physical offset. No other
/// record has a negative one.
pub fn source_mark(physical_offset: i64) -> i64 {
    !physical_offset
}

/// The physical offset of the message that a record was delivered for, if it was.
pub fn source_of_mark(prepared_transaction_offset: i64) -> Option<i64> {
    (prepared_transaction_offset < 0).then_some(!prepared_transaction_offset)
}

#[derive(Debug, Clone)]
pub struct TimerConfig {
    /// `storePathRootDir`
    pub root: PathBuf,
    /// `mappedFileSizeTimerLog`
    pub log_file_bytes: i64,
    /// `timerPrecisionMs`
    pub precision_ms: i64,
    /// `timerRollWindowSlot`
    pub roll_window_slots: i64,
    /// Slots of one turn of the wheel: [`WHEEL_SLOTS`], as the size of its file depends on it.
    pub wheel_slots: i64,
    /// [`CURRENT_MAX`]
    pub current_max: usize,
}

/// What the commit log knows at the start.
pub struct TimerStart<'a> {
    pub now: i64,
    /// The last stop was in order.
    pub clean: bool,
    /// End of the commit log.
    pub log_end: i64,
    /// First and next queue offset of the timer topic.
    pub queue: (i64, i64),
    /// The queue offset of the timer message at a physical offset.
    pub queue_offset_at: &'a dyn Fn(i64) -> Option<i64>,
}

/// A message to be entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimerMessage {
    /// Its slot: `TIMER_OUT_MS`.
    pub out_ms: i64,
    /// When it is due. Kept within the slot.
    pub due_ms: i64,
    pub physical_offset: i64,
    pub size: i32,
    /// Java's hash of its topic.
    pub topic_hash: i32,
    pub cancels: bool,
}

/// A message that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    pub physical_offset: i64,
    pub size: i32,
    /// It goes back to the timer topic.
    pub rolls: bool,
    pub entered_ms: i64,
    pub due_ms: i64,
}

/// The last message that was delivered. Everything before it in this order was, too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Progress {
    pub(crate) slot: i64,
    pub(crate) due_ms: i64,
    /// In the timer log; -1 when nothing of the slot was delivered.
    pub(crate) position: i64,
}

#[derive(Debug)]
pub struct TimerStore {
    disk: Arc<dyn Disk>,
    config: TimerConfig,
    log: TimerLog,
    wheel: Wheel,
    /// `timerRollWindowSlot`, or less where records are not kept as long.
    roll_window_slots: i64,
    progress: Progress,
    queue_offset: i64,
    current: Option<Current>,
    delivered: Delivered,
    /// Physical offsets of messages that Java entered after it last saved its queue offset. They are met again in this
    /// order, and not entered twice. At most [`CURRENT_MAX`], more than Java enters in the second between two saves.
    entered: BTreeSet<i64>,
    waiting: i64,
    saved: Checkpoint,
    /// A snapshot could not be made durable. The kernel has forgotten what it could not write, and would call the next try
    /// a success: what was saved stays as it is, and the next start writes again what came later.
    sync_failed: bool,
}

/// Sources of records that were delivered before a crash and behind the progress.
#[derive(Debug, Default)]
struct Delivered {
    sources: HashSet<i64>,
    from: i64,
    /// Beyond this time and queue offset none of them is met any more.
    until_ms: i64,
    until_queue_offset: i64,
}

/// What a snapshot makes durable.
#[derive(Debug)]
pub struct TimerSnapshot {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    unsynced: Unsynced,
    slots: Vec<(i64, Slot)>,
    places: i64,
    checkpoint: Checkpoint,
    sync_failed: AtomicBool,
}

impl TimerStore {
    /// Reads what is there and recovers it (spec: storage.md §16.7).
    pub fn open(disk: Arc<dyn Disk>, mut config: TimerConfig, start: &TimerStart<'_>) -> io::Result<TimerStore> {
        let window_max = config.wheel_slots - BLANK_SLOTS;
        if !(2..=window_max).contains(&config.roll_window_slots) {
            config.roll_window_slots = window_max;
        }
        let saved = Checkpoint::load(&*disk, &config.root.join("config/timercheck"))?;
        if let Some(ours) = saved.ours.filter(|ours| ours.precision_ms > 0) {
            config.precision_ms = ours.precision_ms;
        }
        let log = TimerLog::open(Arc::clone(&disk), config.root.join("timerlog"), config.log_file_bytes)?;
        let mut timers = TimerStore {
            wheel: Wheel::new(config.wheel_slots),
            roll_window_slots: config.roll_window_slots,
            progress: Progress::default(),
            queue_offset: 0,
            current: None,
            delivered: Delivered::default(),
            entered: BTreeSet::new(),
            waiting: 0,
            disk,
            config,
            log,
            saved,
            sync_failed: false,
        };
        timers.recover(start)?;
        Ok(timers)
    }

    fn recover(&mut self, start: &TimerStart<'_>) -> io::Result<()> {
        let read_slot = match self.saved.ours {
            Some(ours) => {
                self.progress = ours.progress;
                self.delivered.from = ours.delivered_from;
                ours.progress.slot
            }
            None => {
                let bound = self.slot_of(start.now) - self.config.wheel_slots + BLANK_SLOTS;
                let slot = self.slot_of(self.saved.read_ms).max(bound);
                self.progress = self.begin_of(slot);
                slot
            }
        };
        let wheel_path = self.config.root.join("timerwheel");
        let wheel = Wheel::load(&*self.disk, &wheel_path, read_slot, self.config.wheel_slots)?;
        // Java may have written its wheel and its log at different times.
        let replay_from = match (&wheel, self.saved.ours) {
            (None, _) => self.log.min(),
            (Some(_), Some(_)) => self.saved.log_flushed,
            (Some(_), None) => self.saved.log_flushed - self.log.file_bytes(),
        };
        self.wheel = wheel.unwrap_or_else(|| Wheel::new(self.config.wheel_slots));
        let mut last = self.replay(self.log.min().max(replay_from), read_slot, start.log_end)?;
        if self.wheel.last_position() >= self.log.end() {
            tracing::error!("the timer log has lost units that the wheel names: the wheel is built anew");
            self.wheel = Wheel::new(self.config.wheel_slots);
            last = self.replay(self.log.min(), read_slot, start.log_end)?;
        }
        if !start.clean || self.log.end() > self.saved.log_flushed {
            // At once: what is cut off here must not come back behind units that are written over its beginning.
            self.log.end_at(self.log.end(), true)?;
            // What was found may not be durable yet, nor its name; after a sync that failed only writing it again makes it so.
            self.log.rewrite_from(replay_from)?;
            self.log.mark_unsynced(replay_from);
            self.log.take_unsynced().sync(&*self.disk)?;
            let root = &self.config.root;
            for path in [&wheel_path, &root.join("config/timercheck")] {
                if let Ok(file) = self.disk.open(path) {
                    file.sync_data()?;
                }
            }
            for dir in [root.join("config"), root.join("timerlog"), root.clone()] {
                if self.disk.exists(&dir) {
                    self.disk.sync_dir(&dir)?;
                }
            }
        }

        let is_newer = |(position, _): &(i64, Unit)| self.saved.ours.is_none() || *position >= self.saved.log_flushed;
        let newest = last.filter(is_newer);
        let of_newest = newest.and_then(|(_, unit)| (start.queue_offset_at)(unit.physical_offset));
        self.queue_offset = match (of_newest, self.saved.ours) {
            (Some(queue_offset), Some(_)) => (queue_offset + 1).max(self.saved.queue_offset),
            (Some(queue_offset), None) => (queue_offset + 1).min(self.saved.master_queue_offset),
            (None, _) => self.saved.queue_offset,
        };
        let (min, max) = start.queue;
        self.queue_offset = self.queue_offset.clamp(min, max.max(min));
        self.delivered.until_queue_offset = max;
        self.waiting = self.wheel.count();
        Ok(())
    }

    /// Takes the units from a position on into the wheel; the last one comes back. The log ends behind it: what
    /// follows is none, or its message is not there.
    fn replay(&mut self, from: i64, read_slot: i64, log_end: i64) -> io::Result<Option<(i64, Unit)>> {
        let (wheel, entered, precision_ms) = (&mut self.wheel, &mut self.entered, self.config.precision_ms);
        let saved = self.saved;
        let mut last = None;
        let end = self.log.files().scan(from, |position, unit| {
            // One of ours that has lost its end looks like one of Java's.
            let is_torn = saved.ours.is_some() && position >= saved.log_flushed && unit.behind_slot_ms == 0;
            if is_torn || unit.physical_offset + i64::from(unit.size) > log_end {
                return false;
            }
            let slot = unit.slot_ms.div_euclid(precision_ms);
            if slot >= read_slot {
                wheel.add_again(slot, position, unit);
            }
            if saved.ours.is_none() && position >= saved.log_flushed {
                entered.insert(unit.physical_offset);
                if entered.len() > CURRENT_MAX {
                    entered.pop_first();
                }
            }
            last = Some((position, *unit));
            true
        })?;
        self.log.end_at(end, false)?;
        Ok(last)
    }

    /// Width of a slot. That of the files goes before the one that is configured.
    pub fn precision_ms(&self) -> i64 {
        self.config.precision_ms
    }

    /// Queue offset of the next message to be entered.
    pub fn queue_offset(&self) -> i64 {
        self.queue_offset
    }

    /// Messages that wait, less cancellations.
    pub fn waiting(&self) -> i64 {
        self.waiting.max(0)
    }

    /// How many messages wait in each slot, by its time.
    pub fn counts(&self) -> impl Iterator<Item = (i64, i64)> {
        let precision_ms = self.config.precision_ms;
        self.wheel
            .counts()
            .map(move |(slot, count)| (slot * precision_ms, count.max(0).into()))
    }

    /// Everything before this time has been delivered.
    pub fn read_ms(&self, now: i64) -> i64 {
        let present = self.slot_of(now);
        self.wheel.first().unwrap_or(present).min(present) * self.config.precision_ms
    }

    /// From here on the commit log has to be searched for deliveries; nothing where Java has worked since.
    pub fn delivered_from(&self) -> Option<i64> {
        self.saved.ours.map(|_| self.delivered.from)
    }

    /// Physical offsets of messages in slots that are over, at most so many: a Java broker may have delivered them, as it
    /// marks nothing.
    pub fn overdue(&mut self, now: i64, count_max: usize) -> io::Result<Vec<i64>> {
        let present = self.slot_of(now);
        let over: Vec<i64> = self
            .wheel
            .counts()
            .map(|(slot, _)| slot)
            .filter(|slot| *slot < present)
            .collect();
        let mut found = Vec::new();
        for slot in over {
            let mut position = self.wheel.last_of(slot);
            while position >= 0
                && found.len() < count_max
                && let Some(unit) = self.log.read(position)?
            {
                found.push(unit.physical_offset);
                position = unit.previous;
            }
        }
        Ok(found)
    }

    /// The sources that were found; none is due later than `until_ms`.
    pub fn set_delivered(&mut self, sources: HashSet<i64>, until_ms: i64) {
        self.delivered.sources = sources;
        self.delivered.until_ms = until_ms;
    }

    fn slot_of(&self, time_ms: i64) -> i64 {
        time_ms.div_euclid(self.config.precision_ms)
    }

    fn begin_of(&self, slot: i64) -> Progress {
        Progress {
            slot,
            due_ms: slot * self.config.precision_ms,
            position: -1,
        }
    }

    /// Enters the message at [`TimerStore::queue_offset`]. False when the wheel has no place for its slot as long as
    /// older ones are not delivered.
    pub fn enter(&mut self, now: i64, message: &TimerMessage) -> io::Result<bool> {
        while let Some(first) = self
            .entered
            .first()
            .copied()
            .filter(|first| *first <= message.physical_offset)
        {
            self.entered.pop_first();
            if first == message.physical_offset {
                self.queue_offset += 1;
                return Ok(true);
            }
        }
        let (slot, unit) = self.place(now, message);
        if !self.wheel.has_place_for(slot) {
            return Ok(false);
        }
        let position = self.log.next_position()?;
        let unit = Unit {
            previous: self.wheel.last_of(slot),
            ..unit
        };
        self.log.push(&unit);
        self.wheel.add(slot, position, &unit);
        self.waiting += i64::from(unit.count());
        let is_delivered = self.delivered.sources.contains(&message.physical_offset);
        if is_delivered {
            // It may come behind the progress by now.
            self.delivered.until_ms = self.delivered.until_ms.max(unit.slot_ms);
        }
        match &mut self.current {
            Some(current) if slot < current.slot => self.current = None,
            Some(current) if slot == current.slot && !is_delivered => {
                current.add(position, unit, self.config.precision_ms);
            }
            _ => {}
        }
        self.queue_offset += 1;
        Ok(true)
    }

    /// A message that cannot wait: it is passed over.
    pub fn skip(&mut self) {
        self.queue_offset += 1;
    }

    /// The slot of a message, and its unit but for the chain. What is too far away waits half way; what is late comes
    /// behind the progress. What went round before a crash has to be met before [`Delivered`] is forgotten, and goes round
    /// again if its copy is lost in the next one.
    fn place(&self, now: i64, message: &TimerMessage) -> (i64, Unit) {
        let precision_ms = self.config.precision_ms;
        let write_ms = self.slot_of(now) * precision_ms;
        let window_ms = self.roll_window_slots * precision_ms;
        let wanted = self.slot_of(message.out_ms);
        let ahead_ms = wanted.saturating_mul(precision_ms).saturating_sub(write_ms);
        let last_known = self.slot_of(self.delivered.until_ms);
        let went_round =
            wanted > last_known && !message.cancels && self.delivered.sources.contains(&message.physical_offset);
        let rolls = ahead_ms >= window_ms || went_round;
        let (wanted, due_ms) = match ahead_ms - window_ms {
            _ if went_round => (last_known, 0),
            ..0 => (wanted, message.due_ms),
            beyond if beyond < self.roll_window_slots / 3 * precision_ms => {
                (self.slot_of(write_ms + self.roll_window_slots / 2 * precision_ms), 0)
            }
            _ => (self.slot_of(write_ms + window_ms), 0),
        };
        let oldest = self.slot_of(write_ms - i64::from(i32::MAX)) + 1;
        let slot = wanted.max(oldest).max(self.progress.slot);
        let slot_ms = slot * precision_ms;
        let mut due_ms = due_ms.clamp(slot_ms + 1, slot_ms + precision_ms);
        if slot == self.progress.slot {
            due_ms = due_ms.max(self.progress.due_ms);
        }
        let unit = Unit {
            physical_offset: message.physical_offset,
            size: message.size,
            topic_hash: message.topic_hash,
            behind_slot_ms: (due_ms - slot_ms) as u32,
            ..Unit::new(write_ms, slot_ms, Unit::magic(rolls, message.cancels))
        };
        (slot, unit)
    }

    /// Writes the entered units to the log file. To be called before a pause; an error is tried again the next time.
    pub fn write_out(&mut self) -> io::Result<()> {
        self.log.write_out()
    }

    /// The next messages that are due, in order, at most `count_max`. They stay until [`TimerStore::advance`].
    pub fn due(&mut self, now: i64, count_max: usize) -> io::Result<Vec<Due>> {
        loop {
            let Some(slot) = self.wheel.first() else {
                self.forget_delivered(now);
                return Ok(Vec::new());
            };
            if self.current.is_none() {
                if slot * self.config.precision_ms + 1 - LEAD_MS > now {
                    self.forget_delivered(now);
                    return Ok(Vec::new());
                }
                self.current = Some(self.read_slot(slot)?);
            }
            let Some(current) = &self.current else {
                return Ok(Vec::new());
            };
            if !current.units.is_empty() {
                let due = current.units.range(..=(now, i64::MAX)).take(count_max);
                return Ok(due.map(|((due_ms, _), unit)| Due::of(*due_ms, unit)).collect());
            }
            if !current.is_cut {
                self.wheel.remove(current.slot);
            }
            self.current = None;
        }
    }

    fn read_slot(&mut self, slot: i64) -> io::Result<Current> {
        let mut current = Current::new(slot, self.config.current_max);
        let mut position = self.wheel.last_of(slot);
        while position >= 0 {
            let Some(unit) = self.log.read(position)? else {
                tracing::error!(slot, position, "the chain of a slot of the timer wheel is broken");
                break;
            };
            if self.is_left(position, &unit) && self.slot_of(unit.slot_ms) == slot {
                current.add(position, unit, self.config.precision_ms);
            }
            position = unit.previous;
        }
        Ok(current)
    }

    /// Whether a unit of a slot in the wheel is still of use.
    fn is_left(&self, position: i64, unit: &Unit) -> bool {
        let reached = Progress {
            slot: self.slot_of(unit.slot_ms),
            due_ms: unit.due_ms(self.config.precision_ms),
            position,
        };
        unit.cancels() || (reached > self.progress && !self.delivered.sources.contains(&unit.physical_offset))
    }

    /// What cancels messages of the present slot, if there is one.
    pub fn cancels(&self) -> Option<Cancels<'_>> {
        self.current.as_ref().map(Current::cancels)
    }

    /// Tells physical offset and size of everything that cancels messages of the present slot. Reads the whole slot.
    pub fn each_cancel(&mut self, tell: &mut dyn FnMut(i64, i32)) -> io::Result<()> {
        let Some(slot) = self.current.as_ref().map(|current| current.slot) else {
            return Ok(());
        };
        let mut position = self.wheel.last_of(slot);
        while position >= 0 {
            let Some(unit) = self.log.read(position)? else {
                return Ok(());
            };
            if unit.cancels() && self.slot_of(unit.slot_ms) == slot {
                tell(unit.physical_offset, unit.size);
            }
            position = unit.previous;
        }
        Ok(())
    }

    /// The first `count` of what was due is delivered, or needs no delivery.
    pub fn advance(&mut self, count: usize) {
        for _ in 0..count {
            let current = self.current.as_mut().expect("something was due");
            let ((due_ms, position), _) = current.units.pop_first().expect("so many were due");
            let reached = Progress {
                slot: current.slot,
                due_ms,
                position,
            };
            assert!(reached > self.progress, "progress only grows");
            self.progress = reached;
        }
        self.waiting -= count as i64;
    }

    /// When to call [`TimerStore::due`] again.
    pub fn next_wake(&self) -> Option<i64> {
        if let Some(current) = &self.current
            && let Some(((due_ms, _), _)) = current.units.first_key_value()
        {
            return Some(*due_ms);
        }
        self.wheel
            .first()
            .map(|slot| slot * self.config.precision_ms + 1 - LEAD_MS)
    }

    /// What was delivered before the crash has all been met again.
    fn forget_delivered(&mut self, now: i64) {
        let delivered = &mut self.delivered;
        if now >= delivered.until_ms && self.queue_offset >= delivered.until_queue_offset {
            delivered.sources = HashSet::new();
        }
    }

    /// Records of the commit log are kept so long: messages that wait longer go round before their record goes. A third of
    /// the time is left for a broker that was stopped.
    pub fn keep_within(&mut self, reserved_ms: i64) {
        let slots = reserved_ms.max(0) / 3 * 2 / self.config.precision_ms;
        self.roll_window_slots = self.config.roll_window_slots.min(slots.max(2));
    }

    /// Counts messages that wait and whose records lie between two physical offsets. One call reads a part of the timer
    /// log from a position on, and says where to go on.
    pub fn count_waiting(&mut self, position: i64, from: i64, to: i64) -> io::Result<(i64, Option<i64>)> {
        self.log.write_out()?;
        let position = position.max(self.log.min());
        let (mut count, mut left, mut is_done) = (0, UNITS_COUNTED_MAX, true);
        let reached = self.log.files().scan(position, |_, unit| {
            is_done = unit.physical_offset >= to;
            if is_done || left == 0 {
                return false;
            }
            left -= 1;
            let slot = unit.slot_ms.div_euclid(self.config.precision_ms);
            let is_waiting = slot > self.progress.slot && !unit.cancels();
            count += i64::from(is_waiting && unit.physical_offset >= from);
            true
        })?;
        Ok((count, (!is_done && left == 0).then_some(reached)))
    }

    /// Removes files of the timer log whose messages are gone.
    pub fn remove_expired(&mut self, log_min: i64) -> io::Result<()> {
        self.log.remove_expired(log_min)
    }

    /// Is there anything that a snapshot would change? `log_end` is the end of the commit log.
    pub fn wants_snapshot(&self, now: i64, log_end: i64) -> bool {
        let of_saved = self.saved.ours.unwrap_or_default();
        self.has_passed(now)
            || self.wheel.is_dirty()
            || self.log.is_unsynced()
            || self.saved.ours.is_none()
            || self.queue_offset != self.saved.queue_offset
            || self.progress > of_saved.progress
            || log_end - of_saved.delivered_from > UNREAD_LOG_BYTES_MAX
    }

    /// Whether Java would read slots again that are over and of which something was delivered.
    fn has_passed(&self, now: i64) -> bool {
        let saved_slot = self.slot_of(self.saved.read_ms);
        self.read_ms(now) > self.saved.read_ms && self.has_delivered_from(saved_slot)
    }

    /// Whether anything of this slot or a later one may have been delivered; before a crash, also without a trace in the
    /// progress.
    fn has_delivered_from(&self, slot: i64) -> bool {
        self.progress > self.begin_of(slot) || slot <= self.slot_of(self.delivered.until_ms)
    }

    /// What has to be made durable now. Everything before `log_end`, the end of the commit log, is to be made durable
    /// before [`TimerSnapshot::write`]; [`TimerStore::settle`] follows.
    pub fn snapshot(&mut self, now: i64, log_end: i64) -> io::Result<TimerSnapshot> {
        self.can_be_saved()?;
        self.log.write_out()?;
        let read_ms = self.read_ms(now);
        self.progress = self.progress.max(self.begin_of(self.slot_of(read_ms)));
        let delivered_from = match self.delivered.sources.is_empty() {
            true => log_end,
            false => self.delivered.from,
        };
        self.delivered.from = delivered_from;
        let checkpoint = Checkpoint {
            read_ms,
            log_flushed: self.log.end(),
            queue_offset: self.queue_offset,
            master_queue_offset: OF_NO_MASTER,
            timestamp: now,
            counter: self.saved.counter + 1,
            ours: Some(Ours {
                progress: self.progress,
                delivered_from,
                precision_ms: self.config.precision_ms,
                before: self.saved.shared(),
            }),
        };
        Ok(TimerSnapshot {
            disk: Arc::clone(&self.disk),
            root: self.config.root.clone(),
            unsynced: self.log.take_unsynced(),
            slots: self.wheel.take_dirty(),
            places: self.wheel.places(),
            checkpoint,
            sync_failed: AtomicBool::new(false),
        })
    }

    fn can_be_saved(&self) -> io::Result<()> {
        match self.sync_failed {
            false => Ok(()),
            true => Err(io::Error::other(
                "timers could not be made durable before: the next start writes them again",
            )),
        }
    }

    /// A snapshot was written, or could not be: then the next one starts over, unless a sync has failed. There is one at a
    /// time.
    pub fn settle(&mut self, snapshot: &TimerSnapshot, is_written: bool) {
        self.sync_failed = snapshot.sync_failed.load(Ordering::Acquire);
        match is_written {
            true => self.saved = snapshot.checkpoint,
            false => {
                self.log.mark_unsynced(0);
                self.wheel.mark_dirty();
            }
        }
    }

    /// The checkpoint as it goes over the wire (request 60).
    pub fn checkpoint(&self) -> [u8; WIRE_BYTES] {
        let wire = Checkpoint {
            master_queue_offset: self.saved.queue_offset,
            ..self.saved
        };
        wire.wire()
    }

    /// Whether messages that were delivered before a crash are still to be entered. [`TimerStore::retire`] wants them to be.
    pub fn awaits_delivered(&self) -> bool {
        !self.delivered.sources.is_empty() && self.queue_offset < self.delivered.until_queue_offset
    }

    /// Takes what was delivered out of the slots that Java will read, for a stop in order: it delivers all that it finds in
    /// them. The snapshot that follows has to be of the same time.
    pub fn retire(&mut self, now: i64) -> io::Result<()> {
        self.can_be_saved()?;
        self.current = None;
        self.log.write_out()?;
        let read_slot = self.slot_of(self.read_ms(now));
        if !self.has_delivered_from(read_slot) {
            return Ok(());
        }
        let last = self.progress.slot.max(self.slot_of(self.delivered.until_ms));
        let slots = self.wheel.counts().map(|(slot, _)| slot);
        for slot in slots.take_while(|slot| *slot <= last).collect::<Vec<i64>>() {
            self.retire_of(slot, read_slot)?;
        }
        self.retire_finished(read_slot)
    }

    fn retire_of(&mut self, slot: i64, read_slot: i64) -> io::Result<()> {
        let mut kept: Vec<(i64, Unit)> = Vec::new();
        let mut position = self.wheel.last_of(slot);
        while position >= 0 {
            let Some(unit) = self.log.read(position)? else {
                break;
            };
            let is_here = self.slot_of(unit.slot_ms) == slot;
            if is_here && self.is_left(position, &unit) {
                kept.push((position, unit));
            } else if is_here {
                self.move_before(read_slot, position, unit)?;
            }
            position = unit.previous;
        }
        let Some(((first, _), (last, _))) = kept.last().zip(kept.first()) else {
            self.wheel.remove(slot);
            return Ok(());
        };
        let count = kept.iter().map(|(_, unit)| unit.count()).sum();
        self.wheel.replace(slot, *first, *last, count);
        for index in 0..kept.len() {
            let previous = kept.get(index + 1).map_or(-1, |(position, _)| *position);
            let (position, unit) = &mut kept[index];
            if unit.previous != previous {
                unit.previous = previous;
                self.log.rewrite(*position, unit)?;
            }
        }
        Ok(())
    }

    /// Slots that have left the wheel because all in them was delivered. From the end of the log Java would fill them again;
    /// it reads on from the file that begins no later than one file before the end.
    fn retire_finished(&mut self, read_slot: i64) -> io::Result<()> {
        let (files, mut moved) = (self.log.files(), Ok(()));
        files.scan(self.log.last_files(), |position, unit| {
            let slot = self.slot_of(unit.slot_ms);
            if slot >= read_slot && self.wheel.get(slot).is_none() {
                moved = self.move_before(read_slot, position, *unit);
            }
            moved.is_ok()
        })?;
        moved
    }

    /// Gives a unit to a slot that is over.
    fn move_before(&mut self, read_slot: i64, position: i64, unit: Unit) -> io::Result<()> {
        let over_ms = (read_slot - 1) * self.config.precision_ms;
        let moved = Unit {
            write_ms: over_ms,
            slot_ms: over_ms,
            behind_slot_ms: 1,
            ..unit
        };
        self.log.rewrite(position, &moved)
    }
}

impl Due {
    fn of(due_ms: i64, unit: &Unit) -> Due {
        Due {
            physical_offset: unit.physical_offset,
            size: unit.size,
            rolls: unit.rolls(),
            entered_ms: unit.write_ms,
            due_ms,
        }
    }
}

impl TimerSnapshot {
    /// Makes it durable. The commit log has to be durable already.
    pub fn write(&self) -> io::Result<()> {
        let disk = &*self.disk;
        self.durably(self.unsynced.sync(disk))?;
        if !self.slots.is_empty() {
            let path = self.root.join("timerwheel");
            let file = match disk.open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let file = disk.create(&path)?;
                    self.durably(disk.sync_dir(&self.root))?;
                    file
                }
                Err(error) => return Err(error),
            };
            if file.len()? != wheel::file_bytes(self.places) {
                file.set_len(wheel::file_bytes(self.places))?;
            }
            wheel::write(&*file, &self.slots, self.places)?;
            self.durably(file.sync_data())?;
        }
        match self.checkpoint.save(disk, &self.root.join("config/timercheck")) {
            Err(error) if is_no_space(&error) => Err(error),
            done => self.durably(done),
        }
    }

    /// Notes a failure after which no later success of a sync is believed.
    fn durably(&self, done: io::Result<()>) -> io::Result<()> {
        self.sync_failed.fetch_or(done.is_err(), Ordering::AcqRel);
        done
    }
}
