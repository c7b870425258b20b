//! Values of a key brought together from a zero: aggregate_by_key, fold_by_key; and elements grouped by a function.

use std::collections::HashMap;
use std::marker::PhantomData;

use super::Rdd;
use super::shuffled::Aggregator;
use crate::data::{ExchangeData, Key};
use crate::error::{CallSite, Result};
use crate::partitioner::Partitioner;
use crate::plan::ship::{Closure, PlanReader, PlanWriter};

impl<K: Key, V: ExchangeData> Rdd<(K, V)> {
    /// Folds the values of each key into a `C` from `zero` with `add`, and merges what came from different partitions
    /// with `merge`.
    ///
    /// Each key begins with a copy of `zero` in each partition that has it, so `zero` must change nothing when it is
    /// merged.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let pairs = context.parallelize(vec![(1u8, 2u64), (1, 5), (1, 4)], 2);
    /// let most = pairs.aggregate_by_key(0, |most: u64, v| most.max(v), |a, b| a.max(b));
    /// assert_eq!(most.collect()?, [(1, 5)]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Cost
    ///
    /// As [`reduce_by_key`](Self::reduce_by_key).
    ///
    /// # Spark
    ///
    /// `PairRDDFunctions.aggregateByKey`, PR02.
    #[track_caller]
    pub fn aggregate_by_key<C: ExchangeData>(
        &self,
        zero: C,
        add: impl Fn(C, V) -> C + Send + Sync + 'static,
        merge: impl Fn(C, C) -> C + Send + Sync + 'static,
    ) -> Rdd<(K, C)> {
        let site = CallSite::here("aggregate_by_key");
        self.aggregate_at(zero, Closure::new(add, site), Closure::new(merge, site), self.default_partitioner(&[], 0))
    }

    /// As [`aggregate_by_key`](Self::aggregate_by_key), with the keys placed by `partitioner`, which may be a number.
    #[track_caller]
    pub fn aggregate_by_key_partitioned<C: ExchangeData>(
        &self,
        zero: C,
        add: impl Fn(C, V) -> C + Send + Sync + 'static,
        merge: impl Fn(C, C) -> C + Send + Sync + 'static,
        partitioner: impl Into<Partitioner>,
    ) -> Rdd<(K, C)> {
        let site = CallSite::here("aggregate_by_key_partitioned");
        self.aggregate_at(zero, Closure::new(add, site), Closure::new(merge, site), partitioner.into())
    }

    fn aggregate_at<C: ExchangeData, F, G>(
        &self,
        zero: C,
        add: Closure<F>,
        merge: Closure<G>,
        partitioner: Partitioner,
    ) -> Rdd<(K, C)>
    where
        F: Fn(C, V) -> C + Send + Sync + 'static,
        G: Fn(C, C) -> C + Send + Sync + 'static,
    {
        let site = add.site();
        self.combine_at(FromZero { zero, add, merge, of: PhantomData }, partitioner, true, site)
    }

    /// Folds the values of each key from `zero` with `f`.
    ///
    /// Each key begins with a copy of `zero` in each partition that has it, so `zero` must change nothing.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let pairs = context.parallelize(vec![(1u8, 2u64), (1, 5)], 2);
    /// assert_eq!(pairs.fold_by_key(0, |a, b| a + b).collect()?, [(1, 7)]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Cost
    ///
    /// As [`reduce_by_key`](Self::reduce_by_key).
    ///
    /// # Spark
    ///
    /// `PairRDDFunctions.foldByKey`, PR03.
    #[track_caller]
    pub fn fold_by_key(&self, zero: V, f: impl Fn(V, V) -> V + Send + Sync + 'static) -> Rdd<(K, V)> {
        let f = Closure::new(f, CallSite::here("fold_by_key"));
        self.aggregate_at(zero, f.clone(), f, self.default_partitioner(&[], 0))
    }

    /// As [`fold_by_key`](Self::fold_by_key), with the keys placed by `partitioner`, which may be a number.
    #[track_caller]
    pub fn fold_by_key_partitioned(
        &self,
        zero: V,
        f: impl Fn(V, V) -> V + Send + Sync + 'static,
        partitioner: impl Into<Partitioner>,
    ) -> Rdd<(K, V)> {
        let f = Closure::new(f, CallSite::here("fold_by_key_partitioned"));
        self.aggregate_at(zero, f.clone(), f, partitioner.into())
    }

    /// Reduces the values of each key to one with `f`, and returns all as a map.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let pairs = context.parallelize(vec![('a', 2u64), ('a', 5), ('b', 1)], 2);
    /// assert_eq!(pairs.reduce_by_key_locally(|a, b| a + b)?, [('a', 7), ('b', 1)].into());
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Whatever the job fails with.
    ///
    /// # Cost
    ///
    /// As [`reduce_by_key`](Self::reduce_by_key); the map is brought to the driver's memory.
    ///
    /// # Spark
    ///
    /// `PairRDDFunctions.reduceByKeyLocally`, PR05.
    #[track_caller]
    pub fn reduce_by_key_locally(&self, f: impl Fn(V, V) -> V + Send + Sync + 'static) -> Result<HashMap<K, V>> {
        let site = CallSite::here("reduce_by_key_locally");
        self.reduce_by_key_shared(Closure::new(f, site), self.default_partitioner(&[], 0)).collect_map(site)
    }
}

impl<T: ExchangeData> Rdd<T> {
    /// Collects the elements that `f` gives one key, in the order of the partitions and, within them, of the elements.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let numbers = context.parallelize(vec![1u64, 2, 3, 4], 2);
    /// assert_eq!(numbers.group_by(|x| x % 2).lookup(&1)?, [[1, 3]]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Cost
    ///
    /// As [`group_by_key`](Rdd::group_by_key).
    ///
    /// # Spark
    ///
    /// `RDD.groupBy`, RD19.
    #[track_caller]
    pub fn group_by<K: Key>(&self, f: impl Fn(&T) -> K + Send + Sync + 'static) -> Rdd<(K, Vec<T>)> {
        CallSite::scope(Some(CallSite::here("group_by")), || self.key_by(f).group_by_key())
    }

    /// As [`group_by`](Self::group_by), with the keys placed by `partitioner`, which may be a number.
    #[track_caller]
    pub fn group_by_partitioned<K: Key>(
        &self,
        f: impl Fn(&T) -> K + Send + Sync + 'static,
        partitioner: impl Into<Partitioner>,
    ) -> Rdd<(K, Vec<T>)> {
        let site = CallSite::here("group_by_partitioned");
        CallSite::scope(Some(site), || self.key_by(f).group_by_key_partitioned(partitioner))
    }
}

/// Combines values from a zero.
struct FromZero<V, C, F, G> {
    zero: C,
    add: Closure<F>,
    merge: Closure<G>,
    of: PhantomData<fn(V)>,
}

impl<V, C: Clone, F, G> Clone for FromZero<V, C, F, G> {
    fn clone(&self) -> Self {
        FromZero { zero: self.zero.clone(), add: self.add.clone(), merge: self.merge.clone(), of: PhantomData }
    }
}

impl<V, C, F, G> Aggregator for FromZero<V, C, F, G>
where
    V: ExchangeData,
    C: ExchangeData,
    F: Fn(C, V) -> C + Send + Sync + 'static,
    G: Fn(C, C) -> C + Send + Sync + 'static,
{
    type Value = V;
    type Combined = C;
    const IN_PLACE: bool = false;

    fn create(&self, value: V) -> C {
        (self.add)(self.zero.clone(), value)
    }

    fn add(&self, combined: C, value: V) -> C {
        (self.add)(combined, value)
    }

    fn merge(&self, a: C, b: C) -> C {
        (self.merge)(a, b)
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.value(&self.zero)?;
        w.closure(&self.add)?;
        w.closure(&self.merge)
    }

    fn unship(r: &mut PlanReader<'_>) -> Result<Self> {
        Ok(FromZero { zero: r.value()?, add: r.closure()?, merge: r.closure()?, of: PhantomData })
    }
}
