//! Streams brought together, batch by batch: union, transform_with, cogroup and the joins.

use std::sync::Arc;
use std::time::Duration;

use millstream_core::{CallSite, Data, Error, ErrorKind, ExchangeData, Key, Partitioner, Rdd, Time};

use super::pair::Placing;
use super::{DStream, Derived, derive, no_rdd};
use crate::graph::GraphShared;

/// Keeps a mistake if two streams cannot be brought together (S-65, S-66).
fn check<T, U>(a: &DStream<T>, b: &DStream<U>, site: CallSite) {
    check_in(a.graph(), b, a.slide(), site);
}

/// Keeps a mistake if a stream cannot become part of something in `graph` with this slide.
fn check_in<T>(graph: &Arc<GraphShared>, stream: &DStream<T>, slide: Duration, site: CallSite) {
    let fault = |text: String| graph.fault(Error::new(ErrorKind::Graph, text).at(site));
    if !Arc::ptr_eq(graph, stream.graph()) {
        fault("the streams belong to different contexts".to_owned());
    } else if slide != stream.slide() {
        fault(format!("the streams have different slides: {slide:?} and {:?}", stream.slide()));
    }
}

/// Makes the union of several streams.
pub(crate) fn union_all<T: Data>(graph: &Arc<GraphShared>, streams: &[DStream<T>], site: CallSite) -> DStream<T> {
    let Some(first) = streams.first() else {
        graph.fault(Error::new(ErrorKind::Graph, "there is no stream to make a union of").at(site));
        let none = Derived { site, parents: Vec::new(), slide: graph.interval() };
        return derive(graph, none, |_| Ok(None));
    };
    for stream in streams {
        check_in(graph, stream, first.slide(), site);
    }
    let derived = Derived { site, parents: streams.iter().map(DStream::id).collect(), slide: first.slide() };
    let streams = streams.to_vec();
    derive(graph, derived, move |batch| {
        let rdds = streams
            .iter()
            .map(|stream| batch.rdd(stream).ok_or_else(|| no_rdd("union", batch.time())))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Some(CallSite::scope(Some(site), || batch.context().union(&rdds))))
    })
}

/// Applies `f` to the Rdds of several streams, batch by batch.
pub(crate) fn transform_all<T: Data, U: Data>(
    graph: &Arc<GraphShared>,
    streams: &[DStream<T>],
    f: impl Fn(Vec<Rdd<T>>, Time) -> Rdd<U> + Send + 'static,
    site: CallSite,
) -> DStream<U> {
    let Some(first) = streams.first() else {
        graph.fault(Error::new(ErrorKind::Graph, "there is no stream to transform").at(site));
        let none = Derived { site, parents: Vec::new(), slide: graph.interval() };
        return derive(graph, none, |_| Ok(None));
    };
    for stream in streams {
        check_in(graph, stream, first.slide(), site);
    }
    let derived = Derived { site, parents: streams.iter().map(DStream::id).collect(), slide: first.slide() };
    let streams = streams.to_vec();
    derive(graph, derived, move |batch| {
        let rdds = streams
            .iter()
            .map(|stream| batch.rdd(stream).ok_or_else(|| no_rdd("transform", batch.time())))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Some(f(rdds, batch.time())))
    })
}

impl<T: Data> DStream<T> {
    /// Puts the partitions of `other` behind this stream's, batch by batch.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_testkit::doc::*;
    /// let table = show([vec![1], vec![2]], |numbers| numbers.union(&numbers.map(|x| x * 10)));
    /// assert_eq!(table, "1s 1 10\n2s 2 20");
    /// ```
    ///
    /// # Errors
    ///
    /// `start()` reports streams of different contexts or slides. A batch in which a stream has no Rdd fails.
    ///
    /// # Spark
    ///
    /// `DStream.union`, DS28.
    #[track_caller]
    pub fn union(&self, other: &DStream<T>) -> DStream<T> {
        union_all(self.graph(), &[self.clone(), other.clone()], CallSite::here("union"))
    }

    /// Applies `f` to the Rdds of this stream and of `other`, and their time, batch by batch.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_testkit::doc::*;
    /// let table = show([vec![1], vec![2]], |numbers| {
    ///     let tens = numbers.map(|x| x * 10);
    ///     numbers.transform_with(&tens, |a, b, _time| a.union(&b))
    /// });
    /// assert_eq!(table, "1s 1 10\n2s 2 20");
    /// ```
    ///
    /// # Errors
    ///
    /// As [`union`](Self::union)'s.
    ///
    /// # Spark
    ///
    /// `DStream.transformWith`, DS19.
    #[track_caller]
    pub fn transform_with<U: Data, W: Data>(
        &self,
        other: &DStream<U>,
        f: impl Fn(Rdd<T>, Rdd<U>, Time) -> Rdd<W> + Send + 'static,
    ) -> DStream<W> {
        self.with(other, CallSite::here("transform_with"), f)
    }

    fn with<U: Data, W: Data>(
        &self,
        other: &DStream<U>,
        site: CallSite,
        f: impl Fn(Rdd<T>, Rdd<U>, Time) -> Rdd<W> + Send + 'static,
    ) -> DStream<W> {
        check(self, other, site);
        let (left, right) = (self.clone(), other.clone());
        let derived = Derived { site, parents: vec![self.id(), other.id()], slide: self.slide() };
        derive(self.graph(), derived, move |batch| {
            let missing = || no_rdd(site.op(), batch.time());
            let (a, b) = (batch.rdd(&left).ok_or_else(missing)?, batch.rdd(&right).ok_or_else(missing)?);
            Ok(Some(f(a, b, batch.time())))
        })
    }
}

/// Declares an operation of two streams by key twice: with the default placing, and with a given partitioner.
macro_rules! joined {
    ($name:ident, $partitioned:ident, $out:ty, $doc:literal, $spark:literal, $table:literal) => {
        impl<K: Key, V: ExchangeData> DStream<(K, V)> {
            #[doc = $doc]
            ///
            /// Only batches of the same time meet; to reach further, window one side first.
            ///
            /// # Example
            ///
            /// ```
            /// # use millstream_testkit::doc::*;
            /// let table = show([vec![("a", 1), ("b", 2)]], |left| {
            ///     let right = left.filter(|(key, _)| *key == "a").map_values(|v| v * 10);
            #[doc = concat!("    left.", stringify!($name), "(&right)")]
            /// });
            #[doc = concat!("assert_eq!(table, \"", $table, "\");")]
            /// ```
            ///
            /// # Errors
            ///
            /// `start()` reports streams of different contexts or slides.
            ///
            /// # Spark
            ///
            #[doc = $spark]
            #[track_caller]
            pub fn $name<W: ExchangeData>(&self, other: &DStream<(K, W)>) -> DStream<(K, $out)> {
                let site = CallSite::here(stringify!($name));
                self.with(other, site, move |a, b, _| {
                    let partitioner = Placing::default().on(a.context());
                    CallSite::scope(Some(site), || a.$partitioned(&b, partitioner))
                })
            }

            #[doc = concat!("As [`", stringify!($name), "`](Self::", stringify!($name), "), with the keys placed by `partitioner`, which may be a number.")]
            #[track_caller]
            pub fn $partitioned<W: ExchangeData>(
                &self,
                other: &DStream<(K, W)>,
                partitioner: impl Into<Partitioner>,
            ) -> DStream<(K, $out)> {
                let (site, partitioner) = (CallSite::here(stringify!($partitioned)), partitioner.into());
                self.with(other, site, move |a, b, _| {
                    CallSite::scope(Some(site), || a.$partitioned(&b, &partitioner))
                })
            }
        }
    };
}

joined!(
    cogroup,
    cogroup_partitioned,
    (Vec<V>, Vec<W>),
    "Brings together, for each key of either stream, its values here and its values in `other`.",
    "`PairDStreamFunctions.cogroup`, PD15.",
    "1s (a,([1],[10])) (b,([2],[]))"
);
joined!(
    join,
    join_partitioned,
    (V, W),
    "Pairs the values of each key that both streams have. A repeated key gives all pairs (S-67).",
    "`PairDStreamFunctions.join`, PD16.",
    "1s (a,(1,10))"
);
joined!(
    left_outer_join,
    left_outer_join_partitioned,
    (V, Option<W>),
    "Pairs the values of each key of this stream with those of `other`, or with `None`.",
    "`PairDStreamFunctions.leftOuterJoin`, PD17.",
    "1s (a,(1,Some(10))) (b,(2,None))"
);
joined!(
    right_outer_join,
    right_outer_join_partitioned,
    (Option<V>, W),
    "Pairs the values of each key of `other` with those of this stream, or with `None`.",
    "`PairDStreamFunctions.rightOuterJoin`, PD18.",
    "1s (a,(Some(1),10))"
);
joined!(
    full_outer_join,
    full_outer_join_partitioned,
    (Option<V>, Option<W>),
    "Pairs the values of each key of either stream, with `None` where one has none.",
    "`PairDStreamFunctions.fullOuterJoin`, PD19.",
    "1s (a,(Some(1),Some(10))) (b,(Some(2),None))"
);
