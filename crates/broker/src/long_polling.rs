//! Pulls that wait for messages, of one worker (spec: behaviour.md §4.3).
//!
//! A waiting pull costs memory and nothing else: it is found through its queue when something arrives there, through its
//! deadline, and through its connection when that closes. The worker's bit in the queue's wait mask stands while
//! one of its pulls waits there. Nobody but an arrival clears it: pops wait by the same bit ([`crate::pop::waiters`]), and a
//! bit too many is harmless.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hashbrown::HashMap;
use oxmq_store::ConsumeQueue;
use slab::Slab;
use smallvec::SmallVec;

/// Pulls of one worker that may wait at once.
const WAITING_MAX: usize = 262_144;
/// Pulls of one connection that may wait at once: a consumer of a few very wide topics.
const WAITING_PER_CONNECTION_MAX: usize = 16_384;

/// Deadlines are rounded up to multiples of this, so that many share one timer. The original is up to 5 s late.
pub(crate) const DEADLINE_STEP_MS: u64 = 500;

pub(crate) struct WaitingPulls<T> {
    /// This worker's bit in the wait masks.
    bit: u64,
    waiting: Slab<Waiting<T>>,
    /// Queues by the address of their shared state, which lives as long as one of its pulls does.
    queues: HashMap<usize, SmallVec<[usize; 2]>>,
    connections: HashMap<u64, SmallVec<[usize; 2]>>,
    deadlines: BTreeSet<(u64, usize)>,
}

struct Waiting<T> {
    queue: Arc<ConsumeQueue>,
    connection: u64,
    deadline_ms: u64,
    pull: T,
}

impl<T> WaitingPulls<T> {
    pub(crate) fn new(worker: usize) -> WaitingPulls<T> {
        assert!(worker < u64::BITS as usize, "a wait mask has a bit for each worker");
        WaitingPulls {
            bit: 1 << worker,
            waiting: Slab::new(),
            queues: HashMap::new(),
            connections: HashMap::new(),
            deadlines: BTreeSet::new(),
        }
    }

    /// Lets a pull wait, or gives it back when too many do. Something may have arrived before the wait mask was set: the
    /// caller looks at the queue once more.
    pub(crate) fn add(
        &mut self,
        queue: &Arc<ConsumeQueue>,
        connection: u64,
        deadline_ms: u64,
        pull: T,
    ) -> Result<(), T> {
        let of_connection = self.connections.get(&connection).map_or(0, SmallVec::len);
        if self.waiting.len() >= WAITING_MAX || of_connection >= WAITING_PER_CONNECTION_MAX {
            return Err(pull);
        }
        let deadline_ms = deadline_ms.next_multiple_of(DEADLINE_STEP_MS);
        let ticket = self.waiting.insert(Waiting {
            queue: Arc::clone(queue),
            connection,
            deadline_ms,
            pull,
        });
        self.queues.entry(address(queue)).or_default().push(ticket);
        self.connections.entry(connection).or_default().push(ticket);
        self.deadlines.insert((deadline_ms, ticket));
        queue.wait_mask.fetch_or(self.bit, Ordering::SeqCst);
        Ok(())
    }

    /// Takes out everything that waits for this queue, with the deadlines.
    pub(crate) fn take_queue(&mut self, queue: &Arc<ConsumeQueue>) -> Vec<(u64, T)> {
        let tickets = self.queues.remove(&address(queue)).unwrap_or_default();
        let mut taken = Vec::with_capacity(tickets.len());
        for ticket in tickets {
            let waiting = self.forget(ticket);
            taken.push((waiting.deadline_ms, waiting.pull));
        }
        taken
    }

    /// Takes out everything whose time is over.
    pub(crate) fn take_expired(&mut self, now_ms: u64) -> Vec<T> {
        let mut taken = Vec::new();
        while let Some(&(deadline_ms, ticket)) = self.deadlines.first()
            && deadline_ms <= now_ms
        {
            taken.push(self.take(ticket).pull);
        }
        taken
    }

    pub(crate) fn take_all(&mut self) -> Vec<T> {
        self.take_expired(u64::MAX)
    }

    /// Drops everything that waits for a connection.
    pub(crate) fn drop_connection(&mut self, connection: u64) {
        let tickets = self.connections.get(&connection).cloned().unwrap_or_default();
        for ticket in tickets {
            self.take(ticket);
        }
    }

    /// When the next one's time is over.
    pub(crate) fn next_deadline_ms(&self) -> Option<u64> {
        self.deadlines.first().map(|(deadline_ms, _)| *deadline_ms)
    }

    fn take(&mut self, ticket: usize) -> Waiting<T> {
        let waiting = self.forget(ticket);
        remove(&mut self.queues, address(&waiting.queue), ticket);
        waiting
    }

    /// Removes from everywhere but the table of queues.
    fn forget(&mut self, ticket: usize) -> Waiting<T> {
        let waiting = self.waiting.remove(ticket);
        self.deadlines.remove(&(waiting.deadline_ms, ticket));
        remove(&mut self.connections, waiting.connection, ticket);
        waiting
    }
}

fn address(queue: &Arc<ConsumeQueue>) -> usize {
    Arc::as_ptr(queue) as usize
}

/// Whether the list is gone with its last ticket.
fn remove<K: std::hash::Hash + Eq>(lists: &mut HashMap<K, SmallVec<[usize; 2]>>, key: K, ticket: usize) -> bool {
    let hashbrown::hash_map::Entry::Occupied(mut list) = lists.entry(key) else {
        return false;
    };
    let tickets = list.get_mut();
    if let Some(at) = tickets.iter().position(|other| *other == ticket) {
        tickets.swap_remove(at);
    }
    let gone = tickets.is_empty();
    if gone {
        list.remove();
    }
    gone
}

#[cfg(test)]
mod tests {
    use oxmq_store::disk::RealDisk;
    use oxmq_store::{MessageStore, StoreConfig};

    use super::*;
    use crate::mailbox::Mailboxes;

    /// Two queues of a store that nobody writes to.
    fn queues() -> [Arc<ConsumeQueue>; 2] {
        let folder = tempfile::tempdir().unwrap();
        let mut config = StoreConfig::new(folder.path());
        config.commit_log_file_bytes = 64 * 1024;
        config.background_threads = false;
        let store = MessageStore::open(config, Arc::new(RealDisk), Arc::new(Mailboxes::new(1))).unwrap();
        [0, 1].map(|queue_id| store.queue_or_create("orders", queue_id))
    }

    fn mask(queue: &ConsumeQueue) -> u64 {
        queue.wait_mask.load(Ordering::SeqCst)
    }

    #[test]
    fn what_arrives_wakes_its_queue_only() {
        let [first, second] = queues();
        let mut waiting = WaitingPulls::new(3);
        waiting.add(&first, 1, 900, "a").unwrap();
        waiting.add(&second, 1, 700, "b").unwrap();
        waiting.add(&first, 2, 800, "c").unwrap();
        assert_eq!((mask(&first), mask(&second)), (8, 8));
        assert_eq!(waiting.take_queue(&first), [(1000, "a"), (1000, "c")]);
        assert_eq!(waiting.take_queue(&first), []);
        assert_eq!(waiting.take_all(), ["b"]);
    }

    #[test]
    fn time_ends_a_wait_in_steps() {
        let [queue, _] = queues();
        let mut waiting = WaitingPulls::new(0);
        waiting.add(&queue, 1, 501, "late").unwrap();
        waiting.add(&queue, 1, 499, "soon").unwrap();
        assert_eq!(waiting.next_deadline_ms(), Some(500));
        assert!(waiting.take_expired(499).is_empty());
        assert_eq!(waiting.take_expired(500), ["soon"]);
        assert_eq!((waiting.next_deadline_ms(), mask(&queue)), (Some(1000), 1));
        assert_eq!(waiting.take_expired(u64::MAX), ["late"]);
        assert_eq!(waiting.next_deadline_ms(), None);
    }

    #[test]
    fn a_closed_connection_waits_for_nothing() {
        let [first, second] = queues();
        let mut waiting = WaitingPulls::new(0);
        for queue in [&first, &second, &first] {
            waiting.add(queue, 7, 500, 7).unwrap();
        }
        waiting.add(&first, 8, 500, 8).unwrap();
        waiting.drop_connection(7);
        waiting.drop_connection(7);
        assert_eq!(waiting.take_queue(&first), [(500, 8)]);
    }

    #[test]
    fn one_connection_cannot_take_all_the_room() {
        let [queue, _] = queues();
        let mut waiting = WaitingPulls::new(0);
        for _ in 0..WAITING_PER_CONNECTION_MAX {
            waiting.add(&queue, 1, 500, ()).unwrap();
        }
        assert_eq!(waiting.add(&queue, 1, 500, ()), Err(()));
        assert_eq!(waiting.add(&queue, 2, 500, ()), Ok(()));
    }
}
