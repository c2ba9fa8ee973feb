//! The slot that is being delivered: its units in the order in which they are due. A limited number is in memory; a
//! fuller slot is read several times.

use std::collections::BTreeMap;

use super::unit::Unit;

#[derive(Debug)]
pub(super) struct Current {
    pub(super) slot: i64,
    units_max: usize,
    /// By time due and position. All that is behind the progress, or the first of it.
    pub(super) units: BTreeMap<(i64, i64), Unit>,
    pub(super) is_cut: bool,
    /// Where the messages are that cancel others of the slot. Not more than there may be units.
    cancels: Vec<(i64, i32)>,
    cancel_count: usize,
}

/// What cancels messages of the present slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancels<'a> {
    pub slot: i64,
    /// Grows as long as the slot is the same.
    pub count: usize,
    /// Physical offsets and sizes. Of more than [`super::CURRENT_MAX`] only the first;
    /// [`super::TimerStore::each_cancel`] knows all.
    pub known: &'a [(i64, i32)],
}

impl Current {
    pub(super) fn new(slot: i64, units_max: usize) -> Current {
        Current {
            slot,
            units_max,
            units: BTreeMap::new(),
            is_cut: false,
            cancels: Vec::new(),
            cancel_count: 0,
        }
    }

    pub(super) fn add(&mut self, position: i64, unit: Unit, precision_ms: i64) {
        if unit.cancels() {
            self.cancel_count += 1;
            if self.cancels.len() < self.units_max {
                self.cancels.push((unit.physical_offset, unit.size));
            }
            return;
        }
        let key = (unit.due_ms(precision_ms), position);
        if self.is_cut && self.units.last_key_value().is_none_or(|(last, _)| key > *last) {
            return;
        }
        self.units.insert(key, unit);
        if self.units.len() > self.units_max {
            self.units.pop_last();
            self.is_cut = true;
        }
    }

    pub(super) fn cancels(&self) -> Cancels<'_> {
        Cancels {
            slot: self.slot,
            count: self.cancel_count,
            known: &self.cancels,
        }
    }
}
