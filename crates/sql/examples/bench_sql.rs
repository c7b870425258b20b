//! What a statement costs: kept, planned each time, and by hand; what it costs to make columns of rows, and rows of columns; what a
//! continuous aggregate costs, with few and with many groups; and how long a batch takes to be published.
//!
//! ```sh
//! cargo run --release -p millstream-sql --example bench_sql
//! ```
//!
//! `-- batches ROWS COUNT THREADS` runs the statement on so many batches of a stream instead, and a loop by hand on the same, and gives a line of
//! JSON of each: `cargo xtask vs-spark sql` sets Spark's beside them.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use datafusion::arrow::array::{
    Array, ArrayRef, Float64Array, Float64Builder, Int64Array, Int64Builder, StringArray, StringBuilder,
};
use datafusion::arrow::record_batch::RecordBatch as ArrowBatch;
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use millstream_core::clock::{Clock, ManualClock, monotonic};
use millstream_core::threads::{self, lock};
use millstream_core::{Context, Error, ErrorKind, Rdd, Result, Time, secs};
use millstream_sql::figures::{Kept, Published};
use millstream_sql::{RecordBatch, Row, SqlContext, SqlStreams as _, from_columns, schema_of, to_columns};
use millstream_streaming::{BatchInfo, Conf, InputSource, Rate, RddQueue, StreamingContext, StreamingListener};

#[derive(Clone, Debug, PartialEq, Row, serde::Serialize, serde::Deserialize)]
struct Reading {
    sensor: i64,
    celsius: f64,
    place: String,
}

#[derive(Clone, Debug, Row, serde::Serialize, serde::Deserialize)]
struct Vendor {
    sensor: i64,
    vendor: String,
}

#[derive(Clone, Debug, PartialEq, Row, serde::Serialize, serde::Deserialize)]
struct Total {
    vendor: String,
    n: i64,
    total: f64,
}

const STATEMENT: &str = "SELECT v.vendor, count(*) AS n, sum(r.celsius) AS total \
                         FROM readings r JOIN vendors v ON r.sensor = v.sensor GROUP BY v.vendor";
const VENDORS: i64 = 100;

fn readings(rows: i64) -> Vec<Reading> {
    (0..rows)
        .map(|i| Reading {
            sensor: i * 7 % (VENDORS + 20),
            celsius: (i % 90) as f64,
            place: format!("hall {}", i % 13),
        })
        .collect()
}

fn vendors() -> Vec<Vendor> {
    (0..VENDORS).map(|sensor| Vendor { sensor, vendor: format!("vendor {}", sensor % 9) }).collect()
}

/// Runs each in turn, `rounds` times, and returns the medians.
fn medians<const N: usize>(rounds: usize, mut works: [&mut dyn FnMut() -> Result<()>; N]) -> Result<[Duration; N]> {
    let mut took: [Vec<Duration>; N] = std::array::from_fn(|_| Vec::with_capacity(rounds));
    for round in 0..rounds + rounds / 10 + 3 {
        for (work, took) in works.iter_mut().zip(&mut took) {
            let begun = monotonic();
            work()?;
            if round >= rounds / 10 + 3 {
                took.push(monotonic().saturating_sub(begun));
            }
        }
    }
    Ok(took.map(|mut took| {
        took.sort_unstable();
        took[took.len() / 2]
    }))
}

fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn by_hand(readings: &[Reading], vendors: &HashMap<i64, String>) -> Vec<Total> {
    let mut totals: HashMap<&str, (i64, f64)> = HashMap::new();
    for reading in readings {
        if let Some(vendor) = vendors.get(&reading.sensor) {
            let total = totals.entry(vendor).or_default();
            total.0 += 1;
            total.1 += reading.celsius;
        }
    }
    totals.into_iter().map(|(vendor, (n, total))| Total { vendor: vendor.to_owned(), n, total }).collect()
}

/// The same over columns: what somebody would write who has them already.
fn by_hand_over_columns(readings: &RecordBatch, vendors: &HashMap<i64, String>) -> Vec<Total> {
    let sensors = readings.column(0).as_any().downcast_ref::<Int64Array>();
    let celsius = readings.column(1).as_any().downcast_ref::<Float64Array>();
    let (Some(sensors), Some(celsius)) = (sensors, celsius) else { return Vec::new() };
    let mut totals: HashMap<&str, (i64, f64)> = HashMap::new();
    for (sensor, celsius) in sensors.values().iter().zip(celsius.values()) {
        if let Some(vendor) = vendors.get(sensor) {
            let total = totals.entry(vendor).or_default();
            total.0 += 1;
            total.1 += celsius;
        }
    }
    totals.into_iter().map(|(vendor, (n, total))| Total { vendor: vendor.to_owned(), n, total }).collect()
}

fn sorted(mut totals: Vec<Total>) -> Vec<Total> {
    totals.sort_by(|a, b| a.vendor.cmp(&b.vendor));
    totals
}

#[allow(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
fn query_failed(e: datafusion::error::DataFusionError) -> Error {
    Error::new(ErrorKind::Data, e.to_string())
}

#[allow(clippy::print_stdout, reason = "it is what the example is for")]
fn statement(rows: i64, rounds: usize) -> Result<()> {
    let (all, vendors) = (readings(rows), vendors());
    let map: HashMap<i64, String> = vendors.iter().map(|v| (v.sensor, v.vendor.clone())).collect();
    let columns = Arc::new(vec![to_columns(all.clone())?]);
    let static_columns = Arc::new(vec![to_columns(vendors)?]);
    let kept = Kept::new(STATEMENT, 1 << 30)?;
    let answer = |columns: Vec<RecordBatch>| -> Result<Vec<Total>> {
        let mut rows = Vec::new();
        for columns in columns {
            rows.append(&mut from_columns(&columns)?);
        }
        Ok(rows)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let anew = || -> Result<Vec<Total>> {
        let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
        for (name, rows) in [("readings", &columns), ("vendors", &static_columns)] {
            let batches: Vec<ArrowBatch> = rows.iter().map(|rows| ArrowBatch::clone(rows)).collect();
            let table = MemTable::try_new(rows[0].schema(), vec![batches]).map_err(query_failed)?;
            context.register_table(name, Arc::new(table)).map_err(query_failed)?;
        }
        let found = runtime.block_on(async { context.sql(STATEMENT).await?.collect().await }).map_err(query_failed)?;
        answer(found.into_iter().map(RecordBatch::from).collect())
    };
    let expected = sorted(by_hand(&all, &map));
    assert_eq!(sorted(answer(kept.run(&[("readings", &columns), ("vendors", &static_columns)])?)?), expected);
    assert_eq!(sorted(anew()?), expected);
    assert_eq!(sorted(by_hand_over_columns(&columns[0], &map)), expected);
    let [plan, planned, hand, over_columns, with_rows] = medians(
        rounds,
        [
            &mut || {
                black_box(answer(kept.run(&[("readings", &columns), ("vendors", &static_columns)])?)?);
                Ok(())
            },
            &mut || {
                black_box(anew()?);
                Ok(())
            },
            &mut || {
                black_box(by_hand(&all, &map));
                Ok(())
            },
            &mut || {
                black_box(by_hand_over_columns(&columns[0], &map));
                Ok(())
            },
            &mut || {
                let columns = Arc::new(vec![to_columns(all.iter().cloned())?]);
                black_box(answer(kept.run(&[("readings", &columns), ("vendors", &static_columns)])?)?);
                Ok(())
            },
        ],
    )?;
    println!(
        "join + group by, {rows} rows: kept plan {:.0} us; planned anew {:.0} us ({:.1} times); by hand {:.0} us over rows (kept ÷ hand {:.2}), \
         {:.0} us over columns ({:.2}); kept with rows made columns {:.0} us",
        us(plan),
        us(planned),
        us(planned) / us(plan),
        us(hand),
        us(plan) / us(hand),
        us(over_columns),
        us(plan) / us(over_columns),
        us(with_rows),
    );
    Ok(())
}

fn written_by_hand(rows: &[Reading]) -> Result<ArrowBatch> {
    let mut sensor = Int64Builder::with_capacity(rows.len());
    let mut celsius = Float64Builder::with_capacity(rows.len());
    let mut place = StringBuilder::with_capacity(rows.len(), rows.len() * 8);
    for row in rows {
        sensor.append_value(row.sensor);
        celsius.append_value(row.celsius);
        place.append_value(&row.place);
    }
    let columns: Vec<ArrayRef> = vec![Arc::new(sensor.finish()), Arc::new(celsius.finish()), Arc::new(place.finish())];
    ArrowBatch::try_new(schema_of::<Reading>(), columns).map_err(|e| Error::new(ErrorKind::Data, e.to_string()))
}

fn read_by_hand(columns: &ArrowBatch) -> Option<Vec<Reading>> {
    let sensor = columns.column(0).as_any().downcast_ref::<Int64Array>()?;
    let celsius = columns.column(1).as_any().downcast_ref::<Float64Array>()?;
    let place = columns.column(2).as_any().downcast_ref::<StringArray>()?;
    let mut rows = Vec::with_capacity(columns.num_rows());
    for row in 0..place.len() {
        rows.push(Reading {
            sensor: sensor.value(row),
            celsius: celsius.value(row),
            place: place.value(row).to_owned(),
        });
    }
    Some(rows)
}

#[allow(clippy::print_stdout, reason = "it is what the example is for")]
fn columns(rows: i64, rounds: usize) -> Result<()> {
    let all = readings(rows);
    let columns = to_columns(all.clone())?;
    assert_eq!(written_by_hand(&all)?, *columns);
    assert_eq!(read_by_hand(&columns).as_deref(), Some(all.as_slice()));
    let [write, write_hand, read, read_hand] = medians(
        rounds,
        [
            // What is given is owned, and so it is cloned for both.
            &mut || {
                black_box(to_columns(all.clone())?);
                Ok(())
            },
            &mut || {
                let owned = all.clone();
                black_box(written_by_hand(&owned)?);
                Ok(())
            },
            &mut || {
                black_box(from_columns::<Reading>(&columns)?);
                Ok(())
            },
            &mut || {
                black_box(read_by_hand(&columns));
                Ok(())
            },
        ],
    )?;
    println!(
        "{rows} rows to columns {:.0} us, by hand {:.0} us ({:.2}); columns to rows {:.0} us, by hand {:.0} us ({:.2})",
        us(write),
        us(write_hand),
        us(write) / us(write_hand),
        us(read),
        us(read_hand),
        us(read) / us(read_hand),
    );
    Ok(())
}

// ---- batches of a stream, beside Spark's ----

/// Batches that are not counted.
const WARM_UP: usize = 2;

/// How long batches took, from the start of their work to its end.
#[derive(Clone, Debug, Default)]
struct Processing(Arc<Mutex<Vec<Duration>>>);

impl StreamingListener for Processing {
    fn on_batch_completed(&self, batch: &BatchInfo) {
        let took = batch.stamps.started.zip(batch.stamps.ended).map(|(started, ended)| ended.saturating_sub(started));
        lock(&self.0).extend(took);
    }
}

/// FNV-1a over each vendor's name and its count's eight bytes, lowest first; added up. As the other benchmarks hash.
fn hash_of(totals: &[Total]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let one = |total: &Total| {
        let name = total.vendor.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, step);
        total.n.to_le_bytes().iter().fold(name, step)
    };
    totals.iter().map(one).fold(0, u64::wrapping_add)
}

/// Prints what an engine did, as the other benchmarks do.
#[allow(clippy::print_stdout, reason = "it is what the example is for")]
fn print_line(engine: &str, rows: i64, took: &[Duration], sink: usize, hash: u64) {
    let mut ms: Vec<f64> = took[WARM_UP..].iter().map(|took| took.as_secs_f64() * 1e3).collect();
    ms.sort_by(f64::total_cmp);
    let (median, least, most) = (ms[ms.len() / 2], ms[0], ms[ms.len() - 1]);
    println!(
        "{{\"engine\":\"{engine}\",\"workload\":\"sql\",\"records\":{rows},\"ms_median\":{median:.4},\"ms_min\":{least:.4},\
         \"ms_max\":{most:.4},\"records_per_s\":{:.0},\"sink\":{sink},\"result_hash\":\"{hash:016x}\"}}",
        rows as f64 / median * 1e3
    );
}

/// The statement on batches of so many rows, which are kept in memory, and the loop by hand.
fn batches(rows: i64, count: usize, threads: usize) -> Result<()> {
    let (all, vendors) = (readings(rows), vendors());
    let map: HashMap<i64, String> = vendors.iter().map(|v| (v.sensor, v.vendor.clone())).collect();
    let (mut took, mut sink, mut hash) = (Vec::new(), 0, 0);
    for _ in 0..count {
        let begun = monotonic();
        let totals = by_hand(black_box(&all), &map);
        took.push(monotonic().saturating_sub(begun));
        (sink, hash) = (sink + totals.len(), hash_of(&totals));
    }
    print_line("hand", rows, &took, sink, hash);

    let clock = ManualClock::new(Time::ZERO);
    let builder = StreamingContext::builder(Conf::new(&format!("local[{threads}]"), "batches")?, secs(1));
    let ssc = builder.with_clock(Arc::new(clock.clone()) as Arc<dyn Clock>).build()?;
    let sql = SqlContext::new(&ssc)?;
    sql.create_data_frame(vendors)?.create_or_replace_temp_view("vendors")?;
    let kept = ssc.context().parallelize(all, threads).cache();
    kept.count()?;
    let queue = RddQueue::new();
    (0..count).for_each(|_| queue.push(kept.clone()));
    let found = Arc::new(Mutex::new((0, 0)));
    let here = Arc::clone(&found);
    ssc.queue_stream(&queue).sql::<Total>(&sql, "readings", STATEMENT).foreach_rdd(move |rdd, _| {
        let totals = rdd.collect()?;
        let mut found = lock(&here);
        *found = (found.0 + totals.len(), hash_of(&totals));
        Ok(())
    });
    let processing = Processing::default();
    ssc.add_streaming_listener(processing.clone());
    ssc.start()?;
    for batch in 1..=count as i64 {
        let at = Time::from_millis(batch * 1000);
        clock.advance_to(at);
        assert!(ssc.await_batch(at), "{:?}", ssc.await_termination_or_timeout(Duration::ZERO));
    }
    ssc.stop()?;
    let (took, (sink, hash)) = (lock(&processing.0).clone(), *lock(&found));
    print_line("millstream", rows, &took, sink, hash);
    Ok(())
}

// ---- continuous aggregates ----

/// How many groups the first batches bring, each.
const MANY: i64 = 200_000;

/// Rows of so many groups: all of them in the first batches, then a thousand a batch.
struct Rows {
    groups: i64,
}

impl InputSource for Rows {
    type Item = (i64, f64);
    type Allocation = i64;

    fn allocate(&mut self, batch: Time, _: Option<Rate>) -> Result<i64> {
        Ok(batch.as_millis() / 1000 - 1)
    }

    fn notices_change(&self) -> bool {
        true
    }

    fn rdd(&self, batch: &i64, context: &Context) -> Result<Option<Rdd<(i64, f64)>>> {
        let (groups, filling) = (self.groups, (self.groups + MANY - 1) / MANY);
        let keys = match *batch < filling {
            true => context.range(batch * MANY, ((batch + 1) * MANY).min(groups), 1, 2),
            false => context.range(batch * 1000, (batch + 1) * 1000, 1, 2),
        };
        Ok(Some(keys.map(move |n| (n.wrapping_mul(7_919).rem_euclid(groups), n as f64))))
    }
}

/// The time of a batch of 1,000 rows over so many groups that are there already.
#[allow(clippy::print_stdout, reason = "it is what the example is for")]
fn continuous(groups: i64, batches: i64) -> Result<f64> {
    let mut conf = Conf::new("local[2]", "continuous")?;
    conf.streaming.exclusive = false;
    let clock = ManualClock::new(Time::ZERO);
    let builder = StreamingContext::builder(conf, secs(1)).with_clock(Arc::new(clock.clone()) as Arc<dyn Clock>);
    let ssc = builder.build()?;
    ssc.checkpoint_anew(std::env::temp_dir().join(format!("millstream-bench-sql-{}", std::process::id())))?;
    let filling = (groups + MANY - 1) / MANY;
    let sql = SqlContext::new(&ssc)?;
    let rows = ssc.input(Rows { groups });
    let statement = "SELECT _1, count(*) AS n, sum(_2) AS total FROM rows GROUP BY _1";
    let totals = rows.continuous_sql::<(i64, i64, f64)>(&sql, "rows", statement).changes();
    let seen = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&seen);
    totals.foreach_rdd(move |rdd, _| {
        *lock(&counted) = rdd.count()?;
        Ok(())
    });
    ssc.start()?;
    let mut took = Vec::new();
    for batch in 1..=filling + batches {
        let begun = monotonic();
        clock.advance_to(Time::from_millis(batch * 1000));
        assert!(
            ssc.await_batch(Time::from_millis(batch * 1000)),
            "{:?}",
            ssc.await_termination_or_timeout(Duration::ZERO)
        );
        if batch > filling + batches / 10 {
            took.push(monotonic().saturating_sub(begun));
        }
    }
    assert_eq!(*lock(&seen), 1000);
    ssc.stop()?;
    took.sort_unstable();
    let median = took[took.len() / 2].as_secs_f64() * 1e3;
    println!("continuous: 1,000 rows into {groups} groups: {median:.2} ms a batch");
    Ok(median)
}

// ---- publishing ----

#[allow(clippy::print_stdout, reason = "it is what the example is for")]
fn publishing() -> Result<()> {
    let live = Arc::new(Published::new(3)?);
    let (stop, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (there, ends, counts) = (Arc::clone(&live), Arc::clone(&stop), Arc::clone(&reads));
    let reader = threads::spawn("reader", move || {
        while !ends.load(Ordering::Relaxed) {
            black_box(there.read());
            counts.fetch_add(1, Ordering::Relaxed);
        }
    })?;
    let mut took: Vec<Duration> = (1..=200_000).map(|batch| live.publish(Time::from_millis(batch), 3)).collect();
    stop.store(true, Ordering::Relaxed);
    reader.join();
    took.sort_unstable();
    let at = |part: f64| us(took[((took.len() - 1) as f64 * part) as usize]);
    println!(
        "publishing a batch of three tables beside a reader ({} reads): median {:.2} us, p99 {:.2} us",
        reads.load(Ordering::Relaxed),
        at(0.5),
        at(0.99)
    );
    Ok(())
}

#[allow(clippy::print_stdout, reason = "it is what the example is for")]
fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [what, rows, count, threads] = arguments.as_slice() {
        let count = count.parse().ok().filter(|count| *count > WARM_UP);
        let (Ok(rows), Some(count), Ok(threads), "batches") = (rows.parse(), count, threads.parse(), what.as_str())
        else {
            let text = "this is asked as `batches ROWS COUNT THREADS`, of more than two batches";
            return Err(Error::new(ErrorKind::Config, text));
        };
        return batches(rows, count, threads);
    }
    for (rows, rounds) in [(10, 500), (1_000, 500), (100_000, 60)] {
        statement(rows, rounds)?;
    }
    for (rows, rounds) in [(8_000, 300), (100_000, 60)] {
        columns(rows, rounds)?;
    }
    publishing()?;
    let (few, many) = (continuous(100_000, 200)?, continuous(10_000_000, 200)?);
    println!("continuous: 10,000,000 groups ÷ 100,000: {:.2}", many / few);
    Ok(())
}
