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
//! # Between hosts
//!
//! Driver and executors share a secret, `MILLSTREAM_SECRET` in the environment of each. Each shows one port to the others, where
//! only who knows the secret is let in, and where all that is said is encrypted (`millstream-tunnel`). All other ports listen at
//! loopback addresses: who runs programs on these machines reaches them.
//!
//! Executors come and go as they like. One that is told to end (SIGTERM) takes no new tasks, waits for the jobs that run, and
//! leaves; what it kept is made again elsewhere.
//!
//! # Receivers
//!
//! Those that say how they travel (all of millstream's own) run on executors, beside the tasks and without one of their slots, and
//! move when theirs is lost; the others stay on the driver. Their blocks are where they run, and a copy elsewhere if their
//! storage level asks for one; where there is a log, the driver writes it.

mod again;
mod beside;
mod blocks;
mod consistent;
mod desk;
mod direct;
mod driver;
mod endings;
mod engine;
mod executor;
mod failure;
mod folders;
mod here;
mod hosts;
mod job;
mod launch;
mod lodgers;
mod plan_codec;
mod pool;
mod query;
mod reception;
mod residents;
mod routing;
mod rows;
mod running;
mod secret;
mod sent;
mod serve;
mod settings;
mod slots;
mod stage;

#[cfg(feature = "before-main")]
mod before_main;

pub use self::driver::Cluster;
pub use self::executor::be_executor_if_asked;
