//! Outputs: DS17, DS20, DS21, DS30, DS31, S-105, S-107 to S-110, S-117, S-119, and "Bad input" of outputs.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use common::{Notes, Story, advance, at, batches_of, continuing, failure, gather};
use millstream_core::clock::ManualClock;
use millstream_core::{ErrorKind, Result, Text, Time, secs};
use millstream_streaming::{Conf, OutputBatch, RddQueue, StreamingContext};
use millstream_testkit::{Batches, Check, StreamTest, batches};

fn numbers() -> Batches<i32> {
    batches![[1, 2], [3], []]
}

// ------------------------------------------------------------------------------------------------------- print

/// Set for a copy of this test program that prints.
const PRINTS: &str = "MILLSTREAM_TEST_PRINTS";

/// Runs one test of this program in a process of its own, whose standard output can be looked at.
fn child(test: &str, value: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads", "1"]).env(PRINTS, value);
    command
}

#[test]
fn s105_print_shows_a_batch_in_sparks_exact_form_on_the_standard_output() {
    if std::env::var_os(PRINTS).is_some() {
        let mut test = StreamTest::new();
        test.input(batches![[("to", 2), ("be", 2)], []]).print();
        test.input(batches![[1, 2, 3], [4, 5]]).print_first(2);
        test.run(2).unwrap();
        return;
    }
    let name = "s105_print_shows_a_batch_in_sparks_exact_form_on_the_standard_output";
    let out = child(name, Path::new("yes")).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let header = |ms: u32| format!("{0}\nTime: {ms} ms\n{0}\n", "-".repeat(43));
    let want = [
        header(1000) + "(to,2)\n(be,2)\n\n",
        header(1000) + "1\n2\n...\n\n",
        header(2000) + "\n",
        header(2000) + "4\n5\n\n",
    ]
    .concat();
    assert!(text.contains(&want), "wanted\n{want}\nbut it is\n{text}");
}

#[test]
fn s105_a_standard_output_that_nobody_reads_fails_the_batch() {
    if let Some(path) = std::env::var_os(PRINTS) {
        let mut test = StreamTest::new();
        test.input(numbers()).print();
        let mut out = std::io::stdout();
        out.write_all(b"ready\n").and_then(|()| out.flush()).unwrap();
        let _ = std::io::stdin().read(&mut [0; 1]);
        let error = test.run(1).unwrap_err();
        fs::write(path, format!("{:?} {error}", error.kind())).unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let told = folder.path().join("told");
    let mut child = child("s105_a_standard_output_that_nobody_reads_fails_the_batch", &told)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let (mut seen, mut byte) = (Vec::new(), [0; 1]);
    while !seen.ends_with(b"ready\n") && out.read(&mut byte).unwrap() > 0 {
        seen.push(byte[0]);
    }
    drop(out);
    drop(child.stdin.take());
    // How the test harness takes it that its own report cannot be written is not our matter.
    let _ = child.wait().unwrap();
    let told = fs::read_to_string(told).unwrap();
    assert!(told.starts_with("Unavailable batch 1000 ms: the standard output could not be written"), "{told}");
    assert!(told.contains("(print at"), "{told}");
}

// ------------------------------------------------------------------------------------------------------- files

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn text(folder: impl AsRef<Path>) -> String {
    let parts = names(folder.as_ref()).into_iter().filter(|name| name.starts_with("part-"));
    parts.map(|name| fs::read_to_string(folder.as_ref().join(name)).unwrap()).collect()
}

#[test]
fn s107_each_batch_has_a_folder_named_by_prefix_time_and_suffix_also_an_empty_one() {
    let (mut test, folder) = (StreamTest::new(), tempfile::tempdir().unwrap());
    let prefix = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let stream = test.input(batches![[("a", 1), ("b", 2)], []]);
    stream.save_as_text_files(prefix("plain"), "");
    stream.save_as_text_files(prefix("with"), "txt");
    stream.map(|pair| pair.1).save_as_object_files(prefix("objects"), "bin");
    test.run(2).unwrap();
    let want = ["objects-1000.bin", "objects-2000.bin", "plain-1000", "plain-2000", "with-1000.txt", "with-2000.txt"];
    assert_eq!(names(folder.path()), want);
    for name in &want {
        assert_eq!(names(&folder.path().join(name)), ["_SUCCESS", "part-00000", "part-00001"], "S-108: {name}");
    }
    assert_eq!(text(folder.path().join("plain-1000")), "(a,1)\n(b,2)\n");
    assert_eq!(text(folder.path().join("plain-2000")), "");
    let engine = millstream_core::Context::new("local[1]", "reads").unwrap();
    let objects = engine.object_file::<i32>(folder.path().join("objects-1000.bin"));
    assert_eq!(objects.collect().unwrap(), [1, 2], "S-110");
}

#[test]
fn s109_a_batch_that_runs_again_writes_over_what_it_wrote_also_by_hand() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for words in [vec!["first", "time"], vec!["second"]] {
        let mut test = StreamTest::new();
        let stream = test.input(Batches::new(vec![millstream_testkit::Row::of(words)]));
        stream.save_as_text_files(path("auto").to_str().unwrap(), "");
        let by_hand = path("hand");
        stream.foreach_rdd(move |rdd, _| rdd.save_as_text_file(&by_hand));
        let planned = path("planned");
        let copied = stream.transform(move |rdd, _| {
            rdd.save_as_text_file(&planned).unwrap();
            rdd
        });
        gather(&copied);
        test.run(1).unwrap();
    }
    for name in ["auto-1000", "hand", "planned"] {
        assert_eq!(text(path(name)), "second\n", "{name}");
    }
    let engine = millstream_core::Context::new("local[1]", "outside").unwrap();
    let error = engine.parallelize(vec![1], 1).save_as_text_file(path("hand")).unwrap_err();
    assert!(error.to_string().contains("exists already"), "outside of a batch it is refused: {error}");
}

#[test]
fn ds30_a_folder_that_cannot_be_written_fails_its_batch_with_place_and_line() {
    let (test, folder) = (continuing(), tempfile::tempdir().unwrap());
    let blocked = folder.path().join("file");
    fs::write(&blocked, "in the way").unwrap();
    let prefix = blocked.join("out").to_str().unwrap().to_owned();
    let stream = test.input(numbers());
    let line = line!() + 1;
    stream.save_as_text_files(prefix.clone(), "");
    stream.save_as_object_files(prefix, "");
    let items = gather(&stream);
    test.ssc().start().unwrap();
    advance(&test, 1, 1);
    let error = failure(test.ssc());
    assert_eq!((error.kind(), error.batch()), (ErrorKind::Unavailable, Some(at(1))), "{error}");
    assert_eq!(error.site().map(|site| (site.op(), site.line())), Some(("save_as_text_files", line)), "{error}");
    assert!(error.to_string().contains("out-1000"), "{error}");
    assert_eq!(items.all(), [1, 2], "S-117: the batch's other outputs run");
    fs::remove_file(&blocked).unwrap();
    advance(&test, 2, 2);
    assert_eq!(names(&blocked), ["out-2000"], "later batches go on");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_under_an_output_fails_the_batch_at_its_line() {
    if !Path::new("/dev/full").exists() {
        return;
    }
    let test = StreamTest::new();
    let line = line!() + 1;
    test.input(numbers()).foreach_rdd(|rdd, _| {
        let mut disk = fs::OpenOptions::new().write(true).open("/dev/full")?;
        for number in rdd.collect()? {
            writeln!(disk, "{number}")?;
        }
        Ok(())
    });
    test.ssc().start().unwrap();
    test.clock().advance_to(at(1));
    let error = test.ssc().await_termination().unwrap_err();
    assert_eq!((error.kind(), error.batch()), (ErrorKind::Unavailable, Some(at(1))), "{error}");
    assert_eq!(error.site().map(|site| site.line()), Some(line), "{error}");
    assert!(error.to_string().contains("No space left"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_under_saved_files_fails_the_batch_and_leaves_no_mark_of_success() {
    if !Path::new("/dev/full").exists() {
        return;
    }
    let (test, folder) = (Check::new(2, 1).context(), tempfile::tempdir().unwrap());
    let out = folder.path().join("out-1000");
    // While the first part is written, the place of the second is put on a device that is always full.
    let second = out.join(".part-00001.0");
    let stream = test.input(Batches::new(vec![millstream_testkit::Row::of((0..50_000u64).collect())]));
    let broken = stream.map(move |n| {
        if n == 0 {
            std::os::unix::fs::symlink("/dev/full", &second).unwrap();
        }
        n
    });
    let line = line!() + 1;
    broken.save_as_text_files(folder.path().join("out").to_str().unwrap(), "");
    test.ssc().start().unwrap();
    test.clock().advance_to(at(1));
    let error = test.ssc().await_termination().unwrap_err();
    assert_eq!((error.kind(), error.batch()), (ErrorKind::Unavailable, Some(at(1))), "{error}");
    assert_eq!(error.site().map(|site| site.line()), Some(line), "{error}");
    assert!(error.to_string().contains("No space left"), "{error}");
    assert!(!names(&out).contains(&"_SUCCESS".to_owned()));
}

// -------------------------------------------------------------------------------------------- foreach and failures

#[test]
fn ds17_foreach_rdd_is_given_each_batch_and_its_time_in_order() {
    let mut test = StreamTest::new();
    let seen = Notes::default();
    let noted = seen.clone();
    test.input(numbers()).foreach_rdd(move |rdd, time| {
        noted.add((time.as_millis(), rdd.collect()?));
        Ok(())
    });
    test.run(3).unwrap();
    assert_eq!(seen.all(), [(1000, vec![1, 2]), (2000, vec![3]), (3000, vec![])]);
}

#[test]
fn the_key_of_a_batch_is_the_same_for_every_attempt_and_of_nothing_else() {
    let keys_of_a_run = || {
        let clock = ManualClock::new(Time::ZERO);
        let mut conf = Conf::new("local[2]", "keys").unwrap();
        conf.streaming.exclusive = false;
        let ssc = StreamingContext::builder(conf, secs(1))
            .with_clock(Arc::new(clock.clone()))
            .with_app_id("clicks")
            .build()
            .unwrap();
        let keys = Notes::default();
        let stream = ssc.queue_stream(&RddQueue::<i32>::new());
        for _ in 0..2 {
            let noted = keys.clone();
            stream.foreach_batch(move |_, batch: OutputBatch| {
                assert_eq!(batch.to_string(), batch.key().to_string());
                assert_eq!(batch.time(), batch.key().batch);
                noted.add(batch.key().partition(3));
            });
        }
        ssc.start().unwrap();
        for s in 1..=2 {
            clock.advance_to(at(s));
            assert!(ssc.await_batch(at(s)));
        }
        ssc.stop().unwrap();
        keys.all()
    };
    let first = keys_of_a_run();
    assert_eq!(first, ["clicks/0/1000/3", "clicks/1/1000/3", "clicks/0/2000/3", "clicks/1/2000/3"]);
    assert_eq!(keys_of_a_run(), first);
}

#[test]
fn s117_the_other_outputs_of_a_failed_batch_run_and_then_the_context_stops() {
    let test = StreamTest::new();
    let story = Story::of(test.ssc());
    let stream = test.input(numbers());
    let first = batches_of(&stream);
    let line = line!() + 1;
    stream.foreach_rdd(|_, time| -> Result<()> { Err(format!("the sink refuses {time}").into()) });
    let last = batches_of(&stream);
    test.ssc().start().unwrap();
    test.clock().advance_to(at(3));
    let error = test.ssc().await_termination().unwrap_err();
    assert_eq!((error.kind(), error.batch()), (ErrorKind::User, Some(at(1))), "{error}");
    assert_eq!(error.message(), "the sink refuses 1000 ms");
    assert_eq!(error.site().map(|site| site.line()), Some(line), "{error}");
    // Later batches that were planned meanwhile are given up between two outputs.
    assert_eq!((first.all()[0], last.all()[0]), (1000, 1000));
    let told = story.0.all();
    assert!(told.contains(&"1000 ms output 1 ended: the sink refuses 1000 ms".to_owned()), "S-119: {told:?}");
    assert!(told.contains(&"1000 ms output 2 ended".to_owned()), "{told:?}");
    assert!(told.contains(&"1000 ms completed".to_owned()), "{told:?}");
}

#[test]
fn s117_batches_go_on_after_a_failed_one_where_that_is_the_setting() {
    let test = continuing();
    let stream = test.input(numbers());
    stream.foreach_rdd(|_, time| -> Result<()> {
        if time == at(2) { Err("the sink refuses".into()) } else { Ok(()) }
    });
    let seen = batches_of(&stream);
    test.ssc().start().unwrap();
    advance(&test, 1, 4);
    assert_eq!(seen.all(), [1000, 2000, 3000, 4000]);
    for _ in 0..2 {
        let error = failure(test.ssc());
        assert_eq!((error.message(), error.batch()), ("the sink refuses", Some(at(2))));
    }
    assert_eq!(test.ssc().errors().len(), 1);
}

#[test]
fn closures_that_panic_or_fail_name_their_own_line() {
    for panics_in in ["map", "filter", "foreach_rdd", "reduce_by_key", "foreach"] {
        let test = continuing();
        let words = test.input(batches![["a", "b", "a"]]);
        let panics = move |place: &str| assert!(place != panics_in, "no such luck");
        let begin = line!();
        let mapped = words.map(move |word: Text| (panics("map"), word).1);
        let kept = mapped.filter(move |_| (panics("filter"), true).1);
        let counts = kept.map(|word| (word, 1)).reduce_by_key(move |a, b| (panics("reduce_by_key"), a + b).1);
        counts.foreach_rdd(move |rdd, _| {
            panics("foreach_rdd");
            rdd.foreach(move |_| panics("foreach"))
        });
        let line = ["map", "filter", "reduce_by_key", "foreach_rdd", "", "foreach"]
            .iter()
            .position(|place| *place == panics_in)
            .unwrap() as u32
            + begin
            + 1;
        test.ssc().start().unwrap();
        advance(&test, 1, 2);
        let error = failure(test.ssc());
        assert_eq!((error.kind(), error.batch()), (ErrorKind::User, Some(at(1))), "{error}");
        assert!(error.to_string().contains("panicked: no such luck"), "{error}");
        assert_eq!(error.site().map(|site| site.line()), Some(line), "{panics_in}: {error}");
    }
}

#[test]
fn rd_an_error_of_an_action_keeps_its_batch_also_through_a_question_mark() {
    let test = continuing();
    test.input(numbers()).foreach_rdd(|rdd, _| {
        rdd.map(|n| (n, n)).reduce_by_key(|a, b| a + b).save_as_text_file("/dev/null/out")?;
        Ok(())
    });
    test.ssc().start().unwrap();
    advance(&test, 1, 1);
    let error = failure(test.ssc());
    assert_eq!((error.kind(), error.batch()), (ErrorKind::Unavailable, Some(at(1))), "{error}");
}
