//! From items to blocks, and from blocks to batches. Pure: what is cut and allocated, not where it is kept.
//!
//! Items gather in a buffer. It becomes a block when a block interval has passed, and when a batch is allocated, so
//! that a batch holds everything that was received before it. A block is one partition of the batch.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millstream_core::Time;

use super::Position;
use crate::wal::RecordHandle;

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

    /// Returns what has gathered, to look at.
    pub(crate) fn items(&self) -> &[T] {
        &self.buffer
    }

    /// Returns what has gathered, if anything has.
    pub(crate) fn cut(&mut self) -> Option<Vec<T>> {
        (!self.buffer.is_empty()).then(|| std::mem::take(&mut self.buffer))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }
}

/// A block that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct ReceivedBlock {
    /// Its number within its stream.
    pub(crate) sequence: u64,
    pub(crate) items: u64,
    /// Where it is in the log, if it was logged.
    pub(crate) handle: Option<RecordHandle>,
}

/// What a batch is given: all blocks that no batch had, up to a number.
///
/// INVARIANT: numbers below `next` were given to this batch or one before, or are of no block.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Given {
    pub(crate) blocks: Vec<ReceivedBlock>,
    pub(crate) next: u64,
    /// Where the source was behind the last block with a position.
    pub(crate) position: Option<Position>,
}

/// A number for a block, and where the source was before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) sequence: u64,
    pub(crate) before: Option<Position>,
}

/// Received blocks that no batch has been given.
#[derive(Debug, Default)]
pub(crate) struct BlockTracker {
    /// By number, with where the source was behind each.
    waiting: BTreeMap<u64, (ReceivedBlock, Option<Position>)>,
    next: u64,
    /// Numbers of blocks that are not kept yet.
    keeping: BTreeSet<u64>,
    /// Where the source was behind the last block that is kept.
    position: Option<Position>,
    given: Given,
}

impl BlockTracker {
    /// Goes on behind what earlier runs gave, and behind what they kept and gave to no batch.
    pub(crate) fn restored(given: Given, kept: Vec<(ReceivedBlock, Option<Position>)>) -> BlockTracker {
        let waiting: BTreeMap<_, _> = kept
            .into_iter()
            .filter(|(block, _)| block.sequence >= given.next)
            .map(|(block, position)| (block.sequence, (block, position)))
            .collect();
        let last = waiting.last_key_value();
        BlockTracker {
            next: last.map_or(given.next, |(sequence, _)| sequence + 1),
            position: last.map_or_else(|| given.position.clone(), |(_, (_, position))| position.clone()),
            given: Given { blocks: Vec::new(), ..given },
            waiting,
            keeping: BTreeSet::new(),
        }
    }

    /// Numbers the next block.
    pub(crate) fn number(&mut self) -> Ticket {
        let sequence = self.next;
        self.next += 1;
        self.keeping.insert(sequence);
        Ticket { sequence, before: self.position.clone() }
    }

    /// Gives the next block a number that was said elsewhere, and is none of an earlier block.
    pub(crate) fn number_as(&mut self, sequence: u64) -> bool {
        let is_new = sequence >= self.next;
        if is_new {
            self.next = sequence + 1;
            self.keeping.insert(sequence);
        }
        is_new
    }

    /// Leaves out the next number: somebody may have used it who has not said so, and never will.
    pub(crate) fn skip(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Returns the number that the next block will have.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Returns where the source was behind the last block that is kept.
    pub(crate) fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// Says whether a block that has a number is not kept yet. What came after it must wait, to stay behind it.
    pub(crate) fn is_keeping(&self) -> bool {
        !self.keeping.is_empty()
    }

    /// Takes note of a block that could not be kept.
    pub(crate) fn lost(&mut self, sequence: u64) {
        self.keeping.remove(&sequence);
    }

    /// Takes note of a block that is kept, and of where the source was behind it.
    pub(crate) fn add(&mut self, block: ReceivedBlock, position: Option<Position>) {
        self.keeping.remove(&block.sequence);
        if self.waiting.last_key_value().is_none_or(|(last, _)| *last < block.sequence) {
            self.position.clone_from(&position);
        }
        self.waiting.insert(block.sequence, (block, position));
    }

    /// Gives a batch the blocks that wait, in the order in which they were made (S-80). What is behind one that is being
    /// kept waits for the next.
    pub(crate) fn allocate(&mut self) -> Given {
        let behind = match self.keeping.first() {
            Some(first) => self.waiting.split_off(first),
            None => BTreeMap::new(),
        };
        let waiting = std::mem::replace(&mut self.waiting, behind);
        if let Some((sequence, (_, position))) = waiting.last_key_value() {
            self.given.next = sequence + 1;
            self.given.position.clone_from(position);
        }
        Given { blocks: waiting.into_values().map(|(block, _)| block).collect(), ..self.given.clone() }
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

    fn block(sequence: u64) -> ReceivedBlock {
        ReceivedBlock { sequence, items: 1, handle: None }
    }

    fn numbers(given: &Given) -> Vec<u64> {
        given.blocks.iter().map(|block| block.sequence).collect()
    }

    #[test]
    fn s80_a_batch_is_given_all_blocks_that_wait_in_order() {
        let mut tracker = BlockTracker::default();
        let made: Vec<_> = (0..3).map(|_| tracker.number().sequence).collect();
        tracker.add(block(made[1]), None);
        assert_eq!(numbers(&tracker.allocate()), [0; 0], "the first is being kept: the second stays behind it");
        tracker.add(block(made[0]), None);
        assert!(tracker.is_keeping(), "the third has a number and is not kept");
        let first = tracker.allocate();
        assert_eq!((numbers(&first), first.next), (vec![0, 1], 2));
        assert_eq!(numbers(&tracker.allocate()), [0; 0]);
        tracker.add(block(made[2]), None);
        assert!(!tracker.is_keeping());
        assert_eq!(numbers(&tracker.allocate()), [2]);
    }

    #[test]
    fn r39_a_restart_gives_what_was_kept_and_not_given_and_numbers_go_on() {
        let given = Given { blocks: vec![block(1)], next: 2, position: Some(Position::from(20)) };
        let at = |n: u64| Some(Position::from(n));
        let kept = [0, 1, 2, 3].map(|n| (block(n), at(n * 10)));
        let mut tracker = BlockTracker::restored(given.clone(), kept.to_vec());
        assert_eq!((tracker.next(), tracker.position().cloned()), (4, at(30)));
        let first = tracker.allocate();
        assert_eq!((numbers(&first), first.next, first.position), (vec![2, 3], 4, at(30)));
        // Without a log, what was given says where the source was.
        let tracker = BlockTracker::restored(given, Vec::new());
        assert_eq!((tracker.next(), tracker.position().cloned()), (2, at(20)));
    }

    #[test]
    fn numbers_that_are_said_elsewhere_are_taken_once_and_one_that_may_have_been_used_is_left_out() {
        let mut tracker = BlockTracker::default();
        let first = tracker.skip();
        assert!(tracker.number_as(first) && tracker.is_keeping());
        assert!(!tracker.number_as(first), "it has been said");
        tracker.add(block(first), Some(Position::from(1)));
        assert!(tracker.number_as(first + 2), "one was never said");
        tracker.lost(first + 2);
        let next = tracker.skip();
        assert_eq!(next, first + 4);
        assert!(!tracker.number_as(first + 1), "it is of somebody who was let go");
        assert!(tracker.number_as(next));
        tracker.add(block(next), None);
        assert_eq!(numbers(&tracker.allocate()), [first, next]);
    }

    #[test]
    fn a_position_is_that_of_the_last_block_that_is_kept() {
        let mut tracker = BlockTracker::default();
        let (first, second) = (tracker.number(), tracker.number());
        tracker.add(block(second.sequence), Some(Position::from(2)));
        tracker.add(block(first.sequence), Some(Position::from(1)));
        assert_eq!(tracker.position().and_then(Position::as_u64), Some(2));
        let third = tracker.number();
        assert_eq!(third.before, Some(Position::from(2)), "a block without one stands where the source was");
        tracker.lost(third.sequence);
        assert_eq!(tracker.allocate().position, Some(Position::from(2)));
    }
}
