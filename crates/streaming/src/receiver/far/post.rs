//! The executor's side: runs the receiver, keeps its blocks there, and says so to the driver.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use millstream_core::clock::monotonic;
use millstream_core::plan::away::written_error;
use millstream_core::plan::resident::{Resident, ResidentLine, ship_resident};
use millstream_core::plan::ship::PlanReader;
use millstream_core::storage::{Block, BlockId, size_of_items};
use millstream_core::threads::{self, lock};
use millstream_core::{Error, ErrorKind, ExchangeData, Result, StorageLevel, codec, panicked};

use super::{Held, Kept, Order, Said, Terms};
use crate::conf::WhenFull;
use crate::receiver::door::{Asking, Door, Entry};
use crate::receiver::rate::Limit;
use crate::receiver::room::{self, Room};
use crate::receiver::travel::Travelling;
use crate::receiver::{Position, Receiver, Store};

/// How long the driver's word may wait, and the end of the receiver.
const LOOK: Duration = Duration::from_millis(50);

/// Writes down what runs a receiver on an executor.
///
/// # Errors
///
/// The kind is `User`: it cannot be written, or captures silently.
pub(in crate::receiver) fn begin<T: ExchangeData>(terms: &Terms, receiver: &Travelling) -> Result<Bytes> {
    ship_resident(|w| {
        w.code(arrives::<T>);
        w.value(terms)?;
        receiver.write(w)
    })
}

fn arrives<T: ExchangeData>(r: &mut PlanReader<'_>) -> Result<Box<dyn Any>> {
    let (terms, receiver) = (r.value()?, r.rebuilt::<Box<dyn Receiver<Item = T>>>()?);
    let resident: Box<dyn Resident> = Box::new(Posted { terms, receiver });
    Ok(Box::new(resident))
}

/// A receiver that has arrived.
struct Posted<T> {
    terms: Terms,
    receiver: Box<dyn Receiver<Item = T>>,
}

/// What the receiver's thread and the one that heeds the driver share.
struct Post<T> {
    terms: Terms,
    line: Arc<dyn ResidentLine>,
    /// Taken before `front`, where both are: blocks are numbered in the order in which their items came.
    keeping: Mutex<Keeping>,
    front: Mutex<Front<T>>,
    changed: Condvar,
}

/// One block is kept at a time.
struct Keeping {
    next: u64,
    position: Option<Position>,
}

struct Front<T> {
    buffer: Vec<T>,
    door: Door,
    stopping: bool,
    /// Whether the receiver's thread is over.
    gone: bool,
    on_stop: Option<Box<dyn FnOnce() + Send>>,
    /// What went wrong when a block was cut by the clock: for who stores next.
    failure: Option<Error>,
}

impl<T: ExchangeData> Resident for Posted<T> {
    fn run(self: Box<Self>, line: Arc<dyn ResidentLine>) {
        let Posted { terms, receiver } = *self;
        let post = Arc::new(Post::of(terms, line));
        let supervised = Arc::clone(&post);
        let name = format!("receiver-{}", post.terms.input);
        match threads::spawn(name, move || supervised.supervise(receiver)) {
            Ok(thread) => {
                post.heed();
                thread.join();
            }
            Err(error) => post.say_failed(&error),
        }
    }
}

fn time_to_go() -> Error {
    Error::new(ErrorKind::Stopped, "the receiver is being stopped")
}

impl<T> Post<T> {
    fn of(terms: Terms, line: Arc<dyn ResidentLine>) -> Post<T> {
        let bytes = terms.waiting_bytes.unwrap_or_else(|| (line.memory() / 4).max(1));
        let items = terms.waiting_items.unwrap_or(u64::MAX);
        let mut room = Room::new(items, bytes, terms.when_full.into(), size_of::<T>());
        terms.waiting.iter().for_each(|(block, items, bytes)| {
            room.keep(*block, *items, *bytes, false, room::Kept::Here);
        });
        let mut limit = Limit::new(terms.max_rate, terms.initial_rate, monotonic());
        if let Some(rate) = terms.rate {
            limit.set(rate, monotonic());
        }
        let front = Front {
            buffer: Vec::new(),
            door: Door { limit, room },
            stopping: false,
            gone: false,
            on_stop: None,
            failure: None,
        };
        let keeping = Keeping { next: terms.next, position: terms.position.clone() };
        let (keeping, front) = (Mutex::new(keeping), Mutex::new(front));
        Post { terms, line, keeping, front, changed: Condvar::new() }
    }

    fn say(&self, said: &Said) -> Result<()> {
        self.line.ask(codec::encode(said)?.into()).map(|_| ())
    }

    /// Says something that is said in vain where the driver has let this receiver go.
    fn mention(&self, said: &Said) {
        if let Err(error) = self.say(said) {
            tracing::debug!(%error, "the driver does not hear of a receiver");
        }
    }

    fn say_failed(&self, error: &Error) {
        tracing::warn!(input = self.terms.input, %error, "a receiver failed");
        match written_error(error) {
            Ok(written) => self.mention(&Said::Failed(written)),
            Err(error) => tracing::warn!(%error, "that could not be told"),
        }
    }

    /// Ends the receiver, as soon as it looks.
    fn stop(&self) {
        let wake = {
            let mut front = lock(&self.front);
            front.stopping = true;
            front.on_stop.take()
        };
        self.changed.notify_all();
        if let Some(wake) = wake {
            wake();
        }
    }

    /// Waits for the restart of the receiver, or until it is time to go.
    fn pause(&self) {
        let until = monotonic() + self.terms.restart_delay;
        let mut front = lock(&self.front);
        while !front.stopping {
            let left = until.saturating_sub(monotonic());
            if left.is_zero() {
                return;
            }
            front = self.changed.wait_timeout(front, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl<T: ExchangeData> Post<T> {
    /// The life of the receiver's thread.
    fn supervise(self: Arc<Self>, mut receiver: Box<dyn Receiver<Item = T>>) {
        while !lock(&self.front).stopping {
            if let Err(error) = self.say(&Said::Starts) {
                tracing::debug!(%error, "a receiver does not start");
                break;
            }
            let mut store = PostStore { post: Arc::clone(&self) };
            let outcome = catch_unwind(AssertUnwindSafe(|| receiver.receive(&mut store)))
                .unwrap_or_else(|payload| Err(panicked(&*payload)));
            let stopping = {
                let mut front = lock(&self.front);
                front.on_stop = None;
                front.stopping
            };
            match outcome {
                Err(error) if !stopping => self.say_failed(&error),
                _ => {}
            }
            self.mention(&Said::Stopped);
            if !stopping {
                self.pause();
            }
        }
        lock(&self.front).gone = true;
    }

    /// Does what the driver says, and cuts a block each block interval, until the receiver is over and all it gave is kept.
    fn heed(&self) {
        let mut cut_at = monotonic() + self.terms.block_interval;
        while !lock(&self.front).gone {
            let left = cut_at.saturating_sub(monotonic());
            match self.line.heard(left.min(LOOK)).map(|heard| codec::decode(&heard)) {
                Some(Ok(Order::Stop)) => self.stop(),
                Some(Ok(Order::Rate(rate))) => {
                    lock(&self.front).door.limit.set(rate, monotonic());
                    self.changed.notify_all();
                }
                Some(Ok(Order::Left(blocks))) => self.leave(&blocks),
                Some(Err(error)) => tracing::error!(%error, "the driver said what is not understood"),
                None => {}
            }
            if monotonic() >= cut_at {
                cut_at = monotonic() + self.terms.block_interval;
                self.cut();
                self.tell_held();
            }
        }
        self.cut();
        self.tell_held();
    }

    fn leave(&self, blocks: &[u64]) {
        let mut front = lock(&self.front);
        blocks.iter().for_each(|block| {
            front.door.room.leave(*block);
        });
        front.door.room.may_tell_again();
        drop(front);
        self.changed.notify_all();
    }

    /// Makes a block of what has gathered.
    fn cut(&self) {
        let mut keeping = lock(&self.keeping);
        if let Err(error) = self.cut_rest(&mut keeping) {
            drop(keeping);
            if error.kind() == ErrorKind::Stopped {
                // The driver has let this receiver go.
                return self.stop();
            }
            self.say_failed(&error);
            lock(&self.front).failure = Some(error);
        }
    }

    fn cut_rest(&self, keeping: &mut Keeping) -> Result<()> {
        let items = std::mem::take(&mut lock(&self.front).buffer);
        if items.is_empty() {
            return Ok(());
        }
        self.keep(keeping, items, None, true)
    }

    fn tell_held(&self) {
        let held: Held = lock(&self.front).door.room.since().into();
        if held != Held::default() {
            self.mention(&Said::Held(held));
        }
    }

    /// Keeps a block here, and says so to the driver, who writes it to the log if there is one.
    fn keep(&self, keeping: &mut Keeping, items: Vec<T>, position: Option<Position>, from_buffer: bool) -> Result<()> {
        let (sequence, count, bytes) = (keeping.next, items.len() as u64, size_of_items(&items));
        let position = position.or_else(|| keeping.position.clone());
        let (spills, is_news) = {
            let room = &mut lock(&self.front).door.room;
            let spills = room.spills(count, bytes);
            (spills, spills && room.is_news())
        };
        if is_news {
            self.mention(&Said::Full(WhenFull::Spill.into()));
        }
        let kept = self.keep_here(keeping, items, count, bytes, position.as_ref(), spills);
        let outcome = match (&kept, spills) {
            (Err(_), _) => room::Kept::Lost,
            (Ok(()), true) => room::Kept::Spilled,
            (Ok(()), false) => room::Kept::Here,
        };
        lock(&self.front).door.room.keep(sequence, count, bytes, from_buffer, outcome);
        kept.map(|()| keeping.position = position)
    }

    fn keep_here(
        &self,
        keeping: &mut Keeping,
        items: Vec<T>,
        count: u64,
        bytes: u64,
        position: Option<&Position>,
        spilled: bool,
    ) -> Result<()> {
        let sequence = keeping.next;
        let written = if self.terms.logs { Some(Bytes::from(codec::encode(&items)?)) } else { None };
        let id = BlockId::Received { stream: self.terms.stream, sequence };
        let level = if spilled { StorageLevel::DISK_ONLY } else { self.terms.level };
        match (self.line.keep(id, Block::exchange(items), level), self.terms.logs) {
            (Err(error), false) => return Err(error),
            (Err(error), true) => tracing::warn!(%error, "a received block will be read from the log"),
            (Ok(()), _) => {}
        }
        // From here on the driver may know of the number, whatever comes of this.
        keeping.next += 1;
        let held = lock(&self.front).door.room.since().into();
        let position = position.cloned();
        self.say(&Said::Block(Kept { sequence, items: count, bytes, position, spilled, written, held }))
    }

    /// Waits for room, and for the rate; see [`Door`]. Returns how many may come in, and `None` if they are dropped.
    fn admit(&self, asking: &mut Asking) -> Result<Option<usize>> {
        let mut front = lock(&self.front);
        loop {
            if front.stopping {
                return Err(time_to_go());
            }
            if let Some(failure) = front.failure.take() {
                return Err(failure);
            }
            front = match front.door.enter(asking, monotonic()) {
                Entry::Come(n) => return Ok(Some(n)),
                Entry::Dropped => return Ok(None),
                Entry::Tell(when_full) => {
                    drop(front);
                    self.mention(&Said::Full(when_full.into()));
                    lock(&self.front)
                }
                Entry::WaitForRoom => self.changed.wait(front).unwrap_or_else(PoisonError::into_inner),
                Entry::WaitFor(wait) => {
                    self.changed.wait_timeout(front, wait).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

struct PostStore<T> {
    post: Arc<Post<T>>,
}

impl<T: ExchangeData> PostStore<T> {
    fn asking(&self, items: usize, block: Option<u64>, has_position: bool) -> Asking {
        let is_covered = has_position || self.position().is_some();
        let is_free = block.is_some() && self.post.terms.spark_compatible;
        Asking { items, block, is_covered, is_free, has_waited: false }
    }

    fn add(&self, items: impl Iterator<Item = T>) -> Result<()> {
        let mut guard = lock(&self.post.front);
        if guard.stopping {
            return Err(time_to_go());
        }
        let front = &mut *guard;
        let before = front.buffer.len();
        front.buffer.extend(items);
        let after = front.buffer.len();
        front.door.room.buffer(after - before);
        // Now and then is enough: items of a stream are much alike.
        if after == 1 || before.next_power_of_two() != after.next_power_of_two() {
            front.door.room.measure(after, size_of_items(&front.buffer));
        }
        let is_early = after as u64 >= front.door.room.cut_at();
        drop(guard);
        if is_early { self.post.cut_rest(&mut lock(&self.post.keeping)) } else { Ok(()) }
    }

    fn block(&self, items: Vec<T>, position: Option<Position>, stored: Box<dyn FnOnce() + Send>) -> Result<()> {
        let mut asking = self.asking(items.len(), Some(size_of_items(&items)), position.is_some());
        if self.post.admit(&mut asking)?.is_none() {
            return Ok(());
        }
        let mut keeping = lock(&self.post.keeping);
        if position.is_some() {
            self.post.cut_rest(&mut keeping)?;
        }
        if lock(&self.post.front).stopping {
            return Err(time_to_go());
        }
        self.post.keep(&mut keeping, items, position, false)?;
        drop(keeping);
        stored();
        Ok(())
    }
}

impl<T: ExchangeData> Store<T> for PostStore<T> {
    fn store(&mut self, item: T) -> Result<()> {
        let mut asking = self.asking(1, None, false);
        match self.post.admit(&mut asking)? {
            Some(_) => self.add(std::iter::once(item)),
            None => Ok(()),
        }
    }

    fn store_many(&mut self, items: Vec<T>) -> Result<()> {
        let mut items = items.into_iter();
        let mut asking = self.asking(items.len(), None, false);
        while items.len() > 0 {
            asking.items = items.len();
            let Some(piece) = self.post.admit(&mut asking)? else { break };
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
        lock(&self.post.keeping).position.clone()
    }

    fn report_error(&mut self, error: Error) {
        self.post.say_failed(&error);
    }

    fn is_stopped(&self) -> bool {
        lock(&self.post.front).stopping
    }

    fn on_stop(&mut self, wake: Box<dyn FnOnce() + Send>) {
        let mut front = lock(&self.post.front);
        if front.stopping {
            drop(front);
            wake();
        } else {
            front.on_stop = Some(wake);
        }
    }

    fn max_record(&self) -> usize {
        self.post.terms.max_record
    }
}
