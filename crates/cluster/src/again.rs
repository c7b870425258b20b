//! Tasks that are placed again: those that have waited long enough, and those of whose end nobody has heard.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ballista_core::serde::protobuf::failed_task::FailedReason;
use ballista_core::serde::protobuf::scheduler_grpc_server::SchedulerGrpc;
use ballista_core::serde::protobuf::{FailedTask, ResultLost, TaskStatus, UpdateTaskStatusParams, task_status};
use ballista_scheduler::state::execution_stage::ExecutionStage;
use millstream_core::clock::monotonic;
use millstream_core::threads::lock;

use crate::driver::Inner;
use crate::endings::TaskName;

/// Has tasks placed again after a while, where they have waited for an executor. The scheduler does so when anything is
/// reported, be it nothing.
pub(crate) fn place_again(inner: &Arc<Inner>) {
    let weak = Arc::downgrade(inner);
    let again = move |after: Duration| {
        let Some(inner) = weak.upgrade() else { return };
        let (weak, runtime) = (Weak::clone(&weak), inner.runtime.clone());
        runtime.spawn(async move {
            tokio::time::sleep(after).await;
            let Some(inner) = weak.upgrade() else { return };
            let Some(executor_id) = inner.slots.ready().borrow().first().cloned() else { return };
            let nothing = UpdateTaskStatusParams { executor_id, task_status: Vec::new() };
            if let Err(error) = inner.scheduler.update_task_status(tonic::Request::new(nothing)).await {
                tracing::warn!(%error, "tasks that wait are not placed");
            }
        });
    };
    inner.slots.place_again_by(Box::new(again));
}

/// Looks now and then for tasks that have ended without the scheduler's knowing, and has them run again.
pub(crate) fn hear_of_endings(inner: &Arc<Inner>) {
    let weak = Arc::downgrade(inner);
    inner.runtime.spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let Some(inner) = weak.upgrade() else { return };
            let due = lock(&inner.unheard).due(monotonic());
            if !due.is_empty() {
                inner.run_again(&due).await;
            }
        }
    });
}

impl Inner {
    /// Has those of these tasks run again that still run as far as the scheduler knows: the word of their end was lost. What that
    /// may still say later is not heard.
    async fn run_again(&self, due: &BTreeSet<(String, TaskName)>) {
        let mut lost: BTreeMap<String, Vec<TaskStatus>> = BTreeMap::new();
        for (job, info) in self.scheduler.state.task_manager.get_running_job_cache().iter() {
            for (number, stage) in info.execution_graph.read().await.stages() {
                let ExecutionStage::Running(stage) = stage else { continue };
                for task in &stage.task_infos {
                    let task_status::Status::Running(running) = &task.task_status else { continue };
                    let name = TaskName { job: job.to_string(), stage: *number as u32, task: task.task_id as u32 };
                    let name = (running.executor_id.clone(), name);
                    if due.contains(&name) {
                        let status = lost_end(name.1, stage.stage_attempt_num as u32);
                        lost.entry(name.0).or_default().push(status);
                    }
                }
            }
        }
        for (executor_id, task_status) in lost {
            tracing::warn!(
                "{} tasks of {executor_id} have ended, and nobody has said how: they run again",
                task_status.len()
            );
            let params = UpdateTaskStatusParams { executor_id, task_status };
            if let Err(error) = self.scheduler.update_task_status(tonic::Request::new(params)).await {
                tracing::error!(%error, "tasks whose end was not told do not run again");
            }
        }
    }
}

/// Says that a task is to run again, as what came of it is not known. It counts as no failure of its own.
fn lost_end(TaskName { job, stage, task }: TaskName, stage_attempt_num: u32) -> TaskStatus {
    let failed = FailedTask {
        error: "its end was not told".to_owned(),
        retryable: true,
        count_to_failures: false,
        failed_reason: Some(FailedReason::ResultLost(ResultLost {})),
    };
    TaskStatus {
        task_id: task,
        job_id: job,
        stage_id: stage,
        stage_attempt_num,
        launch_time: 0,
        start_exec_time: 0,
        end_exec_time: 0,
        metrics: Vec::new(),
        status: Some(task_status::Status::Failed(failed)),
    }
}
