//! A source as the world has them: what came is there, and what a batch is given depends on when it asks.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use millstream_core::threads::lock;
use millstream_core::{Context, Rdd, Result, Time};
use millstream_streaming::{InputSource, Rate};

use crate::model::meaning::Pair;

/// A record: its number, whether it is for the stream beside, and what it says.
pub(crate) type Numbered = (u32, bool, Pair);

/// What stays when the program dies: a log outside of it, as Kafka is one.
#[derive(Clone, Debug)]
pub(crate) struct Feed(Arc<Mutex<Outside>>);

#[derive(Debug)]
struct Outside {
    records: Vec<Numbered>,
    /// How many there are by now.
    arrived: usize,
    /// How many come before each time that somebody asks, in turn.
    coming: Vec<usize>,
    asked: usize,
    committed: BTreeSet<Time>,
    mistakes: Vec<String>,
}

impl Feed {
    pub(crate) fn new(records: Vec<Numbered>, coming: Vec<usize>) -> Feed {
        let (committed, mistakes) = (BTreeSet::new(), Vec::new());
        Feed(Arc::new(Mutex::new(Outside { records, arrived: 0, coming, asked: 0, committed, mistakes })))
    }

    pub(crate) fn source(&self, partitions: usize) -> Source {
        Source { feed: self.clone(), partitions, from: 0 }
    }

    /// An output runs a batch: that must not be over.
    pub(crate) fn runs(&self, batch: Time) {
        let mut outside = lock(&self.0);
        if outside.committed.contains(&batch) {
            outside.mistakes.push(format!("batch {batch} ran after it had been committed"));
        }
    }

    pub(crate) fn mistake(&self, text: String) {
        lock(&self.0).mistakes.push(text);
    }

    pub(crate) fn mistakes(&self) -> Vec<String> {
        lock(&self.0).mistakes.clone()
    }

    pub(crate) fn records(&self) -> Vec<Numbered> {
        lock(&self.0).records.clone()
    }
}

pub(crate) struct Source {
    feed: Feed,
    partitions: usize,
    /// What is given next.
    from: u64,
}

impl InputSource for Source {
    type Item = Numbered;
    /// The batch, in milliseconds; from where, to where.
    type Allocation = (i64, u64, u64);

    fn allocate(&mut self, batch: Time, _: Option<Rate>) -> Result<Self::Allocation> {
        let mut outside = lock(&self.feed.0);
        let more = outside.coming[outside.asked % outside.coming.len()];
        outside.asked += 1;
        outside.arrived = (outside.arrived + more).min(outside.records.len());
        let given = (batch.as_millis(), self.from, outside.arrived as u64);
        self.from = given.2;
        Ok(given)
    }

    fn rdd(&self, given: &Self::Allocation, context: &Context) -> Result<Option<Rdd<Numbered>>> {
        let records = lock(&self.feed.0).records[given.1 as usize..given.2 as usize].to_vec();
        Ok(Some(context.parallelize(records, self.partitions)))
    }

    fn restore(&mut self, given: &[(Time, Self::Allocation)]) -> Result<()> {
        for (batch, one) in given {
            if one.0 != batch.as_millis() {
                self.feed.mistake(format!("batch {batch} comes back with what was given to {}", one.0));
            }
        }
        self.from = given.last().map_or(0, |(_, last)| last.2);
        Ok(())
    }

    fn commit(&mut self, given: &Self::Allocation) -> Result<()> {
        let mut outside = lock(&self.feed.0);
        let batch = Time::from_millis(given.0);
        if outside.committed.last().is_some_and(|last| *last >= batch) {
            outside.mistakes.push(format!("batch {batch} was committed behind a later one, or twice"));
        }
        outside.committed.insert(batch);
        Ok(())
    }
}
