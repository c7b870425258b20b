//! Operations that read one partition and give one: map, filter, flat_map, map_partitions.

use std::marker::PhantomData;
use std::sync::Arc;

use super::Rdd;
use super::lineage::{Compute, Dependency, Node, NodeParts, Opened, narrow};
use super::pipeline::{CHUNK, ChunkOperator, Fed, PartitionIter, PartitionReader};
use super::reader::ErrorSlot;
use crate::data::Data;
use crate::error::{CallSite, Result};
use crate::partitioner::Partitioner;
use crate::plan::TaskContext;
use crate::plan::ship::{Closure, PlanReader, PlanWriter};

/// What an operation on chunks is made from, and how that travels.
pub(crate) trait NarrowSpec: Send + Sync + Sized + 'static {
    type Operator: ChunkOperator;
    fn operator(&self) -> Self::Operator;
    fn ship(&self, w: &mut PlanWriter) -> Result<()>;
    fn unship(r: &mut PlanReader<'_>) -> Result<Self>;
}

struct Narrow<S>(S);

impl<S: NarrowSpec> Compute for Narrow<S> {
    fn open<'a>(&'a self, p: usize, parents: &'a [Dependency], _: &TaskContext) -> Result<Opened<'a>> {
        Ok(Opened::Through { node: narrow(parents, 0)?, partition: p, operator: Box::new(self.0.operator()) })
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|r| {
            let compute: Box<dyn Compute> = Box::new(Narrow(S::unship(r)?));
            Ok(Box::new(compute))
        });
        self.0.ship(w)
    }
}

impl<T: Data> Rdd<T> {
    /// Makes an Rdd of an operation on chunks.
    pub(crate) fn narrow<S: NarrowSpec>(
        &self,
        spec: S,
        site: CallSite,
        partitioner: Option<Partitioner>,
    ) -> Rdd<<S::Operator as ChunkOperator>::Out> {
        Rdd::from_node(
            Node::new::<<S::Operator as ChunkOperator>::Out>(NodeParts {
                site,
                parents: vec![Dependency::Narrow(Arc::clone(self.node()))],
                partitions: self.num_partitions(),
                partitioner,
                compute: Narrow(spec),
            }),
            self.context(),
        )
    }

    /// As [`map`](Self::map), with a closure that is shared by several Rdds.
    #[doc(hidden)]
    pub fn map_shared<U: Data, F: Fn(T) -> U + Send + Sync + 'static>(&self, f: Closure<F>) -> Rdd<U> {
        let site = f.site();
        self.narrow(Map { f, of: PhantomData }, site, None)
    }

    /// As [`filter`](Self::filter), with a closure that is shared by several Rdds.
    #[doc(hidden)]
    pub fn filter_shared<F: Fn(&T) -> bool + Send + Sync + 'static>(&self, f: Closure<F>) -> Rdd<T> {
        let site = f.site();
        self.narrow(Filter { f, of: PhantomData }, site, self.partitioner().cloned())
    }

    /// As [`flat_map`](Self::flat_map), with a closure that is shared by several Rdds.
    #[doc(hidden)]
    pub fn flat_map_shared<I, F: Fn(T) -> I + Send + Sync + 'static>(&self, f: Closure<F>) -> Rdd<I::Item>
    where
        I: IntoIterator + 'static,
        I::Item: Data,
        I::IntoIter: Send + 'static,
    {
        let site = f.site();
        self.narrow(FlatMap { f, of: PhantomData }, site, None)
    }

    /// As [`flat_map_into`](Self::flat_map_into), with a closure that is shared by several Rdds.
    #[doc(hidden)]
    pub fn flat_map_into_shared<U: Data, F: Fn(T, &mut Vec<U>) + Send + Sync + 'static>(
        &self,
        f: Closure<F>,
    ) -> Rdd<U> {
        let site = f.site();
        self.narrow(FlatMapInto { f, of: PhantomData }, site, None)
    }

    /// As [`map_partitions`](Self::map_partitions), with a closure that is shared by several Rdds.
    #[doc(hidden)]
    pub fn map_partitions_shared<I, F: Fn(PartitionIter<T>) -> I + Send + Sync + 'static>(
        &self,
        f: Closure<F>,
        partitioner: Option<Partitioner>,
    ) -> Rdd<I::Item>
    where
        I: IntoIterator + 'static,
        I::Item: Data,
        I::IntoIter: Send + 'static,
    {
        let site = f.site();
        self.whole(Partitions { f, of: PhantomData::<fn(T) -> I> }, site, partitioner)
    }

    /// As [`map_partitions_with_index`](Self::map_partitions_with_index), with a closure that is shared by several
    /// Rdds.
    #[doc(hidden)]
    pub fn map_partitions_with_index_shared<I, F: Fn(usize, PartitionIter<T>) -> I + Send + Sync + 'static>(
        &self,
        f: Closure<F>,
    ) -> Rdd<I::Item>
    where
        I: IntoIterator + 'static,
        I::Item: Data,
        I::IntoIter: Send + 'static,
    {
        let site = f.site();
        self.whole(PartitionsWithIndex { f, of: PhantomData::<fn(T) -> I> }, site, None)
    }

    /// Applies `f` to each element.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let squares = context.parallelize(vec![1, 2, 3], 2).map(|x: i32| x * x);
    /// assert_eq!(squares.collect()?, [1, 4, 9]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Cost
    ///
    /// One pass; nothing is allocated per element but what `f` allocates.
    ///
    /// # Spark
    ///
    /// `RDD.map`, RD01.
    #[track_caller]
    pub fn map<U: Data>(&self, f: impl Fn(T) -> U + Send + Sync + 'static) -> Rdd<U> {
        self.map_shared(Closure::new(f, CallSite::here("map")))
    }

    /// Keeps the elements for which `keep` holds.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let odd = context.parallelize(vec![1, 2, 3], 2).filter(|x: &i32| x % 2 == 1);
    /// assert_eq!(odd.collect()?, [1, 3]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Spark
    ///
    /// `RDD.filter`, RD03. The partitioner is kept.
    #[track_caller]
    pub fn filter(&self, keep: impl Fn(&T) -> bool + Send + Sync + 'static) -> Rdd<T> {
        self.filter_shared(Closure::new(keep, CallSite::here("filter")))
    }

    /// Applies `f` to each element and gives all elements of what it returns.
    ///
    /// `f` returns anything that can be iterated and owns what it gives: a `Vec`, an `Option`, a `Result`, an iterator.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_core::Text;
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let lines = context.parallelize(vec![Text::from("to be"), Text::from("or not")], 2);
    /// assert_eq!(lines.flat_map(|line| line.split(' ')).collect()?, ["to", "be", "or", "not"]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Spark
    ///
    /// `RDD.flatMap`, RD02.
    #[track_caller]
    pub fn flat_map<I>(&self, f: impl Fn(T) -> I + Send + Sync + 'static) -> Rdd<I::Item>
    where
        I: IntoIterator + 'static,
        I::Item: Data,
        I::IntoIter: Send + 'static,
    {
        self.flat_map_shared(Closure::new(f, CallSite::here("flat_map")))
    }

    /// Applies `f` to each element; `f` pushes what it gives into the buffer that it is handed.
    ///
    /// This is for closures that give a few elements each and want no collection in between, or that borrow from
    /// their argument.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let lines = context.parallelize(vec!["to be".to_owned()], 1);
    /// let lengths = lines.flat_map_into(|line, out| out.extend(line.split(' ').map(str::len)));
    /// assert_eq!(lengths.collect()?, [2, 2]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Spark
    ///
    /// `RDD.flatMap`, RD02, in the form that Spark's own code uses inside.
    #[track_caller]
    pub fn flat_map_into<U: Data>(&self, f: impl Fn(T, &mut Vec<U>) + Send + Sync + 'static) -> Rdd<U> {
        self.flat_map_into_shared(Closure::new(f, CallSite::here("flat_map_into")))
    }

    /// Hands each partition to `f` as an iterator and gives what `f`'s iterator gives. Empty partitions too.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let sums = context.parallelize(vec![1, 2, 3, 4], 2).map_partitions(|xs| [xs.sum::<i32>()]);
    /// assert_eq!(sums.collect()?, [3, 7]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// More than 200 of these one behind the other fail the job: each reads from inside the one before.
    ///
    /// # Spark
    ///
    /// `RDD.mapPartitions`, RD04.
    #[track_caller]
    pub fn map_partitions<I>(&self, f: impl Fn(PartitionIter<T>) -> I + Send + Sync + 'static) -> Rdd<I::Item>
    where
        I: IntoIterator + 'static,
        I::Item: Data,
        I::IntoIter: Send + 'static,
    {
        self.map_partitions_shared(Closure::new(f, CallSite::here("map_partitions")), None)
    }

    /// As [`map_partitions`](Self::map_partitions), for a closure that leaves each key in its partition.
    ///
    /// # Spark
    ///
    /// `RDD.mapPartitions` with `preservesPartitioning = true`, RD04.
    #[track_caller]
    pub fn map_partitions_preserving<I>(
        &self,
        f: impl Fn(PartitionIter<T>) -> I + Send + Sync + 'static,
    ) -> Rdd<I::Item>
    where
        I: IntoIterator + 'static,
        I::Item: Data,
        I::IntoIter: Send + 'static,
    {
        let site = CallSite::here("map_partitions_preserving");
        self.map_partitions_shared(Closure::new(f, site), self.partitioner().cloned())
    }

    /// As [`map_partitions`](Self::map_partitions); `f` is told the partition's number first.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let tagged = context.parallelize(vec!['a', 'b'], 2).map_partitions_with_index(|p, xs| xs.map(move |x| (p, x)));
    /// assert_eq!(tagged.collect()?, [(0, 'a'), (1, 'b')]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Spark
    ///
    /// `RDD.mapPartitionsWithIndex`, RD05.
    #[track_caller]
    pub fn map_partitions_with_index<I>(
        &self,
        f: impl Fn(usize, PartitionIter<T>) -> I + Send + Sync + 'static,
    ) -> Rdd<I::Item>
    where
        I: IntoIterator + 'static,
        I::Item: Data,
        I::IntoIter: Send + 'static,
    {
        self.map_partitions_with_index_shared(Closure::new(f, CallSite::here("map_partitions_with_index")))
    }

    /// Gives each partition as one vector.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// assert_eq!(context.parallelize(vec![1, 2, 3], 2).glom().collect()?, [vec![1], vec![2, 3]]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Spark
    ///
    /// `RDD.glom`, RD07.
    #[track_caller]
    pub fn glom(&self) -> Rdd<Vec<T>> {
        let whole = |items: PartitionIter<T>| [items.collect::<Vec<T>>()];
        self.map_partitions_shared(Closure::new(whole, CallSite::here("glom")), None)
    }

    /// Pairs each element with the key that `f` makes of it.
    ///
    /// # Spark
    ///
    /// `RDD.keyBy`, RD08.
    #[track_caller]
    pub fn key_by<K: Data>(&self, f: impl Fn(&T) -> K + Send + Sync + 'static) -> Rdd<(K, T)> {
        let site = CallSite::here("key_by");
        self.narrow(KeyBy { f: Closure::new(f, site), of: PhantomData }, site, None)
    }

    /// Makes an Rdd of an operation on whole partitions.
    pub(super) fn whole<S: WholeSpec<In = T>>(
        &self,
        spec: S,
        site: CallSite,
        partitioner: Option<Partitioner>,
    ) -> Rdd<S::Out> {
        Rdd::from_node(
            Node::new::<S::Out>(NodeParts {
                site,
                parents: vec![Dependency::Narrow(Arc::clone(self.node()))],
                partitions: self.num_partitions(),
                partitioner,
                compute: Whole(Arc::new(spec)),
            }),
            self.context(),
        )
    }
}

/// Declares what an operation on chunks is made from: one closure and the types it works on.
macro_rules! spec {
    ($spec:ident<$($t:ident $(: $bound:path)?),*>($f:ident) -> $operator:ident) => {
        pub(crate) struct $spec<$($t,)* $f> {
            pub(crate) f: Closure<$f>,
            pub(crate) of: PhantomData<fn($($t),*)>,
        }

        impl<$($t: 'static $(+ $bound)?,)* $f: Send + Sync + 'static> NarrowSpec for $spec<$($t,)* $f>
        where
            $operator<$($t,)* $f>: ChunkOperator + From<Closure<$f>>,
        {
            type Operator = $operator<$($t,)* $f>;

            fn operator(&self) -> Self::Operator {
                self.f.clone().into()
            }

            fn ship(&self, w: &mut PlanWriter) -> Result<()> {
                w.closure(&self.f)
            }

            fn unship(r: &mut PlanReader<'_>) -> Result<Self> {
                Ok($spec { f: r.closure()?, of: PhantomData })
            }
        }
    };
}

/// Declares an operator that has nothing but its closure.
macro_rules! stateless {
    ($operator:ident<$($t:ident),*>) => {
        pub(crate) struct $operator<$($t,)* F> {
            f: Closure<F>,
            of: PhantomData<fn($($t),*)>,
        }

        impl<$($t,)* F> From<Closure<F>> for $operator<$($t,)* F> {
            fn from(f: Closure<F>) -> Self {
                $operator { f, of: PhantomData }
            }
        }
    };
}

spec!(Map<T, U>(F) -> MapOperator);
stateless!(MapOperator<T, U>);

impl<T: Data, U: Data, F: Fn(T) -> U + Send + Sync + 'static> ChunkOperator for MapOperator<T, U, F> {
    type In = T;
    type Out = U;

    fn apply(&mut self, input: &mut Vec<T>, out: &mut Vec<U>) -> Result<Fed> {
        let f = &*self.f;
        out.extend(input.drain(..).map(f));
        Ok(Fed::All)
    }
}

spec!(Filter<T>(F) -> FilterOperator);
stateless!(FilterOperator<T>);

impl<T: Data, F: Fn(&T) -> bool + Send + Sync + 'static> ChunkOperator for FilterOperator<T, F> {
    type In = T;
    type Out = T;

    fn apply(&mut self, input: &mut Vec<T>, out: &mut Vec<T>) -> Result<Fed> {
        let f = &*self.f;
        out.extend(input.drain(..).filter(|item| f(item)));
        Ok(Fed::All)
    }

    const LOOKS: bool = true;

    fn look_at(&mut self, input: &[T], out: &mut Vec<T>) {
        let f = &*self.f;
        // Only what is kept is cloned.
        out.extend(input.iter().filter(|item| f(item)).cloned());
    }
}

spec!(KeyBy<K, T>(F) -> KeyByOperator);
stateless!(KeyByOperator<K, T>);

impl<K: Data, T: Data, F: Fn(&T) -> K + Send + Sync + 'static> ChunkOperator for KeyByOperator<K, T, F> {
    type In = T;
    type Out = (K, T);

    fn apply(&mut self, input: &mut Vec<T>, out: &mut Vec<(K, T)>) -> Result<Fed> {
        let f = &*self.f;
        out.extend(input.drain(..).map(|item| (f(&item), item)));
        Ok(Fed::All)
    }
}

spec!(MapValues<K, V, W>(F) -> MapValuesOperator);
stateless!(MapValuesOperator<K, V, W>);

impl<K: Data, V: Data, W: Data, F: Fn(V) -> W + Send + Sync + 'static> ChunkOperator for MapValuesOperator<K, V, W, F> {
    type In = (K, V);
    type Out = (K, W);

    fn apply(&mut self, input: &mut Vec<(K, V)>, out: &mut Vec<(K, W)>) -> Result<Fed> {
        let f = &*self.f;
        out.extend(input.drain(..).map(|(key, value)| (key, f(value))));
        Ok(Fed::All)
    }
}

spec!(FlatMapValues<K, V, I>(F) -> FlatMapValuesOperator);
stateless!(FlatMapValuesOperator<K, V, I>);

impl<K, V, I, F> ChunkOperator for FlatMapValuesOperator<K, V, I, F>
where
    K: Data,
    V: Data,
    I: IntoIterator + 'static,
    I::Item: Data,
    F: Fn(V) -> I + Send + Sync + 'static,
{
    type In = (K, V);
    type Out = (K, I::Item);

    fn apply(&mut self, input: &mut Vec<(K, V)>, out: &mut Vec<(K, I::Item)>) -> Result<Fed> {
        let f = &*self.f;
        for (key, value) in input.drain(..) {
            out.extend(f(value).into_iter().map(|value| (key.clone(), value)));
        }
        Ok(Fed::All)
    }
}

spec!(FlatMap<T, I: IntoIterator>(F) -> FlatMapOperator);

/// Fills its output to a chunk and remembers where it was: one element may give more than fits.
pub(crate) struct FlatMapOperator<T, I: IntoIterator, F> {
    f: Closure<F>,
    current: Option<I::IntoIter>,
    resumed: bool,
    of: PhantomData<fn(T)>,
}

impl<T, I: IntoIterator, F> From<Closure<F>> for FlatMapOperator<T, I, F> {
    fn from(f: Closure<F>) -> Self {
        FlatMapOperator { f, current: None, resumed: false, of: PhantomData }
    }
}

impl<T, I, F> ChunkOperator for FlatMapOperator<T, I, F>
where
    T: Data,
    I: IntoIterator + 'static,
    I::Item: Data,
    I::IntoIter: Send + 'static,
    F: Fn(T) -> I + Send + Sync + 'static,
{
    type In = T;
    type Out = I::Item;

    fn apply(&mut self, input: &mut Vec<T>, out: &mut Vec<I::Item>) -> Result<Fed> {
        let f = &*self.f;
        let full = out.len() + CHUNK;
        if !self.resumed {
            // Taken from the end from now on, so that what is left stays in place.
            input.reverse();
            self.resumed = true;
        }
        loop {
            if let Some(current) = &mut self.current {
                for item in current.by_ref() {
                    out.push(item);
                    if out.len() >= full {
                        return Ok(Fed::Part);
                    }
                }
            }
            match input.pop() {
                Some(item) => self.current = Some(f(item).into_iter()),
                None => {
                    self.current = None;
                    self.resumed = false;
                    return Ok(Fed::All);
                }
            }
        }
    }
}

spec!(FlatMapInto<T, U>(F) -> FlatMapIntoOperator);

/// As [`FlatMapOperator`], but an element's output is taken as a whole.
pub(crate) struct FlatMapIntoOperator<T, U, F> {
    f: Closure<F>,
    resumed: bool,
    of: PhantomData<fn(T, U)>,
}

impl<T, U, F> From<Closure<F>> for FlatMapIntoOperator<T, U, F> {
    fn from(f: Closure<F>) -> Self {
        FlatMapIntoOperator { f, resumed: false, of: PhantomData }
    }
}

impl<T: Data, U: Data, F: Fn(T, &mut Vec<U>) + Send + Sync + 'static> ChunkOperator for FlatMapIntoOperator<T, U, F> {
    type In = T;
    type Out = U;

    fn apply(&mut self, input: &mut Vec<T>, out: &mut Vec<U>) -> Result<Fed> {
        let f = &*self.f;
        let full = out.len() + CHUNK;
        if !self.resumed {
            input.reverse();
            self.resumed = true;
        }
        while let Some(item) = input.pop() {
            f(item, out);
            if out.len() >= full && !input.is_empty() {
                return Ok(Fed::Part);
            }
        }
        self.resumed = false;
        Ok(Fed::All)
    }
}

/// What an operation on a whole partition is made from, and how that travels.
pub(super) trait WholeSpec: Send + Sync + Sized + 'static {
    type In: Data;
    type Out: Data;
    type Iter: Iterator<Item = Self::Out> + Send + 'static;
    fn start(&self, partition: usize, items: PartitionIter<Self::In>) -> Self::Iter;
    fn ship(&self, w: &mut PlanWriter) -> Result<()>;
    fn unship(r: &mut PlanReader<'_>) -> Result<Self>;
}

struct Whole<S>(Arc<S>);

impl<S: WholeSpec> Compute for Whole<S> {
    fn open<'a>(&'a self, p: usize, parents: &'a [Dependency], _: &TaskContext) -> Result<Opened<'a>> {
        let spec = Arc::clone(&self.0);
        let wrap = move |pipeline| -> Result<Box<dyn super::pipeline::Source>> {
            let error = ErrorSlot::default();
            let items = PartitionIter::new(pipeline, error.clone());
            Ok(Box::new(WholeReader { items: spec.start(p, items), error }))
        };
        Ok(Opened::Wrap { node: narrow(parents, 0)?, partition: p, wrap: Box::new(wrap) })
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|r| {
            let compute: Box<dyn Compute> = Box::new(Whole(Arc::new(S::unship(r)?)));
            Ok(Box::new(compute))
        });
        self.0.ship(w)
    }
}

struct WholeReader<I> {
    items: I,
    error: ErrorSlot,
}

impl<I> PartitionReader for WholeReader<I>
where
    I: Iterator + Send + 'static,
    I::Item: Data,
{
    type Item = I::Item;

    fn read_chunk(&mut self, out: &mut Vec<I::Item>) -> Result<bool> {
        let before = out.len();
        out.extend(self.items.by_ref().take(CHUNK));
        self.error.check()?;
        Ok(out.len() > before)
    }
}

struct Partitions<T, I, F> {
    f: Closure<F>,
    of: PhantomData<fn(T) -> I>,
}

impl<T, I, F> WholeSpec for Partitions<T, I, F>
where
    T: Data,
    I: IntoIterator + 'static,
    I::Item: Data,
    I::IntoIter: Send + 'static,
    F: Fn(PartitionIter<T>) -> I + Send + Sync + 'static,
{
    type In = T;
    type Out = I::Item;
    type Iter = I::IntoIter;

    fn start(&self, _: usize, items: PartitionIter<T>) -> I::IntoIter {
        (self.f)(items).into_iter()
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.closure(&self.f)
    }

    fn unship(r: &mut PlanReader<'_>) -> Result<Self> {
        Ok(Partitions { f: r.closure()?, of: PhantomData })
    }
}

struct PartitionsWithIndex<T, I, F> {
    f: Closure<F>,
    of: PhantomData<fn(T) -> I>,
}

impl<T, I, F> WholeSpec for PartitionsWithIndex<T, I, F>
where
    T: Data,
    I: IntoIterator + 'static,
    I::Item: Data,
    I::IntoIter: Send + 'static,
    F: Fn(usize, PartitionIter<T>) -> I + Send + Sync + 'static,
{
    type In = T;
    type Out = I::Item;
    type Iter = I::IntoIter;

    fn start(&self, partition: usize, items: PartitionIter<T>) -> I::IntoIter {
        (self.f)(partition, items).into_iter()
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.closure(&self.f)
    }

    fn unship(r: &mut PlanReader<'_>) -> Result<Self> {
        Ok(PartitionsWithIndex { f: r.closure()?, of: PhantomData })
    }
}
