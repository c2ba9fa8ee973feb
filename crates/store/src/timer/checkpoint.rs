//! `config/timercheck`: how far the timer log is durable, and how far messages were delivered (spec: storage.md §16.6).
//!
//! ```text
//! 0  read time i64     8  timer log flushed i64     16 queue offset i64     24 queue offset of the master i64
//! 32 state version i64 40 timestamp i64             48 counter i64          56 zeros
//! 64 and 288: ours, in turn
//!    0  magic i64      8  counter i64               16 the first four before                48 the first four now
//!    80 slot i64       88 due i64                   96 position i64      104 commit log i64 112 precision i64
//!    120 crc u32
//! ```
//!
//! Java reads and writes the first 56 bytes only. Ours is written first, over the older of its two places, and names
//! what stands in Java's part before and after: a stop between or within the writes leaves one of ours that is whole
//! and agrees with Java's part. Where none agrees, a Java broker has worked here since. Everything lies in one sector.

use std::io::{self, IoSlice};
use std::path::Path;

use super::Progress;
use crate::config_file::create_dir_durably;
use crate::disk::Disk;

const FILE_BYTES: u64 = 4096;
/// The form in which the file goes over the wire.
pub const WIRE_BYTES: usize = 56;
const OURS_AT: [usize; 2] = [64, 288];
const OURS_BYTES: usize = 124;
const CRC_AT: usize = 120;
const USED_BYTES: usize = 512;
/// What both parts hold.
const SHARED_BYTES: usize = 32;
const MAGIC: i64 = i64::from_be_bytes(*b"OxMQtim1");

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) read_ms: i64,
    /// Timer log positions before this are durable.
    pub(crate) log_flushed: i64,
    /// Queue offset of the next message to be entered.
    pub(crate) queue_offset: i64,
    pub(crate) master_queue_offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) counter: i64,
    pub(crate) ours: Option<Ours>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ours {
    pub(crate) progress: Progress,
    /// Deliveries behind `progress` lie behind this physical offset.
    pub(crate) delivered_from: i64,
    pub(crate) precision_ms: i64,
    /// Java's part as it was before.
    pub(crate) before: [i64; 4],
}

impl Checkpoint {
    pub(crate) fn load(disk: &dyn Disk, path: &Path) -> io::Result<Checkpoint> {
        let mut bytes = [0; USED_BYTES];
        let file = match disk.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Checkpoint::default()),
            other => other?,
        };
        file.read_at(&mut bytes, 0)?;
        let checkpoint = Checkpoint::decode(&bytes);
        if bytes[..SHARED_BYTES] != checkpoint.wire()[..SHARED_BYTES] {
            // Java's part was half written. Finished now, it is what the next one of ours names.
            file.write_all_at(&[IoSlice::new(&checkpoint.wire())], 0)?;
            file.sync_data()?;
        }
        Ok(checkpoint)
    }

    /// What a file holds, if it is long enough.
    pub(crate) fn from_file(file: &[u8]) -> Option<Checkpoint> {
        Some(Checkpoint::decode(file.first_chunk()?))
    }

    /// Writes the file and makes it durable.
    pub(crate) fn save(&self, disk: &dyn Disk, path: &Path) -> io::Result<()> {
        let file = match disk.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let dir = path.parent().unwrap_or(Path::new("/"));
                create_dir_durably(disk, dir)?;
                let file = disk.create(path)?;
                file.set_len(FILE_BYTES)?;
                disk.sync_dir(dir)?;
                file
            }
            other => other?,
        };
        if file.len()? < FILE_BYTES {
            file.set_len(FILE_BYTES)?;
        }
        if let Some(ours) = &self.ours {
            let at = OURS_AT[self.counter.rem_euclid(2) as usize];
            file.write_all_at(&[IoSlice::new(&ours.encode(self))], at as u64)?;
        }
        file.write_all_at(&[IoSlice::new(&self.wire())], 0)?;
        file.sync_data()
    }

    /// Java's part.
    pub(crate) fn wire(&self) -> [u8; WIRE_BYTES] {
        let mut bytes = [0; WIRE_BYTES];
        let mut put = |at: usize, value: i64| bytes[at..at + 8].copy_from_slice(&value.to_be_bytes());
        for (index, value) in self.shared().into_iter().enumerate() {
            put(8 * index, value);
        }
        put(40, self.timestamp);
        put(48, self.counter);
        bytes
    }

    /// What stands in both parts.
    pub(crate) fn shared(&self) -> [i64; 4] {
        [
            self.read_ms,
            self.log_flushed,
            self.queue_offset,
            self.master_queue_offset,
        ]
    }

    fn decode(bytes: &[u8; USED_BYTES]) -> Checkpoint {
        let javas = Checkpoint {
            read_ms: long(bytes, 0),
            log_flushed: long(bytes, 8),
            queue_offset: long(bytes, 16),
            master_queue_offset: long(bytes, 24),
            timestamp: long(bytes, 40),
            counter: long(bytes, 48),
            ours: None,
        };
        let ours = OURS_AT
            .into_iter()
            .filter_map(|at| Ours::decode(&bytes[at..at + OURS_BYTES], &bytes[..SHARED_BYTES]));
        let newest = ours.max_by_key(|(counter, _, _)| *counter);
        match newest {
            None => javas,
            // Java's part may be half written.
            Some((counter, [read_ms, log_flushed, queue_offset, master_queue_offset], ours)) => Checkpoint {
                read_ms,
                log_flushed,
                queue_offset,
                master_queue_offset,
                timestamp: javas.timestamp,
                counter,
                ours: Some(ours),
            },
        }
    }
}

impl Ours {
    fn encode(&self, with: &Checkpoint) -> [u8; OURS_BYTES] {
        let mut bytes = [0; OURS_BYTES];
        let mut put = |at: usize, value: i64| bytes[at..at + 8].copy_from_slice(&value.to_be_bytes());
        put(0, MAGIC);
        put(8, with.counter);
        for (index, (before, now)) in self.before.into_iter().zip(with.shared()).enumerate() {
            put(16 + 8 * index, before);
            put(48 + 8 * index, now);
        }
        put(80, self.progress.slot);
        put(88, self.progress.due_ms);
        put(96, self.progress.position);
        put(104, self.delivered_from);
        put(112, self.precision_ms);
        let crc = crc32fast::hash(&bytes[..CRC_AT]).to_be_bytes();
        bytes[CRC_AT..].copy_from_slice(&crc);
        bytes
    }

    /// Its counter, what it says of Java's part, and itself, if it is whole and each byte of Java's part is one of those
    /// that it names.
    fn decode(bytes: &[u8], shared: &[u8]) -> Option<(i64, [i64; 4], Ours)> {
        let (before, now) = (&bytes[16..16 + SHARED_BYTES], &bytes[48..48 + SHARED_BYTES]);
        let agrees = shared
            .iter()
            .zip(before.iter().zip(now))
            .all(|(byte, (before, now))| byte == before || byte == now);
        let crc = crc32fast::hash(&bytes[..CRC_AT]).to_be_bytes();
        if long(bytes, 0) != MAGIC || bytes[CRC_AT..] != crc || !agrees {
            return None;
        }
        let four = |at: usize| std::array::from_fn(|index| long(bytes, at + 8 * index));
        let ours = Ours {
            progress: Progress {
                slot: long(bytes, 80),
                due_ms: long(bytes, 88),
                position: long(bytes, 96),
            },
            delivered_from: long(bytes, 104),
            precision_ms: long(bytes, 112),
            before: four(16),
        };
        Some((long(bytes, 8), four(48), ours))
    }
}

fn long(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SimulatedDisk;

    #[test]
    fn our_part_counts_as_long_as_nobody_else_has_written() {
        let disk = SimulatedDisk::new();
        let path = Path::new("/store/config/timercheck");
        assert_eq!(Checkpoint::load(&disk, path).unwrap(), Checkpoint::default());
        let checkpoint = Checkpoint {
            read_ms: 17_000,
            log_flushed: 520,
            queue_offset: 10,
            master_queue_offset: 10,
            timestamp: 5,
            counter: 6,
            ours: Some(Ours {
                progress: Progress {
                    slot: 17,
                    due_ms: 17_500,
                    position: 104,
                },
                delivered_from: 99,
                precision_ms: 1000,
                before: [0; 4],
            }),
        };
        checkpoint.save(&disk, path).unwrap();
        assert_eq!(Checkpoint::load(&disk, path).unwrap(), checkpoint);
        assert_eq!(checkpoint.wire()[7..9], [104, 0]);
        let next = Checkpoint {
            read_ms: 18_000,
            counter: 7,
            ours: checkpoint.ours.map(|ours| Ours {
                before: checkpoint.shared(),
                ..ours
            }),
            ..checkpoint
        };
        next.save(&disk, path).unwrap();
        assert_eq!(Checkpoint::load(&disk, path).unwrap(), next);
        // A stop before Java's part is written.
        let file = disk.open(path).unwrap();
        file.write_all_at(&[IoSlice::new(&checkpoint.wire())], 0).unwrap();
        assert_eq!(Checkpoint::load(&disk, path).unwrap().read_ms, 18_000);
        // A stop within ours.
        file.write_all_at(&[IoSlice::new(&checkpoint.wire())], 0).unwrap();
        disk.flip_bit(path, 300, 0);
        assert_eq!(Checkpoint::load(&disk, path).unwrap(), checkpoint);
        // Java moves the read time.
        disk.flip_bit(path, 5, 0);
        assert_eq!(Checkpoint::load(&disk, path).unwrap().ours, None);
    }
}
