//! The timer log: units in files of one size, `timerlog/<20 digits>` (spec: storage.md §16.4).
//!
//! Units are gathered in memory and written together. Files have their full length from the start, as Java demands.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::unit::{BLANK_BYTES, Found, UNIT_BYTES, Unit, blank};
use crate::config_file::create_dir_durably;
use crate::disk::{Disk, DiskFile};
use crate::segments::{offset_name, parse_offset_name};

/// Read at once: chains often go back within a page.
const BLOCK_BYTES: i64 = 4096;
/// Read at once when the log is read in order.
const SCAN_BYTES: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct TimerLog {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    file_bytes: i64,
    /// By the position where each starts.
    files: BTreeMap<i64, Arc<dyn DiskFile>>,
    /// Behind the last unit that is written.
    written: i64,
    /// Units behind `written`, all for the file there.
    pending: Vec<u8>,
    /// Written to since the last [`TimerLog::take_unsynced`].
    unsynced: BTreeMap<i64, Arc<dyn DiskFile>>,
    is_dir_unsynced: bool,
    block: Block,
}

/// The files of a timer log by the position where each starts.
#[derive(Debug)]
pub(crate) struct LogFiles {
    file_bytes: i64,
    files: BTreeMap<i64, Arc<dyn DiskFile>>,
}

#[derive(Debug, Default)]
struct Block {
    position: i64,
    bytes: Vec<u8>,
}

/// What must be made durable.
#[derive(Debug)]
pub(crate) struct Unsynced {
    files: Vec<Arc<dyn DiskFile>>,
    dir: Option<PathBuf>,
}

impl TimerLog {
    /// Finds the files; nothing is known of their contents yet.
    pub(crate) fn open(disk: Arc<dyn Disk>, dir: PathBuf, file_bytes: i64) -> io::Result<TimerLog> {
        let mut files = BTreeMap::new();
        let entries = match disk.list(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other?,
        };
        for entry in entries.iter().filter(|entry| !entry.is_dir) {
            let Some(base) = parse_offset_name(&entry.name) else {
                continue;
            };
            if entry.len != file_bytes as u64 {
                // A stop while the file was made.
                let file = disk.open(&dir.join(&entry.name))?;
                file.set_len(file_bytes as u64)?;
            }
            files.insert(base, disk.open(&dir.join(&entry.name))?);
        }
        let written = files.first_key_value().map_or(0, |(base, _)| *base);
        Ok(TimerLog {
            disk,
            dir,
            file_bytes,
            files,
            written,
            pending: Vec::new(),
            unsynced: BTreeMap::new(),
            is_dir_unsynced: false,
            block: Block::default(),
        })
    }

    pub(crate) fn min(&self) -> i64 {
        self.files.first_key_value().map_or(self.written, |(base, _)| *base)
    }

    pub(crate) fn file_bytes(&self) -> i64 {
        self.file_bytes
    }

    /// Position behind the last unit.
    pub(crate) fn end(&self) -> i64 {
        self.written + self.pending.len() as i64
    }

    fn base_of(&self, position: i64) -> i64 {
        position - position.rem_euclid(self.file_bytes)
    }

    /// From here on Java reads the log when it starts: the beginning of a file, one file or two before the end.
    pub(crate) fn last_files(&self) -> i64 {
        self.base_of(self.end() - self.file_bytes).max(self.min())
    }

    /// Where the next unit will stand. Closes a file that is full.
    pub(crate) fn next_position(&mut self) -> io::Result<i64> {
        let left = self.base_of(self.end()) + self.file_bytes - self.end();
        if left >= (UNIT_BYTES + BLANK_BYTES) as i64 {
            return Ok(self.end());
        }
        self.write_out()?;
        self.write_at(self.written, &blank(left as i32))?;
        self.written += left;
        Ok(self.written)
    }

    /// Adds a unit at [`TimerLog::next_position`].
    pub(crate) fn push(&mut self, unit: &Unit) {
        self.pending.extend_from_slice(&unit.encode());
    }

    /// Writes the units that are in memory. After an error they are still there.
    pub(crate) fn write_out(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let pending = std::mem::take(&mut self.pending);
        let written = self.write_at(self.written, &pending);
        match written {
            Ok(()) => self.written += pending.len() as i64,
            Err(_) => self.pending = pending,
        }
        written
    }

    /// Replaces a unit.
    pub(crate) fn rewrite(&mut self, position: i64, unit: &Unit) -> io::Result<()> {
        self.write_out()?;
        self.write_at(position, &unit.encode())
    }

    fn write_at(&mut self, position: i64, bytes: &[u8]) -> io::Result<()> {
        let base = self.base_of(position);
        let file = match self.files.get(&base) {
            Some(file) => Arc::clone(file),
            None => self.create(base)?,
        };
        self.block.bytes.clear();
        file.write_all_at(&[IoSlice::new(bytes)], (position - base) as u64)?;
        self.unsynced.insert(base, file);
        Ok(())
    }

    fn create(&mut self, base: i64) -> io::Result<Arc<dyn DiskFile>> {
        create_dir_durably(&*self.disk, &self.dir)?;
        let file = self.disk.create(&self.dir.join(offset_name(base)))?;
        file.set_len(self.file_bytes as u64)?;
        self.is_dir_unsynced = true;
        self.files.insert(base, Arc::clone(&file));
        Ok(file)
    }

    /// The unit at a position that some chain names.
    pub(crate) fn read(&mut self, position: i64) -> io::Result<Option<Unit>> {
        let bytes = match usize::try_from(position - self.written) {
            Ok(at) => self.pending.get(at..).unwrap_or_default(),
            Err(_) => self.block_at(position)?,
        };
        Ok(match Unit::decode(bytes, position) {
            Found::Unit(unit) => Some(unit),
            Found::Blank | Found::Nothing => None,
        })
    }

    fn block_at(&mut self, position: i64) -> io::Result<&[u8]> {
        let base = self.base_of(position);
        let at = position - self.block.position;
        if at < 0 || at + UNIT_BYTES as i64 > self.block.bytes.len() as i64 {
            let Some(file) = self.files.get(&base) else {
                return Ok(&[]);
            };
            // What comes before is what a chain asks for next.
            let start = (position + UNIT_BYTES as i64 - BLOCK_BYTES).max(base);
            self.block.bytes.resize((position - start) as usize + UNIT_BYTES, 0);
            let read = file.read_at(&mut self.block.bytes, (start - base) as u64)?;
            self.block.bytes.truncate(read);
            self.block.position = start;
        }
        let at = (position - self.block.position) as usize;
        Ok(self.block.bytes.get(at..).unwrap_or_default())
    }

    /// The files as they are now, to be read beside what goes on here.
    pub(crate) fn files(&self) -> LogFiles {
        LogFiles {
            file_bytes: self.file_bytes,
            files: self.files.clone(),
        }
    }

    /// Makes `end` the end: with `clear`, nothing stands behind it any more.
    pub(crate) fn end_at(&mut self, end: i64, clear: bool) -> io::Result<()> {
        self.written = end;
        self.block.bytes.clear();
        if !clear {
            return Ok(());
        }
        let base = self.base_of(end);
        for later in self.files.split_off(&(base + 1)).into_keys() {
            self.disk.remove_file(&self.dir.join(offset_name(later)))?;
            self.is_dir_unsynced = true;
        }
        if let Some(file) = self.files.get(&base) {
            file.zero_range((end - base) as u64, (base + self.file_bytes - end) as u64)?;
            self.unsynced.insert(base, Arc::clone(file));
        }
        Ok(())
    }

    /// Writes the units from a position on over themselves, so that a sync has to write them.
    pub(crate) fn rewrite_from(&mut self, from: i64) -> io::Result<()> {
        let mut position = from.max(self.min());
        let mut bytes = Vec::new();
        while position < self.written {
            let base = self.base_of(position);
            let end = self.written.min(base + self.file_bytes);
            bytes.resize((end - position).min(SCAN_BYTES as i64) as usize, 0);
            if let Some(file) = self.files.get(&base) {
                let at = (position - base) as u64;
                let read = file.read_at(&mut bytes, at)?;
                file.write_all_at(&[IoSlice::new(&bytes[..read])], at)?;
            }
            position += bytes.len() as i64;
        }
        Ok(())
    }

    /// Removes the first files while all of their records are gone from the commit log.
    pub(crate) fn remove_expired(&mut self, log_min: i64) -> io::Result<()> {
        let last_unit_at = self.file_bytes
            - (self.file_bytes - BLANK_BYTES as i64) % UNIT_BYTES as i64
            - (BLANK_BYTES + UNIT_BYTES) as i64;
        while let Some((&base, _)) = self.files.first_key_value()
            && base + self.file_bytes <= self.written
        {
            let is_expired = match self.read(base + last_unit_at)? {
                Some(unit) => unit.physical_offset < log_min,
                None => false,
            };
            if !is_expired {
                break;
            }
            self.disk.remove_file(&self.dir.join(offset_name(base)))?;
            self.files.remove(&base);
            self.unsynced.remove(&base);
            self.is_dir_unsynced = true;
        }
        Ok(())
    }

    pub(crate) fn is_unsynced(&self) -> bool {
        !self.unsynced.is_empty()
    }

    pub(crate) fn take_unsynced(&mut self) -> Unsynced {
        let is_dir_unsynced = std::mem::take(&mut self.is_dir_unsynced);
        Unsynced {
            files: std::mem::take(&mut self.unsynced).into_values().collect(),
            dir: is_dir_unsynced.then(|| self.dir.clone()),
        }
    }

    /// The files that reach beyond a position count as written to.
    pub(crate) fn mark_unsynced(&mut self, from: i64) {
        let reach = self.files.range(self.base_of(from)..);
        self.unsynced
            .extend(reach.map(|(base, file)| (*base, Arc::clone(file))));
        self.is_dir_unsynced = !self.files.is_empty();
    }
}

impl LogFiles {
    /// Calls `found` with each unit from `from` on, until it says no or there is none. Returns where that is.
    pub(crate) fn scan(&self, from: i64, mut found: impl FnMut(i64, &Unit) -> bool) -> io::Result<i64> {
        let mut position = from;
        let mut buffer = Vec::new();
        while let Some(file) = self.files.get(&self.base_of(position)) {
            let base = self.base_of(position);
            let left = (base + self.file_bytes - position) as usize;
            buffer.resize(left.min(SCAN_BYTES / UNIT_BYTES * UNIT_BYTES), 0);
            let read = file.read_at(&mut buffer, (position - base) as u64)?;
            let mut at = 0;
            while at < read {
                match Unit::decode(&buffer[at..read], position) {
                    Found::Unit(unit) if found(position, &unit) => {}
                    Found::Blank => {
                        position = base + self.file_bytes;
                        break;
                    }
                    Found::Unit(_) | Found::Nothing => return Ok(position),
                }
                at += UNIT_BYTES;
                position += UNIT_BYTES as i64;
            }
            if read == 0 {
                break;
            }
        }
        Ok(position)
    }

    fn base_of(&self, position: i64) -> i64 {
        position - position.rem_euclid(self.file_bytes)
    }
}

impl Unsynced {
    pub(crate) fn sync(&self, disk: &dyn Disk) -> io::Result<()> {
        for file in &self.files {
            file.sync_data()?;
        }
        self.dir.as_deref().map_or(Ok(()), |dir: &Path| disk.sync_dir(dir))
    }
}
