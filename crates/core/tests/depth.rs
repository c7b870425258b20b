//! Lineages of any length are planned, run, shipped and dropped on a stack of 2 MiB (RD01, RD04, RD14, RD28).
//!
//! They only have to end: a stack that overflows ends the whole test process.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use common::context;
use millstream_core::plan::StageProgram;
use millstream_core::{Context, ErrorKind, Partitioner, Rdd};

/// Runs `body` as the main thread of a small program would: on 2 MiB, with workers that have 2 MiB too.
fn on_two_mebibytes(body: impl FnOnce(&Context) + Send + 'static) {
    let main = || {
        let context = context("local[2]");
        body(&context);
        assert_eq!(context.env().shuffles.len(), 0, "shuffle outputs outlive their Rdds");
        assert_eq!(context.env().blocks.usage().blocks, 0, "kept blocks outlive their Rdds");
    };
    let small = std::thread::Builder::new().stack_size(2 << 20);
    std::thread::scope(|scope| small.spawn_scoped(scope, main).unwrap().join().unwrap());
}

#[allow(clippy::needless_pass_by_value, reason = "the chain owns its first link, so that it can be dropped")]
fn chain<T: millstream_core::Data>(first: Rdd<T>, n: usize, step: impl Fn(Rdd<T>) -> Rdd<T>) -> Rdd<T> {
    (0..n).fold(first, |rdd, _| step(rdd))
}

#[test]
fn a_hundred_thousand_maps_run_and_are_dropped() {
    on_two_mebibytes(|context| {
        let maps = chain(context.parallelize(vec![1u64, 2, 3], 2), 100_000, |rdd| rdd.map(|x| x + 1));
        assert_eq!(maps.count().unwrap(), 3);
        assert_eq!(maps.collect().unwrap(), [100_001, 100_002, 100_003]);
        assert_eq!(maps.explain().stages.len(), 1);
        assert_eq!(maps.to_debug_string().lines().count(), 100_001);
    });
}

#[test]
fn a_hundred_thousand_maps_travel() {
    on_two_mebibytes(|context| {
        let maps = chain(context.parallelize(vec![1u64, 2, 3], 2), 100_000, |rdd| rdd.map(|x| x + 1));
        let bytes = maps.explain().stages[0].program.ship().unwrap();
        drop(maps);
        let arrived = <dyn StageProgram>::arrive(&bytes).unwrap();
        let again = arrived.ship().unwrap();
        assert!(again == bytes, "what arrived is written as it was");
    });
}

#[test]
fn rd14_ten_thousand_unions_run_travel_and_are_dropped() {
    on_two_mebibytes(|context| {
        let one = context.parallelize(vec![1u64], 1);
        let leaning_left = chain(one.clone(), 10_000, |rdd| rdd.union(&one));
        assert_eq!(leaning_left.count().unwrap(), 10_001);
        let leaning_right = chain(one.clone(), 10_000, |rdd| one.union(&rdd));
        assert_eq!(leaning_right.reduce(|a, b| a + b).unwrap(), 10_001);
        let bytes = leaning_right.explain().stages[0].program.ship().unwrap();
        drop(<dyn StageProgram>::arrive(&bytes).unwrap());
        let doubled = chain(context.parallelize(vec![1u64], 1), 13, |rdd| rdd.union(&rdd));
        assert_eq!(doubled.count().unwrap(), 1 << 13);
    });
}

#[test]
fn rd14_ten_thousand_unions_of_rdds_that_share_a_partitioner_run() {
    on_two_mebibytes(|context| {
        let placed = context.parallelize(vec![(1u64, 1u64), (2, 2)], 2).partition_by(2);
        let unions = chain(placed.clone(), 10_000, |rdd| rdd.union(&placed));
        assert_eq!(unions.partitioner(), Some(&Partitioner::hash(2)));
        assert_eq!(unions.count().unwrap(), 20_002);
    });
}

#[test]
fn a_thousand_unions_and_maps_in_turns_run() {
    on_two_mebibytes(|context| {
        let one = context.parallelize(vec![0u64], 1);
        let turns = chain(one.clone(), 1000, |rdd| rdd.union(&one).map(|x| x + 1));
        let mut want: Vec<u64> = (1..=1000).rev().collect();
        want.insert(0, 1000);
        assert_eq!(turns.collect().unwrap(), want);
    });
}

#[test]
fn operations_that_keep_length_and_pace_may_be_mixed_in_long_chains() {
    on_two_mebibytes(|context| {
        let first = context.parallelize((0..1000u64).map(|x| (x, x)).collect(), 2);
        let mixed = chain(first, 2000, |rdd| {
            rdd.filter(|_| true).flat_map(|p| [p]).map_values(|v| v + 1).flat_map_into(|p, out| out.push(p))
        });
        assert_eq!(mixed.values().reduce(|a, b| a + b).unwrap(), 999 * 500 + 2_000_000);
    });
}

#[test]
fn ten_thousand_shuffles_are_planned_and_dropped_without_running() {
    on_two_mebibytes(|context| {
        let shuffles = chain(context.parallelize(vec![1u64], 1), 10_000, |rdd| rdd.repartition(2));
        assert_eq!(shuffles.explain().stages.len(), 10_001);
    });
}

#[test]
fn five_hundred_shuffles_run_one_after_the_other() {
    on_two_mebibytes(|context| {
        let first = context.parallelize((0..10u64).map(|x| (x, 0u64)).collect(), 2);
        let shuffles = chain(first, 500, |rdd| rdd.reduce_by_key_partitioned(|a, b| a + b, 3).map(|(k, v)| (k, v + 1)));
        assert_eq!(shuffles.values().collect().unwrap(), [500; 10]);
        assert_eq!(context.env().shuffles.len(), 500);
    });
}

#[test]
fn rd28_five_thousand_persisted_maps_in_a_chain_are_kept_and_let_go() {
    on_two_mebibytes(|context| {
        let kept = chain(context.parallelize(vec![1u64, 2, 3], 2), 5000, |rdd| rdd.map(|x| x + 1).cache());
        assert_eq!(kept.collect().unwrap(), [5001, 5002, 5003]);
        assert_eq!(context.env().blocks.usage().blocks, 10_000);
        assert_eq!(kept.count().unwrap(), 3);
    });
}

/// Fails with the kind `Graph`, names this file, and says what to do.
fn too_deep<T: millstream_core::Data>(rdd: &Rdd<T>) {
    let error = rdd.count().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Graph, "{error}");
    assert!(error.to_string().contains("persist") && error.to_string().contains("depth.rs:"), "{error}");
}

#[test]
fn rd04_three_hundred_map_partitions_in_a_chain_are_a_clear_error_and_two_hundred_run() {
    on_two_mebibytes(|context| {
        let numbers = context.parallelize((0..1000u64).collect(), 2);
        let fits = chain(numbers, 200, |rdd| rdd.map_partitions(|xs| xs.map(|x| x + 1)));
        assert_eq!(fits.first().unwrap(), 200);
        let deep = chain(fits.clone(), 100, |rdd| rdd.map_partitions(|xs| xs.map(|x| x + 1)));
        too_deep(&deep);
        assert_eq!(deep.count().unwrap_err().site().unwrap().op(), "map_partitions");
        let kept = chain(fits.cache(), 100, |rdd| rdd.map_partitions(|xs| xs.map(|x| x + 1)));
        assert_eq!(kept.first().unwrap(), 300, "one that is persisted in between helps");
    });
}

#[test]
fn what_reads_from_inside_something_else_is_a_clear_error_when_it_is_too_deep() {
    on_two_mebibytes(|context| {
        let placed = context.parallelize(vec![(1u64, 1u64)], 1).partition_by(1);
        too_deep(&chain(placed.clone(), 3000, |rdd| rdd.union(&placed).map_values(|v| v + 1)));
        too_deep(&chain(placed.clone(), 3000, |rdd| rdd.union(&placed).reduce_by_key(|a, b| a + b)));
        too_deep(&chain(placed.clone(), 3000, |rdd| rdd.cogroup(&placed).map_values(|(v, _)| v[0])));
        let few = chain(placed.clone(), 50, |rdd| rdd.union(&placed).reduce_by_key(|a, b| a + b));
        assert_eq!(few.collect().unwrap(), [(1, 51)]);
    });
}
