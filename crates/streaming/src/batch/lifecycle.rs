//! One batch from due to forgotten, and the end of all batches. Pure: events in, actions out.
//!
//! ```text
//! due → allocate → plan → run → (checkpoint) → commit → forget
//! ```
//!
//! Batches are due, and are committed, in the order of their times.

use std::collections::BTreeMap;

use millstream_core::{Time, millis};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The clock reached the time of a batch.
    Due(Time),
    /// The batch has been allocated and planned, and has so many jobs.
    Planned { at: Time, jobs: usize },
    /// The batch could not be allocated or planned.
    PlanFailed(Time),
    /// All jobs of the batch have ended; whether all ended well.
    JobsEnded { at: Time, ok: bool },
    /// It is durable that the batch has ended well.
    Checkpointed(Time),
    /// Nothing more may be promised: what had to be durable is not, a sink did not commit what the log says it would, or what
    /// an earlier run left cannot be taken up.
    Broken,
    /// Somebody wants an end.
    StopAsked { graceful: bool },
    /// All inputs have stopped; whether they left something for one more batch.
    InputsStopped { left: bool },
    /// The states are as durable as they become.
    StatesSaved,
    /// A graceful stop has waited long enough.
    WaitedEnough,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Decide what belongs to the batch, and plan its jobs. Answered by `Planned` or `PlanFailed`.
    Plan(Time),
    /// Hand the batch's jobs to the threads that run them. Answered by `JobsEnded`.
    Run(Time),
    /// Write down that the batch has ended well. Answered by `Checkpointed`.
    Checkpoint(Time),
    /// Tell the inputs that the batch is done.
    Commit(Time),
    /// Let go of what is out of reach behind the batch.
    Forget(Time),
    /// Stop the inputs. Answered by `InputsStopped`.
    StopInputs,
    /// Make one more batch now, of what the inputs left.
    LastBatch,
    /// Save the states as they are behind the last batch. Answered by `StatesSaved`.
    SaveStates,
    /// Give up the jobs that have not ended.
    Abandon,
    /// End.
    Halt,
}

/// What the life of a batch depends on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rules {
    /// Whether the end of a batch is written down before it is committed.
    pub(crate) checkpoint: bool,
    /// Whether a failed batch stops the context.
    pub(crate) stop_on_failure: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Planning,
    Running,
    Checkpointing,
    /// Done, but an earlier batch is not.
    Done,
    /// Its jobs failed: it stays uncommitted.
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    No,
    StoppingInputs,
    Draining,
    Saving,
    Halted,
}

/// Where all batches are.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    rules: Rules,
    batches: BTreeMap<Time, Phase>,
    latest: Option<Time>,
    ending: Ending,
}

impl Lifecycle {
    pub(crate) fn new(rules: Rules) -> Lifecycle {
        Lifecycle { rules, batches: BTreeMap::new(), latest: None, ending: Ending::No }
    }

    /// Takes note that an earlier run had batches up to `latest`.
    pub(crate) fn resume(&mut self, latest: Option<Time>) {
        self.latest = self.latest.max(latest);
    }

    /// Says whether batches may still become due.
    pub(crate) fn takes_batches(&self) -> bool {
        self.ending == Ending::No
    }

    /// Says whether a graceful stop is under way.
    pub(crate) fn is_graceful(&self) -> bool {
        matches!(self.ending, Ending::StoppingInputs | Ending::Draining | Ending::Saving)
    }

    /// Says what a graceful stop waits for, for people.
    pub(crate) fn waits_for(&self) -> String {
        let mut open = self.batches.iter().filter(|(_, phase)| **phase != Phase::Failed);
        match (self.ending, open.next()) {
            (Ending::StoppingInputs, _) => "inputs that stop".to_owned(),
            (Ending::Draining, Some((first, phase))) => {
                let doing = match phase {
                    Phase::Planning => "is planned",
                    Phase::Running => "runs",
                    _ => "is written down",
                };
                let more = match open.count() {
                    0 => String::new(),
                    more => format!(", and {more} behind it"),
                };
                format!("batch {first}, which {doing}{more}")
            }
            (Ending::Saving, _) => "states that are saved".to_owned(),
            _ => "nothing".to_owned(),
        }
    }

    /// Returns how many batches have begun and have not been committed, without those that failed.
    pub(crate) fn unfinished(&self) -> usize {
        self.batches.values().filter(|phase| **phase != Phase::Failed).count()
    }

    /// Returns the time up to which all batches have come to their end, well or not.
    pub(crate) fn settled(&self) -> Option<Time> {
        let is_open = |phase: &Phase| matches!(phase, Phase::Planning | Phase::Running | Phase::Checkpointing);
        let open = self.batches.iter().find(|(_, phase)| is_open(phase));
        open.map_or(self.latest, |(first, _)| Some(*first - millis(1)))
    }

    /// Answers what happened with what to do, in order.
    pub(crate) fn on(&mut self, event: Event) -> Vec<Action> {
        if self.ending == Ending::Halted {
            return Vec::new();
        }
        match event {
            Event::Due(at) => {
                if self.batches.contains_key(&at) || !matches!(self.ending, Ending::No | Ending::Draining) {
                    return Vec::new();
                }
                self.batches.insert(at, Phase::Planning);
                self.latest = self.latest.max(Some(at));
                vec![Action::Plan(at)]
            }
            Event::Planned { at, jobs: 0 } if !self.rules.checkpoint => self.ended(at),
            Event::Planned { at, jobs: 1.. } => {
                self.batches.insert(at, Phase::Running);
                vec![Action::Run(at)]
            }
            Event::PlanFailed(at) | Event::JobsEnded { at, ok: false } => {
                self.batches.insert(at, Phase::Failed);
                if self.rules.stop_on_failure {
                    return self.halt();
                }
                self.go_on()
            }
            Event::JobsEnded { at, ok: true } | Event::Planned { at, jobs: 0 } if self.rules.checkpoint => {
                self.batches.insert(at, Phase::Checkpointing);
                vec![Action::Checkpoint(at)]
            }
            Event::JobsEnded { at, ok: true } | Event::Checkpointed(at) | Event::Planned { at, jobs: 0 } => {
                self.ended(at)
            }
            Event::StopAsked { graceful: true } => {
                if self.ending != Ending::No {
                    return Vec::new();
                }
                self.ending = Ending::StoppingInputs;
                vec![Action::StopInputs]
            }
            Event::InputsStopped { left } => {
                if self.ending != Ending::StoppingInputs {
                    return Vec::new();
                }
                self.ending = Ending::Draining;
                if left { vec![Action::LastBatch] } else { self.drained() }
            }
            Event::StatesSaved => {
                if self.ending != Ending::Saving {
                    return Vec::new();
                }
                self.ending = Ending::Halted;
                vec![Action::Halt]
            }
            Event::StopAsked { graceful: false } | Event::WaitedEnough | Event::Broken => self.halt(),
        }
    }

    /// The batch is done: commit it, if no earlier one is still to come.
    fn ended(&mut self, at: Time) -> Vec<Action> {
        self.batches.insert(at, Phase::Done);
        self.go_on()
    }

    /// Commits the batches that are done and have none to wait for any more, and ends if nothing is left.
    fn go_on(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        loop {
            let next = self.batches.iter().find(|(_, phase)| **phase != Phase::Failed);
            let Some((&first, Phase::Done)) = next else { break };
            self.batches.remove(&first);
            actions.extend([Action::Commit(first), Action::Forget(first)]);
        }
        actions.extend(self.drained());
        actions
    }

    /// Ends, if a graceful stop waits for nothing more.
    fn drained(&mut self) -> Vec<Action> {
        if self.ending == Ending::Draining && self.unfinished() == 0 {
            // The next start is to go on from here, and not to make states again that have been made.
            if self.rules.checkpoint {
                self.ending = Ending::Saving;
                return vec![Action::SaveStates];
            }
            self.ending = Ending::Halted;
            return vec![Action::Halt];
        }
        Vec::new()
    }

    fn halt(&mut self) -> Vec<Action> {
        let stop_inputs = matches!(self.ending, Ending::No);
        self.ending = Ending::Halted;
        let mut actions = vec![Action::Abandon];
        if stop_inputs {
            actions.push(Action::StopInputs);
        }
        actions.push(Action::Halt);
        actions
    }
}

#[cfg(test)]
mod tests {
    use super::Action as A;
    use super::Event as E;
    use super::*;

    fn t(s: i64) -> Time {
        Time::from_millis(s * 1000)
    }

    /// Feeds events and checks what each is answered with.
    fn table(rules: Rules, rows: &[(E, &[A])]) -> Lifecycle {
        let mut life = Lifecycle::new(rules);
        for (n, (event, want)) in rows.iter().enumerate() {
            assert_eq!(life.on(*event), *want, "row {n}: {event:?}");
        }
        life
    }

    const PLAIN: Rules = Rules { checkpoint: false, stop_on_failure: false };

    #[test]
    fn a_batch_is_planned_run_committed_and_forgotten() {
        let life = table(
            PLAIN,
            &[
                (E::Due(t(1)), &[A::Plan(t(1))]),
                (E::Planned { at: t(1), jobs: 2 }, &[A::Run(t(1))]),
                (E::JobsEnded { at: t(1), ok: true }, &[A::Commit(t(1)), A::Forget(t(1))]),
            ],
        );
        assert_eq!(life.unfinished(), 0);
    }

    #[test]
    fn a_snapshot_is_durable_before_the_commit() {
        table(
            Rules { checkpoint: true, ..PLAIN },
            &[
                (E::Due(t(1)), &[A::Plan(t(1))]),
                (E::Planned { at: t(1), jobs: 1 }, &[A::Run(t(1))]),
                (E::JobsEnded { at: t(1), ok: true }, &[A::Checkpoint(t(1))]),
                (E::Checkpointed(t(1)), &[A::Commit(t(1)), A::Forget(t(1))]),
            ],
        );
    }

    #[test]
    fn a_batch_without_jobs_is_written_down_too() {
        table(
            Rules { checkpoint: true, ..PLAIN },
            &[
                (E::Due(t(1)), &[A::Plan(t(1))]),
                (E::Planned { at: t(1), jobs: 0 }, &[A::Checkpoint(t(1))]),
                (E::Checkpointed(t(1)), &[A::Commit(t(1)), A::Forget(t(1))]),
            ],
        );
    }

    #[test]
    fn a_log_that_fails_ends_all_and_nothing_is_committed_any_more() {
        table(
            Rules { checkpoint: true, ..PLAIN },
            &[
                (E::Due(t(1)), &[A::Plan(t(1))]),
                (E::Planned { at: t(1), jobs: 1 }, &[A::Run(t(1))]),
                (E::JobsEnded { at: t(1), ok: true }, &[A::Checkpoint(t(1))]),
                (E::Broken, &[A::Abandon, A::StopInputs, A::Halt]),
                (E::Checkpointed(t(1)), &[]),
            ],
        );
    }

    #[test]
    fn s116_a_batch_without_jobs_is_done_at_once() {
        table(
            PLAIN,
            &[
                (E::Due(t(1)), &[A::Plan(t(1))]),
                (E::Planned { at: t(1), jobs: 0 }, &[A::Commit(t(1)), A::Forget(t(1))]),
            ],
        );
    }

    #[test]
    fn commits_keep_the_order_of_times_when_batches_overlap() {
        table(
            PLAIN,
            &[
                (E::Due(t(1)), &[A::Plan(t(1))]),
                (E::Planned { at: t(1), jobs: 1 }, &[A::Run(t(1))]),
                (E::Due(t(2)), &[A::Plan(t(2))]),
                (E::Planned { at: t(2), jobs: 1 }, &[A::Run(t(2))]),
                (E::JobsEnded { at: t(2), ok: true }, &[]),
                (
                    E::JobsEnded { at: t(1), ok: true },
                    &[A::Commit(t(1)), A::Forget(t(1)), A::Commit(t(2)), A::Forget(t(2))],
                ),
            ],
        );
    }

    #[test]
    fn s114_batches_that_ended_early_are_committed_when_the_last_one_before_them_has_come_to_its_end_also_badly() {
        let begun = |s| [(E::Due(t(s)), vec![A::Plan(t(s))]), (E::Planned { at: t(s), jobs: 1 }, vec![A::Run(t(s))])];
        let ended = |s, ok| E::JobsEnded { at: t(s), ok };
        let done = |s| [A::Commit(t(s)), A::Forget(t(s))];
        let ends = [
            // Backwards: all wait for the first.
            vec![
                (ended(4, true), vec![]),
                (ended(3, true), vec![]),
                (ended(2, true), vec![]),
                (ended(1, true), [done(1), done(2), done(3), done(4)].concat()),
            ],
            // Those in front of the gap do not wait for it.
            vec![
                (ended(4, true), vec![]),
                (ended(1, true), done(1).to_vec()),
                (ended(3, true), vec![]),
                (ended(2, true), [done(2), done(3), done(4)].concat()),
            ],
            // One that fails holds up nobody, whether others wait for it or come later.
            vec![
                (ended(3, false), vec![]),
                (ended(2, true), vec![]),
                (ended(4, true), vec![]),
                (ended(1, false), [done(2), done(4)].concat()),
            ],
        ];
        for ends in ends {
            let rows: Vec<_> = (1..=4).flat_map(begun).chain(ends).collect();
            let rows: Vec<(E, &[A])> = rows.iter().map(|(event, want)| (*event, want.as_slice())).collect();
            let life = table(PLAIN, &rows);
            assert_eq!((life.unfinished(), life.settled()), (0, Some(t(4))));
        }
    }

    #[test]
    fn s114_s128_a_graceful_stop_ends_when_the_batch_that_others_waited_for_fails() {
        table(
            PLAIN,
            &[
                (E::Due(t(1)), &[A::Plan(t(1))]),
                (E::Planned { at: t(1), jobs: 1 }, &[A::Run(t(1))]),
                (E::Due(t(2)), &[A::Plan(t(2))]),
                (E::Planned { at: t(2), jobs: 1 }, &[A::Run(t(2))]),
                (E::StopAsked { graceful: true }, &[A::StopInputs]),
                (E::InputsStopped { left: false }, &[]),
                (E::JobsEnded { at: t(2), ok: true }, &[]),
                (E::JobsEnded { at: t(1), ok: false }, &[A::Commit(t(2)), A::Forget(t(2)), A::Halt]),
            ],
        );
    }

    #[test]
    fn batches_are_settled_up_to_the_first_that_is_not() {
        let mut life = Lifecycle::new(PLAIN);
        assert_eq!(life.settled(), None);
        for s in 1..=3 {
            life.on(E::Due(t(s)));
            life.on(E::Planned { at: t(s), jobs: 1 });
        }
        life.on(E::JobsEnded { at: t(2), ok: true });
        assert!(life.settled() < Some(t(1)));
        life.on(E::JobsEnded { at: t(1), ok: false });
        assert!((Some(t(2))..Some(t(3))).contains(&life.settled()));
        life.on(E::JobsEnded { at: t(3), ok: true });
        assert_eq!(life.settled(), Some(t(3)));
    }

    #[test]
    fn s118_a_failed_batch_stays_uncommitted_and_later_ones_go_on() {
        let life = table(
            PLAIN,
            &[
                (E::Due(t(1)), &[A::Plan(t(1))]),
                (E::Planned { at: t(1), jobs: 1 }, &[A::Run(t(1))]),
                (E::JobsEnded { at: t(1), ok: false }, &[]),
                (E::Due(t(2)), &[A::Plan(t(2))]),
                (E::Planned { at: t(2), jobs: 1 }, &[A::Run(t(2))]),
                (E::JobsEnded { at: t(2), ok: true }, &[A::Commit(t(2)), A::Forget(t(2))]),
            ],
        );
        assert_eq!(life.unfinished(), 0);
    }

    #[test]
    fn a_failed_batch_stops_the_context_where_that_is_the_rule() {
        let rules = Rules { stop_on_failure: true, ..PLAIN };
        table(
            rules,
            &[
                (E::Due(t(1)), &[A::Plan(t(1))]),
                (E::Planned { at: t(1), jobs: 1 }, &[A::Run(t(1))]),
                (E::JobsEnded { at: t(1), ok: false }, &[A::Abandon, A::StopInputs, A::Halt]),
                (E::Due(t(2)), &[]),
            ],
        );
        table(rules, &[(E::Due(t(1)), &[A::Plan(t(1))]), (E::PlanFailed(t(1)), &[A::Abandon, A::StopInputs, A::Halt])]);
    }

    #[test]
    fn s128_a_graceful_stop_takes_what_the_inputs_left_and_waits_for_all_batches() {
        table(
            PLAIN,
            &[
                (E::Due(t(1)), &[A::Plan(t(1))]),
                (E::Planned { at: t(1), jobs: 1 }, &[A::Run(t(1))]),
                (E::StopAsked { graceful: true }, &[A::StopInputs]),
                (E::Due(t(2)), &[]),
                (E::StopAsked { graceful: true }, &[]),
                (E::InputsStopped { left: true }, &[A::LastBatch]),
                (E::Due(t(2)), &[A::Plan(t(2))]),
                (E::Planned { at: t(2), jobs: 1 }, &[A::Run(t(2))]),
                (E::JobsEnded { at: t(1), ok: true }, &[A::Commit(t(1)), A::Forget(t(1))]),
                (E::JobsEnded { at: t(2), ok: true }, &[A::Commit(t(2)), A::Forget(t(2)), A::Halt]),
            ],
        );
    }

    #[test]
    fn with_a_checkpoint_a_graceful_stop_saves_the_states_behind_the_last_batch() {
        let durable = Rules { checkpoint: true, ..PLAIN };
        let drained = [
            (E::Due(t(1)), &[A::Plan(t(1))][..]),
            (E::Planned { at: t(1), jobs: 1 }, &[A::Run(t(1))]),
            (E::StopAsked { graceful: true }, &[A::StopInputs]),
            (E::StatesSaved, &[]),
            (E::InputsStopped { left: false }, &[]),
            (E::JobsEnded { at: t(1), ok: true }, &[A::Checkpoint(t(1))]),
            (E::Checkpointed(t(1)), &[A::Commit(t(1)), A::Forget(t(1)), A::SaveStates]),
            (E::Due(t(2)), &[]),
            (E::StopAsked { graceful: true }, &[]),
        ];
        for (event, want) in [
            (E::StatesSaved, &[A::Halt][..]),
            (E::WaitedEnough, &[A::Abandon, A::Halt]),
            (E::StopAsked { graceful: false }, &[A::Abandon, A::Halt]),
            (E::Broken, &[A::Abandon, A::Halt]),
        ] {
            let mut life = table(durable, &drained);
            assert_eq!(life.waits_for(), "states that are saved");
            assert_eq!(life.on(event), want, "{event:?}");
            assert_eq!(life.on(E::StatesSaved), []);
        }
    }

    #[test]
    fn a_graceful_stop_says_what_it_waits_for() {
        let mut life = Lifecycle::new(Rules { checkpoint: true, ..PLAIN });
        let mut told = Vec::new();
        for event in [
            E::Due(t(1)),
            E::Planned { at: t(1), jobs: 1 },
            E::Due(t(2)),
            E::Planned { at: t(2), jobs: 1 },
            E::StopAsked { graceful: true },
            E::InputsStopped { left: false },
            E::JobsEnded { at: t(2), ok: true },
            E::JobsEnded { at: t(1), ok: true },
            E::Checkpointed(t(1)),
            E::Checkpointed(t(2)),
            E::StatesSaved,
        ] {
            life.on(event);
            told.push(life.waits_for());
        }
        told.dedup();
        let want = [
            "nothing",
            "inputs that stop",
            "batch 1000 ms, which runs, and 1 behind it",
            "batch 1000 ms, which is written down, and 1 behind it",
            "batch 2000 ms, which is written down",
            "states that are saved",
            "nothing",
        ];
        assert_eq!(told, want);
    }

    #[test]
    fn a_graceful_stop_with_nothing_left_ends_at_once() {
        table(
            PLAIN,
            &[(E::StopAsked { graceful: true }, &[A::StopInputs]), (E::InputsStopped { left: false }, &[A::Halt])],
        );
    }

    #[test]
    fn s130_a_failed_batch_does_not_hold_up_a_graceful_stop() {
        table(
            PLAIN,
            &[
                (E::Due(t(1)), &[A::Plan(t(1))]),
                (E::Planned { at: t(1), jobs: 1 }, &[A::Run(t(1))]),
                (E::StopAsked { graceful: true }, &[A::StopInputs]),
                (E::InputsStopped { left: false }, &[]),
                (E::JobsEnded { at: t(1), ok: false }, &[A::Halt]),
            ],
        );
    }

    #[test]
    fn s127_an_immediate_stop_abandons_what_runs_also_during_a_graceful_one() {
        table(PLAIN, &[(E::StopAsked { graceful: false }, &[A::Abandon, A::StopInputs, A::Halt])]);
        table(
            PLAIN,
            &[
                (E::Due(t(1)), &[A::Plan(t(1))]),
                (E::Planned { at: t(1), jobs: 1 }, &[A::Run(t(1))]),
                (E::StopAsked { graceful: true }, &[A::StopInputs]),
                (E::StopAsked { graceful: false }, &[A::Abandon, A::Halt]),
                (E::JobsEnded { at: t(1), ok: true }, &[]),
            ],
        );
    }

    #[test]
    fn s129_a_graceful_stop_that_waited_enough_ends() {
        table(
            PLAIN,
            &[
                (E::Due(t(1)), &[A::Plan(t(1))]),
                (E::Planned { at: t(1), jobs: 1 }, &[A::Run(t(1))]),
                (E::StopAsked { graceful: true }, &[A::StopInputs]),
                (E::InputsStopped { left: false }, &[]),
                (E::WaitedEnough, &[A::Abandon, A::Halt]),
            ],
        );
    }
}
