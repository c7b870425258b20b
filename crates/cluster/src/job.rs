//! The life of one job: handed to Ballista, waited for, its results fetched; and tried again where those were lost.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use ballista_core::execution_plans::ShuffleReaderExec;
use ballista_core::serde::protobuf::{self, JobStatus, SuccessfulJob, job_status};
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

use crate::direct::Expected;
use crate::driver::Inner;
use crate::failure;
use crate::query::Query;
use crate::rows::{Kind, RowReader, schema};
use crate::stage::TaskNote;

/// How often a job is begun whose results were lost with an executor behind its end.
const TRIES: u32 = 4;

/// How many attempts at a task one try of its job may have, so that attempts of all tries differ: far more than there are
/// before the try is given up, for errors or for executors that are lost.
const ATTEMPTS: u32 = 1024;

/// How long a job that is asked to end has for it before it is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(50);

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
    let JobEnds { on_result, on_end, watch } = ends;
    let ending = Ending { running, on_end: Some(on_end) };
    let inner_here = Arc::clone(inner);
    inner.runtime.spawn(async move {
        let rows = match query {
            Ok(_) if job.wanted.is_empty() => Ok(Vec::new()),
            Ok(query) => {
                let first = job.planned_before * TRIES * ATTEMPTS;
                let rows = AssertUnwindSafe(tried(&inner_here, &query, first, heard)).catch_unwind().await;
                let rows = rows.unwrap_or_else(|panic| Err(bug!("a job's plan is none: {}", panicked(&*panic))));
                rows.inspect_err(|error| {
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
            let finish = || rows.and_then(|rows| finish(&inner_there, &job, rows, &*on_result, watch.as_deref()));
            let result =
                catch_unwind(AssertUnwindSafe(finish)).unwrap_or_else(|panic| Err(panicked(&*panic).at(job.site)));
            drop(job);
            ending.tell(result);
        };
        let _ = tokio::task::spawn_blocking(end).await;
    });
    handle
}

/// Tells the end of a job, whatever becomes of who should: somebody may wait for it.
struct Ending {
    running: Arc<Running>,
    on_end: Option<Box<dyn FnOnce(Result<()>) + Send>>,
}

impl Ending {
    fn tell(mut self, result: Result<()>) {
        self.end(result);
    }

    fn end(&mut self, result: Result<()>) {
        let Some(on_end) = self.on_end.take() else { return };
        // It is not ours, and who waits must not wait for ever.
        let told = catch_unwind(AssertUnwindSafe(|| on_end(result)));
        *lock(&self.running.ended) = true;
        self.running.changed.notify_all();
        if let Err(panic) = told {
            tracing::error!("the end of a job was not heard: {}", panicked(&*panic));
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.end(Err(Error::new(ErrorKind::Stopped, "the cluster has been stopped before the job had ended")));
    }
}

type Rows = Vec<(Kind, Bytes)>;

/// Runs the job until its results are there, or it fails for a reason of its own.
///
/// Its tasks number their attempts from `first`.
async fn tried(inner: &Arc<Inner>, query: &Query, first: u32, mut cancelled: watch::Receiver<bool>) -> Result<Rows> {
    let mut tried = 0;
    loop {
        tokio::select! {
            biased;
            () = is_set(&mut cancelled) => return Err(stopped(true, "")),
            ready = inner.ready(1, inner.conf.executors_wait) => ready?,
        }
        let lost = match once(inner, query, first + tried * ATTEMPTS, &mut cancelled).await? {
            Fetched::All(rows) => return Ok(rows),
            Fetched::Lost(error) => error,
        };
        tried += 1;
        if tried == TRIES {
            let text = format!(
                "{} ({TRIES} times in a row: a task may need more memory than executors have, or end its process)",
                lost.message()
            );
            return Err(Error::new(lost.kind(), text));
        }
        tracing::warn!(error = %lost, "what a job had done was lost with an executor; it is tried again");
    }
}

/// Waits until a flag is set: for ever if nobody is there any more to set it.
async fn is_set(flag: &mut watch::Receiver<bool>) {
    if flag.wait_for(|set| *set).await.is_err() {
        std::future::pending().await
    }
}

/// Waits until one of the executors that are ready, or become so, is lost. Returns which.
async fn one_lost(mut ready: watch::Receiver<BTreeSet<String>>, mut before: BTreeSet<String>) -> String {
    while ready.changed().await.is_ok() {
        let now = ready.borrow_and_update().clone();
        if let Some(lost) = before.difference(&now).next() {
            return lost.clone();
        }
        before = now;
    }
    std::future::pending().await
}

enum Fetched {
    All(Rows),
    /// What the job had done was lost with an executor: its results, or what stands between its stages.
    Lost(Error),
}

async fn once(
    inner: &Arc<Inner>,
    query: &Query,
    attempts: u32,
    cancelled: &mut watch::Receiver<bool>,
) -> Result<Fetched> {
    let brought = inner.direct.expect(inner.conf.max_result_size);
    let plan = query.plan(attempts, brought.number())?;
    let mut ready = inner.slots.ready();
    let there = ready.borrow_and_update().clone();
    let one_is_lost = one_lost(ready, there);
    let (tell, mut told) = mpsc::channel(16);
    let submitted = inner.scheduler.submit_physical_plan("millstream", Arc::clone(&inner.session), plan, Some(tell));
    let job = submitted.await.map_err(|error| {
        Error::new(ErrorKind::Unavailable, format!("a job could not be handed to the scheduler: {error}"))
    })?;
    let cancel = || async {
        if let Err(error) = inner.scheduler.cancel_job(job.clone()).await {
            tracing::warn!(%error, "a job could not be cancelled");
        }
    };
    let mut asked = false;
    let mut why_not: Option<Fetched> = None;
    let deadly = inner.slots.is_deadly(job.as_str());
    tokio::pin!(deadly, one_is_lost);
    loop {
        let ask_again = async {
            if asked || why_not.is_some() {
                tokio::time::sleep(ASK_AGAIN).await;
            } else {
                is_set(cancelled).await;
            }
        };
        let status: Option<JobStatus> = tokio::select! {
            status = told.recv() => status,
            why = &mut deadly => {
                cancel().await;
                return Err(Error::new(ErrorKind::Unavailable, why));
            }
            // What one stage leaves for two, and what stands two stages back, Ballista does not make again as it should.
            id = &mut one_is_lost, if query.is_deep() && why_not.is_none() => {
                let text = format!("{id} was lost with what it had for the stages behind");
                why_not = Some(lost(&text));
                cancel().await;
                continue;
            }
            // A job that is about to be planned is not found to be cancelled: until it has ended it is asked again.
            () = ask_again => {
                asked |= *cancelled.borrow();
                cancel().await;
                continue;
            }
        };
        let Some(status) = status else { return Err(stopped(asked, "the scheduler has ended")) };
        match status.status {
            Some(job_status::Status::Successful(_)) if asked => {
                // Its results may be gone already, and nobody wants them.
                inner.sweep(job.to_string());
                return Err(stopped(true, ""));
            }
            Some(job_status::Status::Successful(_) | job_status::Status::Failed(_)) if why_not.is_some() => {
                inner.sweep(job.to_string());
                return why_not.ok_or_else(|| bug!("a job was lost without a reason"));
            }
            Some(job_status::Status::Successful(ended)) => {
                let fetched = fetch(inner, ended, &brought).await;
                // Not before: that may take any time.
                inner.sweep(job.to_string());
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

/// Gathers what the last stage left: what has been brought, and the rest from all executors at once.
async fn fetch(inner: &Inner, ended: SuccessfulJob, brought: &Expected<'_>) -> Result<Fetched> {
    #[cfg(test)]
    inner.before_fetch();
    let locations = ended
        .partition_location
        .into_iter()
        .map(|location| location.try_into().map_err(|error| bug!("the place of a result is not understood: {error}")));
    let mut locations = locations.collect::<Result<Vec<PartitionLocation>>>()?;
    let mut here = brought.partitions();
    locations.retain(|location| !here.contains(&location.partition_id.partition_id));
    let mut ready = inner.slots.ready();
    let there = ready.borrow_and_update().clone();
    let Some(locations) = newest(locations, &there) else {
        return Ok(lost("a result was lost with its executor before it was fetched"));
    };
    // Who has left nothing has brought it: the word of its end was faster.
    let (coming, locations): (Vec<_>, Vec<_>) = locations.into_iter().partition(is_empty);
    // What comes of the others from now on is another attempt at what is fetched.
    here.extend(coming.iter().map(|location| location.partition_id.partition_id));
    tokio::select! {
        biased;
        () = brought.all_of(&here) => {}
        id = one_lost(ready, there) => return Ok(lost(&format!("{id} was lost before its result was here"))),
    }
    let (bytes, brought) = brought.take(&here);
    let fetched: u64 = locations.iter().filter_map(|location| location.partition_stats.num_bytes()).sum();
    small_enough(bytes + fetched, inner.conf.max_result_size)?;
    let mut rows = Rows::new();
    for some in brought {
        rows.extend(codec::decode::<Rows>(&some)?);
    }
    if !locations.is_empty() {
        match fetch_from(inner, locations).await? {
            Fetched::All(far) => rows.extend(far),
            lost @ Fetched::Lost(_) => return Ok(lost),
        }
    }
    Ok(Fetched::All(rows))
}

fn is_empty(location: &PartitionLocation) -> bool {
    // Only as a message does it tell.
    let stats: protobuf::PartitionStats = location.partition_stats.into();
    stats.num_rows == 0
}

fn lost(why: &str) -> Fetched {
    Fetched::Lost(Error::new(ErrorKind::Unavailable, why))
}

/// Fetches results from where they were made.
async fn fetch_from(inner: &Inner, locations: Vec<PartitionLocation>) -> Result<Fetched> {
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
            Ok(lost(&format!("a result could not be fetched from its executor: {why}")))
        }
    }
}

/// Takes of each partition the newest result that an executor of `ready` has; nothing if a partition has none. Ballista names those
/// that were lost meanwhile too, before those that were made in their place.
fn newest(locations: Vec<PartitionLocation>, ready: &BTreeSet<String>) -> Option<Vec<PartitionLocation>> {
    let mut of: BTreeMap<usize, Option<PartitionLocation>> = BTreeMap::new();
    for location in locations {
        let there = of.entry(location.partition_id.partition_id).or_default();
        if ready.contains(&location.executor_meta.id) {
            *there = Some(location);
        }
    }
    of.into_values().collect()
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
