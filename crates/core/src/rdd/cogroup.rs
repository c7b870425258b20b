//! Two Rdds brought together by key: cogroup, and the joins made from it.

use std::marker::PhantomData;
use std::sync::Arc;

use super::Rdd;
use super::blocks::ShuffleReader;
use super::lineage::{Compute, Dependency, Node, NodeParts, Opened, ShuffleDep, ShuffleRead};
use super::narrow::FlatMap;
use super::pipeline::{CHUNK, PartitionReader, Pipeline};
use super::shuffled::{Aggregator, pair_write};
use super::spilled::{SpillTable, TableReader};
use crate::data::{Data, ExchangeData, Key};
use crate::error::{CallSite, Result};
use crate::partitioner::Partitioner;
use crate::plan::ship::{Closure, PlanReader, PlanWriter};
use crate::plan::{self, TaskContext, set_site};

/// Where one side comes from: partitions that are in place, or a shuffle.
#[derive(Clone)]
enum Side {
    InPlace(Arc<Node>),
    Shuffled(ShuffleRead),
}

impl Side {
    /// Gives the pairs of the side to `each`, a chunk at a time, in order.
    fn read<K: Key, V: ExchangeData>(
        &self,
        p: usize,
        task: &TaskContext,
        each: impl FnMut(&mut Vec<(K, V)>) -> Result<()>,
    ) -> Result<()> {
        match self {
            Side::InPlace(node) => {
                // Keys are compared by who asks, and not by what is opened.
                let site = plan::site();
                let mut pipeline = Pipeline::open(node, p, task)?;
                set_site(site);
                pipeline.for_each_chunk(each)
            }
            Side::Shuffled(shuffle) => ShuffleReader::new(*shuffle, p, task).for_each_chunk(each),
        }
    }
}

/// A value of one side or the other.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
enum Either<V, W> {
    Left(V),
    Right(W),
}

/// Collects the values of both sides, in the order in which they come.
struct Both<V, W>(PhantomData<fn() -> (V, W)>);

impl<V: ExchangeData, W: ExchangeData> Aggregator for Both<V, W> {
    type Value = Either<V, W>;
    type Combined = (Vec<V>, Vec<W>);
    const IN_PLACE: bool = true;
    const GROWS: bool = true;

    fn create(&self, value: Either<V, W>) -> (Vec<V>, Vec<W>) {
        match value {
            Either::Left(value) => (vec![value], Vec::new()),
            Either::Right(value) => (Vec::new(), vec![value]),
        }
    }

    fn add(&self, mut lists: (Vec<V>, Vec<W>), value: Either<V, W>) -> (Vec<V>, Vec<W>) {
        self.add_to(&mut lists, value);
        lists
    }

    fn merge(&self, mut a: (Vec<V>, Vec<W>), b: (Vec<V>, Vec<W>)) -> (Vec<V>, Vec<W>) {
        self.merge_into(&mut a, b);
        a
    }

    #[inline]
    fn add_to(&self, lists: &mut (Vec<V>, Vec<W>), value: Either<V, W>) {
        match value {
            Either::Left(value) => lists.0.push(value),
            Either::Right(value) => lists.1.push(value),
        }
    }

    fn merge_into(&self, a: &mut (Vec<V>, Vec<W>), b: (Vec<V>, Vec<W>)) {
        a.0.extend(b.0);
        a.1.extend(b.1);
    }

    fn ship(&self, _: &mut PlanWriter) -> Result<()> {
        Ok(())
    }

    fn unship(_: &mut PlanReader<'_>) -> Result<Self> {
        Ok(Both(PhantomData))
    }
}

struct CoGroup<K, V, W> {
    /// The shuffles that are read, for sides that are not in place.
    shuffles: [Option<ShuffleRead>; 2],
    of: PhantomData<fn() -> (K, V, W)>,
}

impl<K: Key, V: ExchangeData, W: ExchangeData> Compute for CoGroup<K, V, W> {
    fn open<'a>(&'a self, p: usize, parents: &'a [Dependency], task: &TaskContext) -> Result<Opened<'a>> {
        let side = |i: usize| match self.shuffles[i] {
            Some(shuffle) => Ok(Side::Shuffled(shuffle)),
            None => super::lineage::narrow(parents, i).map(|node| Side::InPlace(Arc::clone(node))),
        };
        let reader = CoGroupReader::<K, V, W> {
            sides: Some([side(0)?, side(1)?]),
            rows: None,
            partition: p,
            task: task.clone(),
        };
        Ok(Opened::Source(Box::new(reader)))
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|r: &mut PlanReader<'_>| {
            let compute: Box<dyn Compute> = Box::new(CoGroup::<K, V, W> { shuffles: r.value()?, of: PhantomData });
            Ok(Box::new(compute))
        });
        w.value(&self.shuffles)
    }
}

type Row<K, V, W> = (K, (Vec<V>, Vec<W>));

struct CoGroupReader<K, V, W> {
    sides: Option<[Side; 2]>,
    rows: Option<TableReader<K, (Vec<V>, Vec<W>)>>,
    partition: usize,
    task: TaskContext,
}

impl<K: Key, V: ExchangeData, W: ExchangeData> PartitionReader for CoGroupReader<K, V, W> {
    type Item = Row<K, V, W>;

    fn read_chunk(&mut self, out: &mut Vec<Row<K, V, W>>) -> Result<bool> {
        if let Some([left, right]) = self.sides.take() {
            let both = Both(PhantomData);
            let mut table = SpillTable::new(&both, self.task.env(), 0);
            let mut values: Vec<(K, Either<V, W>)> = Vec::with_capacity(CHUNK);
            left.read::<K, V>(self.partition, &self.task, |chunk| {
                values.extend(chunk.drain(..).map(|(key, value)| (key, Either::Left(value))));
                table.add_chunk(&mut values)
            })?;
            right.read::<K, W>(self.partition, &self.task, |chunk| {
                values.extend(chunk.drain(..).map(|(key, value)| (key, Either::Right(value))));
                table.add_chunk(&mut values)
            })?;
            self.rows = Some(table.finish()?);
        }
        match &mut self.rows {
            Some(rows) => rows.read_chunk(out),
            None => Ok(false),
        }
    }
}

/// All pairs of a key's values, one by one: of a key that both sides have often there are more than fit in memory.
struct Product<K, V, W> {
    key: K,
    left: Vec<V>,
    right: Vec<W>,
    /// The places of the next pair.
    next: (usize, usize),
}

fn product<K, V, W>(key: K, left: Vec<V>, right: Vec<W>) -> Product<K, V, W> {
    Product { key, left, right, next: (0, 0) }
}

impl<K: Clone, V: Clone, W: Clone> Iterator for Product<K, V, W> {
    type Item = (K, (V, W));

    fn next(&mut self) -> Option<(K, (V, W))> {
        let (l, r) = self.next;
        let pair = (self.left.get(l)?.clone(), self.right.get(r)?.clone());
        self.next = if r + 1 == self.right.len() { (l + 1, 0) } else { (l, r + 1) };
        Some((self.key.clone(), pair))
    }
}

impl<R: Data> Rdd<R> {
    /// Gives the pairs of each row, with the keys where they are.
    fn paired<I, F: Fn(R) -> I + Send + Sync + 'static>(&self, pairs: Closure<F>) -> Rdd<I::Item>
    where
        I: Iterator<Item: Data> + Send + 'static,
    {
        let site = pairs.site();
        self.narrow(FlatMap { f: pairs, of: PhantomData }, site, self.partitioner().cloned())
    }
}

impl<K: Key, V: ExchangeData> Rdd<(K, V)> {
    fn partitioner_with<W: ExchangeData>(&self, other: &Rdd<(K, W)>) -> Partitioner {
        let theirs = other.partitioner().map(|p| (p, other.num_partitions()));
        self.default_partitioner(&[theirs], other.num_partitions())
    }

    fn cogroup_at<W: ExchangeData>(
        &self,
        other: &Rdd<(K, W)>,
        partitioner: Partitioner,
        site: CallSite,
    ) -> Rdd<(K, (Vec<V>, Vec<W>))> {
        let (left, right) = match (self.side_of(&partitioner, site), other.side_of(&partitioner, site)) {
            (Ok(left), Ok(right)) => (left, right),
            (Err(error), _) | (_, Err(error)) => return Rdd::failed(error.at(site), self.context()),
        };
        let read = |dependency: &Dependency| match dependency {
            Dependency::Shuffle(shuffle) => Some(shuffle.read()),
            _ => None,
        };
        Rdd::from_node(
            Node::new::<Row<K, V, W>>(NodeParts {
                site,
                partitions: partitioner.num_partitions(),
                partitioner: Some(partitioner),
                compute: CoGroup::<K, V, W> { shuffles: [read(&left), read(&right)], of: PhantomData },
                parents: vec![left, right],
            }),
            self.context(),
        )
    }

    /// Returns how this side is read: where it is, or through a shuffle.
    pub(crate) fn side_of(&self, partitioner: &Partitioner, site: CallSite) -> Result<Dependency> {
        if self.partitioner() == Some(partitioner) {
            return Ok(Dependency::Narrow(Arc::clone(self.node())));
        }
        let write = pair_write::<K, V>(partitioner.placement::<K>()?);
        let (env, partitions) = (Arc::clone(self.context().env()), partitioner.num_partitions());
        Ok(Dependency::Shuffle(ShuffleDep::new(Arc::clone(self.node()), partitions, write, env, site)))
    }

    /// Brings together, for each key of either side, its values here and its values in `other`.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let a = context.parallelize(vec![(1u8, 'a')], 1);
    /// let b = context.parallelize(vec![(1u8, 10), (1, 11)], 2);
    /// assert_eq!(a.cogroup(&b).collect()?, [(1, (vec!['a'], vec![10, 11]))]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Cost
    ///
    /// One shuffle for each side whose keys are not placed already.
    ///
    /// # Spark
    ///
    /// `PairRDDFunctions.cogroup`, PR12.
    #[track_caller]
    pub fn cogroup<W: ExchangeData>(&self, other: &Rdd<(K, W)>) -> Rdd<(K, (Vec<V>, Vec<W>))> {
        self.cogroup_at(other, self.partitioner_with(other), CallSite::here("cogroup"))
    }

    /// As [`cogroup`](Self::cogroup), with the keys placed by `partitioner`, which may be a number.
    #[track_caller]
    pub fn cogroup_partitioned<W: ExchangeData>(
        &self,
        other: &Rdd<(K, W)>,
        partitioner: impl Into<Partitioner>,
    ) -> Rdd<(K, (Vec<V>, Vec<W>))> {
        self.cogroup_at(other, partitioner.into(), CallSite::here("cogroup_partitioned"))
    }
}

/// Declares a join twice: with the default partitioner, and with a given one.
macro_rules! join {
    ($name:ident, $partitioned:ident, $out:ty, $pairs:expr, $doc:literal, $spark:literal) => {
        impl<K: Key, V: ExchangeData> Rdd<(K, V)> {
            #[doc = $doc]
            ///
            /// A key that occurs more than once on both sides gives all pairs.
            ///
            /// # Example
            ///
            /// ```
            /// # let context = millstream_core::Context::new("local[2]", "doc")?;
            /// let a = context.parallelize(vec![(1u8, 'a')], 1);
            /// let b = context.parallelize(vec![(1u8, 10), (1, 11)], 2);
            #[doc = concat!("assert_eq!(a.", stringify!($name), "(&b).count()?, 2);")]
            /// # Ok::<(), millstream_core::Error>(())
            /// ```
            ///
            /// # Spark
            ///
            #[doc = $spark]
            #[track_caller]
            pub fn $name<W: ExchangeData>(&self, other: &Rdd<(K, W)>) -> Rdd<(K, $out)> {
                let site = CallSite::here(stringify!($name));
                self.cogroup_at(other, self.partitioner_with(other), site).paired(Closure::new($pairs, site))
            }

            #[doc = concat!("As [`", stringify!($name), "`](Self::", stringify!($name), "), with the keys placed by `partitioner`, which may be a number.")]
            #[track_caller]
            pub fn $partitioned<W: ExchangeData>(
                &self,
                other: &Rdd<(K, W)>,
                partitioner: impl Into<Partitioner>,
            ) -> Rdd<(K, $out)> {
                let site = CallSite::here(stringify!($partitioned));
                self.cogroup_at(other, partitioner.into(), site).paired(Closure::new($pairs, site))
            }
        }
    };
}

fn optional<V>(values: Vec<V>) -> Vec<Option<V>> {
    if values.is_empty() { vec![None] } else { values.into_iter().map(Some).collect() }
}

join!(
    join,
    join_partitioned,
    (V, W),
    |(key, (v, w)): Row<K, V, W>| product(key, v, w),
    "Pairs the values of each key that both sides have.",
    "`PairRDDFunctions.join`, PR08."
);
join!(
    left_outer_join,
    left_outer_join_partitioned,
    (V, Option<W>),
    |(key, (v, w)): Row<K, V, W>| product(key, v, optional(w)),
    "Pairs the values of each key of this side with those of `other`, or with `None`.",
    "`PairRDDFunctions.leftOuterJoin`, PR09."
);
join!(
    right_outer_join,
    right_outer_join_partitioned,
    (Option<V>, W),
    |(key, (v, w)): Row<K, V, W>| product(key, optional(v), w),
    "Pairs the values of each key of `other` with those of this side, or with `None`.",
    "`PairRDDFunctions.rightOuterJoin`, PR10."
);
join!(
    full_outer_join,
    full_outer_join_partitioned,
    (Option<V>, Option<W>),
    |(key, (v, w)): Row<K, V, W>| product(key, optional(v), optional(w)),
    "Pairs the values of each key of either side, with `None` where a side has none.",
    "`PairRDDFunctions.fullOuterJoin`, PR11."
);
