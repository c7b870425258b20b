//! The threads that run tasks. Who waits for a job helps with it.
//!
//! At most as many tasks run at once as the master has threads. A thread that waits for its own job takes tasks of
//! that job like a worker does, so a tiny job usually ends before a worker has woken up.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::job::{Attempt, JobState, Next, Step};
use super::lanes::Lanes;
use crate::backend::{Backend, JobEnds, JobHandle, RunningJob};
use crate::clock::monotonic;
use crate::conf::PoolShare;
use crate::context::Env;
use crate::context::jobs::POOL;
use crate::error::Result;
use crate::events::JobWatch;
use crate::plan::{JobPlan, Properties, StageId, StagePlan, Tally, TaskContext, TaskOutput};
use crate::threads::{self, OwnedThread, lock};

/// Runs jobs on a fixed number of threads of this process.
pub struct LocalThreads {
    pool: Arc<Pool>,
    attempts: u32,
    _workers: Vec<OwnedThread>,
}

struct Pool {
    slots: usize,
    queue: Mutex<Queue>,
    /// Told when there are tasks for workers, or an end.
    work: Condvar,
}

struct Queue {
    tasks: Lanes<(Arc<Job>, Attempt)>,
    running: usize,
    idle: usize,
    closed: bool,
}

struct Job {
    /// Let go of before the end is told: who drops an Rdd behind its job drops its lineage, not some worker later.
    stages: Mutex<Vec<StagePlan>>,
    env: Arc<Env>,
    cancelled: Arc<AtomicBool>,
    properties: Properties,
    lane: Arc<str>,
    on_result: Box<dyn Fn(usize, crate::plan::TaskResult) + Send + Sync>,
    watch: Option<Arc<JobWatch>>,
    state: Mutex<Progress>,
    /// Told when the job has ended, or has new tasks that its waiter may take.
    changed: Condvar,
    pool: Arc<Pool>,
}

struct Progress {
    job: JobState,
    on_end: Option<Box<dyn FnOnce(Result<()>) + Send>>,
    /// Whether `on_end` has returned.
    told: bool,
    waiters: usize,
}

impl LocalThreads {
    /// Starts `threads` threads; each task is tried `attempts` times.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable`: the system gives no more threads.
    pub fn new(threads: usize, attempts: u32) -> Result<LocalThreads> {
        LocalThreads::begin(threads, attempts, None)
    }

    /// As [`new`](Self::new), with the threads shared fairly between pools.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable`: the system gives no more threads.
    pub fn fair(threads: usize, attempts: u32, shares: BTreeMap<String, PoolShare>) -> Result<LocalThreads> {
        LocalThreads::begin(threads, attempts, Some(shares))
    }

    fn begin(threads: usize, attempts: u32, shares: Option<BTreeMap<String, PoolShare>>) -> Result<LocalThreads> {
        let queue = Queue { tasks: Lanes::new(shares), running: 0, idle: 0, closed: false };
        let pool = Arc::new(Pool { slots: threads.max(1), queue: Mutex::new(queue), work: Condvar::new() });
        let mut backend = LocalThreads { pool: Arc::clone(&pool), attempts: attempts.max(1), _workers: Vec::new() };
        for n in 0..pool.slots {
            let pool = Arc::clone(&pool);
            backend._workers.push(threads::spawn(format!("task-{n}"), move || pool.work())?);
        }
        Ok(backend)
    }
}

impl Drop for LocalThreads {
    fn drop(&mut self) {
        lock(&self.pool.queue).closed = true;
        self.pool.work.notify_all();
        // The workers are joined when they are dropped.
    }
}

impl fmt::Debug for LocalThreads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalThreads({} threads, {} attempts)", self.pool.slots, self.attempts)
    }
}

impl Backend for LocalThreads {
    fn slots(&self) -> usize {
        self.pool.slots
    }

    fn run(&self, job: JobPlan, env: &Arc<Env>, ends: JobEnds) -> JobHandle {
        let last = job.stages.len() - 1;
        let shape: Vec<_> = job
            .stages
            .iter()
            .enumerate()
            .map(|(i, stage)| {
                let inputs = stage.inputs.iter().map(|id| id.0 as usize).collect();
                let partitions = if i == last { job.wanted.clone() } else { (0..stage.partitions).collect() };
                (inputs, partitions)
            })
            .collect();
        let running = Arc::new(Job {
            stages: Mutex::new(job.stages),
            env: Arc::clone(env),
            cancelled: Arc::new(AtomicBool::new(false)),
            lane: lock(&self.pool.queue).tasks.lane_of(job.properties.get(POOL).map(String::as_str)),
            properties: job.properties,
            on_result: ends.on_result,
            state: Mutex::new(Progress {
                job: JobState::new(&shape, self.attempts, ends.watch.is_some()),
                on_end: Some(ends.on_end),
                told: false,
                waiters: 0,
            }),
            watch: ends.watch,
            changed: Condvar::new(),
            pool: Arc::clone(&self.pool),
        });
        let next = running.decide(JobState::begin);
        running.perform(next, true);
        JobHandle(Arc::new(running))
    }
}

impl Pool {
    /// The life of a worker.
    fn work(&self) {
        let mut queue = lock(&self.queue);
        loop {
            if queue.running < self.slots
                && let Some((job, attempt)) = queue.tasks.take()
            {
                queue.running += 1;
                drop(queue);
                job.run_one(attempt);
                let lane = Arc::clone(&job.lane);
                // A job's last reference may hold a long lineage: it is let go without the lock.
                drop(job);
                queue = lock(&self.queue);
                queue.running -= 1;
                queue.tasks.ended(&lane);
                continue;
            }
            if queue.closed {
                return;
            }
            queue.idle += 1;
            queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
        }
    }
}

impl Job {
    /// Has the job's state decide what comes next, and tells of it under the same lock: in the order of decisions.
    fn decide(&self, decide: impl FnOnce(&mut JobState) -> Next) -> Next {
        let mut state = lock(&self.state);
        let next = decide(&mut state.job);
        if let Some(watch) = &self.watch {
            for step in &next.steps {
                match *step {
                    Step::Submitted(stage) => watch.stage_submitted(StageId(stage as u32)),
                    Step::Completed(stage) => watch.stage_completed(StageId(stage as u32), None),
                    Step::Failed(stage) => watch.stage_completed(StageId(stage as u32), state.job.failure()),
                }
            }
        }
        if state.job.has_failed() {
            self.cancelled.store(true, Ordering::Relaxed);
        }
        next
    }

    /// Does what the job's state asks for. `begins` says that its caller will wait and help.
    fn perform(self: &Arc<Self>, next: Next, begins: bool) {
        if !next.run.is_empty() {
            let count = next.run.len();
            let mut queue = lock(&self.pool.queue);
            for attempt in next.run {
                queue.tasks.push(&self.lane, (Arc::clone(self), attempt));
            }
            let idle = queue.idle;
            drop(queue);
            // Somebody who ends a task, or waits for this job, takes one task; workers are woken for the others.
            let others = if begins || idle < self.pool.slots { count - 1 } else { count };
            for _ in 0..others.min(idle) {
                self.pool.work.notify_one();
            }
            if lock(&self.state).waiters > 0 {
                self.changed.notify_all();
            }
        }
        if let Some(end) = next.end {
            let stages = std::mem::take(&mut *lock(&self.stages));
            drop(stages);
            let on_end = lock(&self.state).on_end.take();
            if let Some(on_end) = on_end {
                on_end(end);
            }
            lock(&self.state).told = true;
            self.changed.notify_all();
        }
    }

    fn run_one(self: &Arc<Self>, attempt: Attempt) {
        let outcome = if self.cancelled.load(Ordering::Relaxed) { None } else { Some(self.run_watched(attempt)) };
        let next = self.decide(|job| match outcome {
            None => job.dropped(1),
            Some(outcome) => job.ended(attempt, outcome),
        });
        self.perform(next, false);
    }

    fn run_watched(&self, attempt: Attempt) -> Result<()> {
        let Some(watch) = &self.watch else { return self.run_attempt(attempt, None) };
        let stage = StageId(attempt.stage as u32);
        let info = watch.task_started(stage, attempt.partition, attempt.attempt);
        let (tally, begun) = (Arc::new(Tally::default()), monotonic());
        let outcome = self.run_attempt(attempt, Some(Arc::clone(&tally)));
        // Before anybody can know that the task has ended, and so that its stage or job has.
        watch.task_ended(stage, info, outcome.clone(), tally.metrics(monotonic().saturating_sub(begun)));
        outcome
    }

    fn run_attempt(&self, attempt: Attempt, tally: Option<Arc<Tally>>) -> Result<()> {
        let stage = lock(&self.stages)[attempt.stage].clone();
        let task = TaskContext::new(
            stage.id,
            attempt.partition,
            stage.partitions,
            attempt.attempt,
            Arc::clone(&self.env),
            Arc::clone(&self.cancelled),
            Arc::clone(&self.properties),
            tally,
        );
        let output = task.run(&*stage.program)?;
        // Only now, and before anybody can know that the task has ended.
        task.updates().commit()?;
        match (output, stage.shuffle) {
            (TaskOutput::Shuffle(blocks), Some(shuffle)) => {
                task.tally(|tally| tally.wrote(&blocks));
                self.env.shuffles.put(shuffle.id, stage.partitions, attempt.partition, blocks)
            }
            (TaskOutput::Result(result), None) => {
                (self.on_result)(attempt.partition, result);
                Ok(())
            }
            _ => Err(crate::bug!("a task left what its stage does not ask for")),
        }
    }

    /// Takes a task of this job, if a thread may run one more.
    ///
    /// One worker less was woken for the job than it had tasks, since its waiter was to take one. If a worker that was woken
    /// for another job has taken that, the waiter wakes one in its place.
    fn take_task(self: &Arc<Self>) -> Option<Attempt> {
        let mut queue = lock(&self.pool.queue);
        let free = self.pool.slots.saturating_sub(queue.running);
        let Some(at) = queue.tasks.find(&self.lane, free, |(job, _)| Arc::ptr_eq(job, self)) else {
            let waiting = free > 0 && queue.idle > 0 && !queue.tasks.is_empty();
            drop(queue);
            if waiting {
                self.pool.work.notify_one();
            }
            return None;
        };
        queue.running += 1;
        queue.tasks.take_at(&self.lane, at).map(|(_, attempt)| attempt)
    }

    fn gave_back_slot(&self) {
        let mut queue = lock(&self.pool.queue);
        queue.running -= 1;
        queue.tasks.ended(&self.lane);
        let waiting = !queue.tasks.is_empty() && queue.idle > 0;
        drop(queue);
        if waiting {
            self.pool.work.notify_one();
        }
    }
}

/// A handle keeps the job as long as somebody may wait for it.
impl RunningJob for Arc<Job> {
    fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
        let next = self.decide(JobState::cancel);
        self.perform(next, false);
    }

    fn wait(&self) {
        loop {
            while let Some(attempt) = self.take_task() {
                self.run_one(attempt);
                self.gave_back_slot();
            }
            let mut state = lock(&self.state);
            if state.told {
                return;
            }
            if state.job.has_ended() {
                // Somebody is telling the end at this moment.
                while !state.told {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                return;
            }
            // A task that came between the look above and now is seen here, under the lock that announces it.
            state.waiters += 1;
            if self.has_task() {
                state.waiters -= 1;
                continue;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiters -= 1;
        }
    }
}

impl Job {
    fn has_task(self: &Arc<Self>) -> bool {
        let queue = lock(&self.pool.queue);
        let free = self.pool.slots.saturating_sub(queue.running);
        queue.tasks.find(&self.lane, free, |(job, _)| Arc::ptr_eq(job, self)).is_some()
    }
}
