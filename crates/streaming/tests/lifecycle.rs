//! The life of a context: SC22 to SC27, S-123, S-124, S-127 to S-132, S-136, S-137, S-26, and mistakes in the graph.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use common::{Notes, Story, advance, assert_error, at, batches_of, beside, continuing, ends, failure, gather, sink};
use millstream_core::clock::ManualClock;
use millstream_core::{Context, Error, ErrorKind, Result, Time, millis, secs};
use millstream_streaming::{
    BatchInfo, Conf, DStream, InputContext, InputSource, Rate, RddQueue, Stop, StreamingConf, StreamingContext,
    StreamingContextState, StreamingListener,
};
use millstream_testkit::{Batches, Check, StreamTest, batches};

fn numbers() -> Batches<i32> {
    batches![[1], [2], [3]]
}

// ------------------------------------------------------------------------------------------------- the states

#[test]
fn sc22_a_context_is_initialized_then_active_then_stopped() {
    let test = StreamTest::new();
    let ssc = test.ssc();
    sink(&test.input(numbers()));
    assert_eq!(ssc.state(), StreamingContextState::Initialized);
    ssc.start().unwrap();
    assert_eq!(ssc.state(), StreamingContextState::Active);
    ssc.stop().unwrap();
    assert_eq!(ssc.state(), StreamingContextState::Stopped);
}

#[test]
fn sc23_a_second_start_does_nothing() {
    let test = StreamTest::new();
    let seen = batches_of(&test.input(numbers()));
    let story = Story::of(test.ssc());
    test.ssc().start().unwrap();
    advance(&test, 1, 1);
    test.ssc().start().unwrap();
    assert_eq!(test.ssc().state(), StreamingContextState::Active);
    advance(&test, 2, 2);
    assert_eq!(seen.all(), [1000, 2000]);
    let starts = story.told(test.ssc()).iter().filter(|line| line.starts_with("started")).count();
    assert_eq!(starts, 1);
    assert!(test.ssc().errors().is_empty());
}

#[test]
fn s136_a_stopped_context_cannot_be_started() {
    let test = StreamTest::new();
    sink(&test.input(numbers()));
    test.ssc().start().unwrap();
    test.ssc().stop().unwrap();
    assert_error(test.ssc().start(), ErrorKind::Stopped, &["already been stopped"]);
    assert_eq!(test.ssc().state(), StreamingContextState::Stopped);
}

#[test]
fn s124_a_context_without_outputs_is_refused_and_is_stopped_then() {
    let test = StreamTest::new();
    let _ = test.input(numbers()).map(|x| x + 1);
    assert_error(test.ssc().start(), ErrorKind::Graph, &["no output operations registered, so nothing to execute"]);
    assert_eq!(test.ssc().state(), StreamingContextState::Stopped, "S-137");
    assert_error(test.ssc().start(), ErrorKind::Stopped, &["already been stopped"]);
    assert!(test.ssc().await_termination_or_timeout(Duration::ZERO).unwrap());
}

#[test]
fn s124_an_empty_context_is_refused() {
    assert_error(StreamTest::new().ssc().start(), ErrorKind::Graph, &["no output operations"]);
}

#[test]
fn s132_a_stop_before_the_start_is_the_end() {
    let test = StreamTest::new();
    sink(&test.input(numbers()));
    test.ssc().stop().unwrap();
    assert_eq!(test.ssc().state(), StreamingContextState::Stopped);
    assert_error(test.ssc().start(), ErrorKind::Stopped, &["already been stopped"]);
}

#[test]
fn s132_stops_may_be_repeated_in_any_order() {
    for (first, second) in [(Stop::now(), Stop::gracefully()), (Stop::gracefully(), Stop::now())] {
        let test = StreamTest::new();
        sink(&test.input(numbers()));
        test.ssc().start().unwrap();
        advance(&test, 1, 1);
        test.ssc().stop_with(first).unwrap();
        test.ssc().stop_with(second).unwrap();
        assert_eq!(test.ssc().state(), StreamingContextState::Stopped);
    }
}

#[test]
fn sc27_a_stop_that_keeps_the_engine_leaves_it_usable_and_a_later_one_may_end_it() {
    let test = StreamTest::new();
    sink(&test.input(numbers()));
    test.ssc().start().unwrap();
    advance(&test, 1, 1);
    test.ssc().stop_with(Stop::now().keep_context()).unwrap();
    let engine = test.ssc().context();
    assert_eq!(engine.parallelize(vec![1, 2], 2).count().unwrap(), 2);

    let conf = StreamingConf { exclusive: false, ..StreamingConf::default() };
    let again = StreamingContext::on(engine, conf, secs(1)).unwrap();
    let queue = RddQueue::new();
    queue.push(engine.parallelize(vec![7], 1));
    let got = gather(&again.queue_stream(&queue));
    again.start().unwrap();
    test.clock().advance_to(at(2));
    assert!(again.await_batch(at(2)));
    assert_eq!(got.all(), [7], "another streaming context runs on the same engine");
    again.stop_with(Stop::now().keep_context()).unwrap();

    test.ssc().stop_with(Stop::now().and_context()).unwrap();
    assert_error(engine.parallelize(vec![1], 1).count(), ErrorKind::Stopped, &["stopped"]);
}

#[test]
fn sc26_whether_a_stop_ends_the_engine_is_a_setting() {
    let test = Check::new(1, 1).with_conf(secs(1), |conf| conf.streaming.stop_context_by_default = false);
    test.ssc().stop().unwrap();
    assert!(!test.ssc().context().is_stopped());
    let test = Check::new(1, 1).context();
    test.ssc().stop().unwrap();
    assert!(test.ssc().context().is_stopped());
}

#[test]
fn sc01_an_interval_is_whole_milliseconds_from_one_to_a_day() {
    let engine = Context::new("local[1]", "intervals").unwrap();
    let day = secs(86_400);
    for good in [millis(1), millis(1500), day] {
        let ssc = StreamingContext::on(&engine, StreamingConf::default(), good).unwrap();
        assert_eq!(ssc.interval(), good);
    }
    for bad in [Duration::ZERO, Duration::from_micros(999), Duration::from_micros(1500), day + millis(1), Duration::MAX]
    {
        let parts = ["the batch interval must be", "lifecycle.rs"];
        assert_error(StreamingContext::on(&engine, StreamingConf::default(), bad), ErrorKind::Config, &parts);
        assert_error(StreamingContext::new("local[1]", "intervals", bad), ErrorKind::Config, &parts);
    }
}

// ------------------------------------------------------------------------------------------------------ waiting

#[test]
fn sc25_a_wait_with_a_timeout_says_whether_the_context_stopped() {
    let test = StreamTest::new();
    sink(&test.input(numbers()));
    let ssc = test.ssc();
    assert!(!ssc.await_termination_or_timeout(Duration::ZERO).unwrap(), "before the start");
    ssc.start().unwrap();
    assert!(!ssc.await_termination_or_timeout(Duration::ZERO).unwrap());
    assert!(!ssc.await_termination_or_timeout(millis(1)).unwrap());
    ssc.stop().unwrap();
    assert!(ssc.await_termination_or_timeout(Duration::ZERO).unwrap());
    ssc.await_termination().unwrap();
}

#[test]
fn sc25_a_timeout_without_end_is_a_wait_for_the_end() {
    let test = StreamTest::new();
    sink(&test.input(numbers()));
    test.ssc().start().unwrap();
    let ssc = test.ssc().clone();
    let (_thread, waited) = beside(move || ssc.await_termination_or_timeout(Duration::MAX));
    test.ssc().stop().unwrap();
    assert!(common::within("the wait", &waited).unwrap());
}

#[test]
fn sc24_a_stop_by_another_thread_ends_the_wait() {
    let test = StreamTest::new();
    sink(&test.input(numbers()));
    test.ssc().start().unwrap();
    let ssc = test.ssc().clone();
    let (_thread, stopped) = beside(move || ssc.stop());
    let ssc = test.ssc().clone();
    ends("await_termination", move || ssc.await_termination()).unwrap();
    common::within("the stop", &stopped).unwrap();
    assert_eq!(test.ssc().state(), StreamingContextState::Stopped);
}

#[test]
fn sc24_a_failed_batch_ends_the_wait_with_its_error_again_and_again() {
    let test = StreamTest::new();
    test.input(numbers()).foreach_rdd(|_, _| -> Result<()> { Err("no space in the sink".into()) });
    test.ssc().start().unwrap();
    let ssc = test.ssc().clone();
    let (_thread, waited) = beside(move || ssc.await_termination());
    test.clock().advance_to(at(1));
    let error = common::within("the wait", &waited).unwrap_err();
    assert!(error.to_string().contains("no space in the sink"), "{error}");
    assert_eq!(test.ssc().state(), StreamingContextState::Stopped, "a failure stops the context by default");
    for _ in 0..2 {
        assert_eq!(failure(test.ssc()).to_string(), error.to_string());
    }
    assert_error(test.ssc().start(), ErrorKind::Stopped, &["already been stopped"]);
}

// ----------------------------------------------------------------------------------------------------- stopping

#[test]
fn s127_a_stop_right_after_the_start_ends_before_any_batch() {
    for how in [Stop::now(), Stop::gracefully()] {
        let test = StreamTest::new();
        let seen = batches_of(&test.input(numbers()));
        test.ssc().start().unwrap();
        let ssc = test.ssc().clone();
        ends("the stop", move || ssc.stop_with(how)).unwrap();
        assert_eq!(seen.len(), 0);
        assert!(test.ssc().await_termination_or_timeout(Duration::ZERO).unwrap());
    }
}

#[test]
fn s127_a_stop_abandons_batches_that_have_not_begun() {
    let test = StreamTest::new();
    let (begun, begins) = channel();
    let (go, gone) = channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let seen = Notes::default();
    let noted = seen.clone();
    test.input(numbers()).foreach_rdd(move |_, time| {
        noted.add(time.as_millis());
        let _ = begun.send(());
        let _ = gone.lock().unwrap().recv();
    });
    test.ssc().start().unwrap();
    test.clock().advance_to(at(3));
    common::within("the first batch", &begins);
    let ssc = test.ssc().clone();
    let (_thread, stopped) = beside(move || ssc.stop());
    // The engine is stopped last, so jobs are abandoned when this comes back; only then the output goes on.
    common::within("the stop, which leaves a stuck output behind", &stopped).unwrap();
    drop(go);
    assert_eq!(seen.all(), [1000]);
    assert_eq!(test.ssc().state(), StreamingContextState::Stopped);
}

#[test]
fn s127_a_job_that_a_stop_cancels_is_no_error_of_the_program() {
    let test = StreamTest::new();
    let (begun, begins) = channel();
    test.input(numbers()).foreach_rdd(move |rdd, _| -> Result<()> {
        let _ = begun.send(());
        // Until one of them is cancelled.
        loop {
            rdd.count()?;
        }
    });
    test.ssc().start().unwrap();
    test.clock().advance_to(at(1));
    common::within("the first batch", &begins);
    test.ssc().stop().unwrap();
    assert!(test.ssc().await_termination_or_timeout(Duration::ZERO).unwrap(), "it is stopped, and nothing failed");
}

#[test]
fn s128_a_graceful_stop_runs_the_batches_that_are_due() {
    for _ in 0..20 {
        let test = StreamTest::new();
        let seen = batches_of(&test.input(numbers()));
        test.ssc().start().unwrap();
        test.clock().advance_to(at(3));
        test.ssc().stop_gracefully().unwrap();
        assert_eq!(seen.all(), [1000, 2000, 3000]);
    }
}

#[test]
fn s128_a_graceful_stop_waits_for_batches_that_run() {
    let test = StreamTest::new();
    let (begun, begins) = channel();
    let (go, gone) = channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let ended = Notes::default();
    let noted = ended.clone();
    test.input(numbers()).foreach_rdd(move |_, time| {
        let _ = begun.send(());
        let _ = gone.lock().unwrap().recv();
        noted.add(time.as_millis());
    });
    test.ssc().start().unwrap();
    test.clock().advance_to(at(2));
    common::within("the first batch", &begins);
    let ssc = test.ssc().clone();
    let (_thread, stopped) = beside(move || ssc.stop_gracefully());
    assert_eq!(test.ssc().state(), StreamingContextState::Active);
    drop(go);
    common::within("the stop", &stopped).unwrap();
    assert_eq!(ended.all(), [1000, 2000]);
}

#[test]
fn s129_a_graceful_stop_gives_up_after_its_timeout() {
    let test = Check::new(1, 1).with_conf(secs(1), |conf| {
        conf.streaming.graceful_stop_timeout = Some(millis(10));
    });
    let (begun, begins) = channel();
    let (go, gone) = channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    test.input(numbers()).foreach_rdd(move |_, _| {
        let _ = begun.send(());
        let _ = gone.lock().unwrap().recv();
    });
    test.ssc().start().unwrap();
    test.clock().advance_to(at(1));
    common::within("the batch", &begins);
    let ssc = test.ssc().clone();
    ends("the graceful stop", move || ssc.stop_gracefully()).unwrap();
    assert_eq!(test.ssc().state(), StreamingContextState::Stopped);
    drop(go);
}

#[test]
fn s130_a_graceful_stop_does_not_wait_for_a_batch_that_failed() {
    let test = continuing();
    test.input(numbers()).foreach_rdd(|_, _| -> Result<()> { Err("refused".into()) });
    test.ssc().start().unwrap();
    test.clock().advance_to(at(2));
    let ssc = test.ssc().clone();
    ends("the graceful stop", move || ssc.stop_gracefully()).unwrap();
    assert!(failure(test.ssc()).to_string().contains("refused"));
}

#[test]
fn s123_a_stop_by_an_output_returns_and_leads_to_the_end() {
    let test = StreamTest::new();
    let (told, tells) = channel();
    let ssc = test.ssc().clone();
    test.input(numbers()).foreach_rdd(move |_, _| {
        let _ = told.send(ssc.stop());
    });
    test.ssc().start().unwrap();
    test.clock().advance_to(at(1));
    common::within("the stop", &tells).unwrap();
    let ssc = test.ssc().clone();
    ends("the wait", move || ssc.await_termination()).unwrap();
    assert_eq!(test.ssc().state(), StreamingContextState::Stopped);
    assert!(test.ssc().context().is_stopped(), "the engine is stopped with it");
}

#[test]
fn s123_a_graceful_stop_by_an_output_runs_what_is_due_to_its_end() {
    let test = StreamTest::new();
    let (seen, ssc) = (Notes::default(), test.ssc().clone());
    let noted = seen.clone();
    let (go, gone) = channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    test.input(numbers()).foreach_rdd(move |rdd, time| {
        if time == at(1) {
            // All three batches are due by now.
            let _ = gone.lock().unwrap().recv();
            ssc.stop_gracefully()?;
        }
        noted.add((time.as_millis(), rdd.collect()?));
        Ok(())
    });
    test.ssc().start().unwrap();
    test.clock().advance_to(at(3));
    drop(go);
    let ssc = test.ssc().clone();
    ends("the wait", move || ssc.await_termination()).unwrap();
    assert_eq!(seen.all(), [(1000, vec![1]), (2000, vec![2]), (3000, vec![3])]);
    assert!(test.ssc().context().is_stopped());
}

#[test]
fn s123_a_stop_while_a_batch_is_planned_returns_and_leads_to_the_end() {
    for how in [Stop::now(), Stop::gracefully()] {
        let test = StreamTest::new();
        let (ssc, (told, tells)) = (test.ssc().clone(), channel());
        let stream = test.input(numbers()).transform(move |rdd, _| {
            let _ = told.send(ssc.stop_with(how));
            rdd
        });
        sink(&stream);
        test.ssc().start().unwrap();
        test.clock().advance_to(at(1));
        common::within("the stop", &tells).unwrap();
        let ssc = test.ssc().clone();
        ends("the wait", move || ssc.await_termination()).unwrap();
        assert_eq!(test.ssc().state(), StreamingContextState::Stopped);
    }
}

/// Calls what may not be called by a listener, and notes the answers.
struct Meddler(StreamingContext, Notes<String>);

impl StreamingListener for Meddler {
    fn on_batch_completed(&self, _: &BatchInfo) {
        for answer in [
            self.0.stop().map(|()| true),
            self.0.stop_gracefully().map(|()| true),
            self.0.await_termination().map(|()| true),
            self.0.await_termination_or_timeout(secs(3600)),
        ] {
            self.1.add(answer.map_or_else(|error| error.to_string(), |_| "done".to_owned()));
        }
        self.0.flush_listeners();
        assert_eq!(self.0.state(), StreamingContextState::Active);
    }
}

#[test]
fn s123_a_listener_can_neither_stop_the_context_nor_wait_for_it() {
    let test = StreamTest::new();
    sink(&test.input(numbers()));
    let answers = Notes::default();
    let id = test.ssc().add_streaming_listener(Meddler(test.ssc().clone(), answers.clone()));
    test.ssc().start().unwrap();
    advance(&test, 1, 2);
    let ssc = test.ssc().clone();
    ends("telling the listener", move || ssc.flush_listeners());
    test.ssc().remove_streaming_listener(id);
    assert_eq!(answers.len(), 8, "it is told of both batches");
    for answer in answers.all() {
        assert!(answer.contains("within listener bus thread"), "{answer}");
    }
    assert_eq!(test.ssc().state(), StreamingContextState::Active);
}

/// Stops the context from a listener while the context is already stopping.
struct LateMeddler(StreamingContext);

impl StreamingListener for LateMeddler {
    fn on_batch_completed(&self, _: &BatchInfo) {
        // An addition that is refused tells how far the stop has come.
        let stopping = || {
            let _ = self.0.union::<i32>(&[]);
            self.0.errors().last().is_some_and(|error| error.to_string().contains("after stopping"))
        };
        while !stopping() {
            std::thread::yield_now();
        }
        for _ in 0..10_000 {
            assert!(self.0.stop().is_err());
        }
    }
}

#[test]
fn s123_a_stop_by_a_listener_is_refused_also_while_the_context_stops() {
    let test = StreamTest::new();
    sink(&test.input(numbers()));
    test.ssc().add_streaming_listener(LateMeddler(test.ssc().clone()));
    test.ssc().start().unwrap();
    advance(&test, 1, 1);
    let ssc = test.ssc().clone();
    ends("the stop", move || ssc.stop()).unwrap();
}

#[test]
fn s127_the_last_handle_that_goes_stops_the_context() {
    let token = Arc::new(());
    let clock = ManualClock::new(Time::ZERO);
    let mut conf = Conf::new("local[1]", "dropped").unwrap();
    conf.streaming.exclusive = false;
    let ssc = StreamingContext::builder(conf, secs(1)).with_clock(Arc::new(clock.clone())).build().unwrap();
    let (queue, kept) = (RddQueue::<i32>::new(), Arc::clone(&token));
    ssc.queue_stream(&queue).foreach_rdd(move |_, _| {
        let _ = &kept;
    });
    ssc.start().unwrap();
    clock.advance_to(at(1));
    assert!(ssc.await_batch(at(1)));
    ends("the drop", move || drop(ssc));
    assert_eq!(Arc::strong_count(&token), 1, "the graph and its closures are gone");
}

// ------------------------------------------------------------------------------------------------ failing starts

/// A source that may fail to start.
struct Source {
    start: fn() -> Result<()>,
    notes: Notes<&'static str>,
}

impl InputSource for Source {
    type Item = i32;
    type Allocation = ();

    fn allocate(&mut self, _: Time, _: Option<Rate>) -> Result<()> {
        Ok(())
    }

    fn rdd(&self, _: &(), context: &Context) -> Result<Option<millstream_core::Rdd<i32>>> {
        Ok(Some(context.parallelize(vec![1], 1)))
    }

    fn start(&mut self, _: &InputContext) -> Result<()> {
        self.notes.add("start");
        (self.start)()
    }

    fn stop(&mut self, _: bool) {
        self.notes.add("stop");
    }
}

#[test]
fn s137_an_input_that_cannot_start_stops_the_context_and_names_its_line() {
    fn fails() -> Result<()> {
        Err(Error::new(ErrorKind::Unavailable, "the broker is away"))
    }
    fn panics() -> Result<()> {
        panic!("the broker is away")
    }
    for (start, kind) in [(fails as fn() -> Result<()>, ErrorKind::Unavailable), (panics, ErrorKind::User)] {
        let test = StreamTest::new();
        let (first, third) = (Notes::default(), Notes::default());
        sink(&test.ssc().input(Source { start: || Ok(()), notes: first.clone() }));
        let (bad, line) = (test.ssc().input(Source { start, notes: Notes::default() }), line!());
        sink(&bad);
        sink(&test.ssc().input(Source { start: || Ok(()), notes: third.clone() }));
        let ssc = test.ssc().clone();
        let error = ends("the start", move || ssc.start()).unwrap_err();
        assert_eq!((error.kind(), error.site().map(|site| site.line())), (kind, Some(line)), "{error}");
        assert!(error.to_string().contains("the broker is away"), "{error}");
        assert_eq!(test.ssc().state(), StreamingContextState::Stopped);
        assert_eq!(first.all(), ["start", "stop"], "what had started is stopped");
        assert_eq!(third.len(), 0);
    }
}

#[test]
fn all_mistakes_of_a_graph_are_reported_at_once_with_their_lines() {
    let (test, other) = (StreamTest::new(), StreamTest::new());
    let foreign = other.input(numbers());
    let ssc = test.ssc();
    let mine = test.input(numbers());
    let begin = line!();
    let _ = mine.union(&foreign);
    let _ = mine.transform_with(&foreign, |a, _, _| a);
    let _ = mine.map(|x| (x, 1)).join(&foreign.map(|x| (x, 1)));
    let _ = ssc.union::<i32>(&[]);
    let _ = ssc.transform(&[] as &[DStream<i32>], |mut rdds, _| rdds.remove(0));
    let _ = mine.repartition(0);
    let _ = ssc.binary_records_stream("records", 0);
    let _ = mine.uid("twice").map(|x| x).uid("twice");
    ssc.remember(secs(1));
    ssc.remember(secs(2));
    let end = line!();
    sink(&mine);
    let error = ssc.start().unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("9 mistakes in the graph:"), "{text}");
    let mistakes = [
        ("different contexts (union at", 1),
        ("different contexts (transform_with at", 2),
        ("different contexts (join at", 3),
        ("no stream to make a union of", 4),
        ("no stream to transform", 5),
        ("cannot have 0 partitions", 6),
        ("a record's length must be at least 1 byte", 7),
        ("two streams have the uid `twice`", 8),
        ("remember duration already set", 10),
    ];
    for (row, (what, line)) in text.lines().skip(1).zip(mistakes) {
        assert!(row.contains(what) && row.contains(&format!("lifecycle.rs:{}", begin + line)), "{what}: {row}");
    }
    assert_eq!(end - begin, 11);
    assert_eq!(ssc.state(), StreamingContextState::Stopped);
    assert_eq!(other.ssc().state(), StreamingContextState::Initialized, "the other context is not touched");
}

// ------------------------------------------------------------------------------------------------- late additions

#[test]
fn additions_after_the_start_are_kept_with_their_lines_and_returned_by_the_next_wait() {
    let test = StreamTest::new();
    let stream = test.input(numbers());
    let seen = batches_of(&stream);
    test.ssc().start().unwrap();
    assert!(test.ssc().errors().is_empty());
    let begin = line!();
    let mapped = stream.map(|x| x + 1);
    sink(&mapped);
    let _ = test.ssc().socket_text_stream("localhost", 1);
    stream.print();
    let _ = stream.cache();
    let errors = test.ssc().errors();
    let lines: Vec<_> = errors.iter().filter_map(|e| e.site()).map(|site| site.line()).collect();
    assert_eq!(lines[0], begin + 1);
    assert_eq!(lines[2..], [begin + 3, begin + 4, begin + 5], "an output of a helper has the helper's line");
    for error in &errors {
        assert_eq!(error.kind(), ErrorKind::Stopped);
        assert!(error.to_string().contains("after starting a context is not supported"), "{error}");
    }
    let text = failure(test.ssc()).to_string();
    assert!(text.contains("5 operations came too late"), "{text}");
    assert!(text.contains(&format!("lifecycle.rs:{}", begin + 1)), "{text}");

    advance(&test, 1, 2);
    assert_eq!(seen.all(), [1000, 2000], "the batches go on as if nothing had been added");
}

#[test]
fn additions_after_the_stop_say_so() {
    let test = StreamTest::new();
    let stream = test.input(numbers());
    sink(&stream);
    test.ssc().start().unwrap();
    test.ssc().stop().unwrap();
    let (_, line) = (stream.map(|x| x + 1), line!());
    assert_error(
        test.ssc().await_termination(),
        ErrorKind::Stopped,
        &["after stopping a context is not supported", &format!("lifecycle.rs:{line}")],
    );
}

#[test]
fn sc07_remember_may_be_called_once_and_a_second_call_after_the_start_is_not_lost() {
    let test = StreamTest::new();
    sink(&test.input(numbers()));
    test.ssc().remember(secs(5));
    test.ssc().start().unwrap();
    let (_, line) = (test.ssc().remember(secs(6)), line!());
    let errors = test.ssc().errors();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].site().map(|site| site.line()), Some(line));
    assert!(errors[0].to_string().contains("already set"), "{}", errors[0]);
}

#[test]
fn a_graph_is_explained_until_it_runs() {
    let test = StreamTest::new();
    let stream = test.input(numbers()).map(|x| x + 1).uid("plus");
    sink(&stream);
    let text = test.ssc().explain();
    assert!(text.contains("#0 input at") && text.contains("#1 map at") && text.contains("of #0"), "{text}");
    assert!(text.contains("uid plus") && text.contains("-> foreach_rdd at"), "{text}");
    test.ssc().start().unwrap();
    assert_eq!(test.ssc().explain(), "");
}
