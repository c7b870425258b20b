//! What must not be done, what it is answered with, and contexts that are alone in their process: MIS01 to MIS19 as far
//! as they concern life cycles and graphs without state, SC02, SC28, SC29, S-133, S-134, S-136.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may fail")]

mod common;

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use common::{Notes, Story, assert_error, at, ends, sink};
use millstream_core::clock::ManualClock;
use millstream_core::threads::lock;
use millstream_core::{Error, ErrorKind, Result, Time, millis, secs};
use millstream_streaming::{
    BatchInfo, Conf, DStream, RddQueue, StreamingConf, StreamingContext, StreamingContextState, StreamingListener,
};

/// Only one context of this file runs at a time, as most are the only one of their process.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    lock(&ALONE)
}

fn conf() -> Conf {
    Conf::new("local[2]", "misuse").unwrap()
}

/// A context on its own clock, with a stream, and no outputs yet.
fn made(clock: &ManualClock) -> (StreamingContext, DStream<i32>) {
    let ssc = StreamingContext::builder(conf(), secs(1)).with_clock(Arc::new(clock.clone())).build().unwrap();
    let stream = ssc.queue_stream(&RddQueue::new());
    (ssc, stream)
}

fn running() -> (StreamingContext, DStream<i32>, ManualClock) {
    let clock = ManualClock::new(Time::ZERO);
    let (ssc, stream) = made(&clock);
    sink(&stream);
    ssc.start().unwrap();
    (ssc, stream, clock)
}

/// What a misuse is answered with, and where the context stands then.
struct Answer {
    error: Error,
    state: StreamingContextState,
}

fn answer(ssc: &StreamingContext, result: Result<()>) -> Answer {
    Answer { error: result.expect_err("this is misuse"), state: ssc.state() }
}

/// The errors of operations that came too late, and the state.
fn late(ssc: &StreamingContext) -> Answer {
    let error = ssc.errors().into_iter().next().expect("this is misuse");
    assert_eq!(
        ssc.await_termination_or_timeout(Duration::ZERO).unwrap_err().to_string(),
        error.to_string(),
        "the next wait returns it"
    );
    Answer { error, state: ssc.state() }
}

struct StopsIt(StreamingContext, Notes<Error>);

impl StreamingListener for StopsIt {
    fn on_batch_completed(&self, _: &BatchInfo) {
        self.1.add(self.0.stop().expect_err("a listener cannot stop its context"));
    }
}

#[test]
fn mis_each_misuse_has_its_answer() {
    type Misuse = fn() -> Answer;
    let rows: [(&str, Misuse, ErrorKind, StreamingContextState, &str); 14] = [
        (
            "MIS01 no output",
            || {
                let (ssc, stream) = made(&ManualClock::new(Time::ZERO));
                let _ = stream.map(|n| n);
                answer(&ssc, ssc.start())
            },
            ErrorKind::Graph,
            StreamingContextState::Stopped,
            "no output operations registered, so nothing to execute",
        ),
        (
            "MIS02 an input after the start",
            || {
                let (ssc, _, _) = running();
                let _ = ssc.queue_stream(&RddQueue::<i32>::new());
                late(&ssc)
            },
            ErrorKind::Stopped,
            StreamingContextState::Active,
            "after starting a context is not supported",
        ),
        (
            "MIS02 a transformation after the start",
            || {
                let (ssc, stream, _) = running();
                let _ = stream.filter(|_| true);
                late(&ssc)
            },
            ErrorKind::Stopped,
            StreamingContextState::Active,
            "(filter at ",
        ),
        (
            "MIS02 an output after the start",
            || {
                let (ssc, stream, _) = running();
                stream.print();
                late(&ssc)
            },
            ErrorKind::Stopped,
            StreamingContextState::Active,
            "(print at ",
        ),
        (
            "MIS02 an output after the stop",
            || {
                let (ssc, stream, _) = running();
                ssc.stop().unwrap();
                stream.print();
                late(&ssc)
            },
            ErrorKind::Stopped,
            StreamingContextState::Stopped,
            "after stopping a context is not supported",
        ),
        (
            "MIS03 a start after the stop",
            || {
                let (ssc, _, _) = running();
                ssc.stop().unwrap();
                answer(&ssc, ssc.start())
            },
            ErrorKind::Stopped,
            StreamingContextState::Stopped,
            "already been stopped",
        ),
        (
            "MIS04 a second context beside an active one",
            || {
                let (_first, _, _) = running();
                let (ssc, stream) = made(&ManualClock::new(Time::ZERO));
                sink(&stream);
                answer(&ssc, ssc.start())
            },
            ErrorKind::Stopped,
            StreamingContextState::Initialized,
            "only one StreamingContext may be active in this process",
        ),
        (
            "MIS05 persisting after the start",
            || {
                let (ssc, stream, _) = running();
                let _ = stream.persist(millstream_core::StorageLevel::MEMORY_ONLY);
                late(&ssc)
            },
            ErrorKind::Stopped,
            StreamingContextState::Active,
            "(persist at ",
        ),
        (
            "MIS07 a union over two contexts",
            || {
                let clock = ManualClock::new(Time::ZERO);
                let ((ssc, a), (_other, b)) = (made(&clock), made(&clock));
                sink(&a.union(&b));
                answer(&ssc, ssc.start())
            },
            ErrorKind::Graph,
            StreamingContextState::Stopped,
            "the streams belong to different contexts (union at ",
        ),
        (
            "MIS07 a transform over two contexts",
            || {
                let clock = ManualClock::new(Time::ZERO);
                let ((ssc, a), (_other, b)) = (made(&clock), made(&clock));
                sink(&ssc.transform(&[a, b], |mut rdds, _| rdds.remove(0)));
                answer(&ssc, ssc.start())
            },
            ErrorKind::Graph,
            StreamingContextState::Stopped,
            "the streams belong to different contexts (transform at ",
        ),
        (
            "MIS07 a union of streams of another context only",
            || {
                let clock = ManualClock::new(Time::ZERO);
                let ((ssc, a), (_other, b)) = (made(&clock), made(&clock));
                sink(&a);
                let _ = ssc.union(&[b.clone(), b]);
                answer(&ssc, ssc.start())
            },
            ErrorKind::Graph,
            StreamingContextState::Stopped,
            "the streams belong to different contexts (union at ",
        ),
        (
            "MIS12 remember twice",
            || {
                let (ssc, stream) = made(&ManualClock::new(Time::ZERO));
                sink(&stream);
                ssc.remember(secs(2));
                ssc.remember(secs(3));
                answer(&ssc, ssc.start())
            },
            ErrorKind::Config,
            StreamingContextState::Stopped,
            "remember duration already set: it can be set once (remember at ",
        ),
        (
            "MIS17 a stop in a listener",
            || {
                let (ssc, _, clock) = running();
                let errors = Notes::default();
                ssc.add_streaming_listener(StopsIt(ssc.clone(), errors.clone()));
                clock.advance_to(at(1));
                assert!(ssc.await_batch(at(1)));
                ssc.flush_listeners();
                let answer = answer(&ssc, Err(errors.all().remove(0)));
                // The listener holds the context, so it does not go by itself.
                ssc.stop().unwrap();
                answer
            },
            ErrorKind::Stopped,
            StreamingContextState::Active,
            "cannot stop StreamingContext within listener bus thread",
        ),
        (
            "SC01 an interval of nothing",
            || {
                let (ssc, _) = made(&ManualClock::new(Time::ZERO));
                let refused = StreamingContext::on(ssc.context(), StreamingConf::default(), Duration::ZERO);
                answer(&ssc, refused.map(|_| ()))
            },
            ErrorKind::Config,
            StreamingContextState::Initialized,
            "the batch interval must be whole milliseconds",
        ),
    ];
    let _alone = alone();
    for (name, misuse, kind, state, text) in rows {
        let Answer { error, state: is } = misuse();
        assert_eq!((error.kind(), is), (kind, state), "{name}: {error}");
        assert!(error.to_string().contains(text), "{name}: {error}");
    }
}

#[test]
fn mis19_settings_that_cannot_work_are_refused_however_they_are_set() {
    let changes: [(&str, fn(&mut StreamingConf)); 7] = [
        ("block_interval", |conf| conf.block_interval = Duration::ZERO),
        ("receiver_max_rate", |conf| conf.receiver_max_rate = Some(0)),
        ("backpressure_initial_rate", |conf| conf.backpressure_initial_rate = Some(0)),
        ("receiver_waiting_items", |conf| conf.receiver_waiting_items = Some(0)),
        ("receiver_waiting_bytes", |conf| conf.receiver_waiting_bytes = Some(0)),
        ("max_record", |conf| conf.max_record = 0),
        ("concurrent_jobs", |conf| conf.concurrent_jobs = 0),
    ];
    for (name, change) in changes {
        let mut conf = conf();
        change(&mut conf.streaming);
        let parts = [&format!("setting {name} must be more than nothing"), "misuse.rs"];
        assert_error(StreamingContext::with_conf(conf, secs(1)), ErrorKind::Config, &parts);
    }
    let mut conf = conf();
    conf.streaming.pid.min_rate = 0.0;
    let parts = ["setting backpressure.pid.minRate must be a number above 0", "misuse.rs"];
    assert_error(StreamingContext::with_conf(conf, secs(1)), ErrorKind::Config, &parts);
    assert_error(StreamingContext::new("lokal", "misuse", secs(1)), ErrorKind::Config, &["lokal"]);
}

#[test]
fn sc02_a_context_is_made_of_settings() {
    let mut conf = conf();
    conf.set("spark.streaming.blockInterval", "50ms").unwrap();
    conf.set("spark.default.parallelism", "5").unwrap();
    let ssc = StreamingContext::with_conf(conf, millis(250)).unwrap();
    assert_eq!((ssc.interval(), ssc.conf().block_interval), (millis(250), millis(50)));
    assert_eq!(ssc.context().default_parallelism(), 5);
}

#[test]
fn s136_a_context_waits_until_the_active_one_has_stopped_and_is_told_where_that_was_made() {
    let _alone = alone();
    let clock = ManualClock::new(Time::ZERO);
    let (first, second) = (made(&clock), made(&clock));
    sink(&first.1);
    sink(&second.1);
    first.0.start().unwrap();
    let error = second.0.start().unwrap_err();
    assert!(error.to_string().contains("misuse.rs:"), "{error}");
    assert_eq!(second.0.state(), StreamingContextState::Initialized);
    first.0.stop().unwrap();
    second.0.start().unwrap();
    assert_eq!(second.0.state(), StreamingContextState::Active);
    second.0.stop().unwrap();
}

#[test]
fn s136_contexts_that_need_not_be_alone_run_beside_each_other_and_beside_one_that_must() {
    let _alone = alone();
    let (first, _, _) = running();
    for _ in 0..2 {
        let mut conf = conf();
        conf.streaming.exclusive = false;
        let ssc = StreamingContext::with_conf(conf, secs(1)).unwrap();
        sink(&ssc.queue_stream(&RddQueue::<i32>::new()));
        ssc.start().unwrap();
        ssc.stop().unwrap();
    }
    first.stop().unwrap();
}

#[test]
fn sc28_the_active_context_is_the_one_between_its_start_and_its_stop() {
    let _alone = alone();
    assert!(StreamingContext::active().is_none());
    let clock = ManualClock::new(Time::ZERO);
    let (ssc, stream) = made(&clock);
    sink(&stream);
    assert!(StreamingContext::active().is_none(), "to make one is not to start it");
    ssc.start().unwrap();
    let active = StreamingContext::active().unwrap();
    active.stop().unwrap();
    assert_eq!(ssc.state(), StreamingContextState::Stopped, "it was the same");
    assert!(StreamingContext::active().is_none(), "S-134");

    let (broken, stream) = made(&clock);
    let _ = stream.repartition(0);
    broken.start().unwrap_err();
    assert!(StreamingContext::active().is_none(), "a start that failed leaves none");
    let (dropped, stream) = made(&clock);
    sink(&stream);
    dropped.start().unwrap();
    drop(dropped);
    assert!(StreamingContext::active().is_none(), "nor does a context that is gone");
}

#[test]
fn sc29_the_active_context_or_a_new_one() {
    let _alone = alone();
    let clock = ManualClock::new(Time::ZERO);
    let made_new = Notes::default();
    let create = || {
        made_new.add(());
        Ok(made(&clock).0)
    };
    let new = StreamingContext::active_or_create(create).unwrap();
    assert_eq!((new.state(), made_new.len()), (StreamingContextState::Initialized, 1));
    let (ssc, _, _) = running();
    let same = StreamingContext::active_or_create(create).unwrap();
    assert_eq!((same.state(), made_new.len()), (StreamingContextState::Active, 1));
    ssc.stop().unwrap();
    assert_eq!(same.state(), StreamingContextState::Stopped);
    let failed = StreamingContext::active_or_create(|| Err("no settings".into()));
    assert_error(failed, ErrorKind::User, &["no settings"]);
}

#[test]
fn sc30_the_active_context_or_one_from_a_checkpoint_or_a_new_one() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let setups = Notes::default();
    let create = || {
        let conf = Conf::new("local[1]", "test").unwrap();
        StreamingContext::builder(conf, secs(3600)).get_or_create(folder.path(), |ssc| {
            setups.add(());
            ssc.queue_stream(&RddQueue::<i32>::new()).foreach_rdd(|_, _| Ok(()));
            Ok(())
        })
    };
    let ssc = StreamingContext::active_or_create(create).unwrap();
    ssc.start().unwrap();
    let same = StreamingContext::active_or_create(create).unwrap();
    assert_eq!((same.state(), setups.len()), (StreamingContextState::Active, 1));
    ssc.stop().unwrap();
    let next = StreamingContext::active_or_create(create).unwrap();
    assert_eq!((next.state(), setups.len()), (StreamingContextState::Initialized, 2));
    let error = next.start().unwrap_err();
    assert!(error.to_string().contains("queue"), "the folder was looked into: {error}");
}

#[test]
fn ls14_nothing_is_told_after_the_stop() {
    let _alone = alone();
    let (ssc, stream, clock) = running();
    let story = Story::of(&ssc);
    clock.advance_to(at(1));
    assert!(ssc.await_batch(at(1)));
    ssc.stop().unwrap();
    let told = story.0.len();
    assert_eq!(told, 5, "{:?}", story.0.all());
    let _ = stream.map(|n| n);
    let ssc_again = ssc.clone();
    ends("the flush", move || ssc_again.flush_listeners());
    ssc.stop().unwrap();
    assert_eq!(story.0.len(), told);
}

// ----------------------------------------------------------------------------------------------------------- signals

/// Set for a copy of this test program that waits for a signal; says whether it stops gracefully.
const SIGNALLED: &str = "MILLSTREAM_TEST_SIGNALLED";

/// Runs the other side of a test of signals: a program that says when it is ready and what its end was.
fn signalled(how: &str) {
    let clock = ManualClock::new(Time::ZERO);
    let mut conf = conf();
    conf.streaming.stop_gracefully_on_shutdown = how == "setting";
    let ssc = StreamingContext::builder(conf, secs(1)).with_clock(Arc::new(clock.clone())).build().unwrap();
    let stream = ssc.queue_stream(&RddQueue::<i32>::new());
    let batches = common::batches_of(&stream);
    let watched = if how == "asked" { ssc.stop_gracefully_on_signals() } else { ssc.stop_on_signals() };
    watched.unwrap();
    ssc.start().unwrap();
    println!("ready");
    ssc.await_termination().unwrap();
    println!("ended {:?} after {} batches", ssc.state(), batches.len());
    if how == "deaf" {
        // Its last words take for ever: until another signal comes.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
    }
}

/// Starts the other side, and waits until it is ready.
#[cfg(unix)]
fn signalled_child(how: &str) -> (std::process::Child, std::process::ChildStdout) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["s133_a_signal_stops_the_context_and_the_program_says_its_last_words", "--exact", "--nocapture"])
        .env(SIGNALLED, how)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    read_up_to(&mut out, b"ready\n");
    (child, out)
}

#[cfg(unix)]
fn read_up_to(out: &mut impl Read, end: &[u8]) {
    let (mut seen, mut byte) = (Vec::new(), [0; 1]);
    while !seen.ends_with(end) && out.read(&mut byte).unwrap() > 0 {
        seen.push(byte[0]);
    }
}

#[cfg(unix)]
fn signal_to(child: &std::process::Child, signal: &str) {
    let kill = Command::new("sh").args(["-c", &format!("kill -{signal} {}", child.id())]).status().unwrap();
    assert!(kill.success());
}

#[cfg(unix)]
#[test]
fn s133_a_signal_stops_the_context_and_the_program_says_its_last_words() {
    if let Some(how) = std::env::var_os(SIGNALLED) {
        return signalled(how.to_str().unwrap());
    }
    for (how, signal) in [("plain", "INT"), ("plain", "TERM"), ("setting", "INT"), ("asked", "TERM")] {
        let (mut child, mut out) = signalled_child(how);
        signal_to(&child, signal);
        let mut rest = String::new();
        ends("the program", move || {
            out.read_to_string(&mut rest).unwrap();
            assert!(rest.contains("ended Stopped after 0 batches"), "{rest}");
        });
        assert!(child.wait().unwrap().success(), "{how} {signal}");
    }
}

#[cfg(unix)]
#[test]
fn s133_when_the_context_has_stopped_a_signal_ends_the_process_as_any_other() {
    use std::os::unix::process::ExitStatusExt;

    for (signal, number) in [("INT", 2), ("TERM", 15)] {
        let (mut child, mut out) = signalled_child("deaf");
        // The pipe that it reads from stays open.
        let _held = child.stdin.take();
        signal_to(&child, "TERM");
        let told = ends("the stop", move || {
            read_up_to(&mut out, b"batches\n");
            out
        });
        signal_to(&child, signal);
        let status = ends("the program", move || child.wait().unwrap());
        assert_eq!(status.signal(), Some(number), "{status}");
        drop(told);
    }
}
