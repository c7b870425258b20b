//! Reading exact ranges: readers that are kept from batch to batch, and the split that a task opens.

mod batches;
pub(crate) mod client;
mod fetch;
mod met;
mod pool;
mod shape;
mod unpack;
pub(crate) mod wire;
mod wires;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_core::threads::lock;
use millstream_core::{
    Accumulate as _, Accumulator, Error, ErrorKind, InputSplit, Preference, Result, SplitReader, TaskContext, secs,
};
use serde::{Deserialize, Serialize};

use self::client::ClientReader;
use self::fetch::FetchReader;
pub(crate) use self::met::Met;
pub(crate) use self::pool::POOL;
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
    /// How many readers of the source a process keeps for the next batch; as many as it has partitions, and 64 at least, if
    /// nothing is said (K-48).
    pub(crate) kept: Option<usize>,
    /// How many bytes readers of the source may hold in a process, beside the batch that each task reads; and no batch, unpacked
    /// record or window of what packs it may have more.
    pub(crate) memory: u64,
}

/// What is held if nothing is said.
pub(crate) const MEMORY: u64 = 128 << 20;

impl How {
    /// How brokers are read if nothing is said.
    pub(crate) fn of(brokers: impl Into<Brokers>) -> How {
        How {
            brokers: brokers.into(),
            isolation: Isolation::ReadCommitted,
            patience: secs(60),
            read_by: ReadBy::Fastest,
            on_loss: OnLoss::Stop,
            kept: None,
            memory: MEMORY,
        }
    }

    /// Says how many bytes those hold at most that wait for the next batch: the other half is for those that read.
    fn may_wait(&self) -> u64 {
        self.memory / 2
    }

    /// Says how many bytes are asked for at once, for each of so many partitions: all of them may be left when the batch ends.
    fn piece(&self, among: u32) -> u64 {
        (self.may_wait() / u64::from(among.max(1))).clamp(16 << 10, 1 << 20)
    }
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
    /// How many partitions the source has.
    pub(crate) among: u32,
    /// Whom the driver asks what the tasks met.
    pub(crate) met: Option<Accumulator<Met>>,
    /// The host where it would best be read, if it is not all the same. It does not travel: who places the task asks before.
    #[serde(skip)]
    pub(crate) host: Option<String>,
}

/// Reads ranges of one partition, one after the other.
pub(crate) trait RangeReader: Send {
    /// Goes to the begin of a range; without a word to the broker if the one before ended there. It is one of so many that the
    /// source has.
    ///
    /// # Errors
    ///
    /// The broker cannot be asked.
    fn begin(&mut self, range: &OffsetRange, among: u32) -> Result<()>;

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

    /// Waits for a later batch from now on: others may have its connection. Returns how many bytes it holds.
    fn wait(&mut self) -> u64;

    /// Forgets what it has fetched, while it waits. Says whether it can.
    fn let_go(&mut self) -> bool;

    /// Returns what it met since it was last asked; records are counted by who reads them.
    fn met(&mut self) -> Met {
        Met::default()
    }
}

impl InputSplit for RangeSplit {
    type Item = Record;

    fn open(&self, task: &TaskContext) -> Result<Box<dyn SplitReader<Record>>> {
        if self.range.count() == 0 {
            return Ok(Box::new(Reading::NOTHING));
        }
        // What failed may have left its reader in any state: an attempt that comes again has one of its own, and who is
        // kept for the partition is not kept any longer, as it may be that one.
        let kept = if task.attempt() == 0 { POOL.take(self) } else { POOL.forget(self) };
        let mut reader: Box<dyn RangeReader> = match kept {
            Some(reader) => reader,
            None if self.how.read_by == ReadBy::Fastest && needs_client(&self.how.brokers).is_none() => {
                Box::new(FetchReader::open(&self.how, &self.range, self.id))
            }
            None => Box::new(ClientReader::open(&self.how, &self.range, self.among)?),
        };
        reader.begin(&self.range, self.among)?;
        passed("opened");
        Ok(Box::new(Reading { reader: Some((reader, self.clone())), met: Met::default() }))
    }

    /// Where it was read before: there its connection is, and what has been fetched of it. Also without a record, since
    /// the places of others follow from how many there are.
    fn prefers(&self) -> Option<Preference> {
        Some(Preference::same(&(self.range.topic.clone(), self.range.partition)).on(self.host.clone()))
    }
}

/// A range that is being read.
struct Reading {
    reader: Option<(Box<dyn RangeReader>, RangeSplit)>,
    met: Met,
}

impl Reading {
    const NOTHING: Reading =
        Reading { reader: None, met: Met { records: 0, bytes: 0, waited: Duration::ZERO, lost: Vec::new() } };

    /// Tells what was met, and keeps the reader for the next batch.
    fn end(&mut self) {
        let Some((mut reader, split)) = self.reader.take() else { return };
        self.met.merge(reader.met());
        if let Some(told) = &split.met {
            told.add(std::mem::take(&mut self.met));
        }
        POOL.give(&split, reader);
    }
}

impl SplitReader<Record> for Reading {
    fn read(&mut self, out: &mut Vec<Record>) -> Result<bool> {
        let Some((reader, split)) = &mut self.reader else { return Ok(false) };
        let before = out.len();
        let mut read = reader.read(out);
        if let Err(error) = &read
            && reader.gives_way()
        {
            tracing::warn!(%error, "the rest of the range is read by librdkafka");
            let rest = OffsetRange { from: reader.position(), ..split.range.clone() };
            self.met.merge(reader.met());
            let client = ClientReader::open(&split.how, &rest, split.among).and_then(|mut client| {
                client.begin(&rest, split.among)?;
                Ok(client)
            });
            read = client.and_then(|client| {
                *reader = Box::new(client);
                reader.read(out)
            });
        }
        match read {
            Ok(true) => {
                self.met.records += (out.len() - before) as u64;
                Ok(true)
            }
            Ok(false) => {
                passed("range-read");
                self.end();
                Ok(false)
            }
            Err(error) => {
                // What failed may have left it in any state.
                self.reader = None;
                Err(error)
            }
        }
    }
}

impl Drop for Reading {
    /// Whoever took some records and left keeps the reader too.
    fn drop(&mut self) {
        self.end();
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

/// Takes down that a part of a range is gone or damaged, of a source that goes on, and tells the log.
pub(crate) fn lose(met: &mut Met, range: &OffsetRange, from: i64, until: i64, why: &str) {
    let lost = OffsetRange { from, until, ..range.clone() };
    if lost.count() > 0 {
        tracing::warn!(lost = lost.count(), range = %lost, "records of Kafka that a batch was given {why}; the program goes on");
        met.lost.push(lost);
    }
}

/// Says that a part of what is to be read has more bytes than there may be.
pub(crate) fn too_large(what: &str, bytes: u64, most: u64) -> Error {
    let text = format!(
        "{what} has {bytes} bytes, and no more than {most} are allowed: raise fetch_memory, or write smaller ones"
    );
    Error::new(ErrorKind::Config, text)
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
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use millstream_core::{Context, millis};
    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record as Values};
    use tracing::{Event, Metadata, Subscriber};

    use super::*;

    /// Keeps what is logged.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<String>>>);

    struct Line(String);

    impl Visit for Line {
        fn record_debug(&mut self, _: &Field, value: &dyn std::fmt::Debug) {
            self.0.push_str(&format!("{value:?} "));
        }
    }

    impl Subscriber for Log {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Values<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, event: &Event<'_>) {
            let mut line = Line(String::new());
            event.record(&mut line);
            lock(&self.0).push(line.0);
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn that_librdkafka_reads_is_said_once_with_the_setting_and_without_its_value() {
        let log = Log::default();
        tracing::subscriber::with_default(log.clone(), || {
            let brokers = Brokers::at("a:1").set("ssl.key.password", "hush");
            for _ in 0..3 {
                assert!(needs_client(&brokers).is_some());
                assert!(needs_client(&Brokers::at("a:1")).is_none());
            }
        });
        let said = lock(&log.0).clone();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("read by librdkafka") && said[0].contains("`ssl.key.password`"), "{said:?}");
        assert!(!said[0].contains("hush"), "{said:?}");
    }

    /// A reader that was kept: it counts how often it is asked, and fails.
    struct Fails(i64, Arc<AtomicUsize>);

    impl RangeReader for Fails {
        fn begin(&mut self, _: &OffsetRange, _: u32) -> Result<()> {
            Ok(())
        }

        fn read(&mut self, _: &mut Vec<Record>) -> Result<bool> {
            self.1.fetch_add(1, Ordering::Relaxed);
            Err(Error::new(ErrorKind::Unavailable, "one that was kept"))
        }

        fn position(&self) -> i64 {
            self.0
        }

        fn wait(&mut self) -> u64 {
            0
        }

        fn let_go(&mut self) -> bool {
            true
        }
    }

    #[test]
    fn r70_an_attempt_that_comes_again_has_a_reader_of_its_own_and_no_other_of_the_partition_is_kept() {
        for read_by in [ReadBy::Fastest, ReadBy::Client] {
            // Nobody listens there any more: who reads anew is told so.
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
            let brokers = Brokers::at(&*address).answer_within(millis(200));
            let how = Arc::new(How { read_by, patience: millis(200), ..How::of(brokers) });
            let split = |partition| {
                let range = OffsetRange::new("t", partition, 5, 6);
                RangeSplit { how: Arc::clone(&how), range, id: None, among: 2, met: None, host: None }
            };
            let asked = Arc::new(AtomicUsize::new(0));
            for (partition, position) in [(0, 5), (0, 7), (1, 5)] {
                POOL.give(&split(partition), Box::new(Fails(position, Arc::clone(&asked))));
            }
            let context = Context::new("local[1,2]", "again").unwrap();
            let error = context.read_splits(vec![split(0)]).collect().unwrap_err();
            assert_eq!((error.kind(), asked.load(Ordering::Relaxed)), (ErrorKind::Unavailable, 1), "{error}");
            assert!(error.to_string().contains(&address), "the second attempt has asked the broker: {error}");
            assert!(POOL.take(&split(0)).is_none(), "one that may have failed is not kept");
            assert!(POOL.take(&split(1)).is_some(), "that of another partition is");
        }
    }

    #[test]
    fn of_many_partitions_less_is_fetched_at_once_so_that_what_is_left_of_all_has_room() {
        let how = How::of("a:1");
        for (among, want) in
            [(0, 1 << 20), (1, 1 << 20), (64, 1 << 20), (100, 671_088), (1000, 67_108), (9999, 16 << 10)]
        {
            assert_eq!(how.piece(among), want, "{among}");
        }
    }

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
