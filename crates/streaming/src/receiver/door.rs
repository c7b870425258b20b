//! Whether what a receiver wants to store may come in: pure, and the same where it runs on the driver and on an executor.

use std::time::Duration;

use super::rate::Limit;
use super::room::{Place, Room};
use crate::conf::WhenFull;

/// What keeps items outside.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) limit: Limit,
    pub(crate) room: Room,
}

/// What is to become of items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// So many of them come in.
    Come(usize),
    /// They are dropped.
    Dropped,
    /// It is to be told that the room is full, and asked again.
    Tell(WhenFull),
    /// They wait until something has left.
    WaitForRoom,
    /// They wait for the rate.
    WaitFor(Duration),
}

/// Items that want to come in.
#[derive(Debug)]
pub(crate) struct Asking {
    pub(crate) items: usize,
    /// How many bytes they are, if they are to stay together.
    pub(crate) block: Option<u64>,
    /// Whether a position covers them: they are not dropped, as the next position would say that they are here.
    pub(crate) is_covered: bool,
    /// Whether no rate holds for them.
    pub(crate) is_free: bool,
    /// Whether they have been counted as waiting.
    pub(crate) has_waited: bool,
}

impl Door {
    /// Decides about items at `now`, and takes note of what comes of them.
    pub(crate) fn enter(&mut self, asking: &mut Asking, now: Duration) -> Entry {
        let place = self.room.place(asking.items, asking.block, asking.is_covered);
        // Before anybody is told: whoever hears that the room is full finds what waits, even if there is room again by then.
        if place == Place::Outside && !std::mem::replace(&mut asking.has_waited, true) {
            self.room.block(asking.items);
        }
        if !matches!(place, Place::Here(_)) && self.room.is_news() {
            return Entry::Tell(if place == Place::Nowhere { WhenFull::Shed } else { WhenFull::Block });
        }
        let here = match place {
            Place::Here(here) => here,
            Place::Nowhere => {
                self.room.shed(asking.items);
                return Entry::Dropped;
            }
            Place::Outside => return Entry::WaitForRoom,
        };
        let Some(limiter) = self.limit.limiter().filter(|_| !asking.is_free) else { return Entry::Come(here) };
        let wait = limiter.wait(now);
        if !wait.is_zero() {
            return Entry::WaitFor(wait);
        }
        let piece = if asking.block.is_some() { here } else { here.min(limiter.piece()) };
        limiter.take(piece);
        Entry::Come(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receiver::room::Kept;

    fn asking(items: usize) -> Asking {
        Asking { items, block: None, is_covered: false, is_free: false, has_waited: false }
    }

    fn door(when_full: WhenFull, rate: Option<u64>) -> Door {
        let mut room = Room::new(10, 1000, when_full, 8);
        room.keep(0, 4, 32, false, Kept::Here);
        Door { limit: Limit::new(rate, None, Duration::ZERO), room }
    }

    #[test]
    fn items_come_in_as_far_as_there_is_room_and_rate() {
        let now = Duration::ZERO;
        let mut free = door(WhenFull::Block, None);
        assert_eq!(free.enter(&mut asking(25), now), Entry::Come(6));
        free.room.buffer(6);
        let mut waits = asking(1);
        assert_eq!(free.enter(&mut waits, now), Entry::Tell(WhenFull::Block), "once");
        assert_eq!(free.room.total().blocked, 1, "who is told of it finds it counted");
        assert_eq!(free.enter(&mut waits, now), Entry::WaitForRoom);
        assert_eq!(free.enter(&mut waits, now), Entry::WaitForRoom);
        assert_eq!(free.room.total().blocked, 1, "they are counted once");
        free.room.leave(0);
        assert_eq!(free.enter(&mut waits, now), Entry::Come(1));

        let mut limited = door(WhenFull::Block, Some(20));
        assert_eq!(limited.enter(&mut asking(6), now), Entry::Come(2), "a tenth of a second's");
        assert!(matches!(limited.enter(&mut asking(1), now), Entry::WaitFor(wait) if !wait.is_zero()));
        assert_eq!(limited.enter(&mut Asking { is_free: true, ..asking(1) }, now), Entry::Come(1));

        let mut sheds = door(WhenFull::Shed, None);
        sheds.room.buffer(6);
        assert_eq!(sheds.enter(&mut asking(3), now), Entry::Tell(WhenFull::Shed));
        assert_eq!(sheds.enter(&mut asking(3), now), Entry::Dropped);
        assert_eq!(sheds.enter(&mut Asking { is_covered: true, ..asking(1) }, now), Entry::WaitForRoom);
        assert_eq!((sheds.room.total().shed, sheds.room.total().blocked), (3, 1));
    }
}
