//! Who listens, and the one thread of an engine that tells them: one event at a time, in the order of the events.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::{self, ThreadId};

use crate::error::Result;
use crate::threads::{self, OwnedThread, lock};

/// Names a listener, to remove it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(u64);

/// Something that happened, and how a listener is told.
pub trait Event: Send + 'static {
    /// Who is told.
    type Listener: ?Sized + Send + Sync + 'static;

    /// Tells one listener.
    fn tell(&self, listener: &Self::Listener);
}

/// An event's place among all events of its engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(u64);

/// The thread that tells, and what it has still to tell.
pub(super) struct Bus {
    shared: Arc<Shared>,
    thread: Mutex<Option<OwnedThread>>,
}

struct Shared {
    state: Mutex<State>,
    /// The thread that tells, once there is one. It stays known when the thread is being waited for.
    teller: OnceLock<ThreadId>,
    /// Told when there is something to tell, or an end.
    work: Condvar,
    /// Told when something has been told to somebody who waits for it.
    done: Condvar,
}

#[derive(Default)]
struct State {
    tellings: VecDeque<Box<dyn FnOnce() + Send>>,
    /// How many events have been taken, and how many of them have been told.
    posted: u64,
    told: u64,
    next_id: u64,
    asleep: bool,
    flushing: usize,
    /// Whether there is a thread that tells.
    runs: bool,
    closed: bool,
}

impl Bus {
    pub(super) fn new() -> Arc<Bus> {
        let (work, done) = (Condvar::new(), Condvar::new());
        let shared = Shared { state: Mutex::default(), teller: OnceLock::new(), work, done };
        Arc::new(Bus { shared: Arc::new(shared), thread: Mutex::new(None) })
    }

    /// Starts the thread, if it does not run yet.
    fn start(&self) -> Result<()> {
        let mut thread = lock(&self.thread);
        if thread.is_some() || lock(&self.shared.state).closed {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        *thread = Some(threads::spawn("listeners", move || shared.run())?);
        lock(&self.shared.state).runs = true;
        Ok(())
    }

    fn is_current(&self) -> bool {
        self.shared.teller.get() == Some(&thread::current().id())
    }

    /// Has told what was posted quietly.
    fn wake(&self) {
        let mut state = lock(&self.shared.state);
        if state.asleep && !state.tellings.is_empty() {
            state.asleep = false;
            self.shared.work.notify_one();
        }
    }

    fn flush(&self) {
        if self.is_current() {
            return;
        }
        self.wake();
        let mut state = lock(&self.shared.state);
        let until = state.posted;
        state.flushing += 1;
        while state.told < until {
            state = self.shared.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.flushing -= 1;
    }

    /// Tells what has been posted, takes nothing more, and ends the thread.
    pub(super) fn close(&self) {
        lock(&self.shared.state).closed = true;
        self.shared.work.notify_one();
        let thread = lock(&self.thread).take();
        drop(thread);
    }
}

impl Shared {
    fn run(&self) {
        let _ = self.teller.set(thread::current().id());
        let mut state = lock(&self.state);
        loop {
            if let Some(telling) = state.tellings.pop_front() {
                drop(state);
                // Listeners' panics are caught where they are called. This is for what a listener does when it is dropped.
                if catch_unwind(AssertUnwindSafe(telling)).is_err() {
                    tracing::error!("a listener panicked when it was let go");
                }
                state = lock(&self.state);
                state.told += 1;
                if state.flushing > 0 {
                    self.done.notify_all();
                }
                continue;
            }
            if state.closed {
                return;
            }
            state.asleep = true;
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.asleep = false;
        }
    }
}

/// The listeners of one kind of events. They share the thread, and so the order, with all other kinds of their engine.
pub struct Listeners<E: Event> {
    bus: Arc<Bus>,
    audience: Arc<Audience<E::Listener>>,
}

struct Audience<L: ?Sized> {
    /// Whether there is anybody, for a look that costs nothing.
    any: AtomicBool,
    closed: AtomicBool,
    seats: Mutex<Vec<Seat<L>>>,
}

struct Seat<L: ?Sized> {
    id: ListenerId,
    /// The last event that had happened when the listener came.
    since: Place,
    listener: Arc<L>,
}

impl<L: ?Sized> Clone for Seat<L> {
    fn clone(&self) -> Seat<L> {
        Seat { listener: Arc::clone(&self.listener), ..*self }
    }
}

impl<L: ?Sized> Audience<L> {
    fn tell<E: Event<Listener = L>>(&self, event: &E, begun: Place) {
        // A copy, because a listener may come and go by what a listener does.
        let seats: Vec<Seat<L>> = lock(&self.seats).iter().filter(|seat| seat.since < begun).cloned().collect();
        for Seat { id, listener, .. } in seats {
            if catch_unwind(AssertUnwindSafe(|| event.tell(&*listener))).is_err() {
                tracing::error!(?id, "a listener panicked and is not called again");
                self.remove(id);
            }
        }
    }

    fn remove(&self, id: ListenerId) {
        let mut seats = lock(&self.seats);
        let gone = seats.iter().position(|seat| seat.id == id).map(|at| seats.remove(at));
        self.any.store(!seats.is_empty(), Ordering::Relaxed);
        drop(seats);
        drop(gone);
    }

    fn clear(&self) {
        let gone = std::mem::take(&mut *lock(&self.seats));
        self.any.store(false, Ordering::Relaxed);
        drop(gone);
    }
}

impl<E: Event> Listeners<E> {
    pub(super) fn on(bus: &Arc<Bus>) -> Listeners<E> {
        let audience =
            Audience { any: AtomicBool::new(false), closed: AtomicBool::new(false), seats: Mutex::default() };
        Listeners { bus: Arc::clone(bus), audience: Arc::new(audience) }
    }

    /// Tells `listener` what happens from now on.
    pub fn add(&self, listener: Arc<E::Listener>) -> ListenerId {
        let mut state = lock(&self.bus.shared.state);
        state.next_id += 1;
        let id = ListenerId(state.next_id);
        if state.closed || self.audience.closed.load(Ordering::Relaxed) {
            // A listener may do anything when it is dropped.
            drop(state);
            return id;
        }
        lock(&self.audience.seats).push(Seat { id, since: Place(state.posted), listener });
        self.audience.any.store(true, Ordering::Relaxed);
        drop(state);
        if let Err(error) = self.bus.start() {
            tracing::error!(%error, "listeners are told nothing");
        }
        id
    }

    /// Tells a listener nothing any more.
    pub fn remove(&self, id: ListenerId) {
        self.audience.remove(id);
    }

    /// Fails if there are listeners that cannot be told, and tries again that they can.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable`: the system gives no more threads.
    pub fn check(&self) -> Result<()> {
        if self.any() { self.bus.start() } else { Ok(()) }
    }

    /// Says whether anybody listens. It costs a look.
    #[inline]
    pub fn any(&self) -> bool {
        self.audience.any.load(Ordering::Relaxed)
    }

    /// Takes an event, if anybody listens.
    pub fn post(&self, event: impl FnOnce() -> E) {
        self.take(event, None, true);
    }

    /// Takes an event without waking the thread that tells: to wake it would delay a batch that is about to run.
    ///
    /// The event is told with the next one that is posted, or after [`wake`](Listeners::wake).
    pub fn post_quietly(&self, event: impl FnOnce() -> E) {
        self.take(event, None, false);
    }

    /// Takes the first of several events that belong together. Returns what the others are posted
    /// [`within`](Listeners::post_within), or nothing if nobody listens.
    pub fn post_first(&self, event: impl FnOnce() -> E) -> Option<Place> {
        self.take(event, None, true)
    }

    /// Takes an event, for those who were there when the event at `begun` happened: nobody is told the end of what he was
    /// not told the beginning of.
    pub fn post_within(&self, begun: Place, event: impl FnOnce() -> E) {
        self.take(event, Some(begun), true);
    }

    fn take(&self, event: impl FnOnce() -> E, begun: Option<Place>, wake: bool) -> Option<Place> {
        if !self.any() {
            return None;
        }
        let (event, audience) = (event(), Arc::clone(&self.audience));
        let shared = &self.bus.shared;
        let mut state = lock(&shared.state);
        if !state.runs || state.closed || audience.closed.load(Ordering::Relaxed) {
            return None;
        }
        state.posted += 1;
        let place = Place(state.posted);
        state.tellings.push_back(Box::new(move || audience.tell(&event, begun.unwrap_or(place))));
        if wake && state.asleep {
            state.asleep = false;
            shared.work.notify_one();
        }
        Some(place)
    }

    /// Has told what was posted quietly.
    pub fn wake(&self) {
        self.bus.wake();
    }

    /// Says whether the calling thread is the one that tells.
    pub fn is_current(&self) -> bool {
        self.bus.is_current()
    }

    /// Waits until everything that was posted has been told. A listener does not wait for itself.
    pub fn flush(&self) {
        self.bus.flush();
    }

    /// Has told what was posted, and nothing after (LS14). Then listeners are let go.
    pub fn close(&self) {
        let audience = Arc::clone(&self.audience);
        let mut state = lock(&self.bus.shared.state);
        if audience.closed.swap(true, Ordering::Relaxed) {
            return;
        }
        if !state.runs || state.closed {
            drop(state);
            audience.clear();
            return;
        }
        state.posted += 1;
        state.tellings.push_back(Box::new(move || audience.clear()));
        drop(state);
        self.bus.wake();
    }
}

impl<E: Event> Clone for Listeners<E> {
    fn clone(&self) -> Listeners<E> {
        Listeners { bus: Arc::clone(&self.bus), audience: Arc::clone(&self.audience) }
    }
}

impl<E: Event> fmt::Debug for Listeners<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Listeners({})", lock(&self.audience.seats).len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number, told to those who gather numbers.
    struct Said(u32);
    type Heard = Mutex<Vec<u32>>;

    trait Gathers: Send + Sync {
        fn heard(&self, number: u32);
    }
    impl Gathers for Heard {
        fn heard(&self, number: u32) {
            assert!(number != 13, "this listener is superstitious");
            lock(self).push(number);
        }
    }
    impl Event for Said {
        type Listener = dyn Gathers;
        fn tell(&self, listener: &dyn Gathers) {
            listener.heard(self.0);
        }
    }

    fn listener() -> (Arc<Heard>, Arc<dyn Gathers>) {
        let heard = Arc::new(Heard::default());
        (Arc::clone(&heard), heard as Arc<dyn Gathers>)
    }

    #[test]
    fn what_happens_from_now_on_is_told_once_and_in_order_until_the_listener_goes() {
        let bus = Bus::new();
        let (one, other) = (Listeners::<Said>::on(&bus), Listeners::<Said>::on(&bus));
        one.post(|| unreachable!("nobody listens"));
        let (first, listens) = listener();
        let id = one.add(listens);
        one.post_quietly(|| Said(1));
        let (second, listens) = listener();
        one.add(listens);
        one.post(|| Said(2));
        one.flush();
        one.remove(id);
        (3..50).filter(|n| *n != 13).for_each(|n| one.post(|| Said(n)));
        other.post(|| unreachable!("nobody listens to the other kind"));
        one.flush();
        assert_eq!(*lock(&first), [1, 2]);
        assert_eq!(*lock(&second), (2..50).filter(|n| *n != 13).collect::<Vec<_>>());
        bus.close();
    }

    #[test]
    fn nobody_is_told_the_end_of_what_he_was_not_told_the_beginning_of() {
        let bus = Bus::new();
        let listeners = Listeners::<Said>::on(&bus);
        let (first, listens) = listener();
        listeners.add(listens);
        let begun = listeners.post_first(|| Said(1)).unwrap();
        let (late, listens) = listener();
        listeners.add(listens);
        listeners.post_within(begun, || Said(2));
        listeners.post(|| Said(3));
        listeners.flush();
        assert_eq!((lock(&first).clone(), lock(&late).clone()), (vec![1, 2, 3], vec![3]));
        bus.close();
    }

    #[test]
    fn a_listener_that_panics_is_left_out_and_the_others_are_not() {
        let bus = Bus::new();
        let listeners = Listeners::<Said>::on(&bus);
        let (heard, listens) = listener();
        listeners.add(listens);
        [12, 13, 14].into_iter().for_each(|n| listeners.post(|| Said(n)));
        listeners.flush();
        assert_eq!(*lock(&heard), [12]);
        assert!(!listeners.any());
        bus.close();
    }

    #[test]
    fn ls14_what_was_posted_before_the_end_is_told_and_nothing_after_and_listeners_are_let_go() {
        let bus = Bus::new();
        let listeners = Listeners::<Said>::on(&bus);
        let (heard, listens) = listener();
        listeners.add(listens);
        listeners.post_quietly(|| Said(1));
        listeners.close();
        listeners.post(|| Said(2));
        listeners.flush();
        assert_eq!((lock(&heard).clone(), Arc::strong_count(&heard)), (vec![1], 1));
        listeners.add(Arc::<Heard>::clone(&heard));
        listeners.post(|| Said(3));
        bus.close();
        bus.flush();
        assert_eq!(*lock(&heard), [1]);
    }
}
