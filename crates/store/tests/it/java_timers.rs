//! What a Java broker makes of the timer files that it finds (spec: storage.md §16.3 to §16.7). It knows whole slots, follows
//! their chains wherever they lead, and looks at nothing that is not its own.

use std::collections::BTreeMap;
use std::path::Path;

use oxmq_store::disk::{Disk, SimulatedDisk};

const UNIT_BYTES: usize = 52;
const PLACE_BYTES: usize = 32;
const BLANK: i32 = 0xCBD4_3194_u32 as i32;
const ROLL: i32 = 2;
const DELETE: i32 = 4;

#[derive(Debug, Clone, Copy)]
pub(crate) struct JavaUnit {
    previous: i64,
    magic: i32,
    slot: i64,
    pub(crate) physical_offset: i64,
}

impl JavaUnit {
    pub(crate) fn rolls(&self) -> bool {
        self.magic & ROLL != 0
    }
}

/// Where a broker is that has read its files.
#[derive(Debug)]
pub(crate) struct JavaTimers {
    /// Number of the slot in each place, and its last unit.
    wheel: Vec<(i64, i64)>,
    log: BTreeMap<i64, JavaUnit>,
    end: i64,
    window: i64,
    /// The slot that is read next.
    pub(crate) read_slot: i64,
    pub(crate) queue_offset: i64,
}

impl JavaTimers {
    /// `queue_offset_of` tells the queue offset of a physical one.
    pub(crate) fn open(
        disk: &SimulatedDisk,
        (wheel_slots, window, precision_ms): (usize, i64, i64),
        queue_offset_of: impl Fn(i64) -> i64,
    ) -> JavaTimers {
        let check = bytes_of(disk, Path::new("/store/config/timercheck"));
        let wheel = bytes_of(disk, Path::new("/store/timerwheel"));
        let mut wheel: Vec<(i64, i64)> = wheel
            .chunks_exact(PLACE_BYTES)
            .map(|place| (long(place, 0), long(place, 16)))
            .collect();
        wheel.resize(2 * wheel_slots, (0, -1));
        let mut java = JavaTimers {
            wheel,
            log: BTreeMap::new(),
            end: 0,
            window,
            read_slot: long(&check, 0) / precision_ms,
            queue_offset: long(&check, 16),
        };
        java.read_log(disk, long(&check, 8), precision_ms);
        if let Some((_, unit)) = java.log.last_key_value() {
            java.queue_offset = queue_offset_of(unit.physical_offset) + 1;
        }
        java.queue_offset = java.queue_offset.min(long(&check, 24));
        java
    }

    /// Each unit of the last files becomes the last one of its slot.
    fn read_log(&mut self, disk: &SimulatedDisk, flushed: i64, precision_ms: i64) {
        let dir = Path::new("/store/timerlog");
        let mut names: Vec<String> = disk.list(dir).into_iter().flatten().map(|entry| entry.name).collect();
        names.sort();
        let files = names
            .iter()
            .map(|name| (name.parse().unwrap(), bytes_of(disk, &dir.join(name))));
        let files: Vec<(i64, Vec<u8>)> = files.collect();
        let from = flushed - files.first().map_or(0, |(_, file)| file.len() as i64);
        let first = files.iter().rposition(|(base, _)| *base <= from).unwrap_or(0);
        for (index, (base, file)) in files.iter().enumerate() {
            for (at, bytes) in file.chunks_exact(UNIT_BYTES).enumerate() {
                let position = base + (at * UNIT_BYTES) as i64;
                if int(bytes, 12) == BLANK || int(bytes, 0) != UNIT_BYTES as i32 {
                    break;
                }
                let unit = JavaUnit {
                    previous: long(bytes, 4),
                    magic: int(bytes, 12),
                    slot: (long(bytes, 16) + i64::from(int(bytes, 24))) / precision_ms,
                    physical_offset: long(bytes, 28),
                };
                self.log.insert(position, unit);
                self.end = position + UNIT_BYTES as i64;
                if index >= first {
                    *self.place(unit.slot) = (unit.slot, position);
                }
            }
        }
    }

    fn place(&mut self, slot: i64) -> &mut (i64, i64) {
        let places = self.wheel.len() as i64;
        &mut self.wheel[(slot % places) as usize]
    }

    /// Enters a message at the slot `write`. False when its slot is over: then it is handled at once.
    pub(crate) fn enter(&mut self, write: i64, wanted: i64, physical_offset: i64, cancels: bool) -> bool {
        let beyond = wanted - write - self.window;
        let (slot, roll) = match beyond {
            _ if wanted < write => return false,
            ..0 => (wanted, 0),
            _ if beyond < self.window / 3 => (write + self.window / 2, ROLL),
            _ => (write + self.window, ROLL),
        };
        let position = self.end;
        let place = self.place(slot);
        let previous = if place.0 == slot { place.1 } else { -1 };
        *place = (slot, position);
        let magic = 1 | roll | if cancels { DELETE } else { 0 };
        let unit = JavaUnit {
            previous,
            magic,
            slot,
            physical_offset,
        };
        self.log.insert(position, unit);
        self.end += UNIT_BYTES as i64;
        true
    }

    /// All that the next slot holds.
    pub(crate) fn read(&mut self) -> Vec<JavaUnit> {
        let slot = self.read_slot;
        self.read_slot += 1;
        let mut next = match *self.place(slot) {
            (number, last) if number == slot => last,
            _ => -1,
        };
        let mut units = Vec::new();
        while let Some(unit) = self.log.get(&next) {
            units.push(*unit);
            next = unit.previous;
        }
        units
    }
}

fn bytes_of(disk: &SimulatedDisk, path: &Path) -> Vec<u8> {
    let Ok(file) = disk.open(path) else {
        return Vec::new();
    };
    let mut bytes = vec![0; file.len().unwrap() as usize];
    let read = file.read_at(&mut bytes, 0).unwrap();
    assert_eq!(read, bytes.len());
    bytes
}

fn int(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn long(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(bytes[at..at + 8].try_into().unwrap())
}
