//! Saving in the background: states are written while later batches run.
//!
//! One round at a time: a job that finds states marked hands them to a thread of their own and goes on. Tasks only hand over
//! what is to be written; the thread writes it, and takes no slot that a batch may want. What is marked in the meantime waits
//! for the end of the round. A state's older versions stay readable while newer ones are made, so what is
//! written is what was marked; its lineage is cut when all of it is durable, and not before.
//!
//! INVARIANT: a failure is told to the next job that is made of what failed, or to whoever waits for the end before that.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::AnyRdd;
use super::lineage::{Node, RddId};
use super::saved::{SavedForm, Saving, save};
use crate::clock::monotonic;
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
    marks: Mutex<Marks>,
    /// How many there are.
    count: AtomicUsize,
    is_busy: AtomicBool,
    round: Mutex<Round>,
    ended: Condvar,
}

/// The Rdds that are marked to be saved.
#[derive(Default)]
struct Marks {
    by_id: BTreeMap<RddId, Mark>,
    /// How many of them wait for the thread.
    later: usize,
}

struct Mark {
    /// By the thread, and not by the job that finds it.
    later: bool,
    node: Weak<Node>,
}

#[derive(Default)]
struct Round {
    thread: Option<OwnedThread>,
    /// What has failed since somebody waited for the end.
    failed: Option<Error>,
}

impl Marks {
    fn remove(&mut self, id: RddId) {
        if self.by_id.remove(&id).is_some_and(|mark| mark.later) {
            self.later -= 1;
        }
    }

    fn forget_the_dead(&mut self) {
        self.by_id.retain(|_, mark| mark.node.strong_count() > 0);
        self.later = self.by_id.values().filter(|mark| mark.later).count();
    }
}

impl Saver {
    pub(super) fn marked(&self, node: &Arc<Node>, later: bool) {
        let mut marks = lock(&self.marks);
        marks.remove(node.id());
        marks.by_id.insert(node.id(), Mark { later, node: Arc::downgrade(node) });
        marks.later += usize::from(later);
        self.count.store(marks.by_id.len(), Ordering::Release);
    }

    pub(super) fn unmarked(&self, node: RddId) {
        let mut marks = lock(&self.marks);
        marks.remove(node);
        self.count.store(marks.by_id.len(), Ordering::Release);
    }

    /// Returns the oldest of the Rdds that a job on `top` may have to save, if there are any: whatever `top` is made of is older
    /// than itself, and nothing that is older still need be looked at.
    pub(super) fn oldest(&self, top: RddId) -> Option<RddId> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut marks = lock(&self.marks);
        if marks.later > PATIENCE {
            marks.forget_the_dead();
            if marks.later > PATIENCE {
                drop(marks);
                self.await_round();
                marks = lock(&self.marks);
            }
        }
        let is_busy = self.is_busy.load(Ordering::Acquire);
        let oldest = loop {
            let mine = marks.by_id.range(..=top).find(|(_, mark)| !(mark.later && is_busy));
            match mine.map(|(id, mark)| (*id, mark.node.strong_count() > 0)) {
                // Nobody has it any more.
                Some((id, false)) => marks.remove(id),
                Some((id, true)) => break Some(id),
                None => break None,
            }
        };
        self.count.store(marks.by_id.len(), Ordering::Release);
        oldest
    }

    /// A job has been told what failed.
    pub(super) fn told(&self) {
        lock(&self.round).failed = None;
    }

    fn await_round(&self) {
        self.await_round_until(None);
    }

    /// Waits until nothing is being written, or the time is `deadline`; says which.
    fn await_round_until(&self, deadline: Option<Duration>) -> bool {
        let mut round = lock(&self.round);
        while self.is_busy.load(Ordering::Acquire) {
            let left = deadline.map(|deadline| deadline.saturating_sub(monotonic()));
            round = match left {
                Some(left) if left.is_zero() => return false,
                Some(left) => self.ended.wait_timeout(round, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.ended.wait(round).unwrap_or_else(PoisonError::into_inner),
            };
        }
        true
    }

    /// Waits until nothing is being written, until `deadline` at most, and says whether nothing is; fails with what could not be
    /// written since the last time.
    fn wait(&self, deadline: Option<Duration>) -> Result<bool> {
        if !self.await_round_until(deadline) {
            return Ok(false);
        }
        let (thread, failed) = {
            let mut round = lock(&self.round);
            (round.thread.take(), round.failed.take())
        };
        drop(thread);
        failed.map_or(Ok(true), Err)
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
            context.saver().unmarked(node.id());
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

/// Takes the mark from a node: something newer is saved in its place.
fn unmark(node: &Node, context: &Context) {
    let mut saving = node.saving();
    if matches!(*saving, Saving::Marked(_) | Saving::Failed(..)) {
        *saving = Saving::Not;
        context.saver().unmarked(node.id());
    }
}

impl Context {
    /// Saves, on this thread, the last of each list of Rdds that are marked and made of each other; the others need not be
    /// saved then. Waits before for what is being saved.
    ///
    /// # Errors
    ///
    /// What could not be saved; [`await_saves`](Context::await_saves) returns it too.
    #[doc(hidden)]
    pub fn save_newest(&self, states: &[Vec<AnyRdd>]) -> Result<()> {
        let saver = self.saver();
        saver.await_round();
        let mut outcome = Ok(());
        for state in states {
            let Some((newest, older)) = state.split_last() else { continue };
            let node = newest.node();
            let mut saving = node.saving();
            if let Saving::Failed(form, _) = &*saving {
                let form = Arc::clone(form);
                *saving = Saving::Marked(form);
            }
            drop(saving);
            match save_one(node, self) {
                None => older.iter().for_each(|rdd| unmark(rdd.node(), self)),
                Some(error) => {
                    lock(&saver.round).failed = Some(error.clone());
                    outcome = Err(error);
                }
            }
        }
        outcome
    }

    /// Waits until all that is being saved in the background is durable.
    ///
    /// # Errors
    ///
    /// What could not be saved since the last call: the kind is `Unavailable` if the folder cannot be written.
    pub fn await_saves(&self) -> Result<()> {
        self.saver().wait(None).map(drop)
    }

    /// As [`await_saves`](Self::await_saves), for at most `timeout`. Returns whether all is durable.
    ///
    /// # Errors
    ///
    /// As [`await_saves`](Self::await_saves).
    pub fn await_saves_or_timeout(&self, timeout: Duration) -> Result<bool> {
        self.saver().wait(monotonic().checked_add(timeout))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::MemoryCheckpoints;

    #[test]
    fn a_job_looks_for_no_mark_that_is_newer_than_itself_or_that_nobody_has_any_more() {
        let sc = Context::new("local[1]", "test").expect("it begins");
        sc.set_checkpoint_store(Arc::new(MemoryCheckpoints::new()));
        let top = sc.parallelize(vec![1], 1).map(|n| n + 1);
        let newer = top.map(|n| n + 1);
        newer.checkpoint();
        let newest = newer.map(|n| n + 1);
        assert_eq!(sc.saver().oldest(top.id()), None);
        assert_eq!(sc.saver().oldest(newer.id()), Some(newer.id()));
        assert_eq!(sc.saver().oldest(newest.id()), Some(newer.id()));
        drop((newer, newest));
        let other = top.map(|n| n + 1);
        assert_eq!(sc.saver().oldest(other.id()), None);
        assert_eq!(sc.saver().count.load(Ordering::Acquire), 0);
    }
}
