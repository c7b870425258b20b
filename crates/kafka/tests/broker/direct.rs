//! The direct source: what Spark's `DirectKafkaStreamSuite` asks, and the rules.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_core::threads::lock;
use millstream_core::{Rdd, Time, millis, secs};
use millstream_kafka::{Direct, OffsetRange, Record, Start, TopicPartition, direct, offset_ranges};
use millstream_streaming::{BatchInfo, DStream, StreamingListener};
use millstream_testkit::{Check, Lives, SimDisk, StreamTest};

use crate::common::{admin, await_that, brokers, fresh, topic, write};

/// What each batch had, in the order of its Rdd.
type Batches = Arc<Mutex<Vec<(Vec<OffsetRange>, Vec<String>)>>>;

pub(crate) fn note(stream: &DStream<Record>, batches: &Batches) {
    let batches = Arc::clone(batches);
    stream.foreach_rdd(move |rdd: Rdd<Record>, _| {
        let ranges = offset_ranges(&rdd).expect("it is the stream's own Rdd");
        let values = rdd.map(|record| record.text().unwrap_or("-").to_owned()).collect()?;
        lock(&batches).push((ranges, values));
        Ok(())
    });
}

/// Runs a source for some batches.
fn run(source: Direct, count: usize) -> Vec<(Vec<OffsetRange>, Vec<String>)> {
    let (batches, mut test) = (Batches::default(), StreamTest::new());
    note(&test.ssc().input(source), &batches);
    test.run(count).unwrap();
    drop(test);
    lock(&batches).clone()
}

fn values(batches: &[(Vec<OffsetRange>, Vec<String>)]) -> Vec<Vec<&str>> {
    batches.iter().map(|(_, values)| values.iter().map(String::as_str).collect()).collect()
}

#[test]
fn r61_r63_r65_several_topics_from_their_begin_a_partition_each_in_their_order() {
    let (a, b) = (topic("a", 2), topic("b", 1));
    write(&a, 0, ["a0", "a1"]);
    write(&a, 1, ["a2"]);
    write(&b, 0, ["b0"]);
    let batches = run(direct(brokers()).subscribe([&b, &a]).start(Start::Earliest), 2);
    assert_eq!(values(&batches), [vec!["a0", "a1", "a2", "b0"], vec![]]);
    let ranges = |a0: (i64, i64), a1: (i64, i64), b0: (i64, i64)| {
        [(&a, 0, a0), (&a, 1, a1), (&b, 0, b0)].map(|(topic, p, (from, until))| OffsetRange::new(topic, p, from, until))
    };
    assert_eq!(batches[0].0, ranges((0, 2), (0, 1), (0, 1)));
    assert_eq!(batches[1].0, ranges((2, 2), (1, 1), (1, 1)), "R-67: also where there is nothing");
}

#[test]
fn r63_topics_by_a_pattern_of_their_whole_name() {
    let all = fresh("pattern");
    for name in ["x1", "x2", "y1"] {
        let name = format!("{all}-{name}");
        admin().create_topic(&name, 1, &[]).unwrap();
        write(&name, 0, [&name[name.len() - 2..]]);
    }
    let pattern = format!("{all}-x.");
    let batches = run(direct(brokers()).subscribe_pattern(&pattern).start(Start::Earliest), 1);
    assert_eq!(values(&batches), [["x1", "x2"]]);
    let batches = run(direct(brokers()).subscribe_pattern(&pattern[..pattern.len() - 1]), 1);
    assert_eq!(batches[0].0, [], "not by a part of it");
}

#[test]
fn r63_from_the_end_by_offset_and_by_time() {
    let a = topic("places", 1);
    write(&a, 0, ["old"; 10]);
    let (batches, mut test) = (Batches::default(), StreamTest::new());
    note(&test.ssc().input(direct(brokers()).subscribe([&a])), &batches);
    test.run(1).unwrap();
    let now = millstream_core::clock::wall_time();
    await_that("the clock goes on", || millstream_core::clock::wall_time() > now);
    write(&a, 0, ["new"; 3]);
    test.run(1).unwrap();
    drop(test);
    assert_eq!(values(&lock(&batches)), [vec![], vec!["new"; 3]], "from the end is what is usual");

    let from = |start: Start| run(direct(brokers()).assign([(&*a, 0)]).start(start), 1)[0].0[0].from;
    assert_eq!(from(Start::Offsets(BTreeMap::from([(TopicPartition::new(&a, 0), 11)]))), 11);
    assert_eq!(from(Start::Offsets(BTreeMap::new())), 0);
    assert_eq!(from(Start::Since(Time::from_millis(now.as_millis() + 1))), 10);
    assert_eq!(from(Start::Since(Time::from_millis(0))), 0);
    assert_eq!(from(Start::Since(Time::from_millis(now.as_millis() + 3_600_000))), 13, "nothing is so late");
    assert_eq!(from(Start::Latest), 13);
}

#[test]
fn r73_offsets_come_back_from_the_checkpoint_whatever_group_and_start_say() {
    let (a, group) = (topic("recovery", 2), fresh("group"));
    let seen: Batches = Arc::default();
    let before = |batch: usize| write(&a, (batch % 2) as i32, [format!("{batch}")]);
    let disk = SimDisk::new(5);
    let lives = Lives::new(Check::new(1, 2), &disk, 6).killed_behind(&[2, 3]).one_by_one().before_each(&before);
    let starts = lives.run(&|ssc| {
        note(&ssc.input(direct(brokers()).group(&group).subscribe([&a]).start(Start::Earliest)), &seen);
        Ok(())
    });
    assert!(starts.unwrap() >= 3);
    // A batch that ran again had the same ranges, and none lies over another.
    let mut ranges: Vec<OffsetRange> = lock(&seen).iter().flat_map(|(ranges, _)| ranges.clone()).collect();
    ranges.retain(|range| range.count() > 0);
    ranges.sort_by_key(|range| (range.partition, range.from, range.until));
    ranges.dedup();
    for p in [0, 1] {
        let of: Vec<_> = ranges.iter().filter(|range| range.partition == p).collect();
        assert_eq!((of[0].from, of[of.len() - 1].until), (0, 3), "{of:?}");
        assert!(of.windows(2).all(|two| two[0].until == two[1].from), "{of:?}");
    }
}

#[test]
fn r68_offsets_are_committed_to_the_group_and_a_program_without_a_checkpoint_goes_on_there() {
    let (a, group) = (topic("group", 2), fresh("group"));
    write(&a, 0, ["0", "1"]);
    write(&a, 1, ["2"]);
    let source = || direct(brokers()).group(&group).subscribe([&a]).start(Start::Earliest);
    let first = run(source(), 1);
    assert_eq!(values(&first), [["0", "1", "2"]]);
    let lag = admin().lag(&a, Some(&group)).unwrap();
    assert_eq!(lag.iter().map(|lag| (lag.committed, lag.offsets())).collect::<Vec<_>>(), [(Some(2), 0), (Some(1), 0)]);
    write(&a, 1, ["3"]);
    assert_eq!(admin().lag(&a, Some(&group)).unwrap()[1].offsets(), 1);
    assert_eq!(values(&run(source(), 1)), [["3"]]);
}

struct Told(Arc<Mutex<Vec<BatchInfo>>>);

impl StreamingListener for Told {
    fn on_batch_completed(&self, batch: &BatchInfo) {
        lock(&self.0).push(batch.clone());
    }
}

#[test]
fn r72_listeners_are_told_of_offsets_counts_and_lag() {
    let (a, infos) = (topic("told", 2), Arc::default());
    write(&a, 0, ["x"; 4]);
    write(&a, 1, ["x"; 9]);
    let mut test = StreamTest::new();
    test.ssc().add_streaming_listener(Told(Arc::clone(&infos)));
    let source = direct(brokers()).subscribe([&a]).start(Start::Earliest).max_rate_per_partition(5);
    note(&test.ssc().input(source), &Arc::default());
    test.run(2).unwrap();
    drop(test);
    let infos = lock(&infos);
    let info = infos[0].inputs.values().next().unwrap();
    assert_eq!(info.records, 9);
    let want = format!(
        "topic: {a}\tpartition: 1\toffsets: 0 to 5\tcount: 5\ntopic: {a}\tpartition: 0\toffsets: 0 to 4\tcount: 4"
    );
    assert_eq!(info.metadata["Description"], want);
    assert_eq!((&*info.metadata["lag"], info.metadata["offsets"].lines().count()), ("4", 2));
    assert_eq!(info.metadata["lag by partition"], format!("{a}/1 4"));
    assert!(!info.metadata.contains_key("fetched records"), "nothing has been read yet: {info:?}");
    let next = &infos[1].inputs.values().next().unwrap().metadata;
    assert_eq!((&*next["lag"], &*next["lag by partition"]), ("0", ""));
    // Of the batch before, which has been read.
    assert_eq!(next["fetched records"], "9");
    assert!(next["fetched bytes"].parse::<u64>().unwrap() >= 9, "{next:?}");
    assert!(next["fetched ms"].parse::<f64>().unwrap() > 0.0, "{next:?}");
}

#[test]
fn r66_k44_k45_a_partition_gives_no_more_than_its_limit_and_at_least_what_is_asked() {
    let a = topic("limits", 2);
    write(&a, 0, (0..25).map(|n| n.to_string()));
    write(&a, 1, ["x"; 3]);
    let counts = |source: Direct| -> Vec<Vec<u64>> {
        let (batches, mut test) = (Batches::default(), Check::new(1, 1).with_conf(millis(500), |_| {}));
        note(&test.ssc().input(source), &batches);
        test.run(3).unwrap();
        let batches = lock(&batches);
        batches.iter().map(|(ranges, _)| ranges.iter().map(OffsetRange::count).collect()).collect()
    };
    let source = || direct(brokers()).subscribe([&a]).start(Start::Earliest);
    assert_eq!(counts(source().max_rate_per_partition(20)), [[10, 3], [10, 0], [5, 0]]);
    assert_eq!(counts(source().max_rate_per_partition(1)), [[1, 1], [1, 1], [1, 1]]);
    assert_eq!(counts(source().max_rate_per_partition(1).min_per_batch_and_partition(4)), [[4, 3], [4, 0], [4, 0]]);
}

#[test]
fn r66_the_first_batches_keep_to_the_initial_rate_shared_by_lag() {
    let a = topic("initial", 2);
    write(&a, 0, ["x"; 100]);
    write(&a, 1, ["x"; 300]);
    let batches = Batches::default();
    let mut test = Check::new(1, 1).with_conf(millis(1000), |conf| {
        conf.streaming.backpressure_initial_rate = Some(40);
    });
    note(&test.ssc().input(direct(brokers()).subscribe([&a]).start(Start::Earliest)), &batches);
    test.run(1).unwrap();
    assert_eq!(lock(&batches)[0].0.iter().map(OffsetRange::count).collect::<Vec<_>>(), [10, 30]);
}

#[test]
fn r66_the_rate_that_is_estimated_is_shared_by_lag_and_no_partition_is_above_its_limit() {
    let a = topic("estimated", 2);
    write(&a, 0, ["x"; 1000]);
    write(&a, 1, vec!["x"; 3000]);
    let test = Check::new(1, 1).with_conf(secs(1), |conf| conf.streaming.backpressure_initial_rate = Some(800));
    let (counts, clock) = (Arc::new(Mutex::new(Vec::new())), test.clock().clone());
    let source = direct(brokers()).subscribe([&a]).start(Start::Earliest).max_rate_per_partition(1200);
    let noted = Arc::clone(&counts);
    test.ssc().input(source).foreach_rdd(move |rdd, _| {
        let ranges = offset_ranges(&rdd).expect("it is the stream's own Rdd");
        lock(&noted).push(ranges.iter().map(OffsetRange::count).collect::<Vec<_>>());
        // Two records a millisecond, by the clock of the test.
        clock.advance(Duration::from_micros(500 * rdd.count()?));
        Ok(())
    });
    test.ssc().start().unwrap();
    for batch in 1..=5 {
        test.clock().advance_to(Time::from_millis(batch * 1000));
        assert!(test.ssc().await_batch(Time::from_millis(batch * 1000)));
    }
    // The second batch gives the first estimate, 2,000 a second; of that 1,500 would be the share of the second partition.
    assert_eq!(*lock(&counts), [[200, 600], [200, 600], [500, 1200], [100, 600], [0, 0]]);
}

#[test]
fn ranges_travel_and_are_read_in_any_number_of_threads() {
    let a = topic("travels", 3);
    for p in 0..3 {
        write(&a, p, (0..50).map(|n| format!("{p} {n}")));
    }
    let want: Vec<String> = (0..3).flat_map(|p| (0..50).map(move |n| format!("{p} {n}"))).collect();
    for how in [Check::new(1, 1), Check::new(3, 4), Check::new(3, 4).through_bytes()] {
        let (batches, mut test) = (Arc::new(Mutex::new(Vec::new())), how.context());
        let stream =
            test.ssc().input(direct(brokers()).subscribe([&a]).start(Start::Earliest).max_rate_per_partition(7));
        let noted = Arc::clone(&batches);
        stream.map(|record| record.text().unwrap_or("-").to_owned()).foreach_rdd(move |rdd, _| {
            lock(&noted).extend(rdd.collect()?);
            Ok(())
        });
        test.run(8).unwrap();
        let mut got = lock(&batches).clone();
        got.sort();
        let mut want = want.clone();
        want.sort();
        assert_eq!(got, want, "{how:?}");
    }
}
