//! States are saved in the background: jobs do not wait, lineages are cut when all is durable, failures are told (S-61, S-63).

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::sync::{Arc, Condvar, Mutex};

use bytes::Bytes;
use common::context;
use millstream_core::checkpoint::{CheckpointStore, MemoryCheckpoints};
use millstream_core::{Chain, Context, Error, ErrorKind, Rdd, Result, SaveAs};

/// A store whose door can be shut, and that can be full.
#[derive(Debug, Default)]
struct Door {
    kept: MemoryCheckpoints,
    /// Whether it is shut, and whether it is full.
    state: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Door {
    fn set(&self, shut: bool, full: bool) {
        *self.state.lock().unwrap() = (shut, full);
        self.changed.notify_all();
    }
}

impl CheckpointStore for Door {
    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut state = self.state.lock().unwrap();
        while state.0 {
            state = self.changed.wait(state).unwrap();
        }
        // One partition of two fits.
        if state.1 && name.ends_with('1') {
            return Err(Error::new(ErrorKind::Unavailable, "the disk is full"));
        }
        self.kept.write(name, bytes)
    }

    fn read(&self, name: &str) -> Result<Bytes> {
        self.kept.read(name)
    }

    fn remove_folder(&self, folder: &str) -> Result<()> {
        self.kept.remove_folder(folder)
    }
}

#[derive(Clone, Default)]
struct Decimal;

impl SaveAs for Decimal {
    type Item = u64;

    fn write(&self, store: &dyn CheckpointStore, folder: &str, p: usize, items: Vec<u64>) -> Result<Vec<String>> {
        let text: Vec<String> = items.iter().map(u64::to_string).collect();
        store.write(&format!("{folder}/{p}"), text.join(" ").as_bytes())?;
        Ok(vec![folder.to_owned()])
    }

    fn read(&self, store: &dyn CheckpointStore, folder: &str, p: usize) -> Result<Vec<u64>> {
        let bytes = store.read(&format!("{folder}/{p}"))?;
        Ok(String::from_utf8_lossy(&bytes).split(' ').map(|n| n.parse().unwrap()).collect())
    }
}

fn start() -> (Context, Arc<Door>, Chain, Rdd<u64>) {
    let (context, store) = (context("local[2]"), Arc::new(Door::default()));
    context.set_checkpoint_store(Arc::clone(&store) as _);
    let rdd = context.parallelize(vec![1u64, 2, 3, 4], 2);
    (context, store, Chain::default(), rdd)
}

fn next(rdd: &Rdd<u64>) -> Rdd<u64> {
    let next = rdd.map(|x| x + 1);
    next.cache();
    next
}

fn depth(rdd: &Rdd<u64>) -> usize {
    rdd.to_debug_string().lines().count()
}

#[test]
fn s61_a_job_does_not_wait_for_a_state_to_be_saved_and_only_the_newest_is() {
    let (context, store, chain, mut rdd) = start();
    store.set(true, false);
    rdd = next(&rdd);
    rdd.checkpoint_as(Decimal, &chain);
    let first = rdd.clone();
    assert_eq!(rdd.reduce(|a, b| a + b).unwrap(), 14);
    // It is being written, and goes on to be made of what it was made of.
    for round in 2..=30u64 {
        rdd = next(&rdd);
        if round % 10 == 0 {
            rdd.checkpoint_as(Decimal, &chain);
        }
        assert_eq!(rdd.reduce(|a, b| a + b).unwrap(), 10 + 4 * round);
    }
    assert!(!first.is_checkpointed() && !rdd.is_checkpointed() && depth(&rdd) > 30);
    store.set(false, false);
    context.await_saves().unwrap();
    assert!(first.is_checkpointed() && !rdd.is_checkpointed());
    assert_eq!(store.kept.names().len(), 2, "{:?}", store.kept.names());
    // What waited is found by the next job: of 10, 20 and 30 the last.
    assert_eq!(rdd.count().unwrap(), 4);
    context.await_saves().unwrap();
    assert!(rdd.is_checkpointed());
    assert_eq!((store.kept.names().len(), depth(&rdd)), (4, 1), "{}", rdd.to_debug_string());
    rdd.unpersist();
    assert_eq!(rdd.reduce(|a, b| a + b).unwrap(), 130);
}

#[test]
fn s61_a_state_that_could_not_be_saved_keeps_its_lineage_fails_the_next_job_and_is_tried_again() {
    let (context, store, chain, rdd) = start();
    store.set(true, true);
    let first = next(&rdd);
    first.checkpoint_as(Decimal, &chain);
    assert_eq!(first.count().unwrap(), 4);
    let second = next(&first);
    assert_eq!(second.count().unwrap(), 4);
    store.set(false, true);
    let error = context.await_saves().unwrap_err();
    assert!(error.to_string().contains("the disk is full"), "{error}");
    context.await_saves().unwrap();
    assert!(!first.is_checkpointed() && depth(&second) > 2);
    // Another that has nothing to do with it does not fail.
    assert_eq!(rdd.count().unwrap(), 4);
    let error = second.count().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("the disk is full"), "{error}");
    store.set(false, false);
    assert_eq!(second.count().unwrap(), 4);
    context.await_saves().unwrap();
    assert!(first.is_checkpointed());
    first.unpersist();
    assert_eq!(first.collect().unwrap(), [2, 3, 4, 5]);
}

#[test]
fn s61_each_chain_is_saved() {
    let (context, store, chain, rdd) = start();
    let one = next(&rdd);
    one.checkpoint_as(Decimal, &chain);
    let two = next(&one);
    two.checkpoint_as(Decimal, &Chain::default());
    assert_eq!(two.count().unwrap(), 4);
    context.await_saves().unwrap();
    assert!(one.is_checkpointed() && two.is_checkpointed());
    assert_eq!(store.kept.names().len(), 4);
}

#[test]
fn a_context_that_stops_waits_for_what_is_being_saved() {
    let (context, _, chain, rdd) = start();
    let one = next(&rdd);
    one.checkpoint_as(Decimal, &chain);
    assert_eq!(one.count().unwrap(), 4);
    context.stop();
    assert!(one.is_checkpointed());
}
