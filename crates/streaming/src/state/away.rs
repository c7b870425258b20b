//! States that stay where the tasks run, in other processes, and are asked there: a look-up is a job on the partition that has its key.
//!
//! What is lent to a reader is the table itself, at the version of its batch: an Rdd of tables that is kept, as the state is. It lies
//! where the state lies, and costs what any older version of a table costs: what later batches have changed since.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, Weak, mpsc};

use millstream_core::partitioner::{key_hash, place_hash};
use millstream_core::threads::lock;
use millstream_core::{AnyRdd, CallSite, Data, Error, ErrorKind, ExchangeData, Key, Rdd, RddId, Result, Time, capture};

use super::table::StateTable;

/// The tables of batches that somebody may still ask. Whoever reads holds no Rdd, and so no engine: these do, until the program ends.
pub(super) struct Lent<K, S> {
    tables: Mutex<BTreeMap<RddId, (Rdd<StateTable<K, S>>, usize)>>,
    /// Readers have one job at a time: batches want the slots, too.
    asking: Mutex<()>,
}

impl<K, S> Lent<K, S> {
    pub(super) fn new() -> Arc<Lent<K, S>> {
        Arc::new(Lent { tables: Mutex::default(), asking: Mutex::default() })
    }

    fn give_back(&self, id: RddId) {
        let last = {
            let mut tables = lock(&self.tables);
            let Some((_, readers)) = tables.get_mut(&id) else { return };
            *readers -= 1;
            if *readers > 0 { None } else { tables.remove(&id) }
        };
        // A lineage may be long: it is dropped without the lock.
        if let Some((tables, _)) = last {
            AnyRdd::new(&tables).unpersist();
        }
    }
}

impl<K, S> Drop for Lent<K, S> {
    fn drop(&mut self) {
        for (tables, _) in std::mem::take(&mut *lock(&self.tables)).into_values() {
            AnyRdd::new(&tables).unpersist();
        }
    }
}

/// The states of all keys as they were behind one batch, on the executors that have them.
#[doc(hidden)]
pub struct AwayStates<K, S> {
    time: Time,
    len: usize,
    /// Whether keys are where their hashes say.
    by_hash: bool,
    partitions: usize,
    id: RddId,
    site: CallSite,
    lent: Weak<Lent<K, S>>,
}

impl<K: Key, S: ExchangeData> AwayStates<K, S> {
    /// Has the tables of a batch kept for who reads them. This runs the batch as far as that.
    pub(super) fn of(
        lent: &Arc<Lent<K, S>>,
        tables: &Rdd<StateTable<K, S>>,
        time: Time,
        by_hash: bool,
        site: CallSite,
    ) -> Result<AwayStates<K, S>> {
        let id = tables.id();
        let mut states = AwayStates {
            time,
            len: 0,
            by_hash,
            partitions: tables.num_partitions(),
            id,
            site,
            lent: Arc::downgrade(lent),
        };
        lock(&lent.tables).entry(id).or_insert_with(|| (tables.clone(), 0)).1 += 1;
        let counts = CallSite::scope(Some(site), || {
            let kept = tables.cache();
            kept.map(|table: StateTable<K, S>| table.lock().len() as u64).collect()
        })?;
        states.len = usize::try_from(counts.iter().sum::<u64>()).unwrap_or(usize::MAX);
        Ok(states)
    }

    /// Returns the time of the batch that they are behind.
    pub fn time(&self) -> Time {
        self.time
    }

    /// Returns how many keys there were.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Says whether there was no key.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the states that some keys had, of those that had one. It waits for a job, which is left out if nobody wants the answer
    /// any more when it could begin.
    ///
    /// # Errors
    ///
    /// The kind is `Stopped` if the program has ended; else whatever the job fails with, as where what it reads was lost with an
    /// executor and cannot be made again.
    pub fn get(&self, keys: Vec<K>, wanted: impl Fn() -> bool) -> Result<Vec<(K, S)>> {
        let mut places: Vec<usize> = match self.by_hash {
            true => keys.iter().map(|key| place_hash(key_hash(key), self.partitions)).collect(),
            false => (0..self.partitions).collect(),
        };
        places.sort_unstable();
        places.dedup();
        self.ask(places, wanted, |tables| {
            tables.flat_map(capture(keys, |keys: &Vec<K>, table: StateTable<K, S>| found(&table, keys)))
        })
    }

    /// Reads all keys and their states, a partition at a time: a job each. In which order is not said.
    pub fn entries(self: Arc<Self>) -> impl Iterator<Item = Result<Vec<(K, S)>>> + Send + 'static {
        (0..self.partitions).map(move |partition| {
            self.ask(vec![partition], || true, |tables| tables.flat_map(|table: StateTable<K, S>| table.entries()))
        })
    }

    fn ask(
        &self,
        places: Vec<usize>,
        wanted: impl Fn() -> bool,
        of: impl FnOnce(&Rdd<StateTable<K, S>>) -> Rdd<(K, S)>,
    ) -> Result<Vec<(K, S)>> {
        let gone = || Error::new(ErrorKind::Stopped, "the program has ended, and its states with it").at(self.site);
        let lent = self.lent.upgrade().ok_or_else(gone)?;
        let tables = lock(&lent.tables).get(&self.id).map(|(tables, _)| tables.clone()).ok_or_else(gone)?;
        let _one_at_a_time = lock(&lent.asking);
        if !wanted() {
            return Ok(Vec::new());
        }
        CallSite::scope(Some(self.site), || of(&tables).look_at_partitions(places, self.site))
    }
}

/// Looks some keys up in a table, on the executor that has it. It waits for one call of the program's function at the most.
fn found<K: Key, S: Data>(table: &StateTable<K, S>, keys: &[K]) -> Vec<(K, S)> {
    let (tell, told) = mpsc::channel();
    for key in keys {
        let (tell, known) = (tell.clone(), key.clone());
        table.look_up(key.clone(), move |state| {
            // Who asked is waiting.
            let _ = tell.send(state.map(|(state, _)| (known, state)));
        });
    }
    drop(tell);
    told.into_iter().flatten().collect()
}

impl<K, S> Drop for AwayStates<K, S> {
    fn drop(&mut self) {
        if let Some(lent) = self.lent.upgrade() {
            lent.give_back(self.id);
        }
    }
}

impl<K, S> fmt::Debug for AwayStates<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AwayStates({} keys at {})", self.len, self.time)
    }
}
