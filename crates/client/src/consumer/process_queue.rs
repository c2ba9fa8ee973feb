//! The messages of one queue between the broker and the listener, and what may be committed.
//!
//! A message is in `cached` from its arrival until it is done; an orderly listener moves it through `taken`. Everything
//! below [`ProcessQueue::commit_offset`] is done. Plain state: time comes in as a value, the caller holds the lock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use oxmq_protocol::message::MessageExt;
use tokio::time::Instant;

/// How many messages are looked at for having been with the listener for too long (spec: behaviour.md §6.6).
const EXPIRED_PER_CHECK_MAX: usize = 16;

#[derive(Debug, Default)]
pub(crate) struct ProcessQueue {
    /// By queue offset.
    cached: BTreeMap<i64, Cached>,
    /// With the orderly listener. All offsets here are smaller than those in `cached`.
    taken: BTreeMap<i64, Cached>,
    /// Bodies in both maps.
    bytes: u64,
    /// One above the greatest offset that ever arrived.
    end_offset: Option<i64>,
}

#[derive(Debug)]
struct Cached {
    message: Arc<MessageExt>,
    started: Option<Instant>,
}

/// How much of one queue may wait in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FlowLimits {
    pub(crate) messages: usize,
    pub(crate) bytes: u64,
    /// What the queues of one topic share instead.
    pub(crate) messages_of_topic: Option<usize>,
    pub(crate) bytes_of_topic: Option<u64>,
    /// What all queues share besides.
    pub(crate) messages_of_all: Option<usize>,
    /// Between the smallest and the greatest offset: a message that hangs must not let the rest run away.
    pub(crate) span: Option<i64>,
}

impl FlowLimits {
    pub(crate) fn is_shared(&self) -> bool {
        self.messages_of_topic.is_some() || self.bytes_of_topic.is_some()
    }

    fn messages_of_queue(&self, queues_of_topic: usize) -> usize {
        let shared = self.messages_of_topic.map(|of_topic| of_topic / queues_of_topic.max(1));
        shared.map_or(self.messages, |share| share.max(1))
    }

    fn bytes_of_queue(&self, queues_of_topic: usize) -> u64 {
        let shared = self
            .bytes_of_topic
            .map(|of_topic| of_topic / queues_of_topic.max(1) as u64);
        shared.map_or(self.bytes, |share| share.max(1))
    }
}

/// Which limit is exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FlowControl {
    Messages,
    Bytes,
    Span,
}

impl ProcessQueue {
    /// Adds what was pulled. An offset that is there already stays as it is.
    pub(crate) fn put(&mut self, messages: &[Arc<MessageExt>]) {
        for message in messages {
            let offset = message.queue_offset;
            if self.taken.contains_key(&offset) || self.cached.contains_key(&offset) {
                continue;
            }
            self.bytes += message.body.len() as u64;
            self.end_offset = self.end_offset.max(Some(offset + 1));
            let cached = Cached {
                message: Arc::clone(message),
                started: None,
            };
            self.cached.insert(offset, cached);
        }
    }

    /// Takes out messages that are done and says what may be committed now.
    pub(crate) fn remove(&mut self, messages: &[Arc<MessageExt>]) -> Option<i64> {
        for message in messages {
            if let Some(cached) = self.cached.remove(&message.queue_offset) {
                self.bytes -= cached.message.body.len() as u64;
            }
        }
        self.commit_offset()
    }

    /// The smallest offset that is not done: the smallest one here, or the end of what has arrived.
    pub(crate) fn commit_offset(&self) -> Option<i64> {
        self.min_offset().or(self.end_offset)
    }

    /// Messages are with the listener from now on.
    pub(crate) fn mark_started(&mut self, messages: &[Arc<MessageExt>], now: Instant) {
        for message in messages {
            if let Some(cached) = self.cached.get_mut(&message.queue_offset) {
                cached.started = Some(now);
            }
        }
    }

    /// The first messages that the listener has had for longer than `timeout`. Those behind a younger one wait.
    pub(crate) fn expired(&self, now: Instant, timeout: Duration) -> Vec<Arc<MessageExt>> {
        self.cached
            .values()
            .take(EXPIRED_PER_CHECK_MAX)
            .take_while(|cached| cached.started.is_some_and(|started| now - started > timeout))
            .map(|cached| Arc::clone(&cached.message))
            .collect()
    }

    /// The next messages in order, for an orderly listener. Nothing else is taken until these are settled.
    pub(crate) fn take(&mut self, count: usize) -> Vec<Arc<MessageExt>> {
        assert!(self.taken.is_empty(), "the messages taken before are settled");
        for _ in 0..count {
            let Some((offset, cached)) = self.cached.pop_first() else {
                break;
            };
            self.taken.insert(offset, cached);
        }
        self.taken.values().map(|cached| Arc::clone(&cached.message)).collect()
    }

    /// What was taken is done. Returns what may be committed.
    pub(crate) fn commit_taken(&mut self) -> Option<i64> {
        let taken = std::mem::take(&mut self.taken);
        self.bytes -= taken
            .values()
            .map(|cached| cached.message.body.len() as u64)
            .sum::<u64>();
        self.commit_offset()
    }

    /// What was taken comes again, with its attempts counted where `count_attempt` says so.
    pub(crate) fn return_taken(&mut self, count_attempt: impl Fn(&MessageExt) -> bool) {
        for (offset, mut cached) in std::mem::take(&mut self.taken) {
            if count_attempt(&cached.message) {
                // The listener may have kept the message; its copy does not change under it.
                Arc::make_mut(&mut cached.message).reconsume_times += 1;
            }
            self.cached.insert(offset, cached);
        }
    }

    /// `queues_of_topic` is how many queues share the limits of their topic.
    pub(crate) fn flow_control(&self, limits: &FlowLimits, queues_of_topic: usize) -> Option<FlowControl> {
        if self.len() > limits.messages_of_queue(queues_of_topic) {
            return Some(FlowControl::Messages);
        }
        if self.bytes > limits.bytes_of_queue(queues_of_topic) {
            return Some(FlowControl::Bytes);
        }
        limits
            .span
            .filter(|span| self.span() > *span)
            .map(|_| FlowControl::Span)
    }

    pub(crate) fn len(&self) -> usize {
        self.cached.len() + self.taken.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn has_cached(&self) -> bool {
        !self.cached.is_empty()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn min_offset(&self) -> Option<i64> {
        let first = self.taken.first_key_value().or(self.cached.first_key_value());
        first.map(|(offset, _)| *offset)
    }

    pub(crate) fn max_offset(&self) -> Option<i64> {
        let last = self.cached.last_key_value().or(self.taken.last_key_value());
        last.map(|(offset, _)| *offset)
    }

    fn span(&self) -> i64 {
        match (self.min_offset(), self.max_offset()) {
            (Some(min), Some(max)) => max - min,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consumer::testing::message_at;
    use proptest::prelude::*;

    fn messages(offsets: &[i64]) -> Vec<Arc<MessageExt>> {
        offsets.iter().map(|offset| message_at(*offset)).collect()
    }

    fn filled(offsets: &[i64]) -> ProcessQueue {
        let mut queue = ProcessQueue::default();
        queue.put(&messages(offsets));
        queue
    }

    #[test]
    fn the_smallest_unfinished_offset_may_be_committed() {
        let mut queue = filled(&[5, 6, 7, 9]);
        assert_eq!(queue.remove(&messages(&[6])), Some(5));
        assert_eq!(queue.remove(&messages(&[5])), Some(7));
        assert_eq!(queue.remove(&messages(&[7, 9])), Some(10));
        assert!(queue.is_empty());
        assert_eq!(queue.bytes(), 0);
        assert_eq!(ProcessQueue::default().commit_offset(), None);
    }

    #[test]
    fn what_an_orderly_listener_took_is_committed_or_comes_again() {
        let mut queue = filled(&[1, 2, 3]);
        let taken = queue.take(2);
        assert_eq!(queue.commit_offset(), Some(1));
        assert_eq!(queue.len(), 3);
        queue.return_taken(|message| message.queue_offset == 1);
        assert_eq!(taken[0].reconsume_times, 0);
        let again = queue.take(2);
        let seen: Vec<_> = again.iter().map(|m| (m.queue_offset, m.reconsume_times)).collect();
        assert_eq!(seen, [(1, 1), (2, 0)]);
        assert_eq!(queue.commit_taken(), Some(3));
        assert_eq!(queue.take(9).len(), 1);
        assert_eq!(queue.commit_taken(), Some(4));
        assert_eq!(queue.take(9).len(), 0);
    }

    #[test]
    fn every_limit_stops_pulling() {
        let limits = FlowLimits {
            messages: 3,
            bytes: 100,
            messages_of_topic: None,
            bytes_of_topic: None,
            messages_of_all: None,
            span: Some(50),
        };
        let check = |offsets: &[i64], limits: FlowLimits| filled(offsets).flow_control(&limits, 4);
        assert_eq!(check(&[1, 2, 51], limits), None);
        assert_eq!(check(&[1, 2, 3, 4], limits), Some(FlowControl::Messages));
        assert_eq!(check(&[1, 52], limits), Some(FlowControl::Span));
        assert_eq!(check(&[1, 52], FlowLimits { span: None, ..limits }), None);
        assert_eq!(check(&[1], FlowLimits { bytes: 0, ..limits }), Some(FlowControl::Bytes));
        let topic = FlowLimits {
            messages_of_topic: Some(8),
            ..limits
        };
        assert_eq!(check(&[1, 2], topic), None);
        assert_eq!(check(&[1, 2, 3], topic), Some(FlowControl::Messages));
        let topic = FlowLimits {
            bytes_of_topic: Some(44),
            ..limits
        };
        assert_eq!(check(&[1], topic), None);
        assert_eq!(check(&[1, 2], topic), Some(FlowControl::Bytes));
    }

    #[test]
    fn only_the_head_of_the_queue_expires() {
        let mut queue = filled(&[1, 2, 3]);
        let start = Instant::now();
        queue.mark_started(&messages(&[1, 3]), start);
        let timeout = Duration::from_secs(60);
        assert_eq!(queue.expired(start + timeout, timeout).len(), 0);
        let expired = queue.expired(start + timeout * 2, timeout);
        assert_eq!(expired.iter().map(|m| m.queue_offset).collect::<Vec<_>>(), [1]);
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Pull(usize),
        Take(usize),
        Success,
        Failure,
        /// The consumer ends without a word; the next one begins where this one has committed.
        Crash,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (1..6usize).prop_map(Step::Pull),
            4 => (1..4usize).prop_map(Step::Take),
            3 => Just(Step::Success),
            3 => Just(Step::Failure),
            1 => Just(Step::Crash),
        ]
    }

    proptest! {
        #[test]
        fn an_orderly_listener_never_goes_on_before_a_message_is_settled(
            steps in proptest::collection::vec(step(), 0..120),
        ) {
            let (mut queue, mut pulled, mut committed) = (ProcessQueue::default(), 0, 0);
            let mut taken = Vec::<i64>::new();
            let mut attempts = BTreeMap::<i64, i32>::new();
            for step in steps {
                match step {
                    Step::Pull(count) => {
                        let offsets: Vec<_> = (pulled..pulled + count as i64).collect();
                        queue.put(&messages(&offsets));
                        pulled += count as i64;
                    }
                    Step::Take(count) if taken.is_empty() => {
                        // From the first that is not settled on, none left out, each with the attempts it has had.
                        for (expected, message) in (committed..).zip(queue.take(count)) {
                            prop_assert_eq!(message.queue_offset, expected);
                            prop_assert_eq!(message.reconsume_times, attempts.get(&expected).copied().unwrap_or(0));
                            taken.push(expected);
                        }
                    }
                    Step::Success if !taken.is_empty() => {
                        let last = taken.drain(..).next_back();
                        prop_assert_eq!(queue.commit_taken(), last.map(|last| last + 1));
                        committed = last.map_or(committed, |last| last + 1);
                    }
                    Step::Failure if !taken.is_empty() => {
                        queue.return_taken(|_| true);
                        for offset in taken.drain(..) {
                            *attempts.entry(offset).or_default() += 1;
                        }
                        prop_assert_eq!(queue.commit_offset(), Some(committed));
                    }
                    Step::Crash => {
                        (queue, pulled) = (ProcessQueue::default(), committed);
                        taken.clear();
                        attempts.clear();
                    }
                    _ => {}
                }
            }
        }

        #[test]
        fn nothing_unfinished_is_ever_below_the_commit_offset(
            arrived in proptest::collection::vec(0..200i64, 1..60),
            finished in proptest::collection::vec(any::<prop::sample::Index>(), 0..80),
        ) {
            let mut queue = filled(&arrived);
            let mut open: std::collections::BTreeSet<i64> = arrived.iter().copied().collect();
            let mut committed = queue.commit_offset();
            for index in finished {
                let offset = arrived[index.index(arrived.len())];
                open.remove(&offset);
                let now = queue.remove(&messages(&[offset]));
                prop_assert!(now >= committed);
                prop_assert!(open.first().is_none_or(|first| Some(*first) == now));
                committed = now;
            }
            prop_assert_eq!(queue.len(), open.len());
        }
    }
}
