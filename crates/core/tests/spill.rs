//! One memory budget: what does not fit goes to disk, and results are the same to the order inside of partitions.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::path::Path;

use millstream_core::conf::EngineConf;
use millstream_core::memory::Holder;
use millstream_core::{Context, ErrorKind, ExchangeData, Rdd, StorageLevel, Text};

/// Little enough that everything below has to spill, many times.
const LITTLE: u64 = 64 << 10;
const ITEMS: u64 = 25_000;

fn context(memory: Option<u64>, folder: &Path) -> Context {
    let conf =
        EngineConf { memory, local_dir: Some(folder.to_path_buf()), ..EngineConf::new("local[3]", "spill").unwrap() };
    Context::builder(conf).build().unwrap()
}

fn files(folder: &Path) -> usize {
    let inside = |folder: &Path| std::fs::read_dir(folder).map_or(0, Iterator::count);
    std::fs::read_dir(folder).unwrap().map(|entry| inside(&entry.unwrap().path())).sum()
}

/// Gives what `job` makes with much memory and with little, partition by partition, and checks that they are equal, that
/// the little was not enough, and that no file is left.
#[track_caller]
fn same<T: ExchangeData + PartialEq + std::fmt::Debug>(what: &str, job: impl Fn(&Context) -> Rdd<T>) {
    let folder = tempfile::tempdir().unwrap();
    let expected = {
        let context = context(None, folder.path());
        let parts = job(&context).glom().collect().unwrap();
        assert_eq!(files(folder.path()), 0, "{what}: much memory is enough");
        parts
    };
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let context = context(Some(LITTLE), folder.path());
    let rdd = job(&context);
    let parts = rdd.glom().collect().unwrap();
    assert!(files(folder.path()) > 0, "{what}: little memory was enough");
    assert!(parts == expected, "{what}: the results differ");
    drop(rdd);
    assert_eq!(files(folder.path()), 0, "{what}: a file outlives its Rdd");
    assert_eq!(context.env().memory.used(), 0, "{what}: memory is held that nobody has");
    drop(context);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{what}: a folder outlives its context");
}

/// Numbers all over the place; the same for the same `i`.
fn mixed(i: u64) -> u64 {
    let x = (i ^ (i >> 7)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^ (x >> 29)
}

/// Pairs of many keys, some of which come often.
fn pairs(context: &Context) -> Rdd<(Text, u64)> {
    let keys = |i: u64| if mixed(i).is_multiple_of(3) { mixed(i) % 7 } else { mixed(i) % 6000 };
    context.parallelize((0..ITEMS).collect(), 5).map(move |i| (Text::from(format!("key {}", keys(i))), i))
}

#[test]
fn pr04_reduced_values_are_the_same_with_little_memory() {
    same("reduce", |c| pairs(c).reduce_by_key_partitioned(|a, b| a.wrapping_mul(31).wrapping_add(b), 4));
    same("one partition", |c| pairs(c).reduce_by_key_partitioned(u64::max, 1));
    same("numbers", |c| {
        c.parallelize((0..ITEMS).collect(), 3).map(|i| (mixed(i), i)).reduce_by_key_partitioned(|a, b| a + b, 2)
    });
}

#[test]
fn pr04_sums_of_floats_are_the_same_to_the_last_bit() {
    same("floats", |c| {
        pairs(c)
            .map_values(|v| 1.0 / (v as f64 + 0.3))
            .reduce_by_key_partitioned(|a, b| a + b, 3)
            .map_values(f64::to_bits)
    });
}

#[test]
fn pr01_combined_values_that_grow_are_the_same_with_little_memory() {
    same("texts that grow", |c| {
        pairs(c).map_values(|v| v.to_string()).reduce_by_key_partitioned(|a, b| format!("{a},{b}"), 3)
    });
    same("lists", |c| {
        pairs(c).combine_by_key(
            |v| vec![v],
            |mut list: Vec<u64>, v| {
                list.push(v);
                list
            },
            |mut a, b| {
                a.extend(b);
                a
            },
        )
    });
}

#[test]
fn pr06_grouped_values_keep_their_order_with_little_memory() {
    same("group", |c| pairs(c).group_by_key_partitioned(3));
    same("one key", |c| pairs(c).map(|(_, v)| (1u8, v)).group_by_key_partitioned(2));
    same("in place", |c| pairs(c).partition_by(3).group_by_key_partitioned(3));
}

#[test]
fn pr12_cogrouped_values_keep_their_order_with_little_memory() {
    let other = |c: &Context| pairs(c).map(|(key, v)| (key, format!("{v:x}"))).filter(|(_, v)| v.len() > 3);
    same("cogroup", |c| pairs(c).cogroup_partitioned(&other(c), 3));
    same("one side in place", |c| pairs(c).partition_by(4).cogroup(&other(c)));
}

#[test]
fn pr08_to_pr11_joins_are_the_same_with_little_memory() {
    let left = |c: &Context| c.parallelize((0..ITEMS / 2).collect(), 3).map(|i| (mixed(i) % 20_000, i));
    let right = |c: &Context| c.parallelize((0..ITEMS / 2).collect(), 4).map(|i| (mixed(i + 77) % 20_000, i));
    same("join", |c| left(c).join_partitioned(&right(c), 3));
    same("left", |c| left(c).left_outer_join_partitioned(&right(c), 3));
    same("right", |c| left(c).right_outer_join_partitioned(&right(c), 3));
    same("full", |c| left(c).full_outer_join_partitioned(&right(c), 3));
}

#[test]
fn rd18_or01_sorted_rows_are_the_same_with_little_memory_and_equal_ones_keep_their_order() {
    same("sort_by", |c| pairs(c).sort_by(|(_, v)| mixed(*v) % 1000));
    same("sort_by_key", |c| pairs(c).sort_by_key());
    same("one partition", |c| pairs(c).sort_by_partitioned(|(key, _)| key.clone(), 1));
}

#[test]
fn rd09_rd10_pr07_distinct_and_moved_elements_are_the_same_with_little_memory() {
    same("distinct", |c| c.parallelize((0..ITEMS).collect(), 3).map(|i| mixed(i) % 15_000).distinct());
    same("repartition", |c| pairs(c).repartition(4));
    same("partition_by", |c| pairs(c).partition_by(4));
    same("nothing in them", |c| {
        c.parallelize((0..ITEMS).collect(), 3)
            .map(|_| ((), ()))
            .repartition(2)
            .union(&pairs(c).map(|_| ((), ())))
            .union(&pairs(c).repartition(2).map(|_| ((), ())))
    });
}

#[test]
fn keys_whose_hashes_are_all_alike_come_out_right_with_little_memory() {
    #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
    struct Same(u64);
    impl std::hash::Hash for Same {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            0u8.hash(state);
        }
    }
    same("one hash", |c| {
        c.parallelize((0..6000u64).collect(), 3).map(|i| (Same(i % 1500), i)).group_by_key_partitioned(2)
    });
}

#[test]
fn several_shuffles_behind_each_other_share_the_budget() {
    same("chain", |c| {
        let counts = pairs(c).map_values(|_| 1u64).reduce_by_key_partitioned(|a, b| a + b, 4);
        pairs(c).join_partitioned(&counts, 3).map(|(key, (v, n))| (n, (key, v))).sort_by_key()
    });
}

#[test]
fn sv03_rd28_persisted_partitions_are_read_again_with_little_memory_at_every_level() {
    for level in [
        StorageLevel::MEMORY_ONLY,
        StorageLevel::MEMORY_ONLY_SER,
        StorageLevel::MEMORY_AND_DISK,
        StorageLevel::MEMORY_AND_DISK_SER,
        StorageLevel::DISK_ONLY,
        StorageLevel::OFF_HEAP,
        StorageLevel::MEMORY_ONLY_2,
    ] {
        for partitions in [2, 40] {
            let folder = tempfile::tempdir().unwrap();
            let context = context(Some(LITTLE), folder.path());
            let computed = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
            let count = std::sync::Arc::clone(&computed);
            let rdd = context.parallelize((0..ITEMS).collect(), partitions).map(move |i| {
                count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                (Text::from(format!("element {i}")), i)
            });
            let expected = rdd.collect().unwrap();
            let before = computed.load(std::sync::atomic::Ordering::Relaxed);
            rdd.persist(level);
            for _ in 0..3 {
                assert!(rdd.collect().unwrap() == expected, "{level}");
            }
            let times = (computed.load(std::sync::atomic::Ordering::Relaxed) - before) / ITEMS;
            assert_eq!(times == 1, level.use_disk(), "{level}: computed {times} times");
            let (memory, usage) = (&context.env().memory, context.env().blocks.usage());
            assert!(usage.memory as u64 <= memory.limit(), "{level}: {usage:?}");
            assert_eq!(memory.held(Holder::Blocks), usage.memory as u64);
            assert_eq!(usage.disk > 0, level.use_disk(), "{level}");
            drop(rdd);
            assert_eq!((files(folder.path()), memory.used()), (0, 0), "{level}");
        }
    }
}

#[test]
fn a_value_that_is_larger_than_the_budget_passes() {
    let folder = tempfile::tempdir().unwrap();
    let context = context(Some(LITTLE), folder.path());
    let large = |n: u64| context.parallelize((0..n).collect(), 2).map(|i| (i % 2, vec![i; 100_000]));
    let lengths = large(4).group_by_key().map_values(|lists| lists.iter().map(Vec::len).sum::<usize>());
    assert_eq!(lengths.values().collect().unwrap(), [200_000, 200_000]);
    assert_eq!(large(3).sort_by(|(key, _)| *key).keys().collect().unwrap(), [0, 0, 1]);
}

#[test]
fn a_disk_that_refuses_fails_the_job_by_the_files_name_and_the_context_stays_usable() {
    let folder = tempfile::tempdir().unwrap();
    let closed = folder.path().join("a file");
    std::fs::write(&closed, "x").unwrap();
    let context = context(Some(LITTLE), &closed);
    let jobs: [(&str, Rdd<(Text, u64)>); 4] = [
        ("reduce", pairs(&context).reduce_by_key(|a, b| a + b)),
        ("move", pairs(&context).partition_by(3)),
        ("group", pairs(&context).group_by_key().map_values(|list| list.len() as u64)),
        ("sort", pairs(&context).sort_by_partitioned(|(_, v)| *v, 1)),
    ];
    for (what, job) in jobs {
        let error = job.count().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{what}: {error}");
        assert!(error.to_string().contains(&*closed.to_string_lossy()), "{what}: {error}");
    }
    assert_eq!(context.env().memory.held(Holder::Tasks), 0);
    assert_eq!(context.parallelize(vec![1u64, 2], 2).map(|x| (x, x)).reduce_by_key(|a, _| a).count().unwrap(), 2);
}

#[test]
fn files_are_gone_when_the_context_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let context = context(Some(LITTLE), folder.path());
    let rdd = pairs(&context).repartition(3);
    assert_eq!(rdd.count().unwrap(), ITEMS);
    assert!(files(folder.path()) > 0);
    context.stop();
    assert_eq!(files(folder.path()), 0);
}
