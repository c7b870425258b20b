//! A window that is made from the window before: what it costs to keep it, however long it is.

use std::time::Duration;

use millstream::core::checkpoint::MemoryCheckpoints;
use millstream::prelude::*;

use crate::bigstate::mixed;
use crate::engine::completed_batches;
use crate::report::quantile_ms;

/// How many records a batch brings.
const RECORDS: u64 = 1000;
/// How many batches the two windows hold.
const LENGTHS: [u64; 2] = [10, 600];

/// Runs both windows over so many batches each, from when they are full, and prints a line of JSON for each.
///
/// The output looks at one entry of each partition: reading all of a window costs its size, and is not upkeep.
pub(crate) fn run(threads: usize, batches: usize, keys: u64) -> Result<()> {
    let mut medians = Vec::new();
    for length in LENGTHS {
        let times = one(threads, batches, keys, length)?;
        medians.push(quantile_ms(&times, 0.5));
        println!(
            "{{\"engine\":\"millstream\",\"workload\":\"upkeep\",\"window\":{length},\"keys\":{keys},\"batches\":{},\
             \"ms_median\":{:.3},\"ms_p99\":{:.3}}}",
            times.len(),
            quantile_ms(&times, 0.5),
            quantile_ms(&times, 0.99),
        );
    }
    println!("{{\"workload\":\"upkeep\",\"ratio\":{:.2}}}", medians[1] / medians[0]);
    Ok(())
}

/// Returns the times of the batches behind the first full window: from when the batch loop was woken to the end of its output.
fn one(threads: usize, batches: usize, keys: u64, length: u64) -> Result<Vec<Duration>> {
    let interval = millis(5);
    let ssc = StreamingContext::new(&format!("local[{threads}]"), "bench", interval)?;
    ssc.context().set_checkpoint_store(std::sync::Arc::new(MemoryCheckpoints::new()));
    let all = length as usize + batches;
    let queue: RddQueue<(u64, u64)> = (0..all as u64)
        .map(|batch| {
            let records = (0..RECORDS).map(|i| (mixed(batch * RECORDS + i) % keys, 1)).collect();
            ssc.context().parallelize(records, threads)
        })
        .collect();
    let window = ssc.queue_stream(&queue).reduce_by_key_and_window_inv_filtered(
        |a, b| a + b,
        |a, b| a - b,
        |_, n| *n != 0,
        (interval * length as u32, interval),
    );
    window.map_partitions(|entries| entries.take(1)).foreach_rdd(|rdd, _time| rdd.count().map(drop));
    let completed = completed_batches(&ssc, all)?;
    Ok(completed.iter().skip(length as usize).filter_map(|batch| batch.stamps.ended).collect())
}
