//! A checkpoint that is looked at while its program runs: between any two readings files come and go.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use millstream_core::clock::{Clock, ManualClock, monotonic};
use millstream_core::disk::Disk;
use millstream_core::threads::lock;
use millstream_core::{Result, Time, millis, secs};
use millstream_streaming::commands::{Answer, answer};
use millstream_streaming::{Conf, StreamingContext, StreamingContextBuilder};
use millstream_testkit::{SimDisk, batches, input};

/// What is there when the look begins, and how far the program goes on in the middle of it: over several checkpoint files.
const BEFORE: i64 = 10;
const AFTER: i64 = 22;

fn at(s: i64) -> Time {
    Time::from_millis(s * 1000)
}

fn program(ssc: &StreamingContext) {
    let pairs = input(ssc, batches![[("a", 1)], [("b", 1)], [("a", 1)], []], 1);
    let sums = pairs.update_state_by_key(|new, old: Option<i32>| Some(old.unwrap_or(0) + new.iter().sum::<i32>()));
    let sums = sums.checkpoint(secs(1)).uid("sums");
    sums.digested();
    sums.foreach_rdd(|rdd, _| rdd.count().map(drop));
}

fn builder(disk: &SimDisk, clock: &ManualClock) -> Result<StreamingContextBuilder> {
    let mut conf = Conf::new("local[1]", "looked at")?;
    conf.engine.default_parallelism = Some(1);
    conf.streaming.exclusive = false;
    conf.streaming.checkpoint_after = 3;
    conf.streaming.retain_batches = 3;
    // Which states there are, and when they go, is the same each time then.
    conf.engine.save_in_background = false;
    Ok(StreamingContext::builder(conf, secs(1))
        .with_clock(Arc::new(clock.clone()) as Arc<dyn Clock>)
        .with_disk(Arc::new(disk.clone()) as Arc<dyn Disk>))
}

/// A program that runs, and is told when to go on.
struct Running {
    ssc: StreamingContext,
    clock: ManualClock,
}

impl Running {
    fn begin(disk: &SimDisk) -> Result<Running> {
        let clock = ManualClock::new(at(0));
        let ssc = builder(disk, &clock)?.get_or_create("/checkpoint", |ssc| {
            program(ssc);
            Ok(())
        })?;
        ssc.start()?;
        Ok(Running { ssc, clock })
    }

    fn to(&self, batch: i64) {
        for s in self.clock.now().as_millis() / 1000 + 1..=batch {
            self.clock.advance_to(at(s));
            assert!(self.ssc.await_batch(at(s)), "batch {s}");
        }
    }
}

/// Asks, and has the program go on before the `n`-th reading. Returns how many readings there were, too.
fn asked_while_it_goes_on(command: &str, n: u64) -> (Result<(Answer, String)>, u64) {
    let disk = SimDisk::new(n);
    let running = Running::begin(&disk).unwrap();
    running.to(BEFORE);
    let (running, readings) = (Arc::new(Mutex::new(running)), Arc::new(AtomicU64::new(0)));
    let same = disk.clone();
    let (goes_on, count) = (Arc::clone(&running), Arc::clone(&readings));
    let looked_at = disk.read_by(move |reading| {
        count.store(reading, Ordering::Relaxed);
        if reading == n {
            let states = |disk: &SimDisk| disk.list(Path::new("/checkpoint/states-1")).unwrap();
            let old = states(&same);
            lock(&goes_on).to(AFTER);
            // What it has let go of is removed beside its batches.
            let until = monotonic() + secs(20);
            while states(&same).iter().any(|state| old.contains(state)) && monotonic() < until {
                std::thread::park_timeout(millis(1));
            }
        }
    });
    let (mut out, words) = (Vec::new(), command.split(' ').map(str::to_owned).collect::<Vec<_>>());
    let setup = |ssc: &StreamingContext| {
        program(ssc);
        Ok(())
    };
    let answered = answer(&words, Some((builder(&looked_at, &ManualClock::new(at(0))).unwrap(), &setup)), &mut out);
    lock(&running).ssc.stop().unwrap();
    (answered.map(|answer| (answer, String::from_utf8(out).unwrap())), readings.load(Ordering::Relaxed))
}

/// Asks again and again, with the program going on before each reading in turn.
fn at_each_reading(command: &str, check: impl Fn(u64, Result<(Answer, String)>)) {
    for n in 1.. {
        let (answered, readings) = asked_while_it_goes_on(command, n);
        check(n, answered);
        if readings < n {
            assert!(n > 10, "{command}: {n} readings");
            return;
        }
    }
}

#[test]
fn inspect_answers_for_a_moment_of_a_program_that_goes_on_meanwhile() {
    at_each_reading("checkpoint inspect /checkpoint --json", |n, answered| {
        let (answered, text) = answered.unwrap_or_else(|error| panic!("before reading {n}: {error}"));
        assert_eq!(answered, Answer::Yes);
        let latest = text.split("\"latest_batch_ms\": ").nth(1).and_then(|rest| rest.split(',').next());
        let latest = latest.and_then(|ms| ms.parse::<i64>().ok()).unwrap_or_default() / 1000;
        assert!(
            (BEFORE..=AFTER).contains(&latest) && text.contains("\"name\": \"sums\""),
            "before reading {n}: {text}"
        );
    });
}

#[test]
fn plan_answers_for_a_moment_of_a_program_that_goes_on_meanwhile() {
    at_each_reading("checkpoint plan /checkpoint", |n, answered| {
        let (answered, text) = answered.unwrap_or_else(|error| panic!("before reading {n}: {error}"));
        assert!(answered == Answer::Yes && text.contains("kept"), "before reading {n}: {text}");
    });
}

#[test]
fn replay_makes_a_batch_again_or_says_that_the_program_has_let_go_of_it_meanwhile() {
    let (again, let_go) = (AtomicU64::new(0), AtomicU64::new(0));
    at_each_reading("replay /checkpoint last", |n, answered| match answered {
        Ok((answered, text)) => {
            assert!(
                answered == Answer::Yes && text.contains("It is the batch that it was"),
                "before reading {n}: {text}"
            );
            again.fetch_add(1, Ordering::Relaxed);
        }
        Err(error) => {
            let text = error.to_string();
            assert!(
                text.contains("the program went on while batch") && text.contains("retain_batches"),
                "before reading {n}: {text}"
            );
            let_go.fetch_add(1, Ordering::Relaxed);
        }
    });
    // How many it lets go of in time is the disk thread's affair.
    let (again, let_go) = (again.into_inner(), let_go.into_inner());
    assert!(again > 3, "{again} were made again, {let_go} were not");
}
