//! A large state that changes a little: a thousand updates a batch, into ten thousand keys and into ten million.

use std::collections::HashMap;
use std::time::Duration;

use millstream::core::partitioner::Partitioner;
use millstream::prelude::*;

use crate::engine::completed_batches;
use crate::report::quantile_ms;
use crate::restart::size;

/// How many updates a batch brings.
const UPDATES: u64 = 1000;

/// Runs both sizes, with and without a time-out, and prints a line of JSON for each.
pub(crate) fn run(threads: usize, batches: usize, keys: u64, saved: Saved) -> Result<()> {
    let before = resident();
    let plain: HashMap<u64, u64> = (0..keys).map(|key| (key, 0)).collect();
    println!(
        "{{\"engine\":\"hand\",\"workload\":\"bigstate\",\"keys\":{},\"mb_resident\":{:.0}}}",
        plain.len(),
        (resident() - before) / 1e6
    );
    drop(plain);
    for keys in [10_000, keys] {
        for timeout in [None, Some(mins(10))] {
            one(threads, batches, keys, timeout, saved, before)?;
        }
    }
    Ok(())
}

/// Where states are saved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Saved {
    /// In memory: what it costs the batches without the disk.
    InMemory,
    OnDisk,
    /// Hardly ever, to compare.
    Not,
}

fn one(threads: usize, batches: usize, keys: u64, timeout: Option<Duration>, saved: Saved, before: f64) -> Result<()> {
    let ssc = StreamingContext::new(&format!("local[{threads}]"), "bench", millis(10))?;
    let folder = std::env::temp_dir().join(format!("millstream-bigstate-{}", std::process::id()));
    if saved == Saved::OnDisk {
        ssc.checkpoint(&folder)?;
    } else {
        ssc.context().set_checkpoint_store(std::sync::Arc::new(millstream::core::checkpoint::MemoryCheckpoints::new()));
    }
    let queue: RddQueue<(u64, u64)> = (0..batches as u64)
        .map(|batch| {
            ssc.context().parallelize((0..UPDATES).map(|i| (mixed(batch * UPDATES + i) % keys, i)).collect(), threads)
        })
        .collect();
    let parts = ssc.context().parallelize((0..threads as u64).collect(), threads);
    let initial = parts
        .flat_map(capture((keys, threads as u64), |(keys, parts): &(u64, u64), part: u64| {
            let (keys, parts) = (*keys, *parts);
            (part..keys).step_by(parts as usize).map(|key| (key, 0u64))
        }))
        .partition_by(Partitioner::hash(threads));
    let sum = StateSpec::function(|_: &u64, value: Option<u64>, state: &mut State<'_, u64>| {
        let sum = state.get_option().copied().unwrap_or(0) + value.unwrap_or(0);
        if !state.is_timing_out() {
            state.update(sum);
        }
        sum
    });
    let mut spec = sum.initial_state(&initial).partitioner(Partitioner::hash(threads));
    // The state itself is to be measured.
    drop((parts, initial));
    if let Some(timeout) = timeout {
        spec = spec.timeout(timeout);
    }
    let mapped = ssc.queue_stream(&queue).map_with_state(spec);
    if saved == Saved::Not {
        mapped.checkpoint(mins(600));
    }
    mapped.foreach_rdd(|rdd, _time| rdd.count().map(drop));
    let before_writing = written();
    let completed = completed_batches(&ssc, batches)?;
    let times: Vec<Duration> =
        completed.iter().skip(2).filter_map(|b| Some(b.stamps.ended? - b.stamps.started?)).collect();
    if saved == Saved::OnDisk {
        let (written, kept) = (written() - before_writing, size(&folder));
        println!(
            "{{\"workload\":\"bigstate\",\"keys\":{keys},\"timeout\":{},\"mb_written_per_batch\":{:.3},\"mb_kept\":{:.1}}}",
            timeout.is_some(),
            written / 1e6 / batches as f64,
            kept as f64 / 1e6,
        );
    }
    println!(
        "{{\"engine\":\"millstream\",\"workload\":\"bigstate\",\"keys\":{keys},\"timeout\":{},\"batches\":{},\"ms_median\":{:.3},\
         \"ms_p99\":{:.3},\"ms_p999\":{:.3},\"ms_max\":{:.3},\"mb_resident\":{:.0}}}",
        timeout.is_some(),
        times.len(),
        quantile_ms(&times, 0.5),
        quantile_ms(&times, 0.99),
        quantile_ms(&times, 0.999),
        quantile_ms(&times, 1.0),
        (resident() - before) / 1e6,
    );
    let _ = std::fs::remove_dir_all(folder);
    Ok(())
}

pub(crate) fn mixed(i: u64) -> u64 {
    let x = (i ^ (i >> 7)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^ (x >> 29)
}

/// How many bytes the process has written; 0 where that is not known.
fn written() -> f64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("wchar:"));
    line.and_then(|n| n.trim().parse().ok()).unwrap_or(0.0)
}

/// The memory that the process takes, in bytes; 0 where that is not known.
fn resident() -> f64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split(' ').nth(1).and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0) * 4096.0
}
