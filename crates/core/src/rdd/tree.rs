//! All elements brought to one in levels, so that the driver merges only a few: tree_reduce and tree_aggregate.

use std::marker::PhantomData;

use super::Rdd;
use super::narrow::WholeSpec;
use super::pipeline::PartitionIter;
use super::sorted::empty_collection;
use crate::data::{Data, ExchangeData};
use crate::error::{CallSite, Result};
use crate::partitioner::Partitioner;
use crate::plan::ship::{Closure, PlanReader, PlanWriter, capture2};

impl<T: ExchangeData> Rdd<T> {
    /// As [`reduce`](Self::reduce), merging on the engine until about the `depth`-th root of the partitions is left.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// assert_eq!(context.parallelize((1..=100u64).collect(), 9).tree_reduce(|a, b| a + b, 2)?, 5050);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The kind is `User` if there is no element; else whatever the job fails with.
    ///
    /// # Cost
    ///
    /// A shuffle a level, of one element a partition. It pays when elements are large, partitions many and tasks on
    /// other machines; on the threads of one process [`reduce`](Self::reduce) does.
    ///
    /// # Spark
    ///
    /// `RDD.treeReduce`, RD54. A depth of 0 is taken as 1.
    #[track_caller]
    pub fn tree_reduce(&self, f: impl Fn(T, T) -> T + Send + Sync + 'static, depth: usize) -> Result<T> {
        let site = CallSite::here("tree_reduce");
        let f = Closure::new(f, site);
        let parts = self.whole(Reduced { f: f.clone(), of: PhantomData::<fn(T) -> T> }, site, None);
        let parts = parts.merged_in_levels(&f, depth, site).collect_at(site)?;
        crate::backend::on_driver(site, || parts.into_iter().reduce(&*f))?.ok_or_else(|| empty_collection().at(site))
    }
}

impl<T: Data> Rdd<T> {
    /// As [`aggregate`](Self::aggregate), merging on the engine until about the `depth`-th root of the partitions is
    /// left.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let words = context.parallelize(vec!["to".to_owned(), "be".to_owned(), "or".to_owned()], 3);
    /// let letters = words.tree_aggregate(0, |sum, word| sum + word.len(), |a, b| a + b, 2)?;
    /// assert_eq!(letters, 6);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Whatever the job fails with.
    ///
    /// # Cost
    ///
    /// As [`tree_reduce`](Self::tree_reduce).
    ///
    /// # Spark
    ///
    /// `RDD.treeAggregate`, RD57. `zero` is used once a partition and once more, as by `aggregate`; there it is used
    /// at each level too.
    #[track_caller]
    pub fn tree_aggregate<C: ExchangeData>(
        &self,
        zero: C,
        add: impl Fn(C, T) -> C + Send + Sync + 'static,
        merge: impl Fn(C, C) -> C + Send + Sync + 'static,
        depth: usize,
    ) -> Result<C> {
        let site = CallSite::here("tree_aggregate");
        let (add, merge) = (Closure::new(add, site), Closure::new(merge, site));
        let parts = self.whole(Folded { zero: zero.clone(), add, of: PhantomData::<fn(T)> }, site, None);
        let parts = parts.merged_in_levels(&merge, depth, site).collect_at(site)?;
        crate::backend::on_driver(site, || parts.into_iter().fold(zero, &*merge))
    }
}

impl<C: ExchangeData> Rdd<C> {
    /// Merges neighbours until few partitions are left, each with one element or none.
    fn merged_in_levels<F>(self, merge: &Closure<F>, depth: usize, site: CallSite) -> Rdd<C>
    where
        F: Fn(C, C) -> C + Send + Sync + 'static,
    {
        levels(self.num_partitions(), depth).into_iter().fold(self, |parts, to| {
            let place = |(from, to): &(usize, usize), p: usize, items: PartitionIter<C>| {
                let place = p * to / from;
                items.map(move |item| (place, item))
            };
            let place = Closure::new(capture2((parts.num_partitions(), to), place), site);
            let placed = CallSite::scope(Some(site), || {
                let by = Partitioner::custom(to, |place: &usize| *place);
                parts.map_partitions_with_index_shared(place).partition_by(by).values()
            });
            placed.whole(Reduced { f: merge.clone(), of: PhantomData::<fn(C) -> C> }, site, None)
        })
    }
}

/// How many partitions there are after each level. Pure.
fn levels(mut partitions: usize, depth: usize) -> Vec<usize> {
    let scale = ((partitions as f64).powf(1.0 / depth.max(1) as f64).ceil() as usize).max(2);
    let mut levels = Vec::new();
    // A level that would save the driver less than it costs is left out, as in Spark.
    while partitions > scale + partitions.div_ceil(scale) {
        partitions /= scale;
        levels.push(partitions);
    }
    levels
}

/// A partition brought to one element, or none if it has none.
struct Reduced<T, F> {
    f: Closure<F>,
    of: PhantomData<fn(T) -> T>,
}

impl<T: Data, F: Fn(T, T) -> T + Send + Sync + 'static> WholeSpec for Reduced<T, F> {
    type In = T;
    type Out = T;
    type Iter = std::option::IntoIter<T>;

    fn start(&self, _: usize, items: PartitionIter<T>) -> Self::Iter {
        items.reduce(&*self.f).into_iter()
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.closure(&self.f)
    }

    fn unship(r: &mut PlanReader<'_>) -> Result<Self> {
        Ok(Reduced { f: r.closure()?, of: PhantomData })
    }
}

/// A partition folded from a zero.
struct Folded<T, C, F> {
    zero: C,
    add: Closure<F>,
    of: PhantomData<fn(T)>,
}

impl<T: Data, C: ExchangeData, F: Fn(C, T) -> C + Send + Sync + 'static> WholeSpec for Folded<T, C, F> {
    type In = T;
    type Out = C;
    type Iter = std::iter::Once<C>;

    fn start(&self, _: usize, items: PartitionIter<T>) -> Self::Iter {
        std::iter::once(items.fold(self.zero.clone(), &*self.add))
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.value(&self.zero)?;
        w.closure(&self.add)
    }

    fn unship(r: &mut PlanReader<'_>) -> Result<Self> {
        Ok(Folded { zero: r.value()?, add: r.closure()?, of: PhantomData })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rd57_levels_end_where_the_driver_has_few_to_merge() {
        assert_eq!(levels(1, 2), []);
        assert_eq!(levels(4, 2), []);
        assert_eq!(levels(9, 2), [3]);
        assert_eq!(levels(100, 2), [10]);
        assert_eq!(levels(1000, 3), [100, 10]);
        assert_eq!(levels(100, 1), []);
        assert_eq!(levels(100, 0), []);
        assert_eq!(levels(1 << 20, 20), (2..20).rev().map(|n| 1 << n).collect::<Vec<usize>>());
    }
}
