//! What a new assignment changes for the queues of one topic.

use std::collections::BTreeSet;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Changes<Q> {
    pub(crate) lost: Vec<Q>,
    pub(crate) gained: Vec<Q>,
}

/// Compares the queues of a topic that a client has with those it should have.
pub(crate) fn changes<Q: Ord + Clone>(owned: &BTreeSet<Q>, assigned: &BTreeSet<Q>) -> Changes<Q> {
    Changes {
        lost: owned.difference(assigned).cloned().collect(),
        gained: assigned.difference(owned).cloned().collect(),
    }
}

impl<Q> Changes<Q> {
    pub(crate) fn is_empty(&self) -> bool {
        self.lost.is_empty() && self.gained.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use oxmq_protocol::body::MessageQueue;

    use super::*;

    fn queues(ids: &[i32]) -> BTreeSet<MessageQueue> {
        ids.iter().map(|id| MessageQueue::new("t", "b", *id)).collect()
    }

    #[test]
    fn queues_that_stay_are_no_change() {
        let found = changes(&queues(&[0, 1, 2]), &queues(&[2, 3]));
        assert_eq!(found.lost, [0, 1].map(|id| MessageQueue::new("t", "b", id)));
        assert_eq!(found.gained, [MessageQueue::new("t", "b", 3)]);
        assert!(changes(&queues(&[1]), &queues(&[1])).is_empty());
    }
}
