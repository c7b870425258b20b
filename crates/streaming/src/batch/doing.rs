//! What the batch thread is doing, for whoever waits for its end and may wait in vain.

use std::fmt;
use std::sync::Mutex;

use millstream_core::threads::lock;
use millstream_core::{CallSite, Time};

/// What the batch thread is doing.
#[derive(Debug, Default)]
pub(crate) struct Doing(Mutex<Step>);

/// A step that nobody can interrupt: most have closures, sources or sinks of the program in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Step {
    /// It waits for what happens next.
    #[default]
    Waits,
    Plans(Time),
    Commits(Time),
    Aborts(Time),
    StopsInput(CallSite),
    NotesSaves,
    /// It waits for outputs, and for what is being written to the disk.
    Ends,
}

impl Doing {
    /// Does something, and is found doing it meanwhile.
    pub(crate) fn within<R>(&self, step: Step, body: impl FnOnce() -> R) -> R {
        struct Back<'a>(&'a Doing, Step);
        impl Drop for Back<'_> {
            fn drop(&mut self) {
                *lock(&self.0.0) = self.1;
            }
        }
        let before = std::mem::replace(&mut *lock(&self.0), step);
        let _back = Back(self, before);
        body()
    }

    /// Returns what it is doing.
    pub(crate) fn now(&self) -> Step {
        *lock(&self.0)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Waits => f.write_str("waits for batches that run"),
            Step::Plans(at) => write!(f, "plans batch {at}"),
            Step::Commits(at) => write!(f, "commits batch {at}"),
            Step::Aborts(at) => write!(f, "aborts batch {at}"),
            Step::StopsInput(site) => write!(f, "stops the input {site}"),
            Step::NotesSaves => f.write_str("writes down which states have been saved"),
            Step::Ends => f.write_str("waits for outputs that run, and for the disk"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_known_what_is_done_and_what_was_done_around_it_also_after_a_panic() {
        let doing = Doing::default();
        doing.within(Step::Ends, || {
            let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                doing.within(Step::Commits(Time::from_millis(1000)), || {
                    assert_eq!(doing.now().to_string(), "commits batch 1000 ms");
                    panic!("by the sink");
                })
            }));
            assert!(broken.is_err());
            assert_eq!(doing.now(), Step::Ends);
        });
        assert_eq!(doing.now(), Step::Waits);
    }
}
