//! How tables are written to checkpoints: what changed since the last one, and a part of the rest in turn.
//!
//! Each checkpoint has a folder with a file a partition. A file names the folders that it builds upon; a table is read from
//! all of them, oldest first. As every shard is written as a whole now and then, the oldest fall away.
//!
//! It is written in the background, while later batches change the table: see [`table`](super::table).

use std::collections::BTreeSet;
use std::marker::PhantomData;

use millstream_core::checkpoint::CheckpointStore;
use millstream_core::{
    CallSite, Data, Error, ErrorKind, ExchangeData, Key, PartitionIter, Partitioner, Rdd, Result, SaveAs, Time, codec,
};

use super::parts::Head;
use super::table::StateTable;

/// A partition of a state: a table, and what else is kept with it.
pub(crate) trait HasTable: Data {
    type Key: Key;
    type State: ExchangeData;
    /// What is written beside the table.
    type Rest: ExchangeData + Default;

    fn table(&self) -> &StateTable<Self::Key, Self::State>;
    fn rest(&self) -> Self::Rest;
    fn of(table: StateTable<Self::Key, Self::State>, rest: Self::Rest) -> Self;
}

impl<K: Key, S: ExchangeData> HasTable for StateTable<K, S> {
    type Key = K;
    type State = S;
    type Rest = ();

    fn table(&self) -> &StateTable<K, S> {
        self
    }

    fn rest(&self) {}

    fn of(table: StateTable<K, S>, (): ()) -> Self {
        table
    }
}

/// Puts the keys of a state where `partitioner` has them, each with the time at which it was last used.
pub(crate) fn in_place<T: HasTable>(states: &Rdd<T>, partitioner: &Partitioner, site: CallSite) -> Rdd<T> {
    CallSite::scope(Some(site), || {
        let entries = states.flat_map(|part| {
            let all = part.table().clone().timed_entries();
            all.map(|(key, state, at)| (key, (state, at)))
        });
        entries.partition_by(partitioner).map_partitions(|all: PartitionIter<(T::Key, (T::State, Time))>| {
            let table = StateTable::with_times(all.map(|(key, (state, at))| (key, state, at)));
            [T::of(table, T::Rest::default())]
        })
    })
}

/// The form of tables in checkpoints.
pub(crate) struct Saved<T>(PhantomData<fn() -> T>);

impl<T> Clone for Saved<T> {
    fn clone(&self) -> Self {
        Saved(PhantomData)
    }
}

impl<T> Default for Saved<T> {
    fn default() -> Self {
        Saved(PhantomData)
    }
}

/// The first bytes of a file: what it is, and the version of its form. Behind it: what is kept beside the table, and a part.
const MAGIC: &[u8; 8] = b"mststa2\n";

/// The file of a partition in a folder.
pub(super) fn name(folder: &str, partition: usize) -> String {
    format!("{folder}/state-{partition:05}")
}

/// Reads a file that begins with `magic`; returns what follows it.
pub(super) fn read_file(
    store: &dyn CheckpointStore,
    folder: &str,
    partition: usize,
    magic: &[u8],
) -> Result<impl std::ops::Deref<Target = [u8]> + use<>> {
    let name = name(folder, partition);
    let bytes = store.read(&name)?;
    if !bytes.starts_with(magic) {
        return Err(Error::new(
            ErrorKind::Data,
            format!("checkpoint {name} is damaged: it does not begin as one does"),
        ));
    }
    Ok(bytes.slice(magic.len()..))
}

/// Refuses a file that builds upon itself, or upon another twice: that is read as often as it is named.
pub(super) fn each_once(upon: &[String], folder: &str) -> Result<()> {
    let mut seen = BTreeSet::from([folder]);
    match upon.iter().find(|earlier| !seen.insert(earlier)) {
        Some(twice) => Err(Error::new(ErrorKind::Data, format!("it builds upon {twice} more than once, or is that"))),
        None => Ok(()),
    }
}

/// Says which file could not be read.
pub(super) fn damaged(folder: &str, partition: usize, error: &Error) -> Error {
    Error::new(ErrorKind::Data, format!("checkpoint {} is damaged: {error}", name(folder, partition)))
}

impl<T: HasTable> SaveAs for Saved<T> {
    type Item = T;

    fn write(&self, store: &dyn CheckpointStore, folder: &str, partition: usize, items: Vec<T>) -> Result<Vec<String>> {
        let Some(item) = items.first() else {
            return Err(millstream_core::bug!("a partition of a state that is saved has no table"));
        };
        let bytes = codec::encode_onto(&item.rest(), MAGIC.to_vec())?;
        if let Some((head, bytes)) = item.table().save(folder, bytes)? {
            store.write(&name(folder, partition), &bytes)?;
            // Noted only now: what could not be written is not built upon.
            item.table().saved(head, folder);
        }
        Ok(item.table().saved_in())
    }

    fn read(&self, store: &dyn CheckpointStore, folder: &str, partition: usize) -> Result<Vec<T>> {
        let damaged_in = |folder| move |e: Error| damaged(folder, partition, &e);
        let last = read_file(store, folder, partition, MAGIC)?;
        let (rest, part): (T::Rest, &[u8]) = codec::decode_from(&last).map_err(damaged_in(folder))?;
        let (head, _) = Head::read(part).map_err(damaged_in(folder))?;
        each_once(&head.upon, folder).map_err(damaged_in(folder))?;
        let mut files = Vec::with_capacity(head.upon.len());
        for earlier in &head.upon {
            files.push((earlier.as_str(), read_file(store, earlier, partition, MAGIC)?));
        }
        let mut parts = Vec::with_capacity(files.len() + 1);
        for (folder, file) in &files {
            let (_, part): (T::Rest, &[u8]) = codec::decode_from(file).map_err(damaged_in(folder))?;
            parts.push(Head::read(part).map_err(damaged_in(folder))?);
        }
        parts.push(Head::read(part).map_err(damaged_in(folder))?);
        let table = StateTable::from_parts(parts).map_err(damaged_in(folder))?;
        Ok(vec![T::of(table, rest)])
    }
}

/// The entries of a table, with their times.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn entries_of<K: Key, S: ExchangeData>(table: &StateTable<K, S>) -> impl Iterator<Item = (K, S, Time)> {
    table.clone().timed_entries()
}
