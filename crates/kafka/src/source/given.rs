//! What a batch is given, as it stands in the checkpoint: ranges, by topic, with what the topics' names meant.

use serde::{Deserialize, Serialize};

use super::Ids;
use crate::ranges::OffsetRange;
use crate::read::Met;
use crate::read::wire::TopicId;

/// What a batch was given: ranges, by topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    pub(super) topics: Vec<GivenTopic>,
    /// Offsets that were gone before this batch could be given them.
    pub(super) lost: Vec<OffsetRange>,
    /// How many offsets there were that no batch had been given yet.
    pub(super) lag: u64,
    /// Partitions that are not there, and where the program was in them: as ranges without an offset.
    pub(super) away: Vec<GivenTopic>,
    /// The same for each partition, in their order; and what was met in reading since the batch before. For who listens while it
    /// runs, and not in the checkpoint.
    #[serde(skip)]
    pub(super) lags: Vec<u64>,
    #[serde(skip)]
    pub(super) met: Met,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GivenTopic {
    pub(super) name: String,
    pub(super) id: Option<TopicId>,
    /// Partition, first offset, and the one behind the last.
    ranges: Vec<(i32, i64, i64)>,
}

impl GivenTopic {
    pub(super) fn ranges(&self) -> impl Iterator<Item = OffsetRange> {
        self.ranges
            .iter()
            .map(|(partition, from, until)| OffsetRange::new(self.name.clone(), *partition, *from, *until))
    }
}

impl Given {
    pub(super) fn new(ranges: impl IntoIterator<Item = OffsetRange>, ids: &Ids) -> Given {
        let mut topics: Vec<GivenTopic> = Vec::new();
        for OffsetRange { topic, partition, from, until } in ranges {
            match topics.last_mut().filter(|last| last.name == topic) {
                Some(last) => last.ranges.push((partition, from, until)),
                None => {
                    let id = ids.get(&topic).copied();
                    topics.push(GivenTopic { name: topic, id, ranges: vec![(partition, from, until)] });
                }
            }
        }
        Given { topics, ..Given::default() }
    }

    /// Returns the ranges, in the order of the partitions of the batch's Rdd.
    pub fn ranges(&self) -> Vec<OffsetRange> {
        self.topics.iter().flat_map(GivenTopic::ranges).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_written_by_topic_and_come_back_in_their_order() {
        let ranges =
            vec![OffsetRange::new("a", 0, 1, 2), OffsetRange::new("a", 1, 0, 0), OffsetRange::new("b", 0, 5, 9)];
        let given = Given::new(ranges.clone(), &Ids::from([("b".to_owned(), TopicId([7; 16]))]));
        assert_eq!((given.topics[0].id, given.topics[1].id), (None, Some(TopicId([7; 16]))));
        assert_eq!((given.topics.len(), given.ranges()), (2, ranges));
    }
}
