//! The table behind a state: one hash table that is changed in place, and a log of how to get back.
//!
//! A state at batch *t* is made from the state at *t − 1*, which must stay readable: its Rdd is remembered. To copy the table
//! would cost what it holds; persistent trees cost every look-up. So the newest version owns the table, and each older one
//! that somebody still holds is the newest with changes undone.
//!
//! ```text
//!  version 7 ◄─ undo ─ version 8 ◄─ undo ─ version 9: the table itself
//!  (remembered)        (remembered)        (newest)
//! ```
//!
//! To make version 10 costs what changes. To read version 8 costs its size, and looks into the log for each entry that
//! changed since. When nobody holds the oldest version any more, its undo log is dropped. A version that is not the newest
//! is rarely built upon (a partition that was lost is computed again); then the table is copied.
//!
//! The table is cut into shards, each of which grows by itself, so that no single batch pays for all of it.
//!
//! INVARIANT: for every version that somebody holds, the log reaches back to it without a gap.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use hashbrown::HashTable;
use millstream_core::partitioner::key_hash;
use millstream_core::threads::lock;
use millstream_core::{Data, Key, Time};
use serde::{Deserialize, Serialize};

/// How many shards a table has.
const SHARDS: usize = 256;

/// One version of a state's table. Cloning and dropping costs a lock.
pub(crate) struct StateTable<K, S> {
    base: Arc<Mutex<Base<K, S>>>,
    version: u64,
}

#[derive(Clone)]
struct Entry<K, S> {
    key: K,
    state: S,
    /// When it was last updated or, with a time-out, touched.
    at: Time,
}

/// What a key had before a version: to get back to it.
struct Undo<K, S> {
    hash: u64,
    key: K,
    before: Option<(S, Time)>,
}

struct Base<K, S> {
    shards: Vec<HashTable<Entry<K, S>>>,
    len: usize,
    newest: u64,
    /// How to get from the version behind each to the version itself, oldest first.
    undo: VecDeque<(u64, Vec<Undo<K, S>>)>,
    /// How many hold each version.
    holders: BTreeMap<u64, usize>,
    /// The hashes of what was updated or touched, by time: where to look for what times out.
    touched: VecDeque<(Time, Vec<u64>)>,
    /// What has been written of the table.
    saves: Saves,
}

/// What has been written of a table: each time all that changed, and some shards as a whole, in turn. So a save costs little,
/// and a table can be read from the last of them.
#[derive(Default)]
struct Saves {
    /// The version that was last written, which is held.
    version: Option<u64>,
    /// The folders that the last save builds upon and itself, oldest first, and which shards each has as a whole.
    notes: VecDeque<(String, Vec<u16>)>,
    /// The next shard whose turn it is.
    turn: usize,
}

/// How many shards are written as a whole with each save.
const IN_TURN: usize = 2;

/// What is to be written of a table.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Part<K, S> {
    /// The folders that it builds upon, oldest first.
    pub(crate) upon: Vec<String>,
    /// How many shards the table has.
    shards: u32,
    /// The shards that are written as a whole, and their entries.
    whole: Vec<u16>,
    entries: Vec<(K, S, i64)>,
    /// What became of keys of other shards since the last save.
    changes: Vec<(K, Option<(S, i64)>)>,
}

/// The shard of a hash: by bits that neither the table's places nor the partitions use much.
fn shard_of(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}

/// What happens to a key.
pub(crate) enum Change<S> {
    /// It has this state now.
    Set(S),
    /// It has none any more.
    Remove,
    /// Its state stays, and counts as used now.
    Touch,
}

/// What is to become of keys, in the order in which they were first changed.
pub(crate) struct Changes<K, S> {
    list: Vec<(u64, K, Change<S>)>,
    index: HashTable<usize>,
    /// The time that is noted for what is set or touched.
    at: Time,
    /// Whether it is noted so that keys can time out.
    timed: bool,
    /// Up to when keys that were not used have been looked through.
    dealt_with: Option<Time>,
}

impl<K: Key, S> Changes<K, S> {
    /// Begins the changes of a batch. If `timed`, a later one can ask what has not been used since.
    pub(crate) fn new(at: Time, timed: bool) -> Changes<K, S> {
        Changes { list: Vec::new(), index: HashTable::new(), at, timed, dealt_with: None }
    }

    /// Says that nobody will ask any more what was not used since `limit`.
    pub(crate) fn dealt_with(&mut self, limit: Time) {
        self.dealt_with = Some(limit);
    }

    pub(crate) fn get(&self, hash: u64, key: &K) -> Option<&Change<S>> {
        let at = self.index.find(hash, |at| self.list[*at].1 == *key)?;
        Some(&self.list[*at].2)
    }

    /// Notes a change, in the place of an earlier one of the key.
    pub(crate) fn put(&mut self, hash: u64, key: K, change: Change<S>) {
        match self.index.find(hash, |at| self.list[*at].1 == key) {
            Some(at) => self.list[*at].2 = change,
            None => {
                self.index.insert_unique(hash, self.list.len(), |at| self.list[*at].0);
                self.list.push((hash, key, change));
            }
        }
    }
}

/// A table that is being read to make the next version. Others wait.
pub(crate) struct Reading<'a, K, S> {
    base: MutexGuard<'a, Base<K, S>>,
}

impl<K: Key, S> Reading<'_, K, S> {
    /// Returns the state of a key.
    pub(crate) fn get(&self, hash: u64, key: &K) -> Option<&S> {
        self.base.find(hash, key).map(|entry| &entry.state)
    }

    /// Returns the keys that were last used before `limit`, in the order in which they were used.
    pub(crate) fn unused_since(&self, limit: Time) -> Vec<(u64, K)> {
        let mut found = Vec::new();
        for (at, hashes) in self.base.touched.iter().take_while(|(at, _)| *at < limit) {
            for hash in hashes {
                let shard = &self.base.shards[shard_of(*hash)];
                found.extend(shard.iter_hash(*hash).filter(|e| e.at == *at).map(|e| (*hash, e.key.clone())));
            }
        }
        found
    }
}

impl<K: Key, S: Data> StateTable<K, S> {
    /// Makes a table of some keys, all used at `at`. Of several states of a key the first counts (S-45).
    pub(crate) fn of(entries: impl Iterator<Item = (K, S)>, at: Time) -> StateTable<K, S> {
        StateTable::with_times(entries.map(|(key, state)| (key, state, at)))
    }

    fn with_times(entries: impl Iterator<Item = (K, S, Time)>) -> StateTable<K, S> {
        let mut base = Base::empty();
        let mut times: BTreeMap<Time, Vec<u64>> = BTreeMap::new();
        for (key, state, at) in entries {
            let hash = key_hash(&key);
            if base.find(hash, &key).is_none() {
                base.insert(hash, Entry { key, state, at });
                times.entry(at).or_default().push(hash);
            }
        }
        base.touched = times.into_iter().collect();
        StateTable::first(base)
    }

    fn first(mut base: Base<K, S>) -> StateTable<K, S> {
        base.holders.insert(base.newest, 1);
        StateTable { version: base.newest, base: Arc::new(Mutex::new(base)) }
    }

    /// Makes the next version: `make` reads this one and says what changes. If it fails or panics, nothing has changed.
    pub(crate) fn next<R, E>(
        &self,
        make: impl FnOnce(&Reading<'_, K, S>) -> Result<(Changes<K, S>, R), E>,
    ) -> Result<(StateTable<K, S>, R), E> {
        let base = lock(&self.base);
        if base.newest != self.version {
            let copy = StateTable::first(base.copy_of(self.version));
            drop(base);
            return copy.next(make);
        }
        let reading = Reading { base };
        let (changes, result) = make(&reading)?;
        let Reading { mut base } = reading;
        let version = base.apply(changes);
        base.hold(version);
        drop(base);
        Ok((StateTable { base: Arc::clone(&self.base), version }, result))
    }

    /// Returns how many keys the newest version has.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        lock(&self.base).len
    }

    /// Reads all keys and their states, a shard at a time.
    pub(crate) fn entries(self) -> impl Iterator<Item = (K, S)> + Send + 'static {
        self.timed_entries().map(|(key, state, _)| (key, state))
    }

    fn timed_entries(self) -> impl Iterator<Item = (K, S, Time)> + Send + 'static {
        (0..SHARDS).flat_map(move |shard| lock(&self.base).shard_at(shard, self.version))
    }
}

impl<K: Key, S: Data> StateTable<K, S> {
    /// Returns what must be written of this version into `folder`. Call [`saved`](StateTable::saved) when that is done.
    pub(crate) fn to_save(&self) -> Part<K, S> {
        let base = lock(&self.base);
        let all = || (0..SHARDS as u16).collect::<Vec<u16>>();
        let since = base.saves.version.filter(|since| *since <= self.version);
        let changed = since.map(|since| base.undone(since, None).1).unwrap_or_default();
        // A small table is written as a whole: that is as cheap, and there is less to read.
        let whole = match since {
            Some(_) if base.len > 4 * changed.len() + SHARDS => {
                (0..IN_TURN).map(|i| ((base.saves.turn + i) % SHARDS) as u16).collect()
            }
            _ => all(),
        };
        let in_whole = |hash: u64| whole.contains(&(shard_of(hash) as u16));
        let entries = whole.iter().flat_map(|shard| base.shard_at(usize::from(*shard), self.version));
        let entries = entries.map(|(key, state, at)| (key, state, at.as_millis())).collect();
        let changes = changed
            .into_iter()
            .filter(|one| whole.len() < SHARDS && !in_whole(one.hash))
            .map(|one| (one.key.clone(), base.at_version(one.hash, &one.key, self.version)))
            .collect();
        let upon = if whole.len() < SHARDS {
            base.saves.notes.iter().map(|(folder, _)| folder.clone()).collect()
        } else {
            Vec::new()
        };
        Part { upon, shards: SHARDS as u32, whole, entries, changes }
    }

    /// Notes that `part` has been written into `folder`; returns the folders that it builds upon.
    pub(crate) fn saved(&self, part: &Part<K, S>, folder: &str) -> Vec<String> {
        let mut base = lock(&self.base);
        let last = base.saves.version.replace(self.version);
        base.hold(self.version);
        let dropped = last.map(|last| base.let_go(last)).unwrap_or_default();
        base.saves.notes.push_back((folder.to_owned(), part.whole.clone()));
        base.saves.turn = (base.saves.turn + IN_TURN) % SHARDS;
        // Folders before the first one from which on every shard has been written as a whole are not read any more.
        let mut seen = [false; SHARDS];
        let mut first = base.saves.notes.len();
        while first > 0 && seen.contains(&false) {
            first -= 1;
            base.saves.notes[first].1.iter().for_each(|shard| seen[usize::from(*shard)] = true);
        }
        let old: Vec<_> = base.saves.notes.drain(..first).collect();
        let upon = base.saves.notes.iter().map(|(folder, _)| folder.clone()).collect();
        drop(base);
        drop((old, dropped));
        upon
    }

    /// Puts a table together from what was written, oldest first; each names the folder that it was read from.
    pub(crate) fn from_parts(parts: Vec<Part<K, S>>) -> Option<StateTable<K, S>> {
        let mut shards: Vec<HashMap<K, (S, Time)>> = (0..SHARDS).map(|_| HashMap::default()).collect();
        for part in parts {
            if part.shards as usize != SHARDS {
                return None;
            }
            for shard in &part.whole {
                shards.get_mut(usize::from(*shard))?.clear();
            }
            for (key, state, at) in part.entries {
                shards[shard_of(key_hash(&key))].insert(key, (state, Time::from_millis(at)));
            }
            for (key, after) in part.changes {
                let shard = &mut shards[shard_of(key_hash(&key))];
                match after {
                    Some((state, at)) => drop(shard.insert(key, (state, Time::from_millis(at)))),
                    None => drop(shard.remove(&key)),
                }
            }
        }
        let entries = shards.into_iter().flatten().map(|(key, (state, at))| (key, state, at));
        Some(StateTable::with_times(entries))
    }
}

/// A map whose order is the same everywhere, as that of the table that is made of it must be.
type HashMap<K, V> = hashbrown::HashMap<K, V, std::hash::BuildHasherDefault<std::hash::DefaultHasher>>;

impl<K: Key, S: Data> Base<K, S> {
    /// What a key had at a version.
    fn at_version(&self, hash: u64, key: &K, version: u64) -> Option<(S, i64)> {
        for (_, undo) in self.undo.iter().skip_while(|(to, _)| *to < version) {
            if let Some(one) = undo.iter().find(|one| one.hash == hash && one.key == *key) {
                return one.before.as_ref().map(|(state, at)| (state.clone(), at.as_millis()));
            }
        }
        self.find(hash, key).map(|entry| (entry.state.clone(), entry.at.as_millis()))
    }

    fn empty() -> Base<K, S> {
        Base {
            shards: (0..SHARDS).map(|_| HashTable::new()).collect(),
            len: 0,
            newest: 0,
            undo: VecDeque::new(),
            holders: BTreeMap::new(),
            touched: VecDeque::new(),
            saves: Saves::default(),
        }
    }

    fn insert(&mut self, hash: u64, entry: Entry<K, S>) {
        self.shards[shard_of(hash)].insert_unique(hash, entry, |entry| key_hash(&entry.key));
        self.len += 1;
    }

    /// Applies changes, in one go that nothing of the program can interrupt, and returns the new version.
    fn apply(&mut self, changes: Changes<K, S>) -> u64 {
        let Changes { list, at, timed, dealt_with, .. } = changes;
        let mut undo = Vec::with_capacity(list.len());
        let mut used = Vec::new();
        for (hash, key, change) in list {
            let shard = &mut self.shards[shard_of(hash)];
            if timed && !matches!(change, Change::Remove) {
                used.push(hash);
            }
            match (shard.find_entry(hash, |entry| entry.key == key), change) {
                (Ok(mut entry), Change::Set(state)) => {
                    let entry = entry.get_mut();
                    let before =
                        Some((std::mem::replace(&mut entry.state, state), std::mem::replace(&mut entry.at, at)));
                    undo.push(Undo { hash, key, before });
                }
                (Ok(mut entry), Change::Touch) => {
                    let entry = entry.get_mut();
                    if timed && entry.at != at {
                        let before = Some((entry.state.clone(), std::mem::replace(&mut entry.at, at)));
                        undo.push(Undo { hash, key, before });
                    }
                }
                (Ok(entry), Change::Remove) => {
                    let (Entry { state, at, .. }, _) = entry.remove();
                    self.len -= 1;
                    undo.push(Undo { hash, key, before: Some((state, at)) });
                }
                (Err(_), Change::Set(state)) => {
                    undo.push(Undo { hash, key: key.clone(), before: None });
                    self.insert(hash, Entry { key, state, at });
                }
                (Err(_), Change::Touch | Change::Remove) => {}
            }
        }
        if !used.is_empty() {
            self.touched.push_back((at, used));
        }
        if let Some(limit) = dealt_with {
            while self.touched.front().is_some_and(|(at, _)| *at < limit) {
                self.touched.pop_front();
            }
        }
        self.undo.push_back((self.newest, undo));
        self.newest += 1;
        self.newest
    }

    fn hold(&mut self, version: u64) {
        *self.holders.entry(version).or_default() += 1;
    }

    /// What keys of a shard had at `version`, for those that changed since.
    fn undone(&self, version: u64, shard: Option<usize>) -> (HashTable<usize>, Vec<&Undo<K, S>>) {
        let (mut index, mut list) = (HashTable::new(), Vec::<&Undo<K, S>>::new());
        // Oldest first: what a key had before its first change since counts.
        for (_, undo) in self.undo.iter().skip_while(|(to, _)| *to < version) {
            for one in undo.iter().filter(|one| shard.is_none_or(|shard| shard_of(one.hash) == shard)) {
                if index.find(one.hash, |at: &usize| list[*at].key == one.key).is_none() {
                    index.insert_unique(one.hash, list.len(), |at: &usize| list[*at].hash);
                    list.push(one);
                }
            }
        }
        (index, list)
    }

    /// Reads a shard as it was at `version`.
    fn shard_at(&self, shard: usize, version: u64) -> Vec<(K, S, Time)> {
        let entries = &self.shards[shard];
        if version == self.newest {
            return entries.iter().map(|e| (e.key.clone(), e.state.clone(), e.at)).collect();
        }
        let (index, undone) = self.undone(version, Some(shard));
        let mut all = Vec::with_capacity(entries.len());
        for e in entries {
            if index.is_empty() || index.find(key_hash(&e.key), |at| undone[*at].key == e.key).is_none() {
                all.push((e.key.clone(), e.state.clone(), e.at));
            }
        }
        for one in undone {
            all.extend(one.before.as_ref().map(|(state, at)| (one.key.clone(), state.clone(), *at)));
        }
        all
    }

    /// A table of its own with what this one had at `version`.
    fn copy_of(&self, version: u64) -> Base<K, S> {
        let mut base = Base::empty();
        let mut times: BTreeMap<Time, Vec<u64>> = BTreeMap::new();
        for shard in 0..SHARDS {
            for (key, state, at) in self.shard_at(shard, version) {
                let hash = key_hash(&key);
                times.entry(at).or_default().push(hash);
                base.insert(hash, Entry { key, state, at });
            }
        }
        base.touched = times.into_iter().collect();
        base
    }
}

impl<K, S> Base<K, S> {
    fn let_go(&mut self, version: u64) -> Vec<Vec<Undo<K, S>>> {
        if let Some(count) = self.holders.get_mut(&version) {
            *count -= 1;
            if *count == 0 {
                self.holders.remove(&version);
            }
        }
        let oldest = self.holders.keys().next().copied().unwrap_or(self.newest);
        let mut dropped = Vec::new();
        while self.undo.front().is_some_and(|(to, _)| *to < oldest) {
            dropped.extend(self.undo.pop_front().map(|(_, undo)| undo));
        }
        dropped
    }
}

impl<K: Key, S> Base<K, S> {
    fn find(&self, hash: u64, key: &K) -> Option<&Entry<K, S>> {
        self.shards[shard_of(hash)].find(hash, |entry| entry.key == *key)
    }
}

impl<K, S> Clone for StateTable<K, S> {
    fn clone(&self) -> StateTable<K, S> {
        *lock(&self.base).holders.entry(self.version).or_default() += 1;
        StateTable { base: Arc::clone(&self.base), version: self.version }
    }
}

impl<K, S> Drop for StateTable<K, S> {
    fn drop(&mut self) {
        let mut base = lock(&self.base);
        let dropped = base.let_go(self.version);
        drop(base);
        // Keys and states may be large: they are dropped without the lock.
        drop(dropped);
    }
}

impl<K, S> fmt::Debug for StateTable<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateTable(version {})", self.version)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    type Table = StateTable<u64, u64>;

    fn at(t: i64) -> Time {
        Time::from_millis(t)
    }

    fn content(table: &Table) -> BTreeMap<u64, u64> {
        table.clone().entries().collect()
    }

    /// Sets the keys that have a value, removes the others.
    fn next(table: &Table, time: i64, changes: &[(u64, Option<u64>)]) -> Table {
        let make = |_: &Reading<'_, u64, u64>| {
            let mut all = Changes::new(at(time), true);
            for (key, value) in changes {
                all.put(key_hash(key), *key, value.map_or(Change::Remove, Change::Set));
            }
            Ok::<_, ()>((all, ()))
        };
        table.next(make).unwrap().0
    }

    fn map(entries: &[(u64, u64)]) -> BTreeMap<u64, u64> {
        entries.iter().copied().collect()
    }

    #[test]
    fn s63_every_version_that_is_held_stays_as_it_was() {
        let zero = Table::of([(1, 10), (2, 20), (1, 99)].into_iter(), at(0));
        let one = next(&zero, 1, &[(2, Some(21)), (3, Some(30))]);
        let two = next(&one, 2, &[(1, None), (3, Some(31))]);
        let three = next(&two, 3, &[(1, Some(11)), (2, None), (7, None)]);
        assert_eq!(content(&zero), map(&[(1, 10), (2, 20)]), "the first of several states counts");
        assert_eq!(content(&one), map(&[(1, 10), (2, 21), (3, 30)]));
        assert_eq!(content(&two), map(&[(2, 21), (3, 31)]));
        assert_eq!(content(&three), map(&[(1, 11), (3, 31)]));
        assert_eq!(three.len(), 2);
        drop(one);
        assert_eq!(content(&zero), map(&[(1, 10), (2, 20)]));
        drop(zero);
        assert_eq!(content(&two), map(&[(2, 21), (3, 31)]));
        assert_eq!(lock(&three.base).undo.len(), 1, "what nobody can ask for is let go");
        drop(two);
        assert!(lock(&three.base).undo.is_empty());
    }

    #[test]
    fn building_on_an_old_version_leaves_the_newer_ones_alone() {
        let zero = Table::of([(1, 10)].into_iter(), at(0));
        let one = next(&zero, 1, &[(1, Some(11))]);
        let again = next(&zero, 1, &[(1, Some(12)), (2, Some(20))]);
        assert_eq!(content(&zero), map(&[(1, 10)]));
        assert_eq!(content(&one), map(&[(1, 11)]));
        assert_eq!(content(&again), map(&[(1, 12), (2, 20)]));
    }

    #[test]
    fn a_version_that_fails_to_be_made_changes_nothing() {
        let zero = Table::of([(1, 10)].into_iter(), at(0));
        assert!(zero.next(|_| Err::<(Changes<u64, u64>, ()), _>("no")).is_err());
        let panics = std::panic::AssertUnwindSafe(|| zero.next::<(), ()>(|_| panic!("no")).is_ok());
        assert!(std::panic::catch_unwind(panics).is_err());
        assert_eq!(content(&zero), map(&[(1, 10)]));
        assert_eq!(lock(&next(&zero, 1, &[]).base).newest, 1);
    }

    #[test]
    fn s55_what_was_not_used_is_found_by_the_time_of_its_last_use() {
        let zero = Table::of([(1, 10), (2, 20)].into_iter(), at(0));
        let one = next(&zero, 1, &[(2, Some(21)), (3, Some(30))]);
        let two = next(&one, 2, &[(3, Some(31))]);
        let unused = |table: &Table, limit| {
            let read = |reading: &Reading<'_, u64, u64>| {
                let keys: Vec<u64> = reading.unused_since(at(limit)).into_iter().map(|(_, key)| key).collect();
                Ok::<_, ()>((Changes::new(at(9), false), keys))
            };
            table.next(read).unwrap().1
        };
        assert_eq!(unused(&two, 0), [0u64; 0]);
        assert_eq!(unused(&two, 1), [1]);
        assert_eq!(unused(&two, 2), [1, 2]);
        assert_eq!(unused(&two, 3), [1, 2, 3]);
    }

    /// Writes a version as a save does, and reads it again.
    fn saved_and_read(table: &Table, files: &mut BTreeMap<String, Vec<u8>>, folder: &str) -> (Table, usize) {
        let part = table.to_save();
        files.insert(folder.to_owned(), millstream_core::codec::encode(&part).unwrap());
        let upon = table.saved(&part, folder);
        assert_eq!(upon.last().unwrap(), folder);
        let read = |name: &String| millstream_core::codec::decode(&files[name]).unwrap();
        let parts: Vec<Part<u64, u64>> = part.upon.iter().chain([&folder.to_owned()]).map(read).collect();
        (Table::from_parts(parts).unwrap(), part.entries.len() + part.changes.len())
    }

    #[test]
    fn a_table_is_written_with_its_times_and_read_again() {
        let zero = Table::of([(1, 10), (2, 20)].into_iter(), at(5));
        let one = next(&zero, 7, &[(2, Some(21))]);
        let (back, _) = saved_and_read(&one, &mut BTreeMap::new(), "f");
        assert_eq!(content(&back), content(&one));
        let times: BTreeMap<u64, i64> = back.timed_entries().map(|(k, _, at)| (k, at.as_millis())).collect();
        assert_eq!(times, [(1, 5), (2, 7)].into());
    }

    #[test]
    fn a_save_costs_what_changed_and_a_turn_and_is_complete() {
        let mut table = Table::of((0..3000).map(|key| (key, 0)), at(0));
        let (mut files, mut upon) = (BTreeMap::new(), 0);
        for save in 1..=300i64 {
            // Removed, new and updated; and a version in between that is not saved.
            let key = save as u64 * 17;
            table = next(&table, save, &[(key, None), (key + 1, Some(7))]);
            table = next(&table, save, &[(1_000_000 + key, Some(key)), (3, Some(key))]);
            let part = table.to_save();
            let size = part.entries.len() + part.changes.len();
            assert!(save == 1 || size < 100, "{size}");
            if save % 60 == 0 {
                let (back, _) = saved_and_read(&table, &mut files, &format!("{save}"));
                assert_eq!(content(&back), content(&table));
            } else {
                files.insert(format!("{save}"), millstream_core::codec::encode(&part).unwrap());
                table.saved(&part, &format!("{save}"));
            }
            upon = lock(&table.base).saves.notes.len();
        }
        assert_eq!(upon, SHARDS / IN_TURN, "what is not read any more is let go");
    }

    #[test]
    fn an_older_version_may_be_saved_when_a_newer_one_is_there() {
        let one = next(&Table::of((0..9000).map(|key| (key, 0)), at(0)), 1, &[(1, Some(1))]);
        let mut files = BTreeMap::new();
        let (back, _) = saved_and_read(&one, &mut files, "1");
        assert_eq!(content(&back), content(&one));
        let two = next(&one, 2, &[(1, Some(2)), (2, None)]);
        let three = next(&two, 3, &[(1, Some(3)), (2, Some(5))]);
        let (back, size) = saved_and_read(&two, &mut files, "2");
        assert_eq!(content(&back), content(&two));
        assert!(size < 100, "{size}");
        let (back, _) = saved_and_read(&three, &mut files, "3");
        assert_eq!(content(&back), content(&three));
    }

    #[test]
    fn random_versions_are_what_a_plain_map_says() {
        // A generator that is as good as this needs, so that the test is the same everywhere.
        let mut seed = 1u64;
        let mut random = move |n: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % n
        };
        let mut held: Vec<(Table, BTreeMap<u64, u64>)> = vec![(Table::of(std::iter::empty(), at(0)), BTreeMap::new())];
        for time in 1..400 {
            let on = if random(20) == 0 { random(held.len() as u64) as usize } else { held.len() - 1 };
            let changes: Vec<_> = (0..random(8)).map(|_| (random(50), (random(3) > 0).then(|| random(1000)))).collect();
            let table = next(&held[on].0, time, &changes);
            let mut want = held[on].1.clone();
            for (key, value) in changes {
                match value {
                    Some(value) => want.insert(key, value),
                    None => want.remove(&key),
                };
            }
            held.push((table, want));
            if held.len() > 6 {
                held.remove(random(6) as usize);
            }
            for (table, want) in &held {
                assert_eq!(content(table), *want);
            }
        }
    }
}
