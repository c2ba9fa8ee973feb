//! The queue that the next attempt goes to (spec: protocol.md §8.4).

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};

use oxmq_protocol::body::MessageQueue;

/// Goes round the queues from a random start, so that producers started together do not march in step.
#[derive(Debug)]
pub(super) struct QueueChoice {
    next: AtomicUsize,
}

impl QueueChoice {
    pub(super) fn new() -> QueueChoice {
        // Far from the end of the range, so that counting on does not wrap.
        let start = RandomState::new().hash_one(0) as usize >> 8;
        QueueChoice {
            next: AtomicUsize::new(start),
        }
    }

    /// The next queue of an available broker other than the one that has just failed; without one, of any other broker;
    /// without one, any queue.
    pub(super) fn pick<'a>(
        &self,
        queues: &'a [MessageQueue],
        failed_broker: Option<&str>,
        is_available: impl Fn(&str) -> bool,
    ) -> Option<&'a MessageQueue> {
        if queues.is_empty() {
            return None;
        }
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let round = || (0..queues.len()).map(|step| &queues[start.wrapping_add(step) % queues.len()]);
        let is_other = |queue: &&MessageQueue| failed_broker != Some(queue.broker_name.as_str());
        round()
            .filter(is_other)
            .find(|queue| is_available(&queue.broker_name))
            .or_else(|| round().find(is_other))
            .or_else(|| round().next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queues(brokers: &[(&str, i32)]) -> Vec<MessageQueue> {
        let of_broker = |(name, count): &(&str, i32)| {
            let name = (*name).to_owned();
            (0..*count).map(move |id| MessageQueue::new("t", name.clone(), id))
        };
        brokers.iter().flat_map(of_broker).collect()
    }

    #[test]
    fn every_queue_gets_its_turn() {
        let (choice, queues) = (QueueChoice::new(), queues(&[("a", 2), ("b", 2)]));
        let mut picked: Vec<_> = (0..4)
            .map(|_| choice.pick(&queues, None, |_| true).unwrap().clone())
            .collect();
        picked.sort();
        assert_eq!(picked, queues);
    }

    #[test]
    fn the_broker_that_failed_is_avoided_while_there_is_another() {
        let choice = QueueChoice::new();
        let two = queues(&[("a", 3), ("b", 1)]);
        for _ in 0..8 {
            assert_eq!(choice.pick(&two, Some("a"), |_| true).unwrap().broker_name, "b");
        }
        let one = queues(&[("a", 3)]);
        assert!(choice.pick(&one, Some("a"), |_| true).is_some());
        assert!(choice.pick(&[], None, |_| true).is_none());
    }

    #[test]
    fn brokers_in_isolation_are_used_last() {
        let choice = QueueChoice::new();
        let queues = queues(&[("a", 3), ("b", 1), ("c", 1)]);
        for _ in 0..8 {
            assert_eq!(choice.pick(&queues, None, |name| name == "c").unwrap().broker_name, "c");
            assert_ne!(choice.pick(&queues, Some("a"), |_| false).unwrap().broker_name, "a");
            assert!(choice.pick(&queues, None, |_| false).is_some());
        }
    }
}
