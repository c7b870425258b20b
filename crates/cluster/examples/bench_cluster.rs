//! What a cluster costs, and how soon it is whole again.
//!
//! ```sh
//! cargo run --release -p millstream-cluster --example bench_cluster -- latency 400
//! cargo run --release -p millstream-cluster --example bench_cluster -- text bench-data/zipf-200mb.txt
//! cargo run --release -p millstream-cluster --example bench_cluster -- kills 20
//! cargo run --release -p millstream-cluster --example bench_cluster -- state 1000000 400
//! ```
//!
//! - `latency BATCHES`: a stream's word count of a hundred lines in two stages, a batch each 50 ms: from when a batch is due until
//!   it has ended.
//! - `text FILE`: the word count and the grouping of lines that are persisted, on two threads and on two executors with a slot each.
//! - `kills N`: a stream of batches of a second, with default settings, whose executors are killed N times: from the kill to the
//!   first batch that ends behind it, and to the last of those that it delayed.
//! - `state KEYS BATCHES`: a thousand updates a batch into so many keys on executors; undisturbed, and with one batch of a hundred
//!   that loses an executor. Both must end with the same states.

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_cluster::Cluster;
use millstream_core::clock::{Clock, ManualClock, monotonic};
use millstream_core::partitioner::Partitioner;
use millstream_core::threads::lock;
use millstream_core::{Context, Error, ErrorKind, Rdd, Result, StorageLevel, Text, Time, capture, millis, secs};
use millstream_streaming::{BatchInfo, Conf, InputSource, Rate, State, StateSpec, StreamingContext, StreamingListener};

/// As programs in production have it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CLUSTER: &str = "local-cluster[2,1]";

/// How often each work on the text is done; the first is a warm-up.
const ROUNDS: usize = 7;

fn quantile(times: &[Duration], part: f64) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    times
        .get(((times.len().saturating_sub(1)) as f64 * part) as usize)
        .map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}

// ---- latency ----

/// A hundred lines a batch.
struct Lines;

impl InputSource for Lines {
    type Item = Text;
    type Allocation = i64;

    fn allocate(&mut self, batch: Time, _: Option<Rate>) -> Result<i64> {
        Ok(batch.as_millis() / 50)
    }

    fn notices_change(&self) -> bool {
        true
    }

    fn rdd(&self, batch: &i64, context: &Context) -> Result<Option<Rdd<Text>>> {
        let line = |i: i64| Text::from(format!("the quick brown fox {} jumps over line {i}", (i + batch) % 7));
        Ok(Some(context.parallelize((0..100).map(line).collect(), 2)))
    }
}

/// How long each batch took from when it was due.
#[derive(Clone, Default)]
struct Delays(Arc<Mutex<Vec<Duration>>>);

impl StreamingListener for Delays {
    fn on_batch_completed(&self, batch: &BatchInfo) {
        lock(&self.0).extend(batch.stamps.ended.map(|ended| ended + batch.stamps.late));
    }
}

#[allow(clippy::print_stdout, reason = "it is what the example is for")]
fn latency(master: &str, batches: usize) -> Result<()> {
    let ssc = StreamingContext::builder(Conf::new(master, "latency")?, millis(50)).build()?;
    let words = ssc.input(Lines).flat_map(|line| line.split(' ')).map(|word| (word, 1u64));
    words.reduce_by_key_partitioned(|a, b| a + b, 2).foreach_rdd(|rdd, _| {
        let counted: u64 = rdd.collect()?.iter().map(|(_, count)| count).sum();
        assert_eq!(counted, 900);
        Ok(())
    });
    let delays = Delays::default();
    ssc.add_streaming_listener(delays.clone());
    ssc.start()?;
    ssc.await_termination_or_timeout(millis(50 * (batches as u64 + 20)))?;
    ssc.stop()?;
    let took = lock(&delays.0).split_off(20);
    println!(
        "{master}: {} batches of 100 lines each 50 ms, due to ended: median {:.1} ms, p90 {:.1} ms, p99 {:.1} ms",
        took.len(),
        quantile(&took, 0.5),
        quantile(&took, 0.9),
        quantile(&took, 0.99),
    );
    Ok(())
}

// ---- text ----

fn word_count(lines: &Rdd<Text>) -> Result<(u64, u64)> {
    let words =
        lines.flat_map(|line| line.split(' ')).map(|word| (word, 1u64)).reduce_by_key_partitioned(|a, b| a + b, 2);
    words.map(|(_, count)| (1u64, count)).reduce(|a, b| (a.0 + b.0, a.1 + b.1))
}

fn group(lines: &Rdd<Text>) -> Result<(u64, u64)> {
    let pairs = lines.map(|line| (line.split(' ').next().unwrap_or_default(), line));
    let lengths =
        pairs.group_by_key_partitioned(2).map(|(_, lines)| (1u64, lines.iter().map(|line| line.len() as u64).sum()));
    lengths.reduce(|a, b| (a.0 + b.0, a.1 + b.1))
}

/// Runs both works on a master, and returns their medians and what they found.
fn works(master: &str, file: &str) -> Result<[(f64, (u64, u64)); 2]> {
    let context = Context::new(master, "text")?;
    let lines = context.text_files(&[file.into()], 2).persist(StorageLevel::MEMORY_ONLY);
    lines.count()?;
    let timed = |work: &dyn Fn(&Rdd<Text>) -> Result<(u64, u64)>| -> Result<(f64, (u64, u64))> {
        let (mut took, mut found) = (Vec::new(), (0, 0));
        for round in 0..ROUNDS {
            let begun = monotonic();
            found = work(&lines)?;
            if round > 0 {
                took.push(monotonic().saturating_sub(begun));
            }
        }
        Ok((quantile(&took, 0.5), found))
    };
    Ok([timed(&word_count)?, timed(&group)?])
}

#[allow(clippy::print_stdout, reason = "it is what the example is for")]
fn text(file: &str) -> Result<()> {
    let (threads, executors) = (works("local[2]", file)?, works(CLUSTER, file)?);
    for (name, (here, there)) in ["wordcount", "group"].iter().zip(threads.iter().zip(&executors)) {
        assert_eq!(here.1, there.1, "{name}");
        println!(
            "{name}: local[2] {:.0} ms, {CLUSTER} {:.0} ms, speed on the cluster ÷ local {:.2}; found {:?}",
            here.0,
            there.0,
            here.0 / there.0,
            here.1,
        );
    }
    Ok(())
}

// ---- streams ----

/// So many numbers a batch, made where tasks run.
struct Numbers {
    a_batch: i64,
    interval: i64,
}

impl InputSource for Numbers {
    type Item = i64;
    type Allocation = i64;

    fn allocate(&mut self, batch: Time, _: Option<Rate>) -> Result<i64> {
        Ok(batch.as_millis() / self.interval)
    }

    fn notices_change(&self) -> bool {
        true
    }

    fn rdd(&self, batch: &i64, context: &Context) -> Result<Option<Rdd<i64>>> {
        Ok(Some(context.range(batch * self.a_batch, (batch + 1) * self.a_batch, 1, 2)))
    }
}

/// When each batch had ended, and how long that was after it was due.
#[derive(Clone, Default)]
struct Ends(Arc<Mutex<Vec<(Duration, Duration)>>>);

impl StreamingListener for Ends {
    fn on_batch_completed(&self, batch: &BatchInfo) {
        lock(&self.0).extend(batch.stamps.ended.map(|ended| (monotonic(), ended + batch.stamps.late)));
    }
}

fn kill(process: u32) -> Result<()> {
    let done = Command::new("kill").args(["-KILL", &process.to_string()]).status()?;
    if done.success() { Ok(()) } else { Err(Error::new(ErrorKind::Internal, format!("{process} could not be killed"))) }
}

/// Kills executors of a word count with state.
#[allow(clippy::print_stdout, reason = "it is what the example is for")]
fn kills(count: usize) -> Result<()> {
    let conf = Conf::new(CLUSTER, "kills")?;
    let cluster = Arc::new(Cluster::start(&conf.engine)?);
    let ssc = StreamingContext::builder(conf, secs(1)).with_backend(Arc::clone(&cluster) as _).build()?;
    let folder = std::env::temp_dir().join(format!("millstream-kills-{}", std::process::id()));
    ssc.checkpoint(&folder)?;
    let sum = StateSpec::function(|_: &i64, new: Option<u64>, total: &mut State<'_, u64>| {
        let sum = total.get_option().copied().unwrap_or(0) + new.unwrap_or(0);
        total.update(sum);
        sum
    });
    let counts = ssc.input(Numbers { a_batch: 10_000, interval: 1000 }).map(|n| (n % 100, 1u64));
    let totals = counts.reduce_by_key_partitioned(|a, b| a + b, 2).map_with_state(sum).stream();
    totals.foreach_rdd(|rdd, _| rdd.count().map(drop));
    let ends = Ends::default();
    ssc.add_streaming_listener(ends.clone());
    ssc.start()?;
    let wait = |time: Duration| ssc.await_termination_or_timeout(time);
    wait(secs(5))?;
    let (mut first, mut all, mut undisturbed) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..count {
        // Each at another place of the batch.
        let killed = monotonic();
        let executors = cluster.executors();
        kill(executors[number % executors.len()].1)?;
        wait(secs(12) + millis(137 * (number as u64 % 7)))?;
        let after: Vec<(Duration, Duration)> = lock(&ends.0).iter().filter(|end| end.0 > killed).copied().collect();
        // The batch that ran, or the next one; and the last that was late because of the kill.
        first.extend(after.first().map(|end| end.0 - killed));
        let late = after.iter().rev().find(|end| end.1 > millis(500)).or(after.first());
        all.extend(late.map(|end| end.0 - killed));
        undisturbed.extend(after.iter().skip(7).map(|end| end.1));
    }
    ssc.stop()?;
    let _ = std::fs::remove_dir_all(folder);
    println!(
        "{count} kills, batches of 1 s: from the kill to the end of the first batch behind it median {:.0} ms, longest {:.0} ms; to the end \
         of the last that took more than 500 ms median {:.0} ms, longest {:.0} ms; undisturbed batches median {:.0} ms",
        quantile(&first, 0.5),
        quantile(&first, 1.0),
        quantile(&all, 0.5),
        quantile(&all, 1.0),
        quantile(&undisturbed, 0.5),
    );
    Ok(())
}

const UPDATES: i64 = 1000;

/// Runs batches one after the other, and returns their times, which of them lost an executor, and what the states are at the end.
fn updates(keys: i64, batches: i64, losing: bool) -> Result<(Vec<(Duration, bool)>, (u64, u64))> {
    let mut conf = Conf::new(CLUSTER, "state")?;
    conf.set("spark.default.parallelism", "2")?;
    let cluster = Arc::new(Cluster::start(&conf.engine)?);
    let clock = ManualClock::new(Time::ZERO);
    let ssc = StreamingContext::builder(conf, secs(1))
        .with_backend(Arc::clone(&cluster) as _)
        .with_clock(Arc::new(clock.clone()) as Arc<dyn Clock>)
        .build()?;
    let folder = std::env::temp_dir().join(format!("millstream-state-{}", std::process::id()));
    ssc.checkpoint(&folder)?;
    let initial = ssc.context().range(0, keys, 1, 2).map(|key| (key, 0u64)).partition_by(Partitioner::hash(2));
    let sum = StateSpec::function(|_: &i64, new: Option<u64>, state: &mut State<'_, u64>| {
        let sum = state.get_option().copied().unwrap_or(0) + new.unwrap_or(0);
        state.update(sum);
        sum
    });
    let spread = capture(keys, |keys: &i64, n: i64| ((n.wrapping_mul(0x9e37_79b9_7f4a_7c1)).rem_euclid(*keys), 1u64));
    let mapped = ssc
        .input(Numbers { a_batch: UPDATES, interval: 1000 })
        .map(spread)
        .map_with_state(sum.initial_state(&initial).partitioner(Partitioner::hash(2)));
    drop(initial);
    mapped.stream().foreach_rdd(|rdd, _| rdd.count().map(drop));
    let found = Arc::new(Mutex::new((0, 0)));
    let (there, last) = (Arc::clone(&found), batches);
    mapped.state_snapshots().foreach_rdd(move |rdd, time| {
        if time.as_millis() / 1000 == last {
            *lock(&there) = rdd
                .map(|(key, sum)| (sum, sum * (key as u64 + 1)))
                .reduce(|a, b| (a.0 + b.0, a.1.wrapping_add(b.1)))?;
        }
        Ok(())
    });
    ssc.start()?;
    let mut times = Vec::new();
    for batch in 1..=batches {
        let lost = losing && batch % 100 == 50;
        if lost {
            cluster.await_executors(2, secs(60))?;
            kill(cluster.executors()[(batch / 100) as usize % 2].1)?;
        }
        let begun = monotonic();
        clock.advance_to(Time::from_millis(batch * 1000));
        if !ssc.await_batch(Time::from_millis(batch * 1000)) {
            ssc.await_termination_or_timeout(Duration::ZERO)?;
            return Err(Error::new(ErrorKind::Internal, format!("batch {batch} did not end")));
        }
        times.push((monotonic().saturating_sub(begun), lost));
    }
    ssc.stop()?;
    let _ = std::fs::remove_dir_all(folder);
    let found = *lock(&found);
    Ok((times, found))
}

#[allow(clippy::print_stdout, reason = "it is what the example is for")]
fn state(keys: i64, batches: i64) -> Result<()> {
    let (quiet, want) = updates(keys, batches, false)?;
    let (shaken, got) = updates(keys, batches, true)?;
    assert_eq!(got, want, "the states are not the same");
    assert_eq!(want.0, (UPDATES * batches) as u64);
    // The first ones make the states.
    let of = |times: &[(Duration, bool)]| times.iter().skip(10).map(|(time, _)| *time).collect::<Vec<_>>();
    let lost: Vec<Duration> = shaken.iter().filter(|(_, lost)| *lost).map(|(time, _)| *time).collect();
    println!(
        "{keys} keys, {batches} batches of {UPDATES} updates: undisturbed median {:.2} ms, p99 {:.2} ms; with losses median {:.2} ms ({:.2}); \
         {} batches that lost an executor: median {:.0} ms, longest {:.0} ms; exact",
        quantile(&of(&quiet), 0.5),
        quantile(&of(&quiet), 0.99),
        quantile(&of(&shaken), 0.5),
        quantile(&of(&shaken), 0.5) / quantile(&of(&quiet), 0.5),
        lost.len(),
        quantile(&lost, 0.5),
        quantile(&lost, 1.0),
    );
    Ok(())
}

fn main() -> Result<()> {
    millstream_cluster::be_executor_if_asked();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number =
        |text: &str| text.parse::<i64>().map_err(|_| Error::new(ErrorKind::Config, format!("`{text}` is no number")));
    match arguments.as_slice() {
        ["latency", batches] => {
            ["local[2]", CLUSTER].into_iter().try_for_each(|master| latency(master, number(batches)? as usize))
        }
        ["text", file] => text(file),
        ["kills", count] => kills(number(count)? as usize),
        ["state", keys, batches] => state(number(keys)?, number(batches)?),
        _ => Err(Error::new(
            ErrorKind::Config,
            "usage: bench_cluster latency BATCHES | text FILE | kills N | state KEYS BATCHES",
        )),
    }
}
