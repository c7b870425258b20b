//! A durable program that is started again whenever it ends before its time.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::clock::{Clock, ManualClock};
use millstream_core::disk::Disk;
use millstream_core::{Error, ErrorKind, ExchangeData, Result, Time, secs};
use millstream_streaming::{Conf, DStream, MissedBatches, StreamingContext};

use crate::batches::Batches;
use crate::check::{Check, Rows};
use crate::sim_disk::SimDisk;

/// The folder of the checkpoint on a simulated disk.
const FOLDER: &str = "/checkpoint";

/// A program that has not come to what it had before in so much real time never will.
const PATIENCE: Duration = secs(20);

/// A program that has not come to its end after so many starts never will.
const STARTS: usize = 50;

/// A durable program on a simulated disk, which is started again whenever it ends before its time, until all its batches, one a
/// second, have ended. Its checkpoint is there, and files of its outputs.
///
/// # Example
///
/// ```
/// use millstream_testkit::{Check, Fault, Lives, SimDisk, batches, input};
///
/// let disk = SimDisk::new(7);
/// disk.fail_at(12, Fault::Crash);
/// let starts = Lives::new(Check::new(1, 1), &disk, 2).run(&|ssc| {
///     input(ssc, batches![[1, 2], [3]], 1).foreach_rdd(|rdd, _| rdd.count().map(drop));
///     Ok(())
/// })?;
/// assert_eq!(starts, 2);
/// # Ok::<(), millstream_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Lives<'a> {
    how: Check,
    disk: SimDisk,
    batches: usize,
    killed: Vec<usize>,
    most: usize,
    pace: Pace,
    conf: &'a dyn Fn(&mut Conf),
    before: &'a dyn Fn(usize),
}

impl std::fmt::Debug for Lives<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lives({} batches, {:?}, killed behind {:?})", self.batches, self.pace, self.killed)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// The clock goes on when the batch before has ended, and waits for no start.
    Steady,
    /// No two batches are ever under way at once.
    OneByOne,
    /// The clock goes on by so many batches at once.
    Hurried(usize),
}

impl<'a> Lives<'a> {
    /// A program that lives for so many batches.
    pub fn new(how: Check, disk: &SimDisk, batches: usize) -> Lives<'a> {
        let (disk, killed) = (disk.clone(), Vec::new());
        Lives { how, disk, batches, killed, most: STARTS, pace: Pace::Steady, conf: &|_| {}, before: &|_| {} }
    }

    /// Has the machine stopped behind these batches.
    #[must_use]
    pub fn killed_behind(self, batches: &[usize]) -> Lives<'a> {
        Lives { killed: batches.to_vec(), ..self }
    }

    /// Has no two batches under way at once, also behind a start, and states saved before their batch ends: then, with one thread, the
    /// same seed asks the disk for the same operations. At any other pace it need not.
    #[must_use]
    pub fn one_by_one(self) -> Lives<'a> {
        Lives { pace: Pace::OneByOne, ..self }
    }

    /// Lets so many batches be due at once. They overlap, and states are saved in the background: the same seed may ask the disk for
    /// other operations the next time.
    #[must_use]
    pub fn hurried(self, batches: usize) -> Lives<'a> {
        Lives { pace: Pace::Hurried(batches.max(1)), ..self }
    }

    /// Gives up after so many starts.
    #[must_use]
    pub fn at_most(self, starts: usize) -> Lives<'a> {
        Lives { most: starts, ..self }
    }

    /// Changes the program's settings.
    #[must_use]
    pub fn with_conf(self, conf: &'a dyn Fn(&mut Conf)) -> Lives<'a> {
        Lives { conf, ..self }
    }

    /// Has the outside do something before the clock reaches a batch, counted from 1: send something, say, and wait until that
    /// has arrived, or the program is about to stop.
    #[must_use]
    pub fn before_each(self, before: &'a dyn Fn(usize)) -> Lives<'a> {
        Lives { before, ..self }
    }

    /// Runs the program that `setup` builds. Returns how often it was started.
    ///
    /// # Errors
    ///
    /// The program cannot go on, for a reason that is no fault of the disk.
    pub fn run(&self, setup: &dyn Fn(&StreamingContext) -> Result<()>) -> Result<usize> {
        let mut clock = ManualClock::new(Time::ZERO);
        let mut kills = self.killed.iter().copied().peekable();
        let (mut starts, mut done) = (0, 0);
        loop {
            starts += 1;
            if starts > self.most {
                let text = format!("not at its end after {} starts", self.most);
                return Err(Error::new(ErrorKind::Internal, text));
            }
            if self.pace == Pace::OneByOne {
                clock = ManualClock::new(at(done));
            }
            let until = kills.peek().map_or(self.batches, |kill| (*kill).min(self.batches));
            match self.live(&clock, &mut done, until, setup) {
                Ok(()) if done >= self.batches && kills.peek().is_none() => return Ok(starts),
                // It is killed here.
                Ok(()) => {
                    kills.next();
                    self.disk.crash(starts as u64);
                }
                Err(error) if self.disk.is_down() || matches!(error.kind(), ErrorKind::Unavailable) => {}
                Err(error) => return Err(error),
            }
            self.disk.restart();
            self.disk.make_room();
        }
    }

    /// One life: to the batch `until`, or to an early end.
    fn live(
        &self,
        clock: &ManualClock,
        done: &mut usize,
        until: usize,
        setup: &dyn Fn(&StreamingContext) -> Result<()>,
    ) -> Result<()> {
        let mut conf = self.how.conf()?;
        conf.streaming.missed_batches = MissedBatches::Replay;
        conf.engine.save_in_background = self.pace != Pace::OneByOne;
        (self.conf)(&mut conf);
        let builder = self
            .how
            .builder(conf, secs(1))?
            .with_clock(Arc::new(clock.clone()) as Arc<dyn Clock>)
            .with_output_disk(Arc::new(self.disk.clone()) as Arc<dyn Disk>)
            .with_disk(Arc::new(self.disk.clone()) as Arc<dyn Disk>);
        let ssc = builder.get_or_create(Path::new(FOLDER), setup)?;
        let outcome = self.to_the_end(&ssc, clock, done, until);
        // The machine is gone before the process is: nothing that the end of the process writes counts. Where runs are to be
        // the same, that what is under way comes to its end.
        if outcome.is_ok() && self.pace != Pace::OneByOne {
            self.disk.kill();
        }
        ssc.stop()?;
        outcome
    }

    fn to_the_end(&self, ssc: &StreamingContext, clock: &ManualClock, done: &mut usize, until: usize) -> Result<()> {
        ssc.start()?;
        let step = if let Pace::Hurried(step) = self.pace { step } else { 1 };
        if *done > 0 {
            // First what an earlier life left.
            let settled = ssc.await_batch_or_timeout(at(*done), PATIENCE);
            ssc.await_termination_or_timeout(Duration::ZERO)?;
            if !settled {
                let text = format!("after a start the batch {} never ended: is the checkpoint lost?", at(*done));
                return Err(Error::new(ErrorKind::Internal, text));
            }
        }
        while *done < until {
            let next = (*done + step).min(until);
            (self.before)(next);
            clock.advance_to(at(next));
            let settled = ssc.await_batch(at(next));
            if !matches!(self.pace, Pace::Hurried(_)) {
                // What is saved in the background would be saved sooner or later otherwise.
                ssc.context().await_saves()?;
            }
            ssc.await_termination_or_timeout(Duration::ZERO)?;
            if !settled {
                let text = format!("the program stopped before the batch {}", at(next));
                return Err(Error::new(ErrorKind::Stopped, text));
            }
            *done = next;
        }
        Ok(())
    }
}

/// The time of a batch.
fn at(batch: usize) -> Time {
    Time::from_millis(batch as i64 * 1000)
}

/// Makes a stream that gets these batches, one a second from time 0, and empty ones behind them.
#[track_caller]
pub fn input<T: ExchangeData>(ssc: &StreamingContext, batches: Batches<T>, partitions: usize) -> DStream<T> {
    ssc.input(Rows::new(batches.rows, partitions, secs(1)))
}
