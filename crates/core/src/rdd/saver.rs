//! Saving in the background: states are written while later batches run.
//!
//! One round at a time: a job that finds states marked hands them to a thread of their own and goes on. Tasks only hand over
//! what is to be written; the thread writes it, and takes no slot that a batch may want. What is marked in the meantime waits
//! for the end of the round. A state's older versions stay readable while newer ones are made, so what is
//! written is what was marked; its lineage is cut when all of it is durable, and not before.
//!
//! INVARIANT: a failure is told to the next job that is made of what failed, or to whoever waits for the end before that.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::lineage::Node;
use super::saved::{SavedForm, Saving, save};
use crate::context::Context;
use crate::context::jobs::JobLocals;
use crate::error::{Error, ErrorKind, Result, panicked};
use crate::threads::{self, OwnedThread, lock};

/// So many Rdds may be marked during one round. Then jobs wait for its end: else what cannot be written fast enough would
/// take all memory.
const PATIENCE: usize = 64;

/// What a context saves, and how far that is.
#[derive(Default)]
pub(crate) struct Saver {
    /// How many Rdds are marked to be saved by the job that finds them, and by the thread.
    at_once: AtomicUsize,
    later: AtomicUsize,
    is_busy: AtomicBool,
    round: Mutex<Round>,
    ended: Condvar,
}

#[derive(Default)]
struct Round {
    thread: Option<OwnedThread>,
    /// What has failed since somebody waited for the end.
    failed: Option<Error>,
}

impl Saver {
    pub(super) fn marked(&self, later: bool) {
        let count = if later { &self.later } else { &self.at_once };
        count.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn unmarked(&self, later: bool) {
        let count = if later { &self.later } else { &self.at_once };
        count.fetch_sub(1, Ordering::AcqRel);
    }

    /// Says whether a job that has ended is to look for what is marked.
    pub(super) fn has_work(&self) -> bool {
        let later = self.later.load(Ordering::Acquire);
        if later > PATIENCE {
            self.await_round();
        }
        self.at_once.load(Ordering::Acquire) > 0 || (later > 0 && !self.is_busy.load(Ordering::Acquire))
    }

    /// A job has been told what failed.
    pub(super) fn told(&self) {
        lock(&self.round).failed = None;
    }

    fn await_round(&self) {
        let mut round = lock(&self.round);
        while self.is_busy.load(Ordering::Acquire) {
            round = self.ended.wait(round).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until nothing is being written; fails with what could not be written since the last time.
    pub(crate) fn wait(&self) -> Result<()> {
        self.await_round();
        let (thread, failed) = {
            let mut round = lock(&self.round);
            (round.thread.take(), round.failed.take())
        };
        drop(thread);
        failed.map_or(Ok(()), Err)
    }

    /// Has nodes written in the background, one after the other, if nothing is being written.
    pub(super) fn begin(&self, context: &Context, nodes: Vec<Arc<Node>>) -> Result<()> {
        let before = {
            let mut round = lock(&self.round);
            if self.is_busy.swap(true, Ordering::AcqRel) {
                return Ok(());
            }
            round.thread.take()
        };
        drop(before);
        let own = context.clone();
        let body = move || {
            let failed = nodes.iter().filter_map(|node| save_one(node, &own)).next_back();
            let saver = own.saver();
            let mut round = lock(&saver.round);
            round.failed = failed.or(round.failed.take());
            saver.is_busy.store(false, Ordering::Release);
            saver.ended.notify_all();
        };
        match threads::spawn("saver", body) {
            Ok(thread) => {
                let before = lock(&self.round).thread.replace(thread);
                // Joined without the lock, which it needs to end.
                drop(before);
                Ok(())
            }
            Err(error) => {
                // They are still marked.
                let _round = lock(&self.round);
                self.is_busy.store(false, Ordering::Release);
                self.ended.notify_all();
                Err(error)
            }
        }
    }
}

/// Saves a node that is marked; returns what failed.
fn save_one(node: &Arc<Node>, context: &Context) -> Option<Error> {
    let form: Arc<dyn SavedForm> = {
        let mut saving = node.saving();
        let Saving::Marked(form) = &*saving else { return None };
        let form = Arc::clone(form);
        *saving = Saving::Now;
        form
    };
    let site = node.site();
    let run = AssertUnwindSafe(|| JobLocals::default().scope(|| save(node, context, &*form, site)));
    let written = catch_unwind(run).unwrap_or_else(|payload| Err(panicked(&*payload)));
    let mut saving = node.saving();
    match written {
        Ok(saved) => {
            *saving = Saving::Done(saved);
            context.saver().unmarked(true);
            None
        }
        Err(error) => {
            let error = error.at(site);
            let stopped = error.kind() == ErrorKind::Stopped;
            if !stopped {
                tracing::error!(%error, "a state could not be saved; the next job on it fails");
            }
            *saving = Saving::Failed(form, error.clone());
            (!stopped).then_some(error)
        }
    }
}

impl Context {
    /// Waits until all that is being saved in the background is durable.
    ///
    /// # Errors
    ///
    /// What could not be saved since the last call: the kind is `Unavailable` if the folder cannot be written.
    pub fn await_saves(&self) -> Result<()> {
        self.saver().wait()
    }
}
