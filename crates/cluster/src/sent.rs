//! Blocks that the driver has asked executors for, on the way.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use bytes::Bytes;
use millstream_core::threads::lock;

type Answer = Option<Bytes>;

/// What has been asked for, by number.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    next: AtomicU64,
    asked: Mutex<HashMap<u64, mpsc::SyncSender<Answer>>>,
}

/// Somebody who waits for a block.
pub(crate) struct Waiting<'a> {
    sent: &'a Sent,
    number: u64,
    answer: mpsc::Receiver<Answer>,
}

impl Sent {
    /// Asks, under a number of its own.
    pub(crate) fn ask(&self, ask: impl FnOnce(u64)) -> Waiting<'_> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (send, answer) = mpsc::sync_channel(1);
        lock(&self.asked).insert(number, send);
        ask(number);
        Waiting { sent: self, number, answer }
    }

    /// Takes what came. Nobody may wait for it any more.
    pub(crate) fn came(&self, number: u64, block: Answer) {
        let asked = lock(&self.asked).remove(&number);
        if let Some(asked) = asked {
            let _ = asked.try_send(block);
        }
    }
}

impl Waiting<'_> {
    /// Waits for the block; nothing if it is not there, or does not come in time.
    pub(crate) fn within(self, patience: Duration) -> Answer {
        self.answer.recv_timeout(patience).ok().flatten()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(&self.sent.asked).remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_is_given_to_who_waits_for_it_and_what_comes_late_to_nobody() {
        let sent = Sent::default();
        let (one, other) = (sent.ask(|number| assert_eq!(number, 0)), sent.ask(|_| sent.came(1, None)));
        sent.came(0, Some(Bytes::from_static(b"block")));
        assert_eq!(one.within(Duration::ZERO).as_deref(), Some(&b"block"[..]));
        assert_eq!(other.within(Duration::ZERO), None);
        assert_eq!(sent.ask(|_| ()).within(Duration::ZERO), None, "it did not come");
        sent.came(2, Some(Bytes::new()));
        assert!(lock(&sent.asked).is_empty());
    }
}
