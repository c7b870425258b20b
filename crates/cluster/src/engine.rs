//! How an executor runs a task of Ballista's: as Ballista does, and so that whatever runs for the task hears that it is given up.
//!
//! Ballista stops to wait for a task that is cancelled, and its writers and their inputs run on, on threads that nobody holds.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use ballista_core::JobId;
use ballista_core::client_pool::BallistaClientPool;
use ballista_core::serde::protobuf::{RuntimeStatsReport, ShuffleWritePartition, TaskColumnStats, WindowStateReport};
use ballista_executor::execution_engine::{DefaultExecutionEngine, ExecutionEngine, QueryStageExecutor};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::prelude::SessionConfig;

use crate::endings::TaskName;
use crate::failure;
use crate::here::Here;
use crate::stage::StageExec;

/// The engine of an executor.
pub(crate) struct Engine(DefaultExecutionEngine);

impl Engine {
    /// Makes one that reads shuffles through connections of `pool`.
    pub(crate) fn new(pool: Arc<dyn BallistaClientPool>) -> Engine {
        Engine(DefaultExecutionEngine::with_client_pool(pool))
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
        let heeding = |plan: Arc<dyn ExecutionPlan>| {
            Ok(match plan.downcast_ref::<StageExec>() {
                Some(stage) => Transformed::yes(Arc::new(stage.heeding(&given_up)) as Arc<dyn ExecutionPlan>),
                None => Transformed::no(plan),
            })
        };
        let plan = plan.transform_up(heeding)?.data;
        let job_name = job.to_string();
        let inner = self.0.create_query_stage_exec(job, stage, task, partitions, plan, folder, config)?;
        let name = TaskName { job: job_name, stage: stage as u32, task: task as u32 };
        Ok(Arc::new(Heeded { inner, given_up, _ending: Ending(Some(name)) }))
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
