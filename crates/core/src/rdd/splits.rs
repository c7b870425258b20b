//! Where Rdds begin that other crates read: a partition is a split, which is data, and opens a reader where its task
//! runs.

use std::any::Any;
use std::sync::Arc;

use super::Rdd;
use super::lineage::{Compute, Dependency, Opened};
use super::pipeline::PartitionReader;
use super::sources::source;
use crate::context::Context;
use crate::data::{Data, ExchangeData};
use crate::error::{CallSite, Result};
use crate::plan::ship::PlanWriter;
use crate::plan::{Preference, TaskContext};

/// A part of what lies outside, which one task reads: a stretch of a topic, a range of a table.
///
/// It is data: a plan takes it to wherever the task runs, and it must give the same elements each time it is opened.
///
/// # Spark
///
/// `Partition` of an RDD of one's own, with its `compute`.
pub trait InputSplit: ExchangeData {
    /// What it is read as.
    type Item: Data;

    /// Opens it, in the task that reads it.
    ///
    /// # Errors
    ///
    /// Whatever it cannot be opened for: the task fails.
    fn open(&self, task: &TaskContext) -> Result<Box<dyn SplitReader<Self::Item>>>;

    /// Says where it would best be read, where tasks run in several processes. Asked before it travels. Anywhere by default.
    fn prefers(&self) -> Option<Preference> {
        None
    }
}

/// Reads a split, some elements at a time.
pub trait SplitReader<T>: Send {
    /// Appends some elements to `out`, some hundreds at best; or none and returns `false` at the end.
    ///
    /// # Errors
    ///
    /// Whatever it cannot be read for: the task fails.
    fn read(&mut self, out: &mut Vec<T>) -> Result<bool>;
}

struct Splits<S> {
    splits: Arc<Vec<S>>,
}

struct Reading<T>(Box<dyn SplitReader<T>>);

impl<T: Data> PartitionReader for Reading<T> {
    type Item = T;

    fn read_chunk(&mut self, out: &mut Vec<T>) -> Result<bool> {
        self.0.read(out)
    }
}

impl<S: InputSplit> Compute for Splits<S> {
    fn open<'a>(&'a self, p: usize, _: &'a [Dependency], task: &TaskContext) -> Result<Opened<'a>> {
        let Some(split) = self.splits.get(p) else {
            return Err(crate::bug!("there is no split {p}"));
        };
        Ok(Opened::Source(Box::new(Reading(split.open(task)?))))
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|r| {
            let compute: Box<dyn Compute> = Box::new(Splits::<S> { splits: r.value()? });
            Ok(Box::new(compute))
        });
        w.value(&self.splits)
    }

    fn splits(&self) -> Option<&dyn Any> {
        Some(&*self.splits)
    }

    fn prefers(&self, p: usize) -> Option<Preference> {
        self.splits.get(p)?.prefers()
    }
}

impl Context {
    /// Makes an Rdd of what lies outside, a partition a [split](InputSplit): for sources of one's own.
    ///
    /// # Example
    ///
    /// ```
    /// use millstream_core::{Context, InputSplit, Result, SplitReader, TaskContext};
    ///
    /// #[derive(Clone, serde::Serialize, serde::Deserialize)]
    /// struct Squares(u64, u64);
    ///
    /// impl InputSplit for Squares {
    ///     type Item = u64;
    ///     fn open(&self, _: &TaskContext) -> Result<Box<dyn SplitReader<u64>>> {
    ///         Ok(Box::new(self.clone()))
    ///     }
    /// }
    ///
    /// impl SplitReader<u64> for Squares {
    ///     fn read(&mut self, out: &mut Vec<u64>) -> Result<bool> {
    ///         out.extend((self.0..self.1).map(|n| n * n));
    ///         Ok(std::mem::replace(&mut self.0, self.1) < self.1)
    ///     }
    /// }
    ///
    /// let context = Context::new("local[2]", "squares")?;
    /// let squares = context.read_splits(vec![Squares(0, 3), Squares(3, 5)]);
    /// assert_eq!(squares.collect()?, [0, 1, 4, 9, 16]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Spark
    ///
    /// A subclass of `RDD` with `getPartitions` and `compute`.
    #[track_caller]
    pub fn read_splits<S: InputSplit>(&self, splits: Vec<S>) -> Rdd<S::Item> {
        let count = splits.len();
        source(self, Splits { splits: Arc::new(splits) }, count, CallSite::here("read_splits"))
    }
}

impl<T: Data> Rdd<T> {
    /// Returns the splits, if this is the very Rdd that [`read_splits`](Context::read_splits) made of splits of this
    /// type.
    pub fn splits<S: InputSplit<Item = T>>(&self) -> Option<Vec<S>> {
        self.node().lineage().splits()?.downcast_ref::<Vec<S>>().cloned()
    }
}
