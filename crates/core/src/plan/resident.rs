//! What runs in another process beside its tasks, for as long as it likes, and talks with the driver: receivers.
//!
//! It is written down as stages are, and found by the code's offset; see [`ship`](super::ship).

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;

use super::ship::{PlanReader, PlanWriter};
use crate::clock::Wake;
use crate::context::Env;
use crate::error::Result;
use crate::events::ExecutorInfo;
use crate::storage::{Block, BlockId, StorageLevel};

/// Something that runs on an executor beside the tasks. It takes none of its slots.
pub trait Resident: Send + 'static {
    /// Runs until it is over.
    fn run(self: Box<Self>, line: Arc<dyn ResidentLine>);
}

/// What a resident has to do with the world.
pub trait ResidentLine: Send + Sync + 'static {
    /// Waits for what the driver tells; nothing if it tells nothing for so long.
    fn heard(&self, patience: Duration) -> Option<Bytes>;

    /// Tells the driver something, and waits for its answer.
    ///
    /// # Errors
    ///
    /// What the driver answers. The kind is `Unavailable` if it does not, and `Stopped` if it has let the resident go.
    fn ask(&self, message: Bytes) -> Result<Bytes>;

    /// Keeps a block here, and a copy elsewhere if the level asks for that. The driver learns of it from who says so to
    /// [`Residents::keeps`].
    ///
    /// # Errors
    ///
    /// As [`BlockStore::put`](crate::storage::BlockStore::put).
    fn keep(&self, id: BlockId, block: Block, level: StorageLevel) -> Result<()>;

    /// Returns how many bytes of memory blocks, shuffles and tasks may take here together.
    fn memory(&self) -> u64;
}

/// Who runs residents: the driver's side of a cluster.
pub trait Residents: Send + Sync + 'static {
    /// Returns the executors that may be given something new, in the order in which they joined.
    fn executors(&self) -> Vec<ExecutorInfo>;

    /// Has `waker` woken whenever there are other executors.
    fn watch(&self, waker: Weak<dyn Wake>);

    /// Begins what [`ship_resident`] wrote on an executor, and returns its number.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable`: the executor is gone.
    fn begin(&self, env: &Arc<Env>, executor: &str, plan: Bytes, host: Arc<dyn ResidentHost>) -> Result<u64>;

    /// Tells a resident something. One that is over does not hear it.
    fn tell(&self, resident: u64, message: Bytes);

    /// Lets a resident go: what it asks from now on is refused, and its host is told nothing any more.
    fn let_go(&self, resident: u64);

    /// Takes note that a block is where a resident runs. Returns whether anybody has it, as the executor may just have been lost.
    fn keeps(&self, resident: u64, id: BlockId) -> bool;
}

/// The driver's side of one resident.
pub trait ResidentHost: Send + Sync + 'static {
    /// Answers what it asks.
    ///
    /// # Errors
    ///
    /// Whatever it is to hear.
    fn asked(&self, resident: u64, message: Bytes) -> Result<Bytes>;

    /// Is told once that it is over: by itself, or because it could not begin or its executor is lost (of the kind `Unavailable`).
    fn over(&self, resident: u64, how: Result<()>);

    /// Is told that its executor is about to leave: what it has not said by the time it is over may be lost.
    fn leaves(&self, resident: u64);
}

/// Writes a resident down for the same binary elsewhere: code first, which makes a `Box<dyn Resident>`.
///
/// # Errors
///
/// The kind is `User`: closures that capture silently, or values that refuse to be written.
pub fn ship_resident(write: impl FnOnce(&mut PlanWriter) -> Result<()>) -> Result<Bytes> {
    let mut w = PlanWriter::new();
    write(&mut w)?;
    w.finish().map(Bytes::from)
}

/// Reads what [`ship_resident`] wrote.
///
/// # Errors
///
/// The kind is `Data`: these are other bytes, or another build wrote them.
pub fn resident_arrives(bytes: &[u8]) -> Result<Box<dyn Resident>> {
    PlanReader::new(bytes)?.rebuilt()
}
