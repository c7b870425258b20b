//! How late batches are, and how soon a program has started.

use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use millstream::BatchInfo;
use millstream::prelude::*;

fn percentile(sorted: &[f64], p: f64) -> f64 {
    let at = ((sorted.len() as f64 * p) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

#[allow(clippy::print_stdout, reason = "a benchmark prints its results")]
fn show(what: &str, mut delays: Vec<f64>) {
    delays.sort_by(f64::total_cmp);
    println!(
        "{what:34} n {:6}  p50 {:8.3} ms  p99 {:8.3} ms  max {:8.3} ms",
        delays.len(),
        percentile(&delays, 0.5),
        percentile(&delays, 0.99),
        delays.last().copied().unwrap_or(f64::NAN)
    );
}

#[allow(clippy::disallowed_methods, reason = "a benchmark measures")]
fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A bare timer: waits for each multiple of the interval, and notes how late it woke up.
fn bare_timer(interval: Duration, length: Duration) -> Vec<f64> {
    let (lock, never) = (Mutex::new(()), Condvar::new());
    let (mut delays, end) = (Vec::new(), wall() + length);
    let step = interval.as_nanos();
    loop {
        let now = wall();
        if now >= end {
            return delays;
        }
        let due = Duration::from_nanos(((now.as_nanos() / step + 1) * step) as u64);
        while let Some(left) = due.checked_sub(wall()).filter(|left| !left.is_zero()) {
            let guard = lock.lock().expect("nobody panics");
            let _ = never.wait_timeout(guard, left).expect("nobody panics");
        }
        delays.push((wall() - due).as_secs_f64() * 1e3);
    }
}

/// Batches of 5 ms with a small word count, beside a bare timer in the same run.
pub(crate) fn run(seconds: u64) -> Result<()> {
    let (interval, length) = (millis(5), secs(seconds));
    let ssc = StreamingContext::new("local[2]", "latency", interval)?;
    let lines: Vec<Text> = (0..100).map(|i| Text::from(format!("a small line of words {i}"))).collect();
    let rdd = ssc.context().parallelize(lines, 2);
    ssc.constant_stream(rdd)
        .flat_map(|line| line.split(' '))
        .map(|word| (word, 1u64))
        .reduce_by_key(|a, b| a + b)
        .foreach_rdd(|rdd, _| rdd.count().map(|_| ()));
    let batches: Arc<Mutex<Vec<BatchInfo>>> = Arc::default();
    struct Keep(Arc<Mutex<Vec<BatchInfo>>>);
    impl StreamingListener for Keep {
        fn on_batch_completed(&self, batch: &BatchInfo) {
            self.0.lock().expect("a listener does not panic").push(batch.clone());
        }
    }
    ssc.add_streaming_listener(Keep(Arc::clone(&batches)));
    let timer = bare_timer(interval, Duration::from_secs(seconds.min(10)));
    ssc.start()?;
    ssc.await_termination_or_timeout(length)?;
    ssc.stop()?;
    let batches = batches.lock().expect("a listener does not panic");
    let in_order = batches.windows(2).all(|pair| pair[1].batch_time == pair[0].batch_time + interval);
    show("bare timer: due → woken", timer);
    let stamp = |of: fn(&BatchInfo) -> Option<Duration>| {
        batches.iter().filter_map(of).map(|d| d.as_secs_f64() * 1e3).collect::<Vec<_>>()
    };
    show("millstream: due → woken", stamp(|b| Some(b.stamps.late)));
    show("millstream: due → first output", stamp(|b| Some(b.stamps.late + b.stamps.started?)));
    show("millstream: woken → completed", stamp(|b| b.stamps.ended));
    if !in_order {
        return Err("batches are missing or out of order".into());
    }
    Ok(())
}

/// From the begin of the program to its first batch, and what it weighs then.
#[allow(clippy::print_stdout, reason = "a benchmark prints its results")]
#[allow(clippy::disallowed_methods, reason = "a benchmark measures")]
pub(crate) fn startup() -> Result<()> {
    let begin = Instant::now();
    let ssc = StreamingContext::new("local[2]", "startup", millis(100))?;
    let rdd = ssc.context().parallelize(vec![Text::from("a b c")], 2);
    let (done, first) = mpsc::channel();
    ssc.constant_stream(rdd)
        .flat_map(|line| line.split(' '))
        .map(|word| (word, 1u64))
        .reduce_by_key(|a, b| a + b)
        .foreach_rdd(move |rdd, time| {
            let counts = rdd.collect()?;
            let _ = done.send((time, wall(), counts.len()));
            Ok(())
        });
    ssc.start()?;
    let started = begin.elapsed();
    let (due, printed, _) = first.recv().map_err(|_| "no batch came")?;
    let late = printed.saturating_sub(Duration::from_millis(due.as_millis() as u64));
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    println!("main → start() returned: {:.3} ms", started.as_secs_f64() * 1e3);
    println!("first due → collected:   {:.3} ms", late.as_secs_f64() * 1e3);
    println!("resident memory:         {:.1} MB", pages as f64 * 4096.0 / 1e6);
    ssc.stop()
}
