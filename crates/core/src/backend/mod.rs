//! Who runs jobs: one plan, several backends.

mod local;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

pub use self::local::LocalThreads;
use crate::context::Env;
use crate::error::{CallSite, Result, panicked};
use crate::events::JobWatch;
use crate::plan::{JobPlan, TaskResult};

/// Runs jobs somewhere and reports each end exactly once.
pub trait Backend: Send + Sync + fmt::Debug + 'static {
    /// Returns how many tasks may run at once.
    fn slots(&self) -> usize;

    /// Begins to run a job and returns at once.
    fn run(&self, job: JobPlan, env: &Arc<Env>, ends: JobEnds) -> JobHandle;
}

/// Whom a backend tells.
pub struct JobEnds {
    /// Told the result of each wanted partition, once, in any order, before the end.
    pub on_result: Box<dyn Fn(usize, TaskResult) + Send + Sync>,
    /// Told once how the job ended, when none of its tasks runs any more.
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
