//! What can be asked of the pairs of a batch, inside of `transform`.

use std::collections::{BTreeMap, HashMap};

use millstream_core::Text;

use super::run::{Programs, sorted};

/// A map's entries in the order of its keys.
fn entries<V>(map: HashMap<Text, V>) -> Vec<(Text, V)> {
    map.into_iter().collect::<BTreeMap<_, _>>().into_iter().collect()
}

pub(crate) const PROGRAMS: Programs = &[
    ("keys", |run| run.output(&run.pairs().transform(|rdd, _| rdd.keys()))),
    ("values", |run| run.output(&run.pairs().transform(|rdd, _| rdd.values()))),
    ("map_values", |run| run.output(&run.pairs().transform(|rdd, _| rdd.map_values(|v| v + 1)))),
    ("flat_map_values", |run| run.output(&run.pairs().transform(|rdd, _| rdd.flat_map_values(|v| [v, -v])))),
    ("count_by_key", |run| run.action(&run.pairs(), |rdd| Ok(entries(rdd.count_by_key()?)))),
    ("collect_as_map", |run| run.action(&run.pairs(), |rdd| Ok(entries(rdd.collect_as_map()?)))),
    ("lookup", |run| run.action(&run.pairs(), |rdd| rdd.lookup(&Text::from("a")))),
    ("lookup_after_reduce", |run| {
        run.action(&run.pairs().reduce_by_key(|a, b| a + b), |rdd| rdd.lookup(&Text::from("a")));
    }),
    ("sort_by_key", |run| run.output(&run.pairs().transform(|rdd, _| rdd.reduce_by_key(|a, b| a + b).sort_by_key()))),
    ("sort_by_key_descending", |run| {
        run.output(&run.pairs().transform(|rdd, _| rdd.reduce_by_key(|a, b| a + b).sort_by_key_descending()));
    }),
    ("sort_by_key_of_duplicates", |run| run.output(&run.pairs().transform(|rdd, _| rdd.sort_by_key().keys()))),
    ("sorted_word_count", |run| {
        run.action(&run.words(), |rdd| {
            let counts = rdd.map(|word| (word, 1)).reduce_by_key(|a, b| a + b);
            counts.map(|(word, n)| (n, word)).sort_by_key_descending().map(|(n, _)| n).take(2)
        });
    }),
    ("partition_by", |run| run.action(&run.pairs(), |rdd| Ok(vec![rdd.partition_by(5).num_partitions()]))),
    ("reduce_by_key", |run| run.output(&run.pairs().transform(|rdd, _| rdd.reduce_by_key(|a, b| a + b)))),
    ("group_by_key", |run| run.output(&run.pairs().transform(|rdd, _| rdd.group_by_key().map_values(sorted)))),
    ("combine_by_key", |run| {
        run.output(&run.pairs().transform(|rdd, _| {
            rdd.combine_by_key(|v| (v, 1), |(sum, n), v| (sum + v, n + 1), |a, b| (a.0 + b.0, a.1 + b.1))
        }));
    }),
    ("default_partitions", |run| {
        run.action(&run.pairs(), |rdd| {
            let three = rdd.reduce_by_key_partitioned(|a, b| a + b, 3);
            Ok(vec![
                rdd.reduce_by_key(|a, b| a + b).num_partitions(),
                three.num_partitions(),
                three.group_by_key().num_partitions(),
                three.join(&rdd).num_partitions(),
            ])
        });
    }),
    ("reduce_by_key_locally", |run| {
        run.action(&run.pairs(), |rdd| Ok(entries(rdd.reduce_by_key_locally(|a, b| a + b)?)));
    }),
    ("aggregate_by_key", |run| {
        run.output(&run.pairs().transform(|rdd, _| rdd.aggregate_by_key(0, |sum, v| sum + v * 10, |a, b| a + b)));
    }),
    ("fold_by_key", |run| run.output(&run.pairs().transform(|rdd, _| rdd.fold_by_key(0, |a, b| a + b)))),
    ("join", |run| run.output(&run.pairs().transform(|rdd, _| rdd.join(&rdd.map_values(|v| v * 10))))),
    ("left_outer_join", |run| {
        run.output(&run.pairs().transform(|rdd, _| rdd.left_outer_join(&rdd.filter(|(_, v)| *v > 3))));
    }),
    ("right_outer_join", |run| {
        run.output(&run.pairs().transform(|rdd, _| rdd.filter(|(_, v)| *v > 3).right_outer_join(&rdd)));
    }),
    ("full_outer_join", |run| {
        run.output(
            &run.pairs().transform(|rdd, _| rdd.filter(|(_, v)| *v > 3).full_outer_join(&rdd.filter(|(_, v)| *v < 8))),
        );
    }),
    ("cogroup", |run| {
        run.output(&run.pairs().transform(|rdd, _| {
            rdd.cogroup(&rdd.filter(|(_, v)| *v > 3)).map_values(|(left, right)| (sorted(left), sorted(right)))
        }));
    }),
    ("subtract_by_key", |run| {
        run.output(&run.pairs().transform(|rdd, _| rdd.subtract_by_key(&rdd.filter(|(_, v)| *v > 7))));
    }),
    ("filter_by_range", |run| {
        run.output(&run.pairs().transform(|rdd, _| rdd.filter_by_range(Text::from("b"), Text::from("d"))));
    }),
    ("repartition_and_sort_within_partitions", |run| {
        run.output(&run.pairs().transform(|rdd, _| rdd.repartition_and_sort_within_partitions(1).keys()));
    }),
    ("distinct", |run| run.output(&run.pairs().transform(|rdd, _| rdd.distinct()))),
];
