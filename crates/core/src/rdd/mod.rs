//! Rdds: the handle and its basic operations.

pub(crate) mod actions;
mod aggregated;
mod approx;
mod blocks;
mod cartesian;
mod cogroup;
mod distinct_approx;
mod gzip;
mod indexed;
mod json;
pub(crate) mod lineage;
pub(crate) mod lines;
mod local_iter;
mod narrow;
mod numbers;
mod ordered;
pub(crate) mod output;
mod pair;
pub(crate) mod paths;
mod persisted;
mod piped;
pub(crate) mod pipeline;
mod placed;
mod publish;
mod random;
mod range;
mod reader;
mod sampled;
mod sampled_keys;
pub(crate) mod saved;
pub(crate) mod saver;
pub(crate) mod second_copy;
mod sequence;
pub(crate) mod sequence_reader;
mod sets;
mod shuffled;
mod sorted;
pub(crate) mod sources;
mod spilled;
mod splits;
mod step;
mod take_sample;
mod tree;
pub(crate) mod union;
mod whole_files;
mod writers;
mod zipped;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

pub use self::actions::Action;
pub use self::approx::PartialResult;
pub use self::lineage::{Dependency, Node, RddId, ShuffleId};
pub use self::local_iter::LocalIterator;
pub use self::numbers::Number;
pub use self::output::overwriting;
use self::persisted::Persisted;
pub use self::piped::Pipe;
pub use self::pipeline::PartitionIter;
#[doc(hidden)]
pub use self::publish::{Stamp, publishing};
pub use self::saved::{Chain, SaveAs, Saved};
pub use self::second_copy::SecondCopy;
pub use self::sequence::{SequenceFile, SequenceFiles, Writable};
use self::shuffled::Moved;
pub use self::splits::{InputSplit, SplitReader};
pub use self::step::{Pass, Step, pass_over, step_over};
pub use self::writers::{Csv, CsvFile, JsonLines, RecordWriter, TextLines};
use crate::context::Context;
use crate::data::{Data, ExchangeData};
use crate::error::{CallSite, Error, ErrorKind, Result};
use crate::partitioner::Partitioner;
use crate::plan::JobPlan;
use crate::scope::Scope;
use crate::storage::{Block, StorageLevel};

/// A lazy, typed, partitioned collection: what it is made from, and how.
///
/// Nothing is computed until an action ([`collect`](Rdd::collect), [`count`](Rdd::count), …) asks. Every operation
/// returns a new Rdd at once; mistakes and failures are reported by the action. An Rdd is cheap to clone, and can be
/// computed again as often as needed: each partition knows its lineage.
///
/// The five properties of an Rdd are its partitions, how one is computed, what it depends on, the partitioner that
/// placed its keys (if one did), and whether its partitions are kept.
///
/// # Example
///
/// ```
/// use millstream_core::Context;
///
/// let context = Context::new("local[2]", "evens")?;
/// let evens = context.parallelize((0..10u64).collect(), 4).filter(|x| x % 2 == 0);
/// assert_eq!(evens.map(|x| x * 10).collect()?, [0, 20, 40, 60, 80]);
/// # Ok::<(), millstream_core::Error>(())
/// ```
///
/// # Spark
///
/// `RDD`, api section 1.12.
pub struct Rdd<T> {
    node: Arc<Node>,
    context: Context,
    item: PhantomData<fn() -> T>,
}

impl<T> Clone for Rdd<T> {
    fn clone(&self) -> Rdd<T> {
        Rdd { node: Arc::clone(&self.node), context: self.context.clone(), item: PhantomData }
    }
}

impl<T> fmt::Debug for Rdd<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rdd {:?}", self.node)
    }
}

impl<T> Rdd<T> {
    pub(crate) fn from_node(node: Arc<Node>, context: &Context) -> Rdd<T> {
        Rdd { node, context: context.clone(), item: PhantomData }
    }

    /// Returns the operation of a stream and the batch that the Rdd was made for, if it was made for any: what it is shown together
    /// with.
    pub fn scope(&self) -> Option<Scope> {
        self.node.scope()
    }

    /// Returns the node that the Rdd is a handle of.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Returns the context that the Rdd belongs to. Spark's `context`, RD35.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Returns the Rdd's id, unique within the process. Spark's `id`, RD35.
    pub fn id(&self) -> RddId {
        self.node.id()
    }

    /// Returns the number of partitions. Spark's `getNumPartitions`, RD35.
    pub fn num_partitions(&self) -> usize {
        self.node.num_partitions()
    }

    /// Returns the partitioner that placed the keys, if one did. Spark's `partitioner`, RD35.
    pub fn partitioner(&self) -> Option<&Partitioner> {
        self.node.partitioner()
    }
}

impl<T: Data> Rdd<T> {
    /// Keeps partitions in memory after they were first computed.
    ///
    /// Elements need not be able to travel: it keeps the values themselves. What does not fit is computed again.
    ///
    /// # Spark
    ///
    /// `RDD.cache`, RD28.
    #[track_caller]
    pub fn cache(&self) -> Rdd<T> {
        self.persist_as(Persisted::live::<T>(Arc::clone(self.context.env())), "cache")
    }

    #[track_caller]
    pub(crate) fn persist_as(&self, persisted: Persisted, op: &'static str) -> Rdd<T> {
        if let Some(before) = self.node.persisted() {
            if before.level() == persisted.level() {
                return self.clone();
            }
            let error = Error::new(
                ErrorKind::Config,
                format!(
                    "the storage level is {} already and cannot be changed to {}; unpersist first",
                    before.level(),
                    persisted.level()
                ),
            );
            return Rdd::failed(error.at(CallSite::here(op)), &self.context);
        }
        if !persisted.level().is_none() {
            self.node.set_persisted(Some(Arc::new(persisted)));
            self.context.note_persisted(&self.node);
        }
        self.clone()
    }

    /// Lets go of kept partitions, and keeps none from now on.
    ///
    /// # Spark
    ///
    /// `RDD.unpersist`, RD29.
    pub fn unpersist(&self) {
        if let Some(before) = self.node.set_persisted(None) {
            before.remove_blocks(self.node.id(), self.node.num_partitions());
        }
    }

    /// Returns how partitions are kept. Spark's `getStorageLevel`, RD30.
    pub fn storage_level(&self) -> StorageLevel {
        self.node.persisted().map_or(StorageLevel::NONE, |p| p.level())
    }

    /// Returns the stages of a job on this Rdd, without running it. Its `Debug` form is for people.
    pub fn explain(&self) -> JobPlan {
        self.context.plan_count(self)
    }

    /// Returns the lineage as text, a line an Rdd, indented at each shuffle.
    ///
    /// # Spark
    ///
    /// `RDD.toDebugString`, RD35.
    pub fn to_debug_string(&self) -> String {
        let mut text = String::new();
        let mut stack = vec![(Arc::clone(&self.node), 0usize)];
        let mut seen = std::collections::BTreeSet::new();
        while let Some((node, depth)) = stack.pop() {
            let again = if seen.insert(node.id()) { "" } else { " (as above)" };
            text.push_str(&format!("{:indent$}{node:?}{again}\n", "", indent = depth * 2));
            if !again.is_empty() {
                continue;
            }
            for dependency in node.lineage().dependencies().iter().rev() {
                match dependency {
                    Dependency::Narrow(parent) => stack.push((Arc::clone(parent), depth)),
                    Dependency::Shuffle(shuffle) => stack.push((Arc::clone(shuffle.parent()), depth + 1)),
                    Dependency::Cut => {}
                }
            }
        }
        text
    }
}

impl<T: ExchangeData> Rdd<T> {
    /// Spreads the elements evenly over exactly `n` partitions.
    ///
    /// # Cost
    ///
    /// Every element crosses a shuffle. To have fewer partitions, [`coalesce`](Rdd::coalesce) moves nothing.
    ///
    /// # Spark
    ///
    /// `RDD.repartition`, RD10. `n` of 0 is taken as 1.
    #[track_caller]
    pub fn repartition(&self, n: usize) -> Rdd<T> {
        let (n, site) = (n.max(1), CallSite::here("repartition"));
        if let Err(error) = crate::partitioner::check_partitions(n) {
            return Rdd::failed(error.at(site), &self.context);
        }
        let write: Arc<dyn lineage::ShuffleWrite> = Arc::new(RoundRobin::<T> { n, of: PhantomData });
        let env = Arc::clone(self.context.env());
        let shuffle = lineage::ShuffleDep::new(Arc::clone(&self.node), n, write, env, site);
        Rdd::from_node(
            Node::new::<T>(lineage::NodeParts {
                site,
                partitions: n,
                partitioner: None,
                compute: Moved::<T> { shuffle: shuffle.read(), of: PhantomData },
                parents: vec![Dependency::Shuffle(shuffle)],
            }),
            &self.context,
        )
    }
}

/// Deals elements out, one partition after the other, from a start that depends on the writing partition alone.
struct RoundRobin<T> {
    n: usize,
    of: PhantomData<fn(T)>,
}

impl<T: ExchangeData> lineage::ShuffleWrite for RoundRobin<T> {
    fn write(&self, pipeline: &mut pipeline::Pipeline, task: &crate::plan::TaskContext) -> Result<Vec<Block>> {
        let mut buckets = spilled::SpillBuckets::new(self.n, task.env());
        let mut next = crate::partitioner::place_hash(crate::partitioner::key_hash(&task.partition()), self.n);
        pipeline.for_each_chunk(|chunk: &mut Vec<T>| {
            buckets.expect(chunk)?;
            for item in chunk.drain(..) {
                buckets.push(next, item);
                next = if next + 1 == self.n { 0 } else { next + 1 };
            }
            Ok(())
        })?;
        buckets.finish()
    }

    fn ship(&self, w: &mut crate::plan::ship::PlanWriter) -> Result<()> {
        w.code(|r| {
            let write: Arc<dyn lineage::ShuffleWrite> = Arc::new(RoundRobin::<T> { n: r.value()?, of: PhantomData });
            Ok(Box::new(write))
        });
        w.value(&self.n)
    }
}

/// An Rdd whose element type is not known here, for those who keep Rdds of many types.
#[derive(Clone)]
pub struct AnyRdd {
    node: Arc<Node>,
    context: Context,
}

impl AnyRdd {
    /// Forgets the element type.
    pub fn new<T>(rdd: &Rdd<T>) -> AnyRdd {
        AnyRdd { node: Arc::clone(&rdd.node), context: rdd.context.clone() }
    }

    pub(crate) fn of_node(node: Arc<Node>, context: &Context) -> AnyRdd {
        AnyRdd { node, context: context.clone() }
    }

    /// Returns the Rdd, if its elements are of type `T`.
    pub fn typed<T: Data>(&self) -> Option<Rdd<T>> {
        self.node.holds::<T>().then(|| Rdd::from_node(Arc::clone(&self.node), &self.context))
    }

    /// Lets go of kept partitions, and keeps none from now on.
    pub fn unpersist(&self) {
        if let Some(before) = self.node.set_persisted(None) {
            before.remove_blocks(self.node.id(), self.node.num_partitions());
        }
    }

    /// Returns the operation of a stream and the batch that the Rdd was made for, if it was made for any: what it is shown together
    /// with.
    pub fn scope(&self) -> Option<Scope> {
        self.node.scope()
    }

    /// Returns the node.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Returns the context that the Rdd belongs to.
    pub fn context(&self) -> &Context {
        &self.context
    }
}

impl fmt::Debug for AnyRdd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rdd {:?}", self.node)
    }
}
