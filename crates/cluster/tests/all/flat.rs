//! A stream that goes on for long: driver and executors keep nothing of batches that are over, in memory or on disk.
//!
//! `just steady-cluster 10000` runs ten thousand batches.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use millstream_cluster::Cluster;
use millstream_core::clock::{Clock, ManualClock};
use millstream_core::{Context, Rdd, Result, Text, Time, secs};
use millstream_streaming::{Conf, InputSource, Rate, StreamingContext};

/// How many batches: a few in CI.
fn batches() -> i64 {
    std::env::var("MILLSTREAM_BATCHES").map_or(120, |batches| batches.parse().unwrap())
}

/// A hundred lines a batch.
struct Lines;

impl InputSource for Lines {
    type Item = Text;
    type Allocation = i64;

    fn allocate(&mut self, batch: Time, _: Option<Rate>) -> Result<i64> {
        Ok(batch.as_millis() / 1000)
    }

    fn notices_change(&self) -> bool {
        true
    }

    fn rdd(&self, batch: &i64, context: &Context) -> Result<Option<Rdd<Text>>> {
        let line = |i: i64| Text::from(format!("the quick brown fox {} jumps over line {i}", (i + batch) % 7));
        Ok(Some(context.parallelize((0..100).map(line).collect(), 2)))
    }
}

/// The kibibytes of memory that a process has.
fn memory(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}

/// The kibibytes of all files in a folder.
fn disk(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(what) if what.is_dir() => disk(&entry.path()),
        // A name takes a block.
        Ok(what) => what.len().div_ceil(4096) * 4,
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

/// The program, in a process of its own. It says what it has at its worst in each quarter: the driver's memory, that of both
/// executors, and disk, in kibibytes.
fn program(folder: &Path) {
    let mut conf = Conf::new("local-cluster[2,1]", "flat").unwrap();
    conf.engine.local_dir = Some(folder.to_path_buf());
    let cluster = Arc::new(Cluster::start(&conf.engine).unwrap());
    let clock = ManualClock::new(Time::ZERO);
    let ssc = StreamingContext::builder(conf, secs(1))
        .with_backend(Arc::clone(&cluster) as _)
        .with_clock(Arc::new(clock.clone()) as Arc<dyn Clock>)
        .get_or_create(folder.join("checkpoint"), |ssc| {
            let words = ssc.input(Lines).flat_map(|line| line.split(' ')).map(|word| (word, 1i64));
            let counts = words.reduce_by_key_partitioned(|a, b| a + b, 2);
            let totals =
                counts.update_state_by_key(|new, old: Option<i64>| Some(old.unwrap_or(0) + new.iter().sum::<i64>()));
            totals.foreach_rdd(|rdd, time| {
                let all = rdd.map(|(_, total)| total).reduce(|a, b| a + b)?;
                assert_eq!(all, time.as_millis() / 1000 * 900);
                Ok(())
            });
            Ok(())
        })
        .unwrap();
    ssc.start().unwrap();
    let count = batches();
    let mut worst = [[0u64; 3]; 4];
    for batch in 1..=count {
        clock.advance_to(Time::from_millis(batch * 1000));
        assert!(ssc.await_batch(Time::from_millis(batch * 1000)));
        if batch % (count / 40).max(1) == 0 {
            let quarter = &mut worst[((batch - 1) * 4 / count) as usize];
            let executors = cluster.executors().iter().map(|(_, process)| memory(*process)).sum();
            let now = [memory(std::process::id()), executors, disk(folder)];
            quarter.iter_mut().zip(now).for_each(|(worst, now)| *worst = now.max(*worst));
        }
    }
    ssc.stop().unwrap();
    std::fs::write(folder.join("worst"), worst.map(|quarter| quarter.map(|n| n.to_string()).join(" ")).join("\n"))
        .unwrap();
}

#[test]
fn memory_and_disk_of_driver_and_executors_stay_as_they_are() {
    // In a process of its own the test is the program.
    if let Some(folder) = std::env::var_os("MILLSTREAM_FLAT") {
        return program(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let program = Command::new(std::env::current_exe().unwrap())
        .args(["flat::memory_and_disk_of_driver_and_executors_stay_as_they_are", "--exact"])
        .env("MILLSTREAM_FLAT", folder.path())
        .output()
        .unwrap();
    assert!(program.status.success(), "{}", String::from_utf8_lossy(&program.stdout));
    let text = std::fs::read_to_string(folder.path().join("worst")).unwrap();
    println!("{} batches; KiB of the driver, of the executors, and on disk, by quarter:\n{text}", batches());
    let worst: Vec<Vec<u64>> =
        text.lines().map(|line| line.split(' ').map(|number| number.parse().unwrap()).collect()).collect();
    for (what, (early, late)) in ["driver", "executors", "disk"].iter().zip(worst[1].iter().zip(&worst[3])) {
        // An allocator takes a little for long; what kept a batch would take tens of kibibytes each.
        assert!(*late <= early + early / 5 + 8 * 1024, "{what}: from {early} to {late} KiB:\n{text}");
    }
}
