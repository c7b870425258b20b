//! Intervals of batch times. Pure.

use std::time::Duration;

use millstream_core::Time;

/// A stretch of time, half-open: *(after, to]*. It names the batches whose times lie in it.
///
/// # Spark
///
/// `Interval`, TM04; there both ends are included (S-73).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    after: Time,
    to: Time,
}

impl Interval {
    /// Makes the interval of the times later than `after` and not later than `to`.
    pub fn new(after: Time, to: Time) -> Interval {
        Interval { after, to: to.max(after) }
    }

    /// Makes the interval of the length `length` that ends with `to`.
    pub fn ending(to: Time, length: Duration) -> Interval {
        Interval::new(to - length, to)
    }

    /// Returns the time that it begins behind.
    pub fn after(&self) -> Time {
        self.after
    }

    /// Returns the last time that it holds.
    pub fn to(&self) -> Time {
        self.to
    }

    /// Returns how long it is.
    pub fn length(&self) -> Duration {
        self.to - self.after
    }

    /// Says whether `t` lies in it.
    pub fn contains(&self, t: Time) -> bool {
        self.after < t && t <= self.to
    }

    /// Returns the times `zero + n * slide` in it that are later than `zero`: those at which a stream has a batch
    /// (S-9).
    pub fn batches(&self, slide: Duration, zero: Time) -> impl Iterator<Item = Time> {
        let after = self.after.max(zero);
        let first = after.floor_from(slide, zero) + slide;
        first.to(self.to, slide)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_core::secs;

    fn at(s: i64) -> Time {
        Time::from_millis(s * 1000)
    }

    #[test]
    fn s9_only_times_behind_zero_time_and_on_the_slide_are_batches() {
        let batches = |after, to, slide, zero| {
            Interval::new(at(after), at(to))
                .batches(secs(slide), at(zero))
                .map(|t| t.as_millis() / 1000)
                .collect::<Vec<_>>()
        };
        assert_eq!(batches(0, 3, 1, 0), [1, 2, 3]);
        assert_eq!(batches(1, 3, 1, 0), [2, 3]);
        assert_eq!(batches(-3, 2, 1, 0), [1, 2], "clipped at zero time");
        assert_eq!(batches(0, 6, 2, 0), [2, 4, 6]);
        assert_eq!(batches(0, 6, 2, 1), [3, 5], "counted from zero time, not from the epoch");
        assert_eq!(batches(3, 3, 1, 0), [0i64; 0]);
    }
}
