//! What tasks and the driver share: broadcasts and accumulators: CX13, CX14, SV01, SV02.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{context, everywhere, sorted};
use millstream_core::{Accumulate, ErrorKind, TaskContext, capture};
use serde::{Deserialize, Serialize};

#[test]
fn cx13_sv01_a_broadcast_is_read_by_all_tasks_and_is_its_value() {
    everywhere(|context, n| {
        let table = context.broadcast(vec!["zero".to_owned(), "one".to_owned()]);
        assert_ne!(table.id(), context.broadcast(1).id());
        assert_eq!((table.value().len(), table.len()), (2, 2));
        let numbers = context.range(0, 100, 1, n);
        let named = numbers.map(capture(table.clone(), |table, i| table[i as usize % 2].clone()));
        assert_eq!(named.filter(|name| name == "one").count().unwrap(), 50);
        table.destroy();
        assert_eq!(named.count().unwrap(), 100, "a closure that holds it keeps it");
    });
}

#[test]
fn sv01_a_broadcast_that_comes_back_is_the_one_that_left() {
    let context = context("local[1]");
    let table = context.broadcast(vec![1u64, 2, 3]);
    let bytes = millstream_core::codec::encode(&table).unwrap();
    let read = || millstream_core::codec::decode::<millstream_core::Broadcast<Vec<u64>>>(&bytes).unwrap();
    assert!(std::ptr::eq(read().value(), table.value()), "kept once a process");
    table.destroy();
    let (first, second) = (read(), read());
    assert_eq!(*first.value(), [1, 2, 3], "made again where it is not known");
    assert!(std::ptr::eq(first.value(), second.value()));
    assert_eq!(millstream_core::codec::encode(&first).unwrap(), bytes, "and can travel on");
}

#[test]
fn cx14_sv02_what_tasks_add_is_read_by_the_driver() {
    everywhere(|context, n| {
        let (long, double) = (context.long_accumulator("long"), context.double_accumulator("double"));
        let all = context.collection_accumulator::<i64>("all");
        assert!(long.is_zero() && double.is_zero() && all.is_zero());
        let accumulators = (long.clone(), double.clone(), all.clone());
        let add = |(long, double, all): &(_, _, _), x: i64| {
            millstream_core::LongAccumulator::add(long, x);
            millstream_core::DoubleAccumulator::add(double, 0.5);
            millstream_core::CollectionAccumulator::add(all, x);
        };
        context.range(0, 1000, 1, n).foreach(capture(accumulators, add)).unwrap();
        assert_eq!((long.value(), long.sum(), long.count(), long.avg()), (499_500, 499_500, 1000, 499.5));
        assert_eq!((double.value(), double.count()), (500.0, 1000));
        assert_eq!(sorted(all.value()), (0..1000).collect::<Vec<_>>());
        assert_eq!((long.name(), format!("{double:?}").contains("double")), ("long", true));
        long.add(1);
        assert_eq!(long.value(), 499_501, "the driver may add too");
        long.reset();
        assert!(long.is_zero() && long.avg().is_nan());
    });
}

#[test]
fn sv02_a_task_counts_once_when_it_has_succeeded_and_not_at_attempts_that_fail() {
    let context = context("local[4,3]");
    let seen = context.long_accumulator("seen");
    let counted = seen.clone();
    let tasks = context.range(0, 40, 1, 4).map(move |x| {
        counted.add(1);
        let attempt = TaskContext::current().unwrap().attempt();
        assert!(x % 10 != 5 || attempt == 2, "fails twice in the middle of each partition");
        x
    });
    assert_eq!(tasks.count().unwrap(), 40);
    assert_eq!(seen.value(), 40);
    // Through a shuffle, too: the tasks that write it count as those that give results.
    seen.reset();
    assert_eq!(tasks.map(|x| (x % 3, 1u64)).reduce_by_key(|a, b| a + b).count().unwrap(), 3);
    assert_eq!(seen.value(), 40);
    // What is computed again counts again.
    assert_eq!(tasks.count().unwrap(), 40);
    assert_eq!(seen.value(), 80);
}

#[test]
fn sv02_a_job_that_fails_counts_its_tasks_that_succeeded() {
    let context = context("local[1]");
    let seen = context.long_accumulator("seen");
    let counted = seen.clone();
    let job = context.range(0, 4, 1, 4).map(move |x| {
        counted.add(1);
        if x == 2 { panic!("two") } else { x }
    });
    job.count().unwrap_err();
    assert_eq!(seen.value(), 2, "the first two tasks, on one thread");
}

#[test]
fn sv02_within_a_task_the_value_is_what_the_task_has_added() {
    let context = context("local[2]");
    let seen = context.long_accumulator("seen");
    seen.add(1000);
    let counted = seen.clone();
    let values = context.range(0, 4, 1, 2).map(move |_| {
        counted.add(1);
        counted.reset();
        (counted.value(), counted.is_zero())
    });
    assert_eq!(values.collect().unwrap(), [(1, false), (2, false), (1, false), (2, false)]);
    assert_eq!(seen.value(), 1004);
}

/// Keeps the largest number; refuses to be merged with 13.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Largest(i64);

impl Accumulate for Largest {
    type In = i64;
    type Out = i64;

    fn zero(&self) -> Largest {
        Largest(i64::MIN)
    }

    fn is_zero(&self) -> bool {
        self.0 == i64::MIN
    }

    fn add(&mut self, item: i64) {
        self.0 = self.0.max(item);
    }

    fn merge(&mut self, other: Largest) {
        assert_ne!(other.0, 13, "an unlucky number");
        self.add(other.0);
    }

    fn value(&self) -> i64 {
        self.0
    }
}

#[test]
fn cx14_sv02_the_program_may_bring_its_own_kind_and_a_panic_of_it_fails_the_job() {
    everywhere(|context, n| {
        let largest = context.register(Largest(i64::MIN), "largest");
        let numbers = context.range(0, 1000, 1, n).map(capture(largest.clone(), |largest, x| {
            largest.add(x * 7 % 1000);
            x
        }));
        numbers.count().unwrap();
        assert_eq!(largest.value(), 999);
        let unlucky = context.range(13, 14, 1, 1).foreach(capture(largest.clone(), |largest, x| largest.add(x)));
        let error = unlucky.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::User);
        assert!(error.to_string().contains("unlucky"), "{error}");
        assert_eq!(largest.value(), 999);
    });
}

#[test]
fn sv02_nothing_stays_behind_when_an_accumulator_is_gone() {
    let context = context("local[2]");
    let held = Arc::new(AtomicUsize::new(0));
    let seen = context.collection_accumulator::<u64>("seen");
    let (counted, count) = (seen.clone(), Arc::clone(&held));
    context
        .range(0, 10, 1, 2)
        .foreach(move |_| {
            counted.add(1);
            count.fetch_add(1, Ordering::SeqCst);
        })
        .unwrap();
    assert_eq!((seen.value().len(), held.load(Ordering::SeqCst)), (10, 10));
    let bytes = millstream_core::codec::encode(&seen).unwrap();
    drop(seen);
    let arrived: millstream_core::CollectionAccumulator<u64> = millstream_core::codec::decode(&bytes).unwrap();
    assert!(arrived.is_zero(), "the one that was known is gone");
}
