//! Receivers that run on executors, which are threads here: they begin, keep, move and end as a cluster would have them (R-41 to
//!

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver as Channel, Sender, channel};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use common::{Notes, at, beside, ends, within};
use millstream_core::backend::{Backend, JobEnds, JobHandle, LocalThreads};
use millstream_core::clock::{Clock, ManualClock, Wake};
use millstream_core::plan::JobPlan;
use millstream_core::plan::resident::{ResidentHost, ResidentLine, Residents, resident_arrives};
use millstream_core::storage::{Block, BlockId};
use millstream_core::threads::{self, lock};
use millstream_core::{Env, Error, ErrorKind, ExecutorInfo, Result, StorageLevel, Time, capture, millis, secs};
use millstream_streaming::{
    BatchInfo, Conf, Position, Receiver, ReceiverInfo, Store, StreamingContext, StreamingListener, Travelling, WhenFull,
};
use millstream_testkit::SimDisk;
use serde::{Deserialize, Serialize};

/// Executors that are rooms of this process.
#[derive(Default)]
struct Hall {
    executors: Mutex<Vec<ExecutorInfo>>,
    by: Mutex<BTreeMap<u64, Arc<Line>>>,
    watching: Mutex<Vec<Weak<dyn Wake>>>,
    next: AtomicU64,
    /// What has been told, with whom.
    told: Mutex<Vec<usize>>,
}

/// One resident and its line.
struct Line {
    number: u64,
    executor: Arc<str>,
    say: Mutex<Sender<Bytes>>,
    said: Mutex<Channel<Bytes>>,
    cut: AtomicBool,
    host: Arc<dyn ResidentHost>,
    env: Arc<Env>,
    /// Whether each has a copy elsewhere.
    kept: Mutex<Vec<(BlockId, bool)>>,
}

impl ResidentLine for Line {
    fn heard(&self, patience: Duration) -> Option<Bytes> {
        lock(&self.said).recv_timeout(patience).ok()
    }

    fn ask(&self, message: Bytes) -> Result<Bytes> {
        if self.cut.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "the line is cut"));
        }
        self.host.asked(self.number, message)
    }

    fn keep(&self, id: BlockId, block: Block, level: StorageLevel) -> Result<()> {
        lock(&self.kept).push((id, level.replication() > 1));
        self.env.blocks.put(id, block, level)
    }

    fn memory(&self) -> u64 {
        1 << 30
    }
}

impl Hall {
    fn join(&self, id: &str) {
        let info = ExecutorInfo { id: id.into(), host: format!("host of {id}").into(), process: 1, slots: 1 };
        lock(&self.executors).push(info);
        self.wake();
    }

    fn wake(&self) {
        let awake: Vec<_> = lock(&self.watching).iter().filter_map(Weak::upgrade).collect();
        awake.iter().for_each(|waker| waker.wake());
    }

    fn on(&self, executor: &str) -> Vec<Arc<Line>> {
        lock(&self.by).values().filter(|line| *line.executor == *executor).cloned().collect()
    }

    /// Loses an executor with all it has. If it is only thought to be lost, its receivers go on and say so.
    fn lose(&self, executor: &str, is_dead: bool) {
        lock(&self.executors).retain(|info| *info.id != *executor);
        for line in self.on(executor) {
            line.cut.store(is_dead, Ordering::SeqCst);
            lock(&self.by).remove(&line.number);
            for (id, _) in lock(&line.kept).iter().filter(|(_, is_copied)| !is_copied) {
                line.env.blocks.remove(*id).unwrap();
            }
            line.host.over(line.number, Err(Error::new(ErrorKind::Unavailable, "its executor is lost: a test")));
        }
        self.wake();
    }

    /// Has an executor leave.
    fn leave(&self, executor: &str) {
        lock(&self.executors).retain(|info| *info.id != *executor);
        self.on(executor).iter().for_each(|line| line.host.leaves(line.number));
    }
}

impl Residents for Hall {
    fn executors(&self) -> Vec<ExecutorInfo> {
        lock(&self.executors).clone()
    }

    fn watch(&self, waker: Weak<dyn Wake>) {
        lock(&self.watching).push(waker);
    }

    fn begin(&self, env: &Arc<Env>, executor: &str, plan: Bytes, host: Arc<dyn ResidentHost>) -> Result<u64> {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        let (say, said) = channel();
        let line = Arc::new(Line {
            number,
            executor: executor.into(),
            say: Mutex::new(say),
            said: Mutex::new(said),
            cut: AtomicBool::new(false),
            host: Arc::clone(&host),
            env: Arc::clone(env),
            kept: Mutex::default(),
        });
        lock(&self.by).insert(number, Arc::clone(&line));
        let run = move || {
            resident_arrives(&plan).unwrap().run(Arc::clone(&line) as _);
            if !line.cut.load(Ordering::SeqCst) {
                host.over(number, Ok(()));
            }
        };
        threads::spawn("resident", run)?.detach();
        Ok(number)
    }

    fn tell(&self, resident: u64, message: Bytes) {
        lock(&self.told).push(message.len());
        if let Some(line) = lock(&self.by).get(&resident) {
            let _ = lock(&line.say).send(message);
        }
    }

    fn let_go(&self, resident: u64) {
        lock(&self.by).remove(&resident);
    }

    fn keeps(&self, resident: u64, id: BlockId) -> bool {
        lock(&self.by).get(&resident).is_some_and(|line| line.env.blocks.contains(id))
    }
}

/// A backend of threads with a hall beside it.
#[derive(Clone)]
struct Beside {
    threads: Arc<LocalThreads>,
    hall: Arc<Hall>,
}

impl std::fmt::Debug for Beside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Beside")
    }
}

impl Backend for Beside {
    fn slots(&self) -> usize {
        self.threads.slots()
    }

    fn closures_travel(&self) -> bool {
        true
    }

    fn run(&self, job: JobPlan, env: &Arc<Env>, ends: JobEnds) -> JobHandle {
        self.threads.run(job, env, ends)
    }

    fn residents(&self) -> Option<Arc<dyn Residents>> {
        Some(Arc::clone(&self.hall) as _)
    }
}

type Step = Box<dyn FnOnce(&mut dyn Store<i64>) -> Result<()> + Send>;

/// Where receivers find their test, wherever they are made: by its number.
static TESTS: Mutex<BTreeMap<u64, Arc<Test>>> = Mutex::new(BTreeMap::new());

/// What a test tells a receiver, and what it hears of it.
struct Test {
    /// How often an executor has died, and what is to be done: not by who was there before the last death.
    steps: Mutex<(u64, VecDeque<Step>)>,
    began: Mutex<Sender<Option<u64>>>,
    done: Mutex<Sender<Result<()>>>,
}

/// Does what its test tells it, a step at a time; an error ends a run, as does a stop.
#[derive(Serialize, Deserialize)]
struct Told {
    test: u64,
    copies: bool,
}

impl Receiver for Told {
    type Item = i64;

    fn receive(&mut self, store: &mut dyn Store<i64>) -> Result<()> {
        let test = Arc::clone(&lock(&TESTS)[&self.test]);
        let life = lock(&test.steps).0;
        let _ = lock(&test.began).send(store.position().and_then(|position| position.as_u64()));
        while !store.is_stopped() {
            let step = {
                let mut steps = lock(&test.steps);
                if steps.0 != life {
                    return Ok(());
                }
                steps.1.pop_front()
            };
            let Some(step) = step else {
                std::thread::park_timeout(millis(1));
                continue;
            };
            let outcome = step(store);
            let _ = lock(&test.done).send(outcome.clone());
            outcome?;
        }
        Ok(())
    }

    fn travels(&self) -> Option<Travelling> {
        Some(Travelling::of(self))
    }

    fn storage_level(&self) -> StorageLevel {
        if self.copies { StorageLevel::MEMORY_AND_DISK_2 } else { StorageLevel::MEMORY_AND_DISK }
    }
}

/// A program with one receiver, and the test's end of it.
struct World {
    hall: Arc<Hall>,
    clock: ManualClock,
    ssc: StreamingContext,
    test: Arc<Test>,
    began: Channel<Option<u64>>,
    done: Channel<Result<()>>,
    seen: Notes<(i64, Vec<i64>)>,
    story: Notes<String>,
}

struct Story(Notes<String>, Notes<BatchInfo>);

fn of(info: &ReceiverInfo) -> String {
    format!("on {} ({})", info.executor_id.as_deref().unwrap_or("none"), info.location)
}

impl StreamingListener for Story {
    fn on_receiver_started(&self, info: &ReceiverInfo) {
        self.0.add(format!("started {}", of(info)));
    }
    fn on_receiver_stopped(&self, _: &ReceiverInfo) {
        self.0.add("stopped".to_owned());
    }
    fn on_receiver_error(&self, info: &ReceiverInfo) {
        self.0.add(format!("failed: {}", info.last_error.as_ref().unwrap().message()));
    }
    fn on_receiver_full(&self, _: &ReceiverInfo, when_full: WhenFull) {
        self.0.add(format!("full: {when_full:?}"));
    }
    fn on_batch_completed(&self, batch: &BatchInfo) {
        self.1.add(batch.clone());
    }
}

const FOLDER: &str = "/checkpoint";

impl World {
    fn new(executors: &[&str], durable: bool, copies: bool, change: impl Fn(&mut Conf)) -> World {
        let hall = Arc::new(Hall::default());
        executors.iter().for_each(|id| hall.join(id));
        let mut conf = Conf::new("local[2]", "elsewhere").unwrap();
        conf.streaming.exclusive = false;
        conf.streaming.block_interval = millis(20);
        conf.streaming.receiver_restart_delay = millis(1);
        change(&mut conf);
        let (clock, is_slow) = (ManualClock::new(Time::ZERO), conf.streaming.backpressure);
        let threads = Arc::new(LocalThreads::new(2, 1).unwrap());
        let builder = StreamingContext::builder(conf, secs(1))
            .with_backend(Arc::new(Beside { threads, hall: Arc::clone(&hall) }))
            .with_clock(Arc::new(clock.clone()) as Arc<dyn Clock>)
            .with_disk(Arc::new(SimDisk::new(1)) as _);
        let ((began, begins), (done, doing)) = (channel(), channel());
        let test = Arc::new(Test { steps: Mutex::default(), began: Mutex::new(began), done: Mutex::new(done) });
        let number = {
            let mut tests = lock(&TESTS);
            let number = tests.len() as u64;
            tests.insert(number, Arc::clone(&test));
            number
        };
        let (seen, story, batches) = (Notes::default(), Notes::default(), Notes::default());
        let noted: Notes<(i64, Vec<i64>)> = seen.clone();
        // Where rates are estimated, a batch takes its time.
        let takes = is_slow.then(|| clock.clone());
        let setup = move |ssc: &StreamingContext| {
            let stream = ssc.receiver_stream(Told { test: number, copies }).uid("told");
            stream.foreach_rdd(move |rdd, time| {
                if let Some(clock) = &takes {
                    clock.advance(millis(10));
                }
                noted.add((time.as_millis() / 1000, rdd.collect()?));
                Ok(())
            });
            Ok(())
        };
        let ssc = match durable {
            true => builder.get_or_create(FOLDER, setup).unwrap(),
            false => {
                let ssc = builder.build().unwrap();
                setup(&ssc).unwrap();
                ssc
            }
        };
        ssc.add_streaming_listener(Story(story.clone(), batches));
        ssc.start().unwrap();
        World { hall, clock, ssc, test, began: begins, done: doing, seen, story }
    }

    /// Waits until the receiver runs somewhere, and returns where it goes on.
    fn begins(&self) -> Option<u64> {
        within("the begin of a receiver", &self.began)
    }

    fn begin(&self, step: impl FnOnce(&mut dyn Store<i64>) -> Result<()> + Send + 'static) {
        lock(&self.test.steps).1.push_back(Box::new(step));
    }

    fn lose(&self, executor: &str, is_dead: bool) {
        // First of all: what is dead is not to begin its next life there.
        self.hall.on(executor).iter().filter(|_| is_dead).for_each(|line| line.cut.store(true, Ordering::SeqCst));
        lock(&self.test.steps).0 += u64::from(is_dead);
        self.hall.lose(executor, is_dead);
    }

    fn tell(&self, step: impl FnOnce(&mut dyn Store<i64>) -> Result<()> + Send + 'static) {
        self.begin(step);
        within("a receiver", &self.done).unwrap();
    }

    /// Has a block stored, and returns when it has been acknowledged.
    fn block(&self, items: &[i64]) {
        let (items, (told, hears)) = (items.to_vec(), channel());
        self.tell(move |store| {
            let position = Position::from(items.last().map_or(0, |last| *last as u64));
            store.store_block_at(items, position, Box::new(move || told.send(()).unwrap()))
        });
        within("an acknowledgement", &hears);
    }

    fn batch(&self, second: i64) -> Vec<i64> {
        self.clock.advance_to(at(second));
        assert!(self.ssc.await_batch(at(second)));
        self.seen.all().into_iter().filter(|(time, _)| *time == second).flat_map(|(_, items)| items).collect()
    }

    fn stop(self) -> Vec<i64> {
        let (ssc, seen) = (self.ssc.clone(), self.seen.clone());
        ends("a graceful stop", move || ssc.stop_gracefully()).unwrap();
        seen.all().into_iter().flat_map(|(_, items)| items).collect()
    }

    fn story(&self) -> Vec<String> {
        self.ssc.flush_listeners();
        self.story.all()
    }
}

#[test]
fn r41_r44_a_receiver_runs_on_an_executor_and_its_blocks_are_given_to_batches_by_the_driver() {
    let world = World::new(&["a"], false, false, |_| {});
    assert_eq!(world.begins(), None);
    world.block(&[1, 2]);
    world.block(&[3]);
    assert_eq!(world.batch(1), [1, 2, 3]);
    assert_eq!(world.batch(2), [0; 0]);
    assert_eq!(world.story(), ["started on a (host of a)"]);
    world.tell(|store| store.store_many(vec![4, 5]));
    assert_eq!(world.stop(), [1, 2, 3, 4, 5], "what gathers in a buffer there comes in with a graceful stop");
}

#[test]
fn r46_a_receiver_that_ends_begins_again_on_its_executor_and_errors_are_told() {
    let world = World::new(&["a", "b"], false, false, |_| {});
    world.begins();
    world.begin(|store| {
        store.report_error("nothing bad".into());
        store.store_block(vec![1], Box::new(|| {}))?;
        Err("the source went away".into())
    });
    assert!(within("the step", &world.done).is_err());
    world.begins();
    world.block(&[2]);
    let told = world.story();
    let want = ["started on a (host of a)", "failed: nothing bad", "failed: the source went away", "stopped"];
    assert_eq!(told[..4], want);
    assert_eq!(told[4], "started on a (host of a)");
    assert_eq!(world.stop(), [1, 2]);
}

#[test]
fn a_receiver_waits_for_an_executor() {
    let world = World::new(&[], false, false, |_| {});
    assert_eq!(world.batch(1), [0; 0], "batches do not");
    world.hall.join("a");
    world.begins();
    world.block(&[1]);
    assert_eq!(world.batch(2), [1]);
    assert_eq!(world.stop(), [1]);

    // One that has none stops all the same.
    assert_eq!(World::new(&[], false, false, |_| {}).stop(), [0; 0]);
}

#[test]
fn with_a_log_nothing_is_lost_with_an_executor_and_the_source_goes_on_where_it_was() {
    let world = World::new(&["a", "b", "c"], true, true, |_| {});
    assert_eq!(world.begins(), None);
    world.block(&[1, 2]);
    world.lose("a", true);
    assert_eq!(world.begins(), Some(2), "it goes on behind what was kept");
    world.block(&[3]);
    assert_eq!(world.batch(1), [1, 2, 3], "what the lost one had is read from the log");
    world.block(&[4]);
    world.lose("b", true);
    assert_eq!(world.begins(), Some(4));
    world.block(&[5]);
    assert_eq!(world.batch(2), [4, 5]);
    let moves: Vec<_> = world.story().into_iter().filter(|line| line.starts_with("started")).collect();
    assert_eq!(moves, ["started on a (host of a)", "started on b (host of b)", "started on c (host of c)"]);
    assert_eq!(world.stop(), [1, 2, 3, 4, 5]);
}

#[test]
fn r48_without_a_log_only_what_had_no_copy_is_lost_and_it_is_counted() {
    for copies in [false, true] {
        let world = World::new(&["a", "b"], false, copies, |_| {});
        world.begins();
        world.block(&[1, 2, 3]);
        world.lose("a", true);
        world.begins();
        world.block(&[4]);
        assert_eq!(world.batch(1), if copies { vec![1, 2, 3, 4] } else { vec![4] });
        let told = world
            .story()
            .into_iter()
            .any(|line| line.contains("1 blocks with 3 records that Told-0 received were lost"));
        assert_eq!(told, !copies, "{:?}", world.story());
        assert!(world.ssc.errors().is_empty(), "the program goes on");
        world.stop();
    }
}

#[test]
fn one_that_was_thought_to_be_lost_and_goes_on_can_store_nothing_more() {
    let world = World::new(&["a", "b"], true, false, |_| {});
    world.begins();
    let (hold, held) = channel::<()>();
    let (refused, hears) = channel();
    let (stand, stands) = channel();
    // It stands still in the middle, and wakes when another one has its place.
    world.begin(move |store| {
        let _ = stand.send(());
        let _ = held.recv();
        let stored = store.store_block_at(vec![99], Position::from(99), Box::new(|| panic!("it is acknowledged")));
        let _ = refused.send(stored.clone());
        stored
    });
    within("the zombie's begin", &stands);
    world.lose("a", false);
    assert_eq!(world.begins(), None);
    world.block(&[1]);
    hold.send(()).unwrap();
    let error = within("the zombie", &hears).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Stopped);
    assert!(error.to_string().contains("runs elsewhere"), "{error}");
    within("the zombie's step", &world.done).unwrap_err();
    world.block(&[2]);
    assert_eq!(world.batch(1), [1, 2]);
    world.stop();
}

#[test]
fn a_receiver_whose_executor_leaves_ends_there_and_begins_elsewhere() {
    let world = World::new(&["a", "b"], false, false, |_| {});
    world.begins();
    world.tell(|store| store.store_many(vec![1, 2]));
    world.hall.leave("a");
    world.begins();
    world.block(&[3]);
    assert_eq!(world.batch(1), [1, 2, 3], "what had gathered there was kept before it ended");
    let told = world.story();
    assert_eq!(told, ["started on a (host of a)", "stopped", "started on b (host of b)"], "and nothing failed");
    world.stop();
}

#[test]
fn what_waits_for_its_batch_takes_room_there_and_makes_room_when_it_begins() {
    let world = World::new(&["a", "b"], true, false, |conf| conf.streaming.receiver_waiting_items = Some(4));
    world.begins();
    world.block(&[1, 2, 3]);
    world.begin(|store| store.store_block_at(vec![4, 5], Position::from(5), Box::new(|| {})));
    while !world.story().iter().any(|line| line == "full: Block") {
        std::thread::park_timeout(millis(1));
    }
    assert_eq!(world.batch(1), [1, 2, 3]);
    within("the block that waited", &world.done).unwrap();
    // Who comes after it knows what waits.
    world.lose("a", true);
    assert_eq!(world.begins(), Some(5));
    world.begin(|store| store.store_block_at(vec![6, 7, 8], Position::from(8), Box::new(|| {})));
    while world.story().iter().filter(|line| *line == "full: Block").count() < 2 {
        std::thread::park_timeout(millis(1));
    }
    assert_eq!(world.batch(2), [4, 5]);
    within("the block that waited", &world.done).unwrap();
    assert_eq!(world.batch(3), [6, 7, 8]);
    world.stop();
}

#[test]
fn rc21_a_rate_reaches_a_receiver_there_also_one_that_begins_later() {
    let change = |conf: &mut Conf| {
        conf.streaming.receiver_max_rate = Some(1_000_000);
        conf.streaming.backpressure = true;
    };
    let world = World::new(&["a", "b"], false, true, change);
    world.begins();
    for second in 1..=3 {
        world.block(&[second, second]);
        world.batch(second);
    }
    // Two records a batch: the estimate is far below the limit, and stop and room are no rates.
    let told = lock(&world.hall.told).clone();
    assert!(told.contains(&9), "a rate is a word of nine bytes: {told:?}");
    world.stop();
}

#[test]
fn what_a_socket_stream_captures_silently_is_refused_with_its_line_and_what_is_named_travels() {
    let hall = Arc::new(Hall::default());
    hall.join("a");
    let begin = |hall: &Arc<Hall>| {
        let mut conf = Conf::new("local[2]", "elsewhere").unwrap();
        conf.streaming.exclusive = false;
        conf.streaming.block_interval = millis(10);
        let threads = Arc::new(LocalThreads::new(2, 1).unwrap());
        let builder = StreamingContext::builder(conf, millis(50));
        builder.with_backend(Arc::new(Beside { threads, hall: Arc::clone(hall) })).build().unwrap()
    };
    let read = |stream: std::net::TcpStream| {
        use std::io::Read as _;
        std::io::BufReader::new(stream).bytes().map_while(std::result::Result::ok).map(i64::from)
    };
    let ssc = begin(&hall);
    let more = std::hint::black_box(100);
    let line = line!() + 1;
    ssc.socket_stream("localhost", 1, move |stream| read(stream).map(move |n| n + more)).print();
    let error = ssc.start().unwrap_err().to_string();
    assert!(error.contains("captures variables") && error.contains(&format!("elsewhere.rs:{line}")), "{error}");

    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let (thread, _) = beside(move || {
        use std::io::Write as _;
        let (mut stream, _) = server.accept().unwrap();
        stream.write_all(&[1, 2, 3]).unwrap();
        // Until the other side closes.
        let _ = std::io::Read::read(&mut stream, &mut [0]);
    });
    let ssc = begin(&hall);
    let seen: Notes<Vec<i64>> = Notes::default();
    let noted = seen.clone();
    let convert = capture(100i64, |more: &i64, stream: std::net::TcpStream| {
        use std::io::Read as _;
        let more = *more;
        std::io::BufReader::new(stream).bytes().map_while(std::result::Result::ok).map(move |n| i64::from(n) + more)
    });
    ssc.socket_stream("127.0.0.1", port, convert).foreach_rdd(move |rdd, _| {
        noted.add(rdd.collect()?);
        Ok(())
    });
    ssc.start().unwrap();
    let all = || seen.all().concat();
    while all().len() < 3 {
        std::thread::park_timeout(millis(1));
    }
    let stopping = ssc.clone();
    ends("the stop", move || stopping.stop_gracefully()).unwrap();
    thread.join();
    assert_eq!(all(), [101, 102, 103]);
}
