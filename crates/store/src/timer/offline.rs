//! Timer files for those who only look at them.

use super::checkpoint::Checkpoint;
use super::unit::{Found, UNIT_BYTES, Unit};

/// How far a broker was.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimerProgress {
    pub(crate) read_ms: i64,
    pub(crate) queue_offset: i64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct SeenUnit {
    pub(crate) position: i64,
    pub(crate) due_ms: i64,
    pub(crate) physical_offset: i64,
    pub(crate) size: i32,
    /// It goes round once more, or cancels another one: no message is delivered for it.
    pub(crate) moves_on: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub(crate) units: Vec<SeenUnit>,
    /// Behind the last unit.
    pub(crate) end: i64,
    /// Position of the first unit that is damaged although units follow.
    pub(crate) damaged: Option<i64>,
}

pub(crate) fn progress(file: &[u8]) -> Option<TimerProgress> {
    let checkpoint = Checkpoint::from_file(file)?;
    Some(TimerProgress {
        read_ms: checkpoint.read_ms,
        queue_offset: checkpoint.queue_offset,
    })
}

/// The units of a file of the timer log that begins at `base`.
pub(crate) fn scan(file: &[u8], base: i64) -> Scan {
    let mut scan = Scan {
        end: base,
        ..Scan::default()
    };
    let mut unknown = None;
    for (index, bytes) in file.chunks_exact(UNIT_BYTES).enumerate() {
        let position = base + (index * UNIT_BYTES) as i64;
        match Unit::decode(bytes, position) {
            Found::Blank => {
                scan.end = base + file.len() as i64;
                break;
            }
            Found::Nothing => {
                unknown.get_or_insert(position);
            }
            Found::Unit(unit) => {
                if let Some(position) = unknown.take() {
                    scan.damaged.get_or_insert(position);
                }
                scan.units.push(SeenUnit {
                    position,
                    due_ms: unit.due_ms(1000),
                    physical_offset: unit.physical_offset,
                    size: unit.size,
                    moves_on: unit.rolls() || unit.cancels(),
                });
                scan.end = position + UNIT_BYTES as i64;
            }
        }
    }
    scan
}
