//! What a stream and an output may see of a batch while it is planned, and the name of what an output does in it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::{AnyRdd, CallSite, Context, Data, Partitioner, Rdd, Stamp, Time};

use super::{RunId, Slot};
use crate::dstream::{DStream, Notes, OutputBatch, PreparedOutputs};
use crate::state::save::{HasTable, in_place};
use crate::window::Interval;

/// What a node may see while a batch is planned: its time, and the streams made before it.
pub struct Batch<'a> {
    pub(super) time: Time,
    pub(super) zero: Time,
    pub(super) slots: &'a [Slot],
    /// The Rdds of the stream that is being computed, of earlier times.
    pub(super) own: Option<Own<'a>>,
    pub(super) context: &'a Context,
    pub(super) output: Option<(usize, &'a str)>,
    /// What the output has to say of the batch when it has run.
    pub(super) notes: Notes,
    pub(super) run: &'a RunId,
    pub(super) prepared: &'a Arc<PreparedOutputs>,
}

/// What a node may see of its own stream.
pub(super) struct Own<'a> {
    pub(super) rdds: &'a BTreeMap<Time, AnyRdd>,
    pub(super) saved_every: Option<Duration>,
    /// The batch whose Rdd is of an earlier run, which may have placed keys otherwise.
    pub(super) restored: Option<Time>,
}

impl<'a> Batch<'a> {
    /// What is seen by a stream that has no past, behind the streams in `slots`.
    pub(super) fn of(
        time: Time,
        zero: Time,
        slots: &'a [Slot],
        context: &'a Context,
        run: &'a RunId,
        prepared: &'a Arc<PreparedOutputs>,
    ) -> Batch<'a> {
        Batch { time, zero, slots, own: None, context, output: None, notes: Notes::default(), run, prepared }
    }

    /// What is seen by the output of this number and name.
    pub(super) fn for_output(self, number: usize, name: &'a str) -> Batch<'a> {
        Batch { output: Some((number, name)), notes: Notes::kept(), ..self }
    }
}

impl Batch<'_> {
    /// Returns the batch's time.
    pub fn time(&self) -> Time {
        self.time
    }

    /// Returns the time from which all slides are counted (S-2).
    pub fn zero_time(&self) -> Time {
        self.zero
    }

    /// Returns the engine's context, to make Rdds.
    pub fn context(&self) -> &Context {
        self.context
    }

    /// Returns the key of this batch and output, the same for every attempt at it.
    pub fn key(&self) -> BatchKey {
        self.run.key(self.output.map_or("", |(_, name)| name), self.time)
    }

    /// Returns what an output is told of the batch.
    pub(crate) fn of_output(&self) -> OutputBatch {
        OutputBatch { key: self.key(), epoch: self.run.epoch, committed_up_to: None, notes: self.notes.clone() }
    }

    /// Returns what an output's folder is told apart by. Times alone do not tell: another program may have run here.
    pub(crate) fn stamp(&self) -> Stamp {
        let key = self.key();
        let program = format!("{}/{}", key.app_id, self.zero.as_millis());
        Stamp { program, output: format!("{}/{}", key.output, key.batch.as_millis()), epoch: self.run.epoch }
    }

    /// Returns where a transactional output puts what it has prepared, and its number; nothing where there is no checkpoint, and
    /// it is to commit itself.
    pub(crate) fn prepared(&self) -> Option<(Arc<PreparedOutputs>, usize)> {
        let (number, _) = self.output.filter(|_| self.run.epoch > 0)?;
        Some((Arc::clone(self.prepared), number))
    }

    /// Returns a number that grows with every run that goes on from a checkpoint, so that a sink can refuse what a run before
    /// sends late.
    pub fn fencing_token(&self) -> u64 {
        self.run.epoch
    }

    /// Returns the Rdd that a stream has at this batch's time.
    pub fn rdd<T: Data>(&self, stream: &DStream<T>) -> Option<Rdd<T>> {
        self.rdd_at(stream, self.time)
    }

    /// Returns the Rdds that a stream has in an interval, oldest first.
    pub fn rdds<T: Data>(&self, stream: &DStream<T>, during: Interval) -> Vec<Rdd<T>> {
        let Some(slot) = self.slots.get(stream.id().0) else { return Vec::new() };
        // By what is there, and not by the times that could be: a day of milliseconds has many.
        let times = (Bound::Excluded(during.after()), Bound::Included(during.to()));
        let rdds = (during.after() < during.to()).then(|| slot.rdds.range(times));
        rdds.into_iter().flatten().filter_map(|(_, rdd)| rdd.typed()).collect()
    }

    /// Returns the last Rdd that the stream which is being computed had before this batch, and its time.
    pub(crate) fn previous<T: Data>(&self) -> Option<(Time, Rdd<T>)> {
        let (time, rdd) = self.own.as_ref()?.rdds.range(..self.time).next_back()?;
        Some((*time, rdd.typed()?))
    }

    /// As [`previous`](Self::previous), for a state: an earlier run may have had its keys elsewhere, and not told by what.
    pub(crate) fn previous_state<T: HasTable>(&self, by: &Partitioner, site: CallSite) -> Option<(Time, Rdd<T>)> {
        let (time, rdd) = self.previous::<T>()?;
        let is_restored = self.own.as_ref().is_some_and(|own| own.restored == Some(time));
        let is_placed = !is_restored || *by == Partitioner::hash(rdd.num_partitions());
        Some((time, if is_placed { rdd } else { in_place(&rdd, by, site) }))
    }

    /// Says whether the Rdd that is being computed will be saved.
    pub(crate) fn is_saved(&self) -> bool {
        let every = self.own.as_ref().and_then(|own| own.saved_every);
        every.is_some_and(|every| self.time.is_multiple_of(every, self.zero))
    }

    /// The one place where a stream's Rdd gets its element type back.
    fn rdd_at<T: Data>(&self, stream: &DStream<T>, time: Time) -> Option<Rdd<T>> {
        self.slots.get(stream.id().0)?.rdds.get(&time)?.typed()
    }
}

impl std::fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Batch({})", self.time)
    }
}

/// Names what one output does in one batch, the same for every attempt: for sinks that refuse what they have already.
///
/// # Example
///
/// ```
/// # use millstream_core::Time;
/// # use millstream_streaming::BatchKey;
/// let key = BatchKey { app_id: "clicks".into(), output: "counts".into(), batch: Time::from_millis(2000) };
/// assert_eq!(key.to_string(), "clicks/counts/2000");
/// assert_eq!(key.partition(3), "clicks/counts/2000/3");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BatchKey {
    /// The application.
    pub app_id: String,
    /// The output: its [`uid`](crate::Output::uid), or its operation and its number among those without: `print 1`.
    pub output: String,
    /// The batch.
    pub batch: Time,
}

impl BatchKey {
    /// Returns the name of one partition of it.
    pub fn partition(&self, partition: usize) -> String {
        format!("{self}/{partition}")
    }
}

impl std::fmt::Display for BatchKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.app_id, self.output, self.batch.as_millis())
    }
}
