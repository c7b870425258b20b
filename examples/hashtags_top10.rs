//! The ten hashtags that were written most in the last minute, every two seconds: a window, a statement, a table.
//!
//! ```text
//! cargo run --release -p millstream-examples --features sql --example hashtags_top10
//! ```

use millstream::prelude::*;
use millstream::sql::{SqlContext, SqlRdds as _, SqlStreams as _};

/// What is asked of each window.
pub const STATEMENT: &str = "
    SELECT value AS hashtag, count(*) AS total
    FROM hashtags
    GROUP BY value
    ORDER BY total DESC, hashtag
    LIMIT 10";

/// Counts the hashtags of the last `window`. The window keeps columns: they are made once, and not again for each batch.
pub fn top10(sql: &SqlContext, tweets: &DStream<Text>, window: impl Into<Window>) -> DStream<(String, i64)> {
    let hashtags =
        tweets.flat_map(|tweet| tweet.split_whitespace()).filter(|word| word.len() > 1 && word.starts_with('#'));
    hashtags.columns().window(window).sql(sql, "hashtags", STATEMENT)
}

fn main() -> Result<()> {
    let ssc = StreamingContext::new("local[2]", "hashtags", millis(500))?;
    let sql = SqlContext::new(&ssc)?;
    let queue = RddQueue::new();
    top10(&sql, &ssc.queue_stream(&queue), (secs(60), secs(1))).foreach_rdd(|rdd, time| {
        println!("========= {time} =========");
        rdd.to_df_named(["hashtag", "total"])?.show()
    });
    ssc.start()?;
    for batch in 0..6usize {
        let tweet = |i: usize| Text::from(format!("tweet {i} about #rust and #tag{}", (i * i + batch) % 17));
        queue.push(ssc.context().parallelize((0..200).map(tweet).collect(), 2));
    }
    ssc.await_termination_or_timeout(secs(4))?;
    ssc.stop_gracefully()
}
