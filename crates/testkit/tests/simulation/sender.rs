//! A sender as the world has them: it numbers what it sends, goes on where its receiver is, and forgets what was acknowledged.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use millstream_core::threads::lock;
use millstream_core::{Error, ErrorKind, Result};
use millstream_streaming::{Position, Receiver, Store};

use super::feed::Numbered;

/// Numbers of what is sent begin here: the feed has those below.
pub(crate) const FIRST: u32 = 1000;

/// What stays when the program dies.
#[derive(Clone, Debug)]
pub(crate) struct Sender(Arc<(Mutex<Outside>, Condvar)>);

#[derive(Debug)]
struct Outside {
    records: Vec<Numbered>,
    /// How many are sent together.
    block: usize,
    /// What was acknowledged is thrown away: no receiver gets it again.
    acknowledged: usize,
    /// How many are to be sent by now.
    asked: usize,
    /// How many have been stored by the receiver that lives, as far as it is known.
    sent: usize,
    /// Somebody receives, and has said from where on.
    begun: bool,
    /// Nobody receives any more.
    gone: bool,
}

impl Sender {
    pub(crate) fn new(records: Vec<Numbered>, block: usize) -> Sender {
        let outside = Outside { records, block, acknowledged: 0, asked: 0, sent: 0, begun: false, gone: true };
        Sender(Arc::new((Mutex::new(outside), Condvar::new())))
    }

    pub(crate) fn receiver(&self) -> Sent {
        self.change(|outside| (outside.begun, outside.gone) = (false, false));
        Sent(self.clone())
    }

    pub(crate) fn records(&self) -> Vec<Numbered> {
        lock(&self.0.0).records.clone()
    }

    /// Has so many more sent, and waits until they have been stored or nobody receives: so one thread at a time asks the disk.
    pub(crate) fn send(&self, more: usize) {
        let wait_while = |waits: fn(&mut Outside) -> bool| {
            drop(self.0.1.wait_while(lock(&self.0.0), waits).unwrap_or_else(PoisonError::into_inner));
        };
        wait_while(|outside| !outside.gone && !outside.begun);
        self.change(|outside| outside.asked = (outside.sent + more).min(outside.records.len()));
        wait_while(|outside| !outside.gone && outside.sent < outside.asked);
    }

    fn change<R>(&self, change: impl FnOnce(&mut Outside) -> R) -> R {
        let result = change(&mut lock(&self.0.0));
        self.0.1.notify_all();
        result
    }

    /// Returns what is to be sent next, or nothing when it is time to go.
    fn next(&self, stopped: &AtomicBool) -> Option<Vec<Numbered>> {
        let waits = |outside: &mut Outside| !stopped.load(Ordering::SeqCst) && outside.sent >= outside.asked;
        let outside = self.0.1.wait_while(lock(&self.0.0), waits).unwrap_or_else(PoisonError::into_inner);
        let end = (outside.sent + outside.block).min(outside.asked);
        (!stopped.load(Ordering::SeqCst)).then(|| outside.records[outside.sent..end].to_vec())
    }
}

/// The program's end of a [`Sender`].
#[derive(Debug)]
pub(crate) struct Sent(Sender);

impl Receiver for Sent {
    type Item = Numbered;

    fn receive(&mut self, store: &mut dyn Store<Numbered>) -> Result<()> {
        let sender = &self.0;
        let position = match store.position() {
            None => 0,
            Some(position) => position.as_u64().ok_or_else(|| Error::new(ErrorKind::Data, "a position of another"))?,
        };
        // What was acknowledged cannot be sent again, wherever the receiver says that it is.
        sender.change(|outside| {
            outside.sent = outside.acknowledged.max(position as usize);
            (outside.asked, outside.begun) = (outside.sent, true);
        });
        let stopped = Arc::new(AtomicBool::new(false));
        let (wake, waker) = (Arc::clone(&stopped), sender.clone());
        store.on_stop(Box::new(move || waker.change(|_| wake.store(true, Ordering::SeqCst))));
        while let Some(block) = sender.next(&stopped) {
            let end = block.last().map_or(0, |last| (last.0 - FIRST) as usize + 1);
            let acknowledge = sender.clone();
            let stored = move || acknowledge.change(|outside| outside.acknowledged = end);
            let outcome = store.store_block_at(block, Position::from(end as u64), Box::new(stored));
            sender.change(|outside| match outcome {
                Ok(()) => outside.sent = end,
                Err(_) => outside.gone = true,
            });
            outcome?;
        }
        Ok(())
    }

    fn is_reliable(&self) -> bool {
        true
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.0.change(|outside| outside.gone = true);
    }
}
