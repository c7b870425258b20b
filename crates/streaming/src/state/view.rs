//! The states behind a batch, for readers who are no part of it: looked up by key, or read from end to end, while later batches
//! change them.

use std::fmt;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, OnceLock};

use hashbrown::HashTable;
use millstream_core::partitioner::{key_hash, place_hash};
use millstream_core::threads::lock;
use millstream_core::{
    CallSite, Data, Error, ErrorKind, ExchangeData, Key, PartitionIter, Partitioner, Rdd, Result, TaskContext, Time,
};

use super::away::{AwayStates, Lent};
use super::mapped::{Mapped, MappedState};
use super::past::Past;
use super::table::{SHARDS, StateTable};
use crate::dstream::{DStream, Outcome, Output, Placing};

/// The states of all keys as they were behind one batch.
///
/// It is given by [`MappedState::foreach_states`] and [`DStream::foreach_states`], and may be kept for as long as one likes: it stays
/// what it is. What later batches change meanwhile is kept beside it, and let go of with it.
///
/// # Cost
///
/// To make one of `map_with_state` costs nothing, whatever the state holds. A look-up costs a probe of a hash table, and never waits for
/// a batch that changes the table at that time, except for one call of its function; nor does the batch wait for who looks up.
///
/// # Spark
///
/// There is none: the state of a DStream can be read by its jobs alone.
pub struct StateView<K, S> {
    time: Time,
    len: usize,
    /// Whether keys are where their hashes say.
    by_hash: bool,
    parts: Vec<Part<K, S>>,
}

/// The states behind a batch, where they are.
#[doc(hidden)]
pub enum Behind<K, S> {
    Here(Arc<StateView<K, S>>),
    Away(Arc<AwayStates<K, S>>),
}

impl<K, S> Clone for Behind<K, S> {
    fn clone(&self) -> Self {
        match self {
            Behind::Here(view) => Behind::Here(Arc::clone(view)),
            Behind::Away(states) => Behind::Away(Arc::clone(states)),
        }
    }
}

impl<K: Key, S: ExchangeData> Behind<K, S> {
    /// Returns the time of the batch.
    pub fn time(&self) -> Time {
        match self {
            Behind::Here(view) => view.time(),
            Behind::Away(states) => states.time(),
        }
    }

    /// Returns how many keys there were.
    pub fn len(&self) -> usize {
        match self {
            Behind::Here(view) => view.len(),
            Behind::Away(states) => states.len(),
        }
    }

    /// Says whether there was no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

enum Part<K, S> {
    Table(StateTable<K, S>),
    Rows { rows: Vec<(K, S)>, index: OnceLock<HashTable<usize>> },
}

impl<K: Key, S: Data> Part<K, S> {
    /// The pairs of a partition, and how many there are.
    fn of(rows: Vec<(K, S)>) -> (Part<K, S>, usize) {
        let len = rows.len();
        (Part::Rows { rows, index: OnceLock::new() }, len)
    }

    fn look_up(&self, key: K, then: impl FnOnce(Option<S>) + Send + 'static) {
        match self {
            Part::Table(table) => table.look_up(key, move |found| then(found.map(|(state, _)| state))),
            Part::Rows { rows, index } => {
                let index = index.get_or_init(|| {
                    let mut index = HashTable::with_capacity(rows.len());
                    for (at, (key, _)) in rows.iter().enumerate() {
                        index.insert_unique(key_hash(key), at, |at: &usize| key_hash(&rows[*at].0));
                    }
                    index
                });
                then(index.find(key_hash(&key), |at| rows[*at].0 == key).map(|at| rows[*at].1.clone()));
            }
        }
    }
}

impl<K: Key, S: Data> StateView<K, S> {
    /// Returns the time of the batch that it is behind.
    pub fn time(&self) -> Time {
        self.time
    }

    /// Returns how many keys there were.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Says whether there was no key.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the state that a key had.
    pub fn get(&self, key: &K) -> Option<S> {
        self.places(key).find_map(|part| {
            let (tell, told) = mpsc::sync_channel(1);
            // Who asked is waiting.
            part.look_up(key.clone(), move |found| drop(tell.send(found)));
            told.recv().ok().flatten()
        })
    }

    /// Says whether a look-up is short: if not, all keys of a partition may have to be looked at first.
    #[doc(hidden)]
    pub fn is_at_hand(&self) -> bool {
        self.parts.iter().all(|part| match part {
            Part::Table(_) => true,
            Part::Rows { index, .. } => index.get().is_some(),
        })
    }

    /// Has `then` told the state that a key had: here and now, or by the thread that changes the table at this time. It must be short.
    #[doc(hidden)]
    pub fn look_up(self: Arc<Self>, key: K, then: impl FnOnce(Option<S>) + Send + 'static) {
        if self.by_hash {
            match self.places(&key).next() {
                Some(part) => part.look_up(key, then),
                None => then(None),
            }
            return;
        }
        self.look_behind(0, key, Box::new(then));
    }

    /// Looks into one partition after the other: where a function of the program has put a key, nobody knows without asking it.
    fn look_behind(self: Arc<Self>, at: usize, key: K, then: Box<dyn FnOnce(Option<S>) + Send>) {
        let view = Arc::clone(&self);
        match self.parts.get(at) {
            Some(part) => part.look_up(key.clone(), move |found| match found {
                Some(state) => then(Some(state)),
                None => view.look_behind(at + 1, key, then),
            }),
            None => then(None),
        }
    }

    fn places(&self, key: &K) -> impl Iterator<Item = &Part<K, S>> + use<'_, K, S> {
        let one = (self.by_hash && !self.parts.is_empty()).then(|| place_hash(key_hash(key), self.parts.len()));
        let range = one.map_or(0..self.parts.len(), |at| at..at + 1);
        self.parts[range].iter()
    }

    /// Reads all keys and their states, some at a time. In which order is not said.
    ///
    /// # Cost
    ///
    /// What it reads it copies. Each step has a table to itself for as long as it takes to copy a 256th of it.
    pub fn entries(self: Arc<Self>) -> impl Iterator<Item = Vec<(K, S)>> + Send + 'static {
        let parts = self.parts.len();
        (0..parts).flat_map(move |part| Pieces::of(Arc::clone(&self), part))
    }
}

/// The entries of one partition, a piece at a time.
struct Pieces<K, S> {
    view: Arc<StateView<K, S>>,
    part: usize,
    at: usize,
    past: Option<Past<K, S>>,
}

/// How many rows a piece has at most.
const ROWS: usize = 4096;

impl<K: Key, S: Data> Pieces<K, S> {
    fn of(view: Arc<StateView<K, S>>, part: usize) -> Pieces<K, S> {
        Pieces { view, part, at: 0, past: None }
    }
}

impl<K: Key, S: Data> Iterator for Pieces<K, S> {
    type Item = Vec<(K, S)>;

    fn next(&mut self) -> Option<Vec<(K, S)>> {
        let at = self.at;
        match &self.view.parts[self.part] {
            Part::Table(table) => {
                if at == SHARDS {
                    return None;
                }
                self.at += 1;
                let past = self.past.get_or_insert_with(|| Past::of(table.version()));
                let entries = past.look(table, |base, past| past.shard(base, at));
                Some(entries.into_iter().map(|(key, state, _)| (key, state)).collect())
            }
            Part::Rows { rows, .. } => {
                let some = rows.get(at..)?;
                let some = &some[..some.len().min(ROWS)];
                self.at += some.len();
                (!some.is_empty()).then(|| some.to_vec())
            }
        }
    }
}

impl<K, S> fmt::Debug for Behind<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Behind::Here(view) => view.fmt(f),
            Behind::Away(states) => states.fmt(f),
        }
    }
}

impl<K, S> fmt::Debug for StateView<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateView({} keys at {})", self.len, self.time)
    }
}

impl<K: Key, S: ExchangeData, E: ExchangeData> MappedState<K, S, E> {
    /// Gives `f` the states behind each batch, to be kept and read for as long as one likes. This is an output: it makes the batch run.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_testkit::doc::*;
    /// use std::sync::{Arc, Mutex};
    ///
    /// use millstream_streaming::{State, StateSpec};
    ///
    /// let views = Arc::new(Mutex::new(Vec::new()));
    /// # let kept = Arc::clone(&views);
    /// # run([vec![("a".to_owned(), 1)], vec![("a".to_owned(), 2), ("b".to_owned(), 5)]], move |pairs| {
    /// let sum = StateSpec::function(|_: &String, value: Option<i32>, state: &mut State<'_, i32>| {
    ///     state.update(state.get_option().copied().unwrap_or(0) + value.unwrap_or(0));
    /// });
    /// # let kept = Arc::clone(&kept);
    /// pairs.map_with_state(sum).foreach_states(move |view| kept.lock().unwrap().push(view));
    /// # });
    /// let views = views.lock().unwrap();
    /// assert_eq!(views[0].get(&"a".to_owned()), Some(1), "as it was behind the first batch");
    /// assert_eq!(views[1].get(&"a".to_owned()), Some(3));
    /// assert_eq!((views[0].len(), views[1].len()), (1, 2));
    /// ```
    ///
    /// # Errors
    ///
    /// `start()` refuses it where tasks run in other processes: there the states are, and cannot be looked at from here. Take the stream of
    /// [`state_snapshots`](Self::state_snapshots) then, whose pairs are sent to the driver in each batch.
    #[track_caller]
    pub fn foreach_states<R: Outcome>(&self, f: impl Fn(Arc<StateView<K, S>>) -> R + Send + Sync + 'static) -> Output {
        let site = CallSite::here("foreach_states");
        let text = "states of map_with_state are where the tasks run, here in other processes, and cannot be looked at from the driver: \
                    take the stream of state_snapshots(), whose pairs are sent to it in each batch, or a local master";
        self.stream().graph().fault_elsewhere(Error::new(ErrorKind::Graph, text).at(site));
        self.foreach_behind(
            site,
            |_| (),
            move |behind| match behind {
                Behind::Here(view) => f(view).outcome(),
                Behind::Away(_) => {
                    Err(millstream_core::bug!("states in other processes were given to who looks at them here"))
                }
            },
        )
    }

    /// As [`foreach_states`](Self::foreach_states), for operations that are made of it and can ask states in other processes, too.
    /// `planned` is told each batch before it runs.
    #[doc(hidden)]
    pub fn foreach_behind<R: Outcome>(
        &self,
        site: CallSite,
        planned: impl Fn(Time) + Send + 'static,
        f: impl Fn(Behind<K, S>) -> R + Send + Sync + 'static,
    ) -> Output {
        let tables: DStream<StateTable<K, S>> = self.tables().lift(site, move |rdd: Rdd<Mapped<K, S, E>>, time| {
            planned(time);
            rdd.flat_map(|part| [part.into_table()])
        });
        foreach_tables(&tables, self.placing.clone(), site, f)
    }
}

/// Gives `f` the tables of each batch as states: as they are, or, from other processes, a way to ask them there.
pub(super) fn foreach_tables<K: Key, S: ExchangeData, R: Outcome>(
    tables: &DStream<StateTable<K, S>>,
    placing: Placing,
    site: CallSite,
    f: impl Fn(Behind<K, S>) -> R + Send + Sync + 'static,
) -> Output {
    let lent = Lent::new();
    tables.foreach_rdd_at(site, move |rdd, time| {
        let by_hash = is_by_hash(&placing.on(rdd.context()));
        if rdd.context().closures_travel() {
            let states = AwayStates::of(&lent, &rdd, time, by_hash, site)?;
            return f(Behind::Away(Arc::new(states))).outcome();
        }
        let parts = gathered(&rdd, site, |mut tables: PartitionIter<StateTable<K, S>>| {
            let table = tables.next();
            tables.failed()?;
            let table =
                table.ok_or_else(|| millstream_core::bug!("a partition of states that are looked at has no table"))?;
            let len = table.lock().len();
            Ok((Part::Table(table), len))
        })?;
        f(Behind::Here(Arc::new(viewed(time, by_hash, parts)))).outcome()
    })
}

impl<K: Key, S: ExchangeData> DStream<(K, S)> {
    /// Gives `f` the pairs of each batch as states of their keys, to be kept and looked up for as long as one likes: those of
    /// [`update_state_by_key`](Self::update_state_by_key), or others of which a key has one. This is an output.
    ///
    /// # Errors
    ///
    /// None: where tasks run in other processes, the pairs of each batch are sent to the driver, as `collect` does it.
    ///
    /// # Cost
    ///
    /// A copy of the pairs in each batch, over the network from other processes; the first look-up in a partition of a batch costs one look at each of its keys.
    #[track_caller]
    pub fn foreach_states<R: Outcome>(&self, f: impl Fn(Arc<StateView<K, S>>) -> R + Send + Sync + 'static) -> Output {
        self.foreach_states_at(CallSite::here("foreach_states"), |_| (), f)
    }

    /// As [`foreach_states`](Self::foreach_states), for operations that are made of it. `planned` is told each batch before it runs.
    #[doc(hidden)]
    pub fn foreach_states_at<R: Outcome>(
        &self,
        site: CallSite,
        planned: impl Fn(Time) + Send + 'static,
        f: impl Fn(Arc<StateView<K, S>>) -> R + Send + Sync + 'static,
    ) -> Output {
        let told = self.lift(site, move |rdd, time| {
            planned(time);
            rdd
        });
        told.foreach_rdd_at(site, move |rdd, time| {
            let by_hash = rdd.partitioner().is_some_and(is_by_hash);
            let parts = match rdd.context().closures_travel() {
                // They are sent here, as other results are.
                true => CallSite::scope(Some(site), || rdd.glom().collect())?.into_iter().map(Part::of).collect(),
                false => gathered(&rdd, site, |mut rows: PartitionIter<(K, S)>| {
                    let all: Vec<(K, S)> = rows.by_ref().collect();
                    rows.failed()?;
                    Ok(Part::of(all))
                })?,
            };
            f(Arc::new(viewed(time, by_hash, parts))).outcome()
        })
    }
}

fn is_by_hash(partitioner: &Partitioner) -> bool {
    *partitioner == Partitioner::hash(partitioner.num_partitions())
}

fn viewed<K, S>(time: Time, by_hash: bool, parts: Vec<(Part<K, S>, usize)>) -> StateView<K, S> {
    let len = parts.iter().map(|(_, len)| len).sum();
    StateView { time, len, by_hash, parts: parts.into_iter().map(|(part, _)| part).collect() }
}

/// Takes something of each partition here, as it is.
fn gathered<T: Data, P: Send + 'static>(
    rdd: &Rdd<T>,
    site: CallSite,
    take: impl Fn(PartitionIter<T>) -> Result<P> + Send + Sync + 'static,
) -> Result<Vec<P>> {
    let parts: Arc<Mutex<Vec<Option<P>>>> = Arc::default();
    lock(&parts).resize_with(rdd.num_partitions(), || None);
    let into = Arc::clone(&parts);
    CallSite::scope(Some(site), || {
        rdd.foreach_partition(move |elements| {
            let taken = take(elements)?;
            let place = TaskContext::current().map_or(0, |task| task.partition());
            if let Some(slot) = lock(&into).get_mut(place) {
                *slot = Some(taken);
            }
            Ok(())
        })
    })?;
    let parts: Option<Vec<P>> = lock(&parts).iter_mut().map(Option::take).collect();
    parts.ok_or_else(|| millstream_core::bug!("a partition of states was not visited by the job over all of them"))
}
