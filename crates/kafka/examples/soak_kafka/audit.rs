//! The audit: what must be committed after so many records, and what is.

use std::collections::BTreeMap;

use millstream_core::{Context, Error, ErrorKind, Result};
use millstream_kafka::{Isolation, ReadBy, Record, all_of, rdd_by};

use crate::program::KEYS;

/// Says what is wrong; nothing if each number is there once, with the count of its key, and in the order of its key.
/// Pure.
pub(crate) fn verdict(numbers: u64, records: impl IntoIterator<Item = (u64, u64)>) -> Result<(), String> {
    let mut times = vec![0u32; usize::try_from(numbers).unwrap_or(0)];
    let (mut strange, mut miscounted, mut disordered) = (0, 0, 0);
    let mut last: BTreeMap<u64, u64> = BTreeMap::new();
    for (number, count) in records {
        match usize::try_from(number).ok().and_then(|number| times.get_mut(number)) {
            Some(times) => *times += 1,
            None => strange += 1,
        }
        miscounted += u64::from(count != number / KEYS + 1);
        let before = last.insert(number % KEYS, number);
        disordered += u64::from(before.is_some_and(|before| before >= number));
    }
    let lost = times.iter().filter(|times| **times == 0).count();
    let twice = times.iter().filter(|times| **times > 1).count();
    if (lost, twice, strange, miscounted, disordered) == (0, 0, 0, 0, 0) {
        return Ok(());
    }
    Err(format!(
        "of {numbers} records {lost} are lost, {twice} there more than once, {strange} were never sent, {miscounted} \
         have a \
         wrong count, and {disordered} are out of order"
    ))
}

/// Reads what is committed, and judges it.
pub(crate) fn audit(brokers: &str, topic: &str, numbers: u64) -> Result<()> {
    let context = Context::new("local[2]", "audit")?;
    let read = |record: Record| {
        let (number, count) = record.text()?.split_once(' ')?;
        Some((number.parse().ok()?, count.parse().ok()?))
    };
    let ranges = all_of(brokers, [topic])?;
    let by = |read_by| -> Result<Vec<Record>> {
        rdd_by(&context, brokers, ranges.iter().cloned(), Isolation::ReadCommitted, read_by)?.collect()
    };
    let records = by(ReadBy::Fastest)?;
    // What one reader shows and the other does not was never committed, or is lost by it.
    let others = if records == by(ReadBy::Client)? { "" } else { "; and the two readers differ" };
    let judged = verdict(numbers, records.into_iter().filter_map(read));
    match (judged, others) {
        (Ok(()), "") => Ok(()),
        (Ok(()), others) => Err(Error::new(ErrorKind::Data, format!("all is there once{others}"))),
        (Err(text), others) => Err(Error::new(ErrorKind::Data, format!("{text}{others}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_doubled_miscounted_or_out_of_order_is_seen() {
        assert_eq!(verdict(3, [(1, 1), (0, 1), (2, 1)]), Ok(()));
        assert!(verdict(3, [(1, 1), (0, 1)]).unwrap_err().contains("1 are lost"));
        assert!(verdict(2, [(1, 1), (0, 1), (1, 1)]).unwrap_err().contains("1 there more than once"));
        assert!(verdict(1, [(0, 2)]).unwrap_err().contains("1 have a wrong count"));
        assert!(verdict(1, [(0, 1), (7, 1)]).unwrap_err().contains("1 were never sent"));
        let disordered = (0..60).map(|n| {
            if n == 0 {
                50
            } else if n == 50 {
                0
            } else {
                n
            }
        });
        assert!(verdict(60, disordered.map(|n| (n, n / KEYS + 1))).unwrap_err().contains("1 are out of order"));
    }
}
