//! Checkpoint directories of every version of the form that there ever was: each is read by this build, as is and without its
//! newest checkpoint file; and what this build writes is the newest of them, byte for byte. They begin with version 2: what was written
//! before had no check sums behind its states, and was never released.
//!
//! If this test fails because the form has changed: give the form a new version (`docs/specs/checkpoint.md`), keep the directories
//! that are here, and write the new one with
//!
//! ```text
//! WRITE_FIXTURE=1 cargo test -p millstream-streaming --test fixtures
//! ```

mod builds;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

use millstream_core::clock::{Clock, ManualClock};
use millstream_core::threads::lock;
use millstream_core::{Error, ErrorKind, Rdd, Result, Time, secs};
use millstream_streaming::commands::{Answer, answer};
use millstream_streaming::{
    Conf, MissedBatches, OutputBatch, OutputRun, Position, Receiver, State, StateSpec, Store, StreamingContext,
    StreamingContextBuilder, Transactional,
};

use self::builds::Ticks;

/// Receives one block, once and for all, tells that it is stored or was before, and ends.
struct OneBlock(Arc<Mutex<Sender<()>>>);

impl Receiver for OneBlock {
    type Item = (String, i64);

    fn receive(&mut self, store: &mut dyn Store<(String, i64)>) -> Result<()> {
        let told = lock(&self.0).clone();
        let stored = Box::new(move || told.send(()).expect("the test waits for it"));
        match store.position() {
            None => store.store_block_at(vec![("r".into(), 1000)], Position::from(1), stored),
            Some(_) => {
                stored();
                Ok(())
            }
        }
    }
}

/// Runs a program with everything that is kept, from batch to batch; returns what its states were behind the last.
fn run(folder: &Path, from: i64, to: i64) -> Result<BTreeMap<String, i64>> {
    let clock = ManualClock::new(Time::from_millis((from - 1) * 1000));
    let mut conf = Conf::new("local[1]", "fixture")?;
    conf.streaming.exclusive = false;
    conf.streaming.checkpoint_after = 4;
    conf.engine.save_in_background = false;
    let (told, tell) = channel();
    let told = Arc::new(Mutex::new(told));
    let seen: Arc<Mutex<BTreeMap<String, i64>>> = Arc::default();
    let ssc = StreamingContext::builder(conf, secs(1))
        .with_clock(Arc::new(clock.clone()) as Arc<dyn Clock>)
        .with_app_id("fixture")
        .get_or_create(folder, |ssc| {
            let received = ssc.receiver_stream(OneBlock(Arc::clone(&told))).uid("received");
            let all = ssc.input(Ticks).uid("ticks").union(&received);
            let rows = all.update_state_by_key(|new: Vec<i64>, old: Option<i64>| {
                Some(old.unwrap_or(0) + new.iter().sum::<i64>())
            });
            let spec = StateSpec::function(|key: &String, value: Option<i64>, state: &mut State<'_, i64>| {
                let sum = state.get_option().copied().unwrap_or(0) + value.unwrap_or(0);
                state.update(sum);
                (key.clone(), sum)
            });
            let table = all.map_with_state(spec).checkpoint(secs(2));
            table.uid("table");
            let window = all.reduce_by_key_and_window_inv(|a, b| a + b, |a, b| a - b, secs(3));
            let streams = [
                ("rows", rows.checkpoint(secs(2)).uid("rows")),
                ("table", table.state_snapshots()),
                ("window", window.checkpoint(secs(2)).uid("window")),
            ];
            for (name, stream) in streams {
                let seen = Arc::clone(&seen);
                stream.foreach_rdd(move |rdd, _| {
                    let all = rdd.collect()?;
                    lock(&seen).extend(all.into_iter().map(|(key, sum)| (format!("{name} {key}"), sum)));
                    Ok(())
                });
            }
            Ok(())
        })?;
    ssc.start()?;
    tell.recv().expect("the block is stored");
    for s in from..=to {
        clock.advance_to(Time::from_millis(s * 1000));
        ssc.await_batch(Time::from_millis(s * 1000));
    }
    ssc.await_termination_or_timeout(std::time::Duration::ZERO)?;
    ssc.stop()?;
    let seen = lock(&seen).clone();
    Ok(seen)
}

fn fixtures() -> PathBuf {
    // Tests run in the folder of their crate.
    PathBuf::from("tests/fixtures")
}

/// Returns all files below a folder, by their names from there.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut files, mut folders) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(within) = folders.pop() {
        for entry in std::fs::read_dir(within).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("it is below").to_string_lossy().into_owned();
                files.insert(name, std::fs::read(path).expect("a file"));
            }
        }
    }
    files.remove("lock");
    files
}

/// Returns the fixtures of a program: their names begin with its name.
fn versions(of: &str) -> Vec<PathBuf> {
    let all = std::fs::read_dir(fixtures()).expect("fixtures").map(|entry| entry.expect("an entry").path());
    all.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(of))).collect()
}

fn copy(files: &BTreeMap<String, Vec<u8>>, to: &Path) {
    for (name, bytes) in files {
        let path = to.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("it is made");
        std::fs::write(path, bytes).expect("it is written");
    }
}

/// The batches of a fixture.
const BATCHES: i64 = 7;

#[test]
fn directories_of_every_version_are_read_and_go_on() {
    let versions = versions("checkpoint-");
    assert!(versions.len() >= 2, "{versions:?}");
    let sum = (1..=BATCHES + 1).sum::<i64>();
    let want = BTreeMap::from(
        [
            ("rows k", sum),
            ("rows r", 1000),
            ("table k", sum),
            ("table r", 1000),
            ("window k", 3 * BATCHES),
            ("window r", 0),
        ]
        .map(|(name, sum)| (name.to_owned(), sum)),
    );
    for version in versions {
        let mut kept = files(&version);
        let newest = kept.keys().rfind(|name| name.starts_with("checkpoint-")).expect("a checkpoint file").clone();
        for without_newest in [false, true] {
            if without_newest {
                kept.remove(&newest);
            }
            let folder = tempfile::tempdir().expect("a folder");
            copy(&kept, folder.path());
            let seen = run(folder.path(), BATCHES + 1, BATCHES + 1);
            let seen = seen.unwrap_or_else(|error| panic!("{}: {error}", version.display()));
            assert_eq!(seen, want, "{}, without the newest file: {without_newest}", version.display());
        }
    }
}

#[test]
fn what_this_build_writes_is_the_newest_fixture_byte_for_byte() {
    let folder = tempfile::tempdir().expect("a folder");
    run(folder.path(), 1, BATCHES).expect("a program that runs");
    is_the_newest_fixture("checkpoint-", &files(folder.path()));
}

fn is_the_newest_fixture(of: &str, written: &BTreeMap<String, Vec<u8>>) {
    let (_, file) = written.iter().find(|(name, _)| name.starts_with("checkpoint-")).expect("a checkpoint file");
    let version = u16::from_le_bytes([file[6], file[7]]);
    let fixture = fixtures().join(format!("{of}{version}"));
    if std::env::var_os("WRITE_FIXTURE").is_some() {
        assert!(!fixture.exists(), "{} is there: a version is written once", fixture.display());
        return copy(written, &fixture);
    }
    let kept = files(&fixture);
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(written), names(&kept));
    for (name, bytes) in &kept {
        assert_eq!(written[name], *bytes, "{name} has another form than the fixture: see the head of this file");
    }
}

/// A sink that remembers what was committed, and refuses one batch.
#[derive(Clone)]
struct Sums {
    committed: Arc<Mutex<Vec<(i64, i64)>>>,
    /// Told of each commit, also one that is refused.
    asked: Arc<Mutex<Sender<i64>>>,
    refuses: Option<i64>,
}

impl Transactional<(String, i64)> for Sums {
    type Prepared = i64;

    fn prepare(&self, rdd: &Rdd<(String, i64)>, _: &OutputBatch) -> Result<i64> {
        Ok(rdd.collect()?.into_iter().map(|(_, n)| n).sum())
    }

    fn commit(&self, sum: &i64, batch: &OutputBatch) -> Result<()> {
        let at = batch.time().as_millis() / 1000;
        // Nobody waits for those of a replay.
        let _ = lock(&self.asked).send(at);
        if self.refuses == Some(at) {
            return Err(Error::new(ErrorKind::Unavailable, "the sink is away"));
        }
        lock(&self.committed).push((at, *sum));
        Ok(())
    }

    fn abort(&self, _: &i64, _: &OutputBatch) -> Result<()> {
        Ok(())
    }

    fn recover(&self, _: &[(OutputBatch, i64)], _: &OutputRun) -> Result<()> {
        Ok(())
    }
}

fn outputs(ssc: &StreamingContext, sink: &Sums) {
    let ticks = ssc.input(Ticks).uid("ticks");
    ticks.save_to(sink.clone()).uid("sums");
    ticks.digested().uid("seen");
}

fn outputs_builder(clock: &ManualClock) -> Result<StreamingContextBuilder> {
    let mut conf = Conf::new("local[1]", "fixture")?;
    conf.streaming.exclusive = false;
    conf.streaming.checkpoint_after = 4;
    conf.streaming.retain_batches = 2;
    conf.streaming.missed_batches = MissedBatches::Skip;
    Ok(StreamingContext::builder(conf, secs(1))
        .with_clock(Arc::new(clock.clone()) as Arc<dyn Clock>)
        .with_app_id("fixture"))
}

/// Runs a program with outputs in two steps and digests; returns what was committed, by batch.
fn run_outputs(folder: &Path, from: i64, to: i64, refuses: Option<i64>) -> Result<Vec<(i64, i64)>> {
    let clock = ManualClock::new(Time::from_millis((from - 1) * 1000));
    let (asked, commits) = channel();
    let sink = Sums { committed: Arc::default(), asked: Arc::new(Mutex::new(asked)), refuses };
    let ssc = outputs_builder(&clock)?.get_or_create(folder, |ssc| {
        outputs(ssc, &sink);
        Ok(())
    })?;
    ssc.start()?;
    for s in from..=to {
        clock.advance_to(Time::from_millis(s * 1000));
        // What was prepared before is committed first.
        while commits.recv().expect("a commit") != s {}
    }
    let ended = ssc.await_termination_or_timeout(std::time::Duration::ZERO);
    ssc.stop()?;
    if refuses.is_none() {
        ended?;
    }
    let committed = lock(&sink.committed).clone();
    Ok(committed)
}

#[test]
fn what_outputs_prepared_digests_and_batches_that_were_left_out_are_read_from_every_version() {
    let versions = versions("outputs-");
    assert!(!versions.is_empty());
    for version in versions {
        let folder = tempfile::tempdir().expect("a folder");
        copy(&files(&version), folder.path());
        let text = |command: &str| {
            let clock = ManualClock::new(Time::ZERO);
            let sink = Sums { committed: Arc::default(), asked: Arc::new(Mutex::new(channel().0)), refuses: None };
            let setup = |ssc: &StreamingContext| {
                outputs(ssc, &sink);
                Ok(())
            };
            let words: Vec<String> =
                command.split(' ').map(|word| word.replace("DIR", &folder.path().to_string_lossy())).collect();
            let mut out = Vec::new();
            let program = outputs_builder(&clock).expect("settings");
            let answered = answer(&words, Some((program, &setup)), &mut out).expect("an answer");
            let text = String::from_utf8(out).expect("a text");
            assert_eq!(answered, Answer::Yes, "{}: {text}", version.display());
            text
        };
        let inspected = text("checkpoint inspect DIR --json");
        assert!(inspected.contains("\"uncommitted_batches_ms\": [\n    7000\n  ]"), "{inspected}");
        assert!(text("replay DIR 6000").contains("It is the batch that it was"));
        let committed = run_outputs(folder.path(), BATCHES + 1, BATCHES + 1, None).expect("it goes on");
        assert_eq!(committed, [(7, 7), (8, 8)], "{}", version.display());
    }
}

#[test]
fn what_this_build_writes_of_outputs_is_the_newest_fixture_byte_for_byte() {
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(run_outputs(folder.path(), 1, 3, None).expect("a program that runs"), [(1, 1), (2, 2), (3, 3)]);
    // Two batches are missed, and left out.
    assert_eq!(run_outputs(folder.path(), 6, BATCHES, Some(BATCHES)).expect("a program that runs"), [(6, 6)]);
    is_the_newest_fixture("outputs-", &files(folder.path()));
}
