//! Kafka on a cluster: a receiver of a group on executors that are killed, and by whom partitions are read. The executors
//! are processes of this test binary; the broker is at `MILLSTREAM_KAFKA`: `just kafka-cluster` starts one.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream::cluster::Cluster;
use millstream::core::clock::{Clock, ManualClock, monotonic, wall_time};
use millstream::core::threads::lock;
use millstream::core::{EngineListener, ExecutorInfo};
use millstream::kafka::{self, Admin, Brokers, GroupReceiver, Locations, NewRecord, Start, TopicPartition};
use millstream::{Conf, OnFailure, ReceiverInfo, StreamingContext, StreamingListener, Time, WhenFull, millis};

/// A group misses a member that says nothing for so long.
const MISSED: &str = "2000";

fn brokers() -> Brokers {
    Brokers::at(
        std::env::var("MILLSTREAM_KAFKA").expect("MILLSTREAM_KAFKA says where the broker is: `.ci/with-kafka` does"),
    )
}

fn member(group: &str, topic: &str) -> GroupReceiver {
    let brokers = brokers().set("session.timeout.ms", MISSED).set("heartbeat.interval.ms", "300");
    kafka::receiver(brokers, group, [topic]).from_begin()
}

/// Returns a name that nobody has had before.
fn fresh(name: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{name}-{}-{}-{number}", std::process::id(), wall_time().as_millis())
}

fn topic(name: &str, partitions: i32) -> String {
    let name = fresh(name);
    Admin::of(brokers()).unwrap().create_topic(&name, partitions, &[]).unwrap();
    name
}

/// Writes numbers, one partition after the other.
fn write(topic: &str, partitions: i32, numbers: std::ops::Range<u64>) {
    let record = |n: u64| NewRecord::value(n.to_string()).partition((n % partitions as u64) as i32);
    kafka::write(brokers(), topic, numbers.map(record)).unwrap();
}

/// Returns how many records a group has acknowledged.
fn acknowledged(topic: &str, group: &str) -> u64 {
    let lags = Admin::of(brokers()).unwrap().lag(topic, Some(group)).unwrap();
    lags.iter().filter_map(|lag| lag.committed).map(|at| at as u64).sum()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = monotonic();
    while !done() {
        assert!(monotonic() - begun < Duration::from_secs(120), "waited in vain for {what}");
        std::thread::park_timeout(millis(20));
    }
}

fn kill(process: u32) {
    assert!(Command::new("kill").args(["-KILL", &process.to_string()]).status().unwrap().success());
}

/// What listeners were told.
#[derive(Clone, Default)]
struct Story(Arc<Mutex<Told>>);

#[derive(Default)]
struct Told {
    processes: BTreeMap<String, u32>,
    /// The executors on which the receiver began, in their order.
    began: Vec<String>,
    full: usize,
}

impl EngineListener for Story {
    fn on_executor_added(&self, executor: &ExecutorInfo) {
        lock(&self.0).processes.insert(executor.id.to_string(), executor.process);
    }
}

impl StreamingListener for Story {
    fn on_receiver_started(&self, info: &ReceiverInfo) {
        lock(&self.0).began.push(info.executor_id.clone().expect("it runs on an executor"));
    }

    fn on_receiver_full(&self, _: &ReceiverInfo, _: WhenFull) {
        lock(&self.0).full += 1;
    }
}

impl Story {
    /// Waits until the receiver has begun so often, and returns the process in which it did last.
    fn began(&self, times: usize) -> u32 {
        until("a receiver", || lock(&self.0).began.len() >= times);
        let told = lock(&self.0);
        told.processes[&told.began[times - 1]]
    }
}

/// How often batches gave each number.
type Seen = Arc<Mutex<BTreeMap<u64, usize>>>;

/// A durable program that receives numbers for a group on one of two executors.
struct Program {
    ssc: StreamingContext,
    seen: Seen,
    story: Story,
}

impl Program {
    fn start(
        folder: &Path,
        interval: u64,
        receiver: &GroupReceiver,
        clock: Option<&ManualClock>,
        items: Option<u64>,
    ) -> Program {
        let mut conf = Conf::new("local-cluster[2,1]", "received").unwrap();
        conf.streaming.exclusive = false;
        conf.streaming.block_interval = millis(50);
        conf.streaming.receiver_restart_delay = millis(50);
        conf.streaming.receiver_waiting_items = items;
        // A batch whose tasks were on an executor that is killed is tried again by itself; none may fail.
        conf.streaming.on_failure = OnFailure::Stop;
        let builder = StreamingContext::builder(conf, millis(interval));
        let builder = match clock {
            Some(clock) => builder.with_clock(Arc::new(clock.clone()) as Arc<dyn Clock>),
            None => builder,
        };
        let (seen, story) = (Seen::default(), Story::default());
        let noted = Arc::clone(&seen);
        let setup = |ssc: &StreamingContext| {
            let noted = Arc::clone(&noted);
            let records = ssc.receiver_stream(receiver.clone()).uid("received");
            records.flat_map(|record| record.text()?.parse::<u64>().ok()).foreach_rdd(move |rdd, _| {
                rdd.collect()?.into_iter().for_each(|n| *lock(&noted).entry(n).or_default() += 1);
                Ok(())
            });
            Ok(())
        };
        let ssc = builder.get_or_create(folder, setup).unwrap();
        ssc.context().add_listener(story.clone());
        ssc.add_streaming_listener(story.clone());
        ssc.start().unwrap();
        Program { ssc, seen, story }
    }

    fn has_seen(&self, numbers: u64) -> bool {
        lock(&self.seen).len() as u64 >= numbers
    }
}

#[test]
fn x2_a_group_commits_no_record_that_an_executor_has_received_and_the_driver_has_not_logged() {
    let (a, group, folder) = (topic("logged", 1), fresh("logged"), tempfile::tempdir().unwrap());
    let clock = ManualClock::new(Time::ZERO);
    let receiver = member(&group, &a);
    // No batch runs before the clock says so, and there is room for one block, and not for two.
    let program = Program::start(&folder.path().join("checkpoint"), 1000, &receiver, Some(&clock), Some(150));
    let first = program.story.began(1);
    write(&a, 1, 0..100);
    until("the first block", || acknowledged(&a, &group) == 100);
    write(&a, 1, 100..200);
    until("a block that waits for room", || lock(&program.story.0).full > 0);
    assert_eq!(acknowledged(&a, &group), 100, "what waits for room is received, and is in no log");
    kill(first);
    assert_ne!(program.story.began(2), first, "it moves");
    // The next one goes on behind what was acknowledged, and finds as little room.
    until("another that waits for room", || lock(&program.story.0).full > 1);
    assert_eq!(acknowledged(&a, &group), 100);
    clock.advance_to(Time::from_millis(1000));
    assert!(program.ssc.await_batch(Time::from_millis(1000)));
    until("the second block", || acknowledged(&a, &group) == 200);
    clock.advance_to(Time::from_millis(2000));
    assert!(program.ssc.await_batch(Time::from_millis(2000)));
    program.ssc.stop().unwrap();
    let want: BTreeMap<u64, usize> = (0..200).map(|n| (n, 1)).collect();
    assert_eq!(*lock(&program.seen), want);
}

#[test]
fn x2_with_a_log_nothing_is_lost_although_executors_are_killed_while_they_receive_for_a_group() {
    let (a, group, folder) = (topic("killed", 2), fresh("killed"), tempfile::tempdir().unwrap());
    let receiver = member(&group, &a);
    let program = Program::start(&folder.path().join("checkpoint"), 200, &receiver, None, None);
    let mut written = 0;
    let mut writes = |numbers: u64| {
        write(&a, 2, written..written + numbers);
        written += numbers;
        written
    };
    for life in 1..=3 {
        let process = program.story.began(life);
        let before = acknowledged(&a, &group);
        until("some records", || {
            writes(20);
            acknowledged(&a, &group) >= before + 200
        });
        if life < 3 {
            // In the middle of receiving.
            kill(process);
            writes(50);
        }
    }
    let all = writes(1);
    until("all of it", || program.has_seen(all));
    until("the last acknowledgement", || acknowledged(&a, &group) == all);
    program.ssc.stop_gracefully().unwrap();
    let seen = lock(&program.seen);
    assert!((0..all).all(|n| seen.contains_key(&n)), "nothing is lost");
    let twice = seen.values().filter(|times| **times > 1).count();
    assert!(twice as u64 <= all / 2, "what was not acknowledged comes again, and not everything: {twice} of {all}");
    let told = lock(&program.story.0);
    assert!(told.began.windows(2).all(|two| two[0] != two[1]), "it moves each time: {:?}", told.began);
}

/// Set where the last test is to be its program, with the topic, the driver's port, and where to write what it found.
const PROGRAM: &str = "MILLSTREAM_READ_BY";

/// A process that is killed when the test ends.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program that reads a topic four times in each of two batches, and writes down which process had which partition.
fn who_reads(told: &str) {
    let told: Vec<&str> = told.split(' ').collect();
    let &[topic, port, found] = told.as_slice() else { panic!("three words: {told:?}") };
    let conf = Conf::new(&format!("cluster://127.0.0.1:{port}"), "places").unwrap();
    let cluster = Arc::new(Cluster::start(&conf.engine).unwrap());
    cluster.await_executors(3, Duration::from_secs(120)).unwrap();
    let clock = ManualClock::new(Time::ZERO);
    let builder = StreamingContext::builder(conf, millis(1000)).with_backend(cluster as _);
    let ssc = builder.with_clock(Arc::new(clock.clone()) as Arc<dyn Clock>).build().unwrap();
    let fixed = |hosts: [u8; 3]| {
        let host = |(p, last): (i32, u8)| (TopicPartition::new(topic, p), format!("127.0.0.{last}"));
        Locations::Fixed((0..).zip(hosts).map(host).collect())
    };
    let lines = Arc::<Mutex<String>>::default();
    for (name, locations) in [
        ("fixed", fixed([2, 3, 2])),
        ("the-other-way", fixed([3, 2, 3])),
        ("brokers", Locations::Brokers),
        ("consistent", Locations::Consistent),
    ] {
        let source = kafka::direct(brokers()).subscribe([topic]).start(Start::Earliest).locations(locations);
        let noted = Arc::clone(&lines);
        ssc.input(source).map(|record| (record.partition(), std::process::id())).foreach_rdd(move |rdd, _| {
            for (partition, process) in rdd.collect()? {
                *lock(&noted) += &format!("{name} {partition} {process}\n");
            }
            Ok(())
        });
    }
    ssc.start().unwrap();
    for batch in 1..=2 {
        write(topic, 3, 0..30);
        clock.advance_to(Time::from_millis(batch * 1000));
        assert!(ssc.await_batch(Time::from_millis(batch * 1000)));
    }
    ssc.stop().unwrap();
    std::fs::write(found, &*lock(&lines)).unwrap();
}

#[test]
fn r62_partitions_are_read_on_the_hosts_that_are_named_or_have_the_broker_or_spread() {
    if let Ok(told) = std::env::var(PROGRAM) {
        return who_reads(&told);
    }
    let (a, folder) = (topic("places", 3), tempfile::tempdir().unwrap());
    let found = folder.path().join("found");
    // Below those that the system gives to outgoing connections: executors that look for their driver would find themselves.
    let from = std::process::id().wrapping_mul(97) % 20_000;
    let mut ports = (0..20_000).map(|at| (12_000 + (from + at) % 20_000) as u16);
    let port = ports.find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap();
    let begin = |arguments: &[&str]| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(arguments).env("MILLSTREAM_SECRET", "a secret that only tests know");
        command.env(PROGRAM, format!("{a} {port} {}", found.display()));
        Process(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    };
    // Each is reached at an address of its own, as if it were on another host. The broker is at the first.
    let executors = [1, 2, 3].map(|last| {
        let (driver, listen) = (format!("127.0.0.1:{port}"), format!("127.0.0.{last}:0"));
        begin(&["executor", "--driver", &driver, "--slots", "4", "--listen", &listen])
    });
    let this = "r62_partitions_are_read_on_the_hosts_that_are_named_or_have_the_broker_or_spread";
    assert!(begin(&[this, "--exact", "--nocapture"]).0.wait().unwrap().success(), "what it said stands above");
    let host_of = |process: u32| executors.iter().position(|executor| executor.0.id() == process).unwrap() + 1;
    let mut places: BTreeMap<(&str, i32), BTreeSet<usize>> = BTreeMap::new();
    let text = std::fs::read_to_string(&found).unwrap();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let at = (words[0], words[1].parse().unwrap());
        places.entry(at).or_default().insert(host_of(words[2].parse().unwrap()));
    }
    assert_eq!(text.lines().count(), 4 * 60, "each record once for each of the four");
    let of = |name: &str| (0..3).map(|p| places[&(name, p)].iter().copied().collect()).collect::<Vec<Vec<usize>>>();
    assert_eq!(of("fixed"), [[2], [3], [2]]);
    assert_eq!(of("the-other-way"), [[3], [2], [3]]);
    assert_eq!(of("brokers"), [[1], [1], [1]]);
    let spread: BTreeSet<Vec<usize>> = of("consistent").into_iter().collect();
    assert_eq!(spread, [vec![1], vec![2], vec![3]].into(), "one each, and the same in both batches");
}
