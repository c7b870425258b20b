//! A program in a bucket in memory: it goes on, whoever comes late is refused, and faults lose nothing.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use common::watched::Watched;
use common::{Fault, Faulty, SUMS, World, rows};
use millstream_core::disk::Disk;
use millstream_core::threads::lock;
use millstream_core::{ErrorKind, Time};
use millstream_object_store::ObjectDisk;
use millstream_object_store::object_store::memory::InMemory;
use millstream_streaming::wal::{LogConf, SegmentLog, WriteAheadLog};

fn world() -> World {
    World::new(Arc::new(InMemory::new()), "some/prefix")
}

#[test]
fn a_program_on_a_new_machine_goes_on_from_the_bucket_alone() {
    common::goes_on_from_the_bucket_alone(&world());
}

#[test]
fn a_driver_that_wakes_late_is_refused_and_nothing_is_lost_or_doubled() {
    common::a_late_driver_is_refused(&world());
}

#[test]
fn the_receiver_of_a_late_driver_acknowledges_nothing_and_nothing_acknowledged_is_lost_or_doubled() {
    common::received::a_late_receiver_acknowledges_nothing(&world());
}

#[test]
fn explain_says_that_files_are_not_in_the_bucket() {
    common::received::files_are_said_to_be_elsewhere(&world());
}

#[test]
fn who_begins_anew_is_not_disturbed_by_who_was_there() {
    common::who_begins_anew_is_not_disturbed(&world());
}

#[test]
fn of_one_disk_and_its_clones_one_goes_on_in_a_folder() {
    let disk = world().disk();
    let (clone, path) = (disk.clone(), Path::new("/clicks/lock"));
    let held = disk.lock(path).unwrap();
    assert!(held.is_some() && clone.lock(path).unwrap().is_none());
    assert!(clone.lock(Path::new("/words/lock")).unwrap().is_some());
    drop(held);
    assert!(clone.lock(path).unwrap().is_some());
}

#[test]
fn a_checkpoint_in_a_bucket_is_inspected_planned_replayed_and_upgraded() {
    common::commands_look_into_the_bucket(world());
}

#[test]
fn k15_each_write_is_an_object_and_those_that_no_start_needs_are_removed_a_few_at_a_time() {
    let mut world = world();
    // Nothing is removed yet: a checkpoint file, and what it stands for, is written and removed beside the batches.
    world.checkpoint_after = 1000;
    let objects = |world: &World| world.disk().list(Path::new("/clicks/era-0/log")).unwrap().len();
    let life = world.begin(0).unwrap();
    life.to(2).unwrap();
    assert_eq!(objects(&world), 6, "a claim, the start, and two for each batch");
    life.to(30).unwrap();
    assert_eq!(objects(&world), 62);
    life.end();
    world.checkpoint_after = 3;
    let life = world.begin(30).unwrap();
    life.to(31).unwrap();
    let some = objects(&world);
    assert!((30..=63).contains(&some), "{some}: a few with each write, beside the batches");
    life.to(60).unwrap();
    // Two checkpoint files, what is behind the older one, and claims.
    assert!(objects(&world) < 20, "{}", objects(&world));
    life.end();
    let life = world.begin(60).unwrap();
    life.to(61).unwrap();
    life.end();
    assert_eq!(world.take().len(), 61);
}

/// Has `what` done by one process, and `meanwhile` by others before its request `n`, for each `n` that there is.
fn at_each_request<T>(
    world: &World,
    n: u64,
    meanwhile: impl FnOnce() + Send + 'static,
    what: impl FnOnce(&World) -> T,
) -> (T, u64) {
    let meanwhile = Mutex::new(Some(meanwhile));
    let store = Watched::new(&world.store, move |request| {
        if request == n
            && let Some(meanwhile) = lock(&meanwhile).take()
        {
            meanwhile();
        }
    });
    let done = what(&world.seen_through(Arc::clone(&store) as Arc<_>));
    (done, store.requests())
}

/// What batches give: no more comes behind the last of them.
fn sums(batches: std::ops::RangeInclusive<i64>) -> Vec<(i64, String)> {
    let last = SUMS[SUMS.len() - 1];
    let row = |s: i64| SUMS.get(s as usize - 1).copied().unwrap_or((s, last.1));
    batches.map(|s| (s, row(s).1.to_owned())).collect()
}

#[test]
fn a_start_goes_on_whatever_the_driver_before_writes_and_removes_between_any_two_of_its_requests() {
    let (mut refused, mut went_on) = (0, 0);
    for n in 1.. {
        let world = world();
        let old = Arc::new(world.begin(0).unwrap());
        old.to(10).unwrap();
        let late = Arc::clone(&old);
        let (new, requests) = at_each_request(&world, n, move || drop(late.to(20)), |world| world.begin(20));
        let new = new.unwrap_or_else(|error| panic!("before request {n}: {error}"));
        new.to(22).unwrap_or_else(|error| panic!("before request {n}: {error}"));
        // The old one went on to its end before it was refused, or was refused at its first write.
        match old.to(23) {
            Err(error) if error.to_string().contains("another process") => refused += 1,
            other => panic!("before request {n}: two go on: {other:?}"),
        }
        new.end();
        let mut given = world.take();
        went_on += u64::from(given.len() > 22);
        given.sort();
        given.dedup();
        assert_eq!(given, sums(1..=22), "before request {n}");
        if requests < n {
            break;
        }
    }
    assert!(refused > 30, "{refused}, {went_on}");
}

#[test]
fn who_looks_into_a_bucket_finds_a_moment_of_the_program_that_goes_on_meanwhile() {
    for n in 1.. {
        let world = world();
        let life = Arc::new(world.begin(0).unwrap());
        life.to(10).unwrap();
        let goes_on = Arc::clone(&life);
        let meanwhile = move || goes_on.to(22).unwrap();
        let inspect = |world: &World| world.asked("checkpoint inspect /clicks --json");
        let (answered, requests) = at_each_request(&world, n, meanwhile, inspect);
        let (_, text) = answered.unwrap_or_else(|error| panic!("before request {n}: {error}"));
        let latest = text.split("\"latest_batch_ms\": ").nth(1).and_then(|rest| rest.split(',').next());
        let latest: i64 = latest.unwrap().parse().unwrap();
        assert!((10_000..=22_000).contains(&latest), "before request {n}: {text}");
        if requests < n {
            assert!(n > 10, "{n}");
            break;
        }
    }
}

#[test]
fn a_log_is_opened_and_replayed_whole_while_who_had_it_before_appends_and_forgets() {
    let numbers = |from: i64, to: i64| (from..=to).map(|n| (n.to_string(), Time::from_millis(n))).collect::<Vec<_>>();
    for n in 1.. {
        let world = world();
        let open = |world: &World| SegmentLog::open(Arc::new(world.disk()), "log", LogConf::default());
        let mut old = open(&world).unwrap();
        for (text, at) in numbers(1, 20) {
            old.append(text.as_bytes(), at).unwrap();
        }
        let (said, tell) = std::sync::mpsc::channel();
        let meanwhile = move || {
            for (text, at) in numbers(21, 26) {
                if old.append(text.as_bytes(), at).is_ok() {
                    said.send(at.as_millis()).unwrap();
                }
                let _ = old.forget_before(Time::from_millis(15));
            }
        };
        let read = |world: &World| {
            let mut log = open(world)?;
            let mut found = Vec::new();
            log.replay(&mut |at, _, _| {
                found.push(at.as_millis());
                Ok(())
            })?;
            log.forget_before(Time::from_millis(15))?;
            log.append(b"27", Time::from_millis(27)).map(|_| found)
        };
        let (found, requests) = at_each_request(&world, n, meanwhile, read);
        let found = found.unwrap_or_else(|error| panic!("before request {n}: {error}"));
        // What nobody forgets is there, whoever was told of it; in order, and once.
        let want: Vec<i64> = (15..=20).chain(tell.try_iter()).collect();
        let there: Vec<i64> = found.iter().copied().filter(|at| *at >= 15).collect();
        assert_eq!(there, want, "before request {n}");
        assert!(found.is_sorted(), "before request {n}: {found:?}");
        if requests < n {
            assert!(n > 60, "{n}");
            break;
        }
    }
}

#[test]
fn objects_are_what_a_disk_promises() {
    common::objects_are_what_a_disk_promises(&world());
}

#[test]
fn a_fault_at_any_change_of_the_store_changes_no_result() {
    let (mut fired, mut starts) = (0, 0);
    for fault in Fault::ALL {
        for n in 1.. {
            let store = Faulty::new(move |change| (change == n).then_some(fault));
            let world = World::new(Arc::clone(&store) as Arc<_>, "");
            let (mut given, mut now) = (Vec::new(), 0);
            while now < 6 {
                starts += 1;
                let ended = world.begin(now).and_then(|life| {
                    // It ends in the middle once, whatever the fault does.
                    let outcome = life.to(if now < 3 { 3 } else { 6 });
                    life.end();
                    outcome
                });
                given.extend(world.take());
                now = given.iter().map(|(batch, _)| *batch).max().unwrap_or(0);
                assert!(starts < 2000, "{fault:?} at {n}: {ended:?}");
            }
            // A batch may run again, and gives the same.
            given.sort();
            given.dedup();
            assert_eq!(given, rows(&SUMS[..6]), "{fault:?} at {n}");
            if store.changes() < n {
                break;
            }
            fired += 1;
        }
    }
    assert!(fired > 60, "{fired}");
}

#[test]
fn a_fault_while_beginning_anew_leaves_all_or_nothing() {
    let mut seen = [0; 2];
    for n in 1.. {
        let store = Faulty::new(|_| None);
        let world = World::new(Arc::clone(&store) as Arc<_>, "");
        let old = world.begin(0).unwrap();
        old.to(6).unwrap();
        world.take();
        let done = store.changes();
        // From this one on nothing gets through: the process is cut off.
        store.plan(move |change| (change >= done + n).then_some(Fault::Fails));
        let begun = world.begin_anew(6);
        let ended = begun.is_ok();
        if let Ok(life) = begun {
            life.end();
        }
        store.plan(|_| None);
        let life = world.begin(6).unwrap();
        life.to(8).unwrap();
        life.end();
        let given = world.take();
        assert!(old.to(8).is_err() && world.take().is_empty(), "cut off at {n}: two go on");
        old.end();
        if given == rows(&SUMS[6..]) {
            assert!(!ended, "cut off at {n}: what was thrown away is back");
            seen[0] += 1;
        } else {
            assert_eq!(given, rows(&[(7, "c1"), (8, "a1 c1")]), "cut off at {n}");
            seen[1] += 1;
        }
        if ended {
            break;
        }
    }
    assert!(seen[0] > 0 && seen[1] > 2, "{seen:?}");
}

/// The numbers that are in a log.
fn replayed(log: &mut SegmentLog) -> Vec<i64> {
    let mut found = Vec::new();
    log.replay(&mut |time, _, record| {
        assert_eq!(record, time.as_millis().to_string().as_bytes());
        found.push(time.as_millis());
        Ok(())
    })
    .unwrap();
    found
}

/// Several processes open one log again and again and append to it, puts fail, lie and come late.
#[test]
fn whoever_opened_a_log_last_writes_and_what_was_acknowledged_to_anybody_is_there_once() {
    let (mut acknowledged, mut refused) = (0, 0);
    for seed in 0..300u64 {
        let chance = Arc::new(AtomicU64::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1));
        let draw = {
            let chance = Arc::clone(&chance);
            move |below: u64| {
                let next =
                    |x: u64| Some(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
                let drawn = chance.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next);
                (drawn.unwrap_or(0) >> 33) % below
            }
        };
        let faults = draw.clone();
        let store = Faulty::new(move |_| match faults(12) {
            0 => Some(Fault::Fails),
            1 => Some(Fault::LiesThatItFailed),
            2 => Some(Fault::ArrivesLate),
            _ => None,
        });
        let open = || {
            let disk: Arc<dyn Disk> = Arc::new(ObjectDisk::on(Arc::clone(&store) as Arc<_>, "").unwrap());
            SegmentLog::open(disk, "log", LogConf::default())
        };
        let mut processes: Vec<Option<SegmentLog>> = (0..3).map(|_| None).collect();
        let (mut said, mut number, mut last, mut forgotten) = (Vec::new(), 0i64, None, 0i64);
        let arrive = || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.build().unwrap().block_on(store.arrive());
        };
        for _ in 0..40 {
            let who = draw(3) as usize;
            match draw(9) {
                0 => {
                    processes[who] = open().ok();
                    if let Some(log) = &mut processes[who] {
                        last = Some(who);
                        let found = replayed(log);
                        let there = |number: &i64| *number < forgotten || found.contains(number);
                        assert!(said.iter().all(there), "seed {seed}: all that was acknowledged");
                    }
                }
                1 => arrive(),
                2 => {
                    let Some(log) = &mut processes[who] else { continue };
                    if last == Some(who) {
                        forgotten = forgotten.max(number - draw(4) as i64);
                    }
                    let _ = log.forget_before(Time::from_millis(forgotten));
                }
                _ => {
                    let Some(log) = &mut processes[who] else { continue };
                    number += 1;
                    match log.append(number.to_string().as_bytes(), Time::from_millis(number)) {
                        Ok(_) => {
                            assert_eq!(Some(who), last, "seed {seed}: whoever opened it last");
                            said.push(number);
                        }
                        Err(error) => refused += u64::from(error.kind() == ErrorKind::Data),
                    }
                }
            }
        }
        for _ in 0..200 {
            arrive();
        }
        store.plan(|_| None);
        let found = replayed(&mut open().unwrap_or_else(|error| panic!("seed {seed}: {error}")));
        let after = |numbers: &[i64]| -> Vec<i64> {
            numbers.iter().copied().filter(|number| *number >= forgotten && said.contains(number)).collect()
        };
        assert_eq!(after(&found), after(&said), "seed {seed}: each once, in order");
        acknowledged += said.len();
    }
    assert!(acknowledged > 1000 && refused > 100, "{acknowledged} were acknowledged, {refused} refused");
}

#[test]
fn an_address_that_is_no_bucket_is_refused_with_a_word_on_what_to_do() {
    for (address, says) in [
        ("file:///var/checkpoints", "give its path to checkpoint"),
        ("/var/checkpoints", "give its path to checkpoint"),
        ("gs://bucket/x", "s3://BUCKET/PREFIX"),
        ("s3:///x", "s3://BUCKET/PREFIX"),
        ("s3://bucket/a/../b", "no prefix of objects"),
    ] {
        let error = ObjectDisk::open(address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(says), "{error}");
    }
}
