//! Sorting and what is largest or smallest: RD18, RD48, RD49, RD51, RD52, OR01.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::cmp::Reverse;

use common::{context, everywhere, sorted};
use millstream_core::{ErrorKind, Rdd};
use proptest::prelude::*;

/// Numbers in no order, each key several times, with the place where each stood.
fn shuffled() -> Vec<(u64, usize)> {
    (0..3000usize).map(|i| ((i as u64).wrapping_mul(7919) % 101, i)).collect()
}

fn by_key(descending: bool) -> Vec<(u64, usize)> {
    let mut all = shuffled();
    // A stable sort, so that pairs of equal keys are where they must be.
    if descending {
        all.sort_by_key(|p| Reverse(p.0))
    } else {
        all.sort_by_key(|p| p.0)
    }
    all
}

#[test]
fn rd18_or01_sorting_orders_all_partitions_and_equal_keys_keep_their_order() {
    everywhere(|context, n| {
        let rdd = context.parallelize(shuffled(), n);
        let cases: Vec<(&str, Rdd<(u64, usize)>, bool, usize)> = vec![
            ("sort_by", rdd.sort_by(|p| p.0), false, n),
            ("sort_by reversed", rdd.sort_by(|p| Reverse(p.0)), true, n),
            ("sort_by_partitioned", rdd.sort_by_partitioned(|p| p.0, 5), false, 5),
            ("sort_by_partitioned to one", rdd.sort_by_partitioned(|p| p.0, 0), false, 1),
            ("sort_by_key", rdd.sort_by_key(), false, n),
            ("sort_by_key_descending", rdd.sort_by_key_descending(), true, n),
            ("sorted before", rdd.sort_by_key().sort_by(|p| Reverse(p.0)), true, n),
        ];
        for (name, rdd, descending, partitions) in cases {
            assert_eq!(rdd.collect().unwrap(), by_key(descending), "{name} over {n}");
            assert_eq!(rdd.num_partitions(), partitions, "{name}");
            let longest = rdd.glom().collect().unwrap().into_iter().map(|part| part.len()).max().unwrap();
            assert!(longest <= 3000 / partitions * 2, "{name} over {n}: a partition has {longest} of 3000");
        }
    });
}

#[test]
fn rd18_sorting_works_where_there_is_little_to_sort_or_all_keys_are_equal() {
    everywhere(|context, n| {
        let sort = |values: Vec<u64>| context.parallelize(values, n).sort_by_partitioned(|x| *x, 4).collect().unwrap();
        assert_eq!(sort(vec![]), []);
        assert_eq!(sort(vec![1]), [1]);
        assert_eq!(sort(vec![2, 1]), [1, 2]);
        assert_eq!(sort(vec![7; 900]), [7; 900]);
        assert_eq!(sort(vec![u64::MAX, 0, u64::MAX]), [0, u64::MAX, u64::MAX]);
    });
}

#[test]
fn rd48_rd49_top_and_take_ordered_give_the_first_of_the_order() {
    everywhere(|context, n| {
        let rdd = context.parallelize(shuffled(), n);
        let (up, mut down) = (sorted(shuffled()), sorted(shuffled()));
        down.reverse();
        for k in [0, 1, 2, 100, 2999, 3000, 3001, usize::MAX] {
            let len = k.min(3000);
            assert_eq!(rdd.take_ordered(k).unwrap(), up[..len], "take_ordered({k}) over {n}");
            assert_eq!(rdd.top(k).unwrap(), down[..len], "top({k}) over {n}");
            assert_eq!(rdd.top_by(k, |p| p.0).unwrap(), by_key(true)[..len], "of equal keys the first, over {n}");
        }
        let empty = rdd.filter(|_| false);
        assert_eq!((empty.top(3).unwrap(), empty.take_ordered(3).unwrap()), (vec![], vec![]));
        assert_eq!(context.empty::<u8>().top(1).unwrap(), []);
    });
}

#[test]
fn rd51_rd52_max_and_min_need_an_element() {
    everywhere(|context, n| {
        let rdd = context.parallelize(vec![3u64, 9, 1, 9, 4], n);
        assert_eq!((rdd.max().unwrap(), rdd.min().unwrap()), (9, 1));
        for error in [rdd.filter(|_| false).max().unwrap_err(), context.empty::<u64>().min().unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::User);
            assert!(error.to_string().contains("empty collection"), "{error}");
            assert!(error.site().unwrap().file().ends_with("ordered.rs"));
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn sorting_and_top_give_what_a_stable_sort_gives(
        values in prop::collection::vec((any::<i8>(), any::<u16>()), 0..200),
        n in 1usize..6,
        to in 1usize..6,
        k in 0usize..12,
    ) {
        let rdd = context("local[2]").parallelize(values.clone(), n);
        let mut want = values.clone();
        want.sort_by_key(|p| p.0);
        prop_assert_eq!(rdd.sort_by_partitioned(|p| p.0, to).collect().unwrap(), want.clone());
        let mut top = values;
        top.sort_by_key(|p| Reverse(p.0));
        top.truncate(k);
        prop_assert_eq!(rdd.top_by(k, |p| p.0).unwrap(), top);
        let mut least = sorted(want);
        least.truncate(k);
        prop_assert_eq!(rdd.take_ordered(k).unwrap(), least);
    }
}
