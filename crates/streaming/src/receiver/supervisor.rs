//! Runs a receiver: starts it, stores what it gives, starts it again after a delay, and stops it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use millstream_core::clock::{Clock, Wake, monotonic};
use millstream_core::storage::{Block, BlockId};
use millstream_core::threads::{self, OwnedThread, lock};
use millstream_core::{Context, Error, ErrorKind, ExchangeData, Rdd, Result, StorageLevel, Time, panicked, secs};

use super::blocks::{BlockGenerator, BlockTracker, ReceivedBlock};
use super::rate::Limit;
use super::{Receiver, Store};
use crate::input::{InputContext, InputSource, Rate};
use crate::listener::{InputInfo, ReceiverInfo, StreamingEvent};

/// How long a stop waits for a receiver that is asked to go (S-127).
const PATIENCE: Duration = secs(10);

/// An input whose batches are made of the blocks of a receiver. Spark's `ReceiverInputDStream`, IN03.
pub(crate) struct ReceiverSource<R: Receiver> {
    receiver: Option<R>,
    desk: Option<Arc<Desk<R::Item>>>,
    thread: Option<OwnedThread>,
}

/// What the receiver's thread and the batch loop share.
struct Desk<T> {
    input: InputContext,
    /// Names the blocks, which may share their store with those of another streaming context.
    blocks: u64,
    name: String,
    level: StorageLevel,
    state: Mutex<DeskState<T>>,
    changed: Condvar,
}

struct DeskState<T> {
    generator: BlockGenerator<T>,
    tracker: BlockTracker,
    limit: Limit,
    stopping: bool,
    gone: bool,
    on_stop: Option<Box<dyn FnOnce() + Send>>,
    last_error: Option<(Error, Time)>,
}

impl<R: Receiver> ReceiverSource<R> {
    pub(crate) fn new(receiver: R) -> ReceiverSource<R> {
        ReceiverSource { receiver: Some(receiver), desk: None, thread: None }
    }
}

impl<R: Receiver> InputSource for ReceiverSource<R> {
    type Item = R::Item;
    type Allocation = Vec<ReceivedBlockRef>;

    fn start(&mut self, input: &InputContext) -> Result<()> {
        let Some(receiver) = self.receiver.take() else {
            return Err(millstream_core::bug!("a receiver was started twice"));
        };
        let now = monotonic();
        let desk = Arc::new(Desk {
            name: format!("{}-{}", receiver.name(), input.number()),
            level: receiver.storage_level(),
            input: input.clone(),
            blocks: {
                static COUNT: AtomicU64 = AtomicU64::new(0);
                COUNT.fetch_add(1, Ordering::Relaxed)
            },
            state: Mutex::new(DeskState {
                generator: BlockGenerator::new(input.conf().block_interval),
                tracker: BlockTracker::default(),
                limit: Limit::new(input.conf().receiver_max_rate, input.conf().backpressure_initial_rate, now),
                stopping: false,
                gone: false,
                on_stop: None,
                last_error: None,
            }),
            changed: Condvar::new(),
        });
        let waker: Arc<dyn Wake> = Arc::clone(&desk) as Arc<dyn Wake>;
        input.context().clock().subscribe(Arc::downgrade(&waker));
        input.hurry.subscribe(Arc::downgrade(&waker));
        let supervised = Arc::clone(&desk);
        let thread = threads::spawn(format!("receiver-{}", input.number()), move || supervise(receiver, &supervised))?;
        input.hurry.know(thread.id());
        self.thread = Some(thread);
        self.desk = Some(desk);
        Ok(())
    }

    fn allocate(&mut self, _: Time, _: Option<Rate>) -> Result<Vec<ReceivedBlockRef>> {
        let Some(desk) = &self.desk else { return Ok(Vec::new()) };
        let rest = {
            let mut state = lock(&desk.state);
            // While an older block is being kept, what came after it waits for the next batch, to stay behind it.
            let rest = if state.tracker.is_keeping() { None } else { state.generator.cut() };
            rest.map(|items| (state.tracker.number(), items))
        };
        if let Some((sequence, items)) = rest {
            desk.keep(sequence, items)?;
        }
        let blocks = lock(&desk.state).tracker.allocate();
        Ok(blocks.into_iter().map(ReceivedBlockRef).collect())
    }

    fn rdd(&self, allocation: &Vec<ReceivedBlockRef>, context: &Context) -> Result<Option<Rdd<R::Item>>> {
        let Some(desk) = &self.desk else { return Ok(None) };
        Ok(Some(context.blocks(allocation.iter().map(|block| desk.id(block.0.sequence)).collect())))
    }

    fn forget(&mut self, allocation: &Vec<ReceivedBlockRef>) {
        let Some(desk) = &self.desk else { return };
        if !desk.input.conf().unpersist {
            return;
        }
        for block in allocation {
            if let Err(error) = desk.input.context().env().blocks.remove(desk.id(block.0.sequence)) {
                tracing::warn!(%error, "a received block could not be removed");
            }
        }
    }

    fn describe(&self, allocation: &Vec<ReceivedBlockRef>) -> InputInfo {
        InputInfo { records: allocation.iter().map(|block| block.0.items).sum(), metadata: Default::default() }
    }

    fn keeps_to_limit(&self) -> bool {
        true
    }

    fn set_limit(&mut self, limit: Rate) {
        let Some(desk) = &self.desk else { return };
        lock(&desk.state).limit.set(limit.0, monotonic());
        desk.changed.notify_all();
    }

    fn has_left(&self) -> bool {
        self.desk.as_ref().is_some_and(|desk| {
            let state = lock(&desk.state);
            !state.generator.is_empty() || !state.tracker.is_empty()
        })
    }

    fn ask_to_stop(&mut self) {
        let Some(desk) = &self.desk else { return };
        let wake = {
            let mut state = lock(&desk.state);
            state.stopping = true;
            state.on_stop.take()
        };
        desk.changed.notify_all();
        if let Some(wake) = wake {
            wake();
        }
    }

    fn stop(&mut self, graceful: bool) {
        self.ask_to_stop();
        let (Some(desk), Some(thread)) = (&self.desk, self.thread.take()) else { return };
        if desk.wait_until_gone((!graceful).then_some(PATIENCE)) {
            thread.join();
        } else {
            tracing::warn!(receiver = %desk.name, "the receiver does not stop; its thread is left behind");
            thread.detach();
        }
    }
}

impl<R: Receiver> Drop for ReceiverSource<R> {
    /// Removes the blocks that no batch was given: the engine may live on.
    fn drop(&mut self) {
        let Some(desk) = &self.desk else { return };
        let left: Vec<_> = lock(&desk.state).tracker.allocate().into_iter().map(ReceivedBlockRef).collect();
        self.forget(&left);
    }
}

/// A block of an allocation.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct ReceivedBlockRef(ReceivedBlock);

/// The life of a receiver's thread.
fn supervise<R: Receiver>(mut receiver: R, desk: &Arc<Desk<R::Item>>) {
    while !lock(&desk.state).stopping {
        let info = desk.info(true);
        desk.input.bus.post(|| StreamingEvent::ReceiverStarted(info));
        let mut store = DeskStore { desk: Arc::clone(desk) };
        let outcome = catch_unwind(AssertUnwindSafe(|| receiver.receive(&mut store)))
            .unwrap_or_else(|payload| Err(panicked(&*payload)));
        // The delay counts from here, whatever listeners do meanwhile.
        let again = desk.clock().now() + desk.input.conf().receiver_restart_delay;
        let stopping = {
            let mut state = lock(&desk.state);
            state.on_stop = None;
            state.stopping
        };
        match outcome {
            Err(error) if !stopping => desk.failed(error),
            _ => {}
        }
        let info = desk.info(false);
        desk.input.bus.post(|| StreamingEvent::ReceiverStopped(info));
        if !stopping {
            desk.pause(again);
        }
    }
    lock(&desk.state).gone = true;
    desk.changed.notify_all();
}

impl<T: ExchangeData> Desk<T> {
    fn id(&self, sequence: u64) -> BlockId {
        BlockId::Received { stream: self.blocks, sequence }
    }

    fn clock(&self) -> &Arc<dyn Clock> {
        self.input.context().clock()
    }

    /// Keeps a block, and tells the tracker of it only then.
    fn keep(&self, sequence: u64, items: Vec<T>) -> Result<()> {
        let count = items.len() as u64;
        let kept = self.input.context().env().blocks.put(self.id(sequence), Block::exchange(items), self.level);
        let mut state = lock(&self.state);
        match &kept {
            Ok(()) => state.tracker.add(ReceivedBlock { sequence, items: count }),
            Err(_) => state.tracker.lost(),
        }
        kept
    }

    fn failed(&self, error: Error) {
        tracing::warn!(receiver = %self.name, %error, "a receiver failed");
        lock(&self.state).last_error = Some((error, self.clock().now()));
        let info = self.info(false);
        self.input.bus.post(|| StreamingEvent::ReceiverError(info));
    }

    fn info(&self, active: bool) -> ReceiverInfo {
        let state = lock(&self.state);
        ReceiverInfo {
            stream_id: self.input.number(),
            name: self.name.clone(),
            active,
            location: "localhost".to_owned(),
            last_error: state.last_error.as_ref().map(|(error, _)| error.clone()),
            last_error_time: state.last_error.as_ref().map(|(_, time)| *time),
        }
    }

    /// Waits by the clock, or until it is time to go.
    fn pause(&self, until: Time) {
        let mut state = lock(&self.state);
        while !state.stopping {
            state = match self.clock().until(until) {
                Some(left) if left.is_zero() => return,
                Some(left) => self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Waits until the receiver has gone: for as long as there is patience, or, without end, until somebody asks for
    /// a stop at once.
    fn wait_until_gone(&self, patience: Option<Duration>) -> bool {
        let deadline = patience.map(|patience| monotonic() + patience);
        let mut state = lock(&self.state);
        while !state.gone {
            if deadline.is_none() && self.input.hurry.is_asked_for() {
                return false;
            }
            state = match deadline.map(|deadline| deadline.saturating_sub(monotonic())) {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return false,
                Some(left) => self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
        true
    }
}

impl<T: Send> Wake for Desk<T> {
    fn wake(&self) {
        let state = lock(&self.state);
        self.changed.notify_all();
        drop(state);
    }
}

struct DeskStore<T> {
    desk: Arc<Desk<T>>,
}

fn time_to_go() -> Error {
    Error::new(ErrorKind::Stopped, "the receiver is being stopped")
}

impl<T: ExchangeData> DeskStore<T> {
    /// Waits for the rate by real time, as what is limited comes from outside; takes permits, and returns how many of `n` items may
    /// be stored now. A block may be stored whole.
    fn wait_for_rate(&self, n: usize, whole: bool) -> Result<usize> {
        let mut state = lock(&self.desk.state);
        while !state.stopping {
            let Some(limiter) = state.limit.limiter() else { return Ok(n) };
            let wait = limiter.wait(monotonic());
            if wait.is_zero() {
                let piece = if whole { n } else { n.min(limiter.piece()) };
                limiter.take(piece);
                return Ok(piece);
            }
            state = self.desk.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
        Err(time_to_go())
    }

    fn add(&self, items: impl Iterator<Item = T>) -> Result<()> {
        let now = self.desk.clock().now();
        let mut state = lock(&self.desk.state);
        if state.stopping {
            return Err(time_to_go());
        }
        let full = state.generator.add(items, now);
        let full = full.map(|items| (state.tracker.number(), items));
        drop(state);
        match full {
            Some((sequence, items)) => self.desk.keep(sequence, items),
            None => Ok(()),
        }
    }
}

impl<T: ExchangeData> Store<T> for DeskStore<T> {
    fn store(&mut self, item: T) -> Result<()> {
        self.wait_for_rate(1, false)?;
        self.add(std::iter::once(item))
    }

    fn store_many(&mut self, items: Vec<T>) -> Result<()> {
        let mut items = items.into_iter();
        while items.len() > 0 {
            let piece = self.wait_for_rate(items.len(), false)?;
            self.add(items.by_ref().take(piece))?;
        }
        Ok(())
    }

    fn store_block(&mut self, items: Vec<T>, stored: Box<dyn FnOnce() + Send>) -> Result<()> {
        if !self.desk.input.conf().spark_compatible {
            self.wait_for_rate(items.len(), true)?;
        }
        let sequence = {
            let mut state = lock(&self.desk.state);
            if state.stopping {
                return Err(time_to_go());
            }
            state.tracker.number()
        };
        self.desk.keep(sequence, items)?;
        stored();
        Ok(())
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
