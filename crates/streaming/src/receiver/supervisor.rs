//! Runs a receiver: starts it, stores what it gives, starts it again after a delay, and stops it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use millstream_core::clock::{Clock, Wake, monotonic};
use millstream_core::storage::{Block, BlockId, size_of_items};
use millstream_core::threads::{self, OwnedThread, lock};
use millstream_core::{Context, Error, ErrorKind, ExchangeData, Rdd, Result, StorageLevel, Time, panicked, secs};

use super::blocks::{BlockGenerator, BlockTracker, Given, ReceivedBlock, Ticket};
use super::door::Door;
use super::far::{Order, Seat, Seated};
use super::log::{Found, Logged, ReceiverLog};
use super::rate::Limit;
use super::room::{Kept, Room};
use super::store::DeskStore;
use super::{Position, Receiver};
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
pub(super) struct Desk<T> {
    pub(super) input: InputContext,
    /// Names the blocks, which may share their store with those of another streaming context.
    pub(super) blocks: u64,
    pub(super) name: String,
    reliable: bool,
    pub(super) level: StorageLevel,
    pub(super) log: Option<ReceiverLog>,
    /// Whether blocks are written to the log; if not, it is only there to be read.
    pub(super) logs: bool,
    /// The number of the first block of this run: no earlier one is in the block store.
    first: u64,
    /// If the receiver runs on executors.
    pub(super) far: Option<Seated>,
    pub(super) state: Mutex<DeskState<T>>,
    pub(super) changed: Condvar,
}

pub(super) struct DeskState<T> {
    pub(super) generator: BlockGenerator<T>,
    pub(super) tracker: BlockTracker,
    pub(super) door: Door,
    pub(super) stopping: bool,
    /// Whether the thread of the receiver, or of who keeps it running elsewhere, is over.
    pub(super) gone: bool,
    pub(super) on_stop: Option<Box<dyn FnOnce() + Send>>,
    last_error: Option<(Error, Time)>,
    /// Why nothing is kept any more: the log could not be written.
    pub(super) ended: Option<Error>,
    /// Blocks with lower numbers are needed by no batch.
    forgotten: u64,
    /// Where the receiver runs, if that is not here.
    pub(super) seat: Option<Seat>,
    /// Whether the last seat ended with its executor, so that another one is to be taken at once.
    pub(super) moves: bool,
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
        let left: Vec<u64> = given.blocks.iter().map(|block| block.sequence).collect();
        let left: Vec<u64> = left.into_iter().filter(|block| state.door.room.leave(*block)).collect();
        drop(state);
        if !left.is_empty() {
            desk.changed.notify_all();
            desk.order(&Order::Left(left));
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
        let far = seated(&receiver, input);
        let desk = Arc::new(Desk { logs, far, ..Desk::of(&receiver, input, log, tracker) });
        desk.enrol(receiver.preferred_location())?;
        let waker: Arc<dyn Wake> = Arc::clone(&desk) as Arc<dyn Wake>;
        input.context().clock().subscribe(Arc::downgrade(&waker));
        input.hurry.subscribe(Arc::downgrade(&waker));
        let supervised = Arc::clone(&desk);
        let thread = threads::spawn(format!("receiver-{}", input.number()), move || match &supervised.far {
            Some(far) => supervised.oversee(far),
            None => supervise(receiver, &supervised),
        })?;
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
        let blocks = if desk.far.is_some() { desk.still_there(given) } else { given.blocks.clone() };
        let ids = blocks.iter().map(|block| desk.id(block.sequence)).collect();
        let logged = blocks.iter().any(|block| block.handle.is_some());
        Ok(Some(match desk.input.durable().filter(|_| logged) {
            Some(folder) => context.blocks_or(ids, Logged::new(&desk.name, folder.name(), &blocks)),
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
        lock(&desk.state).door.limit.set(limit.0, monotonic());
        desk.changed.notify_all();
        desk.order(&Order::Rate(limit.0));
    }

    fn begun(&mut self, given: &Given) {
        self.leave(given);
    }

    fn pressure(&mut self) -> Pressure {
        let Some(desk) = &self.desk else { return Pressure::default() };
        let mut state = lock(&desk.state);
        Pressure { limit: state.door.limit.rate().map(|rate| rate as u64), ..state.door.room.take() }
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
        desk.order(&Order::Stop);
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
            desk.let_go();
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
            far: None,
            input: input.clone(),
            blocks: {
                static COUNT: AtomicU64 = AtomicU64::new(0);
                COUNT.fetch_add(1, Ordering::Relaxed)
            },
            state: Mutex::new(DeskState {
                generator: BlockGenerator::new(input.conf().block_interval),
                tracker,
                door: Door {
                    limit: Limit::new(input.conf().receiver_max_rate, input.conf().backpressure_initial_rate, now),
                    room,
                },
                stopping: false,
                gone: false,
                on_stop: None,
                last_error: None,
                ended: None,
                forgotten: 0,
                seat: None,
                moves: false,
            }),
            changed: Condvar::new(),
        }
    }
}

/// Says how a receiver runs on executors, if tasks do and it can.
fn seated<R: Receiver>(receiver: &R, input: &InputContext) -> Option<Seated> {
    let residents = input.context().residents()?;
    let travels = receiver.travels();
    if travels.is_none() {
        let name = name_of(receiver, input);
        tracing::info!(receiver = %name, "a receiver runs on the driver: it does not say how it travels (Receiver::travels)");
    }
    Some(Seated::new(residents, travels?, Arc::clone(&input.seats)))
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
    pub(super) fn id(&self, sequence: u64) -> BlockId {
        BlockId::Received { stream: self.blocks, sequence }
    }

    pub(super) fn clock(&self) -> &Arc<dyn Clock> {
        self.input.context().clock()
    }

    /// Keeps a block, durably if there is a log, and tells the tracker of it only then.
    pub(super) fn keep(
        &self,
        ticket: Ticket,
        items: Vec<T>,
        position: Option<Position>,
        from_buffer: bool,
    ) -> Result<()> {
        let (sequence, count, bytes) = (ticket.sequence, items.len() as u64, size_of_items(&items));
        let position = position.or(ticket.before);
        let (spills, is_news) = {
            let mut state = lock(&self.state);
            let spills = state.door.room.spills(count, bytes);
            (spills, spills && state.door.room.is_news())
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
        state.door.room.keep(sequence, count, bytes, from_buffer, outcome);
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

    /// Returns the blocks of a batch that can be read: of those that are in no log, what was lost with the executors that had them is left
    /// out, and told.
    fn still_there(&self, given: &Given) -> Vec<ReceivedBlock> {
        let blocks = &self.input.context().env().blocks;
        let is_there = |block: &ReceivedBlock| block.handle.is_some() || blocks.contains(self.id(block.sequence));
        let (there, lost): (Vec<_>, Vec<_>) = given.blocks.iter().copied().partition(is_there);
        if !lost.is_empty() {
            let (blocks, records) = (lost.len(), lost.iter().map(|block| block.items).sum::<u64>());
            let text = format!(
                "{blocks} blocks with {records} records that {} received were lost with the executors that kept them; a storage level with \
                 `_2` keeps a copy, and the log of a durable program loses nothing (R-48)",
                self.name
            );
            self.failed(Error::new(ErrorKind::Data, text));
        }
        there
    }

    /// Tells that as many items wait as may, and what becomes of more.
    pub(super) fn tell_full(&self, when_full: WhenFull) {
        let info = self.info(true);
        tracing::warn!(receiver = %self.name, ?when_full, "batches are too slow: as many items wait as may");
        self.input.bus.post(|| StreamingEvent::ReceiverFull(info, when_full));
    }

    /// Lets the log forget what no batch needs. Not in the batch's path, and not between a block and its acknowledgement.
    pub(super) fn tidy_up(&self) {
        let forgotten = std::mem::take(&mut lock(&self.state).forgotten);
        if let (Some(log), true) = (&self.log, forgotten > 0)
            && let Err(error) = log.forget_before(forgotten)
        {
            tracing::warn!(receiver = %self.name, %error, "the log of a receiver could not be tidied up");
        }
    }

    pub(super) fn failed(&self, error: Error) {
        tracing::warn!(receiver = %self.name, %error, "a receiver failed");
        lock(&self.state).last_error = Some((error, self.clock().now()));
        let info = self.info(false);
        self.input.bus.post(|| StreamingEvent::ReceiverError(info));
    }

    pub(super) fn info(&self, active: bool) -> ReceiverInfo {
        let state = lock(&self.state);
        ReceiverInfo {
            stream_id: self.input.number(),
            name: self.name.clone(),
            active,
            reliable: self.reliable,
            location: match (&state.seat, &self.far) {
                (Some(seat), _) => seat.executor.host.to_string(),
                (None, Some(_)) => "no executor".to_owned(),
                (None, None) => "localhost".to_owned(),
            },
            executor_id: state.seat.as_ref().map(|seat| seat.executor.id.to_string()),
            last_error: state.last_error.as_ref().map(|(error, _)| error.clone()),
            last_error_time: state.last_error.as_ref().map(|(_, time)| *time),
            pressure: Pressure { limit: state.door.limit.rate().map(|rate| rate as u64), ..state.door.room.total() },
        }
    }

    /// Waits by the clock, or until it is time to go.
    pub(super) fn pause(&self, until: Option<Time>) {
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
    pub(super) fn rest(&mut self) -> Option<(Ticket, Vec<T>)> {
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
