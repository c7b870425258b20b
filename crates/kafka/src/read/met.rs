//! What tasks meet as they read: how much, how long they waited for it, and what was gone. It goes to the driver with the task.

use std::time::Duration;

use millstream_core::Accumulate;
use serde::{Deserialize, Serialize};

use crate::ranges::OffsetRange;

/// What tasks met.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Met {
    pub(crate) records: u64,
    /// As they came over the network, packed.
    pub(crate) bytes: u64,
    /// How long tasks waited for brokers, all of them together.
    pub(crate) waited: Duration,
    /// What a batch was given and is gone, or damaged, of a source that goes on.
    pub(crate) lost: Vec<OffsetRange>,
}

impl Accumulate for Met {
    type In = Met;
    type Out = Met;

    fn zero(&self) -> Met {
        Met::default()
    }

    fn is_zero(&self) -> bool {
        *self == Met::default()
    }

    fn add(&mut self, item: Met) {
        self.merge(item);
    }

    fn merge(&mut self, other: Met) {
        self.records += other.records;
        self.bytes += other.bytes;
        self.waited += other.waited;
        // Two jobs that read one range lose it once.
        self.lost.extend(other.lost);
        self.lost
            .sort_by(|a, b| (&a.topic, a.partition, a.from, a.until).cmp(&(&b.topic, b.partition, b.from, b.until)));
        self.lost.dedup();
    }

    fn value(&self) -> Met {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_core::millis;

    #[test]
    fn what_two_jobs_lose_of_one_range_is_lost_once() {
        let (a, b) = (OffsetRange::new("t", 0, 3, 5), OffsetRange::new("t", 1, 0, 9));
        let met = |lost: &[&OffsetRange]| Met {
            records: 1,
            bytes: 2,
            waited: millis(3),
            lost: lost.iter().map(|range| (*range).clone()).collect(),
        };
        let mut all = Met::default();
        assert!(all.is_zero());
        for one in [met(&[&b]), met(&[&a, &b]), met(&[])] {
            all.add(one);
        }
        assert_eq!(all, Met { records: 3, bytes: 6, waited: millis(9), lost: vec![a, b] });
    }
}
