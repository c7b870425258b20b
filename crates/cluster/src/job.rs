//! The life of one job: handed to Ballista, waited for, its results fetched; and tried again where those were lost.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use ballista_core::execution_plans::ShuffleReaderExec;
use ballista_core::serde::protobuf::{JobStatus, SuccessfulJob, job_status};
use ballista_core::serde::scheduler::PartitionLocation;
use bytes::Bytes;
use datafusion::physical_plan::{ExecutionPlan, Partitioning};
use futures_util::TryStreamExt;
use millstream_core::backend::{JobEnds, JobHandle, RunningJob};
use millstream_core::plan::away::AwayNote;
use millstream_core::plan::{JobPlan, StageId, TaskResult};
use millstream_core::threads::lock;
use millstream_core::{Error, ErrorKind, Result, bug, codec};
use tokio::sync::{mpsc, watch};

use crate::driver::{Inner, PATIENCE};
use crate::failure;
use crate::query::Query;
use crate::rows::{Kind, RowReader, schema};

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
            Ok(query) => tried(&inner_here, &query, heard).await.inspect_err(|error| {
                if error.is_lost() {
                    inner_here.places.missed();
                }
            }),
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
        inner.ready(1, PATIENCE).await?;
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
    loop {
        let status: Option<JobStatus> = tokio::select! {
            status = told.recv() => status,
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
                inner.scheduler.state.executor_manager.clean_up_job_data(job);
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

/// Fetches what the last stage left.
async fn fetch(inner: &Inner, ended: SuccessfulJob) -> Result<Fetched> {
    let locations = ended.partition_location.into_iter().map(|location| {
        let location: PartitionLocation =
            location.try_into().map_err(|error| bug!("the place of a result is not understood: {error}"))?;
        Ok(vec![location])
    });
    let locations = locations.collect::<Result<Vec<_>>>()?;
    let count = locations.len();
    let reader = ShuffleReaderExec::try_new(0, locations, schema(), Partitioning::UnknownPartitioning(count))
        .map_err(|error| bug!("results are no input for DataFusion: {error}"))?
        .with_client_pool(Arc::new(inner.connections.clone()))
        // The driver has no files of its own.
        .with_work_dir(String::from("/nonexistent"));
    let mut rows = RowReader::default();
    for partition in 0..count {
        let read = async {
            let mut batches = reader.execute(partition, inner.session.task_ctx())?;
            let mut all = Vec::new();
            while let Some(batch) = batches.try_next().await? {
                all.push(batch);
            }
            Ok::<_, datafusion::error::DataFusionError>(all)
        };
        match read.await {
            Ok(batches) => batches.iter().try_for_each(|batch| rows.push(batch, None))?,
            Err(error) => {
                inner.connections.clear();
                let text = format!("a result could not be fetched from its executor: {error}");
                return Ok(Fetched::Lost(Error::new(ErrorKind::Unavailable, text)));
            }
        }
    }
    rows.finish().map(Fetched::All)
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
    let mut notes: Vec<(u32, usize, AwayNote)> = Vec::new();
    for (kind, bytes) in rows {
        match kind {
            Kind::Result { partition } => {
                let value = codec_of_results.decode(&bytes)?;
                on_result(partition, TaskResult { value, codec: codec_of_results });
                results += 1;
            }
            Kind::Note { stage, partition } => {
                let (executor, note): (String, AwayNote) = codec::decode(&bytes)?;
                inner.seen(&executor, &note.kept);
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
    notes.iter().try_for_each(|(_, _, note)| note.commit())
}

/// Tells listeners of stages and tasks, when the job is over: what is known of them came with the results.
fn tell(job: &JobPlan, notes: &[(u32, usize, AwayNote)], watch: &millstream_core::JobWatch) {
    for stage in &job.stages {
        watch.stage_submitted(stage.id);
        for (_, partition, note) in notes.iter().filter(|(of, ..)| StageId(*of) == stage.id) {
            let task = watch.task_started(stage.id, *partition, 0);
            watch.task_ended(stage.id, task, Ok(()), note.metrics);
        }
        watch.stage_completed(stage.id, None);
    }
}
