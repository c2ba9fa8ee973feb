//! Queue locks of orderly consumption (spec: behaviour.md §5.5).
//!
//! A client of a group locks queues before it consumes them in order. A lock lives 60 s after its last refresh, so
//! that the queues of a dead client can be taken over. Memory only: after a restart clients lock again.

use hashbrown::HashMap;
use oxmq_protocol::body::MessageQueue;
use parking_lot::Mutex;

/// How long a lock lives without being refreshed.
pub const LOCK_LIVE_MS: i64 = 60_000;

/// Queues that one group may hold. A group locks queues of topics that exist, so a larger set is not honest.
const LOCKS_PER_GROUP_MAX: usize = 1 << 16;

#[derive(Debug)]
struct Lock {
    client_id: String,
    refreshed: i64,
}

impl Lock {
    fn is_expired(&self, now: i64) -> bool {
        now - self.refreshed > LOCK_LIVE_MS
    }
}

type GroupLocks = HashMap<MessageQueue, Lock>;

/// Who holds which queue, by group.
#[derive(Debug, Default)]
pub struct QueueLocks {
    groups: Mutex<HashMap<String, GroupLocks>>,
}

impl QueueLocks {
    pub fn new() -> QueueLocks {
        QueueLocks::default()
    }

    /// Takes or refreshes the locks that `client_id` can have; the answer is what it holds now.
    pub fn lock(&self, group: &str, client_id: &str, queues: Vec<MessageQueue>, now: i64) -> Vec<MessageQueue> {
        let mut groups = self.groups.lock();
        let locks = groups.entry_ref(group).or_default();
        if locks.len() + queues.len() > LOCKS_PER_GROUP_MAX {
            locks.retain(|_, lock| !lock.is_expired(now));
        }
        let mut held = Vec::with_capacity(queues.len());
        for queue in queues {
            if take(locks, &queue, client_id, now) {
                held.push(queue);
            }
        }
        held
    }

    /// Gives back the locks that `client_id` holds among `queues`.
    pub fn unlock(&self, group: &str, client_id: &str, queues: &[MessageQueue]) {
        let mut groups = self.groups.lock();
        let Some(locks) = groups.get_mut(group) else { return };
        for queue in queues {
            if locks.get(queue).is_some_and(|lock| lock.client_id == client_id) {
                locks.remove(queue);
            }
        }
        if locks.is_empty() {
            groups.remove(group);
        }
    }

    /// Whether somebody of the group consumes in order now.
    pub fn holds_any(&self, group: &str, now: i64) -> bool {
        let groups = self.groups.lock();
        groups
            .get(group)
            .is_some_and(|locks| locks.values().any(|lock| !lock.is_expired(now)))
    }

    /// Forgets what expired, so that groups that went away cost nothing.
    pub fn expire(&self, now: i64) {
        self.groups.lock().retain(|_, locks| {
            locks.retain(|_, lock| !lock.is_expired(now));
            !locks.is_empty()
        });
    }
}

fn take(locks: &mut GroupLocks, queue: &MessageQueue, client_id: &str, now: i64) -> bool {
    let full = locks.len() >= LOCKS_PER_GROUP_MAX;
    match locks.get_mut(queue) {
        Some(lock) if lock.client_id == client_id => lock.refreshed = now,
        Some(lock) if !lock.is_expired(now) => return false,
        Some(lock) => {
            lock.client_id = client_id.to_owned();
            lock.refreshed = now;
        }
        None if full => return false,
        None => {
            let lock = Lock {
                client_id: client_id.to_owned(),
                refreshed: now,
            };
            locks.insert(queue.clone(), lock);
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn queue(queue_id: i32) -> MessageQueue {
        MessageQueue {
            topic: "orders".into(),
            broker_name: "broker-a".into(),
            queue_id,
        }
    }

    #[test]
    fn a_queue_has_one_owner_until_it_expires() {
        let locks = QueueLocks::new();
        assert_eq!(locks.lock("g", "a", vec![queue(0), queue(1)], 0).len(), 2);
        assert_eq!(locks.lock("g", "b", vec![queue(0), queue(2)], 10), vec![queue(2)]);
        assert_eq!(locks.lock("g", "a", vec![queue(0)], 50_000), vec![queue(0)]);
        let late = 10 + LOCK_LIVE_MS + 1;
        assert_eq!(
            locks.lock("g", "b", vec![queue(0), queue(1)], late),
            vec![queue(1)],
            "queue 0 was refreshed"
        );
    }

    #[test]
    fn only_the_owner_unlocks() {
        let locks = QueueLocks::new();
        locks.lock("g", "a", vec![queue(0)], 0);
        locks.unlock("g", "b", &[queue(0)]);
        assert!(locks.holds_any("g", 0));
        locks.unlock("g", "a", &[queue(0)]);
        assert!(!locks.holds_any("g", 0));
    }

    #[test]
    fn expired_locks_count_as_none() {
        let locks = QueueLocks::new();
        locks.lock("g", "a", vec![queue(0)], 0);
        assert!(locks.holds_any("g", LOCK_LIVE_MS));
        assert!(!locks.holds_any("g", LOCK_LIVE_MS + 1));
        assert!(!locks.holds_any("other", 0));
        locks.expire(LOCK_LIVE_MS + 1);
        assert!(locks.groups.lock().is_empty());
    }

    proptest! {
        /// Whatever clients do, a queue that is held belongs to one of them.
        #[test]
        fn nobody_shares_a_queue(steps in proptest::collection::vec((0..4usize, 0..3i32, any::<bool>(), 0..40_000i64), 1..60)) {
            let locks = QueueLocks::new();
            let clients = ["a", "b", "c", "d"];
            let mut now = 0;
            let mut held: std::collections::HashMap<i32, (usize, i64)> = std::collections::HashMap::new();
            for (client, queue_id, lock, elapsed) in steps {
                now += elapsed;
                if !lock {
                    locks.unlock("g", clients[client], &[queue(queue_id)]);
                    held.retain(|id, (owner, _)| *id != queue_id || *owner != client);
                    continue;
                }
                let got = !locks.lock("g", clients[client], vec![queue(queue_id)], now).is_empty();
                let other = held.get(&queue_id).is_some_and(|(owner, since)| *owner != client && now - since <= LOCK_LIVE_MS);
                prop_assert_eq!(got, !other);
                if got {
                    held.insert(queue_id, (client, now));
                }
                let expected = held.values().any(|(_, since)| now - since <= LOCK_LIVE_MS);
                prop_assert_eq!(locks.holds_any("g", now), expected);
            }
        }
    }
}
