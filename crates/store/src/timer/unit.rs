//! One unit of the timer log (spec: storage.md §16.4).
//!
//! ```text
//! 0  size i32 = 52     4 previous unit of the slot i64    12 magic i32      16 write time i64
//! 24 slot − write i32  28 physical offset i64             36 record size i32
//! 40 hash of the topic i32                                44 reserved i64
//! ```
//!
//! Java leaves the last field 0. Ours holds, in its upper half, how far behind its slot the message is due, in
//! milliseconds from 1 on, and in its lower half a CRC of everything before it.

pub(crate) const UNIT_BYTES: usize = 52;
/// A unit is only put where so many bytes are left behind it.
pub(crate) const BLANK_BYTES: usize = 16;
const BLANK_MAGIC: i32 = 0xCBD4_3194_u32 as i32;

const MAGIC_DEFAULT: i32 = 1;
const MAGIC_ROLL: i32 = 2;
const MAGIC_DELETE: i32 = 4;
const MAGIC_MAX: i32 = 15;

const CRC_AT: usize = 48;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unit {
    /// Position of the unit before this one in its slot, -1 if there is none.
    pub(crate) previous: i64,
    pub(crate) magic: i32,
    pub(crate) write_ms: i64,
    /// The time of its slot.
    pub(crate) slot_ms: i64,
    pub(crate) physical_offset: i64,
    pub(crate) size: i32,
    pub(crate) topic_hash: i32,
    /// Due so long behind its slot; 0 when the unit does not say.
    pub(crate) behind_slot_ms: u32,
}

/// What stands at a position of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Unit(Unit),
    /// The rest of the file is not used.
    Blank,
    Nothing,
}

impl Unit {
    pub(crate) fn magic(rolls: bool, cancels: bool) -> i32 {
        MAGIC_DEFAULT | if rolls { MAGIC_ROLL } else { 0 } | if cancels { MAGIC_DELETE } else { 0 }
    }

    pub(crate) fn new(write_ms: i64, slot_ms: i64, magic: i32) -> Unit {
        Unit {
            previous: -1,
            magic,
            write_ms,
            slot_ms,
            physical_offset: 0,
            size: 0,
            topic_hash: 0,
            behind_slot_ms: 1,
        }
    }

    /// Its message is further away than the wheel reaches, and goes round once more.
    pub(crate) fn rolls(&self) -> bool {
        self.magic & MAGIC_ROLL != 0
    }

    /// Its message cancels another one, now that it is in the same slot.
    pub(crate) fn cancels(&self) -> bool {
        self.magic & MAGIC_DELETE != 0 && !self.rolls()
    }

    /// Its message cancels another one, wherever that is.
    pub(crate) fn is_cancellation(&self) -> bool {
        self.magic & MAGIC_DELETE != 0
    }

    /// What it adds to the messages of its slot: a cancellation takes one away.
    pub(crate) fn count(&self) -> i32 {
        if self.cancels() { -1 } else { 1 }
    }

    pub(crate) fn due_ms(&self, precision_ms: i64) -> i64 {
        match self.behind_slot_ms {
            0 => self.slot_ms + precision_ms,
            behind => self.slot_ms + i64::from(behind),
        }
    }

    pub(crate) fn encode(&self) -> [u8; UNIT_BYTES] {
        let mut bytes = [0; UNIT_BYTES];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &(UNIT_BYTES as i32).to_be_bytes());
        put(4, &self.previous.to_be_bytes());
        put(12, &self.magic.to_be_bytes());
        put(16, &self.write_ms.to_be_bytes());
        put(24, &((self.slot_ms - self.write_ms) as i32).to_be_bytes());
        put(28, &self.physical_offset.to_be_bytes());
        put(36, &self.size.to_be_bytes());
        put(40, &self.topic_hash.to_be_bytes());
        if self.behind_slot_ms > 0 {
            put(44, &self.behind_slot_ms.to_be_bytes());
            let crc = crc32fast::hash(&bytes[..CRC_AT]);
            bytes[CRC_AT..].copy_from_slice(&crc.to_be_bytes());
        }
        bytes
    }

    /// Reads what stands at `position`; `bytes` are at least a unit, or what is left of the file.
    pub(crate) fn decode(bytes: &[u8], position: i64) -> Found {
        let int = |at: usize| {
            bytes
                .get(at..at + 4)
                .map(|four| i32::from_be_bytes(four.try_into().expect("four bytes")))
        };
        let long = |at: usize| i64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        if int(12) == Some(BLANK_MAGIC) {
            return Found::Blank;
        }
        if bytes.len() < UNIT_BYTES || int(0) != Some(UNIT_BYTES as i32) {
            return Found::Nothing;
        }
        let (magic, delay, size) = match (int(12), int(24), int(36)) {
            (Some(magic @ 0..=MAGIC_MAX), Some(delay), Some(size @ 1..)) => (magic, delay, size),
            _ => return Found::Nothing,
        };
        let unit = Unit {
            previous: long(4),
            magic,
            write_ms: long(16),
            slot_ms: long(16).wrapping_add(delay.into()),
            physical_offset: long(28),
            size,
            topic_hash: int(40).unwrap_or(0),
            behind_slot_ms: int(44).unwrap_or(0) as u32,
        };
        let crc = crc32fast::hash(&bytes[..CRC_AT]) as i32;
        let is_whole = long(44) == 0 || (unit.behind_slot_ms > 0 && int(CRC_AT) == Some(crc));
        match is_whole && unit.physical_offset >= 0 && (-1..position).contains(&unit.previous) {
            true => Found::Unit(unit),
            false => Found::Nothing,
        }
    }
}

/// What stands behind the last unit of a file.
pub(crate) fn blank(remaining: i32) -> [u8; BLANK_BYTES] {
    let mut bytes = [0; BLANK_BYTES];
    bytes[..4].copy_from_slice(&remaining.to_be_bytes());
    bytes[12..].copy_from_slice(&BLANK_MAGIC.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit() -> Unit {
        Unit {
            previous: 52,
            physical_offset: 1 << 33,
            size: 300,
            topic_hash: -7,
            behind_slot_ms: 123,
            ..Unit::new(1_700_000_000_000, 1_700_000_060_000, Unit::magic(true, true))
        }
    }

    #[test]
    fn a_unit_is_read_back_and_damage_is_seen() {
        let bytes = unit().encode();
        assert_eq!(Unit::decode(&bytes, 104), Found::Unit(unit()));
        assert!(unit().rolls() && !unit().cancels());
        assert_eq!(unit().due_ms(1000), 1_700_000_060_123);
        assert_eq!(Unit::decode(&bytes, 52), Found::Nothing, "a chain only goes back");
        for at in 0..UNIT_BYTES {
            let mut damaged = bytes;
            damaged[at] ^= 1;
            assert_eq!(Unit::decode(&damaged, 104), Found::Nothing, "byte {at}");
        }
        assert_eq!(Unit::decode(&bytes[..30], 104), Found::Nothing);
        assert_eq!(Unit::decode(&blank(16), 104), Found::Blank);
        assert_eq!(Unit::decode(&[0; UNIT_BYTES], 0), Found::Nothing);
    }

    #[test]
    fn a_unit_of_java_is_due_when_its_slot_is_over() {
        let mut bytes = unit().encode();
        bytes[44..].fill(0);
        let Found::Unit(found) = Unit::decode(&bytes, 104) else {
            panic!("no unit");
        };
        assert_eq!(found.due_ms(1000), 1_700_000_061_000);
    }
}
