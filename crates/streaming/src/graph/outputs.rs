//! The outputs of a graph: what they are called, the jobs they give, and what they prepare and commit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_core::{CallSite, Context, Digest, Result, Scope, Time};

use super::{Batch, Digests, Graph, Look, LookBody, LookOutput, RunId, StreamId};
use crate::batch::job_set::Job;
use crate::dstream::{AnySink, Guarantee, KeptIn, Notes, OutputBatch, OutputKind, OutputRun, OutputStart, guarantee};

/// Plans the job of one output for one batch.
pub(crate) type PlanOutput = Box<dyn FnMut(&Batch<'_>) -> Result<Option<OutputBody>> + Send>;

/// What the job of an output runs.
pub(crate) type OutputBody = Box<dyn FnOnce() -> Result<()> + Send>;

/// A look at what an output is given in a batch.
pub(crate) struct OutputLook {
    pub(crate) name: String,
    pub(crate) site: CallSite,
    pub(crate) look: LookBody,
    pub(crate) show: Option<OutputBody>,
}

pub(crate) struct OutputSlot {
    pub(crate) site: CallSite,
    pub(crate) stream: StreamId,
    pub(crate) uid: Option<String>,
    /// What it is called in batch keys: its `uid`, or its operation and number.
    pub(super) name: String,
    pub(crate) kind: OutputKind,
    /// What the program asked for.
    pub(crate) asked: Option<Guarantee>,
    plan: PlanOutput,
    /// Looks at what the output is given.
    pub(crate) look: LookOutput,
    pub(crate) digest: WantsDigest,
    /// Whether all that it does is to show its elements to people.
    pub(crate) only_shows: bool,
}

/// Whether a digest of what an output is given is kept, where there is a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WantsDigest {
    /// Its elements cannot be written down: if batches are retained, that of their number.
    Cannot,
    /// If batches are retained.
    IfRetained,
    Always,
}

impl OutputSlot {
    pub(crate) fn new(
        site: CallSite,
        stream: StreamId,
        kind: OutputKind,
        plan: PlanOutput,
        (look, digest): (LookOutput, WantsDigest),
    ) -> OutputSlot {
        let (uid, name, asked, only_shows) = (None, String::new(), None, false);
        OutputSlot { site, stream, uid, name, kind, asked, plan, look, digest, only_shows }
    }

    fn is_digested(&self, digests: Digests) -> bool {
        match digests {
            Digests::None => false,
            Digests::Asked => self.digest == WantsDigest::Always,
            Digests::All => true,
        }
    }
}

/// Returns what outputs are called: by `uid`, or by operation and number among those of the operation without one. Pure.
fn output_names(outputs: &[(&str, Option<&str>)]) -> Vec<String> {
    let taken: BTreeSet<&str> = outputs.iter().filter_map(|(_, uid)| *uid).collect();
    let mut count: BTreeMap<&str, u32> = BTreeMap::new();
    let mut names = Vec::new();
    for (operation, uid) in outputs {
        let number = count.entry(operation).or_default();
        let mut name = uid.map(str::to_owned).unwrap_or_default();
        while uid.is_none() && (name.is_empty() || taken.contains(&*name)) {
            *number += 1;
            name = format!("{operation} {number}");
        }
        names.push(name);
    }
    names
}

impl Graph {
    pub(super) fn names_of_outputs(&self) -> Vec<String> {
        let outputs: Vec<_> = self.outputs.iter().map(|output| (output.site.op(), output.uid.as_deref())).collect();
        output_names(&outputs)
    }

    /// Returns the stream of each output.
    pub(crate) fn output_streams(&self) -> Vec<usize> {
        self.outputs.iter().map(|output| output.stream.0).collect()
    }

    /// Plans the jobs of a batch, in the order of the outputs (S-112). An output without an Rdd gives none (S-13), nor does
    /// one that takes no batch again, of a batch that an earlier run had.
    pub(crate) fn jobs(&mut self, time: Time, context: &Context, is_past: bool) -> Result<Vec<Job>> {
        let mut jobs = Vec::new();
        for (id, output) in self.outputs.iter_mut().enumerate() {
            let slot = &self.slots[output.stream.0];
            let is_batch = time > self.zero && time.is_multiple_of(slot.spec.slide, self.zero);
            if !is_batch || (is_past && output.is_left_out()) {
                continue;
            }
            let batch = Batch::of(time, self.zero, &self.slots, context, &self.run, &self.prepared);
            let batch = batch.for_output(id, &output.name);
            let notes = batch.notes.clone();
            let body = (output.plan)(&batch).map_err(|error| error.at(output.site).in_batch(time))?;
            let look = if output.is_digested(self.digests) { (output.look)(&batch) } else { None };
            if let Some(body) = body {
                let is_asked_for = output.digest == WantsDigest::Always;
                let (results, output_name) = (Arc::clone(&self.results), output.name.clone());
                let body: OutputBody = match look {
                    None => body,
                    Some(look) => Box::new(move || {
                        body()?;
                        match look() {
                            Ok(Look::Digested(digest)) => results.put(time, output_name, digest),
                            Ok(Look::Counted(count)) => {
                                results.put(time, output_name, Digest::of_unknown(count));
                            }
                            Err(error) if is_asked_for => return Err(error),
                            // The output has ended well; what only a replay would ask for must not undo that.
                            Err(error) => {
                                tracing::warn!(%error, output = %output_name, "a batch is kept without a digest")
                            }
                        }
                        Ok(())
                    }),
                };
                // Outputs are numbered behind the streams.
                let number = (self.slots.len() + id) as u64;
                let scope = Scope { name: output.site.op(), number, input: None, at: Some(time) };
                let run = Box::new(move || scope.within(body));
                jobs.push(Job { time, id: id as u64, site: output.site, notes, run });
            }
        }
        Ok(jobs)
    }

    /// Plans looks at what the outputs are given in a batch, in the place of their jobs; for those that only show their elements,
    /// the job too.
    pub(crate) fn looks(&mut self, time: Time, context: &Context) -> Result<Vec<OutputLook>> {
        let mut looks = Vec::new();
        for (id, output) in self.outputs.iter_mut().enumerate() {
            let batch = Batch::of(time, self.zero, &self.slots, context, &self.run, &self.prepared);
            let batch = batch.for_output(id, &output.name);
            let Some(look) = (output.look)(&batch) else { continue };
            let show = if output.only_shows { (output.plan)(&batch)? } else { None };
            looks.push(OutputLook { name: output.name.clone(), site: output.site, look, show });
        }
        Ok(looks)
    }

    fn batch_of(&self, output: usize, at: Time, committed_up_to: Option<Time>) -> OutputBatch {
        let (key, epoch) = (self.run.key(&self.outputs[output].name, at), self.run.epoch);
        OutputBatch { key, epoch, committed_up_to, notes: Notes::default() }
    }

    pub(super) fn sinks(&self) -> impl Iterator<Item = (usize, &OutputSlot, &Arc<dyn AnySink>)> {
        self.outputs.iter().enumerate().filter_map(|(i, output)| match &output.kind {
            OutputKind::Transaction(sink) => Some((i, output, sink)),
            _ => None,
        })
    }

    /// Has transactional outputs let go of what earlier runs have prepared, but for what is known of each, and commits that;
    /// `last` is what each committed last.
    pub(crate) fn recover_outputs(
        &self,
        known: &BTreeMap<Time, BTreeMap<usize, Vec<u8>>>,
        mut last: BTreeMap<usize, (Time, Vec<u8>)>,
        start: &OutputStart,
    ) -> Result<()> {
        for (i, output, sink) in self.sinks() {
            let of = |(at, of): (&Time, &'_ BTreeMap<usize, Vec<u8>>)| {
                Some((self.batch_of(i, *at, None), of.get(&i)?.clone()))
            };
            let known: Vec<_> = known.iter().filter_map(of).collect();
            let known: Vec<_> = known.iter().map(|(batch, bytes)| (batch.clone(), &**bytes)).collect();
            let RunId { app_id, epoch } = self.run.clone();
            let last = last.remove(&i).map(|(_, bytes)| bytes);
            let run = OutputRun { app_id, output: output.name.clone(), epoch, start: start.clone(), last };
            sink.recover(&known, &run).map_err(|error| error.at(output.site))?;
        }
        for (at, of) in known {
            for (i, bytes) in of {
                self.commit_output(*i, *at, bytes, None)?;
            }
        }
        Ok(())
    }

    fn commit_output(&self, output: usize, at: Time, bytes: &[u8], committed_up_to: Option<Time>) -> Result<()> {
        let slot = &self.outputs[output];
        let OutputKind::Transaction(sink) = &slot.kind else { return Ok(()) };
        let committed = sink.commit(bytes, &self.batch_of(output, at, committed_up_to));
        committed.map_err(|error| error.at(slot.site).in_batch(at))
    }

    /// Commits what outputs have prepared for a batch. Returns whether there was anything.
    pub(crate) fn commit_outputs(&self, at: Time, committed_up_to: Option<Time>) -> Result<bool> {
        let prepared = self.prepared.of(at);
        for (output, bytes) in &prepared {
            self.commit_output(*output, at, bytes, committed_up_to)?;
        }
        self.prepared.forget(at);
        Ok(!prepared.is_empty())
    }

    /// Lets go of what outputs have prepared for a batch that failed.
    pub(crate) fn abort_outputs(&self, at: Time) {
        self.results.take(at);
        for (output, bytes) in self.prepared.of(at) {
            if let OutputKind::Transaction(sink) = &self.outputs[output].kind
                && let Err(error) = sink.abort(&bytes, &self.batch_of(output, at, None))
            {
                tracing::warn!(%error, "what was prepared for a batch that failed is let go at the next start");
            }
        }
        self.prepared.forget(at);
    }

    /// Returns the first output of which the program wants each batch exactly once.
    pub(crate) fn wants_exactly_once(&self) -> Option<CallSite> {
        self.outputs.iter().find(|output| output.asked == Some(Guarantee::ExactlyOnce)).map(|output| output.site)
    }

    /// Describes the outputs, a line each, for people.
    pub(super) fn describe_outputs(&self, kept: KeptIn) -> String {
        let line = |(output, name): (&OutputSlot, String)| {
            let (gives, why) = guarantee(&output.kind, output.asked, kept);
            format!("-> {} of #{} as {name}: {gives}, since {why}\n", output.site, output.stream.0)
        };
        self.outputs.iter().zip(self.names_of_outputs()).map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_called_by_uid_or_by_operation_and_number_and_no_two_alike() {
        let outputs = [("print", None), ("save_to", Some("counts")), ("print", Some("print 2")), ("print", None)];
        assert_eq!(output_names(&outputs), ["print 1", "counts", "print 2", "print 3"]);
    }
}
