//! DStreams: Rdds over time.
//!
//! This crate makes streams of the engine's Rdds: a batch every interval, planned by one forward walk over the graph,
//! run in the order of the outputs, and told to whoever listens. It knows no Kafka, SQL, HTTP or Python.
//!
//! # The path of one batch
//!
//! ```text
//!    clock reaches t
//! 1  allocate    each InputSource decides what belongs to t        input/, receiver/
//!    (A)         that is durable, if there is a checkpoint         checkpoint/, wal/
//! 2  plan        one forward walk: compute → lineage               graph/              (no data moves)
//! 3  jobs        each output gives at most one job                 batch/job_set.rs
//! 4  stages      each job's lineage is cut at its shuffles         millstream-core, plan/dag.rs
//! 5  tasks       the backend runs them                             millstream-core, backend/
//! 6  outputs     the closures of foreach_rdd end well              the program, on the driver
//!    (B)         that is durable, if there is a checkpoint         checkpoint/, wal/
//! 7  commit      what outputs have prepared; InputSource::commit(allocation of t)
//! 8  forget      Rdds, kept partitions and received blocks out of reach
//! ```
//!
//! What follows what is decided in one place, `batch/lifecycle.rs`, which is pure. What must be durable before what is in
//! `docs/specs/durability.md`.

mod backpressure;
mod batch;
mod checkpoint;
pub mod commands;
mod conf;
mod context;
mod dstream;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod graph;
mod input;
mod listener;
mod receiver;
mod signals;
mod state;
mod stats;
pub mod wal;
mod window;

pub use self::backpressure::{BatchLoad, PidConf, PidRateEstimator};
pub use self::conf::{Conf, MissedBatches, OnFailure, StreamingConf, WhenFull};
pub use self::context::{Stop, StreamingContext, StreamingContextBuilder, StreamingContextState};
pub use self::dstream::{DStream, Guarantee, Outcome, Output, OutputBatch, OutputRun, Transactional};
pub use self::graph::{Batch, BatchKey, StreamId};
pub use self::input::{
    BlockSocket, DurableFolder, FileFilter, InputContext, InputSource, LineSocket, Rate, RddQueue, SocketReceiver,
    WhenEmpty,
};
pub use self::listener::{
    BatchInfo, BatchStamps, InputInfo, OutputOperationInfo, Pressure, ReceiverInfo, StreamingListener,
};
pub use self::receiver::{Position, Receiver, Store, Travelling};
#[doc(hidden)]
pub use self::state::away::AwayStates;
pub use self::state::mapped::MappedState;
#[doc(hidden)]
pub use self::state::merged::{Merge, MergedState};
#[doc(hidden)]
pub use self::state::view::Behind;
pub use self::state::view::StateView;
pub use self::state::{EachRecord, State, StateFn, StateSpec, UpdateSpec, WithTime};
pub use self::stats::StatsReportListener;
pub use self::window::{Interval, Window};
pub use millstream_core::ListenerId;
