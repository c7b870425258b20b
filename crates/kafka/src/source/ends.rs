//! Where partitions end, asked each batch over connections that do nothing else: a request to each broker that leads.

use std::collections::BTreeMap;

use millstream_core::{Error, ErrorKind, Result};

use crate::ranges::TopicPartition;
use crate::read::wire::Wire;
use crate::settings::Brokers;
use crate::source::Isolation;

/// Who leads, and a connection to each of them.
#[derive(Default)]
pub(super) struct Ends {
    leaders: BTreeMap<TopicPartition, String>,
    wires: BTreeMap<String, Wire>,
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

    /// Returns where partitions end: behind the last record that may be read. After an error it is to be begun anew.
    pub(super) fn ask(&mut self, brokers: &Brokers, of: &[TopicPartition], isolation: Isolation) -> Result<Vec<i64>> {
        self.learn(brokers, of)?;
        let unknown = |of: &TopicPartition| {
            Error::new(ErrorKind::Unavailable, format!("nobody leads {of} at the brokers {}", brokers.named()))
        };
        let mut asked: BTreeMap<&str, BTreeMap<&str, Vec<i32>>> = BTreeMap::new();
        for one in of {
            let leader = self.leaders.get(one).ok_or_else(|| unknown(one))?;
            asked.entry(leader).or_default().entry(&one.topic).or_default().push(one.partition);
        }
        // All are asked before anybody is waited for.
        for (leader, topics) in &asked {
            if !self.wires.contains_key(*leader) {
                self.wires.insert((*leader).to_owned(), Wire::open(leader, brokers.patience())?);
            }
            if let Some(wire) = self.wires.get_mut(*leader) {
                wire.ask_ends(topics, isolation == Isolation::ReadCommitted)?;
            }
        }
        let mut ends: BTreeMap<TopicPartition, i64> = BTreeMap::new();
        for leader in asked.keys() {
            let Some(wire) = self.wires.get_mut(*leader) else { continue };
            for (topic, partition, error, end) in wire.ends()? {
                let one = TopicPartition { topic, partition };
                if error != 0 {
                    let text = format!("{leader} answers with error {error} where {one} ends");
                    return Err(Error::new(ErrorKind::Unavailable, text));
                }
                ends.insert(one, end);
            }
        }
        of.iter().map(|one| ends.get(one).copied().ok_or_else(|| unknown(one))).collect()
    }
}
