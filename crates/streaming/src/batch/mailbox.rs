//! Where the batch loop waits: for an event, for a question, or for the clock.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use millstream_core::Time;
use millstream_core::clock::{Clock, Wake, monotonic};
use millstream_core::threads::lock;

use super::lifecycle::Event;
use crate::graph::Graph;

/// Something that another thread wants to know of the graph.
pub(crate) type Question = Box<dyn FnOnce(&Graph) + Send>;

/// What reaches the batch loop.
pub(crate) enum Letter {
    Event(Event),
    Question(Question),
}

/// Letters for the batch loop.
#[derive(Default)]
pub(crate) struct Mailbox {
    letters: Mutex<Letters>,
    changed: Condvar,
}

#[derive(Default)]
struct Letters {
    waiting: VecDeque<Letter>,
    /// The thread that answers, and cannot wait for an answer.
    reader: Option<ThreadId>,
    closed: bool,
}

impl Mailbox {
    pub(crate) fn post(&self, event: Event) {
        lock(&self.letters).waiting.push_back(Letter::Event(event));
        self.changed.notify_all();
    }

    /// Asks something. Returns `false` if it will not be answered; else it is answered, or dropped by the end.
    pub(crate) fn ask(&self, question: Question) -> bool {
        let mut letters = lock(&self.letters);
        if letters.closed || letters.reader == Some(thread::current().id()) {
            return false;
        }
        letters.waiting.push_back(Letter::Question(question));
        drop(letters);
        self.changed.notify_all();
        true
    }

    /// Notes that the calling thread is the one that answers.
    pub(crate) fn is_mine(&self) {
        lock(&self.letters).reader = Some(thread::current().id());
    }

    /// Drops the questions that have not been answered, and takes no more.
    pub(crate) fn close(&self) {
        let mut letters = lock(&self.letters);
        letters.closed = true;
        let dropped = std::mem::take(&mut letters.waiting);
        drop(letters);
        drop(dropped);
    }

    /// Returns the next letter, or nothing when `due` has come by `clock`, or `at_most` by the clock that only runs
    /// forwards.
    pub(crate) fn next(&self, clock: &dyn Clock, due: Option<Time>, at_most: Option<Duration>) -> Option<Letter> {
        let mut letters = lock(&self.letters);
        loop {
            if let Some(letter) = letters.waiting.pop_front() {
                return Some(letter);
            }
            let by_clock = due.and_then(|due| clock.until(due));
            let by_timer = at_most.map(|at| at.saturating_sub(monotonic()));
            letters = match [by_clock, by_timer].into_iter().flatten().min() {
                Some(left) if left.is_zero() => return None,
                Some(left) => self.changed.wait_timeout(letters, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.changed.wait(letters).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

impl Wake for Mailbox {
    fn wake(&self) {
        // Under the lock, so that a loop that has just asked the clock is already waiting.
        let letters = lock(&self.letters);
        self.changed.notify_all();
        drop(letters);
    }
}
