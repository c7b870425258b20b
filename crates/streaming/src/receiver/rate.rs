//! How fast a receiver may store. Pure.

use std::time::Duration;

/// A bucket that fills with permits, at most a second's worth.
///
/// Whoever comes takes what he needs as soon as there is one permit, and who comes next waits for what he took too much.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    per_second: f64,
    permits: f64,
    seen: Duration,
}

impl RateLimiter {
    pub(crate) fn new(per_second: f64, now: Duration) -> RateLimiter {
        RateLimiter { per_second, permits: 1.0, seen: now }
    }

    /// Returns how long to wait, from `now`, until there is a permit.
    pub(crate) fn wait(&mut self, now: Duration) -> Duration {
        self.fill(now);
        // What a sum of fractions lacks is no reason to wait.
        let lacks = 1.0 - self.permits;
        if lacks < 1e-6 { Duration::ZERO } else { Duration::from_secs_f64(lacks / self.per_second) }
    }

    pub(crate) fn take(&mut self, n: usize) {
        self.permits -= n as f64;
    }

    /// Returns how many of many items are to be stored at once, so that a batch need not wait for all of them: a tenth of a second's.
    pub(crate) fn piece(&self) -> usize {
        (self.per_second / 10.0).max(1.0) as usize
    }

    /// Changes the rate. What there is of permits, or is owed, is worth as much time as before.
    pub(crate) fn set_rate(&mut self, per_second: f64, now: Duration) {
        self.fill(now);
        self.permits *= per_second / self.per_second;
        self.per_second = per_second;
    }

    fn fill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.seen).as_secs_f64();
        self.seen = self.seen.max(now);
        self.permits = (self.permits + passed * self.per_second).min(self.per_second.max(1.0));
    }
}

/// The rate of a receiver: what the settings allow, and what back-pressure asks for. Spark's `RateLimiter`, RC21.
#[derive(Debug)]
pub(crate) struct Limit {
    most: Option<f64>,
    limiter: Option<RateLimiter>,
}

impl Limit {
    /// Begins with the lesser of `initial` and `most`.
    pub(crate) fn new(most: Option<u64>, initial: Option<u64>, now: Duration) -> Limit {
        let first = [most, initial].into_iter().flatten().min();
        Limit { most: most.map(|most| most as f64), limiter: first.map(|rate| RateLimiter::new(rate as f64, now)) }
    }

    /// Keeps to a new rate from `now` on, but not above what the settings allow.
    pub(crate) fn set(&mut self, rate: f64, now: Duration) {
        let rate = self.most.map_or(rate, |most| rate.min(most));
        match &mut self.limiter {
            Some(limiter) => limiter.set_rate(rate, now),
            None => self.limiter = Some(RateLimiter::new(rate, now)),
        }
    }

    /// Returns the rate that is kept to, if there is one.
    pub(crate) fn rate(&self) -> Option<f64> {
        self.limiter.as_ref().map(|limiter| limiter.per_second)
    }

    /// Returns the limiter, if there is a limit.
    pub(crate) fn limiter(&mut self) -> Option<&mut RateLimiter> {
        self.limiter.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_core::{millis, secs};

    /// Takes so many permits, by a time of the test's own, and returns how long that took.
    fn take(limiter: &mut RateLimiter, count: usize, each: usize, now: &mut Duration) -> Duration {
        let begun = *now;
        for _ in 0..count {
            while limiter.wait(*now) > Duration::ZERO {
                *now += limiter.wait(*now);
            }
            limiter.take(each);
        }
        *now - begun
    }

    #[test]
    fn s84_a_receiver_stores_no_faster_than_its_rate() {
        for each in [1, 5, 25] {
            let (mut limiter, mut now) = (RateLimiter::new(100.0, secs(7)), secs(7));
            let took = take(&mut limiter, 250 / each, each, &mut now);
            assert!((2.2..2.6).contains(&took.as_secs_f64()), "{took:?}");
        }
    }

    #[test]
    fn r57_unused_permits_of_up_to_a_second_are_kept() {
        let mut limiter = RateLimiter::new(100.0, Duration::ZERO);
        let mut now = secs(60);
        assert_eq!(take(&mut limiter, 100, 1, &mut now), Duration::ZERO);
        let next = limiter.wait(now);
        assert!((0.009..0.011).contains(&next.as_secs_f64()), "smooth: one at a time: {next:?}");
        assert_eq!(limiter.wait(Duration::ZERO), next, "a time that goes back changes nothing");
    }

    #[test]
    fn r57_who_takes_many_at_once_is_paid_for_by_the_next() {
        let mut limiter = RateLimiter::new(10.0, Duration::ZERO);
        assert_eq!(limiter.wait(Duration::ZERO), Duration::ZERO);
        limiter.take(50);
        assert_eq!(limiter.wait(Duration::ZERO), secs(5));
        assert_eq!(limiter.wait(secs(3)), secs(2));
        assert_eq!((limiter.piece(), RateLimiter::new(1000.0, secs(0)).piece()), (1, 100));
    }

    #[test]
    fn rc21_a_new_rate_holds_at_once_and_what_is_owed_takes_no_longer() {
        let mut limiter = RateLimiter::new(1000.0, Duration::ZERO);
        limiter.take(11); // ten are owed: ten milliseconds
        assert_eq!(limiter.wait(Duration::ZERO), millis(11));
        limiter.set_rate(1.0, Duration::ZERO);
        let wait = limiter.wait(Duration::ZERO);
        assert!((1.009..1.011).contains(&wait.as_secs_f64()), "what was owed, and the next one: {wait:?}");
        limiter.set_rate(10_000.0, Duration::ZERO);
        let took = take(&mut limiter, 1000, 1, &mut secs(0));
        assert!((0.10..0.12).contains(&took.as_secs_f64()), "{took:?}");
    }

    #[test]
    fn r56_r57_a_receiver_begins_with_its_initial_rate_and_never_goes_above_its_limit() {
        let begun = |most, initial| Limit::new(most, initial, Duration::ZERO);
        for (most, initial, want) in [
            (None, None, None),
            (Some(50), None, Some(50.0)),
            (None, Some(70), Some(70.0)),
            (Some(50), Some(70), Some(50.0)),
            (Some(50), Some(20), Some(20.0)),
        ] {
            assert_eq!(begun(most, initial).rate(), want);
        }
        let mut limit = begun(Some(50), Some(20));
        for (new, want) in [(30.0, 30.0), (500.0, 50.0), (1.0, 1.0)] {
            limit.set(new, Duration::ZERO);
            assert_eq!(limit.rate(), Some(want));
        }
        let mut free = begun(None, None);
        assert!(free.limiter().is_none());
        free.set(500.0, Duration::ZERO);
        assert_eq!(free.rate(), Some(500.0));
    }
}
