//! The one place with `unsafe`: a file mapped for reading and writing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use memmap2::MmapMut;

use crate::disk::MappedRegion;

/// Writes from this size on go through the file, whose pages are those of the map: the kernel then neither zeroes pages
/// that are overwritten anyway nor takes a fault for each.
const FILE_WRITE_BYTES_MIN: usize = 4096;

/// A whole file in memory. Its space was reserved before, so that a full disk cannot show up as a signal.
#[derive(Debug)]
pub(crate) struct MappedFile {
    map: MmapMut,
    file: File,
}

impl MappedFile {
    #[expect(unsafe_code, reason = "mapping a file is unsafe whatever the library")]
    pub(crate) fn new(file: File) -> io::Result<MappedFile> {
        // SAFETY: the memory is only valid while nobody else changes or cuts the file. The store holds the exclusive lock
        // of the directory for as long as a map lives, and never cuts a file that is mapped.
        let map = unsafe { MmapMut::map_mut(&file)? };
        Ok(MappedFile { map, file })
    }
}

impl MappedRegion for MappedFile {
    fn len(&self) -> usize {
        self.map.len()
    }

    fn bytes(&self) -> &[u8] {
        &self.map
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        let mapped = &mut self.map[at..at + bytes.len()];
        if bytes.len() < FILE_WRITE_BYTES_MIN || self.file.write_all_at(bytes, at as u64).is_err() {
            mapped.copy_from_slice(bytes);
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.map.flush()
    }
}
