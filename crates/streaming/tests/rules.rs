//! The rules of batches: S-1, S-2, S-4, S-6, S-7, S-10, S-12, S-13, S-15 to S-17, S-19, S-22, S-25, S-26, S-112, S-114,
//! S-116, S-118 to S-120, S-122, the order of events, and clocks that jump.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use common::{Notes, Story, advance, at, batches_of, continuing, ends, failure, gather, sink, within};
use millstream_core::clock::{Clock, ManualClock, Wake};
use millstream_core::threads::lock;
use millstream_core::{Context, ErrorKind, Rdd, Result, StorageLevel, Time, millis, secs};
use millstream_streaming::{
    BatchInfo, Conf, DStream, InputInfo, InputSource, OnFailure, Rate, RddQueue, StreamingContext, StreamingListener,
};
use millstream_testkit::{Batches, Check, StreamTest, batches};

fn numbers() -> Batches<i32> {
    batches![[1], [2], [3]]
}

/// Makes a context with a clock of the test's own.
fn with_clock(clock: Arc<dyn Clock>, interval: Duration) -> StreamingContext {
    let mut conf = Conf::new("local[2]", "rules").unwrap();
    conf.streaming.exclusive = false;
    StreamingContext::builder(conf, interval).with_clock(clock).build().unwrap()
}

fn empty_stream(ssc: &StreamingContext) -> DStream<i32> {
    ssc.queue_stream(&RddQueue::new())
}

// ------------------------------------------------------------------------------------------------ when batches are

#[test]
fn s1_the_first_batch_is_the_next_multiple_of_the_interval_since_the_epoch() {
    for (now, interval, want) in [(12_345, 500, [12_500, 13_000]), (12_500, 500, [13_000, 13_500]), (7, 24, [24, 48])] {
        let clock = ManualClock::new(Time::from_millis(now));
        let ssc = with_clock(Arc::new(clock.clone()), millis(interval));
        let seen = batches_of(&empty_stream(&ssc));
        ssc.start().unwrap();
        clock.advance_to(Time::from_millis(want[1]));
        assert!(ssc.await_batch(Time::from_millis(want[1])));
        assert_eq!(seen.all(), want, "S-2: batches count from one interval before the first");
        ssc.stop().unwrap();
    }
}

#[test]
fn s4_a_program_that_lags_makes_up_for_every_batch_at_its_scheduled_time() {
    let test = StreamTest::new();
    let (begun, begins) = channel();
    let (go, gone) = channel::<()>();
    let (seen, gone) = (Notes::default(), Mutex::new(gone));
    let noted = seen.clone();
    test.input(numbers()).foreach_rdd(move |rdd, time| {
        let _ = begun.send(());
        let _ = lock(&gone).recv();
        noted.add((time.as_millis(), rdd.collect()?));
        Ok(())
    });
    test.ssc().start().unwrap();
    test.clock().advance_to(at(1));
    within("the first batch", &begins);
    test.clock().advance_to(Time::from_millis(5700));
    drop(go);
    assert!(test.ssc().await_batch(at(5)));
    let want = [(1000, vec![1]), (2000, vec![2]), (3000, vec![3]), (4000, vec![]), (5000, vec![])];
    assert_eq!(seen.all(), want, "S-115: nothing is dropped");
}

#[test]
fn s7_advancing_a_manual_clock_by_n_intervals_gives_n_batches_in_order() {
    let test = StreamTest::new();
    let seen = batches_of(&test.input(numbers()));
    test.ssc().start().unwrap();
    test.clock().advance(Duration::from_millis(999));
    assert_eq!(seen.len(), 0);
    test.clock().advance(secs(100));
    assert!(test.ssc().await_batch(at(100)));
    assert_eq!(seen.all(), (1..=100).map(|s| s * 1000).collect::<Vec<_>>());
}

/// A clock that does what clocks do to a program: it jumps forwards, and, against its contract, back.
#[derive(Debug, Default)]
struct WildClock {
    state: Mutex<(Time, Duration, Vec<Weak<dyn Wake>>)>,
}

impl WildClock {
    /// Shows another time. A step is no passing of time: the clock was set, or the machine slept.
    fn show(&self, now: Time, step: Duration) {
        let mut state = lock(&self.state);
        (state.0, state.1) = (now, state.1 + step);
        let waiters: Vec<_> = state.2.iter().filter_map(Weak::upgrade).collect();
        drop(state);
        waiters.iter().for_each(|waiter| waiter.wake());
    }
}

impl Clock for WildClock {
    fn now(&self) -> Time {
        lock(&self.state).0
    }
    fn until(&self, t: Time) -> Option<Duration> {
        (self.now() >= t).then_some(Duration::ZERO)
    }
    fn subscribe(&self, waiter: Weak<dyn Wake>) {
        lock(&self.state).2.push(waiter);
    }
    fn stepped(&self) -> Duration {
        lock(&self.state).1
    }
}

#[test]
fn a_clock_an_hour_forwards_gives_one_batch_and_no_stampede() {
    let clock = Arc::new(WildClock::default());
    let ssc = with_clock(Arc::clone(&clock) as Arc<dyn Clock>, secs(1));
    let (story, seen) = (Story::of(&ssc), batches_of(&empty_stream(&ssc)));
    ssc.start().unwrap();
    clock.show(at(1), Duration::ZERO);
    assert!(ssc.await_batch(at(1)));
    clock.show(Time::from_millis(3_601_500), secs(3600));
    assert!(ssc.await_batch(at(3601)));
    clock.show(at(3602), Duration::ZERO);
    assert!(ssc.await_batch(at(3602)));
    assert_eq!(seen.all(), [1000, 3_601_000, 3_602_000]);
    assert!(story.told(&ssc).iter().any(|line| line.starts_with("3599 left out")), "listeners are told");
    ssc.stop().unwrap();
}

#[test]
fn a_suspend_while_a_batch_is_late_keeps_what_was_due_before() {
    let clock = Arc::new(WildClock::default());
    let ssc = with_clock(Arc::clone(&clock) as Arc<dyn Clock>, secs(1));
    let (planning, plans) = channel();
    let (go, gone) = channel::<()>();
    let transformed = empty_stream(&ssc).transform(move |rdd, _| {
        let _ = planning.send(());
        let _ = gone.recv();
        rdd
    });
    let seen = batches_of(&transformed);
    ssc.start().unwrap();
    clock.show(at(1), Duration::ZERO);
    within("the first batch to be planned", &plans);
    // While it is planned two more become due, then the machine sleeps for a day, twice.
    clock.show(Time::from_millis(3_500), Duration::ZERO);
    clock.show(Time::from_millis(86_403_500), secs(86_400));
    clock.show(Time::from_millis(172_803_500), secs(86_400));
    drop(go);
    assert!(ssc.await_batch(at(172_803)));
    let seen = seen.all();
    assert!(seen.len() <= 5, "no stampede: {} batches", seen.len());
    assert_eq!(seen[..3], [1000, 2000, 3000]);
    assert_eq!(seen.last(), Some(&172_803_000));
    assert!(seen.is_sorted_by(|a, b| a < b));
    ssc.stop().unwrap();
}

#[test]
fn a_clock_an_hour_back_repeats_no_batch() {
    let clock = Arc::new(WildClock::default());
    clock.show(at(10_000), Duration::ZERO);
    let ssc = with_clock(Arc::clone(&clock) as Arc<dyn Clock>, secs(1));
    let seen = batches_of(&empty_stream(&ssc));
    ssc.start().unwrap();
    clock.show(at(10_002), Duration::ZERO);
    assert!(ssc.await_batch(at(10_002)));
    for s in [6_400, 6_401, 10_001, 10_002] {
        clock.show(at(s), Duration::ZERO);
    }
    clock.show(at(10_003), Duration::ZERO);
    assert!(ssc.await_batch(at(10_003)));
    assert_eq!(seen.all(), [10_001_000, 10_002_000, 10_003_000]);
    let error = ssc.await_termination_or_timeout(Duration::ZERO);
    assert!(!error.unwrap());
    ssc.stop().unwrap();
}

// --------------------------------------------------------------------------------------------------- what sources see

/// A source that notes what it is asked.
struct Asked(Notes<String>);

impl InputSource for Asked {
    type Item = i32;
    type Allocation = i64;

    fn allocate(&mut self, batch: Time, _: Option<Rate>) -> Result<i64> {
        self.0.add(format!("allocate {}", batch.as_millis() / 1000));
        Ok(batch.as_millis() / 1000)
    }
    fn rdd(&self, allocation: &i64, context: &Context) -> Result<Option<Rdd<i32>>> {
        self.0.add(format!("rdd {allocation}"));
        Ok(Some(context.parallelize(vec![*allocation as i32], 1)))
    }
    fn commit(&mut self, allocation: &i64) -> Result<()> {
        self.0.add(format!("commit {allocation}"));
        if *allocation == 3 { Err("the broker takes no offsets".into()) } else { Ok(()) }
    }
    fn forget(&mut self, allocation: &i64) {
        self.0.add(format!("forget {allocation}"));
    }
    fn describe(&self, _: &i64) -> InputInfo {
        InputInfo { records: 1, ..InputInfo::default() }
    }
}

#[test]
fn s12_a_source_is_asked_once_a_batch_in_order_and_told_when_it_is_done() {
    let (test, asked) = (continuing(), Notes::default());
    let stream = test.ssc().input(Asked(asked.clone()));
    stream.foreach_rdd(|_, time| -> Result<()> {
        if time == at(2) { Err("refused".into()) } else { Ok(()) }
    });
    test.ssc().start().unwrap();
    advance(&test, 1, 1);
    assert_eq!(asked.take(), ["allocate 1", "rdd 1", "commit 1"]);
    advance(&test, 2, 2);
    assert_eq!(asked.take(), ["allocate 2", "rdd 2"], "S-118: a failed batch is not committed");
    advance(&test, 3, 3);
    assert_eq!(asked.take(), ["allocate 3", "rdd 3", "commit 3", "forget 1", "forget 2"]);
    let errors = test.ssc().errors();
    assert_eq!(errors[0].message(), "refused", "the first error is the one that counts: {errors:?}");
    advance(&test, 4, 4);
    assert_eq!(asked.take(), ["allocate 4", "rdd 4", "commit 4", "forget 3"]);
}

/// A clock that stands still until it is moved, and says how long it would be.
#[derive(Debug)]
struct Foretelling(ManualClock);

impl Clock for Foretelling {
    fn now(&self) -> Time {
        self.0.now()
    }
    fn until(&self, t: Time) -> Option<Duration> {
        Some(t - self.0.now())
    }
    fn subscribe(&self, waiter: Weak<dyn Wake>) {
        self.0.subscribe(waiter);
    }
}

#[test]
fn a_source_may_ask_ahead_once_before_a_batch_is_due_and_not_when_it_is_late() {
    struct AsksAhead(std::sync::mpsc::Sender<String>);
    impl InputSource for AsksAhead {
        type Item = i32;
        type Allocation = ();
        fn lead(&self) -> Option<Duration> {
            Some(millis(300))
        }
        fn ask_ahead(&mut self) {
            let _ = self.0.send("ahead".to_owned());
        }
        fn allocate(&mut self, batch: Time, _: Option<Rate>) -> Result<()> {
            let _ = self.0.send(format!("allocate {}", batch.as_millis() / 1000));
            Ok(())
        }
        fn rdd(&self, (): &(), context: &Context) -> Result<Option<Rdd<i32>>> {
            Ok(Some(context.parallelize(vec![1], 1)))
        }
    }
    let clock = ManualClock::new(Time::ZERO);
    let ssc = with_clock(Arc::new(Foretelling(clock.clone())), secs(1));
    let (tell, told) = channel();
    sink(&ssc.input(AsksAhead(tell)));
    ssc.start().unwrap();
    clock.advance(millis(800));
    assert_eq!(within("what is asked ahead", &told), "ahead");
    clock.advance_to(at(1));
    assert!(ssc.await_batch(at(1)));
    // From here it is not said that a batch is near: all at once it is there.
    clock.advance_to(at(3));
    assert!(ssc.await_batch(at(3)));
    assert_eq!(told.try_iter().collect::<Vec<_>>(), ["allocate 1", "allocate 2", "allocate 3"]);
    clock.advance_to(Time::from_millis(3_900));
    assert_eq!(within("what is asked ahead", &told), "ahead");
    ssc.stop().unwrap();
}

#[test]
fn a_commit_that_fails_or_panics_is_reported_with_its_line_and_batches_go_on() {
    struct NoCommit(fn() -> Result<()>);
    impl InputSource for NoCommit {
        type Item = i32;
        type Allocation = ();
        fn allocate(&mut self, _: Time, _: Option<Rate>) -> Result<()> {
            Ok(())
        }
        fn rdd(&self, _: &(), context: &Context) -> Result<Option<Rdd<i32>>> {
            Ok(Some(context.parallelize(vec![1], 1)))
        }
        fn commit(&mut self, _: &()) -> Result<()> {
            (self.0)()
        }
        fn forget(&mut self, _: &()) {
            panic!("forgetting is hard")
        }
        fn stop(&mut self, _: bool) {
            panic!("stopping is harder")
        }
    }
    for commit in [|| Err("no offsets".into()), || panic!("no offsets")] as [fn() -> Result<()>; 2] {
        let test = continuing();
        let (stream, line) = (test.ssc().input(NoCommit(commit)), line!());
        let items = gather(&stream);
        test.ssc().start().unwrap();
        advance(&test, 1, 3);
        let error = failure(test.ssc());
        assert_eq!((error.kind(), error.batch()), (ErrorKind::User, Some(at(1))), "{error}");
        assert_eq!(error.site().map(|site| site.line()), Some(line), "{error}");
        assert_eq!(items.len(), 3);
        let ssc = test.ssc().clone();
        ends("the stop", move || ssc.stop()).unwrap();
    }
}

#[test]
fn s120_a_source_that_cannot_allocate_or_read_fails_its_batch_with_its_line_and_later_ones_go_on() {
    struct Faulty(&'static str);
    impl InputSource for Faulty {
        type Item = i32;
        type Allocation = i64;
        fn allocate(&mut self, batch: Time, _: Option<Rate>) -> Result<i64> {
            match (self.0, batch == at(1)) {
                ("allocate fails", true) => Err("no broker".into()),
                ("allocate panics", true) => panic!("no broker"),
                _ => Ok(batch.as_millis()),
            }
        }
        fn rdd(&self, allocation: &i64, context: &Context) -> Result<Option<Rdd<i32>>> {
            match (self.0, *allocation) {
                ("rdd fails", 1000) => Err("no broker".into()),
                ("rdd panics", 1000) => panic!("no broker"),
                _ => Ok(Some(context.parallelize(vec![1], 1))),
            }
        }
        fn describe(&self, allocation: &i64) -> InputInfo {
            assert!(*allocation != 1000 || self.0 != "describe panics", "no broker");
            InputInfo::default()
        }
    }
    for fault in ["allocate fails", "allocate panics", "rdd fails", "rdd panics", "describe panics"] {
        let test = continuing();
        let (stream, line) = (test.ssc().input(Faulty(fault)), line!());
        let items = gather(&stream);
        test.ssc().start().unwrap();
        advance(&test, 1, 3);
        let error = failure(test.ssc());
        assert_eq!((error.kind(), error.batch()), (ErrorKind::User, Some(at(1))), "{fault}: {error}");
        assert_eq!(error.site().map(|site| site.line()), Some(line), "{fault}: {error}");
        assert!(error.to_string().contains("no broker"), "{error}");
        assert_eq!(items.len(), 2, "{fault}");
    }
}

#[test]
fn s25_a_stream_that_no_output_needs_is_not_computed() {
    let (test, asked) = (StreamTest::new(), Notes::default());
    let unused = test.ssc().input(Asked(asked.clone()));
    let _ = unused.transform(|_, _| -> Rdd<i32> { panic!("nobody wants it") });
    let seen = batches_of(&test.input(numbers()));
    test.ssc().start().unwrap();
    advance(&test, 1, 2);
    assert_eq!(seen.all(), [1000, 2000], "S-103: it does no harm");
    assert_eq!(asked.all(), ["allocate 1", "commit 1", "allocate 2", "commit 2", "forget 1"]);
}

// --------------------------------------------------------------------------------------------------- what graphs give

#[test]
fn s10_all_that_read_a_stream_share_its_rdd_of_the_batch() {
    let test = StreamTest::new();
    let (calls, ids) = (Notes::default(), Notes::default());
    let noted = calls.clone();
    let stream = test.input(numbers()).transform(move |rdd, time| {
        noted.add(time.as_millis());
        rdd.map(|n| n + 1)
    });
    for _ in 0..2 {
        let noted = ids.clone();
        stream.foreach_rdd(move |rdd, _| noted.add(rdd.id()));
    }
    let noted = ids.clone();
    sink(&stream.transform(move |rdd, _| (noted.add(rdd.id()), rdd).1));
    test.ssc().start().unwrap();
    advance(&test, 1, 2);
    assert_eq!(calls.all(), [1000, 2000]);
    let ids = ids.all();
    assert_eq!(ids.len(), 6);
    assert!(ids[..3].iter().all(|id| *id == ids[0]) && ids[3..].iter().all(|id| *id == ids[3]), "{ids:?}");
    assert_ne!(ids[0], ids[3]);
}

#[test]
fn s13_a_parent_without_an_rdd_gives_none_and_the_batch_has_no_job() {
    let passes: [(&str, fn(&DStream<i32>)); 12] = [
        ("itself", |s| sink(s)),
        ("map", |s| sink(&s.map(|n| n))),
        ("filter", |s| sink(&s.filter(|_| true))),
        ("flat_map", |s| sink(&s.flat_map(|n| [n]))),
        ("flat_map_into", |s| sink(&s.flat_map_into(|n, out: &mut Vec<i32>| out.push(n)))),
        ("glom", |s| sink(&s.glom())),
        ("map_partitions", |s| sink(&s.map_partitions(|items| items))),
        ("map_values", |s| sink(&s.map(|n| (n, n)).map_values(|n| n).flat_map_values(|n| [n]))),
        ("reduce_by_key", |s| sink(&s.map(|n| (n, n)).reduce_by_key(|a, _| a).group_by_key())),
        ("count", |s| sink(&s.count())),
        ("count_by_value", |s| sink(&s.count_by_value())),
        ("repartition", |s| sink(&s.repartition(3).reduce(|a, _| a))),
    ];
    for (name, program) in passes {
        let mut test = StreamTest::new();
        let story = Story::of(test.ssc());
        program(&test.input(batches![[1], MISSING, [3]]));
        test.run(3).unwrap();
        let told = story.told(test.ssc());
        let completed: Vec<_> = told.iter().filter(|line| line.ends_with("completed")).collect();
        assert_eq!(completed, ["1000 ms completed", "3000 ms completed"], "{name}: S-116, nothing is posted");
        assert!(!told.iter().any(|line| line.starts_with("2000")), "{name}: {told:?}");
    }
}

#[test]
fn s13_an_operation_that_needs_an_rdd_of_each_parent_fails_without_one() {
    let fails: [(&str, fn(&StreamingContext, &DStream<i32>, &DStream<i32>)); 7] = [
        ("union", |_, a, b| sink(&a.union(b))),
        ("transform", |_, _, b| sink(&b.transform(|rdd, _| rdd))),
        ("transform_with", |_, a, b| sink(&a.transform_with(b, |a, _, _| a))),
        ("join", |_, a, b| sink(&a.map(|n| (n, 1)).join(&b.map(|n| (n, 2))))),
        ("cogroup", |_, a, b| sink(&a.map(|n| (n, 1)).cogroup(&b.map(|n| (n, 2))))),
        ("union", |ssc, a, b| sink(&ssc.union(&[a.clone(), b.clone()]))),
        ("transform", |ssc, a, b| sink(&ssc.transform(&[a.clone(), b.clone()], |mut rdds, _| rdds.remove(0)))),
    ];
    for (name, program) in fails {
        let test = continuing();
        let (a, b) = (test.input(batches![[1], [2], [3]]), test.input(batches![[1], MISSING, [3]]));
        program(test.ssc(), &a, &b);
        let whole = batches_of(&a);
        test.ssc().start().unwrap();
        advance(&test, 1, 3);
        let error = failure(test.ssc());
        assert_eq!((error.kind(), error.batch()), (ErrorKind::Graph, Some(at(2))), "{error}");
        assert!(error.message().contains(name) && error.message().contains("needs an Rdd of each parent"), "{error}");
        assert_eq!(error.site().map(|site| site.op()), Some(name), "{error}");
        assert_eq!(whole.all(), [1000, 3000], "S-120: that batch is lost, and later ones go on");
    }
}

#[test]
fn s15_transform_runs_while_a_batch_is_planned_and_foreach_when_its_job_runs() {
    let test = StreamTest::new();
    let threads = Notes::default();
    let note = |threads: &Notes<String>| threads.add(std::thread::current().name().unwrap_or_default().to_owned());
    let (planner, runner) = (threads.clone(), threads.clone());
    let stream = test.input(numbers()).transform(move |rdd, _| (note(&planner), rdd).1);
    stream.foreach_rdd(move |_, _| note(&runner));
    test.ssc().start().unwrap();
    advance(&test, 1, 1);
    let threads = threads.all();
    assert_eq!(threads.len(), 2);
    assert!(threads[0].contains("batch") && threads[1].contains("job"), "{threads:?}");
}

#[test]
fn s15_a_transform_that_panics_fails_the_batch_at_its_line() {
    for stop in [true, false] {
        let test = if stop { StreamTest::new() } else { continuing() };
        let line = line!() + 1;
        let stream = test.input(numbers()).transform(|rdd, time| (assert_ne!(time, at(2), "no such luck"), rdd).1);
        let seen = batches_of(&stream);
        let story = Story::of(test.ssc());
        test.ssc().start().unwrap();
        advance(&test, 1, 3);
        let error = failure(test.ssc());
        assert_eq!((error.kind(), error.batch()), (ErrorKind::User, Some(at(2))), "{error}");
        assert_eq!(error.site().map(|site| (site.op(), site.line())), Some(("transform", line)), "{error}");
        assert!(error.to_string().contains("no such luck"), "{error}");
        assert_eq!(seen.all(), if stop { vec![1000] } else { vec![1000, 3000] });
        assert!(!story.0.all().iter().any(|line| line.starts_with("2000")), "it was never handed over");
    }
}

#[test]
fn s74_rdds_carry_the_operation_and_the_time_of_the_batch_that_they_were_made_for() {
    let test = StreamTest::new();
    let labels = Notes::default();
    let noted = labels.clone();
    let input = test.input(numbers());
    let pairs = input.map(|n| (n % 2, 1)).reduce_by_key(|a, b| a + b);
    let doubled = pairs.transform(|rdd, _| rdd.map(|pair| pair).filter(|_| true));
    doubled.foreach_rdd(move |rdd, _| {
        let mut told = Vec::new();
        let mut of =
            |rdd: &Rdd<(i32, i32)>| told.push((rdd.node().site().op(), rdd.scope().map(|scope| scope.to_string())));
        of(&rdd);
        of(&rdd.map(|pair| pair));
        noted.add(told);
        Ok(())
    });
    pairs.foreach_rdd(|_, _| Ok(()));
    test.ssc().start().unwrap();
    advance(&test, 1, 1);
    let label = |text: &str| Some(text.to_owned());
    let want = vec![("filter", label("transform @ 00:00:01")), ("map", label("foreach_rdd\n@ 00:00:01"))];
    assert_eq!(
        labels.all(),
        [want],
        "what the program calls itself has its own name, inside of the operation that called it"
    );
}

#[test]
fn s16_an_action_inside_transform_runs_at_once_and_holds_up_the_batches_behind() {
    let test = StreamTest::new();
    let order = Notes::default();
    let noted = order.clone();
    let stream = test.input(numbers()).transform(move |rdd, time| {
        let sum = rdd.fold(0, |a, b| a + b).unwrap();
        noted.add(format!("{} sum {sum}", time.as_millis()));
        rdd.map(move |n| n * 100 + sum)
    });
    let noted = order.clone();
    stream.foreach_rdd(move |rdd, time| {
        noted.add(format!("{} {:?}", time.as_millis(), rdd.collect()?));
        Ok(())
    });
    test.ssc().start().unwrap();
    advance(&test, 1, 2);
    assert_eq!(order.all(), ["1000 sum 1", "1000 [101]", "2000 sum 2", "2000 [202]"]);
}

// -------------------------------------------------------------------------------------------- remembering and clearing

/// Runs five batches and returns how many blocks are kept after each.
fn kept(test: &StreamTest, program: impl Fn(&StreamTest) -> DStream<i32>) -> Vec<usize> {
    sink(&program(test));
    test.ssc().start().unwrap();
    let blocks = |s| {
        advance(test, s, s);
        test.ssc().context().env().blocks.usage().blocks
    };
    (1..=5).map(blocks).collect()
}

#[test]
fn s22_only_the_current_batch_survives_unless_more_is_remembered() {
    let one = || Check::new(1, 1).context();
    let cached = |test: &StreamTest| test.input(numbers()).map(|n| n).cache();
    assert_eq!(kept(&one(), cached), [1; 5], "S-17: a stream remembers its slide");

    let persisted = |test: &StreamTest| test.input(numbers()).persist(StorageLevel::MEMORY_ONLY_SER).map(|n| n);
    assert_eq!(kept(&one(), persisted), [1; 5], "S-19: so do its parents");

    let test = one();
    test.ssc().remember(secs(3));
    assert_eq!(kept(&test, persisted), [1, 2, 3, 3, 3], "S-26: what the context remembers, every stream does");

    // A program that keeps the Rdds of batches for itself.
    let by_stream = |test: &StreamTest, held: Notes<Rdd<i32>>| {
        let stream = test.input(numbers()).map(|n| n).cache();
        stream.foreach_rdd(move |rdd, _| held.add(rdd));
        stream
    };
    let by_hand = |test: &StreamTest, held: Notes<Rdd<i32>>| {
        let stream = test.input(numbers()).transform(|rdd, _| rdd.map(|n| n).cache());
        stream.foreach_rdd(move |rdd, _| held.add(rdd));
        stream
    };
    let all = [1, 2, 3, 4, 5];
    let held = Notes::default();
    assert_eq!(kept(&one(), |test| by_stream(test, held.clone())), [1; 5], "what a stream keeps is let go");
    assert_eq!(kept(&one(), |test| by_hand(test, held.clone())), all, "what a program keeps is the program's");
    let test = Check::new(1, 1).with_conf(secs(1), |conf| conf.streaming.unpersist = false);
    assert_eq!(kept(&test, |test| by_stream(test, held.clone())), all, "and all is, where that is the setting");
}

#[test]
fn s22_nothing_is_let_go_before_all_outputs_have_ended_well() {
    let test = Check::new(1, 1).with_conf(secs(1), |conf| conf.streaming.on_failure = OnFailure::Continue);
    let stream = test.input(numbers()).cache();
    sink(&stream);
    stream.foreach_rdd(|_, time| -> Result<()> {
        if time == at(2) || time == at(3) { Err("refused".into()) } else { Ok(()) }
    });
    test.ssc().start().unwrap();
    let blocks: Vec<_> = (1..=4)
        .map(|s| {
            advance(&test, s, s);
            test.ssc().context().env().blocks.usage().blocks
        })
        .collect();
    assert_eq!(blocks, [1, 2, 3, 1]);
}

#[test]
fn s26_remember_without_a_completed_batch_clears_nothing_and_a_huge_one_never_does() {
    let test = Check::new(1, 1).context();
    test.ssc().remember(Duration::MAX);
    assert_eq!(kept(&test, |test| test.input(numbers()).cache()), [1, 2, 3, 4, 5]);
}

// -------------------------------------------------------------------------------------------------- jobs and listeners

#[test]
fn s112_outputs_run_in_the_order_of_the_program_and_listeners_are_told_in_order() {
    let test = continuing();
    let story = Story::of(test.ssc());
    let (stream, other) = (test.input(batches![[1, 2], [3]]), test.input(batches![[4], MISSING]));
    let order = Notes::default();
    for name in ["a", "b"] {
        let noted = order.clone();
        stream.foreach_rdd(move |_, time| noted.add((name, time.as_millis())));
    }
    other.foreach_rdd(|_, _| -> Result<()> { Err("refused".into()) });
    test.ssc().start().unwrap();
    advance(&test, 1, 2);
    assert_eq!(order.all(), [("a", 1000), ("b", 1000), ("a", 2000), ("b", 2000)]);
    let want = [
        "started at 0 ms",
        "1000 ms submitted, 3 records",
        "1000 ms began",
        "1000 ms output 0 began",
        "1000 ms output 0 ended",
        "1000 ms output 1 began",
        "1000 ms output 1 ended",
        "1000 ms output 2 began",
        "1000 ms output 2 ended: refused",
        "1000 ms completed",
        "2000 ms submitted, 1 records",
        "2000 ms began",
        "2000 ms output 0 began",
        "2000 ms output 0 ended",
        "2000 ms output 1 began",
        "2000 ms output 1 ended",
        "2000 ms completed",
    ];
    assert_eq!(story.told(test.ssc()), want);
}

#[test]
fn s114_with_one_job_at_a_time_batches_never_overlap_and_with_more_they_may() {
    for (jobs, overlaps) in [(1, false), (2, true)] {
        let test = Check::new(2, 2).with_conf(secs(1), |conf| conf.streaming.concurrent_jobs = jobs);
        let (begun, begins) = channel();
        let (done, dones) = channel();
        let (go, gone) = channel::<()>();
        let gone = Mutex::new(gone);
        let (asked, ended) = (Notes::default(), Notes::default());
        let noted = ended.clone();
        test.ssc().input(Asked(asked.clone())).foreach_rdd(move |_, time| {
            let _ = begun.send(time.as_millis());
            if time == at(1) {
                let _ = lock(&gone).recv();
            }
            noted.add(time.as_millis());
            let _ = done.send(time.as_millis());
        });
        test.ssc().start().unwrap();
        test.clock().advance_to(at(2));
        if overlaps {
            // Which of two threads gets first to its first line, nobody can promise.
            let mut both = [within("a batch", &begins), within("the other batch", &begins)];
            both.sort_unstable();
            assert_eq!(both, [1000, 2000]);
            assert_eq!(within("the end of the second batch", &dones), 2000);
        } else {
            assert_eq!(within("a batch", &begins), 1000);
        }
        drop(go);
        assert!(test.ssc().await_batch(at(2)));
        assert_eq!(ended.all(), if overlaps { [2000, 1000] } else { [1000, 2000] });
        let commits: Vec<_> = asked.all().into_iter().filter(|line| line.starts_with("commit")).collect();
        assert_eq!(commits, ["commit 1", "commit 2"], "commits keep the order of times");
    }
}

#[test]
fn s122_delays_are_what_their_names_say() {
    struct Infos(Notes<BatchInfo>);
    impl StreamingListener for Infos {
        fn on_batch_completed(&self, batch: &BatchInfo) {
            self.0.add(batch.clone());
        }
    }
    let (test, infos) = (StreamTest::new(), Notes::default());
    test.ssc().add_streaming_listener(Infos(infos.clone()));
    let clock = test.clock().clone();
    test.input(numbers()).foreach_rdd(move |_, _| clock.advance(millis(30)));
    test.ssc().start().unwrap();
    test.clock().advance_to(Time::from_millis(1020));
    assert!(test.ssc().await_batch(at(1)));
    test.ssc().flush_listeners();
    let info = &infos.all()[0];
    assert_eq!((info.batch_time, info.submission_time), (at(1), Time::from_millis(1020)));
    assert_eq!(info.stamps.late, millis(20));
    assert_eq!(info.scheduling_delay(), Some(Duration::ZERO));
    assert_eq!((info.processing_delay(), info.total_delay()), (Some(millis(30)), Some(millis(30))));
    assert_eq!(info.outputs[0].duration(), Some(millis(30)));
    assert!(info.outputs[0].name().starts_with("foreach_rdd at "), "{}", info.outputs[0].name());
}

#[test]
fn what_an_output_says_of_a_batch_comes_to_listeners_with_its_end_and_no_other_output_says_it() {
    struct Infos(Notes<BatchInfo>);
    impl StreamingListener for Infos {
        fn on_batch_completed(&self, batch: &BatchInfo) {
            self.0.add(batch.clone());
        }
    }
    let (mut test, infos) = (StreamTest::new(), Notes::default());
    test.ssc().add_streaming_listener(Infos(infos.clone()));
    let stream = test.input(batches![[1, 2], [3]]);
    stream.foreach_batch(|rdd, batch| -> Result<()> {
        batch.note("count", "not yet");
        batch.note("count", rdd.count()?.to_string());
        Ok(())
    });
    stream.foreach_rdd(|_, _| ());
    test.run(2).unwrap();
    test.ssc().flush_listeners();
    let said: Vec<_> = infos.all().iter().map(|batch| batch.outputs[0].metadata["count"].clone()).collect();
    assert_eq!(said, ["2", "1"]);
    assert!(infos.all().iter().all(|batch| batch.outputs[1].metadata.is_empty()));
}

#[test]
fn ls_listeners_come_and_go_while_batches_run_and_one_that_panics_is_left_out() {
    struct Panics;
    impl StreamingListener for Panics {
        fn on_batch_started(&self, _: &BatchInfo) {
            panic!("this listener is broken")
        }
    }
    let test = StreamTest::new();
    test.ssc().add_streaming_listener(Panics);
    sink(&test.input(numbers()));
    test.ssc().start().unwrap();
    advance(&test, 1, 1);
    test.ssc().flush_listeners();
    let story = Story::default();
    let id = test.ssc().add_streaming_listener(story.clone());
    advance(&test, 2, 2);
    assert_eq!(story.told(test.ssc()).last().map(String::as_str), Some("2000 ms completed"));
    test.ssc().remove_streaming_listener(id);
    let told = story.0.len();
    advance(&test, 3, 3);
    test.ssc().flush_listeners();
    assert_eq!(story.0.len(), told);
    assert!(!test.ssc().await_termination_or_timeout(Duration::ZERO).unwrap());
}

#[test]
fn an_action_in_a_closure_of_a_task_is_refused_and_fails_its_batch_only() {
    let test = continuing();
    let stream = test.input(numbers());
    let engine = test.ssc().context().clone();
    let broken = stream.map(move |n| engine.parallelize(vec![n], 1).count().map_or(0, |count| count as i32));
    let items = gather(&broken);
    test.ssc().start().unwrap();
    advance(&test, 1, 2);
    assert_eq!(items.all(), [0, 0], "the closure is told so, and decides itself");
}
