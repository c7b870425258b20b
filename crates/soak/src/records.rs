//! What record N says: a pure function, so that a sender can send it again and an audit knows what must come out.

use std::collections::BTreeMap;

/// How many words there are: states stay of one size.
const WORDS: u64 = 500;

/// How many words a record has.
const EACH: u64 = 4;

/// How many groups of numbers there are.
pub(crate) const GROUPS: u64 = 50;

/// Scatters a number (splitmix64).
pub(crate) fn scattered(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn words(number: u64) -> impl Iterator<Item = String> {
    (0..EACH).map(move |i| format!("w{}", scattered(number * EACH + i) % WORDS))
}

/// Returns a record as it is sent: its number, and its words.
pub(crate) fn line(number: u64) -> String {
    words(number).fold(number.to_string(), |line, word| line + " " + &word)
}

/// Returns how often each word is in the records from 1 to `last`.
pub(crate) fn totals(last: u64) -> BTreeMap<String, u64> {
    let mut totals = BTreeMap::new();
    for word in (1..=last).flat_map(words) {
        *totals.entry(word).or_default() += 1;
    }
    totals
}

/// Returns, for each group, how many numbers from 1 to `last` are in it, and their sum.
pub(crate) fn groups(last: u64) -> BTreeMap<u64, (u64, u64)> {
    let mut groups: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for number in 1..=last {
        let group = groups.entry(number % GROUPS).or_default();
        *group = (group.0 + 1, group.1 + number);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_always_the_same_and_no_two_are() {
        assert_eq!(line(7), line(7));
        let words: Vec<_> = line(8).split(' ').map(str::to_owned).collect();
        assert_eq!((words.len(), &*words[0]), (5, "8"));
        assert_eq!(totals(10).values().sum::<u64>(), 40);
        assert_eq!(groups(60)[&1], (2, 52));
    }
}
