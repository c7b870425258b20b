//! Spark Streaming, made again in Rust, and better.
//!
//! A streaming program is made of ordinary closures over typed streams. Every interval a batch of what arrived is run
//! through them, on all cores.
//!
//! ```no_run
//! use millstream::prelude::*;
//!
//! fn main() -> Result<()> {
//!     let ssc = StreamingContext::new("local[2]", "word count", secs(1))?;
//!
//!     let counts = ssc
//!         .socket_text_stream("localhost", 9999)
//!         .flat_map(|line| line.split(' '))
//!         .map(|word| (word, 1u64))
//!         .reduce_by_key(|a, b| a + b);
//!     counts.print();
//!
//!     ssc.start()?;
//!     ssc.await_termination()
//! }
//! ```
//!
//! # A map of the types
//!
//! | type | what it is |
//! |---|---|
//! | [`StreamingContext`] | the program: its inputs, its graph, its life |
//! | [`DStream<T>`](DStream) | a stream: for each batch one Rdd |
//! | [`Rdd<T>`](Rdd) | a lazy, typed, partitioned collection |
//! | [`Context`] | the engine under both; it can be used alone, for batch programs |
//! | [`Window`] | which batches a stream looks back at: a length, or a pair of length and slide |
//! | [`StateSpec`], [`State`] | what `map_with_state` does with the state of a key; [`MappedState`] is what comes out |
//! | [`UpdateSpec`] | how `update_state_by_key_with` begins, and where its keys are |
//! | [`RddQueue`] | Rdds that become batches, one after the other |
//! | [`Partitioner`], [`StorageLevel`] | where keys are; how an Rdd is kept |
//! | [`Broadcast`], [`Accumulator`] | what all tasks read, and what they add to |
//! | [`RecordWriter`] | how records become files: [`TextLines`], [`JsonLines`], [`Csv`], [`SequenceFiles`] |
//! | [`Conf`] | settings, as fields and by Spark's keys |
//! | [`Text`] | a string that is cheap to cut and to compare |
//! | [`InputSource`], [`Receiver`] | where streams begin, for sources of one's own; [`Position`] says where a receiver's sender goes on, [`Travelling`] how it gets to an executor |
//! | [`StreamingContext::get_or_create`] | a program that goes on where it was, also in another build; [`MissedBatches`] says what becomes of the time between |
//! | [`mod@commands`] | what a program can be asked about its checkpoint, from the command line; [`Digest`] is what tells batches apart |
//! | [`Output`], [`Guarantee`] | what a batch is for: its name, and how often it takes a batch |
//! | [`Transactional`] | a sink that takes each batch exactly once |
//! | [`StreamingListener`] | is told what happens |
//! | `kafka` | topics of Kafka as streams, and as sinks that take each batch once (feature `kafka`) |
//! | `cluster` | the same program in other processes, on this machine and others (feature `cluster`) |
//! | `object_store` | a bucket as the place of a durable program, and of tables (feature `object-store`) |
//! | `sql` | statements of SQL on streams, planned once; data frames (feature `sql`); tables of Avro (`avro`), rows of types that have only serde (`sql-serde`) |
//! | `sql_live` | live tables, asked over the protocol of Postgres (feature `sql-live`) |
//! | `sqlite` | tables of a SQLite database as sinks that take each batch once (feature `sqlite`) |
//! | `testkit` | tables of batches under a manual clock (feature `testkit`) |
//!
//! A word that Spark has is the same word here, in snake case: `reduce_by_key`, `foreach_rdd`, `await_termination`. What
//! differs is in `docs/parity.md`. The guide, `docs/book`, has a chapter for windows, one for state, and one for Rdds alone.
//!
//! # What it does not do, yet
//!
//! Learning, web pages and Python are on their way. It runs on the threads of one process, or on a cluster.

#[cfg(feature = "cluster")]
pub use millstream_cluster as cluster;
pub use millstream_core as core;
#[cfg(feature = "kafka")]
pub use millstream_kafka as kafka;
#[cfg(feature = "object-store")]
pub use millstream_object_store as object_store;
#[cfg(feature = "sqlite")]
pub use millstream_sqlite as sqlite;
/// SQL and data frames on streams.
#[cfg(feature = "sql")]
pub mod sql {
    #[doc(inline)]
    pub use millstream_sql::derived_in_millstream::Row;
    pub use millstream_sql::*;
}
#[cfg(feature = "sql-live")]
pub use millstream_sql_live as sql_live;
pub use millstream_streaming as streaming;
pub use millstream_streaming::commands;
pub use millstream_streaming::commands::commands;
#[cfg(feature = "testkit")]
pub use millstream_testkit as testkit;

pub use millstream_core::{
    Accumulate, Accumulator, BoundedDouble, Broadcast, CallSite, CollectionAccumulator, Context, Csv, Data, Digest,
    DoubleAccumulator, EngineListener, Error, ErrorKind, ExchangeData, FutureAction, JobInfo, JsonLines, Key,
    ListenerId, LocalIterator, LongAccumulator, Number, PartialResult, PartitionIter, Partitioner, Pipe, Rdd,
    RecordWriter, Result, SequenceFiles, StageStatsListener, StatCounter, StorageLevel, TaskContext, Text, TextBlock,
    TextLines, Time, Writable, capture, capture_ref, capture2, millis, mins, secs,
};
pub use millstream_streaming::{
    Batch, BatchInfo, BatchKey, BatchStamps, Conf, DStream, DurableFolder, FileFilter, Guarantee, InputContext,
    InputInfo, InputSource, Interval, MappedState, MissedBatches, OnFailure, Outcome, Output, OutputBatch,
    OutputOperationInfo, OutputRun, PidConf, Position, Pressure, Rate, RddQueue, Receiver, ReceiverInfo, State,
    StateSpec, StateView, StatsReportListener, Stop, Store, StreamingConf, StreamingContext, StreamingContextBuilder,
    StreamingContextState, StreamingListener, Transactional, Travelling, UpdateSpec, WhenEmpty, WhenFull, Window,
};

/// What most programs need: `use millstream::prelude::*;`.
pub mod prelude {
    pub use crate::{
        Conf, Context, DStream, Error, ErrorKind, InputSource, MissedBatches, OnFailure, Partitioner, Position, Rate,
        Rdd, RddQueue, Receiver, Result, State, StateSpec, Stop, StorageLevel, Store, StreamingConf, StreamingContext,
        StreamingListener, Text, Time, UpdateSpec, Window, capture, capture_ref, capture2, millis, mins, secs,
    };
}

/// The README's programs compile.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// The guide's programs run.
#[cfg(doctest)]
mod book {
    #[doc = include_str!("../../../docs/book/1-first-program.md")]
    struct FirstProgram;
    #[doc = include_str!("../../../docs/book/2-streams-and-batches.md")]
    struct StreamsAndBatches;
    #[doc = include_str!("../../../docs/book/3-windows.md")]
    struct Windows;
    #[doc = include_str!("../../../docs/book/4-state.md")]
    struct States;
    #[doc = include_str!("../../../docs/book/5-batch-side.md")]
    struct BatchSide;
    #[doc = include_str!("../../../docs/book/6-testing.md")]
    struct Testing;
    #[doc = include_str!("../../../docs/book/7-never-losing-a-record.md")]
    struct NeverLosingARecord;
    #[doc = include_str!("../../../docs/book/8-changing-a-running-program.md")]
    struct ChangingARunningProgram;
    #[doc = include_str!("../../../docs/book/9-kafka.md")]
    struct Kafka;
    #[cfg(all(feature = "sql", feature = "sql-serde"))]
    #[doc = include_str!("../../../docs/book/10-sql.md")]
    struct Sql;
}
