//! Reading blocks, in memory or on disk, and what a shuffle left for a partition.

use std::sync::Arc;

use super::lineage::ShuffleRead;
use super::pipeline::{CHUNK, PartitionReader};
use super::reader::SharedReader;
use crate::codec;
use crate::data::ExchangeData;
use crate::error::Result;
use crate::plan::TaskContext;
use crate::spill::RunReader;
use crate::storage::Block;

/// Reads one block.
pub(crate) enum BlockReader<T> {
    Values(SharedReader<T>),
    File(RunReader<T>),
}

impl<T: ExchangeData> BlockReader<T> {
    pub(crate) fn open(block: &Block) -> Result<BlockReader<T>> {
        match block {
            Block::File(file) => file.reader().map(BlockReader::File),
            // Written in another process, perhaps, whose codec did not come along.
            Block::Bytes { bytes, .. } => Ok(BlockReader::Values(SharedReader::new(Arc::new(codec::decode(bytes)?)))),
            _ => Ok(BlockReader::Values(SharedReader::new(block.values::<T>()?))),
        }
    }
}

impl<T: ExchangeData> PartitionReader for BlockReader<T> {
    type Item = T;

    fn read_chunk(&mut self, out: &mut Vec<T>) -> Result<bool> {
        match self {
            BlockReader::Values(values) => values.read_chunk(out),
            BlockReader::File(run) => read_some(out, || run.next()),
        }
    }

    fn shared(&mut self) -> Option<(&Vec<T>, std::ops::Range<usize>)> {
        match self {
            BlockReader::Values(values) => values.shared(),
            BlockReader::File(_) => None,
        }
    }

    fn is_shared(&self) -> bool {
        matches!(self, BlockReader::Values(_))
    }
}

/// Appends a chunk of what `next` gives, and says whether there was any.
pub(crate) fn read_some<T>(out: &mut Vec<T>, mut next: impl FnMut() -> Result<Option<T>>) -> Result<bool> {
    let before = out.len();
    while out.len() < before + CHUNK {
        match next()? {
            Some(item) => out.push(item),
            None => break,
        }
    }
    Ok(out.len() > before)
}

/// Reads what all writers of a shuffle left for a partition, in their order. A block is fetched when its turn comes.
pub(crate) struct ShuffleReader<T> {
    shuffle: ShuffleRead,
    partition: usize,
    task: TaskContext,
    map: usize,
    current: Option<BlockReader<T>>,
}

impl<T: ExchangeData> ShuffleReader<T> {
    pub(crate) fn new(shuffle: ShuffleRead, partition: usize, task: &TaskContext) -> ShuffleReader<T> {
        ShuffleReader { shuffle, partition, task: task.clone(), map: 0, current: None }
    }

    /// Gives each chunk to `each`, and what is left of it is dropped.
    pub(crate) fn for_each_chunk(&mut self, mut each: impl FnMut(&mut Vec<T>) -> Result<()>) -> Result<()> {
        let mut chunk = Vec::with_capacity(CHUNK);
        while self.read_chunk(&mut chunk)? {
            self.task.check()?;
            each(&mut chunk)?;
            chunk.clear();
        }
        Ok(())
    }
}

impl<T: ExchangeData> PartitionReader for ShuffleReader<T> {
    type Item = T;

    fn read_chunk(&mut self, out: &mut Vec<T>) -> Result<bool> {
        loop {
            if let Some(reader) = &mut self.current {
                if reader.read_chunk(out)? {
                    return Ok(true);
                }
                self.current = None;
            }
            if self.map == self.shuffle.maps {
                return Ok(false);
            }
            let block = self.task.env().shuffles.fetch_one(self.shuffle.id, self.map, self.partition)?;
            self.task.tally(|tally| tally.fetched(&block));
            self.map += 1;
            self.current = Some(BlockReader::open(&block)?);
        }
    }
}
