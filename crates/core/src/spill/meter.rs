//! What a task holds, and when it is too much.

use std::sync::Arc;

use crate::context::Env;
use crate::error::Result;
use crate::memory::{Answer, Holder};

/// Follows, a chunk at a time, how much memory one structure of a task takes, and borrows that much from the budget.
pub(crate) struct Meter {
    env: Arc<Env>,
    /// What the budget has granted.
    held: u64,
    /// What the structure takes, at the last look.
    known: u64,
    /// What has come since.
    fresh: u64,
}

impl Meter {
    pub(crate) fn new(env: &Arc<Env>) -> Meter {
        env.memory.enter();
        Meter { env: Arc::clone(env), held: 0, known: 0, fresh: 0 }
    }

    pub(crate) fn env(&self) -> &Arc<Env> {
        &self.env
    }

    /// Notes that about `bytes` have come. Says whether it is time for a closer look, and a [`settle`](Meter::settle).
    #[inline]
    pub(crate) fn add(&mut self, bytes: u64) -> bool {
        self.fresh += bytes;
        self.known + self.fresh > self.held
    }

    /// Returns about how much there is, if all that came has stayed.
    pub(crate) fn estimate(&self) -> u64 {
        self.known + self.fresh
    }

    /// Notes what the structure takes, and borrows that and some more. Says whether it may stay in memory.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable`: others that had to make room could not.
    pub(crate) fn settle(&mut self, bytes: u64) -> Result<bool> {
        (self.known, self.fresh) = (bytes, 0);
        let step = (self.env.memory.limit() / 64).clamp(1 << 10, 64 << 20);
        for wanted in [bytes * 2 + step, bytes + step, bytes] {
            if wanted <= self.held {
                return Ok(true);
            }
            let more = wanted - self.held;
            let granted = match self.env.memory.ask(self.held, more) {
                Answer::Granted => true,
                Answer::Refused => false,
                // Others are asked for what is needed, and not for what would be nice.
                Answer::Short(_) if wanted > bytes + step => false,
                Answer::Short(short) => {
                    self.env.make_room(short)?;
                    self.env.memory.ask(self.held, more) == Answer::Granted || self.env.memory.insist(self.held, more)
                }
            };
            if granted {
                self.held = wanted;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Notes that the structure is empty again.
    pub(crate) fn clear(&mut self) {
        (self.known, self.fresh) = (0, 0);
        self.env.memory.sub(Holder::Tasks, std::mem::take(&mut self.held));
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.env.memory.leave(self.held);
    }
}
