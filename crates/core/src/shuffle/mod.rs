//! What map tasks wrote for reduce tasks, until no lineage names the shuffle any more.

use std::fmt;
use std::sync::Mutex;

use hashbrown::HashMap;

use crate::error::Result;
use crate::rdd::ShuffleId;
use crate::storage::Block;
use crate::threads::lock;

/// Keeps shuffle outputs: for each shuffle, map task and reading partition one block.
#[derive(Default)]
pub struct ShuffleStore {
    shuffles:
        Mutex<HashMap<ShuffleId, Vec<Option<Vec<Block>>>, std::hash::BuildHasherDefault<std::hash::DefaultHasher>>>,
}

impl ShuffleStore {
    /// Keeps what map task `map` of `maps` wrote. What an earlier attempt wrote is replaced.
    pub fn put(&self, id: ShuffleId, maps: usize, map: usize, blocks: Vec<Block>) {
        let mut shuffles = lock(&self.shuffles);
        let outputs = shuffles.entry(id).or_default();
        outputs.resize_with(maps.max(outputs.len()), || None);
        let old = outputs[map].replace(blocks);
        drop(shuffles);
        drop(old);
    }

    /// Returns what all map tasks wrote for partition `p`, in the order of the map tasks.
    ///
    /// # Errors
    ///
    /// The kind is `Internal`: a map task has not written, so the stage ran too early.
    pub fn fetch(&self, id: ShuffleId, maps: usize, p: usize) -> Result<Vec<Block>> {
        let shuffles = lock(&self.shuffles);
        let outputs = shuffles.get(&id);
        (0..maps)
            .map(|map| {
                outputs
                    .and_then(|outputs| outputs.get(map)?.as_ref()?.get(p).cloned())
                    .ok_or_else(|| crate::bug!("map output {map} of shuffle {} is missing", id.0))
            })
            .collect()
    }

    /// Says whether all `maps` map tasks have written.
    pub fn is_complete(&self, id: ShuffleId) -> bool {
        lock(&self.shuffles).get(&id).is_some_and(|outputs| outputs.iter().all(Option::is_some))
    }

    /// Lets go of a shuffle.
    pub fn forget(&self, id: ShuffleId) {
        let gone = lock(&self.shuffles).remove(&id);
        drop(gone);
    }

    /// Returns how many shuffles are kept.
    pub fn len(&self) -> usize {
        lock(&self.shuffles).len()
    }

    /// Says whether no shuffle is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for ShuffleStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShuffleStore({} shuffles)", self.len())
    }
}
