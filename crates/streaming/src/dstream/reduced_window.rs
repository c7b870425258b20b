//! Windows that are made from the window before: what entered is added, what left is taken away.

use std::marker::PhantomData;

use millstream_core::partitioner::key_hash;
use millstream_core::plan::ship::{Closure, PlanReader, PlanWriter};
use millstream_core::{
    CallSite, Error, ErrorKind, ExchangeData, Key, PartitionIter, Partitioner, Result, Step, Time, capture, step_over,
};

use super::pair::Placing;
use super::{DStream, derive_as, mark_table};
use crate::graph::StreamSpec;
use crate::state::step::nothing;
use crate::state::table::{Change, StateTable};
use crate::state::update::about_ten_seconds;
use crate::window::{Interval, Window};

impl<K: Key, V: ExchangeData> DStream<(K, V)> {
    /// Reduces the values of each key over a sliding window, made from the window before.
    ///
    /// What entered is added with `f`, what left is taken away with `inverse`; both must not care for order. Upkeep costs what
    /// changed, not what the window holds; reading the whole result costs its size.
    ///
    /// ```text
    /// last window    ├───────────────┤
    /// this window          ├───────────────┤
    ///                ╰left╯           ╰entered╯
    /// ```
    ///
    /// A key whose values have all left stays, with what `inverse` leaves (usually zero).
    /// [`reduce_by_key_and_window_inv_filtered`](Self::reduce_by_key_and_window_inv_filtered) lets it go.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_testkit::doc::*; use millstream_core::secs;
    /// let table = show([vec![("a", 1)], vec![("a", 1)], vec![], vec![]], |pairs| {
    ///     pairs.reduce_by_key_and_window_inv(|a, b| a + b, |a, b| a - b, (secs(2), secs(1)))
    /// });
    /// assert_eq!(table, "1s (a,1)\n2s (a,2)\n3s (a,1)\n4s (a,0)");
    /// ```
    ///
    /// # Errors
    ///
    /// Reported by `start()`: length or slide is not a multiple of this stream's slide; or there is no checkpoint directory (such
    /// a window is a state).
    ///
    /// # Cost
    ///
    /// Each batch is reduced over a shuffle once, and kept as long as the window needs it.
    ///
    /// # Spark
    ///
    /// `PairDStreamFunctions.reduceByKeyAndWindow(f, invF, …)`, PD06; S-34 to S-40.
    #[track_caller]
    pub fn reduce_by_key_and_window_inv(
        &self,
        f: impl Fn(V, V) -> V + Send + Sync + 'static,
        inverse: impl Fn(V, V) -> V + Send + Sync + 'static,
        window: impl Into<Window>,
    ) -> DStream<(K, V)> {
        let site = CallSite::here("reduce_by_key_and_window_inv");
        let (f, inverse) = (Closure::new(f, site), Closure::new(inverse, site));
        self.reduced_window(f, inverse, None::<Closure<fn(&K, &V) -> bool>>, window.into(), Placing::default(), site)
    }

    /// As [`reduce_by_key_and_window_inv`](Self::reduce_by_key_and_window_inv), with the keys placed by `partitioner`, which may
    /// be a number.
    #[track_caller]
    pub fn reduce_by_key_and_window_inv_partitioned(
        &self,
        f: impl Fn(V, V) -> V + Send + Sync + 'static,
        inverse: impl Fn(V, V) -> V + Send + Sync + 'static,
        window: impl Into<Window>,
        partitioner: impl Into<Partitioner>,
    ) -> DStream<(K, V)> {
        let site = CallSite::here("reduce_by_key_and_window_inv_partitioned");
        let (f, inverse) = (Closure::new(f, site), Closure::new(inverse, site));
        let placing = Placing::by(partitioner);
        self.reduced_window(f, inverse, None::<Closure<fn(&K, &V) -> bool>>, window.into(), placing, site)
    }

    /// As [`reduce_by_key_and_window_inv`](Self::reduce_by_key_and_window_inv), but only keys stay for whose result `keep` holds:
    /// the others are forgotten by the window too.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_testkit::doc::*; use millstream_core::secs;
    /// let table = show([vec![("a", 1)], vec![("a", 1)], vec![], vec![]], |pairs| {
    ///     pairs.reduce_by_key_and_window_inv_filtered(|a, b| a + b, |a, b| a - b, |_, n| *n != 0, (secs(2), secs(1)))
    /// });
    /// assert_eq!(table, "1s (a,1)\n2s (a,2)\n3s (a,1)");
    /// ```
    ///
    /// # Spark
    ///
    /// `PairDStreamFunctions.reduceByKeyAndWindow` with a `filterFunc`, PD06, S-38.
    #[track_caller]
    pub fn reduce_by_key_and_window_inv_filtered(
        &self,
        f: impl Fn(V, V) -> V + Send + Sync + 'static,
        inverse: impl Fn(V, V) -> V + Send + Sync + 'static,
        keep: impl Fn(&K, &V) -> bool + Send + Sync + 'static,
        window: impl Into<Window>,
    ) -> DStream<(K, V)> {
        let site = CallSite::here("reduce_by_key_and_window_inv_filtered");
        let (f, inverse, keep) = (Closure::new(f, site), Closure::new(inverse, site), Closure::new(keep, site));
        self.reduced_window(f, inverse, Some(keep), window.into(), Placing::default(), site)
    }

    /// As [`reduce_by_key_and_window_inv_filtered`](Self::reduce_by_key_and_window_inv_filtered), with the keys placed by
    /// `partitioner`, which may be a number.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_testkit::doc::*; use millstream_core::secs;
    /// let table = show([vec![("a", 1)], vec![("b", 1)], vec![], vec![]], |pairs| {
    ///     let (add, take, some) = (|a, b| a + b, |a, b| a - b, |_: &_, n: &i32| *n != 0);
    ///     pairs.reduce_by_key_and_window_inv_filtered_partitioned(add, take, some, secs(2), 3)
    /// });
    /// assert_eq!(table, "1s (a,1)\n2s (a,1) (b,1)\n3s (b,1)");
    /// ```
    ///
    /// # Spark
    ///
    /// `PairDStreamFunctions.reduceByKeyAndWindow` with a partitioner and a `filterFunc`, PD06, S-38.
    #[track_caller]
    pub fn reduce_by_key_and_window_inv_filtered_partitioned(
        &self,
        f: impl Fn(V, V) -> V + Send + Sync + 'static,
        inverse: impl Fn(V, V) -> V + Send + Sync + 'static,
        keep: impl Fn(&K, &V) -> bool + Send + Sync + 'static,
        window: impl Into<Window>,
        partitioner: impl Into<Partitioner>,
    ) -> DStream<(K, V)> {
        let site = CallSite::here("reduce_by_key_and_window_inv_filtered_partitioned");
        let (f, inverse, keep) = (Closure::new(f, site), Closure::new(inverse, site), Closure::new(keep, site));
        self.reduced_window(f, inverse, Some(keep), window.into(), Placing::by(partitioner), site)
    }

    pub(crate) fn reduced_window<F, G, H>(
        &self,
        f: Closure<F>,
        inverse: Closure<G>,
        keep: Option<Closure<H>>,
        window: Window,
        placing: Placing,
        site: CallSite,
    ) -> DStream<(K, V)>
    where
        F: Fn(V, V) -> V + Send + Sync + 'static,
        G: Fn(V, V) -> V + Send + Sync + 'static,
        H: Fn(&K, &V) -> bool + Send + Sync + 'static,
    {
        let (length, slide) = self.fit(window, site);
        let batches = self.reduce_placed(f.clone(), placing.clone(), site);
        batches.keep_live(site);
        let mut spec = StreamSpec::new(site, slide, vec![batches.id()]);
        spec.reach = length;
        spec.saving.by_itself = Some(about_ten_seconds(slide));
        let tables: DStream<StateTable<K, V>> = derive_as(self.graph(), spec, move |batch| {
            let partitioner = placing.on(batch.context());
            let now = Interval::ending(batch.time(), length);
            let (previous, left, entered) = match batch.previous_state::<StateTable<K, V>>(&partitioner, site) {
                Some((time, rdd)) => {
                    let (left, entered) = now.differences(Interval::ending(time, length));
                    (rdd, left, entered)
                }
                None => {
                    let none = nothing::<(K, V)>(batch.context(), &partitioner, site);
                    let tables = none
                        .map_partitions(capture(batch.time(), |time: &Time, none: PartitionIter<(K, V)>| {
                            [StateTable::of(none, *time)]
                        }));
                    (tables, Interval::new(now.after(), now.after()), now)
                }
            };
            let changes = CallSite::scope(Some(site), || {
                // First what left, then what entered (S-35).
                let left = batch.rdds(&batches, left).into_iter().map(|rdd| rdd.map_values(|v| (false, v)));
                let entered = batch.rdds(&batches, entered).into_iter().map(|rdd| rdd.map_values(|v| (true, v)));
                let all: Vec<_> = left.chain(entered).collect();
                if all.is_empty() {
                    return nothing(batch.context(), &partitioner, site);
                }
                batch.context().union(&all).partition_by(&partitioner)
            });
            let (f, inverse, keep) = (f.clone(), inverse.clone(), keep.clone());
            let step = WindowStep { f, inverse, keep, time: batch.time(), of: PhantomData };
            Ok(Some(step_over(&previous, &changes, step, None, site)))
        });
        tables.keep_live(site);
        tables.saved_by_itself(mark_table::<StateTable<K, V>>(), site);
        let window = tables.lift(site, |rdd, _| rdd.flat_map(StateTable::entries));
        let (id, state) = (window.id(), tables.id());
        self.graph().change(site, |graph| {
            if let Some(slot) = graph.slots.get_mut(id.0) {
                slot.spec.saved_by = Some((state, mark_table::<StateTable<K, V>>()));
            }
        });
        window
    }
}

/// From the window before, and what left and entered, to this window.
struct WindowStep<K, V, F, G, H> {
    f: Closure<F>,
    inverse: Closure<G>,
    keep: Option<Closure<H>>,
    time: Time,
    of: PhantomData<fn(K, V)>,
}

fn no_value() -> Error {
    Error::new(
        ErrorKind::User,
        "neither the previous window has a value for a key nor are there new ones: does the key hash and compare the same \
         each time?",
    )
}

/// What happened to a key between two windows.
struct Moved<K, V> {
    hash: u64,
    key: K,
    left: Option<V>,
    entered: Option<V>,
}

impl<K, V, F, G, H> Step for WindowStep<K, V, F, G, H>
where
    K: Key,
    V: ExchangeData,
    F: Fn(V, V) -> V + Send + Sync + 'static,
    G: Fn(V, V) -> V + Send + Sync + 'static,
    H: Fn(&K, &V) -> bool + Send + Sync + 'static,
{
    type Left = StateTable<K, V>;
    type Right = (K, (bool, V));
    type Out = StateTable<K, V>;

    fn run(
        &self,
        mut left: PartitionIter<StateTable<K, V>>,
        mut right: PartitionIter<(K, (bool, V))>,
    ) -> Result<Vec<StateTable<K, V>>> {
        let Some(before) = left.next() else {
            left.failed()?;
            return Err(millstream_core::bug!("a partition of a window has no table"));
        };
        let (mut moved, mut index) = (Vec::<Moved<K, V>>::new(), hashbrown::HashTable::<usize>::new());
        for (key, (entered, value)) in right.by_ref() {
            let hash = key_hash(&key);
            let at = match index.find(hash, |at| moved[*at].key == key) {
                Some(at) => *at,
                None => {
                    index.insert_unique(hash, moved.len(), |at| moved[*at].hash);
                    moved.push(Moved { hash, key, left: None, entered: None });
                    moved.len() - 1
                }
            };
            let side = if entered { &mut moved[at].entered } else { &mut moved[at].left };
            *side = Some(match side.take() {
                Some(sum) => (self.f)(sum, value),
                None => value,
            });
        }
        right.failed()?;
        let (table, ()) = before.next(self.time, false, |making| {
            for Moved { hash, key, left, entered } in moved {
                making.change(hash, key, |key, old| {
                    let value = match (old.cloned(), left, entered) {
                        (Some(old), left, entered) => {
                            let rest = match left {
                                Some(left) => (self.inverse)(old, left),
                                None => old,
                            };
                            match entered {
                                Some(entered) => (self.f)(rest, entered),
                                None => rest,
                            }
                        }
                        // What had been dropped by the filter, or was never there, begins anew.
                        (None, _, Some(entered)) => entered,
                        (None, _, None) if self.keep.is_some() => return (Change::Keep, Ok(())),
                        (None, _, None) => return (Change::Keep, Err(no_value())),
                    };
                    let stays = self.keep.as_ref().is_none_or(|keep| keep(key, &value));
                    (if stays { Change::Set(value) } else { Change::Remove }, Ok(()))
                })?;
            }
            Ok::<_, Error>(())
        })?;
        Ok(vec![table])
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.value(&(self.time, self.keep.is_some()))?;
        w.closure(&self.f)?;
        w.closure(&self.inverse)?;
        self.keep.as_ref().map_or(Ok(()), |keep| w.closure(keep))
    }

    fn unship(r: &mut PlanReader<'_>) -> Result<Self> {
        let (time, keeps): (Time, bool) = r.value()?;
        let (f, inverse) = (r.closure()?, r.closure()?);
        let keep = if keeps { Some(r.closure()?) } else { None };
        Ok(WindowStep { f, inverse, keep, time, of: PhantomData })
    }
}
