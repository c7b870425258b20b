//! `LocalThreads`: jobs on threads of this process, values handed over as they are.

mod job;
mod lanes;
mod pool;

pub use self::pool::LocalThreads;
