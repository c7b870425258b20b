//! How much may wait in a receiver, and what becomes of what is more. Pure.
//!
//! Items wait from when they are stored until their batch runs: in the buffer, and in blocks.

use std::collections::BTreeMap;

use crate::conf::WhenFull;
use crate::listener::Pressure;

/// What waits, and how much may.
#[derive(Debug)]
pub(crate) struct Room {
    most_items: u64,
    most_bytes: u64,
    when_full: WhenFull,
    /// Items and bytes of the blocks in memory that wait, by the block's number; and their sums.
    blocks: BTreeMap<u64, (u64, u64)>,
    items: u64,
    bytes: u64,
    /// Items in the buffer, or just being made a block.
    buffered: u64,
    /// About how many bytes an item takes.
    each: u64,
    total: Pressure,
    /// What had been told of that.
    told: Pressure,
    /// Whether it has been full since then.
    was_full: bool,
}

/// Where items go that are to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// So many may come in.
    Here(usize),
    /// They wait until something has left.
    Outside,
    /// They are dropped.
    Nowhere,
}

impl Room {
    /// Makes a room for items of about `each` bytes.
    pub(crate) fn new(most_items: u64, most_bytes: u64, when_full: WhenFull, each: usize) -> Room {
        Room {
            most_items,
            most_bytes,
            when_full,
            blocks: BTreeMap::new(),
            items: 0,
            bytes: 0,
            buffered: 0,
            each: (each as u64).max(1),
            total: Pressure::default(),
            told: Pressure::default(),
            was_full: false,
        }
    }

    /// Says where `n` items go; `block` is their size if they are to stay together. What is too large for the room comes in when it is
    /// empty. What a position covers, now or with the next block, is not dropped but waits: nobody would send it again.
    pub(crate) fn place(&self, n: usize, block: Option<u64>, is_covered: bool) -> Place {
        if self.when_full == WhenFull::Spill {
            return Place::Here(n);
        }
        let free_items = self.most_items.saturating_sub(self.items + self.buffered);
        let free_bytes = self.most_bytes.saturating_sub(self.bytes + self.buffered * self.each);
        let is_empty = self.items + self.buffered == 0;
        let here = match block {
            Some(bytes) if is_empty || (n as u64 <= free_items && bytes <= free_bytes) => n,
            Some(_) => 0,
            None => (n as u64).min(free_items.min(free_bytes / self.each).max(u64::from(is_empty))) as usize,
        };
        match (here, self.when_full) {
            (1.., _) => Place::Here(here),
            (0, _) if n == 0 => Place::Here(0),
            (_, WhenFull::Shed) if !is_covered => Place::Nowhere,
            _ => Place::Outside,
        }
    }

    /// Returns how many items may gather in the buffer before it becomes a block early.
    pub(crate) fn cut_at(&self) -> u64 {
        match self.when_full {
            WhenFull::Spill => (self.most_items / 4).min(self.most_bytes / 4 / self.each).max(1),
            _ => u64::MAX,
        }
    }

    /// Takes note of items that came into the buffer.
    pub(crate) fn buffer(&mut self, n: usize) {
        self.buffered += n as u64;
    }

    /// Takes note of how many bytes so many items take.
    pub(crate) fn measure(&mut self, items: usize, bytes: u64) {
        self.each = (bytes / (items as u64).max(1)).max(1);
    }

    /// Says whether a block is to go to disk, for want of room.
    pub(crate) fn spills(&self, items: u64, bytes: u64) -> bool {
        self.when_full == WhenFull::Spill
            && (self.items + items > self.most_items || self.bytes + bytes > self.most_bytes)
    }

    /// A block has been made of items, if it has, some of them from the buffer.
    pub(crate) fn keep(&mut self, block: u64, items: u64, bytes: u64, from_buffer: bool, outcome: Kept) {
        if from_buffer {
            self.buffered -= items;
        }
        match outcome {
            Kept::Here => {
                self.blocks.insert(block, (items, bytes));
                self.items += items;
                self.bytes += bytes;
            }
            Kept::Spilled => {
                self.total.spilled += items;
            }
            Kept::Lost => {}
        }
    }

    /// A block waits no longer. Returns whether that made room.
    pub(crate) fn leave(&mut self, block: u64) -> bool {
        let Some((items, bytes)) = self.blocks.remove(&block) else { return false };
        self.items -= items;
        self.bytes -= bytes;
        true
    }

    /// Takes note of items that have to wait outside.
    pub(crate) fn block(&mut self, n: usize) {
        self.total.blocked += n as u64;
    }

    /// Takes note of items that were dropped.
    pub(crate) fn shed(&mut self, n: usize) {
        self.total.shed += n as u64;
    }

    /// Says whether it is news that the room is full: once a batch.
    pub(crate) fn is_news(&mut self) -> bool {
        !std::mem::replace(&mut self.was_full, true)
    }

    /// Returns all that has been noted.
    pub(crate) fn total(&self) -> Pressure {
        self.total
    }

    /// Takes note of what was noted of blocks elsewhere.
    pub(crate) fn noted(&mut self, elsewhere: Pressure) {
        self.total.blocked += elsewhere.blocked;
        self.total.shed += elsewhere.shed;
        self.total.spilled += elsewhere.spilled;
    }

    /// Returns the blocks that wait, with their items and bytes.
    pub(crate) fn waiting(&self) -> Vec<(u64, u64, u64)> {
        self.blocks.iter().map(|(block, (items, bytes))| (*block, *items, *bytes)).collect()
    }

    /// From now on it is news again if the room is full.
    pub(crate) fn may_tell_again(&mut self) {
        self.was_full = false;
    }

    /// Returns what has been noted since the last time, once a batch.
    pub(crate) fn take(&mut self) -> Pressure {
        self.may_tell_again();
        self.since()
    }

    /// Returns what has been noted since the last time.
    pub(crate) fn since(&mut self) -> Pressure {
        let before = std::mem::replace(&mut self.told, self.total);
        Pressure {
            limit: None,
            blocked: self.total.blocked - before.blocked,
            shed: self.total.shed - before.shed,
            spilled: self.total.spilled - before.spilled,
        }
    }
}

/// What became of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    Here,
    Spilled,
    Lost,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(when_full: WhenFull) -> Room {
        let mut room = Room::new(10, 1000, when_full, 8);
        room.keep(0, 6, 48, false, Kept::Here);
        room.buffer(4);
        room
    }

    #[test]
    fn items_come_in_until_the_room_is_full_and_when_their_batch_runs_there_is_room_again() {
        let mut room = Room::new(10, 1000, WhenFull::Block, 8);
        assert_eq!(room.place(25, None, false), Place::Here(10), "as many as fit");
        room.buffer(7);
        assert_eq!((room.place(25, None, false), room.place(3, Some(24), false)), (Place::Here(3), Place::Here(3)));
        assert_eq!(room.place(4, Some(32), false), Place::Outside, "a block stays together");
        room.keep(0, 7, 56, true, Kept::Here);
        room.keep(1, 3, 24, false, Kept::Here);
        assert_eq!(room.place(1, None, false), Place::Outside);
        assert!(room.leave(0) && !room.leave(0) && !room.leave(77));
        assert_eq!(room.place(25, None, false), Place::Here(7));
        room.buffer(7);
        room.keep(2, 7, 0, true, Kept::Lost);
        assert_eq!(room.place(25, None, false), Place::Here(7), "what is lost takes no room");
    }

    #[test]
    fn bytes_count_as_they_are_measured_and_what_is_too_large_comes_alone() {
        let mut room = Room::new(1000, 1000, WhenFull::Block, 8);
        assert_eq!(room.place(500, None, false), Place::Here(125));
        room.measure(10, 3000);
        assert_eq!(room.place(500, None, false), Place::Here(3));
        room.measure(1, 5000);
        assert_eq!(room.place(500, None, false), Place::Here(1), "one at a time");
        assert_eq!(room.place(5000, Some(5_000_000), false), Place::Here(5000), "nothing could come in else");
        room.keep(0, 1, 900, false, Kept::Here);
        assert_eq!((room.place(500, None, false), room.place(1, Some(101), false)), (Place::Outside, Place::Outside));
        assert_eq!(room.place(1, Some(100), false), Place::Here(1));
        assert_eq!(room.place(0, None, false), Place::Here(0), "nothing needs no room");
    }

    #[test]
    fn what_there_is_no_room_for_waits_or_is_dropped_or_goes_to_disk() {
        for (when_full, want) in
            [(WhenFull::Block, Place::Outside), (WhenFull::Shed, Place::Nowhere), (WhenFull::Spill, Place::Here(5))]
        {
            let room = full(when_full);
            assert_eq!((room.place(5, None, false), room.place(5, Some(40), false)), (want, want), "{when_full:?}");
            let covered = if when_full == WhenFull::Shed { Place::Outside } else { want };
            assert_eq!((room.place(5, None, true), room.place(5, Some(40), true)), (covered, covered), "{when_full:?}");
            assert_eq!(room.spills(5, 40), when_full == WhenFull::Spill);
            assert!(!room.spills(4, 40), "the buffer does not count: it is what becomes a block");
        }
        let room = full(WhenFull::Spill);
        assert_eq!(room.cut_at(), 2, "a quarter of the room");
        assert_eq!(full(WhenFull::Block).cut_at(), u64::MAX);
    }

    #[test]
    fn what_became_of_items_is_counted_for_each_batch_and_in_all() {
        let mut room = full(WhenFull::Spill);
        assert!(room.is_news() && !room.is_news());
        room.block(1);
        room.shed(2);
        room.keep(5, 3, 30, false, Kept::Spilled);
        let noted = Pressure { limit: None, blocked: 1, shed: 2, spilled: 3 };
        assert_eq!(room.take(), noted);
        assert_eq!((room.take(), room.total()), (Pressure::default(), noted));
        assert!(room.is_news(), "once a batch");
        assert!(!room.leave(5), "what is on disk takes no room");
    }
}
