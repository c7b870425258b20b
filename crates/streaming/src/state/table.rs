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
//! To make version 10 costs what changes: each key is looked up once, and what it had is logged. If the function of the program
//! fails half-way, the log leads back. To read version 8 costs its size, and looks into the logs for each entry that changed
//! since ([`Past`]). When nobody holds the oldest version any more, its undo log is dropped. A version that is not the newest
//! is rarely built upon (a partition that was lost is computed again); then the table is copied.
//!
//! The table is cut into shards, each of which grows by itself, so that no single batch pays for all of it.
//!
//! INVARIANT: for every version that somebody holds, the log reaches back to it without a gap.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, OnceLock};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Place;
use millstream_core::partitioner::key_hash;
use millstream_core::{Data, Key, Time};

use super::desk::{Ask, Desk, Locked};
use super::parts::Saves;
use super::past::Past;

/// How many shards a table has.
pub(super) const SHARDS: usize = 256;

/// One version of a state's table. Cloning and dropping costs a lock.
pub(crate) struct StateTable<K, S> {
    desk: Arc<Desk<K, S>>,
    version: u64,
}

pub(super) struct Entry<K, S> {
    pub(super) key: K,
    pub(super) state: S,
    /// When it was last updated or, with a time-out, touched.
    pub(super) at: Time,
}

/// What a key had before a version: to get back to it.
pub(super) struct Undo<K, S> {
    pub(super) hash: u64,
    pub(super) key: K,
    pub(super) before: Option<(S, Time)>,
}

/// How to get from a version to the one before. Shared with who reads an old version.
pub(super) type Log<K, S> = Arc<Undone<K, S>>;

/// What a version changed, undone.
pub(super) struct Undone<K, S> {
    all: Vec<Undo<K, S>>,
    /// The time that was noted for all that changed.
    at: Time,
    /// Where keys stand, once somebody has looked for one.
    index: OnceLock<HashTable<usize>>,
}

impl<K, S> Deref for Undone<K, S> {
    type Target = [Undo<K, S>];

    fn deref(&self) -> &[Undo<K, S>] {
        &self.all
    }
}

/// Of so few, one is found by looking at them all.
const FEW: usize = 32;

impl<K: Key, S> Undone<K, S> {
    fn find(&self, hash: u64, key: &K) -> Option<&Undo<K, S>> {
        if self.all.len() <= FEW {
            return self.all.iter().find(|one| one.hash == hash && one.key == *key);
        }
        let index = self.index.get_or_init(|| index_of(&self.all));
        index.find(hash, |at| self.all[*at].key == *key).map(|at| &self.all[*at])
    }
}

/// Where the first note of each key stands.
fn index_of<K: Key, S>(all: &[Undo<K, S>]) -> HashTable<usize> {
    let mut index = HashTable::with_capacity(all.len());
    for (at, one) in all.iter().enumerate() {
        if index.find(one.hash, |at: &usize| all[*at].key == one.key).is_none() {
            index.insert_unique(one.hash, at, |at| all[*at].hash);
        }
    }
    index
}

/// What a version that is being made has changed so far.
pub(super) struct Open<K, S> {
    undo: Vec<Undo<K, S>>,
    /// Which keys stand in the log, where their entries' times do not tell: others may have been used at the same time, or somebody
    /// has looked for one.
    logged: Option<HashTable<usize>>,
    /// The time that is noted for what is set or touched.
    at: Time,
}

impl<K: Key, S> Open<K, S> {
    fn find(&mut self, hash: u64, key: &K) -> Option<&Undo<K, S>> {
        let undo = &self.undo;
        let logged = self.logged.get_or_insert_with(|| index_of(undo));
        logged.find(hash, |at| undo[*at].key == *key).map(|at| &undo[*at])
    }

    /// Notes what a key had before this version, if that is not noted already. A second note of a key would do no harm.
    fn log(&mut self, hash: u64, key: K, before: Option<(S, Time)>) {
        if let Some(logged) = &mut self.logged {
            let undo = &self.undo;
            match logged.entry(hash, |at| undo[*at].key == key, |at| undo[*at].hash) {
                Place::Occupied(_) => return,
                Place::Vacant(place) => drop(place.insert(undo.len())),
            }
        }
        self.undo.push(Undo { hash, key, before });
    }
}

pub(super) struct Base<K, S> {
    pub(super) shards: Vec<HashTable<Entry<K, S>>>,
    pub(super) len: usize,
    newest: u64,
    /// The latest time that an entry may have been used at.
    pub(super) latest: Option<Time>,
    /// How to get from the version behind each to the version itself, oldest first.
    undo: VecDeque<(u64, Log<K, S>)>,
    /// How many hold each version.
    holders: BTreeMap<u64, usize>,
    /// The hashes of what was updated or touched, by time: where to look for what times out. Nothing until somebody asks.
    touched: Option<VecDeque<(Time, Vec<u64>)>>,
    /// What has been written of the table.
    pub(super) saves: Saves,
    /// What nobody can ask for any more. It is dropped when the lock has been let go.
    dropped: Vec<Log<K, S>>,
}

/// The shard of a hash: by bits that neither the table's places nor the partitions use much.
pub(super) fn shard_of(hash: u64) -> usize {
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
    /// Nothing.
    Keep,
}

/// The next version of a table while it is made, in place. Others wait.
pub(crate) struct Making<'a, K, S> {
    base: &'a mut Base<K, S>,
    desk: &'a Desk<K, S>,
    open: Open<K, S>,
    /// The hashes of what was set or touched, if keys can time out.
    used: Option<Vec<u64>>,
    /// Up to when keys that were not used have been looked through.
    dealt_with: Option<Time>,
}

impl<K: Key, S: Data> Making<'_, K, S> {
    /// Returns the state of a key as it is now.
    pub(crate) fn get(&self, hash: u64, key: &K) -> Option<&S> {
        self.base.find(hash, key).map(|entry| &entry.state)
    }

    /// Asks `f` what becomes of a key that has some state or none, and does it.
    pub(crate) fn change<R>(&mut self, hash: u64, key: K, f: impl FnOnce(&K, Option<&S>) -> (Change<S>, R)) -> R {
        let result = self.change_one(hash, key, f);
        if self.desk.is_waited_for() {
            self.desk.serve(self.base, Some(&mut self.open));
        }
        result
    }

    fn change_one<R>(&mut self, hash: u64, key: K, f: impl FnOnce(&K, Option<&S>) -> (Change<S>, R)) -> R {
        let (at, has_index) = (self.open.at, self.open.logged.is_some());
        let shard = &mut self.base.shards[shard_of(hash)];
        // Room is made for a key only when it stays: most are there already.
        let (change, result) = match shard.find_mut(hash, |entry| entry.key == key) {
            Some(entry) => {
                let (change, result) = f(&key, Some(&entry.state));
                let first = entry.at != at || has_index;
                let before = match change {
                    Change::Set(state) if first => {
                        Some((std::mem::replace(&mut entry.state, state), std::mem::replace(&mut entry.at, at)))
                    }
                    Change::Set(state) => {
                        entry.state = state;
                        None
                    }
                    Change::Touch if self.used.is_some() && entry.at != at => {
                        Some((entry.state.clone(), std::mem::replace(&mut entry.at, at)))
                    }
                    Change::Touch | Change::Keep => return result,
                    Change::Remove => {
                        if let Ok(place) = shard.find_entry(hash, |entry| entry.key == key) {
                            let (Entry { state, at: used, .. }, _) = place.remove();
                            self.base.len -= 1;
                            if used != at || has_index {
                                self.open.log(hash, key, Some((state, used)));
                            }
                        }
                        return result;
                    }
                };
                if let Some((state, used)) = before {
                    if used != at {
                        self.used.iter_mut().for_each(|used| used.push(hash));
                    }
                    self.open.log(hash, key, Some((state, used)));
                }
                return result;
            }
            None => f(&key, None),
        };
        if let Change::Set(state) = change {
            self.base.insert(hash, Entry { key: key.clone(), state, at });
            self.used.iter_mut().for_each(|used| used.push(hash));
            self.open.log(hash, key, None);
        }
        result
    }

    /// Returns the keys that were last used before `limit`, in the order in which they were used.
    pub(crate) fn unused_since(&self, limit: Time) -> Vec<(u64, K)> {
        let mut found = Vec::new();
        for (at, hashes) in self.base.touched.iter().flatten().take_while(|(at, _)| *at < limit) {
            for hash in hashes {
                let shard = &self.base.shards[shard_of(*hash)];
                found.extend(shard.iter_hash(*hash).filter(|e| e.at == *at).map(|e| (*hash, e.key.clone())));
            }
        }
        found
    }

    /// Says that nobody will ask any more what was not used since `limit`.
    pub(crate) fn dealt_with(&mut self, limit: Time) {
        self.dealt_with = Some(limit);
    }

    /// The table is the new version from now on.
    fn done(self) -> u64 {
        let Making { base, open: Open { undo, at, .. }, used, dealt_with, .. } = self;
        match (&mut base.touched, used) {
            (Some(touched), Some(used)) => {
                if !used.is_empty() {
                    touched.push_back((at, used));
                }
                while touched.front().is_some_and(|(at, _)| dealt_with.is_some_and(|limit| *at < limit)) {
                    touched.pop_front();
                }
            }
            // It is found out when somebody asks again.
            (touched, _) => *touched = None,
        }
        base.latest = base.latest.max(Some(at));
        base.undo.push_back((base.newest, Arc::new(Undone { all: undo, at, index: OnceLock::new() })));
        base.newest += 1;
        base.newest
    }

    /// The table is again what it was.
    fn undone(self) {
        let Making { base, open: Open { undo, .. }, .. } = self;
        // Backwards: what a key had before its first change is what stays.
        for Undo { hash, key, before } in undo.into_iter().rev() {
            let shard = &mut base.shards[shard_of(hash)];
            match (shard.find_entry(hash, |entry| entry.key == key), before) {
                (Ok(mut place), Some((state, at))) => (place.get_mut().state, place.get_mut().at) = (state, at),
                (Ok(place), None) => {
                    place.remove();
                    base.len -= 1;
                }
                (Err(_), Some((state, at))) => base.insert(hash, Entry { key, state, at }),
                (Err(_), None) => {}
            }
        }
    }
}

impl<K: Key, S: Data> StateTable<K, S> {
    /// Makes a table of some keys, all used at `at`. Of several states of a key the first counts (S-45).
    pub(crate) fn of(entries: impl Iterator<Item = (K, S)>, at: Time) -> StateTable<K, S> {
        StateTable::with_times(entries.map(|(key, state)| (key, state, at)))
    }

    pub(super) fn with_times(entries: impl Iterator<Item = (K, S, Time)>) -> StateTable<K, S> {
        let mut base = Base::empty();
        for (key, state, at) in entries {
            let hash = key_hash(&key);
            if base.find(hash, &key).is_none() {
                base.insert(hash, Entry { key, state, at });
                base.latest = base.latest.max(Some(at));
            }
        }
        StateTable::first(base)
    }

    pub(super) fn first(mut base: Base<K, S>) -> StateTable<K, S> {
        base.holders.insert(base.newest, 1);
        StateTable { version: base.newest, desk: Arc::new(Desk::new(base)) }
    }

    /// Makes the next version, at `at`: `make` says what changes. If `timed`, a later one can ask what has not been used
    /// since. If it fails or panics, nothing has changed.
    pub(crate) fn next<R, E>(
        &self,
        at: Time,
        timed: bool,
        make: impl FnOnce(&mut Making<'_, K, S>) -> Result<R, E>,
    ) -> Result<(StateTable<K, S>, R), E> {
        let mut base = self.desk.lock();
        if base.newest != self.version {
            let copy = StateTable::first(base.copy_of(self.version));
            drop(base);
            return copy.next(at, timed, make);
        }
        let logged = base.latest.is_some_and(|latest| latest >= at).then(HashTable::new);
        let used = timed.then(Vec::new);
        if timed && base.touched.is_none() {
            base.find_times();
        }
        let open = Open { undo: Vec::new(), logged, at };
        let mut making = Making { base: &mut base, desk: &self.desk, open, used, dealt_with: None };
        match catch_unwind(AssertUnwindSafe(|| make(&mut making))) {
            Ok(Ok(result)) => {
                let version = making.done();
                base.hold(version);
                Ok((StateTable { desk: Arc::clone(&self.desk), version }, result))
            }
            Ok(Err(error)) => {
                making.undone();
                Err(error)
            }
            Err(panic) => {
                making.undone();
                drop(base);
                resume_unwind(panic)
            }
        }
    }

    /// Returns how many keys the newest version has.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lock().len
    }

    /// Waits until nobody else has the table.
    pub(super) fn lock(&self) -> Locked<'_, K, S> {
        self.desk.lock()
    }

    /// Has `then` told what a key has at this version, and when it was last used: here and now if the table is free, or else by who
    /// makes the next version of it, between two keys. So `then` must be short.
    pub(super) fn look_up(&self, key: K, then: impl FnOnce(Option<(S, Time)>) + Send + 'static) {
        let (hash, version) = (key_hash(&key), self.version);
        let look =
            move |base: &Base<K, S>, open: Option<&mut Open<K, S>>| then(base.at_version(version, open, hash, &key));
        self.desk.ask(Ask::Look(Box::new(look)));
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Reads all keys and their states, a shard at a time.
    pub(crate) fn entries(self) -> impl Iterator<Item = (K, S)> + Send + 'static {
        self.timed_entries().map(|(key, state, _)| (key, state))
    }

    pub(super) fn timed_entries(self) -> impl Iterator<Item = (K, S, Time)> + Send + 'static {
        let mut past = Past::of(self.version);
        (0..SHARDS).flat_map(move |shard| past.look(&self, |base, past| past.shard(base, shard)))
    }
}

impl<K: Key, S: Data> Base<K, S> {
    pub(super) fn empty() -> Base<K, S> {
        Base {
            shards: (0..SHARDS).map(|_| HashTable::new()).collect(),
            len: 0,
            newest: 0,
            latest: None,
            undo: VecDeque::new(),
            holders: BTreeMap::new(),
            touched: None,
            saves: Saves::default(),
            dropped: Vec::new(),
        }
    }

    fn insert(&mut self, hash: u64, entry: Entry<K, S>) {
        self.shards[shard_of(hash)].insert_unique(hash, entry, |entry| key_hash(&entry.key));
        self.len += 1;
    }

    /// Finds out from the entries when what was used.
    fn find_times(&mut self) {
        let entries = || self.shards.iter().flatten();
        let mut counts: BTreeMap<Time, usize> = BTreeMap::new();
        entries().for_each(|entry| *counts.entry(entry.at).or_default() += 1);
        // They may be as many as there are keys: no more room than that.
        let mut times: BTreeMap<Time, Vec<u64>> =
            counts.into_iter().map(|(at, count)| (at, Vec::with_capacity(count))).collect();
        entries().for_each(|entry| times.entry(entry.at).or_default().push(key_hash(&entry.key)));
        self.touched = Some(times.into_iter().collect());
    }

    /// A table of its own with what this one had at `version`.
    fn copy_of(&self, version: u64) -> Base<K, S> {
        let (mut base, mut past) = (Base::empty(), Past::of(version));
        past.catch_up(self);
        for shard in 0..SHARDS {
            for (key, state, at) in past.shard(self, shard) {
                base.insert(key_hash(&key), Entry { key, state, at });
                base.latest = base.latest.max(Some(at));
            }
        }
        base
    }
}

impl<K, S> Base<K, S> {
    pub(super) fn hold(&mut self, version: u64) {
        *self.holders.entry(version).or_default() += 1;
    }

    #[cfg(test)]
    pub(super) fn is_held(&self, version: u64) -> bool {
        self.holders.contains_key(&version)
    }

    pub(super) fn let_go(&mut self, version: u64) {
        if let Some(count) = self.holders.get_mut(&version) {
            *count -= 1;
            if *count == 0 {
                self.holders.remove(&version);
            }
        }
        let oldest = self.holders.keys().next().copied().unwrap_or(self.newest);
        while self.undo.front().is_some_and(|(to, _)| *to < oldest) {
            self.dropped.extend(self.undo.pop_front().map(|(_, undo)| undo));
        }
    }

    #[must_use = "keys and states may be large: they are dropped without the lock"]
    pub(super) fn take_dropped(&mut self) -> Vec<Log<K, S>> {
        std::mem::take(&mut self.dropped)
    }

    /// The logs that lead back to versions from `from` to the one before `to`, oldest first.
    pub(super) fn logs(&self, from: u64, to: u64) -> VecDeque<(u64, Log<K, S>)> {
        let first = self.undo.partition_point(|(back_to, _)| *back_to < from);
        self.undo.range(first..).take_while(|(back_to, _)| *back_to < to).cloned().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    pub(super) fn shard(&self, shard: usize) -> &HashTable<Entry<K, S>> {
        &self.shards[shard]
    }
}

impl<K: Key, S> Base<K, S> {
    pub(super) fn find(&self, hash: u64, key: &K) -> Option<&Entry<K, S>> {
        self.shards[shard_of(hash)].find(hash, |entry| entry.key == *key)
    }
}

impl<K: Key, S: Data> Base<K, S> {
    /// What a key had at a version, and when it was last used then; `open` is what a version that is being made has changed so far.
    fn at_version(&self, version: u64, open: Option<&mut Open<K, S>>, hash: u64, key: &K) -> Option<(S, Time)> {
        let now = self.find(hash, key);
        let from = self.undo.partition_point(|(back_to, _)| *back_to < version);
        let logs = || self.undo.range(from..).map(|(_, log)| log);
        let first = logs().map(|log| log.at).chain(open.as_ref().map(|open| open.at)).min();
        // What was last used before the first change since the version has not changed.
        let unchanged = now.is_some_and(|entry| first.is_none_or(|first| entry.at < first));
        let change = match unchanged {
            true => None,
            false => logs().find_map(|log| log.find(hash, key)).or_else(|| open?.find(hash, key)),
        };
        match change {
            Some(change) => change.before.clone(),
            None => now.map(|entry| (entry.state.clone(), entry.at)),
        }
    }
}

impl<K, S> Clone for StateTable<K, S> {
    fn clone(&self) -> StateTable<K, S> {
        self.desk.lock().hold(self.version);
        StateTable { desk: Arc::clone(&self.desk), version: self.version }
    }
}

impl<K, S> Drop for StateTable<K, S> {
    fn drop(&mut self) {
        // Who lets go of an old version does not wait for the batch that makes a new one.
        self.desk.ask(Ask::LetGo(self.version));
    }
}

impl<K, S> fmt::Debug for StateTable<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateTable(version {})", self.version)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::*;

    pub(crate) type Table = StateTable<u64, u64>;

    pub(crate) fn at(t: i64) -> Time {
        Time::from_millis(t)
    }

    pub(crate) fn content(table: &Table) -> BTreeMap<u64, u64> {
        table.clone().entries().collect()
    }

    /// Sets the keys that have a value, removes the others.
    pub(crate) fn next(table: &Table, time: i64, changes: &[(u64, Option<u64>)]) -> Table {
        let make = |making: &mut Making<'_, u64, u64>| {
            for (key, value) in changes {
                making.change(key_hash(key), *key, |_, _| (value.map_or(Change::Remove, Change::Set), ()));
            }
            Ok::<_, ()>(())
        };
        table.next(at(time), true, make).unwrap().0
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
        assert_eq!(three.lock().undo.len(), 1, "what nobody can ask for is let go");
        drop(two);
        assert!(three.lock().undo.is_empty());
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
        // Also where entries were used at the time of the new version, as an initial state is.
        for time in [0, 1] {
            let zero = Table::of([(1, 10), (2, 20), (3, 30)].into_iter(), at(0));
            let some = |making: &mut Making<'_, u64, u64>| {
                let mut set = |key: u64, change| making.change(key_hash(&key), key, |_, _| (change, ()));
                set(1, Change::Set(11));
                set(1, Change::Set(12));
                set(2, Change::Remove);
                set(2, Change::Set(21));
                set(2, Change::Remove);
                set(3, Change::Touch);
                set(4, Change::Set(40));
                set(5, Change::Set(50));
                set(5, Change::Remove);
            };
            let fails = |making: &mut Making<'_, u64, u64>| {
                some(making);
                Err::<(), _>("no")
            };
            assert!(zero.next(at(time), true, fails).is_err());
            let panics = std::panic::AssertUnwindSafe(|| {
                zero.next::<(), ()>(at(time), true, |making| {
                    some(making);
                    making.change(key_hash(&1u64), 1, |_, _| panic!("no"))
                })
            });
            assert!(std::panic::catch_unwind(panics).is_err());
            assert_eq!(content(&zero), map(&[(1, 10), (2, 20), (3, 30)]));
            assert!(zero.clone().timed_entries().all(|(_, _, used)| used == at(0)));
            assert_eq!((zero.len(), zero.lock().newest), (3, 0));
            let works = |making: &mut Making<'_, u64, u64>| {
                some(making);
                Ok::<_, ()>(())
            };
            let (one, ()) = zero.next(at(time), true, works).unwrap();
            assert_eq!(content(&zero), map(&[(1, 10), (2, 20), (3, 30)]));
            assert_eq!(content(&one), map(&[(1, 12), (3, 30), (4, 40)]));
            assert_eq!(one.len(), 3);
        }
    }

    #[test]
    fn a_key_that_changes_often_in_a_batch_is_logged_once() {
        for time in [0, 1] {
            let zero = Table::of([(1, 10)].into_iter(), at(0));
            let often: Vec<_> = (0..100).flat_map(|n| [(1, Some(n)), (2, Some(n))]).collect();
            let one = next(&zero, time, &often);
            assert_eq!(one.lock().undo[0].1.len(), 2);
            assert_eq!(content(&zero), map(&[(1, 10)]));
        }
    }

    #[test]
    fn s55_what_was_not_used_is_found_by_the_time_of_its_last_use() {
        let zero = Table::of([(1, 10), (2, 20)].into_iter(), at(0));
        let one = next(&zero, 1, &[(2, Some(21)), (3, Some(30))]);
        let two = next(&one, 2, &[(3, Some(31))]);
        let unused = |table: &Table, limit| {
            let mut keys = Vec::new();
            let read = |making: &mut Making<'_, u64, u64>| {
                keys.extend(making.unused_since(at(limit)).into_iter().map(|(_, key)| key));
                Err::<(), _>(())
            };
            assert!(table.next(at(9), true, read).is_err());
            keys
        };
        assert_eq!(unused(&two, 0), [0u64; 0]);
        assert_eq!(unused(&two, 1), [1]);
        assert_eq!(unused(&two, 2), [1, 2]);
        assert_eq!(unused(&two, 3), [1, 2, 3]);
    }

    /// What a table says that a key has.
    fn looked_up(table: &Table, key: u64) -> Option<(u64, Time)> {
        let (tell, told) = std::sync::mpsc::channel();
        table.look_up(key, move |found| tell.send(found).unwrap());
        told.try_recv().expect("nobody has the table")
    }

    #[test]
    fn who_looks_up_while_a_version_is_made_is_answered_between_two_keys() {
        for time in [0, 1] {
            let zero = Table::of((0..100).map(|key| (key, key * 10)), at(0));
            let one = next(&zero, 0, &[(1, Some(11)), (2, None)]);
            let (tell, told) = std::sync::mpsc::channel();
            let make = |making: &mut Making<'_, u64, u64>| {
                let mut set = |key: u64, change| making.change(key_hash(&key), key, |_, _| (change, ()));
                set(1, Change::Set(12));
                set(3, Change::Remove);
                for (table, key) in
                    [(&zero, 1u64), (&one, 1), (&one, 3), (&zero, 2), (&one, 2), (&one, 50), (&one, 777)]
                {
                    let tell = tell.clone();
                    table.look_up(key, move |found| tell.send(found.map(|(state, _)| state)).unwrap());
                }
                assert!(told.try_recv().is_err(), "who makes a version has the table");
                set(4, Change::Set(41));
                let answers: Vec<Option<u64>> = told.try_iter().collect();
                assert_eq!(answers, [Some(10), Some(11), Some(30), Some(20), None, Some(500), None]);
                set(1, Change::Set(13));
                set(3, Change::Set(31));
                Ok::<_, ()>(())
            };
            let (two, ()) = one.next(at(time), false, make).unwrap();
            let of = |table: &Table| [1, 2, 3, 4].map(|key| looked_up(table, key).map(|(state, _)| state));
            assert_eq!(of(&zero), [Some(10), Some(20), Some(30), Some(40)]);
            assert_eq!(of(&one), [Some(11), None, Some(30), Some(40)]);
            assert_eq!(of(&two), [Some(13), None, Some(31), Some(41)]);
        }
    }

    #[test]
    fn who_lets_go_of_a_version_does_not_wait_and_what_was_left_behind_is_done() {
        let zero = Table::of([(1, 10)].into_iter(), at(0));
        let one = next(&zero, 1, &[(1, Some(11))]);
        let (tell, told) = std::sync::mpsc::channel();
        let mut zero = Some(zero);
        let make = |making: &mut Making<'_, u64, u64>| {
            making.change(key_hash(&1u64), 1, |_, _| (Change::Set(12), ()));
            // Nothing changes behind this: it is done before the lock is let go.
            zero = None;
            one.look_up(1, move |found| tell.send(found).unwrap());
            Ok::<_, ()>(())
        };
        let (two, ()) = one.next(at(2), false, make).unwrap();
        assert_eq!(told.try_recv().unwrap(), Some((11, at(1))));
        assert_eq!(two.lock().undo.len(), 1, "of the first version nothing is left");
    }

    #[test]
    fn many_who_look_up_see_their_version_while_others_are_made() {
        let mut newest = Table::of((0..64).map(|key| (key, 0)), at(0));
        let held = std::sync::Arc::new(std::sync::Mutex::new((newest.clone(), 0)));
        let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let readers: Vec<_> = (0..3u64)
            .map(|reader| {
                let (held, done) = (std::sync::Arc::clone(&held), std::sync::Arc::clone(&done));
                let read = move || {
                    let mut key = reader;
                    while !done.load(std::sync::atomic::Ordering::Relaxed) {
                        let (table, version) = { millstream_core::threads::lock(&held).clone() };
                        for _ in 0..10 {
                            key = (key + 7) % 64;
                            let (tell, told) = std::sync::mpsc::channel();
                            table.look_up(key, move |found| tell.send(found).unwrap());
                            assert_eq!(told.recv().unwrap().map(|(state, _)| state), Some(version));
                        }
                    }
                };
                millstream_core::threads::spawn(format!("reader-{reader}"), read).unwrap()
            })
            .collect();
        for version in 1..400 {
            let all: Vec<_> = (0..64).map(|key| (key, Some(version))).collect();
            newest = next(&newest, version as i64, &all);
            let old = std::mem::replace(&mut *millstream_core::threads::lock(&held), (newest.clone(), version));
            drop(old);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        readers.into_iter().for_each(|reader| reader.join());
        drop(held);
        assert!(newest.lock().undo.is_empty(), "all that was held has been let go");
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
                for key in 0..50 {
                    assert_eq!(looked_up(table, key).map(|(state, _)| state), want.get(&key).copied());
                }
            }
        }
    }
}
