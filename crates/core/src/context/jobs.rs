//! What a thread says about the jobs that it runs, and which jobs run: groups, tags, properties, cancelling.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Context;
use crate::backend::JobHandle;
use crate::error::{CallSite, Error, ErrorKind, Result};
use crate::plan::Properties;
use crate::threads::lock;

/// The local property that is a job's description.
const DESCRIPTION: &str = "spark.job.description";

/// The local property that is a job's pool.
pub(crate) const POOL: &str = "spark.scheduler.pool";

/// What a thread says about its jobs: for threads that run them in the name of another.
#[doc(hidden)]
#[derive(Clone, Default)]
pub struct JobLocals {
    pub(super) group: Option<Arc<str>>,
    tags: BTreeSet<String>,
    pub(super) properties: Properties,
    /// Set when the jobs are to end, also those that have not begun.
    cancelled: Option<Arc<AtomicBool>>,
}

thread_local! {
    static LOCALS: RefCell<JobLocals> = RefCell::default();
}

impl JobLocals {
    /// Returns what this thread says.
    pub fn here() -> JobLocals {
        LOCALS.with_borrow(Clone::clone)
    }

    /// Puts the jobs into a group, and into no other; nothing that was to end them does.
    #[must_use]
    pub fn in_group(self, group: &str) -> JobLocals {
        JobLocals { group: Some(Arc::from(group)), cancelled: None, ..self }
    }

    /// Sets properties.
    #[must_use]
    pub fn with_properties<'a>(mut self, properties: impl IntoIterator<Item = (&'a str, String)>) -> JobLocals {
        let properties = properties.into_iter().map(|(key, value)| (key.to_owned(), value));
        Arc::make_mut(&mut self.properties).extend(properties);
        self
    }

    /// Adds a flag that ends the jobs when it is set.
    pub(crate) fn cancelled_by(mut self, flag: Arc<AtomicBool>) -> JobLocals {
        self.cancelled = Some(flag);
        self
    }

    /// Runs `body` with this thread saying this.
    pub fn scope<R>(self, body: impl FnOnce() -> R) -> R {
        struct Restore(JobLocals);
        impl Drop for Restore {
            fn drop(&mut self) {
                LOCALS.set(std::mem::take(&mut self.0));
            }
        }
        let _restore = Restore(LOCALS.replace(self));
        body()
    }

    /// Returns what there is to know of a job that this is said of.
    pub(super) fn info(&self, id: u64, site: CallSite) -> JobInfo {
        JobInfo {
            id,
            site,
            group: self.group.as_deref().map(str::to_owned),
            description: self.properties.get(DESCRIPTION).cloned(),
            tags: self.tags.iter().cloned().collect(),
        }
    }

    pub(super) fn check(&self, site: CallSite) -> Result<()> {
        if self.is_cancelled() {
            return Err(Error::new(ErrorKind::Stopped, "the action was cancelled").at(site));
        }
        Ok(())
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.as_ref().is_some_and(|flag| flag.load(Ordering::Acquire))
    }
}

impl fmt::Debug for JobLocals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobLocals(group {:?}, {:?})", self.group, self.properties)
    }
}

/// A job that runs.
pub(super) struct Running {
    pub(super) locals: JobLocals,
    pub(super) site: CallSite,
    pub(super) handle: JobHandle,
}

/// What is known of a job that runs.
///
/// # Spark
///
/// `SparkStatusTracker.getJobInfo`, CX20.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobInfo {
    /// The job's number within its context.
    pub id: u64,
    /// The action, and its line.
    pub site: CallSite,
    /// The group that it belongs to.
    pub group: Option<String>,
    /// What the program says that it is.
    pub description: Option<String>,
    /// Its tags, in order.
    pub tags: Vec<String>,
}

impl Context {
    /// Has the jobs that this thread runs from now on belong to `group`, with which they can be cancelled, and says
    /// what they are.
    ///
    /// [`with_job_group`](Self::with_job_group) does it for a while only.
    ///
    /// # Spark
    ///
    /// `SparkContext.setJobGroup`, CX17. Tasks are never interrupted: a cancelled job ends between two chunks.
    pub fn set_job_group(&self, group: &str, description: &str) {
        LOCALS.with_borrow_mut(|locals| locals.group = Some(Arc::from(group)));
        self.set_job_description(Some(description));
    }

    /// Takes [`set_job_group`](Self::set_job_group) back.
    ///
    /// # Spark
    ///
    /// `SparkContext.clearJobGroup`, CX17.
    pub fn clear_job_group(&self) {
        LOCALS.with_borrow_mut(|locals| locals.group = None);
        self.set_job_description(None);
    }

    /// Runs `body` with the jobs that it runs on this thread belonging to `group`, with which they can be cancelled.
    ///
    /// # Spark
    ///
    /// `SparkContext.setJobGroup`, CX17.
    pub fn with_job_group<R>(&self, group: &str, body: impl FnOnce() -> R) -> R {
        JobLocals { group: Some(Arc::from(group)), ..JobLocals::here() }.scope(body)
    }

    /// Says what the jobs are that this thread runs from now on, for people who look at [`jobs`](Self::jobs).
    ///
    /// # Spark
    ///
    /// `SparkContext.setJobDescription`, CX17.
    pub fn set_job_description(&self, description: Option<&str>) {
        self.set_local_property(DESCRIPTION, description);
    }

    /// Sets a property of the jobs that this thread runs from now on, or takes it back.
    ///
    /// Tasks read it with [`TaskContext::local_property`](crate::TaskContext::local_property). The property
    /// `spark.scheduler.pool` names the pool of the jobs, where threads are
    /// [shared fairly](crate::conf::EngineConf::pools).
    ///
    /// # Example
    ///
    /// ```
    /// use millstream_core::TaskContext;
    ///
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// context.set_local_property("tenant", Some("mill"));
    /// let tenant = |_: i32| TaskContext::current().and_then(|task| task.local_property("tenant").map(str::to_owned));
    /// assert_eq!(context.parallelize(vec![1], 1).map(tenant).collect()?, [Some("mill".to_owned())]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Spark
    ///
    /// `SparkContext.setLocalProperty`, CX17. A thread that is started later does not inherit them; actions in the
    /// background do.
    pub fn set_local_property(&self, key: &str, value: Option<&str>) {
        LOCALS.with_borrow_mut(|locals| {
            let properties = Arc::make_mut(&mut locals.properties);
            match value {
                Some(value) => properties.insert(key.to_owned(), value.to_owned()),
                None => properties.remove(key),
            }
        });
    }

    /// Returns a property that this thread has set.
    ///
    /// # Spark
    ///
    /// `SparkContext.getLocalProperty`, CX17.
    pub fn local_property(&self, key: &str) -> Option<String> {
        LOCALS.with_borrow(|locals| locals.properties.get(key).cloned())
    }

    /// Adds a tag to the jobs that this thread runs from now on, with which they can be cancelled.
    ///
    /// # Spark
    ///
    /// `SparkContext.addJobTag`, CX17.
    pub fn add_job_tag(&self, tag: &str) {
        LOCALS.with_borrow_mut(|locals| locals.tags.insert(tag.to_owned()));
    }

    /// Takes a tag back.
    ///
    /// # Spark
    ///
    /// `SparkContext.removeJobTag`, CX17.
    pub fn remove_job_tag(&self, tag: &str) {
        LOCALS.with_borrow_mut(|locals| locals.tags.remove(tag));
    }

    /// Returns the tags that this thread has added, in order.
    ///
    /// # Spark
    ///
    /// `SparkContext.getJobTags`, CX17.
    pub fn job_tags(&self) -> Vec<String> {
        LOCALS.with_borrow(|locals| locals.tags.iter().cloned().collect())
    }

    /// Takes all tags back.
    ///
    /// # Spark
    ///
    /// `SparkContext.clearJobTags`, CX17.
    pub fn clear_job_tags(&self) {
        LOCALS.with_borrow_mut(|locals| locals.tags.clear());
    }

    /// Returns the jobs that run, in the order in which they began.
    ///
    /// # Spark
    ///
    /// `SparkStatusTracker.getActiveJobIds`, CX20.
    pub fn jobs(&self) -> Vec<JobInfo> {
        let running = lock(&self.inner.running);
        running.iter().map(|(id, job)| job.locals.info(*id, job.site)).collect()
    }

    /// Asks the running jobs of `group` to end; they fail with the kind `Stopped`.
    ///
    /// # Spark
    ///
    /// `SparkContext.cancelJobGroup`, CX18.
    pub fn cancel_job_group(&self, group: &str) {
        self.cancel(|_, locals| locals.group.as_deref() == Some(group));
    }

    /// Asks the running jobs with the tag `tag` to end; they fail with the kind `Stopped`.
    ///
    /// # Spark
    ///
    /// `SparkContext.cancelJobsWithTag`, CX18.
    pub fn cancel_jobs_with_tag(&self, tag: &str) {
        self.cancel(|_, locals| locals.tags.contains(tag));
    }

    /// Asks the running job of this number to end; it fails with the kind `Stopped`.
    ///
    /// # Spark
    ///
    /// `SparkContext.cancelJob`, CX18.
    pub fn cancel_job(&self, id: u64) {
        self.cancel(|of, _| of == id);
    }

    /// Asks all running jobs to end; they fail with the kind `Stopped`.
    ///
    /// # Spark
    ///
    /// `SparkContext.cancelAllJobs`, CX18.
    pub fn cancel_all_jobs(&self) {
        self.cancel(|_, _| true);
    }

    /// Asks the jobs to end that a flag is to end.
    pub(crate) fn cancel_flagged(&self, flag: &Arc<AtomicBool>) {
        flag.store(true, Ordering::Release);
        self.cancel(|_, locals| locals.cancelled.as_ref().is_some_and(|other| Arc::ptr_eq(other, flag)));
    }

    fn cancel(&self, which: impl Fn(u64, &JobLocals) -> bool) {
        let handles: Vec<JobHandle> = lock(&self.inner.running)
            .iter()
            .filter(|(id, job)| which(**id, &job.locals))
            .map(|(_, job)| job.handle.clone())
            .collect();
        handles.iter().for_each(JobHandle::cancel);
    }
}

/// The jobs that run, by number.
pub(super) type Jobs = BTreeMap<u64, Running>;
