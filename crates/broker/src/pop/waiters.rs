//! Requests of one worker that wait for messages: pops and notifications (spec: behaviour.md §10.2).
//!
//! They wait under a key: topic, group and the queue asked for. A message wakes the first of each group and no more; who
//! finds messages and leaves some lets the next one look. So a message costs what groups there are, not what waits. A
//! waiting request costs memory and nothing else. The worker's bit in the wait masks of the queues stands while something
//! waits that watches them; a bit too many is harmless.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hashbrown::HashMap;
use oxmq_store::ConsumeQueue;
use slab::Slab;
use smallvec::SmallVec;

/// Deadlines are rounded up to multiples of this, so that many share one timer.
const DEADLINE_STEP_MS: u64 = 20;

/// Who waits for what. Queue -1 means all of the topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) topic: Arc<str>,
    pub(crate) group: Arc<str>,
    pub(crate) queue_id: i32,
}

impl Key {
    pub(crate) fn new(topic: &str, group: &str, queue_id: i32) -> Key {
        Key {
            topic: topic.into(),
            group: group.into(),
            queue_id: queue_id.max(-1),
        }
    }
}

/// What ends a wait, besides a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) deadline_ms: u64,
    /// It should look again at this time, because what blocks it ends then.
    pub(crate) look_at_ms: Option<u64>,
}

pub(crate) struct Waiters<T> {
    /// This worker's bit in the wait masks.
    bit: u64,
    waiting: Slab<Waiting<T>>,
    keys: HashMap<Key, Waited>,
    /// Keys by the topics that they watch: their own and the retry topics of their group.
    watched: HashMap<Arc<str>, SmallVec<[Key; 2]>>,
    connections: HashMap<u64, SmallVec<[usize; 2]>>,
    times: BTreeSet<(u64, usize)>,
}

struct Waited {
    tickets: VecDeque<usize>,
    topics: SmallVec<[Arc<str>; 3]>,
}

struct Waiting<T> {
    key: Key,
    connection: u64,
    wait: Wait,
    request: T,
}

/// A request whose time has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Timed<T> {
    /// It has waited long enough.
    Over(Key, T),
    /// Those under this key should look again.
    LookAgain(Key),
}

impl<T> Waiters<T> {
    pub(crate) fn new(worker: usize) -> Waiters<T> {
        assert!(worker < u64::BITS as usize, "a wait mask has a bit for each worker");
        Waiters {
            bit: 1 << worker,
            waiting: Slab::new(),
            keys: HashMap::new(),
            watched: HashMap::new(),
            connections: HashMap::new(),
            times: BTreeSet::new(),
        }
    }

    /// Lets a request wait for `queues`. Something may have arrived before the wait masks were set: the caller looks at
    /// the queues once more. One that has waited before goes to the front.
    pub(crate) fn add(
        &mut self,
        key: &Key,
        queues: &[Arc<ConsumeQueue>],
        connection: u64,
        wait: Wait,
        again: bool,
        request: T,
    ) {
        let wait = Wait {
            deadline_ms: wait.deadline_ms.next_multiple_of(DEADLINE_STEP_MS),
            ..wait
        };
        let ticket = self.waiting.insert(Waiting {
            key: key.clone(),
            connection,
            wait,
            request,
        });
        let waited = self.keys.entry_ref(key).or_insert_with(|| Waited {
            tickets: VecDeque::new(),
            topics: SmallVec::new(),
        });
        match again {
            true => waited.tickets.push_front(ticket),
            false => waited.tickets.push_back(ticket),
        }
        self.connections.entry(connection).or_default().push(ticket);
        self.times.insert((wait.deadline_ms, ticket));
        if let Some(look_at_ms) = wait.look_at_ms {
            self.times.insert((look_at_ms, ticket));
        }
        for queue in queues {
            self.watch(key, queue);
        }
    }

    fn watch(&mut self, key: &Key, queue: &Arc<ConsumeQueue>) {
        let waited = self.keys.get_mut(key).expect("somebody waits under the key");
        if !waited.topics.contains(queue.topic()) {
            waited.topics.push(Arc::clone(queue.topic()));
            self.watched
                .entry(Arc::clone(queue.topic()))
                .or_default()
                .push(key.clone());
        }
        if queue.wait_mask.load(Ordering::SeqCst) & self.bit == 0 {
            queue.wait_mask.fetch_or(self.bit, Ordering::SeqCst);
        }
    }

    /// Something has arrived in this queue: the keys whose first request should look. They go on watching it.
    pub(crate) fn arrived(&mut self, queue: &ConsumeQueue) -> SmallVec<[Key; 2]> {
        let Some(keys) = self.watched.get(queue.topic()) else {
            return SmallVec::new();
        };
        let wanted = |key: &&Key| key.queue_id < 0 || key.queue_id == queue.queue_id() || key.topic != *queue.topic();
        let wanted: SmallVec<[Key; 2]> = keys.iter().filter(wanted).cloned().collect();
        if !wanted.is_empty() {
            queue.wait_mask.fetch_or(self.bit, Ordering::SeqCst);
        }
        wanted
    }

    /// Takes out the first request under a key.
    pub(crate) fn take_first(&mut self, key: &Key) -> Option<(Wait, T)> {
        let ticket = *self.keys.get(key)?.tickets.front()?;
        let waiting = self.take(ticket);
        Some((waiting.wait, waiting.request))
    }

    /// The next one whose time has come.
    pub(crate) fn take_timed(&mut self, now_ms: u64) -> Option<Timed<T>> {
        let &(at_ms, ticket) = self.times.first().filter(|(at_ms, _)| *at_ms <= now_ms)?;
        if at_ms >= self.waiting[ticket].wait.deadline_ms {
            let waiting = self.take(ticket);
            return Some(Timed::Over(waiting.key, waiting.request));
        }
        self.times.pop_first();
        Some(Timed::LookAgain(self.waiting[ticket].key.clone()))
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn next_time_ms(&self) -> Option<u64> {
        self.times.first().map(|(at_ms, _)| *at_ms)
    }

    /// Takes out everything.
    pub(crate) fn take_all(&mut self) -> Vec<(Key, T)> {
        let tickets: Vec<usize> = self.waiting.iter().map(|(ticket, _)| ticket).collect();
        tickets
            .into_iter()
            .map(|ticket| {
                let waiting = self.take(ticket);
                (waiting.key, waiting.request)
            })
            .collect()
    }

    /// Takes out everything that waits for a connection.
    pub(crate) fn take_connection(&mut self, connection: u64) -> Vec<Key> {
        let tickets = self.connections.get(&connection).cloned().unwrap_or_default();
        tickets.into_iter().map(|ticket| self.take(ticket).key).collect()
    }

    fn take(&mut self, ticket: usize) -> Waiting<T> {
        let waiting = self.waiting.remove(ticket);
        self.times.remove(&(waiting.wait.deadline_ms, ticket));
        if let Some(look_at_ms) = waiting.wait.look_at_ms {
            self.times.remove(&(look_at_ms, ticket));
        }
        if let Some(tickets) = self.connections.get_mut(&waiting.connection) {
            tickets.retain(|other| *other != ticket);
            if tickets.is_empty() {
                self.connections.remove(&waiting.connection);
            }
        }
        if let Some(waited) = self.keys.get_mut(&waiting.key) {
            match waited.tickets.front() == Some(&ticket) {
                true => drop(waited.tickets.pop_front()),
                false => waited.tickets.retain(|other| *other != ticket),
            }
            if waited.tickets.is_empty() {
                self.forget_key(&waiting.key);
            }
        }
        waiting
    }

    fn forget_key(&mut self, key: &Key) {
        let Some(waited) = self.keys.remove(key) else {
            return;
        };
        for topic in waited.topics {
            if let Some(keys) = self.watched.get_mut(&topic) {
                keys.retain(|other| other != key);
                if keys.is_empty() {
                    self.watched.remove(&topic);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use oxmq_store::disk::RealDisk;
    use oxmq_store::{MessageStore, StoreConfig};

    use super::*;
    use crate::mailbox::Mailboxes;

    /// Queues of a store that nobody writes to.
    fn queues(names: &[(&str, i32)]) -> Vec<Arc<ConsumeQueue>> {
        let folder = tempfile::tempdir().unwrap();
        let mut config = StoreConfig::new(folder.path());
        config.commit_log_file_bytes = 64 * 1024;
        config.background_threads = false;
        let store = MessageStore::open(config, Arc::new(RealDisk), Arc::new(Mailboxes::new(1))).unwrap();
        let queue = |(topic, queue_id): &(&str, i32)| store.queue_or_create(topic, *queue_id);
        names.iter().map(queue).collect()
    }

    fn wait(deadline_ms: u64) -> Wait {
        Wait {
            deadline_ms,
            look_at_ms: None,
        }
    }

    fn mask(queue: &ConsumeQueue) -> u64 {
        queue.wait_mask.load(Ordering::SeqCst)
    }

    #[test]
    fn a_message_wakes_the_first_of_each_group() {
        let queues = queues(&[("t", 0), ("t", 1), ("%RETRY%g_t", 0)]);
        let mut waiters = Waiters::new(2);
        let all = Key::new("t", "g", -1);
        let one = Key::new("t", "h", 1);
        waiters.add(&all, &queues, 1, wait(100), false, "a");
        waiters.add(&all, &queues, 1, wait(100), false, "b");
        waiters.add(&one, &queues[1..2], 2, wait(100), false, "c");
        assert_eq!(queues.iter().map(|queue| mask(queue)).collect::<Vec<_>>(), [4, 4, 4]);
        assert_eq!(waiters.arrived(&queues[0])[..], *from_ref(&all));
        assert_eq!(waiters.arrived(&queues[1])[..], [all.clone(), one.clone()]);
        assert_eq!(waiters.arrived(&queues[2])[..], *from_ref(&all), "its retry topic");
        assert_eq!(waiters.take_first(&all).map(|(_, request)| request), Some("a"));
        waiters.add(&all, &queues, 1, wait(100), true, "a");
        assert_eq!(waiters.take_first(&all).map(|(_, request)| request), Some("a"));
        assert_eq!(waiters.take_first(&all).map(|(_, request)| request), Some("b"));
        assert!(waiters.take_first(&all).is_none());
        queues[0].wait_mask.store(0, Ordering::SeqCst);
        assert!(waiters.arrived(&queues[0]).is_empty());
        assert_eq!(mask(&queues[0]), 0, "nobody is left");
    }

    #[test]
    fn time_ends_a_wait_or_makes_it_look_again() {
        let queues = queues(&[("t", 0)]);
        let mut waiters = Waiters::new(0);
        let key = Key::new("t", "g", 0);
        let blocked = Wait {
            deadline_ms: 100,
            look_at_ms: Some(50),
        };
        waiters.add(&key, &queues, 1, blocked, false, "a");
        waiters.add(&key, &queues, 1, wait(61), false, "b");
        assert_eq!(waiters.next_time_ms(), Some(50));
        assert_eq!(waiters.take_timed(49), None);
        assert_eq!(waiters.take_timed(80), Some(Timed::LookAgain(key.clone())));
        assert_eq!(waiters.take_timed(80), Some(Timed::Over(key.clone(), "b")));
        assert_eq!(waiters.take_timed(99), None);
        assert_eq!(waiters.take_timed(100), Some(Timed::Over(key, "a")));
        assert_eq!((waiters.next_time_ms(), waiters.take_all().len()), (None, 0));
    }

    #[test]
    fn a_closed_connection_waits_for_nothing() {
        let queues = queues(&[("t", 0)]);
        let mut waiters = Waiters::new(0);
        let key = Key::new("t", "g", 0);
        waiters.add(&key, &queues, 7, wait(100), false, "a");
        waiters.add(&key, &queues, 8, wait(100), false, "b");
        assert_eq!(waiters.take_connection(7), *from_ref(&key));
        assert!(waiters.take_connection(7).is_empty());
        assert_eq!(waiters.take_first(&key).map(|(_, request)| request), Some("b"));
        assert!(waiters.watched.is_empty() && waiters.times.is_empty() && waiters.connections.is_empty());
    }
}
