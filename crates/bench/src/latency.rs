//! How late batches begin beside a bare timer, and how soon a program has started and what it weighs then.

use std::io::Write;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use millstream::prelude::*;

use crate::engine::completed_batches;
use crate::report::{millis_sorted, quantile};
use crate::timer::{bare_timer, since_due};

/// What is known of many delays.
struct Delays {
    engine: &'static str,
    what: &'static str,
    sorted: Vec<f64>,
}

impl Delays {
    fn of(engine: &'static str, what: &'static str, delays: &[Duration]) -> Delays {
        Delays { engine, what, sorted: millis_sorted(delays) }
    }

    fn p99(&self) -> f64 {
        quantile(&self.sorted, 0.99)
    }

    fn show(&self, json: bool) {
        let Delays { engine, what, sorted } = self;
        let (n, p50, p99, max) = (sorted.len(), quantile(sorted, 0.5), self.p99(), quantile(sorted, 1.0));
        if json {
            println!(
                "{{\"engine\":\"{engine}\",\"workload\":\"latency\",\"what\":\"{what}\",\"n\":{n},\"ms_p50\":{p50:.4},\
                 \"ms_p99\":{p99:.4},\"ms_max\":{max:.4}}}"
            );
        } else {
            println!("{engine:<12} {what:<20} n {n:>6}  p50 {p50:>8.3} ms  p99 {p99:>8.3} ms  max {max:>8.3} ms");
        }
    }
}

/// Runs batches of `interval` with a small word count for `length`, beside a bare timer, and says how late both were.
///
/// A batch's scheduling delay is taken by the program itself: from when the batch was due to the begin of its output.
pub(crate) fn run(interval: Duration, length: Duration, json: bool) -> Result<()> {
    let ssc = StreamingContext::new("local[2]", "latency", interval)?;
    let lines = (0..100).map(|i| Text::from(format!("a small line of words {i}"))).collect();
    let lines = ssc.context().parallelize(lines, 2);
    let scheduled: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let seen = Arc::clone(&scheduled);
    ssc.constant_stream(lines)
        .flat_map(|line| line.split(' '))
        .map(|word| (word, 1u64))
        .reduce_by_key(|a, b| a + b)
        .foreach_rdd(move |rdd, time| {
            seen.lock().unwrap_or_else(PoisonError::into_inner).push(since_due(time));
            rdd.count().map(|_| ())
        });

    let batches = (length.as_nanos() / interval.as_nanos()).max(1) as usize;
    #[allow(clippy::disallowed_methods, reason = "the bare timer has a thread of its own")]
    let (timer, completed) = std::thread::scope(|scope| {
        let timer = scope.spawn(|| bare_timer(interval, length));
        let completed = completed_batches(&ssc, batches);
        (timer.join().expect("a timer does not panic"), completed)
    });
    let completed = completed?;

    let scheduled = scheduled.lock().unwrap_or_else(PoisonError::into_inner);
    let processed: Vec<Duration> = completed.iter().filter_map(|batch| batch.stamps.ended).collect();
    let timer = Delays::of("bare timer", "due → woken", &timer);
    let ours = Delays::of("millstream", "due → output begun", &scheduled);
    timer.show(json);
    ours.show(json);
    Delays::of("millstream", "woken → completed", &processed).show(json);

    let in_order = completed.windows(2).all(|pair| pair[1].batch_time == pair[0].batch_time + interval);
    if !in_order {
        return Err("batches are missing or out of order".into());
    }
    if !json {
        println!("p99 above the bare timer's: {:.3} ms; every batch in order", ours.p99() - timer.p99());
    }
    Ok(())
}

/// Runs the word count of the README until its first batch has been printed. `begin` is when `main` began.
pub(crate) fn startup(begin: Instant, json: bool) -> Result<()> {
    let port = serve()?;
    let ssc = StreamingContext::new("local[2]", "word count", secs(1))?;
    let counts = ssc
        .socket_text_stream("127.0.0.1", port)
        .flat_map(|line| line.split(' '))
        .map(|word| (word, 1u64))
        .reduce_by_key(|a, b| a + b);
    counts.print();
    // Outputs run in order, so this one begins when the batch has been printed.
    let (printed, first) = mpsc::channel();
    counts.foreach_rdd(move |_rdd, time| {
        // Only the first is waited for.
        let _ = printed.send(since_due(time));
    });
    ssc.start()?;
    let started = begin.elapsed().as_secs_f64() * 1e3;
    let printed = first.recv().map_err(|_| "no batch came")?.as_secs_f64() * 1e3;
    let resident = resident_megabytes();
    ssc.stop()?;

    if json {
        println!(
            "{{\"engine\":\"millstream\",\"workload\":\"startup\",\"ms_main_to_started\":{started:.3},\
             \"ms_first_due_to_printed\":{printed:.3},\"mb_resident\":{resident:.1}}}"
        );
    } else {
        println!("main → start() returned  {started:>8.3} ms");
        println!("first due → printed      {printed:>8.3} ms");
        println!("resident memory then     {resident:>8.1} MB");
    }
    Ok(())
}

/// Returns how much memory the process has in use, where the system says so.
fn resident_megabytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
    kibibytes.map_or(f64::NAN, |kibibytes| kibibytes * 1024.0 / 1e6)
}

/// Serves a few lines to whoever connects, and returns the port.
fn serve() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    #[allow(clippy::disallowed_methods, reason = "the other end of the socket is not part of the program")]
    std::thread::spawn(move || {
        // Connections are kept until the process ends.
        let mut kept = Vec::new();
        for mut stream in listener.incoming().flatten() {
            // A peer that has gone again needs no lines.
            let _ = stream.write_all(b"to be or not to be\nthat is the question\n");
            kept.push(stream);
        }
    });
    Ok(port)
}
