//! Back-pressure, RT04, RT05, and what becomes of items that there is no room for.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Notes, advance, at, ends, gather, pump, told, within};
use millstream_core::clock::{Clock, ManualClock, monotonic};
use millstream_core::disk::Disk;
use millstream_core::threads::lock;
use millstream_core::{Context, Rdd, Result, Time, secs};
use millstream_streaming::{
    BatchInfo, Conf, InputInfo, InputSource, Pressure, Rate, ReceiverInfo, Store, StreamingConf, StreamingContext,
    StreamingListener, WhenFull,
};
use millstream_testkit::{Check, SimDisk, StreamTest};

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

/// Notes down batches that have ended, and receivers that were full.
#[derive(Clone, Default)]
struct Ended(Notes<BatchInfo>, Notes<(String, WhenFull)>, Notes<Time>);

impl StreamingListener for Ended {
    fn on_batch_completed(&self, batch: &BatchInfo) {
        self.0.add(batch.clone());
    }

    fn on_batch_submitted(&self, batch: &BatchInfo) {
        self.2.add(batch.batch_time);
    }

    fn on_receiver_full(&self, receiver: &ReceiverInfo, when_full: WhenFull) {
        self.1.add((receiver.name.clone(), when_full));
    }
}

impl Ended {
    fn of(ssc: &StreamingContext) -> Ended {
        let ended = Ended::default();
        ssc.add_streaming_listener(ended.clone());
        ended
    }

    /// Returns how many records each batch had, and how its input was held back.
    fn batches(&self, ssc: &StreamingContext) -> Vec<(u64, Pressure)> {
        ssc.flush_listeners();
        self.0.all().iter().map(|batch| (batch.num_records(), batch.inputs[&0].pressure)).collect()
    }

    /// Waits until so many times somebody was told that a receiver is full.
    fn wait_until_full(&self, test: &StreamTest, times: usize) {
        self.wait_until(test, "the receiver to be full", || self.1.len() >= times);
    }

    fn wait_until(&self, test: &StreamTest, what: &str, done: impl Fn() -> bool) {
        let until = monotonic() + common::WATCHDOG;
        while !done() {
            assert!(monotonic() < until, "waited too long for {what}");
            test.ssc().flush_listeners();
            std::thread::yield_now();
        }
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

#[test]
fn r60_after_a_restart_rate_and_estimator_begin_afresh_and_rates_are_made_again() {
    let (disk, clock, told) = (SimDisk::new(1), ManualClock::new(Time::ZERO), Notes::default());
    for run in 0..2 {
        let mut conf = Conf::new("local[1]", "test").unwrap();
        conf.streaming.exclusive = false;
        let builder = StreamingContext::builder(conf, secs(1))
            .with_clock(Arc::new(clock.clone()) as Arc<dyn Clock>)
            .with_disk(Arc::new(disk.clone()) as Arc<dyn Disk>)
            .with_app_id("test");
        let (source, moved) = (Paced { supply: 100, keeps: true, told: told.clone() }, clock.clone());
        let ssc = builder
            .get_or_create("/app", |ssc| {
                ssc.input(source).foreach_rdd(move |rdd, _| {
                    moved.advance(Duration::from_millis(rdd.count()?));
                    Ok(())
                });
                Ok(())
            })
            .unwrap();
        ssc.start().unwrap();
        for s in 1..=3 {
            clock.advance_to(at(run * 3 + s));
            assert!(ssc.await_batch(at(run * 3 + s)));
        }
        ssc.stop().unwrap();
        let rate = Some(1000.0);
        let want =
            [("allocate", None), ("allocate", None), ("set_limit", rate), ("allocate", rate), ("set_limit", rate)];
        assert_eq!(told.take(), want, "run {run}");
    }
}

/// A context whose receivers let five items wait.
fn five(when_full: WhenFull) -> StreamTest {
    with(|conf| {
        conf.receiver_waiting_items = Some(5);
        conf.when_full = when_full;
    })
}

#[test]
fn rt05_r56_a_receiver_keeps_to_the_rate_but_never_above_its_limit_and_listeners_see_it() {
    for (most, want) in [(None, 1000), (Some(900), 900)] {
        let test = with(|conf| conf.receiver_max_rate = most);
        let ended = Ended::of(test.ssc());
        let (receiver, mut teller) = told::<u32>();
        let clock = test.clock().clone();
        test.ssc().receiver_stream(receiver).foreach_rdd(move |rdd, _| {
            clock.advance(Duration::from_millis(rdd.count()?));
            Ok(())
        });
        test.ssc().start().unwrap();
        for s in 1..=3 {
            teller.tell(|store| store.store_block(vec![1, 2, 3], Box::new(|| {})));
            advance(&test, s, s);
        }
        let limits: Vec<_> = ended.batches(test.ssc()).iter().map(|(_, pressure)| pressure.limit).collect();
        assert_eq!(limits, [most, most, Some(want)], "3 records in 3 ms, the second time");
        teller.hang_up();
    }
}

#[test]
fn a_store_of_many_waits_until_a_batch_runs_that_holds_what_waited() {
    let test = five(WhenFull::Block);
    let ended = Ended::of(test.ssc());
    let (receiver, mut teller) = told();
    let items = gather(&test.ssc().receiver_stream(receiver));
    test.ssc().start().unwrap();
    teller.begin(|store| store.store_many((0..12).collect()));
    ended.wait_until_full(&test, 1);
    pump(&test, "all items", || items.len() == 12);
    teller.finish();
    assert_eq!(items.all(), (0..12).collect::<Vec<_>>());
    let batches = ended.batches(test.ssc());
    assert_eq!(batches[0].0, 5);
    assert!(batches.iter().all(|(records, _)| *records <= 5), "{batches:?}");
    assert_eq!(batches.iter().map(|(_, pressure)| pressure.blocked).sum::<u64>(), 7);
    assert_eq!(ended.1.all()[0], ("told-0".to_owned(), WhenFull::Block), "the listener says which and what is done");
    teller.hang_up();
}

#[test]
fn stores_of_one_and_of_blocks_wait_too_and_a_block_is_acknowledged_when_it_is_in() {
    let test = five(WhenFull::Block);
    let ended = Ended::of(test.ssc());
    let (receiver, mut teller) = told();
    let items = gather(&test.ssc().receiver_stream(receiver));
    test.ssc().start().unwrap();
    teller.begin(|store| (0..8).try_for_each(|n| store.store(n)));
    ended.wait_until_full(&test, 1);
    advance(&test, 1, 1);
    teller.finish();
    advance(&test, 2, 2);
    let acknowledged = Notes::default();
    let noted = acknowledged.clone();
    teller.store(8);
    teller.store(9);
    teller.store(10);
    test.ssc().flush_listeners();
    let full = ended.1.len();
    teller.begin(move |store| store.store_block(vec![11, 12, 13], Box::new(move || noted.add(()))));
    ended.wait_until_full(&test, full + 1);
    assert_eq!(acknowledged.len(), 0, "three wait, and three more are too many");
    advance(&test, 3, 3);
    teller.finish();
    assert_eq!(acknowledged.len(), 1);
    teller.tell(|store| store.store_block(vec![14, 15], Box::new(|| {})));
    advance(&test, 4, 4);
    // More than there is ever room for comes in alone.
    teller.tell(|store| store.store_block((16..23).collect(), Box::new(|| {})));
    advance(&test, 5, 5);
    assert_eq!(items.all(), (0..23).collect::<Vec<_>>());
    let batches = ended.batches(test.ssc());
    let counts: Vec<_> = batches.iter().map(|(records, pressure)| (*records, pressure.blocked)).collect();
    assert_eq!(counts, [(5, 1), (3, 0), (3, 3), (5, 0), (7, 0)]);
    teller.hang_up();
}

#[test]
fn what_a_batch_was_given_waits_until_it_runs() {
    let test = five(WhenFull::Block);
    let ended = Ended::of(test.ssc());
    let (receiver, mut teller) = told();
    let items = Notes::default();
    let ((began, begins), (go, gone), gathered) = (channel(), channel::<()>(), items.clone());
    let gone = Mutex::new(gone);
    test.ssc().receiver_stream(receiver).foreach_rdd(move |rdd, time| {
        let _ = began.send(time);
        if time == at(1) {
            let _ = lock(&gone).recv();
        }
        rdd.collect()?.into_iter().for_each(|item: u32| gathered.add(item));
        Ok(())
    });
    test.ssc().start().unwrap();
    teller.tell(|store| store.store_many((0..5).collect()));
    test.clock().advance_to(at(1));
    assert_eq!(within("the first batch", &begins), at(1));
    teller.tell(|store| store.store_many((5..10).collect()));
    // The second batch is given them, and waits for the first.
    test.clock().advance_to(at(2));
    ended.wait_until(&test, "the second batch to be given them", || ended.2.len() == 2);
    let full = ended.1.len();
    teller.begin(|store| store.store(10));
    ended.wait_until_full(&test, full + 1);
    assert!(begins.try_recv().is_err());
    drop(go);
    pump(&test, "all items", || items.len() == 11);
    teller.finish();
    assert_eq!(items.all(), (0..11).collect::<Vec<_>>());
    teller.hang_up();
}

#[test]
fn a_stop_wakes_a_store_that_waits_for_room() {
    for graceful in [false, true] {
        let test = five(WhenFull::Block);
        let ended = Ended::of(test.ssc());
        let (receiver, mut teller) = told::<u32>();
        let items = gather(&test.ssc().receiver_stream(receiver));
        test.ssc().start().unwrap();
        let answers: Notes<String> = Notes::default();
        let noted = answers.clone();
        teller.begin(move |store| {
            let outcome = store.store_many((0..12).collect());
            noted.add(format!("{:?}", outcome.as_ref().map_err(|error| error.kind())));
            outcome
        });
        ended.wait_until_full(&test, 1);
        let ssc = test.ssc().clone();
        ends("the stop", move || if graceful { ssc.stop_gracefully() } else { ssc.stop() }).unwrap();
        teller.finish();
        assert_eq!(answers.all(), ["Err(Stopped)"]);
        assert_eq!(items.len(), if graceful { 5 } else { 0 }, "what was in is processed");
        teller.hang_up();
    }
}

#[test]
fn where_there_is_no_room_items_are_shed_with_a_count() {
    let test = five(WhenFull::Shed);
    let ended = Ended::of(test.ssc());
    let (receiver, mut teller) = told();
    let items = gather(&test.ssc().receiver_stream(receiver));
    test.ssc().start().unwrap();
    teller.tell(|store| (0..8).try_for_each(|n| store.store(n)));
    advance(&test, 1, 1);
    let acknowledged: Notes<()> = Notes::default();
    let noted = acknowledged.clone();
    teller.tell(|store| store.store_many((10..22).collect()));
    teller.tell(move |store| store.store_block(vec![30, 31], Box::new(move || noted.add(()))));
    advance(&test, 2, 3);
    assert_eq!(items.all(), [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]);
    assert_eq!(acknowledged.len(), 0, "what is dropped is not acknowledged");
    let shed = |shed| Pressure { shed, ..Pressure::default() };
    assert_eq!(ended.batches(test.ssc()), [(5, shed(3)), (5, shed(9)), (0, shed(0))]);
    assert_eq!(ended.1.all(), vec![("told-0".to_owned(), WhenFull::Shed); 2], "once a batch");
    teller.hang_up();
}

#[test]
fn what_a_position_covers_is_never_shed_but_waits() {
    let test = five(WhenFull::Shed);
    let ended = Ended::of(test.ssc());
    let (receiver, mut teller) = told();
    let items = gather(&test.ssc().receiver_stream(receiver));
    test.ssc().start().unwrap();
    let acknowledged: Notes<u64> = Notes::default();
    let at = |from: u32| {
        let noted = acknowledged.clone();
        move |store: &mut dyn Store<u32>| {
            let end = u64::from(from) + 4;
            store.store_block_at((from..from + 4).collect(), end.into(), Box::new(move || noted.add(end)))
        }
    };
    teller.tell(at(0));
    for (from, times) in [(4, 1), (8, 2)] {
        teller.begin(at(from));
        ended.wait_until_full(&test, times);
        assert_eq!(acknowledged.all().last(), Some(&u64::from(from)), "not yet");
        // One batch and no more: a second would take this block too, and the next would find room.
        advance(&test, times as i64, times as i64);
        ended.wait_until(&test, "room for the block", || acknowledged.len() == times + 1);
        teller.finish();
    }
    // What comes one by one is covered by the next position, once there are positions.
    teller.begin(|store| store.store_many(vec![12, 13]));
    ended.wait_until_full(&test, 3);
    pump(&test, "all items", || items.len() == 14);
    teller.finish();
    assert_eq!(items.all(), (0..14).collect::<Vec<_>>());
    let all = || {
        let batches = ended.batches(test.ssc());
        batches.iter().fold((0, 0), |(blocked, shed), (_, pressure)| (blocked + pressure.blocked, shed + pressure.shed))
    };
    // The outputs of the last batch have run, which is a moment before it has ended.
    pump(&test, "all batches to end", || all().0 >= 9);
    assert_eq!(all(), (9, 0), "all that waited is counted");
    assert_eq!(ended.1.all(), vec![("told-0".to_owned(), WhenFull::Block); 3], "listeners hear what became of it");
    teller.hang_up();
}

#[test]
fn where_there_is_no_room_blocks_spill_to_disk_and_nothing_is_lost() {
    let test = five(WhenFull::Spill);
    let ended = Ended::of(test.ssc());
    let (receiver, mut teller) = told();
    let items = gather(&test.ssc().receiver_stream(receiver));
    test.ssc().start().unwrap();
    let blocks = Arc::clone(&test.ssc().context().env().blocks);
    for from in [0, 4] {
        teller.tell(move |store| store.store_block((from..from + 4).collect(), Box::new(|| {})));
    }
    assert!(blocks.usage().disk > 0);
    advance(&test, 1, 1);
    // One by one: blocks are made before the block interval ends, as the buffer is in memory.
    teller.tell(|store| (8..20).try_for_each(|n| store.store(n)));
    teller.tell(|store| store.store_many((20..30).collect()));
    advance(&test, 2, 3);
    assert_eq!(items.all(), (0..30).collect::<Vec<i32>>());
    let spilled = |spilled| Pressure { spilled, ..Pressure::default() };
    assert_eq!(ended.batches(test.ssc()), [(8, spilled(4)), (22, spilled(17)), (0, spilled(0))]);
    assert_eq!(ended.1.all(), vec![("told-0".to_owned(), WhenFull::Spill); 2]);
    assert_eq!(blocks.usage().disk, 0, "what is forgotten leaves the disk");
    teller.hang_up();
}

#[test]
fn bytes_are_limited_whatever_the_items_are() {
    let test = with(|conf| conf.receiver_waiting_bytes = Some(10_000));
    let ended = Ended::of(test.ssc());
    let (receiver, mut teller) = told();
    let items = gather(&test.ssc().receiver_stream(receiver));
    test.ssc().start().unwrap();
    teller.begin(|store| (0..20).try_for_each(|_| store.store("x".repeat(1000))));
    ended.wait_until_full(&test, 1);
    pump(&test, "all items", || items.len() == 20);
    teller.finish();
    let batches = ended.batches(test.ssc());
    assert!(batches.iter().all(|(records, _)| *records <= 10), "{batches:?}");
    teller.hang_up();
}
