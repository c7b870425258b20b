//! Statements on a stream that goes on for long: plans, states and functions keep nothing of batches that are over.
//!
//! `just steady-sql 100000` runs a hundred thousand batches.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use millstream::core::clock::{Clock, ManualClock};
use millstream::sql::{SqlContext, SqlStreams as _};
use millstream::streaming::InputSource;
use millstream::{Conf, Context, Rate, Rdd, Result, StreamingContext, Time, secs};

/// How many batches: a few in CI.
fn batches() -> i64 {
    std::env::var("MILLSTREAM_BATCHES").map_or(300, |batches| batches.parse().unwrap())
}

/// Batches of 1, 10 and 100 rows in turn, so that a statement has more than one plan.
struct Readings;

impl InputSource for Readings {
    type Item = (i64, f64);
    type Allocation = i64;

    fn allocate(&mut self, batch: Time, _: Option<Rate>) -> Result<i64> {
        Ok(batch.as_millis() / 1000)
    }

    fn notices_change(&self) -> bool {
        true
    }

    fn rdd(&self, batch: &i64, context: &Context) -> Result<Option<Rdd<(i64, f64)>>> {
        let rows = 10_i64.pow((batch % 3) as u32);
        Ok(Some(context.parallelize((0..rows).map(|n| (n % 7, (n + batch) as f64)).collect(), 1)))
    }
}

/// The kibibytes of memory that this process has.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}

/// The program, in a process of its own. It writes down what memory it has at ten points.
fn program(folder: &Path) {
    let clock = ManualClock::new(Time::ZERO);
    let conf = Conf::new("local[1]", "flat").unwrap();
    let ssc = StreamingContext::builder(conf, secs(1)).with_clock(Arc::new(clock.clone()) as Arc<dyn Clock>).build();
    let ssc = ssc.unwrap();
    let sql = SqlContext::new(&ssc).unwrap();
    sql.register_function("doubled", |x: f64| x * 2.0).unwrap();
    sql.register_aggregate("total", 0.0, |sum, x: f64| sum + x, |a, b| a + b, |sum| sum).unwrap();
    let names = (0..7).map(|n| (n, format!("pump {n}"))).collect();
    sql.create_data_frame::<(i64, String)>(names).unwrap().create_or_replace_temp_view("pumps").unwrap();

    let readings = ssc.input(Readings);
    let joined = "SELECT pumps._2, doubled(total(r._2)) FROM r JOIN pumps USING (_1) GROUP BY pumps._2 ORDER BY 1";
    let answers = [
        readings.sql::<(String, f64)>(&sql, "r", joined),
        readings.columns().window(secs(5)).sql(&sql, "r", joined),
        readings.continuous_sql(&sql, "r", "SELECT CAST(_1 AS STRING), total(_2) FROM r GROUP BY _1").stream(),
    ];
    for answer in &answers {
        answer.foreach_rdd(|rdd, _| {
            assert!((1..=7).contains(&rdd.count()?));
            Ok(())
        });
    }
    ssc.checkpoint(folder.join("checkpoint")).unwrap();
    ssc.start().unwrap();
    let (count, mut points) = (batches(), String::new());
    for batch in 1..=count {
        let time = Time::from_millis(batch * 1000);
        clock.advance_to(time);
        assert!(ssc.await_batch(time));
        if batch % (count / 10).max(1) == 0 {
            points.push_str(&format!("{}\n", memory()));
        }
    }
    ssc.stop().unwrap();
    std::fs::write(folder.join("points"), points).unwrap();
}

#[test]
fn memory_stays_as_it_is_over_many_batches() {
    // In a process of its own the test is the program.
    if let Some(folder) = std::env::var_os("MILLSTREAM_FLAT") {
        return program(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let program = Command::new(std::env::current_exe().unwrap())
        .args(["flat::memory_stays_as_it_is_over_many_batches", "--exact"])
        .env("MILLSTREAM_FLAT", folder.path())
        .output()
        .unwrap();
    assert!(program.status.success(), "{}", String::from_utf8_lossy(&program.stdout));
    let text = std::fs::read_to_string(folder.path().join("points")).unwrap();
    let points: Vec<u64> = text.lines().map(|line| line.parse().unwrap()).collect();
    println!("{} batches; KiB at ten points: {points:?}", batches());
    assert_eq!(points.len(), 10, "{text}");
    let most = |of: &[u64]| of.iter().copied().max().unwrap_or(0);
    // The first tenths warm up. What kept a batch, or a plan of one, would take kibibytes each, or hundreds.
    let (early, late) = (most(&points[1..4]), most(&points[7..]));
    assert!(late <= early + early / 10 + 4 * 1024, "from {early} to {late} KiB: {points:?}");
}
