//! Reading exact ranges: readers that are kept from batch to batch, and the split that a task opens.

mod batches;
pub(crate) mod client;
mod fetch;
mod pool;
mod shape;
pub(crate) mod wire;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_core::threads::lock;
use millstream_core::{Error, ErrorKind, InputSplit, Result, SplitReader, TaskContext};
use serde::{Deserialize, Serialize};

use self::client::ClientReader;
use self::fetch::FetchReader;
use self::pool::POOL;
use self::wire::TopicId;
use crate::mistakes::passed;
use crate::ranges::OffsetRange;
use crate::record::Record;
use crate::settings::Brokers;
use crate::source::{Isolation, OnLoss};

/// How many records are given at once, about.
const CHUNK: usize = 512;

/// How a range is read, the same for all of a source.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct How {
    pub(crate) brokers: Brokers,
    pub(crate) isolation: Isolation,
    /// How long a task waits for a record that must come (K-50).
    pub(crate) patience: Duration,
    pub(crate) read_by: ReadBy,
    pub(crate) on_loss: OnLoss,
    /// How many readers are kept for the next batch, over all (K-48).
    pub(crate) kept: usize,
}

/// Who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ReadBy {
    /// Fetches of this crate's own, which are some times faster, where they can; else the client. They speak to brokers
    /// in the clear. Where something else is set (TLS, SASL), or a partition has records in the format of before Kafka
    /// 0.11, the client reads, and that is said once in the log. Only they notice a topic that was made anew and is
    /// longer than the one before.
    Fastest,
    /// The client of librdkafka, whatever is set.
    Client,
}

/// Says why the client must read; nothing if it need not. Said to the log once a process.
pub(crate) fn needs_client(brokers: &Brokers) -> Option<String> {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let why = brokers.beyond_the_clear()?;
    if lock(&SAID).insert(why.clone()) {
        tracing::warn!(brokers = brokers.named(), "topics are read by librdkafka, which is slower: {why}");
    }
    Some(why)
}

/// A range of a partition, as the task that reads it is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RangeSplit {
    pub(crate) how: Arc<How>,
    pub(crate) range: OffsetRange,
    /// What the name of the topic meant when the range was given.
    pub(crate) id: Option<TopicId>,
}

/// Reads ranges of one partition, one after the other.
pub(crate) trait RangeReader: Send {
    /// Goes to the begin of a range; without a word to the broker if the one before ended there.
    ///
    /// # Errors
    ///
    /// The broker cannot be asked.
    fn begin(&mut self, range: &OffsetRange) -> Result<()>;

    /// Appends records of the range, about [`CHUNK`]; or none, and returns `false`, at its end.
    ///
    /// A range ends when no record of it can come any more: a record at or behind its end is there, or what is there
    /// reaches behind it without one, since offsets may have no records.
    ///
    /// # Errors
    ///
    /// The range is not there, or is not given within the patience of the reader.
    fn read(&mut self, out: &mut Vec<Record>) -> Result<bool>;

    /// Returns where it would go on without a word to the broker.
    fn position(&self) -> i64;

    /// Says whether what failed is what only the client can read.
    fn gives_way(&self) -> bool {
        false
    }
}

impl InputSplit for RangeSplit {
    type Item = Record;

    fn open(&self, task: &TaskContext) -> Result<Box<dyn SplitReader<Record>>> {
        if self.range.count() == 0 {
            return Ok(Box::new(Reading::NOTHING));
        }
        // What failed may have left its reader in any state: an attempt that comes again has one of its own.
        let kept = (task.attempt() == 0).then(|| POOL.take(self)).flatten();
        let mut reader: Box<dyn RangeReader> = match kept {
            Some(reader) => reader,
            None if self.how.read_by == ReadBy::Fastest && needs_client(&self.how.brokers).is_none() => {
                Box::new(FetchReader::open(&self.how, &self.range, self.id))
            }
            None => Box::new(ClientReader::open(&self.how, &self.range)?),
        };
        reader.begin(&self.range)?;
        passed("opened");
        Ok(Box::new(Reading { reader: Some((reader, self.clone())) }))
    }
}

/// A range that is being read.
struct Reading {
    reader: Option<(Box<dyn RangeReader>, RangeSplit)>,
}

impl Reading {
    const NOTHING: Reading = Reading { reader: None };
}

impl SplitReader<Record> for Reading {
    fn read(&mut self, out: &mut Vec<Record>) -> Result<bool> {
        let Some((reader, split)) = &mut self.reader else { return Ok(false) };
        match reader.read(out) {
            Ok(true) => Ok(true),
            Ok(false) => {
                passed("range-read");
                if let Some((reader, split)) = self.reader.take() {
                    POOL.give(&split, reader);
                }
                Ok(false)
            }
            Err(error) if reader.gives_way() => {
                tracing::warn!(%error, "the rest of the range is read by librdkafka");
                let rest = OffsetRange { from: reader.position(), ..split.range.clone() };
                *reader = Box::new(ClientReader::open(&split.how, &rest)?);
                reader.begin(&rest)?;
                reader.read(out)
            }
            Err(error) => {
                self.reader = None;
                Err(error)
            }
        }
    }
}

/// Says that a range is not there.
pub(crate) fn out_of_range(range: &OffsetRange, brokers: &Brokers, there: Option<(i64, i64)>) -> Error {
    let there = there.map_or(String::new(), |(low, high)| format!(": there are {low} until {high}"));
    let text = format!(
        "the offsets {} until {} of {}/{} are not at the brokers {}{there}. They were deleted, by age or by size, or \
         the topic \
         was made anew. Keep records for longer; or begin anew behind them",
        range.from,
        range.until,
        range.topic,
        range.partition,
        brokers.named()
    );
    Error::new(ErrorKind::Data, text)
}

/// Says where to go on, if what is to be read next at `position` is gone, and the source goes on with what is there: behind
/// what is gone, or at the end of the range if that is. Nothing, if it is not gone (any more), or if the source is to stop. Pure.
pub(crate) fn behind_what_is_gone(
    on_loss: OnLoss,
    position: i64,
    until: i64,
    there: Option<(i64, i64)>,
) -> Option<i64> {
    let (begin, end) = there.filter(|_| on_loss == OnLoss::GoOn)?;
    match position {
        _ if position < begin => Some(begin.min(until)),
        // There is less than there was: another topic has its name.
        _ if position > end => Some(until),
        _ => None,
    }
}

/// Tells the log that a part of a range is gone, of a source that goes on.
pub(crate) fn tell_lost(range: &OffsetRange, from: i64, until: i64) {
    let lost = OffsetRange { from, until, ..range.clone() };
    tracing::warn!(lost = lost.count(), range = %lost, "records of Kafka are gone that a batch was given; the program goes on");
}

/// Fails if the job of the task that runs on this thread has been cancelled.
pub(crate) fn check_cancelled() -> Result<()> {
    if TaskContext::current().is_some_and(|task| task.is_cancelled()) {
        return Err(Error::new(ErrorKind::Stopped, "the job was cancelled while a range of Kafka was read"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behind_what_is_gone_is_what_is_there_or_the_end_of_the_range() {
        use OnLoss::{GoOn, Stop};
        for (on_loss, position, there, want) in [
            (GoOn, 3, Some((5, 20)), Some(5)),
            (GoOn, 3, Some((15, 20)), Some(10)),
            (GoOn, 3, Some((0, 2)), Some(10)),
            // It is there: who asked was told of a moment that is over.
            (GoOn, 3, Some((0, 20)), None),
            (GoOn, 3, None, None),
            (Stop, 3, Some((5, 20)), None),
        ] {
            assert_eq!(behind_what_is_gone(on_loss, position, 10, there), want, "{on_loss:?} {position} {there:?}");
        }
    }
}
