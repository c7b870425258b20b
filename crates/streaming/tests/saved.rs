//! What is saved of streams and states, where, and what is said if it cannot be: SC08, DS07, S-11, S-48, S-61, MIS08, MIS09,
//! K-33; and streams that do not meet, S-66.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use common::Notes;
use millstream_core::clock::ManualClock;
use millstream_core::{ErrorKind, StorageLevel, Time, millis, secs};
use millstream_streaming::{Conf, DStream, RddQueue, State, StateSpec, StreamingContext};
use millstream_testkit::{Check, StreamTest, batches};

type Pairs = DStream<(i32, i32)>;

/// Sums by key, kept in one kind of state or the other.
fn updated(pairs: &Pairs) -> Pairs {
    pairs.update_state_by_key(|new, old: Option<i32>| Some(old.unwrap_or(0) + new.iter().sum::<i32>()))
}

fn mapped(pairs: &Pairs) -> Pairs {
    let spec = StateSpec::function(|key: &i32, value: Option<i32>, state: &mut State<'_, i32>| {
        let sum = state.get_option().copied().unwrap_or(0) + value.unwrap_or(0);
        state.update(sum);
        (*key, sum)
    });
    pairs.map_with_state(spec).stream()
}

fn conf() -> Conf {
    let mut conf = Conf::new("local[1]", "saved").unwrap();
    conf.streaming.exclusive = false;
    conf
}

/// A context without a place for checkpoints, and an input.
fn without_folder(conf: Conf) -> (StreamingContext, Pairs, ManualClock) {
    let clock = ManualClock::new(Time::ZERO);
    let ssc = StreamingContext::builder(conf, secs(1)).with_clock(Arc::new(clock.clone())).build().unwrap();
    let queue = RddQueue::new();
    for i in 0..11 {
        queue.push(ssc.context().parallelize(vec![(i % 3, 1)], 1));
    }
    let pairs = ssc.queue_stream(&queue);
    (ssc, pairs, clock)
}

#[test]
fn s48_s61_mis08_a_state_needs_a_checkpoint_directory() {
    let programs: [fn(&Pairs) -> Pairs; 3] = [updated, mapped, |pairs| pairs.map(|pair| pair).checkpoint(secs(2))];
    for program in programs {
        let (ssc, pairs, _) = without_folder(conf());
        program(&pairs).print();
        let error = ssc.start().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("the checkpoint directory has not been set"), "{error}");
        assert!(error.site().unwrap().to_string().contains("saved.rs:"), "{error}");
    }
    // What no output needs is not saved either.
    let (ssc, pairs, _) = without_folder(conf());
    let _unused = updated(&pairs);
    pairs.print();
    ssc.start().unwrap();
    ssc.stop().unwrap();
}

/// How many files of states there are in the folder of a checkpoint.
fn files(folder: &Path) -> usize {
    fn all(folder: &Path) -> usize {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.map(|path| if path.is_dir() { all(&path) } else { 1 }).sum()
    }
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("states-")).map(|path| all(&path)).sum()
}

#[test]
fn sc08_k33_states_are_saved_in_the_folder_that_is_named_by_the_program_or_the_settings() {
    for by_settings in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        // It need not be there.
        let path = folder.path().join("made").join("here");
        let mut conf = conf();
        if by_settings {
            conf.set("spark.streaming.checkpoint.directory", path.to_str().unwrap()).unwrap();
        }
        let (ssc, pairs, clock) = without_folder(conf);
        if !by_settings {
            ssc.checkpoint(&path).unwrap();
        }
        let sums = common::gather(&updated(&pairs));
        common::sink(&mapped(&pairs));
        ssc.start().unwrap();
        for s in 1..=11 {
            assert_eq!(files(&path) > 0, s > 10, "S-18: every ten seconds");
            clock.advance_to(common::at(s));
            assert!(ssc.await_batch(common::at(s)));
            ssc.context().await_saves().unwrap();
        }
        assert_eq!((sums.all().last(), files(&path)), (Some(&(2, 3)), 2), "one partition of either state");
        ssc.stop().unwrap();
    }
}

#[test]
fn ds07_s11_a_stream_that_is_to_be_saved_is_saved_every_interval_and_its_lineage_is_cut() {
    let mut test = Check::new(2, 1).context();
    let numbers = test.input(batches![[1], [2], [3], [4], [5]]).map(|n| n * 10).checkpoint(secs(2));
    let seen = Notes::default();
    let noted = seen.clone();
    numbers.foreach_rdd(move |rdd, time| {
        let before = rdd.is_checkpointed();
        let sum = rdd.reduce(|a, b| a + b)?;
        noted.add((time.as_millis() / 1000, sum, before, rdd.is_checkpointed()));
        Ok(())
    });
    let again = test.collect(&numbers);
    test.run(5).unwrap();
    let want = [(1, 10, false), (2, 20, true), (3, 30, false), (4, 40, true), (5, 50, false)];
    assert_eq!(seen.all(), want.map(|(s, sum, saved)| (s, sum, false, saved)));
    assert_eq!(again.table().to_string(), "1s 10\n2s 20\n3s 30\n4s 40\n5s 50");
}

#[test]
fn ds07_a_stream_that_is_saved_is_kept_in_memory_unless_the_program_says_how() {
    let mut test = Check::new(2, 1).context();
    let numbers = test.input(batches![[1], [2]]);
    let disk = StorageLevel::MEMORY_AND_DISK;
    let levels = Notes::default();
    for stream in [
        numbers.map(|n| n).checkpoint(secs(2)),
        numbers.map(|n| n).persist(disk).checkpoint(secs(2)),
        numbers.map(|n| n).checkpoint(secs(2)).persist(disk),
        numbers.map(|n| n),
    ] {
        let noted = levels.clone();
        stream.foreach_rdd(move |rdd, _| {
            noted.add(rdd.storage_level());
            rdd.count().map(drop)
        });
    }
    test.run(2).unwrap();
    let want = [StorageLevel::MEMORY_ONLY, disk, disk, StorageLevel::NONE];
    assert_eq!(levels.all(), [want, want].concat());
}

#[test]
fn s139_a_folder_that_was_named_is_taken_back() {
    for by_settings in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("unused");
        let mut conf = conf();
        if by_settings {
            conf.streaming.checkpoint_dir = Some(path.clone());
        }
        let (ssc, pairs, _) = without_folder(conf);
        if !by_settings {
            ssc.checkpoint(&path).unwrap();
        }
        ssc.clear_checkpoint().unwrap();
        updated(&pairs).print();
        let error = ssc.start().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("the checkpoint directory has not been set"), "{error}");
        assert_eq!(path.exists(), !by_settings, "a folder that only the settings name is not made");
    }
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ssc, pairs, clock) = without_folder(conf());
    ssc.checkpoint(&first).unwrap();
    ssc.clear_checkpoint().unwrap();
    ssc.checkpoint(&second).unwrap();
    common::sink(&updated(&pairs).checkpoint(secs(1)));
    ssc.start().unwrap();
    let (late, line) = (ssc.clear_checkpoint(), line!());
    common::assert_error(late, ErrorKind::Stopped, &["call it before", &format!("saved.rs:{line}")]);
    clock.advance_to(common::at(1));
    assert!(ssc.await_batch(common::at(1)));
    ssc.stop().unwrap();
    assert_eq!((files(first.path()), files(second.path())), (0, 1));
}

#[test]
fn s61_a_state_that_cannot_be_saved_is_reported_and_what_is_made_of_it_goes_on_from_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("states");
    let mut conf = conf();
    conf.streaming.on_failure = millstream_streaming::OnFailure::Continue;
    let (ssc, pairs, clock) = without_folder(conf);
    ssc.checkpoint(&path).unwrap();
    let sums = common::gather(&updated(&pairs));
    ssc.start().unwrap();
    // A file where there was a folder: nothing can be written any more.
    fs::remove_dir_all(&path).unwrap();
    fs::write(&path, "").unwrap();
    let advance = |s| {
        clock.advance_to(common::at(s));
        assert!(ssc.await_batch(common::at(s)));
    };
    (1..=10).for_each(advance);
    let error = ssc.context().await_saves().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    // It is not cut off from what it was made of, and the batches that follow have it in memory. One is told.
    fs::remove_file(&path).unwrap();
    advance(11);
    advance(12);
    ssc.context().await_saves().unwrap();
    assert_eq!((sums.all().last(), files(&path)), (Some(&(2, 3)), 1));
    assert!(ssc.await_termination_or_timeout(std::time::Duration::ZERO).is_err(), "the batch that was told has failed");
    let _ = ssc.stop();
}

#[test]
fn mis09_a_checkpoint_interval_is_a_multiple_of_the_slide() {
    let test = StreamTest::new();
    let numbers = test.input(batches![[(1, 1)]]);
    let by_two = numbers.window((secs(2), secs(2)));
    let wrong = [
        (numbers.map(|n| n).checkpoint(millis(500)), line!()),
        (numbers.map(|n| n).checkpoint(secs(0)), line!()),
        (by_two.map(|n| n).checkpoint(secs(3)), line!()),
        (updated(&by_two).checkpoint(secs(5)), line!()),
    ];
    for (stream, _) in &wrong {
        stream.print();
    }
    let error = test.ssc().start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Graph);
    let text = error.to_string();
    for (_, line) in wrong {
        assert!(text.contains(&format!("saved.rs:{line}")), "{line} in {text}");
    }
    assert!(text.contains("checkpoint interval 3s is not a multiple of the stream's slide 2s"), "{text}");
}

#[test]
fn s66_streams_of_different_slides_do_not_meet() {
    let test = StreamTest::new();
    let pairs: Pairs = test.input(batches![[(1, 1)]]);
    let by_two = pairs.window((secs(2), secs(2)));
    let (union, at_union) = (pairs.union(&by_two), line!());
    let (join, at_join) = (pairs.join(&by_two), line!());
    let (both, at_both) = (pairs.transform_with(&by_two, |a, _, _| a), line!());
    union.print();
    join.print();
    both.print();
    let error = test.ssc().start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Graph);
    let text = error.to_string();
    for line in [at_union, at_join, at_both] {
        assert!(text.contains(&format!("saved.rs:{line}")), "{line} in {text}");
    }
    assert!(text.contains("the streams have different slides: 1s and 2s"), "{text}");
}
