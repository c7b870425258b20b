//! What two Rdds have in common, and what only one of them has: subtract, subtract_by_key, intersection.

use hashbrown::HashTable;

use super::Rdd;
use super::pipeline::PartitionIter;
use crate::data::{ExchangeData, Key};
use crate::error::CallSite;
use crate::partitioner::{Partitioner, key_hash};
use crate::plan::ship::Closure;

impl<K: Key, V: ExchangeData> Rdd<(K, V)> {
    /// Keeps the pairs whose keys `other` has not.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let a = context.parallelize(vec![(1u8, 'a'), (2, 'b'), (2, 'c')], 2);
    /// let b = context.parallelize(vec![(1u8, 0.5)], 1);
    /// assert_eq!(a.subtract_by_key(&b).values().collect()?.len(), 2);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Cost
    ///
    /// One shuffle for each side whose keys are not placed already; of the other side one key each. A task keeps the
    /// other side's keys of one partition in memory.
    ///
    /// # Spark
    ///
    /// `PairRDDFunctions.subtractByKey`, PR14.
    #[track_caller]
    pub fn subtract_by_key<W: ExchangeData>(&self, other: &Rdd<(K, W)>) -> Rdd<(K, V)> {
        self.subtract_at(other, self.own_partitioner(), CallSite::here("subtract_by_key"))
    }

    /// As [`subtract_by_key`](Self::subtract_by_key), with the keys placed by `partitioner`, which may be a number.
    #[track_caller]
    pub fn subtract_by_key_partitioned<W: ExchangeData>(
        &self,
        other: &Rdd<(K, W)>,
        partitioner: impl Into<Partitioner>,
    ) -> Rdd<(K, V)> {
        self.subtract_at(other, partitioner.into(), CallSite::here("subtract_by_key_partitioned"))
    }

    fn subtract_at<W: ExchangeData>(&self, other: &Rdd<(K, W)>, by: Partitioner, site: CallSite) -> Rdd<(K, V)> {
        let keys = other.map_values_shared(Closure::new(|_: W| (), site));
        self.with_keys_of(&keys, by, site, |keys, key| !keys.has(key))
    }

    /// Places both sides by `by`, the other with each key once, and keeps the pairs here for which `keep` holds.
    fn with_keys_of(
        &self,
        keys: &Rdd<(K, ())>,
        by: Partitioner,
        site: CallSite,
        keep: impl Fn(&Keys<K>, &K) -> bool + Copy + Send + Sync + 'static,
    ) -> Rdd<(K, V)> {
        let here = CallSite::scope(Some(site), || self.partition_by(&by));
        let there = keys.reduce_by_key_shared(Closure::new(|(), ()| (), site), by.clone());
        let kept = move |pairs: PartitionIter<(K, V)>, keys: PartitionIter<(K, ())>| {
            let keys = Keys::of(keys);
            pairs.filter(move |(key, _)| keep(&keys, key))
        };
        here.zip_partitions_shared(&there, Closure::new(kept, site), Some(by))
    }

    /// The partitioner that placed the keys, or a hash over as many partitions.
    fn own_partitioner(&self) -> Partitioner {
        self.partitioner().cloned().unwrap_or_else(|| self.num_partitions().into())
    }
}

impl<T: Key> Rdd<T> {
    /// Keeps the elements that `other` has not. Those that occur more than once here stay so.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let a = context.parallelize(vec![1, 1, 2, 3], 2);
    /// let mut rest = a.subtract(&context.parallelize(vec![2, 4], 1)).collect()?;
    /// rest.sort();
    /// assert_eq!(rest, [1, 1, 3]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Cost
    ///
    /// As [`subtract_by_key`](Rdd::subtract_by_key), with both sides moved.
    ///
    /// # Spark
    ///
    /// `RDD.subtract`, RD16.
    #[track_caller]
    pub fn subtract(&self, other: &Rdd<T>) -> Rdd<T> {
        self.subtract_from(other, self.num_partitions().into(), CallSite::here("subtract"))
    }

    /// As [`subtract`](Self::subtract), with the elements placed by `partitioner`, which may be a number.
    #[track_caller]
    pub fn subtract_partitioned(&self, other: &Rdd<T>, partitioner: impl Into<Partitioner>) -> Rdd<T> {
        self.subtract_from(other, partitioner.into(), CallSite::here("subtract_partitioned"))
    }

    fn subtract_from(&self, other: &Rdd<T>, by: Partitioner, site: CallSite) -> Rdd<T> {
        let kept = self.as_keys(site).subtract_at(&other.as_keys(site), by, site);
        kept.map_shared(Closure::new(|(item, ()): (T, ())| item, site))
    }

    /// Keeps each element that both have, once.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let a = context.parallelize(vec![1, 1, 2, 3], 2);
    /// let mut both = a.intersection(&context.parallelize(vec![3, 1, 4], 1)).collect()?;
    /// both.sort();
    /// assert_eq!(both, [1, 3]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Cost
    ///
    /// One shuffle a side, of each element once.
    ///
    /// # Spark
    ///
    /// `RDD.intersection`, RD15.
    #[track_caller]
    pub fn intersection(&self, other: &Rdd<T>) -> Rdd<T> {
        let by = self.as_keys(CallSite::here("intersection")).default_partitioner(&[], other.num_partitions());
        self.intersection_at(other, by, CallSite::here("intersection"))
    }

    /// As [`intersection`](Self::intersection), with the elements placed by `partitioner`, which may be a number.
    #[track_caller]
    pub fn intersection_partitioned(&self, other: &Rdd<T>, partitioner: impl Into<Partitioner>) -> Rdd<T> {
        self.intersection_at(other, partitioner.into(), CallSite::here("intersection_partitioned"))
    }

    fn intersection_at(&self, other: &Rdd<T>, by: Partitioner, site: CallSite) -> Rdd<T> {
        let once = self.as_keys(site).reduce_by_key_shared(Closure::new(|(), ()| (), site), by.clone());
        let both = once.with_keys_of(&other.as_keys(site), by, site, Keys::has);
        both.map_shared(Closure::new(|(item, ()): (T, ())| item, site))
    }

    fn as_keys(&self, site: CallSite) -> Rdd<(T, ())> {
        self.map_shared(Closure::new(|item: T| (item, ()), site))
    }
}

/// The keys of one partition.
struct Keys<K>(HashTable<K>);

impl<K: Key> Keys<K> {
    fn of(pairs: impl Iterator<Item = (K, ())>) -> Keys<K> {
        let mut keys = HashTable::new();
        for (mut key, ()) in pairs {
            super::shuffled::detach_key(&mut key);
            // Each occurs once.
            keys.insert_unique(key_hash(&key), key, key_hash);
        }
        Keys(keys)
    }

    fn has(&self, key: &K) -> bool {
        self.0.find(key_hash(key), |other| other == key).is_some()
    }
}
