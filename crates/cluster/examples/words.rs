//! A word count in two stages, batch after batch, on any master: the same program on threads, on a local cluster, or on
//! hosts that join, and how long a batch takes.
//!
//! ```sh
//! cargo run --release -p millstream-cluster --example words -- local-cluster[2,1]
//! ```
//!
//! With `cluster://BIND:PORT` it waits for executors: the same program, started as `words executor --driver HOST:PORT`, with
//! the same `MILLSTREAM_SECRET`.

use std::time::Duration;

use millstream_core::clock::monotonic;
use millstream_core::{Context, Result, Text};

/// As programs in production have it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[allow(clippy::print_stdout, reason = "it is what the example is for")]
fn main() -> Result<()> {
    millstream_cluster::be_executor_if_asked();
    let mut arguments = std::env::args().skip(1);
    let master = arguments.next().unwrap_or_else(|| "local-cluster[2,1]".to_owned());
    let batches: usize = arguments.next().and_then(|number| number.parse().ok()).unwrap_or(300);
    let context = Context::new(&master, "words")?;
    let lines: Vec<Text> =
        (0..100).map(|i| Text::from(format!("the quick brown fox {} jumps over line {i}", i % 7))).collect();
    let mut took: Vec<Duration> = Vec::new();
    for batch in 0..batches + 10 {
        let begun = monotonic();
        let words = context.parallelize(lines.clone(), 2).flat_map(|line| line.split(' ')).map(|word| (word, 1u64));
        let counts = words.reduce_by_key_partitioned(|a, b| a + b, 2).collect()?;
        assert_eq!(counts.iter().map(|(_, count)| count).sum::<u64>(), 900);
        if batch >= 10 {
            took.push(monotonic().saturating_sub(begun));
        }
    }
    took.sort_unstable();
    let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    println!("{master}: {batches} batches, median {:.2} ms, p90 {:.2} ms, p99 {:.2} ms", at(0.5), at(0.9), at(0.99));
    Ok(())
}
