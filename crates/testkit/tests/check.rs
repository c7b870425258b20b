//! The testkit, tested: `check` must catch what is wrong, say so clearly, and run a program in every way it promises.

#![allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "a test may fail")]

use std::any::Any;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use millstream_core::threads::lock;
use millstream_core::{Error, ErrorKind, Result, Text, Time, capture, millis, secs};
use millstream_streaming::{DStream, OnFailure, State, StateSpec};
use millstream_testkit::{
    Batches, Check, Row, StreamTest, Table, ThroughBytes, batches, check, check_local, run, show,
};

/// Returns what `body` panics with.
#[track_caller]
fn complaint(body: impl FnOnce()) -> String {
    let payload: Box<dyn Any + Send> = catch_unwind(AssertUnwindSafe(body)).expect_err("this should be caught");
    payload
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| payload.downcast_ref::<&str>().map(|s| (*s).to_owned()))
        .unwrap()
}

fn evens(numbers: DStream<i32>) -> DStream<i32> {
    numbers.filter(|n| n % 2 == 0)
}

// ---------------------------------------------------------------------------------------------------- what is caught

#[test]
fn a_right_table_passes_in_any_order_and_with_any_blanks() {
    check(batches![[4, 1, 2], [], [3, 6]], evens, "1s 2   4\n\n   3s\t6\n");
    check(batches![[2]], evens, "1s 2\n2s\n5s");
    check(batches![["a"], ["b"]], |words| words.map(|w| (w, vec![1, 2])), "1s (a, [1,2])\n2s (b,[1, 2])");
    check(Batches::<i32>::new(vec![]), evens, "");
}

#[test]
fn a_wrong_table_is_caught_and_both_tables_are_shown_with_how_it_was_run() {
    for (table, name) in [
        ("1s 2 4\n2s 7", "another element"),
        ("1s 2\n2s 6", "one too few"),
        ("1s 2 4 4\n2s 6", "one too many"),
        ("1s 2 4", "a batch too few"),
        ("1s 2 4\n2s 6\n3s 8", "a batch too many"),
        ("1s 2 4\n3s 6", "another batch"),
        ("", "nothing"),
    ] {
        let text = complaint(|| check(batches![[1, 2, 4], [6]], evens, table));
        let want = Table::parse(table).sorted().to_string();
        assert!(text.contains(&format!("expected\n{want}\n")), "{name}: {text}");
        assert!(text.contains("gave\n1s 2 4\n2s 6\n"), "{name}: {text}");
        assert!(text.contains("partitions: 1, threads: 1"), "{name}: {text}");
    }
}

#[test]
fn a_result_that_depends_on_partitions_is_caught_and_the_way_is_named() {
    let text = complaint(|| check(batches![[1, 2, 3, 4]], |numbers| numbers.map_partitions(|p| [p.count()]), "1s 4"));
    assert!(text.contains("partitions: 2"), "{text}");
    assert!(text.contains("gave\n1s 2 2\n"), "{text}");
}

#[test]
fn a_program_that_fails_is_caught_with_batch_and_line() {
    let line = line!() + 1;
    let text = complaint(|| check(batches![[1], [2]], |numbers| numbers.map(|n| 1 / (n - 2)), "1s -1"));
    assert!(text.contains("failed: batch 2000 ms: a closure of the program panicked"), "{text}");
    assert!(text.contains("divide by zero") && text.contains(&format!("check.rs:{line}")), "{text}");
    let text = complaint(|| check(batches![[1]], |numbers| numbers.repartition(0), ""));
    assert!(text.contains("a stream cannot have 0 partitions"), "{text}");
}

#[test]
fn a_table_that_cannot_be_read_is_a_mistake_of_the_test() {
    for table in ["2 4", "one 2", "1m 2", "s 2", "1 s 2"] {
        let text = complaint(|| check(batches![[2]], evens, table));
        assert!(text.contains("a row begins with a time"), "{table}: {text}");
    }
}

#[test]
fn what_cannot_travel_is_caught_by_the_runs_through_bytes_and_passes_locally() {
    let seen = Arc::new(Mutex::new(0));
    let program = |numbers: DStream<i32>| {
        let seen = Arc::clone(&seen);
        numbers.map(move |n| {
            *lock(&seen) += n;
            n
        })
    };
    let line = line!() - 5;
    check_local(batches![[1, 2]], program, "1s 1 2");
    assert_eq!(*lock(&seen), 6 * 3, "six ways that stay in the process");
    let text = complaint(|| check(batches![[1, 2]], program, "1s 1 2"));
    assert!(text.contains("place: ThroughBytes") && text.contains(&format!("check.rs:{line}")), "{text}");
    // What is captured on purpose travels.
    check(batches![[1, 2]], |numbers| numbers.map(capture(10, |ten, n| ten * n)), "1s 10 20");
}

// -------------------------------------------------------------------------------------------------- how it is run

#[test]
fn every_way_is_run_partitions_threads_and_bytes() {
    let ways: BTreeSet<String> = Check::all().iter().map(|how| format!("{how:?}")).collect();
    let want = |partitions: usize, threads: usize, bytes: bool| {
        let place = if bytes { "ThroughBytes" } else { "Threads" };
        format!("Check {{ partitions: {partitions}, threads: {threads}, place: {place} }}")
    };
    for partitions in [1, 2, 7] {
        for (threads, bytes) in [(1, false), (4, false), (4, true)] {
            assert!(ways.contains(&want(partitions, threads, bytes)), "{ways:?}");
        }
    }
    assert_eq!(ways.len(), 9);
    for how in Check::all() {
        let test = how.context();
        let (name, slots) = (format!("{how:?}"), test.ssc().context().default_parallelism());
        assert!(name.contains(&format!("partitions: {slots},")), "{name}: the default parallelism follows");
    }
}

#[test]
fn inputs_are_cut_into_the_partitions_that_were_asked_for() {
    for (partitions, want) in [(1, "1s [1, 2, 3]"), (2, "1s [1] [2, 3]"), (7, "1s [] [] [1] [] [2] [] [3]")] {
        let mut test = Check::new(partitions, 2).context();
        let parts = test.collect(&test.input(batches![[1, 2, 3]]).glom());
        test.run(1).unwrap();
        assert_eq!(parts.table().to_string(), want);
    }
}

#[test]
fn a_backend_through_bytes_runs_shuffles_and_results_as_if_they_came_from_elsewhere() {
    let conf = millstream_core::conf::EngineConf::new("local[2]", "bytes").unwrap();
    let backend = Arc::new(ThroughBytes::new(2).unwrap());
    let context = millstream_core::Context::builder(conf).with_backend(backend).build().unwrap();
    let words = context.parallelize(vec![Text::from("b"), Text::from("a"), Text::from("b")], 3);
    let mut counts = words.map(|w| (w, 1)).reduce_by_key(|a, b| a + b).collect().unwrap();
    counts.sort();
    assert_eq!(counts, [(Text::from("a"), 1), (Text::from("b"), 2)]);
    let error = words.map(|w| w.len() / (w.len() - 1)).collect().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::User, "{error}");
}

// ----------------------------------------------------------------------------------------------------- StreamTest

#[test]
fn batches_that_are_missing_have_no_rdd_and_those_behind_the_last_are_empty() {
    let mut test = StreamTest::new();
    let numbers = test.input(batches![[1], MISSING, []]);
    let counts = test.collect(&numbers.count());
    test.run(5).unwrap();
    assert_eq!(counts.table().to_string(), "1s 1\n3s 0\n4s 0\n5s 0");
}

#[test]
fn a_test_may_be_run_on_and_returns_what_its_batches_fail_with() {
    let mut test = Check::new(2, 2).with_conf(millis(500), |conf| conf.streaming.on_failure = OnFailure::Continue);
    let numbers = test.input(batches![[1], [2], [3]]);
    let items = test.collect(&numbers);
    numbers.foreach_rdd(|_, time| -> Result<()> {
        if time == Time::from_millis(1000) { Err("refused".into()) } else { Ok(()) }
    });
    test.run(1).unwrap();
    assert_eq!(items.table().to_string(), "500ms 1");
    let error: Error = test.run(1).unwrap_err();
    assert_eq!((error.message(), error.batch()), ("refused", Some(Time::from_millis(1000))));
    test.run(1).unwrap_err();
    assert_eq!(items.table().to_string(), "500ms 1\n1s 2\n1500ms 3", "the batches went on");
}

#[test]
fn a_test_without_outputs_is_refused_and_never_hangs() {
    let mut test = StreamTest::new();
    let _ = test.input(batches![[1]]);
    assert!(test.run(3).unwrap_err().to_string().contains("no output operations registered"));
}

#[test]
fn two_inputs_and_two_outputs_live_in_one_test() {
    let mut test = StreamTest::new();
    let (left, right) = (test.input(batches![[("a", 1)], [("b", 2)]]), test.input(batches![[("a", 10)], [("a", 20)]]));
    let (joined, all) = (test.collect(&left.join(&right)), test.collect(&left.union(&right)));
    test.run(2).unwrap();
    assert_eq!(joined.table().to_string(), "1s (a,(1,10))");
    assert_eq!(all.table().sorted().to_string(), "1s (a,1) (a,10)\n2s (a,20) (b,2)");
}

#[test]
fn show_and_run_are_for_examples() {
    let table = show([vec!["to be"], vec![], vec!["or"]], |lines| lines.flat_map(|line| line.split(' ')));
    assert_eq!(table, "1s be to\n3s or");
    let count = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&count);
    run([vec![1], vec![2, 3]], move |numbers| {
        let counted = Arc::clone(&counted);
        numbers.foreach_rdd(move |rdd, _| {
            *lock(&counted) += rdd.count()?;
            Ok(())
        });
    });
    assert_eq!(*lock(&count), 3);
    let text = complaint(|| run([vec![1]], |numbers| numbers.foreach_rdd(|_, _| -> Result<()> { Err("no".into()) })));
    assert!(text.contains("batch 1000 ms: no"), "{text}");
}

#[test]
fn many_kinds_of_elements_may_be_written_down() {
    let rows: Batches<(Text, Option<i64>, Vec<f64>)> =
        batches![[("a", Some(1i64), vec![0.5])], [("b", None::<i64>, Vec::<f64>::new())]];
    check(rows, |items| items, "1s (a, Some(1), [0.5])\n2s (b, None, [])");
    check(batches![[true, false], [true]], |items| items, "1s true false\n2s true");
    let text = Batches::new(vec![Row::Elements(vec!["two words".to_owned()])]);
    let given = show([vec!["two words"]], |items| items);
    assert_eq!(given, "1s two words");
    // A blank in an element cannot be told from one between two.
    check(text, |items| items.map(|item| item.len()), "1s 9");
}

#[test]
fn closures_that_capture_silently_are_all_reported_by_start_where_stages_travel() {
    let limit = std::hint::black_box(2);
    let program = |test: &StreamTest| {
        let numbers = test.input(batches![[1, 2, 3]]);
        let spec = StateSpec::function(move |_: &i32, value: Option<i32>, state: &mut State<'_, i32>| {
            state.update(value.unwrap_or(limit));
            limit
        });
        let lines = [line!() + 1, line!() + 2, line!() + 3];
        let high = numbers.filter(move |n| *n > limit);
        let sums = high.map(|n| (n, n)).reduce_by_key_and_window(move |a, b| a + b + limit, secs(2));
        let best = high.map(capture(limit, |limit, n: i32| n * *limit)).reduce(move |a: i32, b| a.max(b).max(limit));
        (test.collect(&sums.map_with_state(spec)), test.collect(&best), lines)
    };
    let test = Check::new(1, 1).through_bytes().context();
    let (.., lines) = program(&test);
    let error = test.ssc().start().unwrap_err().to_string();
    assert!(error.starts_with("4 mistakes in the graph"), "{error}");
    for line in lines {
        assert!(error.contains(&format!("check.rs:{line}")), "{line} in {error}");
    }
    assert!(error.contains("StateSpec::function"), "{error}");
    let mut test = Check::new(1, 1).context();
    let (_, best, _) = program(&test);
    test.run(1).unwrap();
    assert_eq!(best.table().to_string(), "1s 6");
}
