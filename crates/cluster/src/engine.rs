//! How an executor runs a task of Ballista's: as Ballista does, but with two differences.
//!
//! Whatever runs for the task hears that it is given up: Ballista stops to wait for a task that is cancelled, and its writers and
//! their inputs run on, on threads that nobody holds. And no file is written for results that have been brought to the driver.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use ballista_core::JobId;
use ballista_core::client_pool::BallistaClientPool;
use ballista_core::execution_plans::{ShuffleReaderExec, ShuffleWriterExec};
use ballista_core::serde::protobuf::{RuntimeStatsReport, ShuffleWritePartition, TaskColumnStats, WindowStateReport};
use ballista_executor::execution_engine::{
    DefaultExecutionEngine, DefaultQueryStageExec, ExecutionEngine, QueryStageExecutor, ShuffleWriterVariant,
};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use datafusion::prelude::SessionConfig;
use futures_util::TryStreamExt;
use tokio::task::JoinSet;

use crate::endings::TaskName;
use crate::failure;
use crate::here::Here;
use crate::rows::schema;
use crate::stage::{Readers, StageExec};

/// The engine of an executor.
pub(crate) struct Engine {
    ballista: DefaultExecutionEngine,
    pool: Arc<dyn BallistaClientPool>,
}

impl Engine {
    /// Makes one that reads shuffles through connections of `pool`.
    pub(crate) fn new(pool: Arc<dyn BallistaClientPool>) -> Engine {
        Engine { ballista: DefaultExecutionEngine::with_client_pool(Arc::clone(&pool)), pool }
    }
}

impl ExecutionEngine for Engine {
    fn create_query_stage_exec(
        &self,
        job: JobId,
        stage: usize,
        task: usize,
        partitions: Vec<usize>,
        plan: Arc<dyn ExecutionPlan>,
        folder: &str,
        config: &SessionConfig,
    ) -> Result<Arc<dyn QueryStageExecutor>> {
        let given_up = Arc::new(AtomicBool::new(false));
        let here = |plan: Arc<dyn ExecutionPlan>| -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
            if let Some(stage) = plan.downcast_ref::<StageExec>() {
                return Ok(Transformed::yes(Arc::new(stage.heeding(&given_up))));
            }
            Ok(match plan.downcast_ref::<ShuffleReaderExec>() {
                Some(reader) => {
                    let reader = reader.with_work_dir(folder.to_owned()).with_client_pool(Arc::clone(&self.pool));
                    Transformed::yes(Arc::new(reader))
                }
                None => Transformed::no(plan),
            })
        };
        let plan = plan.transform_up(here)?.data;
        let name = TaskName { job: job.to_string(), stage: stage as u32, task: task as u32 };
        let last = last_stage(&plan).filter(|stage| stage.output_partitioning().partition_count() == partitions.len());
        let place = Place { job: job.clone(), stage, task, folder: folder.to_owned() };
        let (ids, ballista) = (partitions.clone(), &self.ballista);
        let writes =
            ballista.create_query_stage_exec(job, stage, task, partitions, Arc::clone(&plan), folder, config)?;
        let inner = match last {
            Some(last) => Arc::new(Brings { last, partitions: ids, place, writes }) as Arc<dyn QueryStageExecutor>,
            None => writes,
        };
        Ok(Arc::new(Heeded { inner, given_up, _ending: Ending(Some(name)) }))
    }
}

/// Returns the last stage of a job, if it is that of which a plan writes the rows.
fn last_stage(plan: &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn ExecutionPlan>> {
    plan.downcast_ref::<ShuffleWriterExec>()?;
    let [child] = plan.children()[..] else { return None };
    let stage = child.downcast_ref::<StageExec>()?;
    matches!(stage.desc.readers, Readers::Driver(_)).then(|| Arc::clone(child))
}

/// Where a task writes.
#[derive(Clone, Debug)]
struct Place {
    job: JobId,
    stage: usize,
    task: usize,
    folder: String,
}

impl Place {
    /// Writes the rows of one partition as Ballista does; nothing if there are none.
    async fn write(
        self,
        partition: usize,
        rows: SendableRecordBatchStream,
        context: Arc<TaskContext>,
    ) -> Result<Vec<ShuffleWritePartition>> {
        let batches: Vec<_> = rows.try_collect().await?;
        if batches.iter().all(|batch| batch.num_rows() == 0) {
            let (partition_id, file_id) = (partition as u64, Some(self.task as u64));
            return Ok(vec![ShuffleWritePartition { partition_id, file_id, ..ShuffleWritePartition::default() }]);
        }
        let rows = MemorySourceConfig::try_new_exec(&[batches], schema(), None)?;
        let writer = ShuffleWriterExec::try_new(self.job, self.stage, rows, self.folder)?
            .with_task_id(self.task)
            .with_global_output_partition_ids(vec![partition]);
        let writer = DefaultQueryStageExec::new(ShuffleWriterVariant::Passthrough(writer));
        writer.execute_query_stage(self.task, context).await
    }
}

/// A task of the last stage. What it makes has been brought to the driver, mostly; a file is written of the rest alone.
#[derive(Debug)]
struct Brings {
    last: Arc<dyn ExecutionPlan>,
    /// What the partitions of it are called.
    partitions: Vec<usize>,
    place: Place,
    /// As Ballista would run it.
    writes: Arc<dyn QueryStageExecutor>,
}

impl fmt::Display for Brings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.writes.fmt(f)
    }
}

#[async_trait]
impl QueryStageExecutor for Brings {
    async fn execute_query_stage(&self, _: usize, context: Arc<TaskContext>) -> Result<Vec<ShuffleWritePartition>> {
        let mut parts = JoinSet::new();
        for (at, partition) in self.partitions.iter().enumerate() {
            let rows = self.last.execute(at, Arc::clone(&context))?;
            parts.spawn(self.place.clone().write(*partition, rows, Arc::clone(&context)));
        }
        let mut written = Vec::with_capacity(self.partitions.len());
        while let Some(part) = parts.join_next().await {
            let ended = |error| DataFusionError::Execution(format!("a partition of the last stage ended: {error}"));
            written.extend(part.map_err(ended)??);
        }
        Ok(written)
    }

    fn collect_plan_metrics(&self) -> Vec<MetricsSet> {
        self.writes.collect_plan_metrics()
    }
}

/// A task that tells what runs for it when nobody waits for it any more.
#[derive(Debug)]
struct Heeded {
    inner: Arc<dyn QueryStageExecutor>,
    given_up: Arc<AtomicBool>,
    _ending: Ending,
}

/// Says with the next sign of life that a task has ended, when its executor lets go of it.
#[derive(Debug)]
struct Ending(Option<TaskName>);

impl Drop for Ending {
    fn drop(&mut self) {
        if let (Some(task), Ok(here)) = (self.0.take(), Here::get()) {
            here.endings().add(task);
        }
    }
}

impl fmt::Display for Heeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// Sets a flag when it is dropped: a future that is given up is not polled again.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[async_trait]
impl QueryStageExecutor for Heeded {
    async fn execute_query_stage(&self, task: usize, context: Arc<TaskContext>) -> Result<Vec<ShuffleWritePartition>> {
        // Also when it ends by itself: where one of its partitions has failed the others are of no use.
        let _given_up = SetOnDrop(&self.given_up);
        let written = self.inner.execute_query_stage(task, context).await;
        written.map_err(|error| match Here::get() {
            Ok(here) => failure::placed(error, here.id(), here.host(), here.folder()),
            Err(_) => error,
        })
    }

    fn collect_plan_metrics(&self) -> Vec<MetricsSet> {
        self.inner.collect_plan_metrics()
    }

    fn collect_runtime_stats_reports(&self) -> Vec<RuntimeStatsReport> {
        self.inner.collect_runtime_stats_reports()
    }

    fn collect_window_state_reports(&self) -> Result<Vec<WindowStateReport>> {
        self.inner.collect_window_state_reports()
    }

    fn collect_column_stats(&self) -> Vec<TaskColumnStats> {
        self.inner.collect_column_stats()
    }
}
