//! Builds of a program that follow each other on one simulated disk.
#![allow(dead_code, reason = "each test takes what it needs")]

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_core::clock::{Clock, ManualClock};
use millstream_core::disk::Disk;
use millstream_core::threads::lock;
use millstream_core::{Context, ErrorKind, ExchangeData, Rdd, Result, Time, secs};
use millstream_streaming::{Conf, DStream, InputSource, Rate, StreamingContext};
use millstream_testkit::SimDisk;
use serde::{Deserialize, Serialize};

/// A state of the first builds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sum {
    pub(crate) total: i64,
}

/// And of later ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SumAndCount {
    pub(crate) total: i64,
    pub(crate) count: i64,
}

/// Gives one pair a batch, of its number.
pub(crate) struct Ticks;

impl InputSource for Ticks {
    type Item = (String, i64);
    type Allocation = i64;

    fn allocate(&mut self, batch: Time, _: Option<Rate>) -> Result<i64> {
        Ok(batch.as_millis() / 1000)
    }

    fn rdd(&self, n: &i64, context: &Context) -> Result<Option<Rdd<(String, i64)>>> {
        Ok(Some(context.parallelize(vec![("k".to_owned(), *n)], 1)))
    }
}

/// What an output saw last.
#[derive(Clone)]
pub(crate) struct Seen<T>(Arc<Mutex<Vec<T>>>);

impl<T> Default for Seen<T> {
    fn default() -> Seen<T> {
        Seen(Arc::default())
    }
}

impl<T: ExchangeData> Seen<T> {
    pub(crate) fn of(&self, stream: &DStream<T>) {
        let last = Arc::clone(&self.0);
        stream.foreach_rdd(move |rdd, _| {
            *lock(&last) = rdd.collect()?;
            Ok(())
        });
    }

    pub(crate) fn last(&self) -> Vec<T> {
        lock(&self.0).clone()
    }
}

/// Runs a build of the program from batch to batch, a second each, and ends it at once.
pub(crate) fn run(disk: &SimDisk, from: i64, to: i64, build: impl FnOnce(&StreamingContext)) -> Result<()> {
    run_with(disk, 1, secs(1), from, to, &|_| {}, build)
}

/// As [`run`], with a batch every so often.
pub(crate) fn run_every(
    disk: &SimDisk,
    interval: Duration,
    from: i64,
    to: i64,
    build: impl FnOnce(&StreamingContext),
) -> Result<()> {
    run_with(disk, 1, interval, from, to, &|_| {}, build)
}

/// As [`run`], on so many cores.
pub(crate) fn run_on(
    disk: &SimDisk,
    cores: usize,
    from: i64,
    to: i64,
    build: impl FnOnce(&StreamingContext),
) -> Result<()> {
    run_with(disk, cores, secs(1), from, to, &|_| {}, build)
}

/// As [`run`], with other settings.
pub(crate) fn run_with(
    disk: &SimDisk,
    cores: usize,
    interval: Duration,
    from: i64,
    to: i64,
    settings: &dyn Fn(&mut Conf),
    build: impl FnOnce(&StreamingContext),
) -> Result<()> {
    let clock = ManualClock::new(Time::from_millis((from - 1) * 1000));
    let mut conf = Conf::new(&format!("local[{cores}]"), "builds")?;
    conf.streaming.exclusive = false;
    // What is saved is known with the end of its batch, so that a test knows what the next build finds.
    conf.engine.save_in_background = false;
    settings(&mut conf);
    let ssc = StreamingContext::builder(conf, interval)
        .with_clock(Arc::new(clock.clone()) as Arc<dyn Clock>)
        .with_disk(Arc::new(disk.clone()) as Arc<dyn Disk>)
        .get_or_create(Path::new("/checkpoint"), |ssc| {
            build(ssc);
            Ok(())
        })?;
    ssc.start()?;
    for s in from..=to {
        clock.advance_to(Time::from_millis(s * 1000));
        ssc.await_batch(Time::from_millis(s * 1000));
    }
    ssc.await_termination_or_timeout(Duration::ZERO)?;
    ssc.stop()
}

/// Sees to it that a build was refused, with these words.
pub(crate) fn refused(outcome: Result<()>, parts: &[&str]) {
    let error = outcome.expect_err("it should have been refused");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "`{part}` is not in: {error}");
    }
}
