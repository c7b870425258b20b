//! The mark that a batch leaves in the same transaction as its records, and what follows from it. Pure.

/// What a mark's metadata begins with; the run follows.
const FORM: &str = "millstream 1 run ";

/// What a group's offset says: up to which batch an output is written, and by which run it was last taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    /// The last batch that is written, in milliseconds; 0 if none is.
    pub(crate) batch: i64,
    /// Who wrote it, or took over.
    pub(crate) writer: Writer,
}

/// Who writes: a run of a program, and which of those that believe to be that run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Writer {
    /// The fencing token of the run.
    pub(crate) run: u64,
    /// A number that no other taker has: copies of one checkpoint directory begin the same run.
    pub(crate) taker: u64,
}

impl Writer {
    /// Says whether another one writes that this one must give way to: of a later run, or of the same.
    fn gives_way_to(self, other: Writer) -> bool {
        other.run > self.run || other.run == self.run && other.taker != self.taker
    }
}

impl Marker {
    pub(crate) fn metadata(self) -> String {
        format!("{FORM}{} taker {}", self.writer.run, self.writer.taker)
    }

    /// Reads a mark; nothing if somebody else committed there.
    pub(crate) fn read(offset: i64, metadata: &str) -> Option<Marker> {
        let (run, taker) = metadata.strip_prefix(FORM)?.split_once(" taker ")?;
        Some(Marker { batch: offset, writer: Writer { run: run.parse().ok()?, taker: taker.parse().ok()? } })
    }
}

/// What a start makes of the mark that it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takeover {
    /// The run takes over: batches up to this one are there.
    From(i64),
    /// A later run has taken over, or another program has this name.
    Late(u64),
    /// A batch is known to be written, and there is no mark of it: it has expired, or its topic was made anew.
    Gone(i64),
}

/// Decides whether a writer may take an output over; it may have done so before, without having heard of it. `known` is
/// the last batch of which the checkpoint knows that it was written.
pub(crate) fn take_over(marker: Option<Marker>, writer: Writer, known: Option<i64>) -> Takeover {
    match (marker, known) {
        (Some(marker), _) if writer.gives_way_to(marker.writer) => Takeover::Late(marker.writer.run),
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
}

/// Decides what is done with a batch: `found` is up to where batches were there when the run took over, `written` the
/// last that it wrote itself.
pub(crate) fn next(batch: i64, found: i64, written: Option<i64>) -> Next {
    match written {
        _ if batch <= found => Next::LeaveOut,
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
    /// A later run has taken over.
    Late(u64),
    /// There is no mark where one was.
    Gone,
}

/// Decides what became of the transaction of `batch`, when its producer has been fenced and its mark is read again. A
/// run that fences another one that is later must not write.
pub(crate) fn settle(marker: Option<Marker>, writer: Writer, batch: i64) -> Settled {
    match marker {
        None => Settled::Gone,
        Some(marker) if writer.gives_way_to(marker.writer) => Settled::Late(marker.writer.run),
        Some(marker) if marker.batch >= batch => Settled::Committed,
        Some(_) => Settled::Aborted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A mark of this taker, in a run.
    fn mark(batch: i64, run: u64) -> Option<Marker> {
        Some(Marker { batch, writer: Writer { run, taker: 1 } })
    }

    /// A mark of another one.
    fn other(batch: i64, run: u64) -> Option<Marker> {
        Some(Marker { batch, writer: Writer { run, taker: 2 } })
    }

    #[test]
    fn a_mark_is_read_as_it_was_written_and_no_other_offset_is_one() {
        let marker = Marker { batch: 2000, writer: Writer { run: 7, taker: u64::MAX } };
        assert_eq!(Marker::read(2000, &marker.metadata()), Some(marker));
        assert_eq!(Marker::read(2000, ""), None);
        assert_eq!(Marker::read(2000, "millstream 1 run 7 taker x"), None);
    }

    #[test]
    fn a_start_takes_over_from_what_it_finds_or_refuses() {
        for (marker, run, known, want) in [
            (None, 1, None, Takeover::From(0)),
            (other(0, 1), 2, None, Takeover::From(0)),
            (other(5, 1), 2, None, Takeover::From(5)),
            (other(5, 1), 2, Some(5), Takeover::From(5)),
            (other(6, 1), 2, Some(5), Takeover::From(6)),
            (other(5, 1), 2, Some(6), Takeover::Gone(6)),
            (None, 2, Some(6), Takeover::Gone(6)),
            (other(5, 3), 2, None, Takeover::Late(3)),
            // A copy of the directory has begun the same run.
            (other(5, 2), 2, Some(5), Takeover::Late(2)),
            // It is its own: the answer was lost.
            (mark(5, 2), 2, Some(5), Takeover::From(5)),
        ] {
            assert_eq!(take_over(marker, Writer { run, taker: 1 }, known), want, "{marker:?} {run} {known:?}");
        }
    }

    #[test]
    fn a_batch_is_written_once() {
        for (batch, found, written, want) in [
            (6, 5, None, Next::Write),
            (5, 5, None, Next::LeaveOut),
            (4, 5, Some(7), Next::LeaveOut),
            (7, 5, Some(6), Next::Write),
            (7, 5, Some(7), Next::LeaveOut),
            (6, 5, Some(7), Next::OutOfOrder(7)),
        ] {
            assert_eq!(next(batch, found, written), want, "{batch} {found} {written:?}");
        }
    }

    #[test]
    fn a_commit_in_doubt_is_settled_by_the_mark() {
        for (marker, want) in [
            (mark(6, 2), Settled::Committed),
            (mark(5, 2), Settled::Aborted),
            (other(6, 3), Settled::Late(3)),
            (other(5, 3), Settled::Late(3)),
            (other(6, 2), Settled::Late(2)),
            (None, Settled::Gone),
        ] {
            assert_eq!(settle(marker, Writer { run: 2, taker: 1 }, 6), want, "{marker:?}");
        }
    }
}
