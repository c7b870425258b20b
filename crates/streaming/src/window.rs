//! Intervals of batch times. Pure.

use std::time::Duration;

use millstream_core::Time;

/// How long a window is and how often there is one: made from a length, or a length and a slide.
///
/// # Example
///
/// ```
/// use millstream_core::secs;
/// use millstream_streaming::Window;
///
/// let hourly = Window::from((secs(3600), secs(60)));
/// assert_eq!((hourly.length(), hourly.slide()), (secs(3600), Some(secs(60))));
/// assert_eq!(Window::from(secs(10)).slide(), None); // that of the stream
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    length: Duration,
    slide: Option<Duration>,
}

impl Window {
    /// Returns how long it is.
    pub fn length(&self) -> Duration {
        self.length
    }

    /// Returns how often there is one, unless it is as often as the stream has a batch.
    pub fn slide(&self) -> Option<Duration> {
        self.slide
    }
}

impl From<Duration> for Window {
    fn from(length: Duration) -> Window {
        Window { length, slide: None }
    }
}

impl From<(Duration, Duration)> for Window {
    fn from((length, slide): (Duration, Duration)) -> Window {
        Window { length, slide: Some(slide) }
    }
}

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

    /// Returns what an earlier interval has and this one has not, and what this one has and the earlier one has not.
    pub(crate) fn differences(&self, earlier: Interval) -> (Interval, Interval) {
        let left = Interval::new(earlier.after, earlier.to.min(self.after));
        let entered = Interval::new(self.after.max(earlier.to), self.to);
        (left, entered)
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
    fn s35_two_windows_differ_by_what_left_and_what_entered() {
        let interval = |after, to| Interval::new(at(after), at(to));
        for (earlier, later, left, entered) in [
            ((0, 4), (1, 5), Some((0, 1)), (4, 5)),
            ((0, 4), (2, 6), Some((0, 2)), (4, 6)),
            ((0, 2), (3, 5), Some((0, 2)), (3, 5)),
            ((-1, 1), (0, 2), Some((-1, 0)), (1, 2)),
            ((0, 2), (0, 5), None, (2, 5)),
        ] {
            let differences = interval(later.0, later.1).differences(interval(earlier.0, earlier.1));
            let left = left.map_or(interval(earlier.0, earlier.0), |(after, to)| interval(after, to));
            assert_eq!(differences, (left, interval(entered.0, entered.1)), "{earlier:?} {later:?}");
        }
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
