//! Values of a key brought together: combine, reduce, group, and moving pairs to their partitions.
//!
//! The write side combines what it can in a table and leaves one block for each reading partition; the read side
//! merges the blocks in the order of the writing tasks, so the result does not depend on who finished first.

use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;

use hashbrown::HashTable;

use super::Rdd;
use super::blocks::ShuffleReader;
use super::lineage::{Compute, Dependency, Node, NodeParts, Opened, ShuffleDep, ShuffleRead, ShuffleWrite};
use super::pipeline::{CHUNK, PartitionReader, Pipeline};
use super::spilled::{SpillBuckets, SpillTable, TableReader};
use crate::data::{Data, ExchangeData, Key};
use crate::error::{CallSite, Result};
use crate::partitioner::{Partitioner, Placement, key_hash};
use crate::plan::TaskContext;
use crate::plan::ship::{Closure, PlanReader, PlanWriter};
use crate::spill::size::size_of_value;
use crate::storage::Block;
use crate::text::Text;

/// How values become a combined value, and combined values one.
pub(crate) trait Aggregator: Send + Sync + Sized + 'static {
    type Value: ExchangeData;
    type Combined: ExchangeData;
    /// Whether `add` and `merge` change the combined value in place; otherwise they give a new one.
    const IN_PLACE: bool;
    /// Whether a combined value takes about as much memory as all values that went into it.
    const GROWS: bool = false;

    fn create(&self, value: Self::Value) -> Self::Combined;
    fn add(&self, combined: Self::Combined, value: Self::Value) -> Self::Combined;
    fn merge(&self, a: Self::Combined, b: Self::Combined) -> Self::Combined;
    fn add_to(&self, _combined: &mut Self::Combined, _value: Self::Value) {}
    fn merge_into(&self, _a: &mut Self::Combined, _b: Self::Combined) {}
    fn ship(&self, w: &mut PlanWriter) -> Result<()>;
    fn unship(r: &mut PlanReader<'_>) -> Result<Self>;
}

/// A table of keys and what their values have been combined to. It gives them back in the order in which keys were
/// first seen.
pub(crate) struct CombineTable<K, C> {
    /// Each entry with its place in that order.
    table: HashTable<(K, C, u32)>,
}

/// Lets go of a received block that a key is a small part of, before the key is kept.
pub(crate) fn detach_key<K: 'static>(key: &mut K) {
    if let Some(text) = (key as &mut dyn Any).downcast_mut::<Text>() {
        text.detach();
    }
}

impl<K, C> Default for CombineTable<K, C> {
    fn default() -> Self {
        CombineTable { table: HashTable::new() }
    }
}

impl<K: Key, C: Data> CombineTable<K, C> {
    pub(crate) fn with_capacity(n: usize) -> CombineTable<K, C> {
        CombineTable { table: HashTable::with_capacity(n) }
    }

    /// Puts `value` to `key`: changes the entry in place, or replaces it, or makes it.
    #[inline(always)]
    pub(crate) fn upsert<V>(
        &mut self,
        hash: u64,
        key: K,
        value: V,
        in_place: Option<impl FnOnce(&mut C, V)>,
        replace: impl FnOnce(C, V) -> C,
        make: impl FnOnce(V) -> C,
    ) {
        if in_place.is_none() && std::mem::needs_drop::<C>() {
            return self.replace_or_insert(hash, key, value, replace, make);
        }
        match self.table.find_mut(hash, |entry| entry.0 == key) {
            Some((_, old, _)) => match in_place {
                Some(change) => change(old, value),
                // Without anything to drop, a clone is a copy.
                None => *old = replace(old.clone(), value),
            },
            None => self.insert(hash, key, make(value)),
        }
    }

    /// A combined value that owns memory is taken out and put in again at the same place: no clone, and nothing left
    /// behind should `replace` panic.
    fn replace_or_insert<V>(
        &mut self,
        hash: u64,
        key: K,
        value: V,
        replace: impl FnOnce(C, V) -> C,
        make: impl FnOnce(V) -> C,
    ) {
        match self.table.find_entry(hash, |entry| entry.0 == key) {
            Ok(entry) => {
                let ((key, old, seen), place) = entry.remove();
                place.insert((key, replace(old, value), seen));
            }
            Err(_) => self.insert(hash, key, make(value)),
        }
    }

    /// Puts a key into the table that is not there.
    #[cold]
    #[inline(never)]
    pub(crate) fn insert(&mut self, hash: u64, mut key: K, combined: C) {
        detach_key(&mut key);
        let seen = self.table.len() as u32;
        self.table.insert_unique(hash, (key, combined, seen), |entry| key_hash(&entry.0));
    }

    /// Says whether the key is in the table.
    pub(crate) fn has(&self, hash: u64, key: &K) -> bool {
        self.table.find(hash, |entry| entry.0 == *key).is_some()
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Returns the entries in the order in which their keys were first seen.
    pub(crate) fn into_entries(self) -> Entries<K, C> {
        let mut entries: Vec<(K, C, u32)> = self.table.into_iter().collect();
        // Each is where it belongs after one swap at most.
        for at in 0..entries.len() {
            while entries[at].2 as usize != at {
                let place = entries[at].2 as usize;
                entries.swap(at, place);
            }
        }
        Entries(entries.into_iter())
    }
}

/// The entries of a table, in order.
pub(crate) struct Entries<K, C>(std::vec::IntoIter<(K, C, u32)>);

impl<K, C> Iterator for Entries<K, C> {
    type Item = (K, C);

    #[inline]
    fn next(&mut self) -> Option<(K, C)> {
        self.0.next().map(|(key, combined, _)| (key, combined))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<K, C> ExactSizeIterator for Entries<K, C> {}

impl<K: Key, C: ExchangeData> Entries<K, C> {
    /// Returns about how many bytes an entry takes.
    fn size_of_one(&self) -> u64 {
        let entries = self.0.as_slice();
        entries.get(entries.len() / 2).map_or(0, |(key, combined, _)| size_of_value(key) + size_of_value(combined))
    }
}

impl<K: Key, C: ExchangeData> CombineTable<K, C> {
    /// Returns about how many bytes the table takes, by a look at some entries.
    pub(crate) fn size(&self) -> u64 {
        let slots = (self.table.capacity() * 8 / 7 * (size_of::<(K, C, u32)>() + 1)) as u64;
        let (looks, owned) = self.table.iter().take(64).fold((0, 0), |(looks, owned), (key, combined, _)| {
            let bytes = size_of_value(key) + size_of_value(combined);
            (looks + 1, owned + bytes.saturating_sub(size_of::<(K, C)>() as u64))
        });
        slots + owned * self.table.len() as u64 / looks.max(1)
    }
}

impl<K: Key, C: Data> CombineTable<K, (u64, C)> {
    /// Adds a value to a key that, if it is new, was first seen as number `seen`.
    pub(crate) fn add_seen<A: Aggregator<Combined = C>>(
        &mut self,
        aggregator: &A,
        hash: u64,
        key: K,
        value: A::Value,
        seen: u64,
    ) {
        let in_place = A::IN_PLACE.then_some(|entry: &mut (u64, C), v| aggregator.add_to(&mut entry.1, v));
        let replace = |(seen, c), v| (seen, aggregator.add(c, v));
        self.upsert(hash, key, value, in_place, replace, |v| (seen, aggregator.create(v)));
    }
}

impl<K: Key, C: Data> CombineTable<K, C> {
    #[inline]
    pub(crate) fn add<A: Aggregator<Combined = C>>(&mut self, aggregator: &A, hash: u64, key: K, value: A::Value) {
        let in_place = A::IN_PLACE.then_some(|c: &mut C, v| aggregator.add_to(c, v));
        self.upsert(hash, key, value, in_place, |c, v| aggregator.add(c, v), |v| aggregator.create(v));
    }
}

/// The write side: combined in a table, or moved as they are.
struct CombineWrite<K, A> {
    placement: Placement<K>,
    aggregator: A,
    map_side: bool,
}

impl<K: Key, A: Aggregator> ShuffleWrite for CombineWrite<K, A> {
    fn write(&self, pipeline: &mut Pipeline, task: &TaskContext) -> Result<Vec<Block>> {
        if !self.map_side {
            return write_pairs::<K, A::Value>(&self.placement, pipeline, task);
        }
        let mut table = SpillTable::new(&self.aggregator, task.env(), 0);
        pipeline.for_each_chunk(|chunk: &mut Vec<(K, A::Value)>| table.add_chunk(chunk))?;
        let mut entries = table.finish()?;
        let mut buckets = SpillBuckets::new(self.placement.partitions(), task.env());
        if let (1, true, Some(n)) = (self.placement.partitions(), self.placement.is_hash(), entries.len()) {
            buckets.reserve(0, n);
        }
        if let TableReader::Memory { entries, .. } = &mut entries {
            let bytes = entries.size_of_one() * CHUNK as u64;
            for (n, pair) in entries.enumerate() {
                if n % CHUNK == 0 {
                    task.check()?;
                    buckets.expect_bytes(bytes)?;
                }
                let place = self.placement.place(&pair.0, key_hash(&pair.0))?;
                buckets.push(place, pair);
            }
        }
        let mut chunk = Vec::new();
        while entries.read_chunk(&mut chunk)? {
            task.check()?;
            buckets.expect(&chunk)?;
            for pair in chunk.drain(..) {
                let place = self.placement.place(&pair.0, key_hash(&pair.0))?;
                buckets.push(place, pair);
            }
        }
        buckets.finish()
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|r| {
            let write: Arc<dyn ShuffleWrite> = Arc::new(CombineWrite::<K, A> {
                map_side: r.value()?,
                placement: Placement::unship(r)?,
                aggregator: A::unship(r)?,
            });
            Ok(Box::new(write))
        });
        w.value(&self.map_side)?;
        self.placement.ship(w)?;
        self.aggregator.ship(w)
    }
}

/// Moves pairs to their partitions as they are.
pub(crate) fn write_pairs<K: Key, V: ExchangeData>(
    placement: &Placement<K>,
    pipeline: &mut Pipeline,
    task: &TaskContext,
) -> Result<Vec<Block>> {
    let mut buckets = SpillBuckets::new(placement.partitions(), task.env());
    pipeline.for_each_chunk(|chunk: &mut Vec<(K, V)>| {
        buckets.expect(chunk)?;
        for pair in chunk.drain(..) {
            let hash = if placement.is_hash() { key_hash(&pair.0) } else { 0 };
            buckets.push(placement.place(&pair.0, hash)?, pair);
        }
        Ok(())
    })?;
    buckets.finish()
}

/// The read side: merges what all writers left for a partition.
struct Combined<K, A> {
    shuffle: ShuffleRead,
    aggregator: Arc<A>,
    map_side: bool,
    keys: PhantomData<fn() -> K>,
}

impl<K: Key, A: Aggregator> Compute for Combined<K, A> {
    fn open<'a>(&'a self, p: usize, _: &'a [Dependency], task: &TaskContext) -> Result<Opened<'a>> {
        if self.map_side {
            let merging = Merging(Arc::clone(&self.aggregator));
            let longest = self.shuffle.fetch(p, task)?.iter().filter_map(Block::items).max().unwrap_or(0);
            let entry = size_of::<(K, A::Combined, u32)>() as u64;
            // What is in memory once is combined in memory; a table for what is on disk may be too large.
            let most = (task.env().memory.limit() / 16 / entry) as usize;
            let capacity = if longest <= most { longest } else { 0 };
            let mut table: SpillTable<'_, K, _> = SpillTable::new(&merging, task.env(), capacity);
            ShuffleReader::new(self.shuffle, p, task).for_each_chunk(|chunk| table.add_chunk(chunk))?;
            Ok(Opened::Source(Box::new(table.finish()?)))
        } else {
            let mut table: SpillTable<'_, K, _> = SpillTable::new(&*self.aggregator, task.env(), 0);
            ShuffleReader::new(self.shuffle, p, task).for_each_chunk(|chunk| table.add_chunk(chunk))?;
            Ok(Opened::Source(Box::new(table.finish()?)))
        }
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|r| {
            let (shuffle, map_side) = r.value()?;
            let aggregator = Arc::new(A::unship(r)?);
            let compute: Box<dyn Compute> =
                Box::new(Combined::<K, A> { shuffle, aggregator, map_side, keys: PhantomData });
            Ok(Box::new(compute))
        });
        w.value(&(self.shuffle, self.map_side))?;
        self.aggregator.ship(w)
    }
}

impl<K: Key, V: ExchangeData> Rdd<(K, V)> {
    /// Combines by key over a shuffle, or in place where the keys are where they must be already.
    pub(crate) fn combine_at<A: Aggregator<Value = V> + Clone>(
        &self,
        aggregator: A,
        partitioner: Partitioner,
        map_side: bool,
        site: CallSite,
    ) -> Rdd<(K, A::Combined)> {
        if self.partitioner() == Some(&partitioner) {
            return self.combine_in_place(aggregator, partitioner, site);
        }
        let placement = match partitioner.placement::<K>() {
            Ok(placement) => placement,
            Err(error) => return Rdd::failed(error.at(site), self.context()),
        };
        let writer = Arc::new(CombineWrite { placement, aggregator: aggregator.clone(), map_side });
        let shuffle = ShuffleDep::new(
            Arc::clone(self.node()),
            partitioner.num_partitions(),
            writer,
            Arc::clone(self.context().env()),
            site,
        );
        Rdd::from_node(
            Node::new::<(K, A::Combined)>(NodeParts {
                site,
                partitions: partitioner.num_partitions(),
                partitioner: Some(partitioner),
                compute: Combined::<K, A> {
                    shuffle: shuffle.read(),
                    aggregator: Arc::new(aggregator),
                    map_side,
                    keys: PhantomData,
                },
                parents: vec![Dependency::Shuffle(shuffle)],
            }),
            self.context(),
        )
    }

    fn combine_in_place<A: Aggregator<Value = V>>(
        &self,
        aggregator: A,
        partitioner: Partitioner,
        site: CallSite,
    ) -> Rdd<(K, A::Combined)> {
        Rdd::from_node(
            Node::new::<(K, A::Combined)>(NodeParts {
                site,
                partitions: self.num_partitions(),
                partitioner: Some(partitioner),
                compute: CombineHere::<K, A> { aggregator: Arc::new(aggregator), keys: PhantomData },
                parents: vec![Dependency::Narrow(Arc::clone(self.node()))],
            }),
            self.context(),
        )
    }

    /// Moves each pair to the partition that `partitioner` says. Does nothing where it is there already.
    ///
    /// # Spark
    ///
    /// `PairRDDFunctions.partitionBy`, PR07.
    #[track_caller]
    pub fn partition_by(&self, partitioner: impl Into<Partitioner>) -> Rdd<(K, V)> {
        let (partitioner, site) = (partitioner.into(), CallSite::here("partition_by"));
        if self.partitioner() == Some(&partitioner) {
            return self.clone();
        }
        let placement = match partitioner.placement::<K>() {
            Ok(placement) => placement,
            Err(error) => return Rdd::failed(error.at(site), self.context()),
        };
        let writer = Arc::new(PairWrite::<K, V> { placement, of: PhantomData });
        let partitions = partitioner.num_partitions();
        let shuffle =
            ShuffleDep::new(Arc::clone(self.node()), partitions, writer, Arc::clone(self.context().env()), site);
        Rdd::from_node(
            Node::new::<(K, V)>(NodeParts {
                site,
                partitions,
                partitioner: Some(partitioner),
                compute: Moved::<(K, V)> { shuffle: shuffle.read(), of: PhantomData },
                parents: vec![Dependency::Shuffle(shuffle)],
            }),
            self.context(),
        )
    }
}

/// Combines a partition whose keys are all where they must be.
struct CombineHere<K, A> {
    aggregator: Arc<A>,
    keys: PhantomData<fn() -> K>,
}

impl<K: Key, A: Aggregator> Compute for CombineHere<K, A> {
    fn open<'a>(&'a self, p: usize, parents: &'a [Dependency], task: &TaskContext) -> Result<Opened<'a>> {
        let (aggregator, env) = (Arc::clone(&self.aggregator), Arc::clone(task.env()));
        let wrap = move |mut pipeline: Pipeline| -> Result<Box<dyn super::pipeline::Source>> {
            let mut table = SpillTable::new(&*aggregator, &env, 0);
            pipeline.for_each_chunk(|chunk: &mut Vec<(K, A::Value)>| table.add_chunk(chunk))?;
            Ok(Box::new(table.finish()?))
        };
        Ok(Opened::Wrap { node: super::lineage::narrow(parents, 0)?, partition: p, wrap: Box::new(wrap) })
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|r| {
            let compute: Box<dyn Compute> =
                Box::new(CombineHere::<K, A> { aggregator: Arc::new(A::unship(r)?), keys: PhantomData });
            Ok(Box::new(compute))
        });
        self.aggregator.ship(w)
    }
}

struct PairWrite<K, V> {
    placement: Placement<K>,
    of: PhantomData<fn() -> V>,
}

impl<K: Key, V: ExchangeData> PairWrite<K, V> {
    pub(crate) fn boxed(placement: Placement<K>) -> Arc<dyn ShuffleWrite> {
        Arc::new(PairWrite::<K, V> { placement, of: PhantomData })
    }
}

/// Returns the write side that moves pairs as they are.
pub(crate) fn pair_write<K: Key, V: ExchangeData>(placement: Placement<K>) -> Arc<dyn ShuffleWrite> {
    PairWrite::<K, V>::boxed(placement)
}

impl<K: Key, V: ExchangeData> ShuffleWrite for PairWrite<K, V> {
    fn write(&self, pipeline: &mut Pipeline, task: &TaskContext) -> Result<Vec<Block>> {
        write_pairs::<K, V>(&self.placement, pipeline, task)
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|r| {
            let write: Arc<dyn ShuffleWrite> =
                Arc::new(PairWrite::<K, V> { placement: Placement::unship(r)?, of: PhantomData });
            Ok(Box::new(write))
        });
        self.placement.ship(w)
    }
}

/// Reads what all writers left for a partition, as it is.
pub(crate) struct Moved<T> {
    pub(crate) shuffle: ShuffleRead,
    pub(crate) of: PhantomData<fn() -> T>,
}

impl<T: ExchangeData> Compute for Moved<T> {
    fn open<'a>(&'a self, p: usize, _: &'a [Dependency], task: &TaskContext) -> Result<Opened<'a>> {
        Ok(Opened::Source(Box::new(ShuffleReader::<T>::new(self.shuffle, p, task))))
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|r| {
            let compute: Box<dyn Compute> = Box::new(Moved::<T> { shuffle: r.value()?, of: PhantomData });
            Ok(Box::new(compute))
        });
        w.value(&self.shuffle)
    }
}

// ---------------------------------------------------------------------------------------------- aggregators

/// Combines values by one closure.
pub(crate) struct Reduce<V, F> {
    pub(crate) f: Closure<F>,
    pub(crate) of: PhantomData<fn() -> V>,
}

impl<V, F> Clone for Reduce<V, F> {
    fn clone(&self) -> Self {
        Reduce { f: self.f.clone(), of: PhantomData }
    }
}

impl<V: ExchangeData, F: Fn(V, V) -> V + Send + Sync + 'static> Aggregator for Reduce<V, F> {
    type Value = V;
    type Combined = V;
    const IN_PLACE: bool = false;

    #[inline]
    fn create(&self, value: V) -> V {
        value
    }

    #[inline]
    fn add(&self, combined: V, value: V) -> V {
        (self.f)(combined, value)
    }

    #[inline]
    fn merge(&self, a: V, b: V) -> V {
        (self.f)(a, b)
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.closure(&self.f)
    }

    fn unship(r: &mut PlanReader<'_>) -> Result<Self> {
        Ok(Reduce { f: r.closure()?, of: PhantomData })
    }
}

/// Combines what an aggregator has combined already.
struct Merging<A>(Arc<A>);

impl<A: Aggregator> Aggregator for Merging<A> {
    type Value = A::Combined;
    type Combined = A::Combined;
    const IN_PLACE: bool = A::IN_PLACE;
    const GROWS: bool = A::GROWS;

    #[inline]
    fn create(&self, value: A::Combined) -> A::Combined {
        value
    }

    #[inline]
    fn add(&self, combined: A::Combined, value: A::Combined) -> A::Combined {
        self.0.merge(combined, value)
    }

    fn merge(&self, a: A::Combined, b: A::Combined) -> A::Combined {
        self.0.merge(a, b)
    }

    #[inline]
    fn add_to(&self, combined: &mut A::Combined, value: A::Combined) {
        self.0.merge_into(combined, value);
    }

    fn merge_into(&self, a: &mut A::Combined, b: A::Combined) {
        self.0.merge_into(a, b);
    }

    fn ship(&self, _: &mut PlanWriter) -> Result<()> {
        Err(crate::bug!("a merging aggregator is made where it is used"))
    }

    fn unship(_: &mut PlanReader<'_>) -> Result<Self> {
        Err(crate::bug!("a merging aggregator does not travel"))
    }
}

/// Collects values in a vector, in the order in which they come.
pub(crate) struct Group<V>(pub(crate) PhantomData<fn() -> V>);

impl<V> Clone for Group<V> {
    fn clone(&self) -> Self {
        Group(PhantomData)
    }
}

impl<V: ExchangeData> Aggregator for Group<V> {
    type Value = V;
    type Combined = Vec<V>;
    const IN_PLACE: bool = true;
    const GROWS: bool = true;

    fn create(&self, value: V) -> Vec<V> {
        vec![value]
    }

    fn add(&self, mut combined: Vec<V>, value: V) -> Vec<V> {
        combined.push(value);
        combined
    }

    fn merge(&self, mut a: Vec<V>, b: Vec<V>) -> Vec<V> {
        a.extend(b);
        a
    }

    #[inline]
    fn add_to(&self, combined: &mut Vec<V>, value: V) {
        combined.push(value);
    }

    fn merge_into(&self, a: &mut Vec<V>, b: Vec<V>) {
        a.extend(b);
    }

    fn ship(&self, _: &mut PlanWriter) -> Result<()> {
        Ok(())
    }

    fn unship(_: &mut PlanReader<'_>) -> Result<Self> {
        Ok(Group(PhantomData))
    }
}

/// Combines values by three closures.
pub(crate) struct Combine<V, C, F1, F2, F3> {
    pub(crate) create: Closure<F1>,
    pub(crate) add: Closure<F2>,
    pub(crate) merge: Closure<F3>,
    pub(crate) of: PhantomData<fn(V) -> C>,
}

impl<V, C, F1, F2, F3> Clone for Combine<V, C, F1, F2, F3> {
    fn clone(&self) -> Self {
        Combine { create: self.create.clone(), add: self.add.clone(), merge: self.merge.clone(), of: PhantomData }
    }
}

impl<V, C, F1, F2, F3> Aggregator for Combine<V, C, F1, F2, F3>
where
    V: ExchangeData,
    C: ExchangeData,
    F1: Fn(V) -> C + Send + Sync + 'static,
    F2: Fn(C, V) -> C + Send + Sync + 'static,
    F3: Fn(C, C) -> C + Send + Sync + 'static,
{
    type Value = V;
    type Combined = C;
    const IN_PLACE: bool = false;

    fn create(&self, value: V) -> C {
        (self.create)(value)
    }

    fn add(&self, combined: C, value: V) -> C {
        (self.add)(combined, value)
    }

    fn merge(&self, a: C, b: C) -> C {
        (self.merge)(a, b)
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.closure(&self.create)?;
        w.closure(&self.add)?;
        w.closure(&self.merge)
    }

    fn unship(r: &mut PlanReader<'_>) -> Result<Self> {
        Ok(Combine { create: r.closure()?, add: r.closure()?, merge: r.closure()?, of: PhantomData })
    }
}
