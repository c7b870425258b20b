//! Who may touch a table: one at a time, and nobody waits for the one that makes a version longer than one call of the program's
//! function takes.
//!
//! A batch holds its table while it changes it, which may take long. Whoever only wants to know what a key had, or lets go of an old
//! version, does not wait for the lock: what it wants done is left on the desk, and who has the lock does it in passing, between two
//! keys and before it lets go. So a reader never stops a batch, and the batch pays for a look-up what the look-up costs.
//!
//! INVARIANT: what was left is done. Who leaves something tries the lock behind that; who lets go of the lock looks behind that. One of
//! the two sees the other.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use millstream_core::threads::lock;

use super::table::{Base, Open};

/// Something to be done by whoever has the lock. It is short, and runs nothing of the program's.
pub(super) enum Ask<K, S> {
    Look(Look<K, S>),
    LetGo(u64),
}

pub(super) type Look<K, S> = Box<dyn FnOnce(&Base<K, S>, Option<&mut Open<K, S>>) + Send>;

impl<K, S> Ask<K, S> {
    fn answer(self, base: &mut Base<K, S>, open: Option<&mut Open<K, S>>) {
        match self {
            Ask::Look(look) => look(base, open),
            Ask::LetGo(version) => base.let_go(version),
        }
    }
}

/// A table, its lock, and what others have left to be done.
pub(super) struct Desk<K, S> {
    base: Mutex<Base<K, S>>,
    waiting: AtomicUsize,
    left: Mutex<Vec<Ask<K, S>>>,
}

impl<K, S> Desk<K, S> {
    pub(super) fn new(base: Base<K, S>) -> Desk<K, S> {
        Desk { base: Mutex::new(base), waiting: AtomicUsize::new(0), left: Mutex::default() }
    }

    /// Waits for the table.
    pub(super) fn lock(&self) -> Locked<'_, K, S> {
        Locked { desk: self, base: Some(lock(&self.base)) }
    }

    fn try_lock(&self) -> Option<Locked<'_, K, S>> {
        let base = match self.base.try_lock() {
            Ok(base) => base,
            Err(TryLockError::Poisoned(poisoned)) => PoisonError::into_inner(poisoned),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(Locked { desk: self, base: Some(base) })
    }

    /// Has something done, now or by who has the lock, and does not wait.
    pub(super) fn ask(&self, ask: Ask<K, S>) {
        if let Some(mut base) = self.try_lock() {
            // What others have left comes first: a version that is let go of now may be the one that they look at.
            self.serve(&mut base, None);
            return ask.answer(&mut base, None);
        }
        {
            let mut left = lock(&self.left);
            left.push(ask);
            self.waiting.store(left.len(), Ordering::SeqCst);
        }
        fence(Ordering::SeqCst);
        // If the lock is free by now, letting go of it again does what was left.
        drop(self.try_lock());
    }

    /// Does what others have left, for who has the lock and perhaps makes a version.
    pub(super) fn serve(&self, base: &mut Base<K, S>, mut open: Option<&mut Open<K, S>>) {
        while self.is_waited_for() {
            let left = {
                let mut left = lock(&self.left);
                self.waiting.store(0, Ordering::SeqCst);
                std::mem::take(&mut *left)
            };
            left.into_iter().for_each(|ask| ask.answer(base, open.as_deref_mut()));
        }
    }

    /// Says whether something has been left. It costs nothing.
    pub(super) fn is_waited_for(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}

/// The table, for as long as this lives.
pub(super) struct Locked<'a, K, S> {
    desk: &'a Desk<K, S>,
    base: Option<MutexGuard<'a, Base<K, S>>>,
}

impl<K, S> Deref for Locked<'_, K, S> {
    type Target = Base<K, S>;

    fn deref(&self) -> &Base<K, S> {
        self.base.as_deref().expect("it is taken when this is dropped")
    }
}

impl<K, S> DerefMut for Locked<'_, K, S> {
    fn deref_mut(&mut self) -> &mut Base<K, S> {
        self.base.as_deref_mut().expect("it is taken when this is dropped")
    }
}

impl<K, S> Drop for Locked<'_, K, S> {
    fn drop(&mut self) {
        let mut base = self.base.take();
        while let Some(mut locked) = base.take() {
            self.desk.serve(&mut locked, None);
            let dropped = locked.take_dropped();
            drop(locked);
            // Keys and states may be large: they are dropped without the lock.
            drop(dropped);
            fence(Ordering::SeqCst);
            if self.desk.waiting.load(Ordering::SeqCst) > 0 {
                base = match self.desk.base.try_lock() {
                    Ok(base) => Some(base),
                    Err(TryLockError::Poisoned(poisoned)) => Some(PoisonError::into_inner(poisoned)),
                    // Who has it now does it.
                    Err(TryLockError::WouldBlock) => None,
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn what_was_left_is_done_before_the_version_goes_that_it_looks_at() {
        let mut base: Base<i64, i64> = Base::empty();
        base.hold(0);
        let desk = Desk::new(base);
        let (tell, told) = mpsc::channel();
        // As if who left it had been stopped before it tried the lock.
        lock(&desk.left).push(Ask::Look(Box::new(move |base, _| tell.send(base.is_held(0)).unwrap())));
        desk.waiting.store(1, Ordering::SeqCst);
        desk.ask(Ask::LetGo(0));
        assert_eq!(told.try_recv(), Ok(true));
        assert!(!desk.lock().is_held(0));
    }
}
