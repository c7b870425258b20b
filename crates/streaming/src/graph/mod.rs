//! The graph is a vector: a stream can only name streams made before it, so a batch is one forward walk.

mod batch;
mod outputs;
mod results;
mod shared;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use millstream_core::partitioner::key_hash;
use millstream_core::{
    AnyRdd, CallSite, Context, Data, Rdd, RddId, Result, Saved, Scope, StorageLevel, Time, panicked,
};

use self::batch::Own;
pub use self::batch::{Batch, BatchKey};
pub(crate) use self::outputs::{OutputBody, OutputLook, OutputSlot, PlanOutput, WantsDigest};
pub(crate) use self::results::{Digests, Look, LookBody, LookOutput, Results, counted, digested};
pub(crate) use self::shared::{GraphShared, Running};
use crate::checkpoint::identity::{Keeper, Kept};
use crate::checkpoint::{Keepers, KeptBy, Known, Past, StreamFacts};
use crate::dstream::{AnyInput, AnyNode, KeptIn, OutputKind, PreparedOutputs};
use crate::state::migrate::Migrations;

/// Names a stream within its graph: its place in the vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub(crate) usize);

/// Keeps the Rdds of a stream as its level says.
pub(crate) type KeepRdd = Arc<dyn Fn(&AnyRdd) + Send + Sync>;

/// Makes the Rdd of a stream that an earlier run saved.
pub(crate) type ReadSaved = Arc<dyn Fn(&Context, &Saved, usize, CallSite) -> AnyRdd + Send + Sync>;

/// How the Rdds of a stream are saved, and read again by a later run.
#[derive(Clone)]
pub(crate) struct SaveForm {
    /// Marks an Rdd to be saved.
    pub(crate) mark: KeepRdd,
    pub(crate) read: ReadSaved,
    /// Tells the shape of what is written.
    pub(crate) shape: Arc<dyn Fn() -> String + Send + Sync>,
}

/// What is known of a stream beside how it is computed.
pub(crate) struct StreamSpec {
    pub(crate) site: CallSite,
    pub(crate) slide: Duration,
    pub(crate) parents: Vec<StreamId>,
    /// How much longer than itself the parents are needed: the length of a window.
    pub(crate) reach: Duration,
    pub(crate) level: StorageLevel,
    pub(crate) keep: Option<KeepRdd>,
    pub(crate) saving: Saving,
    /// The stream that keeps Rdds in the place of this one: a window has nothing of its own to keep (S-30).
    pub(crate) kept_by: Option<StreamId>,
    /// The stream that is saved in the place of this one, and how: the state that this one is read from.
    pub(crate) saved_by: Option<(StreamId, SaveForm)>,
    /// How what earlier builds saved of this stream is read.
    pub(crate) migrations: Migrations,
    pub(crate) uid: Option<String>,
}

impl StreamSpec {
    pub(crate) fn new(site: CallSite, slide: Duration, parents: Vec<StreamId>) -> StreamSpec {
        StreamSpec {
            site,
            slide,
            parents,
            reach: Duration::ZERO,
            level: StorageLevel::NONE,
            keep: None,
            saving: Saving::default(),
            kept_by: None,
            saved_by: None,
            migrations: Migrations::default(),
            uid: None,
        }
    }

    /// Says whether the stream is made from its own past.
    pub(crate) fn is_state(&self) -> bool {
        self.saving.by_itself.is_some()
    }
}

/// How the Rdds of a stream are saved, so that a lineage that reaches back from batch to batch is cut.
#[derive(Clone, Default)]
pub(crate) struct Saving {
    /// How often; a multiple of the slide.
    pub(crate) every: Option<Duration>,
    pub(crate) form: Option<SaveForm>,
    /// How often, where nobody said: for streams that are made from their own past.
    pub(crate) by_itself: Option<Duration>,
}

pub(crate) enum StreamKind {
    Input { number: u64, input: Box<dyn AnyInput> },
    Derived(Box<dyn AnyNode>),
}

pub(crate) struct Slot {
    pub(crate) spec: StreamSpec,
    pub(crate) kind: StreamKind,
    /// Rdds that are remembered, by time.
    rdds: BTreeMap<Time, AnyRdd>,
    /// Those of them that are saved, or are to be: few among many.
    saves: BTreeMap<Time, AnyRdd>,
    /// Rdds that are not, and whose files wait for newer ones to be written.
    stale: Vec<AnyRdd>,
    /// States that are not remembered, and that are still being saved.
    late: BTreeMap<Time, AnyRdd>,
    /// The batch whose Rdd was read from what an earlier run had saved.
    restored: Option<Time>,
    /// The newest Rdd that was written when they were last looked through.
    swept: Option<RddId>,
    /// For how long; nothing for a stream that no output needs (S-25).
    remember: Option<Duration>,
}

/// All streams and outputs of a program.
#[derive(Default)]
pub(crate) struct Graph {
    pub(crate) slots: Vec<Slot>,
    pub(crate) outputs: Vec<OutputSlot>,
    zero: Time,
    pub(crate) run: RunId,
    /// What transactional outputs have prepared and not committed.
    pub(crate) prepared: Arc<PreparedOutputs>,
    /// What outputs were given, of batches that have not ended.
    pub(crate) results: Arc<Results>,
    pub(crate) digests: Digests,
    /// Whether what is made is only looked at: nothing is saved.
    pub(crate) is_replay: bool,
}

/// Which run of which program this is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RunId {
    /// The application; with a checkpoint, as its first run was called.
    pub(crate) app_id: String,
    /// Grows with every run that goes on from a checkpoint; 0 without one.
    pub(crate) epoch: u64,
}

impl RunId {
    fn key(&self, output: &str, batch: Time) -> BatchKey {
        BatchKey { app_id: self.app_id.clone(), output: output.to_owned(), batch }
    }
}

impl Graph {
    pub(crate) fn add(&mut self, spec: StreamSpec, kind: StreamKind) -> StreamId {
        self.slots.push(Slot {
            spec,
            kind,
            rdds: BTreeMap::new(),
            saves: BTreeMap::new(),
            stale: Vec::new(),
            restored: None,
            late: BTreeMap::new(),
            swept: None,
            remember: None,
        });
        StreamId(self.slots.len() - 1)
    }

    /// Fixes the zero time and how long each stream remembers (S-17, S-19).
    pub(crate) fn initialise(&mut self, zero: Time, least: Duration) {
        self.zero = zero;
        for slot in &mut self.slots {
            slot.spec.saving.every = slot.spec.saving.every.or(slot.spec.saving.by_itself);
        }
        let names = self.names_of_outputs();
        for (output, name) in self.outputs.iter_mut().zip(names) {
            output.name = name;
        }
        let shapes: Vec<_> = self.slots.iter().map(Shape::of).collect();
        let outputs: Vec<_> = self.outputs.iter().map(|output| output.stream).collect();
        for (slot, remember) in self.slots.iter_mut().zip(remember(&shapes, &outputs, least)) {
            slot.remember = remember;
        }
    }

    /// Returns the time from which slides are counted.
    pub(crate) fn zero(&self) -> Time {
        self.zero
    }

    /// Returns the stream that keeps the Rdds of a stream: itself, or what a window is made of.
    pub(crate) fn keeper(&self, stream: StreamId) -> StreamId {
        let mut at = stream;
        while let Some(keeper) = self.slots.get(at.0).and_then(|slot| slot.spec.kept_by) {
            at = keeper;
        }
        at
    }

    /// Returns the last batch time of a stream that is not after `time`.
    pub(crate) fn floor(&self, stream: StreamId, time: Time) -> Time {
        self.slots.get(stream.0).map_or(time, |slot| time.floor_from(slot.spec.slide, self.zero))
    }

    /// Returns the Rdds that a stream remembers, of the batches from `from` to `to`, both included.
    pub(crate) fn remembered<T: Data>(&self, stream: StreamId, from: Time, to: Time) -> Vec<Rdd<T>> {
        let rdds = self.slots.get(stream.0).filter(|_| from <= to).map(|slot| slot.rdds.range(from..=to));
        rdds.into_iter().flatten().filter_map(|(_, rdd)| rdd.typed()).collect()
    }

    /// Returns the lines of streams that an output needs and that are saved now and then.
    pub(crate) fn saved_streams(&self) -> impl Iterator<Item = CallSite> {
        self.slots
            .iter()
            .filter(|slot| slot.remember.is_some() && slot.spec.saving.every.is_some())
            .map(|s| s.spec.site)
    }

    /// Computes every stream that has an Rdd at `time`, in order.
    ///
    /// `read` gives the Rdd of an input. For a batch that an earlier run had, `past` says what is needed of it.
    pub(crate) fn compute(
        &mut self,
        time: Time,
        context: &Context,
        past: Option<&Past>,
        read: &mut dyn FnMut(u64, &mut dyn AnyInput) -> Result<Option<AnyRdd>>,
    ) -> Result<()> {
        for i in 0..self.slots.len() {
            let (before, rest) = self.slots.split_at_mut(i);
            let Some(slot) = rest.first_mut() else { break };
            let is_batch = time > self.zero && time.is_multiple_of(slot.spec.slide, self.zero);
            if slot.remember.is_none() || !is_batch || past.is_some_and(|past| !past.holds(i, time)) {
                continue;
            }
            if let (Some(found), Some(form)) = (past.and_then(|past| past.save(i, time)), &slot.spec.saving.form) {
                let read = match &found.earlier_form {
                    None => &form.read,
                    Some(shape) => slot.spec.migrations.reader(shape).ok_or_else(|| {
                        millstream_core::bug!("no migration reads the form {shape}").at(slot.spec.site)
                    })?,
                };
                let save = &found.save;
                let rdd = read(context, &save.at, save.partitions as usize, slot.spec.site);
                if let Some(keep) = &slot.spec.keep {
                    keep(&rdd);
                }
                slot.saves.insert(time, rdd.clone());
                slot.rdds.insert(time, rdd);
                slot.restored = Some(time);
                continue;
            }
            // Closures given to `transform` run here: one that panics is to be named.
            let own = Own { rdds: &slot.rdds, saved_every: slot.spec.saving.every, restored: slot.restored };
            let input = if let StreamKind::Input { number, .. } = &slot.kind { Some(*number) } else { None };
            let scope = Scope { name: slot.spec.site.op(), number: i as u64, input, at: Some(time) };
            let make = || match &mut slot.kind {
                // What a source calls to make its Rdd is laid at the program's line.
                StreamKind::Input { number, input } => {
                    CallSite::scope(Some(slot.spec.site), || read(*number, &mut **input))
                }
                StreamKind::Derived(node) => {
                    let seen = Batch::of(time, self.zero, before, context, &self.run, &self.prepared);
                    node.compute(&Batch { own: Some(own), ..seen })
                }
            };
            let rdd = guarded(|| scope.within(make)).map_err(|error| error.at(slot.spec.site).in_batch(time))?;
            if let Some(rdd) = rdd {
                if let Some(keep) = &slot.spec.keep {
                    keep(&rdd);
                }
                if let Saving { every: Some(every), form: Some(form), .. } = &slot.spec.saving
                    && time.is_multiple_of(*every, self.zero)
                    && !self.is_replay
                {
                    (form.mark)(&rdd);
                    slot.saves.insert(time, rdd.clone());
                }
                slot.rdds.insert(time, rdd);
            }
        }
        Ok(())
    }

    /// Lets go of Rdds that are out of reach behind a batch (S-22).
    ///
    /// Where a ledger knows of the states that are saved, it says when their files go.
    pub(crate) fn forget(&mut self, done: Time, unpersist: bool, has_ledger: bool) {
        for slot in &mut self.slots {
            let Some(remember) = slot.remember else { continue };
            let horizon = done - remember;
            while let Some(entry) = slot.rdds.first_entry() {
                if *entry.key() > horizon {
                    break;
                }
                let (time, rdd) = entry.remove_entry();
                slot.saves.remove(&time);
                // What the program persisted itself is the program's; what the stream kept is let go.
                if unpersist && slot.spec.keep.is_some() {
                    rdd.unpersist();
                }
                let is_in_ledger = has_ledger && slot.spec.is_state();
                if is_in_ledger && rdd.is_to_be_saved() {
                    slot.late.insert(time, rdd);
                } else if slot.spec.saving.every.is_some()
                    && (rdd.is_checkpointed() || rdd.is_to_be_saved())
                    && !is_in_ledger
                {
                    slot.stale.push(rdd);
                }
            }
            // What has been saved late is told to the ledger, unless something newer has been.
            let newest =
                slot.saves.iter().chain(&slot.late).filter(|(_, rdd)| rdd.is_checkpointed()).map(|(at, _)| *at).max();
            slot.late.retain(|at, _| newest.is_none_or(|newest| *at >= newest));
            // Files are read by what was made since, until a newer Rdd has been written in its turn.
            let newest = slot.saves.values().rev().find(|rdd| rdd.is_checkpointed()).map(|rdd| rdd.node().id());
            if !slot.stale.is_empty() && newest != slot.swept {
                slot.swept = newest;
                let needed: BTreeSet<String> =
                    slot.saves.values().filter_map(AnyRdd::saved).flat_map(|saved| saved.needs).collect();
                if !needed.is_empty() {
                    slot.stale.retain(|rdd| !let_go(rdd, &needed));
                }
            }
        }
    }

    /// Returns what decides what is needed of each stream that an output needs.
    pub(crate) fn facts(&self, known: &Known) -> Vec<StreamFacts> {
        let facts = |(i, slot): (usize, &Slot)| StreamFacts {
            slide: slot.spec.slide,
            reach: slot.spec.reach,
            parents: slot.spec.parents.iter().map(|parent| parent.0).collect(),
            is_state: slot.spec.is_state(),
            saves: if slot.spec.is_state() { known.saves(i) } else { Vec::new() },
            since: known.since(i),
        };
        self.slots.iter().enumerate().map(facts).collect()
    }

    /// Returns the states that have been saved: the stream, the batch and where.
    pub(crate) fn saved_states(&self) -> impl Iterator<Item = (usize, Time, Saved, usize)> {
        let states = self.slots.iter().enumerate().filter(|(_, slot)| slot.spec.is_state());
        states.flat_map(|(i, slot)| {
            let saved =
                move |(time, rdd): (&Time, &AnyRdd)| Some((i, *time, rdd.saved()?, rdd.node().num_partitions()));
            slot.saves.iter().chain(&slot.late).filter_map(saved)
        })
    }

    /// Marks the newest Rdd of each state to be saved. Returns, a list a state, those that are to be saved, oldest first.
    pub(crate) fn last_states(&mut self) -> Vec<Vec<AnyRdd>> {
        let states = self.slots.iter_mut().filter(|slot| slot.spec.is_state());
        let marked = states.filter_map(|slot| {
            let ((time, newest), form) = (slot.rdds.last_key_value()?, slot.spec.saving.form.as_ref()?);
            (form.mark)(newest);
            slot.saves.insert(*time, newest.clone());
            let rdds = slot.late.values().chain(slot.saves.values());
            let rdds: Vec<_> = rdds.filter(|rdd| rdd.is_to_be_saved()).cloned().collect();
            (!rdds.is_empty()).then_some(rdds)
        });
        marked.collect()
    }

    /// Returns the longest time that an input remembers for its own sake.
    pub(crate) fn input_memory(&self) -> Duration {
        let memory = |slot: &Slot| match &slot.kind {
            StreamKind::Input { input, .. } => input.memory(),
            StreamKind::Derived(_) => Duration::ZERO,
        };
        self.slots.iter().map(memory).max().unwrap_or_default()
    }

    /// Returns what the program keeps from batch to batch, and the keeper of each state, input and transactional output.
    pub(crate) fn keepers(&self) -> Keepers {
        let (mut keepers, mut keeper_of, mut readable) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        let mut count: BTreeMap<(Kept, &str), u32> = BTreeMap::new();
        let mut made_of: Vec<u64> = Vec::new();
        for (i, slot) in self.slots.iter().enumerate() {
            let parents = slot.spec.parents.iter().map(|parent| made_of.get(parent.0).copied().unwrap_or(0));
            let mark = key_hash(&(slot.spec.site.op(), slot.spec.slide.as_millis(), parents.collect::<Vec<_>>()));
            made_of.push(mark);
            let kept = match &slot.kind {
                StreamKind::Input { .. } => Kept::Input,
                StreamKind::Derived(_) if slot.spec.is_state() => Kept::State,
                StreamKind::Derived(_) => continue,
            };
            let operation = slot.spec.site.op();
            // What the program holds of a state is the stream that reads it, made at the same place.
            let reads = |other: &&Slot| other.spec.parents == [StreamId(i)] && other.spec.site == slot.spec.site;
            let uid = slot.spec.uid.as_ref();
            let uid = uid.or_else(|| self.slots.iter().filter(reads).find_map(|reader| reader.spec.uid.as_ref()));
            let key = uid.cloned().unwrap_or_else(|| {
                let number = count.entry((kept, operation)).or_default();
                *number += 1;
                format!("{operation} {number}")
            });
            let number = u32::try_from(keepers.len()).unwrap_or(u32::MAX);
            keeper_of.insert(KeptBy::Stream(i), number);
            if !slot.spec.migrations.is_empty() {
                readable.insert(number, slot.spec.migrations.shapes());
            }
            let named = uid.is_some();
            let shape = match &slot.kind {
                StreamKind::Input { input, .. } => input.shape(),
                StreamKind::Derived(_) => slot.spec.saving.form.as_ref().map_or(String::new(), |form| (form.shape)()),
            };
            keepers.push(Keeper { kept, key, named, made_of: mark, shape });
        }
        for (i, output) in self.outputs.iter().enumerate() {
            if let OutputKind::Transaction(_) = output.kind {
                keeper_of.insert(KeptBy::Output(i), u32::try_from(keepers.len()).unwrap_or(u32::MAX));
                let made_of = key_hash(&(output.site.op(), made_of.get(output.stream.0).copied()));
                let (key, named) = (output.name.clone(), output.uid.is_some());
                keepers.push(Keeper { kept: Kept::Output, key, named, made_of, shape: String::new() });
            }
        }
        let names_runs = self.sinks().any(|(_, _, sink)| sink.tells_runs_apart());
        Keepers { keepers, keeper_of, reads: readable, names_runs }
    }

    /// Returns the longest time that an input remembers (S-24).
    pub(crate) fn longest_input_memory(&self) -> Duration {
        let inputs = self.slots.iter().filter(|slot| matches!(slot.kind, StreamKind::Input { .. }));
        inputs.filter_map(|slot| slot.remember).max().unwrap_or_default()
    }

    /// Returns the numbers of the inputs whose rate can be controlled.
    pub(crate) fn inputs_that_keep_to_a_limit(&self) -> impl Iterator<Item = u64> {
        self.slots.iter().filter_map(|slot| match &slot.kind {
            StreamKind::Input { number, input } if input.keeps_to_limit() => Some(*number),
            _ => None,
        })
    }

    /// Describes the graph, a line a stream and output, for people.
    pub(crate) fn describe(&self, kept: KeptIn) -> String {
        let mut text = String::new();
        for (i, slot) in self.slots.iter().enumerate() {
            let parents: Vec<_> = slot.spec.parents.iter().map(|p| format!("#{}", p.0)).collect();
            let from = if parents.is_empty() { String::new() } else { format!(" of {}", parents.join(", ")) };
            let uid = slot.spec.uid.as_ref().map(|uid| format!(" uid {uid}")).unwrap_or_default();
            let remark = match &slot.kind {
                StreamKind::Input { input, .. } => {
                    let unnoticed = "it is not noticed if it gives something else to a batch that is made again: \
                                     implement digest and notices_change";
                    let unnoticed = (kept != KeptIn::Nothing && !input.notices_change()).then(|| unnoticed.to_owned());
                    input.remark().into_iter().chain(unnoticed).map(|remark| format!("; {remark}")).collect()
                }
                StreamKind::Derived(_) => String::new(),
            };
            text.push_str(&format!("#{i} {}{from} every {:?}{uid}{remark}\n", slot.spec.site, slot.spec.slide));
        }
        text + &self.describe_outputs(kept)
    }
}

/// Removes what was saved of an Rdd, unless something saved later builds upon it. Returns whether that is done.
fn let_go(rdd: &AnyRdd, needed: &BTreeSet<String>) -> bool {
    // What is being written now is known only when it is.
    let Some(saved) = rdd.saved() else { return !rdd.is_to_be_saved() };
    if needed.contains(&saved.folder) {
        return false;
    }
    let removed = rdd.context().env().checkpoints().and_then(|store| store.remove_folder(&saved.folder));
    if let Err(error) = removed {
        tracing::warn!(%error, "an old checkpoint could not be removed");
    }
    true
}

/// Calls the program's code; a panic there is an error of the program, and not the end of the thread that calls.
pub(crate) fn guarded<R>(body: impl FnOnce() -> Result<R>) -> Result<R> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| Err(panicked(&*payload)))
}

/// What decides how long a stream remembers.
struct Shape {
    slide: Duration,
    reach: Duration,
    saved_every: Duration,
    parents: Vec<StreamId>,
}

impl Shape {
    fn of(slot: &Slot) -> Shape {
        let StreamSpec { slide, reach, saving, parents, .. } = &slot.spec;
        Shape { slide: *slide, reach: *reach, saved_every: saving.every.unwrap_or_default(), parents: parents.clone() }
    }
}

/// How long each stream remembers: at least its slide, twice its checkpoint interval, and `least`; and its children's memory
/// plus their reach. Pure.
fn remember(shapes: &[Shape], outputs: &[StreamId], least: Duration) -> Vec<Option<Duration>> {
    let mut memory: Vec<Option<Duration>> = vec![None; shapes.len()];
    let ask = |memory: &mut Vec<Option<Duration>>, stream: StreamId, length: Duration| {
        let shape = &shapes[stream.0];
        let before = memory[stream.0].unwrap_or(shape.slide.max(shape.saved_every.saturating_mul(2)));
        memory[stream.0] = Some(before.max(length));
    };
    for output in outputs {
        ask(&mut memory, *output, least);
    }
    for i in (0..shapes.len()).rev() {
        let Some(own) = memory[i] else { continue };
        for parent in &shapes[i].parents {
            ask(&mut memory, *parent, own.saturating_add(shapes[i].reach));
        }
    }
    memory
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_core::secs;

    fn shape(slide: u64, reach: u64, parents: &[usize]) -> Shape {
        let parents = parents.iter().map(|p| StreamId(*p)).collect();
        Shape { slide: secs(slide), reach: secs(reach), saved_every: Duration::ZERO, parents }
    }

    #[test]
    fn s20_each_stream_remembers_what_its_windows_reach() {
        let shapes = [shape(1, 0, &[]), shape(1, 0, &[0]), shape(1, 2, &[1]), shape(2, 4, &[2])];
        let memory = remember(&shapes, &[StreamId(3)], secs(3));
        assert_eq!(memory, [Some(secs(9)), Some(secs(9)), Some(secs(7)), Some(secs(3))]);
    }

    #[test]
    fn s17_a_stream_remembers_at_least_its_slide_and_s26_what_the_context_asks() {
        let shapes = [shape(1, 0, &[]), shape(2, 0, &[0])];
        assert_eq!(remember(&shapes, &[StreamId(1)], secs(0)), [Some(secs(2)), Some(secs(2))]);
        assert_eq!(remember(&shapes, &[StreamId(1)], secs(5)), [Some(secs(5)), Some(secs(5))]);
    }

    #[test]
    fn s17_s21_a_stream_that_is_saved_remembers_two_checkpoints() {
        let saved = Shape { saved_every: secs(3), ..shape(1, 0, &[0]) };
        assert_eq!(remember(&[shape(1, 0, &[]), saved], &[StreamId(1)], secs(0)), [Some(secs(6)), Some(secs(6))]);
    }

    #[test]
    fn s25_a_stream_that_nobody_needs_remembers_nothing() {
        let shapes = [shape(1, 0, &[]), shape(1, 0, &[]), shape(1, 0, &[0])];
        assert_eq!(remember(&shapes, &[StreamId(2)], secs(0)), [Some(secs(1)), None, Some(secs(1))]);
    }
}
