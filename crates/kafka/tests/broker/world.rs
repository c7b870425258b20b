//! The world changes while a program runs: partitions grow, topics go, records are deleted, groups are used by others.

use std::sync::{Arc, Mutex};

use millstream_core::clock::{Clock, ManualClock};
use millstream_core::threads::lock;
use millstream_core::{ErrorKind, Time, secs};
use millstream_kafka::{Direct, OffsetRange, OnLoss, ReadBy, Start, TopicPartition, direct, offset_ranges, rdd};
use millstream_streaming::{BatchInfo, Conf, StreamingContext, StreamingListener};
use millstream_testkit::StreamTest;

use crate::common::{admin, brokers, topic, write};

#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<BatchInfo>>>);

impl StreamingListener for Told {
    fn on_batch_completed(&self, batch: &BatchInfo) {
        lock(&self.0).push(batch.clone());
    }
}

/// A program that notes what it reads, and what was told of it.
pub(crate) struct Program {
    pub(crate) test: StreamTest,
    pub(crate) values: Arc<Mutex<Vec<String>>>,
    ranges: Arc<Mutex<Vec<OffsetRange>>>,
    told: Told,
}

fn program(topic: &str, on_loss: OnLoss) -> Program {
    let source = direct(brokers()).subscribe([topic]).start(Start::Earliest).on_loss(on_loss);
    program_of(source.look_for_partitions_every(secs(0)))
}

pub(crate) fn program_of(source: Direct) -> Program {
    let (test, told) = (StreamTest::new(), Told::default());
    let (values, ranges): (Arc<Mutex<Vec<String>>>, Arc<Mutex<Vec<OffsetRange>>>) = Default::default();
    let stream = test.ssc().input(source.patience(secs(5)));
    let (noted, at) = (Arc::clone(&values), Arc::clone(&ranges));
    stream.foreach_rdd(move |rdd, _| {
        lock(&at).extend(offset_ranges(&rdd).unwrap_or_default());
        lock(&noted).extend(rdd.map(|record| record.text().unwrap_or("-").to_owned()).collect()?);
        Ok(())
    });
    test.ssc().add_streaming_listener(told.clone());
    Program { test, values, ranges, told }
}

impl Program {
    pub(crate) fn lost(&self) -> Vec<String> {
        let lost = |info: &BatchInfo| info.inputs.values().next()?.metadata.get("lost").cloned();
        lock(&self.told.0).iter().filter_map(lost).collect()
    }
}

#[test]
fn partitions_that_come_are_read_from_their_begin() {
    let a = topic("grows", 1);
    write(&a, 0, ["0"]);
    let mut program = program(&a, OnLoss::Stop);
    program.test.run(1).unwrap();
    admin().grow_topic(&a, 3).unwrap();
    write(&a, 1, ["1"]);
    write(&a, 2, ["2"]);
    program.test.run(1).unwrap();
    assert_eq!(*lock(&program.values), ["0", "1", "2"]);
}

#[test]
fn records_that_were_deleted_stop_the_program_or_are_counted() {
    let a = topic("deleted", 1);
    write(&a, 0, (0..10).map(|n| n.to_string()));
    admin().delete_records(&TopicPartition::new(&a, 0), 4).unwrap();
    // It began at 0, as from a group: what is asked is not there.
    for on_loss in [OnLoss::Stop, OnLoss::GoOn] {
        let mut program = program(&a, on_loss);
        program.test.run(1).unwrap();
        write(&a, 0, ["late"; 10]);
        let end = admin().lag(&a, None).unwrap()[0].there.1;
        admin().delete_records(&TopicPartition::new(&a, 0), end - 3).unwrap();
        let ran = program.test.run(1);
        match on_loss {
            OnLoss::Stop => {
                let error = ran.unwrap_err();
                let text = error.to_string();
                assert_eq!(error.kind(), ErrorKind::Data, "{text}");
                let (next, there) = (end - 10, end - 3);
                let want = format!("offset {next} was to be read next, and there is {there}");
                assert!(text.contains(&format!("partition {a}/0")) && text.contains(&want), "{text}");
            }
            OnLoss::GoOn => {
                ran.unwrap();
                assert_eq!(lock(&program.values).iter().filter(|value| *value == "late").count(), 13 - 7);
                drop(program.test.ssc().stop());
                assert_eq!(program.lost(), [format!("{a}/0 from {} until {}", end - 10, end - 3)]);
            }
        }
    }
}

#[test]
fn a_range_that_is_gone_fails_the_job_and_says_what_is_there() {
    let a = topic("gone", 1);
    write(&a, 0, ["x"; 10]);
    admin().delete_records(&TopicPartition::new(&a, 0), 4).unwrap();
    let context = millstream_core::Context::new("local[1]", "gone").unwrap();
    let error = rdd(&context, brokers(), [OffsetRange::new(&a, 0, 2, 8)]).unwrap().count().unwrap_err();
    let text = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Data, "{text}");
    assert!(
        text.contains(&format!("the offsets 2 until 8 of {a}/0")) && text.contains("there are 4 until 10"),
        "{text}"
    );
}

#[test]
fn a_topic_that_was_deleted_stops_the_program_or_is_left() {
    // It may come back, so the program waits as long as for brokers.
    for (on_loss, away) in [(OnLoss::Stop, secs(0)), (OnLoss::Stop, secs(600)), (OnLoss::GoOn, secs(0))] {
        let a = topic("vanishes", 1);
        write(&a, 0, ["x"]);
        let source = direct(brokers()).subscribe([&a]).start(Start::Earliest).on_loss(on_loss);
        let mut program = program_of(source.look_for_partitions_every(secs(0)).brokers_may_be_away(away));
        program.test.run(1).unwrap();
        admin().delete_topic(&a).unwrap();
        crate::common::await_that("the topic is gone", || !admin().topics().unwrap().contains_key(&a));
        match (on_loss, program.test.run(2)) {
            (OnLoss::Stop, ran) if away == secs(0) => {
                let text = ran.unwrap_err().to_string();
                assert!(text.contains(&a), "{text}");
            }
            (_, ran) => ran.unwrap(),
        }
        if on_loss == OnLoss::GoOn {
            drop(program.test.ssc().stop());
            assert_eq!(program.lost(), [format!("{a}/0 from 1 until 1")]);
        }
        assert_eq!(lock(&program.ranges).iter().map(OffsetRange::count).sum::<u64>(), 1);
    }
}

#[test]
fn a_topic_that_was_made_anew_and_is_shorter_is_noticed() {
    let a = topic("anew", 1);
    write(&a, 0, ["x"; 9]);
    let mut program = program(&a, OnLoss::Stop);
    program.test.run(1).unwrap();
    admin().delete_topic(&a).unwrap();
    crate::common::await_that("the topic is gone", || !admin().topics().unwrap().contains_key(&a));
    admin().create_topic(&a, 1, &[]).unwrap();
    write(&a, 0, ["y"; 2]);
    let text = program.test.run(1).unwrap_err().to_string();
    assert!(text.contains("made anew") && text.contains("offset 9 was to be read next"), "{text}");
}

#[test]
fn a_topic_that_was_made_anew_and_is_longer_is_noticed_also_when_it_is_read() {
    // Looked for before each batch, and not at all: then who reads notices.
    for look_every in [secs(0), secs(3600)] {
        let a = topic("longer", 1);
        write(&a, 0, ["x"; 3]);
        let mut test = StreamTest::new();
        let source = direct(brokers()).subscribe([&a]).start(Start::Earliest).look_for_partitions_every(look_every);
        let values = test.collect(&test.ssc().input(source.patience(secs(20))).flat_map(|record| record.to_text()));
        test.run(1).unwrap();
        admin().delete_topic(&a).unwrap();
        crate::common::await_that("the topic is gone", || !admin().topics().unwrap().contains_key(&a));
        admin().create_topic(&a, 1, &[]).unwrap();
        write(&a, 0, ["y"; 9]);
        let error = test.run(1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data, "{error}");
        assert!(error.to_string().contains("was deleted and made anew") && error.to_string().contains(&a), "{error}");
        assert!(!values.table().to_string().contains('y'));
    }
}

#[test]
fn a_group_that_others_use_does_not_disturb_the_program() {
    use rdkafka::consumer::{BaseConsumer, Consumer};
    let (a, group) = (topic("shared", 1), crate::common::fresh("shared"));
    write(&a, 0, ["0"]);
    let other: BaseConsumer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", brokers().named())
        .set("group.id", &group)
        .create()
        .unwrap();
    other.subscribe(&[&a]).unwrap();
    crate::common::await_that("the other one is a member", || {
        drop(other.poll(secs(0)));
        other.assignment().unwrap().count() == 1
    });
    let mut test = StreamTest::new();
    let (values, stream) = (
        Arc::new(Mutex::new(0)),
        test.ssc().input(direct(brokers()).group(&group).subscribe([&a]).start(Start::Earliest)),
    );
    let counted = Arc::clone(&values);
    stream.foreach_rdd(move |rdd, _| {
        *lock(&counted) += rdd.count()?;
        Ok(())
    });
    test.run(1).unwrap();
    write(&a, 0, ["1", "2"]);
    test.run(2).unwrap();
    assert_eq!(*lock(&values), 3, "commits are refused, and the program has its offsets itself");
}

#[test]
fn the_first_batch_looks_for_what_is_gone_however_seldom_it_is_looked_for() {
    use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
    let (a, group) = (topic("first", 1), crate::common::fresh("first"));
    write(&a, 0, (0..10).map(|n| n.to_string()));
    let member: BaseConsumer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", brokers().named())
        .set("group.id", &group)
        .create()
        .unwrap();
    let mut list = rdkafka::TopicPartitionList::new();
    list.add_partition_offset(&a, 0, rdkafka::Offset::Offset(1)).unwrap();
    member.commit(&list, CommitMode::Sync).unwrap();
    admin().delete_records(&TopicPartition::new(&a, 0), 4).unwrap();
    let source = direct(brokers()).group(&group).subscribe([&a]).on_loss(OnLoss::GoOn);
    let mut program = program_of(source.look_for_partitions_every(secs(3600)));
    program.test.run(1).unwrap();
    drop(program.test.ssc().stop());
    assert_eq!(*lock(&program.values), ["4", "5", "6", "7", "8", "9"]);
    assert_eq!(program.lost(), [format!("{a}/0 from 1 until 4")]);
}

#[test]
fn a_topic_that_comes_back_is_read_from_where_the_program_was_in_it() {
    let (a, b) = (topic("stays", 1), topic("comes-back", 1));
    write(&a, 0, ["a1"]);
    write(&b, 0, ["b1", "b2"]);
    let folder = tempfile::tempdir().unwrap();
    let run = |topics: &[&str], at: i64| {
        let clock = ManualClock::new(Time::from_millis((at - 1) * 1000));
        let mut conf = Conf::new("local[1]", "back").unwrap();
        conf.streaming.exclusive = false;
        let values: Arc<Mutex<Vec<String>>> = Arc::default();
        let ssc = StreamingContext::builder(conf, secs(1)).with_clock(Arc::new(clock.clone()) as Arc<dyn Clock>);
        let ssc = ssc.get_or_create(folder.path(), |ssc| {
            let noted = Arc::clone(&values);
            let source = direct(brokers()).subscribe(topics.iter().copied()).start(Start::Earliest);
            ssc.input(source.on_loss(OnLoss::GoOn)).uid("in").foreach_rdd(move |rdd, _| {
                lock(&noted).extend(rdd.map(|record| record.text().unwrap_or("-").to_owned()).collect()?);
                Ok(())
            });
            Ok(())
        });
        let ssc = ssc.unwrap();
        ssc.start().unwrap();
        clock.advance_to(Time::from_millis(at * 1000));
        ssc.await_batch(Time::from_millis(at * 1000));
        ssc.stop().unwrap();
        lock(&values).clone()
    };
    assert_eq!(run(&[&a, &b], 1), ["b1", "b2", "a1"]);
    // It is away for two starts.
    assert_eq!(run(&[&a], 2), [""; 0]);
    write(&b, 0, ["b3"]);
    assert_eq!(run(&[&a], 3), [""; 0]);
    assert_eq!(run(&[&a, &b], 4), ["b3"]);
}

#[test]
fn a_range_that_goes_between_its_batch_and_its_task_is_skipped_by_a_source_that_goes_on() {
    for read_by in [ReadBy::Fastest, ReadBy::Client] {
        let a = topic("skips", 1);
        write(&a, 0, ["0"]);
        let source = direct(brokers()).subscribe([&a]).start(Start::Earliest).on_loss(OnLoss::GoOn).read_by(read_by);
        // Who looks no more gives the batch what is gone; and a reader that is kept may have fetched it before.
        let mut program = program_of(source.look_for_partitions_every(secs(3600)).keep_readers(0));
        program.test.run(1).unwrap();
        write(&a, 0, (1..10).map(|n| n.to_string()));
        admin().delete_records(&TopicPartition::new(&a, 0), 7).unwrap();
        program.test.run(1).unwrap();
        assert_eq!(*lock(&program.values), ["0", "7", "8", "9"], "{read_by:?}");
        assert_eq!(lock(&program.ranges).last().unwrap().count(), 9);
        // What its tasks found to be gone is told with the next batch.
        program.test.run(1).unwrap();
        drop(program.test.ssc().stop());
        assert_eq!(program.lost(), [format!("{a}/0 from 1 until 7")], "{read_by:?}");
    }
}

#[test]
fn what_a_topic_had_that_is_deleted_is_counted_as_far_as_it_was_seen() {
    let a = topic("rest", 1);
    write(&a, 0, ["x"; 9]);
    let source = direct(brokers()).subscribe([&a]).start(Start::Earliest).on_loss(OnLoss::GoOn);
    let mut program = program_of(source.look_for_partitions_every(secs(0)).max_rate_per_partition(4));
    program.test.run(1).unwrap();
    admin().delete_topic(&a).unwrap();
    crate::common::await_that("the topic is gone", || !admin().topics().unwrap().contains_key(&a));
    program.test.run(1).unwrap();
    drop(program.test.ssc().stop());
    assert_eq!(program.lost(), [format!("{a}/0 from 4 until 9")]);
}
