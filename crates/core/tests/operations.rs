//! Operations on elements and on partitions give what Spark's give: RD01…RD14, RD28…RD30, CX02…CX05.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use common::{context, everywhere, sorted, stages};
use millstream_core::{Partitioner, Rdd, StorageLevel, TaskContext};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Enough for several chunks in each partition.
fn numbers() -> Vec<u64> {
    (0..5000).collect()
}

#[test]
fn rd01_to_rd05_operations_on_elements_give_what_iterators_give_in_order() {
    everywhere(|context, n| {
        let (input, rdd) = (numbers(), context.parallelize(numbers(), n));
        let many = |x: u64| 0..if x % 1000 == 7 { 3000 } else { x % 3 };
        let cases: Vec<(&str, Rdd<u64>, Vec<u64>)> = vec![
            ("map", rdd.map(|x| x * 2), input.iter().map(|x| x * 2).collect()),
            ("filter", rdd.filter(|x| x % 3 == 0), input.iter().copied().filter(|x| x % 3 == 0).collect()),
            ("filter to nothing", rdd.filter(|_| false), vec![]),
            ("flat_map", rdd.flat_map(many), input.iter().copied().flat_map(many).collect()),
            ("flat_map of options", rdd.flat_map(|x| x.checked_sub(4990)), (0..10).collect()),
            (
                "flat_map_into",
                rdd.flat_map_into(move |x, out| out.extend(many(x))),
                input.iter().copied().flat_map(many).collect(),
            ),
            ("map_partitions", rdd.map_partitions(|xs| xs.map(|x| x + 1)), input.iter().map(|x| x + 1).collect()),
            ("map_partitions that stops early", rdd.map_partitions(|xs| xs.take(0)), vec![]),
            (
                "one behind the other",
                rdd.flat_map(|x| [x, x])
                    .filter(|x| x % 2 == 1)
                    .map_partitions(|xs| xs.step_by(2))
                    .flat_map(|x| 0..x % 4),
                input.iter().filter(|x| *x % 2 == 1).flat_map(|x| 0..x % 4).collect(),
            ),
        ];
        for (name, rdd, want) in cases {
            assert_eq!(rdd.collect().unwrap(), want, "{name} over {n}");
            assert_eq!(rdd.count().unwrap(), want.len() as u64, "{name} over {n}");
            assert_eq!(rdd.num_partitions(), n, "{name}");
        }
    });
}

#[test]
fn rd04_rd05_rd07_operations_on_partitions_are_given_each_partition_once_also_an_empty_one() {
    everywhere(|context, n| {
        let rdd = context.parallelize(vec![1u64, 2], n);
        let lens = rdd.map_partitions(|xs| [xs.count()]).collect().unwrap();
        assert_eq!((lens.len(), lens.iter().sum::<usize>()), (n, 2));
        let numbered = rdd.map_partitions_with_index(|p, xs| [(p, xs.count())]).collect().unwrap();
        assert_eq!(numbered, lens.iter().copied().enumerate().collect::<Vec<_>>());
        let glommed = rdd.glom().collect().unwrap();
        assert_eq!(glommed.iter().map(Vec::len).collect::<Vec<_>>(), lens);
        let told = rdd.map_partitions(|_| TaskContext::current().map(|t| (t.partition(), t.num_partitions())));
        assert_eq!(told.collect().unwrap(), (0..n).map(|p| (p, n)).collect::<Vec<_>>());
    });
}

#[test]
fn rd08_key_by_pairs_each_element_with_its_key() {
    everywhere(|context, n| {
        let keyed = context.parallelize(numbers(), n).key_by(|x| x % 10).collect().unwrap();
        assert_eq!(keyed, numbers().into_iter().map(|x| (x % 10, x)).collect::<Vec<_>>());
    });
}

#[test]
fn cx02_cx04_values_are_cut_into_slices_and_zero_partitions_are_one() {
    let context = context("local[2]");
    let parts = |rdd: &Rdd<u64>| rdd.glom().collect().unwrap();
    assert_eq!(parts(&context.parallelize(vec![0, 1, 2, 3, 4], 3)), [vec![0], vec![1, 2], vec![3, 4]]);
    assert_eq!(parts(&context.parallelize(vec![], 2)), [vec![], Vec::<u64>::new()]);
    assert_eq!(context.parallelize(vec![1u64], 0).num_partitions(), 1);
    assert_eq!(parts(&context.parallelize_partitions(vec![vec![], vec![3, 1]])), [vec![], vec![3, 1]]);
    let empty = context.empty::<u64>();
    assert_eq!((empty.num_partitions(), empty.count().unwrap(), empty.collect().unwrap()), (0, 0, vec![]));
    assert_eq!(empty.repartition(3).count().unwrap(), 0);
    assert_eq!(empty.map(|x| (x, x)).reduce_by_key(|a, _| a).collect().unwrap(), []);
    assert_eq!(empty.sort_by(|x| *x).collect().unwrap(), []);
}

#[test]
fn rd14_cx05_a_union_puts_partitions_behind_each_other_and_keeps_duplicates() {
    everywhere(|context, n| {
        let (a, b) = (context.parallelize(vec![1u64, 2, 3], n), context.parallelize(vec![3u64, 4], 2));
        let both = a.union(&b);
        assert_eq!((both.collect().unwrap(), both.num_partitions()), (vec![1, 2, 3, 3, 4], n + 2));
        let (twice, empty) = (both.union(&a).union(&both), context.empty());
        assert_eq!(twice.collect().unwrap(), [1, 2, 3, 3, 4, 1, 2, 3, 1, 2, 3, 3, 4]);
        let all = context.union(&[empty.clone(), a.clone(), empty.clone(), b.map(|x| x * 10)]);
        assert_eq!((all.collect().unwrap(), all.num_partitions()), (vec![1, 2, 3, 30, 40], n + 2));
        assert_eq!(context.union::<u64>(&[]).collect().unwrap(), []);
        assert_eq!(empty.union(&empty).count().unwrap(), 0);
    });
}

#[test]
fn rd14_a_union_of_rdds_that_share_a_partitioner_keeps_it() {
    everywhere(|context, n| {
        let pairs = |from: u64| context.parallelize((from..from + 50).map(|x| (x, from)).collect(), 3);
        let (a, b) = (pairs(0).partition_by(n), pairs(20).partition_by(n));
        let both = a.union(&b).union(&context.empty());
        assert_eq!(both.partitioner(), Some(&Partitioner::hash(n)));
        assert_eq!(both.num_partitions(), n);
        let sums = both.reduce_by_key_partitioned(|a, b| a + b, n);
        assert_eq!((stages(&sums), sums.count().unwrap()), (3, 70), "the union's keys are not moved again");
        let want = sorted((0..50).map(|x| (x, 0)).chain((20..70).map(|x| (x, 20))).collect());
        assert_eq!(sorted(both.collect().unwrap()), want);
        let (left, right) = (a.glom().collect().unwrap(), b.glom().collect().unwrap());
        let joined: Vec<_> = left.into_iter().zip(right).map(|(l, r)| [l, r].concat()).collect();
        assert_eq!(both.glom().collect().unwrap(), joined, "partitions of the same number are put together");
        let other = a.union(&pairs(20).partition_by(n + 1));
        assert_eq!((other.partitioner(), other.num_partitions(), other.count().unwrap()), (None, 2 * n + 1, 100));
    });
}

#[test]
fn rd10_rd11_coalesce_joins_neighbours_and_repartition_moves_to_exactly_n() {
    everywhere(|context, n| {
        let rdd = context.parallelize(numbers(), n);
        for to in [0usize, 1, 2, 3, 10] {
            let fewer = rdd.coalesce(to);
            assert_eq!(fewer.num_partitions(), to.max(1).min(n), "{n} to {to}");
            assert_eq!((fewer.collect().unwrap(), stages(&fewer)), (numbers(), 1), "the order stays");
            let moved = rdd.repartition(to);
            assert_eq!((moved.num_partitions(), stages(&moved)), (to.max(1), 2));
            let parts = moved.glom().collect().unwrap();
            let fair = 5000 / to.max(1);
            assert!(parts.iter().all(|part| part.len().abs_diff(fair) <= n), "{n} to {to} is uneven");
            assert_eq!(sorted(parts.concat()), numbers());
        }
    });
}

#[test]
fn rd09_distinct_keeps_each_element_once_over_as_many_partitions() {
    everywhere(|context, n| {
        let rdd = context.parallelize(numbers(), n).map(|x| x % 13);
        let once = rdd.distinct();
        assert_eq!((sorted(once.collect().unwrap()), once.num_partitions()), ((0..13).collect(), n));
        let over = rdd.distinct_partitioned(3);
        assert_eq!((sorted(over.collect().unwrap()), over.num_partitions()), ((0..13).collect(), 3));
    });
}

/// An Rdd that counts how often it is computed, an element.
fn counted(context: &millstream_core::Context, n: usize) -> (Rdd<u64>, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&calls);
    let rdd = context.parallelize((0..100).collect(), n).map(move |x: u64| {
        seen.fetch_add(1, Ordering::Relaxed);
        x + 1
    });
    (rdd, calls)
}

#[test]
fn rd28_to_rd30_a_persisted_rdd_is_computed_once_and_again_after_unpersist() {
    let levels = [
        StorageLevel::MEMORY_ONLY,
        StorageLevel::MEMORY_ONLY_SER,
        StorageLevel::MEMORY_AND_DISK,
        StorageLevel::MEMORY_AND_DISK_SER_2,
        StorageLevel::DISK_ONLY,
    ];
    everywhere(|context, n| {
        for level in levels {
            let (rdd, calls) = counted(context, n);
            assert_eq!(rdd.storage_level(), StorageLevel::NONE);
            rdd.persist(level);
            assert_eq!(rdd.storage_level(), level);
            let above = rdd.filter(|x| x % 2 == 0);
            for _ in 0..3 {
                assert_eq!(rdd.collect().unwrap(), (1..=100).collect::<Vec<_>>());
                assert_eq!(above.count().unwrap(), 50);
            }
            assert_eq!(calls.load(Ordering::Relaxed), 100, "{level}");
            assert_eq!(context.env().blocks.usage().blocks, n, "{level}");
            rdd.unpersist();
            assert_eq!(context.env().blocks.usage().blocks, 0, "{level}");
            assert_eq!((rdd.storage_level(), rdd.count().unwrap()), (StorageLevel::NONE, 100));
            assert_eq!(calls.load(Ordering::Relaxed), 200, "{level}");
        }
        let (rdd, calls) = counted(context, n);
        rdd.cache();
        assert_eq!(
            (rdd.count().unwrap(), rdd.count().unwrap(), rdd.storage_level()),
            (100, 100, StorageLevel::MEMORY_ONLY)
        );
        assert_eq!(calls.load(Ordering::Relaxed), 100);
    });
}

#[test]
fn rd28_a_level_cannot_be_changed_without_unpersist_but_can_be_set_again() {
    let context = context("local[2]");
    let (rdd, _) = counted(&context, 2);
    rdd.cache();
    assert_eq!(rdd.persist(StorageLevel::MEMORY_ONLY).count().unwrap(), 100);
    let error = rdd.persist(StorageLevel::DISK_ONLY).count().unwrap_err();
    assert_eq!(error.kind(), millstream_core::ErrorKind::Config);
    assert_eq!(error.site().unwrap().line(), line!() - 2, "{error}");
    assert!(error.to_string().contains("unpersist"), "{error}");
    rdd.unpersist();
    assert_eq!(rdd.persist(StorageLevel::DISK_ONLY).count().unwrap(), 100);
}

#[test]
fn rd28_a_part_that_was_kept_is_not_computed_by_the_job_that_needs_the_rest() {
    let context = context("local[1]");
    let (rdd, calls) = counted(&context, 4);
    rdd.cache();
    assert_eq!(rdd.take(1).unwrap(), [1]);
    assert_eq!(calls.load(Ordering::Relaxed), 25, "take(1) fills the first partition");
    assert_eq!(rdd.count().unwrap(), 100);
    assert_eq!(calls.load(Ordering::Relaxed), 100);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn chains_of_operations_give_what_iterators_give(
        parts in prop::collection::vec(prop::collection::vec(any::<u16>(), 0..40), 0..5),
        to in 1usize..6,
    ) {
        let context = context("local[2]");
        let rdd = context.parallelize_partitions(parts.clone());
        let flat = parts.concat();
        let got = rdd.flat_map(|x| 0..x % 4).filter(|x| *x != 1).map(|x| x + 1).coalesce(to).collect().unwrap();
        let want: Vec<u16> = flat.iter().flat_map(|x| 0..x % 4).filter(|x| *x != 1).map(|x| x + 1).collect();
        prop_assert_eq!(got, want);
        prop_assert_eq!(sorted(rdd.repartition(to).collect().unwrap()), sorted(flat.clone()));
        let mut once = sorted(flat);
        once.dedup();
        prop_assert_eq!(sorted(rdd.distinct_partitioned(to).collect().unwrap()), once);
        prop_assert_eq!(rdd.glom().collect().unwrap(), parts);
    }
}
