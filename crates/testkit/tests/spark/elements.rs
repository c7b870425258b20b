//! Operations on the elements of each batch.

use millstream_core::{Error, ErrorKind, StorageLevel, capture, secs};

use super::run::Programs;

pub(crate) const PROGRAMS: Programs = &[
    ("input", |run| run.output(&run.numbers())),
    ("input_of_nothing", |run| run.output(&run.numbers())),
    ("input_of_missing", |run| run.output(&run.numbers())),
    ("map", |run| run.output(&run.numbers().map(|x| x * 10))),
    ("map_to_pairs", |run| run.output(&run.words().map(|word| (word.clone(), word.len())))),
    ("map_to_lists", |run| run.output(&run.numbers().map(|x| vec![x; x as usize]))),
    ("filter", |run| run.output(&run.numbers().filter(|x| x % 2 == 0))),
    ("filter_all", |run| run.output(&run.numbers().filter(|_| false))),
    ("filter_none", |run| run.output(&run.numbers().filter(|_| true))),
    ("flat_map", |run| run.output(&run.words().flat_map(|words| words.split('-')))),
    ("flat_map_to_nothing", |run| run.output(&run.numbers().flat_map(|_| None::<i64>))),
    ("flat_map_to_many", |run| run.output(&run.numbers().flat_map(|x| vec![x; x as usize]))),
    ("glom", |run| run.output(&run.numbers().glom())),
    ("map_partitions", |run| run.output(&run.numbers().map_partitions(|part| [part.sum::<i64>()]))),
    ("map_partitions_to_nothing", |run| run.output(&run.numbers().map_partitions(|_| None::<i64>))),
    ("map_partitions_lazily", |run| run.output(&run.numbers().map_partitions(|part| part))),
    ("repartition", |run| {
        let three = run.numbers().repartition(3);
        run.output(&three);
        run.action(&three, |rdd| Ok(vec![rdd.num_partitions()]));
    }),
    ("repartition_to_one", |run| {
        let one = run.numbers().repartition(1);
        run.output(&one);
        run.action(&one, |rdd| Ok(vec![rdd.num_partitions()]));
    }),
    ("repartition_missing", |run| run.output(&run.numbers().repartition(3))),
    ("union", |run| run.output(&run.numbers().union(&run.numbers()))),
    ("union_with_itself", |run| {
        let numbers = run.numbers();
        run.output(&numbers.union(&numbers));
    }),
    ("union_of_missing", |run| run.output(&run.numbers().union(&run.numbers()))),
    ("union_is_wide", |run| {
        let numbers = run.numbers();
        run.action(&numbers.union(&numbers), |rdd| Ok(vec![rdd.num_partitions()]));
    }),
    ("union_of_many", |run| run.output(&run.ssc().union(&[run.numbers(), run.numbers(), run.numbers()]))),
    ("union_of_one", |run| run.output(&run.ssc().union(&[run.numbers()]))),
    ("count", |run| run.output(&run.numbers().count())),
    ("count_missing", |run| run.output(&run.numbers().count())),
    ("count_of_nothing", |run| run.output(&run.numbers().count())),
    ("count_after_filter", |run| run.output(&run.numbers().filter(|x| x % 2 == 0).count())),
    ("count_partitions", |run| run.action(&run.numbers().count(), |rdd| Ok(vec![rdd.num_partitions()]))),
    ("reduce", |run| run.output(&run.numbers().reduce(|a, b| a + b))),
    ("reduce_to_max", |run| run.output(&run.numbers().reduce(i64::max))),
    ("reduce_one", |run| run.output(&run.numbers().reduce(|_, _| -1))),
    ("reduce_partitions", |run| {
        run.action(&run.numbers().reduce(|a, b| a + b), |rdd| Ok(vec![rdd.num_partitions()]));
    }),
    ("count_by_value", |run| run.output(&run.words().count_by_value())),
    ("count_by_value_partitioned", |run| {
        let counts = run.words().count_by_value_partitioned(3);
        run.output(&counts);
        run.action(&counts, |rdd| Ok(vec![rdd.num_partitions()]));
    }),
    ("count_by_value_of_pairs", |run| run.output(&run.pairs().count_by_value())),
    ("transform", |run| run.output(&run.numbers().transform(|rdd, _| rdd.map(|x| x + 1).filter(|x| *x > 2)))),
    ("transform_with_time", |run| {
        run.output(&run.numbers().transform(|rdd, time| rdd.map(capture(time.as_millis(), |now: &i64, x| x + now))));
    }),
    ("transform_to_nothing", |run| run.output(&run.numbers().transform(|rdd, _| rdd.context().empty::<i64>()))),
    ("transform_to_constant", |run| {
        let constant = run.rdd([7i64, 8, 9]);
        run.output(&run.numbers().transform(move |_, _| constant.clone()));
    }),
    ("transform_missing", |run| run.output(&run.numbers().transform(|rdd, _| rdd))),
    ("transform_twice", |run| {
        run.output(&run.numbers().transform(|rdd, _| rdd.union(&rdd)).transform(|rdd, _| rdd.union(&rdd)));
    }),
    ("cache", |run| {
        let kept = run.numbers().map(|x| x + 1).cache();
        run.output(&kept);
        run.output(&kept.filter(|x| *x > 4));
    }),
    ("persist", |run| {
        let kept = run.numbers().map(|x| x + 1).persist(StorageLevel::MEMORY_AND_DISK);
        run.output(&kept.reduce(|a, b| a + b));
        run.output(&kept);
    }),
    ("checkpoint", |run| run.output(&run.numbers().map(|x| x * 2).checkpoint(secs(2)).map(|x| x + 1))),
    ("two_outputs", |run| {
        let numbers = run.numbers();
        run.output(&numbers.filter(|x| x % 2 == 0));
        run.output(&numbers.filter(|x| x % 2 != 0));
    }),
    ("two_inputs", |run| {
        run.output(&run.numbers().map(|x| x + 1));
        run.output(&run.words().map(|word| format!("{word}!")));
    }),
    ("word_count", |run| run.output(&run.words().map(|word| (word, 1i64)).reduce_by_key(|a, b| a + b))),
    ("long_chain", |run| {
        run.output(&(0..50).fold(run.numbers(), |numbers, _| numbers.map(|x| x + 1).filter(|x| *x > 0)));
    }),
    ("a_failing_element", |run| {
        run.output(&run.numbers().map(|x| {
            assert!(x != 0, "not zero");
            60 / x
        }));
    }),
    ("a_failing_transform", |run| {
        run.output(&run.numbers().transform(|rdd, time| match time.as_millis() {
            2000 => rdd.context().failed(Error::new(ErrorKind::User, "not now")),
            _ => rdd,
        }));
    }),
];
