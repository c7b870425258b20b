//! What is on a simulated disk, what of it is durable, and what a crash leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use millstream_core::{Error, ErrorKind, Result};

use super::names::{Entry, Names, Place, TOP};
use super::{Fault, Operation};

const SECTOR: usize = 512;

#[derive(Clone)]
pub(super) struct State {
    seed: u64,
    chance: Chance,
    /// Grows when the process or the machine stops: what was opened before is closed.
    pub(super) epoch: u64,
    pub(super) up: bool,
    pub(super) full: bool,
    pub(super) faults: BTreeMap<u64, Fault>,
    pub(super) operations: Vec<Operation>,
    pub(super) nodes: BTreeMap<u64, Node>,
    /// The next number of a file or a folder.
    next_node: u64,
    /// What names mean now, and what they would mean if only what is durable were left.
    names: Names,
    durable: Names,
    changes: Vec<Change>,
    locks: BTreeSet<PathBuf>,
}

/// What is in a file.
#[derive(Clone, Default)]
pub(super) struct Node {
    pub(super) bytes: Vec<u8>,
    /// How many of them a sync has covered.
    synced: usize,
    /// What a failed sync gave up: it may be torn whatever is synced later.
    doubtful: Vec<Range<usize>>,
}

/// A change of names that is not durable.
#[derive(Clone)]
enum Change {
    Link(Place, Entry),
    Unlink(Place, Entry),
    Move(Place, Place, Entry),
}

impl Change {
    /// Returns the folder whose sync makes it durable.
    fn folder(&self) -> u64 {
        match self {
            Change::Link((folder, _), _) | Change::Unlink((folder, _), _) | Change::Move(_, (folder, _), _) => *folder,
        }
    }
}

/// How far an operation goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Go {
    Whole,
    /// The machine stops; the effect is there or not.
    Crash,
    Torn,
    Error,
    Full,
}

pub(super) fn data(text: String) -> Error {
    Error::new(ErrorKind::Data, text)
}

fn unavailable(text: String) -> Error {
    Error::new(ErrorKind::Unavailable, text)
}

fn is_top(path: &Path) -> bool {
    path.parent().is_none() || path.as_os_str().is_empty()
}

/// Chances by a seed: splitmix64.
#[derive(Clone)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// A number below `n`.
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// Spoils about one sector in `n` of a range: it is missing, or garbage.
    fn tear(&mut self, bytes: &mut [u8], range: &Range<usize>, n: usize) {
        let mut from = range.start;
        while from < range.end {
            let to = ((from / SECTOR + 1) * SECTOR).min(range.end);
            if self.one_in(n) {
                let garbage = self.one_in(2);
                for byte in &mut bytes[from..to] {
                    *byte = if garbage { self.next() as u8 } else { 0 };
                }
            }
            from = to;
        }
    }

    /// How many of `n` bytes get through: none, all, or some.
    fn part(&mut self, n: usize) -> usize {
        match self.below(4) {
            0 => 0,
            1 => n,
            _ => self.below(n + 1),
        }
    }
}

impl Node {
    /// Keeps what is durable, and of the rest what chance leaves.
    fn crash(&mut self, chance: &mut Chance) {
        let keep = self.synced + chance.part(self.bytes.len() - self.synced);
        self.bytes.truncate(keep);
        if chance.one_in(2) {
            chance.tear(&mut self.bytes, &(self.synced..keep), 3);
        }
        for range in std::mem::take(&mut self.doubtful) {
            let range = range.start..range.end.min(keep);
            chance.tear(&mut self.bytes, &range, 2);
        }
        self.synced = keep;
    }
}

impl State {
    pub(super) fn new(seed: u64) -> State {
        State {
            seed,
            chance: Chance(seed),
            epoch: 0,
            up: true,
            full: false,
            faults: BTreeMap::new(),
            operations: Vec::new(),
            nodes: BTreeMap::new(),
            next_node: TOP + 1,
            names: Names::new(),
            durable: Names::new(),
            changes: Vec::new(),
            locks: BTreeSet::new(),
        }
    }

    // ---- the machine ----

    pub(super) fn kill(&mut self) {
        self.epoch += 1;
        self.locks.clear();
    }

    pub(super) fn crash(&mut self, seed: u64) {
        self.chance = Chance(self.seed ^ seed.rotate_left(32));
        self.lose();
    }

    fn lose(&mut self) {
        self.kill();
        self.up = false;
        for change in std::mem::take(&mut self.changes) {
            if self.chance.one_in(2) {
                self.settle(&change);
            }
        }
        let kept = self.durable.keep_what_has_a_name();
        self.names = self.durable.clone();
        self.nodes.retain(|node, _| kept.contains(node));
        for node in self.nodes.values_mut() {
            node.crash(&mut self.chance);
        }
    }

    /// Makes a change durable.
    fn settle(&mut self, change: &Change) {
        match change {
            Change::Link(place, entry) => self.durable.set(place, *entry),
            Change::Unlink(place, entry) => self.durable.clear(place, *entry),
            Change::Move(from, to, entry) => {
                self.durable.clear(from, *entry);
                self.durable.set(to, *entry);
            }
        }
    }

    /// Notes an operation and says how far it goes.
    fn begin(&mut self, name: &'static str, path: &Path, bytes: u64) -> Result<Go> {
        self.running(path)?;
        let number = self.operations.len() as u64 + 1;
        let fault = self.faults.remove(&number);
        self.operations.push(Operation { number, name, path: path.to_owned(), bytes, fault });
        Ok(match fault {
            None if self.full && matches!(name, "append" | "create" | "create_folder" | "make_folder") => Go::Full,
            None => Go::Whole,
            Some(Fault::Crash) => Go::Crash,
            Some(Fault::TornWrite) => Go::Torn,
            Some(Fault::Error) => Go::Error,
            Some(Fault::DiskFull) => {
                self.full = true;
                Go::Full
            }
        })
    }

    /// Ends an operation that was not to be whole: the machine stops, or an error is returned.
    fn end(&mut self, go: Go, name: &str, path: &Path) -> Result<()> {
        let path = path.display();
        match go {
            Go::Whole => Ok(()),
            Go::Crash | Go::Torn => {
                self.lose();
                Err(unavailable(format!("{path}: {name}: the simulated machine stopped")))
            }
            Go::Error => Err(unavailable(format!("{path}: {name}: a simulated error of the disk"))),
            Go::Full => Err(unavailable(format!("{path}: {name}: the simulated disk is full"))),
        }
    }

    /// Whether an operation on names has its effect.
    fn happens(&mut self, go: Go) -> bool {
        match go {
            Go::Whole | Go::Torn => true,
            Go::Crash => self.chance.one_in(2),
            Go::Error | Go::Full => false,
        }
    }

    fn running(&self, path: &Path) -> Result<()> {
        if self.up {
            return Ok(());
        }
        Err(unavailable(format!("{}: the simulated machine stands still: restart it", path.display())))
    }

    pub(super) fn alive(&self, epoch: u64, path: &Path) -> Result<()> {
        self.running(path)?;
        if epoch == self.epoch {
            return Ok(());
        }
        Err(unavailable(format!("{}: was opened before the simulated process stopped", path.display())))
    }

    // ---- files ----

    pub(super) fn node_at(&self, path: &Path) -> Result<u64> {
        self.running(path)?;
        match self.names.find(path) {
            Some(Entry::File(node)) => Ok(node),
            Some(Entry::Folder(_)) => Err(data(format!("{} is a folder", path.display()))),
            None => Err(data(format!("{} is not there", path.display()))),
        }
    }

    pub(super) fn content(&self, path: &Path) -> Result<&[u8]> {
        let node = self.node_at(path)?;
        Ok(self.nodes.get(&node).map_or(&[], |node| &node.bytes))
    }

    pub(super) fn tamper(&mut self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let id = self.node_at(path).expect("the file to tamper with is there");
        let node = self.nodes.entry(id).or_default();
        change(&mut node.bytes);
        node.synced = node.bytes.len();
        node.doubtful.clear();
    }

    pub(super) fn create(&mut self, path: &Path) -> Result<u64> {
        let go = self.begin("create", path, 0)?;
        if self.names.find(path).is_some() {
            return Err(data(format!("{} could not be made: it is there", path.display())));
        }
        let place = self.in_a_folder(path)?;
        let node = self.next_node;
        if self.happens(go) {
            self.link(place, Entry::File(node));
        }
        self.end(go, "create", path)?;
        Ok(node)
    }

    /// Gives the next file or folder a name.
    fn link(&mut self, place: Place, entry: Entry) {
        if let Entry::File(node) = entry {
            self.nodes.insert(node, Node::default());
        }
        self.next_node += 1;
        self.names.set(&place, entry);
        self.changes.push(Change::Link(place, entry));
    }

    pub(super) fn append(&mut self, epoch: u64, node: u64, path: &Path, bytes: &[u8]) -> Result<()> {
        self.alive(epoch, path)?;
        let go = self.begin("append", path, bytes.len() as u64)?;
        let part = if go == Go::Whole { bytes.len() } else { self.chance.part(bytes.len()) };
        let file = self.nodes.entry(node).or_default();
        let from = file.bytes.len();
        file.bytes.extend_from_slice(&bytes[..part]);
        if go == Go::Torn {
            let range = from..file.bytes.len();
            self.chance.tear(&mut file.bytes, &range, 2);
            // It has got to the disk in this state.
            file.synced = file.bytes.len();
        }
        self.end(go, "append", path)
    }

    pub(super) fn sync(&mut self, epoch: u64, node: u64, path: &Path) -> Result<()> {
        self.alive(epoch, path)?;
        let go = self.begin("sync", path, 0)?;
        let done = go == Go::Whole || (go == Go::Crash && self.chance.one_in(2));
        let file = self.nodes.entry(node).or_default();
        if matches!(go, Go::Error | Go::Full) && file.synced < file.bytes.len() {
            // The system takes what it could not write for written.
            file.doubtful.push(file.synced..file.bytes.len());
            file.synced = file.bytes.len();
        } else if done {
            file.synced = file.bytes.len();
        }
        self.end(go, "sync", path)
    }

    pub(super) fn truncate(&mut self, path: &Path, len: u64) -> Result<()> {
        let go = self.begin("truncate", path, len)?;
        let node = self.node_at(path)?;
        if self.happens(go) {
            let file = self.nodes.entry(node).or_default();
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            if len > file.bytes.len() {
                return Err(data(format!("{} is shorter than {len} bytes", path.display())));
            }
            file.bytes.truncate(len);
            file.doubtful.retain(|range| range.start < len);
            for range in &mut file.doubtful {
                range.end = range.end.min(len);
            }
            file.synced = len;
        }
        self.end(go, "truncate", path)
    }

    // ---- names ----

    fn in_a_folder(&self, path: &Path) -> Result<Place> {
        self.names.place(path).ok_or_else(|| data(format!("{} is in no folder that is there", path.display())))
    }

    pub(super) fn exists(&self, path: &Path) -> Result<bool> {
        self.running(path)?;
        Ok(self.names.find(path).is_some())
    }

    pub(super) fn list(&self, folder: &Path) -> Result<Vec<String>> {
        self.running(folder)?;
        match self.names.find(folder) {
            Some(Entry::Folder(found)) => Ok(self.names.list(found).map(|(name, _)| name.clone()).collect()),
            Some(Entry::File(_)) => Err(unavailable(format!("{} is a file", folder.display()))),
            None => Ok(Vec::new()),
        }
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> Result<()> {
        let go = self.begin("rename", from, 0)?;
        let moved = self.names.find(from).ok_or_else(|| data(format!("{} is not there", from.display())))?;
        let (old, new) = (self.in_a_folder(from)?, self.in_a_folder(to)?);
        if let (Entry::Folder(_), Some(there)) = (moved, self.names.find(to)) {
            let is_empty = matches!(there, Entry::Folder(folder) if self.names.list(folder).next().is_none());
            if !is_empty {
                return Err(unavailable(format!("{} is there, and no empty folder", to.display())));
            }
        }
        if self.happens(go) {
            self.names.clear(&old, moved);
            self.names.set(&new, moved);
            self.changes.push(Change::Move(old, new, moved));
        }
        self.end(go, "rename", from)
    }

    pub(super) fn remove_file(&mut self, path: &Path) -> Result<()> {
        let go = self.begin("remove_file", path, 0)?;
        let node = self.node_at(path)?;
        let place = self.in_a_folder(path)?;
        if self.happens(go) {
            self.unlink(place, Entry::File(node));
        }
        self.end(go, "remove_file", path)
    }

    fn unlink(&mut self, place: Place, entry: Entry) {
        self.names.clear(&place, entry);
        self.changes.push(Change::Unlink(place, entry));
    }

    pub(super) fn remove_folder(&mut self, path: &Path) -> Result<()> {
        let go = self.begin("remove_folder", path, 0)?;
        let found = self.names.find(path).zip(self.names.place(path));
        let files = match &found {
            Some((Entry::Folder(folder), _)) => self.names.files_below(*folder, path),
            _ => Vec::new(),
        };
        // Files go one after the other, then the folder.
        let part = if go == Go::Whole || go == Go::Torn { files.len() } else { self.chance.part(files.len()) };
        for (_, place, node) in files.into_iter().take(part) {
            self.unlink(place, Entry::File(node));
        }
        if let (Go::Whole, Some((entry @ Entry::Folder(_), place))) = (go, found) {
            self.unlink(place, entry);
        }
        self.end(go, "remove_folder", path)
    }

    pub(super) fn remove_empty_folder(&mut self, path: &Path) -> Result<()> {
        let Some(Entry::Folder(folder)) = self.names.find(path) else { return self.running(path) };
        if self.names.list(folder).next().is_some() {
            return self.running(path);
        }
        let go = self.begin("remove_empty_folder", path, 0)?;
        let place = self.in_a_folder(path)?;
        if self.happens(go) {
            self.unlink(place, Entry::Folder(folder));
        }
        self.end(go, "remove_empty_folder", path)
    }

    /// Makes a folder and those it is in; `durably`, or so that their names can be lost.
    pub(super) fn create_folder(&mut self, path: &Path, durably: bool) -> Result<()> {
        let name = if durably { "create_folder" } else { "make_folder" };
        let go = self.begin(name, path, 0)?;
        let mut missing: Vec<&Path> = Vec::new();
        for folder in path.ancestors().filter(|folder| !is_top(folder)) {
            match self.names.find(folder) {
                Some(Entry::Folder(_)) => break,
                Some(Entry::File(_)) => return Err(unavailable(format!("{} is a file", folder.display()))),
                None => missing.push(folder),
            }
        }
        let part = if go == Go::Whole { missing.len() } else { self.chance.part(missing.len()) };
        for folder in missing.into_iter().rev().take(part) {
            let place = self.in_a_folder(folder)?;
            let parent = place.0;
            self.link(place, Entry::Folder(self.next_node));
            if durably {
                self.make_durable(parent);
            }
        }
        self.end(go, name, path)
    }

    pub(super) fn sync_folder(&mut self, path: &Path) -> Result<()> {
        let go = self.begin("sync_folder", path, 0)?;
        let Some(Entry::Folder(folder)) = self.names.find(path) else {
            return Err(data(format!("there is no folder {}", path.display())));
        };
        if self.happens(go) {
            self.make_durable(folder);
        }
        self.end(go, "sync_folder", path)
    }

    fn make_durable(&mut self, folder: u64) {
        let (now, later): (Vec<Change>, Vec<Change>) =
            std::mem::take(&mut self.changes).into_iter().partition(|change| change.folder() == folder);
        self.changes = later;
        for change in now {
            self.settle(&change);
            if let Change::Move(from, _, moved) = change {
                self.never_was(&from, moved);
            }
        }
    }

    /// What has durably been moved away from a place does not come back there: how it had come there is of no account.
    fn never_was(&mut self, place: &Place, what: Entry) {
        let mut left = Vec::new();
        for change in std::mem::take(&mut self.changes) {
            match change {
                Change::Link(at, entry) if at == *place && entry == what => {}
                Change::Move(before, at, entry) if at == *place && entry == what => self.durable.clear(&before, entry),
                other => left.push(other),
            }
        }
        self.changes = left;
    }

    // ---- locks ----

    pub(super) fn lock(&mut self, path: &Path) -> Result<bool> {
        self.running(path)?;
        if self.names.find(path).is_none() {
            let place = self.in_a_folder(path)?;
            self.link(place, Entry::File(self.next_node));
        }
        Ok(self.locks.insert(path.to_owned()))
    }

    pub(super) fn unlock(&mut self, path: &Path, epoch: u64) {
        if epoch == self.epoch {
            self.locks.remove(path);
        }
    }
}
