//! The workloads on millstream, through its public streaming API.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use millstream::BatchInfo;
use millstream::prelude::*;

use crate::report::{Report, entry_hash};

/// When each batch was woken and ended.
pub(crate) struct Watch {
    pub(crate) times: Arc<Mutex<Vec<BatchInfo>>>,
    pub(crate) done: mpsc::Sender<()>,
    pub(crate) batches: usize,
}

impl StreamingListener for Watch {
    fn on_batch_completed(&self, batch: &BatchInfo) {
        let mut times = self.times.lock().expect("a listener does not panic");
        times.push(batch.clone());
        if times.len() == self.batches {
            let _ = self.done.send(());
        }
    }
}

type Sums = Arc<AtomicU64>;

fn add_hashes(rdd: &Rdd<(Text, u64)>, hash: &Sums) -> Result<()> {
    let sum = rdd.map(|(key, count)| entry_hash(key.as_bytes(), count)).fold(0, u64::wrapping_add)?;
    hash.store(sum, Ordering::Relaxed);
    Ok(())
}

/// Adds an output to a stream of counts: the first batch is hashed, all are counted.
fn count_keys(counts: &DStream<(Text, u64)>, sink: &Sums, hash: &Sums) {
    let (sink, hash) = (Arc::clone(sink), Arc::clone(hash));
    counts.foreach_rdd(move |rdd, _| {
        sink.fetch_add(rdd.count()?, Ordering::Relaxed);
        if hash.load(Ordering::Relaxed) == 0 {
            add_hashes(&rdd, &hash)?;
        }
        Ok(())
    });
}

fn word_counts(lines: &DStream<Text>) -> DStream<(Text, u64)> {
    lines.flat_map(|line| line.split(' ')).map(|word| (word, 1u64)).reduce_by_key(|a, b| a + b)
}

pub(crate) fn run(
    workload: &str,
    texts: Vec<Vec<Text>>,
    records: u64,
    batches: usize,
    interval: Duration,
) -> Result<Report> {
    let threads = texts.len();
    let ssc = StreamingContext::new(&format!("local[{threads}]"), "bench", interval)?;
    let lines = ssc.context().parallelize_partitions(texts);
    let queue: RddQueue<Text> = (0..batches).map(|_| lines.clone()).collect();
    let input = ssc.queue_stream(&queue);
    let (sink, hash): (Sums, Sums) = Default::default();
    match workload {
        "grep" => {
            let (sink, hash) = (Arc::clone(&sink), Arc::clone(&hash));
            input.filter(|line| line.contains("w77 ")).foreach_rdd(move |rdd, _| {
                let count = rdd.count()?;
                sink.fetch_add(count, Ordering::Relaxed);
                hash.store(entry_hash(b"lines", count), Ordering::Relaxed);
                Ok(())
            });
        }
        "wordcount" | "empty" => count_keys(&word_counts(&input), &sink, &hash),
        "topk" => {
            let (sink, hash) = (Arc::clone(&sink), Arc::clone(&hash));
            word_counts(&input).foreach_rdd(move |rdd, _| {
                let top = rdd.top_by(10, |(word, n)| (*n, std::cmp::Reverse(word.clone())))?;
                sink.fetch_add(top.len() as u64, Ordering::Relaxed);
                let sum = top.iter().fold(0u64, |sum, (word, n)| sum.wrapping_add(entry_hash(word.as_bytes(), *n)));
                hash.store(sum, Ordering::Relaxed);
                Ok(())
            });
        }
        "group" => {
            let sums = input
                .map(|line| (line.split(' ').next().unwrap_or_default(), line))
                .group_by_key()
                .map_values(|lines| lines.iter().map(|line| line.len() as u64).sum::<u64>());
            count_keys(&sums, &sink, &hash);
        }
        other => return Err(Error::from(format!("there is no workload {other}"))),
    }
    let times: Arc<Mutex<Vec<BatchInfo>>> = Arc::default();
    let (done, all) = mpsc::channel();
    ssc.add_streaming_listener(Watch { times: Arc::clone(&times), done, batches });
    ssc.start()?;
    while all.recv_timeout(Duration::from_millis(200)).is_err() {
        ssc.await_termination_or_timeout(Duration::ZERO)?;
    }
    ssc.stop()?;
    let times = times.lock().expect("a listener does not panic");
    // Batches may wait for the one before; what is measured is a batch's own time, as Spark's processing delay is.
    let own = |batch: &BatchInfo| Some(batch.stamps.ended? - batch.stamps.started?);
    let whole = |batch: &BatchInfo| batch.stamps.ended;
    let times = times.iter().filter_map(|batch| if workload == "empty" { whole(batch) } else { own(batch) }).collect();
    Ok(Report {
        engine: "millstream",
        workload: workload.to_owned(),
        records,
        times,
        sink: sink.load(Ordering::Relaxed),
        result_hash: hash.load(Ordering::Relaxed),
    })
}
