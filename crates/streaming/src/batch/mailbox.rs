//! Where the batch loop waits: for an event, or for the clock.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use millstream_core::Time;
use millstream_core::clock::{Clock, Wake, monotonic};
use millstream_core::threads::lock;

use super::lifecycle::Event;

/// Events for the batch loop.
#[derive(Default)]
pub(crate) struct Mailbox {
    events: Mutex<VecDeque<Event>>,
    changed: Condvar,
}

impl Mailbox {
    pub(crate) fn post(&self, event: Event) {
        lock(&self.events).push_back(event);
        self.changed.notify_all();
    }

    /// Returns the next event, or nothing when `due` has come by `clock`, or `at_most` by the clock that only runs forwards.
    pub(crate) fn next(&self, clock: &dyn Clock, due: Option<Time>, at_most: Option<Duration>) -> Option<Event> {
        let mut events = lock(&self.events);
        loop {
            if let Some(event) = events.pop_front() {
                return Some(event);
            }
            let by_clock = due.and_then(|due| clock.until(due));
            let by_timer = at_most.map(|at| at.saturating_sub(monotonic()));
            events = match [by_clock, by_timer].into_iter().flatten().min() {
                Some(left) if left.is_zero() => return None,
                Some(left) => self.changed.wait_timeout(events, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.changed.wait(events).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

impl Wake for Mailbox {
    fn wake(&self) {
        // Under the lock, so that a loop that has just asked the clock is already waiting.
        let events = lock(&self.events);
        self.changed.notify_all();
        drop(events);
    }
}
