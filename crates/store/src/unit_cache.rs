//! What lies ahead of the readers of consume queues: one that takes a few messages at a time gets several of its pulls out
//! of one read of the file.
//!
//! Units never change once they are in a file; more may follow. A part therefore stays true until its queue's files are
//! removed, which whoever removes them has to say.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// At most so much of a queue is read ahead.
const PART_BYTES: usize = 4096;
const PARTS: usize = 256;

#[derive(Debug)]
pub(crate) struct UnitCache {
    part_bytes: usize,
    parts: Box<[Mutex<Part>]>,
    /// How often something was forgotten: what was read before is not kept after it.
    forgotten: AtomicU64,
}

/// Bytes of one queue from `start` on, as far as they were there when they were read.
#[derive(Debug, Default)]
struct Part {
    serial: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl UnitCache {
    pub(crate) fn new(unit_bytes: usize) -> UnitCache {
        UnitCache {
            part_bytes: PART_BYTES - PART_BYTES % unit_bytes,
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
            forgotten: AtomicU64::new(0),
        }
    }

    /// The files of this queue are gone.
    pub(crate) fn forget(&self, serial: u64) {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
        for part in &self.parts {
            let mut part = part.lock();
            if part.serial == serial {
                *part = Part::default();
            }
        }
    }

    /// Fills `buffer` from this position of a queue on. What is not in memory comes by `read`, which gets a buffer that may
    /// be larger, but not beyond `available`, and says how much of it was there, in whole units. What is filled at once does
    /// not go beyond the end of a part.
    pub(crate) fn read(
        &self,
        serial: u64,
        position: u64,
        available: usize,
        buffer: &mut [u8],
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let number = position / self.part_bytes as u64;
        let room = self.part_bytes - (position % self.part_bytes as u64) as usize;
        let wanted = buffer.len().min(room).min(available);
        let slot = serial.wrapping_mul(31).wrapping_add(number) as usize % PARTS;
        let forgotten = self.forgotten.load(Ordering::SeqCst);
        let mut bytes = {
            let mut part = self.parts[slot].lock();
            if let Some(bytes) = part.get(serial, position, wanted) {
                buffer[..wanted].copy_from_slice(bytes);
                return Ok(wanted);
            }
            std::mem::take(&mut part.bytes)
        };
        // Nobody waits for the lock while somebody waits for the disk.
        bytes.resize(available.min(room), 0);
        let read = read(&mut bytes)?;
        bytes.truncate(read);
        let filled = read.min(wanted);
        buffer[..filled].copy_from_slice(&bytes[..filled]);
        let mut part = self.parts[slot].lock();
        if self.forgotten.load(Ordering::SeqCst) == forgotten {
            *part = Part {
                serial,
                start: position,
                bytes,
            };
        }
        Ok(filled)
    }
}

impl Part {
    fn get(&self, serial: u64, position: u64, len: usize) -> Option<&[u8]> {
        let at = usize::try_from(position.checked_sub(self.start)?).ok()?;
        self.bytes
            .get(at..at.checked_add(len)?)
            .filter(|_| self.serial == serial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a file of 20-byte units through the cache, and tells how many reads of the file that took.
    fn read(cache: &UnitCache, serial: u64, file: &[u8], position: usize, buffer: &mut [u8]) -> (usize, usize) {
        let (mut done, mut reads) = (0, 0);
        while done < buffer.len().min(file.len() - position) {
            let at = position + done;
            let filled = cache.read(serial, at as u64, file.len() - at, &mut buffer[done..], |out| {
                reads += 1;
                out.copy_from_slice(&file[at..at + out.len()]);
                Ok(out.len())
            });
            match filled.unwrap() {
                0 => break,
                filled => done += filled,
            }
        }
        (done, reads)
    }

    #[test]
    fn readers_get_what_is_in_the_file_and_several_pulls_out_of_one_read() {
        let cache = UnitCache::new(20);
        let file: Vec<u8> = (0..60_000_u32).map(|at| (at / 20) as u8).collect();
        let mut all = 0;
        for at in (0..file.len()).step_by(640) {
            for serial in [1, 2] {
                let mut buffer = [0; 640];
                let (done, reads) = read(&cache, serial, &file, at, &mut buffer);
                assert_eq!(buffer[..done], file[at..(at + 640).min(file.len())]);
                all += reads;
            }
        }
        assert_eq!(all, 2 * file.len().div_ceil(4080));
    }

    #[test]
    fn what_is_written_later_is_seen_and_another_queue_does_not_get_it() {
        let cache = UnitCache::new(20);
        let (file, other) = ([7; 200], [9; 200]);
        let mut buffer = [0; 100];
        assert_eq!(read(&cache, 1, &file[..60], 0, &mut buffer[..60]), (60, 1));
        assert_eq!(read(&cache, 1, &file, 40, &mut buffer), (100, 1));
        assert_eq!(buffer, [7; 100]);
        assert_eq!(read(&cache, 1 + PARTS as u64 * 31, &other, 40, &mut buffer), (100, 1));
        assert_eq!(buffer, [9; 100]);
    }

    #[test]
    fn a_read_that_fails_leaves_nothing_behind() {
        let cache = UnitCache::new(20);
        let mut buffer = [0; 20];
        let failed = cache.read(1, 0, 200, &mut buffer, |_| Err(io::ErrorKind::WouldBlock.into()));
        assert!(failed.is_err());
        assert_eq!(read(&cache, 1, &[7; 200], 0, &mut buffer), (20, 1));
        assert_eq!(buffer, [7; 20]);
    }
}
