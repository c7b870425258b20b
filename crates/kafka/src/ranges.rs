//! Names of partitions, and stretches of their offsets.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TopicPartition {
    /// The topic.
    pub topic: String,
    /// The partition, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// Names a partition.
    pub fn new(topic: impl Into<String>, partition: i32) -> TopicPartition {
        TopicPartition { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

impl<S: Into<String>> From<(S, i32)> for TopicPartition {
    fn from((topic, partition): (S, i32)) -> TopicPartition {
        TopicPartition::new(topic, partition)
    }
}

/// The offsets of a partition from one, included, until another, excluded.
///
/// # Spark
///
/// `OffsetRange`, R-67.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OffsetRange {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The first offset.
    pub from: i64,
    /// The offset behind the last one.
    pub until: i64,
}

impl OffsetRange {
    /// Names a range.
    pub fn new(topic: impl Into<String>, partition: i32, from: i64, until: i64) -> OffsetRange {
        OffsetRange { topic: topic.into(), partition, from, until }
    }

    /// Returns how many offsets there are: no fewer than there are records. Of a compacted topic, and of one that is
    /// written in transactions, some have none.
    pub fn count(&self) -> u64 {
        u64::try_from(self.until.saturating_sub(self.from)).unwrap_or(0)
    }

    /// Returns the partition.
    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition::new(self.topic.clone(), self.partition)
    }
}

impl fmt::Display for OffsetRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} from {} until {}", self.topic, self.partition, self.from, self.until)
    }
}

/// Says what a batch's ranges are, for people: a line for each that is not empty, the longest first. Pure.
pub(crate) fn description(ranges: &[OffsetRange]) -> String {
    let mut ranges: Vec<_> = ranges.iter().filter(|range| range.count() > 0).collect();
    ranges.sort_by_key(|range| std::cmp::Reverse(range.count()));
    let line = |range: &&OffsetRange| {
        let OffsetRange { topic, partition, from, until } = range;
        format!("topic: {topic}\tpartition: {partition}\toffsets: {from} to {until}\tcount: {}", range.count())
    };
    ranges.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r72_a_line_for_each_range_that_is_not_empty_the_longest_first() {
        let ranges = [OffsetRange::new("a", 0, 5, 6), OffsetRange::new("a", 1, 3, 3), OffsetRange::new("b", 0, 0, 9)];
        let want =
            "topic: b\tpartition: 0\toffsets: 0 to 9\tcount: 9\ntopic: a\tpartition: 0\toffsets: 5 to 6\tcount: 1";
        assert_eq!(description(&ranges), want);
    }

    #[test]
    fn r67_a_range_counts_from_its_first_until_its_last() {
        assert_eq!(OffsetRange::new("a", 0, 5, 9).count(), 4);
        assert_eq!(OffsetRange::new("a", 0, 9, 5).count(), 0);
    }
}
