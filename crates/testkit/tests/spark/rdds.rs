//! What can be asked of the Rdd of a batch, inside of `transform`.

use std::collections::BTreeMap;

use millstream_core::{Broadcast, LongAccumulator, capture};

use super::run::{Programs, sorted};

pub(crate) const PROGRAMS: Programs = &[
    ("is_empty", |run| run.action(&run.numbers(), |rdd| Ok(vec![rdd.is_empty()?]))),
    ("is_empty_after_filter", |run| run.action(&run.numbers().filter(|x| *x > 5), |rdd| Ok(vec![rdd.is_empty()?]))),
    ("count", |run| run.action(&run.numbers(), |rdd| Ok(vec![rdd.count()?]))),
    ("collect", |run| run.action(&run.numbers(), |rdd| rdd.collect())),
    ("take", |run| run.action(&run.numbers(), |rdd| rdd.take(3))),
    ("take_none", |run| run.action(&run.numbers(), |rdd| rdd.take(0))),
    ("first", |run| run.action(&run.numbers(), |rdd| Ok(vec![rdd.first()?]))),
    ("first_of_nothing", |run| run.action(&run.numbers(), |rdd| Ok(vec![rdd.first()?]))),
    ("top", |run| run.action(&run.numbers(), |rdd| rdd.top(3))),
    ("take_ordered", |run| run.action(&run.numbers(), |rdd| rdd.take_ordered(3))),
    ("max", |run| run.action(&run.numbers(), |rdd| Ok(vec![rdd.max()?]))),
    ("min", |run| run.action(&run.numbers(), |rdd| Ok(vec![rdd.min()?]))),
    ("max_of_nothing", |run| run.action(&run.numbers().filter(|x| *x > 2), |rdd| Ok(vec![rdd.max()?]))),
    ("reduce", |run| run.action(&run.numbers(), |rdd| Ok(vec![rdd.reduce(|a, b| a + b)?]))),
    ("reduce_of_nothing", |run| run.action(&run.numbers(), |rdd| Ok(vec![rdd.reduce(|a, b| a + b)?]))),
    ("fold", |run| run.action(&run.numbers(), |rdd| Ok(vec![rdd.fold(0, |a, b| a + b)?]))),
    ("fold_with_a_zero_that_is_none", |run| {
        run.action(&run.numbers(), |rdd| Ok(vec![rdd.fold(100, |a, b| a + b)?]));
    }),
    ("aggregate", |run| {
        run.action(&run.numbers(), |rdd| {
            let sum = rdd.aggregate((0, 0), |(sum, n), x| (sum + x, n + 1), |a, b| (a.0 + b.0, a.1 + b.1))?;
            Ok(vec![sum])
        });
    }),
    ("count_by_value", |run| {
        run.action(&run.numbers(), |rdd| {
            Ok(rdd.count_by_value()?.into_iter().collect::<BTreeMap<_, _>>().into_iter().collect())
        });
    }),
    ("distinct", |run| run.output(&run.numbers().transform(|rdd, _| rdd.distinct()))),
    ("distinct_partitioned", |run| {
        run.action(&run.numbers(), |rdd| {
            let distinct = rdd.distinct_partitioned(3);
            Ok(vec![distinct.num_partitions() as u64, distinct.count()?])
        });
    }),
    ("sort_by", |run| run.output(&run.numbers().transform(|rdd, _| rdd.sort_by(|x| *x)))),
    ("sort_by_descending", |run| {
        run.output(&run.numbers().transform(|rdd, _| rdd.sort_by(|x| std::cmp::Reverse(*x))));
    }),
    ("sort_by_within_three", |run| run.output(&run.numbers().transform(|rdd, _| rdd.sort_by_partitioned(|x| -x, 3)))),
    ("key_by", |run| run.output(&run.numbers().transform(|rdd, _| rdd.key_by(|x| x % 3)))),
    ("glom", |run| run.output(&run.numbers().transform(|rdd, _| rdd.glom()))),
    ("coalesce", |run| run.output(&run.numbers().transform(|rdd, _| rdd.coalesce(2)))),
    ("coalesce_is_narrow", |run| {
        run.action(&run.numbers(), |rdd| Ok(vec![rdd.coalesce(2).num_partitions(), rdd.coalesce(9).num_partitions()]));
    }),
    ("repartition", |run| {
        run.action(&run.numbers(), |rdd| {
            let (two, nine) = (rdd.repartition(2), rdd.repartition(9));
            Ok(vec![two.num_partitions() as u64, nine.num_partitions() as u64, nine.count()?])
        });
    }),
    ("union", |run| run.output(&run.numbers().transform(|rdd, _| rdd.union(&rdd.map(|x| x * 10))))),
    ("map_partitions_with_index", |run| {
        run.output(&run.numbers().transform(|rdd, _| {
            rdd.map_partitions_with_index(|index, part| part.map(move |x| index as i64 * 100 + x))
        }));
    }),
    ("intersection", |run| run.output(&run.numbers().transform(|rdd, _| rdd.intersection(&rdd.map(|x| x + 1))))),
    ("subtract", |run| run.output(&run.numbers().transform(|rdd, _| rdd.subtract(&rdd.map(|x| x + 2))))),
    ("cartesian", |run| run.output(&run.numbers().transform(|rdd, _| rdd.cartesian(&rdd.filter(|x| *x > 1))))),
    ("zip", |run| run.output(&run.numbers().transform(|rdd, _| rdd.zip(&rdd.map(|x| x * x))))),
    ("zip_with_index", |run| run.output(&run.numbers().transform(|rdd, _| rdd.zip_with_index()))),
    ("zip_with_unique_id", |run| run.output(&run.numbers().transform(|rdd, _| rdd.zip_with_unique_id()))),
    ("zip_partitions", |run| {
        run.output(
            &run.numbers()
                .transform(|rdd, _| rdd.zip_partitions(&rdd.map(|x| x * 2), |a, b| [a.sum::<i64>() - b.sum::<i64>()])),
        );
    }),
    ("group_by", |run| run.output(&run.numbers().transform(|rdd, _| rdd.group_by(|x| x % 3).map_values(sorted)))),
    ("tree_reduce", |run| run.action(&run.numbers(), |rdd| Ok(vec![rdd.tree_reduce(|a, b| a + b, 2)?]))),
    ("tree_aggregate", |run| {
        run.action(&run.numbers(), |rdd| Ok(vec![rdd.tree_aggregate(0, |sum, x| sum + x, |a, b| a + b, 2)?]));
    }),
    ("tree_aggregate_with_a_zero_that_is_none", |run| {
        run.action(&run.numbers(), |rdd| Ok(vec![rdd.tree_aggregate(100, |sum, x| sum + x, |a, b| a + b, 2)?]));
    }),
    ("sum", |run| run.action(&run.numbers(), |rdd| Ok(vec![rdd.sum()?]))),
    ("mean", |run| run.action(&run.numbers(), |rdd| Ok(vec![rdd.mean()?]))),
    ("stats", |run| {
        run.action(&run.numbers(), |rdd| {
            let stats = rdd.stats()?;
            let numbers = (stats.count(), stats.sum(), stats.mean(), stats.min(), stats.max(), stats.variance());
            Ok(vec![numbers])
        });
    }),
    ("histogram", |run| run.action(&run.numbers(), |rdd| Ok(vec![rdd.histogram(3)?]))),
    ("histogram_of_edges", |run| {
        run.action(&run.numbers(), |rdd| rdd.histogram_between(&[0.0, 2.0, 3.0, 8.0]));
    }),
    ("take_sample_of_all", |run| run.action(&run.numbers(), |rdd| Ok(sorted(rdd.take_sample(false, 100, 1)?)))),
    ("to_local_iterator", |run| run.action(&run.numbers(), |rdd| rdd.to_local_iterator().collect())),
    ("pipe", |run| run.output(&run.numbers().transform(|rdd, _| rdd.pipe("cat")))),
    ("sample_of_all", |run| run.output(&run.numbers().transform(|rdd, _| rdd.sample(false, 1.0, 1)))),
    ("sample_of_nothing", |run| run.output(&run.numbers().transform(|rdd, _| rdd.sample(false, 0.0, 1)))),
    ("local_checkpoint", |run| {
        run.output(&run.numbers().transform(|rdd, _| {
            let doubled = rdd.map(|x| x * 2);
            doubled.local_checkpoint();
            doubled
        }));
    }),
    ("cache", |run| {
        run.action(&run.numbers(), |rdd| {
            let kept = rdd.map(|x| x + 1).cache();
            Ok(vec![kept.count()?, kept.count()?])
        });
    }),
    ("broadcast", |run| {
        run.output(&run.numbers().transform(|rdd, _| {
            let ten = rdd.context().broadcast(10i64);
            rdd.map(capture(ten, |ten: &Broadcast<i64>, x| x * ten.value()))
        }));
    }),
    ("accumulator", |run| {
        run.action(&run.numbers(), |rdd| {
            let sum = rdd.context().long_accumulator("sum");
            rdd.foreach(capture(sum.clone(), |sum: &LongAccumulator, x| sum.add(x)))?;
            Ok(vec![sum.value()])
        });
    }),
    ("empty_rdd", |run| {
        run.action(&run.numbers(), |rdd| {
            let empty = rdd.context().empty::<i64>();
            Ok(vec![empty.num_partitions() as u64, empty.count()?, u64::from(empty.is_empty()?)])
        });
    }),
    ("parallelize", |run| {
        run.output(&run.numbers().transform(|rdd, _| rdd.context().parallelize((1..=10).collect(), 4).glom()));
    }),
];
