//! Who may stand at the door, and who has to go when too many do: a decision, and no more.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

/// Those who have come and have not proved yet who they are.
#[derive(Debug)]
pub(crate) struct Door {
    most: usize,
    most_of_one: usize,
    /// By when they came.
    strangers: BTreeMap<u64, IpAddr>,
    next: u64,
}

impl Door {
    pub(crate) fn new(most: usize, most_of_one: usize) -> Door {
        Door { most: most.max(1), most_of_one: most_of_one.max(1), strangers: BTreeMap::new(), next: 0 }
    }

    /// Lets somebody stand at the door. Returns their number, and whose place they take, if all places are taken: of those
    /// from the same address if there are too many of them, else of the address from which most have come, the one who has
    /// stood there longest.
    ///
    /// So a newcomer is always heard, and a flood turns its own away: who knows the secret has proved it long before.
    pub(crate) fn admit(&mut self, from: IpAddr) -> (u64, Option<u64>) {
        let from = whose(from);
        let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for address in self.strangers.values() {
            *counts.entry(*address).or_default() += 1;
        }
        let many = counts.values().copied().max().unwrap_or_default();
        let own_are_many = counts.get(&from).is_some_and(|count| *count >= self.most_of_one);
        let goes = |other: &IpAddr| if own_are_many { *other == from } else { counts[other] == many };
        let all_taken = own_are_many || self.strangers.len() >= self.most;
        let gone = self.strangers.iter().find(|(_, other)| all_taken && goes(other)).map(|(number, _)| *number);
        if let Some(gone) = gone {
            self.strangers.remove(&gone);
        }
        let number = self.next;
        self.next += 1;
        self.strangers.insert(number, from);
        (number, gone)
    }

    /// Takes note that somebody is no stranger any more, or has gone.
    pub(crate) fn leave(&mut self, number: u64) {
        self.strangers.remove(&number);
    }
}

/// Returns what stands for whoever has an address: of version 6, one has all that begin with the same 64 bits.
fn whose(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_one_with_many_addresses() {
        for (a, b, is_one) in [
            ("10.0.0.1", "::ffff:10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("2001:db8::1", "2001:db8::ffff:1", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
        ] {
            assert_eq!(whose(a.parse().unwrap()) == whose(b.parse().unwrap()), is_one, "{a} and {b}");
        }
    }

    #[test]
    fn a_flood_turns_its_own_away() {
        // At most 4, of one address at most 3. By their addresses' last numbers: who comes, and who has to go.
        let mut door = Door::new(4, 3);
        let mut standing: Vec<(u64, u8)> = Vec::new();
        for (comes, goes) in [
            (1, None),
            (1, None),
            (1, None),
            (1, Some(1)),
            (2, None),
            // All places are taken: of the many, not of the few.
            (3, Some(1)),
            (4, Some(1)),
            (1, Some(1)),
        ] {
            let (number, gone) = door.admit(IpAddr::from([10, 0, 0, comes]));
            let left = gone.map(|gone| standing.remove(standing.iter().position(|(n, _)| *n == gone).unwrap()));
            assert_eq!(left.map(|(_, from)| from), goes, "{comes} comes to {standing:?}");
            if let Some((oldest, from)) = left {
                assert!(standing.iter().all(|(n, f)| *f != from || *n > oldest), "the oldest goes");
            }
            standing.push((number, comes));
        }
        assert_eq!(standing.iter().map(|(_, from)| *from).collect::<Vec<_>>(), [2, 3, 4, 1]);
    }

    #[test]
    fn who_has_left_takes_no_place() {
        let mut door = Door::new(1, 1);
        for _ in 0..3 {
            let (number, gone) = door.admit(IpAddr::from([10, 0, 0, 1]));
            assert_eq!(gone, None);
            door.leave(number);
        }
    }
}
