//! Back-pressure, RT04, RT05, and what becomes of items that there is no room for.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{Notes, advance, at, pump};
use millstream_core::clock::Clock;
use millstream_core::{Context, Rdd, Result, Time, secs};
use millstream_streaming::{
    BatchInfo, InputInfo, InputSource, Rate, StreamingConf, StreamingContext, StreamingListener,
};
use millstream_testkit::{Check, StreamTest};

/// A source that gives as many records as it is let, of those that it has for each batch.
struct Paced {
    supply: u64,
    keeps: bool,
    told: Notes<(&'static str, Option<f64>)>,
}

impl InputSource for Paced {
    type Item = i64;
    type Allocation = u64;

    fn allocate(&mut self, _: Time, limit: Option<Rate>) -> Result<u64> {
        self.told.add(("allocate", limit.map(|limit| limit.0)));
        Ok(limit.map_or(self.supply, |limit| self.supply.min(limit.0 as u64)))
    }

    fn rdd(&self, given: &u64, context: &Context) -> Result<Option<Rdd<i64>>> {
        Ok(Some(context.range(0, *given as i64, 1, 1)))
    }

    fn describe(&self, given: &u64) -> InputInfo {
        InputInfo { records: *given, ..InputInfo::default() }
    }

    fn keeps_to_limit(&self) -> bool {
        self.keeps
    }

    fn set_limit(&mut self, limit: Rate) {
        self.told.add(("set_limit", Some(limit.0)));
    }
}

/// Notes down batches that have ended.
#[derive(Clone, Default)]
struct Ended(Notes<BatchInfo>);

impl StreamingListener for Ended {
    fn on_batch_completed(&self, batch: &BatchInfo) {
        self.0.add(batch.clone());
    }
}

impl Ended {
    fn of(ssc: &StreamingContext) -> Ended {
        let ended = Ended::default();
        ssc.add_streaming_listener(ended.clone());
        ended
    }
}

/// Has a source processed at a speed, by the clock of the test.
fn process(test: &StreamTest, source: Paced, micros_a_record: Arc<AtomicU64>) {
    let clock = test.clock().clone();
    test.ssc().input(source).foreach_rdd(move |rdd, _| {
        let count = rdd.count()?;
        clock.advance(Duration::from_micros(count * micros_a_record.load(Ordering::Relaxed)));
        Ok(())
    });
}

fn with(change: impl FnOnce(&mut StreamingConf)) -> StreamTest {
    Check::new(1, 1).with_conf(secs(1), |conf| change(&mut conf.streaming))
}

#[test]
fn r52_each_batch_that_ends_gives_a_new_rate_to_a_stream_that_keeps_to_one() {
    let told = Notes::default();
    let test = with(|conf| conf.backpressure_initial_rate = Some(800));
    let speed = Arc::new(AtomicU64::new(500));
    process(&test, Paced { supply: 1000, keeps: true, told: told.clone() }, Arc::clone(&speed));
    test.ssc().start().unwrap();
    advance(&test, 1, 3);
    speed.store(900, Ordering::Relaxed);
    advance(&test, 4, 5);
    assert_eq!(
        told.all(),
        [
            ("allocate", Some(800.0)), // K-2; the first batch gives no estimate
            ("allocate", Some(800.0)),
            ("set_limit", Some(2000.0)), // 800 records in 400 ms
            ("allocate", Some(2000.0)),
            ("set_limit", Some(2000.0)),
            ("allocate", Some(2000.0)),
            ("set_limit", Some(1111.0)), // 1,000 records in 900 ms
            ("allocate", Some(1111.0)),
            ("set_limit", Some(1111.0)),
        ]
    );
}

#[test]
fn r52_a_stream_that_keeps_to_no_rate_is_told_none_and_neither_is_any_without_back_pressure() {
    for (keeps, backpressure) in [(false, true), (true, false)] {
        let told = Notes::default();
        let test = with(|conf| conf.backpressure = backpressure);
        process(&test, Paced { supply: 10, keeps, told: told.clone() }, Arc::new(AtomicU64::new(1000)));
        test.ssc().start().unwrap();
        advance(&test, 1, 3);
        assert_eq!(told.all(), [("allocate", None); 3]);
    }
}

#[test]
fn r52_a_program_that_is_too_slow_is_given_less_until_it_keeps_up() {
    let (test, told) = (StreamTest::new(), Notes::default());
    let ended = Ended::of(test.ssc());
    // There are 2,000 a second, and it can do 250.
    process(&test, Paced { supply: 2000, keeps: true, told: told.clone() }, Arc::new(AtomicU64::new(4000)));
    test.ssc().start().unwrap();
    let kept_up = |batch: &BatchInfo| {
        let waited = batch.processing_start_time.unwrap() - batch.batch_time;
        batch.num_records() <= 250 && waited <= secs(1)
    };
    pump(&test, "the program to keep up", || {
        test.ssc().flush_listeners();
        let ended = ended.0.all();
        ended.len() > 20 && ended[ended.len() - 5..].iter().all(kept_up)
    });
    assert!(test.clock().now() > at(16), "the first two batches alone took sixteen seconds");
    let rates: Vec<_> = told.all().into_iter().filter(|(what, _)| *what == "set_limit").collect();
    assert!(rates.iter().all(|(_, rate)| (100.0..=250.0).contains(&rate.unwrap())), "{rates:?}");
}
