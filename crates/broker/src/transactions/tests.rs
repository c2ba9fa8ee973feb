//! The ledger and the replay against a log that loses its end: whatever happens, each transaction has one outcome.
//!
//! The model is a log of records, each at the physical offset of its index. A turn appends one batch. A crash keeps what
//! was flushed and any prefix of the rest, and everything in memory is made anew from the log and the saved offsets.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::ledger::{HalfId, Ledger, State};
use super::replay::{Replay, Trace};

#[derive(Debug, Clone, PartialEq)]
enum Record {
    Half {
        half: HalfId,
        /// Physical offset.
        replaces: Option<i64>,
    },
    /// For consumers, or for those who look after what was given up.
    Done {
        half: HalfId,
        state: State,
    },
    Op {
        halves: Vec<i64>,
        rolled_back: Vec<i64>,
    },
}

#[derive(Debug, Clone)]
enum Step {
    Begin,
    /// An end of some transaction by some of its half messages.
    End {
        transaction: usize,
        half: usize,
        state: State,
    },
    Check {
        transaction: usize,
    },
    GiveUp {
        transaction: usize,
    },
    EndTurn,
    /// The turn cannot be appended.
    FailTurn,
    Flush,
    Checkpoint,
    Progress,
    SaveOffsets,
    FinishStart,
    Crash {
        kept: usize,
    },
}

struct Staged {
    current: HalfId,
    state: State,
}

struct World {
    log: Vec<Record>,
    flushed: usize,
    /// Ends of batches, where a recovery position may lie.
    boundaries: Vec<usize>,
    recovery_position: usize,
    /// The recovery position may move when this much is flushed.
    held: Option<usize>,
    ledger: Ledger,
    started: bool,
    without_op: Vec<i64>,
    turn: Vec<Staged>,
    progress: Option<(i64, usize)>,
    offsets: (i64, i64),
    saved: (i64, i64),
}

impl World {
    fn new() -> World {
        let mut ledger = Ledger::new(0, 0);
        ledger.all_copies_known();
        World {
            log: Vec::new(),
            flushed: 0,
            boundaries: vec![0],
            recovery_position: 0,
            held: None,
            ledger,
            started: true,
            without_op: Vec::new(),
            turn: Vec::new(),
            progress: None,
            offsets: (0, 0),
            saved: (0, 0),
        }
    }

    fn halves(&self) -> impl DoubleEndedIterator<Item = HalfId> {
        self.log.iter().filter_map(|record| match record {
            Record::Half { half, .. } => Some(*half),
            _ => None,
        })
    }

    fn half_count(&self) -> i64 {
        self.halves().count() as i64
    }

    fn op_count(&self) -> i64 {
        self.log
            .iter()
            .filter(|record| matches!(record, Record::Op { .. }))
            .count() as i64
    }

    fn transactions(&self) -> Vec<i64> {
        let firsts: BTreeSet<i64> = self.halves().map(|half| half.first).collect();
        firsts.into_iter().collect()
    }

    fn halves_of(&self, transaction: i64) -> Vec<HalfId> {
        self.halves().filter(|half| half.first == transaction).collect()
    }

    fn append(&mut self, batch: Vec<Record>) {
        for record in batch {
            if let Record::Op { halves, .. } = &record {
                let half_max = halves.iter().copied().max().unwrap();
                self.ledger.on_op_record(self.op_count(), half_max);
            }
            self.log.push(record);
        }
        self.boundaries.push(self.log.len());
    }

    fn next_half(&self, first: Option<i64>) -> HalfId {
        let queue_offset = self.half_count();
        HalfId {
            queue_offset,
            physical_offset: self.log.len() as i64,
            first: first.unwrap_or(queue_offset),
        }
    }

    fn end_turn(&mut self) {
        let turn = std::mem::take(&mut self.turn);
        if turn.is_empty() {
            return;
        }
        let mut batch: Vec<_> = turn
            .iter()
            .filter(|staged| staged.state != State::RolledBack)
            .map(|staged| Record::Done {
                half: staged.current,
                state: staged.state,
            })
            .collect();
        let rolled_back = turn.iter().filter(|staged| staged.state == State::RolledBack);
        batch.push(Record::Op {
            halves: turn.iter().map(|staged| staged.current.queue_offset).collect(),
            rolled_back: rolled_back.map(|staged| staged.current.first).collect(),
        });
        self.append(batch);
        for staged in turn {
            self.ledger.end(staged.current, staged.state);
        }
    }

    fn check(&mut self, transaction: i64) {
        let Some(half) = self.halves_of(transaction).pop() else {
            return;
        };
        let Ok(current) = self.ledger.claim(half) else { return };
        let copy = self.next_half(Some(current.first));
        let op = Record::Op {
            halves: vec![current.queue_offset],
            rolled_back: Vec::new(),
        };
        let replaces = Some(current.physical_offset);
        self.append(vec![Record::Half { half: copy, replaces }, op]);
        self.ledger.replace(current, copy);
    }

    fn finish_start(&mut self) {
        if self.started {
            return;
        }
        let mut halves = std::mem::take(&mut self.without_op);
        let found: Vec<_> = self.halves().collect();
        for half in found {
            halves.extend(self.ledger.learn(half));
        }
        if !halves.is_empty() {
            let rolled_back = Vec::new();
            self.append(vec![Record::Op { halves, rolled_back }]);
        }
        self.ledger.all_copies_known();
        self.held = Some(self.log.len());
        self.started = true;
    }

    fn crash(&mut self, kept: usize) {
        let lost = self.log.len() - self.flushed;
        self.log.truncate(self.flushed + kept % (lost + 1));
        // What a recovery has kept is on disk when it ends.
        self.flushed = self.log.len();
        self.boundaries.retain(|boundary| *boundary <= self.log.len());
        self.boundaries.push(self.log.len());
        self.turn.clear();
        self.progress = None;
        self.offsets = self.saved;
        assert!(self.recovery_position <= self.log.len());

        let (halves, ops) = self.saved;
        let mut ledger = Ledger::new(halves.min(self.half_count()), ops.min(self.op_count()));
        let mut op_offset = 0;
        for record in &self.log {
            if let Record::Op { halves, .. } = record {
                if op_offset >= ops {
                    halves.iter().for_each(|half| ledger.set(*half, State::Closed));
                    ledger.on_op_record(op_offset, halves.iter().copied().max().unwrap());
                }
                op_offset += 1;
            }
        }
        let mut replay = Replay::default();
        for record in &self.log[self.recovery_position..] {
            match record {
                Record::Half {
                    half,
                    replaces: Some(replaced),
                } => replay.see(Trace {
                    half_physical_offset: *replaced,
                    key: half.first as u64,
                    state: State::Closed,
                    copy: Some(*half),
                }),
                Record::Done { half, state } => replay.see(Trace {
                    half_physical_offset: half.physical_offset,
                    key: half.first as u64,
                    state: *state,
                    copy: None,
                }),
                _ => {}
            }
        }
        self.without_op = replay.settle(&mut ledger, |at| match self.log.get(at as usize) {
            Some(Record::Half { half, .. }) => Some((*half, half.first as u64)),
            _ => None,
        });
        self.ledger = ledger;
        self.started = false;
        self.held = Some(usize::MAX);
    }

    fn step(&mut self, step: &Step) {
        let transactions = self.transactions();
        let pick = |transaction: usize| transactions.get(transaction % transactions.len().max(1)).copied();
        match *step {
            Step::Begin => {
                self.end_turn();
                let half = self.next_half(None);
                self.append(vec![Record::Half { half, replaces: None }]);
            }
            Step::End {
                transaction,
                half,
                state,
            } => {
                let Some(transaction) = pick(transaction) else { return };
                let halves = self.halves_of(transaction);
                if let Ok(current) = self.ledger.claim(halves[half % halves.len()]) {
                    self.turn.push(Staged { current, state });
                }
            }
            Step::Check { transaction } if self.started => {
                if let Some(transaction) = pick(transaction) {
                    self.check(transaction);
                }
            }
            Step::GiveUp { transaction } if self.started => {
                let half = pick(transaction).and_then(|transaction| self.halves_of(transaction).pop());
                if let Some(Ok(current)) = half.map(|half| self.ledger.claim(half)) {
                    let state = State::Closed;
                    self.turn.push(Staged { current, state });
                    self.end_turn();
                }
            }
            Step::Check { .. } | Step::GiveUp { .. } => {}
            Step::EndTurn => self.end_turn(),
            Step::FailTurn => {
                let turn = std::mem::take(&mut self.turn);
                turn.iter().for_each(|staged| self.ledger.release(staged.current));
            }
            Step::Flush => self.flushed = self.log.len(),
            Step::Checkpoint => {
                if self.held.is_none_or(|held| self.flushed >= held) {
                    self.held = None;
                    let boundaries = self.boundaries.iter().filter(|boundary| **boundary <= self.flushed);
                    self.recovery_position = boundaries.copied().max().unwrap();
                }
            }
            Step::Progress if self.started => {
                if let Some((consumed, written)) = self.progress.take()
                    && written <= self.flushed
                {
                    self.ledger.consume(consumed);
                    self.offsets = (consumed, self.ledger.consume_ops());
                }
                let consumed = self.ledger.consumable(self.half_count());
                self.progress = (consumed > self.ledger.consumed()).then_some((consumed, self.log.len()));
            }
            Step::Progress => {}
            Step::SaveOffsets => self.saved = self.offsets,
            Step::FinishStart => self.finish_start(),
            Step::Crash { kept } => self.crash(kept),
        }
    }

    fn done(&self, transaction: i64) -> Vec<(usize, State)> {
        let records = self.log.iter().enumerate();
        let done = records.filter_map(|(at, record)| match record {
            Record::Done { half, state } if half.first == transaction => Some((at, *state)),
            _ => None,
        });
        done.collect()
    }

    fn rolled_back_at(&self, transaction: i64) -> Option<usize> {
        self.log
            .iter()
            .position(|record| matches!(record, Record::Op { rolled_back, .. } if rolled_back.contains(&transaction)))
    }

    fn assert_one_outcome(&self) {
        for transaction in self.transactions() {
            let done = self.done(transaction);
            let rolled_back = self.rolled_back_at(transaction);
            assert!(done.len() <= 1, "transaction {transaction} is done twice: {done:?}");
            assert!(
                done.is_empty() || rolled_back.is_none(),
                "transaction {transaction} is done and rolled back"
            );
            let open = self.halves_of(transaction).into_iter();
            let open = open
                .filter(|half| self.ledger.state(half.queue_offset) == State::Open)
                .count();
            if done.is_empty() && rolled_back.is_none() {
                assert!(open >= 1, "transaction {transaction} is lost");
            } else if self.turn.is_empty() {
                assert_eq!(open, 0, "transaction {transaction} is over");
            }
            assert!(!self.started || open <= 1, "transaction {transaction} is open twice");
        }
    }

    /// What a Java broker takes for open: half messages from the saved offset on that no op record from the saved
    /// offset on names.
    fn assert_java_agrees(&self) {
        let (halves, ops_from) = self.saved;
        let ops = self.log.iter().filter_map(|record| match record {
            Record::Op { halves, .. } => Some(halves),
            _ => None,
        });
        let ended: BTreeSet<i64> = ops.skip(ops_from as usize).flatten().copied().collect();
        let java: Vec<i64> = (halves..self.half_count())
            .filter(|half| !ended.contains(half))
            .collect();
        let ours: Vec<i64> = (halves..self.half_count())
            .filter(|half| self.ledger.state(*half) == State::Open)
            .collect();
        assert_eq!(java, ours);
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let state = prop_oneof![Just(State::Committed), Just(State::RolledBack)];
    let step = prop_oneof![
        4 => Just(Step::Begin),
        6 => (0usize..20, 0usize..4, state).prop_map(|(transaction, half, state)| Step::End { transaction, half, state }),
        3 => (0usize..20).prop_map(|transaction| Step::Check { transaction }),
        1 => (0usize..20).prop_map(|transaction| Step::GiveUp { transaction }),
        4 => Just(Step::EndTurn),
        1 => Just(Step::FailTurn),
        2 => Just(Step::Flush),
        2 => Just(Step::Checkpoint),
        3 => Just(Step::Progress),
        2 => Just(Step::SaveOffsets),
        2 => Just(Step::FinishStart),
        2 => (0usize..8).prop_map(|kept| Step::Crash { kept }),
    ];
    proptest::collection::vec(step, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn each_transaction_has_one_outcome_whenever_the_broker_is_killed(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            world.assert_one_outcome();
        }
        // In the end every transaction can be ended, and is then over for everybody.
        world.end_turn();
        world.finish_start();
        world.assert_java_agrees();
        for transaction in world.transactions() {
            let current = world.halves_of(transaction).into_iter().find_map(|half| world.ledger.claim(half).ok());
            if let Some(current) = current {
                world.turn.push(Staged { current, state: State::Committed });
                world.end_turn();
            }
        }
        world.assert_one_outcome();
        world.assert_java_agrees();
        for transaction in world.transactions() {
            prop_assert!(world.done(transaction).len() == 1 || world.rolled_back_at(transaction).is_some());
            for half in world.halves_of(transaction) {
                prop_assert!(world.ledger.claim(half).is_err());
            }
        }
        world.flushed = world.log.len();
        world.step(&Step::Progress);
        world.step(&Step::Progress);
        prop_assert_eq!(world.ledger.consumed(), world.half_count());
        prop_assert_eq!(world.ledger.consume_ops(), world.op_count());
    }
}
