//! Estimates with bounds, from a part of the data that stands for the whole. Pure.

use std::f64::consts::PI;
use std::fmt;

use crate::stats::StatCounter;

/// An estimate, and bounds that hold with a certain chance.
///
/// # Spark
///
/// `BoundedDouble`, SV06.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BoundedDouble {
    /// The estimate.
    pub mean: f64,
    /// The chance that the bounds hold: 1 when everything is known, 0 when nothing is.
    pub confidence: f64,
    /// The lower bound.
    pub low: f64,
    /// The upper bound.
    pub high: f64,
}

impl BoundedDouble {
    fn exact(mean: f64) -> BoundedDouble {
        BoundedDouble { mean, confidence: 1.0, low: mean, high: mean }
    }

    fn around(mean: f64, confidence: f64, reach: f64) -> BoundedDouble {
        BoundedDouble { mean, confidence, low: mean - reach, high: mean + reach }
    }

    fn unknown(low: f64) -> BoundedDouble {
        BoundedDouble { mean: 0.0, confidence: 0.0, low, high: f64::INFINITY }
    }
}

impl fmt::Display for BoundedDouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:.3}, {:.3}]", self.low, self.high)
    }
}

/// Estimates a count, `sum` of which has been counted in the share `p` of the partitions.
pub(crate) fn count_bounds(sum: u64, p: f64, confidence: f64) -> BoundedDouble {
    let sum = sum as f64;
    if p >= 1.0 {
        return BoundedDouble::exact(sum);
    }
    if p <= 0.0 || sum == 0.0 {
        return BoundedDouble::unknown(0.0);
    }
    // How many are left is spread as the failures before so many successes of chance p.
    let (left, deviation) = (sum * (1.0 - p) / p, (sum * (1.0 - p)).sqrt() / p);
    let bounds = BoundedDouble::around(sum + left, confidence, normal(confidence) * deviation);
    BoundedDouble { low: bounds.low.max(sum), ..bounds }
}

/// Estimates the mean of all numbers from those of the share `p` of the partitions.
pub(crate) fn mean_bounds(stats: &StatCounter, p: f64, confidence: f64) -> BoundedDouble {
    if p >= 1.0 {
        return BoundedDouble::exact(stats.mean());
    }
    match stats.count() {
        0 => BoundedDouble::unknown(f64::NEG_INFINITY),
        1 => BoundedDouble::around(stats.mean(), confidence, f64::INFINITY),
        n => {
            let deviation = (stats.sample_variance() / n as f64).sqrt();
            BoundedDouble::around(stats.mean(), confidence, reach(confidence, n) * deviation)
        }
    }
}

/// Estimates the sum of all numbers from those of the share `p` of the partitions.
pub(crate) fn sum_bounds(stats: &StatCounter, p: f64, confidence: f64) -> BoundedDouble {
    if p >= 1.0 {
        return BoundedDouble::exact(stats.sum());
    }
    match stats.count() {
        0 => BoundedDouble::unknown(f64::NEG_INFINITY),
        1 => BoundedDouble::around(stats.mean() / p, confidence, f64::INFINITY),
        n => {
            let count = n as f64;
            let (mean, mean_variance) = (stats.mean(), stats.sample_variance() / count);
            let (all, all_variance) = ((count + 1.0 - p) / p, (count + 1.0) * (1.0 - p) / (p * p));
            let variance = mean * mean * all_variance + all * all * mean_variance + mean_variance * all_variance;
            BoundedDouble::around(mean * all, confidence, reach(confidence, n) * variance.sqrt())
        }
    }
}

/// How many deviations the bounds are away from the mean of `n` numbers.
fn reach(confidence: f64, n: u64) -> f64 {
    if n > 100 { normal(confidence) } else { student(confidence, (n - 1) as f64) }
}

/// How many deviations around the middle of a normal distribution hold the share `confidence` of it.
fn normal(confidence: f64) -> f64 {
    if confidence >= 1.0 {
        return f64::INFINITY;
    }
    // Found by halving: it is called once an estimate.
    let (mut low, mut high) = (0.0, 40.0);
    for _ in 0..80 {
        let middle = (low + high) / 2.0;
        if within(middle) < confidence { low = middle } else { high = middle }
    }
    low
}

/// The share of a normal distribution that is within `x` deviations: erf(x / √2), by Abramowitz and Stegun 7.1.26.
fn within(x: f64) -> f64 {
    let x = x / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let series = [0.254_829_592, -0.284_496_736, 1.421_413_741, -1.453_152_027, 1.061_405_429];
    1.0 - series.iter().rev().fold(0.0, |sum, c| (sum + c) * t) * (-x * x).exp()
}

/// The same of Student's distribution with `v` degrees of freedom.
fn student(confidence: f64, v: f64) -> f64 {
    if confidence >= 1.0 {
        return f64::INFINITY;
    }
    if v < 1.5 {
        return (PI * confidence / 2.0).tan();
    }
    if v < 2.5 {
        return confidence * (2.0 / (1.0 - confidence * confidence)).sqrt();
    }
    // Cornish and Fisher's series, from the normal distribution.
    let z = normal(confidence);
    let (z3, z5, z7) = (z.powi(3), z.powi(5), z.powi(7));
    z + (z3 + z) / (4.0 * v)
        + (5.0 * z5 + 16.0 * z3 + 3.0 * z) / (96.0 * v * v)
        + (3.0 * z7 + 19.0 * z5 + 17.0 * z3 - 15.0 * z) / (384.0 * v.powi(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64, by: f64) {
        assert!((a - b).abs() <= by, "{a} is not {b}");
    }

    #[test]
    fn sv06_quantiles_are_those_of_the_tables() {
        near(normal(0.95), 1.959_964, 1e-4);
        near(normal(0.99), 2.575_829, 1e-3);
        near(normal(0.0), 0.0, 1e-6);
        near(student(0.95, 1.0), 12.706, 1e-3);
        near(student(0.95, 2.0), 4.3027, 1e-3);
        near(student(0.95, 3.0), 3.1824, 0.05);
        near(student(0.95, 10.0), 2.2281, 1e-3);
        near(student(0.95, 99.0), 1.9842, 1e-3);
        assert_eq!(normal(1.0), f64::INFINITY);
    }

    #[test]
    fn sv06_what_is_known_is_exact_and_of_nothing_nothing_is_known() {
        assert_eq!(count_bounds(7, 1.0, 0.9), BoundedDouble::exact(7.0));
        let none = count_bounds(0, 0.5, 0.9);
        assert_eq!((none.mean, none.confidence, none.low, none.high), (0.0, 0.0, 0.0, f64::INFINITY));
        let none = sum_bounds(&StatCounter::new(), 0.5, 0.9);
        assert_eq!((none.low, none.high), (f64::NEG_INFINITY, f64::INFINITY));
        let one: StatCounter = [3.0].into_iter().collect();
        assert_eq!(mean_bounds(&one, 0.5, 0.9).mean, 3.0);
        assert_eq!(sum_bounds(&one, 1.0, 0.9), BoundedDouble::exact(3.0));
    }

    #[test]
    fn rd41_dr04_half_of_the_data_stands_for_the_whole() {
        let count = count_bounds(500, 0.5, 0.95);
        near(count.mean, 1000.0, 1e-9);
        assert!(count.low >= 500.0 && count.low < 960.0 && count.high > 1040.0 && count.high < 1200.0, "{count}");
        let numbers: StatCounter = (0..500).map(|i| f64::from(i % 10)).collect();
        let mean = mean_bounds(&numbers, 0.5, 0.95);
        assert!(mean.low < 4.5 && mean.high > 4.5 && mean.high - mean.low < 1.0, "{mean}");
        let sum = sum_bounds(&numbers, 0.5, 0.95);
        assert!(sum.low < 4500.0 && sum.high > 4500.0 && sum.high - sum.low < 2000.0, "{sum}");
        let surer = sum_bounds(&numbers, 0.5, 0.99);
        assert!(surer.high > sum.high && surer.low < sum.low);
    }
}
