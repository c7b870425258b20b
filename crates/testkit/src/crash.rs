//! Running a durable program that is killed again and again, and seeing that nobody can tell from its outputs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use millstream_core::threads::lock;
use millstream_core::{Error, ErrorKind, ExchangeData, Result, Time, secs, textform};
use millstream_streaming::{Conf, DStream, StreamingContext};

use crate::batches::Batches;
use crate::check::{Check, Rows};
use crate::lives::Lives;
use crate::sim_disk::{Fault, SimDisk};
use crate::table::Table;

/// What a run that was interrupted came to.
#[derive(Debug)]
pub struct Survived {
    /// What the batches gave: one that ran several times gave the same each time.
    pub table: Table,
    /// How often the program was started.
    pub starts: usize,
    /// How often an output ran again that had ended before.
    pub repeats: usize,
    /// The disk behind it all.
    pub disk: SimDisk,
}

/// A sink that remembers batches by their keys, as one outside of the process would.
#[derive(Clone, Debug, Default)]
struct Sink {
    batches: Arc<Mutex<BTreeMap<Time, Vec<String>>>>,
    differences: Arc<Mutex<Vec<String>>>,
    repeats: Arc<Mutex<usize>>,
}

impl Sink {
    fn take<U: ExchangeData>(&self, at: Time, elements: &[U]) {
        let mut texts: Vec<String> =
            elements.iter().map(|e| textform::of(e).unwrap_or_else(|error| format!("<{error}>"))).collect();
        texts.sort();
        let mut batches = lock(&self.batches);
        match batches.get(&at) {
            Some(before) if *before != texts => {
                lock(&self.differences).push(format!("batch {at} gave {before:?} first, and then {texts:?}"));
            }
            Some(_) => *lock(&self.repeats) += 1,
            None => {
                batches.insert(at, texts);
            }
        }
    }
}

/// A program for [`survive`]: what it reads, how far it runs, and what happens to it.
pub struct Durable<'a, U> {
    /// How it is run.
    pub how: Check,
    /// Changes its settings.
    pub conf: &'a dyn Fn(&mut Conf),
    /// Builds the graph; the batches of the stream that it returns are what the program gives.
    pub build: &'a dyn Fn(&StreamingContext) -> Result<DStream<U>>,
    /// What the outside does before the clock reaches a batch, counted from 1: sends something, say, and waits until that
    /// has arrived, or the program is about to stop.
    pub before: &'a dyn Fn(usize),
    /// How many batches there are.
    pub batches: usize,
    /// Behind which of them it is killed.
    pub crashes: &'a [usize],
}

impl<U> std::fmt::Debug for Durable<'_, U> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Durable({} batches, killed behind {:?})", self.batches, self.crashes)
    }
}

/// Runs a program durably over batches, one a second, on a simulated disk; starts it again whenever it ends before its time,
/// and kills it behind the batches of the rows `CRASH`.
///
/// # Errors
///
/// As [`survive`].
pub fn run_through_crashes<T: ExchangeData, U: ExchangeData>(
    how: Check,
    disk: &SimDisk,
    batches: &Batches<T>,
    program: &dyn Fn(DStream<T>) -> DStream<U>,
    least: usize,
) -> Result<Survived> {
    run_at(&|lives| lives, how, disk, batches, program, least)
}

/// As [`run_through_crashes`], one batch at a time: with one thread, the disk is asked for the same again.
pub(crate) fn run_one_by_one<T: ExchangeData, U: ExchangeData>(
    how: Check,
    disk: &SimDisk,
    batches: &Batches<T>,
    program: &dyn Fn(DStream<T>) -> DStream<U>,
) -> Result<Survived> {
    run_at(&|lives| lives.one_by_one(), how, disk, batches, program, 0)
}

/// Says how a program lives.
type Pace = dyn for<'a> Fn(Lives<'a>) -> Lives<'a>;

fn run_at<T: ExchangeData, U: ExchangeData>(
    pace: &Pace,
    how: Check,
    disk: &SimDisk,
    batches: &Batches<T>,
    program: &dyn Fn(DStream<T>) -> DStream<U>,
    least: usize,
) -> Result<Survived> {
    let count = batches.rows.len().max(least);
    let build =
        |ssc: &StreamingContext| Ok(program(ssc.input(Rows::new(batches.rows.clone(), how.partitions(), secs(1)))));
    let (conf, before): (&dyn Fn(&mut Conf), &dyn Fn(usize)) = (&|_| {}, &|_| {});
    survive_at(pace, disk, &Durable { how, conf, build: &build, before, batches: count, crashes: &batches.crashes })
}

/// As [`run_through_crashes`], of a program that has outputs of its own: `attach` gives them to the stream of the batches, at
/// every start. Returns how often the program was started.
///
/// # Errors
///
/// The program cannot go on.
pub fn run_outputs_through_crashes<T: ExchangeData>(
    how: Check,
    disk: &SimDisk,
    batches: &Batches<T>,
    attach: &dyn Fn(DStream<T>),
) -> Result<usize> {
    let attached = |input: DStream<T>| {
        attach(input.clone());
        input
    };
    Ok(run_through_crashes(how, disk, batches, &attached, 0)?.starts)
}

/// Runs a program with an input of its own, one batch a second, on a simulated disk; starts it again whenever it ends before its
/// time, and kills it behind the batches that are named.
///
/// # Errors
///
/// The program cannot go on; or a batch that ran again gave something else than before. With what the disk was asked for.
pub fn survive<U: ExchangeData>(disk: &SimDisk, program: &Durable<'_, U>) -> Result<Survived> {
    survive_at(&|lives| lives, disk, program)
}

fn survive_at<U: ExchangeData>(pace: &Pace, disk: &SimDisk, program: &Durable<'_, U>) -> Result<Survived> {
    let sink = Sink::default();
    let setup = |ssc: &StreamingContext| {
        let sink = sink.clone();
        (program.build)(ssc)?.foreach_rdd(move |rdd, at| {
            sink.take(at, &rdd.collect()?);
            Ok(())
        });
        Ok(())
    };
    let lives = pace(Lives::new(program.how, disk, program.batches).killed_behind(program.crashes));
    let told = |error: Error| Error::new(error.kind(), format!("{error}\n{}", disk.trace()));
    let starts = lives.with_conf(program.conf).before_each(program.before).run(&setup).map_err(told)?;
    if let Some(difference) = lock(&sink.differences).first() {
        return Err(told(Error::new(ErrorKind::Internal, difference.clone())));
    }
    let mut table = Table::default();
    for (at, texts) in &*lock(&sink.batches) {
        table.put(*at, texts.clone());
    }
    let repeats = *lock(&sink.repeats);
    Ok(Survived { table, starts, repeats, disk: disk.clone() })
}

/// Says which operations of the disk a program makes durable steps with, by running it once without a fault.
///
/// # Panics
///
/// If the run fails.
#[track_caller]
pub fn durable_steps<T: ExchangeData, U: ExchangeData>(
    how: Check,
    batches: &Batches<T>,
    program: &dyn Fn(DStream<T>) -> DStream<U>,
) -> (Table, u64) {
    let disk = SimDisk::new(0);
    match run_through_crashes(how, &disk, batches, program, 0) {
        Ok(survived) => (survived.table, survived.disk.operations().len() as u64),
        Err(error) => panic!("without any fault: {error}"),
    }
}

/// As [`durable_steps`], of a program that runs one batch at a time.
#[track_caller]
pub(crate) fn steps_one_by_one<T: ExchangeData, U: ExchangeData>(
    how: Check,
    batches: &Batches<T>,
    program: &dyn Fn(DStream<T>) -> DStream<U>,
) -> (Table, u64) {
    let disk = SimDisk::new(0);
    match run_one_by_one(how, &disk, batches, program) {
        Ok(survived) => (survived.table, survived.disk.operations().len() as u64),
        Err(error) => panic!("without any fault: {error}"),
    }
}

/// Runs a program once for each operation that its checkpoint asks of the disk and each kind of fault there, and compares what
/// its batches give with what they give when nothing goes wrong.
///
/// The program runs one batch at a time, and saves states before their batch ends. With one thread a step is the same operation in every
/// run, so a fault that is found is found again; with more, and for states that are saved in the background, [`Lives`] has the runs.
///
/// Returns how many faults really happened.
///
/// # Example
///
/// ```
/// use millstream_testkit::{Check, Fault, batches, check_faults};
///
/// let faults = check_faults(Check::new(1, 1), &[Fault::Crash], &batches![[("a", 1)], [("a", 2)]], |pairs| {
///     pairs.update_state_by_key(|new, old: Option<i32>| Some(old.unwrap_or(0) + new.iter().sum::<i32>()))
/// });
/// assert!(faults > 10);
/// ```
///
/// # Panics
///
/// If a run gives something else, or cannot go on; with the operation, the fault, and what the disk was asked for.
#[track_caller]
#[allow(clippy::needless_pass_by_value, reason = "`batches![…]` reads better without an ampersand")]
pub fn check_faults<T: ExchangeData, U: ExchangeData>(
    how: Check,
    faults: &[Fault],
    batches: &Batches<T>,
    program: impl Fn(DStream<T>) -> DStream<U>,
) -> usize {
    let (want, steps) = steps_one_by_one(how, batches, &program);
    let mut fired = 0;
    for step in 1..=steps {
        for fault in faults {
            let disk = SimDisk::new(step);
            disk.fail_at(step, *fault);
            match run_one_by_one(how, &disk, batches, &program) {
                Ok(survived) => {
                    let got = survived.table;
                    assert!(got == want, "{fault:?} at {step}: expected\n{want}\n\nbut got\n{got}\n{}", disk.trace());
                }
                Err(error) => panic!("{fault:?} at {step}: {error}"),
            }
            fired += disk.fired().len();
        }
    }
    fired
}

impl Check {
    pub(crate) fn conf(&self) -> Result<Conf> {
        let mut conf = Conf::new(&format!("local[{}]", self.threads()), "test")?;
        conf.engine.default_parallelism = Some(self.partitions());
        conf.streaming.exclusive = false;
        Ok(conf)
    }
}
