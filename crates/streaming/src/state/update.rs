//! `update_state_by_key`: a function that is called for every key in every batch.

use std::marker::PhantomData;

use hashbrown::HashTable;
use millstream_core::partitioner::key_hash;
use millstream_core::plan::ship::{Closure, PlanReader, PlanWriter};
use millstream_core::{CallSite, Data, ExchangeData, Key, PartitionIter, Result, Step, Time, step_over};

use super::UpdateSpec;
use super::step::{nothing, placed};
use crate::DStream;
use crate::dstream::{Placing, derive_as, mark_rows};
use crate::graph::StreamSpec;

/// A key, the values that came for it, and the state it had.
type Row<K, V, S> = (K, Vec<V>, Option<S>);

/// How a partition of the state is made from the one before.
trait Update<K, V, S>: Clone + Send + Sync + Sized + 'static {
    fn update(&self, time: Time, rows: impl Iterator<Item = Row<K, V, S>>) -> Vec<(K, S)>;
    fn ship(&self, w: &mut PlanWriter) -> Result<()>;
    fn unship(r: &mut PlanReader<'_>) -> Result<Self>;
}

/// Declares a form of the function: its type, and how it is called for a partition.
macro_rules! update {
    ($name:ident, ($($arg:ty),*) -> $out:ty, |$f:ident, $time:ident, $rows:ident| $body:expr) => {
        struct $name<F>(Closure<F>);

        impl<F> Clone for $name<F> {
            fn clone(&self) -> Self {
                $name(self.0.clone())
            }
        }

        impl<K: Key, V: Data, S: Data, F> Update<K, V, S> for $name<F>
        where
            F: Fn($($arg),*) -> $out + Send + Sync + 'static,
        {
            fn update(&self, $time: Time, $rows: impl Iterator<Item = Row<K, V, S>>) -> Vec<(K, S)> {
                let $f = &*self.0;
                $body
            }

            fn ship(&self, w: &mut PlanWriter) -> Result<()> {
                w.closure(&self.0)
            }

            fn unship(r: &mut PlanReader<'_>) -> Result<Self> {
                Ok($name(r.closure()?))
            }
        }
    };
}

update!(Values, (Vec<V>, Option<S>) -> Option<S>, |f, _time, rows| {
    rows.filter_map(|(key, new, old)| f(new, old).map(|state| (key, state))).collect()
});
update!(Timed, (Time, &K, Vec<V>, Option<S>) -> Option<S>, |f, time, rows| {
    rows.filter_map(|(key, new, old)| f(time, &key, new, old).map(|state| (key, state))).collect()
});
update!(Partitions, (Time, Vec<Row<K, V, S>>) -> Vec<(K, S)>, |f, time, rows| f(time, rows.collect()));

impl<K: Key, V: ExchangeData> DStream<(K, V)> {
    /// Keeps a state for each key: in every batch `f` is given the values that came for a key, and the state it had, and
    /// returns the state it has from now on.
    ///
    /// It is called for every key that has a state or new values; without new values the vector is empty. A key for which
    /// it returns `None` has no state any more.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_testkit::doc::*;
    /// let table = show([vec![("a", 1)], vec![("a", 2), ("b", 1)], vec![]], |pairs| {
    ///     pairs.update_state_by_key(|new, old: Option<i32>| Some(old.unwrap_or(0) + new.iter().sum::<i32>()))
    /// });
    /// assert_eq!(table, "1s (a,1)\n2s (a,3) (b,1)\n3s (a,3) (b,1)");
    /// ```
    ///
    /// # Errors
    ///
    /// `start()` reports a missing checkpoint directory: the state is saved every ten seconds, so that its lineage stays short.
    ///
    /// # Cost
    ///
    /// In each batch, a call for each key that is kept. [`map_with_state`](Self::map_with_state) costs what changes. What is saved, in
    /// the background, are the keys whose states are written otherwise than the last time.
    ///
    /// # Spark
    ///
    /// `PairDStreamFunctions.updateStateByKey`, PD08; S-44 to S-51.
    #[track_caller]
    pub fn update_state_by_key<S: ExchangeData>(
        &self,
        f: impl Fn(Vec<V>, Option<S>) -> Option<S> + Send + Sync + 'static,
    ) -> DStream<(K, S)> {
        let site = CallSite::here("update_state_by_key");
        self.updated(UpdateSpec::new(), Values(Closure::new(f, site)), site)
    }

    /// As [`update_state_by_key`](Self::update_state_by_key), with an initial state or a partitioner; and `f` is told the
    /// batch's time and the key.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_testkit::doc::*;
    /// use millstream_streaming::UpdateSpec;
    ///
    /// let table = show([vec![("a", 1)], vec![]], |pairs| {
    ///     pairs.update_state_by_key_with(UpdateSpec::new().partitioner(3), |time, _key, _new, _old| {
    ///         Some(time.as_millis())
    ///     })
    /// });
    /// assert_eq!(table, "1s (a,1000)\n2s (a,2000)");
    /// ```
    ///
    /// # Spark
    ///
    /// `PairDStreamFunctions.updateStateByKey`, PD08, PD10, PD12.
    #[track_caller]
    pub fn update_state_by_key_with<S: ExchangeData>(
        &self,
        spec: UpdateSpec<K, S>,
        f: impl Fn(Time, &K, Vec<V>, Option<S>) -> Option<S> + Send + Sync + 'static,
    ) -> DStream<(K, S)> {
        let site = CallSite::here("update_state_by_key_with");
        self.updated(spec, Timed(Closure::new(f, site)), site)
    }

    /// As [`update_state_by_key_with`](Self::update_state_by_key_with), for a partition at a time: `f` is given all its keys
    /// and returns all that it keeps. It may drop, change and add keys.
    ///
    /// If it makes keys that belong to another partition, [`remember_partitioner`](UpdateSpec::remember_partitioner) must be
    /// false; otherwise they are not found again (S-47).
    ///
    /// # Spark
    ///
    /// `PairDStreamFunctions.updateStateByKey` over iterators, PD09, PD11.
    #[track_caller]
    pub fn update_state_by_key_iter<S: ExchangeData>(
        &self,
        spec: UpdateSpec<K, S>,
        f: impl Fn(Time, Vec<(K, Vec<V>, Option<S>)>) -> Vec<(K, S)> + Send + Sync + 'static,
    ) -> DStream<(K, S)> {
        let site = CallSite::here("update_state_by_key_iter");
        self.updated(spec, Partitions(Closure::new(f, site)), site)
    }

    fn updated<S: ExchangeData>(
        &self,
        spec: UpdateSpec<K, S>,
        f: impl Update<K, V, S>,
        site: CallSite,
    ) -> DStream<(K, S)> {
        let UpdateSpec { mut initial, partitioner, remember_partitioner } = spec;
        let placing = partitioner.map_or_else(Placing::default, Placing::by);
        let slide = self.slide();
        let mut stream = StreamSpec::new(site, slide, vec![self.id()]);
        stream.saving.by_itself = Some(about_ten_seconds(slide));
        let parent = self.clone();
        let state: DStream<(K, S)> = derive_as(self.graph(), stream, move |batch| {
            let partitioner = placing.on(batch.context());
            let previous = match (batch.previous::<(K, S)>(), &initial) {
                (Some((_, rdd)), _) => {
                    // Only the first Rdd of the state is made from it.
                    initial = None;
                    Some((rdd, false))
                }
                // Without data so far there is no state, and no Rdd (S-46): an initial one is there with the first data.
                (None, _) if batch.rdd(&parent).is_none() => return Ok(None),
                (None, Some(states)) => Some((states.clone(), true)),
                (None, None) => None,
            };
            let data = placed(batch, &parent, &partitioner, site);
            let (states, is_initial) = match previous {
                Some((states, is_initial)) => {
                    (CallSite::scope(Some(site), || states.partition_by(&partitioner)), is_initial)
                }
                None => (nothing(batch.context(), &partitioner, site), false),
            };
            let step = UpdateStep { f: f.clone(), time: batch.time(), is_initial, of: PhantomData };
            let kept = remember_partitioner.then_some(partitioner);
            Ok(Some(step_over(&states, &data, step, kept, site)))
        });
        state.keep_live(site);
        let mark = mark_rows::<K, S>();
        state.saved_by_itself(mark.clone(), site);
        // Also where the program says how often.
        let id = state.id();
        self.graph().change(site, |graph| {
            if let Some(slot) = graph.slots.get_mut(id.0) {
                slot.spec.saved_by = Some((id, mark));
            }
        });
        state
    }
}

/// How often a stream is saved that must be: every ten seconds, in whole slides (S-18), and every thousandth batch at least. Spark
/// has no batches that are so short; what is remembered grows with them, and so does the way back if a partition is lost.
pub(crate) fn about_ten_seconds(slide: std::time::Duration) -> std::time::Duration {
    let (slide_ms, ten) = (slide.as_millis().max(1), 10_000);
    let slides = ten / slide_ms + u128::from(ten % slide_ms > 0);
    slide * u32::try_from(slides.clamp(1, 1000)).unwrap_or(1)
}

struct UpdateStep<K, V, S, F> {
    f: F,
    time: Time,
    /// Whether the state may have a key more than once.
    is_initial: bool,
    of: PhantomData<fn(K, V) -> S>,
}

/// The values of a partition by key, in the order in which keys were first seen.
struct Grouped<K, V> {
    rows: Vec<(u64, K, Vec<V>)>,
    index: HashTable<usize>,
}

impl<K: Key, V> Grouped<K, V> {
    fn of(pairs: impl Iterator<Item = (K, V)>) -> Grouped<K, V> {
        let (mut rows, mut index) = (Vec::<(u64, K, Vec<V>)>::new(), HashTable::new());
        for (key, value) in pairs {
            let hash = key_hash(&key);
            match index.find(hash, |at: &usize| rows[*at].1 == key) {
                Some(at) => rows[*at].2.push(value),
                None => {
                    index.insert_unique(hash, rows.len(), |at: &usize| rows[*at].0);
                    rows.push((hash, key, vec![value]));
                }
            }
        }
        Grouped { rows, index }
    }

    /// Takes the values of a key, which are then no longer among those of new keys.
    fn take(&mut self, key: &K) -> Vec<V> {
        let hash = key_hash(key);
        match self.index.find_entry(hash, |at| self.rows[*at].1 == *key) {
            Ok(entry) => {
                let (at, _) = entry.remove();
                std::mem::take(&mut self.rows[at].2)
            }
            Err(_) => Vec::new(),
        }
    }

    /// The rows of keys that were not taken.
    fn left(self) -> impl Iterator<Item = (K, Vec<V>)> {
        self.rows.into_iter().filter(|(_, _, values)| !values.is_empty()).map(|(_, key, values)| (key, values))
    }
}

impl<K: Key, V: ExchangeData, S: ExchangeData, F: Update<K, V, S>> Step for UpdateStep<K, V, S, F> {
    type Left = (K, S);
    type Right = (K, V);
    type Out = (K, S);

    fn run(&self, mut left: PartitionIter<(K, S)>, mut right: PartitionIter<(K, V)>) -> Result<Vec<(K, S)>> {
        let mut new = Grouped::of(right.by_ref());
        right.failed()?;
        let mut states: Vec<Row<K, V, S>> = Vec::new();
        let mut seen: HashTable<usize> = HashTable::new();
        for (key, state) in left.by_ref() {
            if self.is_initial {
                let hash = key_hash(&key);
                if seen.find(hash, |at| states[*at].0 == key).is_some() {
                    continue;
                }
                seen.insert_unique(hash, states.len(), |at| key_hash(&states[*at].0));
            }
            let values = new.take(&key);
            states.push((key, values, Some(state)));
        }
        left.failed()?;
        let fresh = new.left().map(|(key, values)| (key, values, None));
        Ok(self.f.update(self.time, states.into_iter().chain(fresh)))
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.value(&(self.time, self.is_initial))?;
        self.f.ship(w)
    }

    fn unship(r: &mut PlanReader<'_>) -> Result<Self> {
        let (time, is_initial) = r.value()?;
        Ok(UpdateStep { f: F::unship(r)?, time, is_initial, of: PhantomData })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_core::{millis, secs};

    #[test]
    fn s18_state_is_saved_every_ten_seconds_or_every_slide() {
        for (slide, every) in [
            (millis(100), secs(10)),
            (secs(1), secs(10)),
            (secs(3), secs(12)),
            (secs(10), secs(10)),
            (secs(30), secs(30)),
            (millis(5), secs(5)),
            (millis(1), secs(1)),
        ] {
            assert_eq!(about_ten_seconds(slide), every, "{slide:?}");
        }
    }
}
