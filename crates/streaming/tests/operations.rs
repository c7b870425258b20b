//! What each operation without state and windows means, as tables: DS01 to DS19, PD01 to PD19, SC18, SC19, S-64 to S-67,
//! S-104.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use common::{Notes, advance, gather};
use millstream_core::{Context, Partitioner, Rdd, Result, StorageLevel, Text, Time, millis, secs};
use millstream_streaming::{InputContext, InputSource, Rate, RddQueue};
use millstream_testkit::{Check, StreamTest, batches, check};

// ---------------------------------------------------------------------------------------------- elements and partitions

#[test]
fn ds01_a_stream_has_a_batch_every_interval() {
    let test = Check::new(1, 1).with_conf(millis(250), |_| {});
    let stream = test.ssc().queue_stream(&RddQueue::<i32>::new());
    assert_eq!(stream.slide(), millis(250));
    assert_eq!(stream.map(|n| n).union(&stream).reduce(|a, b| a + b).slide(), millis(250));
}

#[test]
fn ds08_ds09_ds10_elements_are_mapped_split_and_kept() {
    check(batches![[1, 2], [], [3]], |s| s.map(|n| n * 10), "1s 10 20\n3s 30");
    check(batches![["to be", "x"], ["or"]], |s| s.flat_map(|line| line.split(' ')), "1s to be x\n2s or");
    check(batches![[1, 2, 3]], |s| s.flat_map(|n| (n != 2).then_some(n)), "1s 1 3");
    check(batches![[2usize, 0]], |s| s.flat_map_into(|n, out| out.extend(vec!['x'; n])), "1s x x");
    check(batches![[1, 2, 3], [5]], |s| s.filter(|n| n % 2 == 1), "1s 1 3\n2s 5");
}

#[test]
fn ds11_ds12_partitions_are_lists_and_are_handed_over_also_empty_ones() {
    for (partitions, lists, sums) in [(1, "1s [1, 2, 3]", "1s 6\n2s 0"), (2, "1s [1] [2, 3]", "1s 1 5\n2s 0 0")] {
        let mut test = Check::new(partitions, 2).context();
        let stream = test.input(batches![[1, 2, 3], []]);
        let listed = test.collect(&stream.glom().filter(|list| !list.is_empty()));
        let summed = test.collect(&stream.map_partitions(|items| [items.sum::<i32>()]));
        test.run(2).unwrap();
        assert_eq!(listed.table().to_string(), lists);
        assert_eq!(summed.table().to_string(), sums);
    }
}

#[test]
fn ds12_a_closure_that_leaves_keys_where_they_are_says_so_and_spares_a_shuffle() {
    let test = StreamTest::new();
    let grouped = test.input(batches![[("a", 1), ("b", 2)]]).reduce_by_key_partitioned(|a, b| a + b, 3);
    let partitioners = Notes::default();
    for stream in [
        grouped.map_partitions_preserving(|pairs| pairs.map(|(k, v)| (k, v + 1))),
        grouped.map_partitions(|pairs| pairs.map(|(k, v)| (k, v + 1))),
        grouped.map_values(|v| v + 1),
        grouped.flat_map_values(|v| [v]),
        grouped.filter(|_| true),
        grouped.map(|pair| pair),
    ] {
        let noted = partitioners.clone();
        stream.foreach_rdd(move |rdd, _| noted.add(rdd.partitioner() == Some(&Partitioner::hash(3))));
    }
    test.ssc().start().unwrap();
    advance(&test, 1, 1);
    assert_eq!(partitioners.all(), [true, false, true, true, true, false]);
}

#[test]
fn ds13_a_batch_is_spread_over_exactly_n_partitions() {
    for n in [1, 2, 5] {
        let test = StreamTest::new();
        let stream = test.input(batches![[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [], [1]]).repartition(n);
        let (sizes, sums) = (Notes::default(), gather(&stream.reduce(|a, b| a + b)));
        let noted = sizes.clone();
        stream.foreach_rdd(move |rdd, _| {
            noted.add(rdd.glom().collect()?.iter().map(Vec::len).collect::<Vec<_>>());
            Ok(())
        });
        test.ssc().start().unwrap();
        advance(&test, 1, 3);
        assert_eq!(sums.all(), [55, 1]);
        for (sizes, total) in sizes.all().iter().zip([10, 0, 1]) {
            assert_eq!((sizes.len(), sizes.iter().sum::<usize>()), (n, total), "{sizes:?}");
        }
        let even = &sizes.all()[0];
        assert!(even.iter().max().unwrap() - even.iter().min().unwrap() <= 2, "about even: {even:?}");
    }
}

#[test]
fn s64_an_empty_batch_has_no_reduction_no_values_and_a_count_of_nothing() {
    check(batches![[1, 2, 3], [], [4]], |s| s.reduce(|a, b| a + b), "1s 6\n3s 4");
    check(batches![[1, 2, 3], [], [4]], |s| s.count(), "1s 3\n2s 0\n3s 1");
    check(batches![["a", "b", "a"], []], |s| s.count_by_value(), "1s (a, 2) (b, 1)");
    check(batches![["a", "b", "a"], []], |s| s.count_by_value_partitioned(3), "1s (a, 2) (b, 1)");
}

#[test]
fn ds05_ds06_a_kept_stream_is_computed_once_for_all_its_readers() {
    for how in
        [None, Some(StorageLevel::MEMORY_ONLY), Some(StorageLevel::MEMORY_ONLY_SER), Some(StorageLevel::DISK_ONLY)]
    {
        let (test, calls) = (StreamTest::new(), Notes::default());
        let noted = calls.clone();
        let counted = test.input(batches![[1, 2], [3]]).map(move |n| (noted.add(n), n).1);
        let kept = match how {
            None => counted.cache(),
            Some(level) => counted.persist(level),
        };
        let (first, second) = (gather(&kept), gather(&kept.map(|n| n + 1)));
        test.ssc().start().unwrap();
        advance(&test, 1, 2);
        assert_eq!((first.all(), second.all()), (vec![1, 2, 3], vec![2, 3, 4]));
        let mut calls = calls.all();
        calls.sort_unstable();
        assert_eq!(calls, [1, 2, 3], "{how:?}");
    }
}

#[test]
fn ds18_transform_gives_any_operation_on_rdds_and_the_time() {
    check(
        batches![[3, 1], [2]],
        |s| s.transform(|rdd, time| rdd.map(millstream_core::capture(time.as_millis(), |ms, n| (*ms, n)))),
        "1s (1000, 3) (1000, 1)\n2s (2000, 2)",
    );
}

// --------------------------------------------------------------------------------------------------------- several streams

#[test]
fn ds28_sc18_a_union_keeps_the_order_of_its_parts() {
    check(batches![[1], [2]], |s| s.union(&s.map(|n| n * 10)), "1s 1 10\n2s 2 20");
    let mut test = StreamTest::new();
    let streams: Vec<_> = (0..3).map(|i| test.input(batches![[1], []]).map(move |n| n + i * 10)).collect();
    let all = test.collect(&test.ssc().union(&streams));
    let one = test.collect(&test.ssc().union(&streams[..1]));
    test.run(2).unwrap();
    assert_eq!((all.table().to_string(), one.table().to_string()), ("1s 1 11 21".to_owned(), "1s 1".to_owned()));
}

#[test]
fn sc19_ds19_a_function_is_given_the_rdds_of_several_streams_in_order_and_the_time() {
    let mut test = StreamTest::new();
    let (a, b) = (test.input(batches![[1], [2]]), test.input(batches![[10], [20]]));
    let several = test.ssc().transform(&[b.clone(), a.clone()], |rdds, time| {
        assert_eq!(rdds.len(), 2);
        let extra = rdds[0].context().parallelize(vec![time.as_millis() as i32], 1);
        rdds[0].union(&rdds[1]).union(&extra)
    });
    let words = a.map(|n| Text::from(format!("w{n}")));
    let two = a.transform_with(&words, |a, words, time| {
        a.map(move |n| n * time.as_millis() as i32).map(|n| Text::from(n.to_string())).union(&words)
    });
    let (several, two) = (test.collect(&several), test.collect(&two));
    test.run(2).unwrap();
    assert_eq!(several.table().to_string(), "1s 10 1 1000\n2s 20 2 2000");
    assert_eq!(two.table().to_string(), "1s 1000 w1\n2s 4000 w2");
}

// ------------------------------------------------------------------------------------------------------------- by key

#[test]
fn pd01_pd02_values_of_a_key_are_grouped_in_order_and_reduced() {
    let pairs = || batches![[("a", 1), ("b", 2), ("a", 3)], [], [("a", 4)]];
    check(pairs(), |s| s.group_by_key(), "1s (a, [1, 3]) (b, [2])\n3s (a, [4])");
    check(pairs(), |s| s.group_by_key_partitioned(3), "1s (a, [1, 3]) (b, [2])\n3s (a, [4])");
    check(pairs(), |s| s.reduce_by_key(|a, b| a + b), "1s (a, 4) (b, 2)\n3s (a, 4)");
    check(pairs(), |s| s.reduce_by_key_partitioned(|a, b| a + b, 3), "1s (a, 4) (b, 2)\n3s (a, 4)");
}

#[test]
fn pd03_combining_begins_adds_and_merges() {
    check(
        batches![[("a", 1), ("b", 2), ("a", 3), ("a", 5)], []],
        |s| s.combine_by_key(|v| (v, 1), |(sum, n), v| (sum + v, n + 1), |(a, m), (b, n)| (a + b, m + n), 2),
        "1s (a, (9, 3)) (b, (2, 1))",
    );
}

#[test]
fn pd13_pd14_values_are_mapped_and_multiplied() {
    check(batches![[("a", 1), ("b", 2)]], |s| s.map_values(|v| v * 10), "1s (a, 10) (b, 20)");
    check(
        batches![[("a", 2), ("b", 0)], [("c", 1)]],
        |s| s.flat_map_values(|v| (0..v).collect::<Vec<i32>>()),
        "1s (a, 0) (a, 1)\n2s (c, 0)",
    );
}

#[test]
fn pd15_to_pd19_s67_keys_of_two_streams_meet_within_a_batch_and_repeated_ones_give_all_pairs() {
    type Pairs = millstream_streaming::DStream<(Text, i32)>;
    let left = || batches![[("a", 1), ("a", 2), ("b", 3)], [("c", 4)], []];
    // The other side: a and d in the first batch, none in the second, c in the third.
    fn right(s: &Pairs) -> Pairs {
        s.transform(|rdd, time| {
            let context = rdd.context().clone();
            let pairs: &[(&str, i32)] = match time.as_millis() {
                1000 => &[("a", 10), ("a", 20), ("d", 40)],
                3000 => &[("c", 50)],
                _ => &[],
            };
            context.parallelize(pairs.iter().map(|(k, v)| (Text::from(*k), *v)).collect(), 2)
        })
    }
    let join = "1s (a,(1,10)) (a,(1,20)) (a,(2,10)) (a,(2,20))";
    check(left(), |s| s.join(&right(&s)), join);
    check(left(), |s| s.join_partitioned(&right(&s), 3), join);
    let outer = "1s (a,(1,Some(10))) (a,(1,Some(20))) (a,(2,Some(10))) (a,(2,Some(20))) (b,(3,None))\n2s (c,(4,None))";
    check(left(), |s| s.left_outer_join(&right(&s)), outer);
    check(left(), |s| s.left_outer_join_partitioned(&right(&s), 3), outer);
    let outer =
        "1s (a,(Some(1),10)) (a,(Some(1),20)) (a,(Some(2),10)) (a,(Some(2),20)) (d,(None,40))\n3s (c,(None,50))";
    check(left(), |s| s.right_outer_join(&right(&s)), outer);
    check(left(), |s| s.right_outer_join_partitioned(&right(&s), 3), outer);
    let outer = "1s (a,(Some(1),Some(10))) (a,(Some(1),Some(20))) (a,(Some(2),Some(10))) (a,(Some(2),Some(20))) \
                 (b,(Some(3),None)) (d,(None,Some(40)))\n2s (c,(Some(4),None))\n3s (c,(None,Some(50)))";
    check(left(), |s| s.full_outer_join(&right(&s)), outer);
    check(left(), |s| s.full_outer_join_partitioned(&right(&s), 3), outer);
    let grouped = "1s (a,([1, 2],[10, 20])) (b,([3],[])) (d,([],[40]))\n2s (c,([4],[]))\n3s (c,([],[50]))";
    check(left(), |s| s.cogroup(&right(&s)), grouped);
    check(left(), |s| s.cogroup_partitioned(&right(&s), 3), grouped);
}

#[test]
fn pd_keys_are_placed_over_the_default_parallelism_or_as_the_program_says() {
    let mut test = Check::new(5, 2).context();
    let pairs = test.input(batches![[("a", 1), ("b", 2)]]);
    let counts = Notes::default();
    for stream in [
        pairs.reduce_by_key(|a, b| a + b),
        pairs.reduce_by_key_partitioned(|a, b| a + b, 2),
        pairs.reduce_by_key_partitioned(|a, b| a + b, Partitioner::hash(3)),
        pairs.join(&pairs).map_values(|(v, _)| v),
        pairs.join_partitioned(&pairs, 4).map_values(|(v, _)| v),
    ] {
        let noted = counts.clone();
        stream.foreach_rdd(move |rdd, _| noted.add(rdd.num_partitions()));
    }
    test.run(1).unwrap();
    assert_eq!(counts.all(), [5, 2, 3, 5, 4]);
}

// -------------------------------------------------------------------------------------------------- inputs of one's own

#[test]
fn in01_in02_s104_inputs_of_every_kind_are_numbered_in_the_order_they_are_made() {
    struct Numbered(Notes<(u64, u128, usize)>);
    impl InputSource for Numbered {
        type Item = u64;
        type Allocation = u64;
        fn start(&mut self, input: &InputContext) -> Result<()> {
            let parallelism = input.context().default_parallelism();
            self.0.add((input.number(), input.interval().as_millis(), parallelism));
            assert_eq!(input.conf().concurrent_jobs, 1);
            Ok(())
        }
        fn allocate(&mut self, batch: Time, limit: Option<Rate>) -> Result<u64> {
            assert!(limit.is_none());
            Ok(batch.as_millis() as u64)
        }
        fn rdd(&self, allocation: &u64, context: &Context) -> Result<Option<Rdd<u64>>> {
            Ok((*allocation != 2000).then(|| context.parallelize(vec![*allocation], 1)))
        }
    }
    let test = Check::new(3, 2).with_conf(secs(1), |_| {});
    let started = Notes::default();
    let first = test.ssc().input(Numbered(started.clone()));
    let _queue = test.ssc().queue_stream(&RddQueue::<u64>::new());
    let _mapped = first.map(|n| n);
    let third = test.ssc().input(Numbered(started.clone()));
    let (items, _) = (gather(&first), gather(&third));
    test.ssc().start().unwrap();
    advance(&test, 1, 3);
    assert_eq!(started.all(), [(0, 1000, 3), (2, 1000, 3)]);
    assert_eq!(items.all(), [1000, 3000], "a source may have no Rdd in a batch");
}
