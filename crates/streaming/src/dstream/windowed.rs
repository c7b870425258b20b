//! Windows: the Rdds of several batches as one.

use std::time::Duration;

use millstream_core::plan::ship::Closure;
use millstream_core::{CallSite, Data, Error, ErrorKind, ExchangeData, Key, Partitioner};

use super::pair::Placing;
use super::{DStream, derive_as};
use crate::graph::StreamSpec;
use crate::window::{Interval, Window};

impl<T: Data> DStream<T> {
    /// Returns length and slide of a window on this stream; keeps a mistake if they do not fit (S-27).
    pub(crate) fn fit(&self, window: Window, site: CallSite) -> (Duration, Duration) {
        let own = self.slide();
        let (length, slide) = (window.length(), window.slide().unwrap_or(own));
        for (what, duration) in [("length", length), ("slide", slide)] {
            if duration.is_zero() || !duration.as_nanos().is_multiple_of(own.as_nanos().max(1)) {
                let text = format!("window {what} {duration:?} is not a multiple of the parent's slide {own:?}");
                self.graph().fault(Error::new(ErrorKind::Graph, text).at(site));
                return (own, own);
            }
        }
        (length, slide)
    }

    /// Gives, at each slide of the window, the elements of all batches in it, oldest first.
    ///
    /// The first windows are partial: batches before the first one are left out.
    ///
    /// ```text
    /// batches  1   2   3   4   5   6
    /// (4s, 2s) ────┤                     1 2
    ///          ────────────┤             1 2 3 4
    ///                  ────────────┤     3 4 5 6
    /// ```
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_testkit::doc::*; use millstream_core::secs;
    /// let table = show([vec![1], vec![2], vec![3], vec![]], |numbers| numbers.window((secs(2), secs(1))));
    /// assert_eq!(table, "1s 1\n2s 1 2\n3s 2 3\n4s 3");
    /// ```
    ///
    /// # Errors
    ///
    /// Reported by `start()`: length or slide is not a multiple of this stream's slide.
    ///
    /// # Cost
    ///
    /// The batches are kept in memory as long as the window needs them, and not copied. Whatever is done with the window is
    /// done with all of it each time; see [`reduce_by_key_and_window_inv`](DStream::reduce_by_key_and_window_inv).
    ///
    /// # Spark
    ///
    /// `DStream.window`, DS22, DS23; S-27 to S-31.
    #[track_caller]
    pub fn window(&self, window: impl Into<Window>) -> DStream<T> {
        self.window_at(window.into(), CallSite::here("window"))
    }

    pub(crate) fn window_at(&self, window: Window, site: CallSite) -> DStream<T> {
        let (length, slide) = self.fit(window, site);
        let mut spec = StreamSpec::new(site, slide, vec![self.id()]);
        spec.reach = length;
        spec.kept_by = Some(self.id());
        self.keep_live(site);
        let parent = self.clone();
        derive_as(self.graph(), spec, move |batch| {
            let rdds = batch.rdds(&parent, Interval::ending(batch.time(), length));
            Ok(Some(CallSite::scope(Some(site), || batch.context().union(&rdds))))
        })
    }

    /// Gives the number of elements in each window: always one, once there has been any element.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_testkit::doc::*; use millstream_core::secs;
    /// let table = show([vec![1, 2], vec![3], vec![], vec![]], |numbers| numbers.count_by_window((secs(2), secs(1))));
    /// assert_eq!(table, "1s 2\n2s 3\n3s 1\n4s 0");
    /// ```
    ///
    /// # Cost
    ///
    /// That of counting each batch once: windows are made from the one before.
    ///
    /// # Spark
    ///
    /// `DStream.countByWindow`, DS26, S-41.
    #[track_caller]
    pub fn count_by_window(&self, window: impl Into<Window>) -> DStream<u64> {
        let (site, window) = (CallSite::here("count_by_window"), window.into());
        let counts =
            self.lift(site, |rdd, _| rdd.map_partitions(|items| Some(items.count() as u64).filter(|n| *n > 0)));
        counts.reduce_by_window_inv_at(|a, b| a + b, |a, b| a - b, window, site)
    }
}

impl<T: ExchangeData> DStream<T> {
    /// Reduces all elements of each window to one with `f`, which must not care for order. An empty window gives none.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_testkit::doc::*; use millstream_core::secs;
    /// let table = show([vec![1, 5], vec![3], vec![], vec![]], |numbers| {
    ///     numbers.reduce_by_window(|a: i32, b| a.max(b), (secs(2), secs(1)))
    /// });
    /// assert_eq!(table, "1s 5\n2s 5\n3s 3");
    /// ```
    ///
    /// # Cost
    ///
    /// Each batch is reduced once; each window reduces one element a batch.
    ///
    /// # Spark
    ///
    /// `DStream.reduceByWindow(f, window, slide)`, DS24, S-33.
    #[track_caller]
    pub fn reduce_by_window(
        &self,
        f: impl Fn(T, T) -> T + Send + Sync + 'static,
        window: impl Into<Window>,
    ) -> DStream<T> {
        let site = CallSite::here("reduce_by_window");
        let f = Closure::new(f, site);
        self.reduce_shared(f.clone(), site).window_at(window.into(), site).reduce_shared(f, site)
    }

    /// As [`reduce_by_window`](Self::reduce_by_window), made from the window before: what entered is added with `f`, what left is
    /// taken away with `inverse`.
    ///
    /// Once there has been any element, there is always one: what `inverse` leaves, for an empty window.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_testkit::doc::*; use millstream_core::secs;
    /// let table = show([vec![1, 5], vec![3], vec![], vec![]], |numbers| {
    ///     numbers.reduce_by_window_inv(|a, b| a + b, |a, b| a - b, (secs(2), secs(1)))
    /// });
    /// assert_eq!(table, "1s 6\n2s 9\n3s 3\n4s 0");
    /// ```
    ///
    /// # Spark
    ///
    /// `DStream.reduceByWindow(f, invF, window, slide)`, DS25, S-43.
    #[track_caller]
    pub fn reduce_by_window_inv(
        &self,
        f: impl Fn(T, T) -> T + Send + Sync + 'static,
        inverse: impl Fn(T, T) -> T + Send + Sync + 'static,
        window: impl Into<Window>,
    ) -> DStream<T> {
        self.reduce_by_window_inv_at(f, inverse, window.into(), CallSite::here("reduce_by_window_inv"))
    }

    fn reduce_by_window_inv_at(
        &self,
        f: impl Fn(T, T) -> T + Send + Sync + 'static,
        inverse: impl Fn(T, T) -> T + Send + Sync + 'static,
        window: Window,
        site: CallSite,
    ) -> DStream<T> {
        let keyed = self.lift(site, |rdd, _| rdd.map(|item| ((), item)));
        let reduced = keyed.reduced_window(
            Closure::new(f, site),
            Closure::new(inverse, site),
            None::<Closure<fn(&(), &T) -> bool>>,
            window,
            Placing::by(1),
            site,
        );
        reduced.lift(site, |rdd, _| rdd.values())
    }
}

impl<T: Key> DStream<T> {
    /// Gives how often each element occurs in each window; elements that have left are absent.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_testkit::doc::*; use millstream_core::secs;
    /// let table = show([vec!["a"], vec!["b", "b"], vec!["a", "b"]], |words| {
    ///     words.count_by_value_and_window((secs(2), secs(1)))
    /// });
    /// assert_eq!(table, "1s (a,1)\n2s (a,1) (b,2)\n3s (a,1) (b,3)");
    /// ```
    ///
    /// # Cost
    ///
    /// Upkeep costs what enters and leaves; reading the result, its size.
    ///
    /// # Spark
    ///
    /// `DStream.countByValueAndWindow`, DS27, S-42.
    #[track_caller]
    pub fn count_by_value_and_window(&self, window: impl Into<Window>) -> DStream<(T, u64)> {
        self.count_by_value_at(window.into(), Placing::default(), CallSite::here("count_by_value_and_window"))
    }

    /// As [`count_by_value_and_window`](Self::count_by_value_and_window), with the elements placed by `partitioner`, which may be
    /// a number.
    #[track_caller]
    pub fn count_by_value_and_window_partitioned(
        &self,
        window: impl Into<Window>,
        partitioner: impl Into<Partitioner>,
    ) -> DStream<(T, u64)> {
        let site = CallSite::here("count_by_value_and_window_partitioned");
        self.count_by_value_at(window.into(), Placing::by(partitioner), site)
    }

    fn count_by_value_at(&self, window: Window, placing: Placing, site: CallSite) -> DStream<(T, u64)> {
        self.lift(site, |rdd, _| rdd.map(|item| (item, 1u64))).reduced_window(
            Closure::new(|a, b| a + b, site),
            Closure::new(|a, b| a - b, site),
            Some(Closure::new(|_: &T, n: &u64| *n != 0, site)),
            window,
            placing,
            site,
        )
    }
}

impl<K: Key, V: ExchangeData> DStream<(K, V)> {
    /// Reduces the values of each key in each window to one with `f`, which must not care for order. A key whose values have all
    /// left is absent.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_testkit::doc::*; use millstream_core::secs;
    /// let table = show([vec![("a", 1)], vec![("a", 1)], vec![], vec![]], |pairs| {
    ///     pairs.reduce_by_key_and_window(|a, b| a + b, (secs(2), secs(1)))
    /// });
    /// assert_eq!(table, "1s (a,1)\n2s (a,2)\n3s (a,1)");
    /// ```
    ///
    /// # Cost
    ///
    /// Each batch is reduced once and kept; each window reduces one value a key and batch.
    /// [`reduce_by_key_and_window_inv`](Self::reduce_by_key_and_window_inv) costs less where windows overlap a lot.
    ///
    /// # Spark
    ///
    /// `PairDStreamFunctions.reduceByKeyAndWindow(f, …)`, PD05, S-33.
    #[track_caller]
    pub fn reduce_by_key_and_window(
        &self,
        f: impl Fn(V, V) -> V + Send + Sync + 'static,
        window: impl Into<Window>,
    ) -> DStream<(K, V)> {
        let site = CallSite::here("reduce_by_key_and_window");
        self.reduce_windowed(Closure::new(f, site), window.into(), &Placing::default(), site)
    }

    /// As [`reduce_by_key_and_window`](Self::reduce_by_key_and_window), with the keys placed by `partitioner`, which may be a
    /// number.
    #[track_caller]
    pub fn reduce_by_key_and_window_partitioned(
        &self,
        f: impl Fn(V, V) -> V + Send + Sync + 'static,
        window: impl Into<Window>,
        partitioner: impl Into<Partitioner>,
    ) -> DStream<(K, V)> {
        let site = CallSite::here("reduce_by_key_and_window_partitioned");
        self.reduce_windowed(Closure::new(f, site), window.into(), &Placing::by(partitioner), site)
    }

    fn reduce_windowed(
        &self,
        f: Closure<impl Fn(V, V) -> V + Send + Sync + 'static>,
        window: Window,
        placing: &Placing,
        site: CallSite,
    ) -> DStream<(K, V)> {
        let batches = self.reduce_placed(f.clone(), placing.clone(), site);
        batches.window_at(window, site).reduce_placed(f, placing.clone(), site)
    }

    /// Collects the values of each key in each window, those of older batches first.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_testkit::doc::*; use millstream_core::secs;
    /// let table = show([vec![("a", 1), ("b", 9)], vec![("a", 2)], vec![("a", 3)]], |pairs| {
    ///     pairs.group_by_key_and_window((secs(2), secs(1)))
    /// });
    /// assert_eq!(table, "1s (a,[1]) (b,[9])\n2s (a,[1, 2]) (b,[9])\n3s (a,[2, 3])");
    /// ```
    ///
    /// # Spark
    ///
    /// `PairDStreamFunctions.groupByKeyAndWindow`, PD04, S-32.
    #[track_caller]
    pub fn group_by_key_and_window(&self, window: impl Into<Window>) -> DStream<(K, Vec<V>)> {
        self.group_windowed(window.into(), &Placing::default(), CallSite::here("group_by_key_and_window"))
    }

    /// As [`group_by_key_and_window`](Self::group_by_key_and_window), with the keys placed by `partitioner`, which may be a number.
    #[track_caller]
    pub fn group_by_key_and_window_partitioned(
        &self,
        window: impl Into<Window>,
        partitioner: impl Into<Partitioner>,
    ) -> DStream<(K, Vec<V>)> {
        let site = CallSite::here("group_by_key_and_window_partitioned");
        self.group_windowed(window.into(), &Placing::by(partitioner), site)
    }

    fn group_windowed(&self, window: Window, placing: &Placing, site: CallSite) -> DStream<(K, Vec<V>)> {
        let in_batches = placing.clone();
        let batches = self.lift(site, move |rdd, _| rdd.group_by_key_partitioned(in_batches.on(rdd.context())));
        let join = |mut older: Vec<V>, newer: Vec<V>| {
            older.extend(newer);
            older
        };
        batches.window_at(window, site).reduce_placed(Closure::new(join, site), placing.clone(), site)
    }
}
