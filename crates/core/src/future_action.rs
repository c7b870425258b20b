//! Actions in the background: count_async and its kin, and the handle that they return.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::context::Context;
use crate::context::jobs::JobLocals;
use crate::data::{Data, ExchangeData};
use crate::error::{CallSite, Error, ErrorKind, Result, panicked};
use crate::rdd::{PartitionIter, Rdd};
use crate::threads::{self, lock};

/// An action that runs in the background.
///
/// It can be waited for, on a thread with [`get`](Self::get) or in an async function with `.await`, and cancelled. If
/// it is dropped, the action runs on.
///
/// # Example
///
/// ```
/// # let context = millstream_core::Context::new("local[2]", "doc")?;
/// let numbers = context.parallelize(vec![1, 2, 3], 2);
/// let (count, all) = (numbers.count_async(), numbers.collect_async());
/// assert_eq!(count.get()?, 3);
/// assert_eq!(all.get()?, [1, 2, 3]);
/// # Ok::<(), millstream_core::Error>(())
/// ```
///
/// # Cost
///
/// A thread while it runs, which helps with its tasks.
///
/// # Spark
///
/// `FutureAction`, AS01.
pub struct FutureAction<R> {
    shared: Arc<Shared<R>>,
    cancelled: Arc<AtomicBool>,
    context: Context,
}

struct Shared<R> {
    state: Mutex<State<R>>,
    ended: Condvar,
}

struct State<R> {
    result: Option<Result<R>>,
    ended: bool,
    waker: Option<Waker>,
}

impl<R: Send + 'static> FutureAction<R> {
    /// Runs `action` on a thread of its own, with the locals of this one.
    pub(crate) fn start(
        context: &Context,
        site: CallSite,
        action: impl FnOnce() -> Result<R> + Send + 'static,
    ) -> FutureAction<R> {
        let state = Mutex::new(State { result: None, ended: false, waker: None });
        let future = FutureAction {
            shared: Arc::new(Shared { state, ended: Condvar::new() }),
            cancelled: Arc::default(),
            context: context.clone(),
        };
        let shared = Arc::clone(&future.shared);
        let locals = JobLocals::here().cancelled_by(Arc::clone(&future.cancelled));
        // A task must not wait for a job, and neither may a thread that it starts.
        let begun = context.check_action(site).and_then(|()| {
            threads::spawn("action", move || {
                let run = AssertUnwindSafe(|| locals.scope(|| CallSite::scope(Some(site), action)));
                let result = catch_unwind(run).unwrap_or_else(|payload| Err(panicked(&*payload).at(site)));
                shared.end(result);
            })
        });
        match begun {
            Ok(thread) => thread.detach(),
            Err(error) => future.shared.end(Err(error.at(site))),
        }
        future
    }

    /// Waits for the end and returns the result.
    ///
    /// # Errors
    ///
    /// Whatever the action fails with; the kind is `Stopped` if it was cancelled.
    ///
    /// # Spark
    ///
    /// `FutureAction.get`, AS01.
    pub fn get(self) -> Result<R> {
        let mut state = lock(&self.shared.state);
        while !state.ended {
            state = self.shared.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.result.take().unwrap_or_else(|| Err(taken()))
    }

    /// Waits for the end, but not longer than `timeout`; says whether it has come.
    pub fn wait_for(&self, timeout: Duration) -> bool {
        let state = lock(&self.shared.state);
        let waited = self.shared.ended.wait_timeout_while(state, timeout, |state| !state.ended);
        waited.unwrap_or_else(PoisonError::into_inner).0.ended
    }
}

impl<R> FutureAction<R> {
    /// Asks the action to end; it fails with the kind `Stopped`, unless it has ended before.
    ///
    /// # Spark
    ///
    /// `FutureAction.cancel`, AS01.
    pub fn cancel(&self) {
        self.context.cancel_flagged(&self.cancelled);
    }

    /// Says whether somebody has cancelled it.
    ///
    /// # Spark
    ///
    /// `FutureAction.isCancelled`, AS01.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// Says whether it has ended, well or not.
    ///
    /// # Spark
    ///
    /// `FutureAction.isCompleted`, AS01.
    pub fn is_completed(&self) -> bool {
        lock(&self.shared.state).ended
    }
}

fn taken() -> Error {
    Error::new(ErrorKind::Stopped, "the result of this action has been taken already")
}

impl<R> Shared<R> {
    fn end(&self, result: Result<R>) {
        let waker = {
            let mut state = lock(&self.state);
            state.result = Some(result);
            state.ended = true;
            state.waker.take()
        };
        self.ended.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<R> Future for FutureAction<R> {
    type Output = Result<R>;

    fn poll(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Result<R>> {
        let mut state = lock(&self.shared.state);
        if state.ended {
            return Poll::Ready(state.result.take().unwrap_or_else(|| Err(taken())));
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl<R> fmt::Debug for FutureAction<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FutureAction(completed: {}, cancelled: {})", self.is_completed(), self.is_cancelled())
    }
}

impl<T: Data> Rdd<T> {
    /// As [`count`](Self::count), in the background.
    ///
    /// # Spark
    ///
    /// `AsyncRDDActions.countAsync`, AS01.
    #[track_caller]
    pub fn count_async(&self) -> FutureAction<u64> {
        let rdd = self.clone();
        FutureAction::start(self.context(), CallSite::here("count_async"), move || rdd.count())
    }

    /// As [`foreach`](Self::foreach), in the background.
    ///
    /// # Spark
    ///
    /// `AsyncRDDActions.foreachAsync`, AS01.
    #[track_caller]
    pub fn foreach_async(&self, f: impl Fn(T) + Send + Sync + 'static) -> FutureAction<()> {
        let rdd = self.clone();
        FutureAction::start(self.context(), CallSite::here("foreach_async"), move || rdd.foreach(f))
    }

    /// As [`foreach_partition`](Self::foreach_partition), in the background.
    ///
    /// # Spark
    ///
    /// `AsyncRDDActions.foreachPartitionAsync`, AS01.
    #[track_caller]
    pub fn foreach_partition_async(
        &self,
        f: impl Fn(PartitionIter<T>) -> Result<()> + Send + Sync + 'static,
    ) -> FutureAction<()> {
        let rdd = self.clone();
        let site = CallSite::here("foreach_partition_async");
        FutureAction::start(self.context(), site, move || rdd.foreach_partition(f))
    }
}

impl<T: ExchangeData> Rdd<T> {
    /// As [`collect`](Self::collect), in the background.
    ///
    /// # Spark
    ///
    /// `AsyncRDDActions.collectAsync`, AS01.
    #[track_caller]
    pub fn collect_async(&self) -> FutureAction<Vec<T>> {
        let rdd = self.clone();
        FutureAction::start(self.context(), CallSite::here("collect_async"), move || rdd.collect())
    }

    /// As [`take`](Self::take), in the background.
    ///
    /// # Spark
    ///
    /// `AsyncRDDActions.takeAsync`, AS01.
    #[track_caller]
    pub fn take_async(&self, n: usize) -> FutureAction<Vec<T>> {
        let rdd = self.clone();
        FutureAction::start(self.context(), CallSite::here("take_async"), move || rdd.take(n))
    }
}
