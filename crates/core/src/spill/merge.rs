//! Sorted runs merged to one, in order; equal ones in the order of the runs.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::{OpenFile, Run, RunReader, RunWriter, SpillDir, SpillFile};
use crate::data::ExchangeData;
use crate::error::Result;

/// How many runs are merged at once.
const WIDTH: usize = 128;

/// Several runs read as one. `key` says by what they are sorted.
pub(crate) struct Merge<T, K, F> {
    runs: Vec<RunReader<T>>,
    heads: BinaryHeap<Head<T, K>>,
    key: F,
}

struct Head<T, K> {
    key: K,
    run: usize,
    item: T,
}

impl<T, K: Ord> Ord for Head<T, K> {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap gives its greatest first.
        other.key.cmp(&self.key).then(other.run.cmp(&self.run))
    }
}

impl<T, K: Ord> PartialOrd for Head<T, K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T, K: Ord> PartialEq for Head<T, K> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T, K: Ord> Eq for Head<T, K> {}

impl<T: ExchangeData, K: Ord, F: Fn(&T) -> K> Merge<T, K, F> {
    fn of(file: &OpenFile, runs: Vec<Run>, key: F) -> Result<Merge<T, K, F>> {
        let mut merge = Merge {
            runs: runs.into_iter().map(|run| RunReader::new(file, run)).collect(),
            heads: BinaryHeap::new(),
            key,
        };
        for run in 0..merge.runs.len() {
            merge.pull(run)?;
        }
        Ok(merge)
    }

    fn pull(&mut self, run: usize) -> Result<()> {
        if let Some(item) = self.runs[run].next()? {
            self.heads.push(Head { key: (self.key)(&item), run, item });
        }
        Ok(())
    }

    pub(crate) fn next(&mut self) -> Result<Option<T>> {
        let Some(Head { run, item, .. }) = self.heads.pop() else { return Ok(None) };
        self.pull(run)?;
        Ok(Some(item))
    }
}

/// Merges the runs of a file; first to fewer, if they are too many to be read at once.
pub(crate) fn merge<T: ExchangeData, K: Ord, F: Fn(&T) -> K + Clone>(
    mut file: Arc<SpillFile>,
    mut runs: Vec<Run>,
    key: F,
    dir: &Arc<SpillDir>,
    piece: usize,
) -> Result<Merge<T, K, F>> {
    while runs.len() > WIDTH {
        let (open, mut writer) = (file.open()?, dir.create("merged")?);
        let mut fewer = Vec::new();
        for some in runs.chunks(WIDTH) {
            let mut merge = Merge::<T, K, F>::of(&open, some.to_vec(), key.clone())?;
            let mut out = RunWriter::default();
            while let Some(item) = merge.next()? {
                out.push(&item, piece, &mut writer)?;
            }
            fewer.push(out.finish(&mut writer)?);
        }
        (file, runs) = (writer.finish(), fewer);
    }
    Merge::of(&file.open()?, runs, key)
}
