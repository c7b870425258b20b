//! Pairs in the order of their keys, and the partitioner that knows it: OR01 to OR03.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::cmp::Reverse;

use common::{everywhere, stages};
use millstream_core::{Context, Partitioner, Rdd};

/// Numbers in no order, each key several times, with the place where each stood.
fn pairs(context: &Context, n: usize) -> Rdd<(u64, usize)> {
    context.parallelize((0..2000usize).map(|i| ((i as u64).wrapping_mul(7919) % 101, i)).collect(), n)
}

#[test]
fn or01_a_sorted_rdd_knows_where_its_keys_are() {
    everywhere(|context, n| {
        for sorted in [pairs(context, n).sort_by_key(), pairs(context, n).sort_by_key_descending()] {
            assert_eq!(sorted.partitioner().map(Partitioner::num_partitions), Some(sorted.num_partitions()));
            let grouped = sorted.group_by_key();
            assert_eq!(stages(&grouped), 2, "grouping what is placed needs no shuffle of its own");
            assert_eq!(grouped.count().unwrap(), 101);
            assert_eq!(sorted.lookup(&17).unwrap().len(), pairs(context, n).lookup(&17).unwrap().len());
            let again = sorted.map_values(|i| i + 1);
            assert_eq!(stages(&sorted.join(&again)), 1, "both sides are placed by one partitioner");
        }
    });
}

#[test]
fn or01_sorting_may_be_told_how_many_partitions() {
    everywhere(|context, n| {
        let rdd = pairs(context, n);
        let keys = |rdd: &Rdd<(u64, usize)>| rdd.collect().unwrap().into_iter().map(|p| p.0).collect::<Vec<_>>();
        let up = rdd.sort_by_key_partitioned(4);
        assert_eq!(up.num_partitions(), 4);
        assert!(keys(&up).is_sorted());
        let down = rdd.sort_by_key_descending_partitioned(4);
        assert_eq!(down.num_partitions(), 4);
        assert!(keys(&down).is_sorted_by_key(|k| Reverse(*k)));
        assert_eq!(rdd.sort_by_key_partitioned(0).num_partitions(), 1);
    });
}

#[test]
fn or02_pairs_are_placed_by_the_partitioner_and_sorted_within() {
    everywhere(|context, n| {
        let modulo = Partitioner::custom(3, |key: &u64| (*key % 3) as usize);
        let sorted = pairs(context, n).repartition_and_sort_within_partitions(&modulo);
        assert_eq!(sorted.partitioner(), Some(&modulo));
        for (p, part) in sorted.glom().collect().unwrap().into_iter().enumerate() {
            assert!(part.iter().all(|(key, _)| *key % 3 == p as u64));
            // By key, and pairs of one key in the order in which they stood.
            assert!(part.is_sorted());
        }
        assert_eq!(stages(&sorted.repartition_and_sort_within_partitions(&modulo)), 1);
        assert_eq!(pairs(context, n).repartition_and_sort_within_partitions(4).num_partitions(), 4);
    });
}

#[test]
fn or03_a_range_of_keys_is_read_from_the_partitions_that_may_have_it() {
    everywhere(|context, n| {
        let rdd = pairs(context, n);
        let expected = |low: u64, high: u64| {
            let mut some: Vec<_> = rdd.collect().unwrap().into_iter().filter(|p| (low..=high).contains(&p.0)).collect();
            some.sort();
            some
        };
        let (up, down) = (rdd.sort_by_key_partitioned(5), rdd.sort_by_key_descending_partitioned(5));
        for (low, high) in [(0, 100), (10, 10), (37, 61), (100, 100), (0, 0), (200, 300), (61, 37)] {
            for some in [rdd.filter_by_range(low, high), up.filter_by_range(low, high), down.filter_by_range(low, high)]
            {
                assert_eq!(common::sorted(some.collect().unwrap()), expected(low, high), "{low} to {high} over {n}");
            }
        }
        assert_eq!(up.filter_by_range(10, 10).num_partitions(), 1);
        assert_eq!(up.filter_by_range(0, 100).num_partitions(), 5);
        assert_eq!(rdd.filter_by_range(10, 10).num_partitions(), n);
    });
}
