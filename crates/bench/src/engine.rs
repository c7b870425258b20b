//! The workloads on millstream, through its public streaming API.

use std::cmp::Reverse;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use millstream::BatchInfo;
use millstream::prelude::*;

use crate::hand::GREP;
use crate::report::{Report, WARM_UP, result_hash};

/// Runs all batches of a workload: each batch is the whole text, held in memory as an Rdd of lines.
pub(crate) fn run(
    workload: &str,
    texts: Vec<Vec<Text>>,
    records: u64,
    batches: usize,
    interval: Duration,
) -> Result<Report> {
    let ssc = StreamingContext::new(&format!("local[{}]", texts.len()), "bench", interval)?;
    let folder = std::env::temp_dir().join(format!("millstream-bench-{}", std::process::id()));
    if matches!(workload, "window" | "state") {
        ssc.checkpoint(&folder)?;
    }
    let lines = ssc.context().parallelize_partitions(texts);
    let queue: RddQueue<Text> = (0..batches).map(|_| lines.clone()).collect();
    let input = ssc.queue_stream(&queue);

    let results = Arc::new(Results::default());
    match workload {
        "grep" => grep(&input, &results),
        "wordcount" | "empty" => count_keys(&word_count(&input), &results),
        "topk" => top_k(&word_count(&input), &results),
        "group" => count_keys(&group(&input), &results),
        "window" => count_keys(&window(&input, interval), &results),
        "state" => state(&input, &results),
        "join" => count_keys(&join(&input), &results),
        other => return Err(format!("there is no workload {other}").into()),
    }

    let completed = completed_batches(&ssc, batches)?;
    let _ = std::fs::remove_dir_all(folder);
    // A window is measured when it is full, and half as long again.
    let counted = completed.iter().skip(if workload == "window" { batches / 2 } else { WARM_UP });
    Ok(Report {
        engine: "millstream",
        workload: workload.to_owned(),
        records,
        times: counted.clone().filter_map(|batch| own_time(batch, workload)).collect(),
        late: counted.filter(|_| workload == "empty").map(|batch| batch.stamps.late).collect(),
        sink: results.sink.load(Ordering::Relaxed),
        result_hash: results.hash.load(Ordering::Relaxed),
    })
}

fn word_count(lines: &DStream<Text>) -> DStream<(Text, u64)> {
    lines.flat_map(|line| line.split(' ')).map(|word| (word, 1u64)).reduce_by_key(|a, b| a + b)
}

/// All lines by their first word, and how long they are together: every record crosses the shuffle.
fn group(lines: &DStream<Text>) -> DStream<(Text, u64)> {
    lines
        .map(|line| (line.split(' ').next().unwrap_or_default(), line))
        .group_by_key()
        .map_values(|lines| lines.iter().map(|line| line.len() as u64).sum::<u64>())
}

/// The words of ten batches, made from the window before.
fn window(lines: &DStream<Text>, interval: Duration) -> DStream<(Text, u64)> {
    lines.flat_map(|line| line.split(' ')).map(|word| (word, 1u64)).reduce_by_key_and_window_inv(
        |a, b| a + b,
        |a, b| a - b,
        (interval * 10, interval),
    )
}

/// The words of all batches so far; what is hashed is the sum of what the function gave.
fn state(lines: &DStream<Text>, results: &Arc<Results>) {
    let sum = StateSpec::function(|_: &Text, count: Option<u64>, state: &mut State<'_, u64>| {
        let sum = count.unwrap_or(0) + state.get_option().copied().unwrap_or(0);
        state.update(sum);
        sum
    });
    let results = Arc::clone(results);
    word_count(lines).map_with_state(sum).foreach_rdd(move |rdd, _time| {
        results.take(rdd.count()?, || Ok(vec![(Text::from("sum"), rdd.reduce(|a, b| a + b)?)]))
    });
}

/// Lines of even length joined with lines of odd length, by how they begin.
fn join(lines: &DStream<Text>) -> DStream<(Text, u64)> {
    let by_begin = |line: Text| (line.slice(..line.len().min(16)), line.len() as u64);
    let even = lines.filter(|line| line.len() % 2 == 0).map(by_begin);
    let odd = lines.filter(|line| line.len() % 2 == 1).map(by_begin);
    even.join(&odd).map_values(|(a, b)| a + b).reduce_by_key(|a, b| a.max(b))
}

/// What the outputs found.
#[derive(Default)]
struct Results {
    sink: AtomicU64,
    hash: AtomicU64,
    hashed: AtomicBool,
}

impl Results {
    /// Takes a batch's size, and hashes its entries if it is the first, which is not timed.
    fn take(&self, size: u64, entries: impl FnOnce() -> Result<Vec<(Text, u64)>>) -> Result<()> {
        self.sink.fetch_add(size, Ordering::Relaxed);
        if !self.hashed.swap(true, Ordering::Relaxed) {
            let entries = entries()?;
            self.hash.store(result_hash(entries.iter().map(|(key, count)| (key.as_str(), *count))), Ordering::Relaxed);
        }
        Ok(())
    }
}

fn grep(lines: &DStream<Text>, results: &Arc<Results>) {
    let results = Arc::clone(results);
    lines.filter(|line| line.contains(GREP)).foreach_rdd(move |rdd, _time| {
        results.take(rdd.count()?, || Ok(rdd.collect()?.into_iter().map(|line| (line, 1)).collect()))
    });
}

fn count_keys(counts: &DStream<(Text, u64)>, results: &Arc<Results>) {
    let results = Arc::clone(results);
    counts.foreach_rdd(move |rdd, _time| results.take(rdd.count()?, || rdd.collect()));
}

fn top_k(counts: &DStream<(Text, u64)>, results: &Arc<Results>) {
    let results = Arc::clone(results);
    counts.foreach_rdd(move |rdd, _time| {
        let top = rdd.top_by(10, |(word, count)| (*count, Reverse(word.clone())))?;
        results.take(top.len() as u64, || Ok(top))
    });
}

/// Returns what is measured of a batch: its own time, from the begin of its first output to the end of its last, as
/// Spark's processing delay is. Batches may wait for the one before. Of tiny batches, which do not wait, everything
/// since the batch loop was woken.
fn own_time(batch: &BatchInfo, workload: &str) -> Option<Duration> {
    let ended = batch.stamps.ended?;
    if workload == "empty" { Some(ended) } else { Some(ended - batch.stamps.started?) }
}

/// Starts a context, waits for so many batches, stops it, and returns what is known of them.
pub(crate) fn completed_batches(ssc: &StreamingContext, batches: usize) -> Result<Vec<BatchInfo>> {
    let (watch, completed) = Watch::new(batches);
    ssc.add_streaming_listener(watch);
    ssc.start()?;
    let patience = Duration::from_millis(200);
    let completed = loop {
        match completed.recv_timeout(patience) {
            Ok(completed) => break completed,
            // A context that failed says why.
            Err(_) => ssc.await_termination_or_timeout(Duration::ZERO)?,
        };
    };
    ssc.stop()?;
    Ok(completed)
}

/// Keeps what is known of the first so many batches.
struct Watch {
    wanted: usize,
    seen: Mutex<Vec<BatchInfo>>,
    all: mpsc::Sender<Vec<BatchInfo>>,
}

impl Watch {
    fn new(wanted: usize) -> (Watch, mpsc::Receiver<Vec<BatchInfo>>) {
        let (all, completed) = mpsc::channel();
        (Watch { wanted, seen: Mutex::new(Vec::with_capacity(wanted)), all }, completed)
    }
}

impl StreamingListener for Watch {
    fn on_batch_completed(&self, batch: &BatchInfo) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() < self.wanted {
            seen.push(batch.clone());
            if seen.len() == self.wanted {
                // Nobody waits any more if the program is ending: that is fine.
                let _ = self.all.send(std::mem::take(&mut *seen));
                seen.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Input;
    use crate::{hand, report};

    #[test]
    fn every_workload_finds_what_the_hand_written_loop_finds() {
        let text: String = (0..500).map(|i| format!("w{} w77 w{} b w{i}\n", i % 7, i % 11)).collect();
        let input = Input::of(&text, 2);
        for workload in ["grep", "wordcount", "topk", "group", "empty"] {
            let hand = hand::run(workload, &input.lines(), input.records, 3).expect("the workload exists");
            let ours = run(workload, input.texts(), input.records, 3, millis(5)).expect("the batches run");
            report::agree(&[hand, ours]).expect("both find the same");
        }
    }
}
