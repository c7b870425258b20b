//! How states are written to checkpoints: what changed since the last one, and a part of the rest in turn.
//!
//! Each checkpoint has a folder with a file a partition. A file names the folders that it builds upon; a table is read from
//! all of them, oldest first. As every shard is written as a whole now and then, the oldest fall away.

use std::marker::PhantomData;

use millstream_core::checkpoint::CheckpointStore;
use millstream_core::{Data, Error, ErrorKind, ExchangeData, Key, Result, SaveAs, codec};

use super::table::{Part, StateTable};

/// A partition of a state: a table, and what else is kept with it.
pub(crate) trait HasTable: Data {
    type Key: Key;
    type State: ExchangeData;
    /// What is written beside the table.
    type Rest: ExchangeData;

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

/// The form of states in checkpoints.
pub(crate) struct Saved<T>(PhantomData<fn() -> T>);

/// The first bytes of a file: what it is, and the version of its form.
const MAGIC: &[u8; 8] = b"mststa1\n";

fn name(folder: &str, partition: usize) -> String {
    format!("{folder}/state-{partition:05}")
}

type File<T> = (Part<<T as HasTable>::Key, <T as HasTable>::State>, <T as HasTable>::Rest);

fn read_file<T: HasTable>(store: &dyn CheckpointStore, folder: &str, partition: usize) -> Result<File<T>> {
    let name = name(folder, partition);
    let bytes = store.read(&name)?;
    let damaged = |e: &dyn std::fmt::Display| Error::new(ErrorKind::Data, format!("checkpoint {name} is damaged: {e}"));
    let body = bytes.strip_prefix(MAGIC).ok_or_else(|| damaged(&"it does not begin as one does"))?;
    codec::decode(body).map_err(|e| damaged(&e))
}

impl<T: HasTable> SaveAs for Saved<T> {
    type Item = T;

    fn write(store: &dyn CheckpointStore, folder: &str, partition: usize, items: Vec<T>) -> Result<Vec<String>> {
        let Some(item) = items.first() else {
            return Err(millstream_core::bug!("a partition of a state that is saved has no table"));
        };
        let file = (item.table().to_save(), item.rest());
        let bytes = codec::encode_onto(&file, MAGIC.to_vec())?;
        store.write(&name(folder, partition), &bytes)?;
        // Noted only now: what could not be written is not built upon.
        Ok(item.table().saved(&file.0, folder))
    }

    fn read(store: &dyn CheckpointStore, folder: &str, partition: usize) -> Result<Vec<T>> {
        let (last, rest) = read_file::<T>(store, folder, partition)?;
        let mut parts = Vec::with_capacity(last.upon.len() + 1);
        for earlier in &last.upon {
            parts.push(read_file::<T>(store, earlier, partition)?.0);
        }
        parts.push(last);
        let other = || Error::new(ErrorKind::Data, "the checkpoint of a state has another number of shards");
        Ok(vec![T::of(StateTable::from_parts(parts).ok_or_else(other)?, rest)])
    }
}
