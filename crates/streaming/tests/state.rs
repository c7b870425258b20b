//! State by key: update_state_by_key (S-44 to S-51) and map_with_state (S-52 to S-62).

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::sync::{Arc, Mutex};

use millstream_core::{ErrorKind, Partitioner, Text, Time, secs};
use millstream_streaming::{Behind, DStream, State, StateSpec, UpdateSpec};
use millstream_testkit::{Batches, Check, StreamTest, batches, check, check_local};

fn six() -> Batches<Text> {
    batches![["a"], ["a", "b"], ["a", "b", "c"], ["a", "b"], ["a"], []]
}

fn ones(words: &DStream<Text>) -> DStream<(Text, i64)> {
    words.map(|word| (word, 1i64))
}

fn sum(new: &[i64], old: Option<i64>) -> Option<i64> {
    Some(old.unwrap_or(0) + new.iter().sum::<i64>())
}

// -------------------------------------------------------------------------------------------- update_state_by_key

const COUNTS: &str =
    "1s (a,1)\n2s (a,2) (b,1)\n3s (a,3) (b,2) (c,1)\n4s (a,4) (b,3) (c,1)\n5s (a,5) (b,3) (c,1)\n6s (a,5) (b,3) (c,1)";

#[test]
fn s44_s50_every_key_is_called_in_every_batch() {
    check(six(), |s| ones(&s).update_state_by_key(|new, old| sum(&new, old)), COUNTS);
    check(
        six(),
        |s| ones(&s).update_state_by_key_with(UpdateSpec::new().partitioner(3), |_, _, new, old| sum(&new, old)),
        COUNTS,
    );
    check(
        six(),
        |s| {
            let spec = UpdateSpec::new().partitioner(Partitioner::hash(2)).remember_partitioner(false);
            ones(&s).update_state_by_key_iter(spec, |_, rows| {
                rows.into_iter().filter_map(|(key, new, old)| sum(&new, old).map(|s| (key, s))).collect()
            })
        },
        COUNTS,
    );
}

#[test]
fn s45_s50_an_initial_state_is_there_in_the_first_batch() {
    let mut test = Check::new(2, 2).context();
    let words = test.input(six());
    let pairs = vec![(Text::from("a"), 1i64), (Text::from("c"), 2), (Text::from("a"), 99)];
    let initial = test.ssc().context().parallelize(pairs, 1);
    let spec = UpdateSpec::new().initial_state(&initial);
    let sums = test.collect(&ones(&words).update_state_by_key_with(spec, |_, _, new, old| sum(&new, old)));
    test.run(6).unwrap();
    let want = "1s (a,2) (c,2)\n2s (a,3) (b,1) (c,2)\n3s (a,4) (b,2) (c,3)\n4s (a,5) (b,3) (c,3)\n5s (a,6) (b,3) (c,3)\n6s (a,6) (b,3) (c,3)";
    assert_eq!(sums.table().sorted().to_string(), want);
}

#[test]
fn pd11_partitions_are_updated_from_an_initial_state() {
    for way in Check::all() {
        let mut test = way.context();
        let words = test.input(batches![["a"], [], ["a", "b"], []]);
        let pairs = vec![(Text::from("a"), 1i64), (Text::from("z"), 3), (Text::from("z"), 99)];
        let initial = test.ssc().context().parallelize(pairs, 2);
        let spec = UpdateSpec::new().partitioner(2).initial_state(&initial);
        // What the function leaves out of a partition is gone.
        let sums = ones(&words).update_state_by_key_iter(spec, |time: Time, rows| {
            let rows = rows.into_iter().filter(|(key, _, _)| key != "z" || time < Time::from_millis(3000));
            rows.filter_map(|(key, new, old)| sum(&new, old).map(|s| (key, s))).collect()
        });
        let sums = test.collect(&sums);
        test.run(4).unwrap();
        let want = "1s (a,2) (z,3)\n2s (a,2) (z,3)\n3s (a,3) (b,1)\n4s (a,3) (b,1)";
        assert_eq!(sums.table().sorted().to_string(), want, "{way:?}");
    }
}

#[test]
fn mw05_mw06_s59_a_state_lies_where_its_spec_says_or_by_hash_over_the_default_parallelism() {
    let count = || {
        StateSpec::function(|_: &Text, new: Option<i64>, state: &mut State<'_, i64>| {
            state.update(state.get_option().copied().unwrap_or(0) + new.unwrap_or(0));
            state.get_option().copied().unwrap_or(0)
        })
    };
    let words = || batches![["a", "b", "c"], ["a"], MISSING];
    let sizes = |s: DStream<(Text, i64)>| s.map_partitions(|keys| [keys.count()]);
    check(
        words(),
        move |s| sizes(ones(&s).map_with_state(count().num_partitions(1)).state_snapshots()),
        "1s 3\n2s 3\n3s 3",
    );
    check(
        words(),
        move |s| ones(&s).map_with_state(count().num_partitions(3)).stream().map_partitions(|_| [1]),
        "1s 1 1 1\n2s 1 1 1\n3s 1 1 1",
    );
    check(
        words(),
        move |s| {
            let apart = Partitioner::custom(3, |word: &Text| if word == "a" { 0 } else { 2 });
            sizes(ones(&s).map_with_state(count().partitioner(apart)).state_snapshots())
        },
        "1s 0 1 2\n2s 0 1 2\n3s 0 1 2",
    );
    check(
        words(),
        move |s| {
            ones(&s).map_with_state(count()).state_snapshots().transform(|states, _| {
                let is_default = states.num_partitions() == states.context().default_parallelism();
                states.context().parallelize(vec![is_default], 1)
            })
        },
        "1s true\n2s true\n3s true",
    );
}

#[test]
fn s50_the_time_form_is_told_the_time_of_the_batch() {
    check(
        six(),
        |s| {
            ones(&s).update_state_by_key_with(UpdateSpec::new(), |time: Time, _: &Text, new, old: Option<i64>| {
                Some(old.unwrap_or(0) + new.len() as i64 * time.as_millis())
            })
        },
        "
        1s  (a,1000)
        2s  (a,3000) (b,2000)
        3s  (a,6000) (b,5000) (c,3000)
        4s  (a,10000) (b,9000) (c,3000)
        5s  (a,15000) (b,9000) (c,3000)
        6s  (a,15000) (b,9000) (c,3000)
        ",
    );
}

#[test]
fn s44_a_key_for_which_nothing_is_returned_is_gone_and_may_come_back_as_new() {
    check(
        batches![["a", "b"], ["b"], [], ["a"]],
        |s| {
            ones(&s).update_state_by_key(
                |new, old: Option<i64>| {
                    if new.is_empty() { None } else { Some(old.unwrap_or(0) + new.len() as i64) }
                },
            )
        },
        "1s (a,1) (b,1)\n2s (b,2)\n4s (a,1)",
    );
}

#[test]
fn s46_s50_without_an_rdd_the_function_is_called_with_what_is_kept() {
    // A key is dropped after two calls without data: (sum, calls without data).
    let step = |new: Vec<i64>, old: Option<(i64, u32)>| match (new.is_empty(), old) {
        (true, Some((_, 1))) => None,
        (true, Some((sum, idle))) => Some((sum, idle + 1)),
        (_, old) => Some((old.map_or(0, |(sum, _)| sum) + new.iter().sum::<i64>(), 0)),
    };
    check(
        batches![MISSING, ["a", "b"], MISSING, ["a", "c"], ["c"], MISSING, MISSING, MISSING],
        move |s: DStream<Text>| ones(&s).update_state_by_key(step).map_values(|(sum, _)| sum),
        "2s (a,1) (b,1)\n3s (a,1) (b,1)\n4s (a,2) (c,1)\n5s (a,2) (c,2)\n6s (c,2)",
    );
}

#[test]
fn s47_the_state_keeps_its_partitioner() {
    let mut test = Check::new(4, 1).context();
    let state = ones(&test.input(six())).update_state_by_key(|new, old| sum(&new, old));
    let stages = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&stages);
    state.foreach_rdd(move |rdd, _| {
        let mut seen = seen.lock().unwrap();
        seen.push((rdd.partitioner().is_some(), rdd.explain().stages.len()));
        rdd.count().map(drop)
    });
    test.run(3).unwrap();
    assert_eq!(*stages.lock().unwrap(), [(true, 2), (true, 2), (true, 2)], "only new data crosses a shuffle");
}

// ------------------------------------------------------------------------------------------------- map_with_state

type Spec<F> = StateSpec<Text, i64, i64, (Text, i64), F>;

/// Sums the values of a key.
fn summing()
-> Spec<millstream_streaming::EachRecord<impl Fn(&Text, Option<i64>, &mut State<'_, i64>) -> (Text, i64) + Send + Sync>>
{
    StateSpec::function(|key: &Text, value: Option<i64>, state: &mut State<'_, i64>| {
        let sum = state.get_option().copied().unwrap_or(0) + value.unwrap_or(0);
        if !state.is_timing_out() {
            state.update(sum);
        }
        (key.clone(), sum)
    })
}

#[test]
fn s53_s62_one_element_a_record_and_snapshots_of_all_keys() {
    let input = || -> Batches<Text> { batches![[], ["a"], ["a", "b"], ["a", "b", "c"], ["a", "b"], ["a"], []] };
    check(
        input(),
        |s| ones(&s).map_with_state(summing()).stream().map(|(_, sum)| sum),
        "2s 1\n3s 1 2\n4s 1 2 3\n5s 3 4\n6s 5",
    );
    check(
        input(),
        |s| ones(&s).map_with_state(summing()).state_snapshots(),
        "2s (a,1)\n3s (a,2) (b,1)\n4s (a,3) (b,2) (c,1)\n5s (a,4) (b,3) (c,1)\n6s (a,5) (b,3) (c,1)\n7s (a,5) (b,3) (c,1)",
    );
    check(
        input(),
        |s| ones(&s).map_with_state(summing().num_partitions(3)).state_snapshots().count(),
        "1s 0\n2s 1\n3s 2\n4s 3\n5s 3\n6s 3\n7s 3",
    );
}

#[test]
fn s52_a_key_that_comes_twice_sees_its_state_in_between() {
    check(
        batches![["a", "a", "a"], ["a", "b", "a"]],
        |s| ones(&s).map_with_state(summing()).stream(),
        "1s (a,1) (a,2) (a,3)\n2s (a,4) (a,5) (b,1)",
    );
}

#[test]
fn s57_an_initial_state_is_in_the_very_first_snapshot() {
    let mut test = Check::new(2, 2).context();
    let words: DStream<Text> = test.input(batches![[], ["a", "d"], []]);
    let pairs = [("a", 5i64), ("b", 10), ("c", -20), ("d", 0)].map(|(k, v)| (Text::from(k), v)).to_vec();
    let initial = test.ssc().context().parallelize(pairs, 3);
    let mapped = ones(&words).map_with_state(summing().initial_state(&initial));
    let (emitted, states) = (test.collect(&mapped), test.collect(&mapped.state_snapshots()));
    test.run(3).unwrap();
    assert_eq!(emitted.table().sorted().to_string(), "2s (a,6) (d,1)");
    let want = "1s (a,5) (b,10) (c,-20) (d,0)\n2s (a,6) (b,10) (c,-20) (d,1)\n3s (a,6) (b,10) (c,-20) (d,1)";
    assert_eq!(states.table().sorted().to_string(), want);
}

#[test]
fn s54_s62_a_state_is_removed_and_set_again() {
    let toggle = || {
        StateSpec::function(|_: &Text, _: Option<i64>, state: &mut State<'_, i64>| {
            if state.exists() {
                state.remove()
            } else {
                state.update(1)
            }
            i64::from(state.exists())
        })
    };
    check(
        batches![[], ["a"], ["a", "b"], ["a", "b", "c"], ["a", "b", "c"], ["a", "b"], ["a"], []],
        move |s| ones(&s).map_with_state(toggle()).state_snapshots().keys_only(),
        "2s a\n3s b\n4s a c\n5s b\n6s a\n",
    );
}

trait KeysOnly {
    fn keys_only(&self) -> DStream<Text>;
}

impl KeysOnly for DStream<(Text, i64)> {
    fn keys_only(&self) -> DStream<Text> {
        self.map(|(key, _)| key)
    }
}

#[test]
fn s53_the_form_with_time_may_give_nothing() {
    check(
        batches![["a", "b"], ["a"], ["b", "b"]],
        |s| {
            let second =
                StateSpec::function_with_time(|time: Time, key: &Text, _: Option<i64>, state: &mut State<'_, u32>| {
                    let times = state.get_option().copied().unwrap_or(0) + 1;
                    state.update(times);
                    (times == 2).then(|| (key.clone(), time.as_millis()))
                });
            ones(&s).map_with_state(second).stream()
        },
        "2s (a,2000)\n3s (b,3000)",
    );
}

/// What a time-out of three seconds gives: outputs and what is kept.
fn timing_out(compatible: bool) -> (String, String) {
    let mut test = Check::new(2, 2).with_conf(secs(1), |conf| conf.streaming.spark_compatible = compatible);
    let mut rows: Vec<Vec<&str>> = vec![vec!["a", "b", "c"], vec!["a", "b"], vec!["a"], vec![], vec![]];
    rows.extend(std::iter::repeat_n(vec!["a"], 16));
    let words: DStream<Text> = test.input(Batches::new(rows.into_iter().map(millstream_testkit::Row::of).collect()));
    let spec = StateSpec::function(|key: &Text, value: Option<i64>, state: &mut State<'_, i64>| {
        let sum = state.get_option().copied().unwrap_or(0) + value.unwrap_or(0);
        if state.is_timing_out() {
            return (key.clone(), -sum);
        }
        state.update(sum);
        (key.clone(), sum)
    });
    let mapped = ones(&words).map_with_state(spec.timeout(secs(3)));
    let late = test.collect(&mapped.filter(|(_, sum)| *sum < 0));
    let states = test.collect(&mapped.state_snapshots());
    test.run(21).unwrap();
    let last = states.table().sorted().to_string().lines().last().unwrap_or_default().to_owned();
    (late.table().sorted().to_string(), last)
}

#[test]
fn s55_s62_a_key_that_is_not_used_times_out_once_and_on_time() {
    // c was last used at 1 s: at 4 s that is not later than 3 s ago, at 5 s it is.
    assert_eq!(timing_out(false), ("5s (c,-1)\n6s (b,-2)".to_owned(), "21s (a,19)".to_owned()));
}

#[test]
fn s55_spark_notices_time_outs_when_it_saves_the_state() {
    assert_eq!(timing_out(true), ("10s (b,-2) (c,-1)".to_owned(), "21s (a,19)".to_owned()));
}

#[test]
fn s55_data_in_the_batch_in_which_a_key_would_time_out_keeps_it() {
    check(
        batches![["a"], [], [], [], ["a"], [], [], [], [], []],
        |s| ones(&s).map_with_state(summing().timeout(secs(3))).stream(),
        "1s (a,1)\n5s (a,2)\n9s (a,2)",
    );
}

#[test]
fn s13_a_missing_batch_is_an_empty_one() {
    check(
        batches![MISSING, ["a"], MISSING, ["a"]],
        |s| ones(&s).map_with_state(summing()).stream(),
        "2s (a,1)\n4s (a,2)",
    );
    check(
        batches![MISSING, ["a"], MISSING],
        |s| ones(&s).map_with_state(summing()).state_snapshots(),
        "2s (a,1)\n3s (a,1)",
    );
}

#[test]
fn s56_a_function_that_misuses_its_state_fails_the_batch_at_its_line() {
    let mut test = StreamTest::new();
    let words = test.input(six());
    let wrong = StateSpec::function(|_: &Text, _: Option<i64>, state: &mut State<'_, i64>| *state.get());
    let (mapped, line) = (ones(&words).map_with_state(wrong), line!());
    let _collected = test.collect(&mapped);
    let error = test.run(2).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::User);
    assert!(error.to_string().contains("the state is not set"), "{error}");
    assert_eq!(error.site().unwrap().line(), line, "{error}");
}

#[test]
fn a_function_that_fails_leaves_the_state_as_it_was() {
    let mut test = Check::new(1, 1).with_conf(secs(1), |conf| {
        conf.streaming.on_failure = millstream_streaming::OnFailure::Continue;
    });
    let numbers = test.input(batches![[(1, 1)], [(1, 10), (1, 666)], [(1, 100)]]);
    let spec = StateSpec::function(|_: &i32, value: Option<i32>, state: &mut State<'_, i32>| {
        let value = value.unwrap_or(0);
        assert!(value != 666, "the number of the beast");
        let sum = state.get_option().copied().unwrap_or(0) + value;
        state.update(sum);
        sum
    });
    let sums = test.collect(&numbers.map_with_state(spec));
    // The second batch fails; the third is made from the second, which fails again, as it cannot be left out.
    let error = test.run(3).unwrap_err();
    assert!(error.to_string().contains("the number of the beast"), "{error}");
    assert_eq!(sums.table().to_string(), "1s 1");
}

#[test]
fn s60_s61_states_are_saved_and_old_files_removed() {
    let mut test = Check::new(2, 2).context();
    let store = Arc::new(millstream_core::checkpoint::MemoryCheckpoints::new());
    test.ssc().context().set_checkpoint_store(Arc::clone(&store) as _);
    let rows = (0..60).map(|i| millstream_testkit::Row::of(vec![(i % 7, 1)])).collect();
    let numbers: DStream<(i32, i32)> = test.input(Batches::new(rows));
    let spec = StateSpec::function(|_: &i32, value: Option<i32>, state: &mut State<'_, i32>| {
        let sum = state.get_option().copied().unwrap_or(0) + value.unwrap_or(0);
        state.update(sum);
        sum
    });
    let mapped = numbers.map_with_state(spec).checkpoint(secs(4));
    let updated = numbers.update_state_by_key(|new, old: Option<i32>| Some(old.unwrap_or(0) + new.iter().sum::<i32>()));
    let (sums, states) = (test.collect(&mapped), test.collect(&updated));
    test.run(60).unwrap();
    assert_eq!(sums.table().to_string().lines().last(), Some("60s 9"));
    assert_eq!(
        states.table().sorted().to_string().lines().last().unwrap(),
        "60s (0,9) (1,9) (2,9) (3,9) (4,8) (5,8) (6,8)"
    );
    assert!((2..=12).contains(&store.names().len()), "{:?}", store.names());
}

#[test]
fn s49_a_save_of_updated_state_writes_what_changed() {
    use millstream_core::checkpoint::CheckpointStore;
    let mut test = Check::new(2, 2).context();
    let store = Arc::new(millstream_core::checkpoint::MemoryCheckpoints::new());
    test.ssc().context().set_checkpoint_store(Arc::clone(&store) as _);
    // A thousand keys at first, then one a batch. Every key is called in every batch (S-44).
    let first: Vec<(u64, u64)> = (0..1000).map(|key| (key, 1)).collect();
    let rows = std::iter::once(first).chain((1..12).map(|i| vec![(i, 1)])).map(millstream_testkit::Row::of).collect();
    let numbers: DStream<(u64, u64)> = test.input(Batches::new(rows));
    let calls = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let called = Arc::clone(&calls);
    let sums = numbers.update_state_by_key(move |new, old: Option<u64>| {
        called.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Some(old.unwrap_or(0) + new.iter().sum::<u64>())
    });
    let sums = test.collect(&sums.checkpoint(secs(2)));
    let mut sizes = Vec::new();
    let mut before = 0;
    for batch in 1..=12 {
        test.run(1).unwrap();
        if batch % 2 == 0 {
            let names = store.names();
            let total = names.iter().map(|name| store.read(name).unwrap().len()).sum::<usize>();
            sizes.push(total - before);
            before = total;
        }
    }
    assert_eq!(calls.load(std::sync::atomic::Ordering::Relaxed), 12_000);
    assert!(sizes[0] > 2000 && sizes[1..].iter().all(|size| (1..400).contains(size)), "{sizes:?}");
    assert!(sums.table().sorted().to_string().lines().last().unwrap().contains("(11,2)"));
}

#[test]
fn s61_a_state_whose_kept_partitions_are_lost_is_read_from_its_checkpoint_and_made_again() {
    let run = |lose: bool| {
        let mut test = Check::new(2, 2).context();
        let rows = (0..45).map(|i| millstream_testkit::Row::of(vec![(i % 7, 1), (i % 3, 10)])).collect();
        let numbers: DStream<(i32, i32)> = test.input(Batches::new(rows));
        let spec = StateSpec::function(|key: &i32, value: Option<i32>, state: &mut State<'_, i32>| {
            let sum = state.get_option().copied().unwrap_or(0) + value.unwrap_or(0);
            if !state.is_timing_out() {
                state.update(sum);
            }
            (*key, sum)
        });
        let mapped = numbers.map_with_state(spec.timeout(secs(5))).checkpoint(secs(4));
        let window = numbers.reduce_by_key_and_window_inv(|a, b| a + b, |a, b| a - b, secs(6));
        let updated =
            numbers.update_state_by_key(|new, old: Option<i32>| Some(old.unwrap_or(0) + new.iter().sum::<i32>()));
        let tables = [
            test.collect(&mapped),
            test.collect(&mapped.state_snapshots()),
            test.collect(&window),
            test.collect(&updated),
        ];
        for batch in 0..45 {
            test.run(1).unwrap();
            if lose && batch % 5 == 3 {
                let newest = test.ssc().context().parallelize(vec![0], 1).id().0;
                for rdd in 0..newest {
                    for partition in 0..2 {
                        let id = millstream_core::storage::BlockId::Rdd { rdd: millstream_core::RddId(rdd), partition };
                        test.ssc().context().env().blocks.remove(id).unwrap();
                    }
                }
            }
        }
        tables.map(|table| table.table().sorted().to_string())
    };
    assert_eq!(run(true), run(false));
}

#[test]
fn s61_a_checkpoint_interval_that_does_not_fit_is_reported() {
    let test = StreamTest::new();
    let words = test.input(six());
    let (mapped, line) = (ones(&words).map_with_state(summing()).checkpoint(millstream_core::millis(1500)), line!());
    mapped.print();
    let error = test.ssc().start().unwrap_err();
    assert!(error.to_string().contains("checkpoint interval 1.5s is not a multiple"), "{error}");
    assert_eq!(error.site().unwrap().line(), line);
}

#[test]
fn s51_state_is_not_shared_between_batches() {
    // The function changes what it is given; the batch before keeps what it had.
    check_local(
        batches![[(1, 1)], [(1, 2)], [(1, 3)]],
        |s| {
            let lists = s.update_state_by_key(|new: Vec<i32>, old: Option<Vec<i32>>| {
                let mut list = old.unwrap_or_default();
                list.extend(new);
                Some(list)
            });
            lists.window(secs(3))
        },
        "1s (1,[1])\n2s (1,[1, 2]) (1,[1])\n3s (1,[1, 2, 3]) (1,[1, 2]) (1,[1])",
    );
}

// ------------------------------------------------------------------------------------------------ states that are looked at

#[test]
fn pairs_are_looked_up_wherever_tasks_run_and_states_of_tables_where_they_are() {
    let pairs = || batches![[("a", 1), ("b", 2), ("c", 3)], [("a", 5)], []];
    for way in Check::new(3, 2).everywhere() {
        let mut test = way.context();
        let sums = test
            .input(pairs())
            .update_state_by_key(|new: Vec<i32>, old| Some(old.unwrap_or(0) + new.iter().sum::<i32>()));
        let views = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&views);
        sums.foreach_states(move |view| kept.lock().unwrap().push(view));
        test.run(3).unwrap();
        let views = std::mem::take(&mut *views.lock().unwrap());
        let of = |view: usize, key: &str| views[view].get(&Text::from(key));
        assert_eq!((of(0, "a"), of(1, "a"), of(2, "a"), of(2, "nobody")), (Some(1), Some(6), Some(6), None), "{way:?}");
        assert_eq!((of(2, "b"), of(2, "c"), views[2].len()), (Some(2), Some(3), 3), "{way:?}");
    }
    let test = Check::new(2, 1).through_bytes().context();
    let states =
        test.input(pairs()).map_with_state(StateSpec::function(|_: &Text, new, state: &mut State<'_, i32>| {
            state.update(new.unwrap_or(0));
        }));
    let line = line!() + 1;
    states.foreach_states(|_| ());
    let error = test.ssc().start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Graph);
    let told = error.to_string();
    assert!(told.contains("state_snapshots()") && told.contains(&format!("state.rs:{line}")), "{told}");
}

#[test]
fn states_of_tables_are_asked_where_they_are_and_let_go_with_who_asks() {
    for way in Check::new(3, 2).everywhere() {
        let mut test = way.context();
        let pairs = test.input(batches![[("a", 1), ("b", 2), ("c", 3)], [("a", 5)], []]);
        let states = pairs.map_with_state(StateSpec::function(|_: &Text, new, state: &mut State<'_, i32>| {
            state.update(state.get_option().copied().unwrap_or(0) + new.unwrap_or(0));
        }));
        let behind = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&behind);
        let site = millstream_core::CallSite::here("asked");
        states.foreach_behind(site, |_| (), move |states| kept.lock().unwrap().push(states));
        test.run(3).unwrap();
        let all = std::mem::take(&mut *behind.lock().unwrap());
        let looked_up = |at: usize, keys: &[&str]| -> Vec<(String, i32)> {
            let mut found: Vec<(String, i32)> = match &all[at] {
                Behind::Here(view) => {
                    let look = |key: &&str| Some((key.to_string(), view.get(&Text::from(*key))?));
                    keys.iter().filter_map(look).collect()
                }
                Behind::Away(states) => {
                    let found = states.get(keys.iter().map(|key| Text::from(*key)).collect(), || true).unwrap();
                    found.into_iter().map(|(key, state)| (key.to_string(), state)).collect()
                }
            };
            found.sort();
            found
        };
        let pairs = |pairs: &[(&str, i32)]| pairs.iter().map(|(key, n)| (key.to_string(), *n)).collect::<Vec<_>>();
        assert_eq!(looked_up(0, &["a", "c", "nobody"]), pairs(&[("a", 1), ("c", 3)]), "{way:?}");
        assert_eq!(looked_up(2, &["a", "b", "c"]), pairs(&[("a", 6), ("b", 2), ("c", 3)]), "{way:?}");
        assert_eq!((all[0].len(), all[1].time()), (3, Time::from_millis(2000)), "{way:?}");
        let Behind::Away(first) = &all[0] else { continue };
        let mut entries: Vec<(Text, i32)> = Arc::clone(first).entries().flat_map(|some| some.unwrap()).collect();
        entries.sort();
        assert_eq!(entries, [(Text::from("a"), 1), (Text::from("b"), 2), (Text::from("c"), 3)], "{way:?}");
        let rdds = || test.ssc().context().persistent_rdds().len();
        let (first, lent) = (Arc::clone(first), rdds());
        drop(all);
        assert_eq!(rdds(), lent - 2, "one of the three is still held, {way:?}");
        test.ssc().stop().unwrap();
        let error = first.get(vec![Text::from("a")], || true).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Stopped, "{error}, {way:?}");
    }
}
