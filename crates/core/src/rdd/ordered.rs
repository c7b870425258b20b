//! Pairs in the order of their keys: sort_by_key, sorting within partitions, and ranges of keys.

use std::cmp::Reverse;
use std::sync::Arc;

use super::Rdd;
use super::lineage::{Compute, Dependency, Node, NodeParts, Opened, narrow};
use super::pipeline::PartitionIter;
use crate::backend::on_driver;
use crate::data::{Data, ExchangeData, Key};
use crate::error::{CallSite, Result};
use crate::partitioner::Partitioner;
use crate::plan::TaskContext;
use crate::plan::ship::{Closure, PlanWriter, capture_ref};

impl<K: ExchangeData + Ord, V: ExchangeData> Rdd<(K, V)> {
    /// Sorts pairs by key, smallest first. Pairs of equal keys keep their order.
    ///
    /// The result knows which keys are in which partition: [`filter_by_range`](Self::filter_by_range) reads only those
    /// that it needs, [`lookup`](Self::lookup) one, and operations by key on it need no shuffle.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let sorted = context.parallelize(vec![(3, 'c'), (1, 'a'), (2, 'b')], 2).sort_by_key();
    /// assert_eq!(sorted.collect()?, [(1, 'a'), (2, 'b'), (3, 'c')]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Cost
    ///
    /// As [`sort_by`](Rdd::sort_by).
    ///
    /// # Spark
    ///
    /// `OrderedRDDFunctions.sortByKey`, OR01.
    #[track_caller]
    pub fn sort_by_key(&self) -> Rdd<(K, V)> {
        self.sort_up(self.num_partitions(), CallSite::here("sort_by_key"))
    }

    /// As [`sort_by_key`](Self::sort_by_key), over at most `partitions` partitions.
    #[track_caller]
    pub fn sort_by_key_partitioned(&self, partitions: usize) -> Rdd<(K, V)> {
        self.sort_up(partitions, CallSite::here("sort_by_key_partitioned"))
    }

    /// Sorts pairs by key, largest first. Pairs of equal keys keep their order.
    ///
    /// # Spark
    ///
    /// `OrderedRDDFunctions.sortByKey(ascending = false)`, OR01.
    #[track_caller]
    pub fn sort_by_key_descending(&self) -> Rdd<(K, V)> {
        self.sort_down(self.num_partitions(), CallSite::here("sort_by_key_descending"))
    }

    /// As [`sort_by_key_descending`](Self::sort_by_key_descending), over at most `partitions` partitions.
    #[track_caller]
    pub fn sort_by_key_descending_partitioned(&self, partitions: usize) -> Rdd<(K, V)> {
        self.sort_down(partitions, CallSite::here("sort_by_key_descending_partitioned"))
    }

    fn sort_up(&self, partitions: usize, site: CallSite) -> Rdd<(K, V)> {
        let placed = |bounds: &[K]| Some(Partitioner::range(bounds.to_vec(), true));
        self.sort_by_at(|(key, _)| key.clone(), partitions, placed, site)
    }

    fn sort_down(&self, partitions: usize, site: CallSite) -> Rdd<(K, V)> {
        let placed = |bounds: &[Reverse<K>]| {
            Some(Partitioner::range(bounds.iter().map(|bound| bound.0.clone()).collect(), false))
        };
        self.sort_by_at(|(key, _)| Reverse(key.clone()), partitions, placed, site)
    }

    /// Keeps the pairs whose keys are from `low` to `high`, both included.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let sorted = context.parallelize((0..100u64).map(|i| (i, i * i)).collect(), 4).sort_by_key();
    /// let some = sorted.filter_by_range(7, 9);
    /// assert_eq!(some.collect()?, [(7, 49), (8, 64), (9, 81)]);
    /// assert_eq!(some.num_partitions(), 1);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Cost
    ///
    /// Where the keys are placed by range, as after [`sort_by_key`](Self::sort_by_key), only the partitions that may
    /// have such keys are left, and read; else it is a filter.
    ///
    /// # Spark
    ///
    /// `OrderedRDDFunctions.filterByRange`, OR03.
    #[track_caller]
    pub fn filter_by_range(&self, low: K, high: K) -> Rdd<(K, V)> {
        let site = CallSite::here("filter_by_range");
        let span = on_driver(site, || self.partitioner().and_then(|partitioner| partitioner.span(&low, &high)));
        let among = match span {
            Ok(Some(span)) => self.pruned(*span.start(), (*span.end() + 1).saturating_sub(*span.start()), site),
            Ok(None) => self.clone(),
            Err(error) => return Rdd::failed(error, self.context()),
        };
        let within = |(low, high): &(K, K), (key, _): &(K, V)| low <= key && key <= high;
        among.filter_shared(Closure::new(capture_ref((low, high), within), site))
    }
}

impl<K: Key + Ord, V: ExchangeData> Rdd<(K, V)> {
    /// Moves each pair to the partition that `partitioner` says, and sorts each partition by key.
    ///
    /// Pairs of equal keys keep the order of the partitions that they come from.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_core::Partitioner;
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let pairs = context.parallelize(vec![(5u64, 'e'), (4, 'd'), (1, 'a'), (2, 'b')], 2);
    /// let by_parity = Partitioner::custom(2, |key: &u64| (*key % 2) as usize);
    /// let sorted = pairs.repartition_and_sort_within_partitions(by_parity);
    /// assert_eq!(sorted.glom().collect()?, [[(2, 'b'), (4, 'd')], [(1, 'a'), (5, 'e')]]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Cost
    ///
    /// One shuffle; none where the keys are placed already. A partition is sorted in memory.
    ///
    /// # Spark
    ///
    /// `OrderedRDDFunctions.repartitionAndSortWithinPartitions`, OR02.
    #[track_caller]
    pub fn repartition_and_sort_within_partitions(&self, partitioner: impl Into<Partitioner>) -> Rdd<(K, V)> {
        let site = CallSite::here("repartition_and_sort_within_partitions");
        let placed = CallSite::scope(Some(site), || self.partition_by(partitioner));
        let sort = |items: PartitionIter<(K, V)>| {
            let mut all: Vec<(K, V)> = items.collect();
            all.sort_by(|a, b| a.0.cmp(&b.0));
            all
        };
        placed.map_partitions_shared(Closure::new(sort, site), placed.partitioner().cloned())
    }
}

impl<T: Data> Rdd<T> {
    /// Leaves out all partitions but `count` from `first` on.
    fn pruned(&self, first: usize, count: usize, site: CallSite) -> Rdd<T> {
        Rdd::from_node(
            Node::new::<T>(NodeParts {
                site,
                parents: vec![Dependency::Narrow(Arc::clone(self.node()))],
                partitions: count,
                partitioner: None,
                compute: Pruned { first },
            }),
            self.context(),
        )
    }
}

/// Some partitions of the parent, as they are.
struct Pruned {
    first: usize,
}

impl Compute for Pruned {
    fn open<'a>(&'a self, p: usize, parents: &'a [Dependency], _: &TaskContext) -> Result<Opened<'a>> {
        Ok(Opened::Forward { node: narrow(parents, 0)?, partition: self.first + p })
    }

    fn reads(&self, p: usize, _: &[Dependency]) -> Vec<(usize, usize)> {
        vec![(0, self.first + p)]
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|r| {
            let compute: Box<dyn Compute> = Box::new(Pruned { first: r.value()? });
            Ok(Box::new(compute))
        });
        w.value(&self.first)
    }
}
