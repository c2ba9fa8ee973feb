//! Which messages go out together: the decisions of automatic batches.
//!
//! A batch holds messages of one [`BatchKey`]. It is open from its first message on until it is full or its time has come;
//! then whoever notices sends it, and says so when that is done.
//!
//! - Every message that is not refused is in exactly one batch, in the order in which its key's messages came.
//! - A batch that is not full when a message is added is due at most `hold_time` after its first one.
//! - What is open and what is being sent together never has more than `total_bytes`.

use std::time::Duration;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use oxmq_protocol::body::MessageQueue;

/// Of one accumulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchLimits {
    /// A batch is full with so much in it.
    pub(super) hold_bytes: usize,
    /// And is sent after so long at the latest.
    pub(super) hold_time: Duration,
    /// In all batches together, until they are sent.
    pub(super) total_bytes: usize,
}

/// What messages of a batch have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct BatchKey {
    pub(super) topic: String,
    /// `None` leaves the choice to the producer.
    pub(super) queue: Option<MessageQueue>,
    pub(super) wait_store_msg_ok: bool,
    pub(super) tags: Option<String>,
}

/// Messages that go out together.
#[derive(Debug)]
pub(super) struct Batch<T> {
    pub(super) key: BatchKey,
    pub(super) bytes: usize,
    pub(super) items: Vec<T>,
}

/// A batch that is open. Numbers are never used twice, so that a late look at one finds no other.
struct Open<T> {
    number: u64,
    bytes: usize,
    items: Vec<T>,
}

/// What became of a message.
#[derive(Debug)]
pub(super) enum Added<T> {
    /// Too much is held already: it has to go by itself.
    Refused(T),
    /// It waits in a batch that was open.
    Waits,
    /// It waits in a new batch, to be closed by this number when its time has come.
    Opened(u64),
    /// The batch is full and goes now.
    Full(Batch<T>),
}

pub(super) struct Accumulator<T> {
    limits: BatchLimits,
    open: HashMap<BatchKey, Open<T>>,
    next_number: u64,
    /// Of open batches and of those that are being sent.
    held_bytes: usize,
}

impl<T> Accumulator<T> {
    pub(super) fn new(limits: BatchLimits) -> Accumulator<T> {
        Accumulator {
            limits,
            open: HashMap::new(),
            next_number: 0,
            held_bytes: 0,
        }
    }

    pub(super) fn add(&mut self, key: BatchKey, bytes: usize, item: T) -> Added<T> {
        if self.held_bytes.saturating_add(bytes) > self.limits.total_bytes {
            return Added::Refused(item);
        }
        self.held_bytes += bytes;
        match self.open.entry(key) {
            Entry::Occupied(mut entry) => {
                let batch = entry.get_mut();
                batch.items.push(item);
                batch.bytes += bytes;
                match batch.bytes >= self.limits.hold_bytes {
                    true => Added::Full(closed(entry.remove_entry())),
                    false => Added::Waits,
                }
            }
            Entry::Vacant(entry) if bytes >= self.limits.hold_bytes => Added::Full(Batch {
                key: entry.into_key(),
                bytes,
                items: vec![item],
            }),
            Entry::Vacant(entry) => {
                let number = self.next_number;
                self.next_number += 1;
                let items = vec![item];
                entry.insert(Open { number, bytes, items });
                Added::Opened(number)
            }
        }
    }

    /// The time of a batch has come. It may have gone before.
    pub(super) fn close(&mut self, key: &BatchKey, number: u64) -> Option<Batch<T>> {
        if self.open.get(key)?.number != number {
            return None;
        }
        self.open.remove_entry(key).map(closed)
    }

    /// Everything that waits, at the end.
    pub(super) fn close_all(&mut self) -> Vec<Batch<T>> {
        self.open.drain().map(closed).collect()
    }

    /// A batch is sent, or has failed.
    pub(super) fn done(&mut self, bytes: usize) {
        self.held_bytes = self.held_bytes.saturating_sub(bytes);
    }

    pub(super) fn is_idle(&self) -> bool {
        self.held_bytes == 0
    }
}

fn closed<T>((key, open): (BatchKey, Open<T>)) -> Batch<T> {
    Batch {
        key,
        bytes: open.bytes,
        items: open.items,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(topic: u8) -> BatchKey {
        BatchKey {
            topic: topic.to_string(),
            queue: None,
            wait_store_msg_ok: true,
            tags: None,
        }
    }

    const LIMITS: BatchLimits = BatchLimits {
        hold_bytes: 100,
        hold_time: Duration::from_millis(10),
        total_bytes: 500,
    };

    #[test]
    fn a_late_look_finds_no_other_batch() {
        let mut accumulator = Accumulator::new(LIMITS);
        let Added::Opened(first) = accumulator.add(key(1), 60, 'a') else {
            panic!("a new batch is opened");
        };
        assert!(matches!(accumulator.add(key(2), 60, 'x'), Added::Opened(_)));
        let Added::Full(full) = accumulator.add(key(1), 60, 'b') else {
            panic!("120 bytes are enough");
        };
        assert_eq!((full.items, full.bytes), (vec!['a', 'b'], 120));
        assert!(matches!(accumulator.add(key(1), 1, 'c'), Added::Opened(second) if second != first));
        assert!(accumulator.close(&key(1), first).is_none());
        assert_eq!(accumulator.close_all().len(), 2);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Add {
            topic: u8,
            bytes: usize,
        },
        /// The time of the oldest open batch comes.
        TimeComes,
        /// The oldest batch under way is sent.
        Sent,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0..3u8, 1..150usize).prop_map(|(topic, bytes)| Step::Add { topic, bytes }),
            2 => Just(Step::TimeComes),
            2 => Just(Step::Sent),
        ]
    }

    proptest! {
        #[test]
        fn every_message_goes_once_and_in_order(steps in prop::collection::vec(step(), 0..200)) {
            let mut accumulator = Accumulator::new(LIMITS);
            let (mut accepted, mut gone) = (HashMap::<u8, Vec<usize>>::new(), HashMap::<u8, Vec<usize>>::new());
            let (mut timers, mut under_way) = (std::collections::VecDeque::new(), std::collections::VecDeque::new());
            let mut send = |batch: Batch<usize>| {
                assert!(batch.bytes < LIMITS.hold_bytes + 150);
                gone.entry(batch.key.topic.parse().unwrap()).or_default().extend(batch.items);
                under_way.push_back(batch.bytes);
                under_way.len()
            };
            let mut sent = Vec::new();
            let mut count_under_way = 0;
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Add { topic, bytes } => {
                        let held = accumulator.held_bytes;
                        match accumulator.add(key(topic), bytes, number) {
                            Added::Refused(_) => {
                                prop_assert!(held + bytes > LIMITS.total_bytes);
                                continue;
                            }
                            Added::Waits => {}
                            Added::Opened(batch) => timers.push_back((key(topic), batch)),
                            Added::Full(batch) => {
                                accepted.entry(topic).or_default().push(number);
                                sent.push(batch.bytes);
                                count_under_way = send(batch);
                                continue;
                            }
                        }
                        accepted.entry(topic).or_default().push(number);
                    }
                    Step::TimeComes => {
                        if let Some((key, batch)) = timers.pop_front()
                            && let Some(batch) = accumulator.close(&key, batch)
                        {
                            sent.push(batch.bytes);
                            count_under_way = send(batch);
                        }
                    }
                    Step::Sent if !sent.is_empty() => accumulator.done(sent.remove(0)),
                    Step::Sent => {}
                }
                prop_assert!(accumulator.held_bytes <= LIMITS.total_bytes);
            }
            for batch in accumulator.close_all() {
                sent.push(batch.bytes);
                count_under_way = send(batch);
            }
            for bytes in sent {
                accumulator.done(bytes);
            }
            prop_assert!(accumulator.is_idle() && count_under_way <= 200);
            prop_assert_eq!(accepted, gone);
        }
    }
}
