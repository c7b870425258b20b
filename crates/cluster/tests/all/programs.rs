//! What programs see of a cluster: nothing, but that their tasks are in other processes.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use millstream_cluster::Cluster;
use millstream_core::checkpoint::MemoryCheckpoints;
use millstream_core::clock::monotonic;
use millstream_core::conf::EngineConf;
use millstream_core::{Context, ErrorKind, StorageLevel, TaskContext, Text, capture, capture_ref};

fn attempt() -> u32 {
    TaskContext::current().map_or(9, |task| task.attempt())
}

/// A context on a cluster that the tests of this file share.
pub(crate) fn context() -> Context {
    static CLUSTER: LazyLock<Arc<Cluster>> = LazyLock::new(|| {
        let mut conf = EngineConf::new("local-cluster[2,1]", "t").unwrap();
        // Nobody is thought to be lost because the machine is busy: how often things are made is counted.
        conf.set("spark.network.timeout", "60s").unwrap();
        Arc::new(Cluster::start(&conf).unwrap())
    });
    let conf = EngineConf::new("local-cluster[2,1]", "t").unwrap();
    Context::builder(conf).with_backend(Arc::clone(&*CLUSTER) as _).build().unwrap()
}

#[test]
fn words_are_counted_in_other_processes() {
    let context = context();
    let lines: Vec<Text> = (0..100).map(|i| Text::from(format!("the quick fox {}", i % 3))).collect();
    let words = context.parallelize(lines, 2).flat_map(|line| line.split(' ')).map(|word| (word, 1u64));
    let mut counts = words.reduce_by_key_partitioned(|a, b| a + b, 2).collect().unwrap();
    counts.sort();
    let want = [("0", 34), ("1", 33), ("2", 33), ("fox", 100), ("quick", 100), ("the", 100)];
    assert_eq!(counts, want.map(|(word, count)| (Text::from(word), count)));
    let processes = context.range(0, 2, 1, 2).map(|_| std::process::id()).collect().unwrap();
    let distinct: BTreeSet<u32> = processes.into_iter().collect();
    assert!(!distinct.contains(&std::process::id()));
}

#[test]
fn a_job_is_a_graph_and_each_stage_of_it_runs_once() {
    let context = context();
    let runs = context.long_accumulator("runs");
    let seen = capture(runs.clone(), |runs, x: i64| {
        runs.add(1);
        (x % 3, x)
    });
    let sums = context.range(0, 10, 1, 2).map(seen).reduce_by_key_partitioned(|a, b| a + b, 3);
    // Read by a join, by a union of another number of partitions, and through a coalesce.
    let joined = sums.join_partitioned(&sums.map_values(|v| v + 1), 2).map(|(k, (a, b))| (k, a + b));
    let all = joined.union(&sums).union(&sums.coalesce(1)).repartition(2);
    let mut got = all.collect().unwrap();
    got.sort_unstable();
    let once = [(0, 18), (1, 12), (2, 15)];
    let mut want: Vec<(i64, i64)> = once.iter().map(|(k, v)| (*k, 2 * v + 1)).chain(once).chain(once).collect();
    want.sort_unstable();
    assert_eq!(got, want);
    assert_eq!(runs.value(), 10, "each element was mapped once");
}

#[test]
fn all_closures_of_a_job_that_capture_silently_are_told_with_their_lines() {
    let context = context();
    let limit = std::hint::black_box(3);
    let lines = [line!() + 1, line!() + 2];
    let pairs = context.range(0, 10, 1, 2).map(move |x| (x % limit, x));
    let error = pairs.reduce_by_key(move |a, b| a + b + limit).collect().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::User);
    for line in lines {
        assert!(error.to_string().contains(&format!("programs.rs:{line}")), "{line} in {error}");
    }
    let named = context.range(0, 10, 1, 2).filter(capture_ref(limit, |limit, x: &i64| x % limit == 0));
    assert_eq!(named.count().unwrap(), 4);
}

#[test]
fn an_error_and_a_panic_are_told_with_their_lines_and_not_tried_again() {
    let context = context();
    let numbers = context.range(0, 4, 1, 2);
    let line = line!() + 1;
    let bad = numbers.map(|x| if x == 3 { panic!("attempt {}", attempt()) } else { x });
    let error = bad.collect().unwrap_err();
    let text = error.to_string();
    assert!(text.contains("panicked: attempt 0") && text.contains(&format!("programs.rs:{line}")), "{text}");
    assert_eq!(error.kind(), ErrorKind::User);
    let refused = context.range(0, 4, 1, 2).foreach_partition(|_| Err("no such sensor".into()));
    assert!(refused.unwrap_err().to_string().starts_with("no such sensor (foreach_partition at"));
    assert_eq!(context.range(0, 4, 1, 2).count().unwrap(), 4, "the next job is as good as ever");
}

#[test]
fn few_elements_are_taken_without_computing_all() {
    let context = context();
    let read = context.long_accumulator("read");
    let count = capture(read.clone(), |read, x: i64| {
        read.add(1);
        x
    });
    let numbers = context.range(0, 1_000_000, 1, 8).map(count);
    assert_eq!(numbers.take(3).unwrap(), [0, 1, 2]);
    assert!(read.value() < 10_000, "{}", read.value());
    assert_eq!(numbers.map(|x| (x % 2, x)).partition_by(4).first().unwrap().0 % 2, 0);
}

#[test]
fn foreach_partition_runs_where_the_partition_is() {
    let context = context();
    let processes = context.collection_accumulator::<u32>("processes");
    let note = capture(processes.clone(), |processes, items: millstream_core::PartitionIter<i64>| {
        items.for_each(drop);
        processes.add(std::process::id());
        millstream_core::Result::Ok(())
    });
    context.range(0, 10, 1, 4).foreach_partition(note).unwrap();
    let processes = processes.value();
    assert_eq!(processes.len(), 4);
    assert!(!processes.contains(&std::process::id()));
}

#[test]
fn what_is_persisted_is_found_again_at_every_level_and_forgotten_everywhere() {
    let context = context();
    for level in ["MEMORY_ONLY", "MEMORY_ONLY_SER", "DISK_ONLY", "MEMORY_AND_DISK_2"] {
        let made = context.long_accumulator("made");
        let make = capture(made.clone(), |made, x: i64| {
            made.add(1);
            x * 2
        });
        let doubled = context.range(0, 100, 1, 2).map(make);
        doubled.persist(level.parse::<StorageLevel>().unwrap());
        for _ in 0..3 {
            assert_eq!(doubled.reduce(|a, b| a + b).unwrap(), 9900, "{level}");
        }
        assert_eq!(made.value(), 100, "{level}: made once");
        doubled.unpersist();
        assert_eq!(doubled.count().unwrap(), 100);
        assert_eq!(made.value(), 200, "{level}: made again");
    }
}

#[test]
fn checkpoints_are_written_and_read_by_way_of_the_driver() {
    let context = context();
    let store = Arc::new(MemoryCheckpoints::new());
    context.set_checkpoint_store(Arc::clone(&store) as _);
    let made = context.long_accumulator("made");
    let make = capture(made.clone(), |made, x: i64| {
        made.add(1);
        x
    });
    let numbers = context.range(0, 10, 1, 2).map(make);
    numbers.checkpoint();
    assert_eq!(numbers.count().unwrap(), 10);
    let before = made.value();
    assert_eq!(store.names().len(), 2);
    assert_eq!(numbers.collect().unwrap(), (0..10).collect::<Vec<_>>());
    assert_eq!(made.value(), before, "it was read, and not made");
}

#[test]
fn large_rows_and_many_partitions_go_through() {
    let context = context();
    let long = context.range(0, 3, 1, 3).map(|i| (i, vec![i as u8; 9 << 20]));
    let sizes = long.partition_by(2).map(|(i, bytes)| (i, bytes.len(), bytes.iter().all(|b| *b == i as u8)));
    let mut sizes = sizes.collect().unwrap();
    sizes.sort_unstable();
    assert_eq!(sizes, [0, 1, 2].map(|i| (i, 9 << 20, true)));
    let long = context.range(0, 1, 1, 1).map(|_| vec![7u8; 20 << 20]).collect().unwrap();
    assert_eq!(long[0].len(), 20 << 20);
    let spread = context.range(0, 1000, 1, 40).map(|x| (x, 1i64)).partition_by(30).map(|(_, one)| one);
    assert_eq!(spread.reduce(|a, b| a + b).unwrap(), 1000);
}

#[test]
fn values_of_the_program_are_sent_to_the_tasks_that_read_them_also_several_at_once() {
    // Two partitions are one task of Ballista's here.
    let conf = EngineConf::new("local-cluster[1,2]", "given").unwrap();
    let several = Context::builder(conf).build().unwrap();
    for context in [context(), several] {
        let words: Vec<String> = (0..4000).map(|n| format!("word number {n:05}")).collect();
        let given = context.parallelize(words.clone(), 5);
        assert_eq!(given.map(|word| word).collect().unwrap(), words);
        let few = context.range(0, 3, 1, 2).map(|n| n.to_string());
        let both = few.union(&given.coalesce(2)).map(|word| (word.len(), 1u64));
        let mut counts = both.reduce_by_key_partitioned(|a, b| a + b, 3).collect().unwrap();
        counts.sort_unstable();
        assert_eq!(counts, [(1, 3), (17, 4000)]);
        assert_eq!(given.filter(|word| word.ends_with('7')).take(401).unwrap().len(), 400);
    }
}

#[test]
fn a_job_that_is_cancelled_ends_and_so_do_its_tasks() {
    let (context, folder) = (context(), tempfile::tempdir().unwrap());
    let endless = capture(folder.path().to_path_buf(), |folder, x: i64| {
        let task = TaskContext::current().unwrap();
        std::fs::write(folder.join(format!("began-{x}")), b"").unwrap();
        while !task.is_cancelled() {
            std::thread::yield_now();
        }
        std::fs::write(folder.join(format!("ended-{x}")), b"").unwrap();
    });
    let endless = context.range(0, 2, 1, 2).foreach_async(endless);
    let both = |what: &str| {
        let begun = monotonic();
        while !(0..2).all(|x| folder.path().join(format!("{what}-{x}")).exists()) {
            assert!(monotonic() - begun < Duration::from_secs(60), "they have not {what}");
            std::thread::yield_now();
        }
    };
    both("began");
    endless.cancel();
    assert_eq!(endless.get().unwrap_err().kind(), ErrorKind::Stopped);
    both("ended");
    assert_eq!(context.range(0, 4, 1, 2).count().unwrap(), 4, "its slots are free again");
}

#[test]
fn a_job_may_be_cancelled_at_any_moment_of_its_beginning() {
    let context = context();
    for round in 0..12 {
        let endless = context.range(0, 2, 1, 2).foreach_async(|_| {
            let task = TaskContext::current().unwrap();
            while !task.is_cancelled() {
                std::thread::yield_now();
            }
        });
        // Before it is handed over, while it is planned, and when its tasks are given away.
        let until = monotonic() + Duration::from_millis(round);
        while monotonic() < until {
            std::thread::yield_now();
        }
        endless.cancel();
        assert_eq!(endless.get().unwrap_err().kind(), ErrorKind::Stopped, "after {round} ms");
    }
    assert_eq!(context.range(0, 4, 1, 2).count().unwrap(), 4, "its slots are free again");
}

#[test]
fn empty_and_unasked_partitions_are_no_trouble() {
    let context = context();
    assert!(context.empty::<i64>().collect().unwrap().is_empty());
    assert_eq!(context.empty::<(i64, i64)>().reduce_by_key(|a, b| a + b).count().unwrap(), 0);
    let pairs = context.empty::<(i64, i64)>().union(&context.range(0, 2, 1, 1).map(|x| (x, x)));
    assert_eq!(pairs.partition_by(3).count().unwrap(), 2);
    assert_eq!(context.empty::<(i64, i64)>().partition_by(3).glom().count().unwrap(), 3);
}
