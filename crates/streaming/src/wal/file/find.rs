//! What is found in the folder of a log when it is opened: which segments count, and where each ends.

use std::collections::VecDeque;
use std::path::Path;

use millstream_core::disk::{Disk, write_durably};
use millstream_core::{Error, ErrorKind, Result, Time};

use super::super::segment::{Frames, HEADER, Header, NoHeader, proof};
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
/// header names the one before, and where that ends.
pub(super) fn segments(disk: &dyn Disk, folder: &Path) -> Result<Found> {
    let mut numbers: Vec<u64> = disk.list(folder)?.iter().filter_map(|name| number_of(name)).collect();
    numbers.sort_unstable();
    let next_number = numbers.last().map_or(1, |last| last + 1);
    let mut segments = VecDeque::new();
    let Some((last, header)) = last(disk, folder, &numbers)? else {
        return Ok(Found { segments, next_number });
    };
    segments.push_front(last);
    let mut after = header;
    while after.previous != 0 {
        let path = path_of(folder, after.previous);
        let Ok(place) = numbers.binary_search(&after.previous) else {
            // The oldest are removed first. An object store may bring back one that was removed, with a put that comes late;
            // there a gap is seen by who counts records, or asks for one.
            if disk.objects().is_none() && numbers.first().is_some_and(|oldest| *oldest < after.previous) {
                return Err(missing(&path));
            }
            break;
        };
        let segment = before(disk, &path, &after)?;
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
