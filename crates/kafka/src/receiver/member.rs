//! Where a member of a group begins in the partitions that it is given: said by us, partition by partition, and not by a setting
//! that jumps in silence.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock};

use millstream_core::threads::lock;
use millstream_core::{Error, ErrorKind, Result};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};

use crate::cluster::{Cluster, Place};
use crate::ranges::{OffsetRange, TopicPartition};
use crate::settings::{Brokers, Told};
use crate::source::{Isolation, OnLoss};

/// Where a partition is begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    At(i64),
    /// What was to be read next is not there: there is this.
    Gone(i64),
}

/// Decides where a partition is begun that is there from `there.0` until `there.1`. Pure.
fn begin(committed: Option<i64>, there: (i64, i64), is_new: bool, from_begin: bool) -> Begin {
    match committed {
        // Behind the end was another topic of this name.
        Some(at) if at < there.0 || at > there.1 => Begin::Gone(there.0),
        Some(at) => Begin::At(at),
        // Nothing of what came while we were here is left out.
        None if from_begin || is_new => Begin::At(there.0),
        None => Begin::At(there.1),
    }
}

/// What a member knows of its group and of the topics.
pub(super) struct Group {
    brokers: Brokers,
    name: String,
    cluster: Cluster,
    /// The partitions that there were when the receiver started: others are new.
    known: BTreeSet<TopicPartition>,
    from_begin: bool,
    on_loss: OnLoss,
    /// What went wrong while partitions were shared out, which nobody waited for.
    failed: Mutex<Option<Error>>,
    lost: Mutex<Vec<Error>>,
}

impl Group {
    pub(super) fn open(
        brokers: &Brokers,
        name: &str,
        isolation: Isolation,
        from_begin: bool,
        on_loss: OnLoss,
    ) -> Result<Group> {
        let cluster = Cluster::open(brokers, Some(name), isolation)?;
        let of = |(topic, partitions): (String, Vec<i32>)| {
            partitions.into_iter().map(move |partition| TopicPartition::new(topic.clone(), partition))
        };
        let known = cluster.topics(None)?.into_iter().flat_map(of).collect();
        let (brokers, name) = (brokers.clone(), name.to_owned());
        Ok(Group {
            brokers,
            name,
            cluster,
            known,
            from_begin,
            on_loss,
            failed: Mutex::default(),
            lost: Mutex::default(),
        })
    }

    /// Returns what is to be told to listeners.
    ///
    /// # Errors
    ///
    /// What went wrong while partitions were shared out.
    pub(super) fn told(&self) -> Result<Vec<Error>> {
        match lock(&self.failed).take() {
            Some(error) => Err(error),
            None => Ok(std::mem::take(&mut *lock(&self.lost))),
        }
    }

    /// Returns where to begin in each partition, and whether that is to be committed at once.
    fn places(&self, of: &[TopicPartition], at: &[Option<i64>]) -> Result<Vec<i64>> {
        // The client that asks learns of partitions that are new.
        let topics: BTreeSet<&str> = of.iter().map(|of| of.topic.as_str()).collect();
        for topic in topics {
            self.cluster.partitions(topic)?;
        }
        let begins = self.cluster.offsets(of, Place::Begin)?;
        let ends = self.cluster.offsets(of, Place::End)?;
        let mut places = Vec::with_capacity(of.len());
        for (i, of) in of.iter().enumerate() {
            let there = (begins[i], ends[i]);
            match begin(at[i], there, !self.known.contains(of), self.from_begin) {
                Begin::At(at) => places.push(at),
                Begin::Gone(first) => {
                    self.lose(of, at[i].unwrap_or(first), there)?;
                    places.push(first);
                }
            }
        }
        Ok(places)
    }

    fn lose(&self, of: &TopicPartition, at: i64, there: (i64, i64)) -> Result<()> {
        let lost = OffsetRange::new(of.topic.clone(), of.partition, at, there.0).count();
        let text = format!(
            "group {} was to read partition {of} at the brokers {} from offset {at} on, and there are {} until {}: {}",
            self.name,
            self.brokers.named(),
            there.0,
            there.1,
            if lost > 0 { "older ones were deleted" } else { "it was made anew, perhaps" }
        );
        match self.on_loss {
            OnLoss::Stop => {
                let text = format!("{text}. Nothing was skipped. on_loss(GoOn) goes on with what is there");
                Err(Error::new(ErrorKind::Data, text))
            }
            OnLoss::GoOn => {
                tracing::warn!(lost, "{text}; the receiver goes on");
                let text = format!("{text}. {lost} offsets are lost, and the receiver goes on with what is there");
                lock(&self.lost).push(Error::new(ErrorKind::Data, text));
                Ok(())
            }
        }
    }

    /// Says where to begin in partitions that the group gives this member.
    fn place(&self, consumer: &BaseConsumer<Member>, list: &mut TopicPartitionList) -> Result<()> {
        let of: Vec<_> = list.elements().iter().map(|one| TopicPartition::new(one.topic(), one.partition())).collect();
        if of.is_empty() {
            return Ok(());
        }
        let committed = self.cluster.committed(&of)?;
        let places = self.places(&of, &committed)?;
        let failed =
            |error: KafkaError| Error::new(ErrorKind::Unavailable, format!("beginning in a partition: {error}"));
        let mut first = TopicPartitionList::new();
        for ((of, at), committed) in of.iter().zip(&places).zip(&committed) {
            list.set_partition_offset(&of.topic, of.partition, Offset::Offset(*at)).map_err(failed)?;
            if committed.is_none() {
                first.add_partition_offset(&of.topic, of.partition, Offset::Offset(*at)).map_err(failed)?;
            }
        }
        if first.count() > 0
            && let Err(error) = consumer.commit(&first, CommitMode::Async)
        {
            tracing::warn!(%error, "where a group begins was not committed: if nothing comes it may begin elsewhere next time");
        }
        Ok(())
    }

    /// What is to be read next in some partition is not there any more: finds out which, and goes on there if that is what is done.
    pub(super) fn place_again(&self, consumer: &BaseConsumer<Member>) -> Result<()> {
        let failed =
            |error: KafkaError| Error::new(ErrorKind::Unavailable, format!("asking where a member is: {error}"));
        let list = consumer.position().map_err(failed)?;
        let mut of: Vec<TopicPartition> = Vec::new();
        let mut at = Vec::new();
        let assigned = consumer.assignment().map_err(failed)?;
        for one in assigned.elements() {
            let position = list.find_partition(one.topic(), one.partition()).map(|element| element.offset());
            of.push(TopicPartition::new(one.topic(), one.partition()));
            at.push(match position {
                Some(Offset::Offset(at)) => Some(at),
                // It has read nothing yet.
                _ => match one.offset() {
                    Offset::Offset(at) => Some(at),
                    _ => None,
                },
            });
        }
        for (i, at_now) in at.iter_mut().enumerate() {
            if at_now.is_none() {
                *at_now = self.cluster.committed(&of[i..=i])?[0];
            }
        }
        let places = self.places(&of, &at)?;
        for ((of, place), at) in of.iter().zip(places).zip(at) {
            if at != Some(place) {
                let patience = self.brokers.patience();
                consumer.seek(&of.topic, of.partition, Offset::Offset(place), patience).map_err(failed)?;
            }
        }
        Ok(())
    }
}

/// What a client tells by itself, of a member of a group.
pub(super) struct Member {
    told: Told,
    group: OnceLock<Arc<Group>>,
}

impl From<Told> for Member {
    fn from(told: Told) -> Member {
        Member { told, group: OnceLock::new() }
    }
}

impl Member {
    /// Tells the member what it is to know, before it subscribes.
    pub(super) fn join(&self, group: Group) -> Arc<Group> {
        Arc::clone(self.group.get_or_init(|| Arc::new(group)))
    }
}

impl ClientContext for Member {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.told.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.told.error(error, reason);
    }
}

impl ConsumerContext for Member {
    fn rebalance(&self, consumer: &BaseConsumer<Member>, what: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let is_whole = !matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        let done = if what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            let placed = self.group.get().map_or(Ok(()), |group| {
                group.place(consumer, list).map_err(|error| *lock(&group.failed) = Some(error))
            });
            // It must be answered also when something went wrong, which the receiver sees then, and ends.
            let nothing = TopicPartitionList::new();
            let given = if placed.is_ok() { &*list } else { &nothing };
            if is_whole { consumer.assign(given) } else { consumer.incremental_assign(given) }
        } else if is_whole {
            consumer.unassign()
        } else {
            consumer.incremental_unassign(list)
        };
        if let Err(error) = done {
            tracing::warn!(%error, "partitions of Kafka could not be taken or given back");
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        self.told.commit_callback(result, offsets);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_begins_where_its_group_is_and_jumps_nowhere() {
        for (what, committed, there, is_new, from_begin, want) in [
            ("where the group is", Some(7), (3, 9), false, true, Begin::At(7)),
            ("at the end of what was read", Some(9), (3, 9), false, false, Begin::At(9)),
            ("what was to come next was deleted", Some(2), (3, 9), false, false, Begin::Gone(3)),
            ("there is less than there was", Some(10), (0, 9), false, false, Begin::Gone(0)),
            ("a group that is new", None, (3, 9), false, false, Begin::At(9)),
            ("one that wants everything", None, (3, 9), false, true, Begin::At(3)),
            ("a partition that came while it ran", None, (3, 9), true, false, Begin::At(3)),
        ] {
            assert_eq!(begin(committed, there, is_new, from_begin), want, "{what}");
        }
    }
}
