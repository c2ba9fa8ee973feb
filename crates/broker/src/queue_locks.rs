//! Queue locks of orderly consumption (spec: behaviour.md §5.5).
//!
//! A client of a group locks queues before it consumes them in order, and again every 20 s. What holds:
//!
//! - **One owner.** A queue of a group belongs to one client at most. Nobody else gets it before its owner has given it
//!   back, or has not refreshed it for more than [`LOCK_LIVE_MS`]. A client trusts its lock for half of that time after
//!   it has asked, so it has stopped to consume before another begins.
//! - **Takeover.** The queue of a client that is gone is free after [`LOCK_LIVE_MS`]; no lock is forever.
//! - **Nobody is pushed out.** An expired lock still belongs to its owner until someone else asks, and giving back the
//!   locks of others does nothing.
//! - **Refusals are whole.** What a request is not given, it does not change; the rest of its queues it gets.
//! - **Groups are apart**, and a group that holds nothing costs nothing.
//!
//! Memory only, as in the original: after a restart whoever asks first gets a queue, although its owner of before may
//! trust its lock for up to 30 s more. Members ask for the queues that the group's rebalancing gives them, so this
//! matters only when the group changes while the broker restarts.

use hashbrown::HashMap;
use oxmq_protocol::body::MessageQueue;
use parking_lot::Mutex;

/// How long a lock lives without being refreshed.
pub const LOCK_LIVE_MS: i64 = 60_000;

/// Queues that one group may hold. A group locks queues of topics that exist, so a larger set is not honest.
const LOCKS_PER_GROUP_MAX: usize = 1 << 16;

/// Groups that may hold queues. Orderly groups are fewer by far; names that a client makes up do not fill the memory.
const GROUPS_MAX: usize = 1 << 16;

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
        if groups.len() >= GROUPS_MAX && !groups.contains_key(group) {
            forget_expired(&mut groups, now);
            if groups.len() >= GROUPS_MAX {
                return Vec::new();
            }
        }
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
        if locks.is_empty() {
            groups.remove(group);
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
        forget_expired(&mut self.groups.lock(), now);
    }
}

fn forget_expired(groups: &mut HashMap<String, GroupLocks>, now: i64) {
    groups.retain(|_, locks| {
        locks.retain(|_, lock| !lock.is_expired(now));
        !locks.is_empty()
    });
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

    #[test]
    fn made_up_groups_are_bounded_and_nothing_is_kept_for_nothing() {
        let locks = QueueLocks::new();
        assert_eq!(locks.lock("g", "a", Vec::new(), 0), []);
        assert!(locks.groups.lock().is_empty());
        for group in 0..GROUPS_MAX {
            locks.lock(&format!("made-up-{group}"), "a", vec![queue(0)], 0);
        }
        assert_eq!(locks.lock("g", "a", vec![queue(0)], LOCK_LIVE_MS), []);
        assert_eq!(locks.lock("made-up-7", "a", vec![queue(1)], LOCK_LIVE_MS).len(), 1);
        assert_eq!(locks.lock("g", "a", vec![queue(0)], LOCK_LIVE_MS + 1).len(), 1);
        assert_eq!(locks.groups.lock().len(), 2);
    }

    const CLIENTS: [&str; 3] = ["a", "b", "c"];
    const GROUPS: [&str; 2] = ["g", "h"];
    /// For how long a client consumes after it has asked (client: `queue_lock.rs`).
    const TRUSTED_MS: i64 = LOCK_LIVE_MS / 2;

    #[derive(Debug, Clone)]
    enum Step {
        Lock {
            group: usize,
            client: usize,
            queues: Vec<i32>,
        },
        Unlock {
            group: usize,
            client: usize,
            queues: Vec<i32>,
        },
        Expire,
        /// The broker restarts: its memory is gone, the clients' is not.
        Crash,
        Pass(i64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let queues = || proptest::collection::btree_set(0..4i32, 1..4).prop_map(|ids| ids.into_iter().collect());
        let step = prop_oneof![
            5 => (0..2usize, 0..3usize, queues()).prop_map(|(group, client, queues)| Step::Lock { group, client, queues }),
            2 => (0..2usize, 0..3usize, queues())
                .prop_map(|(group, client, queues)| Step::Unlock { group, client, queues }),
            1 => Just(Step::Expire),
            1 => Just(Step::Crash),
            4 => prop_oneof![0..100i64, 29_000..31_000i64, 59_999..60_003i64].prop_map(Step::Pass),
        ];
        proptest::collection::vec(step, 1..80)
    }

    proptest! {
        /// Against a plain model, with a clock that jumps around both limits and brokers that lose their memory.
        #[test]
        fn the_invariants_hold_through_takeovers_and_crashes(steps in steps()) {
            let mut locks = QueueLocks::new();
            let mut now = 1_000_000;
            // What the broker should know, and until when a client consumes a queue.
            let mut owners = std::collections::BTreeMap::<(usize, i32), (usize, i64)>::new();
            let mut trusted = std::collections::BTreeMap::<(usize, i32, usize), i64>::new();
            let mut crashed_at = i64::MIN;
            for step in steps {
                match step {
                    Step::Lock { group, client, queues } => {
                        let wanted = queues.iter().map(|id| queue(*id)).collect();
                        let held = locks.lock(GROUPS[group], CLIENTS[client], wanted, now);
                        for id in queues {
                            let owner = owners.get(&(group, id));
                            let is_others =
                                owner.is_some_and(|(owner, since)| *owner != client && now - since <= LOCK_LIVE_MS);
                            prop_assert_eq!(held.contains(&queue(id)), !is_others, "queue {} of {}", id, group);
                            if is_others {
                                trusted.remove(&(group, id, client));
                            } else {
                                owners.insert((group, id), (client, now));
                                trusted.insert((group, id, client), now + TRUSTED_MS);
                            }
                        }
                    }
                    Step::Unlock { group, client, queues } => {
                        let given_back: Vec<_> = queues.iter().map(|id| queue(*id)).collect();
                        locks.unlock(GROUPS[group], CLIENTS[client], &given_back);
                        for id in queues {
                            trusted.remove(&(group, id, client));
                            if owners.get(&(group, id)).is_some_and(|(owner, _)| *owner == client) {
                                owners.remove(&(group, id));
                            }
                        }
                    }
                    Step::Expire => {
                        locks.expire(now);
                        owners.retain(|_, (_, since)| now - *since <= LOCK_LIVE_MS);
                        let remembered: usize = locks.groups.lock().values().map(HashMap::len).sum();
                        prop_assert_eq!(remembered, owners.len(), "what expired costs nothing");
                    }
                    Step::Crash => {
                        locks = QueueLocks::new();
                        owners.clear();
                        crashed_at = now;
                    }
                    Step::Pass(millis) => now += millis,
                }
                for (group, name) in GROUPS.iter().enumerate() {
                    let mut of_group = owners.iter().filter(|((of, _), _)| *of == group);
                    let expected = of_group.any(|(_, (_, since))| now - since <= LOCK_LIVE_MS);
                    prop_assert_eq!(locks.holds_any(name, now), expected);
                }
                // Two clients that consume one queue at a time: only in the shadow of a restart.
                for ((group, id, client), until) in &trusted {
                    let rivals = trusted.iter().filter(|((g, i, c), other)| {
                        (g, i) == (group, id) && c != client && **other > now
                    });
                    if *until > now && rivals.count() > 0 {
                        prop_assert!(now < crashed_at + TRUSTED_MS, "{} consume queue {} of {}", client, id, group);
                    }
                }
            }
        }
    }
}
