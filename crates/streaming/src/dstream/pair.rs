//! `impl DStream<(K, V)>`: operations by key, without state and windows.
//!
//! Where no partitioner is given, keys are placed by hash over the default parallelism, as Spark's streams do.

use millstream_core::plan::ship::Closure;
use millstream_core::{CallSite, Context, Data, ExchangeData, Key, Partitioner, Rdd};

use super::DStream;

/// Where an operation places keys: what it was given, or a hash over the default parallelism.
#[derive(Clone)]
pub(crate) struct Placing(Option<Partitioner>);

impl Placing {
    pub(crate) fn default() -> Placing {
        Placing(None)
    }

    pub(crate) fn by(partitioner: impl Into<Partitioner>) -> Placing {
        Placing(Some(partitioner.into()))
    }

    pub(crate) fn on(&self, context: &Context) -> Partitioner {
        self.0.clone().unwrap_or_else(|| Partitioner::hash(context.default_parallelism()))
    }
}

impl<K: Data, V: Data> DStream<(K, V)> {
    /// Applies `f` to each value and leaves the keys, and where they are.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_testkit::doc::*;
    /// let table = show([vec![("a", 1), ("b", 2)]], |pairs| pairs.map_values(|v| v * 10));
    /// assert_eq!(table, "1s (a,10) (b,20)");
    /// ```
    ///
    /// # Spark
    ///
    /// `PairDStreamFunctions.mapValues`, PD13.
    #[track_caller]
    pub fn map_values<W: Data>(&self, f: impl Fn(V) -> W + Send + Sync + 'static) -> DStream<(K, W)> {
        let site = CallSite::here("map_values");
        let f = Closure::new(f, site);
        self.lift(site, move |rdd, _| rdd.map_values_shared(f.clone()))
    }

    /// Applies `f` to each value and gives the key with each element of what it returns.
    ///
    /// # Spark
    ///
    /// `PairDStreamFunctions.flatMapValues`, PD14.
    #[track_caller]
    pub fn flat_map_values<I>(&self, f: impl Fn(V) -> I + Send + Sync + 'static) -> DStream<(K, I::Item)>
    where
        I: IntoIterator + 'static,
        I::Item: Data,
    {
        let site = CallSite::here("flat_map_values");
        let f = Closure::new(f, site);
        self.lift(site, move |rdd, _| rdd.flat_map_values_shared(f.clone()))
    }
}

impl<K: Key, V: ExchangeData> DStream<(K, V)> {
    fn lift_placed<U: Data>(
        &self,
        site: CallSite,
        placing: Placing,
        f: impl Fn(Rdd<(K, V)>, Partitioner) -> Rdd<U> + Send + 'static,
    ) -> DStream<U> {
        self.lift(site, move |rdd, _| {
            let partitioner = placing.on(rdd.context());
            f(rdd, partitioner)
        })
    }

    pub(crate) fn reduce_placed(
        &self,
        f: Closure<impl Fn(V, V) -> V + Send + Sync + 'static>,
        placing: Placing,
        site: CallSite,
    ) -> DStream<(K, V)> {
        self.lift_placed(site, placing, move |rdd, p| rdd.reduce_by_key_shared(f.clone(), p))
    }

    /// Reduces the values of each key in each batch to one with `f`, which must not care for order.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_testkit::doc::*;
    /// let table = show([vec![("a", 1), ("b", 2), ("a", 3)]], |pairs| pairs.reduce_by_key(|a, b| a + b));
    /// assert_eq!(table, "1s (a,4) (b,2)");
    /// ```
    ///
    /// # Cost
    ///
    /// One shuffle of one pair a key and partition: values are combined before they are moved.
    ///
    /// # Spark
    ///
    /// `PairDStreamFunctions.reduceByKey`, PD02.
    #[track_caller]
    pub fn reduce_by_key(&self, f: impl Fn(V, V) -> V + Send + Sync + 'static) -> DStream<(K, V)> {
        let f = Closure::new(f, CallSite::here("reduce_by_key"));
        self.lift_placed(f.site(), Placing::default(), move |rdd, p| rdd.reduce_by_key_shared(f.clone(), p))
    }

    /// As [`reduce_by_key`](Self::reduce_by_key), with the keys placed by `partitioner`, which may be a number.
    #[track_caller]
    pub fn reduce_by_key_partitioned(
        &self,
        f: impl Fn(V, V) -> V + Send + Sync + 'static,
        partitioner: impl Into<Partitioner>,
    ) -> DStream<(K, V)> {
        let f = Closure::new(f, CallSite::here("reduce_by_key_partitioned"));
        self.lift_placed(f.site(), Placing::by(partitioner), move |rdd, p| rdd.reduce_by_key_shared(f.clone(), p))
    }

    /// Combines the values of each key in each batch to something else: `create` from the first value, `add` each
    /// further value, and `merge` what came from different partitions.
    ///
    /// # Spark
    ///
    /// `PairDStreamFunctions.combineByKey`, PD03. The partitioner is mandatory, as there.
    #[track_caller]
    pub fn combine_by_key<C: ExchangeData>(
        &self,
        create: impl Fn(V) -> C + Send + Sync + 'static,
        add: impl Fn(C, V) -> C + Send + Sync + 'static,
        merge: impl Fn(C, C) -> C + Send + Sync + 'static,
        partitioner: impl Into<Partitioner>,
    ) -> DStream<(K, C)> {
        let site = CallSite::here("combine_by_key");
        let (create, add, merge) = (Closure::new(create, site), Closure::new(add, site), Closure::new(merge, site));
        self.lift_placed(site, Placing::by(partitioner), move |rdd, p| {
            rdd.combine_by_key_shared(create.clone(), add.clone(), merge.clone(), p, true)
        })
    }

    /// Collects the values of each key in each batch, in order.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_testkit::doc::*;
    /// let table = show([vec![("a", 1), ("b", 2), ("a", 3)]], |pairs| pairs.group_by_key());
    /// assert_eq!(table, "1s (a,[1, 3]) (b,[2])");
    /// ```
    ///
    /// # Cost
    ///
    /// Every pair crosses the shuffle.
    ///
    /// # Spark
    ///
    /// `PairDStreamFunctions.groupByKey`, PD01.
    #[track_caller]
    pub fn group_by_key(&self) -> DStream<(K, Vec<V>)> {
        let site = CallSite::here("group_by_key");
        self.lift_placed(site, Placing::default(), |rdd, p| rdd.group_by_key_partitioned(p))
    }

    /// As [`group_by_key`](Self::group_by_key), with the keys placed by `partitioner`, which may be a number.
    #[track_caller]
    pub fn group_by_key_partitioned(&self, partitioner: impl Into<Partitioner>) -> DStream<(K, Vec<V>)> {
        let site = CallSite::here("group_by_key_partitioned");
        self.lift_placed(site, Placing::by(partitioner), |rdd, p| rdd.group_by_key_partitioned(p))
    }
}
