//! Running a streaming program over batches, under a manual clock, in many ways.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_core::checkpoint::MemoryCheckpoints;
use millstream_core::clock::{Clock, ManualClock};
use millstream_core::threads::lock;
use millstream_core::{Context, ExchangeData, Rdd, Result, Time, as_millis, secs};
use millstream_streaming::{Conf, DStream, InputSource, Rate, StreamingContext, StreamingContextBuilder};

use crate::backend::ThroughBytes;
use crate::batches::{Batches, Row};
use crate::crash::run_through_crashes;
use crate::literal::Literal;
use crate::sim_disk::SimDisk;
use crate::table::Table;

/// A streaming context for a test: its clock stands still until the test moves it, its checkpoints are kept in memory, and
/// it may live beside others.
///
/// # Example
///
/// ```
/// use millstream_testkit::{StreamTest, batches};
///
/// let mut test = StreamTest::new();
/// let numbers = test.input(batches![[1, 2], [3]]);
/// let sums = test.collect(&numbers.reduce(|a, b| a + b));
/// test.run(2)?;
/// assert_eq!(sums.table().to_string(), "1s 3\n2s 3");
/// # Ok::<(), millstream_core::Error>(())
/// ```
#[derive(Debug)]
pub struct StreamTest {
    ssc: StreamingContext,
    clock: ManualClock,
    partitions: usize,
    interval: Duration,
    now: Time,
}

/// How a program is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    partitions: usize,
    threads: usize,
    place: Place,
}

/// Where stages run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Threads,
    /// On threads, as if those were another process.
    ThroughBytes,
    /// In other processes.
    #[cfg(feature = "cluster")]
    Cluster,
}

impl Check {
    /// Runs on `partitions` partitions and `threads` threads.
    pub fn new(partitions: usize, threads: usize) -> Check {
        Check { partitions, threads, place: Place::Threads }
    }

    /// Writes every stage to bytes and reads it back.
    #[must_use]
    pub fn through_bytes(self) -> Check {
        Check { place: Place::ThroughBytes, ..self }
    }

    /// Runs on a cluster of two executors with one slot each, which are processes of the test binary and are begun with the
    /// first test that asks.
    #[cfg(feature = "cluster")]
    #[must_use]
    pub fn on_cluster(self) -> Check {
        Check { place: Place::Cluster, ..self }
    }

    /// Returns the ways to run so, everywhere: on threads, through bytes, and, with the feature `cluster`, in other processes.
    pub fn everywhere(self) -> Vec<Check> {
        let places = [self, self.through_bytes()];
        #[cfg(feature = "cluster")]
        let places = places.into_iter().chain([self.on_cluster()]);
        places.into_iter().collect()
    }

    /// Says whether it runs in other processes, which takes longer.
    pub fn is_elsewhere(&self) -> bool {
        !matches!(self.place, Place::Threads | Place::ThroughBytes)
    }

    pub(crate) fn partitions(&self) -> usize {
        self.partitions
    }

    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Begins a context that runs so.
    pub(crate) fn builder(&self, conf: Conf, interval: Duration) -> Result<StreamingContextBuilder> {
        let builder = StreamingContext::builder(conf, interval).with_app_id("test");
        Ok(match self.place {
            Place::Threads => builder,
            Place::ThroughBytes => builder.with_backend(Arc::new(ThroughBytes::new(self.threads)?)),
            #[cfg(feature = "cluster")]
            Place::Cluster => builder.with_backend(crate::cluster::shared()?),
        })
    }

    /// All ways in which [`check`] runs a program.
    pub fn all() -> Vec<Check> {
        let mut all: Vec<Check> = [1, 2, 7].into_iter().flat_map(|p| [Check::new(p, 1), Check::new(p, 4)]).collect();
        all.extend([1, 2, 7].map(|p| Check::new(p, 4).through_bytes()));
        #[cfg(feature = "cluster")]
        all.push(Check::new(3, 2).on_cluster());
        all
    }

    /// Returns a context that runs so, with a batch every second from time 0.
    ///
    /// # Panics
    ///
    /// If the system gives no more threads.
    #[track_caller]
    pub fn context(&self) -> StreamTest {
        self.with_conf(secs(1), |_| {})
    }

    /// As [`context`](Self::context), with a batch every `interval` and settings that `change` changes.
    ///
    /// # Panics
    ///
    /// If the system gives no more threads, or the settings cannot work.
    #[track_caller]
    pub fn with_conf(&self, interval: Duration, change: impl FnOnce(&mut Conf)) -> StreamTest {
        let made: Result<StreamTest> = (|| {
            let mut conf = self.conf()?;
            change(&mut conf);
            let clock = ManualClock::new(Time::ZERO);
            let builder = self.builder(conf, interval)?.with_clock(Arc::new(clock.clone()) as Arc<dyn Clock>);
            let (ssc, partitions) = (builder.build()?, self.partitions);
            ssc.context().set_checkpoint_store(Arc::new(MemoryCheckpoints::new()));
            Ok(StreamTest { ssc, clock, partitions, interval, now: Time::ZERO })
        })();
        match made {
            Ok(test) => test,
            Err(error) => panic!("the test's context cannot be made: {error}"),
        }
    }
}

impl StreamTest {
    /// Makes a context on two partitions and two threads, with a batch every second from time 0.
    ///
    /// # Panics
    ///
    /// If the system gives no more threads.
    #[track_caller]
    #[allow(clippy::new_without_default, reason = "a default that starts threads would surprise")]
    pub fn new() -> StreamTest {
        Check::new(2, 2).context()
    }

    /// Returns the streaming context.
    pub fn ssc(&self) -> &StreamingContext {
        &self.ssc
    }

    /// Returns the clock.
    pub fn clock(&self) -> &ManualClock {
        &self.clock
    }

    /// Makes a stream that gets these batches, and empty ones after them.
    #[track_caller]
    pub fn input<T: ExchangeData>(&self, batches: Batches<T>) -> DStream<T> {
        self.ssc.input(Rows { rows: batches.rows, partitions: self.partitions, interval: self.interval })
    }

    /// Collects what a stream gives.
    #[track_caller]
    pub fn collect<T: ExchangeData>(&self, stream: &DStream<T>) -> Collected {
        let collected = Collected { table: Arc::default() };
        let table = Arc::clone(&collected.table);
        stream.foreach_rdd(move |rdd, time| {
            let elements = rdd.collect()?;
            lock(&table).add(time, &elements);
            Ok(())
        });
        collected
    }

    /// Starts, if need be, and runs `count` batches, each to its end before the next.
    ///
    /// # Errors
    ///
    /// What `start` or a batch fails with.
    pub fn run(&mut self, count: usize) -> Result<()> {
        self.ssc.start()?;
        for _ in 0..count {
            self.now += self.interval;
            self.clock.advance_to(self.now);
            if !self.ssc.await_batch(self.now) {
                break;
            }
            // What is saved in the background would be saved sooner or later otherwise.
            self.ssc.context().await_saves()?;
        }
        self.ssc.await_termination_or_timeout(Duration::ZERO).map(|_| ())
    }
}

impl Drop for StreamTest {
    fn drop(&mut self) {
        if let Err(error) = self.ssc.stop() {
            eprintln!("the test's context did not stop: {error}");
        }
    }
}

/// What a stream gave, batch by batch.
#[derive(Clone, Debug)]
pub struct Collected {
    table: Arc<Mutex<Table>>,
}

impl Collected {
    /// Returns the table so far.
    pub fn table(&self) -> Table {
        lock(&self.table).clone()
    }
}

/// Gives a test's batches.
pub(crate) struct Rows<T> {
    rows: Vec<Row<T>>,
    partitions: usize,
    interval: Duration,
}

impl<T> Rows<T> {
    pub(crate) fn new(rows: Vec<Row<T>>, partitions: usize, interval: Duration) -> Rows<T> {
        Rows { rows, partitions, interval }
    }
}

impl<T: ExchangeData> InputSource for Rows<T> {
    type Item = T;
    /// The number of the row.
    type Allocation = u64;

    fn allocate(&mut self, batch: Time, _: Option<Rate>) -> Result<u64> {
        Ok(u64::try_from(batch.as_millis() / as_millis(self.interval).max(1) - 1).unwrap_or(u64::MAX))
    }

    /// A table is the test's, and stays as it is.
    fn notices_change(&self) -> bool {
        true
    }

    fn rdd(&self, row: &u64, context: &Context) -> Result<Option<Rdd<T>>> {
        let elements = match self.rows.get(*row as usize) {
            Some(Row::Missing | Row::Crash) => return Ok(None),
            Some(Row::Elements(elements)) => elements.clone(),
            None => Vec::new(),
        };
        Ok(Some(context.parallelize(elements, self.partitions)))
    }

    fn describe(&self, row: &u64) -> millstream_streaming::InputInfo {
        let records = match self.rows.get(*row as usize) {
            Some(Row::Elements(elements)) => elements.len() as u64,
            _ => 0,
        };
        millstream_streaming::InputInfo { records, ..Default::default() }
    }
}

fn run_once<T: ExchangeData, U: ExchangeData>(
    how: Check,
    batches: Batches<T>,
    program: &dyn Fn(DStream<T>) -> DStream<U>,
    least: usize,
) -> Result<Table> {
    if !batches.crashes.is_empty() {
        let survived = run_through_crashes(how, &SimDisk::new(0), &batches, program, least)?;
        return Ok(survived.table);
    }
    let mut test = how.context();
    let count = batches.rows.len().max(least);
    let collected = test.collect(&program(test.input(batches)));
    test.run(count)?;
    Ok(collected.table())
}

/// Runs a program over batches, one a second, in every way there is, and compares what each batch gives with a table.
///
/// The table has a line for each batch that gives something: its time, and its elements with blanks between, in the form
/// in which `print` shows them (blanks behind commas are ignored). The order of elements is not compared. A table that
/// goes on behind the last batch has empty batches run.
///
/// With a row `CRASH` among the batches the program is durable, on a simulated disk; there it is killed, and started again.
///
/// # Panics
///
/// If a run gives something else, or fails; with both tables, and how it was run.
#[track_caller]
#[allow(clippy::needless_pass_by_value, reason = "`batches![…]` reads better without an ampersand")]
pub fn check<T: ExchangeData, U: ExchangeData>(
    batches: Batches<T>,
    program: impl Fn(DStream<T>) -> DStream<U>,
    expected: &str,
) {
    check_with(&Check::all(), &batches, &program, expected);
}

/// As [`check`], without the runs through bytes: for programs whose closures capture what cannot travel.
///
/// # Panics
///
/// As [`check`].
#[track_caller]
#[allow(clippy::needless_pass_by_value, reason = "as for `check`")]
pub fn check_local<T: ExchangeData, U: ExchangeData>(
    batches: Batches<T>,
    program: impl Fn(DStream<T>) -> DStream<U>,
    expected: &str,
) {
    let local: Vec<Check> = Check::all().into_iter().filter(|how| how.place == Place::Threads).collect();
    check_with(&local, &batches, &program, expected);
}

#[track_caller]
fn check_with<T: ExchangeData, U: ExchangeData>(
    ways: &[Check],
    batches: &Batches<T>,
    program: &dyn Fn(DStream<T>) -> DStream<U>,
    expected: &str,
) {
    let want = Table::parse(expected);
    let least = want.last().map_or(0, |last| (last.as_millis() / 1000) as usize);
    let want = want.sorted();
    for how in ways {
        match run_once(*how, batches.clone(), program, least) {
            Ok(got) => {
                let got = got.sorted();
                assert!(got == want, "expected\n{want}\n\nbut {how:?} gave\n{got}\n");
            }
            Err(error) => panic!("{how:?} failed: {error}"),
        }
    }
}

/// Runs a program over batches, one a second, and returns what it gave, a line a batch, elements in the order of their
/// texts.
///
/// # Panics
///
/// If the run fails.
#[track_caller]
pub fn show<L: Literal, U: ExchangeData>(
    batches: impl IntoIterator<Item = Vec<L>>,
    program: impl Fn(DStream<L::Element>) -> DStream<U>,
) -> String {
    let rows = batches.into_iter().map(Row::of).collect();
    match run_once(Check::new(2, 2), Batches::new(rows), &program, 0) {
        Ok(table) => table.sorted().to_string(),
        Err(error) => panic!("{error}"),
    }
}

/// Runs a program that has its own outputs over batches, one a second.
///
/// # Panics
///
/// If the run fails.
#[track_caller]
pub fn run<L: Literal, R>(batches: impl IntoIterator<Item = Vec<L>>, program: impl Fn(DStream<L::Element>) -> R) {
    let rows: Vec<_> = batches.into_iter().map(Row::of).collect();
    let count = rows.len();
    let mut test = StreamTest::new();
    program(test.input(Batches::new(rows)));
    if let Err(error) = test.run(count) {
        panic!("{error}");
    }
}
