//! Actions that say what they know when time is up: count_approx, sum_approx, mean_approx and counts by value.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use super::{Number, PartitionIter, Rdd};
use crate::accumulator::CollectionAccumulator;
use crate::bounded::{BoundedDouble, count_bounds, mean_bounds, sum_bounds};
use crate::data::{Data, ExchangeData, Key};
use crate::error::{CallSite, Error, ErrorKind, Result};
use crate::future_action::FutureAction;
use crate::plan::ship::capture;
use crate::stats::StatCounter;

/// What an action knew when time was up, and what it will know at its end.
///
/// # Spark
///
/// `PartialResult`, SV06.
pub struct PartialResult<R> {
    initial: R,
    rest: Option<FutureAction<R>>,
}

impl<R> PartialResult<R> {
    /// Returns what was known when time was up.
    pub fn initial_value(&self) -> &R {
        &self.initial
    }

    /// Says whether that is all there is to know: the job had ended.
    pub fn is_initial_value_final(&self) -> bool {
        self.rest.is_none()
    }
}

impl<R: Send + 'static> PartialResult<R> {
    /// Waits for the job's end and returns the final value.
    ///
    /// # Errors
    ///
    /// Whatever the job fails with.
    pub fn final_value(self) -> Result<R> {
        self.rest.map_or(Ok(self.initial), FutureAction::get)
    }
}

impl<R: fmt::Debug> fmt::Debug for PartialResult<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PartialResult({:?}, final: {})", self.initial, self.is_initial_value_final())
    }
}

impl<T: Data> Rdd<T> {
    /// Returns the number of elements, or, if that takes longer than `timeout`, an estimate of it with bounds that hold
    /// with the chance `confidence`.
    ///
    /// # Example
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let count = context.range(0, 1000, 1, 8).count_approx(Duration::from_secs(60), 0.95)?;
    /// assert!(count.initial_value().low <= 1000.0 && count.initial_value().high >= 1000.0);
    /// assert_eq!(count.final_value()?.mean, 1000.0);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The kind is `Config` if `confidence` is not from 0 to 1; else whatever the job fails with in time.
    ///
    /// # Cost
    ///
    /// The job goes on when time is up: [`final_value`](PartialResult::final_value) waits for it.
    ///
    /// # Spark
    ///
    /// `RDD.countApprox`, RD41. Partitions that have been counted stand for those that have not.
    #[track_caller]
    pub fn count_approx(&self, timeout: Duration, confidence: f64) -> Result<PartialResult<BoundedDouble>> {
        let site = CallSite::here("count_approx");
        let part = |items: PartitionIter<T>| items.count() as u64;
        self.approx(site, timeout, confidence, part, move |counts, share| {
            count_bounds(counts.iter().sum(), share, confidence)
        })
    }

    /// Runs `part` on each partition, waits, and makes an estimate of what there is and the share that it is.
    fn approx<P: ExchangeData, R: Send + 'static>(
        &self,
        site: CallSite,
        timeout: Duration,
        confidence: f64,
        part: impl Fn(PartitionIter<T>) -> P + Copy + Send + Sync + 'static,
        estimate: impl Fn(Vec<P>, f64) -> R + Send + 'static,
    ) -> Result<PartialResult<R>> {
        if !(0.0..=1.0).contains(&confidence) {
            let text = format!("a confidence must be from 0 to 1: {confidence}");
            return Err(Error::new(ErrorKind::Config, text).at(site));
        }
        // What a task found is known when it has succeeded, as whatever it adds to an accumulator.
        let known: CollectionAccumulator<P> = self.context().collection_accumulator("partial results");
        let note = move |known: &CollectionAccumulator<P>, items: PartitionIter<T>| {
            known.add(part(items));
            Ok(())
        };
        let (rdd, all, partitions) = (self.clone(), known.clone(), self.num_partitions());
        let share = move |found: usize| if partitions == 0 { 1.0 } else { found as f64 / partitions as f64 };
        // Both the thread that waits and the one that ends make an estimate.
        let estimate = std::sync::Arc::new(std::sync::Mutex::new(estimate));
        let last = std::sync::Arc::clone(&estimate);
        let rest = FutureAction::start(self.context(), site, move || {
            rdd.foreach_partition(capture(all.clone(), note))?;
            Ok(crate::threads::lock(&last)(all.value(), 1.0))
        });
        if rest.wait_for(timeout) {
            return Ok(PartialResult { initial: rest.get()?, rest: None });
        }
        let found = known.value();
        let share = share(found.len());
        let initial = crate::backend::on_driver(site, || crate::threads::lock(&estimate)(found, share))?;
        Ok(PartialResult { initial, rest: Some(rest) })
    }
}

impl<T: Key> Rdd<T> {
    /// Returns how often each element occurs, or, if that takes longer than `timeout`, estimates of it.
    ///
    /// # Errors
    ///
    /// As [`count_approx`](Rdd::count_approx).
    ///
    /// # Cost
    ///
    /// Each task brings a map of its partition to the driver.
    ///
    /// # Spark
    ///
    /// `RDD.countByValueApprox`, RD43.
    #[track_caller]
    pub fn count_by_value_approx(
        &self,
        timeout: Duration,
        confidence: f64,
    ) -> Result<PartialResult<HashMap<T, BoundedDouble>>> {
        let site = CallSite::here("count_by_value_approx");
        self.approx(site, timeout, confidence, counts::<T>, by_value(confidence))
    }
}

impl<K: Key, V: Data> Rdd<(K, V)> {
    /// Returns how often each key occurs, or, if that takes longer than `timeout`, estimates of it.
    ///
    /// # Errors
    ///
    /// As [`count_approx`](Rdd::count_approx).
    ///
    /// # Cost
    ///
    /// Each task brings a map of its partition to the driver.
    ///
    /// # Spark
    ///
    /// `PairRDDFunctions.countByKeyApprox`, PR22.
    #[track_caller]
    pub fn count_by_key_approx(
        &self,
        timeout: Duration,
        confidence: f64,
    ) -> Result<PartialResult<HashMap<K, BoundedDouble>>> {
        let site = CallSite::here("count_by_key_approx");
        let part = |items: PartitionIter<(K, V)>| counts(items.map(|(key, _)| key));
        self.approx(site, timeout, confidence, part, by_value(confidence))
    }
}

fn counts<K: Key>(items: impl Iterator<Item = K>) -> HashMap<K, u64> {
    let mut counts = HashMap::new();
    for item in items {
        *counts.entry(item).or_default() += 1;
    }
    counts
}

fn by_value<K: Key>(confidence: f64) -> impl Fn(Vec<HashMap<K, u64>>, f64) -> HashMap<K, BoundedDouble> {
    move |parts, share| {
        let mut sums: HashMap<K, u64> = HashMap::new();
        for (key, count) in parts.into_iter().flatten() {
            *sums.entry(key).or_default() += count;
        }
        sums.into_iter().map(|(key, sum)| (key, count_bounds(sum, share, confidence))).collect()
    }
}

impl<T: Number> Rdd<T> {
    /// Returns the mean, or, if that takes longer than `timeout`, an estimate of it with bounds.
    ///
    /// # Errors
    ///
    /// As [`count_approx`](Rdd::count_approx).
    ///
    /// # Spark
    ///
    /// `DoubleRDDFunctions.meanApprox`, DR04.
    #[track_caller]
    pub fn mean_approx(&self, timeout: Duration, confidence: f64) -> Result<PartialResult<BoundedDouble>> {
        let site = CallSite::here("mean_approx");
        self.approx(site, timeout, confidence, stats::<T>, move |parts, share| {
            mean_bounds(&merged(&parts), share, confidence)
        })
    }

    /// Returns the sum, or, if that takes longer than `timeout`, an estimate of it with bounds.
    ///
    /// # Errors
    ///
    /// As [`count_approx`](Rdd::count_approx).
    ///
    /// # Spark
    ///
    /// `DoubleRDDFunctions.sumApprox`, DR04.
    #[track_caller]
    pub fn sum_approx(&self, timeout: Duration, confidence: f64) -> Result<PartialResult<BoundedDouble>> {
        let site = CallSite::here("sum_approx");
        self.approx(site, timeout, confidence, stats::<T>, move |parts, share| {
            sum_bounds(&merged(&parts), share, confidence)
        })
    }
}

fn stats<T: Number>(items: PartitionIter<T>) -> StatCounter {
    items.map(Number::to_f64).collect()
}

fn merged(parts: &[StatCounter]) -> StatCounter {
    parts.iter().fold(StatCounter::new(), |mut all, part| {
        all.merge(part);
        all
    })
}
