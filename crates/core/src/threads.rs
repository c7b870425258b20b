//! The only place that starts threads: named, counted and joined.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::error::{Error, ErrorKind, Result};

static ALIVE: AtomicUsize = AtomicUsize::new(0);

/// A thread that is joined when this is dropped, unless it was joined or let go before.
#[derive(Debug)]
pub struct OwnedThread {
    handle: Option<thread::JoinHandle<()>>,
}

/// Starts a thread named `name`.
///
/// # Errors
///
/// The kind is `Unavailable`: the system gives no more threads.
pub fn spawn(name: impl Into<String>, body: impl FnOnce() + Send + 'static) -> Result<OwnedThread> {
    let name = name.into();
    ALIVE.fetch_add(1, Ordering::Relaxed);
    let counted = Counted;
    #[allow(clippy::disallowed_methods, reason = "this is the one door")]
    let handle = thread::Builder::new()
        .name(name.clone())
        .spawn(move || {
            let _counted = counted;
            body();
        })
        .map_err(|e| Error::io(ErrorKind::Unavailable, format!("thread `{name}` could not be started"), e))?;
    Ok(OwnedThread { handle: Some(handle) })
}

struct Counted;

impl Drop for Counted {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Returns how many threads started here are alive, for tests and diagnostics.
pub fn alive() -> usize {
    ALIVE.load(Ordering::Relaxed)
}

impl OwnedThread {
    /// Waits for the thread to end. Joining oneself returns at once.
    pub fn join(mut self) {
        self.join_mut();
    }

    /// Lets the thread run on without anyone who waits for it.
    pub fn detach(mut self) {
        self.handle = None;
    }

    /// Returns the thread's id.
    pub fn id(&self) -> Option<thread::ThreadId> {
        self.handle.as_ref().map(|h| h.thread().id())
    }

    /// Says whether this is the calling thread.
    pub fn is_current(&self) -> bool {
        self.handle.as_ref().is_some_and(|h| h.thread().id() == thread::current().id())
    }

    fn join_mut(&mut self) {
        if self.is_current() {
            self.handle = None;
        }
        if let Some(handle) = self.handle.take() {
            // The body catches what may panic; a panic of our own has been printed by the hook already.
            let _ = handle.join();
        }
    }
}

impl Drop for OwnedThread {
    fn drop(&mut self) {
        self.join_mut();
    }
}

/// Locks, also when a thread panicked while it held the lock.
///
/// What we keep behind locks is whole between any two statements, and no closure of the program runs under one.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
