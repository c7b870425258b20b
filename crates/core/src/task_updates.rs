//! What a task wants to be known on the driver, once it has succeeded: nothing of an attempt that fails is seen.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use crate::error::{Result, panicked};
use crate::threads::lock;

/// Something that is done when its task has succeeded.
pub(crate) trait Update: Any + Send {
    /// Does it. A closure of the program may run here, and panic.
    fn commit(self: Box<Self>);

    /// Whom the update is for.
    fn target(&self) -> usize;

    /// Writes it for the driver, if the task runs elsewhere.
    fn written(&self) -> Result<Vec<u8>>;
}

/// The updates of one attempt at a task.
#[derive(Default)]
pub(crate) struct TaskUpdates(Mutex<Vec<Box<dyn Update>>>);

impl TaskUpdates {
    /// Hands the update for `target` to `change`, or a new one of `make`. No lock is held meanwhile.
    pub(crate) fn with<U: Update>(&self, target: usize, make: impl FnOnce() -> U, change: impl FnOnce(&mut U)) {
        let known = {
            let mut updates = lock(&self.0);
            let at = updates.iter().position(|update| update.target() == target);
            at.map(|at| updates.swap_remove(at))
        };
        let mut update = match known.map(|update| (update as Box<dyn Any>).downcast::<U>()) {
            Some(Ok(update)) => update,
            _ => Box::new(make()),
        };
        change(&mut update);
        lock(&self.0).push(update);
    }

    /// Looks at the update for `target`.
    pub(crate) fn look<U: Update, R>(&self, target: usize, look: impl FnOnce(&U) -> R) -> Option<R> {
        let updates = lock(&self.0);
        let update = updates.iter().find(|update| update.target() == target)?;
        (&**update as &dyn Any).downcast_ref::<U>().map(look)
    }

    /// Writes all of them for the driver.
    pub(crate) fn written(&self) -> Result<Vec<Vec<u8>>> {
        lock(&self.0).iter().map(|update| update.written()).collect()
    }

    /// Does all of them.
    pub(crate) fn commit(&self) -> Result<()> {
        let updates = std::mem::take(&mut *lock(&self.0));
        catch_unwind(AssertUnwindSafe(|| updates.into_iter().for_each(Update::commit)))
            .map_err(|payload| panicked(&*payload))
    }
}
