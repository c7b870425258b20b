//! Results that tasks bring to the driver before they end, so that nobody has to fetch them: Spark's direct results.
//!
//! What a task says of its end comes by another way, and may come sooner. So who waits for results waits for those, too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use millstream_core::threads::lock;
use tokio::sync::Notify;

/// How many bytes a result has at most that is brought: as many as Spark's `spark.task.maxDirectResultSize` says. A longer one
/// stays where it was made, and is fetched.
pub(crate) const SMALL: usize = 1 << 20;

/// What has been brought for the jobs that wait for it.
#[derive(Debug, Default)]
pub(crate) struct Direct {
    jobs: Mutex<BTreeMap<u64, Arc<Waiting>>>,
    next: AtomicU64,
}

#[derive(Debug)]
struct Waiting {
    brought: Mutex<Brought>,
    /// Told when something came.
    came: Notify,
}

/// The newest result of each partition.
#[derive(Debug)]
struct Brought {
    /// How many bytes may be held.
    most: u64,
    /// How many came, held or not.
    bytes: u64,
    of: BTreeMap<usize, (u32, Bytes)>,
}

impl Brought {
    fn take_in(&mut self, partition: usize, attempt: u32, rows: Bytes) {
        let newest = self.of.get(&partition).is_none_or(|(before, _)| *before <= attempt);
        if !newest {
            return;
        }
        self.bytes += rows.len() as u64;
        // What is too much as a whole is refused when the job has ended; until then it is counted, and takes no room.
        let held = if self.bytes <= self.most { rows } else { Bytes::new() };
        if let Some((_, before)) = self.of.insert(partition, (attempt, held)) {
            self.bytes -= before.len() as u64;
        }
    }
}

impl Direct {
    /// Lets tasks bring results under a number that is new, of at most so many bytes together.
    pub(crate) fn expect(&self, most: u64) -> Expected<'_> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let brought = Mutex::new(Brought { most, bytes: 0, of: BTreeMap::new() });
        let waiting = Arc::new(Waiting { brought, came: Notify::new() });
        lock(&self.jobs).insert(number, Arc::clone(&waiting));
        Expected { direct: self, number, waiting }
    }

    /// Takes what an attempt at a partition has brought. Nobody may wait for it any more.
    pub(crate) fn brought(&self, number: u64, partition: usize, attempt: u32, rows: Bytes) {
        let Some(waiting) = lock(&self.jobs).get(&number).cloned() else { return };
        lock(&waiting.brought).take_in(partition, attempt, rows);
        waiting.came.notify_one();
    }
}

/// What is brought under one number, until this is dropped.
#[derive(Debug)]
pub(crate) struct Expected<'a> {
    direct: &'a Direct,
    number: u64,
    waiting: Arc<Waiting>,
}

impl Expected<'_> {
    /// Returns under which number results are brought.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Returns of which partitions something has come.
    pub(crate) fn partitions(&self) -> BTreeSet<usize> {
        lock(&self.waiting.brought).of.keys().copied().collect()
    }

    /// Waits until something has come of all of these partitions.
    pub(crate) async fn all_of(&self, partitions: &BTreeSet<usize>) {
        while !partitions.is_subset(&self.partitions()) {
            self.waiting.came.notified().await;
        }
    }

    /// Takes what has come of these partitions, and how many bytes came in all: if these are more than were to come, not all of it
    /// is here.
    pub(crate) fn take(&self, partitions: &BTreeSet<usize>) -> (u64, Vec<Bytes>) {
        let mut brought = lock(&self.waiting.brought);
        let all = std::mem::take(&mut brought.of).into_iter();
        let wanted = all.filter(|(partition, _)| partitions.contains(partition));
        (brought.bytes, wanted.map(|(_, (_, rows))| rows).collect())
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        lock(&self.direct.jobs).remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    const A: &[u8] = b"aaa";
    const B: &[u8] = b"bb";

    #[test]
    fn of_each_partition_the_newest_attempt_counts_and_no_more_is_held_than_may_be() {
        // What is brought, as (partition, attempt, rows); how many bytes may be; what is there then, and how many bytes came.
        type Row = (&'static [(usize, u32, &'static [u8])], u64, &'static [&'static [u8]], u64);
        let rows: &[Row] = &[
            (&[], 9, &[], 0),
            (&[(1, 0, A), (0, 0, B)], 9, &[B, A], 5),
            (&[(0, 0, A), (0, 1, B)], 9, &[B], 2),
            (&[(0, 1, A), (0, 0, B)], 9, &[A], 3),
            (&[(0, 1, A), (0, 1, B)], 9, &[B], 2),
            (&[(0, 0, A), (1, 0, B)], 5, &[A, B], 5),
            (&[(0, 0, A), (1, 0, B)], 4, &[A, b""], 5),
        ];
        for (brought, most, there, bytes) in rows {
            let direct = Direct::default();
            let expected = direct.expect(*most);
            for (partition, attempt, rows) in *brought {
                direct.brought(expected.number(), *partition, *attempt, Bytes::from_static(rows));
            }
            direct.brought(expected.number(), 9, 0, Bytes::new());
            let (came, all) = expected.take(&BTreeSet::from([0, 1]));
            assert_eq!(
                (came, &all[..]),
                (*bytes, &there.iter().map(|r| Bytes::from_static(r)).collect::<Vec<_>>()[..])
            );
        }
    }

    #[test]
    fn a_job_gets_what_is_its_own_and_what_comes_too_late_is_nobodys() {
        let direct = Direct::default();
        let (one, other) = (direct.expect(9), direct.expect(9));
        direct.brought(other.number(), 0, 0, Bytes::from_static(A));
        assert!(one.partitions().is_empty());
        let late = one.number();
        drop(one);
        direct.brought(late, 0, 0, Bytes::from_static(B));
        assert_eq!(other.take(&BTreeSet::from([0])).1, [A]);
        assert_eq!(lock(&direct.jobs).len(), 1);
    }

    #[test]
    fn who_waits_waits_for_all_that_is_missing() {
        let direct = Direct::default();
        let expected = direct.expect(9);
        let mut context = Context::from_waker(Waker::noop());
        let wanted = BTreeSet::from([0, 2]);
        let mut all = pin!(expected.all_of(&wanted));
        assert!(all.as_mut().poll(&mut context).is_pending());
        direct.brought(expected.number(), 1, 0, Bytes::new());
        direct.brought(expected.number(), 0, 0, Bytes::new());
        assert!(all.as_mut().poll(&mut context).is_pending());
        direct.brought(expected.number(), 2, 0, Bytes::new());
        assert!(all.as_mut().poll(&mut context).is_ready());
    }
}
