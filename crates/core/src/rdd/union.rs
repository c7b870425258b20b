//! Partitions of several parents, as they are: union and coalesce.

use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};

use super::Rdd;
use super::lineage::{Compute, Dependency, Node, NodeParts, Opened, narrow};
use super::reader::ConcatReader;
use crate::context::Context;
use crate::data::Data;
use crate::error::{CallSite, Result};
use crate::plan::TaskContext;
use crate::plan::ship::{PlanReader, PlanWriter};

impl<T: Data> Rdd<T> {
    /// Puts the partitions of `other` behind the partitions of this Rdd. Nothing is moved, duplicates are kept.
    ///
    /// If both have the same partitioner, partitions of the same number are put together instead, and it is kept.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let a = context.parallelize(vec![1, 2], 1);
    /// assert_eq!(a.union(&context.parallelize(vec![2, 3], 1)).collect()?, [1, 2, 2, 3]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Spark
    ///
    /// `RDD.union`, RD14.
    #[track_caller]
    pub fn union(&self, other: &Rdd<T>) -> Rdd<T> {
        union_at(self.context(), &[self.clone(), other.clone()], CallSite::here("union"))
    }

    /// Puts partitions together until there are `n`, without moving elements; never makes more.
    ///
    /// Neighbours are put together, so that the order of elements stays.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let one = context.parallelize(vec![1, 2, 3], 3).coalesce(1);
    /// assert_eq!(one.glom().collect()?, [[1, 2, 3]]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Spark
    ///
    /// `RDD.coalesce` without shuffle, RD11. `n` of 0 is taken as 1.
    #[track_caller]
    pub fn coalesce(&self, n: usize) -> Rdd<T> {
        let (n, have) = (n.max(1), self.num_partitions());
        if n >= have {
            return self.clone();
        }
        let site = CallSite::here("coalesce");
        Rdd::from_node(
            Node::new::<T>(NodeParts {
                site,
                parents: vec![Dependency::Narrow(Arc::clone(self.node()))],
                partitions: n,
                partitioner: None,
                compute: Coalesce::<T> { to: n, from: have, of: PhantomData },
            }),
            self.context(),
        )
    }
}

/// Makes the union of several Rdds. Those without partitions are left out.
pub(crate) fn union_at<T: Data>(context: &Context, rdds: &[Rdd<T>], site: CallSite) -> Rdd<T> {
    let parts: Vec<&Rdd<T>> = rdds.iter().filter(|rdd| rdd.num_partitions() > 0).collect();
    let parents: Vec<_> = parts.iter().map(|rdd| Dependency::Narrow(Arc::clone(rdd.node()))).collect();
    let shared = parts.first().and_then(|first| first.partitioner()).filter(|partitioner| {
        parts.len() > 1
            && parts.iter().all(|rdd| {
                rdd.partitioner() == Some(partitioner) && rdd.num_partitions() == partitioner.num_partitions()
            })
    });
    if let Some(partitioner) = shared {
        return Rdd::from_node(
            Node::new::<T>(NodeParts {
                site,
                parents,
                partitions: partitioner.num_partitions(),
                partitioner: Some(partitioner.clone()),
                compute: AlignedUnion::<T> { flat: OnceLock::new(), of: PhantomData },
            }),
            context,
        );
    }
    let partitions = parts.iter().map(|rdd| rdd.num_partitions()).sum();
    let partitioner = if parts.len() == 1 { parts[0].partitioner().cloned() } else { None };
    Rdd::from_node(
        Node::new::<T>(NodeParts { site, parents, partitions, partitioner, compute: Union { flat: OnceLock::new() } }),
        context,
    )
}

/// The partitions of all parents, one behind the other.
struct Union {
    /// The parents, with unions among them replaced by *their* parents, so that a union of ten thousand unions is one
    /// look-up: each with the number of its first partition. Made when the union is first opened.
    flat: OnceLock<Vec<(usize, Arc<Node>)>>,
}

fn flatten(parents: &[Dependency]) -> Vec<(usize, Arc<Node>)> {
    let mut flat = Vec::new();
    let mut first = 0;
    let mut stack: Vec<Dependency> = parents.iter().rev().cloned().collect();
    while let Some(dependency) = stack.pop() {
        let Dependency::Narrow(node) = dependency else { continue };
        let lineage = node.lineage();
        if lineage.is_plain_union() && !node.is_persisted() {
            stack.extend(lineage.dependencies().iter().rev().cloned());
        } else {
            let partitions = node.num_partitions();
            flat.push((first, node));
            first += partitions;
        }
    }
    flat
}

impl Compute for Union {
    fn open<'a>(&'a self, p: usize, parents: &'a [Dependency], _: &TaskContext) -> Result<Opened<'a>> {
        let flat = self.flat.get_or_init(|| flatten(parents));
        let at = flat.partition_point(|(first, _)| *first <= p);
        let Some((first, node)) = at.checked_sub(1).and_then(|at| flat.get(at)) else {
            return Err(crate::bug!("a union has no partition {p}"));
        };
        Ok(Opened::Forward { node, partition: p - first })
    }

    fn reads(&self, p: usize, parents: &[Dependency]) -> Vec<(usize, usize)> {
        let mut p = p;
        for (at, parent) in parents.iter().enumerate() {
            let Dependency::Narrow(node) = parent else { continue };
            match p.checked_sub(node.num_partitions()) {
                Some(behind) => p = behind,
                None => return vec![(at, p)],
            }
        }
        Vec::new()
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|_| {
            let compute: Box<dyn Compute> = Box::new(Union { flat: OnceLock::new() });
            Ok(Box::new(compute))
        });
        Ok(())
    }

    fn release(&mut self, bin: &mut Vec<Arc<Node>>) {
        if let Some(flat) = self.flat.take() {
            bin.extend(flat.into_iter().map(|(_, node)| node));
        }
    }

    fn is_plain_union(&self) -> bool {
        true
    }
}

/// Partitions of the same number of all parents, put together.
struct AlignedUnion<T> {
    /// As [`Union`]'s: the parents, with unions of this kind among them replaced by *their* parents.
    flat: OnceLock<Vec<Arc<Node>>>,
    of: PhantomData<fn() -> T>,
}

fn flatten_aligned(parents: &[Dependency]) -> Vec<Arc<Node>> {
    let mut flat = Vec::new();
    let mut stack: Vec<Dependency> = parents.iter().rev().cloned().collect();
    while let Some(dependency) = stack.pop() {
        let Dependency::Narrow(node) = dependency else { continue };
        let lineage = node.lineage();
        if lineage.is_aligned_union() && !node.is_persisted() {
            stack.extend(lineage.dependencies().iter().rev().cloned());
        } else {
            flat.push(node);
        }
    }
    flat
}

impl<T: Data> Compute for AlignedUnion<T> {
    fn open<'a>(&'a self, p: usize, parents: &'a [Dependency], task: &TaskContext) -> Result<Opened<'a>> {
        let flat = self.flat.get_or_init(|| flatten_aligned(parents));
        let all = flat.iter().map(|node| (Arc::clone(node), p)).collect();
        Ok(Opened::Source(Box::new(ConcatReader::<T>::new(all, task))))
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|_| {
            let compute: Box<dyn Compute> = Box::new(AlignedUnion::<T> { flat: OnceLock::new(), of: PhantomData });
            Ok(Box::new(compute))
        });
        Ok(())
    }

    fn release(&mut self, bin: &mut Vec<Arc<Node>>) {
        bin.extend(self.flat.take().into_iter().flatten());
    }

    fn is_aligned_union(&self) -> bool {
        true
    }
}

struct Coalesce<T> {
    to: usize,
    from: usize,
    of: PhantomData<fn() -> T>,
}

impl<T: Data> Compute for Coalesce<T> {
    fn open<'a>(&'a self, p: usize, parents: &'a [Dependency], task: &TaskContext) -> Result<Opened<'a>> {
        let parent = narrow(parents, 0)?;
        let (first, end) = (p * self.from / self.to, (p + 1) * self.from / self.to);
        if end - first == 1 {
            return Ok(Opened::Forward { node: parent, partition: first });
        }
        let all = (first..end).map(|q| (Arc::clone(parent), q)).collect();
        Ok(Opened::Source(Box::new(ConcatReader::<T>::new(all, task))))
    }

    fn reads(&self, p: usize, _: &[Dependency]) -> Vec<(usize, usize)> {
        (p * self.from / self.to..(p + 1) * self.from / self.to).map(|q| (0, q)).collect()
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|r: &mut PlanReader<'_>| {
            let (to, from) = r.value()?;
            let compute: Box<dyn Compute> = Box::new(Coalesce::<T> { to, from, of: PhantomData });
            Ok(Box::new(compute))
        });
        w.value(&(self.to, self.from))
    }
}
