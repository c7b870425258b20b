//! From items to blocks, and from blocks to batches. Pure: what is cut and allocated, not where it is kept.
//!
//! Items gather in a buffer. It becomes a block when a block interval has passed, and when a batch is allocated, so
//! that a batch holds everything that was received before it. A block is one partition of the batch.

use std::time::Duration;

use millstream_core::Time;

/// The buffer that a receiver's items gather in.
#[derive(Debug)]
pub(crate) struct BlockGenerator<T> {
    interval: Duration,
    buffer: Vec<T>,
    /// The block interval in which the buffer was begun.
    begun: Time,
}

impl<T> BlockGenerator<T> {
    pub(crate) fn new(interval: Duration) -> BlockGenerator<T> {
        BlockGenerator { interval, buffer: Vec::new(), begun: Time::ZERO }
    }

    /// Adds items at `now`, and returns the block that was full before.
    pub(crate) fn add(&mut self, items: impl Iterator<Item = T>, now: Time) -> Option<Vec<T>> {
        let slot = now.floor(self.interval);
        let full = (slot > self.begun && !self.buffer.is_empty()).then(|| std::mem::take(&mut self.buffer));
        if self.buffer.is_empty() {
            self.begun = slot;
        }
        self.buffer.extend(items);
        full
    }

    /// Returns what has gathered, if anything has.
    pub(crate) fn cut(&mut self) -> Option<Vec<T>> {
        (!self.buffer.is_empty()).then(|| std::mem::take(&mut self.buffer))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }
}

/// A block that was received: its number within its stream, and how many items it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct ReceivedBlock {
    pub(crate) sequence: u64,
    pub(crate) items: u64,
}

/// Received blocks that no batch has been given.
#[derive(Debug, Default)]
pub(crate) struct BlockTracker {
    waiting: Vec<ReceivedBlock>,
    next: u64,
    /// How many blocks have a number and are not kept yet.
    keeping: usize,
}

impl BlockTracker {
    /// Numbers the next block.
    pub(crate) fn number(&mut self) -> u64 {
        self.next += 1;
        self.keeping += 1;
        self.next - 1
    }

    /// Says whether a block that has a number is not kept yet. What came after it must wait, to stay behind it.
    pub(crate) fn is_keeping(&self) -> bool {
        self.keeping > 0
    }

    /// Takes note of a block that could not be kept.
    pub(crate) fn lost(&mut self) {
        self.keeping -= 1;
    }

    /// Takes note of a block that is kept.
    pub(crate) fn add(&mut self, block: ReceivedBlock) {
        self.keeping -= 1;
        let at = self.waiting.partition_point(|other| other.sequence < block.sequence);
        self.waiting.insert(at, block);
    }

    /// Gives a batch all blocks that wait, in the order in which they were made (S-80).
    pub(crate) fn allocate(&mut self) -> Vec<ReceivedBlock> {
        std::mem::take(&mut self.waiting)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_core::millis;

    #[test]
    fn s78_a_block_is_what_came_within_a_block_interval() {
        let mut blocks = BlockGenerator::new(millis(200));
        let mut cut = Vec::new();
        for (ms, item) in [(0, 'a'), (50, 'b'), (199, 'c'), (200, 'd'), (900, 'e')] {
            cut.extend(blocks.add(std::iter::once(item), Time::from_millis(ms)));
        }
        assert_eq!(cut, [vec!['a', 'b', 'c'], vec!['d']]);
        assert_eq!(blocks.cut(), Some(vec!['e']));
        assert_eq!(blocks.cut(), None, "an empty buffer is no block");
    }

    #[test]
    fn s80_a_batch_is_given_all_blocks_that_wait_in_order() {
        let mut tracker = BlockTracker::default();
        let numbers: Vec<_> = (0..3).map(|_| tracker.number()).collect();
        for sequence in [numbers[1], numbers[0]] {
            tracker.add(ReceivedBlock { sequence, items: 1 });
        }
        assert!(tracker.is_keeping(), "the third has a number and is not kept");
        let first: Vec<_> = tracker.allocate().iter().map(|b| b.sequence).collect();
        assert_eq!(first, [0, 1]);
        assert!(tracker.allocate().is_empty());
        tracker.add(ReceivedBlock { sequence: numbers[2], items: 1 });
        assert!(!tracker.is_keeping());
        assert_eq!(tracker.allocate().len(), 1);
    }
}
