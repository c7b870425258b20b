//! What windows mean: plain ones (S-27 to S-33) and those made from the window before (S-34 to S-43).

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use millstream_core::{ErrorKind, Partitioner, StorageLevel, Text, millis, secs};
use millstream_streaming::DStream;
use millstream_testkit::{Batches, Check, StreamTest, batches, check};
use serde::{Deserialize, Serialize};

fn six() -> Batches<i32> {
    batches![[0], [1], [2], [3], [4], [5]]
}

#[test]
fn s31_windows_overlap_touch_or_leave_gaps() {
    check(six(), |s| s.window((secs(2), secs(1))), "1s 0\n2s 0 1\n3s 1 2\n4s 2 3\n5s 3 4\n6s 4 5");
    check(six(), |s| s.window((secs(2), secs(2))), "2s 0 1\n4s 2 3\n6s 4 5");
    check(six(), |s| s.window((secs(4), secs(2))), "2s 0 1\n4s 0 1 2 3\n6s 2 3 4 5");
    check(six(), |s| s.window((secs(2), secs(3))), "3s 1 2\n6s 4 5");
    check(six(), |s| s.window(secs(3)), "1s 0\n2s 0 1\n3s 0 1 2\n4s 1 2 3\n5s 2 3 4\n6s 3 4 5");
}

#[test]
fn s28_elements_of_a_window_are_in_the_order_of_their_batches() {
    let mut test = Check::new(2, 2).context();
    let windows = test.collect(&test.input(batches![[3, 9], [1, 4], [2]]).window((secs(3), secs(3))).glom());
    test.run(3).unwrap();
    assert_eq!(windows.table().to_string(), "3s [3] [9] [1] [4] [] [2]");
}

#[test]
fn s14_s13_a_window_has_an_rdd_also_where_batches_have_none() {
    check(batches![MISSING, [1], MISSING, MISSING], |s| s.window(secs(2)).count(), "1s 0\n2s 1\n3s 1\n4s 0");
}

#[test]
fn s27_windows_that_do_not_fit_are_reported_by_start_with_their_lines() {
    let test = StreamTest::new();
    let numbers = test.input(batches![[1]]);
    let even = numbers.window((secs(2), secs(2)));
    let lines = [
        (numbers.window(millis(1500)), line!()),
        (numbers.window((secs(2), millis(300))), line!()),
        (even.window(secs(3)), line!()),
        (numbers.window(secs(0)), line!()),
        (numbers.window((secs(2), secs(0))), line!()),
        (numbers.reduce_by_window_inv(|a, b| a + b, |a, b| a - b, millis(100)), line!()),
    ];
    for (stream, _) in &lines {
        stream.print();
    }
    let error = test.ssc().start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Graph);
    let text = error.to_string();
    for (_, line) in lines {
        assert!(text.contains(&format!("windows.rs:{line}")), "{line} in {text}");
    }
    assert!(text.contains("window length 1.5s is not a multiple of the parent's slide 1s"), "{text}");
    assert!(text.contains("window slide 300ms is not a multiple of the parent's slide 1s"), "{text}");
    assert!(text.contains("window length 3s is not a multiple of the parent's slide 2s"), "{text}");
}

#[test]
fn s30_a_window_keeps_its_parent_and_persist_on_it_is_the_parents() {
    let mut test = Check::new(2, 1).context();
    let numbers = test.input(batches![[1], [2], [3]]).map(|x| x);
    let window = numbers.window(secs(2)).persist(StorageLevel::MEMORY_AND_DISK);
    let levels = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    for stream in [&numbers, &window] {
        let levels = std::sync::Arc::clone(&levels);
        stream.foreach_rdd(move |rdd, _| {
            rdd.count()?;
            levels.lock().unwrap().push(rdd.storage_level());
            Ok(())
        });
    }
    test.run(1).unwrap();
    assert_eq!(*levels.lock().unwrap(), [StorageLevel::MEMORY_AND_DISK, StorageLevel::NONE]);
}

#[test]
fn s20_what_no_window_reaches_is_let_go() {
    let mut test = Check::new(2, 1).context();
    let counts = test.input(batches![[1], [2]]).window((secs(2), secs(1))).window((secs(4), secs(2))).count();
    let counts = test.collect(&counts);
    test.run(30).unwrap();
    assert_eq!(counts.table().to_string().lines().next(), Some("2s 3"));
    // 4 + 2 seconds back, two partitions a second, and the batch that is just done.
    let blocks = test.ssc().context().env().blocks.usage().blocks;
    assert!(blocks <= 2 * 9, "{blocks}");
}

#[test]
fn s32_groups_of_a_window_are_in_the_order_of_time() {
    let batches = || batches![[("a", 1), ("b", 2)], [("a", 3)], [], [("b", 4), ("b", 5)]];
    let table = "1s (a,[1]) (b,[2])\n2s (a,[1, 3]) (b,[2])\n3s (a,[3])\n4s (b,[4, 5])";
    check(batches(), |s| s.group_by_key_and_window((secs(2), secs(1))), table);
    check(batches(), |s| s.group_by_key_and_window_partitioned((secs(2), secs(1)), 3), table);
}

#[test]
fn s33_keys_leave_when_their_values_do() {
    let batches = || batches![[("a", 1), ("b", 2)], [("a", 3)], [], [("b", 4), ("b", 5)]];
    let table = "1s (a,1) (b,2)\n2s (a,4) (b,2)\n3s (a,3)\n4s (b,9)";
    check(batches(), |s| s.reduce_by_key_and_window(|a, b| a + b, secs(2)), table);
    check(batches(), |s| s.reduce_by_key_and_window_partitioned(|a, b| a + b, secs(2), 5), table);
    check(batches![[1, 2], [3], [], []], |s| s.reduce_by_window(|a, b| a + b, secs(2)), "1s 3\n2s 6\n3s 3");
}

#[test]
fn s29_windows_of_batches_in_place_are_reduced_without_a_shuffle() {
    let mut test = Check::new(3, 1).context();
    let pairs = test.input(batches![[("a", 1)], [("a", 2)], [("a", 3)]]);
    let sums = pairs.reduce_by_key_and_window(|a, b| a + b, secs(3));
    let shuffles = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = std::sync::Arc::clone(&shuffles);
    sums.foreach_rdd(move |rdd, _| {
        seen.lock().unwrap().push(rdd.explain().stages.len());
        rdd.count().map(drop)
    });
    test.run(3).unwrap();
    assert_eq!(*shuffles.lock().unwrap(), [2, 2, 2], "only the new batch crosses one");
}

// ------------------------------------------------------------------------------- made from the window before

type Words = DStream<Text>;

fn big() -> Batches<Text> {
    batches![
        ["a"],
        ["a", "b"],
        ["a", "b", "c"],
        ["a", "b"],
        ["a"],
        [],
        ["a"],
        ["a", "b"],
        ["a", "b", "c"],
        ["a", "b"],
        ["a"],
        []
    ]
}

const BIG: &str = "
    1s  (a,1)
    2s  (a,2) (b,1)
    3s  (a,2) (b,2) (c,1)
    4s  (a,2) (b,2) (c,1)
    5s  (a,2) (b,1) (c,0)
    6s  (a,1) (b,0) (c,0)
    7s  (a,1) (b,0) (c,0)
    8s  (a,2) (b,1) (c,0)
    9s  (a,2) (b,2) (c,1)
    10s (a,2) (b,2) (c,1)
    11s (a,2) (b,1) (c,0)
    12s (a,1) (b,0) (c,0)
";

#[test]
fn s39_the_big_table_with_and_without_a_filter() {
    check(
        big(),
        |s: Words| s.map(|w| (w, 1)).reduce_by_key_and_window_inv(|a, b| a + b, |a, b| a - b, (secs(2), secs(1))),
        BIG,
    );
    check(
        big(),
        |s: Words| {
            let ones = s.map(|w| (w, 1));
            ones.reduce_by_key_and_window_inv_partitioned(|a, b| a + b, |a, b| a - b, secs(2), Partitioner::hash(3))
        },
        BIG,
    );
    let plain: Vec<String> = BIG
        .lines()
        .map(|line| line.split_whitespace().filter(|word| !word.ends_with(",0)")).collect::<Vec<_>>().join(" "))
        .collect();
    let plain = plain.join("\n");
    check(big(), |s: Words| s.map(|w| (w, 1)).reduce_by_key_and_window(|a, b| a + b, secs(2)), &plain);
    check(
        big(),
        |s: Words| {
            let ones = s.map(|w| (w, 1));
            ones.reduce_by_key_and_window_inv_filtered(|a, b| a + b, |a, b| a - b, |_, n| *n != 0, secs(2))
        },
        &plain,
    );
    check(
        big(),
        |s: Words| {
            let (ones, window) = (s.map(|w| (w, 1)), (secs(2), secs(1)));
            let (add, take, some) = (|a, b| a + b, |a, b| a - b, |_: &Text, n: &i32| *n != 0);
            ones.reduce_by_key_and_window_inv_filtered_partitioned(add, take, some, window, 5)
        },
        &plain,
    );
}

#[test]
fn pd06_a_filter_and_a_partitioner_are_said_together() {
    check(
        batches![["a", "b"], ["b"], ["c"], []],
        |s: Words| {
            let apart = Partitioner::custom(3, |word: &Text| if word == "b" { 2 } else { 0 });
            let (add, take, some) = (|a, b| a + b, |a, b| a - b, |_: &Text, n: &i32| *n != 0);
            let counts =
                s.map(|w| (w, 1)).reduce_by_key_and_window_inv_filtered_partitioned(add, take, some, secs(2), apart);
            counts.map_partitions(|words| [words.map(|(word, n)| format!("{word}{n}")).collect::<String>()]).glom()
        },
        "1s [a1] [] [b1]\n2s [a1] [] [b2]\n3s [c1] [] [b1]\n4s [c1] [] []",
    );
}

/// A key that is never the same as another, nor as itself.
#[derive(Clone, Debug, Hash, Serialize, Deserialize)]
#[allow(clippy::derived_hash_with_manual_eq, reason = "it is to be wrong")]
struct Never(i32);

impl PartialEq for Never {
    fn eq(&self, _: &Never) -> bool {
        false
    }
}

impl Eq for Never {}

#[test]
fn s37_a_key_that_the_filter_dropped_may_leave_and_one_that_is_not_found_again_fails_the_batch() {
    check(
        batches![[("a", 1)], [], [], [("a", 3)]],
        |s| s.reduce_by_key_and_window_inv_filtered(|a, b| a + b, |a, b| a - b, |_, n| *n != 1, secs(2)),
        "4s (a,3)",
    );
    let mut test = StreamTest::new();
    let keys = test.input(batches![[1], []]).map(|n| (Never(n), 1));
    let _collected = test.collect(&keys.reduce_by_key_and_window_inv(|a, b| a + b, |a, b| a - b, secs(1)));
    let error = test.run(2).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::User);
    assert!(error.to_string().contains("does the key hash and compare the same each time?"), "{error}");
}

#[test]
fn s40_a_larger_slide_takes_away_and_adds_several_batches() {
    let batches = || batches![[("a", 1)], [("a", 2)], [("a", 3)], [("a", 4)], [("a", 5)], [("a", 6)], [], []];
    check(
        batches(),
        |s| s.reduce_by_key_and_window_inv(|a, b| a + b, |a, b| a - b, (secs(4), secs(2))),
        "2s (a,3)\n4s (a,10)\n6s (a,18)\n8s (a,11)",
    );
    check(
        batches(),
        |s| s.reduce_by_key_and_window_inv(|a, b| a + b, |a, b| a - b, (secs(1), secs(3))),
        "3s (a,3)\n6s (a,6)",
    );
}

#[test]
fn s41_s42_s43_counts_of_windows() {
    check(
        batches![[1], [1], [1, 2], [0], [], []],
        |s| s.count_by_window((secs(2), secs(1))),
        "1s 1\n2s 2\n3s 3\n4s 3\n5s 1\n6s 0",
    );
    check(batches![[], [], [7], []], |s| s.count_by_window(secs(2)), "3s 1\n4s 1");
    check(
        batches![["a"], ["b", "b"], ["a", "b"], [], []],
        |s| s.count_by_value_and_window(secs(2)),
        "1s (a,1)\n2s (a,1) (b,2)\n3s (a,1) (b,3)\n4s (a,1) (b,1)",
    );
    check(
        batches![["a"], ["b", "b"]],
        |s| s.count_by_value_and_window_partitioned(secs(2), 1),
        "1s (a,1)\n2s (a,1) (b,2)",
    );
    let mut test = Check::new(7, 2).context();
    let one =
        test.collect(&test.input(batches![[1, 2, 3]]).reduce_by_window_inv(|a, b| a + b, |a, b| a - b, secs(2)).glom());
    test.run(1).unwrap();
    assert_eq!(one.table().to_string(), "1s [6]", "one partition");
}

#[test]
fn s13_s36_missing_batches_leave_the_window_as_it_is() {
    check(
        batches![MISSING, [("a", 1)], MISSING, [("a", 5)], MISSING, MISSING],
        |s| s.reduce_by_key_and_window_inv(|a, b| a + b, |a, b| a - b, secs(2)),
        "2s (a,1)\n3s (a,1)\n4s (a,5)\n5s (a,5)\n6s (a,0)",
    );
}

#[test]
fn s34_an_incremental_window_needs_a_checkpoint_directory() {
    use millstream_core::clock::ManualClock;
    use millstream_streaming::{Conf, RddQueue, StreamingContext};
    let mut conf = Conf::new("local[1]", "t").unwrap();
    conf.streaming.exclusive = false;
    let clock = std::sync::Arc::new(ManualClock::new(millstream_core::Time::ZERO));
    let ssc = StreamingContext::builder(conf, secs(1)).with_clock(clock).build().unwrap();
    let (counts, line) = (ssc.queue_stream(&RddQueue::<i32>::new()).count_by_window(secs(2)), line!());
    counts.print();
    let error = ssc.start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("the checkpoint directory has not been set"), "{error}");
    assert_eq!(error.site().unwrap().line(), line);
}

#[test]
fn s34_the_lineage_of_a_window_is_cut_and_old_checkpoints_are_removed() {
    let mut test = Check::new(2, 2).with_conf(secs(1), |_| {});
    let store = std::sync::Arc::new(millstream_core::checkpoint::MemoryCheckpoints::new());
    test.ssc().context().set_checkpoint_store(std::sync::Arc::clone(&store) as _);
    let rows = (0..100).map(|i| millstream_testkit::Row::of(vec![(i % 7, 1)])).collect();
    let sums = test.input(Batches::new(rows)).reduce_by_key_and_window_inv(|a, b| a + b, |a, b| a - b, secs(5));
    let longest = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let seen = std::sync::Arc::clone(&longest);
    let collected = test.collect(&sums);
    sums.foreach_rdd(move |rdd, _| {
        seen.fetch_max(rdd.to_debug_string().lines().count(), std::sync::atomic::Ordering::Relaxed);
        Ok(())
    });
    test.run(100).unwrap();
    assert_eq!(collected.table().to_string().lines().count(), 100);
    let longest = longest.load(std::sync::atomic::Ordering::Relaxed);
    assert!(longest < 300, "{longest}");
    // Said on the window, it concerns the state that the window is read from.
    let saved = store.names().len();
    let mut test = Check::new(2, 2).context();
    test.ssc().context().set_checkpoint_store(std::sync::Arc::clone(&store) as _);
    let numbers: DStream<(i32, i32)> = test.input(batches![[(1, 1)]]);
    let sums = numbers.reduce_by_key_and_window_inv(|a, b| a + b, |a, b| a - b, secs(3)).checkpoint(secs(2));
    let _collected = test.collect(&sums);
    test.run(2).unwrap();
    assert_eq!(store.names().len(), saved + 2, "{:?}", store.names());
    // Files that nothing needs any more go with a batch behind the one that was saved.
    assert!((1..=8).contains(&store.names().len()), "{:?}", store.names());
}
