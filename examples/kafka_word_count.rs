//! Counts words of a topic: in a window, and since the beginning, each count written to a topic exactly once.
//!
//! ```text
//! cargo run --release --example kafka_word_count --features kafka -- BROKERS LINES COUNTS
//! ```
//!
//! The topics `LINES` and `COUNTS` must be there (`kafka_console BROKERS create LINES 3`). Kill it, start it again, and
//! read
//! `COUNTS` with `kafka_console BROKERS consume COUNTS`: nothing is missing, and nothing is there twice. Its
//! checkpoint is in the
//! folder `kafka-word-count`.
//!
//! Without anything it runs for some batches on a pretended broker of its own: a demo, without a checkpoint.

#![allow(clippy::print_stdout, reason = "it is a program for people")]

use millstream::kafka::{self, DemoCluster, KafkaSink, SaveToKafka as _, Start};
use millstream::prelude::*;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match &words[..] {
        [brokers, lines, counts] => {
            let ssc = StreamingContext::get_or_create("kafka-word-count", millis(500), |ssc| {
                program(ssc, brokers, lines, counts);
                Ok(())
            })?;
            println!("{}", ssc.explain());
            ssc.start()?;
            ssc.stop_on_signals()?;
            ssc.await_termination()
        }
        [] => demo(),
        _ => Err(Error::new(ErrorKind::Config, "kafka_word_count BROKERS LINES COUNTS")),
    }
}

fn program(ssc: &StreamingContext, brokers: &str, lines: &str, counts: &str) {
    let source = kafka::direct(brokers).group("kafka-word-count").subscribe([lines]).start(Start::Earliest);
    let words = ssc.input(source).flat_map(|record| record.to_text()).flat_map(|line| line.split(' '));
    let pairs = words.map(|word| (word, 1u64));

    pairs.reduce_by_key_and_window(|a, b| a + b, (secs(5), millis(500))).print();

    let total = StateSpec::function(|word: &Text, one: Option<u64>, total: &mut State<'_, u64>| {
        let n = total.get_option().copied().unwrap_or(0) + one.unwrap_or(0);
        total.update(n);
        (word.clone(), n)
    });
    let totals = pairs.reduce_by_key(|a, b| a + b).map_with_state(total).uid("totals");
    totals.map(|(word, n)| (word, n.to_string())).save_to_kafka(KafkaSink::to(brokers, counts)).uid("counts");
}

fn demo() -> Result<()> {
    println!(
        "this is a demo, on a pretended broker, which has no real transactions: name a broker and two topics for more"
    );
    let cluster = DemoCluster::start([("lines", 2), ("counts", 1)])?;
    let brokers = cluster.brokers();
    let ssc = StreamingContext::new("local[2]", "kafka word count", millis(500))?;
    ssc.context().set_checkpoint_store(std::sync::Arc::new(millstream::core::checkpoint::MemoryCheckpoints::new()));
    program(&ssc, &brokers, "lines", "counts");
    ssc.start()?;
    for line in ["to be or not to be", "that is the question", "to sleep perchance to dream"] {
        kafka::write(brokers.as_str(), "lines", [line])?;
        ssc.await_termination_or_timeout(millis(700))?;
    }
    ssc.stop_with(millstream::Stop::gracefully())?;
    let context = Context::new("local[1]", "counts")?;
    let counts = kafka::rdd(&context, brokers.as_str(), kafka::all_of(brokers.as_str(), ["counts"])?)?.collect()?;
    println!("in topic counts: {counts:?}");
    Ok(())
}
