//! The checkpoint directory: who may use it, what is damage, and what another build or other settings find in it. S-3, S-98, S-101,
//! S-117, S-118, S-138, R-4 to R-27, MIS13.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod killed_early;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use millstream_core::clock::{Clock, ManualClock};
use millstream_core::disk::{Disk, write_durably};
use millstream_core::threads::lock;
use millstream_core::{Context, Error, ErrorKind, Rdd, Result, Text, Time, secs};
use millstream_streaming::commands::answer;
use millstream_streaming::{
    Conf, DStream, InputSource, MissedBatches, OnFailure, Rate, State, StateSpec, Stop, StreamingContext,
    StreamingContextBuilder, UpdateSpec,
};
use millstream_testkit::{Batches, Fault, SimDisk, batches, input};

type Pairs = DStream<(Text, i32)>;

const FOLDER: &str = "/checkpoint";

fn at(s: i64) -> Time {
    Time::from_millis(s * 1000)
}

/// What outputs gave, by batch; a batch that ran twice is there twice.
type Given = Arc<Mutex<Vec<(i64, Vec<String>)>>>;

/// A world in which a program is started again and again.
#[derive(Clone)]
struct World {
    disk: SimDisk,
    given: Given,
    missed: MissedBatches,
    on_failure: OnFailure,
}

impl World {
    fn new() -> World {
        World::on(&SimDisk::new(0))
    }

    fn on(disk: &SimDisk) -> World {
        let (disk, given) = (disk.clone(), Given::default());
        World { disk, given, missed: MissedBatches::Replay, on_failure: OnFailure::Stop }
    }

    fn builder(&self, now: i64) -> Result<(StreamingContextBuilder, ManualClock)> {
        let mut conf = Conf::new("local[1]", "durable")?;
        conf.engine.default_parallelism = Some(1);
        conf.streaming.exclusive = false;
        conf.streaming.missed_batches = self.missed;
        conf.streaming.on_failure = self.on_failure;
        conf.streaming.checkpoint_after = 3;
        let clock = ManualClock::new(at(now));
        let builder = StreamingContext::builder(conf, secs(1))
            .with_clock(Arc::new(clock.clone()) as Arc<dyn Clock>)
            .with_disk(Arc::new(self.disk.clone()) as Arc<dyn Disk>);
        Ok((builder, clock))
    }

    /// Lives from `now` to the batch `to`, and ends as a program does.
    fn live(&self, now: i64, to: i64, setup: &dyn Fn(&StreamingContext, &World)) -> Result<()> {
        let (ssc, clock) = self.begin(now, setup)?;
        let outcome = self.go_on(&ssc, &clock, now, to);
        ssc.stop()?;
        outcome
    }

    fn go_on(&self, ssc: &StreamingContext, clock: &ManualClock, now: i64, to: i64) -> Result<()> {
        ssc.start()?;
        for s in now + 1..=to {
            clock.advance_to(at(s));
            if !ssc.await_batch(at(s)) {
                break;
            }
        }
        ssc.await_termination_or_timeout(std::time::Duration::ZERO).map(drop)
    }

    fn begin(&self, now: i64, setup: &dyn Fn(&StreamingContext, &World)) -> Result<(StreamingContext, ManualClock)> {
        self.disk.restart();
        let (builder, clock) = self.builder(now)?;
        let ssc = builder.get_or_create(FOLDER, |ssc| {
            setup(ssc, self);
            Ok(())
        })?;
        Ok((ssc, clock))
    }

    /// Makes a stream an output.
    fn gather(&self, stream: &Pairs) {
        let given = Arc::clone(&self.given);
        stream.foreach_rdd(move |rdd, time| {
            let mut row: Vec<String> = rdd.collect()?.iter().map(|(key, n)| format!("{key}{n}")).collect();
            row.sort();
            lock(&given).push((time.as_millis() / 1000, row));
            Ok(())
        });
    }

    /// What was given since the last time.
    fn take(&self) -> Vec<(i64, String)> {
        lock(&self.given).drain(..).map(|(s, row)| (s, row.join(" "))).collect()
    }
}

fn rows(rows: &[(i64, &str)]) -> Vec<(i64, String)> {
    rows.iter().map(|(s, row)| (*s, (*row).to_owned())).collect()
}

fn pairs() -> Batches<(Text, i32)> {
    batches![[("a", 1)], [("b", 1)], [("a", 1)], [], [("a", 1), ("b", 1)], [("a", 1)], [("c", 1)], [("a", 1)]]
}

fn sums(pairs: &Pairs) -> Pairs {
    let sums = pairs.update_state_by_key(|new, old: Option<i32>| Some(old.unwrap_or(0) + new.iter().sum::<i32>()));
    sums.checkpoint(secs(1))
}

fn program(ssc: &StreamingContext, world: &World) {
    world.gather(&sums(&input(ssc, pairs(), 1)));
}

const SUMS: [(i64, &str); 8] =
    [(1, "a1"), (2, "a1 b1"), (3, "a2 b1"), (4, "a2 b1"), (5, "a3 b2"), (6, "a4 b2"), (7, "a4 b2 c1"), (8, "a5 b2 c1")];

/// The error of a start.
fn refused(world: &World, now: i64, setup: &dyn Fn(&StreamingContext, &World)) -> Error {
    world.live(now, now + 1, setup).expect_err("the start should have been refused")
}

/// All files under the checkpoint.
fn files(disk: &SimDisk) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![PathBuf::from(FOLDER)]);
    while let Some(folder) = folders.pop() {
        for name in disk.list(&folder).unwrap() {
            let path = folder.join(name);
            if disk.len(&path).is_ok() { found.push(path) } else { folders.push(path) }
        }
    }
    found.sort();
    found
}

fn checkpoints(disk: &SimDisk) -> Vec<PathBuf> {
    files(disk).into_iter().filter(|path| path.to_string_lossy().contains("/checkpoint-")).collect()
}

#[test]
fn s3_after_a_start_the_batches_go_on_from_the_old_zero_time() {
    let world = World::new();
    let setup = |ssc: &StreamingContext, world: &World| {
        world.gather(&input(ssc, pairs(), 1).window((secs(3), secs(3))));
    };
    world.live(0, 4, &setup).unwrap();
    world.live(4, 6, &setup).unwrap();
    assert_eq!(world.take(), rows(&[(3, "a1 a1 b1"), (6, "a1 a1 b1")]));
}

#[test]
fn sc05_a_program_goes_on_on_an_engine_that_is_given() {
    let world = World::new();
    world.live(0, 2, &program).unwrap();
    world.disk.restart();
    let clock = ManualClock::new(at(2));
    let conf = Conf::new("local[2]", "an engine").unwrap();
    let engine = Context::builder(conf.engine.clone()).with_clock(Arc::new(clock.clone())).build().unwrap();
    let builder = |world: &World| {
        let mut conf = Conf::new("local[1]", "ignored").unwrap();
        conf.streaming.exclusive = false;
        StreamingContext::builder(conf, secs(1)).with_disk(Arc::new(world.disk.clone())).on_engine(&engine)
    };
    let ssc = builder(&world)
        .get_or_create(FOLDER, |ssc| {
            program(ssc, &world);
            Ok(())
        })
        .unwrap();
    world.go_on(&ssc, &clock, 2, 4).unwrap();
    ssc.stop_with(Stop::now().keep_context()).unwrap();
    assert_eq!(world.take(), rows(&SUMS[..4]));
    assert_eq!(engine.parallelize(vec![1, 2], 2).count().unwrap(), 2, "the engine is as it was");

    let twice = builder(&world).with_clock(Arc::new(clock)).build().unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::Config);
    assert!(twice.to_string().contains("on_engine"), "{twice}");
}

#[test]
fn a_second_process_on_the_folder_is_refused_and_the_first_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let made = || {
        let mut conf = Conf::new("local[1]", "lock").unwrap();
        conf.streaming.exclusive = false;
        let clock = ManualClock::new(Time::ZERO);
        let builder = StreamingContext::builder(conf, secs(1)).with_clock(Arc::new(clock.clone()) as Arc<dyn Clock>);
        let ssc = builder.get_or_create(folder.path(), |ssc| {
            input(ssc, pairs(), 1).foreach_rdd(|rdd, _| rdd.count().map(drop));
            Ok(())
        });
        (ssc.unwrap(), clock)
    };
    let (first, clock) = made();
    first.start().unwrap();
    let error = made().0.start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("another process runs this program"), "{error}");
    clock.advance_to(at(1));
    assert!(first.await_batch(at(1)));
    first.stop().unwrap();
    let (next, _) = made();
    next.start().unwrap();
    next.stop().unwrap();
}

#[test]
fn s138_a_used_folder_is_refused_by_a_context_made_anew_unless_it_asks_for_that() {
    let world = World::new();
    world.live(0, 2, &program).unwrap();
    world.take();
    world.disk.restart();
    let anew = |keep: &dyn Fn(&StreamingContext) -> Result<()>| {
        let (builder, clock) = world.builder(2).unwrap();
        let ssc = builder.build().unwrap();
        keep(&ssc).unwrap();
        program(&ssc, &world);
        let outcome = world.go_on(&ssc, &clock, 2, 4);
        ssc.stop().unwrap();
        outcome
    };
    let error = anew(&|ssc| ssc.checkpoint(FOLDER)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("get_or_create") && error.to_string().contains("last batch 2000 ms"), "{error}");
    assert_eq!(world.take(), []);
    anew(&|ssc| ssc.checkpoint_anew(FOLDER)).unwrap();
    assert_eq!(world.take(), rows(&[(3, "a1"), (4, "a1")]));
}

/// Begins a program anew in the folder, and ends at once.
fn begun_anew(world: &World, now: i64) -> Result<()> {
    let (builder, _) = world.builder(now)?;
    let ssc = builder.build()?;
    ssc.checkpoint_anew(FOLDER)?;
    program(&ssc, world);
    let outcome = ssc.start();
    ssc.stop()?;
    outcome
}

#[test]
fn s138_a_damaged_folder_can_be_begun_anew() {
    let world = World::new();
    world.live(0, 6, &program).unwrap();
    for file in files(&world.disk) {
        world.disk.tamper(&file, |bytes| bytes.iter_mut().for_each(|byte| *byte ^= 0x5a));
    }
    assert_eq!(refused(&world, 6, &program).kind(), ErrorKind::Data);
    world.take();
    world.disk.restart();
    begun_anew(&world, 6).unwrap();
    world.live(6, 8, &program).unwrap();
    assert_eq!(world.take(), rows(&[(7, "c1"), (8, "a1 c1")]));
}

#[test]
fn a_fault_at_any_step_of_beginning_anew_leaves_all_or_nothing() {
    let before = World::new();
    before.live(0, 6, &program).unwrap();
    before.disk.restart();
    let done = before.disk.operations().len() as u64;
    let (mut old, mut new) = (0, 0);
    for fault in Fault::ALL {
        for n in 1.. {
            let world = World::on(&before.disk.fork());
            world.disk.fail_at(done + n, fault);
            let begun = begun_anew(&world, 6);
            if world.disk.fired().is_empty() {
                break;
            }
            if !world.disk.is_down() {
                world.disk.crash(n);
            }
            world.disk.make_room();
            world.take();
            let gone_on = world.live(6, 8, &program);
            gone_on.unwrap_or_else(|error| panic!("{fault:?} at {n}: {error}\n{}", world.disk.trace()));
            let given = world.take();
            if given == rows(&SUMS[6..]) {
                assert!(begun.is_err(), "{fault:?} at {n}: what was thrown away is back");
                old += 1;
            } else {
                assert_eq!(given, rows(&[(7, "c1"), (8, "a1 c1")]), "{fault:?} at {n}\n{}", world.disk.trace());
                assert!(!files(&world.disk).iter().any(|path| path.ends_with("clearing")));
                new += 1;
            }
        }
    }
    assert!(old >= 8 && new >= 40, "{old} were as before, and {new} new");
}

#[test]
fn r8_the_newest_file_that_can_be_read_is_taken_and_none_is_an_error() {
    let world = World::new();
    world.live(0, 6, &program).unwrap();
    assert_eq!(world.take(), rows(&SUMS[..6]));
    let two = checkpoints(&world.disk);
    assert_eq!(two.len(), 2, "two are kept");
    let one_bad = World::on(&world.disk.fork());
    one_bad.disk.tamper(&two[1], |bytes| bytes[30] ^= 1);
    one_bad.live(6, 8, &program).unwrap();
    assert_eq!(one_bad.take(), rows(&SUMS[6..]));

    let both_bad = World::on(&world.disk.fork());
    two.iter().for_each(|path| both_bad.disk.tamper(path, |bytes| bytes.truncate(20)));
    let error = refused(&both_bad, 6, &program);
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.to_string().contains(&*two[1].to_string_lossy()), "{error}");
}

#[test]
fn r5_r6_what_has_another_name_is_no_checkpoint_and_names_only_grow() {
    let world = World::new();
    world.live(0, 6, &program).unwrap();
    world.take();
    let before = checkpoints(&world.disk);
    world.disk.restart();
    // By their letters all of them are newer.
    let others = ["checkpoint-new", "checkpoint-99999999999999999999.bk", "checkpoint-x00000000000000000", "my notes"];
    for name in others {
        write_durably(&world.disk, &Path::new(FOLDER).join(name), b"not ours").unwrap();
    }
    world.live(6, 8, &program).unwrap();
    assert_eq!(world.take(), rows(&SUMS[6..]), "it went on from the newest that has its name");
    let there = checkpoints(&world.disk);
    for name in others {
        assert_eq!(world.disk.read(&Path::new(FOLDER).join(name)).unwrap(), b"not ours", "{name} is left alone");
    }
    let is_other = |path: &PathBuf| others.iter().any(|name| path.ends_with(name));
    let (mut after, mut last) = (there, before.last().cloned().unwrap());
    after.retain(|path| !is_other(path) && !before.contains(path));
    assert!(!after.is_empty(), "it has written some");
    for path in after {
        assert!(path > last, "{} behind {}", path.display(), last.display());
        last = path;
    }
}

#[test]
fn a_version_that_this_build_does_not_know_is_refused_by_its_number() {
    let world = World::new();
    world.live(0, 6, &program).unwrap();
    for path in checkpoints(&world.disk) {
        world.disk.tamper(&path, |bytes| bytes[6] = 9);
    }
    let error = refused(&world, 6, &program);
    assert!(error.kind() == ErrorKind::Data && error.to_string().contains("version 9"), "{error}");
}

#[test]
fn a_log_without_the_checkpoint_that_stood_before_it_has_a_gap() {
    let world = World::new();
    world.live(0, 8, &program).unwrap();
    world.live(8, 16, &program).unwrap();
    let disk = &world.disk;
    for path in checkpoints(disk) {
        disk.remove_file(&path).unwrap();
    }
    let error = refused(&world, 16, &program);
    assert_eq!(error.kind(), ErrorKind::Data);
    let error = error.to_string();
    assert!(error.contains("are missing in /checkpoint/log") && error.contains("Restore it"), "{error}");
}

#[test]
fn whatever_byte_of_a_checkpoint_rots_the_result_is_exact_or_there_is_a_clear_error() {
    let world = World::new();
    world.live(0, 5, &program).unwrap();
    world.disk.restart();
    let (mut exact, mut refused) = (0, 0);
    let mut seed = 7u64;
    for path in files(&world.disk).into_iter().filter(|path| !path.ends_with("lock")) {
        let len = world.disk.len(&path).unwrap();
        for n in 0..len {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Of long files some bytes, of which each kind of field is among.
            if n > 64 && seed >> 60 != 0 {
                continue;
            }
            let other = World::on(&world.disk.fork());
            let cut = n % 16 == 3;
            other.disk.tamper(&path, |bytes| {
                if cut { bytes.truncate(n as usize) } else { bytes[n as usize] ^= 1 << (seed >> 32 & 7) }
            });
            let outcome = other.live(5, 7, &program);
            let given: BTreeMap<i64, String> = other.take().into_iter().collect();
            for (s, row) in &given {
                assert_eq!(row, SUMS[*s as usize - 1].1, "byte {n} of {}: a wrong result", path.display());
            }
            match outcome {
                Ok(()) => {
                    assert!(
                        given.contains_key(&6) && given.contains_key(&7),
                        "byte {n} of {}: {given:?}",
                        path.display()
                    );
                    exact += 1;
                }
                Err(error) => {
                    let text = format!("byte {n} of {}: {error}", path.display());
                    assert!(matches!(error.kind(), ErrorKind::Data), "{text}");
                    assert!(error.to_string().contains(FOLDER), "{text}");
                    refused += 1;
                }
            }
        }
    }
    assert!(exact > 20 && refused > 20, "{exact} exact, {refused} refused");
}

#[test]
fn r19_missed_batches_run_each_or_as_one_or_not_at_all() {
    let sevenths: &[(MissedBatches, &[i64])] =
        &[(MissedBatches::Replay, &[3, 4, 5, 6, 7]), (MissedBatches::Merge, &[6, 7]), (MissedBatches::Skip, &[7])];
    for (missed, want) in sevenths {
        let world = World { missed: *missed, ..World::new() };
        world.live(0, 2, &program).unwrap();
        world.take();
        // It is the sixth second by now.
        world.live(6, 7, &program).unwrap();
        let ran: Vec<i64> = world.take().iter().map(|(s, _)| *s).collect();
        assert_eq!(ran, *want, "{missed:?}");
    }
}

#[test]
fn times_that_were_missed_and_left_out_are_noted_durably_and_inspect_shows_them() {
    let gaps: &[(MissedBatches, &str)] = &[
        (MissedBatches::Replay, ""),
        (MissedBatches::Merge, "missed, left out 3 from 3000 to 5000"),
        (MissedBatches::Skip, "missed, left out 4 from 3000 to 6000"),
    ];
    for (missed, gap) in gaps {
        let world = World { missed: *missed, ..World::new() };
        world.live(0, 2, &program).unwrap();
        world.live(6, 9, &program).unwrap();
        let told = |world: &World| {
            let words = ["checkpoint", "inspect", FOLDER].map(str::to_owned);
            let mut out = Vec::new();
            let setup = |ssc: &StreamingContext| {
                program(ssc, world);
                Ok(())
            };
            answer(&words, Some((world.builder(0).unwrap().0, &setup)), &mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            let lines = text.lines().filter(|line| line.contains("left out"));
            lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
        };
        let want: Vec<String> = [*gap].into_iter().filter(|gap| !gap.is_empty()).map(str::to_owned).collect();
        assert_eq!(told(&world), want, "{missed:?}");
        // Also from a checkpoint file, when the log begins behind it, and behind the next start.
        world.live(9, 20, &program).unwrap();
        assert_eq!(told(&world), want, "{missed:?}");
    }
}

#[test]
fn s117_s118_a_batch_that_failed_stays_pending_and_runs_again_after_a_start() {
    let world = World { on_failure: OnFailure::Continue, ..World::new() };
    let broken = Arc::new(AtomicBool::new(true));
    let setup = |ssc: &StreamingContext, world: &World| {
        let (sums, broken) = (sums(&input(ssc, pairs(), 1)), Arc::clone(&broken));
        sums.foreach_rdd(move |_, time| {
            let fails = broken.load(Ordering::SeqCst) && time == at(2);
            if fails { Err(Error::new(ErrorKind::User, "the sink is down")) } else { Ok(()) }
        });
        world.gather(&sums);
    };
    let error = world.live(0, 4, &setup).unwrap_err();
    assert!(error.to_string().contains("the sink is down"), "{error}");
    assert_eq!(world.take(), rows(&SUMS[..4]), "S-117: its other output ran, and so did later batches");
    broken.store(false, Ordering::SeqCst);
    world.live(4, 6, &setup).unwrap();
    assert_eq!(world.take(), rows(&[SUMS[1], SUMS[4], SUMS[5]]), "S-118: what had failed runs again, and only that");
    world.live(6, 7, &setup).unwrap();
    assert_eq!(world.take(), rows(&SUMS[6..7]));
}

#[test]
fn with_stop_a_failed_batch_is_the_first_to_run_after_a_start() {
    let world = World::new();
    let broken = Arc::new(AtomicBool::new(true));
    let setup = |ssc: &StreamingContext, world: &World| {
        let (sums, broken) = (sums(&input(ssc, pairs(), 1)), Arc::clone(&broken));
        sums.foreach_rdd(move |_, time| {
            let fails = broken.load(Ordering::SeqCst) && time == at(3);
            if fails { Err(Error::new(ErrorKind::User, "the sink is down")) } else { Ok(()) }
        });
        world.gather(&sums);
    };
    world.live(0, 8, &setup).unwrap_err();
    world.take();
    broken.store(false, Ordering::SeqCst);
    world.live(3, 5, &setup).unwrap();
    assert_eq!(world.take(), rows(&SUMS[2..5]));
}

/// Gives each batch the next number, unless it is broken.
struct Numbers {
    last: i32,
    is_broken: Arc<AtomicBool>,
}

impl InputSource for Numbers {
    type Item = (Text, i32);
    type Allocation = i32;

    fn allocate(&mut self, _: Time, _: Option<Rate>) -> Result<i32> {
        if self.is_broken.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "the broker is away"));
        }
        self.last += 1;
        Ok(self.last)
    }

    fn rdd(&self, n: &i32, context: &Context) -> Result<Option<Rdd<(Text, i32)>>> {
        Ok(Some(context.parallelize(vec![("n".into(), *n)], 1)))
    }

    fn restore(&mut self, given: &[(Time, i32)]) -> Result<()> {
        self.last = given.last().map_or(0, |(_, n)| *n);
        Ok(())
    }
}

#[test]
fn a_source_that_gave_nothing_to_the_last_batch_goes_on_behind_what_it_gave_before() {
    let world = World::new();
    let is_broken = Arc::new(AtomicBool::new(false));
    let setup = |ssc: &StreamingContext, world: &World| {
        world.gather(&ssc.input(Numbers { last: 0, is_broken: Arc::clone(&is_broken) }));
    };
    world.live(0, 2, &setup).unwrap();
    is_broken.store(true, Ordering::SeqCst);
    world.live(2, 3, &setup).unwrap_err();
    is_broken.store(false, Ordering::SeqCst);
    // Batch 3 runs again, and was given nothing; the end writes a checkpoint file.
    world.live(2, 3, &setup).unwrap();
    world.live(3, 5, &setup).unwrap();
    assert_eq!(world.take(), rows(&[(1, "n1"), (2, "n2"), (3, ""), (4, "n3"), (5, "n4")]));
}

// ------------------------------------------------------------------------------------------------- another program

#[test]
fn a_program_with_another_stream_goes_on_and_the_new_one_begins_with_nothing() {
    let world = World::new();
    let counts = |pairs: &Pairs| {
        pairs.map(|(key, _)| (key, 100)).update_state_by_key_with(UpdateSpec::new(), |_, _, new, old: Option<i32>| {
            Some(old.unwrap_or(0) + new.iter().sum::<i32>())
        })
    };
    let one = |ssc: &StreamingContext, world: &World| {
        world.gather(&sums(&input(ssc, pairs(), 1).uid("in")).uid("sums"));
    };
    let two = |ssc: &StreamingContext, world: &World| {
        let pairs = input(ssc, pairs(), 1).uid("in");
        world.gather(&counts(&pairs).uid("counts"));
        world.gather(&sums(&pairs).uid("sums"));
    };
    world.live(0, 5, &one).unwrap();
    world.take();
    world.live(5, 6, &two).unwrap();
    assert_eq!(world.take(), rows(&[(6, "a100"), (6, "a4 b2")]), "found by its uid in another place");
    let error = refused(&world, 6, &one);
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("- state counts"), "a list of what would be lost: {error}");
    world.live(6, 7, &two).unwrap();
    assert_eq!(world.take()[1], rows(&SUMS[6..7])[0], "nothing was written by the start that was refused");
}

#[test]
fn what_is_told_apart_by_its_number_only_is_refused_if_it_is_made_of_something_else() {
    let world = World::new();
    world.live(0, 2, &program).unwrap();
    let other = |ssc: &StreamingContext, world: &World| {
        world.gather(&sums(&input(ssc, pairs(), 1).filter(|(_, n)| *n > 0)));
    };
    let error = refused(&world, 2, &other);
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("uid"), "{error}");
}

/// Counts with a state in `n` partitions, in one of three ways.
fn counted(pairs: &Pairs, how: usize, n: usize) -> Pairs {
    match how {
        0 => {
            let spec = UpdateSpec::new().partitioner(n);
            let sums = pairs.update_state_by_key_with(spec, |_, _, new: Vec<i32>, old: Option<i32>| {
                Some(old.unwrap_or(0) + new.iter().sum::<i32>())
            });
            sums.checkpoint(secs(2))
        }
        1 => {
            let spec =
                StateSpec::function_with_time(|_: Time, key: &Text, value: Option<i32>, state: &mut State<'_, i32>| {
                    let sum = state.get_option().copied().unwrap_or(0) + value.unwrap_or(0);
                    if !state.is_timing_out() {
                        state.update(sum);
                    }
                    Some((key.clone(), if state.is_timing_out() { -sum } else { sum }))
                });
            pairs.map_with_state(spec.num_partitions(n).timeout(secs(3))).checkpoint(secs(2)).stream()
        }
        2 => {
            let window = (secs(3), secs(1));
            let sums = pairs.reduce_by_key_and_window_inv_partitioned(|a, b| a + b, |a, b| a - b, window, n);
            sums.checkpoint(secs(2))
        }
        _ => {
            let place = millstream_core::Partitioner::custom(2, move |_: &Text| n % 2);
            let spec = StateSpec::function(|key: &Text, value: Option<i32>, state: &mut State<'_, i32>| {
                let sum = state.get_option().copied().unwrap_or(0) + value.unwrap_or(0);
                state.update(sum);
                (key.clone(), sum)
            });
            pairs.map_with_state(spec.partitioner(place)).checkpoint(secs(2)).stream()
        }
    }
}

#[test]
fn a_state_is_found_by_a_program_that_keeps_it_on_other_partitions() {
    for how in 0..4 {
        let on = move |n: usize| {
            move |ssc: &StreamingContext, world: &World| world.gather(&counted(&input(ssc, pairs(), 1), how, n))
        };
        let steady = World::new();
        steady.live(0, 8, &on(2)).unwrap();
        let want = steady.take();
        for (before, after) in [(2, 3), (3, 1), (1, 2)] {
            let world = World::new();
            world.live(0, 4, &on(before)).unwrap();
            world.live(4, 5, &on(after)).unwrap();
            world.live(5, 8, &on(before)).unwrap();
            assert_eq!(world.take(), want, "kind {how}, from {before} to {after} partitions and back");
        }
    }
}

#[test]
fn mis13_s101_a_queue_cannot_be_restored() {
    let world = World::new();
    let setup = |ssc: &StreamingContext, _: &World| {
        let queue = millstream_streaming::RddQueue::new();
        queue.push(ssc.context().parallelize(vec![1], 1));
        ssc.queue_stream(&queue).foreach_rdd(|rdd, _| rdd.count().map(drop));
    };
    world.live(0, 2, &setup).unwrap();
    let error = refused(&world, 2, &setup);
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("queue"), "{error}");
}

#[test]
fn r9_r10_settings_are_those_of_the_program_that_starts() {
    let world = World::new();
    world.live(0, 2, &program).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&seen);
    let setup = move |ssc: &StreamingContext, world: &World| {
        lock(&notes).push((ssc.conf().missed_batches, ssc.context().conf().app_name.clone()));
        program(ssc, world);
    };
    World { missed: MissedBatches::Skip, ..world.clone() }.live(2, 3, &setup).unwrap();
    assert_eq!(*lock(&seen), [(MissedBatches::Skip, "durable".to_owned())]);
}

#[test]
fn r15_states_and_records_that_no_start_needs_are_removed() {
    let world = World::new();
    world.live(0, 8, &program).unwrap();
    let early = files(&world.disk).len();
    for n in 1..4 {
        world.live(8 * n, 8 * (n + 1), &program).unwrap();
    }
    let late = files(&world.disk);
    assert!(late.len() <= early + 2, "{early} files, and then {late:#?}");
    // A save that no record names is of a run that ended before it could say so.
    let stray = Path::new("/checkpoint/states-1/rdd-77");
    world.disk.restart();
    world.disk.create_folder(stray).unwrap();
    world.live(32, 33, &program).unwrap();
    world.disk.restart();
    assert!(!world.disk.exists(stray).unwrap());
}

#[test]
fn r15_a_start_removes_what_earlier_ones_left_and_no_start_leaves_more_than_the_one_before() {
    let world = World::new();
    let mut counts = Vec::new();
    for now in 0..12 {
        world.live(now, now + 1, &|ssc, world| world.gather(&sums(&input(ssc, pairs(), 1)))).unwrap();
        let names = world.disk.list(Path::new(FOLDER)).unwrap();
        counts.push(names.iter().filter(|name| name.starts_with("states-")).count());
    }
    assert!(counts.iter().all(|count| *count <= 3), "folders of states behind each start: {counts:?}");
}

#[test]
fn s98_r16_after_a_start_a_batch_has_the_files_that_it_had_and_none_comes_twice() {
    let (folder, inbox) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let put = |name: &str, s: u64| {
        let path = inbox.path().join(name);
        std::fs::write(&path, name).unwrap();
        let written = std::time::UNIX_EPOCH + secs(s);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(written).unwrap();
    };
    let given: Given = Given::default();
    let broken = Arc::new(AtomicBool::new(false));
    let life = |now: i64, to: i64| {
        let mut conf = Conf::new("local[1]", "files").unwrap();
        conf.streaming.exclusive = false;
        let clock = ManualClock::new(at(now));
        let builder = StreamingContext::builder(conf, secs(1)).with_clock(Arc::new(clock.clone()) as Arc<dyn Clock>);
        let (given, broken) = (Arc::clone(&given), Arc::clone(&broken));
        let ssc = builder.get_or_create(folder.path(), |ssc| {
            let windows = ssc.text_file_stream(inbox.path()).window((secs(2), secs(1)));
            windows.foreach_rdd(move |rdd, time| {
                let mut row: Vec<String> = rdd.collect()?.iter().map(ToString::to_string).collect();
                row.sort();
                if broken.load(Ordering::SeqCst) {
                    return Err(Error::new(ErrorKind::User, "the sink is down"));
                }
                lock(&given).push((time.as_millis() / 1000, row));
                Ok(())
            });
            Ok(())
        });
        let ssc = ssc.unwrap();
        ssc.start().unwrap();
        for s in now + 1..=to {
            put(&format!("f{s}"), s as u64);
            clock.advance_to(at(s));
            ssc.await_batch(at(s));
        }
        ssc.stop().unwrap();
    };
    life(0, 2);
    broken.store(true, Ordering::SeqCst);
    life(2, 3);
    broken.store(false, Ordering::SeqCst);
    life(3, 5);
    let got: Vec<_> = lock(&given).iter().map(|(s, row)| (*s, row.join(" "))).collect();
    assert_eq!(got, rows(&[(1, "f1"), (2, "f1 f2"), (3, "f2 f3"), (4, "f3 f4"), (5, "f4 f5")]));
}
