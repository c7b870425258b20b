//! Outputs: DS17, DS20, DS21, DS29, DS30, DS31, PD20, PD21, S-73, S-105, S-107 to S-110, S-114, S-117, S-119, S-121,
//! and "Bad input" of outputs.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use common::{Notes, Story, WATCHDOG, advance, at, batches_of, continuing, ends, failure, gather, sink, within};
use millstream_core::clock::ManualClock;
use millstream_core::disk::Disk;
use millstream_core::threads::lock;
use millstream_core::{Csv, ErrorKind, JsonLines, Rdd, Result, SequenceFiles, TaskContext, Text, Time, secs};
use millstream_streaming::{Conf, DStream, Interval, OutputBatch, RddQueue, StreamingContext};
use millstream_testkit::{Batches, Check, Fault, Operation, SimDisk, StreamTest, batches, input};

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
fn pd20_pd21_each_batch_is_written_by_a_writer_into_a_folder_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let prefix = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    for how in [Check::new(2, 2), Check::new(2, 2).through_bytes()] {
        let mut test = how.context();
        let stream = test.input(batches![[("a,b", 1), ("c", 2)], []]);
        stream.save_with_files(prefix("csv"), "", Csv::new());
        stream.save_with_files(prefix("json"), "d", JsonLines);
        stream.save_with_files(prefix("seq"), "", SequenceFiles::new());
        // Again, S-109: a batch that runs again writes over what it wrote.
        test.run(2).unwrap();
    }
    let want = ["csv-1000", "csv-2000", "json-1000.d", "json-2000.d", "seq-1000", "seq-2000"];
    assert_eq!(names(folder.path()), want, "S-107");
    assert_eq!(names(&folder.path().join("csv-2000")), ["_SUCCESS", "part-00000.csv", "part-00001.csv"], "S-108");
    assert_eq!(text(folder.path().join("csv-1000")), "\"a,b\",1\nc,2\n");
    assert_eq!(text(folder.path().join("json-1000.d")), "[\"a,b\",1]\n[\"c\",2]\n");
    let engine = millstream_core::Context::new("local[1]", "reads").unwrap();
    let pairs = engine.sequence_file::<Text, i32>(folder.path().join("seq-*"), 1);
    assert_eq!(pairs.collect().unwrap(), [(Text::from("a,b"), 1), (Text::from("c"), 2)]);
}

#[test]
fn pd20_a_writer_that_fails_fails_its_batch_at_the_programs_line() {
    let (test, folder) = (continuing(), tempfile::tempdir().unwrap());
    let line = line!() + 1;
    test.input(numbers()).save_with_files(
        folder.path().join("out").to_str().unwrap(),
        "",
        Csv::new().with_delimiter(255),
    );
    test.ssc().start().unwrap();
    advance(&test, 1, 1);
    let error = failure(test.ssc());
    assert_eq!((error.kind(), error.batch()), (ErrorKind::Config, Some(at(1))), "{error}");
    assert_eq!(error.site().map(|site| (site.op(), site.line())), Some(("save_with_files", line)), "{error}");
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

#[test]
fn a_full_disk_under_saved_files_fails_the_batch_and_leaves_nothing() {
    let run = |disk: &SimDisk| {
        let mut conf = Conf::new("local[1]", "full").unwrap();
        conf.engine.default_parallelism = Some(2);
        conf.streaming.exclusive = false;
        let clock = ManualClock::new(Time::ZERO);
        let builder = StreamingContext::builder(conf, secs(1)).with_clock(Arc::new(clock.clone()));
        let ssc = builder.with_output_disk(Arc::new(disk.clone())).build().unwrap();
        let rows = Batches::new(vec![millstream_testkit::Row::of((0..50_000u64).collect())]);
        let line = line!() + 1;
        input(&ssc, rows, 2).save_as_text_files("/out", "");
        ssc.start().unwrap();
        clock.advance_to(at(1));
        ssc.await_batch(at(1));
        let ended = ssc.await_termination_or_timeout(std::time::Duration::ZERO);
        ssc.stop().unwrap();
        ended.map_err(|error| {
            assert_eq!((error.kind(), error.batch()), (ErrorKind::Unavailable, Some(at(1))), "{error}");
            assert_eq!(error.site().map(|site| site.line()), Some(line), "{error}");
            error.to_string()
        })
    };
    let disk = SimDisk::new(0);
    run(&disk).unwrap();
    let is_second = |step: &Operation| step.name == "append" && step.path.to_string_lossy().contains("part-00001");
    let second = disk.operations().into_iter().find(is_second).unwrap();
    let disk = SimDisk::new(0);
    disk.fail_at(second.number, Fault::DiskFull);
    let error = run(&disk).unwrap_err();
    assert!(error.contains("disk is full") && error.contains("part-00001"), "{error}");
    assert_eq!(disk.list(Path::new("/")).unwrap(), [""; 0], "nothing of it is there");
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
        for uid in [None, Some("told")] {
            let noted = keys.clone();
            let output = stream.foreach_batch(move |_, batch: OutputBatch| {
                assert_eq!(batch.to_string(), batch.key().to_string());
                assert_eq!(batch.time(), batch.key().batch);
                noted.add(batch.key().partition(3));
            });
            if let Some(uid) = uid {
                output.uid(uid);
            }
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
    assert_eq!(
        first,
        ["clicks/foreach_batch 1/1000/3", "clicks/told/1000/3", "clicks/foreach_batch 1/2000/3", "clicks/told/2000/3"]
    );
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

// ------------------------------------------------------------------------------------- the threads that run outputs

#[test]
fn s114_outputs_of_one_batch_overlap_where_more_than_one_may_run() {
    let test = Check::new(2, 2).with_conf(secs(1), |conf| conf.streaming.concurrent_jobs = 2);
    let stream = test.input(numbers());
    let met = Notes::default();
    let (to_first, from_second) = channel::<i64>();
    let (to_second, from_first) = channel::<i64>();
    // Each tells the other that it runs, and waits to be told: one after the other, neither would end.
    for (name, tell, told) in [("first", to_second, from_second), ("second", to_first, from_first)] {
        let (met, told) = (met.clone(), Mutex::new(told));
        stream.foreach_rdd(move |_, time| {
            let _ = tell.send(time.as_millis());
            met.add((time.as_millis(), name, lock(&told).recv_timeout(WATCHDOG)));
        });
    }
    test.ssc().start().unwrap();
    advance(&test, 1, 2);
    let mut met = met.all();
    met.sort_by_key(|(time, name, _)| (*time, *name));
    let want = [(1000, "first"), (1000, "second"), (2000, "first"), (2000, "second")];
    assert_eq!(met, want.map(|(time, name)| (time, name, Ok(time))));
}

#[test]
fn s121_outputs_run_with_the_local_properties_that_were_set_at_the_start_and_say_what_they_are() {
    let test = StreamTest::new();
    let context = test.ssc().context().clone();
    context.set_local_property("tenant", Some("mill"));
    context.set_local_property("spark.scheduler.pool", Some("streams"));
    context.set_job_group("interactive", "what the program does itself");
    let (on_driver, in_tasks, planned) = (Notes::default(), Notes::default(), Notes::default());
    let stream = test.input(numbers());
    let (noted, engine) = (planned.clone(), context.clone());
    let stream = stream.transform(move |rdd, _| {
        noted.add(engine.local_property("tenant"));
        rdd
    });
    gather(&stream);
    let (driver, tasks, engine) = (on_driver.clone(), in_tasks.clone(), context.clone());
    stream.foreach_rdd(move |rdd, _| {
        let keys = ["tenant", "spark.scheduler.pool", "spark.job.description", "spark.job.interruptOnCancel"];
        let more = ["spark.streaming.internal.batchTime", "spark.streaming.internal.outputOpId"];
        let all: Vec<_> = keys.into_iter().chain(more).map(|key| engine.local_property(key)).collect();
        driver.add(all.into_iter().flatten().collect::<Vec<_>>().join(" "));
        // What an output sets is its own.
        engine.set_local_property("tenant", Some("nobody"));
        engine.set_local_property("tenant", Some("output"));
        let tenant = |_| TaskContext::current().and_then(|task| task.local_property("tenant").map(str::to_owned));
        let tenants = rdd.map(tenant).collect()?;
        tasks.add(tenants);
        let within = engine.clone();
        let groups = rdd.map(move |_| within.jobs().into_iter().any(|job| job.group.as_deref() == Some("interactive")));
        assert!(!groups.collect()?.contains(&true), "the group is not inherited");
        Ok(())
    });
    test.ssc().start().unwrap();
    context.set_local_property("tenant", Some("later"));
    advance(&test, 1, 2);
    let said = |time: u32| format!("mill streams [output operation 1, batch time {time} ms] false {time} 1");
    assert_eq!(on_driver.all(), [said(1000), said(2000)]);
    let output = || Some("output".to_owned());
    assert_eq!(in_tasks.all(), [vec![output(), output()], vec![output()]]);
    assert_eq!(planned.all(), vec![Some("mill".to_owned()); 2], "closures that plan a batch are called with them too");
    assert_eq!(context.local_property("tenant").as_deref(), Some("later"));
}

// ------------------------------------------------------------------------------------------------------ slices

/// Makes a context that remembers ten seconds of the numbers 1, 2, 3, 4.
fn remembering() -> (StreamTest, DStream<i32>) {
    let test = Check::new(2, 2).context();
    test.ssc().remember(secs(10));
    let stream = test.input(batches![[1], [2], [3], [4]]);
    sink(&stream);
    (test, stream)
}

fn values(rdds: &[Rdd<i32>]) -> Vec<i32> {
    rdds.iter().flat_map(|rdd| rdd.collect().unwrap()).collect()
}

#[test]
fn s73_a_slice_holds_both_ends_which_are_floored() {
    let (test, stream) = remembering();
    test.ssc().start().unwrap();
    advance(&test, 1, 4);
    for (from, to, want) in [
        (0, 1000, &[1][..]),
        (0, 2000, &[1, 2]),
        (1000, 2000, &[1, 2]),
        (2000, 4000, &[2, 3, 4]),
        (2999, 3001, &[2, 3]),
        (-5000, 999, &[]),
        (4000, 9000, &[4]),
        (3000, 1000, &[]),
        (i64::MIN / 4, i64::MAX / 4, &[1, 2, 3, 4]),
    ] {
        let (from, to) = (Time::from_millis(from), Time::from_millis(to));
        assert_eq!(values(&stream.slice(from, to).unwrap()), want, "{from} to {to}");
    }
    assert_eq!(
        values(&stream.slice_interval(Interval::new(at(1), at(3))).unwrap()),
        [2, 3],
        "the beginning is left out"
    );
    advance(&test, 5, 13);
    assert_eq!(values(&stream.slice(at(1), at(4)).unwrap()), [4], "what is forgotten is not there");
}

#[test]
fn ds29_outputs_may_slice_and_those_for_whom_the_batches_wait_are_refused() {
    let (test, stream) = remembering();
    let (seen, refused) = (Notes::default(), Notes::default());
    let (other, noted) = (stream.clone(), seen.clone());
    stream.foreach_rdd(move |_, time| {
        noted.add(values(&other.slice(Time::ZERO, time)?));
        Ok(())
    });
    let (other, noted) = (stream.clone(), refused.clone());
    sink(&stream.transform(move |rdd, time| {
        noted.add(other.slice(Time::ZERO, time).map_err(|e| (e.kind(), e.to_string())).err());
        rdd
    }));
    let says = |error: millstream_core::Error, line: u32| {
        assert_eq!(error.kind(), ErrorKind::Stopped, "{error}");
        assert!(error.to_string().contains("its context"), "{error}");
        assert_eq!(error.site().map(|site| (site.op(), site.line())), Some(("slice", line)), "{error}");
    };
    says(stream.slice(at(0), at(1)).unwrap_err(), line!());
    test.ssc().start().unwrap();
    advance(&test, 1, 3);
    assert_eq!(seen.all(), [vec![1], vec![1, 2], vec![1, 2, 3]]);
    for error in refused.all() {
        let (kind, text) = error.unwrap();
        assert_eq!(kind, ErrorKind::Stopped);
        assert!(text.contains("a closure asks that plans a batch") || text.contains("does not run"), "{text}");
    }
    test.ssc().stop().unwrap();
    says(stream.slice(at(0), at(1)).unwrap_err(), line!());
}

#[test]
fn ds29_an_output_that_slices_while_the_context_stops_ends() {
    let (test, stream) = remembering();
    let (begun, begins) = channel();
    let (other, (ended, ends_too)) = (stream.clone(), channel());
    stream.foreach_rdd(move |_, _| {
        let _ = begun.send(());
        // Sooner or later there is none to answer.
        while other.slice(Time::ZERO, at(9)).is_ok() {}
        let _ = ended.send(());
    });
    test.ssc().start().unwrap();
    test.clock().advance_to(at(1));
    within("the output", &begins);
    ends("the stop", move || test.ssc().stop()).unwrap();
    within("the end of the output", &ends_too);
}
