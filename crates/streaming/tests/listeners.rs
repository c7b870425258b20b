//! What listeners of a stream and of its engine are told, in one order (CX20, LS14).

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};

use common::{Notes, Story, advance, at, ends, within};
use millstream_core::threads::lock;
use millstream_core::{EngineListener, JobEnd, JobStart, StageInfo, Time};
use millstream_streaming::{Stop, StreamingContext};
use millstream_testkit::{StreamTest, batches};

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
