//! What a sink is told when a program starts: which run it is, what the checkpoint knows, and how batches are run.

use std::collections::BTreeSet;

use millstream_core::{Error, ErrorKind, Result, codec};
use serde::de::DeserializeOwned;

/// An output of a program that starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputRun {
    pub(crate) app_id: String,
    pub(crate) output: String,
    pub(crate) epoch: u64,
    pub(crate) start: OutputStart,
    pub(crate) last: Option<Vec<u8>>,
}

/// What all outputs of a program that starts are told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OutputStart {
    /// What the run is called, and earlier ones of the same checkpoint.
    pub(crate) name: String,
    pub(crate) earlier: BTreeSet<String>,
    pub(crate) concurrent_jobs: usize,
    pub(crate) goes_on_after_failures: bool,
}

impl OutputRun {
    /// Returns the application, as in [`BatchKey`](crate::BatchKey).
    pub fn app_id(&self) -> &str {
        &self.app_id
    }

    /// Returns the output, as in [`BatchKey`](crate::BatchKey).
    pub fn output(&self) -> &str {
        &self.output
    }

    /// Returns the token of this run, as [`OutputBatch::fencing_token`](crate::OutputBatch::fencing_token).
    pub fn fencing_token(&self) -> u64 {
        self.epoch
    }

    /// Returns what this run is called, as no other run of any program is: tokens count alike in a checkpoint directory and in a
    /// copy of it, and names do not. It is durable before the sink is told of it. Empty without a checkpoint directory, and if no sink of the program
    /// [tells runs apart](crate::Transactional::tells_runs_apart).
    pub fn name(&self) -> &str {
        &self.start.name
    }

    /// Says whether an earlier run of this checkpoint directory had that name. All are remembered since the last one that ended
    /// a batch, and 64 before it.
    pub fn follows(&self, name: &str) -> bool {
        self.start.earlier.contains(name)
    }

    /// Returns what the sink had prepared for the last batch of this output of which the checkpoint knows that it is committed.
    ///
    /// # Errors
    ///
    /// The kind is `Data`: another build wrote it, in a form that this one does not read.
    pub fn last_committed<P: DeserializeOwned>(&self) -> Result<Option<P>> {
        let last = self.last.as_deref().map(codec::decode).transpose();
        last.map_err(|error: Error| {
            let text = format!("what {} committed last cannot be read by this build: {}", self.output, error.message());
            Error::new(ErrorKind::Data, text)
        })
    }

    /// Returns how many batches are run at the same time.
    pub fn concurrent_jobs(&self) -> usize {
        self.start.concurrent_jobs
    }

    /// Says whether later batches are run behind one that failed, and that the next start runs again.
    pub fn goes_on_after_failures(&self) -> bool {
        self.start.goes_on_after_failures
    }
}
