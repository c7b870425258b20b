//! Streams that read a queue of Rdds.

use millstream_core::secs;
use millstream_streaming::WhenEmpty;

use super::run::Programs;

pub(crate) const PROGRAMS: Programs = &[
    ("one_at_a_time", |run| run.output(&run.ssc().queue_stream(&run.queue()))),
    ("all_at_once", |run| run.output(&run.ssc().queue_stream_all(&run.queue(), WhenEmpty::OnePartition))),
    ("when_empty_a_default", |run| {
        let default = WhenEmpty::Default(run.rdd([7, 8]));
        run.output(&run.ssc().queue_stream_or(&run.queue(), default));
    }),
    ("all_at_once_with_a_default", |run| {
        let default = WhenEmpty::Default(run.rdd([7, 8]));
        run.output(&run.ssc().queue_stream_all(&run.queue(), default));
    }),
    ("when_empty_is_an_rdd", |run| run.action(&run.ssc().queue_stream(&run.queue()), |rdd| Ok(vec![rdd.count()?]))),
    ("counts_when_empty", |run| run.output(&run.ssc().queue_stream(&run.queue()).count())),
    ("window_of_a_queue", |run| run.output(&run.ssc().queue_stream(&run.queue()).window(secs(2)))),
    ("two_queues", |run| {
        let (one, other) = (run.ssc().queue_stream(&run.queue()), run.ssc().queue_stream(&run.queue()));
        run.output(&one.union(&other));
    }),
];
