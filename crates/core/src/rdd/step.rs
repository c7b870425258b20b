//! A step from one batch to the next: two Rdds read together, partition by partition, by code of ours that holds closures
//! of the program. States and incremental windows are made of it.

use std::sync::Arc;

use super::Rdd;
use super::lineage::{Compute, Dependency, Node, NodeParts, Opened, narrow};
use super::pipeline::{PartitionIter, Pipeline, Source};
use super::reader::{ErrorSlot, OwnedReader};
use crate::data::Data;
use crate::error::{CallSite, Result};
use crate::partitioner::Partitioner;
use crate::plan::TaskContext;
use crate::plan::ship::{PlanReader, PlanWriter};

/// What is done with two partitions of the same number, and how that travels.
pub trait Step: Send + Sync + Sized + 'static {
    /// The elements of the first Rdd.
    type Left: Data;
    /// The elements of the second Rdd.
    type Right: Data;
    /// What comes out.
    type Out: Data;

    /// Reads both sides, each once, and returns what comes out.
    ///
    /// # Errors
    ///
    /// Whatever a closure of the program fails with.
    fn run(&self, left: PartitionIter<Self::Left>, right: PartitionIter<Self::Right>) -> Result<Vec<Self::Out>>;

    /// Writes itself down.
    ///
    /// # Errors
    ///
    /// As [`PlanWriter`]'s.
    fn ship(&self, w: &mut PlanWriter) -> Result<()>;

    /// Reads what [`ship`](Step::ship) wrote.
    ///
    /// # Errors
    ///
    /// As [`PlanReader`]'s.
    fn unship(r: &mut PlanReader<'_>) -> Result<Self>;
}

/// Makes the Rdd of what `step` gives of each pair of partitions. Both Rdds must have as many.
#[doc(hidden)]
pub fn step_over<S: Step>(
    left: &Rdd<S::Left>,
    right: &Rdd<S::Right>,
    step: S,
    partitioner: Option<Partitioner>,
    site: CallSite,
) -> Rdd<S::Out> {
    let partitions = left.num_partitions();
    if partitions != right.num_partitions() {
        let error =
            crate::bug!("a step has {partitions} partitions on its left and {} on its right", right.num_partitions());
        return Rdd::failed(error.at(site), left.context());
    }
    Rdd::from_node(
        Node::new::<S::Out>(NodeParts {
            site,
            parents: vec![Dependency::Narrow(Arc::clone(left.node())), Dependency::Narrow(Arc::clone(right.node()))],
            partitions,
            partitioner,
            compute: Stepped(Arc::new(step)),
        }),
        left.context(),
    )
}

/// What is done with a partition by code of ours that may fail, and how that travels.
pub trait Pass: Send + Sync + Sized + 'static {
    /// The elements that are read.
    type In: Data;
    /// What comes out.
    type Out: Data;

    /// Reads the partition and returns what comes out.
    ///
    /// # Errors
    ///
    /// Whatever the task is to fail with.
    fn run(&self, elements: PartitionIter<Self::In>) -> Result<Vec<Self::Out>>;

    /// Writes itself down.
    ///
    /// # Errors
    ///
    /// As [`PlanWriter`]'s.
    fn ship(&self, w: &mut PlanWriter) -> Result<()>;

    /// Reads what [`ship`](Pass::ship) wrote.
    ///
    /// # Errors
    ///
    /// As [`PlanReader`]'s.
    fn unship(r: &mut PlanReader<'_>) -> Result<Self>;
}

/// Makes the Rdd of what `pass` gives of each partition.
#[doc(hidden)]
pub fn pass_over<P: Pass>(rdd: &Rdd<P::In>, pass: P, site: CallSite) -> Rdd<P::Out> {
    Rdd::from_node(
        Node::new::<P::Out>(NodeParts {
            site,
            parents: vec![Dependency::Narrow(Arc::clone(rdd.node()))],
            partitions: rdd.num_partitions(),
            partitioner: None,
            compute: Passed(Arc::new(pass)),
        }),
        rdd.context(),
    )
}

struct Passed<P>(Arc<P>);

impl<P: Pass> Compute for Passed<P> {
    fn open<'a>(&'a self, p: usize, parents: &'a [Dependency], _: &TaskContext) -> Result<Opened<'a>> {
        let pass = Arc::clone(&self.0);
        let wrap = move |elements: Pipeline| -> Result<Box<dyn Source>> {
            let error = ErrorSlot::default();
            let out = pass.run(PartitionIter::new(elements, error.clone()));
            // What the partition failed with explains what was made of it.
            error.check()?;
            Ok(Box::new(OwnedReader::new(out?.into_iter())))
        };
        Ok(Opened::Wrap { node: narrow(parents, 0)?, partition: p, wrap: Box::new(wrap) })
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|r| {
            let compute: Box<dyn Compute> = Box::new(Passed(Arc::new(P::unship(r)?)));
            Ok(Box::new(compute))
        });
        self.0.ship(w)
    }
}

struct Stepped<S>(Arc<S>);

impl<S: Step> Compute for Stepped<S> {
    fn open<'a>(&'a self, p: usize, parents: &'a [Dependency], task: &TaskContext) -> Result<Opened<'a>> {
        let (step, right, task) = (Arc::clone(&self.0), Arc::clone(narrow(parents, 1)?), task.clone());
        let wrap = move |left: Pipeline| -> Result<Box<dyn Source>> {
            let error = ErrorSlot::default();
            let right = Pipeline::open(&right, p, &task)?;
            let (left, right) = (PartitionIter::new(left, error.clone()), PartitionIter::new(right, error.clone()));
            let out = step.run(left, right);
            // What a side failed with explains what the step made of it.
            error.check()?;
            Ok(Box::new(OwnedReader::new(out?.into_iter())))
        };
        Ok(Opened::Wrap { node: narrow(parents, 0)?, partition: p, wrap: Box::new(wrap) })
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|r| {
            let compute: Box<dyn Compute> = Box::new(Stepped(Arc::new(S::unship(r)?)));
            Ok(Box::new(compute))
        });
        self.0.ship(w)
    }
}
