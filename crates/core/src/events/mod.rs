//! What happens in an engine, told to whoever listens: facts about jobs, stages and tasks, in the past tense.

mod bus;
mod stats;
mod watch;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use self::bus::Bus;
pub use self::bus::{Event, ListenerId, Listeners, Place};
pub use self::stats::StageStatsListener;
pub use self::watch::JobWatch;
use crate::clock::Clock;
use crate::context::jobs::JobInfo;
use crate::error::{CallSite, Error, ErrorKind, Result};
use crate::plan::Properties;
use crate::rdd::{Node, RddId, ShuffleId};
use crate::scope::Scope;
use crate::storage::StorageLevel;
use crate::time::Time;

/// A program that has begun.
///
/// # Spark
///
/// `SparkListenerApplicationStart`, CX20.
#[derive(Clone, Debug)]
pub struct ApplicationStart {
    /// The application's id.
    pub app_id: String,
    /// What the program calls itself.
    pub app_name: String,
    /// When its context was made.
    pub time: Time,
}

/// A job that has begun.
///
/// # Spark
///
/// `SparkListenerJobStart`, CX20.
#[derive(Clone, Debug)]
pub struct JobStart {
    /// Its number, its action, and what the program says of it.
    pub job: JobInfo,
    /// When it began.
    pub time: Time,
    /// Its stages, each behind those it reads from. What is there already has no stage.
    pub stages: Vec<StageInfo>,
    /// What the thread that asked says about its jobs: among others the pool, `spark.scheduler.pool`, and in a batch of a
    /// stream the batch's time, `spark.streaming.internal.batchTime`.
    pub properties: Properties,
}

/// A job that has ended.
///
/// # Spark
///
/// `SparkListenerJobEnd`, CX20.
#[derive(Clone, Debug)]
pub struct JobEnd {
    /// The job's number.
    pub job: u64,
    /// When it ended.
    pub time: Time,
    /// How it ended. The kind of the error is `Stopped` if somebody cancelled it.
    pub result: Result<()>,
}

/// A stage, as far as it has come.
///
/// # Spark
///
/// `StageInfo`, CX20.
#[derive(Clone, Debug)]
pub struct StageInfo {
    /// The stage's number within the application.
    pub id: u64,
    /// Which attempt at the stage this is: always 0, as tasks are tried again and stages never as a whole.
    pub attempt: u32,
    /// The job's number.
    pub job: u64,
    /// The action, or the operation behind which the stage ends at a shuffle.
    pub site: CallSite,
    /// What its tasks leave.
    pub kind: TaskKind,
    /// How many tasks it has.
    pub tasks: usize,
    /// The Rdds that its tasks read and make, from the last one down to the first.
    pub rdds: Vec<RddInfo>,
    /// The stages that must end before.
    pub parents: Vec<u64>,
    /// What the thread that asked says about its jobs.
    pub properties: Properties,
    /// When its first tasks could run.
    pub submission_time: Option<Time>,
    /// When its last task ended.
    pub completion_time: Option<Time>,
    /// Why it was given up, if it was.
    pub failure: Option<Error>,
    /// The sum of what its tasks did that succeeded.
    pub metrics: TaskMetrics,
}

impl StageInfo {
    /// Returns the short name, as `map at src/main.rs:14`.
    pub fn name(&self) -> String {
        self.site.to_string()
    }
}

/// What a task leaves.
///
/// # Spark
///
/// `ShuffleMapTask` and `ResultTask`, CX20.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskKind {
    /// Its part of the shuffle.
    ShuffleMap(ShuffleId),
    /// Its part of the job's result.
    Result,
}

/// What is known of an Rdd in a stage.
///
/// # Spark
///
/// `RDDInfo`, CX20.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RddInfo {
    /// The Rdd.
    pub id: RddId,
    /// The operation that made it, and its line. The operation is the Rdd's name.
    pub site: CallSite,
    /// The operation of a stream and the batch that it was made for, if it was made for any.
    pub scope: Option<Scope>,
    /// How many partitions it has.
    pub partitions: usize,
    /// How its partitions are kept.
    pub level: StorageLevel,
    /// The Rdds that it is made from.
    pub parents: Vec<RddId>,
}

impl RddInfo {
    pub(crate) fn of(node: &Node) -> RddInfo {
        RddInfo {
            id: node.id(),
            site: node.site(),
            scope: node.scope(),
            partitions: node.num_partitions(),
            level: node.persisted().map_or(StorageLevel::NONE, |persisted| persisted.level()),
            parents: node.lineage().dependencies().iter().filter_map(|d| Some(d.parent()?.id())).collect(),
        }
    }
}

/// An attempt at a task.
///
/// # Spark
///
/// `TaskInfo`, CX20.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskInfo {
    /// The attempt's number within the application. A task that is tried again has another one.
    pub id: u64,
    /// The job's number.
    pub job: u64,
    /// The stage's number.
    pub stage: u64,
    /// What it leaves.
    pub kind: TaskKind,
    /// Its place among the tasks of its stage.
    pub index: usize,
    /// The partition that it reads: another number than its place where an action wants some partitions only.
    pub partition: usize,
    /// Which attempt at the task this is, from 0.
    pub attempt: u32,
    /// Who runs it: the executor's id, or `driver` on threads of this process.
    pub executor: Arc<str>,
    /// The machine on which that is.
    pub host: Arc<str>,
    /// When it began.
    pub launch_time: Time,
    /// When it ended.
    pub finish_time: Option<Time>,
}

impl TaskInfo {
    /// Returns how long it took, in whole milliseconds.
    pub fn duration(&self) -> Option<Duration> {
        Some(self.finish_time? - self.launch_time)
    }
}

/// An executor of a cluster.
///
/// # Spark
///
/// `ExecutorInfo`, CX20.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutorInfo {
    /// What the driver calls it. One that joins again has another id.
    pub id: Arc<str>,
    /// The machine on which it is.
    pub host: Arc<str>,
    /// Its process there.
    pub process: u32,
    /// How many tasks it runs at once.
    pub slots: usize,
}

/// An executor that is lost, with what it kept.
///
/// # Spark
///
/// `SparkListenerExecutorRemoved`, CX20.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutorLost {
    /// The executor.
    pub executor: ExecutorInfo,
    /// When it was given up.
    pub time: Time,
    /// Why.
    pub reason: String,
}

/// An attempt at a task that has ended.
///
/// # Spark
///
/// `SparkListenerTaskEnd`, CX20.
#[derive(Clone, Debug)]
pub struct TaskEnd {
    /// The attempt.
    pub task: TaskInfo,
    /// How it ended: the reason is the error.
    pub result: Result<()>,
    /// What it did, also if it failed.
    pub metrics: TaskMetrics,
}

impl TaskEnd {
    /// Says whether it ended because its job did: somebody cancelled it, or another task of it failed.
    pub fn was_killed(&self) -> bool {
        matches!(&self.result, Err(error) if error.kind() == ErrorKind::Stopped)
    }
}

/// What a task did, or several tasks.
///
/// Bytes in memory are estimates; on disk they are counted.
///
/// # Spark
///
/// `TaskMetrics`, CX20.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TaskMetrics {
    /// How long it ran, by a clock that only runs forwards. Spark's `executorRunTime`.
    pub run_time: Duration,
    /// How many elements it read from sources and kept partitions. Spark's `inputMetrics.recordsRead`.
    pub records_read: u64,
    /// How many elements it read from shuffles, as they were written.
    pub shuffle_records_read: u64,
    /// About how many bytes they took.
    pub shuffle_bytes_read: u64,
    /// How many elements it wrote to a shuffle.
    pub shuffle_records_written: u64,
    /// About how many bytes they take.
    pub shuffle_bytes_written: u64,
    /// How many bytes it wrote to disk because it had no memory for them. Spark's `diskBytesSpilled`.
    pub disk_bytes_spilled: u64,
}

impl TaskMetrics {
    /// Adds what another task did.
    pub fn merge(&mut self, other: &TaskMetrics) {
        self.run_time += other.run_time;
        self.records_read += other.records_read;
        self.shuffle_records_read += other.shuffle_records_read;
        self.shuffle_bytes_read += other.shuffle_bytes_read;
        self.shuffle_records_written += other.shuffle_records_written;
        self.shuffle_bytes_written += other.shuffle_bytes_written;
        self.disk_bytes_spilled += other.disk_bytes_spilled;
    }
}

/// Is told what happens in an engine. Every method does nothing unless it is written.
///
/// Methods are called one at a time, on a thread of their own, which they share with the listeners of streams. A listener
/// that panics is not called again. What a listener holds is kept until it is removed or the context is stopped; one
/// that holds the context keeps it alive.
///
/// # Order
///
/// The job has started, its stages have been submitted, their tasks have started and ended, the stages have completed, the job
/// has ended. A stage that reads from another is submitted when that one has completed. Every task that has started
/// ends, and it does so before its stage completes, also if the job fails or is cancelled. What runs at the same time
/// has no order: tasks of a stage, stages that do not read from each other, jobs.
///
/// Jobs are told whole: a listener that is added while one runs is told nothing of that one.
///
/// # Example
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use millstream_core::{Context, EngineListener, TaskEnd};
///
/// #[derive(Default)]
/// struct Read(Arc<AtomicU64>);
///
/// impl EngineListener for Read {
///     fn on_task_end(&self, end: &TaskEnd) {
///         self.0.fetch_add(end.metrics.records_read, Ordering::Relaxed);
///     }
/// }
///
/// let context = Context::new("local[2]", "listens")?;
/// let read = Arc::new(AtomicU64::new(0));
/// context.add_listener(Read(Arc::clone(&read)));
/// context.range(0, 1000, 1, 4).filter(|x| x % 7 == 0).count()?;
/// context.flush_listeners();
/// assert_eq!(read.load(Ordering::Relaxed), 1000);
/// # Ok::<(), millstream_core::Error>(())
/// ```
///
/// # Spark
///
/// `SparkListener`, CX20. Blocks of executors and speculative tasks are not told of.
pub trait EngineListener: Send + Sync {
    /// The context has been made. Only who was given to [`ContextBuilder`](crate::ContextBuilder::with_listener) is told.
    fn on_application_start(&self, _start: &ApplicationStart) {}
    /// The context has been stopped, or let go, and its last job has ended. Nothing is told after it.
    fn on_application_end(&self, _time: Time) {}
    /// A job has begun.
    fn on_job_start(&self, _job: &JobStart) {}
    /// A job has ended, well or not. Its action returns soon after.
    fn on_job_end(&self, _job: &JobEnd) {}
    /// A stage's tasks may run.
    fn on_stage_submitted(&self, _stage: &StageInfo) {}
    /// A stage's tasks have ended, or it was given up.
    fn on_stage_completed(&self, _stage: &StageInfo) {}
    /// An attempt at a task has begun.
    fn on_task_start(&self, _task: &TaskInfo) {}
    /// An attempt at a task has ended, well or not.
    fn on_task_end(&self, _task: &TaskEnd) {}
    /// An executor has joined the cluster, or was there when the context was first used.
    fn on_executor_added(&self, _executor: &ExecutorInfo) {}
    /// An executor is lost, and what it kept is made again where it is needed.
    fn on_executor_lost(&self, _lost: &ExecutorLost) {}
    /// The kept partitions of an Rdd have been let go: the program asked for it, or nobody has the Rdd any more.
    fn on_unpersist_rdd(&self, _rdd: RddId) {}
}

/// One event.
pub(crate) enum EngineEvent {
    ApplicationStarted(ApplicationStart),
    ApplicationEnded(Time),
    JobStarted(JobStart),
    JobEnded(JobEnd),
    StageSubmitted(StageInfo),
    StageCompleted(StageInfo),
    TaskStarted(TaskInfo),
    TaskEnded(TaskEnd),
    Unpersisted(RddId),
    ExecutorAdded(ExecutorInfo),
    ExecutorLost(ExecutorLost),
}

impl Event for EngineEvent {
    type Listener = dyn EngineListener;

    fn tell(&self, listener: &dyn EngineListener) {
        match self {
            EngineEvent::ApplicationStarted(start) => listener.on_application_start(start),
            EngineEvent::ApplicationEnded(time) => listener.on_application_end(*time),
            EngineEvent::JobStarted(job) => listener.on_job_start(job),
            EngineEvent::JobEnded(job) => listener.on_job_end(job),
            EngineEvent::StageSubmitted(stage) => listener.on_stage_submitted(stage),
            EngineEvent::StageCompleted(stage) => listener.on_stage_completed(stage),
            EngineEvent::TaskStarted(task) => listener.on_task_start(task),
            EngineEvent::TaskEnded(task) => listener.on_task_end(task),
            EngineEvent::Unpersisted(rdd) => listener.on_unpersist_rdd(*rdd),
            EngineEvent::ExecutorAdded(executor) => listener.on_executor_added(executor),
            EngineEvent::ExecutorLost(lost) => listener.on_executor_lost(lost),
        }
    }
}

/// What an engine needs to tell its events.
pub(crate) struct Events {
    bus: Arc<Bus>,
    pub(crate) listeners: Listeners<EngineEvent>,
    pub(crate) clock: Arc<dyn Clock>,
    next_stage: AtomicU64,
    next_task: AtomicU64,
}

impl Events {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Events {
        let bus = Bus::new();
        let listeners = Listeners::on(&bus);
        Events { bus, listeners, clock, next_stage: AtomicU64::new(0), next_task: AtomicU64::new(0) }
    }

    /// Makes room for listeners of another kind, told by the same thread.
    pub(crate) fn another_kind<E: Event>(&self) -> Listeners<E> {
        Listeners::on(&self.bus)
    }

    /// Tells that the application has ended, and nothing after.
    pub(crate) fn end(&self) {
        self.listeners.post(|| EngineEvent::ApplicationEnded(self.clock.now()));
        self.listeners.close();
    }

    /// Ends the thread that tells.
    pub(crate) fn close(&self) {
        self.bus.close();
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.listeners.fmt(f)
    }
}
