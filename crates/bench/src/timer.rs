//! What time it is, for measuring, and the bare timer loop that batches are compared with.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use millstream::Time;

/// Returns the present, for measuring how long something takes.
#[allow(clippy::disallowed_methods, reason = "a benchmark measures with a clock of its own")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Returns the wall clock's time since the epoch, which batches are due by.
#[allow(clippy::disallowed_methods, reason = "a benchmark measures with a clock of its own")]
pub(crate) fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Returns how long a batch has been due.
pub(crate) fn since_due(due: Time) -> Duration {
    wall().saturating_sub(Duration::from_millis(u64::try_from(due.as_millis()).unwrap_or(0)))
}

/// Does something and says how long it took.
pub(crate) fn timed<R>(body: impl FnOnce() -> R) -> (Duration, R) {
    let start = now();
    let result = body();
    (start.elapsed(), result)
}

/// Waits for about a millisecond.
pub(crate) fn pause() {
    let (nothing, never) = (Mutex::new(()), Condvar::new());
    let guard = nothing.lock().unwrap_or_else(PoisonError::into_inner);
    // Nobody ever wakes it earlier, and it would do no harm.
    drop(never.wait_timeout(guard, Duration::from_millis(1)));
}

/// The timer that one would write by hand: waits until each multiple of `interval`, and half an interval more, is
/// due, for `length`; returns how late it woke up each time.
///
/// The half interval keeps it out of the way of batches that are due at the multiples.
pub(crate) fn bare_timer(interval: Duration, length: Duration) -> Vec<Duration> {
    let (nothing, never) = (Mutex::new(()), Condvar::new());
    let end = wall() + length;
    let step = interval.as_nanos();
    let mut late = Vec::new();
    while wall() < end {
        let due = (wall().as_nanos() / step + 1) * step + step / 2;
        let due = Duration::from_nanos(u64::try_from(due).expect("the epoch is less than 500 years ago"));
        let mut guard = nothing.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(left) = due.checked_sub(wall()).filter(|left| !left.is_zero()) {
            guard = never.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        late.push(wall().saturating_sub(due));
    }
    late
}
