//! A durable program on executors that join it, as on other hosts: its driver is killed and begun again, an executor stands
//! still and is woken when others have done its work. All of them are processes of this test binary.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use millstream_cluster::Cluster;
use millstream_core::clock::monotonic;
use millstream_core::{
    Context, EngineListener, ErrorKind, ExecutorInfo, ExecutorLost, Rdd, Result, TaskContext, Time, capture, millis,
};
use millstream_streaming::{Conf, InputSource, Rate, StreamingContext};

const INTERVAL: i64 = 500;

/// Set where a test is to be its program, with the folder that both know.
const PROGRAM: &str = "MILLSTREAM_LIVES";

/// How many numbers a batch has.
const EACH: i64 = 10;

/// Numbers of which the batch's time says which they are.
struct Numbers;

impl InputSource for Numbers {
    type Item = i64;
    type Allocation = i64;

    fn allocate(&mut self, batch: Time, _: Option<Rate>) -> Result<i64> {
        Ok(batch.as_millis() / INTERVAL)
    }

    fn notices_change(&self) -> bool {
        true
    }

    fn rdd(&self, batch: &i64, context: &Context) -> Result<Option<Rdd<i64>>> {
        Ok(Some(context.range(batch * EACH, (batch + 1) * EACH, 1, 2)))
    }
}

/// Counts the executors that are there.
struct Counts(Arc<AtomicI64>);

impl EngineListener for Counts {
    fn on_executor_added(&self, _: &ExecutorInfo) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn on_executor_lost(&self, _: &ExecutorLost) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Has this process stand still, if the test says so, and only once.
fn stand_still(folder: &Path) {
    if std::fs::remove_file(folder.join("stand still")).is_ok() {
        std::fs::write(folder.join("stands"), std::process::id().to_string()).unwrap();
        signal("-STOP", std::process::id());
        // A process stops when one of its threads has heard of it, which may be a while on a busy machine: meanwhile this one could
        // ask whether it may publish, hear that it may, and stand still right before it does.
        while !folder.join("woken").exists() {
            std::thread::park_timeout(millis(5));
        }
    }
}

pub(super) fn signal(name: &str, process: u32) {
    assert!(Command::new("kill").args([name, &process.to_string()]).status().unwrap().success());
}

pub(super) fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("the test sets {name}"))
}

/// The program, in a process of its own: for each batch a folder that tasks write, and then a file with the sum of the batch, the
/// count of all so far, and how many executors there are.
fn program(folder: &Path) {
    let folder = folder.to_path_buf();
    let mut conf = Conf::new(&format!("cluster://127.0.0.1:{}", variable("MILLSTREAM_PORT")), "lives").unwrap();
    conf.set("spark.network.timeout", &variable("MILLSTREAM_SILENCE")).unwrap();
    let builder = StreamingContext::builder(conf, millis(INTERVAL as u64));
    let setup = |ssc: &StreamingContext| {
        let there = Arc::new(AtomicI64::new(0));
        ssc.context().add_listener(Counts(Arc::clone(&there)));
        let numbers = ssc.input(Numbers);
        let counts = numbers.map(|n| (n % 3, 1i64)).reduce_by_key_partitioned(|a, b| a + b, 2);
        let counts =
            counts.update_state_by_key(|new, old: Option<i64>| Some(old.unwrap_or(0) + new.iter().sum::<i64>()));
        let saved = folder.clone();
        numbers.foreach_rdd(move |rdd, time| {
            let still = capture(saved.clone(), |folder, n: i64| {
                stand_still(folder);
                (n, TaskContext::current().map_or(99, |task| task.attempt()))
            });
            let place = saved.join(format!("saved-{}", time.as_millis()));
            // Of a run that was killed.
            let _ = std::fs::remove_dir_all(&place);
            rdd.map(still).save_as_text_file(place)
        });
        let files = folder.clone();
        numbers
            .map(|n| ((), n))
            .reduce_by_key(|a, b| a + b)
            .transform_with(&counts, |sums, counts, _| {
                let (sums, counts) = (sums.map(|(_, sum)| (0i64, sum)), counts.map(|(_, count)| (1i64, count)));
                sums.union(&counts).reduce_by_key_partitioned(|a, b| a + b, 1)
            })
            .foreach_rdd(move |rdd, time| {
                let mut both = rdd.collect()?;
                both.sort_unstable();
                let text = format!("{} {} {}", both[0].1, both[1].1, there.load(Ordering::Relaxed));
                let draft = files.join("draft");
                std::fs::write(&draft, text)?;
                std::fs::rename(&draft, files.join(format!("batch-{}", time.as_millis())))?;
                Ok(())
            });
        Ok(())
    };
    let ssc = builder.get_or_create(folder.join("checkpoint"), setup).unwrap();
    ssc.start().unwrap();
    ssc.stop_gracefully_on_signals().unwrap();
    ssc.await_termination().unwrap();
}

/// A process that is killed when the test fails.
pub(super) struct Process(pub(super) Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) struct Lives {
    folder: tempfile::TempDir,
    port: u16,
    /// How long an executor may be silent.
    silence: &'static str,
}

/// Returns a port that nobody listens at, below those that the system gives to outgoing connections: while no driver is there, one of
/// those could take it, and an executor that looks for its driver would find itself. Each process looks from another one on.
fn free_port() -> u16 {
    static LOOKED_AT: AtomicU32 = AtomicU32::new(0);
    loop {
        let at = std::process::id().wrapping_mul(97) + LOOKED_AT.fetch_add(1, Ordering::Relaxed);
        let port = 12_000 + (at % 20_000) as u16;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Lives {
    /// Nobody in it is thought to be lost because the machine is busy.
    pub(super) fn new() -> Lives {
        Lives::impatient("60s")
    }

    fn impatient(silence: &'static str) -> Lives {
        Lives { folder: tempfile::tempdir().unwrap(), port: free_port(), silence }
    }
}

impl Lives {
    fn begin(&self, arguments: &[&str]) -> Process {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(arguments).env("MILLSTREAM_SECRET", "a secret that only tests know");
        command.env(PROGRAM, self.folder.path()).env("MILLSTREAM_PORT", self.port.to_string());
        command.env("MILLSTREAM_SILENCE", self.silence);
        Process(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }

    /// Starts the test of this name as the program that it tests.
    pub(super) fn driver(&self, test: &str) -> Process {
        self.begin(&[&format!("lives::{test}"), "--exact", "--nocapture"])
    }

    pub(super) fn executor(&self) -> Process {
        self.begin(&["executor", "--driver", &format!("127.0.0.1:{}", self.port), "--slots", "1"])
    }

    /// The batches that have come out, each with its sum, the count, and the number of executors.
    pub(super) fn batches(&self) -> Vec<(i64, [i64; 3])> {
        let names = std::fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let times = names.filter_map(|name| name.to_str()?.strip_prefix("batch-")?.parse().ok());
        let times: BTreeSet<i64> = times.collect();
        let read = |time: i64| {
            let text = std::fs::read_to_string(self.folder.path().join(format!("batch-{time}"))).unwrap();
            let numbers: Vec<i64> = text.split(' ').map(|number| number.parse().unwrap()).collect();
            (time, numbers.try_into().unwrap())
        };
        times.into_iter().map(read).collect()
    }

    /// What tasks have written for a batch: each number with the attempt that wrote it.
    pub(super) fn saved(&self, time: i64) -> Vec<String> {
        let folder = self.folder.path().join(format!("saved-{time}"));
        let parts = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let parts = parts.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("part-"));
        let mut lines: Vec<String> = parts
            .flat_map(|path| std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        lines.sort();
        lines
    }

    fn last(&self) -> i64 {
        self.batches().last().map_or(0, |(time, _)| *time)
    }

    /// Waits until three more batches have come out, with so many executors in the end.
    pub(super) fn three_more(&self, executors: i64) {
        let before = self.batches().len();
        until(&format!("three batches behind the first {before}, on {executors} executors"), || {
            let batches = self.batches();
            batches.len() >= before + 3 && batches.last().unwrap().1[2] == executors
        });
    }
}

pub(super) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = monotonic();
    while !done() {
        assert!(monotonic() - begun < Duration::from_secs(240), "waited in vain for {what}");
        std::thread::park_timeout(millis(20));
    }
}

#[test]
fn a_driver_that_is_killed_goes_on_with_its_executors_and_one_that_stood_still_publishes_nothing() {
    if let Some(folder) = std::env::var_os(PROGRAM) {
        return program(Path::new(&folder));
    }
    let this = "a_driver_that_is_killed_goes_on_with_its_executors_and_one_that_stood_still_publishes_nothing";
    let lives = Lives::impatient("3s");
    // They wait for their driver.
    let mut executors = [lives.executor(), lives.executor()];
    let mut driver = lives.driver(this);
    lives.three_more(2);

    driver.0.kill().unwrap();
    driver.0.wait().unwrap();
    let mut driver = lives.driver(this);
    lives.three_more(2);
    assert!(executors.iter_mut().all(|executor| executor.0.try_wait().unwrap().is_none()), "they have joined again");

    // One stands still in the middle of a task that writes a file.
    std::fs::write(lives.folder.path().join("stand still"), b"").unwrap();
    until("an executor that stands still", || lives.folder.path().join("stands").exists());
    let stood_in = lives.last();
    lives.three_more(1);
    let times: Vec<i64> = lives.batches().iter().map(|(time, _)| *time).filter(|time| *time >= stood_in).collect();
    let saved: Vec<Vec<String>> = times.iter().map(|time| lives.saved(*time)).collect();
    let again = |lines: &Vec<String>| lines.iter().any(|line| !line.ends_with(",0)"));
    assert!(saved.iter().any(again), "what it did not write was written by another attempt: {saved:?}");
    let stands: u32 = std::fs::read_to_string(lives.folder.path().join("stands")).unwrap().parse().unwrap();
    std::fs::write(lives.folder.path().join("woken"), b"").unwrap();
    signal("-CONT", stands);
    lives.three_more(2);
    for (time, saved) in times.iter().zip(&saved) {
        assert_eq!(lives.saved(*time), *saved, "it has written over what another attempt had written");
    }

    signal("-TERM", driver.0.id());
    assert!(driver.0.wait().unwrap().success());
    // They end with a driver that stops, at its word: those whom that did not reach would find no driver, and say so.
    for executor in &mut executors {
        assert!(executor.0.wait().unwrap().success(), "it ends in peace, as its driver has");
    }
    audit(&lives);
}

/// Every batch from the first to the last is there, with what is its own, and the count goes up by each once.
pub(super) fn audit(lives: &Lives) {
    let batches = lives.batches();
    let first = batches[0].0 / INTERVAL;
    for (at, (time, [sum, count, _])) in (0i64..).zip(&batches) {
        let batch = time / INTERVAL;
        assert_eq!(batch, first + at, "batches are left out");
        let numbers = batch * EACH..(batch + 1) * EACH;
        assert_eq!((*sum, *count), (numbers.clone().sum(), (at + 1) * EACH), "batch {time}");
        let saved: Vec<i64> =
            lives.saved(*time).iter().map(|line| line[1..].split(',').next().unwrap().parse().unwrap()).collect();
        assert_eq!(saved.iter().copied().collect::<BTreeSet<_>>(), numbers.collect());
        assert_eq!(saved.len() as i64, EACH);
    }
}

/// A driver without executors, in a process of its own.
fn alone(folder: &Path) {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _taken = std::net::TcpListener::bind(taken).unwrap();
    let conf = Conf::new(&format!("cluster://{taken}"), "alone").unwrap();
    let error = Cluster::start(&conf.engine).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains(&taken.to_string()), "a port in use is named: {error}");

    let mut conf = Conf::new(&format!("cluster://127.0.0.1:{}", variable("MILLSTREAM_PORT")), "alone").unwrap();
    conf.set("spark.scheduler.maxRegisteredResourcesWaitingTime", "5s").unwrap();
    let context = Context::builder(conf.engine).build().unwrap();
    std::fs::write(folder.join("listens"), b"").unwrap();
    let error = context.range(0, 2, 1, 2).count().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let text = error.to_string();
    assert!(
        text.contains("0 of 1 executors are ready after 5 s") && text.contains("executor --driver 127.0.0.1:"),
        "{text}"
    );
}

#[test]
fn a_driver_without_executors_and_an_executor_with_another_secret_say_so() {
    if let Some(folder) = std::env::var_os(PROGRAM) {
        return alone(Path::new(&folder));
    }
    let lives = Lives::new();
    let mut driver = lives.driver("a_driver_without_executors_and_an_executor_with_another_secret_say_so");
    until("a driver that listens", || lives.folder.path().join("listens").exists());
    let stranger = Command::new(std::env::current_exe().unwrap())
        .args(["executor", "--driver", &format!("127.0.0.1:{}", lives.port)])
        .env("MILLSTREAM_SECRET", "a secret of another cluster")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&stranger.stderr);
    assert!(!stranger.status.success() && said.contains("secrets differ"), "{said}");
    assert!(driver.0.wait().unwrap().success(), "what it said stands above");
}
