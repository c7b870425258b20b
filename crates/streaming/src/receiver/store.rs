//! Where a receiver that runs on the driver puts what it receives.

use std::sync::{Arc, PoisonError};

use millstream_core::clock::monotonic;
use millstream_core::mutants::{Mutant, planted};
use millstream_core::storage::size_of_items;
use millstream_core::threads::lock;
use millstream_core::{Error, ErrorKind, ExchangeData, Result};

use super::door::{Asking, Door, Entry};
use super::supervisor::{Desk, DeskState};
use super::{Position, Store};

pub(super) struct DeskStore<T> {
    pub(super) desk: Arc<Desk<T>>,
}

fn time_to_go() -> Error {
    Error::new(ErrorKind::Stopped, "the receiver is being stopped")
}

impl<T: ExchangeData> DeskStore<T> {
    /// Waits for room, and for the rate: that by real time, as what is limited comes from outside. Returns how many of `n` items may be
    /// stored now, and `None` if they are dropped. Items of one call are counted as waiting once. A `block` of so many bytes is stored whole.
    ///
    /// Nothing is dropped that a position covers: what comes with one, and all of a receiver that has stored with one before. The next
    /// position would say that it is here.
    fn admit(
        &self,
        n: usize,
        block: Option<u64>,
        position: Option<&Position>,
        has_waited: &mut bool,
    ) -> Result<Option<usize>> {
        let desk = &self.desk;
        let is_free = block.is_some() && desk.input.conf().spark_compatible;
        let mut state = lock(&desk.state);
        while !state.stopping {
            let is_covered = position.is_some() || state.tracker.position().is_some();
            let mut asking = Asking { items: n, block, is_covered, is_free, has_waited: *has_waited };
            let entry = state.door.enter(&mut asking, monotonic());
            *has_waited = asking.has_waited;
            state = match entry {
                Entry::Come(here) => return Ok(Some(here)),
                Entry::Dropped => return Ok(None),
                Entry::Tell(when_full) => {
                    drop(state);
                    desk.tell_full(when_full);
                    lock(&desk.state)
                }
                Entry::WaitForRoom => desk.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Entry::WaitFor(wait) => {
                    desk.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        Err(time_to_go())
    }

    fn add(&self, items: impl Iterator<Item = T>) -> Result<()> {
        let now = self.desk.clock().now();
        let mut guard = lock(&self.desk.state);
        if guard.stopping {
            return Err(time_to_go());
        }
        let DeskState { generator, tracker, door: Door { room, .. }, .. } = &mut *guard;
        let before = generator.items().len();
        let full = generator.add(items, now);
        let (before, after) = (if full.is_some() { 0 } else { before }, generator.items().len());
        room.buffer(after - before);
        // Now and then is enough: items of a stream are much alike.
        if after == 1 || before.next_power_of_two() != after.next_power_of_two() {
            room.measure(after, size_of_items(generator.items()));
        }
        let early = (after as u64 >= room.cut_at()).then(|| generator.cut()).flatten();
        let blocks = [full, early].map(|items| items.map(|items| (tracker.number(), items)));
        drop(guard);
        for (ticket, items) in blocks.into_iter().flatten() {
            self.desk.keep(ticket, items, None, true)?;
            self.desk.tidy_up();
        }
        Ok(())
    }

    fn block(&self, items: Vec<T>, position: Option<Position>, stored: Box<dyn FnOnce() + Send>) -> Result<()> {
        if self.admit(items.len(), Some(size_of_items(&items)), position.as_ref(), &mut false)?.is_none() {
            return Ok(());
        }
        if position.is_some() {
            let rest = lock(&self.desk.state).rest();
            if let Some((ticket, items)) = rest {
                self.desk.keep(ticket, items, None, true)?;
            }
        }
        let ticket = {
            let mut state = lock(&self.desk.state);
            if state.stopping {
                return Err(time_to_go());
            }
            state.tracker.number()
        };
        if planted(Mutant::AcknowledgesBeforeKept) {
            stored();
            self.desk.keep(ticket, items, position, false)?;
        } else {
            self.desk.keep(ticket, items, position, false)?;
            stored();
        }
        self.desk.tidy_up();
        Ok(())
    }
}

impl<T: ExchangeData> Store<T> for DeskStore<T> {
    fn store(&mut self, item: T) -> Result<()> {
        match self.admit(1, None, None, &mut false)? {
            Some(_) => self.add(std::iter::once(item)),
            None => Ok(()),
        }
    }

    fn store_many(&mut self, items: Vec<T>) -> Result<()> {
        let (mut items, mut has_waited) = (items.into_iter(), false);
        while items.len() > 0 {
            let Some(piece) = self.admit(items.len(), None, None, &mut has_waited)? else { break };
            self.add(items.by_ref().take(piece))?;
        }
        Ok(())
    }

    fn store_block(&mut self, items: Vec<T>, stored: Box<dyn FnOnce() + Send>) -> Result<()> {
        self.block(items, None, stored)
    }

    fn store_block_at(&mut self, items: Vec<T>, position: Position, stored: Box<dyn FnOnce() + Send>) -> Result<()> {
        self.block(items, Some(position), stored)
    }

    fn position(&self) -> Option<Position> {
        lock(&self.desk.state).tracker.position().cloned()
    }

    fn report_error(&mut self, error: Error) {
        self.desk.failed(error);
    }

    fn is_stopped(&self) -> bool {
        lock(&self.desk.state).stopping
    }

    fn on_stop(&mut self, wake: Box<dyn FnOnce() + Send>) {
        let mut state = lock(&self.desk.state);
        if state.stopping {
            drop(state);
            wake();
        } else {
            state.on_stop = Some(wake);
        }
    }

    fn max_record(&self) -> usize {
        self.desk.input.conf().max_record
    }
}
