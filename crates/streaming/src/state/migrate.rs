//! How a state that an earlier build saved is brought into the form that it has in this one.
//!
//! A migration reads one earlier form; several make a chain. Each is a row of operations on the Rdd that is read, so it runs where
//! the state is, in parallel, and fails as any closure of the program does.
//!
//! ```text
//! saved by build 1: (K, Total1)  ── to 2 ──►  (K, Total2)  ── to 3 ──►  (K, Total3): what this build keeps
//! ```

use std::any::{Any, TypeId};
use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::sync::Arc;

use millstream_core::plan::ship::{Closure, PlanReader, PlanWriter};
use millstream_core::{
    AnyRdd, CallSite, Context, Data, Error, ErrorKind, ExchangeData, Key, PartitionIter, Rdd, Result, SaveAs, Saved,
    Step, Time, step_over,
};

use super::mapped::{Mapped, MappedState};
use super::rows::SavedRows;
use super::save::{HasTable, Saved as SavedTable};
use super::table::StateTable;
use crate::DStream;
use crate::dstream::{row_shape, table_shape};
use crate::graph::{GraphShared, ReadSaved, StreamId};

/// From Rdds of an earlier form to those of the present one.
type Bring<A, T> = Arc<dyn Fn(Rdd<A>) -> Rdd<T> + Send + Sync>;

/// A form that an earlier build wrote.
#[derive(Clone)]
struct Earlier {
    shape: String,
    /// Reads it, and brings it into the present form.
    read: ReadSaved,
    /// The type of its elements.
    form: TypeId,
    /// A [`Bring`] of that type.
    bring: Arc<dyn Any + Send + Sync>,
}

/// The earlier forms that a state can be read from.
#[derive(Clone, Default)]
pub(crate) struct Migrations(Vec<Earlier>);

impl Migrations {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the shapes of the forms.
    pub(crate) fn shapes(&self) -> BTreeSet<String> {
        self.0.iter().map(|earlier| earlier.shape.clone()).collect()
    }

    /// Returns what reads a form.
    pub(crate) fn reader(&self, shape: &str) -> Option<&ReadSaved> {
        self.0.iter().find(|earlier| earlier.shape == shape).map(|earlier| &earlier.read)
    }

    /// Adds a form, and how to come from it to one that is known, or to the present one.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words.
    fn add<A: Data, B: Data, T: Data>(&mut self, present: &str, migration: Migration<A, B>) -> Result<(), String> {
        let Migration { shape, target, read, bring } = migration;
        if shape == present {
            return Err(format!(
                "the earlier form {shape} is written as the present one is, and cannot be told from it: give a field of one of \
                 them another name"
            ));
        }
        if self.reader(&shape).is_some() {
            return Err(format!("there is a migration from the form {shape} already"));
        }
        let as_it_is: Arc<dyn Any + Send + Sync> = Arc::new(Arc::new(|rdd| rdd) as Bring<T, T>);
        let on = match TypeId::of::<B>() == TypeId::of::<T>() {
            true => Some(&as_it_is),
            false => self.0.iter().find(|earlier| earlier.form == TypeId::of::<B>()).map(|earlier| &earlier.bring),
        };
        let Some(on) = on.and_then(|bring| bring.downcast_ref::<Bring<B, T>>()).cloned() else {
            return Err(format!(
                "the migration gives the form {target}, which is neither the present one, {present}, nor one that a migration \
                 before it reads: give the newest first"
            ));
        };
        let bring: Bring<A, T> = Arc::new(move |rdd| on(bring(rdd)));
        let all = Arc::clone(&bring);
        let read: ReadSaved =
            Arc::new(move |context, saved, partitions, site| AnyRdd::new(&all(read(context, saved, partitions, site))));
        self.0.push(Earlier { shape, read, form: TypeId::of::<A>(), bring: Arc::new(bring) });
        Ok(())
    }
}

/// One step: how a form is read, and brought into another.
struct Migration<A, B> {
    shape: String,
    target: String,
    read: fn(&Context, &Saved, usize, CallSite) -> Rdd<A>,
    bring: Bring<A, B>,
}

fn read_as<F: SaveAs>(context: &Context, saved: &Saved, partitions: usize, site: CallSite) -> Rdd<F::Item> {
    context.saved_rdd_as::<F>(saved, partitions, site)
}

/// Adds a migration to a state; keeps a mistake if it does not fit.
fn migrate<A: Data, B: Data, T: Data>(
    graph: &GraphShared,
    state: StreamId,
    migration: Migration<A, B>,
    site: CallSite,
) {
    let mut outcome = Ok(());
    graph.change(site, |graph| {
        if let Some(slot) = graph.slots.get_mut(state.0) {
            let present = slot.spec.saving.form.as_ref().map_or(String::new(), |form| (form.shape)());
            outcome = slot.spec.migrations.add::<A, B, T>(&present, migration);
        }
    });
    if let Err(text) = outcome {
        graph.fault(Error::new(ErrorKind::Graph, text).at(site));
    }
}

impl<K: Key, S: ExchangeData> DStream<(K, S)> {
    /// Says how a state that an earlier build saved becomes one of this build: `f` is called for each state that is read in the
    /// form of the type `A`, when the program goes on from a checkpoint that has that form. Keys and times stay.
    ///
    /// For the streams of `update_state_by_key` and `reduce_by_key_and_window_inv`, and of their kin; `map_with_state` has
    /// [its own](MappedState::migrate_from). A program that has been changed several times has a migration for each form that
    /// may still lie in a checkpoint, the newest first: `f` gives what the state is now, or what the migration before it takes.
    ///
    /// What an earlier build saved stays as it is until the state is saved the next time, as a whole. Until then a start reads
    /// it again, and `f` is called again.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_testkit::doc::*;
    /// #[derive(Clone, serde::Serialize, serde::Deserialize)]
    /// struct Total { sum: i64, count: u64 }
    /// #[derive(Clone, serde::Serialize, serde::Deserialize)]
    /// struct TotalBefore { sum: i64 }
    ///
    /// # run([vec![("a", 1i64)]], |pairs| {
    /// # let pairs = pairs.map(|(k, n)| (millstream_core::Text::from(k), n));
    /// let totals = pairs.update_state_by_key(|new: Vec<i64>, old: Option<Total>| {
    ///     let Total { sum, count } = old.unwrap_or(Total { sum: 0, count: 0 });
    ///     Some(Total { sum: sum + new.iter().sum::<i64>(), count: count + new.len() as u64 })
    /// });
    /// totals
    ///     .uid("totals")
    ///     .migrate_from(|old: TotalBefore| Total { sum: old.sum, count: 0 })
    ///     .migrate_from(|oldest: i64| TotalBefore { sum: oldest })
    ///     .map(|(_, total)| total.count).print();
    /// # });
    /// ```
    ///
    /// # Errors
    ///
    /// `start()` reports a stream that is no state; a form that cannot be told from the present one, or has a migration already;
    /// and a chain that does not join. If `f` panics the batch fails that needs the state.
    ///
    /// # Cost
    ///
    /// Nothing, unless the checkpoint has that form; then a call for each key at the start, and one save of all.
    ///
    /// # Spark
    ///
    /// A new build cannot read an old checkpoint there (R-26).
    #[track_caller]
    pub fn migrate_from<A: ExchangeData, B: ExchangeData>(&self, f: impl Fn(A) -> B + Send + Sync + 'static) -> Self {
        let site = CallSite::here("migrate_from");
        let f = Closure::new(f, site);
        let state =
            self.graph().ask(|graph| graph.slots.get(self.id().0)?.spec.saved_by.as_ref().map(|by| by.0)).flatten();
        match state {
            Some(state) if state == self.id() => {
                let bring: Bring<(K, A), (K, B)> = Arc::new(move |rdd| rdd.map_values_shared(f.clone()));
                let (shape, target) = (row_shape::<K, A>(), row_shape::<K, B>());
                let migration = Migration { shape, target, read: read_as::<SavedRows<K, A>>, bring };
                migrate::<_, _, (K, S)>(self.graph(), state, migration, site);
            }
            Some(state) => {
                let bring: Bring<StateTable<K, A>, StateTable<K, B>> = Arc::new(move |rdd| {
                    let states = bring_states(&rdd, f.clone(), site);
                    let table = |all: PartitionIter<((K, Time), B)>| {
                        [StateTable::with_times(all.map(|((key, at), state)| (key, state, at)))]
                    };
                    CallSite::scope(Some(site), || states.map_partitions(table))
                });
                let (shape, target) = (table_shape::<StateTable<K, A>>(), table_shape::<StateTable<K, B>>());
                let migration = Migration { shape, target, read: read_as::<SavedTable<StateTable<K, A>>>, bring };
                migrate::<_, _, StateTable<K, S>>(self.graph(), state, migration, site);
            }
            None => {
                let text = "migrate_from is for a state: call it on what update_state_by_key, map_with_state or \
                            reduce_by_key_and_window_inv returned";
                self.graph().fault(Error::new(ErrorKind::Graph, text).at(site));
            }
        }
        self.clone()
    }
}

impl<K: Key, S: ExchangeData, E: ExchangeData> MappedState<K, S, E> {
    /// As [`DStream::migrate_from`], for an earlier build whose function gave the same as this one's and kept another state.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_testkit::doc::*;
    /// use millstream_core::Text;
    /// use millstream_streaming::{State, StateSpec};
    ///
    /// # run([vec![("a", 1)]], |pairs| {
    /// # let pairs = pairs.map(|(k, n)| (Text::from(k), n));
    /// let count = StateSpec::function(|key: &Text, _: Option<i32>, count: &mut State<'_, u64>| {
    ///     let now = count.get_option().copied().unwrap_or(0) + 1;
    ///     count.update(now);
    ///     (key.clone(), now)
    /// });
    /// pairs.map_with_state(count).uid("counts").migrate_from(|narrow: u32| u64::from(narrow)).print();
    /// # });
    /// ```
    ///
    /// # Errors
    ///
    /// As [`DStream::migrate_from`].
    ///
    /// # Spark
    ///
    /// A new build cannot read an old checkpoint there (R-26).
    #[track_caller]
    pub fn migrate_from<A: ExchangeData, B: ExchangeData>(&self, f: impl Fn(A) -> B + Send + Sync + 'static) -> Self {
        let site = CallSite::here("migrate_from");
        let f = Closure::new(f, site);
        let bring = move |rdd: Rdd<Mapped<K, A, E>>| {
            put_together(&bring_states(&rdd, f.clone(), site), &emitted(&rdd, site), site)
        };
        self.migrate(Arc::new(bring), site)
    }

    /// As [`migrate_from`](Self::migrate_from), for an earlier build whose function gave something else, too: what it gave in the
    /// batch of the save becomes what this build's would have given. Windows over the stream may still need it.
    ///
    /// # Errors
    ///
    /// As [`DStream::migrate_from`].
    ///
    /// # Spark
    ///
    /// A new build cannot read an old checkpoint there (R-26).
    #[track_caller]
    pub fn migrate_both_from<A: ExchangeData, B: ExchangeData, D: ExchangeData, F: ExchangeData>(
        &self,
        state: impl Fn(A) -> B + Send + Sync + 'static,
        given: impl Fn(D) -> F + Send + Sync + 'static,
    ) -> Self {
        let site = CallSite::here("migrate_both_from");
        let (f, g) = (Closure::new(state, site), Closure::new(given, site));
        let bring = move |rdd: Rdd<Mapped<K, A, D>>| {
            put_together(&bring_states(&rdd, f.clone(), site), &emitted(&rdd, site).map_shared(g.clone()), site)
        };
        self.migrate(Arc::new(bring), site)
    }

    fn migrate<A: ExchangeData, B: ExchangeData, D: ExchangeData, F: ExchangeData>(
        &self,
        bring: Bring<Mapped<K, A, D>, Mapped<K, B, F>>,
        site: CallSite,
    ) -> Self {
        let (shape, target) = (table_shape::<Mapped<K, A, D>>(), table_shape::<Mapped<K, B, F>>());
        let migration = Migration { shape, target, read: read_as::<SavedTable<Mapped<K, A, D>>>, bring };
        migrate::<_, _, Mapped<K, S, E>>(self.graph(), self.state(), migration, site);
        self.clone()
    }
}

/// The states of tables, brought into another form, with their keys and times; each where it was.
fn bring_states<T: HasTable, B: ExchangeData>(
    tables: &Rdd<T>,
    f: Closure<impl Fn(T::State) -> B + Send + Sync + 'static>,
    site: CallSite,
) -> Rdd<((T::Key, Time), B)> {
    let entries = CallSite::scope(Some(site), || {
        tables.flat_map(|part| part.table().clone().timed_entries().map(|(key, state, at)| ((key, at), state)))
    });
    entries.map_values_shared(f)
}

/// What a function gave in the batch of a save.
fn emitted<K: Key, S: ExchangeData, E: ExchangeData>(parts: &Rdd<Mapped<K, S, E>>, site: CallSite) -> Rdd<E> {
    CallSite::scope(Some(site), || parts.flat_map(|part| part.rest()))
}

fn put_together<K: Key, S: ExchangeData, E: ExchangeData>(
    states: &Rdd<((K, Time), S)>,
    emitted: &Rdd<E>,
    site: CallSite,
) -> Rdd<Mapped<K, S, E>> {
    step_over(states, emitted, PutTogether(PhantomData), None, site)
}

/// Makes a partition of its states and of what was given with them.
struct PutTogether<K, S, E>(PhantomData<fn(K, S) -> E>);

impl<K: Key, S: ExchangeData, E: ExchangeData> Step for PutTogether<K, S, E> {
    type Left = ((K, Time), S);
    type Right = E;
    type Out = Mapped<K, S, E>;

    fn run(&self, mut states: PartitionIter<Self::Left>, mut given: PartitionIter<E>) -> Result<Vec<Self::Out>> {
        let table = StateTable::with_times(states.by_ref().map(|((key, at), state)| (key, state, at)));
        states.failed()?;
        let rest = given.by_ref().collect();
        given.failed()?;
        Ok(vec![Mapped::of(table, rest)])
    }

    fn ship(&self, _: &mut PlanWriter) -> Result<()> {
        Ok(())
    }

    fn unship(_: &mut PlanReader<'_>) -> Result<Self> {
        Ok(PutTogether(PhantomData))
    }
}
