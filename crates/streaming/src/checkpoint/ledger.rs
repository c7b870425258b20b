//! What is known durably of a program, as one value: records folded one by one, while it runs and when it starts again.
//! Pure.
//!
//! The log holds the records; a checkpoint file is the ledger itself, as it was behind some record. Both ways give the same.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use millstream_core::{Digest, Result, Saved, Time, millis};
use serde::{Deserialize, Serialize};

use super::identity::Keeper;
use super::recover::Span;

/// A fact of the log. Variants are never taken away nor changed: new ones come behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Record {
    /// A process began to run the program.
    Began(Began),
    /// It was decided what belongs to a batch. Nothing of the batch runs before this is durable.
    Allocated(Allocated),
    /// The state of a stream behind a batch is in the store.
    Saved(SavedState),
    /// All outputs of a batch have ended well. Nothing of it is committed before this is durable.
    Completed(Completed),
    /// What an output has prepared for a batch, to be committed: stands with the end of the batch.
    Prepared(Prepared),
    /// What was prepared for a batch is committed. Stands with whatever is written next: to commit again does no harm.
    Committed(Committed),
    /// What belongs to a batch, in short: stands with its allocation.
    Given(Given),
    /// What outputs were given, in short: stands with the end of the batch.
    Results(Results),
    /// There are no batches of some times, as no process ran then: stands with the start behind them.
    LeftOut(LeftOut),
    /// What the run is called that began: stands with its start, if a program has sinks that tell runs apart.
    Named(Named),
}

/// A start of the program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Began {
    /// Grows with every start: what a late writer of an earlier one is told by.
    pub(crate) epoch: u64,
    /// The application, as batch keys call it: that of the first start.
    pub(crate) app_id: String,
    /// The time from which all slides are counted: that of the first start.
    pub(crate) zero: Time,
    pub(crate) interval: Duration,
    /// What keeps something from batch to batch; other records name it by its place here.
    pub(crate) keepers: Vec<Keeper>,
    /// For each of them, its place in the list of the start before, if it was there.
    pub(crate) before: Vec<Option<u32>>,
}

/// What belongs to a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Allocated {
    pub(crate) batch: Time,
    /// The allocation of each input, by keeper, as the input wrote it.
    pub(crate) inputs: Vec<(u32, Vec<u8>)>,
}

/// Where the state of a stream is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedState {
    pub(crate) keeper: u32,
    pub(crate) batch: Time,
    pub(crate) save: Save,
}

/// A state in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Save {
    pub(crate) at: Saved,
    pub(crate) partitions: u32,
}

/// The end of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Completed {
    pub(crate) batch: Time,
}

/// What an output has prepared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Prepared {
    pub(crate) keeper: u32,
    pub(crate) batch: Time,
    /// As the sink wrote it.
    pub(crate) bytes: Vec<u8>,
}

/// The end of a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Committed {
    pub(crate) batch: Time,
}

/// What inputs told of what they gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Given {
    pub(crate) batch: Time,
    /// By keeper.
    pub(crate) inputs: Vec<(u32, Digest)>,
}

/// What outputs were given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) batch: Time,
    /// By the output's name.
    pub(crate) outputs: Vec<(String, Digest)>,
}

/// Times that have no batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeftOut {
    /// The first of them.
    pub(crate) from: Time,
    /// The last.
    pub(crate) to: Time,
}

/// A ledger has so many of the newest gaps: what is known of a program must not grow with its age.
const GAPS: usize = 100;

/// What a run is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Named {
    /// No other run of any program is called so.
    pub(crate) name: String,
}

/// A batch that is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BatchFacts {
    pub(crate) inputs: BTreeMap<u32, Vec<u8>>,
    pub(crate) completed: bool,
}

/// Everything that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    pub(crate) epoch: u64,
    pub(crate) app_id: String,
    pub(crate) zero: Time,
    pub(crate) interval: Duration,
    pub(crate) keepers: Vec<Keeper>,
    /// Batches that were allocated, as long as they are needed to run or to plan a batch.
    pub(crate) batches: BTreeMap<Time, BatchFacts>,
    /// Where states are, by keeper and batch.
    pub(crate) saves: BTreeMap<u32, BTreeMap<Time, Save>>,
    /// The latest batch that was allocated.
    pub(crate) latest: Option<Time>,
    /// Keepers that a later build brought: up to when there was nothing of them.
    pub(crate) since: BTreeMap<u32, Time>,
    /// What outputs have prepared for batches that have ended, and of which it is not known that it is committed.
    pub(crate) prepared: BTreeMap<Time, BTreeMap<u32, Vec<u8>>>,
    /// The forms of saves that a build before the keeper's wrote: it has not written them anew yet.
    pub(crate) forms: BTreeMap<u32, BTreeMap<Time, String>>,
    /// What belonged to each remembered batch, in short, as inputs told it when the batch was given.
    pub(crate) given: BTreeMap<Time, BTreeMap<u32, Digest>>,
    /// What outputs were given in each remembered batch, in short, by the output's name.
    pub(crate) results: BTreeMap<Time, BTreeMap<String, Digest>>,
    /// The newest times that have no batch, oldest first.
    pub(crate) left_out: Vec<LeftOut>,
    /// What each output had prepared last of what is known to be committed, by keeper, and for which batch.
    pub(crate) committed: BTreeMap<u32, (Time, Vec<u8>)>,
    /// What runs are called, by epoch: all since the last one that ended a batch, and some before it.
    pub(crate) runs: BTreeMap<u64, String>,
}

/// How many runs are remembered that began before the last one that ended a batch: a sink may come back that was away.
const EARLIER_RUNS: usize = 64;

impl Ledger {
    /// Takes note of a record.
    pub(crate) fn apply(&mut self, record: Record) {
        match record {
            Record::Began(began) => self.begin(began),
            Record::Allocated(Allocated { batch, inputs }) => {
                self.latest = self.latest.max(Some(batch));
                self.batches.insert(batch, BatchFacts { inputs: inputs.into_iter().collect(), completed: false });
            }
            Record::Saved(SavedState { keeper, batch, save }) => {
                self.saves.entry(keeper).or_default().insert(batch, save);
            }
            Record::Completed(Completed { batch }) => {
                if let Some(facts) = self.batches.get_mut(&batch) {
                    facts.completed = true;
                }
                // Every sink has been told of this run, before any batch of it.
                let earlier = self.runs.range(..self.epoch).count();
                for _ in EARLIER_RUNS..earlier {
                    self.runs.pop_first();
                }
            }
            Record::Prepared(Prepared { keeper, batch, bytes }) => {
                self.prepared.entry(batch).or_default().insert(keeper, bytes);
            }
            Record::Committed(Committed { batch }) => {
                for (keeper, bytes) in self.prepared.remove(&batch).into_iter().flatten() {
                    self.committed.insert(keeper, (batch, bytes));
                }
            }
            Record::Given(Given { batch, inputs }) => {
                self.given.insert(batch, inputs.into_iter().collect());
            }
            Record::Results(Results { batch, outputs }) => {
                self.results.insert(batch, outputs.into_iter().collect());
            }
            Record::LeftOut(gap) => {
                self.left_out.push(gap);
                let old = self.left_out.len().saturating_sub(GAPS);
                self.left_out.drain(..old);
            }
            Record::Named(Named { name }) => {
                self.runs.insert(self.epoch, name);
            }
        }
    }

    fn begin(&mut self, began: Began) {
        let Began { epoch, app_id, zero, interval, keepers, before } = began;
        let (was_new, brought_at) = (self.is_new(), self.next() - self.interval);
        let place: BTreeMap<u32, u32> =
            (0u32..).zip(&before).filter_map(|(now, before)| before.map(|before| (before, now))).collect();
        for facts in self.batches.values_mut() {
            let inputs = std::mem::take(&mut facts.inputs);
            facts.inputs = inputs.into_iter().filter_map(|(old, bytes)| Some((*place.get(&old)?, bytes))).collect();
        }
        let mut forms = std::mem::take(&mut self.forms);
        for (old, saves) in std::mem::take(&mut self.saves) {
            let Some(&now) = place.get(&old) else { continue };
            let mut earlier = forms.remove(&old).unwrap_or_default();
            let shape =
                |keepers: &[Keeper], keeper: u32| keepers.get(keeper as usize).map(|keeper| keeper.shape.clone());
            let (was, is) = (shape(&self.keepers, old).unwrap_or_default(), shape(&keepers, now).unwrap_or_default());
            for at in saves.keys() {
                earlier.entry(*at).or_insert_with(|| was.clone());
            }
            earlier.retain(|_, form| *form != is);
            if !earlier.is_empty() {
                self.forms.insert(now, earlier);
            }
            self.saves.insert(now, saves);
        }
        let since = std::mem::take(&mut self.since);
        self.since = since.into_iter().filter_map(|(old, since)| Some((*place.get(&old)?, since))).collect();
        if !was_new {
            let brought = (0u32..).zip(&before).filter(|(_, before)| before.is_none());
            self.since.extend(brought.map(|(now, _)| (now, brought_at)));
        }
        for of in self.prepared.values_mut() {
            let old = std::mem::take(of);
            *of = old.into_iter().filter_map(|(old, bytes)| Some((*place.get(&old)?, bytes))).collect();
        }
        self.prepared.retain(|_, of| !of.is_empty());
        let committed = std::mem::take(&mut self.committed);
        self.committed = committed.into_iter().filter_map(|(old, last)| Some((*place.get(&old)?, last))).collect();
        for of in self.given.values_mut() {
            let old = std::mem::take(of);
            *of = old.into_iter().filter_map(|(old, digest)| Some((*place.get(&old)?, digest))).collect();
        }
        *self = Ledger { epoch, app_id, zero, interval, keepers, ..std::mem::take(self) };
    }

    /// Returns the form of a save, if a build before the keeper's wrote it.
    pub(crate) fn earlier_form(&self, keeper: u32, at: Time) -> Option<&str> {
        Some(self.forms.get(&keeper)?.get(&at)?)
    }

    /// Says whether no program ever began here.
    pub(crate) fn is_new(&self) -> bool {
        self.epoch == 0
    }

    /// Says whether a save of a keeper's state, behind the batch `at`, is to be told of; `waiting` are records that are under way.
    ///
    /// One that is not later than what is known never is: of batches that are planned again a start saves states that an earlier run
    /// had saved already. They would be let go of at once, and later ones are built upon them.
    pub(crate) fn is_news<'a>(&self, keeper: u32, at: Time, waiting: impl Iterator<Item = &'a Record>) -> bool {
        let known = self.saves.get(&keeper).and_then(|saves| saves.keys().next_back().copied());
        let mut told = waiting.filter_map(|record| match record {
            Record::Saved(other) if other.keeper == keeper => Some(other.batch),
            _ => None,
        });
        known.is_none_or(|known| known < at) && told.all(|told| told < at)
    }

    /// Returns the batches that were allocated and whose end is not known, oldest first.
    pub(crate) fn pending(&self) -> impl Iterator<Item = Time> {
        self.batches.iter().filter(|(_, facts)| !facts.completed).map(|(batch, _)| *batch)
    }

    /// Returns the time up to which no batch can run or be committed again.
    pub(crate) fn committed_up_to(&self) -> Option<Time> {
        let open = self.pending().next().into_iter().chain(self.prepared.keys().next().copied()).min();
        open.map(|open| open - millis(1)).or(self.latest)
    }

    /// Returns the earliest time at which a batch may still run: the oldest that is pending, or one behind the latest.
    pub(crate) fn next(&self) -> Time {
        let after = self.latest.unwrap_or(self.zero) + self.interval;
        self.pending().next().unwrap_or(after)
    }

    /// Returns from where slides are counted, and the first batch that may still run.
    pub(crate) fn span(&self) -> Span {
        Span { zero: self.zero, next: self.next() }
    }

    /// As [`span`](Self::span), with the newest batches that have ended counted as if they could run again.
    pub(crate) fn retaining(&self, batches: usize) -> Span {
        let ended = self.batches.iter().rev().filter(|(_, facts)| facts.completed).map(|(at, _)| *at);
        let Span { zero, next } = self.span();
        Span { zero, next: ended.take(batches).last().map_or(next, |oldest| oldest.min(next)) }
    }

    /// Returns the time behind which batches are remembered.
    pub(crate) fn remembered_from(&self) -> Time {
        self.batches.keys().next().map_or(self.zero, |first| (*first - self.interval).max(self.zero))
    }

    /// Returns the folders of all states that are known to be saved.
    pub(crate) fn states(&self) -> impl Iterator<Item = &str> {
        self.saves.values().flat_map(BTreeMap::values).flat_map(|save| &save.at.needs).map(String::as_str)
    }

    /// Lets go of the saves that an earlier run has let go of, and that records still name: those that are not there any more,
    /// as long as a newer one is. That the newest is missing, or the newest from which a pending batch can be made, is for whoever reads
    /// it to tell.
    pub(crate) fn let_go_of_missing(&mut self, is_there: impl Fn(&str) -> Result<bool>) -> Result<()> {
        let next = self.next();
        for saves in self.saves.values_mut() {
            let for_next = saves.range(..=next).next_back().map(|(at, _)| *at);
            let mut newest_first = std::mem::take(saves).into_iter().rev();
            saves.extend(newest_first.next());
            for (at, save) in newest_first {
                if Some(at) == for_next {
                    saves.insert(at, save);
                    continue;
                }
                let there: Result<Vec<bool>> = save.at.needs.iter().map(|folder| is_there(folder)).collect();
                if there?.into_iter().all(|there| there) {
                    saves.insert(at, save);
                }
            }
        }
        let saves = &self.saves;
        for (keeper, forms) in &mut self.forms {
            forms.retain(|at, _| saves.get(keeper).is_some_and(|saves| saves.contains_key(at)));
        }
        self.forms.retain(|_, forms| !forms.is_empty());
        Ok(())
    }

    /// Returns up to when batches may be let go of so that each input still goes on where it was: what an input gave last stays, also
    /// if it gave nothing to later batches, as when it failed.
    pub(crate) fn spared(&self, horizon: Time) -> Time {
        let gives_later = |batch: &Time, keeper: &u32| {
            let mut later = self.batches.range((Bound::Excluded(*batch), Bound::Unbounded));
            later.any(|(_, facts)| facts.inputs.contains_key(keeper))
        };
        let is_last =
            |(batch, facts): &(&Time, &BatchFacts)| !facts.inputs.keys().all(|keeper| gives_later(batch, keeper));
        let mut last = self.batches.range(..=horizon).filter(is_last);
        last.next().map_or(horizon, |(batch, _)| *batch - millis(1))
    }

    /// Lets go of what no batch from now on needs: batches up to `horizon` that have ended, and, of each keeper, states before
    /// the one that is named. Returns the folders that nothing is read from any more.
    pub(crate) fn forget(&mut self, horizon: Time, states: &BTreeMap<u32, Time>) -> Vec<String> {
        let ended: Vec<Time> =
            self.batches.range(..=horizon).filter(|(_, facts)| facts.completed).map(|(batch, _)| *batch).collect();
        for batch in ended {
            self.batches.remove(&batch);
            self.given.remove(&batch);
            self.results.remove(&batch);
        }
        let mut gone = Vec::new();
        for (keeper, first) in states {
            let Some(saves) = self.saves.get_mut(keeper) else { continue };
            let kept = saves.split_off(first);
            gone.extend(std::mem::replace(saves, kept).into_values().flat_map(|save| save.at.needs));
            if let Some(forms) = self.forms.get_mut(keeper) {
                forms.retain(|at, _| at >= first);
                if forms.is_empty() {
                    self.forms.remove(keeper);
                }
            }
        }
        if gone.is_empty() {
            return gone;
        }
        let needed: std::collections::BTreeSet<&String> =
            self.saves.values().flat_map(BTreeMap::values).flat_map(|save| &save.at.needs).collect();
        gone.retain(|folder| !needed.contains(folder));
        gone.sort();
        gone.dedup();
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_core::secs;

    fn t(s: i64) -> Time {
        Time::from_millis(s * 1000)
    }

    fn began(epoch: u64, keys: &[&str], before: &[Option<u32>]) -> Record {
        Record::Began(Began {
            epoch,
            app_id: "app".into(),
            zero: t(0),
            interval: secs(1),
            keepers: keys.iter().map(|key| Keeper::state(key)).collect(),
            before: before.to_vec(),
        })
    }

    fn allocated(s: i64) -> Record {
        Record::Allocated(Allocated { batch: t(s), inputs: vec![(0, vec![1])] })
    }

    fn completed(s: i64) -> Record {
        Record::Completed(Completed { batch: t(s) })
    }

    fn saved(keeper: u32, s: i64, needs: &[&str]) -> Record {
        let needs: Vec<String> = needs.iter().map(ToString::to_string).collect();
        let at = Saved { folder: needs.last().cloned().unwrap_or_default(), needs };
        Record::Saved(SavedState { keeper, batch: t(s), save: Save { at, partitions: 2 } })
    }

    fn ledger(records: impl IntoIterator<Item = Record>) -> Ledger {
        let mut ledger = Ledger::default();
        records.into_iter().for_each(|record| ledger.apply(record));
        ledger
    }

    #[test]
    fn what_was_allocated_and_has_not_ended_is_pending() {
        let mut ledger = ledger([began(1, &["in", "state"], &[None, None])]);
        assert_eq!(ledger.next(), t(1));
        for record in [allocated(1), completed(1), allocated(2), allocated(3), completed(3)] {
            ledger.apply(record);
        }
        assert_eq!(ledger.pending().collect::<Vec<_>>(), [t(2)]);
        assert_eq!((ledger.next(), ledger.latest), (t(2), Some(t(3))));
        ledger.apply(completed(2));
        assert_eq!(ledger.next(), t(4));
    }

    #[test]
    fn what_was_prepared_is_kept_until_it_is_known_to_be_committed() {
        let prepared = |keeper, s| Record::Prepared(Prepared { keeper, batch: t(s), bytes: vec![7] });
        let mut ledger = ledger([began(1, &["in", "out"], &[None, None]), allocated(1), allocated(2), allocated(3)]);
        assert_eq!(ledger.committed_up_to(), Some(t(1) - millis(1)));
        for s in 1..=2 {
            ledger.apply(prepared(1, s));
            ledger.apply(completed(s));
        }
        ledger.apply(Record::Committed(Committed { batch: t(1) }));
        assert_eq!(ledger.committed, [(1, (t(1), vec![7]))].into(), "the last one stays, as one that is committed");
        assert_eq!(ledger.committed_up_to(), Some(t(2) - millis(1)));
        ledger.forget(t(3), &BTreeMap::new());
        assert_eq!(ledger.prepared, [(t(2), [(1, vec![7])].into())].into());
        ledger.apply(began(2, &["out", "in"], &[Some(1), Some(0)]));
        assert_eq!(ledger.prepared, [(t(2), [(0, vec![7])].into())].into(), "in its new place");
        assert_eq!(ledger.committed, [(0, (t(1), vec![7]))].into());
        ledger.apply(Record::Committed(Committed { batch: t(2) }));
        assert_eq!(ledger.committed, [(0, (t(2), vec![7]))].into());
        assert_eq!(ledger.committed_up_to(), Some(t(3) - millis(1)), "the pending batch");
        ledger.apply(completed(3));
        assert_eq!(ledger.committed_up_to(), Some(t(3)));
    }

    #[test]
    fn runs_are_known_by_name_all_that_no_batch_has_ended_since_and_some_before() {
        let named = |epoch: u64| [began(epoch, &[], &[]), Record::Named(Named { name: format!("run {epoch}") })];
        let mut ledger = ledger((1..=100).flat_map(named));
        assert_eq!(ledger.runs.len(), 100, "a start that comes to nothing may have been the last that a sink heard of");
        ledger.apply(allocated(1));
        ledger.apply(completed(1));
        let known: Vec<u64> = ledger.runs.keys().copied().collect();
        assert_eq!(known, (100 - EARLIER_RUNS as u64..=100).collect::<Vec<_>>());
        assert_eq!(ledger.runs[&100], "run 100");
    }

    #[test]
    fn a_start_finds_what_was_kept_in_its_new_place_and_lets_go_of_the_rest() {
        let mut ledger = ledger([
            began(1, &["in", "a", "b"], &[None, None, None]),
            allocated(1),
            saved(1, 1, &["fa"]),
            saved(2, 1, &["fb"]),
        ]);
        ledger.apply(began(2, &["b", "in", "c"], &[Some(2), Some(0), None]));
        assert_eq!((ledger.epoch, &ledger.since), (2, &[(2, t(0))].into()), "c begins with the batch that is pending");
        assert_eq!(ledger.batches[&t(1)].inputs, [(1, vec![1])].into());
        assert_eq!(ledger.saves.keys().collect::<Vec<_>>(), [&0]);
        assert_eq!(ledger.saves[&0][&t(1)].at.folder, "fb");
    }

    #[test]
    fn a_save_is_news_if_it_is_later_than_what_is_known_and_than_what_is_under_way() {
        let ledger = ledger([began(1, &["in", "a", "b"], &[None, None, None]), saved(1, 2, &["f2"])]);
        let under_way = [saved(1, 4, &["f4"]), completed(9), saved(2, 1, &["g1"])];
        for (keeper, s, want) in
            [(1, 1, false), (1, 2, false), (1, 3, false), (1, 4, false), (1, 5, true), (2, 1, false), (2, 2, true)]
        {
            assert_eq!(ledger.is_news(keeper, t(s), under_way.iter()), want, "state {keeper}, batch {s}");
        }
        assert!(ledger.is_news(1, t(3), [].iter()) && ledger.is_news(2, t(1), [].iter()));
    }

    #[test]
    fn what_an_input_gave_last_stays_though_it_gave_nothing_to_later_batches() {
        let given = |s: i64, to: &[u32]| {
            Record::Allocated(Allocated { batch: t(s), inputs: to.iter().map(|keeper| (*keeper, vec![1])).collect() })
        };
        let began = began(1, &["a", "b"], &[None, None]);
        let first = |batches: &[Record], horizon: i64| {
            let ledger = ledger(std::iter::once(began.clone()).chain(batches.iter().cloned()));
            ledger.spared(t(horizon)).as_millis()
        };
        let both = [given(1, &[0, 1]), given(2, &[0, 1]), given(3, &[0, 1])];
        assert_eq!((first(&both, 0), first(&both, 2)), (0, 2000));
        assert_eq!(first(&both, 3), 2999, "the last of all stays");
        let failed = [given(1, &[0, 1]), given(2, &[0]), given(3, &[0]), given(4, &[0])];
        assert_eq!(first(&failed, 3), 999, "b gave last to batch 1");
        let again = [given(1, &[0, 1]), given(2, &[0]), given(3, &[0, 1])];
        assert_eq!(first(&again, 2), 2000);
        assert_eq!(first(&[given(1, &[]), given(2, &[])], 1), 1000, "inputs that keep nothing hold nothing up");
    }

    #[test]
    fn of_times_that_have_no_batch_the_newest_are_known_also_behind_other_starts() {
        let gap = |s: i64| LeftOut { from: t(10 * s), to: t(10 * s + 4) };
        let starts = (1..=103).flat_map(|s| [began(s as u64, &[], &[]), Record::LeftOut(gap(s))]);
        let ledger = ledger(starts.chain([began(104, &[], &[])]));
        assert_eq!(ledger.left_out, (4..=103).map(gap).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_let_go_is_what_nothing_builds_upon() {
        let mut ledger = ledger([
            began(1, &["in", "a"], &[None, None]),
            saved(1, 1, &["f1"]),
            saved(1, 2, &["f1", "f2"]),
            saved(1, 3, &["f2", "f3"]),
            allocated(1),
            completed(1),
            allocated(2),
        ]);
        assert_eq!(ledger.forget(t(2), &[(1, t(2))].into()), [""; 0], "f1 is read with f2");
        assert_eq!(ledger.batches.keys().collect::<Vec<_>>(), [&t(2)], "what is pending stays");
        assert_eq!(ledger.forget(t(2), &[(1, t(3))].into()), ["f1"]);
    }
}
