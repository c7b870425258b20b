//! Operations that run a job and return a result: collect, count, reduce, take, foreach, save.

use std::any::Any;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Rdd;
use super::output::{OutputFolder, WriteLines, WriteObjects};
use super::pipeline::{PartitionIter, Pipeline};
use super::reader::ErrorSlot;
use super::sorted::empty_collection;
use crate::codec::TypeCodec;
use crate::data::{Data, ExchangeData};
use crate::error::{CallSite, Result};
use crate::plan::TaskContext;
use crate::plan::ship::{Closure, PlanWriter};

/// What the last stage of a job does with a partition.
pub trait Action: Send + Sync + 'static {
    /// Reads the pipeline as far as it needs and returns a value.
    ///
    /// # Errors
    ///
    /// Whatever the pipeline or a closure of the program fails with.
    fn run(&self, pipeline: &mut Pipeline, task: &TaskContext) -> Result<Box<dyn Any + Send + Sync>>;

    /// Returns how the value travels.
    fn codec(&self) -> TypeCodec;

    /// Writes itself down, code first, to be rebuilt as an `Arc<dyn Action>`.
    ///
    /// # Errors
    ///
    /// As [`PlanWriter`]'s.
    fn ship(&self, w: &mut PlanWriter) -> Result<()>;
}

impl<T: Data> Rdd<T> {
    /// Runs an action on all partitions and returns its values in their order.
    pub(crate) fn run_all<R: ExchangeData>(&self, action: Arc<dyn Action>, site: CallSite) -> Result<Vec<R>> {
        self.context().run_action(self, action, (0..self.num_partitions()).collect(), site)
    }

    /// Returns the number of elements.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// assert_eq!(context.parallelize(vec![1, 2, 3], 2).count()?, 3);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Whatever the job fails with.
    ///
    /// # Spark
    ///
    /// `RDD.count`, RD40.
    #[track_caller]
    pub fn count(&self) -> Result<u64> {
        let counts: Vec<u64> = self.run_all(Arc::new(CountAction::<T>::new()), CallSite::here("count"))?;
        Ok(counts.into_iter().sum())
    }

    /// Calls `f` with each element, where the element is.
    ///
    /// # Errors
    ///
    /// Whatever the job fails with, a panic of `f` among it.
    ///
    /// # Spark
    ///
    /// `RDD.foreach`, RD38.
    #[track_caller]
    pub fn foreach(&self, f: impl Fn(T) + Send + Sync + 'static) -> Result<()> {
        let site = CallSite::here("foreach");
        let action = ForeachAction { f: Closure::new(f, site), of: PhantomData::<fn(T)> };
        self.run_all::<()>(Arc::new(action), site).map(|_| ())
    }

    /// Calls `f` once for each partition, also an empty one, with an iterator over its elements.
    ///
    /// `f` returns a `Result`, so that what it writes to may fail. [`TaskContext::current`] tells the partition.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// context.parallelize(vec![1, 2, 3], 2).foreach_partition(|items| {
    ///     let _batch: Vec<i32> = items.collect(); // write it somewhere, in one request
    ///     Ok(())
    /// })?;
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Whatever the job or `f` fails with.
    ///
    /// # Spark
    ///
    /// `RDD.foreachPartition`, RD39.
    #[track_caller]
    pub fn foreach_partition(&self, f: impl Fn(PartitionIter<T>) -> Result<()> + Send + Sync + 'static) -> Result<()> {
        let site = CallSite::here("foreach_partition");
        let action = ForeachPartitionAction { f: Closure::new(f, site), of: PhantomData::<fn(T)> };
        self.run_all::<()>(Arc::new(action), site).map(|_| ())
    }

    /// Says whether there is no element.
    ///
    /// # Cost
    ///
    /// As [`take`](Rdd::take) of one.
    ///
    /// # Errors
    ///
    /// Whatever the job fails with.
    ///
    /// # Spark
    ///
    /// `RDD.isEmpty`, RD47.
    #[track_caller]
    pub fn is_empty(&self) -> Result<bool> {
        let site = CallSite::here("is_empty");
        let found =
            self.take_with(1, |n| Arc::new(CountSome::<T> { n, of: PhantomData }), |n: &u64| *n as usize, site)?;
        Ok(found.is_empty() || found.iter().all(|n| *n == 0))
    }

    /// Reads the first partition, then ever more, until the parts have `n` elements together.
    fn take_with<R: ExchangeData>(
        &self,
        n: usize,
        action: impl Fn(usize) -> Arc<dyn Action>,
        len: impl Fn(&R) -> usize,
        site: CallSite,
    ) -> Result<Vec<R>> {
        let (mut parts, mut have, mut next, mut width) = (Vec::new(), 0, 0, 1);
        while have < n && next < self.num_partitions() {
            let end = next.saturating_add(width).min(self.num_partitions());
            let more: Vec<R> = self.context().run_action(self, action(n - have), (next..end).collect(), site)?;
            have += more.iter().map(&len).sum::<usize>();
            parts.extend(more);
            next = end;
            width = width.saturating_mul(self.context().conf().take_scale_up.max(1));
        }
        Ok(parts)
    }
}

impl<T: ExchangeData> Rdd<T> {
    /// Returns all elements, in the order of the partitions.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// assert_eq!(context.parallelize(vec![1, 2, 3], 2).collect()?, [1, 2, 3]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Cost
    ///
    /// All elements are brought to the driver's memory.
    ///
    /// # Errors
    ///
    /// Whatever the job fails with.
    ///
    /// # Spark
    ///
    /// `RDD.collect`, RD36.
    #[track_caller]
    pub fn collect(&self) -> Result<Vec<T>> {
        self.collect_at(CallSite::here("collect"))
    }

    pub(crate) fn collect_at(&self, site: CallSite) -> Result<Vec<T>> {
        self.collect_partitions((0..self.num_partitions()).collect(), site)
    }

    pub(crate) fn collect_partitions(&self, partitions: Vec<usize>, site: CallSite) -> Result<Vec<T>> {
        let action = Arc::new(CollectAction::<T>(PhantomData));
        let mut parts: Vec<Vec<T>> = self.context().run_action(self, action, partitions, site)?;
        Ok(if parts.len() == 1 { parts.swap_remove(0) } else { parts.into_iter().flatten().collect() })
    }

    /// Returns the elements of some partitions, in the order in which those are named, for who only looks: what is marked to be saved
    /// is left to the jobs of the program, and so is an error of that.
    ///
    /// # Errors
    ///
    /// Whatever the job fails with.
    #[doc(hidden)]
    pub fn look_at_partitions(&self, partitions: Vec<usize>, site: CallSite) -> Result<Vec<T>> {
        let action = Arc::new(CollectAction::<T>(PhantomData));
        let parts: Vec<Vec<T>> = self.context().run_job(self.node(), action, partitions, site)?;
        Ok(parts.into_iter().flatten().collect())
    }

    /// Reduces all elements to one with `f`, which must not care for order.
    ///
    /// # Errors
    ///
    /// The kind is `User` if there is no element; else whatever the job fails with.
    ///
    /// # Spark
    ///
    /// `RDD.reduce`, RD53.
    #[track_caller]
    pub fn reduce(&self, f: impl Fn(T, T) -> T + Send + Sync + 'static) -> Result<T> {
        self.reduce_at(f, CallSite::here("reduce"))
    }

    pub(crate) fn reduce_at(&self, f: impl Fn(T, T) -> T + Send + Sync + 'static, site: CallSite) -> Result<T> {
        let f = Closure::new(f, site);
        let action = ReduceAction { f: f.clone(), of: PhantomData::<fn() -> T> };
        let parts: Vec<Option<T>> = self.run_all(Arc::new(action), site)?;
        crate::backend::on_driver(site, || parts.into_iter().flatten().reduce(&*f))?
            .ok_or_else(|| empty_collection().at(site))
    }

    /// Folds each partition from `zero` with `f`, and then what they gave, from `zero` again.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// assert_eq!(context.parallelize(vec![1, 2, 3], 2).fold(0, |a, b| a + b)?, 6);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Whatever the job fails with.
    ///
    /// # Spark
    ///
    /// `RDD.fold`, RD55.
    #[track_caller]
    pub fn fold(&self, zero: T, f: impl Fn(T, T) -> T + Send + Sync + 'static) -> Result<T> {
        let site = CallSite::here("fold");
        let f = Closure::new(f, site);
        let action = FoldAction { zero: zero.clone(), f: f.clone() };
        let parts: Vec<T> = self.run_all(Arc::new(action), site)?;
        crate::backend::on_driver(site, || parts.into_iter().fold(zero, &*f))
    }

    /// Folds the elements of each partition into a `C` from `zero` with `add`, and merges what they gave with
    /// `merge`.
    ///
    /// # Errors
    ///
    /// Whatever the job fails with.
    ///
    /// # Spark
    ///
    /// `RDD.aggregate`, RD56.
    #[track_caller]
    pub fn aggregate<C: ExchangeData>(
        &self,
        zero: C,
        add: impl Fn(C, T) -> C + Send + Sync + 'static,
        merge: impl Fn(C, C) -> C,
    ) -> Result<C> {
        let site = CallSite::here("aggregate");
        let action = AggregateAction { zero: zero.clone(), add: Closure::new(add, site), of: PhantomData::<fn(T)> };
        let parts: Vec<C> = self.run_all(Arc::new(action), site)?;
        crate::backend::on_driver(site, || parts.into_iter().fold(zero, merge))
    }

    /// Returns the first `n` elements, or all if there are fewer.
    ///
    /// # Cost
    ///
    /// The first partition is read, and only as far as needed; if that is not enough, four times as many, and so on.
    ///
    /// # Errors
    ///
    /// Whatever the job fails with.
    ///
    /// # Spark
    ///
    /// `RDD.take`, RD45.
    #[track_caller]
    pub fn take(&self, n: usize) -> Result<Vec<T>> {
        self.take_at(n, CallSite::here("take"))
    }

    fn take_at(&self, n: usize, site: CallSite) -> Result<Vec<T>> {
        let parts = self.take_with(n, |n| Arc::new(TakeAction::<T> { n, of: PhantomData }), Vec::len, site)?;
        let mut all: Vec<T> = parts.into_iter().flatten().collect();
        all.truncate(n);
        Ok(all)
    }

    /// Returns the first element.
    ///
    /// # Errors
    ///
    /// The kind is `User` if there is no element; else whatever the job fails with.
    ///
    /// # Spark
    ///
    /// `RDD.first`, RD46.
    #[track_caller]
    pub fn first(&self) -> Result<T> {
        let site = CallSite::here("first");
        self.take_at(1, site)?.pop().ok_or_else(|| empty_collection().at(site))
    }

    /// Writes each element as a line, in the form in which `print` shows it, to one file a partition in the folder
    /// `path`.
    ///
    /// Files are named `part-00000` and so on; `_SUCCESS` is written when all are there. A file is written under
    /// another name first, so that a `part-` file is always whole.
    ///
    /// # Errors
    ///
    /// The kind is `Config` if the folder exists (inside a streaming job it is overwritten instead), `Unavailable`
    /// if something cannot be written (a full disk, say); else whatever the job fails with.
    ///
    /// # Spark
    ///
    /// `RDD.saveAsTextFile`, RD58.
    #[track_caller]
    pub fn save_as_text_file(&self, path: impl AsRef<Path>) -> Result<()> {
        let site = CallSite::here("save_as_text_file");
        self.save(path.as_ref(), |folder| Arc::new(WriteLines::<T> { folder, of: PhantomData }), site)
    }

    /// Writes the elements in millstream's own encoding, to be read by
    /// [`Context::object_file`](crate::Context::object_file).
    ///
    /// # Errors
    ///
    /// As [`save_as_text_file`](Self::save_as_text_file).
    ///
    /// # Spark
    ///
    /// `RDD.saveAsObjectFile`, RD59; the encoding is ours.
    #[track_caller]
    pub fn save_as_object_file(&self, path: impl AsRef<Path>) -> Result<()> {
        let site = CallSite::here("save_as_object_file");
        self.save(path.as_ref(), |folder| Arc::new(WriteObjects::<T> { folder, of: PhantomData }), site)
    }
}

impl<T: Data> Rdd<T> {
    pub(super) fn save(
        &self,
        path: &Path,
        action: impl FnOnce(PathBuf) -> Arc<dyn Action>,
        site: CallSite,
    ) -> Result<()> {
        self.context().check_action(site)?;
        let folder = OutputFolder::begin(&self.context().env().output_disk, path).map_err(|e| e.at(site))?;
        self.run_all::<u64>(action(folder.path().to_path_buf()), site)?;
        folder.finish().map_err(|e| e.at(site))
    }
}

// ------------------------------------------------------------------------------------------------- the actions

pub(crate) struct CountAction<T>(PhantomData<fn() -> T>);

impl<T> CountAction<T> {
    pub(crate) fn new() -> CountAction<T> {
        CountAction(PhantomData)
    }
}

/// Declares what every action says of its travelling: result type, what is written, and how it is read back.
macro_rules! travels {
    ($result:ty, |$this:ident, $w:ident| $write:expr, |$r:ident| $read:expr) => {
        fn codec(&self) -> TypeCodec {
            TypeCodec::of::<$result>()
        }

        fn ship(&self, $w: &mut PlanWriter) -> Result<()> {
            $w.code(|$r| {
                let action: Arc<dyn Action> = Arc::new($read);
                Ok(Box::new(action))
            });
            let $this = self;
            $write
        }
    };
}

impl<T: Data> Action for CountAction<T> {
    fn run(&self, pipeline: &mut Pipeline, _: &TaskContext) -> Result<Box<dyn Any + Send + Sync>> {
        let mut count = 0u64;
        pipeline.for_each_chunk(|chunk: &mut Vec<T>| {
            count += chunk.len() as u64;
            Ok(())
        })?;
        Ok(Box::new(count))
    }

    travels!(u64, |_this, _w| Ok(()), |_r| CountAction::<T>::new());
}

struct CountSome<T> {
    n: usize,
    of: PhantomData<fn() -> T>,
}

impl<T: Data> Action for CountSome<T> {
    fn run(&self, pipeline: &mut Pipeline, _: &TaskContext) -> Result<Box<dyn Any + Send + Sync>> {
        let mut chunk: Vec<T> = Vec::new();
        while chunk.len() < self.n && pipeline.read(&mut chunk)? {}
        Ok(Box::new(chunk.len().min(self.n) as u64))
    }

    travels!(u64, |this, w| w.value(&this.n), |r| CountSome::<T> { n: r.value()?, of: PhantomData });
}

pub(crate) struct CollectAction<T>(PhantomData<fn() -> T>);

impl<T> CollectAction<T> {
    #[cfg(test)]
    pub(crate) fn new() -> CollectAction<T> {
        CollectAction(PhantomData)
    }
}

impl<T: ExchangeData> Action for CollectAction<T> {
    fn run(&self, pipeline: &mut Pipeline, _: &TaskContext) -> Result<Box<dyn Any + Send + Sync>> {
        Ok(Box::new(pipeline.read_all::<T>()?))
    }

    travels!(Vec<T>, |_this, _w| Ok(()), |_r| CollectAction::<T>(PhantomData));
}

struct TakeAction<T> {
    n: usize,
    of: PhantomData<fn() -> T>,
}

impl<T: ExchangeData> Action for TakeAction<T> {
    fn run(&self, pipeline: &mut Pipeline, _: &TaskContext) -> Result<Box<dyn Any + Send + Sync>> {
        let mut taken: Vec<T> = Vec::new();
        while taken.len() < self.n && pipeline.read(&mut taken)? {}
        taken.truncate(self.n);
        Ok(Box::new(taken))
    }

    travels!(Vec<T>, |this, w| w.value(&this.n), |r| TakeAction::<T> { n: r.value()?, of: PhantomData });
}

struct ReduceAction<T, F> {
    f: Closure<F>,
    of: PhantomData<fn() -> T>,
}

impl<T: ExchangeData, F: Fn(T, T) -> T + Send + Sync + 'static> Action for ReduceAction<T, F> {
    fn run(&self, pipeline: &mut Pipeline, _: &TaskContext) -> Result<Box<dyn Any + Send + Sync>> {
        let mut reduced: Option<T> = None;
        pipeline.for_each_chunk(|chunk: &mut Vec<T>| {
            let all = reduced.take().into_iter().chain(chunk.drain(..));
            reduced = all.reduce(&*self.f);
            Ok(())
        })?;
        Ok(Box::new(reduced))
    }

    travels!(Option<T>, |this, w| w.closure(&this.f), |r| ReduceAction::<T, F> { f: r.closure()?, of: PhantomData });
}

struct FoldAction<T, F> {
    zero: T,
    f: Closure<F>,
}

impl<T: ExchangeData, F: Fn(T, T) -> T + Send + Sync + 'static> Action for FoldAction<T, F> {
    fn run(&self, pipeline: &mut Pipeline, _: &TaskContext) -> Result<Box<dyn Any + Send + Sync>> {
        let mut folded = Some(self.zero.clone());
        pipeline.for_each_chunk(|chunk: &mut Vec<T>| {
            folded = folded.take().map(|start| chunk.drain(..).fold(start, &*self.f));
            Ok(())
        })?;
        let folded = folded.ok_or_else(|| crate::bug!("a fold lost its value"))?;
        Ok(Box::new(folded))
    }

    travels!(
        T,
        |this, w| {
            w.value(&this.zero)?;
            w.closure(&this.f)
        },
        |r| FoldAction::<T, F> { zero: r.value()?, f: r.closure()? }
    );
}

struct AggregateAction<T, C, F> {
    zero: C,
    add: Closure<F>,
    of: PhantomData<fn(T)>,
}

impl<T: Data, C: ExchangeData, F: Fn(C, T) -> C + Send + Sync + 'static> Action for AggregateAction<T, C, F> {
    fn run(&self, pipeline: &mut Pipeline, _: &TaskContext) -> Result<Box<dyn Any + Send + Sync>> {
        let mut folded = Some(self.zero.clone());
        pipeline.for_each_chunk(|chunk: &mut Vec<T>| {
            folded = folded.take().map(|start| chunk.drain(..).fold(start, &*self.add));
            Ok(())
        })?;
        let folded = folded.ok_or_else(|| crate::bug!("an aggregate lost its value"))?;
        Ok(Box::new(folded))
    }

    travels!(
        C,
        |this, w| {
            w.value(&this.zero)?;
            w.closure(&this.add)
        },
        |r| AggregateAction::<T, C, F> { zero: r.value()?, add: r.closure()?, of: PhantomData }
    );
}

struct ForeachAction<T, F> {
    f: Closure<F>,
    of: PhantomData<fn(T)>,
}

impl<T: Data, F: Fn(T) + Send + Sync + 'static> Action for ForeachAction<T, F> {
    fn run(&self, pipeline: &mut Pipeline, _: &TaskContext) -> Result<Box<dyn Any + Send + Sync>> {
        pipeline.for_each_chunk(|chunk: &mut Vec<T>| {
            chunk.drain(..).for_each(&*self.f);
            Ok(())
        })?;
        Ok(Box::new(()))
    }

    travels!((), |this, w| w.closure(&this.f), |r| ForeachAction::<T, F> { f: r.closure()?, of: PhantomData });
}

struct ForeachPartitionAction<T, F> {
    f: Closure<F>,
    of: PhantomData<fn(T)>,
}

impl<T: Data, F: Fn(PartitionIter<T>) -> Result<()> + Send + Sync + 'static> Action for ForeachPartitionAction<T, F> {
    fn run(&self, pipeline: &mut Pipeline, _: &TaskContext) -> Result<Box<dyn Any + Send + Sync>> {
        let error = ErrorSlot::default();
        let items = PartitionIter::new(pipeline.take_over(), error.clone());
        let done = (self.f)(items).map_err(|e| e.at(self.f.site()));
        // What the partition failed with explains what the closure made of it.
        error.check()?;
        done.map(|()| Box::new(()) as Box<dyn Any + Send + Sync>)
    }

    travels!((), |this, w| w.closure(&this.f), |r| ForeachPartitionAction::<T, F> { f: r.closure()?, of: PhantomData });
}
