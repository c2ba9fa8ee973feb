//! The state machines of POP together, under a virtual clock and with crashes: one group on one queue, and the queue in
//! which its messages come again.
//!
//! What a crash leaves: the log with all timed records, which a timer delivers exactly once, and the offsets as they were
//! saved last. What it takes: everything else. A power cut takes the end of the log as well, but nothing from before the
//! offsets were saved. Invariants:
//!
//! - No message is lost: it is handed out until it is acknowledged.
//! - No saved offset passes the end of its queue.
//! - None is handed out again before its invisible time is over, and none that was acknowledged in time, except where a
//!   crash took back offsets that were not saved.

use std::collections::{BTreeMap, BTreeSet};

use oxmq_protocol::pop::{PopAck, PopCheckpoint};
use proptest::prelude::*;

use super::queue::{Buffered, PopQueue, Stay};
use super::revive::{Revive, ReviveRecord};

const STEP_MS: i64 = 500;
const STAY: Stay = Stay {
    at_most_ms: 10_000,
    before_revive_ms: 3000,
};
const BUFFER_MARGIN_MS: i64 = 1500;
const TOPICS: [&str; 2] = ["t", "%RETRY%g_t"];

#[derive(Debug, Clone)]
enum Event {
    Send(usize),
    Pop {
        queue: usize,
        count: usize,
        invisible_ms: i64,
    },
    Ack(usize),
    ChangeInvisibleTime {
        delivery: usize,
        invisible_ms: i64,
    },
    SaveOffsets,
    Wait(i64),
    FailNextAppend,
    Crash,
    /// So much of what is not flushed is there.
    CutPower(usize),
    Restart,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        2 => (1..6usize).prop_map(Event::Send),
        6 => (0..2usize, 1..8usize, 500..20_000i64)
            .prop_map(|(queue, count, invisible_ms)| Event::Pop { queue, count, invisible_ms }),
        8 => any::<usize>().prop_map(Event::Ack),
        1 => (any::<usize>(), 100..9000i64)
            .prop_map(|(delivery, invisible_ms)| Event::ChangeInvisibleTime { delivery, invisible_ms }),
        2 => Just(Event::SaveOffsets),
        4 => (100..9000i64).prop_map(Event::Wait),
        1 => Just(Event::FailNextAppend),
        1 => Just(Event::Crash),
        1 => any::<usize>().prop_map(Event::CutPower),
        1 => Just(Event::Restart),
    ];
    proptest::collection::vec(event, 1..120)
}

/// A record of the log.
#[derive(Debug, Clone)]
enum Entry {
    Message {
        queue: usize,
        message: usize,
    },
    Timed {
        record: ReviveRecord,
        deliver_at: i64,
    },
    /// Of the revive topic; and which timed record it was, by its place in the log.
    Arrived {
        record: ReviveRecord,
        deliver_at: i64,
        timed: Option<usize>,
    },
}

/// A message as a consumer got it.
#[derive(Debug, Clone)]
struct Delivery {
    message: usize,
    queue: usize,
    start_offset: i64,
    queue_offset: i64,
    pop_time: i64,
    revive_time: i64,
    acked: bool,
}

#[derive(Debug, Clone, Default)]
struct Offsets {
    groups: [Option<i64>; 2],
    revive: Option<i64>,
}

struct World {
    merges: bool,
    now: i64,
    log: Vec<Entry>,
    /// So many records of the log are on disk.
    flushed: usize,
    /// Messages by queue offset.
    queues: [Vec<usize>; 2],
    /// Timed records that have not been delivered, by their time and place in the log.
    timer: BTreeMap<(i64, usize), ReviveRecord>,
    revive_topic: Vec<(ReviveRecord, i64)>,
    offsets: Offsets,
    saved: Offsets,
    pops: [PopQueue; 2],
    revive: Revive,
    fails_next: bool,
    deliveries: Vec<Delivery>,
    /// Messages that were acknowledged.
    consumed: BTreeSet<usize>,
    /// Messages that came again since the offsets were saved.
    unsaved_revivals: BTreeSet<usize>,
    /// A crash may have doubled them.
    doubled: BTreeSet<usize>,
}

impl World {
    fn new(merges: bool) -> World {
        World {
            merges,
            now: 1_000_000,
            log: Vec::new(),
            flushed: 0,
            queues: Default::default(),
            timer: BTreeMap::new(),
            revive_topic: Vec::new(),
            offsets: Offsets::default(),
            saved: Offsets::default(),
            pops: Default::default(),
            revive: Revive::new(None, 3),
            fails_next: false,
            deliveries: Vec::new(),
            consumed: BTreeSet::new(),
            unsaved_revivals: BTreeSet::new(),
            doubled: BTreeSet::new(),
        }
    }

    fn on(&mut self, event: Event) {
        match event {
            Event::Send(count) => {
                let next = self.queues[0].len();
                for message in next..next + count {
                    self.write(Entry::Message { queue: 0, message });
                }
            }
            Event::Pop {
                queue,
                count,
                invisible_ms,
            } => self.pop(queue, count, invisible_ms),
            Event::Ack(delivery) => {
                if !self.deliveries.is_empty() {
                    self.ack(delivery % self.deliveries.len());
                }
            }
            Event::ChangeInvisibleTime { delivery, invisible_ms } => {
                if !self.deliveries.is_empty() {
                    self.change(delivery % self.deliveries.len(), invisible_ms);
                }
            }
            Event::SaveOffsets => self.save(),
            Event::Wait(ms) => self.wait(ms),
            Event::FailNextAppend => self.fails_next = true,
            Event::Crash => self.crash(),
            Event::CutPower(kept) => self.cut_power(kept),
            Event::Restart => self.restart(),
        }
    }

    fn write(&mut self, entry: Entry) {
        match entry.clone() {
            Entry::Message { queue, message } => self.queues[queue].push(message),
            Entry::Timed { record, deliver_at } => drop(self.timer.insert((deliver_at, self.log.len()), record)),
            Entry::Arrived {
                record,
                deliver_at,
                timed,
            } => {
                self.revive_topic.push((record, deliver_at));
                timed.and_then(|timed| self.timer.remove(&(deliver_at, timed)));
            }
        }
        self.log.push(entry);
    }

    fn save(&mut self) {
        self.saved = self.offsets.clone();
        self.flushed = self.log.len();
        self.unsaved_revivals.clear();
    }

    /// False when the log takes nothing.
    fn append(&mut self, record: ReviveRecord, deliver_at: i64) -> bool {
        if std::mem::take(&mut self.fails_next) {
            return false;
        }
        let is_due = deliver_at <= self.now;
        self.write(match is_due {
            true => Entry::Arrived {
                record,
                deliver_at,
                timed: None,
            },
            false => Entry::Timed { record, deliver_at },
        });
        true
    }

    fn commit(&mut self, queue: usize, settled: Option<i64>) {
        if let Some(offset) = settled {
            assert!(
                self.offsets.groups[queue].is_none_or(|before| before <= offset),
                "an offset went back"
            );
            self.offsets.groups[queue] = Some(offset);
        }
    }

    fn checkpoint(&self, queue: usize, from: i64, count: usize, invisible_ms: i64) -> PopCheckpoint {
        PopCheckpoint {
            topic: TOPICS[queue].into(),
            group: "g".into(),
            queue_id: 0,
            start_offset: from,
            count: count as i8,
            distances: (0..count as i32).collect(),
            pop_time: self.now,
            invisible_time: invisible_ms,
            ..PopCheckpoint::default()
        }
    }

    fn pop(&mut self, queue: usize, count: usize, invisible_ms: i64) {
        self.now += 1; // Two pops of one queue never have the same time and start.
        let from = self.pops[queue].next_offset(self.offsets.groups[queue]).unwrap_or(0);
        let end = self.queues[queue].len() as i64;
        let count = count.min((end - from).max(0) as usize);
        if count == 0 {
            return;
        }
        let checkpoint = self.checkpoint(queue, from, count, invisible_ms);
        let next = from + count as i64;
        if self.merges && invisible_ms >= STAY.before_revive_ms + BUFFER_MARGIN_MS {
            self.pops[queue].add_buffered(next, Buffered::new(checkpoint.clone(), 0));
        } else {
            let serial = self.pops[queue].add(next);
            let deliver_at = checkpoint.revive_time() - 1000;
            if !self.append(ReviveRecord::Checkpoint(checkpoint.clone()), deliver_at) {
                self.pops[queue].failed(serial);
                return;
            }
            let settled = self.pops[queue].written(serial);
            self.commit(queue, settled);
        }
        for queue_offset in from..next {
            self.deliver(queue, queue_offset, &checkpoint);
        }
    }

    fn deliver(&mut self, queue: usize, queue_offset: i64, checkpoint: &PopCheckpoint) {
        let message = self.queues[queue][queue_offset as usize];
        if !self.doubled.contains(&message) {
            for before in self.deliveries.iter().filter(|before| before.message == message) {
                assert!(!before.acked, "message {message} was acknowledged at {before:?}");
                assert!(
                    before.revive_time <= self.now,
                    "message {message} is still invisible: {before:?}"
                );
            }
        }
        self.deliveries.push(Delivery {
            message,
            queue,
            start_offset: checkpoint.start_offset,
            queue_offset,
            pop_time: checkpoint.pop_time,
            revive_time: checkpoint.revive_time(),
            acked: false,
        });
    }

    fn ack(&mut self, delivery: usize) {
        let Delivery {
            queue,
            start_offset,
            queue_offset,
            pop_time,
            revive_time,
            ..
        } = self.deliveries[delivery];
        let in_memory = self.pops[queue].ack(start_offset, pop_time, queue_offset);
        let settled = self.pops[queue].settle();
        self.commit(queue, settled);
        let ack = PopAck {
            topic: TOPICS[queue].into(),
            group: "g".into(),
            start_offset,
            pop_time,
            ack_offset: queue_offset,
            ..PopAck::default()
        };
        let taken = in_memory || self.append(ReviveRecord::Ack(ack), revive_time);
        // One that comes too late may be overtaken.
        self.deliveries[delivery].acked |= taken && self.now < revive_time;
        if taken {
            self.consumed.insert(self.deliveries[delivery].message);
        }
    }

    fn change(&mut self, delivery: usize, invisible_ms: i64) {
        self.now += 1;
        let before = self.deliveries[delivery].clone();
        // Consumers do that once, and in time.
        if before.acked || self.now >= before.revive_time {
            return;
        }
        let checkpoint = self.checkpoint(before.queue, before.queue_offset, 1, invisible_ms);
        let deliver_at = checkpoint.revive_time() - 1000;
        if !self.append(ReviveRecord::Checkpoint(checkpoint.clone()), deliver_at) {
            return;
        }
        self.ack(delivery);
        let changed = &mut self.deliveries[delivery];
        changed.acked = false;
        changed.start_offset = before.queue_offset;
        changed.pop_time = checkpoint.pop_time;
        changed.revive_time = checkpoint.revive_time();
        if self.fails_next {
            // The acknowledgement may be lost, and the message comes twice then.
            self.doubled.insert(before.message);
        }
    }

    fn wait(&mut self, ms: i64) {
        let until = self.now + ms;
        while self.now < until {
            self.now = (self.now + STEP_MS).min(until);
            while let Some(first) = self.timer.first_entry().filter(|first| first.key().0 <= self.now) {
                let ((deliver_at, timed), record) = (*first.key(), first.get().clone());
                self.write(Entry::Arrived {
                    record,
                    deliver_at,
                    timed: Some(timed),
                });
            }
            self.write_buffered(Some(STAY));
            self.let_come_again();
        }
    }

    fn write_buffered(&mut self, stay: Option<Stay>) {
        for queue in 0..2 {
            for (serial, open) in self.pops[queue].take_due(stay, self.now) {
                let revive_time = open.checkpoint.revive_time();
                let acked = open.acked_offsets();
                let checkpoint = open.checkpoint.clone();
                // One append: the checkpoint with what is acknowledged of it.
                if self.append(ReviveRecord::Checkpoint(open.checkpoint), revive_time - 1000) {
                    if !acked.is_empty() {
                        let ack = PopAck {
                            topic: checkpoint.topic,
                            group: checkpoint.group,
                            start_offset: checkpoint.start_offset,
                            pop_time: checkpoint.pop_time,
                            ack_offset: -1,
                            ack_offsets: acked,
                            ..PopAck::default()
                        };
                        self.append(ReviveRecord::Ack(ack), revive_time);
                    }
                    let settled = self.pops[queue].written(serial);
                    self.commit(queue, settled);
                } else {
                    self.double_from(queue, checkpoint.start_offset);
                    self.pops[queue].failed(serial);
                }
            }
        }
    }

    /// Everything from here on may be handed out twice.
    fn double_from(&mut self, queue: usize, queue_offset: i64) {
        let again = self.queues[queue].iter().skip(queue_offset.max(0) as usize);
        self.doubled.extend(again);
    }

    fn let_come_again(&mut self) {
        loop {
            while let Some((record, deliver_at)) = self.revive_topic.get(self.revive.cursor() as usize).cloned() {
                self.revive.read(record, deliver_at);
            }
            let Some((revive_offset, held)) = self.revive.due(Some(self.now)) else {
                break;
            };
            let queue = usize::from(held.checkpoint.topic == TOPICS[1]);
            let again: Vec<_> = held.left().map(|offset| self.queues[queue][offset as usize]).collect();
            for message in again {
                self.unsaved_revivals.insert(message);
                self.write(Entry::Message { queue: 1, message });
            }
            self.offsets.revive = Some(self.revive.finish(revive_offset));
        }
    }

    fn crash(&mut self) {
        for queue in 0..2 {
            self.double_from(queue, self.saved.groups[queue].unwrap_or(0));
        }
        self.doubled.append(&mut self.unsaved_revivals);
        self.offsets = self.saved.clone();
        self.start();
    }

    fn cut_power(&mut self, kept: usize) {
        let kept = self.flushed + kept % (self.log.len() - self.flushed + 1);
        let mut log = std::mem::take(&mut self.log);
        log.truncate(kept);
        self.queues = Default::default();
        self.timer.clear();
        self.revive_topic.clear();
        for entry in log {
            self.write(entry);
        }
        self.flushed = self.log.len();
        self.offsets = self.saved.clone();
        for (queue, saved) in self.queues.iter().zip(self.saved.groups) {
            assert!(
                saved.unwrap_or(0) <= queue.len() as i64,
                "an offset passes what is lost"
            );
        }
        assert!(self.saved.revive.unwrap_or(-1) < self.revive_topic.len() as i64);
        // What is lost is forgotten: other messages take the numbers. All others may come again, as acknowledgements of
        // them may be lost.
        let there = self.queues[0].len();
        self.consumed.retain(|message| *message < there);
        self.deliveries.retain(|delivery| {
            delivery.queue_offset < self.queues[delivery.queue].len() as i64 && delivery.message < there
        });
        self.doubled = (0..there).collect();
        self.unsaved_revivals.clear();
        self.start();
    }

    fn restart(&mut self) {
        self.write_buffered(None);
        self.save();
        self.start();
    }

    fn start(&mut self) {
        self.fails_next = false;
        self.pops = Default::default();
        self.revive = Revive::new(self.offsets.revive, 3);
    }

    /// Consumers that work get everything that was ever sent.
    fn finish(&mut self) {
        self.fails_next = false;
        for _ in 0..40 {
            self.wait(5000);
            for queue in [0, 1, 0, 1] {
                let known = self.deliveries.len();
                self.pop(queue, 32, 20_000);
                for delivery in known..self.deliveries.len() {
                    self.ack(delivery);
                }
            }
        }
        let sent: BTreeSet<usize> = self.queues[0].iter().copied().collect();
        assert_eq!(self.consumed, sent, "messages were lost");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_is_lost_and_nothing_comes_too_early(merges: bool, events in events()) {
        let mut world = World::new(merges);
        for event in events {
            world.on(event);
        }
        world.finish();
    }
}
