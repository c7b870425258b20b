//! Topics and groups, for people and for tests: made, listed, described, deleted.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Wake, Waker};
use std::thread::Thread;

use millstream_core::{Error, ErrorKind, Result};
use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::{Offset, consumer::BaseConsumer, consumer::Consumer};

use crate::cluster::{Cluster, Place};
use crate::ranges::TopicPartition;
use crate::settings::{Brokers, Heard, Told};
use crate::source::Isolation;

/// Asks a cluster to make and delete topics, and tells what there is.
///
/// # Example
///
/// ```no_run
/// use millstream_kafka::Admin;
///
/// let admin = Admin::of("broker:9092")?;
/// admin.create_topic("clicks", 3, &[("retention.ms", "86400000")])?;
/// for (topic, partitions) in admin.topics()? {
///     println!("{topic}: {partitions} partitions");
/// }
/// # Ok::<(), millstream_core::Error>(())
/// ```
///
/// # Errors
///
/// Of all methods: the kind is `Unavailable` if no broker answers in time, `Config` if it refuses.
pub struct Admin {
    brokers: Brokers,
    client: AdminClient<Told>,
    heard: Heard,
}

/// How far a group is in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lag {
    /// The partition.
    pub partition: TopicPartition,
    /// What the group has committed, if it has.
    pub committed: Option<i64>,
    /// Where the partition begins, and where it ends for who reads what is committed.
    pub there: (i64, i64),
}

impl Lag {
    /// Returns how many offsets are behind what the group has committed.
    pub fn offsets(&self) -> u64 {
        let at = self.committed.unwrap_or(self.there.0).max(self.there.0);
        u64::try_from(self.there.1 - at).unwrap_or(0)
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for an answer, which a thread of the client brings.
fn wait<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = std::task::Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => std::thread::park(),
        }
    }
}

impl Admin {
    /// Makes a client; nobody is asked yet.
    pub fn of(brokers: impl Into<Brokers>) -> Result<Admin> {
        let brokers = brokers.into();
        let (client, heard) = brokers.client(&[])?;
        Ok(Admin { brokers, client, heard })
    }

    fn options(&self) -> AdminOptions {
        let patience = self.brokers.patience();
        AdminOptions::new().request_timeout(Some(patience)).operation_timeout(Some(patience))
    }

    fn failed(&self, doing: impl fmt::Display, error: &KafkaError) -> Error {
        self.brokers.failed(doing, error, &self.heard)
    }

    /// Takes what was answered of each thing.
    fn each<T>(
        &self,
        doing: impl fmt::Display,
        answer: Result<Vec<Result<T, (String, Code)>>, KafkaError>,
    ) -> Result<()> {
        for one in answer.map_err(|error| self.failed(&doing, &error))? {
            if let Err((what, code)) = one {
                let text = format!("{doing}: the brokers at {} refuse {what}: {code}", self.brokers.named());
                return Err(Error::new(ErrorKind::Config, text));
            }
        }
        Ok(())
    }

    /// Makes a topic, and waits until its partitions have leaders.
    pub fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<()> {
        // As many copies as the cluster makes by itself.
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(-1));
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        let doing = format!("making topic {name}");
        self.each(&doing, wait(self.client.create_topics([&topic], &self.options())))?;
        self.await_leaders(name, partitions)
    }

    fn await_leaders(&self, name: &str, partitions: i32) -> Result<()> {
        let deadline = millstream_core::clock::monotonic() + self.brokers.patience();
        loop {
            let metadata = self.client.inner().fetch_metadata(Some(name), self.brokers.patience());
            let metadata = metadata.map_err(|error| self.failed(format_args!("asking for topic {name}"), &error))?;
            let led = metadata.topics().iter().filter(|topic| topic.name() == name);
            let led: usize = led.map(|topic| topic.partitions().iter().filter(|p| p.leader() >= 0).count()).sum();
            if led >= usize::try_from(partitions).unwrap_or(0) {
                return Ok(());
            }
            if millstream_core::clock::monotonic() > deadline {
                let text = format!("{led} of {partitions} partitions of topic {name} have a leader, after a long wait");
                return Err(Error::new(ErrorKind::Unavailable, text));
            }
            std::thread::park_timeout(millstream_core::millis(5));
        }
    }

    /// Gives a topic more partitions, and waits until they have leaders.
    pub fn grow_topic(&self, name: &str, partitions: i32) -> Result<()> {
        let count = usize::try_from(partitions).unwrap_or(0);
        let new = NewPartitions::new(name, count);
        self.each(format!("growing topic {name}"), wait(self.client.create_partitions([&new], &self.options())))?;
        self.await_leaders(name, partitions)
    }

    /// Deletes a topic.
    pub fn delete_topic(&self, name: &str) -> Result<()> {
        self.each(format!("deleting topic {name}"), wait(self.client.delete_topics(&[name], &self.options())))
    }

    /// Deletes the records of a partition before an offset.
    pub fn delete_records(&self, partition: &TopicPartition, before: i64) -> Result<()> {
        let doing = format!("deleting records of {partition} before {before}");
        let mut list = TopicPartitionList::new();
        let listed = list.add_partition_offset(&partition.topic, partition.partition, Offset::Offset(before));
        listed.map_err(|error| self.failed(&doing, &error))?;
        let answer = wait(self.client.delete_records(&list, &self.options()));
        let answer = answer.map_err(|error| self.failed(&doing, &error))?;
        for element in answer.elements() {
            element.error().map_err(|error| self.failed(&doing, &error))?;
        }
        Ok(())
    }

    /// Deletes what a group has committed.
    pub fn delete_group(&self, group: &str) -> Result<()> {
        self.each(format!("deleting group {group}"), wait(self.client.delete_groups(&[group], &self.options())))
    }

    /// Returns the topics, but for Kafka's own, and how many partitions each has.
    pub fn topics(&self) -> Result<BTreeMap<String, usize>> {
        let cluster = Cluster::open(&self.brokers, None, Isolation::ReadCommitted)?;
        let topics = cluster.topics(None)?.into_iter().filter(|(name, _)| !name.starts_with("__"));
        Ok(topics.map(|(name, partitions)| (name, partitions.len())).collect())
    }

    /// Returns the groups that there are.
    pub fn groups(&self) -> Result<Vec<String>> {
        let (client, heard) = self.brokers.client::<BaseConsumer<Told>>(&[])?;
        let list = client.client().fetch_group_list(None, self.brokers.patience());
        let list = list.map_err(|error| self.brokers.failed("asking for groups", &error, &heard))?;
        Ok(list.groups().iter().map(|group| group.name().to_owned()).collect())
    }

    /// Returns where a topic's partitions begin and end, and how far a group is in each, if one is named.
    pub fn lag(&self, topic: &str, group: Option<&str>) -> Result<Vec<Lag>> {
        let cluster = Cluster::open(&self.brokers, group, Isolation::ReadCommitted)?;
        let partitions = cluster.partitions(topic)?;
        if partitions.is_empty() {
            let text = format!("topic {topic} is not at the brokers {}", self.brokers.named());
            return Err(Error::new(ErrorKind::Config, text));
        }
        let partitions: Vec<_> = partitions.into_iter().map(|p| TopicPartition::new(topic, p)).collect();
        let begins = cluster.offsets(&partitions, Place::Begin)?;
        let ends = cluster.offsets(&partitions, Place::End)?;
        let committed = if group.is_some() { cluster.committed(&partitions)? } else { vec![None; partitions.len()] };
        let lag = |(partition, (there, committed))| Lag { partition, committed, there };
        Ok(partitions.into_iter().zip(begins.into_iter().zip(ends).zip(committed)).map(lag).collect())
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Admin({:?})", self.brokers)
    }
}
