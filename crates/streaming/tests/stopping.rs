//! How a program stops, and what the next start finds: each way leaves a directory from which it is exact. S-127 to
//! S-130, S-133, R-27.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_core::checkpoint::{CheckpointStore, MemoryCheckpoints};
use millstream_core::clock::{Clock, ManualClock};
use millstream_core::disk::Disk;
use millstream_core::threads::lock;
use millstream_core::{ErrorKind, Rdd, Result, Text, Time, millis, secs};
use millstream_streaming::{
    Conf, DStream, MissedBatches, OutputBatch, OutputRun, RddQueue, State, StateSpec, Stop, StreamingContext,
    StreamingContextState, Transactional,
};
use millstream_testkit::{Batches, Check, Fault, SimDisk, batches, input};

type Pairs = DStream<(Text, i32)>;

fn at(s: i64) -> Time {
    Time::from_millis(s * 1000)
}

fn pairs() -> Batches<(Text, i32)> {
    batches![[("a", 1)], [("b", 1)], [("a", 1)], [], [("a", 1), ("b", 1)], [("a", 1)], [("c", 1)], [("a", 1)]]
}

/// The batches of `pairs`.
const BATCHES: i64 = 8;

fn updated(pairs: &Pairs) -> Pairs {
    pairs.update_state_by_key(|new, old: Option<i32>| Some(old.unwrap_or(0) + new.iter().sum::<i32>()))
}

fn mapped(pairs: &Pairs) -> Pairs {
    let spec = StateSpec::function(|key: &Text, new: Option<i32>, state: &mut State<'_, i32>| {
        let sum = state.get_option().copied().unwrap_or(0) + new.unwrap_or(0);
        state.update(sum);
        (key.clone(), sum)
    });
    pairs.map_with_state(spec).stream()
}

fn windowed(pairs: &Pairs) -> Pairs {
    pairs.reduce_by_key_and_window_inv(|a, b| a + b, |a, b| a - b, (secs(3), secs(1)))
}

fn none(pairs: &Pairs) -> Pairs {
    pairs.reduce_by_key(|a, b| a + b)
}

const PROGRAMS: [(&str, fn(&Pairs) -> Pairs); 4] =
    [("update_state_by_key", updated), ("map_with_state", mapped), ("a window", windowed), ("no state", none)];

/// A program that is started, stopped and started again; what it gave, and how many records it looked at.
#[derive(Clone)]
struct World {
    disk: SimDisk,
    program: fn(&Pairs) -> Pairs,
    given: Arc<Mutex<BTreeMap<i64, Vec<String>>>>,
    looked_at: Arc<AtomicUsize>,
}

impl World {
    fn new(program: fn(&Pairs) -> Pairs) -> World {
        World { disk: SimDisk::new(1), program, given: Arc::default(), looked_at: Arc::default() }
    }

    fn start(&self, now: i64) -> Result<(StreamingContext, ManualClock)> {
        let mut conf = Conf::new("local[2]", "stopping")?;
        conf.streaming.exclusive = false;
        conf.streaming.missed_batches = MissedBatches::Replay;
        let clock = ManualClock::new(at(now));
        let builder = StreamingContext::builder(conf, secs(1))
            .with_clock(Arc::new(clock.clone()) as Arc<dyn Clock>)
            .with_disk(Arc::new(self.disk.clone()) as Arc<dyn Disk>);
        let ssc = builder.get_or_create("/checkpoint", |ssc| {
            let (looked_at, given) = (Arc::clone(&self.looked_at), Arc::clone(&self.given));
            let seen = input(ssc, pairs(), 2).map(move |pair: (Text, i32)| {
                looked_at.fetch_add(1, Ordering::SeqCst);
                pair
            });
            (self.program)(&seen).foreach_rdd(move |rdd, time| {
                let mut row: Vec<_> = rdd.collect()?.iter().map(|(key, n)| format!("{key}{n}")).collect();
                row.sort();
                let before = lock(&given).insert(time.as_millis() / 1000, row.clone());
                assert!(before.is_none_or(|before| before == row), "{time} gave something else before");
                Ok(())
            });
            Ok(())
        })?;
        ssc.start()?;
        Ok((ssc, clock))
    }

    /// Runs the batches behind `from` up to `to`.
    fn run(&self, ssc: &StreamingContext, clock: &ManualClock, from: i64, to: i64) {
        for s in from + 1..=to {
            clock.advance_to(at(s));
            assert!(ssc.await_batch(at(s)), "batch {s}: {:?}", ssc.await_termination_or_timeout(Duration::ZERO));
        }
    }

    /// Runs the batches behind `from` up to the last, and starts again if a fault of the disk ends that.
    fn to_the_end(&self, from: i64) {
        for _ in 0..5 {
            let life = || -> Result<bool> {
                let (ssc, clock) = self.start(from)?;
                let all = (from + 1..=BATCHES).all(|s| {
                    clock.advance_to(at(s));
                    ssc.await_batch(at(s))
                });
                ssc.stop()?;
                Ok(all)
            };
            if life().is_ok_and(|all| all) {
                return;
            }
            self.disk.restart();
            self.disk.make_room();
        }
        panic!("not at its end after five starts: {}", self.disk.trace());
    }

    fn taken(&self) -> BTreeMap<i64, Vec<String>> {
        lock(&self.given).clone()
    }
}

/// What the program gives if nothing stops it.
fn undisturbed(program: fn(&Pairs) -> Pairs) -> BTreeMap<i64, Vec<String>> {
    let world = World::new(program);
    let (ssc, clock) = world.start(0).unwrap();
    world.run(&ssc, &clock, 0, BATCHES);
    ssc.stop().unwrap();
    world.taken()
}

/// The ways to stop.
#[derive(Clone, Copy, Debug)]
enum Way {
    Gracefully,
    Now,
    /// The machine stops, and with it all that was not durable.
    Killed,
    /// Gracefully, and at once while that is under way.
    Impatiently,
}

#[test]
fn each_way_of_stopping_leaves_a_directory_from_which_the_next_start_is_exact() {
    for (name, program) in PROGRAMS {
        let want = undisturbed(program);
        for way in [Way::Gracefully, Way::Now, Way::Killed, Way::Impatiently] {
            for stop in 1..BATCHES {
                let world = World::new(program);
                let (ssc, clock) = world.start(0).unwrap();
                world.run(&ssc, &clock, 0, stop);
                match way {
                    Way::Gracefully => ssc.stop_gracefully().unwrap(),
                    Way::Now => ssc.stop().unwrap(),
                    Way::Impatiently => {
                        let other = ssc.clone();
                        let graceful = millstream_core::threads::spawn("graceful", move || {
                            drop(other.stop_gracefully());
                        });
                        ssc.stop_with(Stop::now()).unwrap();
                        graceful.unwrap().join();
                    }
                    Way::Killed => {
                        world.disk.kill();
                        drop(ssc.stop());
                    }
                }
                world.disk.crash(stop as u64);
                world.disk.restart();
                let (ssc, clock) = world.start(stop).unwrap();
                world.run(&ssc, &clock, stop, BATCHES);
                ssc.stop().unwrap();
                assert_eq!(world.taken(), want, "{name}, {way:?} behind batch {stop}");
            }
        }
    }
}

#[test]
fn r27_a_graceful_stop_saves_states_and_the_next_start_makes_none_again() {
    for (name, program) in PROGRAMS.into_iter().take(2) {
        for stop in 1..BATCHES {
            let world = World::new(program);
            let (ssc, clock) = world.start(0).unwrap();
            world.run(&ssc, &clock, 0, stop);
            ssc.stop_gracefully().unwrap();
            let before = world.looked_at.swap(0, Ordering::SeqCst);
            world.disk.crash(3);
            world.disk.restart();
            let (ssc, clock) = world.start(stop).unwrap();
            world.run(&ssc, &clock, stop, BATCHES);
            ssc.stop().unwrap();
            let again = world.looked_at.load(Ordering::SeqCst);
            assert_eq!(before + again, 8, "{name}, stopped behind {stop}: each record is looked at once");
            assert_eq!(world.taken(), undisturbed(program), "{name}, stopped behind {stop}");
        }
    }
}

#[test]
fn whatever_the_disk_does_during_a_graceful_stop_the_next_start_is_exact() {
    const STOP: i64 = 4;
    for (name, program) in PROGRAMS {
        let want = undisturbed(program);
        let world = World::new(program);
        let (ssc, clock) = world.start(0).unwrap();
        world.run(&ssc, &clock, 0, STOP);
        ssc.context().await_saves().unwrap();
        let before = world.disk.operations().len() as u64;
        ssc.stop_gracefully().unwrap();
        let after = world.disk.operations().len() as u64;
        assert!(after > before, "{name}: the stop writes something");
        let mut fired = 0;
        // What is saved in the background stands now here, now there: the faults are spread over a little more.
        for step in before.saturating_sub(3)..=after + 3 {
            for fault in Fault::ALL {
                let world = World::new(program);
                world.disk.fail_at(step, fault);
                let (ssc, clock) = world.start(0).unwrap();
                for s in 1..=STOP {
                    clock.advance_to(at(s));
                    ssc.await_batch(at(s));
                }
                drop(ssc.stop_gracefully());
                fired += world.disk.fired().len();
                world.disk.crash(step);
                world.disk.restart();
                world.disk.make_room();
                world.to_the_end(STOP);
                assert_eq!(world.taken(), want, "{name}, {fault:?} at {step}: {}", world.disk.trace());
            }
        }
        assert!(fired as u64 > 2 * (after - before), "{name}: {fired} faults of {} steps", after - before);
    }
}

#[test]
fn states_that_cannot_be_saved_at_the_stop_are_told_and_the_next_start_is_exact() {
    let world = World::new(updated);
    let (ssc, clock) = world.start(0).unwrap();
    world.run(&ssc, &clock, 0, 3);
    world.disk.fail_at(world.disk.operations().len() as u64 + 1, Fault::DiskFull);
    let told = ssc.stop_gracefully();
    assert!(told.is_err(), "{told:?}");
    world.disk.make_room();
    let (ssc, clock) = world.start(3).unwrap();
    world.run(&ssc, &clock, 3, BATCHES);
    ssc.stop().unwrap();
    assert_eq!(world.taken(), undisturbed(updated));
}

#[test]
fn a_program_without_a_checkpoint_directory_stops_gracefully_as_before() {
    let mut conf = Conf::new("local[2]", "stopping").unwrap();
    conf.streaming.exclusive = false;
    let clock = ManualClock::new(Time::ZERO);
    let builder = StreamingContext::builder(conf, secs(1)).with_clock(Arc::new(clock.clone()) as Arc<dyn Clock>);
    let ssc = builder.build().unwrap();
    ssc.queue_stream(&RddQueue::<i32>::new()).foreach_rdd(|_, _| ());
    ssc.start().unwrap();
    clock.advance_to(at(2));
    ssc.stop_gracefully().unwrap();
}

/// A clock that moves on by itself each time a batch is planned: planning takes as long as the interval.
#[test]
fn a_graceful_stop_begins_although_batches_are_due_faster_than_they_are_planned() {
    let test = Check::new(1, 1).with_conf(secs(1), |_| {});
    let clock = test.clock().clone();
    let (planned, first) = channel();
    let runs = test.input(batches![[1]]).transform(move |rdd, _| {
        let _ = planned.send(());
        clock.advance(secs(1));
        rdd
    });
    runs.foreach_rdd(|_, _| Ok(()));
    test.ssc().start().unwrap();
    test.clock().advance_to(at(1));
    common::within("the first batch", &first);
    let ssc = test.ssc().clone();
    common::ends("the graceful stop", move || ssc.stop_gracefully()).unwrap();
}

/// A sink that commits when it is told to.
struct Slow(Mutex<Sender<()>>, Mutex<Receiver<()>>);

impl Transactional<i32> for Slow {
    type Prepared = ();

    fn prepare(&self, _: &Rdd<i32>, _: &OutputBatch) -> Result<()> {
        Ok(())
    }

    fn commit(&self, (): &(), _: &OutputBatch) -> Result<()> {
        let _ = lock(&self.0).send(());
        let _ = lock(&self.1).recv();
        Ok(())
    }

    fn abort(&self, (): &(), _: &OutputBatch) -> Result<()> {
        Ok(())
    }

    fn recover(&self, _: &[(OutputBatch, ())], _: &OutputRun) -> Result<()> {
        Ok(())
    }
}

#[test]
fn a_stop_that_a_sink_holds_up_says_so_and_the_context_stops_when_the_sink_is_done() {
    let mut conf = Conf::new("local[1]", "stopping").unwrap();
    conf.streaming.exclusive = false;
    conf.streaming.stop_patience = millis(20);
    conf.streaming.graceful_stop_timeout = Some(millis(10));
    let clock = ManualClock::new(at(0));
    let ((committing, commits), (go, gone)) = (channel(), channel());
    let builder = StreamingContext::builder(conf, secs(1))
        .with_clock(Arc::new(clock.clone()) as Arc<dyn Clock>)
        .with_disk(Arc::new(SimDisk::new(1)) as Arc<dyn Disk>);
    let ssc = builder.get_or_create("/checkpoint", |ssc| {
        input(ssc, batches![[1]], 1).save_to(Slow(Mutex::new(committing), Mutex::new(gone)));
        Ok(())
    });
    let ssc = ssc.unwrap();
    ssc.start().unwrap();
    clock.advance_to(at(1));
    common::within("the commit", &commits);
    for how in [Stop::now(), Stop::gracefully()] {
        let error = ssc.stop_with(how).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("commits batch 1000 ms, which cannot be interrupted"), "{error}");
    }
    drop(go);
    ssc.await_termination().unwrap();
    assert_eq!(ssc.state(), StreamingContextState::Stopped);
    assert!(ssc.context().is_stopped(), "it was asked to stop the engine too");
}

/// A store that writes when it is told to.
#[derive(Debug)]
struct Gated(MemoryCheckpoints, Mutex<Sender<()>>, Mutex<Receiver<()>>);

impl CheckpointStore for Gated {
    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let _ = lock(&self.1).send(());
        let _ = lock(&self.2).recv();
        self.0.write(name, bytes)
    }

    fn read(&self, name: &str) -> Result<bytes::Bytes> {
        self.0.read(name)
    }

    fn remove_folder(&self, folder: &str) -> Result<()> {
        self.0.remove_folder(folder)
    }
}

#[test]
fn a_stop_does_not_wait_without_end_for_states_that_are_being_saved() {
    let test = Check::new(1, 1).with_conf(secs(1), |conf| conf.streaming.stop_patience = secs(2));
    let ((writing, writes), (go, gone)) = (channel(), channel());
    let store = Gated(MemoryCheckpoints::new(), Mutex::new(writing), Mutex::new(gone));
    test.ssc().context().set_checkpoint_store(Arc::new(store));
    updated(&test.input(pairs())).checkpoint(secs(1)).foreach_rdd(|rdd, _| rdd.count().map(drop));
    test.ssc().start().unwrap();
    test.clock().advance_to(at(1));
    common::within("the save", &writes);
    // What else a stop waits for has ended.
    assert!(test.ssc().await_batch(at(1)));
    let error = test.ssc().stop().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("states are being saved"), "{error}");
    assert!(test.ssc().context().is_stopped());
    drop(go);
    test.ssc().context().await_saves().unwrap();
}
