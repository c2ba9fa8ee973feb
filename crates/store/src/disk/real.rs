//! The disk of the machine, through rustix.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::{FallocateFlags, FlockOperation, OFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::{Advice, DirEntry, Disk, DiskFile, DiskUsage, MappedRegion};
use crate::mapped_file::MappedFile;

#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile(open(OpenOptions::new(), path)?)))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(true);
        Ok(Arc::new(RealFile(open(options, path)?)))
    }

    fn map(&self, path: &Path) -> io::Result<Box<dyn MappedRegion>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Box::new(MappedFile::new(file)?))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let is_dir = entry.file_type()?.is_dir();
            entries.push(DirEntry {
                name: entry.file_name().to_string_lossy().into_owned(),
                is_dir,
                len: if is_dir { 0 } else { entry.metadata()?.len() },
            });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn sync_all_below(&self, dir: &Path) -> io::Result<()> {
        Ok(rustix::fs::syncfs(File::open(dir)?)?)
    }

    fn modified_ms(&self, path: &Path) -> io::Result<i64> {
        let modified = fs::metadata(path)?.modified()?;
        let since = modified
            .duration_since(std::time::UNIX_EPOCH)
            .map_err(io::Error::other)?;
        Ok(since.as_millis() as i64)
    }

    fn usage(&self, path: &Path) -> io::Result<DiskUsage> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(DiskUsage {
            used_bytes: stat.f_blocks.saturating_sub(stat.f_bfree) * stat.f_frsize,
            available_bytes: stat.f_bavail * stat.f_frsize,
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        // Java locks byte 0 with a POSIX lock. Such a lock belongs to the process, and is lost when any descriptor of the
        // file is closed: a second store of this process must be turned away before it opens the file.
        let held = LockedHere::take(path)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        match rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Box::new((file, held))),
            Err(Errno::AGAIN | Errno::ACCESS) => Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Opens a file whose reads leave no time of access. The kernel allows that to the owner of a file only.
fn open(mut options: OpenOptions, path: &Path) -> io::Result<File> {
    options.read(true).write(true);
    let without_atime = options.clone().custom_flags(OFlags::NOATIME.bits() as i32).open(path);
    match without_atime {
        Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => options.open(path),
        other => other,
    }
}

static LOCKED_HERE: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);

struct LockedHere(PathBuf);

impl LockedHere {
    fn take(path: &Path) -> io::Result<LockedHere> {
        let dir = path.parent().unwrap_or(Path::new(".")).canonicalize()?;
        let path = dir.join(path.file_name().unwrap_or_default());
        if LOCKED_HERE.lock().get_or_insert_default().insert(path.clone()) {
            Ok(LockedHere(path))
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }
}

impl Drop for LockedHere {
    fn drop(&mut self) {
        LOCKED_HERE.lock().get_or_insert_default().remove(&self.0);
    }
}

#[derive(Debug)]
struct RealFile(File);

impl DiskFile for RealFile {
    fn write_all_at(&self, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let written = match buffers {
            [] => return Ok(()),
            [one] => return self.0.write_all_at(one, offset),
            several => match rustix::io::pwritev(&self.0, several, offset) {
                Ok(written) => written,
                Err(Errno::INTR) => 0,
                Err(error) => return Err(error.into()),
            },
        };
        let mut done = 0;
        for buffer in buffers {
            let skip = written.saturating_sub(done).min(buffer.len());
            if skip < buffer.len() {
                self.0.write_all_at(&buffer[skip..], offset + (done + skip) as u64)?;
            }
            done += buffer.len();
        }
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.0.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn try_read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let vector = &mut [IoSliceMut::new(buffer)];
        match rustix::io::preadv2(&self.0, vector, offset, ReadWriteFlags::NOWAIT) {
            Ok(read) => Ok(read),
            // A file system without the flag: waiting is all there is.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.read_at(buffer, offset),
            Err(error) => Err(error.into()),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(&self.0)?)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        Ok(rustix::fs::fallocate(&self.0, FallocateFlags::empty(), 0, bytes)?)
    }

    fn zero_range(&self, offset: u64, bytes: u64) -> io::Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let flags = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.0, flags, offset, bytes) {
            Err(Errno::OPNOTSUPP) => {
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                rustix::fs::fallocate(&self.0, flags, offset, bytes)?;
                rustix::fs::fallocate(&self.0, FallocateFlags::KEEP_SIZE, offset, bytes)?;
                Ok(())
            }
            other => Ok(other?),
        }
    }

    fn advise(&self, advice: Advice, range: Range<u64>) {
        let advice = match advice {
            Advice::Random => rustix::fs::Advice::Random,
            Advice::WillNeed => rustix::fs::Advice::WillNeed,
            Advice::DontNeed => rustix::fs::Advice::DontNeed,
        };
        let len = NonZeroU64::new(range.end.saturating_sub(range.start));
        // Only a hint: nothing depends on it.
        let _ = rustix::fs::fadvise(&self.0, range.start, len, advice);
    }
}
