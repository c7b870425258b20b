//! The audit: what must be in the database after so many records, and what is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use millstream::sqlite::{SqlValue, SqliteSink};
use millstream::{Error, ErrorKind, Result};

use crate::program::WINDOW;
use crate::records;

/// What the program wrote, as far as it was right.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) batches: u64,
    pub(crate) windows: u64,
}

/// A database that is asked.
struct Asked(SqliteSink);

impl Asked {
    fn rows<const N: usize>(&self, sql: &str) -> Result<Vec<[u64; N]>> {
        let row = |row: Vec<SqlValue>| {
            let numbers: Option<Vec<u64>> = row.iter().map(whole).collect();
            numbers.and_then(|numbers| numbers.try_into().ok())
        };
        let rows = self.0.query(sql)?.into_iter().map(row).collect::<Option<_>>();
        rows.ok_or_else(|| Error::new(ErrorKind::Data, format!("`{sql}` gives something else than {N} whole numbers")))
    }

    fn one(&self, sql: &str) -> Result<u64> {
        Ok(self.rows::<1>(sql)?.first().map_or(0, |row| row[0]))
    }
}

fn whole(value: &SqlValue) -> Option<u64> {
    match value {
        SqlValue::Integer(number) => u64::try_from(*number).ok(),
        SqlValue::Null => Some(0),
        _ => None,
    }
}

/// Says which numbers from 1 to `last` are not there once. `counts` has how often each is there, in order. Pure.
fn not_once(counts: &[[u64; 2]], last: u64) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut next = 1;
    for [number, count] in counts {
        if *number > next {
            wrong.push(format!("{next} to {} are lost", number - 1));
        }
        if *count != 1 {
            wrong.push(format!("{number} is there {count} times"));
        }
        next = number + 1;
    }
    if next != last + 1 {
        wrong.push(format!("it ends with {}, and {last} were sent", next - 1));
    }
    wrong
}

/// Says which windows are not the sum of their batches; both by time, in order. Pure.
fn wrong_windows(batches: &BTreeMap<u64, u64>, windows: &[[u64; 2]]) -> Vec<String> {
    let sum = |at: u64| batches.range((at + 1).saturating_sub(WINDOW)..=at).map(|(_, records)| records).sum::<u64>();
    let wrong = |[at, records]: &&[u64; 2]| sum(*at) != *records;
    let text = |[at, records]: &[u64; 2]| format!("the window of {at} has {records} records, and not {}", sum(*at));
    windows.iter().filter(wrong).map(text).collect()
}

fn differences<K: Ord + std::fmt::Display, V: PartialEq + std::fmt::Debug>(
    what: &str,
    found: &BTreeMap<K, V>,
    want: &BTreeMap<K, V>,
) -> Vec<String> {
    let keys = found.keys().chain(want.keys().filter(|key| !found.contains_key(*key)));
    let wrong = keys.filter(|key| found.get(*key) != want.get(*key));
    wrong.map(|key| format!("{what} {key} is {:?}, and not {:?}", found.get(key), want.get(key))).collect()
}

/// Looks whether all is there that `last` records come to, once.
pub(crate) fn audit(database: &Path, last: u64) -> Result<Found> {
    let asked = Asked(SqliteSink::open(database)?);
    let numbers = asked.rows("SELECT number, count(*) FROM numbers GROUP BY number ORDER BY number")?;
    let mut wrong = not_once(&numbers, last);

    let batches = asked.rows::<3>("SELECT batch, records, sum FROM batches ORDER BY batch")?;
    let of = asked.rows::<3>("SELECT batch, count(*), sum(number) FROM numbers GROUP BY batch ORDER BY batch")?;
    if batches != of {
        let first = batches.iter().zip(&of).find(|(a, b)| a != b);
        wrong.push(format!("batches have not the numbers that they say, or are there twice: {first:?}"));
    }
    let by_time: BTreeMap<u64, u64> = batches.iter().map(|[at, records, _]| (*at, *records)).collect();
    if by_time.len() != batches.len() {
        wrong.push("a batch is there twice".to_owned());
    }
    let windows = asked.rows::<2>("SELECT batch, records FROM windows ORDER BY batch")?;
    wrong.extend(
        windows
            .windows(2)
            .filter(|pair| pair[0][0] == pair[1][0])
            .map(|pair| format!("the window of {} is there twice", pair[0][0])),
    );
    wrong.extend(wrong_windows(&by_time, &windows));
    // Each batch with records has a window with at least those.
    let there: BTreeSet<u64> = windows.iter().map(|[at, _]| *at).collect();
    wrong.extend(by_time.keys().filter(|at| !there.contains(at)).map(|at| format!("the window of {at} is not there")));

    let groups = asked.rows::<3>("SELECT number, records, sum FROM groups")?;
    let groups = groups.into_iter().map(|[number, records, sum]| (number, (records, sum))).collect();
    wrong.extend(differences("group", &groups, &records::groups(last)));
    let totals = asked.0.query("SELECT word, total FROM totals")?;
    let total = |row: Vec<SqlValue>| match &row[..] {
        [SqlValue::Text(word), total] => Some((word.to_string(), whole(total)?)),
        _ => None,
    };
    wrong.extend(differences("word", &totals.into_iter().filter_map(total).collect(), &records::totals(last)));

    for width in [2, 3] {
        let staged = asked.one(&format!("SELECT count(*) FROM millstream_staged_v1_{width}"))?;
        if staged > 0 {
            wrong.push(format!("{staged} rows of {width} values are staged and committed by nobody"));
        }
    }
    if wrong.is_empty() {
        return Ok(Found { batches: batches.len() as u64, windows: windows.len() as u64 });
    }
    let count = wrong.len();
    wrong.truncate(20);
    Err(Error::new(ErrorKind::Internal, format!("{count} things are wrong:\n{}", wrong.join("\n"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_or_twice_is_named() {
        assert_eq!(not_once(&[[1, 1], [2, 1]], 2), [""; 0]);
        let wrong = not_once(&[[1, 1], [4, 2]], 6);
        assert_eq!(wrong, ["2 to 3 are lost", "4 is there 2 times", "it ends with 4, and 6 were sent"]);
        assert_eq!(not_once(&[], 1), ["it ends with 0, and 1 were sent"]);
        assert_eq!(not_once(&[[1, 1], [2, 1]], 1), ["it ends with 2, and 1 were sent"]);
    }

    #[test]
    fn a_window_is_the_sum_of_its_batches() {
        let batches = BTreeMap::from([(1000, 5), (1500, 7), (2000, 1)]);
        assert_eq!(wrong_windows(&batches, &[[1000, 5], [1500, 12], [2000, 8], [3000, 0]]), [""; 0]);
        let wrong = wrong_windows(&batches, &[[2000, 13]]);
        assert_eq!(wrong, ["the window of 2000 has 13 records, and not 8"]);
    }

    #[test]
    fn differences_name_what_is_missing_and_what_is_too_much() {
        let (found, want) = (BTreeMap::from([(1, 2), (3, 4)]), BTreeMap::from([(1, 2), (5, 6)]));
        assert_eq!(differences("x", &found, &want), ["x 3 is Some(4), and not None", "x 5 is None, and not Some(6)"]);
    }
}
