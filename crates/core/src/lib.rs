//! Rdds: lazy, typed, partitioned collections, and how they run.
//!
//! This crate is the engine under [millstream](https://docs.rs/millstream). It knows Rdds, jobs, stages and tasks;
//! it knows no batches and no streams. It can be used alone, for batch programs.
//!
//! ```
//! use millstream_core::{Context, Text};
//!
//! let context = Context::new("local[2]", "word count")?;
//! let lines = context.parallelize(vec![Text::from("to be or"), Text::from("not to be")], 2);
//! let counts = lines.flat_map(|line| line.split(' ')).map(|word| (word, 1u64)).reduce_by_key(|a, b| a + b);
//! let mut counts = counts.collect()?;
//! counts.sort();
//! assert_eq!(counts[0], (Text::from("be"), 2));
//! # Ok::<(), millstream_core::Error>(())
//! ```
//!
//! # The way of a job
//!
//! [`Rdd`] (a handle) → [`Node`] (its lineage) → an action → [`plan`]: the lineage cut into stages at its shuffles →
//! a [`Backend`](backend::Backend) runs each stage's tasks → a task opens its partition as a flat pipeline of
//! operators, which moves elements in chunks → shuffle blocks or results.
//!
//! # What it does not do
//!
//! It has no query optimiser and no expressions: closures are run as they are given. It runs on the threads of one
//! process; everything that runs can be written down for another process of the same executable
//! ([`plan::ship`]).

mod accumulator;
pub mod backend;
mod bounded;
mod broadcast;
pub mod checkpoint;
pub mod clock;
pub mod codec;
pub mod conf;
mod context;
mod data;
mod digest;
pub mod disk;
mod distribution;
mod error;
mod events;
mod future_action;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod memory;
#[doc(hidden)]
pub mod mutants;
pub mod partitioner;
pub mod plan;
mod rdd;
mod scope;
mod shape;
mod shuffle;
mod spill;
mod stats;
pub mod storage;
mod task_updates;
mod text;
pub mod textform;
pub mod threads;
mod time;

pub use self::accumulator::{Accumulate, Accumulator, CollectionAccumulator, DoubleAccumulator, LongAccumulator, Sum};
pub use self::bounded::BoundedDouble;
pub use self::broadcast::Broadcast;
pub use self::context::jobs::JobInfo;
#[doc(hidden)]
pub use self::context::jobs::JobLocals;
pub use self::context::persistent::RddStorageInfo;
pub use self::context::{Context, ContextBuilder, Env};
pub use self::data::{Data, ExchangeData, Key};
pub use self::digest::Digest;
pub use self::distribution::Distribution;
pub use self::error::{CallSite, Error, ErrorKind, Result, panicked};
pub use self::events::{
    ApplicationStart, EngineListener, ExecutorInfo, ExecutorLost, JobEnd, JobStart, JobWatch, ListenerId, RddInfo,
    StageInfo, StageStatsListener, TaskEnd, TaskInfo, TaskKind, TaskMetrics,
};
#[doc(hidden)]
pub use self::events::{Event, Listeners, Place};
pub use self::future_action::FutureAction;
pub use self::partitioner::Partitioner;
pub use self::plan::ship::{capture, capture_ref, capture2};
pub use self::plan::{Preference, TaskContext};
pub use self::rdd::{
    Action, AnyRdd, Csv, CsvFile, Dependency, InputSplit, JsonLines, LocalIterator, Node, Number, PartialResult,
    PartitionIter, Pipe, Rdd, RddId, RecordWriter, SequenceFile, SequenceFiles, ShuffleId, SplitReader, TextLines,
    Writable, overwriting,
};
#[doc(hidden)]
pub use self::rdd::{Chain, Pass, SaveAs, Saved, SecondCopy, Stamp, Step, pass_over, publishing, step_over};
pub use self::scope::Scope;
pub use self::shape::shape_of;
pub use self::shuffle::ShuffleStore;
pub use self::spill::{FileBlock, SpillDir};
pub use self::stats::StatCounter;
pub use self::storage::StorageLevel;
pub use self::text::{Lines, Separator, Split, SplitWhitespace, Text, TextBlock};
pub use self::time::{Time, as_millis, millis, mins, secs};
