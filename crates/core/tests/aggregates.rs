//! Values brought together from a zero, in levels and about: RD19, RD44, RD54, RD57, PR02, PR03, PR05, PR23.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::collections::HashMap;

use common::{context, everywhere, sorted, stages};
use millstream_core::{Context, ErrorKind, Partitioner, Rdd};

fn pairs(context: &Context, n: usize) -> Rdd<(u64, u64)> {
    context.parallelize((0..1000u64).map(|i| (i % 10, i)).collect(), n)
}

#[test]
fn pr02_each_key_is_folded_from_a_copy_of_zero() {
    everywhere(|context, n| {
        let add = |mut lists: Vec<u64>, v: u64| {
            lists.push(v);
            lists
        };
        let lists = pairs(context, n).aggregate_by_key(Vec::new(), add, |a, b| [a, b].concat());
        assert_eq!(lists.num_partitions(), n);
        for (key, values) in lists.collect().unwrap() {
            assert_eq!(values, (0..1000).filter(|i| i % 10 == key).collect::<Vec<_>>(), "in order");
        }
        let two = pairs(context, n).aggregate_by_key_partitioned(0, |a: u64, v| a + v, |a, b| a + b, 2);
        assert_eq!(two.partitioner(), Some(&Partitioner::hash(2)));
        assert_eq!(two.lookup(&3).unwrap(), [(0..1000).filter(|i| i % 10 == 3).sum::<u64>()]);
    });
}

#[test]
fn pr03_a_fold_uses_zero_once_a_key_and_partition() {
    everywhere(|context, n| {
        let sums = pairs(context, n).fold_by_key(0, |a, b| a + b);
        assert_eq!(sums.collect_as_map().unwrap()[&7], (0..1000).filter(|i| i % 10 == 7).sum::<u64>());
        // A zero that is none shows where it is used: once in each of the n partitions, which all have the key.
        let ones = pairs(context, n).map_values(|_| 0).fold_by_key_partitioned(1, |a, b| a + b, 3);
        assert_eq!(ones.lookup(&0).unwrap(), [n as u64]);
        let placed = pairs(context, n).partition_by(3);
        assert_eq!(stages(&placed.fold_by_key(0, |a, b| a + b)), 2, "placed keys are folded where they are");
    });
}

#[test]
fn pr05_reduced_values_come_as_a_map() {
    everywhere(|context, n| {
        let most = pairs(context, n).reduce_by_key_locally(|a, b| a.max(b)).unwrap();
        assert_eq!(most, (0..10).map(|k| (k, 990 + k)).collect::<HashMap<_, _>>());
    });
}

#[test]
fn rd19_elements_are_grouped_by_what_a_function_says() {
    everywhere(|context, n| {
        let numbers = context.parallelize((0..100u64).collect(), n);
        for (groups, partitions) in [(numbers.group_by(|x| x % 3), n), (numbers.group_by_partitioned(|x| x % 3, 5), 5)]
        {
            assert_eq!(groups.num_partitions(), partitions);
            for (key, group) in groups.collect().unwrap() {
                assert_eq!(group, (0..100).filter(|x| x % 3 == key).collect::<Vec<_>>());
            }
        }
    });
}

#[test]
fn rd54_rd57_levels_give_what_one_step_gives_in_order() {
    let context = context("local[4]");
    for n in [1, 2, 7, 40, 200] {
        let words = context.parallelize((0..500).map(|i: u32| i.to_string()).collect(), n);
        for depth in [0, 1, 2, 3, 9] {
            let reduced = words.tree_reduce(|a, b| a + &b, depth).unwrap();
            assert_eq!(reduced, words.reduce(|a, b| a + &b).unwrap(), "{n} partitions, depth {depth}");
            let folded = words.tree_aggregate(String::new(), |a, b| a + &b, |a, b| a + &b, depth).unwrap();
            assert_eq!(folded, reduced);
        }
        // As `aggregate`, zero once a partition and once more.
        let zeros = words.tree_aggregate(1u64, |a, _| a, |a, b| a + b, 2).unwrap();
        assert_eq!(zeros, n as u64 + 1);
    }
    let none = context.parallelize(Vec::<u64>::new(), 100);
    assert_eq!(none.tree_reduce(|a, b| a + b, 2).unwrap_err().kind(), ErrorKind::User);
    assert_eq!(none.tree_aggregate(0, |a, b| a + b, |a, b| a + b, 2).unwrap(), 0);
    assert_eq!(context.parallelize(vec![5u64], 100).tree_reduce(|a, b| a + b, 2).unwrap(), 5);
    let error = context.parallelize((0..100u64).collect(), 50).tree_reduce(|_, _| panic!("no sum"), 2).unwrap_err();
    assert!(error.to_string().contains("tree_reduce at") && error.to_string().contains("aggregates.rs"), "{error}");
}

#[test]
fn rd44_pr23_different_elements_are_counted_about() {
    everywhere(|context, n| {
        let numbers = context.parallelize((0..20_000u64).map(|x| x % 5000).collect(), n);
        let about = numbers.count_approx_distinct(0.02).unwrap();
        assert!((4600..5400).contains(&about), "{about}");
        assert_eq!(about, numbers.coalesce(1).count_approx_distinct(0.02).unwrap(), "however it is cut");
        assert_eq!(context.empty::<u64>().count_approx_distinct(0.02).unwrap(), 0);
        let pairs = context.parallelize((0..3000u64).map(|x| (x % 3, x % (3 * (x % 3 + 1) * 10))).collect(), n);
        let by_key = sorted(pairs.count_approx_distinct_by_key(0.02).collect().unwrap());
        let exact = sorted(pairs.distinct().map_values(|_| 1u64).reduce_by_key(|a, b| a + b).collect().unwrap());
        for ((key, about), (_, count)) in by_key.iter().zip(&exact) {
            assert!(about.abs_diff(*count) <= count / 10, "{key}: {about} for {count}");
        }
    });
    let numbers = context("local[1]").parallelize(vec![1, 2], 1);
    assert_eq!(numbers.count_approx_distinct(0.0).unwrap_err().kind(), ErrorKind::Config);
    let by_key = numbers.key_by(|x| *x).count_approx_distinct_by_key(2.0).count();
    assert_eq!(by_key.unwrap_err().kind(), ErrorKind::Config);
}
