//! Calls of a client that may not come back, whatever time they are given: a thread that is kept makes them, and
//! whoever asks goes on without it when he has waited for long enough.

use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use millstream_core::Result;
use millstream_core::threads::{self, OwnedThread, lock};

/// A thread that makes calls of one kind, one after the other.
pub(super) struct Aside<Q, A>(Mutex<Option<Caller<Q, A>>>);

/// In this order it ends: the thread is joined when nobody can ask it any more.
struct Caller<Q, A> {
    calls: Sender<(Q, Sender<A>)>,
    thread: OwnedThread,
}

impl<Q: Send + 'static, A: Send + 'static> Aside<Q, A> {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable`: the system gives no more threads.
    pub(super) fn begin(name: &str, call: impl Fn(Q) -> A + Send + 'static) -> Result<Aside<Q, A>> {
        let (calls, called) = channel::<(Q, Sender<A>)>();
        let thread = threads::spawn(name, move || {
            for (question, tell) in called {
                // Whoever asked may have gone on.
                let _ = tell.send(call(question));
            }
        })?;
        Ok(Aside(Mutex::new(Some(Caller { calls, thread }))))
    }

    /// Makes a call. Returns nothing if it has not come back in time; then nobody waits for it any more, and no other is
    /// made.
    pub(super) fn call(&self, question: Q, patience: Duration) -> Option<A> {
        let mut caller = lock(&self.0);
        let (tell, told) = channel();
        let asked = caller.as_ref()?.calls.send((question, tell));
        let answer = asked.ok().and_then(|()| told.recv_timeout(patience).ok());
        if answer.is_none()
            && let Some(Caller { thread, .. }) = caller.take()
        {
            thread.detach();
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use millstream_core::{millis, secs};

    use super::*;

    #[test]
    fn calls_are_made_by_one_thread_one_after_the_other_and_it_ends_with_who_asks() {
        let held = Arc::new(());
        let holds = Arc::clone(&held);
        let aside = Aside::begin("calls", move |n: u64| {
            let _ = &holds;
            (n + 1, std::thread::current().id())
        })
        .unwrap();
        let answers: Vec<_> = (0..3).map(|n| aside.call(n, secs(60)).unwrap()).collect();
        assert_eq!(answers.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(answers.iter().all(|(_, thread)| *thread == answers[0].1), "{answers:?}");
        drop(aside);
        assert_eq!(Arc::strong_count(&held), 1, "it has ended");
    }

    #[test]
    fn a_call_that_does_not_come_back_holds_nobody_and_is_the_last() {
        let (ends, waits) = channel::<()>();
        let aside = Aside::begin("calls", move |is_long: bool| is_long && waits.recv().is_err()).unwrap();
        assert_eq!(aside.call(false, secs(60)), Some(false));
        assert_eq!(aside.call(true, millis(10)), None);
        assert_eq!(aside.call(false, secs(60)), None, "at once: its thread is busy");
        // Also who ends does not wait for it.
        drop(aside);
        drop(ends);
    }
}
