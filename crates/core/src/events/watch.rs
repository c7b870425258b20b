//! A job that somebody listens to: what a backend says of its stages and tasks, made into events.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock, Mutex};

use super::{EngineEvent, JobEnd, JobStart, Place, StageInfo, TaskEnd, TaskInfo, TaskKind, TaskMetrics};
use crate::context::Env;
use crate::context::jobs::JobInfo;
use crate::error::{Error, Result};
use crate::plan::{JobPlan, StageId};
use crate::threads::lock;
use crate::time::Time;

/// Told by a backend how far a job has come, because somebody listens.
///
/// A backend says that a stage is submitted before any task of it starts, and that it has ended behind the end of all
/// its tasks.
pub struct JobWatch {
    env: Arc<Env>,
    job: u64,
    begun: Place,
    stages: Mutex<Vec<StageInfo>>,
    /// The partitions that are wanted of the last stage, each with its place among them.
    wanted: Vec<(usize, usize)>,
}

impl JobWatch {
    /// Tells that a job begins, and has it watched, if anybody listens.
    pub(crate) fn begin(env: &Arc<Env>, plan: &JobPlan, job: impl FnOnce() -> JobInfo) -> Option<Arc<JobWatch>> {
        let events = &env.events;
        // Numbers do not depend on whether somebody listens.
        let first = events.next_stage.fetch_add(plan.stages.len() as u64, Ordering::Relaxed);
        if !events.listeners.any() {
            return None;
        }
        let job = job();
        let id = job.id;
        let stages = stages(plan, id, first);
        let start = JobStart {
            job,
            time: events.clock.now(),
            stages: stages.clone(),
            properties: Arc::clone(&plan.properties),
        };
        let begun = events.listeners.post_first(|| EngineEvent::JobStarted(start))?;
        let mut wanted: Vec<_> = plan.wanted.iter().copied().enumerate().map(|(i, p)| (p, i)).collect();
        wanted.sort_unstable();
        Some(Arc::new(JobWatch { env: Arc::clone(env), job: id, begun, stages: Mutex::new(stages), wanted }))
    }

    fn tell(&self, event: EngineEvent) {
        self.env.events.listeners.post_within(self.begun, || event);
    }

    /// Tells that the tasks of a stage may run.
    pub fn stage_submitted(&self, stage: StageId) {
        let mut stages = lock(&self.stages);
        let Some(info) = stages.get_mut(stage.0 as usize) else { return };
        info.submission_time = Some(self.env.events.clock.now());
        let info = info.clone();
        drop(stages);
        self.tell(EngineEvent::StageSubmitted(info));
    }

    /// Tells that a stage that was submitted has ended, and why it was given up, if it was.
    pub fn stage_completed(&self, stage: StageId, failure: Option<&Error>) {
        let mut stages = lock(&self.stages);
        let Some(info) = stages.get_mut(stage.0 as usize) else { return };
        info.completion_time = Some(self.env.events.clock.now());
        info.failure = failure.cloned();
        let info = info.clone();
        drop(stages);
        self.tell(EngineEvent::StageCompleted(info));
    }

    /// Tells that an attempt at a task begins, on a thread of this process. Returns what [`task_ended`](Self::task_ended) asks
    /// for.
    pub fn task_started(&self, stage: StageId, partition: usize, attempt: u32) -> TaskInfo {
        static HERE: LazyLock<(Arc<str>, Arc<str>)> = LazyLock::new(|| ("driver".into(), "localhost".into()));
        self.started(stage, partition, attempt, &HERE, self.env.events.clock.now())
    }

    /// Tells of a task of an executor, with its host, that has begun and ended well before anybody here knew of it.
    pub fn task_ran(
        &self,
        stage: StageId,
        partition: usize,
        attempt: u32,
        executor: &(Arc<str>, Arc<str>),
        metrics: TaskMetrics,
    ) {
        let begun = self.env.events.clock.now() - metrics.run_time;
        let task = self.started(stage, partition, attempt, executor, begun);
        self.task_ended(stage, task, Ok(()), metrics);
    }

    fn started(
        &self,
        stage: StageId,
        partition: usize,
        attempt: u32,
        (executor, host): &(Arc<str>, Arc<str>),
        launch_time: Time,
    ) -> TaskInfo {
        let events = &self.env.events;
        let (id, kind) = lock(&self.stages)
            .get(stage.0 as usize)
            .map_or((u64::from(stage.0), TaskKind::Result), |info| (info.id, info.kind));
        let place = match kind {
            TaskKind::ShuffleMap(_) => None,
            TaskKind::Result => self.wanted.binary_search_by_key(&partition, |(p, _)| *p).ok(),
        };
        let task = TaskInfo {
            id: events.next_task.fetch_add(1, Ordering::Relaxed),
            job: self.job,
            stage: id,
            kind,
            index: place.map_or(partition, |at| self.wanted[at].1),
            partition,
            attempt,
            executor: Arc::clone(executor),
            host: Arc::clone(host),
            launch_time,
            finish_time: None,
        };
        self.tell(EngineEvent::TaskStarted(task.clone()));
        task
    }

    /// Tells that an attempt at a task has ended.
    pub fn task_ended(&self, stage: StageId, task: TaskInfo, result: Result<()>, metrics: TaskMetrics) {
        if result.is_ok()
            && let Some(info) = lock(&self.stages).get_mut(stage.0 as usize)
        {
            info.metrics.merge(&metrics);
        }
        let task = TaskInfo { finish_time: Some(self.env.events.clock.now()), ..task };
        self.tell(EngineEvent::TaskEnded(TaskEnd { task, result, metrics }));
    }

    /// Tells that the job has ended.
    pub(crate) fn job_ended(&self, result: Result<()>) {
        let end = JobEnd { job: self.job, time: self.env.events.clock.now(), result };
        self.tell(EngineEvent::JobEnded(end));
    }
}

/// What there is to know of the stages before they run.
fn stages(plan: &JobPlan, job: u64, first: u64) -> Vec<StageInfo> {
    let last = plan.stages.len() - 1;
    let info = |(i, stage): (usize, &crate::plan::StagePlan)| StageInfo {
        id: first + i as u64,
        attempt: 0,
        job,
        site: if i == last { plan.site } else { stage.site },
        kind: stage.shuffle.map_or(TaskKind::Result, |shuffle| TaskKind::ShuffleMap(shuffle.id)),
        tasks: if i == last { plan.wanted.len() } else { stage.partitions },
        rdds: stage.program.rdds(),
        parents: stage.inputs.iter().map(|input| first + u64::from(input.0)).collect(),
        properties: Arc::clone(&plan.properties),
        submission_time: None,
        completion_time: None,
        failure: None,
        metrics: TaskMetrics::default(),
    };
    plan.stages.iter().enumerate().map(info).collect()
}

impl fmt::Debug for JobWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobWatch({})", self.job)
    }
}
