//! A receiver that is a member of a group: what is kept is acknowledged, and nothing before.

use std::sync::{Arc, Mutex};

use millstream_core::secs;
use millstream_core::threads::lock;
use millstream_kafka::{GroupReceiver, OnLoss, TopicPartition, receiver};
use millstream_streaming::{ReceiverInfo, StreamingListener};
use millstream_testkit::{Check, Lives, SimDisk, StreamTest};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};

use crate::common::{admin, await_that, brokers, fresh, topic, write};

fn member(group: &str, topic: &str) -> GroupReceiver {
    receiver(brokers(), group, [topic]).from_begin()
}

/// Says whether the group has committed all that is there.
fn is_acknowledged(topic: &str, group: &str) -> bool {
    admin().lag(topic, Some(group)).unwrap().iter().all(|lag| lag.committed == Some(lag.there.1))
}

#[test]
fn x2_what_a_receiver_keeps_is_given_to_batches_and_acknowledged_to_the_group() {
    let (a, group) = (topic("received", 2), fresh("received"));
    for p in [0, 1] {
        write(&a, p, (0..100).map(|n| format!("{p} {n}")));
    }
    let mut test = StreamTest::new();
    let values = Arc::<Mutex<Vec<String>>>::default();
    let noted = Arc::clone(&values);
    test.ssc().receiver_stream(member(&group, &a)).flat_map(|record| record.to_text()).foreach_rdd(move |rdd, _| {
        lock(&noted).extend(rdd.collect()?.iter().map(ToString::to_string));
        Ok(())
    });
    test.run(1).unwrap();
    await_that("all is kept and acknowledged", || is_acknowledged(&a, &group));
    test.run(1).unwrap();
    drop(test);
    let mut got = lock(&values).clone();
    got.sort();
    let mut want: Vec<String> = [0, 1].iter().flat_map(|p| (0..100).map(move |n| format!("{p} {n}"))).collect();
    want.sort();
    assert_eq!(got, want);
}

#[test]
fn x2_a_durable_program_that_is_killed_loses_nothing_that_was_acknowledged() {
    let (a, group) = (topic("durable", 1), fresh("durable"));
    let values = Arc::<Mutex<Vec<String>>>::default();
    let disk = SimDisk::new(8);
    let before = |batch: usize| {
        write(&a, 0, [format!("{batch}")]);
        await_that("it is acknowledged", || is_acknowledged(&a, &group));
    };
    let lives = Lives::new(Check::new(1, 2), &disk, 4).killed_behind(&[2]).one_by_one().before_each(&before);
    let starts = lives.run(&|ssc| {
        let noted = Arc::clone(&values);
        let records = ssc.receiver_stream(member(&group, &a)).flat_map(|record| record.to_text());
        records.foreach_rdd(move |rdd, _| {
            lock(&noted).extend(rdd.collect()?.iter().map(ToString::to_string));
            Ok(())
        });
        Ok(())
    });
    assert_eq!(starts.unwrap(), 2);
    let mut got = lock(&values).clone();
    got.sort();
    got.dedup();
    assert_eq!(got, ["1", "2", "3", "4"], "some may be there twice, and none is missing");
}

/// What went wrong in receivers.
#[derive(Clone, Default)]
struct Wrong(Arc<Mutex<Vec<String>>>);

impl StreamingListener for Wrong {
    fn on_receiver_error(&self, receiver: &ReceiverInfo) {
        lock(&self.0).extend(receiver.last_error.as_ref().map(ToString::to_string));
    }
}

/// A program with a receiver, which notes what it gives and what goes wrong.
fn program(receiver: GroupReceiver) -> (StreamTest, Arc<Mutex<Vec<String>>>, Wrong) {
    let (test, values, wrong) = (StreamTest::new(), Arc::<Mutex<Vec<String>>>::default(), Wrong::default());
    test.ssc().add_streaming_listener(wrong.clone());
    let noted = Arc::clone(&values);
    test.ssc().receiver_stream(receiver).flat_map(|record| record.to_text()).foreach_rdd(move |rdd, _| {
        lock(&noted).extend(rdd.collect()?.iter().map(ToString::to_string));
        Ok(())
    });
    (test, values, wrong)
}

#[test]
fn x2_what_a_group_was_to_read_next_and_is_gone_is_an_error_or_a_loss_that_is_counted() {
    for on_loss in [OnLoss::Stop, OnLoss::GoOn] {
        let (a, group) = (topic("expired", 1), fresh("expired"));
        write(&a, 0, (0..10).map(|n| n.to_string()));
        let client = rdkafka::ClientConfig::new()
            .set("bootstrap.servers", brokers().named())
            .set("group.id", &group)
            .create::<BaseConsumer>()
            .unwrap();
        let mut list = rdkafka::TopicPartitionList::new();
        list.add_partition_offset(&a, 0, rdkafka::Offset::Offset(1)).unwrap();
        client.commit(&list, CommitMode::Sync).unwrap();
        admin().delete_records(&TopicPartition::new(&a, 0), 4).unwrap();

        let (mut test, values, wrong) = program(receiver(brokers(), &group, [&*a]).on_loss(on_loss));
        test.run(1).unwrap();
        await_that("listeners are told", || !lock(&wrong.0).is_empty());
        let text = lock(&wrong.0)[0].clone();
        let want = format!("group {group} was to read partition {a}/0");
        assert!(text.contains(&want) && text.contains("from offset 1 on, and there are 4 until 10"), "{text}");
        match on_loss {
            OnLoss::Stop => {
                assert!(text.contains("Nothing was skipped"), "{text}");
                assert_eq!(admin().lag(&a, Some(&group)).unwrap()[0].committed, Some(1));
                assert_eq!(*lock(&values), [""; 0]);
            }
            OnLoss::GoOn => {
                assert!(text.contains("3 offsets are lost"), "{text}");
                await_that("the rest is kept", || is_acknowledged(&a, &group));
                test.run(1).unwrap();
                assert_eq!(*lock(&values), ["4", "5", "6", "7", "8", "9"]);
            }
        }
    }
}

#[test]
fn x2_a_group_that_begins_at_the_end_is_there_again_when_it_comes_back() {
    let (a, group) = (topic("away", 1), fresh("away"));
    write(&a, 0, ["old"; 3]);
    let (mut test, values, _) = program(receiver(brokers(), &group, [&*a]));
    test.run(1).unwrap();
    await_that("where it begins is committed", || is_acknowledged(&a, &group));
    drop(test);
    assert_eq!(*lock(&values), [""; 0]);
    // Nothing had come, and this comes while nobody is there.
    write(&a, 0, ["while it was away"]);
    let (mut test, values, wrong) = program(receiver(brokers(), &group, [&*a]));
    test.run(1).unwrap();
    await_that("it is kept", || is_acknowledged(&a, &group));
    test.run(1).unwrap();
    assert_eq!((&*lock(&values), &*lock(&wrong.0)), (&vec!["while it was away".to_owned()], &Vec::new()));
}

#[test]
fn x2_a_partition_that_comes_is_received_from_its_first_record() {
    let (a, group) = (topic("more", 1), fresh("more"));
    let brokers = brokers().set("topic.metadata.refresh.interval.ms", "300");
    let (mut test, values, _) = program(receiver(brokers.answer_within(secs(10)), &group, [&*a]));
    test.run(1).unwrap();
    await_that("it is there", || is_acknowledged(&a, &group));
    admin().grow_topic(&a, 2).unwrap();
    write(&a, 1, ["first", "second"]);
    await_that("it is kept", || is_acknowledged(&a, &group));
    test.run(1).unwrap();
    assert_eq!(*lock(&values), ["first", "second"]);
}
