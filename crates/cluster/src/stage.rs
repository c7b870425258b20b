//! One stage of a job as an operator of DataFusion: it reads the rows of the stages before, and gives rows for those behind.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, ReplaceChildrenOptions,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use millstream_core::plan::away::{AwayBlock, AwayNote, AwayTask};
use millstream_core::plan::{Preference, Properties, StageId};
use millstream_core::{Error, ErrorKind, Result, ShuffleId, bug, codec};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::blocks::Home;
use crate::direct::SMALL;
use crate::failure;
use crate::here::Here;
use crate::routing;
use crate::rows::{Kind, RowReader, RowWriter, schema};
use crate::secret::random;

/// What a stage is, as it travels.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StageDesc {
    /// The engine of the driver that asks.
    pub(crate) engine: u64,
    /// The stage's number within its job.
    pub(crate) stage: u32,
    /// What its tasks do.
    pub(crate) work: Work,
    /// Who reads what they leave.
    pub(crate) readers: Readers,
    /// How often the whole job has been tried before.
    pub(crate) tried: u32,
    /// What the scheduler says of one task, and of a stage that is not a task yet nothing.
    pub(crate) task: TaskStamp,
}

/// What the scheduler says of a task when it places it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct TaskStamp {
    /// Which partitions of the stage the task has, as Ballista counts them, in its own order.
    pub(crate) slice: Vec<usize>,
    /// How many of them may run at once: as many as slots were taken for them.
    pub(crate) at_once: u32,
    /// Which attempt it is, from 0.
    pub(crate) attempt: u32,
    /// Whether what it reads is kept by another executor, which had no slot for too long.
    pub(crate) elsewhere: bool,
    /// What `StageProgram::ship_one` wrote for each partition, if values of the program are in it.
    pub(crate) programs: Vec<Bytes>,
}

/// What the driver is to know of a task that has succeeded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TaskNote {
    pub(crate) executor: Arc<str>,
    pub(crate) host: Arc<str>,
    pub(crate) attempt: u32,
    pub(crate) note: AwayNote,
}

/// What the tasks of a stage do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Work {
    /// Run a program.
    Run {
        /// What `StageProgram::ship` wrote; nothing if each task has its own.
        program: Bytes,
        /// Which partition of the program's Rdd is read by which of Ballista's.
        real: Vec<usize>,
        /// How many partitions the Rdd has.
        partitions: usize,
        /// What the thread that asked says about its jobs.
        properties: Properties,
    },
    /// Send blocks on to those who read them: for readers that want other partitions than those of their own number.
    Pass,
}

/// Who reads what a stage leaves.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Readers {
    /// The driver, which knows the job by this number.
    Driver(u64),
    /// The stages behind.
    Stage {
        /// The shuffle that is written.
        shuffle: ShuffleId,
        /// How many partitions the stage behind has, as Ballista counts them.
        count: usize,
        /// For each partition of the shuffle those of the stage behind that read it; nothing if it is that of the same number.
        to: Option<Vec<Vec<u32>>>,
    },
}

/// The operator.
#[derive(Debug)]
pub(crate) struct StageExec {
    pub(crate) desc: Arc<StageDesc>,
    /// One for each stage that is read; one with a row a partition if there is none.
    pub(crate) inputs: Vec<Arc<dyn ExecutionPlan>>,
    /// For each partition where that is what it reads. The driver places tasks by it; it does not travel.
    pub(crate) prefer: Arc<[Option<Home>]>,
    /// For each partition where it would best read what comes from outside.
    pub(crate) wishes: Arc<[Option<Preference>]>,
    /// For each partition its own program, if they have such; a task takes those along that are its own.
    programs: Arc<[Bytes]>,
    /// Set when the task is given up, on the executor where it runs.
    given_up: Arc<AtomicBool>,
    /// The slots of the task, where it runs.
    turns: Arc<Semaphore>,
    properties: Arc<PlanProperties>,
}

impl StageExec {
    pub(crate) fn new(desc: Arc<StageDesc>, inputs: Vec<Arc<dyn ExecutionPlan>>) -> StageExec {
        let partitions = inputs.first().map_or(0, |input| input.properties().output_partitioning().partition_count());
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema()),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        let (prefer, wishes, programs) = (Arc::from([]), Arc::from([]), Arc::from([]));
        let turns = Arc::new(Semaphore::new(desc.task.at_once.max(1) as usize));
        let (given_up, properties) = (Arc::default(), Arc::new(properties));
        StageExec { desc, inputs, prefer, wishes, programs, given_up, turns, properties }
    }

    /// Returns the stage with the executors that have what its partitions read, and with what these wish for.
    pub(crate) fn preferring(self, prefer: Vec<Option<Home>>, wishes: Vec<Option<Preference>>) -> StageExec {
        StageExec { prefer: Arc::from(prefer), wishes: Arc::from(wishes), ..self }
    }

    /// Returns the stage with a program for each partition.
    pub(crate) fn with_programs(self, programs: &Arc<[Bytes]>) -> StageExec {
        StageExec { programs: Arc::clone(programs), ..self }
    }

    /// Returns how long the longest program of a partition's own is.
    pub(crate) fn longest_program(&self) -> usize {
        self.programs.iter().map(Bytes::len).max().unwrap_or(0)
    }

    fn with_inputs(&self, inputs: Vec<Arc<dyn ExecutionPlan>>) -> StageExec {
        let (prefer, given_up) = (Arc::clone(&self.prefer), Arc::clone(&self.given_up));
        StageExec {
            prefer,
            wishes: Arc::clone(&self.wishes),
            programs: Arc::clone(&self.programs),
            given_up,
            ..StageExec::new(Arc::clone(&self.desc), inputs)
        }
    }

    /// Returns the same stage, whose tasks stop when `given_up` is set.
    pub(crate) fn heeding(&self, given_up: &Arc<AtomicBool>) -> StageExec {
        StageExec { given_up: Arc::clone(given_up), ..self.with_inputs(self.inputs.clone()) }
    }

    /// Returns the same stage with what the scheduler says of one task.
    pub(crate) fn stamped(&self, mut task: TaskStamp) -> StageExec {
        if !self.programs.is_empty() {
            task.programs = task.slice.iter().map(|p| self.programs.get(*p).cloned().unwrap_or_default()).collect();
        }
        let desc = StageDesc { task, ..(*self.desc).clone() };
        StageExec::new(Arc::new(desc), self.inputs.clone())
    }
}

impl DisplayAs for StageExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.desc.work {
            Work::Run { .. } => "run",
            Work::Pass => "pass on",
        };
        write!(f, "millstream stage {}: {what}", self.desc.stage)
    }
}

impl ExecutionPlan for StageExec {
    fn name(&self) -> &str {
        "StageExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.inputs.iter().collect()
    }

    /// Else the planner would spread the rows in its own way.
    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false; self.inputs.len()]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(self.with_inputs(children)))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(self.with_inputs(children)))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let Some(place) = self.desc.task.slice.get(partition).copied() else {
            return Err(failure::told(&bug!("a task has no partition {partition}")));
        };
        let (desc, given_up, turns) = (Arc::clone(&self.desc), Arc::clone(&self.given_up), Arc::clone(&self.turns));
        let inputs = self.inputs.clone();
        let output = stream::once(async move {
            let turn = turns.acquire().await;
            let _turn = turn.map_err(|error| failure::told(&bug!("a task has no slots: {error}")))?;
            if given_up.load(Ordering::Relaxed) {
                let text = "the task was given up before its turn came";
                return Err(failure::told(&Error::new(ErrorKind::Stopped, text)));
            }
            // Not before: from then on Ballista fetches, with connections, threads and memory, whether anybody reads or not.
            let inputs = inputs.iter().map(|input| input.execute(partition, Arc::clone(&context)));
            let inputs = inputs.collect::<DfResult<Vec<_>>>()?;
            let mut rows = RowReader::default();
            for mut input in inputs {
                // A stage that reads from nobody has a row a partition, which says nothing more.
                let leaf = input.schema() != schema();
                while let Some(batch) = input.try_next().await? {
                    if !leaf {
                        rows.push(&batch, Some(place as u32)).map_err(|error| failure::told(&error))?;
                    }
                }
            }
            let batches = run_beside(desc, place, rows, given_up).await?;
            Ok::<_, DataFusionError>(stream::iter(batches.into_iter().map(Ok)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema(), output.try_flatten().boxed())))
    }
}

/// Runs a task on a thread for what blocks, so that it holds nobody else up.
async fn run_beside(
    desc: Arc<StageDesc>,
    place: usize,
    rows: RowReader,
    given_up: Arc<AtomicBool>,
) -> DfResult<Vec<RecordBatch>> {
    let run = move || run(&desc, place, rows, given_up);
    match tokio::task::spawn_blocking(run).await {
        Ok(Ok(batches)) => Ok(batches),
        Ok(Err(error)) => Err(failure::told(&error)),
        Err(error) => Err(failure::told(&bug!("the thread of a task ended: {error}"))),
    }
}

fn run(desc: &StageDesc, place: usize, rows: RowReader, cancelled: Arc<AtomicBool>) -> Result<Vec<RecordBatch>> {
    let (readers, mut rest) = match &desc.readers {
        Readers::Driver(_) => (1, Rest::Brought(Vec::new())),
        Readers::Stage { count, .. } => (*count, Rest::Written),
    };
    let mut out = RowWriter::new(routing::keys(readers)?, u32::from_le_bytes(random()?));
    let mut blocks = Vec::new();
    for (kind, bytes) in rows.finish()? {
        match kind {
            Kind::Block { shuffle, map, partition, items } => {
                blocks.push(AwayBlock { shuffle, map, partition, items, bytes });
            }
            // One reader takes them on, so that they arrive once.
            note @ (Kind::Note { .. } | Kind::Result { .. }) => rest.push(&mut out, note, bytes)?,
        }
    }
    match &desc.work {
        Work::Pass => {
            for AwayBlock { shuffle, map, partition, items, bytes } in blocks {
                send(&mut out, &desc.readers, partition, Kind::Block { shuffle, map, partition, items }, &bytes)?;
            }
        }
        Work::Run { program, real, partitions, properties } => {
            let Some(partition) = real.get(place).copied() else {
                return Err(bug!("a stage has no partition {place} of those that are wanted"));
            };
            let at = desc.task.slice.iter().position(|p| *p == place);
            let own = at.and_then(|at| desc.task.programs.get(at));
            let task = AwayTask {
                program: own.unwrap_or(program).clone(),
                stage: StageId(desc.stage),
                partition,
                partitions: *partitions,
                attempt: desc.tried + desc.task.attempt,
                properties: Arc::clone(properties),
                elsewhere: desc.task.elsewhere,
            };
            let output = Here::get()?.worker(desc.engine)?.run(task, blocks, cancelled)?;
            if let (Some(blocks), Readers::Stage { shuffle, .. }) = (output.blocks, &desc.readers) {
                for (q, (items, bytes)) in blocks.into_iter().enumerate() {
                    let kind = Kind::Block { shuffle: *shuffle, map: partition, partition: q, items };
                    send(&mut out, &desc.readers, q, kind, &bytes)?;
                }
            }
            if let Some(bytes) = output.result {
                rest.push(&mut out, Kind::Result { partition }, bytes)?;
            }
            let here = Here::get()?;
            let (executor, host) = (Arc::clone(here.id()), Arc::clone(here.host()));
            let attempt = desc.tried + desc.task.attempt;
            let note = codec::encode(&TaskNote { executor, host, attempt, note: output.note })?;
            rest.push(&mut out, Kind::Note { stage: desc.stage, partition }, note.into())?;
        }
    }
    if let (Readers::Driver(number), Rest::Brought(rows)) = (&desc.readers, rest)
        && !is_brought(*number, place, desc.tried + desc.task.attempt, &rows)?
    {
        rows.iter().try_for_each(|(kind, bytes)| out.push(0, *kind, bytes))?;
    }
    out.finish()
}

/// What one reader takes on, whatever a task leaves for others.
enum Rest {
    /// It is written as all else.
    Written,
    /// The driver reads it, and it may be brought there.
    Brought(Vec<(Kind, Bytes)>),
}

impl Rest {
    fn push(&mut self, out: &mut RowWriter, kind: Kind, bytes: Bytes) -> Result<()> {
        match self {
            Rest::Written => out.push(0, kind, &bytes),
            Rest::Brought(rows) => {
                rows.push((kind, bytes));
                Ok(())
            }
        }
    }
}

/// Brings the driver what a task has made, if it is small and the driver is there. Returns whether it is brought.
fn is_brought(number: u64, place: usize, attempt: u32, rows: &[(Kind, Bytes)]) -> Result<bool> {
    if rows.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > SMALL {
        return Ok(false);
    }
    let rows = Bytes::from(codec::encode(rows)?);
    // Names of what they are may make many small rows long.
    let brought = rows.len() <= SMALL && Here::get()?.reports().bring(number, place, attempt, rows).is_ok();
    Ok(brought)
}

/// Writes a block for all who read it.
fn send(out: &mut RowWriter, readers: &Readers, partition: usize, kind: Kind, bytes: &[u8]) -> Result<()> {
    let Readers::Stage { to, .. } = readers else {
        return Err(bug!("the last stage writes a shuffle"));
    };
    match to {
        None => out.push(partition as u32, kind, bytes),
        Some(to) => to.get(partition).into_iter().flatten().try_for_each(|reader| out.push(*reader, kind, bytes)),
    }
}
