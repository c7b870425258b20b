//! Rdds of numbers: DR01 to DR03, DR05.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use common::{context, everywhere};
use millstream_core::ErrorKind;

#[test]
fn dr01_to_dr03_numbers_are_summed_up_in_one_pass() {
    everywhere(|context, n| {
        let numbers = context.parallelize((1..=100i64).collect(), n);
        assert_eq!(numbers.sum().unwrap(), 5050.0);
        assert_eq!(numbers.mean().unwrap(), 50.5);
        assert!((numbers.variance().unwrap() - 833.25).abs() < 1e-9);
        assert!((numbers.stdev().unwrap() - 833.25f64.sqrt()).abs() < 1e-9);
        assert!((numbers.sample_variance().unwrap() - 83325.0 / 99.0).abs() < 1e-9);
        assert!((numbers.sample_stdev().unwrap() - (83325.0f64 / 99.0).sqrt()).abs() < 1e-9);
        let stats = numbers.stats().unwrap();
        assert_eq!((stats.count(), stats.min(), stats.max()), (100, 1.0, 100.0));
        let none = context.parallelize(Vec::<f64>::new(), n);
        assert_eq!((none.sum().unwrap(), none.mean().unwrap(), none.stats().unwrap().count()), (0.0, 0.0, 0));
        assert!(none.variance().unwrap().is_nan());
    });
}

#[test]
fn dr05_a_histogram_has_even_buckets_and_the_last_one_has_its_upper_edge() {
    everywhere(|context, n| {
        let numbers = context.parallelize((0..=100u32).collect(), n);
        let (edges, counts) = numbers.histogram(4).unwrap();
        assert_eq!(edges, [0.0, 25.0, 50.0, 75.0, 100.0]);
        assert_eq!(counts, [25, 25, 25, 26]);
        let equal = context.parallelize(vec![7.0; 9], n);
        assert_eq!(equal.histogram(3).unwrap(), (vec![7.0, 7.0], vec![9]));
        let odd = context.parallelize(vec![-1.0, 0.0, 0.5, 1.0, 2.0, 2.5, f64::NAN, f64::INFINITY], n);
        assert_eq!(odd.histogram_between(&[0.0, 1.0, 2.0]).unwrap(), [2, 2], "what is outside is not counted");
        assert_eq!(context.empty::<f64>().histogram_between(&[0.0, 1.0]).unwrap(), [0]);
    });
}

#[test]
fn dr05_what_cannot_be_a_histogram_is_an_error() {
    let context = context("local[2]");
    let numbers = |values: Vec<f64>| context.parallelize(values, 2);
    for values in
        [vec![], vec![1.0, f64::INFINITY], vec![f64::NEG_INFINITY], vec![f64::NAN, 1.0], vec![1.0, f64::NAN, 2.0]]
    {
        let error = numbers(values.clone()).histogram(2).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::User, "{values:?}");
    }
    assert_eq!(numbers(vec![1.0]).histogram(0).unwrap_err().kind(), ErrorKind::Config);
    for edges in [&[][..], &[1.0], &[1.0, 1.0], &[2.0, 1.0], &[0.0, f64::NAN]] {
        let error = numbers(vec![1.0]).histogram_between(edges).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{edges:?}");
    }
}
