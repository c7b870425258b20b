//! Stopping, and waiting for the end or for a batch.

use std::sync::PoisonError;
use std::time::Duration;

use millstream_core::clock::monotonic;
use millstream_core::threads::lock;
use millstream_core::{Error, ErrorKind, Result, Time, secs};

use super::{Shared, StreamingContext, StreamingContextState};
use crate::batch::lifecycle::Event;
use crate::conf::OnFailure;
use crate::listener;

/// How to stop.
///
/// # Example
///
/// ```
/// use millstream_streaming::Stop;
///
/// let stop = Stop::gracefully().keep_context();
/// assert_ne!(stop, Stop::now());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    graceful: bool,
    context: Option<bool>,
}

impl Stop {
    /// Stops at once: batches that have not ended are abandoned.
    pub fn now() -> Stop {
        Stop { graceful: false, context: None }
    }

    /// Stops the inputs, and then when everything received has been processed.
    pub fn gracefully() -> Stop {
        Stop { graceful: true, context: None }
    }

    /// Leaves the engine's context usable, for another streaming context or batch programs.
    #[must_use]
    pub fn keep_context(self) -> Stop {
        Stop { context: Some(false), ..self }
    }

    /// Stops the engine's context too.
    #[must_use]
    pub fn and_context(self) -> Stop {
        Stop { context: Some(true), ..self }
    }
}

/// The error of a stop that has waited long enough.
fn held_up(waited: Duration, by: &str) -> Error {
    let text = format!(
        "the context has not stopped after {waited:?}: {by}, which cannot be interrupted. End the process, and the next start goes \
         on from what is durable; or wait: the context stops when that ends"
    );
    Error::new(ErrorKind::Unavailable, text)
}

impl super::Inner {
    /// Returns how long a graceful stop waits.
    pub(super) fn graceful_stop_timeout(&self) -> Duration {
        self.conf.graceful_stop_timeout.unwrap_or((self.interval * 10).max(secs(10)))
    }
}

/// One of those who stop a context, for as long as it does.
struct Stopping<'a>(&'a Shared);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).stopping -= 1;
        self.0.changed.notify_all();
    }
}

impl StreamingContext {
    /// Stops at once, and the engine's context too unless the settings say otherwise.
    ///
    /// Batches that have not ended are abandoned. Called twice, or before the start, it does no harm. Called by an
    /// output or a receiver, it returns before the stop is complete: nothing can wait for itself. The engine's context is then
    /// stopped at the end.
    ///
    /// # Errors
    ///
    /// The kind is `Stopped` if a listener calls it (S-123). It is `Unavailable`, and says what is waited for, if something that
    /// cannot be interrupted takes longer than [`stop_patience`](crate::StreamingConf::stop_patience): a closure, source or sink of
    /// the program, or the disk. The context then stops when that ends; a process that ends before leaves what the next start goes
    /// on from.
    ///
    /// # Spark
    ///
    /// `StreamingContext.stop`, SC26.
    pub fn stop(&self) -> Result<()> {
        self.stop_with(Stop::now())
    }

    /// Stops the inputs, processes everything that was received, and then stops.
    ///
    /// What was received and belongs to no batch yet is run as a last batch at once, without waiting until it would be
    /// due. With a checkpoint directory states are saved behind that, so that the next start makes none again. After
    /// [`graceful_stop_timeout`](crate::StreamingConf::graceful_stop_timeout) it stops at once, and a warning says what it
    /// waited for.
    ///
    /// # Errors
    ///
    /// As [`stop`](Self::stop); or states could not be saved: the next start is exact all the same, and makes them again.
    ///
    /// # Spark
    ///
    /// `StreamingContext.stop(…, stopGracefully = true)`, SC27, S-128.
    pub fn stop_gracefully(&self) -> Result<()> {
        self.stop_with(Stop::gracefully())
    }

    /// Stops as `how` says.
    ///
    /// # Errors
    ///
    /// As [`stop`](Self::stop).
    pub fn stop_with(&self, how: Stop) -> Result<()> {
        let inner = &self.inner;
        self.refuse_listeners("stop")?;
        let stop_engine = how.context.unwrap_or(inner.conf.stop_context_by_default);
        let mut saves = Ok(true);
        // Dropped when all is done, and behind the lock.
        let _stopping;
        let mut life = lock(&inner.shared.state);
        match life.state {
            StreamingContextState::Initialized => {
                tracing::warn!("the streaming context has not been started");
                life.state = StreamingContextState::Stopped;
                drop(life);
                inner.graph.set_stopped();
                listener::end(&inner.bus);
                inner.shared.changed.notify_all();
            }
            StreamingContextState::Stopped => drop(life),
            StreamingContextState::Active => {
                let own = life.own.contains(&std::thread::current().id()) || inner.hurry.is_called_by_an_input();
                inner.mailbox.post(Event::StopAsked { graceful: how.graceful });
                if !how.graceful {
                    // The batch thread may be waiting for a receiver, and not look into its mailbox.
                    inner.hurry.ask();
                }
                if own {
                    // What is still to run needs the engine.
                    life.stop_engine |= stop_engine;
                    return Ok(());
                }
                life.stopping += 1;
                _stopping = Stopping(&inner.shared);
                let graceful = if how.graceful { inner.graceful_stop_timeout() } else { Duration::ZERO };
                let patience = graceful.saturating_add(inner.conf.stop_patience);
                let deadline = monotonic().saturating_add(patience);
                let left = || deadline.saturating_sub(monotonic());
                while !life.halted {
                    if left().is_zero() {
                        // Whoever comes to the end does it.
                        life.stop_engine |= stop_engine;
                        return Err(held_up(patience, &format!("the batch thread {}", inner.doing.now())));
                    }
                    life = inner.shared.changed.wait_timeout(life, left()).unwrap_or_else(PoisonError::into_inner).0;
                }
                let thread = life.thread.take();
                drop(life);
                drop(thread);
                saves = inner.context.await_saves_or_timeout(left());
                if let Ok(false) = saves {
                    if stop_engine {
                        inner.context.stop_without_saves();
                    }
                    return Err(held_up(patience, "states are being saved"));
                }
            }
        }
        if stop_engine {
            inner.context.stop();
        }
        saves.map(drop)
    }

    /// The end of the context waits for its listeners, so none of them can wait for that.
    fn refuse_listeners(&self, doing: &str) -> Result<()> {
        if !self.inner.bus.is_current() {
            return Ok(());
        }
        let text = format!("cannot {doing} StreamingContext within listener bus thread: hand it to another thread");
        Err(Error::new(ErrorKind::Stopped, text))
    }

    /// Waits until the context stops, or something goes wrong.
    ///
    /// # Errors
    ///
    /// What went wrong first; again at every later call. Operations that were called after the start are returned
    /// here too, each with its line. The kind is `Stopped` if a listener calls it.
    ///
    /// # Spark
    ///
    /// `StreamingContext.awaitTermination`, SC24.
    pub fn await_termination(&self) -> Result<()> {
        self.wait(None).map(|_| ())
    }

    /// As [`await_termination`](Self::await_termination), for at most `timeout`. Returns whether the context stopped.
    ///
    /// # Errors
    ///
    /// As [`await_termination`](Self::await_termination).
    ///
    /// # Spark
    ///
    /// `StreamingContext.awaitTerminationOrTimeout`, SC25.
    pub fn await_termination_or_timeout(&self, timeout: Duration) -> Result<bool> {
        self.wait(Some(timeout))
    }

    /// Waits until the batch of the time `at` has come to its end, well or not. Returns whether it did, and `false` if
    /// the context stopped before.
    ///
    /// It is for tests and tools: with a manual clock, it says when to go on.
    pub fn await_batch(&self, at: Time) -> bool {
        self.await_batch_until(at, None)
    }

    /// As [`await_batch`](Self::await_batch), for so long at most; `false` if the batch has not come to its end then.
    pub fn await_batch_or_timeout(&self, at: Time, timeout: Duration) -> bool {
        self.await_batch_until(at, monotonic().checked_add(timeout))
    }

    fn await_batch_until(&self, at: Time, deadline: Option<Duration>) -> bool {
        let shared = &self.inner.shared;
        let mut life = lock(&shared.state);
        loop {
            if life.settled >= Some(at) {
                return true;
            }
            let left = deadline.map(|deadline| deadline.saturating_sub(monotonic()));
            if life.halted || left.is_some_and(|left| left.is_zero()) {
                return false;
            }
            life = match left {
                Some(left) => shared.changed.wait_timeout(life, left).unwrap_or_else(PoisonError::into_inner).0,
                None => shared.changed.wait(life).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        self.refuse_listeners("await")?;
        // A deadline that no clock can show never comes.
        let deadline = timeout.and_then(|timeout| monotonic().checked_add(timeout));
        let shared = &self.inner.shared;
        let mut life = lock(&shared.state);
        loop {
            if let Some(error) = &life.error {
                let error = error.clone();
                // The stop that the error leads to, if it does, is part of the wait.
                while self.inner.conf.on_failure == OnFailure::Stop && !life.halted {
                    life = shared.changed.wait(life).unwrap_or_else(PoisonError::into_inner);
                }
                return Err(error);
            }
            let late = self.inner.graph.late_errors();
            if !late.is_empty() {
                return Err(Error::several("operations came too late", &late));
            }
            // A program may end its process when it has heard of the end: executors of a cluster are to have heard of it too.
            if life.state == StreamingContextState::Stopped && life.stopping == 0 {
                return Ok(true);
            }
            life = match deadline {
                None => shared.changed.wait(life).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_sub(monotonic());
                    if left.is_zero() {
                        return Ok(false);
                    }
                    shared.changed.wait_timeout(life, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}
