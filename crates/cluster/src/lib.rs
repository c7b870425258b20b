//! The same program on a cluster: Ballista schedules, shuffles, retries and replaces lost executors; stages, blocks and
//! batches are millstream's.
//!
//! The program's master says where it runs, and nothing else of it changes:
//!
//! | master | tasks run |
//! |---|---|
//! | `local[4]` | on threads of this process; this crate is not needed |
//! | `local-cluster[2,1]` | in 2 processes of this very executable on this machine, with 1 slot each |
//! | `cluster://10.0.0.1:7077` | in executors that join at this address of the driver's |
//!
//! The first line of `main` is [`be_executor_if_asked`]: it makes any program its own executor.
//!
//! # What travels
//!
//! Executors run the same executable, so code need not travel: closures do as their place in it, and what they capture is
//! said with `capture(…)`. One that captures silently is refused before anything runs, with its line. Another build is
//! refused when it joins.
//!
//! # What it does not do yet
//!
//! Receivers run on the driver, which keeps their blocks. Ports are open to whoever reaches the machine: every message to
//! the driver's desk and every plan is authenticated with the cluster's secret, but nothing is encrypted, and
//! Ballista's own ports ask nobody for a secret. An address that others reach is therefore refused, unless
//! `MILLSTREAM_TRUSTED_NETWORK=1` says that the network is your own.

mod beside;
mod blocks;
mod desk;
mod driver;
mod engine;
mod executor;
mod failure;
mod folders;
mod here;
mod job;
mod launch;
mod plan_codec;
mod pool;
mod query;
mod routing;
mod rows;
mod secret;
mod sent;
mod slots;
mod stage;

#[cfg(feature = "before-main")]
mod before_main;

pub use self::driver::Cluster;
pub use self::executor::be_executor_if_asked;
