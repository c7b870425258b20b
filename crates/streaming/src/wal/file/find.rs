//! What is found in the folder of a log when it is opened: which segments count, and where each ends.

use std::collections::VecDeque;
use std::path::Path;

use millstream_core::disk::{Disk, write_durably};
use millstream_core::{Error, ErrorKind, Result, Time};

use super::super::segment::{Frames, HEADER, Header, NoHeader, proof};
use super::super::vanished::steadily;
use super::{Segment, damaged, missing, path_of};

pub(super) struct Found {
    pub(super) segments: VecDeque<Segment>,
    pub(super) next_number: u64,
}

/// Returns the number that a file is named by.
pub(super) fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("log-").filter(|digits| digits.len() == 20)?;
    digits.parse().ok().filter(|number| (1..u64::MAX).contains(number))
}

/// Returns a length in a file as one in memory.
pub(super) fn size(len: u64) -> Result<usize> {
    usize::try_from(len).map_err(|_| Error::new(ErrorKind::Data, format!("a segment of {len} bytes is too long")))
}

/// Reads the header of a segment that is known to have one.
pub(super) fn header(path: &Path, bytes: &[u8], number: u64) -> Result<Header> {
    Header::decode(bytes, number).map_err(|why| no_header(path, why))
}

fn no_header(path: &Path, why: NoHeader) -> Error {
    let what = match why {
        NoHeader::Bad => "the header is spoilt".to_owned(),
        NoHeader::Version(version) => {
            let text = format!(
                "the log {} is of version {version}, and this build reads version 1: run the build that wrote it",
                path.display()
            );
            return Error::new(ErrorKind::Data, text);
        }
        NoHeader::Number(number) => format!("it is segment {number} under another name"),
    };
    damaged(path, 0, &what)
}

/// Finds the segments of a log, and makes the last durable as it was found, without a torn end.
///
/// The last is the newest with a whole record; newer ones were begun by writes that nobody acknowledged. From it each
/// header names the one before, and where that ends. With higher numbers than `up_to` whoever comes later has begun.
pub(super) fn segments(disk: &dyn Disk, folder: &Path, up_to: u64) -> Result<Found> {
    let list = || Ok(numbers(disk, folder)?.into_iter().filter(|number| *number <= up_to).collect());
    steadily(list, |numbers| listed(disk, folder, numbers.to_vec()))
}

/// As [`segments`], without those in front of the last.
pub(super) fn newest(disk: &dyn Disk, folder: &Path) -> Result<Found> {
    let only = |numbers: &[u64]| {
        let segments = last(disk, folder, numbers)?.map(|(last, _)| last).into_iter().collect();
        Ok(Found { segments, next_number: numbers.last().map_or(1, |last| last + 1) })
    };
    steadily(|| numbers(disk, folder), only)
}

/// Says whether a number that was taken is the newest. The newest of all stays: nobody removes his last segment, nor a claim. Who only
/// looks has put none.
pub(super) fn is_newest(numbers: &[u64], claim: u64) -> bool {
    numbers.last() == Some(&claim) || numbers.binary_search(&claim).is_err()
}

/// Returns the numbers of the files that are there, oldest first.
pub(super) fn numbers(disk: &dyn Disk, folder: &Path) -> Result<Vec<u64>> {
    let mut numbers: Vec<u64> = disk.list(folder)?.iter().filter_map(|name| number_of(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// What is in front of a segment.
#[derive(Debug, PartialEq, Eq)]
enum Front {
    /// The segment that it names, at this place of the list.
    At(usize),
    /// Nothing: it is the oldest.
    Nothing,
    /// A gap: the segment that it names is not there, and older ones are.
    Gap,
}

/// Says what is in front of a segment that names `previous` as the one before it. The oldest are removed first.
///
/// An object store may bring back one that was removed, with a put that comes late: there a gap is none, and one that should not be
/// is seen by who counts records, or asks for one.
fn front(numbers: &[u64], previous: u64, in_a_bucket: bool) -> Front {
    match numbers.binary_search(&previous) {
        Ok(place) => Front::At(place),
        Err(0) => Front::Nothing,
        Err(_) if in_a_bucket => Front::Nothing,
        Err(_) => Front::Gap,
    }
}

/// As [`segments`], of those that were listed.
fn listed(disk: &dyn Disk, folder: &Path, mut numbers: Vec<u64>) -> Result<Found> {
    let next_number = numbers.last().map_or(1, |last| last + 1);
    let mut segments = VecDeque::new();
    let Some((last, header)) = last(disk, folder, &numbers)? else {
        return Ok(Found { segments, next_number });
    };
    segments.push_front(last);
    let mut after = header;
    while after.previous != 0 {
        let path = path_of(folder, after.previous);
        let place = match front(&numbers, after.previous, disk.objects().is_some()) {
            Front::At(place) => place,
            Front::Nothing => break,
            Front::Gap => return Err(missing(&path)),
        };
        let segment = match before(disk, &path, &after) {
            Ok(segment) => segment,
            Err(error) => {
                // Not begun anew: while one reads a long log from its end, its beginning may go all the time.
                let now = self::numbers(disk, folder)?;
                if now.binary_search(&after.previous).is_ok() {
                    return Err(error);
                }
                numbers = now;
                continue;
            }
        };
        numbers.truncate(place);
        segments.push_front(segment.0);
        after = segment.1;
    }
    Ok(Found { segments, next_number })
}

/// Returns the segment before the one with the header `after`.
fn before(disk: &dyn Disk, path: &Path, after: &Header) -> Result<(Segment, Header)> {
    let len = disk.len(path)?;
    if after.previous >= after.number || after.previous_end < HEADER as u64 || len < after.previous_end {
        let text = format!("it ends there, and segment {} says it had {} bytes", after.number, after.previous_end);
        return Err(damaged(path, len, &text));
    }
    let header = header(path, &disk.read_at(path, 0, HEADER)?, after.previous)?;
    let Some(records) = after.first.checked_sub(header.first) else {
        return Err(damaged(path, 0, "its first record is younger than that of the next segment"));
    };
    let (end, latest) = (after.previous_end, after.previous_latest);
    Ok((Segment { number: header.number, first: header.first, records, end, kept: end, begun: latest, latest }, header))
}

/// Finds the newest segment with a whole record, and makes it durable up to the last of those.
fn last(disk: &dyn Disk, folder: &Path, numbers: &[u64]) -> Result<Option<(Segment, Header)>> {
    // A newer header is there only if this much of the segment it names was durable.
    let mut promised: Option<Header> = None;
    for &number in numbers.iter().rev() {
        match promised {
            Some(newer) if number > newer.previous => continue,
            Some(newer) if number < newer.previous => break,
            _ => {}
        }
        let path = path_of(folder, number);
        let bytes = disk.read(&path)?;
        let promise = promised.map_or(0, |newer| newer.previous_end);
        let header = match Header::decode(&bytes, number) {
            Ok(header) => header,
            Err(NoHeader::Bad)
                if disk.objects().is_none() && promise == 0 && proof(&bytes, number, HEADER).is_none() =>
            {
                continue;
            }
            Err(why) => return Err(no_header(&path, why)),
        };
        if header.first > u64::MAX / 2 {
            return Err(damaged(&path, 0, &format!("no log ever had the {} records before it", header.first)));
        }
        let mut frames = Frames::of(&bytes, number);
        let times: Vec<Time> = frames.by_ref().map(|(_, time, _)| time).collect();
        let end = frames.end();
        if (end as u64) < promise {
            return Err(damaged(&path, end as u64, "a record that had been acknowledged is spoilt"));
        }
        if let Some(later) = proof(&bytes, number, end) {
            let text =
                format!("a record is spoilt that had been acknowledged before the one at byte {later} was written");
            return Err(damaged(&path, end as u64, &text));
        }
        let (Some(&begun), Some(&latest)) = (times.first(), times.iter().max()) else {
            promised = Some(header);
            continue;
        };
        // An object is there whole, or not at all: nothing tears it, and it is durable.
        if disk.objects().is_none() {
            write_durably(disk, &path, &bytes[..end])?;
        } else if end < bytes.len() {
            return Err(damaged(&path, end as u64, "a record of an object is spoilt"));
        }
        let records = times.len() as u64;
        let segment =
            Segment { number, first: header.first, records, end: end as u64, kept: end as u64, begun, latest };
        return Ok(Some((segment, header)));
    }
    match promised {
        Some(newer) if newer.previous != 0 => Err(missing(&path_of(folder, newer.previous))),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_good_if_nobody_is_further_and_who_only_looks_has_none() {
        for (numbers, claim, want) in [
            (&[3, 4, 5][..], 5, true),
            (&[3, 5, 9], 5, false),
            (&[5, 6], 5, false),
            (&[5], 5, true),
            (&[3, 4], 5, true),
            (&[3, 4, 6], 5, true),
            (&[], 1, true),
        ] {
            assert_eq!(is_newest(numbers, claim), want, "{numbers:?} {claim}");
        }
    }

    #[test]
    fn what_is_in_front_of_a_segment_is_found_by_the_list_and_a_gap_in_a_folder_is_damage() {
        for (numbers, previous, in_a_folder, in_a_bucket) in [
            (&[3, 4, 5][..], 4, Front::At(1), Front::At(1)),
            (&[4, 5], 4, Front::At(0), Front::At(0)),
            // All that is older was removed, by whoever goes on there or before.
            (&[5, 6], 4, Front::Nothing, Front::Nothing),
            (&[], 4, Front::Nothing, Front::Nothing),
            (&[3, 5], 4, Front::Gap, Front::Nothing),
        ] {
            assert_eq!(front(numbers, previous, false), in_a_folder, "{numbers:?} {previous}");
            assert_eq!(front(numbers, previous, true), in_a_bucket, "{numbers:?} {previous}");
        }
    }
}
