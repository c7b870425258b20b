//! Runs a receiver: starts it, stores what it gives, starts it again after a delay, and stops it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use millstream_core::clock::{Clock, Wake, monotonic};
use millstream_core::mutants::{Mutant, planted};
use millstream_core::storage::{Block, BlockId, size_of_items};
use millstream_core::threads::{self, OwnedThread, lock};
use millstream_core::{Context, Error, ErrorKind, ExchangeData, Rdd, Result, StorageLevel, Time, panicked, secs};

use super::blocks::{BlockGenerator, BlockTracker, Given, ReceivedBlock, Ticket};
use super::log::{Found, Logged, ReceiverLog};
use super::rate::Limit;
use super::room::{Kept, Place, Room};
use super::{Position, Receiver, Store};
use crate::conf::WhenFull;
use crate::input::{InputContext, InputSource, Rate};
use crate::listener::{InputInfo, Pressure, ReceiverInfo, StreamingEvent};
use crate::wal::RecordHandle;

/// How long a stop waits for a receiver that is asked to go (S-127).
const PATIENCE: Duration = secs(10);

/// An input whose batches are made of the blocks of a receiver. Spark's `ReceiverInputDStream`, IN03.
pub(crate) struct ReceiverSource<R: Receiver> {
    receiver: Option<R>,
    desk: Option<Arc<Desk<R::Item>>>,
    thread: Option<OwnedThread>,
    /// What earlier runs gave last.
    restored: Given,
}

/// What the receiver's thread and the batch loop share.
struct Desk<T> {
    input: InputContext,
    /// Names the blocks, which may share their store with those of another streaming context.
    blocks: u64,
    name: String,
    reliable: bool,
    level: StorageLevel,
    log: Option<ReceiverLog>,
    /// Whether blocks are written to the log; if not, it is only there to be read.
    logs: bool,
    /// The number of the first block of this run: no earlier one is in the block store.
    first: u64,
    state: Mutex<DeskState<T>>,
    changed: Condvar,
}

struct DeskState<T> {
    generator: BlockGenerator<T>,
    tracker: BlockTracker,
    limit: Limit,
    room: Room,
    stopping: bool,
    gone: bool,
    on_stop: Option<Box<dyn FnOnce() + Send>>,
    last_error: Option<(Error, Time)>,
    /// Why nothing is kept any more: the log could not be written.
    ended: Option<Error>,
    /// Blocks with lower numbers are needed by no batch.
    forgotten: u64,
}

impl<R: Receiver> ReceiverSource<R> {
    pub(crate) fn new(receiver: R) -> ReceiverSource<R> {
        ReceiverSource { receiver: Some(receiver), desk: None, thread: None, restored: Given::default() }
    }

    fn take(&mut self) -> Result<R> {
        self.receiver.take().ok_or_else(|| millstream_core::bug!("a receiver was started twice"))
    }

    /// Makes the room that blocks took which wait no longer.
    fn leave(&self, given: &Given) {
        let Some(desk) = &self.desk else { return };
        let mut state = lock(&desk.state);
        let left = given.blocks.iter().filter(|block| state.room.leave(block.sequence)).count();
        drop(state);
        if left > 0 {
            desk.changed.notify_all();
        }
    }

    /// Drops from memory what a batch had.
    fn drop_blocks(&self, given: &Given) {
        let Some(desk) = &self.desk else { return };
        if !desk.input.conf().unpersist {
            return;
        }
        for block in &given.blocks {
            if let Err(error) = desk.input.context().env().blocks.remove(desk.id(block.sequence)) {
                tracing::warn!(%error, "a received block could not be removed");
            }
        }
    }
}

/// Opens the log of a receiver, if it has one, with what is there and was given to no batch; and says whether it is to
/// be written.
fn open_log(input: &InputContext, name: &str, given: &Given) -> Result<(Option<ReceiverLog>, Vec<Found>, bool)> {
    let asked = input.conf().receiver_log_enable;
    let Some(folder) = input.durable() else {
        if asked == Some(true) {
            let text = "cannot enable the write-ahead log of receivers without a checkpoint directory (R-29): call \
                        checkpoint or get_or_create, or leave the setting out";
            return Err(Error::new(ErrorKind::Config, text));
        }
        return Ok((None, Vec::new(), false));
    };
    let logs = asked.unwrap_or(true);
    if !logs {
        tracing::warn!(receiver = name, "received data may be lost with the process: its log is switched off (R-38)");
        if folder.disk().list(folder.path())?.is_empty() {
            return Ok((None, Vec::new(), false));
        }
    }
    let (log, found) = ReceiverLog::open(folder, input.conf(), given.next)?;
    Ok((Some(log), found, logs))
}

impl<R: Receiver> InputSource for ReceiverSource<R> {
    type Item = R::Item;
    type Allocation = Given;

    fn start(&mut self, input: &InputContext) -> Result<()> {
        let receiver = self.take()?;
        let given = std::mem::take(&mut self.restored);
        let (log, found, logs) = open_log(input, &name_of(&receiver, input), &given)?;
        let tracker = BlockTracker::restored(given, found);
        let desk = Arc::new(Desk { logs, ..Desk::of(&receiver, input, log, tracker) });
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

    /// Blocks are read from the log alone: nothing is received, and nothing is written.
    fn replay(&mut self, input: &InputContext) -> Result<()> {
        let receiver = self.take()?;
        let tracker = BlockTracker::restored(Given { next: u64::MAX, ..Given::default() }, Vec::new());
        self.desk = Some(Arc::new(Desk::of(&receiver, input, None, tracker)));
        Ok(())
    }

    /// Remembers one batch more than it must: what was given last says where numbers and positions go on.
    fn memory(&self) -> Duration {
        Duration::from_millis(1)
    }

    /// Blocks have check sums.
    fn notices_change(&self) -> bool {
        true
    }

    fn restore(&mut self, given: &[(Time, Given)]) -> Result<()> {
        if let Some((_, last)) = given.last() {
            self.restored = Given { blocks: Vec::new(), ..last.clone() };
        }
        Ok(())
    }

    fn allocate(&mut self, _: Time, _: Option<Rate>) -> Result<Given> {
        let Some(desk) = &self.desk else { return Ok(Given::default()) };
        let rest = {
            let mut state = lock(&desk.state);
            if let Some(error) = &state.ended {
                let text = format!("{} can keep nothing durably any more: {}", desk.name, error.message());
                return Err(Error::new(error.kind(), text));
            }
            state.rest()
        };
        if let Some((ticket, items)) = rest {
            desk.keep(ticket, items, None, true)?;
        }
        Ok(lock(&desk.state).tracker.allocate())
    }

    fn rdd(&self, given: &Given, context: &Context) -> Result<Option<Rdd<R::Item>>> {
        let Some(desk) = &self.desk else { return Ok(None) };
        let lost = given.blocks.iter().filter(|block| block.sequence < desk.first && block.handle.is_none());
        let (count, items) = lost.fold((0, 0), |(count, items), block| (count + 1, items + block.items));
        if count > 0 {
            let text = format!(
                "{} cannot give again what it gave: {count} blocks with {items} records were in the memory of an earlier \
                 process only, as the log of receivers was off (spark.streaming.receiver.writeAheadLog.enable)",
                desk.name
            );
            return Err(Error::new(ErrorKind::Data, text));
        }
        let ids = given.blocks.iter().map(|block| desk.id(block.sequence)).collect();
        let logged = given.blocks.iter().any(|block| block.handle.is_some());
        Ok(Some(match desk.input.durable().filter(|_| logged) {
            Some(folder) => context.blocks_or(ids, Logged::new(&desk.name, folder.name(), &given.blocks)),
            None => context.blocks(ids),
        }))
    }

    fn forget(&mut self, given: &Given) {
        self.leave(given);
        self.drop_blocks(given);
        // What is let go at the end of the context is needed by the next run.
        if let (Some(desk), true) = (&self.desk, self.thread.is_some()) {
            let mut state = lock(&desk.state);
            state.forgotten = state.forgotten.max(given.next);
        }
    }

    fn remark(&self) -> Option<String> {
        let reliable = self.receiver.as_ref()?.is_reliable();
        let text = if reliable {
            "reliable: acknowledges what is kept"
        } else {
            "not reliable: what has not become a block is lost with the process"
        };
        Some(text.to_owned())
    }

    fn describe(&self, given: &Given) -> InputInfo {
        InputInfo { records: given.blocks.iter().map(|block| block.items).sum(), ..InputInfo::default() }
    }

    fn keeps_to_limit(&self) -> bool {
        true
    }

    fn set_limit(&mut self, limit: Rate) {
        let Some(desk) = &self.desk else { return };
        lock(&desk.state).limit.set(limit.0, monotonic());
        desk.changed.notify_all();
    }

    fn begun(&mut self, given: &Given) {
        self.leave(given);
    }

    fn pressure(&mut self) -> Pressure {
        let Some(desk) = &self.desk else { return Pressure::default() };
        let mut state = lock(&desk.state);
        Pressure { limit: state.limit.rate().map(|rate| rate as u64), ..state.room.take() }
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
        // Without a last batch, what has not become a block would be lost.
        if !graceful
            && desk.logs
            && let Some((ticket, items)) = { lock(&desk.state).rest() }
            && let Err(error) = desk.keep(ticket, items, None, true)
        {
            tracing::warn!(receiver = %desk.name, %error, "what was received last is not kept");
        }
    }
}

impl<R: Receiver> Drop for ReceiverSource<R> {
    /// Removes from memory the blocks that no batch was given: the engine may live on. In the log they stay.
    fn drop(&mut self) {
        let Some(desk) = &self.desk else { return };
        let left = lock(&desk.state).tracker.allocate();
        self.drop_blocks(&left);
        // A thread that was left behind writes nothing more: the next run will.
        if let Some(Err(error)) = desk.log.as_ref().map(ReceiverLog::close) {
            tracing::warn!(%error, "the log of a receiver could not be closed");
        }
    }
}

fn name_of<R: Receiver>(receiver: &R, input: &InputContext) -> String {
    format!("{}-{}", receiver.name(), input.number())
}

impl<T> Desk<T> {
    /// The desk of a receiver that has received nothing yet in this run.
    fn of<R: Receiver<Item = T>>(
        receiver: &R,
        input: &InputContext,
        log: Option<ReceiverLog>,
        tracker: BlockTracker,
    ) -> Desk<T> {
        let (now, room) = (monotonic(), room::<T>(input));
        Desk {
            name: name_of(receiver, input),
            reliable: receiver.is_reliable(),
            level: receiver.storage_level(),
            log,
            logs: false,
            first: tracker.next(),
            input: input.clone(),
            blocks: {
                static COUNT: AtomicU64 = AtomicU64::new(0);
                COUNT.fetch_add(1, Ordering::Relaxed)
            },
            state: Mutex::new(DeskState {
                generator: BlockGenerator::new(input.conf().block_interval),
                tracker,
                room,
                limit: Limit::new(input.conf().receiver_max_rate, input.conf().backpressure_initial_rate, now),
                stopping: false,
                gone: false,
                on_stop: None,
                last_error: None,
                ended: None,
                forgotten: 0,
            }),
            changed: Condvar::new(),
        }
    }
}

/// Makes the room in which a receiver's items wait.
fn room<T>(input: &InputContext) -> Room {
    let conf = input.conf();
    let bytes = conf.receiver_waiting_bytes.unwrap_or_else(|| (input.context().env().memory.limit() / 4).max(1));
    Room::new(conf.receiver_waiting_items.unwrap_or(u64::MAX), bytes, conf.when_full, size_of::<T>())
}

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
            // One that can keep nothing any more is not started again.
            let ended = lock(&desk.state).ended.is_some();
            desk.pause((!ended).then_some(again));
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

    /// Keeps a block, durably if there is a log, and tells the tracker of it only then.
    fn keep(&self, ticket: Ticket, items: Vec<T>, position: Option<Position>, from_buffer: bool) -> Result<()> {
        let (sequence, count, bytes) = (ticket.sequence, items.len() as u64, size_of_items(&items));
        let position = position.or(ticket.before);
        let (spills, is_news) = {
            let mut state = lock(&self.state);
            let spills = state.room.spills(count, bytes);
            (spills, spills && state.room.is_news())
        };
        if is_news {
            self.tell_full(WhenFull::Spill);
        }
        let kept =
            self.write(sequence, items, position.as_ref(), if spills { StorageLevel::DISK_ONLY } else { self.level });
        let mut state = lock(&self.state);
        let outcome = match (&kept, spills) {
            (Err(_), _) => Kept::Lost,
            (Ok(_), true) => Kept::Spilled,
            (Ok(_), false) => Kept::Here,
        };
        state.room.keep(sequence, count, bytes, from_buffer, outcome);
        let handle = match kept {
            Ok(handle) => handle,
            Err(error) => {
                state.tracker.lost(sequence);
                // A block that no log can take spoils nothing; but a log that was not written never will be again.
                if self.logs && !matches!(error.kind(), ErrorKind::Config | ErrorKind::Stopped) {
                    state.ended.get_or_insert_with(|| error.clone());
                }
                return Err(error);
            }
        };
        state.tracker.add(ReceivedBlock { sequence, items: count, handle }, position);
        Ok(())
    }

    /// Writes a block to the log, if there is one, and puts it where batches read it.
    fn write(
        &self,
        sequence: u64,
        items: Vec<T>,
        position: Option<&Position>,
        level: StorageLevel,
    ) -> Result<Option<RecordHandle>> {
        let handle = match self.log.as_ref().filter(|_| self.logs) {
            Some(log) => Some(log.append(sequence, &items, position)?),
            None => None,
        };
        let kept = self.input.context().env().blocks.put(self.id(sequence), Block::exchange(items), level);
        match (kept, handle) {
            (Err(error), None) => return Err(error),
            (Err(error), Some(_)) => tracing::warn!(%error, "a received block will be read from the log"),
            (Ok(()), _) => {}
        }
        Ok(handle)
    }

    /// Tells that as many items wait as may, and what becomes of more.
    fn tell_full(&self, when_full: WhenFull) {
        let info = self.info(true);
        tracing::warn!(receiver = %self.name, ?when_full, "batches are too slow: as many items wait as may");
        self.input.bus.post(|| StreamingEvent::ReceiverFull(info, when_full));
    }

    /// Lets the log forget what no batch needs. Not in the batch's path, and not between a block and its acknowledgement.
    fn tidy_up(&self) {
        let forgotten = std::mem::take(&mut lock(&self.state).forgotten);
        if let (Some(log), true) = (&self.log, forgotten > 0)
            && let Err(error) = log.forget_before(forgotten)
        {
            tracing::warn!(receiver = %self.name, %error, "the log of a receiver could not be tidied up");
        }
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
            reliable: self.reliable,
            location: "localhost".to_owned(),
            last_error: state.last_error.as_ref().map(|(error, _)| error.clone()),
            last_error_time: state.last_error.as_ref().map(|(_, time)| *time),
            pressure: Pressure { limit: state.limit.rate().map(|rate| rate as u64), ..state.room.total() },
        }
    }

    /// Waits by the clock, or until it is time to go.
    fn pause(&self, until: Option<Time>) {
        let mut state = lock(&self.state);
        while !state.stopping {
            state = match until.and_then(|until| self.clock().until(until)) {
                Some(left) if left.is_zero() => return,
                Some(left) => self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Waits until the receiver has gone: for as long as there is patience, or for as long as a graceful stop may take, unless somebody
    /// asks for a stop at once.
    fn wait_until_gone(&self, patience: Option<Duration>) -> bool {
        let deadline = patience.map(|patience| monotonic() + patience);
        let mut state = lock(&self.state);
        while !state.gone {
            if deadline.is_none() && self.input.hurry.is_asked_for() {
                return false;
            }
            let left =
                deadline.map(|deadline| deadline.saturating_sub(monotonic())).or_else(|| self.input.hurry.left());
            state = match left {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return false,
                Some(left) => self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
        true
    }
}

impl<T> DeskState<T> {
    /// Takes what has not become a block, unless an older one is being kept: what came after that waits, to stay behind it.
    fn rest(&mut self) -> Option<(Ticket, Vec<T>)> {
        let items = if self.tracker.is_keeping() { None } else { self.generator.cut() };
        items.map(|items| (self.tracker.number(), items))
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
            let place = state.room.place(n, block, is_covered);
            if !matches!(place, Place::Here(_)) && state.room.is_news() {
                drop(state);
                desk.tell_full(if place == Place::Nowhere { WhenFull::Shed } else { WhenFull::Block });
                state = lock(&desk.state);
                continue;
            }
            let here = match place {
                Place::Here(here) => here,
                Place::Nowhere => {
                    state.room.shed(n);
                    return Ok(None);
                }
                Place::Outside => {
                    if !std::mem::replace(has_waited, true) {
                        state.room.block(n);
                    }
                    state = desk.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
            };
            let Some(limiter) = state.limit.limiter().filter(|_| !is_free) else { return Ok(Some(here)) };
            let wait = limiter.wait(monotonic());
            if wait.is_zero() {
                let piece = if block.is_some() { here } else { here.min(limiter.piece()) };
                limiter.take(piece);
                return Ok(Some(piece));
            }
            state = desk.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
        Err(time_to_go())
    }

    fn add(&self, items: impl Iterator<Item = T>) -> Result<()> {
        let now = self.desk.clock().now();
        let mut guard = lock(&self.desk.state);
        if guard.stopping {
            return Err(time_to_go());
        }
        let DeskState { generator, tracker, room, .. } = &mut *guard;
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
