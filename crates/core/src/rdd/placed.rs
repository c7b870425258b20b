//! Operations on elements that depend on the partition: as those of `narrow`, with an operator of its own for each.

use std::sync::Arc;

use super::Rdd;
use super::lineage::{Compute, Dependency, Node, NodeParts, Opened, narrow};
use super::pipeline::ChunkOperator;
use crate::data::Data;
use crate::error::{CallSite, Result};
use crate::partitioner::Partitioner;
use crate::plan::TaskContext;
use crate::plan::ship::{PlanReader, PlanWriter};

/// What an operation is made from, and how that travels.
pub(crate) trait PlacedSpec: Send + Sync + Sized + 'static {
    type Operator: ChunkOperator;
    fn operator(&self, partition: usize) -> Self::Operator;
    fn ship(&self, w: &mut PlanWriter) -> Result<()>;
    fn unship(r: &mut PlanReader<'_>) -> Result<Self>;
}

struct Placed<S>(S);

impl<S: PlacedSpec> Compute for Placed<S> {
    fn open<'a>(&'a self, p: usize, parents: &'a [Dependency], _: &TaskContext) -> Result<Opened<'a>> {
        Ok(Opened::Through { node: narrow(parents, 0)?, partition: p, operator: Box::new(self.0.operator(p)) })
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|r| {
            let compute: Box<dyn Compute> = Box::new(Placed(S::unship(r)?));
            Ok(Box::new(compute))
        });
        self.0.ship(w)
    }
}

impl<T: Data> Rdd<T> {
    /// Makes an Rdd of an operation that is told its partition.
    pub(crate) fn placed<S>(
        &self,
        spec: S,
        site: CallSite,
        partitioner: Option<Partitioner>,
    ) -> Rdd<<S::Operator as ChunkOperator>::Out>
    where
        S: PlacedSpec,
        S::Operator: ChunkOperator<In = T>,
    {
        Rdd::from_node(
            Node::new::<<S::Operator as ChunkOperator>::Out>(NodeParts {
                site,
                parents: vec![Dependency::Narrow(Arc::clone(self.node()))],
                partitions: self.num_partitions(),
                partitioner,
                compute: Placed(spec),
            }),
            self.context(),
        )
    }
}
