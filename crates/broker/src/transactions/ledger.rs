//! Which half messages are open, and what became of the others. Pure: told what was stored, it says who may go on.
//!
//! A transaction is named by the queue offset of its first half message. The half message that stands for it now, the
//! first one or a later copy, is its *current* one. Rules:
//!
//! - Whoever ends, copies or gives up a transaction holds the claim on its current half message, and there is one claim
//!   at a time.
//! - What is ended or replaced is never open again.
//! - `consumed` passes neither an open half message nor one that is claimed.
//!
//! Memory: two bits for each half message that is not consumed yet, an entry for each copy that is current, and one for
//! each op record that names half messages which are not consumed yet, as far as they do not follow on each other.

use std::collections::{BTreeMap, VecDeque};

use hashbrown::{HashMap, HashSet};

/// Half messages in one word of states.
const PER_WORD: i64 = 32;
/// The low bit of each state.
const LOW_BITS: u64 = 0x5555_5555_5555_5555;
/// Transactions whose older half messages can still be used to end them. Beyond that only the current one can, which
/// the next check brings to the producer.
const COPIES_MAX: usize = 1 << 20;
/// Runs of op records that are told apart. Beyond that they are forgotten together.
const OP_RUNS_MAX: usize = 1 << 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Open,
    Committed,
    RolledBack,
    /// Replaced by a copy, given up, or ended before the last start.
    Closed,
}

/// Where a half message lies, and which transaction it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HalfId {
    pub(crate) queue_offset: i64,
    pub(crate) physical_offset: i64,
    /// Queue offset of the first half message of its transaction.
    pub(crate) first: i64,
}

/// Why a transaction cannot be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unclaimed {
    /// It is being ended or checked right now, or is not known yet after a start.
    Busy,
    Ended(State),
}

#[derive(Debug)]
pub(crate) struct Ledger {
    /// Every half message before this is ended or replaced.
    consumed: i64,
    /// Two bits per half message. The first word begins at `consumed` rounded down.
    states: VecDeque<u64>,
    claimed: HashSet<i64>,
    /// The current half messages that are copies, by transaction.
    copies: HashMap<i64, HalfId>,
    /// All copies that were there at the start are known.
    copies_known: bool,
    ops: OpRecords,
}

impl Ledger {
    pub(crate) fn new(consumed: i64, ops_consumed: i64) -> Ledger {
        Ledger {
            consumed,
            states: VecDeque::new(),
            claimed: HashSet::new(),
            copies: HashMap::new(),
            copies_known: false,
            ops: OpRecords {
                consumed: ops_consumed,
                runs: BTreeMap::new(),
            },
        }
    }

    pub(crate) fn consumed(&self) -> i64 {
        self.consumed
    }

    /// Takes the sole right to decide about the transaction of a half message; its current half message comes back.
    pub(crate) fn claim(&mut self, half: HalfId) -> Result<HalfId, Unclaimed> {
        let current = self.current(half);
        match self.state(current.queue_offset) {
            State::Open if self.claimed.insert(current.queue_offset) => Ok(current),
            State::Open => Err(Unclaimed::Busy),
            // Its current half message may be one that nobody has looked at since the start.
            State::Closed if !self.copies_known => Err(Unclaimed::Busy),
            ended => Err(Unclaimed::Ended(ended)),
        }
    }

    /// Gives a claim back: nothing was stored.
    pub(crate) fn release(&mut self, current: HalfId) {
        self.claimed.remove(&current.queue_offset);
    }

    /// What ends the transaction is stored.
    pub(crate) fn end(&mut self, current: HalfId, state: State) {
        self.claimed.remove(&current.queue_offset);
        self.copies.remove(&current.first);
        self.set(current.queue_offset, state);
    }

    /// A copy is stored that stands for the transaction from now on.
    pub(crate) fn replace(&mut self, current: HalfId, copy: HalfId) {
        self.claimed.remove(&current.queue_offset);
        self.set(current.queue_offset, State::Closed);
        self.copies.remove(&current.first);
        self.learn(copy);
    }

    /// A half message that was found in the log. Of those of one transaction only the newest may be open: an older one that
    /// was comes back, closed.
    pub(crate) fn learn(&mut self, half: HalfId) -> Option<i64> {
        let first = HalfId {
            queue_offset: half.first,
            ..half
        };
        let known = self.current(first);
        if known.queue_offset < half.queue_offset {
            self.copies.remove(&half.first);
            if self.state(half.queue_offset) == State::Open && self.copies.len() < COPIES_MAX {
                self.copies.insert(half.first, half);
            }
        }
        let (older, newer) = (
            known.queue_offset.min(half.queue_offset),
            known.queue_offset.max(half.queue_offset),
        );
        (older < newer && self.state(older) == State::Open).then(|| {
            self.set(older, State::Closed);
            older
        })
    }

    /// Every open half message from before the start was looked at.
    pub(crate) fn all_copies_known(&mut self) {
        self.copies_known = true;
    }

    pub(crate) fn state(&self, queue_offset: i64) -> State {
        if queue_offset < self.consumed {
            return State::Closed;
        }
        let (word, shift) = self.place(queue_offset);
        match self.states.get(word).map_or(0, |bits| bits >> shift & 3) {
            0 => State::Open,
            1 => State::Committed,
            2 => State::RolledBack,
            _ => State::Closed,
        }
    }

    pub(crate) fn set(&mut self, queue_offset: i64, state: State) {
        if queue_offset < self.consumed {
            return;
        }
        let (word, shift) = self.place(queue_offset);
        if word >= self.states.len() {
            self.states.resize(word + 1, 0);
        }
        let bits = match state {
            State::Open => 0,
            State::Committed => 1,
            State::RolledBack => 2,
            State::Closed => 3,
        };
        self.states[word] = self.states[word] & !(3 << shift) | bits << shift;
    }

    /// The first open half message in a range.
    pub(crate) fn next_open(&self, from: i64, end: i64) -> Option<i64> {
        let mut at = from.max(self.consumed);
        while at < end {
            let (word, shift) = self.place(at);
            let Some(bits) = self.states.get(word) else {
                return Some(at);
            };
            let closed = (bits | bits >> 1) & LOW_BITS;
            let open = (!closed & LOW_BITS) >> shift;
            if open != 0 {
                let found = at + i64::from(open.trailing_zeros() / 2);
                return (found < end).then_some(found);
            }
            at += PER_WORD - i64::from(shift) / 2;
        }
        None
    }

    /// How far the half messages before `end` are consumed: to the first that is open.
    pub(crate) fn consumable(&self, end: i64) -> i64 {
        self.next_open(self.consumed, end).unwrap_or(end).max(self.consumed)
    }

    /// Forgets what lies before: everything there is ended or replaced, and what did that is on disk.
    pub(crate) fn consume(&mut self, to: i64) {
        if to <= self.consumed {
            return;
        }
        let words = (to.div_euclid(PER_WORD) - self.consumed.div_euclid(PER_WORD)) as usize;
        self.states.drain(..words.min(self.states.len()));
        self.consumed = to;
    }

    /// An op record that names half messages up to this one is stored.
    pub(crate) fn on_op_record(&mut self, op_offset: i64, half_max: i64) {
        self.ops.add(op_offset, half_max);
    }

    /// How far the op queue is consumed: to the first record that names a half message which is not.
    pub(crate) fn consume_ops(&mut self) -> i64 {
        self.ops.consume(self.consumed)
    }

    fn current(&self, half: HalfId) -> HalfId {
        self.copies.get(&half.first).copied().unwrap_or(half)
    }

    fn place(&self, queue_offset: i64) -> (usize, u32) {
        let word = queue_offset.div_euclid(PER_WORD) - self.consumed.div_euclid(PER_WORD);
        (word as usize, 2 * queue_offset.rem_euclid(PER_WORD) as u32)
    }
}

/// Op records by queue offset, with the last half message that each names. Workers tell of them in any order.
#[derive(Debug)]
struct OpRecords {
    consumed: i64,
    /// First op record → how many follow on each other, and the last half message they name.
    runs: BTreeMap<i64, (i64, i64)>,
}

impl OpRecords {
    fn add(&mut self, op_offset: i64, half_max: i64) {
        let is_crowded = self.runs.len() >= OP_RUNS_MAX;
        if let Some((first, (count, last_half))) = self.runs.range_mut(..op_offset).next_back()
            && *first + *count == op_offset
            && (is_crowded || half_max <= *last_half)
        {
            *count += 1;
            *last_half = half_max.max(*last_half);
            return;
        }
        if op_offset >= self.consumed {
            self.runs.insert(op_offset, (1, half_max));
        }
    }

    fn consume(&mut self, halves_consumed: i64) -> i64 {
        while let Some(run) = self.runs.first_entry() {
            let (count, half_max) = *run.get();
            if *run.key() != self.consumed || half_max >= halves_consumed {
                break;
            }
            self.consumed += count;
            run.remove();
        }
        self.consumed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn first(queue_offset: i64) -> HalfId {
        HalfId {
            queue_offset,
            physical_offset: queue_offset * 100,
            first: queue_offset,
        }
    }

    fn copy_of(first: i64, queue_offset: i64) -> HalfId {
        HalfId {
            queue_offset,
            physical_offset: queue_offset * 100,
            first,
        }
    }

    #[test]
    fn a_transaction_ends_once() {
        let mut ledger = Ledger::new(10, 0);
        let claim = ledger.claim(first(12)).unwrap();
        assert_eq!(ledger.claim(first(12)), Err(Unclaimed::Busy));
        ledger.release(claim);
        let claim = ledger.claim(first(12)).unwrap();
        ledger.end(claim, State::RolledBack);
        assert_eq!(ledger.claim(first(12)), Err(Unclaimed::Ended(State::RolledBack)));
        ledger.all_copies_known();
        assert_eq!(ledger.claim(first(9)), Err(Unclaimed::Ended(State::Closed)));
    }

    #[test]
    fn an_old_half_message_ends_the_copy_that_stands_for_it() {
        let mut ledger = Ledger::new(0, 0);
        ledger.all_copies_known();
        let claim = ledger.claim(first(3)).unwrap();
        ledger.replace(claim, copy_of(3, 7));
        ledger.consume(5);
        assert_eq!(ledger.claim(first(3)), Ok(copy_of(3, 7)));
        ledger.end(copy_of(3, 7), State::Committed);
        assert_eq!(ledger.claim(first(3)), Err(Unclaimed::Ended(State::Closed)));
        assert_eq!(ledger.claim(copy_of(3, 7)), Err(Unclaimed::Ended(State::Committed)));
    }

    #[test]
    fn a_copy_that_was_found_closes_what_it_was_made_from() {
        let mut ledger = Ledger::new(0, 0);
        assert_eq!(ledger.learn(copy_of(2, 5)), Some(2));
        assert_eq!(ledger.learn(copy_of(2, 9)), Some(5));
        assert_eq!(ledger.learn(copy_of(2, 5)), None);
        assert_eq!(ledger.learn(first(6)), None);
        assert_eq!(ledger.claim(first(2)), Ok(copy_of(2, 9)));
    }

    #[test]
    fn op_records_are_consumed_in_their_order() {
        let mut ledger = Ledger::new(0, 100);
        ledger.on_op_record(101, 4);
        ledger.on_op_record(100, 9);
        ledger.on_op_record(102, 30);
        ledger.consume(10);
        assert_eq!(ledger.consume_ops(), 102);
        ledger.consume(31);
        assert_eq!(ledger.consume_ops(), 103);
    }

    proptest! {
        #[test]
        fn states_are_what_a_plain_list_would_hold(
            start in 0i64..100,
            steps in proptest::collection::vec((0i64..300, 0..4usize), 0..200),
        ) {
            let states = [State::Open, State::Committed, State::RolledBack, State::Closed];
            let mut ledger = Ledger::new(start, 0);
            let mut model = vec![State::Open; 400];
            model[..start as usize].fill(State::Closed);
            for (at, step) in steps {
                let at = start + at;
                if at % 13 == 0 {
                    let to = ledger.consumable(start + 300);
                    prop_assert_eq!(to, (0..400).find(|at| model[*at as usize] == State::Open).unwrap().min(start + 300));
                    ledger.consume(to);
                    model[..to as usize].fill(State::Closed);
                } else if model[at as usize] == State::Open {
                    ledger.set(at, states[step]);
                    model[at as usize] = states[step];
                }
                for (at, state) in model.iter().enumerate() {
                    prop_assert_eq!(ledger.state(at as i64), *state);
                }
                let open = (at..start + 300).find(|at| model[*at as usize] == State::Open);
                prop_assert_eq!(ledger.next_open(at, start + 300), open);
            }
        }
    }
}
