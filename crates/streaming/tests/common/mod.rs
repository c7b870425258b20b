//! What the integration tests share: contexts under a manual clock, listeners that take notes, and watchdogs.

#![allow(dead_code, reason = "no test uses all of it")]

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_core::clock::monotonic;
use millstream_core::threads::{self, OwnedThread, lock};
use millstream_core::{Error, ExchangeData, Result, StorageLevel, Time, secs};
use millstream_streaming::{
    BatchInfo, DStream, OnFailure, OutputOperationInfo, ReceiverInfo, Store, StreamingContext, StreamingListener,
};
use millstream_testkit::{Check, StreamTest};

/// How long a test waits for a real thread or socket before it fails. Nothing that works comes near it.
pub(crate) const WATCHDOG: Duration = secs(30);

/// Returns the time `s` seconds after the clock's begin.
pub(crate) fn at(s: i64) -> Time {
    Time::from_millis(s * 1000)
}

/// Makes a context whose batches go on when one fails, as Spark's do.
pub(crate) fn continuing() -> StreamTest {
    Check::new(2, 2).with_conf(secs(1), |conf| conf.streaming.on_failure = OnFailure::Continue)
}

/// Moves the clock to each of so many batches, and waits until the last one has ended.
pub(crate) fn advance(test: &StreamTest, from: i64, to: i64) {
    for s in from..=to {
        test.clock().advance_to(at(s));
        test.ssc().await_batch(at(s));
    }
}

/// Returns the error that the context keeps for whoever awaits it.
pub(crate) fn failure(ssc: &StreamingContext) -> Error {
    ssc.await_termination_or_timeout(Duration::ZERO).expect_err("something should have gone wrong")
}

/// Waits for what a thread sends.
pub(crate) fn within<T>(what: &str, sent: &Receiver<T>) -> T {
    match sent.recv_timeout(WATCHDOG) {
        Ok(value) => value,
        Err(RecvTimeoutError::Timeout) => panic!("waited too long for {what}"),
        Err(RecvTimeoutError::Disconnected) => panic!("{what} ended without a word"),
    }
}

/// Runs `body` on a thread of its own, so that a test can go on beside it.
pub(crate) fn beside<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> (OwnedThread, Receiver<T>) {
    let (tell, told) = channel();
    let thread = threads::spawn("beside", move || {
        let _ = tell.send(body());
    });
    (thread.expect("a test may have a thread"), told)
}

/// Runs `body`, and fails the test if it hangs.
pub(crate) fn ends<T: Send + 'static>(what: &str, body: impl FnOnce() -> T + Send + 'static) -> T {
    let (thread, told) = beside(body);
    let value = match told.recv_timeout(WATCHDOG) {
        Ok(value) => value,
        Err(RecvTimeoutError::Timeout) => {
            thread.detach();
            panic!("{what} hangs")
        }
        Err(RecvTimeoutError::Disconnected) => panic!("{what} panicked"),
    };
    thread.join();
    value
}

/// Lets batches pass, one a second of the manual clock, until `done`.
pub(crate) fn pump(test: &StreamTest, what: &str, mut done: impl FnMut() -> bool) {
    use millstream_core::clock::Clock;
    let until = monotonic() + WATCHDOG;
    while !done() {
        assert!(monotonic() < until, "waited too long for {what}");
        let next = test.clock().now().floor(secs(1)) + secs(1);
        test.clock().advance_to(next);
        assert!(test.ssc().await_batch(next), "the context stopped while it waited for {what}");
        std::thread::yield_now();
    }
}

/// Values that a test gathers from several threads.
#[derive(Debug)]
pub(crate) struct Notes<T>(Arc<Mutex<Vec<T>>>);

impl<T> Clone for Notes<T> {
    fn clone(&self) -> Notes<T> {
        Notes(Arc::clone(&self.0))
    }
}

impl<T> Default for Notes<T> {
    fn default() -> Notes<T> {
        Notes(Arc::default())
    }
}

impl<T: Clone> Notes<T> {
    pub(crate) fn add(&self, value: T) {
        lock(&self.0).push(value);
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.0).len()
    }

    pub(crate) fn all(&self) -> Vec<T> {
        lock(&self.0).clone()
    }

    pub(crate) fn take(&self) -> Vec<T> {
        std::mem::take(&mut *lock(&self.0))
    }
}

/// Gathers the elements of a stream, whatever batch they come in.
pub(crate) fn gather<T: ExchangeData>(stream: &DStream<T>) -> Notes<T> {
    let notes = Notes::default();
    let gathered = notes.clone();
    stream.foreach_rdd(move |rdd, _| {
        rdd.collect()?.into_iter().for_each(|item| gathered.add(item));
        Ok(())
    });
    notes
}

/// Notes down the batches that reach an output.
pub(crate) fn batches_of<T: ExchangeData>(stream: &DStream<T>) -> Notes<i64> {
    let notes = Notes::default();
    let seen = notes.clone();
    stream.foreach_rdd(move |_, time| seen.add(time.as_millis()));
    notes
}

/// A listener that writes down what it is told, a line an event.
#[derive(Clone, Default)]
pub(crate) struct Story(pub(crate) Notes<String>);

impl Story {
    /// Listens to a context.
    pub(crate) fn of(ssc: &StreamingContext) -> Story {
        let story = Story::default();
        ssc.add_streaming_listener(story.clone());
        story
    }

    /// Returns the lines so far, once everything has been told.
    pub(crate) fn told(&self, ssc: &StreamingContext) -> Vec<String> {
        ssc.flush_listeners();
        self.0.all()
    }
}

fn outcome(failure: Option<&Error>) -> String {
    failure.map(|error| format!(": {}", error.message())).unwrap_or_default()
}

impl StreamingListener for Story {
    fn on_streaming_started(&self, time: Time) {
        self.0.add(format!("started at {time}"));
    }
    fn on_receiver_started(&self, receiver: &ReceiverInfo) {
        self.0.add(format!("receiver {} started", receiver.name));
    }
    fn on_receiver_error(&self, receiver: &ReceiverInfo) {
        self.0.add(format!("receiver {} failed{}", receiver.name, outcome(receiver.last_error.as_ref())));
    }
    fn on_receiver_stopped(&self, receiver: &ReceiverInfo) {
        self.0.add(format!("receiver {} stopped", receiver.name));
    }
    fn on_batch_submitted(&self, batch: &BatchInfo) {
        self.0.add(format!("{} submitted, {} records", batch.batch_time, batch.num_records()));
    }
    fn on_batch_started(&self, batch: &BatchInfo) {
        self.0.add(format!("{} began", batch.batch_time));
    }
    fn on_batch_completed(&self, batch: &BatchInfo) {
        self.0.add(format!("{} completed", batch.batch_time));
    }
    fn on_output_operation_started(&self, output: &OutputOperationInfo) {
        self.0.add(format!("{} output {} began", output.batch_time, output.id));
    }
    fn on_output_operation_completed(&self, output: &OutputOperationInfo) {
        let how = outcome(output.failure.as_ref());
        self.0.add(format!("{} output {} ended{how}", output.batch_time, output.id));
    }
    fn on_batches_left_out(&self, next: Time, count: u64) {
        self.0.add(format!("{count} left out, next {next}"));
    }
}

/// Does nothing with each batch: an output, for tests that need one.
pub(crate) fn sink<T: ExchangeData>(stream: &DStream<T>) {
    stream.foreach_rdd(|rdd, _| rdd.count().map(|_| ()));
}

/// Says that a result is an error, with its kind and parts of its text.
#[track_caller]
pub(crate) fn assert_error<T: std::fmt::Debug>(result: Result<T>, kind: millstream_core::ErrorKind, parts: &[&str]) {
    let error = result.expect_err("this should be refused");
    assert_eq!(error.kind(), kind, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "`{part}` is missing: {error}");
    }
}

type Doing<T> = Box<dyn FnOnce(&mut dyn Store<T>) -> Result<()> + Send>;

/// A receiver that does what the test tells it, a step at a time, and answers each; it ends when the test hangs up.
pub(crate) struct Told<T> {
    steps: Receiver<Doing<T>>,
    done: Sender<()>,
    pub(crate) level: StorageLevel,
}

/// The test's end of a [`Told`].
pub(crate) struct Teller<T> {
    steps: Option<Sender<Doing<T>>>,
    done: Receiver<()>,
}

pub(crate) fn told<T>() -> (Told<T>, Teller<T>) {
    let ((steps, taken), (done, doing)) = (channel(), channel());
    let receiver = Told { steps: taken, done, level: StorageLevel::MEMORY_AND_DISK };
    (receiver, Teller { steps: Some(steps), done: doing })
}

impl<T> Teller<T> {
    pub(crate) fn tell(&self, step: impl FnOnce(&mut dyn Store<T>) -> Result<()> + Send + 'static) {
        self.begin(step);
        self.finish();
    }

    /// Tells a step that may wait for something that the test does.
    pub(crate) fn begin(&self, step: impl FnOnce(&mut dyn Store<T>) -> Result<()> + Send + 'static) {
        self.steps.as_ref().expect("the receiver lives").send(Box::new(step)).expect("the receiver lives");
    }

    /// Waits until a step that was begun has been done.
    pub(crate) fn finish(&self) {
        within("the receiver", &self.done);
    }

    pub(crate) fn store(&self, item: T)
    where
        T: Send + 'static,
    {
        self.tell(move |store| store.store(item));
    }

    pub(crate) fn hang_up(&mut self) {
        self.steps = None;
    }
}

impl<T: ExchangeData> millstream_streaming::Receiver for Told<T> {
    type Item = T;

    fn receive(&mut self, store: &mut dyn Store<T>) -> Result<()> {
        while let Ok(step) = self.steps.recv() {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| step(store)));
            let _ = self.done.send(());
            match outcome {
                Ok(outcome) => outcome?,
                Err(payload) => std::panic::resume_unwind(payload),
            }
        }
        Ok(())
    }

    fn storage_level(&self) -> StorageLevel {
        self.level
    }

    fn name(&self) -> String {
        "told".to_owned()
    }
}
