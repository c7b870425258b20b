//! Shares by chance: RD12, RD13, RD50, PR24, PR25.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::collections::{BTreeSet, HashMap};

use common::{context, everywhere, sorted};
use millstream_core::{Error, ErrorKind};

fn kind<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorKind {
    result.unwrap_err().kind()
}

#[test]
fn rd12_a_sample_is_about_its_share_and_always_the_same() {
    everywhere(|context, n| {
        let numbers = context.parallelize((0..10_000u64).collect(), n);
        for fraction in [0.0, 0.01, 0.5, 1.0] {
            let some = numbers.sample(false, fraction, 7).collect().unwrap();
            assert_eq!(some, numbers.sample(false, fraction, 7).collect().unwrap());
            assert!((some.len() as f64 - fraction * 1e4).abs() <= 200.0, "{fraction}: {}", some.len());
            assert!(some.is_sorted_by(|a, b| a < b), "in order, none twice");
        }
        assert_ne!(numbers.sample(false, 0.5, 7).collect().unwrap(), numbers.sample(false, 0.5, 8).collect().unwrap());
        assert_eq!(numbers.sample(false, 1.0, 1).count().unwrap(), 10_000);
    });
}

#[test]
fn rd12_with_replacement_elements_come_as_often_as_the_fraction_says_on_average() {
    everywhere(|context, n| {
        let numbers = context.parallelize((0..3000u64).collect(), n);
        for fraction in [0.0, 0.5, 3.0, 40.0] {
            let some = numbers.sample(true, fraction, 7).collect().unwrap();
            let expected = fraction * 3000.0;
            assert!((some.len() as f64 - expected).abs() <= expected * 0.1, "{fraction}: {}", some.len());
            assert!(some.is_sorted());
        }
        let one = context.parallelize(vec![5u8], 1).sample(true, 5000.0, 7);
        assert!((4500..5500).contains(&one.count().unwrap()), "far more than a chunk of one element");
    });
}

#[test]
fn rd12_rd13_fractions_and_weights_that_cannot_be_are_settings_that_cannot_work() {
    let context = context("local[2]");
    let numbers = context.parallelize(vec![1, 2, 3], 2);
    for (with, fraction) in [(false, -0.1), (false, 1.1), (true, -1.0), (true, f64::INFINITY), (false, f64::NAN)] {
        let error = numbers.sample(with, fraction, 1).count().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{fraction}");
        assert!(error.to_string().contains("samples.rs"), "{error}");
    }
    for weights in [vec![1.0, -1.0], vec![0.0, 0.0], vec![f64::NAN], vec![f64::INFINITY]] {
        let parts = numbers.random_split(&weights, 1);
        assert_eq!(parts.len(), weights.len());
        assert_eq!(kind(parts[0].count()), ErrorKind::Config, "{weights:?}");
    }
    assert!(numbers.random_split(&[], 1).is_empty());
}

#[test]
fn rd13_a_split_puts_each_element_into_exactly_one_part() {
    everywhere(|context, n| {
        let numbers = context.parallelize((0..9000u64).collect(), n);
        let parts = numbers.random_split(&[1.0, 2.0, 0.0, 6.0], 3);
        let parts: Vec<Vec<u64>> = parts.iter().map(|part| part.collect().unwrap()).collect();
        for (part, expected) in parts.iter().zip([1000.0f64, 2000.0, 0.0, 6000.0]) {
            assert!((part.len() as f64 - expected).abs() <= expected * 0.12, "{}: {expected}", part.len());
        }
        assert_eq!(sorted(parts.concat()), (0..9000).collect::<Vec<_>>());
    });
}

#[test]
fn rd50_as_many_as_asked_are_taken_by_chance() {
    everywhere(|context, n| {
        let numbers = context.parallelize((0..1000u64).collect(), n);
        let some = numbers.take_sample(false, 100, 7).unwrap();
        assert_eq!(some.iter().collect::<BTreeSet<_>>().len(), 100, "none twice");
        assert!(!some.is_sorted(), "in random order");
        assert_eq!(some, numbers.take_sample(false, 100, 7).unwrap());
        let mean = some.iter().sum::<u64>() as f64 / 100.0;
        assert!((350.0..650.0).contains(&mean), "{mean}");
        assert_eq!(sorted(numbers.take_sample(false, 2000, 7).unwrap()), (0..1000).collect::<Vec<_>>());
        assert_eq!(numbers.take_sample(true, 2000, 7).unwrap().len(), 2000);
        assert!(numbers.take_sample(true, 0, 7).unwrap().is_empty());
        assert!(numbers.filter(|_| false).take_sample(true, 5, 7).unwrap().is_empty());
        assert!(context.empty::<u64>().take_sample(false, 5, 7).unwrap().is_empty());
    });
}

fn pairs() -> Vec<(char, u64)> {
    (0..6000u64).map(|i| (['a', 'b', 'c'][(i % 3) as usize], i)).collect()
}

#[test]
fn pr24_each_key_is_sampled_by_its_own_fraction() {
    everywhere(|context, n| {
        let pairs = context.parallelize(pairs(), n);
        let fractions: HashMap<char, f64> = [('a', 0.0), ('b', 0.25), ('c', 1.0)].into();
        let counts = pairs.sample_by_key(false, &fractions, 5).count_by_key().unwrap();
        assert_eq!((counts.get(&'a'), counts[&'c']), (None, 2000));
        assert!((400..600).contains(&counts[&'b']), "{counts:?}");
        let twice: HashMap<char, f64> = [('a', 0.0), ('b', 0.25), ('c', 2.0)].into();
        let counts = pairs.sample_by_key(true, &twice, 5).count_by_key().unwrap();
        assert!((3700..4300).contains(&counts[&'c']), "{counts:?}");
    });
}

#[test]
fn pr25_an_exact_sample_has_each_share_rounded_up() {
    everywhere(|context, n| {
        let pairs = context.parallelize(pairs(), n);
        let fractions: HashMap<char, f64> = [('a', 0.0001), ('b', 0.25), ('c', 1.0)].into();
        let counts = pairs.sample_by_key_exact(false, &fractions, 5).count_by_key().unwrap();
        assert_eq!((counts[&'a'], counts[&'b'], counts[&'c']), (1, 500, 2000));
        let distinct = pairs.sample_by_key_exact(false, &fractions, 5).distinct().count().unwrap();
        assert_eq!(distinct, 2501);
        let counts = pairs.sample_by_key_exact(true, &[('a', 0.0), ('b', 1.5), ('c', 0.5)].into(), 5);
        let counts = counts.count_by_key().unwrap();
        assert_eq!((counts.get(&'a'), counts[&'b'], counts[&'c']), (None, 3000, 1000));
    });
}

#[test]
fn pr24_pr25_a_key_without_a_fraction_fails_the_job_and_a_fraction_that_cannot_be_is_a_setting() {
    let context = context("local[2]");
    let pairs = context.parallelize(pairs(), 2);
    let some: HashMap<char, f64> = [('a', 0.5)].into();
    for rdd in [pairs.sample_by_key(false, &some, 5), pairs.sample_by_key_exact(false, &some, 5)] {
        let error = rdd.count().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::User);
        assert!(error.to_string().contains("no fraction") && error.to_string().contains("samples.rs"), "{error}");
    }
    let wrong: HashMap<char, f64> = [('a', 1.5)].into();
    assert_eq!(kind(pairs.sample_by_key(false, &wrong, 5).count()), ErrorKind::Config);
    assert_eq!(kind(pairs.sample_by_key_exact(false, &wrong, 5).count()), ErrorKind::Config);
}
