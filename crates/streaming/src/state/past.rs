//! A version of a table that is read while newer ones are made of it.

use std::collections::VecDeque;

use hashbrown::HashTable;
use millstream_core::partitioner::key_hash;
use millstream_core::{Data, Key, Time};

use super::table::{Base, Log, SHARDS, StateTable, shard_of};

/// What keys had at a version, for those that changed since.
///
/// It grows with the table's newer versions: whoever looks into the table with it holds the lock for that look only, and what
/// happened since the look before is put in order mostly without it.
pub(super) struct Past<K, S> {
    /// The version up to which it knows what changed.
    seen: u64,
    logs: Vec<Log<K, S>>,
    /// For each shard, the log and the place in it of the first change of each key since the version.
    firsts: Vec<HashTable<(usize, usize)>>,
}

impl<K: Key, S: Data> Past<K, S> {
    pub(super) fn of(version: u64) -> Past<K, S> {
        let firsts = (0..SHARDS).map(|_| HashTable::new()).collect();
        Past { seen: version, logs: Vec::new(), firsts }
    }

    /// Reads the table as it was at the version.
    pub(super) fn look<R>(&mut self, table: &StateTable<K, S>, read: impl FnOnce(&Base<K, S>, &Self) -> R) -> R {
        let logs = table.lock().logs(self.seen, u64::MAX);
        self.note(logs);
        // What happened in between is little.
        let base = table.lock();
        self.catch_up(&base);
        read(&base, self)
    }

    /// Takes note of what changed up to now.
    pub(super) fn catch_up(&mut self, base: &Base<K, S>) {
        self.note(base.logs(self.seen, u64::MAX));
    }

    fn note(&mut self, logs: VecDeque<(u64, Log<K, S>)>) {
        for (to, log) in logs {
            // Oldest first: what a key had before its first change since the version counts.
            let number = self.logs.len();
            self.logs.push(log);
            let logs = &self.logs;
            for (place, one) in logs[number].iter().enumerate() {
                let firsts = &mut self.firsts[shard_of(one.hash)];
                if firsts.find(one.hash, |(log, at)| logs[*log][*at].key == one.key).is_none() {
                    firsts.insert_unique(one.hash, (number, place), |(log, at)| logs[*log][*at].hash);
                }
            }
            self.seen = to + 1;
        }
    }

    fn before(&self, hash: u64, key: &K) -> Option<&Option<(S, Time)>> {
        let (log, at) = self.firsts[shard_of(hash)].find(hash, |(log, at)| self.logs[*log][*at].key == *key)?;
        Some(&self.logs[*log][*at].before)
    }

    /// What a key had at the version.
    pub(super) fn get(&self, base: &Base<K, S>, hash: u64, key: &K) -> Option<(S, Time)> {
        match self.before(hash, key) {
            Some(before) => before.clone(),
            None => base.find(hash, key).map(|entry| (entry.state.clone(), entry.at)),
        }
    }

    /// What a shard had at the version.
    pub(super) fn shard(&self, base: &Base<K, S>, shard: usize) -> Vec<(K, S, Time)> {
        debug_assert_eq!(self.seen, base.newest(), "it has caught up");
        let (entries, firsts) = (base.shard(shard), &self.firsts[shard]);
        let mut all = Vec::with_capacity(entries.len());
        for e in entries {
            if firsts.is_empty() || self.before(key_hash(&e.key), &e.key).is_none() {
                all.push((e.key.clone(), e.state.clone(), e.at));
            }
        }
        for (log, at) in firsts {
            let one = &self.logs[*log][*at];
            all.extend(one.before.as_ref().map(|(state, at)| (one.key.clone(), state.clone(), *at)));
        }
        all
    }
}
