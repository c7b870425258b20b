//! Operations on two streams or more, and on a stream with a static Rdd.

use millstream_core::{Text, capture, secs};

use super::run::{Programs, sorted};

pub(crate) const PROGRAMS: Programs = &[
    ("join", |run| run.output(&run.pairs().join(&run.pairs()))),
    ("left_outer_join", |run| run.output(&run.pairs().left_outer_join(&run.pairs()))),
    ("right_outer_join", |run| run.output(&run.pairs().right_outer_join(&run.pairs()))),
    ("full_outer_join", |run| run.output(&run.pairs().full_outer_join(&run.pairs()))),
    ("join_of_duplicates", |run| run.output(&run.pairs().join(&run.pairs()))),
    ("left_outer_join_of_duplicates", |run| run.output(&run.pairs().left_outer_join(&run.pairs()))),
    ("right_outer_join_of_duplicates", |run| run.output(&run.pairs().right_outer_join(&run.pairs()))),
    ("full_outer_join_of_duplicates", |run| run.output(&run.pairs().full_outer_join(&run.pairs()))),
    ("join_partitioned", |run| {
        let joined = run.pairs().join_partitioned(&run.pairs(), 3);
        run.output(&joined);
        run.action(&joined, |rdd| Ok(vec![rdd.num_partitions()]));
    }),
    ("join_missing", |run| run.output(&run.pairs().join(&run.pairs()))),
    ("join_with_itself", |run| {
        let pairs = run.pairs();
        run.output(&pairs.join(&pairs));
    }),
    ("join_of_sums", |run| {
        let (left, right) = (run.pairs().reduce_by_key(|a, b| a + b), run.pairs().reduce_by_key(|a, b| a + b));
        run.output(&left.join(&right));
    }),
    ("join_of_words", |run| run.output(&run.input::<(Text, Text)>().join(&run.pairs()))),
    ("join_of_skew", |run| run.output(&run.pairs().join(&run.pairs()).count())),
    ("join_is_short", |run| run.output(&run.pairs().join(&run.pairs()))),
    ("cogroup", |run| {
        run.output(&run.pairs().cogroup(&run.pairs()).map_values(|(left, right)| (sorted(left), sorted(right))));
    }),
    ("cogroup_partitioned", |run| {
        let both = run.pairs().cogroup_partitioned(&run.pairs(), 3);
        run.output(&both.map_values(|(left, right)| (sorted(left), sorted(right))));
        run.action(&both, |rdd| Ok(vec![rdd.num_partitions()]));
    }),
    ("cogroup_with_nothing", |run| {
        run.output(&run.pairs().cogroup(&run.pairs()).map_values(|(left, right)| (sorted(left), sorted(right))));
    }),
    ("cogroup_missing", |run| run.output(&run.pairs().cogroup(&run.pairs()).map_values(|(left, _)| sorted(left)))),
    ("transform_with", |run| run.output(&run.numbers().transform_with(&run.numbers(), |a, b, _| b.union(&a)))),
    ("transform_with_time", |run| {
        run.output(&run.numbers().transform_with(&run.words(), |a, b, time| {
            a.map(capture(time.as_millis(), |now: &i64, x| Text::from(format!("{x}@{now}")))).union(&b)
        }));
    }),
    ("transform_with_missing", |run| {
        run.output(&run.numbers().transform_with(&run.numbers(), |a, b, _| a.union(&b)));
    }),
    ("transform_with_to_pairs", |run| {
        run.output(&run.numbers().transform_with(&run.numbers(), |a, b, _| {
            a.map(|x| (x, Text::from("left"))).union(&b.map(|x| (x, Text::from("right"))))
        }));
    }),
    ("subtract", |run| run.output(&run.numbers().transform_with(&run.numbers(), |a, b, _| a.subtract(&b)))),
    ("intersection", |run| run.output(&run.numbers().transform_with(&run.numbers(), |a, b, _| a.intersection(&b)))),
    ("subtract_by_key", |run| run.output(&run.pairs().transform_with(&run.pairs(), |a, b, _| a.subtract_by_key(&b)))),
    ("cartesian", |run| run.output(&run.numbers().transform_with(&run.numbers(), |a, b, _| a.cartesian(&b)))),
    ("zip", |run| run.output(&run.numbers().transform_with(&run.words(), |a, b, _| a.zip(&b)))),
    ("zip_of_different_lengths", |run| run.output(&run.numbers().transform_with(&run.words(), |a, b, _| a.zip(&b)))),
    ("static_filter", |run| {
        let spam = run.table([("a", 1)]);
        run.output(&run.pairs().transform(move |rdd, _| rdd.subtract_by_key(&spam)));
    }),
    ("static_join", |run| {
        let table = run.table([("a", 100), ("a", 200), ("b", 300)]);
        run.output(&run.pairs().transform(move |rdd, _| rdd.join(&table)));
    }),
    ("static_left_outer_join", |run| {
        let table = run.table([("a", 100), ("a", 200), ("b", 300)]);
        run.output(&run.pairs().transform(move |rdd, _| rdd.left_outer_join(&table)));
    }),
    ("static_right_outer_join", |run| {
        let table = run.table([("a", 100), ("b", 300)]);
        run.output(&run.pairs().transform(move |rdd, _| rdd.right_outer_join(&table)));
    }),
    ("static_union", |run| {
        let table = run.table([("z", 100)]);
        run.output(&run.pairs().transform(move |rdd, _| rdd.union(&table)));
    }),
    ("transform_of_three", |run| {
        run.output(&run.ssc().transform(&[run.numbers(), run.numbers(), run.numbers()], |rdds, _| {
            rdds[2].union(&rdds[1]).union(&rdds[0])
        }));
    }),
    ("transform_of_three_with_time", |run| {
        run.output(&run.ssc().transform(&[run.numbers(), run.numbers(), run.numbers()], |rdds, time| {
            rdds[time.as_millis() as usize / 1000 - 1].clone()
        }));
    }),
    ("join_of_three", |run| run.output(&run.pairs().join(&run.pairs()).join(&run.pairs()))),
    ("join_of_windows", |run| run.output(&run.pairs().window(secs(2)).join(&run.pairs().window(secs(3))))),
    ("join_with_window", |run| run.output(&run.pairs().join(&run.pairs().window(secs(2))))),
    ("join_of_different_slides", |run| run.output(&run.pairs().join(&run.pairs().window((secs(2), secs(2)))))),
    ("union_of_different_slides", |run| {
        run.output(&run.numbers().union(&run.numbers().window((secs(2), secs(2)))));
    }),
    ("diamond", |run| {
        let pairs = run.pairs();
        let joined = pairs.reduce_by_key(|a, b| a + b).join(&pairs.reduce_by_key(i64::max));
        run.output(&joined.union(&pairs.group_by_key().map_values(|values| (values.len() as i64, 0))));
    }),
];
