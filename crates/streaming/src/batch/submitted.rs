//! Which batches have been handed over, and which of them run: the first ones, as many as may at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::Time;

use super::job_set::JobSet;

/// Batches that have been handed over and have not ended.
pub(crate) struct Submitted {
    sets: BTreeMap<Time, (Arc<JobSet>, bool)>,
    at_once: usize,
}

impl Submitted {
    pub(crate) fn new(at_once: usize) -> Submitted {
        Submitted { sets: BTreeMap::new(), at_once: at_once.max(1) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// Takes note of a batch that was handed over.
    pub(crate) fn add(&mut self, at: Time, set: Arc<JobSet>) {
        self.sets.insert(at, (set, false));
    }

    /// Takes note of a batch that has ended.
    pub(crate) fn ended(&mut self, at: Time) -> Option<Arc<JobSet>> {
        self.sets.remove(&at).map(|(set, _)| set)
    }

    /// Returns the batches whose turn has come since it was last asked.
    pub(crate) fn begun(&mut self) -> Vec<Time> {
        let first = self.sets.iter_mut().take(self.at_once).filter(|(_, (_, begun))| !*begun);
        first
            .map(|(at, (_, begun))| {
                *begun = true;
                *at
            })
            .collect()
    }
}
