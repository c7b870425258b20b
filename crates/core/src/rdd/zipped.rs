//! Two Rdds side by side: zip and zip_partitions.

use std::marker::PhantomData;
use std::sync::Arc;

use super::Rdd;
use super::lineage::{Compute, Dependency, Node, NodeParts, Opened, narrow};
use super::pipeline::{CHUNK, PartitionIter, PartitionReader, Pipeline};
use super::reader::ErrorSlot;
use crate::data::Data;
use crate::error::{CallSite, Error, ErrorKind, Result};
use crate::partitioner::Partitioner;
use crate::plan::ship::{Closure, PlanReader, PlanWriter};
use crate::plan::{TaskContext, set_site};

impl<T: Data> Rdd<T> {
    /// Pairs each element with the element at the same place of `other`.
    ///
    /// Both must have as many partitions, and as many elements in each: one made from the other by
    /// [`map`](Self::map), say.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let numbers = context.parallelize(vec![1, 2, 3], 2);
    /// let squares = numbers.zip(&numbers.map(|x: i32| x * x));
    /// assert_eq!(squares.collect()?, [(1, 1), (2, 4), (3, 9)]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Unequal numbers of partitions are reported by the first action, as kind `Config`; unequal numbers of elements
    /// fail it, as kind `User`.
    ///
    /// # Cost
    ///
    /// One pass over both.
    ///
    /// # Spark
    ///
    /// `RDD.zip`, RD20.
    #[track_caller]
    pub fn zip<U: Data>(&self, other: &Rdd<U>) -> Rdd<(T, U)> {
        let compute = Zip::<T, U>(PhantomData);
        self.beside(other, compute, None, CallSite::here("zip"))
    }

    /// Hands each partition and the partition of the same number of `other` to `f`, as iterators, and gives what `f`'s
    /// iterator gives.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let a = context.parallelize(vec![1, 2, 3, 4], 2);
    /// let b = context.parallelize(vec![10, 20], 2);
    /// let sums = a.zip_partitions(&b, |a, b| [a.sum::<i32>() + b.sum::<i32>()]);
    /// assert_eq!(sums.collect()?, [13, 27]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Unequal numbers of partitions are reported by the first action, as kind `Config`. More than 200 of these one
    /// behind the other fail the job.
    ///
    /// # Spark
    ///
    /// `RDD.zipPartitions`, RD21. For three or four, zip what two give with the next.
    #[track_caller]
    pub fn zip_partitions<U: Data, I>(
        &self,
        other: &Rdd<U>,
        f: impl Fn(PartitionIter<T>, PartitionIter<U>) -> I + Send + Sync + 'static,
    ) -> Rdd<I::Item>
    where
        I: IntoIterator + 'static,
        I::Item: Data,
        I::IntoIter: Send + 'static,
    {
        self.zip_partitions_shared(other, Closure::new(f, CallSite::here("zip_partitions")), None)
    }

    /// As [`zip_partitions`](Self::zip_partitions), for a closure that leaves each key of this side in its partition.
    ///
    /// # Spark
    ///
    /// `RDD.zipPartitions` with `preservesPartitioning = true`, RD21.
    #[track_caller]
    pub fn zip_partitions_preserving<U: Data, I>(
        &self,
        other: &Rdd<U>,
        f: impl Fn(PartitionIter<T>, PartitionIter<U>) -> I + Send + Sync + 'static,
    ) -> Rdd<I::Item>
    where
        I: IntoIterator + 'static,
        I::Item: Data,
        I::IntoIter: Send + 'static,
    {
        let site = CallSite::here("zip_partitions_preserving");
        self.zip_partitions_shared(other, Closure::new(f, site), self.partitioner().cloned())
    }

    /// As [`zip_partitions`](Self::zip_partitions), with a closure that is shared by several Rdds.
    #[doc(hidden)]
    pub fn zip_partitions_shared<U: Data, I, F>(
        &self,
        other: &Rdd<U>,
        f: Closure<F>,
        partitioner: Option<Partitioner>,
    ) -> Rdd<I::Item>
    where
        I: IntoIterator + 'static,
        I::Item: Data,
        I::IntoIter: Send + 'static,
        F: Fn(PartitionIter<T>, PartitionIter<U>) -> I + Send + Sync + 'static,
    {
        let site = f.site();
        self.beside(other, ZipPartitions { f, of: PhantomData::<fn(T, U) -> I> }, partitioner, site)
    }

    fn beside<U: Data, O: Data>(
        &self,
        other: &Rdd<U>,
        compute: impl Compute,
        partitioner: Option<Partitioner>,
        site: CallSite,
    ) -> Rdd<O> {
        let (here, there) = (self.num_partitions(), other.num_partitions());
        if here != there {
            let text = format!("Rdds of unequal numbers of partitions cannot be zipped: {here} and {there}");
            return Rdd::failed(Error::new(ErrorKind::Config, text).at(site), self.context());
        }
        let narrow = |node: &Arc<Node>| Dependency::Narrow(Arc::clone(node));
        Rdd::from_node(
            Node::new::<O>(NodeParts {
                site,
                parents: vec![narrow(self.node()), narrow(other.node())],
                partitions: here,
                partitioner,
                compute,
            }),
            self.context(),
        )
    }
}

struct Zip<T, U>(PhantomData<fn(T, U)>);

impl<T: Data, U: Data> Compute for Zip<T, U> {
    fn open<'a>(&'a self, p: usize, parents: &'a [Dependency], task: &TaskContext) -> Result<Opened<'a>> {
        let sides = Sides::new(p, parents, task)?;
        Ok(Opened::Source(Box::new(ZipReader::<T, U> { sides, open: None, left: Vec::new(), right: Vec::new() })))
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|_| {
            let compute: Box<dyn Compute> = Box::new(Zip::<T, U>(PhantomData));
            Ok(Box::new(compute))
        });
        Ok(())
    }
}

/// The two partitions, to be opened when they are first read: opening them at once would go as deep as the lineage.
struct Sides {
    nodes: [Arc<Node>; 2],
    partition: usize,
    task: TaskContext,
}

impl Sides {
    fn new(partition: usize, parents: &[Dependency], task: &TaskContext) -> Result<Sides> {
        let nodes = [Arc::clone(narrow(parents, 0)?), Arc::clone(narrow(parents, 1)?)];
        Ok(Sides { nodes, partition, task: task.clone() })
    }

    fn open(&self) -> Result<[Pipeline; 2]> {
        let open = |i: usize| Pipeline::open(&self.nodes[i], self.partition, &self.task);
        Ok([open(0)?, open(1)?])
    }
}

struct ZipReader<T, U> {
    sides: Sides,
    open: Option<[Pipeline; 2]>,
    /// What has been read and not been paired.
    left: Vec<T>,
    right: Vec<U>,
}

impl<T: Data, U: Data> PartitionReader for ZipReader<T, U> {
    type Item = (T, U);

    fn read_chunk(&mut self, out: &mut Vec<(T, U)>) -> Result<bool> {
        if self.open.is_none() {
            self.open = Some(self.sides.open()?);
        }
        let Some([left, right]) = &mut self.open else { return Ok(false) };
        if self.left.is_empty() {
            left.read(&mut self.left)?;
        }
        if self.right.is_empty() {
            right.read(&mut self.right)?;
        }
        let count = self.left.len().min(self.right.len());
        if count == 0 && self.left.len() + self.right.len() > 0 {
            let (longer, shorter) = if self.right.is_empty() { ("first", "second") } else { ("second", "first") };
            let text = format!(
                "only Rdds with the same number of elements in each partition can be zipped: in partition {} the \
                 {longer} has more than the {shorter}",
                self.sides.partition
            );
            return Err(Error::new(ErrorKind::User, text));
        }
        out.extend(self.left.drain(..count).zip(self.right.drain(..count)));
        Ok(count > 0)
    }
}

struct ZipPartitions<T, U, I, F> {
    f: Closure<F>,
    of: PhantomData<fn(T, U) -> I>,
}

impl<T, U, I, F> Compute for ZipPartitions<T, U, I, F>
where
    T: Data,
    U: Data,
    I: IntoIterator + 'static,
    I::Item: Data,
    I::IntoIter: Send + 'static,
    F: Fn(PartitionIter<T>, PartitionIter<U>) -> I + Send + Sync + 'static,
{
    fn open<'a>(&'a self, p: usize, parents: &'a [Dependency], task: &TaskContext) -> Result<Opened<'a>> {
        let sides = Sides::new(p, parents, task)?;
        let (f, error) = (self.f.clone(), ErrorSlot::default());
        Ok(Opened::Source(Box::new(ZipPartitionsReader { sides, f, error, items: None, of: PhantomData::<fn(T, U)> })))
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|r: &mut PlanReader<'_>| {
            let compute: Box<dyn Compute> = Box::new(ZipPartitions::<T, U, I, F> { f: r.closure()?, of: PhantomData });
            Ok(Box::new(compute))
        });
        w.closure(&self.f)
    }
}

struct ZipPartitionsReader<T, U, I: IntoIterator, F> {
    sides: Sides,
    f: Closure<F>,
    error: ErrorSlot,
    items: Option<I::IntoIter>,
    of: PhantomData<fn(T, U)>,
}

impl<T, U, I, F> PartitionReader for ZipPartitionsReader<T, U, I, F>
where
    T: Data,
    U: Data,
    I: IntoIterator + 'static,
    I::Item: Data,
    I::IntoIter: Send + 'static,
    F: Fn(PartitionIter<T>, PartitionIter<U>) -> I + Send + Sync + 'static,
{
    type Item = I::Item;

    fn read_chunk(&mut self, out: &mut Vec<I::Item>) -> Result<bool> {
        let items = match &mut self.items {
            Some(items) => items,
            none => {
                let [left, right] = self.sides.open()?;
                let left = PartitionIter::new(left, self.error.clone());
                let right = PartitionIter::new(right, self.error.clone());
                set_site(Some(self.f.site()));
                none.insert((self.f)(left, right).into_iter())
            }
        };
        let before = out.len();
        out.extend(items.take(CHUNK));
        // An error of a side ended its iterator: what the closure made of that is not to be seen.
        self.error.check()?;
        Ok(out.len() > before)
    }
}
