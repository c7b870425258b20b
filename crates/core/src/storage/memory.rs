//! Blocks in memory, under a budget: the least recently used make room.

use std::collections::BTreeMap;
use std::sync::Mutex;

use hashbrown::HashMap;

use super::{Block, BlockId, BlockStore, StorageLevel, StoreUsage};
use crate::error::Result;
use crate::threads::lock;

/// Keeps blocks in memory up to a budget.
#[derive(Debug)]
pub struct MemoryStore {
    budget: usize,
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
    /// Makes a store that keeps at most about `budget` bytes.
    pub fn new(budget: usize) -> MemoryStore {
        MemoryStore { budget, state: Mutex::new(State::default()) }
    }

    /// Keeps a block and returns what had to make room: older blocks, or this one if it is larger than all.
    ///
    /// Blocks of receivers go only where their level has a disk to go to: nothing could compute them again.
    pub fn offer(&self, id: BlockId, block: Block, level: StorageLevel) -> Vec<(BlockId, Block, StorageLevel)> {
        let mut state = lock(&self.state);
        state.take(id);
        let size = block.size();
        let mut out = Vec::new();
        if size > self.budget && matches!(id, BlockId::Rdd { .. }) {
            out.push((id, block, level));
            return out;
        }
        while state.used + size > self.budget {
            let may_go = |id: &BlockId| {
                matches!(id, BlockId::Rdd { .. }) || state.blocks.get(id).is_some_and(|kept| kept.level.use_disk())
            };
            let victim = state.by_use.values().copied().find(may_go);
            let Some(victim) = victim else { break };
            if let Some((block, level)) = state.take(victim) {
                out.push((victim, block, level));
            }
        }
        state.tick += 1;
        let last_use = state.tick;
        state.by_use.insert(last_use, id);
        state.used += size;
        state.blocks.insert(id, Kept { block, level, last_use });
        out
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
        let gone = lock(&self.state).take(id);
        drop(gone);
        Ok(())
    }

    fn usage(&self) -> StoreUsage {
        let state = lock(&self.state);
        StoreUsage { blocks: state.blocks.len(), memory: state.used, disk: 0 }
    }
}
