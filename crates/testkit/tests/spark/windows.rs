//! Windows that are computed anew each time.

use millstream_core::{Data, capture, millis, secs};
use millstream_streaming::DStream;

use super::run::{Programs, sorted};

/// A window of `length` seconds every `slide` seconds.
fn window<T: Data>(stream: &DStream<T>, length: u64, slide: u64) -> DStream<T> {
    stream.window((secs(length), secs(slide)))
}

pub(crate) const PROGRAMS: Programs = &[
    ("window_of_two", |run| run.output(&window(&run.numbers(), 2, 1))),
    ("window_that_tumbles", |run| run.output(&window(&run.numbers(), 2, 2))),
    ("window_of_four_by_two", |run| run.output(&window(&run.numbers(), 4, 2))),
    ("window_with_gaps", |run| run.output(&window(&run.numbers(), 2, 3))),
    ("window_of_one_by_three", |run| run.output(&window(&run.numbers(), 1, 3))),
    ("window_that_slides_by_itself", |run| run.output(&run.numbers().window(secs(3)))),
    ("window_of_one", |run| run.output(&run.numbers().window(secs(1)))),
    ("window_longer_than_the_input", |run| run.output(&window(&run.numbers(), 20, 1))),
    ("window_of_nothing", |run| run.output(&window(&run.numbers(), 2, 1))),
    ("window_of_missing", |run| run.output(&window(&run.numbers(), 2, 1))),
    ("window_of_missing_by_two", |run| run.output(&window(&run.numbers(), 2, 2))),
    ("window_of_window", |run| run.output(&window(&window(&run.numbers(), 2, 1), 4, 2))),
    ("window_of_tumbling_window", |run| run.output(&window(&window(&run.numbers(), 2, 2), 4, 2))),
    ("window_of_window_with_gaps", |run| run.output(&window(&window(&run.numbers(), 1, 2), 4, 4))),
    ("window_of_map", |run| run.output(&window(&run.numbers().map(|x| x * 10), 3, 1))),
    ("map_of_window", |run| run.output(&window(&run.numbers(), 3, 3).map(|x| x * 10))),
    ("window_of_pairs", |run| run.output(&window(&run.pairs(), 2, 2))),
    ("window_of_sums", |run| run.output(&window(&run.pairs().reduce_by_key(|a, b| a + b), 3, 1))),
    ("window_partitions", |run| run.action(&window(&run.numbers(), 3, 1), |rdd| Ok(vec![rdd.num_partitions()]))),
    ("window_partitions_of_sums", |run| {
        run.action(&run.pairs().reduce_by_key(|a, b| a + b).window(secs(3)), |rdd| Ok(vec![rdd.num_partitions()]));
    }),
    ("transform_of_window", |run| {
        run.output(
            &window(&run.numbers(), 2, 2)
                .transform(|rdd, time| rdd.map(capture(time.as_millis(), |now: &i64, x| x + now))),
        );
    }),
    ("distinct_in_window", |run| run.output(&window(&run.numbers(), 2, 1).transform(|rdd, _| rdd.distinct()))),
    ("count_in_window", |run| run.output(&window(&run.numbers(), 2, 1).count())),
    ("reduce_in_window", |run| run.output(&window(&run.numbers(), 2, 1).reduce(|a, b| a + b))),
    ("two_windows_of_one_stream", |run| {
        let numbers = run.numbers().map(|x| x + 1);
        run.output(&window(&numbers, 2, 1));
        run.output(&window(&numbers, 3, 3));
        run.output(&numbers);
    }),
    ("union_of_windows", |run| {
        let numbers = run.numbers();
        run.output(&window(&numbers, 2, 2).union(&window(&numbers, 4, 2)));
    }),
    ("window_of_union", |run| run.output(&window(&run.numbers().union(&run.numbers()), 2, 1))),
    ("window_of_count", |run| run.output(&run.numbers().count().window(secs(2)))),
    ("reduce_by_window", |run| run.output(&run.numbers().reduce_by_window(|a, b| a + b, (secs(2), secs(1))))),
    ("reduce_by_window_by_two", |run| run.output(&run.numbers().reduce_by_window(|a, b| a + b, (secs(4), secs(2))))),
    ("reduce_by_window_to_max", |run| run.output(&run.numbers().reduce_by_window(i64::max, (secs(3), secs(1))))),
    ("reduce_by_window_with_gaps", |run| run.output(&run.numbers().reduce_by_window(|a, b| a + b, (secs(2), secs(3))))),
    ("reduce_by_key_and_window", |run| run.output(&run.pairs().reduce_by_key_and_window(|a, b| a + b, secs(2)))),
    ("reduce_by_key_and_window_of_keys_that_leave", |run| {
        run.output(&run.pairs().reduce_by_key_and_window(|a, b| a + b, (secs(2), secs(1))));
    }),
    ("reduce_by_key_and_window_by_two", |run| {
        run.output(&run.pairs().reduce_by_key_and_window(|a, b| a + b, (secs(4), secs(2))));
    }),
    ("reduce_by_key_and_window_with_gaps", |run| {
        run.output(&run.pairs().reduce_by_key_and_window(|a, b| a + b, (secs(1), secs(3))));
    }),
    ("reduce_by_key_and_window_partitioned", |run| {
        let sums = run.pairs().reduce_by_key_and_window_partitioned(|a, b| a + b, (secs(3), secs(1)), 3);
        run.output(&sums);
        run.action(&sums, |rdd| Ok(vec![rdd.num_partitions()]));
    }),
    ("reduce_by_key_and_window_of_skew", |run| {
        run.output(&run.pairs().reduce_by_key_and_window(i64::max, (secs(2), secs(1))));
    }),
    ("reduce_by_key_and_window_of_nothing", |run| {
        run.output(&run.pairs().reduce_by_key_and_window(|a, b| a + b, secs(2)));
    }),
    ("group_by_key_and_window", |run| run.output(&run.pairs().group_by_key_and_window(secs(3)).map_values(sorted))),
    ("group_by_key_and_window_by_two", |run| {
        run.output(&run.pairs().group_by_key_and_window((secs(4), secs(2))).map_values(sorted));
    }),
    ("group_by_key_and_window_with_gaps", |run| {
        run.output(&run.pairs().group_by_key_and_window((secs(2), secs(3))).map_values(sorted));
    }),
    ("group_by_key_and_window_partitioned", |run| {
        let groups = run.pairs().group_by_key_and_window_partitioned((secs(2), secs(1)), 3);
        run.output(&groups.map_values(sorted));
        run.action(&groups, |rdd| Ok(vec![rdd.num_partitions()]));
    }),
    ("group_by_key_and_window_in_order_of_time", |run| {
        run.output(&run.pairs().group_by_key_and_window((secs(3), secs(1))));
    }),
    ("top_in_window", |run| {
        let counts = run.words().map(|word| (word, 1)).reduce_by_key_and_window(|a, b| a + b, (secs(2), secs(1)));
        run.action(&counts.map(|(word, n)| (n, word)), |rdd| rdd.sort_by_key_descending().take(2));
    }),
    ("long_window_of_many_batches", |run| {
        run.output(&run.numbers().reduce_by_window(|a, b| a + b, (secs(10), secs(5))));
    }),
    ("window_that_does_not_fit", |run| run.output(&run.numbers().window(millis(1500)))),
    ("slide_that_does_not_fit", |run| run.output(&run.numbers().window((secs(2), millis(1500))))),
    ("window_that_does_not_fit_its_parent", |run| run.output(&window(&window(&run.numbers(), 2, 2), 3, 2))),
];
