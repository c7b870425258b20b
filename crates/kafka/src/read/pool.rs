//! Readers that wait for the next batch: a process has one pool, and lets go of those that waited longest.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;

use millstream_core::threads::lock;

use super::{RangeReader, RangeSplit};

/// What readers are for: a cluster with its settings, and a partition.
type Name = (u64, String, i32);

/// Readers that nobody uses at the moment.
pub(crate) struct Pool {
    waiting: Mutex<Waiting>,
}

struct Waiting {
    /// In the order in which they came.
    next: u64,
    readers: BTreeMap<u64, (Name, Box<dyn RangeReader>)>,
}

pub(crate) static POOL: Pool = Pool { waiting: Mutex::new(Waiting { next: 0, readers: BTreeMap::new() }) };

fn name(split: &RangeSplit) -> Name {
    let mut hasher = DefaultHasher::new();
    (&*split.how, split.id).hash(&mut hasher);
    (hasher.finish(), split.range.topic.clone(), split.range.partition)
}

impl Pool {
    /// Takes a reader for a range: one that is there already, or else any of the partition.
    pub(crate) fn take(&self, split: &RangeSplit) -> Option<Box<dyn RangeReader>> {
        let name = name(split);
        let mut waiting = lock(&self.waiting);
        let fits = |(_, (of, _)): &(&u64, &(Name, Box<dyn RangeReader>))| *of == name;
        let best =
            waiting.readers.iter().filter(fits).max_by_key(|(at, (_, r))| (r.position() == split.range.from, **at));
        let at = *best?.0;
        waiting.readers.remove(&at).map(|(_, reader)| reader)
    }

    /// Takes back a reader, and lets go of the one that waited longest if there are more than are to be kept.
    pub(crate) fn give(&self, split: &RangeSplit, reader: Box<dyn RangeReader>) {
        let mut waiting = lock(&self.waiting);
        let at = waiting.next;
        waiting.next += 1;
        waiting.readers.insert(at, (name(split), reader));
        let mut gone = Vec::new();
        while waiting.readers.len() > split.how.kept {
            gone.extend(waiting.readers.pop_first());
        }
        drop(waiting);
        // It may take some milliseconds to close one.
        drop(gone);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ranges::OffsetRange;
    use crate::read::wire::TopicId;
    use crate::read::{How, ReadBy};
    use crate::record::Record;
    use crate::settings::Brokers;
    use crate::source::{Isolation, OnLoss};
    use millstream_core::{Result, secs};

    struct At(i64);

    impl RangeReader for At {
        fn begin(&mut self, _: &OffsetRange) -> Result<()> {
            Ok(())
        }

        fn read(&mut self, _: &mut Vec<Record>) -> Result<bool> {
            Ok(false)
        }

        fn position(&self) -> i64 {
            self.0
        }
    }

    #[test]
    fn r70_readers_are_kept_by_partition_the_one_that_fits_first_and_no_more_than_are_asked_for() {
        let pool = Pool { waiting: Mutex::new(Waiting { next: 0, readers: BTreeMap::new() }) };
        let (brokers, isolation, read_by) = (Brokers::at("a:1"), Isolation::ReadCommitted, ReadBy::Fastest);
        let how = How { brokers, isolation, patience: secs(1), read_by, kept: 3, on_loss: OnLoss::Stop };
        let split = |how: &How, partition, from| {
            let range = OffsetRange::new("t", partition, from, from + 1);
            RangeSplit { how: Arc::new(how.clone()), range, id: None }
        };
        for (partition, position) in [(0, 5), (0, 7), (0, 9), (1, 1)] {
            pool.give(&split(&how, partition, 0), Box::new(At(position)));
        }
        let take = |partition, from| pool.take(&split(&how, partition, from)).map(|reader| reader.position());
        assert_eq!(take(0, 5), Some(9), "5 came first and went, since 3 are kept; then the one that came last");
        assert_eq!((take(0, 7), take(0, 7), take(1, 0), take(1, 0)), (Some(7), None, Some(1), None));
        let other = How { isolation: Isolation::ReadUncommitted, ..how.clone() };
        pool.give(&split(&how, 0, 0), Box::new(At(1)));
        assert!(pool.take(&split(&other, 0, 1)).is_none(), "other settings, another reader");
        let anew = RangeSplit { id: Some(TopicId([1; 16])), ..split(&how, 0, 1) };
        assert!(pool.take(&anew).is_none(), "a topic that was made anew, another reader");
    }
}
