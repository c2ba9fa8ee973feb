//! The checkpoint file: Java's times, and the exact recovery position of ours (spec: storage.md §8.1).
//!
//! ```text
//! 0   physicMsgTimestamp i64    8  logicsMsgTimestamp i64   16 indexMsgTimestamp i64
//! 24  masterFlushedOffset i64   32 confirmPhyOffset i64     40 zeros
//! 64  magic i64                 72 recovery position i64    80 start of the record before it i64
//! 88  index position i64        96 newest index file i64    104 its entry count i32   108 crc of 64..108 i32
//! ```
//!
//! Java reads and writes the first 40 bytes only and leaves the rest as it is: after a Java broker has run on the
//! directory our position is older than need be, not wrong. It still has to be proved before use, because Java may also
//! have cut the log. Everything lies in one sector, so that a write of it is whole or absent.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile};
use crate::index::IndexMark;

const FILE_BYTES: usize = 4096;
const OURS_AT: usize = 64;
const USED_BYTES: usize = 112;
const MAGIC: i64 = i64::from_be_bytes(*b"OxMQpos1");

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) physic_msg_timestamp: i64,
    pub(crate) logics_msg_timestamp: i64,
    pub(crate) index_msg_timestamp: i64,
    pub(crate) master_flushed_offset: i64,
    pub(crate) confirm_phy_offset: i64,
    pub(crate) position: Option<RecoveryPosition>,
}

/// Records before `offset`, and their consume-queue entries, are durable; so is the index up to its own mark.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RecoveryPosition {
    pub(crate) offset: i64,
    /// Start of the record before `offset`, -1 if there is none: what it holds proves the position.
    pub(crate) last_record: i64,
    pub(crate) index: IndexMark,
}

#[derive(Debug)]
pub(crate) struct CheckpointFile {
    file: Arc<dyn DiskFile>,
}

impl CheckpointFile {
    /// Opens the file, or creates it, and reads what it says.
    pub(crate) fn open(disk: &dyn Disk, path: &Path) -> io::Result<(CheckpointFile, Checkpoint)> {
        let file = match disk.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = disk.create(path)?;
                file.set_len(FILE_BYTES as u64)?;
                disk.sync_dir(path.parent().unwrap_or(Path::new("/")))?;
                file
            }
            other => other?,
        };
        if file.len()? < FILE_BYTES as u64 {
            file.set_len(FILE_BYTES as u64)?;
        }
        let mut bytes = [0; USED_BYTES];
        file.read_at(&mut bytes, 0)?;
        Ok((CheckpointFile { file }, Checkpoint::decode(&bytes)))
    }

    pub(crate) fn write(&self, checkpoint: &Checkpoint) -> io::Result<()> {
        self.file.write_all_at(&[IoSlice::new(&checkpoint.encode())], 0)?;
        self.file.sync_data()
    }
}

impl Checkpoint {
    /// The time up to which Java trusts log and consume queues.
    pub(crate) fn min_timestamp(&self) -> i64 {
        (self.physic_msg_timestamp.min(self.logics_msg_timestamp) - 3_000).max(0)
    }

    /// What a file holds, if it is long enough.
    pub(crate) fn from_file(file: &[u8]) -> Option<Checkpoint> {
        Some(Checkpoint::decode(file.first_chunk()?))
    }

    fn decode(bytes: &[u8; USED_BYTES]) -> Checkpoint {
        let long = |at: usize| i64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let int = |at: usize| i32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let crc = crc32fast::hash(&bytes[OURS_AT..USED_BYTES - 4]) as i32;
        let is_ours = long(OURS_AT) == MAGIC && int(USED_BYTES - 4) == crc;
        Checkpoint {
            physic_msg_timestamp: long(0),
            logics_msg_timestamp: long(8),
            index_msg_timestamp: long(16),
            master_flushed_offset: long(24),
            confirm_phy_offset: long(32),
            position: is_ours.then(|| RecoveryPosition {
                offset: long(72),
                last_record: long(80),
                index: IndexMark {
                    position: long(88),
                    file: long(96),
                    count: int(104),
                    end_timestamp: long(16),
                },
            }),
        }
    }

    fn encode(&self) -> [u8; USED_BYTES] {
        let mut bytes = [0; USED_BYTES];
        let mut put = |at: usize, value: i64| bytes[at..at + 8].copy_from_slice(&value.to_be_bytes());
        put(0, self.physic_msg_timestamp);
        put(8, self.logics_msg_timestamp);
        put(16, self.index_msg_timestamp);
        put(24, self.master_flushed_offset);
        put(32, self.confirm_phy_offset);
        if let Some(position) = &self.position {
            put(OURS_AT, MAGIC);
            put(72, position.offset);
            put(80, position.last_record);
            put(88, position.index.position);
            put(96, position.index.file);
            bytes[104..108].copy_from_slice(&position.index.count.to_be_bytes());
            let crc = crc32fast::hash(&bytes[OURS_AT..USED_BYTES - 4]);
            bytes[USED_BYTES - 4..].copy_from_slice(&crc.to_be_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SimulatedDisk;

    #[test]
    fn what_was_written_is_read_and_damage_only_loses_our_part() {
        let disk = SimulatedDisk::new();
        let path = Path::new("/checkpoint");
        let (file, found) = CheckpointFile::open(&disk, path).unwrap();
        assert_eq!(found, Checkpoint::default());
        let checkpoint = Checkpoint {
            physic_msg_timestamp: 9_000,
            logics_msg_timestamp: 8_000,
            index_msg_timestamp: 7_000,
            master_flushed_offset: 1,
            confirm_phy_offset: 2,
            position: Some(RecoveryPosition {
                offset: 500,
                last_record: 400,
                index: IndexMark {
                    position: 300,
                    file: 20_260_101_000_000_000,
                    count: 17,
                    end_timestamp: 7_000,
                },
            }),
        };
        file.write(&checkpoint).unwrap();
        assert_eq!(CheckpointFile::open(&disk, path).unwrap().1, checkpoint);
        assert_eq!(checkpoint.min_timestamp(), 5_000);
        assert_eq!(disk.open(path).unwrap().len().unwrap(), 4096);
        disk.flip_bit(path, 75, 3);
        let damaged = CheckpointFile::open(&disk, path).unwrap().1;
        assert_eq!(
            damaged,
            Checkpoint {
                position: None,
                ..checkpoint
            }
        );
    }
}
