//! What receivers stored in a durable program is there after a crash: nothing lost, nothing twice (R-29 to R-39, K-11 to K-15).

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use common::{Notes, Teller, at, told};
use millstream_core::clock::{Clock, ManualClock};
use millstream_core::disk::Disk;
use millstream_core::threads::lock;
use millstream_core::{Context, Error, ErrorKind, Rdd, Result, Time, secs};
use millstream_streaming::{
    Conf, DStream, InputSource, OnFailure, Position, Rate, Receiver, ReceiverInfo, Store, StreamingContext,
    StreamingListener,
};
use millstream_testkit::{Check, Durable, Fault, SimDisk, ThroughBytes, survive};

// ---- a sender that numbers, and sends again what was not acknowledged ----

#[derive(Default)]
struct Sent {
    /// How many numbers there are to send.
    available: u64,
    /// How many have been acknowledged.
    acknowledged: u64,
    /// Nobody receives any more.
    gone: bool,
    /// What must never be.
    wrong: Vec<String>,
}

#[derive(Clone, Default)]
struct Numbers(Arc<(Mutex<Sent>, Condvar)>);

impl Numbers {
    fn change<R>(&self, change: impl FnOnce(&mut Sent) -> R) -> R {
        let result = change(&mut lock(&self.0.0));
        self.0.1.notify_all();
        result
    }

    fn wait_while(&self, wait: impl Fn(&Sent) -> bool) -> u64 {
        let sent = self.0.1.wait_while(lock(&self.0.0), |sent| wait(sent)).unwrap();
        sent.available
    }

    /// Has numbers below `count` sent, and waits until they have arrived or nobody receives.
    fn send(&self, count: u64) {
        self.change(|sent| sent.available = sent.available.max(count));
        self.wait_while(|sent| !sent.gone && sent.acknowledged < count);
    }

    fn receive_all(&self, store: &mut dyn Store<u64>) -> Result<()> {
        let mut next = store.position().map_or(0, |position| position.as_u64().unwrap());
        self.change(|sent| {
            if next < sent.acknowledged {
                sent.wrong.push(format!("{} were acknowledged, and the position is {next}", sent.acknowledged));
            }
            sent.acknowledged = next;
        });
        let (stopped, waker) = (Arc::new(AtomicBool::new(false)), self.clone());
        let wake = Arc::clone(&stopped);
        store.on_stop(Box::new(move || waker.change(|_| wake.store(true, Ordering::SeqCst))));
        loop {
            let available = self.wait_while(|sent| sent.available <= next && !stopped.load(Ordering::SeqCst));
            if stopped.load(Ordering::SeqCst) {
                return Ok(());
            }
            // Blocks of one or two.
            let behind = (next + 1 + next % 2).min(available);
            let sender = self.clone();
            let stored = move || sender.change(|sent| sent.acknowledged = behind);
            store.store_block_at((next..behind).collect(), Position::from(behind), Box::new(stored))?;
            next = behind;
        }
    }
}

struct FromNumbers(Numbers);

impl Receiver for FromNumbers {
    type Item = u64;

    fn receive(&mut self, store: &mut dyn Store<u64>) -> Result<()> {
        let outcome = self.0.receive_all(store);
        self.0.change(|sent| sent.gone = true);
        outcome
    }

    fn is_reliable(&self) -> bool {
        true
    }
}

const BATCHES: usize = 7;
/// How many numbers are sent before each of the first batches.
const EACH: u64 = 5;
const ALL: u64 = EACH * (BATCHES as u64 - 2);

/// Runs a program that reads numbers, and returns what all its batches gave, and the last one.
fn run(
    disk: &SimDisk,
    how: Check,
    crashes: &[usize],
    conf: &dyn Fn(&mut Conf),
    program: fn(&DStream<u64>) -> DStream<(u64, u64)>,
) -> std::result::Result<(BTreeMap<String, usize>, String), String> {
    let numbers = Numbers::default();
    let build = |ssc: &StreamingContext| {
        numbers.change(|sent| sent.gone = false);
        Ok(program(&ssc.receiver_stream(FromNumbers(numbers.clone()))))
    };
    let before = |batch: usize| numbers.send((batch as u64 * EACH).min(ALL));
    let survived = survive(disk, &Durable { how, conf, build: &build, before: &before, batches: BATCHES, crashes })
        .map_err(|error| error.to_string())?;
    let wrong = numbers.change(|sent| std::mem::take(&mut sent.wrong));
    if !wrong.is_empty() {
        return Err(format!("{wrong:?}\n{}", disk.trace()));
    }
    let table = survived.table.to_string();
    let mut all = BTreeMap::new();
    for element in table.lines().flat_map(|line| line.split(' ').skip(1)).filter(|element| !element.is_empty()) {
        *all.entry(element.to_owned()).or_default() += 1;
    }
    let last = table.lines().last().unwrap_or_default().to_owned();
    Ok((all, last))
}

fn each_once(stream: &DStream<u64>) -> DStream<(u64, u64)> {
    stream.map(|n| (n, 1))
}

fn counted(stream: &DStream<u64>) -> DStream<(u64, u64)> {
    let count = |new: Vec<u64>, old: Option<u64>| Some(old.unwrap_or(0) + new.iter().sum::<u64>());
    stream.map(|n| (n % 3, n)).update_state_by_key(count).checkpoint(secs(2))
}

fn all_once() -> BTreeMap<String, usize> {
    (0..ALL).map(|n| (format!("({n},1)"), 1)).collect()
}

#[test]
fn r48_a_reliable_receiver_loses_nothing_and_gives_nothing_twice_whatever_the_disk_does() {
    let how = Check::new(2, 1);
    for (program, wants_each) in [(each_once as fn(&DStream<u64>) -> _, true), (counted, false)] {
        let disk = SimDisk::new(0);
        let want = run(&disk, how, &[], &|_| {}, program).unwrap();
        if wants_each {
            assert_eq!(want.0, all_once());
        }
        let (steps, mut fired) = (disk.operations().len() as u64, 0);
        for step in 1..=steps {
            for fault in Fault::ALL {
                let disk = SimDisk::new(step);
                disk.fail_at(step, fault);
                let got = run(&disk, how, &[], &|_| {}, program).unwrap_or_else(|e| panic!("{fault:?} at {step}: {e}"));
                let same = if wants_each { got.0 == want.0 } else { got.1 == want.1 };
                assert!(same, "{fault:?} at {step}: expected {want:?} and got {got:?}\n{}", disk.trace());
                fired += disk.fired().len();
            }
        }
        assert!(fired > 200, "{fired}");
    }
}

#[test]
fn r48_a_reliable_receiver_survives_being_killed_behind_any_batch_again_and_again() {
    let ways = [Check::new(2, 2), Check::new(2, 2).through_bytes()];
    for how in ways {
        for crashes in [&[0][..], &[1, 2, 3, 4, 5, 6], &[2, 2, 5], &[6]] {
            let got = run(&SimDisk::new(3), how, crashes, &|_| {}, each_once).unwrap();
            assert_eq!(got.0, all_once(), "killed behind {crashes:?}");
        }
    }
}

#[test]
fn k15_it_survives_with_a_segment_a_write_and_k13_with_short_ones() {
    for step in (1..200).step_by(7) {
        let disk = SimDisk::new(step);
        disk.fail_at(step, Fault::Crash);
        let each = |conf: &mut Conf| {
            conf.streaming.receiver_log.close_file_after_write = true;
            conf.streaming.driver_log.close_file_after_write = true;
        };
        assert_eq!(run(&disk, Check::new(2, 1), &[3], &each, each_once).unwrap().0, all_once(), "{step}");
        let disk = SimDisk::new(step);
        disk.fail_at(step, Fault::TornWrite);
        let short = |conf: &mut Conf| conf.streaming.receiver_log.segment_bytes = 100;
        assert_eq!(run(&disk, Check::new(2, 1), &[3], &short, each_once).unwrap().0, all_once(), "{step}");
    }
}

// ---- one life after another, step by step ----

const FOLDER: &str = "/app";

struct Life {
    ssc: StreamingContext,
    clock: ManualClock,
    teller: Teller<i32>,
    /// Batches, as partitions.
    seen: Notes<(i64, Vec<Vec<i32>>)>,
}

struct World {
    disk: SimDisk,
    clock: ManualClock,
    conf: Box<dyn Fn(&mut Conf)>,
    fails: Arc<AtomicBool>,
    through_bytes: bool,
    /// The batches that a window holds.
    window: u64,
    /// Another input, made after the receiver's, that fails when this is set.
    beside: Option<Arc<AtomicBool>>,
}

/// An input that has nothing, and now and then not even that.
struct Fickle(Arc<AtomicBool>);

impl InputSource for Fickle {
    type Item = i32;
    type Allocation = ();

    fn allocate(&mut self, _: Time, _: Option<Rate>) -> Result<()> {
        if self.0.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "the folder does not answer"));
        }
        Ok(())
    }

    fn rdd(&self, (): &(), _: &Context) -> Result<Option<Rdd<i32>>> {
        Ok(None)
    }
}

impl World {
    fn new(conf: impl Fn(&mut Conf) + 'static) -> World {
        let clock = ManualClock::new(Time::ZERO);
        World {
            disk: SimDisk::new(1),
            clock,
            conf: Box::new(conf),
            fails: Arc::default(),
            through_bytes: false,
            window: 1,
            beside: None,
        }
    }

    fn begin(&self) -> Life {
        let mut conf = Conf::new("local[2]", "test").unwrap();
        conf.streaming.exclusive = false;
        (self.conf)(&mut conf);
        let mut builder = StreamingContext::builder(conf, secs(1))
            .with_clock(Arc::new(self.clock.clone()) as Arc<dyn Clock>)
            .with_disk(Arc::new(self.disk.clone()) as Arc<dyn Disk>)
            .with_app_id("test");
        if self.through_bytes {
            builder = builder.with_backend(Arc::new(ThroughBytes::new(2).unwrap()));
        }
        let (receiver, teller) = told();
        let seen = Notes::default();
        let (noted, fails) = (seen.clone(), Arc::clone(&self.fails));
        let ssc = builder
            .get_or_create(FOLDER, |ssc| {
                let stream = ssc.receiver_stream(receiver).uid("told").window(secs(self.window));
                if let Some(beside) = &self.beside {
                    ssc.input(Fickle(Arc::clone(beside))).foreach_rdd(|_, _| Ok(()));
                }
                stream.foreach_rdd(move |rdd, time| {
                    if fails.load(Ordering::SeqCst) {
                        return Err(Error::new(ErrorKind::Unavailable, "the outside does not answer"));
                    }
                    noted.add((time.as_millis() / 1000, rdd.glom().collect()?));
                    Ok(())
                });
                Ok(())
            })
            .unwrap();
        Life { ssc, clock: self.clock.clone(), teller, seen }
    }

    fn start(&self) -> Life {
        let life = self.begin();
        life.ssc.start().unwrap();
        life
    }

    /// Starts a life that must fail, and returns what it fails with.
    fn failure_of_a_start(&self) -> Error {
        let mut life = self.begin();
        life.teller.hang_up();
        life.ssc.start().unwrap();
        life.ssc.await_termination().unwrap_err()
    }

    /// Ends a life as a power failure does.
    fn crash(&self, mut life: Life) {
        self.disk.crash(7);
        life.teller.hang_up();
        life.ssc.stop().unwrap();
        self.disk.restart();
    }

    fn segments(&self) -> usize {
        self.disk.list(&Path::new(FOLDER).join("received/told")).unwrap().len()
    }
}

impl Life {
    fn advance(&self, to: i64) {
        self.clock.advance_to(at(to));
        self.ssc.await_batch(at(to));
    }

    fn block(&self, items: &[i32], position: Option<u64>) -> Result<()> {
        let (items, outcome) = (items.to_vec(), Notes::default());
        let told = outcome.clone();
        self.teller.tell(move |store| {
            let kept = match position {
                Some(position) => store.store_block_at(items, position.into(), Box::new(|| {})),
                None => store.store_block(items, Box::new(|| {})),
            };
            told.add(kept.clone());
            kept
        });
        outcome.all().remove(0)
    }

    fn position(&self) -> Option<u64> {
        let found = Notes::default();
        let note = found.clone();
        self.teller.tell(move |store| {
            note.add(store.position().and_then(|position| position.as_u64()));
            Ok(())
        });
        found.all()[0]
    }
}

#[test]
fn r21_r39_what_no_batch_was_given_goes_to_the_first_new_one_and_the_rest_of_a_block_is_lost() {
    let world = World::new(|_| {});
    let mut life = world.start();
    assert_eq!(life.position(), None);
    life.block(&[1, 2], Some(10)).unwrap();
    life.advance(1);
    life.block(&[3], Some(11)).unwrap();
    life.block(&[4, 5], None).unwrap();
    life.teller.store(6);
    assert_eq!(life.seen.take(), [(1, vec![vec![1, 2]])]);
    world.crash(life);

    life = world.start();
    assert_eq!(life.position(), Some(11), "the sender goes on behind what is durable");
    life.block(&[7], Some(12)).unwrap();
    life.advance(2);
    assert_eq!(life.seen.take(), [(2, vec![vec![3], vec![4, 5], vec![7]])]);
    world.crash(life);

    life = world.start();
    assert_eq!(life.position(), Some(12));
    life.advance(3);
    life.advance(4);
    world.crash(life);
    life = world.start();
    assert_eq!(life.position(), Some(12), "also long after the last block");
    life.advance(5);
    assert_eq!(life.seen.take(), [(5, vec![])]);
    life.teller.hang_up();
}

#[test]
fn s117_what_a_batch_was_given_before_another_input_failed_is_not_passed_over() {
    let fails = Arc::new(AtomicBool::new(true));
    let mut world = World::new(|conf| conf.streaming.on_failure = OnFailure::Continue);
    world.beside = Some(Arc::clone(&fails));
    let life = world.start();
    life.block(&[1, 2], Some(10)).unwrap();
    life.advance(1);
    fails.store(false, Ordering::SeqCst);
    life.block(&[3], Some(11)).unwrap();
    life.advance(2);
    assert_eq!(life.seen.take(), [(2, vec![vec![3]])], "the batch 1 is pending");
    world.crash(life);

    let mut life = world.start();
    life.advance(3);
    assert_eq!(life.seen.take(), [(1, vec![vec![1, 2]]), (3, vec![])]);
    life.teller.hang_up();
}

#[test]
fn what_was_received_for_an_input_that_was_dropped_does_not_come_back_with_its_name() {
    let world = World::new(|_| {});
    let life = world.start();
    life.block(&[1, 2], Some(10)).unwrap();
    life.advance(1);
    life.block(&[3], Some(11)).unwrap();
    world.crash(life);
    assert!(world.segments() > 0);

    // A build without the input, which says so.
    let builder = || {
        let mut conf = Conf::new("local[2]", "test").unwrap();
        conf.streaming.exclusive = false;
        StreamingContext::builder(conf, secs(1))
            .with_clock(Arc::new(world.clock.clone()) as Arc<dyn Clock>)
            .with_disk(Arc::new(world.disk.clone()) as Arc<dyn Disk>)
            .with_app_id("test")
    };
    let without = builder().get_or_create(FOLDER, |ssc| {
        ssc.drop_kept(["told"]);
        ssc.input(Fickle(Arc::default())).foreach_rdd(|_, _| Ok(()));
        Ok(())
    });
    let without = without.unwrap();
    without.start().unwrap();
    world.clock.advance_to(at(2));
    assert!(without.await_batch(at(2)));
    without.stop().unwrap();
    assert_eq!(world.segments(), 0, "thrown away, for good");

    // And one that has an input of that name again.
    let (receiver, mut teller) = told();
    let seen: Notes<Vec<i32>> = Notes::default();
    let noted = seen.clone();
    let again = builder().get_or_create(FOLDER, |ssc| {
        ssc.drop_kept(["constant_stream 1", "input 1"]);
        ssc.receiver_stream(receiver).uid("told").foreach_rdd(move |rdd, _| {
            noted.add(rdd.collect()?);
            Ok(())
        });
        ssc.input(Fickle(Arc::default())).foreach_rdd(|_, _| Ok(()));
        Ok(())
    });
    let again = again.unwrap();
    again.start().unwrap();
    world.clock.advance_to(at(3));
    assert!(again.await_batch(at(3)));
    assert_eq!(seen.take(), [Vec::<i32>::new()]);
    teller.hang_up();
    again.stop().unwrap();
}

#[test]
fn with_a_log_that_cannot_be_written_a_program_ends_also_where_failed_batches_are_passed_over() {
    let world = World::new(|conf| conf.streaming.on_failure = OnFailure::Continue);
    let mut life = world.start();
    life.advance(1);
    let next = world.disk.operations().len() as u64 + 1;
    (next..next + 40).for_each(|n| world.disk.fail_at(n, Fault::Error));
    life.clock.advance_to(at(2));
    let error = life.ssc.await_termination().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    life.teller.hang_up();
    life.ssc.stop().unwrap();
}

#[test]
fn r37_a_batch_that_runs_again_reads_its_blocks_from_the_log() {
    for through_bytes in [false, true] {
        let world = World { through_bytes, ..World::new(|_| {}) };
        world.fails.store(true, Ordering::SeqCst);
        let mut life = world.start();
        life.block(&[1, 2], None).unwrap();
        life.teller.store(3);
        life.teller.hang_up();
        life.advance(1);
        assert!(life.ssc.await_termination().unwrap_err().to_string().contains("does not answer"));
        world.crash(life);
        world.fails.store(false, Ordering::SeqCst);
        life = world.start();
        life.ssc.await_batch(at(1));
        assert_eq!(life.seen.take(), [(1, vec![vec![1, 2], vec![3]])]);
        life.advance(2);
        assert_eq!(life.seen.take(), [(2, vec![])], "and no batch gets them again");
        life.teller.hang_up();
    }
}

#[test]
fn r37_a_block_that_is_gone_from_the_log_too_is_an_error_that_says_which() {
    let world = World::new(|_| {});
    world.fails.store(true, Ordering::SeqCst);
    let mut life = world.start();
    life.block(&[1, 2], None).unwrap();
    life.teller.hang_up();
    life.advance(1);
    world.crash(life);
    world.fails.store(false, Ordering::SeqCst);
    world.disk.remove_folder(&Path::new(FOLDER).join("received")).unwrap();
    let error = world.failure_of_a_start();
    let text = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Data, "{text}");
    assert!(text.contains("told-0") && text.contains("received/told/log-") && text.contains("1000"), "{text}");
}

#[test]
fn a_stop_at_once_keeps_what_had_not_become_a_block() {
    let world = World::new(|_| {});
    let mut life = world.start();
    life.advance(1);
    life.teller.store(1);
    life.teller.store(2);
    life.teller.hang_up();
    life.ssc.stop().unwrap();
    life = world.start();
    life.advance(2);
    assert_eq!(life.seen.take(), [(2, vec![vec![1, 2]])]);
    life.teller.hang_up();
}

#[test]
fn a_position_covers_what_was_stored_one_by_one_before_it() {
    let world = World::new(|_| {});
    let mut life = world.start();
    life.teller.store(1);
    life.block(&[2], Some(2)).unwrap();
    world.crash(life);
    life = world.start();
    assert_eq!(life.position(), Some(2));
    life.advance(1);
    assert_eq!(life.seen.take(), [(1, vec![vec![1], vec![2]])]);
    life.teller.hang_up();
}

#[test]
fn k14_after_a_log_that_fails_nothing_is_acknowledged_and_the_next_batch_stops_the_context() {
    let world = World::new(|_| {});
    let mut life = world.start();
    life.block(&[1], Some(1)).unwrap();
    life.advance(1);
    // Two failures are tried again, each in a new segment.
    let next = world.disk.operations().len() as u64 + 1;
    (next..next + 2).for_each(|operation| world.disk.fail_at(operation, Fault::Error));
    life.block(&[2], Some(2)).unwrap();
    life.advance(2);
    // Three are the end. The receiver is told, and is not started again.
    let next = world.disk.operations().len() as u64 + 1;
    (next..next + 3).for_each(|operation| world.disk.fail_at(operation, Fault::Error));
    assert_eq!(life.block(&[3], Some(3)).unwrap_err().kind(), ErrorKind::Unavailable);
    life.teller.hang_up();
    life.advance(3);
    let error = life.ssc.await_termination().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("told-0 can keep nothing durably any more"), "{error}");
    assert_eq!(life.seen.take(), [(1, vec![vec![1]]), (2, vec![vec![2]])]);
    world.crash(life);
    life = world.start();
    let position = life.position().unwrap();
    life.advance(4);
    let seen: Vec<_> = life.seen.take().into_iter().flat_map(|(_, parts)| parts.concat()).collect();
    // What was not acknowledged may be there all the same; the position tells.
    assert_eq!(seen, if position == 3 { vec![3] } else { vec![] });
    life.teller.hang_up();
}

#[test]
fn r39_segments_go_when_no_batch_needs_them() {
    let world = World::new(|conf| conf.streaming.receiver_log.close_file_after_write = true);
    let mut life = world.start();
    for n in 1..=20 {
        life.block(&[n], Some(n as u64)).unwrap();
        life.advance(i64::from(n));
        assert!(world.segments() <= 5, "{} segments behind {n} batches", world.segments());
    }
    world.crash(life);
    life = world.start();
    assert_eq!(life.position(), Some(20));
    life.advance(21);
    assert_eq!(life.seen.take(), [(21, vec![])]);
    life.teller.hang_up();
}

#[test]
fn r39_segments_stay_as_long_as_a_window_needs_them() {
    let world = World { window: 3, ..World::new(|conf| conf.streaming.receiver_log.close_file_after_write = true) };
    let mut life = world.start();
    for n in 1..=10 {
        life.block(&[n], None).unwrap();
        life.advance(i64::from(n));
        assert!(world.segments() <= 8, "{} segments behind {n} batches", world.segments());
    }
    life.block(&[11], None).unwrap();
    world.crash(life);
    life = world.start();
    life.advance(11);
    assert_eq!(life.seen.take(), [(11, vec![vec![9], vec![10], vec![11]])]);
    life.teller.hang_up();
}

#[test]
fn r38_without_the_log_a_batch_that_runs_again_says_what_is_lost() {
    let world = World::new(|conf| conf.set("spark.streaming.receiver.writeAheadLog.enable", "false").unwrap());
    world.fails.store(true, Ordering::SeqCst);
    let mut life = world.start();
    life.block(&[1, 2], Some(5)).unwrap();
    life.teller.hang_up();
    life.advance(1);
    world.crash(life);
    assert_eq!(world.segments(), 0);
    let error = world.failure_of_a_start();
    let text = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Data, "{text}");
    assert!(text.contains("told-0 cannot give again") && text.contains("2 records") && text.contains("1000"), "{text}");
}

#[test]
fn r38_without_the_log_batches_that_ended_say_where_the_source_was_and_a_log_of_before_is_read() {
    let off = Arc::new(AtomicBool::new(false));
    let is_off = Arc::clone(&off);
    let world = World::new(move |conf| {
        conf.streaming.receiver_log_enable = is_off.load(Ordering::SeqCst).then_some(false);
    });
    let mut life = world.start();
    life.block(&[1], Some(1)).unwrap();
    world.crash(life);
    off.store(true, Ordering::SeqCst);
    life = world.start();
    life.block(&[2], Some(2)).unwrap();
    life.advance(1);
    assert_eq!(life.seen.take(), [(1, vec![vec![1], vec![2]])]);
    life.advance(2);
    world.crash(life);
    off.store(false, Ordering::SeqCst);
    life = world.start();
    assert_eq!(life.position(), Some(2));
    life.advance(3);
    assert_eq!(life.seen.all(), [(3, vec![])]);
    life.teller.hang_up();
}

#[test]
fn r29_a_log_without_a_checkpoint_directory_is_refused_by_start() {
    let mut conf = Conf::new("local[1]", "test").unwrap();
    conf.streaming.exclusive = false;
    conf.set("spark.streaming.receiver.writeAheadLog.enable", "true").unwrap();
    let ssc = StreamingContext::with_conf(conf, secs(1)).unwrap();
    let (receiver, _teller) = told::<i32>();
    ssc.receiver_stream(receiver).foreach_rdd(|_, _| Ok(()));
    let error = ssc.start().unwrap_err().to_string();
    assert!(error.contains("without a checkpoint directory"), "{error}");
}

#[test]
fn what_was_received_is_thrown_away_with_the_rest_of_a_checkpoint() {
    let world = World::new(|_| {});
    let life = world.start();
    life.block(&[1], Some(1)).unwrap();
    world.crash(life);
    let mut life = world.begin();
    life.ssc.checkpoint_anew(FOLDER).unwrap();
    life.ssc.start().unwrap();
    assert_eq!(life.position(), None);
    life.advance(1);
    assert_eq!(life.seen.take(), [(1, vec![])]);
    life.teller.hang_up();
}

#[test]
fn r47_who_is_reliable_is_said() {
    #[derive(Clone, Default)]
    struct Reliable(Notes<bool>);
    impl StreamingListener for Reliable {
        fn on_receiver_started(&self, receiver: &ReceiverInfo) {
            self.0.add(receiver.reliable);
        }
    }
    let world = World::new(|_| {});
    let mut life = world.begin();
    let listener = Reliable::default();
    life.ssc.add_streaming_listener(listener.clone());
    let text = life.ssc.explain();
    assert!(text.contains("uid told; not reliable"), "{text}");
    let numbers = Numbers::default();
    life.ssc.receiver_stream(FromNumbers(numbers.clone())).foreach_rdd(|_, _| Ok(()));
    assert!(life.ssc.explain().contains("; reliable"), "{}", life.ssc.explain());
    life.ssc.start().unwrap();
    numbers.send(1);
    assert_eq!(life.position(), None);
    life.ssc.flush_listeners();
    let mut said = listener.0.all();
    said.sort_unstable();
    assert_eq!(said, [false, true]);
    life.teller.hang_up();
}
