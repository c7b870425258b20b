//! The direct source: a batch is a range of offsets of each partition, decided on the driver and read by the tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::clock::monotonic;
use millstream_core::{Context, Error, ErrorKind, Rdd, Result, Time, secs};
use millstream_streaming::{InputContext, InputInfo, InputSource, Rate};
use regex_lite::Regex;
use serde::{Deserialize, Serialize};

use crate::cluster::{Cluster, Place};
use crate::limits::{Limits, most_of_each, until};
use crate::mistakes::{Mistake, passed, planted};
use crate::ranges::{OffsetRange, TopicPartition, description};
use crate::read::wire::{TopicId, Wire};
use crate::read::{How, RangeSplit, ReadBy, needs_client};
use crate::record::Record;
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLoss {
    /// The batch fails, with an error that names topic, partition, and the offsets that were asked for and are there.
    Stop,
    /// The program goes on with what is there. How many offsets are gone is in the batch's input info and in the log.
    GoOn,
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
        kept: 64,
        interval: secs(1),
        run: None,
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
    kept: usize,
    interval: Duration,
    run: Option<Run>,
    /// Where earlier runs were, if the program goes on from a checkpoint.
    restored: Option<(BTreeMap<TopicPartition, i64>, Ids)>,
}

/// What the names of topics mean, where the brokers tell.
type Ids = BTreeMap<String, TopicId>;

/// What a source has while its context runs.
struct Run {
    cluster: Cluster,
    /// The partitions, in the order in which they become partitions of Rdds, and the next offset of each.
    next: BTreeMap<TopicPartition, i64>,
    ids: Ids,
    /// When partitions were last looked for, and since when no broker answers.
    looked: Duration,
    away: Option<Duration>,
    committed: BTreeMap<TopicPartition, i64>,
}

/// What a batch was given: ranges, by topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    topics: Vec<GivenTopic>,
    /// Offsets that were gone before this batch could be given them.
    lost: Vec<OffsetRange>,
    /// How many offsets there were that no batch had been given yet.
    lag: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct GivenTopic {
    name: String,
    id: Option<TopicId>,
    /// Partition, first offset, and the one behind the last.
    ranges: Vec<(i32, i64, i64)>,
}

impl Given {
    fn new(ranges: impl IntoIterator<Item = OffsetRange>, ids: &Ids) -> Given {
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
        let of = |topic: &GivenTopic| {
            let range = |(partition, from, until): &(i32, i64, i64)| {
                OffsetRange::new(topic.name.clone(), *partition, *from, *until)
            };
            topic.ranges.iter().map(range).collect::<Vec<_>>()
        };
        self.topics.iter().flat_map(of).collect()
    }
}

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

    /// Sets how many readers a process keeps for the next batch, with what they have fetched. The default is 64.
    /// Spark's
    /// `spark.streaming.kafka.consumer.cache.maxCapacity`, K-48.
    #[must_use]
    pub fn keep_readers(self, readers: usize) -> Direct {
        Direct { kept: readers, ..self }
    }

    /// Chooses who reads. The default is [`Fastest`](ReadBy::Fastest).
    #[must_use]
    pub fn read_by(self, read_by: ReadBy) -> Direct {
        Direct { read_by, ..self }
    }

    fn how(&self) -> How {
        let Direct { isolation, patience, read_by, kept, .. } = *self;
        How { brokers: self.brokers.clone(), isolation, patience, read_by, kept }
    }

    /// Says what is wrong before anything is asked.
    fn check(&self) -> Result<Option<Regex>> {
        self.brokers.check()?;
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

    /// Finds the partitions that there are now.
    fn find(&self, cluster: &Cluster) -> Result<BTreeSet<TopicPartition>> {
        let like = self.check()?;
        let of = |(topic, partitions): (String, Vec<i32>)| {
            partitions.into_iter().map(move |partition| TopicPartition::new(topic.clone(), partition))
        };
        let missing = |what: String| {
            let text = format!("{what} is not at the brokers {}: make it first, or name another", self.brokers.named());
            Err(Error::new(ErrorKind::Config, text))
        };
        match &self.topics {
            Topics::Nothing => Ok(BTreeSet::new()),
            Topics::Like(_) => {
                // Kafka's own topics begin with two underscores.
                let ours =
                    |name: &str| like.as_ref().is_some_and(|like| like.is_match(name)) && !name.starts_with("__");
                Ok(cluster.topics(None)?.into_iter().filter(|(name, _)| ours(name)).flat_map(of).collect())
            }
            Topics::Named(topics) => {
                let mut found = BTreeSet::new();
                for topic in topics {
                    let partitions = cluster.partitions(topic)?;
                    if partitions.is_empty() {
                        return missing(format!("topic {topic}"));
                    }
                    found.extend(of((topic.clone(), partitions)));
                }
                Ok(found)
            }
            Topics::Assigned(partitions) => {
                for wanted in partitions {
                    if !cluster.partitions(&wanted.topic)?.contains(&wanted.partition) {
                        return missing(format!("partition {wanted}"));
                    }
                }
                Ok(partitions.iter().cloned().collect())
            }
        }
    }

    /// Asks what the names of topics mean now, where that can be asked.
    fn ids<'a>(&self, topics: impl Iterator<Item = &'a TopicPartition>) -> Result<Ids> {
        if self.read_by == ReadBy::Client || needs_client(&self.brokers).is_some() {
            return Ok(Ids::new());
        }
        let names: BTreeSet<&str> = topics.map(|of| of.topic.as_str()).collect();
        let mut wire = Wire::open(self.brokers.named(), self.brokers.patience())?;
        let mut ids = Ids::new();
        for name in names {
            if let Some(id) = wire.topic(name)?.id {
                ids.insert(name.to_owned(), id);
            }
        }
        Ok(ids)
    }

    /// Returns where to begin in partitions: what the group has, or else what the program says.
    fn begin(&self, cluster: &Cluster, of: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, i64>> {
        let committed = match &self.group {
            Some(_) => cluster.committed(of)?,
            None => vec![None; of.len()],
        };
        let mut known: BTreeMap<TopicPartition, i64> = BTreeMap::new();
        let mut open = Vec::new();
        for (partition, committed) in of.iter().zip(committed) {
            let given = match &self.start {
                Start::Offsets(offsets) => offsets.get(partition).copied(),
                _ => None,
            };
            match committed.or(given) {
                Some(offset) => drop(known.insert(partition.clone(), offset)),
                None => open.push(partition.clone()),
            }
        }
        let place = match self.start {
            Start::Latest => Place::End,
            Start::Since(time) => Place::Since(time.as_millis()),
            Start::Earliest | Start::Offsets(_) => Place::Begin,
        };
        let offsets = cluster.offsets(&open, place)?;
        known.extend(open.into_iter().zip(offsets));
        Ok(known)
    }

    /// Says that a partition has not what it should have, or lets it go on elsewhere.
    fn lose(&self, range: OffsetRange, why: &str, lost: &mut Vec<OffsetRange>) -> Result<()> {
        match self.on_loss {
            OnLoss::Stop => {
                let text = format!(
                    "partition {}/{} at the brokers {} {why}: offset {} was to be read next, and there is {}. Nothing \
                     was \
                     skipped. on_loss(GoOn) goes on with what is there",
                    range.topic,
                    range.partition,
                    self.brokers.named(),
                    range.from,
                    range.until
                );
                Err(Error::new(ErrorKind::Data, text))
            }
            OnLoss::GoOn => {
                tracing::warn!(lost = range.count(), %range, "records of Kafka are gone: it {why}; the program goes \
                    on");
                lost.push(range);
                Ok(())
            }
        }
    }

    /// Looks for new partitions, and for what is gone.
    fn look(&self, run: &mut Run, lost: &mut Vec<OffsetRange>) -> Result<()> {
        let found = match self.find(&run.cluster) {
            // One topic of several may be gone; which, is seen below.
            Err(error) if error.kind() == ErrorKind::Config && self.on_loss == OnLoss::GoOn => {
                tracing::warn!(%error, "a topic of Kafka is gone");
                let topics = run.cluster.topics(None)?;
                let is_there =
                    |of: &&TopicPartition| topics.get(&of.topic).is_some_and(|all| all.contains(&of.partition));
                run.next.keys().filter(is_there).cloned().collect()
            }
            found => found?,
        };
        let ids = self.ids(found.iter())?;
        let is_anew = |name: &String| ids.get(name).zip(run.ids.get(name)).is_some_and(|(is, was)| is != was);
        let anew: Vec<_> =
            run.next.iter().filter(|(of, _)| is_anew(&of.topic)).map(|(of, at)| (of.clone(), *at)).collect();
        for (of, at) in anew {
            let range = OffsetRange::new(of.topic.clone(), of.partition, at, at);
            self.lose(range, "was deleted and made anew", lost)?;
            run.next.remove(&of);
        }
        run.ids = ids;
        let gone: Vec<_> =
            run.next.iter().filter(|(of, _)| !found.contains(of)).map(|(of, at)| (of.clone(), *at)).collect();
        for (of, at) in gone {
            self.lose(OffsetRange::new(of.topic.clone(), of.partition, at, at), "is not there any more", lost)?;
            run.next.remove(&of);
        }
        let new: Vec<_> = found.into_iter().filter(|of| !run.next.contains_key(of)).collect();
        // What came while the program runs is read from its begin: nothing of it was seen.
        let begins = run.cluster.offsets(&new, Place::Begin)?;
        for (of, at) in new.iter().zip(&begins) {
            tracing::info!(partition = %of, offset = at, "a partition of Kafka is new");
        }
        run.next.extend(new.into_iter().zip(begins));
        // Whoever lags far may have lost something.
        let partitions: Vec<_> = run.next.keys().cloned().collect();
        let begins = run.cluster.offsets(&partitions, Place::Begin)?;
        for (of, begin) in partitions.into_iter().zip(begins) {
            let at = run.next.get(&of).copied().unwrap_or(begin);
            if at < begin {
                self.lose(OffsetRange::new(of.topic.clone(), of.partition, at, begin), "begins later", lost)?;
                run.next.insert(of, begin);
            }
        }
        Ok(())
    }

    fn give(&self, run: &mut Run, limit: Option<Rate>) -> Result<Given> {
        let mut lost = Vec::new();
        let now = monotonic();
        if now.saturating_sub(run.looked) >= self.look_every {
            self.look(run, &mut lost)?;
            run.looked = now;
        }
        let ask = |run: &Run| {
            let partitions: Vec<_> = run.next.keys().cloned().collect();
            run.cluster.offsets(&partitions, Place::End).map(|ends| (partitions, ends))
        };
        let (partitions, ends) = match ask(run) {
            // A topic is gone that was there a moment ago.
            Err(error) if error.kind() == ErrorKind::Config && self.on_loss == OnLoss::GoOn => {
                self.look(run, &mut lost)?;
                ask(run)?
            }
            answer => answer?,
        };
        for (of, end) in partitions.iter().zip(&ends) {
            let at = run.next.get(of).copied().unwrap_or(*end);
            if *end < at {
                let range = OffsetRange::new(of.topic.clone(), of.partition, at, *end);
                self.lose(range, "ends earlier (was the topic made anew?)", &mut lost)?;
                let begin = run.cluster.offsets(std::slice::from_ref(of), Place::Begin)?;
                run.next.insert(of.clone(), begin.first().copied().unwrap_or(*end));
            }
        }
        let lags: Vec<u64> =
            run.next.values().zip(&ends).map(|(at, end)| u64::try_from(end - at).unwrap_or(0)).collect();
        let limits = Limits { rate: limit.map(|limit| limit.0), most: self.most, least: self.least };
        let most = most_of_each(&lags, limits, self.interval);
        let most = |i: usize| most.as_ref().and_then(|most| most.get(i).copied());
        let mut ranges = Vec::with_capacity(ends.len());
        for (i, ((of, at), end)) in run.next.iter_mut().zip(&ends).enumerate() {
            let until = until(*at, *end, most(i));
            ranges.push(OffsetRange::new(of.topic.clone(), of.partition, *at, until));
            *at = until;
        }
        let lag = lags.iter().sum::<u64>() - ranges.iter().map(OffsetRange::count).sum::<u64>();
        Ok(Given { lost, lag, ..Given::new(ranges, &run.ids) })
    }
}

impl InputSource for Direct {
    type Item = Record;
    type Allocation = Given;

    fn allocate(&mut self, batch: Time, limit: Option<Rate>) -> Result<Given> {
        let mut run = self.run.take().ok_or_else(|| Error::new(ErrorKind::Stopped, "the source was not started"))?;
        let before = run.next.clone();
        let given = self.give(&mut run, limit);
        let given = match given {
            Ok(given) => {
                run.away = None;
                Ok(given)
            }
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                run.next = before;
                let since = *run.away.get_or_insert_with(monotonic);
                let away = monotonic().saturating_sub(since);
                if away >= self.away {
                    Err(Error::new(ErrorKind::Unavailable, format!("{}; so it has been for {away:?}", error.message())))
                } else {
                    tracing::warn!(%batch, %error, "no broker of Kafka answers: the batch is given nothing");
                    let here =
                        |(of, at): (&TopicPartition, &i64)| OffsetRange::new(of.topic.clone(), of.partition, *at, *at);
                    Ok(Given::new(run.next.iter().map(here), &run.ids))
                }
            }
            Err(error) => {
                run.next = before;
                Err(error)
            }
        };
        if planted(Mistake::CommitsEarly)
            && let Ok(given) = &given
        {
            let offsets: Vec<_> = given.ranges().iter().map(|range| (range.topic_partition(), range.until)).collect();
            run.cluster.commit_now(&offsets)?;
        }
        self.run = Some(run);
        passed("allocated");
        given
    }

    fn rdd(&self, given: &Given, context: &Context) -> Result<Option<Rdd<Record>>> {
        let how = Arc::new(self.how());
        let id = |range: &OffsetRange| given.topics.iter().find(|topic| topic.name == range.topic)?.id;
        let split = |range| RangeSplit { how: Arc::clone(&how), id: id(&range), range };
        Ok(Some(context.read_splits(given.ranges().into_iter().map(split).collect())))
    }

    fn restore(&mut self, given: &[(Time, Given)]) -> Result<()> {
        let mut next = BTreeMap::new();
        for (_, given) in given {
            for range in given.ranges() {
                let at = next.entry(range.topic_partition()).or_insert(range.until);
                *at = range.until;
            }
        }
        let topics = given.iter().flat_map(|(_, given)| &given.topics);
        let ids = topics.filter_map(|topic| Some((topic.name.clone(), topic.id?))).collect();
        self.restored = Some((next, ids)).filter(|(next, _)| !next.is_empty());
        Ok(())
    }

    fn start(&mut self, input: &InputContext) -> Result<()> {
        self.check()?;
        self.interval = input.interval();
        let cluster = Cluster::open(&self.brokers, self.group.as_deref(), self.isolation)?;
        let found = self.find(&cluster)?;
        let mut lost = Vec::new();
        let mut ids = self.ids(found.iter())?;
        let mut next = match self.restored.take().filter(|_| !planted(Mistake::CommitsEarly)) {
            Some((known, before)) => {
                // The first batch compares.
                ids.extend(before);
                let (new, gone): (Vec<_>, Vec<_>) = (
                    found.iter().filter(|of| !known.contains_key(of)).cloned().collect(),
                    known.iter().filter(|(of, _)| !found.contains(of)).collect(),
                );
                for (of, at) in gone {
                    let range = OffsetRange::new(of.topic.clone(), of.partition, *at, *at);
                    self.lose(range, "is not there any more, or is not asked for any more", &mut lost)?;
                }
                // They came while the program was away, or it did not ask for them: nothing of them was seen.
                let begins = cluster.offsets(&new, Place::Begin)?;
                let known = known.into_iter().filter(|(of, _)| found.contains(of));
                known.chain(new.into_iter().zip(begins)).collect()
            }
            None => self.begin(&cluster, &found.into_iter().collect::<Vec<_>>())?,
        };
        next.retain(|_, at| *at >= 0);
        let run = Run {
            cluster,
            next,
            ids,
            // The first batch looks whether what was known is still there.
            looked: monotonic().saturating_sub(self.look_every),
            away: None,
            committed: BTreeMap::new(),
        };
        self.run = Some(run);
        Ok(())
    }

    fn commit(&mut self, given: &Given) -> Result<()> {
        let (Some(run), Some(_)) = (&mut self.run, &self.group) else { return Ok(()) };
        let mut offsets = Vec::new();
        for range in given.ranges() {
            let of = range.topic_partition();
            if run.committed.get(&of).is_none_or(|before| *before < range.until) {
                run.committed.insert(of.clone(), range.until);
                offsets.push((of, range.until));
            }
        }
        if !offsets.is_empty() {
            run.cluster.commit(&offsets)?;
            passed("group-committed");
        }
        Ok(())
    }

    fn stop(&mut self, _graceful: bool) {
        let Some(run) = self.run.take() else { return };
        // What was committed without waiting may be on its way yet: said again, it is there when the program has ended.
        if self.group.is_some() && !run.committed.is_empty() {
            let offsets: Vec<_> = run.committed.into_iter().collect();
            if let Err(error) = run.cluster.commit_now(&offsets) {
                tracing::warn!(%error, "the last offsets were not committed to the group; the checkpoint has them");
            }
        }
    }

    fn keeps_to_limit(&self) -> bool {
        true
    }

    fn remark(&self) -> Option<String> {
        let what = match &self.topics {
            Topics::Nothing => "nothing".to_owned(),
            Topics::Named(topics) => format!("topics {}", topics.join(", ")),
            Topics::Like(pattern) => format!("topics like {pattern}"),
            Topics::Assigned(partitions) => format!("{} partitions", partitions.len()),
        };
        Some(format!("{what} at {}, {}", self.brokers.named(), self.isolation.name()))
    }

    fn describe(&self, given: &Given) -> InputInfo {
        let ranges = given.ranges();
        let records = ranges.iter().map(OffsetRange::count).sum();
        let offsets: Vec<_> = ranges.iter().filter(|range| range.count() > 0).map(ToString::to_string).collect();
        let mut metadata = BTreeMap::from([
            ("offsets".to_owned(), offsets.join("\n")),
            ("Description".to_owned(), description(&ranges)),
            ("lag".to_owned(), given.lag.to_string()),
        ]);
        if !given.lost.is_empty() {
            let lost: Vec<_> = given.lost.iter().map(ToString::to_string).collect();
            metadata.insert("lost".to_owned(), lost.join("\n"));
        }
        InputInfo { records, metadata, ..InputInfo::default() }
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
    fn ranges_are_written_by_topic_and_come_back_in_their_order() {
        let ranges =
            vec![OffsetRange::new("a", 0, 1, 2), OffsetRange::new("a", 1, 0, 0), OffsetRange::new("b", 0, 5, 9)];
        let given = Given::new(ranges.clone(), &Ids::from([("b".to_owned(), TopicId([7; 16]))]));
        assert_eq!((given.topics[0].id, given.topics[1].id), (None, Some(TopicId([7; 16]))));
        assert_eq!((given.topics.len(), given.ranges()), (2, ranges));
    }

    #[test]
    fn what_cannot_be_read_is_refused_before_anybody_is_asked() {
        for (source, want) in [
            (direct("a:1"), "must be told what to read"),
            (direct("a:1").subscribe([""; 0]), "subscribe was given no topic"),
            (direct("a:1").assign([("", 0); 0]), "assign was given no partition"),
            (direct("a:1").subscribe_pattern("("), "`(` is no pattern of topics"),
            (direct("nowhere").subscribe(["t"]), "`nowhere` is no address"),
        ] {
            let error = source.check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(want), "{error}");
        }
    }
}
