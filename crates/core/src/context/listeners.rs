//! Who listens to an engine.

use std::sync::Arc;

use super::Context;
use crate::events::{EngineListener, Event, ListenerId, Listeners};

impl Context {
    /// Tells `listener` what happens from now on: of jobs that begin after this, whole.
    ///
    /// # Example
    ///
    /// ```
    /// use std::sync::mpsc::{Sender, channel};
    /// use millstream_core::{Context, EngineListener, JobEnd, JobStart};
    ///
    /// struct Told(Sender<String>);
    ///
    /// impl EngineListener for Told {
    ///     fn on_job_start(&self, job: &JobStart) {
    ///         let _ = self.0.send(format!("{} of {} stages", job.job.site.op(), job.stages.len()));
    ///     }
    ///     fn on_job_end(&self, job: &JobEnd) {
    ///         let _ = self.0.send(format!("ok: {}", job.result.is_ok()));
    ///     }
    /// }
    ///
    /// let context = Context::new("local[2]", "listens")?;
    /// let (tell, told) = channel();
    /// let id = context.add_listener(Told(tell));
    /// context.range(0, 10, 1, 2).map(|x| (x % 3, x)).reduce_by_key(|a, b| a + b).collect()?;
    /// context.flush_listeners();
    /// context.remove_listener(id);
    /// assert_eq!(told.iter().collect::<Vec<_>>(), ["collect of 2 stages", "ok: true"]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Cost
    ///
    /// A job to which nobody listens looks once whether somebody does. For one that is listened to, an event is made, and
    /// the thread that tells is woken, for each start and end of a job, a stage and a task; a task counts the chunks that it reads.
    ///
    /// # Spark
    ///
    /// `SparkContext.addSparkListener`, CX20.
    pub fn add_listener(&self, listener: impl EngineListener + 'static) -> ListenerId {
        self.inner.env.events.listeners.add(Arc::new(listener))
    }

    /// Tells a listener nothing any more.
    ///
    /// # Spark
    ///
    /// `SparkContext.removeSparkListener`, CX20.
    pub fn remove_listener(&self, id: ListenerId) {
        self.inner.env.events.listeners.remove(id);
    }

    /// Waits until listeners, those of streams too, have been told everything that has happened so far. A listener does
    /// not wait for itself.
    pub fn flush_listeners(&self) {
        self.inner.env.events.listeners.flush();
    }

    /// Makes room for listeners to events of another kind, which are told by the same thread and in the same order.
    #[doc(hidden)]
    pub fn another_kind_of_listeners<E: Event>(&self) -> Listeners<E> {
        self.inner.env.events.another_kind()
    }
}
