//! The log of a receiver: blocks that are durable before they are acknowledged, and how they are read again.
//!
//! ```text
//! DIR/received/NAME/log-…    a record a block; the log's time of it is the block's number      docs/specs/checkpoint.md
//! ```

use std::marker::PhantomData;
use std::sync::Arc;

use millstream_core::checkpoint::CheckpointStore;
use millstream_core::plan::ship::{PlanReader, PlanWriter};
use millstream_core::{Error, ErrorKind, ExchangeData, Result, SecondCopy, Time, as_millis, codec};

use super::Position;
use super::blocks::ReceivedBlock;
use crate::conf::StreamingConf;
use crate::input::DurableFolder;
use crate::wal::{GroupCommit, LogConf, RecordHandle, SegmentLog, WriteAheadLog, read_record};

/// The version of a record.
const VERSION: u8 = 1;

/// What stands in front of a record's items.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Header {
    items: u64,
    position: Option<Position>,
}

/// Writes a record into an empty buffer.
fn encode<T: ExchangeData>(items: &Vec<T>, position: Option<&Position>, buffer: Vec<u8>) -> Result<Vec<u8>> {
    codec::encode_onto(items, begin(items.len() as u64, position, buffer)?)
}

/// Writes what stands in front of so many items.
fn begin(items: u64, position: Option<&Position>, mut buffer: Vec<u8>) -> Result<Vec<u8>> {
    buffer.push(VERSION);
    codec::encode_onto(&Header { items, position: position.cloned() }, buffer)
}

fn header(record: &[u8]) -> Result<(Header, &[u8])> {
    match record.split_first() {
        Some((&VERSION, rest)) => codec::decode_from(rest),
        Some((version, _)) => {
            let text = format!("a received block has the version {version}, which this build does not know");
            Err(Error::new(ErrorKind::Data, text))
        }
        None => Err(Error::new(ErrorKind::Data, "a received block is empty")),
    }
}

/// A log is ordered by times; those of this one are the numbers of blocks.
fn as_time(sequence: u64) -> Time {
    Time::from_millis(i64::try_from(sequence).unwrap_or(i64::MAX))
}

/// The settings of a log whose times are numbers of blocks: one is made a block interval (K-13).
fn log_conf(conf: &StreamingConf) -> LogConf {
    let blocks = as_millis(conf.receiver_log.rolling_interval) / as_millis(conf.block_interval).max(1);
    let rolling_interval = std::time::Duration::from_millis(u64::try_from(blocks).unwrap_or(1).max(1));
    LogConf { rolling_interval, ..conf.receiver_log.clone() }
}

/// A block that was found in a log, and where the source was behind it.
pub(crate) type Found = (ReceivedBlock, Option<Position>);

/// The log of one receiver.
#[derive(Debug)]
pub(crate) struct ReceiverLog {
    log: GroupCommit,
}

impl ReceiverLog {
    /// Opens the log, and returns with it the blocks that are there from number `from` on.
    pub(crate) fn open(folder: &DurableFolder, conf: &StreamingConf, from: u64) -> Result<(ReceiverLog, Vec<Found>)> {
        let mut log = SegmentLog::open(Arc::clone(folder.disk()), folder.path(), log_conf(conf))?;
        let mut found = Vec::new();
        log.replay(&mut |at, handle, record| {
            let sequence = u64::try_from(at.as_millis()).unwrap_or(0);
            if sequence >= from {
                let (Header { items, position }, _) = header(record)?;
                found.push((ReceivedBlock { sequence, items, handle: Some(handle) }, position));
            }
            Ok(())
        })?;
        Ok((ReceiverLog { log: GroupCommit::new(Box::new(log)) }, found))
    }

    /// Appends a block. It is durable on return.
    pub(crate) fn append<T: ExchangeData>(
        &self,
        sequence: u64,
        items: &Vec<T>,
        position: Option<&Position>,
    ) -> Result<RecordHandle> {
        let record = encode(items, position, self.log.buffer())?;
        self.log.append(record, as_time(sequence))
    }

    /// Appends a block of `items` that an executor has written. It is durable on return.
    pub(crate) fn append_written(
        &self,
        sequence: u64,
        items: u64,
        written: &[u8],
        position: Option<&Position>,
    ) -> Result<RecordHandle> {
        let mut record = begin(items, position, self.log.buffer())?;
        record.extend_from_slice(written);
        self.log.append(record, as_time(sequence))
    }

    /// Forgets blocks with lower numbers, as far as that is cheap.
    pub(crate) fn forget_before(&self, sequence: u64) -> Result<()> {
        self.log.with(|log| log.forget_before(as_time(sequence)))
    }

    /// Ends the log: nothing is appended afterwards.
    pub(crate) fn close(&self) -> Result<()> {
        self.log.with(|log| log.close())
    }
}

/// The blocks of a batch, as they are in the log.
pub(crate) struct Logged<T> {
    /// What people call the receiver.
    name: String,
    folder: String,
    handles: Vec<Option<RecordHandle>>,
    of: PhantomData<fn() -> T>,
}

impl<T> Logged<T> {
    pub(crate) fn new(name: &str, folder: &str, blocks: &[ReceivedBlock]) -> Logged<T> {
        let handles = blocks.iter().map(|block| block.handle).collect();
        Logged { name: name.to_owned(), folder: folder.to_owned(), handles, of: PhantomData }
    }
}

impl<T: ExchangeData> SecondCopy for Logged<T> {
    type Item = T;

    fn read(&self, store: &dyn CheckpointStore, partition: usize) -> Result<Vec<T>> {
        let told = |error: Error| {
            let text = format!("a block that {} received cannot be read again: {}", self.name, error.message());
            Error::new(error.kind(), text)
        };
        let Some(handle) = self.handles.get(partition).copied().flatten() else {
            let text = "it was in memory only, and is lost";
            return Err(told(Error::new(ErrorKind::Data, text)));
        };
        let record = read_record(store, &self.folder, &handle).map_err(told)?;
        let (_, items) = header(&record).map_err(told)?;
        codec::decode_list(items).map_err(told)
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.value(&(&self.name, &self.folder, &self.handles))
    }

    fn unship(r: &mut PlanReader<'_>) -> Result<Logged<T>> {
        let (name, folder, handles) = r.value()?;
        Ok(Logged { name, folder, handles, of: PhantomData })
    }
}

/// Reads a record, and writes it again: what is in front of the items, and the items.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn record_of<T: ExchangeData>(record: &[u8]) -> Result<(Vec<T>, Vec<u8>)> {
    let (header, items) = header(record)?;
    let items = codec::decode_list(items)?;
    let again = encode(&items, header.position.as_ref(), Vec::new())?;
    Ok((items, again))
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_core::secs;

    #[test]
    fn the_bytes_of_a_record_are_these_for_ever() {
        let record = encode(&vec![7u64, 300], Some(&Position::from(b"p".to_vec())), Vec::new()).expect("it is encoded");
        assert_eq!(record, [1, 2, 1, 1, b'p', 2, 7, 0xac, 0x02]);
        let (header, items) = header(&record).expect("it is decoded");
        assert_eq!((header.items, header.position), (2, Some(Position::from(b"p".to_vec()))));
        assert_eq!(codec::decode::<Vec<u64>>(items).expect("it is decoded"), [7, 300]);
    }

    #[test]
    fn what_an_executor_has_written_is_the_same_record() {
        let (items, position) = (vec![7u64, 300], Position::from(9));
        let written = codec::encode(&items).expect("they are encoded");
        let mut record = begin(2, Some(&position), Vec::new()).expect("it is encoded");
        record.extend_from_slice(&written);
        assert_eq!(record, encode(&items, Some(&position), Vec::new()).expect("it is encoded"));
    }

    #[test]
    fn a_record_of_a_newer_build_is_refused() {
        let error = header(&[9, 0, 0]).expect_err("it is refused").to_string();
        assert!(error.contains("version 9"), "{error}");
        assert!(header(&[]).is_err());
    }

    #[test]
    fn k13_an_interval_is_counted_in_blocks() {
        let mut conf = StreamingConf::default();
        assert_eq!(log_conf(&conf).rolling_interval, millstream_core::millis(300));
        conf.block_interval = secs(3600);
        assert_eq!(log_conf(&conf).rolling_interval, millstream_core::millis(1));
    }
}
