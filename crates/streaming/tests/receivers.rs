//! Receivers of the program's own: SC09, S-78 to S-87, S-103, S-104, S-131, and the restart rules.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::sync::Mutex;
use std::sync::mpsc::{Receiver as Channel, Sender, channel};

use common::{
    Notes, Story, Teller, advance, assert_error, at, beside, ends, failure, gather, pump, sink, told, within,
};
use millstream_core::storage::{Block, BlockId, BlockStore, MemoryStore, StoreUsage};
use millstream_core::{Error, ErrorKind, Result, StorageLevel, Time, millis, secs};
use millstream_streaming::{
    BatchInfo, Conf, RddQueue, Receiver, Store, StreamingConf, StreamingContext, StreamingContextState,
    StreamingListener,
};
use millstream_testkit::{Check, StreamTest};

fn parts(stream: &millstream_streaming::DStream<i32>) -> Notes<(i64, Vec<Vec<i32>>)> {
    let notes = Notes::default();
    let seen = notes.clone();
    stream.foreach_rdd(move |rdd, time| {
        seen.add((time.as_millis(), rdd.glom().collect()?));
        Ok(())
    });
    notes
}

#[test]
fn sc09_what_is_stored_belongs_to_the_next_batch_in_the_order_of_arrival() {
    let test = StreamTest::new();
    let (receiver, mut teller) = told();
    let seen = parts(&test.ssc().receiver_stream(receiver));
    test.ssc().start().unwrap();
    teller.store(1);
    teller.tell(|store| store.store_many(vec![2, 3]));
    test.clock().advance_to(Time::from_millis(200));
    teller.store(4);
    let acknowledged = Notes::default();
    let noted = acknowledged.clone();
    teller.tell(move |store| store.store_block(vec![5, 6], Box::new(move || noted.add("stored"))));
    assert_eq!(acknowledged.all(), ["stored"], "a block is acknowledged when it is kept, before its batch");
    teller.store(7);
    advance(&test, 1, 1);
    teller.store(8);
    advance(&test, 2, 3);
    // 4 and 7 share a block interval, and the block that was stored whole was whole before.
    let want = [(1000, vec![vec![1, 2, 3], vec![5, 6], vec![4, 7]]), (2000, vec![vec![8]]), (3000, vec![])];
    assert_eq!(seen.all(), want, "S-81: an empty batch has no partitions");
    teller.hang_up();
}

#[test]
fn s78_a_block_that_is_stored_whole_is_no_part_of_the_interval() {
    let test = StreamTest::new();
    let (receiver, mut teller) = told();
    let infos: Notes<u64> = Notes::default();
    struct Records(Notes<u64>);
    impl StreamingListener for Records {
        fn on_batch_completed(&self, batch: &BatchInfo) {
            self.0.add(batch.num_records());
        }
    }
    test.ssc().add_streaming_listener(Records(infos.clone()));
    sink(&test.ssc().receiver_stream(receiver));
    test.ssc().start().unwrap();
    for n in 0..3u64 {
        teller.tell(move |store| store.store_block((0..n).collect(), Box::new(|| {})));
    }
    teller.store(9);
    advance(&test, 1, 2);
    test.ssc().flush_listeners();
    assert_eq!(infos.all(), [4, 0], "S-83: records are counted");
    teller.hang_up();
}

#[test]
fn a_receiver_that_ends_fails_or_panics_is_started_again_after_the_delay() {
    let test = StreamTest::new();
    let story = Story::of(test.ssc());
    let (ran, runs) = channel();
    struct Flaky(u32, Sender<u32>);
    impl Receiver for Flaky {
        type Item = u32;
        fn receive(&mut self, store: &mut dyn Store<u32>) -> Result<()> {
            self.0 += 1;
            store.store(self.0)?;
            let _ = self.1.send(self.0);
            match self.0 {
                1 => Ok(()),
                2 => Err("the broker went away".into()),
                3 => panic!("no such luck"),
                _ => {
                    let (tell, told) = channel::<()>();
                    store.on_stop(Box::new(move || drop(tell)));
                    let _ = told.recv();
                    Ok(())
                }
            }
        }
    }
    let items = gather(&test.ssc().receiver_stream(Flaky(0, ran)));
    test.ssc().start().unwrap();
    for run in 1..=4 {
        assert_eq!(within("the receiver", &runs), run);
        let stops = || story.told(test.ssc()).iter().filter(|line| line.ends_with("stopped")).count();
        if run < 4 {
            pump(&test, "the end of the receiver", || stops() >= run as usize);
            test.clock().advance(secs(2));
        }
    }
    pump(&test, "the items", || items.len() == 4);
    assert_eq!(items.all(), [1, 2, 3, 4], "S-85: what was stored before a failure is processed");
    let ssc = test.ssc().clone();
    ends("the stop", move || ssc.stop_gracefully()).unwrap();
    let told = story.0.all();
    let told: Vec<_> = told.iter().filter_map(|line| line.strip_prefix("receiver Flaky-0 ")).collect();
    assert_eq!(
        told,
        [
            "started",
            "stopped",
            "started",
            "failed: the broker went away",
            "stopped",
            "started",
            "failed: a closure of the program panicked: no such luck",
            "stopped",
            "started",
            "stopped",
        ]
    );
    assert!(test.ssc().errors().is_empty(), "the context is not failed by it");
}

#[test]
fn a_receiver_waits_for_the_whole_delay_before_it_starts_again() {
    let test = StreamTest::new();
    let (ran, runs) = channel();
    struct Brief(Sender<()>);
    impl Receiver for Brief {
        type Item = u32;
        fn receive(&mut self, _: &mut dyn Store<u32>) -> Result<()> {
            let _ = self.0.send(());
            Ok(())
        }
    }
    let story = Story::of(test.ssc());
    sink(&test.ssc().receiver_stream(Brief(ran)));
    test.ssc().start().unwrap();
    within("the first run", &runs);
    let until = millstream_core::clock::monotonic() + common::WATCHDOG;
    while !story.told(test.ssc()).iter().any(|line| line.ends_with("stopped")) {
        assert!(millstream_core::clock::monotonic() < until);
        std::thread::yield_now();
    }
    test.clock().advance_to(Time::from_millis(1999));
    assert!(test.ssc().await_batch(at(1)));
    assert!(runs.try_recv().is_err(), "it is too early");
    test.clock().advance_to(at(2));
    within("the second run", &runs);
}

#[test]
fn an_error_that_is_reported_goes_to_listeners_and_the_receiver_goes_on() {
    let test = StreamTest::new();
    let story = Story::of(test.ssc());
    let (receiver, mut teller) = told();
    let items = gather(&test.ssc().receiver_stream(receiver));
    test.ssc().start().unwrap();
    teller.store(1);
    teller.tell(|store| {
        store.report_error(Error::new(ErrorKind::Data, "a record was skipped"));
        Ok(())
    });
    teller.store(2);
    advance(&test, 1, 1);
    assert_eq!(items.all(), [1, 2]);
    let told = story.told(test.ssc());
    let told: Vec<_> = told.iter().filter(|line| line.starts_with("receiver")).map(String::as_str).collect();
    assert_eq!(told, ["receiver told-0 started", "receiver told-0 failed: a record was skipped"]);
    teller.hang_up();
}

#[test]
fn s131_a_graceful_stop_processes_all_that_was_stored_at_once_without_waiting_for_the_next_batch() {
    let test = StreamTest::new();
    let (receiver, mut teller) = told();
    let seen = parts(&test.ssc().receiver_stream(receiver));
    test.ssc().start().unwrap();
    advance(&test, 1, 1);
    for item in 0..15 {
        teller.store(item);
    }
    teller.hang_up();
    let ssc = test.ssc().clone();
    ends("the stop", move || ssc.stop_gracefully()).unwrap();
    assert_eq!(seen.all(), [(1000, vec![]), (2000, vec![(0..15).collect()])]);
}

#[test]
fn s127_a_receiver_is_told_that_it_is_time_to_go() {
    for graceful in [false, true] {
        let test = StreamTest::new();
        let (running, runs) = channel();
        let answers: Notes<String> = Notes::default();
        struct Asked(Sender<()>, Notes<String>);
        impl Receiver for Asked {
            type Item = u32;
            fn receive(&mut self, store: &mut dyn Store<u32>) -> Result<()> {
                let (tell, told) = channel::<()>();
                store.on_stop(Box::new(move || drop(tell)));
                assert!(!store.is_stopped());
                let _ = self.0.send(());
                let _ = told.recv();
                assert!(store.is_stopped());
                for error in [
                    store.store(1).unwrap_err(),
                    store.store_many(vec![2]).unwrap_err(),
                    store.store_block(vec![3], Box::new(|| panic!("it has not been stored"))).unwrap_err(),
                ] {
                    self.1.add(format!("{:?}", error.kind()));
                }
                // It is time already.
                let (tell, told) = channel();
                store.on_stop(Box::new(move || tell.send(()).unwrap_or_default()));
                assert!(told.try_recv().is_ok());
                Ok(())
            }
        }
        let story = Story::of(test.ssc());
        sink(&test.ssc().receiver_stream(Asked(running, answers.clone())));
        test.ssc().start().unwrap();
        within("the receiver", &runs);
        let ssc = test.ssc().clone();
        ends("the stop", move || if graceful { ssc.stop_gracefully() } else { ssc.stop() }).unwrap();
        assert_eq!(answers.all(), ["Stopped", "Stopped", "Stopped"]);
        assert!(!story.0.all().iter().any(|line| line.contains("failed")), "going is no failure");
    }
}

#[test]
fn a_stop_at_once_ends_a_graceful_stop_that_waits_for_a_receiver() {
    let test = StreamTest::new();
    let (receiver, mut teller) = told::<u32>();
    sink(&test.ssc().receiver_stream(receiver));
    test.ssc().start().unwrap();
    teller.store(1);
    let ssc = test.ssc().clone();
    let (_thread, graceful) = beside(move || ssc.stop_gracefully());
    // The receiver does not listen; it only sees that it is being stopped.
    let (seen, sees) = channel();
    while !sees.try_recv().unwrap_or(false) {
        let seen = seen.clone();
        teller.tell(move |store| {
            let _ = seen.send(store.is_stopped());
            Ok(())
        });
    }
    assert_eq!(test.ssc().state(), StreamingContextState::Active);
    let ssc = test.ssc().clone();
    ends("the stop at once", move || ssc.stop()).unwrap();
    within("the graceful stop", &graceful).unwrap();
    assert_eq!(test.ssc().state(), StreamingContextState::Stopped);
    teller.hang_up();
}

#[test]
fn a_receiver_that_stops_its_context_does_not_wait_for_itself() {
    for graceful in [false, true] {
        let test = StreamTest::new();
        let (receiver, mut teller) = told::<u32>();
        let items = gather(&test.ssc().receiver_stream(receiver));
        test.ssc().start().unwrap();
        teller.store(1);
        let (ssc, (answer, answers)) = (test.ssc().clone(), channel());
        teller.tell(move |_| {
            let _ = answer.send(if graceful { ssc.stop_gracefully() } else { ssc.stop() });
            Ok(())
        });
        within("the answer", &answers).unwrap();
        teller.hang_up();
        let ssc = test.ssc().clone();
        ends("the wait", move || ssc.await_termination()).unwrap();
        assert_eq!(items.all(), if graceful { vec![1] } else { vec![] });
    }
}

#[test]
fn all_receivers_are_asked_to_stop_before_one_is_waited_for() {
    let test = StreamTest::new();
    // The first receiver goes only when the second has gone.
    let (second_gone, second_goes) = channel::<()>();
    struct Follows(Option<Channel<()>>, Option<Sender<()>>, Sender<()>);
    impl Receiver for Follows {
        type Item = u32;
        fn receive(&mut self, store: &mut dyn Store<u32>) -> Result<()> {
            let (tell, told) = channel::<()>();
            store.on_stop(Box::new(move || drop(tell)));
            let _ = self.2.send(());
            let _ = told.recv();
            if let Some(other) = &self.0 {
                let _ = other.recv();
            }
            self.1 = None;
            Ok(())
        }
    }
    let (running, runs) = channel();
    let first = test.ssc().receiver_stream(Follows(Some(second_goes), None, running.clone()));
    let second = test.ssc().receiver_stream(Follows(None, Some(second_gone), running));
    sink(&first.union(&second));
    test.ssc().start().unwrap();
    within("one receiver", &runs);
    within("the other receiver", &runs);
    let ssc = test.ssc().clone();
    ends("the stop", move || ssc.stop_gracefully()).unwrap();
}

#[test]
fn a_receiver_costs_no_task_slot_and_many_may_be_united() {
    for how in [Check::new(1, 1), Check::new(1, 1).through_bytes()] {
        let test = how.context();
        let (receivers, mut tellers): (Vec<_>, Vec<_>) = (0..20).map(|_| told::<u32>()).unzip();
        let streams: Vec<_> = receivers.into_iter().map(|receiver| test.ssc().receiver_stream(receiver)).collect();
        let sums = gather(&test.ssc().union(&streams).map(|n| (n % 2, n)).reduce_by_key(|a, b| a + b));
        test.ssc().start().unwrap();
        for (n, teller) in (0..).zip(&tellers) {
            teller.store(n);
        }
        advance(&test, 1, 1);
        let mut got = sums.all();
        got.sort_unstable();
        assert_eq!(got, [(0, 90), (1, 100)]);
        tellers.iter_mut().for_each(Teller::hang_up);
    }
}

#[test]
fn s86_several_threads_may_store_at_once() {
    struct Crowd(Sender<()>);
    impl Receiver for Crowd {
        type Item = u64;
        fn receive(&mut self, store: &mut dyn Store<u64>) -> Result<()> {
            let store = Mutex::new(store);
            std::thread::scope(|scope| {
                for thread in 0..10u64 {
                    let store = &store;
                    scope.spawn(move || {
                        for n in 0..1000 {
                            store.lock().unwrap().store(thread * 1000 + n).unwrap();
                        }
                    });
                }
            });
            let _ = self.0.send(());
            let (tell, told) = channel::<()>();
            store.lock().unwrap().on_stop(Box::new(move || drop(tell)));
            let _ = told.recv();
            Ok(())
        }
    }
    let test = StreamTest::new();
    let (stored, stores) = channel();
    let items = gather(&test.ssc().receiver_stream(Crowd(stored)));
    test.ssc().start().unwrap();
    within("ten thousand items", &stores);
    advance(&test, 1, 1);
    let mut all = items.all();
    all.sort_unstable();
    assert_eq!(all, (0..10_000).collect::<Vec<_>>());
}

#[test]
fn s84_a_receiver_stores_no_faster_than_its_rate_and_stops_while_it_waits() {
    let test = Check::new(1, 1).with_conf(secs(1), |conf| conf.streaming.receiver_max_rate = Some(1));
    struct Eager(Sender<()>);
    impl Receiver for Eager {
        type Item = u32;
        fn receive(&mut self, store: &mut dyn Store<u32>) -> Result<()> {
            // A block is free; items one by one would take three hours.
            store.store_block((0..100).collect(), Box::new(|| {}))?;
            let _ = self.0.send(());
            store.store_many((0..10_000).collect())
        }
    }
    let (stored, stores) = channel();
    let items = gather(&test.ssc().receiver_stream(Eager(stored)));
    test.ssc().start().unwrap();
    within("the block", &stores);
    advance(&test, 1, 1);
    assert_eq!(items.len(), 100);
    let ssc = test.ssc().clone();
    ends("the stop", move || ssc.stop()).unwrap();
}

#[test]
fn s103_a_receiver_that_no_output_needs_runs_and_harms_nobody() {
    let test = StreamTest::new();
    let (receiver, mut teller) = told::<u32>();
    let _unused = test.ssc().receiver_stream(receiver);
    let queue = RddQueue::new();
    queue.push(test.ssc().context().parallelize(vec![1u32], 1));
    let items = gather(&test.ssc().queue_stream(&queue));
    test.ssc().start().unwrap();
    for s in 1..=5 {
        teller.store(7);
        advance(&test, s, s);
        assert!(test.ssc().context().env().blocks.usage().blocks <= 1, "its blocks are let go");
    }
    assert_eq!(items.all(), [1]);
    teller.hang_up();
}

/// A receiver that does not listen.
struct Deaf(std::sync::mpsc::Receiver<()>);

impl Receiver for Deaf {
    type Item = i32;

    fn receive(&mut self, _: &mut dyn Store<i32>) -> Result<()> {
        let _ = self.0.recv();
        Ok(())
    }
}

#[test]
fn a_graceful_stop_waits_for_a_receiver_no_longer_than_for_all_else() {
    let mut conf = Conf::new("local[1]", "test").unwrap();
    conf.streaming.exclusive = false;
    conf.streaming.graceful_stop_timeout = Some(millis(20));
    let clock = std::sync::Arc::new(millstream_core::clock::ManualClock::new(Time::ZERO));
    let ssc = StreamingContext::builder(conf, secs(1)).with_clock(clock).build().unwrap();
    let (_kept, never) = std::sync::mpsc::channel();
    ssc.receiver_stream(Deaf(never)).foreach_rdd(|_, _| Ok(()));
    ssc.start().unwrap();
    ssc.stop_gracefully().unwrap();
}

#[test]
fn s22_blocks_are_kept_until_their_batch_is_forgotten_and_none_outlives_the_context() {
    let test = StreamTest::new();
    test.ssc().remember(secs(3));
    let (receiver, mut teller) = told::<u32>();
    sink(&test.ssc().receiver_stream(receiver));
    test.ssc().start().unwrap();
    let blocks = std::sync::Arc::clone(&test.ssc().context().env().blocks);
    let mut kept = Vec::new();
    for s in 1..=5 {
        teller.store(7);
        advance(&test, s, s);
        kept.push(blocks.usage().blocks);
    }
    assert_eq!(kept, [1, 2, 3, 3, 3], "S-26: what came in the last three seconds");
    teller.store(8);
    teller.hang_up();
    let ssc = test.ssc().clone();
    ends("the stop", move || ssc.stop()).unwrap();
    assert_eq!(blocks.usage().blocks, 0, "also what no batch was given is let go");
}

#[test]
fn two_streaming_contexts_on_one_engine_do_not_mix_their_blocks() {
    let test = StreamTest::new();
    let conf = StreamingConf { exclusive: false, ..StreamingConf::default() };
    let other = StreamingContext::on(test.ssc().context(), conf, secs(1)).unwrap();
    let ((a, mut tell_a), (b, mut tell_b)) = (told::<u32>(), told::<u32>());
    let (got_a, got_b) = (gather(&test.ssc().receiver_stream(a)), gather(&other.receiver_stream(b)));
    test.ssc().start().unwrap();
    other.start().unwrap();
    tell_a.store(1);
    tell_b.store(2);
    advance(&test, 1, 1);
    assert!(other.await_batch(at(1)));
    assert_eq!((got_a.all(), got_b.all()), (vec![1], vec![2]));
    tell_a.hang_up();
    tell_b.hang_up();
    other.stop().unwrap();
}

/// A store that keeps no received blocks.
#[derive(Debug)]
struct Full(MemoryStore);

impl BlockStore for Full {
    fn put(&self, id: BlockId, block: Block, level: StorageLevel) -> Result<()> {
        match id {
            BlockId::Received { .. } => Err(Error::new(ErrorKind::Unavailable, "the disk is full")),
            BlockId::Rdd { .. } => self.0.put(id, block, level),
        }
    }
    fn get(&self, id: BlockId) -> Result<Option<Block>> {
        self.0.get(id)
    }
    fn contains(&self, id: BlockId) -> bool {
        self.0.contains(id)
    }
    fn remove(&self, id: BlockId) -> Result<()> {
        self.0.remove(id)
    }
    fn usage(&self) -> StoreUsage {
        self.0.usage()
    }
}

#[test]
fn rc01_a_receiver_says_how_its_blocks_are_kept() {
    let levels =
        [(StorageLevel::MEMORY_ONLY, true), (StorageLevel::MEMORY_ONLY_SER, true), (StorageLevel::DISK_ONLY, false)];
    for (level, in_memory) in levels {
        let test = StreamTest::new();
        let (mut receiver, mut teller) = told();
        receiver.level = level;
        let items = gather(&test.ssc().receiver_stream(receiver));
        test.ssc().start().unwrap();
        teller.tell(|store| store.store_block(vec![1u64, 2], Box::new(|| {})));
        let usage = test.ssc().context().env().blocks.usage();
        assert_eq!((usage.blocks, usage.memory > 0, usage.disk > 0), (1, in_memory, !in_memory), "{level:?}");
        advance(&test, 1, 1);
        assert_eq!(items.all(), [1, 2]);
        teller.hang_up();
    }
}

#[test]
fn s82_a_block_that_is_lost_fails_its_batch_and_nothing_is_dropped_silently() {
    let test = common::continuing();
    let (receiver, mut teller) = told();
    let (stream, line) = (test.ssc().receiver_stream(receiver), line!());
    let items = gather(&stream);
    let blocks = std::sync::Arc::clone(&test.ssc().context().env().blocks);
    test.ssc().start().unwrap();
    let before: Vec<_> = (0..1000).map(|stream| BlockId::Received { stream, sequence: 0 }).collect();
    teller.tell(|store| store.store_block(vec![1], Box::new(|| {})));
    let block = before.into_iter().find(|id| blocks.contains(*id)).expect("the block is kept");
    blocks.remove(block).unwrap();
    advance(&test, 1, 1);
    let error = failure(test.ssc());
    assert_eq!((error.kind(), error.batch()), (ErrorKind::Data, Some(at(1))), "{error}");
    assert!(error.to_string().contains(&format!("could not compute split, block {block} not found")), "{error}");
    assert_eq!(error.site().map(|site| site.line()), Some(line), "{error}");
    teller.store(2);
    advance(&test, 2, 2);
    assert_eq!(items.all(), [2], "later batches go on");
    teller.hang_up();
}

#[test]
fn s83_a_block_that_cannot_be_kept_is_an_error_of_the_store_and_of_the_batch_it_belongs_to() {
    let clock = millstream_core::clock::ManualClock::new(Time::ZERO);
    let mut conf = Conf::new("local[2]", "full").unwrap();
    conf.streaming.exclusive = false;
    let ssc = StreamingContext::builder(conf, secs(1))
        .with_clock(std::sync::Arc::new(clock.clone()))
        .with_block_store(std::sync::Arc::new(Full(MemoryStore::new(1 << 20))))
        .build()
        .unwrap();
    let (receiver, mut teller) = told::<u32>();
    let (stream, line) = (ssc.receiver_stream(receiver), line!());
    sink(&stream);
    ssc.start().unwrap();
    let (answer, answers) = channel();
    teller.tell(move |store| {
        let outcome = store.store_block(vec![1], Box::new(|| panic!("it has not been stored")));
        answer.send(outcome).unwrap();
        store.store(2)
    });
    assert_error(within("the answer", &answers), ErrorKind::Unavailable, &["the disk is full"]);
    teller.hang_up();
    clock.advance_to(at(1));
    ssc.await_batch(at(1));
    let error = failure(&ssc);
    assert_eq!((error.kind(), error.batch()), (ErrorKind::Unavailable, Some(at(1))), "{error}");
    assert_eq!(error.site().map(|site| site.line()), Some(line), "{error}");
    ssc.stop().unwrap();
}
