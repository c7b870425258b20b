//! Programs on a local cluster: two executors with one slot each, which are processes of this very test binary.
//!
//! The tables of operations, windows and states are those of the other crates, as they are: `check` runs each of them on
//! the cluster too.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod elastic;
mod failures;
mod flat;
mod full;
mod hosts;
mod killed;
mod lives;
mod places;
mod programs;
mod receivers;
mod small_disk;
mod strangers;

/// What Spark's programs gave on Spark, they give on two executors.
#[path = "../../../testkit/tests/spark.rs"]
mod spark_programs;

#[path = "../../../core/tests/travels.rs"]
mod travels;

#[path = "../../../streaming/tests/operations.rs"]
mod operations;
#[path = "../../../streaming/tests/state.rs"]
mod state;
#[path = "../../../streaming/tests/windows.rs"]
mod windows;
