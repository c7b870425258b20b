//! Two Rdds together, element by element and as sets: RD15 to RD17, RD20 to RD23, PR14.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use common::{context, everywhere, sorted, stages};
use millstream_core::{ErrorKind, Partitioner};

#[test]
fn rd20_zip_pairs_what_stands_at_the_same_place() {
    everywhere(|context, n| {
        let numbers = context.parallelize((0..5000u64).collect(), n);
        // Chunks of the two sides differ: one side gives a few elements at a time.
        let doubled = numbers.flat_map(|x| [x, x]).map_partitions(|items| items.step_by(2)).map(|x| x * 2);
        let zipped = numbers.zip(&doubled).collect().unwrap();
        assert_eq!(zipped, (0..5000).map(|x| (x, x * 2)).collect::<Vec<_>>());
        let empty = context.parallelize(Vec::<u8>::new(), n);
        assert!(empty.zip(&empty).collect().unwrap().is_empty());
    });
}

#[test]
fn rd20_rd21_sides_that_do_not_fit_are_errors() {
    let context = context("local[2]");
    let three = context.parallelize(vec![1, 2, 3], 3);
    let two = context.parallelize(vec![1, 2, 3], 2);
    let error = three.zip(&two).count().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("3 and 2") && error.to_string().contains("together.rs"), "{error}");
    let error = three.zip_partitions(&two, |a, b| a.zip(b)).count().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    for (a, b) in [(3000, 3001), (3001, 3000), (0, 1), (1, 0)] {
        let a = context.parallelize((0..a).collect::<Vec<u32>>(), 1);
        let b = context.parallelize((0..b).collect::<Vec<u32>>(), 1);
        let error = a.zip(&b).count().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::User);
        assert!(error.to_string().contains("same number of elements"), "{error}");
    }
}

#[test]
fn rd21_zip_partitions_is_given_both_partitions_also_empty_ones() {
    everywhere(|context, n| {
        let a = context.parallelize((0..4u64).collect(), n);
        let b = context.parallelize((0..1000u64).collect(), n);
        let counts = a.zip_partitions(&b, |a, b| [(a.count(), b.count())]).collect().unwrap();
        assert_eq!(counts.len(), n);
        assert_eq!(counts.iter().map(|c| c.0).sum::<usize>(), 4);
        assert_eq!(counts.iter().map(|c| c.1).sum::<usize>(), 1000);
        let keyed = a.key_by(|x| *x).partition_by(n);
        let kept = keyed.zip_partitions_preserving(&b, |a, _| a);
        assert_eq!(kept.partitioner(), Some(&Partitioner::hash(n)));
        assert_eq!(keyed.zip_partitions(&b, |a, _| a).partitioner(), None);
    });
}

#[test]
fn rd21_a_failure_of_either_side_fails_the_job_at_its_line_whatever_the_closure_makes_of_it() {
    let context = context("local[2]");
    let good = context.parallelize((0..2000u64).collect(), 2);
    let bad = good.map(|x| if x == 1500 { panic!("no such number") } else { x });
    let failing =
        [good.zip_partitions(&bad, |a, b| [a.count() + b.count()]), bad.zip_partitions(&good, |a, _| [a.count()])];
    for rdd in failing {
        let error = rdd.collect().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::User);
        assert!(error.to_string().contains("no such number") && error.to_string().contains("map at"), "{error}");
    }
    let error = good.zip_partitions(&good, |_, _| -> Vec<u64> { panic!("not me") }).collect().unwrap_err();
    assert!(error.to_string().contains("zip_partitions at"), "{error}");
}

#[test]
fn rd20_zips_of_zips_are_a_clear_error_when_they_are_too_many() {
    let context = context("local[1]");
    let numbers = context.parallelize(vec![1u64, 2, 3], 1);
    let chain = |n| (0..n).fold(numbers.clone(), |rdd, _| rdd.zip(&numbers).map(|(a, _)| a));
    assert_eq!(chain(150).collect().unwrap(), [1, 2, 3]);
    let deep = chain(10_000);
    assert_eq!(deep.count().unwrap_err().kind(), ErrorKind::Graph);
    drop(deep);
    let deep = (0..5000).fold(numbers.clone(), |rdd, _| rdd.cartesian(&numbers.filter(|x| *x == 1)).map(|(a, _)| a));
    assert_eq!(deep.count().unwrap_err().kind(), ErrorKind::Graph);
}

#[test]
fn rd22_rd23_elements_are_numbered() {
    everywhere(|context, n| {
        let letters = context.parallelize(('a'..='z').collect(), n).filter(|c| *c != 'c');
        let expected: Vec<_> = ('a'..='z').filter(|c| *c != 'c').zip(0u64..).collect();
        assert_eq!(letters.zip_with_index().collect().unwrap(), expected);
        for (p, part) in letters.zip_with_unique_id().glom().collect().unwrap().into_iter().enumerate() {
            let ids: Vec<u64> = part.into_iter().map(|(_, id)| id).collect();
            assert_eq!(ids, (0..ids.len()).map(|i| (p + i * n) as u64).collect::<Vec<_>>());
        }
        assert!(context.empty::<u8>().zip_with_index().collect().unwrap().is_empty());
    });
    let context = context("local[2]");
    let bad = context.parallelize(vec![1, 2, 3], 3).map(|x: i32| if x == 1 { panic!("one") } else { x });
    assert!(bad.zip_with_index().count().unwrap_err().to_string().contains("one"), "the counting job's failure");
}

#[test]
fn rd17_all_pairs_left_first() {
    everywhere(|context, n| {
        let left = context.parallelize((0..60u64).collect(), n);
        let right = context.parallelize((0..50u64).collect(), 3);
        let pairs = left.cartesian(&right);
        assert_eq!(pairs.num_partitions(), n * 3);
        let expected: Vec<_> = (0..60).flat_map(|a| (0..50).map(move |b| (a, b))).collect();
        assert_eq!(sorted(pairs.collect().unwrap()), expected);
        for part in pairs.glom().collect().unwrap() {
            assert!(part.is_sorted());
        }
        assert_eq!(left.cartesian(&context.empty::<u8>()).num_partitions(), 0);
        assert_eq!(left.cartesian(&right.filter(|_| false)).count().unwrap(), 0);
        assert_eq!(left.filter(|_| false).cartesian(&right).count().unwrap(), 0);
    });
}

#[test]
fn rd15_rd16_sets_are_compared_by_element() {
    everywhere(|context, n| {
        let a = context.parallelize(vec![1, 1, 2, 3, 3, 9], n);
        let b = context.parallelize(vec![3, 3, 1, 5], 2);
        assert_eq!(sorted(a.intersection(&b).collect().unwrap()), [1, 3]);
        assert_eq!(sorted(a.intersection_partitioned(&b, 5).collect().unwrap()), [1, 3]);
        assert_eq!(a.intersection_partitioned(&b, 5).num_partitions(), 5);
        assert_eq!(sorted(a.subtract(&b).collect().unwrap()), [2, 9]);
        assert_eq!(sorted(b.subtract(&a).collect().unwrap()), [5]);
        assert_eq!(sorted(a.subtract(&context.empty()).collect().unwrap()), [1, 1, 2, 3, 3, 9]);
        assert_eq!(a.subtract(&b).num_partitions(), n, "as many as this side");
        assert_eq!(a.subtract_partitioned(&b, 4).num_partitions(), 4);
        assert!(a.intersection(&context.empty()).collect().unwrap().is_empty());
    });
}

#[test]
fn pr14_pairs_whose_keys_the_other_has_not_keep_their_order() {
    everywhere(|context, n| {
        let a = context.parallelize((0..1000u64).map(|i| (i % 10, i)).collect(), n);
        let b = context.parallelize(vec![(3u64, 'x'), (3, 'y'), (7, 'z'), (77, 'z')], 2);
        let rest = a.subtract_by_key(&b);
        assert_eq!(rest.num_partitions(), n);
        let expected: Vec<_> = (0..1000u64).map(|i| (i % 10, i)).filter(|(k, _)| *k != 3 && *k != 7).collect();
        assert_eq!(sorted(rest.collect().unwrap()), sorted(expected));
        for (_, values) in rest.group_by_key().collect().unwrap() {
            assert!(values.is_sorted());
        }
        let placed = a.partition_by(4);
        let rest = placed.subtract_by_key(&b.partition_by(4));
        assert_eq!(rest.partitioner(), Some(&Partitioner::hash(4)));
        assert_eq!(stages(&rest), 3, "what is placed is not moved again");
        assert_eq!(a.subtract_by_key_partitioned(&b, 3).count().unwrap(), 800);
    });
}
