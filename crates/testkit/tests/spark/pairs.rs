//! Operations on the pairs of each batch.

use millstream_core::Text;

use super::run::{Programs, sorted};

pub(crate) const PROGRAMS: Programs = &[
    ("map_values", |run| run.output(&run.pairs().map_values(|v| v * 10))),
    ("flat_map_values", |run| run.output(&run.pairs().flat_map_values(|v| vec![v; v as usize]))),
    ("filter_pairs", |run| run.output(&run.pairs().filter(|(_, v)| *v > 4))),
    ("swap", |run| run.output(&run.pairs().map(|(key, v)| (v, key)))),
    ("reduce_by_key", |run| run.output(&run.pairs().reduce_by_key(|a, b| a + b))),
    ("reduce_by_key_to_max", |run| run.output(&run.pairs().reduce_by_key(i64::max))),
    ("reduce_by_key_of_singles", |run| run.output(&run.pairs().reduce_by_key(|_, _| -1))),
    ("reduce_by_key_partitioned", |run| {
        let sums = run.pairs().reduce_by_key_partitioned(|a, b| a + b, 3);
        run.output(&sums);
        run.action(&sums, |rdd| Ok(vec![rdd.num_partitions()]));
    }),
    ("reduce_by_key_by_default", |run| {
        run.action(&run.pairs().reduce_by_key(|a, b| a + b), |rdd| Ok(vec![rdd.num_partitions()]));
    }),
    ("reduce_by_key_of_skew", |run| run.output(&run.pairs().reduce_by_key(|a, b| a + b))),
    ("reduce_by_key_twice", |run| {
        let sums = run.pairs().reduce_by_key(|a, b| a + b);
        run.output(&sums.map(|(_, v)| (v % 2, v)).reduce_by_key(|a, b| a + b));
    }),
    ("reduce_by_key_of_numbers", |run| {
        run.output(&run.numbers().map(|x| (x % 3, 1)).reduce_by_key(|a, b| a + b));
    }),
    ("reduce_by_key_of_pairs", |run| run.output(&run.pairs().map(|pair| (pair, 1)).reduce_by_key(|a, b| a + b))),
    ("reduce_by_key_of_lists", |run| {
        run.output(&run.pairs().map(|(key, v)| (vec![v, v], key)).reduce_by_key(Ord::min))
    }),
    ("group_by_key", |run| run.output(&run.pairs().group_by_key().map_values(sorted))),
    ("group_by_key_partitioned", |run| {
        let groups = run.pairs().group_by_key_partitioned(3);
        run.output(&groups.map_values(sorted));
        run.action(&groups, |rdd| Ok(vec![rdd.num_partitions()]));
    }),
    ("group_by_key_of_duplicates", |run| run.output(&run.pairs().group_by_key().map_values(sorted))),
    ("group_by_key_of_skew", |run| run.output(&run.pairs().group_by_key().map_values(|values| values.len()))),
    ("combine_by_key", |run| {
        run.output(&run.pairs().combine_by_key(
            |v| (v, 1),
            |(sum, n), v| (sum + v, n + 1),
            |a, b| (a.0 + b.0, a.1 + b.1),
            3,
        ));
    }),
    ("combine_by_key_to_words", |run| {
        let lists = run.pairs().combine_by_key(
            |v| vec![v.to_string()],
            |list, v| [list, vec![v.to_string()]].concat(),
            |a, b| [a, b].concat(),
            2,
        );
        run.output(&lists.map_values(sorted));
    }),
    ("average", |run| {
        let sums = run.pairs().map_values(|v| (v, 1)).reduce_by_key(|a, b| (a.0 + b.0, a.1 + b.1));
        run.output(&sums.map_values(|(sum, n)| sum as f64 / f64::from(n)));
    }),
    ("max_of_words", |run| run.output(&run.input::<(Text, Text)>().reduce_by_key(Ord::max))),
    ("transform_to_pairs", |run| run.output(&run.pairs().transform(|rdd, _| rdd.reduce_by_key(|a, b| a + b)))),
    ("map_partitions_to_pairs", |run| run.output(&run.numbers().map_partitions(|part| part.map(|x| (x, x * x))))),
    ("flat_map_to_pairs", |run| {
        let letters = run.words().flat_map(|word| word.chars().map(|letter| (letter, 1)).collect::<Vec<_>>());
        run.output(&letters.reduce_by_key(|a, b| a + b));
    }),
    ("count_pairs", |run| run.output(&run.pairs().count())),
    ("union_of_pairs", |run| run.output(&run.pairs().union(&run.pairs()).reduce_by_key(|a, b| a + b))),
    ("distinct_keys", |run| run.output(&run.pairs().reduce_by_key(|a, b| a + b).map(|(key, _)| key))),
];
