//! `impl Rdd<(K, V)>`: operations by key.

use std::collections::HashMap;
use std::marker::PhantomData;

use super::Rdd;
use super::narrow::{FlatMapValues, MapValues};
use super::shuffled::{Combine, Group, Reduce};
use crate::data::{Data, ExchangeData, Key};
use crate::error::{CallSite, Result};
use crate::partitioner::Partitioner;
use crate::plan::ship::Closure;

impl<K: Data, V: Data> Rdd<(K, V)> {
    /// Applies `f` to each value and leaves the keys, and where they are.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let pairs = context.parallelize(vec![(1u8, 1)], 1);
    /// assert_eq!(pairs.map_values(|v: i32| v + 1).collect()?, [(1u8, 2)]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Spark
    ///
    /// `PairRDDFunctions.mapValues`, PR15.
    #[track_caller]
    pub fn map_values<W: Data>(&self, f: impl Fn(V) -> W + Send + Sync + 'static) -> Rdd<(K, W)> {
        self.map_values_shared(Closure::new(f, CallSite::here("map_values")))
    }

    /// As [`map_values`](Self::map_values), with a closure that is shared by several Rdds.
    #[doc(hidden)]
    pub fn map_values_shared<W: Data, F: Fn(V) -> W + Send + Sync + 'static>(&self, f: Closure<F>) -> Rdd<(K, W)> {
        let site = f.site();
        self.narrow(MapValues { f, of: PhantomData }, site, self.partitioner().cloned())
    }

    /// Applies `f` to each value and gives the key with each element of what it returns.
    ///
    /// # Spark
    ///
    /// `PairRDDFunctions.flatMapValues`, PR16.
    #[track_caller]
    pub fn flat_map_values<I>(&self, f: impl Fn(V) -> I + Send + Sync + 'static) -> Rdd<(K, I::Item)>
    where
        I: IntoIterator + 'static,
        I::Item: Data,
    {
        self.flat_map_values_shared(Closure::new(f, CallSite::here("flat_map_values")))
    }

    /// As [`flat_map_values`](Self::flat_map_values), with a closure that is shared by several Rdds.
    #[doc(hidden)]
    pub fn flat_map_values_shared<I, F: Fn(V) -> I + Send + Sync + 'static>(&self, f: Closure<F>) -> Rdd<(K, I::Item)>
    where
        I: IntoIterator + 'static,
        I::Item: Data,
    {
        let site = f.site();
        self.narrow(FlatMapValues { f, of: PhantomData }, site, self.partitioner().cloned())
    }

    /// Gives the keys.
    ///
    /// # Spark
    ///
    /// `PairRDDFunctions.keys`, PR17.
    #[track_caller]
    pub fn keys(&self) -> Rdd<K> {
        self.map_shared(Closure::new(|(key, _): (K, V)| key, CallSite::here("keys")))
    }

    /// Gives the values.
    ///
    /// # Spark
    ///
    /// `PairRDDFunctions.values`, PR18.
    #[track_caller]
    pub fn values(&self) -> Rdd<V> {
        self.map_shared(Closure::new(|(_, value): (K, V)| value, CallSite::here("values")))
    }
}

impl<K: Key, V: ExchangeData> Rdd<(K, V)> {
    /// Returns the partitioner for an operation on these Rdds that is given none: the largest there is, if it is
    /// large enough, else a hash over the default number of partitions.
    pub(crate) fn default_partitioner(&self, others: &[Option<(&Partitioner, usize)>], most: usize) -> Partitioner {
        let own = self.partitioner().map(|p| (p, self.num_partitions()));
        let most = most.max(self.num_partitions());
        let wanted = self.context().conf().default_parallelism.unwrap_or(most).max(1);
        let best = std::iter::once(&own).chain(others).flatten().max_by_key(|(_, n)| *n);
        match best {
            Some((partitioner, n)) if n * 10 > most || *n >= wanted => (*partitioner).clone(),
            _ => Partitioner::hash(wanted),
        }
    }

    /// Reduces the values of each key to one with `f`, which must not care for order.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let pairs = context.parallelize(vec![(1u8, 2u64), (1, 3), (2, 4)], 2);
    /// let mut sums = pairs.reduce_by_key(|a, b| a + b).collect()?;
    /// sums.sort();
    /// assert_eq!(sums, [(1, 5), (2, 4)]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Cost
    ///
    /// One shuffle of one pair a key and partition: values are combined before they are moved. None at all where the
    /// keys are placed already.
    ///
    /// # Spark
    ///
    /// `PairRDDFunctions.reduceByKey`, PR04.
    #[track_caller]
    pub fn reduce_by_key(&self, f: impl Fn(V, V) -> V + Send + Sync + 'static) -> Rdd<(K, V)> {
        let partitioner = self.default_partitioner(&[], 0);
        self.reduce_by_key_shared(Closure::new(f, CallSite::here("reduce_by_key")), partitioner)
    }

    /// As [`reduce_by_key`](Self::reduce_by_key), with the keys placed by `partitioner`, which may be a number.
    #[track_caller]
    pub fn reduce_by_key_partitioned(
        &self,
        f: impl Fn(V, V) -> V + Send + Sync + 'static,
        partitioner: impl Into<Partitioner>,
    ) -> Rdd<(K, V)> {
        self.reduce_by_key_shared(Closure::new(f, CallSite::here("reduce_by_key_partitioned")), partitioner.into())
    }

    /// As [`reduce_by_key`](Self::reduce_by_key), with a closure that is shared by several Rdds.
    #[doc(hidden)]
    pub fn reduce_by_key_shared<F: Fn(V, V) -> V + Send + Sync + 'static>(
        &self,
        f: Closure<F>,
        partitioner: Partitioner,
    ) -> Rdd<(K, V)> {
        let site = f.site();
        self.combine_at(Reduce { f, of: PhantomData }, partitioner, true, site)
    }

    /// Combines the values of each key to something else: `create` from the first value, `add` each further value,
    /// and `merge` what came from different partitions.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let pairs = context.parallelize(vec![(1u8, 2u64), (1, 4)], 2);
    /// let means = pairs
    ///     .combine_by_key(|v| (v, 1u64), |(sum, n), v| (sum + v, n + 1), |a, b| (a.0 + b.0, a.1 + b.1))
    ///     .map_values(|(sum, n)| sum / n);
    /// assert_eq!(means.collect()?, [(1, 3)]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Spark
    ///
    /// `PairRDDFunctions.combineByKey`, PR01.
    #[track_caller]
    pub fn combine_by_key<C: ExchangeData>(
        &self,
        create: impl Fn(V) -> C + Send + Sync + 'static,
        add: impl Fn(C, V) -> C + Send + Sync + 'static,
        merge: impl Fn(C, C) -> C + Send + Sync + 'static,
    ) -> Rdd<(K, C)> {
        let partitioner = self.default_partitioner(&[], 0);
        let site = CallSite::here("combine_by_key");
        let (create, add, merge) = (Closure::new(create, site), Closure::new(add, site), Closure::new(merge, site));
        self.combine_by_key_shared(create, add, merge, partitioner, true)
    }

    /// As [`combine_by_key`](Self::combine_by_key), with the keys placed by `partitioner`, which may be a number.
    #[track_caller]
    pub fn combine_by_key_partitioned<C: ExchangeData>(
        &self,
        create: impl Fn(V) -> C + Send + Sync + 'static,
        add: impl Fn(C, V) -> C + Send + Sync + 'static,
        merge: impl Fn(C, C) -> C + Send + Sync + 'static,
        partitioner: impl Into<Partitioner>,
    ) -> Rdd<(K, C)> {
        let site = CallSite::here("combine_by_key_partitioned");
        let (create, add, merge) = (Closure::new(create, site), Closure::new(add, site), Closure::new(merge, site));
        self.combine_by_key_shared(create, add, merge, partitioner.into(), true)
    }

    /// As [`combine_by_key`](Self::combine_by_key), with closures that are shared by several Rdds; `map_side` says
    /// whether values are combined before they are moved.
    #[doc(hidden)]
    pub fn combine_by_key_shared<C: ExchangeData, F1, F2, F3>(
        &self,
        create: Closure<F1>,
        add: Closure<F2>,
        merge: Closure<F3>,
        partitioner: Partitioner,
        map_side: bool,
    ) -> Rdd<(K, C)>
    where
        F1: Fn(V) -> C + Send + Sync + 'static,
        F2: Fn(C, V) -> C + Send + Sync + 'static,
        F3: Fn(C, C) -> C + Send + Sync + 'static,
    {
        let site = create.site();
        self.combine_at(Combine { create, add, merge, of: PhantomData }, partitioner, map_side, site)
    }

    /// Collects the values of each key, in the order of the partitions and, within them, of the elements.
    ///
    /// # Cost
    ///
    /// Every pair crosses the shuffle. To sum or count, [`reduce_by_key`](Self::reduce_by_key) moves far less.
    ///
    /// # Spark
    ///
    /// `PairRDDFunctions.groupByKey`, PR06; there the order is not defined.
    #[track_caller]
    pub fn group_by_key(&self) -> Rdd<(K, Vec<V>)> {
        let partitioner = self.default_partitioner(&[], 0);
        self.combine_at(Group(PhantomData), partitioner, false, CallSite::here("group_by_key"))
    }

    /// As [`group_by_key`](Self::group_by_key), with the keys placed by `partitioner`, which may be a number.
    #[track_caller]
    pub fn group_by_key_partitioned(&self, partitioner: impl Into<Partitioner>) -> Rdd<(K, Vec<V>)> {
        let site = CallSite::here("group_by_key_partitioned");
        self.combine_at(Group(PhantomData), partitioner.into(), false, site)
    }

    /// Returns how often each key occurs.
    ///
    /// # Errors
    ///
    /// Whatever the job fails with.
    ///
    /// # Spark
    ///
    /// `PairRDDFunctions.countByKey`, PR21.
    #[track_caller]
    pub fn count_by_key(&self) -> Result<HashMap<K, u64>> {
        let site = CallSite::here("count_by_key");
        let ones = self.map_values_shared(Closure::new(|_: V| 1u64, site));
        let partitioner = ones.default_partitioner(&[], 0);
        let sum = Closure::new(|a: u64, b: u64| a + b, site);
        ones.reduce_by_key_shared(sum, partitioner).collect_map(site)
    }

    /// Returns all pairs as a map. Of a key that occurs more than once the last value wins.
    ///
    /// # Errors
    ///
    /// Whatever the job fails with.
    ///
    /// # Spark
    ///
    /// `PairRDDFunctions.collectAsMap`, PR20.
    #[track_caller]
    pub fn collect_as_map(&self) -> Result<HashMap<K, V>> {
        self.collect_map(CallSite::here("collect_as_map"))
    }

    /// Brings all pairs to the driver as a map, which hashes and compares keys there.
    pub(crate) fn collect_map(&self, site: CallSite) -> Result<HashMap<K, V>> {
        let pairs = self.collect_at(site)?;
        crate::backend::on_driver(site, || pairs.into_iter().collect())
    }

    /// Returns the values of one key, in order.
    ///
    /// # Cost
    ///
    /// One partition is read if the keys are placed; otherwise all are.
    ///
    /// # Errors
    ///
    /// Whatever the job fails with.
    ///
    /// # Spark
    ///
    /// `PairRDDFunctions.lookup`, PR19.
    #[track_caller]
    pub fn lookup(&self, key: &K) -> Result<Vec<V>> {
        let site = CallSite::here("lookup");
        let partitions = match self.partitioner() {
            Some(partitioner) => {
                let placement = partitioner.placement::<K>().map_err(|e| e.at(site))?;
                let place = || placement.place(key, crate::partitioner::key_hash(key));
                vec![crate::backend::on_driver(site, place)?.map_err(|e| e.at(site))?]
            }
            None => (0..self.num_partitions()).collect(),
        };
        let wanted = crate::plan::ship::capture_ref(key.clone(), |wanted, pair: &(K, V)| pair.0 == *wanted);
        let found = self.filter_shared(Closure::new(wanted, site)).collect_partitions(partitions, site)?;
        Ok(found.into_iter().map(|(_, value)| value).collect())
    }
}

impl<T: Key> Rdd<T> {
    /// Keeps each element once.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let mut once = context.parallelize(vec![1, 2, 1, 1], 2).distinct().collect()?;
    /// once.sort();
    /// assert_eq!(once, [1, 2]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Spark
    ///
    /// `RDD.distinct`, RD09.
    #[track_caller]
    pub fn distinct(&self) -> Rdd<T> {
        self.distinct_at(self.num_partitions().into(), CallSite::here("distinct"))
    }

    /// As [`distinct`](Self::distinct), with the elements placed by `partitioner`, which may be a number.
    #[track_caller]
    pub fn distinct_partitioned(&self, partitioner: impl Into<Partitioner>) -> Rdd<T> {
        self.distinct_at(partitioner.into(), CallSite::here("distinct_partitioned"))
    }

    fn distinct_at(&self, partitioner: Partitioner, site: CallSite) -> Rdd<T> {
        self.map_shared(Closure::new(|item: T| (item, ()), site))
            .reduce_by_key_shared(Closure::new(|(), ()| (), site), partitioner)
            .map_shared(Closure::new(|(item, ()): (T, ())| item, site))
    }

    /// Returns how often each element occurs.
    ///
    /// # Errors
    ///
    /// Whatever the job fails with.
    ///
    /// # Spark
    ///
    /// `RDD.countByValue`, RD42.
    #[track_caller]
    pub fn count_by_value(&self) -> Result<HashMap<T, u64>> {
        let site = CallSite::here("count_by_value");
        let ones = self.map_shared(Closure::new(|item: T| (item, 1u64), site));
        let partitioner = ones.default_partitioner(&[], 0);
        let sum = Closure::new(|a: u64, b: u64| a + b, site);
        ones.reduce_by_key_shared(sum, partitioner).collect_map(site)
    }
}
