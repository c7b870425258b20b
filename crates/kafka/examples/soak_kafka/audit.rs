//! The audit: what must be committed after so many records, and what is.

use std::collections::BTreeMap;
use std::fmt;

use millstream_core::{Context, Error, ErrorKind, Result};
use millstream_kafka::{Isolation, ReadBy, Record, all_of, rdd_by};

use crate::program::KEYS;

/// What is there, beside what should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) numbers: u64,
    pub(crate) lost: usize,
    pub(crate) twice: usize,
    strange: usize,
    miscounted: usize,
    disordered: usize,
}

impl Verdict {
    /// Says whether each number is there once, with the count of its key, and in the order of its key.
    pub(crate) fn is_good(&self) -> bool {
        *self == Verdict { numbers: self.numbers, ..Verdict::default() }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict { numbers, lost, twice, strange, miscounted, disordered } = self;
        write!(
            f,
            "of {numbers} records {lost} are lost, {twice} there more than once, {strange} were never sent, {miscounted} \
             have a wrong count, and {disordered} are out of order"
        )
    }
}

/// Judges what is there of so many numbers. Pure.
fn verdict(numbers: u64, records: impl IntoIterator<Item = (u64, u64)>) -> Verdict {
    let mut times = vec![0u32; usize::try_from(numbers).unwrap_or(0)];
    let mut found = Verdict { numbers, ..Verdict::default() };
    let mut last: BTreeMap<u64, u64> = BTreeMap::new();
    for (number, count) in records {
        match usize::try_from(number).ok().and_then(|number| times.get_mut(number)) {
            Some(times) => *times += 1,
            None => found.strange += 1,
        }
        found.miscounted += usize::from(count != number / KEYS + 1);
        let before = last.insert(number % KEYS, number);
        found.disordered += usize::from(before.is_some_and(|before| before >= number));
    }
    found.lost = times.iter().filter(|times| **times == 0).count();
    found.twice = times.iter().filter(|times| **times > 1).count();
    found
}

fn read(record: &Record) -> Option<(u64, u64)> {
    let (number, count) = record.text()?.split_once(' ')?;
    Some((number.parse().ok()?, count.parse().ok()?))
}

/// Reads what is committed, and judges it; with where the first copies are of what is there more than once.
pub(crate) fn audit(brokers: &str, topic: &str, numbers: u64) -> Result<(Verdict, String)> {
    let context = Context::new("local[2]", "audit")?;
    let ranges = all_of(brokers, [topic])?;
    let by = |read_by| -> Result<Vec<Record>> {
        rdd_by(&context, brokers, ranges.iter().cloned(), Isolation::ReadCommitted, read_by)?.collect()
    };
    let records = by(ReadBy::Fastest)?;
    // What one reader shows and the other does not was never committed, or is lost by it.
    if records != by(ReadBy::Client)? {
        return Err(Error::new(ErrorKind::Data, format!("the two readers differ about topic {topic}")));
    }
    Ok((verdict(numbers, records.iter().filter_map(read)), doubles(&records)))
}

/// Says where the copies of the first numbers are that are there more than once, and when they were sent.
fn doubles(records: &[Record]) -> String {
    let mut places: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for record in records {
        let Some((number, _)) = read(record) else { continue };
        let sent = record.timestamp().map_or(0, |time| time.as_millis());
        places.entry(number).or_default().push(format!("{}@{} sent {sent}", record.partition(), record.offset()));
    }
    let doubled = places.iter().filter(|(_, places)| places.len() > 1).take(12);
    doubled.map(|(number, places)| format!("\n  {number}: {}", places.join(", "))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_doubled_miscounted_or_out_of_order_is_seen() {
        let of = |numbers| Verdict { numbers, ..Verdict::default() };
        assert!(verdict(3, [(1, 1), (0, 1), (2, 1)]).is_good());
        assert_eq!(verdict(3, [(1, 1), (0, 1)]), Verdict { lost: 1, ..of(3) });
        assert_eq!(verdict(2, [(1, 1), (0, 1), (1, 1)]), Verdict { twice: 1, disordered: 1, ..of(2) });
        assert_eq!(verdict(1, [(0, 2)]), Verdict { miscounted: 1, ..of(1) });
        assert_eq!(verdict(1, [(0, 1), (7, 1)]), Verdict { strange: 1, ..of(1) });
        let swapped = [50].into_iter().chain(1..50).chain([0]).chain(51..60);
        assert_eq!(verdict(60, swapped.map(|n| (n, n / KEYS + 1))), Verdict { disordered: 1, ..of(60) });
        assert!(!Verdict { strange: 1, ..of(1) }.is_good());
    }
}
