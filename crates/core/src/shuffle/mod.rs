//! What map tasks wrote for reduce tasks, until no lineage names the shuffle any more.
//!
//! Outputs are values in memory while the budget lasts. When it is passed, the oldest go to disk, a file a map task.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use hashbrown::HashMap;

use crate::error::{Error, Result};
use crate::memory::{Holder, MemoryBudget};
use crate::rdd::ShuffleId;
use crate::spill::{FileBlock, SpillDir};
use crate::storage::Block;
use crate::threads::lock;

/// An output below this is not worth a file.
const SMALL: u64 = 512;

/// Keeps shuffle outputs: for each shuffle, map task and reading partition one block.
pub struct ShuffleStore {
    state: Mutex<State>,
    memory: Arc<MemoryBudget>,
    dir: Arc<SpillDir>,
    /// Whether it holds what one task reads, away from the driver: what is missing was not planned to be read.
    away: bool,
}

#[derive(Default)]
struct State {
    shuffles: HashMap<ShuffleId, Vec<Option<Output>>, std::hash::BuildHasherDefault<std::hash::DefaultHasher>>,
    /// Outputs in memory that may go to disk, by the time at which they came.
    by_age: BTreeMap<u64, (ShuffleId, usize)>,
    tick: u64,
}

/// What one map task wrote.
struct Output {
    /// By the partition that reads them. Away from the driver only those are here that the task reads.
    blocks: Vec<Option<Block>>,
    /// About how many bytes they take in memory.
    bytes: u64,
    came: u64,
}

impl ShuffleStore {
    /// Keeps outputs under a budget; what is too much goes to files in `dir`.
    pub fn new(memory: Arc<MemoryBudget>, dir: Arc<SpillDir>) -> ShuffleStore {
        ShuffleStore { state: Mutex::default(), memory, dir, away: false }
    }

    /// As [`new`](Self::new), for one task away from its driver.
    pub(crate) fn away(memory: Arc<MemoryBudget>, dir: Arc<SpillDir>) -> ShuffleStore {
        ShuffleStore { state: Mutex::default(), memory, dir, away: true }
    }

    /// Keeps what map task `map` of `maps` wrote. What an earlier attempt wrote is replaced.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable`: the budget is passed, and what had to go to disk could not.
    pub fn put(&self, id: ShuffleId, maps: usize, map: usize, blocks: Vec<Block>) -> Result<()> {
        let bytes = blocks.iter().map(|block| block.size() as u64).sum();
        let mut state = lock(&self.state);
        state.tick += 1;
        let came = state.tick;
        if bytes >= SMALL {
            state.by_age.insert(came, (id, map));
        }
        let outputs = state.shuffles.entry(id).or_default();
        outputs.resize_with(maps.max(outputs.len()), || None);
        let blocks = blocks.into_iter().map(Some).collect();
        let old = outputs[map].replace(Output { blocks, bytes, came });
        self.memory.add(Holder::Shuffles, bytes);
        self.left(&mut state, old.as_ref());
        drop(state);
        drop(old);
        match self.memory.excess() {
            0 => Ok(()),
            excess => self.make_room(excess).map(|_| ()),
        }
    }

    /// Keeps what map task `map` wrote for partition `p`, and nothing else of it: where a task runs away from its driver, it is
    /// given what it reads.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    pub fn put_one(&self, id: ShuffleId, map: usize, p: usize, block: Block) -> Result<()> {
        let bytes = block.size() as u64;
        let mut state = lock(&self.state);
        state.tick += 1;
        let came = state.tick;
        let outputs = state.shuffles.entry(id).or_default();
        outputs.resize_with((map + 1).max(outputs.len()), || None);
        let output = outputs[map].get_or_insert_with(|| Output { blocks: Vec::new(), bytes: 0, came });
        output.blocks.resize_with((p + 1).max(output.blocks.len()), || None);
        output.blocks[p] = Some(block);
        output.bytes += bytes;
        let (all, came) = (output.bytes, output.came);
        if all >= SMALL {
            state.by_age.insert(came, (id, map));
        }
        self.memory.add(Holder::Shuffles, bytes);
        drop(state);
        match self.memory.excess() {
            0 => Ok(()),
            excess => self.make_room(excess).map(|_| ()),
        }
    }

    /// Takes note that an output is no longer in memory.
    fn left(&self, state: &mut State, output: Option<&Output>) {
        if let Some(output) = output {
            state.by_age.remove(&output.came);
            self.memory.sub(Holder::Shuffles, output.bytes);
        }
    }

    /// Writes outputs of about `bytes` to disk, oldest first. Returns how many bytes that gave.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable`: they cannot be written. They stay in memory.
    pub fn make_room(&self, bytes: u64) -> Result<u64> {
        let mut gone = 0;
        while gone < bytes {
            let mut state = lock(&self.state);
            let Some((came, (id, map))) = state.by_age.pop_first() else { return Ok(gone) };
            let Some(output) = state.shuffles.get(&id).and_then(|outputs| outputs.get(map)?.as_ref()) else { continue };
            let blocks = output.blocks.clone();
            drop(state);
            let written = self.write(id, map, &blocks);
            drop(blocks);
            let mut state = lock(&self.state);
            let output = state.shuffles.get_mut(&id).and_then(|outputs| outputs.get_mut(map)?.as_mut());
            let Some(output) = output.filter(|output| output.came == came) else { continue };
            match written {
                Ok(written) => {
                    let freed = std::mem::take(&mut output.bytes);
                    let before = std::mem::replace(&mut output.blocks, written);
                    self.memory.sub(Holder::Shuffles, freed);
                    gone += freed;
                    drop(state);
                    drop(before);
                }
                Err(error) => {
                    state.by_age.insert(came, (id, map));
                    return Err(error);
                }
            }
        }
        Ok(gone)
    }

    fn write(&self, id: ShuffleId, map: usize, blocks: &[Option<Block>]) -> Result<Vec<Option<Block>>> {
        let mut writer = self.dir.create(&format!("shuffle-{}-{map}", id.0))?.for_others();
        let mut runs = Vec::with_capacity(blocks.len());
        for block in blocks {
            runs.push(match block {
                None | Some(Block::File(_)) => None,
                Some(block) => block.write_to(&mut writer, self.memory.piece())?,
            });
        }
        let file = writer.finish();
        let written = blocks.iter().zip(runs).map(|(block, run)| match run {
            Some((run, codec)) => Some(Block::File(FileBlock::new(&file, run, codec))),
            None => block.clone(),
        });
        Ok(written.collect())
    }

    /// Returns what map task `map` of `maps` wrote for partition `p`.
    ///
    /// # Errors
    ///
    /// The kind is `Internal`: a map task has not written, so the stage ran too early.
    pub fn fetch_one(&self, id: ShuffleId, map: usize, p: usize) -> Result<Block> {
        let state = lock(&self.state);
        let output = state.shuffles.get(&id).and_then(|outputs| outputs.get(map)?.as_ref());
        let block = output.and_then(|output| output.blocks.get(p).cloned().flatten());
        block.ok_or_else(|| match self.away {
            true => {
                Error::lost(format!("map output {map} of shuffle {} is not there: a kept partition was lost", id.0))
            }
            false => crate::bug!("map output {map} of shuffle {} is missing", id.0),
        })
    }

    /// Returns what all map tasks wrote for partition `p`, in the order of the map tasks.
    ///
    /// # Errors
    ///
    /// As [`fetch_one`](Self::fetch_one).
    pub fn fetch(&self, id: ShuffleId, maps: usize, p: usize) -> Result<Vec<Block>> {
        (0..maps).map(|map| self.fetch_one(id, map, p)).collect()
    }

    /// Says whether all `maps` map tasks have written.
    pub fn is_complete(&self, id: ShuffleId) -> bool {
        lock(&self.state).shuffles.get(&id).is_some_and(|outputs| outputs.iter().all(Option::is_some))
    }

    /// Lets go of a shuffle.
    pub fn forget(&self, id: ShuffleId) {
        let mut state = lock(&self.state);
        let gone = state.shuffles.remove(&id);
        for output in gone.iter().flatten() {
            self.left(&mut state, output.as_ref());
        }
        drop(state);
        drop(gone);
    }

    /// Lets go of all shuffles.
    pub(crate) fn forget_all(&self) {
        let mut state = lock(&self.state);
        let gone = std::mem::take(&mut state.shuffles);
        for output in gone.values().flatten() {
            self.left(&mut state, output.as_ref());
        }
        drop(state);
        drop(gone);
    }

    /// Returns how many shuffles are kept.
    pub fn len(&self) -> usize {
        lock(&self.state).shuffles.len()
    }

    /// Says whether no shuffle is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for ShuffleStore {
    fn drop(&mut self) {
        // The budget may be shared with others that go on.
        self.forget_all();
    }
}

impl fmt::Debug for ShuffleStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShuffleStore({} shuffles)", self.len())
    }
}
