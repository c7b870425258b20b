//! What is known durably of a program, asked by the places of its streams and outputs.

use std::collections::BTreeMap;

use millstream_core::mutants::{Mutant, planted};
use millstream_core::{Digest, Time};

use super::ledger::{BatchFacts, Ledger, Save};
use super::recover::{Need, Span, StreamFacts, needs};
use super::{KeptBy, PastBatch};

/// A ledger, and which keeper each stream and output of the program is.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(super) ledger: Ledger,
    pub(super) keeper_of: BTreeMap<KeptBy, u32>,
}

impl Known {
    pub(super) fn keeper(&self, stream: usize) -> Option<u32> {
        self.keeper_of.get(&KeptBy::Stream(stream)).copied()
    }

    /// Returns the key of a stream that keeps something.
    pub(crate) fn key(&self, stream: usize) -> Option<&str> {
        Some(&self.ledger.keepers.get(self.keeper(stream)? as usize)?.key)
    }

    /// Returns the application, and which start of it this is.
    pub(crate) fn run(&self) -> (&str, u64) {
        (&self.ledger.app_id, self.ledger.epoch)
    }

    /// Returns the batches behind which the state of a stream is in the store.
    pub(crate) fn saves(&self, stream: usize) -> Vec<Time> {
        let saves = self.keeper(stream).and_then(|keeper| self.ledger.saves.get(&keeper));
        saves.into_iter().flat_map(BTreeMap::keys).copied().collect()
    }

    /// Returns up to when there was nothing of a stream, if a later build brought it.
    pub(crate) fn since(&self, stream: usize) -> Option<Time> {
        self.ledger.since.get(&self.keeper(stream)?).copied()
    }

    /// Returns what must be restored of each stream.
    pub(crate) fn past(&self, streams: &[StreamFacts], outputs: &[usize]) -> Past {
        self.of(needs(streams, outputs, self.ledger.remembered_from(), self.ledger.span()))
    }

    /// Returns what must be restored of each stream so that one batch can be made, or nothing if that is not there any more.
    pub(crate) fn past_of(&self, batch: Time, streams: &[StreamFacts], outputs: &[usize]) -> Option<Past> {
        // What is saved behind the batch itself is what the batch gave, and is to be made again.
        let streams: Vec<StreamFacts> = streams.iter().map(|stream| stream.saved_before(batch)).collect();
        // As if all batches were remembered: then it is seen what is missing.
        let zero = self.ledger.zero;
        let past = self.of(needs(&streams, outputs, zero, Span { zero, next: batch }));
        let inputs = streams.iter().zip(&past.needs).filter(|(stream, _)| stream.parents.is_empty());
        let first = inputs.filter_map(|(_, need)| need.map(|need| need.after)).min().unwrap_or(batch);
        let is_there = self.ledger.batches.contains_key(&batch) && self.ledger.remembered_from() <= first;
        is_there.then_some(past)
    }

    fn of(&self, needs: Vec<Option<Need>>) -> Past {
        let save = |(stream, need): (usize, &Option<Need>)| {
            let (keeper, at) = (self.keeper(stream)?, need.as_ref()?.save?);
            let earlier_form = self.ledger.earlier_form(keeper, at).map(str::to_owned);
            let save = self.ledger.saves.get(&keeper)?.get(&at)?.clone();
            Some((stream, FoundSave { save, earlier_form }))
        };
        let saves = needs.iter().enumerate().filter_map(save).collect();
        Past { needs, saves }
    }

    /// Returns the batches of earlier runs that are remembered, oldest first.
    pub(crate) fn past_batches(&self) -> Vec<PastBatch> {
        let completed = |facts: &BatchFacts| facts.completed && !planted(Mutant::EndedRunsAgain);
        self.ledger.batches.iter().map(|(at, facts)| PastBatch { at: *at, completed: completed(facts) }).collect()
    }

    /// Returns what an input gave to the batches that are remembered, and in short, if it told that.
    pub(crate) fn given(&self, stream: usize) -> Vec<GivenBefore<'_>> {
        let Some(keeper) = self.keeper(stream) else { return Vec::new() };
        let given = |(at, facts): (&Time, &'_ BatchFacts)| facts.inputs.get(&keeper).map(|_| *at);
        let batches: Vec<Time> = self.ledger.batches.iter().filter_map(given).collect();
        let digest = |at: &Time| self.ledger.given.get(at).and_then(|of| of.get(&keeper)).copied();
        let one = |at: Time| {
            let written = &**self.ledger.batches.get(&at)?.inputs.get(&keeper)?;
            Some(GivenBefore { at, written, digest: digest(&at) })
        };
        batches.into_iter().filter_map(one).collect()
    }

    /// Returns what outputs were given in a batch, in short, by the output's name.
    pub(crate) fn results(&self, batch: Time) -> Option<&BTreeMap<String, Digest>> {
        self.ledger.results.get(&batch)
    }
}

/// What an input gave to a batch of an earlier run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GivenBefore<'a> {
    pub(crate) at: Time,
    /// As the input wrote it.
    pub(crate) written: &'a [u8],
    /// What it was of, in short.
    pub(crate) digest: Option<Digest>,
}

/// What is to be restored before the first batch of this run.
#[derive(Debug, Default)]
pub(crate) struct Past {
    /// By stream.
    needs: Vec<Option<Need>>,
    /// Where the states are that streams are read from, by stream.
    saves: BTreeMap<usize, FoundSave>,
}

/// A state in the store, as an earlier run left it.
#[derive(Clone, Debug)]
pub(crate) struct FoundSave {
    pub(crate) save: Save,
    /// The form that it has, if it is not the program's.
    pub(crate) earlier_form: Option<String>,
}

impl Past {
    /// Says whether a stream is to have an Rdd at `time`.
    pub(crate) fn holds(&self, stream: usize, time: Time) -> bool {
        self.needs.get(stream).copied().flatten().is_some_and(|need| need.holds(time))
    }

    /// Returns where a stream's Rdd of `time` is to be read from, if it is.
    pub(crate) fn save(&self, stream: usize, time: Time) -> Option<&FoundSave> {
        let need = self.needs.get(stream).copied().flatten()?;
        (need.save == Some(time)).then(|| self.saves.get(&stream))?
    }
}
