//! The mark that a batch leaves in the same transaction as its records, and what follows from it. Pure.

use std::time::Duration;

use millstream_core::secs;

/// What a mark's metadata begins with; the run and its name follow.
const FORM: &str = "millstream 2 run ";

/// A mark that no batch has moved for so long is written again: offsets of groups expire.
const OLD: Duration = secs(6 * 3600);

/// What a group's offset says: up to which batch an output is written, and by which run it was last taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    /// The last batch that is written, in milliseconds; 0 if none is.
    pub(crate) batch: i64,
    pub(crate) by: By,
}

/// A run of a program, as its mark tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct By {
    /// Its fencing token; 0 without a checkpoint directory.
    pub(crate) run: u64,
    /// Its name, which no other run of any program has: in a copy of a checkpoint directory tokens count on alike.
    pub(crate) name: String,
}

impl Marker {
    pub(crate) fn metadata(&self) -> String {
        format!("{FORM}{} {}", self.by.run, self.by.name)
    }

    /// Reads a mark; nothing if somebody else committed there.
    pub(crate) fn read(offset: i64, metadata: &str) -> Option<Marker> {
        let (run, name) = metadata.strip_prefix(FORM)?.split_once(' ')?;
        Some(Marker { batch: offset, by: By { run: run.parse().ok()?, name: name.to_owned() } })
    }
}

/// Says whether a batch without rows writes the mark again, `since` it was last written. Who writes nothing for a week would
/// lose it else, and the next start with it.
pub(crate) fn is_old(since: Duration) -> bool {
    since >= OLD
}

/// What a start makes of the mark that it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takeover {
    /// The run takes over: batches up to this one are there.
    From(i64),
    /// A run has taken over of which this checkpoint knows nothing: of a copy of it, or of another program of this name.
    Late(u64),
    /// A mark was written behind this batch, and it is not there, or an older one is: it has expired, its topic was made anew, or the
    /// broker has not read all that it keeps.
    Gone(i64),
}

/// Decides whether a run may take an output over; it may have done so before, without having heard of it. `follows` says whether the
/// checkpoint knows a run by that name; `known` is the last batch of which it knows that the output has written it, 0 if it has
/// written a mark alone.
pub(crate) fn take_over(
    marker: Option<&Marker>,
    by: &By,
    follows: impl Fn(&str) -> bool,
    known: Option<i64>,
) -> Takeover {
    // Without a checkpoint no batch comes again: the mark is only for what is in doubt, and for whoever comes later.
    if by.run == 0 {
        return Takeover::From(0);
    }
    let is_ours = |other: &By| other == by || (other.run < by.run && follows(&other.name));
    match (marker, known) {
        // Whoever takes over, in a copy too, leaves the mark at the batch that it finds: one of before is an old one, whose run may have
        // been forgotten here.
        (Some(marker), Some(known)) if marker.batch < known && marker.by.run < by.run => Takeover::Gone(known),
        (Some(marker), _) if !is_ours(&marker.by) => Takeover::Late(marker.by.run),
        (Some(marker), Some(known)) if marker.batch < known => Takeover::Gone(known),
        (None, Some(known)) => Takeover::Gone(known),
        (marker, _) => Takeover::From(marker.map_or(0, |marker| marker.batch)),
    }
}

/// What is done with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It is not there.
    Write,
    /// It is there.
    LeaveOut,
    /// A later batch of this run is there, and nobody can tell whether this one is.
    OutOfOrder(i64),
    /// An earlier batch of this run has failed, and runs again at the next start: were this one there, the mark would cover both.
    Behind(i64),
}

/// Decides what is done with a batch: `found` is up to where batches were there when the run took over, `written` the
/// last that it wrote itself, `begun` one that it began and that did not end well.
pub(crate) fn next(batch: i64, found: i64, written: Option<i64>, begun: Option<i64>) -> Next {
    match written {
        _ if batch <= found => Next::LeaveOut,
        _ if begun.is_some_and(|begun| begun < batch) => Next::Behind(begun.unwrap_or_default()),
        Some(written) if written == batch => Next::LeaveOut,
        Some(written) if written > batch => Next::OutOfOrder(written),
        _ => Next::Write,
    }
}

/// What a transaction came to of which no answer came, or a bad one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// It is there.
    Committed,
    /// It is not, and may be written again.
    Aborted,
    /// Another run has taken over.
    Late(u64),
    /// There is no mark where one was.
    Gone,
}

/// Decides what became of the transaction of `batch`, when its producer has been fenced and its mark is read again. A
/// run that fences another one that took over behind it must not write. `written` is the last batch that the run knows to be there.
pub(crate) fn settle(marker: Option<&Marker>, by: &By, batch: i64, written: i64) -> Settled {
    match marker {
        // Were the batch there, its mark would be.
        None if by.run == 0 => Settled::Aborted,
        None => Settled::Gone,
        Some(marker) if marker.by != *by => Settled::Late(marker.by.run),
        // Without a checkpoint a later batch may have been before this one.
        Some(marker) if by.run == 0 && marker.batch != batch => Settled::Aborted,
        Some(marker) if marker.batch >= batch => Settled::Committed,
        Some(marker) if marker.batch < written => Settled::Gone,
        Some(_) => Settled::Aborted,
    }
}

/// Says whether a mark is older than what this run has written itself, when it took over or behind that: `written` is the last batch
/// of it. So a broker answers for a moment that has just started, and has not read all that it keeps. Who asks again is told better.
pub(crate) fn is_behind(marker: Option<&Marker>, by: &By, written: i64) -> bool {
    match marker {
        None => true,
        Some(marker) if marker.by == *by => by.run > 0 && marker.batch < written,
        Some(marker) => marker.by.run < by.run,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(batch: i64, run: u64) -> Option<Marker> {
        named(batch, run, "ours")
    }

    fn named(batch: i64, run: u64, name: &str) -> Option<Marker> {
        Some(Marker { batch, by: By { run, name: name.to_owned() } })
    }

    #[test]
    fn a_mark_is_read_as_it_was_written_and_no_other_offset_is_one() {
        let marker = mark(2000, 7).unwrap();
        assert_eq!(Marker::read(2000, &marker.metadata()), Some(marker));
        assert_eq!(Marker::read(2000, ""), None);
        assert_eq!(Marker::read(2000, "millstream 2 run 7"), None);
        assert_eq!(Marker::read(2000, "millstream 2 run x y"), None);
    }

    #[test]
    fn a_start_takes_over_from_what_it_finds_or_refuses() {
        for (marker, run, known, want) in [
            (None, 1, None, Takeover::From(0)),
            (mark(0, 1), 2, None, Takeover::From(0)),
            (mark(0, 1), 2, Some(0), Takeover::From(0)),
            (mark(5, 1), 2, None, Takeover::From(5)),
            (mark(5, 1), 2, Some(5), Takeover::From(5)),
            (mark(6, 1), 2, Some(5), Takeover::From(6)),
            (mark(5, 1), 2, Some(6), Takeover::Gone(6)),
            (None, 2, Some(6), Takeover::Gone(6)),
            // A mark alone was written, and may have been moved by a batch whose end is not known.
            (None, 2, Some(0), Takeover::Gone(0)),
            (mark(5, 3), 2, None, Takeover::Late(3)),
            // A copy of the directory has begun the same run.
            (named(5, 2, "of a copy"), 2, Some(5), Takeover::Late(2)),
            // It is its own: the answer was lost.
            (named(5, 2, "this"), 2, Some(5), Takeover::From(5)),
            // A run of a copy: its token is lower than that of the second start here, and it is none of ours.
            (named(5, 6, "of a copy"), 7, Some(5), Takeover::Late(6)),
            (named(5, 6, "of a copy"), 9, None, Takeover::Late(6)),
            // One that a broker has given which had read a part of what it keeps: its run is forgotten.
            (named(4, 6, "long ago"), 9, Some(5), Takeover::Gone(5)),
            (named(4, 9, "of a copy"), 9, Some(5), Takeover::Late(9)),
        ] {
            let by = By { run, name: "this".to_owned() };
            let got = take_over(marker.as_ref(), &by, |name| name == "ours", known);
            assert_eq!(got, want, "{marker:?} {run} {known:?}");
        }
        let by = By { run: 0, name: "without a checkpoint".to_owned() };
        assert_eq!(take_over(mark(5, 3).as_ref(), &by, |_| false, None), Takeover::From(0));
    }

    #[test]
    fn a_batch_is_written_once_and_none_behind_one_that_failed() {
        for (batch, found, written, begun, want) in [
            (6, 5, None, None, Next::Write),
            (5, 5, None, None, Next::LeaveOut),
            (4, 5, Some(7), None, Next::LeaveOut),
            (7, 5, Some(6), None, Next::Write),
            (7, 5, Some(7), None, Next::LeaveOut),
            (6, 5, Some(7), None, Next::OutOfOrder(7)),
            (7, 5, None, Some(6), Next::Behind(6)),
            (9, 5, Some(6), Some(7), Next::Behind(7)),
            (7, 5, Some(6), Some(7), Next::Write),
            (5, 5, None, Some(4), Next::LeaveOut),
        ] {
            assert_eq!(next(batch, found, written, begun), want, "{batch} {found} {written:?} {begun:?}");
        }
    }

    #[test]
    fn a_commit_in_doubt_is_settled_by_the_mark() {
        let by = By { run: 2, name: "ours".to_owned() };
        for (marker, want) in [
            (mark(6, 2), Settled::Committed),
            (mark(5, 2), Settled::Aborted),
            (mark(6, 3), Settled::Late(3)),
            (mark(5, 3), Settled::Late(3)),
            (named(6, 2, "of a copy"), Settled::Late(2)),
            (None, Settled::Gone),
            // It has been further.
            (mark(4, 2), Settled::Gone),
        ] {
            assert_eq!(settle(marker.as_ref(), &by, 6, 5), want, "{marker:?}");
        }
        // Without a checkpoint batches may come in any order.
        let by = By { run: 0, name: "ours".to_owned() };
        let settled = [5, 6, 7].map(|batch| settle(mark(batch, 0).as_ref(), &by, 6, 7));
        assert_eq!(settled, [Settled::Aborted, Settled::Committed, Settled::Aborted]);
        assert_eq!(settle(None, &by, 6, 5), Settled::Aborted);
        assert_eq!(settle(named(6, 0, "of another program").as_ref(), &by, 6, 5), Settled::Late(0));
    }

    #[test]
    fn a_mark_that_is_older_than_what_the_run_wrote_itself_is_asked_for_again() {
        let by = By { run: 2, name: "ours".to_owned() };
        for (marker, want) in [
            (None, true),
            (named(5, 1, "the run before"), true),
            (mark(4, 2), true),
            (mark(5, 2), false),
            (mark(6, 2), false),
            (named(5, 3, "a later run"), false),
            (named(5, 2, "of a copy"), false),
        ] {
            assert_eq!(is_behind(marker.as_ref(), &by, 5), want, "{marker:?}");
        }
        let by = By { run: 0, name: "ours".to_owned() };
        assert!(is_behind(None, &by, 5), "it took over with a mark");
        assert!(!is_behind(mark(4, 0).as_ref(), &by, 5), "batches may come in any order");
        assert!(!is_behind(named(4, 0, "of another program").as_ref(), &by, 5));
    }

    #[test]
    fn a_mark_is_written_again_long_before_it_expires() {
        assert!(!is_old(secs(6 * 3600 - 1)) && is_old(secs(6 * 3600)));
    }
}
