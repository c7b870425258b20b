//! The jobs of a batch, and the threads that run outputs.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use millstream_core::clock::{Clock, monotonic};
use millstream_core::threads::{self, OwnedThread, lock};
use millstream_core::{CallSite, Context, Error, ErrorKind, JobLocals, Result, Time, overwriting};

use super::lifecycle::Event;
use super::mailbox::Mailbox;
use crate::dstream::Notes;
use crate::graph::{OutputBody, guarded};
use crate::listener::{BatchInfo, ListenerBus, OutputOperationInfo, StreamingEvent};

/// What one output does in one batch.
pub(crate) struct Job {
    pub(crate) time: Time,
    pub(crate) id: u64,
    pub(crate) site: CallSite,
    pub(crate) notes: Notes,
    pub(crate) run: OutputBody,
}

/// The jobs of one batch, as far as they have come.
pub(crate) struct JobSet {
    /// When the batch loop woke up for the batch, by the clock that only runs forwards.
    woken: Duration,
    state: Mutex<SetState>,
}

struct SetState {
    info: BatchInfo,
    left: usize,
    failed: bool,
}

impl JobSet {
    pub(crate) fn new(info: BatchInfo, jobs: &[Job], woken: Duration) -> Arc<JobSet> {
        let outputs = jobs.iter().map(|job| OutputOperationInfo {
            batch_time: job.time,
            id: job.id,
            site: job.site,
            start_time: None,
            end_time: None,
            failure: None,
            metadata: BTreeMap::new(),
        });
        let info = BatchInfo { outputs: outputs.collect(), ..info };
        Arc::new(JobSet { woken, state: Mutex::new(SetState { info, left: jobs.len(), failed: false }) })
    }

    pub(crate) fn info(&self) -> BatchInfo {
        lock(&self.state).info.clone()
    }

    /// Looks at the batch, and at when it was woken, without a copy.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&BatchInfo, Duration) -> R) -> R {
        look(&lock(&self.state).info, self.woken)
    }

    /// Notes that a job begins; returns the batch if it is the first one to.
    fn begins(&self, job: u64, now: Time) -> (Option<BatchInfo>, Option<OutputOperationInfo>) {
        let mut state = lock(&self.state);
        let first = state.info.processing_start_time.is_none();
        if first {
            state.info.processing_start_time = Some(now);
            state.info.stamps.started = Some(monotonic().saturating_sub(self.woken));
        }
        let output = state.info.outputs.iter_mut().find(|output| output.id == job).map(|output| {
            output.start_time = Some(now);
            output.clone()
        });
        (first.then(|| state.info.clone()), output)
    }

    /// Notes that a job ended; returns the batch, and whether all went well, if it is the last one to.
    fn ended(
        &self,
        job: u64,
        now: Time,
        failure: Option<Error>,
        metadata: BTreeMap<String, String>,
    ) -> (Option<OutputOperationInfo>, Option<(BatchInfo, bool)>) {
        let mut state = lock(&self.state);
        state.failed |= failure.is_some();
        state.left -= 1;
        let output = state.info.outputs.iter_mut().find(|output| output.id == job).map(|output| {
            output.end_time = Some(now);
            output.failure = failure;
            output.metadata = metadata;
            output.clone()
        });
        let last = state.left == 0;
        if last {
            state.info.processing_end_time = Some(now);
            state.info.stamps.ended = Some(monotonic().saturating_sub(self.woken));
        }
        (output, last.then(|| (state.info.clone(), !state.failed)))
    }
}

/// What the threads that run jobs share.
pub(crate) struct JobRunner {
    pub(crate) context: Context,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) bus: ListenerBus,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) report: Arc<dyn Fn(Error) + Send + Sync>,
    /// What the thread that started the context said of its jobs (S-121).
    pub(crate) locals: JobLocals,
    pub(crate) group: String,
}

impl JobRunner {
    /// Returns what is said of the jobs of one output: what was said at the start, and what they are.
    fn locals(&self, time: Time, output: u64) -> JobLocals {
        self.locals.clone().with_properties([
            ("spark.job.description", format!("[output operation {output}, batch time {time}]")),
            ("spark.streaming.internal.batchTime", time.as_millis().to_string()),
            ("spark.streaming.internal.outputOpId", output.to_string()),
        ])
    }
}

struct Queue {
    jobs: VecDeque<(Job, Arc<JobSet>)>,
    closed: bool,
    busy: usize,
}

/// The threads that run outputs, first come first served.
pub(crate) struct JobThreads {
    shared: Arc<Shared>,
    threads: Vec<OwnedThread>,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    runner: JobRunner,
    /// Whether jobs have been given up, because somebody stops.
    abandoned: AtomicBool,
}

impl JobThreads {
    pub(crate) fn start(count: usize, runner: JobRunner) -> Result<JobThreads> {
        let queue = Queue { jobs: VecDeque::new(), closed: false, busy: 0 };
        let shared = Arc::new(Shared {
            queue: Mutex::new(queue),
            changed: Condvar::new(),
            runner,
            abandoned: AtomicBool::new(false),
        });
        let mut threads = Vec::new();
        for n in 0..count.max(1) {
            let shared = Arc::clone(&shared);
            threads.push(threads::spawn(format!("job-{n}"), move || shared.work())?);
        }
        Ok(JobThreads { shared, threads })
    }

    pub(crate) fn submit(&self, jobs: Vec<Job>, set: &Arc<JobSet>) {
        let count = jobs.len();
        lock(&self.shared.queue).jobs.extend(jobs.into_iter().map(|job| (job, Arc::clone(set))));
        if count == 1 || self.threads.len() == 1 {
            self.shared.changed.notify_one();
        } else {
            self.shared.changed.notify_all();
        }
    }

    /// Drops jobs that have not begun, and asks those that run to end.
    pub(crate) fn abandon(&self) {
        let dropped = std::mem::take(&mut lock(&self.shared.queue).jobs);
        drop(dropped);
        self.shared.abandoned.store(true, Ordering::Release);
        self.shared.runner.context.cancel_job_group(&self.shared.runner.group);
    }

    /// Ends the threads. One whose closure does not return within `patience` is left behind.
    pub(crate) fn stop(mut self, patience: Duration) {
        let mut queue = lock(&self.shared.queue);
        queue.closed = true;
        self.shared.changed.notify_all();
        let deadline = monotonic() + patience;
        while queue.busy > 0 {
            let left = deadline.saturating_sub(monotonic());
            if left.is_zero() {
                break;
            }
            queue = self.shared.changed.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let stuck = queue.busy > 0;
        drop(queue);
        for thread in self.threads.drain(..) {
            if stuck && !thread.is_current() {
                tracing::warn!("an output does not end; its thread is left behind");
                thread.detach();
            } else {
                thread.join();
            }
        }
    }

    /// Says whether the calling thread is one of these.
    pub(crate) fn thread_ids(&self) -> Vec<std::thread::ThreadId> {
        self.threads.iter().filter_map(OwnedThread::id).collect()
    }
}

impl Drop for JobThreads {
    /// Lets the threads end also where nobody came to stop them, so that whoever joins them does not wait for ever.
    fn drop(&mut self) {
        lock(&self.shared.queue).closed = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn work(&self) {
        let mut queue = lock(&self.queue);
        loop {
            if let Some((job, set)) = queue.jobs.pop_front() {
                queue.busy += 1;
                drop(queue);
                self.run(job, &set);
                queue = lock(&self.queue);
                queue.busy -= 1;
                if queue.closed {
                    self.changed.notify_all();
                }
                continue;
            }
            if queue.closed {
                return;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn run(&self, job: Job, set: &JobSet) {
        let JobRunner { clock, bus, mailbox, report, .. } = &self.runner;
        let Job { time, id, site, notes, run } = job;
        let (first, output) = set.begins(id, clock.now());
        match (first, output) {
            // The batch loop sees to it that these are told soon, if the batch does not end at once.
            (Some(info), output) => {
                bus.post_quietly(|| StreamingEvent::BatchStarted(Arc::new(info)));
                if let Some(info) = output {
                    bus.post_quietly(|| StreamingEvent::OutputOperationStarted(info));
                }
            }
            (None, Some(info)) => bus.post(|| StreamingEvent::OutputOperationStarted(info)),
            (None, None) => {}
        }
        // A batch that runs again writes over what it wrote, also by hand (S-109).
        let outcome = guarded(|| overwriting(|| self.runner.locals(time, id).scope(run)))
            .map_err(|error| error.at(site).in_batch(time));
        let failure = outcome.err();
        // That a job was cancelled is no news to whoever stopped it.
        let given_up = self.abandoned.load(Ordering::Acquire);
        if let Some(error) = failure.as_ref().filter(|error| !(given_up && error.kind() == ErrorKind::Stopped)) {
            report(error.clone());
        }
        let (output, last) = set.ended(id, clock.now(), failure, notes.take());
        if let Some(info) = output {
            bus.post_quietly(|| StreamingEvent::OutputOperationCompleted(info));
        }
        if let Some((info, ok)) = last {
            bus.post(|| StreamingEvent::BatchCompleted(Arc::new(info)));
            mailbox.post(Event::JobsEnded { at: time, ok });
        } else {
            bus.wake();
        }
    }
}
