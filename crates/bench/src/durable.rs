//! A socket's word count with a checkpoint, a log and states that are saved, beside the same without.

use std::io::{BufWriter, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use millstream::prelude::*;

use crate::engine::completed_batches;
use crate::report::quantile_ms;
use crate::timer;

/// A record has a hundred bytes, its end included.
const RECORD: usize = 100;
const INTERVAL: Duration = Duration::from_millis(100);

/// Runs the program `rounds` times each way, in turn, with so many records a second, and prints what a batch takes and what a record
/// costs.
pub(crate) fn run(threads: usize, batches: usize, rate: u64, rounds: usize) -> Result<()> {
    let folder = std::env::temp_dir().join(format!("millstream-durable-{}", std::process::id()));
    let (mut off, mut on) = (Vec::new(), Vec::new());
    for _ in 0..rounds.max(1) {
        off.push(one(threads, batches, rate, None)?);
        on.push(one(threads, batches, rate, Some(&folder))?);
        std::fs::remove_dir_all(&folder)?;
    }
    let median = |runs: &[Run], of: fn(&Run) -> f64| {
        let mut all: Vec<f64> = runs.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    for (engine, runs) in [("off", &off), ("on", &on)] {
        println!(
            "{{\"workload\":\"durable\",\"checkpoint\":\"{engine}\",\"records_per_batch\":{:.0},\"ms_median\":{:.3},\
             \"cpu_us_per_record\":{:.4}}}",
            median(runs, |run| run.records),
            median(runs, |run| run.ms),
            median(runs, |run| run.cpu),
        );
    }
    println!(
        "{{\"workload\":\"durable\",\"ms_ratio\":{:.3},\"cpu_ratio\":{:.3}}}",
        median(&on, |run| run.ms) / median(&off, |run| run.ms),
        median(&on, |run| run.cpu) / median(&off, |run| run.cpu),
    );
    Ok(())
}

/// What was found in a run.
struct Run {
    records: f64,
    ms: f64,
    /// Of the whole process, the sender's end of the socket included, in microseconds.
    cpu: f64,
}

fn one(threads: usize, batches: usize, rate: u64, folder: Option<&Path>) -> Result<Run> {
    let (port, stopped) = serve(rate)?;
    let build = |ssc: &StreamingContext| {
        ssc.socket_text_stream("127.0.0.1", port)
            .flat_map(|line| line.split(' '))
            .map(|word| (word, 1u64))
            .reduce_by_key(|a, b| a + b)
            .foreach_rdd(|rdd, _time| rdd.count().map(drop));
        Ok(())
    };
    let mut conf = Conf::new(&format!("local[{threads}]"), "durable")?;
    conf.streaming.backpressure = false;
    let builder = StreamingContext::builder(conf, INTERVAL);
    let ssc = if let Some(folder) = folder {
        builder.get_or_create(folder, build)?
    } else {
        let ssc = builder.build()?;
        build(&ssc)?;
        ssc
    };
    let before = cpu();
    let completed = completed_batches(&ssc, batches)?;
    let cpu = cpu() - before;
    stopped.store(true, Ordering::Relaxed);
    let counted = &completed[batches / 5..];
    let times: Vec<Duration> =
        counted.iter().filter_map(|batch| Some(batch.stamps.ended? - batch.stamps.started?)).collect();
    let all: u64 = completed.iter().map(|batch| batch.num_records()).sum();
    let records = counted.iter().map(|batch| batch.num_records()).sum::<u64>() as f64 / counted.len() as f64;
    Ok(Run { records, ms: quantile_ms(&times, 0.5), cpu: cpu.as_secs_f64() * 1e6 / all as f64 })
}

/// Sends lines to whoever connects, so many a second, until it is told to stop. Returns the port.
fn serve(rate: u64) -> Result<(u16, Arc<AtomicBool>)> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    let stopped = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&stopped);
    let lines: Vec<u8> = (0..1000u64).flat_map(line).collect();
    #[allow(clippy::disallowed_methods, reason = "the other end of the socket is not part of the program")]
    std::thread::spawn(move || {
        let Ok((stream, _)) = listener.accept() else { return };
        let mut stream = BufWriter::new(stream);
        let begin = timer::now();
        let mut sent = 0u64;
        while !stop.load(Ordering::Relaxed) {
            let due = (begin.elapsed().as_secs_f64() * rate as f64) as u64;
            while sent < due {
                // The receiver has gone, with the program.
                if stream.write_all(&lines).is_err() {
                    return;
                }
                sent += 1000;
            }
            timer::pause();
        }
    });
    Ok((port, stopped))
}

/// A line of a hundred bytes, in words of which most occur often.
fn line(number: u64) -> Vec<u8> {
    let mut line: Vec<u8> =
        (0..12).flat_map(|i| format!("w{} ", (number * 31 + i * i * 7) % 5000).into_bytes()).collect();
    line.resize(RECORD - 1, b'x');
    line.push(b'\n');
    line
}

/// The processor time that the process has taken; nothing where that is not known.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = behind.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    // A tick is a hundredth of a second wherever Linux runs.
    Duration::from_millis(ticks * 10)
}
