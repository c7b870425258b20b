//! Spark's own tests of failures and checkpoints, where no other file has them: FailureSuite, CheckpointSuite,
//! ReceivedBlockTrackerSuite, JobGeneratorSuite. Spark's accept what comes twice; these do not.
//!
//! | Spark's | here |
//! |---|---|
//! | FailureSuite 1, 2 | below, and with real processes in `crates/soak` |
//! | CheckpointSuite 1, 10, 15, 17, 18 | below |
//! | CheckpointSuite 2, 6, 7, 11 | `recovery.rs`: `a_crash_behind_any_batch_is_not_seen_…` |
//! | CheckpointSuite 3 | `durable.rs`: `r9_r10_…` |
//! | CheckpointSuite 8, 9 | `exactly_once.rs`: `r24_files_have_each_batch_once_…` |
//! | CheckpointSuite 12 | `backpressure.rs`: `r60_…` |
//! | CheckpointSuite 13 | `durable.rs`: `s98_r16_…` |
//! | CheckpointSuite 16 | `durable.rs`: files are named by the number of a record, which no two share |
//! | CheckpointSuite 4, 5, 14 | nothing: no host, no page, and no graph that is restored |
//! | ReceivedBlockTrackerSuite 1 to 3 | `receiver/blocks.rs`: `s80_…`, `r39_…` |
//! | ReceivedBlockTrackerSuite 4, JobGeneratorSuite 1 | `received.rs`: `r48_…_whatever_the_disk_does` |
//! | ReceivedBlockTrackerSuite 5 to 7 | `received.rs`: `r39_segments_…`, `r29_…`; `log.rs`: `what_was_acknowledged_…` |

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_core::clock::{Clock, ManualClock};
use millstream_core::disk::Disk;
use millstream_core::{Result, Text, Time, secs};
use millstream_streaming::{Conf, DStream, RddQueue, StreamingContext};
use millstream_testkit::{
    Check, Durable, Fault, SimDisk, Survived, Table, batches, check_faults, durable_steps, run_through_crashes, survive,
};

fn at(s: i64) -> Time {
    Time::from_millis(s * 1000)
}

/// Scatters a number.
fn scattered(seed: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (seed >> 29);
    z = (z ^ (z >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    z ^ (z >> 32)
}

/// How many batches a program of FailureSuite has.
const BATCHES: usize = 20;

/// Puts a file where a file stream finds it at the time `s`, whole.
fn put(inbox: &Path, s: usize, text: &str) {
    let path = inbox.join(format!("file-{s:03}"));
    if path.exists() {
        return;
    }
    let draft = inbox.join(format!(".draft-{s}"));
    std::fs::write(&draft, text).unwrap();
    let written = std::time::UNIX_EPOCH + secs(s as u64);
    std::fs::File::options().write(true).open(&draft).unwrap().set_modified(written).unwrap();
    std::fs::rename(draft, path).unwrap();
}

/// Runs a program on files, one a batch, on a machine that stops at six operations of its disk and behind three batches,
/// by chance. Returns what came out, and how often the machine stopped.
fn through_failures(
    seed: u64,
    file: fn(usize) -> String,
    program: fn(&DStream<Text>) -> DStream<(Text, u64)>,
) -> (Survived, usize) {
    let inbox = tempfile::tempdir().unwrap();
    let disk = SimDisk::new(seed);
    // Behind the first batch: a program of which nothing is durable begins anew, and takes no files from before.
    (1..=6).for_each(|n| disk.fail_at(30 + scattered(seed * 100 + n) % 150, Fault::Crash));
    let mut crashes: Vec<_> = (7..10).map(|n| 1 + (scattered(seed * 100 + n) % BATCHES as u64) as usize).collect();
    crashes.sort_unstable();
    let build = |ssc: &StreamingContext| Ok(program(&ssc.text_file_stream(inbox.path())));
    let survived = survive(
        &disk,
        &Durable {
            how: Check::new(2, 1 + (seed % 3) as usize),
            conf: &|_| {},
            build: &build,
            before: &|batch| put(inbox.path(), batch, &file(batch)),
            batches: BATCHES,
            crashes: &crashes,
        },
    );
    let survived = survived.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    let stops = disk.fired().len() + crashes.len();
    (survived, stops)
}

fn exactly(want: impl Fn(usize) -> (String, u64)) -> Table {
    let mut table = Table::default();
    (1..=BATCHES).for_each(|s| table.add(at(s as i64), &[want(s)]));
    table
}

#[test]
fn failure_suite_1_multiple_failures_with_map() {
    let want = exactly(|s| (format!("record-{s}"), 1));
    let mut stopped = 0;
    for seed in 0..12 {
        let (survived, stops) =
            through_failures(seed, |s| format!("record-{s}\n"), |lines| lines.map(|line| (line, 1u64)));
        assert_eq!(survived.table.to_string(), want.to_string(), "seed {seed}");
        assert!(survived.starts > 1, "seed {seed}");
        stopped += stops;
    }
    assert!(stopped > 60, "the machine stopped only {stopped} times");
}

#[test]
fn failure_suite_2_multiple_failures_with_update_state_by_key() {
    // The file of batch N has the word N times.
    let want = exactly(|s| ("a".to_owned(), (s * (s + 1) / 2) as u64));
    let mut stopped = 0;
    for seed in 0..12 {
        let (survived, stops) = through_failures(
            seed,
            |s| "a\n".repeat(s),
            |words| {
                words
                    .map(|word| (word, 1u64))
                    .update_state_by_key(|new, old: Option<u64>| Some(old.unwrap_or(0) + new.iter().sum::<u64>()))
            },
        );
        assert_eq!(survived.table.to_string(), want.to_string(), "seed {seed}");
        assert!(survived.starts > 1, "seed {seed}");
        stopped += stops;
    }
    assert!(stopped > 60, "the machine stopped only {stopped} times");
}

#[test]
fn checkpoint_suite_1_a_directory_that_is_not_there_begins_a_new_program_and_is_made() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("not/there/yet");
    let (setups, ssc) = started(&folder, 0);
    assert_eq!((setups, folder.join("lock").exists()), (1, true));
    ssc.stop().unwrap();
}

/// Starts a program in `folder`; returns how often its setup ran.
fn started(folder: &Path, now: i64) -> (usize, StreamingContext) {
    let mut conf = Conf::new("local[1]", "suites").unwrap();
    conf.streaming.exclusive = false;
    let clock = ManualClock::new(at(now));
    let builder = StreamingContext::builder(conf, secs(1)).with_clock(Arc::new(clock.clone()) as Arc<dyn Clock>);
    let mut setups = 0;
    let ssc = builder
        .get_or_create(folder, |ssc| {
            setups += 1;
            ssc.text_file_stream(folder.join("nothing")).foreach_rdd(|_, _| ());
            Ok(())
        })
        .unwrap();
    ssc.start().unwrap();
    clock.advance_to(at(now + 1));
    assert!(ssc.await_batch(at(now + 1)));
    (setups, ssc)
}

#[test]
fn checkpoint_suite_10_what_is_saved_inside_of_a_transform_is_saved_once_a_batch() {
    let (folder, disk) = (PathBuf::from("/saved"), SimDisk::new(0));
    let program = |numbers: DStream<i32>| {
        let folder = folder.clone();
        numbers.transform(move |rdd, time| {
            // The batch may run again: what is there is of the same input.
            let path = folder.join(time.as_millis().to_string());
            rdd.save_as_text_file(&path).unwrap();
            rdd
        })
    };
    let batches = batches![[1, 2], CRASH, [3], [4], CRASH, [5]];
    run_through_crashes(Check::new(1, 1), &disk, &batches, &program, 0).unwrap();
    for (s, want) in [(1, "1\n2\n"), (2, "3\n"), (3, "4\n"), (4, "5\n")] {
        // Outputs are on the disk that crashes, too.
        let part = disk.read(&folder.join((s * 1000).to_string()).join("part-00000")).unwrap();
        assert_eq!(String::from_utf8(part).unwrap(), want, "batch {s}");
    }
}

#[test]
fn checkpoint_suite_15_states_of_lists_and_of_bytes_survive_any_crash() {
    let fired = check_faults(
        Check::new(2, 1),
        &[Fault::Crash, Fault::TornWrite],
        &batches![[("a", 1)], [("b", 2), ("a", 3)], [], [("a", 4)]],
        |pairs: DStream<(Text, i32)>| {
            pairs.update_state_by_key(|new, old: Option<(Vec<i32>, Vec<u8>)>| {
                let (mut all, mut bytes) = old.unwrap_or_default();
                all.extend(&new);
                bytes.push(new.len() as u8);
                Some((all, bytes))
            })
        },
    );
    assert!(fired > 50, "{fired}");
}

#[test]
fn checkpoint_suite_17_a_directory_and_names_in_it_that_look_like_checkpoints_are_no_trouble() {
    let root = tempfile::tempdir().unwrap();
    // The directory is called as a checkpoint file is.
    let folder = root.path().join("checkpoint-01");
    let (_, ssc) = started(&folder, 0);
    ssc.stop().unwrap();
    for name in ["checkpoint-", "checkpoint-x", "checkpoint-1", "checkpoint-00000000000000000000.bk", "notes.txt"] {
        std::fs::write(folder.join(name), "not mine").unwrap();
    }
    std::fs::create_dir(folder.join("checkpoint-folder")).unwrap();
    let (setups, ssc) = started(&folder, 1);
    assert_eq!(setups, 1);
    assert!(ssc.await_batch(at(2)), "it goes on");
    ssc.stop().unwrap();
    assert_eq!(std::fs::read_to_string(folder.join("notes.txt")).unwrap(), "not mine");
}

#[test]
fn checkpoint_suite_18_a_saved_stream_behind_a_state_does_not_grow_its_lineage() {
    let mut conf = Conf::new("local[1]", "suites").unwrap();
    conf.streaming.exclusive = false;
    let (clock, folder) = (ManualClock::new(Time::ZERO), tempfile::tempdir().unwrap());
    let builder = StreamingContext::builder(conf, secs(1)).with_clock(Arc::new(clock.clone()) as Arc<dyn Clock>);
    let ssc = builder.build().unwrap();
    ssc.checkpoint(folder.path()).unwrap();
    let queue = RddQueue::new();
    (0..400).for_each(|_| queue.push(ssc.context().parallelize(vec![("a".to_owned(), 1u64)], 1)));
    let longest = Arc::new(std::sync::Mutex::new(0));
    let seen = Arc::clone(&longest);
    ssc.queue_stream(&queue)
        .update_state_by_key(|new, old: Option<u64>| Some(old.unwrap_or(0) + new.iter().sum::<u64>()))
        .map(|(_, sum)| sum)
        .checkpoint(secs(10))
        .foreach_rdd(move |rdd, time| -> Result<()> {
            assert_eq!(rdd.collect()?, [time.as_millis() as u64 / 1000]);
            let lines = rdd.to_debug_string().lines().count();
            let mut longest = seen.lock().unwrap();
            *longest = lines.max(*longest);
            Ok(())
        });
    ssc.start().unwrap();
    for s in 1..=400 {
        clock.advance_to(at(s));
        assert!(ssc.await_batch(at(s)), "{:?}", ssc.await_termination());
    }
    ssc.stop().unwrap();
    let longest = *longest.lock().unwrap();
    assert!((3..200).contains(&longest), "{longest} lines");
}

#[test]
fn the_strict_checker_finds_a_batch_that_gives_something_else_the_second_time() {
    let runs = std::sync::atomic::AtomicUsize::new(0);
    let steps = durable_steps(Check::new(1, 1), &batches![[1], [2]], &|numbers| numbers).1;
    let found = (1..=steps).any(|step| {
        let disk = SimDisk::new(step);
        disk.fail_at(step, Fault::Crash);
        let program = |numbers: DStream<i32>| {
            let life = runs.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            numbers.map(move |n| n + life as i32)
        };
        run_through_crashes(Check::new(1, 1), &disk, &batches![[1], [2]], &program, 0).is_err()
    });
    assert!(found, "a program that is no function of its input goes unnoticed");
}
