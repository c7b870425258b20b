//! Testing streams: tables of batches under a manual clock.
//!
//! A test of a streaming program is a table. Batches go in, a program makes streams of them, and what each batch gives
//! is compared with what is expected. There is no waiting, no socket and no real time.
//!
//! ```
//! use millstream_testkit::{batches, check};
//!
//! check(
//!     batches![["to be"], ["or not", "to be"], []],
//!     |lines| lines.flat_map(|line| line.split(' ')).map(|word| (word, 1u64)).reduce_by_key(|a, b| a + b),
//!     "
//!     1s  (to, 1) (be, 1)
//!     2s  (or, 1) (not, 1) (to, 1) (be, 1)
//!     ",
//! );
//! ```
//!
//! [`check`] runs the program over and over: on 1, 2 and 7 partitions, on 1 and 4 threads, and with every stage written
//! to bytes and read back, as it would be on its way to another process. The results must always be the same.
//!
//! [`SimDisk`] is a disk that loses at a crash whatever was not made durable: for tests of sinks, logs and checkpoints.

mod backend;
mod batches;
mod check;
#[cfg(feature = "cluster")]
mod cluster;
mod crash;
mod literal;
mod lives;
pub mod model;
mod seeds;
mod sim_disk;
mod table;

/// Short forms for examples in documentation.
pub mod doc {
    pub use crate::check::{run, show};
}

pub use self::backend::ThroughBytes;
pub use self::batches::{Batches, Row};
pub use self::check::{Check, StreamTest, check, check_local, run, show};
pub use self::crash::{
    Durable, Survived, check_faults, durable_steps, run_outputs_through_crashes, run_through_crashes, survive,
};
pub use self::literal::Literal;
pub use self::lives::{Lives, input};
pub use self::seeds::check_seeds;
pub use self::sim_disk::{Fault, Operation, SimDisk};
pub use self::table::{Table, normalised};
