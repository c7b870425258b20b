//! What runs on this executor beside tasks: receivers. The executor's side; the driver's is in `residents.rs`.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use millstream_core::plan::away::{DriverBlocks, Worker, written_error};
use millstream_core::plan::resident::{ResidentLine, resident_arrives};
use millstream_core::storage::{Block, BlockId, StorageLevel};
use millstream_core::threads::{self, lock};
use millstream_core::{Error, Result, panicked};

use crate::desk::{AtDriver, DeskClient, Question, What};
use crate::here::Here;

/// What runs here, by the number that the driver gave it, and where it is told things.
#[derive(Debug, Default)]
pub(crate) struct Lodgers(Mutex<BTreeMap<u64, Sender<Bytes>>>);

impl Lodgers {
    /// Begins what the driver has sent, on a thread of its own. Its end is told to the driver.
    pub(crate) fn begin(&'static self, here: &Here, number: u64, engine: u64, plan: Bytes) {
        let (say, said) = mpsc::channel();
        lock(&self.0).insert(number, say);
        let (desk, memory, worker) = (Arc::clone(here.desk()), here.memory(), here.worker(engine));
        let running = threads::spawn(format!("resident-{number}"), move || {
            let run = || {
                let worker = worker?;
                let line = Line { number, engine, said: Mutex::new(said), desk: Arc::clone(&desk), worker, memory };
                resident_arrives(&plan)?.run(Arc::new(line));
                Ok(())
            };
            let how = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| Err(panicked(&*panic)));
            lock(&self.0).remove(&number);
            over(&desk, number, how);
        });
        match running {
            Ok(thread) => thread.detach(),
            Err(error) => {
                lock(&self.0).remove(&number);
                over(here.desk(), number, Err(error));
            }
        }
    }

    /// Hands a message on.
    pub(crate) fn say(&self, number: u64, message: Bytes) {
        if let Some(say) = lock(&self.0).get(&number) {
            let _ = say.send(message);
        }
    }
}

/// Tells the driver that something is over.
fn over(desk: &DeskClient, number: u64, how: Result<()>) {
    let why = how.err().map(|error| {
        tracing::warn!(%error, "what ran beside tasks has failed");
        written_error(&error).unwrap_or_default()
    });
    if let Err(error) = desk.ask(&Question { engine: 0, what: What::Over(number, why) }) {
        tracing::debug!(%error, "the driver does not hear that something is over");
    }
}

/// What one of them has to do with the world.
struct Line {
    number: u64,
    engine: u64,
    said: Mutex<Receiver<Bytes>>,
    desk: Arc<DeskClient>,
    worker: Arc<Worker>,
    memory: u64,
}

impl ResidentLine for Line {
    fn heard(&self, patience: Duration) -> Option<Bytes> {
        lock(&self.said).recv_timeout(patience).ok()
    }

    fn ask(&self, message: Bytes) -> Result<Bytes> {
        let answer = self.desk.ask(&Question { engine: self.engine, what: What::Resident(self.number, message) })?;
        Ok(answer.unwrap_or_default())
    }

    fn keep(&self, id: BlockId, block: Block, level: StorageLevel) -> Result<()> {
        let copied = if level.replication() > 1 { block.written()? } else { None };
        self.worker.blocks().put(id, block, level)?;
        if let Some(Block::Bytes { bytes, items, .. }) = copied {
            let driver = AtDriver::new(Arc::clone(&self.desk), self.engine);
            if let Err(error) = driver.copy(id, level, items, bytes) {
                // The block is as good; it is lost with its executor.
                tracing::warn!(%error, "there is no second copy of block {id}");
            }
        }
        Ok(())
    }

    fn memory(&self) -> u64 {
        self.memory
    }
}

/// Makes the error with which something was over.
pub(crate) fn read_end(why: Option<Vec<u8>>) -> Result<()> {
    match why {
        None => Ok(()),
        Some(written) => Err(millstream_core::plan::away::read_error(&written).unwrap_or_else(|error: Error| error)),
    }
}
