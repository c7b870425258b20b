//! Blocks: what persisted partitions and receivers keep, in memory and on disk.

mod disk;
mod level;
mod memory;
mod tiered;

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

pub use self::disk::DiskStore;
pub use self::level::StorageLevel;
pub use self::memory::MemoryStore;
pub use self::tiered::TieredStore;
use crate::codec::TypeCodec;
use crate::data::{Data, ExchangeData};
use crate::error::Result;
use crate::rdd::RddId;
use crate::spill::size::size_of_values;
use crate::spill::{FileBlock, Run, RunWriter, SpillWriter};

/// Names a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum BlockId {
    /// A partition of a persisted Rdd.
    Rdd {
        /// The Rdd.
        rdd: RddId,
        /// The partition.
        partition: usize,
    },
    /// A block that a receiver made.
    Received {
        /// The input stream.
        stream: u64,
        /// The block's number within the stream.
        sequence: u64,
    },
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BlockId::Rdd { rdd, partition } => write!(f, "rdd-{rdd}-{partition}"),
            BlockId::Received { stream, sequence } => write!(f, "input-{stream}-{sequence}"),
        }
    }
}

/// A block: values as they are, or written as bytes.
#[derive(Clone)]
pub enum Block {
    /// A `Vec<T>` behind an `Arc`, which readers share.
    Live {
        /// The `Vec<T>`.
        values: Arc<dyn Any + Send + Sync>,
        /// How many elements there are.
        items: usize,
        /// About how many bytes they take.
        bytes: usize,
        /// How to write it, unless its elements cannot travel.
        codec: Option<TypeCodec>,
    },
    /// A `Vec<T>` written by its codec.
    Bytes {
        /// The bytes.
        bytes: Bytes,
        /// How many elements there are, if that is known.
        items: Option<usize>,
        /// How to read it.
        codec: TypeCodec,
    },
    /// Elements on disk, read as they are asked for.
    File(FileBlock),
}

/// Returns about how many bytes elements take in memory, by a look at some of them.
pub fn size_of_items<T: ExchangeData>(items: &[T]) -> u64 {
    size_of_values(items)
}

impl Block {
    /// Makes a live block of elements that need not travel.
    pub fn live<T: Data>(values: Vec<T>) -> Block {
        let (items, bytes) = (values.len(), values.len() * size_of::<T>());
        Block::Live { values: Arc::new(values), items, bytes, codec: None }
    }

    /// Makes a live block of elements that may travel.
    pub fn exchange<T: ExchangeData>(values: Vec<T>) -> Block {
        let (items, bytes) = (values.len(), size_of_values(&values) as usize);
        Block::Live { values: Arc::new(values), items, bytes, codec: Some(TypeCodec::of_many::<T>()) }
    }

    /// Returns how many elements the block has, if that is known without reading it.
    pub fn items(&self) -> Option<usize> {
        match self {
            Block::Live { items, .. } => Some(*items),
            Block::Bytes { items, .. } => *items,
            Block::File(file) => Some(file.items()),
        }
    }

    /// Returns about how many bytes the block takes in memory.
    pub fn size(&self) -> usize {
        match self {
            Block::Live { bytes, .. } => *bytes,
            Block::Bytes { bytes, .. } => bytes.len(),
            Block::File(_) => 0,
        }
    }

    /// Returns the elements, reading them from bytes where they are bytes.
    ///
    /// # Errors
    ///
    /// The kind is `Data`: the bytes are not such a block. It is `Internal` if the block has other elements.
    pub fn values<T: Data>(&self) -> Result<Arc<Vec<T>>> {
        let wrong = || crate::bug!("a block does not hold elements of the expected type");
        match self {
            Block::Live { values, .. } => Arc::clone(values).downcast::<Vec<T>>().map_err(|_| wrong()),
            Block::Bytes { bytes, codec, .. } => {
                codec.decode(bytes)?.downcast::<Vec<T>>().map(Arc::from).map_err(|_| wrong())
            }
            Block::File(file) => {
                file.codec().decode(&file.bytes()?)?.downcast::<Vec<T>>().map(Arc::from).map_err(|_| wrong())
            }
        }
    }

    /// Returns the block written as bytes, or nothing if its elements cannot travel.
    ///
    /// # Errors
    ///
    /// The kind is `User`: an element refuses to be written. It is `Unavailable`: the block's file cannot be read.
    pub fn written(&self) -> Result<Option<Block>> {
        match self {
            Block::Live { codec: None, .. } => Ok(None),
            Block::Live { values, items, codec: Some(codec), .. } => {
                Ok(Some(Block::Bytes { bytes: codec.encode(&**values)?, items: Some(*items), codec: *codec }))
            }
            Block::Bytes { .. } => Ok(Some(self.clone())),
            Block::File(file) => {
                let (bytes, items) = (Bytes::from(file.bytes()?), Some(file.items()));
                Ok(Some(Block::Bytes { bytes, items, codec: file.codec() }))
            }
        }
    }

    /// Writes the elements to a file in pieces of about `length` bytes. Returns how they are read again, or nothing if
    /// they cannot travel.
    pub(crate) fn write_to(&self, writer: &mut SpillWriter, length: usize) -> Result<Option<(Run, TypeCodec)>> {
        let mut run = RunWriter::default();
        let codec = match self {
            Block::Live { codec: None, .. } => return Ok(None),
            Block::Live { values, codec: Some(codec), .. } => {
                codec.encode_pieces(&**values, length, &mut |items, bytes| run.encoded(items, bytes, writer))?;
                codec
            }
            Block::Bytes { bytes, codec, .. } => {
                let (items, rest) = crate::codec::decode_from::<usize>(bytes)?;
                run.encoded(items, rest, writer)?;
                codec
            }
            Block::File(_) => return Err(crate::bug!("a block on disk is to be written to disk again")),
        };
        Ok(Some((run.finish(writer)?, *codec)))
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = match self {
            Block::Live { .. } => "Live",
            Block::Bytes { .. } => "Bytes",
            Block::File(_) => "File",
        };
        write!(f, "Block::{form}({:?} items, {} bytes)", self.items(), self.size())
    }
}

/// Keeps blocks.
pub trait BlockStore: Send + Sync + fmt::Debug + 'static {
    /// Keeps a block, as durably as `level` says, on return. An older block of the same name is replaced.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable` (the disk is full, say), or `Config`: the level needs bytes and the block cannot
    /// be written.
    fn put(&self, id: BlockId, block: Block, level: StorageLevel) -> Result<()>;

    /// Returns the block, or nothing if it is not here (any more).
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable` or `Data`: it is here but cannot be read.
    fn get(&self, id: BlockId) -> Result<Option<Block>>;

    /// Says whether the block is here, without reading it.
    fn contains(&self, id: BlockId) -> bool;

    /// Forgets the block, if it is here.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable`: its file cannot be removed.
    fn remove(&self, id: BlockId) -> Result<()>;

    /// Gives up about `bytes` of memory, if it may: tasks and shuffles need it.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable`: what had to go to disk could not.
    fn make_room(&self, _bytes: u64) -> Result<()> {
        Ok(())
    }

    /// Returns how many blocks are here, and about how many bytes they take in memory and on disk.
    fn usage(&self) -> StoreUsage;
}

/// What a [`BlockStore`] holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreUsage {
    /// The number of blocks.
    pub blocks: usize,
    /// About how many bytes they take in memory.
    pub memory: usize,
    /// How many bytes they take on disk.
    pub disk: u64,
}

#[cfg(test)]
mod tests;
