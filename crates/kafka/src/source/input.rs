//! The direct source as the engine sees it: allocate, rdd, commit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::clock::monotonic;
use millstream_core::threads::lock;
use millstream_core::{Accumulate as _, Context, Error, ErrorKind, Rdd, Result, Time};
use millstream_streaming::{InputContext, InputInfo, InputSource, Rate};

use super::batches::{Run, to_tell};
use super::ends::Ends;
use super::{Direct, Given, Gone, Topics};
use crate::cluster::Cluster;
use crate::mistakes::{Mistake, passed, planted};
use crate::ranges::{OffsetRange, TopicPartition, description};
use crate::read::{Met, POOL, RangeSplit};
use crate::record::Record;

/// Of so many batches that have begun it is kept what their tasks meet.
const BATCHES: usize = 1000;

impl Direct {
    /// Takes what the tasks of a batch that has ended met, and of those before it, which have ended in whatever way.
    fn note_met(&mut self, given: &Given) {
        let Some(run) = &mut self.run else { return };
        let mut reading = lock(&self.reading);
        let Some(at) = reading.iter().position(|(topics, _)| *topics == given.topics) else { return };
        for (_, met) in reading.drain(..=at) {
            run.met.merge(met.value());
        }
    }
}

impl InputSource for Direct {
    type Item = Record;
    type Allocation = Given;

    fn allocate(&mut self, batch: Time, limit: Option<Rate>) -> Result<Given> {
        let mut run = self.run.take().ok_or_else(|| Error::new(ErrorKind::Stopped, "the source was not started"))?;
        let before = (run.next.clone(), run.ids.clone(), run.gone.clone(), run.lost.clone());
        // A batch waits once for brokers that are away, and no later one does: other inputs would wait with it.
        run.cluster.ask_together(true);
        let is_there = if run.away.is_some() { run.cluster.is_back() } else { Ok(()) };
        let given = is_there.and_then(|()| self.give(&mut run, limit));
        run.cluster.ask_together(false);
        let given = match given {
            Ok(given) => {
                run.away = None;
                Ok(given)
            }
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                (run.next, run.ids, run.gone, run.lost) = before;
                // What was found meanwhile is looked for again.
                run.looked = None;
                let since = *run.away.get_or_insert_with(monotonic);
                let away = monotonic().saturating_sub(since);
                if away >= self.away {
                    Err(Error::new(ErrorKind::Unavailable, format!("{}; so it has been for {away:?}", error.message())))
                } else {
                    tracing::warn!(%batch, %error, "no broker of Kafka answers: the batch is given nothing");
                    let here =
                        |(of, at): (&TopicPartition, &i64)| OffsetRange::new(of.topic.clone(), of.partition, *at, *at);
                    Ok(Given { away: to_tell(&run.gone), ..Given::new(run.next.iter().map(here), &run.ids) })
                }
            }
            Err(error) => {
                (run.next, run.ids, run.gone, run.lost) = before;
                run.looked = None;
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

    fn lead(&self) -> Option<Duration> {
        self.run.as_ref().filter(|run| run.away.is_none())?.ends.lead()
    }

    fn ask_ahead(&mut self) {
        let Some(run) = &mut self.run else { return };
        if let Err(error) = run.ends.ask_ahead(run.next.keys().cloned().collect(), self.isolation) {
            tracing::debug!(%error, "ends could not be asked for ahead");
            run.ends = Ends::default();
        }
    }

    fn rdd(&self, given: &Given, context: &Context) -> Result<Option<Rdd<Record>>> {
        let how = Arc::new(self.how());
        let among = given.topics.iter().map(|topic| topic.ranges().count()).sum::<usize>();
        let among = u32::try_from(among).unwrap_or(u32::MAX);
        let met = context.register(Met::default(), "what readers of Kafka met");
        let mut reading = lock(&self.reading);
        if reading.len() >= BATCHES {
            // One that failed long ago, and will not end.
            reading.pop_front();
        }
        reading.push_back((given.topics.clone(), met.clone()));
        drop(reading);
        let mut splits = Vec::with_capacity(among as usize);
        for topic in &given.topics {
            splits.extend(topic.ranges().map(|range| {
                let (how, met, host) = (Arc::clone(&how), Some(met.clone()), self.host(&range.topic_partition()));
                RangeSplit { how, id: topic.id, range, among, met, host }
            }));
        }
        Ok(Some(context.read_splits(splits)))
    }

    /// What stands at an offset of a topic, which is known by its id, does not change, and what is gone fails the batch.
    fn notices_change(&self) -> bool {
        true
    }

    fn restore(&mut self, given: &[(Time, Given)]) -> Result<()> {
        let (mut next, mut gone) = (BTreeMap::new(), Gone::new());
        for (_, given) in given {
            for range in given.ranges() {
                gone.remove(&range.topic_partition());
                next.insert(range.topic_partition(), range.until);
            }
            for topic in &given.away {
                for range in topic.ranges() {
                    next.remove(&range.topic_partition());
                    gone.insert(range.topic_partition(), (range.from, topic.id));
                }
            }
        }
        let topics = given.iter().flat_map(|(_, given)| &given.topics);
        let ids = topics.filter_map(|topic| Some((topic.name.clone(), topic.id?))).collect();
        self.restored = Some((next, ids, gone)).filter(|(next, _, gone)| !next.is_empty() || !gone.is_empty());
        Ok(())
    }

    fn start(&mut self, input: &InputContext) -> Result<()> {
        self.check()?;
        self.interval = input.interval();
        let cluster = Cluster::open(&self.brokers, self.group.as_deref(), self.isolation)?;
        let found = self.find(&cluster)?;
        let (mut lost, mut gone) = (Vec::new(), Gone::new());
        let mut ids = self.ids(found.iter())?;
        let mut next = match self.restored.take().filter(|_| !planted(Mistake::CommitsEarly)) {
            Some((known, before, earlier)) => {
                gone = earlier;
                // They came while the program was away, or it did not ask for them.
                let new: Vec<_> = found.iter().filter(|of| !known.contains_key(of)).cloned().collect();
                let come = self.come(&cluster, new, &ids, &mut gone)?;
                for (of, at) in known.iter().filter(|(of, _)| !found.contains(of)) {
                    let range = OffsetRange::new(of.topic.clone(), of.partition, *at, *at);
                    self.lose(range, "is not there any more, or is not asked for any more", &mut lost)?;
                    gone.insert(of.clone(), (*at, before.get(&of.topic).copied()));
                }
                // The first batch compares.
                ids.extend(before);
                known.into_iter().filter(|(of, _)| found.contains(of)).chain(come).collect()
            }
            None => self.begin(&cluster, &found.into_iter().collect::<Vec<_>>())?,
        };
        next.retain(|_, at| *at >= 0);
        let run = Run {
            cluster,
            next,
            ids,
            gone,
            lost,
            ends: Ends::default(),
            hosts: BTreeMap::new(),
            // The first batch looks whether what was known is still there.
            looked: None,
            away: None,
            committed: BTreeMap::new(),
            met: Met::default(),
            ended: BTreeMap::new(),
        };
        self.run = Some(run);
        Ok(())
    }

    fn commit(&mut self, given: &Given) -> Result<()> {
        self.note_met(given);
        let (Some(run), Some(_)) = (&mut self.run, &self.group) else { return Ok(()) };
        if run.cluster.commit_failed() {
            run.committed.clear();
        }
        let is_new = |(of, until): &(TopicPartition, i64)| run.committed.get(of).is_none_or(|before| before < until);
        let ranges = given.ranges().into_iter().map(|range| (range.topic_partition(), range.until));
        let offsets: Vec<_> = ranges.filter(is_new).collect();
        if !offsets.is_empty() {
            run.cluster.commit(&offsets)?;
            run.committed.extend(offsets);
            passed("group-committed");
        }
        Ok(())
    }

    fn stop(&mut self, _graceful: bool) {
        POOL.end(&self.how());
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
        if !given.lags.is_empty() {
            let lag = |(range, lag): (&OffsetRange, &u64)| format!("{}/{} {lag}", range.topic, range.partition);
            let lags: Vec<_> = ranges.iter().zip(&given.lags).filter(|(_, lag)| **lag > 0).map(lag).collect();
            metadata.insert("lag by partition".to_owned(), lags.join("\n"));
        }
        if given.met.records > 0 {
            let Met { records, bytes, waited, .. } = &given.met;
            let waited = format!("{:.3}", waited.as_secs_f64() * 1e3);
            for (name, value) in [("records", records.to_string()), ("bytes", bytes.to_string()), ("ms", waited)] {
                metadata.insert(format!("fetched {name}"), value);
            }
        }
        if !given.lost.is_empty() {
            let lost: Vec<_> = given.lost.iter().map(ToString::to_string).collect();
            metadata.insert("lost".to_owned(), lost.join("\n"));
        }
        InputInfo { records, metadata, ..InputInfo::default() }
    }
}
