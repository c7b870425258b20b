//! One job's state: which tasks may run, which are tried again, when it has ended. Pure.

use crate::error::{Error, ErrorKind};

/// One attempt at one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) stage: usize,
    pub(super) partition: usize,
    pub(super) attempt: u32,
}

#[derive(Debug)]
struct Stage {
    /// How many stages that it reads from have not ended.
    waits_for: usize,
    /// The stages that read from it.
    readers: Vec<usize>,
    partitions: Vec<usize>,
    left: usize,
    /// Whether its tasks may run, or have run.
    submitted: bool,
    completed: bool,
}

/// What has become of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Submitted(usize),
    Completed(usize),
    /// It was given up, because of what the job ends with.
    Failed(usize),
}

/// What to do next.
#[derive(Debug, Default)]
pub(super) struct Next {
    /// What to tell who watches, before anything else is done.
    pub(super) steps: Vec<Step>,
    pub(super) run: Vec<Attempt>,
    /// Set once, when nothing of the job runs any more.
    pub(super) end: Option<Result<(), Error>>,
}

/// The state of a job.
#[derive(Debug)]
pub(super) struct JobState {
    stages: Vec<Stage>,
    max_attempts: u32,
    /// Whether anybody wants to know of steps.
    watched: bool,
    running: usize,
    left: usize,
    failed: Option<Error>,
    ended: bool,
}

impl JobState {
    /// Makes the state of a job whose stages are given as (inputs, partitions), each behind its inputs.
    pub(super) fn new(stages: &[(Vec<usize>, Vec<usize>)], max_attempts: u32, watched: bool) -> JobState {
        let mut states: Vec<Stage> = stages
            .iter()
            .map(|(inputs, partitions)| Stage {
                waits_for: inputs.len(),
                readers: Vec::new(),
                left: partitions.len(),
                partitions: partitions.clone(),
                submitted: false,
                completed: false,
            })
            .collect();
        for (i, (inputs, _)) in stages.iter().enumerate() {
            for input in inputs {
                states[*input].readers.push(i);
            }
        }
        let left = states.len();
        JobState { stages: states, max_attempts, watched, running: 0, left, failed: None, ended: false }
    }

    /// Begins the job.
    pub(super) fn begin(&mut self) -> Next {
        let ready: Vec<usize> = (0..self.stages.len()).filter(|i| self.stages[*i].waits_for == 0).collect();
        self.go(ready, Next::default())
    }

    /// Takes note that an attempt ended.
    pub(super) fn ended(&mut self, attempt: Attempt, outcome: Result<(), Error>) -> Next {
        self.running -= 1;
        match outcome {
            Ok(()) => {
                self.stages[attempt.stage].left -= 1;
                if self.failed.is_none() && self.stages[attempt.stage].left == 0 {
                    let mut next = Next::default();
                    let ready = self.stage_done(attempt.stage, &mut next);
                    return self.go(ready, next);
                }
            }
            Err(error) => {
                let more = attempt.attempt + 1 < self.max_attempts && worth_another_try(error.kind());
                if self.failed.is_none() && more {
                    self.running += 1;
                    let again = Attempt { attempt: attempt.attempt + 1, ..attempt };
                    return Next { run: vec![again], ..Next::default() };
                }
                self.failed.get_or_insert(error);
            }
        }
        self.go(Vec::new(), Next::default())
    }

    /// Takes note that attempts which had not begun will not run.
    pub(super) fn dropped(&mut self, count: usize) -> Next {
        self.running -= count;
        self.go(Vec::new(), Next::default())
    }

    /// Takes note that somebody wants the job to end.
    pub(super) fn cancel(&mut self) -> Next {
        if !self.ended {
            self.failed.get_or_insert_with(|| Error::new(ErrorKind::Stopped, "the job was cancelled"));
        }
        self.go(Vec::new(), Next::default())
    }

    /// Returns why the job failed, if it did.
    pub(super) fn failure(&self) -> Option<&Error> {
        self.failed.as_ref()
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    fn stage_done(&mut self, stage: usize, next: &mut Next) -> Vec<usize> {
        self.left -= 1;
        self.stages[stage].completed = true;
        self.note(Step::Completed(stage), next);
        let readers = std::mem::take(&mut self.stages[stage].readers);
        let mut ready = Vec::new();
        for reader in readers {
            self.stages[reader].waits_for -= 1;
            if self.stages[reader].waits_for == 0 {
                ready.push(reader);
            }
        }
        ready
    }

    fn note(&self, step: Step, next: &mut Next) {
        if self.watched {
            next.steps.push(step);
        }
    }

    fn go(&mut self, mut ready: Vec<usize>, mut next: Next) -> Next {
        while let Some(stage) = ready.pop() {
            self.stages[stage].submitted = true;
            self.note(Step::Submitted(stage), &mut next);
            if self.stages[stage].partitions.is_empty() {
                let more = self.stage_done(stage, &mut next);
                ready.extend(more);
                continue;
            }
            let partitions = std::mem::take(&mut self.stages[stage].partitions);
            self.running += partitions.len();
            next.run.extend(partitions.into_iter().map(|partition| Attempt { stage, partition, attempt: 0 }));
        }
        if self.running == 0 && !self.ended && (self.failed.is_some() || self.left == 0) {
            self.ended = true;
            for stage in 0..self.stages.len() {
                let Stage { submitted, completed, left, .. } = self.stages[stage];
                if submitted && !completed {
                    // Its last task may have ended well behind the failure of another.
                    self.note(if left == 0 { Step::Completed(stage) } else { Step::Failed(stage) }, &mut next);
                }
            }
            next.end = Some(self.failed.clone().map_or(Ok(()), Err));
        }
        next
    }
}

/// Says whether trying again may help: not where the program, its settings or its data are wrong for certain.
///
/// A closure's error is tried again too where the master asks for attempts, as Spark does.
fn worth_another_try(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::User | ErrorKind::Unavailable | ErrorKind::Data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks(next: &Next) -> Vec<(usize, usize, u32)> {
        next.run.iter().map(|a| (a.stage, a.partition, a.attempt)).collect()
    }

    fn at(stage: usize, partition: usize, attempt: u32) -> Attempt {
        Attempt { stage, partition, attempt }
    }

    fn two_stages(attempts: u32) -> JobState {
        JobState::new(&[(vec![], vec![0, 1]), (vec![0], vec![0])], attempts, true)
    }

    #[test]
    fn a_stage_runs_when_all_it_reads_has_ended() {
        let mut job = two_stages(1);
        assert_eq!(tasks(&job.begin()), [(0, 0, 0), (0, 1, 0)]);
        assert!(job.ended(at(0, 1, 0), Ok(())).run.is_empty());
        assert_eq!(tasks(&job.ended(at(0, 0, 0), Ok(()))), [(1, 0, 0)]);
        let next = job.ended(at(1, 0, 0), Ok(()));
        assert!(matches!(next.end, Some(Ok(()))));
    }

    #[test]
    fn a_stage_without_tasks_ends_at_once() {
        let mut job = JobState::new(&[(vec![], vec![]), (vec![0], vec![3])], 1, true);
        assert_eq!(tasks(&job.begin()), [(1, 3, 0)]);
        let mut job = JobState::new(&[(vec![], vec![])], 1, true);
        assert!(matches!(job.begin().end, Some(Ok(()))));
    }

    #[test]
    fn r78_a_task_is_tried_as_often_as_the_master_says() {
        let mut job = two_stages(3);
        job.begin();
        assert_eq!(tasks(&job.ended(at(0, 0, 0), Err("x".into()))), [(0, 0, 1)]);
        assert_eq!(tasks(&job.ended(at(0, 0, 1), Err("x".into()))), [(0, 0, 2)]);
        assert!(job.ended(at(0, 0, 2), Err("last".into())).end.is_none(), "the other task still runs");
        let end = job.ended(at(0, 1, 0), Ok(())).end;
        assert_eq!(end.unwrap().unwrap_err().to_string(), "last");
    }

    #[test]
    fn what_cannot_get_better_is_not_tried_again() {
        let mut job = two_stages(3);
        job.begin();
        assert!(job.ended(at(0, 0, 0), Err(Error::new(ErrorKind::Config, "wrong"))).run.is_empty());
        assert!(job.has_failed());
    }

    #[test]
    fn a_failed_job_ends_once_when_nothing_of_it_runs() {
        let mut job = JobState::new(&[(vec![], vec![0, 1, 2])], 1, true);
        job.begin();
        assert!(job.ended(at(0, 0, 0), Err("first".into())).end.is_none());
        assert!(job.dropped(1).end.is_none());
        let end = job.ended(at(0, 1, 0), Err("second".into())).end;
        assert_eq!(end.unwrap().unwrap_err().to_string(), "first");
        assert!(job.cancel().end.is_none(), "it has ended already");
    }

    #[test]
    fn a_cancelled_job_ends_as_stopped() {
        let mut job = two_stages(1);
        job.begin();
        assert!(job.cancel().end.is_none());
        let end = job.dropped(2).end;
        assert_eq!(end.unwrap().unwrap_err().kind(), ErrorKind::Stopped);
        assert!(job.has_ended());
    }

    #[test]
    fn stages_are_submitted_when_they_may_run_and_complete_when_all_their_tasks_have() {
        use Step::{Completed, Submitted};
        let mut job = JobState::new(&[(vec![], vec![0]), (vec![], vec![]), (vec![0, 1], vec![0])], 1, true);
        assert_eq!(job.begin().steps, [Submitted(1), Completed(1), Submitted(0)]);
        assert_eq!(job.ended(at(0, 0, 0), Ok(())).steps, [Completed(0), Submitted(2)]);
        assert_eq!(job.ended(at(2, 0, 0), Ok(())).steps, [Completed(2)]);
    }

    #[test]
    fn stages_of_a_failed_job_end_when_nothing_of_it_runs() {
        use Step::{Completed, Failed, Submitted};
        let stages = [(vec![], vec![0, 1]), (vec![], vec![0]), (vec![0, 1], vec![0])];
        let mut job = JobState::new(&stages, 1, true);
        assert_eq!(job.begin().steps, [Submitted(1), Submitted(0)]);
        assert_eq!(job.ended(at(0, 0, 0), Err("x".into())).steps, []);
        assert_eq!(job.ended(at(1, 0, 0), Ok(())).steps, []);
        assert_eq!(job.dropped(1).steps, [Failed(0), Completed(1)], "and nothing of the stage that never began");
    }

    #[test]
    fn nobody_is_told_of_steps_who_does_not_watch() {
        let mut job = JobState::new(&[(vec![], vec![0])], 1, false);
        assert!(job.begin().steps.is_empty() && job.ended(at(0, 0, 0), Ok(())).steps.is_empty());
    }
}
