//! Rdds of numbers: sum, stats and histogram.

use std::sync::Arc;

use super::Rdd;
use crate::data::ExchangeData;
use crate::error::{CallSite, Error, ErrorKind, Result};
use crate::plan::ship::capture2;
use crate::stats::StatCounter;

/// How many parts a histogram may have: they are counted on the driver.
const MAX_BUCKETS: usize = 1 << 24;

/// A number that can be taken as a floating one.
///
/// Whole numbers above 2⁵³ lose their last digits, as in Spark.
pub trait Number: ExchangeData + Copy {
    /// Returns the number as a floating one.
    fn to_f64(self) -> f64;
}

macro_rules! number {
    ($($t:ty)*) => {$(
        impl Number for $t {
            #[allow(clippy::cast_lossless, reason = "one text for all numbers")]
            fn to_f64(self) -> f64 {
                self as f64
            }
        }
    )*};
}

number!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64);

impl<T: Number> Rdd<T> {
    /// Returns count, mean, spread and extremes, all from one pass.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let stats = context.parallelize(vec![1.0, 2.0, 3.0, 4.0], 2).stats()?;
    /// assert_eq!((stats.count(), stats.mean(), stats.min(), stats.max()), (4, 2.5, 1.0, 4.0));
    /// assert_eq!(stats.variance(), 1.25);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Whatever the job fails with.
    ///
    /// # Spark
    ///
    /// `DoubleRDDFunctions.stats`, DR02.
    #[track_caller]
    pub fn stats(&self) -> Result<StatCounter> {
        self.stats_at(CallSite::here("stats"))
    }

    fn stats_at(&self, site: CallSite) -> Result<StatCounter> {
        let add = |mut stats: StatCounter, x: T| {
            stats.add(x.to_f64());
            stats
        };
        let merge = |mut a: StatCounter, b: StatCounter| {
            a.merge(&b);
            a
        };
        CallSite::scope(Some(site), || self.aggregate(StatCounter::new(), add, merge))
    }

    /// Returns the sum, 0 if there is no number.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// assert_eq!(context.parallelize(vec![1, 2, 3], 2).sum()?, 6.0);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Whatever the job fails with.
    ///
    /// # Spark
    ///
    /// `DoubleRDDFunctions.sum`, DR01. For a whole number, [`reduce`](Rdd::reduce).
    #[track_caller]
    pub fn sum(&self) -> Result<f64> {
        CallSite::scope(Some(CallSite::here("sum")), || {
            self.aggregate(0.0, |a: f64, x: T| a + x.to_f64(), |a, b| a + b)
        })
    }

    /// Returns the mean, 0 if there is no number.
    ///
    /// # Errors
    ///
    /// Whatever the job fails with.
    ///
    /// # Spark
    ///
    /// `DoubleRDDFunctions.mean`, DR03.
    #[track_caller]
    pub fn mean(&self) -> Result<f64> {
        Ok(self.stats_at(CallSite::here("mean"))?.mean())
    }

    /// Returns the variance of the numbers as a whole population; NaN if there is none.
    ///
    /// # Errors
    ///
    /// Whatever the job fails with.
    ///
    /// # Spark
    ///
    /// `DoubleRDDFunctions.variance` and `popVariance`, DR03.
    #[track_caller]
    pub fn variance(&self) -> Result<f64> {
        Ok(self.stats_at(CallSite::here("variance"))?.variance())
    }

    /// Returns the standard deviation of the numbers as a whole population; NaN if there is none.
    ///
    /// # Errors
    ///
    /// Whatever the job fails with.
    ///
    /// # Spark
    ///
    /// `DoubleRDDFunctions.stdev` and `popStdev`, DR03.
    #[track_caller]
    pub fn stdev(&self) -> Result<f64> {
        Ok(self.stats_at(CallSite::here("stdev"))?.stdev())
    }

    /// Returns the variance of what the numbers are a sample of; NaN if there are fewer than two.
    ///
    /// # Errors
    ///
    /// Whatever the job fails with.
    ///
    /// # Spark
    ///
    /// `DoubleRDDFunctions.sampleVariance`, DR03.
    #[track_caller]
    pub fn sample_variance(&self) -> Result<f64> {
        Ok(self.stats_at(CallSite::here("sample_variance"))?.sample_variance())
    }

    /// Returns the standard deviation of what the numbers are a sample of; NaN if there are fewer than two.
    ///
    /// # Errors
    ///
    /// Whatever the job fails with.
    ///
    /// # Spark
    ///
    /// `DoubleRDDFunctions.sampleStdev`, DR03.
    #[track_caller]
    pub fn sample_stdev(&self) -> Result<f64> {
        Ok(self.stats_at(CallSite::here("sample_stdev"))?.sample_stdev())
    }

    /// Counts how many numbers fall into each of `buckets` parts of even width between the smallest and the largest.
    ///
    /// Returns the edges, one more than there are parts, and the counts. If all numbers are equal there is one part.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let (edges, counts) = context.parallelize(vec![0, 1, 7, 10], 2).histogram(2)?;
    /// assert_eq!((edges, counts), (vec![0.0, 5.0, 10.0], vec![2, 2]));
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The kind is `Config` for no parts or more than 2^24, `User` if there is no number or one is infinite or NaN; else whatever a job
    /// fails with.
    ///
    /// # Cost
    ///
    /// Two jobs: the extremes, then the counts.
    ///
    /// # Spark
    ///
    /// `DoubleRDDFunctions.histogram(bucketCount)`, DR05.
    #[track_caller]
    pub fn histogram(&self, buckets: usize) -> Result<(Vec<f64>, Vec<u64>)> {
        let site = CallSite::here("histogram");
        if !(1..=MAX_BUCKETS).contains(&buckets) {
            let text = format!("a histogram needs from one bucket to {MAX_BUCKETS}, not {buckets}");
            return Err(Error::new(ErrorKind::Config, text).at(site));
        }
        let limits = |(low, high): (f64, f64), x: T| {
            let x = x.to_f64();
            // A NaN stays one.
            (if x.is_nan() { x } else { low.min(x) }, if x.is_nan() || high.is_nan() { f64::NAN } else { high.max(x) })
        };
        let wider = |a: (f64, f64), b: (f64, f64)| {
            let nan = a.1.is_nan() || b.1.is_nan();
            (a.0.min(b.0), if nan { f64::NAN } else { a.1.max(b.1) })
        };
        let none = (f64::INFINITY, f64::NEG_INFINITY);
        let (low, high) = CallSite::scope(Some(site), || self.aggregate(none, limits, wider))?;
        if !(low.is_finite() && high.is_finite()) {
            let text = "a histogram needs numbers, and none that is infinite or NaN";
            return Err(Error::new(ErrorKind::User, text).at(site));
        }
        let edges: Vec<f64> = if low == high {
            vec![low, high]
        } else {
            let step = |i: usize| low + (i as f64 * (high - low)) / buckets as f64;
            (0..buckets).map(step).chain([high]).collect()
        };
        let counts = self.counts_between(&edges, site)?;
        Ok((edges, counts))
    }

    /// Counts how many numbers fall between each two neighbours of `edges`, which must go up.
    ///
    /// A number on an edge belongs to the part above; on the last edge to the last part. Numbers outside, and NaN, are
    /// not counted.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let numbers = context.parallelize(vec![0.5, 1.0, 1.5, 3.0, 7.0], 2);
    /// assert_eq!(numbers.histogram_between(&[0.0, 1.0, 3.0])?, [1, 3]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The kind is `Config` for fewer than two edges, or edges that do not go up; else whatever the job fails with.
    ///
    /// # Spark
    ///
    /// `DoubleRDDFunctions.histogram(buckets)`, DR05. A search a number, also where buckets are even.
    #[track_caller]
    pub fn histogram_between(&self, edges: &[f64]) -> Result<Vec<u64>> {
        let site = CallSite::here("histogram_between");
        if edges.len() < 2 || !edges.is_sorted_by(|a, b| a < b) {
            let text = format!("a histogram needs two edges or more, each above the one before: {edges:?}");
            return Err(Error::new(ErrorKind::Config, text).at(site));
        }
        self.counts_between(edges, site)
    }

    fn counts_between(&self, edges: &[f64], site: CallSite) -> Result<Vec<u64>> {
        let count = |edges: &Arc<Vec<f64>>, mut counts: Vec<u64>, x: T| {
            let (x, parts) = (x.to_f64(), counts.len());
            let below = edges.partition_point(|edge| *edge <= x);
            if below > 0 && x <= edges[parts] {
                counts[(below - 1).min(parts - 1)] += 1;
            }
            counts
        };
        let sum = |a: Vec<u64>, b: Vec<u64>| a.iter().zip(&b).map(|(a, b)| a + b).collect();
        let zero = vec![0u64; edges.len() - 1];
        let edges = Arc::new(edges.to_vec());
        CallSite::scope(Some(site), || self.aggregate(zero, capture2(edges, count), sum))
    }
}
