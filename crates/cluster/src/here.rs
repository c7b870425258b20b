//! What this process is, if it is an executor: one for all tasks that Ballista hands it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use millstream_core::plan::away::Worker;
use millstream_core::threads::lock;
use millstream_core::{Error, ErrorKind, Result};

use crate::desk::{AtDriver, DeskClient, Tell};

static HERE: OnceLock<Here> = OnceLock::new();

/// An executor's workers, one for each engine of the driver.
pub(crate) struct Here {
    /// What the driver calls it.
    id: String,
    desk: Arc<DeskClient>,
    folder: PathBuf,
    memory: u64,
    storage_fraction: f64,
    workers: Mutex<BTreeMap<u64, Arc<Worker>>>,
}

impl fmt::Debug for Here {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "executor of {:?}", self.desk)
    }
}

impl Here {
    /// Makes this process an executor.
    ///
    /// # Errors
    ///
    /// The kind is `Internal`: it is one already.
    pub(crate) fn become_one(
        id: String,
        desk: Arc<DeskClient>,
        folder: PathBuf,
        memory: u64,
        storage_fraction: f64,
    ) -> Result<()> {
        let here = Here { id, desk, folder, memory, storage_fraction, workers: Mutex::default() };
        HERE.set(here).map_err(|_| millstream_core::bug!("a process became an executor a second time"))
    }

    /// Returns what this process is.
    ///
    /// # Errors
    ///
    /// The kind is `Internal`: it is no executor.
    pub(crate) fn get() -> Result<&'static Here> {
        HERE.get()
            .ok_or_else(|| Error::new(ErrorKind::Internal, "a task of a cluster came to a process that is no executor"))
    }

    /// Returns what the driver calls it.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Returns the worker for an engine, and makes it with the engine's first task.
    ///
    /// # Errors
    ///
    /// None that can happen.
    pub(crate) fn worker(&self, engine: u64) -> Result<Arc<Worker>> {
        let mut workers = lock(&self.workers);
        let worker = workers.entry(engine).or_insert_with(|| {
            let driver = Arc::new(AtDriver::new(Arc::clone(&self.desk), engine));
            let folder = self.folder.join(format!("engine-{engine}"));
            Arc::new(Worker::new(&folder, self.memory, self.storage_fraction, Arc::clone(&driver) as _, driver))
        });
        Ok(Arc::clone(worker))
    }

    /// Does what the driver tells. Returns whether that is the end.
    pub(crate) fn heed(&self, tell: Tell) -> bool {
        match tell {
            Tell::Forget(blocks) => {
                let workers: Vec<_> = lock(&self.workers).values().cloned().collect();
                for (worker, id) in workers.iter().flat_map(|worker| blocks.iter().map(move |id| (worker, *id))) {
                    if let Err(error) = worker.blocks().remove(id) {
                        tracing::warn!(%error, "block {id} could not be removed");
                    }
                }
                false
            }
            Tell::Gone(engine) => {
                let gone = lock(&self.workers).remove(&engine);
                drop(gone);
                false
            }
            Tell::Bye => true,
        }
    }
}
