//! Counts the words of each batch with SQL, in Spark's own way: a data frame in `foreach_rdd`. (Spark's SqlNetworkWordCount.)
//!
//! ```text
//! nc -lk 9999                       # in another window: type words
//! cargo run --release -p millstream-examples --features sql --example sql_word_count -- localhost 9999
//! ```

use millstream::prelude::*;
use millstream::sql::{SqlContext, SqlRdds as _};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let host = arguments.next().unwrap_or_else(|| "localhost".to_owned());
    let port = arguments.next().and_then(|port| port.parse().ok()).unwrap_or(9999);

    let ssc = StreamingContext::new("local[2]", "sql word count", secs(2))?;
    let words = ssc.socket_text_stream(&host, port).flat_map(|line| line.split(' '));
    words.foreach_rdd(|rdd, time| {
        let counts = counts(&rdd)?;
        println!("========= {time} =========");
        counts.show()
    });
    ssc.start()?;
    ssc.await_termination()
}

/// Makes the words of a batch a table, and asks it how often each is there.
pub fn counts(words: &Rdd<Text>) -> Result<millstream::sql::DataFrame> {
    let sql = SqlContext::get_or_create(words.context())?;
    words.to_df_named(["word"])?.create_or_replace_temp_view("words")?;
    sql.sql("SELECT word, count(*) AS total FROM words GROUP BY word")
}
