//! Blocks on disk: a file each, in one folder that is removed at the end.

use std::fs;
use std::io::ErrorKind as IoKind;
use std::path::Path;
use std::sync::{Arc, Mutex};

use hashbrown::HashMap;

use super::{Block, BlockId, BlockStore, StorageLevel, StoreUsage};
use crate::error::{Error, ErrorKind, Result};
use crate::spill::{FileBlock, SpillDir};
use crate::threads::lock;

/// How long the pieces are in which a block is written and read.
const PIECE: usize = 256 << 10;

/// Keeps blocks as files in one folder.
#[derive(Debug)]
pub struct DiskStore {
    index: Mutex<HashMap<BlockId, FileBlock, std::hash::BuildHasherDefault<std::hash::DefaultHasher>>>,
    dir: Arc<SpillDir>,
}

impl DiskStore {
    /// Makes a store in `folder`, which is made when the first block is kept.
    pub fn new(folder: impl Into<std::path::PathBuf>) -> DiskStore {
        DiskStore { index: Mutex::default(), dir: SpillDir::new(folder) }
    }

    /// Returns the folder.
    pub fn folder(&self) -> &Path {
        self.dir.folder()
    }
}

impl BlockStore for DiskStore {
    fn put(&self, id: BlockId, block: Block, level: StorageLevel) -> Result<()> {
        let file = match block {
            Block::File(file) => file,
            _ => {
                let mut writer = self.dir.create(&id.to_string())?.for_others();
                let Some((run, codec)) = block.write_to(&mut writer, PIECE)? else {
                    return Err(Error::new(
                        ErrorKind::Config,
                        format!("block {id} cannot be kept as {level}: its elements cannot be written as bytes"),
                    ));
                };
                FileBlock::new(&writer.finish(), run, codec)
            }
        };
        let old = lock(&self.index).insert(id, file);
        drop(old);
        Ok(())
    }

    fn get(&self, id: BlockId) -> Result<Option<Block>> {
        let Some(file) = lock(&self.index).get(&id).cloned() else { return Ok(None) };
        match fs::metadata(file.path()) {
            Ok(_) => Ok(Some(Block::File(file))),
            Err(error) if error.kind() == IoKind::NotFound => Ok(None),
            Err(error) => {
                let doing = format!("block {id} could not be read from {}", file.path().display());
                Err(Error::io(ErrorKind::Unavailable, doing, error))
            }
        }
    }

    fn contains(&self, id: BlockId) -> bool {
        lock(&self.index).contains_key(&id)
    }

    fn remove(&self, id: BlockId) -> Result<()> {
        let gone = lock(&self.index).remove(&id);
        drop(gone);
        Ok(())
    }

    fn usage(&self) -> StoreUsage {
        let index = lock(&self.index);
        StoreUsage { blocks: index.len(), memory: 0, disk: index.values().map(FileBlock::disk).sum() }
    }
}
