//! Readers that wait for the next batch, with what they have fetched: a process has one pool, which keeps to a number and to a
//! number of bytes for each source.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;
use std::time::Duration;

use millstream_core::clock::monotonic;
use millstream_core::secs;
use millstream_core::threads::lock;

use super::{How, RangeReader, RangeSplit, wires};

/// So many are kept at least, where nothing is said.
const KEPT: usize = 64;

/// Who has not been asked for since is not asked for again.
const OLD: Duration = secs(600);

/// A source: a cluster with its settings.
type Source = u64;

/// What readers are for: a topic by its name and id, and a partition.
type Name = (Source, String, u64, i32);

/// Readers that nobody uses at the moment.
pub(crate) struct Pool {
    waiting: Mutex<Waiting>,
}

struct Waiting {
    /// In the order in which they came.
    next: u64,
    readers: BTreeMap<Name, Vec<Kept>>,
    sources: BTreeMap<Source, Holds>,
    swept: Duration,
}

struct Kept {
    at: u64,
    since: Duration,
    bytes: u64,
    reader: Box<dyn RangeReader>,
}

/// What the readers of a source are together.
#[derive(Clone, Copy, Default)]
struct Holds {
    readers: usize,
    bytes: u64,
}

impl Waiting {
    const fn new() -> Waiting {
        Waiting { next: 0, readers: BTreeMap::new(), sources: BTreeMap::new(), swept: Duration::ZERO }
    }

    /// Lets go of one. Returns it, since it may take some milliseconds to close it.
    fn remove(&mut self, name: &Name, i: usize) -> Option<Kept> {
        let of = self.readers.get_mut(name)?;
        if i >= of.len() {
            return None;
        }
        let kept = of.remove(i);
        if of.is_empty() {
            self.readers.remove(name);
        }
        if let Some(holds) = self.sources.get_mut(&name.0) {
            holds.readers -= 1;
            holds.bytes -= kept.bytes;
            if holds.readers == 0 {
                self.sources.remove(&name.0);
            }
        }
        Some(kept)
    }

    /// Finds those of a source that are there, the one that waited longest first.
    fn of(&self, source: Source) -> Vec<(u64, Name)> {
        let of_source = self.readers.iter().filter(|(name, _)| name.0 == source);
        let mut found: Vec<_> =
            of_source.flat_map(|(name, of)| of.iter().map(|kept| (kept.at, name.clone()))).collect();
        found.sort_unstable();
        found
    }

    fn remove_at(&mut self, at: u64, name: &Name) -> Option<Kept> {
        let i = self.readers.get(name)?.iter().position(|kept| kept.at == at)?;
        self.remove(name, i)
    }

    /// Lets go of what nobody has asked for in a long time.
    fn sweep(&mut self, now: Duration) -> Vec<Kept> {
        if now.saturating_sub(self.swept) < OLD {
            return Vec::new();
        }
        self.swept = now;
        let is_old = |kept: &&Kept| now.saturating_sub(kept.since) >= OLD;
        let all = self.readers.iter();
        let old: Vec<_> =
            all.flat_map(|(name, of)| of.iter().filter(is_old).map(|kept| (kept.at, name.clone()))).collect();
        old.into_iter().filter_map(|(at, name)| self.remove_at(at, &name)).collect()
    }
}

pub(crate) static POOL: Pool = Pool { waiting: Mutex::new(Waiting::new()) };

fn source(how: &How) -> Source {
    let mut hasher = DefaultHasher::new();
    how.hash(&mut hasher);
    hasher.finish()
}

fn name(split: &RangeSplit) -> Name {
    let mut hasher = DefaultHasher::new();
    split.id.hash(&mut hasher);
    (source(&split.how), split.range.topic.clone(), hasher.finish(), split.range.partition)
}

impl Pool {
    /// Takes a reader for a range: one that is there already, or else any of the partition.
    pub(crate) fn take(&self, split: &RangeSplit) -> Option<Box<dyn RangeReader>> {
        let name = name(split);
        let mut waiting = lock(&self.waiting);
        let of = waiting.readers.get(&name)?;
        let fits = |kept: &Kept| (kept.reader.position() == split.range.from, kept.at);
        let best = of.iter().enumerate().max_by_key(|(_, kept)| fits(kept))?.0;
        waiting.remove(&name, best).map(|kept| kept.reader)
    }

    /// Takes back a reader. If there are more of its source than are to be kept, the one that waited longest goes; if they hold
    /// more bytes than they may, this one has fetched in vain: those that wait are needed sooner.
    pub(crate) fn give(&self, split: &RangeSplit, mut reader: Box<dyn RangeReader>) {
        let (how, name, now) = (&split.how, name(split), monotonic());
        // As many as the source has partitions: fewer would go just before they are needed, one after the other.
        let most = how.kept.unwrap_or(KEPT.max(split.among as usize));
        let mut bytes = reader.wait();
        let mut waiting = lock(&self.waiting);
        let holds = waiting.sources.get(&name.0).copied().unwrap_or_default();
        if holds.bytes.saturating_add(bytes) > how.may_wait() {
            if !reader.let_go() {
                drop(waiting);
                return;
            }
            bytes = 0;
        }
        let mut gone = waiting.sweep(now);
        let at = waiting.next;
        waiting.next += 1;
        let source = name.0;
        waiting.readers.entry(name).or_default().push(Kept { at, since: now, bytes, reader });
        let holds = waiting.sources.entry(source).or_default();
        holds.readers += 1;
        holds.bytes += bytes;
        let too_many = holds.readers.saturating_sub(most);
        if too_many > 0 {
            let oldest = waiting.of(source);
            gone.extend(oldest.into_iter().take(too_many).filter_map(|(at, name)| waiting.remove_at(at, &name)));
        }
        drop(waiting);
        // It may take some milliseconds to close one.
        drop(gone);
    }

    /// Lets go of all readers of a range's partition. Returns none.
    pub(crate) fn forget(&self, split: &RangeSplit) -> Option<Box<dyn RangeReader>> {
        let name = name(split);
        let mut waiting = lock(&self.waiting);
        let gone: Vec<_> = std::iter::from_fn(|| waiting.remove(&name, 0)).collect();
        drop(waiting);
        // It may take some milliseconds to close one.
        drop(gone);
        None
    }

    /// Lets go of all readers of a source, which has ended, and of the connections that wait for them.
    pub(crate) fn end(&self, how: &How) {
        let mut waiting = lock(&self.waiting);
        let all = waiting.of(source(how));
        let gone: Vec<_> = all.into_iter().filter_map(|(at, name)| waiting.remove_at(at, &name)).collect();
        drop(waiting);
        drop(gone);
        wires::end(&how.brokers);
    }

    /// Returns how many readers of a source wait, and how many bytes they hold.
    #[cfg(test)]
    fn holds(&self, how: &How) -> (usize, u64) {
        let holds = lock(&self.waiting).sources.get(&source(how)).copied().unwrap_or_default();
        (holds.readers, holds.bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ranges::OffsetRange;
    use crate::read::wire::TopicId;
    use crate::record::Record;
    use crate::source::Isolation;
    use millstream_core::Result;

    struct At(i64, u64);

    impl RangeReader for At {
        fn begin(&mut self, _: &OffsetRange, _: u32) -> Result<()> {
            Ok(())
        }

        fn read(&mut self, _: &mut Vec<Record>) -> Result<bool> {
            Ok(false)
        }

        fn position(&self) -> i64 {
            self.0
        }

        fn wait(&mut self) -> u64 {
            self.1
        }

        fn let_go(&mut self) -> bool {
            self.1 = 0;
            true
        }
    }

    fn split(how: &How, partition: i32, from: i64, among: u32) -> RangeSplit {
        let range = OffsetRange::new("t", partition, from, from + 1);
        RangeSplit { how: Arc::new(how.clone()), range, id: None, among, met: None, host: None }
    }

    #[test]
    fn r70_readers_are_kept_by_partition_the_one_that_fits_first_and_no_more_than_are_asked_for() {
        let pool = Pool { waiting: Mutex::new(Waiting::new()) };
        let how = How { kept: Some(3), ..How::of("a:1") };
        for (partition, position) in [(0, 5), (0, 7), (0, 9), (1, 1)] {
            pool.give(&split(&how, partition, 0, 2), Box::new(At(position, 0)));
        }
        let take = |partition, from| pool.take(&split(&how, partition, from, 2)).map(|reader| reader.position());
        assert_eq!(take(0, 5), Some(9), "5 came first and went, since 3 are kept; then the one that came last");
        assert_eq!((take(0, 7), take(0, 7), take(1, 0), take(1, 0)), (Some(7), None, Some(1), None));
        let other = How { isolation: Isolation::ReadUncommitted, ..how.clone() };
        pool.give(&split(&how, 0, 0, 2), Box::new(At(1, 0)));
        assert!(pool.take(&split(&other, 0, 1, 2)).is_none(), "other settings, another reader");
        let anew = RangeSplit { id: Some(TopicId([1; 16])), ..split(&how, 0, 1, 2) };
        assert!(pool.take(&anew).is_none(), "a topic that was made anew, another reader");
        pool.end(&how);
        assert_eq!((pool.holds(&how), take(0, 1)), ((0, 0), None), "a source that has ended keeps none");
    }

    #[test]
    fn r70_a_source_of_many_partitions_finds_each_reader_again_and_those_of_another_source_do_not_matter() {
        let pool = Pool { waiting: Mutex::new(Waiting::new()) };
        let (how, other) = (How::of("a:1"), How::of("b:1"));
        for batch in 0..3 {
            for partition in 0..200 {
                for how in [&how, &other] {
                    let split = split(how, partition, batch, 200);
                    assert_eq!(pool.take(&split).map(|reader| reader.position()), (batch > 0).then_some(batch));
                    pool.give(&split, Box::new(At(batch + 1, 0)));
                }
            }
        }
        assert_eq!((pool.holds(&how).0, pool.holds(&other).0), (200, 200));
        // Of a few partitions 64 are kept all the same: several jobs may read one.
        let few = How::of("c:1");
        (0..100).for_each(|at| pool.give(&split(&few, 0, at, 1), Box::new(At(at, 0))));
        assert_eq!(pool.holds(&few).0, KEPT);
    }

    #[test]
    fn what_waits_holds_no_more_bytes_than_it_may() {
        let pool = Pool { waiting: Mutex::new(Waiting::new()) };
        let how = How { memory: 1 << 20, ..How::of("a:1") };
        for partition in 0..100 {
            pool.give(&split(&how, partition, 0, 100), Box::new(At(1, 100_000)));
        }
        let (readers, bytes) = pool.holds(&how);
        assert_eq!(readers, 100, "who may hold nothing waits all the same");
        assert!(bytes <= how.may_wait() && bytes + 100_000 > how.may_wait(), "{bytes}");
        // The ones that came first have kept what they fetched, and are asked for first.
        assert!(pool.take(&split(&how, 0, 1, 100)).is_some());
        assert_eq!(pool.holds(&how), (99, bytes - 100_000));
    }
}
