//! Which ranges belong to a batch: partitions are found, ends are asked for, and what has gone is noticed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millstream_core::clock::monotonic;
use millstream_core::{Error, ErrorKind, Result};
use millstream_streaming::Rate;

use super::ends::Ends;
use super::given::GivenTopic;
use super::{Direct, Given, Gone, Ids, Locations, OnLoss, Start, Topics};
use crate::cluster::{Cluster, Place};
use crate::limits::{Limits, most_of_each, until};
use crate::ranges::{OffsetRange, TopicPartition};
use crate::read::wire::{TopicId, Wire};
use crate::read::{Met, ReadBy, needs_client};

/// What a source has while its context runs.
pub(super) struct Run {
    pub(super) cluster: Cluster,
    /// The partitions, in the order in which they become partitions of Rdds, and the next offset of each.
    pub(super) next: BTreeMap<TopicPartition, i64>,
    pub(super) ids: Ids,
    /// What was there, and may come back.
    pub(super) gone: Gone,
    /// What was found to be lost at the start, for the first batch to tell.
    pub(super) lost: Vec<OffsetRange>,
    pub(super) ends: Ends,
    /// The hosts of the brokers that lead partitions, where they are to be read there.
    pub(super) hosts: BTreeMap<TopicPartition, String>,
    /// When partitions were last looked for, if they were, and since when no broker answers.
    pub(super) looked: Option<Duration>,
    pub(super) away: Option<Duration>,
    pub(super) committed: BTreeMap<TopicPartition, i64>,
    /// What tasks of batches that have ended met, for the next batch to tell.
    pub(super) met: Met,
    /// Where partitions ended when that was last asked: what is known of those that are gone.
    pub(super) ended: BTreeMap<TopicPartition, i64>,
}

impl Run {
    /// Returns what is lost with a partition that is gone: at least what was there when it was last looked at.
    pub(super) fn rest(&self, of: &TopicPartition, at: i64) -> OffsetRange {
        let until = self.ended.get(of).copied().unwrap_or(at).max(at);
        OffsetRange::new(of.topic.clone(), of.partition, at, until)
    }
}

impl Direct {
    /// Finds the partitions that there are now.
    pub(super) fn find(&self, cluster: &Cluster) -> Result<BTreeSet<TopicPartition>> {
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
    pub(super) fn ids<'a>(&self, topics: impl Iterator<Item = &'a TopicPartition>) -> Result<Ids> {
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
    pub(super) fn begin(&self, cluster: &Cluster, of: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, i64>> {
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
    pub(super) fn lose(&self, range: OffsetRange, why: &str, lost: &mut Vec<OffsetRange>) -> Result<()> {
        match self.on_loss {
            OnLoss::Stop => {
                let text = format!(
                    "partition {}/{} at the brokers {} {why}: offset {} was to be read next, and there is {}. Nothing \
                     was skipped. on_loss(GoOn) goes on with what is there",
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

    /// Returns where to begin in partitions that were not there before: where the program was, if they were there earlier and
    /// their topic is still the same; and else with what is there first, since nothing of them was seen.
    pub(super) fn come(
        &self,
        cluster: &Cluster,
        new: Vec<TopicPartition>,
        ids: &Ids,
        gone: &mut Gone,
    ) -> Result<Vec<(TopicPartition, i64)>> {
        let (back, new): (Vec<_>, Vec<_>) =
            new.into_iter().partition(|of| is_back(gone.get(of).map(|(_, id)| *id), ids.get(&of.topic).copied()));
        let begins = cluster.offsets(&new, Place::Begin)?;
        for (of, at) in new.iter().zip(&begins) {
            tracing::info!(partition = %of, offset = at, "a partition of Kafka is new");
            gone.remove(of);
        }
        let back = back.into_iter().filter_map(|of| gone.remove(&of).map(|(at, _)| (of, at)));
        Ok(back.chain(new.into_iter().zip(begins)).collect())
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
                run.next.keys().chain(run.gone.keys()).filter(is_there).cloned().collect()
            }
            // What was there may come back: a broker that has just started does not know all topics at once.
            Err(error) if error.kind() == ErrorKind::Config => {
                return Err(Error::new(ErrorKind::Unavailable, error.message()));
            }
            found => found?,
        };
        let ids = self.ids(found.iter())?;
        let is_anew = |name: &String| ids.get(name).zip(run.ids.get(name)).is_some_and(|(is, was)| is != was);
        let anew: Vec<_> =
            run.next.iter().filter(|(of, _)| is_anew(&of.topic)).map(|(of, at)| (of.clone(), *at)).collect();
        for (of, at) in anew {
            self.lose(run.rest(&of, at), "was deleted and made anew", lost)?;
            run.next.remove(&of);
            run.ended.remove(&of);
        }
        // A broker that does not tell an id now has told one before: it is not forgotten.
        run.ids.extend(ids);
        let gone: Vec<_> =
            run.next.iter().filter(|(of, _)| !found.contains(of)).map(|(of, at)| (of.clone(), *at)).collect();
        for (of, at) in gone {
            // If that lasts the program stops.
            self.lose(run.rest(&of, at), "is not there any more", lost)
                .map_err(|error| Error::new(ErrorKind::Unavailable, error.message()))?;
            run.gone.insert(of.clone(), (at, run.ids.get(&of.topic).copied()));
            run.next.remove(&of);
        }
        let new: Vec<_> = found.into_iter().filter(|of| !run.next.contains_key(of)).collect();
        let come = self.come(&run.cluster, new, &run.ids, &mut run.gone)?;
        run.next.extend(come);
        if self.locations == Locations::Brokers {
            self.look_for_hosts(run);
        }
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

    /// Finds out on which hosts brokers lead partitions. What is not known is read anywhere.
    fn look_for_hosts(&self, run: &mut Run) {
        let topics: BTreeSet<&str> = run.next.keys().map(|of| of.topic.as_str()).collect();
        let mut hosts = BTreeMap::new();
        for topic in topics {
            match run.cluster.hosts(topic) {
                Ok(of) => {
                    hosts.extend(of.into_iter().map(|(partition, host)| (TopicPartition::new(topic, partition), host)));
                }
                Err(error) => tracing::debug!(%error, "partitions are read anywhere"),
            }
        }
        run.hosts = hosts;
    }

    /// Returns on which host a partition would best be read, if the program says so.
    pub(super) fn host(&self, of: &TopicPartition) -> Option<String> {
        match &self.locations {
            Locations::Consistent => None,
            Locations::Brokers => self.run.as_ref()?.hosts.get(of).cloned(),
            Locations::Fixed(hosts) => hosts.get(of).cloned(),
        }
    }

    /// Returns where partitions end.
    fn ends(&self, run: &mut Run, of: &[TopicPartition]) -> Result<Vec<i64>> {
        if self.read_by == ReadBy::Fastest && needs_client(&self.brokers).is_none() {
            match run.ends.ask(&self.brokers, of, self.isolation, self.interval) {
                Ok(ends) => return Ok(ends),
                // Another leads, or a connection has ended: the client finds out who, and the next batch begins anew.
                Err(error) => {
                    tracing::debug!(%error, "ends are asked for by the client");
                    run.ends = Ends::default();
                }
            }
        }
        run.cluster.offsets(of, Place::End)
    }

    pub(super) fn give(&self, run: &mut Run, limit: Option<Rate>) -> Result<Given> {
        let mut lost = std::mem::take(&mut run.lost);
        let now = monotonic();
        if is_due(run.looked, now, self.look_every) {
            self.look(run, &mut lost)?;
            run.looked = Some(now);
        }
        let ask = |run: &mut Run| {
            let partitions: Vec<_> = run.next.keys().cloned().collect();
            self.ends(run, &partitions).map(|ends| (partitions, ends))
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
        let lags: Vec<u64> = lags.iter().zip(&ranges).map(|(lag, range)| lag.saturating_sub(range.count())).collect();
        if lags.iter().any(|lag| *lag > 0) || !run.ended.is_empty() {
            // Who lags by nothing has nothing to lose.
            let lagging = run.next.keys().zip(&ends).zip(&lags).filter(|(_, lag)| **lag > 0);
            run.ended = lagging.map(|((of, end), _)| (of.clone(), *end)).collect();
        }
        let mut met = std::mem::take(&mut run.met);
        lost.append(&mut met.lost);
        Ok(Given { lost, lag: lags.iter().sum(), lags, met, away: to_tell(&run.gone), ..Given::new(ranges, &run.ids) })
    }
}

/// Says whether partitions are to be looked for: `looked` is when they last were. The first batch looks. Pure.
fn is_due(looked: Option<Duration>, now: Duration, every: Duration) -> bool {
    looked.is_none_or(|looked| now.saturating_sub(looked) >= every)
}

/// Says whether a partition that is found is one that was gone: `was` is what its topic's name meant then, if it is known to be
/// gone, and `is` what it means now. Where nobody tells, offsets that do not fit are noticed later. Pure.
fn is_back(was: Option<Option<TopicId>>, is: Option<TopicId>) -> bool {
    was.is_some_and(|was| was.zip(is).is_none_or(|(was, is)| was == is))
}

/// Returns what is gone, as an allocation has it. Pure.
pub(super) fn to_tell(gone: &Gone) -> Vec<GivenTopic> {
    let ids = gone.iter().filter_map(|(of, (_, id))| Some((of.topic.clone(), (*id)?))).collect();
    let ranges = gone.iter().map(|(of, (at, _))| OffsetRange::new(of.topic.clone(), of.partition, *at, *at));
    Given::new(ranges, &ids).topics
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_core::secs;

    #[test]
    fn the_first_batch_looks_for_partitions_however_young_the_process_is() {
        for (looked, now, want) in
            [(None, 0, true), (None, 3, true), (Some(3), 3, false), (Some(3), 12, false), (Some(3), 13, true)]
        {
            assert_eq!(is_due(looked.map(secs), secs(now), secs(10)), want, "{looked:?} {now}");
        }
    }

    #[test]
    fn a_partition_that_was_gone_is_back_if_its_topic_is_the_same() {
        let (a, b) = (Some(TopicId([1; 16])), Some(TopicId([2; 16])));
        for (was, is, want) in
            [(None, a, false), (Some(a), a, true), (Some(a), b, false), (Some(None), a, true), (Some(a), None, true)]
        {
            assert_eq!(is_back(was, is), want, "{was:?} {is:?}");
        }
    }
}
