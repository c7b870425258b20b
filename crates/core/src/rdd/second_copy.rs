//! Kept blocks of which there is a second copy: read from the block store, or else from the copy.

use std::sync::Arc;

use super::Rdd;
use super::lineage::{Compute, Dependency, Opened};
use super::reader::{OwnedReader, SharedReader};
use super::sources::source;
use crate::checkpoint::CheckpointStore;
use crate::context::Context;
use crate::data::ExchangeData;
use crate::error::{CallSite, Result};
use crate::plan::TaskContext;
use crate::plan::ship::{PlanReader, PlanWriter};
use crate::storage::BlockId;

/// Where blocks are read that the block store does not have any more, and how that travels.
#[doc(hidden)]
pub trait SecondCopy: Send + Sync + Sized + 'static {
    /// The elements of the blocks.
    type Item: ExchangeData;

    /// Reads the block of a partition. `store` is that of the process that asks.
    ///
    /// # Errors
    ///
    /// The kind is `Data` if there is none, or it is damaged.
    fn read(&self, store: &dyn CheckpointStore, partition: usize) -> Result<Vec<Self::Item>>;

    /// Writes itself down.
    ///
    /// # Errors
    ///
    /// As [`PlanWriter`]'s.
    fn ship(&self, w: &mut PlanWriter) -> Result<()>;

    /// Reads what [`ship`](SecondCopy::ship) wrote.
    ///
    /// # Errors
    ///
    /// As [`PlanReader`]'s.
    fn unship(r: &mut PlanReader<'_>) -> Result<Self>;
}

/// Makes an Rdd of blocks, one a partition, with a second copy of each.
pub(crate) fn blocks_or<C: SecondCopy>(context: &Context, ids: Vec<BlockId>, copy: C, site: CallSite) -> Rdd<C::Item> {
    let count = ids.len();
    source(context, BlocksOr { ids, copy: Arc::new(copy) }, count, site)
}

struct BlocksOr<C> {
    ids: Vec<BlockId>,
    copy: Arc<C>,
}

impl<C: SecondCopy> Compute for BlocksOr<C> {
    fn open<'a>(&'a self, p: usize, _: &'a [Dependency], task: &TaskContext) -> Result<Opened<'a>> {
        let Some(id) = self.ids.get(p) else {
            return Err(crate::bug!("there is no partition {p} of the blocks with a second copy"));
        };
        match task.env().values_of::<C::Item>(*id) {
            Ok(Some(values)) => return Ok(Opened::Source(Box::new(SharedReader::new(values)))),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "block {id} is read from its second copy"),
        }
        let items = self.copy.read(&*task.env().checkpoints()?, p)?;
        Ok(Opened::Source(Box::new(OwnedReader::new(items.into_iter()))))
    }

    fn received(&self, p: usize) -> Option<BlockId> {
        self.ids.get(p).copied()
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|r| {
            let ids = r.value()?;
            let compute: Box<dyn Compute> = Box::new(BlocksOr { ids, copy: Arc::new(C::unship(r)?) });
            Ok(Box::new(compute))
        });
        w.value(&self.ids)?;
        self.copy.ship(w)
    }
}
