//! What happened, told to whoever listens: facts, in the past tense.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::{CallSite, Error, Event, Listeners, Time};

use crate::conf::WhenFull;

/// How many records an input gave to a batch, and what there is to say about them.
///
/// # Spark
///
/// `StreamInputInfo`, IN10.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InputInfo {
    /// The number of records, as far as it is known before they are read.
    pub records: u64,
    /// What there is to say, by name; `Description` is what people are shown.
    pub metadata: BTreeMap<String, String>,
    /// How the input was held back since the batch before.
    pub pressure: Pressure,
}

/// How an input was held back, because it gives more than can be processed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// The rate that it was to keep to, in records a second, if there was one.
    pub limit: Option<u64>,
    /// How many items had to wait until there was room for them ([`WhenFull::Block`]).
    pub blocked: u64,
    /// How many items were dropped ([`WhenFull::Shed`]).
    pub shed: u64,
    /// How many items went to disk ([`WhenFull::Spill`]).
    pub spilled: u64,
}

/// A batch, as far as it has come.
///
/// # Spark
///
/// `BatchInfo`, LS10.
#[derive(Clone, Debug)]
pub struct BatchInfo {
    /// The batch's time.
    pub batch_time: Time,
    /// What each input gave, by the input's number.
    pub inputs: BTreeMap<u64, InputInfo>,
    /// When the batch was handed over to be run.
    pub submission_time: Time,
    /// When its first output began.
    pub processing_start_time: Option<Time>,
    /// When its last output ended.
    pub processing_end_time: Option<Time>,
    /// Its outputs.
    pub outputs: Vec<OutputOperationInfo>,
    /// The same times, to the nanosecond, by a clock that only runs forwards.
    pub stamps: BatchStamps,
}

/// When a batch came how far, counted from when it was woken, to the nanosecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchStamps {
    /// How late the batch loop was woken: the clock then, less the batch's time. Whole milliseconds.
    pub late: Duration,
    /// From waking to handing over.
    pub submitted: Duration,
    /// From waking to the begin of the first output.
    pub started: Option<Duration>,
    /// From waking to the end of the last output.
    pub ended: Option<Duration>,
}

impl BatchInfo {
    /// Returns how long the batch waited to be run.
    pub fn scheduling_delay(&self) -> Option<Duration> {
        self.processing_start_time.map(|start| start - self.submission_time)
    }

    /// Returns how long its outputs took.
    pub fn processing_delay(&self) -> Option<Duration> {
        Some(self.processing_end_time? - self.processing_start_time?)
    }

    /// Returns the sum of both.
    pub fn total_delay(&self) -> Option<Duration> {
        Some(self.scheduling_delay()? + self.processing_delay()?)
    }

    /// Returns the number of records of all inputs.
    pub fn num_records(&self) -> u64 {
        self.inputs.values().map(|input| input.records).sum()
    }
}

/// One output of one batch.
///
/// # Spark
///
/// `OutputOperationInfo`, LS11.
#[derive(Clone, Debug)]
pub struct OutputOperationInfo {
    /// The batch's time.
    pub batch_time: Time,
    /// The output's number, in the order of the program.
    pub id: u64,
    /// The line that made it.
    pub site: CallSite,
    /// When it began.
    pub start_time: Option<Time>,
    /// When it ended.
    pub end_time: Option<Time>,
    /// Why it failed, if it did.
    pub failure: Option<Error>,
    /// What it had to say of the batch, by name: [`OutputBatch::note`](crate::OutputBatch::note).
    pub metadata: BTreeMap<String, String>,
}

impl OutputOperationInfo {
    /// Returns the short name, as `print at src/main.rs:14`.
    pub fn name(&self) -> String {
        self.site.to_string()
    }

    /// Returns how long it took.
    pub fn duration(&self) -> Option<Duration> {
        Some(self.end_time? - self.start_time?)
    }
}

/// A receiver.
///
/// # Spark
///
/// `ReceiverInfo`, LS12.
#[derive(Clone, Debug)]
pub struct ReceiverInfo {
    /// The number of its input.
    pub stream_id: u64,
    /// What it is, with its number.
    pub name: String,
    /// Whether it receives.
    pub active: bool,
    /// Whether it acknowledges to its sender what is kept, so that nothing is lost with the process:
    /// [`Receiver::is_reliable`](crate::Receiver::is_reliable).
    pub reliable: bool,
    /// The host on which it runs: `localhost` if that is the driver's.
    pub location: String,
    /// The executor on which it runs, if it runs on one.
    pub executor_id: Option<String>,
    /// What last went wrong.
    pub last_error: Option<Error>,
    /// When that was.
    pub last_error_time: Option<Time>,
    /// How it has been held back since its start.
    pub pressure: Pressure,
}

/// Is told what happens to a streaming program. Every method does nothing unless it is written.
///
/// Methods are called one at a time, in the order of the events, on a thread of their own, which they share with the
/// engine's [listeners](millstream_core::EngineListener): what an output's jobs do is told between its start and its end. A listener
/// must not stop the context (S-123). One that panics is not called again. All are let go when the context has stopped.
///
/// # Spark
///
/// `StreamingListener`, LS01 to LS09.
pub trait StreamingListener: Send + Sync {
    /// The context has started.
    fn on_streaming_started(&self, _time: Time) {}
    /// A receiver has started.
    fn on_receiver_started(&self, _receiver: &ReceiverInfo) {}
    /// Something went wrong in a receiver.
    fn on_receiver_error(&self, _receiver: &ReceiverInfo) {}
    /// As many items wait in a receiver as may. What becomes of more is what the settings say, and how many they are is in
    /// [`InputInfo::pressure`]. Told at most once a batch.
    fn on_receiver_full(&self, _receiver: &ReceiverInfo, _when_full: WhenFull) {}
    /// A receiver has stopped.
    fn on_receiver_stopped(&self, _receiver: &ReceiverInfo) {}
    /// A batch has been handed over to be run.
    fn on_batch_submitted(&self, _batch: &BatchInfo) {}
    /// A batch's first output has begun.
    fn on_batch_started(&self, _batch: &BatchInfo) {}
    /// A batch's last output has ended, well or not.
    fn on_batch_completed(&self, _batch: &BatchInfo) {}
    /// An output has begun.
    fn on_output_operation_started(&self, _output: &OutputOperationInfo) {}
    /// An output has ended, well or not.
    fn on_output_operation_completed(&self, _output: &OutputOperationInfo) {}
    /// The clock jumped, and so many batches were left out.
    fn on_batches_left_out(&self, _next: Time, _count: u64) {}
}

/// One event.
#[derive(Debug)]
pub(crate) enum StreamingEvent {
    StreamingStarted(Time),
    ReceiverStarted(ReceiverInfo),
    ReceiverError(ReceiverInfo),
    ReceiverFull(ReceiverInfo, WhenFull),
    ReceiverStopped(ReceiverInfo),
    BatchSubmitted(Arc<BatchInfo>),
    BatchStarted(Arc<BatchInfo>),
    BatchCompleted(Arc<BatchInfo>),
    OutputOperationStarted(OutputOperationInfo),
    OutputOperationCompleted(OutputOperationInfo),
    BatchesLeftOut(Time, u64),
}

impl Event for StreamingEvent {
    type Listener = dyn StreamingListener;

    fn tell(&self, listener: &dyn StreamingListener) {
        match self {
            StreamingEvent::StreamingStarted(time) => listener.on_streaming_started(*time),
            StreamingEvent::ReceiverStarted(info) => listener.on_receiver_started(info),
            StreamingEvent::ReceiverError(info) => listener.on_receiver_error(info),
            StreamingEvent::ReceiverFull(info, when_full) => listener.on_receiver_full(info, *when_full),
            StreamingEvent::ReceiverStopped(info) => listener.on_receiver_stopped(info),
            StreamingEvent::BatchSubmitted(info) => listener.on_batch_submitted(info),
            StreamingEvent::BatchStarted(info) => listener.on_batch_started(info),
            StreamingEvent::BatchCompleted(info) => listener.on_batch_completed(info),
            StreamingEvent::OutputOperationStarted(info) => listener.on_output_operation_started(info),
            StreamingEvent::OutputOperationCompleted(info) => listener.on_output_operation_completed(info),
            StreamingEvent::BatchesLeftOut(next, count) => listener.on_batches_left_out(*next, *count),
        }
    }
}

/// The listeners of one context. The engine's thread tells them, as it does the engine's own.
pub(crate) type ListenerBus = Listeners<StreamingEvent>;

/// Tells what has been posted, and nothing after (LS14).
pub(crate) fn end(bus: &ListenerBus) {
    bus.close();
    bus.flush();
}
