//! The mark of an output: one that is in doubt, one that is gone, and two programs that write the same one.

use millstream_core::clock::monotonic;
use millstream_core::threads::{self, lock};
use millstream_core::{ErrorKind, Result, Time, millis, secs};
use millstream_kafka::{KafkaSink, SaveToKafka as _};
use millstream_streaming::{BatchInfo, Conf, DStream, RddQueue, StreamingContext, StreamingListener};
use millstream_testkit::{Batches, Check, SimDisk, StreamTest, batches, run_outputs_through_crashes};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::producer::Producer;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::common::{PATIENCE, admin, await_that, brokers, fresh, topic, transaction};
use crate::secrets::Said;
use crate::sink::texts;

/// Runs a program with one exactly-once output through batches, on a disk that may have been used before.
fn write_on(disk: &SimDisk, to: &str, uid: &str, batches: &Batches<i32>) -> Result<usize> {
    let attach = |stream: DStream<i32>| {
        let sink = KafkaSink::to(brokers(), to);
        stream.map(|n| n.to_string()).save_to_kafka(sink).uid(uid);
    };
    run_outputs_through_crashes(Check::new(1, 1), disk, batches, &attach)
}

/// Returns the group that an output has its mark in.
fn group_of(uid: &str) -> String {
    let groups = admin().groups().unwrap();
    groups.into_iter().find(|group| group.ends_with(uid)).expect("the group of the marks")
}

#[test]
fn a_mark_in_an_open_transaction_is_waited_for_and_not_taken_for_one_that_is_not_there() {
    let (a, uid) = (topic("open", 1), fresh("open"));
    let (first, _kept) = program(&a, &uid, batches![[1]], true);
    first.ssc().start().unwrap();
    run_batch(&first, 1);
    first.ssc().stop().unwrap();
    let other = transaction(&a, 0, ["never"]);
    let member: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers().named())
        .set("group.id", group_of(&uid))
        .create()
        .unwrap();
    let mut mark = TopicPartitionList::new();
    mark.add_partition_offset(&a, 0, Offset::Offset(1)).unwrap();
    other.send_offsets_to_transaction(&mark, &member.group_metadata().unwrap(), PATIENCE).unwrap();

    let start = || {
        let (second, _too) = program(&a, &uid, batches![[1]], true);
        let error = second.ssc().start().unwrap_err();
        (error.kind(), error.to_string())
    };
    let began = monotonic();
    let (kind, text) = start();
    assert_eq!(kind, ErrorKind::Unavailable, "{text}");
    assert!(text.contains("reading the mark of output"), "{text}");
    assert!(monotonic() - began < secs(20), "{text}");
    other.abort_transaction(PATIENCE).unwrap();
    let (kind, text) = start();
    assert_eq!(kind, ErrorKind::Stopped, "the mark is there again, of another directory: {text}");
    assert_eq!(texts(&a), ["1"]);
}

#[test]
fn a_mark_that_died_with_its_topic_is_missed() {
    let (a, uid, disk) = (topic("anew", 1), fresh("anew"), SimDisk::new(9));
    write_on(&disk, &a, &uid, &batches![[1], [2]]).unwrap();
    admin().delete_topic(&a).unwrap();
    await_that("the topic is gone", || !admin().topics().unwrap().contains_key(&a));
    await_that("the topic is made anew", || admin().create_topic(&a, 1, &[]).is_ok());
    let error = write_on(&disk, &a, &uid, &batches![[1], [2], [3]]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data, "{error}");
    let text = error.to_string();
    assert!(text.contains(", topic ") && text.contains("was made anew") && text.contains("another uid"), "{text}");
    assert_eq!(texts(&a), [""; 0]);
}

#[test]
fn a_mark_that_is_not_there_for_a_moment_is_asked_for_again() {
    let (a, uid, disk) = (topic("moment", 1), fresh("moment"), SimDisk::new(10));
    write_on(&disk, &a, &uid, &batches![[1], [2]]).unwrap();
    let group = group_of(&uid);
    let member: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", brokers().named()).set("group.id", &group).create().unwrap();
    let mut mark = TopicPartitionList::new();
    mark.add_partition(&a, 0);
    let mark = member.committed_offsets(mark, PATIENCE).unwrap();
    admin().delete_group(&group).unwrap();
    let said = Said::default();
    let (second, (to, uid, log)) = (disk.clone(), (a.clone(), uid.clone(), said.clone()));
    let (tell, told) = std::sync::mpsc::channel();
    let thread = threads::spawn("second", move || {
        let done = tracing::subscriber::with_default(log, || write_on(&second, &to, &uid, &batches![[1], [2], [3]]));
        let _ = tell.send(done);
    });
    await_that("the mark is missed", || lock(&said.0).contains("it is asked for again for a while"));
    member.commit(&mark, CommitMode::Sync).unwrap();
    told.recv_timeout(PATIENCE).unwrap().unwrap();
    thread.unwrap().join();
    assert_eq!(texts(&a), ["1", "2", "3"]);
}

/// A program whose batches a test calls for.
fn program(to: &str, uid: &str, batches: Batches<i32>, durable: bool) -> (StreamTest, Option<tempfile::TempDir>) {
    let test = StreamTest::new();
    let folder = durable.then(|| tempfile::tempdir().unwrap());
    if let Some(folder) = &folder {
        test.ssc().checkpoint(folder.path()).unwrap();
    }
    let rows = test.input(batches).map(|n| n.to_string());
    rows.save_to_kafka(KafkaSink::to(brokers(), to).write_within(secs(5))).uid(uid);
    (test, folder)
}

/// Has a program run its next batch.
fn run_batch(program: &StreamTest, n: i64) {
    program.clock().advance_to(Time::from_millis(n * 1000));
    program.ssc().await_batch(Time::from_millis(n * 1000));
}

#[test]
fn of_two_programs_with_one_transactional_id_and_checkpoints_of_their_own_the_second_is_refused() {
    let (a, uid) = (topic("two", 1), fresh("two"));
    let (first, _kept) = program(&a, &uid, batches![[1], [2]], true);
    first.ssc().start().unwrap();
    run_batch(&first, 1);
    let (second, _too) = program(&a, &uid, batches![[8]], true);
    let error = second.ssc().start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Stopped, "{error}");
    assert!(error.to_string().contains("another start of the program has taken over output"), "{error}");
    // It was fenced for a moment, and goes on.
    run_batch(&first, 2);
    first.ssc().stop().unwrap();
    assert_eq!(texts(&a), ["1", "2"]);
}

#[test]
fn of_two_programs_with_one_transactional_id_and_no_checkpoint_the_first_stops_and_says_why() {
    let (a, uid) = (topic("both", 1), fresh("both"));
    let (first, _) = program(&a, &uid, batches![[1], [2]], false);
    first.ssc().start().unwrap();
    run_batch(&first, 1);
    let (second, _) = program(&a, &uid, batches![[8], [9]], false);
    second.ssc().start().unwrap();
    run_batch(&second, 1);
    run_batch(&first, 2);
    let error = first.ssc().await_termination().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Stopped, "{error}");
    let text = error.to_string();
    assert!(text.contains("another program with the same transactional id") && text.contains(&uid), "{text}");
    run_batch(&second, 2);
    second.ssc().stop().unwrap();
    assert_eq!(texts(&a), ["1", "8", "9"]);
}

#[test]
fn batches_that_come_more_often_than_transactions_can_are_warned_of() {
    let warned = |interval: std::time::Duration, sink: KafkaSink| {
        let said = Said::default();
        let attach = || {
            let mut conf = Conf::new("local[1]", "often").unwrap();
            conf.streaming.exclusive = false;
            let ssc = StreamingContext::with_conf(conf, interval).unwrap();
            ssc.queue_stream(&RddQueue::<String>::new()).save_to_kafka(sink);
        };
        tracing::subscriber::with_default(said.clone(), attach);
        let text = lock(&said.0).clone();
        text.contains("a transaction of Kafka takes some milliseconds")
    };
    let sink = || KafkaSink::to(brokers(), "often");
    assert!(warned(millis(19), sink()));
    assert!(!warned(millis(20), sink()) && !warned(millis(5), sink().at_least_once()));
}

#[test]
fn listeners_are_told_how_long_the_transaction_of_a_batch_took() {
    struct Infos(std::sync::mpsc::Sender<BatchInfo>);
    impl StreamingListener for Infos {
        fn on_batch_completed(&self, batch: &BatchInfo) {
            let _ = self.0.send(batch.clone());
        }
    }
    let (a, (tell, told)) = (topic("told", 1), std::sync::mpsc::channel());
    let (mut test, _) = program(&a, &fresh("told"), batches![[1, 2], []], false);
    test.ssc().add_streaming_listener(Infos(tell));
    test.run(2).unwrap();
    test.ssc().flush_listeners();
    let infos: Vec<_> = told.try_iter().collect();
    let said = &infos[0].outputs[0].metadata;
    assert_eq!((&*said["records"], &*said["transaction_attempts"]), ("2", "1"), "{said:?}");
    let micros: u64 = said["transaction_micros"].parse().unwrap();
    assert!((100..60_000_000).contains(&micros), "{micros}");
    assert!(infos[1].outputs[0].metadata.is_empty(), "a batch without rows has no transaction");
}
