//! Memory first, then disk, as each block's storage level says.

use super::{Block, BlockId, BlockStore, DiskStore, MemoryStore, StorageLevel, StoreUsage};
use crate::error::{Error, ErrorKind, Result};

/// Keeps blocks in memory, and on disk where their level says so.
#[derive(Debug)]
pub struct TieredStore {
    memory: MemoryStore,
    disk: DiskStore,
}

impl TieredStore {
    /// Puts a memory store before a disk store.
    pub fn new(memory: MemoryStore, disk: DiskStore) -> TieredStore {
        TieredStore { memory, disk }
    }

    fn offer(&self, id: BlockId, block: Block, level: StorageLevel) -> Result<()> {
        self.move_out(self.memory.offer(id, block, level))
    }

    /// Moves blocks to disk, where their level says so. What the disk does not take, and nothing could compute again,
    /// stays in memory.
    fn move_out(&self, blocks: Vec<(BlockId, Block, StorageLevel)>) -> Result<()> {
        let mut failed = Ok(());
        for (id, block, level) in blocks {
            if !level.use_disk() {
                continue;
            }
            let kept = if matches!(id, BlockId::Received { .. }) { Some(block.clone()) } else { None };
            if let Err(error) = self.disk.put(id, block, level) {
                if let Some(block) = kept {
                    self.memory.keep(id, block, level);
                }
                failed = failed.and(Err(error));
            }
        }
        failed
    }
}

impl BlockStore for TieredStore {
    fn put(&self, id: BlockId, block: Block, level: StorageLevel) -> Result<()> {
        if level.is_none() {
            return Err(Error::new(ErrorKind::Config, format!("block {id} cannot be kept with level NONE")));
        }
        if let Block::File(_) = block {
            // It did not fit in memory when it was made.
            return if level.use_disk() { self.disk.put(id, block, level) } else { Ok(()) };
        }
        if !level.use_memory() {
            return self.disk.put(id, block, level);
        }
        if level.deserialized() {
            return self.offer(id, block, level);
        }
        match block.written()? {
            Some(written) => self.offer(id, written, level),
            None => Err(Error::new(
                ErrorKind::Config,
                format!("block {id} cannot be kept as {level}: its elements cannot be written as bytes"),
            )),
        }
    }

    fn get(&self, id: BlockId) -> Result<Option<Block>> {
        match self.memory.get(id)? {
            Some(block) => Ok(Some(block)),
            None => self.disk.get(id),
        }
    }

    fn contains(&self, id: BlockId) -> bool {
        self.memory.contains(id) || self.disk.contains(id)
    }

    fn remove(&self, id: BlockId) -> Result<()> {
        self.memory.remove(id)?;
        self.disk.remove(id)
    }

    fn make_room(&self, bytes: u64) -> Result<()> {
        self.move_out(self.memory.take_out(bytes))
    }

    fn usage(&self) -> StoreUsage {
        let (memory, disk) = (self.memory.usage(), self.disk.usage());
        StoreUsage { blocks: memory.blocks + disk.blocks, memory: memory.memory, disk: disk.disk }
    }
}
