//! What a task costs the driver that does nothing, on more and more executors: processor time of the driver's process, by job and
//! by task.
//!
//! ```sh
//! cargo run --release -p millstream-cluster --example scaling -- 2,1 8,1 2,4 8,4 64,1
//! ```
//!
//! Each `E,C` is a local cluster of E executors with C slots. With a master instead it measures on that:
//! `cluster://BIND:PORT EXECUTORS SLOTS` waits for so many executors, with so many slots each, to join.

use std::sync::Arc;
use std::time::Duration;

use millstream_cluster::Cluster;
use millstream_core::clock::monotonic;
use millstream_core::conf::EngineConf;
use millstream_core::{Context, Error, ErrorKind, Result};

/// As programs in production have it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many tasks of a job a slot gets.
const WIDTHS: [usize; 2] = [1, 16];

/// For how long jobs run, one after the other.
const SPAN: Duration = Duration::from_secs(4);

/// Returns how long processors have worked for this process.
fn worked() -> Result<Duration> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let ticks = text.rsplit(')').next().map(|rest| rest.split_whitespace().skip(11).take(2));
    let ticks: u64 = ticks.into_iter().flatten().filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    // Linux counts them in hundredths of a second, whatever its own clock does.
    Ok(Duration::from_millis(ticks * 10))
}

#[allow(clippy::print_stdout, reason = "it is what the example is for")]
fn measure(master: &str, (executors, slots): (usize, usize)) -> Result<()> {
    let conf = EngineConf::new(master, "scaling")?;
    let cluster = Arc::new(Cluster::start(&conf)?);
    cluster.await_executors(executors, Duration::from_secs(120))?;
    let context = Context::builder(conf).with_backend(Arc::clone(&cluster) as _).build()?;
    for width in WIDTHS {
        let tasks = executors * slots * width;
        let job = || context.range(0, tasks as i64, 1, tasks).foreach(|_| {});
        for _ in 0..5 {
            job()?;
        }
        let (begun, before, mut jobs) = (monotonic(), worked()?, 0);
        while monotonic().saturating_sub(begun) < SPAN {
            job()?;
            jobs += 1;
        }
        let (took, cost) = (monotonic().saturating_sub(begun), worked()?.saturating_sub(before));
        println!(
            "{master}: {executors} executors of {slots}, {tasks} tasks a job: {jobs} jobs, {:.2} ms a job; the driver worked {:.2} ms a job, \
             {:.0} us a task",
            took.as_secs_f64() * 1e3 / f64::from(jobs),
            cost.as_secs_f64() * 1e3 / f64::from(jobs),
            cost.as_secs_f64() * 1e6 / f64::from(jobs) / tasks as f64,
        );
    }
    Ok(())
}

fn main() -> Result<()> {
    millstream_cluster::be_executor_if_asked();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let shape = |executors: &str, slots: &str| match (executors.parse(), slots.parse()) {
        (Ok(executors), Ok(slots)) => Ok((executors, slots)),
        _ => Err(Error::new(ErrorKind::Config, format!("`{executors},{slots}` is no cluster: say 2,1"))),
    };
    match arguments.as_slice() {
        [master, executors, slots] if master.contains("://") => measure(master, shape(executors, slots)?),
        // Nothing would be measured, and nobody would know why.
        [] => Err(Error::new(ErrorKind::Config, "which clusters? say 2,1 8,1 2,4 8,4")),
        shapes => shapes.iter().map(String::as_str).try_for_each(|text| {
            let (executors, slots) = text.split_once(',').unwrap_or((text, "1"));
            measure(&format!("local-cluster[{executors},{slots}]"), shape(executors, slots)?)
        }),
    }
}
