//! Which jobs run, so that who leaves can wait for those that may need what it has.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// The jobs that run.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    jobs: watch::Sender<BTreeSet<u64>>,
    next: Arc<AtomicU64>,
}

/// A job that runs until this is dropped.
#[derive(Debug)]
pub(crate) struct Mark {
    jobs: watch::Sender<BTreeSet<u64>>,
    number: u64,
}

impl Running {
    pub(crate) fn new() -> Running {
        Running { jobs: watch::Sender::new(BTreeSet::new()), next: Arc::default() }
    }

    /// Takes note that a job begins.
    pub(crate) fn begin(&self) -> Mark {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.jobs.send_if_modified(|jobs| {
            jobs.insert(number);
            false
        });
        Mark { jobs: self.jobs.clone(), number }
    }

    /// Waits until all jobs have ended that run now, whatever begins meanwhile.
    pub(crate) async fn until_these_end(&self) {
        let mut changes = self.jobs.subscribe();
        let last = changes.borrow().last().copied();
        // The sender is held here: this ends when the condition does, and not before.
        let _ = changes.wait_for(|jobs| jobs.first().is_none_or(|first| last.is_none_or(|last| *first > last))).await;
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        self.jobs.send_modify(|jobs| {
            jobs.remove(&self.number);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn who_waits_waits_for_the_jobs_that_run_and_no_others() {
        let running = Running::new();
        let mut context = Context::from_waker(Waker::noop());
        assert!(pin!(running.until_these_end()).poll(&mut context).is_ready(), "none runs");
        let (first, second) = (running.begin(), running.begin());
        let mut end = pin!(running.until_these_end());
        assert!(end.as_mut().poll(&mut context).is_pending());
        let third = running.begin();
        drop(second);
        assert!(end.as_mut().poll(&mut context).is_pending());
        drop(first);
        assert!(end.as_mut().poll(&mut context).is_ready(), "the third began later");
        drop(third);
    }
}
