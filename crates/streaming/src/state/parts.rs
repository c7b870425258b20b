//! What is written of a table: what changed since the last time, and some shards as a whole, in turn.
//!
//! A table is read from its last parts: those since which each shard has been written as a whole once.

use std::collections::VecDeque;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Place;
use millstream_core::partitioner::key_hash;
use millstream_core::{Data, Error, ErrorKind, ExchangeData, Key, Result, Time, codec};
use serde::{Deserialize, Serialize};

use super::past::Past;
use super::table::{Base, Entry, Log, SHARDS, StateTable, shard_of};

/// What has been written of a table.
#[derive(Default)]
pub(super) struct Saves {
    /// The version that was last written, which is held.
    version: Option<u64>,
    /// The folders that the last save builds upon and itself, oldest first, and which shards each has as a whole.
    notes: VecDeque<(String, Vec<u16>)>,
    /// The next shard whose turn it is.
    turn: usize,
}

/// How many shards are written as a whole with each save.
const IN_TURN: usize = 2;

/// How many keys are looked up in one go, while others wait for the table.
const GO: usize = 256;

/// How a part begins. Behind it stand the entries of each whole shard, `Vec<(K, S, i64)>`, and what became of keys of other
/// shards since the last save, `Vec<(K, Option<(S, i64)>)>`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// The folders that the part builds upon, oldest first.
    pub(crate) upon: Vec<String>,
    /// How many shards the table has.
    shards: u32,
    /// The shards that are written as a whole.
    whole: Vec<u16>,
}

impl Head {
    /// Reads the head of a part; returns what follows it.
    pub(crate) fn read(bytes: &[u8]) -> Result<(Head, &[u8])> {
        codec::decode_from(bytes)
    }
}

impl<K: Key, S: ExchangeData> StateTable<K, S> {
    /// Appends a part of this version to `bytes`, to be kept in `folder`. Call [`saved`](StateTable::saved) when it is.
    /// Returns nothing if it is kept there already.
    ///
    /// The table is locked for short whiles only: newer versions may be made meanwhile.
    pub(crate) fn save(&self, folder: &str, bytes: Vec<u8>) -> Result<Option<(Head, Vec<u8>)>> {
        let (logs, len, turn, notes): (Vec<Log<K, S>>, usize, usize, Vec<String>) = {
            let base = self.lock();
            if base.saves.notes.back().is_some_and(|(last, _)| last == folder) {
                return Ok(None);
            }
            let notes = base.saves.notes.iter().map(|(folder, _)| folder.clone()).collect();
            match base.saves.version.filter(|since| *since <= self.version()) {
                Some(since) => {
                    let logs = base.logs(since, self.version()).into_iter().map(|(_, log)| log).collect();
                    (logs, base.len(), base.saves.turn, notes)
                }
                None => (Vec::new(), 0, 0, Vec::new()),
            }
        };
        let changed = first_changes(&logs);
        // A small table is written as a whole: that is as cheap, and there is less to read.
        let in_parts = len > 4 * changed.len() + SHARDS;
        let whole: Vec<u16> = match in_parts {
            true => (0..IN_TURN).map(|i| ((turn + i) % SHARDS) as u16).collect(),
            false => (0..SHARDS as u16).collect(),
        };
        let changed: Vec<(u64, &K)> =
            changed.into_iter().filter(|(hash, _)| in_parts && !whole.contains(&(shard_of(*hash) as u16))).collect();
        let upon = if in_parts { notes } else { Vec::new() };
        let head = Head { upon, shards: SHARDS as u32, whole };
        let mut bytes = codec::encode_onto(&head, bytes)?;
        let mut past = Past::of(self.version());
        for shard in &head.whole {
            let entries = past.look(self, |base, past| past.shard(base, usize::from(*shard)));
            let entries: Vec<(K, S, i64)> = entries.into_iter().map(|(k, s, at)| (k, s, at.as_millis())).collect();
            bytes = codec::encode_onto(&entries, bytes)?;
        }
        let mut changes: Vec<(&K, Option<(S, i64)>)> = Vec::with_capacity(changed.len());
        for some in changed.chunks(GO) {
            past.look(self, |base, past| {
                let after = |hash, key| past.get(base, hash, key).map(|(state, at)| (state, at.as_millis()));
                changes.extend(some.iter().map(|(hash, key)| (*key, after(*hash, key))));
            });
        }
        let bytes = codec::encode_onto(&changes, bytes)?;
        Ok(Some((head, bytes)))
    }

    /// Notes that the part that begins with `head` has been written into `folder`.
    pub(crate) fn saved(&self, head: Head, folder: &str) {
        let mut base = self.lock();
        let last = base.saves.version.replace(self.version());
        base.hold(self.version());
        if let Some(last) = last {
            base.let_go(last);
        }
        let saves = &mut base.saves;
        saves.notes.push_back((folder.to_owned(), head.whole));
        saves.turn = (saves.turn + IN_TURN) % SHARDS;
        // Folders before the first one from which on every shard has been written as a whole are not read any more.
        let mut seen = [false; SHARDS];
        let mut first = saves.notes.len();
        while first > 0 && seen.contains(&false) {
            first -= 1;
            saves.notes[first].1.iter().for_each(|shard| seen[usize::from(*shard)] = true);
        }
        let old: Vec<_> = saves.notes.drain(..first).collect();
        drop(base);
        drop(old);
    }

    /// Returns the folders that the last save builds upon and its own, oldest first.
    pub(crate) fn saved_in(&self) -> Vec<String> {
        self.lock().saves.notes.iter().map(|(folder, _)| folder.clone()).collect()
    }

    /// Puts a table together from what was written, oldest first: heads and what follows them.
    pub(crate) fn from_parts<'a>(parts: impl IntoIterator<Item = (Head, &'a [u8])>) -> Result<StateTable<K, S>> {
        let mut base = Base::empty();
        for (head, mut rest) in parts {
            let known = |shard: &u16| usize::from(*shard) < SHARDS;
            if head.shards as usize != SHARDS || !head.whole.iter().all(known) {
                return Err(Error::new(ErrorKind::Data, "the checkpoint of a state has another number of shards"));
            }
            for shard in &head.whole {
                let (entries, behind): (Vec<(K, S, i64)>, &[u8]) = codec::decode_from(rest)?;
                base.set_shard(usize::from(*shard), entries)?;
                rest = behind;
            }
            for (key, after) in codec::decode::<Vec<(K, Option<(S, i64)>)>>(rest)? {
                base.set(key, after.map(|(state, at)| (state, Time::from_millis(at))));
            }
        }
        Ok(StateTable::first(base))
    }
}

impl<K: Key, S: Data> Base<K, S> {
    /// Puts entries in the place of all that a shard has. They are as many as the shard is made for, so that nothing is moved twice.
    fn set_shard(&mut self, shard: usize, entries: Vec<(K, S, i64)>) -> Result<()> {
        let mut table = HashTable::with_capacity(entries.len());
        for (key, state, at) in entries {
            let (hash, at) = (key_hash(&key), Time::from_millis(at));
            if shard_of(hash) != shard {
                return Err(Error::new(ErrorKind::Data, "the checkpoint of a state has a key where its hash is not"));
            }
            self.latest = self.latest.max(Some(at));
            table.insert_unique(hash, Entry { key, state, at }, |entry| key_hash(&entry.key));
        }
        self.len = self.len + table.len() - self.shards[shard].len();
        self.shards[shard] = table;
        Ok(())
    }

    /// Sets or removes what a key has.
    fn set(&mut self, key: K, after: Option<(S, Time)>) {
        let hash = key_hash(&key);
        let shard = &mut self.shards[shard_of(hash)];
        match (shard.entry(hash, |entry| entry.key == key, |entry| key_hash(&entry.key)), after) {
            (Place::Occupied(mut place), Some((state, at))) => {
                self.latest = self.latest.max(Some(at));
                (place.get_mut().state, place.get_mut().at) = (state, at);
            }
            (Place::Occupied(place), None) => {
                place.remove();
                self.len -= 1;
            }
            (Place::Vacant(place), Some((state, at))) => {
                self.latest = self.latest.max(Some(at));
                place.insert(Entry { key, state, at });
                self.len += 1;
            }
            (Place::Vacant(_), None) => {}
        }
    }
}

/// The keys in logs, each once.
fn first_changes<K: Key, S>(logs: &[Log<K, S>]) -> Vec<(u64, &K)> {
    let (mut index, mut list) = (HashTable::<usize>::new(), Vec::<(u64, &K)>::new());
    for one in logs.iter().flat_map(|log| log.iter()) {
        if index.find(one.hash, |at| *list[*at].1 == one.key).is_none() {
            index.insert_unique(one.hash, list.len(), |at| list[*at].0);
            list.push((one.hash, &one.key));
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::table::tests::{Table, at, content, next};
    use super::*;

    /// What is kept, by folder.
    type Files = BTreeMap<String, Vec<u8>>;

    /// Writes a version as a save does; returns how many bytes.
    fn write(table: &Table, files: &mut Files, folder: &str) -> usize {
        let (head, bytes) = table.save(folder, Vec::new()).unwrap().unwrap();
        let size = bytes.len();
        files.insert(folder.to_owned(), bytes);
        table.saved(head, folder);
        assert_eq!(table.saved_in().last().unwrap(), folder);
        size
    }

    fn read(files: &Files, folder: &str) -> Table {
        let (head, _) = Head::read(&files[folder]).unwrap();
        let folders = head.upon.iter().map(String::as_str).chain([folder]);
        Table::from_parts(folders.map(|name| Head::read(&files[name]).unwrap())).unwrap()
    }

    #[test]
    fn a_table_is_written_with_its_times_and_read_again() {
        let zero = Table::of([(1, 10), (2, 20)].into_iter(), at(5));
        let one = next(&zero, 7, &[(2, Some(21))]);
        let mut files = Files::new();
        write(&one, &mut files, "f");
        let back = read(&files, "f");
        assert_eq!(content(&back), content(&one));
        let times: BTreeMap<u64, i64> = back.timed_entries().map(|(k, _, at)| (k, at.as_millis())).collect();
        assert_eq!(times, [(1, 5), (2, 7)].into());
    }

    #[test]
    fn a_save_costs_what_changed_and_a_turn_and_is_complete() {
        let mut table = Table::of((0..3000).map(|key| (key, 0)), at(0));
        let mut files = Files::new();
        for save in 1..=300i64 {
            // Removed, new and updated; and a version in between that is not saved.
            let key = save as u64 * 17;
            table = next(&table, save, &[(key, None), (key + 1, Some(7))]);
            table = next(&table, save, &[(1_000_000 + key, Some(key)), (3, Some(key))]);
            let folder = format!("{save}");
            write(&table, &mut files, &folder);
            let (head, rest) = Head::read(&files[&folder]).unwrap();
            assert!(save == 1 || (head.whole.len() == IN_TURN && rest.len() < 600), "{}", rest.len());
            if save % 60 == 0 {
                assert_eq!(content(&read(&files, &folder)), content(&table));
            }
        }
        assert_eq!(table.saved_in().len(), SHARDS / IN_TURN, "what is not read any more is let go");
    }

    #[test]
    fn an_older_version_may_be_saved_when_newer_ones_are_there() {
        let one = next(&Table::of((0..9000).map(|key| (key, 0)), at(0)), 1, &[(1, Some(1))]);
        let mut files = Files::new();
        write(&one, &mut files, "1");
        assert_eq!(content(&read(&files, "1")), content(&one));
        let two = next(&one, 2, &[(1, Some(2)), (2, None)]);
        let three = next(&two, 3, &[(1, Some(3)), (2, Some(5)), (3, None)]);
        let size = write(&two, &mut files, "2");
        assert_eq!(content(&read(&files, "2")), content(&two));
        assert!(size < 1000, "{size}");
        write(&three, &mut files, "3");
        assert_eq!(content(&read(&files, "3")), content(&three));
    }

    #[test]
    fn a_save_that_is_done_is_not_done_again_and_one_that_failed_leaves_no_trace() {
        let one = next(&Table::of((0..9000).map(|key| (key, 0)), at(0)), 1, &[(1, Some(1))]);
        let mut files = Files::new();
        write(&one, &mut files, "1");
        let two = next(&one, 2, &[(1, Some(2))]);
        assert!(two.save("lost", Vec::new()).unwrap().is_some(), "and then the disk was full");
        write(&two, &mut files, "2");
        assert!(two.save("2", Vec::new()).unwrap().is_none(), "another partition had failed");
        assert_eq!(two.saved_in(), ["1", "2"]);
        assert_eq!(content(&read(&files, "2")), content(&two));
    }

    #[test]
    fn the_form_of_a_part_is_a_format() {
        let table = StateTable::<u64, String>::of([(7, "seven".to_owned())].into_iter(), at(1000));
        let (_, bytes) = table.save("f", Vec::new()).unwrap().unwrap();
        // No folders; 256 shards; their number and numbers; one has one entry; no changes.
        let mut want = vec![0, 0x80, 2, 0x80, 2];
        (0..256u16).for_each(|shard| want = codec::encode_onto(&shard, std::mem::take(&mut want)).unwrap());
        let shard = shard_of(key_hash(&7u64));
        assert_eq!(shard, 218);
        want.extend((0..shard).map(|_| 0));
        want.extend(b"\x01\x07\x05seven\xd0\x0f");
        want.extend((shard + 1..256).map(|_| 0));
        want.push(0);
        assert_eq!(bytes, want);
        assert!(StateTable::<u64, String>::from_parts([Head::read(&bytes[..bytes.len() - 1]).unwrap()]).is_err());
        // A key in the first shard, where its hash is not.
        let at = bytes.len() - 257 - b"\x07\x05seven\xd0\x0f".len();
        let moved = [&bytes[..at], b"\x01\x07\x05seven\xd0\x0f", &[0; 256]].concat();
        let wrong = StateTable::<u64, String>::from_parts([Head::read(&moved).unwrap()]).unwrap_err();
        assert!(wrong.to_string().contains("hash"), "{wrong}");
    }
}
