//! Operations by key give what Spark's give: PR01…PR21, S-67's joins, and where keys go (SV04).

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{context, everywhere, sorted, stages};
use millstream_core::conf::EngineConf;
use millstream_core::{Context, Dependency, Partitioner, Rdd};
use proptest::prelude::*;

fn pairs() -> Vec<(u64, u64)> {
    (0..4000).map(|x| (x % 37, x)).collect()
}

/// The values of each key, in order.
fn groups(pairs: &[(u64, u64)]) -> BTreeMap<u64, Vec<u64>> {
    let mut groups: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    pairs.iter().for_each(|(k, v)| groups.entry(*k).or_default().push(*v));
    groups
}

#[test]
fn pr01_pr04_pr06_values_of_a_key_are_brought_together() {
    everywhere(|context, n| {
        let (rdd, groups) = (context.parallelize(pairs(), n), groups(&pairs()));
        let sums: Vec<(u64, u64)> = groups.iter().map(|(k, vs)| (*k, vs.iter().sum())).collect();
        for (name, rdd, partitions) in [
            ("reduce_by_key", rdd.reduce_by_key(|a, b| a + b), n),
            ("reduce_by_key_partitioned", rdd.reduce_by_key_partitioned(|a, b| a + b, 3), 3),
            (
                "combine_by_key",
                rdd.combine_by_key(|v| (v, 1u64), |c, v| (c.0 + v, c.1 + 1), |a, b| (a.0 + b.0, a.1 + b.1))
                    .map_values(|c| c.0),
                n,
            ),
            ("combine_by_key_partitioned", rdd.combine_by_key_partitioned(|v| v, |c, v| c + v, |a, b| a + b, 5), 5),
            ("in place", rdd.partition_by(4).reduce_by_key(|a, b| a + b), 4),
        ] {
            assert_eq!(sorted(rdd.collect().unwrap()), sums, "{name} over {n}");
            assert_eq!(rdd.partitioner(), Some(&Partitioner::hash(partitions)), "{name}");
            assert_eq!(rdd.num_partitions(), partitions, "{name}");
        }
        let all: Vec<(u64, Vec<u64>)> = groups.into_iter().collect();
        for (name, rdd) in [
            ("group_by_key", rdd.group_by_key()),
            ("group_by_key_partitioned", rdd.group_by_key_partitioned(3)),
            ("in place", rdd.partition_by(4).group_by_key()),
        ] {
            assert_eq!(sorted(rdd.collect().unwrap()), all, "{name} over {n}: values are in order");
        }
    });
}

#[test]
fn pr04_values_that_own_memory_are_reduced_in_order() {
    everywhere(|context, n| {
        let words = context.parallelize((0..300u32).map(|x| (x % 3, format!("{x},"))).collect(), n);
        let joined = words.reduce_by_key(|a, b| a + &b).collect_as_map().unwrap();
        let want: String = (0..300).filter(|x| x % 3 == 1).map(|x| format!("{x},")).collect();
        assert_eq!((joined.len(), &joined[&1]), (3, &want));
    });
}

#[test]
fn pr15_to_pr18_operations_on_values_leave_the_keys_where_they_are() {
    everywhere(|context, n| {
        let (input, rdd) = (pairs(), context.parallelize(pairs(), n));
        assert_eq!(rdd.keys().collect().unwrap(), input.iter().map(|p| p.0).collect::<Vec<_>>());
        assert_eq!(rdd.values().collect().unwrap(), input.iter().map(|p| p.1).collect::<Vec<_>>());
        let want: Vec<_> = input.iter().map(|(k, v)| (*k, v + 1)).collect();
        assert_eq!(rdd.map_values(|v| v + 1).collect().unwrap(), want);
        let want: Vec<_> = input.iter().flat_map(|(k, v)| (0..v % 3).map(|w| (*k, w))).collect();
        assert_eq!(rdd.flat_map_values(|v| 0..v % 3).collect().unwrap(), want);
    });
}

#[test]
fn rd35_the_partitioner_is_kept_exactly_where_keys_stay() {
    let placed = context("local[2]").parallelize(pairs(), 2).partition_by(3);
    let kept = |rdd: &Rdd<(u64, u64)>| {
        let reduced = rdd.reduce_by_key_partitioned(|a, _| a, 3);
        (rdd.partitioner().is_some(), matches!(reduced.node().lineage().dependencies(), [Dependency::Narrow(_)]))
    };
    for (name, rdd, keeps) in [
        ("filter", placed.filter(|_| true), true),
        ("map_values", placed.map_values(|v| v), true),
        ("flat_map_values", placed.flat_map_values(|v| [v]), true),
        ("map_partitions_preserving", placed.map_partitions_preserving(|xs| xs), true),
        ("reduce_by_key", placed.reduce_by_key(|a, _| a), true),
        ("persist", placed.cache(), true),
        ("map", placed.map(|p| p), false),
        ("flat_map", placed.flat_map(|p| [p]), false),
        ("flat_map_into", placed.flat_map_into(|p, out| out.push(p)), false),
        ("map_partitions", placed.map_partitions(|xs| xs), false),
        ("map_partitions_with_index", placed.map_partitions_with_index(|_, xs| xs), false),
        ("repartition", placed.repartition(3), false),
        ("coalesce", placed.coalesce(2), false),
        ("sort_by", placed.sort_by(|p| p.0), false),
        ("sample", placed.sample(false, 0.5, 1), true),
        ("fold_by_key", placed.fold_by_key(0, |a, b| a + b), true),
        ("subtract_by_key", placed.subtract_by_key(&placed), true),
    ] {
        assert_eq!(kept(&rdd), (keeps, keeps), "{name}: a partitioner, and no shuffle for what it placed");
    }
    let sorted = placed.sort_by_key();
    assert!(sorted.partitioner().is_some_and(|p| *p != Partitioner::hash(3)), "sorting places keys by range");
}

#[test]
fn pr07_partition_by_moves_keys_to_their_partition_and_does_nothing_twice() {
    everywhere(|context, n| {
        let rdd = context.parallelize(pairs(), n);
        let by_parity = Partitioner::custom(2, |key: &u64| (key % 2) as usize);
        let placed = rdd.partition_by(&by_parity);
        let sums = placed.reduce_by_key(|a, b| a + b);
        assert_eq!((sums.partitioner(), stages(&sums)), (Some(&by_parity), 2));
        let parts = placed.glom().collect().unwrap();
        assert!(
            parts.len() == 2 && parts.iter().enumerate().all(|(p, xs)| xs.iter().all(|(k, _)| *k as usize % 2 == p))
        );
        assert_eq!(parts[1], pairs().into_iter().filter(|(k, _)| k % 2 == 1).collect::<Vec<_>>(), "the order stays");
        assert_eq!(placed.partition_by(&by_parity).id(), placed.id());
        assert_ne!(placed.partition_by(2).id(), placed.id());
        assert_eq!(sorted(placed.partition_by(5).collect().unwrap()), sorted(pairs()));
    });
}

#[test]
fn sv04_the_default_partitioner_is_the_largest_there_is_or_the_default_parallelism() {
    let conf = EngineConf { default_parallelism: Some(6), ..EngineConf::new("local[2]", "t").unwrap() };
    for (context, none) in [(context("local[2]"), 4), (Context::builder(conf).build().unwrap(), 6)] {
        let (a, b) = (context.parallelize(pairs(), 2), context.parallelize(pairs(), 4));
        assert_eq!(a.join(&b).num_partitions(), none);
        assert_eq!(b.reduce_by_key(|a, _| a).num_partitions(), none);
        assert_eq!(a.partition_by(3).join(&b).num_partitions(), 3, "what is placed stays");
        assert_eq!(b.cogroup(&a.partition_by(5)).num_partitions(), 5);
        assert_eq!(a.partition_by(3).cogroup(&b.partition_by(5)).num_partitions(), 5, "the largest wins");
        assert_eq!(stages(&a.partition_by(3).cogroup(&b.partition_by(3))), 3, "sides in place are not moved");
    }
}

type Outer = (u8, (Option<char>, Option<u16>));

fn whole(pairs: &[(u8, char)], left: bool, other: &[(u8, u16)], right: bool) -> Vec<Outer> {
    let mut rows = Vec::new();
    for (k, v) in pairs {
        let of: Vec<_> = other.iter().filter(|(o, _)| o == k).collect();
        rows.extend(of.iter().map(|(_, w)| (*k, (Some(*v), Some(*w)))));
        if of.is_empty() && left {
            rows.push((*k, (Some(*v), None)));
        }
    }
    let alone = other.iter().filter(|(k, _)| right && pairs.iter().all(|(p, _)| p != k));
    rows.extend(alone.map(|(k, w)| (*k, (None, Some(*w)))));
    sorted(rows)
}

/// Runs all four joins over two lists and returns their rows, widened to options on both sides.
fn joins(a: &Rdd<(u8, char)>, b: &Rdd<(u8, u16)>) -> [Vec<Outer>; 4] {
    [
        a.join(b).map_values(|(v, w)| (Some(v), Some(w))),
        a.left_outer_join(b).map_values(|(v, w)| (Some(v), w)),
        a.right_outer_join(b).map_values(|(v, w)| (v, Some(w))),
        a.full_outer_join(b),
    ]
    .map(|rdd| sorted(rdd.collect().unwrap()))
}

fn all_wholes(a: &[(u8, char)], b: &[(u8, u16)]) -> [Vec<Outer>; 4] {
    [(false, false), (true, false), (false, true), (true, true)].map(|(l, r)| whole(a, l, b, r))
}

#[test]
fn s67_pr08_to_pr11_joins_pair_values_and_a_key_repeated_on_both_sides_gives_the_product() {
    let batches = [
        (vec![(1, 'a'), (2, 'b')], vec![(1, 10), (2, 20)]),
        (vec![(1, 'a'), (0, 'z')], vec![(2, 20), (0, 5)]),
        (vec![(0, 'z')], vec![]),
        (vec![], vec![(0, 5)]),
        (vec![(1, 'a'), (1, 'b'), (2, 'c'), (1, 'd')], vec![(1, 10), (3, 30), (1, 11)]),
    ];
    everywhere(|context, n| {
        for (a, b) in &batches {
            let (left, right) = (context.parallelize(a.clone(), n), context.parallelize(b.clone(), 3));
            let want = all_wholes(a, b);
            assert_eq!(joins(&left, &right), want, "over {n}");
            assert_eq!(joins(&left.partition_by(3), &right.partition_by(3)), want, "in place");
            assert_eq!(joins(&left, &right.partition_by(2)), want, "one side in place");
            let explicit = [
                left.join_partitioned(&right, 2).map_values(|(v, w)| (Some(v), Some(w))),
                left.left_outer_join_partitioned(&right, 2).map_values(|(v, w)| (Some(v), w)),
                left.right_outer_join_partitioned(&right, 2).map_values(|(v, w)| (v, Some(w))),
                left.full_outer_join_partitioned(&right, 2),
            ];
            assert!(explicit.iter().all(|rdd| rdd.num_partitions() == 2));
            assert_eq!(explicit.map(|rdd| sorted(rdd.collect().unwrap())), want);
        }
        let (a, b) = &batches[4];
        let inner = context.parallelize(a.clone(), n).join(&context.parallelize(b.clone(), 1)).collect().unwrap();
        assert_eq!(inner.len(), 6);
    });
}

#[test]
fn pr12_cogroup_lists_the_values_of_both_sides_in_order() {
    everywhere(|context, n| {
        let a = context.parallelize(vec![(1u8, 'a'), (2, 'b'), (1, 'c')], n);
        let b = context.parallelize(vec![(3u8, 30), (1, 10), (1, 11)], 2);
        let want = [(1, (vec!['a', 'c'], vec![10, 11])), (2, (vec!['b'], vec![])), (3, (vec![], vec![30]))];
        assert_eq!(sorted(a.cogroup(&b).collect().unwrap()), want);
        let over = a.cogroup_partitioned(&b, 5);
        assert_eq!((sorted(over.collect().unwrap()), over.num_partitions()), (want.to_vec(), 5));
        assert_eq!(sorted(a.cogroup(&a).mapped_lens()), [(1, 2, 2), (2, 1, 1)], "with itself");
    });
}

trait Lens {
    fn mapped_lens(&self) -> Vec<(u8, usize, usize)>;
}

impl Lens for Rdd<(u8, (Vec<char>, Vec<char>))> {
    fn mapped_lens(&self) -> Vec<(u8, usize, usize)> {
        self.map(|(k, (v, w))| (k, v.len(), w.len())).collect().unwrap()
    }
}

#[test]
fn pr19_to_pr21_rd42_maps_counts_and_lookups_are_brought_to_the_driver() {
    everywhere(|context, n| {
        let (rdd, groups) = (context.parallelize(pairs(), n), groups(&pairs()));
        let counts: HashMap<u64, u64> = groups.iter().map(|(k, vs)| (*k, vs.len() as u64)).collect();
        assert_eq!(rdd.count_by_key().unwrap(), counts);
        assert_eq!(rdd.keys().count_by_value().unwrap(), counts);
        let last: HashMap<u64, u64> = pairs().into_iter().collect();
        assert_eq!(rdd.collect_as_map().unwrap(), last, "the last value wins");
        for key in [0, 36, 99] {
            let want = groups.get(&key).cloned().unwrap_or_default();
            assert_eq!(rdd.lookup(&key).unwrap(), want);
            assert_eq!(rdd.partition_by(3).lookup(&key).unwrap(), want);
        }
    });
}

#[test]
fn pr19_a_lookup_of_placed_keys_reads_one_partition() {
    let read = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&read);
    let placed = context("local[2]").parallelize(pairs(), 2).partition_by(7).map_partitions_preserving(move |xs| {
        seen.fetch_add(1, Ordering::Relaxed);
        xs
    });
    assert_eq!(placed.lookup(&3).unwrap().len(), pairs().iter().filter(|p| p.0 == 3).count());
    assert_eq!(read.load(Ordering::Relaxed), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn operations_by_key_give_what_maps_and_loops_give(
        a in prop::collection::vec((0u8..6, any::<char>()), 0..25),
        b in prop::collection::vec((0u8..6, any::<u16>()), 0..25),
        n in 1usize..5,
        m in 1usize..5,
    ) {
        let context = context("local[2]");
        let (left, right) = (context.parallelize(a.clone(), n), context.parallelize(b.clone(), m));
        prop_assert_eq!(joins(&left, &right), all_wholes(&a, &b));
        let mut lists: BTreeMap<u8, String> = BTreeMap::new();
        a.iter().for_each(|(k, c)| lists.entry(*k).or_default().push(*c));
        let got = left.map_values(String::from).reduce_by_key_partitioned(|a, b| a + &b, m).collect().unwrap();
        prop_assert_eq!(sorted(got), lists.into_iter().collect::<Vec<_>>());
    }
}
