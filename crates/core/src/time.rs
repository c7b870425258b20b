//! Points in time, in milliseconds, and short names for lengths of time.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point in time: milliseconds since the Unix epoch.
///
/// A `Time` names a batch: it is the time at which the batch was *due*, not the time at which it ran.
/// Lengths of time are [`std::time::Duration`]s, counted in whole milliseconds.
///
/// # Example
///
/// ```
/// use millstream_core::{Time, secs};
///
/// let batch = Time::from_millis(2500).floor(secs(1));
/// assert_eq!(batch + secs(1), Time::from_millis(3000));
/// assert_eq!(batch.to_string(), "2000 ms");
/// ```
///
/// # Spark
///
/// `Time`, TM01.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Time(i64);

/// Returns a length of `n` seconds. Spark's `Seconds(n)`, TM03.
pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Returns a length of `n` milliseconds. Spark's `Milliseconds(n)`, TM03.
pub const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Returns a length of `n` minutes. Spark's `Minutes(n)`, TM03.
pub const fn mins(n: u64) -> Duration {
    Duration::from_secs(n.saturating_mul(60))
}

/// Returns the whole milliseconds of `d`, as times count them.
pub fn as_millis(d: Duration) -> i64 {
    i64::try_from(d.as_millis()).unwrap_or(i64::MAX)
}

impl Time {
    /// The Unix epoch.
    pub const ZERO: Time = Time(0);

    /// Makes the time that is `ms` milliseconds after the Unix epoch.
    pub const fn from_millis(ms: i64) -> Time {
        Time(ms)
    }

    /// Returns the milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Returns the latest multiple of `step` since the epoch that is not after this time.
    ///
    /// # Panics
    ///
    /// Never: a step under a millisecond is taken as one millisecond.
    pub fn floor(self, step: Duration) -> Time {
        self.floor_from(step, Time::ZERO)
    }

    /// Returns the latest `zero + n * step` that is not after this time.
    pub fn floor_from(self, step: Duration, zero: Time) -> Time {
        let step = as_millis(step).max(1);
        match self.0.checked_sub(zero.0) {
            Some(since) => Time(zero.0.saturating_add(since.div_euclid(step).saturating_mul(step))),
            // They are further apart than such a number can say.
            None => {
                let (t, step, zero) = (i128::from(self.0), i128::from(step), i128::from(zero.0));
                Time(i64::try_from(zero + (t - zero).div_euclid(step) * step).unwrap_or(i64::MIN))
            }
        }
    }

    /// Says whether this time lies a whole number of `step`s after `zero`.
    pub fn is_multiple_of(self, step: Duration, zero: Time) -> bool {
        let step = as_millis(step).max(1);
        self.0.rem_euclid(step) == zero.0.rem_euclid(step)
    }

    /// Returns the length from `earlier` to this time, or nothing if it is later.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Returns the times from this one until `end`, which is left out, every `step`.
    pub fn until(self, end: Time, step: Duration) -> impl Iterator<Item = Time> {
        let step = as_millis(step).max(1);
        std::iter::successors(Some(self), move |t| t.0.checked_add(step).map(Time)).take_while(move |t| *t < end)
    }

    /// Returns the times from this one up to `end`, which is included, every `step`.
    pub fn to(self, end: Time, step: Duration) -> impl Iterator<Item = Time> {
        self.until(Time(end.0.saturating_add(1)), step)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

impl Add<Duration> for Time {
    type Output = Time;
    fn add(self, d: Duration) -> Time {
        Time(self.0.saturating_add(as_millis(d)))
    }
}

impl AddAssign<Duration> for Time {
    fn add_assign(&mut self, d: Duration) {
        *self = *self + d;
    }
}

impl Sub<Duration> for Time {
    type Output = Time;
    fn sub(self, d: Duration) -> Time {
        Time(self.0.saturating_sub(as_millis(d)))
    }
}

impl Sub<Time> for Time {
    type Output = Duration;
    fn sub(self, earlier: Time) -> Duration {
        self.since(earlier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Time {
        Time::from_millis(ms)
    }

    #[test]
    fn s8_floor_truncates_to_a_multiple_also_relative_to_zero_time() {
        for (ms, step, zero, want) in [
            (1350, 200, 0, 1200),
            (1200, 200, 0, 1200),
            (1199, 200, 0, 1000),
            (1350, 200, 50, 1250),
            (1350, 500, 350, 1350),
            (-1, 200, 0, -200),
        ] {
            assert_eq!(at(ms).floor_from(millis(step), at(zero)), at(want), "{ms} {step} {zero}");
        }
    }

    #[test]
    fn s8_until_leaves_the_end_out_and_to_keeps_it() {
        let until: Vec<_> = at(1000).until(at(1600), millis(200)).collect();
        assert_eq!(until, [at(1000), at(1200), at(1400)]);
        let to: Vec<_> = at(1000).to(at(1600), millis(200)).collect();
        assert_eq!(to, [at(1000), at(1200), at(1400), at(1600)]);
        assert_eq!(at(5).until(at(5), millis(1)).count(), 0);
        assert_eq!(at(5).to(at(5), millis(1)).count(), 1);
    }

    #[test]
    fn times_add_and_subtract_and_never_overflow() {
        assert_eq!(at(5) + secs(1), at(1005));
        assert_eq!(at(1005) - secs(1), at(5));
        assert_eq!(at(1005) - at(5), secs(1));
        assert_eq!(at(5) - at(1005), Duration::ZERO);
        assert_eq!(at(i64::MAX) + secs(1), at(i64::MAX));
        assert_eq!(mins(u64::MAX), secs(u64::MAX));
        let (first, last, for_ever) = (at(i64::MIN), at(i64::MAX), Duration::MAX);
        for (t, step, zero) in
            [(first, secs(1), last), (last, secs(1), first), (at(7), for_ever, at(9)), (first, for_ever, at(1))]
        {
            assert!(t.floor_from(step, zero) <= t, "{t} {step:?} {zero}");
            assert!(t.is_multiple_of(step, t), "{t} {step:?} {zero}");
        }
        assert_eq!(at(1).to(last, for_ever).collect::<Vec<_>>(), [at(1)]);
        assert_eq!(at(i64::MAX - 1).until(last, secs(1)).count(), 1);
        assert!(at(3000).is_multiple_of(secs(2), at(1000)));
        assert!(!at(3000).is_multiple_of(secs(2), at(0)));
    }
}
