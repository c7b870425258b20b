//! What this process is, if it is an executor: one for all tasks that Ballista hands it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use millstream_core::plan::away::{Worker, written_block};
use millstream_core::storage::BlockId;
use millstream_core::threads::{self, lock};
use millstream_core::{Error, ErrorKind, Result};

use crate::desk::{AtDriver, DeskClient, Question, Reports, Tell, What};
use crate::endings::Endings;
use crate::hosts::Peers;
use crate::lodgers::Lodgers;

static HERE: OnceLock<Here> = OnceLock::new();

/// The folder of what stages leave for each other, within an executor's.
pub(crate) const SHUFFLES: &str = "shuffles";

/// An executor's workers, one for each engine of the driver.
pub(crate) struct Here {
    /// What the driver calls it.
    id: Arc<str>,
    /// What people call the machine.
    host: Arc<str>,
    desk: Arc<DeskClient>,
    reports: Arc<Reports>,
    folder: PathBuf,
    memory: u64,
    storage_fraction: f64,
    workers: Mutex<BTreeMap<u64, Arc<Worker>>>,
    /// Ways to executors of other hosts, if there are any.
    peers: OnceLock<Arc<Peers>>,
    lodgers: Lodgers,
    endings: Endings,
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
        (id, host): (String, String),
        desk: Arc<DeskClient>,
        reports: Arc<Reports>,
        folder: PathBuf,
        memory: u64,
        storage_fraction: f64,
    ) -> Result<()> {
        let (id, host, peers) = (id.into(), host.into(), OnceLock::new());
        let (workers, lodgers, endings) = (Mutex::default(), Lodgers::default(), Endings::default());
        let here = Here { id, host, desk, reports, folder, memory, storage_fraction, workers, peers, lodgers, endings };
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

    /// Takes note of its ways to executors of other hosts.
    pub(crate) fn meet(&self, peers: Arc<Peers>) {
        let _ = self.peers.set(peers);
    }

    /// Returns where its files are.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns what the driver calls it.
    pub(crate) fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// Returns where the driver is asked.
    pub(crate) fn desk(&self) -> &Arc<DeskClient> {
        &self.desk
    }

    /// Returns where the driver is told what it has not asked for.
    pub(crate) fn reports(&self) -> &Reports {
        &self.reports
    }

    /// Returns what tasks have ended, for the next sign of life.
    pub(crate) fn endings(&self) -> &Endings {
        &self.endings
    }

    /// Returns how many bytes its blocks, shuffles and tasks may take.
    pub(crate) fn memory(&self) -> u64 {
        self.memory
    }

    /// Returns what people call the machine.
    pub(crate) fn host(&self) -> &Arc<str> {
        &self.host
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

    /// Sends a block for a task of another executor, or the word that it is not here.
    fn send(&self, number: u64, engine: u64, id: BlockId) -> Result<()> {
        let written = self.worker(engine).and_then(|worker| written_block(&**worker.blocks(), id));
        let block = written.unwrap_or_else(|error| {
            tracing::warn!(%error, "block {id} cannot be sent");
            None
        });
        self.desk.ask(&Question { engine, what: What::Here(number, block) }).map(|_| ())
    }

    /// Asks the driver to be sent home.
    ///
    /// # Errors
    ///
    /// The driver does not answer, or has given this executor up.
    pub(crate) fn leave(&self) -> Result<()> {
        self.desk.leave()
    }

    /// Does what the driver tells. Returns whether that is the end.
    pub(crate) fn heed(&'static self, tell: Tell) -> bool {
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
            Tell::Left(port) => {
                if let Some(peers) = self.peers.get() {
                    peers.left(port);
                }
                false
            }
            Tell::Heard => false,
            Tell::Sweep(jobs) => {
                let shuffles = self.folder.join(SHUFFLES);
                // To remove much takes a while, in which the driver has other things to tell.
                let sweeping = threads::spawn("sweeping", move || {
                    // A job may have left nothing here.
                    for job in jobs {
                        let _ = std::fs::remove_dir_all(shuffles.join(job));
                    }
                });
                match sweeping {
                    Ok(thread) => thread.detach(),
                    Err(error) => tracing::warn!(%error, "files of jobs that have ended could not be removed"),
                }
                false
            }
            Tell::Keep { engine, id, level, items, bytes } => {
                let kept = self.worker(engine).and_then(|worker| worker.keep(id, level, items, bytes));
                if let Err(error) = kept {
                    tracing::warn!(%error, "a copy of block {id} is not kept");
                }
                false
            }
            Tell::Send { number, engine, id } => {
                // To read and write it may take a while, in which the driver has other things to tell.
                let sending = threads::spawn("sending", move || {
                    if let Err(error) = Here::get().and_then(|here| here.send(number, engine, id)) {
                        tracing::warn!(%error, "block {id} could not be sent");
                    }
                });
                match sending {
                    Ok(thread) => thread.detach(),
                    Err(error) => tracing::warn!(%error, "block {id} could not be sent"),
                }
                false
            }
            Tell::Begin { resident, engine, plan } => {
                self.lodgers.begin(self, resident, engine, plan);
                false
            }
            Tell::Say { resident, message } => {
                self.lodgers.say(resident, message);
                false
            }
            Tell::Bye => true,
        }
    }
}
