//! The driver's view of blocks: its own, and which executor has kept which.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use millstream_core::plan::JobPlan;
use millstream_core::storage::{Block, BlockId, BlockStore, StorageLevel, StoreUsage};
use millstream_core::threads::lock;
use millstream_core::{Error, Result};

/// Which executor has which block, and what executors may forget.
#[derive(Debug, Default)]
pub(crate) struct Places {
    at: Mutex<HashMap<BlockId, Arc<str>>>,
    /// What nobody will ask for any more, until executors are told.
    forgotten: Mutex<Vec<BlockId>>,
}

impl Places {
    /// Takes note that an executor has blocks.
    pub(crate) fn seen(&self, executor: &str, blocks: &[BlockId]) {
        if blocks.is_empty() {
            return;
        }
        let executor: Arc<str> = Arc::from(executor);
        lock(&self.at).extend(blocks.iter().map(|id| (*id, Arc::clone(&executor))));
    }

    /// Returns who has a block.
    pub(crate) fn of(&self, id: BlockId) -> Option<Arc<str>> {
        lock(&self.at).get(&id).cloned()
    }

    /// Takes note that an executor is lost, with all it had.
    pub(crate) fn lost(&self, executor: &str) {
        lock(&self.at).retain(|_, at| **at != *executor);
    }

    /// Takes note that something was not where it was thought to be: what is known is not to be trusted.
    pub(crate) fn missed(&self) {
        lock(&self.at).clear();
    }

    /// Makes sure that each task finds all the kept partitions that it reads in one place. Of those that lie in several, the
    /// ones where fewer lie are forgotten, to be made again where the others are.
    ///
    /// # Errors
    ///
    /// The job is to be planned again, without what was forgotten.
    pub(crate) fn settle(&self, job: &JobPlan) -> Result<()> {
        let last = job.stages.len().saturating_sub(1);
        let mut at = lock(&self.at);
        if at.is_empty() {
            return Ok(());
        }
        let mut apart = Vec::new();
        for (number, stage) in job.stages.iter().enumerate() {
            let partitions = if number == last { job.wanted.clone() } else { (0..stage.partitions).collect() };
            for partition in partitions {
                apart.extend(apart_from_most(&stage.program.keeps(partition), &at));
            }
        }
        if apart.is_empty() {
            return Ok(());
        }
        apart.iter().for_each(|id| drop(at.remove(id)));
        Err(Error::lost("kept partitions that a task reads together lie in several places"))
    }

    /// Takes what executors are to be told to forget.
    pub(crate) fn take_forgotten(&self) -> Vec<BlockId> {
        std::mem::take(&mut *lock(&self.forgotten))
    }
}

/// Returns which of these blocks are not where most of them are; of several such places, the first one's.
fn apart_from_most(blocks: &[BlockId], at: &HashMap<BlockId, Arc<str>>) -> Vec<BlockId> {
    let placed: Vec<(BlockId, &Arc<str>)> = blocks.iter().filter_map(|id| Some((*id, at.get(id)?))).collect();
    let count = |place: &Arc<str>| placed.iter().filter(|(_, other)| *other == place).count();
    let Some((_, most)) = placed.iter().rev().max_by_key(|(_, place)| count(place)) else { return Vec::new() };
    placed.iter().filter(|(_, place)| place != most).map(|(id, _)| *id).collect()
}

/// The driver's store. It has what executors have, as far as plans are concerned.
#[derive(Debug)]
pub(crate) struct DriverStore {
    local: Arc<dyn BlockStore>,
    places: Arc<Places>,
}

impl DriverStore {
    pub(crate) fn new(local: Arc<dyn BlockStore>, places: Arc<Places>) -> DriverStore {
        DriverStore { local, places }
    }
}

impl BlockStore for DriverStore {
    fn put(&self, id: BlockId, block: Block, level: StorageLevel) -> Result<()> {
        self.local.put(id, block, level)
    }

    fn get(&self, id: BlockId) -> Result<Option<Block>> {
        self.local.get(id)
    }

    fn contains(&self, id: BlockId) -> bool {
        self.places.of(id).is_some() || self.local.contains(id)
    }

    fn remove(&self, id: BlockId) -> Result<()> {
        // Blocks of receivers are here, and nowhere else.
        if matches!(id, BlockId::Rdd { .. }) {
            lock(&self.places.at).remove(&id);
            lock(&self.places.forgotten).push(id);
        }
        self.local.remove(id)
    }

    fn make_room(&self, bytes: u64) -> Result<()> {
        self.local.make_room(bytes)
    }

    fn usage(&self) -> StoreUsage {
        self.local.usage()
    }
}

#[cfg(test)]
mod tests {
    use millstream_core::RddId;
    use millstream_core::storage::MemoryStore;

    use super::*;

    fn id(partition: usize) -> BlockId {
        BlockId::Rdd { rdd: RddId(7), partition }
    }

    #[test]
    fn a_block_is_there_while_an_executor_has_it() {
        let places = Arc::new(Places::default());
        let store = DriverStore::new(Arc::new(MemoryStore::new(1 << 20)), Arc::clone(&places));
        assert!(!store.contains(id(0)));
        places.seen("a", &[id(0), id(1)]);
        places.seen("b", &[id(1)]);
        assert!(store.contains(id(0)) && places.of(id(1)).as_deref() == Some("b"));
        places.lost("b");
        assert!(!store.contains(id(1)) && store.contains(id(0)));
        places.missed();
        assert!(!store.contains(id(0)));
    }

    #[test]
    fn what_lies_apart_from_most_is_forgotten() {
        let at = |places: &[&str]| -> HashMap<BlockId, Arc<str>> {
            places.iter().enumerate().filter(|(_, at)| !at.is_empty()).map(|(p, at)| (id(p), Arc::from(*at))).collect()
        };
        for (places, apart) in [
            (vec!["a", "a"], vec![]),
            (vec!["a", ""], vec![]),
            (vec!["", ""], vec![]),
            (vec!["a", "b", "b"], vec![0]),
            (vec!["a", "b"], vec![1]),
            (vec!["a", "b", "", "a", "c"], vec![1, 4]),
        ] {
            let all: Vec<BlockId> = (0..places.len()).map(id).collect();
            let want: Vec<BlockId> = apart.iter().copied().map(id).collect();
            assert_eq!(apart_from_most(&all, &at(&places)), want, "{places:?}");
        }
    }

    #[test]
    fn what_is_removed_is_told_once() {
        let places = Arc::new(Places::default());
        let store = DriverStore::new(Arc::new(MemoryStore::new(1 << 20)), Arc::clone(&places));
        places.seen("a", &[id(0)]);
        store.remove(id(0)).unwrap();
        store.remove(BlockId::Received { stream: 0, sequence: 1 }).unwrap();
        assert!(!store.contains(id(0)));
        assert_eq!(places.take_forgotten(), [id(0)]);
        assert!(places.take_forgotten().is_empty());
    }
}
