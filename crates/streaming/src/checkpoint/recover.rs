//! From facts to what to do: what must be kept so that every batch that may still run can be computed, and what a start has
//! to restore. Pure, and the same function for both: what recovery reads is what was not let go.

use std::time::Duration;

use millstream_core::{Time, millis};

/// What decides what is needed of a stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct StreamFacts {
    pub(crate) slide: Duration,
    /// The length of its window.
    pub(crate) reach: Duration,
    pub(crate) parents: Vec<usize>,
    /// Whether it is made from its own past.
    pub(crate) is_state: bool,
    /// The batches behind which its state is in the store, oldest first.
    pub(crate) saves: Vec<Time>,
    /// Up to when there was no such state, if a later build brought it.
    pub(crate) since: Option<Time>,
}

impl StreamFacts {
    /// As if nothing had been saved behind `batch` or later: for a batch that is to be made again, and not read.
    pub(crate) fn saved_before(&self, batch: Time) -> StreamFacts {
        StreamFacts { saves: self.saves.iter().copied().filter(|save| *save < batch).collect(), ..self.clone() }
    }
}

/// What is needed of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    /// Its Rdds of later batches than this are needed.
    pub(crate) after: Time,
    /// It is a state, which is to be read as it was saved behind this batch, and made from there.
    pub(crate) save: Option<Time>,
}

impl Need {
    /// Says whether the stream is to have an Rdd at `time`.
    pub(crate) fn holds(&self, time: Time) -> bool {
        time > self.after && self.save.is_none_or(|save| time >= save)
    }
}

/// Returns what is needed of each stream, or nothing where no output needs it, so that all batches from `next` on can run.
///
/// Walks from the outputs to the inputs: a window needs its parent as far back as it reaches; a state is made from the last save
/// that is not too late, and needs its parents from there on.
///
/// `from` is the time behind which batches are remembered. A build that looks further back than the one before did may find no
/// save that is early enough, and no batches to make one of: then there is nothing of the state before its first save, nor of
/// what is made of it.
pub(crate) fn needs(streams: &[StreamFacts], outputs: &[usize], from: Time, span: Span) -> Vec<Option<Need>> {
    let Span { zero, next } = span;
    let mut needs: Vec<Option<Need>> = vec![None; streams.len()];
    let ask = |needs: &mut Vec<Option<Need>>, stream: usize, after: Time| {
        if let Some(need) = needs.get_mut(stream) {
            let before = need.map_or(after, |need| need.after);
            *need = Some(Need { after: before.min(after).max(zero), save: None });
        }
    };
    for output in outputs {
        ask(&mut needs, *output, next - millis(1));
    }
    for i in (0..streams.len()).rev() {
        let Some(need) = needs[i] else { continue };
        let stream = &streams[i];
        let first = need.after.floor_from(stream.slide, zero) + stream.slide;
        let mut parents_after = if stream.reach.is_zero() { first - millis(1) } else { first - stream.reach };
        if stream.is_state {
            let begin = stream.since.unwrap_or(zero);
            let early = stream.saves.iter().rev().find(|save| **save <= first);
            let save = early.or_else(|| stream.saves.first().filter(|_| from > begin)).copied();
            // Made from the save itself if that is the first; else from the one behind it.
            parents_after = save.unwrap_or(begin) - stream.reach;
            let after = save.map_or(begin, |save| save - millis(1)).min(need.after.max(begin));
            needs[i] = Some(Need { after, save });
        }
        for parent in &stream.parents {
            ask(&mut needs, *parent, parents_after);
        }
    }
    // Of what is not there, nothing is made.
    let mut there: Vec<Time> = Vec::with_capacity(streams.len());
    for (stream, need) in streams.iter().zip(&mut needs) {
        let of_parents = stream.parents.iter().filter_map(|parent| there.get(*parent)).max().copied().unwrap_or(zero);
        there.push(match need {
            Some(Need { save: Some(save), .. }) => *save - millis(1),
            _ if stream.is_state => stream.since.unwrap_or(zero),
            // A window is made of what there is.
            _ if !stream.reach.is_zero() => zero,
            _ => of_parents,
        });
        if let (Some(need), Some(there), false) = (need, there.last(), stream.is_state) {
            need.after = need.after.max(*there);
        }
    }
    needs
}

/// From where slides are counted, and the first batch that may still run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) zero: Time,
    pub(crate) next: Time,
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_core::secs;

    fn t(s: i64) -> Time {
        Time::from_millis(s * 1000)
    }

    fn stream(parents: &[usize]) -> StreamFacts {
        StreamFacts { slide: secs(1), parents: parents.to_vec(), ..StreamFacts::default() }
    }

    fn state(parents: &[usize], saves: &[i64]) -> StreamFacts {
        StreamFacts { is_state: true, saves: saves.iter().copied().map(t).collect(), ..stream(parents) }
    }

    /// The first batch that is needed of each stream, in seconds, and the save it is read from.
    fn firsts(streams: &[StreamFacts], outputs: &[usize], next: i64) -> Vec<Option<(i64, Option<i64>)>> {
        firsts_from(0, streams, outputs, next)
    }

    fn firsts_from(
        from: i64,
        streams: &[StreamFacts],
        outputs: &[usize],
        next: i64,
    ) -> Vec<Option<(i64, Option<i64>)>> {
        let seconds = |time: Time| time.as_millis() / 1000;
        let first = |(need, stream): (Option<Need>, &StreamFacts)| {
            need.map(|need| (seconds(need.after.floor_from(stream.slide, t(0))) + 1, need.save.map(seconds)))
        };
        needs(streams, outputs, t(from), Span { zero: t(0), next: t(next) })
            .into_iter()
            .zip(streams)
            .map(first)
            .collect()
    }

    #[test]
    fn a_stream_without_a_past_needs_only_what_will_run() {
        assert_eq!(firsts(&[stream(&[]), stream(&[0])], &[1], 7), [Some((7, None)), Some((7, None))]);
    }

    #[test]
    fn what_no_output_needs_is_not_needed() {
        assert_eq!(firsts(&[stream(&[]), stream(&[])], &[1], 7), [None, Some((7, None))]);
    }

    #[test]
    fn a_window_needs_its_parent_as_far_as_it_reaches_but_never_from_before_the_beginning() {
        let window = StreamFacts { reach: secs(3), ..stream(&[0]) };
        assert_eq!(firsts(&[stream(&[]), window.clone()], &[1], 7), [Some((5, None)), Some((7, None))]);
        assert_eq!(firsts(&[stream(&[]), window], &[1], 2), [Some((1, None)), Some((2, None))]);
    }

    #[test]
    fn a_state_is_made_from_its_last_save_and_from_the_beginning_if_there_is_none() {
        assert_eq!(firsts(&[stream(&[]), state(&[0], &[2, 4])], &[1], 7), [Some((5, None)), Some((4, Some(4)))]);
        assert_eq!(firsts(&[stream(&[]), state(&[0], &[])], &[1], 7), [Some((1, None)), Some((1, None))]);
        // The state behind the batch before is all that is needed.
        assert_eq!(firsts(&[stream(&[]), state(&[0], &[6])], &[1], 7), [Some((7, None)), Some((6, Some(6)))]);
    }

    #[test]
    fn a_state_that_a_later_build_brought_is_made_from_where_it_came_in() {
        let brought = StreamFacts { since: Some(t(4)), ..state(&[0], &[]) };
        assert_eq!(firsts(&[stream(&[]), brought.clone()], &[1], 7), [Some((5, None)), Some((5, None))]);
        let saved = StreamFacts { saves: vec![t(6)], ..brought };
        assert_eq!(firsts(&[stream(&[]), saved], &[1], 7), [Some((7, None)), Some((6, Some(6)))]);
    }

    #[test]
    fn a_batch_that_is_pending_is_made_from_a_save_before_it() {
        // Saved behind 4 and 8; the batch 6 is to run again: 8 is too late.
        assert_eq!(firsts(&[stream(&[]), state(&[0], &[4, 8])], &[1], 6), [Some((5, None)), Some((4, Some(4)))]);
        // The state behind the pending batch itself is there: nothing needs to be made.
        assert_eq!(firsts(&[stream(&[]), state(&[0], &[4, 6])], &[1], 6), [Some((7, None)), Some((6, Some(6)))]);
    }

    #[test]
    fn a_window_of_a_state_reaches_behind_the_save_and_an_incremental_window_behind_it_too() {
        let window = StreamFacts { reach: secs(3), ..stream(&[1]) };
        let all = [stream(&[]), state(&[0], &[2, 4, 6]), window];
        assert_eq!(firsts(&all, &[2], 7), [Some((5, None)), Some((4, Some(4))), Some((7, None))]);
        let incremental = StreamFacts { reach: secs(3), ..state(&[0], &[4]) };
        assert_eq!(firsts(&[stream(&[]), incremental], &[1], 7), [Some((2, None)), Some((4, Some(4)))]);
    }

    #[test]
    fn a_window_that_a_later_build_laid_over_a_state_begins_with_the_saves_there_are() {
        let window = StreamFacts { reach: secs(4), ..stream(&[2]) };
        let all = [stream(&[]), state(&[0], &[9]), stream(&[1]), window];
        let whole = [Some((1, None)), Some((1, None)), Some((7, None)), Some((10, None))];
        assert_eq!(firsts(&all, &[3], 10), whole, "all batches are remembered");
        let need = needs(&all, &[3], t(7), Span { zero: t(0), next: t(10) });
        let holds = |i: usize, s| need[i].is_some_and(|need: Need| need.holds(t(s)));
        assert_eq!((need[1].and_then(|need| need.save), holds(1, 8), holds(1, 9)), (Some(t(9)), false, true));
        assert_eq!((holds(2, 8), holds(2, 9)), (false, true), "nor is anything made of what is not there");
        assert!(holds(3, 10) && !holds(0, 9) && holds(0, 10));
        // The build that always had the window keeps the save that it needs.
        let all = [stream(&[]), state(&[0], &[6, 9]), stream(&[1]), StreamFacts { reach: secs(4), ..stream(&[2]) }];
        assert_eq!(firsts_from(5, &all, &[3], 10)[1], Some((6, Some(6))));
    }

    #[test]
    fn the_longest_need_of_several_children_counts() {
        let window = |reach| StreamFacts { reach: secs(reach), ..stream(&[0]) };
        let all = [stream(&[]), window(2), window(5), state(&[0], &[5])];
        assert_eq!(firsts(&all, &[1, 2, 3], 7)[0], Some((3, None)));
    }
}
