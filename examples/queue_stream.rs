//! Counts numbers by their last digit, from a queue that the program fills itself. (Spark's QueueStream.)
//!
//! ```text
//! cargo run --release --example queue_stream
//! ```

use millstream::prelude::*;

fn main() -> Result<()> {
    let ssc = StreamingContext::new("local[2]", "queue stream", millis(200))?;
    let queue = RddQueue::new();
    ssc.queue_stream(&queue).map(|x: u64| x % 10).count_by_value().print();
    ssc.start()?;
    for _ in 0..5 {
        queue.push(ssc.context().parallelize((1..=1000).collect(), 10));
    }
    ssc.await_termination_or_timeout(millis(1500))?;
    ssc.stop_gracefully()
}
