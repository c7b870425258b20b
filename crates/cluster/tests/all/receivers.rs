//! Receivers on executors, which are processes: where they run, that they cost no slot, and what becomes of what they received when
//! those are killed or leave. How a desk and its receiver speak is tested in `crates/streaming/tests/elsewhere.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use millstream_cluster::Cluster;
use millstream_core::threads::{self, lock};
use millstream_core::{Result, StorageLevel, Time, capture, millis, secs};
use millstream_streaming::{
    Conf, OnFailure, Position, Receiver, ReceiverInfo, Store, StreamingContext, StreamingListener, Travelling,
};
use serde::{Deserialize, Serialize};

use super::lives::{signal, until};

/// How many numbers a block has.
const EACH: u64 = 10;

/// Receives blocks of numbers from a [`Source`], and stores with each number the process that received it.
#[derive(Serialize, Deserialize)]
struct Blocks {
    source: SocketAddr,
    /// Whether the source is told where to go on by what is kept, and not by what it has heard.
    has_position: bool,
    copies: bool,
}

impl Receiver for Blocks {
    type Item = (u32, u64);

    fn receive(&mut self, store: &mut dyn Store<(u32, u64)>) -> Result<()> {
        let mut stream = TcpStream::connect(self.source)?;
        let other = stream.try_clone()?;
        store.on_stop(Box::new(move || drop(other.shutdown(std::net::Shutdown::Both))));
        let process = std::process::id();
        let from = match self.has_position {
            true => store.position().and_then(|position| position.as_u64()).unwrap_or(0),
            false => u64::MAX,
        };
        stream.write_all(&from.to_be_bytes())?;
        stream.write_all(&process.to_be_bytes())?;
        loop {
            let mut block = [0; 8];
            stream.read_exact(&mut block)?;
            let block = u64::from_be_bytes(block);
            let numbers = (block * EACH..(block + 1) * EACH).map(|n| (process, n)).collect();
            let mut acknowledge = stream.try_clone()?;
            let stored = Box::new(move || drop(acknowledge.write_all(&[1])));
            match self.has_position {
                true => store.store_block_at(numbers, Position::from(block + 1), stored)?,
                false => store.store_block(numbers, stored)?,
            }
        }
    }

    fn travels(&self) -> Option<Travelling> {
        Some(Travelling::of(self))
    }

    fn storage_level(&self) -> StorageLevel {
        if self.copies { StorageLevel::MEMORY_AND_DISK_2 } else { StorageLevel::MEMORY_AND_DISK }
    }
}

/// Sends blocks, the next when one is acknowledged, and again what was not; not more than it may.
struct Source {
    address: SocketAddr,
    state: Arc<(Mutex<Sending>, Condvar)>,
}

#[derive(Default)]
struct Sending {
    may: u64,
    acknowledged: u64,
    /// The processes that have come, in their order.
    processes: Vec<u32>,
}

impl Source {
    fn open() -> Source {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state: Arc<(Mutex<Sending>, Condvar)> = Arc::default();
        let sending = Arc::clone(&state);
        let accepting = threads::spawn("source", move || {
            for stream in listener.incoming().map_while(std::result::Result::ok) {
                let state = Arc::clone(&sending);
                threads::spawn("sends", move || drop(send(stream, &state))).unwrap().detach();
            }
        });
        accepting.unwrap().detach();
        Source { address, state }
    }

    /// Lets so many blocks go in all, and waits until they have been acknowledged.
    fn sends(&self, blocks: u64) {
        lock(&self.state.0).may = blocks;
        self.state.1.notify_all();
        until(&format!("{blocks} blocks"), || lock(&self.state.0).acknowledged >= blocks);
    }

    /// Lets so many go, and does not wait.
    fn may_send(&self, blocks: u64) {
        lock(&self.state.0).may = blocks;
        self.state.1.notify_all();
    }

    fn acknowledged(&self) -> u64 {
        lock(&self.state.0).acknowledged
    }

    fn processes(&self) -> Vec<u32> {
        lock(&self.state.0).processes.clone()
    }

    /// Waits until the receiver has come so often, and returns its process.
    fn came(&self, times: usize) -> u32 {
        until("a receiver", || self.processes().len() >= times);
        self.processes()[times - 1]
    }
}

fn send(mut stream: TcpStream, (state, changed): &(Mutex<Sending>, Condvar)) -> std::io::Result<()> {
    let (mut from, mut process) = ([0; 8], [0; 4]);
    stream.read_exact(&mut from)?;
    stream.read_exact(&mut process)?;
    let mut next = {
        let mut state = lock(state);
        state.processes.push(u32::from_be_bytes(process));
        match u64::from_be_bytes(from) {
            u64::MAX => state.acknowledged,
            position => position,
        }
    };
    loop {
        let mut sending = lock(state);
        while next >= sending.may {
            sending = changed.wait(sending).unwrap_or_else(PoisonError::into_inner);
        }
        drop(sending);
        stream.write_all(&next.to_be_bytes())?;
        stream.read_exact(&mut [0])?;
        next += 1;
        let mut state = lock(state);
        state.acknowledged = state.acknowledged.max(next);
    }
}

/// What a program has given: each number with the processes that received it.
type Seen = Arc<Mutex<BTreeMap<u64, Vec<u32>>>>;

/// What listeners were told of receivers.
#[derive(Clone, Default)]
struct Story(Arc<Mutex<Vec<String>>>);

impl StreamingListener for Story {
    fn on_receiver_started(&self, info: &ReceiverInfo) {
        lock(&self.0).push(format!("started on {}", info.executor_id.clone().unwrap_or_default()));
    }
    fn on_receiver_error(&self, info: &ReceiverInfo) {
        lock(&self.0).push(info.last_error.as_ref().unwrap().message().to_owned());
    }
}

struct Program {
    cluster: Arc<Cluster>,
    ssc: StreamingContext,
    seen: Seen,
    story: Story,
}

fn program(folder: Option<&Path>, change: impl FnOnce(&mut Conf), setup: impl Fn(&StreamingContext, &Seen)) -> Program {
    let mut conf = Conf::new("local-cluster[2,1]", "receivers").unwrap();
    conf.streaming.exclusive = false;
    conf.streaming.block_interval = millis(50);
    conf.streaming.receiver_restart_delay = millis(50);
    conf.streaming.on_failure = OnFailure::Continue;
    // A graceful stop waits for ten batches otherwise: two seconds, in which a busy machine may not run all that was received.
    conf.streaming.graceful_stop_timeout = Some(secs(120));
    change(&mut conf);
    let cluster = Arc::new(Cluster::start(&conf.engine).unwrap());
    let builder = StreamingContext::builder(conf, millis(200)).with_backend(Arc::clone(&cluster) as _);
    let (seen, story) = (Seen::default(), Story::default());
    let ssc = match folder {
        Some(folder) => {
            let seen = Arc::clone(&seen);
            let both = |ssc: &StreamingContext| {
                setup(ssc, &seen);
                Ok(())
            };
            builder.get_or_create(folder, both).unwrap()
        }
        None => {
            let ssc = builder.build().unwrap();
            setup(&ssc, &seen);
            ssc
        }
    };
    ssc.add_streaming_listener(story.clone());
    ssc.start().unwrap();
    Program { cluster, ssc, seen, story }
}

fn received(ssc: &StreamingContext, receiver: Blocks, seen: &Seen) {
    let seen = Arc::clone(seen);
    ssc.receiver_stream(receiver).uid("blocks").foreach_rdd(move |rdd, _| {
        for (process, number) in rdd.collect()? {
            lock(&seen).entry(number).or_default().push(process);
        }
        Ok(())
    });
}

impl Program {
    fn story(&self) -> Vec<String> {
        self.ssc.flush_listeners();
        lock(&self.story.0).clone()
    }

    /// Stops gracefully, and checks that each number below `count` has come once, or at least once.
    fn all_are_there(&self, blocks: u64, exactly: bool) {
        self.ssc.stop_gracefully().unwrap();
        let seen = lock(&self.seen);
        let missing: Vec<u64> = (0..blocks * EACH).filter(|n| !seen.contains_key(n)).collect();
        assert!(missing.is_empty(), "missing: {missing:?}");
        let twice: Vec<_> = seen.iter().filter(|(_, by)| by.len() > 1).collect();
        assert!(!exactly || twice.is_empty(), "twice: {twice:?}");
    }
}

#[test]
fn r41_r42_receivers_run_on_executors_evenly_beside_tasks_that_run_where_their_blocks_are() {
    let sources = [Source::open(), Source::open()];
    let ran: Arc<Mutex<Vec<(u32, u32)>>> = Arc::default();
    let program = program(
        None,
        |conf| {
            // A busy machine is no reason to lose an executor.
            conf.set("spark.network.timeout", "60s").unwrap();
        },
        |ssc, seen| {
            for source in &sources {
                let blocks = Blocks { source: source.address, has_position: false, copies: false };
                let (ran, seen) = (Arc::clone(&ran), Arc::clone(seen));
                let stream = ssc.receiver_stream(blocks).map(|(by, n)| (by, std::process::id(), n));
                stream.foreach_rdd(move |rdd, _| {
                    for (by, task, n) in rdd.collect()? {
                        lock(&ran).push((by, task));
                        lock(&seen).entry(n).or_default().push(by);
                    }
                    Ok(())
                });
            }
        },
    );
    // Each executor has one slot, and a receiver beside it for ever: batches go on all the same.
    sources.iter().for_each(|source| source.sends(20));
    until("all of it", || lock(&program.seen).values().map(Vec::len).sum::<usize>() == 400);
    let places: BTreeSet<u32> = sources.iter().map(|source| source.came(1)).collect();
    let executors: BTreeSet<u32> = program.cluster.executors().into_iter().map(|(_, process)| process).collect();
    assert_eq!(places, executors, "one on each");
    let ran = lock(&ran).clone();
    let at_home = ran.iter().filter(|(by, task)| by == task).count();
    assert!(at_home * 2 >= ran.len(), "{at_home} of {} where their blocks are", ran.len());
    program.ssc.stop_gracefully().unwrap();
    let started: BTreeSet<String> = program.story().into_iter().collect();
    assert_eq!(started.len(), 2, "{started:?}");
}

#[test]
fn with_a_log_each_record_comes_once_although_executors_are_killed_while_they_receive() {
    let (source, folder) = (Source::open(), tempfile::tempdir().unwrap());
    let address = source.address;
    let program = program(
        Some(&folder.path().join("checkpoint")),
        |_| {},
        |ssc, seen| received(ssc, Blocks { source: address, has_position: true, copies: true }, seen),
    );
    source.sends(10);
    for kill in 1..=3 {
        // In the middle of receiving.
        source.may_send(10 + kill * 40);
        until("some of it", || source.acknowledged() >= kill * 40 - 20);
        signal("-KILL", source.came(kill as usize));
        source.came(kill as usize + 1);
    }
    source.sends(130);
    program.all_are_there(130, true);
    assert!(source.processes().windows(2).all(|pair| pair[0] != pair[1]), "it moves each time");
}

#[test]
fn r48_without_a_log_what_was_acknowledged_is_kept_by_a_copy_or_when_its_executor_leaves_and_else_lost_and_counted() {
    for (copies, end) in [(true, "-KILL"), (false, "-KILL"), (false, "-TERM")] {
        let is_lost = !copies && end == "-KILL";
        let source = Source::open();
        let clock = millstream_core::clock::ManualClock::new(Time::ZERO);
        let mut conf = Conf::new("local-cluster[2,1]", "receivers").unwrap();
        conf.streaming.exclusive = false;
        conf.streaming.block_interval = millis(50);
        let ssc =
            StreamingContext::builder(conf, millis(1000)).with_clock(Arc::new(clock.clone()) as _).build().unwrap();
        let (seen, story) = (Seen::default(), Story::default());
        received(&ssc, Blocks { source: source.address, has_position: false, copies }, &seen);
        ssc.add_streaming_listener(story.clone());
        ssc.start().unwrap();
        source.sends(5);
        // No batch has had them when their executor ends.
        let first = source.came(1);
        signal(end, first);
        source.came(2);
        until("the end of the executor", || !Path::new(&format!("/proc/{first}")).exists());
        source.sends(7);
        clock.advance_to(Time::from_millis(1000));
        assert!(ssc.await_batch(Time::from_millis(1000)));
        let here: Vec<u64> = lock(&seen).keys().copied().collect();
        let want = if is_lost { 5 * EACH } else { 0 };
        assert_eq!(here, (want..7 * EACH).collect::<Vec<_>>(), "copies: {copies}, {end}");
        ssc.flush_listeners();
        let told = lock(&story.0).clone();
        let lost = "5 blocks with 50 records that Blocks-0 received were lost";
        assert_eq!(told.iter().any(|line| line.contains(lost)), is_lost, "{told:?}");
        ssc.stop().unwrap();
    }
}

#[test]
fn lines_of_a_socket_are_received_on_an_executor() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let serving = threads::spawn("server", move || {
        let (mut stream, _) = server.accept().unwrap();
        for n in 0..1000 {
            stream.write_all(format!("line {n}\n").as_bytes()).unwrap();
        }
        let _ = stream.read(&mut [0]);
    });
    let program = program(
        None,
        |_| {},
        |ssc, seen| {
            let seen = Arc::clone(seen);
            let marked = capture(std::process::id(), |driver: &u32, line: millstream_core::Text| {
                assert_ne!(std::process::id(), *driver, "tasks run elsewhere");
                line.trim_start_matches("line ").parse::<u64>().unwrap_or(u64::MAX)
            });
            ssc.socket_text_stream("127.0.0.1", port).map(marked).foreach_rdd(move |rdd, _| {
                rdd.collect()?.into_iter().for_each(|n| lock(&seen).entry(n).or_default().push(0));
                Ok(())
            });
        },
    );
    until("all lines", || lock(&program.seen).len() == 1000);
    program.all_are_there(100, true);
    serving.unwrap().join();
    assert!(program.story()[0].starts_with("started on executor-"), "{:?}", program.story());
}
