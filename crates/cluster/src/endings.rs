//! Tasks that have ended, as their executors say with their signs of life.
//!
//! Ballista's executors tell the scheduler of the end of a task once. If that is lost on the way, the job would wait for ever: the
//! executor is well, and the task runs as far as the scheduler knows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use millstream_core::threads::lock;
use serde::{Deserialize, Serialize};

/// How long after its end a task may run as far as the scheduler knows. The word of it may be on its way, or wait for its turn.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// How many endings one sign of life tells of.
const MOST: usize = 4096;

/// A task, as Ballista knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct TaskName {
    pub(crate) job: String,
    pub(crate) stage: u32,
    pub(crate) task: u32,
}

/// What an executor has to tell: tasks that have ended here since it last said so.
#[derive(Debug, Default)]
pub(crate) struct Endings(Mutex<Vec<TaskName>>);

impl Endings {
    /// Takes note of one.
    pub(crate) fn add(&self, task: TaskName) {
        lock(&self.0).push(task);
    }

    /// Takes some of them to be told.
    pub(crate) fn take(&self) -> Vec<TaskName> {
        let mut all = lock(&self.0);
        let most = all.len().min(MOST);
        all.drain(..most).collect()
    }
}

/// What the driver has been told, until it is old enough to be looked at. Pure.
#[derive(Debug, Default)]
pub(crate) struct Unheard(BTreeMap<(String, TaskName), Duration>);

impl Unheard {
    /// An executor has said at `now` that tasks have ended.
    pub(crate) fn said(&mut self, executor: &str, tasks: Vec<TaskName>, now: Duration) {
        self.0.extend(tasks.into_iter().map(|task| ((executor.to_owned(), task), now)));
    }

    /// Takes those who have been said so long ago that the scheduler should know.
    pub(crate) fn due(&mut self, now: Duration) -> BTreeSet<(String, TaskName)> {
        self.0.extract_if(.., |_, said| now.saturating_sub(*said) >= PATIENCE).map(|(task, _)| task).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(number: u32) -> TaskName {
        TaskName { job: "j".to_owned(), stage: 1, task: number }
    }

    #[test]
    fn endings_are_told_once_and_not_too_many_at_once() {
        let endings = Endings::default();
        assert!(endings.take().is_empty());
        (0..5000).for_each(|number| endings.add(task(number)));
        assert_eq!(endings.take().len(), MOST);
        assert_eq!(endings.take().first(), Some(&task(4096)));
        assert!(endings.take().is_empty());
    }

    #[test]
    fn what_an_executor_has_said_is_looked_at_when_the_scheduler_should_know() {
        let mut unheard = Unheard::default();
        let at = Duration::from_secs;
        unheard.said("a", vec![task(1), task(2)], at(100));
        unheard.said("b", vec![task(1)], at(105));
        for (now, due) in [
            (100, vec![]),
            (109, vec![]),
            (110, vec![("a", 1), ("a", 2)]),
            (111, vec![]),
            (115, vec![("b", 1)]),
            (999, vec![]),
        ] {
            let got = unheard.due(at(now));
            let want = due.iter().map(|(executor, number)| ((*executor).to_owned(), task(*number))).collect();
            assert_eq!(got, want, "at {now}");
        }
    }
}
