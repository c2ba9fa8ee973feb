//! A disk in memory that keeps apart what was written and what is durable.
//!
//! Files are pages of 4096 bytes. A write changes the cached page; `sync_data` copies the changed pages of that file to
//! the platter; `sync_dir` does the same for the names of one directory. [`SimulatedDisk::crash`] gives the disk a machine
//! would find after a power cut: of every changed page it keeps the old version, the new one, or a mix of their
//! 512-byte sectors, chosen by a seed, and of every directory's changes a prefix. [`SimulatedDisk::kill`] gives what
//! a killed process leaves: everything written.
//!
//! Reading tells apart what the page cache holds and what it has forgotten: a read that may wait brings pages back, and so
//! does the advice that they will be needed; the advice that they are not makes it forget them.
//!
//! Operations that change something are counted, so that a test can stop the machine at each of them. A write that is
//! stopped may have reached some of its pages.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::{Advice, DirEntry, Disk, DiskFile, DiskUsage, MappedRegion};

const PAGE_BYTES: usize = 4096;
const SECTOR_BYTES: usize = 512;

type Page = Arc<[u8; PAGE_BYTES]>;

#[derive(Debug, Clone, Default)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
    /// Reads and syncs that are held, and those who wait for them.
    releases: Arc<Condvar>,
}

#[derive(Debug, Default)]
struct State {
    files: Vec<FileState>,
    /// Names as the running machine sees them.
    names: BTreeMap<PathBuf, Node>,
    /// Names on the platter.
    durable_names: BTreeMap<PathBuf, Node>,
    /// Changes of names that are not durable, oldest first.
    name_changes: Vec<NameChange>,
    locks: BTreeSet<PathBuf>,
    operations: u64,
    stop_after: Option<u64>,
    stop_seed: u64,
    /// The file whose next sync fails.
    fail_sync: Option<usize>,
    /// What fails, and how many more of its kind succeed before.
    fault: Option<(Fault, u64)>,
    /// Pages that reads had to wait for.
    pages_waited_for: u64,
    reads_that_waited: u64,
    /// Reads that must not wait and found nothing.
    tries_in_vain: u64,
    /// Files whose reads hang.
    held: BTreeSet<usize>,
    held_reads: usize,
    syncs_hang: bool,
    held_syncs: usize,
    /// What readers said they want and want no more.
    advised: Vec<(usize, Advice, Range<u64>)>,
    capacity_bytes: Option<u64>,
    now_ms: i64,
}

/// What a disk may refuse once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Making something durable: it fails, and forgets what it should have written, as Linux does.
    Sync,
    /// Reading from a file.
    Read,
    /// Anything that may need space: creating, reserving, lengthening, writing behind what is reserved.
    Space,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Dir,
    File(usize),
}

#[derive(Debug, Clone)]
struct NameChange {
    dir: PathBuf,
    removed: Option<PathBuf>,
    added: Option<(PathBuf, Node)>,
}

#[derive(Debug, Default, Clone)]
struct FileState {
    cached: BTreeMap<u64, Page>,
    durable: BTreeMap<u64, Page>,
    dirty: BTreeSet<u64>,
    /// Pages that are on the disk only.
    forgotten: BTreeSet<u64>,
    len: u64,
    durable_len: u64,
    /// Space is reserved up to here: writes below need none.
    allocated: u64,
    modified_ms: i64,
}

impl SimulatedDisk {
    pub fn new() -> SimulatedDisk {
        SimulatedDisk::default()
    }

    /// Number of changing operations so far: writes, syncs, creations, renames, removals, changes of length.
    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// The machine stops when this many more operations have been done; each later one fails.
    pub fn stop_after(&self, operations: u64) {
        let mut state = self.state.lock();
        state.stop_after = Some(state.operations + operations);
        state.stop_seed = operations;
    }

    /// The next sync of this file fails, and forgets what it should have written, as Linux does.
    pub fn fail_sync(&self, path: &Path) {
        let mut state = self.state.lock();
        state.fail_sync = state.file(path).ok();
    }

    /// The next operation of this kind but so many fails, once.
    pub fn fail(&self, fault: Fault, after: u64) {
        self.state.lock().fault = Some((fault, after));
    }

    /// False once the fault has happened.
    pub fn is_to_fail(&self) -> bool {
        self.state.lock().fault.is_some()
    }

    /// Bounds the space; `None` lifts the bound.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity_bytes = bytes;
    }

    /// What the machine's clock says when files are written.
    pub fn set_time(&self, now_ms: i64) {
        self.state.lock().now_ms = now_ms;
    }

    /// The page cache forgets everything.
    pub fn forget(&self) {
        for file in &mut self.state.lock().files {
            file.forget(0..file.len);
        }
    }

    /// The page cache forgets a part of a file.
    pub fn forget_part(&self, path: &Path, range: Range<u64>) {
        let mut state = self.state.lock();
        match state.file(path) {
            Ok(id) => state.files[id].forget(range),
            Err(_) => panic!("{} does not exist", path.display()),
        }
    }

    /// Bytes of a file that the page cache has forgotten, in whole pages.
    pub fn forgotten_bytes(&self, path: &Path) -> u64 {
        let state = self.state.lock();
        let id = state.file(path).ok();
        id.map_or(0, |id| (state.files[id].forgotten.len() * PAGE_BYTES) as u64)
    }

    /// How many reads that must not wait found nothing so far.
    pub fn tries_in_vain(&self) -> u64 {
        self.state.lock().tries_in_vain
    }

    /// How many reads had to wait so far, and for how many bytes.
    pub fn waits(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.reads_that_waited, state.pages_waited_for * PAGE_BYTES as u64)
    }

    /// From now on nothing of this file is in memory, and reads of it hang until [`SimulatedDisk::release_reads`].
    pub fn hold_reads(&self, path: &Path) {
        let mut state = self.state.lock();
        match state.file(path) {
            Ok(id) => state.held.insert(id),
            Err(_) => panic!("{} does not exist", path.display()),
        };
    }

    pub fn release_reads(&self) {
        self.state.lock().held.clear();
        self.releases.notify_all();
    }

    /// From now on syncs of files hang until [`SimulatedDisk::release_syncs`].
    pub fn hold_syncs(&self) {
        self.state.lock().syncs_hang = true;
    }

    pub fn release_syncs(&self) {
        self.state.lock().syncs_hang = false;
        self.releases.notify_all();
    }

    /// Waits until a sync hangs. False when that does not happen in time.
    pub fn wait_for_held_sync(&self, at_most: Duration) -> bool {
        let mut state = self.state.lock();
        let waited = self
            .releases
            .wait_while_for(&mut state, |state| state.held_syncs == 0, at_most);
        !waited.timed_out()
    }

    /// Waits until so many reads hang. False when that does not happen in time.
    pub fn wait_for_held_reads(&self, count: usize, at_most: Duration) -> bool {
        let mut state = self.state.lock();
        let waited = self
            .releases
            .wait_while_for(&mut state, |state| state.held_reads < count, at_most);
        !waited.timed_out()
    }

    /// Parts of a file about which such advice was given, in order. Advice on whole files is left out.
    pub fn advised(&self, path: &Path, advice: Advice) -> Vec<Range<u64>> {
        let state = self.state.lock();
        let id = state.file(path).ok();
        let of_file = state
            .advised
            .iter()
            .filter(|(of, given, _)| Some(*of) == id && *given == advice);
        of_file.map(|(.., range)| range.clone()).collect()
    }

    /// Flips one bit of a file, cached and durable.
    pub fn flip_bit(&self, path: &Path, byte: u64, bit: u8) {
        let mut state = self.state.lock();
        let Some(&Node::File(id)) = state.names.get(path) else {
            panic!("{} does not exist", path.display());
        };
        let file = &mut state.files[id];
        for pages in [&mut file.cached, &mut file.durable] {
            if let Some(page) = pages.get_mut(&(byte / PAGE_BYTES as u64)) {
                Arc::make_mut(page)[(byte % PAGE_BYTES as u64) as usize] ^= 1 << bit;
            }
        }
    }

    /// The disk after a power cut at this moment. The present one stays as it is.
    pub fn crash(&self, seed: u64) -> SimulatedDisk {
        let state = self.state.lock();
        let mut random = Random(seed);
        let mut names = state.durable_names.clone();
        let mut broken_off = BTreeSet::new();
        for change in &state.name_changes {
            if broken_off.contains(&change.dir) || random.below(3) == 0 {
                broken_off.insert(change.dir.clone());
                continue;
            }
            apply(&mut names, change);
        }
        // A name whose directory was lost is lost with it.
        let orphans: Vec<PathBuf> = names
            .keys()
            .filter(|path| {
                path.ancestors()
                    .skip(1)
                    .any(|dir| dir != Path::new("/") && !names.contains_key(dir))
            })
            .cloned()
            .collect();
        for orphan in orphans {
            names.remove(&orphan);
        }
        let files = state.files.iter().map(|file| file.crash(&mut random)).collect();
        SimulatedDisk::with(files, names)
    }

    /// The disk after the process was killed at this moment: the page cache survives.
    pub fn kill(&self) -> SimulatedDisk {
        let state = self.state.lock();
        let disk = SimulatedDisk::with(state.files.clone(), state.names.clone());
        {
            let mut copy = disk.state.lock();
            copy.now_ms = state.now_ms;
            copy.durable_names = state.durable_names.clone();
            copy.name_changes = state.name_changes.clone();
        }
        disk
    }

    fn with(files: Vec<FileState>, names: BTreeMap<PathBuf, Node>) -> SimulatedDisk {
        SimulatedDisk {
            state: Arc::new(Mutex::new(State {
                files,
                durable_names: names.clone(),
                names,
                ..State::default()
            })),
            releases: Arc::default(),
        }
    }
}

fn apply(names: &mut BTreeMap<PathBuf, Node>, change: &NameChange) {
    if let Some(removed) = &change.removed {
        names.remove(removed);
    }
    if let Some((path, node)) = &change.added {
        names.insert(path.clone(), *node);
    }
}

impl FileState {
    fn crash(&self, random: &mut Random) -> FileState {
        let mut durable = self.durable.clone();
        for page in &self.dirty {
            let new = self.cached.get(page).cloned().unwrap_or_else(zero_page);
            match random.below(3) {
                0 => {}
                1 => {
                    durable.insert(*page, new);
                }
                _ => {
                    let old = durable.entry(*page).or_insert_with(zero_page);
                    let torn = Arc::make_mut(old);
                    for sector in 0..PAGE_BYTES / SECTOR_BYTES {
                        if random.below(2) == 0 {
                            let range = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
                            torn[range.clone()].copy_from_slice(&new[range]);
                        }
                    }
                }
            }
        }
        let len = if random.below(2) == 0 {
            self.len
        } else {
            self.durable_len
        };
        let mut file = FileState {
            cached: durable,
            len,
            durable_len: len,
            modified_ms: self.modified_ms,
            ..FileState::default()
        };
        file.cut(len);
        file.durable = file.cached.clone();
        file.dirty.clear();
        file
    }

    /// Forgets what lies beyond the end, so that extending the file shows zeros.
    fn cut(&mut self, len: u64) {
        let last = len / PAGE_BYTES as u64;
        let keep = (len % PAGE_BYTES as u64) as usize;
        let gone: Vec<u64> = self.cached.range(last..).map(|(page, _)| *page).collect();
        for page in gone {
            self.dirty.insert(page);
            if page == last && keep > 0 {
                if let Some(bytes) = self.cached.get_mut(&page) {
                    Arc::make_mut(bytes)[keep..].fill(0);
                }
            } else {
                self.cached.remove(&page);
            }
        }
        self.len = len;
    }

    /// Drops pages that lie in this range as a whole, or up to the end of the file, from the page cache. Changed ones stay.
    fn forget(&mut self, range: Range<u64>) {
        let last = match range.end >= self.len {
            true => self.len.div_ceil(PAGE_BYTES as u64),
            false => range.end / PAGE_BYTES as u64,
        };
        let pages = range.start.div_ceil(PAGE_BYTES as u64)..last;
        self.forgotten.extend(pages.filter(|page| !self.dirty.contains(page)));
    }

    /// Brings pages back that hold a part of this range. Returns how many.
    fn fetch(&mut self, range: Range<u64>) -> u64 {
        let pages = range.start / PAGE_BYTES as u64..range.end.div_ceil(PAGE_BYTES as u64);
        let fetched: Vec<u64> = self.forgotten.range(pages).copied().collect();
        for page in &fetched {
            self.forgotten.remove(page);
        }
        fetched.len() as u64
    }

    /// How much of this range can be read at once, from its start on.
    fn at_hand(&self, range: Range<u64>) -> u64 {
        let first = range.start / PAGE_BYTES as u64;
        let missing = self
            .forgotten
            .range(first..range.end.div_ceil(PAGE_BYTES as u64))
            .next();
        missing.map_or(range.end - range.start, |page| {
            (page * PAGE_BYTES as u64).saturating_sub(range.start)
        })
    }

    fn write(&mut self, mut bytes: &[u8], mut offset: u64) {
        self.fetch(offset..offset + bytes.len() as u64);
        self.len = self.len.max(offset + bytes.len() as u64);
        while !bytes.is_empty() {
            let page = offset / PAGE_BYTES as u64;
            let within = (offset % PAGE_BYTES as u64) as usize;
            let (now, rest) = bytes.split_at(bytes.len().min(PAGE_BYTES - within));
            let target = Arc::make_mut(self.cached.entry(page).or_insert_with(zero_page));
            target[within..within + now.len()].copy_from_slice(now);
            self.dirty.insert(page);
            offset += now.len() as u64;
            bytes = rest;
        }
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let wanted = (buffer.len() as u64).min(self.len.saturating_sub(offset)) as usize;
        let mut done = 0;
        while done < wanted {
            let at = offset + done as u64;
            let within = (at % PAGE_BYTES as u64) as usize;
            let now = (wanted - done).min(PAGE_BYTES - within);
            let target = &mut buffer[done..done + now];
            match self.cached.get(&(at / PAGE_BYTES as u64)) {
                Some(page) => target.copy_from_slice(&page[within..within + now]),
                None => target.fill(0),
            }
            done += now;
        }
        wanted
    }

    fn sync(&mut self) {
        for page in std::mem::take(&mut self.dirty) {
            match self.cached.get(&page) {
                Some(bytes) => self.durable.insert(page, Arc::clone(bytes)),
                None => self.durable.remove(&page),
            };
        }
        self.durable_len = self.len;
    }

    /// Bytes that count against the capacity.
    fn space(&self) -> u64 {
        let pages = (self.cached.len() * PAGE_BYTES) as u64;
        pages.max(self.allocated)
    }
}

fn zero_page() -> Page {
    Arc::new([0; PAGE_BYTES])
}

impl State {
    /// Counts an operation; an error once the machine has stopped. `Ok(false)` for the one it stops in.
    fn operation(&mut self) -> io::Result<bool> {
        let number = self.operations;
        self.operations += 1;
        match self.stop_after {
            Some(stop) if number > stop => Err(stopped()),
            Some(stop) => Ok(number < stop),
            None => Ok(true),
        }
    }

    /// Counts an operation of a kind that may be told to fail.
    fn fails(&mut self, kind: Fault) -> bool {
        let Some((fault, after)) = &mut self.fault else {
            return false;
        };
        if *fault != kind {
            return false;
        }
        if *after > 0 {
            *after -= 1;
            return false;
        }
        self.fault = None;
        true
    }

    /// Fails if it shall, forgetting what is not durable of these files.
    fn try_sync(&mut self, files: &[usize]) -> io::Result<()> {
        if !self.fails(Fault::Sync) {
            return Ok(());
        }
        for file in files {
            self.files[*file].dirty.clear();
        }
        Err(io::Error::other("simulated failure of a sync"))
    }

    fn has_stopped(&self) -> bool {
        self.stop_after.is_some_and(|stop| self.operations > stop)
    }

    fn whole_operation(&mut self) -> io::Result<()> {
        if self.operation()? { Ok(()) } else { Err(stopped()) }
    }

    fn reserve(&mut self, file: usize, up_to: u64) -> io::Result<()> {
        if self.fails(Fault::Space) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        let Some(capacity) = self.capacity_bytes else {
            return Ok(());
        };
        let used = self.used_bytes();
        let more = up_to.saturating_sub(self.files[file].space().max(self.files[file].allocated));
        if used + more > capacity {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        Ok(())
    }

    /// Files without a name have given their space back.
    fn used_bytes(&self) -> u64 {
        let named = self.names.values().filter_map(|node| match node {
            Node::File(id) => Some(self.files[*id].space()),
            Node::Dir => None,
        });
        named.sum()
    }

    fn change(&mut self, dir: &Path, removed: Option<&Path>, added: Option<(&Path, Node)>) {
        let change = NameChange {
            dir: dir.to_path_buf(),
            removed: removed.map(Path::to_path_buf),
            added: added.map(|(path, node)| (path.to_path_buf(), node)),
        };
        apply(&mut self.names, &change);
        self.name_changes.push(change);
    }

    fn file(&self, path: &Path) -> io::Result<usize> {
        match self.names.get(path) {
            Some(Node::File(id)) => Ok(*id),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

fn stopped() -> io::Error {
    io::Error::other("the simulated machine has stopped")
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

impl Disk for SimulatedDisk {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let id = self.state.lock().file(path)?;
        Ok(Arc::new(SimulatedFile { disk: self.clone(), id }))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state.lock();
        state.whole_operation()?;
        if !self.is_dir(&state, parent(path)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if state.fails(Fault::Space) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let id = match state.names.get(path) {
            Some(Node::File(id)) => {
                let id = *id;
                state.files[id].cut(0);
                id
            }
            Some(Node::Dir) => return Err(io::ErrorKind::IsADirectory.into()),
            None => {
                let id = state.files.len();
                state.files.push(FileState::default());
                state.change(parent(path), None, Some((path, Node::File(id))));
                id
            }
        };
        drop(state);
        Ok(Arc::new(SimulatedFile { disk: self.clone(), id }))
    }

    fn map(&self, path: &Path) -> io::Result<Box<dyn MappedRegion>> {
        let state = self.state.lock();
        let id = state.file(path)?;
        let file = &state.files[id];
        let mut bytes = vec![0; file.len as usize];
        file.read(&mut bytes, 0);
        Ok(Box::new(SimulatedMap {
            disk: self.clone(),
            id,
            bytes,
        }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let state = self.state.lock();
        if !self.is_dir(&state, dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut entries = Vec::new();
        for (path, node) in &state.names {
            if path.parent() != Some(dir) {
                continue;
            }
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            entries.push(match node {
                Node::Dir => DirEntry {
                    name,
                    is_dir: true,
                    len: 0,
                },
                Node::File(id) => DirEntry {
                    name,
                    is_dir: false,
                    len: state.files[*id].len,
                },
            });
        }
        Ok(entries)
    }

    fn exists(&self, path: &Path) -> bool {
        let state = self.state.lock();
        path == Path::new("/") || state.names.contains_key(path)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let missing: Vec<&Path> = dir
            .ancestors()
            .take_while(|ancestor| !self.is_dir(&state, ancestor))
            .collect();
        for dir in missing.into_iter().rev() {
            state.whole_operation()?;
            state.change(parent(dir), None, Some((dir, Node::Dir)));
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.whole_operation()?;
        let id = state.file(from)?;
        state.change(parent(to), Some(from), Some((to, Node::File(id))));
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.whole_operation()?;
        state.file(path)?;
        state.change(parent(path), Some(path), None);
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.whole_operation()?;
        if state.names.keys().any(|path| path.parent() == Some(dir)) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        if state.names.get(dir) != Some(&Node::Dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change(parent(dir), Some(dir), None);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.whole_operation()?;
        state.try_sync(&[])?;
        let state = &mut *state;
        state.name_changes.retain(|change| {
            if change.dir != dir {
                return true;
            }
            apply(&mut state.durable_names, change);
            false
        });
        Ok(())
    }

    fn sync_all_below(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.whole_operation()?;
        state.try_sync(&[])?;
        let state = &mut *state;
        for (path, node) in &state.names {
            if let (true, Node::File(id)) = (path.starts_with(dir), node) {
                state.files[*id].sync();
            }
        }
        state.name_changes.retain(|change| {
            if !change.dir.starts_with(dir) {
                return true;
            }
            apply(&mut state.durable_names, change);
            false
        });
        Ok(())
    }

    fn modified_ms(&self, path: &Path) -> io::Result<i64> {
        let state = self.state.lock();
        Ok(state.files[state.file(path)?].modified_ms)
    }

    fn usage(&self, _path: &Path) -> io::Result<DiskUsage> {
        let state = self.state.lock();
        let used_bytes = state.used_bytes();
        let capacity = state.capacity_bytes.unwrap_or(1 << 40);
        Ok(DiskUsage {
            used_bytes,
            available_bytes: capacity.saturating_sub(used_bytes),
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        if !self.exists(path) {
            self.create(path)?;
        }
        if !self.state.lock().locks.insert(path.to_path_buf()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimulatedLock {
            disk: self.clone(),
            path: path.to_path_buf(),
        }))
    }
}

impl SimulatedDisk {
    fn is_dir(&self, state: &State, dir: &Path) -> bool {
        dir == Path::new("/") || state.names.get(dir) == Some(&Node::Dir)
    }
}

struct SimulatedLock {
    disk: SimulatedDisk,
    path: PathBuf,
}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        self.disk.state.lock().locks.remove(&self.path);
    }
}

#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    id: usize,
}

impl DiskFile for SimulatedFile {
    fn write_all_at(&self, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let bytes = buffers.iter().map(|buffer| &**buffer).collect::<Vec<&[u8]>>().concat();
        let mut state = self.disk.state.lock();
        let whole = state.operation()?;
        let end = offset + bytes.len() as u64;
        if end > state.files[self.id].allocated {
            state.reserve(self.id, end)?;
        }
        state.files[self.id].modified_ms = state.now_ms;
        if whole {
            state.files[self.id].write(&bytes, offset);
            return Ok(());
        }
        let part = Random(state.stop_seed).below(bytes.len() as u64 + 1) as usize;
        state.files[self.id].write(&bytes[..part], offset);
        Err(stopped())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state.lock();
        if state.fails(Fault::Read) {
            return Err(io::Error::other("simulated failure of a read"));
        }
        if state.held.contains(&self.id) {
            state.held_reads += 1;
            self.disk.releases.notify_all();
            self.disk
                .releases
                .wait_while(&mut state, |state| state.held.contains(&self.id));
            state.held_reads -= 1;
        }
        let fetched = state.files[self.id].fetch(offset..offset + buffer.len() as u64);
        state.pages_waited_for += fetched;
        state.reads_that_waited += u64::from(fetched > 0);
        Ok(state.files[self.id].read(buffer, offset))
    }

    fn try_read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state.lock();
        let at_hand = state.files[self.id].at_hand(offset..offset + buffer.len() as u64) as usize;
        if state.held.contains(&self.id) || (at_hand == 0 && !buffer.is_empty()) {
            state.tries_in_vain += 1;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        drop(state);
        self.read_at(&mut buffer[..at_hand], offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        if state.syncs_hang {
            state.held_syncs += 1;
            self.disk.releases.notify_all();
            self.disk.releases.wait_while(&mut state, |state| state.syncs_hang);
            state.held_syncs -= 1;
        }
        state.whole_operation()?;
        if state.fail_sync == Some(self.id) {
            state.fail_sync = None;
            state.files[self.id].dirty.clear();
            return Err(io::Error::other("simulated failure of a sync"));
        }
        state.try_sync(&[self.id])?;
        state.files[self.id].sync();
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state.lock().files[self.id].len)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        state.whole_operation()?;
        if bytes > state.files[self.id].len && state.fails(Fault::Space) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = &mut state.files[self.id];
        if bytes < file.len {
            file.cut(bytes);
        }
        file.len = bytes;
        Ok(())
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        state.whole_operation()?;
        state.reserve(self.id, bytes)?;
        let file = &mut state.files[self.id];
        file.allocated = file.allocated.max(bytes);
        file.len = file.len.max(bytes);
        Ok(())
    }

    fn zero_range(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        state.whole_operation()?;
        let file = &mut state.files[self.id];
        let pages: Vec<u64> = file
            .cached
            .range(offset / PAGE_BYTES as u64..=(offset + bytes) / PAGE_BYTES as u64)
            .map(|(page, _)| *page)
            .collect();
        for page in pages {
            let start = (page * PAGE_BYTES as u64).max(offset);
            let end = ((page + 1) * PAGE_BYTES as u64).min(offset + bytes);
            if start < end {
                file.write(&vec![0; (end - start) as usize], start);
            }
        }
        Ok(())
    }

    fn advise(&self, advice: Advice, range: Range<u64>) {
        let mut state = self.disk.state.lock();
        match advice {
            Advice::Random => return,
            Advice::WillNeed => {
                state.files[self.id].fetch(range.clone());
            }
            Advice::DontNeed => state.files[self.id].forget(range.clone()),
        }
        state.advised.push((self.id, advice, range));
    }
}

/// A copy of the file for reading; changes go to the file's cached pages at once. They are not counted: no machine stops
/// between two stores to memory in a way that its disk would notice.
#[derive(Debug)]
struct SimulatedMap {
    disk: SimulatedDisk,
    id: usize,
    bytes: Vec<u8>,
}

impl MappedRegion for SimulatedMap {
    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        let mut state = self.disk.state.lock();
        if !state.has_stopped() {
            state.files[self.id].write(bytes, at as u64);
        }
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        state.whole_operation()?;
        state.try_sync(&[self.id])?;
        state.files[self.id].sync();
        Ok(())
    }
}

/// SplitMix64: repeatable choices from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(disk: &SimulatedDisk, path: &str) -> Option<Vec<u8>> {
        let file = disk.open(Path::new(path)).ok()?;
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_at(&mut bytes, 0).unwrap();
        Some(bytes)
    }

    #[test]
    fn only_what_was_synced_is_sure_to_survive() {
        let disk = SimulatedDisk::new();
        let file = disk.create(Path::new("/a")).unwrap();
        file.write_all_at(&[IoSlice::new(b"first")], 0).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        file.write_all_at(&[IoSlice::new(b"other")], 0).unwrap();
        disk.create(Path::new("/b")).unwrap();
        let after: Vec<_> = (0..32).map(|seed| disk.crash(seed)).collect();
        let versions: BTreeSet<_> = after.iter().map(|disk| contents(disk, "/a").unwrap()).collect();
        assert_eq!(versions, BTreeSet::from([b"first".to_vec(), b"other".to_vec()]));
        assert!(after.iter().any(|disk| contents(disk, "/b").is_none()));
        assert_eq!(contents(&disk.kill(), "/a").unwrap(), b"other");
    }

    #[test]
    fn a_full_disk_refuses_what_was_not_reserved() {
        let disk = SimulatedDisk::new();
        disk.set_capacity(Some(16 * 1024));
        let file = disk.create(Path::new("/a")).unwrap();
        file.allocate(12 * 1024).unwrap();
        let other = disk.create(Path::new("/b")).unwrap();
        let error = other.allocate(8 * 1024).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        file.write_all_at(&[IoSlice::new(&[1; 12 * 1024])], 0).unwrap();
    }

    #[test]
    fn nothing_happens_after_the_stop() {
        let disk = SimulatedDisk::new();
        disk.stop_after(1);
        let file = disk.create(Path::new("/a")).unwrap();
        assert!(file.write_all_at(&[IoSlice::new(b"x")], 0).is_err());
        assert!(file.sync_data().is_err());
        assert_eq!(disk.operations(), 3);
    }
}
