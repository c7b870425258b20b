//! Where partitions end, asked each batch over connections that do nothing else: a request to each broker that leads, a little
//! before the batch is due, so that it need not wait for the answer.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_core::clock::monotonic;
use millstream_core::{Error, ErrorKind, Result, millis, secs};

use crate::ranges::TopicPartition;
use crate::read::wire::Wire;
use crate::settings::Brokers;
use crate::source::Isolation;

/// How long before a batch it is asked at first, at least, and at most.
const LEAD: Duration = millis(1);
const LEAST: Duration = Duration::from_micros(200);
const MOST: Duration = millis(100);

/// What was asked longer ago is asked again. It would be right: ends only grow. But a batch that was held up would be given less than
/// there is.
const FRESH: Duration = secs(1);

/// Who leads, and a connection to each of them.
pub(super) struct Ends {
    leaders: BTreeMap<TopicPartition, String>,
    wires: BTreeMap<String, Wire>,
    ahead: Option<Ahead>,
    lead: Duration,
}

/// What was asked before the batch was due.
struct Ahead {
    of: Vec<TopicPartition>,
    leaders: Vec<String>,
    at: Duration,
}

impl Default for Ends {
    fn default() -> Ends {
        Ends { leaders: BTreeMap::new(), wires: BTreeMap::new(), ahead: None, lead: LEAD }
    }
}

/// Returns how long before the next batch to ask. An answer that was there when it was needed could have been asked for a little
/// later; for one that had to be `waited` for it is asked sooner, though not for long because of one that was late. Pure.
fn next_lead(lead: Duration, waited: Option<Duration>, interval: Duration) -> Duration {
    let most = MOST.min(interval / 4);
    let next = match waited {
        None => lead - lead / 50,
        Some(waited) => (lead * 2).min((lead + waited) * 11 / 10),
    };
    next.max(LEAST).min(most)
}

impl Ends {
    /// Asks who leads the partitions of which that is not known.
    fn learn(&mut self, brokers: &Brokers, of: &[TopicPartition]) -> Result<()> {
        let mut unknown: Vec<&str> =
            of.iter().filter(|of| !self.leaders.contains_key(of)).map(|of| of.topic.as_str()).collect();
        unknown.dedup();
        if unknown.is_empty() {
            return Ok(());
        }
        let mut wire = Wire::open(brokers.named(), brokers.patience())?;
        for topic in unknown {
            for (partition, leader) in wire.topic(topic)?.leaders {
                if let Some(leader) = leader {
                    self.leaders.insert(TopicPartition::new(topic, partition), leader);
                }
            }
        }
        Ok(())
    }

    /// Says how long before a batch it is to be asked; nothing if nobody is known who could be.
    pub(super) fn lead(&self) -> Option<Duration> {
        (!self.wires.is_empty()).then_some(self.lead)
    }

    /// Asks where partitions end, without waiting for the answer, if all who lead are known. After an error it is to be begun anew.
    pub(super) fn ask_ahead(&mut self, of: Vec<TopicPartition>, isolation: Isolation) -> Result<()> {
        let is_known = |of| self.leaders.get(of).is_some_and(|leader| self.wires.contains_key(leader));
        if self.ahead.is_some() || !of.iter().all(is_known) {
            return Ok(());
        }
        let leaders = self.send(&of, isolation)?;
        self.ahead = Some(Ahead { of, leaders, at: monotonic() });
        Ok(())
    }

    /// Asks all who lead, before anybody is waited for. Returns whom.
    fn send(&mut self, of: &[TopicPartition], isolation: Isolation) -> Result<Vec<String>> {
        let mut asked: BTreeMap<&str, BTreeMap<&str, Vec<i32>>> = BTreeMap::new();
        for one in of {
            if let Some(leader) = self.leaders.get(one) {
                asked.entry(leader).or_default().entry(&one.topic).or_default().push(one.partition);
            }
        }
        for (leader, topics) in &asked {
            if let Some(wire) = self.wires.get_mut(*leader) {
                wire.ask_ends(topics, isolation == Isolation::ReadCommitted)?;
            }
        }
        Ok(asked.into_keys().map(str::to_owned).collect())
    }

    /// Waits for the answers of those who were asked.
    fn receive(&mut self, leaders: &[String]) -> Result<BTreeMap<TopicPartition, i64>> {
        let mut ends = BTreeMap::new();
        for leader in leaders {
            let Some(wire) = self.wires.get_mut(leader) else { continue };
            for (topic, partition, error, end) in wire.ends()? {
                let one = TopicPartition { topic, partition };
                if error != 0 {
                    let text = format!("{leader} answers with error {error} where {one} ends");
                    return Err(Error::new(ErrorKind::Unavailable, text));
                }
                ends.insert(one, end);
            }
        }
        Ok(ends)
    }

    /// Returns where partitions end: behind the last record that may be read. After an error it is to be begun anew.
    pub(super) fn ask(
        &mut self,
        brokers: &Brokers,
        of: &[TopicPartition],
        isolation: Isolation,
        interval: Duration,
    ) -> Result<Vec<i64>> {
        let unknown = |of: &TopicPartition| {
            Error::new(ErrorKind::Unavailable, format!("nobody leads {of} at the brokers {}", brokers.named()))
        };
        let in_order = |ends: &BTreeMap<TopicPartition, i64>| -> Result<Vec<i64>> {
            of.iter().map(|one| ends.get(one).copied().ok_or_else(|| unknown(one))).collect()
        };
        if let Some(ahead) = self.ahead.take() {
            let began = monotonic();
            let was_there = ahead.leaders.iter().all(|leader| self.wires.get(leader).is_none_or(Wire::is_answered));
            // Whatever is made of them, the answers are taken: others come behind them.
            let ends = self.receive(&ahead.leaders)?;
            let now = monotonic();
            self.lead = next_lead(self.lead, (!was_there).then(|| now - began), interval);
            if ahead.of == of && now - ahead.at <= FRESH {
                return in_order(&ends);
            }
        }
        self.learn(brokers, of)?;
        for one in of {
            let leader = self.leaders.get(one).ok_or_else(|| unknown(one))?;
            if !self.wires.contains_key(leader) {
                self.wires.insert(leader.clone(), Wire::open(leader, brokers.patience())?);
            }
        }
        let leaders = self.send(of, isolation)?;
        in_order(&self.receive(&leaders)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_asked_sooner_when_an_answer_was_late_and_a_little_later_when_it_was_there() {
        let micros = Duration::from_micros;
        for (what, lead, waited, interval, want) in [
            ("it was there", 1000, None, 100, micros(980)),
            ("but not later than that", 200, None, 100, LEAST),
            ("it was waited for", 1000, Some(500), 100, micros(1650)),
            ("for long, once", 1000, Some(50_000), 100, micros(2000)),
            ("not by more than a quarter of the interval", 1000, Some(50_000), 5, micros(1250)),
            ("also where that is little", 1000, None, 1, micros(250)),
            ("and never by more than a tenth of a second", 90_000, Some(90_000), 60_000, MOST),
        ] {
            assert_eq!(next_lead(micros(lead), waited.map(micros), millis(interval)), want, "{what}");
        }
    }
}
