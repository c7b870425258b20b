//! The driver's view of blocks: its own, and which executor has kept which.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use millstream_core::plan::JobPlan;
use millstream_core::storage::{Block, BlockId, BlockStore, StorageLevel, StoreUsage};
use millstream_core::threads::lock;
use millstream_core::{Error, Result};

/// Where a block is.
#[derive(Debug, Default)]
struct Lies {
    /// The executor that has made or used it last, and behind it others that have a copy.
    at: Vec<Arc<str>>,
    /// Whether no other executor can be given it.
    stays: bool,
    /// The engine that it is of, if a receiver made it: nothing can make it again.
    received: Option<u64>,
}

/// Where a task finds what it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Home {
    pub(crate) executor: Arc<str>,
    /// Whether no other executor can be given it.
    pub(crate) stays: bool,
}

/// Which executor has which block, and what executors may forget.
#[derive(Debug, Default)]
pub(crate) struct Places {
    at: Mutex<HashMap<BlockId, Lies>>,
    /// What nobody will ask for any more, until executors are told.
    forgotten: Mutex<Vec<BlockId>>,
}

impl Places {
    /// Takes note that an executor has blocks, of which some cannot leave it.
    pub(crate) fn seen(&self, executor: &str, blocks: &[BlockId], stay: &[BlockId]) {
        if blocks.is_empty() {
            return;
        }
        let executor: Arc<str> = Arc::from(executor);
        let mut at = lock(&self.at);
        for id in blocks {
            let lies = at.entry(*id).or_default();
            lies.at.retain(|other| *other != executor);
            lies.at.insert(0, Arc::clone(&executor));
            lies.stays = stay.contains(id);
        }
    }

    /// Takes note that an executor has been given a copy.
    pub(crate) fn copied(&self, executor: &str, id: BlockId) {
        let mut at = lock(&self.at);
        let lies = at.entry(id).or_default();
        if lies.at.iter().all(|other| **other != *executor) {
            lies.at.push(Arc::from(executor));
        }
    }

    /// Takes note that an executor has a block that a receiver made there.
    pub(crate) fn received(&self, executor: &str, id: BlockId, engine: u64) {
        let mut at = lock(&self.at);
        let lies = at.entry(id).or_default();
        lies.at.retain(|other| **other != *executor);
        lies.at.insert(0, Arc::from(executor));
        lies.received = Some(engine);
    }

    /// Returns the blocks that receivers made and only this executor has, each with its engine.
    pub(crate) fn received_only_by(&self, executor: &str) -> Vec<(u64, BlockId)> {
        let at = lock(&self.at);
        let only = at.iter().filter(|(_, lies)| lies.at.iter().all(|at| **at == *executor));
        only.filter_map(|(id, lies)| Some((lies.received?, *id))).collect()
    }

    /// Returns all who have a block.
    pub(crate) fn of(&self, id: BlockId) -> Vec<Arc<str>> {
        lock(&self.at).get(&id).map_or_else(Vec::new, |lies| lies.at.clone())
    }

    /// Returns where most of these blocks are; nothing if nobody has any of them.
    pub(crate) fn home(&self, blocks: &[BlockId]) -> Option<Home> {
        let at = lock(&self.at);
        let executor = most(blocks, &at)?;
        let stays = blocks.iter().any(|id| at.get(id).is_some_and(|lies| lies.stays));
        Some(Home { executor, stays })
    }

    /// Takes note that an executor is lost, with all it had.
    pub(crate) fn lost(&self, executor: &str) {
        lock(&self.at).retain(|_, lies| {
            lies.at.retain(|at| **at != *executor);
            !lies.at.is_empty()
        });
    }

    /// Takes note that something was not where it was thought to be: what is known of what can be made again is not to be trusted.
    pub(crate) fn missed(&self) {
        lock(&self.at).retain(|_, lies| lies.received.is_some());
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
                // What receivers made is sent to where it is read.
                let mut kept = stage.program.keeps(partition);
                kept.retain(|id| matches!(id, BlockId::Rdd { .. }));
                apart.extend(apart_from_most(&kept, &at));
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

/// Returns where most of these blocks are, copies among them; of several such places, the one that is named first.
fn most(blocks: &[BlockId], at: &HashMap<BlockId, Lies>) -> Option<Arc<str>> {
    let places: Vec<&Arc<str>> = blocks.iter().filter_map(|id| at.get(id)).flat_map(|lies| &lies.at).collect();
    let count = |place: &Arc<str>| places.iter().filter(|other| **other == place).count();
    places.iter().rev().max_by_key(|place| count(place)).map(|place| Arc::clone(place))
}

/// Returns which of these blocks are not where most of them are.
fn apart_from_most(blocks: &[BlockId], at: &HashMap<BlockId, Lies>) -> Vec<BlockId> {
    let Some(most) = most(blocks, at) else { return Vec::new() };
    let is_apart = |id: &&BlockId| at.get(id).is_some_and(|lies| !lies.at.contains(&most));
    blocks.iter().filter(is_apart).copied().collect()
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
        !self.places.of(id).is_empty() || self.local.contains(id)
    }

    fn remove(&self, id: BlockId) -> Result<()> {
        // Blocks of receivers that run on the driver are here, and nowhere else.
        let lay = lock(&self.places.at).remove(&id);
        if lay.is_some() || matches!(id, BlockId::Rdd { .. }) {
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

    fn at(executor: &str) -> Option<String> {
        Some(executor.to_owned())
    }

    #[test]
    fn a_block_is_there_while_an_executor_has_it() {
        let places = Arc::new(Places::default());
        let store = DriverStore::new(Arc::new(MemoryStore::new(1 << 20)), Arc::clone(&places));
        let home = |id: BlockId| places.home(&[id]).map(|home| home.executor.to_string());
        assert!(!store.contains(id(0)));
        places.seen("a", &[id(0), id(1)], &[]);
        places.seen("b", &[id(1)], &[]);
        places.copied("c", id(0));
        assert!(store.contains(id(0)) && home(id(1)) == at("b") && home(id(0)) == at("a"));
        places.lost("b");
        assert_eq!(home(id(1)), at("a"), "it had one too");
        places.lost("a");
        assert!(!store.contains(id(1)) && home(id(0)) == at("c"), "the copy is as good");
        places.missed();
        assert!(!store.contains(id(0)));
    }

    #[test]
    fn what_cannot_leave_its_executor_makes_its_tasks_stay() {
        let places = Places::default();
        places.seen("a", &[id(0), id(1)], &[id(1)]);
        let stays = |blocks: &[BlockId]| places.home(blocks).map(|home| home.stays);
        assert_eq!((stays(&[id(0)]), stays(&[id(0), id(1)]), stays(&[id(2)])), (Some(false), Some(true), None));
    }

    #[test]
    fn what_lies_apart_from_most_is_forgotten() {
        let at = |places: &[&str]| -> HashMap<BlockId, Lies> {
            let lies = |at: &str| Lies { at: at.split('+').map(Arc::from).collect(), ..Lies::default() };
            places.iter().enumerate().filter(|(_, at)| !at.is_empty()).map(|(p, at)| (id(p), lies(at))).collect()
        };
        for (places, apart) in [
            (vec!["a", "a"], vec![]),
            (vec!["a", ""], vec![]),
            (vec!["", ""], vec![]),
            (vec!["a", "b", "b"], vec![0]),
            (vec!["a", "b"], vec![1]),
            (vec!["a", "b+a"], vec![]),
            (vec!["a", "b+c", "c"], vec![0]),
            (vec!["a", "b", "", "a", "c"], vec![1, 4]),
        ] {
            let all: Vec<BlockId> = (0..places.len()).map(id).collect();
            let want: Vec<BlockId> = apart.iter().copied().map(id).collect();
            assert_eq!(apart_from_most(&all, &at(&places)), want, "{places:?}");
        }
    }

    #[test]
    fn a_received_block_is_forgotten_only_with_all_who_have_it_and_told_when_it_is_removed() {
        let places = Arc::new(Places::default());
        let store = DriverStore::new(Arc::new(MemoryStore::new(1 << 20)), Arc::clone(&places));
        let [first, second] = [1, 2].map(|sequence| BlockId::Received { stream: 0, sequence });
        places.copied("b", first);
        places.received("a", first, 7);
        places.received("a", second, 7);
        places.missed();
        assert!(store.contains(first) && store.contains(second), "nothing can make them again");
        assert_eq!(places.home(&[first]).map(|home| home.executor.to_string()), at("a"), "it made it");
        assert_eq!(places.received_only_by("a"), [(7, second)]);
        places.lost("a");
        assert!(store.contains(first) && !store.contains(second));
        store.remove(first).unwrap();
        assert_eq!(places.take_forgotten(), [first]);
    }

    #[test]
    fn what_is_removed_is_told_once() {
        let places = Arc::new(Places::default());
        let store = DriverStore::new(Arc::new(MemoryStore::new(1 << 20)), Arc::clone(&places));
        places.seen("a", &[id(0)], &[]);
        store.remove(id(0)).unwrap();
        store.remove(BlockId::Received { stream: 0, sequence: 1 }).unwrap();
        assert!(!store.contains(id(0)));
        assert_eq!(places.take_forgotten(), [id(0)]);
        assert!(places.take_forgotten().is_empty());
    }
}
