//! Order: sort_by, top, take_ordered, max and min.

use std::cmp::Reverse;
use std::marker::PhantomData;
use std::sync::Arc;

use super::Rdd;
use super::actions::Action;
use super::blocks::ShuffleReader;
use super::lineage::{Compute, Dependency, Node, NodeParts, Opened, ShuffleDep, ShuffleRead, ShuffleWrite};
use super::pipeline::Pipeline;
use super::spilled::{Sorter, SpillBuckets};
use crate::backend::on_driver;
use crate::codec::TypeCodec;
use crate::data::ExchangeData;
use crate::error::{CallSite, Error, ErrorKind, Result};
use crate::partitioner::Partitioner;
use crate::plan::TaskContext;
use crate::plan::ship::{Closure, PlanReader, PlanWriter};
use crate::storage::Block;

/// How many keys are looked at, for each partition that is to be made, to find where to cut.
const SAMPLES: usize = 60;

impl<T: ExchangeData> Rdd<T> {
    /// Sorts by the key that `f` makes of each element, smallest first. Equal keys keep their order.
    ///
    /// Wrap the key in [`std::cmp::Reverse`] for the opposite order.
    ///
    /// # Example
    ///
    /// ```
    /// # use std::cmp::Reverse;
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let counts = context.parallelize(vec![('a', 1), ('b', 3), ('c', 2)], 3);
    /// let first = counts.sort_by(|(_, n)| Reverse(*n)).first()?;
    /// assert_eq!(first, ('b', 3));
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Cost
    ///
    /// One shuffle. With more than one partition a job runs when this is called, to see how keys are spread; a
    /// failure of that job is reported by the first action.
    ///
    /// # Spark
    ///
    /// `RDD.sortBy`, RD18.
    #[track_caller]
    pub fn sort_by<K: ExchangeData + Ord>(&self, f: impl Fn(&T) -> K + Send + Sync + 'static) -> Rdd<T> {
        self.sort_by_at(f, self.num_partitions(), |_| None, CallSite::here("sort_by"))
    }

    /// As [`sort_by`](Self::sort_by), over `partitions` partitions.
    #[track_caller]
    pub fn sort_by_partitioned<K: ExchangeData + Ord>(
        &self,
        f: impl Fn(&T) -> K + Send + Sync + 'static,
        partitions: usize,
    ) -> Rdd<T> {
        self.sort_by_at(f, partitions, |_| None, CallSite::here("sort_by_partitioned"))
    }

    /// Sorts over about `partitions` partitions; `partitioner` says what places keys by the bounds that were found.
    pub(super) fn sort_by_at<K: ExchangeData + Ord>(
        &self,
        f: impl Fn(&T) -> K + Send + Sync + 'static,
        partitions: usize,
        partitioner: impl FnOnce(&[K]) -> Option<Partitioner>,
        site: CallSite,
    ) -> Rdd<T> {
        let key: Closure<_> = Closure::new(f, site);
        let partitions = partitions.max(1);
        let bounds = if partitions == 1 || self.num_partitions() == 0 {
            Vec::new()
        } else {
            match self.bounds(key.clone(), partitions, site) {
                Ok(bounds) => bounds,
                Err(error) => return Rdd::failed(error, self.context()),
            }
        };
        let (partitions, partitioner) = (bounds.len() + 1, CallSite::scope(Some(site), || partitioner(&bounds)));
        let write: Arc<dyn ShuffleWrite> = Arc::new(SortWrite { key: key.clone(), bounds, of: PhantomData::<fn(T)> });
        let env = Arc::clone(self.context().env());
        let shuffle = ShuffleDep::new(Arc::clone(self.node()), partitions, write, env, site);
        Rdd::from_node(
            Node::new::<T>(NodeParts {
                site,
                partitions,
                partitioner,
                compute: SortRead { key, shuffle: shuffle.read(), of: PhantomData::<fn(T) -> K> },
                parents: vec![Dependency::Shuffle(shuffle)],
            }),
            self.context(),
        )
    }

    /// Looks at some keys of each partition and says where to cut.
    fn bounds<K: ExchangeData + Ord, F: Fn(&T) -> K + Send + Sync + 'static>(
        &self,
        key: Closure<F>,
        partitions: usize,
        site: CallSite,
    ) -> Result<Vec<K>> {
        let each = SAMPLES.saturating_mul(partitions).div_ceil(self.num_partitions()).max(SAMPLES);
        let sample = SampleKeys { key, each, of: PhantomData::<fn(T) -> K> };
        let samples: Vec<(u64, Vec<K>)> = self.run_all(Arc::new(sample), site)?;
        on_driver(site, || cut(samples, partitions))
    }

    /// Returns the `n` largest elements, largest first.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// assert_eq!(context.parallelize(vec![3, 1, 2], 2).top(2)?, [3, 2]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Cost
    ///
    /// One pass; each partition keeps `n` elements.
    ///
    /// # Errors
    ///
    /// Whatever the job fails with.
    ///
    /// # Spark
    ///
    /// `RDD.top`, RD48.
    #[track_caller]
    pub fn top(&self, n: usize) -> Result<Vec<T>>
    where
        T: Ord,
    {
        self.smallest(|item: &T| Reverse(item.clone()), n, CallSite::here("top"))
    }

    /// Returns the `n` elements whose key, as `f` makes it, is largest, largest first.
    ///
    /// # Errors
    ///
    /// Whatever the job fails with.
    #[track_caller]
    pub fn top_by<K: ExchangeData + Ord>(
        &self,
        n: usize,
        f: impl Fn(&T) -> K + Send + Sync + 'static,
    ) -> Result<Vec<T>> {
        let site = CallSite::here("top_by");
        let of = PhantomData::<fn(T) -> Reverse<K>>;
        self.merge_smallest(Smallest { key: ReversedKey(Closure::new(f, site)), n, of }, site)
    }

    /// Returns the `n` smallest elements, smallest first.
    ///
    /// # Errors
    ///
    /// Whatever the job fails with.
    ///
    /// # Spark
    ///
    /// `RDD.takeOrdered`, RD49.
    #[track_caller]
    pub fn take_ordered(&self, n: usize) -> Result<Vec<T>>
    where
        T: Ord,
    {
        self.smallest(|item: &T| item.clone(), n, CallSite::here("take_ordered"))
    }

    /// Returns the largest element.
    ///
    /// # Errors
    ///
    /// The kind is `User` if there is no element; else whatever the job fails with.
    ///
    /// # Spark
    ///
    /// `RDD.max`, RD51.
    #[track_caller]
    pub fn max(&self) -> Result<T>
    where
        T: Ord,
    {
        let site = CallSite::here("max");
        self.reduce_at(|a, b| if b > a { b } else { a }, site)
    }

    /// Returns the smallest element.
    ///
    /// # Errors
    ///
    /// The kind is `User` if there is no element; else whatever the job fails with.
    ///
    /// # Spark
    ///
    /// `RDD.min`, RD52.
    #[track_caller]
    pub fn min(&self) -> Result<T>
    where
        T: Ord,
    {
        let site = CallSite::here("min");
        self.reduce_at(|a, b| if b < a { b } else { a }, site)
    }

    fn smallest<K: ExchangeData + Ord>(
        &self,
        f: impl Fn(&T) -> K + Send + Sync + 'static,
        n: usize,
        site: CallSite,
    ) -> Result<Vec<T>> {
        self.merge_smallest(Smallest { key: PlainKey(Closure::new(f, site)), n, of: PhantomData::<fn(T) -> K> }, site)
    }

    fn merge_smallest<K: ExchangeData + Ord, M: MakeKey<T, K>>(
        &self,
        smallest: Smallest<T, K, M>,
        site: CallSite,
    ) -> Result<Vec<T>> {
        let n = smallest.n;
        if n == 0 {
            return Ok(Vec::new());
        }
        let parts: Vec<Vec<(K, T)>> = self.run_all(Arc::new(smallest), site)?;
        on_driver(site, || {
            let mut all: Vec<(K, T)> = parts.into_iter().flatten().collect();
            all.sort_by(|a, b| a.0.cmp(&b.0));
            all.truncate(n);
            all.into_iter().map(|(_, item)| item).collect()
        })
    }
}

/// Cuts weighted samples of keys into about equal parts. Pure.
fn cut<K: Ord + Clone>(samples: Vec<(u64, Vec<K>)>, partitions: usize) -> Vec<K> {
    let mut weighted: Vec<(K, f64)> = Vec::new();
    for (count, keys) in samples {
        let weight = count as f64 / keys.len().max(1) as f64;
        weighted.extend(keys.into_iter().map(|key| (key, weight)));
    }
    weighted.sort_by(|a, b| a.0.cmp(&b.0));
    let total: f64 = weighted.iter().map(|(_, weight)| weight).sum();
    let step = total / partitions as f64;
    let (mut bounds, mut seen, mut target) = (Vec::new(), 0.0, step);
    for (key, weight) in weighted {
        seen += weight;
        if seen >= target && bounds.len() + 1 < partitions && bounds.last() != Some(&key) {
            bounds.push(key);
            target += step;
        }
    }
    bounds
}

/// Counts a partition and keeps a fair sample of its keys. The same partition gives the same sample.
struct SampleKeys<T, K, F> {
    key: Closure<F>,
    each: usize,
    of: PhantomData<fn(T) -> K>,
}

impl<T: ExchangeData, K: ExchangeData, F: Fn(&T) -> K + Send + Sync + 'static> Action for SampleKeys<T, K, F> {
    fn run(&self, pipeline: &mut Pipeline, task: &TaskContext) -> Result<Box<dyn std::any::Any + Send + Sync>> {
        let (mut seen, mut keys) = (0u64, Vec::new());
        let mut random = 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(task.partition() as u64 + 1);
        pipeline.for_each_chunk(|chunk: &mut Vec<T>| {
            for item in chunk.drain(..) {
                seen += 1;
                if keys.len() < self.each {
                    keys.push((self.key)(&item));
                    continue;
                }
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let place = (random >> 33) % seen;
                if place < self.each as u64 {
                    keys[place as usize] = (self.key)(&item);
                }
            }
            Ok(())
        })?;
        Ok(Box::new((seen, keys)))
    }

    fn codec(&self) -> TypeCodec {
        TypeCodec::of::<(u64, Vec<K>)>()
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|r| {
            let action: Arc<dyn Action> =
                Arc::new(SampleKeys::<T, K, F> { each: r.value()?, key: r.closure()?, of: PhantomData });
            Ok(Box::new(action))
        });
        w.value(&self.each)?;
        w.closure(&self.key)
    }
}

struct SortWrite<T, K, F> {
    key: Closure<F>,
    bounds: Vec<K>,
    of: PhantomData<fn(T)>,
}

impl<T: ExchangeData, K: ExchangeData + Ord, F: Fn(&T) -> K + Send + Sync + 'static> ShuffleWrite
    for SortWrite<T, K, F>
{
    fn write(&self, pipeline: &mut Pipeline, task: &TaskContext) -> Result<Vec<Block>> {
        let mut buckets = SpillBuckets::new(self.bounds.len() + 1, task.env());
        pipeline.for_each_chunk(|chunk: &mut Vec<T>| {
            buckets.expect(chunk)?;
            for item in chunk.drain(..) {
                let key = (self.key)(&item);
                let place = self.bounds.partition_point(|bound| *bound < key);
                buckets.push(place, item);
            }
            Ok(())
        })?;
        buckets.finish()
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|r| {
            let write: Arc<dyn ShuffleWrite> =
                Arc::new(SortWrite::<T, K, F> { bounds: r.value()?, key: r.closure()?, of: PhantomData });
            Ok(Box::new(write))
        });
        w.value(&self.bounds)?;
        w.closure(&self.key)
    }
}

struct SortRead<T, K, F> {
    key: Closure<F>,
    shuffle: ShuffleRead,
    of: PhantomData<fn(T) -> K>,
}

impl<T: ExchangeData, K: ExchangeData + Ord, F: Fn(&T) -> K + Send + Sync + 'static> Compute for SortRead<T, K, F> {
    fn open<'a>(&'a self, p: usize, _: &'a [Dependency], task: &TaskContext) -> Result<Opened<'a>> {
        let key = self.key.clone();
        let mut sorter = Sorter::new(task.env(), move |row: &T| key(row));
        ShuffleReader::new(self.shuffle, p, task).for_each_chunk(|chunk| sorter.add_chunk(chunk))?;
        task.check()?;
        Ok(Opened::Source(Box::new(sorter.finish()?)))
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|r: &mut PlanReader<'_>| {
            let compute: Box<dyn Compute> =
                Box::new(SortRead::<T, K, F> { shuffle: r.value()?, key: r.closure()?, of: PhantomData });
            Ok(Box::new(compute))
        });
        w.value(&self.shuffle)?;
        w.closure(&self.key)
    }
}

/// Makes the key that elements are ordered by.
trait MakeKey<T, K>: Send + Sync + Sized + 'static {
    fn key(&self, item: &T) -> K;
    fn ship(&self, w: &mut PlanWriter) -> Result<()>;
    fn unship(r: &mut PlanReader<'_>) -> Result<Self>;
}

struct PlainKey<F>(Closure<F>);
struct ReversedKey<F>(Closure<F>);

impl<T, K, F: Fn(&T) -> K + Send + Sync + 'static> MakeKey<T, K> for PlainKey<F> {
    fn key(&self, item: &T) -> K {
        (self.0)(item)
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.closure(&self.0)
    }

    fn unship(r: &mut PlanReader<'_>) -> Result<Self> {
        r.closure().map(PlainKey)
    }
}

impl<T, K, F: Fn(&T) -> K + Send + Sync + 'static> MakeKey<T, Reverse<K>> for ReversedKey<F> {
    fn key(&self, item: &T) -> Reverse<K> {
        Reverse((self.0)(item))
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.closure(&self.0)
    }

    fn unship(r: &mut PlanReader<'_>) -> Result<Self> {
        r.closure().map(ReversedKey)
    }
}

/// Keeps the `n` elements of the smallest keys, in order; of equal keys the first.
struct Smallest<T, K, M> {
    key: M,
    n: usize,
    of: PhantomData<fn(T) -> K>,
}

impl<T: ExchangeData, K: ExchangeData + Ord, M: MakeKey<T, K>> Action for Smallest<T, K, M> {
    fn run(&self, pipeline: &mut Pipeline, _: &TaskContext) -> Result<Box<dyn std::any::Any + Send + Sync>> {
        let mut kept: Vec<(K, T)> = Vec::new();
        let mut limit: Option<K> = None;
        let room = self.n.saturating_mul(2).max(64);
        pipeline.for_each_chunk(|chunk: &mut Vec<T>| {
            for item in chunk.drain(..) {
                let key = self.key.key(&item);
                if limit.as_ref().is_some_and(|limit| key >= *limit) {
                    continue;
                }
                kept.push((key, item));
                if kept.len() >= room {
                    kept.sort_by(|a, b| a.0.cmp(&b.0));
                    kept.truncate(self.n);
                    limit = kept.last().map(|(key, _)| key.clone());
                }
            }
            Ok(())
        })?;
        kept.sort_by(|a, b| a.0.cmp(&b.0));
        kept.truncate(self.n);
        Ok(Box::new(kept))
    }

    fn codec(&self) -> TypeCodec {
        TypeCodec::of::<Vec<(K, T)>>()
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|r| {
            let action: Arc<dyn Action> =
                Arc::new(Smallest::<T, K, M> { n: r.value()?, key: M::unship(r)?, of: PhantomData });
            Ok(Box::new(action))
        });
        w.value(&self.n)?;
        self.key.ship(w)
    }
}

/// The error of an action that needs an element and has none.
pub(crate) fn empty_collection() -> Error {
    Error::new(ErrorKind::User, "empty collection: this action needs at least one element")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_cut_into_even_parts_by_weight() {
        let keys: Vec<u64> = (0..100).collect();
        assert_eq!(cut(vec![(100, keys.clone())], 4), [24, 49, 74]);
        assert_eq!(cut(vec![(100, keys)], 1), Vec::<u64>::new());
        assert_eq!(cut(vec![(10, vec![1]), (1000, vec![9])], 2), [9]);
        assert_eq!(cut(vec![(5, vec![7, 7, 7, 7, 7])], 4), [7], "equal keys are never cut apart");
        assert_eq!(cut(Vec::<(u64, Vec<u64>)>::new(), 3), Vec::<u64>::new());
    }
}
