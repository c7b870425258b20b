//! The driver's side: keeps a receiver running on some executor, and takes what it says of its blocks.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use millstream_core::clock::Wake;
use millstream_core::plan::away::read_error;
use millstream_core::plan::resident::{ResidentHost, Residents};
use millstream_core::threads::lock;
use millstream_core::{Error, ErrorKind, ExchangeData, ExecutorInfo, Result, codec};

use super::{Kept, Order, Said, Terms};
use crate::listener::StreamingEvent;
use crate::receiver::blocks::ReceivedBlock;
use crate::receiver::placement::Seats;
use crate::receiver::room;
use crate::receiver::supervisor::Desk;
use crate::receiver::travel::Travelling;

/// What a desk needs to have its receiver run on an executor.
pub(in crate::receiver) struct Seated {
    residents: Arc<dyn Residents>,
    receiver: Travelling,
    seats: Arc<Seats>,
    /// What a receiver says is heard one after the other, and not beside the begin or the end of its seat: who is seated next goes
    /// on behind all that was heard.
    turn: Mutex<()>,
}

/// Where a receiver runs now.
#[derive(Debug)]
pub(in crate::receiver) struct Seat {
    resident: u64,
    pub(in crate::receiver) executor: ExecutorInfo,
    /// Whether it receives, as far as listeners have been told.
    active: bool,
    /// Whether it has been told to end, as its executor leaves.
    leaves: bool,
}

/// How a seat ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    /// The receiver may begin elsewhere at once.
    Moves,
    /// It is started again after a while, as it would end again.
    Waits,
}

impl Seated {
    pub(in crate::receiver) fn new(residents: Arc<dyn Residents>, receiver: Travelling, seats: Arc<Seats>) -> Seated {
        Seated { residents, receiver, seats, turn: Mutex::default() }
    }

    fn tell(&self, seat: &Seat, order: &Order) {
        match codec::encode(order) {
            Ok(order) => self.residents.tell(seat.resident, Bytes::from(order)),
            Err(error) => tracing::error!(%error, "a receiver cannot be told {order:?}"),
        }
    }
}

fn elsewhere() -> Error {
    Error::new(ErrorKind::Stopped, "this receiver has been let go: it runs elsewhere, or not at all any more")
}

impl<T: ExchangeData> Desk<T> {
    /// Enrols a receiver among those to be placed, and makes sure that it can travel.
    ///
    /// # Errors
    ///
    /// The kind is `User`: it cannot.
    pub(in crate::receiver) fn enrol(self: &Arc<Self>, preferred: Option<String>) -> Result<()> {
        let Some(far) = &self.far else { return Ok(()) };
        super::begin::<T>(&self.terms(), &far.receiver)?;
        let waker: Arc<dyn Wake> = Arc::clone(self) as Arc<dyn Wake>;
        far.residents.watch(Arc::downgrade(&waker));
        far.seats.want(self.input.number(), preferred, Arc::downgrade(&waker));
        Ok(())
    }

    fn terms(&self) -> Terms {
        let (conf, mut state) = (self.input.conf(), lock(&self.state));
        let logs = self.logs && self.log.is_some();
        Terms {
            input: self.input.number(),
            stream: self.blocks,
            next: state.tracker.skip(),
            position: state.tracker.position().cloned(),
            waiting: state.door.room.waiting(),
            // What is in the log needs no second copy.
            level: if logs { self.level.on_one_machine() } else { self.level },
            logs,
            block_interval: conf.block_interval,
            restart_delay: conf.receiver_restart_delay,
            max_rate: conf.receiver_max_rate,
            initial_rate: conf.backpressure_initial_rate,
            rate: state.door.limit.rate(),
            waiting_items: conf.receiver_waiting_items,
            waiting_bytes: conf.receiver_waiting_bytes,
            when_full: conf.when_full.into(),
            max_record: conf.max_record,
            spark_compatible: conf.spark_compatible,
        }
    }

    /// The life of the thread of a receiver that runs on executors: wherever it ends, it begins again elsewhere.
    pub(in crate::receiver) fn oversee(self: &Arc<Self>, far: &Seated) {
        while let Some(executor) = self.next_executor(far) {
            let over = match self.lodge(far, &executor) {
                Ok(()) => self.until_over(),
                Err(error) => {
                    // Who is just gone will not be chosen again.
                    self.failed(error);
                    Over::Waits
                }
            };
            let has_ended = lock(&self.state).ended.is_some();
            if has_ended {
                // Nothing is kept any more.
                self.pause(None);
            } else if over == Over::Waits {
                self.pause(Some(self.clock().now() + self.input.conf().receiver_restart_delay));
            }
        }
        lock(&self.state).gone = true;
        self.changed.notify_all();
    }

    /// Waits for an executor; nothing if it is time to go.
    fn next_executor(&self, far: &Seated) -> Option<ExecutorInfo> {
        let mut state = lock(&self.state);
        while !state.stopping {
            if let Some(executor) = far.seats.choose(self.input.number(), &far.residents.executors()) {
                return Some(executor);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        None
    }

    /// Has the receiver begin on an executor.
    fn lodge(self: &Arc<Self>, far: &Seated, executor: &ExecutorInfo) -> Result<()> {
        let _turn = lock(&far.turn);
        let plan = super::begin::<T>(&self.terms(), &far.receiver)?;
        let (env, host) = (self.input.context().env(), Arc::clone(self) as Arc<dyn ResidentHost>);
        let resident = far.residents.begin(env, &executor.id, plan, host)?;
        let mut state = lock(&self.state);
        let seat = Seat { resident, executor: executor.clone(), active: false, leaves: false };
        if state.stopping {
            far.tell(&seat, &Order::Stop);
        }
        state.seat = Some(seat);
        Ok(())
    }

    /// Waits until the seat is empty again.
    fn until_over(&self) -> Over {
        let mut state = lock(&self.state);
        while state.seat.is_some() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if std::mem::take(&mut state.moves) { Over::Moves } else { Over::Waits }
    }

    /// Tells the receiver something, wherever it runs.
    pub(in crate::receiver) fn order(&self, order: &Order) {
        if let Some(far) = &self.far
            && let Some(seat) = &lock(&self.state).seat
        {
            far.tell(seat, order);
        }
    }

    /// Lets a receiver go that does not end: what it says is heard no more.
    pub(in crate::receiver) fn let_go(&self) {
        let Some(far) = &self.far else { return };
        let _turn = lock(&far.turn);
        let seat = lock(&self.state).seat.take();
        if let Some(seat) = seat {
            far.residents.let_go(seat.resident);
        }
        self.changed.notify_all();
    }

    /// Takes note of a block that an executor has: in the log, if there is one, and in the list for batches only then.
    fn take(&self, far: &Seated, resident: u64, kept: Kept) -> Result<()> {
        let Kept { sequence, items, bytes, position, spilled, written, held } = kept;
        {
            let mut state = lock(&self.state);
            state.door.room.noted(held.into());
            if let Some(error) = &state.ended {
                return Err(error.clone());
            }
            if !state.tracker.number_as(sequence) {
                return Err(millstream_core::bug!("block {sequence} of {} was said before", self.name));
            }
        }
        let logged = match (self.log.as_ref().filter(|_| self.logs), &written) {
            (Some(log), Some(written)) => log.append_written(sequence, items, written, position.as_ref()).map(Some),
            (Some(_), None) => Err(millstream_core::bug!("a block that is to be in a log came without its items")),
            (None, _) => Ok(None),
        };
        let is_there = far.residents.keeps(resident, self.id(sequence));
        let mut state = lock(&self.state);
        let handle = match logged {
            Ok(None) if !is_there => {
                state.tracker.lost(sequence);
                return Err(elsewhere());
            }
            Ok(handle) => handle,
            Err(error) => {
                state.tracker.lost(sequence);
                // A block that no log can take spoils nothing; but a log that was not written never will be again.
                if !matches!(error.kind(), ErrorKind::Config | ErrorKind::Stopped) {
                    state.ended.get_or_insert_with(|| error.clone());
                }
                return Err(error);
            }
        };
        if !spilled {
            state.door.room.keep(sequence, items, bytes, false, room::Kept::Here);
        }
        state.tracker.add(ReceivedBlock { sequence, items, handle }, position);
        Ok(())
    }

    /// Marks whether the receiver receives, and tells listeners.
    fn set_active(&self, active: bool) {
        if let Some(seat) = &mut lock(&self.state).seat {
            seat.active = active;
        }
        let info = self.info(active);
        self.input.bus.post(|| match active {
            true => StreamingEvent::ReceiverStarted(info),
            false => StreamingEvent::ReceiverStopped(info),
        });
    }
}

impl<T: ExchangeData> ResidentHost for Desk<T> {
    fn asked(&self, resident: u64, message: Bytes) -> Result<Bytes> {
        let Some(far) = &self.far else { return Err(elsewhere()) };
        let said: Said = codec::decode(&message)?;
        let _turn = lock(&far.turn);
        {
            let state = lock(&self.state);
            let seat = state.seat.as_ref().filter(|seat| seat.resident == resident).ok_or_else(elsewhere)?;
            if matches!(said, Said::Starts) && (state.stopping || state.ended.is_some() || seat.leaves) {
                return Err(elsewhere());
            }
        }
        match said {
            Said::Starts => self.set_active(true),
            Said::Stopped => self.set_active(false),
            Said::Failed(written) => self.failed(read_error(&written)?),
            Said::Full(when_full) => self.tell_full(when_full.into()),
            Said::Held(held) => lock(&self.state).door.room.noted(held.into()),
            Said::Block(kept) => {
                self.take(far, resident, kept)?;
                self.tidy_up();
            }
        }
        Ok(Bytes::new())
    }

    fn over(&self, resident: u64, how: Result<()>) {
        let Some(far) = &self.far else { return };
        let _turn = lock(&far.turn);
        let seat = {
            let mut state = lock(&self.state);
            let Some(seat) = state.seat.take_if(|seat| seat.resident == resident) else { return };
            let is_lost = how.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unavailable);
            state.moves = seat.leaves || is_lost;
            seat
        };
        if let Err(error) = how {
            let text = format!("{} on {}: {}", seat.executor.id, seat.executor.host, error.message());
            self.failed(Error::new(error.kind(), text));
        }
        if seat.active {
            self.set_active(false);
        }
        self.changed.notify_all();
    }

    fn leaves(&self, resident: u64) {
        let Some(far) = &self.far else { return };
        let mut state = lock(&self.state);
        if let Some(seat) = state.seat.as_mut().filter(|seat| seat.resident == resident) {
            seat.leaves = true;
            far.tell(seat, &Order::Stop);
        }
    }
}
