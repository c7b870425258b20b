//! Actions give what Spark's give: RD36…RD47, RD53…RD59, CX11, and read no more than they need.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::sync::{Arc, Mutex};

use common::{context, everywhere, sorted};
use millstream_core::{Context, ErrorKind, Rdd, TaskContext, overwriting};
use proptest::prelude::*;

#[test]
fn rd36_rd40_collect_gives_all_in_order_and_count_counts() {
    everywhere(|context, n| {
        let all: Vec<u64> = (0..2000).collect();
        let rdd = context.parallelize(all.clone(), n);
        assert_eq!((rdd.collect().unwrap(), rdd.count().unwrap()), (all, 2000));
        assert_eq!(rdd.map(|x| format!("{x}")).filter(|x| x.len() == 1).collect().unwrap().concat(), "0123456789");
    });
}

/// An Rdd whose partition `at` has the numbers to 10 and whose other partitions are empty, and who was read.
fn only(context: &Context, n: usize, at: usize) -> (Rdd<u64>, Arc<Mutex<Vec<usize>>>) {
    let read = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&read);
    let parts = (0..n).map(|p| if p == at { (0..10).collect() } else { vec![] }).collect();
    let rdd = context.parallelize_partitions::<u64>(parts).map_partitions_with_index(move |p, xs| {
        seen.lock().unwrap().push(p);
        xs
    });
    (rdd, read)
}

#[test]
fn rd45_take_reads_one_partition_first_and_then_ever_more() {
    let context = context("local[2]");
    for (at, take, read_to) in [(0, 3, 1), (0, 10, 1), (0, 11, 40), (3, 1, 5), (5, 1, 21), (21, 2, 40), (0, 0, 0)] {
        let (rdd, read) = only(&context, 40, at);
        assert_eq!(rdd.take(take).unwrap(), (0..take.min(10) as u64).collect::<Vec<_>>());
        assert_eq!(sorted(read.lock().unwrap().clone()), (0..read_to).collect::<Vec<_>>(), "take({take}), all in {at}");
    }
}

#[test]
fn rd45_to_rd47_take_first_and_is_empty_stop_where_they_have_enough() {
    everywhere(|context, n| {
        let rdd = context.parallelize((0..100u64).collect(), n);
        for k in [0, 1, 50, 99, 100, 101, usize::MAX] {
            assert_eq!(rdd.take(k).unwrap(), (0..k.min(100) as u64).collect::<Vec<_>>(), "take({k}) over {n}");
        }
        assert_eq!((rdd.first().unwrap(), rdd.is_empty().unwrap()), (0, false));
        let last = rdd.filter(|x| *x == 99);
        assert_eq!((last.first().unwrap(), last.is_empty().unwrap()), (99, false));
        for none in [rdd.filter(|_| false), context.empty()] {
            assert!(none.is_empty().unwrap());
            assert_eq!(none.take(5).unwrap(), []);
            let error = none.first().unwrap_err();
            assert_eq!((error.kind(), error.site().unwrap().op()), (ErrorKind::User, "first"));
            assert!(error.to_string().contains("empty collection"), "{error}");
        }
        let lazy = rdd.map_partitions(|xs| xs.inspect(|x| assert!(*x < 513, "read too far: {x}")));
        assert_eq!(lazy.take(1).unwrap(), [0]);
    });
}

#[test]
fn rd53_reduce_brings_all_to_one_in_order_and_needs_an_element() {
    everywhere(|context, n| {
        let words = context.parallelize((0..30).map(|x| format!("{x} ")).collect(), n);
        let want: String = (0..30).map(|x| format!("{x} ")).collect();
        assert_eq!(words.reduce(|a, b| a + &b).unwrap(), want);
        assert_eq!(words.filter(|x| x == "7 ").reduce(|_, _| panic!("one element is not reduced")).unwrap(), "7 ");
        let error = words.filter(|_| false).reduce(|a, _| a).unwrap_err();
        assert_eq!((error.kind(), error.site().unwrap().line()), (ErrorKind::User, line!() - 1));
        assert!(error.to_string().contains("empty collection"), "{error}");
    });
}

#[test]
fn rd55_rd56_fold_and_aggregate_use_zero_once_a_partition_and_once_more() {
    everywhere(|context, n| {
        let rdd = context.parallelize((1..=100u64).collect(), n);
        assert_eq!(rdd.fold(10, |a, b| a + b).unwrap(), 5050 + 10 * (n as u64 + 1));
        let text = rdd.aggregate("|".to_owned(), |all, x| all + &x.to_string(), |a, b| a + &b).unwrap();
        assert_eq!(text.matches('|').count(), n + 1);
        assert_eq!(text.replace('|', ""), (1..=100).map(|x| x.to_string()).collect::<String>());
        let (sum, count) = rdd.aggregate((0, 0), |(s, c), x| (s + x, c + 1), |a, b| (a.0 + b.0, a.1 + b.1)).unwrap();
        assert_eq!((sum, count), (5050, 100));
        assert_eq!(context.empty::<u64>().fold(3, |a, b| a + b).unwrap(), 3);
    });
}

#[test]
fn rd38_rd39_foreach_is_given_each_element_and_foreach_partition_each_partition_also_an_empty_one() {
    everywhere(|context, n| {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (each, parts) = (Arc::clone(&seen), Arc::new(Mutex::new(Vec::new())));
        context.parallelize((0..1000u64).collect(), n).foreach(move |x| each.lock().unwrap().push(x)).unwrap();
        assert_eq!(sorted(seen.lock().unwrap().clone()), (0..1000).collect::<Vec<_>>());
        let taken = Arc::clone(&parts);
        let few = context.parallelize(vec![1u64], n);
        few.foreach_partition(move |xs| {
            let task = TaskContext::current().ok_or("no task runs here")?;
            taken.lock().unwrap().push((task.partition(), xs.count()));
            Ok(())
        })
        .unwrap();
        let want = (0..n).map(|p| (p, usize::from(p == n - 1))).collect::<Vec<_>>();
        assert_eq!(sorted(parts.lock().unwrap().clone()), want);
    });
}

#[test]
fn rd42_count_by_value_counts() {
    everywhere(|context, n| {
        let counts = context.parallelize((0..1000u64).map(|x| x % 7).collect(), n).count_by_value().unwrap();
        assert_eq!(
            sorted(counts.into_iter().collect()),
            (0..7).map(|x| (x, 142 + u64::from(x < 6))).collect::<Vec<_>>()
        );
    });
}

#[test]
fn rd58_text_is_saved_a_line_an_element_and_a_file_a_partition() {
    everywhere(|context, n| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/out");
        context
            .parallelize((0..3000u64).map(|x| (x, "x")).map(|(x, s)| (x, s.to_owned())).collect(), n)
            .save_as_text_file(&path)
            .unwrap();
        let names: Vec<_> =
            std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        let want: Vec<_> =
            std::iter::once("_SUCCESS".to_owned()).chain((0..n).map(|p| format!("part-{p:05}"))).collect();
        assert_eq!(sorted(names), want, "nothing else is left behind");
        let lines = context.text_file(&path).map(|line| line.to_string()).collect().unwrap();
        assert_eq!(lines, (0..3000).map(|x| format!("({x},x)")).collect::<Vec<_>>());
    });
}

#[test]
fn rd59_cx11_objects_are_saved_and_read_again_a_partition_a_file() {
    everywhere(|context, n| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("objects");
        let all: Vec<(u64, Option<String>)> =
            (0..1500).map(|x| (x, (x % 3 == 0).then(|| "é".repeat(x as usize % 9)))).collect();
        context.parallelize(all.clone(), n).save_as_object_file(&path).unwrap();
        let back = context.object_file::<(u64, Option<String>)>(&path);
        assert_eq!((back.collect().unwrap(), back.num_partitions()), (all, n));
    });
}

#[test]
fn rd58_an_output_folder_that_exists_is_refused_and_overwritten_only_by_streaming_jobs() {
    let (context, folder) = (context("local[2]"), tempfile::tempdir().unwrap());
    let path = folder.path().join("out");
    let rdd = context.parallelize(vec![1u64, 2, 3], 3);
    rdd.save_as_text_file(&path).unwrap();
    std::fs::write(path.join("notes"), "mine").unwrap();
    std::fs::write(path.join(".part-00001.0"), "left by a crash").unwrap();
    let error = rdd.save_as_text_file(&path).unwrap_err();
    assert_eq!((error.kind(), error.site().unwrap().line()), (ErrorKind::Config, line!() - 1), "{error}");
    assert!(error.to_string().contains("exists already"), "{error}");
    overwriting(|| context.parallelize(vec![7u64], 1).save_as_text_file(&path)).unwrap();
    let names: Vec<_> =
        std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(sorted(names), ["_SUCCESS", "notes", "part-00000"], "old parts go, what is not ours stays");
    assert_eq!(rdd.save_as_object_file(&path).unwrap_err().kind(), ErrorKind::Config, "only inside");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn actions_give_what_iterators_give(
        parts in prop::collection::vec(prop::collection::vec(any::<u32>(), 0..30), 0..7),
        k in 0usize..60,
    ) {
        let rdd = context("local[2]").parallelize_partitions(parts.clone());
        let all = parts.concat();
        prop_assert_eq!(rdd.take(k).unwrap(), all.iter().copied().take(k).collect::<Vec<_>>());
        prop_assert_eq!(rdd.is_empty().unwrap(), all.is_empty());
        prop_assert_eq!(rdd.first().ok(), all.first().copied());
        prop_assert_eq!(rdd.reduce(u32::wrapping_add).ok(), all.iter().copied().reduce(u32::wrapping_add));
        prop_assert_eq!(rdd.fold(0, |a, b| a ^ b).unwrap(), all.iter().fold(0, |a, b| a ^ b));
    }
}
