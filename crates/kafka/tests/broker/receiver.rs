//! A receiver that is a member of a group: what is kept is acknowledged, and nothing before.

use std::sync::{Arc, Mutex};

use millstream_core::threads::lock;
use millstream_kafka::{GroupReceiver, receiver};
use millstream_testkit::{Check, Lives, SimDisk, StreamTest};

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
