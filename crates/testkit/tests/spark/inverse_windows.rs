//! Windows that are computed from the one before: what came is added, what left is taken away.

use millstream_core::{Text, millis, secs};
use millstream_streaming::DStream;

use super::run::Programs;

type Pairs = DStream<(Text, i64)>;

/// Sums over a window, by addition and subtraction.
fn sums(pairs: &Pairs, length: u64, slide: u64) -> Pairs {
    pairs.reduce_by_key_and_window_inv(|a, b| a + b, |a, b| a - b, (secs(length), secs(slide)))
}

/// The same, of those that `keep` keeps.
fn sums_of<F>(pairs: &Pairs, length: u64, slide: u64, keep: F) -> Pairs
where
    F: Fn(&Text, &i64) -> bool + Send + Sync + 'static,
{
    pairs.reduce_by_key_and_window_inv_filtered(|a, b| a + b, |a, b| a - b, keep, (secs(length), secs(slide)))
}

/// The same, without sums of zero.
fn sums_but_zero(pairs: &Pairs, length: u64, slide: u64) -> Pairs {
    sums_of(pairs, length, slide, |_, sum| *sum != 0)
}

pub(crate) const PROGRAMS: Programs = &[
    ("big", |run| run.output(&sums(&run.pairs(), 2, 1))),
    ("big_filtered", |run| run.output(&sums_but_zero(&run.pairs(), 2, 1))),
    ("keys_stay", |run| run.output(&sums(&run.pairs(), 2, 1))),
    ("keys_leave_by_filter", |run| run.output(&sums_but_zero(&run.pairs(), 2, 1))),
    ("keys_leave_and_return", |run| run.output(&sums_but_zero(&run.pairs(), 2, 1))),
    ("keys_stay_and_return", |run| run.output(&sums(&run.pairs(), 2, 1))),
    ("larger_slide", |run| run.output(&sums(&run.pairs(), 4, 2))),
    ("tumbling", |run| run.output(&sums(&run.pairs(), 2, 2))),
    ("tumbling_filtered", |run| run.output(&sums_but_zero(&run.pairs(), 2, 2))),
    ("with_gaps", |run| run.output(&sums(&run.pairs(), 2, 3))),
    ("with_gaps_filtered", |run| run.output(&sums_but_zero(&run.pairs(), 2, 3))),
    ("of_one_batch", |run| run.output(&sums(&run.pairs(), 1, 1))),
    ("of_missing", |run| run.output(&sums(&run.pairs(), 2, 1))),
    ("of_nothing", |run| run.output(&sums(&run.pairs(), 2, 1))),
    ("of_empty_batches", |run| run.output(&sums(&run.pairs(), 3, 1))),
    ("of_duplicates", |run| run.output(&sums(&run.pairs(), 2, 1))),
    ("of_skew", |run| run.output(&sums(&run.pairs(), 2, 1))),
    ("of_cancelling_values", |run| run.output(&sums_but_zero(&run.pairs(), 3, 1))),
    ("longer_than_the_input", |run| run.output(&sums(&run.pairs(), 20, 1))),
    ("past_the_checkpoint", |run| run.output(&sums(&run.pairs(), 3, 1))),
    ("partitioned", |run| {
        let sums =
            run.pairs().reduce_by_key_and_window_inv_partitioned(|a, b| a + b, |a, b| a - b, (secs(2), secs(1)), 3);
        run.output(&sums);
        run.action(&sums, |rdd| Ok(vec![rdd.num_partitions()]));
    }),
    ("by_default", |run| run.action(&sums(&run.pairs(), 2, 1), |rdd| Ok(vec![rdd.num_partitions()]))),
    ("filter_of_small_values", |run| run.output(&sums_of(&run.pairs(), 2, 1, |_, sum| *sum > 2))),
    ("filter_by_key", |run| run.output(&sums_of(&run.pairs(), 3, 1, |key, _| *key != "b"))),
    ("filter_that_drops_too_early", |run| run.output(&sums_of(&run.pairs(), 2, 1, |_, sum| *sum > 1))),
    ("of_sets", |run| {
        run.output(&run.pairs().reduce_by_key_and_window_inv(|a, b| a | b, |a, b| a & !b, (secs(3), secs(1))));
    }),
    ("of_window", |run| run.output(&sums(&run.pairs().window(secs(2)), 2, 1))),
    ("of_tumbling_window", |run| run.output(&sums(&run.pairs().window((secs(2), secs(2))), 4, 2))),
    ("window_of_it", |run| run.output(&sums(&run.pairs(), 2, 1).window((secs(2), secs(2))))),
    ("beside_the_plain_one", |run| {
        let pairs = run.pairs();
        run.output(&sums_but_zero(&pairs, 3, 1));
        run.output(&pairs.reduce_by_key_and_window(|a, b| a + b, (secs(3), secs(1))));
    }),
    ("joined_with_its_input", |run| {
        let pairs = run.pairs();
        run.output(&pairs.join(&sums(&pairs, 2, 1)));
    }),
    ("checkpointed_often", |run| run.output(&sums(&run.pairs(), 2, 1).checkpoint(secs(2)))),
    ("slide_that_does_not_fit", |run| {
        run.output(&run.pairs().reduce_by_key_and_window_inv(|a, b| a + b, |a, b| a - b, (secs(2), millis(1500))));
    }),
    ("reduce_by_window", |run| {
        run.output(&run.numbers().reduce_by_window_inv(|a, b| a + b, |a, b| a - b, (secs(2), secs(1))));
    }),
    ("reduce_by_window_by_two", |run| {
        run.output(&run.numbers().reduce_by_window_inv(|a, b| a + b, |a, b| a - b, (secs(4), secs(2))));
    }),
    ("reduce_by_window_is_one_partition", |run| {
        let sums = run.numbers().reduce_by_window_inv(|a, b| a + b, |a, b| a - b, (secs(2), secs(1)));
        run.action(&sums, |rdd| Ok(vec![rdd.num_partitions()]));
    }),
    ("count_by_window", |run| run.output(&run.numbers().count_by_window((secs(2), secs(1))))),
    ("count_by_window_before_the_first", |run| run.output(&run.numbers().count_by_window((secs(2), secs(1))))),
    ("count_by_window_by_two", |run| run.output(&run.numbers().count_by_window((secs(4), secs(2))))),
    ("count_by_window_of_missing", |run| run.output(&run.numbers().count_by_window((secs(2), secs(1))))),
    ("count_by_window_of_nothing", |run| run.output(&run.numbers().count_by_window((secs(2), secs(1))))),
    ("count_by_value_and_window", |run| run.output(&run.words().count_by_value_and_window((secs(2), secs(1))))),
    ("count_by_value_and_window_by_two", |run| run.output(&run.words().count_by_value_and_window((secs(4), secs(2))))),
    ("count_by_value_and_window_partitioned", |run| {
        let counts = run.words().count_by_value_and_window_partitioned((secs(2), secs(1)), 3);
        run.output(&counts);
        run.action(&counts, |rdd| Ok(vec![rdd.num_partitions()]));
    }),
];
