//! DStreams: the handle and its basic operations, each one line over an Rdd's.

mod guarantee;
mod joined;
mod node;
mod output;
mod output_run;
mod pair;
mod reduced_window;
mod sink;
mod sliced;
mod windowed;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::plan::ship::Closure;
use millstream_core::{
    AnyRdd, CallSite, Chain, Data, Error, ErrorKind, ExchangeData, Key, PartitionIter, Partitioner, Rdd, Result,
    SaveAs, StorageLevel, Time, shape_of,
};

pub use self::guarantee::{Guarantee, Output};
pub(crate) use self::guarantee::{KeptIn, OutputKind, guarantee};
pub(crate) use self::joined::{transform_all, union_all};
pub(crate) use self::node::{AnyInput, AnyNode, Input, NodeFn};
pub(crate) use self::output::Notes;
pub use self::output::{Outcome, OutputBatch};
pub use self::output_run::OutputRun;
pub(crate) use self::output_run::OutputStart;
pub(crate) use self::pair::Placing;
pub use self::sink::Transactional;
pub(crate) use self::sink::{AnySink, PreparedOutputs};
use crate::graph::{Batch, GraphShared, KeepRdd, SaveForm, StreamId, StreamKind, StreamSpec};
use crate::state::rows::SavedRows;
use crate::state::save::{HasTable, Saved};

/// A stream: for each batch one [`Rdd`].
///
/// It is a typed place in the graph: cheap to clone, to name and to store. Operations add to the graph and return at
/// once; mistakes are collected, and `start()` reports all of them with the lines where they were made.
///
/// # Example
///
/// ```
/// # use millstream_testkit::doc::*;
/// let table = show([vec!["to be"], vec!["not to be"]], |lines| {
///     lines.flat_map(|line| line.split(' ')).map(|word| (word, 1u64)).reduce_by_key(|a, b| a + b)
/// });
/// assert_eq!(table, "1s (be,1) (to,1)\n2s (be,1) (not,1) (to,1)");
/// ```
///
/// # Spark
///
/// `DStream`, api section 1.3.
pub struct DStream<T> {
    id: StreamId,
    graph: Arc<GraphShared>,
    item: PhantomData<fn() -> T>,
}

impl<T> Clone for DStream<T> {
    fn clone(&self) -> DStream<T> {
        DStream { id: self.id, graph: Arc::clone(&self.graph), item: PhantomData }
    }
}

impl<T> fmt::Debug for DStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DStream #{}", self.id.0)
    }
}

impl<T> DStream<T> {
    pub(crate) fn id(&self) -> StreamId {
        self.id
    }

    pub(crate) fn graph(&self) -> &Arc<GraphShared> {
        &self.graph
    }

    /// Keeps a mistake for `start()` to report.
    #[doc(hidden)]
    pub fn mistake(&self, error: Error) {
        self.graph.fault(error);
    }

    /// Returns how often the stream has a batch. Spark's `slideDuration`, DS01.
    pub fn slide(&self) -> Duration {
        self.graph
            .ask(|graph| graph.slots.get(self.id.0).map(|slot| slot.spec.slide))
            .flatten()
            .unwrap_or(self.graph.interval())
    }

    /// Gives the stream a name of its own, by which its state is found again when the program changes.
    #[track_caller]
    pub fn uid(&self, uid: impl Into<String>) -> DStream<T> {
        let (uid, id, site) = (uid.into(), self.id, CallSite::here("uid"));
        let taken = self.graph.ask(|graph| graph.slots.iter().any(|slot| slot.spec.uid.as_ref() == Some(&uid)));
        if taken == Some(true) {
            self.graph.fault(Error::new(ErrorKind::Graph, format!("two streams have the uid `{uid}`")).at(site));
        }
        self.graph.change(site, |graph| {
            if let Some(slot) = graph.slots.get_mut(id.0) {
                slot.spec.uid = Some(uid);
            }
        });
        self.clone()
    }
}

/// What a stream made of others is, by name.
pub(crate) struct Derived {
    pub(crate) site: CallSite,
    pub(crate) parents: Vec<StreamId>,
    pub(crate) slide: Duration,
}

pub(crate) fn derive<U: Data>(
    graph: &Arc<GraphShared>,
    derived: Derived,
    compute: impl FnMut(&Batch<'_>) -> Result<Option<Rdd<U>>> + Send + 'static,
) -> DStream<U> {
    let Derived { site, parents, slide } = derived;
    derive_as(graph, StreamSpec::new(site, slide, parents), compute)
}

/// As [`derive`], for a stream of which there is more to say.
pub(crate) fn derive_as<U: Data>(
    graph: &Arc<GraphShared>,
    spec: StreamSpec,
    compute: impl FnMut(&Batch<'_>) -> Result<Option<Rdd<U>>> + Send + 'static,
) -> DStream<U> {
    let id =
        graph.add(spec.site, |graph, _| graph.add(spec, StreamKind::Derived(Box::new(NodeFn::<U, _>::new(compute)))));
    DStream { id, graph: Arc::clone(graph), item: PhantomData }
}

/// The Rdds of a stream are saved element by element.
pub(crate) fn mark<T: ExchangeData>() -> SaveForm {
    SaveForm {
        mark: Arc::new(|rdd| {
            if let Some(rdd) = rdd.typed::<T>() {
                rdd.checkpoint();
            }
        }),
        read: Arc::new(|context, saved, partitions, site| {
            AnyRdd::new(&context.saved_rdd::<T>(saved, partitions, site))
        }),
        shape: Arc::new(shape_of::<T>),
    }
}

/// The Rdds of a state's tables are saved in the tables' own form, in the background.
pub(crate) fn mark_table<T: HasTable>() -> SaveForm {
    in_form(Saved::<T>::default, table_shape::<T>)
}

/// The Rdds of a state's rows are saved in a form of their own, in the background.
pub(crate) fn mark_rows<K: Key, S: ExchangeData>() -> SaveForm {
    let form = SavedRows::<K, S>::default();
    in_form(move || form.clone(), row_shape::<K, S>)
}

fn in_form<F: SaveAs>(
    form: impl Fn() -> F + Send + Sync + 'static,
    shape: impl Fn() -> String + Send + Sync + 'static,
) -> SaveForm {
    let chain = Chain::default();
    SaveForm {
        mark: Arc::new(move |rdd| {
            if let Some(rdd) = rdd.typed::<F::Item>() {
                rdd.checkpoint_as(form(), &chain);
            }
        }),
        read: Arc::new(|context, saved, partitions, site| {
            AnyRdd::new(&context.saved_rdd_as::<F>(saved, partitions, site))
        }),
        shape: Arc::new(shape),
    }
}

/// As [`mark_table`], for keys and states that are bytes: what is in them is told beside.
pub(crate) fn mark_table_of<T: HasTable>(content: String) -> SaveForm {
    in_form(Saved::<T>::default, move || format!("{} of {content}", table_shape::<T>()))
}

/// Tells the shape of a state's rows.
pub(crate) fn row_shape<K: Key, S: ExchangeData>() -> String {
    format!("{} => {}", shape_of::<K>(), shape_of::<S>())
}

/// Tells the shape of a state's table: keys and states, and what is written beside them.
pub(crate) fn table_shape<T: HasTable>() -> String {
    let rest = shape_of::<T::Rest>();
    let beside = if rest == "()" { String::new() } else { format!(", gave {rest}") };
    format!("{} => {}{beside}", shape_of::<T::Key>(), shape_of::<T::State>())
}

/// Has the Rdds of a stream saved every `interval`; keeps a mistake if that does not fit.
pub(crate) fn save_every(graph: &GraphShared, id: StreamId, interval: Duration, form: SaveForm, site: CallSite) {
    let slide = graph.ask(|graph| graph.slots.get(id.0).map(|slot| slot.spec.slide)).flatten();
    let slide = slide.unwrap_or(graph.interval());
    if interval.is_zero() || !interval.as_nanos().is_multiple_of(slide.as_nanos().max(1)) {
        let text = format!("checkpoint interval {interval:?} is not a multiple of the stream's slide {slide:?}");
        graph.fault(Error::new(ErrorKind::Graph, text).at(site));
        return;
    }
    graph.change(site, |graph| {
        let saved_by = graph.slots.get(id.0).and_then(|slot| slot.spec.saved_by.clone());
        let (id, form) = saved_by.unwrap_or((id, form));
        if let Some(slot) = graph.slots.get_mut(id.0) {
            slot.spec.saving.every = Some(interval);
            slot.spec.saving.form = Some(form);
        }
    });
}

pub(crate) fn handle<T>(id: StreamId, graph: &Arc<GraphShared>) -> DStream<T> {
    DStream { id, graph: Arc::clone(graph), item: PhantomData }
}

impl<T: Data> DStream<T> {
    /// Applies an operation on Rdds to each batch; a batch without an Rdd stays without one (S-13).
    #[doc(hidden)]
    pub fn lift<U: Data>(&self, site: CallSite, f: impl Fn(Rdd<T>, Time) -> Rdd<U> + Send + 'static) -> DStream<U> {
        let parent = self.clone();
        let derived = Derived { site, parents: vec![self.id], slide: self.slide() };
        derive(&self.graph, derived, move |batch| {
            // What the operation calls inside is laid at the program's line.
            Ok(batch.rdd(&parent).map(|rdd| CallSite::scope(Some(site), || f(rdd, batch.time()))))
        })
    }

    /// Applies `f` to each element.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_testkit::doc::*;
    /// let table = show([vec![1, 2], vec![3]], |numbers| numbers.map(|x| x * 10));
    /// assert_eq!(table, "1s 10 20\n2s 30");
    /// ```
    ///
    /// # Cost
    ///
    /// One pass; nothing is allocated per element but what `f` allocates.
    ///
    /// # Spark
    ///
    /// `DStream.map`, DS08.
    #[track_caller]
    pub fn map<U: Data>(&self, f: impl Fn(T) -> U + Send + Sync + 'static) -> DStream<U> {
        let site = CallSite::here("map");
        let f = Closure::new(f, site);
        self.lift(site, move |rdd, _| rdd.map_shared(f.clone()))
    }

    /// Keeps the elements for which `keep` holds.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_testkit::doc::*;
    /// let table = show([vec![1, 2], vec![3]], |numbers| numbers.filter(|x| x % 2 == 1));
    /// assert_eq!(table, "1s 1\n2s 3");
    /// ```
    ///
    /// # Spark
    ///
    /// `DStream.filter`, DS10.
    #[track_caller]
    pub fn filter(&self, keep: impl Fn(&T) -> bool + Send + Sync + 'static) -> DStream<T> {
        let site = CallSite::here("filter");
        let keep = Closure::new(keep, site);
        self.lift(site, move |rdd, _| rdd.filter_shared(keep.clone()))
    }

    /// Applies `f` to each element and gives all elements of what it returns: a `Vec`, an `Option`, an iterator that
    /// owns what it gives.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_testkit::doc::*;
    /// let table = show([vec!["to be"]], |lines| lines.flat_map(|line| line.split(' ')));
    /// assert_eq!(table, "1s be to");
    /// ```
    ///
    /// # Spark
    ///
    /// `DStream.flatMap`, DS09.
    #[track_caller]
    pub fn flat_map<I>(&self, f: impl Fn(T) -> I + Send + Sync + 'static) -> DStream<I::Item>
    where
        I: IntoIterator + 'static,
        I::Item: Data,
        I::IntoIter: Send + 'static,
    {
        let site = CallSite::here("flat_map");
        let f = Closure::new(f, site);
        self.lift(site, move |rdd, _| rdd.flat_map_shared(f.clone()))
    }

    /// Applies `f` to each element; `f` pushes what it gives into the buffer that it is handed, so it may borrow from
    /// its argument.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_testkit::doc::*;
    /// let table = show([vec!["to be"]], |lines| {
    ///     lines.flat_map_into(|line, out| out.extend(line.bytes().filter(|b| *b == b'b')))
    /// });
    /// assert_eq!(table, "1s 98");
    /// ```
    #[track_caller]
    pub fn flat_map_into<U: Data>(&self, f: impl Fn(T, &mut Vec<U>) + Send + Sync + 'static) -> DStream<U> {
        let site = CallSite::here("flat_map_into");
        let f = Closure::new(f, site);
        self.lift(site, move |rdd, _| rdd.flat_map_into_shared(f.clone()))
    }

    /// Gives each partition as one vector.
    ///
    /// # Spark
    ///
    /// `DStream.glom`, DS11.
    #[track_caller]
    pub fn glom(&self) -> DStream<Vec<T>> {
        self.lift(CallSite::here("glom"), |rdd, _| rdd.glom())
    }

    /// Hands each partition, also an empty one, to `f` as an iterator and gives what `f`'s iterator gives.
    ///
    /// # Spark
    ///
    /// `DStream.mapPartitions`, DS12.
    #[track_caller]
    pub fn map_partitions<I>(&self, f: impl Fn(PartitionIter<T>) -> I + Send + Sync + 'static) -> DStream<I::Item>
    where
        I: IntoIterator + 'static,
        I::Item: Data,
        I::IntoIter: Send + 'static,
    {
        let site = CallSite::here("map_partitions");
        let f = Closure::new(f, site);
        self.lift(site, move |rdd, _| rdd.map_partitions_shared(f.clone(), None))
    }

    /// As [`map_partitions`](Self::map_partitions), for a closure that leaves each key in its partition.
    ///
    /// # Spark
    ///
    /// `DStream.mapPartitions` with `preservePartitioning = true`, DS12.
    #[track_caller]
    pub fn map_partitions_preserving<I>(
        &self,
        f: impl Fn(PartitionIter<T>) -> I + Send + Sync + 'static,
    ) -> DStream<I::Item>
    where
        I: IntoIterator + 'static,
        I::Item: Data,
        I::IntoIter: Send + 'static,
    {
        let site = CallSite::here("map_partitions_preserving");
        let f = Closure::new(f, site);
        self.lift(site, move |rdd, _| rdd.map_partitions_shared(f.clone(), rdd.partitioner().cloned()))
    }

    /// Applies `f` to each batch's Rdd and its time: any operation on Rdds, also with Rdds from elsewhere.
    ///
    /// `f` runs on the driver while the batch is planned (S-15), and again should the batch be planned again, so it
    /// must give the same for the same batch. An action inside it holds up the batches behind (S-16). An error or a
    /// panic of `f` fails the batch.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_testkit::doc::*;
    /// let table = show([vec![3, 1, 2]], |numbers| numbers.transform(|rdd, _time| rdd.sort_by(|x| *x)));
    /// assert_eq!(table, "1s 1 2 3");
    /// ```
    ///
    /// # Errors
    ///
    /// A batch in which the parent has no Rdd fails: there is nothing to transform.
    ///
    /// # Spark
    ///
    /// `DStream.transform`, DS18. `f` cannot return null here.
    #[track_caller]
    pub fn transform<U: Data>(&self, f: impl Fn(Rdd<T>, Time) -> Rdd<U> + Send + 'static) -> DStream<U> {
        let site = CallSite::here("transform");
        let parent = self.clone();
        let derived = Derived { site, parents: vec![self.id], slide: self.slide() };
        derive(&self.graph, derived, move |batch| {
            let rdd = batch.rdd(&parent).ok_or_else(|| no_rdd("transform", batch.time()))?;
            Ok(Some(f(rdd, batch.time())))
        })
    }

    /// Keeps each batch's partitions in memory, for outputs and streams that read it more than once.
    ///
    /// # Spark
    ///
    /// `DStream.cache`, DS06; there it keeps bytes, here the values, as elements need not be able to travel.
    #[track_caller]
    pub fn cache(&self) -> DStream<T> {
        self.keep_as(StorageLevel::MEMORY_ONLY, cached::<T>(), CallSite::here("cache"))
    }

    /// Has the stream saved as often as streams are that are made from their own past, unless the program says how often.
    pub(crate) fn saved_by_itself(&self, form: SaveForm, site: CallSite) {
        let id = self.id;
        self.graph.change(site, |graph| {
            if let Some(slot) = graph.slots.get_mut(id.0) {
                slot.spec.saving.form = Some(form);
            }
        });
    }

    /// Keeps each batch's partitions in memory, unless the program has said how they are kept.
    pub(crate) fn keep_live(&self, site: CallSite) {
        let kept =
            self.graph.ask(|graph| graph.slots.get(graph.keeper(self.id).0).is_some_and(|s| s.spec.keep.is_some()));
        if kept == Some(false) {
            self.keep_as(StorageLevel::MEMORY_ONLY, cached::<T>(), site);
        }
    }

    fn keep_as(&self, level: StorageLevel, keep: KeepRdd, site: CallSite) -> DStream<T> {
        let id = self.id;
        self.graph.change(site, |graph| {
            let id = graph.keeper(id);
            if let Some(slot) = graph.slots.get_mut(id.0) {
                slot.spec.level = level;
                slot.spec.keep = (!level.is_none()).then_some(keep);
            }
        });
        self.clone()
    }
}

fn cached<T: Data>() -> KeepRdd {
    Arc::new(|rdd| {
        if let Some(rdd) = rdd.typed::<T>() {
            rdd.cache();
        }
    })
}

/// The error of an operation that needs an Rdd and has none.
pub(crate) fn no_rdd(what: &str, time: Time) -> Error {
    Error::new(ErrorKind::Graph, format!("{what} needs an Rdd of each parent, and one has none at {time}"))
}

impl<T: ExchangeData> DStream<T> {
    /// Keeps each batch's partitions as `level` says, until the batch is forgotten.
    ///
    /// # Spark
    ///
    /// `DStream.persist`, DS05. After the start it is an error (S-72).
    #[track_caller]
    pub fn persist(&self, level: StorageLevel) -> DStream<T> {
        let keep = move |rdd: &millstream_core::AnyRdd| {
            if let Some(rdd) = rdd.typed::<T>() {
                rdd.persist(level);
            }
        };
        self.keep_as(level, Arc::new(keep), CallSite::here("persist"))
    }

    /// Spreads each batch evenly over exactly `n` partitions.
    ///
    /// # Cost
    ///
    /// Every element crosses a shuffle.
    ///
    /// # Spark
    ///
    /// `DStream.repartition`, DS13.
    #[track_caller]
    pub fn repartition(&self, n: usize) -> DStream<T> {
        let site = CallSite::here("repartition");
        if n == 0 {
            self.graph.fault(Error::new(ErrorKind::Graph, "a stream cannot have 0 partitions").at(site));
        }
        self.lift(site, move |rdd, _| rdd.repartition(n))
    }

    /// Reduces each batch to one element with `f`. An empty batch gives none (S-64).
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_testkit::doc::*;
    /// let table = show([vec![1, 2, 3], vec![]], |numbers| numbers.reduce(|a, b| a + b));
    /// assert_eq!(table, "1s 6");
    /// ```
    ///
    /// # Spark
    ///
    /// `DStream.reduce`, DS14.
    #[track_caller]
    pub fn reduce(&self, f: impl Fn(T, T) -> T + Send + Sync + 'static) -> DStream<T> {
        let site = CallSite::here("reduce");
        self.reduce_shared(Closure::new(f, site), site)
    }

    pub(crate) fn reduce_shared(
        &self,
        f: Closure<impl Fn(T, T) -> T + Send + Sync + 'static>,
        site: CallSite,
    ) -> DStream<T> {
        self.lift(site, move |rdd, _| {
            rdd.map(|item| ((), item)).reduce_by_key_shared(f.clone(), Partitioner::hash(1)).values()
        })
    }

    /// Saves the stream's Rdds every `interval`, and cuts their lineage there.
    ///
    /// Partitions are kept in memory meanwhile, so that what is saved is not computed twice;
    /// [`persist`](Self::persist), before or after, says otherwise how.
    ///
    /// # Errors
    ///
    /// Reported by `start()`: the interval is not a multiple of the stream's slide; or there is no checkpoint directory.
    ///
    /// # Spark
    ///
    /// `DStream.checkpoint`, DS07; there it takes the place of a level that was said before. After the start it is an
    /// error (S-72).
    #[track_caller]
    pub fn checkpoint(&self, interval: Duration) -> DStream<T> {
        let site = CallSite::here("checkpoint");
        save_every(&self.graph, self.id, interval, mark::<T>(), site);
        // What is saved in the place of this stream is kept already.
        let is_own = self.graph.ask(|graph| graph.slots.get(self.id.0).is_some_and(|s| s.spec.saved_by.is_none()));
        if is_own == Some(true) {
            self.keep_live(site);
        }
        self.clone()
    }
}

impl<T: Data> DStream<T> {
    /// Gives the number of elements of each batch: always one, 0 for an empty batch (S-64).
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_testkit::doc::*;
    /// let table = show([vec![1, 2, 3], vec![]], |numbers| numbers.count());
    /// assert_eq!(table, "1s 3\n2s 0");
    /// ```
    ///
    /// # Spark
    ///
    /// `DStream.count`, DS15.
    #[track_caller]
    pub fn count(&self) -> DStream<u64> {
        self.lift(CallSite::here("count"), |rdd, _| {
            let zero = rdd.context().parallelize(vec![((), 0u64)], 1);
            let counts = rdd.map_partitions(|items| [((), items.count() as u64)]);
            counts.union(&zero).reduce_by_key_partitioned(|a, b| a + b, 1).values()
        })
    }
}

impl<T: Key> DStream<T> {
    /// Gives how often each element occurs in each batch.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_testkit::doc::*;
    /// let table = show([vec!["a", "b", "a"]], |words| words.count_by_value());
    /// assert_eq!(table, "1s (a,2) (b,1)");
    /// ```
    ///
    /// # Spark
    ///
    /// `DStream.countByValue`, DS16.
    #[track_caller]
    pub fn count_by_value(&self) -> DStream<(T, u64)> {
        let site = CallSite::here("count_by_value");
        self.lift(site, |rdd, _| {
            let n = rdd.context().default_parallelism();
            rdd.map(|item| (item, 1u64)).reduce_by_key_partitioned(|a, b| a + b, n)
        })
    }

    /// As [`count_by_value`](Self::count_by_value), with the elements placed by `partitioner`, which may be a number.
    #[track_caller]
    pub fn count_by_value_partitioned(&self, partitioner: impl Into<Partitioner>) -> DStream<(T, u64)> {
        let (partitioner, site) = (partitioner.into(), CallSite::here("count_by_value_partitioned"));
        self.lift(site, move |rdd, _| {
            rdd.map(|item| (item, 1u64)).reduce_by_key_partitioned(|a, b| a + b, &partitioner)
        })
    }
}
