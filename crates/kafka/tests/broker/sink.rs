//! Streams written to topics: what a record has, and each batch once, wherever the program ends.

use std::sync::{Arc, Mutex};

use millstream_core::threads::lock;
use millstream_core::{Context, Error, ErrorKind, Time, secs};
use millstream_kafka::{KafkaSink, NewRecord, Record, SaveToKafka as _, all_of, rdd};
use millstream_streaming::{Conf, DStream, OnFailure, RddQueue, StreamingContext};
use millstream_testkit::{Batches, Check, Fault, SimDisk, StreamTest, batches, run_outputs_through_crashes};

use crate::common::{admin, brokers, fresh, topic, topic_with};

/// Returns what is committed in a topic, by partition.
fn there(topic: &str) -> Vec<Record> {
    let context = Context::new("local[1]", "there").unwrap();
    rdd(&context, brokers(), all_of(brokers(), [topic]).unwrap()).unwrap().collect().unwrap()
}

pub(crate) fn texts(topic: &str) -> Vec<String> {
    there(topic).iter().map(|record| record.text().unwrap_or("-").to_owned()).collect()
}

#[test]
fn a_record_is_written_with_all_that_it_was_given() {
    for exactly_once in [true, false] {
        let (a, b) = (topic("written", 2), topic("other", 1));
        let mut test = StreamTest::new();
        let sink = KafkaSink::to(brokers(), &a);
        // Not so old that the broker lets it go.
        let time = Time::from_millis(millstream_core::clock::wall_time().as_millis() - 60_000);
        let other = b.clone();
        let records = test.input(batches![[1i32, 2, 3]]).map(move |n| match n {
            1 => NewRecord::value("one").key("k").partition(1).header("h", "x").timestamp(time),
            2 => NewRecord::value("two").to(other.clone()),
            _ => NewRecord::without_value().partition(0),
        });
        records.save_to_kafka(if exactly_once { sink } else { sink.at_least_once() }).uid(fresh("parts"));
        test.run(2).unwrap();
        let of =
            |partition| there(&a).into_iter().filter(move |record| record.partition() == partition).collect::<Vec<_>>();
        let one = &of(1)[0];
        assert_eq!((one.key_text(), one.text(), one.timestamp()), (Some("k"), Some("one"), Some(time)));
        assert_eq!(one.headers().collect::<Vec<_>>(), [("h", Some(&b"x"[..]))]);
        assert_eq!((of(0)[0].key(), of(0)[0].value()), (None, None));
        assert_eq!(texts(&b), ["two"]);
    }
}

fn numbers() -> Batches<i32> {
    batches![[1, 2], [3], [], [4, 5], [6]]
}

#[test]
fn each_batch_is_there_once_when_the_machine_stops_at_any_step_of_the_checkpoint() {
    let disk = SimDisk::new(0);
    let run = |disk: &SimDisk| {
        let (a, uid) = (topic("steps", 1), fresh("steps"));
        let attach = |stream: DStream<i32>| {
            stream.map(|n| n.to_string()).save_to_kafka(KafkaSink::to(brokers(), &a)).uid(&uid);
        };
        let starts = run_outputs_through_crashes(Check::new(1, 1), disk, &numbers(), &attach);
        let starts = starts.unwrap_or_else(|error| panic!("{error}"));
        let mut got = texts(&a);
        got.sort();
        assert_eq!(got, ["1", "2", "3", "4", "5", "6"], "after {starts} starts");
        starts
    };
    assert_eq!(run(&disk), 1);
    let steps = disk.operations().len() as u64;
    let mut twice = 0;
    // Each start takes half a second at the broker: every third step, from another one each time this is changed.
    for step in (1..=steps).step_by(3) {
        let disk = SimDisk::new(step);
        disk.fail_at(step, Fault::Crash);
        twice += run(&disk) - 1;
    }
    assert!(twice > 3, "it was stopped: {twice} of {steps}");
}

#[test]
fn a_late_run_is_refused_and_the_one_that_took_over_goes_on() {
    // Two programs on copies of one checkpoint directory: the second has run when the first goes on.
    let (a, uid) = (topic("late", 1), fresh("late"));
    let (disk, values) = (SimDisk::new(3), Arc::new(Mutex::new(Vec::new())));
    let start = |disk: &SimDisk, batches: Batches<i32>| {
        let attach = |stream: DStream<i32>| {
            stream.map(|n| n.to_string()).save_to_kafka(KafkaSink::to(brokers(), &a)).uid(&uid);
        };
        run_outputs_through_crashes(Check::new(1, 1), disk, &batches, &attach)
    };
    start(&disk, batches![[1], [2]]).unwrap();
    lock(&values).extend(texts(&a));
    assert_eq!(*lock(&values), ["1", "2"]);
    // A directory that begins anew under the old name: its batches would be taken for those that are there.
    let error = start(&SimDisk::new(4), batches![[1]]).unwrap_err();
    let text = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Stopped, "{text}");
    assert!(text.contains("has taken over output") && text.contains("give the output another uid"), "{text}");
    assert_eq!(texts(&a), ["1", "2"]);
    start(&disk, batches![[1], [2], [3]]).unwrap();
    assert_eq!(texts(&a), ["1", "2", "3"]);
}

#[test]
fn a_topic_that_is_not_there_and_a_record_that_is_too_long_are_named_and_leave_nothing() {
    let run = |sink: KafkaSink, long: usize| -> Error {
        let mut test = StreamTest::new();
        let values = test.input(batches![[1usize]]).map(move |n| "x".repeat(n * long));
        values.save_to_kafka(sink).uid(fresh("bad"));
        test.run(1).unwrap_err()
    };
    let missing = KafkaSink::to(brokers(), "not-there").write_within(secs(5));
    let error = run(missing.clone(), 1);
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("topic not-there is not at the brokers"), "{error}");
    let error = run(missing.at_least_once(), 1);
    assert!(error.to_string().contains("topic not-there"), "{error}");
    let a = topic_with("long", 1, &[("max.message.bytes", "2000")]);
    for sink in [KafkaSink::to(brokers(), &a), KafkaSink::to(brokers(), &a).at_least_once()] {
        let error = run(sink, 100_000);
        assert_eq!(error.kind(), ErrorKind::User, "{error}");
        assert!(error.to_string().contains(&a) && error.to_string().contains("max.message.bytes"), "{error}");
        assert_eq!(texts(&a), [""; 0]);
    }
}

#[test]
fn explain_says_how_often_each_output_writes_a_batch() {
    let folder = tempfile::tempdir().unwrap();
    let test = StreamTest::new();
    test.ssc().checkpoint(folder.path()).unwrap();
    let values = test.input(batches![[1i32]]).map(|n| n.to_string());
    values.save_to_kafka(KafkaSink::to(brokers(), "once"));
    values.save_to_kafka(KafkaSink::to(brokers(), "often").at_least_once());
    let explained = test.ssc().explain();
    let lines: Vec<_> = explained.lines().filter(|line| line.contains("save_to_kafka")).collect();
    assert!(
        lines.iter().any(|line| line.contains("exactly once") && line.contains("a mark of its time")),
        "{explained}"
    );
    assert!(lines.iter().any(|line| line.contains("at least once")), "{explained}");
}

/// Runs a program with one exactly-once output through batches, on a disk that may have been used before.
fn write_on(disk: &SimDisk, to: &str, uid: &str, batches: &Batches<i32>) -> millstream_core::Result<usize> {
    let attach = |stream: DStream<i32>| {
        stream.map(|n| n.to_string()).save_to_kafka(KafkaSink::to(brokers(), to)).uid(uid);
    };
    run_outputs_through_crashes(Check::new(1, 1), disk, batches, &attach)
}

#[test]
fn a_copy_of_the_directory_is_refused_however_often_it_is_started() {
    let (a, uid, disk) = (topic("copy", 1), fresh("copy"), SimDisk::new(5));
    write_on(&disk, &a, &uid, &batches![[1], [2]]).unwrap();
    // Each start counts one more; the mark is of the first run, so from the second start on the number says nothing.
    let copy = SimDisk::new(6);
    for start in 1..=3 {
        let error = write_on(&copy, &a, &uid, &batches![[1], [2], [9]]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Stopped, "start {start}: {error}");
        assert!(error.to_string().contains("has taken over output"), "start {start}: {error}");
    }
    assert_eq!(texts(&a), ["1", "2"]);
    write_on(&disk, &a, &uid, &batches![[1], [2], [3]]).unwrap();
    assert_eq!(texts(&a), ["1", "2", "3"], "the one whose mark it is goes on");
}

#[test]
fn a_start_that_misses_the_mark_refuses_also_when_all_was_committed() {
    let (a, uid, disk) = (topic("expired", 1), fresh("expired"), SimDisk::new(7));
    write_on(&disk, &a, &uid, &batches![[1], [2]]).unwrap();
    let groups = admin().groups().unwrap();
    let marks = groups.iter().find(|group| group.ends_with(&uid)).expect("the group of the marks");
    admin().delete_group(marks).unwrap();
    let error = write_on(&disk, &a, &uid, &batches![[1], [2], [3]]).unwrap_err();
    let text = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Data, "{text}");
    assert!(text.contains("is gone or an old one, which was written behind batch 2000 ms"), "{text}");
    assert_eq!(texts(&a), ["1", "2"]);
}

#[test]
fn what_would_write_a_batch_behind_one_that_failed_is_refused_at_the_start() {
    let a = topic("order", 1);
    for (concurrent, on_failure, want) in [
        (2, OnFailure::Stop, "set concurrent_jobs to 1, not 2"),
        (1, OnFailure::Continue, "set on_failure to OnFailure::Stop"),
        (1, OnFailure::Stop, ""),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut conf = Conf::new("local[1]", "order").unwrap();
        conf.streaming.exclusive = false;
        (conf.streaming.concurrent_jobs, conf.streaming.on_failure) = (concurrent, on_failure);
        let ssc = StreamingContext::with_conf(conf, secs(1)).unwrap();
        ssc.checkpoint(folder.path()).unwrap();
        let rows = ssc.queue_stream(&RddQueue::<String>::new());
        rows.save_to_kafka(KafkaSink::to(brokers(), &a)).uid(fresh("order"));
        match ssc.start() {
            Ok(()) => assert_eq!(want, "", "{concurrent} {on_failure:?} is refused"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Config, "{error}");
                assert!(!want.is_empty() && error.to_string().contains(want), "{error}");
            }
        }
        drop(ssc.stop());
    }
}
