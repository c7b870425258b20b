//! Blocks on disk: a file each, in one folder that is removed at the end.

use std::fs;
use std::io::ErrorKind as IoKind;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use bytes::Bytes;
use hashbrown::HashMap;

use super::{Block, BlockId, BlockStore, StorageLevel, StoreUsage};
use crate::codec::TypeCodec;
use crate::error::{Error, ErrorKind, Result};
use crate::threads::lock;

/// Keeps blocks as files in one folder.
#[derive(Debug)]
pub struct DiskStore {
    folder: PathBuf,
    index: Mutex<HashMap<BlockId, Entry, std::hash::BuildHasherDefault<std::hash::DefaultHasher>>>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    bytes: u64,
    items: Option<usize>,
    codec: TypeCodec,
}

impl DiskStore {
    /// Makes a store in `folder`, which is made when the first block is kept.
    pub fn new(folder: impl Into<PathBuf>) -> DiskStore {
        DiskStore { folder: folder.into(), index: Mutex::default() }
    }

    /// Returns the folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn path(&self, id: BlockId) -> PathBuf {
        self.folder.join(id.to_string())
    }

    fn failed(&self, doing: &str, id: BlockId, error: std::io::Error) -> Error {
        Error::io(ErrorKind::Unavailable, format!("block {id} could not be {doing} {}", self.path(id).display()), error)
    }
}

impl BlockStore for DiskStore {
    fn put(&self, id: BlockId, block: Block, level: StorageLevel) -> Result<()> {
        let Some(Block::Bytes { bytes, items, codec }) = block.written()? else {
            return Err(Error::new(
                ErrorKind::Config,
                format!("block {id} cannot be kept as {level}: its elements cannot be written as bytes"),
            ));
        };
        let write = || {
            fs::create_dir_all(&self.folder)?;
            fs::write(self.path(id), &bytes)
        };
        if let Err(error) = write() {
            let _ = fs::remove_file(self.path(id));
            return Err(self.failed("written to", id, error));
        }
        lock(&self.index).insert(id, Entry { bytes: bytes.len() as u64, items, codec });
        Ok(())
    }

    fn get(&self, id: BlockId) -> Result<Option<Block>> {
        let Some(entry) = lock(&self.index).get(&id).copied() else { return Ok(None) };
        match fs::read(self.path(id)) {
            Ok(bytes) => Ok(Some(Block::Bytes { bytes: Bytes::from(bytes), items: entry.items, codec: entry.codec })),
            Err(error) if error.kind() == IoKind::NotFound => Ok(None),
            Err(error) => Err(self.failed("read from", id, error)),
        }
    }

    fn contains(&self, id: BlockId) -> bool {
        lock(&self.index).contains_key(&id)
    }

    fn remove(&self, id: BlockId) -> Result<()> {
        if lock(&self.index).remove(&id).is_none() {
            return Ok(());
        }
        match fs::remove_file(self.path(id)) {
            Err(error) if error.kind() != IoKind::NotFound => Err(self.failed("removed from", id, error)),
            _ => Ok(()),
        }
    }

    fn usage(&self) -> StoreUsage {
        let index = lock(&self.index);
        StoreUsage { blocks: index.len(), memory: 0, disk: index.values().map(|e| e.bytes).sum() }
    }
}

impl Drop for DiskStore {
    fn drop(&mut self) {
        let ids: Vec<_> = lock(&self.index).keys().copied().collect();
        for id in ids {
            let _ = fs::remove_file(self.path(id));
        }
        // Only if nobody else put something there.
        let _ = fs::remove_dir(&self.folder);
    }
}
