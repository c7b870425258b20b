//! Batch 1,000 against batch 100,000 of a small program with a state and windows: what it holds must not grow, nor what it takes.
//!
//! ```text
//! steady [BATCHES]
//! ```
//!
//! Prints, for a thousand batches near the begin, for the last thousand, and for some between: the median time of a batch, the least
//! that is allocated at the end of one, and how many blocks are kept then. It is a program of its own because it counts allocations,
//! which the other benchmarks should not pay for.
#![allow(clippy::print_stdout, reason = "a benchmark prints its results")]

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use cap::Cap;
use millstream::core::checkpoint::MemoryCheckpoints;
use millstream::core::storage::{BlockStore, MemoryStore};
use millstream::core::{Context as Engine, Rdd};
use millstream::prelude::*;
use millstream::{BatchInfo, InputInfo};

#[global_allocator]
static ALLOCATOR: Cap<mimalloc::MiMalloc> = Cap::new(mimalloc::MiMalloc, usize::MAX);

/// How many batches are looked at together.
const STRETCH: usize = 1000;
/// How many records a batch brings, and of how many keys.
const RECORDS: u64 = 20;
const KEYS: u64 = 100;

fn main() -> Result<()> {
    let batches = std::env::args().nth(1).map_or(Ok(100_000), |n| n.parse::<usize>());
    let batches = batches.map_err(|error| Error::new(ErrorKind::Config, format!("BATCHES: {error}")))?.max(3 * STRETCH);
    let blocks = Arc::new(MemoryStore::new(1 << 30));
    let conf = Conf::new("local[2]", "steady")?;
    let ssc = StreamingContext::builder(conf, millis(1))
        .with_block_store(Arc::clone(&blocks) as Arc<dyn BlockStore>)
        .build()?;
    ssc.context().set_checkpoint_store(Arc::new(MemoryCheckpoints::new()));

    let pairs = ssc.input(Numbers);
    let sum = StateSpec::function(|_: &u64, value: Option<u64>, state: &mut State<'_, u64>| {
        let sum = state.get_option().copied().unwrap_or(0) + value.unwrap_or(0);
        state.update(sum);
        sum
    });
    // Saved as often as in a program with batches of a second, so that as much is remembered near the begin as at the end.
    let often = millis(10);
    pairs.map_with_state(sum).checkpoint(often).foreach_rdd(|rdd, _| rdd.count().map(drop));
    let window = pairs.reduce_by_key_and_window_inv(|a, b| a + b, |a, b| a - b, (millis(10), millis(1)));
    window.checkpoint(often);
    window.foreach_rdd(|rdd, _| rdd.count().map(drop));
    pairs
        .window((millis(20), millis(5)))
        .persist(StorageLevel::MEMORY_ONLY)
        .count()
        .foreach_rdd(|rdd, _| rdd.count().map(drop));

    let (done, finished) = mpsc::channel();
    let seen = Mutex::new(Seen { times: Vec::with_capacity(STRETCH), bytes: usize::MAX, completed: 0, early: None });
    ssc.add_streaming_listener(Watch { batches, blocks, seen, done });
    ssc.start()?;
    let (early, late) = loop {
        if let Ok(found) = finished.recv_timeout(Duration::from_millis(200)) {
            break found;
        }
        ssc.await_termination_or_timeout(Duration::ZERO)?;
    };
    ssc.stop()?;
    println!("{}", early.json());
    println!("{}", late.json());
    println!(
        "{{\"workload\":\"steady\",\"median_ratio\":{:.2},\"bytes_ratio\":{:.3},\"blocks_more\":{}}}",
        late.median / early.median,
        late.bytes as f64 / early.bytes as f64,
        late.blocks as i64 - early.blocks as i64,
    );
    Ok(())
}

/// The same few records again and again.
struct Numbers;

impl InputSource for Numbers {
    type Item = (u64, u64);
    type Allocation = u64;

    fn allocate(&mut self, batch: Time, _: Option<Rate>) -> Result<u64> {
        Ok(batch.as_millis() as u64)
    }

    fn rdd(&self, at: &u64, engine: &Engine) -> Result<Option<Rdd<(u64, u64)>>> {
        Ok(Some(engine.parallelize((0..RECORDS).map(|i| ((at * 7 + i) % KEYS, 1)).collect(), 2)))
    }

    fn describe(&self, _: &u64) -> InputInfo {
        InputInfo::default()
    }
}

/// What was found of a stretch of batches.
#[derive(Clone)]
struct Found {
    last: usize,
    median: f64,
    bytes: usize,
    blocks: usize,
}

impl Found {
    fn json(&self) -> String {
        format!(
            "{{\"engine\":\"millstream\",\"workload\":\"steady\",\"batch\":{},\"ms_median\":{:.4},\"bytes_allocated\":{},\"blocks\":{}}}",
            self.last, self.median, self.bytes, self.blocks
        )
    }
}

struct Seen {
    times: Vec<Duration>,
    /// The least that was allocated at the end of a batch.
    bytes: usize,
    completed: usize,
    early: Option<Found>,
}

struct Watch {
    batches: usize,
    blocks: Arc<MemoryStore>,
    seen: Mutex<Seen>,
    done: mpsc::Sender<(Found, Found)>,
}

impl StreamingListener for Watch {
    fn on_batch_completed(&self, batch: &BatchInfo) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.completed += 1;
        seen.bytes = seen.bytes.min(ALLOCATOR.allocated());
        let (began, ended) = (batch.stamps.started, batch.stamps.ended);
        seen.times.extend(began.zip(ended).map(|(began, ended)| ended - began));
        if !seen.completed.is_multiple_of(STRETCH) {
            return;
        }
        seen.times.sort_unstable();
        let found = Found {
            last: seen.completed,
            median: seen.times.get(seen.times.len() / 2).map_or(0.0, |time| time.as_secs_f64() * 1e3),
            bytes: std::mem::replace(&mut seen.bytes, usize::MAX),
            blocks: self.blocks.usage().blocks,
        };
        seen.times.clear();
        if seen.completed.is_multiple_of(10 * STRETCH) {
            println!("{}", found.json());
        }
        if seen.completed == 2 * STRETCH {
            seen.early = Some(found);
        } else if seen.completed == self.batches
            && let Some(early) = seen.early.clone()
        {
            // Nobody waits any more if the program is ending: that is fine.
            let _ = self.done.send((early, found));
        }
    }
}
