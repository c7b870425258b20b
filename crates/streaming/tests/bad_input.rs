//! Input that no program should have, and some do: a clear error or a right answer, never a hang, an abort or a wrong result.
//! Lengths of time, partition counts, keys that are none, and large values; what concerns Rdds alone is in core's tests.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::time::Duration;

use common::{assert_error, at, continuing, failure, gather, sink};
use millstream_core::{ErrorKind, Partitioner, Time, millis, secs};
use millstream_streaming::{DStream, Interval, State, StateSpec, UpdateSpec};
use millstream_testkit::{Check, StreamTest, batches, check};
use serde::{Deserialize, Serialize};

type Pairs = DStream<(i32, i32)>;

const AGES: Duration = secs(u64::MAX);

fn kept(pairs: &Pairs, timeout: Option<Duration>) -> millstream_streaming::MappedState<i32, i32, i32> {
    let sum = StateSpec::function(|_: &i32, new: Option<i32>, state: &mut State<'_, i32>| {
        let sum = state.get_option().copied().unwrap_or(0) + new.unwrap_or(0);
        if !state.is_timing_out() {
            state.update(sum);
        }
        sum
    });
    pairs.map_with_state(match timeout {
        Some(timeout) => sum.timeout(timeout),
        None => sum,
    })
}

// ------------------------------------------------------------------------------------------------- lengths of time

type Lasting = fn(&Pairs, Duration) -> (DStream<u64>, u32);

/// Every operation that is given a length of time which must fit to batches: how many elements there are, and its line.
#[rustfmt::skip]
const LASTING: &[(&str, Lasting)] = &[
    ("window", |s, d| (s.window(d).count(), line!())),
    ("window", |s, d| (s.window((secs(2), d)).count(), line!())),
    ("reduce_by_window", |s, d| (s.map(|p| p.1).reduce_by_window(|a, b| a + b, d).count(), line!())),
    ("reduce_by_window_inv", |s, d| (s.map(|p| p.1).reduce_by_window_inv(|a, b| a + b, |a, b| a - b, d).count(), line!())),
    ("count_by_window", |s, d| (s.count_by_window(d).map(|n| n), line!())),
    ("count_by_value_and_window", |s, d| (s.count_by_value_and_window(d).count(), line!())),
    ("count_by_value_and_window_partitioned", |s, d| (s.count_by_value_and_window_partitioned(d, 2).count(), line!())),
    ("group_by_key_and_window", |s, d| (s.group_by_key_and_window(d).count(), line!())),
    ("group_by_key_and_window_partitioned", |s, d| (s.group_by_key_and_window_partitioned(d, 2).count(), line!())),
    ("reduce_by_key_and_window", |s, d| (s.reduce_by_key_and_window(|a, b| a + b, d).count(), line!())),
    ("reduce_by_key_and_window_partitioned", |s, d| (s.reduce_by_key_and_window_partitioned(|a, b| a + b, d, 2).count(), line!())),
    ("reduce_by_key_and_window_inv", |s, d| (s.reduce_by_key_and_window_inv(|a, b| a + b, |a, b| a - b, d).count(), line!())),
    ("reduce_by_key_and_window_inv_partitioned", |s, d| (s.reduce_by_key_and_window_inv_partitioned(|a, b| a + b, |a, b| a - b, d, 2).count(), line!())),
    ("reduce_by_key_and_window_inv_filtered", |s, d| (s.reduce_by_key_and_window_inv_filtered(|a, b| a + b, |a, b| a - b, |_, n| *n != 0, d).count(), line!())),
    ("reduce_by_key_and_window_inv_filtered_partitioned", |s, d| (s.reduce_by_key_and_window_inv_filtered_partitioned(|a, b| a + b, |a, b| a - b, |_, n| *n != 0, d, 2).count(), line!())),
    ("checkpoint", |s, d| (s.map(|p| p).checkpoint(d).count(), line!())),
    ("checkpoint", |s, d| (kept(s, None).checkpoint(d).stream().count(), line!())),
    ("checkpoint", |s, d| (s.update_state_by_key(|_, _: Option<i32>| Some(1)).checkpoint(d).count(), line!())),
];

#[test]
fn lengths_that_do_not_fit_are_all_reported_by_start_with_their_lines() {
    for length in [Duration::ZERO, Duration::from_nanos(1), millis(999), millis(1500), Duration::MAX] {
        let test = StreamTest::new();
        let pairs = test.input(batches![[(1, 1)]]);
        let lines: Vec<(&str, u32)> = LASTING
            .iter()
            .map(|(op, lasting)| {
                let (stream, line) = lasting(&pairs, length);
                sink(&stream);
                (*op, line)
            })
            .collect();
        let error = test.ssc().start().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Graph, "{error}");
        let text = error.to_string();
        for (op, line) in lines {
            let told = format!("is not a multiple of the parent's slide 1s ({op} at ");
            let told = if op == "checkpoint" { told.replace("parent", "stream") } else { told };
            let row = text.lines().find(|row| row.contains(&format!("bad_input.rs:{line})")));
            let row = row.unwrap_or_else(|| panic!("{op} of {length:?} is missing in {text}"));
            assert!(row.contains(&told) && row.contains(&format!("{length:?} is not")), "{row}");
        }
    }
}

#[test]
fn windows_of_ages_hold_all_there_is_and_a_slide_of_ages_never_comes() {
    for (op, lasting) in LASTING {
        let mut test = Check::new(2, 2).context();
        let pairs = test.input(batches![[(1, 1)], [(2, 1)], [(1, 2)]]);
        let counts = gather(&lasting(&pairs, AGES).0);
        test.run(3).unwrap_or_else(|error| panic!("{op}: {error}"));
        let counts = counts.all();
        match *op {
            "window" if counts.is_empty() => {}
            "window" | "count_by_window" | "count_by_value_and_window" | "count_by_value_and_window_partitioned" => {
                assert_eq!(counts, [1, 2, 3], "{op}");
            }
            "reduce_by_window" | "reduce_by_window_inv" => assert_eq!(counts, [1, 1, 1], "{op}"),
            "checkpoint" => assert!(counts == [1, 1, 1] || counts == [1, 2, 2], "{op}: {counts:?}"),
            _ => assert_eq!(counts, [1, 2, 2], "{op}"),
        }
    }
    let mut test = StreamTest::new();
    let numbers = test.input(batches![[1], [2], [3]]);
    test.ssc().remember(Duration::MAX);
    let all = gather(&numbers.window((AGES, secs(1))).window(AGES).count());
    test.run(3).unwrap();
    assert_eq!(all.all(), [1, 3, 6], "windows of windows");
    // Times that no batch can have are those before or behind all.
    let (first, last) = (Time::from_millis(i64::MIN), Time::from_millis(i64::MAX));
    assert_eq!(numbers.slice(first, last).unwrap().len(), 3);
    assert_eq!(numbers.slice(last, first).unwrap().len(), 0);
    assert_eq!(numbers.slice_interval(Interval::new(first, last)).unwrap().len(), 3);
    assert_eq!(numbers.slice_interval(Interval::new(last, last)).unwrap().len(), 0);
    assert_eq!(numbers.slice_interval(Interval::ending(last, Duration::MAX)).unwrap().len(), 3);
    assert_eq!(Interval::new(first, last).batches(AGES, Time::ZERO).count(), 0);
}

#[test]
fn a_window_of_a_day_of_milliseconds_costs_what_is_in_it() {
    let mut test = Check::new(1, 1).with_conf(millis(1), |_| {});
    let day = secs(86_400);
    let pairs = test.input(batches![[(1, 1)], [(1, 2)], [], [(2, 3)]]);
    let plain = gather(&pairs.window((day, millis(1))).count());
    let sums = gather(&pairs.reduce_by_key_and_window_inv(|a, b| a + b, |a, b| a - b, day));
    let never = gather(&pairs.window((day, day)));
    test.run(4).unwrap();
    assert_eq!(plain.all(), [1, 2, 2, 3]);
    assert_eq!((sums.all().len(), never.len()), (5, 0));
}

#[test]
fn mw07_time_outs_of_nothing_and_of_ages() {
    let program = |timeout| move |s: Pairs| kept(&s, Some(timeout)).state_snapshots();
    // What nothing came for in the batch is gone with it.
    let batches = || batches![[(1, 1), (2, 1)], [(1, 2)], [], [(2, 5)]];
    for timeout in [Duration::ZERO, Duration::from_nanos(1)] {
        check(batches(), program(timeout), "1s (1,1) (2,1)\n2s (1,3)\n4s (2,5)");
    }
    for timeout in [AGES, Duration::MAX] {
        check(batches(), program(timeout), "1s (1,1) (2,1)\n2s (1,3) (2,1)\n3s (1,3) (2,1)\n4s (1,3) (2,6)");
    }
}

#[test]
fn intervals_of_batches_that_cannot_be_are_refused_and_waits_may_be_of_any_length() {
    let context = StreamTest::new().ssc().context().clone();
    for interval in [Duration::ZERO, Duration::from_nanos(999_999), Duration::from_micros(1500), AGES, Duration::MAX] {
        let made = millstream_streaming::StreamingContext::on(&context, Default::default(), interval);
        assert_error(made, ErrorKind::Config, &["the batch interval must be whole milliseconds", "bad_input.rs"]);
    }
    for length in [Duration::ZERO, Duration::from_nanos(1), AGES, Duration::MAX] {
        let mut test = Check::new(2, 2).with_conf(secs(1), |conf| {
            conf.streaming.graceful_stop_timeout = Some(length);
            conf.streaming.receiver_restart_delay = length;
            conf.streaming.file_min_remember = length;
        });
        let folder = tempfile::tempdir().unwrap();
        let lines = gather(&test.ssc().text_file_stream(&folder));
        let numbers = gather(&test.input(batches![[1], [2]]));
        test.ssc().remember(length);
        test.run(2).unwrap();
        assert_eq!((numbers.len(), lines.len()), (2, 0));
        let ssc = test.ssc().clone();
        common::ends("a graceful stop", move || ssc.stop_gracefully()).unwrap();
        assert!(test.ssc().await_termination_or_timeout(length).unwrap(), "{length:?}");
    }
}

// ------------------------------------------------------------------------------------------------ partition counts

type Placed = fn(&Pairs, usize) -> (DStream<u64>, u32);

#[rustfmt::skip]
const PLACED: &[(&str, Placed)] = &[
    ("reduce_by_key_partitioned", |s, n| (s.reduce_by_key_partitioned(|a, b| a + b, n).count(), line!())),
    ("group_by_key_partitioned", |s, n| (s.group_by_key_partitioned(n).count(), line!())),
    ("combine_by_key", |s, n| (s.combine_by_key(|v| v, |a, b| a + b, |a, b| a + b, n).count(), line!())),
    ("count_by_value_partitioned", |s, n| (s.map(|p| p.0).count_by_value_partitioned(n).count(), line!())),
    ("cogroup_partitioned", |s, n| (s.cogroup_partitioned(s, n).count(), line!())),
    ("join_partitioned", |s, n| (s.join_partitioned(s, n).count(), line!())),
    ("full_outer_join_partitioned", |s, n| (s.full_outer_join_partitioned(s, n).count(), line!())),
    ("count_by_value_and_window_partitioned", |s, n| (s.count_by_value_and_window_partitioned(secs(2), n).count(), line!())),
    ("group_by_key_and_window_partitioned", |s, n| (s.group_by_key_and_window_partitioned(secs(2), n).count(), line!())),
    ("reduce_by_key_and_window_partitioned", |s, n| (s.reduce_by_key_and_window_partitioned(|a, b| a + b, secs(2), n).count(), line!())),
    ("reduce_by_key_and_window_inv_partitioned", |s, n| (s.reduce_by_key_and_window_inv_partitioned(|a, b| a + b, |a, b| a - b, secs(2), n).count(), line!())),
    ("update_state_by_key_with", |s, n| (s.update_state_by_key_with(UpdateSpec::new().partitioner(n), |_, _, _, _: Option<i32>| Some(1)).count(), line!())),
    ("update_state_by_key_iter", |s, n| (s.update_state_by_key_iter(UpdateSpec::new().partitioner(n), |_, rows| rows.into_iter().map(|row| (row.0, 1)).collect()).count(), line!())),
    ("map_with_state", |s, n| (s.map_with_state(StateSpec::function(|_: &i32, _: Option<i32>, _: &mut State<'_, i32>| 1).num_partitions(n)).stream().count(), line!())),
];

#[test]
fn no_partitions_are_taken_as_one_and_too_many_fail_the_batch_with_the_line() {
    for (op, placed) in PLACED {
        let mut test = Check::new(2, 2).context();
        let pairs = test.input(batches![[(1, 1), (2, 1)]]);
        let count = gather(&placed(&pairs, 0).0);
        test.run(1).unwrap_or_else(|error| panic!("{op}: {error}"));
        assert_eq!(count.all(), [2], "{op}");
        for many in [(1 << 20) + 1, 1 << 40, usize::MAX] {
            let mut test = Check::new(2, 2).context();
            let pairs = test.input(batches![[(1, 1), (2, 1)]]);
            let (counts, line) = placed(&pairs, many);
            sink(&counts);
            let error = test.run(1).unwrap_err();
            assert_eq!((error.kind(), error.batch()), (ErrorKind::Config, Some(at(1))), "{op}: {error}");
            assert!(error.to_string().contains(&format!("{many} partitions are too many")), "{op}: {error}");
            assert_eq!(error.site().map(|site| (site.op(), site.line())), Some((*op, line)), "{op}: {error}");
        }
    }
    let test = StreamTest::new();
    let (none, line) = (test.input(batches![[1]]).repartition(0), line!());
    sink(&none);
    let parts = ["a stream cannot have 0 partitions", &format!("bad_input.rs:{line}")];
    assert_error(test.ssc().start(), ErrorKind::Graph, &parts);
}

// ----------------------------------------------------------------------------------------------- keys that are none

/// A key that is equal to none, or refuses to be hashed.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Lone(i32);

impl PartialEq for Lone {
    fn eq(&self, _: &Lone) -> bool {
        false
    }
}

impl Eq for Lone {}

impl std::hash::Hash for Lone {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        assert!(self.0 != 7, "seven is not hashed");
        state.write_i32(self.0);
    }
}

fn one(_: &Lone, new: Option<i32>, state: &mut State<'_, i32>) -> i32 {
    state.update(1);
    new.unwrap_or(0)
}

type Alone = fn(&DStream<(Lone, i32)>) -> (DStream<i32>, u32);

/// Every operation on streams that finds keys again: the values that it gives.
#[rustfmt::skip]
const ALONE: &[(&str, Alone, &[usize])] = &[
    ("reduce_by_key", |s| (s.reduce_by_key(|a, b| a + b).map(|p| p.1), line!()), &[2, 1, 0]),
    ("group_by_key", |s| (s.group_by_key().map(|p| p.1.len() as i32), line!()), &[2, 1, 0]),
    ("count_by_value", |s| (s.map(|p| p.0).count_by_value().map(|p| p.1 as i32), line!()), &[2, 1, 0]),
    ("reduce_by_key_and_window", |s| (s.reduce_by_key_and_window(|a, b| a + b, secs(2)).map(|p| p.1), line!()), &[2, 3, 1]),
    ("group_by_key_and_window", |s| (s.group_by_key_and_window(secs(2)).map(|p| p.1.len() as i32), line!()), &[2, 3, 1]),
    ("update_state_by_key", |s| (s.update_state_by_key(|new, old| Some(old.unwrap_or(0) + new.len() as i32)).map(|p| p.1), line!()), &[2, 3, 3]),
    ("map_with_state", |s| (s.map_with_state(StateSpec::function(one)).state_snapshots().map(|p| p.1), line!()), &[2, 3, 3]),
];

#[test]
fn keys_that_are_not_found_again_begin_anew_and_those_that_panic_fail_the_batch_and_no_later_one() {
    for (op, alone, sizes) in ALONE {
        let test = continuing();
        let pairs = test.input(batches![[1, 1], [1], []]).map(|n| (Lone(n), 1));
        let ones = common::Notes::default();
        let noted = ones.clone();
        alone(&pairs).0.foreach_rdd(move |rdd, _| rdd.collect().map(|all| noted.add(all)));
        test.ssc().start().unwrap();
        common::advance(&test, 1, 3);
        assert!(test.ssc().errors().is_empty(), "{op}: {:?}", test.ssc().errors());
        assert_eq!(ones.all().iter().map(Vec::len).collect::<Vec<_>>(), *sizes, "{op}");
        assert!(ones.all().iter().flatten().all(|one| *one == 1), "{op}");

        let test = continuing();
        let pairs = test.input(batches![[1], [7], [], [], [2]]).map(|n| (Lone(n), 1));
        let (stream, line) = alone(&pairs);
        let last = gather(&stream.transform(|rdd, time| if time < at(5) { rdd.filter(|_| false) } else { rdd }));
        test.ssc().start().unwrap();
        common::advance(&test, 1, 5);
        let error = failure(test.ssc());
        assert_eq!((error.kind(), error.batch()), (ErrorKind::User, Some(at(2))), "{op}: {error}");
        assert!(error.to_string().contains("seven is not hashed"), "{op}: {error}");
        assert_eq!(error.site().map(|site| (site.op(), site.line())), Some((*op, line)), "{op}: {error}");
        let is_state = op.starts_with("update") || op.starts_with("map");
        assert_eq!(last.len(), usize::from(!is_state), "{op}: a state is not made from one that could not be");
    }
}

// ------------------------------------------------------------------------------------------------------ large values

#[test]
fn values_of_hundreds_of_megabytes_go_through_states_and_windows() {
    const LENGTH: usize = if cfg!(debug_assertions) { 16 << 20 } else { 300 << 20 };
    let mut test = Check::new(1, 1).with_conf(secs(1), |conf| conf.engine.memory = Some(LENGTH as u64 / 5));
    let texts = test.input(batches![[1], [2]]).map(|n| (n, if n == 1 { "x".repeat(LENGTH) } else { String::new() }));
    let longest = |texts: Vec<String>, old: Option<String>| texts.into_iter().chain(old).max_by_key(String::len);
    let kept = texts.update_state_by_key(longest).checkpoint(secs(2));
    let grouped = texts.group_by_key_and_window_partitioned(secs(2), Partitioner::hash(1));
    let kept = test.collect(&kept.map_values(|text| text.len()));
    let grouped = test.collect(&grouped.map_values(|texts| texts.iter().map(String::len).sum::<usize>()));
    test.run(2).unwrap();
    let want = format!("1s (1,{LENGTH})\n2s (1,{LENGTH}) (2,0)");
    assert_eq!((kept.table().sorted().to_string(), grouped.table().sorted().to_string()), (want.clone(), want));
}
