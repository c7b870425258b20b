//! What listeners of a stream and of its engine are told, in one order (CX20, LS13, LS14).

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};

use common::{Notes, Story, advance, at, ends, within};
use millstream_core::threads::lock;
use millstream_core::{Context, EngineListener, JobEnd, JobStart, Rdd, Result, StageInfo, Time};
use millstream_streaming::{
    BatchInfo, InputSource, Rate, StatsReportListener, Stop, StreamingContext, StreamingListener,
};
use millstream_testkit::{StreamTest, batches};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Writes down what the engine does, beside what the stream does.
struct Engine(Notes<String>);

impl EngineListener for Engine {
    fn on_job_start(&self, start: &JobStart) {
        let property = |key: &str| start.properties.get(key).map_or("none", String::as_str);
        let (batch, output) =
            (property("spark.streaming.internal.batchTime"), property("spark.streaming.internal.outputOpId"));
        let what = start.job.description.as_deref().unwrap_or("nothing");
        self.0.add(format!("job {} started in batch {batch}, output {output}: {what}", start.job.id));
    }
    fn on_stage_completed(&self, stage: &StageInfo) {
        let batch = stage.properties.get("spark.streaming.internal.batchTime");
        self.0.add(format!("stage {} completed in batch {}", stage.id, batch.map_or("none", String::as_str)));
    }
    fn on_job_end(&self, end: &JobEnd) {
        self.0.add(format!("job {} ended: {}", end.job, end.result.is_ok()));
    }
}

#[test]
fn cx20_the_jobs_of_a_batch_are_told_between_the_start_and_the_end_of_their_output() {
    let test = StreamTest::new();
    let story = Story::of(test.ssc());
    test.ssc().context().add_listener(Engine(story.0.clone()));
    let stream = test.input(batches![[1, 2], [3]]);
    stream.map(|n| (n % 2, n)).reduce_by_key(|a, b| a + b).foreach_rdd(|rdd, _| rdd.count().map(drop));
    stream.foreach_rdd(|_, _| {});
    test.ssc().start().unwrap();
    advance(&test, 1, 2);
    let batch = |n: usize, records: usize| {
        let (t, job) = (n * 1000, n - 1);
        let stages = [job * 2, job * 2 + 1];
        vec![
            format!("{t} ms submitted, {records} records"),
            format!("{t} ms began"),
            format!("{t} ms output 0 began"),
            format!("job {job} started in batch {t}, output 0: [output operation 0, batch time {t} ms]"),
            format!("stage {} completed in batch {t}", stages[0]),
            format!("stage {} completed in batch {t}", stages[1]),
            format!("job {job} ended: true"),
            format!("{t} ms output 0 ended"),
            format!("{t} ms output 1 began"),
            format!("{t} ms output 1 ended"),
            format!("{t} ms completed"),
        ]
    };
    let want = [vec!["started at 0 ms".to_owned()], batch(1, 2), batch(2, 1)].concat();
    assert_eq!(story.told(test.ssc()), want);
}

#[test]
fn ls14_a_stream_that_has_stopped_tells_nothing_and_its_engine_goes_on_to_tell() {
    let test = StreamTest::new();
    let story = Story::of(test.ssc());
    let engine = test.ssc().context().clone();
    engine.add_listener(Engine(story.0.clone()));
    test.input(batches![[1]]).foreach_rdd(|_, _| {});
    test.ssc().start().unwrap();
    advance(&test, 1, 1);
    test.ssc().stop_with(Stop::now().keep_context()).unwrap();
    let told = story.0.take();
    assert_eq!(told.last().map(String::as_str), Some("1000 ms completed"), "all of it is told when the stop returns");
    assert_eq!(engine.range(0, 3, 1, 1).count().unwrap(), 3);
    let want =
        ["job 0 started in batch none, output none: nothing", "stage 0 completed in batch none", "job 0 ended: true"];
    assert_eq!(story.told(test.ssc()), want);
}

#[test]
fn s123_a_listener_of_the_engine_cannot_stop_the_stream_but_may_ask_how_it_is() {
    struct Asks(StreamingContext, Mutex<Sender<bool>>);
    impl EngineListener for Asks {
        fn on_application_end(&self, _: Time) {
            // The state can be asked for, though the thread that stops the engine waits for this listener.
            let _ = self.0.state();
            let _ = lock(&self.1).send(self.0.stop().is_err());
        }
    }
    let refused = ends("the stop of both", || {
        let (test, (tell, told)) = (StreamTest::new(), channel());
        let ssc = test.ssc().clone();
        ssc.context().add_listener(Asks(ssc.clone(), Mutex::new(tell)));
        // By an output: the batch loop stops the engine when it has come to its own end.
        let own = ssc.clone();
        test.input(batches![[1]]).foreach_rdd(move |_, _| own.stop());
        ssc.start().unwrap();
        test.clock().advance_to(at(1));
        let _ = ssc.await_termination();
        within("the end of the application", &told)
    });
    assert!(refused);
}

/// Keeps what is logged, a line an event, with its level.
#[derive(Clone, Default)]
struct Log(Notes<String>);

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        struct Text(String);
        impl Visit for Text {
            fn record_debug(&mut self, _: &Field, value: &dyn std::fmt::Debug) {
                self.0.push_str(&format!("{value:?}"));
            }
        }
        let mut text = Text(format!("{} ", event.metadata().level()));
        event.record(&mut text);
        self.0.add(text.0);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// A source that could give anything when a batch is made again; or one that tells what it gave.
struct Anything {
    tells: bool,
}

impl InputSource for Anything {
    type Item = i32;
    type Allocation = ();

    fn allocate(&mut self, _: Time, _: Option<Rate>) -> Result<()> {
        Ok(())
    }

    fn rdd(&self, (): &(), context: &Context) -> Result<Option<Rdd<i32>>> {
        Ok(Some(context.parallelize(vec![1], 1)))
    }

    fn notices_change(&self) -> bool {
        self.tells
    }
}

#[test]
fn an_input_of_which_no_change_is_noticed_is_named_at_the_start_of_a_durable_program_and_by_explain() {
    let warned = |durable: bool, tells: bool| {
        let test = StreamTest::new();
        let folder = tempfile::tempdir().unwrap();
        if durable {
            test.ssc().checkpoint(folder.path()).unwrap();
        }
        test.ssc().input(Anything { tells }).foreach_rdd(|_, _| Ok(()));
        let explained = test.ssc().explain().contains("it is not noticed if it gives something else");
        let log = Log::default();
        tracing::subscriber::with_default(log.clone(), || test.ssc().start()).unwrap();
        let lines =
            log.0.all().into_iter().filter(|line| line.starts_with("WARN") && line.contains("InputSource::digest"));
        test.ssc().stop().unwrap();
        (lines.count(), explained)
    };
    assert_eq!(warned(true, false), (1, true));
    assert_eq!(warned(true, true), (0, false));
    assert_eq!(warned(false, false), (0, false), "no batch is made again");
}

#[test]
fn ls13_a_report_is_logged_after_each_batch() {
    struct Logs(StatsReportListener, Log);
    impl StreamingListener for Logs {
        fn on_batch_completed(&self, batch: &BatchInfo) {
            tracing::subscriber::with_default(self.1.clone(), || self.0.on_batch_completed(batch));
        }
    }
    let test = StreamTest::new();
    let log = Log::default();
    test.ssc().add_streaming_listener(Logs(StatsReportListener::over(2), log.clone()));
    test.input(batches![[1], [2], [3]]).foreach_rdd(|_, _| {});
    test.ssc().start().unwrap();
    let (mut counts, percentiles) = (Vec::new(), "INFO \t0%\t5%\t10%\t25%\t50%\t75%\t90%\t95%\t100%");
    for n in 1..=3 {
        advance(&test, n, n);
        test.ssc().flush_listeners();
        let lines = log.0.take();
        assert_eq!((lines.len(), &*lines[1], &*lines[4]), (6, percentiles, percentiles), "{lines:?}");
        counts.extend([0, 3].map(|i: usize| lines[i].split(',').next().unwrap().to_owned()));
    }
    let want = [1, 2, 2].map(|n| ["Total delay", "Processing time"].map(|what| format!("INFO {what}: (count: {n}")));
    assert_eq!(counts, want.concat());
}
