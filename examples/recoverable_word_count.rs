//! Counts words since the beginning, and goes on where it was. (Spark's RecoverableNetworkWordCount and
//! StatefulNetworkWordCount.)
//!
//! ```text
//! nc -lk 9999                                                              # in another terminal; type words
//! cargo run --release --example recoverable_word_count /tmp/words
//! cargo run --release --example recoverable_word_count millstream checkpoint inspect /tmp/words
//! cargo run --release --example recoverable_word_count millstream replay /tmp/words last
//! ```

use millstream::prelude::*;
use millstream::streaming::StreamingContextBuilder;

fn setup(ssc: &StreamingContext) -> Result<()> {
    let words = ssc.socket_text_stream("localhost", 9999).uid("lines").flat_map(|line| line.split(' '));
    let count = |new: Vec<u64>, old: Option<u64>| Some(old.unwrap_or(0) + new.iter().sum::<u64>());
    words.map(|word| (word, 1u64)).update_state_by_key(count).uid("counts").print();
    Ok(())
}

fn builder() -> Result<StreamingContextBuilder> {
    let mut conf = Conf::new("local[2]", "words")?;
    // Ten batches can be made again, one by one.
    conf.streaming.retain_batches = 10;
    Ok(StreamingContext::builder(conf, secs(1)))
}

fn main() -> Result<()> {
    builder()?.commands(setup)?;
    let folder = std::env::args().nth(1).unwrap_or_else(|| "/tmp/words".into());
    let ssc = builder()?.get_or_create(folder, setup)?;
    ssc.start()?;
    ssc.await_termination()
}
