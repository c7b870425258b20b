//! Outputs that take each batch once, whenever the machine stops: transactional sinks, files, and what a program chooses.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use millstream_core::clock::ManualClock;
use millstream_core::disk::{Disk, write_durably};
use millstream_core::threads::lock;
use millstream_core::{Error, ErrorKind, Rdd, Result, Time, secs};
use millstream_streaming::{
    Conf, DStream, OnFailure, OutputBatch, OutputRun, RddQueue, StreamingContext, Transactional,
};
use millstream_testkit::{Batches, Check, Fault, Operation, SimDisk, StreamTest, batches, run_outputs_through_crashes};

fn at(s: i64) -> Time {
    Time::from_millis(s * 1000)
}

fn numbers() -> Batches<i32> {
    batches![[1, 2], [3], [], [4, 5], [6]]
}

/// What each batch of `numbers` is.
fn all() -> BTreeMap<Time, Vec<i32>> {
    [(at(1), vec![1, 2]), (at(2), vec![3]), (at(3), vec![]), (at(4), vec![4, 5]), (at(5), vec![6])].into()
}

/// Where the machine stops.
#[derive(Clone, Debug, Default)]
struct Plan {
    /// At which call of the sink, from 1, and whether that has had its effect by then.
    stop: Option<(usize, bool)>,
    disk: Option<SimDisk>,
}

/// A sink in another place: it outlives the program and loses nothing.
#[derive(Clone, Default)]
struct Remote {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    plan: Plan,
    calls: Vec<String>,
    next: u64,
    /// What is prepared, by handle.
    prepared: BTreeMap<u64, (Time, Vec<i32>)>,
    committed: BTreeMap<Time, Vec<i32>>,
    handles: BTreeSet<u64>,
    token: u64,
    mistakes: Vec<String>,
    fails: Option<&'static str>,
}

impl Remote {
    /// Notes a call, and stops the machine at the one that is planned.
    fn call<R>(&self, what: String, token: u64, effect: impl FnOnce(&mut State) -> R) -> Result<R> {
        let mut state = lock(&self.state);
        if token < state.token {
            state.mistakes.push(format!("{what} came late"));
        }
        state.token = token;
        let fails = state.fails.is_some_and(|fails| what.starts_with(fails));
        state.calls.push(what);
        if fails {
            return Err(Error::new(ErrorKind::User, "the sink refuses"));
        }
        let stop = state.plan.stop.filter(|(n, _)| *n == state.calls.len());
        let down = || Err(Error::new(ErrorKind::Unavailable, "the machine stops"));
        if stop.is_none_or(|(_, after)| after) {
            let done = effect(&mut state);
            if stop.is_none() {
                return Ok(done);
            }
        }
        if let Some(disk) = &state.plan.disk {
            disk.crash(state.calls.len() as u64);
        }
        down()
    }
}

impl Transactional<i32> for Remote {
    type Prepared = u64;

    fn prepare(&self, rdd: &Rdd<i32>, batch: &OutputBatch) -> Result<u64> {
        let items = rdd.collect()?;
        let at = batch.time();
        self.call(format!("prepare {at}"), batch.fencing_token(), |state| {
            if state.committed.contains_key(&at) {
                state.mistakes.push(format!("{at} is prepared again though it is committed"));
            }
            state.next += 1;
            state.prepared.insert(state.next, (at, items));
            state.next
        })
    }

    fn commit(&self, handle: &u64, batch: &OutputBatch) -> Result<()> {
        let at = batch.time();
        self.call(format!("commit {at}"), batch.fencing_token(), |state| {
            if batch.committed_up_to().is_some_and(|up_to| up_to >= at) {
                state.mistakes.push(format!("{at} was to come never again"));
            }
            match state.prepared.remove(handle) {
                Some((_, items)) => {
                    if state.committed.insert(at, items).is_some() {
                        state.mistakes.push(format!("{at} is there twice"));
                    }
                    state.handles.insert(*handle);
                }
                None if state.handles.contains(handle) => {}
                None => state.mistakes.push(format!("{at} is committed, and was not prepared")),
            }
        })
    }

    fn abort(&self, handle: &u64, batch: &OutputBatch) -> Result<()> {
        self.call(format!("abort {}", batch.time()), batch.fencing_token(), |state| {
            state.prepared.remove(handle);
        })
    }

    fn recover(&self, known: &[(OutputBatch, u64)], run: &OutputRun) -> Result<()> {
        assert_eq!(run.output(), "numbers");
        self.call(format!("recover {}", known.len()), run.fencing_token(), |state| {
            state.prepared.retain(|handle, _| known.iter().any(|(_, known)| known == handle));
        })
    }
}

fn check_once(remote: &Remote, context: &str) {
    let state = lock(&remote.state);
    assert_eq!(state.mistakes, [""; 0], "{context}: {:?}", state.calls);
    assert_eq!(state.committed, all(), "{context}: {:?}", state.calls);
    assert_eq!(state.prepared, BTreeMap::new(), "{context}: nothing dangles: {:?}", state.calls);
}

/// Runs `numbers` into the sink; returns how many calls it got, and how often the program was started.
fn run(remote: &Remote, disk: &SimDisk, batches: &Batches<i32>) -> (usize, usize) {
    let attach = |stream: DStream<i32>| {
        stream.save_to(remote.clone()).uid("numbers");
    };
    let starts = run_outputs_through_crashes(Check::new(2, 1), disk, batches, &attach);
    let starts = starts.unwrap_or_else(|error| panic!("{error}\n{:?}", lock(&remote.state).calls));
    (lock(&remote.state).calls.len(), starts)
}

#[test]
fn r24_a_batch_is_prepared_then_its_end_is_durable_then_it_is_committed() {
    let (remote, disk) = (Remote::default(), SimDisk::new(1));
    assert_eq!(run(&remote, &disk, &numbers()).1, 1);
    check_once(&remote, "undisturbed");
    let calls = lock(&remote.state).calls.clone();
    let both = |s| [format!("prepare {}", at(s)), format!("commit {}", at(s))];
    let want: Vec<_> = ["recover 0".to_owned()].into_iter().chain((1..=5).flat_map(both)).collect();
    assert_eq!(calls, want);
}

#[test]
fn r24_a_transactional_sink_has_each_batch_once_wherever_the_machine_stops_inside_of_it() {
    let calls = run(&Remote::default(), &SimDisk::new(1), &numbers()).0;
    for n in 1..=calls {
        for after in [false, true] {
            let (remote, disk) = (Remote::default(), SimDisk::new(n as u64));
            lock(&remote.state).plan = Plan { stop: Some((n, after)), disk: Some(disk.clone()) };
            let starts = run(&remote, &disk, &numbers()).1;
            assert_eq!(starts, 2, "stopped at {n}, {after}");
            check_once(&remote, &format!("stopped at {n}, {after}"));
        }
    }
}

#[test]
fn r24_a_transactional_sink_has_each_batch_once_whatever_happens_to_the_checkpoint_at_any_step() {
    let disk = SimDisk::new(0);
    run(&Remote::default(), &disk, &numbers());
    let steps = disk.operations().len() as u64;
    let mut fired = 0;
    for step in 1..=steps {
        for fault in Fault::ALL {
            let (remote, disk) = (Remote::default(), SimDisk::new(step));
            disk.fail_at(step, fault);
            run(&remote, &disk, &numbers());
            check_once(&remote, &format!("{fault:?} at {step}"));
            fired += disk.fired().len();
        }
    }
    assert!(fired >= 100, "{fired} faults");
}

#[test]
fn r24_a_machine_that_stops_twice_and_between_batches_too() {
    let batches = batches![[1, 2], [3], CRASH, [], [4, 5], CRASH, [6]];
    for n in 1..=16 {
        let (remote, disk) = (Remote::default(), SimDisk::new(n as u64));
        lock(&remote.state).plan = Plan { stop: Some((n, n % 2 == 0)), disk: Some(disk.clone()) };
        run(&remote, &disk, &batches);
        check_once(&remote, &format!("stopped at {n}"));
    }
}

/// A program on a disk that is kept, with a clock of its own.
struct Life {
    ssc: StreamingContext,
    clock: ManualClock,
}

fn life(folder: &Path, on_failure: OnFailure, setup: impl FnOnce(&DStream<i32>)) -> Life {
    let clock = ManualClock::new(Time::ZERO);
    let mut conf = Conf::new("local[2]", "once").unwrap();
    conf.streaming.exclusive = false;
    conf.streaming.on_failure = on_failure;
    let builder = StreamingContext::builder(conf, secs(1)).with_clock(Arc::new(clock.clone()));
    let ssc = builder
        .get_or_create(folder, |ssc| {
            setup(&ssc.queue_stream(&RddQueue::new()).map(|n: i32| n));
            Ok(())
        })
        .unwrap();
    Life { ssc, clock }
}

#[test]
fn a_batch_of_which_another_output_fails_is_aborted() {
    let folder = tempfile::tempdir().unwrap();
    let remote = Remote::default();
    let life = life(folder.path(), OnFailure::Continue, |stream| {
        stream.save_to(remote.clone()).uid("numbers");
        stream.foreach_rdd(|_, time| if time == at(1) { Err("no".into()) } else { Ok(()) });
    });
    life.ssc.start().unwrap();
    for s in 1..=2 {
        life.clock.advance_to(at(s));
        assert!(life.ssc.await_batch(at(s)));
    }
    life.ssc.stop().unwrap();
    let calls = lock(&remote.state).calls.clone();
    let want = ["recover 0", "prepare 1000 ms", "abort 1000 ms", "prepare 2000 ms", "commit 2000 ms"];
    assert_eq!(calls, want);
}

#[test]
fn a_commit_that_fails_stops_the_program_and_the_next_start_commits_again() {
    let (remote, disk) = (Remote::default(), SimDisk::new(3));
    lock(&remote.state).fails = Some("commit 2000");
    let attach = |stream: DStream<i32>| {
        stream.save_to(remote.clone()).uid("numbers");
    };
    let error = run_outputs_through_crashes(Check::new(2, 1), &disk, &numbers(), &attach).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::User, "{error}");
    assert!(error.to_string().contains("the sink refuses"), "{error}");
    assert_eq!(lock(&remote.state).committed.len(), 1, "nothing behind it is committed");
    let error = run_outputs_through_crashes(Check::new(2, 1), &disk, &numbers(), &attach).unwrap_err();
    assert!(error.to_string().contains("the sink refuses"), "the start commits it: {error}");
    // An output that is not there any more cannot commit: the start is refused.
    let nobody = |stream: DStream<i32>| {
        stream.print();
    };
    let error = run_outputs_through_crashes(Check::new(2, 1), &disk, &numbers(), &nobody).unwrap_err();
    assert!(error.to_string().contains("output numbers: it has prepared batch 2000 ms"), "{error}");
}

#[test]
fn without_a_checkpoint_directory_a_batch_is_committed_at_once() {
    let (remote, mut test) = (Remote::default(), StreamTest::new());
    test.input(batches![[1], [2]]).save_to(remote.clone()).uid("numbers");
    test.run(2).unwrap();
    let want = ["recover 0", "prepare 1000 ms", "commit 1000 ms", "prepare 2000 ms", "commit 2000 ms"];
    assert_eq!(lock(&remote.state).calls, want);
}

// --------------------------------------------------------------------------------------------------------- files

/// Returns what is in the files of a folder, together.
fn text(disk: &SimDisk, folder: &Path) -> String {
    let names = disk.list(folder).unwrap();
    let parts = names.iter().filter(|name| name.starts_with("part-"));
    parts.map(|name| String::from_utf8(disk.read(&folder.join(name)).unwrap()).unwrap()).collect()
}

fn folder_of(batch: Time) -> PathBuf {
    PathBuf::from(format!("/out/out-{}", batch.as_millis()))
}

fn lines(items: &[i32]) -> String {
    items.iter().map(|item| format!("{item}\n")).collect()
}

/// Puts a folder in the place of the third batch, which somebody else has written, with a file of his own.
fn in_the_way(disk: &SimDisk) {
    disk.create_folder(&folder_of(at(3))).unwrap();
    for (name, text) in
        [("part-00000", "of another program\n"), ("part-00007", "more\n"), ("_SUCCESS", ""), ("notes", "mine")]
    {
        write_durably(disk, &folder_of(at(3)).join(name), text.as_bytes()).unwrap();
    }
}

/// Runs a program that writes files, with whatever is planned for its disk.
fn write_files(disk: &SimDisk) {
    let attach = |stream: DStream<i32>| {
        // Whoever looks sees whole folders, or none, in whatever state the machine has come back.
        for (at, items) in all() {
            let (folder, other) = (folder_of(at), "of another program\nmore\n");
            if disk.exists(&folder).unwrap() {
                assert!(disk.exists(&folder.join("_SUCCESS")).unwrap(), "{at}\n{}", disk.trace());
                let text = text(disk, &folder);
                assert!(text == lines(&items) || text == other, "{at} is {text:?}\n{}", disk.trace());
            }
        }
        stream.save_as_text_files("/out/out", "");
    };
    run_outputs_through_crashes(Check::new(2, 1), disk, &numbers(), &attach).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn r24_files_have_each_batch_once_whatever_happens_to_the_disk_at_any_step() {
    for is_in_the_way in [false, true] {
        let prepared = |seed| {
            let disk = SimDisk::new(seed);
            if is_in_the_way {
                in_the_way(&disk);
            }
            disk
        };
        let disk = prepared(0);
        let before = disk.operations().len() as u64;
        write_files(&disk);
        let steps = disk.operations();
        for wanted in ["make_folder", "rename", "sync", "sync_folder", "remove_empty_folder"] {
            let is_there = |step: &Operation| step.name == wanted && step.path.starts_with("/out");
            assert!(steps.iter().any(is_there), "{wanted} of a batch's folder is among the steps");
        }
        for step in before + 1..=steps.len() as u64 {
            for fault in Fault::ALL {
                let disk = prepared(step);
                disk.fail_at(step, fault);
                write_files(&disk);
                assert_eq!(disk.fired(), [fault], "at {step}");
                // What has ended is durable.
                disk.crash(step);
                disk.restart();
                let context = format!("{fault:?} at {step}\n{}", disk.trace());
                let want = ["out-1000", "out-2000", "out-3000", "out-4000", "out-5000"];
                assert_eq!(disk.list(Path::new("/out")).unwrap(), want, "nothing else is left: {context}");
                for (at, items) in all() {
                    let folder = folder_of(at);
                    assert_eq!(text(&disk, &folder), lines(&items), "batch {at}: {context}");
                    let mark = String::from_utf8(disk.read(&folder.join("_SUCCESS")).unwrap()).unwrap();
                    assert!(mark.contains(&format!("\"save_as_text_files 1/{}\"", at.as_millis())), "{mark}");
                }
                if is_in_the_way {
                    let notes = disk.read(&folder_of(at(3)).join("notes"));
                    assert_eq!(notes.as_deref().ok(), Some(&b"mine"[..]), "{context}");
                }
            }
        }
    }
}

#[test]
fn r24_a_batch_that_runs_again_leaves_the_folder_that_it_has_published() {
    let disk = SimDisk::new(0);
    let runs = Arc::new(Mutex::new(0));
    let attach = |stream: DStream<i32>| {
        stream.save_as_text_files("/out/out", "");
        // The machine stops when the files of the third batch are there and its end is not written.
        let (runs, disk) = (Arc::clone(&runs), disk.clone());
        stream.foreach_rdd(move |_, time| {
            if time == at(3) {
                let mut runs = lock(&runs);
                *runs += 1;
                if *runs == 1 {
                    disk.tamper(folder_of(time).join("part-00000"), |bytes| *bytes = b"published".to_vec());
                    disk.crash(7);
                    return Err(Error::new(ErrorKind::Unavailable, "the machine stops"));
                }
            }
            Ok(())
        });
    };
    assert_eq!(run_outputs_through_crashes(Check::new(2, 1), &disk, &numbers(), &attach).unwrap(), 2);
    assert_eq!(*lock(&runs), 2, "it ran again");
    assert_eq!(text(&disk, &folder_of(at(3))), "published");
}

// ----------------------------------------------------------------------------------------------- what is chosen

#[test]
fn r24_an_output_that_is_to_take_a_batch_at_most_once_is_not_given_it_again() {
    let disk = SimDisk::new(0);
    let (once, often) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let attach = |stream: DStream<i32>| {
        let noted = Arc::clone(&once);
        stream.foreach_rdd(move |_, time| lock(&noted).push(time)).at_most_once();
        let (noted, disk) = (Arc::clone(&often), disk.clone());
        stream.foreach_batch(move |_, batch| {
            lock(&noted).push((batch.time(), batch.fencing_token()));
            if (batch.time(), batch.fencing_token()) == (at(3), 1) {
                disk.crash(7);
                return Err(Error::new(ErrorKind::Unavailable, "the machine stops"));
            }
            Ok(())
        });
    };
    run_outputs_through_crashes(Check::new(2, 1), &disk, &numbers(), &attach).unwrap();
    assert_eq!(*lock(&once), [1, 2, 3, 4, 5].map(at));
    let want = [(1, 1), (2, 1), (3, 1), (3, 2), (4, 2), (5, 2)].map(|(s, token)| (at(s), token));
    assert_eq!(*lock(&often), want, "the token grows with each start, and the key does not change");
}

#[test]
fn r48_a_program_explains_what_each_output_gives_and_why() {
    let folder = tempfile::tempdir().unwrap();
    let attach = |stream: &DStream<i32>| {
        stream.print();
        stream.foreach_rdd(|_, _| ()).at_most_once();
        stream.foreach_batch(|_, _| ()).uid("counts").exactly_once();
        stream.save_as_text_files("out", "");
        stream.save_to(Remote::default()).uid("numbers");
    };
    let life = life(folder.path(), OnFailure::Stop, attach);
    let text = life.ssc.explain();
    let outputs: Vec<_> = text.lines().filter(|line| line.starts_with("->")).collect();
    for (line, want) in outputs.iter().zip([
        "as print 1: at least once, since a batch that had not ended runs again, with the same input",
        "as foreach_rdd 1: at most once, since the program asks for it",
        "as counts: exactly once, since the program says that its sink takes the key of a batch once",
        "as save_as_text_files 1: exactly once, since a batch's folder appears in one step",
        "as numbers: exactly once, since it is prepared in the batch, and committed when the batch's end is durable",
    ]) {
        assert!(line.contains(want), "{line}: {want}");
    }
    assert_eq!(outputs.len(), 5);
    let test = StreamTest::new();
    test.input(numbers()).print();
    assert!(test.ssc().explain().contains("at most once, since there is no checkpoint directory"));
}

#[test]
fn what_an_output_cannot_give_is_reported_by_the_start() {
    let test = StreamTest::new();
    let line = line!() + 1;
    test.input(numbers()).print().exactly_once();
    let error = test.ssc().start().unwrap_err();
    assert!(error.to_string().contains("print is not told the key"), "{error}");
    assert!(error.to_string().contains(&format!("exactly_once.rs:{line}")), "{error}");
    let test = StreamTest::new();
    test.input(numbers()).save_to(Remote::default()).uid("numbers").exactly_once();
    let error = test.ssc().start().unwrap_err();
    assert!(error.to_string().contains("there is no checkpoint directory"), "{error}");
    let test = StreamTest::new();
    let stream = test.input(numbers());
    stream.print().uid("a");
    stream.print().uid("a");
    assert!(test.ssc().start().unwrap_err().to_string().contains("two outputs have the uid `a`"));
}
