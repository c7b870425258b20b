//! What the driver asks the brokers: which partitions there are, where they begin and end, and what a group has
//! committed.
//!
//! The client that asks never fetches: answers come in order on a connection, and a fetch that waits would hold them
//! up.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_core::clock::monotonic;
use millstream_core::threads::lock;
use millstream_core::{Error, ErrorKind, Result, millis, secs, threads};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::{Offset, TopicPartitionList};

use crate::ranges::TopicPartition;
use crate::settings::{Brokers, Heard, Told};
use crate::source::Isolation;

/// How long it is looked whether brokers that were away are back.
const SHORTLY: Duration = millis(500);

/// A topic that is not there: who is asked about one topic need not tell of all.
const NOBODYS: &str = "millstream-asks";

/// Where in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The first offset that is there.
    Begin,
    /// Behind the last one that may be read.
    End,
    /// The first whose time is not before this one, in milliseconds; the end if there is none.
    Since(i64),
}

/// Asks the brokers.
pub(crate) struct Cluster {
    brokers: Brokers,
    client: Arc<BaseConsumer<Told>>,
    heard: Heard,
    group: String,
    /// When the questions that belong together must have been answered, if there are such.
    by: Mutex<Option<Duration>>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cluster({:?})", self.brokers)
    }
}

impl Cluster {
    pub(crate) fn open(brokers: &Brokers, group: Option<&str>, isolation: Isolation) -> Result<Cluster> {
        // One that nobody commits to, where the program has none.
        let group = group.unwrap_or("millstream-asks").to_owned();
        let (client, heard) = brokers.client(&[
            ("group.id", &*group),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("isolation.level", isolation.name()),
            ("reconnect.backoff.max.ms", "1000"),
        ])?;
        let client = Arc::new(client);
        Ok(Cluster { brokers: brokers.clone(), client, heard, group, by: Mutex::new(None) })
    }

    fn failed(&self, doing: impl fmt::Display, error: &KafkaError) -> Error {
        self.serve();
        self.brokers.failed(doing, error, &self.heard)
    }

    /// Has all questions from here on answered within the time of one, for whoever waits for all of them; or each by itself again.
    pub(crate) fn ask_together(&self, together: bool) {
        *lock(&self.by) = together.then(|| monotonic() + self.brokers.patience());
    }

    /// How long a question may take.
    fn patience(&self) -> Duration {
        let by = *lock(&self.by);
        let left = by.map(|by| by.saturating_sub(monotonic()).max(SHORTLY));
        left.unwrap_or_else(|| self.brokers.patience()).min(self.brokers.patience())
    }

    /// Finds out whether anybody answers who did not before: within half a second, for a batch that waits.
    pub(crate) fn is_back(&self) -> Result<()> {
        let answer = self.client.fetch_metadata(Some(NOBODYS), SHORTLY.min(self.brokers.patience()));
        answer.map(drop).map_err(|error| self.failed("asking whether they are back", &error))
    }

    /// Returns the partitions of a topic, in order; none if it is not there.
    pub(crate) fn partitions(&self, topic: &str) -> Result<Vec<i32>> {
        let found = self.topics(Some(topic))?;
        Ok(found.into_iter().find(|(name, _)| name == topic).map(|(_, partitions)| partitions).unwrap_or_default())
    }

    /// Returns the topics that there are, and their partitions; of one topic, or of all.
    pub(crate) fn topics(&self, one: Option<&str>) -> Result<BTreeMap<String, Vec<i32>>> {
        let doing = || match one {
            Some(topic) => format!("asking for the partitions of topic {topic}"),
            None => "asking for all topics".to_owned(),
        };
        self.heard.forget();
        let metadata = self.client.fetch_metadata(one, self.patience());
        let metadata = metadata.map_err(|error| {
            self.hear_why();
            self.failed(doing(), &error)
        })?;
        let mut topics = BTreeMap::new();
        for topic in metadata.topics() {
            if let Some(error) = topic.error() {
                let code = Code::from(error);
                // Of many, one that nobody leads for a moment holds up no other: whoever reads it takes it for gone, and waits.
                let is_away = code == Code::LeaderNotAvailable && one.is_none();
                if is_away || matches!(code, Code::UnknownTopicOrPartition | Code::UnknownTopic) {
                    continue;
                }
                return Err(self.failed(doing(), &KafkaError::MetadataFetch(code)));
            }
            let mut partitions: Vec<i32> = topic.partitions().iter().map(|partition| partition.id()).collect();
            partitions.sort_unstable();
            topics.insert(topic.name().to_owned(), partitions);
        }
        Ok(topics)
    }

    /// Returns the host of the broker that leads each partition of a topic, where one does.
    pub(crate) fn hosts(&self, topic: &str) -> Result<BTreeMap<i32, String>> {
        let metadata = self.client.fetch_metadata(Some(topic), self.patience());
        let doing = format_args!("asking who leads the partitions of topic {topic}").to_string();
        let metadata = metadata.map_err(|error| self.failed(doing, &error))?;
        let hosts: BTreeMap<i32, &str> = metadata.brokers().iter().map(|broker| (broker.id(), broker.host())).collect();
        let of = metadata.topics().iter().filter(|found| found.name() == topic).flat_map(|found| found.partitions());
        Ok(of.filter_map(|of| Some((of.id(), (*hosts.get(&of.leader())?).to_owned()))).collect())
    }

    /// Returns the offset of a place in each partition, in one request to each broker.
    pub(crate) fn offsets(&self, of: &[TopicPartition], place: Place) -> Result<Vec<i64>> {
        if of.is_empty() {
            return Ok(Vec::new());
        }
        let doing = || format!("asking where {} and {} others end", of[0], of.len() - 1);
        let offset = match place {
            Place::Begin => Offset::Beginning,
            Place::End => Offset::End,
            Place::Since(time) => Offset::Offset(time),
        };
        let list = listed(of.iter().map(|partition| (partition, offset)));
        let list = list.map_err(|error| self.failed(doing(), &error))?;
        let deadline = monotonic() + self.patience();
        let mut tries = 0;
        let answer = loop {
            let answer = self.client.offsets_for_times(list.clone(), self.patience());
            // It may be good as a whole, and that of a partition not.
            let wrong = match &answer {
                Ok(answer) => answer.elements().iter().find_map(|element| element.error().err()),
                Err(error) => Some(error.clone()),
            };
            if monotonic() > deadline || !wrong.is_some_and(|error| has_moved(error.rdkafka_error_code())) {
                break answer.map_err(|error| self.failed(doing(), &error))?;
            }
            let metadata = self.client.fetch_metadata(None, self.patience());
            metadata.map_err(|error| self.failed(doing(), &error))?;
            std::thread::park_timeout(pause(tries));
            tries += 1;
        };
        let mut found = BTreeMap::new();
        for element in answer.elements() {
            let name = (element.topic().to_owned(), element.partition());
            element
                .error()
                .map_err(|error| self.failed(format_args!("asking where {}/{} ends", name.0, name.1), &error))?;
            found.insert(name, element.offset());
        }
        let mut offsets = Vec::with_capacity(of.len());
        let mut behind = Vec::new();
        for (i, partition) in of.iter().enumerate() {
            match found.get(&(partition.topic.clone(), partition.partition)) {
                Some(Offset::Offset(offset)) => offsets.push(*offset),
                Some(Offset::End) if matches!(place, Place::Since(_)) => {
                    behind.push(i);
                    offsets.push(0);
                }
                other => {
                    let text = format!(
                        "the brokers at {} do not say where {partition} ends, but {other:?}",
                        self.brokers.named()
                    );
                    return Err(Error::new(ErrorKind::Unavailable, text));
                }
            }
        }
        // No record is as late as that: what comes next is.
        let partitions: Vec<_> = behind.iter().map(|i| of[*i].clone()).collect();
        for (i, end) in behind.into_iter().zip(self.offsets(&partitions, Place::End)?) {
            offsets[i] = end;
        }
        Ok(offsets)
    }

    /// Returns what the group has committed for each partition, if it has.
    pub(crate) fn committed(&self, of: &[TopicPartition]) -> Result<Vec<Option<i64>>> {
        patiently(self.brokers.patience(), || self.committed_now(of))
    }

    fn committed_now(&self, of: &[TopicPartition]) -> Result<Vec<Option<i64>>> {
        let Some(first) = of.first() else { return Ok(Vec::new()) };
        let doing = format!("asking what group {} has committed of {first} and {} others", self.group, of.len() - 1);
        let doing = doing.as_str();
        self.heard.forget();
        let list = listed(of.iter().map(|partition| (partition, Offset::Invalid)));
        let list = list.map_err(|error| self.failed(doing, &error))?;
        let answer = self.client.committed_offsets(list, self.brokers.patience());
        let answer = answer.map_err(|error| {
            self.serve();
            self.failed(doing, &self.heard.of_group(error))
        })?;
        let offset = |partition: &TopicPartition| {
            let Some(element) = answer.find_partition(&partition.topic, partition.partition) else { return Ok(None) };
            // The answer as a whole can be good, and that of a partition not: nobody knows then what is committed.
            element.error().map_err(|error| self.failed(format_args!("{doing}: of {partition}"), &error))?;
            match element.offset() {
                Offset::Offset(offset) => Ok(Some(offset)),
                _ => Ok(None),
            }
        };
        of.iter().map(offset).collect()
    }

    /// Commits offsets to the group, without waiting. What becomes of it is told to the log.
    pub(crate) fn commit(&self, offsets: &[(TopicPartition, i64)]) -> Result<()> {
        let doing = format!("committing offsets to group {}", self.group);
        let doing = doing.as_str();
        let list = listed(offsets.iter().map(|(partition, offset)| (partition, Offset::Offset(*offset))));
        let list = list.map_err(|error| self.failed(doing, &error))?;
        self.client.commit(&list, CommitMode::Async).map_err(|error| self.failed(doing, &error))
    }

    /// Says whether a commit that nobody waited for has failed since this was last asked.
    pub(crate) fn commit_failed(&self) -> bool {
        self.serve();
        self.heard.take_commit_failed()
    }

    /// Commits offsets to the group, and waits for the answer, for as long as one question may take. The client itself would wait
    /// for as long as it takes, so a thread of its own does that.
    pub(crate) fn commit_now(&self, offsets: &[(TopicPartition, i64)]) -> Result<()> {
        let doing = format!("committing offsets to group {}", self.group);
        let doing = doing.as_str();
        let list = listed(offsets.iter().map(|(partition, offset)| (partition, Offset::Offset(*offset))));
        let list = list.map_err(|error| self.failed(doing, &error))?;
        let (client, (tell, told)) = (Arc::clone(&self.client), channel());
        let thread = threads::spawn("kafka-commit", move || {
            // Whoever asked may have gone on.
            let _ = tell.send(client.commit(&list, CommitMode::Sync));
        })?;
        match told.recv_timeout(self.brokers.patience()) {
            Ok(answer) => {
                thread.join();
                answer.map_err(|error| self.failed(doing, &error))
            }
            Err(_) => {
                thread.detach();
                let text = format!(
                    "{doing}: the brokers at {} have not answered within {:?}",
                    self.brokers.named(),
                    self.brokers.patience()
                );
                Err(Error::new(ErrorKind::Unavailable, text))
            }
        }
    }

    /// Waits for a moment for the cause of what has failed: that a connection has ended is told before why.
    fn hear_why(&self) {
        const LOOKS: u32 = 15;
        for _ in 0..LOOKS {
            if let Some(Err(error)) = self.client.poll(millis(20)) {
                self.heard.note(&error);
            }
            if self.heard.refused().is_some() {
                return;
            }
        }
    }

    /// Lets the client tell what it has heard. It reads nothing, so nothing else comes.
    fn serve(&self) {
        const MOST: usize = 20;
        for _ in 0..MOST {
            match self.client.poll(std::time::Duration::ZERO) {
                Some(Err(error)) => self.heard.note(&error),
                _ => return,
            }
        }
    }
}

/// Says whether who leads has changed, or is about to, or has not all that the one before had; or a topic is so new that not all of it is
/// known yet. Pure.
fn has_moved(code: Option<Code>) -> bool {
    matches!(
        code,
        Some(
            Code::NotLeaderForPartition
                | Code::LeaderNotAvailable
                | Code::FencedLeaderEpoch
                | Code::UnknownLeaderEpoch
                | Code::OffsetNotAvailable
                | Code::ReplicaNotAvailable
                | Code::KafkaStorageError
        )
    )
}

/// Returns how long it is waited before it is asked again who leads: soon at first, as most are there at once, and each second
/// where it takes longer, so that no crowd of questions keeps the brokers from what they are busy with. Pure.
pub(crate) fn pause(tries: u32) -> Duration {
    millis(20).saturating_mul(1 << tries.min(6)).min(secs(1))
}

/// Asks again while what answers is not ready: a group has no coordinator for a moment when a broker starts.
pub(crate) fn patiently<T>(patience: Duration, ask: impl Fn() -> Result<T>) -> Result<T> {
    let deadline = monotonic() + patience;
    loop {
        match ask() {
            Err(error) if error.kind() == ErrorKind::Unavailable && monotonic() < deadline => {
                std::thread::park_timeout(millis(50));
            }
            answer => return answer,
        }
    }
}

fn listed<'a>(
    entries: impl Iterator<Item = (&'a TopicPartition, Offset)>,
) -> rdkafka::error::KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in entries {
        list.add_partition_offset(&partition.topic, partition.partition, offset)?;
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_moved_is_asked_for_again_and_what_is_wrong_otherwise_is_told() {
        for (code, want) in [
            (None, false),
            (Some(Code::NotLeaderForPartition), true),
            (Some(Code::FencedLeaderEpoch), true),
            (Some(Code::UnknownLeaderEpoch), true),
            // A new leader does not know yet how far the copies are.
            (Some(Code::OffsetNotAvailable), true),
            (Some(Code::KafkaStorageError), true),
            (Some(Code::UnknownTopicOrPartition), false),
            (Some(Code::TopicAuthorizationFailed), false),
            (Some(Code::OperationTimedOut), false),
        ] {
            assert_eq!(has_moved(code), want, "{code:?}");
        }
    }

    #[test]
    fn k50_whoever_waits_for_a_leader_asks_soon_at_first_and_each_second_later() {
        for (tries, want) in [(0, 20), (1, 40), (2, 80), (5, 640), (6, 1000), (7, 1000), (u32::MAX, 1000)] {
            assert_eq!(pause(tries), millis(want), "{tries}");
        }
        let asked_in_ten_seconds = (0..).scan(millis(0), |at, tries| {
            *at += pause(tries);
            (*at < secs(10)).then_some(tries)
        });
        assert_eq!(asked_in_ten_seconds.count(), 14);
    }
}
