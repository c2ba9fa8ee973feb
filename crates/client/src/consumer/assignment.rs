//! What a new assignment changes for the queues of one topic.

use std::collections::BTreeSet;

use oxmq_protocol::body::MessageQueue;

#[derive(Debug, PartialEq, Eq, Default)]
pub(crate) struct Changes {
    pub(crate) lost: Vec<MessageQueue>,
    pub(crate) gained: Vec<MessageQueue>,
}

/// Compares the queues of a topic that a client has with those it should have.
pub(crate) fn changes(owned: &BTreeSet<MessageQueue>, assigned: &BTreeSet<MessageQueue>) -> Changes {
    Changes {
        lost: owned.difference(assigned).cloned().collect(),
        gained: assigned.difference(owned).cloned().collect(),
    }
}

impl Changes {
    pub(crate) fn is_empty(&self) -> bool {
        self.lost.is_empty() && self.gained.is_empty()
    }
}

#[cfg(test)]
mod tests {
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
