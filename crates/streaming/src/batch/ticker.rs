//! When batches are due. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use millstream_core::{Time, as_millis};

use crate::conf::MissedBatches;

/// Gives the times of batches, one interval apart, strictly later each time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ticker {
    interval: Duration,
    zero: Time,
    next: Time,
    /// Times that jumps of the clock leave out, oldest first: each from the first to before the second.
    gaps: VecDeque<(Time, Time)>,
}

impl Ticker {
    /// Begins with the first multiple of the interval since the epoch that is later than `now` (S-1). The zero time
    /// is one interval before (S-2).
    pub(crate) fn first(now: Time, interval: Duration) -> Ticker {
        let zero = now.floor(interval);
        Ticker { interval, zero, next: zero + interval, gaps: VecDeque::new() }
    }

    /// Goes on behind the batch `latest` of an earlier run, as `missed` says. Returns how many batches that leaves out.
    pub(crate) fn resume(
        zero: Time,
        latest: Time,
        interval: Duration,
        now: Time,
        missed: MissedBatches,
    ) -> (Ticker, u64) {
        let next = latest.floor_from(interval, zero) + interval;
        let passed = now.floor_from(interval, zero);
        let from = match missed {
            MissedBatches::Replay => next,
            MissedBatches::Merge => next.max(passed),
            MissedBatches::Skip => next.max(passed + interval),
        };
        let left_out = as_millis(from - next) / as_millis(interval).max(1);
        (Ticker { interval, zero, next: from, gaps: VecDeque::new() }, u64::try_from(left_out).unwrap_or(0))
    }

    /// Returns the zero time, from which all slides are counted.
    pub(crate) fn zero(&self) -> Time {
        self.zero
    }

    /// Returns the time of the next batch.
    pub(crate) fn next(&self) -> Time {
        self.next
    }

    /// Returns the next batch if it is due. Nothing is skipped: a driver that fell behind makes up for it (S-4).
    pub(crate) fn due(&mut self, now: Time) -> Option<Time> {
        (self.next <= now).then(|| self.take())
    }

    /// Gives the next batch before it is due.
    pub(crate) fn take(&mut self) -> Time {
        let due = self.next;
        self.next += self.interval;
        if let Some((_, to)) = self.gaps.pop_front_if(|(from, _)| self.next >= *from) {
            self.next = self.next.max(to);
        }
        due
    }

    /// Takes note that the clock jumped forwards by `by` to `now`, and returns how many batches that leaves out.
    ///
    /// The machine slept, or somebody set the clock: nothing arrived in that time, so there is nothing to make up
    /// for. Batches that were due before the jump are kept, and so is the last one that it passed.
    pub(crate) fn stepped(&mut self, by: Duration, now: Time) -> u64 {
        let from = self.next.max((now - by).floor_from(self.interval, self.zero) + self.interval);
        let to = now.floor_from(self.interval, self.zero);
        if to <= from {
            return 0;
        }
        if self.next == from {
            self.next = to;
        } else {
            self.gaps.push_back((from, to));
        }
        u64::try_from(as_millis(to - from) / as_millis(self.interval).max(1)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_core::{millis, secs};

    fn t(ms: i64) -> Time {
        Time::from_millis(ms)
    }

    #[test]
    fn s1_the_first_batch_is_the_next_multiple_of_the_interval() {
        for (now, interval, first) in [(0, 1000, 1000), (999, 1000, 1000), (1000, 1000, 2000), (12_345, 500, 12_500)] {
            let ticker = Ticker::first(t(now), millis(interval));
            assert_eq!(ticker.next(), t(first), "{now} {interval}");
            assert_eq!(ticker.zero(), t(first) - millis(interval), "S-2");
        }
    }

    #[test]
    fn r19_what_was_missed_is_made_up_for_in_one_batch_in_each_or_not_at_all() {
        use MissedBatches::{Merge, Replay, Skip};
        let rows = [
            // Policy, now, the batches that are due at once, and the one after them.
            (Replay, 5_500, vec![3000, 4000, 5000], 6000),
            (Merge, 5_500, vec![5000], 6000),
            (Skip, 5_500, vec![], 6000),
            // Nothing was missed.
            (Replay, 2_500, vec![], 3000),
            (Merge, 2_500, vec![], 3000),
            (Skip, 2_500, vec![], 3000),
            (Merge, 3_000, vec![3000], 4000),
            // The clock was set back: no batch comes twice.
            (Merge, 0, vec![], 3000),
        ];
        for (missed, now, due, next) in rows {
            let (mut ticker, left_out) = Ticker::resume(t(0), t(2000), secs(1), t(now), missed);
            let all: Vec<_> = std::iter::from_fn(|| ticker.due(t(now))).map(|at| at.as_millis()).collect();
            assert_eq!((&all, ticker.next()), (&due, t(next)), "{missed:?} at {now}");
            let missed_in_all = (now - 2000).max(0) / 1000;
            assert_eq!(left_out as i64, missed_in_all - due.len() as i64, "{missed:?} at {now}");
        }
    }

    #[test]
    fn s4_no_tick_is_skipped_and_each_is_one_interval_later() {
        let mut ticker = Ticker::first(t(0), secs(1));
        assert_eq!(ticker.due(t(999)), None);
        let late: Vec<_> = std::iter::from_fn(|| ticker.due(t(3500))).collect();
        assert_eq!(late, [t(1000), t(2000), t(3000)]);
        assert_eq!(ticker.due(t(3999)), None);
        assert_eq!(ticker.due(t(4000)), Some(t(4000)));
    }

    #[test]
    fn a_clock_that_jumps_an_hour_gives_one_batch_and_no_stampede() {
        let mut ticker = Ticker::first(t(0), secs(1));
        assert_eq!(ticker.due(t(1000)), Some(t(1000)));
        let now = t(1_500) + secs(3600);
        assert_eq!(ticker.stepped(secs(3600), now), 3599);
        let due: Vec<_> = std::iter::from_fn(|| ticker.due(now)).collect();
        assert_eq!(due, [t(3_601_000)]);
        assert_eq!(ticker.next(), t(3_602_000));
    }

    #[test]
    fn batches_that_were_due_before_a_jump_are_kept() {
        let mut ticker = Ticker::first(t(0), secs(1));
        let now = t(3_500) + secs(10);
        assert_eq!(ticker.stepped(secs(10), now), 9);
        let due: Vec<_> = std::iter::from_fn(|| ticker.due(now)).collect();
        assert_eq!(due, [t(1000), t(2000), t(3000), t(13_000)]);
        assert_eq!(ticker.next(), t(14_000));
    }

    #[test]
    fn two_jumps_before_a_slow_program_catches_up_leave_out_both() {
        let mut ticker = Ticker::first(t(0), secs(1));
        assert_eq!(ticker.stepped(secs(10), t(12_500)), 9);
        assert_eq!(ticker.due(t(12_500)), Some(t(1000)));
        assert_eq!(ticker.stepped(secs(10), t(23_500)), 9);
        let due: Vec<_> = std::iter::from_fn(|| ticker.due(t(23_500))).collect();
        assert_eq!(due, [t(2000), t(12_000), t(13_000), t(23_000)]);
        assert_eq!(ticker.next(), t(24_000));
    }

    #[test]
    fn a_small_jump_leaves_nothing_out() {
        let mut ticker = Ticker::first(t(0), secs(10));
        assert_eq!(ticker.stepped(secs(3), t(5_000)), 0);
        assert_eq!(ticker.next(), t(10_000));
    }
}
