//! Which ranges belong to a batch: partitions are found, ends are asked for, and what has gone is noticed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millstream_core::clock::monotonic;
use millstream_core::{Error, ErrorKind, Result};
use millstream_streaming::Rate;

use super::ends::Ends;
use super::{Direct, Given, Ids, OnLoss, Start, Topics};
use crate::cluster::{Cluster, Place};
use crate::limits::{Limits, most_of_each, until};
use crate::ranges::{OffsetRange, TopicPartition};
use crate::read::wire::Wire;
use crate::read::{ReadBy, needs_client};

/// What a source has while its context runs.
pub(super) struct Run {
    pub(super) cluster: Cluster,
    /// The partitions, in the order in which they become partitions of Rdds, and the next offset of each.
    pub(super) next: BTreeMap<TopicPartition, i64>,
    pub(super) ids: Ids,
    pub(super) ends: Ends,
    /// When partitions were last looked for, and since when no broker answers.
    pub(super) looked: Duration,
    pub(super) away: Option<Duration>,
    pub(super) committed: BTreeMap<TopicPartition, i64>,
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

    /// Returns where partitions end.
    fn ends(&self, run: &mut Run, of: &[TopicPartition]) -> Result<Vec<i64>> {
        if self.read_by == ReadBy::Fastest && needs_client(&self.brokers).is_none() {
            match run.ends.ask(&self.brokers, of, self.isolation) {
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
        let mut lost = Vec::new();
        let now = monotonic();
        if now.saturating_sub(run.looked) >= self.look_every {
            self.look(run, &mut lost)?;
            run.looked = now;
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
        let lag = lags.iter().sum::<u64>() - ranges.iter().map(OffsetRange::count).sum::<u64>();
        Ok(Given { lost, lag, ..Given::new(ranges, &run.ids) })
    }
}
