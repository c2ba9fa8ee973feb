//! Checksums of the commit log's bytes, beside it: every field of every record is covered, not only bodies.
//!
//! ```text
//! checksums/<start of the log file, 20 digits>: a group for each 128 KiB of the log
//! group: 128 × crc u32 of 1024 bytes of the log        512 crc u32 of the group's position and its 512 bytes
//! ```
//!
//! A group is sealed when its part of the log is on disk and will not change any more. The group that is not full yet is
//! noted in `checksums/newest`, about every second, as far as it is on disk: what a start finds there is compared with it.
//!
//! ```text
//! 0  start i64     8  end i64     16  128 × crc u32, the last of them of what there is     528 crc u32 of all before
//! ```
//!
//! Brokers that do not know the
//! folder leave it alone; what they cut off and write anew no longer agrees from the cut on to the last group, which
//! is how it is told from damage when the store is opened: the groups at the end that differ in more than a single bit are forgotten.
//! A group that does not agree with itself counts for nothing.

use std::io::{self, IoSlice};
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use hashbrown::HashMap;
use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::config_file::create_dir_durably;
use crate::disk::{Disk, DiskFile};
use crate::read::Wait;
use crate::segments::{Segment, Segments, offset_name, parse_offset_name};

pub(crate) const DIRECTORY: &str = "checksums";
/// Bytes of the log that one group stands for.
pub(crate) const GROUP_SPAN_BYTES: i64 = 128 * 1024;
/// Whoever wants one record reads the spans that hold it.
pub(crate) const SUM_SPAN_BYTES: usize = 1024;
pub(crate) const SUMS: usize = GROUP_SPAN_BYTES as usize / SUM_SPAN_BYTES;
const GROUP_BYTES: usize = (SUMS + 1) * 4;
/// Of 16 MiB of the log, 66 KiB.
const KNOWN_GROUPS: usize = 128;
/// Read at once: whoever needs one is going to need its neighbours.
const GROUPS_READ: usize = 8;
const NEWEST: &str = "newest";
const NEWEST_BYTES: usize = 16 + GROUP_BYTES;

/// Stretches of the log that must not be read.
pub(crate) type Damaged = SmallVec<[Range<i64>; 1]>;

#[derive(Debug)]
pub(crate) struct Checksums {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// By the start of the log file; `None` where there is no file.
    files: Mutex<HashMap<i64, Option<Arc<dyn DiskFile>>>>,
    /// Sealed groups that were read lately, by where they start; several share a place.
    known: Box<[KnownGroup]>,
    /// Behind the last sealed group when this was opened.
    sealed_at_open: i64,
    /// Bits of the group that is not sealed that were flipped when this was opened, as position and number.
    flips: Vec<(i64, u8)>,
    /// How far the newest group is noted.
    noted: AtomicI64,
}

pub(crate) type Sums = [u32; SUMS];

/// Its start, and what is sealed there.
type KnownGroup = Mutex<Option<(i64, Sums)>>;

impl Checksums {
    /// For those who only look: nothing is forgotten.
    pub(crate) fn of<S: Deref<Target = Segment>>(
        disk: Arc<dyn Disk>,
        root: &Path,
        segment_at: impl Fn(i64) -> Option<S>,
    ) -> io::Result<Checksums> {
        let mut checksums = Checksums {
            disk,
            dir: root.join(DIRECTORY),
            files: Mutex::default(),
            known: (0..KNOWN_GROUPS).map(|_| Mutex::default()).collect(),
            sealed_at_open: 0,
            flips: Vec::new(),
            noted: AtomicI64::new(0),
        };
        checksums.flips = checksums.flips_of_newest(segment_at)?;
        Ok(checksums)
    }

    /// What is flipped of the group that is not sealed, if nobody has written it anew.
    fn flips_of_newest<S: Deref<Target = Segment>>(
        &self,
        segment_at: impl Fn(i64) -> Option<S>,
    ) -> io::Result<Vec<(i64, u8)>> {
        let file = match self.disk.open(&self.dir.join(NEWEST)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut bytes = [0; NEWEST_BYTES];
        let read = file.read_at(&mut bytes, 0)?;
        let (noted, own) = bytes.split_at(NEWEST_BYTES - 4);
        if read < NEWEST_BYTES || own != crc32fast::hash(noted).to_be_bytes() {
            return Ok(Vec::new());
        }
        let [start, end] = [0, 8].map(|at| i64::from_be_bytes(*noted[at..].first_chunk().expect("eight bytes")));
        let Some(segment) = segment_at(start).filter(|segment| (start..=segment.end).contains(&end)) else {
            return Ok(Vec::new());
        };
        if self.is_sealed(&segment, start)? {
            return Ok(Vec::new());
        }
        let mut log = vec![0; (end - start) as usize];
        let read = segment.file.read_at(&mut log, (start - segment.base) as u64)?;
        let (mut flips, mut position) = (Vec::new(), start);
        for (span, sum) in log[..read].chunks(SUM_SPAN_BYTES).zip(noted[16..].as_chunks::<4>().0) {
            let difference = u32::from_be_bytes(*sum) ^ crc32fast::hash(span);
            match flipped_bit(span.len(), difference) {
                _ if difference == 0 => {}
                Some((byte, bit)) => flips.push((position + byte as i64, bit)),
                None => return Ok(Vec::new()),
            }
            position += span.len() as i64;
        }
        Ok(flips)
    }

    /// Finds the files, and forgets the groups at the end that do not agree with the log.
    pub(crate) fn open(disk: Arc<dyn Disk>, root: &Path, segments: &Segments, end: i64) -> io::Result<Checksums> {
        let mut checksums = Checksums::of(disk, root, |position| segments.at(position))?;
        for (position, bit) in &checksums.flips {
            tracing::error!(
                position,
                bit,
                "a bit of the commit log has changed since it was written: the record that holds it is not served"
            );
        }
        checksums.forget_removed(segments);
        let mut forgotten = 0u64;
        for segment in segments.all().iter().rev() {
            let groups = (segment.end - segment.base + GROUP_SPAN_BYTES - 1) / GROUP_SPAN_BYTES;
            for group in (0..groups).rev() {
                let start = segment.base + group * GROUP_SPAN_BYTES;
                if checksums.group(segment, start, Wait::Allowed)?.is_none() {
                    continue;
                }
                let is_before_end = (start + GROUP_SPAN_BYTES).min(segment.end) <= end;
                if is_before_end && !is_written_anew(&checksums.check(segment, start)?) {
                    if forgotten > 0 {
                        tracing::info!(
                            forgotten,
                            "checksums of a part of the log that was written anew are forgotten"
                        );
                    }
                    checksums.sealed_at_open = (start + GROUP_SPAN_BYTES).min(segment.end);
                    return Ok(checksums);
                }
                checksums.write(segment, start, &[0; GROUP_BYTES])?;
                forgotten += 1;
            }
        }
        Ok(checksums)
    }

    pub(crate) fn sealed_at_open(&self) -> i64 {
        self.sealed_at_open
    }

    /// Removes the files of log files that are gone.
    pub(crate) fn forget_removed(&self, segments: &Segments) {
        let min = segments.min();
        self.files.lock().retain(|base, _| *base >= min);
        for entry in self.disk.list(&self.dir).unwrap_or_default() {
            if parse_offset_name(&entry.name).is_some_and(|base| base < min)
                && let Err(error) = self.disk.remove_file(&self.dir.join(&entry.name))
            {
                tracing::warn!(file = entry.name, %error, "checksums of a removed log file stay");
            }
        }
    }

    /// Seals the group that begins at this position. Its part of the log is on disk.
    pub(crate) fn seal(&self, segment: &Segment, start: i64, log: &[u8]) -> io::Result<()> {
        let mut bytes = [0; GROUP_BYTES];
        for (sum, span) in bytes.chunks_exact_mut(4).zip(log.chunks(SUM_SPAN_BYTES)) {
            sum.copy_from_slice(&crc32fast::hash(span).to_be_bytes());
        }
        let own = own_crc(start, &bytes);
        bytes[GROUP_BYTES - 4..].copy_from_slice(&own.to_be_bytes());
        self.write(segment, start, &bytes)
    }

    /// Notes the group that begins at this position and is not full. What is given of it is on disk.
    pub(crate) fn note_newest(&self, start: i64, log: &[u8]) -> io::Result<()> {
        let end = start + log.len() as i64;
        let mut bytes = [0; NEWEST_BYTES];
        bytes[..8].copy_from_slice(&start.to_be_bytes());
        bytes[8..16].copy_from_slice(&end.to_be_bytes());
        for (sum, span) in bytes[16..].chunks_exact_mut(4).zip(log.chunks(SUM_SPAN_BYTES)) {
            sum.copy_from_slice(&crc32fast::hash(span).to_be_bytes());
        }
        let own = crc32fast::hash(&bytes[..NEWEST_BYTES - 4]);
        bytes[NEWEST_BYTES - 4..].copy_from_slice(&own.to_be_bytes());
        let path = self.dir.join(NEWEST);
        let file = match self.disk.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create_dir_durably(&*self.disk, &self.dir)?;
                self.disk.create(&path)?
            }
            other => other?,
        };
        file.write_all_at(&[IoSlice::new(&bytes)], 0)?;
        self.noted.store(end, Ordering::Relaxed);
        Ok(())
    }

    /// The newest group is noted as far as this.
    pub(crate) fn is_noted(&self, end: i64) -> bool {
        self.noted.load(Ordering::Relaxed) == end
    }

    /// Bytes of the log as they were written: its sums must not make good what was found flipped.
    pub(crate) fn undo_flips(&self, start: i64, log: &mut [u8]) {
        for (position, bit) in &self.flips {
            if let Some(byte) = usize::try_from(position - start).ok().and_then(|at| log.get_mut(at)) {
                *byte ^= 1 << bit;
            }
        }
    }

    /// What is known to be flipped of a part that is not sealed.
    pub(crate) fn flips_in(&self, from: i64, to: i64) -> impl Iterator<Item = (i64, u8)> {
        self.flips
            .iter()
            .copied()
            .filter(move |(position, _)| (from..to).contains(position))
    }

    pub(crate) fn is_sealed(&self, segment: &Segment, start: i64) -> io::Result<bool> {
        Ok(self.group(segment, start, Wait::Allowed)?.is_some())
    }

    /// Compares a group with the log.
    pub(crate) fn check(&self, segment: &Segment, start: i64) -> io::Result<Damaged> {
        let mut log = vec![0; (GROUP_SPAN_BYTES.min(segment.end - start)) as usize];
        let read = segment.file.read_at(&mut log, (start - segment.base) as u64)?;
        self.damaged_in(segment, start, &log[..read], Wait::Allowed)
    }

    /// What is damaged of bytes of the log that begin where a group does. Sums whose bytes are not all there are left out.
    pub(crate) fn damaged_in(&self, segment: &Segment, start: i64, log: &[u8], wait: Wait) -> io::Result<Damaged> {
        let mut damaged = Damaged::new();
        let Some(sums) = self.group(segment, start, wait)? else {
            let flips = self.flips_in(start, start + log.len() as i64);
            return Ok(flips.map(|(position, _)| position..position + 1).collect());
        };
        for (index, span) in log.chunks(SUM_SPAN_BYTES).enumerate() {
            let position = start + (index * SUM_SPAN_BYTES) as i64;
            let is_whole = span.len() == SUM_SPAN_BYTES || position + span.len() as i64 == segment.end;
            if is_whole {
                damaged.extend(damaged_part(position, span, sums[index]));
            }
        }
        Ok(damaged)
    }

    /// The bits of a group that were flipped, as position and number, where there is one only in each span.
    pub(crate) fn flipped_bits(&self, segment: &Segment, start: i64) -> io::Result<Vec<(i64, u8)>> {
        let mut found = Vec::new();
        let Some(sums) = self.group(segment, start, Wait::Allowed)? else {
            return Ok(self.flips_in(start, start + GROUP_SPAN_BYTES).collect());
        };
        let mut log = vec![0; (GROUP_SPAN_BYTES.min(segment.end - start)) as usize];
        let read = segment.file.read_at(&mut log, (start - segment.base) as u64)?;
        for (index, span) in log[..read].chunks(SUM_SPAN_BYTES).enumerate() {
            let difference = sums[index] ^ crc32fast::hash(span);
            if difference != 0
                && let Some((byte, bit)) = flipped_bit(span.len(), difference)
            {
                found.push((start + (index * SUM_SPAN_BYTES + byte) as i64, bit));
            }
        }
        Ok(found)
    }

    /// Seals again what was sealed and has been changed on purpose.
    pub(crate) fn reseal(&self, segment: &Segment, from: i64, to: i64) -> io::Result<()> {
        let mut start = group_of(segment, from);
        while start < to.min(segment.end) {
            if self.is_sealed(segment, start)? {
                let mut log = vec![0; (GROUP_SPAN_BYTES.min(segment.end - start)) as usize];
                segment.file.read_at(&mut log, (start - segment.base) as u64)?;
                self.seal(segment, start, &log)?;
            }
            start += GROUP_SPAN_BYTES;
        }
        Ok(())
    }

    /// Whether nothing of this part of one file is damaged.
    pub(crate) fn is_sound(&self, segment: &Segment, from: i64, to: i64, wait: Wait) -> io::Result<bool> {
        let spans = spans_of(segment, from..to);
        let mut bytes = vec![0; (spans.end - spans.start) as usize];
        let read = segment.file.read_at(&mut bytes, (spans.start - segment.base) as u64)?;
        self.is_sound_in(segment, spans.start, &bytes[..read], from..to, wait)
    }

    /// The same of a part of bytes of the log that begin where a span does.
    pub(crate) fn is_sound_in(
        &self,
        segment: &Segment,
        start: i64,
        log: &[u8],
        part: Range<i64>,
        wait: Wait,
    ) -> io::Result<bool> {
        if self.flips_in(part.start, part.end).next().is_some() {
            return Ok(false);
        }
        let mut known: Option<(i64, Option<Sums>)> = None;
        for (index, span) in log.chunks(SUM_SPAN_BYTES).enumerate() {
            let position = start + (index * SUM_SPAN_BYTES) as i64;
            let group = group_of(segment, position);
            let sums = match known {
                Some((of, sums)) if of == group => sums,
                _ => self.group(segment, group, wait)?,
            };
            known = Some((group, sums));
            let damaged = sums.and_then(|sums| {
                let sum = sums[(position - group) as usize / SUM_SPAN_BYTES];
                damaged_part(position, span, sum)
            });
            if damaged.is_some_and(|damaged| damaged.start < part.end && damaged.end > part.start) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The sums of the group that begins at this position, if it is sealed.
    pub(crate) fn group(&self, segment: &Segment, start: i64, wait: Wait) -> io::Result<Option<Sums>> {
        if let Some((known, sums)) = &*self.place_of(start).lock()
            && *known == start
        {
            return Ok(Some(*sums));
        }
        let Some(file) = self.file(segment.base)? else {
            return Ok(None);
        };
        let read_at = |buffer: &mut [u8], at| match wait {
            Wait::Allowed => file.read_at(buffer, at),
            Wait::Never => file.try_read_at(buffer, at),
        };
        let number = ((start - segment.base) / GROUP_SPAN_BYTES) as usize;
        let first = number - number % GROUPS_READ;
        let mut bytes = [0; GROUPS_READ * GROUP_BYTES];
        let read = read_at(&mut bytes, (first * GROUP_BYTES) as u64)?;
        for (index, group) in bytes[..read].as_chunks::<GROUP_BYTES>().0.iter().enumerate() {
            let start = segment.base + (first + index) as i64 * GROUP_SPAN_BYTES;
            if let Some(sums) = sums_of(start, group) {
                *self.place_of(start).lock() = Some((start, sums));
            }
        }
        let at = (number - first) * GROUP_BYTES;
        let group = &mut bytes[at..at + GROUP_BYTES];
        // Less than all of them is at hand, or they are the last ones.
        if read < at + GROUP_BYTES {
            let read = read_at(group, (number * GROUP_BYTES) as u64)?;
            if read < GROUP_BYTES {
                return match wait {
                    Wait::Never if read > 0 => Err(io::ErrorKind::WouldBlock.into()),
                    _ => Ok(None),
                };
            }
        }
        Ok(group.first_chunk().and_then(|group| sums_of(start, group)))
    }

    fn place_of(&self, start: i64) -> &KnownGroup {
        &self.known[(start / GROUP_SPAN_BYTES) as usize % KNOWN_GROUPS]
    }

    fn file(&self, base: i64) -> io::Result<Option<Arc<dyn DiskFile>>> {
        let mut files = self.files.lock();
        if let Some(known) = files.get(&base) {
            return Ok(known.clone());
        }
        let file = match self.disk.open(&self.dir.join(offset_name(base))) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        files.insert(base, file.clone());
        Ok(file)
    }

    fn write(&self, segment: &Segment, start: i64, group: &[u8; GROUP_BYTES]) -> io::Result<()> {
        let file = match self.file(segment.base)? {
            Some(file) => file,
            None => {
                create_dir_durably(&*self.disk, &self.dir)?;
                let file = self.disk.create(&self.dir.join(offset_name(segment.base)))?;
                self.files.lock().insert(segment.base, Some(Arc::clone(&file)));
                file
            }
        };
        file.write_all_at(&[IoSlice::new(group)], group_at(segment, start))?;
        *self.place_of(start).lock() = None;
        Ok(())
    }
}

/// A single flipped bit is damage: what is written anew differs in more.
fn is_written_anew(damaged: &[Range<i64>]) -> bool {
    match damaged {
        [] => false,
        [one] => one.end - one.start > 1,
        _ => true,
    }
}

/// The spans that hold this part of a file.
pub(crate) fn spans_of(segment: &Segment, part: Range<i64>) -> Range<i64> {
    let span = SUM_SPAN_BYTES as i64;
    let start = part.start - (part.start - segment.base) % span;
    let end = segment.base + (part.end - segment.base + span - 1) / span * span;
    start..end.min(segment.end)
}

fn group_at(segment: &Segment, start: i64) -> u64 {
    ((start - segment.base) / GROUP_SPAN_BYTES) as u64 * GROUP_BYTES as u64
}

/// Where the group begins that this position belongs to.
pub(crate) fn group_of(segment: &Segment, position: i64) -> i64 {
    position - (position - segment.base) % GROUP_SPAN_BYTES
}

/// `None` of a group that does not agree with itself.
fn sums_of(start: i64, group: &[u8; GROUP_BYTES]) -> Option<Sums> {
    let (sums, _) = group.as_chunks::<4>();
    let sums: [u32; SUMS + 1] = std::array::from_fn(|index| u32::from_be_bytes(sums[index]));
    (sums[SUMS] == own_crc(start, group)).then(|| std::array::from_fn(|index| sums[index]))
}

fn own_crc(start: i64, group: &[u8; GROUP_BYTES]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&start.to_be_bytes());
    hasher.update(&group[..GROUP_BYTES - 4]);
    hasher.finalize()
}

/// What is damaged of a span at this position whose sum was this one: the byte that a single flipped bit is in, where
/// the difference of the sums is that of one; otherwise all of it.
pub(crate) fn damaged_part(position: i64, span: &[u8], sum: u32) -> Option<Range<i64>> {
    let difference = sum ^ crc32fast::hash(span);
    (difference != 0).then(|| match flipped_bit(span.len(), difference) {
        Some((byte, _)) => position + byte as i64..position + byte as i64 + 1,
        None => position..position + span.len() as i64,
    })
}

/// Sums are linear: what one bit does to the sum depends on its distance from the end alone.
fn flipped_bit(bytes: usize, difference: u32) -> Option<(usize, u8)> {
    const POLYNOMIAL: u32 = 0xEDB8_8320;
    let mut effect = POLYNOMIAL;
    for from_end in 0..bytes * 8 {
        if effect == difference {
            return Some((bytes - 1 - from_end / 8, 7 - (from_end % 8) as u8));
        }
        effect = (effect >> 1) ^ if effect & 1 == 1 { POLYNOMIAL } else { 0 };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_flipped_bit_is_found_and_more_are_not_taken_for_one(
            mut bytes in proptest::collection::vec(any::<u8>(), 1..4097),
            first: prop::sample::Index,
            second: prop::sample::Index,
        ) {
            let sum = crc32fast::hash(&bytes);
            let (first, second) = (first.index(bytes.len() * 8), second.index(bytes.len() * 8));
            bytes[first / 8] ^= 1 << (first % 8);
            prop_assert_eq!(flipped_bit(bytes.len(), sum ^ crc32fast::hash(&bytes)), Some((first / 8, (first % 8) as u8)));
            prop_assume!(first != second);
            bytes[second / 8] ^= 1 << (second % 8);
            prop_assert_eq!(flipped_bit(bytes.len(), sum ^ crc32fast::hash(&bytes)), None);
        }
    }
}
