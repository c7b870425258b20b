//! Which Rdds are kept, and how much of each is there.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use super::Context;
use crate::error::CallSite;
use crate::rdd::{AnyRdd, Node, RddId};
use crate::storage::{BlockId, StorageLevel};
use crate::threads::lock;

/// The Rdds that have been persisted and are still there.
pub(super) type Persistent = BTreeMap<RddId, Weak<Node>>;

/// What is known of a kept Rdd.
///
/// # Spark
///
/// `RDDInfo`, CX20.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RddStorageInfo {
    /// The Rdd.
    pub id: RddId,
    /// The operation that made it, and its line.
    pub site: CallSite,
    /// How its partitions are kept.
    pub level: StorageLevel,
    /// How many partitions it has.
    pub partitions: usize,
    /// How many of them are kept now.
    pub kept_partitions: usize,
}

impl Context {
    /// Takes note that an Rdd is kept.
    pub(crate) fn note_persisted(&self, node: &Arc<Node>) {
        let mut persistent = lock(&self.inner.persistent);
        if persistent.len().is_power_of_two() {
            // Now and then, so that a look at all of them costs nothing each time.
            persistent.retain(|_, node| node.strong_count() > 0);
        }
        persistent.insert(node.id(), Arc::downgrade(node));
    }

    fn kept(&self) -> Vec<Arc<Node>> {
        let nodes: Vec<Arc<Node>> = lock(&self.inner.persistent).values().filter_map(Weak::upgrade).collect();
        nodes.into_iter().filter(|node| node.is_persisted()).collect()
    }

    /// Returns the Rdds that are persisted, in the order in which they were made.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let kept = context.range(0, 10, 1, 2).map(|x| x * x).cache();
    /// kept.count()?;
    /// assert_eq!(context.persistent_rdds()[0].node().id(), kept.id());
    /// assert_eq!(context.rdd_storage_info()[0].kept_partitions, 2);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Spark
    ///
    /// `SparkContext.getPersistentRDDs`, CX20.
    pub fn persistent_rdds(&self) -> Vec<AnyRdd> {
        self.kept().into_iter().map(|node| AnyRdd::of_node(node, self)).collect()
    }

    /// Returns how each Rdd that is persisted is kept, and how much of it is there.
    ///
    /// # Spark
    ///
    /// `SparkContext.getRDDStorageInfo`, CX20.
    pub fn rdd_storage_info(&self) -> Vec<RddStorageInfo> {
        let info = |node: Arc<Node>| {
            let (id, partitions) = (node.id(), node.num_partitions());
            let is_kept =
                |partition: &usize| self.env().blocks.contains(BlockId::Rdd { rdd: id, partition: *partition });
            RddStorageInfo {
                id,
                site: node.site(),
                level: node.persisted().map_or(StorageLevel::NONE, |persisted| persisted.level()),
                partitions,
                kept_partitions: (0..partitions).filter(is_kept).count(),
            }
        };
        self.kept().into_iter().map(info).collect()
    }
}
