//! A disk in memory that loses, at a crash, whatever was not made durable.

mod names;
mod state;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use millstream_core::Result;
use millstream_core::disk::{Disk, DiskFile, DiskLock};
use millstream_core::threads::lock;

use self::state::State;

/// What goes wrong at an operation of a [`SimDisk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// The machine stops, before or after the operation has had its effect. All that was not durable is lost or torn.
    Crash,
    /// The machine stops in the middle: of a write, a part has reached the disk, with sectors missing or full of garbage.
    TornWrite,
    /// The operation fails, and the disk goes on. A write has had its effect on a part; after a failed sync, what it should
    /// have made durable is torn at the next crash, even if a later sync succeeds.
    Error,
    /// The disk is full. A part is written; nothing more can be until [`SimDisk::make_room`].
    DiskFull,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 4] = [Fault::Crash, Fault::TornWrite, Fault::Error, Fault::DiskFull];
}

/// An operation that a [`SimDisk`] was asked for, and what became of it. Reading is not listed: it changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Its number, from 1.
    pub number: u64,
    /// What was asked, by the name of the method: `create`, `append`, `sync`, `truncate`, `rename`, `remove_file` and so on.
    pub name: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// How many bytes were to be written, or the length to cut to.
    pub bytes: u64,
    /// What went wrong by plan.
    pub fault: Option<Fault>,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>4} {} {} {}", self.number, self.name, self.path.display(), self.bytes)?;
        self.fault.map_or(Ok(()), |fault| write!(f, " {fault:?}"))
    }
}

/// A disk in memory, for tests of what must survive a crash.
///
/// It keeps for each file what is written and what is durable, and for each folder which new names, renames and removals
/// are. A [`crash`](SimDisk::crash) keeps what is durable. Of the rest it keeps an arbitrary part: a prefix of what was
/// appended, in which sectors of 512 bytes may be missing or garbage; each name, rename and removal or not, one by one (a rename
/// has happened or has not). Whoever had files open or held a lock before the crash holds nothing after it.
///
/// Clones are the same disk. Everything is decided by the seed: the same operations with the same seed give the same disk and
/// the same [`trace`](SimDisk::trace), byte by byte.
///
/// What it does not simulate: bytes that were durable and rot; names that a folder's failed sync loses though a later one
/// succeeds (file systems with a journal do not); a move between folders that is half done.
///
/// # Example
///
/// Each operation of some work is tried as the one at which the machine stops:
///
/// ```
/// use std::path::Path;
/// use millstream_core::disk::{Disk, write_durably};
/// use millstream_testkit::{Fault, SimDisk};
///
/// let path = Path::new("/settings");
/// for n in 2.. {
///     let disk = SimDisk::new(n);
///     disk.create_folder(Path::new("/")).unwrap();
///     write_durably(&disk, path, b"old").unwrap();
///     let before = disk.operations().len() as u64;
///     disk.fail_at(before + n - 1, Fault::Crash);
///     let written = write_durably(&disk, path, b"new");
///     disk.restart();
///     let found = disk.read(path).unwrap();
///     assert!(found == b"new" || (found == b"old" && written.is_err()), "{}", disk.trace());
///     if written.is_ok() {
///         break; // there is no such operation any more
///     }
/// }
/// ```
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    reader: Option<Arc<Reader>>,
}

/// Somebody who reads while others go on.
struct Reader {
    readings: AtomicU64,
    before: Box<dyn Fn(u64) + Send + Sync>,
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimDisk({} operations)", lock(&self.state).operations.len())
    }
}

impl SimDisk {
    /// Makes an empty disk whose chances are decided by `seed`.
    pub fn new(seed: u64) -> SimDisk {
        SimDisk { state: Arc::new(Mutex::new(State::new(seed))), reader: None }
    }

    /// Lets the `n`-th operation, counted from 1 since the disk was made, go wrong. Any number of faults can be planned; a
    /// second one for the same operation replaces the first.
    ///
    /// After a fault that stops the machine every operation fails until [`restart`](SimDisk::restart).
    pub fn fail_at(&self, n: u64, fault: Fault) {
        lock(&self.state).faults.insert(n, fault);
    }

    /// Stops the machine now; `seed` decides what is left of what was not durable. Every operation fails until
    /// [`restart`](SimDisk::restart).
    pub fn crash(&self, seed: u64) {
        lock(&self.state).crash(seed);
    }

    /// Ends the process, but not the machine (SIGKILL): files and locks that were open are not any more, and nothing is
    /// lost. New ones can be opened at once.
    pub fn kill(&self) {
        lock(&self.state).kill();
    }

    /// Starts the machine again after a crash, or the process if there was none. What is left can be read.
    pub fn restart(&self) {
        let mut state = lock(&self.state);
        state.kill();
        state.up = true;
    }

    /// Ends the effect of [`Fault::DiskFull`].
    pub fn make_room(&self) {
        lock(&self.state).full = false;
    }

    /// Says whether the machine stands still after a crash.
    pub fn is_down(&self) -> bool {
        !lock(&self.state).up
    }

    /// Returns all operations that were asked for so far.
    pub fn operations(&self) -> Vec<Operation> {
        lock(&self.state).operations.clone()
    }

    /// Returns the faults that have really happened, in order. A fault planned for an operation that never came is not one.
    pub fn fired(&self) -> Vec<Fault> {
        lock(&self.state).operations.iter().filter_map(|operation| operation.fault).collect()
    }

    /// Returns all operations as text, a line each, for a test that fails and for comparing two runs.
    pub fn trace(&self) -> String {
        lock(&self.state).operations.iter().map(|operation| format!("{operation}\n")).collect()
    }

    /// Returns another disk with the same content, faults and future. What is open on this one is not on that.
    pub fn fork(&self) -> SimDisk {
        let mut state = lock(&self.state).clone();
        state.kill();
        SimDisk { state: Arc::new(Mutex::new(state)), reader: None }
    }

    /// Returns this disk for somebody who reads while others go on: `before` is called with the number of each reading of theirs,
    /// from 1, before it is done. What it does is what happens between two readings.
    #[must_use]
    pub fn read_by(&self, before: impl Fn(u64) + Send + Sync + 'static) -> SimDisk {
        let reader = Reader { readings: AtomicU64::new(0), before: Box::new(before) };
        SimDisk { state: Arc::clone(&self.state), reader: Some(Arc::new(reader)) }
    }

    /// Returns the state for a reading.
    fn reading(&self) -> MutexGuard<'_, State> {
        if let Some(reader) = &self.reader {
            (reader.before)(reader.readings.fetch_add(1, Ordering::Relaxed) + 1);
        }
        lock(&self.state)
    }

    /// Changes what is in a file, durably, as somebody else would: to corrupt it.
    ///
    /// # Panics
    ///
    /// If there is no such file.
    pub fn tamper(&self, path: impl AsRef<Path>, change: impl FnOnce(&mut Vec<u8>)) {
        lock(&self.state).tamper(path.as_ref(), change);
    }
}

impl Disk for SimDisk {
    fn create(&self, path: &Path) -> Result<Box<dyn DiskFile>> {
        let mut state = lock(&self.state);
        let node = state.create(path)?;
        Ok(self.file(&state, node, path))
    }

    fn open_append(&self, path: &Path) -> Result<Box<dyn DiskFile>> {
        let state = lock(&self.state);
        let node = state.node_at(path)?;
        Ok(self.file(&state, node, path))
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>> {
        let state = self.reading();
        Ok(state.content(path)?.to_vec())
    }

    fn read_at(&self, path: &Path, offset: u64, len: usize) -> Result<Vec<u8>> {
        let state = self.reading();
        let content = state.content(path)?;
        let end = usize::try_from(offset).ok().and_then(|from| Some(from..from.checked_add(len)?));
        let bytes = end.and_then(|range| content.get(range));
        bytes.map(<[u8]>::to_vec).ok_or_else(|| {
            let text = format!("{} has no {len} bytes at {offset}: it has {}", path.display(), content.len());
            state::data(text)
        })
    }

    fn len(&self, path: &Path) -> Result<u64> {
        Ok(self.reading().content(path)?.len() as u64)
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        self.reading().exists(path)
    }

    fn list(&self, folder: &Path) -> Result<Vec<String>> {
        self.reading().list(folder)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        lock(&self.state).rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        lock(&self.state).remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> Result<()> {
        lock(&self.state).remove_folder(path)
    }

    fn create_folder(&self, path: &Path) -> Result<()> {
        lock(&self.state).create_folder(path, true)
    }

    fn make_folder(&self, path: &Path) -> Result<()> {
        lock(&self.state).create_folder(path, false)
    }

    fn remove_empty_folder(&self, path: &Path) -> Result<()> {
        lock(&self.state).remove_empty_folder(path)
    }

    fn truncate(&self, path: &Path, len: u64) -> Result<()> {
        lock(&self.state).truncate(path, len)
    }

    fn sync_folder(&self, path: &Path) -> Result<()> {
        lock(&self.state).sync_folder(path)
    }

    fn lock(&self, path: &Path) -> Result<Option<Box<dyn DiskLock>>> {
        let mut state = lock(&self.state);
        let epoch = state.epoch;
        let held = state.lock(path)?.then(|| SimLock { disk: self.clone(), path: path.to_owned(), epoch });
        Ok(held.map(|held| -> Box<dyn DiskLock> { Box::new(held) }))
    }
}

impl SimDisk {
    fn file(&self, state: &State, node: u64, path: &Path) -> Box<dyn DiskFile> {
        let (epoch, len) = (state.epoch, state.nodes.get(&node).map_or(0, |node| node.bytes.len() as u64));
        Box::new(SimFile { disk: self.clone(), node, path: path.to_owned(), epoch, len })
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    node: u64,
    path: PathBuf,
    epoch: u64,
    len: u64,
}

impl DiskFile for SimFile {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        lock(&self.disk.state).append(self.epoch, self.node, &self.path, bytes)?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        lock(&self.disk.state).sync(self.epoch, self.node, &self.path)
    }

    fn len(&self) -> u64 {
        self.len
    }
}

#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    path: PathBuf,
    epoch: u64,
}

impl DiskLock for SimLock {
    fn check(&self) -> Result<()> {
        lock(&self.disk.state).alive(self.epoch, &self.path)
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        lock(&self.disk.state).unlock(&self.path, self.epoch);
    }
}
