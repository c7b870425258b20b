//! Blocks in memory, under a budget: the least recently used make room.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use hashbrown::HashMap;

use super::{Block, BlockId, BlockStore, StorageLevel, StoreUsage};
use crate::error::Result;
use crate::memory::{Holder, MemoryBudget};
use crate::threads::lock;

/// Keeps blocks in memory up to a budget.
#[derive(Debug)]
pub struct MemoryStore {
    budget: Arc<MemoryBudget>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    blocks: HashMap<BlockId, Kept, std::hash::BuildHasherDefault<std::hash::DefaultHasher>>,
    by_use: BTreeMap<u64, BlockId>,
    used: usize,
    tick: u64,
}

#[derive(Debug)]
struct Kept {
    block: Block,
    level: StorageLevel,
    last_use: u64,
}

impl State {
    fn touch(&mut self, id: BlockId) {
        self.tick += 1;
        if let Some(kept) = self.blocks.get_mut(&id) {
            self.by_use.remove(&kept.last_use);
            kept.last_use = self.tick;
            self.by_use.insert(self.tick, id);
        }
    }

    fn take(&mut self, id: BlockId) -> Option<(Block, StorageLevel)> {
        let kept = self.blocks.remove(&id)?;
        self.by_use.remove(&kept.last_use);
        self.used -= kept.block.size();
        Some((kept.block, kept.level))
    }
}

impl MemoryStore {
    /// Makes a store that keeps at most about `bytes`.
    pub fn new(bytes: usize) -> MemoryStore {
        MemoryStore::under(Arc::new(MemoryBudget::new(bytes as u64, 1.0)))
    }

    /// Makes a store under a budget that it shares with tasks and shuffles.
    pub fn under(budget: Arc<MemoryBudget>) -> MemoryStore {
        MemoryStore { budget, state: Mutex::new(State::default()) }
    }

    /// Keeps a block and returns what had to make room: older blocks, or this one if there is no room for it.
    ///
    /// Blocks of receivers go only where their level has a disk to go to: nothing could compute them again.
    pub fn offer(&self, id: BlockId, block: Block, level: StorageLevel) -> Vec<(BlockId, Block, StorageLevel)> {
        let mut state = lock(&self.state);
        let old = self.take(&mut state, id);
        let size = block.size() as u64;
        let mut out = Vec::new();
        while !self.budget.fits_block(size) && size <= self.budget.limit() {
            let Some(victim) = self.take_oldest(&mut state) else { break };
            out.push(victim);
        }
        if !self.budget.fits_block(size) && matches!(id, BlockId::Rdd { .. }) {
            out.push((id, block, level));
        } else {
            self.insert(&mut state, id, block, level);
        }
        drop(state);
        drop(old);
        out
    }

    /// Keeps a block whether there is room for it or not.
    pub(super) fn keep(&self, id: BlockId, block: Block, level: StorageLevel) {
        let mut state = lock(&self.state);
        let old = self.take(&mut state, id);
        self.insert(&mut state, id, block, level);
        drop(state);
        drop(old);
    }

    /// Takes out blocks of about `bytes`, but leaves those that the budget lets blocks keep.
    pub(super) fn take_out(&self, bytes: u64) -> Vec<(BlockId, Block, StorageLevel)> {
        let mut state = lock(&self.state);
        let (mut out, mut gone) = (Vec::new(), 0);
        while gone < bytes && self.budget.held(Holder::Blocks) > self.budget.kept() {
            let Some(victim) = self.take_oldest(&mut state) else { break };
            gone += victim.1.size() as u64;
            out.push(victim);
        }
        out
    }

    fn insert(&self, state: &mut State, id: BlockId, block: Block, level: StorageLevel) {
        state.tick += 1;
        let last_use = state.tick;
        state.by_use.insert(last_use, id);
        state.used += block.size();
        self.budget.add(Holder::Blocks, block.size() as u64);
        state.blocks.insert(id, Kept { block, level, last_use });
    }

    fn take(&self, state: &mut State, id: BlockId) -> Option<(Block, StorageLevel)> {
        let (block, level) = state.take(id)?;
        self.budget.sub(Holder::Blocks, block.size() as u64);
        Some((block, level))
    }

    /// Takes out the block that has not been used for longest, of those that may go.
    fn take_oldest(&self, state: &mut State) -> Option<(BlockId, Block, StorageLevel)> {
        let may_go = |id: &BlockId| {
            matches!(id, BlockId::Rdd { .. }) || state.blocks.get(id).is_some_and(|kept| kept.level.use_disk())
        };
        let id = state.by_use.values().copied().find(may_go)?;
        let (block, level) = self.take(state, id)?;
        Some((id, block, level))
    }
}

impl Drop for MemoryStore {
    fn drop(&mut self) {
        self.budget.sub(Holder::Blocks, lock(&self.state).used as u64);
    }
}

impl BlockStore for MemoryStore {
    fn put(&self, id: BlockId, block: Block, level: StorageLevel) -> Result<()> {
        self.offer(id, block, level);
        Ok(())
    }

    fn get(&self, id: BlockId) -> Result<Option<Block>> {
        let mut state = lock(&self.state);
        state.touch(id);
        Ok(state.blocks.get(&id).map(|kept| kept.block.clone()))
    }

    fn contains(&self, id: BlockId) -> bool {
        lock(&self.state).blocks.contains_key(&id)
    }

    fn remove(&self, id: BlockId) -> Result<()> {
        // The values are dropped after the lock is let go: they may be large.
        let gone = self.take(&mut lock(&self.state), id);
        drop(gone);
        Ok(())
    }

    fn usage(&self) -> StoreUsage {
        let state = lock(&self.state);
        StoreUsage { blocks: state.blocks.len(), memory: state.used, disk: 0 }
    }
}
