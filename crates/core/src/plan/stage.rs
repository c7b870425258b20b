//! What an action asks for: stages, their programs, and what a task may see.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use super::preference::Preference;
use super::ship::{PlanReader, PlanWriter};
use super::tally::Tally;
use crate::codec::TypeCodec;
use crate::context::Env;
use crate::disk::Disk;
use crate::error::{CallSite, Error, ErrorKind, Result, panicked};
use crate::events::RddInfo;
use crate::rdd::actions::Action;
use crate::rdd::lineage::{self, Node, ShuffleId, ShuffleWrite};
use crate::rdd::pipeline::Pipeline;
use crate::storage::{Block, BlockId};
use crate::task_updates::TaskUpdates;

/// Names a stage within a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StageId(pub u32);

/// What an action asks for: a lineage cut into stages at its shuffles. A value, pure to make.
#[derive(Clone, Debug)]
pub struct JobPlan {
    /// The stages, each behind those it reads from. The last one gives the results.
    pub stages: Vec<StagePlan>,
    /// The partitions of the last stage that are wanted.
    pub wanted: Vec<usize>,
    /// The call that asked.
    pub site: CallSite,
    /// The job group, with which it can be cancelled, if it has one.
    pub group: Option<Arc<str>>,
    /// What the thread that asked says about its jobs, for their tasks to read.
    pub properties: Properties,
    /// How often it was planned before, and what it read was not there any more: its tasks have been attempted then, too.
    pub planned_before: u32,
}

/// What a thread says about its jobs, by name.
pub type Properties = Arc<BTreeMap<String, String>>;

/// One stage: the same program over a number of partitions.
#[derive(Clone)]
pub struct StagePlan {
    /// The stage's number: its place in the job's list.
    pub id: StageId,
    /// The call that made the stage's last operation.
    pub site: CallSite,
    /// The stages that must end before.
    pub inputs: Vec<StageId>,
    /// How many tasks there are.
    pub partitions: usize,
    /// The shuffle that the stage writes, unless it gives results.
    pub shuffle: Option<ShuffleStage>,
    /// What each task does.
    pub program: Arc<dyn StageProgram>,
}

/// The shuffle that a stage writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShuffleStage {
    /// The shuffle.
    pub id: ShuffleId,
    /// How many partitions are read behind it.
    pub partitions: usize,
}

impl fmt::Debug for StagePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inputs: Vec<_> = self.inputs.iter().map(|id| id.0).collect();
        write!(f, "stage {}: {} × {} reads {:?}", self.id.0, self.site, self.partitions, inputs)
    }
}

/// What every task of a stage does: read its partition through the operations, write its shuffle output or its
/// result.
pub trait StageProgram: Send + Sync + 'static {
    /// Runs one task.
    ///
    /// # Errors
    ///
    /// Whatever an operation or a closure of the program fails with.
    fn run(&self, task: &TaskContext) -> Result<TaskOutput>;

    /// Writes the program down for the same binary elsewhere.
    ///
    /// # Errors
    ///
    /// The kind is `User`: closures that capture silently, or values that refuse to be written.
    fn ship(&self) -> Result<Vec<u8>>;

    /// Writes the program down for the task of partition `p` alone, without the values that the program gave for others. Nothing if
    /// it gave none: then all tasks have the same.
    ///
    /// # Errors
    ///
    /// As [`ship`](Self::ship).
    fn ship_one(&self, _p: usize) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }

    /// Returns which partitions of which shuffles the task of partition `p` reads.
    fn reads(&self, _p: usize) -> BTreeSet<(ShuffleId, usize)> {
        BTreeSet::new()
    }

    /// Returns the kept partitions that the task of partition `p` reads, if they are where it runs, and behind them the blocks of
    /// receivers.
    fn keeps(&self, _p: usize) -> Vec<BlockId> {
        Vec::new()
    }

    /// Says where the task of partition `p` would best run, for what it reads from outside.
    fn prefers(&self, _p: usize) -> Option<Preference> {
        None
    }

    /// Returns how the results of its tasks travel, if they have any.
    fn result_codec(&self) -> Option<TypeCodec> {
        None
    }

    /// Returns the Rdds that it reads and makes, from the last one down to the first, for people.
    fn rdds(&self) -> Vec<RddInfo> {
        Vec::new()
    }
}

impl dyn StageProgram {
    /// Reads a program that [`ship`](StageProgram::ship) wrote.
    ///
    /// # Errors
    ///
    /// The kind is `Data`: these are other bytes, or another build wrote them.
    pub fn arrive(bytes: &[u8]) -> Result<Arc<dyn StageProgram>> {
        let mut r = PlanReader::new(bytes)?;
        let node = lineage::unship(&mut r)?;
        let writes: bool = r.value()?;
        if writes {
            let (site, write) = (r.site()?, r.rebuilt::<Arc<dyn ShuffleWrite>>()?);
            Ok(Arc::new(ShuffleProgram { node, write, site }))
        } else {
            let (site, action) = (r.site()?, r.rebuilt::<Arc<dyn Action>>()?);
            Ok(Arc::new(ResultProgram { node, action, site }))
        }
    }
}

/// What a task leaves behind.
#[derive(Debug)]
pub enum TaskOutput {
    /// One block for each partition that reads behind the shuffle.
    Shuffle(Vec<Block>),
    /// The result of an action on this partition.
    Result(TaskResult),
}

/// The result of an action on one partition, and how it travels.
pub struct TaskResult {
    /// The value.
    pub value: Box<dyn Any + Send + Sync>,
    /// How to write and read it.
    pub codec: TypeCodec,
}

impl fmt::Debug for TaskResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskResult({:?})", self.codec)
    }
}

pub(crate) struct ShuffleProgram {
    pub(crate) node: Arc<Node>,
    pub(crate) write: Arc<dyn ShuffleWrite>,
    /// The operation that asked for the shuffle, whose closures run on this side of it too.
    pub(crate) site: CallSite,
}

impl ShuffleProgram {
    fn written(&self, mut w: PlanWriter) -> Result<Vec<u8>> {
        lineage::ship(&self.node, &mut w)?;
        w.value(&true)?;
        w.value(&(self.site.op(), self.site.file(), self.site.line()))?;
        self.write.ship(&mut w)?;
        w.finish()
    }
}

impl StageProgram for ShuffleProgram {
    fn run(&self, task: &TaskContext) -> Result<TaskOutput> {
        let mut pipeline = Pipeline::open(&self.node, task.partition(), task)?;
        set_site(Some(self.site));
        self.write.write(&mut pipeline, task).map(TaskOutput::Shuffle).map_err(|e| e.at(self.site))
    }

    fn ship(&self) -> Result<Vec<u8>> {
        self.written(PlanWriter::new())
    }

    fn ship_one(&self, p: usize) -> Result<Option<Vec<u8>>> {
        let given = lineage::given_reads(&self.node, p);
        given.map(|given| self.written(PlanWriter::with_only(given))).transpose()
    }

    fn reads(&self, p: usize) -> BTreeSet<(ShuffleId, usize)> {
        lineage::shuffle_reads(&self.node, p)
    }

    fn keeps(&self, p: usize) -> Vec<BlockId> {
        lineage::kept_reads(&self.node, p)
    }

    fn prefers(&self, p: usize) -> Option<Preference> {
        lineage::preferred(&self.node, p)
    }

    fn rdds(&self) -> Vec<RddInfo> {
        lineage::narrow_ancestors(&self.node).iter().map(|node| RddInfo::of(node)).collect()
    }
}

pub(crate) struct ResultProgram {
    pub(crate) node: Arc<Node>,
    pub(crate) action: Arc<dyn Action>,
    /// The call of the action.
    pub(crate) site: CallSite,
}

impl ResultProgram {
    fn written(&self, mut w: PlanWriter) -> Result<Vec<u8>> {
        lineage::ship(&self.node, &mut w)?;
        w.value(&false)?;
        w.value(&(self.site.op(), self.site.file(), self.site.line()))?;
        self.action.ship(&mut w)?;
        w.finish()
    }
}

impl StageProgram for ResultProgram {
    fn run(&self, task: &TaskContext) -> Result<TaskOutput> {
        let mut pipeline = Pipeline::open(&self.node, task.partition(), task)?;
        set_site(Some(self.site));
        let value = self.action.run(&mut pipeline, task)?;
        Ok(TaskOutput::Result(TaskResult { value, codec: self.action.codec() }))
    }

    fn ship(&self) -> Result<Vec<u8>> {
        self.written(PlanWriter::new())
    }

    fn ship_one(&self, p: usize) -> Result<Option<Vec<u8>>> {
        let given = lineage::given_reads(&self.node, p);
        given.map(|given| self.written(PlanWriter::with_only(given))).transpose()
    }

    fn reads(&self, p: usize) -> BTreeSet<(ShuffleId, usize)> {
        lineage::shuffle_reads(&self.node, p)
    }

    fn keeps(&self, p: usize) -> Vec<BlockId> {
        lineage::kept_reads(&self.node, p)
    }

    fn prefers(&self, p: usize) -> Option<Preference> {
        lineage::preferred(&self.node, p)
    }

    fn result_codec(&self) -> Option<TypeCodec> {
        Some(self.action.codec())
    }

    fn rdds(&self) -> Vec<RddInfo> {
        lineage::narrow_ancestors(&self.node).iter().map(|node| RddInfo::of(node)).collect()
    }
}

/// What a task may see: its place in the job, and the stores of the process that it runs in.
///
/// Closures of the program find theirs with [`TaskContext::current`].
///
/// # Spark
///
/// `TaskContext`, SV05.
#[derive(Clone)]
pub struct TaskContext {
    inner: Arc<Inner>,
}

struct Inner {
    stage: StageId,
    partition: usize,
    partitions: usize,
    attempt: u32,
    env: Arc<Env>,
    cancelled: Arc<AtomicBool>,
    properties: Properties,
    updates: TaskUpdates,
    /// Where the task counts what it does, if somebody listens.
    tally: Option<Arc<Tally>>,
}

thread_local! {
    static CURRENT: RefCell<Option<TaskContext>> = const { RefCell::new(None) };
    static SITE: Cell<Option<CallSite>> = const { Cell::new(None) };
}

/// Notes which operation runs on this thread, so that a panic can be laid at its line.
#[inline]
pub(crate) fn set_site(site: Option<CallSite>) {
    SITE.set(site);
}

/// Returns the operation that runs, or ran last, on this thread.
pub(crate) fn site() -> Option<CallSite> {
    SITE.get()
}

impl TaskContext {
    #[allow(clippy::too_many_arguments, reason = "one caller, which names them all")]
    pub(crate) fn new(
        stage: StageId,
        partition: usize,
        partitions: usize,
        attempt: u32,
        env: Arc<Env>,
        cancelled: Arc<AtomicBool>,
        properties: Properties,
        tally: Option<Arc<Tally>>,
    ) -> TaskContext {
        let updates = TaskUpdates::default();
        let inner = Inner { stage, partition, partitions, attempt, env, cancelled, properties, updates, tally };
        TaskContext { inner: Arc::new(inner) }
    }

    /// Returns the task that runs on this thread, if one does.
    pub fn current() -> Option<TaskContext> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// Runs `body` with this task as the thread's current one.
    pub(crate) fn enter<R>(&self, body: impl FnOnce() -> R) -> R {
        struct Restore(Option<TaskContext>, Option<CallSite>);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.set(self.0.take());
                SITE.set(self.1);
            }
        }
        let _restore = Restore(CURRENT.replace(Some(self.clone())), SITE.replace(None));
        body()
    }

    /// Returns the stage's number within its job.
    pub fn stage(&self) -> StageId {
        self.inner.stage
    }

    /// Returns the partition that the task reads.
    pub fn partition(&self) -> usize {
        self.inner.partition
    }

    /// Returns how many partitions the stage has.
    pub fn num_partitions(&self) -> usize {
        self.inner.partitions
    }

    /// Returns which attempt at the task this is, from 0.
    pub fn attempt(&self) -> u32 {
        self.inner.attempt
    }

    /// Says whether the job has been cancelled or has failed elsewhere, so that the task may end.
    pub fn is_cancelled(&self) -> bool {
        self.inner.cancelled.load(Ordering::Relaxed)
    }

    /// Returns what the thread that asked for the job has set.
    ///
    /// # Spark
    ///
    /// `TaskContext.getLocalProperty`, SV05.
    pub fn local_property(&self, key: &str) -> Option<&str> {
        self.inner.properties.get(key).map(String::as_str)
    }

    /// Returns what is to be known on the driver when the task has succeeded.
    pub(crate) fn updates(&self) -> &TaskUpdates {
        &self.inner.updates
    }

    /// Counts something, if somebody listens.
    #[inline]
    pub(crate) fn tally(&self, count: impl FnOnce(&Tally)) {
        if let Some(tally) = &self.inner.tally {
            count(tally);
        }
    }

    /// Counts something for the task that runs on this thread, if one does and somebody listens.
    pub(crate) fn tally_here(count: impl FnOnce(&Tally)) {
        CURRENT.with_borrow(|task| {
            if let Some(task) = task {
                task.tally(count);
            }
        });
    }

    /// Returns where files of outputs are written. Fails where the task's process has been given up: another writes them.
    #[doc(hidden)]
    pub fn output_disk(&self) -> Result<Arc<dyn Disk>> {
        self.env().driver.as_ref().map_or(Ok(()), |driver| driver.may_publish())?;
        Ok(Arc::clone(&self.env().output_disk))
    }

    pub(crate) fn env(&self) -> &Arc<Env> {
        &self.inner.env
    }

    /// Runs a stage's program as this task. A panic becomes an error at the line of the operation that ran.
    pub(crate) fn run(&self, program: &dyn StageProgram) -> Result<TaskOutput> {
        self.enter(|| {
            catch_unwind(AssertUnwindSafe(|| program.run(self))).unwrap_or_else(|payload| {
                let error = panicked(&*payload);
                Err(match site() {
                    Some(site) => error.at(site),
                    None => error,
                })
            })
        })
    }

    /// Ends the task if its job has been cancelled.
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_cancelled() {
            return Err(Error::new(ErrorKind::Stopped, "the job was cancelled"));
        }
        Ok(())
    }
}

impl fmt::Debug for TaskContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { stage, partition, attempt, .. } = &*self.inner;
        write!(f, "task {}.{partition} attempt {attempt}", stage.0)
    }
}
