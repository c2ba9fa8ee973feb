//! The timer wheel: for each slot of time the chain of its units (spec: storage.md §16.3).
//!
//! In memory only slots that hold something. The file has a place for every slot of two turns; a place belongs to the
//! slot whose number stands in it.
//!
//! ```text
//! 0  number i64 = time / precision     8 first unit i64     16 last unit i64     24 units i32     28 magic i32
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::path::Path;

use super::unit::Unit;
use crate::disk::{Disk, DiskFile};

const PLACE_BYTES: usize = 32;
const LOAD_BYTES: usize = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) first: i64,
    pub(crate) last: i64,
    /// Messages less cancellations.
    pub(crate) count: i32,
    magic: i32,
}

impl Slot {
    const EMPTY: Slot = Slot {
        first: -1,
        last: -1,
        count: 0,
        magic: 0,
    };
}

#[derive(Debug)]
pub(crate) struct Wheel {
    /// Slots that the file has room for: two turns.
    places: i64,
    slots: BTreeMap<i64, Slot>,
    /// Differ from the file.
    dirty: BTreeSet<i64>,
}

impl Wheel {
    /// `slots` is one turn.
    pub(crate) fn new(slots: i64) -> Wheel {
        Wheel {
            places: 2 * slots,
            slots: BTreeMap::new(),
            dirty: BTreeSet::new(),
        }
    }

    /// Reads the slots from `from` on; nothing without a whole file.
    pub(crate) fn load(disk: &dyn Disk, path: &Path, from: i64, slots: i64) -> io::Result<Option<Wheel>> {
        let file = match disk.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut wheel = Wheel::new(slots);
        let file_bytes = file_bytes(wheel.places);
        if file.len()? != file_bytes {
            return Ok(None);
        }
        let mut buffer = vec![0; LOAD_BYTES];
        let mut at = 0;
        while at < file_bytes {
            let read = file.read_at(&mut buffer, at)?;
            for (place, bytes) in (at / PLACE_BYTES as u64..).zip(buffer[..read].as_chunks::<PLACE_BYTES>().0) {
                let (number, slot) = decode(bytes);
                if number >= from && slot.last >= 0 && number.rem_euclid(wheel.places) == place as i64 {
                    wheel.slots.insert(number, slot);
                }
            }
            at += read.max(PLACE_BYTES) as u64;
        }
        Ok(Some(wheel))
    }

    pub(crate) fn places(&self) -> i64 {
        self.places
    }

    pub(crate) fn first(&self) -> Option<i64> {
        self.slots.first_key_value().map(|(number, _)| *number)
    }

    pub(crate) fn get(&self, number: i64) -> Option<&Slot> {
        self.slots.get(&number)
    }

    /// Whether the slot has a place of its own beside those that are in use.
    pub(crate) fn has_place_for(&self, number: i64) -> bool {
        self.first().is_none_or(|first| number < first + self.places)
    }

    /// The last unit of a slot, -1 if there is none.
    pub(crate) fn last_of(&self, number: i64) -> i64 {
        self.slots.get(&number).map_or(-1, |slot| slot.last)
    }

    /// Takes a unit in that stands at `position`, behind all others of its slot. One without a predecessor begins its
    /// slot anew.
    pub(crate) fn add(&mut self, number: i64, position: i64, unit: &Unit) {
        let slot = self.slots.entry(number).or_insert(Slot::EMPTY);
        if unit.previous < 0 {
            *slot = Slot {
                first: position,
                ..Slot::EMPTY
            };
        }
        slot.last = position;
        slot.count += unit.count();
        self.dirty.insert(number);
    }

    /// Takes a unit in again. The file may know it already, or hold a last position that was half written: the units
    /// since the last snapshot, one after the other, leave the right one.
    pub(crate) fn add_again(&mut self, number: i64, position: i64, unit: &Unit) {
        let count = self
            .get(number)
            .filter(|slot| position <= slot.last)
            .map(|slot| slot.count);
        self.add(number, position, unit);
        if let (Some(count), Some(slot)) = (count, self.slots.get_mut(&number)) {
            slot.count = count;
        }
    }

    pub(crate) fn remove(&mut self, number: i64) {
        if self.slots.remove(&number).is_some() {
            self.dirty.insert(number);
        }
    }

    /// Gives a slot another chain.
    pub(crate) fn replace(&mut self, number: i64, first: i64, last: i64, count: i32) {
        let slot = Slot {
            first,
            last,
            count,
            magic: 0,
        };
        self.slots.insert(number, slot);
        self.dirty.insert(number);
    }

    pub(crate) fn counts(&self) -> impl Iterator<Item = (i64, i32)> {
        self.slots.iter().map(|(number, slot)| (*number, slot.count))
    }

    pub(crate) fn count(&self) -> i64 {
        self.counts().map(|(_, count)| i64::from(count.max(0))).sum()
    }

    /// The greatest position that a slot names.
    pub(crate) fn last_position(&self) -> i64 {
        self.slots.values().map(|slot| slot.last).max().unwrap_or(-1)
    }

    /// What the file does not hold yet.
    pub(crate) fn take_dirty(&mut self) -> Vec<(i64, Slot)> {
        let dirty = std::mem::take(&mut self.dirty);
        let slot_of = |number| (number, self.slots.get(&number).copied().unwrap_or(Slot::EMPTY));
        dirty.into_iter().map(slot_of).collect()
    }

    pub(crate) fn mark_dirty(&mut self) {
        self.dirty.extend(self.slots.keys());
    }

    pub(crate) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }
}

pub(crate) fn file_bytes(places: i64) -> u64 {
    places as u64 * PLACE_BYTES as u64
}

/// Writes slots, in order of their numbers, to their places. Neighbours are written together.
pub(crate) fn write(file: &dyn DiskFile, slots: &[(i64, Slot)], places: i64) -> io::Result<()> {
    let follows = |(a, _): &(i64, Slot), (b, _): &(i64, Slot)| a + 1 == *b && b.rem_euclid(places) != 0;
    for run in slots.chunk_by(follows) {
        let bytes: Vec<u8> = run.iter().flat_map(|(number, slot)| encode(*number, slot)).collect();
        let place = run[0].0.rem_euclid(places) as u64;
        file.write_all_at(&[IoSlice::new(&bytes)], place * PLACE_BYTES as u64)?;
    }
    Ok(())
}

fn encode(number: i64, slot: &Slot) -> [u8; PLACE_BYTES] {
    let mut bytes = [0; PLACE_BYTES];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes[8..16].copy_from_slice(&slot.first.to_be_bytes());
    bytes[16..24].copy_from_slice(&slot.last.to_be_bytes());
    bytes[24..28].copy_from_slice(&slot.count.to_be_bytes());
    bytes[28..].copy_from_slice(&slot.magic.to_be_bytes());
    bytes
}

fn decode(bytes: &[u8; PLACE_BYTES]) -> (i64, Slot) {
    let long = |at: usize| i64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let int = |at: usize| i32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let slot = Slot {
        first: long(8),
        last: long(16),
        count: int(24),
        magic: int(28),
    };
    (long(0), slot)
}
