//! Keeping partitions: how they are filled, read back and let go.

use std::marker::PhantomData;
use std::sync::Arc;

use super::blocks::BlockReader;
use super::lineage::RddId;
use super::pipeline::{Pipeline, Source};
use super::reader::SharedReader;
use super::spilled::SpillBuckets;
use crate::context::Env;
use crate::data::{Data, ExchangeData};
use crate::error::Result;
use crate::events::EngineEvent;
use crate::plan::TaskContext;
use crate::plan::ship::{PlanReader, PlanWriter};
use crate::storage::{Block, BlockId, StorageLevel};

/// How the partitions of an Rdd are kept.
pub(crate) struct Persisted {
    level: StorageLevel,
    keeper: Box<dyn Keeper>,
    /// Where the blocks are, on the driver; nothing in a stage that travelled, which does not own them.
    env: Option<Arc<Env>>,
}

trait Keeper: Send + Sync {
    fn fill(&self, pipeline: &mut Pipeline) -> Result<Block>;
    fn open(&self, block: &Block) -> Result<Box<dyn Source>>;
    fn ship(&self, w: &mut PlanWriter) -> Result<()>;
}

struct LiveKeeper<T>(PhantomData<fn() -> T>);
struct ExchangeKeeper<T>(PhantomData<fn() -> T>);

impl<T: Data> Keeper for LiveKeeper<T> {
    fn fill(&self, pipeline: &mut Pipeline) -> Result<Block> {
        pipeline.read_all::<T>().map(Block::live)
    }

    fn open(&self, block: &Block) -> Result<Box<dyn Source>> {
        Ok(Box::new(SharedReader::new(block.values::<T>()?)))
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|_| {
            let keeper: Box<dyn Keeper> = Box::new(LiveKeeper::<T>(PhantomData));
            Ok(Box::new(keeper))
        });
        Ok(())
    }
}

impl<T: ExchangeData> Keeper for ExchangeKeeper<T> {
    /// A partition that does not fit in memory is written to disk while it is read. Where its level has no disk, it
    /// serves this task from there and is not kept.
    fn fill(&self, pipeline: &mut Pipeline) -> Result<Block> {
        let Some(task) = TaskContext::current() else { return pipeline.read_all::<T>().map(Block::exchange) };
        let mut rows = SpillBuckets::new(1, task.env());
        pipeline.for_each_chunk(|chunk: &mut Vec<T>| {
            rows.expect(chunk)?;
            chunk.drain(..).for_each(|row| rows.push(0, row));
            Ok(())
        })?;
        rows.finish()?.pop().ok_or_else(|| crate::bug!("a partition was filled and gave no block"))
    }

    fn open(&self, block: &Block) -> Result<Box<dyn Source>> {
        Ok(Box::new(BlockReader::<T>::open(block)?))
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|_| {
            let keeper: Box<dyn Keeper> = Box::new(ExchangeKeeper::<T>(PhantomData));
            Ok(Box::new(keeper))
        });
        Ok(())
    }
}

impl Persisted {
    pub(crate) fn live<T: Data>(env: Arc<Env>) -> Persisted {
        Persisted { level: StorageLevel::MEMORY_ONLY, keeper: Box::new(LiveKeeper::<T>(PhantomData)), env: Some(env) }
    }

    pub(crate) fn exchange<T: ExchangeData>(level: StorageLevel, env: Arc<Env>) -> Persisted {
        Persisted { level, keeper: Box::new(ExchangeKeeper::<T>(PhantomData)), env: Some(env) }
    }

    pub(crate) fn level(&self) -> StorageLevel {
        self.level
    }

    /// Reads a partition to its end.
    pub(crate) fn fill(&self, pipeline: &mut Pipeline) -> Result<Block> {
        self.keeper.fill(pipeline)
    }

    /// Reads a kept partition.
    pub(crate) fn open(&self, block: &Block) -> Result<Box<dyn Source>> {
        self.keeper.open(block)
    }

    pub(crate) fn remove_blocks(&self, rdd: RddId, partitions: usize) {
        let Some(env) = &self.env else { return };
        for partition in 0..partitions {
            if let Err(error) = env.blocks.remove(BlockId::Rdd { rdd, partition }) {
                tracing::warn!(%error, "a block could not be removed");
            }
        }
        env.events.listeners.post(|| EngineEvent::Unpersisted(rdd));
    }

    pub(crate) fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.value(&self.level)?;
        self.keeper.ship(w)
    }

    pub(crate) fn unship(r: &mut PlanReader<'_>) -> Result<Persisted> {
        Ok(Persisted { level: r.value()?, keeper: r.rebuilt()?, env: None })
    }
}
