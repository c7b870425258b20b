//! Executors that end in the middle: what was lost is made again, the answer is the same, and no slot is lost with them.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_cluster::Cluster;
use millstream_core::clock::monotonic;
use millstream_core::conf::EngineConf;
use millstream_core::threads::lock;
use millstream_core::{
    Context, EngineListener, ErrorKind, ExecutorInfo, ExecutorLost, Rdd, StorageLevel, TaskContext, TaskEnd, Text,
    capture,
};

/// Ends this executor, unless somebody has been ended for the same reason before.
fn end_once(folder: &Path, reason: &str) {
    if OpenOptions::new().write(true).create_new(true).open(folder.join(reason)).is_ok() {
        // As SIGKILL does: without a word.
        std::process::abort();
    }
}

fn cluster() -> (Arc<Cluster>, Context, tempfile::TempDir) {
    cluster_with(&[])
}

/// Says why executors were lost, for tests that fail.
struct SaysLosses;

impl EngineListener for SaysLosses {
    #[allow(clippy::print_stdout, reason = "it is for who reads of a test that failed")]
    fn on_executor_lost(&self, lost: &ExecutorLost) {
        println!("{} (process {}): {}", lost.executor.id, lost.executor.process, lost.reason);
    }
}

/// A cluster of its own, with settings by Spark's keys.
fn cluster_with(settings: &[(&str, &str)]) -> (Arc<Cluster>, Context, tempfile::TempDir) {
    let mut conf = EngineConf::new("local-cluster[2,1]", "failures").unwrap();
    // Nobody is thought to be lost because the machine is busy: how often things are made is counted.
    conf.set("spark.network.timeout", "60s").unwrap();
    settings.iter().for_each(|(key, value)| assert!(conf.set(key, value).unwrap()));
    let cluster = Arc::new(Cluster::start(&conf).unwrap());
    let context = Context::builder(conf).with_backend(Arc::clone(&cluster) as _).build().unwrap();
    context.add_listener(SaysLosses);
    (cluster, context, tempfile::tempdir().unwrap())
}

/// Sums by key, with executors that end in the stages that are named.
fn sums(context: &Context, folder: &Path, reasons: [&str; 2]) -> Rdd<(i64, i64)> {
    let [in_map, in_reduce] = reasons.map(str::to_owned);
    let folder = folder.to_path_buf();
    let map = capture((folder.clone(), in_map), |(folder, reason), x: i64| {
        if x == 7 && !reason.is_empty() {
            end_once(folder, reason);
        }
        (x % 4, x)
    });
    let last = capture((folder, in_reduce), |(folder, reason), (k, v): (i64, i64)| {
        if k == 1 && !reason.is_empty() {
            end_once(folder, reason);
        }
        (k, v)
    });
    context.range(0, 100, 1, 4).map(map).reduce_by_key_partitioned(|a, b| a + b, 2).map(last)
}

fn right(mut sums: Vec<(i64, i64)>) -> bool {
    sums.sort_unstable();
    sums == [(0, 1200), (1, 1225), (2, 1250), (3, 1275)]
}

#[test]
fn an_executor_that_ends_in_the_map_stage_or_the_reduce_stage_changes_nothing() {
    let (cluster, context, folder) = cluster();
    for reasons in [["map", ""], ["", "reduce"], ["map too", "reduce too"]] {
        assert!(right(sums(&context, folder.path(), reasons).collect().unwrap()), "{reasons:?}");
    }
    cluster.await_executors(2, Duration::from_secs(30)).unwrap();
}

#[test]
fn an_executor_that_ends_between_jobs_takes_what_it_kept_and_that_is_made_again() {
    let (cluster, context, folder) = cluster();
    let kept = sums(&context, folder.path(), ["", ""]);
    kept.cache();
    assert!(right(kept.collect().unwrap()));
    let ends = capture(folder.path().to_path_buf(), |folder, _: i64| end_once(folder, "between"));
    context.range(0, 2, 1, 2).foreach(ends).unwrap();
    assert!(right(kept.collect().unwrap()));
    cluster.await_executors(2, Duration::from_secs(30)).unwrap();
    assert!(right(kept.collect().unwrap()));
}

#[test]
fn ten_executors_that_end_take_no_slot_with_them() {
    let (cluster, context, folder) = cluster();
    for round in 0..10 {
        let reasons = [format!("map {round}"), format!("reduce {round}")];
        let reasons = if round % 2 == 0 { [reasons[0].as_str(), ""] } else { ["", reasons[1].as_str()] };
        assert!(right(sums(&context, folder.path(), reasons).collect().unwrap()), "round {round}");
    }
    cluster.await_executors(2, Duration::from_secs(30)).unwrap();
    // Each waits for the other: both slots are there.
    let meet = capture(folder.path().to_path_buf(), |folder, x: i64| {
        std::fs::write(folder.join(format!("here-{x}")), b"").unwrap();
        while !folder.join(format!("here-{}", 1 - x)).exists() {
            std::hint::spin_loop();
        }
    });
    context.range(0, 2, 1, 2).foreach(meet).unwrap();
    assert_eq!(cluster.executors().len(), 2);
}

/// Kills an executor, and waits until its driver has another in its place.
fn kill(cluster: &Cluster, process: u32) {
    assert!(Command::new("kill").args(["-KILL", &process.to_string()]).status().unwrap().success());
    let begun = monotonic();
    while cluster.executors().len() < 2 || cluster.executors().iter().any(|(_, other)| *other == process) {
        assert!(monotonic() - begun < Duration::from_secs(60), "the executor is not replaced");
        std::thread::park_timeout(Duration::from_millis(10));
    }
    cluster.await_executors(2, Duration::from_secs(60)).unwrap();
}

/// An Rdd behind a shuffle, and how often an element in front of it was made.
fn kept(context: &Context, level: StorageLevel) -> (Rdd<(i64, i64)>, millstream_core::LongAccumulator) {
    let made = context.long_accumulator("made");
    let make = capture(made.clone(), |made, x: i64| {
        made.add(1);
        (x % 10, x)
    });
    let sums = context.range(0, 100, 1, 2).map(make).reduce_by_key_partitioned(|a, b| a + b, 2);
    sums.persist(level);
    (sums, made)
}

fn total(sums: &Rdd<(i64, i64)>) -> i64 {
    sums.map(|(_, sum)| sum).reduce(|a, b| a + b).unwrap()
}

#[test]
fn what_is_kept_twice_outlives_an_executor_and_what_is_kept_once_is_made_again() {
    let (cluster, context, _folder) = cluster();
    for (level, makes) in [
        (StorageLevel::MEMORY_ONLY, 200),
        (StorageLevel::MEMORY_ONLY_2, 100),
        (StorageLevel::DISK_ONLY_2, 100),
        (StorageLevel::MEMORY_AND_DISK_SER_2, 100),
    ] {
        let (sums, made) = kept(&context, level);
        assert_eq!((total(&sums), made.value()), (4950, 100), "{level}");
        kill(&cluster, cluster.executors()[0].1);
        assert_eq!((total(&sums), made.value()), (4950, makes), "{level}");
        assert_eq!((total(&sums), made.value()), (4950, makes), "{level}: it is kept again");
        sums.unpersist();
    }
}

#[test]
fn a_task_does_not_wait_for_ever_for_the_executor_that_keeps_what_it_reads() {
    let (_cluster, context, folder) = cluster_with(&[("spark.locality.wait", "100ms")]);
    let (sums, made) = kept(&context, StorageLevel::MEMORY_ONLY);
    assert_eq!(total(&sums), 4950);
    // One executor has something else to do.
    let busy = capture(folder.path().to_path_buf(), |folder, _: i64| {
        std::fs::write(folder.join("busy"), std::process::id().to_string()).unwrap();
        let begun = monotonic();
        while !folder.join("done").exists() && monotonic() - begun < Duration::from_secs(120) {
            std::thread::park_timeout(Duration::from_millis(5));
        }
    });
    let other = context.range(0, 1, 1, 1).foreach_async(busy);
    let begun = monotonic();
    while !folder.path().join("busy").exists() {
        assert!(monotonic() - begun < Duration::from_secs(60));
        std::thread::park_timeout(Duration::from_millis(5));
    }
    let at = sums.map_partitions(|rows| {
        let count = rows.count();
        std::iter::once((std::process::id(), count))
    });
    let at = at.collect().unwrap();
    std::fs::write(folder.path().join("done"), b"").unwrap();
    other.get().unwrap();
    let busy: u32 = std::fs::read_to_string(folder.path().join("busy")).unwrap().parse().unwrap();
    assert_eq!(at.iter().map(|(_, count)| count).sum::<usize>(), 10);
    assert!(at.iter().all(|(process, _)| *process != busy), "{busy} is busy: {at:?}");
    assert_eq!(made.value(), 100, "what is kept was sent, and not made again");
}

#[test]
fn a_job_that_ends_every_executor_ends_itself_and_says_why() {
    let (cluster, context, _folder) = cluster();
    let deadly = context.range(0, 4, 1, 2).map(|x| if x == 3 { std::process::abort() } else { x });
    let error = deadly.collect().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("4 executors") && error.to_string().contains("more memory"), "{error}");
    cluster.await_executors(2, Duration::from_secs(60)).unwrap();
    assert_eq!(context.range(0, 4, 1, 2).count().unwrap(), 4, "the next job is as good as ever");
    // Short ones go several in a task: it is the right one of them that is named.
    let deadly = context.range(0, 64, 1, 64).map(|x| if x == 50 { std::process::abort() } else { x });
    let error = deadly.collect().unwrap_err();
    assert!(error.to_string().contains("partition 50 of"), "{error}");
}

/// What is told of executors, and how long each has run.
#[derive(Default)]
struct Told {
    added: Vec<ExecutorInfo>,
    lost: Vec<ExecutorLost>,
    ran: Vec<(String, Duration)>,
}

struct Listens(Arc<Mutex<Told>>);

impl EngineListener for Listens {
    fn on_executor_added(&self, executor: &ExecutorInfo) {
        lock(&self.0).added.push(executor.clone());
    }

    fn on_executor_lost(&self, lost: &ExecutorLost) {
        lock(&self.0).lost.push(lost.clone());
    }

    fn on_task_end(&self, end: &TaskEnd) {
        assert!(!end.task.host.is_empty());
        lock(&self.0).ran.push((end.task.executor.to_string(), end.task.duration().unwrap()));
    }
}

#[test]
fn a_listener_is_told_which_executor_is_slow_and_which_are_lost() {
    let (cluster, context, _folder) = cluster();
    let told = Arc::new(Mutex::new(Told::default()));
    context.add_listener(Listens(Arc::clone(&told)));
    let slow = cluster.executors()[1].1;
    let wait = capture(slow, |slow, x: i64| {
        let begun = monotonic();
        while std::process::id() == *slow && monotonic() - begun < Duration::from_millis(700) {
            std::hint::spin_loop();
        }
        x
    });
    assert_eq!(context.range(0, 2, 1, 2).map(wait).count().unwrap(), 2);
    kill(&cluster, slow);
    context.flush_listeners();
    let told = lock(&told);
    let named = |process: u32| told.added.iter().find(|info| info.process == process).unwrap().id.to_string();
    assert_eq!(told.ran.len(), 2, "{:?}", told.ran);
    // The other one may have been held up for as long.
    let slowest = told.ran.iter().find(|(executor, _)| *executor == named(slow)).unwrap();
    assert!(slowest.1 >= Duration::from_millis(700), "{:?}", told.ran);
    assert_eq!(told.added.len(), 3, "two were there, and one came: {:?}", told.added);
    let lost: Vec<_> = told.lost.iter().map(|lost| (lost.executor.process, lost.reason.as_str())).collect();
    assert_eq!(lost, [(slow, "its connection to the driver has ended")]);
}

#[test]
fn a_record_of_a_hundred_megabytes_goes_through() {
    let (_cluster, context, _folder) = cluster();
    let long = context.range(0, 1, 1, 1).map(|i| (i, Text::from("x".repeat(100 << 20))));
    let sizes = long.partition_by(2).map(|(i, text)| (i, text.len())).collect().unwrap();
    assert_eq!(sizes, [(0, 100 << 20)]);
}

#[test]
fn an_executor_that_ends_when_one_of_two_readers_of_a_stage_has_ended_changes_nothing() {
    let (cluster, context, folder) = cluster();
    let map = |x: i64| (x % 4, x);
    let sums = context.range(0, 100, 1, 4).map(map).reduce_by_key_partitioned(|a, b| a + b, 2);
    // One task, on one executor, reads what `sums` reads; the other executor ends when that task has.
    let gathered = sums.coalesce(1).map(|(k, v)| (k, -v)).partition_by(2);
    let ends = capture(folder.path().to_path_buf(), |folder, (k, (a, b)): (i64, (i64, i64))| {
        if TaskContext::current().unwrap().partition() == 1 {
            end_once(folder, "the last stage");
        }
        (k, (a - b) / 2)
    });
    let job = sums.join_partitioned(&gathered, 2).map(ends).collect_async();
    assert!(right(job.get().unwrap()));
    assert!(folder.path().join("the last stage").exists(), "nobody ended");
    cluster.await_executors(2, Duration::from_secs(30)).unwrap();
}

#[test]
fn an_executor_that_ends_in_the_third_stage_changes_nothing() {
    let (cluster, context, folder) = cluster();
    let ends = capture(folder.path().to_path_buf(), |folder, (k, v): (i64, i64)| {
        end_once(folder, "the third stage");
        (k, v)
    });
    let third = sums(&context, folder.path(), ["", ""]).map(|(k, v)| (k + 4, v)).partition_by(2).map(ends);
    assert!(right(third.map(|(k, v)| (k - 4, v)).collect().unwrap()));
    cluster.await_executors(2, Duration::from_secs(30)).unwrap();
}

#[test]
fn no_two_attempts_at_a_partition_have_the_same_number() {
    let (cluster, context, folder) = cluster();
    let ends = capture(folder.path().to_path_buf(), |folder, x: i64| {
        let task = TaskContext::current().unwrap();
        let own = folder.join(format!("{}-{}", task.partition(), task.attempt()));
        let new = OpenOptions::new().write(true).create_new(true).open(own).is_ok();
        if x == 0
            && (0..2).any(|round| {
                OpenOptions::new().write(true).create_new(true).open(folder.join(format!("end-{round}"))).is_ok()
            })
        {
            std::process::abort();
        }
        new
    });
    assert_eq!(context.range(0, 2, 1, 2).map(ends).collect().unwrap(), [true, true]);
    assert!(folder.path().join("0-2").exists(), "it was attempted three times");
    cluster.await_executors(2, Duration::from_secs(30)).unwrap();
}
