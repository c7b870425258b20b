//! State by key: what is kept from batch to batch.
//!
//! A state is an Rdd with a lineage, like everything: that of batch *t* is made from that of *t − 1* and the new data. It is
//! persisted, and every few batches it is saved and its lineage cut there.

pub(crate) mod away;
mod desk;
pub(crate) mod mapped;
pub(crate) mod merged;
pub(crate) mod migrate;
mod parts;
mod past;
pub(crate) mod rows;
pub(crate) mod save;
pub(crate) mod step;
pub(crate) mod table;
pub(crate) mod update;
pub(crate) mod view;

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use millstream_core::plan::ship::{Closure, PlanReader, PlanWriter};
use millstream_core::{CallSite, Partitioner, Rdd, Result, Time};

/// The state of one key, as a function of [`StateSpec`] sees it.
///
/// # Spark
///
/// `State`, MW08 to MW13. The misuse that is an exception there is a panic here: it fails the batch and names the line.
pub struct State<'a, S> {
    before: Option<&'a S>,
    after: After<S>,
    timing_out: bool,
}

enum After<S> {
    Same,
    Updated(S),
    Removed,
}

impl<'a, S> State<'a, S> {
    pub(crate) fn new(before: Option<&'a S>) -> State<'a, S> {
        State { before, after: After::Same, timing_out: false }
    }

    pub(crate) fn timing_out(before: &'a S) -> State<'a, S> {
        State { before: Some(before), after: After::Same, timing_out: true }
    }

    /// What became of it.
    pub(crate) fn outcome(self) -> Outcome<S> {
        match self.after {
            After::Updated(state) => Outcome::Updated(state),
            After::Removed => Outcome::Removed,
            After::Same => Outcome::Same { exists: self.before.is_some() },
        }
    }

    /// Returns whether the key has a state. Spark's `exists`, MW08.
    pub fn exists(&self) -> bool {
        self.get_option().is_some()
    }

    /// Returns the state. Spark's `get`, MW09.
    ///
    /// # Panics
    ///
    /// If there is none.
    #[track_caller]
    pub fn get(&self) -> &S {
        match self.get_option() {
            Some(state) => state,
            None => panic!("the state is not set; ask exists() first, or get_option()"),
        }
    }

    /// Returns the state, if there is one. Spark's `getOption`, MW10.
    pub fn get_option(&self) -> Option<&S> {
        match &self.after {
            After::Same => self.before,
            After::Updated(state) => Some(state),
            After::Removed => None,
        }
    }

    /// Gives the key a state. Spark's `update`, MW11.
    ///
    /// # Panics
    ///
    /// If it has been removed in this call, or is timing out.
    #[track_caller]
    pub fn update(&mut self, state: S) {
        assert!(!matches!(self.after, After::Removed), "a state that was removed cannot be updated");
        assert!(!self.timing_out, "a state that is timing out cannot be updated");
        self.after = After::Updated(state);
    }

    /// Takes the key's state away. Spark's `remove`, MW12.
    ///
    /// # Panics
    ///
    /// If it has been removed in this call already, or is timing out, which removes it by itself.
    #[track_caller]
    pub fn remove(&mut self) {
        assert!(!matches!(self.after, After::Removed), "the state has been removed already");
        assert!(!self.timing_out, "a state that is timing out is removed by itself");
        self.after = After::Removed;
    }

    /// Returns whether the key is called for because nothing came for it in time. Spark's `isTimingOut`, MW13.
    pub fn is_timing_out(&self) -> bool {
        self.timing_out
    }
}

impl<S: fmt::Debug> fmt::Debug for State<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.get_option() {
            Some(state) => state.fmt(f),
            None => f.write_str("<state not set>"),
        }
    }
}

pub(crate) enum Outcome<S> {
    Updated(S),
    Removed,
    Same { exists: bool },
}

/// How [`map_with_state`](crate::DStream::map_with_state) keeps its state: the function that is called for each record, and
/// what may be said beside it.
///
/// # Example
///
/// ```
/// use millstream_core::mins;
/// use millstream_streaming::{State, StateSpec};
///
/// let count = StateSpec::function(|_word: &String, one: Option<u64>, state: &mut State<'_, u64>| {
///     let sum = state.get_option().copied().unwrap_or(0) + one.unwrap_or(0);
///     if !state.is_timing_out() {
///         state.update(sum);
///     }
///     sum
/// });
/// let spec = count.num_partitions(4).timeout(mins(10));
/// # let _ = spec;
/// ```
///
/// # Spark
///
/// `StateSpec`, MW01 to MW07.
pub struct StateSpec<K, V, S, E, F> {
    pub(crate) f: F,
    pub(crate) initial: Option<Rdd<(K, S)>>,
    pub(crate) partitioner: Option<Partitioner>,
    pub(crate) timeout: Option<Duration>,
    of: PhantomData<fn(V) -> E>,
}

/// A function of a [`StateSpec`], in one of its forms.
pub trait StateFn<K, V, S, E>: Clone + Send + Sync + Sized + 'static {
    /// Calls it.
    fn call(&self, time: Time, key: &K, value: Option<V>, state: &mut State<'_, S>) -> Option<E>;
    #[doc(hidden)]
    fn ship(&self, w: &mut PlanWriter) -> Result<()>;
    #[doc(hidden)]
    fn unship(r: &mut PlanReader<'_>) -> Result<Self>;
}

/// A function that gives one element a call.
pub struct EachRecord<F>(Closure<F>);

/// A function that is told the batch's time, and may give nothing.
pub struct WithTime<F>(Closure<F>);

impl<F> Clone for EachRecord<F> {
    fn clone(&self) -> EachRecord<F> {
        EachRecord(self.0.clone())
    }
}

impl<F> Clone for WithTime<F> {
    fn clone(&self) -> WithTime<F> {
        WithTime(self.0.clone())
    }
}

impl<F> fmt::Debug for EachRecord<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EachRecord({})", self.0.site())
    }
}

impl<F> fmt::Debug for WithTime<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WithTime({})", self.0.site())
    }
}

impl<K, V, S, E, F> StateFn<K, V, S, E> for EachRecord<F>
where
    F: Fn(&K, Option<V>, &mut State<'_, S>) -> E + Send + Sync + 'static,
{
    fn call(&self, _: Time, key: &K, value: Option<V>, state: &mut State<'_, S>) -> Option<E> {
        Some((self.0)(key, value, state))
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.closure(&self.0)
    }

    fn unship(r: &mut PlanReader<'_>) -> Result<Self> {
        Ok(EachRecord(r.closure()?))
    }
}

impl<K, V, S, E, F> StateFn<K, V, S, E> for WithTime<F>
where
    F: Fn(Time, &K, Option<V>, &mut State<'_, S>) -> Option<E> + Send + Sync + 'static,
{
    fn call(&self, time: Time, key: &K, value: Option<V>, state: &mut State<'_, S>) -> Option<E> {
        (self.0)(time, key, value, state)
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.closure(&self.0)
    }

    fn unship(r: &mut PlanReader<'_>) -> Result<Self> {
        Ok(WithTime(r.closure()?))
    }
}

impl<K, V, S, E, F> StateSpec<K, V, S, E, EachRecord<F>>
where
    F: Fn(&K, Option<V>, &mut State<'_, S>) -> E + Send + Sync + 'static,
{
    /// Begins with a function that is called for each record, and gives one element each time.
    ///
    /// The value is `None` only when the key times out.
    ///
    /// # Spark
    ///
    /// `StateSpec.function((K, V?, State<S>) -> E)`, MW02.
    #[track_caller]
    pub fn function(f: F) -> StateSpec<K, V, S, E, EachRecord<F>> {
        StateSpec::of(EachRecord(Closure::new(f, CallSite::here("StateSpec::function"))))
    }
}

impl<K, V, S, E, F> StateSpec<K, V, S, E, WithTime<F>>
where
    F: Fn(Time, &K, Option<V>, &mut State<'_, S>) -> Option<E> + Send + Sync + 'static,
{
    /// As [`function`](StateSpec::function), with the batch's time; and the function may give nothing.
    ///
    /// # Spark
    ///
    /// `StateSpec.function((Time, K, V?, State<S>) -> E?)`, MW01.
    #[track_caller]
    pub fn function_with_time(f: F) -> StateSpec<K, V, S, E, WithTime<F>> {
        StateSpec::of(WithTime(Closure::new(f, CallSite::here("StateSpec::function_with_time"))))
    }
}

impl<K, V, S, E, F> StateSpec<K, V, S, E, F> {
    fn of(f: F) -> StateSpec<K, V, S, E, F> {
        StateSpec { f, initial: None, partitioner: None, timeout: None, of: PhantomData }
    }

    /// Begins with these states, which are there in the first batch. Spark's `initialState`, MW04.
    #[must_use]
    pub fn initial_state(self, states: &Rdd<(K, S)>) -> Self {
        StateSpec { initial: Some(states.clone()), ..self }
    }

    /// Keeps the state in `n` partitions. Spark's `numPartitions`, MW05.
    #[must_use]
    pub fn num_partitions(self, n: usize) -> Self {
        self.partitioner(n)
    }

    /// Places keys by `partitioner`. By default, by hash over the default parallelism. Spark's `partitioner`, MW06.
    #[must_use]
    pub fn partitioner(self, partitioner: impl Into<Partitioner>) -> Self {
        StateSpec { partitioner: Some(partitioner.into()), ..self }
    }

    /// Lets a key go for which nothing came for longer than `timeout`: the function is called once more, with the value
    /// `None` and a state that [is timing out](State::is_timing_out). Spark's `timeout`, MW07.
    ///
    /// It is called in the first batch that is later than that; see `spark_compatible` for how Spark does it.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        StateSpec { timeout: Some(timeout), ..self }
    }
}

impl<K, V, S, E, F: fmt::Debug> fmt::Debug for StateSpec<K, V, S, E, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateSpec").field("f", &self.f).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// How [`update_state_by_key_with`](crate::DStream::update_state_by_key_with) keeps its state.
///
/// # Spark
///
/// The arguments of `updateStateByKey`, PD08 to PD12.
#[derive(Clone, Debug)]
pub struct UpdateSpec<K, S> {
    pub(crate) initial: Option<Rdd<(K, S)>>,
    pub(crate) partitioner: Option<Partitioner>,
    pub(crate) remember_partitioner: bool,
}

impl<K, S> Default for UpdateSpec<K, S> {
    fn default() -> Self {
        UpdateSpec::new()
    }
}

impl<K, S> UpdateSpec<K, S> {
    /// Begins with no state, placed by hash over the default parallelism.
    pub fn new() -> UpdateSpec<K, S> {
        UpdateSpec { initial: None, partitioner: None, remember_partitioner: true }
    }

    /// Begins with these states. Of several states of a key the first counts.
    #[must_use]
    pub fn initial_state(self, states: &Rdd<(K, S)>) -> Self {
        UpdateSpec { initial: Some(states.clone()), ..self }
    }

    /// Places keys by `partitioner`, which may be a number.
    #[must_use]
    pub fn partitioner(self, partitioner: impl Into<Partitioner>) -> Self {
        UpdateSpec { partitioner: Some(partitioner.into()), ..self }
    }

    /// Says whether keys stay in their partitions, as they do unless the form over whole partitions makes new ones.
    ///
    /// If not, the state crosses a shuffle in every batch.
    #[must_use]
    pub fn remember_partitioner(self, remember: bool) -> Self {
        UpdateSpec { remember_partitioner: remember, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s56_a_state_keeps_its_protocol() {
        let mut state = State::new(None);
        assert!(!state.exists());
        assert_eq!(format!("{state:?}"), "<state not set>");
        state.update(1);
        assert_eq!((state.exists(), *state.get(), state.is_timing_out()), (true, 1, false));
        state.update(2);
        assert_eq!(state.get_option(), Some(&2));
        state.remove();
        assert!(!state.exists());
        assert!(matches!(state.outcome(), Outcome::Removed));
        assert!(matches!(State::new(Some(&1)).outcome(), Outcome::Same { exists: true }));
    }

    #[test]
    fn s56_what_makes_no_sense_panics_and_says_why() {
        let wrong: [(&str, fn(&mut State<'_, i32>)); 5] = [
            ("not set", |s| {
                s.remove();
                s.get();
            }),
            ("cannot be updated", |s| {
                s.remove();
                s.update(1);
            }),
            ("removed already", |s| {
                s.remove();
                s.remove();
            }),
            ("timing out cannot be updated", |s| {
                *s = State::timing_out(&7);
                s.update(1);
            }),
            ("removed by itself", |s| {
                *s = State::timing_out(&7);
                s.remove();
            }),
        ];
        for (text, body) in wrong {
            let caught = std::panic::catch_unwind(|| body(&mut State::new(Some(&1))));
            let error = millstream_core::panicked(&*caught.unwrap_err());
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
