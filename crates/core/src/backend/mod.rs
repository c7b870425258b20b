//! Who runs jobs: one plan, several backends.

mod local;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

pub use self::local::LocalThreads;
use crate::conf::{ClusterMaster, EngineConf, Scheduling};
use crate::context::Env;
use crate::error::{CallSite, Error, ErrorKind, Result, panicked};
use crate::events::JobWatch;
use crate::plan::resident::Residents;
use crate::plan::{JobPlan, TaskResult};
use crate::storage::BlockStore;

/// Runs jobs somewhere and reports each end exactly once.
pub trait Backend: Send + Sync + fmt::Debug + 'static {
    /// Returns how many tasks may run at once.
    fn slots(&self) -> usize;

    /// Says whether tasks run in other processes, so that what closures capture must be named.
    fn closures_travel(&self) -> bool {
        false
    }

    /// Returns where the driver keeps blocks, and looks for those that tasks have kept: `local`, where tasks are threads.
    fn block_store(&self, local: Arc<dyn BlockStore>) -> Arc<dyn BlockStore> {
        local
    }

    /// Begins to run a job and returns at once.
    fn run(&self, job: JobPlan, env: &Arc<Env>, ends: JobEnds) -> JobHandle;

    /// Returns who runs receivers and their like on executors, beside tasks; nothing where tasks are threads of this process.
    fn residents(&self) -> Option<Arc<dyn Residents>> {
        None
    }

    /// Ends what works for it elsewhere, and waits for that, though not for ever. Jobs that begin afterwards fail. A context that
    /// made its backend itself calls this when it is stopped and its last job has ended. Called again it does nothing.
    fn stop(&self) {}
}

/// Makes the backend of a cluster.
pub type StartCluster = fn(&EngineConf, ClusterMaster) -> Result<Arc<dyn Backend>>;

static CLUSTER: OnceLock<StartCluster> = OnceLock::new();

/// Says who makes the backends of clusters in this process. The first to say so does.
#[doc(hidden)]
pub fn provide_cluster(start: StartCluster) {
    let _ = CLUSTER.set(start);
}

/// Makes the backend that a context's settings ask for.
pub(crate) fn of_master(conf: &EngineConf) -> Result<Arc<dyn Backend>> {
    if let Some(master) = conf.master.cluster() {
        let start = CLUSTER.get().ok_or_else(|| {
            let text = "no cluster in this program: build it with the feature `cluster`, and let \
                        `millstream::cluster::be_executor_if_asked()` be the first line of its main";
            Error::new(ErrorKind::Config, format!("{}: {text}", conf.master))
        })?;
        return start(conf, master);
    }
    let (threads, attempts) = (conf.master.threads(), conf.master.attempts());
    Ok(Arc::new(match conf.scheduling {
        Scheduling::Fifo => LocalThreads::new(threads, attempts)?,
        Scheduling::Fair => LocalThreads::fair(threads, attempts, conf.pools.clone())?,
    }))
}

/// Whom a backend tells.
pub struct JobEnds {
    /// Told the result of each wanted partition, once, in any order, before the end.
    pub on_result: Box<dyn Fn(usize, TaskResult) + Send + Sync>,
    /// Told once how the job ended, when none of its tasks runs any more; where they run in other processes, when those that
    /// are of no use have been told to end.
    pub on_end: Box<dyn FnOnce(Result<()>) + Send>,
    /// Told how far stages and tasks come, if anybody listens. Only then does that cost anything.
    pub watch: Option<Arc<JobWatch>>,
}

impl fmt::Debug for JobEnds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JobEnds")
    }
}

/// A job that runs.
pub trait RunningJob: Send + Sync {
    /// Asks the job to end soon, with an error of the kind `Stopped`.
    fn cancel(&self);

    /// Waits until the job has ended. The waiting thread may be given tasks of it to run.
    fn wait(&self);
}

/// A handle on a job that runs.
#[derive(Clone)]
pub struct JobHandle(pub Arc<dyn RunningJob>);

impl JobHandle {
    /// Asks the job to end soon.
    pub fn cancel(&self) {
        self.0.cancel();
    }

    /// Waits until the job has ended.
    pub fn wait(&self) {
        self.0.wait();
    }
}

impl fmt::Debug for JobHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JobHandle")
    }
}

/// Runs a closure of the program on the driver; a panic becomes an error at its line.
pub(crate) fn on_driver<R>(site: CallSite, body: impl FnOnce() -> R) -> Result<R> {
    catch_unwind(AssertUnwindSafe(body)).map_err(|payload| panicked(&*payload).at(site))
}
