//! What time it is: the only file that asks the system.
//!
//! A [`Clock`] never goes back. [`SystemClock`] follows the wall clock forwards and the monotonic clock otherwise,
//! so that a clock set back, by hand or by a time server, never repeats a batch. A step forwards is followed and
//! *counted*, so that the batch loop can tell a clock that jumped from a program that fell behind.

use std::fmt::Debug;
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::threads::lock;
use crate::time::{Time, as_millis};

/// Something that waits for a time and can be told to look again.
pub trait Wake: Send + Sync {
    /// Wakes whoever waits, to ask the clock again.
    fn wake(&self);
}

/// What time it is, and how long to wait for another time.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Returns the present time. It never goes back.
    fn now(&self) -> Time;

    /// Returns how long to wait until `t`: nothing if `t` has come, `None` if only [`Wake::wake`] can tell.
    fn until(&self, t: Time) -> Option<Duration>;

    /// Asks to be woken when the clock is moved by hand. A clock that moves by itself has nothing to do.
    fn subscribe(&self, waiter: Weak<dyn Wake>);

    /// Returns by how much the clock has been stepped forwards so far, other than by the passing of time.
    fn stepped(&self) -> Duration {
        Duration::ZERO
    }

    /// Says whether the clock moves with the passing of time, so that lengths of time may be measured by [`monotonic`], which is more
    /// precise.
    fn is_real(&self) -> bool {
        false
    }
}

/// The system's clock.
#[derive(Debug)]
pub struct SystemClock {
    state: Mutex<Anchor>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Anchor {
    wall: Duration,
    monotonic: Duration,
    stepped: Duration,
}

/// A forward difference above this is a step of the clock; below, it is the clock being trimmed.
const STEP: Duration = Duration::from_secs(2);

impl Anchor {
    /// Returns the present (wall time since the epoch) from two readings, and the anchor to go on from. Pure.
    fn read(self, wall: Duration, monotonic: Duration) -> (Duration, Anchor) {
        let expected = self.wall + monotonic.saturating_sub(self.monotonic);
        if wall <= expected {
            return (expected, self);
        }
        let ahead = wall - expected;
        let stepped = if ahead > STEP { self.stepped + ahead } else { self.stepped };
        (wall, Anchor { wall, monotonic, stepped })
    }
}

fn wall() -> Duration {
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Returns the time since the process first asked, by a clock that only runs forwards. For measuring.
pub fn monotonic() -> Duration {
    use std::sync::OnceLock;
    static START: OnceLock<Instant> = OnceLock::new();
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
    let now = Instant::now();
    now.duration_since(*START.get_or_init(|| now))
}

/// Returns the wall clock's time, as it is, for stamps that people read. It may go back.
pub fn wall_time() -> Time {
    Time::from_millis(as_millis(wall()))
}

impl SystemClock {
    /// Makes a clock that begins at the system's present time.
    pub fn new() -> SystemClock {
        SystemClock { state: Mutex::new(Anchor { wall: wall(), monotonic: monotonic(), stepped: Duration::ZERO }) }
    }

    fn read(&self) -> Duration {
        let mut anchor = lock(&self.state);
        let (now, next) = anchor.read(wall(), monotonic());
        *anchor = next;
        now
    }
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Time {
        Time::from_millis(as_millis(self.read()))
    }

    fn until(&self, t: Time) -> Option<Duration> {
        // At most a second at a time, so that a clock that is set forwards meanwhile is noticed.
        let due = Duration::from_millis(u64::try_from(t.as_millis()).unwrap_or(0));
        Some(due.saturating_sub(self.read()).min(Duration::from_secs(1)))
    }

    fn subscribe(&self, _waiter: Weak<dyn Wake>) {}

    fn stepped(&self) -> Duration {
        lock(&self.state).stepped
    }

    fn is_real(&self) -> bool {
        true
    }
}

/// A clock that stands still until it is moved, for tests.
///
/// # Example
///
/// ```
/// use millstream_core::clock::{Clock, ManualClock};
/// use millstream_core::{Time, secs};
///
/// let clock = ManualClock::new(Time::ZERO);
/// clock.advance(secs(2));
/// assert_eq!(clock.now(), Time::from_millis(2000));
/// ```
///
/// # Spark
///
/// `spark.streaming.clock` set to the manual clock, S-7.
#[derive(Clone, Debug)]
pub struct ManualClock {
    shared: Arc<ManualShared>,
}

struct ManualShared {
    state: Mutex<ManualState>,
    moved: Condvar,
}

#[derive(Default)]
struct ManualState {
    now: Time,
    waiters: Vec<Weak<dyn Wake>>,
}

impl Debug for ManualShared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ManualShared({})", lock(&self.state).now)
    }
}

impl ManualClock {
    /// Makes a clock that stands at `now`.
    pub fn new(now: Time) -> ManualClock {
        let state = Mutex::new(ManualState { now, waiters: Vec::new() });
        ManualClock { shared: Arc::new(ManualShared { state, moved: Condvar::new() }) }
    }

    /// Moves the clock forwards by `d` and wakes all who wait for it.
    pub fn advance(&self, d: Duration) {
        let mut state = lock(&self.shared.state);
        state.now += d;
        let waiters: Vec<_> = state.waiters.iter().filter_map(Weak::upgrade).collect();
        state.waiters.retain(|w| w.strong_count() > 0);
        drop(state);
        self.shared.moved.notify_all();
        for waiter in waiters {
            waiter.wake();
        }
    }

    /// Moves the clock to `t`, if that is later than now.
    pub fn advance_to(&self, t: Time) {
        let now = self.now();
        self.advance(t - now);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Time {
        lock(&self.shared.state).now
    }

    fn until(&self, t: Time) -> Option<Duration> {
        (self.now() >= t).then_some(Duration::ZERO)
    }

    fn subscribe(&self, waiter: Weak<dyn Wake>) {
        lock(&self.shared.state).waiters.push(waiter);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_clock_set_back_an_hour_goes_on_with_the_passing_of_time() {
        let anchor = Anchor { wall: 10_000 * S, monotonic: 5 * S, stepped: Duration::ZERO };
        let (now, next) = anchor.read(6_400 * S, 6 * S);
        assert_eq!(now, 10_001 * S);
        assert_eq!(next.stepped, Duration::ZERO);
    }

    #[test]
    fn a_clock_set_forwards_an_hour_is_followed_and_counted() {
        let anchor = Anchor { wall: 10_000 * S, monotonic: 5 * S, stepped: Duration::ZERO };
        let (now, next) = anchor.read(13_601 * S, 6 * S);
        assert_eq!(now, 13_601 * S);
        assert_eq!(next.stepped, 3_600 * S);
        let (now, next) = next.read(13_602 * S, 7 * S);
        assert_eq!((now, next.stepped), (13_602 * S, 3_600 * S));
    }

    #[test]
    fn a_suspended_machine_is_a_step_and_a_trimmed_clock_is_not() {
        let anchor = Anchor { wall: 10_000 * S, monotonic: 5 * S, stepped: Duration::ZERO };
        assert_eq!(anchor.read(10_600 * S, 6 * S).1.stepped, 599 * S);
        let trimmed = anchor.read(10_001 * S + Duration::from_millis(40), 6 * S);
        assert_eq!(trimmed.0, 10_001 * S + Duration::from_millis(40));
        assert_eq!(trimmed.1.stepped, Duration::ZERO);
    }

    #[test]
    fn a_manual_clock_wakes_its_waiters() {
        struct Flag(std::sync::atomic::AtomicUsize);
        impl Wake for Flag {
            fn wake(&self) {
                self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
        }
        let clock = ManualClock::new(Time::ZERO);
        let flag = Arc::new(Flag(0.into()));
        let waiter: Weak<dyn Wake> = Arc::downgrade(&(Arc::clone(&flag) as Arc<dyn Wake>));
        clock.subscribe(waiter);
        assert_eq!(clock.until(Time::from_millis(1000)), None);
        clock.advance(S);
        assert_eq!(flag.0.load(std::sync::atomic::Ordering::SeqCst), 1);
        assert_eq!(clock.until(Time::from_millis(1000)), Some(Duration::ZERO));
        clock.advance_to(Time::from_millis(500));
        assert_eq!(clock.now(), Time::from_millis(1000));
    }
}
