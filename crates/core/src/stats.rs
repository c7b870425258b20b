//! Count, mean, spread and extremes of numbers, gathered one by one and merged.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Count, mean, spread and extremes of numbers.
///
/// Numbers are added one by one, in one pass and without keeping them; two counters merge into one.
///
/// # Example
///
/// ```
/// use millstream_core::StatCounter;
///
/// let mut stats: StatCounter = [1.0, 2.0].into_iter().collect();
/// stats.merge(&[3.0, 4.0].into_iter().collect());
/// assert_eq!((stats.count(), stats.sum(), stats.mean()), (4, 10.0, 2.5));
/// assert_eq!((stats.variance(), stats.sample_variance()), (1.25, 5.0 / 3.0));
/// assert_eq!(stats.to_string(), "(count: 4, mean: 2.5, stdev: 1.118033988749895, max: 4, min: 1)");
/// ```
///
/// # Spark
///
/// `StatCounter`, SV07.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatCounter {
    count: u64,
    mean: f64,
    /// The sum of the squares of the distances from the mean.
    squares: f64,
    max: f64,
    min: f64,
}

impl StatCounter {
    /// Makes a counter of no number.
    pub fn new() -> StatCounter {
        StatCounter { count: 0, mean: 0.0, squares: 0.0, max: f64::NEG_INFINITY, min: f64::INFINITY }
    }

    /// Adds one number.
    pub fn add(&mut self, x: f64) {
        let distance = x - self.mean;
        self.count += 1;
        self.mean += distance / self.count as f64;
        self.squares += distance * (x - self.mean);
        self.max = self.max.max(x);
        self.min = self.min.min(x);
    }

    /// Adds all numbers of another counter.
    pub fn merge(&mut self, other: &StatCounter) {
        if self.count == 0 {
            *self = *other;
            return;
        }
        if other.count == 0 {
            return;
        }
        let (n, m) = (self.count as f64, other.count as f64);
        let distance = other.mean - self.mean;
        // Where one side is much larger, its mean is moved rather than made anew: less is lost.
        self.mean = if m * 10.0 < n {
            self.mean + distance * m / (n + m)
        } else if n * 10.0 < m {
            other.mean - distance * n / (n + m)
        } else {
            (self.mean * n + other.mean * m) / (n + m)
        };
        self.squares += other.squares + distance * distance * n * m / (n + m);
        self.count += other.count;
        self.max = self.max.max(other.max);
        self.min = self.min.min(other.min);
    }

    /// Returns how many numbers there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns the mean, 0 if there is no number.
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// Returns the sum.
    pub fn sum(&self) -> f64 {
        self.count as f64 * self.mean
    }

    /// Returns the largest number, minus infinity if there is none.
    pub fn max(&self) -> f64 {
        self.max
    }

    /// Returns the smallest number, infinity if there is none.
    pub fn min(&self) -> f64 {
        self.min
    }

    /// Returns the variance of the numbers as a whole population; NaN if there is none. Spark's `popVariance`.
    pub fn variance(&self) -> f64 {
        if self.count == 0 { f64::NAN } else { self.squares / self.count as f64 }
    }

    /// Returns the standard deviation of the numbers as a whole population; NaN if there is none. Spark's `popStdev`.
    pub fn stdev(&self) -> f64 {
        self.variance().sqrt()
    }

    /// Returns the variance of what the numbers are a sample of; NaN if there are fewer than two.
    pub fn sample_variance(&self) -> f64 {
        if self.count < 2 { f64::NAN } else { self.squares / (self.count - 1) as f64 }
    }

    /// Returns the standard deviation of what the numbers are a sample of; NaN if there are fewer than two.
    pub fn sample_stdev(&self) -> f64 {
        self.sample_variance().sqrt()
    }
}

impl Default for StatCounter {
    fn default() -> StatCounter {
        StatCounter::new()
    }
}

impl Extend<f64> for StatCounter {
    fn extend<I: IntoIterator<Item = f64>>(&mut self, numbers: I) {
        numbers.into_iter().for_each(|x| self.add(x));
    }
}

impl FromIterator<f64> for StatCounter {
    fn from_iter<I: IntoIterator<Item = f64>>(numbers: I) -> StatCounter {
        let mut stats = StatCounter::new();
        stats.extend(numbers);
        stats
    }
}

impl fmt::Display for StatCounter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, mean, stdev) = (self.count, self.mean, self.stdev());
        write!(f, "(count: {count}, mean: {mean}, stdev: {stdev}, max: {}, min: {})", self.max, self.min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sv07_counters_merge_to_what_one_counter_would_have() {
        let numbers: Vec<f64> = (0..1000).map(|i| f64::from(i * 7919 % 1009)).collect();
        let whole: StatCounter = numbers.iter().copied().collect();
        for cut in [0, 1, 10, 500, 999, 1000] {
            let (left, right) = numbers.split_at(cut);
            let mut merged: StatCounter = left.iter().copied().collect();
            merged.merge(&right.iter().copied().collect());
            assert_eq!((merged.count(), merged.min(), merged.max()), (whole.count(), whole.min(), whole.max()));
            assert!((merged.mean() - whole.mean()).abs() < 1e-9, "{cut}");
            assert!((merged.variance() / whole.variance() - 1.0).abs() < 1e-9, "{cut}");
        }
        assert!((whole.sum() - numbers.iter().sum::<f64>()).abs() < 1e-6);
    }

    #[test]
    fn sv07_of_nothing_there_is_no_spread() {
        let mut none = StatCounter::new();
        none.merge(&StatCounter::default());
        assert_eq!((none.count(), none.mean(), none.sum()), (0, 0.0, 0.0));
        assert!(none.variance().is_nan() && none.sample_variance().is_nan());
        assert_eq!((none.max(), none.min()), (f64::NEG_INFINITY, f64::INFINITY));
        let one: StatCounter = [3.0].into_iter().collect();
        assert!(one.sample_variance().is_nan() && one.variance() == 0.0);
    }
}
