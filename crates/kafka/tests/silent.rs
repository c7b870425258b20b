//! Brokers that do not answer in time, pretended: what a program waits for has an end.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use millstream_core::clock::monotonic;
use millstream_core::{ErrorKind, Time, millis, secs};
use millstream_kafka::{Brokers, KafkaSink, SaveToKafka as _, Start, direct, write};
use millstream_streaming::{BatchInfo, Conf, StreamingContext, StreamingListener};
use millstream_testkit::{StreamTest, batches};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

fn cluster(topic: &str) -> MockCluster<'static, DefaultProducerContext> {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(topic, 1, 1).unwrap();
    cluster
}

/// Longer than any test waits.
const LONG: Duration = secs(600);

#[test]
fn a_batch_is_not_written_for_longer_than_it_may_and_the_error_names_the_topic() {
    for exactly_once in [true, false] {
        let (cluster, mut test) = (cluster("slow"), StreamTest::new());
        let sink = KafkaSink::to(cluster.bootstrap_servers(), "slow").write_within(secs(6));
        let sink = if exactly_once { sink } else { sink.at_least_once() };
        test.input(batches![[1], [2]]).map(|n: i32| n.to_string()).save_to_kafka(sink).uid("slow");
        test.run(1).unwrap();
        cluster.broker_round_trip_time(1, LONG).unwrap();
        let began = monotonic();
        let error = test.run(1).unwrap_err();
        let took = monotonic() - began;
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("slow"), "{error}");
        assert!(took >= secs(5) && took < secs(40), "{took:?}: {error}");
    }
}

#[test]
fn a_stop_does_not_wait_for_a_group_that_never_answers() {
    let (cluster, test) = (cluster("group"), StreamTest::new());
    write(cluster.bootstrap_servers(), "group", ["a"]).unwrap();
    let brokers = Brokers::at(cluster.bootstrap_servers()).answer_within(secs(2));
    test.ssc().input(direct(brokers).group("g").subscribe(["group"]).start(Start::Earliest)).count().print();
    test.ssc().start().unwrap();
    test.clock().advance_to(Time::from_millis(1000));
    test.ssc().await_batch(Time::from_millis(1000));
    cluster.broker_round_trip_time(1, LONG).unwrap();
    let began = monotonic();
    test.ssc().stop().unwrap();
    let took = monotonic() - began;
    assert!(took < secs(10), "{took:?}");
}

/// Tells how long batches took to be handed over.
struct HandedOver(Sender<Duration>);

impl StreamingListener for HandedOver {
    fn on_batch_completed(&self, batch: &BatchInfo) {
        let _ = self.0.send(batch.stamps.submitted);
    }
}

#[test]
fn a_batch_does_not_wait_for_a_broker_that_is_far_away_since_it_was_asked_before() {
    const FAR: Duration = millis(60);
    let cluster = cluster("far");
    cluster.broker_round_trip_time(1, FAR).unwrap();
    let mut conf = Conf::new("local[2]", "far").unwrap();
    conf.streaming.exclusive = false;
    let ssc = StreamingContext::with_conf(conf, millis(400)).unwrap();
    ssc.input(direct(cluster.bootstrap_servers()).subscribe(["far"])).count().print();
    let (tell, told) = channel();
    ssc.add_streaming_listener(HandedOver(tell));
    ssc.start().unwrap();
    let next = || told.recv_timeout(secs(30)).unwrap();
    assert!(next() >= FAR, "the first one asks by itself");
    // Who asks ahead learns how long that takes, and may be late itself where the machine is busy.
    let mut took = Vec::new();
    while took.last().is_none_or(|last| *last >= FAR / 2) {
        assert!(took.len() < 60, "{took:?}");
        took.push(next());
    }
    ssc.stop().unwrap();
}

#[test]
fn a_record_of_fifty_megabytes_is_refused_with_its_topic_and_size() {
    for exactly_once in [true, false] {
        let (cluster, mut test) = (cluster("long"), StreamTest::new());
        let sink = KafkaSink::to(cluster.bootstrap_servers(), "long");
        let sink = if exactly_once { sink } else { sink.at_least_once() };
        test.input(batches![[50_000_000usize]]).map(|n| "x".repeat(n)).save_to_kafka(sink).uid("long");
        let error = test.run(1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::User, "{error}");
        let text = error.to_string();
        assert!(text.contains("a record of 50000000 bytes to topic long"), "{text}");
        assert!(text.contains("raise message.max.bytes"), "{text}");
    }
}

#[test]
fn while_brokers_are_away_a_batch_is_held_up_once_and_not_each_time() {
    let (cluster, test) = (cluster("away"), StreamTest::new());
    let brokers = Brokers::at(cluster.bootstrap_servers()).answer_within(secs(4));
    let counts = test.collect(&test.ssc().input(direct(brokers).subscribe(["away"])).count());
    test.ssc().start().unwrap();
    let run = |n: i64| {
        let began = monotonic();
        test.clock().advance_to(Time::from_millis(n * 1000));
        test.ssc().await_batch(Time::from_millis(n * 1000));
        monotonic() - began
    };
    run(1);
    cluster.broker_round_trip_time(1, LONG).unwrap();
    let first = run(2);
    assert!(first < secs(14), "{first:?}");
    let later = run(3) + run(4) + run(5);
    assert!(later < secs(11), "{first:?}, then {later:?} for three");
    cluster.broker_round_trip_time(1, millis(0)).unwrap();
    drop(counts);
    drop(test.ssc().stop());
}
