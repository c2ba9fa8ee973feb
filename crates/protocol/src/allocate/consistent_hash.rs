//! A ring of hashes: a member that comes or goes moves few queues.

use std::collections::BTreeMap;

use super::AllocateStrategy;
use crate::body::MessageQueue;

const VIRTUAL_NODE_COUNT: usize = 10;

/// Each member has points on a ring of MD5 hashes, and a queue belongs to the first point at or after its own hash.
/// Shares are uneven; in return only the queues of a member that leaves change their owner.
#[derive(Debug, Clone, Copy)]
pub struct AllocateConsistentHash {
    virtual_node_count: usize,
}

impl AllocateConsistentHash {
    /// More points per member make the shares more even. All members of a group need the same number.
    pub fn with_virtual_nodes(count: usize) -> AllocateConsistentHash {
        AllocateConsistentHash {
            virtual_node_count: count.max(1),
        }
    }
}

impl Default for AllocateConsistentHash {
    fn default() -> AllocateConsistentHash {
        AllocateConsistentHash::with_virtual_nodes(VIRTUAL_NODE_COUNT)
    }
}

impl AllocateStrategy for AllocateConsistentHash {
    fn name(&self) -> &str {
        "CONSISTENT_HASH"
    }

    fn allocate(&self, queues: &[MessageQueue], members: &[String], index: usize) -> Vec<MessageQueue> {
        let mut ring = BTreeMap::new();
        for (owner, member) in members.iter().enumerate() {
            for node in 0..self.virtual_node_count {
                ring.insert(hash(&format!("{member}-{node}")), owner);
            }
        }
        let owner = |queue: &MessageQueue| {
            let MessageQueue {
                topic,
                broker_name,
                queue_id,
            } = queue;
            // What Java's MessageQueue.toString gives.
            let key = format!("MessageQueue [topic={topic}, brokerName={broker_name}, queueId={queue_id}]");
            let at_or_after = ring.range(hash(&key)..).next();
            at_or_after.or(ring.first_key_value()).map(|(_, owner)| *owner)
        };
        let own = queues.iter().filter(|queue| owner(queue) == Some(index));
        own.cloned().collect()
    }
}

/// The first four bytes of the MD5 sum.
fn hash(key: &str) -> u32 {
    let [a, b, c, d, ..] = md5::compute(key).0;
    u32::from_be_bytes([a, b, c, d])
}
