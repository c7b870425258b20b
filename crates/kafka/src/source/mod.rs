//! The direct source: a batch is a range of offsets of each partition, decided on the driver and read by the tasks.

mod batches;
mod ends;
mod given;
mod input;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use millstream_core::{Accumulator, Error, ErrorKind, Result, Time, secs};
use regex_lite::Regex;
use serde::{Deserialize, Serialize};

use self::batches::Run;
pub use self::given::Given;
use self::given::GivenTopic;
use crate::ranges::TopicPartition;
use crate::read::wire::TopicId;
use crate::read::{How, MEMORY, Met, ReadBy};
use crate::settings::Brokers;

/// Where a stream begins in partitions of which neither the checkpoint nor the group knows an offset.
///
/// # Spark
///
/// `auto.offset.reset`, and the offsets of a `ConsumerStrategy`, R-63.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the first record that is there.
    Earliest,
    /// Behind the last record that is there when the program starts.
    Latest,
    /// At these offsets; partitions that are not named at their first record.
    Offsets(BTreeMap<TopicPartition, i64>),
    /// At the first record that is not older; behind the last one if all are.
    Since(Time),
}

/// What is read of transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Isolation {
    /// Only what is committed: not what was aborted, and nothing behind a transaction that is open. The default here;
    /// Kafka's own clients read everything.
    ReadCommitted,
    /// Everything.
    ReadUncommitted,
}

impl Isolation {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Isolation::ReadCommitted => "read_committed",
            Isolation::ReadUncommitted => "read_uncommitted",
        }
    }
}

/// What is done when records are gone that no batch was given: deleted by age or by size, or with their topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OnLoss {
    /// The batch fails, with an error that names topic, partition, and the offsets that were asked for and are there.
    Stop,
    /// The program goes on with what is there: behind what is gone, and behind a batch of records that is damaged (where librdkafka
    /// reads, which does not say how far that reaches, in the next range). How many offsets
    /// that are is in the batch's input info, `lost`, and in the log. What a task finds to be gone or damaged is told with the next batch
    /// that is given something after that one has ended.
    GoOn,
}

/// Where partitions are read, where tasks run in several processes.
///
/// # Spark
///
/// `LocationStrategies`, R-62.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Locations {
    /// Each by the same process from batch to batch, as long as that has room; spread over all. When one joins or leaves, few go
    /// elsewhere. Spark's `PreferConsistent`.
    #[default]
    Consistent,
    /// By a process on the host of the broker that leads the partition, if there is one: where the two have the same host name, or the
    /// same address. Spark's `PreferBrokers`.
    Brokers,
    /// By a process on these hosts; partitions that are not named as [`Consistent`](Locations::Consistent). Spark's `PreferFixed`.
    Fixed(BTreeMap<TopicPartition, String>),
}

/// Says whether so few bytes are enough to read with. Pure.
fn check_memory(bytes: u64) -> Result<()> {
    const LEAST: u64 = 1 << 20;
    if bytes < LEAST {
        let text = format!("fetch_memory({bytes}) is too little to read with: say {LEAST} at least");
        return Err(Error::new(ErrorKind::Config, text));
    }
    Ok(())
}

/// Which partitions.
#[derive(Clone, Debug)]
enum Topics {
    Nothing,
    Named(Vec<String>),
    Like(String),
    Assigned(Vec<TopicPartition>),
}

/// Makes a source of topics: give it to [`input`](millstream_streaming::StreamingContext::input).
///
/// # Example
///
/// ```no_run
/// use millstream_core::{Result, secs};
/// use millstream_kafka as kafka;
/// use millstream_streaming::StreamingContext;
///
/// # fn main() -> Result<()> {
/// let ssc = StreamingContext::new("local[2]", "clicks", secs(2))?;
/// let clicks = ssc.input(
///     kafka::direct("broker:9092").group("click-count").subscribe(["clicks"]).start(kafka::Start::Earliest),
/// );
/// clicks.flat_map(|record| record.to_text()).map(|page| (page, 1u64)).reduce_by_key(|a, b| a + b).print();
/// # Ok(())
/// # }
/// ```
///
/// # Spark
///
/// `KafkaUtils.createDirectStream`, R-61.
pub fn direct(brokers: impl Into<Brokers>) -> Direct {
    Direct {
        brokers: brokers.into(),
        group: None,
        topics: Topics::Nothing,
        start: Start::Latest,
        isolation: Isolation::ReadCommitted,
        on_loss: OnLoss::Stop,
        most: 0,
        least: 1,
        look_every: secs(10),
        away: secs(60),
        patience: secs(60),
        read_by: ReadBy::Fastest,
        kept: None,
        memory: MEMORY,
        locations: Locations::Consistent,
        interval: secs(1),
        run: None,
        reading: Mutex::default(),
        restored: None,
    }
}

/// A source of topics, from [`direct`].
///
/// **Offsets** are the program's. With a checkpoint directory they stand in it, and are the truth; without one the
/// group's are
/// taken, if a [`group`](Direct::group) is named, and else [`start`](Direct::start) says where to begin. They are
/// committed to the group when a batch is done and that is durable: for people and their tools.
///
/// **Partitions** of an Rdd are the topic's, in their order, one for one. Records keep their order in a partition.
///
/// **Isolation** is [`ReadCommitted`](Isolation::ReadCommitted), unless told otherwise.
pub struct Direct {
    brokers: Brokers,
    group: Option<String>,
    topics: Topics,
    start: Start,
    isolation: Isolation,
    on_loss: OnLoss,
    most: u64,
    least: u64,
    look_every: Duration,
    away: Duration,
    patience: Duration,
    read_by: ReadBy,
    kept: Option<usize>,
    memory: u64,
    locations: Locations,
    interval: Duration,
    run: Option<Run>,
    /// What tasks of batches that have not ended are meeting, the oldest first.
    reading: Mutex<VecDeque<(Vec<GivenTopic>, Accumulator<Met>)>>,
    /// Where earlier runs were, if the program goes on from a checkpoint.
    restored: Option<(BTreeMap<TopicPartition, i64>, Ids, Gone)>,
}

/// What the names of topics mean, where the brokers tell.
type Ids = BTreeMap<String, TopicId>;

/// Partitions that were there, where the program was in them, and what their topics' names meant then.
type Gone = BTreeMap<TopicPartition, (i64, Option<TopicId>)>;

impl Direct {
    /// Names the group to which offsets are committed, and from which they are taken where there is no checkpoint.
    #[must_use]
    pub fn group(self, group: impl Into<String>) -> Direct {
        Direct { group: Some(group.into()), ..self }
    }

    /// Reads all partitions of these topics, also those that come later.
    ///
    /// # Spark
    ///
    /// `ConsumerStrategies.Subscribe`, R-63.
    #[must_use]
    pub fn subscribe<S: Into<String>>(self, topics: impl IntoIterator<Item = S>) -> Direct {
        Direct { topics: Topics::Named(topics.into_iter().map(Into::into).collect()), ..self }
    }

    /// Reads all topics whose whole name matches a regular expression, also those that come later.
    ///
    /// # Spark
    ///
    /// `ConsumerStrategies.SubscribePattern`, R-63.
    #[must_use]
    pub fn subscribe_pattern(self, pattern: impl Into<String>) -> Direct {
        Direct { topics: Topics::Like(pattern.into()), ..self }
    }

    /// Reads these partitions and no others.
    ///
    /// # Spark
    ///
    /// `ConsumerStrategies.Assign`, R-63.
    #[must_use]
    pub fn assign<P: Into<TopicPartition>>(self, partitions: impl IntoIterator<Item = P>) -> Direct {
        Direct { topics: Topics::Assigned(partitions.into_iter().map(Into::into).collect()), ..self }
    }

    /// Says where to begin in partitions of which neither the checkpoint nor the group knows an offset. The default is
    /// [`Latest`](Start::Latest), as Kafka's. Partitions that come while the program runs are read from their first
    /// record, whatever is said here.
    #[must_use]
    pub fn start(self, start: Start) -> Direct {
        Direct { start, ..self }
    }

    /// Chooses what is read of transactions.
    #[must_use]
    pub fn isolation(self, isolation: Isolation) -> Direct {
        Direct { isolation, ..self }
    }

    /// Chooses what is done when records are gone.
    #[must_use]
    pub fn on_loss(self, on_loss: OnLoss) -> Direct {
        Direct { on_loss, ..self }
    }

    /// Gives no more records a second of any partition. 0, the default, is no limit. Spark's
    /// `spark.streaming.kafka.maxRatePerPartition`, K-44.
    #[must_use]
    pub fn max_rate_per_partition(self, records: u64) -> Direct {
        Direct { most: records, ..self }
    }

    /// Gives each *batch* at least so many records of each partition that has them, whatever the limits are. The
    /// default is 1. Spark's `spark.streaming.kafka.minRatePerPartition`, K-45: there too it is a number a batch.
    #[must_use]
    pub fn min_per_batch_and_partition(self, records: u64) -> Direct {
        Direct { least: records, ..self }
    }

    /// Sets how often it is asked whether there are new topics and partitions. The default is 10 seconds.
    #[must_use]
    pub fn look_for_partitions_every(self, time: Duration) -> Direct {
        Direct { look_every: time, ..self }
    }

    /// Sets for how long batches are empty while no broker answers, before they fail. The default is 60 seconds.
    #[must_use]
    pub fn brokers_may_be_away(self, time: Duration) -> Direct {
        Direct { away: time, ..self }
    }

    /// Sets how long a task waits for a record that must come. The default is 60 seconds. Spark's
    /// `spark.streaming.kafka.consumer.poll.ms`, K-50.
    #[must_use]
    pub fn patience(self, time: Duration) -> Direct {
        Direct { patience: time, ..self }
    }

    /// Sets how many readers of this source a process keeps for the next batch, with what they have fetched. If nothing is said
    /// they are as many as it has partitions, and 64 at least: with fewer, each would go just before it is needed. Spark's
    /// `spark.streaming.kafka.consumer.cache.maxCapacity`, K-48.
    #[must_use]
    pub fn keep_readers(self, readers: usize) -> Direct {
        Direct { kept: Some(readers), ..self }
    }

    /// Sets how many bytes readers of this source may hold in a process, fetched and not read yet. The default is 128 MB. Half of
    /// them are for readers that wait for the next batch, and say how much is fetched at once: of few partitions a
    /// megabyte, of a thousand 64 kB. Each task that reads holds the batch of records that it reads, beside; a batch, or what is
    /// packed in one and must be in memory at once, that has more bytes than all of this is refused by an error.
    #[must_use]
    pub fn fetch_memory(self, bytes: u64) -> Direct {
        Direct { memory: bytes, ..self }
    }

    /// Chooses where partitions are read, on a cluster. The default is [`Consistent`](Locations::Consistent). A task never waits for
    /// its place: where that has no room it runs elsewhere.
    ///
    /// # Spark
    ///
    /// `LocationStrategies`, R-62.
    #[must_use]
    pub fn locations(self, locations: Locations) -> Direct {
        Direct { locations, ..self }
    }

    /// Chooses who reads. The default is [`Fastest`](ReadBy::Fastest).
    #[must_use]
    pub fn read_by(self, read_by: ReadBy) -> Direct {
        Direct { read_by, ..self }
    }

    fn how(&self) -> How {
        let Direct { isolation, patience, read_by, kept, memory, on_loss, .. } = *self;
        How { brokers: self.brokers.clone(), isolation, patience, read_by, kept, memory, on_loss }
    }

    /// Says what is wrong before anything is asked.
    fn check(&self) -> Result<Option<Regex>> {
        self.brokers.check()?;
        check_memory(self.memory)?;
        let refuse = |text: String| Err(Error::new(ErrorKind::Config, text));
        match &self.topics {
            Topics::Nothing => refuse("a source of Kafka must be told what to read: subscribe([…]), say".into()),
            Topics::Named(topics) if topics.is_empty() => refuse("subscribe was given no topic".into()),
            Topics::Assigned(partitions) if partitions.is_empty() => refuse("assign was given no partition".into()),
            Topics::Like(pattern) => match Regex::new(&format!("^(?:{pattern})$")) {
                Ok(regex) => Ok(Some(regex)),
                Err(error) => refuse(format!("`{pattern}` is no pattern of topics: {error}")),
            },
            Topics::Named(_) | Topics::Assigned(_) => Ok(None),
        }
    }
}

impl fmt::Debug for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Direct({:?}, {:?}, {:?})", self.brokers, self.topics, self.group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_refused_before_anybody_is_asked() {
        for (source, want) in [
            (direct("a:1"), "must be told what to read"),
            (direct("a:1").subscribe([""; 0]), "subscribe was given no topic"),
            (direct("a:1").assign([("", 0); 0]), "assign was given no partition"),
            (direct("a:1").subscribe_pattern("("), "`(` is no pattern of topics"),
            (direct("nowhere").subscribe(["t"]), "`nowhere` is no address"),
            (direct("a:1").subscribe(["t"]).fetch_memory(1000), "fetch_memory(1000) is too little"),
        ] {
            let error = source.check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(want), "{error}");
        }
    }
}
