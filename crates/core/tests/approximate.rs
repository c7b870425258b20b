//! What actions know when time is up: RD41, RD43, PR22, DR04, SV06.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use common::{context, everywhere};
use millstream_core::{Context, ErrorKind, Rdd};

const LONG: Duration = Duration::from_secs(600);

#[test]
fn rd41_rd43_pr22_dr04_in_time_everything_is_known() {
    everywhere(|context, n| {
        let numbers = context.range(0, 1000, 1, n).map(|x| x % 4);
        let count = numbers.count_approx(LONG, 0.9).unwrap();
        assert!(count.is_initial_value_final());
        let value = *count.initial_value();
        assert_eq!((value.mean, value.low, value.high, value.confidence), (1000.0, 1000.0, 1000.0, 1.0));
        assert_eq!(count.final_value().unwrap(), value);
        let sum = numbers.sum_approx(LONG, 0.9).unwrap().final_value().unwrap().mean;
        let mean = numbers.mean_approx(LONG, 0.9).unwrap().final_value().unwrap().mean;
        // Tasks are merged in the order in which they end.
        assert!((sum - 1500.0).abs() < 1e-9 && (mean - 1.5).abs() < 1e-12, "{sum} {mean}");
        let counts = numbers.count_by_value_approx(LONG, 0.9).unwrap().final_value().unwrap();
        let means: HashMap<i64, f64> = counts.into_iter().map(|(key, count)| (key, count.mean)).collect();
        assert_eq!(means, (0..4).map(|key| (key, 250.0)).collect());
        let by_key = numbers.key_by(|x| x % 2).count_by_key_approx(LONG, 0.9).unwrap().final_value().unwrap();
        assert_eq!((by_key.len(), by_key[&1].mean), (2, 500.0));
        assert_eq!(context.empty::<u8>().count_approx(LONG, 0.9).unwrap().final_value().unwrap().mean, 0.0);
    });
}

/// An Rdd of ten partitions of 100, of which the second half waits until it may go on.
fn half(context: &Context) -> (Rdd<i64>, Arc<(Mutex<bool>, Condvar)>) {
    let gate: Arc<(Mutex<bool>, Condvar)> = Arc::default();
    let waits = Arc::clone(&gate);
    let rdd = context.range(0, 1000, 1, 10).map(move |x| {
        let mut open = waits.0.lock().unwrap();
        while x >= 500 && !*open {
            open = waits.1.wait(open).unwrap();
        }
        x % 10
    });
    (rdd, gate)
}

#[test]
fn rd41_sv06_when_time_is_up_partitions_that_are_done_stand_for_the_others() {
    let context = context("local[1]");
    let (rdd, gate) = half(&context);
    // Time is up at once: how much is known then is a matter of luck, but what is said of it is not.
    let early = rdd.count_approx(Duration::ZERO, 0.95).unwrap();
    assert!(!early.is_initial_value_final());
    let value = *early.initial_value();
    assert!(value.low <= value.mean && value.mean <= value.high, "{value:?}");
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    assert_eq!(early.final_value().unwrap().mean, 1000.0);
}

#[test]
fn rd41_sv06_a_failure_in_time_is_the_actions_and_later_the_final_values() {
    let context = context("local[2]");
    let bad = context.range(0, 10, 1, 2).map(|x| if x == 7 { panic!("seven") } else { x });
    let error = bad.count_approx(LONG, 0.95).unwrap_err();
    assert!(error.to_string().contains("seven"), "{error}");
    let gate: Arc<(Mutex<bool>, Condvar)> = Arc::default();
    let waits = Arc::clone(&gate);
    let late = bad.map_partitions(move |items| {
        let mut open = waits.0.lock().unwrap();
        while !*open {
            open = waits.1.wait(open).unwrap();
        }
        items
    });
    let partial = late.sum_approx(Duration::ZERO, 0.95).unwrap();
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    assert!(partial.final_value().unwrap_err().to_string().contains("seven"));
    for confidence in [-0.1, 1.1, f64::NAN] {
        assert_eq!(bad.count_approx(LONG, confidence).unwrap_err().kind(), ErrorKind::Config);
    }
}
