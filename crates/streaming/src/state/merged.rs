//! A state into which the values of a batch are merged at once, all keys of a partition together: for code of ours that works on
//! columns. Statements that are kept up to date are made of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashTable;
use millstream_core::partitioner::key_hash;
use millstream_core::plan::ship::{PlanReader, PlanWriter};
use millstream_core::{CallSite, ExchangeData, Key, PartitionIter, Rdd, Result, Step, Time, capture, step_over};

use super::save::HasTable;
use super::step::{nothing, placed};
use super::table::{Change, StateTable};
use super::view::{Behind, foreach_tables};
use crate::DStream;
use crate::dstream::{Outcome, Output, Placing, derive_as, mark_table_of, save_every};
use crate::graph::StreamSpec;

/// What becomes of the keys that a batch has values of.
#[doc(hidden)]
pub trait Merge: Clone + Send + Sync + Sized + 'static {
    type Key: Key;
    type Value: ExchangeData;
    type State: ExchangeData;

    /// Returns the states of some keys behind a batch, in the order of `before`. `of` tells for each value whose it is.
    ///
    /// # Errors
    ///
    /// What the batch is to fail with; no state has changed then.
    fn merge(&self, before: &[Option<Self::State>], values: &[Self::Value], of: &[usize]) -> Result<Vec<Self::State>>;

    /// Writes itself down.
    ///
    /// # Errors
    ///
    /// As [`PlanWriter`]'s.
    fn ship(&self, w: &mut PlanWriter) -> Result<()>;

    /// Reads what [`ship`](Merge::ship) wrote.
    ///
    /// # Errors
    ///
    /// As [`PlanReader`]'s.
    fn unship(r: &mut PlanReader<'_>) -> Result<Self>;
}

/// A partition behind a batch: the state, and what the batch changed in it.
struct Merged<K, S> {
    table: StateTable<K, S>,
    changed: Arc<Vec<(K, S)>>,
}

impl<K, S> Clone for Merged<K, S> {
    fn clone(&self) -> Self {
        Merged { table: self.table.clone(), changed: Arc::clone(&self.changed) }
    }
}

impl<K: Key, S: ExchangeData> HasTable for Merged<K, S> {
    type Key = K;
    type State = S;
    type Rest = Vec<(K, S)>;

    fn table(&self) -> &StateTable<K, S> {
        &self.table
    }

    fn rest(&self) -> Vec<(K, S)> {
        self.changed.to_vec()
    }

    fn of(table: StateTable<K, S>, changed: Vec<(K, S)>) -> Self {
        Merged { table, changed: Arc::new(changed) }
    }
}

/// A state that batches are merged into.
#[doc(hidden)]
pub struct MergedState<K, S> {
    state: DStream<Merged<K, S>>,
    content: String,
    placing: Placing,
}

impl<K, S> Clone for MergedState<K, S> {
    fn clone(&self) -> Self {
        MergedState { state: self.state.clone(), content: self.content.clone(), placing: self.placing.clone() }
    }
}

impl<K, S> fmt::Debug for MergedState<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MergedState({})", self.content)
    }
}

impl<K: Key, S: ExchangeData> MergedState<K, S> {
    /// Returns the stream of all keys and their states behind each batch.
    pub fn all(&self, site: CallSite) -> DStream<(K, S)> {
        self.state.lift(site, |rdd, _| rdd.flat_map(|part| part.table.entries()))
    }

    /// Returns the stream of the keys that each batch had values of, and their states behind it.
    pub fn changed(&self, site: CallSite) -> DStream<(K, S)> {
        self.state.lift(site, |rdd, _| rdd.flat_map(|part: Merged<K, S>| part.changed.to_vec()))
    }

    /// Gives `f` the states behind each batch, to be kept and asked for as long as one likes. This is an output. `planned` is told each
    /// batch before it runs.
    pub fn foreach_behind<R: Outcome>(
        &self,
        site: CallSite,
        planned: impl Fn(Time) + Send + 'static,
        f: impl Fn(Behind<K, S>) -> R + Send + Sync + 'static,
    ) -> Output {
        let tables: DStream<StateTable<K, S>> = self.state.lift(site, move |rdd: Rdd<Merged<K, S>>, time| {
            planned(time);
            rdd.flat_map(|part| [part.table])
        });
        foreach_tables(&tables, self.placing.clone(), site, f)
    }

    /// Gives the state a name of its own.
    #[track_caller]
    pub fn uid(&self, uid: impl Into<String>) {
        self.state.uid(uid);
    }

    /// Saves the state every `interval`, instead of every ten batches.
    pub fn checkpoint(&self, interval: Duration, site: CallSite) {
        let form = mark_table_of::<Merged<K, S>>(self.content.clone());
        save_every(self.state.graph(), self.state.id(), interval, form, site);
    }
}

impl<K: Key, V: ExchangeData> DStream<(K, V)> {
    /// Merges the values of each batch into a state by key. `content` tells what keys and states are, where their types do not: an
    /// earlier build's state is gone on from if it is the same.
    #[doc(hidden)]
    pub fn merge_with_state<M>(&self, merge: M, content: String, site: CallSite) -> MergedState<K, M::State>
    where
        M: Merge<Key = K, Value = V>,
    {
        let placing = Placing::default();
        let slide = self.slide();
        let mut stream = StreamSpec::new(site, slide, vec![self.id()]);
        stream.saving.by_itself = Some(slide * 10);
        let parent = self.clone();
        let places = placing.clone();
        let state: DStream<Merged<K, M::State>> = derive_as(self.graph(), stream, move |batch| {
            let partitioner = places.on(batch.context());
            let data = placed(batch, &parent, &partitioner, site);
            let time = batch.time();
            let previous = match batch.previous_state::<Merged<K, M::State>>(&partitioner, site) {
                Some((_, rdd)) => rdd,
                None => nothing(batch.context(), &partitioner, site).map_partitions(capture(
                    time,
                    |time: &Time, none: PartitionIter<(K, M::State)>| {
                        [Merged { table: StateTable::of(none, *time), changed: Arc::default() }]
                    },
                )),
            };
            let step = MergeStep { merge: merge.clone(), time };
            Ok(Some(step_over(&previous, &data, step, None, site)))
        });
        state.keep_live(site);
        state.saved_by_itself(mark_table_of::<Merged<K, M::State>>(content.clone()), site);
        MergedState { state, content, placing }
    }
}

/// From the state before a batch and its values to the state behind it.
struct MergeStep<M> {
    merge: M,
    time: Time,
}

impl<M: Merge> Step for MergeStep<M> {
    type Left = Merged<M::Key, M::State>;
    type Right = (M::Key, M::Value);
    type Out = Merged<M::Key, M::State>;

    fn run(
        &self,
        mut left: PartitionIter<Self::Left>,
        mut right: PartitionIter<(M::Key, M::Value)>,
    ) -> Result<Vec<Self::Out>> {
        let Some(before) = left.next() else {
            left.failed()?;
            return Err(millstream_core::bug!("a partition of a state that is merged into has no table"));
        };
        let (mut keys, mut values, mut of) = (Vec::<(u64, M::Key)>::new(), Vec::new(), Vec::new());
        let mut index = HashTable::<usize>::new();
        for (key, value) in right.by_ref() {
            let hash = key_hash(&key);
            let at = match index.find(hash, |at| keys[*at].1 == key) {
                Some(at) => *at,
                None => {
                    index.insert_unique(hash, keys.len(), |at| keys[*at].0);
                    keys.push((hash, key));
                    keys.len() - 1
                }
            };
            values.push(value);
            of.push(at);
        }
        right.failed()?;
        let (table, changed) = before.table.next(self.time, false, |making| {
            let old: Vec<Option<M::State>> = keys.iter().map(|(hash, key)| making.get(*hash, key).cloned()).collect();
            let new = if keys.is_empty() { Vec::new() } else { self.merge.merge(&old, &values, &of)? };
            if new.len() != keys.len() {
                return Err(millstream_core::bug!("{} keys were merged to {} states", keys.len(), new.len()));
            }
            let mut changed = Vec::with_capacity(new.len());
            for ((hash, key), state) in keys.into_iter().zip(new) {
                making.change(hash, key.clone(), |_, _| (Change::Set(state.clone()), ()));
                changed.push((key, state));
            }
            Ok(changed)
        })?;
        Ok(vec![Merged { table, changed: Arc::new(changed) }])
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.value(&self.time)?;
        self.merge.ship(w)
    }

    fn unship(r: &mut PlanReader<'_>) -> Result<Self> {
        Ok(MergeStep { time: r.value()?, merge: M::unship(r)? })
    }
}
