//! How fast a receiver may store. Pure.

use std::time::Duration;

/// A bucket that fills with permits, at most a second's worth.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    per_second: f64,
    permits: f64,
    seen: Duration,
}

impl RateLimiter {
    pub(crate) fn new(per_second: u64, now: Duration) -> RateLimiter {
        RateLimiter { per_second: per_second as f64, permits: 0.0, seen: now }
    }

    /// Takes `n` permits at `now` and returns how long to wait before going on.
    pub(crate) fn take(&mut self, n: usize, now: Duration) -> Duration {
        let passed = now.saturating_sub(self.seen).as_secs_f64();
        self.seen = self.seen.max(now);
        self.permits = (self.permits + passed * self.per_second).min(self.per_second) - n as f64;
        if self.permits >= 0.0 { Duration::ZERO } else { Duration::from_secs_f64(-self.permits / self.per_second) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s84_a_receiver_stores_no_faster_than_its_rate() {
        let mut limiter = RateLimiter::new(100, Duration::ZERO);
        let mut now = Duration::ZERO;
        for _ in 0..250 {
            now += limiter.take(1, now);
        }
        assert!((2.4..2.6).contains(&now.as_secs_f64()), "{now:?}");
    }

    #[test]
    fn r57_unused_permits_of_up_to_a_second_are_kept() {
        let mut limiter = RateLimiter::new(100, Duration::ZERO);
        let later = Duration::from_secs(60);
        assert_eq!(limiter.take(100, later), Duration::ZERO);
        assert!(limiter.take(1, later) > Duration::ZERO);
    }
}
