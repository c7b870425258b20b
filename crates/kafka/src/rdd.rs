//! Ranges as an Rdd, for batch programs; and the ranges that an Rdd of a stream is made of.

use std::sync::Arc;

use millstream_core::{Context, Error, ErrorKind, Rdd, Result};

use crate::cluster::{Cluster, Place};
use crate::ranges::{OffsetRange, TopicPartition};
use crate::read::{How, RangeSplit, ReadBy};
use crate::record::Record;
use crate::settings::Brokers;
use crate::source::Isolation;

/// Makes an Rdd of ranges of offsets, a partition a range; what is committed of them.
///
/// # Example
///
/// ```no_run
/// use millstream_core::Context;
/// use millstream_kafka::{self as kafka, OffsetRange};
///
/// let context = Context::new("local[2]", "yesterday")?;
/// let ranges = vec![OffsetRange::new("clicks", 0, 0, 1000), OffsetRange::new("clicks", 1, 0, 900)];
/// println!("{} records", kafka::rdd(&context, "broker:9092", ranges)?.count()?);
/// # Ok::<(), millstream_core::Error>(())
/// ```
///
/// # Errors
///
/// The kind is `Config` if a range ends before it begins, or an address is none. What is not at the broker fails the
/// job.
///
/// # Spark
///
/// `KafkaUtils.createRDD`, R-61. `count` and `take` read records (R-69): only a topic without gaps has as many as
/// offsets.
#[track_caller]
pub fn rdd(
    context: &Context,
    brokers: impl Into<Brokers>,
    ranges: impl IntoIterator<Item = OffsetRange>,
) -> Result<Rdd<Record>> {
    rdd_by(context, brokers, ranges, Isolation::ReadCommitted, ReadBy::Fastest)
}

/// As [`rdd`], of what `isolation` lets through, and read by `read_by`.
///
/// # Errors
///
/// As [`rdd`].
#[track_caller]
pub fn rdd_by(
    context: &Context,
    brokers: impl Into<Brokers>,
    ranges: impl IntoIterator<Item = OffsetRange>,
    isolation: Isolation,
    read_by: ReadBy,
) -> Result<Rdd<Record>> {
    let brokers = brokers.into();
    brokers.check()?;
    let how = Arc::new(How { isolation, read_by, ..How::of(brokers) });
    let ranges: Vec<OffsetRange> = ranges.into_iter().collect();
    let among = u32::try_from(ranges.len()).unwrap_or(u32::MAX);
    let mut splits = Vec::with_capacity(ranges.len());
    for range in ranges {
        if range.from < 0 || range.until < range.from {
            return Err(Error::new(ErrorKind::Config, format!("{range} is no range of offsets")));
        }
        splits.push(RangeSplit { how: Arc::clone(&how), range, id: None, among, met: None, host: None });
    }
    Ok(context.read_splits(splits))
}

/// Returns the ranges of all that is in some topics now.
///
/// # Errors
///
/// The kind is `Config` if there is no such topic, `Unavailable` if no broker answers.
pub fn all_of<S: Into<String>>(
    brokers: impl Into<Brokers>,
    topics: impl IntoIterator<Item = S>,
) -> Result<Vec<OffsetRange>> {
    let brokers = brokers.into();
    let cluster = Cluster::open(&brokers, None, Isolation::ReadCommitted)?;
    let mut partitions = Vec::new();
    for topic in topics {
        let topic = topic.into();
        let found = cluster.partitions(&topic)?;
        if found.is_empty() {
            let text = format!("topic {topic} is not at the brokers {}", brokers.named());
            return Err(Error::new(ErrorKind::Config, text));
        }
        partitions.extend(found.into_iter().map(|partition| TopicPartition::new(topic.clone(), partition)));
    }
    let begins = cluster.offsets(&partitions, Place::Begin)?;
    let ends = cluster.offsets(&partitions, Place::End)?;
    let range =
        |((of, from), until): ((TopicPartition, i64), i64)| OffsetRange::new(of.topic, of.partition, from, until);
    Ok(partitions.into_iter().zip(begins).zip(ends).map(range).collect())
}

/// Returns the ranges of offsets that an Rdd reads, if it is the very one that a stream of [`direct`](crate::direct)
/// gives, or [`rdd`] made: the i-th is partition i. Nothing of any other: what was mapped or shuffled has other
/// partitions.
///
/// # Example
///
/// ```no_run
/// # use millstream_kafka as kafka;
/// # fn program(clicks: millstream_streaming::DStream<kafka::Record>) {
/// clicks.foreach_rdd(|rdd, time| {
///     for range in kafka::offset_ranges(&rdd).unwrap_or_default() {
///         println!("{time}: {range}");
///     }
/// });
/// # }
/// ```
///
/// # Spark
///
/// `HasOffsetRanges.offsetRanges`, R-67.
pub fn offset_ranges(rdd: &Rdd<Record>) -> Option<Vec<OffsetRange>> {
    Some(rdd.splits::<RangeSplit>()?.into_iter().map(|split| split.range).collect())
}
