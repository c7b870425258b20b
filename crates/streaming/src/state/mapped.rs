//! `map_with_state`: a function that is called for each record, with the state of its key.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::partitioner::key_hash;
use millstream_core::plan::ship::{PlanReader, PlanWriter};
use millstream_core::{CallSite, ExchangeData, Key, PartitionIter, Result, Step, Time, capture, step_over};

use super::save::HasTable;
use super::step::{nothing, placed};
use super::table::{Change, Making, StateTable};
use super::{Outcome, State, StateFn, StateSpec};
use crate::DStream;
use crate::dstream::{Placing, derive_as, handle, mark_table, save_every};
use crate::graph::{StreamId, StreamSpec};

/// A partition behind a batch: the state, and what the function gave.
pub(super) struct Mapped<K, S, E> {
    table: StateTable<K, S>,
    emitted: Arc<Vec<E>>,
}

impl<K, S, E> Mapped<K, S, E> {
    pub(super) fn into_table(self) -> StateTable<K, S> {
        self.table
    }
}

impl<K, S, E> Clone for Mapped<K, S, E> {
    fn clone(&self) -> Self {
        Mapped { table: self.table.clone(), emitted: Arc::clone(&self.emitted) }
    }
}

impl<K: Key, S: ExchangeData, E: ExchangeData> HasTable for Mapped<K, S, E> {
    type Key = K;
    type State = S;
    type Rest = Vec<E>;

    fn table(&self) -> &StateTable<K, S> {
        &self.table
    }

    fn rest(&self) -> Vec<E> {
        self.emitted.to_vec()
    }

    fn of(table: StateTable<K, S>, emitted: Vec<E>) -> Self {
        Mapped { table, emitted: Arc::new(emitted) }
    }
}

/// What `map_with_state` gives: the stream of what its function gave, and beside it the stream of states.
///
/// # Spark
///
/// `MapWithStateDStream`, MW14, MW15.
pub struct MappedState<K, S, E> {
    emitted: DStream<E>,
    states: DStream<(K, S)>,
    internal: StreamId,
    pub(super) placing: Placing,
}

impl<K, S, E> Clone for MappedState<K, S, E> {
    fn clone(&self) -> Self {
        MappedState {
            emitted: self.emitted.clone(),
            states: self.states.clone(),
            internal: self.internal,
            placing: self.placing.clone(),
        }
    }
}

impl<K, S, E> Deref for MappedState<K, S, E> {
    type Target = DStream<E>;

    fn deref(&self) -> &DStream<E> {
        &self.emitted
    }
}

impl<K, S, E> fmt::Debug for MappedState<K, S, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MappedState({:?})", self.emitted)
    }
}

impl<K: Key, S: ExchangeData, E: ExchangeData> MappedState<K, S, E> {
    /// Returns the stream of all keys and their states behind each batch, also of keys without data.
    ///
    /// # Cost
    ///
    /// Reading it costs the size of the state; not reading it, nothing.
    ///
    /// # Spark
    ///
    /// `MapWithStateDStream.stateSnapshots`, MW14, S-58.
    pub fn state_snapshots(&self) -> DStream<(K, S)> {
        self.states.clone()
    }

    /// Returns the stream of the tables, with what the function gave.
    pub(super) fn tables(&self) -> DStream<Mapped<K, S, E>> {
        handle(self.internal, self.emitted.graph())
    }

    /// Returns the stream that holds the state.
    pub(super) fn state(&self) -> StreamId {
        self.internal
    }

    /// Returns the stream of what the function gave, for where a `DStream` is asked for by name.
    pub fn stream(&self) -> DStream<E> {
        self.emitted.clone()
    }

    /// Gives the stream and its state a name of their own, as [`DStream::uid`].
    #[track_caller]
    pub fn uid(&self, uid: impl Into<String>) -> Self {
        self.emitted.uid(uid);
        self.clone()
    }

    /// Saves the state every `interval`, instead of every ten batches.
    ///
    /// # Spark
    ///
    /// `MapWithStateDStream.checkpoint`, MW15: it concerns the state, not the mapped stream (S-60).
    #[track_caller]
    pub fn checkpoint(&self, interval: Duration) -> Self {
        let site = CallSite::here("checkpoint");
        save_every(self.emitted.graph(), self.internal, interval, mark_table::<Mapped<K, S, E>>(), site);
        self.clone()
    }
}

impl<K: Key, V: ExchangeData> DStream<(K, V)> {
    /// Calls a function for each record, with the state that its key has; gives what the function gives.
    ///
    /// The function may read, update and remove the state. It is called in the order of the records within a partition,
    /// several times for a key that comes several times, and not for keys without data, except when they time out.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_testkit::doc::*;
    /// use millstream_streaming::{State, StateSpec};
    ///
    /// let table = show([vec![("a", 1), ("b", 5)], vec![("a", 2)], vec![("a", 3), ("b", 1)]], |pairs| {
    ///     let sum = StateSpec::function(|key: &_, value: Option<i32>, state: &mut State<'_, i32>| {
    ///         let sum = state.get_option().copied().unwrap_or(0) + value.unwrap_or(0);
    ///         state.update(sum);
    ///         (millstream_core::Text::clone(key), sum)
    ///     });
    ///     pairs.map_with_state(sum).stream()
    /// });
    /// assert_eq!(table, "1s (a,1) (b,5)\n2s (a,3)\n3s (a,6) (b,6)");
    /// ```
    ///
    /// # Errors
    ///
    /// `start()` reports a missing checkpoint directory: the state is saved every ten batches, so that its lineage stays short.
    ///
    /// # Cost
    ///
    /// What changes, not what is kept: records cross a shuffle to where their keys are, and each costs a look-up.
    ///
    /// # Spark
    ///
    /// `PairDStreamFunctions.mapWithState`, PD07; S-52 to S-62. Spark notices time-outs only in batches in which it saves the
    /// state (S-55); here they are noticed in each, unless the context is to be compatible.
    #[track_caller]
    pub fn map_with_state<S, E, F>(&self, spec: StateSpec<K, V, S, E, F>) -> MappedState<K, S, E>
    where
        S: ExchangeData,
        E: ExchangeData,
        F: StateFn<K, V, S, E>,
    {
        let site = CallSite::here("map_with_state");
        let StateSpec { f, mut initial, partitioner, timeout, .. } = spec;
        let placing = partitioner.map_or_else(Placing::default, Placing::by);
        let slide = self.slide();
        let mut stream = StreamSpec::new(site, slide, vec![self.id()]);
        stream.saving.by_itself = Some(slide * 10);
        let parent = self.clone();
        let places = placing.clone();
        let late_scan = self.graph().spark_compatible();
        let internal: DStream<Mapped<K, S, E>> = derive_as(self.graph(), stream, move |batch| {
            let partitioner = places.on(batch.context());
            let data = placed(batch, &parent, &partitioner, site);
            let time = batch.time();
            let previous = match batch.previous_state::<Mapped<K, S, E>>(&partitioner, site) {
                Some((_, rdd)) => {
                    // Only the first Rdd of the state is made from the initial one: what was made of that is let go.
                    initial = None;
                    rdd
                }
                None => {
                    let states = match &initial {
                        Some(states) => CallSite::scope(Some(site), || states.partition_by(&partitioner)),
                        None => nothing(batch.context(), &partitioner, site),
                    };
                    states.map_partitions(capture(time, |time: &Time, states: PartitionIter<(K, S)>| {
                        [Mapped::<K, S, E> { table: StateTable::of(states, *time), emitted: Arc::default() }]
                    }))
                }
            };
            let scan = !late_scan || batch.is_saved();
            let step = MapStep { f: f.clone(), time, timeout, scan, of: PhantomData };
            Ok(Some(step_over(&previous, &data, step, None, site)))
        });
        internal.keep_live(site);
        internal.saved_by_itself(mark_table::<Mapped<K, S, E>>(), site);
        let emitted = internal.lift(site, |rdd, _| rdd.flat_map(|part| Emitted { all: part.emitted, at: 0 }));
        let states = internal.lift(site, |rdd, _| rdd.flat_map(|part| part.table.entries()));
        MappedState { emitted, states, internal: internal.id(), placing }
    }
}

/// The elements of a shared vector, cloned one by one.
struct Emitted<E> {
    all: Arc<Vec<E>>,
    at: usize,
}

impl<E: Clone> Iterator for Emitted<E> {
    type Item = E;

    fn next(&mut self) -> Option<E> {
        let item = self.all.get(self.at)?.clone();
        self.at += 1;
        Some(item)
    }
}

/// From the state before a batch and its data to the state behind it.
struct MapStep<K, V, S, E, F> {
    f: F,
    time: Time,
    timeout: Option<Duration>,
    /// Whether this batch looks for keys that time out.
    scan: bool,
    of: PhantomData<fn(K, V) -> (S, E)>,
}

impl<K, V, S, E, F> MapStep<K, V, S, E, F>
where
    K: Key,
    V: ExchangeData,
    S: ExchangeData,
    E: ExchangeData,
    F: StateFn<K, V, S, E>,
{
    fn apply(&self, making: &mut Making<'_, K, S>, records: Vec<(K, V)>) -> Vec<E> {
        let mut emitted = Vec::with_capacity(records.len());
        for (key, value) in records {
            let given = making.change(key_hash(&key), key, |key, before| {
                let mut state = State::new(before);
                let given = self.f.call(self.time, key, Some(value), &mut state);
                let change = match state.outcome() {
                    Outcome::Updated(state) => Change::Set(state),
                    Outcome::Removed => Change::Remove,
                    Outcome::Same { exists: true } => Change::Touch,
                    Outcome::Same { exists: false } => Change::Keep,
                };
                (change, given)
            });
            emitted.extend(given);
        }
        if let Some(timeout) = self.timeout.filter(|_| self.scan) {
            let limit = self.time - timeout;
            for (hash, key) in making.unused_since(limit) {
                emitted.extend(making.change(hash, key, |key, before| match before {
                    Some(before) => {
                        let mut state = State::timing_out(before);
                        (Change::Remove, self.f.call(self.time, key, None, &mut state))
                    }
                    None => (Change::Keep, None),
                }));
            }
            making.dealt_with(limit);
        }
        emitted
    }
}

impl<K, V, S, E, F> Step for MapStep<K, V, S, E, F>
where
    K: Key,
    V: ExchangeData,
    S: ExchangeData,
    E: ExchangeData,
    F: StateFn<K, V, S, E>,
{
    type Left = Mapped<K, S, E>;
    type Right = (K, V);
    type Out = Mapped<K, S, E>;

    fn run(
        &self,
        mut left: PartitionIter<Mapped<K, S, E>>,
        mut right: PartitionIter<(K, V)>,
    ) -> Result<Vec<Mapped<K, S, E>>> {
        let Some(before) = left.next() else {
            left.failed()?;
            return Err(millstream_core::bug!("a partition of a state has no table"));
        };
        // All records first: nothing of the program runs while they are read, and half of them would be a wrong state.
        let records: Vec<(K, V)> = right.by_ref().collect();
        right.failed()?;
        let make = |making: &mut Making<'_, K, S>| Ok::<_, millstream_core::Error>(self.apply(making, records));
        let (table, emitted) = before.table.next(self.time, self.timeout.is_some(), make)?;
        Ok(vec![Mapped { table, emitted: Arc::new(emitted) }])
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.value(&(self.time, self.timeout, self.scan))?;
        self.f.ship(w)
    }

    fn unship(r: &mut PlanReader<'_>) -> Result<Self> {
        let (time, timeout, scan) = r.value()?;
        Ok(MapStep { f: F::unship(r)?, time, timeout, scan, of: PhantomData })
    }
}
