//! Which of a topic's queues a member of a group takes (spec: protocol.md §8.5). Every member computes this alone, or the
//! broker does it for all; whoever does, all must see the same lists in the same order and use the same strategy.

mod consistent_hash;
mod machine_room;

use crate::body::MessageQueue;

pub use consistent_hash::AllocateConsistentHash;
pub use machine_room::{AllocateByMachineRoom, AllocateMachineRoomNearby, MachineRoomResolver};

/// Deals queues to members. Both lists are sorted; members are client ids.
pub trait AllocateStrategy: Send + Sync + 'static {
    /// All members of a group should show the same name.
    fn name(&self) -> &str;

    /// The share of the member at `index`, which is within `members`.
    fn allocate(&self, queues: &[MessageQueue], members: &[String], index: usize) -> Vec<MessageQueue>;
}

/// Blocks of neighbours; the first members get one more when it does not come out even.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllocateAveragely;

impl AllocateStrategy for AllocateAveragely {
    fn name(&self) -> &str {
        "AVG"
    }

    fn allocate(&self, queues: &[MessageQueue], members: &[String], index: usize) -> Vec<MessageQueue> {
        let share = queues.len() / members.len();
        let left_over = queues.len() % members.len();
        let start = index * share + index.min(left_over);
        let count = share + usize::from(index < left_over);
        queues[start..start + count].to_vec()
    }
}

/// One queue each, round and round.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllocateAveragelyByCircle;

impl AllocateStrategy for AllocateAveragelyByCircle {
    fn name(&self) -> &str {
        "AVG_BY_CIRCLE"
    }

    fn allocate(&self, queues: &[MessageQueue], members: &[String], index: usize) -> Vec<MessageQueue> {
        queues.iter().skip(index).step_by(members.len()).cloned().collect()
    }
}

/// These queues and no others, whoever else is in the group.
#[derive(Debug, Clone, Default)]
pub struct AllocateByConfig {
    pub message_queues: Vec<MessageQueue>,
}

impl AllocateStrategy for AllocateByConfig {
    fn name(&self) -> &str {
        "CONFIG"
    }

    /// Without queues of other topics: each topic is dealt by itself.
    fn allocate(&self, queues: &[MessageQueue], _: &[String], _: usize) -> Vec<MessageQueue> {
        let is_of_topic = |own: &&MessageQueue| queues.iter().any(|queue| queue.topic == own.topic);
        self.message_queues.iter().filter(is_of_topic).cloned().collect()
    }
}

/// Sorts both lists as all clients do and takes the share of `client_id`. One who is not a member gets nothing.
pub fn allocate(
    strategy: &dyn AllocateStrategy,
    mut queues: Vec<MessageQueue>,
    mut members: Vec<String>,
    client_id: &str,
) -> Vec<MessageQueue> {
    queues.sort();
    // Java compares UTF-16 units.
    members.sort_by(|a, b| a.encode_utf16().cmp(b.encode_utf16()));
    members.dedup();
    match members.iter().position(|member| member == client_id) {
        Some(index) => strategy.allocate(&queues, &members, index),
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn queues(count: i32) -> Vec<MessageQueue> {
        (0..count).rev().map(|id| MessageQueue::new("t", "b", id)).collect()
    }

    fn members(count: usize) -> Vec<String> {
        (0..count).rev().map(|member| format!("c{member:03}")).collect()
    }

    fn ids(strategy: &dyn AllocateStrategy, queue_count: i32, member_count: usize, client_id: &str) -> Vec<i32> {
        allocate(strategy, queues(queue_count), members(member_count), client_id)
            .into_iter()
            .map(|queue| queue.queue_id)
            .collect()
    }

    #[test]
    fn shares_are_those_of_java() {
        let avg = |member| ids(&AllocateAveragely, 8, 3, member);
        assert_eq!(
            [avg("c000"), avg("c001"), avg("c002")],
            [vec![0, 1, 2], vec![3, 4, 5], vec![6, 7]]
        );
        let circle = |member| ids(&AllocateAveragelyByCircle, 8, 3, member);
        assert_eq!(
            [circle("c000"), circle("c001"), circle("c002")],
            [vec![0, 3, 6], vec![1, 4, 7], vec![2, 5]]
        );
        assert!(ids(&AllocateAveragely, 2, 3, "c002").is_empty());
        assert!(ids(&AllocateAveragely, 2, 3, "stranger").is_empty());
        assert!(ids(&AllocateAveragely, 2, 0, "c000").is_empty());
    }

    /// The definition in the specification, word for word.
    fn averagely_by_definition(k: usize, n: usize, i: usize) -> Vec<i32> {
        let modulus = k % n;
        let average = if k <= n { 1 } else { k / n + usize::from(i < modulus) };
        let start = if i < modulus {
            i * average
        } else {
            i * average + modulus
        };
        let count = average.min(k.saturating_sub(start));
        (start..start + count).map(|id| id as i32).collect()
    }

    proptest! {
        #[test]
        fn every_queue_has_one_owner(queue_count in 0..40i32, member_count in 1..12usize) {
            for strategy in [&AllocateAveragely as &dyn AllocateStrategy, &AllocateAveragelyByCircle] {
                let mut all: Vec<i32> = members(member_count)
                    .iter()
                    .flat_map(|member| ids(strategy, queue_count, member_count, member))
                    .collect();
                all.sort();
                prop_assert_eq!(all, (0..queue_count).collect::<Vec<_>>());
            }
        }

        #[test]
        fn blocks_are_those_of_the_definition(k in 0..60usize, n in 1..20usize) {
            for i in 0..n {
                let got = ids(&AllocateAveragely, k as i32, n, &format!("c{i:03}"));
                prop_assert_eq!(got, averagely_by_definition(k, n, i));
            }
        }
    }
}
