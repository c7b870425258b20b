//! Input that no program should have, and some do: a clear error or a right answer, never a hang, an abort or a wrong result.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use common::sorted;
use millstream_core::conf::EngineConf;
use millstream_core::{Context, ErrorKind, Partitioner, Rdd, Result, StorageLevel};
use serde::{Deserialize, Serialize};

/// So little that everything goes to disk.
const LITTLE: u64 = 16 << 10;

fn with_memory(threads: usize, memory: Option<u64>) -> Context {
    let conf = EngineConf { memory, ..EngineConf::new(&format!("local[{threads}]"), "bad input").unwrap() };
    Context::builder(conf).build().unwrap()
}

/// The ways in which the table of a test is run: on one thread and on more, in memory and on disk.
fn ways() -> Vec<Context> {
    [(1, None), (3, None), (1, Some(LITTLE)), (3, Some(LITTLE))].map(|(n, memory)| with_memory(n, memory)).into()
}

/// An operation under test, and the line that it stands on.
type Row<F> = (&'static str, F, u32);

#[track_caller]
fn at_line<T>(what: &str, result: Result<T>, kind: ErrorKind, text: &str, op: &str, line: u32) {
    let error = result.map(drop).expect_err(what);
    assert_eq!(error.kind(), kind, "{what}: {error}");
    assert!(error.to_string().contains(text), "{what}: {error}");
    let site = error.site().unwrap_or_else(|| panic!("{what} has no line: {error}"));
    assert_eq!((site.op(), site.line()), (op, line), "{what}: {error}");
    assert!(site.file().ends_with("bad_input.rs"), "{what}: {error}");
}

fn still_works(context: &Context) {
    assert_eq!(context.range(0, 100, 1, 3).map(|n| (n % 2, n)).reduce_by_key(|a, b| a + b).count().unwrap(), 2);
}

// ------------------------------------------------------------------------------------------------ partition counts

type Spread = fn(&Context, usize) -> (Rdd<u64>, u32);

fn ten(context: &Context) -> Rdd<u64> {
    context.parallelize((0..10).collect(), 3)
}

fn tens(context: &Context) -> Rdd<(u64, u64)> {
    ten(context).map(|n| (n, n))
}

#[rustfmt::skip]
const SPREADS: &[(&str, Spread)] = &[
    ("parallelize", |c, n| (c.parallelize((0..10).collect(), n), line!())),
    ("range", |c, n| (c.range(0, 10, 1, n).map(|n| n as u64), line!())),
    ("repartition", |c, n| (ten(c).repartition(n), line!())),
    ("coalesce", |c, n| (ten(c).coalesce(n), line!())),
    ("partition_by", |c, n| (tens(c).partition_by(n).keys(), line!())),
    ("partition_by", |c, n| (tens(c).partition_by(Partitioner::custom(n, |_: &u64| 0)).keys(), line!())),
    ("reduce_by_key_partitioned", |c, n| (tens(c).reduce_by_key_partitioned(|a, _| a, n).keys(), line!())),
    ("group_by_key_partitioned", |c, n| (tens(c).group_by_key_partitioned(n).keys(), line!())),
    ("group_by_partitioned", |c, n| (ten(c).group_by_partitioned(|n| *n, n).keys(), line!())),
    ("aggregate_by_key_partitioned", |c, n| (tens(c).aggregate_by_key_partitioned(0, |a, b| a + b, |a, b| a + b, n).keys(), line!())),
    ("fold_by_key_partitioned", |c, n| (tens(c).fold_by_key_partitioned(0, |a, b| a + b, n).keys(), line!())),
    ("distinct_partitioned", |c, n| (ten(c).distinct_partitioned(n), line!())),
    ("sort_by_partitioned", |c, n| (ten(c).sort_by_partitioned(|n| *n, n), line!())),
    ("sort_by_key_partitioned", |c, n| (tens(c).sort_by_key_partitioned(n).keys(), line!())),
    ("sort_by_key_descending_partitioned", |c, n| (tens(c).sort_by_key_descending_partitioned(n).keys(), line!())),
    ("repartition_and_sort_within_partitions", |c, n| (tens(c).repartition_and_sort_within_partitions(n).keys(), line!())),
    ("cogroup_partitioned", |c, n| (tens(c).cogroup_partitioned(&tens(c), n).keys(), line!())),
    ("join_partitioned", |c, n| (tens(c).join_partitioned(&tens(c), n).keys(), line!())),
    ("left_outer_join_partitioned", |c, n| (tens(c).left_outer_join_partitioned(&tens(c), n).keys(), line!())),
    ("right_outer_join_partitioned", |c, n| (tens(c).right_outer_join_partitioned(&tens(c), n).keys(), line!())),
    ("full_outer_join_partitioned", |c, n| (tens(c).full_outer_join_partitioned(&tens(c), n).keys(), line!())),
    ("intersection_partitioned", |c, n| (ten(c).intersection_partitioned(&ten(c), n), line!())),
    ("subtract_partitioned", |c, n| (ten(c).subtract_partitioned(&c.empty(), n), line!())),
    ("subtract_by_key_partitioned", |c, n| (tens(c).subtract_by_key_partitioned(&c.empty::<(u64, u8)>(), n).keys(), line!())),
];

#[test]
fn no_partitions_are_taken_as_one_and_too_many_are_refused_by_name() {
    let context = with_memory(2, None);
    for (op, spread) in SPREADS {
        let (rdd, _) = spread(&context, 0);
        assert_eq!(sorted(rdd.collect().unwrap()), (0..10).collect::<Vec<_>>(), "{op}");
        assert_eq!(rdd.num_partitions(), 1, "{op}");
        for many in [(1 << 20) + 1, 1 << 40, usize::MAX] {
            let (rdd, line) = spread(&context, many);
            if op.starts_with("sort_by") || *op == "coalesce" {
                // Never more than there are keys, or partitions.
                assert_eq!(sorted(rdd.collect().unwrap()), (0..10).collect::<Vec<_>>(), "{op}");
            } else {
                at_line(op, rdd.collect(), ErrorKind::Config, &format!("{many} partitions are too many"), op, line);
            }
        }
    }
    assert_eq!(ten(&context).tree_reduce(|a, b| a + b, 0).unwrap(), 45);
    assert_eq!(ten(&context).tree_aggregate(0, |a, b| a + b, |a, b| a + b, usize::MAX).unwrap(), 45);
}

#[test]
fn files_are_read_in_no_more_parts_than_they_have_bytes() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a"), "1\n2\n3\n").unwrap();
    let context = with_memory(2, None);
    context
        .range(0, 10, 1, 2)
        .map(|n| (n, n))
        .save_with(folder.path().join("seq"), millstream_core::SequenceFiles::new())
        .unwrap();
    let path = folder.path().join("a");
    for n in [0, 1, usize::MAX] {
        assert_eq!(context.text_files(std::slice::from_ref(&path), n).count().unwrap(), 3, "{n}");
        assert_eq!(context.whole_text_files(&path, n).count().unwrap(), 1, "{n}");
        assert_eq!(context.binary_files(&path, n).count().unwrap(), 1, "{n}");
        assert_eq!(context.sequence_file::<i64, i64>(folder.path().join("seq"), n).count().unwrap(), 10, "{n}");
    }
}

#[test]
fn amounts_that_cannot_be_are_refused_and_those_that_can_are_right() {
    let context = with_memory(2, None);
    let numbers = ten(&context);
    for n in [usize::MAX, 1 << 40] {
        assert_eq!(numbers.take(n).unwrap().len(), 10);
        assert_eq!(numbers.top(n).unwrap().len(), 10);
        assert_eq!(numbers.take_ordered(n).unwrap().len(), 10);
        assert_eq!(numbers.take_sample(false, n, 1).unwrap().len(), 10);
        let (sample, line) = (numbers.take_sample(true, n, 1), line!());
        at_line("a sample", sample, ErrorKind::Config, "does not fit", "take_sample", line);
        let (histogram, line) = (numbers.histogram(n), line!());
        at_line("a histogram", histogram, ErrorKind::Config, "a histogram needs", "histogram", line);
    }
    for n in [0, 1] {
        assert_eq!((numbers.take(n).unwrap().len(), numbers.top(n).unwrap().len()), (n, n));
        assert_eq!((numbers.take_ordered(n).unwrap().len(), numbers.take_sample(true, n, 1).unwrap().len()), (n, n));
    }
    assert_eq!(numbers.histogram(0).unwrap_err().kind(), ErrorKind::Config);
    // A factor that never reads more is one that reads one after the other.
    for factor in [0, 1, usize::MAX] {
        let conf = EngineConf { take_scale_up: factor, ..EngineConf::new("local[2]", "takes").unwrap() };
        let context = Context::builder(conf).build().unwrap();
        assert_eq!(
            context.parallelize((0..10).collect(), 7).take(9).unwrap(),
            (0..9).collect::<Vec<i32>>(),
            "{factor}"
        );
    }
}

#[test]
fn waits_of_nothing_and_for_ever() {
    let context = with_memory(2, None);
    let numbers = ten(&context);
    for timeout in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        assert_eq!(numbers.count_approx(timeout, 0.9).unwrap().final_value().unwrap().mean, 10.0);
        assert_eq!(numbers.sum_approx(timeout, 0.9).unwrap().final_value().unwrap().mean, 45.0);
        assert_eq!(numbers.mean_approx(timeout, 0.9).unwrap().final_value().unwrap().mean, 4.5);
        assert_eq!(numbers.count_by_value_approx(timeout, 0.9).unwrap().final_value().unwrap().len(), 10);
        assert_eq!(tens(&context).count_by_key_approx(timeout, 0.9).unwrap().final_value().unwrap().len(), 10);
        let count = numbers.count_async();
        count.wait_for(timeout);
        assert_eq!(count.get().unwrap(), 10);
    }
}

// ----------------------------------------------------------------------------------------------------- comparators

/// A key that refuses to be compared with a seven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Touchy(u64);

impl Ord for Touchy {
    fn cmp(&self, other: &Touchy) -> Ordering {
        assert!(self.0 != 7 && other.0 != 7, "seven is not compared");
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for Touchy {
    fn partial_cmp(&self, other: &Touchy) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A key that says something else of its order for each pair, and not the opposite the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Fickle(u64);

impl Ord for Fickle {
    fn cmp(&self, other: &Fickle) -> Ordering {
        let mixed = (self.0 ^ other.0.rotate_left(17)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 61;
        [Ordering::Less, Ordering::Greater, Ordering::Equal][mixed as usize % 3]
    }
}

impl PartialOrd for Fickle {
    fn partial_cmp(&self, other: &Fickle) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Declares, for a type of key, each operation that compares keys; gives how many elements come out, or which do.
macro_rules! comparing {
    ($name:ident, $key:ident) => {
        #[rustfmt::skip]
        const $name: &[(&str, fn(&Rdd<u64>) -> (Result<Vec<u64>>, u32))] = &[
            ("sort_by", |r| (r.sort_by(|n| $key(*n)).collect(), line!())),
            ("sort_by_partitioned", |r| (r.sort_by_partitioned(|n| $key(*n), 1).collect(), line!())),
            ("sort_by_partitioned", |r| (r.sort_by_partitioned(|n| $key(*n), 5).map(|n| n).collect(), line!())),
            ("sort_by_key", |r| (r.map(|n| ($key(n), n)).sort_by_key().values().collect(), line!())),
            ("sort_by_key_partitioned", |r| (r.map(|n| ($key(n), n)).sort_by_key_partitioned(4).values().collect(), line!())),
            ("sort_by_key_descending", |r| (r.map(|n| ($key(n), n)).sort_by_key_descending().values().collect(), line!())),
            ("repartition_and_sort_within_partitions", |r| (r.map(|n| ($key(n), n)).repartition_and_sort_within_partitions(3).values().collect(), line!())),
            ("top", |r| (r.map($key).top(5000).map(|top| top.into_iter().map(|key| key.0).collect()), line!())),
            ("top_by", |r| (r.top_by(5000, |n| $key(*n)), line!())),
            ("take_ordered", |r| (r.map($key).take_ordered(5000).map(|top| top.into_iter().map(|key| key.0).collect()), line!())),
        ];
    };
}

comparing!(TOUCHY, Touchy);
comparing!(FICKLE, Fickle);

#[test]
fn a_comparison_that_panics_fails_the_job_with_its_line_also_on_the_driver() {
    for context in ways() {
        for (op, job) in TOUCHY {
            for n in [1, 4] {
                let (result, line) = job(&context.parallelize((0..1500).collect(), n));
                at_line(op, result, ErrorKind::User, "seven is not compared", op, line);
            }
        }
        // What is alone in its partition is compared on the driver only.
        let apart = context.parallelize_partitions(vec![vec![7], vec![1], vec![2]]);
        #[rustfmt::skip]
        let rows: [Row<Result<Vec<u64>>>; 6] = [
            ("sort_by", apart.sort_by(|n| Touchy(*n)).collect(), line!()),
            ("sort_by_key", apart.map(|n| (Touchy(n), n)).sort_by_key().values().collect(), line!()),
            ("top_by", apart.top_by(2, |n| Touchy(*n)), line!()),
            ("take_ordered", apart.map(Touchy).take_ordered(2).map(|_| Vec::new()), line!()),
            ("max", apart.map(Touchy).max().map(|max| vec![max.0]), line!()),
            ("min", apart.map(Touchy).min().map(|min| vec![min.0]), line!()),
        ];
        for (op, result, line) in rows {
            at_line(op, result, ErrorKind::User, "seven is not compared", op, line);
        }
        let placed = context.parallelize(vec![(Touchy(1), 1u64), (Touchy(9), 9)], 1).sort_by_key_partitioned(2);
        let (range, line) = (placed.filter_by_range(Touchy(7), Touchy(8)).collect(), line!());
        at_line("a range", range, ErrorKind::User, "seven is not compared", "filter_by_range", line);
        let (found, line) = (placed.lookup(&Touchy(7)), line!());
        at_line("a look-up", found, ErrorKind::User, "seven is not compared", "lookup", line);
        still_works(&context);
    }
}

#[test]
fn an_order_that_is_none_gives_all_elements_in_some_order_or_an_error_with_its_line() {
    for context in ways() {
        for (op, job) in FICKLE {
            for n in [1, 4] {
                match job(&context.parallelize((0..4000).collect(), n)) {
                    (Ok(all), _) => assert_eq!(sorted(all), (0..4000).collect::<Vec<_>>(), "{op}"),
                    (error, line) => at_line(op, error, ErrorKind::User, "total order", op, line),
                }
            }
        }
        let fickle = context.parallelize((0..4000).map(Fickle).collect(), 4);
        // What was placed by bounds that are in no order is not found again.
        let (placed, line) = (fickle.map(|key| (key, 1u64)).sort_by_key().reduce_by_key(|a, b| a + b).count(), line!());
        match placed {
            Ok(keys) => assert_eq!(keys, 4000),
            error => at_line("placed", error, ErrorKind::User, "", "sort_by_key", line),
        }
        assert!(fickle.max().unwrap().0 < 4000 && fickle.min().unwrap().0 < 4000);
        let range = fickle.map(|key| (key, key.0)).filter_by_range(Fickle(3), Fickle(9)).count();
        assert!(range.unwrap() < 4000);
        still_works(&context);
    }
}

#[test]
fn sv04_bounds_that_are_not_in_order_are_refused_and_not_searched() {
    let context = with_memory(2, None);
    let pairs = context.parallelize((0..10u64).map(|n| (n, n)).collect(), 2);
    for (bounds, ascending, way) in [(vec![5, 3], true, "upwards"), (vec![3, 5], false, "downwards")] {
        let (partitioner, line) = (Partitioner::range::<u64>(bounds, ascending), line!());
        let text = format!("not sorted {way}");
        for result in [
            pairs.partition_by(&partitioner).count(),
            pairs.reduce_by_key_partitioned(|a, b| a + b, &partitioner).count(),
            pairs.partition_by(&partitioner).filter_by_range(3, 4).count(),
        ] {
            at_line("bounds", result, ErrorKind::Config, &text, "Partitioner::range", line);
        }
    }
    let (partitioner, line) = (Partitioner::range(vec![Touchy(1), Touchy(7)], true), line!());
    let touchy = pairs.map(|(key, n)| (Touchy(key), n)).partition_by(partitioner).count();
    at_line("touchy bounds", touchy, ErrorKind::User, "seven is not compared", "Partitioner::range", line);
    let none = Partitioner::range(Vec::<u64>::new(), true);
    assert_eq!(pairs.partition_by(none).glom().collect().unwrap().len(), 1);
    assert_eq!(pairs.partition_by(Partitioner::range(vec![4u64, 4], true)).count().unwrap(), 10);
    assert_eq!(pairs.sort_by_key().filter_by_range(9, 3).count().unwrap(), 0);
}

// ------------------------------------------------------------------------------------------------- hash and equality

static CALLS: AtomicU64 = AtomicU64::new(0);

/// How a key breaks the law of `Hash` and `Eq`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Law {
    NeverEqual,
    EqualByTenButHashedByAll,
    HashedAnew,
    EqualAtTimes,
    /// No mistake, only slow.
    AllHashedAlike,
    HashPanics,
    EqPanics,
}

/// A number as a key under a law of its own.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Odd(u64, Law);

impl PartialEq for Odd {
    fn eq(&self, other: &Odd) -> bool {
        let (a, b) = (self.0, other.0);
        match self.1 {
            Law::NeverEqual => false,
            Law::EqualByTenButHashedByAll => a % 10 == b % 10,
            Law::EqualAtTimes => a == b && !CALLS.fetch_add(1, Relaxed).is_multiple_of(3),
            Law::EqPanics if a == 7 && b == 7 => panic!("seven is not compared"),
            _ => a == b,
        }
    }
}

impl Eq for Odd {}

impl Hash for Odd {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(match self.1 {
            Law::HashedAnew => CALLS.fetch_add(1, Relaxed),
            Law::AllHashedAlike => 1,
            Law::HashPanics if self.0 == 7 => panic!("seven is not hashed"),
            _ => self.0,
        });
    }
}

/// How many different keys there are among how many pairs.
const KEYS: u64 = 50;
const PAIRS: u64 = 600;

fn odd(context: &Context, law: Law) -> Rdd<(Odd, u64)> {
    context.parallelize((0..PAIRS).map(|n| (Odd(n % KEYS, law), 1)).collect(), 3)
}

type Keyed = fn(&Rdd<(Odd, u64)>) -> (Result<(u64, u64)>, u32);

fn total<K>(pairs: Vec<(K, u64)>) -> (u64, u64) {
    (pairs.len() as u64, pairs.into_iter().map(|(_, n)| n).sum())
}

/// Each operation that hashes keys: how many keys come out, and the sum of what was one for each pair.
#[rustfmt::skip]
const KEYED: &[(&str, Keyed)] = &[
    ("reduce_by_key", |r| (r.reduce_by_key(|a, b| a + b).collect().map(total), line!())),
    ("reduce_by_key_partitioned", |r| (r.partition_by(2).reduce_by_key_partitioned(|a, b| a + b, 2).collect().map(total), line!())),
    ("reduce_by_key_locally", |r| (r.reduce_by_key_locally(|a, b| a + b).map(|map| total(map.into_iter().collect())), line!())),
    ("group_by_key", |r| (r.group_by_key().map_values(|ones| ones.len() as u64).collect().map(total), line!())),
    ("aggregate_by_key", |r| (r.aggregate_by_key(0, |a, b| a + b, |a, b| a + b).collect().map(total), line!())),
    ("fold_by_key", |r| (r.fold_by_key(0, |a, b| a + b).collect().map(total), line!())),
    ("combine_by_key", |r| (r.combine_by_key(|n| n, |a, b| a + b, |a, b| a + b).collect().map(total), line!())),
    ("partition_by", |r| (r.partition_by(3).collect().map(total), line!())),
    ("cogroup", |r| (r.cogroup(&r.filter(|_| false)).map_values(|(ones, _)| ones.len() as u64).collect().map(total), line!())),
    ("left_outer_join", |r| (r.left_outer_join(&r.filter(|_| false)).map_values(|(one, _)| one).collect().map(total), line!())),
    ("subtract_by_key", |r| (r.subtract_by_key(&r.filter(|_| false)).collect().map(total), line!())),
    ("count_by_key", |r| (r.count_by_key().map(|map| total(map.into_iter().collect())), line!())),
    ("count_by_value", |r| (r.keys().count_by_value().map(|map| total(map.into_iter().collect())), line!())),
];

fn count<T>(result: Result<Vec<T>>) -> u64 {
    result.unwrap().len() as u64
}

fn keys_may_be_apart(context: &Context, law: Law) {
    let (pairs, what) = (odd(context, law), format!("{law:?}"));
    for (op, job) in KEYED {
        let (keys, sum) = job(&pairs).0.unwrap();
        assert!((1..=PAIRS).contains(&keys), "{what}, {op}: {keys} keys");
        // A map of the program's own loses what it finds equal later.
        let into_map = op.starts_with("count_by") || op.ends_with("locally");
        assert!(if into_map { sum <= PAIRS } else { sum == PAIRS }, "{what}, {op}: {sum} values");
    }
    let once = pairs.keys();
    assert!((1..=PAIRS).contains(&count(once.distinct().collect())), "{what}");
    assert!(count(once.intersection(&once).collect()) <= PAIRS, "{what}");
    assert!(count(once.subtract(&once).collect()) <= PAIRS, "{what}");
    assert!(count(pairs.join(&pairs).collect()) <= PAIRS * PAIRS, "{what}");
    assert!(pairs.collect_as_map().unwrap().len() as u64 <= PAIRS, "{what}");
    assert!(pairs.partition_by(3).lookup(&Odd(3, law)).unwrap().len() as u64 <= PAIRS, "{what}");
    assert!(once.count_approx_distinct(0.1).unwrap() <= 2 * PAIRS, "{what}");
}

#[test]
fn keys_whose_hash_and_equality_disagree_may_stay_apart_and_nothing_is_lost() {
    for context in ways() {
        keys_may_be_apart(&context, Law::NeverEqual);
        keys_may_be_apart(&context, Law::EqualByTenButHashedByAll);
        keys_may_be_apart(&context, Law::HashedAnew);
        keys_may_be_apart(&context, Law::EqualAtTimes);
        for (op, job) in KEYED {
            let keys = if ["partition_by", "left_outer_join", "subtract_by_key"].contains(op) { PAIRS } else { KEYS };
            assert_eq!(job(&odd(&context, Law::AllHashedAlike)).0.unwrap(), (keys, PAIRS), "{op}");
        }
    }
}

#[test]
fn a_hash_or_equality_that_panics_fails_the_job_with_its_line_also_on_the_driver() {
    for context in ways() {
        for (op, job) in KEYED {
            let (result, line) = job(&odd(&context, Law::HashPanics));
            at_line(op, result, ErrorKind::User, "seven is not hashed", named(op), line);
        }
        for (op, job) in KEYED {
            let (result, line) = job(&odd(&context, Law::EqPanics));
            if ["partition_by", "subtract_by_key"].contains(op) {
                assert_eq!(result.unwrap(), (PAIRS, PAIRS), "{op} compares nothing here");
            } else {
                at_line(op, result, ErrorKind::User, "seven is not compared", op, line);
            }
        }
        let (map, line) = (odd(&context, Law::HashPanics).collect_as_map(), line!());
        at_line("a map", map, ErrorKind::User, "seven is not hashed", "collect_as_map", line);
        still_works(&context);
    }
}

/// The operation that hashes first.
fn named(op: &'static str) -> &'static str {
    if op == "reduce_by_key_partitioned" { "partition_by" } else { op }
}

// ------------------------------------------------------------------------------------------------- how much there is

#[test]
fn a_million_keys_and_one_key_for_nearly_all() {
    const MANY: i64 = 1_000_000;
    let context = with_memory(2, None);
    let numbers = context.range(0, MANY, 1, 2);
    assert_eq!(numbers.map(|n| (n, 1u8)).reduce_by_key(|a, b| a + b).count().unwrap(), MANY as u64);
    let context = with_memory(2, Some(256 << 10));
    let skewed = context.range(0, 50_000, 1, 4).map(|n| (if n % 100 == 0 { n } else { -1 }, n));
    assert_eq!(skewed.reduce_by_key(i64::max).lookup(&-1).unwrap(), [49_999]);
    let grouped = skewed.group_by_key().map_values(|values| values.len());
    let sizes: BTreeMap<i64, usize> = grouped.collect().unwrap().into_iter().collect();
    assert_eq!((sizes.len(), sizes[&-1], sizes[&500]), (501, 49_500, 1));
    let by_key = skewed.sort_by_key().keys().take(49_501).unwrap();
    assert!(by_key[..49_500].iter().all(|key| *key == -1) && by_key[49_500] == 0);
}

#[test]
fn a_join_of_a_key_that_both_sides_have_often_is_not_kept_in_memory() {
    let context = with_memory(2, None);
    let often = |n: i64| context.range(0, n, 1, 2).map(|n| ((), n));
    // Ten billion pairs; as many as are wanted are made.
    let pairs = often(100_000).join(&often(100_000));
    assert_eq!(pairs.take(2).unwrap(), [((), (0, 0)), ((), (0, 1))]);
    assert_eq!(often(300).full_outer_join(&often(400)).count().unwrap(), 120_000);
}

/// One operation after the other: each holds a value a few times.
#[test]
fn values_of_hundreds_of_megabytes_go_through_with_little_memory() {
    // What is not optimised writes a byte at a time.
    const LENGTH: usize = if cfg!(debug_assertions) { 24 << 20 } else { 300 << 20 };
    let context = with_memory(1, Some(LENGTH as u64 / 5));
    let big = context.parallelize(vec![2u8, 1], 1).map(|n| (n, n.to_string().repeat(if n == 1 { LENGTH } else { 1 })));
    let lengths = |rdd: Rdd<(u8, String)>| rdd.map(|(n, text)| (n, text.len())).collect().unwrap();
    let plain = [(1, LENGTH), (2, 1)];
    assert_eq!(sorted(lengths(big.partition_by(2))), plain, "shuffled");
    assert_eq!(lengths(big.sort_by_key()), plain, "sorted");
    assert_eq!(sorted(lengths(big.group_by_key().map_values(|mut all| all.pop().unwrap()))), plain, "grouped");
    let kept = big.persist(StorageLevel::DISK_ONLY);
    assert_eq!(sorted(lengths(kept.map(|pair| pair))), plain, "kept");
    assert_eq!(sorted(lengths(kept.map(|pair| pair))), plain, "and read again");
    kept.unpersist();
    let text = context.broadcast("x".repeat(LENGTH));
    let seen =
        millstream_core::capture(text, |text: &millstream_core::Broadcast<String>, n: i64| text.len() as i64 + n);
    assert_eq!(context.range(0, 2, 1, 2).map(seen).collect().unwrap(), [LENGTH as i64, LENGTH as i64 + 1]);
    assert_eq!(context.env().memory.used(), 0);
}
