//! All pairs of the elements of two Rdds.

use std::marker::PhantomData;
use std::sync::Arc;

use super::Rdd;
use super::lineage::{Compute, Dependency, Node, NodeParts, Opened, narrow};
use super::pipeline::{CHUNK, PartitionReader, Pipeline};
use crate::data::Data;
use crate::error::{CallSite, Result};
use crate::plan::TaskContext;
use crate::plan::ship::{PlanReader, PlanWriter};

impl<T: Data> Rdd<T> {
    /// Pairs each element with every element of `other`.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let a = context.parallelize(vec![1, 2], 1);
    /// let pairs = a.cartesian(&context.parallelize(vec!['x', 'y'], 1));
    /// assert_eq!(pairs.collect()?, [(1, 'x'), (1, 'y'), (2, 'x'), (2, 'y')]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Cost
    ///
    /// A partition for each pair of partitions. Each partition here is computed as often as `other` has partitions,
    /// and the other way round: [`cache`](Rdd::cache) both, if they are dear. A task keeps one partition of `other`
    /// in memory.
    ///
    /// # Spark
    ///
    /// `RDD.cartesian`, RD17.
    #[track_caller]
    pub fn cartesian<U: Data>(&self, other: &Rdd<U>) -> Rdd<(T, U)> {
        let narrow = |node: &Arc<Node>| Dependency::Narrow(Arc::clone(node));
        Rdd::from_node(
            Node::new::<(T, U)>(NodeParts {
                site: CallSite::here("cartesian"),
                parents: vec![narrow(self.node()), narrow(other.node())],
                partitions: self.num_partitions() * other.num_partitions(),
                partitioner: None,
                compute: Cartesian::<T, U> { right: other.num_partitions(), of: PhantomData },
            }),
            self.context(),
        )
    }
}

struct Cartesian<T, U> {
    /// How many partitions the right side has.
    right: usize,
    of: PhantomData<fn(T, U)>,
}

impl<T: Data, U: Data> Compute for Cartesian<T, U> {
    fn open<'a>(&'a self, p: usize, parents: &'a [Dependency], task: &TaskContext) -> Result<Opened<'a>> {
        let side = |i: usize, q: usize| -> Result<_> { Ok((Arc::clone(narrow(parents, i)?), q)) };
        Ok(Opened::Source(Box::new(CartesianReader::<T, U> {
            sides: Some([side(0, p / self.right)?, side(1, p % self.right)?]),
            task: task.clone(),
            left: None,
            chunk: Vec::new(),
            right: Vec::new(),
            at: (0, 0),
        })))
    }

    fn reads(&self, p: usize, _: &[Dependency]) -> Vec<(usize, usize)> {
        vec![(0, p / self.right), (1, p % self.right)]
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|r: &mut PlanReader<'_>| {
            let compute: Box<dyn Compute> = Box::new(Cartesian::<T, U> { right: r.value()?, of: PhantomData });
            Ok(Box::new(compute))
        });
        w.value(&self.right)
    }
}

struct CartesianReader<T, U> {
    /// Opened when they are first read: opening them at once would go as deep as the lineage.
    sides: Option<[(Arc<Node>, usize); 2]>,
    task: TaskContext,
    left: Option<Pipeline>,
    chunk: Vec<T>,
    right: Vec<U>,
    /// Which element of the chunk, and of the right side, comes next.
    at: (usize, usize),
}

impl<T: Data, U: Data> PartitionReader for CartesianReader<T, U> {
    type Item = (T, U);

    fn read_chunk(&mut self, out: &mut Vec<(T, U)>) -> Result<bool> {
        if let Some([(left, p), (right, q)]) = self.sides.take() {
            self.right = Pipeline::open(&right, q, &self.task)?.read_all()?;
            if !self.right.is_empty() {
                self.left = Some(Pipeline::open(&left, p, &self.task)?);
            }
        }
        let Some(left) = &mut self.left else { return Ok(false) };
        if self.at.0 == self.chunk.len() {
            self.chunk.clear();
            self.at = (0, 0);
            if !left.read(&mut self.chunk)? {
                self.left = None;
                return Ok(false);
            }
        }
        let full = out.len() + CHUNK;
        while out.len() < full
            && let Some(item) = self.chunk.get(self.at.0)
        {
            let rest = &self.right[self.at.1..];
            let some = rest.len().min(full - out.len());
            out.extend(rest[..some].iter().map(|other| (item.clone(), other.clone())));
            self.at = if some == rest.len() { (self.at.0 + 1, 0) } else { (self.at.0, self.at.1 + some) };
        }
        Ok(true)
    }
}
