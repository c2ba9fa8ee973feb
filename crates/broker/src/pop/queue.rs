//! What one group was handed out of one queue and is not settled yet. A plain state machine: events and the time in,
//! offsets out.
//!
//! Messages leave in batches, one per request, in the order of the queue. A batch is **settled** when nothing would be
//! lost by forgetting it: its checkpoint is in the log, all of it is acknowledged, or it was empty because nothing matched
//! the filter. Invariants:
//!
//! - The group's committed offset moves past a batch when that batch and all before it are settled, never earlier. So
//!   whatever a crash forgets is handed out again.
//! - The next batch starts where the last one ended, or at the committed offset when there is none. So nothing is
//!   handed out twice while the broker runs and checkpoints can be written.
//! - One reader at a time. Others pass by, and are told when it has finished.

use std::collections::VecDeque;

use oxmq_protocol::pop::PopCheckpoint;

use super::order::OrderInfo;

#[derive(Debug, Default)]
pub(crate) struct PopQueue {
    batches: VecDeque<Batch>,
    last_serial: u64,
    is_busy: bool,
    /// Somebody passed by while it was busy.
    is_wanted: bool,
    /// Handed out and neither acknowledged nor handed out again, as far as this run of the broker knows.
    in_flight: i64,
    /// The last batch of an orderly group.
    pub(crate) order: Option<OrderInfo>,
}

/// Names a batch of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Serial(u64);

#[derive(Debug)]
struct Batch {
    serial: Serial,
    end_offset: i64,
    state: BatchState,
}

#[derive(Debug)]
enum BatchState {
    /// Its checkpoint is on its way into the log.
    Unwritten,
    /// Checkpoint and acknowledgements meet in memory.
    Buffered(Box<Buffered>),
    Settled,
}

/// A checkpoint that is not written, and what is acknowledged of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Buffered {
    pub(crate) checkpoint: PopCheckpoint,
    pub(crate) revive_queue: i32,
    /// Bit i: message i.
    pub(crate) acked: u32,
}

impl Buffered {
    pub(crate) fn new(checkpoint: PopCheckpoint, revive_queue: i32) -> Buffered {
        Buffered {
            checkpoint,
            revive_queue,
            acked: 0,
        }
    }

    fn is_complete(&self) -> bool {
        self.acked.count_ones() as usize >= self.checkpoint.len()
    }

    /// The acknowledged messages.
    pub(crate) fn acked_offsets(&self) -> Vec<i64> {
        let indexes = (0..self.checkpoint.len()).filter(|index| self.acked & (1 << index) != 0);
        indexes.filter_map(|index| self.checkpoint.offset_at(index)).collect()
    }
}

/// How long a checkpoint may stay in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stay {
    /// `popCkStayBufferTime`: from the time of the request on.
    pub(crate) at_most_ms: i64,
    /// `popCkStayBufferTimeOut`: until so long before its messages come again.
    pub(crate) before_revive_ms: i64,
}

impl Stay {
    fn is_over(self, checkpoint: &PopCheckpoint, now: i64) -> bool {
        checkpoint.revive_time().saturating_sub(now) < self.before_revive_ms
            || now - checkpoint.pop_time > self.at_most_ms
    }
}

impl PopQueue {
    /// Becomes the reader; false if there is one.
    pub(crate) fn begin(&mut self) -> bool {
        self.is_wanted |= self.is_busy;
        !std::mem::replace(&mut self.is_busy, true)
    }

    /// The reader has finished; true if somebody passed by meanwhile.
    pub(crate) fn end(&mut self) -> bool {
        self.is_busy = false;
        std::mem::take(&mut self.is_wanted)
    }

    /// Where the next batch starts; `None` for a group without an offset.
    pub(crate) fn next_offset(&self, committed: Option<i64>) -> Option<i64> {
        committed.max(self.batches.back().map(|batch| batch.end_offset))
    }

    /// A batch whose checkpoint is being written.
    pub(crate) fn add(&mut self, end_offset: i64) -> Serial {
        self.push(end_offset, BatchState::Unwritten)
    }

    /// A batch whose checkpoint stays in memory.
    pub(crate) fn add_buffered(&mut self, end_offset: i64, buffered: Buffered) {
        self.push(end_offset, BatchState::Buffered(Box::new(buffered)));
    }

    /// Nothing before `end_offset` matched.
    pub(crate) fn pass(&mut self, end_offset: i64) {
        self.push(end_offset, BatchState::Settled);
    }

    fn push(&mut self, end_offset: i64, state: BatchState) -> Serial {
        self.last_serial += 1;
        let serial = Serial(self.last_serial);
        self.batches.push_back(Batch {
            serial,
            end_offset,
            state,
        });
        serial
    }

    /// The checkpoint of a batch is in the log. The answer is the offset to commit, if there is a new one.
    pub(crate) fn written(&mut self, serial: Serial) -> Option<i64> {
        if let Some(at) = self.position(serial) {
            self.batches[at].state = BatchState::Settled;
        }
        self.settle()
    }

    /// The checkpoint of a batch cannot be written: its messages are handed out again, and those behind it with them.
    pub(crate) fn failed(&mut self, serial: Serial) {
        if let Some(at) = self.position(serial) {
            self.batches.truncate(at);
        }
    }

    /// The offset to commit, if batches at the front are settled.
    pub(crate) fn settle(&mut self) -> Option<i64> {
        let mut settled = None;
        while let Some(first) = self.batches.front()
            && matches!(first.state, BatchState::Settled)
        {
            settled = Some(first.end_offset);
            self.batches.pop_front();
        }
        settled
    }

    /// Whether this checkpoint is in memory.
    pub(crate) fn holds(&self, start_offset: i64, pop_time: i64) -> bool {
        self.batches.iter().any(|batch| match &batch.state {
            BatchState::Buffered(buffered) => {
                (buffered.checkpoint.start_offset, buffered.checkpoint.pop_time) == (start_offset, pop_time)
            }
            _ => false,
        })
    }

    /// Takes an acknowledgement for a checkpoint in memory; false when there is none that it belongs to.
    pub(crate) fn ack(&mut self, start_offset: i64, pop_time: i64, queue_offset: i64) -> bool {
        let batch = self.batches.iter_mut().find_map(|batch| match &mut batch.state {
            BatchState::Buffered(buffered)
                if buffered.checkpoint.start_offset == start_offset && buffered.checkpoint.pop_time == pop_time =>
            {
                Some((buffered.checkpoint.index_of(queue_offset), buffered.as_mut()))
            }
            _ => None,
        });
        let Some((index, buffered)) = batch else {
            return false;
        };
        let Some(index) = index else {
            return true; // A forged offset: there is nothing to acknowledge.
        };
        buffered.acked |= 1 << index;
        if buffered.is_complete() {
            self.forget(start_offset, pop_time);
        }
        true
    }

    fn forget(&mut self, start_offset: i64, pop_time: i64) {
        for batch in &mut self.batches {
            if let BatchState::Buffered(buffered) = &batch.state
                && buffered.checkpoint.start_offset == start_offset
                && buffered.checkpoint.pop_time == pop_time
            {
                batch.state = BatchState::Settled;
            }
        }
    }

    /// Checkpoints that have been in memory for long enough; all of them without a `stay`. They have to be written.
    pub(crate) fn take_due(&mut self, stay: Option<Stay>, now: i64) -> Vec<(Serial, Buffered)> {
        let mut due = Vec::new();
        for batch in &mut self.batches {
            let is_due = match &batch.state {
                BatchState::Buffered(buffered) => stay.is_none_or(|stay| stay.is_over(&buffered.checkpoint, now)),
                _ => false,
            };
            if is_due && let BatchState::Buffered(buffered) = std::mem::replace(&mut batch.state, BatchState::Unwritten)
            {
                due.push((batch.serial, *buffered));
            }
        }
        due
    }

    /// An administrator set the offset: what was handed out does not count any more.
    pub(crate) fn reset(&mut self) {
        self.batches.clear();
        self.order = None;
    }

    pub(crate) fn batches(&self) -> usize {
        self.batches.len()
    }

    pub(crate) fn buffered(&self) -> usize {
        let buffered = |batch: &&Batch| matches!(batch.state, BatchState::Buffered(_));
        self.batches.iter().filter(buffered).count()
    }

    pub(crate) fn in_flight(&self) -> i64 {
        self.in_flight
    }

    pub(crate) fn add_in_flight(&mut self, count: i64) {
        self.in_flight = (self.in_flight + count).max(0);
    }

    pub(crate) fn clear_in_flight(&mut self) {
        self.in_flight = 0;
    }

    /// Nothing would be lost by dropping it.
    pub(crate) fn is_idle(&self) -> bool {
        self.batches.is_empty() && !self.is_busy && self.in_flight == 0 && self.order.is_none()
    }

    fn position(&self, serial: Serial) -> Option<usize> {
        self.batches.binary_search_by_key(&serial, |batch| batch.serial).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(start: i64, count: i8, pop_time: i64) -> PopCheckpoint {
        PopCheckpoint {
            start_offset: start,
            count,
            pop_time,
            invisible_time: 60_000,
            ..PopCheckpoint::default()
        }
    }

    #[test]
    fn offsets_move_in_order_only() {
        let mut queue = PopQueue::default();
        assert_eq!(queue.next_offset(None), None);
        assert_eq!(queue.next_offset(Some(7)), Some(7));
        let first = queue.add(10);
        let second = queue.add(20);
        assert_eq!(queue.next_offset(Some(7)), Some(20));
        assert_eq!(queue.written(second), None);
        assert_eq!(queue.written(first), Some(20));
        assert_eq!((queue.settle(), queue.batches()), (None, 0));
    }

    #[test]
    fn what_cannot_be_written_is_handed_out_again() {
        let mut queue = PopQueue::default();
        let first = queue.add(10);
        let second = queue.add(20);
        let third = queue.add(30);
        assert_eq!(queue.written(first), Some(10));
        queue.failed(second);
        assert_eq!(queue.next_offset(Some(10)), Some(10));
        assert_eq!(queue.written(third), None);
        let again = queue.add(20);
        assert_eq!(queue.written(again), Some(20));
    }

    #[test]
    fn one_reader_at_a_time() {
        let mut queue = PopQueue::default();
        assert!(queue.begin());
        assert!(!queue.end());
        assert!(queue.begin());
        assert!(!queue.begin());
        assert!(queue.end());
        assert!(queue.begin());
    }

    #[test]
    fn what_is_acknowledged_in_memory_is_never_written() {
        let stay = Stay {
            at_most_ms: 10_000,
            before_revive_ms: 3000,
        };
        let mut queue = PopQueue::default();
        queue.add_buffered(2, Buffered::new(checkpoint(0, 2, 100), 0));
        queue.add_buffered(4, Buffered::new(checkpoint(2, 2, 200), 1));
        assert!(queue.ack(2, 200, 2) && queue.ack(2, 200, 3));
        assert_eq!(queue.settle(), None, "the first batch is open");
        assert!(queue.ack(0, 100, 1));
        assert!(!queue.ack(0, 101, 1), "of another request");
        assert!(queue.take_due(Some(stay), 10_100).is_empty());
        let due = queue.take_due(Some(stay), 10_101);
        let [(serial, first)] = &due[..] else { panic!("{due:?}") };
        assert_eq!((first.acked_offsets(), first.revive_queue), (vec![1], 0));
        assert!(!queue.ack(0, 100, 0), "too late for memory");
        assert_eq!(queue.written(*serial), Some(4));
        assert!(queue.is_idle());
    }

    #[test]
    fn a_forged_offset_acknowledges_nothing() {
        let mut queue = PopQueue::default();
        queue.add_buffered(2, Buffered::new(checkpoint(0, 2, 100), 0));
        assert!(queue.ack(0, 100, 77));
        assert_eq!(queue.take_due(None, 0)[0].1.acked, 0);
    }
}
