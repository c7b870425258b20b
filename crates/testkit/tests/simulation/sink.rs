//! A transactional sink in another place: it outlives the program, loses nothing, and the machine may stop at any call of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use millstream_core::threads::lock;
use millstream_core::{Error, ErrorKind, Rdd, Result, Time};
use millstream_streaming::{OutputBatch, OutputRun, Transactional};
use millstream_testkit::SimDisk;

use super::feed::{Feed, Numbered};

/// What stays when the program dies.
#[derive(Clone, Debug)]
pub(crate) struct Sink {
    outside: Arc<Mutex<Outside>>,
    feed: Feed,
    disk: SimDisk,
}

#[derive(Debug, Default)]
struct Outside {
    /// At which calls the machine stops, and whether those have had their effect by then.
    stops: BTreeMap<usize, bool>,
    calls: usize,
    /// What is prepared, by handle.
    prepared: BTreeMap<u64, (Time, Vec<Numbered>)>,
    /// Handles that have been given out.
    handles: u64,
    committed: BTreeMap<Time, Vec<Numbered>>,
    /// Handles that have been committed.
    done: BTreeSet<u64>,
    token: u64,
}

impl Sink {
    pub(crate) fn new(stops: BTreeMap<usize, bool>, feed: &Feed, disk: &SimDisk) -> Sink {
        let outside = Outside { stops, ..Outside::default() };
        Sink { outside: Arc::new(Mutex::new(outside)), feed: feed.clone(), disk: disk.clone() }
    }

    pub(crate) fn committed(&self) -> BTreeMap<Time, Vec<Numbered>> {
        lock(&self.outside).committed.clone()
    }

    fn call<R>(&self, effect: impl FnOnce(&mut Outside) -> R) -> Result<R> {
        let mut outside = lock(&self.outside);
        outside.calls += 1;
        let (calls, down) =
            (outside.calls, Error::new(ErrorKind::Unavailable, "the machine stops in a call of the sink"));
        let stop = outside.stops.get(&calls).copied();
        if stop == Some(false) {
            self.disk.crash(calls as u64);
            return Err(down);
        }
        let done = effect(&mut outside);
        if stop == Some(true) {
            self.disk.crash(calls as u64);
            return Err(down);
        }
        Ok(done)
    }

    fn check_token(&self, outside: &Outside, what: &str, token: u64) {
        if token != outside.token {
            self.feed.mistake(format!("{what} with the token {token}, and the start had {}", outside.token));
        }
    }
}

impl Transactional<Numbered> for Sink {
    type Prepared = u64;

    fn prepare(&self, rdd: &Rdd<Numbered>, batch: &OutputBatch) -> Result<u64> {
        let (rows, at) = (rdd.collect()?, batch.time());
        self.feed.runs(at);
        self.call(|outside| {
            self.check_token(outside, "a batch is prepared", batch.fencing_token());
            if outside.committed.contains_key(&at) {
                self.feed.mistake(format!("the batch {at} is prepared again though the sink has it"));
            }
            outside.handles += 1;
            outside.prepared.insert(outside.handles, (at, rows));
            outside.handles
        })
    }

    fn commit(&self, handle: &u64, batch: &OutputBatch) -> Result<()> {
        let at = batch.time();
        self.call(|outside| {
            self.check_token(outside, "a batch is committed", batch.fencing_token());
            if batch.committed_up_to().is_some_and(|up_to| up_to >= at) {
                self.feed.mistake(format!("the batch {at} was never to be committed again"));
            }
            if outside.done.contains(handle) {
                return;
            }
            outside.done.insert(*handle);
            match outside.prepared.remove(handle) {
                None => self.feed.mistake(format!("the batch {at} is committed, and what was prepared is gone")),
                Some((_, rows)) => {
                    if outside.committed.insert(at, rows).is_some() {
                        self.feed.mistake(format!("the sink has the batch {at} twice"));
                    }
                }
            }
        })
    }

    fn abort(&self, handle: &u64, _: &OutputBatch) -> Result<()> {
        self.call(|outside| drop(outside.prepared.remove(handle)))
    }

    fn recover(&self, known: &[(OutputBatch, u64)], run: &OutputRun) -> Result<()> {
        self.call(|outside| {
            // What an earlier start does late is told by its lower token: two starts must never have the same.
            if run.fencing_token() <= outside.token {
                self.feed.mistake(format!("a start has the token {} behind {}", run.fencing_token(), outside.token));
            }
            outside.token = run.fencing_token();
            outside.prepared.retain(|handle, _| known.iter().any(|(_, known)| known == handle));
        })
    }
}
