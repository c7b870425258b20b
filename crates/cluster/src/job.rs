//! The life of one job: handed to Ballista, waited for, its results fetched; and tried again where those were lost.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use ballista_core::execution_plans::ShuffleReaderExec;
use ballista_core::serde::protobuf::{JobStatus, SuccessfulJob, job_status};
use ballista_core::serde::scheduler::PartitionLocation;
use bytes::Bytes;
use datafusion::physical_plan::{ExecutionPlan, Partitioning};
use futures_util::future::try_join_all;
use futures_util::{FutureExt, TryStreamExt};
use millstream_core::backend::{JobEnds, JobHandle, RunningJob};
use millstream_core::plan::{JobPlan, StageId, TaskResult};
use millstream_core::threads::lock;
use millstream_core::{Error, ErrorKind, Result, bug, codec, panicked};
use tokio::sync::{mpsc, watch};

use crate::driver::Inner;
use crate::failure;
use crate::query::Query;
use crate::rows::{Kind, RowReader, schema};
use crate::stage::TaskNote;

/// How often a job is begun whose results were lost with an executor behind its end.
const TRIES: u32 = 4;

/// How many attempts at a task one try of its job may have, so that attempts of all tries differ.
const ATTEMPTS: u32 = 16;

/// A job that runs, for those who wait.
struct Running {
    ended: Mutex<bool>,
    changed: Condvar,
    cancelled: watch::Sender<bool>,
}

impl RunningJob for Running {
    fn cancel(&self) {
        self.cancelled.send_replace(true);
    }

    fn wait(&self) {
        let mut ended = lock(&self.ended);
        while !*ended {
            ended = self.changed.wait(ended).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Runs a job, and tells its end.
pub(crate) fn run_query(inner: &Arc<Inner>, query: Result<Query>, job: JobPlan, ends: JobEnds) -> JobHandle {
    let (cancelled, heard) = watch::channel(false);
    let running = Arc::new(Running { ended: Mutex::new(false), changed: Condvar::new(), cancelled });
    let handle = JobHandle(Arc::clone(&running) as Arc<dyn RunningJob>);
    let inner_here = Arc::clone(inner);
    inner.runtime.spawn(async move {
        let rows = match query {
            Ok(_) if job.wanted.is_empty() => Ok(Vec::new()),
            Ok(query) => {
                let run = AssertUnwindSafe(tried(&inner_here, &query, heard)).catch_unwind().await;
                // A job ends whatever happens.
                run.unwrap_or_else(|payload| Err(panicked(&*payload))).inspect_err(|error| {
                    if error.is_lost() {
                        inner_here.places.missed();
                    }
                })
            }
            Err(error) => Err(error),
        };
        let inner_there = Arc::clone(&inner_here);
        // Values are read, and closures of the program may run: not on a thread that others wait for.
        let end = move || {
            let JobEnds { on_result, on_end, watch } = ends;
            let result = rows.and_then(|rows| finish(&inner_there, &job, rows, &*on_result, watch.as_deref()));
            drop(job);
            on_end(result);
            *lock(&running.ended) = true;
            running.changed.notify_all();
        };
        let _ = tokio::task::spawn_blocking(end).await;
    });
    handle
}

type Rows = Vec<(Kind, Bytes)>;

/// Runs the job until its results are there, or it fails for a reason of its own.
async fn tried(inner: &Inner, query: &Query, mut cancelled: watch::Receiver<bool>) -> Result<Rows> {
    let mut tried = 0;
    loop {
        inner.ready(1, inner.conf.executors_wait).await?;
        let lost = match once(inner, query, tried * ATTEMPTS, &mut cancelled).await? {
            Fetched::All(rows) => return Ok(rows),
            Fetched::Lost(error) => error,
        };
        tried += 1;
        if tried == TRIES {
            return Err(lost);
        }
        tracing::warn!(error = %lost, "results were lost with an executor; the job is tried again");
    }
}

enum Fetched {
    All(Rows),
    /// The job ended well, and then its results could not be fetched.
    Lost(Error),
}

async fn once(inner: &Inner, query: &Query, attempts: u32, cancelled: &mut watch::Receiver<bool>) -> Result<Fetched> {
    let plan = query.plan(attempts)?;
    let (tell, mut told) = mpsc::channel(16);
    let submitted = inner.scheduler.submit_physical_plan("millstream", Arc::clone(&inner.session), plan, Some(tell));
    let job = submitted.await.map_err(|error| {
        Error::new(ErrorKind::Unavailable, format!("a job could not be handed to the scheduler: {error}"))
    })?;
    let mut asked = false;
    let deadly = inner.slots.is_deadly(job.as_str());
    tokio::pin!(deadly);
    loop {
        let status: Option<JobStatus> = tokio::select! {
            status = told.recv() => status,
            why = &mut deadly => {
                if let Err(error) = inner.scheduler.cancel_job(job.clone()).await {
                    tracing::warn!(%error, "a job could not be cancelled");
                }
                return Err(Error::new(ErrorKind::Unavailable, why));
            }
            stop = async { cancelled.wait_for(|cancelled| *cancelled).await.is_ok() }, if !asked => {
                asked = true;
                if stop && let Err(error) = inner.scheduler.cancel_job(job.clone()).await {
                    tracing::warn!(%error, "a job could not be cancelled");
                }
                continue;
            }
        };
        let Some(status) = status else { return Err(stopped(asked, "the scheduler has ended")) };
        match status.status {
            Some(job_status::Status::Successful(ended)) => {
                let fetched = fetch(inner, ended).await;
                // Not before: that may take any time.
                inner.scheduler.state.executor_manager.clean_up_job_data(job.clone());
                return fetched;
            }
            Some(job_status::Status::Failed(why)) => return Err(failed(asked, &why.error)),
            _ => {}
        }
    }
}

fn stopped(asked: bool, otherwise: &str) -> Error {
    match asked {
        true => Error::new(ErrorKind::Stopped, "the job was cancelled"),
        false => Error::new(ErrorKind::Unavailable, otherwise),
    }
}

/// Makes our error of what Ballista says.
fn failed(asked: bool, text: &str) -> Error {
    match failure::found(text) {
        Some(error) if !asked => error,
        _ => stopped(asked, &format!("the cluster could not run the job: {text}")),
    }
}

/// Fetches what the last stage left, from all executors at once.
async fn fetch(inner: &Inner, ended: SuccessfulJob) -> Result<Fetched> {
    #[cfg(test)]
    inner.before_fetch();
    let locations = ended
        .partition_location
        .into_iter()
        .map(|location| location.try_into().map_err(|error| bug!("the place of a result is not understood: {error}")));
    let locations = locations.collect::<Result<Vec<PartitionLocation>>>()?;
    let bytes = locations.iter().filter_map(|location| location.partition_stats.num_bytes()).sum();
    small_enough(bytes, inner.conf.max_result_size)?;
    let homes: Vec<String> = locations.iter().map(|location| location.executor_meta.id.clone()).collect();
    let count = locations.len();
    let locations = locations.into_iter().map(|location| vec![location]).collect();
    let reader = ShuffleReaderExec::try_new(0, locations, schema(), Partitioning::UnknownPartitioning(count))
        .map_err(|error| bug!("results are no input for DataFusion: {error}"))?
        .with_client_pool(Arc::new(inner.connections.clone()))
        // The driver has no files of its own.
        .with_work_dir(String::from("/nonexistent"));
    let reader = &reader;
    let read = homes.iter().enumerate().map(|(partition, home)| async move {
        let batches = async { reader.execute(partition, inner.session.task_ctx())?.try_collect::<Vec<_>>().await };
        let mut ready = inner.slots.ready();
        tokio::select! {
            batches = batches => batches.map_err(|error| error.to_string()),
            // One that hangs would never answer.
            _ = ready.wait_for(|ready| !ready.contains(home)) => Err(format!("{home} is lost")),
        }
    });
    match try_join_all(read).await {
        Ok(all) => {
            let mut rows = RowReader::default();
            all.iter().flatten().try_for_each(|batch| rows.push(batch, None))?;
            rows.finish().map(Fetched::All)
        }
        Err(why) => {
            inner.connections.clear();
            let text = format!("a result could not be fetched from its executor: {why}");
            Ok(Fetched::Lost(Error::new(ErrorKind::Unavailable, text)))
        }
    }
}

/// Refuses results that would take the driver's memory.
fn small_enough(bytes: u64, most: u64) -> Result<()> {
    if bytes <= most {
        return Ok(());
    }
    let text = format!(
        "the results of a job have {bytes} bytes, and the driver takes at most {most}: have the executors write them, take \
         fewer of them, or set spark.driver.maxResultSize"
    );
    Err(Error::new(ErrorKind::Config, text))
}

/// Makes results and updates of rows.
fn finish(
    inner: &Inner,
    job: &JobPlan,
    rows: Rows,
    on_result: &(dyn Fn(usize, TaskResult) + Send + Sync),
    watch: Option<&millstream_core::JobWatch>,
) -> Result<()> {
    let last = job.stages.last().ok_or_else(|| bug!("a job without stages"))?;
    let codec_of_results = last.program.result_codec().ok_or_else(|| bug!("the last stage gives no results"))?;
    let mut results = 0;
    let mut notes: Vec<(u32, usize, TaskNote)> = Vec::new();
    for (kind, bytes) in rows {
        match kind {
            Kind::Result { partition } => {
                let value = codec_of_results.decode(&bytes)?;
                on_result(partition, TaskResult { value, codec: codec_of_results });
                results += 1;
            }
            Kind::Note { stage, partition } => {
                let note: TaskNote = codec::decode(&bytes)?;
                inner.seen(&note.executor, &note.note);
                notes.push((stage, partition, note));
            }
            Kind::Block { .. } => return Err(bug!("a block of a shuffle came to the driver")),
        }
    }
    if results != job.wanted.len() {
        return Err(bug!("{results} of {} results came from the cluster", job.wanted.len()));
    }
    if let Some(watch) = watch {
        tell(job, &notes, watch);
    }
    notes.iter().try_for_each(|(_, _, note)| note.note.commit())
}

/// Tells listeners of stages and tasks, when the job is over: what is known of them came with the results.
fn tell(job: &JobPlan, notes: &[(u32, usize, TaskNote)], watch: &millstream_core::JobWatch) {
    for stage in &job.stages {
        watch.stage_submitted(stage.id);
        for (_, partition, note) in notes.iter().filter(|(of, ..)| StageId(*of) == stage.id) {
            let who = (Arc::clone(&note.executor), Arc::clone(&note.host));
            watch.task_ran(stage.id, *partition, note.attempt, &who, note.note.metrics);
        }
        watch.stage_completed(stage.id, None);
    }
}

#[cfg(test)]
mod tests;
