//! Checkpoints of Rdds: partitions are written out, and the lineage is cut there.
//!
//! [`Rdd::checkpoint`] only marks. When the first job that used the Rdd has ended, a second job writes each partition to the
//! [`CheckpointStore`], and then the node reads them from there: what it was made from is let go.
//!
//! ```text
//! marked ──(a job on it, or on what is made of it, ends well)──► being written ──► saved: the lineage is cut
//!    ▲                                                             │
//!    └───────────── the job has failed ◄── it cannot be written ◄──┘
//! ```
//!
//! States are written in the background ([`SaveAs`], `saver.rs`): the job that found them marked does not wait.

use std::any::Any;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};

use super::actions::Action;
use super::lineage::{Compute, Dependency, Node, NodeParts, Opened, RddId};
use super::persisted::Persisted;
use super::pipeline::{PartitionReader, Pipeline};
use super::reader::OwnedReader;
use super::{AnyRdd, Rdd};
use crate::checkpoint::CheckpointStore;
use crate::codec::{self, TypeCodec};
use crate::context::Context;
use crate::data::{Data, ExchangeData};
use crate::error::{CallSite, Error, ErrorKind, Result};
use crate::plan::TaskContext;
use crate::plan::ship::PlanWriter;
use crate::storage::{BlockId, StorageLevel};
use crate::threads::lock;

/// How far a node's checkpoint is.
pub(crate) enum Saving {
    /// Nobody asked for one.
    Not,
    /// The next job that ends writes it.
    Marked(Arc<dyn SavedForm>),
    /// A job is writing it.
    Now,
    /// It could not be written in the background: the next job fails with that, and it is marked again.
    Failed(Arc<dyn SavedForm>, Error),
    /// It is written: there, unless the partitions are merely kept.
    Done(Option<Saved>),
}

/// Where a saved Rdd is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Saved {
    /// The folder of the store that its own files are in.
    pub folder: String,
    /// The folders whose files are read with them, its own among them.
    pub needs: Vec<String>,
}

/// How the partitions of an Rdd are written to a checkpoint and read again.
pub(crate) trait SavedForm: Send + Sync + 'static {
    /// Makes the action that writes a partition into `folder`, and gives the other folders that it builds upon; or leaves that
    /// on the desk.
    fn write(&self, folder: &str, desk: &Desk) -> Arc<dyn Action>;
    /// Makes what reads the partitions from `folder`.
    fn read(&self, folder: &str) -> Box<dyn Compute>;
    /// Says whether nothing is written, and the kept partitions are all there is.
    fn is_local(&self) -> bool {
        false
    }
    /// The row of Rdds that it belongs to, if it is written in the background.
    fn chain(&self) -> Option<&Chain> {
        None
    }
}

/// What tasks leave for the thread that asked for it: to write partitions, by number, so that it takes no slot of the tasks.
/// A task that runs elsewhere writes by itself.
#[derive(Clone, Default)]
pub(crate) struct Desk(Arc<Mutex<BTreeMap<usize, WriteLater>>>);

type WriteLater = Box<dyn FnOnce() -> Result<Vec<String>> + Send>;

/// A row of Rdds that are made of each other and saved now and then, in the background. If several of them are marked, the
/// newest is saved: that cuts the others off as well.
#[doc(hidden)]
#[derive(Clone, Debug, Default)]
pub struct Chain(Arc<u8>);

impl PartialEq for Chain {
    fn eq(&self, other: &Chain) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// A form of its own: for elements that know better than their codec how to be written, and what was written before.
///
/// Elsewhere the default is used, and knows only what it reads.
#[doc(hidden)]
pub trait SaveAs: Default + Clone + Send + Sync + 'static {
    /// The elements.
    type Item: Data;

    /// Writes the elements of a partition into `folder`; returns the folders that this builds upon. It may be asked again
    /// for what it has written, if another partition could not be.
    ///
    /// # Errors
    ///
    /// Whatever the store fails with.
    fn write(
        &self,
        store: &dyn CheckpointStore,
        folder: &str,
        partition: usize,
        items: Vec<Self::Item>,
    ) -> Result<Vec<String>>;

    /// Reads the elements of a partition from `folder`, and what it builds upon.
    ///
    /// # Errors
    ///
    /// Whatever the store fails with; or the kind is `Data`.
    fn read(&self, store: &dyn CheckpointStore, folder: &str, partition: usize) -> Result<Vec<Self::Item>>;
}

struct Own<P> {
    form: P,
    chain: Chain,
}

impl<P: SaveAs> SavedForm for Own<P> {
    fn write(&self, folder: &str, desk: &Desk) -> Arc<dyn Action> {
        Arc::new(WriteOwn { folder: folder.to_owned(), form: self.form.clone(), desk: Some(desk.clone()) })
    }

    fn read(&self, folder: &str) -> Box<dyn Compute> {
        Box::new(ReadOwn { folder: folder.to_owned(), form: self.form.clone() })
    }

    fn chain(&self) -> Option<&Chain> {
        Some(&self.chain)
    }
}

struct WriteOwn<P> {
    folder: String,
    form: P,
    desk: Option<Desk>,
}

impl<P: SaveAs> Action for WriteOwn<P> {
    fn run(&self, pipeline: &mut Pipeline, task: &TaskContext) -> Result<Box<dyn Any + Send + Sync>> {
        let store = task.env().checkpoints()?;
        let items = pipeline.read_all::<P::Item>()?;
        let (form, folder, partition) = (self.form.clone(), self.folder.clone(), task.partition());
        let write = move || form.write(&*store, &folder, partition, items);
        Ok(Box::new(match &self.desk {
            Some(desk) => {
                drop(lock(&desk.0).insert(partition, Box::new(write)));
                Vec::new()
            }
            None => write()?,
        }))
    }

    fn codec(&self) -> TypeCodec {
        TypeCodec::of::<Vec<String>>()
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|r| {
            let action: Arc<dyn Action> = Arc::new(WriteOwn { folder: r.value()?, form: P::default(), desk: None });
            Ok(Box::new(action))
        });
        w.value(&self.folder)
    }
}

struct ReadOwn<P> {
    folder: String,
    form: P,
}

impl<P: SaveAs> Compute for ReadOwn<P> {
    fn open<'a>(&'a self, p: usize, _: &'a [Dependency], task: &TaskContext) -> Result<Opened<'a>> {
        let items = self.form.read(&*task.env().checkpoints()?, &self.folder, p)?;
        Ok(Opened::Source(Box::new(OwnedReader::new(items.into_iter()))))
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|r| {
            let compute: Box<dyn Compute> = Box::new(ReadOwn { folder: r.value()?, form: P::default() });
            Ok(Box::new(compute))
        });
        w.value(&self.folder)
    }
}

/// Values in their codec, a file a partition.
struct Values<T>(PhantomData<fn() -> T>);

impl<T: ExchangeData> SavedForm for Values<T> {
    fn write(&self, folder: &str, _: &Desk) -> Arc<dyn Action> {
        Arc::new(WriteValues::<T> { folder: folder.to_owned(), of: PhantomData })
    }

    fn read(&self, folder: &str) -> Box<dyn Compute> {
        Box::new(ReadValues::<T> { folder: folder.to_owned(), of: PhantomData })
    }
}

/// The first bytes of a saved partition: what it is, and the version of its form.
const MAGIC: &[u8; 8] = b"mstckp1\n";

fn part(folder: &str, partition: usize) -> String {
    format!("{folder}/part-{partition:05}")
}

struct WriteValues<T> {
    folder: String,
    of: PhantomData<fn(T)>,
}

impl<T: ExchangeData> Action for WriteValues<T> {
    fn run(&self, pipeline: &mut Pipeline, task: &TaskContext) -> Result<Box<dyn Any + Send + Sync>> {
        let store = task.env().checkpoints()?;
        let mut bytes = MAGIC.to_vec();
        pipeline.for_each_chunk(|chunk: &mut Vec<T>| {
            bytes = codec::encode_onto(chunk, std::mem::take(&mut bytes))?;
            chunk.clear();
            Ok(())
        })?;
        store.write(&part(&self.folder, task.partition()), &bytes)?;
        Ok(Box::new(Vec::<String>::new()))
    }

    fn codec(&self) -> TypeCodec {
        TypeCodec::of::<Vec<String>>()
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|r| {
            let action: Arc<dyn Action> = Arc::new(WriteValues::<T> { folder: r.value()?, of: PhantomData });
            Ok(Box::new(action))
        });
        w.value(&self.folder)
    }
}

struct ReadValues<T> {
    folder: String,
    of: PhantomData<fn() -> T>,
}

impl<T: ExchangeData> Compute for ReadValues<T> {
    fn open<'a>(&'a self, p: usize, _: &'a [Dependency], task: &TaskContext) -> Result<Opened<'a>> {
        let name = part(&self.folder, p);
        let bytes = task.env().checkpoints()?.read(&name)?;
        if !bytes.starts_with(MAGIC) {
            return Err(Error::new(ErrorKind::Data, format!("checkpoint {name} does not begin as one does")));
        }
        Ok(Opened::Source(Box::new(SavedReader::<T> { bytes, at: MAGIC.len(), name, of: PhantomData })))
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|r| {
            let compute: Box<dyn Compute> = Box::new(ReadValues::<T> { folder: r.value()?, of: PhantomData });
            Ok(Box::new(compute))
        });
        w.value(&self.folder)
    }
}

/// Reads a saved partition, a chunk as it was written at a time.
struct SavedReader<T> {
    bytes: bytes::Bytes,
    at: usize,
    name: String,
    of: PhantomData<fn() -> T>,
}

impl<T: ExchangeData> PartitionReader for SavedReader<T> {
    type Item = T;

    fn read_chunk(&mut self, out: &mut Vec<T>) -> Result<bool> {
        let rest = &self.bytes[self.at..];
        if rest.is_empty() {
            return Ok(false);
        }
        let (mut chunk, left) = codec::decode_list_from::<T>(rest)
            .map_err(|e| Error::new(ErrorKind::Data, format!("checkpoint {} is damaged: {e}", self.name)))?;
        self.at = self.bytes.len() - left.len();
        out.append(&mut chunk);
        Ok(true)
    }
}

/// Reads a saved partition that is in memory, without its first bytes.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn values_of<T: ExchangeData>(bytes: &[u8]) -> Result<Vec<T>> {
    let bytes = bytes::Bytes::copy_from_slice(bytes);
    let mut reader = SavedReader::<T> { bytes, at: 0, name: "in memory".into(), of: PhantomData };
    let mut values = Vec::new();
    while reader.read_chunk(&mut values)? {}
    Ok(values)
}

/// In the place of a lineage that was cut where partitions are kept, should one of them be lost.
struct Lost;

impl Compute for Lost {
    fn open<'a>(&'a self, p: usize, _: &'a [Dependency], _: &TaskContext) -> Result<Opened<'a>> {
        Err(Error::new(
            ErrorKind::Data,
            format!(
                "partition {p} of a local checkpoint is lost and cannot be computed again; use checkpoint() where that \
                 may happen"
            ),
        ))
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|_| {
            let compute: Box<dyn Compute> = Box::new(Lost);
            Ok(Box::new(compute))
        });
        Ok(())
    }
}

/// Reads partitions, so that they are kept.
struct Touch<T>(PhantomData<fn(T)>);

impl<T: ExchangeData> Action for Touch<T> {
    fn run(&self, pipeline: &mut Pipeline, _: &TaskContext) -> Result<Box<dyn Any + Send + Sync>> {
        pipeline.for_each_chunk(|chunk: &mut Vec<T>| {
            chunk.clear();
            Ok(())
        })?;
        Ok(Box::new(Vec::<String>::new()))
    }

    fn codec(&self) -> TypeCodec {
        TypeCodec::of::<Vec<String>>()
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|_| {
            let action: Arc<dyn Action> = Arc::new(Touch::<T>(PhantomData));
            Ok(Box::new(action))
        });
        Ok(())
    }
}

/// Kept partitions, without files.
struct Kept<T>(PhantomData<fn() -> T>);

impl<T: ExchangeData> SavedForm for Kept<T> {
    fn write(&self, _: &str, _: &Desk) -> Arc<dyn Action> {
        Arc::new(Touch::<T>(PhantomData))
    }

    fn read(&self, _: &str) -> Box<dyn Compute> {
        Box::new(Lost)
    }

    fn is_local(&self) -> bool {
        true
    }
}

impl<T: ExchangeData> Rdd<T> {
    /// Marks the Rdd to be saved: when the next job that uses it has ended, its partitions are written to the checkpoint
    /// folder and its lineage is cut, so that whatever is made of it from then on begins there.
    ///
    /// Persist it as well; else the partitions are computed a second time to be written.
    ///
    /// # Example
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// use millstream_core::Context;
    ///
    /// let context = Context::new("local[2]", "long lineage")?;
    /// context.set_checkpoint_dir(folder.path())?;
    /// let squares = context.parallelize(vec![1u64, 2, 3], 2).map(|x| x * x);
    /// squares.cache();
    /// squares.checkpoint();
    /// assert!(!squares.is_checkpointed());
    /// assert_eq!(squares.collect()?, [1, 4, 9]);
    /// assert!(squares.is_checkpointed());
    /// assert_eq!(squares.collect()?, [1, 4, 9]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The job that would save it fails: with the kind `Config` if no folder is set, `Unavailable` if the folder cannot be
    /// written.
    ///
    /// # Cost
    ///
    /// Each partition is encoded in memory and written as one file.
    ///
    /// # Spark
    ///
    /// `RDD.checkpoint`, RD31; R-12. All marked Rdds of a job's lineage are saved with it (R-13).
    pub fn checkpoint(&self) {
        mark(self.node(), self.context(), Arc::new(Values::<T>(PhantomData)));
    }

    /// Cuts the lineage as [`checkpoint`](Rdd::checkpoint) does, but keeps the partitions where persisted ones are, on this
    /// machine: cheaper, and lost with it.
    ///
    /// # Spark
    ///
    /// `RDD.localCheckpoint`, RD32.
    pub fn local_checkpoint(&self) {
        if self.storage_level().is_none() {
            let env = Arc::clone(self.context().env());
            self.node().set_persisted(Some(Arc::new(Persisted::exchange::<T>(StorageLevel::MEMORY_AND_DISK, env))));
        }
        mark(self.node(), self.context(), Arc::new(Kept::<T>(PhantomData)));
    }
}

impl<T> Rdd<T> {
    /// As [`checkpoint`](Rdd::checkpoint), in a form of its own, and in the background: a job that ends does not wait.
    ///
    /// Keep it until it is saved; else it is computed again.
    #[doc(hidden)]
    pub fn checkpoint_as<P: SaveAs<Item = T>>(&self, form: P, chain: &Chain) {
        mark(self.node(), self.context(), Arc::new(Own { form, chain: chain.clone() }));
    }

    /// Says whether the Rdd has been saved and its lineage cut. Spark's `isCheckpointed`, RD33.
    pub fn is_checkpointed(&self) -> bool {
        is_saved(self.node())
    }
}

impl Context {
    /// Makes the Rdd that an earlier process saved, of so many partitions.
    #[doc(hidden)]
    pub fn saved_rdd<T: ExchangeData>(&self, saved: &Saved, partitions: usize, site: CallSite) -> Rdd<T> {
        self.read_saved(&Values::<T>(PhantomData), saved, partitions, site)
    }

    /// As [`saved_rdd`](Context::saved_rdd), of what was saved in a form of its own.
    #[doc(hidden)]
    pub fn saved_rdd_as<P: SaveAs>(&self, saved: &Saved, partitions: usize, site: CallSite) -> Rdd<P::Item> {
        self.read_saved(&Own { form: P::default(), chain: Chain::default() }, saved, partitions, site)
    }

    fn read_saved<T: Data>(&self, form: &dyn SavedForm, saved: &Saved, partitions: usize, site: CallSite) -> Rdd<T> {
        let compute = form.read(&saved.folder);
        let parts = NodeParts { site, parents: Vec::new(), partitions, partitioner: None, compute };
        let node = Node::boxed::<T>(parts);
        *node.saving() = Saving::Done(Some(saved.clone()));
        Rdd::from_node(node, self)
    }
}

impl AnyRdd {
    /// Says whether the Rdd has been saved and its lineage cut.
    pub fn is_checkpointed(&self) -> bool {
        is_saved(self.node())
    }

    /// Says whether the Rdd is marked to be saved or is being saved, and is not yet.
    #[doc(hidden)]
    pub fn is_to_be_saved(&self) -> bool {
        matches!(*self.node().saving(), Saving::Marked(_) | Saving::Now | Saving::Failed(..))
    }

    /// Returns where the Rdd has been saved, if it has been written somewhere.
    #[doc(hidden)]
    pub fn saved(&self) -> Option<Saved> {
        match &*self.node().saving() {
            Saving::Done(saved) => saved.clone(),
            _ => None,
        }
    }
}

fn is_saved(node: &Node) -> bool {
    matches!(*node.saving(), Saving::Done(_))
}

fn mark(node: &Arc<Node>, context: &Context, form: Arc<dyn SavedForm>) {
    let mut saving = node.saving();
    if matches!(*saving, Saving::Not) {
        context.saver().marked(node, form.chain().is_some());
        *saving = Saving::Marked(form);
    }
}

/// Writes all marked Rdds in the lineage of `top`, those that others are made from first; or has them written in the
/// background. Fails with what has failed there.
pub(crate) fn save_marked(top: &Arc<Node>, context: &Context, site: CallSite) -> Result<()> {
    let Some(oldest) = context.saver().oldest(top.id()) else { return Ok(()) };
    let mut later: Vec<(Arc<Node>, Chain)> = Vec::new();
    for node in marked_in(top, oldest) {
        let mut saving = node.saving();
        let form = match &*saving {
            Saving::Marked(form) => Arc::clone(form),
            Saving::Failed(form, error) => {
                // It is tried again by the job after this one.
                let (form, error) = (Arc::clone(form), error.clone());
                *saving = Saving::Marked(form);
                context.saver().told();
                return Err(error);
            }
            _ => continue,
        };
        if let Some(chain) = form.chain().filter(|_| context.conf().save_in_background).cloned() {
            drop(saving);
            // Whoever cuts off the newest cuts off the others.
            if let Some(at) = later.iter().position(|(_, other)| *other == chain) {
                let (older, _) = later.remove(at);
                let mut saving = older.saving();
                if matches!(*saving, Saving::Marked(_)) {
                    *saving = Saving::Not;
                    context.saver().unmarked(older.id());
                }
            }
            later.push((node, chain));
            continue;
        }
        *saving = Saving::Now;
        drop(saving);
        let written = save(&node, context, &*form, site);
        let mut saving = node.saving();
        match written {
            Ok(saved) => {
                *saving = Saving::Done(saved);
                context.saver().unmarked(node.id());
            }
            Err(error) => {
                // It may be tried again with the next job.
                *saving = Saving::Marked(form);
                return Err(error.at(site));
            }
        }
    }
    if later.is_empty() {
        Ok(())
    } else {
        context.saver().begin(context, later.into_iter().map(|(node, _)| node).collect())
    }
}

/// Writes a node's partitions, and cuts its lineage when all of them are there.
pub(super) fn save(node: &Arc<Node>, context: &Context, form: &dyn SavedForm, site: CallSite) -> Result<Option<Saved>> {
    let folder = context.env().next_saved();
    let all: Vec<usize> = (0..node.num_partitions()).collect();
    let desk = Desk::default();
    let mut others: Vec<Vec<String>> = context.run_job(node, form.write(&folder, &desk), all, site)?;
    let left = std::mem::take(&mut *lock(&desk.0));
    for write in left.into_values() {
        others.push(write()?);
    }
    tracing::debug!(rdd = %node.id(), "an Rdd has been saved");
    let local = form.is_local();
    if local {
        let kept = |partition| context.env().blocks.contains(BlockId::Rdd { rdd: node.id(), partition });
        if !(0..node.num_partitions()).all(kept) {
            let text = "a local checkpoint needs its partitions kept, and there is no room for them";
            return Err(Error::new(ErrorKind::Unavailable, text));
        }
    }
    node.cut(form.read(&folder));
    let needs: std::collections::BTreeSet<String> =
        others.into_iter().flatten().chain(std::iter::once(folder.clone())).collect();
    Ok((!local).then(|| Saved { folder, needs: needs.into_iter().collect() }))
}

/// Finds the marked nodes of a lineage, parents first. What is saved already has none behind it.
fn marked_in(top: &Arc<Node>, oldest: RddId) -> Vec<Arc<Node>> {
    enum Visit {
        Enter(Arc<Node>),
        Leave(Arc<Node>),
    }
    let mut seen: std::collections::BTreeSet<RddId> = std::collections::BTreeSet::new();
    let (mut found, mut stack) = (Vec::new(), vec![Visit::Enter(Arc::clone(top))]);
    while let Some(visit) = stack.pop() {
        match visit {
            Visit::Enter(node) => {
                if node.id() < oldest || !seen.insert(node.id()) {
                    continue;
                }
                let parents: Vec<Arc<Node>> =
                    node.lineage().dependencies().iter().filter_map(Dependency::parent).collect();
                stack.push(Visit::Leave(node));
                stack.extend(parents.into_iter().rev().map(Visit::Enter));
            }
            Visit::Leave(node) => {
                if matches!(*node.saving(), Saving::Marked(_) | Saving::Failed(..)) {
                    found.push(node);
                }
            }
        }
    }
    found
}

/// Where checkpoints are, if anywhere.
pub(crate) type Checkpoints = std::sync::RwLock<Option<Arc<dyn CheckpointStore>>>;
